"""Projects in Patterson's format, as RG300 and the RanGen sets have them.

The number of activities and of resources; the capacities; then for each activity its
duration, its demands, its number of successors and the successors, over as many lines as
it takes.

References
----------
Debels, Vanhoucke (2007), "A decomposition-based genetic algorithm for the
resource-constrained project-scheduling problem", doi:10.1287/opre.1060.0358 (RG300).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plancast.planner.instances.base import InstanceSet, instance_set
from plancast.planner.instances.projects import Activity, project_request
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import PlanRequest


def patterson_set(path: str | Path) -> InstanceSet:
    """The ``.txt`` and ``.rcp`` files of an archive or a folder, or one of them."""
    return instance_set(path, ("*.txt", "*.rcp"), parse_patterson)


def parse_patterson(name: str, text: str) -> PlanRequest:
    """The request that a file in Patterson's format describes.

    Raises
    ------
    BadRequest
        With the activity at which the numbers end or go wrong.
    """
    numbers = whole_numbers(text)
    where = "the first line (activities, resources)"
    try:
        count, resources = next(numbers), next(numbers)
        if count < 1 or resources < 1:
            raise BadRequest(f"{where} should hold two numbers of 1 or more")
        where = "the line of capacities"
        capacities = [next(numbers) for _ in range(resources)]
        activities = []
        for k in range(1, count + 1):
            where = f"activity {k}"
            duration = next(numbers)
            demands = tuple(next(numbers) for _ in range(resources))
            followers = next(numbers)
            activities.append(
                Activity(duration, demands, tuple(next(numbers) for _ in range(followers)))
            )
    except (StopIteration, RuntimeError):
        raise BadRequest(f"ends within {where}; it is not in Patterson's format") from None
    if (extra := next(numbers, None)) is not None:
        raise BadRequest(f"goes on with {extra} after its {count} activities")
    return project_request(name, activities, capacities)


def whole_numbers(text: str) -> Iterator[int]:
    """The whole numbers of a text, in order."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in line.split():
            try:
                yield int(word)
            except ValueError:
                raise BadRequest(f"line {number}: {word!r} is not a whole number") from None
