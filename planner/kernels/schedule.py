"""List scheduling on resource profiles, and the price of a schedule.

One family in one file: numba's cache does not see changes in other files.

A *profile* tells what is free on each worker over time: ``times[w, k]`` is the start of
segment k, ``free[w, k, r]`` what is free of resource r in it (-1 everywhere in it: the
worker takes nothing), ``count[w]`` the number of segments; the last one lasts for ever.
Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

FAR = 1 << 50

# Rules for the choice of a worker.
EARLIEST_END = 0
LEAST_COST = 1


@njit(cache=True)
def latest_start(hard_end, last_start, release, max_stretch, duration):
    """Latest permitted start of a task of this duration: hard deadline, wait and stretch bounds."""
    latest = min(hard_end - duration, last_start)
    if max_stretch > 0.0:
        # (end - release) / max(duration, 10) <= max_stretch; 1e-9 forgives the division.
        room = int(np.floor(max_stretch * max(duration, 10) * (1 + 1e-12) + 1e-9))
        latest = min(latest, release + room - duration)
    return latest


@njit(cache=True)
def _segment_at(times, count, at):
    """Index of the segment that holds the moment `at` (at >= times[0])."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if times[middle] <= at:
            low = middle
        else:
            high = middle - 1
    return low


@njit(cache=True)
def earliest_start(times, free, count, demand, not_before, duration):
    """Earliest start on one worker at which `demand` fits for `duration`, or FAR.

    Parameters
    ----------
    times : int64 (segments,)
    free : int64 (segments, resources)
    count : int
    demand : int64 (resources,)
    not_before, duration : int
    """
    k = _segment_at(times, count, not_before)
    start = not_before
    while True:
        # Is the demand met from `start` until `start + duration`, in segments k, k+1, ...?
        end = start + duration
        j = k
        while True:
            fits = True
            for r in range(demand.shape[0]):
                if free[j, r] < demand[r]:
                    fits = False
                    break
            if not fits:
                break
            if j == count - 1 or times[j + 1] >= end:
                return start
            j += 1
        if j == count - 1:
            return FAR
        k = j + 1
        start = times[k]


@njit(cache=True)
def _pieces_that_fit(times, free, count, demand, start, duration, most):
    """How many pieces of `demand` fit at once over [start, start + duration), at most `most`."""
    pieces = most
    end = start + duration
    k = _segment_at(times, count, start)
    while True:
        for r in range(demand.shape[0]):
            if free[k, r] < 0:
                return 0
            if demand[r] > 0:
                pieces = min(pieces, free[k, r] // demand[r])
        if pieces == 0 or k == count - 1 or times[k + 1] >= end:
            return pieces
        k += 1


@njit(cache=True)
def _split_at(times, free, count, w, at):
    """Make `at` the start of a segment of worker w, for which there must be room; its index."""
    k = _segment_at(times[w], count[w], at)
    if times[w, k] == at:
        return k
    for j in range(count[w], k + 1, -1):
        times[w, j] = times[w, j - 1]
        for r in range(free.shape[2]):
            free[w, j, r] = free[w, j - 1, r]
    times[w, k + 1] = at
    for r in range(free.shape[2]):
        free[w, k + 1, r] = free[w, k, r]
    count[w] += 1
    return k + 1


@njit(cache=True)
def with_room(times, free, count, w):
    """The profile arrays, doubled in size where worker w might not hold two more segments."""
    if count[w] + 2 <= times.shape[1]:
        return times, free
    size = times.shape[1] * 2
    wider_times = np.zeros((times.shape[0], size), np.int64)
    wider_free = np.zeros((free.shape[0], size, free.shape[2]), np.int64)
    wider_times[:, : times.shape[1]] = times
    wider_free[:, : free.shape[1]] = free
    return wider_times, wider_free


@njit(cache=True)
def occupy(times, free, count, w, start, end, demand):
    """Take `demand` from worker w over [start, end); call `with_room` first."""
    first = _split_at(times, free, count, w, start)
    after = count[w]
    if end < FAR:
        after = _split_at(times, free, count, w, end)
    for k in range(first, after):
        for r in range(demand.shape[0]):
            free[w, k, r] -= demand[r]


@njit(cache=True)
def close(times, free, count, w, start, end):
    """Let worker w take nothing over [start, end); call `with_room` first."""
    first = _split_at(times, free, count, w, start)
    after = count[w]
    if end < FAR:
        after = _split_at(times, free, count, w, end)
    for k in range(first, after):
        for r in range(free.shape[2]):
            free[w, k, r] = -1


@njit(cache=True)
def build_profile(capacity, busy_worker, busy_end, busy_demand, shut_worker, shut_start, shut_end):
    """The profile before anything is planned: running tasks, then closed windows.

    Parameters
    ----------
    capacity : int64 (workers, resources)
    busy_worker, busy_end : int64 (running pieces,)
        Each takes ``busy_demand`` from now until its end.
    busy_demand : int64 (running pieces, resources)
    shut_worker, shut_start, shut_end : int64 (windows,)
        Blocked windows, the time before a worker is free, the time after it drains.
    """
    workers, resources = capacity.shape
    times = np.zeros((workers, 8), np.int64)
    free = np.zeros((workers, 8, resources), np.int64)
    count = np.ones(workers, np.int64)
    free[:, 0, :] = capacity
    for i in range(busy_worker.shape[0]):
        w = busy_worker[i]
        times, free = with_room(times, free, count, w)
        occupy(times, free, count, w, 0, busy_end[i], busy_demand[i])
    # What runs may exceed the capacity (logs do); a task that takes none of it still fits.
    free = np.maximum(free, 0)
    for i in range(shut_worker.shape[0]):
        w = shut_worker[i]
        times, free = with_room(times, free, count, w)
        close(times, free, count, w, shut_start[i], shut_end[i])
    return times, free, count


@njit(cache=True)
def _place_gang(
    times, free, count, demand, shards, not_before, durations, allowed, hard_end, last_start,
    release, max_stretch, chosen,
):  # fmt: skip
    """Earliest-ending placement of a gang; fills `chosen` and returns (start, end), FAR if none.

    A gang ends with its slowest piece, so each distinct duration is tried as the limit of
    which workers may take part.
    """
    best_start, best_end = FAR, FAR
    workers = durations.shape[0]
    limits = np.unique(durations[allowed])
    pieces = np.zeros(workers, np.int64)
    for limit in limits:
        latest = latest_start(hard_end, last_start, release, max_stretch, limit)
        moments = [not_before]
        for w in range(workers):
            if allowed[w] and durations[w] <= limit:
                for k in range(count[w]):
                    if times[w, k] > not_before:
                        moments.append(times[w, k])  # noqa: PERF401 (numba)
        for moment in np.unique(np.array(moments)):
            if moment > latest or moment + limit >= best_end:
                break
            total = 0
            for w in range(workers):
                pieces[w] = 0
                if allowed[w] and durations[w] <= limit and total < shards:
                    pieces[w] = _pieces_that_fit(
                        times[w], free[w], count[w], demand, moment, limit, shards - total
                    )
                    total += pieces[w]
            if total == shards:
                duration, filled = 0, 0
                for w in range(workers):
                    for _ in range(pieces[w]):
                        chosen[filled] = w
                        filled += 1
                        duration = max(duration, durations[w])
                # Tighter than the limit if only faster workers were taken.
                best_start, best_end = moment, moment + duration
                break
    return best_start, best_end


@njit(cache=True)
def list_schedule(
    order, rule, tie, times, free, count, demand, release, raw_release, deadline, hard_end,
    last_start, max_stretch, weight, shards, shard_ptr, kind, allowed, duration, worker_class,
    pred_ptr, pred, busy_w, idle_w, boot_kwh, free_from, share, last_end, on, load_h, prices,
):  # fmt: skip
    """Place tasks one by one in `order`, each where the rule likes it best, as early as it fits.

    Parameters
    ----------
    order : int64 (tasks,)
        A topological order of the tasks.
    rule : int
        ``EARLIEST_END`` or ``LEAST_COST`` (what the placement adds to the priced terms).
    tie : float
        Price of an hour of end time under ``LEAST_COST``: without it a worker that costs
        nothing now is filled for ever.
    times, free, count
        Profile; used up by the call.
    demand : int64 (tasks, resources)
    release, raw_release, deadline, hard_end, last_start : int64 (tasks,)
    max_stretch : float
        0 for none.
    weight : float64 (tasks,)
    shards, shard_ptr : int64 (tasks,), (tasks + 1,)
    kind : int64 (tasks,)
        Row of `allowed` and `share`.
    allowed : bool (kinds, workers)
    duration : int64 (tasks, classes)
        0 where the class is not eligible.
    worker_class : int64 (workers,)
    pred_ptr, pred : int64
        Predecessors in CSR form.
    busy_w, idle_w, boot_kwh, free_from : (workers,)
    share : float64 (kinds, workers)
        Dominant share.
    last_end, on, load_h : (workers,)
        Last end of what runs (0 if nothing), whether anything runs, hours of load; used up.
    prices : float64 (10,)
        In the order of ``domain.TERMS``.

    Returns
    -------
    start, end : int64 (tasks,)
    worker : int64 (pieces,)
    failed : int
        -1, or the first task for which no place was found.
    """
    tasks, workers = kind.shape[0], worker_class.shape[0]
    start = np.full(tasks, FAR, np.int64)
    end = np.full(tasks, FAR, np.int64)
    worker = np.full(shard_ptr[tasks], -1, np.int64)
    makespan, most_load = 0, 0.0
    for w in range(workers):
        makespan = max(makespan, last_end[w])
        most_load = max(most_load, load_h[w])
    durations = np.zeros(workers, np.int64)
    for i in order:
        not_before = release[i]
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            not_before = max(not_before, end[pred[p]])
        if not_before >= FAR:
            return start, end, worker, i
        row = kind[i]
        if shards[i] > 1:
            may = np.zeros(workers, np.bool_)
            for w in range(workers):
                durations[w] = duration[i, worker_class[w]]
                may[w] = allowed[row, w] and durations[w] > 0
            chosen = worker[shard_ptr[i] : shard_ptr[i + 1]]
            begin, finish = _place_gang(
                times, free, count, demand[i], shards[i], not_before, durations, may,
                hard_end[i], last_start[i], raw_release[i], max_stretch, chosen,
            )  # fmt: skip
            if begin >= FAR:
                return start, end, worker, i
        else:
            best_score, begin, finish, best_w = np.inf, FAR, FAR, -1
            for w in range(workers):
                if not allowed[row, w]:
                    continue
                d = duration[i, worker_class[w]]
                if d == 0:
                    continue
                if rule == EARLIEST_END and not_before + d > finish:
                    continue  # cannot end earlier than the best so far
                s = earliest_start(times[w], free[w], count[w], demand[i], not_before, d)
                if s >= FAR or s > latest_start(
                    hard_end[i], last_start[i], raw_release[i], max_stretch, d
                ):
                    continue
                e = s + d
                work_w = busy_w[w] * share[row, w] * d
                if rule == EARLIEST_END:
                    # Among equal ends the cheaper power: far below a second's worth.
                    score = e + 1e-9 * work_w / (1.0 + work_w)
                else:
                    watt_s = work_w + idle_w[w] * max(0, e - max(last_end[w], free_from[w]))
                    kwh = watt_s / 3.6e6
                    if not on[w]:
                        kwh += boot_kwh[w]
                    late = max(0, e - deadline[i])
                    score = (
                        prices[0] * max(0, e - makespan) / 3600.0
                        + prices[1] * weight[i] * late / 3600.0
                        + prices[3] * weight[i] * s / 3600.0
                        + prices[4] * weight[i] * (e - raw_release[i]) / max(d, 10)
                        + prices[5] * kwh
                        + prices[7] * max(0.0, load_h[w] + share[row, w] * d / 3600.0 - most_load)
                        + tie * e / 3600.0
                    )
                    if late > 0:
                        score += prices[2] * weight[i]
                if score < best_score or (score == best_score and e < finish):
                    best_score, begin, finish, best_w = score, s, e, w
            if best_w < 0:
                return start, end, worker, i
            worker[shard_ptr[i]] = best_w
        start[i], end[i] = begin, finish
        makespan = max(makespan, finish)
        for p in range(shard_ptr[i], shard_ptr[i + 1]):
            w = worker[p]
            times, free = with_room(times, free, count, w)
            occupy(times, free, count, w, begin, finish, demand[i])
            last_end[w] = max(last_end[w], finish)
            on[w] = True
            load_h[w] += share[row, w] * (finish - begin) / 3600.0
            most_load = max(most_load, load_h[w])
    return start, end, worker, -1


@njit(cache=True)
def schedule_terms(
    start, end, worker, raw_release, deadline, weight, owner, owner_tasks, shard_ptr, kind,
    share, busy_w, idle_w, boot_kwh, free_from, health, last_end, on, load_h, owner_wait_h, base,
):  # fmt: skip
    """The cost terms of a whole schedule but ``moves``, as ``evaluate.terms`` defines them.

    Parameters
    ----------
    start, end : int64 (tasks,)
    worker : int64 (pieces,)
    owner : int64 (tasks,)
    owner_tasks : float64 (owners,)
        Number of each owner's tasks in the request.
    last_end, on, load_h, owner_wait_h
        What the running tasks contribute; used up by the call.
    base : float64 (10,)
        What the running tasks contribute to each additive term, and their makespan.

    Returns
    -------
    float64 (10,)
        In the order of ``domain.TERMS``.
    """
    result = base.copy()
    on_before = on.copy()
    for i in range(start.shape[0]):
        result[0] = max(result[0], end[i] / 3600.0)
        late = max(0, end[i] - deadline[i])
        if late > 0:
            result[1] += weight[i] * late / 3600.0
            result[2] += weight[i]
        wait_h = (start[i] - raw_release[i]) / 3600.0
        result[3] += weight[i] * wait_h
        owner_wait_h[owner[i]] += wait_h
        d = end[i] - start[i]
        result[4] += weight[i] * (end[i] - raw_release[i]) / max(d, 10)
        for p in range(shard_ptr[i], shard_ptr[i + 1]):
            w = worker[p]
            result[5] += busy_w[w] * share[kind[i], w] * d / 3.6e6
            result[8] += 1.0 - health[w] ** (d / 3600.0)
            load_h[w] += share[kind[i], w] * d / 3600.0
            last_end[w] = max(last_end[w], end[i])
            on[w] = True
    for w in range(on.shape[0]):
        if on[w]:
            result[5] += idle_w[w] * max(0, last_end[w] - free_from[w]) / 3.6e6
            if not on_before[w]:
                result[5] += boot_kwh[w]
        result[7] = max(result[7], load_h[w])
    for o in range(owner_wait_h.shape[0]):
        result[6] = max(result[6], owner_wait_h[o] / owner_tasks[o])
    return result


@njit(cache=True)
def lay_out(
    waiting, now, times, free, count, demand, duration, release, piece_ptr, piece_worker,
    piece_count, pred_ptr, pred, end,
):  # fmt: skip
    """Reserve for each task, in turn, the earliest time on its given workers.

    Parameters
    ----------
    waiting : int64 (waiting tasks,)
        In the order in which they take their reservations.
    now : int
        Nothing starts before.
    times, free, count
        Profile with everything that runs; used up by the call.
    demand : int64 (tasks, resources)
    duration, release : int64 (tasks,)
        Expected duration on the given workers; earliest start.
    piece_ptr, piece_worker, piece_count : int64
        Distinct workers of each task in CSR form, and how many pieces each takes.
    pred_ptr, pred : int64
    end : int64 (tasks,)
        Expected ends of what runs or has ended; those of `waiting` are filled in, FAR where a
        task finds no time any more.

    Returns
    -------
    bool (waiting tasks,)
        Whether the reservation begins at `now`.
    """
    starts_now = np.zeros(waiting.shape[0], np.bool_)
    for k in range(waiting.shape[0]):
        i = waiting[k]
        start = max(now, release[i])
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            start = max(start, end[pred[p]])
        settled = False
        while not settled and start < FAR:
            settled = True
            for p in range(piece_ptr[i], piece_ptr[i + 1]):
                w = piece_worker[p]
                s = earliest_start(
                    times[w], free[w], count[w], demand[i] * piece_count[p], start, duration[i]
                )
                if s > start:
                    start, settled = s, False
        end[i] = FAR
        if start >= FAR:
            continue
        end[i] = start + duration[i]
        starts_now[k] = start == now
        for p in range(piece_ptr[i], piece_ptr[i + 1]):
            w = piece_worker[p]
            times, free = with_room(times, free, count, w)
            occupy(times, free, count, w, start, end[i], demand[i] * piece_count[p])
    return starts_now


# --------------------------------------------------------------------------- ruin and recreate
#
# A move takes a few related tasks out of a schedule (the ruin), puts each back where it
# adds least to the cost (the recreate), and keeps the result by simulated annealing. Costs
# are kept by differences; the solver prices every better schedule anew.

RUIN_RULES = 5
RANDOM, NEIGHBOURS, LATE, LAST, CHAIN = range(RUIN_RULES)
"""Which tasks a ruin takes: any; those near one in time on its worker and others like it;
late ones and what runs before them; those that end last on their workers; one with its
predecessors and successors."""


class Fixed(NamedTuple):
    """What does not change during the search; arrays as in ``Problem``."""

    demand: np.ndarray
    release: np.ndarray
    raw_release: np.ndarray
    deadline: np.ndarray
    hard_end: np.ndarray
    last_start: np.ndarray
    max_stretch: float
    weight: np.ndarray
    shards: np.ndarray
    shard_ptr: np.ndarray
    piece_task: np.ndarray
    owner: np.ndarray
    kind: np.ndarray
    allowed: np.ndarray
    share: np.ndarray
    duration: np.ndarray
    worker_class: np.ndarray
    pred_ptr: np.ndarray
    pred: np.ndarray
    succ_ptr: np.ndarray
    succ: np.ndarray
    idle_w: np.ndarray
    busy_w: np.ndarray
    boot_kwh: np.ndarray
    free_from: np.ndarray
    health: np.ndarray
    base_end: np.ndarray
    base_on: np.ndarray
    owner_tasks: np.ndarray
    prices: np.ndarray


class State(NamedTuple):
    """A schedule and what its cost is made of.

    The pieces on each worker are a doubly linked list: ``head[w]``, ``following[p]``,
    ``previous[p]``, with -1 for none.
    """

    start: np.ndarray
    end: np.ndarray
    worker: np.ndarray
    last_end: np.ndarray
    load_h: np.ndarray
    wait_h: np.ndarray
    head: np.ndarray
    following: np.ndarray
    previous: np.ndarray
    additive: np.ndarray


@njit(cache=True)
def vacate(times, free, count, w, start, end, demand):
    """Give `demand` of worker w back over [start, end); call `with_room` first.

    Borders that have become superfluous are joined, so that profiles stay short.
    """
    first = _split_at(times, free, count, w, start)
    after = _split_at(times, free, count, w, end)
    for k in range(first, after):
        for r in range(demand.shape[0]):
            free[w, k, r] += demand[r]
    _join(times, free, count, w, after)
    _join(times, free, count, w, first)


@njit(cache=True)
def _join(times, free, count, w, k):
    """Join segment k of worker w with the one before it where they are alike."""
    if k == 0:
        return
    for r in range(free.shape[2]):
        if free[w, k, r] != free[w, k - 1, r]:
            return
    for j in range(k, count[w] - 1):
        times[w, j] = times[w, j + 1]
        for r in range(free.shape[2]):
            free[w, j, r] = free[w, j + 1, r]
    count[w] -= 1


@njit(cache=True)
def _task_cost(f, i, start, end):
    """What a task adds to the terms that are sums over tasks, without its workers."""
    cost = f.prices[3] * f.weight[i] * (start - f.raw_release[i]) / 3600.0
    late = end - f.deadline[i]
    if late > 0:
        cost += f.weight[i] * (f.prices[1] * late / 3600.0 + f.prices[2])
    if f.prices[4] > 0.0:
        cost += f.prices[4] * f.weight[i] * (end - f.raw_release[i]) / max(end - start, 10)
    return cost


@njit(cache=True)
def _piece_cost(f, i, w, duration):
    """What a piece on worker w adds to the terms that are sums over pieces."""
    cost = f.prices[5] * f.busy_w[w] * f.share[f.kind[i], w] * duration / 3.6e6
    if f.prices[8] > 0.0:
        cost += f.prices[8] * (1.0 - f.health[w] ** (duration / 3600.0))
    return cost


@njit(cache=True)
def _worker_cost(f, w, last_end, used):
    """Idle power and boot of a worker whose last end is `last_end`."""
    if not used:
        return 0.0
    kwh = f.idle_w[w] * max(0, last_end - f.free_from[w]) / 3.6e6
    if not f.base_on[w]:
        kwh += f.boot_kwh[w]
    return f.prices[5] * kwh


@njit(cache=True)
def total_cost(f, s):
    """The cost of a state: its additive part, and the worst-off terms."""
    makespan, load, wait = 0, 0.0, 0.0
    for w in range(s.last_end.shape[0]):
        makespan = max(makespan, s.last_end[w])
        load = max(load, s.load_h[w])
    if f.prices[6] > 0.0:
        for o in range(s.wait_h.shape[0]):
            wait = max(wait, s.wait_h[o] / f.owner_tasks[o])
    return s.additive[0] + f.prices[0] * makespan / 3600.0 + f.prices[6] * wait + f.prices[7] * load


@njit(cache=True)
def put(f, s, times, free, count, i, start, end):
    """Note task i on its workers (already in ``s.worker``) over [start, end)."""
    s.start[i], s.end[i] = start, end
    s.additive[0] += _task_cost(f, i, start, end)
    s.wait_h[f.owner[i]] += (start - f.raw_release[i]) / 3600.0
    for p in range(f.shard_ptr[i], f.shard_ptr[i + 1]):
        w = s.worker[p]
        times, free = with_room(times, free, count, w)
        occupy(times, free, count, w, start, end, f.demand[i])
        used = s.head[w] >= 0 or f.base_on[w]
        s.additive[0] += _piece_cost(f, i, w, end - start)
        s.additive[0] -= _worker_cost(f, w, s.last_end[w], used)
        s.last_end[w] = max(s.last_end[w], end)
        s.additive[0] += _worker_cost(f, w, s.last_end[w], True)
        s.load_h[w] += f.share[f.kind[i], w] * (end - start) / 3600.0
        s.following[p], s.previous[p] = s.head[w], -1
        if s.head[w] >= 0:
            s.previous[s.head[w]] = p
        s.head[w] = p
    return times, free


@njit(cache=True)
def take(f, s, times, free, count, i):
    """Take task i out of the state."""
    start, end = s.start[i], s.end[i]
    s.additive[0] -= _task_cost(f, i, start, end)
    s.wait_h[f.owner[i]] -= (start - f.raw_release[i]) / 3600.0
    for p in range(f.shard_ptr[i], f.shard_ptr[i + 1]):
        w = s.worker[p]
        times, free = with_room(times, free, count, w)
        vacate(times, free, count, w, start, end, f.demand[i])
        s.additive[0] -= _piece_cost(f, i, w, end - start)
        s.additive[0] -= _worker_cost(f, w, s.last_end[w], True)
        before, after = s.previous[p], s.following[p]
        if before >= 0:
            s.following[before] = after
        else:
            s.head[w] = after
        if after >= 0:
            s.previous[after] = before
        if end == s.last_end[w]:
            last = f.base_end[w]
            q = s.head[w]
            while q >= 0:
                last = max(last, s.end[f.piece_task[q]])
                q = s.following[q]
            s.last_end[w] = last
        used = s.head[w] >= 0 or f.base_on[w]
        s.additive[0] += _worker_cost(f, w, s.last_end[w], used)
        s.load_h[w] -= f.share[f.kind[i], w] * (end - start) / 3600.0
    s.start[i], s.end[i] = FAR, FAR
    return times, free


@njit(cache=True)
def _window(f, s, i):
    """Earliest start of task i after its predecessors, latest end before its placed successors."""
    earliest, latest_end = f.release[i], f.hard_end[i]
    for p in range(f.pred_ptr[i], f.pred_ptr[i + 1]):
        earliest = max(earliest, s.end[f.pred[p]])
    for p in range(f.succ_ptr[i], f.succ_ptr[i + 1]):
        latest_end = min(latest_end, s.start[f.succ[p]])
    return earliest, latest_end


@njit(cache=True)
def insert(f, s, times, free, count, i, workers, blink, makespan, most_load):
    """Put task i where it adds least to the cost, looking at the given workers.

    Returns
    -------
    times, free
        Perhaps grown.
    placed : bool
    """
    earliest, latest_end = _window(f, s, i)
    if f.shards[i] > 1:
        may = np.zeros(f.worker_class.shape[0], np.bool_)
        durations = np.zeros(f.worker_class.shape[0], np.int64)
        for w in range(durations.shape[0]):
            durations[w] = f.duration[i, f.worker_class[w]]
            may[w] = f.allowed[f.kind[i], w] and durations[w] > 0
        chosen = s.worker[f.shard_ptr[i] : f.shard_ptr[i + 1]]
        begin, finish = _place_gang(
            times, free, count, f.demand[i], f.shards[i], earliest, durations, may,
            latest_end, f.last_start[i], f.raw_release[i], f.max_stretch, chosen,
        )  # fmt: skip
        if begin >= FAR:
            return times, free, False
        times, free = put(f, s, times, free, count, i, begin, finish)
        return times, free, True
    # Everything the loop over workers needs, once: handing a tuple of arrays to a function
    # costs half a microsecond, ten times what the function itself takes.
    demand, release, duration = f.demand[i], f.raw_release[i], f.duration[i]
    worker_class, allowed, share = f.worker_class, f.allowed[f.kind[i]], f.share[f.kind[i]]
    busy_w, idle_w, boot_kwh, free_from = f.busy_w, f.idle_w, f.boot_kwh, f.free_from
    health, base_on, head, last_end, load_h = f.health, f.base_on, s.head, s.last_end, s.load_h
    prices, deadline, weight, last_start = f.prices, f.deadline[i], f.weight[i], f.last_start[i]
    max_stretch = f.max_stretch
    late_price, miss_price = prices[1] * weight / 3600.0, prices[2] * weight
    wait_price, stretch_price = prices[3] * weight / 3600.0, prices[4] * weight
    wait_price += prices[6] / 3600.0 / f.owner_tasks[f.owner[i]]
    kwh_price, fail_price = prices[5] / 3.6e6, prices[8]
    end_price, load_price = prices[0] / 3600.0, prices[7] / 3600.0
    best, best_w, best_start, best_end = np.inf, -1, FAR, FAR
    for w in workers:
        d = duration[worker_class[w]]
        if d == 0 or not allowed[w] or np.random.random() < blink:
            continue
        latest = latest_start(latest_end, last_start, release, max_stretch, d)
        if earliest > latest:
            continue
        cost = kwh_price * busy_w[w] * share[w] * d
        if fail_price > 0.0:
            cost += fail_price * (1.0 - health[w] ** (d / 3600.0))
        if cost + wait_price * (earliest - release) >= best:
            continue
        start = earliest_start(times[w], free[w], count[w], demand, earliest, d)
        if start > latest:
            continue
        end = start + d
        cost += wait_price * (start - release) + end_price * max(0, end - makespan)
        if end > deadline:
            cost += late_price * (end - deadline) + miss_price
        if stretch_price > 0.0:
            cost += stretch_price * (end - release) / max(d, 10)
        before = max(last_end[w], free_from[w])
        cost += kwh_price * idle_w[w] * max(0, end - before)
        if head[w] < 0 and not base_on[w]:
            cost += kwh_price * 3.6e6 * boot_kwh[w]
        if load_price > 0.0:
            cost += load_price * max(0.0, (load_h[w] - most_load) * 3600.0 + share[w] * d)
        cost += 1e-9 * end
        if cost < best:
            best, best_w, best_start, best_end = cost, w, start, end
    if best_w < 0:
        return times, free, False
    s.worker[f.shard_ptr[i]] = best_w
    times, free = put(f, s, times, free, count, i, best_start, best_end)
    return times, free, True


@njit(cache=True)
def _add_near(f, s, w, moment, taken, mark, filled, wanted):
    """Add to `taken` the tasks on worker w whose run is nearest to `moment`, up to `wanted`."""
    while filled < wanted:
        nearest, choice = FAR, -1
        q = s.head[w]
        while q >= 0:
            i = f.piece_task[q]
            if not mark[i]:
                distance = 0
                if s.start[i] > moment:
                    distance = s.start[i] - moment
                elif s.end[i] <= moment:
                    distance = moment - s.end[i] + 1
                if distance < nearest:
                    nearest, choice = distance, i
            q = s.following[q]
        if choice < 0:
            break
        taken[filled] = choice
        mark[choice] = True
        filled += 1
    return filled


@njit(cache=True)
def _ruin(f, s, rule, wanted, taken, mark):
    """Choose up to `wanted` tasks by a rule; their number. `mark` is left set for them."""
    tasks, workers = s.start.shape[0], s.head.shape[0]
    filled = 0
    pivot = np.random.randint(tasks)
    if rule == LATE:
        dearest = -1.0
        for _ in range(8):
            i = np.random.randint(tasks)
            cost = _task_cost(f, i, s.start[i], s.end[i]) - _task_cost(
                f, i, f.release[i], f.release[i] + s.end[i] - s.start[i]
            )
            if cost > dearest:
                dearest, pivot = cost, i
    if rule == LAST:
        latest = -1
        for _ in range(4):
            i = np.random.randint(tasks)
            w = s.worker[f.shard_ptr[i]]
            if s.last_end[w] > latest:
                latest, pivot = s.last_end[w], i
        w = s.worker[f.shard_ptr[pivot]]
        return _add_near(f, s, w, s.last_end[w], taken, mark, 0, wanted)
    taken[0] = pivot
    mark[pivot] = True
    filled = 1
    if rule == RANDOM:
        for _ in range(wanted - 1):
            i = np.random.randint(tasks)
            if not mark[i]:
                mark[i] = True
                taken[filled] = i
                filled += 1
        return filled
    if rule == CHAIN:
        seen = 0
        while seen < filled and filled < wanted:
            i = taken[seen]
            seen += 1
            for p in range(f.pred_ptr[i], f.pred_ptr[i + 1]):
                j = f.pred[p]
                if not mark[j] and filled < wanted:
                    mark[j] = True
                    taken[filled] = j
                    filled += 1
            for p in range(f.succ_ptr[i], f.succ_ptr[i + 1]):
                j = f.succ[p]
                if not mark[j] and filled < wanted:
                    mark[j] = True
                    taken[filled] = j
                    filled += 1
        if filled > 1:
            return filled
    # Near the pivot on its own worker, then at the same time on others that could hold it.
    moment = s.start[pivot]
    if rule == LATE:
        moment = max(f.release[pivot], moment - (s.end[pivot] - moment))
    w = s.worker[f.shard_ptr[pivot]]
    share = wanted if np.random.random() < 0.3 else 1 + wanted // 2
    filled = _add_near(f, s, w, moment, taken, mark, filled, min(share, wanted))
    for _ in range(6):
        if filled >= wanted:
            break
        other = np.random.randint(workers)
        if f.allowed[f.kind[pivot], other]:
            filled = _add_near(
                f, s, other, moment, taken, mark, filled, min(wanted, filled + 1 + wanted // 4)
            )
    return filled


@njit(cache=True)
def search(f, s, times, free, count, rank, moves, temperature, most, looked_at, blink, seed):
    """Ruin and recreate `moves` times.

    Parameters
    ----------
    f, s : Fixed, State
        `s` is changed in place; at the end it is the current schedule.
    times, free, count
        Profile of the state.
    rank : float64 (orders, tasks)
        Priority values for the order of reinsertion, least first.
    moves : int
    temperature : float
        Of the simulated annealing, in units of cost.
    most : int
        Most tasks that a ruin takes.
    looked_at : int
        Workers looked at for each insertion; all where there are no more.
    blink : float
        Chance to overlook a worker.
    seed : int

    Returns
    -------
    times, free
    best_start, best_end, best_worker, best_cost
    """
    np.random.seed(seed)
    tasks, workers = s.start.shape[0], s.head.shape[0]
    best_start, best_end, best_worker = s.start.copy(), s.end.copy(), s.worker.copy()
    current = total_cost(f, s)
    best = current
    taken = np.zeros(most + 1, np.int64)
    mark = np.zeros(tasks, np.bool_)
    old_start = np.zeros(most + 1, np.int64)
    old_end = np.zeros(most + 1, np.int64)
    longest = 1
    for i in range(tasks):
        longest = max(longest, f.shards[i])
    old_worker = np.zeros((most + 1, longest), np.int64)
    order = np.zeros(most + 1, np.int64)
    every = np.arange(workers)
    seen = np.zeros(looked_at + most + 1, np.int64)
    for _ in range(moves):
        wanted = 1 + np.random.randint(min(most, tasks))
        filled = _ruin(f, s, np.random.randint(RUIN_RULES), wanted, taken, mark)
        for k in range(filled):
            i = taken[k]
            old_start[k], old_end[k] = s.start[i], s.end[i]
            for p in range(f.shards[i]):
                old_worker[k, p] = s.worker[f.shard_ptr[i] + p]
        for k in range(filled):
            times, free = take(f, s, times, free, count, taken[k])
        makespan, most_load = 0, 0.0
        for w in range(workers):
            makespan = max(makespan, s.last_end[w])
            most_load = max(most_load, s.load_h[w])
        # The order of reinsertion: by one of the ranks, or by chance.
        choice = np.random.randint(rank.shape[0] + 1)
        keys = np.random.random(filled)
        if choice < rank.shape[0]:
            for k in range(filled):
                keys[k] = rank[choice, taken[k]]
        order[:filled] = np.argsort(keys)
        candidates = every
        if workers > looked_at:
            for k in range(looked_at):
                seen[k] = np.random.randint(workers)
            for k in range(filled):
                seen[looked_at + k] = old_worker[k, 0]
            candidates = seen[: looked_at + filled]
        placed, progress, complete = 0, True, True
        while placed < filled and progress and complete:
            progress = False
            for k in range(filled):
                i = taken[order[k]]
                if s.start[i] < FAR:
                    continue
                ready = True
                for p in range(f.pred_ptr[i], f.pred_ptr[i + 1]):
                    if s.start[f.pred[p]] >= FAR:
                        ready = False
                        break
                if not ready:
                    continue
                times, free, done = insert(
                    f, s, times, free, count, i, candidates, blink, makespan, most_load
                )
                if not done:
                    complete = False
                    break
                makespan = max(makespan, s.end[i])
                w = s.worker[f.shard_ptr[i]]
                most_load = max(most_load, s.load_h[w])
                placed += 1
                progress = True
        fresh = total_cost(f, s) if placed == filled else np.inf
        if fresh <= current - temperature * np.log(1.0 - np.random.random()):
            current = fresh
            if current < best - 1e-12:
                best = current
                best_start[:], best_end[:], best_worker[:] = s.start, s.end, s.worker
        else:
            for k in range(filled):
                if s.start[taken[k]] < FAR:
                    times, free = take(f, s, times, free, count, taken[k])
            for k in range(filled):
                i = taken[k]
                for p in range(f.shards[i]):
                    s.worker[f.shard_ptr[i] + p] = old_worker[k, p]
                times, free = put(f, s, times, free, count, i, old_start[k], old_end[k])
        for k in range(filled):
            mark[taken[k]] = False
    return times, free, best_start, best_end, best_worker, best


@njit(cache=True)
def load_state(f, s, times, free, count):
    """Place every task of a state whose `start`, `end` and `worker` are given."""
    start, end = s.start.copy(), s.end.copy()
    s.start[:], s.end[:] = FAR, FAR
    for i in range(start.shape[0]):
        times, free = put(f, s, times, free, count, i, start[i], end[i])
    return times, free
