"""Whether a response is true: its plan, its cost and bound, and what it says of every task.

The plan itself is ``evaluate``'s business. Plain Python, as there, and nothing of the solvers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from plancast.planner.model.counted import changes_s, counted_for_ever, counted_is_free
from plancast.planner.model.domain import (
    GPU,
    MIN_STRETCH_S,
    RELATIVE_TOLERANCE,
    TERMS,
    Plan,
    Task,
    Worker,
    estimate_for,
)
from plancast.planner.model.evaluate import evaluate, holds_of, moved_tasks, relative_gap
from plancast.planner.model.judge_devices import device_room
from plancast.planner.model.judge_placement import holds_gang, meets_labels
from plancast.planner.model.judge_precedence import earliest_after, lets_run
from plancast.planner.model.messages import PlanRequest, PlanResponse, Status
from plancast.planner.model.spans import Span, fastest_mode_s, running_end_s, spans_of
from plancast.planner.model.violations import Violation, ViolationKind


def validate_response(request: PlanRequest, response: PlanResponse) -> list[Violation]:
    """Everything that is wrong with a response: its plan, and what it says of it."""
    return list(_response_violations(request, response))


def _response_violations(request: PlanRequest, response: PlanResponse) -> Iterator[Violation]:
    kind, snapshot = ViolationKind, request.snapshot
    if response.request_id != request.request_id:
        yield Violation(
            kind.WRONG_REQUEST,
            f"the response answers request {response.request_id!r}, not {request.request_id!r}",
        )
    if response.snapshot_version != snapshot.version:
        yield Violation(
            kind.STALE_SNAPSHOT,
            f"the response is for snapshot version {response.snapshot_version}, "
            f"the request has version {snapshot.version}",
        )
    has_plan = response.status in (Status.OPTIMAL, Status.FEASIBLE)
    if has_plan != (response.plan is not None):
        yield Violation(
            kind.WRONG_STATUS,
            f"status is {response.status.value}, but there is "
            f"{'a' if response.plan is not None else 'no'} plan",
        )
    yield from _unplanned_violations(request, response)
    yield from _why_violations(request, response)
    if response.plan is None:
        yield from _planless_violations(request, response)
        return
    found = evaluate(request, response.plan, unplanned=response.unplanned)
    yield from found.violations
    if response.cost is None or not _close(response.cost, found.cost):
        yield Violation(
            kind.WRONG_COST, f"cost is said to be {response.cost}, but is {found.cost:.9g}"
        )
    for term in sorted(set(TERMS) | set(response.terms)):
        said = response.terms.get(term)
        if term not in found.terms or said is None or not _close(said, found.terms[term]):
            yield Violation(
                kind.WRONG_TERMS,
                f"term {term} is said to be {said}, but is {found.terms.get(term)}",
            )
    yield from _bound_violations(response, found.cost)
    moved = moved_tasks(request, response.plan)
    if list(response.moved) != moved:
        yield Violation(
            kind.WRONG_MOVED, f"moved is said to be {list(response.moved)}, but is {moved}"
        )


def _bound_violations(response: PlanResponse, cost: float) -> Iterator[Violation]:
    kind, bound = ViolationKind.WRONG_BOUND, response.lower_bound
    if bound is None:
        if response.gap is not None or response.status is Status.OPTIMAL:
            yield Violation(kind, "a gap or the status optimal needs a lower bound; there is none")
        return
    if bound > cost and not _close(bound, cost):
        yield Violation(kind, f"the lower bound {bound:.9g} exceeds the cost {cost:.9g}")
    gap = relative_gap(cost, bound)
    if response.gap is None or abs(response.gap - gap) > RELATIVE_TOLERANCE:
        yield Violation(kind, f"the gap is said to be {response.gap}, but is {gap:.9g}")
    if response.status is Status.OPTIMAL and gap > RELATIVE_TOLERANCE:
        yield Violation(kind, f"the status is optimal, but the gap is {gap:.9g}")
    if response.status is Status.FEASIBLE and gap <= RELATIVE_TOLERANCE:
        yield Violation(
            ViolationKind.WRONG_STATUS,
            "the status is feasible, but the lower bound proves the plan optimal",
        )


def _planless_violations(request: PlanRequest, response: PlanResponse) -> Iterator[Violation]:
    """What a response without a plan says of a plan, and an impossibility that is none."""
    kind = ViolationKind
    if response.cost is not None:
        yield Violation(kind.WRONG_COST, f"cost is said to be {response.cost} of no plan")
    for term in response.terms:
        yield Violation(kind.WRONG_TERMS, f"term {term} is said to be something of no plan")
    if response.gap is not None:
        yield Violation(kind.WRONG_BOUND, f"the gap is said to be {response.gap} of no plan")
    if response.moved:
        yield Violation(kind.WRONG_MOVED, f"moved is said to be {list(response.moved)} in no plan")
    if response.status is not Status.INFEASIBLE:
        return
    snapshot, policy = request.snapshot, request.policy
    if policy.has_hard_bounds or snapshot.budgets:
        return
    if any(worker.until_s is not None for worker in snapshot.workers):
        return
    if not all(counted_for_ever(snapshot, task) for task in snapshot.pending):
        return
    for task in snapshot.pending:
        first = not any(before in snapshot.pending_by_id for before in task.predecessors)
        if first and _surely_placeable(request, response, task):
            yield Violation(
                kind.WRONG_STATUS,
                f"status is infeasible, but task {task.id} would fit once workers are free",
                task.id,
            )


def _close(said: float, found: float) -> bool:
    return abs(said - found) <= RELATIVE_TOLERANCE * max(1e-3, abs(found))


def _unplanned_violations(request: PlanRequest, response: PlanResponse) -> Iterator[Violation]:
    kind, snapshot = ViolationKind.WRONG_UNPLANNED, request.snapshot
    for task_id, reason in response.unplanned.items():
        task = snapshot.pending_by_id.get(task_id)
        if not reason:
            yield Violation(kind, f"unplanned gives no reason for {task_id!r}", task_id)
        if task is None:
            yield Violation(kind, f"unplanned names {task_id!r}, which is no pending task", task_id)
        elif response.plan is not None and task_id in response.plan.by_task:
            yield Violation(kind, f"task {task_id} is unplanned and planned at once", task_id)
        elif response.plan is not None and _surely_placeable(request, response, task):
            yield Violation(
                kind, f"task {task_id} is unplanned, but would fit once workers are free", task_id
            )
        elif response.plan is not None and _fits_beside(request, response, task):
            yield Violation(
                kind, f"task {task_id} is unplanned, but would fit into the plan as it is", task_id
            )


def _why_violations(request: PlanRequest, response: PlanResponse) -> Iterator[Violation]:
    kind, snapshot = ViolationKind.WRONG_UNPLANNED, request.snapshot
    for task_id, reason in response.why.items():
        task = snapshot.pending_by_id.get(task_id)
        if task is None:
            yield Violation(kind, f"why names {task_id!r}, which is no pending task", task_id)
            continue
        if not reason:
            yield Violation(kind, f"why gives no reason for {task_id}", task_id)
        if response.plan is None:
            continue
        planned = response.plan.by_task.get(task_id)
        slower = planned is not None and bool(snapshot.budgets) and planned.mode != ""
        waits = planned is not None and planned.start_s > max(snapshot.now_s, task.release_s)
        if not waits and not slower:
            yield Violation(kind, f"why says that {task_id} waits, which it does not", task_id)


def _surely_placeable(request: PlanRequest, response: PlanResponse, task: Task) -> bool:
    """Whether workers that never drain could hold the task after everything else has ended."""
    policy = request.policy
    bounded = policy.max_wait_s is not None or policy.max_stretch is not None
    if bounded or (policy.hard_deadlines and task.deadline_s is not None):
        return False
    if _follows_none(request, response, task) or not counted_for_ever(request.snapshot, task):
        return False
    return any(_holds(request, task, mode) for mode in _modes(task))


def _modes(task: Task) -> tuple[str, ...]:
    """The ids of a task's modes; one of no name where it has none."""
    return tuple(mode.id for mode in task.modes) or ("",)


def _worker_demand(request: PlanRequest, task: Task) -> dict[str, int]:
    """What a piece takes of its worker: its demand but for what is consumed of a budget."""
    budgets = request.snapshot.budgets
    return {name: a for name, a in task.demand.items() if a > 0 and name not in budgets}


def _holds(request: PlanRequest, of: Task, mode: str) -> bool:
    """Whether workers that never drain hold a task in a mode when they are empty."""
    task = of.in_mode(mode)
    room: list[tuple[Worker, int]] = []
    for worker in request.snapshot.workers:
        eligible = estimate_for(request.estimates, task.id, worker.machine_class, mode) is not None
        if worker.until_s is None and eligible and meets_labels(task, worker):
            fits = [
                worker.capacity.get(resource, 0) // amount
                for resource, amount in _worker_demand(request, task).items()
            ]
            if worker.device_count and task.demand.get(GPU):
                fits.append(device_room(worker, (), task.demand[GPU], 0, 1))
            room.append((worker, min(fits, default=task.shards)))
    return holds_gang(task, room)


def _follows_none(request: PlanRequest, response: PlanResponse, task: Task) -> bool:
    """Whether a predecessor is unplanned, or has ended so that the task can never start."""
    finished = request.snapshot.finished_by_id
    return any(
        on.task in response.unplanned
        or (on.task in finished and not lets_run(on, finished[on.task]))
        for on in task.dependencies
    )


def _fits_beside(request: PlanRequest, response: PlanResponse, task: Task) -> bool:
    """Whether a task could be added to the plan as it stands, at any time, in any mode.

    Notes
    -----
    Only starts at which something comes free are tried: a later start fits no better. All
    pieces of a gang take the longest of their durations, so each length is tried with the
    workers that are no slower.
    """
    plan = response.plan
    if plan is None or _follows_none(request, response, task):
        return False
    # A budget leaves no task out: what it forbids is no plan at all.
    return any(_mode_fits_beside(request, plan, task, mode) for mode in _modes(task))


def _mode_fits_beside(request: PlanRequest, plan: Plan, of: Task, mode: str) -> bool:
    """The same in one mode."""
    snapshot, policy, task = request.snapshot, request.policy, of.in_mode(mode)
    fastest_s = fastest_mode_s(request, of)
    length: dict[str, int] = {}
    for worker in snapshot.workers:
        estimate = estimate_for(request.estimates, task.id, worker.machine_class, mode)
        if estimate is not None and meets_labels(task, worker):
            length[worker.id] = estimate.at(policy.level)
    busy, moments = _busy_and_moments(request, plan, task, list(length))
    holds = holds_of(request, plan, spans_of(request, plan)) if task.counted else []
    for start_s in sorted(moments):
        for seconds in sorted(set(length.values())):
            end_s = start_s + seconds
            if _breaks_a_bound(request, task, start_s, end_s, fastest_s):
                continue
            if not counted_is_free(snapshot, holds, task, start_s, end_s):
                continue
            needed = _worker_demand(request, task)
            room = [
                (worker, _room(worker, busy[worker.id], task, needed, start_s, end_s))
                for worker in snapshot.workers
                if length.get(worker.id, seconds + 1) <= seconds
            ]
            if holds_gang(task, room):
                return True
    return False


def _busy_and_moments(
    request: PlanRequest, plan: Plan, task: Task, workers: list[str]
) -> tuple[dict[str, list[Span]], set[int]]:
    """What holds each of some workers, and when a task may be ready there or room comes free."""
    snapshot = request.snapshot
    busy: dict[str, list[Span]] = {name: [] for name in workers}
    ready_s = max(snapshot.now_s, task.release_s)
    comes_free: set[int] = set()
    ends = {run.task.id: running_end_s(request, run) for run in snapshot.running}
    for on in task.dependencies:
        earliest_s = earliest_after(snapshot, plan, on, ends)
        ready_s = ready_s if earliest_s is None else max(ready_s, earliest_s)
    for span in spans_of(request, plan):
        for worker in span.workers:
            if worker.id in busy:
                busy[worker.id].append(span)
        if not task.counted.keys().isdisjoint(span.task.counted):
            comes_free.add(span.end_s)
    for name in task.counted:
        comes_free |= changes_s(snapshot.counted_by_id[name])
    moments = {ready_s, *comes_free}
    for name, spans in busy.items():
        worker = snapshot.worker_by_id[name]
        moments |= {span.end_s for span in spans} | {worker.free_at(snapshot.now_s)}
        moments |= {window.end_s for window in worker.blocked}
    return busy, {moment for moment in moments if moment >= ready_s}


def _breaks_a_bound(
    request: PlanRequest, task: Task, start_s: int, end_s: int, fastest_s: int | None
) -> bool:
    """Whether the policy's hard bounds forbid a task these times."""
    policy = request.policy
    if policy.hard_deadlines and task.deadline_s is not None and end_s > task.deadline_s:
        return True
    waited_s = start_s - max(task.release_s, request.snapshot.now_s)
    if policy.max_wait_s is not None and waited_s > policy.max_wait_s:
        return True
    stretch = (end_s - task.release_s) / max(fastest_s or end_s - start_s, MIN_STRETCH_S)
    return policy.max_stretch is not None and stretch > policy.max_stretch


def _is_closed(worker: Worker, start_s: int, end_s: int) -> bool:
    """Whether a worker is not free yet, drains or is blocked within ``[start_s, end_s)``."""
    if worker.free_from_s is not None and start_s < worker.free_from_s:
        return True
    if worker.until_s is not None and end_s > worker.until_s:
        return True
    return any(start_s < window.end_s and window.start_s < end_s for window in worker.blocked)


def _room(
    worker: Worker,
    spans: list[Span],
    task: Task,
    needed: Mapping[str, int],
    start_s: int,
    end_s: int,
) -> int:
    """How many shards of a task a worker can take over ``[start_s, end_s)`` beside others."""
    if _is_closed(worker, start_s, end_s):
        return 0
    if any(
        (task.exclusive or span.task.exclusive) and start_s < span.end_s and span.start_s < end_s
        for span in spans
    ):
        return 0
    shards = task.shards
    for at_s in {start_s, *(s.start_s for s in spans if start_s < s.start_s < end_s)}:
        in_use: Counter[str] = Counter()
        for span in spans:
            if span.start_s <= at_s < span.end_s:
                in_use.update(span.task.demand)
        for resource, amount in needed.items():
            left = worker.capacity.get(resource, 0) - in_use[resource]
            shards = min(shards, max(0, left) // amount)
    if shards and worker.device_count and needed.get(GPU):
        shards = min(shards, device_room(worker, spans, needed[GPU], start_s, end_s))
    return shards
