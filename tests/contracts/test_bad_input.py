"""Whatever is wrong with what a user gives: one sentence that names it, nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.cli import main
from plancast.predictor import RuntimePredictor
from tests.contracts import bad_files  # noqa: F401 - registers its cases
from tests.contracts.bad_input import (
    CASES,
    CLUSTER,
    ESTIMATES,
    LOG,
    PLAN,
    PREDICT,
    TASKS,
    Arguments,
    case,
)
from tests.oracles.toy_logs import toy_log


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one sound model."""
    home = tmp_path_factory.mktemp("models")
    RuntimePredictor((0.5, 0.9), trees={"n_estimators": 5}).fit(toy_log(120)).save(home / "m")
    return home


@pytest.fixture
def home(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with sound inputs of every kind, as the current directory."""
    (tmp_path / "log.swf").write_text(LOG)
    (tmp_path / "tasks.csv").write_text(TASKS)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "estimates.csv").write_text(ESTIMATES)
    (tmp_path / "policy.yaml").write_text("level: 0.5\n")
    (tmp_path / "folder").mkdir()
    shutil.copytree(models / "m", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snapshot_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --------------------------------------------------------------------------- requests


def _request(home: Path, change: Callable[[Any], object]) -> Arguments:
    """The command for a request with something changed."""
    body: dict[str, Any] = {
        "request_id": "q",
        "snapshot": {
            "version": 0,
            "now_s": 0,
            "workers": [{"id": "w", "capacity": {"cpu": 1000}}],
            "pending": [{"id": "a", "demand": {"cpu": 500}}],
        },
        "estimates": {"a": {"*": {"levels": [0.5], "seconds": [5]}}},
    }
    change(body)
    (home / "request.json").write_text(json.dumps(body))
    return ["plan", "request.json", "--solver", "greedy", "-o", "out.json"]


@case("request.json", "snapshot: the cluster has no workers")
def _a_request_without_workers(home: Path) -> Arguments:
    return _request(home, lambda b: b["snapshot"].update(workers=[]))


@case("request.json", "snapshot.pending.0.colour")
def _a_request_with_an_unknown_field(home: Path) -> Arguments:
    return _request(home, lambda b: b["snapshot"]["pending"][0].update(colour="red"))


@case("request.json", "snapshot.pending.0.demand.cpu", "whole number", "'half'")
def _a_request_with_a_text_for_a_number(home: Path) -> Arguments:
    return _request(home, lambda b: b["snapshot"]["pending"][0].update(demand={"cpu": "half"}))


@case("request.json", "policy", "level is 1.5")
def _a_request_with_a_bad_level(home: Path) -> Arguments:
    return _request(home, lambda b: b.update(policy={"level": 1.5}))


@case("request.json", "budget", "steps is -1")
def _a_request_with_a_negative_budget(home: Path) -> Arguments:
    return _request(home, lambda b: b.update(budget={"seconds": None, "steps": -1}))


@case("request.json", "estimates.a.*", "as many of one as of the other")
def _a_request_with_half_an_estimate(home: Path) -> Arguments:
    return _request(home, lambda b: b["estimates"]["a"]["*"].update(seconds=[]))


@case("request.json", "schema_version is 7")
def _a_request_of_another_version(home: Path) -> Arguments:
    return _request(home, lambda b: b.update(schema_version=7))


@case("request.json", "is not JSON")
def _half_a_request(home: Path) -> Arguments:
    arguments = _request(home, lambda b: None)
    text = (home / "request.json").read_text()
    (home / "request.json").write_text(text[: len(text) // 2])
    return arguments


@case("--tasks", "request.json")
def _a_request_and_tasks(home: Path) -> Arguments:
    return [*_request(home, lambda b: None), "--tasks", "tasks.csv"]


@case("request.json", "snapshot.pending.0", "task a: release_s is 1", "must lie within", "of 0")
def _a_request_with_a_time_beyond_all_clocks(home: Path) -> Arguments:
    return _request(home, lambda b: b["snapshot"]["pending"][0].update(release_s=10**25))


# --------------------------------------------------------------------------- options, parameters


@case("there is no solver 'best'", "choose auto", "greedy")
def _an_unknown_solver(home: Path) -> Arguments:
    return ["best" if word == "greedy" else word for word in PLAN]


@case("--budget", "is negative; write 0 or more")
def _a_negative_budget(home: Path) -> Arguments:
    return [*PLAN, "--budget", "-1"]


@case("--budget", "'inf' is not a duration like")
def _an_endless_budget(home: Path) -> Arguments:
    return [*PLAN, "--budget", "inf"]


@case("plancast plan", "--speed")
def _an_unknown_option(home: Path) -> Arguments:
    return [*PLAN, "--speed", "9"]


@case("plancast", "'plann'")
def _an_unknown_command(home: Path) -> Arguments:
    return ["plann"]


@case("--tasks and --cluster")
def _nothing_to_plan(home: Path) -> Arguments:
    return ["plan", "--tasks", "tasks.csv"]


@case("plancast generate log", "--procs")
def _a_machine_of_one_processor(home: Path) -> Arguments:
    return ["generate", "log", "--procs", "1", "-o", "out.swf"]


@case("params.yaml", "trial.batchs", "did you mean 'batches'?")
def _a_misspelt_parameter(home: Path) -> Arguments:
    (home / "params.yaml").write_text("trial: {batchs: 3}")
    return ["run"]


@case("params.yaml", "train.levels.0", "must be more than 0")
def _a_parameter_out_of_range(home: Path) -> Arguments:
    (home / "params.yaml").write_text("train: {levels: [0]}")
    return ["run"]


@case("params.yaml", "line 1", "is not YAML")
def _parameters_that_are_no_yaml(home: Path) -> Arguments:
    (home / "params.yaml").write_text("trial: }")
    return ["run"]


@case("other.yaml", "there is no such file")
def _missing_parameters(home: Path) -> Arguments:
    return ["run", "--params", "other.yaml"]


@case("nothing.yaml", "there is no such file")
def _a_missing_policy_of_a_run(home: Path) -> Arguments:
    (home / "params.yaml").write_text("policy: nothing.yaml")
    return ["run"]


@case("nothing.swf", "there is no such file")
def _a_missing_log_of_a_run(home: Path) -> Arguments:
    return ["run", "--log", "nothing.swf"]


@case("--level", "less than 1")
def _a_trial_at_an_impossible_level(home: Path) -> Arguments:
    return ["trial", "jobs.parquet", "--level", "2"]


@case("data/interim/generated/ingest.json", "run the earlier stages")
def _a_report_of_nothing(home: Path) -> Arguments:
    return ["report"]


# --------------------------------------------------------------------------- outputs


@case("folder", "irectory")
def _a_folder_for_an_output(home: Path) -> Arguments:
    return ["ingest", "log.swf", "-o", "folder"]


@case("folder", "irectory")
def _a_folder_for_a_generated_log(home: Path) -> Arguments:
    return ["generate", "log", "--jobs", "20", "-o", "folder"]


@case("tasks.csv")
def _an_output_below_a_file(home: Path) -> Arguments:
    return ["ingest", "log.swf", "-o", "tasks.csv/jobs.parquet"]


@case("tasks.csv/x.swf")
def _a_generated_log_below_a_file(home: Path) -> Arguments:
    return ["generate", "log", "--jobs", "20", "-o", "tasks.csv/x.swf"]


@case("out.txt", "no known suffix")
def _an_output_of_another_kind(home: Path) -> Arguments:
    return [*PREDICT[:-1], "out.txt"]


# --------------------------------------------------------------------------- the proof


def refused(home: Path, name: str, call: Callable[[Arguments], tuple[int, str, str]]) -> None:
    """Prepare a case, run it, and judge how it was refused."""
    prepare, needles = CASES[name]
    arguments = prepare(home)
    before = snapshot_of(home)
    code, out, err = call(arguments)
    assert code == 2, (out, err)
    assert out == ""
    assert err.startswith("plancast")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for needle in needles:
        assert needle in err
    assert snapshot_of(home) == before


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_in_one_sentence(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who gave it would get a traceback, a riddle, or a file that is wrong or half there."""

    def call(arguments: Arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        code = exit_.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    refused(home, name, call)


@pytest.mark.parametrize("name", ["a_truncated_gzip_log", "a_negative_budget", "half_a_request"])
def test_the_program_refuses_it_too(name: str, home: Path) -> None:
    """What is caught inside the tests' process might still escape from the program."""

    def call(arguments: Arguments) -> tuple[int, str, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "plancast.pipelines.cli", *arguments],
            cwd=home, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return ended.returncode, ended.stdout, ended.stderr

    refused(home, name, call)


@pytest.mark.parametrize(
    ("tasks", "estimates", "reason"),
    [
        ("id,cpus\na,1\nb,9\n", ESTIMATES, "it needs 9 cores; the largest worker it may use has 8"),
        ("id,requires\na,ssd\nb,gold\n", ESTIMATES, "it requires label 'gold'"),
        ("id\na\nb\n", "task,level,seconds\na,0.5,30\n", "it has no run-time estimate"),
        ("id,gpus\na,\nb,1\n", ESTIMATES, "it needs 1 gpu; the largest worker it may use has 0"),
        ("id,shards,cpus\na,1,1\nb,4,4\n", ESTIMATES, "its 4 shards need to run at once"),
        ("id,requires\na,\nb,ssd huge|ssd tape\n", ESTIMATES, "it requires label 'tape'"),
    ],
    ids=["no worker holds it", "unknown label", "no estimate", "no GPU", "gang", "any-of"],
)
def test_a_task_that_cannot_be_planned_does_not_stop_the_others(
    tasks: str,
    estimates: str,
    reason: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One impossible task would cost the whole batch its plan, or vanish without a word."""
    (home / "estimates.csv").write_text(estimates)
    rows = tasks.splitlines(keepends=True)
    for content, code, planned in (
        (tasks, 0, 1),
        ("".join(rows[:1] + rows[2:]), 3, 0),
    ):
        (home / "tasks.csv").write_text(content)
        with pytest.raises(SystemExit) as exit_:
            main([*PLAN, "--estimates", "estimates.csv", "--json"])
        facts = json.loads(capsys.readouterr().out)
        assert exit_.value.code == code
        assert facts["planned"] == planned
        assert list(facts["unplanned"]) == ["b"]
        assert facts["unplanned"]["b"].startswith(reason)
        response = json.loads((home / "out.json").read_text())
        assert response["unplanned"] == facts["unplanned"]
        assert (response["plan"] is None) == (code == 3)
        assert (home / "out.html").exists() == (code == 0)
        (home / "out.html").unlink(missing_ok=True)


def test_the_sound_inputs_are_accepted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Were the inputs of these tests unsound, everything would be refused for another reason."""
    for arguments in (
        PLAN,
        [*PLAN, "--estimates", "estimates.csv", "--policy", "policy.yaml"],
        [*PLAN, "--model", "model"],
        PREDICT,
        _request(home, lambda b: None),
        ["ingest", "log.swf", "-o", "jobs.parquet"],
        ["train", "jobs.parquet", "-o", "fresh", "--levels", ".5,.9"],
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0, capsys.readouterr()
