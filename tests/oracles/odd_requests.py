"""Requests with ordinary and odd clocks: far releases, long and short tasks, large amounts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plancast.planner.model.domain import DurationEstimate, Running, Snapshot, Task, Window, Worker
from plancast.planner.model.messages import PlanRequest
from tests.oracles.random_requests import random_request

NOWS = (0, 1, 1_000_000, 1_800_000_000, 1 << 40)
LONG_S = (1, 60, 3_600, 86_400, 31_536_000)
FAR_S = (0, 7, 3_600, 86_400, 315_360_000, 1 << 38, 1 << 44)


def odd_request(seed: int) -> PlanRequest:
    """A request whose times lie where sums of floats lose seconds.

    Parameters
    ----------
    seed : int

    Returns
    -------
    PlanRequest
        One of ``random_request`` with its durations stretched and its releases spread, or a
        cluster of many cores on which short tasks are released at one far moment.
    """
    rng = np.random.default_rng(seed)
    now_s = int(rng.choice(NOWS))
    if seed % 2:
        return _many_cores(rng, now_s)
    request = random_request(
        seed, max_tasks=6, now_s=now_s, max_duration_s=int(rng.choice(LONG_S)), incumbent=False
    )
    far_s = rng.choice(FAR_S, len(request.snapshot.pending))
    pending = tuple(
        replace(
            task,
            release_s=task.release_s + int(far),
            deadline_s=None if task.deadline_s is None else task.deadline_s + int(far),
        )
        for task, far in zip(request.snapshot.pending, far_s, strict=True)
    )
    return replace(request, snapshot=replace(request.snapshot, pending=pending))


def _many_cores(rng: np.random.Generator, now_s: int) -> PlanRequest:
    release_s = now_s + int(rng.choice(FAR_S))
    cores, count = int(rng.choice([1, 3, 64, 1000])), int(rng.integers(1, 30))
    workers = tuple(
        Worker(
            f"w{k}",
            {"cpu": 1000 * cores, "mem": int(rng.choice([4096, 1 << 40]))},
            free_from_s=now_s,
            blocked=tuple(
                Window(now_s + 40 * b + 20, now_s + 40 * b + 30 + k)
                for b in range(int(rng.choice([0, 0, 40])))
            ),
        )
        for k in range(int(rng.choice([1, 4, 50])))
    )
    seconds = int(rng.choice([1, 5, 3_601, 86_399, 1 << 33]))
    tasks = tuple(
        Task(
            f"t{k}", {"cpu": int(rng.choice([1, 333, 1000])), "mem": int(rng.choice([0, 7]))},
            release_s + int(rng.choice([0, 0, 1, 3])), weight=float(rng.choice([0, 1, 1e-3, 1e6])),
        )
        for k in range(count)
    )  # fmt: skip
    running = tuple(
        Running(Task(f"r{k}", {"cpu": 1}, now_s - 9), (workers[k % len(workers)].id,), now_s - 9)
        for k in range(int(rng.choice([0, 0, 70])))
    )
    estimates = {t.id: {"*": DurationEstimate.certain(seconds)} for t in tasks}
    estimates |= {r.task.id: {"*": DurationEstimate.certain(20 + k)} for k, r in enumerate(running)}
    return PlanRequest(f"odd-{release_s}", Snapshot(0, now_s, workers, tasks, running), estimates)
