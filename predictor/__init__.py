"""Learns how long jobs run from their log, and forecasts quantiles of run times.

Public names are loaded when they are first used, so that ``import predictor`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plancast.predictor.baselines import (
        ESTIMATORS,
        Forecaster,
        GlobalMedian,
        LastTwoMean,
        Oracle,
        RequestedTime,
        SklearnRegressor,
        UserMedian,
    )
    from plancast.predictor.evaluation import evaluate_log
    from plancast.predictor.logs import read_log
    from plancast.predictor.model_files import BadModel
    from plancast.predictor.quantile import QuantileGBM
    from plancast.predictor.runtime import RuntimePredictor
    from plancast.predictor.schema import BadLog, canonical
    from plancast.predictor.splits import Split, rolling_origin, split_at, split_by_share
    from plancast.predictor.state.features import FeatureBuilder
    from plancast.predictor.state.history import History
    from plancast.predictor.state.online import OnlineCorrection
    from plancast.predictor.walk import Walk, walk_forward

_HOME = {
    "ESTIMATORS": "baselines",
    "BadLog": "schema",
    "BadModel": "model_files",
    "FeatureBuilder": "state.features",
    "Forecaster": "baselines",
    "GlobalMedian": "baselines",
    "History": "state.history",
    "LastTwoMean": "baselines",
    "OnlineCorrection": "state.online",
    "Oracle": "baselines",
    "QuantileGBM": "quantile",
    "RequestedTime": "baselines",
    "RuntimePredictor": "runtime",
    "SklearnRegressor": "baselines",
    "Split": "splits",
    "UserMedian": "baselines",
    "Walk": "walk",
    "canonical": "schema",
    "evaluate_log": "evaluation",
    "read_log": "logs",
    "rolling_origin": "splits",
    "split_at": "splits",
    "split_by_share": "splits",
    "walk_forward": "walk",
}

__all__ = [
    "ESTIMATORS",
    "BadLog",
    "BadModel",
    "FeatureBuilder",
    "Forecaster",
    "GlobalMedian",
    "History",
    "LastTwoMean",
    "OnlineCorrection",
    "Oracle",
    "QuantileGBM",
    "RequestedTime",
    "RuntimePredictor",
    "SklearnRegressor",
    "Split",
    "UserMedian",
    "Walk",
    "canonical",
    "evaluate_log",
    "read_log",
    "rolling_origin",
    "split_at",
    "split_by_share",
    "walk_forward",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'plancast.predictor' has no attribute {name!r}")
    value = getattr(import_module(f"plancast.predictor.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
