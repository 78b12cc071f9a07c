"""Execution of a plan under the truth: it owns the true run times and shows none early."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.problem import Bools, Ints, Profile, amounts, csr
from plancast.planner.arrays.relations import refuse_relations
from plancast.planner.arrays.running import expected_end_s, reserved_s
from plancast.planner.arrays.schedule import FAR, build_profile, lay_out, occupy, with_room
from plancast.planner.arrays.worker_table import worker_arrays
from plancast.planner.model.devices import Held, held_devices, takes
from plancast.planner.model.domain import (
    DEVICE,
    GPU,
    Assignment,
    BadRequest,
    Plan,
    Running,
    Snapshot,
    Task,
)
from plancast.planner.model.messages import PlanRequest


def execute(request: PlanRequest, plan: Plan, run_s: Mapping[str, int]) -> Plan:
    """What really happens when a plan is carried out work-conserving, in plan order.

    Parameters
    ----------
    request : PlanRequest
        What the plan was made for; its estimates are all that the executor knows of a run
        time before the task has ended.
    plan : Plan
        Valid for the request. Only its workers, its devices and its order count: a plan is a
        priority and a reservation, not a timetable.
    run_s : mapping of str to int
        True run time of every planned task, whole seconds, at least 1. Running tasks that
        are not named end as estimated.

    Returns
    -------
    Plan
        True starts and ends, of running tasks too, to be judged by
        ``evaluate(..., realised=True)``. A task that could not start any more (its worker
        drained away under overruns) is missing from it.

    Notes
    -----
    At every release, end or change of a worker's availability the waiting tasks take
    reservations anew on their planned workers, in the order of their planned starts, by
    the estimates and by what the running tasks are still expected to need; each whose
    reservation begins now starts. So freed time is used at once, and no task starts that
    would delay one planned before it (conservative backfilling in plan order). Starting
    whatever fits, without reservations, lets small tasks overtake wide ones forever: with
    perfect estimates it made batches of KTH-SP2 two thirds costlier than planned.

    References
    ----------
    Mu'alem, Feitelson (2001), "Utilization, predictability, workloads, and user runtime
    estimates in scheduling the IBM SP2 with backfilling", doi:10.1109/71.932708.
    """
    request.snapshot.refuse_modes("an execution in plan order")
    refuse_relations(request.snapshot, "an execution in plan order")
    execution = _Execution(request, plan, run_s)
    while execution.step():
        pass
    return execution.outcome()


@dataclass(frozen=True, slots=True)
class _Started:
    """Something that runs: what the executor knows of it, and its true end."""

    run: Running
    place: int
    end_s: int


WHOLE = -1
"""Stands for a worker among its devices."""


def _named(snapshot: Snapshot, task: Task, assignment: Assignment) -> Held:
    """The devices that a plan gives a task; refused where it takes some and has none."""
    if task.demand.get(GPU, 0) and not assignment.devices:
        for name in assignment.workers:
            if snapshot.worker_by_id[name].devices:
                raise BadRequest(
                    f"task {task.id}: the plan names none of the devices of worker {name}; "
                    "execute a plan that does"
                )
    return assignment.devices


class _Execution:
    """The cluster while a plan is carried out; tasks are numbered in plan order."""

    def __init__(self, request: PlanRequest, plan: Plan, run_s: Mapping[str, int]) -> None:
        snapshot = request.snapshot
        self.request, self.plan, self.run_s = request, plan, run_s
        task_of = dict(snapshot.pending_by_id)
        task_of |= {name: run.task for name, run in snapshot.running_by_id.items()}
        planned = sorted(plan.assignments, key=lambda a: (a.start_s, a.end_s, a.task))
        held = [run for run in snapshot.running if run.task.id not in plan.preempted]
        self.tasks: list[Task] = [task_of[a.task] for a in planned] + [r.task for r in held]
        self.workers = [a.workers for a in planned] + [r.workers for r in held]
        self.done: list[Assignment] = []
        self.running: list[_Started] = []
        self.waiting = np.arange(len(planned))
        self.devices = self._devices(planned, held)
        self._build_arrays(planned)

        now, self.clock = snapshot.now_s, self._moments()
        for place, run in enumerate(held, start=len(planned)):
            true_s = run_s.get(run.task.id)
            end_s = expected_end_s(request, run) if true_s is None else run.start_s + true_s
            self._start(place, run.start_s, max(now, end_s))

    def _moments(self) -> list[int]:
        """When something changes that is known of before, from now on."""
        snapshot = self.request.snapshot
        moments = [snapshot.now_s] + [self.tasks[i].release_s for i in self.waiting]
        for worker in snapshot.workers:
            moments.append(worker.free_at(snapshot.now_s))
            moments += [window.end_s for window in worker.blocked]
        for resource in snapshot.counted:
            moments += [t for w in resource.windows for t in (w.start_s, w.end_s)]
        return sorted({m for m in moments if m >= snapshot.now_s})

    def _devices(self, planned: list[Assignment], held: list[Running]) -> list[Held]:
        """The devices of each task, where any other would not do as well."""
        snapshot = self.request.snapshot
        if not snapshot.shares_devices:
            return [() for _ in self.tasks]
        known = held_devices(snapshot)
        named = [_named(snapshot, t, a) for t, a in zip(self.tasks, planned, strict=False)]
        return named + [known.get(run.task.id, ()) for run in held]

    def _build_arrays(self, planned: list[Assignment]) -> None:
        snapshot = self.request.snapshot
        holders = (*(w.capacity for w in snapshot.workers), *(task.demand for task in self.tasks))
        resources = tuple(sorted({name for each in holders for name in each}))
        self.machines = worker_arrays(snapshot.workers, resources, snapshot.now_s)
        self.demand = amounts([task.demand for task in self.tasks], resources)
        row_of = self._add_devices()
        self._add_counted()
        self.release = np.array([t.release_s - snapshot.now_s for t in self.tasks], np.int64)
        pieces = [self._pieces(k, row_of) for k in range(len(self.tasks))]
        self.piece_ptr, self.piece_worker = csr([[w for w, _ in p] for p in pieces])
        self.piece_count = np.array([n for p in pieces for _, n in p], np.int64)
        place = {task.id: i for i, task in enumerate(self.tasks)}
        self.pred_ptr, self.pred = csr(
            [[place[b] for b in task.predecessors if b in place] for task in self.tasks]
        )
        self.duration = np.ones(len(self.tasks), np.int64)
        self.duration[: len(planned)] = [self._reserved_s(assignment) for assignment in planned]
        self.end = np.zeros(len(self.tasks), np.int64)

    def _reserved_s(self, assignment: Assignment) -> int:
        on = [self.request.snapshot.worker_by_id[w] for w in assignment.workers]
        return reserved_s(self.request, assignment.task, on) or 1

    def _pieces(self, k: int, row_of: Mapping[tuple[str, int], int]) -> list[tuple[int, int]]:
        """Rows that a task takes something of, and how many times as much as a piece takes."""
        pairs = zip(self.workers[k], self.devices[k], strict=False)
        found = sorted(Counter(row_of[w, WHOLE] for w in self.workers[k]).items())
        found += sorted(Counter(row_of[w, d] for w, held in pairs for d in held).items())
        if self.tasks[k].counted:
            found.append((len(self.machines["capacity"]) - 1, 1))
        return found

    def _add_devices(self) -> dict[tuple[str, int], int]:
        """One worker more for each device, which has a device; see ``_add_counted``.

        Returns
        -------
        dict of (str, int) to int
            Row of each worker (``WHOLE``), and of each of its devices unless any does as well as
            another.
        """
        snapshot = self.request.snapshot
        rows = {(w.id, WHOLE): row for row, w in enumerate(snapshot.workers)}
        if not snapshot.shares_devices:
            return rows
        names = [(w.id, d) for w in snapshot.workers for d in range(w.device_count)]
        each = np.array([[takes(task.demand)[1]] for task in self.tasks], np.int64)
        self.demand = np.concatenate([self.demand, each], axis=1)
        have = self.machines["capacity"]
        capacity = np.tile(self._plenty(), (len(have) + len(names), 1))
        capacity[: len(have), :-1] = have
        capacity[len(have) :, -1] = DEVICE
        self.machines["capacity"] = capacity
        return rows | {name: row for row, name in enumerate(names, start=len(have))}

    def _plenty(self) -> Ints:
        """As much of everything as all tasks can take together."""
        pieces = np.array([len(names) for names in self.workers], np.int64)
        total: Ints = (self.demand * pieces[:, None]).sum(axis=0)
        return total

    def _add_counted(self) -> None:
        """One worker more, which has what is counted; of everything else as much as all can take.

        The workers have as much of what is counted as all can take.
        """
        counted = self.request.snapshot.counted
        amounts_taken = amounts([t.counted for t in self.tasks], tuple(c.id for c in counted))
        self.demand = np.concatenate([self.demand, amounts_taken], axis=1)
        if not counted:
            return
        plenty = self._plenty()
        own, workers = len(self.machines["capacity"][0]), len(self.machines["capacity"])
        capacity = np.tile(plenty, (workers + 1, 1))
        capacity[:workers, :own] = self.machines["capacity"]
        most = [max([c.amount, *(w.amount for w in c.windows)]) for c in counted]
        capacity[workers, own:] = most
        self.machines["capacity"] = capacity
        self.most = np.array(most, np.int64)

    def _windowed(self, profile: Profile) -> Profile:
        """The profile of the workers, with less of what is counted where there is less."""
        counted, now = self.request.snapshot.counted, self.request.snapshot.now_s
        moments = sorted({now, *(t for c in counted for w in c.windows
                                 for t in (w.start_s, w.end_s) if t > now)})  # fmt: skip
        times, free, count = profile
        last = len(self.machines["capacity"]) - 1
        less = np.zeros(self.demand.shape[1], np.int64)
        for at_s, until_s in zip(moments, [*moments[1:], None], strict=True):
            less[-len(counted) :] = self.most - [c.at(at_s) for c in counted]
            if less.any():
                times, free = with_room(times, free, count, last)
                end = FAR if until_s is None else until_s - now
                occupy(times, free, count, last, at_s - now, end, less)
        free[last] = np.maximum(free[last], 0)  # what runs may hold more than there is
        return times, free, count

    def step(self) -> bool:
        """Go to the next moment at which something changes; False at the end."""
        if not self.clock:
            return False
        now_s = heapq.heappop(self.clock)
        while self.clock and self.clock[0] == now_s:
            heapq.heappop(self.clock)
        now = now_s - self.request.snapshot.now_s
        still = []
        for started in self.running:
            if started.end_s <= now_s:
                self.end[started.place] = now
            else:
                still.append(started)
        self.running = still
        starts_now = self._reservations(now_s, now)
        for place in self.waiting[starts_now]:
            self._start(int(place), now_s, now_s + self.run_s[self.tasks[place].id])
        self.waiting = self.waiting[~starts_now]
        return True

    def outcome(self) -> Plan:
        """What ran, in order of start."""
        done = sorted(self.done, key=lambda a: (a.start_s, a.end_s, a.task))
        plan = self.plan
        return Plan(tuple(done), plan.preempted, plan.made_at_s, plan.snapshot_version)

    def _start(self, place: int, start_s: int, end_s: int) -> None:
        task, workers = self.tasks[place], self.workers[place]
        devices = self.devices[place]
        self.done.append(Assignment(task.id, workers, start_s, end_s, devices=devices))
        self.running.append(_Started(Running(task, workers, start_s), place, end_s))
        heapq.heappush(self.clock, end_s)

    def _reservations(self, now_s: int, now: int) -> Bools:
        """Which waiting tasks have a reservation that begins now."""
        busy_worker, busy_end, busy_demand = [], [], []
        for started in self.running:
            expected = expected_end_s(self.request, started.run, at_s=now_s)
            self.end[started.place] = expected - self.request.snapshot.now_s
            i = started.place
            for p in range(self.piece_ptr[i], self.piece_ptr[i + 1]):
                busy_worker.append(self.piece_worker[p])
                busy_end.append(self.end[i])
                busy_demand.append(self.demand[i] * self.piece_count[p])
        machines = self.machines
        profile = build_profile(
            machines["capacity"], np.array(busy_worker, np.int64), np.array(busy_end, np.int64),
            np.array(busy_demand, np.int64).reshape(len(busy_demand), self.demand.shape[1]),
            machines["shut_worker"], machines["shut_start"], machines["shut_end"],
        )  # fmt: skip
        if self.request.snapshot.counted:
            profile = self._windowed(profile)
        starts: Bools = lay_out(
            self.waiting, now, *profile, self.demand, self.duration, self.release,
            self.piece_ptr, self.piece_worker, self.piece_count, self.pred_ptr, self.pred,
            self.end,
        )  # fmt: skip
        return starts
