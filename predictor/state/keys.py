"""Whose history a job is part of: the columns that make keys, and a number for each key.

A job's keys are found one row at a time, for online use, and for whole columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.state.names import name_of

JobKey = tuple[str, float, str]
"""``job_id``, ``submit_s`` and ``user``: what makes two rows one job."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROW: tuple[str, ...] = (
    "job_id",
    "submit_s",
    "end_s",
    "run_s",
    "requested_s",
    "cpus",
    "user",
    "group",
    "app",
    "queue",
    "outcome",
    "gpus",
    "mem_mib",
    "partition",
)
"""The columns of a job that a history keeps."""

KINDS: dict[str, tuple[str, ...]] = {
    "user": ("user",),
    "user_app": ("user", "app"),
    "user_requested": ("user", "requested_s"),
    "user_cpus": ("user", "cpus"),
    "user_requested_cpus": ("user", "requested_s", "cpus"),
    "group": ("group",),
    "app": ("app",),
    "queue": ("queue",),
    "user_like": ("user", "name", "queue", "partition", "requested_s", "cpus", "gpus", "mem_mib"),
    "like": ("name", "queue", "partition", "requested_s", "cpus", "gpus", "mem_mib"),
    "all": (),
}
"""Whose history: name to the columns that make the key; ``name`` is ``name_of`` the application.
A key with an unknown part has none, but for the kinds in ``LIKE``."""

LIKE: dict[str, tuple[str, ...]] = {"user_like": ("user",), "like": ()}
"""The kinds that compare whole submissions, "unknown" being a value like any other; and the
columns that must be known all the same."""

SPARE: tuple[str, ...] = ("gpus", "mem_mib")
"""Of these a submission of 0 and one that names none are alike: a log that a master wrote says
0 where the task file had no such column."""

_PARTS = (*ROW, "name")
_PLACES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = tuple(
    (tuple(map(_PARTS.index, LIKE.get(kind, parts))), tuple(map(_PARTS.index, parts)))
    for kind, parts in KINDS.items()
)
"""Of each kind the places in ``_PARTS`` of those that must be known and of those of its key."""
_APP_PLACE = ROW.index("app")

_SPARE_PLACES = tuple(map(ROW.index, SPARE))

TEXTS: tuple[str, ...] = ("job_id", "user", "group", "app", "queue", "outcome", "partition")
"""The columns of ``ROW`` that hold texts; the others hold numbers."""


def clean_job(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of ``ROW``: texts with "" and numbers with NaN where unknown."""
    return tuple(
        _text(row.get(name), "unknown" if name == "outcome" else "")
        if name in TEXTS
        else _number(row.get(name))
        for name in ROW
    )


def _text(value: Any, missing: str) -> str:
    return missing if value is None or value != value or value == "" else str(value)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def keys_of(row: tuple[Any, ...]) -> list[tuple[Any, ...] | None]:
    """The key of each kind that a clean job has; None where a part that it needs is unknown."""
    # NaN equals nothing, itself included: as a part of a key it is None.
    job = [None if value == "" or value != value else value for value in row]
    for place in _SPARE_PLACES:
        job[place] = job[place] or None
    job.append(name_of(row[_APP_PLACE]) or None)
    return [
        None
        if any(job[place] is None for place in needed)
        else (kind, *[job[place] for place in parts])
        for kind, (needed, parts) in enumerate(_PLACES)
    ]


def columns_of(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """The columns of ``ROW``: texts as objects, the rest as float64."""
    return {name: frame[name].to_numpy(object if name in TEXTS else np.float64) for name in ROW}


def job_key(job_id: str, submit_s: float, user: str) -> JobKey | None:
    """What makes two rows one job; None where that is unknown."""
    return (job_id, submit_s, user) if job_id and submit_s == submit_s else None


def job_numbers(columns: dict[str, NDArray[Any]]) -> Ints:
    """A number for each row, shape (n,), equal for rows of one job."""
    job = np.zeros(len(columns["user"]), dtype=np.int64)
    for name in ("job_id", "submit_s", "user"):
        job = _joined(job, *_codes(columns[name]))
    return job


def first_rows(keyed: NDArray[np.bool_], job: Ints, ends: Floats) -> Ints:
    """For each row the row that counts for its job: the first with an end, else the first.

    Parameters
    ----------
    keyed : array of bool, shape (n,)
        Rows whose job is unknown count for themselves.
    job : array of int, shape (n,)
        A number for each job.
    ends : array, shape (n,)
    """
    chosen = np.arange(len(job))
    rows = np.flatnonzero(keyed)
    order = rows[np.lexsort((rows, np.isnan(ends[rows]), job[rows]))]
    _, at, group = np.unique(job[order], return_index=True, return_inverse=True)
    chosen[order] = order[at[group]]
    return chosen


def _codes(values: NDArray[Any]) -> tuple[Ints, int]:
    """A number for each distinct value, -1 where it is unknown; and how many there are."""
    codes, names = pd.factorize(values)
    if values.dtype == object:
        codes[np.isin(codes, np.flatnonzero(names == ""))] = -1
    return np.array(codes, dtype=np.int64), len(names)


def _joined(key: Ints, code: Ints, size: int) -> Ints:
    """A number for each pair of codes; dense, so that a product of many sizes cannot overflow."""
    return np.array(pd.factorize(key * (size + 1) + code + 1)[0], dtype=np.int64)


def slot_table(columns: dict[str, NDArray[Any]]) -> tuple[Ints, int]:
    """Slots of all rows and kinds, shape (n, kinds), -1 where unknown; and their number."""
    n = len(columns["user"])
    alike = {part: np.where(columns[part] == 0, np.nan, columns[part]) for part in SPARE}
    app, names = pd.factorize(columns["app"])
    named = np.array([name_of(name) for name in names], dtype=object)[app]
    named_columns = columns | alike | {"name": named}
    codes = {part: _codes(named_columns[part]) for parts in KINDS.values() for part in parts}
    table = np.empty((n, len(KINDS)), dtype=np.int64)
    used = 0
    for k, (kind, parts) in enumerate(KINDS.items()):
        key = np.zeros(n, dtype=np.int64)
        missing = np.zeros(n, dtype=bool)
        for part in parts:
            if part in LIKE.get(kind, parts):
                missing |= codes[part][0] < 0
            key = _joined(key, *codes[part])
        distinct, slot = np.unique(key[~missing], return_inverse=True)
        table[missing, k] = -1
        table[~missing, k] = used + slot
        used += len(distinct)
    return table, used
