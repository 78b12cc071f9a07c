"""A cluster under an event-driven dispatcher: what runs, ends, arrives, fails, and what starts.

The same kernel carries the truth out and looks ahead: whoever calls it says how long tasks really
run (``actual``) and what the dispatcher believes (``estimate``); what starts depends on the second
alone, and on what has happened so far.

Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel

FAR = 1 << 50

WAITING, RUNNING, ENDED = 0, 1, 2
"""States of a task; before its release a task waits without being known."""

NOW, ARRIVED, OUTAGES, WINDOWS, RESTARTS, LOST_S = range(6)
"""Places in ``Live.clock``: the clock, how many of each list have been met, pieces of work
that were lost to failures, and the seconds they had run."""


class Cluster(NamedTuple):
    """What does not change during an execution.

    Parameters
    ----------
    capacity : int64 (workers, resources)
    worker_class : int64 (workers,)
    demand : int64 (tasks, resources)
    kind : int64 (tasks,)
    allowed : bool (kinds, workers)
    shards, shard_ptr : int64 (tasks,), (tasks + 1,)
    release : int64 (tasks,)
    arrivals : int64 (tasks,)
        Tasks in order of release.
    pred_ptr, pred, succ_ptr, succ : int64
        Precedence in CSR form, both ways.
    shut_worker, shut_start, shut_end : int64 (windows,)
        Known windows in which a worker takes nothing, by end.
    outage_at, outage_worker, outage_back : int64 (outages,)
        When a worker goes, which, and when it is back; by time. Nobody knows before.
    outage_kills : bool (outages,)
        A failure kills what runs; a drain lets it end.
    """

    capacity: np.ndarray
    worker_class: np.ndarray
    demand: np.ndarray
    kind: np.ndarray
    allowed: np.ndarray
    shards: np.ndarray
    shard_ptr: np.ndarray
    release: np.ndarray
    arrivals: np.ndarray
    pred_ptr: np.ndarray
    pred: np.ndarray
    succ_ptr: np.ndarray
    succ: np.ndarray
    shut_worker: np.ndarray
    shut_start: np.ndarray
    shut_end: np.ndarray
    outage_at: np.ndarray
    outage_worker: np.ndarray
    outage_back: np.ndarray
    outage_kills: np.ndarray


class Rules(NamedTuple):
    """How a dispatcher decides.

    Parameters
    ----------
    rank : float64 (tasks,)
        Order of the queue, least first; ties go to the lower index.
    home : int64 (pieces,)
        The worker that a plan gave each piece, -1 for none.
    row : int64 (tasks,)
        Row of `rate`.
    rate : float64 (rows, workers)
        How costly a worker is for tasks of a row against the cheapest for them, which has 0.
    bound : bool
        Only on its home, and on each worker in the order of `rank`.
    kin : float
        Where it is finite the queue is gone through twice: first for workers of a rate up to it,
        so that these serve what suits them before they serve others.
    price, spread : float
        Score of a worker, least wins: ``price x rate + spread x free after``.
    """

    rank: np.ndarray
    home: np.ndarray
    row: np.ndarray
    rate: np.ndarray
    bound: bool
    kin: float
    price: float
    spread: float


class Live(NamedTuple):
    """What changes.

    Parameters
    ----------
    clock : int64 (6,)
    free : int64 (workers, resources)
    state : int64 (tasks,)
    missing : int64 (tasks,)
        Predecessors that have not ended.
    start, end : int64 (tasks,)
        `end` is the truth's; nothing that decides reads it.
    worker : int64 (pieces,)
    head : int64 (workers,)
        First running piece on each worker, -1 for none.
    following : int64 (pieces,)
    back : int64 (workers,)
        Until when a worker is out.
    running : int64 (tasks + 1,)
        Running tasks in the first places; the last holds their number.
    """

    clock: np.ndarray
    free: np.ndarray
    state: np.ndarray
    missing: np.ndarray
    start: np.ndarray
    end: np.ndarray
    worker: np.ndarray
    head: np.ndarray
    following: np.ndarray
    back: np.ndarray
    running: np.ndarray


class Look(NamedTuple):
    """What one pass over the queue knows and notes.

    Parameters
    ----------
    now : int
    estimate : int64 (tasks, classes)
    taken : bool (workers,)
        Whether a worker waits for an earlier task of a plan.
    """

    now: int
    estimate: np.ndarray
    taken: np.ndarray


@kernel
def copy_of(s):
    """A state that may be changed without changing `s`."""
    return Live(
        s.clock.copy(), s.free.copy(), s.state.copy(), s.missing.copy(), s.start.copy(),
        s.end.copy(), s.worker.copy(), s.head.copy(), s.following.copy(), s.back.copy(),
        s.running.copy(),
    )  # fmt: skip


@kernel
def begin(c, s, i, start, end):
    """Let task i run over [start, end) on its workers, already in ``s.worker``."""
    s.state[i], s.start[i], s.end[i] = RUNNING, start, end
    s.running[s.running[-1]] = i
    s.running[-1] += 1
    for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
        w = s.worker[p]
        s.free[w] -= c.demand[i]
        s.following[p] = s.head[w]
        s.head[w] = p


@inner
def _leave(c, s, i, changed):
    """Take task i off its workers."""
    for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
        w = s.worker[p]
        changed[w] = True
        s.free[w] += c.demand[i]
        if s.head[w] == p:
            s.head[w] = s.following[p]
        else:
            q = s.head[w]
            while s.following[q] != p:
                q = s.following[q]
            s.following[q] = s.following[p]
        s.following[p] = -1


@inner
def _longest(c, s, i, seconds):
    """The longest of a task's pieces on its workers: a gang ends with the slowest."""
    longest = 1
    for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
        longest = max(longest, seconds[i, c.worker_class[s.worker[p]]])
    return longest


@inner
def _fits(free, demand):
    for q in range(free.shape[0]):  # noqa: SIM110 (numba)
        if free[q] < demand[q]:
            return False
    return True


@inner
def _meets_window(c, w, start, end):
    """Whether [start, end) meets a known window in which worker w takes nothing."""
    for k in range(c.shut_worker.shape[0]):
        if c.shut_worker[k] == w and c.shut_start[k] < end and start < c.shut_end[k]:
            return True
    return False


@inner
def _free_after(c, s, i, w):
    """What worker w has left beside a piece of task i, as a share of its capacity."""
    total, counted = 0.0, 0
    for q in range(c.capacity.shape[1]):
        if c.capacity[w, q] > 0:
            total += (s.free[w, q] - c.demand[i, q]) / c.capacity[w, q]
            counted += 1
    return total / max(1, counted)


@inner
def _may_start(c, s, k, i, w):
    """Whether a piece of task i may start on worker w: it is in, has room, and no window nears."""
    if s.back[w] > k.now or not _fits(s.free[w], c.demand[i]):
        return False
    finish = k.now + k.estimate[i, c.worker_class[w]]
    return c.shut_worker.shape[0] == 0 or not _meets_window(c, w, k.now, finish)


@inner
def _choose(c, r, s, k, i, limit, looked_at):
    """The best worker of `looked_at` on which a piece of task i may start, or -1."""
    kind, row = c.kind[i], r.row[i]
    best, choice = np.inf, -1
    for w in looked_at:
        if not c.allowed[kind, w] or k.estimate[i, c.worker_class[w]] <= 0:
            continue
        if r.rate[row, w] > limit or not _may_start(c, s, k, i, w):
            continue
        score = r.price * r.rate[row, w]
        if r.spread != 0.0:
            score += r.spread * _free_after(c, s, i, w)
        if score < best:
            best, choice = score, w
    return choice


@inner
def _place(c, r, s, k, i, limit, looked_at):
    """Choose a worker for every piece of task i, into ``s.worker``; whether all found one."""
    first, last = c.shard_ptr[i], c.shard_ptr[i + 1]
    placed = first
    while placed < last:
        w = -1
        if not r.bound:
            w = _choose(c, r, s, k, i, limit, looked_at)
        elif not k.taken[r.home[placed]] and _may_start(c, s, k, i, r.home[placed]):
            w = r.home[placed]
        if w < 0:
            break
        s.worker[placed] = w
        s.free[w] -= c.demand[i]  # so that the pieces of a gang see one another
        placed += 1
    for p in range(first, placed):
        s.free[s.worker[p]] += c.demand[i]
    if placed < last:
        s.worker[first:last] = -1
    return placed == last


@inner
def _turn(c, r, s, k, queue, waiting, fresh, some, limit, last, actual):
    """Go through the queue once, taking workers of a rate up to `limit`; how many still wait."""
    every = np.arange(s.back.shape[0])
    missing, release, free, demand = s.missing, c.release, s.free, c.demand
    allowed, kind, row, rate, bound, gang = c.allowed, c.kind, r.row, r.rate, r.bound, c.shards
    taken, home, shard_ptr = k.taken, r.home, c.shard_ptr
    kept = 0
    for place in range(waiting):
        i = queue[place]
        ready = missing[i] == 0 and release[i] <= k.now
        room = ready
        # Most have room nowhere: seen here, since handing over tuples of arrays costs ten times
        # what the question costs.
        if room and bound:
            room = not taken[home[shard_ptr[i]]]
        elif room and not fresh[i]:
            room = False
            for w in some:
                if allowed[kind[i], w] and rate[row[i], w] <= limit and _fits(free[w], demand[i]):
                    room = True
                    break
        if room and _place(c, r, s, k, i, limit, every if fresh[i] or gang[i] > 1 else some):
            begin(c, s, i, k.now, k.now + _longest(c, s, i, actual))
            continue
        queue[kept] = i
        kept += 1
        if bound:
            for p in range(shard_ptr[i], shard_ptr[i + 1]):
                taken[home[p]] = True
        elif ready and last:
            fresh[i] = False
    return kept


@inner
def scan(c, r, s, queue, waiting, fresh, changed, estimate, actual):
    """Start what may start now; how many still wait.

    A task that found no room before is looked at only on workers where something changed, a
    `fresh` one on all: elsewhere nothing can have become possible. Of a gang, one piece at least
    needs such a worker.
    """
    look = Look(s.clock[NOW], estimate, np.zeros(s.back.shape[0], np.bool_))
    some = np.flatnonzero(changed)
    if r.kin < np.inf and not r.bound:
        waiting = _turn(c, r, s, look, queue, waiting, fresh, some, r.kin, np.bool_(False), actual)
    return _turn(c, r, s, look, queue, waiting, fresh, some, np.inf, np.bool_(True), actual)


@inner
def _next_moment(c, s):
    """When something happens next."""
    now = s.clock[NOW]
    moment = FAR
    for k in range(s.running[-1]):
        moment = min(moment, s.end[s.running[k]])
    if s.clock[ARRIVED] < c.arrivals.shape[0]:
        moment = min(moment, c.release[c.arrivals[s.clock[ARRIVED]]])
    if s.clock[OUTAGES] < c.outage_at.shape[0]:
        moment = min(moment, c.outage_at[s.clock[OUTAGES]])
    if s.clock[WINDOWS] < c.shut_end.shape[0]:
        moment = min(moment, c.shut_end[s.clock[WINDOWS]])
    for w in range(s.back.shape[0]):
        if s.back[w] > now:
            moment = min(moment, s.back[w])
    return moment


@inner
def _advance(c, s, moment, fresh, changed):
    """Go to a moment and let everything of it happen; how many tasks ended, arrived, were lost."""
    before = s.clock[NOW]
    s.clock[NOW] = moment
    found, kept = 0, 0
    for k in range(s.running[-1]):
        i = s.running[k]
        if s.end[i] > moment:
            s.running[kept] = i
            kept += 1
            continue
        s.state[i] = ENDED
        found += 1
        _leave(c, s, i, changed)
        for p in range(c.succ_ptr[i], c.succ_ptr[i + 1]):
            j = c.succ[p]
            s.missing[j] -= 1
            if s.missing[j] == 0:
                fresh[j] = True
    s.running[-1] = kept
    for w in range(s.back.shape[0]):
        if before < s.back[w] <= moment:
            changed[w] = True
    while s.clock[WINDOWS] < c.shut_end.shape[0] and c.shut_end[s.clock[WINDOWS]] <= moment:
        changed[c.shut_worker[s.clock[WINDOWS]]] = True
        s.clock[WINDOWS] += 1
    while s.clock[ARRIVED] < c.arrivals.shape[0]:
        i = c.arrivals[s.clock[ARRIVED]]
        if c.release[i] > moment:
            break
        fresh[i] = True
        found += 1
        s.clock[ARRIVED] += 1
    while s.clock[OUTAGES] < c.outage_at.shape[0] and c.outage_at[s.clock[OUTAGES]] <= moment:
        found += _go_out(c, s, s.clock[OUTAGES], fresh, changed)
        s.clock[OUTAGES] += 1
    return found


@inner
def _go_out(c, s, k, fresh, changed):
    """Worker k of the outages goes; how many tasks it takes with it, to start anew."""
    w = c.outage_worker[k]
    s.back[w] = max(s.back[w], c.outage_back[k])
    if not c.outage_kills[k]:
        return 0
    lost, kept = 0, 0
    for j in range(s.running[-1]):
        i = s.running[j]
        hit = False
        for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
            hit = hit or s.worker[p] == w
        if not hit:
            s.running[kept] = i
            kept += 1
            continue
        _leave(c, s, i, changed)
        s.clock[RESTARTS] += 1
        s.clock[LOST_S] += s.clock[NOW] - s.start[i]
        s.state[i], s.start[i], s.end[i] = WAITING, FAR, FAR
        fresh[i] = True
        lost += 1
    s.running[-1] = kept
    return lost


@kernel
def run(c, r, s, estimate, actual, pause):
    """Dispatch from the moment of a state on.

    Parameters
    ----------
    c, r, s : Cluster, Rules, Live
        `s` is changed in place.
    estimate, actual : int64 (tasks, classes)
        What is believed and what is true; 0 in `estimate` where a class is not eligible.
    pause : int
        Return once this many tasks have ended, arrived or been lost, before anything starts
        at that moment, so that whoever calls may think anew.

    Returns
    -------
    bool
        Whether anything can still happen. If not, what still waits never starts.
    """
    tasks, workers = s.state.shape[0], s.back.shape[0]
    queue = np.argsort(r.rank, kind="mergesort")
    waiting = np.int64(0)  # not a literal, for which numba would compile `scan` once more
    for k in range(tasks):
        if s.state[queue[k]] == WAITING:
            queue[waiting] = queue[k]
            waiting += 1
    fresh = np.ones(tasks, np.bool_)
    changed = np.ones(workers, np.bool_)
    found = 0
    lost = s.clock[RESTARTS]
    while True:
        if s.clock[RESTARTS] > lost:  # what was lost waits again, in its place of the queue
            lost = s.clock[RESTARTS]
            queue = np.argsort(r.rank, kind="mergesort")
            waiting = np.int64(0)
            for k in range(tasks):
                if s.state[queue[k]] == WAITING:
                    queue[waiting] = queue[k]
                    waiting += 1
        waiting = scan(c, r, s, queue, waiting, fresh, changed, estimate, actual)
        changed[:] = False
        if waiting == 0 and s.running[-1] == 0:
            return False
        moment = _next_moment(c, s)
        if moment >= FAR:
            return False
        found += _advance(c, s, moment, fresh, changed)
        if found >= pause:
            return True
