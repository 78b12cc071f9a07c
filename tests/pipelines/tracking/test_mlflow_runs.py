"""tracking.mlflow_runs: one run, whose plan metrics are tied to the very model and data set."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from plancast.pipelines.stages import report
from plancast.pipelines.tracking import mlflow_runs as tracking
from plancast.pipelines.tracking.headline import HEADLINE, MOST_METRICS
from plancast.pipelines.tracking.store import EXPERIMENT, STORE, store_uri, take_own
from plancast.planner.model.domain import BadRequest
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from plancast.predictor.model_files import data_digest
from tests.pipelines.conftest import SmallRun


@pytest.fixture
def store(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallRun]:
    """The small run with its MLflow store connected."""
    monkeypatch.chdir(small_run.home)
    mlflow.set_tracking_uri(take_own())
    yield small_run
    assert mlflow.active_run() is None


def runs_of(kind: str) -> list[Any]:
    """Runs with a tag ``kind``."""
    return list(
        mlflow.search_runs(
            experiment_names=[EXPERIMENT], filter_string=f"tags.kind = '{kind}'",
            output_format="list",
        )
    )  # fmt: skip


def test_a_pipeline_run_is_one_run(store: SmallRun) -> None:
    """Stages that open runs of their own would scatter one result over several."""
    runs = runs_of("pipeline")
    assert [run.info.run_id for run in runs] == [store.facts["ingest"]["mlflow_run"]]
    run = runs[0]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny"
    assert run.data.params["trial.batches"] == "3"
    assert run.data.params["seed"] == "0"
    assert "later jobs are forecast within a factor of" in run.data.tags["mlflow.note.content"]
    client = mlflow.MlflowClient()
    assert {"report.html", "plan.html"} <= {f.path for f in client.list_artifacts(run.info.run_id)}
    figures = {Path(f.path).stem for f in client.list_artifacts(run.info.run_id, "figures")}
    assert {"reliability", "ranking", "importances", "regret", "terms"} <= figures


def test_the_table_of_runs_sorts_by_the_quality_of_plans(store: SmallRun) -> None:
    """Nobody could see which estimator's plans are best without opening every run."""
    children, (parent,) = runs_of("setting"), runs_of("pipeline")
    by_name = {run.info.run_name: run for run in children}
    kinds, errors = store.facts["trial"]["kinds"], store.facts["train"]["estimators"]
    for name, kind in (("requested, once, whole", "requested"), ("oracle, once, whole", "oracle"),
                       ("model, once p50, whole", "model_p50")):  # fmt: skip
        found = by_name[name].data.metrics
        assert set(HEADLINE) <= set(found)
        assert found["plan_cost"] == pytest.approx(kinds[kind]["realised_cost"])
        assert found["regret"] == pytest.approx(kinds[kind]["regret"])
        error = errors[kind.partition("_")[0]]["median_abs_log2"]
        assert found["typical_error"] == pytest.approx(error)
    assert {run.data.tags["estimator"] for run in children} == set(errors)
    (best,) = [run for run in children if run.data.tags["best"] == "True"]
    assert {k: parent.data.metrics[k] for k in HEADLINE} == {
        k: best.data.metrics[k] for k in HEADLINE
    }
    for run in [*children, parent]:
        assert len(run.data.metrics) <= MOST_METRICS
        assert run.info.status == "FINISHED"


def test_a_second_report_replaces_the_children(store: SmallRun) -> None:
    """The table would show each setting twice after `dvc repro`."""
    before = len(runs_of("setting"))
    report.run(store.config)
    assert len(runs_of("setting")) == before


def test_two_runs_are_compared(store: SmallRun) -> None:
    """A difference would be shown the wrong way round, or of the wrong run."""
    run_id = store.facts["ingest"]["mlflow_run"]
    one, other = runs_of("setting")[:2]
    found = tracking.compare_runs(one.info.run_id, other.info.run_id[:20])
    key = "typical_error"
    values = [run.data.metrics[key] for run in (one, other)]
    assert found["metrics"][key] == {"values": values, "change": values[1] - values[0]}
    same = tracking.compare_runs(run_id, "tiny")
    assert same["params"] == {}
    assert same["children"]["requested, once, whole"]["regret"]["change"] == 0
    with pytest.raises(BadRequest, match=r"there is no run nobody; \S*mlflow ui"):
        tracking.compare_runs("nobody", run_id)


def test_the_first_model_is_champion(store: SmallRun) -> None:
    """`promote` would find no model of a log that was only ever run."""
    aliases = mlflow.MlflowClient().get_registered_model("runtime-tiny").aliases
    assert set(aliases) == {"champion", "challenger"}


def test_plan_metrics_hang_on_the_model_and_the_data(store: SmallRun) -> None:
    """Nobody could say which model, judged on which jobs, made the plans so cheap."""
    logged = mlflow.get_logged_model(store.facts["train"]["model_id"])
    jobs = read_jobs(store.path("jobs"))
    test = jobs[jobs["submit_s"] >= store.facts["train"]["test_from_s"]].reset_index(drop=True)
    digest = data_digest(test)[:12]
    found: dict[str, Any] = {metric.key: metric for metric in logged.metrics}
    of_plans = {run.info.run_id: run for run in runs_of("setting")}[found["regret"].run_id]
    assert of_plans.data.tags["estimator"] == "model"
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
    uri = store_uri()
    monkeypatch.chdir("/")
    assert uri == f"sqlite:///{store.home / 'data/mlflow/mlflow.db'}"
    assert store.facts["mlflow"].endswith(f"mlflow ui --backend-store-uri '{uri}'")


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


def test_one_process_at_a_time_makes_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two first runs in a folder one ended with a table that exists already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    held = []

    def asked(_: str) -> Any:
        with (tmp_path / STORE / "mlflow.db.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(True)
        raise mlflow.exceptions.MlflowException("enough")

    monkeypatch.setattr(mlflow, "set_tracking_uri", lambda _: None)
    monkeypatch.setattr(mlflow, "get_experiment_by_name", asked)
    with pytest.raises(BadRequest, match="enough"):
        tracking.open_run("x", {})
    assert held == [True]
