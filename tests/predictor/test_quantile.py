"""QuantileGBM: a well-behaved scikit-learn regressor whose quantiles never cross."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from plancast.predictor.distribution import between_levels
from plancast.predictor.quantile import LEVELS, QuantileGBM, check_levels

SMALL = {"n_estimators": 20, "min_child_samples": 10}


def sample(n: int = 800, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-normal run times whose median is known: exp(3 + x0)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 3, (n, 3))
    x[rng.random((n, 3)) < 0.05] = np.nan
    return x, np.exp(3 + np.nan_to_num(x[:, 0]) + rng.normal(0, 0.5, n))


@parametrize_with_checks(
    [
        QuantileGBM(),
        QuantileGBM(target="identity", n_estimators=30, min_child_samples=1, learning_rate=0.2),
    ]
)
def test_scikit_learn_interface(estimator: QuantileGBM, check: object) -> None:
    """It could not be cloned, searched or put into a pipeline as any scikit-learn regressor."""
    check(estimator)  # type: ignore[operator]


def test_quantiles_never_cross_and_are_never_nan() -> None:
    """A higher level would promise a shorter run, or a job without features get no forecast."""
    x, y = sample()
    model = QuantileGBM(**SMALL, levels=(0.1, 0.49, 0.5, 0.51, 0.9)).fit(x, y)
    rng = np.random.default_rng(1)
    wild = rng.normal(0, 100, (500, 3))
    wild[:50] = np.nan
    quantiles = model.predict_quantiles(wild)
    raw = np.column_stack([b.predict(wild) for b in model.boosters_])
    assert (np.diff(raw, axis=1) < 0).any(), "nothing to repair here: the test has no power"
    assert quantiles.shape == (500, 5)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_levels_mean_what_they_say() -> None:
    """The share of jobs below a quantile would not be its level."""
    x, y = sample(4000)
    model = QuantileGBM(n_estimators=150).fit(x[:3000], y[:3000])
    covered = (y[3000:, None] <= model.predict_quantiles(x[3000:])).mean(axis=0)
    np.testing.assert_allclose(covered, LEVELS, atol=0.05)


def test_seed_fixes_the_model_and_text_keeps_it(tmp_path: Path) -> None:
    """Two trainings, or a saved and a loaded model, would forecast differently."""
    x, y = sample()
    model = QuantileGBM(**SMALL, levels=(0.25, 0.5, 0.99)).fit(x, y)
    again = clone(model).fit(x, y)
    model.save(tmp_path)
    loaded = QuantileGBM.load(tmp_path)
    assert loaded.levels_ == (0.25, 0.5, 0.99)
    assert again.predict_quantiles(x).tobytes() == model.predict_quantiles(x).tobytes()
    assert loaded.predict_quantiles(x).tobytes() == model.predict_quantiles(x).tobytes()
    one_by_one = np.vstack([loaded.raw_of(row[None, :]) for row in x[:50]])
    assert one_by_one.tobytes() == model.predict_raw(x[:50]).tobytes()


def test_feature_names_are_kept() -> None:
    """Columns in another order would be taken for one another without a word."""
    x, y = sample()
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    model = QuantileGBM(**SMALL).fit(frame, y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["c", "b", "a"]])


def test_median_is_predicted_between_levels() -> None:
    """Without a trained median predict would give some other level."""
    x, y = sample()
    model = QuantileGBM(**SMALL, levels=(0.4, 0.6)).fit(x, y)
    np.testing.assert_allclose(model.predict(x), model.predict_quantiles(x).mean(axis=1))


@pytest.mark.parametrize("levels", [(), (0.5, 0.5), (0.0, 0.5), (0.5, 1.0), (0.9, 0.1)])
def test_impossible_levels_are_refused(levels: tuple[float, ...]) -> None:
    """Levels that are no quantile levels would train nonsense."""
    with pytest.raises(ValueError, match="strictly increasing"):
        check_levels(levels)


def test_what_cannot_be_learned_is_refused() -> None:
    """A run time of 0 would become minus infinity, a misspelt target pass unnoticed."""
    x, y = sample(50)
    with pytest.raises(ValueError, match="no logarithm"):
        QuantileGBM(**SMALL).fit(x, np.where(np.arange(50) == 3, 0.0, y))
    with pytest.raises(ValueError, match="'log' or 'identity'"):
        QuantileGBM(target="square").fit(x, y)


def test_between_levels_interpolates_and_invents_no_tail() -> None:
    """A level that was not trained would be wrong, or made up beyond the trained ones."""
    values = np.array([[10.0, 20.0, 60.0]])
    np.testing.assert_allclose(
        between_levels(values, (0.1, 0.5, 0.9), (0.1, 0.3, 0.6, 0.9)), [[10, 15, 30, 60]]
    )
    with pytest.raises(ValueError, match=r"0\.95 lies outside the trained levels"):
        between_levels(values, (0.1, 0.5, 0.9), (0.95,))
