"""Which tasks no plan can place, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any

import numpy as np

from plancast.planner.arrays.device_use import DeviceUse, device_start, most_pieces
from plancast.planner.arrays.problem import Bools, Ints, Profile
from plancast.planner.arrays.relations import shape_of
from plancast.planner.arrays.schedule import FAR, build_profile, earliest_start, latest_start
from plancast.planner.model.domain import (
    DependencyKind,
    Finished,
    Outcome,
    Snapshot,
    Task,
    estimate_for,
    in_words,
)
from plancast.planner.model.labels import alternatives
from plancast.planner.model.messages import PlanRequest


@dataclass(frozen=True, eq=False)
class Room:
    """What the tasks of a request find beside what runs, each for itself.

    Parameters
    ----------
    request : PlanRequest
    tasks, machines, busy, held : dict of str to arrays
        Of all pending tasks, the workers, what runs, and what is counted, as ``encode`` has them.
    kind_of, allowed : as ``kind`` and ``allowed`` of ``Problem``
    choices : mapping of int to range
        Task to its alternatives among the kinds (``relations.with_choices``).
    devices : DeviceUse, optional
    """

    request: PlanRequest
    tasks: dict[str, Any]
    machines: dict[str, Any]
    busy: dict[str, Any]
    held: dict[str, Any]
    kind_of: Ints
    allowed: Bools
    choices: Mapping[int, range]
    devices: DeviceUse | None

    @cached_property
    def head(self) -> Ints:
        """Before when no task can start for its release and its predecessors. Shape (tasks,)."""
        pending = self.request.snapshot.pending
        head: Ints = self.tasks["release"].copy()
        of = {task.id: i for i, task in enumerate(pending)}
        before = {t.id: of.keys() & set(t.predecessors) for t in pending if t.predecessors}
        for task_id in TopologicalSorter(before).static_order():
            for on in pending[of[task_id]].dependencies:
                if (i := of.get(on.task)) is not None:
                    lasts_s = 0 if on.kind is DependencyKind.AFTER else self._shortest_s(i)
                    head[of[task_id]] = max(head[of[task_id]], head[i] + lasts_s + on.lag_s)
        return head

    def _shortest_s(self, i: int) -> int:
        durations = self.tasks["duration"][i, self.machines["worker_class"]]
        return int(durations[self.allowed[self.kind_of[i]] & (durations > 0)].min(initial=FAR))

    @cached_property
    def profile(self) -> Profile:
        """What is free before anything is planned."""
        machines, busy = self.machines, self.busy
        return build_profile(
            machines["capacity"], busy["busy_worker"], busy["busy_end"], busy["busy_demand"],
            machines["shut_worker"], machines["shut_start"], machines["shut_end"],
        )  # fmt: skip

    @cached_property
    def never_drains(self) -> Bools:
        """Which workers stay. Shape (workers,)."""
        stays: Bools = self.machines["until"] >= FAR
        return stays

    @cached_property
    def has_enough_counted(self) -> Bools:
        """Which tasks take no more than stays of what is counted. Shape (tasks,)."""
        held = self.held
        enough: Bools = (held["takes"] <= held["spare"][1][0, -1]).all(axis=1)
        return enough

    def placed_some_time(self) -> Bools:
        """Which tasks of one piece surely find a place once everything else has ended."""
        duration = self.tasks["duration"]
        lasting = self.allowed & self.never_drains
        open_to = np.zeros((len(lasting), duration.shape[1]), np.bool_)
        for c in range(duration.shape[1]):
            open_to[:, c] = lasting[:, self.machines["worker_class"] == c].any(axis=1)
        placeable: Bools = ((duration > 0) & open_to[self.kind_of]).any(axis=1)
        return placeable & self.has_enough_counted

    def most_together(self, i: int, task: Task, may: Bools, enough: int | None = None) -> int:
        """How many pieces of a task the empty workers hold side by side; stops at `enough`."""
        workers, choices = self.request.snapshot.workers, self.choices.get(i)
        able = int(may.sum())
        anyhow = not choices and task.most_workers is None
        if task.shards == 1 or (anyhow and enough is not None and able >= enough):
            return able
        here, on = shape_of(task)
        most = 0
        for row in choices or [None]:
            pieces = []
            for w in np.flatnonzero(may if row is None else may & self.allowed[row]):
                fits = [workers[int(w)].capacity[r] // a for r, a in task.demand.items() if a > 0]
                if workers[int(w)].devices:
                    fits.append(most_pieces(task, workers[int(w)].device_count))
                pieces.append(min(here, min(fits, default=task.shards)))
            most = max(most, sum(sorted(pieces, reverse=True)[:on]))
        return most

    def first_start(self, i: int, w: int, not_before: int, duration: int) -> int:
        """The first start of a piece of a task on a worker with nothing planned; FAR: none."""
        times, free, count = self.profile
        demand, held = self.tasks["demand"][i], self.held
        start, before = not_before, -1
        while before < start < FAR:
            before = start
            start = earliest_start(times[w], free[w], count[w], demand, start, duration)
            if len(held["counted"]) and start < FAR:
                there = (column[0] for column in held["spare"])
                start = earliest_start(*there, held["takes"][i], start, duration)
            if self.devices is not None and start < FAR:
                start = device_start(self.devices, i, w, start)
        return int(start)

    def fault_of(self, i: int, task: Task) -> tuple[bool, str] | None:
        """Why no plan can place a task: whether only a hard bound is why, and the reason."""
        durations = self.tasks["duration"][i, self.machines["worker_class"]]
        may = self.allowed[self.kind_of[i]] & (durations > 0)
        if (ended := _failed_predecessor(self.request.snapshot, task)) is not None:
            return False, f"its predecessor {ended.id} ended as {ended.outcome.value}"
        if not may.any():
            return False, _why_no_worker(self.request, task)
        if (short := _short_of(i, self.held)) is not None:
            return False, short
        if (most := self.most_together(i, task, may)) < task.shards:
            return False, _why_not_together(task, most)
        if not self.request.policy.has_hard_bounds and self.has_enough_counted[i]:
            lasting = self.most_together(i, task, may & self.never_drains, task.shards)
            if lasting >= task.shards:
                return None  # some time, everything else has ended
        return _why_no_time(self, i, task, durations, may)


def unplaceable(room: Room, left_out: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Tasks proven unplaceable, and tasks proven impossible only by their hard bounds.

    Parameters
    ----------
    room : Room
    left_out : mapping of str to str
        Tasks that are left out in any case, each with the reason.
    """
    snapshot = room.request.snapshot
    unplanned: dict[str, str] = {}
    infeasible: dict[str, str] = {}
    failed = {f.id: f.outcome for f in snapshot.finished if f.outcome is not Outcome.COMPLETED}
    at_ease, has_bounds = room.placed_some_time(), room.request.policy.has_hard_bounds
    for i, task in enumerate(snapshot.pending):
        may_start = not task.depends and failed.keys().isdisjoint(task.after)
        if may_start and at_ease[i] and task.shards == 1 and not has_bounds:
            continue
        if (fault := room.fault_of(i, task)) is not None:
            hard, reason = fault
            (infeasible if hard else unplanned)[task.id] = reason
    drop_successors(snapshot.pending, unplanned)
    if left_out:
        unplanned = {**left_out, **unplanned}
        drop_successors(snapshot.pending, unplanned)
    return unplanned, {t: why for t, why in infeasible.items() if t not in unplanned}


def _short_of(i: int, held: dict[str, Any]) -> str | None:
    """What a task takes of a counted resource that is never there."""
    most = held["spare"][1][0].max(axis=0, initial=0)
    for name, takes, there in zip(held["counted"], held["takes"][i], most, strict=True):
        if takes > there:
            return f"it takes {takes} of {name}; the cluster never has more than {there} free"
    return None


def _failed_predecessor(snapshot: Snapshot, task: Task) -> Finished | None:
    """A predecessor that has ended so that a task can never start."""
    for on in task.dependencies:
        ended = snapshot.finished_by_id.get(on.task)
        if ended is not None and not on.is_met_by(ended.outcome):
            return ended
    return None


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
    room: Room, i: int, task: Task, durations: Ints, may: Bools
) -> tuple[bool, str] | None:
    """Why a task finds no time even alone on the cluster; (whether a hard bound is why, text)."""
    held, tasks, policy = room.held, room.tasks, room.request.policy
    release = int(tasks["release"][i])
    head = int(room.head[i]) if room.request.policy.has_hard_bounds else release
    first, lasts_s, is_open = FAR, 0, False
    for w in np.flatnonzero(may):
        d = int(durations[w])
        start = room.first_start(i, int(w), release, d)
        is_open |= start < FAR
        if start < head:
            start = room.first_start(i, int(w), head, d)
        latest = latest_start(
            tasks["hard_end"][i],
            tasks["last_start"][i],
            tasks["raw_release"][i],
            policy.max_stretch or 0.0,
            d,
        )
        if start <= latest and start < FAR:
            # For a gang one piece's place is no proof that there is one for all.
            return None
        if start < first:
            first, lasts_s = start, d
    if not is_open and held["takes"][i].any():
        names = " and ".join(n for n, a in zip(held["counted"], held["takes"][i], strict=True) if a)
        return (
            False,
            f"no worker that could hold it is open for as long as enough of {names} is free",
        )
    if not is_open:
        return False, "every worker that could hold it drains before it could end"
    if first == FAR:
        return None  # it drains before its predecessors have ended, and no bound is why
    behind = f": its predecessors keep it back for {head - release} s" if head > release else ""
    if first + lasts_s > tasks["hard_end"][i]:
        return True, f"it cannot end by its hard deadline at {task.deadline_s}{behind}"
    if first > tasks["last_start"][i]:
        return True, f"it cannot start within the wait bound of {policy.max_wait_s} s{behind}"
    waited_s = -int(tasks["raw_release"][i])
    waits = f"; it was released {waited_s} s ago" if waited_s > 0 else ""
    return True, (
        f"it cannot keep its stretch within the bound of {policy.max_stretch:g}{behind}{waits}"
    )


def drop_successors(tasks: Sequence[Task], unplanned: dict[str, str]) -> None:
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
