"""The experts whose forecasts are mixed: gradient-boosted trees and the rules of thumb.

Each gives a log quantile of the run time at every level. The rules keep the mixture honest:
where the trees have too little to learn from, or the log has changed since they were trained,
a rule takes over within a few hundred ended jobs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.quantile import QuantileGBM, check_levels
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats
from plancast.predictor.state.keys import Layout
from plancast.predictor.state.run_statistics import BEFORE, LAST, LONG, Ladder

EXPERTS: tuple[str, ...] = ("trees", "similar", "constant", "requested")
"""Names of the experts, in the order of their forecasts."""

_SIMILAR = (
    "user_like",
    "user_requested_cpus",
    "user_requested",
    "user_app",
    "user_cpus",
    "user",
    "like",
    "app",
    "queue",
    "all",
)

SAME = Ladder(_SIMILAR, 1, LAST)
"""The last ended run of the finest group that has one."""

LADDERS: tuple[Ladder, ...] = (Ladder(_SIMILAR, 4, LONG), SAME, Ladder(_SIMILAR, 1, BEFORE))
"""Whose run times are looked at: the last hundred by the expert ``similar``, the last one and
the one before it for repeats."""

_RUNS, _SAME, _BEFORE = range(3)


@cache
def ladders_of(layout: Layout) -> tuple[Ladder, ...]:
    """``LADDERS``; of a log with command lines or directories, run times of finer groups first.

    Not for repeats: where such texts say nothing, the last run of a finer group is only older.
    """
    finer = tuple(kind for kind in ("user_like_line", "user_like_command") if kind in layout.kinds)
    runs, *repeats = LADDERS
    return (runs._replace(kinds=(*finer, *runs.kinds)), *repeats)


TRAINING_ROWS = 40_000
"""Latest ended jobs that train: more cost time and hardly improved the next month's forecasts."""

_NOTHING_KNOWN = math.log(3600.0)


class Experts:
    """Everything that is learned at a refit.

    Parameters
    ----------
    levels : sequence of float
    seed : int
    trees : mapping, optional
        Further parameters of ``QuantileGBM``.
    """

    def __init__(
        self, levels: Sequence[float], seed: int = 0, trees: Mapping[str, Any] | None = None
    ) -> None:
        self.levels = check_levels(levels)
        self.seed = seed
        self.trees = dict(trees or {})
        self.regressor: QuantileGBM | None = None
        # Log quantiles of all run times, and of run time over request.
        self.spreads = np.zeros((2, len(self.levels)))

    def fit(
        self,
        builder: FeatureBuilder,
        matrix: NDArray[np.float32],
        requested_s: Floats,
        run_s: Floats,
        weights: Floats | None = None,
    ) -> Experts:
        """Learn from ended jobs.

        Parameters
        ----------
        builder : FeatureBuilder
            What made `matrix`.
        matrix : array, shape (n, features)
        requested_s, run_s : array, shape (n,)
            Seconds; run times positive, unknown requests NaN.
        weights : array, shape (n,), optional
        """
        anchor = builder.anchor(matrix)
        self.regressor = QuantileGBM(
            levels=self.levels,
            categorical=builder.categorical,
            random_state=self.seed,
            **self.trees,
        ).fit(matrix, run_s / np.exp(anchor), weights)
        log_run = np.log(run_s)
        request = self._request(builder, matrix, requested_s)
        known = np.ones(len(run_s)) if weights is None else weights
        for place, error in enumerate((log_run, log_run - request)):
            self.spreads[place] = _weighted_quantiles(error, known, self.levels)
        return self

    def logs(
        self,
        builder: FeatureBuilder,
        matrix: NDArray[np.float32],
        requested_s: Floats,
        ladders_s: Floats,
    ) -> Floats:
        """Log quantiles by every expert, shape (n, experts, levels); none of them NaN.

        Parameters
        ----------
        builder, matrix, requested_s
            As of ``fit``.
        ladders_s : array, shape (n, ladders, levels)
            From ``History.replay_quantiles`` with ``ladders_of``.
        """
        assert self.regressor is not None
        result = np.empty((len(matrix), len(EXPERTS), len(self.levels)))
        result[:, 0] = self.regressor.raw_of(matrix) + builder.anchor(matrix)[:, None]
        constant = self.spreads[0]
        runs = ladders_s[:, _RUNS]
        result[:, 1] = np.where(np.isnan(runs), constant, np.log(runs))
        result[:, 2] = constant
        request = self._request(builder, matrix, requested_s)
        result[:, 3] = request[:, None] + self.spreads[1]
        return result

    def card(self) -> dict[str, Any]:
        """What it learned besides the trees, as JSON values."""
        return {"names": list(EXPERTS), "spreads": self.spreads.tolist()}

    def _request(
        self, builder: FeatureBuilder, matrix: NDArray[np.float32], requested_s: Floats
    ) -> Floats:
        """Log of the request; of an unknown one the median of everybody's run times."""
        anchor = builder.anchor(matrix)
        everyone = matrix[:, builder.names.index("all_median")] + anchor
        everyone = np.where(np.isnan(everyone), _NOTHING_KNOWN, everyone)
        known = requested_s > 0
        return np.where(known, np.log(np.where(known, requested_s, 1.0)), everyone)


def same_of(ladders_s: Floats) -> tuple[Floats, Floats]:
    """The last run of a job like each one, and the one before it.

    Parameters
    ----------
    ladders_s : array, shape (n, ladders, levels)
        From ``History.replay_quantiles`` with ``ladders_of``.

    Returns
    -------
    same, gap : array, shape (n,)
        Log run time of the last one, NaN where none has ended; distance of the one before from
        it, infinity where there is none.
    """
    last, before = np.log(ladders_s[:, _SAME, 0]), np.log(ladders_s[:, _BEFORE, 0])
    gap = np.abs(last - before)
    return last, np.where(np.isnan(gap), np.inf, gap)


def owners_of(jobs: pd.DataFrame) -> list[str]:
    """Whose job each is: the user, else the queue."""
    pairs = zip(jobs["user"].tolist(), jobs["queue"].tolist(), strict=True)
    return [owner_of(user, queue) for user, queue in pairs]


def owner_of(user: str, queue: str) -> str:
    """Whose job it is: the user, else the queue."""
    return f"u {user}" if user else f"q {queue}"


LENGTHS: tuple[float, ...] = (4.0, 6.0, 8.0, 10.0)
"""Bounds, in log seconds, of the median forecast by which jobs are calibrated apart: short jobs
err by factors that would ruin the forecasts of long ones."""

SPREADS: tuple[float, ...] = (0.8,)
"""Bounds, in log seconds, of the distance from the median to a high level: what is wrong with
wide forecasts is not repaired in narrow ones."""

COHORTS = 1 + (len(LENGTHS) + 1) * (len(SPREADS) + 1)
"""Cold starts, and one cohort for each class of length and spread."""


def cohorts_of(
    cold: NDArray[np.bool_], logs: NDArray[Any], levels: Sequence[float]
) -> NDArray[np.int64]:
    """0 for a cold start, else 1 and more by the length and the spread that is forecast.

    The length is the mean log median of the trees and of similar jobs, the spread the trees'.
    """
    middle, high = (int(np.argmin(np.abs(np.asarray(levels) - p))) for p in (0.5, 0.9))
    spread = np.searchsorted(SPREADS, logs[:, 0, high] - logs[:, 0, middle])
    length = np.searchsorted(LENGTHS, (logs[:, 0, middle] + logs[:, 1, middle]) / 2.0)
    return np.where(cold, 0, 1 + length * (len(SPREADS) + 1) + spread).astype(np.int64)


def limit_logs(jobs: pd.DataFrame, grace_s: float, queue_limits_s: Mapping[str, float]) -> Floats:
    """Log of what each job cannot outlast; infinity where that is not known, shape (n,).

    Parameters
    ----------
    jobs : DataFrame
        Canonical.
    grace_s, queue_limits_s
        From ``kill_grace_s`` and ``queue_limits``; the latter stands in for unknown requests.
    """
    pairs = zip(jobs["requested_s"].tolist(), jobs["queue"].tolist(), strict=True)
    return np.array([limit_log(r, q, grace_s, queue_limits_s) for r, q in pairs])


def limit_log(
    requested_s: float, queue: str, grace_s: float, queue_limits_s: Mapping[str, float]
) -> float:
    """``limit_logs`` of one job."""
    known = requested_s > 0
    limit = requested_s + grace_s if known else queue_limits_s.get(queue, math.inf)
    return math.log(max(limit, 1.0))


def _weighted_quantiles(values: Floats, weights: Floats, levels: Sequence[float]) -> Floats:
    """The smallest values below which at least the given shares of the weight lie."""
    if not len(values):
        return np.zeros(len(levels))
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / np.sum(weights)
    places = np.minimum(np.searchsorted(share, levels), len(values) - 1)
    return np.asarray(values[order][places], dtype=np.float64)
