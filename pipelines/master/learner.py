"""Forecasts of tasks as they come, by a model that learns from each that ends."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from plancast.pipelines.inputs.forecast import forecast_tasks, jobs_of
from plancast.pipelines.inputs.user_files import read_task_table, task_rows_table
from plancast.planner.model.domain import ANY_CLASS, DurationEstimate, Estimates, Task
from plancast.predictor import RuntimePredictor

SOURCE = "submission"


class Forecasts(Protocol):
    """What forecasts tasks for the loop, and learns."""

    @property
    def busy(self) -> bool:
        """Whether tasks should wait outside the plan, as there is no forecast now."""
        ...

    def forecast(self, rows: Sequence[Any], now_s: int, classes: Collection[str]) -> Estimates:
        """Estimates of tasks of the table; those that it has none of are left out."""
        ...

    def ended(self, rows: Sequence[Any]) -> None:
        """Learn of tasks that ran to an end."""
        ...


class Learner:
    """A model, and what it is asked and what it learns.

    Parameters
    ----------
    model : Path
        Folder of a trained model; it is not changed.
    ended : sequence
        Rows of tasks that have ended since it was trained, by this master's books.
    """

    busy = False

    def __init__(self, model: Path, ended: Sequence[Any] = ()) -> None:
        self.predictor = RuntimePredictor.load(model)
        self.ended(ended)
        self._forecast([{"id": "first", "requested_s": 3600}], 0, ())  # compiles, imports

    def forecast(self, rows: Sequence[Any], now_s: int, classes: Collection[str]) -> Estimates:
        """Estimates of tasks of the table, which are noted as submitted."""
        found = self._forecast([_written(row) for row in rows], now_s, classes)
        self.predictor.update(self._jobs(rows))
        return found

    def ended(self, rows: Sequence[Any]) -> None:
        """Learn of tasks that ran to an end."""
        if not rows:
            return
        jobs = self._jobs(rows)
        jobs["start_s"] = [float(row.start_s) for row in rows]
        jobs["end_s"] = [float(row.end_s) for row in rows]
        jobs["run_s"] = jobs["end_s"] - jobs["start_s"]
        jobs["outcome"] = [row.outcome for row in rows]
        self.predictor.update(jobs)

    def _forecast(
        self, rows: Sequence[dict[str, Any]], now_s: int, classes: Collection[str]
    ) -> Estimates:
        table = task_rows_table(rows, SOURCE)
        return forecast_tasks(table, self.predictor, now_s=now_s, classes=classes)

    def _jobs(self, rows: Sequence[Any]) -> pd.DataFrame:
        table = task_rows_table([_written(row) for row in rows], SOURCE)
        jobs = jobs_of(read_task_table(table))
        jobs["submit_s"] = [float(row.submitted_s) for row in rows]
        return jobs


def requested(task: Task) -> Estimates:
    """The requested time as a certain estimate: what is believed without a model."""
    if task.requested_s is None:
        return {}
    return {task.id: {ANY_CLASS: DurationEstimate.certain(task.requested_s, "requested")}}


def _written(row: Any) -> dict[str, Any]:
    """A task as its user wrote it."""
    found: dict[str, Any] = json.loads(row.row)["row"]
    return found
