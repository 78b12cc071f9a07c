"""Forecasts from a served model."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.http.bodies import ForecastBody
from plancast.pipelines.inputs.forecast import forecast_by_class, jobs_of
from plancast.pipelines.inputs.user_files import task_frame
from plancast.planner.model.domain import BadRequest
from plancast.predictor import BadLog, RuntimePredictor


class ModelForecasts:
    """The quantiles of a trained model, one call at a time.

    Parameters
    ----------
    model : Path
        Folder of a ``RuntimePredictor``.
    """

    def __init__(self, model: Path) -> None:
        self.predictor = RuntimePredictor.load(model)
        self.lock = threading.Lock()

    def __call__(self, wanted: ForecastBody) -> Any:
        """Estimates by task and machine class.

        Raises
        ------
        BadRequest
            Where two tasks have one id, or a feature holds text instead of a number.
        """
        jobs = jobs_of(task_frame(wanted.tasks))
        known_until_s = self.predictor.history.known_until_s
        latest = known_until_s if np.isfinite(known_until_s) else 0.0
        jobs["submit_s"] = jobs["submit_s"].astype("float64").fillna(latest)
        as_of_s = np.maximum(jobs["submit_s"], latest)
        with self.lock:
            try:
                return forecast_by_class(self.predictor, jobs, wanted.classes, as_of_s=as_of_s)
            except BadLog as error:
                raise BadRequest(f"tasks: {error}") from None
