"""Small planning problems cut from logs, workflows and clusters, to learn a guide from."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.inputs.openb import read_openb
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.instances.dag import COLUMNS as DAG_COLUMNS
from plancast.planner.instances.dag import dag_set
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest
from plancast.predictor import read_log

GENERATED = "generated"
OPENB_NODES = "openb_node_list_all_node.csv"
POLICIES: tuple[Prices, ...] = (
    Prices(),
    Prices(makespan_h=1.0, late_h=0.0, misses=0.0, wait_h=0.0),
    Prices(makespan_h=1.0, late_h=3.0, misses=0.0, wait_h=0.0, kwh=2.0),
    Prices(makespan_h=0.0, late_h=5.0, misses=1.0, wait_h=1.0),
    Prices(makespan_h=1.0, late_h=5.0, misses=0.0, wait_h=0.2, kwh=0.5),
)
"""What problems are priced by, where their source has no prices of its own, each as often."""
DUE_SHARE = 0.3
FAST = 1.5
"""Speed of the faster workers of a problem from a log, where it has any."""
TRIES = 200

Cut = Callable[[int, int, np.random.Generator], PlanRequest]
"""(tasks, workers, chance) to a request."""


@dataclass(frozen=True)
class Source:
    """Where problems are cut from.

    Parameters
    ----------
    name : str
        Of the file, without its folder.
    terms : str
        What its log says of its use, and whom to thank.
    cut : callable
    """

    name: str
    terms: str
    cut: Cut

    def problem(self, number: int, seed: int, tasks: range, workers: range) -> PlanRequest:
        """A problem by its number; the same ones for the same seed.

        Parameters
        ----------
        number, seed : int
        tasks, workers : range
            How many it may have, each number as likely.

        Raises
        ------
        BadRequest
            Where none of so many tasks could be found in the source.
        """
        chance = np.random.default_rng([seed, zlib.crc32(self.name.encode()), number])
        for _ in range(TRIES):
            size = tasks[int(chance.integers(len(tasks)))]
            machines = workers[int(chance.integers(len(workers)))]
            request = self.cut(size, machines, chance)
            if len(request.snapshot.pending) == size:
                return replace(request, request_id=f"{self.name}-{seed}-{number}", seed=number)
        raise BadRequest(
            f"{self.name}: no {tasks[0]} to {tasks[-1]} tasks for {workers[0]} to {workers[-1]} "
            "workers could be cut from it; give a longer log, or ask for fewer tasks"
        )


def must_be_span(name: str, span: tuple[int, int]) -> None:
    """Refuse fewest and most of something that are no span (``BadRequest``)."""
    low, high = span
    if not 1 <= low <= high:
        raise BadRequest(
            f"--{name} {low}:{high}: write fewest:most, from 1 on, the lesser one first"
        )


def source_of(path: str | Path, columns: str | Path | None = None, terms: str = "") -> Source:
    """The problems of a file.

    Parameters
    ----------
    path : path
        ``generated``; a job log in any format that ``plancast.predictor.read_log`` knows; a table
        of workflows (``plancast.planner.instances.dag``); a cluster file or a folder of them; or
        the folder of the openb trace.
    columns : path, optional
        Column map of a log that is a table.
    terms : str
        Of its use, where the file does not say.
    """
    path = Path(path)
    if str(path) == GENERATED:
        return Source(GENERATED, terms or "ours: made by the generator", _generated)
    if path.is_dir() and (path / OPENB_NODES).exists():
        return Source(path.name, terms or "study or research", _of_openb(path))
    if path.is_dir() or path.name.removesuffix(".gz").endswith(".json"):
        return Source(path.name, terms or "see the file's own page", _of_clusters(path))
    if columns is None and _is_dag_table(path):
        return Source(path.name, terms or "see the collection's own page", _of_workflows(path))
    jobs = read_log(path, columns=columns)
    header = jobs.attrs.get("header", {})
    said = "; ".join(
        f"{key}: {value}" for key, value in header.items()
        if key.lower().startswith(("acknowledge", "conversion", "information"))
    )  # fmt: skip
    return Source(path.name, terms or said or "the log does not say", _of_log(jobs, path.name))


# --------------------------------------------------------------------------- sources


def _generated(tasks: int, workers: int, chance: np.random.Generator) -> PlanRequest:
    seed = int(chance.integers(1 << 31))
    cluster = generate_cluster(workers, seed)
    return generate_batch(tasks, cluster, seed, policy=_policy(chance))


def _of_log(jobs: Any, name: str) -> Cut:
    """Stretches of consecutive jobs on workers that hold the widest of them."""
    counts = jobs["cpus"]
    resource = "cpu"
    if counts.isna().all() and jobs["gpus"].notna().any():
        counts, resource = jobs["gpus"], "gpu"
    width = counts.fillna(1.0).to_numpy(float)
    run_s = jobs["run_s"].to_numpy(float)
    asked_s = jobs["requested_s"].to_numpy(float)
    ran = np.flatnonzero((run_s > 0) & np.isfinite(run_s) & (width > 0))
    if not len(ran):
        raise BadRequest(f"{name}: no job has a run time; nothing can be cut from it")

    def cut(tasks: int, workers: int, chance: np.random.Generator) -> PlanRequest:
        window = ran[: 4 * tasks]
        if len(ran) > 4 * tasks:
            first = int(chance.integers(len(ran) - 4 * tasks))
            window = ran[first : first + 4 * tasks]
        rows = np.sort(chance.choice(window, min(tasks, len(window)), replace=False))
        millis = np.maximum(1, np.ceil(1000 * width[rows])).astype(int)
        seconds = np.ceil(run_s[rows]).astype(int)
        each = int(millis.max())
        machines = _equal_workers(workers, each, resource, chance)
        span = float((millis * seconds).sum()) / (each * workers)
        ask = np.where(asked_s[rows] > 0, asked_s[rows], seconds)
        due = _due(ask, max(span, float(seconds.max())), chance)
        weight = chance.choice([1.0, 2.0, 4.0], tasks, p=[0.6, 0.3, 0.1])
        batch = tuple(
            Task(f"t{k}", {resource: int(millis[k])}, deadline_s=due[k], weight=float(weight[k]))
            for k in range(len(rows))
        )
        classes = {w.machine_class for w in machines}
        estimates = {
            f"t{k}": {
                c: DurationEstimate.certain(max(1, round(int(seconds[k]) / _SPEED[c])))
                for c in classes
            }
            for k in range(len(rows))
        }
        snapshot = Snapshot(0, 0, machines, batch)
        return PlanRequest("log", snapshot, estimates, _policy(chance))

    return cut


_SPEED = {"slow": 1.0, "fast": FAST}


def _equal_workers(
    count: int, millis: int, resource: str, chance: np.random.Generator
) -> tuple[Worker, ...]:
    """Workers of one size; in half of the problems some are faster and take more power."""
    fast = int(chance.integers(1, count)) if chance.random() < 0.5 else 0
    idle_w = float(chance.choice([50.0, 100.0, 200.0]))
    return tuple(
        Worker(
            f"w{k}", {resource: millis}, machine_class="fast" if k < fast else "slow",
            idle_w=idle_w * (2.0 if k < fast else 1.0), busy_w=idle_w * (3.0 if k < fast else 1.0),
        )
        for k in range(count)
    )  # fmt: skip


def _of_workflows(path: Path) -> Cut:
    """Parts of workflow executions on workers of three speeds."""
    found = dag_set(path)
    requests: dict[str, PlanRequest] = {}

    def cut(tasks: int, workers: int, chance: np.random.Generator) -> PlanRequest:
        name = found.names[int(chance.integers(len(found.names)))]
        if name not in requests:
            requests[name] = found.read(name).request
        return _part(requests[name], tasks, workers, chance, follow=True)

    return cut


def _of_clusters(path: Path) -> Cut:
    """Parts of cluster files: some of the tasks on some of the workers."""
    files = [path] if path.is_file() else sorted(path.glob("*.json*"))
    if not files:
        raise BadRequest(f"{path}: holds no cluster file (*.json or *.json.gz)")
    requests: dict[Path, PlanRequest] = {}

    def cut(tasks: int, workers: int, chance: np.random.Generator) -> PlanRequest:
        file = files[int(chance.integers(len(files)))]
        if file not in requests:
            requests[file] = read_cluster(file).request
        return _part(requests[file], tasks, workers, chance)

    return cut


def _of_openb(path: Path) -> Cut:
    """Pods of the openb trace on some of its nodes."""
    trace = read_openb(path)
    certain = {
        name: {ANY_CLASS: DurationEstimate.certain(seconds)}
        for name, seconds in trace.run_s.items()
    }
    pending = tuple(
        replace(t, release_s=0, deadline_s=None) for t in trace.request.snapshot.pending
    )
    snapshot = replace(trace.request.snapshot, pending=pending)
    whole = replace(trace.request, snapshot=snapshot, estimates=certain)

    def cut(tasks: int, workers: int, chance: np.random.Generator) -> PlanRequest:
        part = _part(whole, tasks, workers, chance)
        chosen = part.snapshot.pending
        seconds = np.array([trace.run_s[t.id] for t in chosen], float)
        due = _due(seconds, float(seconds.sum()) / workers, chance)
        dated = tuple(replace(t, deadline_s=d) for t, d in zip(chosen, due, strict=True))
        power = tuple(
            replace(w, idle_w=100.0 + w.capacity.get("gpu", 0) / 20.0)
            for w in part.snapshot.workers
        )
        snapshot = replace(part.snapshot, pending=dated, workers=power)
        return replace(part, snapshot=snapshot, policy=_policy(chance))

    return cut


# --------------------------------------------------------------------------- parts


def _part(
    request: PlanRequest,
    tasks: int,
    workers: int,
    chance: np.random.Generator,
    *,
    follow: bool = False,
) -> PlanRequest:
    """Some workers of a request, and so many tasks that they can hold (or fewer).

    With `follow` the tasks are one and what comes after it in the graph, as far as needed;
    else they stand side by side in the request. What came before them has ended.
    """
    machines = request.snapshot.workers
    chosen = chance.choice(len(machines), min(workers, len(machines)), replace=False)
    hosts = tuple(machines[int(k)] for k in sorted(chosen))
    fit = [t for t in request.snapshot.pending if _holds(hosts, t)]
    if follow:
        fit = _connected(fit, tasks, chance)
    elif len(fit) > tasks:
        first = int(chance.integers(len(fit) - tasks + 1))
        fit = fit[first : first + tasks]
    names = {t.id for t in fit}
    batch = tuple(replace(t, after=tuple(p for p in t.after if p in names)) for t in fit)
    return replace(
        request,
        snapshot=replace(request.snapshot, workers=hosts, pending=batch),
        estimates={t.id: request.estimates[t.id] for t in batch},
    )


def _holds(workers: Sequence[Worker], task: Task) -> bool:
    return task.shards == 1 and any(
        w.satisfies(task.requires)
        and all(w.capacity.get(r, 0) >= a for r, a in task.demand.items())
        for w in workers
    )


def _connected(tasks: Sequence[Task], count: int, chance: np.random.Generator) -> list[Task]:
    """A task, what follows it and what these follow besides, breadth first, at most `count`."""
    by_id = {t.id: t for t in tasks}
    beside: dict[str, list[str]] = {t.id: [] for t in tasks}
    for task in tasks:
        for p in task.after:
            if p in by_id:
                beside[p].append(task.id)
                beside[task.id].append(p)
    line = [tasks[int(chance.integers(len(tasks)))].id] if tasks else []
    seen = set(line)
    for name in line:
        if len(line) >= count:
            break
        around = [n for n in beside[name] if n not in seen]
        for n in (around[int(k)] for k in chance.permutation(len(around))):
            if len(line) < count:
                line.append(n)
                seen.add(n)
    return [t for t in tasks if t.id in seen]


def _due(asked_s: np.ndarray, span_s: float, chance: np.random.Generator) -> list[int | None]:
    """Deadlines of a share of the tasks: what was asked for, and a part of the batch's span."""
    dated = chance.random(len(asked_s)) < DUE_SHARE
    at = asked_s + chance.uniform(0.1, 1.0, len(asked_s)) * span_s
    return [int(np.ceil(a)) if d else None for a, d in zip(at, dated, strict=True)]


def _policy(chance: np.random.Generator) -> Policy:
    return Policy(POLICIES[int(chance.integers(len(POLICIES)))])


def _is_dag_table(path: Path) -> bool:
    """Whether a file's first line names the columns of a table of workflows."""
    from plancast.predictor.logs.source import first_line

    return path.is_file() and set(DAG_COLUMNS) <= set(first_line(path).strip().split(","))


def sources_of(paths: Sequence[str], columns: Sequence[str] = (), terms: str = "") -> list[Source]:
    """The sources of some files; a column map belongs to the log of its name.

    Parameters
    ----------
    paths : sequence of str
    columns : sequence of str
        Column maps; ``philly.yaml`` is for the file whose name begins with ``philly``.
    terms : str
    """
    maps = {Path(c).name.removesuffix(".yaml"): c for c in columns}
    result = []
    for path in paths or (GENERATED,):
        stem = Path(path).name
        mine = next((c for key, c in maps.items() if stem.startswith(key)), None)
        result.append(source_of(path, mine, terms))
    names = [s.name for s in result]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"{name}: two sources have this name; rename one of the files")
    unused = [key for key in maps if not any(Path(p).name.startswith(key) for p in paths)]
    if unused:
        raise BadRequest(
            f"--columns {maps[unused[0]]}: no log's name begins with {unused[0]!r}; "
            f"{nearest(unused[0], [Path(p).name for p in paths])}"
        )
    return result
