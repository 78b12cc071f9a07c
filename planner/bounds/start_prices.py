"""The best starts of tasks that pay for what they take, by the time at which they take it."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into


@inner
def stretch_of(time, knots):
    """The last stretch that starts at a time or before it."""
    low, high = 0, knots.shape[0] - 1
    while high - low > 1:
        middle = (low + high) // 2
        if knots[middle] <= time:
            low = middle
        else:
            high = middle
    return low


@inner
def add_up(takes, price, knots, paid):
    """What a piece has paid by each knot that takes from the first on."""
    for k in range(knots.shape[0] - 1):
        rate = 0.0
        for r in range(takes.shape[0]):
            rate += takes[r] * price[r, k]
        paid[k + 1] = paid[k] + rate * (knots[k + 1] - knots[k])


@inner
def paid_until(time, knots, paid):
    """What one that takes from the first knot on has paid by a time; nothing behind the last."""
    last = knots.shape[0] - 1
    if time >= knots[last]:
        return paid[last]
    k = stretch_of(time, knots)
    share = (time - knots[k]) / (knots[k + 1] - knots[k])
    return paid[k] + share * (paid[k + 1] - paid[k])


@inner
def own_cost(start, task, group, duration, due, slope, constant, late, miss):
    """What a task costs itself that starts then and ends with a piece on the group."""
    cost = constant[task, group] + slope[task, group] * start
    beyond = start + duration[task, group] - due[task]
    if beyond > 0.0:
        cost += miss[task] + late[task] * beyond
    return cost


@inner
def spread(start, durations, most, pieces, knots, paid, each, on):
    """What all pieces pay from a start on, on the groups where that is least.

    `on` becomes how many run on each group, no more than `most`; `each` is overwritten.
    """
    for g in range(durations.shape[0]):
        on[g] = 0
        each[g] = np.inf
        if durations[g] > 0.0:
            end = start + durations[g]
            each[g] = paid_until(end, knots, paid[g]) - paid_until(start, knots, paid[g])
    total, left = 0.0, pieces
    while left > 0:
        g = int(np.argmin(each))
        if each[g] == np.inf:
            break
        on[g] = min(left, most[g])
        total += on[g] * each[g]
        left -= on[g]
        each[g] = np.inf
    return total


@inner
def candidate(way, head, due, duration, knots):
    """A start at which the cost of a task may be least."""
    if way == 0:
        return head
    if way == 1:
        return due - duration
    knot = knots[way // 2 - 1]
    return knot if way % 2 == 0 else knot - duration


@inner
def take(start, end, knots, pieces, takes, taken):
    """Add what pieces of a task take of a group's resources, stretch by stretch."""
    k = stretch_of(start, knots)
    while k < knots.shape[0] - 1 and knots[k] < end:
        overlap = min(end, knots[k + 1]) - max(start, knots[k])
        if overlap > 0.0:
            for r in range(takes.shape[0]):
                taken[r, k] += pieces * takes[r] * overlap
        k += 1


@kernel
def best_starts(
    duration, head, due, slope, constant, late, miss, takes, pieces, most, knots, price, taken
):
    """The least that all tasks cost and pay; `taken` becomes what they take where that is least.

    Parameters
    ----------
    duration : float64 (tasks, groups)
        0 where a task may not run.
    head, due, late, miss : float64 (tasks,)
        Earliest start, deadline, cost of a second and of an end behind the deadline.
    slope, constant : float64 (tasks, groups)
        Cost of a start at s: ``constant + slope s``.
    takes : float64 (tasks, resources)
        Of one piece.
    pieces : int64 (tasks,)
    most : int64 (tasks, groups)
        Pieces that a group holds at once.
    knots : float64 (stretches + 1,)
        Ends of the stretches of time, from 0.
    price, taken : float64 (groups, resources, stretches)
        Of a unit for a second; units times seconds.

    Returns
    -------
    float, float, float
        The sum, the sum of the amounts that it was made of, and the largest sum of prices that
        one of these is a difference of.

    Notes
    -----
    Between two knots the price is constant, so what a task costs and pays is piecewise linear in
    its start, and least where it starts or a piece ends at a knot, it starts at its head or ends
    in time. Pieces that one group can hold are on one: others cost no less.
    """
    tasks, groups = duration.shape
    stretches = knots.shape[0] - 1
    paid = np.zeros((groups, stretches + 1))
    each, on, best_on = np.empty(groups), np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    taken[:] = 0.0
    total, size, summed = 0.0, 0.0, 0.0
    for task in range(tasks):
        splits, fastest = False, -1
        for g in range(groups):
            if duration[task, g] <= 0.0:
                continue
            splits |= pieces[task] > most[task, g]
            if fastest < 0 or duration[task, g] < duration[task, fastest]:
                fastest = g
            add_up(takes[task], price[g], knots, paid[g])
            summed = max(summed, pieces[task] * paid[g, stretches])
        least, best_start = np.inf, 0.0
        for g in range(groups):
            d = duration[task, g]
            if d <= 0.0:
                continue
            ends_on = fastest if splits else g
            for way in range(2 * stretches + 4):
                start = candidate(way, head[task], due[task], duration[task, ends_on]
                                  if way == 1 else d, knots)  # fmt: skip
                if not head[task] <= start < np.inf:
                    continue
                cost = own_cost(start, task, ends_on, duration, due, slope, constant, late, miss)
                if cost >= least:
                    continue
                if splits:
                    cost += spread(start, duration[task], most[task], pieces[task], knots, paid,
                                   each, on)  # fmt: skip
                else:
                    to_pay = paid_until(start + d, knots, paid[g])
                    cost += pieces[task] * (to_pay - paid_until(start, knots, paid[g]))
                if cost < least:
                    least, best_start = cost, start
                    if not splits:
                        on[:] = 0
                        on[g] = pieces[task]
                    copy_into(best_on, on)
        total += least
        size += abs(least)
        for g in range(groups):
            if best_on[g] > 0 and least < np.inf:
                end = best_start + duration[task, g]
                take(best_start, end, knots, best_on[g], takes[task], taken[g])
    return total, size, summed
