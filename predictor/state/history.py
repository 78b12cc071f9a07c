"""What was known at a job's submission: statistics of the jobs that had ended by then.

Two forms share the same two kernels (``_absorb`` and ``_answer``), so that their results
are equal bit for bit: ``History.see`` / ``History.ask`` take one row at a time and serve
online use; ``History.replay`` takes whole arrays and serves training and evaluation.

Rules
-----
* A job is known from ``end_s`` on: it counts where ``end_s <= as_of_s``.
* Ended jobs are ordered by (``end_s``, the order in which they were seen: row order).
* Rows without a positive run time never enter a statistic of run times
  (``History.excluded``); a row whose end is unknown enters none either.
* Timeouts and cancelled jobs that ran are censored: they enter as they ran, since that is
  how long they held the machine, raise ``bad_share`` and are counted (``History.censored``).
* A row with an unknown end and outcome ``unknown`` is a job that waits or runs. It counts
  among its user's active jobs until a row of the same job has an end.
  Without a ``job_id`` it could never be closed, so it is not noted.
* Rows with one ``job_id``, ``submit_s`` and ``user`` are one job: the first with an end counts.
* A row whose submission is unknown teaches run times and is no part of a user's activity.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.jit import kernel
from plancast.predictor.schema import canonical
from plancast.predictor.state.names import name_of

Key = tuple[str, float, str]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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

STATS: tuple[str, ...] = (
    "count",
    "last",
    "last_two",
    "median",
    "q10",
    "q90",
    "mean",
    "sd",
    "since_end",
    "bad_share",
    "ratio",
)
"""What is known of a key: the number of ended jobs; log of the last run time; log of the mean of
the last two; median, 10% and 90% quantile of the log run times in the window; exponentially
decayed mean and standard deviation of log run time; seconds since the last end; share of jobs
that did not complete; exponentially decayed mean of log(run time / requested time)."""

HISTORY_NAMES: tuple[str, ...] = (
    *(f"{kind}_{stat}" for kind in KINDS for stat in STATS),
    "user_active",
    "user_since_submit",
)
"""Names of the columns that ``ask`` and ``replay`` return, in order."""

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

LONG_WINDOW = 100
"""Latest run times of a key that a long ladder looks at."""

SHORT, LONG, LAST, BEFORE = range(4)
"""What a ladder looks at, see ``Ladder``."""


class Ladder(NamedTuple):
    """Whose last run times a rule looks at: the first kind of which enough jobs had ended.

    Parameters
    ----------
    kinds : tuple of str
        Of ``KINDS``, from fine to coarse.
    least : int
        Ended jobs that a kind needs.
    view : int
        ``SHORT``: the last `window` run times; ``LONG``: the last ``LONG_WINDOW``; ``LAST``: the
        last one alone; ``BEFORE``: the one before the last alone (NaN where one job has ended).
    """

    kinds: tuple[str, ...]
    least: int
    view: int = 0


class _Tables(NamedTuple):
    """The statistics of all slots; see the kernels for their columns."""

    ring: Floats
    ordered: Floats
    sums: Floats


class _LongTables(NamedTuple):
    """The long windows, kept only of slots that have seen more jobs than the short one holds.

    ``place`` (slots): the row of a slot in the others, or -1.
    """

    place: Ints
    ring: Floats
    ordered: Floats


_PARTS = (*ROW, "name")
_PLACES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = tuple(
    (tuple(map(_PARTS.index, LIKE.get(kind, parts))), tuple(map(_PARTS.index, parts)))
    for kind, parts in KINDS.items()
)
"""Of each kind the places in ``_PARTS`` of those that must be known and of those of its key."""
_APP_PLACE = ROW.index("app")

_SPARE_PLACES = tuple(map(ROW.index, SPARE))

_CENSORED = ("timeout", "cancelled")
_BAD = ("failed", "timeout", "cancelled")
_TEXTS = ("job_id", "user", "group", "app", "queue", "outcome", "partition")


class History:
    """Statistics of ended jobs, asked as of a moment.

    Parameters
    ----------
    window : int
        How many of a key's latest run times the median and the quantiles look at.
    decay : float
        Weight of the newest run time in the exponentially decayed mean, in (0, 1].

    Notes
    -----
    With a the decay and x the newest log run time: ``d = x - mean``, ``mean += a d``,
    ``var = (1 - a) (var + a d^2)``, starting from the first x and 0. Quantiles interpolate
    linearly between order statistics (Hyndman and Fan's type 7).
    """

    def __init__(self, window: int = 20, decay: float = 0.3) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; it must be 1 or more")
        if not 0 < decay <= 1:
            raise ValueError(f"decay is {decay}; it must lie in (0, 1]")
        self.window = window
        self.decay = decay
        self.excluded = 0
        self.censored = 0
        self._rows: list[tuple[Any, ...]] = []
        self._ended: dict[Key | None, float] = {}
        self._open: dict[Key | None, tuple[Any, ...]] = {}
        self._submits: dict[str, list[float]] = {}
        self._ends: dict[str, list[float]] = {}
        self._forget()

    def __len__(self) -> int:
        """Number of ended jobs it knows."""
        return len(self._rows)

    @property
    def known_until_s(self) -> float:
        """Latest end it knows, seconds; -inf where it knows none."""
        return max((row[2] for row in self._rows), default=-math.inf)

    def has_ended(self, row: Mapping[str, Any]) -> bool:
        """Whether the end of this very job is known (never, where a job has no ``job_id``)."""
        job = _clean(row)
        return _key(job[0], job[1], job[6]) in self._ended

    # -- one row at a time -------------------------------------------------------------

    def see(self, row: Mapping[str, Any]) -> None:
        """Take in one job: one that has ended, or one that is waiting or running.

        Parameters
        ----------
        row : mapping
            Canonical fields; times in seconds, NaN or absent where unknown.
        """
        self._note(_clean(row))

    def see_log(self, frame: pd.DataFrame) -> None:
        """Take in every row of a canonical frame, in row order."""
        for row in zip(*(frame[name].tolist() for name in ROW), strict=True):
            self._note(row)

    def ask(self, row: Mapping[str, Any], as_of_s: float | None = None) -> Floats:
        """Tell what is known of a job's user, application, ... as of a moment.

        Parameters
        ----------
        row : mapping
            The job, canonical fields that are known at submission.
        as_of_s : float, optional
            Seconds; the job's ``submit_s`` where it is not given.

        Returns
        -------
        array of float, shape (len(HISTORY_NAMES),)
        """
        job = _clean(row)
        submit = float(job[1])
        as_of = submit if as_of_s is None else float(as_of_s)
        if as_of < self._clock:
            # The state has passed that moment already: answer from the rows instead.
            frame = pd.DataFrame([job], columns=list(ROW))
            return cast(Floats, self.replay(frame, np.array([as_of]), see_ends=False)[0])
        self._fold_until(as_of)
        answer = np.empty(len(HISTORY_NAMES))
        _answer(self._ordered, self._sums, self._slots_of(job, create=False), as_of, answer)
        answer[-2:] = self._activity(job, as_of)
        return answer

    # -- whole arrays ------------------------------------------------------------------

    def replay(
        self,
        jobs: pd.DataFrame,
        as_of_s: Floats | float | None = None,
        *,
        see_ends: bool = True,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Answer for many jobs at once, each as of its own moment.

        Parameters
        ----------
        jobs : DataFrame
            Canonical frame.
        as_of_s : float or array of shape (n,), optional
            Seconds; each job's ``submit_s`` where it is not given.
        see_ends : bool
            Whether the jobs' own ends are known from their ``end_s`` on, as in a replay of
            a log; otherwise the jobs count as submitted and not ended.
        out : array, shape (n, len(HISTORY_NAMES)), optional
            Where to write the answers, in its own precision.

        Returns
        -------
        array of float, shape (n, len(HISTORY_NAMES))
        """
        n = len(jobs)
        as_of = moments(jobs, as_of_s)
        columns = _columns(jobs)
        keyed, own_end, first, ended_before, known_before = self._own_ends(columns, see_ends)
        repeated = first != np.arange(n)

        result = np.empty((n, len(HISTORY_NAMES))) if out is None else out
        self._replay_statistics(columns, np.where(repeated, np.nan, own_end), as_of, result)

        submit = columns["submit_s"]
        # Same rule as in `_note`: a row that has ended at an unknown time is not active.
        waits = keyed & (columns["outcome"] == "unknown")
        counted = ~known_before & ~repeated & ~np.isnan(submit)
        if see_ends:
            counted &= ~np.isnan(own_end) | waits
        noted = known_before | counted[first]
        ended = np.where(np.isnan(ended_before), own_end[first], ended_before)
        self._replay_activity(columns["user"], submit, counted, noted, ended, as_of, result)
        return result

    # -- quantiles of the last run times ------------------------------------------------

    def ask_quantiles(
        self,
        row: Mapping[str, Any],
        ladders: Sequence[Ladder],
        levels: Floats,
        as_of_s: float | None = None,
    ) -> Floats:
        """Empirical quantiles of one job's last run times; see ``replay_quantiles``.

        Returns
        -------
        array of float, shape (len(ladders), levels)
        """
        job = _clean(row)
        as_of = float(job[1]) if as_of_s is None else float(as_of_s)
        if as_of < self._clock:
            frame = pd.DataFrame([job], columns=list(ROW))
            moment = np.array([as_of])
            return self.replay_quantiles(frame, ladders, levels, moment, see_ends=False)[0]
        self._fold_until(as_of)
        result = np.empty((len(ladders), len(levels)))
        rungs, least = _rungs(tuple(ladders))
        slots = self._slots_of(job, create=False)
        _answer_quantiles(
            self._ordered, self._sums, *self._long[::2], slots, rungs, least, levels, result
        )
        return result

    def replay_quantiles(
        self,
        jobs: pd.DataFrame,
        ladders: Sequence[Ladder],
        levels: Floats,
        as_of_s: Floats | float | None = None,
        *,
        see_ends: bool = True,
    ) -> Floats:
        """Empirical quantiles of the run times in the windows, each job as of its moment.

        Parameters
        ----------
        jobs, as_of_s, see_ends
            As of ``replay``.
        ladders : sequence of Ladder
        levels : array, shape (levels,)
            Quantile levels in (0, 1).

        Returns
        -------
        array of float, shape (n, len(ladders), levels)
            Seconds, linear between order statistics; NaN where no kind has enough.
        """
        as_of = moments(jobs, as_of_s)
        columns = _columns(jobs)
        _, own_end, first, _, _ = self._own_ends(columns, see_ends)
        result = np.empty((len(jobs), len(ladders), len(levels)))
        self._replay_statistics(
            columns,
            np.where(first != np.arange(len(jobs)), np.nan, own_end),
            as_of,
            result,
            (*_rungs(tuple(ladders)), levels),
        )
        return result

    # -- keeping -----------------------------------------------------------------------

    def frame(self) -> pd.DataFrame:
        """Everything it has seen, ended rows first, as a frame that ``see_log`` takes back."""
        rows = [*self._rows, *self._open.values()]
        frame = pd.DataFrame(rows, columns=list(ROW))
        for name in ROW:
            frame[name] = frame[name].astype(object if name in _TEXTS else "float64")
        return frame

    def copy(self) -> History:
        """An independent history that has seen the same rows."""
        twin = History(self.window, self.decay)
        twin.see_log(self.frame())
        return twin

    # -- inner workings ----------------------------------------------------------------

    def _note(self, row: tuple[Any, ...]) -> None:
        job_id, submit, end, run, user, outcome = row[0], row[1], row[2], row[3], row[6], row[10]
        key = _key(job_id, submit, user)
        if key in self._ended:
            return
        if math.isnan(end):
            if outcome == "unknown" and key is not None and key not in self._open:
                self._open[key] = row
                insort(self._submits.setdefault(user, []), submit)
            return
        if not math.isnan(submit):
            if key is None or self._open.pop(key, None) is None:
                insort(self._submits.setdefault(user, []), submit)
            # A job that ends as it is submitted must not leave before it has come.
            stop = max(end, math.nextafter(submit, math.inf))
            insort(self._ends.setdefault(user, []), stop)
        if key is not None:
            self._ended[key] = end
        self._rows.append(row)
        if not run > 0:
            self.excluded += 1
            return
        self.censored += outcome in _CENSORED
        if self._stale:
            return
        if end < self._clock:
            self._forget()
        else:
            heapq.heappush(self._waiting, (end, len(self._rows) - 1))

    def _forget(self) -> None:
        """Drop the folded state; it is rebuilt from the rows when it is next asked."""
        self._stale = True
        self._clock = -math.inf
        self._waiting: list[tuple[float, int]] = []
        self._slots: dict[tuple[Any, ...], int] = {}
        self._ring, self._ordered, self._sums = _tables(0, self.window)
        self._long = _long_tables(np.full(0, -1, np.int64), 0)
        self._long_used = 0

    def _fold_until(self, as_of: float) -> None:
        if self._stale:
            self._waiting = [(r[2], i) for i, r in enumerate(self._rows) if r[3] > 0]
            heapq.heapify(self._waiting)
            self._stale = False
        while self._waiting and self._waiting[0][0] <= as_of:
            end, place = heapq.heappop(self._waiting)
            row = self._rows[place]
            slots = self._slots_of(row, create=True)
            event = _event(row[3], row[4], float(row[10] in _BAD))
            self._give_long_rows(slots)
            _absorb_long(*self._long, self._sums, slots, event[1])
            _absorb(
                self._ring,
                self._ordered,
                self._sums,
                slots,
                *event,
                end,
                self.decay,
            )
            self._clock = end

    def _slots_of(self, row: tuple[Any, ...], *, create: bool) -> Ints:
        # NaN equals nothing, itself included: as a part of a key it is None.
        job = [None if value == "" or value != value else value for value in row]
        for place in _SPARE_PLACES:
            job[place] = job[place] or None
        job.append(name_of(row[_APP_PLACE]) or None)
        slots = np.full(len(KINDS), -1, dtype=np.int64)
        for k, (needed, parts) in enumerate(_PLACES):
            if any(job[place] is None for place in needed):
                continue
            key = (k, *[job[place] for place in parts])
            slot = self._slots.get(key, -1)
            if slot < 0 and create:
                slot = len(self._slots)
                self._slots[key] = slot
                if slot >= len(self._sums):
                    self._grow()
            slots[k] = slot
        return slots

    def _grow(self) -> None:
        more = _tables(max(64, len(self._sums)), self.window)
        self._ring = np.concatenate([self._ring, more[0]])
        self._ordered = np.concatenate([self._ordered, more[1]])
        self._sums = np.concatenate([self._sums, more[2]])
        place = np.concatenate([self._long.place, np.full(len(more[0]), -1, np.int64)])
        self._long = self._long._replace(place=place)

    def _give_long_rows(self, slots: Ints) -> None:
        """A row of the long tables for each slot whose short window is full."""
        place, ring, ordered = self._long
        for s in slots[slots >= 0].tolist():
            if place[s] >= 0 or self._sums[s, 0] < self.window:
                continue
            if self._long_used == len(ring):
                more = np.zeros((max(64, len(ring)), LONG_WINDOW))
                ring, ordered = (np.concatenate([table, more]) for table in (ring, ordered))
                self._long = _LongTables(place, ring, ordered)
            kept = min(self.window, LONG_WINDOW)
            place[s] = self._long_used
            ring[place[s], :kept] = self._ring[s, -kept:]
            ordered[place[s], :kept] = self._ordered[s, :kept]
            self._long_used += 1

    def _activity(self, job: tuple[Any, ...], as_of: float) -> tuple[float, float]:
        """Count the user's other jobs that are active, and the time since the last submission."""
        submit, user = job[1], job[6]
        key = _key(job[0], submit, user)
        if not user:
            return math.nan, math.nan
        submits = self._submits.get(user, [])
        active = bisect_left(submits, as_of) - bisect_right(self._ends.get(user, []), as_of)
        noted = key in self._open or key in self._ended
        if noted and submit < as_of and not self._ended.get(key, math.inf) <= as_of:
            active -= 1
        earlier = bisect_left(submits, min(as_of, submit))
        since = as_of - submits[earlier - 1] if earlier else math.nan
        return float(active), since

    def _own_ends(
        self, columns: dict[str, NDArray[Any]], see_ends: bool
    ) -> tuple[NDArray[np.bool_], Floats, Ints, Floats, NDArray[np.bool_]]:
        """Which jobs can be distinguished; the ends that they tell, and what was known before.

        With the rows that count for each job, see ``_first_rows``.
        """
        names = ("job_id", "submit_s", "user")
        keyed = (columns["job_id"] != "") & ~np.isnan(columns["submit_s"])
        ended_before = np.full(len(keyed), np.nan)
        known_before = np.zeros(len(keyed), dtype=bool)
        if self._ended or self._open:
            rows = zip(*(columns[name].tolist() for name in names), strict=True)
            for i, key in enumerate(rows):
                if keyed[i]:
                    ended_before[i] = self._ended.get(key, math.nan)
                    known_before[i] = key in self._ended or key in self._open
        own_end = np.where(np.isnan(ended_before) & see_ends, columns["end_s"], np.nan)
        job = np.zeros(len(keyed), dtype=np.int64)
        for name in names:
            job = _joined(job, *_codes(columns[name]))
        return keyed, own_end, _first_rows(keyed, job, own_end), ended_before, known_before

    def _replay_statistics(
        self,
        columns: dict[str, NDArray[Any]],
        own_end: Floats,
        as_of: Floats,
        result: NDArray[Any],
        quantiles: tuple[Ints, Ints, Floats] | None = None,
    ) -> None:
        stored = len(self._rows)
        if stored:
            known = _columns(pd.DataFrame(self._rows, columns=list(ROW)))
            columns = {name: np.concatenate([known[name], columns[name]]) for name in ROW}
            own_end = np.concatenate([known["end_s"], own_end])
        slots, slot_count = _slot_table(columns)
        order = np.argsort(own_end, kind="stable")
        order = order[~np.isnan(own_end[order]) & (columns["run_s"][order] > 0)]
        events = np.empty((len(order), 4))
        _events(
            columns["run_s"][order],
            columns["requested_s"][order],
            np.isin(columns["outcome"][order].astype(str), _BAD).astype(np.float64),
            events,
        )
        tables = _tables(slot_count, self.window)
        asked: tuple[Any, ...] = (
            slots[order],
            events,
            own_end[order],
            self.decay,
            slots[stored:],
            as_of,
            np.argsort(as_of, kind="stable"),
        )
        if quantiles is None:
            _replay(*(*tables, *asked, result))
        else:
            taken = slots[order]
            count = np.bincount(taken[taken >= 0], minlength=slot_count)
            place = np.where(count > self.window, np.cumsum(count > self.window) - 1, -1)
            long = _long_tables(place, int(np.sum(place >= 0)))
            _replay_quantiles(*(*tables, *long, *asked, *quantiles, result))

    def _replay_activity(
        self,
        users: NDArray[np.object_],
        submit: Floats,
        counted: NDArray[np.bool_],
        noted: NDArray[np.bool_],
        ended: Floats,
        as_of: Floats,
        result: Floats,
    ) -> None:
        """Do what `_activity` does: `counted` rows join the stored jobs, `noted` ones are known."""
        codes, names = pd.factorize(users)
        by_user = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[by_user], np.arange(len(names) + 1))
        for u, user in enumerate(names):
            rows = by_user[bounds[u] : bounds[u + 1]]
            if not user:
                result[rows, -2:] = np.nan
                continue
            new = rows[counted[rows]]
            starts = np.sort(np.concatenate([self._submits.get(user, []), submit[new]]))
            own = np.maximum(ended[new], np.nextafter(submit[new], np.inf))
            stops = np.concatenate([self._ends.get(user, []), own])
            stops = np.sort(stops[~np.isnan(stops)])
            now = as_of[rows]
            count = np.searchsorted(starts, now, "left") - np.searchsorted(stops, now, "right")
            itself = noted[rows] & (submit[rows] < now) & ~(ended[rows] <= now)
            result[rows, -2] = count - itself
            earlier = np.searchsorted(starts, np.minimum(now, submit[rows]), "left")
            last = np.concatenate([[np.nan], starts])[earlier]
            result[rows, -1] = now - last


def moments(jobs: pd.DataFrame, as_of_s: Floats | float | None) -> Floats:
    """As-of moments of jobs, seconds, shape (n,): `as_of_s`, or each job's submission."""
    if as_of_s is None:
        return jobs["submit_s"].to_numpy(dtype=np.float64, copy=True)
    return np.array(np.broadcast_to(np.asarray(as_of_s, dtype=np.float64), len(jobs)))


def _clean(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        _text(row.get(name), "unknown" if name == "outcome" else "")
        if name in _TEXTS
        else _number(row.get(name))
        for name in ROW
    )


def _text(value: Any, missing: str) -> str:
    return missing if value is None or value != value or value == "" else str(value)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _columns(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """The columns of ``ROW``: texts as objects, the rest as float64."""
    return {name: frame[name].to_numpy(object if name in _TEXTS else np.float64) for name in ROW}


def _key(job_id: str, submit_s: float, user: str) -> Key | None:
    """What makes two rows one job; None where that is unknown."""
    return (job_id, submit_s, user) if job_id and submit_s == submit_s else None


def _first_rows(keyed: NDArray[np.bool_], job: Ints, ends: Floats) -> Ints:
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


def _slot_table(columns: dict[str, NDArray[Any]]) -> tuple[Ints, int]:
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


@cache
def _rungs(ladders: tuple[Ladder, ...]) -> tuple[Ints, Ints]:
    """Kind numbers of each ladder, shape (ladders, longest), -1 after its end.

    And what each needs, shape (ladders, 2): the least number of jobs, and its view.
    """
    names = list(KINDS)
    rungs = np.full((len(ladders), max(len(one.kinds) for one in ladders)), -1, dtype=np.int64)
    for place, one in enumerate(ladders):
        rungs[place, : len(one.kinds)] = [names.index(kind) for kind in one.kinds]
    return rungs, np.array([[one.least, one.view] for one in ladders], dtype=np.int64)


def _tables(slots: int, window: int) -> _Tables:
    return _Tables(np.zeros((slots, window)), np.zeros((slots, window)), np.zeros((slots, 9)))


def _long_tables(place: Ints, rows: int) -> _LongTables:
    shape = (rows, LONG_WINDOW)
    return _LongTables(place.astype(np.int64), np.zeros(shape), np.zeros(shape))


# -- kernels: arrays in, arrays out ----------------------------------------------------------
# `ring` holds a slot's latest log run times in order of arrival, `ordered` the same ones sorted.
# Columns of `sums`: 0 jobs seen, 1 not completed, 2 last run, 3 the one before, 4 last end,
# 5 decayed mean, 6 decayed variance, 7 jobs with a request, 8 decayed mean of the log ratio.


@kernel
def _event(run_s: float, requested_s: float, bad: float) -> tuple[float, float, float, float]:
    """Run time, its log, log(run / requested) and whether it did not complete."""
    log_run = np.log(run_s)
    ratio = log_run - np.log(requested_s) if requested_s > 0.0 else np.nan
    return run_s, log_run, ratio, bad


@kernel
def _events(run_s: Floats, requested_s: Floats, bad: Floats, events: Floats) -> None:
    for i in range(run_s.shape[0]):
        row = _event(run_s[i], requested_s[i], bad[i])
        for j in range(4):
            events[i, j] = row[j]


@kernel
def _absorb(
    ring: Floats,
    ordered: Floats,
    sums: Floats,
    slots: Ints,
    run_s: float,
    log_run: float,
    log_ratio: float,
    bad: float,
    end_s: float,
    decay: float,
) -> None:
    window = ring.shape[1]
    for k in range(slots.shape[0]):
        s = slots[k]
        if s < 0:
            continue
        seen = int(sums[s, 0])
        kept = min(seen, window)
        place = seen % window
        if kept == window:
            oldest = ring[s, place]
            i = 0
            while ordered[s, i] != oldest:
                i += 1
            kept -= 1
            while i < kept:
                ordered[s, i] = ordered[s, i + 1]
                i += 1
        i = kept
        while i > 0 and ordered[s, i - 1] > log_run:
            ordered[s, i] = ordered[s, i - 1]
            i -= 1
        ordered[s, i] = log_run
        ring[s, place] = log_run
        if seen == 0:
            sums[s, 5] = log_run
        else:
            step = log_run - sums[s, 5]
            sums[s, 5] = sums[s, 5] + decay * step
            sums[s, 6] = (1.0 - decay) * (sums[s, 6] + decay * (step * step))
        if not np.isnan(log_ratio):
            if sums[s, 7] == 0.0:
                sums[s, 8] = log_ratio
            else:
                sums[s, 8] = sums[s, 8] + decay * (log_ratio - sums[s, 8])
            sums[s, 7] += 1.0
        sums[s, 0] += 1.0
        sums[s, 1] += bad
        sums[s, 3] = sums[s, 2]
        sums[s, 2] = run_s
        sums[s, 4] = end_s


@kernel
def _absorb_long(
    place: Ints, ring: Floats, ordered: Floats, sums: Floats, slots: Ints, log_run: float
) -> None:
    """Called before ``_absorb``, which counts the job."""
    window = ring.shape[1]
    for k in range(slots.shape[0]):
        s = slots[k]
        if s < 0 or place[s] < 0:
            continue
        r, seen = place[s], int(sums[s, 0])
        kept = min(seen, window)
        if kept == window:
            oldest = ring[r, seen % window]
            i = np.searchsorted(ordered[r], oldest)
            kept -= 1
            for j in range(i, kept):
                ordered[r, j] = ordered[r, j + 1]
        i = kept
        while i > 0 and ordered[r, i - 1] > log_run:
            ordered[r, i] = ordered[r, i - 1]
            i -= 1
        ordered[r, i] = log_run
        ring[r, seen % window] = log_run


@kernel
def _quantile(ordered: Floats, slot: int, kept: int, level: float) -> float:
    position = level * (kept - 1)
    low = int(position)
    if low + 1 >= kept:
        return ordered[slot, kept - 1]
    return ordered[slot, low] + (position - low) * (ordered[slot, low + 1] - ordered[slot, low])


@kernel
def _answer(ordered: Floats, sums: Floats, slots: Ints, as_of: float, answer: Floats) -> None:
    width = 11
    for k in range(slots.shape[0]):
        s = slots[k]
        at = k * width
        answer[at] = 0.0
        for j in range(1, width):
            answer[at + j] = np.nan
        if s < 0 or sums[s, 0] == 0.0:
            continue
        seen = sums[s, 0]
        kept = min(int(seen), ordered.shape[1])
        answer[at] = seen
        answer[at + 1] = np.log(sums[s, 2])
        if seen > 1.0:
            answer[at + 2] = np.log((sums[s, 2] + sums[s, 3]) / 2.0)
        else:
            answer[at + 2] = answer[at + 1]
        answer[at + 3] = _quantile(ordered, s, kept, 0.5)
        answer[at + 4] = _quantile(ordered, s, kept, 0.1)
        answer[at + 5] = _quantile(ordered, s, kept, 0.9)
        answer[at + 6] = sums[s, 5]
        answer[at + 7] = np.sqrt(sums[s, 6])
        answer[at + 8] = as_of - sums[s, 4]
        answer[at + 9] = sums[s, 1] / seen
        if sums[s, 7] > 0.0:
            answer[at + 10] = sums[s, 8]


@kernel
def _replay(
    ring: Floats,
    ordered: Floats,
    sums: Floats,
    event_slots: Ints,
    events: Floats,
    ends: Floats,
    decay: float,
    slots: Ints,
    as_of: Floats,
    order: Ints,
    result: Floats,
) -> None:
    e = 0
    for q in range(order.shape[0]):
        i = order[q]
        while e < ends.shape[0] and ends[e] <= as_of[i]:
            _absorb(
                ring,
                ordered,
                sums,
                event_slots[e],
                events[e, 0],
                events[e, 1],
                events[e, 2],
                events[e, 3],
                ends[e],
                decay,
            )
            e += 1
        _answer(ordered, sums, slots[i], as_of[i], result[i])


@kernel
def _answer_quantiles(
    ordered: Floats,
    sums: Floats,
    long_place: Ints,
    long_ordered: Floats,
    slots: Ints,
    rungs: Ints,
    least: Ints,
    levels: Floats,
    answer: Floats,
) -> None:
    for r in range(rungs.shape[0]):
        answer[r, :] = np.nan
        for j in range(rungs.shape[1]):
            k = rungs[r, j]
            if k < 0:
                break
            s = slots[k]
            if s < 0 or sums[s, 0] < least[r, 0]:
                continue
            if least[r, 1] >= LAST:
                back = int(least[r, 1]) - LAST
                if sums[s, 0] > back:
                    answer[r, :] = sums[s, 2 + back]
                break
            latest = ordered[s]
            if least[r, 1] == LONG and long_place[s] >= 0:
                latest = long_ordered[long_place[s]]
            kept = min(int(sums[s, 0]), latest.shape[0])
            for p in range(levels.shape[0]):
                position = levels[p] * (kept - 1)
                low = min(int(position), kept - 1)
                high = min(low + 1, kept - 1)
                share = position - low
                lower, upper = np.exp(latest[low]), np.exp(latest[high])
                answer[r, p] = (1.0 - share) * lower + share * upper
            break


@kernel
def _replay_quantiles(
    ring: Floats,
    ordered: Floats,
    sums: Floats,
    long_place: Ints,
    long_ring: Floats,
    long_ordered: Floats,
    event_slots: Ints,
    events: Floats,
    ends: Floats,
    decay: float,
    slots: Ints,
    as_of: Floats,
    order: Ints,
    rungs: Ints,
    least: Ints,
    levels: Floats,
    result: Floats,
) -> None:
    e = 0
    for q in range(order.shape[0]):
        i = order[q]
        while e < ends.shape[0] and ends[e] <= as_of[i]:
            _absorb_long(long_place, long_ring, long_ordered, sums, event_slots[e], events[e, 1])
            _absorb(
                ring,
                ordered,
                sums,
                event_slots[e],
                events[e, 0],
                events[e, 1],
                events[e, 2],
                events[e, 3],
                ends[e],
                decay,
            )
            e += 1
        _answer_quantiles(
            ordered, sums, long_place, long_ordered, slots[i], rungs, least, levels, result[i]
        )


def history_of(frame: pd.DataFrame, window: int = 20, decay: float = 0.3) -> History:
    """A history that has seen every row of a job log (any subset of the canonical columns)."""
    history = History(window, decay)
    history.see_log(canonical(frame))
    return history
