"""Modes and budgets as the evaluator, the judge, messages and events know them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plancast.planner.model.domain import (
    Assignment,
    BadRequest,
    DurationEstimate,
    Mode,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.events import apply
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    PlanRequest,
    PlanResponse,
    Status,
    TaskCancelled,
    TaskFinished,
    TaskPreempted,
    TaskStarted,
    WorkerLost,
    from_json,
    to_json,
)
from plancast.planner.model.violations import ViolationKind

SLOW = Mode("slow", {"cpu": 1000})
FAST = Mode("fast", {"cpu": 2000, "gold": 2}, shards=2)
TASK = Task("t", {}, release_s=0, modes=(SLOW, FAST))


def certain(seconds: int) -> DurationEstimate:
    """An estimate without spread."""
    return DurationEstimate.certain(seconds)


def request(**changes: object) -> PlanRequest:
    """A task with two modes, one that runs in its fast mode, and a budget of 5."""
    running = Running(replace(TASK, id="r", preemptible=True), ("w1", "w1"), 0, "fast")
    workers = (Worker("w1", {"cpu": 4000}, busy_w=400.0), Worker("w2", {"cpu": 4000}, busy_w=400.0))
    snapshot = Snapshot(1, 10, workers, (TASK,), (running,), (), {"gold": 5})
    estimates = {
        "t": {"slow": {"*": certain(90)}, "fast": {"*": certain(30)}},
        "r": {"fast": {"*": certain(40)}},
    }
    return replace(PlanRequest("r", snapshot, estimates), **changes)


def planned(workers: str, start_s: int, end_s: int, mode: str) -> Plan:
    """The only pending task on its workers (``w1+w2``)."""
    return Plan((Assignment("t", tuple(workers.split("+")), start_s, end_s, mode),), (), 10, 1)


IN_FAST = planned("w2+w2", 10, 40, "fast")
IN_SLOW = planned("w2", 10, 100, "slow")


def kinds(asked: PlanRequest, plan: Plan) -> list[str]:
    """The kinds of all violations."""
    return [violation.kind.value for violation in evaluate(asked, plan).violations]


def test_each_mode_has_its_own_shards_duration_and_room() -> None:
    """A mode would be judged by the numbers of another."""
    assert kinds(request(), IN_FAST) == []
    assert kinds(request(), IN_SLOW) == []
    assert kinds(request(), planned("w2", 10, 40, "fast")) == ["wrong_shards"]
    assert kinds(request(), planned("w2", 10, 40, "slow")) == ["wrong_duration"]
    # What runs takes 4 cores of w1, as its mode has it, until 40.
    assert kinds(request(), planned("w1", 39, 129, "slow")) == ["over_capacity"]
    assert kinds(request(), planned("w1", 40, 130, "slow")) == []


def test_a_budget_is_consumed_once_a_task_by_what_runs_too() -> None:
    """A gang would pay for each of its pieces, or a running task nothing."""
    snapshot = replace(request().snapshot, budgets={"gold": 4})
    assert kinds(request(snapshot=snapshot), IN_FAST) == []
    snapshot = replace(snapshot, budgets={"gold": 3})
    assert kinds(request(snapshot=snapshot), IN_FAST) == [ViolationKind.OVER_BUDGET.value]
    assert kinds(request(snapshot=snapshot), IN_SLOW) == []


def test_a_preempted_task_is_not_refunded() -> None:
    """A plan would spend again what the work that is lost has cost."""
    again = Assignment("r", ("w1", "w1"), 50, 90, "fast")
    plan = replace(IN_FAST, assignments=(*IN_FAST.assignments, again), preempted=("r",))
    assert kinds(request(), plan) == [ViolationKind.OVER_BUDGET.value]  # 2 + 2 + 2 of 5


def test_stretch_divides_by_the_fastest_mode() -> None:
    """A slow mode would look as if its task had hardly waited."""
    policy = Policy(Prices(stretch=1.0), max_stretch=2.9)
    slow = evaluate(request(policy=policy), IN_SLOW)
    fast = evaluate(request(policy=policy), IN_FAST)
    running = 40 / 40  # its other modes have no estimates
    assert slow.terms["stretch"] == pytest.approx(100 / 30 + running)
    assert fast.terms["stretch"] == pytest.approx(40 / 30 + running)
    assert [v.kind for v in slow.violations] == [ViolationKind.STRETCH_BOUND]
    assert fast.valid


def test_energy_goes_by_the_demand_of_the_mode() -> None:
    """All modes of a task would cost the same energy."""
    running = 2 * 0.5 * 30  # piece-seconds of a whole worker still to run
    slow = evaluate(request(), IN_SLOW).terms["kwh"] * 3.6e6 / 400
    fast = evaluate(request(), IN_FAST).terms["kwh"] * 3.6e6 / 400
    assert slow == pytest.approx(0.25 * 90 + running)
    assert fast == pytest.approx(2 * 0.5 * 30 + running)


def test_another_mode_is_a_move() -> None:
    """A plan could turn 4 cores into 16 and call itself unchanged."""
    before = planned("w2", 10, 100, "slow")
    two = replace(FAST, shards=1)
    task = replace(TASK, modes=(SLOW, two))
    asked = request(snapshot=replace(request().snapshot, pending=(task,)), incumbent=before)
    assert evaluate(asked, planned("w2", 10, 40, "fast")).terms["moves"] == 1
    assert evaluate(asked, before).terms["moves"] == 0


def test_the_judge_knows_that_another_mode_fits() -> None:
    """A task could be left out because its first mode does not fit."""
    wide = replace(TASK, modes=(Mode("wide", {"cpu": 9000}), SLOW))
    asked = request(snapshot=replace(request().snapshot, pending=(wide,)))
    plan = Plan((), (), 10, 1)
    found = evaluate(asked, plan, unplanned=("t",))
    response = PlanResponse(
        "r", 1, Status.FEASIBLE, plan, found.cost, found.terms, 0.0, 1.0, unplanned={"t": "no room"}
    )
    assert [v.kind.value for v in validate_response(asked, response)] == ["wrong_unplanned"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"demand": {"cpu": 1}}, "has modes and demand of its own"),
        ({"shards": 2}, "has modes and shards of its own"),
        ({"requires": ("x",)}, "has modes and requires of its own"),
        ({"requested_s": 9}, "has modes and requested_s of its own"),
        ({"modes": (SLOW, SLOW)}, "two of its modes have the same id"),
    ],
)
def test_a_contradictory_task_is_refused(change: dict[str, object], sentence: str) -> None:
    """What is written would not be what is planned."""
    with pytest.raises(BadRequest, match=sentence):
        replace(TASK, **change)  # type: ignore[arg-type]


def test_what_contradicts_itself_is_refused() -> None:
    """A running task without a mode, a budget that a worker has too, estimates of another form."""
    with pytest.raises(BadRequest, match="has no mode ''; it has slow, fast"):
        Running(TASK, ("w1",), 0)
    with pytest.raises(BadRequest, match="budgets names 'cpu', which worker w1 has"):
        replace(request().snapshot, budgets={"cpu": 3})
    with pytest.raises(BadRequest, match="estimates of task t are by class, but it has several"):
        request(estimates={**request().estimates, "t": {"*": certain(3)}})
    with pytest.raises(BadRequest, match="running task r has no estimate in its mode fast"):
        request(estimates={"t": request().estimates["t"]})


def test_messages_carry_modes_and_version_1_is_read() -> None:
    """Another program would lose the mode, or old files could be read no more."""
    asked = request(incumbent=IN_SLOW)
    text = to_json(asked)
    assert from_json(PlanRequest, text) == asked
    old = request(
        snapshot=replace(request().snapshot, pending=(Task("t", {}),), running=(), budgets={}),
        estimates={"t": {"*": certain(3)}},
    )
    text = to_json(old).replace(b'"schema_version":2', b'"schema_version":1')
    for field in (b',"modes":[]', b',"budgets":{}'):
        assert field in text
        text = text.replace(field, b"")
    assert from_json(PlanRequest, text) == replace(old, schema_version=1)


def test_a_fault_in_an_estimate_by_mode_is_named() -> None:
    """The path of a wrong field would name what nobody wrote."""
    text = to_json(request()).replace(b'[0.5],"seconds":[90]', b'[5],"seconds":[9]')
    with pytest.raises(BadRequest, match=r"^message: estimates\.t\.slow\.\*: estimate levels"):
        from_json(PlanRequest, text)


def test_events_carry_the_mode_and_consume_budgets() -> None:
    """A master would forget how a task runs, or refund what is used up."""
    snapshot = request().snapshot
    started = apply(snapshot, TaskStarted(11, "t", ("w2", "w2"), "fast"))
    assert started.running_by_id["t"].mode == "fast"
    assert started.budgets == {"gold": 5}
    with pytest.raises(BadRequest, match="has no mode 'middling'"):
        apply(snapshot, TaskStarted(11, "t", ("w2",), "middling"))
    for event in (
        TaskFinished(11, "r"), TaskPreempted(11, "r"), TaskCancelled(11, "r"), WorkerLost(11, "w1"),
    ):  # fmt: skip
        assert apply(snapshot, event).budgets == {"gold": 3}, event
    assert apply(snapshot, TaskPreempted(11, "r")).pending[0].modes == TASK.modes
