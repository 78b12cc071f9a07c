"""PyJobShop (extra ``bench``) as a peer: its own model, CP-SAT's search as it sets it up.

References
----------
Lan, Berkhout (2025), "PyJobShop: Solving scheduling problems with constraint programming in
Python", arXiv:2502.13483.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from plancast.pipelines.bench.peers.base import (
    Answer,
    NotSuited,
    Rules,
    require_open,
    require_priced_only,
    takes_whole_worker,
)
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.model.domain import BadRequest


def pyjobshop(problem: Problem, rules: Rules) -> Answer:
    """What PyJobShop finds for a makespan.

    Notes
    -----
    A worker that runs one task at a time is a machine; any other is a renewable resource of
    each kind, and a task has a mode for each worker it may run on. The model is PyJobShop's;
    it is solved with the limit and threads that its own ``solve`` would set, by a solver
    that also tells when it finds something.
    """
    try:
        from pyjobshop import Model
        from pyjobshop.solvers.ortools import CPModel
    except ImportError:
        raise BadRequest("pyjobshop is not installed; pip install 'plancast[bench]'") from None
    from plancast.pipelines.bench.peers.cp_run import run

    began = time.perf_counter()
    require_open(problem)
    require_priced_only(problem, "makespan_h")
    model: Any = Model()
    tasks, modes = _fill(model, problem)
    whole = CPModel(model.data())
    price = problem.rates.end
    solver, bound = run(whole.model, rules, began, lambda value: price * value)
    if solver is None:
        return Answer(None, bound)
    variables = whole.variables
    start = np.array([solver.value(v.start) for v in variables.task_vars], np.int64)
    end = np.array([solver.value(v.end) for v in variables.task_vars], np.int64)
    worker = np.zeros(len(tasks), np.int64)
    for (task, w), chosen in zip(modes, variables.mode_vars, strict=True):
        if solver.value(chosen):
            worker[task] = w
    return Answer(Schedule(start, end, worker), bound)


def pyjobshop_in_modes(choices: Choices, rules: Rules) -> Answer:
    """What PyJobShop finds for the makespan of tasks with modes: each way and worker is a mode."""
    try:
        from pyjobshop import Model
        from pyjobshop.solvers.ortools import CPModel
    except ImportError:
        raise BadRequest("pyjobshop is not installed; pip install 'plancast[bench]'") from None
    from plancast.pipelines.bench.peers.cp_run import run

    began = time.perf_counter()
    base, ways = choices.base, choices.ways
    require_open(replace(base, shards=ways.shards))
    require_priced_only(base, "makespan_h")
    model: Any = Model()
    resources = [
        [model.add_renewable(int(amount)) for amount in base.capacity[w]]
        for w in range(len(base.workers))
    ]
    budgets = [model.add_consumable(max(0, left)) for left in choices.left.tolist()]
    tasks = [model.add_task(earliest_start=int(r)) for r in base.release]
    modes = []
    for row, i in enumerate(choices.task_of.tolist()):
        on_worker = ways.durations_on(row)
        for w in np.flatnonzero(on_worker).tolist():
            needs = [*ways.demand[row].tolist(), *choices.consumed[row].tolist()]
            wanted = [(x, a) for x, a in zip([*resources[w], *budgets], needs, strict=True) if a]
            model.add_mode(
                tasks[i], [x for x, _ in wanted], int(on_worker[w]), [a for _, a in wanted]
            )
            modes.append((i, row, w))
    for i, task in enumerate(tasks):
        for before in base.predecessors(i):
            model.add_end_before_start(tasks[int(before)], task)
    whole = CPModel(model.data())
    solver, bound = run(whole.model, rules, began, lambda value: base.rates.end * value)
    if solver is None:
        return Answer(None, bound)
    variables = whole.variables
    start = np.array([solver.value(v.start) for v in variables.task_vars], np.int64)
    end = np.array([solver.value(v.end) for v in variables.task_vars], np.int64)
    worker, mode = np.zeros(len(tasks), np.int64), np.zeros(len(tasks), np.int64)
    for (task, way, w), chosen in zip(modes, variables.mode_vars, strict=True):
        if solver.value(chosen):
            worker[task], mode[task] = w, way
    return Answer(Schedule(start, end, worker, mode), bound)


def _fill(model: Any, problem: Problem) -> tuple[list[Any], list[tuple[int, int]]]:
    """The tasks, and the task and worker of each mode."""
    if takes_whole_worker(problem):
        machines = [model.add_machine() for _ in problem.workers]
        resources = [[m] for m in machines]
    else:
        machines = None
        resources = [
            [model.add_renewable(int(amount)) for amount in problem.capacity[w]]
            for w in range(len(problem.workers))
        ]
    tasks = [model.add_task(earliest_start=int(r)) for r in problem.release]
    modes = []
    for i, task in enumerate(tasks):
        on_worker = problem.durations_on(i)
        for w in np.flatnonzero(on_worker):
            wanted = [] if machines else [r for r, a in enumerate(problem.demand[i]) if a]
            model.add_mode(
                task,
                resources[w] if machines else [resources[w][r] for r in wanted],
                int(on_worker[w]),
                None if machines else [int(problem.demand[i, r]) for r in wanted],
            )
            modes.append((i, int(w)))
        for before in problem.predecessors(i):
            model.add_end_before_start(tasks[int(before)], task)
    if not modes:
        raise NotSuited("has no task")
    return tasks, modes
