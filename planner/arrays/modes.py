"""Requests whose tasks have modes, as arrays: every way of each task, and the choice of one.

With one way chosen for each task what is left is a plain ``Problem``: all that solves or prices
such ones works on it. Budgets, which only a choice can break, stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from plancast.planner.arrays.device_use import with_named
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Floats, Ints, Problem, Schedule, amounts, offsets
from plancast.planner.arrays.running import expected_end_s, reserved_s
from plancast.planner.arrays.schedule import FAR
from plancast.planner.model.domain import (
    MIN_STRETCH_S,
    Assignment,
    Plan,
    Running,
    Snapshot,
    Task,
    Worker,
    estimates_of,
)
from plancast.planner.model.messages import PlanRequest

BY_ROW = ("demand", "hard_end", "kind", "duration", "shards", "moved_after", "gang")
"""Fields of a problem that differ between the ways of a task, one value for each task."""
OF_CLUSTER = (
    "resources", "capacity", "allowed", "share", "busy_demand", "load_h", "rates",
)  # fmt: skip
"""Fields that belong to the resources and kinds of all ways."""
OF_KINDS = ("allowed", "share")


@dataclass(frozen=True, eq=False)
class Choices:
    """A request whose tasks may be done in several ways; a way is a row of `ways`.

    Parameters
    ----------
    request : PlanRequest
    base : Problem
        The tasks that can be planned, each in the first of its ways that can be.
    ways : Problem
        A task for each way, with no precedence among them.
    ptr : int64 (tasks + 1,)
        Rows of each task of `base`.
    mode : tuple of str
        Mode of each row; "" for the only way of a task without modes.
    fastest : int64 (tasks,)
        What the stretch of a task with modes divides by, seconds; 0 for one without.
    consumed : int64 (rows, budgets)
    left : int64 (budgets,)
        What running tasks leave of each budget; may be below 0.
    rows : int64 (rows,), optional
        Of ``restricted`` ones: which rows of the whole they are.
    """

    request: PlanRequest
    base: Problem
    ways: Problem
    ptr: Ints
    mode: tuple[str, ...]
    fastest: Ints
    consumed: Ints
    left: Ints
    rows: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that can be planned, in request order."""
        return self.base.tasks

    @property
    def unplanned(self) -> dict[str, str]:
        """The other pending tasks, each with the reason."""
        return self.base.unplanned

    @property
    def infeasible(self) -> dict[str, str]:
        """Tasks that no plan can place within its hard bounds, in any mode."""
        return self.base.infeasible

    @cached_property
    def task_of(self) -> Ints:
        """Task of each row."""
        return np.repeat(np.arange(len(self.tasks)), np.diff(self.ptr))

    def fixed(self, choice: Ints) -> Problem:
        """The problem in which each task is done in one way.

        Parameters
        ----------
        choice : int64 (tasks,)
            A row of each task.

        Notes
        -----
        Its cost divides the stretch by the chosen duration; ``Choices.cost`` is exact.
        """
        ways = self.ways
        shards = ways.shards[choice]
        pieces = np.concatenate(
            [np.arange(ways.shard_ptr[k], ways.shard_ptr[k + 1]) for k in choice]
        ) if len(choice) else np.zeros(0, np.int64)  # fmt: skip
        return replace(
            self.base,
            **{name: getattr(ways, name)[choice] for name in BY_ROW},
            **{name: getattr(ways, name) for name in OF_CLUSTER},
            shard_ptr=offsets(shards),
            was_on=ways.was_on[pieces.astype(np.int64)],
            memory={},
        )

    def spent(self, choice: Ints) -> Ints:
        """What a choice consumes of each budget. Shape (budgets,)."""
        total: Ints = self.consumed[choice].sum(axis=0)
        return total

    def affords(self, choice: Ints) -> bool:
        """Whether a choice keeps to the budgets."""
        used = self.spent(choice)
        return bool(((used == 0) | (used <= self.left)).all())

    def cost(self, schedule: Schedule) -> float:
        """Cost of a schedule with modes but for its moves."""
        assert schedule.mode is not None
        return self.fixed(schedule.mode).cost(schedule) + self.stretched(schedule)

    def stretched(self, schedule: Schedule) -> float:
        """What slow modes add to the price of the stretch; see ``fixed``."""
        base = self.base
        price = base.rates.slowdown
        if price == 0 or not self.fastest.any():
            return 0.0
        has_modes = self.fastest > 0
        since = (schedule.end - base.raw_release)[has_modes].astype(np.float64)
        took = np.maximum((schedule.end - schedule.start)[has_modes], MIN_STRETCH_S)
        least = np.maximum(self.fastest[has_modes], MIN_STRETCH_S)
        return float(price * (base.weight[has_modes] * since * (1 / least - 1 / took)).sum())

    @cached_property
    def relaxed(self) -> Problem:
        """A plain problem whose cheapest schedule costs no more than any with modes.

        Notes
        -----
        Each task takes the least of everything that any of its ways takes (amounts, pieces,
        time on each class) and may use the workers of all of them.
        """
        ways, starts = self.ways, self.ptr[:-1]
        if not len(starts):
            return self.base
        rows = [tuple(sorted(set(ways.kind[a:b].tolist()))) for a, b in self._spans()]
        kinds = list(dict.fromkeys(rows))
        open_here = [ways.allowed[list(k)].any(axis=0) for k in kinds]
        lightest = [
            np.where(ways.allowed[list(k)], ways.share[list(k)], np.inf).min(axis=0) for k in kinds
        ]
        # A time of 0 says that a class is closed, not that nothing is faster.
        on_class = np.isfinite(ways.class_duration)
        duration = np.where(on_class, ways.duration, np.iinfo(np.int64).max)
        least = np.minimum.reduceat(duration, starts)
        shards = np.minimum.reduceat(ways.shards, starts)
        return replace(
            self.base,
            **{name: getattr(ways, name) for name in OF_CLUSTER if name not in OF_KINDS},
            demand=np.minimum.reduceat(ways.demand, starts),
            duration=np.where(least == np.iinfo(np.int64).max, 0, least),
            hard_end=np.maximum.reduceat(ways.hard_end, starts),
            shards=shards,
            shard_ptr=offsets(shards),
            was_on=np.full(int(shards.sum()), -1, np.int64),
            moved_after=np.full(len(starts), FAR, np.int64),
            kind=np.array([kinds.index(k) for k in rows], np.int64),
            allowed=np.array(open_here, np.bool_),
            share=np.where(np.isfinite(lightest), lightest, 0.0),
            gang=np.stack([shards, shards, 0 * shards, 0 * shards, 0 * shards], axis=1),
            memory={},
        )

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip(self.ptr[:-1].tolist(), self.ptr[1:].tolist(), strict=True))

    @cached_property
    def seconds(self) -> Floats:
        """Least duration of each row. Shape (rows,)."""
        return self.ways.shortest.astype(np.float64)

    @cached_property
    def worker_seconds(self) -> Floats:
        """Least seconds of a whole worker that each row takes. Shape (rows,)."""
        ways = self.ways
        share = np.where(ways.allowed, ways.share, np.inf).min(axis=1)[ways.kind]
        return np.asarray(share * ways.piece_seconds, np.float64)


def encode_choices(request: PlanRequest, left_out: Mapping[str, str] | None = None) -> Choices:
    """Arrays of a request whose tasks may have modes.

    Parameters
    ----------
    request : PlanRequest
        None of its running tasks is preemptible.
    left_out : mapping of str to str, optional
        As of ``encode``.

    Notes
    -----
    A way that no worker can ever hold, or that hard bounds or a budget forbid, is no row. A task
    that no worker can hold in any is left out with the reason of its first way. GPUs are amounts:
    where modes take different parts of devices they are refused, else devices can be given to any
    plan (``device_use.with_named``).
    """
    snapshot = request.snapshot
    snapshot.refuse_devices("planning with modes")
    asked = _with_amounts(request)
    plain, ways_of = _every_way(asked)
    every = encode(plain)
    first, unplanned, hard = _first_ways(request, every, ways_of)
    base = encode(in_one_way(asked, first), {**(left_out or {}), **unplanned})
    infeasible = {t: why for t, why in hard.items() if t not in base.unplanned}
    rates = base.rates._replace(fixed=base.rates.fixed + _running_stretch(request, base))
    base = replace(base, request=request, infeasible={**base.infeasible, **infeasible}, rates=rates)
    row_of = {task.id: k for k, task in enumerate(every.tasks)}
    budgets = tuple(snapshot.budgets)
    ran = amounts([run.done.demand for run in snapshot.running], budgets).sum(axis=0)
    left = np.array([snapshot.budgets[name] for name in budgets], np.int64) - ran
    most = dict(zip(budgets, np.maximum(left, 0).tolist(), strict=True))
    rows: list[int] = []
    sizes, modes, demands = [], [], []
    for task in base.tasks:
        # Of a task that hard bounds forbid all rows stay: nothing is planned at all then.
        possible = [w for w in ways_of[task.id] if w[0] in row_of and w[0] not in every.infeasible]
        mine = possible or [w for w in ways_of[task.id] if w[0] in row_of]
        mine = [way for way in mine if _within(task, way[1], most, snapshot)] or mine
        rows += [row_of[key] for key, _ in mine]
        sizes.append(len(mine))
        modes += [mode for _, mode in mine]
        demands += [snapshot.pending_by_id[task.id].in_mode(mode).demand for _, mode in mine]
    fastest = _fastest(request, base.tasks)
    ways = _bounded(_rows(every, np.array(rows, np.int64)), np.repeat(fastest, sizes))
    found = Choices(
        request=request,
        base=base,
        ways=replace(ways, rates=rates),
        ptr=offsets(sizes),
        mode=tuple(modes),
        fastest=fastest,
        consumed=amounts(demands, budgets),
        left=left,
    )
    # The ways may name more resources than the first ones do, and take more of a whole worker.
    return replace(found, base=found.fixed(found.ptr[:-1]))


def _within(task: Task, mode: str, most: Mapping[str, int], snapshot: Snapshot) -> bool:
    """Whether a mode alone takes no more of any budget than is left."""
    demand = snapshot.pending_by_id[task.id].in_mode(mode).demand
    return all(demand.get(name, 0) <= amount for name, amount in most.items())


def _first_ways(
    request: PlanRequest, every: Problem, ways_of: Mapping[str, list[tuple[str, str]]]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Of each task the first mode that it can be done in, of the others why there is none.

    Returns
    -------
    first : dict of str to str
        Task to mode; of a task that is never possible the one that the reason is of.
    unplanned, infeasible : dict of str to str
        As of ``Problem``.
    """
    first: dict[str, str] = {}
    unplanned: dict[str, str] = {}
    infeasible: dict[str, str] = {}
    for task in request.snapshot.pending:
        ways = ways_of[task.id]
        possible = [w for w in ways if w[0] not in every.unplanned and w[0] not in every.infeasible]
        hard = [way for way in ways if way[0] in every.infeasible]
        key, first[task.id] = (possible or hard or ways)[0]
        if not possible and hard:
            infeasible[task.id] = every.infeasible[key]
        elif not possible:
            unplanned[task.id] = _of_mode(task, every.unplanned[key])
    return first, unplanned, infeasible


def restricted(choices: Choices, task: int, row: int) -> Choices:
    """The same with one way of a task alone; ``rows`` tells which rows are left."""
    keep = (choices.task_of != task) | (np.arange(len(choices.mode)) == row)
    rows = np.flatnonzero(keep)
    sizes = np.diff(choices.ptr)
    sizes[task] = 1
    return replace(
        choices,
        ways=_rows(choices.ways, rows),
        ptr=offsets(sizes),
        mode=tuple(choices.mode[k] for k in rows),
        consumed=choices.consumed[rows],
        rows=choices.rows[rows],
    )


def decode_choices(choices: Choices, schedule: Schedule) -> Plan:
    """A schedule with modes as a plan, in order of start."""
    assert schedule.mode is not None
    snapshot = choices.request.snapshot
    ids = [w.id for w in snapshot.workers]
    ptr = offsets(choices.ways.shards[schedule.mode])
    assignments = [
        Assignment(
            task.id,
            tuple(ids[w] for w in schedule.worker[ptr[i] : ptr[i + 1]]),
            int(schedule.start[i]) + snapshot.now_s,
            int(schedule.end[i]) + snapshot.now_s,
            choices.mode[schedule.mode[i]],
        )
        for i, task in enumerate(choices.tasks)
    ]
    assignments.sort(key=lambda a: (a.start_s, a.end_s, a.task))
    plan = Plan(tuple(assignments), (), snapshot.now_s, snapshot.version)
    return with_named(choices.request, plan) if snapshot.has_devices else plan


def _with_amounts(request: PlanRequest) -> PlanRequest:
    """The request in which GPUs are amounts."""
    snapshot = request.snapshot
    if not snapshot.has_devices:
        return request
    workers = tuple(replace(worker, devices=False) for worker in snapshot.workers)
    running = tuple(replace(run, devices=()) for run in snapshot.running)
    return replace(request, snapshot=snapshot.evolved(workers=workers, running=running))


def _of_mode(task: Task, reason: str) -> str:
    return f"in its mode {task.modes[0].id}, {reason}" if task.modes else reason


def _without_budgets(task: Task, budgets: Mapping[str, int]) -> Task:
    if budgets.keys().isdisjoint(task.demand):
        return task
    return replace(task, demand={r: a for r, a in task.demand.items() if r not in budgets})


def _plain(request: PlanRequest, pending: tuple[Task, ...], **changes: Any) -> PlanRequest:
    """The request with other pending tasks, and what runs in the way in which it does."""
    snapshot = request.snapshot
    running = tuple(
        Running(_without_budgets(r.done, snapshot.budgets), r.workers, r.start_s, "", r.devices)
        for r in snapshot.running
    )
    estimates = {
        r.task.id: estimates_of(request.estimates, r.task.id, r.mode) for r in snapshot.running
    }
    estimates.update(changes.pop("estimates"))
    found: Snapshot = snapshot.evolved(pending=pending, running=running, budgets={})
    return replace(request, snapshot=found, estimates=estimates, **changes)


def _every_way(request: PlanRequest) -> tuple[PlanRequest, dict[str, list[tuple[str, str]]]]:
    """A request with a task for each way; for each task the ids there and the modes."""
    snapshot = request.snapshot
    incumbent = {} if request.incumbent is None else request.incumbent.by_task
    pending, estimates, before = [], {}, []
    ways_of: dict[str, list[tuple[str, str]]] = {}
    for task in snapshot.pending:
        ways_of[task.id] = []
        # What waits itself holds back no way: the order of tasks is the base's business.
        after = tuple(name for name in task.after if name not in snapshot.pending_by_id)
        depends = tuple(on for on in task.depends if on.task not in snapshot.pending_by_id)
        for mode in [m.id for m in task.modes] or [""]:
            key = f"{task.id}\0{mode}"
            way = _without_budgets(task.in_mode(mode), snapshot.budgets)
            pending.append(replace(way, id=key, after=after, depends=depends))
            estimates[key] = estimates_of(request.estimates, task.id, mode)
            ways_of[task.id].append((key, mode))
            known = incumbent.get(task.id)
            if known is not None:
                # In another mode it is on no worker of the plan in force.
                workers = known.workers if known.mode == mode else ()
                before.append(replace(known, task=key, workers=workers))
    found = _plain(
        request, tuple(pending), estimates=estimates,
        incumbent=None if request.incumbent is None else Plan(tuple(before)),
    )  # fmt: skip
    return found, ways_of


def in_one_way(request: PlanRequest, mode_of: Mapping[str, str]) -> PlanRequest:
    """The plain request in which each pending task is done in one mode.

    Parameters
    ----------
    request : PlanRequest
    mode_of : mapping of str to str
        Task to mode; "" for one without modes.
    """
    snapshot = request.snapshot
    pending = tuple(
        _without_budgets(task.in_mode(mode_of[task.id]), snapshot.budgets)
        for task in snapshot.pending
    )
    estimates = {t: estimates_of(request.estimates, t, mode) for t, mode in mode_of.items()}
    return _plain(request, pending, estimates=estimates)


def _rows(problem: Problem, rows: Ints) -> Problem:
    """The problem of some of its tasks, which no precedence ties."""
    by_task = (
        *BY_ROW, "release", "raw_release", "deadline", "last_start", "weight", "owner", "takes",
    )  # fmt: skip
    shards = problem.shards[rows]
    pieces = [np.arange(problem.shard_ptr[k], problem.shard_ptr[k + 1]) for k in rows]
    return replace(
        problem,
        tasks=tuple(problem.tasks[k] for k in rows),
        **{name: getattr(problem, name)[rows] for name in by_task},
        shard_ptr=offsets(shards),
        was_on=problem.was_on[np.concatenate(pieces)] if pieces else problem.was_on[:0],
        pred_ptr=np.zeros(len(rows) + 1, np.int64),
        pred=np.zeros(0, np.int64),
        link_ptr=np.zeros(len(rows) + 1, np.int64),
        link=np.zeros((0, 3), np.int64),
        memory={},
    )


def _fastest(request: PlanRequest, tasks: tuple[Task, ...]) -> Ints:
    """What the stretch of each task divides by: of one with modes the fastest's, else 0."""
    snapshot = request.snapshot
    kinds: dict[tuple[Any, ...], Worker] = {}
    for worker in snapshot.workers:
        sizes = tuple(sorted(worker.capacity.items()))
        kinds.setdefault((worker.machine_class, worker.labels, sizes), worker)
    running = {run.task.id: run.task for run in snapshot.running}
    result = np.zeros(len(tasks), np.int64)
    for i, one in enumerate(tasks):
        task = snapshot.pending_by_id.get(one.id) or running[one.id]
        found = []
        for mode in task.modes:
            way = _without_budgets(task.in_mode(mode.id), snapshot.budgets)
            for worker in kinds.values():
                fits = all(a <= worker.capacity.get(r, 0) for r, a in way.demand.items())
                if fits and worker.satisfies(way.requires):
                    found.append(reserved_s(request, task.id, [worker], mode.id))
        result[i] = min((seconds for seconds in found if seconds is not None), default=0)
    return result


def _running_stretch(request: PlanRequest, base: Problem) -> float:
    """What running tasks in slow modes add to the price of the stretch; see ``Choices.fixed``."""
    price = base.rates.slowdown
    runs = [run for run in request.snapshot.running if run.task.modes]
    if not price or not runs:
        return 0.0
    more = 0.0
    for run, least in zip(runs, _fastest(request, tuple(r.task for r in runs)), strict=True):
        if least:
            end_s = expected_end_s(request, run)
            took_s = max(end_s - run.start_s, MIN_STRETCH_S)
            inverse = 1 / max(int(least), MIN_STRETCH_S) - 1 / took_s
            more += run.task.weight * (end_s - run.task.release_s) * inverse
    return price * more


def _bounded(ways: Problem, fastest: Ints) -> Problem:
    """The ways with their last end under a bound on the stretch, which divides by the fastest."""
    if not ways.max_stretch or not fastest.any():
        return ways
    room = ways.max_stretch * np.maximum(fastest, MIN_STRETCH_S) * (1 + 1e-12) + 1e-9
    latest = ways.raw_release + np.floor(np.minimum(room, 8.0 * FAR)).astype(np.int64)
    hard_end = np.where(fastest > 0, np.minimum(ways.hard_end, latest), ways.hard_end)
    return replace(ways, hard_end=hard_end)
