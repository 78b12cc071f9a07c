"""A plan as a partial order: what each task follows, whatever its time is.

A plan fixes who is served before whom. A task follows its predecessors, and those that hold
what it takes over of its workers: then no worker is ever over capacity, however long the
tasks take, and every execution is a longest path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from plancast.planner.arrays.deliberate_starts import deliberate_starts
from plancast.planner.arrays.problem import Ints, csr
from plancast.planner.arrays.relations import ALONE
from plancast.planner.arrays.running import expected_end_s, reserved_s
from plancast.planner.model.devices import Held, held_devices, takes
from plancast.planner.model.domain import (
    DEVICE,
    Assignment,
    CountedResource,
    DependencyKind,
    Plan,
    Running,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.rollouts import run_through


@dataclass(frozen=True, eq=False)
class PartialOrder:
    """A plan without its times, as arrays; seconds after now.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
    tasks : tuple of Task
        What is placed, by start, then what runs and is not preempted.
    workers : tuple of tuple of str
    placed : int
        How many of the tasks are placed.
    began, ends : int64 (tasks,)
        Start and expected end of what runs; 0 of the others.
    planned, earliest : int64 (tasks,)
        Duration at the policy's level; release, and when all workers are free.
    link_ptr, link : int64
        What each task follows, CSR.
    window_ptr, window_start, window_end : int64
        Closed windows of each task's workers, CSR, by start.
    """

    request: PlanRequest
    plan: Plan
    tasks: tuple[Task, ...]
    workers: tuple[tuple[str, ...], ...]
    placed: int
    began: Ints
    ends: Ints
    planned: Ints
    earliest: Ints
    link_ptr: Ints
    link: Ints
    window_ptr: Ints
    window_start: Ints
    window_end: Ints

    @property
    def order(self) -> Ints:
        """The placed tasks, each after all it follows."""
        return np.arange(self.placed)

    def executed(self, run_s: Ints, end_s: Ints | None = None) -> Plan:
        """The plan with the times of an execution.

        Parameters
        ----------
        run_s : int64 (tasks,)
            True durations of the placed tasks.
        end_s : int64 (tasks,), optional
            True ends of the running tasks, seconds after now; as expected where not given.
            If given, the running tasks are assigned in the plan, too.
        """
        now = self.request.snapshot.now_s
        start, end = self.began.copy(), (self.ends if end_s is None else end_s).copy()
        run_through(
            self.order, run_s, self.planned, self.earliest, self.link_ptr, self.link,
            self.window_ptr, self.window_start, self.window_end, start, end,
        )  # fmt: skip
        shown = self.placed if end_s is None else len(self.tasks)
        assignments = [
            Assignment(
                self.tasks[i].id, self.workers[i], now + int(start[i]), now + int(end[i]),
                devices=self.plan.by_task[self.tasks[i].id].devices if i < self.placed else (),
            )
            for i in range(shown)
        ]  # fmt: skip
        assignments.sort(key=lambda a: (a.start_s, a.end_s, a.task))
        return replace(self.plan, assignments=tuple(assignments))


def partial_order(request: PlanRequest, plan: Plan) -> PartialOrder:
    """A valid plan as a partial order.

    Notes
    -----
    In order of start each task takes what it needs of a worker from those who held it and
    have ended by its planned start: first from tasks it follows anyway, then from the earliest
    ended, so that few links are added and those have slack. With the planned durations no
    task starts later than planned.

    References
    ----------
    Policella, Cesta, Oddi, Smith (2007), "From precedence constraint posting to partial order
    schedules", AI Communications 20(3).
    """
    snapshot = request.snapshot
    now = snapshot.now_s
    task_of = {**snapshot.pending_by_id, **{n: r.task for n, r in snapshot.running_by_id.items()}}
    rows = sorted(plan.assignments, key=lambda a: (a.start_s, a.end_s, a.task))
    kept = [r for r in snapshot.running if r.task.id not in plan.preempted]
    tasks = (*(task_of[a.task] for a in rows), *(r.task for r in kept))
    links = _followed(tasks, len(rows))
    _Chains(request, rows, kept, links).link_all()
    shut = _Licences(request, rows, kept, links).link_all()
    on = [[snapshot.worker_by_id[w] for w in a.workers] for a in rows]
    link_ptr, link = csr([*map(sorted, links), *([] for _ in kept)])
    closed = [[t for w in windows for t in w] for windows in _closed_s(now, on, shut)]
    window_ptr, windows = csr([*closed, *([] for _ in kept)])
    planned = [reserved_s(request, a.task, w) or 1 for a, w in zip(rows, on, strict=True)]
    none, filler = np.zeros(len(rows), np.int64), np.zeros(len(kept), np.int64)
    return PartialOrder(
        request=request,
        plan=plan,
        tasks=tasks,
        workers=(*(a.workers for a in rows), *(r.workers for r in kept)),
        placed=len(rows),
        began=np.concatenate([none, np.array([r.start_s - now for r in kept], np.int64)]),
        ends=np.concatenate(
            [none, np.array([expected_end_s(request, r) - now for r in kept], np.int64)]
        ),
        planned=np.concatenate([np.array(planned, np.int64), filler]),
        earliest=np.concatenate([_earliest(request, plan, rows, tasks, on), filler]),
        link_ptr=link_ptr,
        link=link,
        window_ptr=window_ptr // 2,
        window_start=windows[::2].copy(),
        window_end=windows[1::2].copy(),
    )


def _followed(tasks: Sequence[Task], placed: int) -> list[set[int]]:
    """What each placed task waits for the end of, among all tasks."""
    # Predecessors stand before a task at the same second only if they take no time: none do.
    place = {task.id: i for i, task in enumerate(tasks)}
    return [{place[b] for b in _ends_before(t) if b in place} for t in tasks[:placed]]


def _closed_s(
    now: int, on: list[list[Worker]], shut: list[set[tuple[int, int]]]
) -> list[list[tuple[int, int]]]:
    """When the workers of each task are closed, or units that it takes are not there."""
    return [
        sorted({(b.start_s - now, b.end_s - now) for w in workers for b in w.blocked} | closed)
        for workers, closed in zip(on, shut, strict=True)
    ]


def _earliest(
    request: PlanRequest,
    plan: Plan,
    rows: list[Assignment],
    tasks: Sequence[Task],
    on: list[list[Worker]],
) -> Ints:
    """Before which no placed task may start, seconds after now."""
    now = request.snapshot.now_s
    chosen = deliberate_starts(request, plan)
    free = []
    for row, task, workers in zip(rows, tasks, on, strict=False):
        # A start or a lag that it waits for, or cheaper energy: no earlier than planned.
        waits = any(on.lag_s or on.kind is DependencyKind.AFTER for on in task.depends)
        if waits or row.task in chosen:
            free.append(row.start_s - now)
        else:
            free.append(max(task.release_s, *(w.free_at(now) for w in workers), now) - now)
    return np.array(free, np.int64)


def _ends_before(task: Task) -> list[str]:
    """The tasks whose end a task waits for."""
    return [on.task for on in task.dependencies if on.kind is not DependencyKind.AFTER]


def _device(d: int) -> str:
    """A device of a worker as a resource of its own."""
    return f"(device {d})"


class _Chains:
    """Who holds how much of each resource of each worker, and until when."""

    def __init__(
        self,
        request: PlanRequest,
        rows: list[Assignment],
        kept: list[Running],
        links: list[set[int]],
    ) -> None:
        snapshot = request.snapshot
        self.rows, self.links = rows, links
        self.task_of = {**snapshot.pending_by_id}
        self.task_of |= {n: r.task for n, r in snapshot.running_by_id.items()}
        self.held: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
        self.crowd: dict[tuple[str, str], set[int]] = {}
        """What runs on a worker that is over capacity (logs do that): all must end."""
        self.whole = 0
        """What each worker has of ``ALONE``, of which an exclusive task takes all."""
        if any(task.exclusive for task in self.task_of.values()):
            self.whole = 1 + sum(task.shards for task in self.task_of.values())
        for worker in snapshot.workers:
            each = [(_device(d), DEVICE) for d in range(worker.device_count)]
            for resource, amount in (*worker.capacity.items(), (ALONE, self.whole), *each):
                self.held[worker.id, resource] = [(snapshot.now_s, -1, amount)]
        runs: dict[tuple[str, str], dict[int, int]] = {}
        devices_of = held_devices(snapshot) if snapshot.has_devices else {}
        for i, run in enumerate(kept, start=len(rows)):
            devices = devices_of.get(run.task.id, ())
            for name, resource, amount in self._taken(run.task, run.workers, devices):
                until = expected_end_s(request, run)
                self._take(i, name, resource, amount, snapshot.now_s, until, set())
                runs.setdefault((name, resource), {})[i] = amount
        for key, amounts in runs.items():
            worker = snapshot.worker_by_id[key[0]]
            capacity = {ALONE: self.whole, **worker.capacity}
            capacity |= {_device(d): DEVICE for d in range(worker.device_count)}
            if sum(amounts.values()) > capacity.get(key[1], 0):
                self.crowd[key] = set(amounts)

    def link_all(self) -> None:
        """Link every placed task with whom it takes resources over from."""
        for i, row in enumerate(self.rows):
            taken = self._taken(self.task_of[row.task], row.workers, row.devices)
            for name, resource, amount in taken:
                self._take(i, name, resource, amount, row.start_s, row.end_s, self.links[i])

    def _taken(
        self, task: Task, workers: tuple[str, ...], devices: Held
    ) -> list[tuple[str, str, int]]:
        """What a task takes of its workers, and of each device that it holds."""
        found = []
        for name, pieces in Counter(workers).items():
            alone = self.whole if task.exclusive else pieces * (self.whole > 0)
            found += [(name, r, a * pieces) for r, a in task.demand.items()]
            found.append((name, ALONE, alone))
        held: Counter[tuple[str, int]] = Counter()
        for name, here in zip(workers, devices, strict=False):
            held.update({(name, d): takes(task.demand)[1] for d in here})
        return found + [(name, _device(d), amount) for (name, d), amount in held.items()]

    def _take(
        self,
        i: int,
        name: str,
        resource: str,
        need: int,
        at_s: int,
        until_s: int,
        follows: set[int],
    ) -> None:
        """Hand `need` over to task i from those who have ended by `at_s`."""
        holders = self.held.get((name, resource), [])
        if need == 0:
            return
        follows |= self.crowd.get((name, resource), set())
        _hand_over(holders, i, need, at_s, until_s, follows)
        self.held[name, resource] = holders


class _Licences:
    """Who holds how many units of each counted resource, and until when.

    Where the amount varies, the units are in layers: one is there while the amount reaches its
    top. What is placed takes the highest layers that are there all the while, so that the lower
    ones are left to what runs longer; what runs already has the lowest.
    """

    def __init__(
        self,
        request: PlanRequest,
        rows: list[Assignment],
        kept: list[Running],
        links: list[set[int]],
    ) -> None:
        snapshot = request.snapshot
        self.now, self.rows, self.links = snapshot.now_s, rows, links
        self.task_of = {**snapshot.pending_by_id}
        self.task_of |= {n: r.task for n, r in snapshot.running_by_id.items()}
        self.shut: dict[str, list[list[tuple[int, int | None]]]] = {}
        """By resource and layer, from low to high: when it is not there; None: always."""
        self.held: dict[str, list[list[tuple[int, int, int]]]] = {}
        self.crowd: dict[str, set[int]] = {}
        for resource in snapshot.counted:
            tops = sorted({resource.amount, *(w.amount for w in resource.windows)} - {0})
            self.shut[resource.id] = [_when_below(resource, top, self.now) for top in tops]
            self.held[resource.id] = [
                [(self.now, -1, top - below)] for below, top in pairwise([0, *tops])
            ]
        for i, run in enumerate(kept, start=len(rows)):
            until = expected_end_s(request, run)
            for name, amount in run.task.counted.items():
                for layer in self.held[name]:
                    amount -= _hand_over(layer, i, amount, self.now, until, set())
                if amount:  # they hold more than there is: all must end
                    self.crowd[name] = {
                        k
                        for k, other in enumerate(kept, start=len(rows))
                        if other.task.counted.get(name, 0)
                    }

    def link_all(self) -> list[set[tuple[int, int]]]:
        """Link every placed task with whom it takes units over from.

        Returns
        -------
        list of set of (int, int)
            When its units are not there, for each placed task; seconds after now.
        """
        closed: list[set[tuple[int, int]]] = [set() for _ in self.rows]
        for i, row in enumerate(self.rows):
            for name, amount in self.task_of[row.task].counted.items():
                self.links[i] |= self.crowd.get(name, set()) if amount else set()
                for layer, shut in reversed([*zip(self.held[name], self.shut[name], strict=True)]):
                    if any(
                        low < row.end_s and (high is None or row.start_s < high)
                        for low, high in shut
                    ):
                        continue
                    part = _hand_over(layer, i, amount, row.start_s, row.end_s, self.links[i])
                    amount -= part
                    if part:
                        closed[i] |= {
                            (low - self.now, high - self.now)
                            for low, high in shut
                            if high is not None
                        }
        return closed


def _when_below(resource: CountedResource, top: int, now_s: int) -> list[tuple[int, int | None]]:
    """When, from now on, there is less than `top` of a counted resource."""
    moments = sorted({t for w in resource.windows for t in (w.start_s, w.end_s) if t > now_s})
    steps: list[tuple[int, int | None]] = [*pairwise([now_s, *moments])]
    steps.append((moments[-1] if moments else now_s, None))
    return [(low, high) for low, high in steps if resource.at(low) < top]


def _hand_over(
    holders: list[tuple[int, int, int]], i: int, need: int, at_s: int, until_s: int,
    follows: set[int],
) -> int:  # fmt: skip
    """Hand up to `need` over to task i from those who have ended by `at_s`; how much it is."""
    free = sorted((h for h in holders if h[0] <= at_s), key=lambda h: (h[1] not in follows, *h))
    left = [h for h in holders if h[0] > at_s]
    taken = 0
    for end_s, holder, amount in free:
        part = min(amount, need - taken)
        taken += part
        if part and holder >= 0:
            follows.add(holder)
        if amount > part:
            left.append((end_s, holder, amount - part))
    if taken:
        left.append((until_s, i, taken))
    holders[:] = left
    return taken
