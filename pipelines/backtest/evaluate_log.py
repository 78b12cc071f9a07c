"""Walk-forward evaluation of forecasts on one log, as ``plancast evaluate`` prints it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.stages.ingest import AS_IT_IS, ingest_log
from plancast.planner.model.domain import BadRequest
from plancast.predictor import RuntimePredictor, Walk, units
from plancast.predictor.evaluation import evaluate_log

LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
"""Levels that are evaluated where none are asked for."""

_ONE_BY_ONE = 400
"""Jobs that are forecast one at a time to measure the latency."""


def parse_span(text: str) -> float:
    """Seconds of a span with its unit, like ``30d``, ``12h`` or ``90min``.

    Raises
    ------
    BadRequest
        Where it is none, not positive, or a number alone: 30 seconds are not what anybody means.
    """
    if units.plain_number(text.strip()) is not None:
        raise BadRequest(f"--refit {text!r}: {text.strip()!r} has no unit; write {text.strip()}d")
    try:
        seconds = units.duration_s(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise BadRequest(f"--refit {text!r}: write a span above 0 such as 30d, 12h or 90m")
    return seconds


def evaluate_file(
    log: str | Path | pd.DataFrame,
    *,
    levels: Sequence[float] = LEVELS,
    refit_s: float = 30 * 86400.0,
    reading: Reading = AS_IT_IS,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[dict[str, Any], Walk]:
    """Forecast a log job by job from its past, and score every estimator.

    Parameters
    ----------
    log : path-like or DataFrame
    levels : sequence of float
    refit_s : float
        Longest time between refits, seconds.
    reading : Reading
        How the log is read.
    seed : int
    progress : callable, optional
        Called with what is done and which share of it.

    Returns
    -------
    report : dict
        JSON values, see ``docs/forecasts.md``.
    walk : Walk
        The forecasts themselves.
    """
    jobs, facts = ingest_log(log if isinstance(log, pd.DataFrame) else str(log), reading)
    report, walk = evaluate_log(jobs, levels, refit_s=refit_s, seed=seed, progress=progress)
    report["estimators"]["model"]["predict_p99_ms"] = latency_ms(walk)
    return {"log": facts["log"], **report}, walk


def latency_ms(walk: Walk, share: float = 99.0) -> float:
    """Time of one forecast of one job through the whole path, milliseconds, at a percentile.

    Notes
    -----
    The last jobs of the log are submitted one after the other to the model as it stands at the
    log's end: from a row of plain values to the corrected quantiles. Time of the processor, which
    is what a clock shows while nothing else wants it; the lowest of three rounds counts.
    """
    model = RuntimePredictor.of_walk(walk)
    rows = walk.jobs.tail(_ONE_BY_ONE + 20)
    jobs = rows.drop(columns=["start_s", "end_s", "run_s", "outcome"]).to_dict("records")
    now = model.history.known_until_s
    rounds = []
    for _ in range(3):
        taken = []
        for job in jobs:
            began = time.thread_time()
            model.predict_row(job, now)
            taken.append(time.thread_time() - began)
        # The first calls fold the history in and warm the kernels up.
        rounds.append(float(np.percentile(np.array(taken[20:] or taken), share)) * 1e3)
    return min(rounds)
