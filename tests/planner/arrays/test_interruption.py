"""Ctrl-C while a plan is searched ends the search and keeps the best plan."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays import interruption
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.instances.jobshop import parse_jobshop
from plancast.planner.model.domain import (
    ANY_CLASS,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning import isolation
from plancast.planner.planning.plan import INTERRUPTED, plan
from plancast.planner.planning.warm import warm
from plancast.planner.solvers import SOLVERS

LONG = Budget(40.0)


def ctrl_c_after(seconds: float) -> threading.Thread:
    """A Ctrl-C that comes by itself, so long after there is a plan."""

    def press() -> None:
        interruption._has_plan.wait(60)
        time.sleep(seconds)
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    pressed.clear()
    thread = threading.Thread(target=press)
    thread.start()
    return thread


pressed: list[float] = []
"""When."""


def test_an_end_is_heard_where_it_is_meant_and_nowhere_else() -> None:
    """A search that is over would go on, or end one of another request."""
    end, called = interruption.End(), []
    with end.heard(), interruption.stops(lambda: called.append(1)):
        assert not interruption.asked()
        on_another = threading.Thread(target=end.ask)
        on_another.start()
        on_another.join()
        assert interruption.asked()
        assert called == [1]
        with interruption.stops(lambda: called.append(2)):
            assert called == [1, 2]
    assert not interruption.asked()
    with interruption.stops(lambda: called.append(3)):
        end.ask()
    assert called == [1, 2]


def batch(tasks: int = 60, workers: int = 8) -> PlanRequest:
    """More than any solver proves in a second."""
    return replace(generate_batch(tasks, generate_cluster(workers, 2), 2), budget=LONG)


def shop() -> PlanRequest:
    """A job shop of ten jobs on ten machines that takes a while to prove."""
    lines = ["12 8"]
    for job in range(12):
        order = [(job * 5 + k * 3) % 8 for k in range(8)]
        lines.append(" ".join(f"{m} {1 + (7 * job + 11 * m) % 50}" for m in order))
    return replace(parse_jobshop("shop", "\n".join(lines)), budget=LONG)


def project() -> PlanRequest:
    """A project with more activities than are proved at once."""
    rng = np.random.default_rng(4)
    tasks = tuple(
        Task(f"t{k}", {"cpu": int(rng.integers(1, 6)), "kit": int(rng.integers(1, 6))},
             after=tuple(f"t{b}" for b in {k - 7, k - 11} if b >= 0))
        for k in range(120)
    )  # fmt: skip
    seconds = rng.integers(1, 60, len(tasks)).tolist()
    known = {
        t.id: {ANY_CLASS: DurationEstimate.certain(s, "x")}
        for t, s in zip(tasks, seconds, strict=True)
    }
    snapshot = Snapshot(0, 0, (Worker("w", {"cpu": 11, "kit": 10}),), tasks)
    return PlanRequest("project", snapshot, known, Policy(Prices.for_makespan()), budget=LONG)


@pytest.mark.parametrize("name", ["auto", *(n for n in SOLVERS if n != "greedy")])
def test_every_solver_hands_over_what_it_has(name: str) -> None:
    """Half an hour of search would be lost to a Ctrl-C, or go on unheard."""
    warm()
    request = {"shop": shop, "project": project}.get(name, batch)()
    greedy = plan(request, "greedy").cost
    with interruption.keeps_the_best():
        timer = ctrl_c_after(0.3)
        found = plan(request, name)
        ended = time.perf_counter()
        timer.join()
    assert ended - pressed[0] < 5.0
    assert validate_response(request, found) == []
    assert found.cost is not None
    assert greedy is not None
    assert found.cost <= greedy
    if found.status.value != "optimal":
        assert INTERRUPTED in str(found.warning)


@pytest.mark.parametrize("budget", [LONG, Budget(None, 10**9)], ids=["seconds", "steps"])
def test_scenarios_and_steps_end_too(budget: Budget) -> None:
    """A plan over several levels would begin the next one after each Ctrl-C."""
    request = replace(batch(), budget=budget)
    if budget.seconds is not None:
        request = replace(request, policy=replace(request.policy, scenarios=(0.5, 0.9)))
    with interruption.keeps_the_best():
        timer = ctrl_c_after(0.6)
        found = plan(request, "lns")
        ended = time.perf_counter()
        timer.join()
    assert ended - pressed[0] < 5.0
    assert found.plan is not None
    assert INTERRUPTED in str(found.warning)


def test_an_engine_that_does_not_listen_is_left_behind() -> None:
    """One solver that hangs would keep the user from the plan that there is."""
    began = time.perf_counter()

    def hang(_: Callable[[], None]) -> None:
        time.sleep(8)

    with interruption.keeps_the_best():
        interruption.has_plan()
        timer = ctrl_c_after(0.1)
        found = isolation.run_apart({"deaf": hang}, None)
        timer.join()
    assert time.perf_counter() - began < 4
    assert found["deaf"].result is None
    assert found["deaf"].fault is None


def press() -> None:
    """Ctrl-C, and the time in which it arrives."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


def test_before_there_is_a_plan_it_ends_the_program() -> None:
    """A user could not get out while kernels are compiled."""
    with interruption.keeps_the_best(), pytest.raises(KeyboardInterrupt):
        press()


def test_at_the_second_time_it_ends_the_program() -> None:
    """Nor where judging what was found takes long."""
    calls: list[int] = []
    with interruption.keeps_the_best(lambda: calls.append(1)):
        interruption.has_plan()
        press()
        assert interruption.asked()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert calls == [1]
    assert not interruption.asked()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
