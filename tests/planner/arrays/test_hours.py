"""What energy costs above its least price: arrays against the evaluator, and bounds that hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.hours import (
    extra_cost,
    has_hours,
    hours_of,
    next_change,
    refuse_hours,
)
from plancast.planner.arrays.problem import decode
from plancast.planner.arrays.rates import rates_of
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import DAY_S, BadRequest, Hourly, Prices, Worker
from plancast.planner.model.evaluate import evaluate
from plancast.planner.planning.risk import RiskMeasure, plan_under_risk
from tests.conftest import scaled
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.random_requests import random_request
from tests.oracles.slow_energy import value
from tests.oracles.valid_schedules import plannable, random_schedules

PRICED = Prices(makespan_h=0, late_h=0, misses=0, wait_h=0, kwh=0.5, carbon_kg=2, energy_cost=3)


@st.composite
def workers_by_hour(draw: st.DrawFn) -> list[Worker]:
    """Workers with rates of a few steps by clocks of their own."""

    def rate() -> float | Hourly:
        times = draw(st.sets(st.integers(1, DAY_S // 60 - 1), max_size=3))
        values = [draw(st.integers(0, 9)) / 10 for _ in range(len(times) + 1)]
        at_s = (0, *(60 * t for t in sorted(times)))
        by_hour = Hourly(at_s, tuple(values), 3600 * draw(st.integers(-12, 14)))
        return draw(st.sampled_from([by_hour, by_hour, values[0]]))

    return [
        Worker(f"w{k}", {"cpu": 1000}, idle_w=10.0, busy_w=100.0, price_per_kwh=rate(),
               carbon_kg_per_kwh=rate())
        for k in range(draw(st.integers(1, 3)))
    ]  # fmt: skip


@settings(max_examples=scaled(60))
@given(workers_by_hour(), st.integers(0, 10**9), st.integers(0, 3 * DAY_S), st.integers(1, 5000))
def test_least_price_and_extra_are_the_sum_over_seconds(
    workers: list[Worker], now: int, start: int, lasts: int
) -> None:
    """A day, a clock or a step could be missed, and every solver would follow a wrong price."""
    rates, hours = rates_of(PRICED, workers, now), hours_of(PRICED, workers, now)
    for w, worker in enumerate(workers):
        slow = sum(
            0.5 + 2 * value(worker.carbon_kg_per_kwh, s) + 3 * value(worker.price_per_kwh, s)
            for s in range(now + start, now + start + lasts, 60)
        )
        lasts_min = -(-lasts // 60) * 60
        # Rates change at whole minutes of their clocks: so do sums that begin at one.
        if (now + start) % 60:
            continue
        found = rates.idle[w] * lasts_min
        if hours is not None:
            extra = extra_cost(hours, w, 10.0, start, start + lasts_min)
            assert extra >= -1e-12
            found += extra
        assert found == pytest.approx(10.0 * 60 * slow / 3.6e6, rel=1e-9, abs=1e-12)


@settings(max_examples=scaled(60))
@given(workers_by_hour(), st.integers(0, 10**6), st.integers(0, 2 * DAY_S))
def test_between_changes_the_price_stays(workers: list[Worker], now: int, moment: int) -> None:
    """A start that costs less would lie between those that are tried."""
    hours = hours_of(PRICED, workers, now)
    if hours is None:
        return
    for w in range(len(workers)):
        change = next_change(hours, hours.group[w], moment)
        assert moment < change <= moment + DAY_S
        first = extra_cost(hours, w, 1.0, moment, moment + 1)
        for second in (moment, (moment + change) // 2, change - 1):
            assert extra_cost(hours, w, 1.0, second, second + 1) == pytest.approx(first, abs=1e-12)


def test_schedules_are_priced_as_the_evaluator_does() -> None:
    """A solver would optimise another cost than the plan is judged by."""
    rng, by_hour = np.random.default_rng(1), 0
    for problem in plannable(range(2000, 2120), max_tasks=8, hours=True):
        for schedule in random_schedules(problem, rng, 2):
            request = without_moves(problem.request)
            found = evaluate(request, decode(problem, schedule), unplanned=problem.unplanned)
            assert problem.cost(schedule) == pytest.approx(found.cost, rel=1e-9, abs=1e-12)
            least = replace(problem, hours=None)
            assert least.cost(schedule) <= found.cost + 1e-9 * abs(found.cost)
            by_hour += least.cost(schedule) < found.cost * (1 - 1e-9)
    assert by_hour > 60


def test_bounds_hold_where_energy_has_hours() -> None:
    """A plan that waits for the night would cost less than the bound, or be called optimal."""
    bounded = 0
    for problem in plannable(range(400, 430), max_tasks=3, hours=True):
        best = optimum(problem.request, problem.unplanned)
        if best is not None:
            assert lower_bound(problem, timed=True) <= best.cost * (1 + 1e-9) + 1e-12
            bounded += 1
    assert bounded > 15


def test_a_request_without_hours_has_none() -> None:
    """All that is compiled for hours would be asked for where the hour makes no difference."""
    night = Hourly((0, 60), (0.1, 0.2))
    constant = Worker("w", {"cpu": 1}, idle_w=5, price_per_kwh=0.2, carbon_kg_per_kwh=0.1)
    assert hours_of(PRICED, [constant], 0) is None
    assert hours_of(PRICED, [replace(constant, idle_w=0, price_per_kwh=night)], 0) is None
    assert hours_of(PRICED, [replace(constant, price_per_kwh=Hourly((0, 60), (1, 1)))], 0) is None
    assert hours_of(Prices(), [replace(constant, price_per_kwh=night)], 0) is None
    opposed = replace(constant, price_per_kwh=Hourly((0, 60), (0.2, 0)),
                      carbon_kg_per_kwh=Hourly((0, 60), (0, 0.3)))  # fmt: skip
    assert hours_of(PRICED, [opposed], 0) is None  # 3 x 0.2 = 2 x 0.3
    assert hours_of(PRICED, [replace(constant, price_per_kwh=night)], 0) is not None


def test_who_cannot_price_hours_says_so() -> None:
    """A plan under risk would be priced as if it were always night."""
    request = random_request(3, hours=True)
    assert has_hours(request)
    with pytest.raises(BadRequest, match="planning under risk cannot price"):
        plan_under_risk(request, RiskMeasure())
    refuse_hours(random_request(3), "nobody")
    assert encode(random_request(3)).hours is None
