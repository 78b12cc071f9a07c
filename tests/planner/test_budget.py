"""``plan`` ends: no loop waits for a sum of floats to move, and every budget is kept."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget
from plancast.planner.planning.plan import plan
from tests.oracles.odd_requests import odd_request
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
    assert_all_end(range(300), limit_s=30.0)


@pytest.mark.slow
def test_requests_of_all_clocks_for_long() -> None:
    """The same on ten thousand requests, compiled, within the budget and a second."""
    assert_all_end(range(100), limit_s=60.0)
    assert_all_end(range(1000, 11_000), limit_s=3.0)


def test_the_watchdog_bites() -> None:
    """A hang would pass unseen."""
    with pytest.raises(Overdue, match="took more than"):
        watched(time.sleep, [5.0], limit_s=0.2)
