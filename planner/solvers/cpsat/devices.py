"""GPUs that are devices in the model: literals for pieces and devices, a cumulative for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from plancast.planner.arrays.device_use import DeviceUse, devices_in, mask_of
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.model.domain import DEVICE

Named = dict[tuple[int, int], list[int]]
"""Task and worker to how many of the task's pieces there hold each device."""


def add_devices(model: Any, w: int, use: DeviceUse) -> None:
    """Let each piece on worker w hold devices, and each device no more than it has.

    Notes
    -----
    Devices that nothing running holds are alike: numbered by the first task that holds them, a
    task can hold none of a number that it and those before it cannot have reached.
    """
    count = int(use.count[w])
    intervals: list[list[Any]] = [[] for _ in range(count)]
    demands: list[list[Any]] = [[] for _ in range(count)]
    runs = _hold_what_runs(model, w, use, intervals, demands)
    reached = 0
    for i, p in model.on_worker[w]:
        number, each = int(use.number[i]), int(use.each[i])
        if not number:
            continue
        reached = count if runs else min(count, reached + number * p.most)
        holds = []
        for d in range(count):
            x = 0 if d >= reached else _held(model, i, p, d, min(p.most, DEVICE // each))
            holds.append(x)
            if d >= reached:
                continue
            # One piece: an interval for each device. Several: all of them over the same time.
            present = x if p.most == 1 else p.present
            intervals[d].append(
                model.model.new_optional_fixed_size_interval_var(
                    model.start[i], p.duration, present, ""
                )
            )
            demands[d].append(each if p.most == 1 else each * x)
        model.model.add(sum(holds) == number * p.count)
        model.devices[i, w, p.duration] = holds
    for d in range(count):
        if len(intervals[d]) > 1:
            model.model.add_cumulative(intervals[d], demands[d], DEVICE)


def _held(model: Any, i: int, p: Any, d: int, most: int) -> Any:
    """How many pieces of a task hold a device."""

    def worth(f: Any) -> float:
        named = f.devices.get((i, p.worker))
        return float(named[d]) if named is not None and f.on(i, p) > 0 else 0.0

    return model.bool_var(worth) if most == 1 else model.int_var(0, most, worth)


def _hold_what_runs(
    model: Any, w: int, use: DeviceUse, intervals: list[list[Any]], demands: list[list[Any]]
) -> bool:
    """Hold what running tasks do, no more than there is; whether they hold anything."""
    here = np.flatnonzero(use.busy_worker == w)
    ends = sorted({int(t) for t in use.busy_end[here]})
    for begin, until in zip([0, *ends], ends, strict=False):
        taken = np.zeros(len(intervals), np.int64)
        for k in here[use.busy_end[here] > begin].tolist():
            taken[list(devices_in(int(use.busy_mask[k])))] += use.busy_each[k]
        for d in np.flatnonzero(taken).tolist():
            interval = model.model.new_fixed_size_interval_var(begin, until - begin, "")
            intervals[d].append(interval)
            demands[d].append(min(DEVICE, int(taken[d])))
    return bool(len(here))


def devices_held(model: Any, solver: Any) -> Ints:
    """Devices of every piece as bits, in the order of ``Model.schedule``."""
    use = model.problem.devices
    assert use is not None
    found: list[int] = []
    for i, pieces in enumerate(model.pieces):
        for p in pieces:
            pieces_here = solver.value(p.count)
            holds = model.devices.get((i, p.worker, p.duration))
            if holds is None:
                found += [0] * pieces_here
                continue
            held = [d for d, x in enumerate(holds) for _ in range(solver.value(x))]
            number = int(use.number[i])
            found += [mask_of(held[k * number : (k + 1) * number]) for k in range(pieces_here)]
    return np.array(found, np.int64)


def devices_named(problem: Problem, schedule: Schedule) -> Named:
    """What a schedule says of devices, with those of a worker numbered as ``add_devices`` does."""
    use, masks = problem.devices, schedule.devices
    if use is None or masks is None or not use.told_apart:
        return {}
    found: Named = {}
    label: dict[int, dict[int, int]] = {}
    for i in range(len(problem.tasks)):
        for p in range(problem.shard_ptr[i], problem.shard_ptr[i + 1]):
            w, mask = int(schedule.worker[p]), int(masks[p])
            if not mask:
                continue
            count = int(use.count[w])
            mine = label.setdefault(w, {})
            named = found.setdefault((i, w), [0] * count)
            for d in devices_in(mask):
                fresh = d if (use.busy_worker == w).any() else len(mine)
                named[mine.setdefault(d, fresh)] += 1
    return found
