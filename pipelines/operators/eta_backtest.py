"""``plancast eta --backtest``: forecasts of start times along a replayed log, and their worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.backtest.backtest import open_backtest
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.operators.months import months_of
from plancast.pipelines.operators.waits import (
    GRID,
    LEVELS,
    RUN_LEVELS,
    Past,
    Waits,
    bursts,
    corrected,
    forecast_along,
    moments_of,
)
from plancast.pipelines.stages.ingest import AS_IT_IS
from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import replay
from plancast.planner.worlds.rollout import DISCIPLINES
from plancast.predictor.walk import walk_forward

Floats = NDArray[np.float64]

WARM_UP = 0.1
"""Share of the jobs before the first that is scored."""

CLOSE_S = 600
MONTH_JOBS = 300
"""Scored jobs from which on a month is reported."""


@dataclass(frozen=True)
class Replayed:
    """A log as it runs under a discipline, with its run times forecast along it.

    Parameters
    ----------
    name, source : str
        Of the log, and of its file.
    past : Past
    waited : array of int64
        Jobs that are scored: behind the warm-up, and not started in the pass of their arrival.
    """

    name: str
    source: str
    past: Past
    waited: NDArray[np.int64]


def eta_backtest(
    path: str | Path,
    *,
    dispatcher: str = "easy",
    samples: int = 100,
    seed: int = 0,
    reading: Reading = AS_IT_IS,
    procs: int | None = None,
    window: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Forecast start times along a log that is replayed, and score them.

    Parameters
    ----------
    path : path-like
        A log in any form that ingest takes, with requested times.
    dispatcher : str
        Of ``DISCIPLINES``.
    samples, seed : int
    reading, procs, window
        As of ``open_backtest``.
    progress : callable, optional
        Called with what is being done.

    Returns
    -------
    dict
        The report, JSON values.

    Notes
    -----
    Jobs are killed at their requests. A job that starts in the pass of its arrival is counted
    and not scored; of the others one forecast at submission counts 1, and those after each hour
    of waiting 1 together. Run times are forecast by a walk over the *replay's* starts and ends;
    the first tenth of the log only warms up. *By limits*: the same roll-forward with every run
    at its limit.
    """
    tell = progress or (lambda text: None)
    found = replayed(
        path, dispatcher=dispatcher, reading=reading, procs=procs, window=window, progress=tell
    )
    tell("queues")
    return facts_of(found, dispatcher=dispatcher, samples=samples, seed=seed)


def replayed(
    path: str | Path,
    *,
    dispatcher: str = "easy",
    reading: Reading = AS_IT_IS,
    procs: int | None = None,
    window: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Replayed:
    """Replay a log and forecast its run times; parameters as of ``eta_backtest``."""
    tell = progress or (lambda text: None)
    if dispatcher not in DISCIPLINES:
        raise BadRequest(f"--dispatcher {dispatcher!r}: is none of {', '.join(DISCIPLINES)}")
    test = open_backtest(path, reading=reading, procs=procs, window=window)
    if not test.has_requests:
        raise BadRequest(f"{test.log.name}: names no requested times, by which queues are run")
    log = test.log.cut_to_request()
    tell("replay")
    run = replay(log, DISPATCHERS[dispatcher])
    tell("run times")
    frame = test.jobs[test.before :].assign(
        submit_s=log.submit_s.astype(float), start_s=run.start_s.astype(float),
        end_s=run.end_s.astype(float), run_s=log.run_s.astype(float),
    )  # fmt: skip
    walk = walk_forward(frame, RUN_LEVELS)
    past = Past(
        log.submit_s, run.start_s, run.end_s, log.width, log.requested_s, log.run_s,
        bursts(log.user, log.requested_s, log.width), walk.quantiles_s, RUN_LEVELS, log.procs,
    )  # fmt: skip
    later = np.arange(len(log)) >= WARM_UP * len(log)
    waited = np.flatnonzero(later & (run.start_s > log.submit_s))
    if not len(waited):
        raise BadRequest(f"{test.log.name}: no job waited, so there is no start to forecast")
    return Replayed(test.name, test.log.name, past, waited)


def facts_of(found: Replayed, *, dispatcher: str, samples: int, seed: int) -> dict[str, Any]:
    """Forecast the starts of a replayed log's waiting jobs; the report of ``eta_backtest``."""
    past = found.past
    waits = forecast_along(
        past, moments_of(past, found.waited), samples=samples, seed=seed, discipline=dispatcher
    )
    start = past.start_s[waits.job].astype(np.float64)
    starts = corrected(waits.rolled_s, waits.by_limits_s, waits.hour, waits.moment_s, start)
    return {
        "log": found.name,
        "source": found.source,
        "dispatcher": dispatcher,
        "samples": samples,
        "jobs": len(past.start_s),
        "at_once_share": float((past.start_s == past.submit_s).mean()),
        "scored": len(found.waited),
        "forecasts": len(start),
        **score(waits, starts, start, past.submit_s),
    }


def score(waits: Waits, said_s: Floats, start_s: Floats, submit_s: Any) -> dict[str, Any]:
    """Coverage and errors of forecasts; hourly ones weigh 1 a job together."""
    weight = weights_of(waits.job, waits.hour)
    actual = start_s - waits.moment_s

    def mean(values: Any) -> float:
        return float((values * weight).sum() / weight.sum())

    def close(point: Floats) -> float:
        return mean(np.abs(point - actual) <= CLOSE_S)

    def error_min(point: Floats) -> float:
        return mean(np.abs(point - actual)) / 60.0

    month = months_of(submit_s[waits.job].astype(np.float64))
    by_month = {}
    for name in np.unique(month).tolist():
        inside = month == name
        if (inside & (waits.hour == 0)).sum() >= MONTH_JOBS:
            kept = (actual <= said_s[:, 2])[inside] * weight[inside]
            by_month[name] = float(kept.sum() / weight[inside].sum())
    first = waits.hour == 0
    rolled = waits.rolled_s[:, [GRID.index(level) for level in LEVELS]]
    return {
        "p10_coverage": mean(actual <= said_s[:, 0]),
        "p50_coverage": mean(actual <= said_s[:, 1]),
        "p90_coverage": mean(actual <= said_s[:, 2]),
        "p90_coverage_by_month": by_month,
        "p50_within_10_min": close(said_s[:, 1]),
        "p50_within_10_min_at_submission": float(
            (np.abs(said_s[:, 1] - actual) <= CLOSE_S)[first].mean()
        ),
        "mae_min": error_min(said_s[:, 1]),
        "p90_mean_min": mean(said_s[:, 2]) / 60.0,
        "rolled": {
            "p90_coverage": mean(actual <= rolled[:, 2]),
            "p50_within_10_min": close(rolled[:, 1]),
            "mae_min": error_min(rolled[:, 1]),
        },
        "by_limits": {
            "p50_within_10_min": close(waits.by_limits_s),
            "mae_min": error_min(waits.by_limits_s),
        },
        "by_true_run_times": {
            "p50_within_10_min": close(waits.by_truth_s),
            "mae_min": error_min(waits.by_truth_s),
        },
    }


def weights_of(job: Any, hour: Any) -> Floats:
    """1 of a forecast at submission; those after hours of waiting share 1 a job."""
    counts = pd.Series(hour > 0).groupby(job).transform("sum").to_numpy()
    return np.asarray(np.where(hour == 0, 1.0, 1.0 / np.maximum(counts, 1)), dtype=np.float64)
