"""One call from request to response where a plan is in force: in tens of milliseconds.

``plan(request, "repair")`` gives the repaired plan beside greedy ones and a strong bound, and
takes as long as any solver. ``repair`` leaves these out: it is for a master that has to answer
an event at once, and may plan anew afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.modes import Choices, encode_choices, in_one_way
from plancast.planner.arrays.problem import decode
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import Plan
from plancast.planner.model.evaluate import (
    Evaluation,
    evaluate,
    moved_tasks,
)
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, Status
from plancast.planner.planning.in_part import may_be_planned_in_part
from plancast.planner.planning.plan import plan, plan_without_preemption, with_known_devices
from plancast.planner.planning.preempt import preemptible, with_preemption
from plancast.planner.planning.response import judged, respond
from plancast.planner.planning.scenarios import reordered
from plancast.planner.planning.warm import LISTS, NEEDS, for_request, warm
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns.orders import FEW_WORKERS
from plancast.planner.solvers.mode_rules import best_rows, scores

RESERVE, RESERVE_S = 2.5, 0.002
"""Kept back of the budget to judge and to explain the plan: so many times what it took to encode
the request, and seconds. On a machine that is busy both take longer."""
CALM = frozenset({"most_moved", "frozen_s"})
"""Who asks for these would have little moved whatever it costs: nothing is planned from scratch."""
ANEW_PART = 0.25
"""Part of the budget in which further list schedules from scratch are begun; one is always made."""
LEAST_S = 0.003
"""Seconds that are always granted: to repair takes no longer."""


def repair(request: PlanRequest, *, judge: bool = True, **parameters: Any) -> PlanResponse:
    """Repair the request's incumbent for its snapshot.

    Parameters
    ----------
    request : PlanRequest
        With an incumbent, made for an older version of the snapshot.
    judge : bool
        Whether the plan is judged, priced and explained. A controller that judges each plan before
        it puts it in force has no need of that; then the response may have no cost, and its plan
        may be invalid.
    **parameters
        Of ``solvers.repair.Repair``.

    Returns
    -------
    PlanResponse
        Never an invalid plan, and none that costs more than keeping what can be kept and inserting
        the rest, or than a list schedule from scratch (unless `most_moved` or `frozen_s` is given).
        Running tasks that are preemptible are stopped, and perhaps placed elsewhere, where that is
        cheaper. Where nothing can be repaired (no incumbent,
        a task without a place, an evaluator that refuses) it is what ``plan`` answers. Where the
        policy names scenarios, the order on one machine or few alike is searched a little more.
        Tasks with modes keep those that the incumbent chose; new ones take a mode by rule.
    """
    request = with_known_devices(request)
    if request.policy.scenarios and request.incumbent is not None:
        plain = request.evolved(policy=replace(request.policy, scenarios=()))
        judge = judge or len(request.snapshot.workers) <= FEW_WORKERS  # an order is searched there
        return reordered(request, repair(plain, judge=judge, **parameters))
    if request.incumbent is None:
        return plan(request)
    if request.snapshot.has_modes:
        return _repaired_in_modes(request, parameters)
    warm(for_request(request, (LISTS, *NEEDS["repair"])))
    if preemptible(request):
        found = with_preemption(request, lambda asked, out, _: _repaired(asked, parameters, out))
    else:
        found = _repaired(request, parameters, judge=judge)
    if found.plan is None and may_be_planned_in_part(request):
        return plan(request)
    return found


def _repaired_in_modes(request: PlanRequest, parameters: dict[str, Any]) -> PlanResponse:
    """The incumbent's modes kept and the rest repaired, or the plan of ``greedy`` where cheaper."""
    assert request.incumbent is not None
    began = time.perf_counter()
    scratch = plan(request, "greedy")
    choices = encode_choices(request)
    mode_of = _kept_modes(choices)
    if mode_of is None or choices.infeasible or not choices.tasks:
        return scratch if scratch.plan is not None else plan(request)
    known = tuple(
        replace(a, mode="")
        if a.mode == mode_of[a.task]
        else replace(a, mode="", workers=(), devices=())
        for a in request.incumbent.assignments
        if a.task in mode_of
    )
    plain = in_one_way(request, mode_of)
    plain = replace(plain, incumbent=replace(request.incumbent, assignments=known))
    made = repair(plain, **parameters).plan
    if made is None:
        return scratch if scratch.plan is not None else plan(request)
    made = replace(
        made, assignments=tuple(replace(a, mode=mode_of[a.task]) for a in made.assignments)
    )
    found = evaluate(request, made, unplanned=choices.unplanned)
    if not found.valid or (scratch.cost is not None and scratch.cost <= found.cost):
        return scratch if scratch.plan is not None else plan(request)
    return response_of(
        request, made, found, began, solver="repair", unplanned=choices.unplanned,
        bound=lower_bound(choices.relaxed),
    )  # fmt: skip


def _kept_modes(choices: Choices) -> dict[str, str] | None:
    """The incumbent's mode of each pending task, one by rule where it has none that can be.

    None where these modes take more than a budget holds.
    """
    assert choices.request.incumbent is not None
    before = choices.request.incumbent.by_task
    choice = best_rows(choices, scores(choices, 1.0))
    for i, task in enumerate(choices.tasks):
        rows = range(*choices.ptr[i : i + 2].tolist())
        kept = [k for k in rows if task.id in before and choices.mode[k] == before[task.id].mode]
        choice[i] = kept[0] if kept else choice[i]
    if not choices.affords(choice):
        return None
    # What can be done in no way at all is left out by ``encode`` in any.
    mode_of = {t.id: t.modes[0].id if t.modes else "" for t in choices.request.snapshot.pending}
    return mode_of | {t.id: choices.mode[k] for t, k in zip(choices.tasks, choice, strict=True)}


def _repaired(
    request: PlanRequest,
    parameters: dict[str, Any],
    left_out: Mapping[str, str] | None = None,
    judge: bool = True,
) -> PlanResponse:
    began = time.perf_counter()
    problem = encode(request, left_out)
    if problem.infeasible or not problem.tasks:
        return plan_without_preemption(request, left_out=left_out)
    solver = SOLVERS["repair"](**parameters)
    budget, encoded_s = request.budget, time.perf_counter() - began

    def left(part: float) -> Budget:
        """A part of what is left of the budget."""
        if budget.seconds is None:
            return budget
        spent_s = time.perf_counter() - began
        left_s = budget.seconds - spent_s - judge * (RESERVE * encoded_s + RESERVE_S)
        return Budget(max(LEAST_S, part * left_s), budget.steps)

    anew = None
    if CALM.isdisjoint(parameters):
        # After a large shock there may be little in the old plan that is worth keeping.
        rng = np.random.default_rng(request.seed)
        anew = SOLVERS["greedy"]().solve(problem, budget=left(ANEW_PART), rng=rng).schedule
    rng = np.random.default_rng(request.seed)
    solution = solver.solve(problem, budget=left(1.0), rng=rng, incumbent=anew)
    if solution.schedule is None:
        return plan_without_preemption(request, left_out=left_out)
    repaired = decode(problem, solution.schedule)
    if not judge:
        moved = tuple(moved_tasks(request, repaired))
        return PlanResponse(
            request.request_id, request.snapshot.version, Status.FEASIBLE, repaired, moved=moved,
            unplanned=problem.unplanned, solver=solver.name, wall_s=time.perf_counter() - began,
        )  # fmt: skip
    found = evaluate(request, repaired, unplanned=problem.unplanned)
    if not found.valid:
        return plan_without_preemption(request, left_out=left_out)
    return response_of(
        request, repaired, found, began, solver=solver.name, unplanned=problem.unplanned,
        bound=solution.lower_bound,
    )  # fmt: skip


def response_of(
    request: PlanRequest,
    made: Plan,
    found: Evaluation,
    began: float,
    *,
    solver: str,
    unplanned: Mapping[str, str],
    bound: float = float("-inf"),
) -> PlanResponse:
    """What is to be said of a plan.

    Parameters
    ----------
    request : PlanRequest
    made : Plan
    found : Evaluation
        Of the plan: valid.
    began : float
        ``time.perf_counter()`` when the request came.
    solver : str
        Whose plan it is.
    unplanned : mapping of str to str
        Tasks that have no place, each with the reason.
    bound : float
        No plan costs less; minus infinity where nothing is known.
    """
    return respond(
        request,
        began,
        unplanned,
        **judged(request, made, found.cost, found.terms, bound),
        solver=solver,
    )
