"""A batch of 60 tasks on a real engine, a worker killed half-way: plan, repairs, and the account.

Run with ``make demo-dask`` or ``make demo-slurm``.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from plancast.pipelines.cli import main as plancast
from plancast.pipelines.inputs.user_files import write_batch
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import DurationEstimate, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest

TASKS, WORKERS = 60, 4
LOSE_AT_S = 15
"""About half-way."""


def batch(names: list[str], tasks: int, seed: int) -> PlanRequest:
    """Short tasks of one or two cores, some in workflows, on workers of four cores."""
    workers = tuple(Worker(n, {"cpu": 4000, "mem": 4096}, idle_w=50.0) for n in names)
    rng = np.random.default_rng(seed)
    shapes = generate_batch(tasks, generate_cluster(3, seed), seed).snapshot.pending
    pending, estimates = [], {}
    for shape in shapes:
        seconds = int(rng.integers(2, 9))
        # The request is twice what it takes, as requests are.
        pending.append(
            Task(shape.id, {"cpu": 1000 * int(rng.integers(1, 3)), "mem": 256},
                 owner=shape.owner, app=f"sleep-{seconds}", after=shape.after,
                 requested_s=60)
        )  # fmt: skip
        estimates[shape.id] = {
            "*": DurationEstimate((0.1, 0.5, 0.9), (seconds, seconds + 1, seconds + 3), "demo")
        }
    snapshot = Snapshot(0, 0, workers, tuple(pending))
    policy = replace(generate_batch(2, workers, 0).policy)
    return PlanRequest("demo", snapshot, estimates, policy)


def main() -> None:
    """Write the batch into a folder and hand it to ``plancast master``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("dask", "slurm"))
    parser.add_argument("--nodes", default=",".join(f"w{k}" for k in range(WORKERS)))
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--lose-at", type=int, default=LOSE_AT_S)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = options.nodes.split(",")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_batch(batch(names, options.tasks, options.seed), home)
        plancast([
            "master", "--engine", options.engine, "--tasks", str(home / "tasks.csv"),
            "--cluster", str(home / "cluster.yaml"), "--policy", str(home / "policy.yaml"),
            "--estimates", str(home / "estimates.parquet"), "--state", str(home / "master.db"),
            "--log", str(home / "jobs.parquet"), "--lose", f"{names[-1]}@{options.lose_at}",
            "--shell", "--command", 'sleep "${PLANCAST_APP#sleep-}"',
        ])  # fmt: skip


if __name__ == "__main__":
    main()
