"""Workflows of published runs as real Snakemake runs, whose jobs sleep for a scaled run time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT
from tests.integrations.fake_snakemake import Job

PLUGIN = ROOT / "integrations" / "snakemake"

HEAD = """import json
jobs = json.load(open("jobs.json"))

rule all:
    input: [f"out/{rule}/{k}" for rule in jobs for k in jobs[rule]]
"""
RULE = """
rule {rule}:
    input: "in/{{k}}", lambda wildcards: jobs["{rule}"][wildcards.k]["after"]
    output: "out/{rule}/{{k}}"
    params: seconds=lambda wildcards: jobs["{rule}"][wildcards.k]["seconds"]
    shell: "date +%s.%N > began/{{wildcards.k}}; sleep {{params.seconds}}; touch {{output}}"
"""


def write_workflow(jobs: Sequence[Job], scale: float, folder: Path) -> None:
    """A Snakefile of jobs that sleep `scale` of their run times, with inputs of their sizes."""
    rules = {name: f"rule{k}" for k, name in enumerate(dict.fromkeys(j.rule_name for j in jobs))}
    number = {job: str(k) for k, job in enumerate(jobs)}
    found: dict[str, dict[str, dict[str, object]]] = {rule: {} for rule in rules.values()}
    for name in ("in", "began"):
        (folder / name).mkdir()
    for job in jobs:
        after = [f"out/{rules[p.rule_name]}/{number[p]}" for p in job.parents]
        found[rules[job.rule_name]][number[job]] = {
            "after": after,
            "seconds": round(scale * job.run_s, 3),
        }
        with (folder / "in" / number[job]).open("wb") as file:
            file.truncate(int(job.size))  # takes no room on the disk
    (folder / "jobs.json").write_text(json.dumps(found))
    text = HEAD + "".join(RULE.format(rule=rule) for rule in rules.values())
    (folder / "Snakefile").write_text(text)


def real_makespan_s(folder: Path, cores: int, scheduler: str) -> float:
    """Seconds from the first start to the last end of a workflow's jobs under a scheduler."""
    paths = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "snakemake", "--scheduler", scheduler, "--cores", str(cores),
               "--force-use-threads", "--nolock", "--latency-wait", "30"]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, "PYTHONPATH": paths, "HOME": str(folder)},
    )  # fmt: skip
    if done.returncode or "plancast:" in done.stderr:
        raise AssertionError(done.stderr[-3000:])
    began = min(float(path.read_text()) for path in (folder / "began").iterdir())
    return max(path.stat().st_mtime for path in (folder / "out").glob("*/*")) - began
