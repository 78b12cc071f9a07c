"""Search over the orders of serial schedules."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Ints, Problem
from plancast.planner.model.domain import DurationEstimate, Policy, Prices, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns import order_kernel as kernel
from plancast.planner.solvers.lns import orders
from plancast.planner.solvers.lns.local_search import full_cost
from plancast.planner.solvers.lns.order_kernel import Futures
from plancast.planner.solvers.lns.orders import (
    cost_of,
    first_orders,
    futures_of,
    nowhere,
    schedule_in,
)
from tests.conftest import scaled
from tests.oracles.plain_orders import PlainSerial
from tests.oracles.random_requests import random_request


def problems(seed: int) -> list[Problem]:
    """A small random request at three levels of its estimates; none where it is not plannable."""
    request = random_request(seed, max_tasks=7)
    found = [
        encode(replace(request, policy=replace(request.policy, level=level)))
        for level in (0.3, 0.6, 0.9)
    ]
    same = all(p.tasks == found[0].tasks and not p.infeasible for p in found)
    return found if same and found[0].tasks else []


def pool(tasks: int, seed: int) -> PlanRequest:
    """A backlog on one machine of 16 cores, waiting and lateness priced."""
    rng = np.random.default_rng(seed)
    wanted = tuple(
        Task(f"t{k}", {"cpu": int(rng.integers(1, 12)) * 1000}, release_s=0,
             deadline_s=int(rng.integers(100, 4000)) if rng.random() < 0.5 else None)
        for k in range(tasks)
    )  # fmt: skip
    estimates = {
        t.id: {"*": DurationEstimate.certain(int(rng.lognormal(5, 1.3)) + 1)} for t in wanted
    }
    snapshot = Snapshot(0, 0, (Worker("pool", {"cpu": 16000}),), wanted)
    return PlanRequest("pool", snapshot, estimates, Policy(Prices()), budget=Budget(None, 2000))


def searched(
    futures: Futures, order: Ints, moves: int, hot: float, cold: float, every: int, seed: int
) -> tuple[Ints, Ints, float, float]:
    """The best order, the last one and their costs, where no task has a home."""
    best, _, now, _, cost, current = kernel.search(
        futures, order, nowhere(futures), moves, hot, cold, orders.ODDS, 0.5, every, seed
    )
    return best, now, cost, current


@pytest.mark.parametrize("block", range(4))
def test_the_kernel_lays_out_as_its_slow_twin_and_prices_as_the_evaluator(block: int) -> None:
    """A search would better a price that nobody pays, or a schedule that nobody can run."""
    compared = 0
    for seed in range(30 * block, 30 * block + 30):
        found = problems(seed)
        futures = futures_of(found) if found else None
        for s, problem in enumerate(found):
            for order in first_orders(problem, None)[:2]:
                fast = schedule_in(futures, s, order)
                slow = PlainSerial(problem).schedule(order)
                assert (fast is None) == (slow is None)
                if fast is None or slow is None:
                    continue
                compared += 1
                for name in ("start", "end", "worker"):
                    assert getattr(fast, name).tolist() == getattr(slow, name).tolist(), seed
                cost = kernel.lay_out(futures, s, order, nowhere(futures))[2]
                assert cost == pytest.approx(full_cost(problem, fast), rel=1e-9, abs=1e-9)
    assert compared > 20


def test_costs_by_differences_are_those_of_laying_out_anew() -> None:
    """What a move before left in a stage, or a pruned move in an end, would be priced again."""
    compared = 0
    for seed in range(scaled(60)):
        found = problems(seed)
        if not found:
            continue
        futures = futures_of(found)
        order = first_orders(found[0], None)[0]
        if not np.isfinite(cost_of(futures, order)):
            continue
        best, now, cost, current = searched(futures, order, 60, 0.2, 0.02, 2, seed)
        assert cost == pytest.approx(cost_of(futures, best), rel=1e-9, abs=1e-9)
        assert current == pytest.approx(cost_of(futures, now), rel=1e-9, abs=1e-9)
        assert cost <= cost_of(futures, order) + 1e-9
        for problem in found:
            place = np.argsort(now)
            for i in range(len(problem.tasks)):
                assert all(place[b] < place[i] for b in problem.predecessors(i))
        compared += 1
    assert compared > scaled(25)


def test_differences_hold_over_many_stages() -> None:
    """Stages far apart are written on two sides; one flipped too few or too many shows here."""
    problem = encode(pool(60, 3))
    longer = replace(problem, duration=problem.duration * 2)
    futures = futures_of([problem, longer])
    order = np.arange(60)
    for every in (1, 4, 7, 60):
        best, now, cost, current = searched(futures, order, 400, 50.0, 0.5, every, 5)
        assert cost == pytest.approx(cost_of(futures, best), rel=1e-9)
        assert current == pytest.approx(cost_of(futures, now), rel=1e-9)


def test_the_best_order_of_a_small_pool_is_found() -> None:
    """A rule of moves that reaches only some orders would leave the best one out."""
    problem = encode(pool(6, 1))
    futures = futures_of([problem])
    least = min(cost_of(futures, np.array(o)) for o in permutations(range(6)))
    found = searched(futures, np.arange(6), 3000, 2.0, 0.01, 4, 1)[2]
    assert found == pytest.approx(least, rel=1e-9)


def test_one_order_serves_several_futures_better_than_the_order_of_one() -> None:
    """The mean over the futures is what is looked for, not the cost of the first."""
    gains = []
    for seed in range(4):
        problem = encode(pool(30, seed))
        rng = np.random.default_rng(seed)
        other = replace(problem, duration=np.maximum(1, rng.permutation(problem.duration)))
        both, one = futures_of([problem, other]), futures_of([problem])
        start = first_orders(problem, None)[0]
        common = searched(both, start, 3000, 5.0, 0.05, 4, 1)[0]
        alone = searched(one, start, 3000, 5.0, 0.05, 4, 1)[0]
        gains.append(cost_of(both, alone) - cost_of(both, common))
    assert min(gains) > 0


@pytest.mark.parametrize("seed", range(3))
def test_lns_searches_orders_on_a_pool_and_repeats_itself(seed: int) -> None:
    """Byte-identical plans for a seed and a step budget; and never worse than it began."""
    problem = encode(pool(40, seed))
    assert orders.suits(problem)
    greedy = SOLVERS["greedy"]().solve(
        problem, budget=Budget(None, 0), rng=np.random.default_rng(0)
    )
    runs = [
        SOLVERS["lns"]().solve(
            problem, budget=Budget(None, 500), rng=np.random.default_rng(1),
            incumbent=greedy.schedule,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert runs[0].schedule is not None
    assert greedy.schedule is not None
    assert runs[0].schedule.start.tolist() == runs[1].schedule.start.tolist()
    assert full_cost(problem, runs[0].schedule) <= full_cost(problem, greedy.schedule)
    assert runs[0].steps == 500


def test_unlike_workers_are_not_searched_by_order() -> None:
    """The earliest end is the wrong worker where workers cost or run differently."""
    problem = encode(pool(10, 0))
    workers = (Worker("a", {"cpu": 16000}), Worker("b", {"cpu": 12000}))
    request = replace(problem.request, snapshot=replace(problem.request.snapshot, workers=workers))
    assert not orders.suits(encode(request))
    workers = (Worker("a", {"cpu": 16000}), Worker("b", {"cpu": 16000}))
    request = replace(problem.request, snapshot=replace(problem.request.snapshot, workers=workers))
    assert orders.suits(encode(request))
