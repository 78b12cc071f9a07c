"""What holds workers and for how long, as the evaluator has it: durations, expected ends, spans.

Plain Python over the frozen types; what is judged shares none of it (``arrays.running`` has its
own words for the durations).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from plancast.planner.model.devices import held_devices
from plancast.planner.model.domain import (
    DurationEstimate,
    Plan,
    Running,
    Task,
    Worker,
    estimate_for,
)
from plancast.planner.model.judge_placement import meets_labels
from plancast.planner.model.messages import PlanRequest


class Span(NamedTuple):
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
    workers = [request.snapshot.worker_by_id[name] for name in run.workers]
    return _end_by(_estimates_on(request, run, workers), run, request.policy.level, now)


def _estimates_on(
    request: PlanRequest, run: Running, workers: Sequence[Worker]
) -> tuple[DurationEstimate, ...]:
    """The estimates of a running task on its workers, those that there are."""
    found = [
        estimate_for(request.estimates, run.task.id, worker.machine_class, run.mode)
        for worker in workers
    ]
    return tuple([estimate for estimate in found if estimate is not None])


def _end_by(estimates: tuple[DurationEstimate, ...], run: Running, level: float, now_s: int) -> int:
    """When a task with these estimates that still runs is expected to end."""
    elapsed_s, remaining_s = now_s - run.start_s, 1
    for estimate in estimates:
        remaining_s = max(remaining_s, estimate.remaining_at(level, elapsed_s))
    limit_s = run.done.requested_s
    if limit_s is not None:
        remaining_s = max(1, min(remaining_s, limit_s - elapsed_s))
    return now_s + remaining_s


def spans_of(request: PlanRequest, plan: Plan) -> Iterator[Span]:
    """What holds workers: planned tasks on known workers, then what runs and is not preempted."""
    snapshot = request.snapshot
    pending, running = snapshot.pending_by_id, snapshot.running_by_id
    worker_by_id, placed = snapshot.worker_by_id, set()
    for assignment in plan.assignments:
        task = pending.get(assignment.task)
        if task is None and assignment.task in running:
            task = running[assignment.task].task
        if task is None or not task.has_mode(assignment.mode):
            continue
        try:
            workers = tuple([worker_by_id[w] for w in assignment.workers])
        except KeyError:  # of no worker
            continue
        placed.add(task.id)
        yield _span(
            request, task, assignment.mode, workers, assignment.start_s, assignment.end_s,
            assignment.devices,
        )  # fmt: skip
    held = held_devices(snapshot) if snapshot.has_devices else {}
    kept, now_s, level = _kept_for(snapshot.running), snapshot.now_s, request.policy.level
    preempted, estimates = set(plan.preempted), request.estimates
    for run in snapshot.running:
        task = run.task
        name = task.id
        if name not in placed and name not in preempted:
            workers = tuple([worker_by_id[w] for w in run.workers])
            devices = held.get(name, ())
            if task.modes:
                end_s = running_end_s(request, run)
                yield _span(request, task, run.mode, workers, run.start_s, end_s, devices)
                continue
            known, by_class = kept.get(name), estimates.get(name)
            if known is None or not (
                known.run is run and known.by_class is by_class and known.workers == workers
            ):
                shares = tuple([worker.dominant_share(task.demand) for worker in workers])
                of = _estimates_on(request, run, workers)
                known = kept[name] = _Kept(run, by_class, workers, shares, of)
            end_s = _end_by(known.estimates, run, level, now_s)
            yield Span(task, known.workers, run.start_s, end_s, known.shares, None, devices)


class _Kept(NamedTuple):
    """A running task with what does not change while it runs, and what that was made of."""

    run: Running
    by_class: Any
    workers: tuple[Worker, ...]
    shares: tuple[float, ...]
    estimates: tuple[DurationEstimate, ...]


def _kept_for(running: Sequence[Running]) -> dict[str, _Kept]:
    """What is known of running tasks, by task.

    A master judges a plan at each event, and between two of them next to nothing of this changes.
    An entry holds what it was made of, so that nothing else can be taken for it.
    """
    kept: dict[str, _Kept] = _KEPT.__dict__.setdefault("running", {})
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
