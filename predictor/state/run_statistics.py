"""Kernels of a history: statistics of the ended jobs of each key, learned and answered.

``History`` is their face and says what they compute. Each key of jobs has a slot.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plancast.predictor.jit import inner, kernel
from plancast.predictor.sorted_window import insert

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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

WIDTH = len(STATS)

LONG_WINDOW = 100
"""Latest run times of a key that a long ladder looks at."""

SHORT, LONG, LAST, BEFORE = range(4)
"""What a ladder looks at, see ``Ladder``."""


class Ladder(NamedTuple):
    """Whose last run times a rule looks at: the first kind of which enough jobs had ended.

    Parameters
    ----------
    kinds : tuple of str
        From fine to coarse.
    least : int
        Ended jobs that a kind needs.
    view : int
        ``SHORT``: the last `window` run times; ``LONG``: the last ``LONG_WINDOW``; ``LAST``: the
        last one alone; ``BEFORE``: the one before the last alone (NaN where one job has ended).
    """

    kinds: tuple[str, ...]
    least: int
    view: int = 0


class Tables(NamedTuple):
    """The statistics of all slots.

    Parameters
    ----------
    ring, ordered : array, shape (slots, window)
        A slot's latest log run times, in order of arrival and sorted.
    sums : array, shape (slots, 9)
        0 jobs seen, 1 not completed, 2 last run, 3 the one before, 4 last end, 5 decayed mean,
        6 decayed variance, 7 jobs with a request, 8 decayed mean of the log ratio.
    long_row : array of int, shape (slots,)
        A slot's row in the long windows, or -1: only slots that have seen more jobs than the
        short window holds need one.
    long_ring, long_ordered : array, shape (rows, LONG_WINDOW)
    """

    ring: Floats
    ordered: Floats
    sums: Floats
    long_row: Ints
    long_ring: Floats
    long_ordered: Floats


class Ended(NamedTuple):
    """Jobs that have ended, in the order in which they are learned from.

    Parameters
    ----------
    slots : array of int, shape (n, kinds)
        -1 where a job has no such key.
    run_s, requested_s, end_s : array, shape (n,)
        Seconds; the request NaN where unknown.
    bad : array of float, shape (n,)
        1 where the job did not complete.
    """

    slots: Ints
    run_s: Floats
    requested_s: Floats
    end_s: Floats
    bad: Floats


class Asked(NamedTuple):
    """Jobs that are asked about.

    Parameters
    ----------
    slots : array of int, shape (n, kinds)
    as_of_s : array, shape (n,)
        Seconds.
    order : array of int, shape (n,)
        The jobs by their moments.
    """

    slots: Ints
    as_of_s: Floats
    order: Ints


class Rungs(NamedTuple):
    """Ladders as numbers.

    Parameters
    ----------
    kinds : array of int, shape (ladders, longest)
        -1 after a ladder's end.
    least, views : array of int, shape (ladders,)
    """

    kinds: Ints
    least: Ints
    views: Ints


@cache
def rungs_of(ladders: tuple[Ladder, ...], names: tuple[str, ...]) -> Rungs:
    """What the kernels read of ladders; the kinds' names in order."""
    kinds = np.full((len(ladders), max(len(one.kinds) for one in ladders)), -1, dtype=np.int64)
    for place, one in enumerate(ladders):
        kinds[place, : len(one.kinds)] = [names.index(kind) for kind in one.kinds]
    least, views = np.array([one[1:] for one in ladders], dtype=np.int64).T.copy()
    return Rungs(kinds, least, views)


def empty_tables(slots: int, window: int, long_row: Ints | None = None) -> Tables:
    """Tables of slots that have seen nothing; without long windows where no rows are given."""
    if long_row is None:
        long_row = np.full(slots, -1, dtype=np.int64)
    long = (int(np.sum(long_row >= 0)), LONG_WINDOW)
    return Tables(
        np.zeros((slots, window)),
        np.zeros((slots, window)),
        np.zeros((slots, 9)),
        long_row,
        np.zeros(long),
        np.zeros(long),
    )


@kernel
def learn(
    tables: Tables,
    slots: Ints,
    run_s: float,
    requested_s: float,
    end_s: float,
    bad: float,
    decay: float,
) -> None:
    """Learn from one job that has ended; see ``Ended``."""
    ring, ordered, sums, long_row, long_ring, long_ordered = tables
    log_run = np.log(run_s)
    for k in range(slots.shape[0]):
        s = slots[k]
        if s < 0:
            continue
        seen = int(sums[s, 0])
        insert(ring[s], ordered[s], seen, log_run)
        if long_row[s] >= 0:
            insert(long_ring[long_row[s]], long_ordered[long_row[s]], seen, log_run)
        if seen == 0:
            sums[s, 5] = log_run
        else:
            step = log_run - sums[s, 5]
            sums[s, 5] = sums[s, 5] + decay * step
            sums[s, 6] = (1.0 - decay) * (sums[s, 6] + decay * (step * step))
        if requested_s > 0.0:
            log_ratio = log_run - np.log(requested_s)
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


@inner
def _learn_until(tables: Tables, ended: Ended, e: int, as_of_s: float, decay: float) -> int:
    """Learn from the jobs from `e` on that had ended by a moment; the first that had not."""
    while e < ended.end_s.shape[0] and ended.end_s[e] <= as_of_s:
        learn(
            tables,
            ended.slots[e],
            ended.run_s[e],
            ended.requested_s[e],
            ended.end_s[e],
            ended.bad[e],
            decay,
        )
        e += 1
    return e


@inner
def _quantile(ordered: Floats, kept: int, level: float) -> float:
    position = level * (kept - 1)
    low = int(position)
    if low + 1 >= kept:
        return ordered[kept - 1]
    return ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])


@kernel
def answer(tables: Tables, slots: Ints, as_of_s: float, found: Floats) -> None:
    """Write what is known of one job's keys, shape (kinds x ``STATS``,)."""
    ordered, sums = tables.ordered, tables.sums
    for k in range(slots.shape[0]):
        s = slots[k]
        at = k * WIDTH
        found[at] = 0.0
        for j in range(1, WIDTH):
            found[at + j] = np.nan
        if s < 0 or sums[s, 0] == 0.0:
            continue
        seen = sums[s, 0]
        kept = min(int(seen), ordered.shape[1])
        found[at] = seen
        found[at + 1] = np.log(sums[s, 2])
        if seen > 1.0:
            found[at + 2] = np.log((sums[s, 2] + sums[s, 3]) / 2.0)
        else:
            found[at + 2] = found[at + 1]
        found[at + 3] = _quantile(ordered[s], kept, 0.5)
        found[at + 4] = _quantile(ordered[s], kept, 0.1)
        found[at + 5] = _quantile(ordered[s], kept, 0.9)
        found[at + 6] = sums[s, 5]
        found[at + 7] = np.sqrt(sums[s, 6])
        found[at + 8] = as_of_s - sums[s, 4]
        found[at + 9] = sums[s, 1] / seen
        if sums[s, 7] > 0.0:
            found[at + 10] = sums[s, 8]


@kernel
def replay(tables: Tables, ended: Ended, decay: float, asked: Asked, found: Floats) -> None:
    """Answer for each job asked about, with what had ended by its moment; a row a job."""
    e = 0
    for i in asked.order:
        e = _learn_until(tables, ended, e, asked.as_of_s[i], decay)
        answer(tables, asked.slots[i], asked.as_of_s[i], found[i])


@kernel
def answer_quantiles(
    tables: Tables, slots: Ints, rungs: Rungs, levels: Floats, found: Floats
) -> None:
    """Write the quantiles of one job's run times by each ladder, shape (ladders, levels)."""
    sums = tables.sums
    for r in range(rungs.kinds.shape[0]):
        found[r, :] = np.nan
        for k in rungs.kinds[r]:
            if k < 0:
                break
            s = slots[k]
            if s < 0 or sums[s, 0] < rungs.least[r]:
                continue
            if rungs.views[r] >= LAST:
                back = rungs.views[r] - LAST
                if sums[s, 0] > back:
                    found[r, :] = sums[s, 2 + back]
                break
            latest = tables.ordered[s]
            if rungs.views[r] == LONG and tables.long_row[s] >= 0:
                latest = tables.long_ordered[tables.long_row[s]]
            kept = min(int(sums[s, 0]), latest.shape[0])
            for p in range(levels.shape[0]):
                position = levels[p] * (kept - 1)
                low = min(int(position), kept - 1)
                high = min(low + 1, kept - 1)
                share = position - low
                lower, upper = np.exp(latest[low]), np.exp(latest[high])
                found[r, p] = (1.0 - share) * lower + share * upper
            break


@kernel
def replay_quantiles(
    tables: Tables,
    ended: Ended,
    decay: float,
    asked: Asked,
    rungs: Rungs,
    levels: Floats,
    found: Floats,
) -> None:
    """Do what ``replay`` does, for quantiles."""
    e = 0
    for i in asked.order:
        e = _learn_until(tables, ended, e, asked.as_of_s[i], decay)
        answer_quantiles(tables, asked.slots[i], rungs, levels, found[i])
