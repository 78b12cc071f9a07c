"""Disciplines of a queue: what starts now under EASY, published and conservative backfilling."""

from __future__ import annotations

from plancast.planner.arrays.jit import inner
from plancast.planner.arrays.schedule import FAR
from plancast.planner.worlds.replay_machine import (
    COMMITTED,
    COMMITTED_START,
    EASY,
    FREE,
    NOW,
    RUNNING,
    WAITING,
    _close_ranks,
    _ordered,
    _sort_running,
    _start,
    earliest,
    profile_of_running,
    reserve,
)


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
