"""Which tasks a move takes out, and shifting what is left to the left."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.hours import extra_cost
from plancast.planner.arrays.jit import inner
from plancast.planner.arrays.schedule import FAR
from plancast.planner.solvers.lns.gangs import _settle_gang
from plancast.planner.solvers.lns.profile import (
    BEFORE,
    BEYOND,
    BEYOND_PRED,
    BEYOND_SUCC,
    COUNT,
    END,
    FIRST,
    IDLE,
    KIND,
    LAG,
    LAST,
    MINE,
    MOVE,
    NUMBER,
    ON,
    OWNER,
    PRED,
    RELEASE,
    SHARDS,
    SINCE,
    START,
    SUCC,
    TASK,
    _beside,
    _earliest,
    _fill,
    _fill_shared,
    _fits_in,
    _give,
    _give_back,
    _segment,
)
from plancast.planner.solvers.lns.state import _ends_sooner, _has_moved, _task_cost, _window

RUIN_RULES = 7


NEIGHBOURS, LATEST, LATE, CHAIN, RANDOM, WORKER, AHEAD = range(RUIN_RULES)
"""Which tasks a ruin takes: those near one in time, on its worker and others that could hold
it; those that end last on a worker, and others at that time; a late one, what it had to wait
for and what runs where it should have run; one with its predecessors and successors; any;
the last ones of one worker; a task, late ones more often, and all that is in its way on enough
workers at a moment when it could have run."""


LATE_AHEAD = 0.7
"""Chance that the task of AHEAD is a late one."""


MOST_SETTLED = 256
"""A left shift looks at this many tasks of a worker at most."""


@inner
def _chance(n):
    """A whole number below n."""
    return min(n - 1, int(np.random.random() * n))


@inner
def _add(ti, i, taken, mark, filled):
    """Add task i to `taken` unless it is there or may not be moved; the new number."""
    if mark[i] or ti[i, MINE] == 0:
        return filled
    taken[filled], mark[i] = i, True
    return filled + 1


@inner
def _add_near(ti, pi, ts, ws, items, w, moment, taken, mark, filled, wanted):
    """Add to `taken` the tasks on worker w whose run is nearest to `moment`, up to `wanted`."""
    while filled < wanted:
        nearest, choice = FAR, np.int64(-1)
        for k in range(ws[w, NUMBER]):
            i = pi[items[w, k], TASK]
            distance = max(0, ts[i, START] - moment, moment - ts[i, END] + 1)
            if distance < nearest and not mark[i] and ti[i, MINE] == 1:
                nearest, choice = distance, i
        if choice < 0:
            break
        filled = _add(ti, choice, taken, mark, filled)
    return filled


@inner
def _add_around(ti, pi, pool, ts, ws, items, pivot, moment, taken, mark, filled, wanted):
    """Add tasks that run at about `moment` on workers that could hold `pivot`."""
    for _ in range(6):
        if filled >= wanted:
            break
        other = pool[ti[pivot, KIND], _chance(pool.shape[1])]
        limit = min(wanted, filled + 1 + wanted // 4)
        filled = _add_near(ti, pi, ts, ws, items, other, moment, taken, mark, filled, limit)
    return filled


@inner
def _add_in_way(ti, pi, room, pool, ts, ws, items, pivot, moment, taken, mark, wanted):
    """Add `pivot`, and what is in its way if it starts at `moment`; the number taken.

    On workers that could hold it, until they have the room for all its pieces.
    """
    filled, end = _add(ti, pivot, taken, mark, np.int64(0)), moment
    end += ts[pivot, END] - ts[pivot, START]
    shards, freed = ti[pivot, SHARDS], np.int64(0)
    for _ in range(2 * shards):
        if filled >= wanted or freed >= shards:
            break
        w, before = pool[ti[pivot, KIND], _chance(pool.shape[1])], filled
        for k in range(ws[w, NUMBER]):
            i = pi[items[w, k], TASK]
            if filled < wanted and ts[i, START] < end and ts[i, END] > moment:
                filled = _add(ti, i, taken, mark, filled)
        if filled > before:
            freed += min(room[ti[pivot, KIND], w], shards)
    return filled


@inner
def _add_chain(ti, link, taken, mark, filled, wanted):
    """Add predecessors and successors of the tasks in `taken`, at growing distance."""
    seen = 0
    while seen < filled and filled < wanted:
        i = taken[seen]
        seen += 1
        for p in range(ti[i, PRED], ti[i, BEYOND_PRED]):
            if filled < wanted:
                filled = _add(ti, link[p, BEFORE], taken, mark, filled)
        for p in range(ti[i, SUCC], ti[i, BEYOND_SUCC]):
            if filled < wanted:
                filled = _add(ti, link[p, BEFORE], taken, mark, filled)
    return filled


@inner
def _late_one(ti, tf, active, rates, ts, pivot):
    """The task whose lateness or waiting costs most among a dozen."""
    costliest = 0.0
    for _ in range(12):
        i = active[_chance(active.shape[0])]
        start, end = ts[i, START], ts[i, END]
        cost = _task_cost(ti, tf, rates, i, start, end)
        cost -= _task_cost(ti, tf, rates, i, ti[i, RELEASE], ti[i, RELEASE] + end - start)
        if cost > costliest:
            costliest, pivot = cost, i
    return pivot


@inner
def _last_one(ti, wf, active, ps, ws, pivot):
    """Of four tasks the one on the worker with the latest end, or the costliest last second."""
    by_price = np.random.random() < 0.5
    most = -1.0
    for k in range(4):
        i = active[_chance(active.shape[0])] if k > 0 else pivot
        w = ps[ti[i, FIRST], ON]
        value = wf[w, IDLE] if by_price else float(ws[w, LAST])
        if value > most:
            most, pivot = value, i
    return pivot


@inner
def _ruin(
    ti, tf, wf, pi, room, link, pool, active, rates, ts, ps, ws, items, rule, wanted, taken, mark,
):  # fmt: skip
    """Choose up to `wanted` tasks by a rule; their number. `mark` is left set for them.

    AHEAD takes as many as there is room for in `taken`, its own task first.
    """
    pivot = active[_chance(active.shape[0])]
    if rule == AHEAD:
        if np.random.random() < LATE_AHEAD:
            pivot = _late_one(ti, tf, active, rates, ts, pivot)
        earliest, _, _, _ = _window(ti, link, ts, pivot)
        moment = earliest + int(np.random.random() * (ts[pivot, START] - earliest + 1))
        return _add_in_way(
            ti, pi, room, pool, ts, ws, items, pivot, moment, taken, mark, taken.shape[0] - 1,
        )  # fmt: skip
    if rule in (LATEST, WORKER):
        pivot = _last_one(ti, wf, active, ps, ws, pivot)
        w = ps[ti[pivot, FIRST], ON]
        moment = ws[w, LAST]
        part = wanted if rule == WORKER else 1 + wanted // 2
        filled = _add_near(
            ti, pi, ts, ws, items, w, moment, taken, mark, np.int64(0), min(part, wanted)
        )  # fmt: skip
        if rule == WORKER or filled == 0:
            return filled
        return _add_around(
            ti, pi, pool, ts, ws, items, taken[0], moment, taken, mark, filled, wanted,
        )  # fmt: skip
    filled, moment = np.int64(0), ts[pivot, START]
    if rule == LATE:
        pivot = _late_one(ti, tf, active, rates, ts, pivot)
        # What makes it late may be that its predecessors were.
        while filled < wanted - 1 and np.random.random() < 0.6:
            last, latest = np.int64(-1), ti[pivot, RELEASE]
            for p in range(ti[pivot, PRED], ti[pivot, BEYOND_PRED]):
                since = ts[link[p, BEFORE], link[p, SINCE]] + link[p, LAG]
                if since > latest and ti[link[p, BEFORE], MINE] == 1:
                    last, latest = link[p, BEFORE], since
            if last < 0:
                break
            filled = _add(ti, pivot, taken, mark, filled)
            pivot = last
        earliest, _, _, _ = _window(ti, link, ts, pivot)
        moment = earliest + int(np.random.random() * (ts[pivot, START] - earliest + 1))
    filled = _add(ti, pivot, taken, mark, filled)
    if rule == RANDOM:
        while filled < wanted:
            wanted -= 1
            filled = _add(ti, active[_chance(active.shape[0])], taken, mark, filled)
        return filled
    if rule == CHAIN:
        filled = _add_chain(
            ti, link, taken, mark, filled, 1 + wanted // 2,
        )  # fmt: skip
    part = wanted if np.random.random() < 0.3 else 1 + wanted // 2
    w = ps[ti[pivot, FIRST], ON]
    filled = _add_near(ti, pi, ts, ws, items, w, moment, taken, mark, filled, min(part, wanted))
    return _add_around(ti, pi, pool, ts, ws, items, pivot, moment, taken, mark, filled, wanted)


@inner
def _settle(
    ti, tf, wi, wf, pi, share, link, rates, hours, ts, ps, ws, wait_s, profile, items, shared, w,
    after, line, stamp, touched, listed, move,
):  # fmt: skip
    """Start the tasks on worker w that start after a moment as early as they fit.

    In order of start, each on its workers: nothing can come to cost more, but for energy by the
    hour, for which a task may stay where it is, and a gang does. The other workers of a gang that
    starts earlier are added to ``touched[:listed]`` unless they have the stamp of the move.
    ``line`` is room to sort tasks in. Returns whether any starts earlier now, what that saves of
    the terms that are sums, and how many workers are listed.
    """
    n, gangs = 0, True
    if hours is not None:
        gangs = hours.group.size == 0
    for k in range(ws[w, NUMBER]):
        i = pi[items[w, k], TASK]
        may = ti[i, MINE] == 1 and (ti[i, SHARDS] == 1 or gangs)
        if ts[i, START] > after and may and n < MOST_SETTLED:
            j = n
            while j > 0 and ts[line[j - 1], START] > ts[i, START]:
                line[j] = line[j - 1]
                j -= 1
            line[j] = i
            n += 1
    saved, shifted = 0.0, False
    for k in range(n):
        i = line[k]
        start, d = ts[i, START], ts[i, END] - ts[i, START]
        earliest, _, _, _ = _window(ti, link, ts, i)
        if earliest >= start:
            continue
        if ti[i, SHARDS] > 1:
            saved += _settle_gang(
                ti, tf, wi, wf, pi, rates, ts, ps, ws, profile, items, shared, i, earliest,
            )  # fmt: skip
            if ts[i, START] < start:
                shifted = True
                wait_s[ti[i, OWNER]] -= start - ts[i, START]
                for p in range(ti[i, FIRST], ti[i, BEYOND]):
                    if stamp[ps[p, ON]] != move:
                        stamp[ps[p, ON]] = move
                        touched[listed] = ps[p, ON]
                        listed += 1
            continue
        # Either into the segment just before its start, or into a gap before that.
        before = _segment(profile, ws[w, COUNT], w, start - 1)
        if not _fits_in(profile, w, before, ti, i) and (
            _earliest(profile, ws[w, COUNT], w, ti, i, earliest, d, start - d) >= FAR
        ):
            continue
        _fill(profile, ws, w, start, start + d, ti, i, -1)
        begin = _earliest(profile, ws[w, COUNT], w, ti, i, earliest, d, start)
        if shared is not None:
            _fill_shared(shared, ti, i, start, start + d, -1)
            _give_back(shared.devices, ps, ti, i)
            begin = _beside(profile, ws[w, COUNT], w, ti, i, begin, d, start, shared)
        gain = 0.0
        if begin < start:
            gain = _task_cost(
                ti, tf, rates, i, start, start + d,
            ) - _task_cost(ti, tf, rates, i, begin, begin + d)  # fmt: skip
            if hours is not None and hours.group.size > 0:
                watts = hours.busy_w[w] * share[ti[i, KIND], w]
                gain += extra_cost(hours, w, watts, start, start + d)
                gain -= extra_cost(hours, w, watts, begin, begin + d)
                if gain < 0.0:
                    begin = start
        if shared is not None:
            _fill_shared(shared, ti, i, begin, begin + d, 1)
            _give(shared.devices, ps, ti[i, FIRST], ti[i, BEYOND], w, i, begin, begin + d)
        _fill(profile, ws, w, begin, begin + d, ti, i, 1)
        if begin < start:
            shifted = True
            saved += gain
            if rates[MOVE] > 0.0:
                was, still = _has_moved(ti, pi, ps, i, start), _has_moved(ti, pi, ps, i, begin)
                saved += rates[MOVE] * (was and not still)
            wait_s[ti[i, OWNER]] -= start - begin
            ts[i, START], ts[i, END] = begin, begin + d
    saved += _ends_sooner(wi, wf, hours, pi, ts, ws, items, w)
    return shifted, saved, listed
