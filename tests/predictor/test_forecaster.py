"""One forecaster behind walk, replay and production: the same refits, weights and forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from plancast.predictor import forecaster as module
from plancast.predictor.forecaster import OnlineForecaster, Past, RefitSchedule
from plancast.predictor.quantile import LEVELS
from plancast.predictor.rows import clean_row
from plancast.predictor.runtime import RuntimePredictor
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import History
from plancast.predictor.walk import walk_forward
from tests.oracles.toy_logs import toy_log

TREES = {"n_estimators": 8, "min_child_samples": 20}
DAY_S = 86400.0


def driven_by_rows(log: pd.DataFrame, refit_s: float) -> tuple[OnlineForecaster, np.ndarray]:
    """A log lived through job by job: ends in order of time, then each submission."""
    made = OnlineForecaster(LEVELS, FeatureBuilder().fit(log), refit_s=refit_s, trees=TREES)
    history, n = History(), len(log)
    submit, start, end, run = (log[c].to_numpy() for c in ("submit_s", "start_s", "end_s", "run_s"))
    rows = log.to_dict("records")
    ends = np.argsort(end, kind="stable")
    asked, numbers, past = [], {}, []
    found, e = np.full((n, len(LEVELS)), np.nan), 0
    for i in range(n):
        while e < n and end[ends[e]] <= submit[i]:
            j = int(ends[e])
            history.see(rows[j])
            past.append(j)
            if j in numbers:
                made.ended(numbers[j], float(run[j]))
            e += 1
        if why := made.schedule.due(float(submit[i]), len(past)):
            latest = np.sort(past)
            running = (start <= submit[i]) & (end > submit[i]) & (np.arange(n) >= latest[0])
            made.refit(
                Past(
                    np.concatenate([asked[j].matrix for j in latest]),
                    np.array([rows[j]["requested_s"] for j in latest]),
                    run[latest],
                    [rows[j]["queue"] for j in latest],
                    submit[i] - start[running],
                ),
                float(submit[i]),
                len(past),
                why,
            )
        waiting = {**rows[i], "start_s": None, "end_s": None, "run_s": None, "outcome": "unknown"}
        question = made.question(clean_row(waiting), history, float(submit[i]))
        asked.append(question)
        if made.refits:
            forecast = made.issue(question)
            found[i] = np.exp(forecast.logs)
            numbers[i] = made.submitted(forecast)
        history.see(waiting)
    return made, found


def test_row_by_row_is_the_walk() -> None:
    """An evaluation would measure another forecaster than the one that production runs."""
    log = toy_log(320)
    walk = walk_forward(log, LEVELS, refit_s=0.4 * DAY_S, trees=TREES)
    made, found = driven_by_rows(log, 0.4 * DAY_S)
    assert len(walk.refits) > 3
    assert made.refits == walk.refits
    known = np.isfinite(walk.quantiles_s)
    assert (np.isfinite(found) == known).all()
    # The walk keeps its experts' forecasts in single precision.
    np.testing.assert_allclose(found[known], walk.quantiles_s[known], rtol=1e-4)


def test_jobs_in_a_row_are_not_copied() -> None:
    """A walk over a large log would hold all that is asked twice."""
    log = toy_log(60)
    made = OnlineForecaster(LEVELS, FeatureBuilder().fit(log), trees=TREES)
    asked = made.questions(log, made.builder.new_history())
    taken, copied = asked.part(slice(20, None)), asked.part(np.arange(20, 60))
    assert np.shares_memory(taken.matrix, asked.matrix)
    assert np.shares_memory(taken.ladders_s, asked.ladders_s)
    for name in ("matrix", "ladders_s", "requested_s", "queues", "owners", "cold"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(copied, name))


def test_drift_is_seen_at_the_same_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk would refit on drift sooner or later than production does."""
    monkeypatch.setattr(module, "DRIFT_JOBS", 25)
    log = toy_log(600)
    late = (log["submit_s"] > float(log["submit_s"].iloc[420])).to_numpy()
    run = np.where(late, log["run_s"] * 30.0, log["run_s"])
    log = log.assign(run_s=run, end_s=log["start_s"] + run, requested_s=np.nan)
    walk = walk_forward(log, LEVELS, refit_s=1000 * DAY_S, trees=TREES)
    assert "drift" in {why for _, _, why in walk.refits}
    made, _ = driven_by_rows(log, 1000 * DAY_S)
    assert made.refits == walk.refits


def test_the_schedule() -> None:
    """A refit would come by the length of a log, or never."""
    schedule = RefitSchedule(100.0)
    assert schedule.due(0.0, 19) == ""
    assert schedule.due(0.0, 20) == "first"
    schedule.fitted(0.0, 20)
    assert schedule.due(50.0, 39) == ""
    assert schedule.due(50.0, 40) == "growth"
    assert schedule.due(100.0, 21) == "schedule"
    schedule.fitted(50.0, 200)
    assert schedule.rows_due() == 300
    schedule.fitted(60.0, 400)
    assert schedule.rows_due() == 500
    twin = RefitSchedule(100.0)
    twin.take(schedule.card())
    assert twin.card() == schedule.card()
    frozen = RefitSchedule(np.inf)
    frozen.fitted(0.0, 20)
    assert frozen.due(1e12, 10**9) == ""


def test_production_refits_on_schedule() -> None:
    """A frozen fit costs a third of the pinball loss where a log changes."""
    log = toy_log(900)
    model = RuntimePredictor(trees=TREES, refit_s=0.5 * DAY_S).fit(log.iloc[:500])
    frozen = RuntimePredictor(trees=TREES, refit_s=np.inf).fit(log.iloc[:500])
    for at in range(500, 900, 100):
        for one in (model, frozen):
            one.update(log.iloc[at : at + 100])
    assert len(model.forecaster.refits) > 2
    assert len(frozen.forecaster.refits) == 1
    assert model.card["counts"]["trained"] > frozen.card["counts"]["trained"]
    with pytest.raises(ValueError, match="refit_s"):
        RuntimePredictor(refit_s=0.0)


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_what_still_runs_weighs_whether_or_not_its_end_is_known(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that run at the refit would count only where the log tells how long they ran later."""
    log = toy_log(400)
    # Each hundredth job still runs when the log is written, and ran at any earlier moment.
    endless = np.arange(400) % 10 == 3
    names = ["run_s", "end_s"]
    log.loc[endless, names] = np.nan
    log.loc[endless, "outcome"] = "unknown"
    seen: list[int] = []
    weights = module.censoring_weights
    monkeypatch.setattr(
        module,
        "censoring_weights",
        lambda run, watched: (seen.append(len(watched)), weights(run, watched))[1],
    )
    RuntimePredictor(trees=TREES, calibration_share=share).fit(log)
    moment = np.inf if share == 0 else float(log["submit_s"].iloc[340])
    started = endless & (log["start_s"] <= moment).to_numpy()
    assert seen[0] >= started.sum()
