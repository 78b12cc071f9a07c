"""A problem in ticks of several seconds, and a plan of it timed anew to the second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plancast.planner.arrays import rates
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.schedule import FAR
from plancast.planner.solvers.cpsat.worker_classes import timed_anew
from plancast.planner.solvers.lns.reinsertion import Standing


def coarse(problem: Problem, tick_s: int) -> Problem | None:
    """The problem with a tick for a second.

    Parameters
    ----------
    problem : Problem
    tick_s : int
        Seconds of a tick, more than 1.

    Returns
    -------
    Problem or None
        None where slowdowns are priced or limited (they know a duration of 10 s), where starts or
        lags are waited for, where something is held that only the problem itself knows of, or
        counted, and where energy has hours, which timing anew would not keep to.

    Notes
    -----
    Durations, releases and what is closed are rounded up, deadlines down: what fits in ticks
    fits in seconds. Prices are by the tick, so that costs are those of the rounded plan: no
    bound on the cost of any other.
    """
    if (
        type(problem) is not Problem
        or problem.counted
        or problem.hours is not None
        or problem.rates.slowdown > 0
        or problem.max_stretch > 0
    ):
        return None
    if problem.is_related:
        return None

    def up(seconds: Ints) -> Ints:
        return np.where(seconds >= FAR, FAR, -(-seconds // tick_s))

    def down(seconds: Ints) -> Ints:
        return np.where(seconds >= FAR, FAR, seconds // tick_s)

    return replace(
        problem,
        release=up(problem.release),
        raw_release=down(problem.raw_release),
        deadline=down(problem.deadline),
        hard_end=down(problem.hard_end),
        last_start=down(problem.last_start),
        moved_after=down(problem.moved_after),
        duration=up(problem.duration),
        free_from=up(problem.free_from),
        until=down(problem.until),
        busy_end=up(problem.busy_end),
        shut_start=down(problem.shut_start),
        shut_end=up(problem.shut_end),
        last_end=up(problem.last_end),
        health=problem.health**tick_s,
        load_h=problem.load_h / tick_s,
        owner_wait_h=problem.owner_wait_h / tick_s,
        rates=rates.in_ticks(problem.rates, tick_s),
        memory={},
    )


def in_ticks(rough: Problem, schedule: Schedule, tick_s: int) -> Schedule | None:
    """A schedule in seconds as one of the problem in ticks; None where it does not fit there."""
    every = np.ones(len(rough.tasks), np.bool_)
    return timed_anew(rough, Standing(every, every, schedule.start // tick_s, schedule.worker))


def retimed(problem: Problem, schedule: Schedule, tick_s: int) -> Schedule | None:
    """A schedule in ticks as one in seconds: its workers and its order, each task when it can."""
    every = np.ones(len(problem.tasks), np.bool_)
    return timed_anew(problem, Standing(every, every, schedule.start * tick_s, schedule.worker))
