"""One row of a log as plain values, and rows that cannot be.

A row that comes alone goes by the same rules as a frame (``schema.canonical``): user 4.0 is
user "4", NaN is nobody, and an infinite request is an unknown one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.schema import COLUMNS, OUTCOMES, BadLog, canonical
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
    result = {name: value for name, value in row.items() if name not in COLUMNS}
    for name, value in result.items():
        if name.startswith("num_"):
            result[name] = _number(value)
        elif name.startswith("cat_"):
            result[name] = text_of(value)
    for name, column in COLUMNS.items():
        value = row.get(name)
        result[name] = _number(value) if column.dtype == "float64" else text_of(value)
    if result["outcome"] not in OUTCOMES:
        result["outcome"] = "unknown"
    return result


def _number(value: Any) -> float:
    if value is None or value is pd.NaT or value is pd.NA:
        return math.nan
    number = float(value)
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
    frame: pd.DataFrame, as_of_s: Floats | float | None
) -> tuple[pd.DataFrame, Floats | None, NDArray[np.int64]]:
    """Canonical jobs, their as-of moments, and the place of each in `frame`.

    A job whose submission is unknown counts as submitted at its as-of moment.

    Raises
    ------
    BadLog
        Where neither is known.
    """
    as_of: Floats | None = None
    frame = frame.reset_index(drop=True)
    if as_of_s is not None:
        as_of = np.array(np.broadcast_to(np.asarray(as_of_s, dtype=np.float64), len(frame)))
        if "submit_s" not in frame.columns:
            frame = frame.assign(submit_s=as_of)
        else:
            frame = frame.assign(submit_s=frame["submit_s"].where(frame["submit_s"].notna(), as_of))
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
