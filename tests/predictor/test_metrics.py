"""Metrics against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plancast.predictor import metrics

TRUE = [10.0, 100.0, 8.0, 50.0]
FORECAST = [20.0, 50.0, 8.0, 400.0]
QUANTILES = [[5.0, 20.0], [50.0, 100.0], [8.0, 7.0], [100.0, 400.0]]


def test_point_metrics_by_hand() -> None:
    """A table would show another number than its heading says."""
    assert metrics.mae_s(TRUE, FORECAST) == (10 + 50 + 0 + 350) / 4
    assert metrics.median_abs_log2(TRUE, FORECAST) == 1.0
    assert metrics.within_2x(TRUE, FORECAST) == 0.75
    assert metrics.accuracy_minmax(TRUE, FORECAST) == (0.5 + 0.5 + 1 + 0.125) / 4
    assert metrics.under_rate(TRUE, FORECAST) == 0.25


def test_quantile_metrics_by_hand() -> None:
    """A quantile's loss, coverage or order would be misreported."""
    low = (0.1 * 5 + 0.1 * 50 + 0 + 0.9 * 50) / 4
    high = (0.1 * 10 + 0 + 0.9 * 1 + 0.1 * 350) / 4
    np.testing.assert_allclose(metrics.pinball(TRUE, QUANTILES, (0.1, 0.9)), [low, high])
    np.testing.assert_allclose(metrics.coverage(TRUE, QUANTILES, (0.1, 0.9)), [0.5, 0.75])
    assert metrics.crossings(QUANTILES) == 1
    with np.errstate(all="raise"):
        assert metrics.crossings([[1.0, np.inf, np.inf], [np.inf, np.inf, 3.0]]) == 1
    half = metrics.pinball(TRUE, np.array(FORECAST)[:, None], (0.5,))
    np.testing.assert_allclose(half, [metrics.mae_s(TRUE, FORECAST) / 2])


def test_an_atom_is_covered_in_proportion() -> None:
    """Where run times repeat, every level that names the value would count as kept in full."""
    levels = (0.5, 0.8, 0.9, 0.95)
    found = [[7.0, 7.0, 7.0, 9.0], [5.0, 7.0, 8.0, 9.0], [7.0, 7.0, 7.0, 7.0], [6.0, 6.0, 7.5, 8.0]]
    covered = metrics.covered([7.0, 7.0, 6.0, 7.0], found, levels)
    np.testing.assert_allclose(
        covered, [[0.0, 0.75, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0], [1.0] * 4, [0.0, 0.0, 1.0, 1.0]]
    )
    # A forecast whose atom is as large as it says keeps every level.
    rng = np.random.default_rng(0)
    true = np.where(rng.random(40_000) < 0.5, 10.0, rng.uniform(0.0, 20.0, 40_000))
    known = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    quantiles = np.tile([4.0, 10.0, 10.0, 10.0, 16.0], (40_000, 1))
    np.testing.assert_allclose(metrics.coverage(true, quantiles, known), known, atol=0.01)


def test_score_names_every_metric() -> None:
    """A metric would be missing from the table, or stand under another level."""
    scores = metrics.score(TRUE, FORECAST, QUANTILES, (0.1, 0.95))
    assert scores["coverage_p10"] == 0.5
    assert scores["coverage_p95"] == 0.75
    assert scores["mae_s"] == metrics.mae_s(TRUE, FORECAST)
    assert set(scores) == {
        *("mae_s", "median_abs_log2", "within_2x", "accuracy_minmax", "under_rate", "crossings"),
        *("pinball_p10", "coverage_p10", "pinball_p95", "coverage_p95"),
    }


@pytest.mark.parametrize(("true", "forecast"), [([], []), ([1.0], [1.0, 2.0])])
def test_nothing_to_measure_is_refused(true: list[float], forecast: list[float]) -> None:
    """An empty test stretch would yield NaN, or mismatched arrays be broadcast."""
    with pytest.raises(ValueError, match="as many of one"):
        metrics.mae_s(true, forecast)
