"""Search over the order of a serial schedule, priced in several futures at once.

A *serial schedule* takes the tasks in an order and starts each as early as what is free by then
lets it: on one pooled machine, or on few alike, some order makes a schedule of least cost under
any price that only grows with time. A *future* is one set of run times and of ends of what runs;
an order costs the mean over the futures of what its serial schedule costs in each.

A move changes the order between two places. What comes before is not laid again: profiles and
costs are kept at every few places (*stages*), and a move that gains nothing is given up as soon
as that is certain. Profiles, rates and columns are those of ``ruin``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import brief, inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.solvers.lns.ruin import (
    BASE_END,
    BASE_ON,
    BEFORE,
    BEYOND,
    BEYOND_PRED,
    CLASS,
    COUNT,
    END,
    END_S,
    FAR,
    FIRST,
    HARD_END,
    KIND,
    LAG,
    LAST,
    MOVE,
    NUMBER,
    ON,
    OWNER,
    PRED,
    RAW_RELEASE,
    RELEASE,
    SHARDS,
    SINCE,
    START,
    _earliest,
    _earliest_at_home,
    _fill,
    _has_moved,
    _latest_start,
    _piece_cost,
    _place_gang,
    _task_cost,
    _worker_cost,
    _worst_off,
)

MOVES = 4
INSERT, SWAP, BLOCK, NEAR = range(MOVES)
"""A task elsewhere; two tasks' places exchanged; a few neighbours elsewhere; a task a few places
earlier or later."""
LONGEST_BLOCK = 8
NEAR_PLACES = 6


class Futures(NamedTuple):
    """Where an order is laid out, and at what rates.

    Parameters
    ----------
    ti : int64 (futures, tasks, columns)
        As ``ruin.Fixed.ti``; RELEASE is the earliest start in that future, and nothing is down as
        waiting for a task: it is placed later.
    run_s : int64 (futures, tasks, classes)
    profile : int64 (futures, workers, segments, 1 + words)
        Before any task of the order is placed, with room for all of them.
    ws : int64 (futures, workers, 3)
        The columns LAST, NUMBER (0: not in use) and COUNT of ``ruin.State.ws``.
    load_s : float64 (futures, workers)
    wait_s : float64 (futures, owners)
    base : float64 (futures, 2)
        Cost of what no order changes; latest end of it, seconds.
    tf, wi, wf, pi, room, share, link, rates, owner_tasks, max_stretch
        As in ``ruin.Fixed``.
    """

    ti: np.ndarray
    run_s: np.ndarray
    profile: np.ndarray
    ws: np.ndarray
    load_s: np.ndarray
    wait_s: np.ndarray
    base: np.ndarray
    tf: np.ndarray
    wi: np.ndarray
    wf: np.ndarray
    pi: np.ndarray
    room: np.ndarray
    share: np.ndarray
    link: np.ndarray
    rates: np.ndarray
    owner_tasks: np.ndarray
    max_stretch: float


class Stages(NamedTuple):
    """A state as it is before each so many-th place of an order.

    Parameters
    ----------
    profile : int64 (2, futures, stages, workers, segments, 1 + words)
    ws : int64 (2, futures, stages, workers, 3)
    load_s : float64 (2, futures, stages, workers)
    wait_s : float64 (2, futures, stages, owners)
    cost : float64 (2, futures, stages, 3)
        What additive terms cost so far; latest end; the least that tasks to come add.
    side : int64 (futures, stages)
        Which of the two holds the stage of the current order; the other one is written to.
    """

    profile: np.ndarray
    ws: np.ndarray
    load_s: np.ndarray
    wait_s: np.ndarray
    cost: np.ndarray
    side: np.ndarray


@inner
def _copy(profile, ws, load_s, wait_s, to_profile, to_ws, to_load, to_wait):
    """Copy a state; of profiles the segments in use."""
    for w in range(ws.shape[0]):
        for c in range(3):
            to_ws[w, c] = ws[w, c]
        to_load[w] = load_s[w]
        for k in range(ws[w, COUNT]):
            for c in range(profile.shape[2]):
                to_profile[w, k, c] = profile[w, k, c]
    for o in range(wait_s.shape[0]):
        to_wait[o] = wait_s[o]


@inner
def _earliest_end(ti, wi, run_s, room, max_stretch, ws, profile, i, not_before):
    """The worker on which task i ends first, the first of equals: (worker, start, end)."""
    best_w, best_start, best_end = -1, FAR, FAR
    kind = ti[i, KIND]
    for w in range(ws.shape[0]):
        if room[kind, w] == 0:
            continue
        d = run_s[i, wi[w, CLASS]]
        if d == 0:
            continue
        latest = min(_latest_start(ti, max_stretch, i, ti[i, HARD_END], d), best_end - 1 - d)
        if not_before > latest:
            continue
        start = _earliest(profile, ws[w, COUNT], w, ti, i, not_before, d, latest)
        if start < FAR:
            best_w, best_start, best_end = w, start, start + d
    return best_w, best_start, best_end


@inner
def _at_home(ti, wi, run_s, home, max_stretch, ps, ws, profile, i, not_before):
    """The earliest run of task i on the workers of its pieces: (start, end)."""
    first, beyond = ti[i, FIRST], ti[i, BEYOND]
    duration = run_s[i, wi[home[first], CLASS]]
    for p in range(first, beyond):
        ps[p, ON] = home[p]
        duration = max(duration, run_s[i, wi[home[p], CLASS]])
    latest = _latest_start(ti, max_stretch, i, ti[i, HARD_END], duration)
    if beyond == first + 1:
        w = home[first]
        start = _earliest(profile, ws[w, COUNT], w, ti, i, not_before, duration, latest)
    else:
        start = _earliest_at_home(ti, ps, ws, profile, None, i, not_before, duration, latest)
    return start, min(FAR, start + duration)


@inner
def _lay(
    f, s, order, first, every, home, ts, ps, profile, ws, load_s, wait_s, stages, keep, additive,
    makespan, to_come, floor, known, limit,
):  # fmt: skip
    """Lay out ``order[first:]`` in future s; (cost, or infinity where it exceeds `limit`).

    A task whose pieces have a ``home`` goes there, any other one where it ends first. The state
    is changed in place; where `keep`, stages after `first` are written to.
    """
    ti, run_s = f.ti[s], f.run_s[s]
    tf, wi, wf, pi, room, share = f.tf, f.wi, f.wf, f.pi, f.room, f.share
    link, rates, free = f.link, f.rates, np.zeros(f.rates.shape[0])
    for k in range(first, order.shape[0]):
        if keep and k % every == 0 and k > first:
            c = k // every
            side = 1 - stages.side[s, c]
            _copy(
                profile, ws, load_s, wait_s, stages.profile[side, s, c], stages.ws[side, s, c],
                stages.load_s[side, s, c], stages.wait_s[side, s, c],
            )  # fmt: skip
            stages.cost[side, s, c, 0] = additive
            stages.cost[side, s, c, 1] = makespan
            stages.cost[side, s, c, 2] = to_come
        i = order[k]
        begin, finish = FAR, FAR
        not_before = ti[i, RELEASE]
        for p in range(ti[i, PRED], ti[i, BEYOND_PRED]):
            not_before = max(not_before, ts[link[p, BEFORE], link[p, SINCE]] + link[p, LAG])
        if home[ti[i, FIRST]] >= 0:
            begin, finish = _at_home(
                ti, wi, run_s, home, f.max_stretch, ps, ws, profile, i, not_before,
            )  # fmt: skip
        elif ti[i, SHARDS] == 1:
            w, begin, finish = _earliest_end(
                ti, wi, run_s, room, f.max_stretch, ws, profile, i, not_before
            )
            ps[ti[i, FIRST], ON] = w
        else:
            begin, finish = _place_gang(
                ti, tf, wi, run_s, room, share, link, free, None, f.max_stretch, ts, ps, ws,
                profile, None, i, 0.0, 1.0, np.int64(0), np.inf,
            )  # fmt: skip
        if begin >= FAR:
            return np.inf
        ts[i, START], ts[i, END] = begin, finish
        additive += _task_cost(ti, tf, rates, i, begin, finish)
        if rates[MOVE] > 0.0 and _has_moved(ti, pi, ps, i, begin):
            additive += rates[MOVE]
        wait_s[ti[i, OWNER]] += begin - ti[i, RAW_RELEASE]
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            w = ps[p, ON]
            _fill(profile, ws, w, begin, finish, ti, i, 1)
            used = ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
            additive += _piece_cost(ti, wf, share, rates, None, i, w, begin, finish)
            if finish > ws[w, LAST] or not used:
                additive -= _worker_cost(wi, wf, None, w, ws[w, LAST], used)
                ws[w, LAST] = max(ws[w, LAST], finish)
                additive += _worker_cost(wi, wf, None, w, ws[w, LAST], True)
            load_s[w] += share[ti[i, KIND], w] * (finish - begin)
            ws[w, NUMBER] += 1
        makespan = max(makespan, finish)
        to_come -= floor[i]
        if known + additive + to_come + rates[END_S] * makespan > limit:
            return np.inf
    return additive + _worst_off(rates, f.owner_tasks, load_s, wait_s, makespan)


@brief
def lay_out(f, s, order, home):
    """The serial schedule of an order in future s.

    Parameters
    ----------
    f : Futures
    s : int
    order : int64 (placed tasks,)
        Predecessors among them come first.
    home : int64 (pieces,)
        As in ``search``.

    Returns
    -------
    ts : int64 (tasks, 2)
        START and END; FAR and 0 for tasks that are not in the order.
    ps : int64 (pieces, 2)
        ON: the worker.
    cost : float
        Infinity where some task has no place within its bounds; the rest is then not laid out.
    """
    tasks, pieces = f.ti.shape[1], f.pi.shape[0]
    ts, ps = np.zeros((tasks, 2), np.int64), np.full((pieces, 2), -1, np.int64)
    ts[:, START] = FAR
    stages = _stages(f, 0)
    cost = _lay(
        f, s, order, 0, FAR, home, ts, ps, f.profile[s].copy(), f.ws[s].copy(), f.load_s[s].copy(),
        f.wait_s[s].copy(), stages, False, f.base[s, 0], np.int64(f.base[s, 1]), 0.0,
        np.zeros(tasks), 0.0, np.inf,
    )  # fmt: skip
    return ts, ps, cost


@brief
def cost_in_use(wi, wf):
    """What the workers in use cost until what runs on them has ended."""
    cost = 0.0
    for w in range(wi.shape[0]):
        if wi[w, BASE_ON] == 1:
            cost += _worker_cost(wi, wf, None, w, wi[w, BASE_END], True)
    return cost


@inner
def _stages(f, stages):
    """Room for so many stages."""
    futures, workers, segments, words = f.profile.shape
    return Stages(
        np.zeros((2, futures, stages, workers, segments, words), np.int64),
        np.zeros((2, futures, stages, workers, 3), np.int64),
        np.zeros((2, futures, stages, workers)),
        np.zeros((2, futures, stages, f.wait_s.shape[1])),
        np.zeros((2, futures, stages, 3)),
        np.zeros((futures, stages), np.int64),
    )


@inner
def _floors(f):
    """The least that each task adds to the additive terms in each future. (futures, tasks)."""
    futures, tasks = f.ti.shape[0], f.ti.shape[1]
    floor = np.zeros((futures, tasks))
    for s in range(futures):
        ti = f.ti[s]
        for i in range(tasks):
            least = np.inf
            for w in range(f.ws.shape[1]):
                d = f.run_s[s, i, f.wi[w, CLASS]]
                if d > 0 and f.room[ti[i, KIND], w] > 0:
                    cost = _task_cost(ti, f.tf, f.rates, i, ti[i, RELEASE], ti[i, RELEASE] + d)
                    least = min(least, cost)
            # A hair less, for what is summed up and taken away again.
            floor[s, i] = least - 1e-9 * abs(least) if least < np.inf else 0.0
    return floor


@inner
def _changed(order, was, rule):
    """Change an order by a rule; the first and the last place changed, (1, 0) for none."""
    n = order.shape[0]
    if n < 2:
        return 1, 0
    length = 1
    a = np.random.randint(n)
    if rule == BLOCK:
        length = min(np.random.randint(2, LONGEST_BLOCK + 1), n - 1)
        a = np.random.randint(n - length + 1)
    if rule == NEAR:
        b = a + np.random.randint(1, NEAR_PLACES + 1) * (1 if np.random.random() < 0.5 else -1)
        b = min(max(b, 0), n - 1)
    else:
        b = np.random.randint(n - length + 1)
    if a == b:
        return 1, 0
    if rule == SWAP:
        order[a], order[b] = order[b], order[a]
        return min(a, b), max(a, b)
    # Places a, ..., a + length - 1 move so that they begin at b.
    low, high = min(a, b), max(a, b) + length - 1
    for k in range(low, high + 1):
        was[k] = order[k]
    for k in range(length):
        order[b + k] = was[a + k]
    if b < a:
        for k in range(b, a):
            order[k + length] = was[k]
    else:
        for k in range(a + length, b + length):
            order[k - length] = was[k]
    return low, high


@inner
def _leave(ti, home, tried, low, high, moved):
    """Let the tasks at the places low and high, between which an order changed, have no home.

    At least one of them is what the change was about. Returns their number; `moved` names them.
    """
    number = 0
    for k in (low, high):
        if number == 0 or high > low:
            moved[number] = tried[k]
            number += 1
            for p in range(ti[tried[k], FIRST], ti[tried[k], BEYOND]):
                home[p] = -1
    return number


@inner
def _in_order(ti, link, order, place, low, high):
    """Whether predecessors come first in places low to high; fills `place` of those."""
    for k in range(low, high + 1):
        place[order[k]] = k
    for k in range(low, high + 1):
        i = order[k]
        for p in range(ti[i, PRED], ti[i, BEYOND_PRED]):
            if place[link[p, BEFORE]] > k:
                return False
    return True


@kernel
def search(f, order, home, moves, hot, cold, odds, stray, every, seed):
    """Change an order `moves` times, keeping what costs less, or by chance a little more.

    Parameters
    ----------
    f : Futures
    order : int64 (placed tasks,)
        Predecessors among them come first.
    home : int64 (pieces,)
        Workers on which pieces stay unless their task is moved, sorted within each task; -1 for
        all where each task goes where it ends first.
    moves : int
    hot, cold : float
        First and last temperature of the simulated annealing, in units of cost.
    odds : float64 (MOVES,)
        Cumulated chances of the rules.
    stray : float
        Chance that the tasks of a move leave their home for where they end first.
    every : int
        Places between two stages.
    seed : int

    Returns
    -------
    best_order, best_home, order, home : int64
        The best met, the first one included, and the last one kept.
    best, current : float
        Mean costs over the futures.
    """
    np.random.seed(seed)
    futures, tasks, n = f.ti.shape[0], f.ti.shape[1], order.shape[0]
    order = order.copy()
    stages = _stages(f, (n + every - 1) // every)
    floor = _floors(f)
    ts = np.zeros((futures, tasks, 2), np.int64)
    ps = np.full((f.pi.shape[0], 2), -1, np.int64)
    place = np.full(tasks, -1, np.int64)
    profile, ws = np.zeros_like(f.profile[0]), np.zeros_like(f.ws[0])
    load_s, wait_s = np.zeros_like(f.load_s[0]), np.zeros_like(f.wait_s[0])
    linked = f.link.shape[0] > 0
    for k in range(n):
        place[order[k]] = k
    total = 0.0
    for s in range(futures):
        to_come = 0.0
        for k in range(n):
            to_come += floor[s, order[k]]
        if n > 0:
            stages.cost[0, s, 0, 0] = f.base[s, 0]
            stages.cost[0, s, 0, 1] = f.base[s, 1]
            stages.cost[0, s, 0, 2] = to_come
            _copy(
                f.profile[s], f.ws[s], f.load_s[s], f.wait_s[s], stages.profile[0, s, 0],
                stages.ws[0, s, 0], stages.load_s[0, s, 0], stages.wait_s[0, s, 0],
            )  # fmt: skip
        _copy(f.profile[s], f.ws[s], f.load_s[s], f.wait_s[s], profile, ws, load_s, wait_s)
        total += _lay(
            f, s, order, 0, every, home, ts[s], ps, profile, ws, load_s, wait_s, stages, True,
            f.base[s, 0], np.int64(f.base[s, 1]), to_come, floor[s], 0.0, np.inf,
        )  # fmt: skip
    stages.side[:, 1:] = 1
    kept_ts = ts.copy()
    home, best_home, was_home = home.copy(), home.copy(), home.copy()
    homes = home.shape[0] > 0 and home[0] >= 0
    best_order, best, current = order.copy(), total, total
    tried, was, moved = order.copy(), order.copy(), order.copy()
    rest = np.zeros(futures + 1)
    for move in range(moves):
        draw, rule = np.random.random(), 0
        while rule < MOVES - 1 and draw >= odds[rule]:
            rule += 1
        low, high = _changed(tried, was, rule)
        if low > high:
            continue
        if linked and not _in_order(f.ti[0], f.link, tried, place, low, high):
            for k in range(low, high + 1):
                tried[k] = order[k]
                place[order[k]] = k
            continue
        strays = 0
        if homes and np.random.random() < stray:
            strays = _leave(f.ti[0], home, tried, low, high, moved)
        heat = hot * (cold / hot) ** (move / moves) if hot > 0.0 else 0.0
        limit = current - heat * futures * np.log(1.0 - np.random.random())
        c = low // every
        for s in range(futures - 1, -1, -1):
            side = stages.side[s, c]
            rest[s] = rest[s + 1] + stages.cost[side, s, c, 0] + stages.cost[side, s, c, 2]
            rest[s] += f.rates[END_S] * stages.cost[side, s, c, 1]
        fresh = 0.0
        for s in range(futures):
            side = stages.side[s, c]
            _copy(
                stages.profile[side, s, c], stages.ws[side, s, c], stages.load_s[side, s, c],
                stages.wait_s[side, s, c], profile, ws, load_s, wait_s,
            )  # fmt: skip
            fresh += _lay(
                f, s, tried, c * every, every, home, ts[s], ps, profile, ws, load_s, wait_s, stages,
                True, stages.cost[side, s, c, 0], np.int64(stages.cost[side, s, c, 1]),
                stages.cost[side, s, c, 2], floor[s], fresh + rest[s + 1], limit,
            )  # fmt: skip
            if fresh > limit:
                break
        if fresh > limit:
            for k in range(low, high + 1):
                tried[k] = order[k]
                place[order[k]] = k
            for k in range(strays):
                for p in range(f.ti[0, moved[k], FIRST], f.ti[0, moved[k], BEYOND]):
                    home[p] = was_home[p]
            if linked:
                for s in range(futures):
                    for k in range(c * every, n):
                        ts[s, order[k], END] = kept_ts[s, order[k], END]
            continue
        for k in range(low, high + 1):
            order[k] = tried[k]
        for k in range(strays):
            for p in range(f.ti[0, moved[k], FIRST], f.ti[0, moved[k], BEYOND]):
                home[p] = was_home[p] = ps[p, ON]
        for s in range(futures):
            for q in range(c + 1, stages.side.shape[1]):
                stages.side[s, q] = 1 - stages.side[s, q]
        if linked:
            for s in range(futures):
                for k in range(c * every, n):
                    kept_ts[s, order[k], END] = ts[s, order[k], END]
        current = fresh
        if current < best - 1e-12 * abs(best):
            best = current
            copy_into(best_order, order)
            copy_into(best_home, home)
    return best_order, best_home, order, home, best / futures, current / futures
