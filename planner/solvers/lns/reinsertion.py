"""What of a plan still holds when the world has changed, and the least that must be done.

A plan is read as a partial order: on each worker in the order of its starts. What it says of
tasks whose workers are still there is kept and timed anew, so that early and late ends are
absorbed; only the other tasks are inserted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.deliberate_starts import deliberate_starts
from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Bools, Floats, Ints, Problem, Schedule
from plancast.planner.arrays.schedule import BEYOND_CHOICE, FIRST_CHOICE, MOST_HERE, MOST_WORKERS
from plancast.planner.solvers.lns import ruin
from plancast.planner.solvers.lns.local_search import SPARE, schedule_of, state_arrays
from plancast.planner.solvers.lns.ruin import Fixed


@dataclass(frozen=True, eq=False)
class Standing:
    """What the incumbent says of each task of a problem.

    Parameters
    ----------
    known : bool (tasks,)
        Whether the incumbent plans the task.
    keeps : bool (tasks,)
        Whether the task is planned on workers that are there and may hold it.
    start : int64 (tasks,)
        Planned start, seconds after now; 0 where the incumbent has none.
    worker : int64 (pieces,)
        Planned workers of the tasks that keep theirs, sorted within each task; -1 of the others.
    not_before : int64 (tasks,), optional
        Starts that the incumbent chose for the price of energy, seconds after now: tasks that keep
        their workers start no earlier.
    """

    known: Bools
    keeps: Bools
    start: Ints
    worker: Ints
    not_before: Ints | None = None

    def frozen(self, seconds: int) -> Bools:
        """Tasks that keep their workers and are to start within so many seconds."""
        return self.keeps & (self.start < seconds)


def standing(problem: Problem) -> Standing:
    """What the request's incumbent says of the tasks of a problem.

    Notes
    -----
    A task that should have started before now and still waits keeps its workers: it is late,
    but nothing says that they are not to be had. If it ran on one that is lost, they are not.
    """
    tasks = len(problem.tasks)
    incumbent = problem.request.incumbent
    if incumbent is None or not tasks:
        nothing = np.zeros(tasks, np.bool_)
        nowhere = np.full(int(problem.shard_ptr[-1]), -1, np.int64)
        return Standing(nothing, nothing.copy(), np.zeros(tasks, np.int64), nowhere)
    now = problem.request.snapshot.now_s
    index = {w.id: k for k, w in enumerate(problem.workers)}
    known, start, on = [], [], []
    for task in problem.tasks:
        planned = incumbent.by_task.get(task.id)
        if planned is None or len(planned.workers) != task.shards:
            known.append(False)
            start.append(0)
            on += [-1] * task.shards
        else:
            known.append(True)
            start.append(planned.start_s - now)
            on += [index.get(name, -1) for name in planned.workers]
    worker, task_of = np.array(on, np.int64), np.repeat(np.arange(tasks), problem.shards)
    able = problem.allowed[problem.kind[task_of], worker]
    able &= problem.duration[task_of, problem.worker_class[worker]] > 0
    keeps = np.logical_and.reduceat(able & (worker >= 0), problem.shard_ptr[:-1])
    for i in np.flatnonzero(problem.is_shaped & keeps):
        first, beyond = problem.shard_ptr[i : i + 2]
        keeps[i] = _lies_well(problem, int(i), worker[first:beyond])
    worker[~keeps[task_of]] = -1
    worker = worker[np.lexsort((worker, task_of))]
    chosen = None
    if problem.hours is not None:
        starts = deliberate_starts(problem.request, incumbent)
        chosen = np.array([max(0, starts.get(t.id, now) - now) for t in problem.tasks], np.int64)
    return Standing(np.array(known), keeps, np.array(start, np.int64), worker, chosen)


def _lies_well(problem: Problem, i: int, workers: Ints) -> bool:
    """Whether the pieces of a gang may lie on these workers together."""
    gang = problem.gang[i]
    on, pieces = np.unique(workers, return_counts=True)
    choices = range(gang[FIRST_CHOICE], gang[BEYOND_CHOICE])
    return (
        pieces.max() <= gang[MOST_HERE]
        and len(on) <= gang[MOST_WORKERS]
        and (not choices or any(problem.allowed[row, on].all() for row in choices))
    )


def reinserted(
    problem: Problem, fixed: Fixed, stands: Standing, rank: Floats, tie: float, in_turn: bool
) -> tuple[Schedule, Bools] | None:
    """The incumbent with no more changes than it needs.

    Parameters
    ----------
    problem : Problem
    fixed : Fixed
        Of ``local_search.fixed_arrays``.
    stands : Standing
    rank : float64 (tasks,)
        Priority of the tasks that are inserted, least first.
    tie : float
        Cost of a second of end time, far below anything priced.
    in_turn : bool
        Whether a task that lost its workers is inserted at its planned place in the order, at
        the expense of those planned after it, or into what the others leave free.

    Returns
    -------
    Schedule, bool (tasks,)
        And which tasks were inserted; None where one finds no place.
    """
    lined = np.flatnonzero(stands.known if in_turn else stands.keeps)
    line = lined[np.argsort(stands.start[lined], kind="stable")]
    floor = np.zeros(len(problem.tasks), np.int64) if in_turn else _floor(problem, stands)
    if stands.not_before is not None:
        floor = np.maximum(floor, stands.not_before)
    state, profile = state_arrays(problem, None)
    state.ps[:, ruin.ON] = np.where(np.repeat(stands.keeps, problem.shards), stands.worker, -1)
    # `load` counts the pieces of each worker for the room that it makes; none is placed yet.
    profile, items = ruin.load(fixed, state, profile, SPARE)
    order = priority_order(rank, problem.link_ptr, problem.before)
    *_, inserted, failed = ruin.reinsert(fixed, state, profile, items, line, floor, order, tie)
    if failed >= 0:
        return None
    return schedule_of(state.ts, state.ps), inserted


def _floor(problem: Problem, stands: Standing) -> Ints:
    """Starts before which nothing that is kept may be put. Shape (tasks,).

    What follows a task that is inserted waits for it at its planned start: if it went earlier,
    there would be less time for the other one.
    """
    after = np.repeat(np.arange(len(problem.tasks)), np.diff(problem.link_ptr))
    waits = np.zeros(len(problem.tasks), np.bool_)
    waits[after[~stands.keeps[problem.before]]] = True
    return np.where(waits & stands.keeps, np.maximum(0, stands.start), 0)


def shaken(problem: Problem, schedule: Schedule, inserted: Bools) -> Bools:
    """Tasks that were inserted, or that the change pushed beyond their planned start."""
    return inserted | (schedule.start > problem.moved_after)


def neighbours(problem: Problem, schedule: Schedule, near: Bools) -> Bools:
    """The tasks `near`, what they follow and what follows them, and who shares their time.

    Notes
    -----
    A task shares another one's time if it runs between that one's earliest start and its end
    on a worker that could hold it.
    """
    result = near.copy()
    after = np.repeat(np.arange(len(near)), np.diff(problem.link_ptr))
    result[after[near[problem.before]]] = True
    result[problem.before[near[after]]] = True
    first = schedule.worker[problem.shard_ptr[:-1]]
    for kind in np.unique(problem.kind[near]):
        mine = near & (problem.kind == kind)
        low, high = schedule.start[mine].min(), schedule.end[mine].max()
        there = problem.allowed[kind, first]
        result |= there & (schedule.end > low) & (schedule.start < high)
    return result
