"""How good forecasts are, against the run times that were measured.

In all functions `true_s` holds measured run times and `forecast_s` point forecasts, seconds,
shape (n,), all positive; `quantiles_s` holds quantile forecasts, shape (n, levels).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plancast.wording import counted

Floats = NDArray[np.float64]

EQUAL = 1e-9
"""Seconds that differ by no more than this share are one value."""


def _pair(true_s: ArrayLike, forecast_s: ArrayLike) -> tuple[Floats, Floats]:
    true = np.asarray(true_s, dtype=np.float64)
    forecast = np.asarray(forecast_s, dtype=np.float64)
    if len(true) == 0 or len(true) != len(forecast):
        raise ValueError(
            f"{counted(len(true), 'run time')} and {counted(len(forecast), 'forecast')}; a metric "
            "needs as many of one as of the other, and at least one"
        )
    return true, forecast


def mae_s(true_s: ArrayLike, forecast_s: ArrayLike) -> float:
    """Mean absolute error, seconds: ``mean |f - t|``."""
    true, forecast = _pair(true_s, forecast_s)
    return float(np.mean(np.abs(forecast - true)))


def median_abs_log2(true_s: ArrayLike, forecast_s: ArrayLike) -> float:
    """Median of ``|log2(f / t)|``: 1 means that half of the forecasts are off by a factor of 2."""
    true, forecast = _pair(true_s, forecast_s)
    return float(np.median(np.abs(np.log2(forecast / true))))


def within_2x(true_s: ArrayLike, forecast_s: ArrayLike) -> float:
    """Share of forecasts with ``1/2 <= f / t <= 2``."""
    true, forecast = _pair(true_s, forecast_s)
    return float(np.mean((forecast <= 2 * true) & (true <= 2 * forecast)))


def accuracy_minmax(true_s: ArrayLike, forecast_s: ArrayLike) -> float:
    """Mean of ``min(f, t) / max(f, t)``, in (0, 1].

    References
    ----------
    Tsafrir, Etsion, Feitelson (2007), "Backfilling using system-generated predictions rather
    than user runtime estimates", doi:10.1109/TPDS.2007.70606.
    """
    true, forecast = _pair(true_s, forecast_s)
    return float(np.mean(np.minimum(forecast, true) / np.maximum(forecast, true)))


def under_rate(true_s: ArrayLike, forecast_s: ArrayLike) -> float:
    """Share of jobs that ran longer than forecast: ``mean [f < t]``."""
    true, forecast = _pair(true_s, forecast_s)
    return float(np.mean(forecast < true))


def pinball(true_s: ArrayLike, quantiles_s: ArrayLike, levels: Sequence[float]) -> Floats:
    """Pinball loss of each level, seconds, shape (levels,).

    Notes
    -----
    ``mean max(p (t - q), (p - 1)(t - q))`` for the level p; at 0.5 it is half of ``mae_s``.
    """
    true, quantiles = _pair(true_s, quantiles_s)
    error = true[:, None] - quantiles
    p = np.asarray(levels, dtype=np.float64)
    return np.asarray(np.mean(np.maximum(p * error, (p - 1) * error), axis=0), dtype=np.float64)


def covered(true_s: ArrayLike, quantiles_s: ArrayLike, levels: Sequence[float]) -> Floats:
    """How much of each job its quantiles cover, shape (n, levels): 1 above the run time, else 0.

    Notes
    -----
    Run times repeat, so a forecast may have an atom: where the levels from a to b share the
    value v and the run time is v, the level p covers the share ``(p - a) / (b - a)`` of the job.
    A single level at v covers it. Values are equal within a relative 1e-9: logarithms round.
    """
    true = np.asarray(true_s, dtype=np.float64)[:, None]
    quantiles = np.asarray(quantiles_s, dtype=np.float64)
    p = np.asarray(levels, dtype=np.float64)
    result = (true <= quantiles * (1 + EQUAL)).astype(np.float64)
    hit = (result > 0) & (quantiles <= true * (1 + EQUAL))
    shared = hit.sum(axis=1) > 1
    if shared.any():
        at = hit[shared]
        low = np.where(at, p, np.inf).min(axis=1, keepdims=True)
        high = np.where(at, p, -np.inf).max(axis=1, keepdims=True)
        result[shared] = np.where(at, (p - low) / (high - low), result[shared])
    return result


def coverage(true_s: ArrayLike, quantiles_s: ArrayLike, levels: Sequence[float]) -> Floats:
    """Share of jobs that each quantile covers, atoms counted as in ``covered``, shape (levels,)."""
    true, quantiles = _pair(true_s, quantiles_s)
    return np.asarray(covered(true, quantiles, levels).mean(axis=0), dtype=np.float64)


def crossings(quantiles_s: ArrayLike) -> int:
    """Number of rows in which a higher level has a lower quantile."""
    quantiles = np.asarray(quantiles_s, dtype=np.float64)
    return int(np.sum((quantiles[:, 1:] < quantiles[:, :-1]).any(axis=1)))  # some are infinite


def score(
    true_s: ArrayLike, forecast_s: ArrayLike, quantiles_s: ArrayLike, levels: Sequence[float]
) -> dict[str, float]:
    """All metrics by name, per level as ``pinball_p90`` and ``coverage_p90``."""
    result = {
        "mae_s": mae_s(true_s, forecast_s),
        "median_abs_log2": median_abs_log2(true_s, forecast_s),
        "within_2x": within_2x(true_s, forecast_s),
        "accuracy_minmax": accuracy_minmax(true_s, forecast_s),
        "under_rate": under_rate(true_s, forecast_s),
        "crossings": float(crossings(quantiles_s)),
    }
    losses, covered = pinball(true_s, quantiles_s, levels), coverage(true_s, quantiles_s, levels)
    for level, loss, share in zip(levels, losses, covered, strict=True):
        result[f"pinball_p{100 * level:g}"] = float(loss)
        result[f"coverage_p{100 * level:g}"] = float(share)
    return result
