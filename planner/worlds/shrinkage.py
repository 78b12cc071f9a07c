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

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 12
"""Rounds of the fit; it gains little after the first five."""
PRIOR_TASKS = 1.0
"""How many tasks the first belief is worth."""
LEAST_SPREAD = 0.005


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
