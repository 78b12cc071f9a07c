"""A queue rolled forward under a discipline, many samples of its run times at a time.

Nothing arrives: what is rolled forward is what is known now. Times are int64 seconds from now.
A job holds a vector of resources of one pool; the machine's nodes are not distinguished.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into

NEVER = 1 << 50
EASY, CONSERVATIVE = 0, 1


@inner
def _fits(demand, job, free):
    """Whether a job's demands fit what is free."""
    fits = True
    for r in range(free.shape[0]):
        fits = fits and demand[job, r] <= free[r]
    return fits


@inner
def _some_fit(least, free):
    """Whether the least demand of any job for each resource is free."""
    fits = True
    for r in range(free.shape[0]):
        fits = fits and least[r] <= free[r]
    return fits


class Line(NamedTuple):
    """What waits and what runs in one sample, and working space.

    Parameters
    ----------
    demand, limit : as of ``roll_under``
    free, least, spare : int64 (k,)
        What is free now; the least demand of any waiting job; what backfilled jobs may take.
    active, ends, limits : int64 (running + waiting,)
        Active jobs in the order of the ends that their limits allow, their ends and those.
    queue : int64 (waiting,)
    times, there : int64 (pieces,), (pieces, k)
        A profile of what is free by the limits.
    """

    demand: np.ndarray
    limit: np.ndarray
    free: np.ndarray
    least: np.ndarray
    spare: np.ndarray
    active: np.ndarray
    ends: np.ndarray
    limits: np.ndarray
    queue: np.ndarray
    times: np.ndarray
    there: np.ndarray


@inner
def _start(line, job, now, run_s, count):
    """Start a job: active jobs stay sorted by the end that their limits allow; their number."""
    active, ends, limits = line.active, line.ends, line.limits
    limit_end = now + line.limit[job]
    k = count
    while k > 0 and limits[k - 1] > limit_end:
        active[k], ends[k], limits[k] = active[k - 1], ends[k - 1], limits[k - 1]
        k -= 1
    active[k], ends[k], limits[k] = job, now + run_s, limit_end
    for r in range(line.free.shape[0]):
        line.free[r] -= line.demand[job, r]
    return count + 1


@inner
def _next_end(line, count):
    """When the first active job ends; ``NEVER`` where none is active."""
    soonest = NEVER
    for k in range(count):
        soonest = min(soonest, line.ends[k])
    return soonest


@inner
def _release(line, now, count):
    """End what ends by now; the new number of active jobs."""
    active, ends, limits = line.active, line.ends, line.limits
    kept = 0
    for k in range(count):
        if ends[k] <= now:
            for r in range(line.free.shape[0]):
                line.free[r] += line.demand[active[k], r]
            continue
        active[kept], ends[kept], limits[kept] = active[k], ends[k], limits[k]
        kept += 1
    return kept


@inner
def _shadow(line, head, count):
    """When the head of the queue can start by the limits; ``line.spare`` is what is over then."""
    demand, free, spare, limits = line.demand, line.free, line.spare, line.limits
    shadow, found = NEVER, _fits(demand, head, free)
    for r in range(free.shape[0]):
        spare[r] = free[r] - demand[head, r]
    for k in range(count):
        if found and limits[k] > shadow:
            break
        fits = True
        for r in range(spare.shape[0]):
            spare[r] += demand[line.active[k], r]
            fits = fits and spare[r] >= 0
        if not found:
            found = fits
            if found:
                shadow = limits[k]
    if not found:
        spare[:] = 0
    return shadow


@inner
def _cut(at, times, there, count):
    """Let a moment begin a piece of the profile; the place of that piece, and their number."""
    place = count
    while times[place - 1] > at:
        place -= 1
    if times[place - 1] == at:
        return place - 1, count
    for k in range(count, place, -1):
        times[k] = times[k - 1]
        there[k] = there[k - 1]
    times[place] = at
    there[place] = there[place - 1]
    return place, count + 1


@inner
def _earliest(job, length, demand, times, there, count):
    """The first moment from which on a job fits the profile for so long."""
    at = 0
    for k in range(count):
        if not _fits(demand, job, there[k]):
            at = k + 1
        elif k + 1 == count or times[k + 1] - times[at] >= length:
            return times[at]
    return NEVER


@inner
def _profile(line, now, count):
    """What is free from now on, by the limits of what runs; the number of its pieces."""
    times, there, limits = line.times, line.there, line.limits
    pieces = 1
    times[0], there[0] = now, line.free
    for k in range(count):
        if limits[k] > times[pieces - 1]:
            times[pieces], there[pieces] = limits[k], there[pieces - 1]
            pieces += 1
        for r in range(line.free.shape[0]):
            there[pieces - 1, r] += line.demand[line.active[k], r]
    return pieces


@inner
def _may_overtake(line, job, now, shadow):
    """Whether a job that waits behind the head fits now and does not delay it."""
    if not _fits(line.demand, job, line.free):
        return False
    if now + line.limit[job] <= shadow:
        return True
    if not _fits(line.demand, job, line.spare):
        return False
    for r in range(line.spare.shape[0]):
        line.spare[r] -= line.demand[job, r]
    return True


@inner
def _start_easy(line, now, run, count, length, starts):
    """Start what EASY starts now; the new numbers of active and of waiting jobs."""
    queue, running = line.queue, line.limit.shape[0] - run.shape[0]
    first = 0
    while first < length and _fits(line.demand, running + queue[first], line.free):
        starts[queue[first]] = now
        count = _start(line, running + queue[first], now, run[queue[first]], count)
        first += 1
    if first == length:
        return count, 0
    shadow = _shadow(line, running + queue[first], count)
    queue[0] = queue[first]
    kept = 1
    for k in range(first + 1, length):
        j = queue[k]
        if _some_fit(line.least, line.free) and _may_overtake(line, running + j, now, shadow):
            starts[j] = now
            count = _start(line, running + j, now, run[j], count)
        else:
            queue[kept] = j
            kept += 1
    return count, kept


@inner
def _start_conservative(line, now, run, count, length, starts):
    """The same where nobody is delayed by who overtakes.

    The queue is laid out in order, each job at its earliest by the limits of all, and what
    begins now starts.
    """
    queue, times, there = line.queue, line.times, line.there
    running = line.limit.shape[0] - run.shape[0]
    pieces = _profile(line, now, count)
    kept = 0
    for k in range(length):
        j = queue[k]
        job = running + j
        # Where the least of demands is not free nothing more begins now.
        at = NEVER
        if _some_fit(line.least, line.free):
            at = _earliest(job, line.limit[job], line.demand, times, there, pieces)
        if at < NEVER:
            first, pieces = _cut(at, times, there, pieces)
            last, pieces = _cut(at + line.limit[job], times, there, pieces)
            for piece in range(first, last):
                for r in range(line.free.shape[0]):
                    there[piece, r] -= line.demand[job, r]
        if at > now:
            queue[kept] = j
            kept += 1
        else:
            starts[j] = now
            count = _start(line, job, now, run[j], count)
    return count, kept


@kernel
def roll_under(rule, capacity_free, demand, running, left, limit, run, only, starts):
    """Roll a queue forward under a discipline until all jobs (or one) have started.

    Parameters
    ----------
    rule : int
        `EASY` or `CONSERVATIVE` backfilling.
    capacity_free : array of int64, shape (k,)
        What is free now.
    demand : array of int64, shape (running + waiting, k)
        Running jobs first, then the waiting ones in the order of the queue.
    running : int
    left : array of int64, shape (samples, running)
        Seconds until running jobs end; at least 1.
    limit : array of int64, shape (running + waiting,)
        Seconds that limits leave a running job, or give a waiting one; no sample is above.
    run : array of int64, shape (samples, waiting)
    only : int
        Waiting job whose start ends a sample; -1: all are awaited.
    starts : array of int64, shape (samples, waiting)
        Where starts are written; ``NEVER`` where a job never fits, or was not awaited.

    References
    ----------
    Lifka (1995), doi:10.1007/3-540-60153-8_35; Mu'alem, Feitelson (2001),
    doi:10.1109/71.932708.
    """
    samples, waiting = run.shape
    total, kinds = running + waiting, capacity_free.shape[0]
    pieces = 2 * total + 2 if rule == CONSERVATIVE else 1
    line = Line(
        demand, limit, capacity_free.copy(), capacity_free.copy(), capacity_free.copy(),
        np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.int64),
        np.empty(waiting, np.int64),
        np.empty(pieces, np.int64), np.empty((pieces, kinds), np.int64),
    )  # fmt: skip
    for r in range(kinds):
        line.least[r] = demand[running:, r].min() if waiting > 0 else 0
    # Active jobs in the order of their limits, the same in every sample.
    order = np.argsort(limit[:running], kind="mergesort")
    for sample in range(samples):
        starts[sample, :] = NEVER
        copy_into(line.free, capacity_free)
        count, now, length = running, 0, waiting
        for k in range(running):
            job = order[k]
            line.active[k], line.ends[k], line.limits[k] = job, left[sample, job], limit[job]
        for k in range(waiting):
            line.queue[k] = k
        while length > 0:
            if rule == EASY:
                count, length = _start_easy(line, now, run[sample], count, length, starts[sample])
            else:
                count, length = _start_conservative(
                    line, now, run[sample], count, length, starts[sample]
                )
            if only >= 0 and starts[sample, only] < NEVER:
                break
            # What ends first is next; nothing arrives.
            now = _next_end(line, count)
            if now == NEVER:
                break
            count = _release(line, now, count)
