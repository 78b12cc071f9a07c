"""From a model to estimates for each machine class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.bridge import estimates_by_class
from plancast.pipelines.cli import main
from plancast.pipelines.inputs.forecast import forecast_by_class, forecast_tasks, machine_classes
from plancast.planner.model.domain import ANY_CLASS, Running, Task
from plancast.predictor import RuntimePredictor, canonical, read_log
from tests.conftest import ROOT

COLUMNS = ROOT / "data" / "columns"
TREES = {"n_estimators": 200, "min_child_samples": 20}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a log on which ``slow`` machines take four times as long as ``fast`` ones."""
    rng = np.random.default_rng(0)
    n = 600
    slow = rng.random(n) < 0.5
    run = 100.0 * np.where(slow, 4.0, 1.0) * np.exp(rng.normal(0, 0.1, n))
    log = canonical(
        pd.DataFrame(
            {
                "job_id": [f"j{i}" for i in range(n)],
                "submit_s": 1000.0 * np.arange(n),
                "start_s": 1000.0 * np.arange(n),
                "run_s": run,
                "cpus": 1.0,
                "user": "ann",
                "app": "align",
                "partition": np.where(slow, "slow", "fast"),
                "outcome": "completed",
            }
        )
    )
    folder = tmp_path_factory.mktemp("model") / "runtime"
    RuntimePredictor(trees=TREES).fit(log).save(folder)
    return folder


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two tasks that name neither a partition nor a time."""
    path = tmp_path / "tasks.csv"
    path.write_text("id,cpus,user,app\na,1,ann,align\nb,1,ann,align\n")
    return path


def write_cluster(folder: Path, *classes: str) -> Path:
    """A cluster file with one worker of each class."""
    path = folder / "cluster.yaml"
    rows = [f"- {{id: w-{c}, cpus: 1, machine_class: {c}}}" for c in classes]
    path.write_text("workers:\n" + "\n".join(rows) + "\n")
    return path


def test_a_known_class_gets_an_estimate_of_its_own(model_folder: Path, tasks: Path) -> None:
    """The planner could not tell that a task runs longer on a slow machine."""
    found = forecast_tasks(tasks, model_folder, classes=["slow", "fast", "slow"])
    for task in ("a", "b"):
        assert set(found[task]) == {"slow", "fast"}
        ratio = found[task]["slow"].at(0.5) / found[task]["fast"].at(0.5)
        assert 3 < ratio < 5, ratio


def test_an_unknown_class_gets_the_estimate_for_any(model_folder: Path, tasks: Path) -> None:
    """Machines that the log never saw would be eligible for no task."""
    assert set(forecast_tasks(tasks, model_folder)["a"]) == {ANY_CLASS}
    assert set(forecast_tasks(tasks, model_folder, classes=["new"])["a"]) == {ANY_CLASS}
    assert set(forecast_tasks(tasks, model_folder, classes=["new", "fast"])["a"]) == {
        "fast",
        ANY_CLASS,
    }


def test_tasks_without_a_time_are_forecast_from_all_that_is_known(
    model_folder: Path, tasks: Path
) -> None:
    """A task file without submission times would be refused, or forecast without a history."""
    model = RuntimePredictor.load(model_folder)
    late = forecast_tasks(tasks, model_folder, now_s=model.history.known_until_s)
    assert forecast_tasks(tasks, model_folder) == late


def test_tasks_are_told_apart_by_what_they_run(tmp_path: Path) -> None:
    """A task file's directories and command lines would not reach the model."""
    rng = np.random.default_rng(0)
    long = rng.random(600) < 0.5
    log = pd.DataFrame(
        {
            "job_id": [f"j{i}" for i in range(600)],
            "submit_s": 1000.0 * np.arange(600),
            "start_s": 1000.0 * np.arange(600),
            "run_s": np.where(long, 400.0, 100.0) * np.exp(rng.normal(0, 0.1, 600)),
            "cpus": 1.0,
            "user": "ann",
            "work_dir": [f"/home/ann/{'long' if x else 'short'}/{i}" for i, x in enumerate(long)],
            "submit_line": [f"sbatch job.sh {i}" for i in range(600)],
        }
    )
    model = RuntimePredictor(trees=TREES).fit(log)
    path = tmp_path / "tasks.csv"
    path.write_text(
        "id,user,work_dir,submit_line\na,ann,/home/ann/long/7,sbatch job.sh 7\n"
        "b,ann,/home/ann/short/8,sbatch job.sh 8\n"
    )
    found = forecast_tasks(path, model)
    middle = [found[name][ANY_CLASS].at(0.5) for name in "ab"]
    assert middle == pytest.approx([400, 100], rel=0.2)


def test_a_running_task_is_estimated_given_how_long_it_has_run(
    model_folder: Path, tasks: Path
) -> None:
    """The planner would condition by a formula of its own what the model has calibrated."""
    model = RuntimePredictor.load(model_folder)
    now = int(model.history.known_until_s) + 10_000
    task = Task(id="r", demand={"cpu": 1000}, owner="ann", app="align", release_s=now - 500)
    running = [Running(task, ("w-slow",), now - 250)]
    found = forecast_tasks(tasks, model_folder, now_s=now, running=running)["r"][ANY_CLASS]
    assert found.seconds[0] > 250
    job = {"submit_s": float(now - 500), "user": "ann", "app": "align", "cpus": 1.0}
    left = model.remaining_quantiles(job, 250.0, now)
    for level, seconds in zip(model.levels, left, strict=True):
        # One second for rounding up; the planner adds no condition of its own.
        assert abs(found.remaining_at(level, 250) - max(seconds, 1.0)) <= 1.5
    whole = forecast_tasks(tasks, model_folder, running=running)["r"][ANY_CLASS]
    assert whole.seconds[0] < 250


def test_rounding_keeps_classes_apart() -> None:
    """One class's seconds would be told for another."""
    found = estimates_by_class(
        ["a", "b"],
        {"x": np.array([[0.2, 1.5], [2.0, 3.0]]), "*": np.array([[7.0, 8.0], [9.0, 9.1]])},
        (0.5, 0.9),
        "me",
    )
    assert found["a"]["x"].seconds == (1, 2)
    assert found["b"]["x"].seconds == (2, 3)
    assert found["a"]["*"].seconds == (7, 8)
    assert found["b"]["*"].seconds == (9, 10)


def test_what_is_not_promised_is_not_estimated() -> None:
    """An infinite quantile would become a nonsensical number of seconds."""
    found = estimates_by_class(
        ["a", "b"],
        {"x": np.array([[3.0, np.inf], [np.inf, np.inf]]), "y": np.array([[1.0, 2.0]] * 2)},
        (0.5, 0.9),
        "me",
    )
    assert (found["a"]["x"].levels, found["a"]["x"].seconds) == ((0.5,), (3,))
    assert set(found["b"]) == {"y"}


def test_plan_and_predict_take_the_classes_of_the_cluster(
    model_folder: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line would plan as if all machines were equal."""
    cluster = write_cluster(tmp_path, "slow", "fast")
    common = ["--model", str(model_folder), "--cluster", str(cluster)]
    out = tmp_path / "plan.json"
    with pytest.raises(SystemExit) as left:
        main(["plan", "--tasks", str(tasks), *common, "--solver", "greedy", "-o", str(out)])
    assert left.value.code == 0
    made = json.loads(out.read_text())["plan"]["assignments"]
    # Both in turn on the fast machine (200 s) beat one on the slow one (400 s).
    assert [a["workers"] for a in made] == [["w-fast"], ["w-fast"]]
    estimates = tmp_path / "estimates.csv"
    with pytest.raises(SystemExit) as left:
        main(["predict", str(tasks), *common, "-o", str(estimates)])
    assert left.value.code == 0
    assert set(pd.read_csv(estimates)["machine_class"]) == {"slow", "fast"}


def test_estimates_of_a_cluster_are_those_that_a_plan_with_the_model_takes(
    model_folder: Path, tasks: Path, tmp_path: Path
) -> None:
    """Where something runs, ``plan --estimates`` refused what ``predict`` had written."""
    cluster = write_cluster(tmp_path, "slow", "fast")
    with cluster.open("a") as file:
        run = "{id: r, cpus: 1, owner: ann, workers: [w-slow], start_s: 40, requested_s: 900}"
        file.write(f"\nnow_s: 100\nrunning: [{run}]\n")
    common = ["--cluster", str(cluster)]
    estimates, requests = tmp_path / "estimates.json", [tmp_path / "a.json", tmp_path / "b.json"]
    asked = ["predict", str(tasks), "--model", str(model_folder), *common, "-o", str(estimates)]
    plain = ["plan", str(tasks), *common, "--solver", "greedy", "--save-request"]
    for words in (
        asked,
        [*plain, str(requests[0]), "--estimates", str(estimates)],
        [*plain, str(requests[1]), "--model", str(model_folder), "--source", "model"],
    ):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
    found = [json.loads(path.read_text())["estimates"] for path in requests]
    assert found[0] == found[1]
    assert set(found[0]) >= {"r"}


def lotaru(shared_data: Callable[[str], Path]) -> tuple[Any, Any]:
    """Four fifths of the Lotaru tasks to learn from, and the rest."""
    jobs = read_log(
        shared_data("tasks/nextflow-lotaru.csv.gz"), columns=COLUMNS / "nextflow-lotaru.yaml"
    )
    jobs["job_id"] = [str(row) for row in range(len(jobs))]
    held = np.arange(len(jobs)) % 5 == 0
    return jobs[~held], jobs[held].assign(submit_s=float(jobs["end_s"].max()))


def test_lotaru_machines_are_told_apart(shared_data: Callable[[str], Path]) -> None:
    """On a real log of seven machine types the estimates by class would be worth nothing."""
    train, test = lotaru(shared_data)
    model = RuntimePredictor(trees={"n_estimators": 60}).fit(train)
    classes = machine_classes(model)
    assert len(classes) == 7
    found = forecast_by_class(model, test, classes)
    by_class = np.array(
        [[np.log2(found[job][c].at(0.5)) for c in classes] for job in test["job_id"]]
    )
    truth = np.log2(train["run_s"]).groupby(train["partition"]).mean().reindex(classes)
    assert np.corrcoef(by_class.mean(axis=0), truth)[0, 1] > 0.9
    own = by_class[np.arange(len(test)), [classes.index(c) for c in test["partition"]]]
    error = float(np.median(np.abs(own - np.log2(test["run_s"]))))
    # Forecasting each task on the next machine type instead must be worse.
    other = np.roll(by_class, 1, axis=1)[
        np.arange(len(test)), [classes.index(c) for c in test["partition"]]
    ]
    mistaken = float(np.median(np.abs(other - np.log2(test["run_s"]))))
    assert error < 0.5
    assert mistaken > error
