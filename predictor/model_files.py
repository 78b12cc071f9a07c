"""The folder of a model: its card, digests of its files, and how it is put in place."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.censoring import CENSORED
from plancast.predictor.schema import COLUMNS, extra_columns

FORMAT = 7
"""Version of the model folder; a folder of another one is refused."""

CARD_FILE = "card.json"


class BadModel(ValueError):
    """A model folder that cannot be used; the text names the folder, the file and the repair."""


def weaknesses(jobs: pd.DataFrame, usable: NDArray[np.bool_], grace_s: float) -> list[str]:
    """What a reader of the card should know before trusting the model, one sentence each."""
    said = []
    users = set(jobs["user"]) - {""}
    if not users:
        said.append("The log names no users: jobs are distinguished by queue, size and time alone.")
    if not (jobs["requested_s"] > 0).any():
        said.append("No requested times are known: no kill limit caps a quantile.")
    elif not math.isfinite(grace_s):
        said.append("Jobs of this log run past their requested time, which caps nothing.")
    if jobs["start_s"][usable].isna().any():
        said.append("Some starts are unknown: their jobs count as started when submitted.")
    cut = np.isin(jobs["outcome"].to_numpy()[usable].astype(str), CENSORED).mean()
    if cut > 0.01:
        said.append(
            f"{cut:.0%} of the runs were cut short (timeout, cancelled) and count as "
            "they ran: the model forecasts how long a job holds its machine, not what it needs."
        )
    said.append("A burst submitted at once shares one error: coverage holds over days, not within.")
    return said


def data_digest(jobs: pd.DataFrame) -> str:
    """SHA-256 of a canonical frame's columns, names and values, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name in (*COLUMNS, *extra_columns(jobs)):
        digest.update(f"\n{name}\n".encode())
        values = jobs[name]
        if values.dtype == np.float64:
            digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
        else:
            digest.update("\x1f".join(values.tolist()).encode())
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """Attributes of a log (its terms, whom to acknowledge) as JSON values."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def versions() -> dict[str, str]:
    """Of Python and of the packages that a model depends on."""
    result = {"python": platform.python_version()}
    for package in ("plancast", "numpy", "pandas", "lightgbm"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "not installed"
    return result


def read_card(source: Path) -> dict[str, Any]:
    """The card of a model folder, checked."""
    path = source / CARD_FILE
    if not source.is_dir():
        raise BadModel(f"{source} is no folder; name the folder that a model was saved to")
    if not path.is_file():
        raise BadModel(f"{source}: card.json is missing; train the model again")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
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


def digest_of_card(card: Mapping[str, Any]) -> str:
    """SHA-256 of a card's values, its own digest left out."""
    found = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_empty(path: Path) -> bool:
    """Whether a path is a folder that holds nothing."""
    return path.is_dir() and not any(path.iterdir())


def put_in_place(fresh: Path, target: Path) -> None:
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


def card_html(card: Mapping[str, Any]) -> str:
    """What a model learned from, for a notebook."""
    if not card:
        return "<div><b>Run-time model</b><div>has learned nothing yet; call fit</div></div>"
    counts, data = card["counts"], card["data"]
    levels = ", ".join(f"{100 * level:g}%" for level in card["levels"])
    lines = [
        f"learned from {counts['trained']:,} of {data['rows']:,} jobs, calibrated on "
        f"{counts['calibrated']:,}; quantiles at {levels}",
        *card["known_weaknesses"],
    ]
    if found := card["metrics_before_correction"]:
        lines.append(
            f"on the last stretch of the log, before it was calibrated there: half of the medians "
            f"within a factor of {2 ** found['median_abs_log2']:.2f}, "
            f"{found['within_2x']:.0%} within 2"
        )
    said = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return f"<div><b>Run-time model</b>{said}</div>"
