"""Many small instances against brute force: what A* promises, with any guide at any weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, Schedule, decode
from plancast.planner.bounds.lower_bound import bound_by_parts, lower_bound
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.astar.astar import AStar, Limits, Search
from plancast.planner.solvers.astar.space import FEATURES, SearchSpace, search_space
from plancast.planner.solvers.greedy.greedy import Greedy
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.random_requests import random_request

Guide = Callable[[np.ndarray], np.ndarray] | None

CHUNKS, CHUNK = 20, 5_000
A_FEW = 200
"""Instances for every run of the tests; the chunks are for `pytest -m slow`."""
WEIGHTS = (1.0, 1.1, 1.5)
UNLIMITED = Budget(seconds=None, steps=1_000_000)
EVERY_LP = 8
"""The linear program takes as long as all else together: one instance in so many has it."""


def adversary(features: np.ndarray) -> np.ndarray:
    """Prefers what the bound likes least and what is furthest from an end."""
    return -features[:, FEATURES.index("bound_rise")] - features[:, FEATURES.index("to_come_share")]


GUIDES: tuple[Guide, ...] = (
    None,
    lambda features: np.random.default_rng(len(features)).random(len(features)),
    lambda features: np.ones(len(features)),
    lambda features: np.full(len(features), math.nan),
    adversary,
)


def search(
    problem: Problem, space: SearchSpace, bound: float, weight: float, guide: Guide
) -> tuple[float, float, Schedule | None, bool]:
    """Cost, proven bound, schedule, and whether the search ended by itself."""
    form = "best" if weight == 1.0 and guide is None else "focal"
    parameters = AStar(form=form, weight=weight, guide=guide, batch=4)
    found = Search(parameters, space, bound, math.inf, None, Limits(math.inf, 1 << 40))
    found.best() if form == "best" else found.focal()
    return found.best_cost, found.proven(), found.schedule(), found.exhausted


def check(seed: int, number: int) -> bool:
    """Whether the instance counts; everything that is promised is asserted."""
    request = random_request(seed, max_tasks=3, max_workers=2)
    problem = encode(request)
    if not problem.tasks or problem.infeasible:
        return False
    request = without_moves(request)
    best = optimum(request, problem.unplanned)
    least = math.inf if best is None else best.cost
    nearly = least * (1 + 1e-9) + 1e-12
    bound = lower_bound(problem) if number % EVERY_LP == 0 else bound_by_parts(problem)
    assert bound <= nearly, seed
    space = search_space(problem)
    greedy = Greedy().solve(problem, budget=UNLIMITED, rng=np.random.default_rng(0)).schedule
    seen: set[bytes] = set()

    def judge(schedule: Schedule, cost: float | None) -> float:
        key = schedule.start.tobytes() + schedule.worker.tobytes()
        if key in seen and cost is not None:
            return cost
        seen.add(key)
        found = evaluate(request, decode(problem, schedule), unplanned=problem.unplanned)
        assert found.valid, (seed, found.violations)
        if cost is not None:
            assert found.cost == pytest.approx(cost, rel=1e-9, abs=1e-12), seed
        return found.cost

    floor = math.inf if greedy is None else judge(greedy, None)
    for k, weight in enumerate(WEIGHTS):
        guide = GUIDES[(number + k * (1 + number // 5)) % len(GUIDES)]
        cost, proven, schedule, exhausted = search(problem, space, bound, weight, guide)
        assert proven <= nearly, (seed, weight)
        if best is None:
            assert schedule is None, (seed, weight)
            assert exhausted, (seed, weight)
            continue
        assert schedule is not None, (seed, weight)
        judge(schedule, cost)
        assert cost <= weight * least * (1 + 1e-8) + 1e-12, (seed, weight)
        if weight == 1.0:
            assert cost <= floor * (1 + 1e-9) + 1e-12, seed
    return True


def check_many(first: int, instances: int) -> None:
    """So many instances that count, from a seed on."""
    done = 0
    for seed in count(first):
        done += check(seed, done)
        if done == instances:
            return


def test_as_much_in_two_pieces_as_another_has_in_one() -> None:
    """Regression: a gang of 2 x 500 ran beside a task of 1,000, and was counted against it."""
    assert check(10_413, 1)
    assert check(5_345, 345)  # three pieces of a gang, two of which fit side by side


@pytest.mark.slow
def test_a_few_small_instances() -> None:
    """A bound could be too high, a plan invalid, or a promise broken by a guide."""
    check_many(30_000_000, A_FEW)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_hundred_thousand_small_instances(chunk: int) -> None:
    """One case in ten thousand would slip through what is tested every day."""
    check_many(40_000_000 + chunk * 1_000_000, CHUNK)
