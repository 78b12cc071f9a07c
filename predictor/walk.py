"""Walk-forward forecasts of a whole log, as production would live it.

Jobs arrive in submission order. A job is forecast with what had ended by then; models are
refitted on a schedule (and when the log has drifted) on jobs that had ended by then; the
mixture and the calibration learn from every job at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.censoring import (
    censoring_weights,
    kill_grace_s,
    queue_limits,
    tolerated_share,
)
from plancast.predictor.quantile import LEVELS, between_levels, check_levels
from plancast.predictor.remaining import RemainingCorrection
from plancast.predictor.runtime import MIN_TRAINING_ROWS, trainable
from plancast.predictor.schema import OUTCOMES, BadLog, canonical
from plancast.predictor.splits import known_at_s
from plancast.predictor.state.experts import (
    COHORTS,
    EXPERTS,
    LADDERS,
    TRAINING_ROWS,
    Experts,
    cohorts_of,
    cold_starts,
    limit_logs,
    owners_of,
    same_of,
)
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats, History
from plancast.predictor.state.online import OnlineCorrection

DAY_S = 86400.0

WARM_UP = 0.1
"""Share of a log before its first forecast; what is forecast before ``first`` only calibrates."""

_GROWTH = 1.25
_CHECKS = 6
_DRIFT = 1.5
_DRIFT_JOBS = 300


@dataclass
class Walk:
    """The forecasts of a walk and what they were made with.

    Parameters
    ----------
    jobs : DataFrame
        Canonical, in order of submission.
    levels : tuple of float
    quantiles_s : array, shape (n, levels)
        Seconds; NaN before the first forecast, infinite where no finite quantile is promised.
    begin : int
        First row that counts as evaluated; earlier forecasts only warmed up.
    remaining : dict
        Fraction of the median forecast to (rows, remaining_s): the jobs that ran longer than
        that, and the forecast of what remained, shape (rows, levels), seconds.
    cold : array of bool, shape (n,)
        Cold starts: no job of the user had ended.
    refits : list of (seconds, rows, why)
    features_s, fit_s, predict_s : float
        Seconds spent.
    """

    jobs: pd.DataFrame
    levels: tuple[float, ...]
    quantiles_s: Floats
    begin: int
    remaining: dict[float, tuple[NDArray[np.int64], Floats]]
    cold: NDArray[np.bool_]
    experts: Experts
    builder: FeatureBuilder
    correction: OnlineCorrection
    remaining_correction: RemainingCorrection
    grace_s: float
    queue_limits_s: dict[str, float]
    refits: list[tuple[float, int, str]] = field(default_factory=list)
    features_s: float = 0.0
    fit_s: float = 0.0
    predict_s: float = 0.0


def walk_forward(
    log: pd.DataFrame,
    levels: Sequence[float] = LEVELS,
    *,
    refit_s: float = 30 * DAY_S,
    first: float = 0.3,
    rows: int = TRAINING_ROWS,
    seed: int = 0,
    trees: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Walk:
    """Forecast every job of a log from its past.

    Parameters
    ----------
    log : DataFrame
        Any subset of the canonical columns and extra features.
    levels : sequence of float
        Quantile levels.
    refit_s : float
        Longest time between refits, seconds. A refit comes earlier where the log has grown
        by a quarter since, or where the trees' error has grown by half.
    first : float
        Share of the rows before the first evaluated one, above ``WARM_UP``.
    rows : int
        Latest ended jobs that train.
    seed : int
    trees : mapping, optional
        Further parameters of ``QuantileGBM``.
    progress : callable, optional
        Told the share of the log that is done.

    Raises
    ------
    BadLog
        Where too few jobs had ended before the first evaluated one.
    ValueError
        Where a level, `first` or `refit_s` is impossible.
    """
    asked = check_levels(levels)
    if not WARM_UP < first < 1 or not refit_s > 0:
        raise ValueError(
            f"first is {first} and refit_s {refit_s}; they must be in ({WARM_UP}, 1) and > 0"
        )
    # The inner levels are always there: the remaining time needs the whole distribution.
    inner = tuple(sorted({*asked, *LEVELS}))
    jobs = canonical(log)
    submit, run, requested, start = (
        jobs[name].to_numpy(np.float64, copy=True)
        for name in ("submit_s", "run_s", "requested_s", "start_s")
    )
    queues = jobs["queue"].to_numpy()
    n, usable, known = len(jobs), trainable(jobs, OUTCOMES), known_at_s(jobs)
    start = np.where(np.isnan(start), submit, start)
    begin = int(np.ceil(round(first * n, 6)))

    began = time.perf_counter()
    # A category's code is its place of first appearance: nothing later can change it.
    builder, history = FeatureBuilder().fit(jobs), History()
    matrix = builder.transform(jobs, history)
    ladders = history.replay_quantiles(jobs, LADDERS, np.array(inner))
    features_s = time.perf_counter() - began

    logs = np.full((n, len(EXPERTS), len(inner)), np.nan, dtype=np.float32)
    limits = np.full(n, np.inf)
    log_run = np.where(usable, np.log(np.where(usable, run, 1.0)), np.nan)
    experts, grace, warm = Experts(inner, seed, trees), np.inf, n
    queue_limit: dict[str, float] = {}
    refits: list[tuple[float, int, str]] = []
    fit_s = predict_s = 0.0
    ended_order = np.argsort(known, kind="stable")
    ended_at = known[ended_order]

    at = _first_fit(submit, known, usable, n)
    if at >= begin or at >= n:
        raise BadLog(
            f"fewer than {MIN_TRAINING_ROWS} of the first {begin} jobs had ended before the next "
            "was submitted; give a longer log"
        )
    usual_error, seen_error, why = 0.0, 0, "first"
    while at < n:
        now = submit[at]
        began = time.perf_counter()
        past = ended_order[: np.searchsorted(ended_at, now, "right")]
        past = np.sort(past[usable[past]])[-rows:]
        running = usable & (submit >= submit[past[0]]) & (start <= now) & (known > now)
        weights = censoring_weights(run[past], now - start[running])
        experts = Experts(inner, seed, trees).fit(
            builder, matrix[past], requested[past], run[past], weights
        )
        grace = kill_grace_s(run[past], requested[past], tolerated_share(inner[-1]))
        queue_limit = queue_limits(run[past], queues[past], inner[-1])
        refits.append((now, len(past), why))
        warm = min(warm, at)
        fit_s += time.perf_counter() - began

        began = time.perf_counter()
        latest = int(np.searchsorted(submit, now + refit_s))
        stop = max(min(latest, int(at * _GROWTH)), at + 1)
        why = "schedule" if latest <= int(at * _GROWTH) else "growth"
        fitted_at = at
        for piece in np.array_split(np.arange(at, min(stop, n)), _CHECKS):
            if not len(piece):
                continue
            logs[piece] = experts.logs(builder, matrix[piece], requested[piece], ladders[piece])
            limits[piece] = limit_logs(jobs.iloc[piece], grace, queue_limit)
            at = int(piece[-1]) + 1
            until = submit[min(at, n - 1)]
            since = np.arange(fitted_at, at)
            since = since[usable[since] & (known[since] <= until)]
            errors = np.abs(log_run[since] - logs[since, 0, inner.index(0.5)])
            watched = len(since) >= _DRIFT_JOBS and seen_error > 0 and at < stop
            if watched and errors.mean() > _DRIFT * usual_error:
                why = "drift"
                break
        if len(since):
            seen_error += len(since)
            usual_error += (float(errors.mean()) - usual_error) * len(since) / seen_error
        predict_s += time.perf_counter() - began
        if progress is not None:
            progress(at / n)

    began = time.perf_counter()
    owners = owners_of(jobs)
    cold = cold_starts(jobs, builder, matrix)
    same = same_of(ladders)
    del matrix, ladders
    cohorts = cohorts_of(cold, logs, inner)
    correction = OnlineCorrection(inner, len(EXPERTS), COHORTS)
    after = slice(warm, n)
    corrected, _ = correction.replay(
        logs[after],
        log_run[after],
        submit[after],
        np.where(usable, known, np.nan)[after],
        owners[after],
        cohorts[after],
        limits[after],
        (same[0][after], same[1][after]),
    )
    quantiles = np.full((n, len(inner)), np.nan)
    quantiles[after] = np.exp(corrected)
    predict_s += time.perf_counter() - began
    left = RemainingCorrection(inner)
    survivors = left.replay(quantiles, np.where(usable, run, np.nan), start, known, owners)
    places = [inner.index(level) for level in asked]
    remaining = {
        fraction: (
            found.rows[found.rows >= begin],
            found.remaining_s[found.rows >= begin][:, places],
        )
        for fraction, found in survivors.items()
    }
    return Walk(
        jobs=jobs,
        levels=asked,
        quantiles_s=between_levels(quantiles, inner, asked),
        begin=begin,
        remaining=remaining,
        cold=cold,
        experts=experts,
        builder=builder,
        correction=correction,
        remaining_correction=left,
        grace_s=grace,
        queue_limits_s=queue_limit,
        refits=refits,
        features_s=features_s,
        fit_s=fit_s,
        predict_s=predict_s,
    )


def _first_fit(submit: Floats, known: Floats, usable: NDArray[np.bool_], n: int) -> int:
    """The first row, after the warm-up, by whose submission enough jobs had ended."""
    ends = np.sort(known[usable])
    if len(ends) < MIN_TRAINING_ROWS:
        return n
    enough = int(np.searchsorted(submit, ends[MIN_TRAINING_ROWS - 1]))
    return max(int(WARM_UP * n), enough)
