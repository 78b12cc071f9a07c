"""Priority rules: the features of the learned rule for waiting, and its use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.list_schedule import EARLIEST_END, LEAST_COST
from plancast.planner.arrays.problem import Floats, Problem
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import Policy, Prices
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers.greedy.greedy import Greedy, schedule_in_order
from plancast.planner.solvers.greedy.priority_rules import (
    ORDERS,
    WAITING,
    learned_priority,
    order_features,
    priorities,
)

UNLIMITED = Budget(seconds=None, steps=1)


def batch(tasks: int, seed: int) -> PlanRequest:
    """A generated batch on a tenth as many workers."""
    return generate_batch(tasks, generate_cluster(max(2, tasks // 10), seed), seed)


def slower(request: PlanRequest, times: int) -> PlanRequest:
    """The same with all times so many times as long."""
    pending = tuple(
        replace(t, deadline_s=t.deadline_s * times) if t.deadline_s else t
        for t in request.snapshot.pending
    )
    estimates = {
        task: {c: replace(e, seconds=tuple(times * s for s in e.seconds)) for c, e in mine.items()}
        for task, mine in request.estimates.items()
    }
    snapshot = replace(request.snapshot, pending=pending)
    return replace(request, snapshot=snapshot, estimates=estimates)


def test_features_do_not_know_seconds() -> None:
    """An order learned on batches of minutes would be another on batches of hours."""
    request = batch(60, 1)
    once, sixty = (order_features(encode(r)) for r in (request, slower(request, 60)))
    assert list(once) == list(sixty) == list(WAITING)
    for name, values in once.items():
        assert np.isfinite(values).all()
        assert values == pytest.approx(sixty[name], abs=1e-3), name
    for name in ORDERS:
        assert 0 <= once[name].min() <= once[name].max() <= 1


def test_equal_tasks_have_equal_priority() -> None:
    """Ranks would tell equal tasks apart, so that their order hangs on how they are listed."""
    request = batch(1, 3)
    (task,) = request.snapshot.pending
    several = tuple(replace(task, id=f"t{k}") for k in range(5))
    request = replace(
        request,
        snapshot=replace(request.snapshot, pending=several),
        estimates={t.id: request.estimates[task.id] for t in several},
    )
    assert len(set(learned_priority(encode(request), WAITING).tolist())) == 1


def cost_in_order(problem: Problem, keys: Floats, rule: int) -> float:
    """Cost of the list schedule by priority values, least first."""
    order = priority_order(keys, problem.pred_ptr, problem.pred)
    schedule = schedule_in_order(problem, order, rule)
    assert schedule is not None
    return problem.cost(schedule)


def test_it_beats_every_written_order_where_waiting_costs() -> None:
    """The learned order would be no better than those it was to replace."""
    ratios = []
    for seed in range(50, 54):
        problem = encode(batch(200, seed))
        mine = cost_in_order(problem, learned_priority(problem, WAITING), LEAST_COST)
        written = [
            cost_in_order(problem, keys, rule)
            for keys in priorities(problem).values()
            for rule in (EARLIEST_END, LEAST_COST)
        ]
        ratios.append(np.log(mine / min(written)))
        found = Greedy().solve(problem, budget=UNLIMITED, rng=np.random.default_rng(0))
        assert found.claimed is not None
        assert found.claimed <= mine * (1 + 1e-9)
    assert np.exp(np.mean(ratios)) < 0.97


def test_it_is_not_tried_where_waiting_is_free() -> None:
    """A pass would be spent that was learned for other prices."""
    request = replace(batch(30, 2), policy=Policy(Prices(wait_h=0.0)))
    solution = Greedy().solve(encode(request), budget=UNLIMITED, rng=np.random.default_rng(0))
    waits = Greedy().solve(encode(batch(30, 2)), budget=UNLIMITED, rng=np.random.default_rng(0))
    # Two orders for waiting are left out, each by both rules: smith's and the learned one.
    assert waits.steps == solution.steps + 4
