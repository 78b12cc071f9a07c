"""What holds workers and for how long, as the evaluator has it: durations, expected ends, spans.

Plain Python over the frozen types; what is judged shares none of it (``arrays.running`` has its
own words for the durations).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from plancast.planner.model.devices import held_devices
from plancast.planner.model.domain import Plan, Running, Task, Worker, estimate_for
from plancast.planner.model.judge_placement import meets_labels
from plancast.planner.model.messages import PlanRequest


@dataclass(frozen=True, slots=True)
class Span:
    """A task on its workers, planned or already running, as the cost sees it."""

    task: Task
    """As it is done: in its mode, where it has several."""
    workers: tuple[Worker, ...]
    start_s: int
    end_s: int
    shares: tuple[float, ...]
    """Dominant share that one piece takes of each worker."""
    fastest_s: int | None = None
    """Of a task with modes: the planned duration of the fastest."""
    devices: tuple[tuple[int, ...], ...] = ()
    """Those that each piece has of its worker; empty where none are known."""


def planned_duration_s(
    request: PlanRequest, task_id: str, workers: Collection[Worker], mode: str = ""
) -> int | None:
    """Seconds that a plan reserves for a task on these workers, None where one is not eligible.

    Notes
    -----
    ``max`` over the workers of the estimate's quantile at ``policy.level``: a gang ends
    when its slowest piece does.
    """
    longest = 0
    for worker in workers:
        estimate = estimate_for(request.estimates, task_id, worker.machine_class, mode)
        if estimate is None:
            return None
        longest = max(longest, estimate.at(request.policy.level))
    return longest


def fastest_mode_s(request: PlanRequest, task: Task) -> int | None:
    """Least seconds that a plan reserves for a task with modes; None for one without.

    Where no worker takes it in any (a running task's other modes need no estimates) it is None too.
    """
    seconds = [in_mode_s(request, task, mode.id) for mode in task.modes]
    return min((s for s in seconds if s is not None), default=None)


def in_mode_s(request: PlanRequest, task: Task, mode: str) -> int | None:
    """Least seconds that a plan reserves for a task in a mode, None where no worker takes it.

    Notes
    -----
    The least over the workers that satisfy the mode's labels and hold one of its pieces when empty.
    """
    shortest: int | None = None
    way, budgets = task.in_mode(mode), request.snapshot.budgets
    needed = [(r, amount) for r, amount in way.demand.items() if r not in budgets]
    for worker in request.snapshot.workers:
        fits = all(amount <= worker.capacity.get(r, 0) for r, amount in needed)
        if not fits or not meets_labels(way, worker):
            continue
        seconds = planned_duration_s(request, task.id, [worker], mode)
        if seconds is not None and (shortest is None or seconds < shortest):
            shortest = seconds
    return shortest


def running_end_s(request: PlanRequest, run: Running, at_s: int | None = None) -> int:
    """When a running task is expected to end, seconds since the epoch.

    Parameters
    ----------
    request : PlanRequest
    run : Running
    at_s : int, optional
        The moment at which it is known to run still; now by default. The end lies after it.

    Notes
    -----
    ``at + remaining_at(level, elapsed)``, the latest over its workers, and never past the
    kill limit ``start + requested_s`` (nor before ``at + 1``).
    """
    now = request.snapshot.now_s if at_s is None else at_s
    elapsed = now - run.start_s
    remaining = 1
    for worker_id in run.workers:
        worker = request.snapshot.worker_by_id[worker_id]
        estimate = estimate_for(request.estimates, run.task.id, worker.machine_class, run.mode)
        if estimate is not None:
            remaining = max(remaining, estimate.remaining_at(request.policy.level, elapsed))
    limit_s = run.done.requested_s
    if limit_s is not None:
        remaining = max(1, min(remaining, limit_s - elapsed))
    return now + remaining


def spans_of(request: PlanRequest, plan: Plan) -> Iterator[Span]:
    """What holds workers: planned tasks on known workers, then what runs and is not preempted."""
    snapshot = request.snapshot
    pending, running = snapshot.pending_by_id, snapshot.running_by_id
    worker_by_id, placed = snapshot.worker_by_id, set()
    for assignment in plan.assignments:
        task = pending.get(assignment.task)
        if task is None and assignment.task in running:
            task = running[assignment.task].task
        if task is None or not all(w in worker_by_id for w in assignment.workers):
            continue
        if not task.has_mode(assignment.mode):
            continue
        placed.add(task.id)
        workers = tuple([worker_by_id[w] for w in assignment.workers])
        yield _span(
            request, task, assignment.mode, workers, assignment.start_s, assignment.end_s,
            assignment.devices,
        )  # fmt: skip
    held = held_devices(snapshot) if snapshot.has_devices else {}
    kept = _kept_for(snapshot.running)
    for run in snapshot.running:
        task = run.task
        if task.id not in placed and task.id not in plan.preempted:
            end_s = running_end_s(request, run)
            workers = tuple([worker_by_id[w] for w in run.workers])
            devices = held.get(task.id, ())
            if task.modes:
                yield _span(request, task, run.mode, workers, run.start_s, end_s, devices)
                continue
            known = kept.get(task.id)
            if known is None or known[0] is not run or known[1] != [*map(id, workers)]:
                shares = tuple([worker.dominant_share(task.demand) for worker in workers])
                known = kept[task.id] = run, [*map(id, workers)], workers, shares
            yield Span(task, known[2], run.start_s, end_s, known[3], devices=devices)


def _kept_for(running: Sequence[Running]) -> dict[str, Any]:
    """By task: a running task, its workers, and the share that it has of each.

    A master judges a plan at each event, and between two of them next to nothing of this changes.
    An entry holds what it was made of, so that nothing else can be taken for it.
    """
    kept: dict[str, Any] = _KEPT.__dict__.setdefault("shares", {})
    if len(kept) > 64 + 2 * len(running):
        kept.clear()
    return kept


_KEPT = threading.local()


def _span(
    request: PlanRequest,
    task: Task,
    mode: str,
    workers: tuple[Worker, ...],
    start_s: int,
    end_s: int,
    devices: tuple[tuple[int, ...], ...],
) -> Span:
    done = task.in_mode(mode) if task.modes else task
    shares = tuple([worker.dominant_share(done.demand) for worker in workers])
    fastest_s = fastest_mode_s(request, task) if task.modes else None
    return Span(done, workers, start_s, end_s, shares, fastest_s, devices)
