"""What a plan costs in a scenario, task by task: the twin of ``lns.scenario_course``."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np

from plancast.planner.arrays.problem import Ints, Problem
from plancast.planner.arrays.running import expected_end_s, reserved_s
from plancast.planner.model.domain import Plan
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.partial_order import partial_order
from plancast.planner.solvers.lns.scenario_course import Scenarios, lay_out


def course_in(request: PlanRequest, plan: Plan, asked: PlanRequest, in_turn: bool) -> Plan:
    """A plan with the times of a scenario: each task follows whom it follows.

    Where `in_turn` none starts before those that the plan has before it on its workers.
    """
    order = partial_order(request, plan)
    snapshot, now = request.snapshot, request.snapshot.now_s
    start, end = {}, {}
    ahead: dict[str, int] = {}
    for i in range(order.placed, len(order.tasks)):
        end[i] = expected_end_s(asked, snapshot.running_by_id[order.tasks[i].id]) - now
    for i in range(order.placed):
        links = order.link[order.link_ptr[i] : order.link_ptr[i + 1]].tolist()
        bounds = [int(order.earliest[i]), *(end[b] for b in links)]
        if in_turn:
            bounds += [start[ahead[w]] for w in order.workers[i] if w in ahead]
        on = [snapshot.worker_by_id[w] for w in order.workers[i]]
        start[i] = max(bounds)
        end[i] = start[i] + (reserved_s(asked, order.tasks[i].id, on) or 1)
        ahead |= dict.fromkeys(order.workers[i], i)
    rows = [
        replace(plan.by_task[order.tasks[i].id], start_s=now + start[i], end_s=now + end[i])
        for i in range(order.placed)
    ]
    return replace(plan, assignments=tuple(rows))


def cost_in(request: PlanRequest, plan: Plan, asked: PlanRequest, in_turn: bool) -> float:
    """What it costs there, by the evaluator."""
    left_out = [t.id for t in request.snapshot.pending if t.id not in plan.by_task]
    found = evaluate(asked, course_in(request, plan, asked, in_turn), unplanned=left_out)
    assert found.valid, found.violations
    return found.cost


def least_cost(f: Scenarios, problem: Problem) -> float:
    """The least mean cost over the scenarios of any order and any workers."""
    kinds = problem.kind.repeat(problem.shards)
    tasks = np.arange(len(problem.tasks)).repeat(problem.shards)
    able = [
        [
            w
            for w in np.flatnonzero(problem.allowed[kind])
            if problem.duration[task, problem.worker_class[w]] > 0
        ]
        for kind, task in zip(kinds, tasks, strict=True)
    ]
    best = float("inf")
    for order in permutations(range(len(problem.tasks))):
        place = {i: k for k, i in enumerate(order)}
        if any(place[b] > place[i] for i in order for b in problem.predecessors(i).tolist()):
            continue
        for home in product(*able):
            _, costs = lay_out(f, np.array(order), _sorted_within(problem, np.array(home)))
            best = min(best, float(costs.mean()))
    return best


def _sorted_within(problem: Problem, home: Ints) -> Ints:
    """The workers of pieces, sorted within each task."""
    task = np.arange(len(problem.tasks)).repeat(problem.shards)
    result: Ints = home[np.lexsort((home, task))]
    return result
