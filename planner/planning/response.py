"""A response: what it says of a request, and of the plan where there is one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from plancast.planner.model.domain import RELATIVE_TOLERANCE, Plan, every_estimate
from plancast.planner.model.evaluate import moved_tasks, relative_gap
from plancast.planner.model.explain import explain_waits
from plancast.planner.model.messages import PlanRequest, PlanResponse, Status


def respond(
    request: PlanRequest, began: float, unplanned: Mapping[str, str], **facts: Any
) -> PlanResponse:
    """The response to a request that came at `began` (``time.perf_counter()``)."""
    sources = {estimate.source for estimate in every_estimate(request.estimates)}
    return PlanResponse(
        request_id=request.request_id,
        snapshot_version=request.snapshot.version,
        unplanned=unplanned,
        estimate_source=",".join(sorted(sources - {""})),
        wall_s=time.perf_counter() - began,
        **facts,
    )


def judged(
    request: PlanRequest, plan: Plan, cost: float, terms: Mapping[str, float], bound: float | None
) -> dict[str, Any]:
    """Fields of a ``PlanResponse`` with a valid plan, by name.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
    cost : float
    terms : mapping of str to float
        As the plan was evaluated.
    bound : float, optional
        No plan costs less; minus infinity or None where nothing is known.
    """
    # A bound may exceed the cost only by rounding.
    bound = None if bound is None or bound == float("-inf") else min(bound, cost)
    gap = None if bound is None else relative_gap(cost, bound)
    proven = gap is not None and gap <= RELATIVE_TOLERANCE
    return {
        "status": Status.OPTIMAL if proven else Status.FEASIBLE,
        "plan": plan,
        "cost": cost,
        "terms": dict(terms),
        "lower_bound": bound,
        "gap": gap,
        "moved": tuple(moved_tasks(request, plan)),
        "why": explain_waits(request, plan),
    }
