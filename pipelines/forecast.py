"""Forecasts for the tasks of a file, from a trained model."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipelines.bridge import estimates_by_class
from pipelines.inputs import read_task_table
from planner.domain import ANY_CLASS, Estimates
from predictor import RuntimePredictor


def machine_classes(model: RuntimePredictor) -> tuple[str, ...]:
    """Machine classes that a model tells apart: the partitions of its training log."""
    return tuple(model.builder.categories.get("partition", {}))


def forecast_tasks(
    tasks: Path, model: Path, *, now_s: float | None = None, classes: Collection[str] = ()
) -> Estimates:
    """Quantiles of every task's run time.

    Parameters
    ----------
    tasks : Path
        A task file; what the model knows a job by (user, app, queue, ...) are columns of it.
    model : Path
        Folder of a ``RuntimePredictor``.
    now_s : float, optional
        Submission time of tasks that name none, seconds since the epoch; by default the
        last moment that the model's history knows of.
    classes : collection of str
        Machine classes of the cluster. Each that the model knows gets an estimate of its own;
        for the others (and where none is given) ``*`` does, with the task's own partition.
    """
    predictor = RuntimePredictor.load(model)
    jobs = read_task_table(tasks).rename(columns={"id": "job_id"})
    if "submit_s" not in jobs.columns:
        jobs["submit_s"] = jobs["release_s"] if "release_s" in jobs.columns else float("nan")
    latest = predictor.history.known_until_s if now_s is None else now_s
    jobs["submit_s"] = jobs["submit_s"].fillna(latest if math.isfinite(latest) else 0.0)
    return forecast_by_class(predictor, jobs, classes)


def forecast_by_class(
    predictor: RuntimePredictor, jobs: Any, classes: Collection[str] = ()
) -> Estimates:
    """Quantiles of every job on every machine class; `classes` as in ``forecast_tasks``.

    Parameters
    ----------
    predictor : RuntimePredictor
    jobs : DataFrame
        Canonical fields with ``job_id``; one class is asked for by writing it into ``partition``.
    classes : collection of str
    """
    known = machine_classes(predictor)
    asked = [name for name in dict.fromkeys(classes) if name in known]
    quantiles = {name: predictor.predict_quantiles(jobs.assign(partition=name)) for name in asked}
    if not asked or len(asked) < len(set(classes)):
        quantiles[ANY_CLASS] = predictor.predict_quantiles(jobs)
    return estimates_by_class(jobs["job_id"].tolist(), quantiles, predictor.levels, "model")
