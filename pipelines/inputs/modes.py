"""Tasks that may be done in several modes, as tables have them: a row for each mode of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from plancast.planner.model.domain import BadRequest, ByClass, Estimates, Mode, Task

OF_TASK = (
    "release_s", "deadline_s", "weight", "owner", "app", "after", "preemptible", "exclusive",
    "most_per_worker", "most_workers",
)  # fmt: skip
"""What the first row of a task says of all its modes; the others repeat it or leave it empty."""

Fault = Callable[[int, str, str], BadRequest]
"""(row, what is wrong, column) to the error."""


def joined(
    rows: Sequence[Task], modes: Sequence[str], given: Callable[[int, str], bool], fault: Fault
) -> list[Task]:
    """One task of the rows that bear its id and a mode each.

    Parameters
    ----------
    rows : sequence of Task
        Each row by itself.
    modes : sequence of str
        Mode of each row; "" where the task has none.
    given : callable
        Whether (row, column) is filled in.
    fault : callable
        Makes the error of a row.

    Returns
    -------
    list of Task
        In order of their first rows.
    """
    found: dict[str, Task] = {}
    for row, (task, mode) in enumerate(zip(rows, modes, strict=True)):
        if not mode:
            found[task.id] = task
            continue
        way = Mode(mode, task.demand, task.shards, task.requires, task.requested_s)
        first = found.get(task.id)
        if first is None:
            found[task.id] = replace(
                task, demand={}, shards=1, requires=(), requested_s=None, modes=(way,)
            )
            continue
        for name in OF_TASK:
            fields = (name, "depends") if name == "after" else (name,)
            if given(row, name) and any(getattr(task, f) != getattr(first, f) for f in fields):
                raise fault(
                    row, f"differs between the modes of task {task.id}; write it in the first", name
                )
        found[task.id] = replace(first, modes=(*first.modes, way))
    return list(found.values())


def ways_of(task: Task) -> Iterator[tuple[str, Task]]:
    """(mode, the task done in it) for each mode; ("", the task itself) where it has none."""
    for mode in task.modes:
        yield mode.id, task.in_mode(mode.id)
    if not task.modes:
        yield "", task


def nested(found: Mapping[tuple[str, str], ByClass]) -> Estimates:
    """Estimates by (task, mode) in the nested form of a request; mode "" is that of no modes.

    Raises
    ------
    BadRequest
        Where a task has estimates with a mode and without.
    """
    result: dict[str, Any] = {}
    for (task, mode), by_class in found.items():
        if (task, "") in found and mode:
            raise BadRequest(f"task {task} has estimates of mode {mode} and of no mode")
        if mode:
            result.setdefault(task, {})[mode] = by_class
        else:
            result[task] = by_class
    return result


def flat(estimates: Estimates, tasks: Sequence[str] | None = None) -> dict[tuple[str, str], Any]:
    """The inverse of ``nested``: (task, mode) to the estimates by machine class."""
    result: dict[tuple[str, str], Any] = {}
    for task in estimates if tasks is None else tasks:
        known: Any = estimates[task]
        if any(hasattr(value, "levels") for value in known.values()):
            result[task, ""] = known
        else:
            result.update({(task, mode): by_class for mode, by_class in known.items()})
    return result
