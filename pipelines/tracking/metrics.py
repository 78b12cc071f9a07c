"""Results as what MLflow takes: flat mappings of numbers, and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from plancast.pipelines.charts import forecasts as charts
from plancast.pipelines.charts.drawing import Drawing
from plancast.pipelines.tracking.headline import forecast_headline

TABLES = ("by_month", "by_decile")
"""Entries of an estimator's metrics that have one row for each month or decile."""


def rows_of(table: Any) -> list[Mapping[str, Any]]:
    """A table's rows, in its order."""
    if not table:
        return []
    values = list(table.values()) if isinstance(table, Mapping) else table
    return [row if isinstance(row, Mapping) else {"value": row} for row in values]


def flat(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """All finite numbers of nested mappings, by the path of their keys."""
    result: dict[str, float] = {}
    for key, value in values.items():
        path = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            result |= flat(value, path)
        elif isinstance(value, int | float) and math.isfinite(value):
            result[path] = float(value)
    return result


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of the trees beside the others."""
    rest = {key: value for key, value in settings.items() if key != "trees"}
    return {**rest, **settings.get("trees", {})}


def worth_metrics(facts: Mapping[str, Any]) -> dict[str, float]:
    """What plans cost in each way, of the facts of ``plancast worth``."""
    found = {"worth/auto_against_best_rule": facts["auto_against_best_rule"]["mean"]}
    return found | {f"worth/{name}": entry["cost"] for name, entry in facts["policies"].items()}


def figures_of(
    estimators: Mapping[str, Mapping[str, Any]],
    decades: Mapping[str, Mapping[int, float]] | None,
    importances: Mapping[str, float] | None,
) -> dict[str, Drawing]:
    """Charts of an evaluation, by name."""
    covered = {
        name: {float(level): share for level, share in metrics["coverage"].items()}
        for name, metrics in estimators.items()
    }
    losses = {name: forecast_headline(one)["pinball_s"] for name, one in estimators.items()}
    found = {
        "reliability": charts.reliability(covered),
        "pinball": charts.ranking(losses, "pinball loss, seconds, mean over the levels"),
    }
    if decades is not None:
        found["error_by_run_time"] = charts.by_decade(decades)
    if importances is not None:
        found["importances"] = charts.importances(importances)
    return found
