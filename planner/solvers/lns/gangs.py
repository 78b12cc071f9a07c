"""Where a gang adds least to the cost, and shifting one to the left."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.hours import extra_cost, next_change
from plancast.planner.arrays.jit import inner
from plancast.planner.arrays.rows import slowest
from plancast.planner.arrays.schedule import FAR, keep_fullest
from plancast.planner.solvers.lns.profile import (
    BEYOND,
    BEYOND_CHOICE,
    CHOICE,
    CLASS,
    COUNT,
    COUNTED,
    END,
    FIRST,
    KIND,
    LAST,
    MOVE,
    ON,
    ON_WORKERS,
    OURS,
    PER_WORKER,
    SHARDS,
    START,
    _earliest,
    _earliest_shared,
    _fill,
    _fill_shared,
    _fit_here,
    _give,
    _give_back,
    _pieces_that_fit,
)
from plancast.planner.solvers.lns.state import (
    _ends_sooner,
    _has_moved,
    _latest_start,
    _run_end,
    _task_cost,
    _time_price,
    _window,
)

MOST_HOURS = 48
"""Of energy by the hour so many starts of a task are tried on a worker at most."""


@inner
def _fit_gang(
    ti, ws, profile, shared, durations, room, pieces, most, until, row, i, moment, limit, turn,
):  # fmt: skip
    """Fill `pieces` with a gang over a run on workers no slower than `limit`, if it fits.

    Returns how many pieces fit, or fewer than there are where it is certain that not all do.
    Workers take their turn beginning after `turn`. At most ``most[w]`` pieces fit on worker w in a
    run that starts before ``until[w]``; what is learned of that is written down.
    """
    workers, shards = durations.shape[0], ti[i, SHARDS]
    packed = ti[i, ON_WORKERS] < shards
    total, to_come, w = 0, 0, turn
    for v in range(workers):
        pieces[v] = 0
        if 0 < durations[v] <= limit:
            if until[v] <= moment:
                most[v], until[v] = min(room[row, v], ti[i, PER_WORKER]), FAR
            to_come += most[v]
    for _ in range(workers):
        if total + to_come < shards or (total >= shards and not packed):
            break
        w = w + 1 if w + 1 < workers else 0
        if durations[w] == 0 or durations[w] > limit or most[w] == 0:
            continue
        to_come -= most[w]
        wanted = min(most[w], shards if packed else shards - total)
        pieces[w], change = _fit_here(
            profile, shared, ws[w, COUNT], w, ti, i, moment, limit, wanted,
        )  # fmt: skip
        total += pieces[w]
        if pieces[w] == 0 and change < FAR:
            change = _earliest(profile, ws[w, COUNT], w, ti, i, change, limit, FAR)
        if pieces[w] < wanted:
            most[w], until[w] = pieces[w], change
    if packed:
        total = keep_fullest(pieces, ti[i, ON_WORKERS], shards)
    return total


@inner
def _next_for_gang(ti, durations, room, most, until, row, i, moment, limit):
    """The first moment after `moment` at which all pieces of gang i may fit, or FAR.

    As far as ``_fit_gang`` has learned it.
    """
    total, following = 0, moment
    for w in range(durations.shape[0]):
        if 0 < durations[w] <= limit:
            total += most[w]
    while following < FAR:
        after = FAR
        for w in range(durations.shape[0]):
            if 0 < durations[w] <= limit and until[w] > following:
                after = min(after, until[w])
        for w in range(durations.shape[0]):
            if 0 < durations[w] <= limit and until[w] == after and after < FAR:
                total += min(room[row, w], ti[i, PER_WORKER]) - most[w]
        following = after
        if total >= ti[i, SHARDS]:
            break
    return following


@inner
def _who_may(ti, wi, run_s, room, durations, row, i, blink):
    """Fill `durations` with gang i's on the workers of OURS that may hold pieces, 0 on others.

    Each is overlooked with the chance `blink` while there is room on those that are not.
    """
    spare = -ti[i, SHARDS]
    for w in range(durations.shape[0]):
        durations[w] = 0
        if wi[w, OURS] == 1 and room[row, w] > 0:
            durations[w] = run_s[i, wi[w, CLASS]]
        if durations[w] > 0:
            spare += min(room[row, w], ti[i, PER_WORKER])
    if blink > 0.0:
        for w in range(durations.shape[0]):
            held = min(room[row, w], ti[i, PER_WORKER])
            if durations[w] > 0 and held <= spare and np.random.random() < blink:
                durations[w] = 0
                spare -= held


@inner
def _next_limit(ti, durations, room, row, i, limit):
    """The shortest duration above `limit` by which all pieces fit on empty workers; or FAR."""
    while True:
        longer, most = FAR, 0
        for w in range(durations.shape[0]):
            if durations[w] > limit:
                longer = min(longer, durations[w])
        for w in range(durations.shape[0]):
            if 0 < durations[w] <= longer:
                most += min(room[row, w], ti[i, PER_WORKER])
        if longer >= FAR or most >= ti[i, SHARDS]:
            return longer
        limit = longer


@inner
def _place_gang(
    ti, tf, wi, run_s, room, share, link, rates, hours, max_stretch, ts, ps, ws, profile, shared, i,
    blink, tie, makespan, ceiling,
):  # fmt: skip
    """Where a gang adds least to the cost on OURS; (start, end), FAR if none. Fills ``s.ps``.

    A gang ends with its slowest piece, so each distinct duration is tried as the limit of
    which workers may take part, at the earliest moment there is (and at later ones while energy
    costs less then); and where one alternative must hold for all pieces, each of them. None where
    its time alone costs `ceiling` or more.
    """
    earliest, latest_end, awaited, latest_begin = _window(ti, link, ts, i)
    workers, shards, turn = wi.shape[0], ti[i, SHARDS], wi.shape[0] - 1
    durations, pieces = np.zeros(workers, np.int64), np.zeros(workers, np.int64)
    fit, until = np.zeros(workers, np.int64), np.zeros(workers, np.int64)
    best, best_start, best_end = ceiling, FAR, FAR
    if blink > 0.0:
        turn = int(np.random.random() * workers)
    row, beyond = ti[i, CHOICE], ti[i, BEYOND_CHOICE]
    if row == beyond:
        row, beyond = ti[i, KIND], ti[i, KIND] + 1
    _who_may(ti, wi, run_s, room, durations, row, i, blink)
    limit = _next_limit(ti, durations, room, row, i, np.int64(0))
    while True:
        if limit >= FAR:
            row += 1
            if row >= beyond:
                return best_start, best_end
            _who_may(ti, wi, run_s, room, durations, row, i, blink)
            limit = _next_limit(ti, durations, room, row, i, np.int64(0))
            continue
        latest = min(_latest_start(ti, max_stretch, i, latest_end, limit), latest_begin)
        moment, tried = earliest, 0
        for w in range(workers):
            until[w] = 0
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
            total = _fit_gang(
                ti, ws, profile, shared, durations, room, pieces, fit, until, row, i, moment, limit,
                turn,
            )  # fmt: skip
            if total < shards:
                moment = _next_for_gang(
                    ti, durations, room, fit, until, row, i, moment, limit,
                )  # fmt: skip
                continue
            # Shorter than the limit, and sooner too stretched, if only faster ones were taken.
            duration, filled = slowest(durations, pieces), ti[i, FIRST]
            if moment > _latest_start(ti, max_stretch, i, latest_end, duration):
                break
            extra, change = 0.0, FAR
            if hours is not None and hours.group.size > 0:
                extra, change = _extra_of_gang(
                    ti, share, hours, pieces, i, moment, moment + duration,
                )  # fmt: skip
            cost = extra + _time_price(
                ti, tf, rates, i, awaited, makespan, tie, moment, moment + duration,
            )  # fmt: skip
            if cost < best:
                for w in range(workers):
                    for _ in range(pieces[w]):
                        ps[filled, ON] = w
                        filled += 1
                best, best_start, best_end = cost, moment, moment + duration
            tried += 1
            if extra <= 0.0 or tried > MOST_HOURS:
                break
            moment = change
            for w in range(workers):
                until[w] = 0
        limit = _next_limit(ti, durations, room, row, i, limit)


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


@inner
def _settle_gang(
    ti, tf, wi, wf, pi, rates, ts, ps, ws, profile, items, shared, i, earliest,
):  # fmt: skip
    """Start gang i on its workers as early as it fits there; what that saves of sums over tasks."""
    start, end = ts[i, START], ts[i, END]
    first, beyond = ti[i, FIRST], ti[i, BEYOND]
    # Either into what is just before its start, or into a gap before that.
    fits, following = True, first
    while fits and following < beyond:
        p, following = following, _run_end(ps, following, beyond)
        w = ps[p, ON]
        if ws[w, COUNT] + 4 > profile.shape[1]:
            return 0.0
        fit, _ = _pieces_that_fit(
            profile, ws[w, COUNT], w, ti, i, start - 1, 1, following - p,
        )  # fmt: skip
        fits = fit == following - p
    if not fits and _earliest_at_home(
        ti, ps, ws, profile, shared, i, earliest, end - start, start - (end - start),
    ) >= FAR:  # fmt: skip
        return 0.0
    _fill_shared(shared, ti, i, start, end, -1)
    if shared is not None:
        _give_back(shared.devices, ps, ti, i)
    following = first
    while following < beyond:
        p, following = following, _run_end(ps, following, beyond)
        _fill(profile, ws, ps[p, ON], start, end, ti, i, p - following)
    begin = _earliest_at_home(
        ti, ps, ws, profile, shared, i, earliest, end - start, start,
    )  # fmt: skip
    begin = min(begin, start)
    finish = begin + end - start
    _fill_shared(shared, ti, i, begin, finish, 1)
    saved = 0.0
    if begin < start:
        saved = _task_cost(ti, tf, rates, i, start, end)
        saved -= _task_cost(ti, tf, rates, i, begin, finish)
        was, still = _has_moved(ti, pi, ps, i, start), _has_moved(ti, pi, ps, i, begin)
        saved += rates[MOVE] * (was and not still)
        ts[i, START], ts[i, END] = begin, finish
    following = first
    while following < beyond:
        p, following = following, _run_end(ps, following, beyond)
        w = ps[p, ON]
        _fill(profile, ws, w, begin, finish, ti, i, following - p)
        if shared is not None:
            _give(shared.devices, ps, p, following, w, i, begin, finish)
        if end == ws[w, LAST] and finish < end:
            saved += _ends_sooner(wi, wf, None, pi, ts, ws, items, w)
    return saved
