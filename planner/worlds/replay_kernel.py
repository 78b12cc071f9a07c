"""Replay of a job log on one pool of processors: the clock, the queue and what may start.

Jobs are numbered in order of submission. All times are int64 seconds. Whatever a decision
looks at stands in ``Jobs`` and in the columns of ``Live`` that describe the waiting and the
running; ``run`` is read in two places only, where a started job is given its true end and
where it is reported as ended.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from plancast.planner.arrays import heap
from plancast.planner.arrays.jit import inner, kernel

FAR = 1 << 50

# Orders of the queue; smaller scores come first, equal ones by submission.
FCFS = 0
SJF = 1
SAF = 2
F1 = 3
F2 = 4
F3 = 5
F4 = 6
WFP3 = 7
UNICEP = 8
RUN2PROCS = 9

# What may overtake the first of the queue.
NONE = 0
EASY = 1
PUBLISHED = 2
CONSERVATIVE = 3
PLANNER = 4
BOUNDED = 5

# Where estimates come from.
GIVEN = 0
LAST_TWO = 1
ASKED = 2

# Why `advance` returned.
OVER = 0
ARRIVALS = 1
PAUSED = 2

# Places in Live.clock.
NOW = 0
NEXT = 1
WAITING = 2
RUNNING = 3
FREE = 4
COMMITTED = 5
COMMITTED_START = 6
ENDED = 7
PASSES = 8
PENDING = 9
CORRECTIONS = 10
NEXT_OUTAGE = 11
TOLD = 12
KILLED = 13
PUT_OFF = 14
CLOCK = 15

TOLERANCE_S = 60
"""A planned start that moves later by no more than this does not count as put off."""

_cpu_us = types.ExternalFunction("clock", types.int64())


class Jobs(NamedTuple):
    """What is given: arrays over the jobs, and over the outages that follow them as jobs.

    Outage k is "job" jobs + k: it holds its processors from ``submit`` for ``run`` seconds, and
    its end is known. ``kills[k]`` tells a failure (whose jobs die and are queued again) from
    a drain (which waits for them). ``again[j]`` is how long job j runs once it has been cut
    short at ``run[j]`` and submitted again; 0: it is never cut. Empty: no job is.
    """

    submit: np.ndarray
    run: np.ndarray
    procs: np.ndarray
    request: np.ndarray
    user: np.ndarray
    kills: np.ndarray
    again: np.ndarray
    levels: np.ndarray
    settings: np.ndarray


class Live(NamedTuple):
    """What changes: the clock, the queue, the machine, and what has come of each job."""

    clock: np.ndarray
    start: np.ndarray
    end: np.ndarray
    estimate: np.ndarray
    expected: np.ndarray
    promise: np.ndarray
    planned: np.ndarray
    queue: np.ndarray
    running: np.ndarray
    heap: np.ndarray
    heap_end: np.ndarray
    ended: np.ndarray
    last: np.ndarray
    cpu_us: np.ndarray
    score: np.ndarray
    lost: np.ndarray
    quantile: np.ndarray
    mean: np.ndarray
    weight: np.ndarray
    square: np.ndarray


@inner
def score_of(order, submit, procs, estimate, now):
    """The score by which an order sorts a waiting job; smaller goes first.

    Notes
    -----
    F1 to F4, with r the estimate, n the processors, s the submission in the log's own
    seconds; WFP3 and UNICEP, with w the wait, are negated.

    References
    ----------
    Carastan-Santos, de Camargo (2017), "Obtaining dynamic scheduling policies with simulation
    and machine learning", doi:10.1145/3126908.3126955; Tang et al. (2009), "Fault-aware,
    utility-based job scheduling on Blue Gene/P systems", doi:10.1109/CLUSTR.2009.5289206.
    """
    r, n = float(max(estimate, 1)), float(procs)
    s = np.log10(float(max(submit, 1)))
    if order == SJF:
        return r
    if order == SAF:
        return r * n
    if order == F1:
        return np.log10(r) * n + 870.0 * s
    if order == F2:
        return np.sqrt(r) * n + 25600.0 * s
    if order == F3:
        return r * n + 6860000.0 * s
    if order == F4:
        return r * np.sqrt(n) + 530000.0 * s
    if order == WFP3:
        return -(((now - submit) / r) ** 3) * n
    if order == UNICEP:
        return -(now - submit) / ((np.log2(n) + 1e-9) * r)
    if order == RUN2PROCS:
        return max(r, 10.0) ** 2 * n
    return 0.0


# -- the machine -----------------------------------------------------------------------------


@inner
def _push(live, job, end):
    """Put a job into the heap of true ends; the caller counts it as running."""
    heap.push(live.heap_end, live.heap, live.heap, live.clock[RUNNING], end, job, job)


@inner
def _pop(live):
    """Take the next to end out of the heap; `RUNNING` is one lower afterwards."""
    job = live.heap[0]
    heap.pop(live.heap_end, live.heap, live.heap, live.clock[RUNNING])
    live.clock[RUNNING] -= 1
    return job


@inner
def _start(jobs, live, job, duration):
    """Start a job now, or an outage; it is expected to end after `duration`."""
    clock = live.clock
    now, n = clock[NOW], clock[RUNNING]
    live.start[job] = now
    live.end[job] = now + jobs.run[job]
    if job < jobs.again.shape[0] and live.lost[job] > 0:
        live.end[job] = now + jobs.again[job]
    live.expected[job] = now + duration
    live.running[n] = job
    _push(live, job, live.end[job])
    clock[RUNNING] = n + 1
    clock[FREE] -= jobs.procs[job]


@inner
def _leave(live, job):
    """Take a job out of the list of those that run (`RUNNING` is one lower already)."""
    running, n = live.running, live.clock[RUNNING]
    k = 0
    while running[k] != job:
        k += 1
    while k < n:
        running[k] = running[k + 1]
        k += 1


@inner
def _sort_running(live):
    """Running jobs by expected end, then by number; nearly sorted already."""
    running, expected = live.running, live.expected
    for i in range(1, live.clock[RUNNING]):
        job = running[i]
        end = expected[job]
        k = i
        while k > 0 and (
            expected[running[k - 1]] > end
            or (expected[running[k - 1]] == end and running[k - 1] > job)
        ):
            running[k] = running[k - 1]
            k -= 1
        running[k] = job


@inner
def _correct(jobs, live, past):
    """Expected ends before `past` become the requested time, then a minute more each time.

    References
    ----------
    Tsafrir, Etsion, Feitelson (2007), "Backfilling using system-generated predictions rather
    than user runtime estimates", doi:10.1109/TPDS.2007.70606; the simplest rule of Gaussier et
    al. (2015), doi:10.1145/2807591.2807646.
    """
    now = live.clock[NOW]
    for k in range(live.clock[RUNNING]):
        job = live.running[k]
        if live.expected[job] < past:
            live.clock[CORRECTIONS] += 1
            limit = live.start[job] + jobs.request[job]
            if limit <= now:
                limit += 60 * ((now - limit) // 60 + 1)
            live.expected[job] = limit


@inner
def _end_of(jobs, live, user_estimates):
    """End the next job: processors are free again, its user's history knows its run time."""
    clock = live.clock
    job = _pop(live)
    _leave(live, job)
    clock[FREE] += jobs.procs[job]
    if job >= user_estimates.shape[0]:
        return
    if job < jobs.again.shape[0] and jobs.again[job] > 0 and live.lost[job] == 0:
        # Cut at its limit: submitted again that instant, behind all that wait, with the
        # time that its user had asked for.
        live.lost[job] = jobs.run[job]
        live.start[job] = -1
        live.estimate[job] = jobs.request[job]
        live.queue[clock[WAITING]] = job
        clock[WAITING] += 1
        return
    live.ended[clock[ENDED]] = job
    clock[ENDED] += 1
    user = jobs.user[job]
    live.last[user, 1] = live.last[user, 0]
    live.last[user, 0] = jobs.run[job]


@inner
def _last_two(jobs, live, job):
    """Mean of the user's two latest run times, floored, within 1 and the request."""
    first, second = live.last[jobs.user[job], 0], live.last[jobs.user[job], 1]
    if second < 0:
        return jobs.request[job]
    return min(max((first + second) // 2, 1), jobs.request[job])


@inner
def _fail(jobs, live, outage, n):
    """A failure takes the machines of the jobs that started last; they are queued again."""
    clock = live.clock
    while clock[FREE] < jobs.procs[outage]:
        victim, latest = -1, -1
        for k in range(clock[RUNNING]):
            job = live.running[k]
            if job < n and (
                live.start[job] > latest or (live.start[job] == latest and job > victim)
            ):
                victim, latest = job, live.start[job]
        if victim < 0:
            return
        # The heap is small and failures are rare: it is built anew.
        held = live.heap[: clock[RUNNING]].copy()
        clock[RUNNING] = 0
        for job in held:
            if job != victim:
                _push(live, job, live.end[job])
                clock[RUNNING] += 1
        _leave(live, victim)
        clock[FREE] += jobs.procs[victim]
        live.lost[victim] += clock[NOW] - live.start[victim]
        live.start[victim] = -1
        clock[KILLED] += 1
        # The queue is in order of submission.
        k = clock[WAITING]
        while k > 0 and live.queue[k - 1] > victim:
            live.queue[k] = live.queue[k - 1]
            k -= 1
        live.queue[k] = victim
        clock[WAITING] += 1


# -- profiles --------------------------------------------------------------------------------


@inner
def profile_of_running(jobs, live, times, free):
    """What is free over time if the running jobs end as expected; the number of segments.

    ``free[k]`` holds from ``times[k]`` to ``times[k + 1]``, the last one for ever. The running
    jobs must be sorted and corrected.
    """
    clock = live.clock
    times[0], free[0] = clock[NOW], clock[FREE]
    count = 1
    for k in range(clock[RUNNING]):
        job = live.running[k]
        end = live.expected[job]
        if end > times[count - 1]:
            times[count] = end
            free[count] = free[count - 1]
            count += 1
        free[count - 1] += jobs.procs[job]
    return count


@inner
def earliest(times, free, count, procs, duration, since):
    """First moment from `since` on at which processors are free for `duration`; FAR if never."""
    k = 0
    while k + 1 < count and times[k + 1] <= since:
        k += 1
    while k < count:
        if free[k] < procs:
            k += 1
            continue
        begin = max(times[k], since)
        end = begin + duration
        j = k + 1
        while j < count and times[j] < end and free[j] >= procs:
            j += 1
        if j == count or times[j] >= end:
            return begin
        k = j + 1
    return FAR


@inner
def _cut(times, free, count, at):
    """Index of the segment that begins at `at`, made where there is none; the new count."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if times[middle] <= at:
            low = middle
        else:
            high = middle - 1
    if times[low] == at:
        return low, count
    for k in range(count, low + 1, -1):
        times[k], free[k] = times[k - 1], free[k - 1]
    times[low + 1], free[low + 1] = at, free[low]
    return low + 1, count + 1


@inner
def reserve(times, free, count, procs, start, duration):
    """Take processors out of a profile from `start` for `duration`; the new count."""
    first, count = _cut(times, free, count, start)
    stop, count = _cut(times, free, count, start + duration)
    for k in range(first, stop):
        free[k] -= procs
    return count


# -- disciplines -----------------------------------------------------------------------------


@inner
def _ordered(jobs, live, order):
    """Places of the waiting jobs in the queue, in an order."""
    n = live.clock[WAITING]
    if order == FCFS:
        return np.arange(n)
    for k in range(n):
        job = live.queue[k]
        live.score[k] = score_of(
            order, jobs.submit[job], jobs.procs[job], live.estimate[job], live.clock[NOW]
        )
    return np.argsort(live.score[:n], kind="mergesort")


@inner
def _note(live, job, at):
    """Keep a job's planned start; count where the last plan had it earlier."""
    if live.planned[job] >= 0 and at > live.planned[job] + TOLERANCE_S:
        live.clock[PUT_OFF] += 1
    live.planned[job] = at


@inner
def _close_ranks(live):
    """Drop those that have started out of the queue."""
    kept = 0
    for k in range(live.clock[WAITING]):
        job = live.queue[k]
        if live.start[job] < 0:
            live.queue[kept] = job
            kept += 1
    live.clock[WAITING] = kept


@inner
def _pass_easy(jobs, live, head, fill, backfill):
    """Start from the head of the queue while it fits; then what delays the head no more.

    References
    ----------
    Lifka (1995), doi:10.1007/3-540-60153-8_35; Mu'alem, Feitelson (2001),
    doi:10.1109/71.932708.
    """
    clock = live.clock
    waiting = clock[WAITING]
    order = _ordered(jobs, live, head)
    first = 0
    while first < waiting:
        job = live.queue[order[first]]
        if jobs.procs[job] > clock[FREE]:
            break
        _start(jobs, live, job, live.estimate[job])
        first += 1
    if backfill == EASY and first < waiting - 1 and clock[FREE] > 0:
        job = live.queue[order[first]]
        _sort_running(live)
        shadow, spare = FAR, clock[FREE] - jobs.procs[job]
        for k in range(clock[RUNNING]):
            other = live.running[k]
            if spare >= 0 and live.expected[other] > shadow:
                break
            spare += jobs.procs[other]
            if spare >= 0:
                shadow = live.expected[other]
        if spare < 0:
            # Only with machines down: nothing known gives the head its place.
            spare = 0
        if fill != head:
            order = _ordered(jobs, live, fill)
        for place in order:
            other = live.queue[place]
            if other == job or live.start[other] >= 0 or jobs.procs[other] > clock[FREE]:
                continue
            if clock[NOW] + live.estimate[other] > shadow:
                if jobs.procs[other] > spare:
                    continue
                spare -= jobs.procs[other]
            _start(jobs, live, other, live.estimate[other])
            if clock[FREE] <= 0:
                break
    _close_ranks(live)


@inner
def _pass_published(jobs, live, head):
    """The backfill of RLScheduler: the first is chosen once and keeps its place until it starts.

    References
    ----------
    Zhang et al. (2020), "RLScheduler: an automated HPC batch job scheduler using reinforcement
    learning", doi:10.1109/SC41405.2020.00035.
    """
    clock = live.clock
    while clock[WAITING] > 0:
        if clock[COMMITTED] < 0:
            job = live.queue[_ordered(jobs, live, head)[0]]
            clock[COMMITTED] = job
            if jobs.procs[job] > clock[FREE]:
                _sort_running(live)
                free = clock[FREE]
                for k in range(clock[RUNNING]):
                    free += jobs.procs[live.running[k]]
                    clock[COMMITTED_START] = live.expected[live.running[k]]
                    if free >= jobs.procs[job]:
                        break
        job = clock[COMMITTED]
        if jobs.procs[job] <= clock[FREE]:
            _start(jobs, live, job, live.estimate[job])
            clock[COMMITTED] = -1
            _close_ranks(live)
            continue
        for k in range(clock[WAITING]):
            other = live.queue[k]
            fits = jobs.procs[other] <= clock[FREE]
            if fits and clock[NOW] + live.estimate[other] < clock[COMMITTED_START]:
                _start(jobs, live, other, live.estimate[other])
        _close_ranks(live)
        return


@inner
def _pass_conservative(jobs, live, head, times, free, starting):
    """Lay the queue out in order, each at its earliest; start what begins now.

    With `starting` off it only tells where a job that has no promise yet would begin.

    References
    ----------
    Mu'alem, Feitelson (2001), doi:10.1109/71.932708.
    """
    clock = live.clock
    waiting = clock[WAITING]
    _sort_running(live)
    count = profile_of_running(jobs, live, times, free)
    order = _ordered(jobs, live, head)
    unpromised = 0
    for place in order:
        unpromised += live.promise[live.queue[place]] < 0
    for k in range(waiting):
        job = live.queue[order[k]]
        if not starting and unpromised == 0:
            break
        if starting and clock[FREE] <= 0 and unpromised == 0:
            break
        duration = max(live.estimate[job], 1)
        at = earliest(times, free, count, jobs.procs[job], duration, clock[NOW])
        if live.promise[job] < 0:
            live.promise[job] = at
            unpromised -= 1
        if at == FAR:
            continue
        if starting and at == clock[NOW]:
            _start(jobs, live, job, live.estimate[job])
        count = reserve(times, free, count, jobs.procs[job], at, duration)
    if starting:
        _close_ranks(live)


# -- the planner -----------------------------------------------------------------------------

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
    times[:count] = plan.base_times
    free[:count] = plan.base_free
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
    ends at once: no distribution is that certain. A point estimate is taken at its word.
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
    """The cheapest order found: the best of ``RULES`` rules, bettered by bringing jobs forward.

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
            begin[:] = plan.begin
    if depth > 1:
        order = best.copy()
        for step in range(int(settings[MOVES])):
            # Steps spread over the places by a multiplier that shares no factor with them.
            place = (step * 7919 + 13) % depth
            to = place * (step % 3) // 3
            if place == to:
                continue
            order[:] = best
            for k in range(place, to, -1):
                order[k] = order[k - 1]
            order[to] = best[place]
            price = _price(jobs, live, plan, order[:depth], bound)
            if price < bound:
                best[:], bound = order, price
                begin[:] = plan.begin
    plan.begin[:] = begin
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


# -- the planner with bounds -----------------------------------------------------------------


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
    score, told = np.empty(waiting), np.empty(waiting, np.int64)
    for k in range(waiting):
        job = live.queue[k]
        duration[k], told[k] = _safe_duration(jobs, live, job), live.promise[job]
        score[k] = jobs.procs[job] * live.mean[job] / _weigh(jobs, live, k)
    for k in np.argsort(told, kind="mergesort"):
        if 0 <= told[k] < FAR:
            procs = jobs.procs[live.queue[k]]
            begin[k] = earliest(times, free, count, procs, duration[k], max(told[k], now))
            if begin[k] < FAR:
                count = reserve(times, free, count, procs, begin[k], duration[k])
    order = np.argsort(score, kind="mergesort")
    for k in order:
        if 0 <= told[k] < FAR:
            continue
        # With machines down a job may have no start yet; it is told one as soon as there is.
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
            if told[k] < 0:
                live.promise[job] = now
        if begin[k] < FAR:
            count = reserve(times, free, count, procs, begin[k], duration[k])
    for k in range(waiting):
        if begin[k] < FAR:
            _note(live, live.queue[k], begin[k])
    _close_ranks(live)


# -- the clock -------------------------------------------------------------------------------


@inner
def _arrive(jobs, live, until, source, n):
    """Queue the jobs submitted by `until`, with their estimates."""
    clock = live.clock
    while clock[NEXT] < n and jobs.submit[clock[NEXT]] <= until:
        job = clock[NEXT]
        if source == LAST_TWO:
            live.estimate[job] = _last_two(jobs, live, job)
        if jobs.settings.shape[0] > 0:
            if source == LAST_TWO:
                live.quantile[job, 0] = max(live.estimate[job], 1)
            derive(jobs, live, job)
        live.queue[clock[WAITING]] = job
        clock[WAITING] += 1
        clock[NEXT] += 1


@kernel
def advance(jobs, live, head, fill, backfill, source, promises, passes):
    """Go on until the log is over, estimates are wanted, or some passes have been made.

    Parameters
    ----------
    jobs, live
        What is given, and what changes.
    head, fill : int
        Order of the queue, and of those that may overtake its head.
    backfill, source : int
        Of the constants above.
    promises : bool
        Whether a job that does not start at its submission is told its conservative start.
    passes : int
        Most scheduling passes; negative: no limit.

    Returns
    -------
    int
        ``OVER``, ``PAUSED``, or ``ARRIVALS``: jobs from ``clock[NEXT]`` on are submitted at
        ``clock[NOW]`` and their estimates are to be filled in before the next call.

    Notes
    -----
    At one instant ends come before arrivals, then one pass. The published backfill takes
    events one by one, an arrival no later than the next end first.
    """
    clock = live.clock
    n = live.estimate.shape[0]
    outages = jobs.kills.shape[0]
    room = 4 * (n if n < 4096 else 4096)
    times, free = np.empty(room, np.int64), np.empty(room, np.int64)
    while True:
        if clock[PENDING] == 0:
            arrival = jobs.submit[clock[NEXT]] if clock[NEXT] < n else FAR
            end = live.heap_end[0] if clock[RUNNING] > 0 else FAR
            outage = FAR
            # After the last job nobody asks whether the machine is up.
            if clock[NEXT_OUTAGE] < outages and (arrival < FAR or clock[ENDED] < n):
                outage = jobs.submit[n + clock[NEXT_OUTAGE]]
            now = min(arrival, end, outage)
            if now == FAR or passes == 0:
                return OVER if now == FAR else PAUSED
            one = backfill == PUBLISHED
            clock[NOW] = max(clock[NOW], now)
            if not one:
                while clock[RUNNING] > 0 and live.heap_end[0] <= now:
                    _end_of(jobs, live, live.estimate)
            elif arrival > now:
                _end_of(jobs, live, live.estimate)
            while outage <= now:
                k = clock[NEXT_OUTAGE]
                if jobs.kills[k]:
                    _fail(jobs, live, n + k, n)
                _start(jobs, live, n + k, jobs.run[n + k])
                clock[NEXT_OUTAGE] = k + 1
                outage = jobs.submit[n + k + 1] if k + 1 < outages else FAR
            if arrival <= now and source == ASKED:
                clock[PENDING] = 1
                return ARRIVALS
            if arrival <= now:
                clock[PENDING] = 1
        if clock[PENDING] == 1:
            if backfill == PUBLISHED:
                job = clock[NEXT]
                if source == LAST_TWO:
                    live.estimate[job] = _last_two(jobs, live, job)
                live.queue[clock[WAITING]] = job
                clock[WAITING] += 1
                clock[NEXT] += 1
            else:
                _arrive(jobs, live, clock[NOW], source, n)
            clock[PENDING] = 0
        began = _cpu_us()
        first_new = clock[TOLD]
        clock[TOLD] = clock[NEXT]
        # One by one, a job that ends at this instant may not have been told of yet.
        _correct(jobs, live, clock[NOW] + (0 if backfill == PUBLISHED else 1))
        if clock[WAITING] > 0 and (clock[FREE] > 0 or promises or backfill == BOUNDED):
            while clock[WAITING] + clock[RUNNING] > room // 4:
                room *= 4
                times, free = np.empty(room, np.int64), np.empty(room, np.int64)
            if backfill == PUBLISHED:
                _pass_published(jobs, live, head)
            elif backfill == PLANNER:
                _pass_planner(jobs, live, times, free, promises and first_new < clock[NEXT])
            elif backfill == BOUNDED:
                _pass_bounded(jobs, live, times, free, first_new < clock[NEXT])
            elif backfill == CONSERVATIVE:
                if clock[FREE] > 0 or first_new < clock[NEXT]:
                    _pass_conservative(jobs, live, head, times, free, True)
            else:
                if clock[FREE] > 0:
                    _pass_easy(jobs, live, head, fill, backfill)
                if promises and first_new < clock[NEXT] and clock[WAITING] > 0:
                    _pass_conservative(jobs, live, head, times, free, False)
        if clock[PASSES] < live.cpu_us.shape[0]:
            live.cpu_us[clock[PASSES]] = _cpu_us() - began
        clock[PASSES] += 1
        passes -= 1
