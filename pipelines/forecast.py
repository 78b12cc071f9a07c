"""Forecasts for the tasks of a file, from a trained model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.bridge import estimates_of
from pipelines.inputs import read_task_table
from planner.domain import Estimates, Running
from predictor import RuntimePredictor

PER_SHARD = ("cpus", "mem_mib", "gpus")
"""What a task file says of one shard, and a job log of the whole job."""


def forecast_tasks(
    tasks: Path, model: Path, *, now_s: float | None = None, running: Sequence[Running] = ()
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
    running : sequence of Running
        Tasks that run already, and want estimates too.

    Notes
    -----
    A forecast uses all that the model's history knows: none of these tasks has ended, so
    nothing of it lies in their future. A clock of the user's own, which lies before the
    history, therefore hides nothing either.
    """
    predictor = RuntimePredictor.load(model)
    jobs = _pending_jobs(tasks)
    if running:
        jobs = pd.concat([jobs, _running_jobs(running)], ignore_index=True)
    known_until_s = predictor.history.known_until_s
    submit_s = jobs["submit_s"].fillna(known_until_s if now_s is None else now_s)
    jobs["submit_s"] = submit_s
    quantiles_s = predictor.predict_quantiles(jobs, as_of_s=np.maximum(submit_s, known_until_s))
    return estimates_of(jobs["job_id"].tolist(), quantiles_s, predictor.levels, "model")


def _pending_jobs(tasks: Path) -> pd.DataFrame:
    jobs = read_task_table(tasks).rename(columns={"id": "job_id"})
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
            "submit_s": float(run.task.release_s),
            "user": run.task.owner,
            "app": run.task.app,
            "requested_s": float(run.task.requested_s or math.nan),
            "cpus": run.task.demand.get("cpu", 0) * run.task.shards / 1000,
            "mem_mib": float(run.task.demand.get("mem", 0) * run.task.shards),
            "gpus": run.task.demand.get("gpu", 0) * run.task.shards / 1000,
        }
        for run in running
    ]
    return pd.DataFrame(rows)
