"""A task file as rows that are sent elsewhere."""

from __future__ import annotations

from typing import Any

from plancast.pipelines.inputs.tables import PathLike
from plancast.pipelines.inputs.user_files import task_table


def read_task_rows(path: PathLike) -> list[dict[str, Any]]:
    """The rows of a task file as they are written, without empty cells; errors as `read_tasks`."""
    table = task_table(path)
    return [
        {
            name: cells[row]
            for name, cells in table.columns.items()
            if cells[row] is not None and cells[row] != "" and cells[row] == cells[row]
        }
        for row in range(table.rows)
    ]
