"""One row of a log as plain values, and rows that cannot be.

A row that comes alone goes by the same rules as a frame (``schema.canonical``): user 4.0 is
user "4", NaN is nobody, and an infinite request is an unknown one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.frames import frame_of
from plancast.predictor.schema import COLUMNS, OUTCOMES, BadLog, canonical, numbers
from plancast.predictor.texts import text_of

Floats = NDArray[np.float64]

TOLERANCE_S = 1.0
"""Times are whole seconds in many logs: by so much an end may differ from start plus run time."""


def clean_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's canonical values: every column there, texts as texts, numbers finite or NaN.

    Parameters
    ----------
    row : mapping
        Any of the canonical columns; extra features are kept.
    """
    result = {str(name): value for name, value in row.items() if name not in COLUMNS}
    for name, value in result.items():
        if name.startswith("num_"):
            result[name] = _number(value, name)
        elif name.startswith("cat_"):
            result[name] = text_of(value)
    for name, column in COLUMNS.items():
        value = row.get(name)
        result[name] = _number(value, name) if column.dtype == "float64" else text_of(value)
    if result["outcome"] not in OUTCOMES:
        result["outcome"] = "unknown"
    return result


def asked_row(job: Any, as_of_s: Any) -> tuple[dict[str, Any], float | None]:
    """One job that is asked about, clean, and the moment as of which.

    Parameters
    ----------
    job : mapping, or a Series, list or frame of one row
    as_of_s : float, optional
        When a job was submitted that does not say so.

    Raises
    ------
    BadLog
        Where it is no job or several, or neither moment is known.
    """
    if not isinstance(job, Mapping):
        frame = frame_of(job, "the job")
        if len(frame) != 1:
            raise BadLog(f"the job: give one, not {len(frame)}; predict_quantiles takes many")
        job = frame.iloc[0].to_dict()
    row = clean_row(job)
    as_of = None if as_of_s is None else float(seconds_of_jobs(as_of_s, "as_of_s", 1)[0])
    if math.isnan(row["submit_s"]):
        if as_of is None:
            raise BadLog("the job has no submit_s; add it, or give as_of_s")
        row["submit_s"] = as_of
    return row, as_of


def seconds_of_jobs(given: Any, name: str, rows: int) -> Floats:
    """A number of seconds (or a moment) for each job, shape (rows,), from one or as many.

    Raises
    ------
    BadLog
        Where it is no number, or not as many as jobs.
    """
    if isinstance(given, float | int):
        given = np.array(float(given))
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "iuf":
        listed = isinstance(given, Iterable) and not isinstance(given, str)
        given = numbers(pd.Series(list(given) if listed else [given]), name)
    if given.shape not in ((), (1,), (rows,)):
        raise BadLog(f"{name}: give one number, or {rows}, one for each job, not {given.size}")
    if np.isnan(given).any():
        raise BadLog(f"{name}: is NaN; give a number for each job")
    return np.array(np.broadcast_to(given.astype(np.float64), rows))


def _number(value: Any, name: str) -> float:
    if value is None or value is pd.NaT or value is pd.NA:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        # Times, spans and texts, by the rules of a frame.
        number = float(numbers(pd.Series([value]), name)[0])
    return number if math.isfinite(number) else math.nan


def finite_requests(jobs: pd.DataFrame) -> pd.DataFrame:
    """A canonical frame in which an infinite request of anything is an unknown one."""
    names = ("requested_s", "cpus", "mem_mib", "gpus")
    infinite = [name for name in names if np.isinf(jobs[name].to_numpy(np.float64)).any()]
    if not infinite:
        return jobs
    return jobs.assign(**{name: jobs[name].replace([np.inf, -np.inf], np.nan) for name in infinite})


def plausible(jobs: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Rows whose times contradict each other, repaired where another cell tells, else left out.

    Parameters
    ----------
    jobs : DataFrame
        Canonical.

    Returns
    -------
    jobs : DataFrame
        Canonical, without the rows that cannot be.
    repaired, refused : int
        A run time longer than from start (submission, where that is unknown) to end is taken
        from those; an end before its start or submission is refused.

    Notes
    -----
    A run time shorter than that is left as it is: jobs may be suspended.
    """
    jobs = finite_requests(jobs)
    submit, start, end, run = (
        jobs[name].to_numpy(np.float64) for name in ("submit_s", "start_s", "end_s", "run_s")
    )
    with np.errstate(invalid="ignore"):
        refused = (end < submit) | (end < start) | (run < 0)
        began = np.where(np.isnan(start), submit, start)
        longer = ~refused & (run > end - began + TOLERANCE_S)
    if longer.any():
        run = np.where(longer, end - began, run)
        jobs = jobs.assign(run_s=run)
    kept = jobs if not refused.any() else jobs[~refused].reset_index(drop=True)
    return kept, int(longer.sum()), int(refused.sum())


def in_submission_order(
    frame: Any, as_of_s: Any
) -> tuple[pd.DataFrame, Floats | None, NDArray[np.int64]]:
    """Canonical jobs, their as-of moments, and the place of each in `frame`.

    A job whose submission is unknown counts as submitted at its as-of moment.

    Raises
    ------
    BadLog
        Where neither is known.
    """
    as_of: Floats | None = None
    frame = frame_of(frame, "the jobs").reset_index(drop=True)
    if as_of_s is not None:
        as_of = seconds_of_jobs(as_of_s, "as_of_s", len(frame))
    if "submit_s" not in frame.columns:
        if as_of is None:
            raise BadLog("the jobs have no column submit_s; add it, or give as_of_s")
        frame = frame.assign(submit_s=as_of)
    elif as_of is not None:
        submit = numbers(frame["submit_s"], "submit_s")
        frame = frame.assign(submit_s=np.where(np.isnan(submit), as_of, submit))
    numbered = frame.assign(num_place=np.arange(len(frame), dtype=np.float64))
    jobs = finite_requests(canonical(numbered))
    order = np.array(jobs["num_place"], dtype=np.int64)
    jobs = jobs.drop(columns="num_place")
    unknown = np.flatnonzero(jobs["submit_s"].isna().to_numpy())
    if len(unknown):
        raise BadLog(
            f"row {order[unknown[0]] + 1}: submit_s is unknown; fill it in or give as_of_s"
        )
    return jobs, None if as_of is None else as_of[order], order
