"""Energy by the hour in whole numbers, and CP-SAT's plans that wait for a better hour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.hours import extra_cost, hours_of
from plancast.planner.arrays.problem import decode
from plancast.planner.model.domain import (
    DAY_S,
    DurationEstimate,
    Hourly,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.cpsat.tariffs import steps_of
from tests.conftest import scaled

ENERGY = Prices(makespan_h=0, late_h=0, misses=0, wait_h=0, energy_cost=1)


@settings(max_examples=scaled(60))
@given(
    st.sets(st.integers(1, DAY_S - 1), max_size=5),
    st.lists(st.floats(0, 5) | st.integers(0, 40).map(lambda k: k / 100), min_size=6, max_size=6),
    st.integers(0, DAY_S - 1), st.integers(0, 2 * DAY_S), st.integers(0, 2 * DAY_S),
)  # fmt: skip
def test_units_are_what_seconds_cost(
    times: set[int], values: list[float], now: int, start: int, lasts: int
) -> None:
    """The model would prefer an hour that costs more, or its bound be above the cheapest plan."""
    rate = Hourly((0, *sorted(times)), tuple(values[: len(times) + 1]))
    worker = Worker("w", {"cpu": 1000}, idle_w=1.0, price_per_kwh=rate)
    hours = hours_of(ENERGY, [worker], now)
    if hours is None:
        return
    steps = steps_of(hours, 0)
    assert steps is not None
    exact = extra_cost(hours, 0, 1.0, start, start + lasts)
    units = steps.over(start, start + lasts)
    assert units * steps.unit <= exact * (1 + 1e-9) + 1e-15
    assert exact <= units * steps.unit + steps.error * lasts + 1e-9 * exact + 1e-15
    pieces = steps.pieces(start, start + lasts)
    assert [p[0] for p in pieces[1:]] == [p[1] + 1 for p in pieces[:-1]]
    assert (pieces[0][0], pieces[-1][1]) == (start, start + lasts)
    assert sum(u * (last - first + 1) for first, last, u in pieces) == units + pieces[-1][2]


def test_cents_are_exact() -> None:
    """Every tariff in cents would be rounded, and nothing be proven optimal to the last digit."""
    rate = Hourly((0, 6 * 3600, 17 * 3600), (0.18, 0.31, 0.425))
    hours = hours_of(ENERGY, [Worker("w", {"cpu": 1}, idle_w=1.0, price_per_kwh=rate)], 0)
    assert hours is not None
    steps = steps_of(hours, 0)
    assert steps is not None
    assert steps.error == 0
    assert max(steps.units) < 1000


def asked(
    prices: Prices, worker: Worker, *tasks: Task, seconds: int, now_s: int = 0
) -> PlanRequest:
    """A request whose tasks all take as long."""
    estimates = {t.id: {"*": DurationEstimate.certain(seconds)} for t in tasks}
    return PlanRequest("hours", Snapshot(0, now_s, (worker,), tasks), estimates, Policy(prices))


@pytest.mark.parametrize("solver", ["cpsat", "lns"])
def test_a_task_waits_for_the_night_of_the_next_day(solver: str) -> None:
    """What is cheap only after midnight would lie beyond the horizon."""
    rate = Hourly((0, 4 * 3600, 5 * 3600), (0.3, 0.1, 0.3))
    worker = Worker("w", {"cpu": 1000}, busy_w=1000.0, price_per_kwh=rate)
    task = Task("t", {"cpu": 1000})
    request = asked(ENERGY, worker, task, seconds=3600, now_s=4 * 3600 + 60)
    problem = encode(request)
    found = SOLVERS[solver]().solve(
        problem, budget=Budget(None, 20_000), rng=np.random.default_rng(0)
    )
    assert found.schedule is not None
    row = decode(problem, found.schedule).by_task["t"]
    assert row.start_s == DAY_S + 4 * 3600
    if solver == "cpsat":
        assert found.status is Status.OPTIMAL
        assert found.lower_bound == pytest.approx(0.1)


@pytest.mark.parametrize("solver", ["cpsat", "lns"])
def test_a_gang_ends_where_energy_begins_to_cost_more(solver: str) -> None:
    """Only starts at a breakpoint would be tried, or the pieces of a gang be priced once."""
    rate = Hourly((0, 3 * 3600, 5 * 3600), (0.2, 0.1, 0.4))
    worker = Worker("w", {"cpu": 2000}, busy_w=1000.0, price_per_kwh=rate)
    gang = Task("g", {"cpu": 1000}, shards=2)
    prices = Prices(makespan_h=0, late_h=0, misses=0, wait_h=1e-3, energy_cost=1)
    problem = encode(asked(prices, worker, gang, seconds=3 * 3600))
    found = SOLVERS[solver]().solve(
        problem, budget=Budget(None, 20_000), rng=np.random.default_rng(0)
    )
    assert found.schedule is not None
    row = decode(problem, found.schedule).by_task["g"]
    assert (row.start_s, row.end_s) == (2 * 3600, 5 * 3600)
    cost = evaluate(problem.request, decode(problem, found.schedule)).cost
    assert cost == pytest.approx(0.2 + 2 * 0.1 + 2e-3)


def test_astar_bounds_what_it_cannot_prove() -> None:
    """A* would call its plan, which starts at once, optimal."""
    rate = Hourly((0, 3600), (0.3, 0.1))
    worker = Worker("w", {"cpu": 1000}, busy_w=1000.0, price_per_kwh=rate)
    problem = encode(asked(ENERGY, worker, Task("t", {"cpu": 1000}), seconds=3600))
    found = SOLVERS["astar"]().solve(
        problem, budget=Budget(None, 1000), rng=np.random.default_rng(0)
    )
    assert found.status is Status.FEASIBLE
    assert found.claimed == pytest.approx(0.3)
    assert found.lower_bound == pytest.approx(0.1)
    always = encode(asked(Prices(wait_h=1, energy_cost=1e-9), worker, Task("t", {"cpu": 1000}),
                          seconds=3600))  # fmt: skip
    assert SOLVERS["astar"]().solve(
        always, budget=Budget(None, 1000), rng=np.random.default_rng(0)
    ).status is Status.OPTIMAL  # fmt: skip
