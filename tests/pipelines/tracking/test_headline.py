"""plancast.pipelines.tracking.headline: five figures of each estimator under each planner."""

from __future__ import annotations

import math

import pytest

from plancast.pipelines.tracking.headline import (
    MOST_METRICS,
    at_most,
    best_of,
    compared,
    forecast_headline,
    settings_of,
)

FOUND = {"median_abs_log2": 0.5, "pinball_p50": 4.0, "pinball_p90": 2.0, "coverage_p50": 0.52,
         "coverage_p90": 0.86}  # fmt: skip
NAMES = ("model", "requested", "last_two", "ridge", "oracle")
TRAIN = {"levels": [0.5, 0.9], "estimators": dict.fromkeys(NAMES, FOUND)}
TRIAL = {"kinds": {kind: {"realised_cost": cost, "regret": cost / 10 - 1, "terms": {"wait_h": 2.0}}
                   for kind, cost in (("requested", 14.0), ("last_two", 15.0), ("model_p50", 12.0),
                                      ("model_p80", 13.0), ("oracle", 10.0))}}  # fmt: skip


def test_pinball_and_gaps_are_means_over_levels() -> None:
    """Two runs with other levels could not be compared, or a gap of each sign would cancel."""
    assert forecast_headline(FOUND, [0.5, 0.9]) == {
        "typical_error": 0.5, "pinball_s": 3.0, "coverage_gap": pytest.approx(0.03)
    }  # fmt: skip
    nested = {"median_abs_log2": 0.5, "pinball": {"0.5": 4.0, "0.9": 2.0},
              "coverage": {"0.5": 0.52, "0.9": math.nan}}  # fmt: skip
    assert forecast_headline(nested)["coverage_gap"] == pytest.approx(0.02)


def test_every_estimator_has_a_run_for_each_way_of_planning() -> None:
    """A way of planning would be missing from the table, or cost what another does."""
    policy = {"cost": 21.0, "against_baseline": {"mean": -0.1}}
    ways = ("open_requested", "closed_p80", "closed_best_rule", "auto", "oracle",
            "closed_scenarios_known_early_ends")  # fmt: skip
    worth = {"queues": True, "policies": dict.fromkeys(ways, policy)}
    worth["policies"]["oracle"] = {"cost": 20.0, "against_baseline": {"mean": -0.2}}
    found = {one.name: one for one in settings_of(TRAIN, TRIAL, worth)}
    assert set(found) == {
        "requested, once, whole", "last_two, once, whole", "model, once p50, whole",
        "model, once p80, whole", "oracle, once, whole", "requested, once, queued",
        "model, replanned p80, queued", "auto, replanned, queued", "ridge, none",
    }  # fmt: skip
    assert found["model, replanned p80, queued"].metrics["regret"] == pytest.approx(0.05)
    assert "plan_cost" not in found["ridge, none"].metrics
    quiet = settings_of(TRAIN, TRIAL, {"queues": False})
    assert best_of(quiet).name == "model, once p50, whole"


def test_a_run_has_few_and_finite_metrics() -> None:
    """The page of a run would be unreadable, or MLflow refuse it."""
    many = {f"m{k}": math.nan if k == 3 else float(k) for k in range(100)}
    kept = at_most(many)
    assert len(kept) == MOST_METRICS
    assert "m3" not in kept
    assert list(kept)[:2] == ["m0", "m1"]


def test_what_differs_is_told() -> None:
    """A change of a parameter would go unseen beside a change of a metric."""
    one = {"params": {"seed": "0", "log": "a"}, "metrics": {"regret": 0.3, "mae_s": 9.0}}
    other = {"params": {"seed": "1", "log": "a"}, "metrics": {"regret": 0.2, "mae_s": 10.0, "x": 1}}
    found = compared(one, other)
    assert found["params"] == {"seed": ["0", "1"]}
    assert list(found["metrics"]) == ["regret", "mae_s"]
    assert found["metrics"]["regret"]["change"] == pytest.approx(-0.1)
