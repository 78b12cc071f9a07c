"""JSON with an object for each job as the cells of a table: in lines, one after another, in a list.

What ``DataFrame.to_json(orient="records", lines=True)`` and ``jq -c '.jobs[]'`` write. Fields of an
object within a job become columns with a dot (``time.start``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from plancast.json_text import json_value
from plancast.predictor.logs.rows import Rows
from plancast.predictor.schema import BadLog

MOST_FIELDS = 1_000
"""Columns of a table: who writes names of jobs as fields has more."""
DEEPEST = 8
"""Objects within each other, of which the fields become columns."""
_HEAD_LETTERS, _FIRST_LINES = 65_536, 3
_BEGINS = re.compile(r"\s*(\{\s*[\"}]|\[\s*[\[{\]])")
_FIRST_JOB = re.compile(r'\[?\s*\{\s*"(account|job_id|array)"\s*:')
"""How Slurm's jobs begin that stand by themselves, each over several lines."""
_SPACE = re.compile(r"[\s,]*")
_LINES = re.compile(r"[\r\n]")


def reader_of(text: str) -> str:
    """Which reader reads JSON that begins so: ``sacct``, ``wfformat``, ``table``; "" for no JSON.

    Jobs of Slurm by themselves are what ``jq`` makes of its list.
    """
    first = first_object(text)
    if first is None and not _BEGINS.match(text):
        return ""
    if first is not None:
        # A table may have columns of these names, which hold no objects.
        if isinstance(first.get("jobs"), list) or _is_slurm_s(first):
            return "sacct"
        return "wfformat" if isinstance(first.get("workflow"), dict) else "table"
    if _FIRST_JOB.match(text):
        return "sacct" if '"job_state"' in text or '"association"' in text else "table"
    if not text.lstrip().startswith("{"):
        return "table"
    if '"schemaVersion"' in text or '"workflow"' in text:
        return "wfformat"  # old ones have jobs too
    return "sacct" if '"jobs"' in text else "table"


def is_by_itself(text: str) -> bool:
    """Whether jobs of Slurm stand for themselves, outside a document that lists them."""
    first = first_object(text)
    return "jobs" not in first if first is not None else _FIRST_JOB.match(text) is not None


def _is_slurm_s(item: dict[str, Any]) -> bool:
    return "job_id" in item and ("job_state" in item or isinstance(item.get("time"), dict))


def first_object(text: str) -> dict[str, Any] | None:
    """The first object that is a line as a whole, None where the first lines are none."""
    lines = [line for line in _LINES.split(text[:_HEAD_LETTERS].lstrip("\ufeff")) if line.strip()]
    for line in lines[:_FIRST_LINES]:
        if line.startswith("{"):
            try:
                found = json_value(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
    return None


def objects(text: str, rows: Rows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with its number from 1: of its line where each has one, else in turn.

    Parameters
    ----------
    text : str
    rows : Rows
        Hears of lines that are no JSON, and of what is no object.

    Raises
    ------
    BadLog
        Where objects of several lines are no JSON: nobody can tell where the next one begins.
    """
    whole = first_object(text) is not None
    for number, value in _lines(text, rows) if whole else _in_turn(text, rows.name):
        if isinstance(value, dict):
            yield number, value
        else:
            shown = json.dumps(value)[:40]
            fault = f"row {number}: {shown} is not an object with a field for each column"
            rows.drop("not an object", [f"row {number}"], fault)


def _lines(text: str, rows: Rows) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_LINES.split(text.replace("\r\n", "\n")), start=1):
        if line.strip():
            try:
                value = json_value(line)
            except json.JSONDecodeError as error:
                rows.drop("not JSON", [f"row {number}"], f"row {number}: no JSON ({error.msg})")
            except ValueError as error:
                rows.drop("not JSON", [f"row {number}"], f"row {number}: no JSON: {error}")
            else:
                yield number, value


def _in_turn(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """Objects of several lines, or those of a list."""
    if text.lstrip().startswith("["):
        yield from enumerate(_sound(text, 1, name), start=1)
        return
    decoder, number, at = json.JSONDecoder(), 0, _after_space(text, 0)
    while at < len(text):
        line = text.count("\n", 0, at) + 1 if number < 1 else 0
        try:
            _, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            _sound(text[at:], text.count("\n", 0, at) + 1, name)
            raise
        number += 1
        yield number, _sound(text[at:end], line, name)
        at = _after_space(text, end)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _sound(text: str, line: int, name: str) -> Any:
    """The value of a text that begins in a line of its file; a BadLog where it is no JSON."""
    try:
        return json_value(text)
    except json.JSONDecodeError as error:
        at = line + error.lineno - 1
        raise BadLog(f"{name}, line {at}: this is not JSON ({error.msg}); correct it") from None
    except ValueError as error:
        raise BadLog(f"{name}: this is not JSON: {error}") from None


def table(text: str, rows: Rows) -> tuple[pa.Table, np.ndarray]:
    """The cells as texts, and the number of each row.

    Parameters
    ----------
    text : str
    rows : Rows
        Account of bad rows.

    Raises
    ------
    BadLog
        Where it is no JSON, holds a single object of columns, or too many fields.
    """
    cells: list[dict[str, str | None]] = []
    numbers: list[int] = []
    names: dict[str, None] = {}
    for number, item in objects(text, rows):
        if not cells and item and all(isinstance(v, dict | list) for v in item.values()):
            raise BadLog(
                f"{rows.name} is JSON without an object for each job; write one a line, as "
                "to_json(orient='records', lines=True) of a frame does, or CSV or Parquet"
            )
        try:
            row = dict(_fields(item))
        except RecursionError:
            rows.drop("nested too deeply", [f"row {number}"])
            continue
        names.update(dict.fromkeys(row))
        if len(names) > MOST_FIELDS:
            raise BadLog(
                f"{rows.name}, row {number}: more than {MOST_FIELDS:,} fields; give jobs with the "
                "same fields each"
            )
        cells.append(row)
        numbers.append(number)
    columns = {n: pa.array([row.get(n) for row in cells], pa.string()) for n in names}
    return pa.table(columns), np.array(numbers, dtype=np.int64)


def _fields(item: dict[str, Any], before: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    for name, value in item.items():
        if isinstance(value, dict) and value and depth < DEEPEST:
            yield from _fields(value, f"{before}{name}.", depth + 1)
        else:
            yield before + name, _cell(value)


def _cell(value: Any) -> str | None:
    """A value as it would stand in CSV."""
    if value is None or value != value:
        return None
    if isinstance(value, dict | list | bool):
        return json.dumps(value) if value not in ({}, []) else None
    return str(value)
