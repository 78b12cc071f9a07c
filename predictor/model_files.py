"""The folder of a model: its files with their digests, and how it is put in place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.json_text import json_value
from plancast.predictor.schema import COLUMNS, extra_columns
from plancast.predictor.texts import FREE_TEXTS

FORMAT = 7
"""Version of the model folder; a folder of another one is refused."""

CARD_FILE = "card.json"


class BadModel(ValueError):
    """A model folder that cannot be used; the text names the folder, the file and the repair."""


def data_digest(jobs: pd.DataFrame) -> str:
    """SHA-256 of a canonical frame's columns, names and values, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name in (*COLUMNS, *extra_columns(jobs)):
        # A log without free texts is the log that it was before there were such columns.
        if name in FREE_TEXTS and not (jobs[name] != "").any():
            continue
        digest.update(f"\n{name}\n".encode())
        values = jobs[name]
        if values.dtype == np.float64:
            digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
        else:
            digest.update("\x1f".join(values.tolist()).encode())
    return digest.hexdigest()


def read_card(source: Path) -> dict[str, Any]:
    """The card of a model folder, checked."""
    path = source / CARD_FILE
    if not source.is_dir():
        raise BadModel(f"{source} is no folder; name the folder that a model was saved to")
    if not path.is_file():
        raise BadModel(f"{source}: card.json is missing; train the model again")
    try:
        card = json_value(path.read_bytes())
    except ValueError as error:
        raise BadModel(f"{source}: card.json is no JSON: {error}; train again") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise BadModel(
            f"{source}: card.json is not of format {FORMAT}; train again with this version"
        )
    if not isinstance(card.get("files"), dict):
        raise BadModel(f"{source}: card.json lists no files; train the model again")
    if card.get("card_sha256") != digest_of_card(card):
        raise BadModel(f"{source}: card.json was changed after training; train the model again")
    return card


def checked_card(source: Path) -> dict[str, Any]:
    """The card of a model folder whose files are those that it describes."""
    card = read_card(source)
    for name, digest in card["files"].items():
        if not (source / name).is_file():
            raise BadModel(f"{source}: {name} is missing; train the model again")
        if sha256_of(source / name) != digest:
            raise BadModel(
                f"{source}: {name} is not the file that card.json describes; train the model again"
            )
    return card


def digest_of_card(card: Mapping[str, Any]) -> str:
    """SHA-256 of a card's values, its own digest left out."""
    found = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_folder(
    target: Path,
    card: Mapping[str, Any],
    save_trees: Callable[[Path], list[str]],
    frames: Mapping[str, pd.DataFrame],
) -> Path:
    """Write a model folder, whole or not at all; an older model there is replaced.

    Parameters
    ----------
    target : Path
    card : mapping
        Without digests.
    save_trees : callable
        Writes files into a folder and returns their names.
    frames : mapping of str to DataFrame
        By the name of the Parquet file.

    Raises
    ------
    BadModel
        Where the folder holds something else than a model.
    """
    if target.exists() and not (target / CARD_FILE).is_file() and not _is_empty(target):
        raise BadModel(f"{target} exists and is no model folder; name another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        files = [*save_trees(fresh), *frames]
        for name, frame in frames.items():
            frame.to_parquet(fresh / name, index=False, compression="zstd")
        written = {**card, "files": {name: sha256_of(fresh / name) for name in files}}
        written["card_sha256"] = digest_of_card(written)
        text = json.dumps(written, indent=1, allow_nan=False)
        (fresh / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        fresh.chmod(0o755)
        _put_in_place(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _is_empty(path: Path) -> bool:
    """Whether a path is a folder that holds nothing."""
    return path.is_dir() and not any(path.iterdir())


def _put_in_place(fresh: Path, target: Path) -> None:
    """Rename `fresh` to `target`; an older folder there steps aside first."""
    if not target.exists():
        os.rename(fresh, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.rename(target, aside / "model")
    try:
        os.rename(fresh, target)
    except OSError:
        os.rename(aside / "model", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
