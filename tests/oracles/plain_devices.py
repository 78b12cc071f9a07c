"""Devices by brute force: every way of giving some to each piece, and requests with devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from plancast.planner.model.domain import DEVICE, GPU, Running, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest
from tests.oracles.random_requests import random_request


@dataclass(frozen=True)
class Stay:
    """A piece that takes so much of devices of a worker over ``[start, end)``."""

    worker: str
    start: int
    end: int
    wanted: int
    devices: tuple[int, ...] | None = None
    """Where they are known."""


def all_given(stays: Sequence[Stay], have: dict[str, int]) -> list[tuple[int, ...]] | None:
    """Devices for every piece such that none is taken more than once; None where there are none.

    Parameters
    ----------
    stays : sequence of Stay
        Those of which devices are known come first.
    have : dict of str to int
        Devices of each worker.
    """
    found: list[tuple[int, ...]] = []

    def fits(stay: Stay, devices: tuple[int, ...]) -> bool:
        others = [
            (other, held)
            for other, held in zip(stays, found, strict=False)
            if other.worker == stay.worker and other.start < stay.end and stay.start < other.end
        ]
        for second in range(stay.start, stay.end):
            for d in devices:
                taken = sum(
                    min(other.wanted, DEVICE)
                    for other, held in others
                    if d in held and other.start <= second < other.end
                )
                if taken + min(stay.wanted, DEVICE) > DEVICE:
                    return False
        return True

    def extend(k: int) -> bool:
        if k == len(stays):
            return True
        stay = stays[k]
        number = -(-stay.wanted // DEVICE)
        if stay.devices is not None or not number or not have.get(stay.worker):
            choices = [stay.devices or ()]
        else:
            choices = list(combinations(range(have[stay.worker]), number))
        for devices in choices:
            if stay.devices is not None or fits(stay, devices):
                found.append(devices)
                if extend(k + 1):
                    return True
                found.pop()
        return False

    return found if extend(0) else None


def device_request(seed: int, *, shares: bool = True, **options: bool | int) -> PlanRequest:
    """A small awkward request in which most workers' GPUs are devices.

    Parameters
    ----------
    seed : int
    shares : bool
        Whether tasks may take shares of devices, and not whole ones alone.
    **options
        Of ``random_request``.
    """
    rng = np.random.default_rng([seed, 20])
    asked = random_request(seed, **options)
    snapshot = asked.snapshot
    workers = tuple(_with_gpus(rng, worker) for worker in snapshot.workers)
    most = max(worker.capacity[GPU] for worker in workers)

    def wanting(task: Task) -> Task:
        amounts = (300, 400, 500, 600, 500) if shares and rng.random() < 0.6 else (1000, 1000, 2000)
        wanted = min(int(rng.choice(amounts)), most) if rng.random() < 0.85 else 0
        return replace(task, demand={**task.demand, GPU: wanted})

    runs = []
    by_id = {worker.id: worker for worker in workers}
    for run in snapshot.running:
        task = wanting(run.task)
        held = []
        for name in run.workers:
            number = -(-task.demand[GPU] // DEVICE) if by_id[name].devices else 0
            number = number if number <= by_id[name].device_count else -1
            held.append(number)
        if min(held) < 0:
            continue  # it cannot run there at all
        devices = tuple(
            tuple(sorted(rng.choice(by_id[name].device_count, number, replace=False).tolist()))
            if number
            else ()
            for name, number in zip(run.workers, held, strict=True)
        )
        known = bool(rng.random() < 0.6)
        runs.append(Running(task, run.workers, run.start_s, devices=devices if known else ()))
    pending = tuple(wanting(task) for task in snapshot.pending)
    gone = {r.task.id for r in snapshot.running} - {r.task.id for r in runs}
    pending = tuple(
        replace(t, after=tuple(name for name in t.after if name not in gone)) for t in pending
    )
    changed = Snapshot(
        snapshot.version, snapshot.now_s, workers, pending, tuple(runs), snapshot.finished,
        counted=snapshot.counted,
    )  # fmt: skip
    return replace(asked, snapshot=changed)


def _with_gpus(rng: np.random.Generator, worker: Worker) -> Worker:
    """A worker with one to three GPUs, mostly as devices."""
    capacity = {**worker.capacity, GPU: DEVICE * int(rng.integers(1, 4))}
    # What else there is seldom holds back: devices shall.
    capacity = {name: have if name == GPU else 2 * have for name, have in capacity.items()}
    return replace(worker, capacity=capacity, devices=bool(rng.random() < 0.85))
