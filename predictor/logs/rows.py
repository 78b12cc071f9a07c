"""What becomes of bad rows, for every reader: repaired, else left out, counted and shown.

A row of a log is bad where a cell cannot be read or cells contradict each other. Where another
cell of the row tells, it is repaired; else it is left out. Both are counted by reason and the
first three of each are shown. Only a log with too many of them is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from plancast.predictor.schema import NUMBER_COLUMNS, BadLog, canonical, extra_columns, numbers

MAX_BAD = 0.05
"""Share of bad rows above which a log is refused, where the caller names none."""

FEW = 5
"""So many bad rows never refuse a log, where the caller names no share: in a log of three rows
one is a third."""

SHOWN = 3
"""How many rows of each reason are shown."""

_REQUESTS = ("requested_s", "cpus", "mem_mib", "gpus", "mem_peak_mib")
MOST = {
    "requested_s": 1e11, "cpus": 1e9, "mem_mib": 1e13, "mem_peak_mib": 1e13, "gpus": 1e9,
}  # fmt: skip
"""What no job has: 3,000 years, 10 exbibytes. Such numbers are damaged, or of another unit."""
EARLIEST_S, LATEST_S = -2.3e9, 1e11
"""Moments of logs: the years 1897 to 5138 (some count from their own beginning); 3,000 years."""


@dataclass
class _Kind:
    """Rows with one reason: how many, and where the first of them are."""

    count: int = 0
    first: list[str] = field(default_factory=list)


@dataclass
class Rows:
    """The account of a reading: which rows were left out or repaired, and why.

    Parameters
    ----------
    name : str
        The log's file name, which begins a refusal.
    max_bad : float, optional
        Share of bad rows, repaired ones included, above which the log is refused; `MAX_BAD`
        beyond `FEW` rows by default.
    strict : bool
        Whether any bad row refuses the log.
    """

    name: str
    max_bad: float | None = None
    strict: bool = False
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    in_skipped_hour: set[tuple[str, str]] = field(default_factory=set)
    """Time zones and times in the hour that they leave out when summer time begins."""
    _dropped: dict[str, _Kind] = field(default_factory=dict)
    _repaired: dict[str, _Kind] = field(default_factory=dict)
    _fault: str = ""

    def __post_init__(self) -> None:
        if self.max_bad is not None and not 0 <= self.max_bad <= 1:
            raise BadLog(f"max_bad is {self.max_bad}; it must be a share in [0, 1]")

    def skip(self, reason: str, count: int) -> None:
        """Count rows that belong to the format and are no jobs, such as steps."""
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def note(self, text: str) -> None:
        """Say something of the log as a whole."""
        self.notes.append(text)

    def drop(self, reason: str, places: Iterable[Any], fault: str = "") -> None:
        """Count bad rows that are left out.

        Parameters
        ----------
        reason : str
            Their kind, without the cell's content.
        places : iterable
            ``line 12`` or ``row 3``, one for each row.
        fault : str
            What is wrong with the first, for a refusal: place, field, content; the reason and
            the place by default.
        """
        self._add(self._dropped, reason, places, fault)

    def repair(self, reason: str, places: Iterable[Any], fault: str = "") -> None:
        """Count bad rows that another cell repaired; parameters as of `drop`."""
        self._add(self._repaired, reason, places, fault)

    def _add(self, kinds: dict[str, _Kind], reason: str, places: Iterable[Any], fault: str) -> None:
        found = [str(place) for place in places]
        if not found:
            return
        kind = kinds.setdefault(reason, _Kind())
        kind.count += len(found)
        kind.first += found[: SHOWN - len(kind.first)]
        self._fault = self._fault or fault or f"{found[0]}: {reason}"

    @property
    def bad(self) -> int:
        """Number of bad rows so far."""
        return sum(k.count for kinds in (self._dropped, self._repaired) for k in kinds.values())

    def check(self, left: int) -> None:
        """Refuse the log where nothing is left of it, or too many of its rows are bad.

        Parameters
        ----------
        left : int
            Rows that remain.

        Raises
        ------
        BadLog
            One sentence that names the first bad row, how many there are, and the remedy.
        """
        bad = self.bad
        total = left + sum(kind.count for kind in self._dropped.values())
        if self.strict and bad:
            raise BadLog(
                f"{self.name}, {self._fault}; correct it, or leave out --strict to have bad rows "
                f"repaired or left out ({bad} of {total})"
            )
        if left == 0 and bad:
            raise BadLog(f"{self.name}, {self._fault}; no job is left, correct the log")
        limit = MAX_BAD if self.max_bad is None else self.max_bad
        few = FEW if self.max_bad is None else 0
        if bad > max(few, limit * total):
            raise BadLog(
                f"{self.name}, {self._fault}; {bad} of {total} rows are bad like this or "
                f"otherwise, more than {limit:.3g} of them: correct the log, or allow more with "
                "--max-bad"
            )

    def attrs(self) -> dict[str, Any]:
        """``dropped`` and ``repaired`` (rows by reason) and ``notes`` (sentences), as JSON."""
        notes = list(self.notes)
        if count := len(self.in_skipped_hour):
            timezone, first = min(self.in_skipped_hour)
            times = "time is" if count == 1 else "times are"
            notes.append(
                f"{count:,} {times} in an hour that {timezone} leaves out, such as {first}, and "
                "taken as its end: is --timezone right?"
            )
        for kinds, what in ((self._dropped, "left out"), (self._repaired, "repaired")):
            for reason, kind in kinds.items():
                more = ", ..." if kind.count > len(kind.first) else ""
                rows = "row" if kind.count == 1 else "rows"
                where = ", ".join(kind.first)
                notes.append(f"{what}: {kind.count:,} {rows}, {reason} ({where}{more})")
        dropped = dict(self.skipped)
        for reason, kind in self._dropped.items():
            dropped[reason] = dropped.get(reason, 0) + kind.count
        return {
            "dropped": dropped,
            "repaired": {reason: kind.count for reason, kind in self._repaired.items()},
            "notes": notes,
        }


def finish(
    frame: pd.DataFrame, places: Iterable[Any], rows: Rows, attrs: dict[str, Any]
) -> pd.DataFrame:
    """The canonical frame of what a reader found, with bad rows repaired or left out.

    Parameters
    ----------
    frame : DataFrame
        Canonical columns as far as the log has them, before anything is derived; what a cell
        does not tell is NaN.
    places : iterable, length n
        How each row is called: ``line 12``.
    rows : Rows
        The account so far; it is completed and checked.
    attrs : dict
        Attrs of the frame, beside those of `rows`.

    Raises
    ------
    BadLog
        Where too much is wrong with the log.

    Notes
    -----
    - A negative run time is the time from start to end, where both are known and rise; else
      the row is left out.
    - An end before the start is ``start + run``, where the run time is known; else the end is
      taken as unknown, and the job as one whose run time is unknown.
    - A request that is negative, infinite or beyond `MOST` is taken as unknown.
    - A row without a submission time, or with a time, its own or one that follows from the
      others, that is infinite or that no log has (`EARLIEST_S`, `LATEST_S`), is left out.
    """
    frame = frame.reset_index(drop=True)
    where = np.asarray(list(places), dtype=object)
    for name in NUMBER_COLUMNS:
        if name in frame.columns:
            frame[name] = numbers(frame[name], name)
    _repair_requests(frame, where, rows)
    keep = _times_hold(frame, where, rows)
    frame = frame[keep]
    rows.check(len(frame))
    frame.attrs = attrs | rows.attrs()
    return canonical(frame)


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    if name not in frame.columns:
        return np.full(len(frame), np.nan)
    values: np.ndarray = frame[name].to_numpy(dtype="float64", copy=True)
    return values


def _repair_requests(frame: pd.DataFrame, where: np.ndarray, rows: Rows) -> None:
    extra = [name for name in extra_columns(frame) if name.startswith("num_")]
    for name in [*_REQUESTS, *extra]:
        if name not in frame.columns:
            continue
        values = numbers(frame[name], name)
        infinite = np.isinf(values)
        negative = (values < 0) & ~infinite if name in _REQUESTS else np.zeros(len(frame), bool)
        vast = (values > MOST.get(name, np.inf)) & ~infinite
        if not (infinite | negative | vast).any():
            continue
        rows.repair(f"infinite {name} taken as unknown", where[infinite])
        rows.repair(f"negative {name} taken as unknown", where[negative])
        rows.repair(f"{name} of more than {MOST.get(name, 0):g}, taken as unknown", where[vast])
        values[infinite | negative | vast] = np.nan
        frame[name] = values


_TIMES = ("submit_s", "start_s", "end_s", "run_s")


def _beyond(frame: pd.DataFrame, where: np.ndarray, rows: Rows) -> np.ndarray:
    """Rows with a time that is infinite, or that no log has; the account hears of them."""
    values = {name: _column(frame, name) for name in _TIMES}
    lost: np.ndarray = np.isinf(np.stack(list(values.values()))).any(axis=0)
    rows.drop("infinite time", where[lost])
    for name, column in values.items():
        least = -np.inf if name == "run_s" else EARLIEST_S
        found = ~lost & ((column < least) | (column > LATEST_S))
        if found.any():
            row = int(np.flatnonzero(found)[0])
            fault = f"{where[row]}, {name}: {column[row]:g} s is a time that no log has"
            rows.drop(f"{name} that no log has", where[found], fault)
        lost = lost | found
    return lost


def _leads_beyond(start: np.ndarray, end: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Rows of which a time that others tell, here or in ``schema.canonical``, is one no log has."""
    late = (np.isnan(end) | (end < start)) & (start + run > LATEST_S)
    early = np.isnan(start) & (end - run < EARLIEST_S)
    found: np.ndarray = late | early | (np.isnan(run) & (end - start > LATEST_S))
    return found


def _times_hold(frame: pd.DataFrame, where: np.ndarray, rows: Rows) -> np.ndarray:
    """Which rows stay; repairs start, end and run time in place."""
    beyond = _beyond(frame, where, rows)
    submit, start, end, run = (_column(frame, name) for name in _TIMES)
    absent = np.isnan(submit) & ~beyond
    negative = ~beyond & ~absent & (run < 0)
    rises = negative & (end >= start)
    lost = negative & ~rises
    run[rises] = (end - start)[rises]
    reversed_ = ~beyond & ~absent & ~lost & (end < start)
    past = ~beyond & ~absent & ~lost & _leads_beyond(start, end, run)
    found = reversed_ & (run >= 0) & ~past
    untold = reversed_ & ~found & ~past
    end[found] = (start + run)[found]
    end[untold] = np.nan
    rows.drop("no submission time", where[absent])
    rows.drop("negative run time", where[lost])
    rows.drop("times that lead to one that no log has", where[past])
    rows.repair("negative run time, taken from start and end", where[rises])
    rows.repair("end before start, taken from start and run time", where[found])
    rows.repair("end before start, taken as unknown", where[untold])
    for name, values, changed in (("run_s", run, rises), ("end_s", end, reversed_)):
        if changed.any():
            frame[name] = values
    keep: np.ndarray = ~(beyond | absent | lost | past)
    return keep
