"""Plans of a part of the tasks: what finds room before the workers drain is planned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import Policy, Task, Worker
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.in_part import NO_ROOM
from plancast.planner.planning.plan import plan
from plancast.planner.solvers.base import Solution
from plancast.planner.solvers.greedy.greedy import Greedy
from plancast.planner.solvers.lns.lns import LargeNeighbourhood
from tests.conftest import spans
from tests.oracles.brute_force import optimum
from tests.oracles.random_requests import random_request
from tests.oracles.speed import some_try_ends_within
from tests.planner.planning.test_plan import NOW, request_of


def draining(request: PlanRequest, after_s: int) -> PlanRequest:
    """The request with workers that drain after so many seconds, the later ones a little later."""
    snapshot = request.snapshot
    workers = tuple(
        replace(worker, until_s=snapshot.now_s + after_s + 2 * k)
        for k, worker in enumerate(snapshot.workers)
    )
    return replace(request, snapshot=replace(snapshot, workers=workers))


@pytest.mark.parametrize("seeds", spans(range(60), range(60, 900)))
def test_what_finds_room_is_planned_and_nothing_else_would(seeds: range) -> None:
    """One task too many before a maintenance would leave the whole batch without a plan."""
    in_part = 0
    for seed in seeds:
        request = draining(random_request(seed, bounds=False), 4 + seed % 12)
        request = replace(request, incumbent=None, budget=Budget(None, 30))
        response = plan(request)
        assert validate_response(request, response) == [], seed
        out = {t for t, reason in response.unplanned.items() if reason == NO_ROOM}
        if out:
            in_part += 1
            assert response.status is Status.FEASIBLE
            assert response.plan is not None
            assert response.lower_bound is None
        elif response.plan is None and len(response.unplanned) < len(request.snapshot.pending):
            assert optimum(request, response.unplanned) is None, seed
    assert in_part > len(seeds) / 20


@pytest.mark.parametrize("seed", range(12))
def test_a_part_is_planned_over_scenarios_too(seed: int) -> None:
    """Plans with a model are made so; each level of the forecasts might leave out another part."""
    request = generate_batch(12, generate_cluster(2, seed), seed, gang_share=0.1)
    policy = replace(request.policy, scenarios=(0.3, 0.5, 0.9))
    request = draining(replace(request, policy=policy, budget=Budget(None, 30)), 1_500)
    response = plan(request)
    assert response.plan is not None
    assert validate_response(request, response) == []


@pytest.mark.parametrize(("drains", "bounded"), [(True, False), (True, True), (False, True)])
def test_half_of_the_budget_is_kept_where_a_part_may_be_planned(
    drains: bool, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a hard bound is in the way, an engine that finds a plan would have half as long."""
    given = []

    def nothing(*_: object, budget: Budget, **__: object) -> Solution:
        given.append(budget.seconds)
        return Solution(Status.NO_PLAN_IN_TIME)

    monkeypatch.setattr(Greedy, "solve", nothing)
    monkeypatch.setattr(LargeNeighbourhood, "solve", nothing)
    request = generate_batch(40, generate_cluster(4, 0), 0)
    policy = Policy(max_wait_s=10**6) if bounded else Policy()
    request = replace(request, policy=policy, budget=Budget(8.0))
    plan(draining(request, 10**6) if drains else request, "lns")
    halved = given[1] is not None and given[1] < 4.0
    assert halved == (drains and not bounded)


def test_the_tasks_that_matter_more_are_planned() -> None:
    """A short task of no weight could take the place of an important one."""
    worker = Worker("w", {"cpu": 1000}, until_s=NOW + 100)
    tasks = tuple(
        Task(f"t{k}", {"cpu": 1000}, weight=weight, after=after)
        for k, (weight, after) in enumerate([(1, ()), (9, ()), (1, ()), (1, ("t2",))])
    )
    seconds = {"t0": 50, "t1": 50, "t2": 60, "t3": 1}
    response = plan(request_of(tasks, seconds, (worker,)))
    assert sorted(response.unplanned) == ["t2", "t3"]
    assert set(response.unplanned.values()) == {NO_ROOM}
    response = plan(request_of(tasks[1:], seconds, (worker,)))
    assert response.plan is not None
    assert "t1" in response.plan.by_task


def test_hard_bounds_are_no_reason_to_leave_out() -> None:
    """A deadline that may not be missed would be missed, and called planned in part."""
    worker = Worker("w", {"cpu": 1000}, until_s=NOW + 1_000)
    tasks = tuple(Task(t, {"cpu": 1000}, release_s=NOW, deadline_s=NOW + 60) for t in "ab")
    policy = Policy(hard_deadlines=True)
    response = plan(request_of(tasks, {"a": 50, "b": 50}, (worker,), policy=policy))
    assert response.status is Status.INFEASIBLE


@pytest.mark.slow
def test_a_batch_larger_than_its_allocation_is_planned_within_the_budget() -> None:
    """Pilot jobs end: what does not fit would take a search's whole budget, and then some."""
    request = draining(generate_batch(180, generate_cluster(4, 3), 3), 4_000)
    request = replace(request, budget=Budget(1.0))
    found = []
    assert some_try_ends_within(1.0, lambda: found.append(plan(request)))
    response = found[-1]
    assert response.plan is not None
    assert validate_response(request, response) == []
    planned = [request.snapshot.pending_by_id[a.task] for a in response.plan.assignments]
    assert np.sum([t.weight for t in planned]) > 20
