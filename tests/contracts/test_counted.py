"""Counted resources beside each other feature: brute force, CP-SAT and A* agree, none is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.problem import Problem, decode, encode
from plancast.planner.model.evaluate import Evaluation, evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS, Solution
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.random_requests import random_request

PAIRS = ("gangs", "classes", "precedence")
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
    return without_moves(
        random_request(seed, max_tasks=4, max_workers=2, counted=True, **kept)  # type: ignore[arg-type]
    )


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
def test_exact_solvers_agree_with_brute_force(feature: str) -> None:
    """A licence would be handed out twice, or a plan called optimal that waits in vain."""
    for seed in range(20):
        agree(seed, feature)


@pytest.mark.slow
@pytest.mark.parametrize("feature", PAIRS)
def test_exact_solvers_agree_with_brute_force_on_300(feature: str) -> None:
    """The same at length."""
    for seed in range(20, 320):
        agree(seed, feature)


@pytest.mark.parametrize("solver", ["auto", "lns", "repair", "project", "shop"])
def test_answers_are_judged_true(solver: str) -> None:
    """A solver that knows nothing of licences would give a wrong plan, or blame would be wrong."""
    for seed in range(500, 520):
        drawn = random_request(seed, max_tasks=6, max_workers=3, counted=True, misfits=seed % 2 > 0)
        request = replace(drawn, budget=SEARCHED)
        response = plan(request, solver)
        assert validate_response(request, response) == [], seed
