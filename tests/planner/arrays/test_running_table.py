"""What is kept of running tasks says the same, to the last bit, as what is worked out anew."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.hours import Hours, hours_of
from plancast.planner.arrays.rates import Rates
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.arrays.running_table import MOST_TABLES, runs_of, table_for
from plancast.planner.arrays.worker_table import worker_table
from plancast.planner.model.domain import (
    DurationEstimate,
    Hourly,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest
from tests.oracles.plain_running import running_arrays
from tests.oracles.random_requests import random_request

PRICED = Prices(wait_h=0.7, stretch=0.013, failures=1.9, energy_cost=0.31, late_h=3.0, misses=0.7)


def many_run(seed: int) -> PlanRequest:
    """Some dozens of running tasks, gangs among them, of estimates of all shapes."""
    rng = np.random.default_rng(seed)
    by_hour = Hourly((0, 7 * 3600, 20 * 3600), (0.2, 0.35, 0.25))
    workers = tuple(
        Worker(f"w{k}", {"cpu": 64_000, "mem": 1000 + k}, machine_class=f"c{k % 3}",
               health=float(rng.choice([1.0, 0.97, 0.9])), busy_w=110.0, idle_w=30.0,
               price_per_kwh=by_hour if seed % 2 and k else float(rng.choice([0.2, 0.3])))
        for k in range(5)
    )  # fmt: skip
    runs, estimates = [], {}
    for k in range(int(rng.integers(0, 40))):
        shards = int(rng.choice([1, 1, 2, 3]))
        release_s = int(rng.integers(0, 5_000))
        task = Task(
            f"t{k}", {"cpu": int(rng.integers(1, 900)), "mem": 7}, release_s,
            shards=shards, owner=str(rng.choice(["ann", "bob"])), weight=float(rng.random()) + 0.1,
            requested_s=int(rng.integers(1, 9_000)) if rng.random() < 0.5 else None,
            deadline_s=release_s + int(rng.integers(1, 9_000)) if rng.random() < 0.5 else None,
        )  # fmt: skip
        on = tuple(f"w{int(w)}" for w in rng.integers(0, 5, shards))
        runs.append(Running(task, on, int(rng.integers(task.release_s, 5_001))))
        estimates[task.id] = {
            name: _estimate(rng) for name in (["*"] if rng.random() < 0.5 else ["c0", "c1", "c2"])
        }
    policy = Policy(PRICED, level=float(rng.choice([0.5, 0.8, 0.93])))
    snapshot = Snapshot(0, 5_000, workers, (Task("waits", {"cpu": 1}),), tuple(runs))
    return PlanRequest("r", snapshot, {**estimates, "waits": {"*": _estimate(rng)}}, policy)


def _estimate(rng: np.random.Generator) -> DurationEstimate:
    count = int(rng.integers(1, 6))
    levels = np.sort(rng.choice([0.1, 0.25, 0.5, 0.8, 0.9, 0.99], count, replace=False))
    seconds = np.sort(rng.integers(1, 6_000, count))
    return DurationEstimate(tuple(levels.tolist()), tuple(seconds.tolist()), "drawn")


def assert_as_anew(request: PlanRequest) -> None:
    """Compare with the loops over tasks."""
    snapshot = request.snapshot
    resources = ("cpu", "mem")
    runs = runs_of(request, resources)
    ends = {r.task.id: expected_end_s(request, r) for r in snapshot.running}
    assert runs.end_of == ends
    rates = worker_table(snapshot.workers).rates(request.policy.prices, snapshot.now_s)
    hours = hours_of(request.policy.prices, snapshot.workers, snapshot.now_s)
    found, wanted = runs.arrays(rates, hours), running_arrays(request, ends, resources)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, Rates | Hours):
            for mine, theirs in zip(found[name], value, strict=True):
                assert np.array_equal(mine, theirs)
        elif value is not None:
            assert np.array_equal(found[name], value), name
            assert found[name].dtype == value.dtype


@given(seed=st.integers(0, 10**6), later_s=st.lists(st.integers(0, 4_000), max_size=4))
def test_a_kept_table_says_what_loops_say(seed: int, later_s: list[int]) -> None:
    """A plan would come out otherwise than before, or wait for ends that nobody expects."""
    request = many_run(seed)
    assert_as_anew(request)
    for step, seconds in enumerate(later_s):
        snapshot = request.snapshot
        running = snapshot.running[step % 3 :] if step % 2 else snapshot.running[:-1]
        request = request.evolved(
            snapshot=snapshot.evolved(now_s=snapshot.now_s + seconds, running=running)
        )
        assert_as_anew(request)


def test_a_task_that_runs_again_or_is_forecast_anew_is_not_taken_for_the_old_one() -> None:
    """Its room would come free when its first run was expected to end."""
    request = many_run(3)
    run = next(r for r in request.snapshot.running if len(r.workers) == 1)
    assert_as_anew(request)
    again = replace(run, start_s=run.start_s - 1, workers=("w3",))
    others = tuple(r for r in request.snapshot.running if r is not run)
    request = request.evolved(snapshot=request.snapshot.evolved(running=(*others, again)))
    assert_as_anew(request)
    certain = {"*": DurationEstimate.certain(77_777)}
    request = request.evolved(estimates={**request.estimates, run.task.id: certain})
    assert_as_anew(request)


def test_a_table_lets_go_of_what_has_ended() -> None:
    """A master that runs for a month would remember each task that ever ran."""
    worker = (Worker("w", {"cpu": 10**6}),)
    estimate = {"*": DurationEstimate.certain(50)}
    for k in range(2_000):
        task = Task(f"t{k}", {"cpu": 1})
        snapshot = Snapshot(0, 0, worker, (), (Running(task, ("w",), 0),))
        request = PlanRequest("r", snapshot, {task.id: estimate})
        snapshot = snapshot.evolved(workers=worker)
        runs_of(request.evolved(snapshot=snapshot), ("cpu",))
        assert len(table_for(request, ("cpu",)).entries) <= 70
    for k in range(3 * MOST_TABLES):
        table_for(request, (f"r{k}",))
    assert table_for(request, ("r0",)).entries == {}


@pytest.mark.parametrize("part", range(4))
def test_a_problem_is_the_same_whatever_was_encoded_before(part: int) -> None:
    """What is kept of one request would show up in the next one."""
    for seed in range(part * 15, part * 15 + 15):
        request = random_request(seed)
        first = encode(request)
        encode(random_request(seed + 1))
        copied = replace(
            request, snapshot=replace(request.snapshot, workers=(*request.snapshot.workers,))
        )
        assert _values(encode(request)) == _values(first) == _values(encode(copied))


def _values(problem: Any) -> dict[str, Any]:
    found = {}
    for field in fields(problem):
        value = getattr(problem, field.name)
        if isinstance(value, np.ndarray):
            found[field.name] = value.dtype.str, value.tolist()
        elif field.name == "rates":
            found[field.name] = [np.asarray(v).tolist() for v in value]
    return found
