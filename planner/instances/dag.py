"""Recorded workflow executions as batches: a graph of tasks on machines of three speeds.

A table with ``instance``, ``task_id``, ``runtime_s`` and ``parents`` (ids of the same
instance, separated by blanks), one row a task. Communication is free, a task takes one
slot, and 6, 5 and 5 machines have one slot each and run at 1, 1.5 and 2 times the
recorded speed. Such tasks last from milliseconds to hours: a second of the request is a
millisecond of the workflow, and the cost is the makespan in the workflow's seconds.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from pathlib import Path

from plancast.json_text import plain_text
from plancast.planner.instances.base import InstanceSet
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest

MACHINES = ((6, 1.0), (5, 1.5), (5, 2.0))
"""Number and speed of the machines of each class."""
TICKS_PER_S = 1000
COLUMNS = ("instance", "task_id", "runtime_s", "parents")
MAKESPAN = Policy(Prices(makespan_h=3600.0 / TICKS_PER_S, late_h=0.0, misses=0.0, wait_h=0.0))


def dag_set(path: str | Path) -> InstanceSet:
    """The executions of a table, plain or gzipped.

    Raises
    ------
    BadRequest
        For a file without the columns, or a row that does not fit them.
    """
    path = Path(path)
    if path.is_dir():
        raise BadRequest(f"{path}: is a directory; name a table of tasks in it")
    try:
        raw = path.read_bytes()
        text = plain_text(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, EOFError, zlib.error) as error:
        raise BadRequest(f"{path}: cannot be read as a table of tasks: {error}") from None
    except ValueError as error:
        raise BadRequest(f"{path}: {error}") from None
    reader = csv.DictReader(io.StringIO(text))
    try:
        texts = _texts(path, reader)
    except csv.Error as error:
        raise BadRequest(f"{path}, line {reader.line_num}: {error}") from None
    return InstanceSet(str(path), texts, {}, parse_dag)


def _texts(path: Path, reader: csv.DictReader[str]) -> dict[str, str]:
    """The rows of each instance, without its name."""
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise BadRequest(f"{path}: has no column {missing[0]}; it needs {', '.join(COLUMNS)}")
    texts: dict[str, io.StringIO] = {}
    for row in reader:
        instance, *cells = [row[name] or "" for name in COLUMNS]
        csv.writer(texts.setdefault(instance, io.StringIO())).writerow(cells)
    if not texts:
        raise BadRequest(f"{path}: has no rows")
    return {name: rows.getvalue() for name, rows in texts.items()}


def parse_dag(name: str, text: str) -> PlanRequest:
    """The request of one execution: rows of task, run time in seconds, parents."""
    tasks, estimates = [], {}
    for task_id, runtime, parents in csv.reader(io.StringIO(text)):
        try:
            run_s = float(runtime)
        except ValueError:
            run_s = math.nan
        if not 0 <= run_s < math.inf:
            raise BadRequest(f"task {task_id}: runtime_s is {runtime!r}; write seconds, 0 or more")
        tasks.append(Task(task_id, {"slot": 1}, after=tuple(dict.fromkeys(parents.split()))))
        estimates[task_id] = {
            f"x{speed:g}": DurationEstimate.certain(max(1, round(run_s / speed * TICKS_PER_S)))
            for _, speed in MACHINES
        }
    workers = tuple(
        Worker(f"x{speed:g}-{k}", {"slot": 1}, machine_class=f"x{speed:g}")
        for count, speed in MACHINES
        for k in range(count)
    )
    return PlanRequest(name, Snapshot(0, 0, workers, tuple(tasks)), estimates, MAKESPAN)
