"""The queue's bound: below every plan, near the best where workers are shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.pipelines.inputs.user_files import read_request
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import decode
from plancast.planner.bounds import queue_relaxation
from plancast.planner.bounds.lower_bound import cost_bounds, lower_bound
from plancast.planner.bounds.queue_relaxation import queue_cost
from plancast.planner.bounds.start_prices import best_starts
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers import SOLVERS
from tests.conftest import scaled
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.plain_prices import least_cost
from tests.oracles.random_requests import random_request

WAITS = Prices(makespan_h=0, late_h=0, misses=0, wait_h=3600)
certain = DurationEstimate.certain


def queued(tasks: int, workers: int, **task: object) -> PlanRequest:
    """Equal tasks of 100 s that have a worker to themselves."""
    pending = tuple(Task(f"t{i}", {"cpu": 1000}, **task) for i in range(tasks))  # type: ignore[arg-type]
    cluster = tuple(Worker(f"w{k}", {"cpu": 1000}) for k in range(workers))
    estimates = {t.id: {"*": certain(100)} for t in pending}
    return PlanRequest("queue", Snapshot(1, 0, cluster, pending), estimates, Policy(WAITS))


def bound_of(request: PlanRequest) -> float:
    """The queue's bound of a request."""
    problem = encode(request)
    return queue_cost(problem)


@given(st.integers(0, 10_000))
def test_prices_are_paid_as_second_by_second(seed: int) -> None:
    """A start between those that are tried would cost less, and the bound be above a plan."""
    rng = np.random.default_rng(seed)
    tasks, groups, resources = 3, int(rng.integers(1, 4)), int(rng.integers(1, 3))
    knots = np.concatenate([[0], np.cumsum(rng.integers(1, 6, 5))]).astype(float)
    duration = rng.integers(0, 7, (tasks, groups)).astype(float)
    duration[:, 0] = np.maximum(duration[:, 0], 1)
    pieces = rng.integers(1, 4, tasks)
    most = np.maximum(rng.integers(0, 4, (tasks, groups)), (np.arange(groups) == 0) * 1)
    most[:, 0] += np.maximum(0, pieces - np.where(duration > 0, most, 0).sum(axis=1))
    splits = ((duration > 0) & (pieces[:, None] > most)).any(axis=1)
    # The cost of a gang's start does not depend on where its pieces are.
    slope = np.where(splits[:, None], 0.0, rng.random((tasks, groups))) + rng.random((tasks, 1))
    slope[pieces > 1] = slope[pieces > 1, :1]
    constant = np.repeat(rng.random((tasks, 1)), groups, axis=1)
    head = rng.integers(0, 9, tasks).astype(float)
    due = np.where(rng.random(tasks) < 0.5, np.inf, rng.integers(3, 20, tasks))
    late, miss = rng.random(tasks), rng.random(tasks)
    takes = rng.integers(0, 4, (tasks, resources)).astype(float)
    price = rng.random((groups, resources, 5)) * (rng.random((groups, resources, 5)) < 0.7)
    taken = np.zeros_like(price)
    total, *_ = best_starts(duration, head, due, slope, constant, late, miss, takes, pieces, most,
                           knots, price, taken)  # fmt: skip
    by_second = np.repeat(price, np.diff(knots).astype(int), axis=2)
    plain = 0.0
    for i in range(tasks):
        starts = range(int(head[i]), int(knots[-1]) + 30)
        plain += least_cost(starts, duration[i], due[i], slope[i], constant[i], late[i], miss[i],
                            takes[i], int(pieces[i]), most[i], by_second)  # fmt: skip
    assert total <= plain + 1e-9
    # Where nothing splits, or all groups are as fast, it is no less either.
    if not (splits & (np.ptp(np.where(duration > 0, duration, duration.max()), axis=1) > 0)).any():
        assert total == pytest.approx(plain)
    assert (taken >= 0).all()


def test_no_plan_costs_less() -> None:
    """A gap would be called closed, or a plan optimal, that a better one refutes."""
    seen = better = 0
    for seed in range(3_000, 3_000 + scaled(90)):
        request = random_request(seed, max_tasks=3, max_workers=2)
        problem = encode(request)
        if not problem.tasks or problem.infeasible:
            continue
        best = optimum(without_moves(request), problem.unplanned)
        if best is None:
            continue
        rates = problem.rates
        found = evaluate(without_moves(request), best.plan, unplanned=problem.unplanned)
        priced = sum(
            getattr(request.policy.prices, name) * found.terms[name]
            for name in ("wait_h", "stretch", "late_h", "misses")
        )
        assert queue_cost(problem) <= priced + 1e-9 * (1 + priced)
        assert lower_bound(problem, timed=True) <= best.cost * (1 + 1e-9) + 1e-9
        each = cost_bounds(problem)
        better += queue_cost(problem) > (each.wait + each.slowdown + each.late + each.miss + 1e-9)
        seen += rates.wait > 0
    assert seen > scaled(24)
    assert better > scaled(6)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_digits_that_large_prices_lose_are_given_away(weight: float) -> None:
    """A price for what is never free may be anything: the bound would be above the only plan."""
    request = queued(1, 1, weight=weight, deadline_s=7, release_s=-5)
    late = replace(request.snapshot.workers[0], free_from_s=1)
    prices = Prices(makespan_h=0, late_h=10_800, misses=0, wait_h=3600, stretch=2)
    request = replace(
        request, snapshot=request.snapshot.evolved(workers=(late,)), policy=Policy(prices),
        estimates={"t0": {"*": certain(3)}},
    )  # fmt: skip
    # From 1 s to 4 s: a wait of 6 s, 9 s from submission to the end.
    assert bound_of(request) <= weight * (6 + 2 * 9 / 10)


def test_equal_tasks_in_a_row() -> None:
    """The bound would know no queue: the k-th of equal tasks waits for k - 1 others."""
    best = 100 * sum(range(40))
    assert 0.95 * best <= bound_of(queued(40, 1)) <= best
    four = 4 * 100 * sum(range(10))
    assert 0.95 * four <= bound_of(queued(40, 4)) <= four


def test_tasks_that_only_some_workers_can_run_queue_for_these() -> None:
    """Idle workers that cannot run a task would be counted as room for it."""
    request = queued(40, 1, requires=("gpu",))
    only = replace(request.snapshot.workers[0], labels=frozenset({"gpu"}))
    others = tuple(Worker(f"x{k}", {"cpu": 1000}) for k in range(50))
    request = replace(request, snapshot=request.snapshot.evolved(workers=(only, *others)))
    assert 0.95 * 100 * sum(range(40)) <= bound_of(request) <= 100 * sum(range(40))


def test_a_gang_lasts_as_long_as_the_slowest_group_that_it_needs() -> None:
    """A gang of four would run on two fast workers at once."""
    workers = tuple(
        Worker(f"w{k}", {"cpu": 1000}, machine_class="fast" if k < 2 else "slow") for k in range(4)
    )
    gangs = tuple(Task(f"t{i}", {"cpu": 1000}, shards=4) for i in range(20))
    estimates = {t.id: {"fast": certain(10), "slow": certain(100)} for t in gangs}
    request = PlanRequest("gangs", Snapshot(1, 0, workers, gangs), estimates, Policy(WAITS))
    assert 0.9 * 100 * sum(range(20)) <= bound_of(request) <= 100 * sum(range(20))


def test_a_window_that_is_shut_is_no_room() -> None:
    """What waits for a maintenance would be taken to run in it."""
    request = queued(10, 1)
    shut = replace(request.snapshot.workers[0], free_from_s=5_000)
    request = replace(request, snapshot=request.snapshot.evolved(workers=(shut,)))
    least = 10 * 5_000 + 100 * sum(range(10))
    assert 0.9 * least <= bound_of(request) <= least


@pytest.mark.parametrize(
    ("shape", "most"), [("classes-0", 0.25), ("shortlong-0", 0.15), ("gpu-0", 0.55)]
)
def test_the_gap_means_something_on_classes_and_gangs(
    shape: str, most: float, shared_data: Callable[[str], Path]
) -> None:
    """Gaps of 82 to 88% said nothing of a plan."""
    request = read_request(shared_data(f"benchmarks/shapes/{shape}.json"))
    problem = encode(request)
    rng = np.random.default_rng(0)
    greedy = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=rng).schedule
    found = SOLVERS["lns"]().solve(problem, budget=Budget(None, 4_000), rng=rng, incumbent=greedy)
    assert found.schedule is not None
    cost = evaluate(request, decode(problem, found.schedule)).cost
    assert lower_bound(problem, timed=True) >= (1 - most) * cost


def test_its_kernel_is_compiled_once_whatever_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster of one kind of worker it was compiled once more, while a plan's clock ran."""
    seen = set()

    def as_read(*arrays: object) -> object:
        seen.add(tuple(numba.typeof(array) for array in arrays))
        return best_starts(*arrays)

    monkeypatch.setattr(queue_relaxation, "best_starts", as_read)
    for workers in (1, 4):
        queue_cost(encode(generate_batch(12, generate_cluster(workers), gang_share=0.2)))
    assert len(seen) == 1
