"""Requests at the limits of what may be said: times, amounts, weights, shards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plancast.planner.model.domain import (
    MOST_AMOUNT,
    MOST_FACTOR,
    MOST_TIME_S,
    DurationEstimate,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest

TIMES = (0, 1, 1 << 31, 1 << 44, MOST_TIME_S, -MOST_TIME_S)
SECONDS = (1, 3_600, 1 << 32, 1 << 44, MOST_TIME_S)
AMOUNTS = (1, 1_000, 1 << 31, 1 << 44, MOST_AMOUNT - 1, MOST_AMOUNT)
FACTORS = (0.0, 1e-12, 1.0, 1e6, MOST_FACTOR)


def extreme_request(seed: int) -> PlanRequest:
    """A small request, each field of which lies at some limit or far from it.

    Parameters
    ----------
    seed : int
    """
    rng = np.random.default_rng(seed)

    def one_of(values: tuple[int, ...]) -> int:
        return values[int(rng.integers(len(values)))]

    def factor() -> float:
        return float(FACTORS[int(rng.integers(len(FACTORS)))])

    now_s = one_of((0, 5, 1 << 31, MOST_TIME_S, -MOST_TIME_S))
    workers = tuple(
        Worker(
            f"w{k}", {"cpu": 4_000, "bytes": one_of(AMOUNTS)}, idle_w=factor(), busy_w=factor(),
            boot_kwh=factor(),
        )
        for k in range(int(rng.integers(1, 4)))
    )  # fmt: skip
    tasks = []
    for k in range(int(rng.integers(1, 12))):
        release_s = one_of((now_s, *TIMES)) if rng.random() < 0.3 else now_s
        due_s = one_of(TIMES)
        tasks.append(
            Task(
                f"t{k}", {"cpu": 1_000, "bytes": one_of(AMOUNTS) // 4}, release_s,
                due_s if due_s >= release_s and rng.random() < 0.5 else None,
                weight=factor(), shards=1 if rng.random() < 0.8 else int(rng.integers(2, 5)),
                after=(f"t{k - 1}",) if k and rng.random() < 0.2 else (),
            )
        )  # fmt: skip
    estimates = {
        t.id: {"*": DurationEstimate.certain(one_of(SECONDS[: 4 if len(tasks) > 2 else 5]))}
        for t in tasks
    }
    running: tuple[Running, ...] = ()
    if rng.random() < 0.3:
        began_s = max(-MOST_TIME_S, now_s - one_of((1, 60, 1 << 44)))
        task = Task("r", {"cpu": 1_000}, began_s, preemptible=rng.random() < 0.5)
        running = (Running(task, ("w0",), began_s),)
        estimates["r"] = {"*": DurationEstimate.certain(one_of(SECONDS))}
    prices = replace(Prices(), makespan_h=factor(), late_h=factor(), wait_h=factor(), kwh=factor())
    policy = Policy(
        prices if rng.random() < 0.8 else Prices(makespan_h=1, late_h=0, misses=0, wait_h=0),
        level=0.999 if rng.random() < 0.1 else 0.5,
        max_stretch=1e12 if rng.random() < 0.1 else None,
        max_wait_s=MOST_TIME_S if rng.random() < 0.1 else None,
    )
    snapshot = Snapshot(0, now_s, workers, tuple(tasks), running)
    return PlanRequest(f"extreme-{seed}", snapshot, estimates, policy)
