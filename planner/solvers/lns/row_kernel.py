"""Search over rows: which tasks each worker runs, and in what order they start there.

A task of one piece that nobody waits for and that waits for nobody concerns its own worker alone.
So a *row* of such tasks says all: each starts as early as those before it in the row leave room. A
move changes one row or two, and only these are laid out and priced again, whatever the number of
tasks. What else there is (gangs, chains, what runs) stays where it is, and rows find it there.
Profiles, rates and columns are those of ``ruin``.
"""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.solvers.lns.profile import WAS_ON
from plancast.planner.solvers.lns.ruin import (
    BASE_ON,
    CLASS,
    COUNT,
    END,
    END_S,
    FAR,
    FIRST,
    HARD_END,
    KIND,
    LAST,
    LOAD_S,
    MOVE,
    MOVED_AFTER,
    NUMBER,
    OWNER,
    OWNER_S,
    RAW_RELEASE,
    RELEASE,
    START,
    _earliest,
    _fill,
    _latest_start,
    _piece_cost,
    _task_cost,
    _worker_cost,
)

MOVES = 4
ELSEWHERE, SWAP, WITHIN, TAILS = range(MOVES)
"""A task to another row; two tasks of two rows exchanged; a task elsewhere in its row; what comes
after some place of two rows exchanged."""
TRIED = 3
"""Of so many tasks the one whose time costs most is moved, every other move."""


@inner
def _below(n):
    """A whole number below n."""
    return min(n - 1, int(np.random.random() * n))


@inner
def _line_up(
    ti, tf, wi, wf, pi, run_s, share, rates, max_stretch, base, ws, line, n, w, profile, mine, slot,
    begins, sums, floor, limit,
):  # fmt: skip
    """Start ``line[:n]`` on worker w in turn; what the row costs, infinity above `limit`.

    Fills `begins`, and ``sums[slot]`` with the last end, and the load of the row.
    """
    cost, to_come, last, load, kind = 0.0, 0.0, ws[w, LAST], 0.0, wi[w, CLASS]
    mine[slot, COUNT] = ws[w, COUNT]
    for k in range(ws[w, COUNT]):
        for c in range(profile.shape[2]):
            profile[slot, k, c] = base[w, k, c]
    for k in range(n):
        to_come += floor[line[k]]
    for k in range(n):
        i = line[k]
        d = run_s[i, kind]
        latest = _latest_start(ti, max_stretch, i, ti[i, HARD_END], d)
        start = _earliest(profile, mine[slot, COUNT], slot, ti, i, ti[i, RELEASE], d, latest)
        if start >= FAR:
            return np.inf
        begins[k] = start
        cost += _task_cost(ti, tf, rates, i, start, start + d)
        cost += _piece_cost(ti, wf, share, rates, None, i, w, start, start + d)
        if rates[MOVE] > 0.0 and ti[i, MOVED_AFTER] < FAR:
            cost += rates[MOVE] * (start > ti[i, MOVED_AFTER] or pi[ti[i, FIRST], WAS_ON] != w)
        load += share[ti[i, KIND], w] * d
        last = max(last, start + d)
        to_come -= floor[i]
        if cost + to_come > limit:
            return np.inf
        _fill(profile, mine, slot, start, start + d, ti, i, 1)
    sums[slot, 0], sums[slot, 1] = last, load
    used = n > 0 or ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
    return cost + _worker_cost(wi, wf, None, w, last, used)


@inner
def _floors(ti, tf, run_s, rates):
    """The least that the time of each task costs, a hair less. Shape (tasks,)."""
    floor = np.zeros(ti.shape[0])
    for i in range(ti.shape[0]):
        least = np.inf
        for c in range(run_s.shape[1]):
            if run_s[i, c] > 0:
                cost = _task_cost(ti, tf, rates, i, ti[i, RELEASE], ti[i, RELEASE] + run_s[i, c])
                least = min(least, cost)
        floor[i] = (1.0 - 1e-9) * least if least < np.inf else 0.0
    return floor


@inner
def _largest_but(values, a, b, at_least):
    """The largest value but for those of two places."""
    most = at_least
    for w in range(values.shape[0]):
        if w not in (a, b) and values[w] > most:
            most = values[w]
    return most


@inner
def _place_of(row, n, i):
    """Where task i stands in a row."""
    k = 0
    while k < n - 1 and row[k] != i:
        k += 1
    return k


@inner
def _taken_out(row, n, place, line):
    """Fill `line` with a row but for one place."""
    for k in range(place):
        line[k] = row[k]
    for k in range(place + 1, n):
        line[k - 1] = row[k]


@inner
def _put_in(line, n, place, i):
    """Put task i at a place of a line of n."""
    for k in range(n, place, -1):
        line[k] = line[k - 1]
    line[place] = i


@inner
def _with_tail(head, kept, tail, first, n, line):
    """Fill `line` with ``head[:kept]`` and ``tail[first:n]``; its length."""
    for k in range(kept):
        line[k] = head[k]
    for k in range(first, n):
        line[kept + k - first] = tail[k]
    return kept + n - first


@inner
def _all_may(ti, wi, run_s, room, line, first, n, w):
    """Whether worker w may run ``line[first:n]``."""
    for k in range(first, n):
        i = line[k]
        if room[ti[i, KIND], w] == 0 or run_s[i, wi[w, CLASS]] == 0:
            return False
    return True


@inner
def _one_of(ti, tf, rates, active, ts):
    """Any task of the rows, or of some of them the one whose time costs most."""
    i = active[_below(active.shape[0])]
    if np.random.random() < 0.5:
        most = -1.0
        for _ in range(TRIED):
            j = active[_below(active.shape[0])]
            cost = _task_cost(ti, tf, rates, j, ts[j, START], ts[j, END])
            if cost > most:
                most, i = cost, j
    return i


@inner
def _proposed(
    ti, tf, wi, run_s, room, rates, every_ptr, every, active, rows, number, ts, on, rule, one,
    other,
):  # fmt: skip
    """Propose two rows by a rule: (worker, its number, other worker, its number); -1 for none.

    `one` and `other` are filled. Where only one row changes the other worker is -1.
    """
    i = _one_of(ti, tf, rates, active, ts)
    a = on[i]
    n = number[a]
    place = _place_of(rows[a], n, i)
    if rule == WITHIN:
        if n < 2:
            return -1, 0, -1, 0
        _taken_out(rows[a], n, place, one)
        to = _below(n - 1)
        _put_in(one, n - 1, to if to < place else to + 1, i)
        return a, n, -1, 0
    low, high = every_ptr[ti[i, KIND]], every_ptr[ti[i, KIND] + 1]
    b = every[low + _below(high - low)]
    m = number[b]
    if b == a or run_s[i, wi[b, CLASS]] == 0 or max(n, m) + 1 >= rows.shape[1]:
        return -1, 0, -1, 0
    if rule == ELSEWHERE:
        _taken_out(rows[a], n, place, one)
        _with_tail(rows[b], m, rows[b], m, m, other)
        _put_in(other, m, _below(m + 1), i)
        return a, n - 1, b, m + 1
    if m == 0:
        return -1, 0, -1, 0
    there = _below(m)
    if rule == SWAP:
        j = rows[b, there]
        if room[ti[j, KIND], a] == 0 or run_s[j, wi[a, CLASS]] == 0:
            return -1, 0, -1, 0
        _with_tail(rows[a], n, rows[a], n, n, one)
        _with_tail(rows[b], m, rows[b], m, m, other)
        one[place], other[there] = j, i
        return a, n, b, m
    if place + m - there >= rows.shape[1] or there + n - place >= rows.shape[1]:
        return -1, 0, -1, 0
    may = _all_may(ti, wi, run_s, room, rows[a], place, n, b)
    if not may or not _all_may(ti, wi, run_s, room, rows[b], there, m, a):
        return -1, 0, -1, 0
    left = _with_tail(rows[a], place, rows[b], there, m, one)
    return a, left, b, _with_tail(rows[b], there, rows[a], place, n, other)


@inner
def _costliest_wait(ti, owner_tasks, wait_s, ts, one, n, begins, other, m, later, waits):
    """The longest mean wait of an owner if two rows began so; fills `waits` with all sums."""
    copy_into(waits, wait_s)
    for k in range(n):
        waits[ti[one[k], OWNER]] += begins[k] - ts[one[k], START]
    for k in range(m):
        waits[ti[other[k], OWNER]] += later[k] - ts[other[k], START]
    most = 0.0
    for o in range(waits.shape[0]):
        most = max(most, waits[o] / owner_tasks[o])
    return most


@inner
def _keep(wi, run_s, row, line, n, begins, w, ts, on):
    """Write a row down, and when its tasks run."""
    for k in range(n):
        i = line[k]
        row[k] = i
        on[i] = w
        ts[i, START], ts[i, END] = begins[k], begins[k] + run_s[i, wi[w, CLASS]]


@inner
def _copy_best(ts, on, best_ts, best_on):
    copy_into(best_on, on)
    for i in range(ts.shape[0]):
        best_ts[i, START], best_ts[i, END] = ts[i, START], ts[i, END]


@kernel
def search(f, base, ws, load_s, wait_s, rows, number, moves, heat, odds, seed):
    """Change rows `moves` times, keeping what costs less, or by chance a little more.

    Parameters
    ----------
    f : Fixed
        Its ``active`` are the tasks of the rows.
    base : int64 (workers, segments, 1 + words)
        The profile with all that stays; ``ws`` (workers, 3), ``load_s`` (workers,) and ``wait_s``
        (owners,) as in ``ruin.State``, of that alone.
    rows : int64 (workers, places)
        The tasks of each row in turn, ``number[w]`` of them; both are changed in place.
    moves : int
    heat : float
        Temperature of the simulated annealing, in units of cost.
    odds : float64 (MOVES,)
        Cumulated chances of the rules.
    seed : int

    Returns
    -------
    best_ts, best_on : int64 (tasks, 2), (tasks,)
        When and where the tasks of the rows run in the best met, -1 on other tasks.
    ts, on : int64
        The same of the rows as they are at the end.
    best : float
        Its cost, but for what does not depend on the rows; infinity where a row has no room.
    """
    np.random.seed(seed)
    ti, tf, wi, wf, pi, run_s, room, share = f.ti, f.tf, f.wi, f.wf, f.pi, f.run_s, f.room, f.share
    every_ptr, every, rates, active = f.every_ptr, f.every, f.rates, f.active
    owner_tasks, max_stretch = f.owner_tasks, f.max_stretch
    tasks, (workers, places) = ti.shape[0], rows.shape
    ts, on = np.full((tasks, 2), -1, np.int64), np.full(tasks, -1, np.int64)
    cost, last, load = np.zeros(workers), np.zeros(workers), np.zeros(workers)
    profile = np.zeros((2, base.shape[1] + 2 * places + 4, base.shape[2]), np.int64)
    mine, sums = np.zeros((2, 3), np.int64), np.zeros((2, 2))
    one, other = np.zeros(places + 1, np.int64), np.zeros(places + 1, np.int64)
    begins, later = np.zeros(places + 1, np.int64), np.zeros(places + 1, np.int64)
    waits, floor = wait_s.copy(), _floors(ti, tf, run_s, rates)
    first, second = np.int64(0), np.int64(1)
    additive = 0.0
    for w in range(workers):
        n = number[w]
        cost[w] = _line_up(
            ti, tf, wi, wf, pi, run_s, share, rates, max_stretch, base, ws, rows[w], n, w, profile,
            mine, first, begins, sums, floor, np.inf,
        )  # fmt: skip
        last[w], load[w] = sums[first, 0], load_s[w] + sums[first, 1]
        _keep(wi, run_s, rows[w], rows[w], n, begins, w, ts, on)
        additive += cost[w]
        for k in range(n):
            waits[ti[rows[w, k], OWNER]] += begins[k] - ti[rows[w, k], RAW_RELEASE]
    best_ts, best_on = ts.copy(), on.copy()
    wait_s = waits.copy()
    makespan = _largest_but(last, -1, -1, 0.0)
    worst = rates[END_S] * makespan
    if rates[OWNER_S] > 0.0:
        for o in range(waits.shape[0]):
            waits[o] /= owner_tasks[o]
        worst += rates[OWNER_S] * _largest_but(waits, -1, -1, 0.0)
    if rates[LOAD_S] > 0.0:
        worst += rates[LOAD_S] * _largest_but(load, -1, -1, 0.0)
    current = additive + worst
    best, unsaved = current, False
    for _ in range(moves):
        draw, rule = np.random.random(), 0
        while rule < MOVES - 1 and draw >= odds[rule]:
            rule += 1
        a, n, b, m = _proposed(
            ti, tf, wi, run_s, room, rates, every_ptr, every, active, rows, number, ts, on, rule,
            one, other,
        )  # fmt: skip
        if a < 0:
            continue
        limit = current - heat * np.log(1.0 - np.random.random())
        least = makespan
        if last[a] == makespan or (b >= 0 and last[b] == makespan):
            least = _largest_but(last, a, b, 0.0)
        rest = additive - cost[a]
        if b >= 0:
            rest -= cost[b]
        known = rest + rates[END_S] * least
        for k in range(m):
            known += floor[other[k]]
        fresh_a = _line_up(
            ti, tf, wi, wf, pi, run_s, share, rates, max_stretch, base, ws, one, n, a, profile,
            mine, first, begins, sums, floor, limit - known,
        )  # fmt: skip
        if rest + fresh_a > limit:
            continue
        fresh_b = 0.0
        if b >= 0:
            known = rest + fresh_a + rates[END_S] * max(least, sums[first, 0])
            fresh_b = _line_up(
                ti, tf, wi, wf, pi, run_s, share, rates, max_stretch, base, ws, other, m, b,
                profile, mine, second, later, sums, floor, limit - known,
            )  # fmt: skip
            if rest + fresh_a + fresh_b > limit:
                continue
            least = max(least, sums[second, 0])
        least = max(least, sums[first, 0])
        fresh = rest + fresh_a + fresh_b + rates[END_S] * least
        if rates[LOAD_S] > 0.0:
            most = max(load_s[a] + sums[first, 1], _largest_but(load, a, b, 0.0))
            if b >= 0:
                most = max(most, load_s[b] + sums[second, 1])
            fresh += rates[LOAD_S] * most
        if rates[OWNER_S] > 0.0 and fresh <= limit:
            fresh += rates[OWNER_S] * _costliest_wait(
                ti, owner_tasks, wait_s, ts, one, n, begins, other, m, later, waits,
            )  # fmt: skip
        if not fresh <= limit:
            continue
        if unsaved and fresh > current:
            _copy_best(ts, on, best_ts, best_on)
            unsaved = False
        if rates[OWNER_S] > 0.0:
            copy_into(wait_s, waits)
        additive, current, makespan = rest + fresh_a + fresh_b, fresh, least
        _keep(wi, run_s, rows[a], one, n, begins, a, ts, on)
        number[a], cost[a], last[a] = n, fresh_a, sums[first, 0]
        load[a] = load_s[a] + sums[first, 1]
        if b >= 0:
            _keep(wi, run_s, rows[b], other, m, later, b, ts, on)
            number[b], cost[b], last[b] = m, fresh_b, sums[second, 0]
            load[b] = load_s[b] + sums[second, 1]
        if current < best - 1e-12 * abs(best):
            best, unsaved = current, True
    if unsaved:
        _copy_best(ts, on, best_ts, best_on)
    return best_ts, best_on, ts, on, best
