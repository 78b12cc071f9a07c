"""Orders and longest paths of the precedence relation, in CSR form."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays import heap
from plancast.planner.arrays.jit import brief


@brief
def successors(pred_ptr, pred):
    """The relation turned round: ``succ_ptr, succ``, CSR."""
    tasks = pred_ptr.shape[0] - 1
    succ_ptr = np.zeros(tasks + 1, np.int64)
    for before in pred:
        succ_ptr[before + 1] += 1
    fill = np.zeros(tasks, np.int64)
    for i in range(tasks):
        fill[i] = succ_ptr[i]
        succ_ptr[i + 1] += succ_ptr[i]
    succ = np.zeros(pred.shape[0], np.int64)
    for i in range(tasks):
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            succ[fill[pred[p]]] = i
            fill[pred[p]] += 1
    return succ_ptr, succ


@brief
def priority_order(priority, pred_ptr, pred):
    """The topological order that always takes the ready task of least priority value.

    Parameters
    ----------
    priority : float64 (tasks,)
        Ties go to the lower index.
    pred_ptr, pred : int64

    Returns
    -------
    int64 (tasks,)
    """
    tasks = priority.shape[0]
    succ_ptr, succ = successors(pred_ptr, pred)
    waiting = pred_ptr[1:] - pred_ptr[:-1]
    key, item, ready = np.zeros(tasks), np.zeros(tasks, np.int64), 0
    rank = np.zeros(tasks, np.int64)
    for i in range(tasks):
        if waiting[i] == 0:
            heap.push(key, rank, item, ready, priority[i], i, i)
            ready += 1
    order = np.zeros(tasks, np.int64)
    for k in range(tasks):
        i = item[0]
        heap.pop(key, rank, item, ready)
        ready -= 1
        order[k] = i
        for s in range(succ_ptr[i], succ_ptr[i + 1]):
            follower = succ[s]
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heap.push(key, rank, item, ready, priority[follower], follower, follower)
                ready += 1
    return order


@brief
def heads_and_tails(release, shortest, pred_ptr, pred):
    """Earliest conceivable start of each task, and the longest chain from its start on.

    Parameters
    ----------
    release, shortest : int64 (tasks,)
    pred_ptr, pred : int64

    Returns
    -------
    head : int64 (tasks,)
        ``max(release, head + shortest of each predecessor)``.
    tail : int64 (tasks,)
        ``shortest + max(tail of each successor)``, the task itself included.
    """
    tasks = release.shape[0]
    order = priority_order(np.zeros(tasks), pred_ptr, pred)
    head, tail = release.copy(), shortest.copy()
    for i in order:
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            head[i] = max(head[i], head[pred[p]] + shortest[pred[p]])
    for k in range(tasks - 1, -1, -1):
        i = order[k]
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            tail[pred[p]] = max(tail[pred[p]], shortest[pred[p]] + tail[i])
    return head, tail


@brief
def latest_ends(deadline, shortest, pred_ptr, pred):
    """When each task must end for every task after it to be on time.

    Parameters
    ----------
    deadline, shortest : int64 (tasks,)
    pred_ptr, pred : int64

    Returns
    -------
    int64 (tasks,)
        ``min(deadline, latest end - shortest of each successor)``.
    """
    order = priority_order(np.zeros(deadline.shape[0]), pred_ptr, pred)
    latest = deadline.copy()
    for k in range(order.shape[0] - 1, -1, -1):
        i = order[k]
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            latest[pred[p]] = min(latest[pred[p]], latest[i] - shortest[i])
    return latest


@brief
def dues(deadline, weight, shortest, pred_ptr, pred):
    """What a task's end means for the tasks after it.

    Parameters
    ----------
    deadline, shortest : int64 (tasks,)
    weight : float64 (tasks,)
    pred_ptr, pred : int64

    Returns
    -------
    due : int64 (tasks,)
        As ``latest_ends``.
    due_weight : float64 (tasks,)
        Largest weight of the deadlines that bind on the way.
    rest : int64 (tasks,)
        Longest chain after the task, itself left out.
    """
    order = priority_order(np.zeros(deadline.shape[0]), pred_ptr, pred)
    due, due_weight = deadline.copy(), weight.copy()
    rest = np.zeros(deadline.shape[0], np.int64)
    for k in range(order.shape[0] - 1, -1, -1):
        i = order[k]
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            before = pred[p]
            rest[before] = max(rest[before], rest[i] + shortest[i])
            if due[i] - shortest[i] < due[before]:
                due[before] = due[i] - shortest[i]
                due_weight[before] = max(due_weight[before], due_weight[i])
    return due, due_weight, rest


@brief
def least_busy_times(area, release, weight, rate):
    """Least weighted sum of mean busy times of work on one machine that may stop and resume.

    Parameters
    ----------
    area : float64 (tasks,)
        Work of each task, more than 0.
    release : int64 (tasks,)
    weight : float64 (tasks,)
    rate : float
        Work that the machine does in a second.

    Returns
    -------
    float
        Sum of weight times the mean moment at which the task's work is done, seconds.

    Notes
    -----
    At every moment the released task of largest weight per work runs, which is optimal.

    References
    ----------
    Goemans, Queyranne, Schulz, Skutella, Wang (2002), "Single machine scheduling with release
    dates", doi:10.1137/S089548019936223X.
    """
    left = area.copy()
    tasks, waiting = release.shape[0], 0
    key, item, rank = np.zeros(tasks), np.zeros(tasks, np.int64), np.zeros(tasks, np.int64)
    order = np.zeros(tasks, np.int64)
    for i in range(tasks):
        heap.push(key, rank, item, i, float(release[i]), i, i)
    for k in range(tasks):
        order[k] = item[0]
        heap.pop(key, rank, item, tasks - k)
    total, now, k = 0.0, 0.0, 0
    # Each turn ends a task or comes to the next release: the clock need not move for that, which
    # it does not where the rest of a task takes less than its last digit.
    while k < tasks or waiting > 0:
        if waiting == 0:
            now = max(now, float(release[order[k]]))
        while k < tasks and float(release[order[k]]) <= now:
            i = order[k]
            heap.push(key, rank, item, waiting, -weight[i] / area[i], i, i)
            waiting += 1
            k += 1
        i = item[0]
        until, done = now + left[i] / rate, left[i]
        if k < tasks and float(release[order[k]]) < until:
            until = float(release[order[k]])
            done = min(left[i], (until - now) * rate)
        else:
            heap.pop(key, rank, item, waiting)
            waiting -= 1
        total += weight[i] * done / area[i] * (now + until) / 2.0
        left[i] -= done
        now = until
    return total
