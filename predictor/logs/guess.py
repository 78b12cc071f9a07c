"""A column map for a table that comes without one: guessed from names and cells.

A name is taken apart into words (``SubmitTime``, ``wall time (min)``), its last word may be a
unit, and what is left is looked up among the words of other tools. A column whose cells cannot be
what its name says is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from textwrap import shorten
from typing import Any

import pandas as pd

from plancast.predictor import units as unit_texts
from plancast.predictor.logs.column_map import (
    FOREIGN,
    MOST_LETTERS,
    QUANTITY,
    TIME_COLUMNS,
    ColumnMap,
    listed,
    nearest,
    wanted,
)
from plancast.predictor.logs.source import epoch_seconds
from plancast.predictor.schema import COLUMNS, OUTCOMES, BadLog

SAMPLE = 200
"""Cells of a column that are looked at."""
FITS = 0.8
"""Share of them that must be readable as what the name says."""
_SURE = 80
"""From this score on a name says what a column holds, though its cells may not be so."""
_LONG_S, _CONFIRMING = 10.0, 3
"""So many jobs of at least so many seconds tell the unit of run times."""
_MOST_UNREADABLE = 3
"""So many of them are named."""
MOST_OUTCOMES = 50

_WORDS_OF_UNIT = {
    "time": {
        "ns": "ns", "us": "us", "ms": "ms", "msec": "ms", "millis": "ms", "milliseconds": "ms",
        "s": "s", "sec": "s", "secs": "s", "seconds": "s", "m": "min", "min": "min",
        "mins": "min", "minutes": "min", "h": "h", "hr": "h", "hrs": "h", "hours": "h",
        "d": "d", "days": "d",
    },
    "memory": {
        "b": "bytes", "bytes": "bytes", "kb": "KiB", "kib": "KiB", "mb": "MiB", "mib": "MiB",
        "gb": "GiB", "gib": "GiB", "tb": "TiB", "tib": "TiB",
    },
    "count": {"milli": "milli", "millicores": "milli", "percent": "percent"},
}  # fmt: skip
_EPOCH_UNITS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
"""A moment beyond this, in seconds, would lie thousands of years ahead: it has another unit."""

_ENDINGS = {
    "completed": ("complet", "succe", "ok", "done", "finish", "pass"),
    "failed": ("fail", "err", "crash", "oom", "out_of_memory", "node_fail", "boot_fail"),
    "cancelled": ("cancel", "abort", "kill", "remov", "delet", "stop", "revoked"),
    "timeout": ("timeout", "time_out", "timed", "tmo", "deadline", "walltime"),
}
"""Beginnings of the words for each outcome."""
_VAGUE = {"id", "job", "name", "time", "run", "owner", "status", "state", "limit", "pool", "cpu"}
"""Words that say too little where a name has others beside them."""


def guessed_map(
    cells: Mapping[str, Iterable[Any]], name: str, given: Mapping[str, str] | None = None
) -> ColumnMap:
    """The map that names and cells of a table suggest.

    Parameters
    ----------
    cells : mapping of str to iterable
        Every column's cells.
    name : str
        Of the table, to begin a complaint with.
    given : mapping of str to str, optional
        Canonical columns whose source column is known.

    Raises
    ------
    BadLog
        Where no column tells how long jobs ran: one sentence that says what to write; or where
        what is given names a column that is not there.
    """
    columns = _columns_beside(cells, name, dict(given or {}))
    if "run_s" not in columns and not {"start_s", "end_s"} <= columns.keys():
        why = _in_words(_unreadable(cells, columns))
        raise BadLog(
            f"{name}: none of its columns ({listed(cells)}) is recognised as the run time, or "
            f"start and end{why}; write a column map, a file with a line 'columns:' and below it "
            "lines such as '  submit_s: COLUMN' and '  run_s: COLUMN', and name it by --columns"
        )
    if "submit_s" not in columns and "start_s" in columns:
        columns["submit_s"] = columns["start_s"]
    own = {source for source in cells if str(source).startswith(("num_", "cat_"))}
    moments = columns.keys() & set(TIME_COLUMNS)
    return ColumnMap(
        columns=columns if "submit_s" in columns or not moments else _without_moments(columns),
        units=_units(columns, cells),
        numeric={n.removeprefix("num_"): n for n in own if n.startswith("num_")},
        categorical={n.removeprefix("cat_"): n for n in own if n.startswith("cat_")},
        outcomes=_outcomes(columns, cells),
        submission=None if "submit_s" in columns else "in_turn",
    )


def _columns_beside(
    cells: Mapping[str, Iterable[Any]], name: str, given: dict[str, str]
) -> dict[str, str]:
    """The columns that are given, and guesses at the others."""
    for target, source in given.items():
        if target not in COLUMNS:
            raise BadLog(f"columns: {target} is no canonical column{nearest(target, [*COLUMNS])}")
        if source not in cells:
            raise BadLog(
                f"columns: {target}: {name} has no column {source!r}{nearest(source, [*cells])}"
            )
    others = {source: found for source, found in cells.items() if source not in given.values()}
    known = _columns(others) | given
    return {target: known[target] for target in COLUMNS if target in known}


def sentence(mapping: ColumnMap, cells: Mapping[str, Iterable[Any]]) -> str:
    """What was guessed, for people."""
    taken = [
        f"{target} from {listed([source])}"
        + (f" in {mapping.units[target]}" if target in mapping.units else "")
        for target, source in mapping.columns.items()
        if target != source
    ]
    text = f"columns guessed: {', '.join(taken) or 'by their names'}"
    submitted, started = (mapping.columns.get(name) for name in ("submit_s", "start_s"))
    if submitted is not None and submitted == started:
        text += "; no column tells submissions, so starts stand for them"
    if mapping.submission == "in_turn":
        text += "; no column tells when jobs came, so rows count as run one after the other"
    read = {source for _, source in mapping.keys_by_source()}
    unread = [name for name in cells if name not in read]
    if unread:
        text += f"; not read: {listed(unread)}"
    text += _in_words(_unreadable(cells, mapping.columns))
    return text + "; if that is wrong write a column map (--columns)"


def _unreadable(
    cells: Mapping[str, Iterable[Any]], columns: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Columns whose names say what is missing: what that is, and a cell that is none."""
    found: dict[str, tuple[str, str]] = {}
    for source in cells:
        for score, target in _targets(str(source)):
            if score < _SURE or target not in QUANTITY or target in columns:
                continue
            sample = [str(cell) for cell in _sample(cells[source])]
            wrong = [text for text in sample if not _fits(target, [text])]
            if len(wrong) > (1 - FITS) * len(sample):
                found[str(source)] = (target, wrong[0])
    return found


def _in_words(unreadable: Mapping[str, tuple[str, str]]) -> str:
    """For people, from a semicolon on; nothing where there is none."""
    return "".join(
        f"; column {listed([source])} cannot be read as {target}: {shorten(text, MOST_LETTERS)!r} "
        f"is not {wanted(target)}"
        for source, (target, text) in list(unreadable.items())[:_MOST_UNREADABLE]
    )


def _without_moments(columns: dict[str, str]) -> dict[str, str]:
    """Ends without submissions tell no queue: run times in turn are all that is left."""
    return {target: source for target, source in columns.items() if target not in TIME_COLUMNS}


def _columns(cells: Mapping[str, Iterable[Any]]) -> dict[str, str]:
    """Canonical column to the source column that suits it best."""
    found = [
        (score, -place, target, str(source))
        for place, source in enumerate(cells)
        for score, target in _targets(str(source))
        if _fits(target, cells[source])
    ]
    columns: dict[str, str] = {}
    for _, _, target, source in sorted(found, reverse=True):
        if target not in columns and source not in columns.values():
            columns[target] = source
    return {target: columns[target] for target in COLUMNS if target in columns}


def _targets(name: str) -> list[tuple[int, str]]:
    """Canonical columns that a name may mean, with how surely."""
    if name in COLUMNS:
        return [(100, name)]
    words = _words(name)
    whole = "_".join(words)
    if whole in COLUMNS:
        return [(95, whole)]
    if target := FOREIGN.get(whole) or FOREIGN.get("".join(words)):
        return [(90, target)]
    if len(words) > 1 and any(words[-1] in units for units in _WORDS_OF_UNIT.values()):
        stem = words[:-1]
        target = FOREIGN.get("_".join(stem)) or FOREIGN.get("".join(stem))
        if target and words[-1] in _WORDS_OF_UNIT.get(QUANTITY.get(target, ""), ()):
            return [(80, target)]
    near = [FOREIGN[w] for w in words if w in FOREIGN and w not in _VAGUE]
    pairs = ["_".join(words[k : k + 2]) for k in range(len(words) - 1)]
    near = [FOREIGN[p] for p in pairs if p in FOREIGN] + near
    return [(40 - k, target) for k, target in enumerate(dict.fromkeys(near))]


def _words(name: str) -> list[str]:
    """``JobSubmitTime (ms)`` as job, submit, time, ms."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", parted.lower()) if word]


def _sample(cells: Iterable[Any]) -> list[Any]:
    known = (cell for cell in cells if cell is not None and cell == cell and str(cell).strip())
    return list(islice(known, SAMPLE))


def _fits(target: str, cells: Iterable[Any]) -> bool:
    """Whether cells can be read as a canonical column."""
    if target not in QUANTITY:
        return True
    sample = _sample(cells)
    texts = [cell for cell in sample if isinstance(cell, str)]
    if not texts:
        return bool(sample)
    if target in TIME_COLUMNS:
        series = pd.Series(texts, dtype=object)
        numbers = pd.to_numeric(series, errors="coerce")
        rest = series[numbers.isna()]
        read = len(texts) - len(rest)
        if len(rest):
            read += int((~pd.isna(epoch_seconds(rest, "UTC"))).sum())
    else:
        read = sum(_readable(QUANTITY[target], text) for text in texts)
    return read >= FITS * len(texts)


def _readable(quantity: str, text: str) -> bool:
    try:
        unit_texts.PARSERS[quantity](text)
    except ValueError:
        return False
    return True


def _units(columns: dict[str, str], cells: Mapping[str, Iterable[Any]]) -> dict[str, str]:
    """Units that names say, and those that moments must have."""
    units: dict[str, str] = {}
    for target, source in columns.items():
        quantity = QUANTITY.get(target)
        if quantity is None or target == source:
            continue
        if target in TIME_COLUMNS:
            numbers = pd.to_numeric(pd.Series(_sample(cells[source]), dtype=object), "coerce")
            if (unit := unit_of_moments(numbers)) is not None:
                units[target] = unit
            continue
        words = _words(source)
        unit = _WORDS_OF_UNIT[quantity].get(words[-1]) if len(words) > 1 else None
        if unit is not None and unit not in ("s", "MiB"):
            units[target] = unit
    if columns.get("run_s", "run_s") != "run_s" and (unit := _unit_of_runs(columns, cells, units)):
        units["run_s"] = unit
    return units


def _unit_of_runs(
    columns: Mapping[str, str], cells: Mapping[str, Iterable[Any]], units: Mapping[str, str]
) -> str | None:
    """The unit of run times without one that starts and ends tell; None for seconds or no answer.

    A frame's spans of time are milliseconds in its JSON, and no name says so.
    """
    words = _words(columns.get("run_s", ""))
    named = len(words) > 1 and words[-1] in _WORDS_OF_UNIT["time"]
    if named or not {"run_s", "start_s", "end_s"} <= columns.keys():
        return None

    def sample(target: str) -> pd.Series:
        return pd.Series(
            [str(cell) for cell in islice(cells[columns[target]], SAMPLE)], dtype=object
        )

    start, end = (
        epoch_seconds(sample(target), "UTC") * unit_texts.SECONDS[units.get(target, "s")]
        for target in ("start_s", "end_s")
    )
    run = pd.to_numeric(sample("run_s"), errors="coerce").to_numpy(dtype="float64")
    known = (end - start >= _LONG_S) & (run > 0)
    if known.sum() < _CONFIRMING:
        return None
    run, span = run[known], (end - start)[known]
    fits = {
        unit: float((abs(run * factor - span) <= 1 + 0.05 * span).mean())
        for unit, factor in unit_texts.SECONDS.items()
    }
    best = max(fits, key=lambda unit: fits[unit])
    return best if best != "s" and fits[best] >= FITS and fits["s"] < 1 - FITS else None


def unit_of_moments(numbers: pd.Series) -> str | None:
    """The unit of moments that cannot be seconds since the epoch, None where they can."""
    if not numbers.notna().any():
        return None
    middle = float(numbers.abs().median())
    return next((unit for least, unit in _EPOCH_UNITS if middle > least), None)


def _outcomes(columns: dict[str, str], cells: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    """What each text of the outcome's column means."""
    if "outcome" not in columns:
        return {}
    source = columns["outcome"]
    texts = {str(cell) for cell in set(cells[source]) if cell is not None and cell == cell}
    if len(texts) > MOST_OUTCOMES:
        return {}
    exits = "exit" in _words(source)
    found = {}
    for text in sorted(texts):
        word = "_".join(_words(text))
        if text in OUTCOMES:
            found[text] = text
        elif exits and re.fullmatch(r"-?\d+(\.0)?", text):
            found[text] = "completed" if float(text) == 0 else "failed"
        else:
            means = [o for o, begin in _ENDINGS.items() if word.startswith(begin)]
            if means:
                found[text] = means[0]
    return found
