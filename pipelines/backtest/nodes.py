"""A log's jobs as what they ask of the workers of a cluster file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.inputs.user_files import ClusterFile, read_cluster
from plancast.planner.model.domain import BadRequest, Task, Worker
from plancast.planner.worlds.node_machine import WHOLE, Cluster
from plancast.planner.worlds.node_replay import GPU, cluster_of, has_place

Ints = NDArray[np.int64]

SHARDS = "num_shards"
"""Column of a log that says how many pieces a job has."""


@dataclass(frozen=True)
class Asks:
    """What each job of a log asks of some workers.

    Parameters
    ----------
    workers : tuple of Worker
    kinds : tuple of Task
        Different asks: the demand of a piece, `shards` and `requires`.
    kind : int64 (jobs,)
    cluster : Cluster
        The same as arrays.
    """

    workers: tuple[Worker, ...]
    kinds: tuple[Task, ...]
    kind: Ints
    cluster: Cluster

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether the empty workers hold each job, shape (jobs,)."""
        found: NDArray[np.bool_] = has_place(self.cluster)[self.kind]
        return found

    def procs(self, jobs: pd.DataFrame) -> int:
        """Processors of all workers; GPUs where the log names no processors."""
        name = "cpu" if (jobs["cpus"] > 0).any() else GPU
        return max(1, sum(w.capacity.get(name, 0) for w in self.workers) // 1000)


def asks_of(jobs: pd.DataFrame, path: str | Path, source: str) -> Asks:
    """What jobs ask of the workers of a cluster file.

    Parameters
    ----------
    jobs : DataFrame
        Canonical.
    path : path-like
        The cluster file.
    source : str
        The log's name, for what is refused.

    Raises
    ------
    BadRequest
        Where the file says more than workers, or a partition is no label expression.

    Notes
    -----
    Processors, memory and GPUs are of the whole job, and what the log does not say is not asked
    for; a job that names neither processors nor GPUs asks for one processor. GPUs above one are
    whole devices. A job has as many pieces as the column ``num_shards`` says; without it, the
    fewest equal ones of which a worker holds one. Where workers have labels, a partition is a
    label expression, whose commas mean *or*.
    """
    file = read_cluster(path)
    _refuse(file, str(path))
    labelled = any(w.labels for w in file.workers)
    columns = ["cpus", "mem_mib", "gpus"]
    frame = jobs[columns].clip(lower=0).fillna(0.0)
    bare = (frame["cpus"] == 0) & (frame["gpus"] == 0)
    frame.loc[bare, "cpus"] = 1.0
    frame[SHARDS] = jobs[SHARDS].fillna(0).clip(lower=0) if SHARDS in jobs else 0.0
    frame["partition"] = jobs["partition"] if labelled else ""
    keys = pd.MultiIndex.from_frame(frame)
    kind, distinct = pd.factorize(keys)
    alike = list({(w.labels, tuple(sorted(w.capacity.items()))): w for w in file.workers}.values())
    kinds = []
    for number, row in enumerate(distinct):
        first = str(jobs["job_id"].iloc[int(np.argmax(kind == number))])
        kinds.append(_kind(row, alike, f"{source}: job {first}"))
    cluster = cluster_of(file.workers, kinds)
    return Asks(file.workers, tuple(kinds), np.asarray(kind, np.int64), cluster)


def _refuse(file: ClusterFile, path: str) -> None:
    """Refuse what a replay on nodes has no use for, instead of leaving it out in silence."""
    held = {
        "running": file.running,
        "finished": file.finished,
        "budgets": file.budgets,
        "resources": file.counted,
        "limits": file.limits != type(file.limits)(),
        "free_from_s, until_s and blocked of workers": any(
            w.free_from_s is not None or w.until_s is not None or w.blocked for w in file.workers
        ),
    }
    for name, found in held.items():
        if found:
            raise BadRequest(
                f"{path}: names {name}; a replay begins with empty workers that are always there, "
                "so leave that out"
            )
    if not file.workers:
        raise BadRequest(f"{path}: names no worker; write one under workers")


def _kind(row: Sequence[float | str], alike: Sequence[Worker], what: str) -> Task:
    cpus, mem, gpus, shards = (float(value) for value in row[:4])
    words = [word.strip() for word in str(row[4]).replace(",", "|").split("|")]
    text = "|".join(dict.fromkeys(word for word in words if word))
    try:
        task = Task("job", {}, requires=(text,) if text else ())
    except BadRequest as error:
        raise BadRequest(f"{what}: its partition is no label expression: {error}") from None
    may = [w for w in alike if w.satisfies(task.requires)]
    asked = {"cpu": cpus * 1000, "mem": mem, GPU: gpus * WHOLE}
    pieces = round(shards) or _fewest_pieces(asked, may)
    demand = {name: math.ceil(value / pieces - 1e-9) for name, value in asked.items() if value > 0}
    if demand.get(GPU, 0) > WHOLE:
        demand[GPU] = WHOLE * math.ceil(demand[GPU] / WHOLE)
    try:
        return Task("job", demand, shards=pieces, requires=task.requires)
    except BadRequest as error:
        raise BadRequest(f"{what}: {error}") from None


def _fewest_pieces(asked: dict[str, float], workers: Sequence[Worker]) -> int:
    """The fewest equal pieces of which a worker holds one; whole GPUs are divided evenly."""
    gpus = round(asked[GPU] / WHOLE) if asked[GPU] > WHOLE else 0
    for pieces in range(1, gpus + 1) if gpus else _counts(asked, workers):
        if (not gpus or gpus % pieces == 0) and any(
            all(value / pieces <= w.capacity.get(name, 0) for name, value in asked.items())
            for w in workers
        ):
            return pieces
    return 1


def _counts(asked: dict[str, float], workers: Sequence[Worker]) -> Sequence[int]:
    """The numbers of pieces with which the job might have a place, or none."""
    least = [
        max(math.ceil(v / w.capacity[n]) if w.capacity.get(n) else 0 for n, v in asked.items())
        for w in workers
        if all(w.capacity.get(n, 0) > 0 for n, v in asked.items() if v > 0)
    ]
    return [max(1, n) for n in sorted(least)]
