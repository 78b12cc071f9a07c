"""What happened to a cluster, folded into what the master knows: pure, one event at a time.

An event is refused where it contradicts the snapshot (an unknown id, a task that is not in
the state the event needs, time that goes back). Bad decisions are not contradictions: a
start on a worker that is full, drains or lacks a label did happen if the event says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from plancast.planner.model.domain import (
    BadRequest,
    DependencyKind,
    Finished,
    Outcome,
    Running,
    Snapshot,
    Task,
)
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
)


def apply(snapshot: Snapshot, event: Event) -> Snapshot:
    """The snapshot after an event: version + 1, now = the event's time.

    Parameters
    ----------
    snapshot : Snapshot
        Left as it is.
    event : Event
        Any of ``messages``; ``at_s`` in seconds since the epoch, not before
        ``snapshot.now_s``.

    Returns
    -------
    Snapshot
        Of the budgets, what a task that ran has taken is gone.

        - ``TaskSubmitted``: the task is the last of the pending ones.
        - ``TaskStarted``: from pending to running, started at the event's time. One that names
          devices of a task that runs already on these workers: it has had these since its start.
        - ``TaskFinished``: from running to finished, with the event's outcome.
        - ``TaskCancelled``: from pending or running to finished, outcome cancelled, so that
          successors can see that they wait in vain.
        - ``TaskChanged``: the pending task of this id is the event's, at the same place.
        - ``ResourceCounted``: the cluster counts the resource; one of that name is replaced.
        - ``TaskOverran``: time passes.
        - ``TaskPreempted``: from running to pending, from its beginning, before all others.
        - ``WorkerLost``: the worker is gone; every task with a piece there is pending again
          from its beginning, before all others; a gang leaves its other workers too.
        - ``WorkerJoined``: the worker is the last of the workers; a lost one may come back.
        - ``WorkerDraining``: the worker's ``until_s`` is the event's.
        - ``WorkerBlocked``: so are the worker's closed windows.

    Raises
    ------
    BadRequest
        Where the event cannot follow on the snapshot: one sentence.
    """
    what = f"event {event.kind} at {event.at_s}"
    if event.at_s < snapshot.now_s:
        raise BadRequest(
            f"{what}: lies before the snapshot's now ({snapshot.now_s}); send events in order"
        )
    try:
        changes = _CHANGES[type(event)](snapshot, event)
        return snapshot.evolved(version=snapshot.version + 1, now_s=event.at_s, **changes)
    except BadRequest as error:
        raise BadRequest(f"{what}: {error}") from None


_NEEDED = {
    DependencyKind.AFTEROK: "completed",
    DependencyKind.AFTERANY: "ended",
    DependencyKind.AFTER: "started",
    DependencyKind.AFTERNOTOK: "failed",
}

Changes = dict[str, Any]
"""Fields of the snapshot that an event replaces."""


def _submitted(snapshot: Snapshot, event: TaskSubmitted) -> Changes:
    state = _state(snapshot, event.task.id)
    if state != "unknown":
        raise BadRequest(f"task {event.task.id} is {state} already; give each task its own id")
    # No cycle can come of it: nothing here follows a task that was not known.
    _check_named(snapshot, event.task)
    return {
        "pending": (*snapshot.pending, event.task),
        "pending_by_id": {**snapshot.pending_by_id, event.task.id: event.task},
    }


def _check_named(snapshot: Snapshot, task: Task) -> None:
    """Refuse a task that names what the snapshot does not know."""
    for before in task.predecessors:
        if _state(snapshot, before) == "unknown":
            raise BadRequest(f"task {task.id}: after names {before!r}, which is not in the request")
    snapshot.check_counted(task)
    snapshot.check_devices((task,))
    if task.depends:
        snapshot.check_known_to_run(task)


def _changed(snapshot: Snapshot, event: TaskChanged) -> Changes:
    old, new = _pending(snapshot, event.task.id), event.task
    if set(new.predecessors) - set(old.predecessors):
        raise BadRequest(f"task {new.id}: follows more tasks than before, which may make a cycle")
    _check_named(snapshot, new)
    return {"pending": tuple(new if t is old else t for t in snapshot.pending)}


def _counted(snapshot: Snapshot, event: ResourceCounted) -> Changes:
    new = event.resource
    for worker in snapshot.workers:
        if new.id in worker.capacity:
            raise BadRequest(f"worker {worker.id} has {new.id} of its own; count another name")
    if new.id in snapshot.budgets:
        raise BadRequest(f"{new.id} is a budget already; count another name")
    return {"counted": (*(c for c in snapshot.counted if c.id != new.id), new)}


def _started(snapshot: Snapshot, event: TaskStarted) -> Changes:
    if event.devices and event.task in snapshot.running_by_id:
        return _given_devices(snapshot, event)
    task = _pending(snapshot, event.task)
    for worker in event.workers:
        _require_worker(snapshot, worker)
    if not task.has_mode(event.mode):
        raise BadRequest(f"task {task.id} has no mode {event.mode!r}")
    shards = task.in_mode(event.mode).shards
    if len(event.workers) != shards:
        raise BadRequest(
            f"task {task.id} started on {len(event.workers)} workers; it has {shards} "
            "shards, name one worker for each"
        )
    if event.at_s < task.release_s:
        raise BadRequest(f"task {task.id} is released only at {task.release_s}")
    for on in task.dependencies:
        state = _state(snapshot, on.task)
        ended = snapshot.finished_by_id.get(on.task)
        met = on.is_met_by(ended.outcome) if ended else False
        if on.kind is DependencyKind.AFTER and state == "running":
            met = True
        if not met:
            raise BadRequest(
                f"task {task.id} follows {on.task}, which is {state}, not {_NEEDED[on.kind]}"
            )
    run = Running(task, event.workers, event.at_s, event.mode, event.devices)
    if event.devices:
        snapshot.check_held(run)
    return {
        "pending": _without(snapshot.pending, task.id),
        "pending_by_id": _less(snapshot.pending_by_id, task.id),
        "running": (*snapshot.running, run),
        "running_by_id": {**snapshot.running_by_id, task.id: run},
    }


def _given_devices(snapshot: Snapshot, event: TaskStarted) -> Changes:
    """What runs has the devices that the event names, since it began."""
    before = snapshot.running_by_id[event.task]
    if (event.workers, event.mode) != (before.workers, before.mode):
        raise BadRequest(
            f"task {event.task} runs already, on {', '.join(before.workers)}; name these workers "
            "to say which devices it has"
        )
    run = replace(before, devices=event.devices)
    snapshot.check_held(run)
    return {
        "running": tuple(run if r is before else r for r in snapshot.running),
        "running_by_id": {**snapshot.running_by_id, event.task: run},
    }


def _finished(snapshot: Snapshot, event: TaskFinished) -> Changes:
    run = _running(snapshot, event.task)
    return {
        "running": tuple([r for r in snapshot.running if r is not run]),
        "running_by_id": _less(snapshot.running_by_id, event.task),
        "finished": (
            *snapshot.finished,
            Finished(event.task, event.at_s, event.outcome, run.start_s),
        ),
        **_consumed(snapshot, (run,)),
    }


def _consumed(snapshot: Snapshot, ended: tuple[Running, ...]) -> Changes:
    """What is left of the budgets once some tasks run no more: what they took is not refunded."""
    if not snapshot.budgets or not ended:
        return {}
    left = dict(snapshot.budgets)
    for run in ended:
        for name, amount in run.done.demand.items():
            if name in left:
                left[name] = max(0, left[name] - amount)
    return {"budgets": left}


def _overran(snapshot: Snapshot, event: TaskOverran) -> Changes:
    _running(snapshot, event.task)
    return {}


def _preempted(snapshot: Snapshot, event: TaskPreempted) -> Changes:
    run = _running(snapshot, event.task)
    return {
        "pending": (run.task, *snapshot.pending),
        "running": tuple(r for r in snapshot.running if r is not run),
        **_consumed(snapshot, (run,)),
    }


def _cancelled(snapshot: Snapshot, event: TaskCancelled) -> Changes:
    state = _state(snapshot, event.task)
    if state not in ("pending", "running"):
        raise BadRequest(f"task {event.task} is {state}; only pending or running ones can be")
    run = snapshot.running_by_id.get(event.task)
    ended = Finished(event.task, event.at_s, Outcome.CANCELLED, run.start_s if run else None)
    return {
        "pending": _without(snapshot.pending, event.task),
        "running": tuple(r for r in snapshot.running if r.task.id != event.task),
        **_consumed(snapshot, tuple(r for r in snapshot.running if r.task.id == event.task)),
        "finished": (*snapshot.finished, ended),
    }


def _lost(snapshot: Snapshot, event: WorkerLost) -> Changes:
    _require_worker(snapshot, event.worker)
    if len(snapshot.workers) == 1:
        raise BadRequest(
            f"worker {event.worker} is the last one, and a cluster cannot be empty; "
            "let another worker join first"
        )
    hit = tuple(r for r in snapshot.running if event.worker in r.workers)
    return {
        "workers": tuple(w for w in snapshot.workers if w.id != event.worker),
        "pending": (*(r.task for r in hit), *snapshot.pending),
        **_consumed(snapshot, hit),
        "running": tuple(r for r in snapshot.running if event.worker not in r.workers),
    }


def _joined(snapshot: Snapshot, event: WorkerJoined) -> Changes:
    if event.worker.id in snapshot.worker_by_id:
        raise BadRequest(f"worker {event.worker.id} is in the cluster already")
    snapshot.check_capacity(event.worker)
    workers = (*snapshot.workers, event.worker)
    if event.worker.devices:
        known = (*snapshot.pending, *(run.task for run in snapshot.running))
        snapshot.evolved(workers=workers).check_devices(known)
    return {"workers": workers}


def _draining(snapshot: Snapshot, event: WorkerDraining) -> Changes:
    _require_worker(snapshot, event.worker)
    return {
        "workers": tuple(
            replace(w, until_s=event.until_s) if w.id == event.worker else w
            for w in snapshot.workers
        )
    }


def _blocked(snapshot: Snapshot, event: WorkerBlocked) -> Changes:
    _require_worker(snapshot, event.worker)
    return {
        "workers": tuple(
            replace(w, blocked=event.blocked) if w.id == event.worker else w
            for w in snapshot.workers
        )
    }


_CHANGES: dict[type[Any], Callable[[Snapshot, Any], Changes]] = {
    TaskSubmitted: _submitted,
    TaskStarted: _started,
    TaskFinished: _finished,
    TaskOverran: _overran,
    TaskPreempted: _preempted,
    TaskCancelled: _cancelled,
    TaskChanged: _changed,
    ResourceCounted: _counted,
    WorkerLost: _lost,
    WorkerJoined: _joined,
    WorkerDraining: _draining,
    WorkerBlocked: _blocked,
}


def _state(snapshot: Snapshot, task_id: str) -> str:
    if task_id in snapshot.pending_by_id:
        return "pending"
    if task_id in snapshot.running_by_id:
        return "running"
    ended = snapshot.finished_by_id.get(task_id)
    return ended.outcome.value if ended else "unknown"


def _pending(snapshot: Snapshot, task_id: str) -> Task:
    task = snapshot.pending_by_id.get(task_id)
    if task is None:
        raise BadRequest(f"task {task_id} is not pending (it is {_state(snapshot, task_id)})")
    return task


def _running(snapshot: Snapshot, task_id: str) -> Running:
    run = snapshot.running_by_id.get(task_id)
    if run is None:
        raise BadRequest(f"task {task_id} is not running (it is {_state(snapshot, task_id)})")
    return run


def _require_worker(snapshot: Snapshot, worker_id: str) -> None:
    if worker_id not in snapshot.worker_by_id:
        raise BadRequest(f"worker {worker_id!r} is not in the cluster")


def _without(tasks: tuple[Task, ...], task_id: str) -> tuple[Task, ...]:
    return tuple([t for t in tasks if t.id != task_id])


def _less(index: Mapping[str, Any], task_id: str) -> dict[str, Any]:
    """An index without one task, in the same order: made anew it would take ten times as long."""
    found = dict(index)
    del found[task_id]
    return found
