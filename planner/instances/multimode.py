"""Multi-mode projects: PSPLIB's ``.mm`` files and MMLIB's, which have the same form.

An activity's modes are the modes of a task, renewable resources are those of the project's only
worker, non-renewable ones are budgets.

References
----------
Kolisch, Sprecher (1997), "PSPLIB - a project scheduling problem library",
doi:10.1016/S0377-2217(96)00170-1.
Van Peteghem, Vanhoucke (2014), "An experimental investigation of metaheuristics for the
multi-mode resource-constrained project scheduling problem on new dataset instances",
doi:10.1016/j.ejor.2013.10.012.
"""

from __future__ import annotations

import re
from pathlib import Path

from plancast.planner.instances.base import MAKESPAN_SECONDS, InstanceSet, instance_set
from plancast.planner.instances.projects import without_instant
from plancast.planner.instances.psplib import section
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    Mode,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest


def multimode_set(path: str | Path) -> InstanceSet:
    """The ``.mm`` and ``.txt`` files of an archive or a folder, or one of them."""
    return instance_set(path, ("*.mm", "J*.txt"), parse_multimode)


def parse_multimode(name: str, text: str) -> PlanRequest:
    """The request that a file describes.

    Raises
    ------
    BadRequest
        With the section and what is wrong in it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    renewable, consumed = (_count(lines, kind) for kind in ("renewable", "nonrenewable"))
    relations = section(lines, "PRECEDENCE RELATIONS", 2)
    rows = section(lines, "REQUESTS/DURATIONS", 2)
    available = section(lines, "RESOURCE AVAILABILITIES", 2, "RESOURCEAVAILABILITIES")
    if not available or len(available[0]) != renewable + consumed:
        raise BadRequest(f"RESOURCE AVAILABILITIES needs {renewable + consumed} numbers")
    resources = [f"R{r + 1}" for r in range(renewable)] + [f"N{r + 1}" for r in range(consumed)]
    activities = _activities(rows, len(resources))
    if sorted(activities) != list(range(1, len(relations) + 1)):
        raise BadRequest(
            f"REQUESTS/DURATIONS has {len(activities)} activities and PRECEDENCE RELATIONS "
            f"{len(relations)}; each activity needs rows of both"
        )
    longest = {str(k): max(mode[0] for mode in modes) for k, modes in activities.items()}
    tasks, estimates = [], {}
    for key, after in without_instant(longest, _before(relations, activities)).items():
        modes = activities[int(key)]
        if not all(mode[0] for mode in modes):
            raise BadRequest(f"activity {key} takes no time in some of its modes; write 1 or more")
        ways = [
            Mode(str(k), {r: a for r, a in zip(resources, mode[1:], strict=True) if a})
            for k, mode in enumerate(modes, 1)
        ]
        tasks.append(Task(key, {}, after=after, modes=tuple(ways)))
        estimates[key] = {
            way.id: {ANY_CLASS: DurationEstimate.certain(mode[0])}
            for way, mode in zip(ways, modes, strict=True)
        }
    has = dict(zip(resources, available[0], strict=True))
    worker = Worker("project", {r: has[r] for r in resources[:renewable]})
    budgets = {r: has[r] for r in resources[renewable:]}
    snapshot = Snapshot(0, 0, (worker,), tuple(tasks), budgets=budgets)
    return PlanRequest(name, snapshot, estimates, MAKESPAN_SECONDS)


def _before(
    relations: list[list[int]], activities: dict[int, list[list[int]]]
) -> dict[str, list[str]]:
    """The predecessors of each activity."""
    before: dict[str, list[str]] = {str(k): [] for k in activities}
    for k, relation in enumerate(relations, 1):
        if len(relation) < 3 or relation[0] != k or len(relation) != 3 + relation[2]:
            raise BadRequest(f"PRECEDENCE RELATIONS: row {k} does not fit its numbers")
        if relation[1] != len(activities[k]):
            raise BadRequest(f"activity {k} has {len(activities[k])} modes, not {relation[1]}")
        for follower in relation[3:]:
            if str(follower) not in before:
                raise BadRequest(f"activity {k} is followed by {follower}, which is none")
            before[str(follower)].append(str(k))
    return before


def _count(lines: list[str], kind: str) -> int:
    """How many resources there are of a kind, as the head of the file says."""
    for line in lines:
        found = re.match(rf"-\s*{kind}\s*:\s*(\d+)", line)
        if found:
            return int(found[1])
    raise BadRequest(f"does not say how many {kind} resources there are")


def _activities(rows: list[list[int]], resources: int) -> dict[int, list[list[int]]]:
    """Duration and requests of each activity's modes."""
    found: dict[int, list[list[int]]] = {}
    current = 0
    for row in rows:
        # Further modes of an activity leave its number out.
        if len(row) == 3 + resources:
            current, row = row[0], row[1:]
        if len(row) != 2 + resources or row[0] != len(found.get(current, [])) + 1:
            raise BadRequest(
                f"REQUESTS/DURATIONS: a row of activity {current} should hold a mode, a duration "
                f"and {resources} requests"
            )
        if min(row[1:]) < 0:
            raise BadRequest(f"REQUESTS/DURATIONS: activity {current} has a number below 0")
        found.setdefault(current, []).append(row[1:])
    return found
