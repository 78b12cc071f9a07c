"""Seeded clusters, batches and small adversarial requests; logs are in ``generate_log``.

For the embedded default of ``make run``, for tests and for benchmarks. The same arguments
and seed give the same result; nothing here reads a clock or a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plancast.planner.instances.generate_log import GeneratedLog, generate_log, swf_text, write_swf
from plancast.planner.model.domain import (
    ANY_CLASS,
    Assignment,
    BadRequest,
    DurationEstimate,
    Finished,
    Outcome,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Window,
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
    "random_request",
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
    areas_s = [
        float(np.sum(median_s * [d.get(r, 0) for d in demands])) / have
        for r in ("cpu", "mem")
        if (have := sum(w.capacity.get(r, 0) for w in workers))
    ]
    area_s = max(areas_s, default=0.0)

    batch: list[Task] = []
    estimates: dict[str, dict[str, DurationEstimate]] = {}
    for i, host in enumerate(workers[h] for h in hosts.tolist()):
        name = f"t{i}"
        requires = _labels(host, rng) if rng.random() < label_share else ()
        shards = 1
        if rng.random() < gang_share:
            places = _pieces(workers, demands[i], requires)
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


def _pieces(workers: Sequence[Worker], demand: Mapping[str, int], requires: Sequence[str]) -> int:
    """How many shards of this demand fit on all workers together when they are empty."""
    return sum(
        min((w.capacity.get(r, 0) // a for r, a in demand.items() if a), default=1)
        for w in workers
        if w.satisfies(requires)
    )


# --------------------------------------------------------------------------- small requests


def random_request(
    seed: int | np.random.Generator,
    max_tasks: int = 5,
    max_workers: int = 3,
    *,
    now_s: int = 1_000_000,
    max_duration_s: int = 4,
    classes: bool = True,
    labels: bool = True,
    precedence: bool = True,
    releases: bool = True,
    deadlines: bool = True,
    gangs: bool = True,
    drains: bool = True,
    blocked: bool = True,
    free_from: bool = True,
    running: bool = True,
    preemption: bool = True,
    finished: bool = True,
    weights: bool = True,
    power: bool = True,
    health: bool = True,
    spread: bool = True,
    incumbent: bool = True,
    bounds: bool = True,
    misfits: bool = True,
) -> PlanRequest:
    """A small request that tries to be awkward, for comparing solvers with brute force.

    Parameters
    ----------
    seed : int or numpy Generator
    max_tasks, max_workers : int
        Pending tasks and workers; at least one of each.
    now_s : int
        Time of planning, seconds since the epoch.
    max_duration_s : int
        Planned durations lie in ``[1, max_duration_s]``.
    classes : bool
        Up to three machine classes with their own durations, some of them not eligible.
    labels, precedence, releases, deadlines, gangs, drains, blocked, free_from, running : bool
        Whether the request may have them; releases lie before and after now.
    preemption : bool
        Whether running tasks may be preemptible.
    finished : bool
        Whether predecessors may have ended already (some not completed, with `misfits`).
    weights : bool
        Weights other than 1, zero among them.
    power, health : bool
        Whether workers have powers and boot energies, and a health below 1.
    spread : bool
        Estimates of several levels, rather than certain ones.
    incumbent : bool
        Whether there may be a plan in force and a price on moves.
    bounds : bool
        Whether deadlines may be hard, and waits and stretches bounded.
    misfits : bool
        Whether some tasks may fit no worker; without them, drains and bounds every task can
        be planned.

    Returns
    -------
    PlanRequest
        Prices over every term, many of them zero. As seconds are tiny, terms in hours are
        priced at thousands an hour, so that a second of any term can tip the balance.
    """
    rng = np.random.default_rng(seed)

    def coin(chance: float, allowed: bool = True) -> bool:
        return allowed and bool(rng.random() < chance)

    def pick(low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return int(rng.integers(low, high + 1))

    class_names = ["a", "b", "c"][: pick(1, 3) if classes else 1]
    resources = ["cpu", "mem"][: pick(1, 2)]
    workers: list[Worker] = []
    for k in range(pick(1, max_workers)):
        if workers and coin(0.3):  # an identical twin: solvers break such symmetries
            workers.append(replace(workers[-1], id=f"w{k}"))
            continue
        start_s = now_s + pick(-1, 6)
        windows = [Window(start_s, start_s + pick(1, 3))] if coin(0.25, blocked) else []
        if windows and coin(0.2):
            later_s = windows[0].end_s + pick(0, 3)
            windows.append(Window(later_s, later_s + pick(1, 2)))
        workers.append(
            Worker(
                id=f"w{k}",
                capacity={name: 1000 * pick(1, 4) for name in resources},
                labels=frozenset(x for x in "xyz" if coin(0.5)) if labels else frozenset(),
                machine_class=class_names[pick(0, len(class_names) - 1)],
                free_from_s=now_s + pick(-2, 4) if coin(0.3, free_from) else 0,
                until_s=now_s + pick(2, 12) if coin(0.2, drains) else None,
                blocked=tuple(windows),
                idle_w=60.0 * pick(0, 3) if power else 0.0,
                busy_w=60.0 * pick(0, 6) if power else 0.0,
                boot_kwh=1e-4 * pick(0, 3) if power else 0.0,
                health=(1.0, 0.9, 0.5, 0.01)[pick(0, 3)] if health else 1.0,
            )
        )

    level = (0.5, 0.7, 0.9)[pick(0, 2)] if spread else 0.5
    estimates: dict[str, dict[str, DurationEstimate]] = {}

    def estimate() -> DurationEstimate:
        planned_s = pick(1, max_duration_s)
        if not coin(0.5, spread):
            return DurationEstimate.certain(planned_s, "random")
        return DurationEstimate(
            (0.1, level, 0.95),
            (pick(1, planned_s), planned_s, planned_s + pick(0, 2)),
            "random",
        )

    def running_estimate(elapsed_s: int) -> DurationEstimate:
        if elapsed_s and level < 0.9 and coin(0.15):
            return DurationEstimate.certain(elapsed_s, "refuted")
        longest_s = elapsed_s + pick(1, max_duration_s)
        if not coin(0.5, spread):
            return DurationEstimate.certain(longest_s, "random")
        return DurationEstimate((0.1, level, 0.95), (1, max(1, longest_s - 1), longest_s), "random")

    def estimates_of() -> dict[str, DurationEstimate]:
        if len(class_names) == 1 or coin(0.3):
            return {ANY_CLASS: estimate()}
        chosen = {c: estimate() for c in class_names if coin(0.8)}
        if not chosen or coin(0.15):
            chosen[ANY_CLASS] = estimate()
        return chosen

    def task(name: str, after: tuple[str, ...], host: Worker, misfit: bool) -> Task:
        demand = {
            r: 500 * pick(1, 2 * host.capacity[r] // 1000) if coin(0.85) else 0 for r in resources
        }
        groups: list[str] = []
        if host.labels and coin(0.35, labels):
            mine = sorted(host.labels)[pick(0, len(host.labels) - 1)]
            groups.append("|".join(sorted({mine, "xyz"[pick(0, 2)]})) if coin(0.5) else mine)
        if misfit and coin(0.5):
            groups.append("nowhere")
        elif misfit:
            demand[resources[0]] = 9000
        release_s = now_s + (pick(-5, 4) if releases else 0)
        earliest_s = max(release_s, now_s)
        return Task(
            id=name,
            demand=demand,
            release_s=release_s,
            deadline_s=earliest_s + pick(0, 10) if coin(0.5, deadlines) else None,
            weight=float((0, 0.5, 1, 1, 2, 3)[pick(0, 5)]) if weights else 1.0,
            owner=("ann", "bob", "eve")[pick(0, 2)],
            requires=tuple(groups),
            after=after,
            shards=pick(2, 3) if coin(0.25, gangs) else 1,
        )

    ended: list[Finished] = []
    if coin(0.3, finished):
        bad = coin(0.15, misfits)
        ended.append(Finished("f0", now_s - 3, Outcome.FAILED if bad else Outcome.COMPLETED))

    runs: list[Running] = []
    left = {w.id: dict(w.capacity) for w in workers}
    for k in range(pick(0, 2) if running else 0):
        host = workers[pick(0, len(workers) - 1)]
        drawn = task(f"r{k}", (), host, misfit=False)
        places = [host.id] + [
            workers[pick(0, len(workers) - 1)].id for _ in range(drawn.shards - 1)
        ]
        need = {(w, r): drawn.demand[r] * places.count(w) for w in places for r in resources}
        if any(amount > left[w][r] for (w, r), amount in need.items()) and not coin(0.05):
            continue  # seldom over capacity, as real logs are
        for (w, r), amount in need.items():
            left[w][r] -= amount
        start_s = now_s - pick(0, 3)
        drawn = replace(
            drawn,
            release_s=min(drawn.release_s, start_s),
            preemptible=coin(0.4, preemption),
            requested_s=now_s - start_s + pick(1, 3) if coin(0.2) else None,
        )
        runs.append(Running(drawn, tuple(places), start_s))
        estimates[drawn.id] = {ANY_CLASS: running_estimate(now_s - start_s)}

    pending: list[Task] = []
    for k in range(pick(1, max_tasks)):
        before = [t.id for t in (*pending, *(r.task for r in runs))] + [f.id for f in ended]
        after: tuple[str, ...] = ()
        if before and coin(0.35, precedence):
            chosen = rng.choice(before, min(len(before), pick(1, 2)), replace=False)
            after = tuple(sorted(str(name) for name in chosen))
        host = workers[pick(0, len(workers) - 1)]
        drawn = task(f"t{k}", after, host, misfit=coin(0.08, misfits))
        own = estimates_of()
        if not misfits and host.machine_class not in own and ANY_CLASS not in own:
            own[host.machine_class] = estimate()
        if not misfits:
            eligible = [w for w in workers if w.machine_class in own or ANY_CLASS in own]
            room = _pieces(eligible, drawn.demand, drawn.requires)
            drawn = replace(drawn, shards=min(drawn.shards, room))
        pending.append(drawn)
        estimates[drawn.id] = own
    order = rng.permutation(len(pending))

    in_force = None
    if coin(0.4, incumbent):
        in_force = Plan(
            tuple(
                Assignment(
                    t.id,
                    tuple(workers[pick(0, len(workers) - 1)].id for _ in range(t.shards)),
                    (start_s := now_s + pick(0, 6)),
                    start_s + pick(1, max_duration_s),
                )
                for t in pending
                if coin(0.8)
            ),
            made_at_s=now_s - 1,
            snapshot_version=2,
        )

    per_hour = 3600.0
    prices = Prices(
        makespan_h=per_hour * pick(0, 3),
        late_h=per_hour * pick(0, 3) if deadlines else 0.0,
        misses=float(pick(0, 4)) if deadlines else 0.0,
        wait_h=per_hour * pick(0, 2),
        stretch=float(pick(0, 4)) if coin(0.4) else 0.0,
        kwh=18_000.0 * pick(0, 3) if coin(0.5, power) else 0.0,
        unfair_h=per_hour * pick(1, 3) if coin(0.3) else 0.0,
        imbalance_h=per_hour * pick(1, 3) if coin(0.3) else 0.0,
        failures=1000.0 * pick(1, 3) if coin(0.3, health) else 0.0,
        moves=float(pick(0, 3)) if incumbent else 0.0,
    )
    return PlanRequest(
        request_id="random",
        snapshot=Snapshot(
            version=3,
            now_s=now_s,
            workers=tuple(workers),
            pending=tuple(pending[i] for i in order),
            running=tuple(runs),
            finished=tuple(ended),
        ),
        estimates=estimates,
        policy=Policy(
            prices=prices,
            level=level,
            hard_deadlines=coin(0.15, bounds and deadlines),
            max_wait_s=pick(0, 12) if coin(0.1, bounds) else None,
            max_stretch=float(pick(1, 4)) if coin(0.1, bounds) else None,
            move_tolerance_s=pick(0, 2) if incumbent else 0,
        ),
        incumbent=in_force,
        seed=0,
    )
