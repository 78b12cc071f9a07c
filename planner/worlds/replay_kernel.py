"""The clock of a replay: arrivals, ends and outages in turn, then one scheduling pass."""

from __future__ import annotations

import numpy as np
from numba import types

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.schedule import FAR
from plancast.planner.worlds.replay_look_ahead import (
    _pass_bounded,
    _pass_planner,
    derive,
    quantile_at,
)
from plancast.planner.worlds.replay_machine import (
    ANNOUNCED,
    ARRIVALS,
    ASKED,
    BOUNDED,
    CLOCK,
    COMMITTED,
    CONSERVATIVE,
    CORRECTIONS,
    EASY,
    ENDED,
    F1,
    F2,
    F3,
    F4,
    FCFS,
    FREE,
    GIVEN,
    KILLED,
    LAST_TWO,
    NEXT,
    NEXT_OUTAGE,
    NONE,
    NOW,
    OVER,
    PASSES,
    PAUSED,
    PENDING,
    PLANNER,
    PUBLISHED,
    PUT_OFF,
    RUN2PROCS,
    RUNNING,
    SAF,
    SJF,
    UNICEP,
    WAITING,
    WFP3,
    Jobs,
    Live,
    _correct,
    _end_of,
    _fail,
    _last_two,
    _start,
)
from plancast.planner.worlds.replay_queues import _pass_conservative, _pass_easy, _pass_published

__all__ = [
    "ARRIVALS",
    "ASKED",
    "BOUNDED",
    "CLOCK",
    "COMMITTED",
    "CONSERVATIVE",
    "CORRECTIONS",
    "EASY",
    "ENDED",
    "F1",
    "F2",
    "F3",
    "F4",
    "FAR",
    "FCFS",
    "FREE",
    "GIVEN",
    "KILLED",
    "LAST_TWO",
    "NEXT",
    "NONE",
    "NOW",
    "OVER",
    "PASSES",
    "PLANNER",
    "PUBLISHED",
    "PUT_OFF",
    "RUN2PROCS",
    "RUNNING",
    "SAF",
    "SJF",
    "UNICEP",
    "WAITING",
    "WFP3",
    "Jobs",
    "Live",
    "advance",
    "derive",
    "quantile_at",
]


_cpu_us = types.ExternalFunction("clock", types.int64())


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
        Whether a job that does not start at its submission is promised its conservative start.
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
        first_new = clock[ANNOUNCED]
        clock[ANNOUNCED] = clock[NEXT]
        # One by one, a job that ends at this instant may not have been announced yet.
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
