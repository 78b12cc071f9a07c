"""The clock of a replay on nodes: arrivals and ends in turn, then one pass over the queue.

The clock, its places and its states are those of ``replay_machine``; times are int64 seconds,
jobs are numbered in order of submission.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from plancast.planner.arrays import heap
from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.arrays.schedule import FAR
from plancast.planner.worlds.node_machine import (
    RANDOM,
    give_back,
    pieces_that_fit,
    put,
    rate,
    release,
    take,
    wait_for,
    wait_no_more,
)
from plancast.planner.worlds.replay_look_ahead import derive
from plancast.planner.worlds.replay_machine import (
    ARRIVALS,
    ASKED,
    CLOCK,
    ENDED,
    NEXT,
    NOW,
    OVER,
    PASSES,
    PENDING,
    RUNNING,
    WAITING,
)

MIXED = 3
"""State of ``advance``: the mix of jobs is to be renewed, see ``MIX_AT``."""

MIX_AT, UNSORTED, OLDEST = CLOCK, CLOCK + 1, CLOCK + 2
"""Places in the clock behind those of a pool's: how many jobs have arrived when the mix is next
renewed, whether a key of the queue has changed, the first job that is not known to be old."""

NODE_CLOCK = CLOCK + 3

FIRST_COME, WORTH = 0, 1
"""Orders of the queue: by submission; by expected area over the price of waiting."""

NOBODY, HEAD, OLD = 0, 1, 2
"""For whom room is reserved: for none, for the first that finds none, for the first such that has
waited for longer than ``Rules.patience``."""

OLD_KEY = -1e30
"""Keys of old jobs lie near here, before all others'."""


class Jobs(NamedTuple):
    """What is given of jobs.

    Parameters
    ----------
    submit, run, request, kind : int64 (jobs,)
    ptr : int64 (jobs + 1,)
        Job j has the pieces ``ptr[j]:ptr[j + 1]``.
    levels : float64 (levels,)
    settings : float64 (settings,)
        As of ``replay_machine.Jobs``.
    """

    submit: np.ndarray
    run: np.ndarray
    request: np.ndarray
    kind: np.ndarray
    ptr: np.ndarray
    levels: np.ndarray
    settings: np.ndarray


class Live(NamedTuple):
    """What changes, but for the workers; names are those of ``replay_machine.Live``.

    `running` is the heap of true ends: nothing that decides reads its order. `worker` and
    `bits` (devices, as bits) are of pieces, `key` is the order of the queue.
    """

    clock: np.ndarray
    start: np.ndarray
    end: np.ndarray
    estimate: np.ndarray
    quantile: np.ndarray
    mean: np.ndarray
    weight: np.ndarray
    square: np.ndarray
    queue: np.ndarray
    running: np.ndarray
    heap_end: np.ndarray
    ended: np.ndarray
    cpu_us: np.ndarray
    key: np.ndarray
    worker: np.ndarray
    bits: np.ndarray


class Rules(NamedTuple):
    """How a dispatcher decides.

    Parameters
    ----------
    rule : int
        For choosing a worker, of ``node_machine``.
    breaks : int
        Whose fragmentation is kept: 0 nobody's, 1 FGD's, 2 the remainder's.
    order : int
        ``FIRST_COME`` or ``WORTH``.
    reserves : int
        ``NOBODY``, ``HEAD`` or ``OLD``.
    patience : int
        Seconds.
    drops : int
        1: a job that finds no room at its arrival never runs.
    """

    rule: int
    breaks: int
    order: int
    reserves: int
    patience: int
    drops: int


class Shadow(NamedTuple):
    """What is reserved for one job: the state of the workers at the time when it has room.

    Parameters
    ----------
    at : int64 (2,)
        Until when it waits by what is believed, seconds; and its kind, -1 for none.
    free, left
        As of ``Machine``, at that time, with what starts before it and still runs then.
    needs : int64 (workers,)
        How many pieces it will have there.
    refused : int64 (kinds,)
        Shortest estimate of a kind's jobs that found no room beside it in this pass.
    """

    at: np.ndarray
    free: np.ndarray
    left: np.ndarray
    needs: np.ndarray
    refused: np.ndarray


_cpu_us = types.ExternalFunction("clock", types.int64())


@inner
def _key(c, jobs, live, job, r):
    """Where a job stands in the queue, least first."""
    if r.order == FIRST_COME:
        return float(job)
    if live.clock[NOW] - jobs.submit[job] >= r.patience:
        return OLD_KEY + float(job) * 1e15
    area = max(live.mean[job], 1.0) * c.share[jobs.kind[job]]
    return area / max(live.weight[job], 1e-12)


@inner
def _enqueue(c, m, jobs, live, job, r):
    """Queue a job, at the place of its key."""
    if r.order == WORTH:
        derive(jobs, live, job)
    live.key[job] = _key(c, jobs, live, job, r)
    queue, place = live.queue, live.clock[WAITING]
    while place > 0 and live.key[queue[place - 1]] > live.key[job]:
        queue[place] = queue[place - 1]
        place -= 1
    queue[place] = job
    live.clock[WAITING] += 1
    wait_for(c, m, jobs.kind[job])


@inner
def _arrive(c, m, jobs, live, r, n):
    """Queue the jobs that have been submitted by now."""
    clock = live.clock
    while clock[NEXT] < n and jobs.submit[clock[NEXT]] <= clock[NOW]:
        _enqueue(c, m, jobs, live, clock[NEXT], r)
        clock[NEXT] += 1


@inner
def _sort(c, jobs, live, r):
    """Keys anew where they have changed: of renewed forecasts, and of who has become old."""
    clock = live.clock
    old = clock[OLDEST]
    while old < clock[NEXT] and clock[NOW] - jobs.submit[old] >= r.patience:
        if live.start[old] < 0:
            clock[UNSORTED] = 1
        old += 1
    clock[OLDEST] = old
    if clock[UNSORTED] == 0 or r.order == FIRST_COME:
        return
    clock[UNSORTED] = 0
    waiting = clock[WAITING]
    keys = np.empty(waiting)
    for place in range(waiting):
        job = live.queue[place]
        live.key[job] = _key(c, jobs, live, job, r)
        keys[place] = live.key[job]
    order, before = np.argsort(keys, kind="mergesort"), live.queue[:waiting].copy()
    for place in range(waiting):
        live.queue[place] = before[order[place]]


@inner
def _expected_end(jobs, live, job):
    """When a running job is believed to end; one that has overrun at its request, then soon."""
    now = live.clock[NOW]
    end = live.start[job] + max(live.estimate[job], 1)
    if end <= now:
        end = live.start[job] + jobs.request[job]
    return end if end > now else now + 60


@inner
def _reserve(c, m, jobs, live, s, job):
    """Find when and where a job that has no room will have it, by what is believed of the ends."""
    k, running = jobs.kind[job], live.clock[RUNNING]
    # Row by row: numba takes seconds to compile the assignment of one table to another.
    for w in range(m.free.shape[0]):
        copy_into(s.free[w], m.free[w])
        copy_into(s.left[w], m.left[w])
    s.needs[:] = 0
    s.refused[:] = FAR
    ends = np.empty(running, np.int64)
    for place in range(running):
        ends[place] = _expected_end(jobs, live, live.running[place])
    fit, last = m.room[k], -1
    for place in np.argsort(ends, kind="mergesort"):
        other = live.running[place]
        for p in range(jobs.ptr[other], jobs.ptr[other + 1]):
            w = live.worker[p]
            if c.allowed[k, c.group[w]]:
                fit -= pieces_that_fit(c, k, s.free[w], s.left[w])
            give_back(c, jobs.kind[other], s.free[w], s.left[w], live.bits[p])
            if c.allowed[k, c.group[w]]:
                fit += pieces_that_fit(c, k, s.free[w], s.left[w])
        s.at[0], last = ends[place], other
        if fit >= c.pieces[k]:
            break
    s.at[1] = k
    missing = c.pieces[k]
    # First where room came free last: elsewhere less of it stands empty until then.
    for p in range(jobs.ptr[last], jobs.ptr[last + 1]):
        missing -= _needed(c, s, k, live.worker[p], missing)
    for w in range(s.needs.shape[0]):
        missing -= _needed(c, s, k, w, missing)


@inner
def _needed(c, s, k, w, missing):
    """Reserve pieces on a worker, if they fit and it has none yet; how many."""
    if missing == 0 or s.needs[w] > 0 or not c.allowed[k, c.group[w]]:
        return 0
    s.needs[w] = min(missing, pieces_that_fit(c, k, s.free[w], s.left[w]))
    return s.needs[w]


@inner
def _spares(c, s, k, w, device):
    """Whether a piece on a worker leaves what is reserved there, even if it outlasts the wait."""
    if s.needs[w] == 0:
        return True
    bits = put(c, k, s.free[w], s.left[w], device)
    spared = pieces_that_fit(c, s.at[1], s.free[w], s.left[w]) >= s.needs[w]
    give_back(c, k, s.free[w], s.left[w], bits)
    return spared


@inner
def _choose(c, m, s, k, r, outlasts):
    """The best worker for a piece, and the device; -1 where there is none."""
    best, worker, device = np.inf, -1, -1
    remembers = k < m.rating.shape[0] and r.rule != RANDOM
    for w in range(m.version.shape[0]):
        if not c.allowed[k, c.group[w]]:
            continue
        if not remembers:
            rating, d = rate(c, m, k, w, r.rule)
        else:
            if m.stamp[k, w] != m.version[w]:
                m.rating[k, w], m.device[k, w] = rate(c, m, k, w, r.rule)
                m.stamp[k, w] = m.version[w]
            rating, d = m.rating[k, w], m.device[k, w]
        if rating < best and (not outlasts or _spares(c, s, k, w, d)):
            best, worker, device = rating, w, d
    return worker, device


@inner
def _place(c, m, jobs, live, s, job, r):
    """Start a job now if every piece finds a worker; whether it did."""
    k, now = jobs.kind[job], live.clock[NOW]
    outlasts = s.at[1] >= 0 and now + max(live.estimate[job], 1) > s.at[0]
    if outlasts and live.estimate[job] >= s.refused[k]:
        return False
    placed = jobs.ptr[job]
    while placed < jobs.ptr[job + 1]:
        w, device = _choose(c, m, s, k, r, outlasts)
        if w < 0:
            break
        live.worker[placed] = w
        live.bits[placed] = take(c, m, k, w, device, r.breaks)
        if outlasts:
            put(c, k, s.free[w], s.left[w], device)
        placed += 1
    if placed == jobs.ptr[job + 1]:
        return True
    s.refused[k] = live.estimate[job]
    while placed > jobs.ptr[job]:
        placed -= 1
        w, bits = live.worker[placed], live.bits[placed]
        release(c, m, k, w, bits, r.breaks)
        if outlasts:
            give_back(c, k, s.free[w], s.left[w], bits)
    return False


@inner
def _begin(m, jobs, live, job):
    """Count a job that has been placed as running."""
    clock = live.clock
    live.start[job] = clock[NOW]
    live.end[job] = clock[NOW] + jobs.run[job]
    size = clock[RUNNING]
    heap.push(live.heap_end, live.running, live.running, size, live.end[job], job, job)
    clock[RUNNING] = size + 1
    wait_no_more(m, jobs.kind[job])


@inner
def _end_until(c, m, jobs, live, r, moment):
    """End the jobs that end by a moment, in order."""
    while live.clock[RUNNING] > 0 and live.heap_end[0] <= moment:
        job = live.running[0]
        heap.pop(live.heap_end, live.running, live.running, live.clock[RUNNING])
        live.clock[RUNNING] -= 1
        for p in range(jobs.ptr[job], jobs.ptr[job + 1]):
            release(c, m, jobs.kind[job], live.worker[p], live.bits[p], r.breaks)
        live.ended[live.clock[ENDED]] = job
        live.clock[ENDED] += 1


@inner
def _has_room(c, m):
    """Whether a kind that waits has room for a job."""
    for place in range(m.active[-1]):
        if m.room[m.active[place]] >= c.pieces[m.active[place]]:
            return True
    return False


@inner
def _pass(c, m, jobs, live, s, r):
    """Go through the queue once and start what may start."""
    clock, queue = live.clock, live.queue
    kept, waiting, head = 0, clock[WAITING], -1
    s.at[1] = -1
    for place in range(waiting):
        job = queue[place]
        k = jobs.kind[job]
        if m.room[k] >= c.pieces[k]:
            if head >= 0 and s.at[1] < 0:
                _reserve(c, m, jobs, live, s, head)
            if _place(c, m, jobs, live, s, job, r):
                _begin(m, jobs, live, job)
                continue
        queue[kept] = job
        kept += 1
        if head < 0 and (
            r.reserves == HEAD
            or (r.reserves == OLD and clock[NOW] - jobs.submit[job] >= r.patience)
        ):
            head = job
    if r.drops:
        for place in range(kept):
            wait_no_more(m, jobs.kind[queue[place]])
        kept = 0
    clock[WAITING] = kept


@kernel
def advance(c, m, jobs, live, s, r, source):
    """Go on until the log is over, or something is wanted.

    Parameters
    ----------
    c, m, jobs, live, s, r : Cluster, Machine, Jobs, Live, Shadow, Rules
    source : int
        ``GIVEN`` or ``ASKED``, as of ``replay_kernel.advance``.

    Returns
    -------
    int
        ``OVER``; ``ARRIVALS``: jobs from ``clock[NEXT]`` on are submitted at
        ``clock[NOW]`` and their estimates are to be filled in; ``MIXED``: as many jobs as
        ``clock[MIX_AT]`` have arrived, and the mix is to be renewed.

    Notes
    -----
    At one instant ends come before arrivals, then one pass.
    """
    clock, n = live.clock, live.estimate.shape[0]
    while True:
        if clock[PENDING] == 0:
            arrival = jobs.submit[clock[NEXT]] if clock[NEXT] < n else FAR
            now = min(arrival, live.heap_end[0] if clock[RUNNING] > 0 else FAR)
            if now >= FAR:
                return OVER
            clock[NOW] = max(clock[NOW], now)
            _end_until(c, m, jobs, live, r, now)
            clock[PENDING] = 1
            if arrival <= now and source == ASKED:
                return ARRIVALS
        began = _cpu_us()
        if clock[PENDING] == 1:
            _arrive(c, m, jobs, live, r, n)
            clock[PENDING] = 2
            if r.breaks > 0 and clock[NEXT] >= clock[MIX_AT]:
                return MIXED
        clock[PENDING] = 0
        if clock[WAITING] > 0:
            _sort(c, jobs, live, r)
            if r.drops or _has_room(c, m):
                _pass(c, m, jobs, live, s, r)
        if clock[PASSES] < live.cpu_us.shape[0]:
            live.cpu_us[clock[PASSES]] = _cpu_us() - began
        clock[PASSES] += 1
