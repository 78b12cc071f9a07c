"""What tasks may draw, in whole watts, where a power cap counts it for the whole cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plancast.planner.model.domain import Running, Task, Worker

ROUNDING = 1e-9
"""Watts by which a product of decimal numbers may be off."""


def watts_of(task: Task, workers: Sequence[Worker]) -> int:
    """What a task may draw at most, wherever it runs: whole watts for each piece."""
    ways = [task.in_mode(mode.id) for mode in task.modes] or [task]
    return max(
        (
            way.shards * _watts(way, worker)
            for way in ways
            for worker in workers
            if worker.satisfies(way.requires)
            and all(amount <= worker.capacity.get(name, 0) for name, amount in way.demand.items())
        ),
        default=0,
    )


def watts_of_running(run: Running, workers: Sequence[Worker]) -> int:
    """What a running task draws on its workers."""
    known = {worker.id: worker for worker in workers}
    return sum(_watts(run.done, known[name]) for name in run.workers)


def _watts(way: Task, worker: Worker) -> int:
    return math.ceil(worker.busy_w * worker.dominant_share(way.demand) - ROUNDING)
