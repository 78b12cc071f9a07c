"""Files of run-time estimates: read and written. See ``docs/files.md``."""

from __future__ import annotations

from plancast.pipelines.inputs.cells import number_cell, seconds_cell, text_cell
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.inputs.modes import flat, nested
from plancast.pipelines.inputs.tables import (
    PathLike,
    Table,
    object_table,
    read_table,
    write_table,
)
from plancast.planner.model.domain import ANY_CLASS, BadRequest, DurationEstimate, Estimates
from plancast.planner.model.messages import EstimatesForm, from_mapping, to_json

ESTIMATE_COLUMNS = ("task", "mode", "machine_class", "level", "seconds", "source")
"""Columns of an estimates table: one row for each task, mode, machine class and level."""


def read_estimates(path: PathLike) -> Estimates:
    """Run-time estimates from a CSV, Parquet or JSON file.

    Parameters
    ----------
    path : path-like
        A table with ``ESTIMATE_COLUMNS`` in any order of rows, or JSON in the nested form of
        a PlanRequest. Seconds are rounded up to whole ones, at least 1.

    Returns
    -------
    Estimates
        Task to machine class (``*`` for any) to DurationEstimate; of tasks with modes, task to
        mode to machine class.

    Raises
    ------
    BadRequest
        One sentence with file and row, or task and machine class.
    """
    content = read_table(path)
    if isinstance(content, dict):
        return from_mapping(EstimatesForm, content, source=str(path))
    table = content if isinstance(content, Table) else object_table(content, str(path))
    return estimates_of(table, str(path))


def estimates_of(table: Table, path: str) -> Estimates:
    """Run-time estimates of a table that `path` names, as ``read_estimates``."""
    for column in table.columns:
        if column not in ESTIMATE_COLUMNS:
            raise BadRequest(
                f"{path}: unknown column {column!r}; {nearest(column, ESTIMATE_COLUMNS)}"
            )
    for column in ("task", "level", "seconds"):
        if column not in table.columns and table.rows:
            raise BadRequest(f"{path}: has no column {column!r}; add it")
    parsed = {
        "task": table.parse("task", text_cell),
        "level": table.parse("level", number_cell),
        "seconds": table.parse("seconds", seconds_cell),
    }
    for column, values in parsed.items():
        if None in values:
            raise table.fault(values.index(None), "is empty; fill it in", column)
    classes = table.parse("machine_class", text_cell, ANY_CLASS)
    sources = table.parse("source", text_cell, "")
    modes = table.parse("mode", text_cell, "")
    points: dict[tuple[str, str, str], list[tuple[float, int, str]]] = {}
    for key, *point in zip(
        zip(parsed["task"], modes, classes, strict=True),
        parsed["level"],
        parsed["seconds"],
        sources,
        strict=True,
    ):
        points.setdefault(key, []).append((point[0], max(1, point[1]), point[2]))
    result: dict[tuple[str, str], dict[str, DurationEstimate]] = {}
    for (task, mode, name), row in points.items():
        levels, seconds, said_by = zip(*sorted(row), strict=True)
        try:
            estimate = DurationEstimate(levels, seconds, said_by[-1])
            result.setdefault((task, mode), {})[name] = estimate
        except BadRequest as error:
            raise BadRequest(f"{path}: task {task}, machine_class {name}: {error}") from None
    try:
        return nested(result)
    except BadRequest as error:
        raise BadRequest(f"{path}: {error}") from None


def write_estimates(estimates: Estimates, path: PathLike) -> None:
    """Write estimates so that ``read_estimates`` reads the same; format by suffix."""
    if str(path).lower().removesuffix(".gz").endswith(".json"):
        write_text_atomic(path, to_json({t: dict(by) for t, by in estimates.items()}))
        return
    rows = [
        {
            "task": task, "mode": mode, "machine_class": name, "level": level, "seconds": s,
            "source": e.source,
        }
        for (task, mode), by_class in flat(estimates).items()
        for name, e in by_class.items()
        for level, s in zip(e.levels, e.seconds, strict=True)
    ]  # fmt: skip
    has_modes = any(row["mode"] for row in rows)
    columns = [name for name in ESTIMATE_COLUMNS if has_modes or name != "mode"]
    write_table([{name: row[name] for name in columns} for row in rows], columns, path)
