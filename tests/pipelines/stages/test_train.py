"""pipelines.stages.train: what is learned from had ended, and every estimator is judged alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.inputs.config import Config
from plancast.pipelines.stages.train import judge, split_of, train_model
from plancast.predictor import ESTIMATORS, BadLog, RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from plancast.predictor.metrics import mae_s
from tests.oracles.toy_logs import toy_log
from tests.pipelines.conftest import SmallRun


@pytest.fixture(scope="module")
def log() -> Any:
    """A log of users with habits."""
    return toy_log(300)


def test_what_is_trained_on_had_ended_before_the_test_began(log: Any) -> None:
    """A run time from the future would be learned."""
    train, test = split_of(Config(train={"share": 0.6}), log)
    assert 170 < len(train) < 180
    assert len(test) == 120
    assert train["end_s"].max() <= test["submit_s"].min()
    assert list(test.index) == list(range(120))


def test_only_jobs_that_ran_are_scored(log: Any) -> None:
    """Jobs without a run time would turn every error into NaN."""
    holed = log.copy()
    holed.loc[5:40, ["run_s", "end_s"]] = np.nan
    asked = []
    found = judge({"oracle": ESTIMATORS["oracle"]((0.5,)).fit(log)}, holed, (0.5,), asked.append)
    assert asked == ["oracle"]
    assert found["oracle"]["mae_s"] == 0
    assert found["oracle"]["coverage_p50"] == 1
    assert found["oracle"]["forecast_s"] > 0


def test_the_error_is_that_of_the_median(log: Any) -> None:
    """Levels without 0.5 would have some other quantile judged as the forecast."""
    train, test = split_of(Config(), log)
    rule = ESTIMATORS["user_median"]((0.5,)).fit(train)
    found = judge({"rule": rule}, test, (0.1, 0.9))["rule"]
    median = rule.forecast_log(test, levels=(0.5,))[:, 0]
    assert found["mae_s"] == pytest.approx(mae_s(test["run_s"], median))
    assert {"coverage_p10", "coverage_p90"} <= set(found)
    assert "coverage_p50" not in found


def test_a_model_is_saved_whole_or_not_at_all(log: Any, tmp_path: Path) -> None:
    """A failed training would destroy the model that was in service."""
    folder = tmp_path / "model"
    train_model(log, folder, levels=(0.5, 0.9))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(BadLog, match="give at least"):
        train_model(log.head(5), folder, levels=(0.5, 0.9))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_the_stage_judges_every_estimator(small_run: SmallRun) -> None:
    """An estimator that was added to the registry would never be compared."""
    facts = small_run.facts["train"]
    assert set(facts["estimators"]) == set(ESTIMATORS)
    assert facts["estimators"]["oracle"]["mae_s"] == 0
    jobs = read_jobs(small_run.path("jobs"))
    train, test = split_of(small_run.config, jobs)
    assert (facts["train_jobs"], facts["test_jobs"]) == (len(train), len(test))
    assert facts["scored_jobs"] == int((test["run_s"] > 0).sum())
    assert facts["test_from_s"] == test["submit_s"].min()
    model = RuntimePredictor.load(small_run.path("model"))
    again = judge({"model": model}, test, model.levels)["model"]
    kept = {k: v for k, v in facts["estimators"]["model"].items() if not k.endswith("_s")}
    assert {k: again[k] for k in kept} == kept
    assert again["mae_s"] == facts["estimators"]["model"]["mae_s"]
