"""Walking a log forward: nothing from the future, remaining times, the report's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.distribution import conditional_quantiles
from plancast.predictor.evaluation import RULES, evaluate_log
from plancast.predictor.logs import read_log
from plancast.predictor.quantile import LEVELS
from plancast.predictor.runtime import RuntimePredictor
from plancast.predictor.schema import BadLog
from plancast.predictor.walk import Walk, walk_forward
from tests.oracles.toy_logs import toy_log

TREES = {"n_estimators": 10, "min_child_samples": 20}
DAY_S = 86400.0


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """A toy log of 1,500 jobs over about five days."""
    return toy_log(1500)


@pytest.fixture(scope="module")
def walk(log: pd.DataFrame) -> Walk:
    """The toy log, walked; no test may change it."""
    return walk_forward(log, refit_s=DAY_S, trees=TREES)


def changed_after(log: pd.DataFrame, moment_s: float) -> pd.DataFrame:
    """The log with other run times wherever a job ends after a moment, before and after."""
    late = (log["end_s"] > moment_s).to_numpy()
    run = np.where(late, log["run_s"] * 20.0, log["run_s"])
    return log.assign(run_s=run, end_s=log["start_s"] + run)


@pytest.mark.parametrize(
    "share", [0.6, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.35, 0.85))]
)
def test_no_forecast_knows_the_future(log: pd.DataFrame, walk: Walk, share: float) -> None:
    """Features, refits, their schedule, weights of experts or calibration would look ahead."""
    moment = float(log["submit_s"].quantile(share))
    other = walk_forward(changed_after(log, moment), refit_s=DAY_S, trees=TREES)
    early = (log["submit_s"] <= moment).to_numpy()
    assert walk.quantiles_s[early].tobytes() == other.quantiles_s[early].tobytes()
    assert walk.quantiles_s[~early].tobytes() != other.quantiles_s[~early].tobytes()
    before = [refit for refit in walk.refits if refit[0] <= moment]
    assert before == [refit for refit in other.refits if refit[0] <= moment]


@pytest.mark.slow
def test_drift_brings_a_refit_forward() -> None:
    """Trees of another time would go on until the schedule; or drift be seen before it came."""
    log = toy_log(3000)
    jump = float(log["submit_s"].iloc[1750])
    run = np.where(log["submit_s"] >= jump, log["run_s"] * 40.0, log["run_s"])
    drifted = log.assign(run_s=run, end_s=log["start_s"] + run, requested_s=np.nan)

    def walked(jobs: pd.DataFrame) -> Walk:
        return walk_forward(jobs, refit_s=1000 * DAY_S, trees=TREES)

    calm, moved = walked(log.assign(requested_s=np.nan)), walked(drifted)
    assert "drift" not in {why for _, _, why in calm.refits}
    at = [moment for moment, _, why in moved.refits if why == "drift"]
    assert at
    assert min(at) > jump
    # Whether there is drift is decided by what had ended, and by nothing later.
    moment = min(at) + 1.0
    other = walked(changed_after(drifted, moment))
    early = (drifted["submit_s"] <= moment).to_numpy()
    assert moved.quantiles_s[early].tobytes() == other.quantiles_s[early].tobytes()
    before = [refit for refit in moved.refits if refit[0] <= moment]
    assert before == [refit for refit in other.refits if refit[0] <= moment]


def test_forecasts_cover_and_never_cross(walk: Walk) -> None:
    """A plan would be promised quantiles that hold less often than they say."""
    found = walk.quantiles_s[walk.begin :]
    run = walk.jobs["run_s"].to_numpy()[walk.begin :]
    assert np.isfinite(found).all()
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_allclose((run[:, None] <= found).mean(axis=0), LEVELS, atol=0.05)
    assert len(walk.refits) >= 4


def test_remaining_times_cover(walk: Walk) -> None:
    """A job that has run for a while would get a remaining time that it mostly passes."""
    run = walk.jobs["run_s"].to_numpy()
    median = walk.quantiles_s[:, walk.levels.index(0.5)]
    for fraction, (rows, entry) in walk.remaining.items():
        left = run[rows] - fraction * median[rows]
        assert (left > 0).all()
        if len(rows) >= 300:
            np.testing.assert_allclose((left[:, None] <= entry).mean(axis=0), LEVELS, atol=0.08)
    assert len(walk.remaining[0.25][0]) >= 300


def test_conditional_quantiles_of_a_known_law() -> None:
    """The time that remains would not follow from the quantiles of the whole."""
    levels = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
    # Log-logistic: F(t) = 1 / (1 + 1 / t), whose quantiles are odds.
    whole = (levels / (1 - levels))[None, :] * 1000.0
    elapsed = np.array([700.0])
    left = conditional_quantiles(whole, levels.tolist(), elapsed, [0.5, 0.9])[0]
    for p, entry in zip((0.5, 0.9), left, strict=True):
        passed = 700.0 / 1700.0
        share = passed + p * (1 - passed)
        assert entry == pytest.approx(1000.0 * share / (1 - share) - 700.0, rel=1e-6)
    beyond = conditional_quantiles(whole, levels.tolist(), np.array([1e6]), [0.5, 0.9])[0]
    assert (beyond > 0).all()
    assert np.isfinite(beyond).all()


def test_report_has_its_form(log: pd.DataFrame) -> None:
    """Whoever reads the JSON would miss an estimator or a number, or meet NaN."""
    report, _ = evaluate_log(log, (0.5, 0.9), refit_s=DAY_S)
    assert list(report["estimators"]) == ["model", *RULES]
    assert report["evaluated"] == 1050
    for found in report["estimators"].values():
        assert set(found) >= {
            "mae_s", "median_abs_log2", "within_2x", "accuracy_minmax", "pinball", "under_rate",
            "coverage", "worst_month_gap", "worst_decile_gap", "by_month", "by_decile",
            "remaining_coverage", "crossings", "fit_s", "predict_s", "predict_p99_ms",
        }  # fmt: skip
        assert set(found["coverage"]) == {"0.5", "0.9"}
        assert found["crossings"] == 0
        assert sum(part["jobs"] for part in found["by_decile"].values()) == 1050
    json.dumps(report, allow_nan=False)


@pytest.mark.slow
def test_useless_features_do_no_harm() -> None:
    """Without users, requests or anything to tell jobs apart, trees would chase noise."""
    rng = np.random.default_rng(0)
    submit = np.cumsum(rng.exponential(100.0, 2500))
    run = np.exp(rng.normal(6.0, 1.5, 2500))
    bare = pd.DataFrame({"submit_s": submit, "start_s": submit, "run_s": run})
    report, _ = evaluate_log(bare, (0.5, 0.9), refit_s=DAY_S)
    found = report["estimators"]
    best = min(found[rule]["median_abs_log2"] for rule in RULES)
    assert found["model"]["median_abs_log2"] < 1.03 * best
    assert found["model"]["pinball"] < 1.06 * min(found[rule]["pinball"] for rule in RULES)


def test_walked_model_goes_on_online(log: pd.DataFrame, walk: Walk, tmp_path: Path) -> None:
    """The model a walk ends with could not be served, saved or loaded."""
    model = RuntimePredictor.of_walk(walk)
    job = {"submit_s": 1e6, "user": "u1", "requested_s": 5000.0, "cpus": 2.0, "queue": "west"}
    found = model.predict_row(job)
    assert np.isfinite(found).all()
    loaded = RuntimePredictor.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_row(job), found)
    middle = float(found[1])
    for elapsed, share in ((1.0, 0.25), (middle, 1.0), (20 * middle, 2.0)):
        left = model.remaining_quantiles(job, elapsed)
        assert (np.diff(left) >= 0).all()
        # Where few jobs have run so long no finite quantile is promised at the high levels.
        settled = model.forecaster.remaining.parts[share].settled
        promised = (settled + 1) * np.array(model.levels) <= settled
        assert (np.isfinite(left) == promised).all()
        np.testing.assert_array_equal(loaded.remaining_quantiles(job, elapsed), left)
    # A job that was noted and ends teaches the remaining times, too.
    before = model.forecaster.remaining.parts[0.25].settled
    model.update(pd.DataFrame([{**job, "job_id": "x"}]))
    done = {**job, "job_id": "x", "start_s": 1e6, "run_s": 9e5, "end_s": 1.9e6}
    model.update(pd.DataFrame([done]))
    assert model.forecaster.remaining.parts[0.25].settled == before + 1
    assert model.card["known_weaknesses"]


def test_impossible_walks_are_refused(log: pd.DataFrame) -> None:
    """Too short a log, or a share out of range, would end in a traceback of something else."""
    with pytest.raises(BadLog, match="longer log"):
        walk_forward(log.iloc[:25])
    with pytest.raises(ValueError, match="first is"):
        walk_forward(log, first=1.5)


@pytest.mark.slow
def test_targets_on_kth(shared_data: Callable[[str], Path]) -> None:
    """On a real log the model would miss what it is promised to reach."""
    log = read_log(shared_data("logs/KTH-SP2-1996-2.swf.gz"))
    report, _ = evaluate_log(log, (0.5, 0.8, 0.9, 0.95), refit_s=30 * DAY_S)
    found = report["estimators"]
    model = found["model"]
    for level, share in model["coverage"].items():
        assert abs(share - float(level)) <= 0.015
    assert model["worst_month_gap"] <= 0.05
    assert model["worst_decile_gap"] <= 0.05
    assert model["median_abs_log2"] <= 0.9 * found["last_two"]["median_abs_log2"]
    assert model["pinball"] <= 0.85 * found["user_last20"]["pinball"]
