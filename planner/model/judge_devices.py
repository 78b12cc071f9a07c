"""Whether a plan gives every piece devices of its own, as the judge counts them.

Plain Python that shares nothing with the arrays and engines that give them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from plancast.planner.model.domain import DEVICE, GPU, Assignment, Plan, Snapshot, Task, Worker
from plancast.planner.model.spans import Span
from plancast.planner.model.violations import Violation, ViolationKind


def device_violations(
    snapshot: Snapshot,
    plan: Plan,
    spans: Collection[Span],
    to_place: Mapping[str, Task],
    realised: bool,
) -> Iterator[Violation]:
    """What is wrong with the devices that a plan names, and the devices that are taken twice.

    Of what really ran they may be unknown.
    """
    for assignment in plan.assignments:
        task = to_place.get(assignment.task)
        on = [snapshot.worker_by_id.get(name) for name in assignment.workers]
        known = [worker for worker in on if worker is not None]
        if task is None or not task.has_mode(assignment.mode) or len(known) < len(on):
            continue
        if assignment.devices or not realised:
            yield from _naming_violations(assignment, task.in_mode(assignment.mode), known)
    yield from _taken_violations(spans, to_place)


def device_fault(task: Task, worker: Worker, devices: Sequence[int]) -> str | None:
    """What is wrong with the devices that a piece has of a worker; None for nothing."""
    wanted, have = task.demand.get(GPU, 0), worker.device_count
    takes = -(-wanted // DEVICE) if have else 0
    if len(devices) != takes or len(set(devices)) != takes:
        return f"has devices {list(devices)} of worker {worker.id}, where a piece takes {takes}"
    if not all(0 <= d < have for d in devices):
        return f"has devices {list(devices)} of worker {worker.id}, which has {have}"
    return None


def _naming_violations(
    assignment: Assignment, task: Task, workers: Sequence[Worker]
) -> Iterator[Violation]:
    """What is wrong with the devices that an assignment names; `workers` is one for each piece."""
    devices = assignment.devices
    if not devices and not any(w.device_count and task.demand.get(GPU) for w in workers):
        return
    if len(devices) != len(workers):
        yield Violation(
            ViolationKind.WRONG_DEVICES,
            f"task {task.id} names devices of {len(devices)} pieces; it has {len(workers)}",
            task.id,
        )
        return
    for worker, held in zip(workers, devices, strict=True):
        fault = device_fault(task, worker, held)
        if fault is not None:
            yield Violation(
                ViolationKind.WRONG_DEVICES, f"task {task.id} {fault}", task.id, worker.id
            )


def _taken_violations(spans: Collection[Span], planned: Collection[str]) -> Iterator[Violation]:
    """One violation for each worker, at the first planned start on a device without room for it.

    Parameters
    ----------
    spans : collection of Span
    planned : collection of str
        Tasks that the plan places; the others run already, and may share as they please.
    """
    on: dict[str, list[tuple[int, int, bool, str, int, tuple[int, ...]]]] = defaultdict(list)
    for span in spans:
        wanted = span.task.demand.get(GPU, 0)
        if len(span.devices) != len(span.workers):
            continue
        for worker, held in zip(span.workers, span.devices, strict=True):
            if not held or device_fault(span.task, worker, held) is not None:
                continue
            each, placed = min(wanted, DEVICE), span.task.id in planned
            on[worker.id].append((span.start_s, 1, placed, span.task.id, each, held))
            on[worker.id].append((span.end_s, -1, placed, span.task.id, each, held))
    for name, steps in on.items():
        use: dict[int, int] = defaultdict(int)
        # Ends come before starts, and what runs before what is planned for the same moment.
        for at_s, sign, placed, task, each, held in sorted(steps, key=lambda step: step[:3]):
            for d in held:
                use[d] += sign * each
            full = [d for d in held if use[d] > DEVICE]
            if sign > 0 and placed and full:
                yield Violation(
                    ViolationKind.DEVICE_TAKEN,
                    f"device {full[0]} of worker {name} is taken {use[full[0]] / DEVICE:g} times "
                    f"at {at_s} when task {task} starts",
                    task,
                    name,
                )
                break


def device_room(
    worker: Worker, spans: Collection[Span], wanted: int, start_s: int, end_s: int
) -> int:
    """How many pieces that each take `wanted` the devices of a worker have room for at once.

    Parameters
    ----------
    worker : Worker
        Whose GPUs are devices.
    spans : collection of Span
        What is on it; its devices are known.
    wanted : int
        More than 0, in thousandths of a device.
    start_s, end_s : int
    """
    held: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for span in spans:
        if span.start_s >= end_s or span.end_s <= start_s:
            continue
        for on, devices in zip(span.workers, span.devices, strict=False):
            for d in devices if on.id == worker.id else ():
                each = min(span.task.demand.get(GPU, 0), DEVICE)
                held[d].append((span.start_s, span.end_s, each))
    free = []
    for d in range(worker.device_count):
        moments = {start_s, *(since for since, _, _ in held[d] if since > start_s)}
        used = max(sum(e for since, until, e in held[d] if since <= t < until) for t in moments)
        free.append(max(0, DEVICE - used))
    if wanted >= DEVICE:
        return sum(left == DEVICE for left in free) // (wanted // DEVICE)
    return sum(left // wanted for left in free)
