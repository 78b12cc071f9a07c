"""Counted resources: who is blamed when too many units are held, and what a request may say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plancast.planner.instances.pddl import export_pddl
from plancast.planner.model.domain import (
    AmountWindow,
    Assignment,
    BadRequest,
    CountedResource,
    DurationEstimate,
    Plan,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import validate
from plancast.planner.model.events import apply
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    PlanRequest,
    PlanResponse,
    Status,
    TaskSubmitted,
    WorkerJoined,
    from_json,
    to_json,
)
from plancast.planner.model.violations import ViolationKind
from plancast.planner.worlds.dispatch_arrays import arena_of

NOW = 1_000
WIDE = Worker("w", {"cpu": 64_000})


def licensed(name: str, amount: int = 1, **others: object) -> Task:
    """A task that takes so many licences."""
    return Task(name, {"cpu": 1000}, NOW, counted={"matlab": amount}, **others)  # type: ignore[arg-type]


def request(
    *tasks: Task,
    running: tuple[Task, ...] = (),
    amount: int = 2,
    windows: tuple[AmountWindow, ...] = (),
    run_s: int = 10,
) -> PlanRequest:
    """Tasks that each take `run_s` on a worker that holds them all."""
    names = [t.id for t in (*tasks, *running)]
    return PlanRequest(
        "r",
        Snapshot(
            1,
            NOW,
            (WIDE,),
            tasks,
            tuple(Running(replace(t, release_s=NOW - 5), ("w",), NOW - 5) for t in running),
            counted=(CountedResource("matlab", amount, windows),),
        ),
        {name: {"*": DurationEstimate.certain(run_s)} for name in names},
    )


def plan(**starts: int) -> Plan:
    """Each task on the worker from so many seconds after now, for 10 s."""
    rows = [Assignment(name, ("w",), NOW + s, NOW + s + 10) for name, s in starts.items()]
    return Plan(tuple(rows), (), NOW, 1)


def blamed(asked: PlanRequest, made: Plan) -> list[str | None]:
    """The tasks that the evaluator says hold too much; nothing else may be wrong."""
    found = validate(asked, made)
    assert {v.kind for v in found} <= {ViolationKind.OVER_COUNTED}
    return [v.task for v in found]


def test_a_gang_takes_its_licences_once() -> None:
    """A licence of a parallel job would be counted for each of its pieces."""
    gang = licensed("g", 2, shards=3)
    asked = request(gang)
    row = Assignment("g", ("w", "w", "w"), NOW, NOW + 10)
    assert validate(asked, Plan((row,), (), NOW, 1)) == []


def test_running_tasks_hold_theirs_until_their_expected_end() -> None:
    """A licence in use would be handed out twice."""
    asked = request(licensed("a"), licensed("b"), running=(licensed("r"),))
    assert blamed(asked, plan(a=0, b=5)) == []
    assert blamed(asked, plan(a=0, b=4)) == ["b"]


def test_what_runs_may_hold_more_than_there_is() -> None:
    """A plan would be called wrong for licences that were in use when it was made."""
    asked = request(licensed("a"), running=(licensed("r", 2), licensed("s", 2)))
    assert blamed(asked, plan(a=5)) == []
    assert blamed(asked, plan(a=4)) == ["a"]


def test_an_amount_that_falls_must_not_be_held_beyond_that() -> None:
    """Licences of the night would still be in use in the morning."""
    window = AmountWindow(NOW + 20, NOW + 30, 1)
    asked = request(licensed("a"), licensed("b"), windows=(window,))
    assert blamed(asked, plan(a=10, b=10)) == []
    assert blamed(asked, plan(a=11, b=11)) != []
    assert blamed(asked, plan(a=20, b=30)) == []


def test_preemption_frees_at_once() -> None:
    """A task that is stopped would keep its licence in the evaluator's eyes."""
    loose = licensed("r", 2, preemptible=True)
    asked = request(licensed("a"), running=(loose,))
    stopped = replace(plan(a=0, r=10), preempted=("r",))
    assert blamed(asked, stopped) == []
    assert blamed(asked, replace(plan(a=0, r=9), preempted=("r",))) == ["r"]


@pytest.mark.parametrize(
    ("counted", "task", "worker", "sentence"),
    [
        ((), licensed("a"), WIDE, "takes 'matlab', which the cluster does not count"),
        (
            (CountedResource("cpu", 1),),
            Task("a", {}),
            WIDE,
            "worker w: has cpu, which is counted for the whole cluster",
        ),
        ((CountedResource("x", 1),) * 2, Task("a", {}), WIDE, "counted resource x is listed twice"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    counted: tuple[CountedResource, ...], task: Task, worker: Worker, sentence: str
) -> None:
    """A limit would be ignored because its name is misspelt, or taken twice."""
    with pytest.raises(BadRequest, match=sentence):
        Snapshot(1, NOW, (worker,), (task,), counted=counted)


def test_windows_do_not_overlap() -> None:
    """Two amounts would hold at one moment."""
    with pytest.raises(BadRequest, match="without overlap"):
        CountedResource("x", 1, (AmountWindow(0, 10, 2), AmountWindow(9, 20, 3)))


def test_events_keep_what_is_counted() -> None:
    """A task that was submitted later would slip under a limit that nobody knows."""
    snapshot = request(licensed("a")).snapshot
    after = apply(snapshot, TaskSubmitted(NOW + 1, licensed("b")))
    assert after.counted == snapshot.counted
    with pytest.raises(BadRequest, match="does not count"):
        apply(snapshot, TaskSubmitted(NOW + 1, Task("c", {}, counted={"ansys": 1})))
    with pytest.raises(BadRequest, match="counted for the whole cluster"):
        apply(snapshot, WorkerJoined(NOW + 1, Worker("v", {"matlab": 1})))


def test_a_request_survives_its_json() -> None:
    """A licence would be lost between master and planner."""
    asked = request(licensed("a"), windows=(AmountWindow(NOW, NOW + 5, 0),))
    assert from_json(PlanRequest, to_json(asked)) == asked


def left_out(asked: PlanRequest, made: Plan, *names: str) -> list[ViolationKind]:
    """What the judge says of a response that leaves tasks out."""
    response = PlanResponse(
        "r", 1, Status.FEASIBLE, made, unplanned=dict.fromkeys(names, "no licence")
    )
    return [v.kind for v in validate_response(asked, response) if v.task in names]


def test_the_judge_knows_who_could_have_had_a_licence() -> None:
    """A task would be called placeable that takes more than there is, or the other way round."""
    asked = request(licensed("a"), licensed("b", 3))
    assert left_out(asked, plan(a=0), "b") == []
    assert left_out(asked, plan(), "a", "b") == [ViolationKind.WRONG_UNPLANNED]
    # Three are there for ten seconds only, and the other task might be beside them or after.
    wide = request(licensed("a"), licensed("b", 3), windows=(AmountWindow(NOW + 20, NOW + 30, 3),))
    assert left_out(wide, plan(a=0), "b") == [ViolationKind.WRONG_UNPLANNED]
    assert left_out(wide, plan(a=25), "b") == []


def test_the_judge_lets_licences_make_a_request_impossible() -> None:
    """An honest "impossible" would be called a lie where licences are there for a while only."""
    window = AmountWindow(NOW + 20, NOW + 30, 3)
    asked = request(licensed("a", 3), licensed("b", 3), Task("c", {"cpu": 1}), windows=(window,))
    asked = replace(asked, estimates={**asked.estimates, "c": {"*": DurationEstimate.certain(1)}})
    impossible = PlanResponse("r", 1, Status.INFEASIBLE)
    assert validate_response(asked, impossible) == []
    lies = validate_response(request(licensed("a")), impossible)
    assert [v.kind for v in lies] == [ViolationKind.WRONG_STATUS]


def test_who_does_not_know_them_refuses_by_name() -> None:
    """An answer would be given that no cluster with these licences can keep."""
    asked = request(licensed("a"), running=(licensed("r"),))
    for who, act in (
        ("export pddl", lambda: export_pddl(asked, 100)),
        ("this way of executing a batch", lambda: arena_of(asked, {"a": 5})),
    ):
        with pytest.raises(BadRequest, match=f"task a takes matlab.* which {who} does not know"):
            act()
