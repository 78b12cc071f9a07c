"""Cluster-shaped batches in neutral JSON, as requests.

The file's objective, in seconds, becomes prices::

    makespan + 10 sum(w tardiness) / sum(w of due tasks) + sum(power_w last end) / sum(power_w)
    = 3600 makespan_h + 36000 / sum(w of due tasks) late_h + 3.6e6 / sum(power_w) kwh

with ``idle_w = power_w`` and nothing for use or for switching on.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from plancast.planner.model.domain import (
    HOUR_S,
    WATT_SECONDS_PER_KWH,
    Assignment,
    BadRequest,
    DurationEstimate,
    Plan,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest, from_json

TARDINESS = 10.0
"""What a weighted mean second of tardiness costs, in seconds of makespan."""
MIB_PER_GIB = 1024
MILLI = 1000


@dataclass(frozen=True)
class ClusterInstance:
    """A batch and what is known of it; costs in seconds of the file's objective.

    Parameters
    ----------
    name : str
    request : PlanRequest
    lower_bound : float
        The file's own: a joint LP over makespan and energy, blind to tardiness.
    best_known, reference_10s, greedy_lp : float
        Costs of the best plan known, of a one-thread search of 10 s, of a list schedule.
    example : Plan
        A valid plan.
    example_terms : mapping of str to float
        What the file says of it: ``makespan_s``, ``tardiness_part``, ``on_time_part``, ``cost``.
    """

    name: str
    request: PlanRequest
    lower_bound: float
    best_known: float
    reference_10s: float
    greedy_lp: float
    example: Plan
    example_terms: Mapping[str, float]


@dataclass(frozen=True)
class _Machine:
    id: str
    cpu: int
    mem_gib: int
    power_w: float
    gpu: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    id: str
    duration_s: int
    cpu: int
    mem_gib: int
    weight: float = 1.0
    gpu: int = 0
    due_s: int | None = None
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Example:
    start_s: tuple[int, ...]
    worker: tuple[int, ...]
    makespan_s: float
    tardiness_part: float
    on_time_part: float
    cost: float


@dataclass(frozen=True)
class _File:
    name: str
    lower_bound: float
    greedy_lp: float
    reference_10s: float
    best_known: float
    example: _Example
    workers: tuple[_Machine, ...] = field(default=())
    tasks: tuple[_Job, ...] = field(default=())


def read_cluster(path: str | Path) -> ClusterInstance:
    """Read a cluster file, plain or gzipped.

    Parameters
    ----------
    path : path

    Returns
    -------
    ClusterInstance
        With everything free at 0, and the estimates certain.

    Raises
    ------
    BadRequest
        One sentence with the file, the first wrong field, and what is wrong with it.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise BadRequest(f"{path}: cannot be read as a cluster file: {error}") from None
    file = from_json(_File, text, source=str(path))
    try:
        return _instance(file)
    except BadRequest as error:
        raise BadRequest(f"{path}: {error}") from None


def _instance(file: _File) -> ClusterInstance:
    workers = tuple(
        Worker(
            machine.id,
            _amounts(machine.cpu, machine.mem_gib, machine.gpu),
            frozenset(machine.labels),
            idle_w=machine.power_w,
        )
        for machine in file.workers
    )
    tasks = tuple(
        Task(
            job.id,
            _amounts(job.cpu, job.mem_gib, job.gpu),
            deadline_s=job.due_s,
            weight=job.weight,
            requires=job.requires,
            after=job.after,
        )
        for job in file.tasks
    )
    due = sum(job.weight for job in file.tasks if job.due_s is not None)
    power_w = sum(machine.power_w for machine in file.workers)
    prices = Prices(
        makespan_h=HOUR_S,
        late_h=TARDINESS * HOUR_S / due if due else 0.0,
        misses=0.0,
        wait_h=0.0,
        kwh=WATT_SECONDS_PER_KWH / power_w if power_w else 0.0,
    )
    request = PlanRequest(
        file.name,
        Snapshot(0, 0, workers, tasks),
        {job.id: {"*": DurationEstimate.certain(job.duration_s)} for job in file.tasks},
        Policy(prices),
    )
    example = file.example
    if not len(example.start_s) == len(example.worker) == len(tasks):
        raise BadRequest("example: it needs one start and one worker for each task")
    if not all(0 <= w < len(workers) for w in example.worker):
        raise BadRequest("example: worker names a place beyond the list of workers")
    return ClusterInstance(
        name=file.name,
        request=request,
        lower_bound=file.lower_bound,
        best_known=file.best_known,
        reference_10s=file.reference_10s,
        greedy_lp=file.greedy_lp,
        example=Plan(
            tuple(
                Assignment(job.id, (workers[w].id,), start, start + job.duration_s)
                for job, start, w in zip(file.tasks, example.start_s, example.worker, strict=True)
            )
        ),
        example_terms={
            "makespan_s": example.makespan_s,
            "tardiness_part": example.tardiness_part,
            "on_time_part": example.on_time_part,
            "cost": example.cost,
        },
    )


def _amounts(cpu: int, mem_gib: int, gpu: int) -> dict[str, int]:
    """Resources in the planner's units; what is not there is left out."""
    amounts = {"cpu": cpu * MILLI, "mem": mem_gib * MIB_PER_GIB}
    if gpu:
        amounts["gpu"] = gpu * MILLI
    return amounts
