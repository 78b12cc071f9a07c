"""Plans against the distribution of run times: sampling, execution, choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    Budget,
    PlanRequest,
    PlanResponse,
    Status,
    from_json,
    to_json,
)
from plancast.planner.model.violations import ViolationKind
from plancast.planner.planning.partial_order import partial_order
from plancast.planner.planning.plan import plan
from plancast.planner.planning.risk import RiskMeasure, Samples, plan_under_risk, sampled_costs
from tests.conftest import spans
from tests.oracles.brute_force import optimum
from tests.oracles.random_requests import random_request

STEPS = Budget(None, 500)
certain = DurationEstimate.certain

MAY_HAPPEN = {
    ViolationKind.WORKER_BLOCKED,
    ViolationKind.WORKER_DRAINED,
    ViolationKind.HARD_DEADLINE,
    ViolationKind.WAIT_BOUND,
    ViolationKind.STRETCH_BOUND,
}
"""What an overrun may break, and nobody can help."""


@pytest.mark.parametrize("seeds", spans(range(40), range(120)))
def test_sampled_costs_are_the_evaluators(seeds: range) -> None:
    """A plan would be chosen by a price that no execution has."""
    seen = 0
    for seed in seeds:
        request = random_request(seed)
        response = plan(request, "greedy")
        if response.plan is None:
            continue
        order = partial_order(request, response.plan)
        samples = Samples(request, 4, seed=seed)
        costs = sampled_costs(order, samples)
        for k in range(4):
            run_s = np.ones(len(order.tasks), np.int64)
            end_s = order.ends.copy()
            for i, task in enumerate(order.tasks):
                if i < order.placed:
                    run_s[i] = samples.run_s(task.id, order.workers[i])[k]
                else:
                    end_s[i] = samples.end_s(task.id)[k]
            ran = order.executed(run_s, end_s)
            found = evaluate(request, ran, unplanned=response.unplanned, realised=True)
            # ``moves`` are the plan's: an execution has a start for everything.
            moves = evaluate(request, response.plan).terms["moves"] - found.terms["moves"]
            cost = found.cost + request.policy.prices.moves * moves
            assert costs[k] == pytest.approx(cost, rel=1e-9, abs=1e-12)
            assert {v.kind for v in found.violations} <= MAY_HAPPEN, found.violations
            seen += 1
    assert seen > 2.5 * len(seeds)


@pytest.mark.parametrize("seeds", spans(range(50), range(150)))
def test_with_the_planned_durations_nothing_starts_later(seeds: range) -> None:
    """The order drawn from a plan would not be the plan's."""
    for seed in seeds:
        request = random_request(seed)
        response = plan(request, "greedy")
        if response.plan is None:
            continue
        order = partial_order(request, response.plan)
        again = order.executed(order.planned)
        assert evaluate(request, again, unplanned=response.unplanned).valid
        for row in response.plan.assignments:
            assert again.by_task[row.task].start_s <= row.start_s
        assert again.preempted == response.plan.preempted


@pytest.mark.parametrize("seeds", spans(range(3), range(8)))
def test_certain_run_times_give_the_plain_plan(seeds: range) -> None:
    """Where nothing is uncertain, risk would still change the plan."""
    for seed in seeds:
        request = generate_batch(8, generate_cluster(3, seed), seed, sigma=0.0)
        request = replace(request, budget=STEPS)
        plain = plan(request)
        risky = plan_under_risk(request, RiskMeasure(0.9), samples=20)
        assert risky.cost == pytest.approx(plain.cost, rel=1e-9)
        assert risky.risk is not None
        for value in (risky.risk.value, risky.risk.mean, risky.risk.worst, risky.risk.plain):
            assert value == pytest.approx(risky.cost, rel=1e-9)


@pytest.mark.parametrize("seeds", spans(range(5), range(12)))
@pytest.mark.parametrize("text", ["mean", "cvar:0.5", "cvar:0.9"])
def test_never_riskier_than_the_plain_plan(text: str, seeds: range) -> None:
    """The plan taken would be worse than the plain one by the very measure that was asked for."""
    measure = RiskMeasure.parse(text)
    better = 0
    for seed in seeds:
        request = (
            random_request(seed)
            if seed % 2
            else generate_batch(12, generate_cluster(3, seed), seed, sigma=1.0, due_share=0.6)
        )
        request = replace(request, budget=Budget(None, 300))
        response = plan_under_risk(request, measure, samples=50)
        assert validate_response(request, response) == []
        if response.plan is None:
            continue
        report = response.risk
        assert report is not None
        assert report.measure == text
        assert report.value <= report.plain
        assert report.mean <= report.cvar_90 * (1 + 1e-12) <= report.worst * (1 + 1e-9)
        again = sampled_costs(partial_order(request, response.plan), Samples(request, 50))
        assert measure.of(again) == pytest.approx(report.value)
        better += report.value < report.plain * (1 - 1e-6)
    assert better > 0


def gamble() -> PlanRequest:
    """A task on a fast class that sometimes takes forever, or on a slow one that never does."""
    workers = (
        Worker("fast", {"cpu": 1}, machine_class="fast"),
        Worker("slow", {"cpu": 1}, machine_class="slow"),
    )
    estimates = {
        "t": {"fast": DurationEstimate((0.5, 0.8, 0.99), (100, 110, 9000)), "slow": certain(200)}
    }
    prices = Prices(makespan_h=1, late_h=0, misses=0, wait_h=0)
    snapshot = Snapshot(1, 0, workers, (Task("t", {"cpu": 1}),))
    return PlanRequest("gamble", snapshot, estimates, Policy(prices), budget=STEPS)


def test_a_risk_averse_planner_pays_for_certainty() -> None:
    """The tail of a run time would not count."""
    plain = plan(gamble())
    assert plain.plan is not None
    assert plain.plan.by_task["t"].workers == ("fast",)
    averse = plan_under_risk(gamble(), RiskMeasure(0.9))
    assert averse.plan is not None
    assert averse.plan.by_task["t"].workers == ("slow",)
    assert averse.status is Status.FEASIBLE
    assert averse.risk is not None
    assert averse.risk.value == pytest.approx(200 / 3600)
    assert averse.risk.plain > 10 * averse.risk.value


@pytest.mark.parametrize("seeds", spans(range(6), range(20)))
def test_a_frozen_order_is_near_the_optimum_of_the_truth(seeds: range) -> None:
    """Promise 2: cost(p) <= w beta^2 OPT(p) for makespan and weighted sum of ends.

    beta is the largest ratio of true to planned run time, either way.
    """
    rng = np.random.default_rng(5)
    for seed in seeds:
        request = random_request(
            seed, max_tasks=4, running=False, incumbent=False, drains=False, blocked=False,
            free_from=False, bounds=False, deadlines=False, spread=False, misfits=False,
            classes=False, releases=False, max_duration_s=6,
        )  # fmt: skip
        for prices in (
            Prices(makespan_h=3600, late_h=0, misses=0, wait_h=0),
            Prices(makespan_h=0, late_h=0, misses=0, wait_h=3600),
        ):
            # All are released now: the wait is the start, and the end is that and a constant.
            pending = tuple(
                replace(t, release_s=request.snapshot.now_s) for t in request.snapshot.pending
            )
            asked = replace(
                request,
                snapshot=replace(request.snapshot, pending=pending),
                policy=Policy(prices),
                budget=Budget(None, 100_000),
            )
            truth_s = {
                t.id: max(1, round(asked.estimates[t.id]["*"].at(0.5) * rng.choice([0.5, 1, 2])))
                for t in pending
            }
            planned_s = {t.id: asked.estimates[t.id]["*"].at(0.5) for t in pending}
            ratios = [truth_s[n] / planned_s[n] for n in truth_s]
            beta = max(max(ratios), 1 / min(ratios))
            weight = 1.2
            response = plan(asked, "astar", weight=weight)
            assert response.plan is not None
            order = partial_order(asked, response.plan)
            run_s = np.array([truth_s[t.id] for t in order.tasks], np.int64)
            ran = order.executed(run_s)
            true_request = replace(
                asked, estimates={n: {"*": certain(s)} for n, s in truth_s.items()}
            )
            best = optimum(true_request)
            assert best is not None

            def value(plan_: Plan, asked: PlanRequest = asked, prices: Prices = prices) -> float:
                now = asked.snapshot.now_s
                ends = {a.task: a.end_s - now for a in plan_.assignments}
                if prices.makespan_h:
                    return max(ends.values())
                return sum(t.weight * ends[t.id] for t in asked.snapshot.pending)

            assert value(ran) <= weight * beta**2 * value(best.plan) + 1e-9


def test_measures() -> None:
    """A tenth would be counted wrongly, or a level be read as another."""
    costs = np.arange(1.0, 11.0)
    assert RiskMeasure.parse("mean").of(costs) == 5.5
    assert RiskMeasure(0.9).of(costs) == pytest.approx(10.0)
    assert RiskMeasure(0.8).of(costs) == pytest.approx(9.5)
    assert RiskMeasure(0.85).of(costs) == pytest.approx((10 + 0.5 * 9) / 1.5)
    assert str(RiskMeasure.parse("cvar:0.9")) == "cvar:0.9"
    for wrong in ("cvar", "cvar:1", "cvar:x", "median", "mean:0.5", ""):
        with pytest.raises(BadRequest, match="risk"):
            RiskMeasure.parse(wrong)


def test_samples_are_stratified_and_repeatable() -> None:
    """Two plans would be compared under different luck."""
    request = gamble()
    first, second = Samples(request, 100), Samples(request, 100)
    assert (first.run_s("t", ["fast"]) == second.run_s("t", ["fast"])).all()
    assert sorted(np.floor(first.level["t"] * 100).astype(int)) == list(range(100))
    assert 45 <= int((first.run_s("t", ["fast"]) > 100).sum()) <= 55
    with pytest.raises(BadRequest, match="samples"):
        Samples(request, 0)


def test_the_report_survives_json() -> None:
    """The master would not learn what was chosen, and by what."""
    response = plan_under_risk(gamble(), RiskMeasure(), samples=30)
    assert from_json(PlanResponse, to_json(response)) == response
    again = plan_under_risk(gamble(), RiskMeasure(), samples=30)
    assert replace(again, wall_s=0.0) == replace(response, wall_s=0.0)


def test_on_a_worker_that_is_over_capacity_all_that_runs_must_end() -> None:
    """A sampled execution would let a task in while what runs still takes more than there is."""
    runs = tuple(Running(Task(f"r{k}", {"cpu": 800}, -10), ("w",), -10) for k in range(2))
    snapshot = Snapshot(0, 0, (Worker("w", {"cpu": 1000}),), (Task("t", {"cpu": 100}, 0),), runs)
    estimates = {"r0": {"*": certain(20)}, "r1": {"*": certain(40)}, "t": {"*": certain(5)}}
    request = PlanRequest("crowd", snapshot, estimates)
    made = plan(request, "greedy").plan
    assert made is not None
    order = partial_order(request, made)
    assert set(order.link[order.link_ptr[0] : order.link_ptr[1]].tolist()) == {1, 2}
