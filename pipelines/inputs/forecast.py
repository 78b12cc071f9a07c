"""Forecasts for the tasks of a file, from a trained model."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.pipelines.bridge import certain_estimates, estimates_by_class
from plancast.pipelines.inputs.modes import nested
from plancast.pipelines.inputs.tables import Table
from plancast.pipelines.inputs.user_files import read_task_table
from plancast.planner.model.domain import ANY_CLASS, Estimates, Running, estimates_of
from plancast.predictor import ESTIMATORS, RuntimePredictor
from plancast.predictor.schema import canonical

PER_SHARD = ("cpus", "mem_mib", "gpus")
"""What a task file says of one shard, and a job log of the whole job."""


def machine_classes(model: RuntimePredictor) -> tuple[str, ...]:
    """Machine classes that a model tells apart: the partitions of its training log."""
    return tuple(model.builder.categories.get("partition", {}))


def forecast_tasks(
    tasks: Path | Table,
    model: Path | RuntimePredictor,
    *,
    now_s: float | None = None,
    running: Sequence[Running] = (),
    classes: Collection[str] = (),
    source: str = "model",
) -> Estimates:
    """Quantiles of every task's run time.

    Parameters
    ----------
    tasks : Path or Table
        A task file; what the model knows a job by (user, app, queue, ...) are columns of it.
    model : Path or RuntimePredictor
        Folder of one, or it.
    now_s : float, optional
        Submission time of tasks that name none, seconds since the epoch; by default the
        last moment that the model's history knows of.
    running : sequence of Running
        Tasks that run already, and want estimates too. Where now is given, theirs are
        conditioned on how long they have run by now, calibrated as remaining times are.
    classes : collection of str
        Machine classes of the cluster. Each that the model knows gets an estimate of its own;
        for the others (and where none is given) ``*`` does, with the task's own partition.
    source : str
        ``model``, or the name of a rule of ``predictor.ESTIMATORS``: its point forecasts, from
        what the model's history knows.

    Notes
    -----
    A forecast uses all that the model's history knows: none of these tasks has ended, so
    nothing of it lies in their future. A clock of the user's own, which lies before the
    history, therefore hides nothing either.
    """
    predictor = model if isinstance(model, RuntimePredictor) else RuntimePredictor.load(model)
    jobs = jobs_of(read_task_table(tasks))
    elapsed_s = np.zeros(len(jobs))
    if running:
        jobs = pd.concat([jobs, _running_jobs(running)], ignore_index=True)
        ages = [0.0 if now_s is None else max(now_s - run.start_s, 0.0) for run in running]
        elapsed_s = np.concatenate([elapsed_s, ages])
    seen_until_s = predictor.history.known_until_s
    latest = seen_until_s if now_s is None else now_s
    submit_s = jobs["submit_s"].fillna(latest if math.isfinite(latest) else 0.0)
    jobs["submit_s"] = submit_s
    as_of_s = np.maximum(submit_s, seen_until_s)
    if source != "model":
        rule = ESTIMATORS[source]((0.5,)).fit(canonical(predictor.history.frame()))
        points = np.maximum(rule.predict(jobs, as_of_s=as_of_s), elapsed_s + 1.0)
        return _of_jobs(jobs, certain_estimates(_rows(jobs), points, source))
    return forecast_by_class(predictor, jobs, classes, as_of_s=as_of_s, elapsed_s=elapsed_s)


def known_until_s(model: Path) -> float:
    """The last moment that a model's history knows of, seconds; minus infinity for none."""
    return float(RuntimePredictor.load(model).history.known_until_s)


def jobs_of(tasks: pd.DataFrame) -> pd.DataFrame:
    """A table of tasks (``read_task_table``, ``task_frame``) as the predictor knows jobs."""
    jobs = tasks.rename(columns={"id": "job_id"})
    if "submit_s" not in jobs.columns:
        jobs["submit_s"] = math.nan
    if "cpus" not in jobs.columns:
        jobs["cpus"] = math.nan
    jobs["cpus"] = jobs["cpus"].fillna(1.0)  # as the planner reads an empty cell
    if "shards" in jobs.columns:
        for name in PER_SHARD:
            if name in jobs.columns:
                jobs[name] = jobs[name] * jobs["shards"].fillna(1.0)
    return jobs


def _running_jobs(running: Sequence[Running]) -> pd.DataFrame:
    rows = [
        {
            "job_id": run.task.id,
            "mode": run.mode,
            "submit_s": float(run.task.release_s),
            "user": run.task.owner,
            "app": run.task.app,
            "requested_s": float(task.requested_s or math.nan),
            "cpus": task.demand.get("cpu", 0) * task.shards / 1000,
            "mem_mib": float(task.demand.get("mem", 0) * task.shards),
            "gpus": task.demand.get("gpu", 0) * task.shards / 1000,
        }
        for run in running
        for task in [run.done]
    ]
    return pd.DataFrame(rows)


def forecast_by_class(
    predictor: RuntimePredictor,
    jobs: Any,
    classes: Collection[str] = (),
    *,
    as_of_s: Any = None,
    elapsed_s: Any = None,
) -> Estimates:
    """Quantiles of every job on every machine class; `classes` as in ``forecast_tasks``.

    Parameters
    ----------
    predictor : RuntimePredictor
    jobs : DataFrame
        Canonical fields with ``job_id``; one class is asked for by writing it into ``partition``.
    classes : collection of str
    as_of_s : float or array of shape (jobs,), optional
        Passed to ``predict_quantiles``.
    elapsed_s : array of float, shape (jobs,), optional
        How long each job has run, seconds. The estimate of one that runs is of its whole run
        time given that: what has elapsed and the calibrated time that remains.
    """

    def quantiles_of(asked: Any) -> Any:
        return predictor.predict_elapsed(asked, elapsed_s, as_of_s)

    known = machine_classes(predictor)
    asked = [name for name in dict.fromkeys(classes) if name in known]
    quantiles = {name: quantiles_of(jobs.assign(partition=name)) for name in asked}
    if not asked or len(asked) < len(set(classes)):
        quantiles[ANY_CLASS] = quantiles_of(jobs)
    found = estimates_by_class(_rows(jobs), quantiles, predictor.levels, "model")
    return _of_jobs(jobs, found)


def _rows(jobs: Any) -> list[str]:
    return [str(row) for row in range(len(jobs))]


def _of_jobs(jobs: Any, found: Estimates) -> Estimates:
    """Estimates by row as those of the jobs, each in its mode."""
    ids = jobs["job_id"].tolist()
    modes = jobs["mode"].fillna("").tolist() if "mode" in jobs else [""] * len(ids)
    keys = zip(ids, modes, strict=True)
    rows = _rows(jobs)
    return nested({key: estimates_of(found, row) for key, row in zip(keys, rows, strict=True)})
