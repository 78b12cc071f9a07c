"""Ruin and recreate: local search over whole schedules, at tens of thousands of moves a second.

A move takes a few related tasks out of a schedule (the ruin), puts each back where it adds
least to the cost (the recreate), and keeps the result by simulated annealing. What a move
touches is written down first, so that a rejected one is undone by copying. Costs are kept by
differences and summed anew at every call; the solver prices every better schedule anew.

Arrays are few and
wide: handing a tuple of fifty arrays to a function costs more than most of what is done here.
What is handed on is no literal, for which numba would compile the function once more.

A *profile* tells what is free on each worker over time: ``profile[w, k, 0]`` is the start of
segment k and ``profile[w, k, 1 + c]`` what is free in it, resources side by side in words
(``plancast.planner.arrays.packing``); ``ws[w, COUNT]`` is the number of segments, and the last one
lasts forever. Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import largest
from plancast.planner.arrays.schedule import FAR
from plancast.planner.solvers.lns.gangs import _earliest_at_home, _place_gang
from plancast.planner.solvers.lns.insert import _insert, construct, reinsert
from plancast.planner.solvers.lns.profile import (
    BASE_END,
    BASE_LOAD,
    BASE_ON,
    BEFORE,
    BEYOND,
    BEYOND_CHOICE,
    BEYOND_PRED,
    BEYOND_SUCC,
    BOOT,
    BUSY,
    CHOICE,
    CLASS,
    COUNT,
    COUNTED,
    DEADLINE,
    DUE,
    END,
    END_S,
    FAIL,
    FIRST,
    FREE_FROM,
    HARD_END,
    HEALTH,
    IDLE,
    KIND,
    LAG,
    LAST,
    LAST_START,
    LATE_S,
    LOAD_S,
    LONE,
    LONE_ALL,
    LONE_EACH,
    MASK,
    MINE,
    MISS,
    MOVE,
    MOVED_AFTER,
    NUMBER,
    ON,
    ON_WORKERS,
    OURS,
    OVER,
    OWNER,
    OWNER_S,
    PER_WORKER,
    PRED,
    RAW_RELEASE,
    RELEASE,
    REST,
    SHARDS,
    SINCE,
    SLOT,
    SLOWDOWN,
    START,
    SUCC,
    TARGET,
    TASK,
    TASK_INTS,
    WAIT_S,
    Shared,
    _as_held,
    _as_noted,
    _earliest,
    _fill,
    _fill_shared,
    _give,
    _give_back,
    _longer,
    _note_held,
    _wider,
)
from plancast.planner.solvers.lns.ruins import (
    AHEAD,
    MOST_SETTLED,
    RUIN_RULES,
    _chance,
    _ruin,
    _settle,
)
from plancast.planner.solvers.lns.state import (
    Fixed,
    State,
    _has_moved,
    _latest_start,
    _makespan,
    _piece_cost,
    _put,
    _run_end,
    _take,
    _task_cost,
    _unlist,
    _worker_cost,
    _worst_off,
    load,
    total_cost,
)

__all__ = [
    "BASE_END",
    "BASE_LOAD",
    "BASE_ON",
    "BEFORE",
    "BEYOND",
    "BEYOND_CHOICE",
    "BEYOND_PRED",
    "BEYOND_SUCC",
    "BOOT",
    "BUSY",
    "CHOICE",
    "CLASS",
    "COUNT",
    "COUNTED",
    "DEADLINE",
    "DUE",
    "END",
    "END_S",
    "FAIL",
    "FAR",
    "FIRST",
    "FREE_FROM",
    "HARD_END",
    "HEALTH",
    "IDLE",
    "KIND",
    "LAG",
    "LAST",
    "LAST_START",
    "LATE_S",
    "LOAD_S",
    "LONE",
    "LONE_ALL",
    "LONE_EACH",
    "MASK",
    "MINE",
    "MISS",
    "MOVE",
    "MOVED_AFTER",
    "NUMBER",
    "ON",
    "ON_WORKERS",
    "OURS",
    "OVER",
    "OWNER",
    "OWNER_S",
    "PER_WORKER",
    "PRED",
    "RAW_RELEASE",
    "RELEASE",
    "REST",
    "SHARDS",
    "SINCE",
    "SLOWDOWN",
    "START",
    "SUCC",
    "TARGET",
    "TASK",
    "TASK_INTS",
    "WAIT_S",
    "Fixed",
    "Shared",
    "State",
    "_earliest",
    "_earliest_at_home",
    "_fill",
    "_has_moved",
    "_latest_start",
    "_piece_cost",
    "_place_gang",
    "_task_cost",
    "_worker_cost",
    "_worst_off",
    "construct",
    "load",
    "reinsert",
    "search",
    "total_cost",
]

AS_IT_WAS = 0.7
"""Chance that what was in the way of a task comes back in the order in which it had started."""


@inner
def _copy_rows(source, target):
    """Write all rows of one array over those of another of the same shape."""
    for k in range(source.shape[0]):
        for c in range(source.shape[1]):
            target[k, c] = source[k, c]


@inner
def _note(ws, load_s, profile, stamp, touched, was_ws, was_load, was_row, noted, w, move):
    """Write worker w down as it is, once a move; the number of workers noted."""
    if stamp[w] == move:
        return noted
    stamp[w] = move
    touched[noted] = w
    for c in range(3):
        was_ws[noted, c] = ws[w, c]
    was_load[noted] = load_s[w]
    for k in range(ws[w, COUNT]):
        for c in range(profile.shape[2]):
            was_row[noted, k, c] = profile[w, k, c]
    return noted + 1


@inner
def _undo(
    ti, ts, ps, ws, load_s, wait_s, profile, items, shared, touched, was_ws, was_load, was_row,
    was_ts, was_ps, noted, taken, filled,
):  # fmt: skip
    """Bring the state back to what the notes say."""
    for k in range(filled):
        i = taken[k]
        if ts[i, START] < FAR:
            wait_s[ti[i, OWNER]] -= ts[i, START] - ti[i, RAW_RELEASE]
            _fill_shared(shared, ti, i, ts[i, START], ts[i, END], -1)
            if shared is not None:
                _give_back(shared.devices, ps, ti, i)
            p = ti[i, FIRST]
            while p < ti[i, BEYOND]:
                _unlist(ps, ws, items, p)
                p = _run_end(ps, p, ti[i, BEYOND])
    for k in range(filled):
        i = taken[k]
        first = ti[i, FIRST]
        ts[i, START], ts[i, END] = was_ts[k, START], was_ts[k, END]
        wait_s[ti[i, OWNER]] += ts[i, START] - ti[i, RAW_RELEASE]
        _fill_shared(shared, ti, i, ts[i, START], ts[i, END], 1)
        for p in range(first, ti[i, BEYOND]):
            w = was_ps[k, p - first]
            ps[p, ON] = w
            if shared is not None:
                _as_noted(shared.devices, ps, p)
                _give(shared.devices, ps, p, p + 1, w, i, ts[i, START], ts[i, END])
            if p == first or ps[p - 1, ON] != w:
                ps[p, SLOT] = ws[w, NUMBER]
                items[w, ws[w, NUMBER]] = p
                ws[w, NUMBER] += 1
    for q in range(noted):
        w = touched[q]
        ws[w, LAST], ws[w, COUNT] = was_ws[q, LAST], was_ws[q, COUNT]
        load_s[w] = was_load[q]
        for k in range(ws[w, COUNT]):
            for c in range(profile.shape[2]):
                profile[w, k, c] = was_row[q, k, c]


@inner
def _as_before(ti, ts, ps, was_ts, was_ps, taken, filled):
    """Whether every task is back where the notes say it was."""
    for k in range(filled):
        i = taken[k]
        if ts[i, START] != was_ts[k, START] or ts[i, END] != was_ts[k, END]:
            return False
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            if ps[p, ON] != was_ps[k, p - ti[i, FIRST]]:
                return False
    return True


@inner
def _candidates(
    wi, room, every_ptr, every, pool, row, looked_at, touched, ruined, seen, listed,
):  # fmt: skip
    """Fill `seen` with the workers to look at for a task of a kind, each once; their number.

    ``listed[w]`` is the number of the last call that listed worker w; its last entry counts calls.
    """
    low, high = every_ptr[row], every_ptr[row + 1]
    looked = 0
    if high - low <= looked_at:
        turn = _chance(high - low)
        for _ in range(high - low):
            turn = turn + 1 if turn + 1 < high - low else 0
            w = every[low + turn]
            if wi[w, OURS] == 1:
                seen[looked] = w
                looked += 1
        return looked
    listed[-1] += 1
    call = listed[-1]
    for q in range(ruined):
        w = touched[q]
        if room[row, w] > 0:
            listed[w] = call
            seen[looked] = w
            looked += 1
    for _ in range(looked_at):
        w = pool[row, _chance(pool.shape[1])]
        if wi[w, OURS] == 1 and listed[w] != call:
            listed[w] = call
            seen[looked] = w
            looked += 1
    return looked


@inner
def _least_costs(ti, wf, run_s, share, every_ptr, every):
    """The least that the use of workers by each task costs, rent included. Shape (tasks,)."""
    rate = np.full(share.shape[0], np.inf)
    for row in range(share.shape[0]):
        for q in range(every_ptr[row], every_ptr[row + 1]):
            rate[row] = min(rate[row], wf[every[q], BUSY] * share[row, every[q]])
    least = np.zeros(ti.shape[0])
    for i in range(ti.shape[0]):
        shortest = FAR
        for c in range(run_s.shape[1]):
            if run_s[i, c] > 0:
                shortest = min(shortest, run_s[i, c])
        # A hair less, for what is summed up and taken away again.
        least[i] = (1.0 - 1e-9) * rate[ti[i, KIND]] * shortest * ti[i, SHARDS]
    return least


@inner
def _recreate(
    ti, tf, wi, wf, pi, run_s, room, share, link, every_ptr, every, pool, rates, hours, max_stretch,
    ts, ps, ws, load_s, wait_s, profile, items, shared, stamp, touched, was_ws, was_load, was_row,
    noted, order, filled, seen, listed, least, move, limit, additive, makespan, most_load,
    looked_at, blink, tie,
):  # fmt: skip
    """Put the tasks of `order` back; (complete, noted, additive cost, makespan).

    Gives up as soon as the cost, with the `least` that each task still to come adds, exceeds
    `limit`.
    """
    ruined, placed, progress, to_come = noted, 0, True, 0.0
    for k in range(filled):
        to_come += least[order[k]]
    while placed < filled and progress:
        progress = False
        for k in range(filled):
            i = order[k]
            if ts[i, START] < FAR:
                continue
            ready = True
            for p in range(ti[i, PRED], ti[i, BEYOND_PRED]):
                ready = ready and ts[link[p, BEFORE], START] < FAR
            if not ready:
                continue
            ceiling = np.inf
            if rates[OWNER_S] == 0.0 and ti[i, SUCC] == ti[i, BEYOND_SUCC]:
                # What is left, with some room for what a late end is made to cost by `tie`.
                ceiling = limit - additive - to_come + least[i] - rates[END_S] * makespan
                ceiling += 10 * tie * makespan + 1e-9 * abs(limit)
            if ti[i, SHARDS] > 1:
                begin, finish = _place_gang(
                    ti, tf, wi, run_s, room, share, link, rates, hours, max_stretch, ts, ps, ws,
                    profile, shared, i, blink, tie, makespan, ceiling,
                )  # fmt: skip
            else:
                looked = _candidates(
                    wi, room, every_ptr, every, pool, ti[i, KIND], looked_at, touched, ruined,
                    seen, listed,
                )  # fmt: skip
                w, begin, finish = _insert(
                    ti, tf, wi, wf, pi, run_s, share, link, rates, hours, max_stretch, ts, ws,
                    load_s, profile, shared, i, seen, looked, blink, tie, makespan, most_load,
                    ceiling,
                )  # fmt: skip
                if w >= 0:
                    ps[ti[i, FIRST], ON] = w
            if begin >= FAR:
                return False, noted, additive, makespan
            p = ti[i, FIRST]
            while p < ti[i, BEYOND]:
                noted = _note(
                    ws, load_s, profile, stamp, touched, was_ws, was_load, was_row, noted, ps[p,
                    ON], move,
                )  # fmt: skip
                p = _run_end(ps, p, ti[i, BEYOND])
            additive += _put(
                ti, tf, wi, wf, pi, share, rates, hours, ts, ps, ws, load_s, wait_s, profile, items,
                shared, i, begin, finish,
            )  # fmt: skip
            makespan = max(makespan, finish)
            for p in range(ti[i, FIRST], ti[i, BEYOND]):
                most_load = max(most_load, load_s[ps[p, ON]])
            placed += 1
            progress = True
            to_come -= least[i]
            if additive + to_come + rates[END_S] * makespan > limit:
                return False, noted, additive, makespan
    return placed == filled, noted, additive, makespan


@kernel
def search(f, s, profile, items, rank, odds, moves, heat, most, looked_at, blink, tie, seed):
    """Ruin and recreate `moves` times.

    Parameters
    ----------
    f, s : Fixed, State
        `s` is changed in place; at the end it is the current schedule.
    profile, items
        Of ``load``.
    rank : float64 (orders, tasks)
        Priority values for the order of reinsertion, least first.
    odds : float64 (RUIN_RULES,)
        Cumulated chances of the ruin rules.
    moves : int
    heat : float
        Temperature of the simulated annealing, in units of cost.
    most : int
        Most tasks that a ruin takes.
    looked_at : int
        Workers looked at for each insertion, besides those of the ruin; all of them where
        there are no more.
    blink : float
        Chance to overlook a worker.
    tie : float
        Cost of a second of end time, far below anything priced.
    seed : int

    Returns
    -------
    profile, items
        Perhaps grown.
    best_ts, best_ps : int64
        The best schedule met, the first one included.
    best, current : float
        Its cost, and that of the state.
    """
    ti, tf, wi, wf, pi, run_s = f.ti, f.tf, f.wi, f.wf, f.pi, f.run_s
    room, share, link = f.room, f.share, f.link
    every_ptr, every, pool, active, rates, owner_tasks = (
        f.every_ptr,
        f.every,
        f.pool,
        f.active,
        f.rates,
        f.owner_tasks,
    )
    hours, max_stretch = f.hours, f.max_stretch
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    shared = s.shared
    np.random.seed(seed)
    tasks, workers = ts.shape[0], ws.shape[0]
    best_ts, best_ps = ts.copy(), ps.copy()
    makespan = _makespan(wi, ws)
    current = total_cost(f, s)
    additive = current - _worst_off(rates, owner_tasks, load_s, wait_s, makespan)
    best, unsaved = current, False
    longest = 1
    for i in active:
        longest = max(longest, ti[i, SHARDS])
    most = min(most, active.shape[0])
    # A task adds at most one run and two segments to a worker, however many pieces it has there.
    runs, rows = most + 1, min(workers, 2 * (most + 1) * longest)
    fullest, longest_row = 0, 0
    for w in range(workers):
        fullest, longest_row = max(fullest, ws[w, COUNT]), max(longest_row, ws[w, NUMBER])
    if fullest + 2 * runs + 4 > profile.shape[1]:
        profile = _wider(profile, fullest + 4 * runs + 4)
    if longest_row + runs > items.shape[1]:
        items = _longer(items, longest_row + 2 * runs)
    taken, order = np.zeros(most + 1, np.int64), np.zeros(most + 1, np.int64)
    keys, mark = np.zeros(most + 1), np.zeros(tasks, np.bool_)
    # The workers a move touches and the tasks it takes, as they were before it.
    stamp, touched = np.zeros(workers, np.int64), np.zeros(workers, np.int64)
    was_ws, was_load = np.zeros((rows, 3), np.int64), np.zeros(rows)
    was_row = np.zeros((rows, profile.shape[1], profile.shape[2]), np.int64)
    was_ts, was_ps = np.zeros((most + 1, 2), np.int64), np.zeros((most + 1, longest), np.int64)
    seen = np.zeros(max(workers, looked_at + rows), np.int64)
    line, listed = np.zeros(MOST_SETTLED, np.int64), np.zeros(workers + 1, np.int64)
    least = _least_costs(ti, wf, run_s, share, every_ptr, every)
    for move in range(1, moves + 1):
        draw, rule = np.random.random(), 0
        while rule < RUIN_RULES - 1 and draw >= odds[rule]:
            rule += 1
        filled = _ruin(
            ti, tf, wf, pi, room, link, pool, active, rates, ts, ps, ws, items, rule,
            1 + _chance(most), taken, mark,
        )  # fmt: skip
        was_additive, was_makespan, lowered = additive, makespan, False
        noted, first = np.int64(0), np.int64(FAR)
        for k in range(filled):
            i = taken[k]
            was_ts[k, START], was_ts[k, END] = ts[i, START], ts[i, END]
            first = min(first, ts[i, START])
            lowered = lowered or ts[i, END] == makespan
            _note_held(shared, ps, ti, i)
            for p in range(ti[i, FIRST], ti[i, BEYOND]):
                was_ps[k, p - ti[i, FIRST]] = ps[p, ON]
                noted = _note(
                    ws, load_s, profile, stamp, touched, was_ws, was_load, was_row, noted, ps[p,
                    ON], move,
                )  # fmt: skip
            additive -= _take(
                ti, tf, wi, wf, pi, share, rates, hours, ts, ps, ws, load_s, wait_s, profile, items,
                shared, i,
            )  # fmt: skip
        if lowered:
            makespan = _makespan(wi, ws)
        most_load = 0.0
        if rates[LOAD_S] > 0.0:
            most_load = largest(load_s)
        # The order of reinsertion: by one of the ranks, or by chance. What is put ahead of others
        # comes before them, and they as they were or so.
        choice = _chance(rank.shape[0] + 1)
        as_it_was = rule == AHEAD and np.random.random() < AS_IT_WAS
        for k in range(filled):
            key = np.random.random() if choice == rank.shape[0] else rank[choice, taken[k]]
            if as_it_was:
                key = float(was_ts[k, START])
            if rule == AHEAD and k == 0:
                key = -np.inf
            j = k
            while j > 0 and keys[j - 1] > key:
                keys[j], order[j] = keys[j - 1], order[j - 1]
                j -= 1
            keys[j], order[j] = key, taken[k]
        limit = current - heat * np.log(1.0 - np.random.random())
        complete, noted, additive, makespan = _recreate(
            ti, tf, wi, wf, pi, run_s, room, share, link, every_ptr, every, pool, rates, hours,
            max_stretch, ts, ps, ws, load_s, wait_s, profile, items, shared, stamp, touched, was_ws,
            was_load, was_row, noted, order, filled, seen, listed, least, move, limit, additive,
            makespan, most_load, looked_at, blink, tie,
        )  # fmt: skip
        fresh = additive + _worst_off(
            rates, owner_tasks, load_s, wait_s, makespan,
        ) if complete else np.inf  # fmt: skip
        for k in range(filled):
            mark[taken[k]] = False
        if fresh > limit:
            _undo(
                ti, ts, ps, ws, load_s, wait_s, profile, items, shared, touched, was_ws, was_load,
                was_row, was_ts, was_ps, noted, taken, filled,
            )  # fmt: skip
            additive, makespan = was_additive, was_makespan
            continue
        if unsaved and fresh > current:
            # About to leave the best schedule met: write it down as it was before.
            _copy_rows(ts, best_ts)
            _copy_rows(ps, best_ps)
            for k in range(filled):
                i = taken[k]
                best_ts[i, START], best_ts[i, END] = was_ts[k, START], was_ts[k, END]
                for p in range(ti[i, FIRST], ti[i, BEYOND]):
                    best_ps[p, ON] = was_ps[k, p - ti[i, FIRST]]
                    _as_held(shared, best_ps, p)
            unsaved = False
        current, shifted = fresh, False
        if _as_before(ti, ts, ps, was_ts, was_ps, taken, filled):
            continue
        q = 0
        while q < noted:
            earlier, saved, noted = _settle(
                ti, tf, wi, wf, pi, share, link, rates, hours, ts, ps, ws, wait_s, profile, items,
                shared, touched[q], first, line, stamp, touched, noted, move,
            )  # fmt: skip
            shifted = shifted or earlier
            additive -= saved
            q += 1
        if shifted:
            makespan = _makespan(wi, ws)
            current = additive + _worst_off(rates, owner_tasks, load_s, wait_s, makespan)
        if current < best - 1e-12 * abs(best):
            best, unsaved = current, True
        for q in range(noted):
            w = touched[q]
            if ws[w, COUNT] + 2 * runs + 4 > profile.shape[1]:
                profile = _wider(profile, 2 * profile.shape[1] + 2 * runs)
                was_row = np.zeros((rows, profile.shape[1], profile.shape[2]), np.int64)
            if ws[w, NUMBER] + runs > items.shape[1]:
                items = _longer(items, 2 * items.shape[1] + runs)
    if unsaved:
        _copy_rows(ts, best_ts)
        _copy_rows(ps, best_ps)
    return profile, items, best_ts, best_ps, best, current
