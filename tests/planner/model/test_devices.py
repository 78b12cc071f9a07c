"""GPUs that are devices: what is refused, who holds which, and what the judge says of a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plancast.planner.model.devices import chosen, filled, held_devices, takes
from plancast.planner.model.domain import (
    GPU,
    MOST_DEVICES,
    Assignment,
    BadRequest,
    DurationEstimate,
    Mode,
    Plan,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate, moved_tasks, validate
from plancast.planner.model.events import apply
from plancast.planner.model.judge_devices import device_room
from plancast.planner.model.messages import (
    PlanRequest,
    TaskChanged,
    TaskStarted,
    TaskSubmitted,
    WorkerJoined,
    from_json,
    to_json,
)
from plancast.planner.model.spans import Span
from plancast.planner.model.violations import ViolationKind
from tests.oracles.plain_devices import Stay, all_given, device_request

NODE = Worker("n", {GPU: 2000}, devices=True)
PLAIN = Worker("p", {GPU: 1500})


def snapshot_of(*tasks: Task, workers: tuple[Worker, ...] = (NODE,), **changes: Any) -> Snapshot:
    """Tasks that wait for some workers."""
    return Snapshot(1, 100, workers, tasks, **changes)


def request_of(snapshot: Snapshot) -> PlanRequest:
    """A request in which everything takes ten seconds."""
    every = (*snapshot.pending, *(run.task for run in snapshot.running))
    return PlanRequest("r", snapshot, {t.id: {"*": DurationEstimate.certain(10)} for t in every})


@pytest.mark.parametrize("wanted", [1001, 1500, 2500])
def test_a_task_takes_whole_devices_or_a_share_of_one(wanted: int) -> None:
    """Half a device beside a whole one would be given to nobody, or to two at once."""
    task = Task("t", {GPU: wanted})
    with pytest.raises(BadRequest, match=r"task t: asks for .* gpu, .* whole number of them"):
        snapshot_of(task)
    way = Task("t", {}, modes=(Mode("m", {GPU: wanted}), Mode("other", {})))
    with pytest.raises(BadRequest, match="task t: asks for"):
        snapshot_of(way)
    run = Running(task, ("n",), 50)
    with pytest.raises(BadRequest, match="task t: asks for"):
        snapshot_of(running=(run,))
    # Where no GPUs are devices they are an amount like any other.
    snapshot_of(task, workers=(PLAIN,))


def test_events_refuse_what_no_devices_can_be_given_to() -> None:
    """A snapshot would hold what the next request of it refuses."""
    odd, fine = Task("t", {GPU: 1500}), Task("t", {GPU: 500})
    for event in (TaskSubmitted(100, odd), TaskChanged(100, odd)):
        before = snapshot_of(*([fine] if isinstance(event, TaskChanged) else []))
        with pytest.raises(BadRequest, match="ask for a whole number of them"):
            apply(before, event)
    with pytest.raises(BadRequest, match="ask for a whole number of them"):
        apply(snapshot_of(odd, workers=(PLAIN,)), WorkerJoined(100, NODE))
    joined = apply(snapshot_of(fine, workers=(PLAIN,)), WorkerJoined(100, NODE))
    assert joined.has_devices
    with pytest.raises(BadRequest, match=r"holds devices \[2\] of worker n, which has 2"):
        apply(snapshot_of(fine), TaskStarted(100, "t", ("n",), devices=((2,),)))
    started = apply(snapshot_of(fine), TaskStarted(100, "t", ("n",), devices=((1,),)))
    assert started.running[0].devices == ((1,),)


@pytest.mark.parametrize("have", [1500, 1000 * (MOST_DEVICES + 1)])
def test_a_worker_has_a_whole_number_of_devices(have: int) -> None:
    """Part of a device would be planned that is not there."""
    with pytest.raises(BadRequest, match=r"worker n: has .* as devices; give a whole number"):
        Worker("n", {GPU: have}, devices=True)


@pytest.mark.parametrize(
    ("wanted", "devices"), [(1000, ((0, 1),)), (1000, ((2,),)), (500, ((),)), (2000, ((0, 0),))]
)
def test_a_running_task_holds_devices_that_are_there(wanted: int, devices: Any) -> None:
    """A device that no worker has would be held, and one that it has be free."""
    with pytest.raises(BadRequest, match="running task t: holds devices"):
        snapshot_of(running=(Running(Task("t", {GPU: wanted}), ("n",), 50, devices=devices),))


def test_devices_are_of_every_piece_or_of_none() -> None:
    """Pieces would be told apart by a list that is too short."""
    with pytest.raises(BadRequest, match="devices of 1 pieces, 2 shards"):
        Running(Task("t", {GPU: 500}, shards=2), ("n", "n"), 50, devices=((0,),))


def test_whole_devices_are_the_lowest_shares_go_onto_the_fullest() -> None:
    """Shares spread over all devices would leave no whole one."""
    assert takes({GPU: 3000}) == (3, 1000)
    assert takes({GPU: 400}) == (1, 400)
    assert takes({"cpu": 1}) == (0, 0)
    assert chosen([0, 500, 0, 0], 2, 1000) == (0, 2)
    assert chosen([0, 500, 700, 0], 1, 400) == (1,)
    assert chosen([0, 500, 700, 0], 1, 300) == (2,)
    assert chosen([0, 0], 1, 300) == (0,)
    assert chosen([100, 100], 1, 1000) is None


def test_unknown_devices_are_given_by_start_then_id_after_the_known_ones() -> None:
    """Two callers would fill in what is unknown in two ways."""
    runs = (
        Running(Task("b", {GPU: 600}), ("n",), 60),
        Running(Task("a", {GPU: 600}), ("n",), 60),
        Running(Task("known", {GPU: 300}), ("n",), 90, devices=((1,),)),
        Running(Task("first", {GPU: 100}), ("n",), 50),
        Running(Task("elsewhere", {GPU: 1000}), ("p",), 50),
        Running(Task("none", {"cpu": 1}), ("n",), 50),
    )
    snapshot = snapshot_of(workers=(NODE, PLAIN), running=runs)
    held = held_devices(snapshot)
    assert held == {"known": ((1,),), "first": ((1,),), "a": ((1,),), "b": ((0,),)}
    named = filled(snapshot)
    assert {r.task.id: r.devices for r in named.running if r.devices} == held
    assert held_devices(named) == held
    # More runs than there is room for, as real logs have it: on the least used.
    crowded = snapshot_of(running=tuple(Running(Task(n, {GPU: 1000}), ("n",), 50) for n in "abc"))
    assert [held_devices(crowded)[n] for n in "abc"] == [((0,),), ((1,),), ((0,),)]


def planned(*rows: Assignment, preempted: tuple[str, ...] = ()) -> Plan:
    """A plan of version 1 at second 100."""
    return Plan(rows, preempted, 100, 1)


def row(task: str, start: int, *devices: tuple[int, ...], seconds: int = 10) -> Assignment:
    """A task on the node, from `start` on."""
    on = ("n",) * len(devices)
    return Assignment(task, on, start, start + seconds, devices=tuple(devices))


def kinds(request: PlanRequest, plan: Plan, **options: Any) -> set[ViolationKind]:
    """The kinds of what is wrong with a plan."""
    return {v.kind for v in validate(request, plan, **options)}


def test_pieces_on_one_device_take_no_more_than_there_is_of_it() -> None:
    """Two tasks would be given the same device."""
    a, b, c = Task("a", {GPU: 600}), Task("b", {GPU: 500}), Task("c", {GPU: 1000})
    request = request_of(snapshot_of(a, b, c))
    fine = planned(row("a", 100, (0,)), row("b", 100, (1,)), row("c", 110, (0,)))
    assert kinds(request, fine) == set()
    over = planned(row("a", 100, (0,)), row("b", 105, (0,)), row("c", 120, (0,)))
    assert kinds(request, over) == {ViolationKind.DEVICE_TAKEN}
    # A share and a whole device: as GPUs they would fit.
    mixed = planned(row("a", 100, (0,)), row("b", 120, (0,)), row("c", 100, (0,)))
    assert kinds(request, mixed) == {ViolationKind.DEVICE_TAKEN}
    texts = [v.text for v in validate(request, over)]
    assert texts == ["device 0 of worker n is taken 1.1 times at 105 when task b starts"]


@pytest.mark.parametrize(
    "devices", [(), ((0,), (1,)), ((0, 1),), ((2,),), ((-1,),), ((),)], ids=str
)
def test_an_assignment_names_the_devices_of_each_piece(devices: Any) -> None:
    """A master would not know which device to give."""
    request = request_of(snapshot_of(Task("a", {GPU: 600})))
    plan = planned(Assignment("a", ("n",), 100, 110, devices=devices))
    assert kinds(request, plan) == {ViolationKind.WRONG_DEVICES}
    if not devices:
        # Of what really ran they may be unknown.
        assert kinds(request, plan, realised=True) == set()


def test_devices_are_named_where_gpus_are_devices_alone() -> None:
    """A plan for a cluster without devices would have to name some."""
    task = Task("a", {GPU: 600})
    request = request_of(snapshot_of(task, workers=(PLAIN, NODE)))
    on_plain = Assignment("a", ("p",), 100, 110)
    assert kinds(request, planned(on_plain)) == set()
    named = planned(replace(on_plain, devices=((0,),)))
    assert kinds(request, named) == {ViolationKind.WRONG_DEVICES}


def test_what_runs_holds_its_devices_until_it_is_preempted() -> None:
    """A planned task would share a device with one that runs, or a preempted one hold it still."""
    task, soft = Task("a", {GPU: 600}), Task("r", {GPU: 500}, preemptible=True)
    request = request_of(snapshot_of(task, running=(Running(soft, ("n",), 95),)))
    assert kinds(request, planned(row("a", 100, (0,)))) == {ViolationKind.DEVICE_TAKEN}
    assert kinds(request, planned(row("a", 105, (0,)))) == set()
    stopped = planned(row("a", 100, (0,)), row("r", 110, (0,)), preempted=("r",))
    assert kinds(request, stopped) == set()


def test_a_changed_device_is_no_move() -> None:
    """A plan would pay for what nobody notices."""
    task = Task("a", {GPU: 600})
    request = request_of(snapshot_of(task))
    request = replace(request, incumbent=planned(row("a", 100, (0,))))
    other = planned(row("a", 100, (1,)))
    assert moved_tasks(request, other) == []
    assert evaluate(request, other).valid


@pytest.mark.parametrize("seed", range(40))
def test_room_on_devices_is_what_every_way_of_giving_them_leaves(seed: int) -> None:
    """A task would be said to fit beside others where it does not, or not where it does."""
    rng = np.random.default_rng(seed)
    worker = Worker("n", {GPU: 1000 * int(rng.integers(1, 4))}, devices=True)
    spans, stays = [], []
    for k in range(int(rng.integers(0, 6))):
        wanted = int(rng.choice([200, 300, 500, 1000]))
        start = int(rng.integers(0, 8))
        end = start + int(rng.integers(1, 5))
        free = all_given([*stays, Stay("n", start, end, wanted)], {"n": worker.device_count})
        if free is None:
            continue
        stays.append(Stay("n", start, end, wanted, free[-1]))
        task = Task(f"t{k}", {GPU: wanted})
        spans.append(Span(task, (worker,), start, end, (0.0,), devices=(free[-1],)))
    for wanted in (200, 300, 500, 1000, 2000):
        start, end = sorted(rng.choice(12, 2, replace=False).tolist())
        # Of equal pieces over the same time, one more fits wherever the others are.
        held, asked = [*stays], Stay("n", start, end, wanted)
        while (found := all_given([*held, asked], {"n": worker.device_count})) is not None:
            held.append(replace(asked, devices=found[-1]))
        room = device_room(worker, spans, wanted, start, end)
        assert room == len(held) - len(stays)


def test_json_keeps_devices() -> None:
    """A master and its planner would know of different devices."""
    for seed in range(30):
        request = filled_request(seed)
        assert from_json(PlanRequest, to_json(request)) == request
    plan = planned(row("a", 100, (0, 1)))
    assert from_json(Plan, to_json(plan)) == plan
    old = b'{"task":"a","workers":["n"],"start_s":1,"end_s":2}'
    assert from_json(Assignment, old).devices == ()


def filled_request(seed: int) -> PlanRequest:
    """A request in which the devices of all that runs are known."""
    request = device_request(seed)
    return replace(request, snapshot=filled(request.snapshot))
