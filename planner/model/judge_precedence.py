"""When a task may start after those it depends on, as the judge reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from plancast.planner.model.domain import (
    Assignment,
    Dependency,
    DependencyKind,
    Finished,
    Outcome,
    Plan,
    Snapshot,
    Task,
)
from plancast.planner.model.violations import Violation, ViolationKind


def lets_run(on: Dependency, ended: Finished) -> bool:
    """Whether how a predecessor ended lets the task run at all."""
    if on.kind is DependencyKind.AFTEROK:
        return ended.outcome is Outcome.COMPLETED
    if on.kind is DependencyKind.AFTERNOTOK:
        return ended.outcome is not Outcome.COMPLETED
    return True


def earliest_after(
    snapshot: Snapshot, plan: Plan, on: Dependency, running_end_s: Mapping[str, int]
) -> int | None:
    """When a dependency lets a task start, seconds since the epoch; None for never.

    Parameters
    ----------
    snapshot : Snapshot
    plan : Plan
    on : Dependency
    running_end_s : mapping of str to int
        Expected ends of the running tasks.
    """
    starts = on.kind is DependencyKind.AFTER
    ended, planned = snapshot.finished_by_id.get(on.task), plan.by_task.get(on.task)
    if ended is not None:
        if not lets_run(on, ended):
            return None
        if on.lag_s == 0:
            return snapshot.now_s
        since = ended.start_s if starts and ended.start_s is not None else ended.end_s
    elif on.kind is DependencyKind.AFTERNOTOK:
        return None
    elif planned is not None:
        since = planned.start_s if starts else planned.end_s
    elif on.task in snapshot.running_by_id and on.task not in plan.preempted:
        run = snapshot.running_by_id[on.task]
        since = run.start_s if starts else running_end_s[on.task]
    else:
        return None
    return since + on.lag_s


def precedence_violations(
    snapshot: Snapshot,
    plan: Plan,
    running_end_s: Mapping[str, int],
    assignment: Assignment,
    task: Task,
) -> Iterator[Violation]:
    """Dependencies of a task that its start breaks, or that can never be met."""
    for on in task.dependencies:
        earliest_s = earliest_after(snapshot, plan, on, running_end_s)
        if earliest_s is None:
            ended = snapshot.finished_by_id.get(on.task)
            what = "the plan leaves out" if ended is None else f"ended as {ended.outcome.value}"
            yield Violation(
                ViolationKind.PREDECESSOR_UNPLANNED,
                f"task {task.id} follows {on.task}, which {what}",
                task.id,
            )
        elif assignment.start_s < earliest_s:
            event = "starts" if on.kind is DependencyKind.AFTER else "ends"
            lag = f"{on.lag_s} s after " if on.lag_s else ""
            yield Violation(
                ViolationKind.BEFORE_PREDECESSOR,
                f"task {task.id} starts at {assignment.start_s}, before {lag}{on.task} {event} "
                f"at {earliest_s - on.lag_s}",
                task.id,
            )
