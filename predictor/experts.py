"""The experts whose forecasts are mixed: gradient-boosted trees and the rules of thumb.

Each gives a log quantile of the run time at every level. The rules keep the mixture honest:
where the trees have too little to learn from, or the log has changed since they were trained,
a rule takes over within a few hundred ended jobs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.features import FeatureBuilder
from predictor.history import Floats
from predictor.quantile import QuantileGBM, check_levels

EXPERTS: tuple[str, ...] = (
    "trees",
    "similar",
    "last20",
    "constant",
    "last_two",
    "requested",
)
"""Names of the experts, in the order of their forecasts."""

LADDERS: tuple[tuple[tuple[str, ...], int], ...] = (
    (
        (
            "user_requested_cpus",
            "user_requested",
            "user_app",
            "user_cpus",
            "user",
            "app",
            "queue",
            "all",
        ),
        4,
    ),
    (("user", "queue", "all"), 1),
)
"""Whose last run times ``similar`` and ``last20`` look at: the first kind that has enough."""

TRAINING_ROWS = 40_000
"""Latest ended jobs that train: more cost time and hardly bettered the next month's forecasts."""

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
        # Log quantiles of all run times; of run time over last two; of run time over request.
        self.spreads = np.zeros((3, len(self.levels)))

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
        two, request = self._rules(builder, matrix, requested_s)
        known = np.ones(len(run_s)) if weights is None else weights
        for place, error in enumerate((log_run, log_run - two, log_run - request)):
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
        ladders_s : array, shape (n, 2, levels)
            From ``History.replay_quantiles`` with ``LADDERS``.
        """
        assert self.regressor is not None
        result = np.empty((len(matrix), len(EXPERTS), len(self.levels)))
        result[:, 0] = self.regressor.raw_of(matrix) + builder.anchor(matrix)[:, None]
        constant = self.spreads[0]
        result[:, 1:3] = np.where(np.isnan(ladders_s), constant, np.log(ladders_s))
        result[:, 3] = constant
        two, request = self._rules(builder, matrix, requested_s)
        result[:, 4] = two[:, None] + self.spreads[1]
        result[:, 5] = request[:, None] + self.spreads[2]
        return result

    def _rules(
        self, builder: FeatureBuilder, matrix: NDArray[np.float32], requested_s: Floats
    ) -> tuple[Floats, Floats]:
        """Log of the mean of the last two, and of the request, each with what stands in for it."""
        anchor = builder.anchor(matrix)
        everyone = matrix[:, builder.names.index("all_median")] + anchor
        everyone = np.where(np.isnan(everyone), _NOTHING_KNOWN, everyone)
        known = requested_s > 0
        request = np.where(known, np.log(np.where(known, requested_s, 1.0)), everyone)
        two = matrix[:, builder.names.index("user_last_two")] + anchor
        enough = matrix[:, builder.names.index("user_count")] >= 2
        capped = np.minimum(two, np.where(known, request, np.inf))
        return np.where(enough, capped, request), request


def _weighted_quantiles(values: Floats, weights: Floats, levels: Sequence[float]) -> Floats:
    """The smallest values below which at least the given shares of the weight lie."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / np.sum(weights)
    places = np.minimum(np.searchsorted(share, levels), len(values) - 1)
    return np.asarray(values[order][places], dtype=np.float64)
