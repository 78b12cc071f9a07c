"""Windows of a plan, and the polisher that places them anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.problem import Problem, Schedule, decode, encode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns.windows import LATE, RULES, TAILS, TIME, window
from tests.oracles.valid_schedules import random_schedules


def batch(tasks: int, workers: int, seed: int = 0) -> tuple[Problem, Schedule]:
    """A generated batch with a greedy schedule."""
    cluster = generate_cluster(workers, seed=seed)
    problem = encode(generate_batch(tasks, cluster, seed=seed, due_share=0.5))
    first = SOLVERS["greedy"]().solve(
        problem, budget=Budget(None, 1), rng=np.random.default_rng(0)
    ).schedule  # fmt: skip
    assert first is not None
    return problem, first


@pytest.mark.parametrize("rule", range(len(RULES)))
def test_a_window_holds_tasks_that_compete(rule: int) -> None:
    """Tasks that never meet would be freed together, and there would be nothing to win."""
    problem, schedule = batch(80, 8)
    rng = np.random.default_rng(rule)
    sizes = set()
    for _ in range(50):
        out = window(problem, schedule, 12, rule, rng)
        chosen = np.flatnonzero(out)
        assert 1 <= len(chosen) <= 12
        on = schedule.worker[problem.shard_ptr[chosen]]
        # All run on workers that could hold one of them.
        assert problem.allowed[problem.kind[chosen]][:, on].all(axis=1).any()
        sizes.add(len(chosen))
    assert max(sizes) == 12


def test_each_rule_finds_what_it_is_named_for() -> None:
    """The rules would be one rule."""
    problem, schedule = batch(80, 8)
    late = schedule.end > problem.deadline
    assert 0 < late.sum() < 40
    rng = np.random.default_rng(0)
    last_end = np.zeros(8, np.int64)
    np.maximum.at(last_end, schedule.worker, schedule.end)
    before_last = last_end[schedule.worker] - schedule.end
    spans = dict.fromkeys((LATE, TAILS, TIME), 0.0)
    ends = dict.fromkeys(spans, 0.0)
    hits = dict.fromkeys(spans, 0)
    for rule in spans:
        for _ in range(40):
            out = window(problem, schedule, 8, rule, rng)
            spans[rule] += np.ptp(schedule.start[out])
            ends[rule] += before_last[out].mean()
            hits[rule] += bool(late[out].any())
    assert hits[LATE] == 40
    assert ends[TAILS] < 0.7 * ends[TIME]
    assert spans[TIME] < spans[TAILS]


def test_the_polisher_finds_the_optimum_of_what_it_frees() -> None:
    """Windows would be freed, and put back as they were."""
    problem, _ = batch(12, 3, seed=6)
    first = next(random_schedules(problem, np.random.default_rng(0), 5))
    budget, rng = Budget(None, 8000), np.random.default_rng(0)
    best = SOLVERS["cpsat"]().solve(
        problem, budget=Budget(None, 100_000), rng=rng, incumbent=first
    ).schedule  # fmt: skip
    assert best is not None
    lns = SOLVERS["lns"](polish=1.0, window=12)
    found = lns.solve(problem, budget=budget, rng=rng, incumbent=first).schedule
    assert found is not None
    assert problem.cost(best) < 0.99 * problem.cost(first)
    assert problem.cost(found) == pytest.approx(problem.cost(best), rel=1e-6)


def test_a_polished_plan_is_valid_never_dearer_and_repeatable() -> None:
    """A window put back would overlap what stayed, or chance would reach a plan by steps."""
    problem, _ = batch(60, 6, seed=2)
    first = next(random_schedules(problem, np.random.default_rng(0), 5))
    better = 0
    for polish in (0.5, 1.0):
        costs = []
        for _ in range(2):
            lns = SOLVERS["lns"](polish=polish, window=6)
            found = lns.solve(
                problem, budget=Budget(None, 8000), rng=np.random.default_rng(1), incumbent=first
            )  # fmt: skip
            assert found.schedule is not None
            plan = decode(problem, found.schedule)
            judged = evaluate(problem.request, plan, unplanned=problem.unplanned)
            assert judged.valid, judged.violations
            assert judged.cost == pytest.approx(found.claimed, rel=1e-9)
            assert judged.cost <= problem.cost(first)
            costs.append(judged.cost)
        assert costs[0] == costs[1]
        better += costs[0] < problem.cost(first)
    assert better == 2


def test_a_polisher_that_is_none_is_refused() -> None:
    """A share of the budget would be kept back for nobody."""
    start = SOLVERS["greedy"]()
    lns = SOLVERS["lns"]()
    for wrong in ({"polish": 0.5}, {"polish": 1.5, "polisher": start}, {"window": 0}):
        with pytest.raises(BadRequest, match="lns: "):
            replace(lns, start=start, **wrong)  # type: ignore[type-var]
