"""Where a task adds least to the cost; schedules made and repaired by inserting tasks."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.hours import extra_cost, next_change
from plancast.planner.arrays.jit import brief, inner, kernel
from plancast.planner.arrays.rows import largest
from plancast.planner.arrays.schedule import FAR
from plancast.planner.solvers.lns.gangs import MOST_HOURS, _earliest_at_home, _place_gang
from plancast.planner.solvers.lns.profile import (
    BASE_ON,
    BEFORE,
    BEYOND,
    BEYOND_PRED,
    BEYOND_SUCC,
    BOOT,
    BUSY,
    CLASS,
    COUNT,
    COUNTED,
    DEADLINE,
    DUE,
    DUE_WEIGHT,
    END_S,
    FAIL,
    FIRST,
    FREE_FROM,
    HEALTH,
    IDLE,
    KIND,
    LAG,
    LAST,
    LATE_S,
    LOAD_S,
    MISS,
    MOVE,
    MOVED_AFTER,
    NUMBER,
    ON,
    OVER,
    OWNER_PART,
    OWNER_S,
    PRED,
    RAW_RELEASE,
    RELEASE,
    REST,
    SHARDS,
    SINCE,
    SLOWDOWN,
    START,
    SUCC,
    TARGET,
    WAIT_S,
    WAS_ON,
    WEIGHT,
    _beside,
    _earliest,
    _earliest_shared,
    _longer,
    _wider,
)
from plancast.planner.solvers.lns.state import (
    _latest_start,
    _makespan,
    _put,
    _take,
    _time_price,
    _window,
)


@inner
def _at_best_hour(
    ti, tf, wi, wf, rates, hours, ws, profile, shared, share, i, w, start, d, latest, awaited,
    makespan, fixed, move_price, tie, best,
):  # fmt: skip
    """The cheapest of some starts of task i on worker w from `start` on: (cost, start).

    Where a price changes at a start or an end, or where an end begins to be late, to make the
    worker or the makespan end later: in between the cost is linear. `fixed` is what does not
    depend on when it is; `best` a cost that has to be beaten.
    """
    g, watts = hours.group[w], hours.busy_w[w] * share[ti[i, KIND], w]
    before, target = max(ws[w, LAST], wi[w, FREE_FROM]), max(ws[w, LAST], wi[w, TARGET])
    found, chosen, moment = np.inf, start, start
    deadline, rest = ti[i, DEADLINE], 0
    if awaited:
        deadline, rest = ti[i, DUE], ti[i, REST]
    for _ in range(MOST_HOURS):
        end = moment + d
        cost = fixed + _time_price(ti, tf, rates, i, awaited, makespan, tie, moment, end)
        cost += wf[w, IDLE] * max(0, end - before) + wf[w, OVER] * max(0, end - target)
        if move_price > 0.0 and moment > ti[i, MOVED_AFTER]:
            cost += move_price
        if cost >= min(best, found):
            break  # nothing later costs less
        extra = extra_cost(hours, w, watts, moment, end)
        if end > before:
            extra += extra_cost(hours, w, hours.idle_w[w], before, end)
        if cost + extra < found:
            found, chosen = cost + extra, moment
        if extra <= 0.0:
            break
        following = min(next_change(hours, g, moment), next_change(hours, g, end) - d)
        for corner in (deadline - d, before - d, makespan - rest - d):
            if moment < corner < following:
                following = corner
        moment = _earliest(profile, ws[w, COUNT], w, ti, i, following, d, latest)
        if shared is not None:
            moment = _beside(profile, ws[w, COUNT], w, ti, i, moment, d, latest, shared)
        if moment >= FAR:
            break
    return found, chosen


@inner
def _insert(
    ti, tf, wi, wf, pi, run_s, share, link, rates, hours, max_stretch, ts, ws, load_s, profile,
    shared, i, seen, looked, blink, tie, makespan, most_load, ceiling,
):  # fmt: skip
    """Where task i adds least to the cost among workers ``seen[:looked]``: (worker, start, end).

    The worker is -1 where no place adds less than `ceiling`. Where successors are still to be
    placed, their deadlines and the chain after it count too.
    """
    earliest, latest_end, awaited, latest_begin = _window(
        ti, link, ts, i,
    )  # fmt: skip
    ti, wi, wf, ws, share, rates = ti, wi, wf, ws, share, rates
    kind, release, deadline = ti[i, KIND], ti[i, RAW_RELEASE], ti[i, DEADLINE]
    weight, rest = tf[i, WEIGHT], 0
    wait_price = rates[WAIT_S] * weight + rates[OWNER_S] * tf[i, OWNER_PART]
    stretch_price, end_price = rates[SLOWDOWN] * weight, rates[END_S]
    if awaited:
        deadline, weight, rest = ti[i, DUE], tf[i, DUE_WEIGHT], ti[i, REST]
    late_price, miss_price = rates[LATE_S] * weight, rates[MISS] * weight
    load_price, fail_price, move_price = rates[LOAD_S], rates[FAIL], 0.0
    moved_after, was_on = ti[i, MOVED_AFTER], pi[ti[i, FIRST], WAS_ON]
    if moved_after < FAR:
        move_price = rates[MOVE]
    best, best_w, best_start, best_end = ceiling, -1, FAR, FAR
    if shared is not None and ti[i, COUNTED] == 1:
        earliest = _earliest_shared(shared, i, earliest, 1, latest_end)
    for q in range(looked):
        w = seen[q]
        d = run_s[i, wi[w, CLASS]]
        if d == 0 or (blink > 0.0 and np.random.random() < blink):
            continue
        latest = min(_latest_start(ti, max_stretch, i, latest_end, d), latest_begin)
        if earliest > latest:
            continue
        idle, over, last = wf[w, IDLE], wf[w, OVER], ws[w, LAST]
        before, target = max(last, wi[w, FREE_FROM]), max(last, wi[w, TARGET])
        fixed = 0.0
        if wf[w, BUSY] > 0.0:
            fixed += wf[w, BUSY] * share[kind, w] * d
        if wf[w, BOOT] > 0.0 and ws[w, NUMBER] == 0 and wi[w, BASE_ON] == 0:
            fixed += wf[w, BOOT]
        if fail_price > 0.0:
            fixed += fail_price * (1.0 - wf[w, HEALTH] ** (d / 3600.0))
        if load_price > 0.0:
            fixed += load_price * max(0.0, load_s[w] - most_load + share[kind, w] * d)
        start, searched = earliest, False
        while True:
            # First at the earliest moment there could be, which often settles it.
            end = start + d
            cost = fixed + wait_price * (start - release) + tie * end
            cost += idle * max(0, end - before) + over * max(0, end - target)
            cost += end_price * max(0, end + rest - makespan)
            if end > deadline:
                cost += late_price * (end - deadline) + miss_price
            if stretch_price > 0.0:
                cost += stretch_price * (end - release) / max(d, 10)
            if move_price > 0.0 and (w != was_on or start > moved_after):
                cost += move_price
            if searched or cost >= best:
                break
            searched = True
            if best < np.inf:
                # No later than each part of the cost alone would let it be better.
                room = best - fixed
                cap = room / tie - d
                if idle > 0.0:
                    cap = min(cap, before - d + room / idle)
                if end_price > 0.0:
                    cap = min(cap, makespan - rest - d + room / end_price)
                if late_price > 0.0:
                    cap = min(cap, deadline - d + room / late_price)
                if wait_price > 0.0:
                    cap = min(cap, release + room / wait_price)
                if cap < latest:
                    latest = int(cap) + 1
            start = _earliest(profile, ws[w, COUNT], w, ti, i, earliest, d, latest)
            if shared is not None:
                start = _beside(profile, ws[w, COUNT], w, ti, i, start, d, latest, shared)
            if start >= FAR:
                cost = np.inf
                break
            if start == earliest:
                break
        if hours is not None and hours.group.size > 0 and cost < best:
            if move_price > 0.0 and w != was_on:
                fixed += move_price
            cost, start = _at_best_hour(
                ti, tf, wi, wf, rates, hours, ws, profile, shared, share, i, w, start, d,
                min(_latest_start(ti, max_stretch, i, latest_end, d), latest_begin), awaited,
                makespan, fixed, move_price if w == was_on else 0.0, tie, best,
            )  # fmt: skip
        if cost < best:
            best, best_w, best_start, best_end = cost, w, start, start + d
    return best_w, best_start, best_end


@brief
def construct(f, s, profile, items, order, quota, group, priced_to, tie):
    """Put every task of an empty state, in a topological order, where it adds least.

    Parameters
    ----------
    f, s : Fixed, State
    profile, items
        Of ``load``.
    order : int64 (tasks,)
    quota : float64 (kinds, groups)
        Seconds of work of each kind for each group of workers; used up by the call. A task
        looks at workers with a quota first, and at the others where it finds no place there,
        or would be late or end after `priced_to`.
    group : int64 (workers,)
    priced_to : int
        Ends up to here add nothing to the makespan, seconds after now.
    tie
        As in ``search``.

    Returns
    -------
    profile, items
        Perhaps grown.
    failed : int
        -1, or the first task for which no place was found.
    """
    ti, tf, wi, wf, pi, run_s = f.ti, f.tf, f.wi, f.wf, f.pi, f.run_s
    room, share, link = f.room, f.share, f.link
    every_ptr, every, rates, max_stretch = f.every_ptr, f.every, f.rates, f.max_stretch
    hours = f.hours
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    shared = s.shared
    makespan, most_load = max(priced_to, _makespan(wi, ws)), largest(load_s)
    seen = np.zeros(ws.shape[0], np.int64)
    for i in order:
        row, shards = ti[i, KIND], ti[i, SHARDS]
        earliest, _, _, _ = _window(ti, link, ts, i)
        if earliest >= FAR:
            return profile, items, i
        if shards > 1:
            begin, finish = _place_gang(
                ti, tf, wi, run_s, room, share, link, rates, hours, max_stretch, ts, ps, ws,
                profile, shared, i, 0.0, tie, makespan, np.inf,
            )  # fmt: skip
        else:
            low, high = every_ptr[row], every_ptr[row + 1]
            w, begin, finish, looked = -1, FAR, FAR, np.int64(0)
            for q in range(low, high):
                w = every[q]
                if quota[row, group[w]] >= 0.5 * run_s[i, wi[w, CLASS]]:
                    seen[looked] = w
                    looked += 1
            w = -1
            if looked > 0:
                w, begin, finish = _insert(
                    ti, tf, wi, wf, pi, run_s, share, link, rates, hours, max_stretch, ts, ws,
                    load_s, profile, shared, i, seen, looked, 0.0, tie, makespan, most_load,
                    np.inf,
                )  # fmt: skip
            if w < 0 or finish > ti[i, DUE] or finish > priced_to:
                for q in range(low, high):
                    seen[q - low] = every[q]
                w, begin, finish = _insert(
                    ti, tf, wi, wf, pi, run_s, share, link, rates, hours, max_stretch, ts, ws,
                    load_s, profile, shared, i, seen, high - low, 0.0, tie, makespan, most_load,
                    np.inf,
                )  # fmt: skip
            ps[ti[i, FIRST], ON] = w
        if begin >= FAR:
            return profile, items, i
        _put(
            ti, tf, wi, wf, pi, share, rates, hours, ts, ps, ws, load_s, wait_s, profile, items,
            shared, i, begin, finish,
        )  # fmt: skip
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            w = ps[p, ON]
            most_load = max(most_load, load_s[w])
            quota[row, group[w]] -= finish - begin
            if ws[w, COUNT] + 4 > profile.shape[1]:
                profile = _wider(profile, 2 * profile.shape[1] + 4)
            if ws[w, NUMBER] + 2 > items.shape[1]:
                items = _longer(items, 2 * items.shape[1] + 2)
    return profile, items, -1


@kernel
def reinsert(f, s, profile, items, line, floor, order, tie):
    """Put back what a plan says that still holds, and insert the rest where it adds least.

    Parameters
    ----------
    f, s : Fixed, State
        Nothing is placed; ``s.ps`` has the workers of the tasks that keep theirs.
    profile, items
        Of ``load``.
    line : int64 (tasks in line,)
        Tasks by planned start. One that keeps its workers starts there as early as those before
        it in the line let it; another one is inserted when it is its turn.
    floor : int64 (tasks,)
        No task of the line starts earlier.
    order : int64 (tasks,)
        A topological order, in which the other tasks are inserted. Where one finds no place
        between its predecessors and its successors, these are taken out and inserted anew.
    tie
        As in ``search``.

    Returns
    -------
    profile, items
        Perhaps grown.
    inserted : bool (tasks,)
    failed : int
        -1, or the first task for which no place was found.
    """
    ti, tf, wi, wf, pi, run_s = f.ti, f.tf, f.wi, f.wf, f.pi, f.run_s
    room, share, rates, hours, max_stretch = f.room, f.share, f.rates, f.hours, f.max_stretch
    link = f.link
    every_ptr, every = f.every_ptr, f.every
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    shared = s.shared
    inserted = np.zeros(ts.shape[0], np.bool_)
    for k in range(line.shape[0] + order.shape[0]):
        i = line[k] if k < line.shape[0] else order[k - line.shape[0]]
        if ts[i, START] < FAR:
            continue
        kept = k < line.shape[0] and ps[ti[i, FIRST], ON] >= 0
        begin, finish, shards = FAR, FAR, ti[i, SHARDS]
        if kept:
            duration, begin = np.int64(1), max(ti[i, RELEASE], floor[i])
            for p in range(ti[i, FIRST], ti[i, BEYOND]):
                duration = max(duration, run_s[i, wi[ps[p, ON], CLASS]])
            for p in range(ti[i, PRED], ti[i, BEYOND_PRED]):
                # One that is not placed yet will have to end before this one starts.
                since = ts[link[p, BEFORE], link[p, SINCE]]
                if since < FAR:
                    begin = max(begin, since + link[p, LAG])
            _, latest_end, _, latest_begin = _window(ti, link, ts, i)
            latest = _latest_start(ti, max_stretch, i, latest_end, duration)
            latest = min(latest, latest_begin)
            begin = _earliest_at_home(
                ti, ps, ws, profile, shared, i, begin, duration, latest,
            )  # fmt: skip
            if begin >= FAR:
                continue  # it is inserted with the others
            finish = begin + duration
        else:
            inserted[i] = True
            makespan, most_load = _makespan(wi, ws), largest(load_s)
            while True:
                if shards > 1:
                    begin, finish = _place_gang(
                        ti, tf, wi, run_s, room, share, link, rates, hours, max_stretch, ts, ps,
                        ws, profile, shared, i, 0.0, tie, makespan, np.inf,
                    )  # fmt: skip
                else:
                    seen = every[every_ptr[ti[i, KIND]] : every_ptr[ti[i, KIND] + 1]]
                    w, begin, finish = _insert(
                        ti, tf, wi, wf, pi, run_s, share, link, rates, hours, max_stretch, ts, ws,
                        load_s, profile, shared, i, seen, seen.shape[0], 0.0, tie, makespan,
                        most_load, np.inf,
                    )  # fmt: skip
                    ps[ti[i, FIRST], ON] = w
                if begin < FAR:
                    break
                freed = False
                for p in range(ti[i, SUCC], ti[i, BEYOND_SUCC]):
                    if ts[link[p, BEFORE], START] < FAR:
                        _take(
                            ti, tf, wi, wf, pi, share, rates, hours, ts, ps, ws, load_s, wait_s,
                            profile, items, shared, link[p, BEFORE],
                        )  # fmt: skip
                        freed = True
                if not freed:
                    return profile, items, inserted, i
        _put(
            ti, tf, wi, wf, pi, share, rates, hours, ts, ps, ws, load_s, wait_s, profile, items,
            shared, i, begin, finish,
        )  # fmt: skip
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            w = ps[p, ON]
            if ws[w, COUNT] + 4 > profile.shape[1]:
                profile = _wider(profile, 2 * profile.shape[1] + 4)
            if ws[w, NUMBER] + 2 > items.shape[1]:
                items = _longer(items, 2 * items.shape[1] + 2)
    return profile, items, inserted, -1
