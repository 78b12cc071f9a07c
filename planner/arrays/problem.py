"""Requests as arrays, schedules of them, and schedules as plans.

Times in a problem are whole seconds after now; ``encode`` makes problems of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.planner.arrays.cost import Priced, schedule_cost
from plancast.planner.arrays.device_use import DeviceUse, devices_in, given
from plancast.planner.arrays.devices import NO_DEVICES, Devices
from plancast.planner.arrays.hours import NO_HOURS, Hours, extra_of_pieces, extra_of_workers
from plancast.planner.arrays.rates import Rates
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
    latest_start,
)
from plancast.planner.model.domain import Assignment, Plan, Task, Worker
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
        """A fresh profile of what is free of counted resources, with room; None if plain."""
        if self.is_plain:
            return None
        times, free, count = self.spare
        # One that takes some makes two segments more.
        more = 2 * len(self.tasks) + 2
        times, free = np.pad(times, ((0, 0), (0, more))), np.pad(free, ((0, 0), (0, more), (0, 0)))
        return Spare(times, free, count.copy(), self.takes, self.device_state())

    @cached_property
    def is_plain(self) -> bool:
        """Whether nothing is counted, no devices are shared and energy has no hours.

        Kernels are compiled once for all plain problems, and once for all others; also for those
        with counted resources of which none can run short.
        """
        snapshot = self.request.snapshot
        return not snapshot.counted and self.hours is None and not snapshot.shares_devices

    @property
    def hours_or_none(self) -> Hours | None:
        """What kernels are handed as hours."""
        return None if self.is_plain else self.hours or NO_HOURS

    @property
    def tells_apart(self) -> bool:
        """Whether a search must tell devices of some worker apart."""
        return self.devices is not None and self.devices.told_apart

    def device_state(self) -> Devices:
        """Who holds which devices before anything is planned."""
        return NO_DEVICES if self.devices is None else self.devices.state(int(self.shard_ptr[-1]))

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
        return horizon_s(
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


def horizon_s(
    release: Ints, duration: Ints, free_from: Ints, busy_end: Ints, shut: Ints, spare: Profile
) -> float:
    """Seconds after now by which all has ended, were it done one by one once nothing else is on."""
    calm = [release, free_from, busy_end, shut[shut < FAR], spare[0][0]]
    last = max((float(times.max()) for times in calm if len(times)), default=0.0)
    return last + float(duration.max(axis=1, initial=0).sum(dtype=np.float64))


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


def csr(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Rows of numbers in CSR form: row pointers, and the numbers one after the other."""
    return offsets([len(row) for row in rows]), np.array([x for row in rows for x in row], np.int64)


def amounts(demands: Sequence[Mapping[str, int]], resources: tuple[str, ...]) -> Ints:
    """Amounts by name as an array, shape (demands, resources)."""
    rows = [[d.get(name, 0) for name in resources] for d in demands]
    return np.array(rows, np.int64).reshape(len(rows), len(resources))
