"""The first minute: a project folder of a log, commands as they are called here, help, progress."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from plancast.pipelines.cli import PANELS, app, common, main
from plancast.pipelines.inputs import shell
from plancast.pipelines.inputs.config import Config, load_config
from plancast.pipelines.project import params_text
from tests.conftest import ROOT

FOREIGN = (
    "Job,Submitted At,Elapsed (min),Limit (h),Cores,Who,State,Colour\n"
    "1,2024-05-01 10:00,90,2,4,ann,COMPLETED,red\n"
    "2,2024-05-01 11:00,5,1,1,bob,FAILED,blue\n"
)


def run(*arguments: str) -> int:
    """The command line's exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    code = exit_.value.code
    assert isinstance(code, int)
    return code


def test_init_makes_a_project_of_a_foreign_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CSV log would be a dead end: nobody knows what a column map is."""
    monkeypatch.chdir(tmp_path)
    Path("jobs.csv").write_text(FOREIGN)
    assert run("init", "jobs.csv") == 0
    out = capsys.readouterr().out
    assert "run_s from Elapsed (min) in min" in out
    assert "next: cd jobs && " in out
    monkeypatch.chdir(tmp_path / "jobs")
    config = load_config()
    assert (config.name, config.log, config.columns) == ("jobs", "../jobs.csv", "columns.yaml")
    config.check_log_dep()
    mapping = yaml.safe_load(Path("columns.yaml").read_text())
    assert mapping["columns"]["requested_s"] == "Limit (h)"
    assert mapping["outcomes"] == {"COMPLETED": "completed", "FAILED": "failed"}
    assert "# Not read: Colour." in Path("columns.yaml").read_text()
    read = config.reading.read("../jobs.csv")
    assert read["run_s"].tolist() == [5400, 300]
    assert "# of times without an offset" in Path("params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    assert run("init", "jobs.csv") == 2
    assert "jobs/params.yaml: is there already" in capsys.readouterr().err


def test_init_of_what_cannot_be_guessed_says_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty project would fail later, and say less."""
    (tmp_path / "x.csv").write_text("when,colour\n1,red\n")
    assert run("init", str(tmp_path / "x.csv"), str(tmp_path / "p")) == 2
    said = capsys.readouterr().err
    assert "none of its columns (when, colour)" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "p").exists()


def test_the_parameters_that_init_writes_are_the_defaults() -> None:
    """The commented file would say other values than the program has."""
    own = ROOT / "pipelines/inputs/params.yaml"
    assert own.read_text() == (ROOT / "params.yaml").read_text()
    assert Config(**yaml.safe_load(params_text({}))) == Config()
    changed = yaml.safe_load(params_text({"log": "a b: c.csv", "name": "x"}))
    assert (changed["log"], changed["name"]) == ("a b: c.csv", "x")


def test_commands_are_printed_as_they_are_called_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed command would not exist in a login shell."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "plancast"):
        (folder / name).write_text("")
    (folder / "plancast").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert shell.command("plancast") == ".venv/bin/plancast"
    said = shell.for_this_shell("make it with plancast ingest; plancast is a name", ["ingest"])
    assert said == "make it with .venv/bin/plancast ingest; plancast is a name"
    monkeypatch.setenv("PATH", str(folder))
    assert shell.command("plancast") == "plancast"
    assert shell.for_this_shell("plancast run", ["run"]) == "plancast run"
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("PATH", "/usr/bin")
    assert shell.command("plancast") == str(folder / "plancast")


def test_every_command_stands_in_a_panel() -> None:
    """The help would be one list of thirty."""
    names = {c.name for c in app.registered_commands} | {g.name for g in app.registered_groups}
    assert names <= {name for panel in PANELS.values() for name in panel}


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report could not name it."""
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("plancast ")


def test_completion_knows_commands() -> None:
    """Completion would install and then complete nothing."""
    words = {"COMP_WORDS": "plancast pl", "COMP_CWORD": "1", "_PLANCAST_COMPLETE": "complete_bash"}
    found = subprocess.run(
        [sys.executable, "-m", "plancast.pipelines.cli"],
        env=os.environ | words, capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert "plan" in found.stdout.split()


def test_progress_into_a_pipe_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour of backtest in a job's log would look dead."""
    monkeypatch.setattr(common, "PIPED_S", 0.05)
    with common.progress("replaying x") as tell:
        tell(1, 4, "easy requested")
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert lines[0].startswith("replaying x easy requested (0 s, 25%)")


def files(folder: Path) -> list[str]:
    """Tasks and cluster of two jobs on one machine, as options."""
    (folder / "t.csv").write_text("id,requested_s\na,60\nb,30\n")
    (folder / "c.yaml").write_text("workers: [{id: w, cpus: 1}]\n")
    return ["--tasks", str(folder / "t.csv"), "--cluster", str(folder / "c.yaml")]


def test_plans_are_written_by_their_ending_and_judged_from_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has files and no request could not have a plan judged."""
    given = files(tmp_path)
    answer, asked, table = (str(tmp_path / n) for n in ("p.json", "r.json", "p.csv"))
    budget = ["--budget", "500ms"]
    assert run("plan", *given, *budget, "-o", answer, "--save-request", asked) == 0
    assert run("validate", asked, answer) == 0
    assert run("validate", answer, *given) == 0
    assert capsys.readouterr().out.count("valid: optimal") == 2
    assert run("plan", asked, "-o", table) == 0
    assert Path(table).read_text().startswith("task,worker,start_s,end_s")
    assert run("plan", *given, "-o", str(tmp_path / "p.txt")) == 2
    assert "p.txt: a plan ends in .json, .csv or .parquet" in capsys.readouterr().err
    assert run("plan", *given, "--budget", "soon") == 2
    assert "--budget: 'soon' is not a duration" in capsys.readouterr().err
    assert run("validate", answer) == 2


def test_ctrl_c_writes_the_best_plan_and_exits_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour of planning would be lost."""
    from plancast.planner.arrays import interruption
    from plancast.planner.planning import plan as planning

    plain = planning.plan

    def pressed(request: Any, *given: Any, **more: Any) -> Any:
        interruption._asked.set()  # after the first plan nothing else is done
        return plain(request, *given, **more)

    monkeypatch.setattr(planning, "plan", pressed)
    answer, drawn = tmp_path / "p.json", tmp_path / "p.svg"
    assert run("plan", *files(tmp_path), "-o", str(answer), "--gantt", str(drawn)) == 130
    assert answer.exists()
    assert drawn.exists()
    said = capsys.readouterr().err
    assert "interrupted: kept the best plan, cost" in said
    assert "gap" in said
