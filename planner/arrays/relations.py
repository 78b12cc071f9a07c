"""What couples tasks and pieces beyond demands: shapes of gangs, exclusive tasks, starts, lags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.planner.arrays.schedule import (
    BEYOND_CHOICE,
    FIRST_CHOICE,
    GANG_INTS,
    MOST_HERE,
    MOST_WORKERS,
    WHOLE,
)
from plancast.planner.model.domain import BadRequest, DependencyKind, Snapshot, Task
from plancast.planner.model.labels import alternatives

Ints = NDArray[np.int64]

ALONE = "(worker of its own)"
"""The resource of which an exclusive task takes all that a worker has, and any other a little."""


def shape_of(task: Task) -> tuple[int, int]:
    """Most pieces of a task on one worker, and most workers."""
    each, workers = task.most_per_worker, task.most_workers
    most = task.shards if each is None else min(each, task.shards)
    return most, task.shards if workers is None else min(workers, task.shards)


def gang_array(
    tasks: Sequence[Task], shards: Ints, choices: Mapping[int, range], whole: int
) -> Ints:
    """``Problem.gang``.

    Parameters
    ----------
    tasks : sequence of Task
    shards : int64 (tasks,)
    choices : mapping of int to range
        Task to the rows of `allowed` of its alternatives.
    whole : int
        What a worker has of ``ALONE``; 0 where no task is exclusive.
    """
    gang = np.zeros((len(tasks), GANG_INTS), np.int64)
    gang[:, MOST_HERE] = gang[:, MOST_WORKERS] = shards
    for i in np.flatnonzero(shards > 1).tolist():
        task = tasks[i]
        if task.most_per_worker is not None or task.most_workers is not None:
            gang[i, MOST_HERE], gang[i, MOST_WORKERS] = shape_of(task)
        if i in choices:
            gang[i, FIRST_CHOICE], gang[i, BEYOND_CHOICE] = choices[i].start, choices[i].stop
        if task.exclusive and gang[i, MOST_HERE] > 1:
            gang[i, WHOLE] = whole
    return gang


def with_choices(
    kinds: list[Task], kind_of: Ints, tasks: Sequence[Task], shards: Ints
) -> dict[int, range]:
    """Add a kind for each alternative of a gang's bracket; the rows of each task that has one."""
    rows: dict[int, range] = {}
    found: dict[int, range] = {}
    for i in np.flatnonzero(shards > 1).tolist():
        task = tasks[i]
        if not any("[" in text for text in task.requires):
            continue
        kind = int(kind_of[i])
        if kind not in rows:
            first = len(kinds)
            kinds += [
                replace(task, requires=(*task.requires, str(choice)))
                for choice in alternatives(task.requires)
            ]
            rows[kind] = range(first, len(kinds))
        found[i] = rows[kind]
    return found


def add_alone(
    snapshot: Snapshot, machines: dict[str, Any], busy: dict[str, Any], task_arrays: dict[str, Any]
) -> int:
    """Add ``ALONE`` as the last resource where a task is exclusive; what each worker has of it.

    Notes
    -----
    An exclusive task takes all of it, any other one 1 a piece, so that no exclusive one fits
    beside anything. A piece of a gang that may share a worker with others of its own is down for
    its part of the whole: what all its pieces take together is then no more than the gang does.
    """
    exclusive = [t.exclusive for t in snapshot.pending]
    if not any(exclusive) and not any(r.task.exclusive for r in snapshot.running):
        return 0
    whole = 1 + sum(t.shards for t in snapshot.pending)
    whole += sum(len(r.workers) for r in snapshot.running)
    each = [whole // shape_of(t)[0] if t.exclusive else 1 for t in snapshot.pending]
    held = [whole if r.task.exclusive else 1 for r in snapshot.running for _ in r.workers]
    _add_column(machines, "capacity", [whole] * len(machines["capacity"]))
    _add_column(task_arrays, "demand", each)
    _add_column(busy, "busy_demand", held)
    return whole


def _add_column(arrays: dict[str, Any], name: str, values: Sequence[int]) -> None:
    arrays[name] = np.column_stack([arrays[name], np.array(values, np.int64)])


def releases(snapshot: Snapshot, running_end: Mapping[str, int]) -> list[int]:
    """Earliest start of each pending task after what runs and has ended, seconds after now."""
    now = snapshot.now_s
    found = [task.release_s - now if task.release_s > now else 0 for task in snapshot.pending]
    for i, task in enumerate(snapshot.pending):
        for before in task.after:
            if before in running_end:
                found[i] = max(found[i], running_end[before] - now)
        for on in task.depends:
            ended, run = snapshot.finished_by_id.get(on.task), snapshot.running_by_id.get(on.task)
            starts = on.kind is DependencyKind.AFTER
            if run is not None:
                since = run.start_s if starts else running_end[on.task]
            elif ended is None or not on.lag_s:
                continue
            else:
                since = ended.start_s if starts and ended.start_s is not None else ended.end_s
            found[i] = max(found[i], since + on.lag_s - now)
    return found


def link_rows(task: Task, place: Mapping[str, int]) -> list[tuple[int, int, int]]:
    """Rows of ``Problem.link`` of one task."""
    rows = [(place[b], 1, 0) for b in task.after if b in place] if task.after else []
    for on in task.depends:
        if on.task in place:
            ends = int(on.kind is not DependencyKind.AFTER)
            rows.append((place[on.task], ends, on.lag_s))
    return rows


def refuse_relations(snapshot: Snapshot, who: str, *, only_lags: bool = False) -> None:
    """Refuse by name what `who` cannot keep to (``BadRequest``): all of it, or starts and lags."""
    for task in (*snapshot.pending, *(r.task for r in snapshot.running)):
        what = ""
        if any(on.lag_s or on.kind is DependencyKind.AFTER for on in task.depends):
            what = "dependencies on a start or with a lag"
        elif only_lags:
            continue
        elif task.exclusive:
            what = "exclusive tasks"
        elif task.shards > 1 and (task.most_per_worker or task.most_workers):
            what = "most_per_worker and most_workers"
        elif task.shards > 1 and alternatives(task.requires):
            what = "[ ] in requires of a gang"
        if what:
            raise BadRequest(f"task {task.id}: {who} cannot keep to {what}")
