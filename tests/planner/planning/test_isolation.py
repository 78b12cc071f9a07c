"""Engines that fail, hang or lie cost their own plan, never the answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.isolation import OVERDUE_S, run_apart
from plancast.planner.planning.plan import RESERVE_S, plan
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.base import Observe, Solution


def _raising(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
    raise IndexError("index 7 is out of bounds")


def _out_of_memory(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
    raise MemoryError


def _hanging(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
    while True:
        time.sleep(0.01)


def _lying_about_the_bound(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
    return Solution(Status.OPTIMAL, incumbent, problem.cost(incumbent) * 2, claimed=0.0)


def _lying_about_the_schedule(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
    nothing = np.zeros_like(incumbent.start)
    return Solution(Status.FEASIBLE, Schedule(nothing, nothing, incumbent.worker * 0), claimed=0.0)


def _returning_half(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
    return Solution(
        Status.FEASIBLE, Schedule(incumbent.start[:3], incumbent.end[:3], incumbent.worker[:3])
    )


def _calling_it_impossible(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
    return Solution(Status.INFEASIBLE)


MISBEHAVING: dict[Callable[..., Solution], str] = {
    _raising: "failed (IndexError: index 7 is out of bounds)",
    _out_of_memory: "failed (MemoryError",
    _hanging: "did not end within 1 s of its budget",
    _lying_about_the_bound: "claimed that no plan costs less",
    _lying_about_the_schedule: "returned an invalid schedule",
    _returning_half: "returned an invalid schedule",
    _calling_it_impossible: "called impossible what has a plan",
}


@dataclass(frozen=True)
class Misbehaving:
    """An engine that does what it is told instead of solving."""

    deed: Callable[[Problem, Schedule, Observe], Solution]
    name: ClassVar[str] = "misbehaving"
    exact_terms: ClassVar[frozenset[str]] = frozenset()

    def solve(self, problem: Problem, **more: Any) -> Solution:
        """What ``Solver.solve`` takes."""
        return self.deed(problem, more["incumbent"], more["observe"])


@pytest.fixture
def request_() -> PlanRequest:
    """A request whose greedy plan is not proven optimal."""
    request = generate_batch(40, generate_cluster(4, 1), 3)
    return replace(request, budget=Budget(0.2))


@pytest.mark.parametrize("deed", MISBEHAVING, ids=lambda deed: deed.__name__[1:])
def test_the_greedy_plan_survives(
    request_: PlanRequest,
    deed: Callable[..., Solution],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One engine's fault would cost the plan that there was already, or be passed on as true."""
    floor = plan(request_, "greedy")
    monkeypatch.setitem(SOLVERS, "misbehaving", lambda: Misbehaving(deed))
    began = time.perf_counter()
    with caplog.at_level(logging.ERROR):
        response = plan(request_, "misbehaving")
    spent_s = time.perf_counter() - began
    assert response.solver == "greedy"
    assert response.cost is not None
    assert floor.cost is not None
    assert response.cost <= floor.cost
    assert response.status is Status.FEASIBLE
    assert validate_response(request_, response) == []
    assert response.warning is not None
    assert MISBEHAVING[deed] in response.warning
    if deed is not _calling_it_impossible:
        assert caplog.records
    assert spent_s < 0.2 + OVERDUE_S + 2.0  # generous for a loaded machine


def test_a_good_engine_is_not_warned_of(request_: PlanRequest) -> None:
    """A warning that is always there would be read by nobody."""
    assert plan(request_, "lns").warning is None


def test_an_abandoned_engine_ends_when_it_reports() -> None:
    """Threads of engines that were given up would use the machine forever."""
    ended = threading.Event()

    def work(check: Callable[[], None]) -> int:
        try:
            while True:
                time.sleep(0.01)
                check()
        finally:
            ended.set()

    outcome = run_apart({"one": work}, time.perf_counter() + 0.05)["one"]
    assert outcome.result is None
    assert outcome.fault is not None
    assert ended.wait(5.0)


def test_what_was_asked_wrongly_is_refused(request_: PlanRequest) -> None:
    """A parameter out of range would be taken for an engine's failure."""
    with pytest.raises(BadRequest, match="blink"):
        plan(request_, "lns", blink=2.0)


def test_who_ends_in_time_is_waited_for() -> None:
    """A slow engine would be cut short though it is within its budget."""

    def work(_: Callable[[], None]) -> int:
        time.sleep(0.3)
        return 7

    found = run_apart({"a": work, "b": work}, time.perf_counter() + 30.0)
    assert [one.result for one in found.values()] == [7, 7]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Hanging engines are daemons: nothing to clean up, but they must not grow without bound."""
    yield
    assert threading.active_count() < 20


def test_a_bound_above_the_cost_by_rounding_is_the_cost(
    request_: PlanRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response would claim that its own plan cannot be."""

    def proving(problem: Problem, incumbent: Schedule, observe: Observe) -> Solution:
        return Solution(Status.OPTIMAL, incumbent, problem.cost(incumbent) * (1 + 5e-7))

    monkeypatch.setitem(SOLVERS, "misbehaving", lambda: Misbehaving(proving))
    response = plan(request_, "misbehaving")
    assert response.status is Status.OPTIMAL
    assert response.warning is None
    assert response.lower_bound == response.cost
    assert validate_response(request_, response) == []


def test_an_engine_is_handed_what_is_left_of_the_budget(
    request_: PlanRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding, the greedy plan and the bound would come on top of the budget."""
    handed: list[float] = []

    @dataclass(frozen=True)
    class Noting(Misbehaving):
        """Notes its budget."""

        def solve(self, problem: Problem, **more: Any) -> Solution:
            """What ``Solver.solve`` takes."""
            handed.append(more["budget"].seconds)
            return Solution(Status.FEASIBLE, more["incumbent"])

    monkeypatch.setitem(SOLVERS, "misbehaving", lambda: Noting(_raising))
    asked = replace(request_, budget=Budget(60.0))
    began = time.perf_counter()
    plan(asked, "misbehaving")
    spent_s = time.perf_counter() - began
    assert 60.0 - spent_s - 10.0 < handed[0] < 60.0 - RESERVE_S - 0.001
