"""Tasks as a user's own jobs, with the plan as hints; before a Slurm of recorded answers."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.pipelines.cli import main
from plancast.pipelines.engines import slurm as slurm_engine
from plancast.pipelines.engines.base import Rejected, Unreachable
from plancast.pipelines.engines.slurm import CommandFailed
from plancast.pipelines.inputs.tables import Table, object_table
from plancast.pipelines.operators.own_jobs import (
    OwnJob,
    Wishes,
    hints_of,
    job_name,
    own_jobs,
    script,
    submitted,
)
from plancast.pipelines.operators.slurm_nice import PRICES
from plancast.planner.model.domain import BadRequest, Policy, Task
from tests.conftest import scaled

NOW = 1_700_000_000
NODES = "".join(
    f"NodeName={name} CPUTot=4 AvailableFeatures={has} Gres=gpu:a100:2,nvme:1 RealMemory=4096 "
    f"State=IDLE Partitions={name[0]}\n"
    for name, has in (("a1", "ib"), ("a2", "(null)"), ("b1", "ib"))
)
ALL: tuple[str, ...] = ("nice", "begin", "nodelist")


class Site:
    """A Slurm of three nodes, two of them in the usual partition; it keeps what is submitted."""

    def __init__(self) -> None:
        self.queue: list[dict[str, Any]] = []
        self.submitted: list[list[str]] = []
        self.fails_at: dict[int, Exception] = {}

    def __call__(self, arguments: Sequence[str]) -> str:
        """The answer to a command."""
        command = list(arguments)
        if command[0] == "sbatch":
            if why := self.fails_at.pop(len(self.submitted), None):
                raise why
            self.submitted.append(command)
            number = 100 + len(self.submitted)
            name = command[command.index("-J") + 1]
            self.queue.append({"job_id": number, "name": name, "job_state": "PENDING",
                               "submit_time": NOW, "partition": "a", "cpus": 1})  # fmt: skip
            return f"{number};cluster\n"
        if command[:3] == ["scontrol", "show", "nodes"]:
            return NODES
        if command[:3] == ["scontrol", "show", "licenses"]:
            return "LicenseName=matlab Total=1 Used=0 Free=1 Reserved=0 Remote=no\n"
        if command[:3] == ["scontrol", "show", "partition"]:
            if "--oneliner" not in command:
                return "PartitionName=a\n   MaxTime=1-0\n\nPartitionName=b\n   MaxTime=1-0\n"
            return "PartitionName=a Default=YES Nodes=a1\nPartitionName=b Default=NO\n"
        if command[0] == "squeue":
            return json.dumps({"errors": [], "jobs": self.queue})
        if command[0] == "sinfo":
            rows = [{"name": n, "cpus": 4, "real_memory": 4096, "gres": "gpu:2", "state": "idle",
                     "partitions": [n[0]]} for n in ("a1", "a2", "b1")]  # fmt: skip
            return json.dumps({"nodes": rows})
        assert command[0] == "sacct"
        if "--json" in command:
            raise CommandFailed("sacct: unrecognized option '--json'")
        return ""


def table(*rows: dict[str, Any]) -> Table:
    """A task file's rows."""
    return object_table([{"requested_s": 600, "cpus": 4, **row} for row in rows], "tasks.csv")


def made(site: Site, *rows: dict[str, Any], hints: Sequence[str] = ALL) -> list[OwnJob]:
    """Jobs of some rows, each of which sleeps."""
    wishes = Wishes(hints, Policy(prices=PRICES), seconds=0.3)
    return own_jobs(table(*rows), lambda task: ("sleep", task.id), wishes, site)


def option(job: OwnJob, name: str) -> str | None:
    """The value of an option of ``sbatch``."""
    found = [a.partition("=")[2] for a in job.arguments if a.startswith(f"--{name}=")]
    return found[0] if found else None


def test_short_tasks_are_handed_in_first_where_the_plan_has_them() -> None:
    """Slurm would start them in the order of the file, on any node and at any time."""
    rows = [{"id": f"t{k}", "requested_s": 60 if k % 2 else 36_000} for k in range(6)]
    jobs = made(Site(), *rows)
    assert {job.task.id for job in jobs[:4]} >= {"t1", "t3", "t5"}  # one long task beside the last
    assert [option(job, "nice") for job in jobs] == [None, "1", "2", "3", "4", "5"]
    assert {option(job, "nodelist") for job in jobs} == {"a1", "a2"}
    for job in jobs:
        late = job.start_s is not None and job.start_s > jobs[0].start_s + 60  # type: ignore[operator]
        assert (option(job, "begin") is not None) == late
    plain = made(Site(), *rows, hints=())
    assert not [a for job in plain for a in job.arguments if re.match("--(nice|begin|node)", a)]


def test_what_a_task_needs_is_asked_for_whatever_the_plan_is() -> None:
    """The job would lack memory, a GPU of the type, its account, or wait for nobody."""
    first, last = made(
        Site(),
        {"id": "x", "cpus": 1.5, "mem_mib": 100, "gpus": 1, "requires": "gpu:a100&ib",
         "res_nvme": 1, "account": "phys", "exclusive": "yes", "release_s": 4_000_000_000},
        {"id": "y", "shards": 2, "most_per_worker": 1, "mem_mib": 10, "gpus": 1, "partition": "a",
         "after": "x"},
        hints=(),
    )  # fmt: skip
    assert first.task.id == "x"
    wanted = ["-n 1", "-c 2", "--mem=100M", "--gres=gpu:a100:1,nvme:1", "--constraint=ib",
              "--time=10", "--exclusive", "--account=phys"]  # fmt: skip
    assert [w for w in wanted if w not in " ".join(first.arguments)] == []
    assert (option(first, "begin") or "").startswith("2096-10-02T")
    wanted = ["-n 2", "-c 4", "--mem-per-cpu=3M", "--gpus-per-task=1", "--ntasks-per-node=1",
              "--partition=a"]  # fmt: skip
    assert [w for w in wanted if w not in " ".join(last.arguments)] == []
    assert "--dependency=afterok:7" in last.command({"x": "7"})


def test_licences_are_asked_for_and_planned_one_after_the_other() -> None:
    """Slurm would start all at once, and all but one would fail for want of a licence."""
    site = Site()
    site.queue = [{"job_id": 7, "name": "other", "job_state": "RUNNING", "submit_time": NOW,
                   "start_time": int(time.time()), "time_limit": 60, "partition": "a", "cpus": 1,
                   "nodes": "a1", "licenses": "matlab:1"}]  # fmt: skip
    jobs = made(site, *({"id": f"t{k}", "cpus": 1, "res_matlab": 1} for k in range(2)))
    assert [option(job, "licenses") for job in jobs] == ["matlab:1", "matlab:1"]
    assert all("matlab" not in (option(job, "gres") or "") for job in jobs)
    first, second = (job.start_s or 0 for job in jobs)
    assert first >= time.time() + 3_000  # another holds it for an hour
    assert second >= first + 600
    (free,) = made(site, {"id": "free", "cpus": 1})
    assert option(free, "licenses") is None


def test_jobs_that_wait_already_are_not_overtaken() -> None:
    """The plan would count on room that Slurm gives to somebody else first."""
    site = Site()
    site.queue = [
        {"job_id": k, "name": "w", "job_state": "PENDING", "partition": "a", "cpus": 4,
         "node_count": 1, "time_limit": 30, "priority": 9, "submit_time": NOW}
        for k in (1, 2)
    ]  # fmt: skip
    (behind,) = made(site, {"id": "t"})
    (elsewhere,) = made(site, {"id": "t", "partition": "b"})
    assert behind.start_s is not None
    assert elsewhere.start_s is not None
    assert behind.start_s >= elsewhere.start_s + 1_700
    assert elsewhere.nodes == ("b1",)


def test_a_key_submits_nothing_twice() -> None:
    """A user who tries again after a failure would run half of the tasks twice."""
    site = Site()
    rows = [{"id": f"t{k}"} for k in range(4)]
    site.fails_at[2] = Unreachable("sbatch: no answer within 60 s")
    jobs = made(site, *rows)
    with pytest.raises(Unreachable, match=r"2 of 4 were submitted, submit again with --key plan"):
        submitted(jobs, "plan", site, again=False)
    again = submitted(made(site, *rows), "plan", site, again=True)
    assert sorted(job.number for job in again) == ["101", "102", "103", "104"]
    assert len(site.submitted) == 4
    submitted(made(site, *rows), "plan", site, again=True)
    assert len(site.submitted) == 4
    site.fails_at[4] = CommandFailed("sbatch: error: Invalid account")
    with pytest.raises(BadRequest, match=r"task t\d: sbatch: error: Invalid account; 0 of 4"):
        submitted(made(site, *rows), "other", site, again=True)


def test_nothing_waits_for_a_job_that_slurm_has_let_go_of() -> None:
    """The rest of a submission would be refused: ``Job dependency problem``."""
    site = Site()
    rows = {"id": "a"}, {"id": "b"}, {"id": "c", "after": "a afterany:b"}
    site.fails_at[2] = Unreachable("sbatch: no answer within 60 s")
    with pytest.raises(Unreachable):
        submitted(made(site, *rows), "plan", site, again=True)
    site.queue[0]["job_state"] = "COMPLETED"
    job = submitted(made(site, *rows), "plan", site, again=True)[-1]
    waits = [word for word in site.submitted[-1] if word.startswith("--dependency")]
    running = site.queue[1]["job_id"]
    kind = "afterok" if site.submitted[1][3].startswith("a.") else "afterany"
    assert job.task.id == "c"
    assert waits == [f"--dependency={kind}:{running}"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"res_fpga": 1}, "res_fpga: Slurm has no such generic resource or licence"),
        ({"res_nvme": 1, "shards": 2}, "res_nvme: Slurm counts it by the node"),
        ({"array_limit": 2}, "array_limit: jobs of your own cannot keep it"),
        ({"singleton": "yes"}, "singleton: jobs of your own cannot keep it"),
        ({"partition": "z"}, "partition z: no worker is in it; they are in a, b"),
        ({"requested_s": None}, "names no requested_s, and there is no --model"),
        ({"mode": "fast"}, "has modes; Slurm runs a job in one way"),
    ],
)
def test_what_no_job_can_be_is_said_in_a_sentence(row: dict[str, Any], said: str) -> None:
    """A task would be submitted without what it needs."""
    site = Site()
    with pytest.raises(BadRequest, match=re.escape(said)):
        made(site, {"id": "t", **row})
    assert site.submitted == []


def test_hints_are_known_words() -> None:
    """A misspelt hint would be none."""
    assert hints_of("begin, nice") == ("begin", "nice")
    assert hints_of("") == ()
    with pytest.raises(BadRequest, match="choose of nice, begin, nodelist"):
        hints_of("nice,nodes")


HOSTILE = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)


@settings(max_examples=scaled(25), deadline=None)
@given(st.lists(HOSTILE, min_size=2, max_size=3, unique=True))
def test_the_script_says_to_sbatch_what_would_be_said_to_it(names: list[str]) -> None:
    """An id such as ``$(rm -rf ~)`` would be carried out by whoever runs the advice."""
    tasks = [
        Task(names[0], {"cpu": 1}),
        *(Task(n, {"cpu": 1}, after=(names[0],)) for n in names[1:]),
    ]
    jobs = [
        OwnJob(
            task, 0, (), ("-J", job_name(task.id, "k"), f"--comment={task.id}"), ("echo", task.id)
        )
        for task in tasks
    ]
    stub = 'sbatch() { for a in "$@"; do printf \'%s\\0\' "$a" >&2; done; echo 17; }\n'
    done = subprocess.run(
        ["/bin/sh"], input=(stub + script(jobs)).encode(), capture_output=True, check=True
    )
    said = done.stderr.decode().split("\0")[:-1]
    assert said == [word for job in jobs for word in job.command({names[0]: "17"})[1:]]


@pytest.mark.parametrize("column", ["account", "qos", "requires"])
def test_an_option_with_a_zero_byte_is_refused_before_anything_is_submitted(column: str) -> None:
    """The last of a hundred tasks would end in a traceback, with 99 submitted."""
    site = Site()
    with pytest.raises(BadRequest, match=r"tasks\.csv: task t: '.*a\\x00b': .* zero byte"):
        made(site, {"id": "u"}, {"id": "t", column: "a\0b"})
    assert site.submitted == []
    with pytest.raises(Rejected, match="zero byte"):  # a master that stays would have died of it
        slurm_engine.run_command(["true", "--account=a\0b"])


def code_of(*arguments: object) -> object:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code


def test_advice_is_printed_and_nothing_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A site that wants advice only would have jobs in its queue."""
    site = Site()
    monkeypatch.setattr(slurm_engine, "run_command", site)
    path = tmp_path / "tasks.csv"
    path.write_text("id,cpus,requested_s\na,1,60\nb,1,60\n")
    monkeypatch.setenv("PLANCAST_SITE", "slurm")
    monkeypatch.setenv("PLANCAST_ADVICE", "1")
    assert code_of("submit", path, "--command", "./step {id}") == 0
    said = capsys.readouterr().out
    assert said.startswith("#!/bin/sh\n")
    assert said.count("sbatch --parsable") == 2
    assert site.submitted == []
    monkeypatch.delenv("PLANCAST_ADVICE")
    assert code_of("submit", path, "--command", "./step {id}", "--json", "--array", "0-1") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(job["task"] for job in found["jobs"]) == ["a_0", "a_1", "b_0", "b_1"]
    assert [job["job"] for job in found["jobs"]] == ["101", "102", "103", "104"]
    assert len(site.submitted) == 4
    assert code_of("submit", path) == 2
    assert "--command: is empty" in capsys.readouterr().err
