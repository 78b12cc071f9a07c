"""From what a user submits to tasks that can be written down."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence

from plancast.pipelines.inputs.arrays import expanded
from plancast.pipelines.inputs.counted import counted_tasks
from plancast.pipelines.inputs.models import TaskRow
from plancast.pipelines.inputs.user_files import tasks_of_rows
from plancast.pipelines.master.desk import NewTask
from plancast.pipelines.master.service import Settings
from plancast.pipelines.master.state import estimates_text
from plancast.planner.model.domain import BadRequest, ByClass, Snapshot


def names_before(rows: Sequence[TaskRow]) -> list[str]:
    """What may be ids of tasks in the ``after`` of rows, however it is written."""
    words = {word for row in rows for word in row.after}
    return sorted(words | {part for word in words for part in re.split(r"[,:+]", word) if part})


def new_tasks(
    rows: Sequence[TaskRow],
    array: str,
    estimates: Mapping[str, ByClass],
    command: str,
    known: Collection[str],
    snapshot: Snapshot,
    settings: Settings,
) -> list[NewTask]:
    """The tasks of a submission.

    Parameters
    ----------
    rows : sequence of TaskRow
    array : str
        Indices of which each row is one task; empty for no array.
    estimates : mapping
        By task and machine class.
    command : str
        Template; the master's own where it is empty.
    known : collection of str
        Tasks of before that ``after`` names.
    snapshot : Snapshot
        The cluster now.
    settings : Settings

    Raises
    ------
    BadRequest
        One sentence with the place in the list and the field.
    """
    if array:
        cells = [row.model_dump(exclude_unset=True) for row in rows]
        rows = [TaskRow.model_validate(cell) for cell in expanded(cells, array)]
    tasks, asked = tasks_of_rows(rows, now_s=snapshot.now_s, known=known)
    names = snapshot.counted_by_id
    counted = counted_tasks(tasks, asked, settings.limits, names, snapshot.workers)
    runs = None
    if command and settings.command_of is not None:
        runs = settings.command_of(command)
    elif settings.kind.real and settings.command is None:
        raise BadRequest("command: is empty, and the master has none of its own; name a program")
    found = []
    for row, (task, places) in zip(rows, counted, strict=True):
        if task.modes or row.mode:
            raise BadRequest(f"task {task.id}: has modes, which a master cannot carry out")
        if task.id not in estimates and settings.model is None and task.requested_s is None:
            raise BadRequest(
                f"task {task.id}: names no requested_s, and the master has no model to forecast it "
                "by; name one"
            )
        if runs is not None:
            runs(task)  # one that cannot be run is found now
        text = {"row": row.model_dump(exclude_unset=True, mode="json"), "places": places}
        own = estimates_text({task.id: estimates[task.id]}) if task.id in estimates else None
        found.append(NewTask(task, json.dumps(text), own))
    if unknown := estimates.keys() - {t.task.id for t in found}:
        raise BadRequest(f"estimates: {min(unknown)!r} is no task of this submission")
    return found
