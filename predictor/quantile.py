"""Quantiles of the run time by gradient boosting, as a scikit-learn regressor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from plancast.json_text import json_value
from plancast.predictor.distribution import between_levels

Floats = NDArray[np.float64]

LEVELS: tuple[float, ...] = (0.1, 0.5, 0.8, 0.9, 0.95)


def check_levels(levels: Sequence[float] | float) -> tuple[float, ...]:
    """Levels (or one) as a tuple, or a ValueError where they are not increasing within (0, 1)."""
    given = [levels] if isinstance(levels, float) else levels
    result = tuple(float(level) for level in given)
    if not result or any(low >= high for low, high in pairwise((0.0, *result, 1.0))):
        raise ValueError(f"levels {result} must be strictly increasing within (0, 1)")
    return result


class QuantileGBM(RegressorMixin, BaseEstimator):
    """Gradient-boosted quantile regression, one LightGBM model per level.

    Parameters
    ----------
    levels : sequence of float
        Quantile levels, strictly increasing within (0, 1).
    target : {"log", "identity"}
        Whether the trees see the logarithm of the target (run times: relative errors count).
    n_estimators, learning_rate, num_leaves, min_child_samples, colsample_bytree, subsample,
    reg_lambda, max_bin
        As in LightGBM.
    categorical : sequence of int
        Columns that hold category codes.
    random_state : int
        Seed.

    Notes
    -----
    Each model minimises the pinball loss ``max(p u, (p - 1) u)``, u = y - q. Independent
    models can cross, so each row is sorted: the monotone rearrangement, which is never
    further from the true quantile function than the crossing original.

    References
    ----------
    Koenker, Bassett (1978), "Regression quantiles", doi:10.2307/1913643.
    Chernozhukov, Fernandez-Val, Galichon (2010), "Quantile and probability curves without
    crossing", doi:10.3982/ECTA7880.
    Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS.
    """

    def __init__(
        self,
        levels: Sequence[float] = LEVELS,
        target: str = "log",
        n_estimators: int = 150,
        learning_rate: float = 0.06,
        num_leaves: int = 15,
        min_child_samples: int = 100,
        colsample_bytree: float = 0.4,
        subsample: float = 0.7,
        reg_lambda: float = 1.0,
        max_bin: int = 31,
        categorical: Sequence[int] = (),
        random_state: int = 0,
    ) -> None:
        self.levels = levels
        self.target = target
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.colsample_bytree = colsample_bytree
        self.subsample = subsample
        self.reg_lambda = reg_lambda
        self.max_bin = max_bin
        self.categorical = categorical
        self.random_state = random_state

    def fit(self, X: Any, y: Any, row_weights: Any = None) -> QuantileGBM:
        """Train one model per level.

        Parameters
        ----------
        X : array, shape (n, features)
            NaN is "unknown".
        y : array, shape (n,)
            Seconds (any unit with ``target="identity"``).
        row_weights : array, shape (n,), optional
            How much each row counts. Not scikit-learn's ``sample_weight``: a weight of 2 is not
            a row twice, since each tree draws its own rows and leaves have a least number.

        Raises
        ------
        ValueError
            Where a level, the target's name or a target value cannot be used.
        """
        levels = check_levels(self.levels)
        if self.target not in ("log", "identity"):
            raise ValueError(f"target is {self.target!r}; it must be 'log' or 'identity'")
        X, y = validate_data(
            self,
            X,
            y,
            dtype=(np.float32, np.float64),
            ensure_all_finite="allow-nan",
            y_numeric=True,
            ensure_min_samples=2,
        )
        y = np.asarray(y, dtype=np.float64)
        if self.target == "log":
            if not (y > 0).all():
                raise ValueError("a target is 0 or less and has no logarithm; exclude such rows")
            y = np.log(y)
        data = lightgbm.Dataset(
            X,
            label=y,
            weight=None if row_weights is None else np.asarray(row_weights, np.float64),
            categorical_feature=list(self.categorical),
            feature_name=[f"f{i}" for i in range(X.shape[1])],
            params=self._parameters(levels[0]),
            free_raw_data=False,
        )
        self.boosters_ = [
            lightgbm.train(self._parameters(level), data, num_boost_round=self.n_estimators)
            for level in levels
        ]
        self.levels_ = levels
        return self

    def predict(self, X: Any) -> Floats:
        """Median, shape (n,): the level 0.5, or between its neighbours where it is not trained."""
        return between_levels(self.predict_quantiles(X), self.levels_, (0.5,))[:, 0]

    def predict_quantiles(self, X: Any) -> Floats:
        """Quantiles, shape (n, levels): never NaN, non-decreasing along the levels."""
        raw = self.predict_raw(X)
        return np.exp(raw) if self.target == "log" else raw

    def predict_raw(self, X: Any) -> Floats:
        """Quantiles on the scale of the trees (log seconds for ``target="log"``), rearranged."""
        check_is_fitted(self, "boosters_")
        X = validate_data(
            self, X, reset=False, dtype=(np.float32, np.float64), ensure_all_finite="allow-nan"
        )
        return self.raw_of(X)

    def raw_of(self, X: NDArray[Any]) -> Floats:
        """``predict_raw`` without the checks of the input: for one row they cost more than it."""
        columns = [booster.predict(X, num_threads=1) for booster in self.boosters_]
        return np.sort(np.column_stack(columns), axis=1)

    def save(self, folder: Path) -> list[str]:
        """Write LightGBM text files and ``quantile.json`` into `folder`; return their names."""
        check_is_fitted(self, "boosters_")
        names = [f"level-{level:g}.txt" for level in self.levels_]
        for name, booster in zip(names, self.boosters_, strict=True):
            (folder / name).write_text(booster.model_to_string(), encoding="utf-8")
        parameters = self.get_params()
        parameters["levels"] = list(self.levels_)
        parameters["categorical"] = [int(c) for c in self.categorical]
        card = {"parameters": parameters, "features": int(self.n_features_in_)}
        text = json.dumps(card, indent=1)
        (folder / "quantile.json").write_text(text, encoding="utf-8")
        return [*names, "quantile.json"]

    @classmethod
    def load(cls, folder: Path) -> QuantileGBM:
        """The regressor that ``save`` wrote to `folder`."""
        card = json_value((folder / "quantile.json").read_bytes())
        regressor = cls(**card["parameters"])
        regressor.levels_ = check_levels(card["parameters"]["levels"])
        regressor.n_features_in_ = int(card["features"])
        regressor.boosters_ = [
            lightgbm.Booster(model_str=(folder / f"level-{level:g}.txt").read_text("utf-8"))
            for level in regressor.levels_
        ]
        return regressor

    def _parameters(self, level: float) -> dict[str, Any]:
        return {
            "objective": "quantile",
            "alpha": level,
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_child_samples": self.min_child_samples,
            "feature_fraction": self.colsample_bytree,
            "bagging_fraction": self.subsample,
            "bagging_freq": 1 if self.subsample < 1 else 0,
            "lambda_l2": self.reg_lambda,
            "max_bin": self.max_bin,
            "max_cat_to_onehot": 4,
            "seed": self.random_state,
            "num_threads": 1,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        }

    def __sklearn_tags__(self) -> Any:
        """Unknown values (NaN) are welcome; a target whose logarithm is learned is above 0."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.positive_only = self.target == "log"
        # Half of scikit-learn's 200 rows is the least that still splits them as it wants.
        tags.regressor_tags.poor_score = self.min_child_samples > 50
        return tags
