"""Every folder of inputs from the field gives what its README says must come out."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plancast.pipelines.cli import main
from plancast.predictor.logs import read_jobs

DAY = 86_400


class Field:
    """The shared folder of one kind, and commands run in a folder of their own."""

    def __init__(self, folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.home, self.capsys = folder, home, capsys

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """A command's exit code, output and errors."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *self.capsys.readouterr()

    def ingest(self, file: str, *options: object) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The jobs by id and the facts of a log, which must be read."""
        out = self.home / "x.parquet"
        code, text, error = self.run("ingest", self.folder / file, *options, "-o", out, "--json")
        assert (code, error) == (0, "")
        return read_jobs(out).set_index("job_id", drop=False), json.loads(text)

    def plan(self, name: str, *options: object) -> dict[str, Any]:
        """The response to tasks and cluster of a name, which must be planned."""
        out = self.home / "plan.json"
        code, _, error = self.run(
            *("plan", "--tasks", self.folder / f"{name}.tasks.csv"),
            *("--cluster", self.folder / f"{name}.cluster.yaml", "--budget", "0.3"),
            *(*options, "-o", out),
        )
        assert code == 0, error
        response: dict[str, Any] = json.loads(out.read_text())
        return response


def starts_of(response: dict[str, Any]) -> dict[str, int]:
    """Task to its start."""
    return {a["task"]: a["start_s"] for a in response["plan"]["assignments"]}


def bars(field: Field) -> None:
    """Kind 01."""
    for file in ("k1-submitline.txt", "k1-workdir.txt"):
        jobs, facts = field.ingest(file)
        assert len(jobs) == 2
        assert jobs.loc["2", ["user", "group", "app"]].tolist() == ["ann", "phys", "fit"]
        assert not facts["dropped"]
    jobs, _ = field.ingest("k1-submitline.txt")
    assert jobs.loc["2", "partition"] == "short"


def bad_times(field: Field) -> None:
    """Kind 02."""
    for options in ((), ("--timezone", "Europe/Amsterdam")):
        jobs, _ = field.ingest("c4.txt", *options)
        assert jobs.loc["8001", "run_s"] == 1200
        assert jobs.loc["8001", "end_s"] == jobs.loc["8001", "start_s"] + 1200
    assert field.ingest("c4.txt")[1]["repaired"]
    jobs, facts = field.ingest("n2.csv", "--columns", field.folder / "n2.yaml")
    assert jobs.index.tolist() == ["1", "3"]
    assert facts["dropped"] == {"negative run time": 1}
    jobs, facts = field.ingest("a1.csv", "--columns", field.folder / "a1.yaml")
    assert len(jobs) == 2
    assert facts["dropped"]["no submission time"] == 1
    code, _, error = field.run(
        "ingest", field.folder / "c4.txt", "--strict", "-o", field.home / "y.parquet"
    )
    assert code == 2
    assert "c4.txt, line 2: end before start" in error
    assert not (field.home / "y.parquet").exists()


def line_breaks(field: Field) -> None:
    """Kind 03."""
    jobs, facts = field.ingest("c1.txt")
    assert jobs["user"].to_dict() == {"5001": "u1", "5002": "u1", "5003": "u2"}
    assert facts["dropped"] == {"steps": 1}


FIELDS = "JobID,User,JobName,Partition,Submit,Start,End,State,ReqMem,-,ReqCPUS,Elapsed,Timelimit,-"


def forms(field: Field) -> None:
    """Kind 04."""
    for options in ((), ("--delimiter", ";")):
        jobs, _ = field.ingest("c3b.txt", *options)
        assert jobs.loc["7001", ["user", "app"]].tolist() == ["u1", "odd|name"]
        assert jobs.loc["7002", "outcome"] == "cancelled"
    jobs, _ = field.ingest("c9.json")
    row = jobs.loc["501", ["user", "group", "cpus", "mem_mib", "run_s", "requested_s"]]
    assert row.tolist() == ["ann", "phys", 2, 4096, 600, 3600]
    code, _, error = field.run("ingest", field.folder / "c7.txt", "-o", field.home / "x.parquet")
    assert code == 2
    assert "--fields" in error
    jobs, _ = field.ingest("c7.txt", "--fields", FIELDS)
    row = jobs.loc["31115", ["user", "app", "cpus", "run_s"]]
    assert row.tolist() == ["ann", "domänen", 2, 399]


def not_utf8(field: Field) -> None:
    """Kind 05."""
    jobs, facts = field.ingest("c8.txt")
    assert jobs.loc["1", ["user", "app"]].tolist() == ["ann", "m\ufffdller"]
    assert [note[:1] for note in facts["notes"]] == ["1"]


def units(field: Field) -> None:
    """Kind 06."""
    jobs, _ = field.ingest("n1.txt", "--columns", field.folder / "n1.yaml")
    assert jobs["run_s"].to_dict() == {"1": 721, "2": 3720, "3": 0.35, "5": 2.1}
    assert jobs.loc["1", "mem_mib"] == 3584
    jobs, _ = field.ingest("n1.txt")  # Nextflow's own columns need no map
    assert jobs["app"].to_dict() == {"1": "map", "2": "sort", "3": "map", "5": "qc"}
    response = field.plan("p9b")
    ends = {a["task"]: a["end_s"] - a["start_s"] for a in response["plan"]["assignments"]}
    assert ends == {"a": 3600, "b": 2 * DAY}


def headerless(field: Field) -> None:
    """Kind 07."""
    jobs, facts = field.ingest("al.csv", "--columns", field.folder / "al.yaml")
    assert set(jobs.index) == {"M1", "R2_1", "M3", "M4"}
    assert jobs.loc["M1", ["submit_s", "run_s", "outcome"]].tolist() == [86_400, 100, "completed"]
    assert facts["rows"] == 4


def wide_jobs(field: Field) -> None:
    """Kind 08."""
    command = ("backtest", field.folder / "b1.swf", "--procs", 64, "--dispatchers", "easy")
    code, text, _ = field.run(*command, "--estimates", "requested", "--json", "-")
    report = json.loads(text)
    assert (code, report["left_out"], report["jobs"]) == (0, 2, 2)
    code, text, _ = field.run(*command, "--estimates", "requested")
    assert code == 0
    assert "left out: 2 jobs wider than the machine" in text


def unknown_start(field: Field) -> None:
    """Kind 10."""
    for file in ("k7-1.swf", "k7-4.swf"):
        jobs, facts = field.ingest(file)
        assert jobs["submit_s"].tolist() == [0, 50]
        assert "the start of the log is unknown" in facts["notes"][0]


def constraints(field: Field) -> None:
    """Kind 11."""
    response = field.plan("p1")
    where = {a["task"]: a["workers"][0] for a in response["plan"]["assignments"]}
    allowed = {"a": {"n1"}, "b": {"n1", "n2"}, "c": {"n1", "n2"}, "d": {"n2"}, "e": {"n1", "n2"}}
    assert set(where) == set(allowed)
    assert all(where[task] in workers for task, workers in allowed.items())


def limits_and_dependencies(field: Field) -> None:
    """Kind 12."""
    licensed = field.plan("p2")["plan"]["assignments"]
    spans = [(a["start_s"], a["end_s"]) for a in licensed]
    assert len(spans) == 3
    for at_s, _ in spans:
        assert sum(start <= at_s < end for start, end in spans) <= 2
    starts = starts_of(field.plan("e1"))
    assert starts["2"] >= 20
    assert starts["2"] + 20 <= starts["3"]


def in_the_users_units(field: Field) -> None:
    """Kind 13."""
    unplanned = field.plan("p4")["unplanned"]
    assert unplanned["a"] == "it needs 1 gpu; the largest worker it may use has 0"
    assert unplanned["b"] == "it needs 1 of foo; the largest worker it may use has 0"


def port_is_taken(field: Field) -> None:
    """Kind 15."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, error = field.run("serve", "--port", port)
    assert code == 2
    assert "127.0.0.1" in error
    assert str(port) in error
    assert len(error.strip().splitlines()) == 1


def extra_columns(field: Field) -> None:
    """Kind 16."""
    jobs, facts = field.ingest("s3b.swf")
    assert jobs["run_s"].tolist() == [700, 1500]
    assert facts["notes"] == ["2 columns more than SWF's 18 are ignored"]


def tracking_uri(field: Field) -> None:
    """Kind 17."""
    log = field.folder.parent / "08-backtest-narrows-wide-jobs-silently" / "b1.swf"
    command = ("backtest", log, "--dispatchers", "easy", "--estimates", "requested", "--mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
        assert field.run(*command)[0] == 0
        patch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
        code, _, error = field.run(*command)
    assert code == 2
    assert "MLFLOW_TRACKING_URI ./mlruns: MLflow cannot use it (" in error
    with sqlite3.connect("x.db") as store:
        assert store.execute("select count(*) from runs").fetchone()[0] > 0
    assert not Path("data/mlflow").exists()


def pbs(field: Field) -> None:
    """Kind 18."""
    jobs, facts = field.ingest("n4.pbs")
    row = jobs.loc["88.srv", ["user", "cpus", "run_s", "requested_s", "outcome"]]
    assert row.tolist() == ["ann", 16, 10_800, 21_600, "completed"]
    assert facts["dropped"] == {"records: started": 1}


def relative_clock(field: Field) -> None:
    """Kind 09."""
    response = field.plan("g2")
    assert starts_of(response) == {"a": -600, "b": -500}
    assert response["why"] == {}


def preempted_are_counted(field: Field) -> None:
    """Kind 14."""
    code, text, _ = field.run(
        *("plan", "--tasks", field.folder / "q1.tasks.csv", "--budget", "0.3"),
        *("--cluster", field.folder / "q1.cluster.yaml"),
        *("--policy", field.folder / "q1.policy.yaml"),
    )
    assert code == 0
    assert "1 of 1 tasks planned" in text


CHECKS: dict[str, Callable[[Field], None]] = {
    "01-sacct-bar-outside-jobname": bars,
    "02-bad-times-of-one-row-refuse-the-log": bad_times,
    "03-sacct-line-breaks": line_breaks,
    "04-sacct-forms-not-recognised": forms,
    "05-not-utf8-name-refuses-the-log": not_utf8,
    "06-durations-and-sizes-as-text": units,
    "07-headerless-tables": headerless,
    "08-backtest-narrows-wide-jobs-silently": wide_jobs,
    "09-relative-clock-worker-not-free-until-0": relative_clock,
    "10-swf-header-unknown-time": unknown_start,
    "11-constraint-expressions-taken-as-labels": constraints,
    "12-limits-across-workers-and-dependency-kinds": limits_and_dependencies,
    "13-messages-in-millicores": in_the_users_units,
    "14-planned-count-with-preemption": preempted_are_counted,
    "15-serve-cannot-bind": port_is_taken,
    "16-swf-extra-columns": extra_columns,
    "17-mlflow-env-ignored": tracking_uri,
    "18-pbs-accounting": pbs,
}
"""Folder of a kind to its check; ``planner`` has tests of its own, tests/planner/test_field.py."""


@pytest.mark.parametrize("kind", CHECKS)
def test_a_kind_gives_what_must_come_out(
    kind: str,
    request: pytest.FixtureRequest,
    shared_data: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An input that people met would be refused, shifted, or answered wrongly again."""
    monkeypatch.chdir(tmp_path)
    if CHECKS[kind] is tracking_uri:
        # Its tables take ten seconds to make.
        shutil.copy(request.getfixturevalue("mlflow_store"), "x.db")
    CHECKS[kind](Field(shared_data(f"field/{kind}"), tmp_path, capsys))


def test_every_kind_has_a_check(shared_data: Callable[[str], Path]) -> None:
    """A new kind of input would be put into the folder and looked at by nobody."""
    folders = {path.name for path in shared_data("field").iterdir() if path.is_dir()}
    assert folders == {*CHECKS, "planner"}
