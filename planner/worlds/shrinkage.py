"""What an executor believes of run times, learned from what has ended: shrunk, and how far off.

Log run time is regressed on log forecast while a batch runs. A task that runs still says
that its run time is *more* than its age; leaving those out would make every batch look
short at first. Which tasks have started depends on forecasts, not on run times, so the
regression is unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from plancast.planner.model.domain import LIMIT, LIMIT_LEVEL, estimate_for
from plancast.planner.worlds.dispatch import ENDED, FAR, WAITING, Live
from plancast.planner.worlds.dispatch_arrays import Arena

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 12
"""Rounds of the fit; it gains little after the first five."""
PRIOR_TASKS = 1.0
"""How many tasks the first belief is worth."""
LEAST_SPREAD = 0.005
FIRST_SPREAD = 0.3
"""Spread of the log run time about a point forecast before anything has ended."""


@dataclass(frozen=True)
class Belief:
    """``log run time ~ normal(shift + slope (log forecast - centre), spread^2)``.

    Parameters
    ----------
    centre, shift, slope : float
    spread : float
        Standard deviation of the log run time about its forecast.
    """

    centre: float
    shift: float
    slope: float
    spread: float

    def location(self, forecast_s: Floats) -> Floats:
        """Mean of the log run time. Shape as `forecast_s`."""
        return self.shift + self.slope * (np.log(forecast_s) - self.centre)

    def quantile(self, forecast_s: Floats, age_s: Floats, level: Floats | float) -> Floats:
        """Quantile of the run time, given that it is more than `age_s` (0: not started).

        Parameters
        ----------
        forecast_s, age_s : float64 (tasks,), seconds
        level : float64 (..., tasks) or float, in (0, 1)

        Returns
        -------
        float64 (..., tasks), seconds, at least 1
        """
        location = self.location(forecast_s)
        reached = (np.log(np.maximum(age_s, 1e-9)) - location) / self.spread
        # By the upper tail, which stays exact where the age is far beyond the forecast.
        beyond = ndtr(-np.where(age_s > 0, reached, -40.0))
        z = -ndtri(np.maximum(beyond * (1.0 - np.asarray(level)), 1e-300))
        return np.maximum(1.0, np.exp(location + self.spread * z))


def believe(forecast_s: Floats, seconds: Floats, ended: Bools, first_spread: float) -> Belief:
    """Fit a belief to what has started so far.

    Parameters
    ----------
    forecast_s : float64 (tasks,)
        Forecasts of the tasks that have started, seconds.
    seconds : float64 (tasks,)
        Run time of those that have ended, age of those that run.
    ended : bool (tasks,)
    first_spread : float
        The spread before anything is known.

    Returns
    -------
    Belief

    Notes
    -----
    Right-censored normal regression (the Tobit model) by expectation-maximisation: a
    running task counts with the mean and variance of the normal beyond its log age. The
    prior is `PRIOR_TASKS` tasks that agree with their forecasts up to `first_spread`.

    References
    ----------
    Tobin (1958), "Estimation of relationships for limited dependent variables",
    doi:10.2307/1907382.
    """
    x = np.log(np.maximum(forecast_s, 1.0))
    y = np.log(np.maximum(seconds, 1.0))
    centre = float(x.mean()) if len(x) else 0.0
    x = x - centre
    shift, slope, spread = centre, 1.0, max(first_spread, LEAST_SPREAD)
    wide = max(float(x.var()), 0.1) if len(x) else 1.0
    for _ in range(ROUNDS if len(x) else 0):
        location = shift + slope * x
        reached = np.clip((y - location) / spread, -30.0, 30.0)
        # Mean and variance of a normal beyond `reached` (inverse Mills ratio).
        density = np.exp(-0.5 * reached**2) / np.sqrt(2 * np.pi)
        mills = np.where(reached > 8, reached + 1 / np.maximum(reached, 1), 0.0)
        mills = np.where(reached <= 8, density / np.maximum(ndtr(-reached), 1e-300), mills)
        value = np.where(ended, y, np.maximum(y, location + spread * mills))
        variance = np.where(
            ended, 0.0, spread**2 * np.clip(1 + reached * mills - mills**2, 0.0, 1.0)
        )
        shift = (value.sum() - slope * x.sum() + PRIOR_TASKS * centre) / (len(x) + PRIOR_TASKS)
        slope = (x @ (value - shift) + PRIOR_TASKS * wide) / (x @ x + PRIOR_TASKS * wide)
        slope = float(np.clip(slope, 0.0, 1.5))
        left = value - shift - slope * x
        squares = left @ left + variance.sum() + PRIOR_TASKS * first_spread**2
        spread = max(LEAST_SPREAD, float(np.sqrt(squares / (len(x) + PRIOR_TASKS))))
    return Belief(centre, float(shift), float(slope), spread)


class Forecasts:
    """What is believed of the run times of a batch, at any level, while it runs.

    Parameters
    ----------
    arena : Arena
        Its truth is not looked at.
    learn : bool
        Whether the error of point forecasts is learned.
    first_spread : float
        Spread of the log run time about a point forecast before anything has ended.

    Notes
    -----
    Where the estimates are distributions they are taken as they are, each conditioned on the
    age of a task that runs. Where all are points their error is learned from what has ended
    (``believe``).
    """

    def __init__(
        self, arena: Arena, learn: bool = True, first_spread: float = FIRST_SPREAD
    ) -> None:
        self.arena, self.first_spread = arena, first_spread
        estimates = arena.request.estimates
        self.by_class = [
            [estimate_for(estimates, task.id, name) for name in arena.problem.classes]
            for task in arena.tasks
        ]
        self.points = learn and all(
            e is None or len(e.levels) == 1 for row in self.by_class for e in row
        )
        self.point_s = np.array(
            [[0.0 if e is None else float(e.at(0.5)) for e in row] for row in self.by_class]
        ).reshape(arena.estimate.shape)
        limits = [0 if task.requested_s is None else task.requested_s for task in arena.tasks]
        self.limit_s = np.array(limits, np.int64).reshape(-1, 1)
        self.belief: Belief | None = None
        self._whole: dict[float, Ints] = {}

    @property
    def spread(self) -> float:
        """Spread of the log run time about its forecast, where it is learned."""
        return self.first_spread if self.belief is None else self.belief.spread

    def learn(self, live: Live, now: int) -> None:
        """Take in what has ended and what still runs."""
        if not self.points:
            return
        started = np.flatnonzero(live.state != WAITING)
        ended = live.state[started] == ENDED
        until = np.where(ended, live.end[started], now)
        seconds = (until - live.start[started]).astype(np.float64)
        self.belief = believe(self.forecast(live)[started], seconds, ended, self.first_spread)
        self._whole.clear()

    def forecast(self, live: Live) -> Floats:
        """The point forecast of each task on the class it runs on, else on its fastest."""
        estimate, cluster = self.arena.estimate, self.arena.cluster
        first = live.worker[cluster.shard_ptr[:-1]]
        on = estimate[np.arange(len(first)), cluster.worker_class[first]]
        fastest = np.where(estimate > 0, estimate, FAR).min(axis=1)
        return np.where((first >= 0) & (on > 0), on, fastest).astype(np.float64)

    def whole(self, level: float) -> Ints:
        """Run times of all tasks at a level, none of them started. Shape (tasks, classes)."""
        if level not in self._whole:
            self._whole[level] = self._at(level)
        return self._whole[level]

    def ends(self, running: Ints, live: Live, now: int, level: float) -> Ints:
        """When each running task ends at a level of what remains of it, after `now`."""
        cluster = self.arena.cluster
        result = np.zeros(len(running), np.int64)
        for k, i in enumerate(running.tolist()):
            first, last = cluster.shard_ptr[i : i + 2]
            age = now - int(live.start[i])
            left = 1
            for c in set(cluster.worker_class[live.worker[first:last]].tolist()):
                left = max(left, self._remaining(i, c, age, level))
            limit = self.arena.tasks[i].requested_s
            if limit is not None:
                left = max(1, min(left, limit - age))
            result[k] = now + left
        return result

    def remaining(self, age: Floats, level: float) -> Ints:
        """Whole run times at a level, given each task's age (0: not started). (tasks, classes)."""
        result = self.whole(level).copy()
        for i in np.flatnonzero(age > 0).tolist():
            for c in np.flatnonzero(result[i]).tolist():
                result[i, c] = int(age[i]) + self._remaining(i, c, int(age[i]), level)
        return result

    def _at(self, level: float) -> Ints:
        arena = self.arena
        if self.points:
            result = self._believed(self.point_s, 0.0, min(level, LIMIT_LEVEL))
            if level >= LIMIT:
                result = np.where(self.limit_s > 0, self.limit_s, result)
            return np.where((self.point_s > 0) & (arena.estimate > 0), result, 0)
        result = np.zeros_like(arena.estimate)
        for i, row in enumerate(self.by_class):
            limit = arena.tasks[i].requested_s
            for c, estimate in enumerate(row):
                if estimate is None or arena.estimate[i, c] == 0:
                    continue
                if level >= LIMIT and limit is not None:
                    result[i, c] = limit
                else:
                    result[i, c] = estimate.at(min(level, LIMIT_LEVEL))
        return result

    def _remaining(self, i: int, c: int, age: int, level: float) -> int:
        estimate, limit = self.by_class[i][c], self.arena.tasks[i].requested_s
        if estimate is None:
            return 1
        if level >= LIMIT and limit is not None and limit > age:
            return limit - age
        below = min(level, LIMIT_LEVEL)
        if not self.points:
            return estimate.remaining_at(below, age)
        return max(1, int(self._believed(self.point_s[i, c], float(age), below)) - age)

    def _believed(self, forecast_s: Floats, age: float, level: float) -> Ints:
        # Before anything has been seen the forecast is the middle.
        belief = self.belief or Belief(0.0, 0.0, 1.0, self.first_spread)
        seconds = belief.quantile(np.maximum(forecast_s, 1.0), np.asarray(age), level)
        return np.rint(np.minimum(seconds, 1e12)).astype(np.int64)
