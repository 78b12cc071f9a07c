"""A straightforward CP-SAT model: an optional interval for every task and worker.

What one writes first: no grouping of equal workers, no hint, no bound, no cut.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from plancast.pipelines.bench.peers.base import (
    Answer,
    NotSuited,
    Rules,
    require_open,
    require_priced_only,
)
from plancast.pipelines.bench.peers.cp_run import run
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.arrays.schedule import FAR

PARTS = 1_000_000
"""Into how many parts a unit of cost is divided to have whole coefficients."""
MOST_INTERVALS = 1_000_000
"""Beyond this many the model alone takes minutes and gigabytes to build."""


def straightforward_model(problem: Problem, rules: Rules) -> Answer:
    """What CP-SAT finds for makespan, lateness and the power of used workers."""
    began = time.perf_counter()
    require_open(problem)
    require_priced_only(problem, "makespan_h", "late_h", "kwh")
    if problem.rates.busy.any() or problem.rates.boot.any():
        raise NotSuited("prices power that depends on the load, or switching on")
    intervals = int(problem.allowed.sum(axis=1)[problem.kind].sum())
    if intervals > MOST_INTERVALS:
        raise NotSuited(f"would need {intervals:,} intervals")
    model: Any = cp_model.CpModel()
    horizon = int(problem.release.max() + problem.duration.max(axis=1).sum())
    start, end, here = [], [], []
    on_worker: list[list[tuple[int, Any, Any]]] = [[] for _ in problem.workers]
    for i in range(len(problem.tasks)):
        begin = model.new_int_var(int(problem.release[i]), horizon, "")
        finish = model.new_int_var(0, horizon, "")
        choices = {}
        durations = problem.durations_on(i)
        for w in map(int, np.flatnonzero(durations)):
            present = choices[w] = model.new_bool_var("")
            piece = model.new_optional_interval_var(begin, int(durations[w]), finish, present, "")
            on_worker[w].append((i, present, piece))
        model.add_exactly_one(choices.values())
        start.append(begin)
        end.append(finish)
        here.append(choices)
    for i, begin in enumerate(start):
        for before in problem.predecessors(i):
            model.add(begin >= end[before])
    _keep_capacities(model, problem, on_worker)
    _minimise(model, problem, end, on_worker, horizon)
    solver, bound = run(model, rules, began, lambda value: value / PARTS)
    if solver is None:
        return Answer(None, bound)
    starts = np.array([solver.value(v) for v in start], np.int64)
    ends = np.array([solver.value(v) for v in end], np.int64)
    worker = [next(w for w, b in choices.items() if solver.boolean_value(b)) for choices in here]
    return Answer(Schedule(starts, ends, np.array(worker, np.int64)), bound)


def _keep_capacities(
    model: Any, problem: Problem, on_worker: list[list[tuple[int, Any, Any]]]
) -> None:
    """No worker is over capacity at any moment."""
    for w, pieces in enumerate(on_worker):
        for r, capacity in enumerate(problem.capacity[w].tolist()):
            busy = [(piece, int(problem.demand[i, r])) for i, _, piece in pieces]
            busy = [(piece, demand) for piece, demand in busy if demand]
            if busy:
                model.add_cumulative(*map(list, zip(*busy, strict=True)), int(capacity))


def _minimise(
    model: Any,
    problem: Problem,
    end: list[Any],
    on_worker: list[list[tuple[int, Any, Any]]],
    horizon: int,
) -> None:
    costs = []
    makespan = model.new_int_var(0, horizon, "")
    model.add_max_equality(makespan, end)
    costs.append(round(PARTS * problem.rates.end) * makespan)
    for i, finish in enumerate(end):
        price = round(PARTS * float(problem.rates.late * problem.weight[i]))
        if price and problem.deadline[i] < FAR:
            late = model.new_int_var(0, horizon, "")
            model.add(late >= finish - int(problem.deadline[i]))
            costs.append(price * late)
    for w, pieces in enumerate(on_worker):
        price = round(PARTS * float(problem.rates.idle[w]))
        if price and pieces:
            last = model.new_int_var(0, horizon, "")
            for i, present, _ in pieces:
                model.add(last >= end[i]).only_enforce_if(present)
            costs.append(price * last)
    model.minimize(sum(costs))
