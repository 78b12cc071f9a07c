"""Finished tasks as a job log, of which the next model learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.master.loop import Master
from plancast.predictor.logs.table import read_jobs, write_jobs
from plancast.predictor.schema import canonical


def job_rows(master: Master) -> pd.DataFrame:
    """What has run to its end, one row a task, in canonical columns."""
    tasks = {t.id: t for t in _tasks(master)}
    workers = {w.id: w for w in _workers(master)}
    rows: list[dict[str, Any]] = []
    for name, ran in master.realised().items():
        task, row = tasks[name], master.orders[_last(master, name)]
        machine = workers.get(ran.workers[0])
        rows.append({
            "job_id": name,
            "submit_s": float(task.release_s),
            "start_s": float(ran.start_s),
            "end_s": float(ran.end_s),
            "run_s": float(ran.end_s - ran.start_s),
            "requested_s": float(task.requested_s) if task.requested_s else float("nan"),
            "cpus": task.demand.get("cpu", 0) * task.shards / 1000,
            "mem_mib": float(task.demand.get("mem", 0) * task.shards),
            "gpus": task.demand.get("gpu", 0) * task.shards / 1000,
            "user": task.owner,
            "app": task.app,
            "partition": "" if machine is None else machine.machine_class,
            "outcome": "completed" if row.outcome is None else row.outcome.value,
        })  # fmt: skip
    return pd.DataFrame(rows)


def append_log(master: Master, path: Path) -> int:
    """Add what has ended to a canonical log (Parquet); rows that are there stay as they are.

    Returns
    -------
    int
        How many rows were added.

    Raises
    ------
    EnvironmentFailed
        Where the log cannot be written; what was there is unharmed.
    """
    try:
        return _append(master, path)
    except OSError as error:
        raise EnvironmentFailed(f"{path}: cannot be written: {error.strerror or error}") from None


def _append(master: Master, path: Path) -> int:
    fresh = job_rows(master)
    if path.exists():
        old = read_jobs(path)
        if len(fresh):
            fresh = fresh[~fresh["job_id"].isin(set(old["job_id"]))]
        both = pd.concat([old, fresh], ignore_index=True) if len(fresh) else old
    else:
        both = fresh
    if len(fresh):
        write_jobs(canonical(both), path)
    return len(fresh)


def _last(master: Master, task: str) -> tuple[str, int]:
    return max(key for key, row in master.orders.items() if key[0] == task and row.state == "ended")


def _tasks(master: Master) -> list[Any]:
    """Every task of the batch: the request that it began with, and what came since."""
    first = master.state.first_request()
    return [*first.snapshot.pending, *(r.task for r in first.snapshot.running)]


def _workers(master: Master) -> list[Any]:
    first = master.state.first_request()
    return [*first.snapshot.workers, *master.mind.snapshot.workers]
