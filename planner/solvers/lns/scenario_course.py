"""A plan of a cluster in several scenarios: in each, every task follows whom it follows.

A plan is an order of tasks and a home for each of their pieces. At the policy's level each task
starts as early as its predecessors and what is free allow, but no earlier than those before it in
the order that share a worker with it. It takes what it needs over from tasks that have ended by
then, and in a scenario it starts once these and its predecessors have ended there: a longest path.
The rule of who takes over from whom is that of ``planning.partial_order``.

Each task keeps what is held on its workers once it has started, so that after a change only tasks
are timed again whose workers hold something else now, or whose predecessors run at other times.
Costs are those of ``ruin``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.solvers.lns.profile import WAS_ON
from plancast.planner.solvers.lns.ruin import (
    BASE_ON,
    BEYOND,
    CLASS,
    END,
    END_S,
    FAR,
    FIRST,
    FREE_FROM,
    HARD_END,
    KIND,
    LOAD_S,
    MOVE,
    MOVED_AFTER,
    OWNER,
    OWNER_S,
    RAW_RELEASE,
    START,
    TASK,
    _latest_start,
    _piece_cost,
    _task_cost,
    _worker_cost,
)

UNTIL, HOLDER, AMOUNT = range(3)
"""Columns of what is held: until when, by whom (-1 for nobody), how much."""


class Scenarios(NamedTuple):
    """What does not change during a search. Future 0 is the policy's level, scenarios follow.

    Parameters
    ----------
    ti, tf, wi, wf, pi, room, share, rates, owner_tasks, every_ptr, every, max_stretch
        As in ``ruin.Fixed``.
    run_s : int64 (futures, tasks, classes)
    ends : int64 (futures, running tasks)
        When each running task ends.
    earliest : int64 (tasks,)
        Release, or now.
    need_ptr, need : int64 (tasks + 1,), (needs, 2)
        Resource and amount that a piece of each task takes, in the task's own order, CSR.
    pred_ptr, pred, succ_ptr, succ : int64
        Predecessors and successors, CSR; a running one is ``tasks`` plus its number.
    held : int64 (workers, resources, places, 3)
        Before any task: columns UNTIL, HOLDER and AMOUNT; ``holders[w, r]`` of them.
    last, load_s : int64, float64 (futures, workers)
        Last end and load of what runs.
    wait_s : float64 (owners,)
    base : float64 (futures,)
        What costs whatever the plan.
    in_turn : bool
        Whether in scenarios, too, no task starts before those before it on its workers.
    """

    ti: np.ndarray
    tf: np.ndarray
    wi: np.ndarray
    wf: np.ndarray
    pi: np.ndarray
    room: np.ndarray
    share: np.ndarray
    rates: np.ndarray
    owner_tasks: np.ndarray
    every_ptr: np.ndarray
    every: np.ndarray
    max_stretch: float
    run_s: np.ndarray
    ends: np.ndarray
    earliest: np.ndarray
    need_ptr: np.ndarray
    need: np.ndarray
    pred_ptr: np.ndarray
    pred: np.ndarray
    succ_ptr: np.ndarray
    succ: np.ndarray
    held: np.ndarray
    holders: np.ndarray
    last: np.ndarray
    load_s: np.ndarray
    wait_s: np.ndarray
    base: np.ndarray
    in_turn: bool


class Course(NamedTuple):
    """How the tasks run, each on one of two sides: ``at[i]`` is the side that holds for task i.

    Parameters
    ----------
    at : int64 (tasks + 1,)
        0 for all that runs now.
    times : int64 (2, tasks + running tasks, futures, 2)
        START and END.
    cost : float64 (2, tasks)
        Sum over the scenarios of what the task adds to the sums over tasks and pieces.
    held, holders : int64, flat
        (2, pieces + workers, resources, places, 3), and without places and columns. What is held on
        the worker of a piece once its task has started, of those on one worker the first has it;
        and, on the first side, on each worker before any task.
    ahead, tail : int64 (pieces,), (workers,)
        The piece before each on its worker, and the last there; ``pieces + w`` for none.
    mark : int64 (tasks + running tasks,)
        The last number for which a task was followed.
    links : int64 (tasks + running tasks,)
        Whom the task that is timed follows.
    """

    at: np.ndarray
    times: np.ndarray
    cost: np.ndarray
    held: np.ndarray
    holders: np.ndarray
    ahead: np.ndarray
    tail: np.ndarray
    mark: np.ndarray
    links: np.ndarray


@inner
def _course(f):
    """Room for the courses of a plan."""
    tasks, pieces, futures = f.ti.shape[0], f.pi.shape[0], f.run_s.shape[0]
    workers, resources, places = f.held.shape[0], f.held.shape[1], f.held.shape[2]
    everyone = tasks + f.ends.shape[1]
    c = Course(
        np.zeros(tasks + 1, np.int64),
        np.zeros((2, everyone, futures, 2), np.int64),
        np.zeros((2, tasks)),
        np.zeros((2 * (pieces + workers) * resources, 3 * places), np.int64).ravel(),
        np.zeros(2 * (pieces + workers) * resources, np.int64),
        np.full(pieces, -1, np.int64),
        np.full(workers, -1, np.int64),
        np.full(everyone, -1, np.int64),
        np.zeros(everyone, np.int64),
    )
    for i in range(tasks, everyone):
        for s in range(futures):
            for side in range(2):
                c.times[side, i, s, END] = f.ends[s, i - tasks]
    for w in range(workers):
        for r in range(resources):
            x = (pieces + w) * resources + r
            c.holders[x] = f.holders[w, r]
            for k in range(f.holders[w, r]):
                for column in range(3):
                    c.held[3 * (x * places + k) + column] = f.held[w, r, k, column]
    return c


@inner
def _beyond_run(home, p, beyond):
    """The first piece after p of its task that has another home."""
    q = p + 1
    while q < beyond and home[q] == home[p]:
        q += 1
    return q


@inner
def _row(count, resources, side, q):
    """The row of ``Course.held`` of the first resource on the worker of a piece."""
    return side * (count.shape[0] // 2) + q * resources


@inner
def _room_from(held, count, width, x, amount, moment):
    """From when on, `moment` or later, so much is free; FAR for never."""
    low, high = x * width, x * width + 3 * count[x]
    while True:
        free, following = 0, FAR
        for k in range(low, high, 3):
            if held[k + UNTIL] <= moment:
                free += held[k + AMOUNT]
            else:
                following = min(following, held[k + UNTIL])
        if free >= amount:
            return moment
        if following >= FAR:
            return FAR
        moment = following


@inner
def _taken_over(held, count, width, x, amount, moment, place, mark, stamp, links, number):
    """Take so much over from those who have ended; the number of `links` then."""
    low = x * width
    while amount > 0:
        best, best_new, best_until, best_place = -1, True, np.int64(0), np.int64(0)
        for k in range(low, low + 3 * count[x], 3):
            until, holder = held[k + UNTIL], held[k + HOLDER]
            if until > moment:
                continue
            new = holder < 0 or mark[holder] != stamp
            there = np.int64(-1) if holder < 0 else place[holder]
            if (
                best < 0
                or new < best_new
                or (new == best_new and until < best_until)
                or (new == best_new and until == best_until and there < best_place)
            ):
                best, best_new, best_until, best_place = k, new, until, there
        if best < 0:
            break
        holder, part = held[best + HOLDER], min(amount, held[best + AMOUNT])
        if best_new and holder >= 0:
            mark[holder] = stamp
            links[number] = holder
            number += 1
        amount -= part
        held[best + AMOUNT] -= part
        if held[best + AMOUNT] == 0:
            count[x] -= 1
            for k in range(best, low + 3 * count[x]):
                held[k] = held[k + 3]
    return number


@inner
def _start_at_level(
    ti, wi, pi, run_s, earliest, need_ptr, need, pred_ptr, pred, max_stretch, at, times, held,
    count, resources, ahead, home, i,
):  # fmt: skip
    """When a task starts at the policy's level, and how long it takes; FAR for never."""
    low, beyond, pieces = ti[i, FIRST], ti[i, BEYOND], pi.shape[0]
    width = held.shape[0] // count.shape[0]
    start, run = earliest[i], np.int64(0)
    for k in range(pred_ptr[i], pred_ptr[i + 1]):
        start = max(start, times[at[min(pred[k], at.shape[0] - 1)], pred[k], 0, END])
    for p in range(low, beyond):
        w = home[p]
        start, run = max(start, wi[w, FREE_FROM]), max(run, run_s[0, i, wi[w, CLASS]])
        if ahead[p] < pieces:
            j = pi[ahead[p], TASK]
            start = max(start, times[at[j], j, 0, START])
    was = np.int64(-1)
    while was != start and start < FAR:
        was, p = start, low
        while p < beyond:
            beyond_run = _beyond_run(home, p, beyond)
            q, side = ahead[p], np.int64(0)
            if q < pieces:
                side = at[pi[q, TASK]]
            x = _row(count, resources, side, q)
            for k in range(need_ptr[i], need_ptr[i + 1]):
                amount = need[k, 1] * (beyond_run - p)
                start = max(start, _room_from(held, count, width, x + need[k, 0], amount, start))
            p = beyond_run
    if start > _latest_start(ti, max_stretch, i, ti[i, HARD_END], run):
        return FAR, run
    return start, run


@inner
def _hold(
    ti, pi, need_ptr, need, pred_ptr, pred, at, held, count, resources, ahead, mark, links, place,
    home, i, start, end, stamp,
):  # fmt: skip
    """Let a task hold what it takes; the number of `links` to those it takes it over from.

    -1 where there is no place to write that down.
    """
    for k in range(pred_ptr[i], pred_ptr[i + 1]):
        mark[pred[k]] = stamp
    width, pieces = held.shape[0] // count.shape[0], pi.shape[0]
    number, p, beyond = 0, ti[i, FIRST], ti[i, BEYOND]
    while p < beyond:
        beyond_run = _beyond_run(home, p, beyond)
        q, side = ahead[p], np.int64(0)
        if q < pieces:
            side = at[pi[q, TASK]]
        x, y = _row(count, resources, side, q), _row(count, resources, 1 - at[i], p)
        for r in range(resources):
            count[y + r] = count[x + r]
            before, after = (x + r) * width, (y + r) * width
            for k in range(3 * count[x + r]):
                held[after + k] = held[before + k]
        for k in range(need_ptr[i], need_ptr[i + 1]):
            mine, amount = y + need[k, 0], need[k, 1] * (beyond_run - p)
            number = _taken_over(
                held, count, width, mine, amount, start, place, mark, stamp, links, number
            )  # fmt: skip
            last = 3 * count[mine]
            if last == width:
                return -1
            last += mine * width
            held[last + UNTIL], held[last + HOLDER], held[last + AMOUNT] = end, i, amount
            count[mine] += 1
        p = beyond_run
    return number


@inner
def _moved(ti, pi, home, i, start):
    """Whether a task has moved against the plan in force; both homes are sorted."""
    if ti[i, MOVED_AFTER] >= FAR:
        return False
    if start > ti[i, MOVED_AFTER]:
        return True
    for p in range(ti[i, FIRST], ti[i, BEYOND]):  # noqa: SIM110 (numba)
        if home[p] != pi[p, WAS_ON]:
            return True
    return False


@inner
def _own_cost(ti, tf, wf, pi, share, rates, home, i, start, end):
    """What a task adds to the sums over tasks and pieces."""
    cost = _task_cost(ti, tf, rates, i, start, end)
    for p in range(ti[i, FIRST], ti[i, BEYOND]):
        cost += _piece_cost(ti, wf, share, rates, None, i, home[p], start, end)
    if rates[MOVE] > 0.0 and _moved(ti, pi, home, i, start):
        cost += rates[MOVE]
    return cost


@inner
def _timed(
    ti, tf, wi, wf, pi, share, rates, max_stretch, run_s, earliest, need_ptr, need, pred_ptr, pred,
    at, times, own, held, count, resources, ahead, mark, links, place, home, i, stamp, in_turn,
):  # fmt: skip
    """Time a task anew, on its other side; whether it has a place."""
    start, run = _start_at_level(
        ti, wi, pi, run_s, earliest, need_ptr, need, pred_ptr, pred, max_stretch, at, times, held,
        count, resources, ahead, home, i,
    )  # fmt: skip
    if start >= FAR:
        return False
    number = _hold(
        ti, pi, need_ptr, need, pred_ptr, pred, at, held, count, resources, ahead, mark, links,
        place, home, i, start, start + run, stamp,
    )  # fmt: skip
    if number < 0:
        return False
    side, cost, tasks = 1 - at[i], 0.0, ti.shape[0]
    times[side, i, 0, START], times[side, i, 0, END] = start, start + run
    first = earliest[i]
    for p in range(ti[i, FIRST], ti[i, BEYOND]):
        first = max(first, wi[home[p], FREE_FROM])
    for s in range(1, run_s.shape[0]):
        start, run = first, np.int64(0)
        for k in range(pred_ptr[i], pred_ptr[i + 1]):
            j = pred[k]
            start = max(start, times[at[min(j, tasks)], j, s, END])
        for k in range(number):
            j = links[k]
            start = max(start, times[at[min(j, tasks)], j, s, END])
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            run = max(run, run_s[s, i, wi[home[p], CLASS]])
            if in_turn and ahead[p] < pi.shape[0]:
                j = pi[ahead[p], TASK]
                start = max(start, times[at[j], j, s, START])
        times[side, i, s, START], times[side, i, s, END] = start, start + run
        cost += _own_cost(ti, tf, wf, pi, share, rates, home, i, start, start + run)
    own[side, i] = cost
    at[i] = side
    return True


@inner
def _same_held(held, count, resources, new, p, changed):
    """Whether what is held after a task is what was, by tasks that run as they did."""
    width = held.shape[0] // count.shape[0]
    x, y = _row(count, resources, new, p), _row(count, resources, 1 - new, p)
    for r in range(resources):
        if count[x + r] != count[y + r]:
            return False
        mine, other = (x + r) * width, (y + r) * width
        for k in range(3 * count[x + r]):
            if held[mine + k] != held[other + k]:
                return False
        for k in range(mine + HOLDER, mine + 3 * count[x + r], 3):
            if 0 <= held[k] < changed.shape[0] and changed[held[k]]:
                return False
    return True


@inner
def _is_shaken(ti, pred_ptr, pred, home, i, workers, forced, shaken, changed):
    """Whether a task must be timed anew."""
    for p in range(ti[i, FIRST], ti[i, BEYOND]):
        if shaken[home[p]] or (forced and shaken[home[p] + workers]):
            return True
    for k in range(pred_ptr[i], pred_ptr[i + 1]):
        if pred[k] < changed.shape[0] and changed[pred[k]]:
            return True
    return False


@inner
def _retimed(f, c, order, place, home, low, high, shaken, changed, again, touched, stamp):
    """Time what a change of ``order[low : high + 1]`` concerns: (number, last stamp, complete).

    ``shaken[workers + w]`` says that worker w has been given or has lost a task; `again` is filled
    with what is timed anew, and `touched` says of which workers.
    """
    ti, tf, wi, wf, pi, share, rates = f.ti, f.tf, f.wi, f.wf, f.pi, f.share, f.rates
    run_s, earliest, need_ptr, need = f.run_s, f.earliest, f.need_ptr, f.need
    pred_ptr, pred, max_stretch = f.pred_ptr, f.pred, f.max_stretch
    at, times, own, held, count = c.at, c.times, c.cost, c.held, c.holders
    ahead, tail, mark, links = c.ahead, c.tail, c.mark, c.links
    workers, number, resources = wi.shape[0], 0, f.holders.shape[1]
    for w in range(workers):
        tail[w] = pi.shape[0] + w
        shaken[w] = False
        touched[w] = shaken[workers + w]
    for k in range(order.shape[0]):
        i = order[k]
        beyond = ti[i, BEYOND]
        for p in range(ti[i, FIRST], beyond):
            w = home[p]
            if p > ti[i, FIRST] and home[p - 1] == w:
                ahead[p] = ahead[p - 1]
            else:
                ahead[p], tail[w] = tail[w], p
        if k >= low and _is_shaken(
            ti, pred_ptr, pred, home, i, workers, k <= high, shaken, changed
        ):
            stamp += 1
            if not _timed(
                ti, tf, wi, wf, pi, share, rates, max_stretch, run_s, earliest, need_ptr, need,
                pred_ptr, pred, at, times, own, held, count, resources, ahead, mark, links, place,
                home, i, stamp, f.in_turn,
            ):  # fmt: skip
                return number, stamp, False
            again[number] = i
            number += 1
            for s in range(run_s.shape[0]):
                changed[i] = changed[i] or times[0, i, s, START] != times[1, i, s, START]
                changed[i] = changed[i] or times[0, i, s, END] != times[1, i, s, END]
            p = ti[i, FIRST]
            while p < beyond:
                same = not changed[i] and _same_held(held, count, resources, at[i], p, changed)
                shaken[home[p]], touched[home[p]] = not same, True
                p = _beyond_run(home, p, beyond)
        if k == high:
            for w in range(workers):
                shaken[w] = shaken[w] or shaken[workers + w]
    return number, stamp, True


@inner
def _sum_up(f, c, home, touched, last, load_s):
    """Fill the last ends and the loads of the workers that are touched, in every scenario."""
    for w in range(f.wi.shape[0]):
        if not touched[w]:
            continue
        for s in range(1, last.shape[0]):
            last[s, w], load_s[s, w] = f.last[s, w], f.load_s[s, w]
        p = c.tail[w]
        while p < f.pi.shape[0]:
            i = f.pi[p, TASK]
            pieces = _beyond_run(home, p, f.ti[i, BEYOND]) - p
            times = c.times[c.at[i], i]
            for s in range(1, last.shape[0]):
                last[s, w] = max(last[s, w], times[s, END])
                share = pieces * f.share[f.ti[i, KIND], w]
                load_s[s, w] += share * (times[s, END] - times[s, START])
            p = c.ahead[p]


@inner
def _worst(f, c, last, load_s, s):
    """What one scenario costs by its workers: their use, the last end, the largest load."""
    cost, makespan, most = 0.0, np.int64(0), 0.0
    for w in range(f.wi.shape[0]):
        used = c.tail[w] < f.pi.shape[0] or f.wi[w, BASE_ON] == 1
        cost += _worker_cost(f.wi, f.wf, None, w, last[s, w], used)
        makespan, most = max(makespan, last[s, w]), max(most, load_s[s, w])
    return cost + f.rates[END_S] * makespan + f.rates[LOAD_S] * most


@inner
def _longest_wait(f, c, s):
    """The longest mean wait of an owner in a scenario."""
    wait_s, most = f.wait_s.copy(), 0.0
    for i in range(f.ti.shape[0]):
        wait_s[f.ti[i, OWNER]] += c.times[c.at[i], i, s, START] - f.ti[i, RAW_RELEASE]
    for o in range(wait_s.shape[0]):
        most = max(most, wait_s[o] / f.owner_tasks[o])
    return most


@inner
def _shared_cost(f, c, last, load_s):
    """What all scenarios together cost but for the sums over tasks."""
    cost = 0.0
    for s in range(1, f.run_s.shape[0]):
        cost += f.base[s] + _worst(f, c, last, load_s, s)
        if f.rates[OWNER_S] > 0.0:
            cost += f.rates[OWNER_S] * _longest_wait(f, c, s)
    return cost


@inner
def _all_timed(f, c, order, place, home, last, load_s):
    """Time all tasks: (sum of what they cost, or infinity where one has no place, last number)."""
    tasks, workers = f.ti.shape[0], f.wi.shape[0]
    shaken, touched = np.ones(2 * workers, np.bool_), np.ones(workers, np.bool_)
    _, stamp, complete = _retimed(
        f, c, order, place, home, 0, tasks, shaken, np.zeros(tasks, np.bool_),
        np.zeros(tasks, np.int64), touched, 0,
    )  # fmt: skip
    if not complete:
        return np.inf, stamp
    for w in range(workers):
        touched[w] = True
    _sum_up(f, c, home, touched, last, load_s)
    total = 0.0
    for i in range(tasks):
        total += c.cost[c.at[i], i]
    return total, stamp


@kernel
def lay_out(f, order, home):
    """A plan in every future.

    Parameters
    ----------
    f : Scenarios
    order : int64 (tasks,)
        Predecessors come first.
    home : int64 (pieces,)
        The worker of each piece, sorted within each task.

    Returns
    -------
    times : int64 (futures, tasks, 2)
    costs : float64 (futures - 1,)
        Of each scenario; infinity where some task has no place.
    """
    tasks, futures = f.ti.shape[0], f.run_s.shape[0]
    c, place = _course(f), _places(f, order)
    last, load_s = f.last.copy(), f.load_s.copy()
    total, _ = _all_timed(f, c, order, place, home, last, load_s)
    times, costs = np.zeros((futures, tasks, 2), np.int64), np.full(futures - 1, np.inf)
    if total == np.inf:
        return times, costs
    for s in range(futures):
        for i in range(tasks):
            times[s, i, START] = c.times[c.at[i], i, s, START]
            times[s, i, END] = c.times[c.at[i], i, s, END]
    for s in range(1, futures):
        cost = f.base[s] + _worst(f, c, last, load_s, s)
        cost += f.rates[OWNER_S] * _longest_wait(f, c, s)
        for i in range(tasks):
            start, end = times[s, i, START], times[s, i, END]
            cost += _own_cost(f.ti, f.tf, f.wf, f.pi, f.share, f.rates, home, i, start, end)
        costs[s - 1] = cost
    return times, costs


@inner
def _places(f, order):
    """Where each task stands; what runs stands after all."""
    tasks = f.ti.shape[0]
    place = np.arange(tasks + f.ends.shape[1])
    for k in range(tasks):
        place[order[k]] = k
    return place
