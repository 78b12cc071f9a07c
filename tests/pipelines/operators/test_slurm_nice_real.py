"""The planner's order on a real Slurm: sixty sleeping jobs, with it and without."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.kernels import warm_all
from plancast.pipelines.operators.slurm_nice import nice_of_site, set_nice
from plancast.predictor import RuntimePredictor
from tests.pipelines.engines.inside import Inside

pytestmark = pytest.mark.waits
KINDS = {"quick": 1, "middle": 4, "slow": 12}
BUSY_S = 60
BOUND_S = 1.0
"""Runs shorter than this count as so long in a slowdown."""


def history() -> pd.DataFrame:
    """Jobs whose names tell how long they run; all of them ask for a minute."""
    rng = np.random.default_rng(0)
    names = rng.choice(list(KINDS), 300)
    submit = 1e9 + np.cumsum(rng.exponential(30.0, 300))
    return pd.DataFrame(
        {"job_id": [str(k) for k in range(300)], "submit_s": submit, "start_s": submit,
         "run_s": [KINDS[name] + 0.5 for name in names], "requested_s": 60.0, "cpus": 4.0,
         "mem_mib": 4096.0, "gpus": 0.0,  # as this Slurm counts what it is not asked for
         "user": "root", "queue": "normal", "partition": "all", "app": names}
    )  # fmt: skip


def mean_slowdown(slurm: Inside, jobs: int, seed: int, model: Path | None) -> float:
    """Submit jobs to a busy cluster, order them by a model where there is one, wait for them.

    Slowdowns count from when the cluster comes free: until then nothing starts anyway.
    """
    random = np.random.default_rng(seed)
    names = random.choice(list(KINDS), jobs, p=[0.5, 0.3, 0.2])
    run = {}
    for _ in range(3):
        slurm(["sbatch", "-n", "4", "-t", "2", "-J", "busy", "-o", "/dev/null",
               "--wrap", f"sleep {BUSY_S}"])  # fmt: skip
    began = time.time() + BUSY_S
    for name in names:
        number = slurm(["sbatch", "--parsable", "-n", "4", "-t", "1", "-J", name, "-o", "/dev/null",
                        "--wrap", f"sleep {KINDS[name]}"]).strip()  # fmt: skip
        run[number] = KINDS[name]
    if model is not None:
        assert set_nice(nice_of_site(model, seconds=1.0, run=slurm), slurm) == []
    assert time.time() < began, "the machine is too slow for this comparison"
    start: dict[str, float] = {}
    until = time.monotonic() + BUSY_S + 60 + 8 * jobs
    while len(start) < jobs and time.monotonic() < until:
        for line in slurm(["squeue", "-h", "-t", "all", "-o", "%i|%S|%T"]).splitlines():
            number, text, state = line.split("|")
            if number in run and state != "PENDING" and text[:1].isdigit():
                start[number] = (
                    float(text)
                    if text.isdigit()
                    else time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
                )
        time.sleep(0.5)
    assert len(start) == jobs
    while slurm(["squeue", "-h", "-t", "R,CG", "-o", "%i"]).strip():
        time.sleep(0.5)
    return float(np.mean([(start[n] - began + run[n]) / max(run[n], BOUND_S) for n in run]))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sixty_jobs_wait_less_by_the_planner_s_order(
    slurm: Inside,
    tmp_path: Path,
) -> None:
    """The order would reach Slurm and shorten nothing, or nice values be turned around."""
    RuntimePredictor(trees={"n_estimators": 30}).fit(history()).save(tmp_path / "m")
    warm_all("plans", print)  # compiled while jobs wait, kernels would count as the planner's time
    found: dict[str, list[float]] = {"slurm": [], "planner": []}
    for seed in range(5):
        for kind, model in (("slurm", None), ("planner", tmp_path / "m")):
            found[kind].append(round(mean_slowdown(slurm, 60, seed, model), 2))
            print(found, flush=True)
    assert np.mean(found["planner"]) < np.mean(found["slurm"])
