"""The verbs of ``import plancast``: what people have at hand goes in, what they want comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import plancast as pc
from plancast.planner.instances.generate import generate_log, write_swf
from plancast.planner.model.domain import DurationEstimate
from plancast.planner.model.judge_response import validate_response
from tests.conftest import ROOT

CLUSTER = {"nodes": 2, "cpus": 4, "mem": "8G"}
TASKS = pd.DataFrame(
    {
        "Job": ["T1", "T2", "T3", "T7"],
        "cores": [4, 4, 2, "500m"],
        "limit": ["2h", "01:00:00", 1800, "10 min"],
        "who": ["ann", "ann", "bob", np.nan],
        "colour": ["red", "red", "blue", "blue"],
    }
)
COLUMNS = {"id": "Job", "cpus": "cores", "requested_s": "limit", "user": "who"}


@pytest.fixture(scope="module")
def swf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated log."""
    path = tmp_path_factory.mktemp("log") / "site.swf"
    write_swf(generate_log(jobs=600, users=12, procs=32, seed=3), path)
    return path


@pytest.fixture(scope="module")
def log(swf: Path) -> pc.JobLog:
    """The same, read."""
    return pc.read_log(swf)


@pytest.fixture(scope="module")
def model(log: pc.JobLog) -> pc.RuntimePredictor:
    """A model of it."""
    return pc.train(log, levels=(0.5, 0.8, 0.9))


def test_importing_loads_nothing_heavy() -> None:
    """Whoever only looks at a name would wait for LightGBM and OR-Tools."""
    code = (
        "import sys, plancast as pc; assert {'plan', 'train'} <= set(dir(pc)); pc.plan; "
        "print([m for m in ('lightgbm', 'ortools', 'numba', 'sklearn', 'mlflow', 'pandas') "
        "if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"


def test_a_frame_with_columns_of_its_own_becomes_a_plan(tmp_path: Path) -> None:
    """Twenty lines of ceremony stood between a frame and a plan."""
    plan = pc.plan(TASKS, CLUSTER, columns=COLUMNS, budget="2s")
    assert validate_response(plan.request, plan.response) == []
    frame = plan.to_frame()
    assert sorted(frame["task"]) == ["T1", "T2", "T3", "T7"]
    by_task = frame.set_index("task")
    assert (by_task["end_s"] - by_task["start_s"])[["T1", "T2", "T3", "T7"]].tolist() == [
        7200, 3600, 1800, 600,
    ]  # fmt: skip
    assert by_task["owner"]["T3"] == "bob"
    assert str(frame["start"].dtype).endswith("UTC]")
    assert plan.cost is not None
    assert plan.greedy_cost is not None
    assert plan.gap is not None
    assert plan.cost <= plan.greedy_cost
    task = plan.request.snapshot.pending_by_id["T7"]
    assert task.demand["cpu"] == 500
    assert plan.request.budget.seconds == 2
    assert Path(str(plan.gantt(tmp_path / "p.svg"))).read_text().startswith("<svg")
    assert "<svg" in plan._repr_html_()
    assert "<svg" in plan.gantt()._repr_svg_()  # type: ignore[union-attr]


def test_ctrl_c_keeps_the_best_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook half an hour of search would be lost to a KeyboardInterrupt."""
    from plancast.planner.arrays import interruption
    from plancast.planner.planning import plan as planning

    plain, heard = planning.plan, []

    def listened(*given: Any, **more: Any) -> Any:
        heard.append(interruption.listening())
        return plain(*given, **more)

    monkeypatch.setattr(planning, "plan", listened)
    assert pc.plan(TASKS, CLUSTER, columns=COLUMNS, budget=1).cost is not None
    assert heard == [True]
    assert not interruption.listening()


def test_a_plan_is_written_as_its_ending_says(tmp_path: Path) -> None:
    """A table would have to be made of JSON by hand."""
    plan = pc.plan(TASKS, CLUSTER, columns=COLUMNS, budget=1)
    read: list[Any] = [pd.read_csv(plan.save(tmp_path / "p.csv"))]
    read.append(pd.read_parquet(plan.save(tmp_path / "p.parquet")))
    for frame in read:
        assert frame[["task", "start_s"]].equals(plan.to_frame()[["task", "start_s"]])
    assert plan.save(tmp_path / "p.json").read_text().startswith("{")
    with pytest.raises(pc.BadRequest, match=r"p\.xlsx: a plan ends in \.json, \.csv or \.parquet"):
        plan.save(tmp_path / "p.xlsx")
    with pytest.raises(pc.BadRequest, match=r"p\.jpg"):
        plan.gantt(tmp_path / "p.jpg")


def test_tasks_clusters_and_estimates_come_in_the_forms_people_have(tmp_path: Path) -> None:
    """Who has a list, a dictionary or a YAML file would have to write another form first."""
    rows = [{"id": "a", "requested_s": "1h"}, {"id": "b", "requested_s": 60, "after": ["a"]}]
    (tmp_path / "c.yaml").write_text("workers: [{id: w, cpus: 1}]\n")
    plans = [
        pc.plan(rows, {"nodes": 1, "cpus": 1}, budget=1),
        pc.plan(rows, tmp_path / "c.yaml", budget=1),
        pc.plan(rows, {"workers": [{"id": "w", "cpus": 1}]}, budget=pc.Budget(1.0)),
        pc.plan(rows, [pc.Worker("w", {"cpu": 1000})], steps=100),
        pc.plan(pd.DataFrame(rows), {"nodes": 1, "cpus": "1000m"}, budget="500ms"),
    ]
    assert {tuple(p.to_frame()["start_s"]) for p in plans} == {(0, 3600)}
    tasks = list(plans[0].request.snapshot.pending)
    sure = DurationEstimate.certain(7, "x")
    known = {"a": "2h", "b": sure}
    again = pc.plan(tasks, {"nodes": 1, "cpus": 1}, estimates=known, policy={"level": 0.9})
    assert again.to_frame()["end_s"].tolist() == [7200, 7207]
    assert again.request.policy.level == 0.9
    named = pc.plan(pd.DataFrame({"requested_s": [5]}, index=["x"]), {"nodes": 1, "cpus": 1})
    assert named.to_frame()["task"].tolist() == ["x"]
    assert pc.plan(again.request, budget=1).cost == again.cost


def test_a_task_is_explained() -> None:
    """A plan that cannot say why a task waits is not followed."""
    rows = [
        {"id": "T1", "requested_s": "2h", "weight": 5},
        {"id": "T7", "requested_s": 60, "deadline_s": 7000},
        {"id": "T8", "requested_s": 60, "cpus": 9},
        {"id": "T9", "requested_s": 60, "after": "T7"},
    ]
    plan = pc.plan(rows, {"nodes": 1, "cpus": 1}, budget=1, policy={"prices": {"wait_h": 1}})
    said = plan.explain("T1")
    assert said.startswith("T1 runs on node-0 from second 120 (in 2 min) to second 7320: 2 h")
    assert "It waits 120 s for T9 to end" in said
    assert "It is due second 7000, 116 min to spare" in plan.explain("T7")
    assert "T9 can start only after it" in plan.explain("T7")
    assert plan.explain("T8").startswith("T8 cannot be placed")
    assert "T8" in plan._repr_html_()
    with pytest.raises(pc.BadRequest, match="there is no task 't1'; did you mean 'T1'"):
        plan.explain("t1")


def test_with_a_model_its_forecasts_are_reserved(model: pc.RuntimePredictor) -> None:
    """Plans would go by the requests though there is a model."""
    rows = [{"id": "T1", "user": "3", "requested_s": 36_000, "cpus": 2}]
    plan = pc.plan(rows, {"nodes": 1, "cpus": 4}, model=model, budget=1)
    assert plan.response.estimate_source == "model"
    assert plan.response.scenarios
    assert "80% quantile of its forecast" in plan.explain("T1")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tasks": TASKS}, "unknown columns 'Job'; did you mean 'id'?, 'cores'"),
        ({"columns": {"name": "Job"}}, "columns: unknown column 'name'; did you mean 'id'"),
        ({"columns": {"id": "job"}}, "columns: id: tasks has no column 'job'; did you mean"),
        ({"cluster": {"nodes": 2}}, "cluster: workers.0.cpus: is missing; add it"),
        ({"cluster": {"cpus": 2}}, "cluster: names neither workers nor nodes"),
        ({"cluster": None}, "cluster is missing; give a YAML file"),
        ({"budget": "soon"}, "budget: 'soon' is not a duration like"),
        ({"estimates": {"T1": "long"}}, "estimates: task T1: 'long' is not a duration"),
        ({"policy": {"prices": {"late": 1}}}, "policy: prices.late: is no price; did you mean"),
        ({"solver": "magic"}, "there is no solver 'magic'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(given: dict[str, Any], sentence: str) -> None:
    """A traceback of pandas or pydantic tells a user nothing."""
    all_: dict[str, Any] = {"tasks": TASKS, "cluster": CLUSTER, "columns": COLUMNS, "budget": 1}
    if "tasks" in given:
        del all_["columns"]
    all_ |= given
    with pytest.raises(pc.BadRequest) as caught:
        pc.plan(all_.pop("tasks"), all_.pop("cluster"), **all_)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_log_shows_itself_and_its_parts_are_plain_frames(log: pc.JobLog) -> None:
    """The first look at a log would be a table of 15 columns."""
    page = log._repr_html_()
    assert "Job log site.swf" in page
    assert "600 jobs" in page
    assert type(log.head(3)) is pd.DataFrame
    assert pc.read_log(log) is log


def test_a_log_in_memory_is_read_by_its_columns() -> None:
    """A frame from a database would have to be written to a file first."""
    frame = pd.DataFrame({"when": pd.to_datetime(["2024-05-01", "2024-05-02"]), "took": [60, 90]})
    read = pc.read_log(frame, columns={"submit_s": "when"})
    assert read["run_s"].tolist() == [60, 90]
    assert read["submit_s"].tolist() == [1_714_521_600, 1_714_608_000]
    with pytest.raises(pc.BadLog, match="columns: submit_s: the table has no column 'whn'"):
        pc.read_log(frame, columns={"submit_s": "whn"})
    with pytest.raises(pc.BadLog, match="columns: submitted is no canonical column"):
        pc.read_log(frame, columns={"submitted": "when"})


def test_a_model_is_a_scikit_learn_estimator(model: pc.RuntimePredictor, log: pc.JobLog) -> None:
    """It could not be cloned, and a notebook would show nothing of it."""
    from sklearn.base import clone

    assert clone(model).get_params() == model.get_params()
    assert model.predict_quantiles(log.head(3)).shape == (3, 3)
    assert "learned from" in model._repr_html_()
    assert "has learned nothing" in clone(model)._repr_html_()


def test_replay_advice_and_evaluation_are_frames(
    log: pc.JobLog, model: pc.RuntimePredictor
) -> None:
    """Their reports would be dictionaries to dig in."""
    asked = ["requested", model, "oracle:0.5", "oracle:1"]
    replayed = pc.replay(log, dispatchers=["easy"], estimates=asked)
    # Noisy oracles are rows of their own, by which they can be told apart.
    names = ["requested", "model", "oracle:0.5", "oracle:1"]
    assert replayed.to_frame()["estimates"].tolist() == names
    assert "oracle:0.5" in replayed._repr_html_()
    assert "Replay of site" in replayed._repr_html_()
    evaluated = pc.evaluate(log, levels=(0.5, 0.9))
    assert "model" in evaluated.to_frame().index
    assert "Forecasts of site.swf" in evaluated._repr_html_()
    advice = pc.advise(log, dispatchers=[])
    assert len(advice.to_frame()) == len(advice.groups)
    assert "limits cut" in advice._repr_html_()
    with pytest.raises(pc.BadRequest, match="'30' has no unit"):
        pc.evaluate(log, refit="30")
