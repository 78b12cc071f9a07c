"""Forecasts to compare the model with, all with the face of ``RuntimePredictor``.

The published rules (``RequestedTime``, ``LastTwoMean``), ``LastSame`` and ``Oracle`` are constants:
every quantile is the same number. The medians and the scikit-learn regressors spread their point
forecast by the empirical quantiles of their own multiplicative errors in training, divided by
the median error, so that the level 0.5 is the point forecast itself.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from plancast.predictor.quantile import LEVELS, check_levels
from plancast.predictor.rows import in_submission_order
from plancast.predictor.runtime import RuntimePredictor
from plancast.predictor.schema import canonical
from plancast.predictor.state.experts import SAME
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats, History, moments
from plancast.predictor.training import split_to_train, trainable

NOTHING_KNOWN_S = 3600.0
"""Forecast where neither a request nor an ended run time is known: an hour, a convention."""


class Forecaster(Protocol):
    """The face that every estimator shows; see ``RuntimePredictor`` for the meaning."""

    name: str
    levels: tuple[float, ...]

    def fit(self, log: Any) -> Any:
        """Learn from a job log."""

    def update(self, rows: Any) -> None:
        """Fold in finished, waiting and running jobs."""

    def predict(self, jobs: Any, as_of_s: Any = None) -> Floats:
        """Point forecasts, seconds, shape (n,)."""

    def predict_quantiles(
        self,
        jobs: Any,
        levels: Sequence[float] | None = None,
        as_of_s: Any = None,
    ) -> Floats:
        """Quantiles, seconds, shape (n, levels)."""

    def forecast_log(
        self,
        log: Any,
        as_of_s: Any = None,
        levels: Sequence[float] | None = None,
    ) -> Floats:
        """Quantiles in a replay of the log, seconds, shape (n, levels)."""


class _Spread:
    """Empirical quantiles of multiplicative errors about their median; 1 where none is known."""

    def __init__(self, log_errors: Floats | None = None) -> None:
        self.log_errors = np.zeros(1) if log_errors is None or not len(log_errors) else log_errors

    def around(self, point_s: Floats, levels: Sequence[float]) -> Floats:
        logs = np.quantile(self.log_errors, levels) - np.quantile(self.log_errors, 0.5)
        spread = np.maximum.accumulate(point_s[:, None] * np.exp(logs)[None, :], axis=1)
        return np.asarray(np.maximum(spread, 1.0), dtype=np.float64)


class _PointForecaster:
    """Point forecasts with a spread: everything but how a point is found."""

    name = ""

    def __init__(self, levels: Sequence[float] = LEVELS) -> None:
        self.levels = check_levels(levels)
        self._spread = _Spread()

    def predict(self, jobs: Any, as_of_s: Any = None) -> Floats:
        """Point forecasts, seconds, shape (n,), in the order of `jobs`."""
        return self._in_order(jobs, as_of_s, see_ends=False)

    def predict_quantiles(
        self,
        jobs: Any,
        levels: Sequence[float] | None = None,
        as_of_s: Any = None,
    ) -> Floats:
        """Quantiles at any levels in (0, 1), seconds, shape (n, levels)."""
        wanted = self.levels if levels is None else check_levels(levels)
        return self._spread.around(self._in_order(jobs, as_of_s, see_ends=False), wanted)

    def forecast_log(
        self,
        log: Any,
        as_of_s: Any = None,
        levels: Sequence[float] | None = None,
    ) -> Floats:
        """Quantiles in a replay of the log, its own ended jobs included, seconds."""
        wanted = self.levels if levels is None else check_levels(levels)
        return self._spread.around(self._in_order(log, as_of_s, see_ends=True), wanted)

    def _in_order(self, frame: Any, as_of_s: Any, *, see_ends: bool) -> Floats:
        jobs, as_of, order = in_submission_order(frame, as_of_s)
        result = np.empty(len(jobs))
        result[order] = self._points(jobs, moments(jobs, as_of), see_ends=see_ends)
        return result

    def _points(self, jobs: pd.DataFrame, as_of: Floats, *, see_ends: bool) -> Floats:
        raise NotImplementedError


class _Job(NamedTuple):
    job_id: str
    submit_s: float
    end_s: float
    run_s: float
    requested_s: float
    user: str
    queue: str
    app: str


class _RunningMedian:
    """The exact median of all numbers taken in so far, by two heaps."""

    def __init__(self) -> None:
        self._low: list[float] = []
        self._high: list[float] = []

    def add(self, value: float) -> None:
        heapq.heappush(self._high, -heapq.heappushpop(self._low, -value))
        if len(self._high) > len(self._low):
            heapq.heappush(self._low, -heapq.heappop(self._high))

    def value(self) -> float:
        if len(self._low) > len(self._high):
            return -self._low[0]
        return (self._high[0] - self._low[0]) / 2


class _Known:
    """What the rules look at, at one moment of a replay."""

    def __init__(self) -> None:
        self.largest_request: dict[str, float] = {}
        self.largest_of_all = math.nan
        self.last_two: dict[str, tuple[float, float]] = {}
        self.by_user: dict[str, _RunningMedian] = {}
        self.by_app: dict[str, _RunningMedian] = {}
        self.of_all: _RunningMedian | None = None

    def submitted(self, job: _Job) -> None:
        if job.requested_s > 0:
            seen = self.largest_request.get(job.queue, 0.0)
            self.largest_request[job.queue] = max(seen, job.requested_s)
            self.largest_of_all = float(np.fmax(self.largest_of_all, job.requested_s))

    def ended(self, job: _Job) -> None:
        if not job.run_s > 0:
            return
        if self.of_all is None:
            self.of_all = _RunningMedian()
        self.of_all.add(job.run_s)
        if job.app:
            self.by_app.setdefault(job.app, _RunningMedian()).add(job.run_s)
        if job.user:
            before = self.last_two.get(job.user, (math.nan, math.nan))
            self.last_two[job.user] = (before[1], job.run_s)
            self.by_user.setdefault(job.user, _RunningMedian()).add(job.run_s)

    def request(self, job: _Job) -> float:
        """The request; unknown: the largest so far in the queue, overall; then the median run."""
        for value in (job.requested_s, self.largest_request.get(job.queue), self.largest_of_all):
            if value is not None and value > 0:
                return value
        return NOTHING_KNOWN_S if self.of_all is None else self.of_all.value()


class _Rule(_PointForecaster):
    """A rule of thumb over a replay: ends at a moment are known at it, submissions after it."""

    spreads = False

    def __init__(self, levels: Sequence[float] = LEVELS) -> None:
        super().__init__(levels)
        self._forget()

    def fit(self, log: Any) -> _Rule:
        """Remember a job log, and measure the rule's errors on it where it spreads."""
        self._forget()
        jobs = canonical(log)
        if self.spreads:
            points = self._points(jobs, moments(jobs, None), see_ends=True)
            usable = trainable(jobs)
            run = jobs["run_s"].to_numpy(dtype=np.float64)
            self._spread = _Spread(np.log(run[usable]) - np.log(points[usable]))
        self.update(jobs)
        return self

    def update(self, rows: Any) -> None:
        """Fold in jobs that have ended, or that wait or run (without an end)."""
        for job in _jobs(canonical(rows)):
            self._seen.add(job)

    def say(self, known: _Known, job: _Job) -> float:
        """Forecast one job, seconds, from what is known."""
        raise NotImplementedError

    def _forget(self) -> None:
        self._seen = _Seen()

    def _points(self, jobs: pd.DataFrame, as_of: Floats, *, see_ends: bool) -> Floats:
        rows = _jobs(jobs)
        seen = self._seen.copy()
        for job in rows:
            seen.add(job, see_end=see_ends)
        # Stable: what comes at one moment is known in row order.
        seen.submissions.sort(key=attrgetter("submit_s"))
        seen.ends.sort(key=attrgetter("end_s"))
        submissions, ends = iter([*seen.submissions, None]), iter([*seen.ends, None])
        submitted, ended = next(submissions), next(ends)
        points, known = np.empty(len(rows)), _Known()
        for i in np.argsort(as_of, kind="stable"):
            while ended is not None and ended.end_s <= as_of[i]:
                known.ended(ended)
                ended = next(ends)
            while submitted is not None and submitted.submit_s < as_of[i]:
                known.submitted(submitted)
                submitted = next(submissions)
            points[i] = max(1.0, self.say(known, rows[i]))
        return points


class _Seen:
    """Jobs that were submitted, and that ended; one with an id that is known counts once."""

    def __init__(self) -> None:
        self.submissions: list[_Job] = []
        self.ends: list[_Job] = []
        self._submitted: set[tuple[str, float, str]] = set()
        self._ended: set[tuple[str, float, str]] = set()

    def add(self, job: _Job, *, see_end: bool = True) -> None:
        key = (job.job_id, job.submit_s, job.user)
        if not job.job_id or key not in self._submitted:
            self.submissions.append(job)
            self._submitted.add(key)
        if see_end and not math.isnan(job.end_s) and (not job.job_id or key not in self._ended):
            self.ends.append(job)
            self._ended.add(key)

    def copy(self) -> _Seen:
        twin = _Seen()
        twin.submissions, twin.ends = self.submissions.copy(), self.ends.copy()
        twin._submitted, twin._ended = self._submitted.copy(), self._ended.copy()
        return twin


def _jobs(frame: pd.DataFrame) -> list[_Job]:
    columns = (frame[name].tolist() for name in _Job._fields)
    return [_Job(*row) for row in zip(*columns, strict=True)]


class RequestedTime(_Rule):
    """The requested time, which is also the kill limit.

    An unknown request is the largest request seen so far in the job's queue, else in the log,
    else the median of all ended run times: never the job's own run time.
    """

    name = "requested"

    def say(self, known: _Known, job: _Job) -> float:
        """The request, known or stood in for."""
        return known.request(job)


class LastTwoMean(_Rule):
    """Mean of the user's last two ended run times, floored, at least 1, at most the request.

    A user of whom fewer than two jobs have ended gets the request.

    References
    ----------
    Tsafrir, Etsion, Feitelson (2007), "Backfilling using system-generated predictions rather
    than user runtime estimates", doi:10.1109/TPDS.2007.70606.
    """

    name = "last_two"

    def say(self, known: _Known, job: _Job) -> float:
        """The mean of the last two, or the request."""
        older, newer = known.last_two.get(job.user, (math.nan, math.nan))
        if math.isnan(older):
            return known.request(job)
        return _capped(math.floor((older + newer) / 2), job)


class UserMedian(_Rule):
    """Median of all ended run times of the user, else of everybody; at most the request."""

    name = "user_median"
    spreads = True

    def say(self, known: _Known, job: _Job) -> float:
        """The user's median, everybody's, or the request."""
        median = known.by_user.get(job.user) or known.of_all
        return known.request(job) if median is None else _capped(median.value(), job)


class AppMedian(_Rule):
    """Median of all ended run times of the application, else of everybody; at most the request."""

    name = "app_median"
    spreads = True

    def say(self, known: _Known, job: _Job) -> float:
        """The application's median, everybody's, or the request."""
        median = known.by_app.get(job.app) or known.of_all
        return known.request(job) if median is None else _capped(median.value(), job)


class GlobalMedian(_Rule):
    """Median of all ended run times, at most the request."""

    name = "global_median"
    spreads = True

    def say(self, known: _Known, job: _Job) -> float:
        """Everybody's median, or the request."""
        return known.request(job) if known.of_all is None else _capped(known.of_all.value(), job)


class Oracle(_Rule):
    """The true run time: the only estimator that may look. Unknown: the request."""

    name = "oracle"

    def say(self, known: _Known, job: _Job) -> float:
        """The truth."""
        return job.run_s if job.run_s > 0 else known.request(job)


class LastSame(_PointForecaster):
    """The last ended run time of a job like this one, at least 1, at most the request.

    Like it: of the same user, application, queue, request and size; where none has ended, of
    coarser groups, down to everybody. Before any job has ended it is the request, or an hour.
    """

    name = "last_same"

    def __init__(self, levels: Sequence[float] = LEVELS) -> None:
        super().__init__(levels)
        self._history = History()

    def fit(self, log: Any) -> LastSame:
        """Remember a job log."""
        self._history = History()
        self.update(log)
        return self

    def update(self, rows: Any) -> None:
        """Fold in jobs that have ended."""
        self._history.see_log(canonical(rows))

    def _points(self, jobs: pd.DataFrame, as_of: Floats, *, see_ends: bool) -> Floats:
        last = self._history.replay_quantiles(
            jobs, [SAME], np.array([0.5]), as_of, see_ends=see_ends
        )[:, 0, 0]
        requested = jobs["requested_s"].to_numpy(np.float64)
        limit = np.where(requested > 0, requested, np.inf)
        unknown = np.where(np.isinf(limit), NOTHING_KNOWN_S, limit)
        return np.maximum(np.minimum(np.where(np.isnan(last), unknown, last), limit), 1.0)


def _capped(seconds: float, job: _Job) -> float:
    return min(seconds, job.requested_s) if job.requested_s > 0 else seconds


class SklearnRegressor(_PointForecaster):
    """Any scikit-learn regressor on the model's features and target.

    Parameters
    ----------
    name : str
        Its name in tables.
    make : callable
        Makes an unfitted regressor of ``log(run time) - anchor``.
    levels : sequence of float
        Quantile levels.
    calibration_share : float
        Share of the log, at its end, on which the errors are measured that spread its
        forecast.
    cap_at_request : bool
        Whether a forecast may not exceed the requested time.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Any],
        levels: Sequence[float] = LEVELS,
        *,
        calibration_share: float = 0.15,
        cap_at_request: bool = True,
    ) -> None:
        super().__init__(levels)
        self.name = name
        self.make = make
        self.calibration_share = calibration_share
        self.cap_at_request = cap_at_request
        self.builder = FeatureBuilder()
        self.history = History()
        self._regressor: Any = None

    def fit(self, log: Any) -> SklearnRegressor:
        """Learn from a job log, and measure the errors on its end."""
        jobs = canonical(log)
        usable = trainable(jobs)
        train, held_out, _ = split_to_train(jobs, usable, self.calibration_share)
        self.builder.fit(jobs.iloc[train])
        matrix = self.builder.transform(jobs)
        target = np.log(np.where(usable, jobs["run_s"].to_numpy(np.float64), 1.0))
        # Columns of which nothing is known in training break scikit-learn's binning.
        self._known = np.flatnonzero(~np.isnan(matrix[train]).all(axis=0))
        self._regressor = self.make()
        self._regressor.fit(
            matrix[np.ix_(train, self._known)],
            target[train] - self.builder.anchor(matrix[train]),
        )
        self._spread = _Spread()
        if len(held_out):
            points = self._seconds(matrix[held_out], jobs.iloc[held_out])
            self._spread = _Spread(target[held_out] - np.log(points))
        self.history = History()
        self.history.see_log(jobs)
        return self

    def update(self, rows: Any) -> None:
        """Fold jobs into the history; the regressor stays as it is."""
        self.history.see_log(canonical(rows))

    def _points(self, jobs: pd.DataFrame, as_of: Floats, *, see_ends: bool) -> Floats:
        if len(jobs) == 0:
            return np.empty(0)
        matrix = self.builder.transform(jobs, self.history, as_of, see_ends=see_ends)
        return self._seconds(matrix, jobs)

    def _seconds(self, matrix: NDArray[Any], jobs: pd.DataFrame) -> Floats:
        # A linear model extrapolates: within a factor of e^20 nothing real is cut.
        # In double precision: a sum in single precision depends on how many rows are asked for.
        known = matrix[:, self._known].astype(np.float64)
        log_ratio = np.clip(self._regressor.predict(known), -20.0, 20.0)
        seconds = np.exp(log_ratio + self.builder.anchor(matrix))
        requested = jobs["requested_s"].to_numpy(np.float64)
        if self.cap_at_request:
            seconds = np.minimum(seconds, np.where(requested > 0, requested, np.inf))
        return np.asarray(np.maximum(seconds, 1.0), dtype=np.float64)


def _hist_gbt() -> Any:
    return HistGradientBoostingRegressor(max_iter=150, random_state=0, early_stopping=False)


def _ridge() -> Any:
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), Ridge(alpha=10.0))


ESTIMATORS: dict[str, Callable[[Sequence[float]], Forecaster]] = {
    "requested": RequestedTime,
    "last_two": LastTwoMean,
    "last_same": LastSame,
    "user_median": UserMedian,
    "app_median": AppMedian,
    "global_median": GlobalMedian,
    "oracle": Oracle,
    "hist_gbt": lambda levels: SklearnRegressor("hist_gbt", _hist_gbt, levels),
    "ridge": lambda levels: SklearnRegressor("ridge", _ridge, levels),
    "model": RuntimePredictor,
}
"""Every estimator by its name: called with the levels, it gives an unfitted one."""
