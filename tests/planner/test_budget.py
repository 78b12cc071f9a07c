"""``plan`` ends: no loop waits for a sum of floats to move, and every budget is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import (
    Assignment,
    BadRequest,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, Status
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS as SOLVERS_BY_NAME
from tests.oracles.extreme_requests import extreme_request
from tests.oracles.odd_requests import odd_request
from tests.oracles.random_requests import random_request
from tests.oracles.watchdog import Overdue, watched

SOLVERS = ("greedy", "lns", "auto", "repair")


def plan_one(seed: int) -> str:
    """Plan one odd request; what is wrong with the response, if anything."""
    request = replace(odd_request(seed), budget=Budget(0.01))
    response = plan(request, SOLVERS[seed // 2 % len(SOLVERS)])
    return "; ".join(v.text for v in validate_response(request, response))


def assert_all_end(seeds: range, limit_s: float) -> None:
    """Plan the odd requests of these seeds, each within so many seconds, and judge them."""
    for seed, faults in watched(plan_one, seeds, limit_s):
        assert not faults, (seed, faults)


def test_requests_of_all_clocks_are_planned_in_time() -> None:
    """A release a year ahead, or a clock beyond what a float resolves, would hang the planner."""
    # Ten times what a call may take: kernels may still be compiled, and others use the machine.
    assert_all_end(range(120), limit_s=300.0)


@pytest.mark.slow
def test_requests_of_all_clocks_for_long() -> None:
    """The same on ten thousand requests, compiled, within the budget and a second."""
    assert_all_end(range(100), limit_s=300.0)
    assert_all_end(range(1000, 11_000), limit_s=3.0)


def test_the_watchdog_bites() -> None:
    """A hang would pass unseen."""
    with pytest.raises(Overdue, match="took more than"):
        watched(time.sleep, [5.0], limit_s=0.2)


def refused_or_right(case: tuple[int, str]) -> str:
    """Plan one request at the limits; what is wrong with the response, if anything."""
    seed, solver = case
    try:
        request = replace(extreme_request(seed), budget=Budget(0.05, 500))
        response = plan(request, solver)
    except BadRequest as error:
        return "" if "2^" in str(error) else str(error)
    return "; ".join(v.text for v in validate_response(request, response)) or (
        response.warning or ""
    )


def test_the_limits_are_refused_or_right() -> None:
    """Sums beyond 64 bits would call a batch impossible, a plan proven, or end in a traceback."""
    cases = [(seed, SOLVERS[seed % len(SOLVERS)]) for seed in range(120)]
    for case, faults in watched(refused_or_right, cases, limit_s=300.0):
        assert not faults, (case, faults)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [*SOLVERS, "astar", "cpsat"])
def test_the_limits_for_long(solver: str) -> None:
    """The same by every solver."""
    cases = [(seed, solver) for seed in range(1000, 2000)]
    for case, faults in watched(refused_or_right, cases, limit_s=300.0):
        assert not faults, (case, faults)


def test_no_bound_exceeds_a_plan_at_the_limits() -> None:
    """Where large amounts cancel out, a bound could be above the cost of a plan."""
    seen = 0
    for seed in range(150):
        with suppress(BadRequest):
            problem = encode(extreme_request(seed))
            if problem.infeasible or not problem.tasks:
                continue
            rng = np.random.default_rng(0)
            found = SOLVERS_BY_NAME["greedy"]().solve(problem, budget=Budget(None, 10), rng=rng)
            if found.schedule is not None:
                seen += 1
                for timed in (False, True):
                    bound = lower_bound(problem, timed=timed)
                    assert bound <= problem.cost(found.schedule) * (1 + 1e-9), (seed, timed)
    assert seen > 100


@cache
def unmoved(seed: int, solver: str) -> tuple[PlanRequest, PlanResponse]:
    """A request at the generator's zero of the clock, and its plan."""
    request = replace(random_request(seed, incumbent=False), budget=Budget(None, 200))
    return request, plan(request, solver)


@pytest.mark.parametrize("shift_s", [-1_000_123, -5, 86_400 * 365, 1 << 40])
def test_all_zeros_of_the_clock_are_alike(shift_s: int) -> None:
    """A relative or negative clock would make a worker wait for the epoch, or another plan."""
    for seed in range(12):
        for solver in ("greedy", "lns"):
            request, before = unmoved(seed, solver)
            after = plan(shifted(request, shift_s), solver)
            assert after.status == before.status
            assert after.cost == before.cost
            assert after.unplanned.keys() == before.unplanned.keys()
            if before.plan is not None and after.plan is not None:
                assert [
                    (a.task, a.workers, a.start_s + shift_s, a.end_s + shift_s)
                    for a in before.plan.assignments
                ] == [(a.task, a.workers, a.start_s, a.end_s) for a in after.plan.assignments]


def shifted(request: PlanRequest, by_s: int) -> PlanRequest:
    """The same request with another zero of the clock; what is free now stays so."""
    snapshot = request.snapshot

    def moved(at_s: int | None) -> int | None:
        return None if at_s is None else at_s + by_s

    def task(one: Task) -> Task:
        return replace(one, release_s=one.release_s + by_s, deadline_s=moved(one.deadline_s))

    return replace(
        request,
        snapshot=replace(
            snapshot,
            now_s=snapshot.now_s + by_s,
            pending=tuple(task(t) for t in snapshot.pending),
            running=tuple(
                replace(r, task=task(r.task), start_s=r.start_s + by_s) for r in snapshot.running
            ),
            finished=tuple(replace(f, end_s=f.end_s + by_s) for f in snapshot.finished),
            workers=tuple(
                replace(
                    w,
                    free_from_s=moved(w.free_from_s),
                    until_s=moved(w.until_s),
                    blocked=tuple(Window(b.start_s + by_s, b.end_s + by_s) for b in w.blocked),
                )
                for w in snapshot.workers
            ),
        ),
    )


def test_a_proven_plan_is_answered_at_once() -> None:
    """The whole budget would be spent though nothing can be better."""
    certain = DurationEstimate.certain
    tasks = tuple(
        Task(f"t{k}", {"cpu": 1}, 0, after=(f"t{k - 1}",) if k else ()) for k in range(200)
    )
    snapshot = Snapshot(0, 0, (Worker("w", {"cpu": 1}), Worker("v", {"cpu": 1})), tasks)
    request = PlanRequest(
        "chain", snapshot, {t.id: {"*": certain(7)} for t in tasks}, budget=Budget(30.0)
    )
    for solver in ("auto", "lns", "repair", "shop"):
        plan(replace(request, budget=Budget(0.01)), solver)  # compiled by now
        response = plan(request, solver)
        assert response.status is Status.OPTIMAL
        assert response.wall_s < 5.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda: Task("t", {"mem": (1 << 50) + 1}), r"demand of mem .* at most .* \(2\^50\)"),
        (lambda: Task("t", {}, weight=1e308), "weight is 1e.308; .* from 0 to 1e.12"),
        (lambda: Task("t", {}, release_s=1 << 50), r"release_s .* within .* \(2\^48\)"),
        (lambda: Task("t", {}, shards=10**9), "shards is 1000000000; it must lie in 1 to 1000000"),
        (lambda: Worker("w", {}, busy_w=1e300), "busy_w is 1e.300"),
        (lambda: Worker("w", {}, until_s=-(1 << 60)), r"until_s .* \(2\^48\)"),
        (lambda: DurationEstimate.certain((1 << 63) - 1), r"an estimate is .* \(2\^48\)"),
        (lambda: Budget(1e300), "seconds is 1e.300"),
        (lambda: Policy(max_wait_s=1 << 62), r"max_wait_s .* \(2\^48\)"),
        (lambda: Prices(late_h=1e200), "price of late_h"),
        (lambda: Snapshot(0, 1 << 62, (Worker("w", {}),)), r"now_s .* \(2\^48\)"),
        (lambda: Assignment("t", ("w",), 0, 1 << 62), r"both times must .* \(2\^52\)"),
    ],
)
def test_what_is_beyond_the_limits_is_refused_by_name(
    change: Callable[[], object], text: str
) -> None:
    """A value that no sum can hold would be planned with, wrongly, or end in a traceback."""
    with pytest.raises(BadRequest, match=text):
        change()
