"""A project folder: parameters and a column map for somebody's own log."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from plancast.pipelines.inputs.config import PARAMS, name_of_log
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.stages.ingest import ingest_log
from plancast.planner.model.domain import BadRequest

MAP = "columns.yaml"
IGNORED = "# What the pipeline makes again\ndata/\nmodels/\n"


@dataclass(frozen=True)
class Project:
    """What was made.

    Parameters
    ----------
    folder : Path
    written : tuple of Path
    facts : dict
        Of the log, as ``ingest_log`` gives them.
    """

    folder: Path
    written: tuple[Path, ...]
    facts: dict[str, Any]


def make_project(log: Path, folder: Path | None, reading: Reading) -> Project:
    """Read a log as a pipeline would, and write what says how.

    Parameters
    ----------
    log : Path
    folder : Path, optional
        Named after the log without one.
    reading : Reading
        What is known of the log already.

    Raises
    ------
    BadRequest, BadLog
        Where the log cannot be read, or the folder holds parameters already.
    """
    name = name_of_log(str(log))
    home = Path(name) if folder is None else folder
    if (home / PARAMS).exists():
        raise BadRequest(f"{home / PARAMS}: is there already; name another folder, or remove it")
    _, facts = ingest_log(str(log), reading)
    written = []
    values: dict[str, Any] = {
        "name": name,
        "log": os.path.relpath(log, home),
        "log_dep": os.path.relpath(log, home),
        "format": facts["format"],
        "timezone": reading.timezone,
    }
    if reading.columns is not None:
        there = Path(reading.columns).exists()
        values["columns"] = os.path.relpath(reading.columns, home) if there else reading.columns
    elif text := _map_text(log):
        write_text_atomic(home / MAP, text)
        written.append(home / MAP)
        values["columns"] = MAP
    write_text_atomic(home / PARAMS, params_text(values))
    write_text_atomic(home / ".gitignore", IGNORED)
    return Project(home, (home / PARAMS, *written), facts)


def params_text(values: Mapping[str, Any]) -> str:
    """The parameters with their comments, some of them changed."""
    text = (files("plancast.pipelines.inputs") / PARAMS).read_text("utf-8")
    lines = text.splitlines()
    for k, line in enumerate(lines):
        found = re.fullmatch(r"(\w+): (\S+)( *)(#.*)?", line)
        if found and found[1] in values:
            value = json.dumps(values[found[1]], ensure_ascii=False)  # JSON is YAML, too
            value = value.strip('"') if re.fullmatch(r'"[\w./-]+"', value) else value
            lines[k] = f"{found[1]}: {value}".ljust(24) + f" {found[4] or ''}"
            lines[k] = lines[k].rstrip()
    return "\n".join(lines) + "\n"


def _map_text(log: Path) -> str | None:
    """The map that a table is read with where it has none; None for what needs none."""
    from plancast.predictor.logs.table import map_of_table

    found = map_of_table(log)
    if found is None:
        return None
    mapping, unread = found
    content = mapping.model_dump(exclude_defaults=True)
    head = [
        f"# How the columns of {log.name} become those of a job log, as guessed: correct what is",
        "# wrong. Left: ours, in seconds and MiB; right: the table's.",
    ]
    if unread:
        head.append(
            f"# Not read: {', '.join(unread)}. What is known at submission may be a feature:"
        )
        head.append("# numeric: {NAME: COLUMN} and categorical: {NAME: COLUMN}.")
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return "\n".join(head) + "\n" + text
