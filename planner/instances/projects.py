"""A resource-constrained project (RCPSP) as a request: one worker with several resources.

An activity is a task; the project's resources are the capacity of its only worker; one
unit of the file's time is a second. Activities of no duration (the dummy source and sink)
take no resource while they last, so they are left out and their predecessors handed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plancast.planner.instances.base import MAKESPAN_SECONDS
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    Snapshot,
    Task,
    Worker,
    find_cycle,
)
from plancast.planner.model.messages import PlanRequest


@dataclass(frozen=True)
class Activity:
    """One activity of a project; successors by their number, counted from 1."""

    duration: int
    demands: tuple[int, ...]
    successors: tuple[int, ...]


def project_request(
    name: str, activities: Sequence[Activity], capacities: Sequence[int]
) -> PlanRequest:
    """The request of a project.

    Parameters
    ----------
    name : str
    activities : sequence of Activity
        Number k of the file is ``activities[k - 1]``.
    capacities : sequence of int
        Of each renewable resource.

    Raises
    ------
    BadRequest
        For a number that is none of an activity's, a cycle, or a demand beyond a capacity.
    """
    resources = [f"R{r + 1}" for r in range(len(capacities))]
    before: dict[str, list[str]] = {str(k + 1): [] for k in range(len(activities))}
    for k, activity in enumerate(activities, 1):
        if activity.duration < 0:
            raise BadRequest(f"activity {k} lasts {activity.duration}; write 0 or more")
        for follower in activity.successors:
            if str(follower) not in before:
                raise BadRequest(
                    f"activity {k} is followed by {follower}; there are {len(activities)}"
                )
            before[str(follower)].append(str(k))
        for r, (demand, capacity) in enumerate(zip(activity.demands, capacities, strict=True)):
            if demand > capacity:
                raise BadRequest(
                    f"activity {k} needs {demand} of {resources[r]}, which has {capacity}"
                )
    durations = {str(k): a.duration for k, a in enumerate(activities, 1)}
    after = without_instant(durations, before)
    tasks = tuple(
        Task(
            key,
            {n: a for n, a in zip(resources, activities[int(key) - 1].demands, strict=True) if a},
            after=names,
        )
        for key, names in after.items()
    )
    worker = Worker("project", dict(zip(resources, capacities, strict=True)))
    estimates = {t.id: {ANY_CLASS: DurationEstimate.certain(durations[t.id])} for t in tasks}
    return PlanRequest(name, Snapshot(0, 0, (worker,), tasks), estimates, MAKESPAN_SECONDS)


def without_instant(
    durations: Mapping[str, int], before: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Predecessors among what lasts, handed on through what takes no time.

    Raises
    ------
    BadRequest
        For a cycle.
    """
    if cycle := find_cycle(before):
        raise BadRequest(f"precedence has a cycle: {' -> '.join(cycle)}")
    found: dict[str, tuple[str, ...]] = {}

    def lasting(key: str) -> tuple[str, ...]:
        stack = [key]
        while stack:  # a chain of instants may be longer than Python's stack
            top = stack[-1]
            waiting = [b for b in before[top] if durations[b] == 0 and b not in found]
            if waiting:
                stack += waiting
                continue
            stack.pop()
            if top not in found:
                handed = [(b,) if durations[b] else found[b] for b in before[top]]
                found[top] = tuple(dict.fromkeys(b for names in handed for b in names))
        return found[key]

    return {key: lasting(key) for key in before if durations[key]}
