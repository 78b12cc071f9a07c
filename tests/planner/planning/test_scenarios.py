"""Scenarios of a common level: what they are, and that plans are better over them."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    LIMIT,
    SCENARIOS,
    BadRequest,
    DurationEstimate,
    Policy,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    Budget,
    PlanRequest,
    Status,
    TaskFinished,
    from_json,
    to_json,
)
from plancast.planner.planning.controller import Choice, Controller
from plancast.planner.planning.plan import plan
from plancast.planner.planning.repair import repair
from plancast.planner.planning.scenarios import in_scenario, mean, outlooks_of, scenario_name
from plancast.planner.worlds.dispatch_arrays import arena_of
from plancast.planner.worlds.executors import ClosedLoop
from plancast.planner.worlds.pool_loop import PoolLoop, Search
from plancast.planner.worlds.simulate import execute
from tests.conftest import scaled
from tests.oracles.random_requests import random_request

LEVELS = (0.1, 0.5, 0.8, 0.95)


def backlog(tasks: int, seed: int, policy: Policy | None = None) -> PlanRequest:
    """What waits and what runs on a pool of 16 cores, with distributions and requests."""
    rng = np.random.default_rng(seed)

    def task(name: str, due: bool) -> Task:
        limit = int(rng.lognormal(8.5, 0.6)) + 60
        deadline = 10_000 + int(rng.integers(600, 20_000)) if due else None
        cores = int(rng.integers(1, 9)) * 1000
        return Task(name, {"cpu": cores}, 10_000, deadline, requested_s=limit)

    def quantiles(one: Task) -> DurationEstimate:
        middle, spread = rng.lognormal(6.5, 1.0), rng.uniform(0.3, 1.5)
        z = np.array([-1.28, 0.0, 0.84, 1.64])
        seconds = np.minimum(np.exp(np.log(middle) + spread * z), one.requested_s or np.inf)
        return DurationEstimate(LEVELS, tuple(int(s) + 1 for s in seconds), "model")

    pending = tuple(task(f"t{k}", k % 2 == 0) for k in range(tasks))
    at_work = tuple(
        Running(replace(task(f"r{k}", False), demand={"cpu": 4000}, release_s=0), ("pool",), 9_500)
        for k in range(3)
    )
    everyone = (*pending, *(r.task for r in at_work))
    return PlanRequest(
        f"backlog-{seed}",
        Snapshot(0, 10_000, (Worker("pool", {"cpu": 16_000}),), pending, at_work),
        {t.id: {"*": quantiles(t)} for t in everyone},
        policy or Policy(),
        budget=Budget(None, 1500),
        seed=seed,
    )


def truth_of(request: PlanRequest, seed: int) -> dict[str, int]:
    """True run times, drawn from the estimates; running tasks outlive their age."""
    rng = np.random.default_rng([seed, 5])
    running = request.snapshot.running_by_id
    truth = {}
    for name, by_class in request.estimates.items():
        age = request.snapshot.now_s - running[name].start_s if name in running else 0
        truth[name] = age + by_class["*"].remaining_at(float(rng.uniform(0.02, 0.98)), age)
    return truth


def test_a_scenario_is_one_level_for_all_and_the_limit_is_the_request() -> None:
    """Tasks that run would keep the reserved level, or the limit would be a quantile."""
    request = backlog(3, 1)
    low, limit = in_scenario(request, 0.3), in_scenario(request, LIMIT)
    for task in request.snapshot.pending:
        assert low.estimates[task.id]["*"].at(low.policy.level) == request.estimates[task.id][
            "*"
        ].at(0.3)
        assert limit.estimates[task.id]["*"].at(limit.policy.level) == task.requested_s
    unlimited = replace(request.snapshot.pending[0], requested_s=None)
    snapshot = replace(request.snapshot, pending=(unlimited,))
    asked = in_scenario(replace(request, snapshot=snapshot), LIMIT)
    found = asked.estimates[unlimited.id]["*"].at(asked.policy.level)
    assert found == request.estimates[unlimited.id]["*"].at(0.98)


@pytest.mark.parametrize("seed", range(3))
def test_a_plan_over_scenarios_is_valid_and_no_costlier_over_them(seed: int) -> None:
    """It would be timed at a level that nobody reserves, or lose to the plan of one level."""
    request = backlog(25, seed)
    asked = replace(request, policy=replace(request.policy, scenarios=SCENARIOS))
    plain, found = plan(request), plan(asked)
    assert plain.plan is not None
    assert validate_response(asked, found) == []
    assert list(found.scenarios) == [scenario_name(level) for level in SCENARIOS]
    seen = outlooks_of(asked)
    assert found.plan is not None
    result = seen.costs(found.plan)
    assert list(result.values()) == pytest.approx(list(found.scenarios.values()))
    assert mean(result) <= mean(seen.costs(plain.plan)) * (1 + 1e-9)
    assert plan(asked).plan == found.plan


def test_few_tasks_have_the_best_of_all_orders_at_once() -> None:
    """Whoever plans three tasks would wait for the whole budget, as if there were more to find."""
    request = backlog(4, 3, Policy(scenarios=SCENARIOS))
    found = plan(replace(request, budget=Budget(seconds=3600.0)))
    seen = outlooks_of(request)
    orders = (np.array(order) for order in permutations(range(4)))
    assert mean(found.scenarios) == min(mean(seen.costs_of_order(order)) for order in orders)
    assert found.wall_s < 600


def test_random_requests_are_planned_over_scenarios() -> None:
    """A gang, a drain, a hard bound or an incumbent would end in a traceback or a bad plan."""
    planned = 0
    for seed in range(scaled(20)):
        request = random_request(seed, preemption=False)
        policy = replace(request.policy, scenarios=(0.3, 0.7, LIMIT))
        asked = replace(request, policy=policy, budget=Budget(None, 60))
        found = plan(asked)
        assert validate_response(asked, found) == [], seed
        planned += found.status in (Status.FEASIBLE, Status.OPTIMAL)
    assert planned > scaled(10)


def test_unlike_workers_are_planned_over_scenarios_too() -> None:
    """Scenarios would be a thing of pools alone."""
    request = generate_batch(40, generate_cluster(6, 3), 3)
    policy = replace(request.policy, scenarios=(0.3, 0.9))
    asked = replace(request, policy=policy, budget=Budget(None, 600))
    found = plan(asked)
    assert validate_response(asked, found) == []
    assert list(found.scenarios) == ["p30", "p90"]
    assert found.scenarios["p30"] < found.scenarios["p90"]


def test_the_scenarios_of_a_policy_are_checked_and_travel_as_json() -> None:
    """A level of 0 or one given twice would be priced in silence."""
    for wrong in ((0.0,), (1.2,), (0.5, 0.5)):
        with pytest.raises(BadRequest, match="scenario"):
            Policy(scenarios=wrong)
    request = backlog(2, 0, Policy(scenarios=SCENARIOS))
    assert from_json(PlanRequest, to_json(request)).policy == request.policy


def test_the_default_reservation_is_not_the_median() -> None:
    """Half of the tasks would outlive what is reserved for them."""
    assert Policy().level == 0.8


@pytest.mark.parametrize("seed", range(4))
def test_without_thoughts_the_loop_is_the_executor_in_plan_order(seed: int) -> None:
    """The open and the closed loop would differ in more than their thoughts."""
    request = backlog(30, seed)
    made, truth = plan(request, "greedy").plan, truth_of(request, seed)
    assert made is not None
    arena = arena_of(request, truth)
    loop = PoolLoop(arena, made, (), Search(moves=0), 0)
    assert arena.outcome(loop.execute()).by_task == execute(request, made, truth).by_task


def test_the_future_reaches_no_decision_on_a_pool() -> None:
    """A run time that nobody has seen would have changed a start: it would be cheating."""
    request = backlog(30, 7, Policy(scenarios=SCENARIOS))
    made, truth = plan(request, "greedy").plan, truth_of(request, 7)
    assert made is not None
    loop = ClosedLoop(search=Search(moves=60))
    first = loop(request, made, truth).plan
    moment = sorted(a.end_s for a in first.assignments)[12]
    other = {
        task: seconds * 3 if first.by_task[task].end_s > moment else seconds
        for task, seconds in truth.items()
    }
    second = loop(request, made, other).plan
    before = {a.task: a.start_s for a in first.assignments if a.start_s <= moment}
    assert len(before) > 12
    assert {t: second.by_task[t].start_s for t in before} == before


def test_the_master_searches_the_order_when_room_comes_free() -> None:
    """It would keep the plan until it is much costlier, as if nothing had been learned."""
    request = backlog(12, 2, Policy(scenarios=SCENARIOS))
    master = Controller(request)
    asked = master.ask(Choice.REPLAN)
    master.commit(asked, plan(asked), Choice.REPLAN)
    assert not master.room_changed
    master.advance(10_100)
    master.tell(TaskFinished(10_100, "r0"))
    decision, response = master.rethought()
    assert decision.choice is Choice.REPAIR
    assert response.scenarios
    assert "room" in decision.reason
    master.commit(master.ask(decision.choice), response, decision.choice)
    assert master.plan == response.plan
    assert "room" not in master.decide().reason


def test_a_repair_over_scenarios_is_no_costlier_than_a_plain_one() -> None:
    """A search from the order in force would lose what it started from."""
    request = backlog(20, 4)
    made = plan(request, "greedy").plan
    policy = replace(request.policy, scenarios=SCENARIOS)
    asked = replace(request, incumbent=made, policy=policy)
    plain, found = repair(replace(asked, policy=request.policy)), repair(asked)
    assert validate_response(asked, found) == []
    seen = outlooks_of(asked)
    assert plain.plan is not None
    assert found.plan is not None
    assert mean(seen.costs(found.plan)) <= mean(seen.costs(plain.plan)) * (1 + 1e-9)
