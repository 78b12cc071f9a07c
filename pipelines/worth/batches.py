"""Batches that can tell what forecasts are worth: backlogs of a log's test stretch.

Where a log knows when jobs came and how long they waited, a *backlog* is what runs and what
queues at one moment of a replay of the test stretch under EASY backfilling by requests. Other
logs give rows in their order, so many that four rounds of the pool are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import ReplayLog, replay

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_REQUEST_S = 7 * 86400
"""Kill limit where a log names no request at all."""
DAY_S = 86400
LEAST_QUEUE = 3
"""Fewer jobs that wait leave nothing to order."""
MOST_QUEUE = 150
"""Jobs of a longer queue that are planned: those submitted first."""
ROUNDS = 4
"""How many times the pool's processors a batch without a replay asks for."""
MOST_ROWS = 200
TRACE_CORES = 64
"""Pool of a task trace, whose records name no machine."""
LEAST_BATCHES = 5
"""Fewer moments at which jobs queue tell nothing."""


@dataclass(frozen=True)
class Stretch:
    """The jobs that batches are cut from, and how they ran if they were replayed.

    Parameters
    ----------
    jobs : DataFrame
        Canonical, of the test stretch, each with a positive run time; in a replay with the
        starts and ends that the replay gave them, so that a forecast at a moment knows what
        had ended by then.
    procs : int
        Processors (or GPUs) of the pool.
    resource : str
        ``cpu`` or ``gpu``.
    width, run_s, requested_s : int64 (jobs,)
        Processors, true run time (cut to the request where it is a limit), request (-1:
        none); seconds.
    replayed : bool
    """

    jobs: pd.DataFrame
    procs: int
    resource: str
    width: Ints
    run_s: Ints
    requested_s: Ints
    replayed: bool

    @property
    def has_requests(self) -> bool:
        """Whether most jobs name a requested time."""
        return bool(np.mean(self.requested_s > 0) > 0.5)


@dataclass(frozen=True)
class Backlog:
    """What waits and what runs at one moment.

    Parameters
    ----------
    number : int
    now_s : int
    queued, running : int64
        Rows of the stretch.
    start_s : int64 (running,)
        Since when they run.
    ended_s : int
        When the last of its jobs had ended in the replay: from then on its outcome is known.
    """

    number: int
    now_s: int
    queued: Ints
    running: Ints
    start_s: Ints
    ended_s: int

    @property
    def rows(self) -> Ints:
        """Rows of the queued, then of the running jobs."""
        return np.concatenate([self.queued, self.running])


def has_waits(jobs: pd.DataFrame) -> bool:
    """Whether a log, as read, knows when jobs came and when they started."""
    ran = jobs[jobs["run_s"] > 0]
    if not len(ran):
        return False
    waits = (ran["start_s"] - ran["submit_s"]).to_numpy(np.float64)
    return bool(np.isfinite(waits).mean() > 0.5 and np.nanmax(waits) > 0)


def pool_of_rows(wide: Floats, size: int) -> int:
    """Processors of the pool for rows in their order, at most `size` where jobs fit it.

    Parameters
    ----------
    wide : float64 (jobs,)
        Processors of each job.
    size : int

    Notes
    -----
    ``MOST_ROWS`` jobs ask for ``ROUNDS`` times the pool: on a larger one nothing would queue.
    All but one job in a hundred fit; wider ones are left out.
    """
    if not len(wide):
        return size
    filled = int(wide.mean() * MOST_ROWS / ROUNDS)
    return max(min(size, max(TRACE_CORES, filled)), int(np.quantile(wide, 0.99)))


def stretch_of(
    test: pd.DataFrame, size: float, waits: bool, *, stated: bool = True, sized: bool = False
) -> Stretch:
    """The test stretch of a log, replayed where it has waits and requests over enough days.

    Parameters
    ----------
    test : DataFrame
        Canonical.
    size : float
        The machine's processors, as ``machine_size`` of the whole log tells them.
    waits : bool
        Of ``has_waits``.
    stated : bool
        Whether the log says its size; if not, rows in their order get ``TRACE_CORES``.
    sized : bool
        Whether the size is what the user said.
    """
    gpus = test["cpus"].isna().all() and test["gpus"].notna().any()
    width = test["gpus"] if gpus else test["cpus"].where(test["cpus"] > 0, test["gpus"])
    wide = np.ceil(width.fillna(1.0).to_numpy(np.float64)).clip(1)
    days = (test["submit_s"].max() - test["submit_s"].min()) / DAY_S
    arrivals = waits and (test["requested_s"] > 0).mean() > 0.5 and days > LEAST_BATCHES
    pool = int(np.ceil(size))
    if not (arrivals or sized):
        pool = pool_of_rows(wide, pool if stated else TRACE_CORES)
    keep = ((test["run_s"] > 0) & (wide <= pool)).to_numpy()
    jobs, wide = test[keep].reset_index(drop=True), wide[keep].astype(np.int64)
    requested = np.where(jobs["requested_s"] > 0, np.ceil(jobs["requested_s"].fillna(0)), -1)
    requested = requested.astype(np.int64)
    run_s = np.maximum(1, np.ceil(jobs["run_s"].to_numpy(np.float64))).astype(np.int64)
    run_s = np.where(requested > 0, np.minimum(run_s, np.maximum(requested, 1)), run_s)
    if not arrivals:
        return Stretch(jobs, pool, "gpu" if gpus else "cpu", wide, run_s, requested, replayed=False)
    submit = np.floor(jobs["submit_s"].to_numpy(np.float64)).astype(np.int64)
    users = pd.factorize(jobs["user"].where(jobs["user"] != "", jobs["queue"]))[0]
    log = ReplayLog("worth", pool, submit, run_s, wide, known_requests(jobs), users)
    found = replay(log, DISPATCHERS["easy"], "requested")
    jobs = jobs.assign(
        submit_s=submit.astype(np.float64), run_s=run_s.astype(np.float64),
        start_s=found.start_s.astype(np.float64), end_s=found.end_s.astype(np.float64),
    )  # fmt: skip
    return Stretch(jobs, pool, "gpu" if gpus else "cpu", wide, run_s, requested, replayed=True)


def cut(stretch: Stretch, batches: int) -> list[Backlog]:
    """Backlogs of a stretch, at most `batches`, evenly over it."""
    if not stretch.replayed:
        return _consecutive(stretch, batches)
    submit, start, end = (
        stretch.jobs[name].to_numpy(np.int64) for name in ("submit_s", "start_s", "end_s")
    )
    if not len(submit):
        return []
    moments = np.arange(submit[0] + DAY_S, submit[-1] + 1, DAY_S)
    waiting = np.searchsorted(np.sort(submit), moments, side="right")
    waiting = waiting - np.searchsorted(np.sort(start), moments, side="right")
    moments = moments[waiting >= LEAST_QUEUE]
    if len(moments) > batches:
        moments = moments[np.linspace(0, len(moments) - 1, batches).round().astype(int)]
    result = []
    for number, now in enumerate(moments.tolist()):
        queued = np.flatnonzero((submit <= now) & (start > now))[:MOST_QUEUE]
        running = np.flatnonzero((start <= now) & (end > now))
        known = int(end[np.concatenate([queued, running])].max())
        result.append(Backlog(number, now, queued, running, start[running], known))
    return result


def _consecutive(stretch: Stretch, batches: int) -> list[Backlog]:
    """Rows in their order, each batch asking for ``ROUNDS`` times the pool."""
    asked = np.cumsum(stretch.width)
    found, first = [], 0
    while first < len(asked):
        before = asked[first - 1] if first else 0
        last = int(np.searchsorted(asked, before + ROUNDS * stretch.procs)) + 1
        last = min(last, first + MOST_ROWS)
        if last > len(asked):
            break
        found.append((first, last))
        first = last
    if len(found) > batches:
        found = [found[int(k)] for k in np.linspace(0, len(found) - 1, batches).round()]
    submit = np.nan_to_num(stretch.jobs["submit_s"].to_numpy(np.float64))
    nothing = np.zeros(0, np.int64)
    result = []
    for number, (first, last) in enumerate(found):
        now = int(np.ceil(submit[first:last].max()))
        rows = np.arange(first, last)
        ended = int(np.ceil((submit + stretch.run_s)[first:last].max()))
        if not submit.any():
            # Without a clock one batch has ended when the next one is planned.
            now, ended = number, number + 1
        result.append(Backlog(number, now, rows, nothing, nothing, ended))
    return result


def moments(stretch: Stretch, backlogs: Sequence[Backlog]) -> Floats:
    """As-of moment of the forecast of each job: of its backlog, else its submission.

    Notes
    -----
    In a replay a forecast is made at the moment of the first backlog that the job is in. Of
    rows without a replay, at the first submission among them: an end among them belongs to a
    job that has not started here.
    """
    submit = np.nan_to_num(stretch.jobs["submit_s"].to_numpy(np.float64))
    result = submit.copy()
    for backlog in reversed(backlogs):
        rows = backlog.rows
        result[rows] = backlog.now_s if stretch.replayed else submit[rows].min()
    return result


def known_requests(jobs: pd.DataFrame) -> Ints:
    """Requested times, seconds; an unknown one is the largest seen so far, shape (n,)."""
    seen: dict[str, float] = {}
    result = np.empty(len(jobs), np.int64)
    pairs = zip(jobs["requested_s"].tolist(), jobs["queue"].tolist(), strict=True)
    for place, (request, queue) in enumerate(pairs):
        if request > 0:
            for name in (f"q {queue}", ""):
                seen[name] = max(seen.get(name, 0.0), request)
        else:
            request = seen.get(f"q {queue}", seen.get("", NO_REQUEST_S))
        result[place] = max(1, int(np.ceil(request)))
    return result
