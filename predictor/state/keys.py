"""Whose history a job is part of: the columns that make keys, and a number for each key.

A job's keys are found one row at a time, for online use, and for whole columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.state.commands import DIGESTS, digests_of
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

LIKE: dict[str, tuple[str, ...]] = {
    "user_like": ("user",),
    "like": (),
    "user_like_line": ("user",),
    "user_like_command": ("user",),
}
"""The kinds that compare whole submissions, "unknown" being a value like any other; and the
columns that must be known all the same."""

SPARE: tuple[str, ...] = ("gpus", "mem_mib")
"""Of these a submission of 0 and one that names none are alike: a log that a master wrote says
0 where the task file had no such column."""

_WHOLE = KINDS["user_like"]
TEXT_KINDS: dict[str, tuple[str, ...]] = {
    "user_like_line": (*_WHOLE, "line_digest", "dir_digest"),
    "user_like_command": (*_WHOLE, "command_digest", "dir_digest"),
    "user_script": ("user", "script_digest"),
    "user_dir": ("user", "dir_digest"),
}
"""Further kinds, of logs that have command lines or directories; behind the others, whose places
they leave. What the log has not is no part of a key."""

_TOLD_BY = {
    "user_like_line": "submit_line", "user_script": "submit_line", "user_dir": "work_dir",
}  # fmt: skip
"""The text without which a further kind would be another one again."""

TEXTS: tuple[str, ...] = ("job_id", "user", "group", "app", "queue", "outcome", "partition")
"""The columns of ``ROW`` that hold texts; the others hold numbers."""

_APP_PLACE = ROW.index("app")
_SPARE_PLACES = tuple(map(ROW.index, SPARE))


@dataclass(frozen=True)
class Layout:
    """What a history keeps of a job, and whose histories a job is part of.

    Parameters
    ----------
    texts : tuple of str
        Free texts that the log has, of ``DIGESTS``.
    """

    texts: tuple[str, ...] = ()

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The columns of digests."""
        return tuple(name for text in self.texts for name in DIGESTS[text])

    @cached_property
    def row(self) -> tuple[str, ...]:
        """The columns that are kept: ``ROW`` and the digests."""
        return (*ROW, *self.digests)

    @cached_property
    def words(self) -> frozenset[str]:
        """The columns of ``row`` that hold texts."""
        return frozenset({*TEXTS, *self.digests})

    @cached_property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Whose history, as ``KINDS``."""
        found, known = dict(KINDS), {*ROW, "name", *self.digests}
        for kind, parts in TEXT_KINDS.items() if self.texts else ():
            if _TOLD_BY.get(kind, self.texts[0]) in self.texts:
                found[kind] = tuple(part for part in parts if part in known)
        return found

    @cached_property
    def _places(self) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
        """Of each kind the places of the parts that must be known, and of those of its key."""
        parts = (*self.row, "name")
        return tuple(
            (tuple(map(parts.index, LIKE.get(kind, key))), tuple(map(parts.index, key)))
            for kind, key in self.kinds.items()
        )

    def clean_job(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of ``row``: texts with "" and numbers with NaN where unknown."""
        found = [
            _text(row.get(name), "unknown" if name == "outcome" else "")
            if name in TEXTS
            else _number(row.get(name))
            for name in ROW
        ]
        for text in self.texts:
            names = DIGESTS[text]
            told = names[0] in row
            found += (
                (row[name] for name in names)
                if told
                else digests_of(text, _text(row.get(text), ""))
            )
        return tuple(found)

    def columns_of(self, frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
        """The columns of ``row``: texts as objects, the rest as float64."""
        found = {name: frame[name].to_numpy(object if name in TEXTS else float) for name in ROW}
        for text in self.texts:
            names = DIGESTS[text]
            if names[0] in frame:
                found |= {name: frame[name].to_numpy(object) for name in names}
                continue
            codes, distinct = pd.factorize(frame[text])
            table = np.array([digests_of(text, one) for one in distinct], dtype=object)
            found |= dict(zip(names, table.reshape(-1, len(names))[codes].T, strict=True))
        return found

    def keys_of(self, row: tuple[Any, ...]) -> list[tuple[Any, ...] | None]:
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
            for kind, (needed, parts) in enumerate(self._places)
        ]


layout_of = cache(Layout)
PLAIN = layout_of()


def _text(value: Any, missing: str) -> str:
    return missing if value is None or value != value or value == "" else str(value)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


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


def slot_table(
    columns: dict[str, NDArray[Any]], kinds: Mapping[str, tuple[str, ...]] = KINDS
) -> tuple[Ints, int]:
    """Slots of all rows and kinds, shape (n, kinds), -1 where unknown; and their number."""
    n = len(columns["user"])
    alike = {part: np.where(columns[part] == 0, np.nan, columns[part]) for part in SPARE}
    app, names = pd.factorize(columns["app"])
    named = np.array([name_of(name) for name in names], dtype=object)[app]
    named_columns = columns | alike | {"name": named}
    codes = {part: _codes(named_columns[part]) for parts in kinds.values() for part in parts}
    table = np.empty((n, len(kinds)), dtype=np.int64)
    used = 0
    for k, (kind, parts) in enumerate(kinds.items()):
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
