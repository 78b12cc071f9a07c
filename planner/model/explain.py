"""Why a planned task waits, in words."""

from __future__ import annotations

from collections import defaultdict

from plancast.planner.model.domain import Plan, Task
from plancast.planner.model.messages import PlanRequest
from plancast.planner.model.spans import running_end_s


def explain_waits(request: PlanRequest, plan: Plan) -> dict[str, str]:
    """For each task that starts later than it might, the constraint that holds it back.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
        Valid for the request.

    Returns
    -------
    dict of str to str
        Only tasks that start after their release (and after now).
    """
    snapshot = request.snapshot
    now = snapshot.now_s
    end_of = {a.task: a.end_s for a in plan.assignments}
    ends_on: dict[str, dict[int, str]] = defaultdict(dict)
    for assignment in plan.assignments:
        for worker in assignment.workers:
            ends_on[worker].setdefault(assignment.end_s, assignment.task)
    for run in snapshot.running:
        if run.task.id not in plan.preempted:
            end_of[run.task.id] = running_end_s(request, run)
            for worker in run.workers:
                ends_on[worker].setdefault(end_of[run.task.id], run.task.id)

    why = {}
    for task in snapshot.pending:
        planned = plan.by_task.get(task.id)
        earliest_s = max(now, task.release_s)
        if planned is None or planned.start_s <= earliest_s:
            continue
        cause = _cause(request, task, planned.start_s, end_of, ends_on, planned.workers)
        why[task.id] = f"waits {planned.start_s - earliest_s} s {cause}"
    return why


def _cause(
    request: PlanRequest,
    task: Task,
    start_s: int,
    end_of: dict[str, int],
    ends_on: dict[str, dict[int, str]],
    workers: tuple[str, ...],
) -> str:
    for before in task.after:
        if end_of.get(before) == start_s:
            return f"for its predecessor {before} to end"
    for name in workers:
        blocker = ends_on[name].get(start_s)
        if blocker is not None:
            return f"for {blocker} to end on worker {name}"
        worker = request.snapshot.worker_by_id[name]
        if worker.free_from_s == start_s:
            return f"for worker {name} to become free"
        if any(window.end_s == start_s for window in worker.blocked):
            return f"for a blocked window of worker {name} to pass"
    return "by choice of the plan: no cheaper earlier start was found"
