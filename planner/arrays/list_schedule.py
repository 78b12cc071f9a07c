"""List scheduling: tasks one by one, each where a rule likes it best."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.cost import task_cost
from plancast.planner.arrays.devices import give, takes_devices
from plancast.planner.arrays.jit import brief, inner
from plancast.planner.arrays.rows import any_of
from plancast.planner.arrays.schedule import (
    BEFORE,
    FAR,
    LAG,
    SINCE,
    WHOLE,
    _beside,
    _place_gang,
    _segment_at,
    latest_start,
    occupy,
    with_room,
)

# Rules for the choice of a worker.
EARLIEST_END = 0
LEAST_COST = 1

MOST_KNOWN = 4_000_000
"""Numbers that ``FirstFits.none_before`` may hold: beyond it only the largest sets of tasks."""


class FirstFits(NamedTuple):
    """Until when there is no room on each worker: it only gets less as tasks are placed.

    Parameters
    ----------
    row : int64 (tasks,)
        Tasks that take the same, and about as long, have a row of the rest; 0: none.
    least : int64 (rows,)
        None of the row's tasks is shorter.
    none_before : int64 (rows, workers)
        No gap of that length that holds one of them starts earlier.
    """

    row: np.ndarray
    least: np.ndarray
    none_before: np.ndarray


def first_fits(
    kind: np.ndarray,
    demand: np.ndarray,
    shortest: np.ndarray,
    shards: np.ndarray,
    release: np.ndarray,
    workers: int,
) -> FirstFits:
    """Rows for tasks of one piece, before anything is placed.

    Parameters
    ----------
    kind : int64 (tasks,)
        Tasks of one kind take the same.
    demand : int64 (tasks, resources)
    shortest, shards, release : int64 (tasks,)
    workers : int
    """
    kinds, example = np.unique(kind, return_index=True)
    takes = np.zeros(int(kinds.max(initial=0)) + 1, np.int64)
    takes[kinds] = np.unique(demand[example], axis=0, return_inverse=True)[1].reshape(-1)
    octave = np.frexp(shortest.astype(np.float64))[1]
    by_task = np.unique(128 * takes[kind] + octave, return_inverse=True)[1]
    size = np.bincount(by_task, shards == 1)
    most = MOST_KNOWN // max(1, workers)
    chosen = np.argsort(-size, kind="stable")[:most]
    chosen = chosen[size[chosen] > 1]
    row_of = np.zeros(len(size), np.int64)
    row_of[chosen] = np.arange(1, len(chosen) + 1)
    row = np.where(shards == 1, row_of[by_task], 0)
    least = np.full(len(chosen) + 1, FAR)
    np.minimum.at(least, row, shortest)
    begin = np.full(len(chosen) + 1, FAR)
    np.minimum.at(begin, row, np.maximum(release, 0))
    least[0] = begin[0] = 0
    none_before = np.repeat(begin[:, None], workers, axis=1)
    return FirstFits(row, least, none_before)


@inner
def _earliest_known(
    times, free, count, w, demand, i, not_before, duration, latest, fits, row,
):  # fmt: skip
    """Earliest start of task i on worker w, or FAR where it is later than `latest`.

    Whole arrays and indices: a view of an array costs as much as what is done here.
    """
    known = fits.none_before[row, w]
    begin = max(not_before, known)
    # What is found from the earliest moment on is known for all tasks of the row.
    tells = row > 0 and not_before <= known
    last = count[w] - 1
    k, high = 0, last
    while k < high:
        middle = (k + high + 1) >> 1
        if times[w, middle] <= begin:
            k = middle
        else:
            high = middle - 1
    start, found = begin, FAR
    while start <= latest:
        end = start + duration
        j = k
        while True:
            fit = True
            for r in range(demand.shape[1]):
                if free[w, j, r] < demand[i, r]:
                    fit = False
                    break
            if not fit:
                break
            if j == last or times[w, j + 1] >= end:
                found = start
                break
            j += 1
        if found < FAR:
            break
        if tells and times[w, j] - start >= fits.least[row]:
            # Too short a gap for this task, but not for any.
            fits.none_before[row, w], tells = start, False
        if j == last:
            start = FAR
            break
        k = j + 1
        start = times[w, k]
    if tells:
        fits.none_before[row, w] = start
    return found


@brief
def list_schedule(
    order, rule, tie, times, free, count, demand, release, raw_release, deadline, hard_end,
    last_start, max_stretch, weight, shards, shard_ptr, gang, kind, allowed, duration, worker_class,
    link_ptr, link, free_from, share, last_end, on, load_h, rates, spare, fits,
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
        nothing now is filled forever.
    times, free, count
        Profile; used up by the call.
    demand : int64 (tasks, resources)
    release, raw_release, deadline, hard_end, last_start : int64 (tasks,)
    max_stretch : float
        0 for none.
    weight : float64 (tasks,)
    shards, shard_ptr : int64 (tasks,), (tasks + 1,)
    gang : int64 (tasks, 5)
        How pieces may lie together, see ``relations``.
    kind : int64 (tasks,)
        Row of `allowed` and `share`.
    allowed : bool (kinds, workers)
    duration : int64 (tasks, classes)
        0 where the class is not eligible.
    worker_class : int64 (workers,)
    link_ptr, link : int64
        What is waited for in CSR form, see ``relations``.
    free_from : int64 (workers,)
    share : float64 (kinds, workers)
        Dominant share.
    last_end, on, load_h : (workers,)
        Last end of what runs (0 if nothing), whether anything runs, hours of load; used up.
    rates : rates.Rates
    spare : Spare, optional
    fits : FirstFits
        Its ``none_before`` is used up by the call.

    Returns
    -------
    start, end : int64 (tasks,)
        ``FAR`` for a task for which no place was found: it takes none from the others.
    worker : int64 (pieces,)
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
        not_before, counted = release[i], False
        if spare is not None:
            counted = any_of(spare.takes[i]) or takes_devices(spare.devices, i)
        for p in range(link_ptr[i], link_ptr[i + 1]):
            since = end[link[p, BEFORE]] if link[p, SINCE] == 1 else start[link[p, BEFORE]]
            not_before = max(not_before, since + link[p, LAG])
        if not_before >= FAR:
            continue
        row = kind[i]
        if shards[i] > 1:
            for w in range(workers):
                durations[w] = duration[i, worker_class[w]]
            chosen = worker[shard_ptr[i] : shard_ptr[i + 1]]
            begin, finish = _place_gang(
                times, free, count, demand[i], not_before, durations, allowed, row,
                hard_end[i], last_start[i], raw_release[i], max_stretch, gang[i], chosen, spare,
                counted, i,
            )  # fmt: skip
            if begin >= FAR:
                continue
        else:
            best_score, begin, finish, best_w = np.inf, FAR, FAR, -1
            last_end_s, last_start_s, due_s = hard_end[i], last_start[i], deadline[i]
            release_s, importance = raw_release[i], weight[i]
            known = fits.row[i]
            for w in range(workers):
                if not allowed[row, w]:
                    continue
                d = duration[i, worker_class[w]]
                if d == 0:
                    continue
                s = max(not_before, fits.none_before[known, w])
                latest = latest_start(last_end_s, last_start_s, release_s, max_stretch, d)
                if rule == EARLIEST_END:
                    latest = min(latest, finish - d)  # else it ends later than the best so far
                if s > latest:
                    continue
                busy, searched = rates.busy[w] * share[row, w] * d, False
                while True:
                    # First at the earliest moment there could be, which often settles it.
                    e = s + d
                    if rule == EARLIEST_END:
                        # Among equal ends the cheaper worker: far below a second's worth.
                        score = e + 1e-9 * busy / (1.0 + busy)
                    else:
                        used = busy + rates.idle[w] * max(0, e - max(last_end[w], free_from[w]))
                        if not on[w]:
                            used += rates.boot[w]
                        own = task_cost(rates, importance, release_s, due_s, s, e)
                        score = own + used + rates.end * max(0, e - makespan) + tie * e / 3600.0
                        if rates.load > 0.0:
                            more_h = load_h[w] + share[row, w] * d / 3600.0 - most_load
                            score += rates.load * 3600.0 * max(0.0, more_h)
                    better = score < best_score or (score == best_score and e < finish)
                    if searched or not better:
                        break
                    searched = True
                    s = _earliest_known(
                        times, free, count, w, demand, i, not_before, d, latest, fits, known,
                    )  # fmt: skip
                    if spare is not None and counted:
                        s = _beside(times, free, count, w, demand, i, s, d, latest, spare)
                    if s >= FAR:
                        better = False
                        break
                if better:
                    best_score, begin, finish, best_w = score, s, e, w
            if best_w < 0:
                continue
            worker[shard_ptr[i]] = best_w
        start[i], end[i] = begin, finish
        makespan = max(makespan, finish)
        if spare is not None and counted:
            occupy(spare.times, spare.free, spare.segments, 0, begin, finish, spare.takes[i])
        for p in range(shard_ptr[i], shard_ptr[i + 1]):
            w = worker[p]
            times, free = with_room(times, free, count, w)
            occupy(times, free, count, w, begin, finish, demand[i])
            if spare is not None:
                give(spare.devices, p, w, i, begin, finish, 0)
            if gang[i, WHOLE] > 0 and (p + 1 == shard_ptr[i + 1] or worker[p + 1] != w):
                # Its other pieces have left something of what it takes as a whole.
                k = _segment_at(times[w], count[w], begin)
                while k < count[w] and times[w, k] < finish:
                    free[w, k, demand.shape[1] - 1] = 0
                    k += 1
            last_end[w] = max(last_end[w], finish)
            on[w] = True
            load_h[w] += share[row, w] * (finish - begin) / 3600.0
            most_load = max(most_load, load_h[w])
    return start, end, worker
