"""A cluster under an event-driven dispatcher: what runs, ends, arrives, fails, and what starts.

The same kernel
carries the truth out and looks ahead: whoever calls it says how long tasks really run
(``actual``) and what the dispatcher believes (``estimate``); what starts depends on the
second alone, and on what has happened so far.

Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel

FAR = 1 << 50

WAITING, RUNNING, ENDED = 0, 1, 2
"""States of a task; before its release a task waits without being known."""

NOW, ARRIVED, OUTAGES, WINDOWS, RESTARTS, LOST_S, HOLDS = range(7)
"""Places in ``Live.clock``: the clock, how many of each list have been met, pieces of work
that were lost to failures, the seconds they had run, and how many workers are held."""

MEAN_FREE, LEAST_FREE, MOST_FREE = 0, 1, 2
"""How a placer measures what a worker has left after a task: the mean over resources, the
least, the most."""


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
    most_holds : int
        How many workers may be held for tasks that found no room; 0 for none.
    in_order : bool
        Nothing overtakes the first task that finds no room.
    kin, costliest : float
        Workers of a `rate` above `costliest` are not taken. Where `kin` is below it the queue is
        gone through twice: first for workers of a rate up to `kin`, so that these serve what
        suits them before they serve others.
    price, spread, stick : float
        Score of a worker, least wins: ``price x rate + spread x free after + stick [not home]``.
    measure : int
        Of what is free: ``MEAN_FREE``, ``LEAST_FREE`` or ``MOST_FREE``.
    """

    rank: np.ndarray
    home: np.ndarray
    row: np.ndarray
    rate: np.ndarray
    bound: bool
    most_holds: int
    in_order: bool
    kin: float
    costliest: float
    price: float
    spread: float
    stick: float
    measure: int


class Live(NamedTuple):
    """What changes.

    Parameters
    ----------
    clock : int64 (7,)
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
    hold : int64 (workers,)
        The task for which a worker is held, -1 for none.
    held : int64 (tasks,)
        How many workers are held for it.
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
    hold: np.ndarray
    held: np.ndarray
    back: np.ndarray
    running: np.ndarray


class Look(NamedTuple):
    """What one pass over the queue knows and notes.

    Parameters
    ----------
    now : int
    task_of : int64 (pieces,)
    estimate : int64 (tasks, classes)
    shadow : int64 (workers,)
        When the task that each worker is held for has room, -1 where not yet asked.
    beside : int64 (workers, resources)
        What is then left beside it.
    ends, gives : int64 (tasks,)
        Scratch: believed ends on one worker, and whose they are.
    left : int64 (resources,)
        Scratch.
    taken : bool (workers,)
        Whether a worker waits for an earlier task of a plan.
    """

    now: int
    task_of: np.ndarray
    estimate: np.ndarray
    shadow: np.ndarray
    beside: np.ndarray
    ends: np.ndarray
    gives: np.ndarray
    left: np.ndarray
    taken: np.ndarray


@kernel
def copy_of(s):
    """A state that may be changed without changing `s`."""
    return Live(
        s.clock.copy(), s.free.copy(), s.state.copy(), s.missing.copy(), s.start.copy(),
        s.end.copy(), s.worker.copy(), s.head.copy(), s.following.copy(), s.hold.copy(),
        s.held.copy(), s.back.copy(), s.running.copy(),
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
    if s.held[i] > 0:
        s.clock[HOLDS] -= s.held[i]
        s.held[i] = 0
        for w in range(s.hold.shape[0]):
            if s.hold[w] == i:
                s.hold[w] = -1


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
def believed_end(c, s, i, estimate, now):
    """When a running task is believed to end; one that has overrun, in as long again."""
    end = s.start[i] + _longest(c, s, i, estimate)
    return end if end > now else now + max(1, now - s.start[i])


@inner
def _fits(free, demand):
    for q in range(free.shape[0]):  # noqa: SIM110 (numba)
        if free[q] < demand[q]:
            return False
    return True


@inner
def _room_at(c, s, k, i, w):
    """When a piece of task i has room on worker w; what is then left beside it, in ``k.left``."""
    ends, gives, left = k.ends, k.gives, k.left
    for r in range(left.shape[0]):
        left[r] = s.free[w, r] - c.demand[i, r]
    filled = 0
    q = s.head[w]
    while q >= 0:
        j = k.task_of[q]
        end = believed_end(c, s, j, k.estimate, k.now)
        place = filled
        while place > 0 and ends[place - 1] > end:
            ends[place], gives[place] = ends[place - 1], gives[place - 1]
            place -= 1
        ends[place], gives[place] = end, j
        filled += 1
        q = s.following[q]
    at, place = max(k.now, s.back[w]), 0
    while True:
        while place < filled and ends[place] <= at:
            for r in range(left.shape[0]):
                left[r] += c.demand[gives[place], r]
            place += 1
        fits = True
        for r in range(left.shape[0]):
            fits = fits and left[r] >= 0
        if fits:
            return at
        if place >= filled:
            return FAR
        at = ends[place]


@inner
def _meets_window(c, w, start, end):
    """Whether [start, end) meets a known window in which worker w takes nothing."""
    for k in range(c.shut_worker.shape[0]):
        if c.shut_worker[k] == w and c.shut_start[k] < end and start < c.shut_end[k]:
            return True
    return False


@inner
def _free_after(c, s, i, w, measure):
    """What worker w has left beside a piece of task i, as a share of its capacity."""
    total, least, most, counted = 0.0, 1.0, 0.0, 0
    for q in range(c.capacity.shape[1]):
        if c.capacity[w, q] > 0:
            part = (s.free[w, q] - c.demand[i, q]) / c.capacity[w, q]
            total += part
            least, most = min(least, part), max(most, part)
            counted += 1
    if measure == LEAST_FREE:
        return least
    if measure == MOST_FREE:
        return most
    return total / max(1, counted)


@inner
def _may_start(c, r, s, k, i, w):
    """Whether a piece of task i may start on worker w: room, windows, and who it is held for."""
    if s.back[w] > k.now or not _fits(s.free[w], c.demand[i]):
        return False
    finish = k.now + k.estimate[i, c.worker_class[w]]
    if c.shut_worker.shape[0] > 0 and _meets_window(c, w, k.now, finish):
        return False
    h = s.hold[w]
    if h < 0 or h == i or r.rank[h] > r.rank[i] or (r.rank[h] == r.rank[i] and h > i):
        return True
    if k.shadow[w] < 0:
        k.shadow[w] = _room_at(c, s, k, h, w)
        k.beside[w] = k.left
    return finish <= k.shadow[w] or _fits(k.beside[w], c.demand[i])


@inner
def _choose(c, r, s, k, i, piece, limit, looked_at):
    """The best worker of `looked_at` on which a piece of task i may start, or -1."""
    kind, row = c.kind[i], r.row[i]
    best, choice = np.inf, -1
    for w in looked_at:
        if not c.allowed[kind, w] or k.estimate[i, c.worker_class[w]] <= 0:
            continue
        if r.rate[row, w] > limit or not _may_start(c, r, s, k, i, w):
            continue
        score = r.price * r.rate[row, w]
        if r.spread != 0.0:
            score += r.spread * _free_after(c, s, i, w, r.measure)
        if w != r.home[piece]:
            score += r.stick
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
            w = _choose(c, r, s, k, i, placed, limit, looked_at)
        elif not k.taken[r.home[placed]] and _may_start(c, r, s, k, i, r.home[placed]):
            w = r.home[placed]
        if w < 0:
            break
        s.worker[placed] = w
        s.free[w] -= c.demand[i]  # so that the pieces of a gang see one another
        k.beside[w] -= c.demand[i]
        placed += 1
    for p in range(first, placed):
        s.free[s.worker[p]] += c.demand[i]
        k.beside[s.worker[p]] += c.demand[i]
    if placed < last:
        s.worker[first:last] = -1
    return placed == last


@inner
def _hold_for(c, r, s, k, i):
    """Hold a worker for each piece of task i: its home, else where it has room first."""
    kind, row = c.kind[i], r.row[i]
    for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
        w = r.home[p]
        if w < 0 or s.hold[w] >= 0 or not c.allowed[kind, w] or s.back[w] > k.now:
            w, first = -1, FAR
            for v in range(s.hold.shape[0]):
                if s.hold[v] >= 0 or not c.allowed[kind, v] or r.rate[row, v] > r.costliest:
                    continue
                if k.estimate[i, c.worker_class[v]] <= 0:
                    continue
                at = _room_at(c, s, k, i, v)
                if at < first:
                    w, first = v, at
        if w >= 0:
            s.hold[w] = i
            s.held[i] += 1
            s.clock[HOLDS] += 1
            k.shadow[w] = -1


@inner
def _turn(c, r, s, k, queue, waiting, fresh, some, limit, last, actual):
    """Go through the queue once, taking workers of a rate up to `limit`; how many still wait."""
    every = np.arange(s.hold.shape[0])
    missing, release, free, demand = s.missing, c.release, s.free, c.demand
    allowed, kind, row, rate, bound, gang = c.allowed, c.kind, r.row, r.rate, r.bound, c.shards
    kept, blocked = 0, False
    for place in range(waiting):
        i = queue[place]
        ready = missing[i] == 0 and release[i] <= k.now
        room = ready and not blocked
        if room and not bound and not fresh[i]:
            # Most have room nowhere: seen here, since handing over tuples of arrays costs
            # ten times what the question costs.
            room = False
            for w in some:
                if allowed[kind[i], w] and rate[row[i], w] <= limit and _fits(free[w], demand[i]):
                    room = True
                    break
        if room and _place(c, r, s, k, i, limit, every if fresh[i] or gang[i] > 1 else some):
            begin(c, s, i, k.now, k.now + _longest(c, s, i, actual))
            for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
                k.shadow[s.worker[p]] = -1
            continue
        queue[kept] = i
        kept += 1
        if bound:
            for p in range(c.shard_ptr[i], c.shard_ptr[i + 1]):
                k.taken[r.home[p]] = True
        elif ready and last and not blocked:
            fresh[i] = False
            blocked = r.in_order
            if s.held[i] == 0 and s.clock[HOLDS] + c.shards[i] <= r.most_holds:
                _hold_for(c, r, s, k, i)
    return kept


@inner
def scan(c, r, s, task_of, queue, waiting, fresh, changed, estimate, actual):
    """Start what may start now; how many still wait.

    A task that found no room before is looked at only on workers where something changed
    or that are held, a `fresh` one on all: elsewhere nothing can have become possible. Of a
    gang, one piece at least needs such a worker.
    """
    workers, tasks = s.hold.shape[0], s.state.shape[0]
    look = Look(
        s.clock[NOW], task_of, estimate, np.full(workers, -1, np.int64),
        np.zeros(s.free.shape, np.int64), np.zeros(tasks, np.int64),
        np.zeros(tasks, np.int64), np.zeros(s.free.shape[1], np.int64),
        np.zeros(workers, np.bool_),
    )  # fmt: skip
    some = np.flatnonzero(changed | (s.hold >= 0))
    if r.kin < r.costliest and not r.bound and not r.in_order:
        waiting = _turn(c, r, s, look, queue, waiting, fresh, some, r.kin, np.bool_(False), actual)
    return _turn(c, r, s, look, queue, waiting, fresh, some, r.costliest, np.bool_(True), actual)


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
    if s.hold[w] >= 0:
        s.held[s.hold[w]] -= 1
        s.clock[HOLDS] -= 1
        s.hold[w] = -1
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
def run(c, r, s, task_of, estimate, actual, pause):
    """Dispatch from the moment of a state on.

    Parameters
    ----------
    c, r, s : Cluster, Rules, Live
        `s` is changed in place.
    task_of : int64 (pieces,)
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
    tasks, workers = s.state.shape[0], s.hold.shape[0]
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
        waiting = scan(c, r, s, task_of, queue, waiting, fresh, changed, estimate, actual)
        changed[:] = False
        if waiting == 0 and s.running[-1] == 0:
            return False
        moment = _next_moment(c, s)
        if moment >= FAR:
            return False
        found += _advance(c, s, moment, fresh, changed)
        if found >= pause:
            return True
