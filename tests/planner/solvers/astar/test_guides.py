"""Learned guides: trees as arrays, guided search under any guide, and guides in files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.astar.astar import EXACT_SHARE, AStar
from plancast.planner.solvers.astar.guides import (
    EXCESS,
    RANK,
    LearnedGuide,
    TreeEnsemble,
    guide_from_text,
)
from plancast.planner.solvers.astar.space import FEATURES
from plancast.planner.solvers.astar.trees import LEFT, RIGHT, ZERO
from tests.conftest import spans
from tests.oracles.brute_force import Optimum, optimum
from tests.oracles.valid_schedules import plannable

UNLIMITED = Budget(seconds=None, steps=1_000_000)


def rng() -> np.random.Generator:
    """The solver needs one, and does not use it."""
    return np.random.default_rng(0)


def random_trees(seed: int, trees: int = 5, leaves: tuple[float, ...] = ()) -> TreeEnsemble:
    """Trees of random shape; leaves random, or drawn from some values."""
    chance = np.random.default_rng(seed)
    rows: list[list[Any]] = []

    def grow(depth: int) -> int:
        place = len(rows)
        rows.append([-1, -1, 0, 0.0, 0.0, int(chance.integers(3))])
        if depth == 0 or chance.random() < 0.2:
            value = chance.choice(leaves) if leaves else chance.normal()
            rows[place][4] = float(value)
        else:
            rows[place][2:4] = int(chance.integers(len(FEATURES))), float(chance.normal())
            rows[place][0] = grow(depth - 1)
            rows[place][1] = grow(depth - 1)
        return place

    roots = [grow(4) for _ in range(trees)]
    left, right, feature, threshold, value, nan = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return TreeEnsemble(np.array(roots), left, right, feature, threshold, value, nan)


def slow_sums(trees: TreeEnsemble, rows: np.ndarray) -> list[float]:
    """The sums, one row and one node at a time."""
    assert trees.nan is not None
    result = []
    for row in rows:
        total = 0.0
        for node in trees.root.tolist():
            while trees.left[node] >= 0:
                x = row[trees.feature[node]]
                if math.isnan(x):
                    goes_left = {
                        LEFT: True, RIGHT: False, ZERO: trees.threshold[node] >= 0.0,
                    }[int(trees.nan[node])]  # fmt: skip
                else:
                    goes_left = x <= trees.threshold[node]
                node = int(trees.left[node] if goes_left else trees.right[node])
            total += trees.value[node]
        result.append(total)
    return result


@given(seed=st.integers(0, 10_000), gaps=st.sampled_from([0.0, 0.3]))
def test_trees_are_walked_like_their_slow_twin(seed: int, gaps: float) -> None:
    """The fast walk would end in another leaf, with or without gaps in the rows."""
    trees = random_trees(seed)
    chance = np.random.default_rng(seed + 1)
    rows = chance.normal(size=(7, len(FEATURES)))
    rows[chance.random(rows.shape) < 0.1] = 0.0
    rows[chance.random(rows.shape) < gaps] = math.nan
    rows[0, 0] = math.inf
    # A row that stands exactly on a threshold goes left.
    inner = np.flatnonzero(trees.left >= 0)
    if len(inner):
        rows[1, trees.feature[inner[0]]] = trees.threshold[inner[0]]
    assert trees(rows).tolist() == slow_sums(trees, rows)


LEAVES = {
    "random": (),
    "constant": (0.25,),
    "nan": (math.nan,),
    "infinite": (math.inf, -math.inf),
    "mixed": (math.nan, math.inf, -math.inf, 0.0, 1e300, -1e300),
}


def adversary() -> TreeEnsemble:
    """Prefers what the bound likes least: one step for each bit of ``bound_rise``."""
    steps = np.linspace(1.0, 2.0, 16)
    return TreeEnsemble(
        root=np.arange(16) * 3,
        left=np.ravel([[3 * k + 1, -1, -1] for k in range(16)]),
        right=np.ravel([[3 * k + 2, -1, -1] for k in range(16)]),
        feature=np.zeros(48, np.int64),
        threshold=np.repeat(steps, 3),
        value=np.ravel([[0.0, 1.0, 0.0] for _ in range(16)]),
    )


@cache
def judged(seeds: range) -> list[tuple[Problem, Optimum | None]]:
    """Small problems, each with its best plan by brute force."""
    problems = plannable(seeds)
    return [(problem, optimum(problem.request, problem.unplanned)) for problem in problems]


@pytest.mark.parametrize("meaning", [EXCESS, RANK])
@pytest.mark.parametrize("leaves", [*LEAVES, "adversary", "none"])
@pytest.mark.parametrize("weight", [1.0, 1.1, 1.5])
@pytest.mark.parametrize("seeds", spans(range(9000, 9006), range(9000, 9020)))
def test_no_trees_can_break_the_promise(
    seeds: range, weight: float, leaves: str, meaning: str
) -> None:
    """A learned value would make a plan costlier than the weight allows, or a bound wrong."""
    trees = adversary() if leaves == "adversary" else random_trees(3, 5, LEAVES.get(leaves, ()))
    guide = None if leaves == "none" else LearnedGuide(trees, meaning)
    for problem, best in judged(seeds):
        for dive in (1, 3):
            observed: list[tuple[float, float]] = []
            solver = AStar(form="guided", weight=weight, guide=guide, dive=dive)
            solution = solver.solve(
                problem,
                budget=UNLIMITED,
                rng=rng(),
                observe=lambda c, b, observed=observed: observed.append((c, b)),
            )
            if best is None:
                assert solution.status is Status.INFEASIBLE
                continue
            assert solution.claimed is not None
            assert solution.claimed <= weight * solution.lower_bound * (1 + 1e-8) + 1e-12
            assert solution.claimed <= weight * best.cost * (1 + 1e-8) + 1e-12
            for cost, bound in (*observed, (solution.claimed, solution.lower_bound)):
                assert bound <= best.cost * (1 + 1e-9) + 1e-12
                assert bound <= cost


@pytest.mark.parametrize("steps", [0, 1, 3, 10, 40])
def test_stopped_on_the_way_the_bound_still_holds(steps: int) -> None:
    """A dive that is cut short would forget the states that it was about to follow."""
    guide = LearnedGuide(random_trees(5))
    unfinished = 0
    for problem, best in judged(range(200, 215)):
        solver = AStar(form="guided", weight=1.2, guide=guide, dive=2)
        solution = solver.solve(problem, budget=Budget(None, steps), rng=rng())
        assert solution.steps <= steps
        if best is None:
            assert solution.status in (Status.INFEASIBLE, Status.NO_PLAN_IN_TIME)
            continue
        assert solution.status is not Status.INFEASIBLE
        assert solution.lower_bound <= best.cost * (1 + 1e-9) + 1e-12
        unfinished += solution.status is not Status.OPTIMAL
    assert unfinished > 0


def test_at_weight_one_a_bad_guide_costs_its_share() -> None:
    """A guide that leads astray would take more of the search than it is allowed."""
    seen = 0
    for seed in range(6):
        problem = encode(generate_batch(9, generate_cluster(3, seed=seed), seed=seed))
        exact = AStar().solve(problem, budget=UNLIMITED, rng=rng())
        misled = AStar(form="guided", guide=LearnedGuide(adversary()))
        found = misled.solve(problem, budget=UNLIMITED, rng=rng())
        assert found.status is Status.OPTIMAL
        assert found.claimed == pytest.approx(exact.claimed, rel=1e-8)
        # The last dive may have been begun just before the end.
        assert found.steps <= exact.steps * (1 + 2 * EXACT_SHARE) + 9 * misled.dive
        seen += exact.steps > 1000
    assert seen >= 2


def test_a_guide_that_knows_the_way_needs_little_but_the_dive() -> None:
    """Dives would not follow the guide."""
    problem = encode(generate_batch(9, generate_cluster(3, seed=2), seed=2))
    good = AStar(form="guided", weight=1.5, dive=1).solve(problem, budget=UNLIMITED, rng=rng())
    bad = AStar(form="guided", weight=1.5, dive=1, guide=LearnedGuide(adversary(), RANK))
    assert good.steps < bad.solve(problem, budget=UNLIMITED, rng=rng()).steps


def test_guided_search_takes_trees_only() -> None:
    """A guide in Python would be called from the kernel, or silently left out."""
    with pytest.raises(BadRequest, match="LearnedGuide or a TreeEnsemble"):
        AStar(form="guided", guide=lambda features: features[:, 0])


def test_a_guide_comes_back_from_its_text() -> None:
    """A guide would say something else once it was saved."""
    guide = LearnedGuide(random_trees(1, 5, (*LEAVES["mixed"], 0.1)), RANK, {"name": "toy"})
    again = guide_from_text(guide.to_text(), "guide.json")
    rows = np.random.default_rng(0).normal(size=(50, len(FEATURES)))
    assert np.array_equal(guide(rows), again(rows), equal_nan=True)
    assert (again.meaning, again.card) == (RANK, {"name": "toy"})


GOOD = json.loads(LearnedGuide(random_trees(1)).to_text())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tree", "not JSON"),
        ("[1]", "is no guide"),
        (json.dumps({**GOOD, "format": "other"}), "format 'other'"),
        (json.dumps({**GOOD, "features": ["a"]}), "features are not those"),
        (json.dumps({**GOOD, "trees": 3}), "must be JSON objects"),
        (json.dumps({**GOOD, "meaning": "luck"}), "meaning is 'luck'"),
        (json.dumps({**GOOD, "trees": {**GOOD["trees"], "left": "x"}}), "trees.left"),
        (json.dumps({**GOOD, "trees": {**GOOD["trees"], "value": [[1]]}}), "trees.value"),
        (json.dumps({**GOOD, "trees": {**GOOD["trees"], "root": [10**6]}}), "root is no node"),
        (json.dumps({**GOOD, "trees": {**GOOD["trees"], "nan": [7] * len(GOOD["trees"]["nan"])}}),
         "nan must be"),
        (json.dumps({**GOOD, "trees": {**GOOD["trees"], "right": [1]}}), "right has 1 nodes"),
    ],
)  # fmt: skip
def test_a_damaged_guide_is_told_in_a_sentence(text: str, fault: str) -> None:
    """A damaged file would end in a traceback, or in a search that is led astray."""
    with pytest.raises(BadRequest, match=f"^guide.json: .*{fault}"):
        guide_from_text(text, "guide.json")


def test_trees_must_know_only_the_features_there_are() -> None:
    """A tree would read beyond the end of a row."""
    trees = random_trees(1)
    beyond = np.where(trees.left >= 0, len(FEATURES), 0)
    with pytest.raises(BadRequest, match=f"splits on feature {len(FEATURES)}"):
        LearnedGuide(replace(trees, feature=beyond))
