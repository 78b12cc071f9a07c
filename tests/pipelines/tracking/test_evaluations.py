"""A walk-forward evaluation and what MLflow keeps of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.tracking.evaluations import track_evaluation
from plancast.pipelines.tracking.headline import MOST_METRICS
from plancast.pipelines.tracking.store import store_uri
from plancast.predictor import RuntimePredictor
from plancast.predictor.evaluation import evaluate_log
from plancast.predictor.model_files import data_digest
from tests.oracles.toy_logs import toy_log


def test_an_evaluation_is_a_run_with_its_model(store_here: Path) -> None:
    """What the command prints would not be what MLflow compares, or the model be another."""
    import mlflow

    jobs = toy_log(700)
    jobs.attrs["source"] = "toy.swf.gz"
    report, walk = evaluate_log(jobs, (0.5, 0.9), refit_s=30 * 86400.0)
    report = {"log": "toy.swf.gz", **report}
    logged = track_evaluation(report, walk, {"refit": "30d"})

    client = mlflow.MlflowClient(store_uri())
    run = client.get_run(logged.run_id)
    experiment = [run.info.experiment_id]
    children = {
        child.info.run_name: child
        for child in client.search_runs(
            experiment, f"tags.`mlflow.parentRunId` = '{logged.run_id}'"
        )
    }
    for name, found in report["estimators"].items():
        metrics = children[name].data.metrics
        assert metrics["median_abs_log2"] == found["median_abs_log2"]
        assert metrics["coverage/0.9"] == found["coverage"]["0.9"]
        assert len(metrics) <= MOST_METRICS
    assert run.data.tags["data_digest"] == data_digest(walk.jobs)
    months = client.get_metric_history(children["model"].info.run_id, "by_month/jobs")
    assert sum(point.value for point in months) == report["evaluated"]
    figures = {Path(a.path).stem for a in client.list_artifacts(logged.run_id, "figures")}
    assert figures == {"reliability", "pinball", "error_by_run_time", "importances"}
    kept = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/evaluation.json")
    assert json.loads(kept) == json.loads(json.dumps(report))

    assert (logged.version, logged.champion) == ("1", "1")
    loaded = mlflow.pyfunc.load_model("models:/runtime-toy@challenger")
    known = jobs.drop(columns=["start_s", "end_s", "run_s", "outcome"]).tail(5)
    wanted = RuntimePredictor.of_walk(walk).predict_quantiles(known)
    np.testing.assert_allclose(loaded.predict(known).to_numpy(), wanted)


@pytest.mark.slow
def test_a_second_evaluation_does_not_move_the_champion(
    store_here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A model would plan because it forecasts well, without any plan having been judged."""
    report, walk = evaluate_log(toy_log(500), (0.5,), refit_s=30 * 86400.0)
    first, second = (track_evaluation({"log": "toy", **report}, walk, {}) for _ in range(2))
    assert first.champion == second.champion == "1"
    assert second.version == "2"
    assert "Successfully" not in capfd.readouterr().err
