"""The last word: is a plan valid, and what does it cost (responses: ``judge_response``).

Plain Python over the frozen types, sharing no code with the arrays, kernels and solvers it judges.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter

from plancast.planner.model.counted import Hold, over_counted
from plancast.planner.model.domain import (
    HOUR_S,
    MIN_STRETCH_S,
    TERMS,
    WATT_SECONDS_PER_KWH,
    ZERO_COST,
    Assignment,
    Hourly,
    Plan,
    Prices,
    Task,
    Worker,
    estimate_for,
    in_words,
)
from plancast.planner.model.energy import boot_draw, draws_by_hour, weighed
from plancast.planner.model.judge_devices import device_violations
from plancast.planner.model.judge_placement import (
    company_violations,
    meets_labels,
    shape_violations,
)
from plancast.planner.model.judge_precedence import precedence_violations
from plancast.planner.model.messages import PlanRequest
from plancast.planner.model.spans import (
    Span,
    fastest_mode_s,
    planned_duration_s,
    running_end_s,
    spans_of,
)
from plancast.planner.model.violations import Violation, ViolationKind


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` found.

    Parameters
    ----------
    violations : tuple of Violation
        Empty for a valid plan.
    terms : mapping of str to float
        Each term of ``domain.TERMS`` in its unit.
    cost : float
        Sum of price times term.
    """

    violations: tuple[Violation, ...]
    terms: Mapping[str, float]
    cost: float

    @property
    def valid(self) -> bool:
        """Whether nothing is violated."""
        return not self.violations


def evaluate(
    request: PlanRequest,
    plan: Plan,
    *,
    unplanned: Collection[str] = (),
    realised: bool = False,
) -> Evaluation:
    """Validate and price a plan.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
    unplanned : collection of str
        Pending tasks that the plan may leave out.
    realised : bool
        Judge what really ran: the durations are the truth's, assignments of running tasks tell
        their true ends, and which devices a task had may be unknown. Everything else is judged
        alike.

    Returns
    -------
    Evaluation
        Of an invalid plan too; assignments of unknown tasks or workers are not priced.
    """
    # A plan of ten thousand tasks is judged often: what is made of it once is handed on.
    spans = list(spans_of(request, plan))
    amounts = _terms(request, plan, spans)
    return Evaluation(
        violations=tuple(_violations(request, plan, spans, unplanned, realised)),
        terms=amounts,
        cost=price(request.policy.prices, amounts),
    )


def price(prices: Prices, amounts: Mapping[str, float]) -> float:
    """Sum of price times term over ``domain.TERMS``."""
    return sum(prices.of(term) * amounts[term] for term in TERMS)


def unplanned_weight(request: PlanRequest, plan: Plan) -> float:
    """Sum of the weights of the pending tasks that a plan leaves out.

    Plans compare by ``(unplanned_weight, cost)``: dropping a task is never free.
    """
    return sum(t.weight for t in request.snapshot.pending if t.id not in plan.by_task)


def relative_gap(cost: float, lower_bound: float) -> float:
    """``(cost - lower_bound) / |cost|``, at least 0; for a cost of 0 it is 0 or 1.

    Costs are negative where running tasks started before their release.
    """
    if cost == 0:
        return 0.0 if lower_bound >= -ZERO_COST else 1.0
    return max(0.0, (cost - lower_bound) / abs(cost))


# --------------------------------------------------------------------------- cost terms


def terms(request: PlanRequest, plan: Plan) -> dict[str, float]:
    """The cost terms of a plan, each in its own unit.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan

    Returns
    -------
    dict of str to float
        The keys of ``domain.TERMS``. With s, e, r, D, w for start, end, release, deadline
        and weight of a task, d = e - s, and tau = now:

        - ``makespan_h``: max(e - tau) / 3600
        - ``late_h``: sum w max(0, e - D) / 3600
        - ``misses``: sum w [e > D]
        - ``wait_h``: sum w (s - r) / 3600
        - ``stretch``: sum w (e - r) / max(d, 10 s); where a task has modes, d is the planned
          duration of the fastest (``fastest_mode_s``), so that a slow mode is no excuse
        - ``kwh``: per task and shard busy_w x dominant share x (e - max(s, tau)) / 3.6e6; per
          used worker idle_w x (last end - max(tau, free_from)) / 3.6e6, and boot_kwh unless
          something runs there at tau
        - ``carbon_kg``, ``energy_cost``: each worker's part of ``kwh`` x carbon_kg_per_kwh, and
          x price_per_kwh; of a rate that changes with the hour (``Hourly``) the integral over the
          same draws, a boot at the rate of max(tau, free_from)
        - ``unfair_h``: max over owners of the sum of (s - r) / 3600 over the number of
          that owner's tasks in the request
        - ``imbalance_h``: max over workers of the sum of dominant share x
          (e - max(s, tau)) / 3600
        - ``failures``: sum over shards of 1 - health ** ((e - max(s, tau)) / 3600)
        - ``moves``: pending tasks on other workers or in another mode than in the incumbent, or
          starting more than ``policy.move_tolerance_s`` later than there, or gone; plus, for
          each preempted task, 1 and the hours it had run

    Notes
    -----
    Running tasks count in every term, with their start and expected end: constants of a
    request, unless the plan preempts them. For a gang, ``failures`` counts pieces: an
    upper bound on the expected number of failed gangs that is linear in the placement.
    """
    return _terms(request, plan, list(spans_of(request, plan)))


def _terms(request: PlanRequest, plan: Plan, spans: list[Span]) -> dict[str, float]:
    now = request.snapshot.now_s
    result = dict.fromkeys(TERMS, 0.0)
    last_end: dict[str, int] = {}
    load_h: dict[str, float] = defaultdict(float)
    kwh: dict[str, float] = defaultdict(float)
    draws = draws_by_hour(request.snapshot.workers)
    owner_wait_h: dict[str, float] = defaultdict(float)
    late_h = misses = waits_h = stretch = failures = 0.0
    latest_s = now
    for task, workers, start_s, end_s, shares, fastest_s, _ in spans:
        weight, release_s = task.weight, task.release_s
        latest_s = max(latest_s, end_s)
        if task.deadline_s is not None:
            late_s = max(0, end_s - task.deadline_s)
            late_h += weight * late_s / HOUR_S
            misses += weight * (late_s > 0)
        wait_h = (start_s - release_s) / HOUR_S
        waits_h += weight * wait_h
        owner_wait_h[task.owner] += wait_h
        planned_s = max(fastest_s or end_s - start_s, MIN_STRETCH_S)
        stretch += weight * (end_s - release_s) / planned_s
        ahead_s = end_s - max(start_s, now)
        for worker, share in zip(workers, shares, strict=True):
            name = worker.id
            kwh[name] += worker.busy_w * share * ahead_s / WATT_SECONDS_PER_KWH
            if name in draws:
                draws[name].append((worker.busy_w * share, end_s - ahead_s, end_s))
            if worker.health != 1.0:
                failures += 1.0 - worker.health ** (ahead_s / HOUR_S)
            load_h[name] += share * ahead_s / HOUR_S
            last_end[name] = max(last_end.get(name, end_s), end_s)
    result |= {
        "makespan_h": (latest_s - now) / HOUR_S, "late_h": late_h, "misses": misses,
        "wait_h": waits_h, "stretch": stretch, "failures": failures,
    }  # fmt: skip

    switched_on = {w for run in request.snapshot.running for w in run.workers}
    for worker_id, last_s in last_end.items():
        worker = request.snapshot.worker_by_id[worker_id]
        on_from_s, drawn_by_hour = worker.free_at(now), draws.get(worker_id, [])
        on_s = max(0, last_s - on_from_s)
        kwh[worker_id] += worker.idle_w * on_s / WATT_SECONDS_PER_KWH
        drawn_by_hour.append((worker.idle_w, on_from_s, on_from_s + on_s))
        if worker_id not in switched_on:
            kwh[worker_id] += worker.boot_kwh
            drawn_by_hour.append(boot_draw(worker.boot_kwh, on_from_s))
        result["carbon_kg"] += weighed(worker.carbon_kg_per_kwh, kwh[worker_id], drawn_by_hour)
        result["energy_cost"] += weighed(worker.price_per_kwh, kwh[worker_id], drawn_by_hour)
    result["kwh"] = sum(kwh.values())

    result["imbalance_h"] = max(load_h.values(), default=0.0)
    tasks_of = Counter(t.owner for t in request.snapshot.pending)
    tasks_of.update(r.task.owner for r in request.snapshot.running)
    mean_waits = [wait / tasks_of[owner] for owner, wait in owner_wait_h.items()]
    result["unfair_h"] = max([0.0, *mean_waits])
    running = request.snapshot.running_by_id
    stopped = set(plan.preempted)
    lost_h = sum((now - running[t].start_s) / HOUR_S for t in sorted(stopped) if t in running)
    result["moves"] = float(len(moved_tasks(request, plan)) + len(stopped)) + lost_h
    return result


def hourly_rates(prices: Prices, worker: Worker) -> list[tuple[str, str, Hourly]]:
    """The priced rates of a worker that change with the hour: what they are less of, their unit."""
    rates = (
        (prices.energy_cost, "for energy to cost less", "", worker.price_per_kwh),
        (prices.carbon_kg, "for cleaner energy", " kg CO2e", worker.carbon_kg_per_kwh),
    )
    return [(less, unit, r) for price, less, unit, r in rates if price and isinstance(r, Hourly)]


def moved_tasks(request: PlanRequest, plan: Plan) -> list[str]:
    """Pending tasks whose workers or start changed against the incumbent, in request order.

    Notes
    -----
    Starting earlier is no disruption; a later start within ``policy.move_tolerance_s`` is
    none either. Tasks that the incumbent does not know cannot move.
    """
    if request.incumbent is None:
        return []
    moved = []
    for task in request.snapshot.pending:
        before = request.incumbent.by_task.get(task.id)
        if before is None:
            continue
        after = plan.by_task.get(task.id)
        if (
            after is None
            or after.mode != before.mode
            or sorted(after.workers) != sorted(before.workers)
            or after.start_s > before.start_s + request.policy.move_tolerance_s
        ):
            moved.append(task.id)
    return moved


def holds_of(request: PlanRequest, plan: Plan, spans: Iterable[Span]) -> list[Hold]:
    """What holds counted resources; what runs and is not preempted is not planned."""
    running = request.snapshot.running_by_id
    return [
        Hold(s.task, s.start_s, s.end_s, s.task.id not in running or s.task.id in plan.preempted)
        for s in spans
        if s.task.counted
    ]


# --------------------------------------------------------------------------- validity


def validate(
    request: PlanRequest,
    plan: Plan,
    *,
    unplanned: Collection[str] = (),
    realised: bool = False,
) -> list[Violation]:
    """Everything that is wrong with a plan; parameters as in ``evaluate``."""
    spans = list(spans_of(request, plan))
    return list(_violations(request, plan, spans, unplanned, realised))


def _violations(
    request: PlanRequest,
    plan: Plan,
    spans: list[Span],
    unplanned: Collection[str],
    realised: bool,
) -> Iterator[Violation]:
    snapshot = request.snapshot
    kind = ViolationKind
    if plan.snapshot_version != snapshot.version or plan.made_at_s != snapshot.now_s:
        yield Violation(
            kind.STALE_SNAPSHOT,
            f"the plan was made for version {plan.snapshot_version} at {plan.made_at_s}, "
            f"the snapshot is version {snapshot.version} at {snapshot.now_s}",
        )
    yield from _preemption_violations(request, plan)
    to_place = dict(snapshot.pending_by_id)
    for task_id in plan.preempted:
        if task_id in snapshot.running_by_id:
            to_place[task_id] = snapshot.running_by_id[task_id].task
    times_placed = Counter(a.task for a in plan.assignments)
    for task_id in to_place:
        if times_placed[task_id] == 0 and task_id not in unplanned:
            yield Violation(kind.TASK_MISSING, f"task {task_id} is not in the plan", task_id)
        if times_placed[task_id] > 1:
            yield Violation(
                kind.TASK_TWICE,
                f"task {task_id} is assigned {times_placed[task_id]} times",
                task_id,
            )

    ends = _ends_waited_for(request, to_place)
    for assignment in plan.assignments:
        task = to_place.get(assignment.task)
        if task is not None:
            yield from _assignment_violations(request, assignment, task, realised)
            if task.predecessors:
                yield from precedence_violations(snapshot, plan, ends, assignment, task)
        elif not (realised and assignment.task in snapshot.running_by_id):
            yield Violation(
                kind.UNKNOWN_TASK,
                f"assignment of {assignment.task!r}, which is no pending task",
                assignment.task,
            )
    yield from _capacity_violations(request, plan, spans)
    yield from _budget_violations(request, plan, to_place)
    yield from _company_violations(request, plan, spans)
    if snapshot.has_devices or any(a.devices for a in plan.assignments):
        yield from device_violations(snapshot, plan, spans, to_place, realised)
    if snapshot.counted:
        yield from over_counted(snapshot, holds_of(request, plan, spans))


def _preemption_violations(request: PlanRequest, plan: Plan) -> Iterator[Violation]:
    snapshot, kind = request.snapshot, ViolationKind
    for task_id, times in Counter(plan.preempted).items():
        if times > 1:
            yield Violation(
                kind.PREEMPTED_TWICE, f"task {task_id} is preempted {times} times", task_id
            )
        run = snapshot.running_by_id.get(task_id)
        if run is None:
            yield Violation(
                kind.PREEMPTED_NOT_RUNNING, f"preempted task {task_id} is not running", task_id
            )
        elif not run.task.preemptible:
            yield Violation(
                kind.NOT_PREEMPTIBLE, f"preempted task {task_id} is not preemptible", task_id
            )


def _ends_waited_for(request: PlanRequest, to_place: Mapping[str, Task]) -> dict[str, int]:
    """Expected ends of what runs, where anything may follow it."""
    if not any(task.predecessors for task in to_place.values()):
        return {}
    return {run.task.id: running_end_s(request, run) for run in request.snapshot.running}


def _company_violations(request: PlanRequest, plan: Plan, spans: list[Span]) -> Iterator[Violation]:
    """Planned tasks beside others, where one of them is exclusive."""
    if not any(span.task.exclusive for span in spans):
        return
    runs = set(request.snapshot.running_by_id) - set(plan.preempted)
    yield from company_violations(
        [
            (span.task, worker.id, span.start_s, span.end_s, span.task.id not in runs)
            for span in spans
            for worker in span.workers
        ]
    )


def _assignment_violations(
    request: PlanRequest, assignment: Assignment, of: Task, realised: bool
) -> Iterator[Violation]:
    snapshot, kind = request.snapshot, ViolationKind
    if not of.has_mode(assignment.mode):
        yield Violation(kind.UNKNOWN_MODE, f"task {of.id} has no mode {assignment.mode!r}", of.id)
        return
    start_s, end_s, task = assignment.start_s, assignment.end_s, of.in_mode(assignment.mode)

    def wrong(what: ViolationKind, text: str, worker: str | None = None) -> Violation:
        return Violation(what, f"task {task.id} {text}", task.id, worker)

    if len(assignment.workers) != task.shards:
        yield wrong(
            kind.WRONG_SHARDS, f"has {len(assignment.workers)} workers for {task.shards} shards"
        )
    if start_s < snapshot.now_s:
        yield wrong(kind.STARTS_IN_PAST, f"starts at {start_s}, before now ({snapshot.now_s})")
    elif start_s < task.release_s:
        yield wrong(
            kind.BEFORE_RELEASE, f"starts at {start_s}, before its release at {task.release_s}"
        )

    workers = []
    for worker_id in dict.fromkeys(assignment.workers):
        worker = snapshot.worker_by_id.get(worker_id)
        if worker is None:
            yield wrong(kind.UNKNOWN_WORKER, f"is on {worker_id!r}, which is no worker", worker_id)
            continue
        workers.append(worker)
        yield from _worker_violations(request, assignment, task, worker)
    if task.shards > 1 and len(workers) == len(set(assignment.workers)):
        of_piece = [snapshot.worker_by_id[name] for name in assignment.workers]
        yield from shape_violations(task, of_piece)
    duration = planned_duration_s(request, task.id, workers, assignment.mode)
    if end_s <= start_s or (not realised and duration and workers and end_s - start_s != duration):
        yield wrong(
            kind.WRONG_DURATION, f"runs for {end_s - start_s} s, its estimate says {duration} s"
        )
    if request.policy.has_hard_bounds:
        yield from _bound_violations(request, assignment, of)


def _worker_violations(
    request: PlanRequest, assignment: Assignment, task: Task, worker: Worker
) -> Iterator[Violation]:
    """What is wrong with a task on one of its workers at its time."""
    kind, start_s, end_s = ViolationKind, assignment.start_s, assignment.end_s

    def wrong(what: ViolationKind, text: str) -> Violation:
        return Violation(what, f"task {task.id} {text}", task.id, worker.id)

    if task.requires and not meets_labels(task, worker):
        yield wrong(
            kind.LABEL_MISSING,
            f"requires {list(task.requires)}, worker {worker.id} has {sorted(worker.labels)}",
        )
    if estimate_for(request.estimates, task.id, worker.machine_class, assignment.mode) is None:
        yield wrong(
            kind.NOT_ELIGIBLE,
            f"has no estimate for class {worker.machine_class} of worker {worker.id}",
        )
    if worker.free_from_s is not None and start_s < worker.free_from_s:
        yield wrong(
            kind.WORKER_NOT_FREE,
            f"starts at {start_s}, but worker {worker.id} is free from {worker.free_from_s}",
        )
    if worker.until_s is not None and end_s > worker.until_s:
        yield wrong(
            kind.WORKER_DRAINED,
            f"ends at {end_s} on worker {worker.id}, which drains at {worker.until_s}",
        )
    for window in worker.blocked:
        if start_s < window.end_s and window.start_s < end_s:
            yield wrong(
                kind.WORKER_BLOCKED,
                f"overlaps the blocked window {window.start_s} to {window.end_s} "
                f"of worker {worker.id}",
            )


def _bound_violations(
    request: PlanRequest, assignment: Assignment, task: Task
) -> Iterator[Violation]:
    """The policy's hard bounds that a task breaks."""
    policy, kind = request.policy, ViolationKind
    start_s, end_s = assignment.start_s, assignment.end_s

    def wrong(what: ViolationKind, text: str) -> Violation:
        return Violation(what, f"task {task.id} {text}", task.id)

    if policy.hard_deadlines and task.deadline_s is not None and end_s > task.deadline_s:
        yield wrong(
            kind.HARD_DEADLINE, f"ends at {end_s}, after its hard deadline at {task.deadline_s}"
        )
    waited_s = start_s - max(task.release_s, request.snapshot.now_s)
    if policy.max_wait_s is not None and waited_s > policy.max_wait_s:
        yield wrong(
            kind.WAIT_BOUND, f"waits {waited_s} s, more than the bound of {policy.max_wait_s} s"
        )
    if policy.max_stretch is not None:
        planned_s = (task.modes and fastest_mode_s(request, task)) or end_s - start_s
        stretch = (end_s - task.release_s) / max(planned_s, MIN_STRETCH_S)
        if stretch > policy.max_stretch * (1 + 1e-12):
            yield wrong(
                kind.STRETCH_BOUND,
                f"has a stretch of {stretch:g}, more than the bound of {policy.max_stretch:g}",
            )


def _capacity_violations(
    request: PlanRequest, plan: Plan, spans: list[Span]
) -> Iterator[Violation]:
    """One violation for each worker and resource, at the first moment it is over capacity.

    What runs already may exceed a worker's capacity (real logs do); only the starts of
    planned tasks are the plan's fault.
    """
    budgets = request.snapshot.budgets
    changes: dict[str, list[tuple[int, int, int, Task]]] = defaultdict(list)
    running = request.snapshot.running_by_id
    used = {name for assignment in plan.assignments for name in assignment.workers}
    for span in spans:
        runs = span.task.id in running
        if runs and used.isdisjoint([worker.id for worker in span.workers]):
            continue  # what only runs is no plan's fault
        placed = int(not runs or span.task.id in plan.preempted)
        for worker in span.workers:
            changes[worker.id].append((span.start_s, 1, placed, span.task))
            changes[worker.id].append((span.end_s, -1, placed, span.task))
    for worker_id, steps in changes.items():
        worker = request.snapshot.worker_by_id[worker_id]
        # Ends come before starts, and what runs before what is planned for the same moment.
        steps.sort(key=itemgetter(0, 1, 2))
        capacity, in_use = worker.capacity, dict.fromkeys(worker.capacity, 0)
        blamed: set[str] = set()
        for at_s, sign, placed, task in steps:
            planned_start = sign > 0 and placed
            for resource, amount in task.demand.items():
                in_use[resource] = uses = in_use.get(resource, 0) + sign * amount
                if not planned_start or uses <= (have := capacity.get(resource, 0)):
                    continue
                if amount > 0 and resource not in blamed and resource not in budgets:
                    blamed.add(resource)
                    yield Violation(
                        ViolationKind.OVER_CAPACITY,
                        f"worker {worker_id} has {in_words(resource, have)}, but "
                        f"{in_words(resource, uses)} are in use at {at_s} when task "
                        f"{task.id} starts",
                        task.id,
                        worker_id,
                    )


def _budget_violations(
    request: PlanRequest, plan: Plan, to_place: Mapping[str, Task]
) -> Iterator[Violation]:
    """One violation for each budget that is overspent, at the planned start that overspends it.

    What runs has consumed its part, preempted or not; a preempted task consumes it once more.
    """
    whole = request.snapshot.budgets
    left = dict(whole)
    if not left:
        return
    for run in request.snapshot.running:
        for name, amount in run.done.demand.items():
            if name in left:
                left[name] -= amount
    blamed: set[str] = set()
    for assignment in sorted(plan.assignments, key=lambda a: (a.start_s, a.task)):
        task = to_place.get(assignment.task)
        if task is None or not task.has_mode(assignment.mode):
            continue
        for name, amount in task.in_mode(assignment.mode).demand.items():
            if name not in left:
                continue
            left[name] -= amount
            if amount > 0 and left[name] < 0 and name not in blamed:
                blamed.add(name)
                yield Violation(
                    ViolationKind.OVER_BUDGET,
                    f"the budget of {name} is {whole[name]}, but the tasks that start up to task "
                    f"{task.id} take {whole[name] - left[name]}",
                    task.id,
                )
