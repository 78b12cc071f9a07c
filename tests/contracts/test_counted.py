"""Counted resources beside each other feature: brute force, CP-SAT and A* agree, none is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import (
    CountedResource,
    DurationEstimate,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import Evaluation, evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.model.violations import ViolationKind
from plancast.planner.planning.expected_starts import outlooks
from plancast.planner.planning.partial_order import partial_order
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS, Solution
from plancast.planner.worlds.simulate import execute
from tests.conftest import spans
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.random_requests import random_request, related

PAIRS = ("gangs", "classes", "precedence", "labels", "dependencies")
EXACT = ("astar", "cpsat")
FEATURES = (
    "classes", "labels", "precedence", "gangs", "drains", "blocked", "free_from", "running",
    "preemption", "finished", "health", "incumbent", "bounds",
)  # fmt: skip
EVERYTHING = Budget(seconds=None, steps=1_000_000)
SEARCHED = Budget(seconds=None, steps=200)


def small(seed: int, feature: str) -> PlanRequest:
    """A small request with counted resources, one other feature, and often running tasks."""
    kept = {name: name in (feature, "running") for name in FEATURES}
    relations = {name: name == feature for name in ("labels", "dependencies")}
    kept["precedence"] = feature in ("precedence", "dependencies")
    request = random_request(seed, max_tasks=4, max_workers=2, counted=True, **kept)  # type: ignore[arg-type]
    if feature in relations:
        request = related(request, seed, gangs=False, exclusive=bool(seed % 2), **relations)
    return without_moves(request)


def solved(name: str, problem: Problem, budget: Budget) -> Solution:
    """One call by the contract."""
    return SOLVERS[name]().solve(problem, budget=budget, rng=np.random.default_rng(0))


def judged(problem: Problem, solution: Solution) -> Evaluation:
    """The evaluator's word on a solution."""
    assert solution.schedule is not None
    made = decode(problem, solution.schedule)
    return evaluate(problem.request, made, unplanned=problem.unplanned)


def agree(seed: int, feature: str) -> None:
    """All solvers on one instance."""
    request = small(seed, feature)
    problem = encode(request)
    if problem.infeasible or not problem.tasks:
        return
    best = optimum(request, problem.unplanned)
    if best is not None:
        least = lower_bound(problem, timed=True, seconds=1.0)
        assert least <= best.cost + 1e-6 * max(1.0, abs(best.cost)), seed
    greedy = float("inf")
    for name in ("greedy", "lns", *EXACT):
        solution = solved(name, problem, EVERYTHING if name in EXACT else SEARCHED)
        if best is None:
            assert solution.schedule is None, (seed, name)
            continue
        if solution.schedule is None:
            assert name not in EXACT, (seed, name)
            continue
        found = judged(problem, solution)
        assert found.valid, (seed, name, found.violations)
        least = best.cost - 1e-6 * max(1.0, abs(best.cost))
        assert found.cost >= least, (seed, name)
        assert solution.lower_bound <= best.cost + 1e-6 * max(1.0, abs(best.cost)), (seed, name)
        greedy = min(greedy, found.cost) if name == "greedy" else greedy
        assert found.cost <= greedy * (1 + 1e-9) + 1e-9 or greedy < 0, (seed, name)
        if name in EXACT:
            assert solution.status is Status.OPTIMAL, (seed, name)
            assert found.cost == pytest.approx(best.cost, rel=1e-6, abs=1e-6), (seed, name)


@pytest.mark.parametrize("feature", PAIRS)
@pytest.mark.parametrize("seeds", spans(range(8), range(320)))
def test_exact_solvers_agree_with_brute_force(seeds: range, feature: str) -> None:
    """A licence would be handed out twice, or a plan called optimal that waits in vain."""
    for seed in seeds:
        agree(seed, feature)


@pytest.mark.parametrize("solver", ["auto", "lns", "repair", "project", "shop"])
@pytest.mark.parametrize("seeds", spans(range(500, 508), range(500, 520)))
def test_answers_are_judged_true(solver: str, seeds: range) -> None:
    """A solver that knows nothing of licences would give a wrong plan, or blame would be wrong."""
    for seed in seeds:
        drawn = random_request(seed, max_tasks=6, max_workers=3, counted=True, misfits=seed % 2 > 0)
        request = replace(drawn, budget=SEARCHED)
        response = plan(request, solver)
        assert validate_response(request, response) == [], seed


def test_executions_keep_to_the_counts() -> None:
    """A plan that was right would break a limit once tasks run longer than expected."""
    for seed in range(30):
        drawn = random_request(
            seed, max_tasks=6, max_workers=2, counted=True, incumbent=False, bounds=False,
            drains=False, preemption=False, blocked=False, misfits=False,
        )  # fmt: skip
        request = replace(drawn, budget=SEARCHED)
        response = plan(request, "greedy")
        assert response.plan is not None
        order = partial_order(request, response.plan)
        as_planned = order.executed(order.planned)
        assert evaluate(request, as_planned, unplanned=response.unplanned).valid, seed
        if any(resource.windows for resource in request.snapshot.counted):
            continue  # a run may last into a window as into the drain of its worker
        rng = np.random.default_rng(seed)
        longer = rng.integers(1, 8, len(order.tasks))
        true_s = {t.id: int(s) for t, s in zip(order.tasks, longer, strict=True)}
        for ran in (
            order.executed(longer, np.maximum(1, order.ends + rng.integers(-2, 3, len(longer)))),
            execute(request, response.plan, true_s),
        ):
            assert {a.task for a in ran.assignments} >= response.plan.by_task.keys()
            found = evaluate(request, ran, unplanned=response.unplanned, realised=True)
            assert ViolationKind.OVER_COUNTED not in {v.kind for v in found.violations}, seed


def test_a_wait_for_a_licence_says_who_gives_it_back() -> None:
    """A user would be told of a worker that is full, and ask for more workers."""
    tasks = tuple(Task(f"T{k}", {"cpu": 1000}, counted={"matlab": 1}) for k in (4, 5))
    snapshot = Snapshot(
        1, 0, (Worker("w", {"cpu": 8000}),), tasks, counted=(CountedResource("matlab", 1),)
    )
    request = PlanRequest(
        "r", snapshot, {t.id: {"*": DurationEstimate.certain(300)} for t in tasks}, budget=SEARCHED
    )
    response = plan(request)
    assert response.plan is not None
    (late,) = (a.task for a in response.plan.assignments if a.start_s)
    first = "T4" if late == "T5" else "T5"
    assert response.why == {late: f"waits 300 s for a matlab licence; {first} frees one at 00:05"}
    found = outlooks(request, response.plan)[late]
    assert found.text.startswith(f"waits for a matlab licence; planned 00:05 when {first} ends")
