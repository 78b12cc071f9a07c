"""Energy that has hours beside power caps, devices and relations: CP-SAT is brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.pipelines.inputs.power import watts_of, watts_of_running
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.model.counted import POWER
from plancast.planner.model.domain import CountedResource
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.solvers import SOLVERS
from tests.conftest import cases
from tests.contracts.test_devices import is_proved
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.plain_devices import device_request
from tests.oracles.random_requests import random_request, related

CHUNKS, CHUNK = 27, 20
"""Seeds of one comparison with brute force, 300 of which have hours and can be planned."""
UNLIMITED = Budget(None, 1_000_000)


def tariff_request(seed: int) -> PlanRequest:
    """A small awkward request whose energy has hours that change within tasks.

    A third has devices, a third lags, exclusive tasks and shaped gangs, half a cap on power.
    """
    rng = np.random.default_rng([seed, 21])
    if seed % 3 == 1:
        request = device_request(seed, max_tasks=4, hours=True)
    else:
        request = random_request(seed, max_tasks=4, hours=True)
    if seed % 3 == 2:
        request = related(request, seed)
    return capped(request, rng) if rng.random() < 0.5 else request


def capped(request: PlanRequest, rng: np.random.Generator) -> PlanRequest:
    """The request with a cap on power under which its tasks seldom all fit at once."""
    snapshot = request.snapshot
    watts = {task.id: watts_of(task, snapshot.workers) for task in snapshot.pending}
    runs = {r.task.id: watts_of_running(r, snapshot.workers) for r in snapshot.running}
    least = max(1, *watts.values())
    most = max(least, sum(watts.values()) + sum(runs.values()))
    cap = int(rng.integers(least, most + 1))
    pending = tuple(
        replace(task, counted={**task.counted, POWER: watts[task.id]} if watts[task.id] else {})
        for task in snapshot.pending
    )
    running = tuple(
        replace(
            r, task=replace(r.task, counted={POWER: runs[r.task.id]} if runs[r.task.id] else {})
        )
        for r in snapshot.running
    )
    counted = (CountedResource(POWER, cap),)
    return replace(
        request, snapshot=replace(snapshot, pending=pending, running=running, counted=counted)
    )


def is_compared(problem: Problem) -> bool:
    """Whether there is anything to plan, and to wait for."""
    return bool(problem.tasks) and not problem.infeasible and problem.hours is not None


def compare(seeds: range) -> None:
    """Let CP-SAT prove what brute force finds."""
    for seed in seeds:
        request = tariff_request(seed)
        problem = encode(request)
        if is_compared(problem):
            is_proved(request, problem, seed)


@pytest.mark.parametrize("chunk", cases(1, CHUNKS))
def test_cpsat_is_brute_force_on_tariffs(chunk: int) -> None:
    """A wait for a cheaper second would be missed, or break a cap, a device or a lag."""
    compare(range(chunk * CHUNK, (chunk + 1) * CHUNK))


def test_presolve_loses_no_schedule_that_waits_for_an_hour() -> None:
    """OR-Tools would prove a plan optimal that costs 3% more than another one."""
    compare(range(193, 194))


@pytest.mark.slow
def test_brute_force_meets_three_hundred_tariffs() -> None:
    """The comparison would shrink with how instances are drawn, and nobody see it."""
    problems = [p for s in range(CHUNKS * CHUNK) if is_compared(p := encode(tariff_request(s)))]
    assert len(problems) >= 300

    def many(what: str, have: list[bool], least: int) -> None:
        assert sum(have) >= least, what

    asked = [p.request.snapshot for p in problems]
    many("caps", [bool(one.counted) for one in asked], 100)
    many("devices", [p.tells_apart for p in problems], 60)
    many("lags", [any(t.depends for t in p.tasks) for p in problems], 20)
    many("gangs", [any(t.shards > 1 for t in p.tasks) for p in problems], 60)
    many("deadlines", [any(t.deadline_s is not None for t in p.tasks) for p in problems], 150)
    many("idle power", [any(w.idle_w for w in one.workers) for one in asked], 200)
    many("busy power", [any(w.busy_w for w in one.workers) for one in asked], 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"cpsat"}))
def test_engines_prove_nothing_that_is_not_so(name: str) -> None:
    """An engine would call optimal what starts at once, or break the cap by waiting."""
    for seed in range(5000, 5030):
        request = tariff_request(seed)
        problem = encode(request)
        if not is_compared(problem):
            continue
        rng = np.random.default_rng(seed)
        found = SOLVERS[name]().solve(problem, budget=Budget(None, 1000), rng=rng)
        best = optimum(request, problem.unplanned)
        assert found.status is not Status.INFEASIBLE or best is None, seed
        if best is not None:
            assert found.lower_bound <= best.cost + 1e-6 * max(1.0, abs(best.cost)), seed
        if found.schedule is None:
            continue
        made = decode(problem, found.schedule)
        judged = evaluate(without_moves(request), made, unplanned=problem.unplanned)
        assert judged.valid, (seed, judged.violations)
        if found.status is Status.OPTIMAL:
            assert best is not None
            assert judged.cost == pytest.approx(best.cost, rel=1e-6, abs=1e-9), seed
