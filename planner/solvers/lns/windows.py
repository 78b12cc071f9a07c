"""Windows of a plan that an exact engine places anew while all the rest stays.

Ruin and recreate puts tasks back one by one, each where it adds least; an exact engine places
the freed tasks of a window together. A window is made of tasks that compete: for one time on
workers that could hold each other's tasks, for the last hours of a few workers, or for the
place of a late one.
"""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.problem import Bools, Problem, Schedule

LATE, TAILS, TIME = range(3)
RULES = ("late", "tails", "time")


def window(
    problem: Problem, schedule: Schedule, most: int, rule: int, rng: np.random.Generator
) -> Bools:
    """Up to `most` tasks that compete with one another. Shape (tasks,).

    Parameters
    ----------
    problem : Problem
    schedule : Schedule
    most : int
    rule : int
        ``LATE``: a late task, and what runs between its earliest start and its end on workers
        that could hold it; ``TAILS``: the last tasks of workers that could hold one another's;
        ``TIME``: what runs nearest to a moment on workers that could hold the task of then.
    rng : numpy Generator
    """
    tasks = len(problem.tasks)
    out = np.zeros(tasks, np.bool_)
    first = schedule.worker[problem.shard_ptr[:-1]]
    pivot = int(rng.integers(tasks))
    if rule == LATE:
        late = problem.weight * np.maximum(0, schedule.end - problem.deadline)
        if late.any():
            pivot = int(rng.choice(tasks, p=late / late.sum()))
    able = problem.allowed[problem.kind[pivot]]
    near = able[first]
    if rule == TAILS:
        last_end = np.zeros(len(problem.workers), np.int64)
        np.maximum.at(last_end, first, schedule.end)
        before_last = last_end[first] - schedule.end
        few = rng.permutation(np.flatnonzero(able))[: int(rng.integers(2, 7))]
        near &= np.isin(first, few)
        distance = before_last.astype(np.float64)
    else:
        begin, end = schedule.start[pivot], schedule.end[pivot]
        if rule == LATE:
            before = problem.predecessors(pivot)
            begin = max(int(problem.release[pivot]), int(schedule.end[before].max(initial=0)))
        moment = begin + rng.random() * (end - begin)
        distance = np.maximum(0, np.maximum(schedule.start - moment, moment - schedule.end))
        distance = distance + rng.random(tasks)
    distance = np.where(near, distance, np.inf)
    distance[pivot] = -1.0
    chosen = np.argsort(distance, kind="stable")[:most]
    out[chosen[np.isfinite(distance[chosen])]] = True
    return out
