"""Replay of a job log on one pool of processors: the clock, the queue and what may start.

Jobs are numbered in order of submission. All times are int64 seconds. Whatever a decision
looks at stands in ``Jobs`` and in the columns of ``Live`` that describe the waiting and the
running; ``run`` is read in two places only, where a started job is given its true end and
where it is reported as ended.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays import heap
from plancast.planner.arrays.jit import inner
from plancast.planner.arrays.schedule import FAR

# Orders of the queue; smaller scores come first, equal ones by submission.
FCFS = 0


SJF = 1


SAF = 2


F1 = 3


F2 = 4


F3 = 5


F4 = 6


WFP3 = 7


UNICEP = 8


RUN2PROCS = 9


# What may overtake the first of the queue.
NONE = 0


EASY = 1


PUBLISHED = 2


CONSERVATIVE = 3


PLANNER = 4


BOUNDED = 5


# Where estimates come from.
GIVEN = 0


LAST_TWO = 1


ASKED = 2


# Why `advance` returned.
OVER = 0


ARRIVALS = 1


PAUSED = 2


# Places in Live.clock.
NOW = 0


NEXT = 1


WAITING = 2


RUNNING = 3


FREE = 4


COMMITTED = 5


COMMITTED_START = 6


ENDED = 7


PASSES = 8


PENDING = 9


CORRECTIONS = 10


NEXT_OUTAGE = 11


ANNOUNCED = 12


KILLED = 13


PUT_OFF = 14


CLOCK = 15


TOLERANCE_S = 60
"""A planned start that moves later by no more than this does not count as put off."""


class Jobs(NamedTuple):
    """What is given: arrays over the jobs, and over the outages that follow them as jobs.

    Outage k is "job" jobs + k: it holds its processors from ``submit`` for ``run`` seconds, and
    its end is known. ``kills[k]`` tells a failure (whose jobs die and are queued again) from
    a drain (which waits for them). ``again[j]`` is how long job j runs once it has been cut
    short at ``run[j]`` and submitted again; 0: it is never cut. Empty: no job is.
    """

    submit: np.ndarray
    run: np.ndarray
    procs: np.ndarray
    request: np.ndarray
    user: np.ndarray
    kills: np.ndarray
    again: np.ndarray
    levels: np.ndarray
    settings: np.ndarray


class Live(NamedTuple):
    """What changes: the clock, the queue, the machine, and what has come of each job."""

    clock: np.ndarray
    start: np.ndarray
    end: np.ndarray
    estimate: np.ndarray
    expected: np.ndarray
    promise: np.ndarray
    planned: np.ndarray
    queue: np.ndarray
    running: np.ndarray
    heap: np.ndarray
    heap_end: np.ndarray
    ended: np.ndarray
    last: np.ndarray
    cpu_us: np.ndarray
    score: np.ndarray
    lost: np.ndarray
    quantile: np.ndarray
    mean: np.ndarray
    weight: np.ndarray
    square: np.ndarray


@inner
def score_of(order, submit, procs, estimate, now):
    """The score by which an order sorts a waiting job; smaller goes first.

    Notes
    -----
    F1 to F4, with r the estimate, n the processors, s the submission in the log's own
    seconds; WFP3 and UNICEP, with w the wait, are negated.

    References
    ----------
    Carastan-Santos, de Camargo (2017), "Obtaining dynamic scheduling policies with simulation
    and machine learning", doi:10.1145/3126908.3126955; Tang et al. (2009), "Fault-aware,
    utility-based job scheduling on Blue Gene/P systems", doi:10.1109/CLUSTR.2009.5289206.
    """
    r, n = float(max(estimate, 1)), float(procs)
    s = np.log10(float(max(submit, 1)))
    if order == SJF:
        return r
    if order == SAF:
        return r * n
    if order == F1:
        return np.log10(r) * n + 870.0 * s
    if order == F2:
        return np.sqrt(r) * n + 25600.0 * s
    if order == F3:
        return r * n + 6860000.0 * s
    if order == F4:
        return r * np.sqrt(n) + 530000.0 * s
    if order == WFP3:
        return -(((now - submit) / r) ** 3) * n
    if order == UNICEP:
        return -(now - submit) / ((np.log2(n) + 1e-9) * r)
    if order == RUN2PROCS:
        return max(r, 10.0) ** 2 * n
    return 0.0


@inner
def _push(live, job, end):
    """Put a job into the heap of true ends; the caller counts it as running."""
    heap.push(live.heap_end, live.heap, live.heap, live.clock[RUNNING], end, job, job)


@inner
def _pop(live):
    """Take the next to end out of the heap; `RUNNING` is one lower afterwards."""
    job = live.heap[0]
    heap.pop(live.heap_end, live.heap, live.heap, live.clock[RUNNING])
    live.clock[RUNNING] -= 1
    return job


@inner
def _start(jobs, live, job, duration):
    """Start a job now, or an outage; it is expected to end after `duration`."""
    clock = live.clock
    now, n = clock[NOW], clock[RUNNING]
    live.start[job] = now
    live.end[job] = now + jobs.run[job]
    if job < jobs.again.shape[0] and live.lost[job] > 0:
        live.end[job] = now + jobs.again[job]
    live.expected[job] = now + duration
    live.running[n] = job
    _push(live, job, live.end[job])
    clock[RUNNING] = n + 1
    clock[FREE] -= jobs.procs[job]


@inner
def _leave(live, job):
    """Take a job out of the list of those that run (`RUNNING` is one lower already)."""
    running, n = live.running, live.clock[RUNNING]
    k = 0
    while running[k] != job:
        k += 1
    while k < n:
        running[k] = running[k + 1]
        k += 1


@inner
def _sort_running(live):
    """Running jobs by expected end, then by number; nearly sorted already."""
    running, expected = live.running, live.expected
    for i in range(1, live.clock[RUNNING]):
        job = running[i]
        end = expected[job]
        k = i
        while k > 0 and (
            expected[running[k - 1]] > end
            or (expected[running[k - 1]] == end and running[k - 1] > job)
        ):
            running[k] = running[k - 1]
            k -= 1
        running[k] = job


@inner
def _correct(jobs, live, past):
    """Expected ends before `past` become the requested time, then a minute more each time.

    References
    ----------
    Tsafrir, Etsion, Feitelson (2007), "Backfilling using system-generated predictions rather
    than user runtime estimates", doi:10.1109/TPDS.2007.70606; the simplest rule of Gaussier et
    al. (2015), doi:10.1145/2807591.2807646.
    """
    now = live.clock[NOW]
    for k in range(live.clock[RUNNING]):
        job = live.running[k]
        if live.expected[job] < past:
            live.clock[CORRECTIONS] += 1
            limit = live.start[job] + jobs.request[job]
            if limit <= now:
                limit += 60 * ((now - limit) // 60 + 1)
            live.expected[job] = limit


@inner
def _end_of(jobs, live, user_estimates):
    """End the next job: processors are free again, its user's history knows its run time."""
    clock = live.clock
    job = _pop(live)
    _leave(live, job)
    clock[FREE] += jobs.procs[job]
    if job >= user_estimates.shape[0]:
        return
    if job < jobs.again.shape[0] and jobs.again[job] > 0 and live.lost[job] == 0:
        # Cut at its limit: submitted again that instant, behind all that wait, with the
        # time that its user had asked for.
        live.lost[job] = jobs.run[job]
        live.start[job] = -1
        live.estimate[job] = jobs.request[job]
        live.queue[clock[WAITING]] = job
        clock[WAITING] += 1
        return
    live.ended[clock[ENDED]] = job
    clock[ENDED] += 1
    user = jobs.user[job]
    live.last[user, 1] = live.last[user, 0]
    live.last[user, 0] = jobs.run[job]


@inner
def _last_two(jobs, live, job):
    """Mean of the user's two latest run times, floored, within 1 and the request."""
    first, second = live.last[jobs.user[job], 0], live.last[jobs.user[job], 1]
    if second < 0:
        return jobs.request[job]
    return min(max((first + second) // 2, 1), jobs.request[job])


@inner
def _fail(jobs, live, outage, n):
    """A failure takes the machines of the jobs that started last; they are queued again."""
    clock = live.clock
    while clock[FREE] < jobs.procs[outage]:
        victim, latest = -1, -1
        for k in range(clock[RUNNING]):
            job = live.running[k]
            if job < n and (
                live.start[job] > latest or (live.start[job] == latest and job > victim)
            ):
                victim, latest = job, live.start[job]
        if victim < 0:
            return
        # The heap is small and failures are rare: it is built anew.
        held = live.heap[: clock[RUNNING]].copy()
        clock[RUNNING] = 0
        for job in held:
            if job != victim:
                _push(live, job, live.end[job])
                clock[RUNNING] += 1
        _leave(live, victim)
        clock[FREE] += jobs.procs[victim]
        live.lost[victim] += clock[NOW] - live.start[victim]
        live.start[victim] = -1
        clock[KILLED] += 1
        # The queue is in order of submission.
        k = clock[WAITING]
        while k > 0 and live.queue[k - 1] > victim:
            live.queue[k] = live.queue[k - 1]
            k -= 1
        live.queue[k] = victim
        clock[WAITING] += 1


@inner
def profile_of_running(jobs, live, times, free):
    """What is free over time if the running jobs end as expected; the number of segments.

    ``free[k]`` holds from ``times[k]`` to ``times[k + 1]``, the last one forever. The running
    jobs must be sorted and corrected.
    """
    clock = live.clock
    times[0], free[0] = clock[NOW], clock[FREE]
    count = 1
    for k in range(clock[RUNNING]):
        job = live.running[k]
        end = live.expected[job]
        if end > times[count - 1]:
            times[count] = end
            free[count] = free[count - 1]
            count += 1
        free[count - 1] += jobs.procs[job]
    return count


@inner
def earliest(times, free, count, procs, duration, since):
    """First moment from `since` on at which processors are free for `duration`; FAR if never."""
    k = 0
    while k + 1 < count and times[k + 1] <= since:
        k += 1
    while k < count:
        if free[k] < procs:
            k += 1
            continue
        begin = max(times[k], since)
        end = begin + duration
        j = k + 1
        while j < count and times[j] < end and free[j] >= procs:
            j += 1
        if j == count or times[j] >= end:
            return begin
        k = j + 1
    return FAR


@inner
def _cut(times, free, count, at):
    """Index of the segment that begins at `at`, made where there is none; the new count."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if times[middle] <= at:
            low = middle
        else:
            high = middle - 1
    if times[low] == at:
        return low, count
    for k in range(count, low + 1, -1):
        times[k], free[k] = times[k - 1], free[k - 1]
    times[low + 1], free[low + 1] = at, free[low]
    return low + 1, count + 1


@inner
def reserve(times, free, count, procs, start, duration):
    """Take processors out of a profile from `start` for `duration`; the new count."""
    first, count = _cut(times, free, count, start)
    stop, count = _cut(times, free, count, start + duration)
    for k in range(first, stop):
        free[k] -= procs
    return count


@inner
def _ordered(jobs, live, order):
    """Places of the waiting jobs in the queue, in an order."""
    n = live.clock[WAITING]
    if order == FCFS:
        return np.arange(n)
    for k in range(n):
        job = live.queue[k]
        live.score[k] = score_of(
            order, jobs.submit[job], jobs.procs[job], live.estimate[job], live.clock[NOW]
        )
    return np.argsort(live.score[:n], kind="mergesort")


@inner
def _note(live, job, at):
    """Keep a job's planned start; count where the last plan had it earlier."""
    if live.planned[job] >= 0 and at > live.planned[job] + TOLERANCE_S:
        live.clock[PUT_OFF] += 1
    live.planned[job] = at


@inner
def _close_ranks(live):
    """Drop those that have started out of the queue."""
    kept = 0
    for k in range(live.clock[WAITING]):
        job = live.queue[k]
        if live.start[job] < 0:
            live.queue[kept] = job
            kept += 1
    live.clock[WAITING] = kept
