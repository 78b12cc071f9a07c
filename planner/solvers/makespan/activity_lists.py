"""Activity lists for one worker with several resources: decode, justify, search.

A schedule is what serial generation makes of a list: task after task in the list's order,
each as early as precedence and resources allow. What is free in each second is one 64-bit
word with a field for each resource and a guard bit above every field: a demand fits where
subtracting it leaves all guards standing.

Times are seconds after now, int64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into


class Project(NamedTuple):
    """What does not change during a search; n tasks, packed amounts.

    Parameters
    ----------
    duration, release : int64 (n,)
    demand : int64 (n,)
        A field for each resource.
    pred_ptr, pred, succ_ptr, succ : int64
        Precedence in CSR form, both ways.
    full : int64
        Capacity in every field, with the guards.
    guards : int64
        The guard bits.
    """

    duration: np.ndarray
    release: np.ndarray
    demand: np.ndarray
    pred_ptr: np.ndarray
    pred: np.ndarray
    succ_ptr: np.ndarray
    succ: np.ndarray
    full: int
    guards: int


class Room(NamedTuple):
    """Working space of one search.

    Parameters
    ----------
    free : int64 (horizon,)
        ``Project.full`` everywhere between calls; as long as all tasks one after another,
        from the last release on.
    end, spare, place : int64 (n,)
    tally : int64 (horizon + 2,)
    """

    free: np.ndarray
    end: np.ndarray
    tally: np.ndarray
    spare: np.ndarray
    place: np.ndarray


@kernel
def serial(order, project, pred_ptr, pred, release, room):
    """Serial schedule generation; fills ``room.end`` and returns the makespan.

    Parameters
    ----------
    order : int64 (n,)
        Topological.
    project : Project
    pred_ptr, pred, release : int64
        The project's own, or successors and zeros where time runs backwards.
    room : Room
    """
    duration, demand, guards = project.duration, project.demand, project.guards
    free, end = room.free, room.end
    makespan = 0
    for i in order:
        t = release[i]
        for k in range(pred_ptr[i], pred_ptr[i + 1]):
            t = max(t, end[pred[k]])
        need = demand[i]
        # From the end of the window back to what is known to fit: where a second does not, no
        # start up to it will do, and what lies between has been seen to fit.
        known, stop = t, t + duration[i]
        s = stop - 1
        while s >= known:
            if (free[s] - need) & guards == guards:
                s -= 1
            else:
                known, t = stop, s + 1
                stop = t + duration[i]
                s = stop - 1
        for s in range(t, stop):
            free[s] -= need
        end[i] = stop
        makespan = max(makespan, stop)
    free[:makespan] = project.full
    return makespan


@inner
def latest_first(key, order, count, spare):
    """Sort `order` by falling `key`, equal ones as they stood; `key` counts seconds."""
    n = order.shape[0]
    top = 0
    for i in range(n):
        top = max(top, key[i])
    if top > 16 * n:  # few tasks in a long time: counting every second would take longer
        copy_into(spare, order)
        rank = np.argsort(-key[spare], kind="mergesort")
        for k in range(n):
            order[k] = spare[rank[k]]
        return
    count[: top + 2] = 0
    for i in range(n):
        count[top - key[i] + 1] += 1
    for t in range(1, top + 1):
        count[t] += count[t - 1]
    copy_into(spare, order)
    for i in spare:
        slot = top - key[i]
        order[count[slot]] = i
        count[slot] += 1


@kernel
def justify(project, room, order):
    """Schedule a list, then justify it to the right and to the left; returns the makespan.

    `order` becomes the list of the schedule that is left, in order of start; ``room.end``
    holds its ends.

    References
    ----------
    Valls, Ballestin, Quintanilla (2005), "Justification and RCPSP: a technique that pays",
    doi:10.1016/j.ejor.2004.04.008.
    """
    p = project
    serial(order, p, p.pred_ptr, p.pred, p.release, room)
    latest_first(room.end, order, room.tally, room.spare)
    makespan = back_and_forth(p, room, order, np.inf)
    start_order(p.duration, room, order)
    return makespan


@kernel
def back_and_forth(project, room, order, limit):
    """Schedule a list whose last task comes first backwards, then what that leaves forwards.

    Returns the makespan, or -1 where the list takes longer than `limit` backwards: it is given
    up then. `order` becomes the list that is scheduled forwards; ``room.end`` holds its ends.
    """
    p = project
    if serial(order, p, p.succ_ptr, p.succ, np.zeros_like(p.release), room) > limit:
        return -1
    # Time ran backwards: what ended last there starts first here.
    latest_first(room.end, order, room.tally, room.spare)
    return serial(order, p, p.pred_ptr, p.pred, p.release, room)


@inner
def start_order(duration, room, order):
    """Put `order` in order of start, equal ones as they stood."""
    n = order.shape[0]
    for i in range(n):
        room.end[i] -= duration[i]
    latest_first(room.end, order, room.tally, room.spare)
    for k in range(n // 2):
        order[k], order[n - 1 - k] = order[n - 1 - k], order[k]
    for i in range(n):
        room.end[i] += duration[i]


@kernel
def shift(project, room, order, moves):
    """Move `moves` random tasks of a list to random places that precedence allows."""
    n = order.shape[0]
    for k in range(n):
        room.place[order[k]] = k
    for _ in range(moves):
        i = np.random.randint(n)
        at = room.place[i]
        low, high = 0, n - 1
        for k in range(project.pred_ptr[i], project.pred_ptr[i + 1]):
            low = max(low, room.place[project.pred[k]] + 1)
        for k in range(project.succ_ptr[i], project.succ_ptr[i + 1]):
            high = min(high, room.place[project.succ[k]] - 1)
        if high <= low:
            continue
        to = np.random.randint(low, high + 1)
        while at < to:
            order[at] = order[at + 1]
            room.place[order[at]] = at
            at += 1
        while at > to:
            order[at] = order[at - 1]
            room.place[order[at]] = at
            at -= 1
        order[at] = i
        room.place[i] = at


@kernel
def anneal(project, room, order, current, best, lists, strength, spread, heat, longer, seed):
    """Try `lists` neighbours of a schedule by simulated annealing; returns the best makespan.

    Parameters
    ----------
    order : int64 (n,)
        The schedule to go on from, as the list of its tasks by falling end; left as the one to
        go on from next.
    current : float64 (3,)
        Cost of that schedule, makespan of `best`, makespan of that schedule; the first and the
        last infinite at first.
    best : int64 (n,)
        The list of least makespan so far, to be scheduled forwards.
    lists : int
        Neighbours to try: up to `strength` random shifts of `order` each, which is then
        scheduled backwards and what that leaves forwards.
    spread : float
        The cost is the makespan plus this times the mean end: of two schedules as long, the
        one that has done more earlier leaves more room at its end.
    heat : float
        Temperature, seconds.
    longer : float
        A neighbour that takes so many seconds more backwards is given up.
    seed : int
    """
    np.random.seed(seed)
    p = project
    backwards = Project(
        p.duration, p.release, p.demand, p.succ_ptr, p.succ, p.pred_ptr, p.pred, p.full, p.guards
    )
    n = order.shape[0]
    trial = np.empty_like(order)
    for _ in range(lists):
        copy_into(trial, order)
        shift(backwards, room, trial, 1 + np.random.randint(strength))
        makespan = back_and_forth(p, room, trial, current[2] + longer)
        if makespan < 0:
            continue
        total = 0
        for i in range(n):
            total += room.end[i]
        cost = makespan + spread * total / n
        worse = cost - current[0]
        if makespan < current[1]:
            current[1] = makespan
            copy_into(best, trial)
        if worse <= 0.0 or np.random.random() < np.exp(-worse / heat):
            latest_first(room.end, trial, room.tally, room.spare)
            copy_into(order, trial)
            current[0], current[2] = cost, makespan
    return current[1]
