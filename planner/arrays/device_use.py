"""GPUs that are devices, as arrays: what takes them, where they must be told apart, who has which.

Where all pieces on a worker take whole devices, or all the same share of which a device holds a
whole number, what is free of ``gpu`` tells what fits: devices can be given afterwards, in order of
start, for what overlaps in time can be coloured with as many colours as overlap at once. Only
where different amounts meet must a search give devices itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from plancast.planner.arrays.devices import NO_DEVICES, ON, Devices, hold_all
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.model.devices import chosen, held_devices, takes
from plancast.planner.model.domain import DEVICE, MOST_DEVICES, Plan, Snapshot, Task
from plancast.planner.model.messages import PlanRequest

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DeviceUse:
    """Devices of the workers of a problem, and what tasks take of them.

    Parameters
    ----------
    count : int64 (workers,)
        Devices of each worker; 0 where its GPUs are none.
    apart : bool (workers,)
        Whether a search must tell its devices apart.
    number, each : int64 (tasks,)
        How many devices a piece takes, and how much of each.
    busy_worker, busy_end, busy_mask, busy_each : int64 (running pieces with devices,)
        A set of devices is the bits of a number.
    """

    count: Ints
    apart: Bools
    number: Ints
    each: Ints
    busy_worker: Ints
    busy_end: Ints
    busy_mask: Ints
    busy_each: Ints

    def of_tasks(self, keep: Sequence[int]) -> DeviceUse:
        """The same of some of the tasks."""
        return DeviceUse(
            self.count, self.apart, self.number[list(keep)], self.each[list(keep)],
            self.busy_worker, self.busy_end, self.busy_mask, self.busy_each,
        )  # fmt: skip

    @cached_property
    def told_apart(self) -> bool:
        """Whether a search must tell any devices apart."""
        return bool(self.apart.any())

    def state(self, pieces: int) -> Devices:
        """Who holds what before anything is planned, where devices are to be told apart."""
        if not self.told_apart:
            return NO_DEVICES
        here = self.apart[self.busy_worker]
        size = pieces + int(here.sum())
        held = np.zeros((size, 8), np.int64)
        held[:, ON] = -1
        have = np.where(self.apart, self.count, 0)
        devices = Devices(
            np.column_stack([have, np.full_like(have, -1)]),
            np.column_stack([self.number, self.each]), held, np.zeros(MOST_DEVICES, np.int64),
        )  # fmt: skip
        hold_all(
            devices, pieces, self.busy_worker[here], self.busy_end[here], self.busy_mask[here],
            self.busy_each[here],
        )  # fmt: skip
        return devices


def device_use(
    snapshot: Snapshot, running_end: Mapping[str, int], kind: Ints, allowed: Bools
) -> DeviceUse | None:
    """``Problem.devices`` over all pending tasks; None where no worker's GPUs are devices.

    Parameters
    ----------
    snapshot : Snapshot
    running_end : mapping of str to int
        Expected end of each running task, seconds since the epoch.
    kind : int64 (tasks,)
    allowed : bool (kinds, workers)
    """
    if not snapshot.has_devices:
        return None
    count = np.array([w.device_count for w in snapshot.workers], np.int64)
    wanted = np.array([takes(t.demand) for t in snapshot.pending], np.int64).reshape(-1, 2)
    index = {w.id: k for k, w in enumerate(snapshot.workers)}
    sizes: list[set[int]] = [set() for _ in count]
    for kind_k, each in set(zip(kind.tolist(), wanted[:, 1].tolist(), strict=True)):
        for w in np.flatnonzero(allowed[kind_k] & (count > 0)).tolist() if each else ():
            sizes[w].add(each)
    busy: list[tuple[int, int, int, int]] = []
    held = held_devices(snapshot)
    for run in snapshot.running:
        each = takes(run.task.demand)[1]
        for name, devices in zip(run.workers, held.get(run.task.id, ()), strict=False):
            if devices:
                sizes[index[name]].add(each)
                end = running_end[run.task.id] - snapshot.now_s
                busy.append((index[name], end, mask_of(devices), each))
    columns = np.array(busy, np.int64).reshape(-1, 4)
    apart = [len(some) > 1 or any(DEVICE % each for each in some) for some in sizes]
    return DeviceUse(
        count, np.array(apart, np.bool_), wanted[:, 0].copy(), wanted[:, 1].copy(),
        *(columns[:, k].copy() for k in range(4)),
    )  # fmt: skip


def most_pieces(task: Task, devices: int) -> int:
    """How many pieces of a task so many devices hold when nothing else is on them."""
    number, each = takes(task.demand)
    return devices * (DEVICE // each) // number if number else task.shards


def device_start(use: DeviceUse, i: int, w: int, start: int) -> int:
    """The first moment from `start` on at which what runs leaves a task devices of a worker."""
    number, each = int(use.number[i]), int(use.each[i])
    if not number or not use.apart[w]:
        return start
    here = use.busy_worker == w
    for at in (start, *sorted(int(t) for t in use.busy_end[here] if t > start)):
        taken = np.zeros(use.count[w], np.int64)
        for end, mask, held in zip(
            use.busy_end[here].tolist(), use.busy_mask[here].tolist(),
            use.busy_each[here].tolist(), strict=True,
        ):  # fmt: skip
            taken[list(devices_in(mask))] += held if end > at else 0
        if (taken + each <= DEVICE).sum() >= number:
            return at
    return start


def with_named(request: PlanRequest, plan: Plan) -> Plan:
    """A plan whose tasks have devices, by the rule and in order of start.

    Notes
    -----
    Each takes what its mode does. Where no devices need be told apart there always are some. A
    plan with workers or modes that there are no more stays as it is.
    """
    snapshot = request.snapshot
    have = {w.id: w.device_count for w in snapshot.workers}
    task_of = {**snapshot.pending_by_id, **{r.task.id: r.task for r in snapshot.running}}
    for row in plan.assignments:
        if not task_of[row.task].has_mode(row.mode) or not have.keys() >= {*row.workers}:
            return plan
    held = held_devices(snapshot)
    holds: dict[str, list[tuple[int, int, tuple[int, ...]]]] = {name: [] for name in have}
    for run in snapshot.running:
        until_s, each = expected_end_s(request, run), takes(run.done.demand)[1]
        for name, devices in zip(run.workers, held.get(run.task.id, ()), strict=False):
            holds[name].append((until_s, each, devices))
    rows = []
    for row in sorted(plan.assignments, key=lambda a: (a.start_s, a.task)):
        number, each = takes(task_of[row.task].in_mode(row.mode).demand)
        given: list[tuple[int, ...]] = []
        for name in row.workers if number else ():
            use = [0] * have[name]
            for until_s, part, devices in holds[name]:
                for d in devices if until_s > row.start_s else ():
                    use[d] += part
            mine = (chosen(use, number, each) or ()) if use else ()
            holds[name].append((row.end_s, each, mine))
            given.append(mine)
        rows.append(replace(row, devices=tuple(given) if any(given) else ()))
    rows.sort(key=lambda a: (a.start_s, a.end_s, a.task))
    return replace(plan, assignments=tuple(rows))


def mask_of(devices: Sequence[int]) -> int:
    """Devices by number as the bits of a number."""
    return sum(1 << d for d in devices)


def devices_in(mask: int) -> tuple[int, ...]:
    """The devices that the bits of a number are."""
    return tuple(d for d in range(MOST_DEVICES) if mask >> d & 1)


def given(
    use: DeviceUse, task: Ints, worker: Ints, start: Ints, end: Ints, known: Ints | None
) -> Ints | None:
    """Devices of every piece of a schedule, as bits; None where the rule finds no room for one.

    Parameters
    ----------
    use : DeviceUse
    task, worker, start, end : int64 (pieces,)
    known : int64 (pieces,), optional
        Devices that are given already, of workers on which they are told apart; 0 for none.

    Notes
    -----
    In order of start: what is held of a device while a piece runs, by what began before it, is
    most when it starts. So where no devices need be told apart there always is room, as long as
    there is enough of ``gpu``.
    """
    found = np.zeros(len(task), np.int64) if known is None else known.copy()
    wants = (use.number[task] > 0) & (use.count[worker] > 0)
    for w in np.unique(worker[wants]).tolist():
        mine = np.flatnonzero(wants & (worker == w))
        if use.apart[w] and found[mine].all():
            continue
        here = use.busy_worker == w
        held = [
            (0, int(until), devices_in(int(mask)), int(each))
            for until, mask, each in zip(
                use.busy_end[here], use.busy_mask[here], use.busy_each[here], strict=True
            )
        ]
        for p in mine[np.lexsort((task[mine], start[mine]))].tolist():
            held = [one for one in held if one[1] > start[p]]
            taken = [0] * int(use.count[w])
            for _, _, devices, each in held:
                for d in devices:
                    taken[d] += each
            got = chosen(taken, int(use.number[task[p]]), int(use.each[task[p]]))
            if got is None:
                return None
            found[p] = mask_of(got)
            held.append((int(start[p]), int(end[p]), got, int(use.each[task[p]])))
    return found
