"""Executors under error: what they may know, what they may not lose, what they believe."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.backtest.execute_batch import (
    Sweep,
    means,
    read_batch,
    sweep,
    truth_of,
    with_errors,
)
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest, Plan
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, to_json
from plancast.planner.planning.plan import plan
from plancast.planner.worlds.dispatch_arrays import Outage
from plancast.planner.worlds.executors import EXECUTORS, ClosedLoop, online, static
from plancast.planner.worlds.shrinkage import believe
from tests.planner.instances.test_cluster import small


def batch(tasks: int = 60, seed: int = 0, gang_share: float = 0.1) -> PlanRequest:
    """A seeded batch on eight workers."""
    return generate_batch(tasks, generate_cluster(8, seed), seed, gang_share=gang_share)


def planned(request: PlanRequest) -> Plan:
    """Its greedy plan."""
    made = plan(request, "greedy").plan
    assert made is not None
    return made


QUICK = {**EXECUTORS, "closed": ClosedLoop(scenarios=(0.3, 0.5, 0.9), thoughts=6, moves=30)}
"""Every executor, none of which thinks long."""


def test_every_executor_is_tried() -> None:
    """A new executor would go untested."""
    assert list(QUICK) == list(EXECUTORS)


@pytest.mark.parametrize(
    "bound", [{"hard_deadlines": True}, {"max_wait_s": 600}, {"max_stretch": 90.0}]
)
def test_bounds_that_no_execution_can_promise_are_refused(bound: dict[str, Any]) -> None:
    """A task that ran longer than forecast would end the comparison with a traceback."""
    request = batch(5)
    bounded = replace(request, policy=replace(request.policy, **bound))
    with pytest.raises(BadRequest, match=f"has {next(iter(bound))}.*, which no .* leave it out"):
        truth_of(bounded)
    assert set(truth_of(request)) == {task.id for task in request.snapshot.pending}


@pytest.mark.parametrize("name", QUICK)
def test_what_ran_is_valid_and_complete(name: str) -> None:
    """An executor would lose a task or break a rule under errors, or when workers fail."""
    request = batch()
    truth = truth_of(request)
    noisy = with_errors(request, truth, 0.8, 1)
    now = request.snapshot.now_s
    outages = (Outage("w3", now + 100, now + 400), Outage("w5", now + 50, now + 900, kills=False))
    for away in ((), outages):
        ran = QUICK[name](noisy, planned(noisy), truth, away)
        found = evaluate(request, ran.plan, realised=True)
        assert found.violations == ()
        for a in ran.plan.assignments:
            seconds = max(truth[a.task][request.snapshot.worker_by_id[w].machine_class]
                          for w in a.workers)  # fmt: skip
            assert a.end_s - a.start_s == seconds
            for o in away:
                if o.worker in a.workers:
                    assert a.start_s < o.at_s or a.start_s >= o.back_s
                    assert not o.kills or a.end_s <= o.at_s or a.start_s >= o.back_s


@pytest.mark.parametrize("name", QUICK)
def test_the_future_reaches_no_executor(name: str) -> None:
    """A run time that nobody has seen would have changed a decision: it would be cheating."""
    request = batch(80, 3)
    truth = truth_of(request)
    noisy = with_errors(request, truth, 0.5, 3)
    made = planned(noisy)
    first = QUICK[name](noisy, made, truth, ()).plan
    ends = sorted(a.end_s for a in first.assignments)
    moment = ends[len(ends) // 3]
    other = {
        task: {c: 3 * s for c, s in by_class.items()}
        if first.by_task[task].end_s > moment
        else by_class
        for task, by_class in truth.items()
    }
    second = QUICK[name](noisy, made, other, ()).plan
    before = {a.task: (a.workers, a.start_s) for a in first.assignments if a.start_s <= moment}
    assert len(before) > 20
    assert {t: (second.by_task[t].workers, second.by_task[t].start_s) for t in before} == before


def test_a_plan_carried_out_with_perfect_forecasts_is_the_plan() -> None:
    """Static execution would lose something even where nothing goes wrong."""
    request = batch()
    truth = truth_of(request)
    exact = with_errors(request, truth, 0.0, 0)
    made = planned(exact)
    ran = static(exact, made, truth)
    cost = evaluate(exact, made).cost
    assert evaluate(exact, ran.plan, realised=True).cost <= cost * (1 + 1e-9)


def test_the_closed_loop_repeats_itself() -> None:
    """The same batch and seed would give another execution."""
    request = batch()
    truth = truth_of(request)
    noisy = with_errors(request, truth, 0.6, 0)
    loop = ClosedLoop(thoughts=6, moves=50, seed=4)
    assert loop(noisy, planned(noisy), truth) == loop(noisy, planned(noisy), truth)


@pytest.mark.slow
def test_thinking_anew_beats_a_plan_under_great_errors_and_keeps_it_under_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The closed loop would not be worth its name."""
    loop = ClosedLoop(thoughts=12, moves=200)
    monkeypatch.setitem(EXECUTORS, "closed", loop)
    found = sweep(batch(120, 5, 0.0), Sweep((0.0, 1.0), seeds=1, budget=Budget(None, 100)))
    mean = means(found)
    assert mean["closed"][0.0] <= 1.03 * min(mean["static"][0.0], mean["online"][0.0])
    assert mean["closed"][1.0] <= 0.9 * mean["static"][1.0]
    assert mean["closed"][1.0] <= 1.05 * mean["online"][1.0]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_a_belief_finds_the_error_although_most_tasks_run_still(sigma: float) -> None:
    """The executor would trust what it should not, or take the short ends for all."""
    rng = np.random.default_rng(0)
    truth = np.exp(rng.normal(5.5, 0.9, 3000))
    forecast = truth * np.exp(sigma * rng.standard_normal(3000) - sigma**2 / 2)
    cut = 150.0
    found = believe(forecast, np.minimum(truth, cut), truth <= cut, 0.3)
    slope = 0.81 / (0.81 + sigma**2)
    assert abs(found.slope - slope) < 0.06
    assert abs(found.spread - 0.9 * np.sqrt(1 - slope)) < 0.06
    drawn = found.quantile(forecast, np.full(3000, 100.0), rng.random(3000))
    assert (drawn >= 100 - 1e-6).all()


def test_what_has_waited_to_be_refuted_is_refuted() -> None:
    """A task far past its forecast would be believed to end in no time, or never."""
    found = believe(np.array([100.0]), np.array([100.0]), np.array([True]), 0.3)
    left = found.quantile(np.array([100.0]), np.array([1e5]), 0.5) - 1e5
    assert 0 < left[0] < 1e5


def test_bad_settings_are_one_sentence() -> None:
    """A wrong sigma, executor, setting or an incomplete plan would end in a traceback."""
    with pytest.raises(BadRequest, match="--sigma -1"):
        Sweep(sigmas=(-1.0,))
    with pytest.raises(BadRequest, match="no such executor; choose of static, online, closed"):
        Sweep(executors=("psychic",))
    with pytest.raises(BadRequest, match="thoughts"):
        ClosedLoop(thoughts=0)
    request = batch(5)
    with pytest.raises(BadRequest, match="leaves out task"):
        static(request, Plan(()), truth_of(request))
    assert online(request, Plan(()), truth_of(request)).plan.assignments


def test_a_batch_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    """A packed request was refused as a cluster file, a renamed cluster file as a request."""
    request = batch(3)
    for name in ("request.json.gz", "cluster-1.json", "cluster-1.json.gz"):
        content = to_json(request)
        (tmp_path / name).write_bytes(gzip.compress(content) if "gz" in name else content)
        assert read_batch(tmp_path / name) == request
    (tmp_path / "mine.json").write_text(json.dumps(small()))
    assert read_batch(tmp_path / "mine.json").snapshot.workers
    with pytest.raises(BadRequest, match=r"none\.json: there is no such file"):
        read_batch(tmp_path / "none.json")
