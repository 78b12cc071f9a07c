"""Interchangeable workers: which they are, and schedules in which it matters which is which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plancast.planner.arrays.hours import Hours
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.schedule import earliest_start, occupy, with_room
from plancast.planner.solvers.lns.local_search import fixed_arrays, ranks
from plancast.planner.solvers.lns.reinsertion import Standing, reinserted

TIE = 1e-9
"""Cost of a second of end time where nothing priced tells two places apart."""


def classes_of(problem: Problem) -> list[Ints]:
    """The workers in classes: any two of one may swap all that is placed on them.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    list of int64 arrays
        Each in order of the workers. Where moves are priced no two workers are alike: a task
        is where the incumbent has it, or it is not.
    """
    workers = len(problem.capacity)
    if problem.rates.move > 0:
        return [np.array([w]) for w in range(workers)]
    times, free, count = problem.profile()
    alike: dict[tuple[bytes, ...], list[int]] = {}
    for w in range(workers):
        numbers = np.array(
            [
                problem.rates.idle[w], problem.rates.busy[w], problem.rates.boot[w],
                problem.health[w], problem.load_h[w],
                *([] if problem.hours is None else _power(problem.hours, w)),
            ]
        )  # fmt: skip
        whole = np.array(
            [
                problem.worker_class[w], problem.free_from[w], problem.last_end[w],
                int(problem.on[w]), *problem.capacity[w],
                -1 if problem.hours is None else problem.hours.group[w],
            ]
        )  # fmt: skip
        key = (
            numbers.tobytes(), whole.tobytes(), problem.allowed[:, w].tobytes(),
            problem.share[:, w].tobytes(), times[w, : count[w]].tobytes(),
            free[w, : count[w]].tobytes(),
        )  # fmt: skip
        alike.setdefault(key, []).append(w)
    return [np.array(members) for members in alike.values()]


def idles_at_a_price(problem: Problem, w: int) -> bool:
    """Whether it costs something that a worker is on."""
    by_hour = problem.hours is not None and problem.hours.idle_w[w] > 0
    return bool(by_hour or problem.rates.idle[w] > 0)


def _power(hours: Hours, w: int) -> list[float]:
    """What a worker draws, by which its costs go where energy has hours."""
    return [float(hours.idle_w[w]), float(hours.busy_w[w])]


def in_order(problem: Problem, schedule: Schedule, classes: list[Ints]) -> Schedule:
    """The same with the workers of each class swapped so that none outdoes the one before it.

    By time on where idle power is priced, else by the summed durations on it: the order that
    ``model.Model.keep_in_order`` asks for.
    """
    piece_task = np.repeat(np.arange(len(problem.tasks)), problem.shards)
    last_end = problem.last_end.copy()
    np.maximum.at(last_end, schedule.worker, schedule.end[piece_task])
    ran = (schedule.end - schedule.start)[piece_task]
    busy_s = np.bincount(schedule.worker, ran, minlength=len(last_end))
    becomes = np.arange(len(last_end))
    for members in classes:
        priced = idles_at_a_price(problem, int(members[0]))
        amount = last_end[members] if priced else busy_s[members]
        becomes[members[np.argsort(-amount, kind="stable")]] = members
    return replace(schedule, worker=becomes[schedule.worker])


def spread(problem: Problem, schedule: Schedule, classes: list[Ints]) -> Schedule | None:
    """A valid schedule near one that names classes of workers only.

    Parameters
    ----------
    problem : Problem
    schedule : Schedule
        Every piece on any worker of its class; the workers of a class may be overfull.
    classes : list of int64 arrays

    Returns
    -------
    Schedule or None
        In order of start each piece goes to the worker of its class with room that is on
        longest; where there is none, its task is inserted where it adds least in its turn.
    """
    class_of = np.zeros(len(problem.capacity), np.int64)
    for number, members in enumerate(classes):
        class_of[members] = number
    times, free, count = problem.profile()
    last_end = problem.last_end.copy()
    worker = np.full(len(schedule.worker), -1, np.int64)
    keeps = np.ones(len(problem.tasks), np.bool_)
    ptr = problem.shard_ptr
    for i in np.argsort(schedule.start, kind="stable"):
        start, end = int(schedule.start[i]), int(schedule.end[i])
        if problem.is_shaped[i]:
            keeps[i] = False  # a sum over workers does not say how its pieces lie
            continue
        for p in range(ptr[i], ptr[i + 1]):
            members = classes[class_of[schedule.worker[p]]]
            room = [
                int(w)
                for w in members
                if earliest_start(
                    times[w], free[w], count[w], problem.demand[i], start, end - start
                )
                == start
            ]
            if not room:
                keeps[i] = False
                break
            w = max(room, key=lambda w: int(last_end[w]))
            times, free = with_room(times, free, count, w)
            occupy(times, free, count, w, start, end, problem.demand[i])
            worker[p], last_end[w] = w, max(last_end[w], end)
    if keeps.all():
        return Schedule(schedule.start, schedule.end, worker)
    known = np.ones(len(problem.tasks), np.bool_)
    return timed_anew(problem, Standing(known, keeps, schedule.start, worker))


def timed_anew(problem: Problem, stands: Standing) -> Schedule | None:
    """Every task as early as its worker and those planned before it let it start."""
    found = reinserted(problem, fixed_arrays(problem), stands, ranks(problem)[0], TIE, True)
    return None if found is None else found[0]
