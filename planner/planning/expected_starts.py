"""What each waiting task waits for, when it may start, and by when it will have with 90 %."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.problem import Ints
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.model.domain import Plan, Task
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.partial_order import PartialOrder, partial_order
from plancast.planner.planning.risk import Samples
from plancast.planner.planning.rollouts import run_through

SAMPLES = 40
"""Executions that a quantile is read from."""
SURE = 0.9
DAY_S = 86_400
NAMES = {"cpu": ("core", 1000), "gpu": ("gpu", 1000), "mem": ("GiB", 1024)}
"""How amounts are told: the word, and how many of the planner's units are one."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a waiting task's start.

    Parameters
    ----------
    task : str
    start_s : int
        Planned, seconds since the epoch.
    sure_s : int
        With 90 % it will have started by then, if the plan is carried out as it stands.
    until : str
        What has to happen: ``T17 ends``.
    text : str
        All of it in words.
    """

    task: str
    start_s: int
    sure_s: int
    until: str
    text: str


def outlooks(request: PlanRequest, plan: Plan, samples: int = SAMPLES) -> dict[str, Outlook]:
    """The outlook of every task that a plan lets wait.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
        Valid for the request.
    samples : int
        Executions of the plan, as a partial order, under run times drawn from the estimates;
        those of running tasks are drawn given how long they have run.
    """
    if not plan.assignments:
        return {}
    order = partial_order(request, plan)
    starts = start_samples(order, Samples(request, samples))
    now = request.snapshot.now_s
    found = {}
    for place in range(order.placed):
        task = order.tasks[place]
        start_s = plan.by_task[task.id].start_s
        if start_s <= max(now, task.release_s):
            continue
        sure = int(np.quantile(starts[:, place], SURE, method="higher")) + now
        until = _until(request, plan, task)
        text = (
            f"waits for {_needs(request, plan, task)}; earliest {clock(start_s, now)}"
            f"{f' when {until}' if until else ''}, {SURE:.0%} by {clock(max(sure, start_s), now)}"
        )
        found[task.id] = Outlook(task.id, start_s, max(sure, start_s), until, text)
    return found


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


def clock(at_s: int, now_s: int) -> str:
    """A moment as hours and minutes UTC; with the date where it is not within a day of now."""
    form = "%H:%M" if abs(at_s - now_s) < DAY_S else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.gmtime(at_s))


def amount(resource: str, units: int) -> str:
    """An amount of a resource in words: ``2 gpus``, ``16 GiB``, ``3 licence``."""
    word, of = NAMES.get(resource, (resource, 1))
    number = f"{units / of:g}"
    many = "" if number == "1" or resource not in ("cpu", "gpu") else "s"
    return f"{number} {word}{many}"


def _needs(request: PlanRequest, plan: Plan, task: Task) -> str:
    """What the task lacks at present: a predecessor, resources of a kind of worker, its turn."""
    snapshot = request.snapshot
    open_ = [b for b in task.after if b not in snapshot.finished_by_id]
    if open_:
        return f"its predecessor{'s' if len(open_) > 1 else ''} {', '.join(open_)}"
    workers = plan.by_task[task.id].workers
    where = " and ".join(task.requires).replace("|", " or ")
    kind = f"a {where} worker" if where else f"worker {workers[0]}"
    for name, pieces in Counter(workers).items():
        free = _free(request, plan, name)
        short = [r for r, a in task.demand.items() if a * pieces > free.get(r, 0)]
        if short:
            # What fewest tasks could share is most telling.
            resource = min(short, key=lambda r: (r == "mem", r == "cpu", r))
            return f"{amount(resource, task.demand[resource] * pieces)} on {kind}"
    return f"its turn on {kind}"


def _free(request: PlanRequest, plan: Plan, worker: str) -> Mapping[str, int]:
    free = dict(request.snapshot.worker_by_id[worker].capacity)
    for run in request.snapshot.running:
        if run.task.id not in plan.preempted:
            for name in run.workers:
                if name == worker:
                    for resource, taken in run.task.demand.items():
                        free[resource] = free.get(resource, 0) - taken
    return free


def _until(request: PlanRequest, plan: Plan, task: Task) -> str:
    """What ends at the task's planned start: a task, a closed window, a reservation."""
    snapshot, mine = request.snapshot, plan.by_task[task.id]
    ends: dict[str, int] = {a.task: a.end_s for a in plan.assignments}
    on: dict[str, tuple[str, ...]] = {a.task: a.workers for a in plan.assignments}
    for run in snapshot.running:
        if run.task.id not in plan.preempted:
            ends[run.task.id], on[run.task.id] = expected_end_s(request, run), run.workers
    for before in task.after:
        if ends.get(before) == mine.start_s:
            return f"{before} ends"
    for other, end_s in ends.items():
        if end_s == mine.start_s and not set(on[other]).isdisjoint(mine.workers):
            return f"{other} ends"
    for name in mine.workers:
        worker = snapshot.worker_by_id[name]
        if worker.free_from_s == mine.start_s:
            return f"worker {name} becomes free"
        if any(window.end_s == mine.start_s for window in worker.blocked):
            return f"a closed window of worker {name} has passed"
    return ""
