"""planner.model.events: histories that can happen are folded in, the others are refused."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.model.domain import (
    GPU,
    BadRequest,
    CountedResource,
    Finished,
    Outcome,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.events import apply
from plancast.planner.model.messages import (
    Event,
    ResourceCounted,
    TaskCancelled,
    TaskChanged,
    TaskFinished,
    TaskOverran,
    TaskPreempted,
    TaskStarted,
    TaskSubmitted,
    WorkerBlocked,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    from_json,
    to_json,
)
from tests.conftest import scaled

CPU = {"cpu": 1000}
W1, W2, W3 = (Worker(name, {"cpu": 4000}) for name in ("w1", "w2", "w3"))


def snapshot() -> Snapshot:
    """Two workers; tasks pending, to be released, in a gang, following, running, ended."""
    return Snapshot(
        version=7,
        now_s=100,
        workers=(W1, W2),
        pending=(
            Task("a", CPU),
            Task("late", CPU, release_s=150),
            Task("gang", CPU, shards=2),
            Task("next", CPU, after=("run",)),
        ),
        running=(
            Running(Task("run", CPU), ("w1",), 90),
            Running(Task("wide", CPU, shards=2), ("w1", "w2"), 95),
        ),
        finished=(Finished("old", 80),),
    )


def test_submitted_task_is_the_last_pending() -> None:
    """Would fail if a submission were lost, or version and time stood still."""
    after = apply(snapshot(), TaskSubmitted(110, Task("new", CPU, after=("old", "a"))))
    assert after.pending[-1].id == "new"
    assert (after.version, after.now_s) == (8, 110)


def test_started_task_runs_from_the_event_on() -> None:
    """Would fail if a start left the task pending or forgot where or when it runs."""
    after = apply(snapshot(), TaskStarted(110, "gang", ("w2", "w2")))
    assert "gang" not in after.pending_by_id
    assert after.running_by_id["gang"] == Running(Task("gang", CPU, shards=2), ("w2", "w2"), 110)


def test_devices_may_be_named_while_a_task_runs() -> None:
    """An engine that chooses devices says so after the start: plans would give them again."""
    node = Worker("gpus", {"cpu": 8000, GPU: 3000}, devices=True)
    known = replace(snapshot(), workers=(*snapshot().workers, node), pending=(
        Task("half", {GPU: 500}), Task("pair", {GPU: 1000}, shards=2)), running=(), finished=(),
    )  # fmt: skip
    begun = apply(known, TaskStarted(known.now_s, "pair", ("gpus", "gpus")))
    assert begun.running[-1].devices == ()
    later = known.now_s + 5
    named = apply(begun, TaskStarted(later, "pair", ("gpus", "gpus"), devices=((2,), (0,))))
    (run,) = named.running
    assert run == replace(begun.running[0], devices=((2,), (0,)))
    assert named.running_by_id == {"pair": run}
    assert named.pending == begun.pending
    for workers, devices, fault in (
        (("gpus", "w1"), ((2,), (0,)), "runs already, on gpus, gpus"),
        (("gpus", "gpus"), ((2,), (3,)), "holds devices"),
    ):
        with pytest.raises(BadRequest, match=fault):
            apply(begun, TaskStarted(later, "pair", workers, devices=devices))
    with pytest.raises(BadRequest, match="is not pending"):
        apply(begun, TaskStarted(later, "pair", ("gpus", "gpus")))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_finished_task_keeps_its_outcome(outcome: Outcome) -> None:
    """Would fail if a failure were taken for a success, which would free its successors."""
    after = apply(snapshot(), TaskFinished(110, "run", outcome))
    assert after.finished[-1] == Finished("run", 110, outcome, 90)
    assert "run" not in after.running_by_id


def test_successor_starts_only_after_completion() -> None:
    """Would fail if precedence could be broken by an event, or never be satisfied."""
    start = TaskStarted(120, "next", ("w2",))
    with pytest.raises(BadRequest, match="follows run, which is running"):
        apply(snapshot(), start)
    failed = apply(snapshot(), TaskFinished(110, "run", Outcome.FAILED))
    with pytest.raises(BadRequest, match="follows run, which is failed"):
        apply(failed, start)
    done = apply(snapshot(), TaskFinished(110, "run"))
    assert "next" in apply(done, start).running_by_id


def test_overrun_changes_the_clock_only() -> None:
    """Would fail if an overrun moved a task."""
    before = snapshot()
    after = apply(before, TaskOverran(130, "run"))
    assert (after.pending, after.running, after.finished, after.workers) == (
        before.pending,
        before.running,
        before.finished,
        before.workers,
    )
    assert (after.version, after.now_s) == (8, 130)


def test_preempted_task_waits_again_before_all_others() -> None:
    """Would fail if a stopped task were lost, ran on in the books, or lost its turn."""
    after = apply(snapshot(), TaskPreempted(110, "wide"))
    assert [t.id for t in after.pending] == ["wide", "a", "late", "gang", "next"]
    assert list(after.running_by_id) == ["run"]
    assert after.finished == snapshot().finished


@pytest.mark.parametrize("task", ["a", "run"])
def test_cancelled_task_is_seen_by_its_successors(task: str) -> None:
    """Would fail if a cancelled task vanished without a trace, so that successors wait on."""
    after = apply(snapshot(), TaskCancelled(110, task))
    assert after.finished[-1] == Finished(
        task, 110, Outcome.CANCELLED, 90 if task == "run" else None
    )
    assert task not in after.pending_by_id
    assert task not in after.running_by_id


def test_lost_worker_gives_back_whole_gangs() -> None:
    """Would fail if a gang ran on with a piece missing, or an untouched task were stopped."""
    after = apply(snapshot(), WorkerLost(110, "w2"))
    assert [w.id for w in after.workers] == ["w1"]
    assert [t.id for t in after.pending] == ["wide", "a", "late", "gang", "next"]
    assert list(after.running_by_id) == ["run"]


def test_lost_worker_may_come_back() -> None:
    """Would fail if a worker's id were burnt by its loss."""
    after = apply(apply(snapshot(), WorkerLost(110, "w1")), WorkerJoined(120, W1))
    assert [w.id for w in after.workers] == ["w2", "w1"]
    assert after.running == ()


def test_draining_worker_gets_its_end() -> None:
    """Would fail if a drain hit another worker or none."""
    after = apply(snapshot(), WorkerDraining(110, "w2", 500))
    assert [w.until_s for w in after.workers] == [None, 500]


def test_a_worker_gets_the_windows_of_the_event_and_no_others() -> None:
    """A reservation that was taken back would keep a worker empty."""
    first = apply(snapshot(), WorkerBlocked(110, "w2", (Window(200, 300),)))
    assert [w.blocked for w in first.workers] == [(), (Window(200, 300),)]
    assert apply(first, WorkerBlocked(120, "w2", ())).worker_by_id["w2"].blocked == ()


def test_changed_task_keeps_its_turn_and_its_predecessors() -> None:
    """Would fail if a changed weight cost a task its place, or a change could make a cycle."""
    before = snapshot()
    heavy = replace(before.pending_by_id["a"], weight=9.0)
    after = apply(before, TaskChanged(110, heavy))
    assert [t.id for t in after.pending] == [t.id for t in before.pending]
    assert after.pending_by_id["a"].weight == 9.0
    with pytest.raises(BadRequest, match="follows more tasks than before"):
        apply(before, TaskChanged(110, replace(heavy, after=("next",))))


def test_counted_resource_may_be_named_from_then_on() -> None:
    """Would fail if a task could take what nobody counts, or a second count joined the first."""
    takes = TaskSubmitted(120, Task("new", CPU, counted={"licence": 2}))
    with pytest.raises(BadRequest, match="which the cluster does not count"):
        apply(snapshot(), takes)
    after = apply(snapshot(), ResourceCounted(110, CountedResource("licence", 1)))
    after = apply(after, ResourceCounted(115, CountedResource("licence", 3)))
    assert after.counted == (CountedResource("licence", 3),)
    assert apply(after, takes).pending_by_id["new"].counted == {"licence": 2}


IMPOSSIBLE: list[tuple[Any, str]] = [
    (TaskSubmitted(99, Task("new", CPU)), "before the snapshot's now"),
    (TaskSubmitted(100, Task("a", CPU)), "task a is pending already"),
    (TaskSubmitted(100, Task("run", CPU)), "task run is running already"),
    (TaskSubmitted(100, Task("old", CPU)), "task old is completed already"),
    (TaskSubmitted(100, Task("new", CPU, after=("ghost",))), "after names 'ghost'"),
    (TaskStarted(100, "run", ("w1",)), "task run is not pending .it is running"),
    (TaskStarted(100, "ghost", ("w1",)), "task ghost is not pending .it is unknown"),
    (TaskStarted(100, "a", ("w9",)), "worker 'w9' is not in the cluster"),
    (TaskStarted(100, "a", ()), "started on 0 workers; it has 1"),
    (TaskStarted(100, "gang", ("w1",)), "started on 1 workers; it has 2"),
    (TaskStarted(149, "late", ("w1",)), "released only at 150"),
    (TaskFinished(100, "a"), "task a is not running .it is pending"),
    (TaskFinished(100, "old"), "task old is not running .it is completed"),
    (TaskOverran(100, "a"), "task a is not running"),
    (TaskPreempted(100, "a"), "task a is not running .it is pending"),
    (TaskCancelled(100, "old"), "task old is completed"),
    (TaskCancelled(100, "ghost"), "task ghost is unknown"),
    (TaskChanged(100, Task("run", CPU)), "task run is not pending .it is running"),
    (ResourceCounted(100, CountedResource("cpu", 3)), "worker w1 has cpu of its own"),
    (WorkerLost(100, "w9"), "worker 'w9' is not in the cluster"),
    (WorkerJoined(100, W1), "worker w1 is in the cluster already"),
    (WorkerDraining(100, "w9", 200), "worker 'w9' is not in the cluster"),
    (WorkerBlocked(100, "w9", ()), "worker 'w9' is not in the cluster"),
]


@pytest.mark.parametrize(("event", "reason"), IMPOSSIBLE)
def test_impossible_event_is_refused_with_its_reason(event: Any, reason: str) -> None:
    """Would fail if a contradiction were folded in, or refused without naming event and cause."""
    with pytest.raises(BadRequest, match=f"event {event.kind} at .*{reason}"):
        apply(snapshot(), event)


def test_every_kind_of_event_has_an_impossible_case() -> None:
    """Would fail if an event kind were added without a test of its refusal."""
    assert {type(event) for event, _ in IMPOSSIBLE} == set(get_args(Event))


def test_the_last_worker_cannot_be_lost() -> None:
    """Would fail if a snapshot without workers could arise, which no planner takes."""
    one = apply(snapshot(), WorkerLost(110, "w2"))
    with pytest.raises(BadRequest, match="worker w1 is the last one"):
        apply(one, WorkerLost(120, "w1"))


TASKS = ("t0", "t1", "t2", "t3")
WORKERS = ("w1", "w2", "w3")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, Any]]:
    """Histories as (seconds since the last event, event at 0), many of them impossible."""
    task, worker = st.sampled_from(TASKS), st.sampled_from(WORKERS)
    submitted = st.builds(
        lambda name, release_s, shards, follows: TaskSubmitted(
            0,
            Task(
                name,
                CPU,
                release_s=release_s,
                shards=shards,
                after=("t0",) if follows and name != "t0" else (),
            ),
        ),
        task,
        st.integers(0, 6),
        st.integers(1, 2),
        st.booleans(),
    )
    workers = st.lists(worker, min_size=1, max_size=2).map(tuple)
    event = st.one_of(
        submitted,
        submitted,
        st.builds(TaskStarted, st.just(0), task, workers),
        st.builds(TaskStarted, st.just(0), task, workers),
        st.builds(TaskFinished, st.just(0), task, st.sampled_from(Outcome)),
        st.builds(TaskOverran, st.just(0), task),
        st.builds(TaskPreempted, st.just(0), task),
        st.builds(TaskCancelled, st.just(0), task),
        st.builds(TaskChanged, st.just(0), st.builds(Task, task, st.just(CPU))),
        st.builds(ResourceCounted, st.just(0), st.builds(CountedResource, task, st.integers(0, 3))),
        st.builds(WorkerLost, st.just(0), worker),
        st.builds(WorkerJoined, st.just(0), st.sampled_from((W1, W2, W3))),
        st.builds(WorkerDraining, st.just(0), worker, st.integers(0, 99)),
        st.builds(WorkerBlocked, st.just(0), worker, st.just((Window(40, 90),))),
    )
    return draw(st.lists(st.tuples(st.integers(-1, 4), event), max_size=30))


@settings(max_examples=scaled(60))
@given(histories())
def test_random_histories_keep_every_task_in_one_place(history: list[tuple[int, Any]]) -> None:
    """Would fail if a task were lost, doubled or left on a worker that is gone."""
    now = Snapshot(version=0, now_s=0, workers=(W1, W2))
    submitted: set[str] = set()
    accepted = 0
    for gap_s, template in history:
        event = replace(template, at_s=now.now_s + gap_s)
        before = to_json(now)
        try:
            after = apply(now, event)
        except BadRequest:
            assert to_json(now) == before
            continue
        assert to_json(now) == before
        assert gap_s >= 0
        accepted += 1
        assert (after.version, after.now_s) == (accepted, event.at_s)
        if isinstance(event, TaskSubmitted):
            submitted.add(event.task.id)
        places = (
            [t.id for t in after.pending]
            + [r.task.id for r in after.running]
            + [f.id for f in after.finished]
        )
        assert sorted(places) == sorted(submitted)
        for run in after.running:
            assert len(run.workers) == run.task.shards
            assert set(run.workers) <= set(after.worker_by_id)
        for ended in after.finished:
            assert ended.end_s <= after.now_s
        # What events build unchecked passes the checks, and what is cached of it is its own.
        checked = Snapshot(**{f.name: getattr(after, f.name) for f in fields(Snapshot)})
        assert checked == after
        for index in ("worker_by_id", "pending_by_id", "running_by_id", "finished_by_id"):
            assert getattr(checked, index) == getattr(after, index)
        now = after


@given(histories())
def test_a_history_told_in_json_ends_alike(history: list[tuple[int, Any]]) -> None:
    """Would fail if an event lost a field on its way through JSON."""
    for gap_s, template in history:
        event = replace(template, at_s=gap_s)
        assert from_json(Event, to_json(event)) == event  # type: ignore[arg-type]
