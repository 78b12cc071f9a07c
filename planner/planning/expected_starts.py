"""What each waiting task waits for, and by when it will have started with 10, 50 and 90%."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plancast.planner.arrays.problem import Ints
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.model.counted import Use, units_in_words
from plancast.planner.model.domain import Assignment, DependencyKind, Plan, Running, Task
from plancast.planner.model.evaluate import holds_of
from plancast.planner.model.explain import clock
from plancast.planner.model.messages import PlanRequest
from plancast.planner.model.spans import spans_of
from plancast.planner.planning.partial_order import PartialOrder, partial_order
from plancast.planner.planning.risk import Samples
from plancast.planner.planning.rollouts import run_through

SAMPLES = 40
"""Executions that a quantile is read from."""
EARLY, HALF, SURE = 0.1, 0.5, 0.9
NAMES = {"cpu": ("core", 1000), "gpu": ("gpu", 1000), "mem": ("GiB", 1024)}
"""How amounts are written: the word, and how many of the planner's units are one."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a waiting task's start.

    Parameters
    ----------
    task : str
    start_s : int
        Planned, seconds since the epoch.
    early_s, half_s, sure_s : int
        With 10, 50 and 90% it will have started by then, if the plan is carried out as it stands.
    until : str
        What has to happen: ``T17 ends``.
    text : str
        All of it in words.
    """

    task: str
    start_s: int
    early_s: int
    half_s: int
    sure_s: int
    until: str
    text: str


def outlooks(
    request: PlanRequest, plan: Plan, samples: int = SAMPLES, most: int | None = None
) -> dict[str, Outlook]:
    """The outlook of every task that a plan lets wait, in the order of their starts.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
        Valid for the request.
    samples : int
        Executions of the plan, as a partial order, under run times drawn from the estimates;
        those of running tasks are drawn given how long they have run.
    most : int, optional
        Only of so many tasks, the first to start. Only what these can depend on is looked at.
    """
    now = request.snapshot.now_s
    tasks = {t.id: t for t in request.snapshot.pending}
    tasks |= {name: request.snapshot.running_by_id[name].task for name in plan.preempted}
    rows = sorted(plan.assignments, key=lambda a: (a.start_s, a.end_s, a.task))
    shown = [a for a in rows if a.start_s > max(now, tasks[a.task].release_s)]
    if most is not None and len(shown) > most:
        shown = shown[:most]
        request, plan = _part(request, plan, tasks, rows, shown)
    if not shown:
        return {}
    order = partial_order(request, plan)
    place = {order.tasks[i].id: i for i in range(order.placed)}
    starts = start_samples(order, Samples(request, samples, names=[t.id for t in order.tasks]))
    columns = starts[:, [place[a.task] for a in shown]]
    early, half, sure = (
        np.quantile(columns, level, axis=0, method="higher").astype(np.int64) + now
        for level in (EARLY, HALF, SURE)
    )
    # By when it will have, at 90%, is no earlier than what the plan reserves for.
    sure = np.maximum(sure, [a.start_s for a in shown])
    standing = _Standing(request, plan)
    found = {}
    levels = zip(early.tolist(), half.tolist(), sure.tolist(), strict=True)
    for row, (early_s, half_s, sure_s) in zip(shown, levels, strict=True):
        task, start_s = tasks[row.task], row.start_s
        until = standing.until(row, task)
        text = (
            f"waits for {standing.needs(row, task)}; planned {clock(start_s, now)}"
            f"{f' when {until}' if until else ''}, {HALF:.0%} by {clock(half_s, now)}, "
            f"{SURE:.0%} by {clock(sure_s, now)}"
        )
        found[task.id] = Outlook(task.id, start_s, early_s, half_s, sure_s, until, text)
    return found


def start_levels(
    request: PlanRequest,
    plan: Plan,
    levels: Sequence[float],
    samples: int = SAMPLES,
    names: Collection[str] | None = None,
) -> dict[str, tuple[int, ...]]:
    """By when each task of a plan has started with each of some probabilities, epoch seconds.

    Parameters
    ----------
    request, plan, samples
        As of ``outlooks``.
    levels : sequence of float
        In (0, 1).
    names : collection of str, optional
        Tasks of the plan that are asked for, with those that they depend on; all by default.
    """
    if names is not None:
        tasks = dict(request.snapshot.pending_by_id)
        tasks |= {name: request.snapshot.running_by_id[name].task for name in plan.preempted}
        rows = sorted(plan.assignments, key=lambda a: (a.start_s, a.end_s, a.task))
        shown = [row for row in rows if row.task in names]
        if not shown:
            return {}
        request, plan = _part(request, plan, tasks, rows, shown)
    order = partial_order(request, plan)
    names = [task.id for task in order.tasks]
    starts = start_samples(order, Samples(request, samples, names=names))[:, : order.placed]
    found = np.quantile(starts, levels, axis=0, method="higher").astype(np.int64)
    rows = (found + request.snapshot.now_s).T.tolist()
    return {name: tuple(row) for name, row in zip(names, rows, strict=False)}


def _part(
    request: PlanRequest,
    plan: Plan,
    tasks: Mapping[str, Task],
    rows: Sequence[Assignment],
    shown: Sequence[Assignment],
) -> tuple[PlanRequest, Plan]:
    """The part of a plan that the shown tasks can depend on.

    Notes
    -----
    A task follows its predecessors and those that it takes resources over from, which start
    before it on one of its workers. All rows up to the last shown one of every worker that can
    be reached in this way are kept, in their order, so that they form the same partial order.
    """
    snapshot = request.snapshot
    if snapshot.counted:
        return request, plan  # every worker is reached by who gives a licence back
    upto = rows[: rows.index(shown[-1]) + 1]
    on: dict[str, list[Assignment]] = {}
    for row in upto:
        for name in row.workers:
            on.setdefault(name, []).append(row)
    row_of = {row.task: row for row in upto}
    kept: set[str] = set()
    workers: set[str] = set()
    todo = list(shown)
    while todo:
        row = todo.pop()
        if row.task in kept:
            continue
        kept.add(row.task)
        todo += [row_of[b] for b in tasks[row.task].predecessors if b in row_of]
        for name in set(row.workers) - workers:
            workers.add(name)
            todo += on[name]
    before = {b for name in kept for b in tasks[name].predecessors} | set(plan.preempted)
    # What is closed or taken elsewhere makes no difference to these.
    runs = _those_of(snapshot.running, workers, before)
    on_them = workers.union(*(r.workers for r in runs))
    machines = tuple(w for w in snapshot.workers if w.id in on_them)
    part = request.evolved(snapshot=snapshot.evolved(running=runs, workers=machines))
    return part, replace(plan, assignments=tuple(row for row in upto if row.task in kept))


def _those_of(
    running: Sequence[Running], workers: Collection[str], names: Collection[str]
) -> tuple[Running, ...]:
    """What runs on some workers, and then the others of these names."""
    on = [r for r in running if any(w in workers for w in r.workers)]
    there = {r.task.id for r in on}
    return (*on, *(r for r in running if r.task.id in names and r.task.id not in there))


def start_samples(order: PartialOrder, samples: Samples) -> Ints:
    """Start of every task in every sampled execution, seconds after now. (samples, tasks)."""
    tasks = len(order.tasks)
    runs = np.ones((samples.count, tasks), np.int64)
    ends = np.zeros((samples.count, tasks), np.int64)
    for i, task in enumerate(order.tasks):
        if i < order.placed:
            runs[:, i] = samples.run_s(task.id, order.workers[i])
        else:
            ends[:, i] = samples.end_s(task.id)
    starts = np.zeros((samples.count, tasks), np.int64)
    for k in range(samples.count):
        start, end = order.began.copy(), ends[k].copy()
        run_through(
            order.order, runs[k], order.planned, order.earliest, order.link_ptr, order.link,
            order.window_ptr, order.window_start, order.window_end, start, end,
        )  # fmt: skip
        starts[k] = start
    return starts


def amount(resource: str, units: int) -> str:
    """An amount of a resource in words: ``2 gpus``, ``16 GiB``, ``3 licence``."""
    word, of = NAMES.get(resource, (resource, 1))
    number = f"{units / of:g}"
    many = "" if number == "1" or resource not in ("cpu", "gpu") else "s"
    return f"{number} {word}{many}"


class _Standing:
    """What is free of each worker, and what ends when, looked up once for all tasks."""

    def __init__(self, request: PlanRequest, plan: Plan) -> None:
        self.snapshot = request.snapshot
        self.use = Use(self.snapshot, holds_of(request, plan, spans_of(request, plan)))
        self.ends: dict[str, int] = {a.task: a.end_s for a in plan.assignments}
        self.starts: dict[str, int] = {a.task: a.start_s for a in plan.assignments}
        for ended in request.snapshot.finished:
            self.ends[ended.id] = ended.end_s
            self.starts[ended.id] = ended.end_s if ended.start_s is None else ended.start_s
        self.free: dict[str, dict[str, int]] = {}
        self.ending: dict[tuple[str, int], tuple[int, str]] = {}
        """By worker and moment, the first task in the order of the plan that ends there."""
        on = [(a.task, a.workers) for a in plan.assignments]
        for run in request.snapshot.running:
            if run.task.id in plan.preempted:
                continue
            self.ends[run.task.id] = expected_end_s(request, run)
            self.starts[run.task.id] = run.start_s
            on.append((run.task.id, run.workers))
            for name in run.workers:
                free = self._free(name)
                for resource, taken in run.task.demand.items():
                    free[resource] = free.get(resource, 0) - taken
        for number, (task, workers) in enumerate(on):
            for name in workers:
                self.ending.setdefault((name, self.ends[task]), (number, task))

    def _free(self, name: str) -> dict[str, int]:
        if name not in self.free:
            self.free[name] = dict(self.snapshot.worker_by_id[name].capacity)
        return self.free[name]

    def needs(self, row: Assignment, task: Task) -> str:
        """What a task lacks at present: a predecessor, resources of a kind of worker, its turn."""
        open_ = self.snapshot.unmet(task)
        if open_:
            return f"its predecessor{'s' if len(open_) > 1 else ''} {', '.join(open_)}"
        name = self.use.short(task, self.snapshot.now_s + 1)
        if name is not None:
            return units_in_words(name, task.counted[name])
        where = " and ".join(task.requires).replace("|", " or ")
        kind = f"a {where} worker" if where else f"worker {row.workers[0]}"
        for name, pieces in Counter(row.workers).items():
            free = self._free(name)
            short = [r for r, a in task.demand.items() if a * pieces > free.get(r, 0)]
            if short:
                # What fewest tasks could share is most telling.
                resource = min(short, key=lambda r: (r == "mem", r == "cpu", r))
                return f"{amount(resource, task.demand[resource] * pieces)} on {kind}"
        return f"its turn on {kind}"

    def until(self, row: Assignment, task: Task) -> str:
        """What ends at a task's planned start: a task, a closed window, a reservation."""
        for on in task.dependencies:
            starts = on.kind is DependencyKind.AFTER
            since = self.starts.get(on.task) if starts else self.ends.get(on.task)
            if since is not None and since + on.lag_s == row.start_s:
                lag = f"{on.lag_s} s after " if on.lag_s else ""
                return f"{lag}{on.task} {'starts' if starts else 'ends'}"
        name = self.use.short(task, row.start_s)
        if name is not None and (name, row.start_s) in self.use.ending:
            return f"{self.use.ending[name, row.start_s][0].task.id} ends"
        found = [
            self.ending[name, row.start_s]
            for name in row.workers
            if (name, row.start_s) in self.ending
        ]
        if found:
            return f"{min(found)[1]} ends"
        for name in row.workers:
            worker = self.snapshot.worker_by_id[name]
            if worker.free_from_s == row.start_s:
                return f"worker {name} becomes free"
            if any(window.end_s == row.start_s for window in worker.blocked):
                return f"a closed window of worker {name} has passed"
        return ""
