"""Starts that a plan chose, and who keeps them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plancast.planner.arrays.deliberate_starts import deliberate_starts
from plancast.planner.model import events
from plancast.planner.model.domain import (
    Assignment,
    CountedResource,
    DurationEstimate,
    Hourly,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, TaskFinished, WorkerLost
from plancast.planner.planning.controller import Choice, Controller
from plancast.planner.planning.expected_starts import outlooks
from plancast.planner.planning.partial_order import partial_order
from plancast.planner.planning.plan import plan
from plancast.planner.planning.repair import repair
from plancast.planner.worlds.executors import ClosedLoop, static

HOUR = 3600
NIGHT = Hourly((0, 6 * HOUR, 22 * HOUR), (0.1, 0.4, 0.1))
NOW = 20 * HOUR


def asked(solver_steps: int = 2000) -> PlanRequest:
    """One worker: ``first`` runs, ``due`` must run by day, ``night`` and ``after`` may wait."""
    worker = Worker("w", {"cpu": 2000}, busy_w=1000.0, price_per_kwh=NIGHT)
    tasks = (
        Task("due", {"cpu": 1000}, deadline_s=NOW + HOUR),
        Task("night", {"cpu": 2000}),
        Task("after", {"cpu": 1000}, after=("night",)),
    )
    running = (Running(Task("first", {"cpu": 1000}), ("w",), NOW - 600),)
    estimates = {
        name: {"*": DurationEstimate.certain(s)}
        for name, s in (("first", 1200), ("due", 1800), ("night", HOUR), ("after", HOUR))
    }
    prices = Prices(makespan_h=0, late_h=10, misses=1, wait_h=0.01, energy_cost=1)
    return PlanRequest(
        "deliberate", Snapshot(0, NOW, (worker,), tasks, running), estimates,
        Policy(prices), budget=Budget(None, solver_steps),
    )  # fmt: skip


def rows(**times: tuple[int, int]) -> Plan:
    """A plan on one worker."""
    found = [Assignment(name, ("w",), start, end) for name, (start, end) in times.items()]
    return Plan(tuple(found), made_at_s=NOW)


NIGHTLY = {"due": (NOW, NOW + 1800), "night": (NOW + 2 * HOUR, NOW + 3 * HOUR),
           "after": (NOW + 3 * HOUR, NOW + 4 * HOUR)}  # fmt: skip


def test_only_what_nothing_holds_back_is_chosen() -> None:
    """A task that follows another's end would wait for the planned end if that came early."""
    request = asked()
    assert deliberate_starts(request, rows(**NIGHTLY)) == {"night": NOW + 2 * HOUR}
    # A start that nothing explains, at no step of the tariff.
    odd = {**NIGHTLY, "after": (NOW + 3 * HOUR + 7, NOW + 4 * HOUR + 7)}
    assert set(deliberate_starts(request, rows(**odd))) == {"night", "after"}
    # As what runs ends, or as a window does.
    ends = {**NIGHTLY, "night": (NOW + 600, NOW + 600 + HOUR)}
    assert "night" not in deliberate_starts(request, rows(**ends))
    (worker,) = request.snapshot.workers
    blocked = replace(worker, blocked=(Window(NOW + 100, NOW + 700),))
    shut = replace(request, snapshot=replace(request.snapshot, workers=(blocked,)))
    waits = {**NIGHTLY, "night": (NOW + 700, NOW + 700 + HOUR)}
    assert "night" not in deliberate_starts(shut, rows(**waits))
    assert "night" in deliberate_starts(request, rows(**waits))
    # As a licence is given back elsewhere.
    pending = tuple(replace(t, counted={"x": 1}) for t in request.snapshot.pending)
    held = replace(request.snapshot, pending=pending, counted=(CountedResource("x", 1),))
    licensed = replace(request, snapshot=held)
    assert "night" not in deliberate_starts(
        licensed, rows(**{**NIGHTLY, "night": (NOW + 1800, NOW + 1800 + HOUR)})
    )


def test_without_hours_nothing_is_chosen() -> None:
    """Plans of before would be carried out more slowly."""
    request = asked()
    (worker,) = request.snapshot.workers
    flat = replace(worker, price_per_kwh=0.3)
    same = replace(request, snapshot=replace(request.snapshot, workers=(flat,)))
    assert deliberate_starts(same, rows(**NIGHTLY)) == {}


@pytest.mark.parametrize("solver", ["auto", "lns", "cpsat"])
def test_the_plan_waits_for_the_night_and_says_why(solver: str) -> None:
    """Nothing would wait, or nobody know what for."""
    response = plan(asked(), solver)
    assert response.plan is not None
    start = {row.task: row.start_s - NOW for row in response.plan.assignments}
    assert start == {"due": 0, "night": 2 * HOUR, "after": 3 * HOUR}
    assert response.why["night"] == (
        "waits 7200 s for energy to cost less: 0.1 a kWh from 22:00 on, not 0.4"
    )
    assert response.terms["energy_cost"] == pytest.approx(
        evaluate(asked(), response.plan).terms["energy_cost"]
    )


def test_executions_keep_the_waits() -> None:
    """An executor would start what waits for the night as soon as there is room."""
    request = asked()
    made = rows(**NIGHTLY)
    early = {"due": 600, "night": 1800, "after": 1800, "first": 700}
    for execute in (static, ClosedLoop()):
        ran = execute(request, made, early).plan.by_task  # type: ignore[operator]
        assert ran["night"].start_s == NOW + 2 * HOUR
        assert ran["after"].start_s == NOW + 2 * HOUR + 1800  # what follows does not wait
    order = partial_order(request, made)
    executed = order.executed(order.planned // 2).by_task
    assert executed["night"].start_s == NOW + 2 * HOUR
    assert executed["after"].start_s < NOW + 3 * HOUR
    assert outlooks(request, made)["night"].half_s == NOW + 2 * HOUR


def test_a_master_keeps_the_waits() -> None:
    """A master would start at once what its plan wants to start at night."""
    mind = Controller(asked())
    asks = mind.ask(Choice.REPLAN)
    asks = replace(asks, budget=Budget(None, 2000))
    mind.commit(asks, plan(asks), Choice.REPLAN)
    assert [row.task for row in mind.due()] == ["due"]
    mind.tell(TaskFinished(NOW + 300, "first"))
    kept = mind.retimed()
    assert kept is not None
    assert kept.by_task["night"].start_s == NOW + 2 * HOUR
    mind.advance(NOW + 2 * HOUR - 1)
    assert "night" not in [row.task for row in mind.due()]


def test_a_repair_keeps_the_waits_that_still_pay() -> None:
    """A lost worker would make everything start at once."""
    request = asked()
    (worker,) = request.snapshot.workers
    two = replace(request.snapshot, workers=(worker, replace(worker, id="x")), running=())
    due = Assignment("due", ("x",), NOW, NOW + 1800)
    made = Plan((*rows(**NIGHTLY).assignments[1:], due), made_at_s=NOW)
    lost = events.apply(two, WorkerLost(NOW + 60, "x"))
    found = repair(replace(request, snapshot=lost, incumbent=made, budget=Budget(0.5)))
    assert found.plan is not None
    start = {row.task: row.start_s - NOW for row in found.plan.assignments}
    assert start["due"] == 60
    assert start["night"] == 2 * HOUR
