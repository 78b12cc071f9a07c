"""Search over the plans of a cluster, priced in several scenarios: see ``scenario_course``.

A move changes a few places of the order, and the homes of a task or two.
"""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.solvers.lns.ruin import BEYOND, CLASS, FIRST, KIND, SHARDS
from plancast.planner.solvers.lns.scenario_course import (
    _all_timed,
    _course,
    _places,
    _retimed,
    _shared_cost,
    _sum_up,
)

MOVES = 3
WITHIN, ELSEWHERE, SWAP = range(MOVES)
"""A task before or after some that share a worker with it; one or more pieces of it to another
worker, where it may pass some of that one's; two tasks exchanged."""
TRIED = 3
"""Of so many tasks the one whose time costs most is moved, every other move."""
PASSED = 4
"""Most tasks of a worker that a task passes."""


@inner
def _bounds(f, place, i):
    """The places between which its predecessors and successors leave a task."""
    low, high, tasks = 0, f.ti.shape[0] - 1, f.ti.shape[0]
    for k in range(f.pred_ptr[i], f.pred_ptr[i + 1]):
        if f.pred[k] < tasks:
            low = max(low, place[f.pred[k]] + 1)
    for k in range(f.succ_ptr[i], f.succ_ptr[i + 1]):
        high = min(high, place[f.succ[k]] - 1)
    return low, high


@inner
def _one_of(c):
    """Any task, or of some the one whose time costs most."""
    i = np.random.randint(c.cost.shape[1])
    if np.random.random() < 0.5:
        for _ in range(TRIED - 1):
            j = np.random.randint(c.cost.shape[1])
            if c.cost[c.at[j], j] > c.cost[c.at[i], i]:
                i = j
    return i


@inner
def _passing(f, order, home, i, a, w, most, low, high):
    """Where a task of place a has passed some tasks of worker w, or of its own for -1."""
    to_pass, k = np.random.randint(1, most + 1), a
    step = 1 if np.random.random() < 0.5 else -1
    while low <= k + step <= high and to_pass > 0:
        k += step
        j, found = order[k], False
        for q in range(f.ti[j, FIRST], f.ti[j, BEYOND]):
            if w >= 0:
                found = found or home[q] == w
            else:
                for p in range(f.ti[i, FIRST], f.ti[i, BEYOND]):
                    found = found or home[q] == home[p]
        to_pass -= found
    return k if to_pass == 0 else a


@inner
def _shifted(order, a, b):
    """Move what is at place a of an order to place b."""
    i = order[a]
    step = 1 if b > a else -1
    for k in range(a, b, step):
        order[k] = order[k + step]
    order[b] = i


@inner
def _rehomed(f, home, i, w):
    """Give a piece of a task to worker w, or all that lie beside it; whether they may lie there."""
    first, beyond, room = f.ti[i, FIRST], f.ti[i, BEYOND], f.room[f.ti[i, KIND], w]
    p, there = first + np.random.randint(beyond - first), 0
    for q in range(first, beyond):
        there += home[q] == w
    was = home[p]
    if was == w or there >= room or f.run_s[0, i, f.wi[w, CLASS]] == 0:
        return False
    home[p] = w
    if np.random.random() < 0.5:
        for q in range(first, beyond):
            if home[q] == was and there + 1 < room:
                home[q] = w
                there += 1
    for p in range(first + 1, beyond):
        q = p
        while q > first and home[q - 1] > home[q]:
            home[q - 1], home[q] = home[q], home[q - 1]
            q -= 1
    return True


@inner
def _proposed(f, c, order, place, home, rule, moved):
    """Change an order and homes by a rule: (first and last place changed; last < first for none).

    `moved` names the tasks that the change is about, twice the same for one.
    """
    i = _one_of(c)
    a = place[i]
    low, high = _bounds(f, place, i)
    moved[0] = moved[1] = i
    if rule == SWAP:
        far = max(1, min(2 * f.wi.shape[0], order.shape[0] - 1))
        b = a + np.random.randint(1, far + 1)
        if f.ti[i, SHARDS] > 1 or b > high:
            return 1, 0
        j = order[b]
        v, w = home[f.ti[i, FIRST]], home[f.ti[j, FIRST]]
        if f.ti[j, SHARDS] > 1 or v == w or _bounds(f, place, j)[0] > a:
            return 1, 0
        moved[1] = j
        if not _rehomed(f, home, i, w) or not _rehomed(f, home, j, v):
            return 1, 0
        order[a], order[b] = j, i
        return a, b
    w = np.int64(-1)
    if rule == ELSEWHERE:
        first, beyond = f.every_ptr[f.ti[i, KIND]], f.every_ptr[f.ti[i, KIND] + 1]
        w = f.every[first + np.random.randint(beyond - first)]
        if not _rehomed(f, home, i, w):
            return 1, 0
    b = a
    if rule == WITHIN or np.random.random() < 0.5:
        b = _passing(f, order, home, i, a, w, PASSED, low, high)
    if rule == WITHIN and a == b:
        return 1, 0
    _shifted(order, a, b)
    return min(a, b), max(a, b)


@kernel
def search(f, order, home, moves, heat, odds, seed):
    """Change a plan `moves` times, keeping what costs less, or by chance a little more.

    Parameters
    ----------
    f : Scenarios
    order, home : int64 (tasks,), (pieces,)
        As in ``scenario_course.lay_out``.
    moves : int
    heat : float
        Temperature of the simulated annealing, in units of cost.
    odds : float64 (MOVES,)
        Cumulated chances of the rules.
    seed : int

    Returns
    -------
    best_order, best_home, order, home : int64
        The best met, the first one included, and the last one kept.
    best, current : float
        Mean costs over the scenarios.
    timed : int
        Tasks that were timed anew, all moves together.
    """
    np.random.seed(seed)
    tasks, workers, scenarios = f.ti.shape[0], f.wi.shape[0], f.run_s.shape[0] - 1
    c, place = _course(f), _places(f, order)
    last, load_s = f.last.copy(), f.load_s.copy()
    tried, there = order.copy(), home.copy()
    order, home = order.copy(), home.copy()
    additive, stamp = _all_timed(f, c, tried, place, there, last, load_s)
    current = additive + _shared_cost(f, c, last, load_s) if additive < np.inf else np.inf
    best_order, best_home, best = order.copy(), home.copy(), current
    kept_last, kept_load = last.copy(), load_s.copy()
    shaken, touched = np.zeros(2 * workers, np.bool_), np.zeros(workers, np.bool_)
    changed, again = np.zeros(tasks, np.bool_), np.zeros(tasks, np.int64)
    moved, timed = np.zeros(2, np.int64), 0
    for _ in range(moves if current < np.inf else 0):
        draw, rule = np.random.random(), 0
        while rule < MOVES - 1 and draw >= odds[rule]:
            rule += 1
        low, high = _proposed(f, c, tried, place, there, rule, moved)
        limit = current - heat * scenarios * np.log(1.0 - np.random.random())
        fresh, rest, number = np.inf, 0.0, 0
        if low <= high:
            for k in range(low, high + 1):
                place[tried[k]] = k
            for w in range(2 * workers):
                shaken[w] = False
            for i in moved:
                for p in range(f.ti[i, FIRST], f.ti[i, BEYOND]):
                    shaken[workers + home[p]] = shaken[workers + there[p]] = True
            number, stamp, complete = _retimed(
                f, c, tried, place, there, low, high, shaken, changed, again, touched, stamp
            )  # fmt: skip
            timed += number
            if complete:
                fresh = additive
                for k in range(number):
                    i = again[k]
                    fresh += c.cost[c.at[i], i] - c.cost[1 - c.at[i], i]
                rest = fresh
                _sum_up(f, c, there, touched, last, load_s)
                fresh += _shared_cost(f, c, last, load_s)
        for k in range(number):
            changed[again[k]] = False
        if fresh <= limit:
            additive, current = rest, fresh
            for k in range(low, high + 1):
                order[k] = tried[k]
            for i in moved:
                for p in range(f.ti[i, FIRST], f.ti[i, BEYOND]):
                    home[p] = there[p]
            copy_into(kept_last, last)
            copy_into(kept_load, load_s)
            if current < best - 1e-12 * abs(best):
                best = current
                copy_into(best_order, order)
                copy_into(best_home, home)
            continue
        for k in range(number):
            c.at[again[k]] = 1 - c.at[again[k]]
        for k in range(low, high + 1):
            tried[k] = order[k]
            place[order[k]] = k
        for i in moved:
            for p in range(f.ti[i, FIRST], f.ti[i, BEYOND]):
                there[p] = home[p]
        copy_into(last, kept_last)
        copy_into(load_s, kept_load)
    return best_order, best_home, order, home, best / scenarios, current / scenarios, timed
