"""The command line, command by command: what it writes, prints and exits with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pytest
import typer

from plancast.pipelines import kernels
from plancast.pipelines.cli import app, running
from plancast.pipelines.inputs.estimate_files import read_estimates
from plancast.pipelines.inputs.requests import request_from_files
from plancast.pipelines.inputs.user_files import (
    read_request,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import PlanResponse, from_json, to_json
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from tests.conftest import ROOT
from tests.pipelines.cli.conftest import Run, files_of
from tests.pipelines.conftest import SmallRun

COMMANDS = (
    "generate log", "generate cluster", "generate batch", "ingest", "train", "predict", "plan",
    "init", "validate", "trial", "report", "run", "evaluate", "tune", "serve", "bench", "master",
    "backtest", "promote", "execute", "export pddl", "guide collect", "guide train",
    "advise", "eta", "doctor", "worth", "compare", "submit", "cancel", "hold", "release",
    "prioritise", "drain", "undrain", "queue", "why", "log", "status", "watch",
)  # fmt: skip


# ------------------------------------------------------------------ help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(command: str, run: Run) -> None:
    """Who asks how to use a command would get no example, or one with an option it lacks."""
    ended = run(*command.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.out).split())
    example = re.search(rf"Example: plancast ({command} .*)$", text)
    assert example, text
    for option in re.findall(r"(?<!\S)--?[a-z-]+", example[1]):
        assert f"{option} " in text.replace(",", " "), option
    assert "--json" in text


def test_every_command_is_in_the_help(run: Run) -> None:
    """A command that nobody can find might as well not be there; one untested may be broken."""
    shown = run("--help").out + run("generate", "--help").out
    shown += run("export", "--help").out + run("guide", "--help").out
    listed = set(re.findall(r"^│ (\w+) ", shown, re.MULTILINE))
    assert listed == {word for command in COMMANDS for word in command.split()}


def test_the_terminal_breaks_lines_of_help_and_not_the_source() -> None:
    """A narrow terminal would show a line, a few words, a line, a few words."""

    def helps(command: Any) -> Iterator[str]:
        yield command.help or ""
        for below in getattr(command, "commands", {}).values():
            yield from helps(below)

    found = list(helps(typer.main.get_command(app)))
    assert len(found) > len(COMMANDS)
    assert [text for text in found if "\n" in text.replace("\n\n", "")] == []


def test_no_command_at_all_shows_the_help(run: Run) -> None:
    """The first thing that a newcomer types would end in an error without a hint."""
    ended = run()
    assert ended.code == 2
    assert "Usage: plancast" in ended.out + ended.err


# ------------------------------------------------------------------ from a log to estimates


@pytest.mark.slow
def test_from_a_generated_log_to_estimates(run: Run, tmp_path: Path) -> None:
    """The way from a log to estimates would break at one of its commands."""
    log, jobs, model = tmp_path / "log.swf.gz", tmp_path / "jobs.parquet", tmp_path / "model"
    ended = run("generate", "log", "--jobs", 300, "--users", 6, "--procs", 16, "-o", log, "--json")
    assert ended.facts == {"written": [str(log)], "jobs": 300, "users": 6, "procs": 16}
    assert log.read_bytes()[:2] == b"\x1f\x8b"

    ended = run("ingest", log, "-o", jobs, "--json")
    assert (ended.code, ended.facts["rows"], ended.facts["machine_size"]) == (0, 300, 16)
    assert ended.facts["kept"] == len(read_jobs(jobs).query("run_s > 0"))
    assert f"{ended.facts['kept']:,} (" in run("ingest", log, "-o", jobs).out

    ended = run("train", jobs, "-o", model, "--levels", ".2,.5,.9", "--seed", 3, "--json")
    assert (ended.code, ended.facts["written"]) == (0, str(model))
    assert ended.facts["card"] == RuntimePredictor.load(model).card
    assert ended.facts["card"]["levels"] == [0.2, 0.5, 0.9]
    printed = run("train", jobs, "-o", model).out
    assert "median_abs_log2" in printed
    assert f"wrote {model} in" in printed

    tasks, found = tmp_path / "tasks.csv", tmp_path / "estimates.csv"
    tasks.write_text("id,user,requested_s,cpus\na,1,600,2\nb,2,,\nc,nobody,50,1\n")
    ended = run("predict", tasks, "--model", model, "-o", found, "--json")
    assert ended.facts == {"written": str(found), "tasks": 3}
    estimates = read_estimates(found)
    assert set(estimates) == {"a", "b", "c"}
    assert estimates["a"]["*"].levels == (0.1, 0.5, 0.8, 0.9, 0.95)
    assert estimates["a"]["*"].seconds[-1] <= 600
    assert estimates["c"]["*"].seconds[-1] <= 50
    assert estimates["a"]["*"].source == "model"
    assert files_of(tmp_path) == sorted(
        ["estimates.csv", "jobs.parquet", "log.swf.gz", "tasks.csv"]
        + [f"model/{name}" for name in files_of(model)]
    )


def test_generating_is_seeded(run: Run, tmp_path: Path) -> None:
    """Nobody could repeat an experiment on generated data."""
    for kind in (["log", "--jobs", 50], ["cluster"]):
        contents = []
        for seed in (1, 1, 2):
            path = tmp_path / f"{len(contents)}.{kind[0]}"
            assert run("generate", *kind, "--seed", seed, "-o", path).code == 0
            contents.append(path.read_bytes())
        assert contents[0] == contents[1] != contents[2]


def test_what_is_generated_goes_by_the_name_of_its_format(run: Run, tmp_path: Path) -> None:
    """A CSV file would hold SWF, and no reader would take it for either."""
    for what, name, meant in (
        ("log", "x.csv", ".swf"), ("log", "x.parquet.gz", ".swf"), ("log", "x.YAML", ".swf"),
        ("cluster", "x.json", ".yaml or .yml"), ("cluster", "x.swf", ".yaml or .yml"),
    ):  # fmt: skip
        ended = run("generate", what, "-o", tmp_path / name)
        assert (ended.code, ended.err.rstrip().endswith(f"name it {meant}")) == (2, True)
        assert not list(tmp_path.iterdir())
    for what, name in (("log", "x.swf.gz"), ("log", "x"), ("cluster", "x.YML")):
        assert run("generate", what, "-o", tmp_path / name).code == 0


def test_a_generated_batch_leaves_its_cluster_as_it_is(run: Run, tmp_path: Path) -> None:
    """A site's cluster file, with what the generator does not know, would be gone."""
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("workers: [{id: a, cpus: 4}]  # ours\n")
    before = cluster.read_text()
    ended = run("generate", "batch", "--cluster", cluster, "-o", tmp_path, "--tasks", "3")
    assert (ended.code, "would be written over" in ended.err) == (2, True)
    assert (cluster.read_text(), len(list(tmp_path.iterdir()))) == (before, 1)
    other = tmp_path / "other"
    assert run("generate", "batch", "--cluster", cluster, "-o", other, "--tasks", "3").code == 0


def test_a_generated_batch_is_read_back(run: Run, tmp_path: Path) -> None:
    """The files of a batch and its request would not be the same problem."""
    cluster, folder = tmp_path / "cluster.yaml", tmp_path / "batch"
    assert run("generate", "cluster", "--workers", 3, "-o", cluster).code == 0
    ended = run("generate", "batch", "--tasks", 7, "--cluster", cluster, "-o", folder, "--json")
    assert (ended.facts["tasks"], ended.facts["workers"]) == (7, 3)
    assert sorted(ended.facts["written"]) == sorted(str(p) for p in folder.iterdir())
    whole = read_request(folder / "request.json")
    pieces = request_from_files(
        folder / "tasks.csv",
        folder / "cluster.yaml",
        policy=folder / "policy.yaml",
        estimates=folder / "estimates.parquet",
    )
    assert replace(pieces, request_id=whole.request_id, seed=whole.seed) == whole


# ------------------------------------------------------------------ trial, report, run


@pytest.mark.slow
def test_the_trial_of_a_log(run: Run, small_run: SmallRun, tmp_path: Path) -> None:
    """The comparison of estimates could not be made outside of the pipeline."""
    out = tmp_path / "trial.json"
    with joblib.parallel_config("sequential"):
        ended = run(
            "trial", small_run.path("jobs"), "--batches", 2, "--batch-size", 8, "--level", 0.7,
            "--workers", 4, "--params", small_run.home / "params.yaml", "-o", out, "--json",
        )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(out.read_text()) == ended.facts
    assert (ended.facts["batches"], ended.facts["batch_size"], ended.facts["workers"]) == (2, 8, 4)
    assert set(ended.facts["kinds"]) == {
        "requested", "last_two", "model_p50", "model_p70", "oracle",
    }  # fmt: skip
    assert ended.facts["kinds"]["oracle"]["regret"] == 0
    assert files_of(tmp_path) == ["trial.json"]


def test_the_run_tells_what_each_stage_found(small_run: SmallRun) -> None:
    """Programs that read the run's JSON would miss a stage, or read other figures than it left."""
    facts = small_run.facts
    assert facts["ingest"] == small_run.read("ingest_facts")
    assert facts["train"] == small_run.read("train_facts")
    assert facts["trial"] == small_run.read("trial_facts")
    assert facts["worth"] == small_run.read("worth_facts")
    request = read_request(small_run.path("request"))
    response = from_json(PlanResponse, small_run.path("response").read_bytes())
    assert validate_response(request, response) == []
    assert facts["plan"]["cost"] == response.cost
    assert facts["plan"]["tasks"] == len(request.snapshot.pending) == 20
    assert Path(facts["report"]) == small_run.path("report").relative_to(small_run.home)
    assert small_run.path("gantt").read_text().startswith("<!doctype html>")


def test_a_run_leaves_no_unfinished_file(small_run: SmallRun) -> None:
    """Temporary files would pile up with every run."""
    left = [name for name in files_of(small_run.home) if "/." in name or name.endswith(".part")]
    assert left == []


def test_the_report_of_a_run_is_written_again(
    run: Run, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page could not be made anew without running everything."""
    monkeypatch.chdir(small_run.home)
    page = tmp_path / "page.html"
    assert run("report", "-o", page, "--json").facts == {"written": str(page)}
    assert page.read_text() == small_run.path("report").read_text()
    ended = run("report", "--name", "other")
    assert ended.code == 2
    assert "data/interim/other/ingest.json: there is no such file; run the earlier" in ended.err


def test_a_run_in_words(run: Run, small_run: SmallRun, capsys: pytest.CaptureFixture[str]) -> None:
    """`make run` would print no table of errors, or none of costs."""
    from plancast.pipelines.cli.forecasting import describe_log
    from plancast.pipelines.cli.running import print_forecasts, print_trial

    capsys.readouterr()
    print_forecasts(small_run.facts["train"])
    print_trial(small_run.facts["trial"])
    out = capsys.readouterr().out
    for kind, found in small_run.facts["trial"]["kinds"].items():
        cost, regret = f"{found['realised_cost']:,.1f}", f"{found['regret']:+.1%}"
        assert re.search(rf"{kind} .*{re.escape(cost)}.*{re.escape(regret)}", out), kind
    for name, found in small_run.facts["train"]["estimators"].items():
        assert re.search(rf"{name} .*{found['mae_s']:,.0f} .*{found['within_2x']:.0%}", out), name
    assert "585" in describe_log(small_run.facts["ingest"])


# ------------------------------------------------------------------ processes


def python(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Another Python in a folder, with our packages."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_greedy_planning_loads_no_learner(batch: Path, tmp_path: Path) -> None:
    """`plancast plan` would spend most of its time on imports it does not use."""
    script = (
        "import sys\n"
        "from plancast.pipelines.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as exit_:\n"
        "    assert exit_.code == 0, exit_.code\n"
        "heavy = {'ortools', 'lightgbm', 'sklearn', 'mlflow', 'pandas', 'joblib', 'fastapi',"
        " 'predictor', 'pandera'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    estimates = batch / "estimates.json"
    estimates.write_bytes(
        to_json({t: dict(e) for t, e in read_request(batch / "request.json").estimates.items()})
    )
    ended = python("-c", script, "plan", "--tasks", batch / "tasks.csv",
                   "--cluster", batch / "cluster.yaml", "--estimates", estimates,
                   "--policy", batch / "policy.yaml", "--solver", "greedy",
                   "-o", "r.json", "--gantt", "g.html", "--json", cwd=tmp_path)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"


def test_the_program_itself(batch: Path, tmp_path: Path) -> None:
    """What works inside the tests' process might not work as a program: codes and streams."""
    ended = python("-m", "plancast.pipelines.cli", "plan", batch / "request.json",
                   "--solver", "greedy",
                   "--json", cwd=tmp_path)  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["planned"] == 12
    ended = python("-m", "plancast.pipelines.cli", "plan", "nothing.json", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "plancast: nothing.json: there is no such file; check the name\n"


def test_a_reader_that_has_enough_ends_nothing_badly(batch: Path) -> None:
    """`plancast plan ... | head -1` would end in a traceback."""
    command = (
        f"{sys.executable} -m plancast.pipelines.cli plan {batch}/request.json"
        " --solver greedy --json"
    )
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    assert ended.stdout == "{"


def test_a_run_plans_the_users_own_tasks_too(
    run: Run, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ran the pipeline would have to find the model and another command for a plan."""
    monkeypatch.chdir(small_run.home)
    tasks, cluster = tmp_path / "t.csv", tmp_path / "c.yaml"
    tasks.write_text("id,user,cpus\na,1,2\nb,2,1\n")
    cluster.write_text("workers: [{id: w, cpus: 2}]\n")
    found = running._own_plan(small_run.config, tasks, cluster)
    assert found.response.estimate_source == "model"
    assert small_run.path("own_plan").read_text().startswith("task,worker,start_s")
    assert small_run.path("own_gantt").exists()
    ended = run("run", "--tasks", tasks)
    assert ended.code == 2
    assert "--tasks and --cluster go together" in ended.err


def test_a_log_that_is_missing_is_said_before_kernels_are_compiled(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mistyped a name would wait for the compiler before hearing of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernels, "beside", lambda: pytest.fail("compiling has begun"))
    ended = run("run", "--log", "missing.swf")
    assert ended.code == 2
    assert "missing.swf" in ended.err
    assert "compiling" not in ended.err
