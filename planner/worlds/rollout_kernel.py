"""A queue rolled forward under a discipline, many samples of its run times at a time.

Nothing arrives: what is rolled forward is what is known now. Times are int64 seconds from now.
A job holds a vector of resources of one pool; the machine's nodes are not distinguished.
"""

from __future__ import annotations

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


@inner
def _hold(job, end, limit_end, demand, free, active, ends, limits, count):
    """Start a job: active jobs stay sorted by the end that their limits allow."""
    k = count
    while k > 0 and limits[k - 1] > limit_end:
        active[k], ends[k], limits[k] = active[k - 1], ends[k - 1], limits[k - 1]
        k -= 1
    active[k], ends[k], limits[k] = job, end, limit_end
    for r in range(free.shape[0]):
        free[r] -= demand[job, r]


@inner
def _release(now, demand, free, active, ends, limits, count):
    """End what ends by now; the new number of active jobs."""
    kept = 0
    for k in range(count):
        if ends[k] <= now:
            for r in range(free.shape[0]):
                free[r] += demand[active[k], r]
            continue
        active[kept], ends[kept], limits[kept] = active[k], ends[k], limits[k]
        kept += 1
    return kept


@inner
def _shadow(head, demand, free, active, limits, count, spare):
    """When the head of the queue can start by the limits; `spare` is what is over then."""
    shadow, found = NEVER, _fits(demand, head, free)
    for r in range(free.shape[0]):
        spare[r] = free[r] - demand[head, r]
    for k in range(count):
        if found and limits[k] > shadow:
            break
        fits = True
        for r in range(spare.shape[0]):
            spare[r] += demand[active[k], r]
            fits = fits and spare[r] >= 0
        if not found:
            found = fits
            if found:
                shadow = limits[k]
    if not found:
        spare[:] = 0
    return shadow


@kernel
def roll_easy(capacity_free, demand, running, left, limit, run, only, starts):
    """Roll a queue forward under EASY until all jobs (or one) have started.

    Parameters
    ----------
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
    total = running + waiting
    active, ends = np.empty(total, np.int64), np.empty(total, np.int64)
    limits, queue = np.empty(total, np.int64), np.empty(waiting, np.int64)
    free, spare = capacity_free.copy(), capacity_free.copy()
    least = free.copy()
    for r in range(len(free)):
        least[r] = demand[running:, r].min() if waiting > 0 else 0
    # Active jobs in the order of their limits, the same in every sample.
    order = np.argsort(limit[:running], kind="mergesort")
    for sample in range(samples):
        starts[sample, :] = NEVER
        copy_into(free, capacity_free)
        count, now, length = running, 0, waiting
        for k in range(running):
            job = order[k]
            active[k], ends[k], limits[k] = job, left[sample, job], limit[job]
        for k in range(waiting):
            queue[k] = k
        while length > 0:
            first = 0
            while first < length and _fits(demand, running + queue[first], free):
                j = queue[first]
                job = running + j
                starts[sample, j] = now
                _hold(job, now + run[sample, j], now + limit[job], demand, free, active, ends,
                      limits, count)  # fmt: skip
                count += 1
                first += 1
            kept = 0
            if first < length:
                shadow = _shadow(running + queue[first], demand, free, active, limits, count, spare)
                queue[0] = queue[first]
                kept = 1
                for k in range(first + 1, length):
                    j = queue[k]
                    if not _some_fit(least, free):
                        queue[kept] = j
                        kept += 1
                        continue
                    job = running + j
                    starting = _fits(demand, job, free)
                    if starting and now + limit[job] > shadow:
                        starting = _fits(demand, job, spare)
                        if starting:
                            for r in range(spare.shape[0]):
                                spare[r] -= demand[job, r]
                    if not starting:
                        queue[kept] = j
                        kept += 1
                        continue
                    starts[sample, j] = now
                    _hold(job, now + run[sample, j], now + limit[job], demand, free, active, ends,
                          limits, count)  # fmt: skip
                    count += 1
            length = kept
            if only >= 0 and starts[sample, only] < NEVER:
                break
            # What ends first is next; nothing arrives.
            soonest = NEVER
            for k in range(count):
                soonest = min(soonest, ends[k])
            if soonest == NEVER:
                break
            now = soonest
            count = _release(now, demand, free, active, ends, limits, count)


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
def _profile(now, demand, free, active, limits, count, times, there):
    """What is free from now on, by the limits of what runs; the number of its pieces."""
    pieces = 1
    times[0], there[0] = now, free
    for k in range(count):
        if limits[k] > times[pieces - 1]:
            times[pieces], there[pieces] = limits[k], there[pieces - 1]
            pieces += 1
        for r in range(free.shape[0]):
            there[pieces - 1, r] += demand[active[k], r]
    return pieces


@kernel
def roll_conservative(capacity_free, demand, running, left, limit, run, only, starts):
    """The same under conservative backfilling: nobody is delayed by who overtakes.

    At each end the queue is laid out in order, each job at its earliest by the limits of all,
    and what begins now starts.

    Parameters
    ----------
    capacity_free, demand, running, left, limit, run, only, starts
        As of ``roll_easy``.

    References
    ----------
    Mu'alem, Feitelson (2001), doi:10.1109/71.932708.
    """
    samples, waiting = run.shape
    total, kinds = running + waiting, capacity_free.shape[0]
    active, ends = np.empty(total, np.int64), np.empty(total, np.int64)
    limits, queue = np.empty(total, np.int64), np.empty(waiting, np.int64)
    times = np.empty(2 * total + 2, np.int64)
    there = np.empty((2 * total + 2, kinds), np.int64)
    free, least = capacity_free.copy(), capacity_free.copy()
    for r in range(kinds):
        least[r] = demand[running:, r].min() if waiting > 0 else 0
    order = np.argsort(limit[:running], kind="mergesort")
    for sample in range(samples):
        starts[sample, :] = NEVER
        copy_into(free, capacity_free)
        count, now, length = running, 0, waiting
        for k in range(running):
            job = order[k]
            active[k], ends[k], limits[k] = job, left[sample, job], limit[job]
        for k in range(waiting):
            queue[k] = k
        while length > 0:
            pieces = _profile(now, demand, free, active, limits, count, times, there)
            kept = 0
            for k in range(length):
                j = queue[k]
                job = running + j
                # Where the least of demands is not free nothing more begins now.
                at = NEVER
                if _some_fit(least, free):
                    at = _earliest(job, limit[job], demand, times, there, pieces)
                if at < NEVER:
                    first, pieces = _cut(at, times, there, pieces)
                    last, pieces = _cut(at + limit[job], times, there, pieces)
                    for piece in range(first, last):
                        for r in range(kinds):
                            there[piece, r] -= demand[job, r]
                if at > now:
                    queue[kept] = j
                    kept += 1
                    continue
                starts[sample, j] = now
                _hold(job, now + run[sample, j], now + limit[job], demand, free, active, ends,
                      limits, count)  # fmt: skip
                count += 1
            length = kept
            if only >= 0 and starts[sample, only] < NEVER:
                break
            soonest = NEVER
            for k in range(count):
                soonest = min(soonest, ends[k])
            if soonest == NEVER:
                break
            now = soonest
            count = _release(now, demand, free, active, ends, limits, count)


@kernel
def roll_under(rule, capacity_free, demand, running, left, limit, run, only, starts):
    """Roll a queue forward under a discipline, `EASY` or `CONSERVATIVE`; see ``roll_easy``."""
    if rule == EASY:
        roll_easy(capacity_free, demand, running, left, limit, run, only, starts)
    else:
        roll_conservative(capacity_free, demand, running, left, limit, run, only, starts)
