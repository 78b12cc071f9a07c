"""Errors of forecasts by the decade of the run time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from plancast.predictor.metrics import median_abs_log2

Floats = NDArray[np.float64]


def error_by_decade(
    run_s: Floats, forecasts_s: Mapping[str, Floats]
) -> dict[str, dict[int, float]]:
    """Median |log2(forecast / run time)| of the jobs of each decade of the run time.

    Parameters
    ----------
    run_s : array of float, shape (n,)
        Measured run times, seconds, positive.
    forecasts_s : mapping of str to array of float, shape (n,)
        Median forecasts by estimator, seconds, positive.

    Returns
    -------
    dict
        Estimator to error by k, for run times from 10^k up to 10^(k + 1) s.
    """
    decade = np.floor(np.log10(run_s) + 1e-12).astype(int)
    return {
        name: {
            int(k): median_abs_log2(run_s[decade == k], entry[decade == k])
            for k in np.unique(decade)
        }
        for name, entry in forecasts_s.items()
    }
