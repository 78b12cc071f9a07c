"""The files that users write: tasks, cluster, policy, estimates. See ``docs/files.md``.

Humans write cores and GPUs; the planner counts millicores and milli-GPU. Demands are
rounded up on the way in and capacities down, so that rounding never overbooks a worker.
Whatever is wrong raises BadRequest with one sentence that names file, row or field, and
the repair.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plancast.pipelines.inputs import kubernetes
from plancast.pipelines.inputs.cells import ROUNDING, milli_down, milli_up, text_cell
from plancast.pipelines.inputs.counted import (
    RunningLimits,
    TaskLimits,
    limits_of,
    resources_of,
    without_singleton,
)
from plancast.pipelines.inputs.deadlines import refuse_passed
from plancast.pipelines.inputs.dependencies import BadDependency, arrays_of, predecessors
from plancast.pipelines.inputs.energy import (
    EnergySection,
    counted_content,
    power_left,
    rate_content,
)
from plancast.pipelines.inputs.estimate_files import write_estimates
from plancast.pipelines.inputs.files import read_bytes, write_text_atomic
from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.inputs.models import (
    TASK_CELLS,
    TASK_COLUMNS,
    ClusterSection,
    TaskRow,
    WorkerRow,
    cell_of,
    unknown_columns,
)
from plancast.pipelines.inputs.modes import OF_TASK, joined, ways_of
from plancast.pipelines.inputs.policy_files import write_policy
from plancast.pipelines.inputs.tables import (
    PathLike,
    Table,
    frame_table,
    object_table,
    read_table,
    write_table,
)
from plancast.pipelines.inputs.yaml_files import read_yaml, validated, yaml_text
from plancast.planner.model.counted import POWER
from plancast.planner.model.domain import (
    BadRequest,
    CountedResource,
    Finished,
    Running,
    Task,
    Window,
    Worker,
    find_cycle,
)
from plancast.planner.model.messages import PlanRequest, from_json, from_mapping, to_json

if TYPE_CHECKING:
    import pandas as pd

# --------------------------------------------------------------------------- tasks

_RESOURCE, _SOME_MODE = "res_", "\0"
FLAGS = ("preemptible", "exclusive", "singleton")
_TEXTS = {"owner", *(name for name, cell in TASK_CELLS.items() if cell is text_cell)}


def read_tasks(
    path: PathLike | Table, *, now_s: int = 0, known: Collection[str] = ()
) -> tuple[Task, ...]:
    """Tasks from a CSV, Parquet or JSON file.

    Parameters
    ----------
    path : path-like or Table
        Format by suffix: ``.csv``, ``.parquet`` or ``.json``, each also with ``.gz``; or cells
        that were read already.
    now_s : int
        Release of tasks that name neither ``release_s`` nor ``submit_s``, epoch seconds.
    known : collection of str
        Ids of tasks elsewhere (running, finished), which ``after`` may name.

    Returns
    -------
    tuple of Task
        In file order.

    Raises
    ------
    BadRequest
        One sentence with file, row (from 1, below the header) and column.
    """
    return _tasks(task_table(path), now_s, known)


def read_tasks_and_limits(
    path: PathLike | Table, *, now_s: int = 0, known: Collection[str] = ()
) -> tuple[tuple[Task, ...], dict[str, TaskLimits]]:
    """``read_tasks``, and which running limits the tasks are under, by task."""
    table = task_table(path)
    return _tasks(table, now_s, known), limits_of(table, _task_ids(table))


def read_task_moments(path: PathLike | Table) -> dict[str, list[float]]:
    """The moments that the tasks of a file name, by column; as ``read_tasks``."""
    table = task_table(path)
    moments = {name: _parsed(table, name) for name in ("submit_s", "release_s", "deadline_s")}
    return {name: [at for at in found if at is not None] for name, found in moments.items()}


def tasks_from_table(
    frame: pd.DataFrame, *, source: str = "tasks", now_s: int = 0, known: Collection[str] = ()
) -> tuple[Task, ...]:
    """Tasks from a frame such as ``read_task_table`` gives; otherwise as ``read_tasks``."""
    table = frame_table(frame, source)
    _check_task_columns(table)
    return _tasks(table, now_s, known)


def read_task_table(path: PathLike | Table) -> pd.DataFrame:
    """A task file as the predictor wants it; `path` and errors as in ``read_tasks``.

    Returns
    -------
    DataFrame
        The file's columns, cells checked: numbers float64 with NaN where empty (``cpus`` and
        ``gpus`` as written, in cores and GPUs), texts object with "" where empty. ``user``
        and ``owner`` stand for each other where the file has only one of them.
    """
    return _predictor_frame(task_table(path))


def task_frame(rows: Sequence[TaskRow]) -> pd.DataFrame:
    """Rows of a JSON body as ``read_task_table`` gives those of a file."""
    table = object_table([row.model_dump(exclude_unset=True) for row in rows], "body", "tasks")
    return _predictor_frame(table)


def tasks_of_rows(
    rows: Sequence[TaskRow], *, now_s: int = 0, known: Collection[str] = ()
) -> tuple[tuple[Task, ...], dict[str, TaskLimits]]:
    """Tasks of a JSON body and their limits; as ``read_tasks_and_limits``."""
    table = object_table([row.model_dump(exclude_unset=True) for row in rows], "body", "tasks")
    return _tasks(table, now_s, known), limits_of(table, _task_ids(table))


def task_rows_table(items: Sequence[Any], source: str) -> Table:
    """A list of tasks, or of mappings as a task file's rows, as a table of cells."""
    rows = [_task_row(item) if isinstance(item, Task) else item for item in items]
    return object_table([dict(row) if isinstance(row, Mapping) else row for row in rows], source)


def _predictor_frame(table: Table) -> pd.DataFrame:
    import pandas as pd

    _task_ids(table)
    frame = {}
    for name in table.columns:
        flags = dict.fromkeys(FLAGS, False)
        empty = {"requires": (), "after": (), **flags}.get(name)
        values = table.parse(name, cell_of(name) or text_cell, empty)
        kinds = {type(value) for value in values if value is not None}
        if tuple in kinds or name in ("requires", "after"):
            frame[name] = pd.Series([" ".join(names) for names in values], dtype=object)
        elif name in FLAGS:
            frame[name] = pd.Series(values, dtype=bool)
        elif name in _TEXTS or name.startswith("cat_"):
            frame[name] = pd.Series([v if v is not None else "" for v in values], dtype=object)
        else:
            known = [math.nan if v is None else v for v in values]
            frame[name] = pd.Series(known, dtype="float64")
    for name, other in (("user", "owner"), ("owner", "user")):
        if name not in frame and other in frame:
            frame[name] = frame[other].copy()
    return pd.DataFrame(frame)


def task_table(path: PathLike | Table) -> Table:
    """The raw cells of a task file, whatever form it has; columns are checked by name."""
    content = path if isinstance(path, Table) else read_table(path)
    if not isinstance(content, Table):
        if isinstance(content, dict) and set(content) == {"tasks"}:
            content = content["tasks"]
        elif isinstance(content, dict) and isinstance(content.get("jobs"), list):
            # Imported only now: the readers of logs take a while, and few task files are a queue.
            from plancast.pipelines.inputs.slurm_queue import task_rows

            content = task_rows(content["jobs"], str(path))
        elif kubernetes.is_list(content):
            content = kubernetes.task_rows(content["items"], str(path))
        if isinstance(content, list) and any("demand" in x for x in content if x.__class__ is dict):
            tasks = from_mapping(list[Task], content, source=str(path))
            content = [row for task in tasks for row in _task_rows(task)]
        content = object_table(content, str(path))
    _check_task_columns(content)
    return content


def _check_task_columns(table: Table) -> None:
    unknown = [column for column in table.columns if cell_of(column) is None]
    if unknown:
        where = f"{table.section}: " if table.section else ""
        raise BadRequest(f"{table.source}: {where}{unknown_columns(unknown)}")
    if "id" not in table.columns and table.rows:
        raise BadRequest(f"{table.source}: has no column 'id'; give every task a name")


def _task_ids(table: Table) -> list[str]:
    ids, modes = table.parse("id", text_cell), _parsed(table, "mode", "")
    row_of: dict[tuple[str, str], int] = {}
    for row, (name, mode) in enumerate(zip(ids, modes, strict=True)):
        if name is None:
            raise table.fault(row, "is empty; give every task a name", "id")
        earlier = row_of.get((name, mode), row_of.get((name, "")))
        if earlier is not None:
            raise table.fault(
                row,
                f"task {name} is in row {earlier + 1} already; ids must be unique, but for rows "
                "of one task that each name another mode",
                "id",
            )
        row_of[name, mode] = row
        if mode:
            row_of.setdefault((name, _SOME_MODE), row)
        elif (name, _SOME_MODE) in row_of:
            raise table.fault(row, f"is empty; task {name} has modes in other rows", "mode")
    return ids


def _tasks(table: Table, now_s: int, known: Collection[str]) -> tuple[Task, ...]:
    ids = _task_ids(table)
    amounts = _demands(table)
    submit_s = _parsed(table, "submit_s", now_s)
    release_s = _parsed(table, "release_s")
    user = _parsed(table, "user", "")
    rest = {name: _parsed(table, name, empty) for name, empty in _EMPTY.items()}
    named = {*ids, *known}
    arrays = arrays_of(named)
    tasks = []
    for row, name in enumerate(ids):
        values = {key: column[row] for key, column in rest.items()}
        if values["owner"] is None:
            values["owner"] = user[row]
        at_s = release_s[row] if release_s[row] is not None else math.ceil(submit_s[row])
        demand = {r: column[row] for r, column in amounts.items() if column[row]}
        released = release_s[row] is not None or submit_s[row] != now_s
        try:
            refuse_passed(name, values["deadline_s"], at_s, released)
            words = without_singleton(values["after"], named)
            values["after"], values["depends"] = predecessors(words, named, arrays)
            tasks.append(Task(id=name, demand=demand, release_s=at_s, **values))
        except BadDependency as error:
            raise table.fault(row, f"task {name} {error}", "after") from None
        except BadRequest as error:
            raise table.fault(row, str(error)) from None
    modes = _parsed(table, "mode", "")
    if any(modes):
        given = {name: _parsed(table, name) for name in OF_TASK if name in table.columns}
        tasks = joined(
            tasks, modes, lambda row, name: name in given and given[name][row] is not None,
            table.fault,
        )  # fmt: skip
    cycle = find_cycle({task.id: task.predecessors for task in tasks})
    if cycle:
        raise BadRequest(
            f"{table.source}: precedence has a cycle: {' -> '.join(cycle)}; remove one 'after'"
        )
    return tuple(tasks)


_EMPTY: dict[str, Any] = {
    "deadline_s": None,
    "weight": 1.0,
    "owner": None,
    "app": "",
    "requires": (),
    "after": (),
    "requested_s": None,
    "shards": 1,
    "preemptible": False,
    "exclusive": False,
    "most_per_worker": None,
    "most_workers": None,
}
"""What an empty cell of a field of Task means."""


def _parsed(table: Table, column: str, empty: Any = None) -> list[Any]:
    return table.parse(column, TASK_CELLS[column], empty)


def _demands(table: Table) -> dict[str, list[int]]:
    """Planner's resource to its amount by row: demands are rounded up."""
    amounts = {
        "cpu": [milli_up(cores) for cores in _parsed(table, "cpus", 1)],
        "mem": [math.ceil(mib - ROUNDING) for mib in _parsed(table, "mem_mib", 0)],
        "gpu": [milli_up(gpus) for gpus in _parsed(table, "gpus", 0)],
    }
    for column in table.columns:
        if column.startswith(_RESOURCE):
            resource = column.removeprefix(_RESOURCE)
            if resource in amounts:
                raise BadRequest(
                    f"{table.source}: column {column!r}: write cpus, mem_mib or gpus instead"
                )
            amounts[resource] = table.parse(column, cell_of(column) or text_cell, 0)
    return amounts


def _task_row(task: Task) -> dict[str, Any]:
    """A task as the cells of a table; `requires` and `after` as lists, dependencies in `after`."""
    row: dict[str, Any] = {
        "id": task.id,
        "cpus": task.demand.get("cpu", 0) / 1000,
        "mem_mib": task.demand.get("mem", 0),
        "gpus": task.demand.get("gpu", 0) / 1000,
    }
    for name, amount in task.demand.items():
        if name not in ("cpu", "mem", "gpu"):
            row[_RESOURCE + name] = amount
    row.update({_RESOURCE + n: a for n, a in task.counted.items() if n != POWER})
    for name in TASK_COLUMNS:
        if name not in row:
            value = getattr(task, name)
            row[name] = list(value) if isinstance(value, tuple) else value
    row["after"] += [str(on) for on in task.depends]
    return row


def _task_rows(task: Task) -> list[dict[str, Any]]:
    """A row for each of a task's modes; one without a mode where it has none."""
    return [_task_row(way) | ({"mode": mode} if mode else {}) for mode, way in ways_of(task)]


def write_tasks(tasks: Sequence[Task], path: PathLike) -> None:
    """Write tasks so that ``read_tasks`` reads the same; format by suffix.

    Raises
    ------
    BadRequest
        Where a name holds white space, which only JSON can tell from a separator.
    """
    if str(path).lower().removesuffix(".gz").endswith(".json"):
        write_text_atomic(path, b"[" + b",\n".join(to_json(t) for t in tasks) + b"]\n")
        return
    rows = [row for task in tasks for row in _task_rows(task)]
    for row in rows:
        for name in ("requires", "after"):
            if any(len(word.split()) != 1 for word in row[name]):
                raise BadRequest(
                    f"{path}: task {row['id']}: a name in {name!r} holds white space; write .json"
                )
            row[name] = " ".join(row[name])
    modes = ("mode",) if any(task.modes for task in tasks) else ()
    write_table(rows, [*TASK_COLUMNS, *modes], path)


# --------------------------------------------------------------------------- cluster


@dataclass(frozen=True)
class ClusterFile:
    """What a cluster file says.

    Parameters
    ----------
    workers : tuple of Worker
    now_s : int, optional
        Time of planning, seconds since the epoch.
    running : tuple of Running
    finished : tuple of Finished
        Ended tasks that others follow.
    budgets : mapping of str to int
        What tasks consume for good, and how much of it there is.
    counted : tuple of CountedResource
        What is counted for the whole cluster.
    limits : RunningLimits
    asked : mapping of str to TaskLimits
        Which limits the running tasks are under.
    """

    workers: tuple[Worker, ...]
    now_s: int | None = None
    running: tuple[Running, ...] = ()
    finished: tuple[Finished, ...] = ()
    budgets: Mapping[str, int] = field(default_factory=dict)
    counted: tuple[CountedResource, ...] = ()
    limits: RunningLimits = field(default_factory=RunningLimits)
    asked: Mapping[str, TaskLimits] = field(default_factory=dict)


def read_cluster(path: PathLike) -> ClusterFile:
    """A cluster from a YAML file (schema in ``docs/files.md``), or from nodes as kubectl says.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    BadRequest
        One sentence with file and field, such as
        ``cluster.yaml: workers.2.cpus: must be more than 0 (it is -4)``.
    """
    content = kubernetes.cluster_content(read_yaml(path), source := str(path))
    return cluster_from_content(content, source)


def cluster_from_content(content: Any, source: str) -> ClusterFile:
    """A cluster from what a file would hold; errors as of ``read_cluster``."""
    return cluster_of(validated(ClusterSection, content, source), source)


def cluster_of(section: ClusterSection, source: str) -> ClusterFile:
    """A cluster from what a file or a JSON body says; errors as of ``read_cluster``."""
    workers: dict[str, Worker] = {}
    for k, row in enumerate(section.workers):
        try:
            made = _workers(row, section.energy)
        except BadRequest as error:
            raise BadRequest(f"{source}: workers.{k}: {error}") from None
        for worker in made:
            if worker.id in workers:
                raise BadRequest(
                    f"{source}: workers.{k}.id: worker {worker.id} is there already; "
                    "ids must be unique"
                )
            workers[worker.id] = worker
    running, asked = _running(section, workers, source)
    holders = {name: row.id for row in section.workers for name in row.resources}
    return ClusterFile(
        workers=tuple(workers.values()),
        now_s=section.now_s,
        running=running,
        finished=tuple(Finished(f.id, f.end_s, f.outcome, f.start_s) for f in section.finished),
        budgets=section.budgets,
        counted=resources_of(section.resources, holders, source)
        + power_left(section.energy.power_cap_w, [*workers.values()], source),
        limits=section.limits.limits(),
        asked=asked,
    )


def _workers(row: WorkerRow, energy: EnergySection) -> list[Worker]:
    capacity = {"cpu": milli_down(row.cpus)}
    if row.mem is not None and row.mem_mib is not None:
        raise BadRequest("gives both mem and mem_mib; remove one")
    mem_mib = row.mem_mib if row.mem is None else row.mem
    if mem_mib and math.floor(mem_mib + ROUNDING):
        capacity["mem"] = math.floor(mem_mib + ROUNDING)
    if row.gpus:
        capacity["gpu"] = milli_down(row.gpus)
    for name, amount in row.resources.items():
        if name in ("cpu", "mem", "gpu"):
            raise BadRequest(f"resources.{name}: write cpus, mem_mib or gpus instead")
        capacity[name] = amount
    for label in row.labels:
        if not label or re.search(r"[\s|&!(),\[\]{}*]", label):
            raise BadRequest(f"labels: {label!r} must be one word without | & ! , and brackets")
    one = Worker(
        id=row.id, capacity=capacity, labels=frozenset(row.labels),
        machine_class=row.machine_class, free_from_s=row.free_from_s, until_s=row.until_s,
        blocked=tuple(Window(start_s, end_s) for start_s, end_s in row.blocked),
        idle_w=row.idle_w, busy_w=row.busy_w, boot_kwh=row.boot_kwh, health=row.health,
        devices=row.devices, **row.rates(energy),
    )  # fmt: skip
    return (
        [one] if row.count is None else [replace(one, id=f"{row.id}-{i}") for i in range(row.count)]
    )


def _running(
    section: ClusterSection, workers: dict[str, Worker], source: str
) -> tuple[tuple[Running, ...], dict[str, TaskLimits]]:
    rows = [dict(row.model_extra or {}) for row in section.running]
    for task_row, row in zip(rows, section.running, strict=True):
        task_row.setdefault("shards", len(row.workers))
        task_row.setdefault("release_s", row.start_s)
    table = object_table(rows, source, "running")
    _check_task_columns(table)
    ended = {f.id for f in section.finished}
    result = []
    for k, (task, row) in enumerate(zip(_tasks(table, 0, ended), section.running, strict=True)):
        for name in row.workers:
            if name not in workers:
                raise table.fault(k, f"{name!r} is no worker; {nearest(name, workers)}", "workers")
        try:
            mode = task.modes[0].id if task.modes else ""
            devices = tuple(tuple(held) for held in row.devices)
            result.append(Running(task, tuple(row.workers), row.start_s, mode, devices))
        except BadRequest as error:
            raise table.fault(k, str(error)) from None
    return tuple(result), limits_of(table, _task_ids(table))


def write_cluster(cluster: ClusterFile, path: PathLike) -> None:
    """Write a cluster so that ``read_cluster`` reads the same."""
    content: dict[str, Any] = {} if cluster.now_s is None else {"now_s": cluster.now_s}
    content["workers"] = [_worker_row(worker) for worker in cluster.workers]
    if cluster.running:
        content["running"] = [
            _given(_task_row(run.done))
            | ({"mode": run.mode} if run.mode else {})
            | {"workers": list(run.workers), "start_s": run.start_s}
            | ({"devices": [list(held) for held in run.devices]} if run.devices else {})
            for run in cluster.running
        ]
    if cluster.finished:
        content["finished"] = [
            {"id": f.id, "end_s": f.end_s, "outcome": f.outcome.value}
            | ({} if f.start_s is None else {"start_s": f.start_s})
            for f in cluster.finished
        ]
    if cluster.budgets:
        content["budgets"] = dict(cluster.budgets)
    content |= counted_content(cluster.counted, cluster.workers)
    write_text_atomic(path, yaml_text(content))


def _worker_row(worker: Worker) -> dict[str, Any]:
    row: dict[str, Any] = {"id": worker.id, "cpus": _units(worker.capacity.get("cpu", 0))}
    if worker.capacity.get("mem"):
        row["mem_mib"] = worker.capacity["mem"]
    if worker.capacity.get("gpu"):
        row["gpus"] = _units(worker.capacity["gpu"])
    others = {r: a for r, a in worker.capacity.items() if r not in ("cpu", "mem", "gpu")}
    if others:
        row["resources"] = others
    if worker.labels:
        row["labels"] = sorted(worker.labels)
    if worker.blocked:
        row["blocked"] = [[window.start_s, window.end_s] for window in worker.blocked]
    for one in fields(Worker):
        value = getattr(worker, one.name)
        if one.name in WorkerRow.model_fields and one.name not in {
            "id", "labels", "blocked",
        } and value != one.default:  # fmt: skip
            row[one.name] = rate_content(value)
    return row


def _units(milli: int) -> int | float:
    return milli // 1000 if milli % 1000 == 0 else milli / 1000


def _given(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty cells; a zero is not empty."""
    return {name: v for name, v in row.items() if v or (v == 0 and v is not False)}


# --------------------------------------------------------------------------- whole requests


def read_request(path: PathLike) -> PlanRequest:
    """A PlanRequest from its JSON file."""
    return from_json(PlanRequest, read_bytes(path), source=str(path))


BATCH_FILES = ("tasks.csv", "cluster.yaml", "policy.yaml", "estimates.parquet", "request.json")


def write_batch(request: PlanRequest, folder: PathLike) -> tuple[Path, ...]:
    """Write a request as all the files that the command line reads; the folder is made.

    Parameters
    ----------
    request : PlanRequest
    folder : path-like

    Returns
    -------
    tuple of Path
        ``BATCH_FILES``, of which the last alone also holds incumbent, budget and seed.
    """
    home, s = Path(folder), request.snapshot
    cluster = ClusterFile(s.workers, s.now_s, s.running, s.finished, s.budgets, s.counted)
    tasks, machines, policy, estimates, whole = written = tuple(home / n for n in BATCH_FILES)
    write_tasks(s.pending, tasks)
    write_cluster(cluster, machines)
    write_policy(request.policy, policy)
    write_estimates(request.estimates, estimates)
    write_text_atomic(whole, to_json(request))
    return written
