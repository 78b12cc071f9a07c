"""Forecasts for the tasks of a file, from a trained model."""

from __future__ import annotations

from pathlib import Path

from pipelines.bridge import estimates_of
from pipelines.inputs import read_task_table
from planner.domain import Estimates
from predictor import RuntimePredictor


def forecast_tasks(tasks: Path, model: Path, *, now_s: float | None = None) -> Estimates:
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
    """
    predictor = RuntimePredictor.load(model)
    jobs = read_task_table(tasks).rename(columns={"id": "job_id"})
    if "submit_s" not in jobs.columns:
        jobs["submit_s"] = jobs["release_s"] if "release_s" in jobs.columns else float("nan")
    latest = float(predictor.card["training_window_s"][1]) if now_s is None else now_s
    jobs["submit_s"] = jobs["submit_s"].fillna(latest)
    return estimates_of(
        jobs["job_id"].tolist(), predictor.predict_quantiles(jobs), predictor.levels, "model"
    )
