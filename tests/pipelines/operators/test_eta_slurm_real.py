"""Start times asked of a real Slurm, beside what then happened."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.operators.eta import eta_of_queue
from plancast.pipelines.operators.slurm_queue import queue_of_site
from plancast.predictor import RuntimePredictor
from tests.pipelines.engines.inside import Inside

pytestmark = pytest.mark.waits


def history() -> pd.DataFrame:
    """Jobs as this site's user runs them: up to a minute asked for, 2 to 4 s used."""
    rng = np.random.default_rng(0)
    jobs = 300
    submit = 1e9 + np.cumsum(rng.exponential(30.0, jobs))
    return pd.DataFrame(
        {"job_id": [str(k) for k in range(jobs)], "submit_s": submit, "start_s": submit,
         "run_s": rng.integers(2, 5, jobs), "requested_s": 60.0, "cpus": 4.0, "user": "root",
         "queue": "normal", "partition": "all"}
    )  # fmt: skip


@pytest.mark.slow
def test_starts_of_a_real_queue(slurm: Inside, tmp_path: Path) -> None:
    """A dozen jobs wait: the shape of the answers, or the order of the queue, would be misread."""
    RuntimePredictor(trees={"n_estimators": 30}).fit(history()).save(tmp_path / "m")
    for k in range(16):
        slurm(["sbatch", "-n", "4", "-t", "1", "-J", "nap", "-o", "/dev/null", "--wrap",
               f"sleep {2 + k % 3}"])  # fmt: skip
    until = time.monotonic() + 15
    while "R" not in slurm(["squeue", "-h", "-o", "%t"]).split() and time.monotonic() < until:
        time.sleep(0.1)
    before = slurm(["squeue", "-h", "-t", "PD", "-o", "%i|%Q|%T"])
    found = eta_of_queue(queue_of_site(slurm), tmp_path / "m")
    assert slurm(["squeue", "-h", "-t", "PD", "-o", "%i|%Q|%T"]).count("\n") <= before.count("\n")
    result = {job["id"]: job for job in found["jobs"]}
    assert len(result) >= 8
    assert "waits for" in found["jobs"][-1]["reason"]
    assert "of partition all; " in found["jobs"][-1]["reason"]
    until = time.monotonic() + 100
    while slurm(["squeue", "-h", "-t", "PD,R", "-o", "%i"]).strip() and time.monotonic() < until:
        time.sleep(0.5)
    rows = slurm(["squeue", "-h", "-t", "all", "-o", "%i|%S"]).splitlines()
    start = {
        number: float(text)
        if text.isdigit()
        else time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
        for number, text in (row.split("|") for row in rows)
        if number in result and text[:1].isdigit()
    }
    assert len(start) == len(result)
    p50 = np.array([result[number]["p50_s"] for number in start], float)
    real = np.array(list(start.values()))
    # By their limits the last would start after some 4 minutes; Slurm needs seconds a job.
    error = np.abs(p50 - real)
    print(
        f"starts of {len(real)} jobs: error {np.median(error):.0f} s, at most {error.max():.0f} s"
    )
    assert np.median(error) < 15
    assert np.corrcoef(p50, real)[0, 1] > 0.8
