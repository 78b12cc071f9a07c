"""Learns how long jobs run from their log, and forecasts quantiles of run times.

Public names are loaded when they are first used, so that ``import predictor`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictor.baselines import (
        ESTIMATORS,
        Forecaster,
        GlobalMedian,
        LastTwoMean,
        Oracle,
        RequestedTime,
        SklearnRegressor,
        UserMedian,
    )
    from predictor.calibrate import ConformalShift
    from predictor.features import FeatureBuilder
    from predictor.history import History
    from predictor.logs import read_log
    from predictor.quantile import QuantileGBM
    from predictor.runtime import BadModel, RuntimePredictor
    from predictor.schema import BadLog, canonical
    from predictor.splits import Split, rolling_origin, split_at, split_by_share

_HOME = {
    "ESTIMATORS": "baselines",
    "BadLog": "schema",
    "BadModel": "runtime",
    "ConformalShift": "calibrate",
    "FeatureBuilder": "features",
    "Forecaster": "baselines",
    "GlobalMedian": "baselines",
    "History": "history",
    "LastTwoMean": "baselines",
    "Oracle": "baselines",
    "QuantileGBM": "quantile",
    "RequestedTime": "baselines",
    "RuntimePredictor": "runtime",
    "SklearnRegressor": "baselines",
    "Split": "splits",
    "UserMedian": "baselines",
    "canonical": "schema",
    "read_log": "logs",
    "rolling_origin": "splits",
    "split_at": "splits",
    "split_by_share": "splits",
}

__all__ = [
    "ESTIMATORS",
    "BadLog",
    "BadModel",
    "ConformalShift",
    "FeatureBuilder",
    "Forecaster",
    "GlobalMedian",
    "History",
    "LastTwoMean",
    "Oracle",
    "QuantileGBM",
    "RequestedTime",
    "RuntimePredictor",
    "SklearnRegressor",
    "Split",
    "UserMedian",
    "canonical",
    "read_log",
    "rolling_origin",
    "split_at",
    "split_by_share",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'predictor' has no attribute {name!r}")
    value = getattr(import_module(f"predictor.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
