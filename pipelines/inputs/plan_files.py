"""Plans as files: the whole response as JSON, or a row a task as CSV or Parquet."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from plancast.pipelines.inputs.files import write_text_atomic
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import PlanRequest, PlanResponse, to_json

if TYPE_CHECKING:
    import pandas as pd

PLAN_COLUMNS = ("task", "worker", "start_s", "end_s", "start", "end", "owner", "app", "late_s",
                "why")  # fmt: skip
"""Columns of a plan as a frame, a row a task in order of start."""


def plan_frame(request: PlanRequest, response: PlanResponse) -> pd.DataFrame:
    """Where and when each planned task runs.

    Returns
    -------
    DataFrame
        ``PLAN_COLUMNS``: times as seconds and as UTC moments; a gang's workers with spaces between
        them; ``late_s`` after the deadline, 0 for none; ``why`` the task waits.
    """
    # Imported only now: most plans are written as JSON.
    import pandas as pd

    snapshot, rows = request.snapshot, []
    planned = () if response.plan is None else response.plan.assignments
    for a in sorted(planned, key=lambda a: (a.start_s, a.task)):
        waiting = snapshot.pending_by_id.get(a.task)
        task = snapshot.running_by_id[a.task].task if waiting is None else waiting
        late_s = 0 if task.deadline_s is None else max(0, a.end_s - task.deadline_s)
        rows.append(
            (a.task, " ".join(a.workers), a.start_s, a.end_s, None, None, task.owner, task.app,
             late_s, response.why.get(a.task, ""))
        )  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(PLAN_COLUMNS))
    for name in ("start", "end"):
        frame[name] = pd.to_datetime(frame[f"{name}_s"], unit="s", utc=True)
    return frame


def write_plan(request: PlanRequest, response: PlanResponse, path: str | Path) -> Path:
    """Write a plan as ``.json`` (the whole response), ``.csv`` or ``.parquet`` (its tasks).

    Raises
    ------
    BadRequest
        Where the name has another ending, or a table is asked for and there is no plan.
    """
    check_plan_path(path)
    ending = Path(path).suffix.lower()
    if ending not in (".csv", ".parquet"):
        write_text_atomic(path, to_json(response, indent=1))
        return Path(path)
    if response.plan is None:
        raise BadRequest(f"{path}: there is no plan to write ({response.status.value})")
    frame = plan_frame(request, response)
    if ending == ".csv":
        write_text_atomic(path, frame.to_csv(index=False))
    else:
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        write_text_atomic(path, buffer.getvalue())
    return Path(path)


def check_plan_path(path: str | Path) -> None:
    """Refuse a name for a plan whose ending says no form, before anything is planned."""
    if not str(path).lower().endswith((".json", ".json.gz", ".csv", ".parquet")):
        raise BadRequest(f"{path}: a plan ends in .json, .csv or .parquet; name it so")
