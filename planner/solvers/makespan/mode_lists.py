"""Activity lists with a mode for each activity: decode, justify and search both together.

As ``activity_lists``, where ``Project.duration`` and ``Project.demand`` are those of the modes
chosen, kept up to date here. A choice never takes more of a budget than there is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.solvers.makespan.activity_lists import (
    latest_first,
    serial,
    shift,
    start_order,
)

PICKS = 12
"""Random modes of other activities that are tried to make room in a budget."""
FLAGGED = 4
"""Activities of a list whose mode is chosen anew where they are placed: fewer than this."""
FLIPPED = 0.3
"""Share of neighbours in which an activity takes a random other mode."""
BACKWARD = 0.5
"""Share of neighbours whose modes are chosen anew where time runs backwards as well."""


class Ways(NamedTuple):
    """The modes of activities, a row each.

    Parameters
    ----------
    ptr : int64 (n + 1,)
        Rows of each activity.
    duration, demand : int64 (rows,)
        Demands packed as in ``Project``.
    consumed : int64 (rows, budgets)
    left : int64 (budgets,)
    """

    ptr: np.ndarray
    duration: np.ndarray
    demand: np.ndarray
    consumed: np.ndarray
    left: np.ndarray


@inner
def _affords(ways, used, i_row, row):
    """Whether a budget lets an activity change from one of its rows to another."""
    for b in range(used.shape[0]):
        if used[b] - ways.consumed[i_row, b] + ways.consumed[row, b] > ways.left[b]:
            return False
    return True


@inner
def _change(ways, project, used, chosen, i, row):
    """Do activity i in another way."""
    for b in range(used.shape[0]):
        used[b] += ways.consumed[row, b] - ways.consumed[chosen[i], b]
    chosen[i] = row
    project.duration[i] = ways.duration[row]
    project.demand[i] = ways.demand[row]


@kernel
def take(ways, project, used, chosen):
    """Let the project be done as a choice says; fills `used`."""
    used[:] = 0
    for i in range(chosen.shape[0]):
        row = chosen[i]
        for b in range(used.shape[0]):
            used[b] += ways.consumed[row, b]
        project.duration[i] = ways.duration[row]
        project.demand[i] = ways.demand[row]


@inner
def _end_of(free, guards, t, d, need):
    """When something that is ready at t ends at the earliest."""
    run = 0
    while run < d:
        if (free[t] - need) & guards == guards:
            run += 1
        else:
            run = 0
        t += 1
    return t


@kernel
def serial_in_modes(order, project, ways, used, chosen, flagged, pred_ptr, pred, release, room):
    """As ``serial``, but flagged activities take the mode in which they end first.

    Of modes that end alike the shorter one is taken. Fills ``room.end``; returns the makespan.
    """
    free, end, guards = room.free, room.end, project.guards
    makespan = 0
    for i in order:
        ready = release[i]
        for k in range(pred_ptr[i], pred_ptr[i + 1]):
            ready = max(ready, end[pred[k]])
        t = _end_of(free, guards, ready, project.duration[i], project.demand[i])
        if flagged[i]:
            best = chosen[i]
            for row in range(ways.ptr[i], ways.ptr[i + 1]):
                if row == chosen[i] or not _affords(ways, used, chosen[i], row):
                    continue
                other = _end_of(free, guards, ready, ways.duration[row], ways.demand[row])
                if other < t or (other == t and ways.duration[row] < ways.duration[best]):
                    t, best = other, row
            if best != chosen[i]:
                _change(ways, project, used, chosen, i, best)
        for s in range(t - project.duration[i], t):
            free[s] -= project.demand[i]
        end[i] = t
        makespan = max(makespan, t)
    free[:makespan] = project.full
    return makespan


@kernel
def justify_in_modes(project, ways, room, used, chosen, flagged, backward, order):
    """As ``activity_lists.justify``; the modes of flagged activities are chosen on the way.

    `backward` says whether that is so where time runs backwards as well.
    """
    p = project
    serial_in_modes(
        order, p, ways, used, chosen, flagged, p.pred_ptr, p.pred, p.release, room
    )  # fmt: skip
    latest_first(room.end, order, room.tally, room.spare)
    if backward:
        serial_in_modes(
            order, p, ways, used, chosen, flagged, p.succ_ptr, p.succ, np.zeros_like(p.release),
            room,
        )  # fmt: skip
    else:
        serial(
            order, p.duration, p.demand, np.zeros_like(p.release), p.succ_ptr, p.succ, p.guards,
            p.full, room.free, room.end,
        )  # fmt: skip
    latest_first(room.end, order, room.tally, room.spare)
    makespan = serial(
        order, p.duration, p.demand, p.release, p.pred_ptr, p.pred, p.guards, p.full,
        room.free, room.end,
    )  # fmt: skip
    start_order(p.duration, room, order)
    return makespan


@inner
def _flip(ways, project, used, chosen):
    """Give a random activity another mode, and another one if that takes too much of a budget."""
    n = chosen.shape[0]
    i = np.random.randint(n)
    count = ways.ptr[i + 1] - ways.ptr[i]
    if count < 2:
        return
    row = ways.ptr[i] + np.random.randint(count)
    if row == chosen[i]:
        return
    if _affords(ways, used, chosen[i], row):
        _change(ways, project, used, chosen, i, row)
        return
    before = chosen[i]
    _change(ways, project, used, chosen, i, row)
    for _ in range(PICKS):
        j = np.random.randint(n)
        other = ways.ptr[j] + np.random.randint(ways.ptr[j + 1] - ways.ptr[j])
        if j != i and _affords(ways, used, chosen[j], other):
            _change(ways, project, used, chosen, j, other)
            return
    _change(ways, project, used, chosen, i, before)


@kernel
def anneal_in_modes(
    project, ways, room, order, chosen, current, best, best_chosen, lists, strength, spread, heat,
    seed,
):  # fmt: skip
    """Try `lists` neighbours of a list and its modes by simulated annealing.

    Parameters
    ----------
    order, chosen : int64 (n,)
        The list to go on from and the row of each activity; left as those to go on from next.
    best, best_chosen : int64 (n,)
        Those of least makespan so far.
    project, ways, room, current, lists, strength, spread, heat, seed
        As in ``activity_lists.anneal``.

    Returns
    -------
    int
        The least makespan so far.
    """
    np.random.seed(seed)
    n = order.shape[0]
    trial, modes = np.empty_like(order), np.empty_like(chosen)
    used, flagged = np.zeros(ways.left.shape[0], np.int64), np.zeros(n, np.bool_)
    for _ in range(lists):
        trial[:] = order
        modes[:] = chosen
        take(ways, project, used, modes)
        shift(project, room, trial, np.random.randint(strength + 1))
        if np.random.random() < FLIPPED:
            _flip(ways, project, used, modes)
        flagged[:] = False
        for _ in range(np.random.randint(FLAGGED)):
            flagged[np.random.randint(n)] = True
        backward = np.random.random() < BACKWARD
        makespan = justify_in_modes(project, ways, room, used, modes, flagged, backward, trial)
        total = 0
        for i in range(n):
            total += room.end[i]
        cost = makespan + spread * total / n
        worse = cost - current[0]
        if worse <= 0.0 or np.random.random() < np.exp(-worse / heat):
            order[:] = trial
            chosen[:] = modes
            current[0] = cost
        if makespan < current[1]:
            current[1] = makespan
            best[:] = trial
            best_chosen[:] = modes
    return current[1]
