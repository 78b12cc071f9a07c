"""Requests of the shared folder: each gets a valid plan from every solver, and no false claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, Status, from_json
from plancast.planner.planning.plan import plan
from tests.oracles.watchdog import watched

SOLVERS = ("greedy", "lns", "auto", "repair")
WITHIN_1_GIB = "large-gangs"
"""Measured by a process of its own, see ``test_gangs``."""


def field_requests(shared_data: Callable[[str], Path]) -> dict[str, PlanRequest]:
    """The requests of the shared folder by name, with a budget of a fraction of a second."""
    folder = shared_data("field/planner")
    requests = {
        path.stem: from_json(PlanRequest, path.read_bytes(), source=path.name)
        for path in sorted(folder.glob("*.json"))
    }
    return {name: replace(r, budget=Budget(0.3)) for name, r in requests.items()}


def test_field_requests_get_a_valid_plan_in_time(shared_data: Callable[[str], Path]) -> None:
    """A request that people made would crash a solver, hang it, or lose the greedy plan."""
    requests = field_requests(shared_data)
    assert requests

    def planned(case: tuple[str, str]) -> PlanResponse:
        name, solver = case
        return plan(requests[name], solver)

    cases = [(n, s) for n in requests for s in SOLVERS if n != WITHIN_1_GIB]
    for (name, solver), response in watched(planned, cases, limit_s=300.0):
        assert response.plan is not None, (name, solver)
        assert validate_response(requests[name], response) == [], (name, solver)


@pytest.mark.parametrize("solver", ["astar", "cpsat"])
def test_optimal_is_not_said_of_a_plan_that_preemption_beats(
    shared_data: Callable[[str], Path], solver: str
) -> None:
    """A set of preempted tasks would be written off for a task that has no place anyway."""
    path = shared_data("field/planner") / "preempt_false_optimal.json"
    request = from_json(PlanRequest, path.read_bytes(), source=path.name)
    response = plan(request, solver)
    assert response.lower_bound is not None
    assert response.cost is not None
    assert response.lower_bound <= 45.71
    assert response.cost <= 45.71 or response.status is Status.FEASIBLE
