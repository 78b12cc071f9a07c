"""Many executions of one plan as a partial order, each priced."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.cost import piece_cost, task_cost
from plancast.planner.arrays.jit import brief, kernel


@brief
def run_through(
    order, run, planned, earliest, link_ptr, link, window_ptr, window_start, window_end, start, end
):
    """Start every task as soon as what it follows has ended: a longest path.

    Parameters
    ----------
    order : int64 (placed tasks,)
        Everything that a task follows stands before it, or runs already.
    run : int64 (tasks,)
        True durations.
    planned : int64 (tasks,)
        Durations that count when a task is kept clear of closed windows.
    earliest : int64 (tasks,)
    link_ptr, link : int64
        What each task follows, CSR: predecessors, and what holds the resources it takes over.
    window_ptr, window_start, window_end : int64
        Closed windows of each task's workers, CSR, by start.
    start, end : int64 (tasks,)
        Those of running tasks are given; the others are filled in.
    """
    for i in order:
        begin = earliest[i]
        for p in range(link_ptr[i], link_ptr[i + 1]):
            begin = max(begin, end[link[p]])
        moved = True
        while moved:
            moved = False
            for k in range(window_ptr[i], window_ptr[i + 1]):
                if begin < window_end[k] and window_start[k] < begin + planned[i]:
                    begin = window_end[k]
                    moved = True
        start[i], end[i] = begin, begin + run[i]


@kernel
def sampled_costs(
    rates, order, runs, ends, planned, earliest, link_ptr, link, window_ptr, window_start,
    window_end, began, raw_release, deadline, weight, owner, owner_tasks, piece_ptr, piece_worker,
    share, free_from, health, on,
):  # fmt: skip
    """The cost of every sampled execution but for moves.

    Parameters
    ----------
    rates : rates.Rates
        With nothing in ``fixed``: running tasks are sampled too.
    order, planned, earliest, link_ptr, link, window_ptr, window_start, window_end
        As in ``run_through``.
    runs : int64 (samples, tasks)
        True durations of the placed tasks.
    ends : int64 (samples, tasks)
        True ends of the running tasks.
    began : int64 (tasks,)
        Starts of the running tasks, 0 or less.
    piece_ptr, piece_worker : int64
        Worker of each piece, CSR.
    share : float64 (pieces,)
        Dominant share of each piece.
    on : bool (workers,)
        Whether something runs there now.

    Returns
    -------
    float64 (samples,)
    """
    samples, tasks, workers = runs.shape[0], runs.shape[1], on.shape[0]
    result = np.zeros(samples)
    for k in range(samples):
        start, end = began.copy(), ends[k].copy()
        run_through(
            order, runs[k], planned, earliest, link_ptr, link, window_ptr, window_start,
            window_end, start, end,
        )  # fmt: skip
        wait_s = np.zeros(owner_tasks.shape[0])
        load_s, last_end = np.zeros(workers), np.zeros(workers, np.int64)
        cost, makespan = 0.0, 0
        for i in range(tasks):
            makespan = max(makespan, end[i])
            cost += task_cost(rates, weight[i], raw_release[i], deadline[i], start[i], end[i])
            wait_s[owner[i]] += start[i] - raw_release[i]
            ahead = end[i] - max(start[i], 0)
            for p in range(piece_ptr[i], piece_ptr[i + 1]):
                w = piece_worker[p]
                cost += piece_cost(rates, health, w, share[p], ahead)
                load_s[w] += share[p] * ahead
                last_end[w] = max(last_end[w], end[i])
        most_load, longest_wait = 0.0, 0.0
        for w in range(workers):
            if last_end[w] > 0:
                cost += rates.idle[w] * max(0, last_end[w] - free_from[w])
                if not on[w]:
                    cost += rates.boot[w]
            most_load = max(most_load, load_s[w])
        for o in range(owner_tasks.shape[0]):
            longest_wait = max(longest_wait, wait_s[o] / owner_tasks[o])
        result[k] = (
            cost + rates.end * makespan + rates.load * most_load + rates.owner * longest_wait
        )
    return result
