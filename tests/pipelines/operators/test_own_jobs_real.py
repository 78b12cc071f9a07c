"""On a real Slurm: its nodes as a cluster, tasks as jobs of one's own, and by a master."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pipelines.engines.inside import Inside

pytestmark = [pytest.mark.waits, pytest.mark.timeout(1_800)]
ROWS = """id,cpus,mem_mib,requested_s,after,partition,res_nvme,res_matlab,requires
first,1,64,60,,,,,
second,1,64,60,first,,,,has-n2
third,1,64,60,,last,2,1,
"""
WHERE = {"second": "n2", "third": "n3"}


def said(slurm: Inside, *words: object) -> str:
    """What ``plancast`` prints where this Slurm is."""
    inside = ["nsenter", f"--net={slurm.folder}/net", "env",
              f"SLURM_CONF={slurm.folder}/slurm.conf"]  # fmt: skip
    done = subprocess.run(
        [*inside, sys.executable, "-m", "plancast.pipelines.cli", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=slurm.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended(slurm: Inside, numbers: list[str]) -> dict[str, list[str]]:
    """Of each job its state, node and generic resources, once all have ended."""
    until = time.monotonic() + 120
    asked = ["sacct", "-X", "-P", "-n", "-o", "JobIDRaw,State,NodeList,AllocTRES",
             f"--jobs={','.join(numbers)}"]  # fmt: skip
    while time.monotonic() < until:
        rows = [line.split("|") for line in slurm(asked).splitlines()]
        if len(rows) == len(numbers) and {row[1] for row in rows} == {"COMPLETED"}:
            break
        time.sleep(0.5)
    return {number: rest for number, *rest in rows}


def licences(slurm: Inside, number: str) -> str:
    """The licences that a job has taken."""
    found = re.search(r"\bLicenses=(\S+)", slurm(["scontrol", "show", "job", "-o", number]))
    return "" if found is None else found[1]


def test_tasks_become_jobs_of_who_asks(slurm: Inside, tmp_path: Path) -> None:
    """Slurm could refuse what is asked of it, or give a job another node than it needs."""
    path = tmp_path / "tasks.csv"
    path.write_text(ROWS)
    command = ("submit", path, "--site", "slurm", "--command", "sleep 1", "--json", "--key", "mine",
               "--hints", "nice,begin")  # fmt: skip
    found = json.loads(said(slurm, *command))
    number = {job["task"]: job["job"] for job in found["jobs"]}
    jobs = ended(slurm, list(number.values()))
    assert {row[0] for row in jobs.values()} == {"COMPLETED"}, jobs
    for task, node in WHERE.items():
        assert jobs[number[task]][1] == node
    assert licences(slurm, number["third"]) == "matlab:1"
    again = json.loads(said(slurm, *command))
    assert {job["task"]: job["job"] for job in again["jobs"]} == number


@pytest.mark.slow
def test_a_master_takes_its_workers_from_slurm(slurm: Inside, tmp_path: Path) -> None:
    """A site would have to write down what Slurm knows of features, partitions and GRES."""
    path, state = tmp_path / "tasks.csv", tmp_path / "master.db"
    path.write_text(ROWS)
    inside = ["nsenter", f"--net={slurm.folder}/net", "env",
              f"SLURM_CONF={slurm.folder}/slurm.conf"]  # fmt: skip
    serving = [sys.executable, "-m", "plancast.pipelines.cli", "master", "serve", "--json",
               "--engine", "slurm", "--state", str(state)]  # fmt: skip
    asked = ["sacct", "-X", "-P", "-n", "-o", "JobName,NodeList,JobIDRaw,Partition"]
    others = {line.split("|")[2] for line in slurm(asked).splitlines()}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([*inside, *serving], stdout=subprocess.PIPE, stderr=log, text=True,
                         cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}) as master,
    ):  # fmt: skip
        try:
            assert master.stdout is not None
            assert json.loads(master.stdout.readline())["url"]
            said(slurm, "submit", path, "--command", "sleep 1", "--master", state)
            status: dict[str, Any] = {}
            until = time.monotonic() + 120
            while status.get("ended") != {"completed": 3} and time.monotonic() < until:
                time.sleep(2.0)  # asking takes a second of a core
                status = json.loads(said(slurm, "status", "--json", "--master", state))
        finally:
            master.terminate()
    assert status["ended"] == {"completed": 3}, (tmp_path / "log").read_text()
    mine: dict[str, list[str]] = {}
    until = time.monotonic() + 60  # the accounts come to know of a job with a delay
    while len(mine) < 3 and time.monotonic() < until:
        rows = [line.split("|") for line in slurm(asked).splitlines()]
        mine = {n.rpartition("-")[2]: rest for n, *rest in rows
                if n.startswith("plancast-") and rest[1] not in others}  # fmt: skip
    for task, node in WHERE.items():
        assert mine[task][0] == node
    assert mine["third"][2] == "last"
    assert licences(slurm, mine["third"][1]) == "matlab:1"
