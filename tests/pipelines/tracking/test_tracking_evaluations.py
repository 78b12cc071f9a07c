"""What an evaluation leaves in MLflow: metrics, figures, data, model, aliases."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.stages.train import train_model
from plancast.pipelines.tracking import mlflow_runs as tracking
from plancast.pipelines.tracking.evaluations import log_evaluation
from plancast.pipelines.tracking.headline import MOST_METRICS
from plancast.pipelines.tracking.importances import importances_of
from plancast.pipelines.tracking.store import STORE, store_uri
from plancast.predictor import RuntimePredictor
from plancast.predictor.model_files import data_digest
from plancast.predictor.schema import KNOWN_AT_SUBMISSION, extra_columns
from tests.oracles.toy_logs import toy_log

LEVELS = (0.5, 0.9)


def install(empty: Path, folder: Path) -> None:
    """Put a copy of an empty store where the pipeline looks for it below `folder`."""
    target = folder / STORE / "mlflow.db"
    target.parent.mkdir(parents=True)
    shutil.copy(empty, target)


def figures_of(value: float) -> dict[str, Any]:
    """The metrics of one estimator in the form of ``plancast evaluate --json``."""
    return {
        "mae_s": value,
        "median_abs_log2": 0.5,
        "pinball": {"0.5": value, "0.9": value / 2},
        "coverage": {"0.5": 0.51, "0.9": math.nan},
        "by_month": {"2001-01": {"jobs": 3, "mae_s": 1.0}, "2001-02": {"jobs": 4, "mae_s": value}},
        "by_decile": [{"jobs": 1, "mae_s": 9.0}],
        "cold_start": {"jobs": 2, "mae_s": 3.0},
        "crossings": 0,
        "note": "text is no metric",
    }


RESULT: dict[str, Any] = {
    "log": "toy",
    "jobs": 10,
    "evaluated": 7,
    "censored": {"timeout": 2},
    "estimators": {"model": figures_of(5.0), "last_two": figures_of(8.0)},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, mlflow_store: Path) -> Any:
    """A folder with a model in it, as the current directory; two evaluations are logged there."""
    folder = tmp_path_factory.mktemp("store")
    install(mlflow_store, folder)
    jobs = toy_log(200)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trees = {"n_estimators": 5, "min_child_samples": 10}
        train_model(jobs, folder / "model", levels=LEVELS, settings={"trees": trees})
        jobs.attrs["source"] = "toy.swf"
        digest = data_digest(jobs)
        logged = [
            log_evaluation(
                RESULT,
                "toy",
                parameters={"refit": "30d"},
                model=Path("model"),
                jobs=jobs,
                decades={"model": {1: 0.3, 2: 0.4}},
            )
            for _ in range(2)
        ]
        yield folder, jobs, digest, logged


def client(store: Any) -> Any:
    """A client of that store."""
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{store[0] / 'data/mlflow/mlflow.db'}")


def child(store: Any, name: str) -> Any:
    """The child run of an estimator, of the first evaluation."""
    runs = client(store).search_runs(
        [client(store).get_run(store[3][0].run_id).info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{store[3][0].run_id}' and tags.estimator = '{name}'",
    )
    (found,) = runs
    return found


def test_every_number_is_a_metric(store: Any) -> None:
    """An evaluation could not be compared with an earlier one."""
    run = client(store).get_run(store[3][0].run_id)
    metrics = run.data.metrics
    assert metrics["jobs"] == 10
    assert metrics["censored/timeout"] == 2
    assert metrics["typical_error"] == 0.5
    assert run.data.params == {"refit": "30d"}
    model, rule = child(store, "model").data.metrics, child(store, "last_two").data.metrics
    assert model["mae_s"] == 5
    assert rule["pinball/0.9"] == 4
    assert rule["pinball_s"] == 6
    assert model["coverage_gap"] == pytest.approx(0.01)
    assert "coverage/0.9" not in model  # no number
    assert max(map(len, (metrics, model, rule))) <= MOST_METRICS


def test_months_are_steps_of_one_metric(store: Any) -> None:
    """The course over the months could not be seen as one curve."""
    history = client(store).get_metric_history(child(store, "model").info.run_id, "by_month/mae_s")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 5.0)]


def test_metrics_are_tied_to_the_model_and_the_data(store: Any) -> None:
    """Nobody could tell which model a figure belongs to, or on which log it was measured."""
    _, _, digest, logged = store
    run = client(store).get_run(logged[0].run_id)
    assert run.data.tags["data_digest"] == digest
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("toy", digest[:12])
    assert json.loads(used.dataset.profile)["num_rows"] == len(store[1])
    schema = json.loads(used.dataset.schema)["mlflow_colspec"]
    assert {c["name"]: c["type"] for c in schema} == {
        name: "double" if kind.kind == "f" else "string" for name, kind in store[1].dtypes.items()
    }
    model = client(store).get_logged_model(logged[0].model_id)
    tied = {metric.key: metric for metric in model.metrics}
    assert tied["mae_s"].value == 5  # last_two's is 8
    assert tied["mae_s"].run_id == child(store, "model").info.run_id


def test_figures_and_the_whole_result_are_kept(store: Any) -> None:
    """The evaluation's page would have no figures."""
    run_id = store[3][0].run_id
    names = {Path(a.path).name for a in client(store).list_artifacts(run_id, "figures")}
    wanted = {"reliability.svg", "pinball.svg", "error_by_run_time.svg", "importances.svg"}
    assert names == wanted
    assert "evaluation.json" in {a.path for a in client(store).list_artifacts(run_id)}


def test_importances_are_shares_of_the_features(store: Any) -> None:
    """A figure would name the wrong features, or be nothing but the largest booster's."""
    found = importances_of(store[0] / "model")
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    names = RuntimePredictor.load(store[0] / "model").builder.names
    assert set(found) <= set(names)


def test_the_newest_is_challenger_and_the_first_stays_champion(store: Any) -> None:
    """A better forecast alone would replace the model that plans are made with."""
    first, second = store[3]
    assert (first.version, first.champion) == ("1", "1")
    assert (second.version, second.champion) == ("2", "1")
    aliases = client(store).get_registered_model(tracking.registered_name("toy")).aliases
    assert {name: str(version) for name, version in aliases.items()} == {
        "champion": "1",
        "challenger": "2",
    }


def test_the_challenger_forecasts_as_the_folder_does(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registered model would be another, or could not be loaded."""
    import mlflow

    folder, jobs, _, _ = store
    monkeypatch.chdir(folder)
    mlflow.set_tracking_uri(store_uri())
    loaded = mlflow.pyfunc.load_model("models:/runtime-toy@challenger")
    wanted = RuntimePredictor.load(folder / "model").predict_quantiles(jobs.head(5))
    columns = [*KNOWN_AT_SUBMISSION, *extra_columns(jobs)]
    assert loaded.predict(jobs[columns].head(5)).to_numpy() == pytest.approx(wanted)
    assert [c.name for c in loaded.metadata.signature.outputs.inputs] == ["p50", "p90"]


def test_without_a_model_nothing_is_registered(store_here: Path) -> None:
    """An evaluation of rules alone would fail, or register nothing as a version."""
    logged = log_evaluation(RESULT, "rules")
    assert (logged.model_id, logged.version, logged.champion) == (None, None, None)
