"""Requests to a planner process that remembers the last one: only what is new is sent.

A master asks at each event about thousands of tasks that are as they were. To write them down and
read them again would take longer than to plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plancast.planner.model.domain import Finished, Plan, Running, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest, PlanResponse


@dataclass(frozen=True, slots=True)
class Difference:
    """A request as what it has that the one before had not.

    Parameters
    ----------
    first : bool
        Whether nothing was there before.
    request : dict
        Its plain fields.
    snapshot : dict
        Those of the snapshot that are sent whole.
    workers : tuple of Worker, optional
        None for the same as before.
    pending, running : tuple of str
        Ids of the tasks, in order.
    tasks, runs, estimates : mapping
        By id: those that are not the ones of before.
    incumbent : Plan, optional
    answered : bool
        Whether the incumbent is the plan of the last answer, which is not sent back.
    """

    first: bool
    request: Mapping[str, Any]
    snapshot: Mapping[str, Any]
    workers: tuple[Worker, ...] | None
    pending: tuple[str, ...]
    running: tuple[str, ...]
    tasks: Mapping[str, Task]
    runs: Mapping[str, Running]
    estimates: Mapping[str, Any]
    incumbent: Plan | None
    answered: bool


PLAIN = ("request_id", "policy", "budget", "seed", "schema_version")
WHOLE = ("version", "now_s", "budgets", "counted")


@dataclass
class Sender:
    """The asker's side: what the planner process knows by now."""

    begun: bool = False
    workers: tuple[Worker, ...] | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    runs: dict[str, Running] = field(default_factory=dict)
    estimates: dict[str, Any] = field(default_factory=dict)
    plan: Plan | None = None

    def difference(self, request: PlanRequest) -> Difference:
        """What is to be sent; it counts as known from then on."""
        snapshot, known = request.snapshot, request.estimates
        tasks, new_tasks = _new({t.id: t for t in snapshot.pending}, self.tasks)
        runs, new_runs = _new({r.task.id: r for r in snapshot.running}, self.runs)
        wanted = {name: known[name] for of in (tasks, runs) for name in of if name in known}
        estimates, new_estimates = _new(wanted, self.estimates)
        same, first = snapshot.workers is self.workers, not self.begun
        answered = request.incumbent is not None and request.incumbent is self.plan
        self.begun, self.workers = True, snapshot.workers
        self.tasks, self.runs, self.estimates = tasks, runs, estimates
        whole = {name: getattr(snapshot, name) for name in WHOLE}
        return Difference(
            first, {name: getattr(request, name) for name in PLAIN},
            whole | {"finished": _waited_for(snapshot)},
            None if same else snapshot.workers, tuple(tasks), tuple(runs),
            new_tasks, new_runs, new_estimates, None if answered else request.incumbent, answered,
        )  # fmt: skip

    def answered(self, response: PlanResponse) -> None:
        """The process remembers the plan that it answered with."""
        self.plan = response.plan


def _new(now: dict[str, Any], before: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What there is, and what of it is another object than before."""
    return now, {name: value for name, value in now.items() if before.get(name) is not value}


def _waited_for(snapshot: Snapshot) -> tuple[Finished, ...]:
    """What has ended and is named by what waits: nothing else of the past makes a difference."""
    named = {b for t in snapshot.pending if t.after or t.depends for b in t.predecessors}
    return tuple(f for f in snapshot.finished if f.id in named) if named else ()


@dataclass
class Receiver:
    """The process's side: the last request, and the last plan that was answered."""

    request: PlanRequest | None = None
    plan: Plan | None = None

    def take(self, new: Difference) -> PlanRequest:
        """The whole request."""
        last = None if new.first else self.request
        incumbent = self.plan if new.answered else new.incumbent
        if last is None:
            assert new.workers is not None
            snapshot = Snapshot(
                workers=new.workers, pending=tuple(new.tasks.values()),
                running=tuple(new.runs.values()), **new.snapshot,
            )  # fmt: skip
            self.request = PlanRequest(
                snapshot=snapshot, estimates=new.estimates, incumbent=incumbent, **new.request
            )
            return self.request
        before = last.snapshot
        tasks, runs = new.tasks, new.runs
        pending = _all(new.pending, tasks, before.pending_by_id)
        running = _all(new.running, runs, before.running_by_id)
        estimates = {
            name: new.estimates[name] if name in new.estimates else last.estimates[name]
            for of in (new.pending, new.running)
            for name in of
            if name in new.estimates or name in last.estimates
        }
        changes = {} if new.workers is None else {"workers": new.workers}
        snapshot = before.evolved(pending=pending, running=running, **new.snapshot, **changes)
        self.request = last.evolved(
            snapshot=snapshot, estimates=estimates, incumbent=incumbent, **new.request
        )
        return self.request


def _all(names: Sequence[str], new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple([new[name] if name in new else old[name] for name in names])


RECEIVER = Receiver()
"""Of a planner process."""


def answered(
    new: Difference, work: Callable[..., PlanResponse], arguments: Mapping[str, Any]
) -> PlanResponse:
    """What a planner process answers to a difference: ``work`` on the whole request."""
    response = work(RECEIVER.take(new), **arguments)
    RECEIVER.plan = response.plan
    return response
