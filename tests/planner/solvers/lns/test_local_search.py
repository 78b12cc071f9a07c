"""Walks and pools of ruin and recreate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Schedule
from plancast.planner.bounds.relaxation import relax
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    DurationEstimate,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns import lns, local_search, relaxed_starts
from plancast.planner.solvers.lns.local_search import PLACES, Shape, Walk, fixed_arrays, with_pool
from plancast.planner.solvers.lns.relaxed_starts import PASSES, guided_schedules

FREE = Policy(prices=replace(Prices(), wait_h=0.0, makespan_h=100.0))
"""Nothing is paid for waiting."""


def test_half_of_the_pool_is_drawn_as_the_relaxation_shares() -> None:
    """Workers that the relaxation gives nothing would be looked at as often as those it fills."""
    problem = encode(generate_batch(80, generate_cluster(12, seed=2), seed=2))
    fixed, relaxation = fixed_arrays(problem), relax(problem)
    assert relaxation is not None
    pool = with_pool(fixed, relaxation, np.random.default_rng(3)).pool
    rng = np.random.default_rng(3)
    group = relaxation.worker_group
    for kind in range(len(pool)):
        workers = fixed.every[fixed.every_ptr[kind] : fixed.every_ptr[kind + 1]]
        alike = np.resize(rng.permutation(workers), PLACES // 2)
        chance = (relaxation.share[kind] / np.bincount(group))[group[workers]]
        chances = chance / chance.sum() if chance.sum() > 0 else None
        drawn = rng.choice(workers, PLACES - PLACES // 2, p=chances)
        assert pool[kind].tolist() == [*alike, *drawn]


@pytest.mark.parametrize("tasks", [100, 10_000])
def test_calls_of_the_kernel_are_long_enough_for_their_start(
    tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large batches would sum up costs most of the time, small ones overlook a deadline."""
    clock = SimpleNamespace(now=0.0, calls=0)
    monkeypatch.setattr(local_search, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    class Timed(Walk):
        """A walk whose calls take 0.4 µs a task to begin and 100 µs a move."""

        def __init__(self) -> None:
            self.problem: Any = SimpleNamespace(tasks=range(tasks))
            self._moves_a_second = 10_000.0

        def step(self, moves: int, *_: Any) -> None:
            clock.now += 4e-7 * tasks + 1e-4 * moves
            clock.calls += 1

    Timed().step_until(1.0, 1.0, 0.0, Shape(4, 3, 0.1, 1e-12))
    assert clock.calls * 4e-7 * tasks < 0.12
    assert clock.now < 1.05


@pytest.mark.slow
def test_small_tasks_that_are_due_go_sooner_in_large_batches(
    shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not all can be in time many would be late for the sake of a few large ones."""
    path = shared_data("benchmarks/cluster/cluster-10000x1000-0.json.gz")
    problem = encode(read_cluster(path).request)
    relaxation = relax(problem)
    assert relaxation is not None
    costs = []
    for tasks in (2_000, 10_000):
        monkeypatch.setattr(relaxed_starts, "SEARCHED_TASKS", tasks)
        costs.append(problem.cost(next(guided_schedules(problem, relaxation, passes=1))))
    sooner, plain = costs
    assert sooner < 0.99 * plain


def test_guided_schedules_end_with_one_that_is_far_too_dear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where waiting is priced much of the budget would go to schedules that nobody wants."""
    made = 0

    def counted(*arguments: Any, **named: Any) -> Iterator[Schedule]:
        nonlocal made
        for schedule in guided_schedules(*arguments, **named):
            made += 1
            yield schedule

    monkeypatch.setattr(lns, "guided_schedules", counted)
    request = generate_batch(120, generate_cluster(12, seed=6), seed=6)
    for policy, passes in ((request.policy, 1), (FREE, len(PASSES))):
        made, problem = 0, encode(replace(request, policy=policy))
        SOLVERS["lns"]().solve(problem, budget=Budget(None, 5), rng=np.random.default_rng(0))
        assert made == passes


@pytest.mark.parametrize(
    ("seconds", "steps", "size"),
    [(0.1, None, 7), (10.0, None, 14), (np.inf, 100, 7), (np.inf, 100_000, 14)],
)
def test_moves_are_smaller_where_waiting_is_priced_and_time_is_short(
    seconds: float, steps: int | None, size: int
) -> None:
    """Plans of small batches would be a hundredth costlier, with the moves that pay later."""
    request = generate_batch(30, generate_cluster(6, seed=6), seed=6)
    engine = lns.LargeNeighbourhood(SOLVERS["greedy"](), most=7)
    assert engine._most(encode(request), seconds, steps) == size
    assert engine._most(encode(replace(request, policy=FREE)), seconds, steps) == 14


def test_a_gang_starts_now_where_waiting_costs_more_than_a_later_end() -> None:
    """It would be put where it ends first, whatever its start costs."""
    fast = tuple(Worker(f"f{k}", {"cpu": 1000}, machine_class="fast") for k in range(2))
    slow = tuple(Worker(f"s{k}", {"cpu": 1000}, machine_class="slow") for k in range(2))
    runs = tuple(Running(Task(f"r{k}", {"cpu": 1000}), (f"f{k}",), 0) for k in range(2))
    gang, alone = Task("gang", {"cpu": 1000}, shards=2), Task("alone", {"cpu": 1000})
    seconds = {"fast": DurationEstimate.certain(50), "slow": DurationEstimate.certain(160)}
    estimates = {"gang": seconds, "alone": {"fast": DurationEstimate.certain(1)}}
    estimates |= {r.task.id: {"*": DurationEstimate.certain(100)} for r in runs}
    prices = replace(Prices.for_makespan(), makespan_h=0.0, wait_h=1.0)
    snapshot = Snapshot(0, 0, (*fast, *slow), (gang, alone), runs)
    problem = encode(PlanRequest("r", snapshot, estimates, Policy(prices)))
    rng = np.random.default_rng(0)
    greedy = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=rng).schedule
    assert greedy is not None
    found = (
        SOLVERS["lns"]()
        .solve(problem, budget=Budget(None, 200), rng=rng, incumbent=greedy)
        .schedule
    )
    assert found is not None
    assert greedy.start[0] >= 100
    assert (found.start[0], found.end[0]) == (0, 160)
