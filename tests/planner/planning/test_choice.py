"""What ``auto`` chooses, what it says of it, and what engines side by side tell each other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest

from plancast.planner.arrays import interruption
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import Policy, Prices
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    AutoChoice,
    Budget,
    PlanRequest,
    PlanResponse,
    Status,
    from_json,
    to_json,
)
from plancast.planner.planning import plan as planning
from plancast.planner.planning.choice import Chosen, choose, once_begun, waiting_part
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.base import Solution
from plancast.planner.solvers.cpsat.cpsat import CpSat


def batch(tasks: int, budget: Budget, **more: Any) -> PlanRequest:
    """A generated batch on few workers."""
    return replace(generate_batch(tasks, generate_cluster(3, 1), 1, **more), budget=budget)


@pytest.mark.parametrize(
    ("tasks", "budget", "engines"),
    [
        (6, Budget(1.0), ["astar"]),
        (14, Budget(1.0), ["cpsat"]),
        (30, Budget(1.0), ["lns", "cpsat"]),
        (31, Budget(1.0), ["lns"]),
        (60, Budget(4.0), ["lns", "cpsat"]),
        (61, Budget(4.0), ["lns"]),
        (30, Budget(None, 500), ["lns"]),
    ],
)
def test_engines_go_by_size_and_budget(tasks: int, budget: Budget, engines: list[str]) -> None:
    """A batch that could be proved would not be, or one that cannot would be planned worse."""
    chosen = choose(encode(batch(tasks, budget)), budget)
    assert [*chosen.engines] == engines
    assert chosen.why


def scattered(tasks: int) -> PlanRequest:
    """A batch whose releases lie so far apart that few of its tasks wait for a worker."""
    request = generate_batch(
        tasks, generate_cluster(tasks // 4, 2), 2, workflow_share=0.0, release_spread_s=7200
    )
    return replace(request, budget=Budget(1.0))


@pytest.mark.parametrize(
    ("request_", "engines"),
    [
        (scattered(60), {"lns": 1, "cpsat": 1}),
        (scattered(101), {"lns": 2}),
        (batch(60, Budget(1.0)), {"lns": 2}),
        (replace(scattered(60), budget=Budget(0.9)), {"lns": 2}),
        (replace(scattered(60), budget=Budget(None, 50)), {"lns": 1}),
    ],
    ids=["scattered", "large", "crowded", "hurried", "in steps"],
)
def test_a_larger_batch_is_proved_where_few_tasks_wait(
    request_: PlanRequest, engines: dict[str, int]
) -> None:
    """A proof within reach would be missed, or a thread be taken from a search that needs it."""
    problem, budget = encode(request_), request_.budget
    first = SOLVERS["greedy"]().solve(problem, budget=budget, rng=np.random.default_rng(0)).schedule
    before = choose(problem, budget)
    chosen = once_begun(before, problem, budget, first)
    made = [SOLVERS[name](**own) for name, own in chosen.engines.items()]
    assert chosen.report(budget, made).engines == engines
    if len(engines) > 1:
        assert "of the tasks wait for a worker in the first plan" in chosen.why
    assert once_begun(before, problem, budget, None) is before


def test_who_waits_for_a_release_or_a_predecessor_waits_for_no_worker() -> None:
    """Chains and late releases would be taken for a queue."""
    request = batch(12, Budget(1.0), workflow_share=1.0, release_spread_s=600)
    problem = encode(request)
    made = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=np.random.default_rng(0))
    start = problem.release.copy()
    for i in range(12):
        before = problem.pred[problem.pred_ptr[i] : problem.pred_ptr[i + 1]]
        start[i] = max([start[i], *made.schedule.end[before]])
    assert waiting_part(problem, replace(made.schedule, start=start)) == 0.0
    start[3] += 1
    assert waiting_part(problem, replace(made.schedule, start=start)) == pytest.approx(1 / 12)


def test_a_response_says_what_auto_chose_and_why(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody could tell from an answer, or a log, how it was found."""
    request = batch(20, Budget(0.3))
    with caplog.at_level(logging.INFO):
        response = plan(request)
    assert response.auto is not None
    assert dict(response.auto.engines) == {"lns": 1, "cpsat": 2}
    words = "lns (1 thread) and cpsat (2 threads): at most 30 tasks in 0.3 s"
    assert str(response.auto) == words
    assert f"request {request.request_id}: auto chose {words}" in caplog.messages
    assert from_json(PlanResponse, to_json(response)) == response
    assert plan(request, "lns").auto is None


def test_a_first_plan_that_is_proven_needs_no_engine() -> None:
    """The response would name engines that never ran."""
    response = plan(batch(1, Budget(1.0)))
    assert response.status is Status.OPTIMAL
    assert response.auto == AutoChoice({}, "the bound proves the first plan")
    assert str(response.auto) == "none: the bound proves the first plan"


Deed = Callable[[Problem, Mapping[str, Any]], Solution]


@dataclass(frozen=True)
class Scripted:
    """An engine that does one given thing."""

    name: str
    deed: Deed
    exact_terms: ClassVar[frozenset[str]] = frozenset()

    def solve(self, problem: Problem, **more: Any) -> Solution:
        """What ``Solver.solve`` takes."""
        return self.deed(problem, more)


def waits(problem: Problem, more: Mapping[str, Any]) -> Solution:
    """Tells of its plan, and searches until it is asked to end."""
    cost = problem.cost(more["incumbent"])
    ends = more["observe"](cost, float("-inf"))
    until = time.perf_counter() + more["budget"].seconds
    while not ends and not interruption.asked() and time.perf_counter() < until:
        time.sleep(0.01)
    return Solution(Status.FEASIBLE, more["incumbent"], claimed=cost)


def bounds(factor: float) -> Deed:
    """Finds no plan but a bound, so many times the cost of the first."""

    def solve(problem: Problem, more: Mapping[str, Any]) -> Solution:
        time.sleep(0.05)
        bound = factor * problem.cost(more["incumbent"])
        more["observe"](2 * problem.cost(more["incumbent"]), bound)
        return Solution(Status.FEASIBLE, None, bound)

    return solve


@pytest.mark.parametrize(
    ("factor", "moves", "ends"), [(1.0, 0.0, True), (0.9, 0.0, False), (1.1, 0.0, False),
                                  (1.0, 5.0, False)],
)  # fmt: skip
def test_engines_end_once_they_prove_a_plan_together(
    factor: float, moves: float, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that is proven would be searched on until the budget ends.

    Or an engine that does not see all of the cost, or errs, would end a search for nothing.
    """
    request = batch(20, Budget(1.5))
    first = plan(request, "greedy").plan
    request = replace(request, policy=Policy(Prices(moves=moves)), incumbent=first)
    engines = {"one": waits, "two": bounds(factor)}
    for name, deed in engines.items():
        monkeypatch.setitem(SOLVERS, name, lambda n=name, d=deed: Scripted(n, d))
    monkeypatch.setattr(
        planning, "choose", lambda *_: Chosen({name: {} for name in engines}, "chosen by the test")
    )
    response = plan(request)
    assert (response.wall_s < 1.0) == ends
    assert validate_response(request, response) == []


def test_cp_sat_tells_of_its_bounds_between_plans() -> None:
    """A plan of the engine beside would not be proven before CP-SAT has found it as well."""
    problem = encode(batch(14, Budget(1.0)))
    first = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=np.random.default_rng(0))
    reports: list[tuple[float, float]] = []
    CpSat(tick_s=1, by_class=False).solve(
        problem, budget=Budget(None, 3_000), rng=np.random.default_rng(0), incumbent=first.schedule,
        observe=lambda cost, bound: reports.append((cost, bound)),
    )  # fmt: skip
    better = [(a, b) for a, b in pairwise(reports) if a[0] == b[0] and b[1] > a[1]]
    assert better, reports
