"""Whatever is wrong with what a user gives: one sentence that names it, nothing half-written."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.cli import main
from plancast.planner.instances.generate import generate_log, swf_text
from plancast.predictor import RuntimePredictor
from plancast.predictor.model_files import digest_of_card
from tests.oracles.toy_logs import toy_log

LOG = swf_text(generate_log(60, 4, 16, 0))
TASKS = "id,cpus,requested_s,after,deadline_s,requires\na,1,30,,,\nb,2,40,a,,\n"
CLUSTER = "workers:\n  - {id: w0, cpus: 4, labels: [ssd]}\n  - {id: w1, cpus: 8}\n"
ESTIMATES = "task,machine_class,level,seconds\na,*,0.5,30\nb,*,0.5,40\n"

Arguments = list[str]
Prepare = Callable[[Path], Arguments]
CASES: dict[str, tuple[Prepare, tuple[str, ...]]] = {}
"""What is wrong: how it comes to be, giving the command; and what the sentence must name."""


def case(*needles: str) -> Callable[[Prepare], Prepare]:
    """Register a case by the name of the function that prepares it."""

    def register(prepare: Prepare) -> Prepare:
        CASES[prepare.__name__.lstrip("_")] = (prepare, needles)
        return prepare

    return register


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


PLAN = [
    "plan", "--tasks", "tasks.csv", "--cluster", "cluster.yaml", "--solver", "greedy", "-o",
    "out.json", "--gantt", "out.html",
]  # fmt: skip
PREDICT = ["predict", "tasks.csv", "--model", "model", "-o", "out.csv"]


def snapshot_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --------------------------------------------------------------------------- logs


@case("log.swf.gz", "cut short")
def _a_truncated_gzip_log(home: Path) -> Arguments:
    packed = gzip.compress(LOG.encode())
    (home / "log.swf.gz").write_bytes(packed[: len(packed) // 2])
    return ["ingest", "log.swf.gz", "-o", "out.parquet"]


@case("log.swf", "line 20", "'many'")
def _a_log_with_a_text_in_a_number_column(home: Path) -> Arguments:
    lines = LOG.splitlines()
    words = lines[19].split()
    lines[19] = " ".join([*words[:4], "many", *words[5:]])
    (home / "log.swf").write_text("\n".join(lines))
    return ["ingest", "log.swf", "--strict", "-o", "out.parquet"]


@case("log.csv", "row 2", "submit_s", "'soon'")
def _a_table_with_a_text_in_a_number_column(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit_s,run_s\n1,2\nsoon,4\n")
    return ["ingest", "log.csv", "--strict", "-o", "out.parquet"]


@case("log.csv", "row 2", "submit_s", "'soon'", "1 of 2 rows", "--max-bad")
def _a_table_with_more_bad_rows_than_allowed(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit_s,run_s\n1,2\nsoon,4\n")
    return ["ingest", "log.csv", "--max-bad", "0.2", "-o", "out.parquet"]


@case("nothing.swf", "there is no such file")
def _a_missing_log(home: Path) -> Arguments:
    return ["ingest", "nothing.swf", "-o", "out.parquet"]


@case("folder", "irectory")
def _a_folder_for_a_log(home: Path) -> Arguments:
    return ["ingest", "folder", "-o", "out.parquet"]


@case("'psv'", "swf, sacct, pbs, wfformat, table")
def _an_unknown_format(home: Path) -> Arguments:
    return ["ingest", "log.swf", "--format", "psv", "-o", "out.parquet"]


@case("map.yaml", "columns.submit_s", "when")
def _a_column_map_that_names_no_column(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit,run\n1,2\n")
    (home / "map.yaml").write_text("columns: {submit_s: when}")
    return ["ingest", "log.csv", "--columns", "map.yaml", "-o", "out.parquet"]


@case("log.swf", "plancast ingest")
def _a_log_that_was_not_ingested(home: Path) -> Arguments:
    return ["train", "log.swf", "-o", "out"]


@case("--levels", "'.9,.5'", "rise")
def _levels_that_do_not_rise(home: Path) -> Arguments:
    return ["train", "log.swf", "--levels", ".9,.5", "-o", "out"]


@case("--levels", "'high'", "numbers")
def _levels_that_are_no_numbers(home: Path) -> Arguments:
    return ["train", "log.swf", "--levels", "high", "-o", "out"]


@case("--levels", "'.5,1'", "(0, 1)")
def _a_level_of_one(home: Path) -> Arguments:
    return ["train", "log.swf", "--levels", ".5,1", "-o", "out"]


# --------------------------------------------------------------------------- models


@case("model: card.json is missing", "train")
def _a_model_without_its_card(home: Path) -> Arguments:
    (home / "model/card.json").unlink()
    return PREDICT


@case("model: card.json is no JSON", "train")
def _a_model_with_half_a_card(home: Path) -> Arguments:
    card = home / "model/card.json"
    card.write_text(card.read_text()[:200])
    return PREDICT


@case("model: card.json is not of format", "train")
def _a_model_of_another_format(home: Path) -> Arguments:
    card = home / "model/card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "format": 99}))
    return PREDICT


@case("model: history.parquet is missing", "train")
def _a_model_without_its_history(home: Path) -> Arguments:
    (home / "model/history.parquet").unlink()
    return PREDICT


@case("model: level-0.9.txt is not the file", "train")
def _a_model_with_changed_trees(home: Path) -> Arguments:
    trees = home / "model/level-0.9.txt"
    trees.write_text(trees.read_text().replace("0", "1", 1))
    return PREDICT


@case("model: card.json was changed after training", "train")
def _a_model_with_a_changed_card(home: Path) -> Arguments:
    card = home / "model/card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "settings": {}}))
    return PREDICT


@case("model: card.json does not fit", "train")
def _a_model_whose_card_lacks_its_settings(home: Path) -> Arguments:
    card = home / "model/card.json"
    lacking = {**json.loads(card.read_text()), "settings": {}}
    card.write_text(json.dumps({**lacking, "card_sha256": digest_of_card(lacking)}))
    return PREDICT


@case("nothing is no folder")
def _a_missing_model(home: Path) -> Arguments:
    return [*PLAN, "--model", "nothing"]


@case("tasks.csv is no folder")
def _a_file_for_a_model(home: Path) -> Arguments:
    return [*PLAN, "--model", "tasks.csv"]


@case("folder: card.json is missing")
def _an_empty_model_folder(home: Path) -> Arguments:
    return [*PLAN, "--model", "folder"]


# --------------------------------------------------------------------------- tasks


@case("tasks.csv", "precedence has a cycle", "a -> b -> a", "remove one 'after'")
def _a_cycle_in_precedence(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,after\na,b\nb,a\n")
    return PLAN


@case("tasks.csv", "row 2", "deadline_s 5 lies before release_s 9")
def _a_deadline_before_release(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,release_s,deadline_s\na,,\nb,9,5\n")
    return PLAN


@case("tasks.csv", "row 1", "cpus", "'two'")
def _a_text_for_cores(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,cpus\na,two\n")
    return PLAN


@case("tasks.csv", "unknown column 'deadline'", "'deadline_s'")
def _a_misspelt_column(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,deadline\na,5\n")
    return PLAN


@case("tasks.csv", "row 2", "in row 1 already")
def _a_task_twice(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id\na\na\n")
    return PLAN


@case("tasks.csv", "row 1", "follows 'z', which is no task")
def _an_unknown_predecessor(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,after\na,z\n")
    return PLAN


@case("tasks.csv", "row 1", "release_s", "too large")
def _a_time_beyond_all_clocks(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,release_s,requested_s\na,1e25,5\n")
    return PLAN


@case("tasks.csv", "row 1", "mem_mib", "too large")
def _an_amount_beyond_all_machines(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,mem_mib,requested_s\na,1e25,5\n")
    return PLAN


@case("tasks.csv", "is empty")
def _an_empty_task_file(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("")
    return PLAN


@case("tasks.csv", "is not UTF-8 text")
def _a_task_file_in_another_encoding(home: Path) -> Arguments:
    (home / "tasks.csv").write_bytes("id\nmüller\n".encode("latin-1"))
    return PLAN


@case("tasks.csv.gz", "truncated gzip")
def _a_truncated_gzip_of_tasks(home: Path) -> Arguments:
    (home / "tasks.csv.gz").write_bytes(gzip.compress(TASKS.encode())[:-12])
    return ["tasks.csv.gz" if word == "tasks.csv" else word for word in PLAN]


@case("tasks.txt", "no known suffix", ".csv")
def _a_task_file_of_another_kind(home: Path) -> Arguments:
    (home / "tasks.txt").write_text(TASKS)
    return ["tasks.txt" if word == "tasks.csv" else word for word in PLAN]


@case("nothing.csv", "there is no such file")
def _a_missing_task_file(home: Path) -> Arguments:
    return ["nothing.csv" if word == "tasks.csv" else word for word in PLAN]


# --------------------------------------------------------------------------- clusters, policies


@case("cluster.yaml", "workers", "is empty; list at least one")
def _a_cluster_without_workers(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers: []\n")
    return PLAN


@case("cluster.yaml", "must be a mapping", "workers")
def _an_empty_cluster_file(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("")
    return PLAN


@case("cluster.yaml", "workers.1.cpus", "-4 is negative", "write 0 or more")
def _a_worker_with_negative_cores(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers: [{id: a, cpus: 1}, {id: b, cpus: -4}]")
    return PLAN


@case("cluster.yaml", "workers.0.cpu", "did you mean 'cpus'?")
def _a_misspelt_field_of_a_worker(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers: [{id: a, cpu: 1}]")
    return PLAN


@case("cluster.yaml", "line 2", "is not YAML")
def _a_cluster_that_is_no_yaml(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers:\n - {id: a, cpus: [}\n")
    return PLAN


@case("cluster.yaml", "running.0", "'w9' is no worker")
def _a_task_that_runs_on_no_worker(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(
        CLUSTER + "running: [{id: r, workers: [w9], start_s: 0, requested_s: 5}]"
    )
    return PLAN


@case("tasks.csv", "running task r has no estimate")
def _a_running_task_without_an_estimate(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(CLUSTER + "running: [{id: r, workers: [w0], start_s: 0}]\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("tasks.csv", "cluster.yaml", "task a is listed twice")
def _a_task_that_waits_and_runs(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(
        CLUSTER + "running: [{id: a, workers: [w0], start_s: 0, requested_s: 5}]"
    )
    return PLAN


@case("cluster.yaml", "start_s 9 lies after now_s 5")
def _a_task_that_runs_from_the_future_on(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(
        CLUSTER + "now_s: 5\nrunning: [{id: r, workers: [w0], start_s: 9, requested_s: 5}]"
    )
    return PLAN


@case("folder", "is a directory")
def _a_folder_for_a_cluster(home: Path) -> Arguments:
    return ["folder" if word == "cluster.yaml" else word for word in PLAN]


@case("policy.yaml", "prices.late", "did you mean 'late_h'?")
def _a_misspelt_price(home: Path) -> Arguments:
    (home / "policy.yaml").write_text("prices: {late: 3}")
    return [*PLAN, "--policy", "policy.yaml"]


@case("policy.yaml", "price of kwh is -1.0", "from 0 to")
def _a_negative_price(home: Path) -> Arguments:
    (home / "policy.yaml").write_text("prices: {kwh: -1}")
    return [*PLAN, "--policy", "policy.yaml"]


@case("policy.yaml", "level", "must be less than 1 (it is 80")
def _a_level_in_per_cent(home: Path) -> Arguments:
    (home / "policy.yaml").write_text("level: 80")
    return [*PLAN, "--policy", "policy.yaml"]


# --------------------------------------------------------------------------- estimates


@case("estimates.csv", "row 2", "seconds", "is empty")
def _an_estimate_without_seconds(home: Path) -> Arguments:
    (home / "estimates.csv").write_text("task,level,seconds\na,0.5,3\nb,0.5,\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("estimates.csv", "task a", "non-decreasing")
def _estimates_that_fall_with_the_level(home: Path) -> Arguments:
    (home / "estimates.csv").write_text("task,level,seconds\na,0.5,30\na,0.9,20\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("estimates.csv", "has no column 'level'")
def _estimates_without_levels(home: Path) -> Arguments:
    (home / "estimates.csv").write_text("task,seconds\na,3\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("estimates.parquet", "is not a Parquet file")
def _estimates_that_are_no_parquet(home: Path) -> Arguments:
    (home / "estimates.parquet").write_text(ESTIMATES)
    return [*PLAN, "--estimates", "estimates.parquet"]


@case("--model or --estimates, not both")
def _a_model_and_estimates(home: Path) -> Arguments:
    return [*PLAN, "--model", "model", "--estimates", "estimates.csv"]


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
