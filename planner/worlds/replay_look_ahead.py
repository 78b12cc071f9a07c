"""The planner of a replayed log: it looks ahead by laying orders of the queue out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.arrays.schedule import FAR
from plancast.planner.worlds.replay_machine import (
    FREE,
    NOW,
    RUNNING,
    WAITING,
    _close_ranks,
    _note,
    _sort_running,
    _start,
    earliest,
    profile_of_running,
    reserve,
)

# Places in Jobs.settings.
LEVEL = 0


PROMISE_LEVEL = 1


AGEING = 2


HUMILITY = 3


PATIENCE = 4


MOVES = 5


DEPTH = 6


RULES = 7


SLACK = 8


MOST_SLACK = 9


_POINTS = 20


_RULES = 5


@kernel
def quantile_at(levels, quantiles, level):
    """Quantile at any level, seconds: log-linear in the logit of the level, beyond the ends too."""
    n = levels.shape[0]
    if n == 1:
        return quantiles[0]
    k = 0
    while k < n - 2 and level > levels[k + 1]:
        k += 1
    a = np.log(levels[k] / (1.0 - levels[k]))
    b = np.log(levels[k + 1] / (1.0 - levels[k + 1]))
    low, high = np.log(quantiles[k]), np.log(quantiles[k + 1])
    z = np.log(level / (1.0 - level))
    return np.exp(min(low + (z - a) * (high - low) / (b - a), 30.0))


@inner
def level_of(levels, quantiles, seconds):
    """Chance that a run time is at most `seconds`: the inverse of ``quantile_at``."""
    n = levels.shape[0]
    if n == 1:
        return 0.0 if seconds < quantiles[0] else 1.0
    k = 0
    while k < n - 2 and seconds > quantiles[k + 1]:
        k += 1
    a = np.log(levels[k] / (1.0 - levels[k]))
    b = np.log(levels[k + 1] / (1.0 - levels[k + 1]))
    low, high = np.log(quantiles[k]), np.log(quantiles[k + 1])
    slope = max((high - low) / (b - a), 0.02)
    return 1.0 / (1.0 + np.exp(-(a + (np.log(seconds) - low) / slope)))


@inner
def expected_end(jobs, live, job, level):
    """Quantile of a running job's end given that it still runs, within its request.

    ``Q(F(e) + level (1 - F(e)))`` after `e` seconds; where nothing is left of the distribution
    the request, then a minute more each time.
    """
    now, start = live.clock[NOW], live.start[job]
    limit = start + jobs.request[job]
    if limit <= now:
        return limit + 60 * ((now - limit) // 60 + 1)
    if level >= 1.0:
        return limit
    gone = 0.0
    if now > start:
        gone = level_of(jobs.levels, live.quantile[job], float(now - start))
    if gone > 0.999:
        return limit
    whole = quantile_at(jobs.levels, live.quantile[job], gone + level * (1.0 - gone))
    return min(max(start + np.int64(np.ceil(whole)), now + 1), limit)


@kernel
def derive(jobs, live, job):
    """What the planner derives from a forecast, at submission and when it is renewed.

    ``E[run]``, ``E[1 / max(run, 10)]`` and ``E[1 / max(run, 10)^2]``, over twenty equal shares of
    the distribution.
    """
    mean, weight, square = 0.0, 0.0, 0.0
    limit = float(jobs.request[job])
    for k in range(_POINTS):
        run = quantile_at(jobs.levels, live.quantile[job], (k + 0.5) / _POINTS)
        run = min(max(run, 1.0), limit)
        mean += run
        weight += 1.0 / max(run, 10.0)
        square += 1.0 / max(run, 10.0) ** 2
    live.mean[job] = mean / _POINTS
    live.weight[job] = weight / _POINTS
    live.square[job] = square / _POINTS


@inner
def _safe_duration(jobs, live, job):
    """The upper quantile of a waiting job's run time that promises are made by, seconds."""
    if jobs.settings[PROMISE_LEVEL] >= 1.0:
        return max(jobs.request[job], 1)
    whole = quantile_at(jobs.levels, live.quantile[job], jobs.settings[PROMISE_LEVEL])
    return max(min(np.int64(np.ceil(whole)), jobs.request[job]), 1)


@inner
def _profile_at(jobs, live, level, times, free):
    """The running jobs' profile, each expected to end at a quantile; the number of segments."""
    for k in range(live.clock[RUNNING]):
        job = live.running[k]
        # Outages follow the jobs; their ends are known.
        if job < live.estimate.shape[0]:
            live.expected[job] = expected_end(jobs, live, job, level)
    _sort_running(live)
    return profile_of_running(jobs, live, times, free)


@inner
def _price(jobs, live, plan, order, bound):
    """Lay jobs out in an order, each at its earliest; the sum of weight x wait from now on.

    It stops where the sum reaches `bound`. Starts are written into ``plan.begin``.
    """
    times, free = plan.times, plan.free
    # Of jobs that this order does not come to, an earlier order must not speak.
    plan.begin[:] = FAR
    count = plan.base_times.shape[0]
    copy_into(times, plan.base_times)
    copy_into(free, plan.base_free)
    total = 0.0
    for place in order:
        procs = jobs.procs[live.queue[place]]
        at = earliest(times, free, count, procs, plan.duration[place], live.clock[NOW])
        plan.begin[place] = at
        if at == FAR:
            continue
        total += plan.weight[place] * (at - live.clock[NOW])
        if total >= bound:
            break
        count = reserve(times, free, count, procs, at, plan.duration[place])
    return total


class _Sketch(NamedTuple):
    """The look-ahead's workspace; all but the profile by place in the queue."""

    base_times: np.ndarray
    base_free: np.ndarray
    times: np.ndarray
    free: np.ndarray
    duration: np.ndarray
    weight: np.ndarray
    begin: np.ndarray


@inner
def _weigh(jobs, live, place):
    """Price of a second's wait: expected slowdown, and the growing risk of a very bad one.

    ``E[1 / max(run, 10)] + ageing x wait x (E[1 / max(run, 10)^2] + humility / 100)
    x (1 + (wait / patience)^2)``. Humility is the chance that any job, whatever its forecast,
    ends at once: no distribution is that certain. A point estimate is taken as exact.
    """
    settings, job = jobs.settings, live.queue[place]
    wait = float(live.clock[NOW] - jobs.submit[job])
    risk = live.square[job]
    if jobs.levels.shape[0] > 1:
        risk += settings[HUMILITY] / 100.0
    growth = 1.0 + (wait / settings[PATIENCE]) ** 2
    return live.weight[job] + settings[AGEING] * wait * risk * growth


@inner
def _rules(jobs, live, plan):
    """Scores of the queue by each rule that the look-ahead begins with, shape (rules, waiting)."""
    waiting = live.clock[WAITING]
    score = np.empty((_RULES, waiting))
    for k in range(waiting):
        job = live.queue[k]
        procs, weight = float(jobs.procs[job]), plan.weight[k]
        point = max(float(live.estimate[job]), 10.0)
        score[0, k] = procs * live.mean[job] / weight
        score[1, k] = procs * point / weight
        score[2, k] = procs * point**2
        score[3, k] = point
        score[4, k] = procs * point
    return score


@inner
def _best_order(jobs, live, plan):
    """The cheapest order found: the best of ``RULES`` rules, improved by bringing jobs forward.

    Only the first ``DEPTH`` places of an order are searched; the others follow.
    """
    settings = jobs.settings
    score = _rules(jobs, live, plan)
    depth = min(int(settings[DEPTH]), live.clock[WAITING])
    best, bound = np.argsort(score[0], kind="mergesort"), np.inf
    begin = plan.begin.copy()
    for rule in range(min(_RULES, int(settings[RULES]))):
        order = np.argsort(score[rule], kind="mergesort")
        price = _price(jobs, live, plan, order[:depth], bound)
        if price < bound:
            best, bound = order, price
            copy_into(begin, plan.begin)
    if depth > 1:
        order = best.copy()
        for step in range(int(settings[MOVES])):
            # Steps spread over the places by a multiplier that shares no factor with them.
            place = (step * 7919 + 13) % depth
            to = place * (step % 3) // 3
            if place == to:
                continue
            copy_into(order, best)
            for k in range(place, to, -1):
                order[k] = order[k - 1]
            order[to] = best[place]
            price = _price(jobs, live, plan, order[:depth], bound)
            if price < bound:
                copy_into(best, order)
                bound = price
                copy_into(begin, plan.begin)
    copy_into(plan.begin, begin)
    return best


@inner
def _pass_planner(jobs, live, times, free, arrived):
    """Look ahead: find the cheapest order of the queue, and start what that plan starts now.

    References
    ----------
    Smith (1956), doi:10.1002/nav.3800030106, for the order by time over weight; Bertsekas,
    Castanon (1999), "Rollout algorithms for stochastic scheduling problems",
    doi:10.1023/A:1009634810396, for judging rules by laying them out.
    """
    clock, settings = live.clock, jobs.settings
    waiting, some = clock[WAITING], arrived
    for k in range(waiting):
        some = some or jobs.procs[live.queue[k]] <= clock[FREE]
    if not some:
        return
    count = _profile_at(jobs, live, settings[LEVEL], times, free)
    plan = _Sketch(
        times[:count].copy(),
        free[:count].copy(),
        times,
        free,
        np.empty(waiting, np.int64),
        np.empty(waiting),
        np.full(waiting, FAR),
    )
    for k in range(waiting):
        plan.duration[k] = max(live.estimate[live.queue[k]], 1)
        plan.weight[k] = _weigh(jobs, live, k)
    order = _best_order(jobs, live, plan)
    starts = plan.begin == clock[NOW]
    for k in range(waiting):
        # A job beyond the depth has no place in this plan.
        if plan.begin[k] < FAR:
            _note(live, live.queue[k], plan.begin[k])
    if arrived:
        _promise(jobs, live, order, starts, times, free)
    for place in order:
        if starts[place]:
            job = live.queue[place]
            _start(jobs, live, job, max(live.estimate[job], 1))
    _close_ranks(live)


@inner
def _promise(jobs, live, order, starts, times, free):
    """Tell the new jobs a start: the plan laid out once more, by a quantile that is safe."""
    now, level = live.clock[NOW], jobs.settings[PROMISE_LEVEL]
    count = _profile_at(jobs, live, level, times, free)
    for now_only in (True, False):
        for place in order:
            if starts[place] != now_only:
                continue
            job = live.queue[place]
            duration = _safe_duration(jobs, live, job)
            at = now
            if not now_only:
                at = earliest(times, free, count, jobs.procs[job], duration, now)
            if live.promise[job] < 0:
                live.promise[job] = at
            if at < FAR:
                count = reserve(times, free, count, jobs.procs[job], at, duration)


@inner
def _pass_bounded(jobs, live, times, free, arrived):
    """Start what breaks no promise, the cheapest first; tell each new job its latest start.

    A promise is a reservation that stays where it is: nothing starts that, by upper quantiles,
    would be in its way. Only runs that outlast their quantile, and failures, push it back. A
    job that finds no room now is promised the first start that the others' promises leave,
    and later by ``min(SLACK x its own duration, MOST_SLACK)``: so long may cheaper jobs pass.

    References
    ----------
    Mu'alem, Feitelson (2001), doi:10.1109/71.932708, for reservations that are kept; Talby,
    Feitelson (1999), "Supporting priorities and improving utilization of the IBM SP scheduler
    using slack-based backfilling", doi:10.1109/IPPS.1999.760525, for the slack.
    """
    clock, settings = live.clock, jobs.settings
    waiting, some = clock[WAITING], arrived
    for k in range(waiting):
        some = some or jobs.procs[live.queue[k]] <= clock[FREE]
    if not some:
        return
    now = clock[NOW]
    count = _profile_at(jobs, live, settings[PROMISE_LEVEL], times, free)
    duration, begin = np.empty(waiting, np.int64), np.full(waiting, FAR)
    score, found = np.empty(waiting), np.empty(waiting, np.int64)
    for k in range(waiting):
        job = live.queue[k]
        duration[k], found[k] = _safe_duration(jobs, live, job), live.promise[job]
        score[k] = jobs.procs[job] * live.mean[job] / _weigh(jobs, live, k)
    for k in np.argsort(found, kind="mergesort"):
        if 0 <= found[k] < FAR:
            procs = jobs.procs[live.queue[k]]
            begin[k] = earliest(times, free, count, procs, duration[k], max(found[k], now))
            if begin[k] < FAR:
                count = reserve(times, free, count, procs, begin[k], duration[k])
    order = np.argsort(score, kind="mergesort")
    for k in order:
        if 0 <= found[k] < FAR:
            continue
        # With machines down a job may have no start yet; it is promised one as soon as there is.
        procs = jobs.procs[live.queue[k]]
        at = earliest(times, free, count, procs, duration[k], now)
        if at < FAR:
            at += np.int64(min(settings[SLACK] * duration[k], settings[MOST_SLACK]))
            at = earliest(times, free, count, procs, duration[k], at)
        if at < FAR:
            count = reserve(times, free, count, procs, at, duration[k])
        live.promise[live.queue[k]] = begin[k] = at
    for k in order:
        job = live.queue[k]
        procs = jobs.procs[job]
        if procs > clock[FREE]:
            continue
        if begin[k] < FAR:
            # Its own reservation is not in its way.
            count = reserve(times, free, count, -procs, begin[k], duration[k])
        if earliest(times, free, count, procs, duration[k], now) == now:
            begin[k] = now
            _start(jobs, live, job, duration[k])
            if found[k] < 0:
                live.promise[job] = now
        if begin[k] < FAR:
            count = reserve(times, free, count, procs, begin[k], duration[k])
    for k in range(waiting):
        if begin[k] < FAR:
            _note(live, live.queue[k], begin[k])
    _close_ranks(live)
