"""The walk-forward report: the model and every rule of thumb on the same jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor import metrics
from plancast.predictor.baselines import (
    NOTHING_KNOWN_S,
    AppMedian,
    GlobalMedian,
    LastSame,
    LastTwoMean,
    RequestedTime,
    UserMedian,
)
from plancast.predictor.censoring import CENSORED
from plancast.predictor.distribution import between_levels_or_middle, conditional_quantiles
from plancast.predictor.remaining import FRACTIONS
from plancast.predictor.state.experts import owners_of
from plancast.predictor.state.history import Floats, History
from plancast.predictor.state.run_statistics import Ladder
from plancast.predictor.walk import Walk, walk_forward

RULES: tuple[str, ...] = (
    "requested",
    "last_two",
    "last_same",
    "user_median",
    "app_median",
    "global_median",
    "user_last20",
)
"""What the model is compared with."""

MIN_GROUP = 200
"""Jobs below which a month's or a decile's coverage is not held to its level."""

Labels = NDArray[np.int64] | NDArray[np.str_]


def evaluate_log(
    log: pd.DataFrame,
    levels: Sequence[float],
    *,
    refit_s: float,
    first: float = 0.3,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[dict[str, Any], Walk]:
    """Walk a log forward and score every estimator on the jobs after its first part.

    Parameters
    ----------
    log : DataFrame
        Any subset of the canonical columns and extra features.
    levels, refit_s, first, seed
        As of ``walk_forward``; `levels` contain 0.5.
    progress : callable, optional
        Called with what is done, and which share of it.

    Returns
    -------
    report : dict
        ``jobs``, ``evaluated``, ``censored``, ``refits`` and ``estimators`` by name.
    walk : Walk
    """
    asked = tuple(sorted({*levels, 0.5}))
    tell = progress or (lambda _text, _share: None)
    walk = walk_forward(
        log,
        asked,
        refit_s=refit_s,
        first=first,
        seed=seed,
        progress=lambda share: tell("model", share),
    )
    jobs = walk.jobs
    run = jobs["run_s"].to_numpy(np.float64)
    rows = np.flatnonzero((run > 0) & (np.arange(len(jobs)) >= walk.begin))
    groups = Groups(jobs.iloc[rows], walk.cold[rows])
    outcomes = jobs["outcome"].to_numpy()[rows]
    report: dict[str, Any] = {
        "jobs": len(jobs),
        "evaluated": len(rows),
        "censored": int(np.isin(outcomes.astype(str), CENSORED).sum()),
        "outcomes": {str(o): int((outcomes == o).sum()) for o in dict.fromkeys(outcomes)},
        "levels": list(asked),
        "refits": [{"at_s": at, "rows": size, "why": why} for at, size, why in walk.refits],
        "kill_grace_s": (walk.forecaster.grace_s if np.isfinite(walk.forecaster.grace_s) else None),
        "features_s": walk.features_s,
        "estimators": {},
    }
    model = scores(run[rows], walk.quantiles_s[rows], asked, groups)
    model["remaining_coverage"] = {
        f"{fraction:g}": _coverage(run[at] - fraction * _median(walk, at), left, asked)
        for fraction, (at, left) in walk.remaining.items()
    }
    model |= {"fit_s": walk.fit_s, "predict_s": walk.predict_s, "predict_p99_ms": None}
    report["estimators"]["model"] = model
    for place, name in enumerate(RULES):
        tell(name, place / len(RULES))
        quantiles, fit_s, predict_s = _rule(name, jobs, walk.begin, asked)
        result = quantiles[rows - walk.begin]
        found = scores(run[rows], result, asked, groups)
        found["remaining_coverage"] = _plain_remaining(run[rows], result, asked)
        found |= {"fit_s": fit_s, "predict_s": predict_s, "predict_p99_ms": None}
        report["estimators"][name] = found
    return report, walk


class Groups:
    """Months, deciles of users, and cold starts of the evaluated jobs.

    Parameters
    ----------
    jobs : DataFrame
        Canonical, the evaluated jobs in order of submission.
    cold : array of bool, shape (n,)
        Which of them no job of their user had ended before.

    Notes
    -----
    Deciles: users (queues, where the log has none) sorted by their number of evaluated jobs,
    in ten groups of as many users; fewer than ten users are groups by themselves.
    """

    def __init__(self, jobs: pd.DataFrame, cold: NDArray[np.bool_]) -> None:
        seconds = jobs["submit_s"].to_numpy(np.float64)
        moments = np.floor(seconds).astype("datetime64[s]")
        self.month = moments.astype("datetime64[M]").astype(str)
        owners = np.array(owners_of(jobs))
        _, owner, count = np.unique(owners, return_inverse=True, return_counts=True)
        rank = np.empty(len(count), dtype=np.int64)
        rank[np.argsort(count, kind="stable")] = np.arange(len(count))
        tenth = rank * 10 // len(count) if len(count) >= 10 else rank
        self.decile = tenth[owner] + 1
        self.cold = cold


def scores(
    run_s: Floats, quantiles_s: Floats, levels: Sequence[float], groups: Groups
) -> dict[str, Any]:
    """All metrics of one estimator.

    Parameters
    ----------
    run_s : array, shape (n,)
        Seconds.
    quantiles_s : array, shape (n, levels)
        Seconds.
    levels : sequence of float
        Containing 0.5.
    groups : Groups
    """
    median = between_levels_or_middle(quantiles_s, levels)
    covered = metrics.covered(run_s, quantiles_s, levels)
    months, worst_month = _by(groups.month, run_s, median, quantiles_s, covered, levels)
    deciles, worst_decile = _by(groups.decile, run_s, median, quantiles_s, covered, levels)
    return {
        "mae_s": metrics.mae_s(run_s, median),
        "median_abs_log2": metrics.median_abs_log2(run_s, median),
        "within_2x": metrics.within_2x(run_s, median),
        "accuracy_minmax": metrics.accuracy_minmax(run_s, median),
        "pinball": float(metrics.pinball(run_s, quantiles_s, levels).mean()),
        "under_rate": metrics.under_rate(run_s, median),
        "coverage": _shares(covered, levels),
        "worst_month_gap": worst_month,
        "worst_decile_gap": worst_decile,
        "by_month": months,
        "by_decile": deciles,
        "cold_start": _part(groups.cold, run_s, median, quantiles_s, covered, levels),
        "crossings": metrics.crossings(quantiles_s),
        "unbounded": int(np.isinf(quantiles_s).any(axis=1).sum()),
    }


def _by(
    labels: Any,
    run_s: Floats,
    median: Floats,
    quantiles_s: Floats,
    covered: Floats,
    levels: Sequence[float],
) -> tuple[dict[str, Any], float]:
    parts, worst = {}, 0.0
    for label in np.unique(labels):
        rows = labels == label
        parts[str(label)] = _part(rows, run_s, median, quantiles_s, covered, levels)
        if rows.sum() >= MIN_GROUP:
            gap = np.abs(covered[rows].mean(axis=0) - np.asarray(levels)).max()
            worst = max(worst, float(gap))
    return parts, worst


def _part(
    rows: NDArray[np.bool_],
    run_s: Floats,
    median: Floats,
    quantiles_s: Floats,
    covered: Floats,
    levels: Sequence[float],
) -> dict[str, Any]:
    if not rows.any():
        return {"jobs": 0}
    return {
        "jobs": int(rows.sum()),
        "median_abs_log2": metrics.median_abs_log2(run_s[rows], median[rows]),
        "pinball": float(metrics.pinball(run_s[rows], quantiles_s[rows], levels).mean()),
        "coverage": _shares(covered[rows], levels),
    }


def _shares(covered: Floats, levels: Sequence[float]) -> dict[str, float]:
    return {f"{p:g}": float(s) for p, s in zip(levels, covered.mean(axis=0), strict=True)}


def _coverage(left_s: Floats, told_s: Floats, levels: Sequence[float]) -> dict[str, float]:
    if not len(left_s):
        return {"jobs": 0}
    return {"jobs": len(left_s), **_shares(metrics.covered(left_s, told_s, levels), levels)}


def _median(walk: Walk, rows: NDArray[np.int64]) -> Floats:
    return walk.quantiles_s[rows, walk.levels.index(0.5)]


def _plain_remaining(run_s: Floats, told_s: Floats, levels: Sequence[float]) -> dict[str, Any]:
    """Coverage of the remaining time as it follows from the quantiles, uncorrected."""
    if len(levels) < 2:
        return {}
    median = between_levels_or_middle(told_s, levels)
    result = {}
    for fraction in FRACTIONS:
        rows = run_s > fraction * median
        elapsed = fraction * median[rows]
        left = conditional_quantiles(told_s[rows], levels, elapsed, levels)
        result[f"{fraction:g}"] = _coverage(run_s[rows] - elapsed, left, levels)
    return result


def _rule(
    name: str, jobs: pd.DataFrame, begin: int, levels: Sequence[float]
) -> tuple[Floats, float, float]:
    """A rule's quantiles of the rows from `begin` on, and the seconds to fit and to forecast."""
    if name == "user_last20":
        began = time.perf_counter()
        ladder = [Ladder(("user", "queue", "all"), 1)]
        found = History().replay_quantiles(jobs, ladder, np.array(levels))[begin:, 0]
        found = np.maximum(np.where(np.isnan(found), NOTHING_KNOWN_S, found), 1.0)
        # Interpolation rounds; a running maximum keeps the order exact.
        found = np.maximum.accumulate(found, axis=1)
        return found, 0.0, time.perf_counter() - began
    # Where a log has no users, the queue stands in for them in the rules too.
    seen = jobs if (jobs["user"] != "").any() else jobs.assign(user=jobs["queue"])
    rules: tuple[Any, ...] = (
        RequestedTime,
        LastTwoMean,
        LastSame,
        UserMedian,
        AppMedian,
        GlobalMedian,
    )
    makers = {rule.name: rule for rule in rules}
    began = time.perf_counter()
    rule = makers[name](levels).fit(seen.iloc[:begin])
    fitted = time.perf_counter()
    found = rule.forecast_log(seen.iloc[begin:])
    return found, fitted - began, time.perf_counter() - fitted
