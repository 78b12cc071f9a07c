"""A planner process that is told what is new knows what it would know if it were told all."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from plancast.pipelines.master import differences
from plancast.pipelines.master.differences import Receiver, Sender
from plancast.planner.model.domain import BadRequest, DurationEstimate, Outcome, Task, Worker
from plancast.planner.model.messages import (
    Budget,
    PlanRequest,
    PlanResponse,
    TaskCancelled,
    TaskChanged,
    TaskFinished,
    TaskStarted,
    TaskSubmitted,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    to_json,
)
from plancast.planner.planning.controller import Controller
from plancast.planner.planning.plan import plan
from tests.oracles.random_requests import random_request


def sent(sender: Sender, receiver: Receiver, request: PlanRequest) -> PlanRequest:
    """What arrives."""
    return receiver.take(pickle.loads(pickle.dumps(sender.difference(request))))


def plain(request: PlanRequest) -> PlanRequest:
    """The request as far as it makes a difference: what lives, and what that waits for."""
    snapshot = request.snapshot
    live = {*snapshot.pending_by_id, *snapshot.running_by_id}
    named = {b for t in snapshot.pending for b in t.predecessors}
    finished = tuple(f for f in snapshot.finished if f.id in named)
    order = [*snapshot.pending_by_id, *snapshot.running_by_id]
    estimates = {name: request.estimates[name] for name in order if name in request.estimates}
    assert estimates.keys() <= live
    return request.evolved(snapshot=snapshot.evolved(finished=finished), estimates=estimates)


def happen(mind: Controller, rng: np.random.Generator, number: int) -> None:
    """One event, of those that can follow."""
    snapshot = mind.snapshot
    now = snapshot.now_s + int(rng.integers(0, 30))
    kind = int(rng.integers(8))
    pending, running = snapshot.pending, snapshot.running
    name = f"new-{number}"
    if kind <= 1:
        estimate = {name: {"*": DurationEstimate.certain(int(rng.integers(1, 99)))}}
        after = (pending[0].id,) if pending and rng.random() < 0.5 else ()
        mind.tell(TaskSubmitted(now, Task(name, {"cpu": 1}, after=after)), estimate)
    elif kind == 2 and pending:
        task = pending[int(rng.integers(len(pending)))]
        mind.tell(TaskStarted(now, task.id, (snapshot.workers[0].id,) * task.shards))
    elif kind == 3 and running:
        outcome = Outcome.COMPLETED if rng.random() < 0.7 else Outcome.FAILED
        mind.tell(TaskFinished(now, running[0].task.id, outcome))
    elif kind == 4 and pending:
        mind.tell(TaskChanged(now, replace(pending[-1], weight=float(rng.integers(1, 9)))))
    elif kind == 5 and pending:
        mind.tell(TaskCancelled(now, pending[-1].id))
    elif kind == 6:
        worker = snapshot.workers[int(rng.integers(len(snapshot.workers)))]
        mind.tell(WorkerDraining(now, worker.id, now + 50 if rng.random() < 0.5 else None))
    elif kind == 7 and len(snapshot.workers) > 1:
        mind.tell(WorkerLost(now, snapshot.workers[0].id))
    else:
        mind.tell(WorkerJoined(now, Worker(f"w-{number}", {"cpu": 4000, "mem": 64})))


@pytest.mark.parametrize("seed", range(12))
def test_what_arrives_is_the_whole_request(seed: int) -> None:
    """The planner would plan tasks that are gone, or on workers as they were."""
    rng = np.random.default_rng(seed)
    mind, sender, receiver = Controller(random_request(seed)), Sender(), Receiver()
    happened = 0
    for number in range(60):
        try:
            happen(mind, rng, number)
        except BadRequest:
            continue  # it cannot follow: nothing has happened
        happened += 1
        asked = mind.request.evolved(budget=Budget(None, number), request_id=f"r{number}")
        if number % 5 == 4:
            asked = asked.evolved(incumbent=plan(asked, "greedy").plan)
        if number % 17 == 16:
            sender, receiver = Sender(), Receiver()  # another process took its place
        assert to_json(sent(sender, receiver, asked)) == to_json(plain(asked))
    assert happened > 20


def test_little_is_sent_of_what_is_known() -> None:
    """At each event thousands of tasks would be written down and read again."""
    request = random_request(5)
    tasks = tuple(Task(f"t{k}", {"cpu": 1}) for k in range(2_000))
    estimates = {t.id: {"*": DurationEstimate.certain(9)} for t in tasks}
    request = replace(
        request, snapshot=replace(request.snapshot, pending=tasks), estimates={
            **estimates, **{r.task.id: request.estimates[r.task.id]
                            for r in request.snapshot.running}},
    )  # fmt: skip
    sender, receiver = Sender(), Receiver()
    whole = pickle.dumps(sender.difference(request))
    receiver.take(pickle.loads(whole))
    response = plan(replace(request, budget=Budget(0.0)), "greedy")
    sender.answered(response)
    receiver.plan = response.plan
    again = request.evolved(incumbent=response.plan)
    new = sender.difference(again)
    assert (new.tasks, new.runs, new.estimates, new.workers) == ({}, {}, {}, None)
    assert new.answered
    assert len(pickle.dumps(new)) < len(whole) / 4
    assert receiver.take(new).incumbent is response.plan


def test_a_process_remembers_the_plan_that_it_answered_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would repair another plan than the one in force."""
    monkeypatch.setattr(differences, "RECEIVER", Receiver())
    request, sender = random_request(8), Sender()
    asked: list[PlanRequest] = []

    def work(request: PlanRequest, **arguments: bool) -> PlanResponse:
        asked.append(request)
        assert arguments == {"judge": False}
        return plan(request, "greedy")

    response = differences.answered(sender.difference(request), work, {"judge": False})
    sender.answered(response)
    again = request.evolved(incumbent=response.plan)
    differences.answered(sender.difference(again), work, {"judge": False})
    assert [one.incumbent for one in asked] == [request.incumbent, response.plan]
