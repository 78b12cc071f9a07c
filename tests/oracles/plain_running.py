"""What runs, task after task: the slow twin of ``running_table``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plancast.planner.arrays.hours import extra_cost, hours_of
from plancast.planner.arrays.problem import amounts
from plancast.planner.arrays.rates import Rates, rates_of
from plancast.planner.model.domain import HOUR_S, MIN_STRETCH_S, Running, Task
from plancast.planner.model.messages import PlanRequest


def running_arrays(
    request: PlanRequest, running_end: dict[str, int], resources: tuple[str, ...]
) -> dict[str, Any]:
    """What runs: its pieces on the workers, and what it costs."""
    snapshot = request.snapshot
    now = snapshot.now_s
    index = {w.id: k for k, w in enumerate(snapshot.workers)}
    rates, fixed = rates_of(request.policy.prices, snapshot.workers, now), 0.0
    hours = hours_of(request.policy.prices, snapshot.workers, now)
    last_end = np.zeros(len(index), np.int64)
    load_h = np.zeros(len(index))
    on = np.zeros(len(index), np.bool_)
    pieces: list[tuple[int, int, Task]] = []
    for run in snapshot.running:
        task, end_s = run.task, running_end[run.task.id]
        ahead_h = (end_s - now) / HOUR_S
        held: list[tuple[int, float, float]] = []
        for name in run.workers:
            w = index[name]
            worker = snapshot.workers[w]
            share = worker.dominant_share(task.demand)
            held.append((w, share, worker.health))
            load_h[w] += share * ahead_h
            last_end[w] = max(last_end[w], end_s - now)
            on[w] = True
            pieces.append((w, end_s - now, task))
        fixed += running_cost(rates, run, end_s, now, held)
        if hours is not None:
            for w, share, _ in held:
                fixed += extra_cost(hours, w, hours.busy_w[w] * share, 0, end_s - now)
    return {
        "busy_worker": np.array([p[0] for p in pieces], np.int64),
        "busy_end": np.array([p[1] for p in pieces], np.int64),
        "busy_demand": amounts([p[2].demand for p in pieces], resources),
        "last_end": last_end,
        "on": on,
        "load_h": load_h,
        "rates": rates._replace(fixed=fixed),
        "hours": hours,
    }


def running_cost(
    rates: Rates, run: Running, end_s: int, now_s: int, pieces: Sequence[tuple[int, float, float]]
) -> float:
    """What a running task adds to ``Rates.fixed``.

    Parameters
    ----------
    rates : Rates
    run : Running
    end_s, now_s : int
        Its expected end, and now, seconds since the epoch.
    pieces : sequence of (int, float, float)
        Worker, dominant share and health of each piece.
    """
    task, ahead_s = run.task, end_s - now_s
    cost = rates.wait * (run.start_s - task.release_s)
    if task.deadline_s is not None and end_s > task.deadline_s:
        cost += rates.late * (end_s - task.deadline_s) + rates.miss
    cost += rates.slowdown * (end_s - task.release_s) / max(end_s - run.start_s, MIN_STRETCH_S)
    own = task.weight * cost
    for worker, share, health in pieces:
        own += float(rates.busy[worker]) * share * ahead_s
        own += rates.fail * (1.0 - health ** (ahead_s / HOUR_S))
    return own
