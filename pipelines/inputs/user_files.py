"""The files that users write: tasks, cluster, policy, estimates. See ``docs/files.md``.

Humans write cores and GPUs; the planner counts millicores and milli-GPU. Demands are
rounded up on the way in and capacities down, so that rounding never overbooks a worker.
Whatever is wrong raises BadRequest with one sentence that names file, row or field, and
the mend.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from plancast.pipelines.inputs.files import read_bytes, write_text_atomic
from plancast.pipelines.inputs.tables import (
    ROUNDING,
    Cell,
    PathLike,
    Table,
    amount_cell,
    flag_cell,
    frame_table,
    milli_cell,
    moment_cell,
    names_cell,
    nearest,
    number_cell,
    object_table,
    read_table,
    round_up_cell,
    text_cell,
    whole_cell,
    write_table,
)
from plancast.pipelines.inputs.yaml_files import Section, read_yaml, validated, yaml_text
from plancast.planner.model.domain import (
    ANY_CLASS,
    TERMS,
    BadRequest,
    DurationEstimate,
    Estimates,
    Finished,
    Outcome,
    Policy,
    Prices,
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

TASK_COLUMNS: dict[str, Cell] = {
    "id": text_cell,
    "cpus": milli_cell,
    "mem_mib": round_up_cell,
    "gpus": milli_cell,
    "release_s": whole_cell,
    "deadline_s": whole_cell,
    "weight": amount_cell,
    "owner": text_cell,
    "app": text_cell,
    "requires": names_cell,
    "after": names_cell,
    "requested_s": whole_cell,
    "shards": whole_cell,
    "preemptible": flag_cell,
}
"""Columns of a task table that the planner reads, beside ``res_NAME`` for any further resource."""

PREDICTOR_COLUMNS: dict[str, Cell] = {
    "submit_s": moment_cell,
    "user": text_cell,
    "group": text_cell,
    "queue": text_cell,
    "partition": text_cell,
}
"""Columns that only a predictor reads, beside ``num_*`` and ``cat_*`` features."""

_RESOURCE = "res_"


def read_tasks(path: PathLike, *, now_s: int = 0, known: Collection[str] = ()) -> tuple[Task, ...]:
    """Tasks from a CSV, Parquet or JSON file.

    Parameters
    ----------
    path : path-like
        Format by suffix: ``.csv``, ``.parquet`` or ``.json``, each also with ``.gz``.
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
    return _tasks(_task_table(path), now_s, known)


def read_task_moments(path: PathLike) -> tuple[list[float], list[int]]:
    """The ``submit_s`` and the ``release_s`` that the tasks of a file name; as ``read_tasks``."""
    table = _task_table(path)
    submitted = table.parse("submit_s", moment_cell)
    released = table.parse("release_s", whole_cell)
    return [s for s in submitted if s is not None], [r for r in released if r is not None]


def tasks_from_table(
    frame: pd.DataFrame, *, source: str = "tasks", now_s: int = 0, known: Collection[str] = ()
) -> tuple[Task, ...]:
    """Tasks from a frame such as ``read_task_table`` gives; otherwise as ``read_tasks``."""
    table = frame_table(frame, source)
    _check_task_columns(table)
    return _tasks(table, now_s, known)


def read_task_table(path: PathLike) -> pd.DataFrame:
    """A task file as the predictor wants it; `path` and errors as in ``read_tasks``.

    Returns
    -------
    DataFrame
        The file's columns, cells checked: numbers float64 with NaN where empty (``cpus`` and
        ``gpus`` as written, in cores and GPUs), texts object with "" where empty. ``user``
        and ``owner`` stand for each other where the file has only one of them.
    """
    import pandas as pd

    table = _task_table(path)
    _task_ids(table)
    frame = {}
    for name in table.columns:
        cell = _cell_of(name)
        if cell is names_cell:
            texts = [" ".join(names) for names in table.parse(name, cell, ())]
            frame[name] = pd.Series(texts, dtype=object)
        elif cell is flag_cell:
            frame[name] = pd.Series(table.parse(name, cell, False), dtype=bool)
        elif cell is text_cell:
            frame[name] = pd.Series(table.parse(name, cell, ""), dtype=object)
        else:
            frame[name] = pd.Series(table.parse(name, number_cell, math.nan), dtype="float64")
    for name, other in (("user", "owner"), ("owner", "user")):
        if name not in frame and other in frame:
            frame[name] = frame[other].copy()
    return pd.DataFrame(frame)


def _task_table(path: PathLike) -> Table:
    content = read_table(path)
    if not isinstance(content, Table):
        if isinstance(content, dict) and set(content) == {"tasks"}:
            content = content["tasks"]
        if isinstance(content, list) and any("demand" in x for x in content if x.__class__ is dict):
            tasks = from_mapping(list[Task], content, source=str(path))
            content = [_task_row(task) for task in tasks]
        content = object_table(content, str(path))
    _check_task_columns(content)
    return content


def _cell_of(column: str) -> Cell | None:
    if column.startswith(_RESOURCE) and column != _RESOURCE:
        return round_up_cell
    if column.startswith(("num_", "cat_")):
        return number_cell if column.startswith("num_") else text_cell
    return TASK_COLUMNS.get(column) or PREDICTOR_COLUMNS.get(column)


def _check_task_columns(table: Table) -> None:
    for column in table.columns:
        if _cell_of(column) is None:
            mend = nearest(column, [*TASK_COLUMNS, *PREDICTOR_COLUMNS])
            raise BadRequest(
                f"{table.source}: {table.section and table.section + ': '}unknown column "
                f"{column!r}; {mend} (res_, num_ and cat_ begin columns of your own)"
            )
    if "id" not in table.columns and table.rows:
        raise BadRequest(f"{table.source}: has no column 'id'; give every task a name")


def _task_ids(table: Table) -> list[str]:
    ids = table.parse("id", text_cell)
    row_of: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name is None:
            raise table.fault(row, "is empty; give every task a name", "id")
        if name in row_of:
            raise table.fault(
                row, f"task {name} is in row {row_of[name] + 1} already; ids must be unique", "id"
            )
        row_of[name] = row
    return ids


def _tasks(table: Table, now_s: int, known: Collection[str]) -> tuple[Task, ...]:
    ids = _task_ids(table)
    amounts = {
        "cpu": table.parse("cpus", milli_cell, 1000),
        "mem": table.parse("mem_mib", round_up_cell, 0),
        "gpu": table.parse("gpus", milli_cell, 0),
    }
    for column in table.columns:
        if column.startswith(_RESOURCE):
            resource = column.removeprefix(_RESOURCE)
            if resource in amounts:
                raise BadRequest(
                    f"{table.source}: column {column!r}: write cpus, mem_mib or gpus instead"
                )
            amounts[resource] = table.parse(column, round_up_cell, 0)
    submit_s = table.parse("submit_s", moment_cell, now_s)
    release_s = table.parse("release_s", whole_cell)
    user = table.parse("user", text_cell, "")
    rest = {
        "deadline_s": table.parse("deadline_s", whole_cell),
        "weight": table.parse("weight", amount_cell, 1.0),
        "owner": table.parse("owner", text_cell),
        "app": table.parse("app", text_cell, ""),
        "requires": table.parse("requires", names_cell, ()),
        "after": table.parse("after", names_cell, ()),
        "requested_s": table.parse("requested_s", whole_cell),
        "shards": table.parse("shards", whole_cell, 1),
        "preemptible": table.parse("preemptible", flag_cell, False),
    }
    tasks = []
    for row, name in enumerate(ids):
        values = {key: column[row] for key, column in rest.items()}
        if values["owner"] is None:
            values["owner"] = user[row]
        at_s = release_s[row] if release_s[row] is not None else math.ceil(submit_s[row])
        demand = {r: column[row] for r, column in amounts.items() if column[row]}
        try:
            tasks.append(Task(id=name, demand=demand, release_s=at_s, **values))
        except BadRequest as error:
            raise table.fault(row, str(error)) from None
    named = {*ids, *known}
    for row, task in enumerate(tasks):
        for before in task.after:
            if before not in named:
                raise table.fault(
                    row, f"task {task.id} follows {before!r}, which is no task; mend it", "after"
                )
    cycle = find_cycle({task.id: task.after for task in tasks})
    if cycle:
        raise BadRequest(
            f"{table.source}: precedence has a cycle: {' -> '.join(cycle)}; remove one 'after'"
        )
    return tuple(tasks)


def _task_row(task: Task) -> dict[str, Any]:
    """A task as the cells of a table; `requires` and `after` as lists."""
    row: dict[str, Any] = {
        "id": task.id,
        "cpus": task.demand.get("cpu", 0) / 1000,
        "mem_mib": task.demand.get("mem", 0),
        "gpus": task.demand.get("gpu", 0) / 1000,
    }
    for name, amount in task.demand.items():
        if name not in ("cpu", "mem", "gpu"):
            row[_RESOURCE + name] = amount
    for name in TASK_COLUMNS:
        if name not in row:
            value = getattr(task, name)
            row[name] = list(value) if isinstance(value, tuple) else value
    return row


def write_tasks(tasks: Sequence[Task], path: PathLike) -> None:
    """Write tasks so that ``read_tasks`` reads the same; format by suffix.

    Raises
    ------
    BadRequest
        Where a name holds white space, which only JSON can tell from a separator.
    """
    if str(path).endswith(".json"):
        write_text_atomic(path, b"[" + b",\n".join(to_json(t) for t in tasks) + b"]\n")
        return
    rows = [_task_row(task) for task in tasks]
    for row in rows:
        for name in ("requires", "after"):
            if any(len(word.split()) != 1 for word in row[name]):
                raise BadRequest(
                    f"{path}: task {row['id']}: a name in {name!r} holds white space; write .json"
                )
            row[name] = " ".join(row[name])
    write_table(rows, list(TASK_COLUMNS), path)


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
    """

    workers: tuple[Worker, ...]
    now_s: int | None = None
    running: tuple[Running, ...] = ()
    finished: tuple[Finished, ...] = ()


class _WorkerRow(Section):
    id: str = Field(min_length=1)
    count: int | None = Field(None, ge=1)
    cpus: float = Field(gt=0)
    mem_mib: int | None = Field(None, ge=0)
    mem: str | None = None
    gpus: float = Field(0, ge=0)
    resources: dict[str, int] = Field(default_factory=dict)
    labels: list[str] = Field(default_factory=list)
    machine_class: str = "default"
    free_from_s: int = 0
    until_s: int | None = None
    blocked: list[tuple[int, int]] = Field(default_factory=list)
    idle_w: float = Field(0, ge=0)
    busy_w: float = Field(0, ge=0)
    boot_kwh: float = Field(0, ge=0)
    health: float = Field(1, gt=0, le=1)


class _RunningRow(Section):
    # The task's own fields are checked as those of a task table.
    model_config = ConfigDict(extra="allow")
    workers: list[str] = Field(min_length=1)
    start_s: int


class _FinishedRow(Section):
    id: str
    end_s: int
    outcome: Outcome = Outcome.COMPLETED


class _ClusterSection(Section):
    workers: list[_WorkerRow] = Field(min_length=1)
    now_s: int | None = None
    running: list[_RunningRow] = Field(default_factory=list)
    finished: list[_FinishedRow] = Field(default_factory=list)


def read_cluster(path: PathLike) -> ClusterFile:
    """A cluster from a YAML file (schema in ``docs/files.md``).

    Parameters
    ----------
    path : path-like

    Raises
    ------
    BadRequest
        One sentence with file and field, such as
        ``cluster.yaml: workers.2.cpus: must be more than 0 (it is -4)``.
    """
    source = str(path)
    section = validated(_ClusterSection, read_yaml(path), source)
    workers: dict[str, Worker] = {}
    for k, row in enumerate(section.workers):
        try:
            made = _workers(row)
        except BadRequest as error:
            raise BadRequest(f"{source}: workers.{k}: {error}") from None
        for worker in made:
            if worker.id in workers:
                raise BadRequest(
                    f"{source}: workers.{k}.id: worker {worker.id} is there already; "
                    "ids must be unique"
                )
            workers[worker.id] = worker
    return ClusterFile(
        workers=tuple(workers.values()),
        now_s=section.now_s,
        running=_running(section, workers, source),
        finished=tuple(Finished(f.id, f.end_s, f.outcome) for f in section.finished),
    )


def _workers(row: _WorkerRow) -> list[Worker]:
    capacity = {"cpu": math.floor(row.cpus * 1000 + ROUNDING)}
    if row.mem is not None and row.mem_mib is not None:
        raise BadRequest("gives both mem and mem_mib; remove one")
    mem_mib = _mib(row.mem) if row.mem is not None else row.mem_mib
    if mem_mib:
        capacity["mem"] = mem_mib
    if row.gpus:
        capacity["gpu"] = math.floor(row.gpus * 1000 + ROUNDING)
    for name, amount in row.resources.items():
        if name in ("cpu", "mem", "gpu"):
            raise BadRequest(f"resources.{name}: write cpus, mem_mib or gpus instead")
        capacity[name] = amount
    for label in row.labels:
        if not label or re.search(r"[\s|]", label):
            raise BadRequest(f"labels: {label!r} must be one word without '|'")
    ids = [row.id] if row.count is None else [f"{row.id}-{i}" for i in range(row.count)]
    return [
        Worker(
            id=name,
            capacity=capacity,
            labels=frozenset(row.labels),
            machine_class=row.machine_class,
            free_from_s=row.free_from_s,
            until_s=row.until_s,
            blocked=tuple(Window(start_s, end_s) for start_s, end_s in row.blocked),
            idle_w=row.idle_w,
            busy_w=row.busy_w,
            boot_kwh=row.boot_kwh,
            health=row.health,
        )
        for name in ids
    ]


_MIB = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "Ti": 1024**2}


def _mib(size: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti)B?", size.strip())
    if match is None:
        raise BadRequest(f"mem: write a size such as 64GiB or 512MiB (it is {size!r})")
    return math.floor(float(match[1]) * _MIB[match[2]] + ROUNDING)


def _running(
    section: _ClusterSection, workers: dict[str, Worker], source: str
) -> tuple[Running, ...]:
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
            result.append(Running(task, tuple(row.workers), row.start_s))
        except BadRequest as error:
            raise table.fault(k, str(error)) from None
    return tuple(result)


def write_cluster(cluster: ClusterFile, path: PathLike) -> None:
    """Write a cluster so that ``read_cluster`` reads the same."""
    content: dict[str, Any] = {} if cluster.now_s is None else {"now_s": cluster.now_s}
    content["workers"] = [_worker_row(worker) for worker in cluster.workers]
    if cluster.running:
        content["running"] = [
            _told(_task_row(run.task)) | {"workers": list(run.workers), "start_s": run.start_s}
            for run in cluster.running
        ]
    if cluster.finished:
        content["finished"] = [
            {"id": f.id, "end_s": f.end_s, "outcome": f.outcome.value} for f in cluster.finished
        ]
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
    for field in fields(Worker):
        value = getattr(worker, field.name)
        if field.name in _WorkerRow.model_fields and field.name not in {
            "id", "labels", "blocked",
        } and value != field.default:  # fmt: skip
            row[field.name] = value
    return row


def _units(milli: int) -> int | float:
    return milli // 1000 if milli % 1000 == 0 else milli / 1000


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty cells; a zero is not empty."""
    return {name: v for name, v in row.items() if v or (v == 0 and v is not False)}


# --------------------------------------------------------------------------- policy


_DEFAULT = Policy()


class _PolicySection(Section):
    prices: dict[str, float] = Field(default_factory=dict)
    level: float = Field(_DEFAULT.level, gt=0, lt=1)
    hard_deadlines: bool = _DEFAULT.hard_deadlines
    max_wait_s: int | None = Field(None, ge=0)
    max_stretch: float | None = Field(None, ge=1)
    move_tolerance_s: int = Field(_DEFAULT.move_tolerance_s, ge=0)


def read_policy(path: PathLike) -> Policy:
    """A policy from a YAML file; what it does not name keeps its default.

    Raises
    ------
    BadRequest
        One sentence with file and field; for an unknown price with the nearest known one.
    """
    section = validated(_PolicySection, read_yaml(path) or {}, str(path))
    for name in section.prices:
        if name not in TERMS:
            raise BadRequest(f"{path}: prices.{name}: is no price; {nearest(name, TERMS)}")
    try:
        return Policy(**{**section.model_dump(), "prices": Prices(**section.prices)})
    except BadRequest as error:
        raise BadRequest(f"{path}: {error}") from None


def write_policy(policy: Policy, path: PathLike) -> None:
    """Write a policy so that ``read_policy`` reads the same; every price is named."""
    content = {field.name: getattr(policy, field.name) for field in fields(Policy)}
    content["prices"] = {term: policy.prices.of(term) for term in TERMS}
    write_text_atomic(path, yaml_text(content))


# --------------------------------------------------------------------------- estimates

ESTIMATE_COLUMNS = ("task", "machine_class", "level", "seconds", "source")
"""Columns of an estimates table: one row for each task, machine class and level."""


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
        Task to machine class (``*`` for any) to DurationEstimate.

    Raises
    ------
    BadRequest
        One sentence with file and row, or task and machine class.
    """
    content = read_table(path)
    if isinstance(content, dict):
        nested = dict[str, dict[str, DurationEstimate]]
        return from_mapping(nested, content, source=str(path))
    table = content if isinstance(content, Table) else object_table(content, str(path))
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
        "seconds": table.parse("seconds", round_up_cell),
    }
    for column, values in parsed.items():
        if None in values:
            raise table.fault(values.index(None), "is empty; fill it in", column)
    classes = table.parse("machine_class", text_cell, ANY_CLASS)
    sources = table.parse("source", text_cell, "")
    points: dict[tuple[str, str], list[tuple[float, int, str]]] = {}
    for key, *point in zip(
        zip(parsed["task"], classes, strict=True),
        parsed["level"],
        parsed["seconds"],
        sources,
        strict=True,
    ):
        points.setdefault(key, []).append((point[0], max(1, point[1]), point[2]))
    result: dict[str, dict[str, DurationEstimate]] = {}
    for (task, name), row in points.items():
        levels, seconds, said_by = zip(*sorted(row), strict=True)
        try:
            estimate = DurationEstimate(levels, seconds, said_by[-1])
            result.setdefault(task, {})[name] = estimate
        except BadRequest as error:
            raise BadRequest(f"{path}: task {task}, machine_class {name}: {error}") from None
    return result


def write_estimates(estimates: Estimates, path: PathLike) -> None:
    """Write estimates so that ``read_estimates`` reads the same; format by suffix."""
    if str(path).endswith(".json"):
        write_text_atomic(path, to_json({t: dict(by) for t, by in estimates.items()}))
        return
    rows = [
        {"task": task, "machine_class": name, "level": level, "seconds": s, "source": e.source}
        for task, by_class in estimates.items()
        for name, e in by_class.items()
        for level, s in zip(e.levels, e.seconds, strict=True)
    ]
    write_table(rows, list(ESTIMATE_COLUMNS), path)


# --------------------------------------------------------------------------- whole requests


def read_request(path: PathLike) -> PlanRequest:
    """A PlanRequest from its JSON file."""
    return from_json(PlanRequest, read_bytes(path), source=str(path))


def write_batch(request: PlanRequest, folder: PathLike) -> tuple[Path, ...]:
    """Write a request as all the files that the command line reads.

    Parameters
    ----------
    request : PlanRequest
    folder : path-like
        Made where it is missing.

    Returns
    -------
    tuple of Path
        ``tasks.csv``, ``cluster.yaml``, ``policy.yaml``, ``estimates.parquet`` and
        ``request.json``, which alone also holds incumbent, budget and seed.
    """
    home, snapshot = Path(folder), request.snapshot
    cluster = ClusterFile(snapshot.workers, snapshot.now_s, snapshot.running, snapshot.finished)
    write_tasks(snapshot.pending, home / "tasks.csv")
    write_cluster(cluster, home / "cluster.yaml")
    write_policy(request.policy, home / "policy.yaml")
    write_estimates(request.estimates, home / "estimates.parquet")
    write_text_atomic(home / "request.json", to_json(request))
    names = ("tasks.csv", "cluster.yaml", "policy.yaml", "estimates.parquet", "request.json")
    return tuple(home / name for name in names)
