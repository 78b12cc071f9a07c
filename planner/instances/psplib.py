"""PSPLIB's single-mode files (``.sm``).

Multi-mode files (``.mm``) are read by ``multimode``.

References
----------
Kolisch, Sprecher (1997), "PSPLIB - a project scheduling problem library",
doi:10.1016/S0377-2217(96)00170-1.
"""

from __future__ import annotations

from pathlib import Path

from plancast.planner.instances.base import InstanceSet, instance_set
from plancast.planner.instances.projects import Activity, project_request
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import PlanRequest


def psplib_set(path: str | Path) -> InstanceSet:
    """The ``.sm`` files of an archive or a folder, or one of them."""
    return instance_set(path, ("*.sm",), parse_psplib)


def parse_psplib(name: str, text: str) -> PlanRequest:
    """The request that a ``.sm`` file describes.

    Raises
    ------
    BadRequest
        With the section and what is wrong in it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    relations = section(lines, "PRECEDENCE RELATIONS", 2)
    requests = section(lines, "REQUESTS/DURATIONS", 2)
    available = section(lines, "RESOURCEAVAILABILITIES", 2)
    if not available:
        raise BadRequest("RESOURCEAVAILABILITIES has no numbers")
    capacities = available[0]
    if len(requests) != len(relations):
        raise BadRequest(
            f"REQUESTS/DURATIONS has {len(requests)} rows and PRECEDENCE RELATIONS "
            f"{len(relations)}; each activity needs one of both"
        )
    activities = []
    for k, (relation, request) in enumerate(zip(relations, requests, strict=True), 1):
        if len(relation) < 3 or relation[0] != k or len(relation) != 3 + relation[2]:
            raise BadRequest(f"PRECEDENCE RELATIONS: row {k} does not fit its numbers")
        if relation[1] != 1 or len(request) != 3 + len(capacities) or request[:2] != [k, 1]:
            raise BadRequest(
                f"activity {k} does not have one mode with a duration and {len(capacities)} "
                "requests; multi-mode files are of kind mmrcpsp"
            )
        activities.append(Activity(request[2], tuple(request[3:]), tuple(relation[3:])))
    return project_request(name, activities, capacities)


def section(lines: list[str], title: str, skip: int, other: str | None = None) -> list[list[int]]:
    """The rows of numbers under a title; `skip` lines are the title and its headings.

    `other` is another way to write the title.
    """
    titles = (title, other or title)
    place = next((k for k, line in enumerate(lines) if line.startswith(titles)), None)
    if place is None:
        raise BadRequest(f"has no section {title}; give a file in PSPLIB's format")
    rows = []
    for line in lines[place + skip :]:
        if line.startswith("*"):
            break
        if line.startswith("-"):
            continue
        try:
            rows.append([int(word) for word in line.split()])
        except ValueError:
            raise BadRequest(f"{title}: {line!r} should hold whole numbers") from None
    return rows
