"""Plans of a part of the tasks, where the workers drain before all of them can end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.list_schedule import EARLIEST_END
from plancast.planner.arrays.problem import Ints, Problem, Schedule, decode
from plancast.planner.arrays.schedule import FAR
from plancast.planner.arrays.unplaceable import drop_successors
from plancast.planner.model.domain import Plan
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest, PlanResponse
from plancast.planner.planning.response import judged, respond
from plancast.planner.solvers.greedy.greedy import Greedy, place_in_order
from plancast.planner.solvers.greedy.priority_rules import priorities

NO_ROOM = "the workers that may hold it drain before there is room for it beside what is planned"

ENCODINGS = 4.0
"""So many times what arrays of the request take is kept for what fits beside a plan."""


def may_be_planned_in_part(request: PlanRequest) -> bool:
    """Whether that workers drain may be why there is no plan of all tasks."""
    snapshot = request.snapshot
    if request.policy.has_hard_bounds or snapshot.has_modes:
        return False
    return any(worker.until_s is not None for worker in snapshot.workers)


def planned_in_part(
    request: PlanRequest,
    response: PlanResponse,
    search: Callable[[PlanRequest, float], PlanResponse],
    began: float,
) -> PlanResponse:
    """Plan those tasks for which there is room.

    Parameters
    ----------
    request : PlanRequest
    response : PlanResponse
        To all of the tasks, without a plan.
    search : callable
        Plans a request, all of it, and leaves some seconds of the budget.
    began : float
        When the request came (``time.perf_counter()``).

    Returns
    -------
    PlanResponse
        As `response` where nothing finds room. No bound: other tasks might be left out.

    Notes
    -----
    Left out is what finds no place in the list schedule in which least weight finds none, and what
    follows that; in the end whatever does fit beside the plan is planned after all.
    """
    at = time.perf_counter()
    asked, whole = request, encode(request)
    problem, encoding_s = whole, time.perf_counter() - at
    part = response
    while part.plan is None and problem.tasks:
        out = {problem.tasks[i].id: NO_ROOM for i in _without_place(problem)}
        if not out:
            return response
        drop_successors(asked.snapshot.pending, out)
        pending = tuple(task for task in asked.snapshot.pending if task.id not in out)
        asked = replace(asked, snapshot=replace(asked.snapshot, pending=pending))
        part = search(asked, ENCODINGS * encoding_s)
        problem = encode(asked) if part.plan is None else problem
    if part.plan is None:
        return response
    planned = part.plan.by_task.keys()
    reasons = {t.id: NO_ROOM for t in request.snapshot.pending if t.id not in planned}
    plan, unplanned = _with_what_fits(whole, part.plan, reasons)
    found = evaluate(request, plan, unplanned=unplanned)
    facts = judged(request, plan, found.cost, found.terms, None)
    facts |= {"solver": part.solver, "auto": part.auto, "warning": part.warning}
    return respond(request, began, unplanned, **facts)


def _without_place(problem: Problem) -> Ints:
    """Tasks that the list schedule in which least weight finds no place has no place for."""
    without = []
    for order, rule in Greedy().passes(problem):
        start = place_in_order(problem, order, rule).start
        without.append(np.flatnonzero(start >= FAR))
    return min(without, key=lambda tasks: (problem.weight[tasks].sum(), len(tasks)))


def _with_what_fits(
    whole: Problem, plan: Plan, reasons: Mapping[str, str]
) -> tuple[Plan, dict[str, str]]:
    """A plan with those tasks that fit beside it as it is, and why the others are in none."""
    # What has no place as long as nothing is stopped may be planned by a plan that stops something.
    unplanned = {name: whole.unplanned.get(name, why) for name, why in reasons.items()}
    held = _held_to(whole, plan)
    if held is None:
        return plan, unplanned
    problem, order = held
    schedule = place_in_order(problem, order, EARLIEST_END)
    placed = schedule.start < FAR
    left = {t.id: NO_ROOM for t, there in zip(whole.tasks, placed, strict=True) if not there}
    part = encode(whole.request, left)
    pieces = np.repeat(placed, whole.shards)
    more = decode(
        part,
        Schedule(
            schedule.start[placed],
            schedule.end[placed],
            schedule.worker[pieces],
            devices=None if schedule.devices is None else schedule.devices[pieces],
        ),
    )
    is_valid = evaluate(whole.request, more, unplanned=part.unplanned).valid
    if plan.by_task.keys() - more.by_task.keys() or not is_valid:
        return plan, unplanned
    return more, dict(part.unplanned)


def _held_to(problem: Problem, plan: Plan) -> tuple[Problem, Ints] | None:
    """The problem in which what is planned can only stay where it is, and an order for it.

    None where all is planned, or running tasks are stopped.
    """
    now, planned = problem.request.snapshot.now_s, plan.by_task
    if plan.preempted or len(planned) == len(problem.tasks):
        return None
    place = {worker.id: w for w, worker in enumerate(problem.workers)}
    kinds = len(problem.allowed)
    release, kind = problem.release.copy(), problem.kind.copy()
    allowed = np.vstack([problem.allowed, np.zeros((len(planned), len(place)), np.bool_)])
    share = np.vstack([problem.share, np.zeros((len(planned), len(place)))])
    first: list[int] = []
    for i, task in enumerate(problem.tasks):
        if (row := planned.get(task.id)) is not None:
            release[i], new = row.start_s - now, kinds + len(first)
            allowed[new, [place[w] for w in row.workers]] = True
            share[new], kind[i] = problem.share[problem.kind[i]], new
            first.append(i)
    # What is planned first, in its order; of the rest the shortest per weight.
    rest = 2.0 * FAR + priorities(problem)["shortest"]
    rest[first] = release[first]
    order = priority_order(rest, problem.link_ptr, problem.before)
    held = replace(problem, release=release, kind=kind, allowed=allowed, share=share, memory={})
    return held, order
