"""Energy weighed by the hour, against sums over single seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.planner.model.domain import (
    DAY_S,
    Assignment,
    BadRequest,
    DurationEstimate,
    Hourly,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.energy import integral
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest, from_json, to_json
from tests.oracles.random_requests import random_request
from tests.oracles.slow_energy import slow_energy


@st.composite
def rates(draw: st.DrawFn) -> Hourly:
    """A rate with up to five steps."""
    times = draw(st.sets(st.integers(1, DAY_S - 1), max_size=4))
    values = draw(st.lists(st.floats(0, 10), min_size=len(times) + 1, max_size=len(times) + 1))
    return Hourly((0, *sorted(times)), tuple(values), draw(st.integers(-DAY_S + 1, DAY_S - 1)))


@given(rates(), st.integers(-(10**9), 10**9), st.integers(0, 2 * DAY_S))
def test_an_integral_is_the_sum_over_its_seconds(rate: Hourly, from_s: int, lasts_s: int) -> None:
    """A step, a midnight or an offset could be counted twice or not at all."""
    slow = 0.0
    second = from_s
    while second < from_s + lasts_s:  # whole stretches of one value, found second by second
        value, until = rate.at(second), second
        midnight = second - (second + rate.utc_offset_s) % DAY_S
        later = [midnight + at for at in (*rate.at_s, DAY_S) if midnight + at > second]
        until = min(later[0], from_s + lasts_s)
        assert rate.at(until - 1) == value
        slow += value * (until - second)
        second = until
    assert integral(rate, from_s, from_s + lasts_s) == pytest.approx(slow, rel=1e-9, abs=1e-6)


def test_terms_are_sums_over_seconds() -> None:
    """A draw could be left out, or weighed by the price of another moment."""
    weighed = 0
    for seed in range(60):
        request = random_request(seed, hours=True)
        now = request.snapshot.now_s
        rows = []
        for k, task in enumerate(request.snapshot.pending):
            on = tuple(request.snapshot.workers[k % len(request.snapshot.workers)].id
                       for _ in range(task.shards))  # fmt: skip
            rows.append(Assignment(task.id, on, now + 3 * k, now + 3 * k + 1 + seed % 5))
        plan = Plan(tuple(rows), (), now, request.snapshot.version)
        found = evaluate(request, plan).terms
        price, carbon = slow_energy(request, plan)
        assert found["energy_cost"] == pytest.approx(price, rel=1e-9, abs=1e-15)
        assert found["carbon_kg"] == pytest.approx(carbon, rel=1e-9, abs=1e-15)
        weighed += price > 0
    assert weighed > 20


def test_a_plan_by_hand() -> None:
    """The unit, the boot's moment, or what runs already could be wrong."""
    tariff = Hourly((0, 6 * 3600), (0.1, 0.3))
    worker = Worker("w", {"cpu": 2000}, idle_w=1000, busy_w=2000, boot_kwh=5, price_per_kwh=tariff)
    task = Task("t", {"cpu": 1000})
    certain = {"*": DurationEstimate.certain(7200)}
    plan = Plan((Assignment("t", ("w",), 5 * 3600, 7 * 3600),))
    asked = PlanRequest("hand", Snapshot(0, 0, (worker,), (task,)), {"t": certain})
    found = evaluate(asked, plan).terms
    # Idle from midnight to seven, half of the power from five to seven, a boot at midnight.
    assert found["energy_cost"] == pytest.approx(6 * 0.1 + 0.3 + 0.1 + 0.3 + 5 * 0.1)
    assert found["kwh"] == pytest.approx(7 + 2 + 5)
    run = Running(Task("r", {"cpu": 2000}), ("w",), 5 * 3600)
    snapshot = Snapshot(0, 6 * 3600 - 1800, (worker,), (), (run,))
    running = PlanRequest("hand", snapshot, {"r": certain})
    found = evaluate(running, Plan((), (), snapshot.now_s)).terms
    assert found["energy_cost"] == pytest.approx(3 * (0.5 * 0.1 + 1 * 0.3))  # half an hour is past


def test_a_rate_is_read_as_it_is_written() -> None:
    """A request could come back with another tariff, or its hours be lost."""
    request = random_request(3, hours=True)
    assert any(isinstance(w.price_per_kwh, Hourly) for w in request.snapshot.workers)
    assert from_json(PlanRequest, to_json(request)) == request


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        ('{"at_s": [0, 60], "values": [1, -0.5]}', "the value from 00:01 is -0.5; negative prices"),
        ('{"at_s": [60], "values": [1]}', "from midnight"),
        ('{"at_s": [0, 0], "values": [1, 2]}', "in order of time"),
        ('{"at_s": [0, 86400], "values": [1, 2]}', "in order of time"),
        ('{"at_s": [0], "values": [1, 2]}', "1 times and 2 values"),
        ('{"at_s": [0], "values": [1], "utc_offset_s": 90000}', "within a day"),
        ('{"at_s": [0]}', "price_per_kwh.values: is missing"),
        ("-0.1", "price_per_kwh is -0.1; it must be a finite number from 0"),
        ('"cheap"', "price_per_kwh: must be a number"),
    ],
)
def test_a_wrong_rate_is_refused_in_one_sentence(rate: str, words: str) -> None:
    """A negative price would make every plan wait, and bounds wrong."""
    with pytest.raises(BadRequest) as caught:
        from_json(Worker, f'{{"id": "w", "capacity": {{}}, "price_per_kwh": {rate}}}')
    assert words in str(caught.value)
    assert "float" not in str(caught.value)


def test_a_resource_may_be_called_as_a_type_is() -> None:
    """What is left out of the path to a fault could be the user's own word."""
    with pytest.raises(BadRequest, match=r"demand\.float: must be a whole number"):
        from_json(Task, '{"id": "t", "demand": {"float": 0.5}}')


def test_energy_costs_nothing_without_a_price() -> None:
    """A tariff alone could change what plans cost."""
    tariff = Hourly((0, 60), (0.1, 0.3))
    worker = Worker("w", {"cpu": 1000}, idle_w=50, price_per_kwh=tariff)
    certain = {"t": {"*": DurationEstimate.certain(100)}}
    asked = PlanRequest(
        "free", Snapshot(0, 0, (worker,), (Task("t", {"cpu": 1}),)), certain,
        Policy(Prices(makespan_h=0, wait_h=0)),
    )  # fmt: skip
    found = evaluate(asked, Plan((Assignment("t", ("w",), 0, 100),)))
    assert found.terms["energy_cost"] > 0
    assert found.cost == 0
