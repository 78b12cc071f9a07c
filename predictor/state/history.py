"""What was known at a job's submission: statistics of the jobs that had ended by then.

Two forms share the kernels ``learn`` and ``answer``, so that their results are equal bit for bit:
``History.see`` and ``History.ask`` take one row at a time and serve online use;
``History.replay`` takes whole arrays and serves training and evaluation.

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
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.state.keys import (
    PLAIN,
    JobKey,
    Layout,
    first_rows,
    job_key,
    job_numbers,
    slot_table,
)
from plancast.predictor.state.run_statistics import (
    LONG_WINDOW,
    STATS,
    Asked,
    Ended,
    Ladder,
    Rungs,
    Tables,
    answer,
    answer_quantiles,
    empty_tables,
    learn,
    replay,
    replay_quantiles,
    rungs_of,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CENSORED = ("timeout", "cancelled")
_BAD = ("failed", "timeout", "cancelled")


def history_names(layout: Layout) -> tuple[str, ...]:
    """Names of the columns that ``ask`` and ``replay`` return, in order."""
    of_kinds = (f"{kind}_{stat}" for kind in layout.kinds for stat in STATS)
    return (*of_kinds, "user_active", "user_since_submit")


HISTORY_NAMES: tuple[str, ...] = history_names(PLAIN)
"""Those of a log that has neither command lines nor directories."""


class History:
    """Statistics of ended jobs, asked as of a moment.

    Parameters
    ----------
    window : int
        How many of a key's latest run times the median and the quantiles look at.
    decay : float
        Weight of the newest run time in the exponentially decayed mean, in (0, 1].
    layout : Layout
        Which free texts of a job are compared, too.

    Notes
    -----
    With a the decay and x the newest log run time: ``d = x - mean``, ``mean += a d``,
    ``var = (1 - a) (var + a d^2)``, starting from the first x and 0. Quantiles interpolate
    linearly between order statistics (Hyndman and Fan's type 7).
    """

    def __init__(self, window: int = 20, decay: float = 0.3, layout: Layout = PLAIN) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; it must be 1 or more")
        if not 0 < decay <= 1:
            raise ValueError(f"decay is {decay}; it must lie in (0, 1]")
        self.window = window
        self.decay = decay
        self.layout = layout
        self.width = len(history_names(layout))
        self.excluded = 0
        self.censored = 0
        self._rows: list[tuple[Any, ...]] = []
        self._ended: dict[JobKey | None, float] = {}
        self._open: dict[JobKey | None, tuple[Any, ...]] = {}
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
        job = self.layout.clean_job(row)
        return job_key(job[0], job[1], job[6]) in self._ended

    # -- one row at a time -------------------------------------------------------------

    def see(self, row: Mapping[str, Any]) -> None:
        """Take in one job: one that has ended, or one that is waiting or running.

        Parameters
        ----------
        row : mapping
            Canonical fields; times in seconds, NaN or absent where unknown.
        """
        self._note(self.layout.clean_job(row))

    def see_log(self, frame: pd.DataFrame) -> None:
        """Take in every row of a canonical frame, in row order."""
        columns = self.layout.columns_of(frame)
        for row in zip(*(columns[name].tolist() for name in self.layout.row), strict=True):
            self._note(row)

    def ask(self, row: Mapping[str, Any], as_of_s: float | None = None) -> Floats:
        """What is known of a job's user, application, ... as of a moment.

        Parameters
        ----------
        row : mapping
            The job, canonical fields that are known at submission.
        as_of_s : float, optional
            Seconds; the job's ``submit_s`` where it is not given.

        Returns
        -------
        array of float, shape (width,)
        """
        job = self.layout.clean_job(row)
        submit = float(job[1])
        as_of = submit if as_of_s is None else float(as_of_s)
        if as_of < self._clock:
            # The state has passed that moment already: answer from the rows instead.
            frame = pd.DataFrame([job], columns=list(self.layout.row))
            return cast(Floats, self.replay(frame, np.array([as_of]), see_ends=False)[0])
        self._fold_until(as_of)
        found = np.empty(self.width)
        answer(self._tables, self._slots_of(job, create=False), as_of, found)
        found[-2:] = self._activity(job, as_of)
        return found

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
        out : array, shape (n, width), optional
            Where to write the answers, in its own precision.

        Returns
        -------
        array of float, shape (n, width)
        """
        n = len(jobs)
        as_of = moments(jobs, as_of_s)
        columns = self.layout.columns_of(jobs)
        keyed, own_end, first, ended_before, known_before = self._own_ends(columns, see_ends)
        repeated = first != np.arange(n)

        result = np.empty((n, self.width)) if out is None else out
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
        job = self.layout.clean_job(row)
        as_of = float(job[1]) if as_of_s is None else float(as_of_s)
        if as_of < self._clock:
            frame = pd.DataFrame([job], columns=list(self.layout.row))
            moment = np.array([as_of])
            return self.replay_quantiles(frame, ladders, levels, moment, see_ends=False)[0]
        self._fold_until(as_of)
        result = np.empty((len(ladders), len(levels)))
        slots = self._slots_of(job, create=False)
        answer_quantiles(
            self._tables, slots, rungs_of(tuple(ladders), tuple(self.layout.kinds)), levels, result
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
        columns = self.layout.columns_of(jobs)
        _, own_end, first, _, _ = self._own_ends(columns, see_ends)
        result = np.empty((len(jobs), len(ladders), len(levels)))
        self._replay_statistics(
            columns,
            np.where(first != np.arange(len(jobs)), np.nan, own_end),
            as_of,
            result,
            tuple(ladders),
            levels,
        )
        return result

    # -- keeping -----------------------------------------------------------------------

    def frame(self) -> pd.DataFrame:
        """Everything it has seen, ended rows first, as a frame that ``see_log`` takes back."""
        rows = [*self._rows, *self._open.values()]
        frame = pd.DataFrame(rows, columns=list(self.layout.row))
        for name in self.layout.row:
            frame[name] = frame[name].astype(object if name in self.layout.words else "float64")
        return frame

    def copy(self) -> History:
        """An independent history that has seen the same rows."""
        twin = History(self.window, self.decay, self.layout)
        twin.see_log(self.frame())
        return twin

    # -- inner workings ----------------------------------------------------------------

    def _note(self, row: tuple[Any, ...]) -> None:
        job_id, submit, end, run, user, outcome = row[0], row[1], row[2], row[3], row[6], row[10]
        key = job_key(job_id, submit, user)
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
        self._tables = empty_tables(0, self.window)
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
            self._give_long_rows(slots)
            learn(self._tables, slots, row[3], row[4], end, float(row[10] in _BAD), self.decay)
            self._clock = end

    def _slots_of(self, row: tuple[Any, ...], *, create: bool) -> Ints:
        slots = np.full(len(self.layout.kinds), -1, dtype=np.int64)
        for k, key in enumerate(self.layout.keys_of(row)):
            if key is None:
                continue
            slot = self._slots.get(key, -1)
            if slot < 0 and create:
                slot = len(self._slots)
                self._slots[key] = slot
                if slot >= len(self._tables.sums):
                    self._grow()
            slots[k] = slot
        return slots

    def _grow(self) -> None:
        """Make room for twice as many slots."""
        more = empty_tables(max(64, len(self._tables.sums)), self.window)
        both = zip(self._tables, more, strict=True)
        self._tables = Tables(*(np.concatenate(pair) for pair in both))

    def _give_long_rows(self, slots: Ints) -> None:
        """A row of the long windows for each slot whose short window is full."""
        tables = self._tables
        for s in slots[slots >= 0].tolist():
            if tables.long_row[s] >= 0 or tables.sums[s, 0] < self.window:
                continue
            row = self._long_used
            if row == len(tables.long_ring):
                more = np.zeros((max(64, row), LONG_WINDOW))
                self._tables = tables = tables._replace(
                    long_ring=np.concatenate([tables.long_ring, more]),
                    long_ordered=np.concatenate([tables.long_ordered, more]),
                )
            kept = min(self.window, LONG_WINDOW)
            tables.long_row[s] = row
            tables.long_ring[row, :kept] = tables.ring[s, -kept:]
            tables.long_ordered[row, :kept] = tables.ordered[s, :kept]
            self._long_used += 1

    def _rungs(self, ladders: Sequence[Ladder]) -> Rungs:
        return rungs_of(tuple(ladders), tuple(self.layout.kinds))

    def _activity(self, job: tuple[Any, ...], as_of: float) -> tuple[float, float]:
        """Count the user's other jobs that are active, and the time since the last submission."""
        submit, user = job[1], job[6]
        key = job_key(job[0], submit, user)
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

        With the rows that count for each job, see ``first_rows``.
        """
        keyed = (columns["job_id"] != "") & ~np.isnan(columns["submit_s"])
        ended_before = np.full(len(keyed), np.nan)
        known_before = np.zeros(len(keyed), dtype=bool)
        if self._ended or self._open:
            identity = (columns[name].tolist() for name in ("job_id", "submit_s", "user"))
            rows = zip(*identity, strict=True)
            for i, key in enumerate(rows):
                if keyed[i]:
                    ended_before[i] = self._ended.get(key, math.nan)
                    known_before[i] = key in self._ended or key in self._open
        own_end = np.where(np.isnan(ended_before) & see_ends, columns["end_s"], np.nan)
        first = first_rows(keyed, job_numbers(columns), own_end)
        return keyed, own_end, first, ended_before, known_before

    def _replay_statistics(
        self,
        columns: dict[str, NDArray[Any]],
        own_end: Floats,
        as_of: Floats,
        result: NDArray[Any],
        ladders: tuple[Ladder, ...] | None = None,
        levels: Floats | None = None,
    ) -> None:
        stored = len(self._rows)
        if stored:
            known = self.layout.columns_of(pd.DataFrame(self._rows, columns=list(self.layout.row)))
            columns = {name: np.concatenate([known[name], columns[name]]) for name in columns}
            own_end = np.concatenate([known["end_s"], own_end])
        slots, slot_count = slot_table(columns, self.layout.kinds)
        order = np.argsort(own_end, kind="stable")
        order = order[~np.isnan(own_end[order]) & (columns["run_s"][order] > 0)]
        ended = Ended(
            slots[order],
            columns["run_s"][order],
            columns["requested_s"][order],
            own_end[order],
            np.isin(columns["outcome"][order].astype(str), _BAD).astype(np.float64),
        )
        asked = Asked(slots[stored:], as_of, np.argsort(as_of, kind="stable"))
        if ladders is None:
            replay(empty_tables(slot_count, self.window), ended, self.decay, asked, result)
            return
        count = np.bincount(ended.slots[ended.slots >= 0], minlength=slot_count)
        long_row = np.where(count > self.window, np.cumsum(count > self.window) - 1, -1)
        tables = empty_tables(slot_count, self.window, long_row)
        replay_quantiles(
            tables,
            ended,
            self.decay,
            asked,
            self._rungs(ladders),
            levels,
            result,
        )

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
