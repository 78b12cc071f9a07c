"""Orders of tasks that keep their workers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.model.domain import DurationEstimate, Policy, Prices, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns import order_kernel as kernel
from plancast.planner.solvers.lns import orders
from plancast.planner.solvers.lns.home_orders import HomeOrders, suits_home
from plancast.planner.solvers.lns.local_search import (
    Shape,
    Walk,
    fixed_arrays,
    full_cost,
    ranks,
    state_arrays,
    with_pool,
)
from plancast.planner.solvers.lns.orders import futures_of, order_of
from plancast.planner.solvers.lns.ruin import ON
from tests.oracles.plain_orders import PlainSerial
from tests.oracles.random_requests import random_request


def planned(seed: int) -> tuple[Problem, Schedule, Ints] | None:
    """A small random problem that orders can say, a schedule of it, and its pieces' workers."""
    problem = encode(random_request(seed, max_tasks=7))
    if problem.infeasible or not problem.tasks or problem.counted or problem.tells_apart:
        return None
    if problem.is_related or problem.hours is not None:
        return None
    budget, rng = Budget(None, 1), np.random.default_rng(0)
    schedule = SOLVERS["greedy"]().solve(problem, budget=budget, rng=rng).schedule
    if schedule is None:
        return None
    state, _ = state_arrays(problem, schedule)
    return problem, schedule, state.ps[:, ON].copy()


def laid(problem: Problem, order: Ints, home: Ints) -> tuple[Ints, Ints, float]:
    """Starts, workers and cost of the serial schedule by the kernel."""
    ts, ps, cost = kernel.lay_out(futures_of([problem]), 0, order, home)
    return ts[:, 0], ps[:, 0], cost


@pytest.mark.parametrize("block", range(3))
def test_tasks_at_home_are_laid_out_as_the_slow_twin_does(block: int) -> None:
    """The search would better schedules that nobody can run, or price them wrongly."""
    compared = gangs = 0
    for seed in range(40 * block, 40 * block + 40):
        found = planned(seed)
        if found is None:
            continue
        problem, schedule, home = found
        order = order_of(problem, schedule)
        for away in (None, order[0], order[-1]):
            at = home.copy()
            if away is not None:
                at[problem.shard_ptr[away] : problem.shard_ptr[away + 1]] = -1
            start, worker, cost = laid(problem, order, at)
            slow = PlainSerial(problem).schedule(order, at)
            assert (slow is None) == (not np.isfinite(cost))
            if slow is None:
                continue
            assert start.tolist() == slow.start.tolist()
            assert worker.tolist() == slow.worker.tolist()
            assert cost == pytest.approx(full_cost(problem, slow), rel=1e-9, abs=1e-9)
            compared += 1
            gangs += bool((problem.shards > 1).any())
    assert compared > 30
    assert gangs > 5


def test_the_order_of_a_schedule_delays_nothing() -> None:
    """A walk would fall back each time that its schedule is read as an order."""
    compared = 0
    for seed in range(120):
        found = planned(seed)
        if found is not None:
            problem, schedule, home = found
            start, _, cost = laid(problem, order_of(problem, schedule), home)
            assert (start <= schedule.start).all()
            assert np.isfinite(cost)
            compared += 1
    assert compared > 50


def test_costs_by_differences_are_those_of_laying_out_anew() -> None:
    """A task that went astray in a move that was rejected would be priced where it is not."""
    compared = strayed = 0
    for seed in range(120):
        found = planned(seed)
        if found is None:
            continue
        problem, schedule, home = found
        order, futures = order_of(problem, schedule), futures_of([problem])
        first = laid(problem, order, home)[2]
        best, there, now, here, cost, current = kernel.search(
            futures, order, home, 80, 0.2, 0.02, orders.ODDS, 0.5, 2, seed
        )
        assert cost == pytest.approx(laid(problem, best, there)[2], rel=1e-9, abs=1e-9)
        assert current == pytest.approx(laid(problem, now, here)[2], rel=1e-9, abs=1e-9)
        assert cost <= first + 1e-9
        compared += 1
        strayed += bool((here != home).any())
    assert compared > 50
    assert strayed > 5


def waiting_gang() -> Problem:
    """A gang that ten short tasks should not have to wait for."""
    workers = tuple(Worker(f"w{k}", {"cpu": 1000}) for k in range(2))
    gang = Task("gang", {"cpu": 1000}, shards=2)
    short = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(10))
    estimates = {t.id: {"*": DurationEstimate.certain(10)} for t in short}
    estimates["gang"] = {"*": DurationEstimate.certain(100)}
    policy = Policy(replace(Prices.for_makespan(), makespan_h=0.0, wait_h=1.0))
    return encode(PlanRequest("r", Snapshot(0, 0, workers, (gang, *short)), estimates, policy))


def test_a_gang_goes_behind_all_that_waited_for_it() -> None:
    """No move that takes out a task or two gains: each of the others would still wait."""
    problem = waiting_gang()
    start = np.array([0, *(100 + 10 * (k // 2) for k in range(10))])
    end = start + problem.duration[:, 0]
    first = Schedule(start, end, np.array([0, 1, *(k % 2 for k in range(10))]))
    fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
    small = Shape(most=2, looked_at=4, blink=0.0, tie=1e-12)
    alone = Walk(problem, fixed, first, ranks(problem), seed=1)
    alone.step(500, 1e-9, 0.0, small)
    walk = Walk(problem, fixed, first, ranks(problem), seed=1)
    HomeOrders(problem, walk, seed=1).step(500, 1e-9)
    least = sum(2 * 10 * k for k in range(5)) + 50
    assert full_cost(problem, walk.best) == pytest.approx(least / 3600)
    assert full_cost(problem, alone.best) > 2 * least / 3600
    assert walk.moves == 500


def test_lns_makes_the_same_plan_of_gangs_with_the_same_steps() -> None:
    """A seed and a step budget would no longer give the same plan; or one worse than the first."""
    problem = waiting_gang()
    assert suits_home(problem)
    plans = [
        SOLVERS["lns"]().solve(
            problem, budget=Budget(None, 1500), rng=np.random.default_rng(1), incumbent=None
        )
        for _ in range(2)
    ]
    first, second = (p.schedule for p in plans)
    assert first is not None
    assert second is not None
    assert first.start.tolist() == second.start.tolist()
    assert plans[0].steps == 1500


def test_orders_are_left_alone_where_they_say_too_little_or_nothing_waits() -> None:
    """Half of the time would be lost where order is not what is hard, or plans be wrong."""
    problem = waiting_gang()
    request = problem.request
    free = replace(request.policy, prices=Prices.for_makespan())
    assert not suits_home(encode(replace(request, policy=free)))
    lone = tuple(replace(t, shards=1) for t in request.snapshot.pending)
    assert not suits_home(
        encode(replace(request, snapshot=replace(request.snapshot, pending=lone)))
    )
