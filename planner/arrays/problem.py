"""The only door between the friendly types and the fast arrays.

``encode`` turns a request into arrays over the tasks that can be planned at all (and
says why the others cannot); ``decode`` turns a schedule of those back into a plan.
Times in a problem are whole seconds after now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.planner.arrays.cost import Priced, schedule_cost
from plancast.planner.arrays.device_use import (
    DeviceUse,
    device_start,
    device_use,
    devices_in,
    given,
    most_pieces,
)
from plancast.planner.arrays.devices import Devices
from plancast.planner.arrays.hours import (
    Hours,
    extra_cost,
    extra_of_pieces,
    extra_of_workers,
    hours_of,
)
from plancast.planner.arrays.rates import Rates, rates_of, running_cost
from plancast.planner.arrays.relations import (
    ALONE,
    add_alone,
    gang_array,
    link_rows,
    releases,
    shape_of,
    with_choices,
)
from plancast.planner.arrays.running_table import runs_of
from plancast.planner.arrays.schedule import (
    BEFORE,
    BEYOND_CHOICE,
    FAR,
    LAG,
    MOST_HERE,
    MOST_WORKERS,
    SINCE,
    WHOLE,
    Spare,
    build_profile,
    earliest_start,
    latest_start,
)
from plancast.planner.arrays.worker_table import worker_table
from plancast.planner.model.domain import (
    ANY_CLASS,
    HOUR_S,
    Assignment,
    BadRequest,
    CountedResource,
    Finished,
    Outcome,
    Plan,
    Snapshot,
    Task,
    Worker,
    estimate_for,
    in_words,
)
from plancast.planner.model.labels import alternatives, parse
from plancast.planner.model.messages import PlanRequest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Profile = tuple[Ints, Ints, Ints]
"""``times, free, count`` of ``kernels.schedule``."""


NOTHING_SPARE: Profile = (
    np.zeros((1, 1), np.int64),
    np.zeros((1, 1, 0), np.int64),
    np.ones(1, np.int64),
)
"""The profile of no counted resource."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """Start, end and workers of every task of a problem.

    Parameters
    ----------
    start, end : int64 (tasks,)
        Seconds after now.
    worker : int64 (pieces,)
        Worker of each shard; task i has the pieces ``shard_ptr[i]:shard_ptr[i + 1]``.
    mode : int64 (tasks,), optional
        Row of ``modes.Choices`` in which each task is done, where tasks have modes.
    devices : int64 (pieces,), optional
        Devices of each piece as bits, on workers where they are told apart (``device_use``).
    """

    start: Ints
    end: Ints
    worker: Ints
    mode: Ints | None = None
    devices: Ints | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """A request as arrays; ``FAR`` stands for never or no limit.

    Parameters
    ----------
    request : PlanRequest
    tasks : tuple of Task
        The tasks that can be planned, in request order.
    unplanned : dict of str to str
        The other pending tasks, each with the reason.
    infeasible : dict of str to str
        Tasks that no plan can place within its hard bounds: no plan exists.
    resources, classes, owners : tuple of str
    demand : int64 (tasks, resources)
    release, raw_release : int64 (tasks,)
        Earliest start (0 or more, after running predecessors); the release itself, which
        may lie in the past.
    deadline, hard_end, last_start : int64 (tasks,)
        Priced deadline; hard deadline; latest start by the wait bound.
    max_stretch : float
        0 for none.
    weight : float64 (tasks,)
    shards, shard_ptr : int64 (tasks,), (tasks + 1,)
    owner : int64 (tasks,)
    kind : int64 (tasks,)
        Tasks of one kind have the same demand and labels: a row of `allowed` and `share`.
    allowed : bool (kinds, workers)
        Labels and capacity fit one piece.
    share : float64 (kinds, workers)
        Dominant share of one piece.
    duration : int64 (tasks, classes)
        At the policy's level; 0 where the class is not eligible.
    pred_ptr, pred : int64
        Predecessors among `tasks` that must have ended, CSR; lags left out.
    link_ptr, link : int64 (tasks + 1,), (links, 3)
        All that each task waits for, with the columns of ``relations``, CSR.
    gang : int64 (tasks, 5)
        How the pieces of each task may lie together, with the columns of ``relations``.
    moved_after : int64 (tasks,)
        A later start is a move against the incumbent; FAR where it does not know the task.
    was_on : int64 (pieces,)
        The incumbent's workers, sorted within each task; -1 for none, or where one is gone.
    gone : int
        Tasks of the incumbent that are left out now: moves whatever the schedule.
    capacity : int64 (workers, resources)
    worker_class, free_from, until : int64 (workers,)
    health : float64 (workers,)
    busy_worker, busy_end : int64 (running pieces,)
    busy_demand : int64 (running pieces, resources)
    shut_worker, shut_start, shut_end : int64 (closed windows,)
    last_end : int64 (workers,)
        Last expected end of what runs, 0 if nothing does.
    on : bool (workers,)
    load_h : float64 (workers,)
        Dominant share times hours still to run.
    owner_wait_h, owner_tasks : float64 (owners,)
    rates : Rates
        What the schedule costs.
    counted : tuple of str
        Counted resources that might run short.
    takes : int64 (tasks, counted)
        What each task takes of them.
    spare : Profile
        What is free of them, as one worker, before anything is planned.
    hours : Hours, optional
        What energy costs above its least price, by the hour.
    devices : DeviceUse, optional
        Where the GPUs of a worker are devices.
    memory : dict
        What has been worked out from the rest once and for all (the relaxation).
    """

    request: PlanRequest
    tasks: tuple[Task, ...]
    unplanned: dict[str, str]
    infeasible: dict[str, str]
    resources: tuple[str, ...]
    classes: tuple[str, ...]
    owners: tuple[str, ...]
    demand: Ints
    release: Ints
    raw_release: Ints
    deadline: Ints
    hard_end: Ints
    last_start: Ints
    max_stretch: float
    weight: Floats
    shards: Ints
    shard_ptr: Ints
    owner: Ints
    kind: Ints
    allowed: Bools
    share: Floats
    duration: Ints
    pred_ptr: Ints
    pred: Ints
    link_ptr: Ints
    link: Ints
    gang: Ints
    moved_after: Ints
    was_on: Ints
    gone: int
    capacity: Ints
    worker_class: Ints
    free_from: Ints
    until: Ints
    health: Floats
    busy_worker: Ints
    busy_end: Ints
    busy_demand: Ints
    shut_worker: Ints
    shut_start: Ints
    shut_end: Ints
    last_end: Ints
    on: Bools
    load_h: Floats
    owner_wait_h: Floats
    owner_tasks: Floats
    rates: Rates
    counted: tuple[str, ...]
    takes: Ints
    spare: Profile
    hours: Hours | None = None
    devices: DeviceUse | None = None
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers, in request order."""
        return self.request.snapshot.workers

    def profile(self) -> Profile:
        """A fresh profile of what is free before anything is planned."""
        return build_profile(
            self.capacity, self.busy_worker, self.busy_end, self.busy_demand,
            self.shut_worker, self.shut_start, self.shut_end,
        )  # fmt: skip

    def spare_profile(self) -> Spare | None:
        """A fresh profile of what is free of counted resources, with room; None where none are.

        Even where none can run short there is one: kernels are compiled by what a request has.
        So there is where energy has hours, for which they are compiled once, and where devices are
        told apart, which come with it.
        """
        if not self.request.snapshot.counted and self.hours is None and not self.tells_apart:
            return None
        times, free, count = self.spare
        # One that takes some makes two segments more.
        more = 2 * len(self.tasks) + 2
        times, free = np.pad(times, ((0, 0), (0, more))), np.pad(free, ((0, 0), (0, more), (0, 0)))
        return Spare(times, free, count.copy(), self.takes, self.device_state())

    @property
    def tells_apart(self) -> bool:
        """Whether a search must tell devices of some worker apart."""
        return self.devices is not None and self.devices.told_apart

    def device_state(self) -> Devices | None:
        """Who holds which devices before anything is planned; None where none are told apart."""
        return None if self.devices is None else self.devices.state(int(self.shard_ptr[-1]))

    def durations_on(self, task: int) -> Ints:
        """Duration of a task on each worker, 0 where it may not run. Shape (workers,)."""
        on_class = self.duration[task, self.worker_class]
        return np.where(self.allowed[self.kind[task]], on_class, 0)

    def predecessors(self, task: int) -> Ints:
        """Indices of the predecessors of a task."""
        return self.pred[self.pred_ptr[task] : self.pred_ptr[task + 1]]

    def latest_start(self, task: int, duration: int) -> int:
        """Latest permitted start of a task of this duration, seconds after now."""
        return int(
            latest_start(
                self.hard_end[task], self.last_start[task], self.raw_release[task],
                self.max_stretch, duration,
            )
        )  # fmt: skip

    def least_on_class(self, values: Floats) -> Floats:
        """Least value of each kind over the allowed workers of each class.

        Parameters
        ----------
        values : float64 (kinds, workers)

        Returns
        -------
        float64 (kinds, classes)
            Infinity where the class has no allowed worker.
        """
        allowed = np.where(self.allowed, values, np.inf)
        result = np.full((len(self.allowed), len(self.classes)), np.inf)
        for c in range(len(self.classes)):
            result[:, c] = allowed[:, self.worker_class == c].min(axis=1, initial=np.inf)
        return result

    @cached_property
    def class_duration(self) -> Floats:
        """Duration of each task on each class, infinity where it may not run. (tasks, classes)."""
        open_to = self.least_on_class(np.zeros(self.allowed.shape))[self.kind]
        return np.where(self.duration > 0, self.duration, np.inf) + open_to

    @cached_property
    def shortest(self) -> Ints:
        """A duration that no placement of a task can beat. Shape (tasks,).

        Notes
        -----
        The least over allowed workers; for a gang the slowest piece counts, and no gang is
        faster than its fastest possible piece.
        """
        return self.class_duration.min(axis=1).astype(np.int64)

    @cached_property
    def before(self) -> Ints:
        """Every task that another one waits for in any way: column of `link`. Shape (links,)."""
        return self.link[:, BEFORE].copy()

    @cached_property
    def is_shaped(self) -> Bools:
        """Which gangs' pieces may not lie anyhow. Shape (tasks,)."""
        gang = self.gang
        free = (gang[:, MOST_HERE] == self.shards) & (gang[:, MOST_WORKERS] == self.shards)
        return ~free | (gang[:, BEYOND_CHOICE] > 0) | (gang[:, WHOLE] > 0)

    @cached_property
    def is_related(self) -> bool:
        """Whether a start or a lag is waited for, or pieces may not lie anyhow or on any device."""
        plain = (self.link[:, SINCE] == 1) & (self.link[:, LAG] == 0)
        return not plain.all() or bool(self.is_shaped.any()) or self.tells_apart

    @cached_property
    def horizon_s(self) -> float:
        """Seconds after now by which some plan has ended, if there is a plan."""
        return _horizon_s(
            self.release, self.duration, self.free_from, self.busy_end, self.shut_end, self.spare
        ) + float(self.link[:, LAG].sum())

    @cached_property
    def piece_seconds(self) -> Floats:
        """Least time that all pieces of each task take together, seconds. Shape (tasks,)."""
        return self.shortest.astype(np.float64) * self.shards

    @property
    def priced(self) -> Priced:
        """What the cost of a schedule depends on besides the coefficients."""
        return Priced(**{name: getattr(self, name) for name in Priced._fields})

    def cost(self, schedule: Schedule) -> float:
        """Cost of a schedule but for its moves against the plan in force."""
        priced = self.priced
        cost = schedule_cost(self.rates, priced, schedule.start, schedule.end, schedule.worker)
        if self.hours is not None:
            cost += extra_of_pieces(
                self.hours, priced, schedule.start, schedule.end, schedule.worker
            ) + extra_of_workers(self.hours, priced, schedule.end, schedule.worker)
        return float(cost)

    def moved(self, schedule: Schedule) -> int:
        """Number of tasks that a schedule moves against the incumbent, or leaves out."""
        task = np.repeat(np.arange(len(self.tasks)), self.shards)
        order = np.lexsort((schedule.worker, task))
        elsewhere = np.zeros(len(self.tasks), np.bool_)
        elsewhere[task[schedule.worker[order] != self.was_on]] = True
        known = self.moved_after < FAR
        return self.gone + int((known & (elsewhere | (schedule.start > self.moved_after))).sum())


def encode(request: PlanRequest, left_out: Mapping[str, str] | None = None) -> Problem:
    """Arrays of a request.

    Parameters
    ----------
    request : PlanRequest
    left_out : mapping of str to str, optional
        Pending tasks that are not to be planned in any case, each with the reason; what follows
        them is left out with them.

    Returns
    -------
    Problem
        Over the pending tasks that are not proven unplaceable; nothing is preempted.
    """
    snapshot, policy = request.snapshot, request.policy
    snapshot.refuse_modes("this way of planning")
    now = snapshot.now_s
    workers = snapshot.workers
    known = worker_table(workers)
    names = {*known.resources, *(name for t in snapshot.pending for name in t.demand)}
    names |= {name for r in snapshot.running for name in r.task.demand}
    resources = tuple(sorted(names)) or ("cpu",)
    classes = known.classes
    runs = runs_of(request, resources)
    running_end = runs.end_of

    machines = known.arrays(resources, now)
    machines["worker_class"] = known.worker_class.copy()
    if known.hourly:
        busy = running_arrays(request, running_end, resources)
    else:
        busy = runs.arrays(known.rates(policy.prices, now))
    task_arrays = _task_arrays(request, snapshot.pending, classes, running_end)
    kinds, kind_of = _kinds(snapshot.pending)
    held = counted_arrays(request, running_end)
    pieces = np.array([task.shards for task in snapshot.pending], np.int64)
    choices = with_choices(kinds, kind_of, snapshot.pending, pieces)
    lags = sum(on.lag_s for task in snapshot.pending if task.depends for on in task.depends)
    _check_horizon(task_arrays, machines, busy["busy_end"], held["spare"], lags)
    task_arrays["demand"] = amounts([k.demand for k in kinds], resources)[kind_of]
    allowed, share = _fit(kinds, workers, resources, machines["capacity"])
    devices = device_use(snapshot, running_end, kind_of, allowed)
    whole = add_alone(snapshot, machines, busy, task_arrays)
    resources = (*resources, ALONE) if whole else resources
    task_arrays["gang"] = gang_array(snapshot.pending, pieces, choices, whole)

    profile = build_profile(
        machines["capacity"], busy["busy_worker"], busy["busy_end"], busy["busy_demand"],
        machines["shut_worker"], machines["shut_start"], machines["shut_end"],
    )  # fmt: skip
    unplanned, infeasible = _unplaceable(
        request, task_arrays, machines, kind_of, allowed, profile, held, choices, devices
    )
    if left_out:
        unplanned = {**left_out, **unplanned}
        _drop_successors(snapshot.pending, unplanned)
        infeasible = {t: why for t, why in infeasible.items() if t not in unplanned}

    keep = [i for i, t in enumerate(snapshot.pending) if t.id not in unplanned]
    tasks = tuple(snapshot.pending[i] for i in keep)
    place = {t.id: i for i, t in enumerate(tasks)}
    links = [link_rows(t, place) if t.after or t.depends else [] for t in tasks]
    preds = [[before for before, ends, _ in rows if ends] if rows else rows for rows in links]
    owner_of = [t.owner for t in snapshot.pending] + [r.task.owner for r in snapshot.running]
    owners = tuple(dict.fromkeys(owner_of))
    owner_index = {name: k for k, name in enumerate(owners)}
    owner = np.array([owner_index[name] for name in owner_of], np.int64)
    owner_tasks, owner_wait_h = np.zeros(len(owners)), np.zeros(len(owners))
    np.add.at(owner_tasks, owner, 1.0)
    np.add.at(owner_wait_h, owner[len(snapshot.pending) :], runs.waited_h())

    shards = np.array([t.shards for t in tasks], np.int64)
    moved_after, was_on = _incumbent_arrays(request, tasks, shards)
    return Problem(
        request=request,
        tasks=tasks,
        unplanned=unplanned,
        infeasible=infeasible,
        resources=resources,
        classes=classes,
        owners=owners,
        max_stretch=policy.max_stretch or 0.0,
        weight=np.array([t.weight for t in tasks], np.float64),
        shards=shards,
        shard_ptr=offsets(shards),
        moved_after=moved_after,
        was_on=was_on,
        gone=sum(
            request.incumbent is not None and t in request.incumbent.by_task for t in unplanned
        ),
        owner=owner[keep],
        kind=kind_of[keep],
        allowed=allowed,
        share=share,
        pred_ptr=offsets([len(p) for p in preds]),
        pred=np.array([p for row in preds for p in row], np.int64),
        link_ptr=offsets([len(rows) for rows in links]),
        link=np.array([row for rows in links for row in rows], np.int64).reshape(-1, 3),
        owner_wait_h=owner_wait_h,
        owner_tasks=owner_tasks,
        counted=held["counted"],
        takes=held["takes"][keep],
        spare=held["spare"],
        devices=None if devices is None else devices.of_tasks(keep),
        **{name: values[keep] for name, values in task_arrays.items()},
        **machines,
        **busy,
    )


def _horizon_s(
    release: Ints, duration: Ints, free_from: Ints, busy_end: Ints, shut: Ints, spare: Profile
) -> float:
    """Seconds after now by which all has ended, were it done one by one once nothing else is on."""
    calm = [release, free_from, busy_end, shut[shut < FAR], spare[0][0]]
    last = max((float(times.max()) for times in calm if len(times)), default=0.0)
    return last + float(duration.max(axis=1, initial=0).sum(dtype=np.float64))


def _check_horizon(
    task_arrays: dict[str, Any], machines: dict[str, Any], busy_end: Ints, spare: Profile, lags: int
) -> None:
    """Refuse a batch that might not end before what stands for never."""
    end_s = _horizon_s(
        task_arrays["release"], task_arrays["duration"], machines["free_from"], busy_end,
        machines["shut_end"], spare,
    )  # fmt: skip
    if (end_s := end_s + lags) >= FAR:
        raise BadRequest(
            f"the batch might end {end_s:.6g} s from now (the last release or end of what "
            f"runs, and all estimates one after the other); it must be less than {FAR} s (2^50). "
            "Are times in milliseconds or nanoseconds?"
        )


def _incumbent_arrays(
    request: PlanRequest, tasks: Sequence[Task], shards: Ints
) -> tuple[Ints, Ints]:
    """``moved_after`` and ``was_on`` of ``Problem``."""
    moved_after = np.full(len(tasks), FAR, np.int64)
    was_on = np.full(int(shards.sum()), -1, np.int64)
    if request.incumbent is None:
        return moved_after, was_on
    index = {w.id: k for k, w in enumerate(request.snapshot.workers)}
    shard_ptr = offsets(shards)
    for i, task in enumerate(tasks):
        before = request.incumbent.by_task.get(task.id)
        if before is None:
            continue
        latest = before.start_s + request.policy.move_tolerance_s
        moved_after[i] = min(latest - request.snapshot.now_s, FAR - 1)
        workers = sorted(index.get(w, -1) for w in before.workers)
        if len(workers) == task.shards and workers[0] >= 0:
            was_on[shard_ptr[i] : shard_ptr[i + 1]] = workers
    return moved_after, was_on


def decode(problem: Problem, schedule: Schedule) -> Plan:
    """A schedule of a problem as a plan, in order of start.

    Devices that need not be told apart are given here; where the schedule has none of the others
    and the rule finds no room, the plan names none.
    """
    snapshot = problem.request.snapshot
    if problem.devices is not None:
        return _with_devices(problem, schedule, problem.devices)
    ids = [w.id for w in snapshot.workers]
    names = [ids[w] for w in schedule.worker.tolist()]
    ptr = problem.shard_ptr.tolist()
    starts = (schedule.start + snapshot.now_s).tolist()
    ends = (schedule.end + snapshot.now_s).tolist()
    assignments = [
        Assignment(task.id, tuple(names[ptr[i] : ptr[i + 1]]), starts[i], ends[i])
        for i, task in enumerate(problem.tasks)
    ]
    assignments.sort(key=lambda a: (a.start_s, a.end_s, a.task))
    return Plan(tuple(assignments), (), snapshot.now_s, snapshot.version)


def _with_devices(problem: Problem, schedule: Schedule, use: DeviceUse) -> Plan:
    """``decode`` where the GPUs of workers are devices."""
    plain = decode(replace(problem, devices=None), schedule)
    masks = device_masks(problem, schedule, use)
    if masks is None:
        return plain
    held = [devices_in(mask) for mask in masks.tolist()]
    place = {task.id: i for i, task in enumerate(problem.tasks)}
    named = []
    for row in plain.assignments:
        mine = held[slice(*problem.shard_ptr[place[row.task] :][:2].tolist())]
        named.append(replace(row, devices=tuple(mine)) if any(mine) else row)
    return replace(plain, assignments=tuple(named))


def with_devices(problem: Problem, plan: Plan) -> Plan:
    """A plan with devices given anew by the rule; itself where there is no room for them."""
    index = {w.id: k for k, w in enumerate(problem.workers)}
    rows = [plan.by_task.get(task.id) for task in problem.tasks]
    known = [row for row in rows if row is not None and not {*row.workers} - index.keys()]
    shards = {task.id: task.shards for task in problem.tasks}
    if problem.devices is None or len(known) < len(rows):
        return plan
    if any(len(row.workers) != shards[row.task] for row in known):
        return plan
    now = problem.request.snapshot.now_s
    schedule = Schedule(
        np.array([row.start_s - now for row in known], np.int64),
        np.array([row.end_s - now for row in known], np.int64),
        np.array([index[w] for row in known for w in row.workers], np.int64),
    )
    return decode(problem, schedule)


def device_masks(problem: Problem, schedule: Schedule, use: DeviceUse) -> Ints | None:
    """Devices of every piece of a schedule, as bits; see ``device_use.given``."""
    task = np.repeat(np.arange(len(problem.tasks)), problem.shards)
    return given(
        use, task, schedule.worker, schedule.start[task], schedule.end[task], schedule.devices
    )


def offsets(sizes: Sequence[int] | Ints) -> Ints:
    """Row pointers of a CSR form with rows of these sizes."""
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))]).astype(np.int64)


def _after_now(at_s: int | None, now: int) -> int:
    return FAR if at_s is None else at_s - now


def amounts(demands: Sequence[Mapping[str, int]], resources: tuple[str, ...]) -> Ints:
    """Amounts by name as an array, shape (demands, resources)."""
    rows = [[d.get(name, 0) for name in resources] for d in demands]
    return np.array(rows, np.int64).reshape(len(rows), len(resources))


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


def counted_arrays(request: PlanRequest, running_end: Mapping[str, int]) -> dict[str, Any]:
    """``counted``, ``takes`` and ``spare`` of ``Problem``, over all pending tasks."""
    snapshot = request.snapshot
    now, tasks = snapshot.now_s, snapshot.pending
    nothing = {"counted": (), "takes": np.zeros((len(tasks), 0), np.int64), "spare": NOTHING_SPARE}
    if not snapshot.counted:
        return nothing
    wanted: Counter[str] = Counter()
    for task in tasks:
        wanted.update(task.counted)
    runs: dict[str, list[tuple[int, int]]] = {resource.id: [] for resource in snapshot.counted}
    for run in snapshot.running:
        for name, amount in run.task.counted.items():
            runs[name].append((amount, running_end[run.task.id] - now))
    taken = [c for c in snapshot.counted if wanted[c.id]]
    times = _moments(taken, runs, now)
    columns = {}
    for resource in taken:
        held = runs[resource.id]
        amount_at = [resource.at(now + t) for t in times]
        if wanted[resource.id] + sum(a for a, _ in held) > min(amount_at):
            # What runs may hold more than there is.
            columns[resource.id] = [
                max(0, have - sum(a for a, end in held if end > t))
                for t, have in zip(times, amount_at, strict=True)
            ]
    if not columns:
        return nothing
    free_at = np.array([[column[k] for column in columns.values()] for k in range(len(times))])
    spare = np.array([times], np.int64), free_at[None], np.array([len(times)], np.int64)
    takes = amounts([t.counted for t in tasks], tuple(columns))
    return {"counted": tuple(columns), "takes": takes, "spare": spare}


def _moments(
    taken: Sequence[CountedResource], runs: Mapping[str, list[tuple[int, int]]], now: int
) -> list[int]:
    """When, seconds after now, what is free of counted resources changes; now among them."""
    found = {0, *(end for resource in taken for _, end in runs[resource.id])}
    for resource in taken:
        for window in resource.windows:
            found.update(t - now for t in (window.start_s, window.end_s) if t > now)
    return sorted(found)


def _task_arrays(
    request: PlanRequest,
    tasks: Sequence[Task],
    classes: tuple[str, ...],
    running_end: dict[str, int],
) -> dict[str, Any]:
    now, policy = request.snapshot.now_s, request.policy
    release = releases(request.snapshot, running_end)
    hard, level = policy.hard_deadlines, policy.level
    duration = np.zeros((len(tasks), len(classes)), np.int64)
    # As ``estimate_for`` has it, written out: there are ten thousands of them, none by mode.
    known: Mapping[str, Any] = request.estimates
    for i, task in enumerate(tasks):
        by_class = known.get(task.id)
        if not by_class:
            continue
        for_any = by_class.get(ANY_CLASS)
        if for_any is not None and len(by_class) == 1:
            duration[i, :] = for_any.at(level)
            continue
        for c, name in enumerate(classes):
            estimate = by_class.get(name) or for_any
            if estimate is not None:
                duration[i, c] = estimate.at(level)
    wait = policy.max_wait_s
    return {
        "release": np.array(release, np.int64),
        "raw_release": np.array([t.release_s - now for t in tasks], np.int64),
        "deadline": np.array([_after_now(t.deadline_s, now) for t in tasks], np.int64),
        "hard_end": np.array(
            [_after_now(t.deadline_s, now) if hard else FAR for t in tasks], np.int64
        ),
        "last_start": np.array(
            [FAR if wait is None else max(0, t.release_s - now) + wait for t in tasks], np.int64
        ),
        "duration": duration,
    }


def _kinds(tasks: Sequence[Task]) -> tuple[list[Task], Ints]:
    """One task of each kind, and the kind of every task."""
    index: dict[Any, int] = {}
    kinds: list[Task] = []
    kind_of = np.zeros(len(tasks), np.int64)
    for i, task in enumerate(tasks):
        alone = shape_of(task) if task.exclusive else None
        key = (tuple(sorted(task.demand.items())), task.requires, alone)
        if key not in index:
            index[key] = len(kinds)
            kinds.append(task)
        kind_of[i] = index[key]
    return kinds, kind_of


def _fit(
    kinds: Sequence[Task], workers: Sequence[Worker], resources: tuple[str, ...], capacity: Ints
) -> tuple[Bools, Floats]:
    """Whether a piece of each kind fits each empty worker, and its dominant share there."""
    demand = amounts([k.demand for k in kinds], resources)
    allowed = np.ones((len(kinds), len(workers)), np.bool_)
    share = np.zeros((len(kinds), len(workers)))
    for r in range(len(resources)):
        need, have = demand[:, r, None], capacity[None, :, r]
        allowed &= need <= have
        # In place: another memory layout would have every kernel compiled once more.
        np.maximum(share, need / np.maximum(have, 1) * (have > 0), out=share)
    # Label sets repeat: match each distinct requirement with each distinct set once.
    known = worker_table(workers)
    label_sets, set_of = known.label_sets, known.set_of
    matched: dict[tuple[str, ...], Bools] = {}
    for k, kind in enumerate(kinds):
        if kind.requires:
            if kind.requires not in matched:
                wanted = [parse(text) for text in kind.requires]
                per_set = [all(each.holds(has) for each in wanted) for has in label_sets]
                matched[kind.requires] = np.array(per_set, np.bool_)[set_of]
            allowed[k] &= matched[kind.requires]
    return allowed, share


def _unplaceable(
    request: PlanRequest,
    task_arrays: dict[str, Any],
    machines: dict[str, Any],
    kind_of: Ints,
    allowed: Bools,
    profile: Profile,
    held: dict[str, Any],
    choices: Mapping[int, range],
    devices: DeviceUse | None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Tasks proven unplaceable, and tasks proven impossible only by their hard bounds."""
    snapshot = request.snapshot
    unplanned: dict[str, str] = {}
    infeasible: dict[str, str] = {}
    failed = {f.id: f.outcome for f in snapshot.finished if f.outcome is not Outcome.COMPLETED}
    for_ever = machines["until"] >= FAR
    bounded = (
        request.policy.hard_deadlines
        or request.policy.max_wait_s is not None
        or request.policy.max_stretch is not None
    )
    at_ease = _surely_placeable(task_arrays, machines, kind_of, allowed & for_ever)
    # Of what is counted, too, the last amounts stay.
    lasts = (held["takes"] <= held["spare"][1][0, -1]).all(axis=1)
    at_ease &= lasts
    for i, task in enumerate(snapshot.pending):
        hopeful = not task.depends and failed.keys().isdisjoint(task.after)
        if hopeful and at_ease[i] and task.shards == 1 and not bounded:
            continue  # some time, everything else has ended
        durations = task_arrays["duration"][i, machines["worker_class"]]
        may = allowed[kind_of[i]] & (durations > 0)
        ended = None if hopeful else _vain(snapshot, task)
        if ended is not None:
            unplanned[task.id] = f"its predecessor {ended.id} ended as {ended.outcome.value}"
        elif not may.any():
            unplanned[task.id] = _why_no_worker(request, task)
        elif (short := _short_of(i, held)) is not None:
            unplanned[task.id] = short
        elif (most := _most_together(task, snapshot.workers, may, choices.get(i), allowed)) < (
            task.shards
        ):
            unplanned[task.id] = _why_not_together(task, most)
        elif (
            not bounded
            and lasts[i]
            and _most_together(
                task, snapshot.workers, may & for_ever, choices.get(i), allowed, task.shards
            )
            >= task.shards
        ):
            continue  # the same for a gang
        else:
            reason = _why_no_time(
                i, task, task_arrays, durations, may, profile, request, held, devices
            )
            if reason is not None:
                hard, text = reason
                (infeasible if hard else unplanned)[task.id] = text
    _drop_successors(snapshot.pending, unplanned)
    return unplanned, {t: why for t, why in infeasible.items() if t not in unplanned}


def _short_of(i: int, held: dict[str, Any]) -> str | None:
    """What a task takes of a counted resource that is never there."""
    most = held["spare"][1][0].max(axis=0, initial=0)
    for name, takes, there in zip(held["counted"], held["takes"][i], most, strict=True):
        if takes > there:
            return f"it takes {takes} of {name}; the cluster never has more than {there} free"
    return None


def _surely_placeable(
    task_arrays: dict[str, Any], machines: dict[str, Any], kind_of: Ints, allowed: Bools
) -> Bools:
    """Whether a piece of each task may run on some worker of a class that has an estimate."""
    duration = task_arrays["duration"]
    open_to = np.zeros((len(allowed), duration.shape[1]), np.bool_)
    for c in range(duration.shape[1]):
        open_to[:, c] = allowed[:, machines["worker_class"] == c].any(axis=1)
    placeable: Bools = ((duration > 0) & open_to[kind_of]).any(axis=1)
    return placeable


def _vain(snapshot: Snapshot, task: Task) -> Finished | None:
    """A predecessor that has ended so that a task can never start."""
    for on in task.dependencies:
        ended = snapshot.finished_by_id.get(on.task)
        if ended is not None and not on.is_met_by(ended.outcome):
            return ended
    return None


def _most_together(
    task: Task,
    workers: Sequence[Worker],
    may: Bools,
    choices: range | None,
    allowed: Bools,
    enough: int | None = None,
) -> int:
    """How many pieces of a task the empty workers hold side by side; stops at `enough`."""
    able = int(may.sum())
    anyhow = not choices and task.most_workers is None
    if task.shards == 1 or (anyhow and enough is not None and able >= enough):
        return able
    here, on = shape_of(task)
    most = 0
    for row in choices or [None]:
        pieces = []
        for w in np.flatnonzero(may if row is None else may & allowed[row]):
            fits = [workers[int(w)].capacity[r] // a for r, a in task.demand.items() if a > 0]
            if workers[int(w)].devices:
                fits.append(most_pieces(task, workers[int(w)].device_count))
            pieces.append(min(here, min(fits, default=task.shards)))
        most = max(most, sum(sorted(pieces, reverse=True)[:on]))
    return most


def _why_not_together(task: Task, most: int) -> str:
    """Why the workers that a gang may use do not hold it."""
    said = []
    if alternatives(task.requires):
        said.append("under one of " + " or ".join(str(a) for a in alternatives(task.requires)))
    if task.most_per_worker is not None:
        said.append(f"at most {task.most_per_worker} on each")
    if task.most_workers is not None:
        said.append(f"on at most {task.most_workers}")
    return (
        f"its {task.shards} shards need to run at once, but the eligible workers hold "
        f"{most} together" + (f" ({', '.join(said)})" if said else "")
    )


def _why_no_worker(request: PlanRequest, task: Task) -> str:
    """Why no worker can ever hold a task, most telling cause first."""
    workers = request.snapshot.workers
    for text in task.requires:
        if not any(w.satisfies([text]) for w in workers):
            plain = "!" not in text and "&" not in text
            what = f"label {text!r}" if plain else f"{text!r}"
            return f"it requires {what}, which no worker has"
    labelled = [w for w in workers if w.satisfies(task.requires)]
    if not labelled:
        return f"it requires {' and '.join(task.requires)}, which no worker has together"
    estimated = [
        w for w in labelled if estimate_for(request.estimates, task.id, w.machine_class) is not None
    ]
    if not estimated:
        return "it has no run-time estimate for the machine class of any worker it may use"
    for resource, amount in task.demand.items():
        most = max(w.capacity.get(resource, 0) for w in estimated)
        if amount > most:
            return (
                f"it needs {in_words(resource, amount)}; the largest worker it may use has "
                f"{in_words(resource, most, unit=False)}"
            )
    return "no single worker it may use has enough of all its resources at once"


def _why_no_time(
    i: int,
    task: Task,
    task_arrays: dict[str, Any],
    durations: Ints,
    may: Bools,
    profile: Profile,
    request: PlanRequest,
    held: dict[str, Any],
    devices: DeviceUse | None,
) -> tuple[bool, str] | None:
    """Why a task finds no time even alone on the cluster; (whether a hard bound is why, text)."""
    times, free, count = profile
    spare_times, spare_free, spare_count = held["spare"]
    policy = request.policy
    finds_time = False
    for w in np.flatnonzero(may):
        d = int(durations[w])
        start, before = int(task_arrays["release"][i]), -1
        while before < start < FAR:
            before = start
            start = earliest_start(times[w], free[w], count[w], task_arrays["demand"][i], start, d)
            if len(held["counted"]) and start < FAR:
                start = earliest_start(
                    spare_times[0], spare_free[0], spare_count[0], held["takes"][i], start, d
                )
            if devices is not None and start < FAR:
                start = device_start(devices, i, int(w), start)
        latest = latest_start(
            task_arrays["hard_end"][i],
            task_arrays["last_start"][i],
            task_arrays["raw_release"][i],
            policy.max_stretch or 0.0,
            d,
        )
        if start <= latest and start < FAR:
            # For a gang one piece's place is no proof that there is one for all.
            return None
        finds_time = finds_time or start < FAR
    if not finds_time and held["takes"][i].any():
        names = " and ".join(n for n, a in zip(held["counted"], held["takes"][i], strict=True) if a)
        return (
            False,
            f"no worker that could hold it is open for as long as enough of {names} is free",
        )
    if not finds_time:
        return False, "every worker that could hold it drains before it could end"
    if policy.hard_deadlines and task.deadline_s is not None:
        return True, f"it cannot end by its hard deadline at {task.deadline_s}"
    if policy.max_wait_s is not None:
        return True, f"it cannot start within the wait bound of {policy.max_wait_s} s"
    return True, f"it cannot keep its stretch within the bound of {policy.max_stretch:g}"


def _drop_successors(tasks: Sequence[Task], unplanned: dict[str, str]) -> None:
    """Add to `unplanned` every task that follows one of its tasks, at any distance."""
    if not unplanned:
        return
    followers: dict[str, list[str]] = {}
    for task in tasks:
        for before in task.predecessors:
            followers.setdefault(before, []).append(task.id)
    queue = list(unplanned)
    while queue:
        dropped = queue.pop()
        for follower in followers.get(dropped, ()):
            if follower not in unplanned:
                unplanned[follower] = f"its predecessor {dropped} cannot be planned"
                queue.append(follower)
