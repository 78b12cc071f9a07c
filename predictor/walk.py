"""Walk-forward forecasts of a whole log, as in production.

Jobs arrive in submission order. A job is forecast with what had ended by then; models are
refitted on a schedule (and when the log has drifted) on jobs that had ended by then; the
mixture and the calibration learn from every job at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.distribution import between_levels
from plancast.predictor.forecaster import (
    DAY_S,
    FIRST_ROWS,
    REFIT_S,
    OnlineForecaster,
    Past,
    Questions,
    RefitSchedule,
)
from plancast.predictor.quantile import LEVELS, check_levels
from plancast.predictor.rows import plausible
from plancast.predictor.schema import OUTCOMES, BadLog, canonical
from plancast.predictor.splits import known_at_s
from plancast.predictor.state.experts import EXPERTS, TRAINING_ROWS
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats
from plancast.predictor.target import Target, as_target, check_target, lower_bounds
from plancast.predictor.training import trainable

__all__ = ["DAY_S", "Walk", "walk_forward"]

_CHECKS = 6
"""Pieces in which the jobs between two refits are forecast, and looked at for drift."""


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
    forecaster : OnlineForecaster
        As the walk left it: the last refit, and all that had ended.
    training : Past
        The latest ended jobs, which the next refit would train on.
    features_s, fit_s, predict_s : float
        Seconds spent.
    """

    jobs: pd.DataFrame
    levels: tuple[float, ...]
    quantiles_s: Floats
    begin: int
    remaining: dict[float, tuple[NDArray[np.int64], Floats]]
    cold: NDArray[np.bool_]
    forecaster: OnlineForecaster
    training: Past
    features_s: float = 0.0
    fit_s: float = 0.0
    predict_s: float = 0.0

    @property
    def refits(self) -> list[tuple[float, int, str]]:
        """When a refit was made, on how many rows, and why."""
        return self.forecaster.refits


def walk_forward(
    log: pd.DataFrame,
    levels: Sequence[float] = LEVELS,
    *,
    refit_s: float = REFIT_S,
    first: float = 0.3,
    rows: int = TRAINING_ROWS,
    seed: int = 0,
    trees: Mapping[str, Any] | None = None,
    target: Target = "time",
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
        Longest time between refits, seconds; see ``RefitSchedule``.
    first : float
        Share of the rows before the first evaluated one; what is forecast before only warms up.
    rows : int
        Latest ended jobs that train.
    seed : int
    trees : mapping, optional
        Further parameters of ``QuantileGBM``.
    target : {"time", "mem"}
        What is forecast: the run time, or the peak memory (all "seconds" are then MiB, and
        nothing remains).
    progress : callable, optional
        Called with the share of the log that is done.

    Raises
    ------
    BadLog
        Where too few jobs had ended before the first evaluated one.
    ValueError
        Where a level, `first` or `refit_s` is impossible.
    """
    asked = check_levels(levels)
    if not 0 < first < 1 or not refit_s > 0:
        raise ValueError(f"first is {first} and refit_s {refit_s}; they must be in (0, 1) and > 0")
    # The inner levels are always there: the remaining time needs the whole distribution.
    inner = tuple(sorted({*asked, *LEVELS}))
    jobs = as_target(plausible(canonical(log))[0], check_target(target))
    timeline = _Timeline(jobs, target)
    begin = int(np.ceil(round(first * len(jobs), 6)))

    began = time.perf_counter()
    # A category's code is its place of first appearance: nothing later can change it.
    forecaster = OnlineForecaster(
        inner, FeatureBuilder().fit(jobs), refit_s=refit_s, rows=rows, seed=seed, trees=trees
    )
    questions = forecaster.questions(jobs, forecaster.builder.new_history())
    features_s = time.perf_counter() - began
    warm = int(np.searchsorted(timeline.ended, FIRST_ROWS))
    if warm >= begin:
        raise BadLog(
            f"fewer than {FIRST_ROWS} of the first {begin} jobs had ended before the next "
            "was submitted; give a longer log"
        )
    logs, limits, fit_s, predict_s = _all_forecasts(
        forecaster, questions, timeline, warm, rows, progress
    )
    began = time.perf_counter()
    # By slices: a copy of what was asked would be as large as all else.
    corrected = forecaster.replay(
        questions.part(slice(warm, None)),
        logs[warm:],
        limits[warm:],
        timeline.log_run[warm:],
        timeline.submit[warm:],
        np.where(timeline.usable, timeline.known, np.nan)[warm:],
    )
    quantiles = np.full((len(jobs), len(inner)), np.nan)
    quantiles[warm:] = np.exp(corrected)
    # What remains is forecast from these alone; together they would be the most that is held.
    del logs, limits, corrected
    predict_s += time.perf_counter() - began
    survivors = forecaster.remaining.replay(
        quantiles,
        np.where(timeline.usable & (target == "time"), timeline.run, np.nan),
        timeline.start,
        timeline.known,
        questions.owners,
    )
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
        cold=questions.cold,
        forecaster=forecaster,
        training=timeline.all_ended(questions, rows),
        features_s=features_s,
        fit_s=fit_s,
        predict_s=predict_s,
    )


class _Timeline:
    """When the jobs of a log were submitted, started and known, and what had ended by when."""

    def __init__(self, jobs: pd.DataFrame, target: Target) -> None:
        self._jobs, self._target = jobs, target
        self.submit, self.run, start = (
            jobs[name].to_numpy(np.float64, copy=True) for name in ("submit_s", "run_s", "start_s")
        )
        self.usable, self.known = trainable(jobs, OUTCOMES), known_at_s(jobs)
        self.start = np.where(np.isnan(start), self.submit, start)
        self.log_run = np.where(self.usable, np.log(np.where(self.usable, self.run, 1.0)), np.nan)
        order = np.argsort(self.known, kind="stable")
        self._order = order[self.usable[order]]
        # How many had ended by each submission.
        self.ended = np.searchsorted(self.known[self._order], self.submit, "right")
        # What runs is known to run, whether or not its run time will ever be known.
        self._ran = self.usable | (~np.isnan(start) & np.isinf(self.known))

    def all_ended(self, questions: Questions, rows: int) -> Past:
        """The latest jobs that ended within the log."""
        last = np.sort(self._order[np.isfinite(self.known[self._order])])[-rows:]
        queues = [questions.queues[i] for i in last.tolist()]
        matrix, requested = questions.matrix[last], questions.requested_s[last]
        return Past(matrix, requested, self.run[last], queues, np.empty(0))

    def past(self, at: int, rows: int) -> tuple[NDArray[np.int64], Floats]:
        """The latest jobs that had ended by a row's submission, and how long others had run.

        Of memory: the limits that jobs had died of.
        """
        now = self.submit[at]
        past = np.sort(self._order[: self.ended[at]])[-rows:]
        if self._target == "mem":
            return past, lower_bounds(self._jobs, now)
        running = self._ran & (self.submit >= self.submit[past[0]])
        running &= (self.start <= now) & (self.known > now)
        return past, now - self.start[running]


def _all_forecasts(
    forecaster: OnlineForecaster,
    questions: Questions,
    timeline: _Timeline,
    warm: int,
    rows: int,
    progress: Callable[[float], None] | None,
) -> tuple[NDArray[np.float32], Floats, float, float]:
    """What experts forecast and which limits hold from row `warm` on, refitted where due.

    Also the seconds that refits and forecasts took.
    """
    n = len(timeline.submit)
    logs = np.full((n, len(EXPERTS), len(forecaster.levels)), np.nan, dtype=np.float32)
    limits = np.full(n, np.inf)
    fit_s = predict_s = 0.0
    at, why = warm, "first"
    while at < n:
        began = time.perf_counter()
        past, watched = timeline.past(at, rows)
        forecaster.refit(
            Past(
                questions.matrix[past],
                questions.requested_s[past],
                timeline.run[past],
                [questions.queues[i] for i in past.tolist()],
                watched,
            ),
            float(timeline.submit[at]),
            int(timeline.ended[at]),
            why,
        )
        fit_s += time.perf_counter() - began
        began = time.perf_counter()
        at, why = _until_refit(forecaster, questions, timeline, at, logs, limits)
        predict_s += time.perf_counter() - began
        if progress is not None:
            progress(at / n)
    return logs, limits, fit_s, predict_s


def _until_refit(
    forecaster: OnlineForecaster,
    questions: Questions,
    timeline: _Timeline,
    fitted_at: int,
    logs: NDArray[np.float32],
    limits: Floats,
) -> tuple[int, str]:
    """Forecast from a refit to the next one; its row, and why it is due."""
    schedule, n = forecaster.schedule, len(timeline.submit)
    later = np.arange(n) > fitted_at
    latest = timeline.submit >= timeline.submit[fitted_at] + schedule.refit_s
    grown = timeline.ended >= schedule.rows_due()
    due = np.flatnonzero(later & (latest | grown))
    stop = int(due[0]) if len(due) else n
    why = "schedule" if stop < n and latest[stop] else "growth"
    middle = int(np.argmin(np.abs(np.asarray(forecaster.levels) - 0.5)))
    for piece in np.array_split(np.arange(fitted_at, stop), _CHECKS):
        if not len(piece):
            continue
        part = questions.part(piece)
        logs[piece], limits[piece] = forecaster.logs(part), forecaster.limits(part)
        since = np.arange(fitted_at, int(piece[-1]) + 1)
        since = since[timeline.usable[since]]
        since = since[np.argsort(timeline.known[since], kind="stable")]
        errors = np.cumsum(np.abs(timeline.log_run[since] - logs[since, 0, middle]))
        # Drift is looked for at every submission, by what had ended then.
        rows = np.arange(int(piece[0]), min(int(piece[-1]) + 1, stop - 1) + 1)
        rows = rows[rows > fitted_at]
        count = np.searchsorted(timeline.known[since], timeline.submit[rows], "right")
        total = np.concatenate([[0.0], errors])[count]
        drifted = rows[schedule.drifted(total, count)]
        if len(drifted) and drifted[0] < stop:
            stop, why = int(drifted[0]), "drift"
            break
    if stop < n:
        _learn_errors(schedule, timeline, logs, fitted_at, stop, middle)
    return stop, why


def _learn_errors(
    schedule: RefitSchedule,
    timeline: _Timeline,
    logs: NDArray[np.float32],
    fitted_at: int,
    stop: int,
    middle: int,
) -> None:
    """Tell the schedule of the jobs forecast since a refit that have ended by the next one."""
    since = np.arange(fitted_at, stop)
    since = since[timeline.usable[since] & (timeline.known[since] <= timeline.submit[stop])]
    for error in (timeline.log_run[since] - logs[since, 0, middle]).tolist():
        schedule.learn(error)
