"""The five figures by which runs are compared, for each estimator under each way of planning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADLINE = ("typical_error", "pinball_s", "coverage_gap", "plan_cost", "regret")
"""Median |log2(forecast / run time)|; pinball loss, seconds, and |coverage - level|, both the mean
over the levels; mean realised cost of the plans; that over plans with true run times, less 1."""

MOST_METRICS = 40
"""Of one run: its page and the table of runs stay readable."""

KNOWING = ("best_rule", "scenarios_known_early_ends")
"""Ways that stand in for others, or know what nobody does."""
ONCE, REPLANNED, NONE = "once", "replanned", "none"
ORACLE = "oracle"


@dataclass(frozen=True)
class Setting:
    """One estimator under one way of planning.

    Parameters
    ----------
    estimator, planner, batches : str
        ``model``; ``once p80``; ``whole`` (batches of consecutive jobs), ``queued`` (what waited
        at one moment) or ``none`` (no plan was made with it).
    metrics : mapping
        Of ``HEADLINE``, those that are known.
    more : mapping
        Other figures.
    """

    estimator: str
    planner: str
    batches: str
    metrics: Mapping[str, float]
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its run's name."""
        return f"{self.estimator}, {self.planner}" + (
            "" if self.batches == NONE else f", {self.batches}"
        )

    @property
    def all_metrics(self) -> dict[str, float]:
        """The finite ones, the five first, at most ``MOST_METRICS``."""
        return at_most({**self.metrics, **self.more})


def at_most(metrics: Mapping[str, float]) -> dict[str, float]:
    """The first ``MOST_METRICS`` that are finite numbers."""
    finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
    return dict(list(finite.items())[:MOST_METRICS])


def forecast_headline(
    found: Mapping[str, Any], levels: Sequence[float] | None = None
) -> dict[str, float]:
    """The three figures of forecasts, of the metrics of one estimator.

    Parameters
    ----------
    found : mapping
        With ``pinball_p90`` and ``coverage_p90`` for each level, as the pipeline has them, or
        with mappings ``pinball`` and ``coverage`` of level to number, as evaluations have.
    levels : sequence of float, optional
        Needed with the former.
    """
    if levels is None:
        covered = {float(level): share for level, share in found["coverage"].items()}
        loss = found["pinball"]
        losses = list(loss.values()) if isinstance(loss, Mapping) else [loss]
    else:
        names = {level: f"{100 * level:g}" for level in levels}
        covered = {level: found[f"coverage_p{name}"] for level, name in names.items()}
        losses = [found[f"pinball_p{name}"] for name in names.values()]
    gaps = [abs(share - level) for level, share in covered.items() if math.isfinite(share)]
    return {
        "typical_error": float(found["median_abs_log2"]),
        "pinball_s": sum(losses) / max(len(losses), 1),
        "coverage_gap": sum(gaps) / len(gaps) if gaps else math.nan,
    }


def settings_of(
    train: Mapping[str, Any], trial: Mapping[str, Any], worth: Mapping[str, Any]
) -> list[Setting]:
    """Every estimator under every way of planning that a pipeline run has tried.

    Parameters
    ----------
    train, trial, worth : mapping
        Facts of these stages. Costs of whole batches and of queued jobs do not compare with one
        another; their regrets do.
    """
    levels, found = train["levels"], train["estimators"]
    result = []
    for kind, one in trial["kinds"].items():
        estimator, _, level = kind.partition("_p")
        if kind not in found and estimator not in found:
            continue
        source = kind if kind in found else estimator
        metrics = forecast_headline(found[source], levels)
        metrics |= {"plan_cost": one["realised_cost"], "regret": one["regret"]}
        more = {f"terms/{term}": amount for term, amount in one["terms"].items() if amount}
        planner = f"{ONCE} p{level}" if level and source == estimator else ONCE
        result.append(Setting(source, planner, "whole", metrics, more))
    result += _queued(found, levels, worth)
    planned = {one.estimator for one in result}
    result += [
        Setting(name, NONE, NONE, forecast_headline(one, levels), _plain(one))
        for name, one in found.items()
        if name not in planned
    ]
    return result


def _queued(
    found: Mapping[str, Any], levels: Sequence[float], worth: Mapping[str, Any]
) -> list[Setting]:
    if not worth["queues"]:
        return []
    perfect = worth["policies"][ORACLE]["cost"]
    result = []
    for way, one in worth["policies"].items():
        kind, _, source = way.partition("_")
        if kind not in ("open", "closed", "auto") or source in KNOWING:
            continue
        named = source in found
        estimator = source if named else "auto" if way == "auto" else "model"
        metrics = forecast_headline(found[estimator], levels) if estimator in found else {}
        metrics |= {"plan_cost": one["cost"], "regret": one["cost"] / perfect - 1}
        planner = ONCE if kind == "open" else REPLANNED
        planner += "" if named or way == "auto" else f" {source}"
        more = {"against_baseline": one["against_baseline"]["mean"]}
        result.append(Setting(estimator, planner, "queued", metrics, more))
    return result


def _plain(found: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in found.items() if isinstance(value, int | float)}


def best_of(settings: Sequence[Setting]) -> Setting:
    """The planned setting with the least regret, the true run times aside."""
    planned = [
        one for one in settings if "regret" in one.metrics and one.estimator not in (ORACLE, "auto")
    ]
    return min(planned, key=lambda one: one.metrics["regret"])


def compared(
    one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What differs between two runs, and what both measured.

    Parameters
    ----------
    one, other : mapping
        ``params`` and ``metrics`` of a run.

    Returns
    -------
    dict
        ``params`` (name to both values where they differ) and ``metrics`` (name to both values and
        ``change``, the second less the first; ``HEADLINE`` first).
    """
    names = sorted({*one["params"], *other["params"]})
    params = {
        name: [one["params"].get(name), other["params"].get(name)]
        for name in names
        if one["params"].get(name) != other["params"].get(name)
    }
    both = set(one["metrics"]) & set(other["metrics"])
    ranked = [*(name for name in HEADLINE if name in both), *sorted(both - set(HEADLINE))]
    metrics = {
        name: {
            "values": [one["metrics"][name], other["metrics"][name]],
            "change": other["metrics"][name] - one["metrics"][name],
        }
        for name in ranked
    }
    return {"params": params, "metrics": metrics}
