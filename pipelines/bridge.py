"""From the predictor's arrays to the planner's estimates, and from jobs to tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import ANY_CLASS, DurationEstimate, Estimates, Task, Worker

Floats = NDArray[np.float64]


def estimates_of(
    task_ids: Sequence[str], quantiles_s: Floats, levels: Sequence[float], source: str
) -> Estimates:
    """Forecast quantiles as the planner's estimates, for any machine class.

    Parameters
    ----------
    task_ids : sequence of str
    quantiles_s : float array, shape (tasks, levels)
        Seconds, non-decreasing along the levels; rounded up to whole ones, at least 1.
    levels : sequence of float
    source : str
        Who says so.
    """
    return estimates_by_class(task_ids, {ANY_CLASS: quantiles_s}, levels, source)


def estimates_by_class(
    task_ids: Sequence[str], quantiles_s: Mapping[str, Floats], levels: Sequence[float], source: str
) -> Estimates:
    """Forecast quantiles for each machine class as the planner's estimates.

    Parameters
    ----------
    task_ids : sequence of str
    quantiles_s : mapping of str to float array, shape (tasks, levels)
        By machine class (``*`` for any other); as in ``estimates_of``.
    levels : sequence of float
    source : str
        Who says so.

    Notes
    -----
    Levels at which no finite quantile is promised (infinity) are left out, so that the
    estimate ends at the highest level that is; where there is none the class has no estimate.
    """
    known = tuple(float(level) for level in levels)
    result: dict[str, dict[str, DurationEstimate]] = {task: {} for task in task_ids}
    for machine_class, seconds in quantiles_s.items():
        promised = np.isfinite(seconds).sum(axis=1).tolist()
        finite = np.where(np.isfinite(seconds), seconds, 0.0)
        whole = np.maximum(np.ceil(finite - 1e-9), 1).astype(np.int64).tolist()
        for task, row, count in zip(task_ids, whole, promised, strict=True):
            if count:
                estimate = DurationEstimate(known[:count], tuple(row[:count]), source)
                result[task][machine_class] = estimate
    return result


def certain_estimates(task_ids: Sequence[str], seconds: Floats, source: str) -> Estimates:
    """Point forecasts, shape (tasks,), as estimates without spread."""
    return estimates_of(task_ids, np.asarray(seconds, np.float64)[:, None], (0.5,), source)


def machines_of_log(width: float, workers: int, resource: str) -> tuple[Worker, ...]:
    """A log's machine as `workers` equal ones that together have `width` processors (or more).

    Parameters
    ----------
    width : float
        Processors (or GPUs) of the machine.
    workers : int
        1: a pooled machine, as SWF logs describe it.
    resource : str
        ``cpu`` or ``gpu``: what the log counts.
    """
    each = int(np.ceil(width / workers)) * 1000
    if workers == 1:
        return (Worker("pool", {resource: each}, machine_class="pool"),)
    return tuple(
        Worker(f"node-{k}", {resource: each}, machine_class="node") for k in range(workers)
    )


def task_of_job(
    job: Any, machines: Sequence[Worker], resource: str, *, release_s: int, deadline_s: int | None
) -> Task:
    """A logged job as a task: one piece where it fits one machine, else a gang of equal pieces.

    Parameters
    ----------
    job : namedtuple
        A row of a canonical log.
    machines : sequence of Worker
        Equal ones, from ``machines_of_log``.
    resource : str
    release_s : int
    deadline_s : int, optional
    """
    width = job.cpus if resource == "cpu" else job.gpus
    millis = max(1, int(np.ceil((1.0 if np.isnan(width) else width) * 1000)))
    shards = -(-millis // machines[0].capacity[resource])
    requested = job.requested_s
    return Task(
        id=job.job_id,
        demand={resource: -(-millis // shards)},
        release_s=release_s,
        deadline_s=deadline_s,
        owner=job.user,
        app=job.app,
        requested_s=int(np.ceil(requested)) if requested > 0 else None,
        shards=shards,
    )
