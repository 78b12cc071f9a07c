"""Where a task adds least to the cost; schedules made and repaired by inserting tasks."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.hours import extra_cost, next_change
from plancast.planner.arrays.jit import brief, inner, kernel
from plancast.planner.arrays.rows import largest, slowest
from plancast.planner.arrays.schedule import FAR, keep_fullest
from plancast.planner.solvers.lns.profile import (
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
    DUE_WEIGHT,
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
    LATE_S,
    LOAD_S,
    MISS,
    MOVE,
    MOVED_AFTER,
    NUMBER,
    ON,
    ON_WORKERS,
    OURS,
    OVER,
    OWNER_PART,
    OWNER_S,
    PER_WORKER,
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
    _fit_here,
    _longer,
    _wider,
)
from plancast.planner.solvers.lns.state import _latest_start, _makespan, _put, _run_end, _take

MOST_HOURS = 48
"""Of energy by the hour so many starts of a task are tried on a worker at most."""


@inner
def _window(ti, link, ts, i):
    """Earliest start of task i after its predecessors, latest end before its placed successors.

    The third value tells whether some successor is not placed yet, the fourth is the latest start
    for those that wait for it to start.
    """
    earliest, latest_end, awaited, latest = ti[i, RELEASE], ti[i, HARD_END], False, FAR
    for p in range(ti[i, PRED], ti[i, BEYOND_PRED]):
        earliest = max(earliest, ts[link[p, BEFORE], link[p, SINCE]] + link[p, LAG])
    for p in range(ti[i, SUCC], ti[i, BEYOND_SUCC]):
        begins = ts[link[p, BEFORE], START]
        awaited = awaited or begins >= FAR
        if link[p, SINCE] == END:
            latest_end = min(latest_end, begins - link[p, LAG])
        else:
            latest = min(latest, begins - link[p, LAG])
    return earliest, latest_end, awaited, latest


@inner
def _time_price(ti, tf, rates, i, awaited, makespan, tie, start, end):
    """What a start and an end of task i add to the cost, with what they cost those after it."""
    weight, release, deadline, rest = tf[i, WEIGHT], ti[i, RAW_RELEASE], ti[i, DEADLINE], 0
    cost = (rates[WAIT_S] * weight + rates[OWNER_S] * tf[i, OWNER_PART]) * (start - release)
    if rates[SLOWDOWN] > 0.0:
        cost += rates[SLOWDOWN] * weight * (end - release) / max(end - start, 10)
    if awaited:
        deadline, weight, rest = ti[i, DUE], tf[i, DUE_WEIGHT], ti[i, REST]
    if end > deadline:
        cost += weight * (rates[LATE_S] * (end - deadline) + rates[MISS])
    return cost + rates[END_S] * max(0, end + rest - makespan) + tie * end


@inner
def _fit_gang(
    ti, ws, profile, shared, durations, room, pieces, row, i, moment, limit, turn, blink,
):  # fmt: skip
    """Fill `pieces` with a gang over a run on workers no slower than `limit`, if it fits.

    Returns how many pieces fit, and a moment before which no more of them do. Beginning after
    worker `turn`; each is overlooked with the chance `blink`.
    """
    workers, shards = durations.shape[0], ti[i, SHARDS]
    packed = ti[i, ON_WORKERS] < shards
    total, to_come, following = 0, 0, FAR
    for w in range(workers):
        pieces[w] = 0
        if 0 < durations[w] <= limit:
            to_come += min(room[row, w], ti[i, PER_WORKER])
    w = turn
    for _ in range(workers):
        w = w + 1 if w + 1 < workers else 0
        if durations[w] == 0 or durations[w] > limit:
            continue
        to_come -= min(room[row, w], ti[i, PER_WORKER])
        if blink > 0.0 and np.random.random() < blink:
            continue
        most = shards if packed else shards - total
        pieces[w], change = _fit_here(
            profile, shared, ws[w, COUNT], w, ti, i, moment, limit, min(most, ti[i, PER_WORKER]),
        )  # fmt: skip
        total += pieces[w]
        following = min(following, change)
        if total + to_come < shards or (total >= shards and not packed):
            break
    if packed:
        total = keep_fullest(pieces, ti[i, ON_WORKERS], shards)
    return total, following


@inner
def _place_gang(
    ti, tf, wi, run_s, room, share, link, rates, hours, max_stretch, ts, ps, ws, profile, shared, i,
    blink, tie, makespan,
):  # fmt: skip
    """Where a gang adds least to the cost on OURS; (start, end), FAR if none. Fills ``s.ps``.

    A gang ends with its slowest piece, so each distinct duration is tried as the limit of
    which workers may take part, at the earliest moment there is (and at later ones while energy
    costs less then); and where one alternative must hold for all pieces, each of them.
    """
    earliest, latest_end, awaited, latest_begin = _window(ti, link, ts, i)
    workers, shards, turn = wi.shape[0], ti[i, SHARDS], wi.shape[0] - 1
    durations, pieces = np.zeros(workers, np.int64), np.zeros(workers, np.int64)
    best, best_start, best_end, limit = np.inf, FAR, FAR, np.int64(0)
    if blink > 0.0:
        turn = int(np.random.random() * workers)
    row, beyond = ti[i, CHOICE], ti[i, BEYOND_CHOICE]
    if row == beyond:
        row, beyond = ti[i, KIND], ti[i, KIND] + 1
    while row < beyond:
        shorter, limit, most = limit, np.int64(FAR), 0
        for w in range(workers):
            durations[w] = 0
            if wi[w, OURS] == 1 and room[row, w] > 0:
                durations[w] = run_s[i, wi[w, CLASS]]
            if durations[w] > shorter:
                limit = min(limit, durations[w])
        if limit == FAR:
            row, limit = row + 1, np.int64(0)
            continue
        for w in range(workers):
            if 0 < durations[w] <= limit:
                most += min(room[row, w], ti[i, PER_WORKER])
        if most < shards:
            continue
        latest = min(_latest_start(ti, max_stretch, i, latest_end, limit), latest_begin)
        moment, tried = earliest, 0
        while moment <= latest:
            if shared is not None and ti[i, COUNTED] == 1:
                moment = _earliest_shared(shared, i, moment, limit, latest)
            cost = np.inf
            if moment < FAR:
                cost = _time_price(
                    ti, tf, rates, i, awaited, makespan, tie, moment, moment + limit,
                )  # fmt: skip
            if cost >= best:
                break
            total, following = _fit_gang(
                ti, ws, profile, shared, durations, room, pieces, row, i, moment, limit, turn,
                blink,
            )  # fmt: skip
            if total == shards:
                # Shorter than the limit, and sooner too stretched, if only faster ones were taken.
                duration, filled = slowest(durations, pieces), ti[i, FIRST]
                if moment > _latest_start(ti, max_stretch, i, latest_end, duration):
                    break
                extra, change = 0.0, FAR
                if hours is not None:
                    extra, change = _extra_of_gang(
                        ti, share, hours, pieces, i, moment, moment + duration,
                    )  # fmt: skip
                    cost = _time_price(
                        ti, tf, rates, i, awaited, makespan, tie, moment, moment + duration,
                    )  # fmt: skip
                if hours is None or cost + extra < best:
                    for w in range(workers):
                        for _ in range(pieces[w]):
                            ps[filled, ON] = w
                            filled += 1
                    best_start, best_end = moment, moment + duration
                    best = extra + _time_price(
                        ti, tf, rates, i, awaited, makespan, tie, best_start, best_end,
                    )  # fmt: skip
                tried += 1
                if extra <= 0.0 or tried > MOST_HOURS:
                    break
                following = change
            moment = following
    return best_start, best_end


@inner
def _extra_of_gang(ti, share, hours, pieces, i, start, end):
    """What a gang over [start, end) costs extra by the hour, and when that may change next."""
    extra, change = 0.0, FAR
    for w in range(pieces.shape[0]):
        if pieces[w] > 0:
            watts = hours.busy_w[w] * share[ti[i, KIND], w] * pieces[w]
            extra += extra_cost(hours, w, watts, start, end)
            g = hours.group[w]
            change = min(change, next_change(hours, g, start))
            change = min(change, next_change(hours, g, end) - (end - start))
    return extra, change


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
    shared, i, seen, looked, blink, tie, makespan, most_load,
):  # fmt: skip
    """Where task i adds least to the cost among workers ``seen[:looked]``: (worker, start, end).

    The worker is -1 where there is no place. Where successors are still to be placed, their
    deadlines and the chain after it count too.
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
    best, best_w, best_start, best_end = np.inf, -1, FAR, FAR
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
            if best_w >= 0:
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
        if hours is not None and cost < best:
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
                profile, shared, i, 0.0, tie, makespan,
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
                )  # fmt: skip
            if w < 0 or finish > ti[i, DUE] or finish > priced_to:
                for q in range(low, high):
                    seen[q - low] = every[q]
                w, begin, finish = _insert(
                    ti, tf, wi, wf, pi, run_s, share, link, rates, hours, max_stretch, ts, ws,
                    load_s, profile, shared, i, seen, high - low, 0.0, tie, makespan, most_load,
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


@inner
def _earliest_at_home(ti, ps, ws, profile, shared, i, moment, duration, latest):
    """Earliest start of task i on its workers in `ps`, all pieces at once, or FAR."""
    first, beyond = ti[i, FIRST], ti[i, BEYOND]
    while moment <= latest:
        if shared is not None and ti[i, COUNTED] == 1:
            moment = _earliest_shared(shared, i, moment, duration, latest)
            if moment >= FAR:
                return FAR
        fits, following = True, first
        while following < beyond:
            p, following = following, _run_end(ps, following, beyond)
            w, pieces = ps[p, ON], following - p
            fit, change = _fit_here(
                profile, shared, ws[w, COUNT], w, ti, i, moment, duration, pieces,
            )  # fmt: skip
            if fit < pieces:
                moment, fits = change, False
                break
        if fits:
            return moment
    return FAR


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
                        ws, profile, shared, i, 0.0, tie, makespan,
                    )  # fmt: skip
                else:
                    seen = every[every_ptr[ti[i, KIND]] : every_ptr[ti[i, KIND] + 1]]
                    w, begin, finish = _insert(
                        ti, tf, wi, wf, pi, run_s, share, link, rates, hours, max_stretch, ts, ws,
                        load_s, profile, shared, i, seen, seen.shape[0], 0.0, tie, makespan,
                        most_load,
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
