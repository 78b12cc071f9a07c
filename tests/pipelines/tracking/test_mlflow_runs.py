"""tracking.mlflow_runs: one run, whose plan metrics are tied to the very model and data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from plancast.pipelines.tracking import mlflow_runs as tracking
from plancast.planner.model.domain import BadRequest
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from plancast.predictor.model_files import data_digest
from tests.pipelines.conftest import SmallRun


@pytest.fixture
def store(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallRun]:
    """The small run with its MLflow store connected."""
    monkeypatch.chdir(small_run.home)
    mlflow.set_tracking_uri(tracking.store_uri())
    yield small_run
    assert mlflow.active_run() is None


def test_a_pipeline_run_is_one_run(store: SmallRun) -> None:
    """Stages that open runs of their own would scatter one result over several."""
    runs = mlflow.search_runs(experiment_names=[tracking.EXPERIMENT], output_format="list")
    assert [run.info.run_id for run in runs] == [store.facts["ingest"]["mlflow_run"]]
    run = runs[0]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny"
    assert run.data.params["trial.batches"] == "3"
    assert run.data.params["seed"] == "0"
    kinds = store.facts["trial"]["kinds"]
    assert run.data.metrics["plan/oracle/realised_cost"] == kinds["oracle"]["realised_cost"]
    errors = store.facts["train"]["estimators"]
    assert run.data.metrics["forecast/last_two/mae_s"] == errors["last_two"]["mae_s"]
    files = [f.path for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)]
    assert {"report.html", "plan.html"} <= set(files)


def test_plan_metrics_hang_on_the_model_and_the_data(store: SmallRun) -> None:
    """Nobody could say which model, judged on which jobs, made the plans so cheap."""
    logged = mlflow.get_logged_model(store.facts["train"]["model_id"])
    jobs = read_jobs(store.path("jobs"))
    test = jobs[jobs["submit_s"] >= store.facts["train"]["test_from_s"]].reset_index(drop=True)
    digest = data_digest(test)[:12]
    found: dict[str, Any] = {metric.key: metric for metric in logged.metrics}
    kinds = store.facts["trial"]["kinds"]
    for kind in ("model_p50", "model_p90"):
        for key in ("realised_cost", "regret"):
            metric = found[f"plan/{kind}/{key}"]
            assert metric.value == pytest.approx(kinds[kind][key])
            assert (metric.dataset_name, metric.dataset_digest) == ("tiny-test", digest)
            assert metric.run_id == store.facts["ingest"]["mlflow_run"]
    forecast = found["forecast/model/mae_s"]
    assert forecast.value == pytest.approx(store.facts["train"]["estimators"]["model"]["mae_s"])
    assert forecast.dataset_digest == digest
    assert not any("oracle" in key or "last_two" in key for key in found)


def test_the_logged_model_forecasts_as_the_saved_one(store: SmallRun) -> None:
    """What MLflow serves would be another model than the one that was judged."""
    served = mlflow.pyfunc.load_model(f"models:/{store.facts['train']['model_id']}")
    saved = RuntimePredictor.load(store.path("model"))
    jobs = read_jobs(store.path("jobs")).tail(50).reset_index(drop=True)
    names = served.metadata.get_input_schema().input_names()
    assert "run_s" not in names
    found = served.predict(jobs[names])
    assert list(found.columns) == ["p10", "p50", "p80", "p90", "p95"]
    np.testing.assert_array_equal(found.to_numpy(), saved.predict_quantiles(jobs))
    assert served.metadata.get_output_schema().input_names() == list(found.columns)


def test_nothing_of_the_logged_model_is_pickled(store: SmallRun) -> None:
    """A pickle runs whatever it holds, and breaks with the next version of a library."""
    artefacts = store.home / "data/mlflow/artifacts"
    names = {path.name for path in artefacts.rglob("*") if path.is_file()}
    assert {"card.json", "history.parquet"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))]


def test_the_store_is_absolute_and_quoted(store: SmallRun, monkeypatch: Any) -> None:
    """The store would follow a change of directory, and its command break at a space."""
    uri = tracking.store_uri()
    monkeypatch.chdir("/")
    assert uri == f"sqlite:///{store.home / 'data/mlflow/mlflow.db'}"
    assert store.facts["mlflow"] == f"mlflow ui --backend-store-uri '{uri}'"


def test_a_run_that_the_store_does_not_know_is_refused(store: SmallRun) -> None:
    """A stage after the store was deleted would end in a traceback of MLflow's."""
    with (
        pytest.raises(BadRequest, match="there is no run 0123; begin again with the ingest stage"),
        tracking.continued("0123"),
    ):
        pytest.fail("a run that does not exist was continued")


def test_a_damaged_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run would end in pages of SQL."""
    (tmp_path / "data/mlflow").mkdir(parents=True)
    (tmp_path / "data/mlflow/mlflow.db").write_bytes(b"no database" * 100)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BadRequest, match=r"^data/mlflow/mlflow\.db: MLflow cannot use it \(.*\); repair"
    ):
        tracking.open_run("x", {})


def test_a_failing_stage_marks_the_run_as_failed(store: SmallRun) -> None:
    """A half-done run would look like a finished one."""
    run_id = tracking.open_run("broken", {"seed": 1})
    with pytest.raises(ValueError, match="broken"), tracking.continued(run_id):
        raise ValueError("broken")
    assert mlflow.get_run(run_id).info.status == "FAILED"
    mlflow.delete_run(run_id)
