"""A request moved in time, as a whole: batches of files begin now, whatever their clock says."""

from __future__ import annotations

from dataclasses import replace

from plancast.planner.model.domain import Task, Window, Worker
from plancast.planner.model.messages import PlanRequest


def begun_at(request: PlanRequest, now_s: int) -> PlanRequest:
    """The request with its snapshot's now moved to `now_s`, and every other time with it.

    Parameters
    ----------
    request : PlanRequest
        Nothing of it runs.
    now_s : int
        Seconds since the epoch.
    """
    snapshot = request.snapshot
    by = now_s - snapshot.now_s
    return replace(
        request,
        snapshot=replace(
            snapshot,
            now_s=now_s,
            workers=tuple(_worker(w, by) for w in snapshot.workers),
            pending=tuple(_task(t, by) for t in snapshot.pending),
        ),
        incumbent=None,
    )


def _task(task: Task, by: int) -> Task:
    deadline = None if task.deadline_s is None else task.deadline_s + by
    return replace(task, release_s=task.release_s + by, deadline_s=deadline)


def _worker(worker: Worker, by: int) -> Worker:
    return replace(
        worker,
        free_from_s=None if worker.free_from_s is None else worker.free_from_s + by,
        until_s=None if worker.until_s is None else worker.until_s + by,
        blocked=tuple(Window(b.start_s + by, b.end_s + by) for b in worker.blocked),
    )
