"""Activity lists with a mode for each activity: decode and search both together.

As ``activity_lists``, where ``Project.duration`` and ``Project.demand`` are those of the modes
chosen, kept up to date here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.solvers.makespan.activity_lists import (
    Project,
    back_and_forth,
    latest_first,
    serial,
    shift,
)

FLIPPED = 0.5
"""Share of neighbours in which an activity takes a random other mode."""
CHOSEN_ANEW, FLAGGED = 0.5, 2
"""Share of neighbours in which the modes of so many activities are chosen where they are placed."""
BACKWARD = 0.5
"""Share of these in which they are where time runs backwards as well."""
SPREAD, LATE = 1.0, 0.3
"""Weights, beside the makespan, of the mean end and of the sum of what ends too late."""
WINDOW, PACE = 64, 1.05
"""Lists after which the price of what is beyond a budget changes, and by what factor."""


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
    usual : float64 (budgets,)
        By how much the modes of an activity differ, on average.
    """

    ptr: np.ndarray
    duration: np.ndarray
    demand: np.ndarray
    consumed: np.ndarray
    left: np.ndarray
    usual: np.ndarray


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


@inner
def _back_and_forth(project, ways, room, used, chosen, flagged, backward, order):
    """As ``activity_lists.back_and_forth``; the modes of flagged activities are chosen on the way.

    `backward` says whether that is so where time runs backwards as well.
    """
    p = project
    beginning = np.zeros_like(p.release)
    if backward:
        serial_in_modes(
            order, p, ways, used, chosen, flagged, p.succ_ptr, p.succ, beginning, room
        )  # fmt: skip
    else:
        serial(order, p, p.succ_ptr, p.succ, beginning, room)
    latest_first(room.end, order, room.tally, room.spare)
    return serial_in_modes(
        order, p, ways, used, chosen, flagged, p.pred_ptr, p.pred, p.release, room
    )  # fmt: skip


@inner
def _excess(ways, used):
    """What is taken of the budgets beyond what there is, in usual differences between modes."""
    total = 0.0
    for b in range(used.shape[0]):
        total += max(0, used[b] - ways.left[b]) / ways.usual[b]
    return total


@inner
def _flip(ways, project, used, chosen):
    """Give a random activity another mode, whether a budget has room for it or not."""
    i = np.random.randint(chosen.shape[0])
    count = ways.ptr[i + 1] - ways.ptr[i]
    if count > 1:
        row = ways.ptr[i] + np.random.randint(count - 1)
        _change(ways, project, used, chosen, i, row + (row >= chosen[i]))


@inner
def _flag(flagged):
    """Flag up to `FLAGGED` random activities, in some neighbours; whether any is."""
    flagged[:] = False
    any_flagged = np.random.random() < CHOSEN_ANEW
    if any_flagged:
        for _ in range(1 + np.random.randint(FLAGGED)):
            flagged[np.random.randint(flagged.shape[0])] = True
    return any_flagged


@kernel
def cost_of(room, tail, makespan, least):
    """What a schedule counts, budgets aside: see ``anneal_in_modes``."""
    n = tail.shape[0]
    total, late = 0, 0
    for i in range(n):
        total += room.end[i]
        late += max(0, room.end[i] + tail[i] - (least - 1))
    return makespan + SPREAD * total / n + LATE * late


@kernel
def anneal_in_modes(
    project, ways, room, tail, order, chosen, current, best, best_chosen, lists, heat, seed
):
    """Try `lists` neighbours of a schedule and its modes by simulated annealing.

    Parameters
    ----------
    project, ways, room
    tail : int64 (n,)
        The least that follows the end of each activity, seconds.
    order, chosen : int64 (n,)
        The schedule to go on from, as the list of its activities by falling end, and the row
        of each activity; left as those to go on from next, which may take more of a budget than
        there is.
    current : float64 (4,)
        Cost of that schedule, makespan of `best`, price and amount of what that schedule takes
        too much of the budgets; cost infinite at first.
    best, best_chosen : int64 (n,)
        The list of least makespan so far that keeps to the budgets, to be scheduled forwards,
        and its rows.
    lists : int
        Neighbours to try.
    heat : float
        Temperature, seconds.
    seed : int

    Returns
    -------
    int
        The least makespan so far.

    Notes
    -----
    A neighbour shifts an activity of the list, which is then scheduled backwards and what that
    leaves forwards. It counts its makespan, its mean end, by how much activities end too late
    for a makespan shorter than the best, and what it takes too much of the budgets. The price of
    that rises and falls until half of the lists keep to the budgets: the way from one good choice
    of modes to another leads through many that do not.
    """
    np.random.seed(seed)
    p = project
    backwards = Project(
        p.duration, p.release, p.demand, p.succ_ptr, p.succ, p.pred_ptr, p.pred, p.full, p.guards
    )
    n = order.shape[0]
    trial, modes = np.empty_like(order), np.empty_like(chosen)
    used, flagged = np.zeros(ways.left.shape[0], np.int64), np.zeros(n, np.bool_)
    within = 0
    for tried in range(lists):
        copy_into(trial, order)
        copy_into(modes, chosen)
        take(ways, project, used, modes)
        if np.random.random() < FLIPPED:
            _flip(ways, project, used, modes)
            shift(backwards, room, trial, np.random.randint(2))
        else:
            shift(backwards, room, trial, 1)
        if _flag(flagged):
            backward = np.random.random() < BACKWARD
            makespan = _back_and_forth(project, ways, room, used, modes, flagged, backward, trial)
        else:
            makespan = back_and_forth(project, room, trial, np.inf)
        excess = _excess(ways, used)
        cost = cost_of(room, tail, makespan, current[1]) + current[2] * excess
        worse = cost - current[0]
        if excess == 0.0 and makespan < current[1]:
            current[1] = makespan
            copy_into(best, trial)
            copy_into(best_chosen, modes)
        if worse <= 0.0 or np.random.random() < np.exp(-worse / heat):
            latest_first(room.end, trial, room.tally, room.spare)
            copy_into(order, trial)
            copy_into(chosen, modes)
            current[0], current[3] = cost, excess
        within += current[3] == 0.0
        if tried % WINDOW == WINDOW - 1:
            before = current[2]
            rises = 2 * within < WINDOW
            current[2] = min(max(before * (PACE if rises else 1 / PACE), heat / 100), 100 * heat)
            current[0] += (current[2] - before) * current[3]
            within = 0
    return current[1]
