"""Preemption of running tasks at the time of planning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.model.domain import (
    DurationEstimate,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status, to_json
from plancast.planner.planning.in_part import NO_ROOM
from plancast.planner.planning.plan import plan
from plancast.planner.planning.preempt import bound_of_any_set, preemptible, preempting
from tests.conftest import spans
from tests.oracles.brute_force import optimum_with_preemption
from tests.oracles.random_requests import random_request, related

NOW = 1000
EXACT = Budget(None, 1_000_000)
certain = DurationEstimate.certain


def loose_requests(seeds: range) -> Iterator[PlanRequest]:
    """Small requests with tasks that may be preempted, and no plan in force."""
    for seed in seeds:
        request = random_request(seed, max_tasks=3, incumbent=False)
        prices = replace(request.policy.prices, moves=float(seed % 4 == 0))
        request = replace(request, policy=replace(request.policy, prices=prices), budget=EXACT)
        if preemptible(request):
            yield request


@pytest.mark.parametrize("seeds", spans(range(20_000, 20_120), range(20_000, 20_330)))
def test_brute_force_over_all_sets_agrees(seeds: range) -> None:
    """A set of tasks whose preemption pays would be missed, or a plan be called optimal wrongly."""
    seen = stopped = impossible = 0
    for request in loose_requests(seeds):
        best = optimum_with_preemption(request)
        response = plan(request, "astar")
        assert validate_response(request, response) == []
        seen += 1
        waiting = request.snapshot.pending_by_id
        if best is None or (waiting and waiting.keys().isdisjoint(best[1].by_task)):
            # Brute force knows no plans of a part of the tasks.
            in_part = NO_ROOM in response.unplanned.values()
            assert in_part or response.status is Status.INFEASIBLE
            impossible += not in_part
            continue
        (left_out, cost), _ = best
        assert response.plan is not None
        weights = {t.id: t.weight for t in request.snapshot.pending}
        assert sum(weights[name] for name in response.unplanned) == left_out
        assert response.cost == pytest.approx(cost, rel=1e-6, abs=1e-9)
        assert response.lower_bound is not None
        assert response.lower_bound <= cost * (1 + 1e-9) + 1e-9
        assert response.status is Status.OPTIMAL
        stopped += bool(response.plan.preempted)
    assert seen > len(seeds) / 8
    assert stopped > len(seeds) / 100
    assert impossible > 0


def homeless_requests(seeds: range) -> Iterator[PlanRequest]:
    """Small requests in which some but not all tasks have no place unless others are preempted.

    Pending tasks follow running ones, and many workers drain soon.
    """
    for seed in seeds:
        request = random_request(seed, max_tasks=3, max_workers=2, incumbent=False)
        snapshot = request.snapshot
        rng = np.random.default_rng(seed)

        def coin(chance: float, rng: np.random.Generator = rng) -> bool:
            return bool(rng.random() < chance)

        workers = tuple(
            replace(w, until_s=snapshot.now_s + int(rng.integers(2, 8))) if coin(0.6) else w
            for w in snapshot.workers
        )
        running = tuple(
            replace(r, task=replace(r.task, preemptible=coin(0.8))) for r in snapshot.running
        )
        pending = tuple(
            replace(
                t,
                after=tuple(dict.fromkeys([*t.after, *(r.task.id for r in running if coin(0.5))])),
            )
            for t in snapshot.pending
        )
        prices = replace(request.policy.prices, moves=float(seed % 4 == 0))
        request = replace(
            request,
            snapshot=replace(snapshot, workers=workers, running=running, pending=pending),
            policy=replace(request.policy, prices=prices),
            budget=EXACT,
        )
        if preemptible(request) and 0 < len(encode(request).unplanned) < len(pending):
            yield request


def test_what_only_a_stop_makes_room_for_is_not_left_out_too() -> None:
    """A plan of a part of the tasks named one that it plans among those that have no place."""
    (request,) = homeless_requests(range(62_868, 62_869))
    response = plan(request, "astar")
    assert response.plan is not None
    assert response.plan.preempted
    assert response.plan.by_task.keys() & encode(request).unplanned.keys()
    assert validate_response(request, response) == []


def assert_no_set_is_better(request: PlanRequest) -> bool:
    """Check a plan by brute force over all sets of tasks to preempt; whether it stops any."""
    best = optimum_with_preemption(request)
    response = plan(request, "astar")
    assert validate_response(request, response) == []
    waiting = request.snapshot.pending_by_id
    if best is None or (waiting and waiting.keys().isdisjoint(best[1].by_task)):
        in_part = NO_ROOM in response.unplanned.values()
        assert in_part or response.status is Status.INFEASIBLE
        return False
    (left_out, cost), _ = best
    assert response.plan is not None
    assert sum(waiting[name].weight for name in response.unplanned) == left_out
    assert response.cost == pytest.approx(cost, rel=1e-6, abs=1e-9)
    assert response.lower_bound is not None
    assert response.lower_bound <= cost * (1 + 1e-9) + 1e-9
    return bool(response.plan.preempted)


@pytest.mark.parametrize("seeds", spans(range(30_000, 30_400), range(30_000, 80_000)))
def test_tasks_without_a_place_do_not_rule_out_a_set(seeds: range) -> None:
    """A set would be written off, and another plan called optimal, for a task left out anyway."""
    stopped = [assert_no_set_is_better(r) for r in homeless_requests(seeds)]
    assert len(stopped) > len(seeds) / 10
    assert sum(stopped) > len(seeds) / 300


def related_requests(seeds: range) -> Iterator[PlanRequest]:
    """Small requests with tasks that may be preempted, and all that couples tasks and pieces."""
    for seed in seeds:
        request = related(
            random_request(seed, 3, 2, incumbent=False, counted=bool(seed % 3 == 0)), seed
        )
        if preemptible(request):
            yield replace(request, budget=EXACT)


@pytest.mark.parametrize("seeds", spans(range(50_200, 50_320), range(50_200, 53_500)))
def test_sets_are_weighed_where_tasks_are_related(seeds: range) -> None:
    """A preempted task's followers, licences or neighbours would be taken for as they were."""
    stopped = [assert_no_set_is_better(r) for r in related_requests(seeds)]
    assert len(stopped) > len(seeds) / 9
    assert sum(stopped) > len(seeds) / 100


def test_the_bound_over_any_set_holds() -> None:
    """With many preemptible tasks the bound would be above some plan that stops others."""
    seen = 0
    for request in loose_requests(range(21_000, 21_150)):
        best = optimum_with_preemption(request)
        if best is not None and best[0][0] == 0:
            assert bound_of_any_set(request, preemptible(request)) <= best[0][1] + 1e-9
            seen += 1
    assert seen > 20


def crowded(running: int, seconds: float | None = None, moves: float = 0.0) -> PlanRequest:
    """Long preemptible tasks that hold all workers, and short urgent ones that wait."""
    workers = tuple(Worker(f"w{k}", {"cpu": 1000}, boot_kwh=1.0) for k in range(running))
    runs = tuple(
        Running(
            Task(f"r{k}", {"cpu": 1000}, NOW - 10 * k, preemptible=True), (f"w{k}",), NOW - 10 * k
        )
        for k in range(running)
    )
    urgent = tuple(
        Task(f"t{k}", {"cpu": 1000}, NOW, NOW + 20, weight=10.0)
        for k in range(max(1, running // 2))
    )
    estimates = {r.task.id: {"*": certain(2000)} for r in runs}
    estimates |= {t.id: {"*": certain(10)} for t in urgent}
    prices = Prices(makespan_h=1, late_h=100, misses=10, wait_h=1, kwh=1, moves=moves)
    return PlanRequest(
        "crowded", Snapshot(3, NOW, workers, urgent, runs), estimates, Policy(prices),
        budget=Budget(seconds, None if seconds else 2000),
    )  # fmt: skip


def test_an_urgent_task_takes_the_place_of_one_that_has_hardly_begun() -> None:
    """Urgent work would wait for an hour behind what could be run again."""
    request = crowded(2)
    response = plan(request, "astar")
    assert response.plan is not None
    assert response.plan.preempted == ("r0",)
    assert response.terms["misses"] == 0
    assert response.terms["moves"] == 1.0
    assert response.terms["kwh"] == 0  # its worker is on already
    assert validate_response(request, response) == []
    dear = plan(crowded(2, moves=1e4), "astar")
    assert dear.plan is not None
    assert dear.plan.preempted == ()


def test_a_hard_deadline_that_only_preemption_can_keep() -> None:
    """Impossible would be said of what stopping one task makes possible."""
    request = crowded(1)
    request = replace(request, policy=replace(request.policy, hard_deadlines=True))
    response = plan(request)
    assert response.plan is not None
    assert response.plan.preempted == ("r0",)
    held = replace(
        request.snapshot.running[0],
        task=replace(request.snapshot.running[0].task, preemptible=False),
    )
    assert plan(replace(request, snapshot=replace(request.snapshot, running=(held,)))).plan is None


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["greedy", "lns", "astar"])
def test_many_preemptible_tasks(solver: str) -> None:
    """With more than a few, sets would be tried forever, or none at all."""
    request = crowded(8)
    first, second = (replace(plan(request, solver), wall_s=0.0) for _ in range(2))
    assert to_json(first) == to_json(second)
    assert first.plan is not None
    assert len(first.plan.preempted) > 1
    assert validate_response(request, first) == []
    kept = plan(preempting(request, ()), solver)
    assert kept.cost is not None
    assert first.cost is not None
    assert first.cost < kept.cost / 2


def test_the_budget_is_shared_among_the_sets() -> None:
    """Each set would take the whole budget, and the answer come many times too late."""
    request = crowded(6, seconds=1.0)
    plan(replace(request, budget=Budget(0.01)), "lns")
    response = plan(request, "lns")
    assert response.wall_s < 2.0  # generous for a loaded machine
    assert response.plan is not None
    assert evaluate(request, response.plan).valid


def test_a_task_whose_predecessor_is_forgotten_is_not_preempted() -> None:
    """The new request would name a task that nobody knows."""
    request = crowded(1)
    run = request.snapshot.running[0]
    orphan = replace(run, task=replace(run.task, after=("long-gone",)))
    request = replace(request, snapshot=replace(request.snapshot, running=(orphan,)))
    assert preemptible(request) == []
    response = plan(request)
    assert response.plan is not None
    assert response.plan.preempted == ()
