"""What must be done before a task, after it, and between two moments, on one-task workers.

A window between two moments is long enough for a set of tasks only if their *work* fits, and if
for every k the k longest of them fit by number. Work of a task is what it takes of a second of all
workers at least, whichever it runs on; sums of it may be asked for of any set.
"""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel

FAR = 1 << 50
MOST_COUNTED = 1000
"""Sets of more tasks are not counted: of many tasks for each worker work tells as much."""
MOST_MOMENTS = 64
"""Beginnings and ends of windows that are counted, evenly drawn from those there are."""
TRIFLE_S = 1e-6
"""What sums of work give away, beside their last digits."""
ALMOST_ONE = 1.0 - 1e-9


@inner
def fits_by_number(members, count, length, duration, machines):
    """Whether for every k the k longest tasks fit into a window, were all as short as the shortest.

    Parameters
    ----------
    members : int64
        Tasks, longest first.
    count : int
        How many of `members` there are.
    length : int
        Of the window.
    duration : int64 (tasks, classes)
        0: not on this class.
    machines : int64 (classes,)
        One-task workers of each.
    """
    least = np.full(machines.shape[0], FAR, np.int64)
    for k in range(count):
        places = 0
        for c in range(machines.shape[0]):
            d = duration[members[k], c]
            if 0 < d < least[c]:
                least[c] = d
            places += machines[c] * (length // least[c])
        if places <= k:
            return False
    return True


@inner
def least_window(members, count, length, duration, machines):
    """Least window of `length` or more that the tasks fit into by number."""
    if fits_by_number(members, count, length, duration, machines):
        return length
    low, high = length, max(1, 2 * length)
    while not fits_by_number(members, count, high, duration, machines):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if fits_by_number(members, count, middle, duration, machines):
            high = middle
        else:
            low = middle
    return high


@inner
def _moments(values):
    """At most ``MOST_MOMENTS`` of the distinct values, the least and the greatest among them."""
    distinct = np.unique(values)
    n = distinct.shape[0]
    if n <= MOST_MOMENTS:
        return distinct
    result = np.zeros(MOST_MOMENTS, distinct.dtype)
    for k in range(MOST_MOMENTS):
        result[k] = distinct[k * (n - 1) // (MOST_MOMENTS - 1)]
    return result


@inner
def _seconds(work):
    """Whole seconds that so much work takes."""
    return int(np.ceil(work * ALMOST_ONE - TRIFLE_S))


@kernel
def raised_heads(order, release, shortest, work, longest_first, duration, machines, pred_ptr, pred):
    """Earliest conceivable starts, since all that comes before a task must be done before it.

    Parameters
    ----------
    order : int64 (tasks,)
        A topological order.
    release, shortest : int64 (tasks,)
    work : float64 (tasks,)
    longest_first : int64 (tasks,)
        All tasks by shortest duration.
    duration, machines
        As in ``fits_by_number``.
    pred_ptr, pred : int64

    Returns
    -------
    int64 (tasks,)
    """
    tasks = order.shape[0]
    head = release.copy()
    above = np.zeros((tasks, tasks), np.bool_)
    members = np.zeros(tasks, np.int64)
    for i in order:
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            j = pred[p]
            head[i] = max(head[i], head[j] + shortest[j])
            above[i] |= above[j]
            above[i, j] = True
        if pred_ptr[i + 1] - pred_ptr[i] < 2:
            continue  # nothing beyond what its predecessor knows
        before = np.flatnonzero(above[i])
        heads = head[before]
        total = 0.0
        for k in np.argsort(-heads):
            total += work[before[k]]
            head[i] = max(head[i], heads[k] + _seconds(total))
        if before.shape[0] > MOST_COUNTED:
            continue
        for moment in _moments(heads):
            count = 0
            for j in longest_first:
                if above[i, j] and head[j] >= moment:
                    members[count] = j
                    count += 1
            length = max(0, head[i] - moment)
            head[i] = moment + least_window(members, count, length, duration, machines)
    return head


@kernel
def window_makespan(head, rest, shortest, work, longest_first, duration, machines):
    """A makespan that nothing beats, from what must be done between two moments.

    Parameters
    ----------
    head : int64 (tasks,)
        Earliest start of each task.
    rest : int64 (tasks,)
        What must pass between its end and the end of everything.
    shortest, work, longest_first, duration, machines
        As in ``raised_heads``.

    Returns
    -------
    int
    """
    tasks = head.shape[0]
    least = 0
    for i in range(tasks):
        least = max(least, head[i] + shortest[i] + rest[i])
    by_rest = np.argsort(-rest)
    for moment in np.unique(head):
        total = 0.0
        for i in by_rest:
            if head[i] >= moment:
                total += work[i]
                least = max(least, moment + _seconds(total) + rest[i])
    members = np.zeros(tasks, np.int64)
    ends = _moments(rest)
    for moment in _moments(head):
        for end in ends:
            count = 0
            for i in longest_first:
                if head[i] >= moment and rest[i] >= end:
                    members[count] = i
                    count += 1
            if 1 < count <= MOST_COUNTED:
                length = max(0, least - moment - end)
                least = moment + end + least_window(members, count, length, duration, machines)
    return least
