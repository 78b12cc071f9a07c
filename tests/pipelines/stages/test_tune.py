"""Tuning: what it may look at, that it can be repeated, what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from plancast.pipelines.cli import main
from plancast.pipelines.inputs.config import load_config
from plancast.pipelines.stages.train import train_model
from plancast.pipelines.stages.tune import (
    HISTORY_SPACE,
    TREE_SPACE,
    Between,
    before_test,
    draw_settings,
    judge_fold,
    params_text,
    relative_loss,
    tune,
)
from plancast.planner.model.domain import BadRequest
from plancast.predictor import QuantileGBM, RuntimePredictor
from plancast.predictor.logs import write_jobs
from plancast.predictor.schema import canonical
from plancast.predictor.splits import known_at_s, split_by_share
from tests.oracles.toy_logs import toy_log

SHARE = 0.4
FAST: dict[str, Any] = {"trials": 3, "folds": 2, "levels": (0.5, 0.9), "processes": 1}


@pytest.fixture(scope="module")
def jobs() -> Any:
    """A log that can be learned from."""
    return toy_log(700)


@pytest.fixture(scope="module")
def facts(jobs: Any) -> dict[str, Any]:
    """A search on its first stretch."""
    return tune(jobs, share=SHARE, **FAST)


def test_tuning_looks_only_at_what_had_ended_before_the_test(jobs: Any) -> None:
    """Settings would be chosen by the jobs they are judged on."""
    past = before_test(jobs, SHARE)
    begins = split_by_share(jobs, SHARE).test_from_s
    assert 0 < len(past) <= SHARE * len(jobs)
    assert known_at_s(past).max() <= begins


def test_the_choice_does_not_change_with_the_test_stretch(jobs: Any, facts: dict[str, Any]) -> None:
    """Something of the future would reach the choice of settings."""
    begins = split_by_share(jobs, SHARE).test_from_s
    rng = np.random.default_rng(1)
    other = jobs.copy()
    hidden = ((other["submit_s"] >= begins) | (known_at_s(other) > begins)).to_numpy()
    assert hidden.sum() > 300
    other.loc[hidden, "run_s"] = rng.exponential(5000.0, hidden.sum()) + 1
    # Whatever their new run times: these jobs end in the test stretch, as before.
    other.loc[hidden, "end_s"] = begins + 1 + other.loc[hidden, "run_s"]
    other.loc[hidden, "user"] = rng.permutation(other.loc[hidden, "user"])
    other.loc[hidden, "requested_s"] = 7.0
    again = tune(canonical(other), share=SHARE, **FAST)
    assert again["best"] == facts["best"]
    assert again["trials"] == facts["trials"]
    assert again["digest"] == facts["digest"]


def test_the_past_does_matter(jobs: Any, facts: dict[str, Any]) -> None:
    """The test above would pass on a search that looks at nothing."""
    other = jobs.copy()
    first = slice(0, len(before_test(jobs, SHARE)) // 2)
    other.loc[other.index[first], "run_s"] *= 3.0
    other.loc[other.index[first], "end_s"] += 1.0
    assert tune(canonical(other), share=SHARE, **FAST)["trials"] != facts["trials"]


def test_the_same_seed_gives_the_same_choice(jobs: Any, facts: dict[str, Any]) -> None:
    """A tuned model could not be reproduced."""
    assert tune(jobs, share=SHARE, **FAST) == facts


@pytest.mark.slow
def test_processes_do_not_change_the_choice(jobs: Any, facts: dict[str, Any]) -> None:
    """Two cores would find other settings than one."""
    assert tune(jobs, share=SHARE, **(FAST | {"processes": 2})) == facts


def test_draws_are_of_the_space_and_begin_with_the_default() -> None:
    """A typing error in the space would be found by a user; tuning could end below the default."""
    drawn = draw_settings(30, seed=3)
    assert drawn[0] == {}
    assert draw_settings(5, seed=3) == drawn[:5]
    assert draw_settings(5, seed=4) != drawn[:5]
    for settings in drawn[1:]:
        assert set(settings) == {*HISTORY_SPACE, "trees"}
        assert set(settings["trees"]) == set(TREE_SPACE)
        for name, prior in TREE_SPACE.items():
            value = settings["trees"][name]
            if isinstance(prior, Between):
                assert prior.low <= value <= prior.high
            else:
                assert value in prior.values
    assert set(TREE_SPACE) <= set(QuantileGBM().get_params())


def test_the_loss_weighs_folds_and_metrics_alike() -> None:
    """A fold of long jobs would decide alone."""
    usual = [{"a": 1.0, "b": 1000.0}, {"a": 2.0, "b": 1.0}]
    halved = [{"a": 0.5, "b": 1000.0}, {"a": 2.0, "b": 1.0}]
    assert relative_loss(usual, usual) == pytest.approx(1.0)
    assert relative_loss(halved, usual) == pytest.approx(0.5 ** (1 / 4))


def test_an_unpromised_quantile_has_a_loss(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An infinite quantile would make every loss infinite, and the choice a matter of luck."""
    result = RuntimePredictor.forecast_log

    def unbounded(self: Any, *args: Any, **options: Any) -> Any:
        quantiles = result(self, *args, **options)
        quantiles[::2, -1] = np.inf
        return quantiles

    monkeypatch.setattr(RuntimePredictor, "forecast_log", unbounded)
    past = before_test(jobs, SHARE)
    rows = np.arange(len(past))
    found = judge_fold(past, rows[:150], rows[150:], {}, (0.5, 0.9), 0)
    assert np.isfinite(list(found.values())).all()


def test_the_choice_has_the_least_loss_of_those_that_win(facts: dict[str, Any]) -> None:
    """Another trial than the best would be written."""
    trials = facts["trials"]
    assert trials[0]["loss"] == pytest.approx(1.0)
    assert facts["loss"] == min(t["loss"] for t in trials if t["wins"] or t is trials[0])
    assert facts["best"] == trials[facts["best_trial"]]["settings"]


@pytest.mark.parametrize(
    ("first", "last", "chosen"), [(0.8, 0.9, 1), (0.5, 1.01, 0), (1.2, 0.4, 0)]
)
def test_what_is_chosen_wins_on_every_fold(
    first: float, last: float, chosen: int, jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that win early, on few jobs, would be taken though they lose later on more."""
    folds: list[int] = []

    def judged(_past: Any, train: Any, _test: Any, settings: Any, *_rest: Any) -> dict[str, float]:
        folds.append(len(train))
        loss = (first if len(train) == min(folds) else last) if settings else 1.0
        return {"pinball_s": loss, "median_abs_log2": loss}

    monkeypatch.setattr("plancast.pipelines.stages.tune.judge_fold", judged)
    found = tune(jobs, share=SHARE, **(FAST | {"trials": 2}))
    assert found["best_trial"] == chosen


@pytest.mark.slow
def test_what_is_written_is_what_trains(jobs: Any, facts: dict[str, Any], tmp_path: Path) -> None:
    """The pipeline would train with other settings than were found."""
    drawn = facts["trials"][1]["settings"]
    path = tmp_path / "tuned.yaml"
    path.write_text(params_text(facts | {"best": drawn, "best_trial": 1}))
    settings = load_config(path).train.settings
    assert settings == drawn
    model = train_model(jobs, tmp_path / "m", levels=(0.5, 0.9), settings=settings)
    assert model.trees == drawn["trees"]
    assert model.builder.window == drawn["window"]
    assert model.builder.decay == drawn["decay"]
    again = RuntimePredictor.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_quantiles(jobs), model.predict_quantiles(jobs))
    path.write_text(params_text(facts | {"best": {}}))
    assert load_config(path).train.settings == {}


def test_a_misspelt_parameter_of_the_trees_is_named(jobs: Any, tmp_path: Path) -> None:
    """It would be a TypeError of Python."""
    with pytest.raises(BadRequest, match=r"train.trees: 'num_leafs' .* did you mean 'num_leaves'"):
        train_model(jobs, tmp_path / "m", levels=(0.5,), settings={"trees": {"num_leafs": 3}})


def test_the_card_does_not_hold_a_workflows_graph(jobs: Any, tmp_path: Path) -> None:
    """The card of a model would be as large as its log."""
    workflow = jobs.copy()
    workflow.attrs = {"source": "w.json", "parents": {"1": ["0"]}}
    trees = {"n_estimators": 2}
    model = train_model(workflow, tmp_path / "m", levels=(0.5,), settings={"trees": trees})
    assert model.card["data"]["attrs"] == {"source": "w.json"}
    assert workflow.attrs["parents"] == {"1": ["0"]}


def test_too_short_a_past_is_refused(jobs: Any) -> None:
    """A search on a handful of jobs would be noise, or an error of the model."""
    with pytest.raises(BadRequest, match=r"before the first fold .* raise --share"):
        tune(jobs, share=0.05, **FAST)


def test_the_command_logs_every_trial(
    jobs: Any, store_here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trials would be lost, or the file would not be what was printed."""
    write_jobs(jobs, store_here / "jobs.parquet")
    command = "tune jobs.parquet --trials 2 --folds 1 --share 0.4 --levels .5,.9 --processes 1"
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--json", "-o", "tuned.yaml"])
    assert left.value.code == 0
    facts = json.loads(capsys.readouterr().out)
    assert yaml.safe_load(Path("tuned.yaml").read_text()) == {"train": facts["best"]}
    import mlflow

    runs = mlflow.search_runs(experiment_names=["plancast"], output_format="list")
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == facts["mlflow_run"]]
    assert len(children) == 2
    assert {r.data.metrics["loss"] for r in children} == {t["loss"] for t in facts["trials"]}
    tuned = next(r for r in children if r.data.params)
    assert set(tuned.data.params) == {*HISTORY_SPACE, *TREE_SPACE}
