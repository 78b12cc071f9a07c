"""Seeded clusters and batches; logs are in ``generate_log``.

For the embedded default of ``make run``, for tests and for benchmarks. The same arguments
and seed give the same result; nothing here reads a clock or a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plancast.planner.instances.generate_log import GeneratedLog, generate_log, swf_text, write_swf
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    Policy,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest

__all__ = [
    "LEVELS",
    "MACHINE_TYPES",
    "GeneratedLog",
    "generate_batch",
    "generate_cluster",
    "generate_log",
    "swf_text",
    "write_swf",
]

# --------------------------------------------------------------------------- clusters


@dataclass(frozen=True, slots=True)
class _MachineType:
    """One kind of machine: cores, GiB, GPUs, watts idle and extra at full use, kWh to boot."""

    name: str
    cores: int
    mem_gib: int
    gpus: int
    idle_w: float
    busy_w: float
    boot_kwh: float
    share: float
    gpu_label: str = ""


MACHINE_TYPES = (
    _MachineType("c4", 4, 16, 0, 25, 35, 0.002, 0.10),
    _MachineType("c8", 8, 32, 0, 35, 55, 0.003, 0.14),
    _MachineType("c16", 16, 64, 0, 55, 85, 0.005, 0.24),
    _MachineType("c32", 32, 128, 0, 90, 140, 0.008, 0.20),
    _MachineType("m32", 32, 256, 0, 100, 150, 0.010, 0.10),
    _MachineType("c64", 64, 256, 0, 150, 250, 0.014, 0.10),
    _MachineType("g32", 32, 128, 4, 300, 900, 0.030, 0.08, "t4"),
    _MachineType("g64", 64, 512, 8, 600, 1800, 0.060, 0.04, "a100"),
)
"""Sizes and total power of the published cluster batches (``benchmarks/cluster``)."""


def generate_cluster(
    workers: int = 10, seed: int = 0, *, zones: int = 3, disk: bool = False, licences: bool = False
) -> tuple[Worker, ...]:
    """A cluster of eight machine types over some zones, half of it with SSDs.

    Parameters
    ----------
    workers : int
        How many, at least 1.
    seed : int
    zones : int
        Labels ``zone-0``, ``zone-1``, ... are given out evenly.
    disk, licences : bool
        Whether workers also have ``disk_gib`` (10 a core) and ``licence`` (0 to 4).

    Returns
    -------
    tuple of Worker
        ``w0``, ``w1``, ... from small to large machine types.
    """
    if workers < 1:
        raise BadRequest(f"generate cluster: workers is {workers}; it must be 1 or more")
    rng = np.random.default_rng(seed)
    shares = np.array([m.share for m in MACHINE_TYPES])
    kinds = np.sort(rng.choice(len(MACHINE_TYPES), workers, p=shares / shares.sum()))
    zone = rng.permutation(np.arange(workers) % zones)
    ssd = rng.random(workers) < 0.5
    licence = rng.choice([0, 0, 2, 4], workers)
    result = []
    for k, kind in enumerate(MACHINE_TYPES[i] for i in kinds):
        capacity = {"cpu": 1000 * kind.cores, "mem": 1024 * kind.mem_gib}
        if kind.gpus:
            capacity["gpu"] = 1000 * kind.gpus
        if disk:
            capacity["disk_gib"] = 10 * kind.cores
        if licences and licence[k]:
            capacity["licence"] = int(licence[k])
        labels = {f"zone-{zone[k]}"} | ({"ssd"} if ssd[k] else set())
        labels |= {kind.gpu_label} if kind.gpu_label else set()
        result.append(
            Worker(
                id=f"w{k}",
                capacity=capacity,
                labels=frozenset(labels),
                machine_class=kind.name,
                idle_w=kind.idle_w,
                busy_w=kind.busy_w,
                boot_kwh=kind.boot_kwh,
            )
        )
    return tuple(result)


# --------------------------------------------------------------------------- batches

LEVELS = (0.1, 0.5, 0.8, 0.9, 0.95)
"""Quantile levels of generated estimates."""

_Z = (-1.2815515655, 0.0, 0.8416212336, 1.2815515655, 1.6448536270)  # normal quantiles of LEVELS


def generate_batch(
    tasks: int = 200,
    cluster: Sequence[Worker] | None = None,
    seed: int = 0,
    now_s: int = 0,
    *,
    due_share: float = 0.2,
    workflow_share: float = 0.3,
    gang_share: float = 0.0,
    label_share: float = 0.3,
    by_class_share: float = 0.3,
    sigma: float = 0.5,
    release_spread_s: int = 0,
    policy: Policy | None = None,
) -> PlanRequest:
    """A batch like the published cluster benchmarks; every task fits some worker.

    Parameters
    ----------
    tasks : int
        How many, at least 1.
    cluster : sequence of Worker, optional
        ``generate_cluster(10, seed)`` where not given.
    seed : int
    now_s : int
        Time of planning, seconds since the epoch.
    due_share, workflow_share, gang_share, label_share : float
        Share of tasks with a deadline, in workflows of 4 to 12 tasks, with 2 to 4 shards,
        with required labels.
    by_class_share : float
        Share of tasks with one estimate for each machine class; the others have one for
        any class.
    sigma : float
        Spread of the estimates: standard deviation of the log run time.
    release_spread_s : int
        Releases are uniform in ``[now_s, now_s + release_spread_s]``.
    policy : Policy, optional

    Returns
    -------
    PlanRequest
        Estimates at ``LEVELS``, log-normal around medians of minutes.
    """
    if tasks < 1:
        raise BadRequest(f"generate batch: tasks is {tasks}; it must be 1 or more")
    workers = tuple(cluster) if cluster is not None else generate_cluster(10, seed)
    if not workers:
        raise BadRequest("generate batch: the cluster has no workers; give at least one")
    rng = np.random.default_rng(seed)
    median_s = np.clip(rng.lognormal(math.log(250), 0.9, tasks), 15, 3600)
    cores = np.array([w.capacity.get("cpu", 0) + 1 for w in workers], dtype=float)
    hosts = rng.choice(len(workers), tasks, p=cores / cores.sum())
    after = _workflows(tasks, workflow_share, rng)
    classes = sorted({w.machine_class for w in workers})
    speed = dict(zip(classes, rng.uniform(0.7, 1.3, len(classes)), strict=True))
    owners = max(2, round(math.sqrt(tasks) / 2))
    weight = rng.choice([1.0, 2.0, 4.0, 8.0], tasks, p=[0.5, 0.3, 0.15, 0.05])
    release_s = now_s + rng.integers(0, release_spread_s + 1, tasks)

    demands = [_demand(workers[host], rng) for host in hosts.tolist()]
    quantiles_s = np.maximum(1, np.ceil(median_s[:, None] * np.exp(sigma * np.array(_Z))))
    ready_s = np.zeros(tasks)  # earliest end, were there no queue
    for i in range(tasks):
        begin = max([float(release_s[i]), *(ready_s[p] for p in after[i])])
        ready_s[i] = begin + quantiles_s[i, 2]
    area_s = _area_s(median_s, demands, workers)

    batch: list[Task] = []
    estimates: dict[str, dict[str, DurationEstimate]] = {}
    for i, host in enumerate(workers[h] for h in hosts.tolist()):
        name = f"t{i}"
        requires = _labels(host, rng) if rng.random() < label_share else ()
        shards = 1
        if rng.random() < gang_share:
            places = pieces_that_fit(workers, demands[i], requires)
            shards = min(int(rng.integers(2, 5)), places)
        slack_s = float(rng.uniform(0.1, 1.0)) * max(area_s, float(median_s[i]))
        due = rng.random() < due_share
        batch.append(
            Task(
                id=name,
                demand=demands[i],
                release_s=int(release_s[i]),
                deadline_s=math.ceil(ready_s[i] + slack_s) if due else None,
                weight=float(weight[i]),
                owner=f"user-{rng.integers(owners)}",
                app=f"app-{rng.integers(owners)}",
                requires=requires,
                after=tuple(f"t{p}" for p in after[i]),
                shards=shards,
            )
        )
        if rng.random() < by_class_share:
            estimates[name] = {c: _estimate(np.ceil(quantiles_s[i] * speed[c])) for c in classes}
        else:
            estimates[name] = {ANY_CLASS: _estimate(quantiles_s[i])}
    return PlanRequest(
        request_id=f"batch-{tasks}x{len(workers)}-{seed}",
        snapshot=Snapshot(version=0, now_s=now_s, workers=workers, pending=tuple(batch)),
        estimates=estimates,
        policy=policy if policy is not None else Policy(),
        seed=seed,
    )


def _area_s(
    median_s: NDArray[np.float64], demands: Sequence[Mapping[str, int]], workers: Sequence[Worker]
) -> float:
    """How long the whole cluster has to do, by the resource that runs shortest."""
    areas_s = [
        float(np.sum(median_s * [d.get(r, 0) for d in demands])) / have
        for r in ("cpu", "mem")
        if (have := sum(w.capacity.get(r, 0) for w in workers))
    ]
    return max(areas_s, default=0.0)


def _estimate(seconds: NDArray[np.float64]) -> DurationEstimate:
    return DurationEstimate(LEVELS, tuple(int(s) for s in seconds), "generated")


def _workflows(tasks: int, share: float, rng: np.random.Generator) -> list[list[int]]:
    """Predecessors of each task: random graphs of 4 to 12 tasks over a share of all tasks."""
    after: list[list[int]] = [[] for _ in range(tasks)]
    members = np.sort(rng.permutation(tasks)[: round(share * tasks)]).tolist()
    while members:
        size = int(rng.integers(4, 13))
        flow, members = members[:size], members[size:]
        for k, task in enumerate(flow):
            if k >= 2:  # two roots at least
                width = min(k, int(rng.integers(1, 4)))
                after[task] = sorted(rng.choice(flow[:k], width, replace=False).tolist())
    return after


def _demand(host: Worker, rng: np.random.Generator) -> dict[str, int]:
    """Something that fits `host`: a power of two of its cores, memory to match, perhaps GPUs."""
    demand: dict[str, int] = {}
    cores = host.capacity.get("cpu", 0) // 1000
    took = 1
    if cores:
        took = 2 ** int(rng.integers(0, int(math.log2(cores)) + 1))
        took = max(1, min(took, cores // 2)) if rng.random() < 0.8 else took
        demand["cpu"] = 1000 * took
    mem = host.capacity.get("mem", 0)
    if mem:
        demand["mem"] = max(1, min(mem, 1024 * took * int(rng.choice([1, 2, 4]))))
    gpus = host.capacity.get("gpu", 0) // 1000
    if gpus:
        demand["gpu"] = int(rng.choice([500, 1000, 1000, 2000, 4000])) if gpus >= 4 else 500
    for name, have in host.capacity.items():
        if name not in ("cpu", "mem", "gpu") and have and rng.random() < 0.3:
            demand[name] = int(rng.integers(1, max(2, have // 2 + 1)))
    return demand


def _labels(host: Worker, rng: np.random.Generator) -> tuple[str, ...]:
    """One or two label groups that `host` satisfies; some any-of."""
    have = sorted(host.labels)
    if not have:
        return ()
    groups = []
    for label in rng.choice(have, min(len(have), int(rng.integers(1, 3))), replace=False).tolist():
        stem, dash, number = label.rpartition("-")
        if dash and number.isdigit() and rng.random() < 0.5:
            groups.append("|".join(sorted({label, f"{stem}-{(int(number) + 1) % 3}"})))
        else:
            groups.append(label)
    return tuple(groups)


def pieces_that_fit(
    workers: Sequence[Worker], demand: Mapping[str, int], requires: Sequence[str]
) -> int:
    """How many shards of this demand fit on all workers together when they are empty."""
    return sum(
        min((w.capacity.get(r, 0) // a for r, a in demand.items() if a), default=1)
        for w in workers
        if w.satisfies(requires)
    )
