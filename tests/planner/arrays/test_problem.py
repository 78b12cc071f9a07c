"""The door between friendly and fast: arrays, and back, and what cannot be planned."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Schedule, decode
from plancast.planner.arrays.schedule import FAR
from plancast.planner.model.domain import (
    Assignment,
    DurationEstimate,
    Finished,
    Outcome,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from tests.conftest import scaled, spans
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.random_requests import random_request
from tests.oracles.valid_schedules import plannable, priced_alone, random_schedules


@pytest.mark.parametrize("seeds", spans(range(80), range(400)))
def test_terms_and_validity_of_random_schedules(seeds: range) -> None:
    """The kernel would price a schedule unlike the evaluator, or place what the evaluator bars."""
    rng = np.random.default_rng(0)
    seen = 0
    for problem in plannable(seeds):
        alone = priced_alone(problem)
        for schedule in random_schedules(problem, rng, 3):
            plan = decode(problem, schedule)
            request = without_moves(problem.request)
            found = evaluate(request, plan, unplanned=problem.unplanned)
            assert found.valid, found.violations
            for term, one in alone.items():
                mine = one.cost(schedule)
                assert mine == pytest.approx(found.terms[term], rel=1e-9, abs=1e-12), term
            assert problem.cost(schedule) == pytest.approx(found.cost, rel=1e-9, abs=1e-12)
            seen += 1
    assert seen > 1.25 * len(seeds)


def alone(request: PlanRequest, task: Task) -> PlanRequest:
    """The request with only this task pending, and its predecessors out of the way."""
    known = {r.task.id for r in request.snapshot.running}
    known |= {f.id for f in request.snapshot.finished if f.outcome is Outcome.COMPLETED}
    freed = replace(task, after=tuple(b for b in task.after if b in known))
    return replace(request, incumbent=None, snapshot=replace(request.snapshot, pending=(freed,)))


def test_what_is_called_unplaceable_is() -> None:
    """A task that could run would be dropped from every plan."""
    causes: Counter[str] = Counter()
    for seed in range(scaled(300)):
        request = random_request(seed)
        problem = encode(request)
        for task_id, reason in {**problem.unplanned, **problem.infeasible}.items():
            causes[reason.split()[1]] += 1
            if reason.startswith("its predecessor") or "predecessors keep" in reason:
                continue  # alone it may have a place
            task = request.snapshot.pending_by_id[task_id]
            assert optimum(alone(request, task)) is None, (seed, task_id, reason)
        if problem.infeasible:
            assert optimum(request, problem.unplanned) is None
    assert len(causes) >= 4
    assert sum(causes.values()) > scaled(30)


def test_what_has_a_place_is_kept() -> None:
    """A task without any place would be handed to solvers, and no plan ever be found."""
    seen = 0
    for problem in plannable(range(200)):
        if problem.request.policy.hard_deadlines or problem.request.policy.max_wait_s is not None:
            continue
        for task in problem.tasks:
            if task.shards == 1:  # for a gang encode proves less, and says so
                assert optimum(alone(problem.request, task)) is not None, task.id
                seen += 1
    assert seen > 200


NOW = 500


def small(task: Task, worker: Worker | None = None, **more: object) -> PlanRequest:
    """One task of 10 s on one worker."""
    snapshot = Snapshot(
        1,
        NOW,
        (worker or Worker("w", {"cpu": 2000}, labels=frozenset({"ssd"})),),
        (task,),
        **more,  # type: ignore[arg-type]
    )
    estimates = {"t": {"*": DurationEstimate.certain(10)}, "r": {"*": DurationEstimate.certain(30)}}
    return PlanRequest("small", snapshot, estimates)


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (small(Task("t", {"cpu": 3000})), "it needs 3 cores; the largest worker it may use has 2"),
        (small(Task("t", {"fpga": 1})), "needs 1 of fpga"),
        (small(Task("t", {}, requires=("gpu",))), "requires label 'gpu', which no worker has"),
        (small(Task("t", {"cpu": 1500}, shards=2)), "2 shards need to run at once"),
        (
            small(Task("t", {}), Worker("w", {}, until_s=NOW + 9)),
            "every worker that could hold it drains",
        ),
        (
            small(
                Task("t", {}, after=("f",)),
                finished=(Finished("f", NOW - 1, Outcome.FAILED),),
            ),
            "its predecessor f ended as failed",
        ),
    ],
)  # fmt: skip
def test_reasons(request_: PlanRequest, part: str) -> None:
    """The operator would be told the wrong reason why a task has no place."""
    assert part in encode(request_).unplanned["t"]


def test_no_estimate() -> None:
    """A task without an estimate for any class would be planned with a made-up duration."""
    request = replace(small(Task("t", {})), estimates={})
    assert "no run-time estimate" in encode(request).unplanned["t"]


def test_hard_deadline_is_no_reason_to_drop_a_task() -> None:
    """A deadline that cannot be kept would silently drop its task instead of failing the plan."""
    request = small(Task("t", {}, deadline_s=NOW + 9))
    hard = replace(request, policy=Policy(hard_deadlines=True))
    assert not encode(request).infeasible
    assert "hard deadline" in encode(hard).infeasible["t"]
    assert not encode(hard).unplanned


def test_times_count_from_now() -> None:
    """Releases, deadlines and ends of running tasks would be off by the time of planning."""
    request = small(
        Task("t", {"cpu": 500}, release_s=NOW + 3, deadline_s=NOW + 50, after=("r",)),
        running=(Running(Task("r", {"cpu": 1000}), ("w",), NOW - 4),),
    )
    problem = encode(request)
    assert problem.raw_release.tolist() == [3]
    assert problem.release.tolist() == [26]  # 30 s of which 4 are over
    assert problem.deadline.tolist() == [50]
    assert problem.hard_end.tolist() == [FAR]
    assert problem.busy_end.tolist() == [26]
    assert problem.on.tolist() == [True]


def test_moves_are_those_of_the_evaluator() -> None:
    """Tolerated delays would be charged, or tasks that are gone from the plan be free."""
    certain = DurationEstimate.certain
    worker = Worker("w", {"cpu": 1})
    tasks = (Task("a", {"cpu": 1}, 0), Task("b", {"cpu": 1}, 0), Task("wide", {"cpu": 5}, 0))
    before = Plan(
        (
            Assignment("a", ("w",), 0, 10),
            Assignment("b", ("w",), 10, 20),
            Assignment("wide", ("w",), 20, 30),
        )
    )
    request = PlanRequest(
        "moves", Snapshot(0, 0, (worker,), tasks), {t.id: {"*": certain(10)} for t in tasks},
        Policy(Prices(moves=1.0), move_tolerance_s=10), before,
    )  # fmt: skip
    problem = encode(request)
    assert problem.gone == 1
    for starts, moves in (((0, 10), 1), ((10, 20), 1), ((11, 21), 3), ((10, 0), 1), ((30, 0), 2)):
        start = np.array(starts)
        schedule = Schedule(start, start + 10, np.zeros(2, np.int64))
        plan = decode(problem, schedule)
        assert problem.moved(schedule) == moves
        assert evaluate(request, plan, unplanned=["wide"]).terms["moves"] == moves
