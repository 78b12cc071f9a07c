"""Many executions of one plan as a partial order, each priced."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import kernel


@kernel
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
def sampled_terms(
    order, runs, ends, planned, earliest, link_ptr, link, window_ptr, window_start, window_end,
    began, raw_release, deadline, weight, owner, owner_tasks, piece_ptr, piece_worker, share,
    busy_w, idle_w, boot_kwh, free_from, health, on,
):  # fmt: skip
    """The cost terms but ``moves`` of every sampled execution, as ``evaluate.terms`` has them.

    Parameters
    ----------
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
    float64 (samples, 10)
        In the order of ``domain.TERMS``.
    """
    samples, tasks, workers = runs.shape[0], runs.shape[1], idle_w.shape[0]
    result = np.zeros((samples, 10))
    for k in range(samples):
        start, end = began.copy(), ends[k].copy()
        run_through(
            order, runs[k], planned, earliest, link_ptr, link, window_ptr, window_start,
            window_end, start, end,
        )  # fmt: skip
        wait_h = np.zeros(owner_tasks.shape[0])
        load_h, last_end = np.zeros(workers), np.zeros(workers, np.int64)
        terms = result[k]
        for i in range(tasks):
            terms[0] = max(terms[0], end[i] / 3600.0)
            late = max(0, end[i] - deadline[i])
            terms[1] += weight[i] * late / 3600.0
            terms[2] += weight[i] * (late > 0)
            waited = (start[i] - raw_release[i]) / 3600.0
            terms[3] += weight[i] * waited
            wait_h[owner[i]] += waited
            terms[4] += weight[i] * (end[i] - raw_release[i]) / max(end[i] - start[i], 10)
            ahead = end[i] - max(start[i], 0)
            for p in range(piece_ptr[i], piece_ptr[i + 1]):
                w = piece_worker[p]
                terms[5] += busy_w[w] * share[p] * ahead / 3.6e6
                terms[8] += 1.0 - health[w] ** (ahead / 3600.0)
                load_h[w] += share[p] * ahead / 3600.0
                last_end[w] = max(last_end[w], end[i])
        for w in range(workers):
            if last_end[w] > 0:
                terms[5] += idle_w[w] * max(0, last_end[w] - free_from[w]) / 3.6e6
                if not on[w]:
                    terms[5] += boot_kwh[w]
            terms[7] = max(terms[7], load_h[w])
        for o in range(owner_tasks.shape[0]):
            terms[6] = max(terms[6], wait_h[o] / owner_tasks[o])
    return result
