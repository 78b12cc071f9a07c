"""The cluster at one moment, and whether its parts fit one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from plancast.planner.model.domain.tasks import DependencyKind, Finished, Running, Task, find_cycle
from plancast.planner.model.domain.units import (
    DEVICE,
    GPU,
    BadRequest,
    check_amounts,
    check_times,
    in_words,
    require,
    require_unique,
)
from plancast.planner.model.domain.workers import CountedResource, Worker


@dataclass(frozen=True)
class Snapshot:
    """The cluster as the master knows it at `now_s`; a value, changed only by ``events.apply``.

    `budgets` are amounts that are consumed for good (licence hours that are paid for, money):
    running and planned tasks together take no more of each than there is. Of what is `counted`
    they hold no more at any moment than there is then, and give it back.
    """

    version: int
    now_s: int
    workers: tuple[Worker, ...]
    pending: tuple[Task, ...] = ()
    running: tuple[Running, ...] = ()
    finished: tuple[Finished, ...] = ()
    budgets: Mapping[str, int] = field(default_factory=dict)
    counted: tuple[CountedResource, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.workers), "the cluster has no workers; list at least one under 'workers'")
        check_times("the snapshot", now_s=self.now_s)
        check_amounts("the snapshot", "the budget", self.budgets)
        for name in self.budgets:
            owner = next((w.id for w in self.workers if name in w.capacity), None)
            require(
                owner is None,
                f"budgets names {name!r}, which worker {owner} has as a resource; rename one",
            )
        require_unique("worker", [w.id for w in self.workers])
        task_ids = (
            [t.id for t in self.pending]
            + [r.task.id for r in self.running]
            + [f.id for f in self.finished]
        )
        require_unique("task", task_ids)
        known_workers = set(self.worker_by_id)
        for run in self.running:
            for worker in run.workers:
                require(
                    worker in known_workers,
                    f"running task {run.task.id}: its worker {worker!r} is not in the cluster",
                )
            require(
                run.start_s <= self.now_s,
                f"running task {run.task.id}: start_s {run.start_s} lies after now_s {self.now_s}",
            )
        self._check_finished()
        self._check_predecessors(set(task_ids))
        require_unique("counted resource", [c.id for c in self.counted])
        for name in self.counted_by_id.keys() & self.budgets.keys():
            require(False, f"{name} is a budget and a counted resource; rename one")
        if self.counted:
            for one in self.workers:
                self.check_capacity(one)
        for task in (*self.pending, *(r.task for r in self.running)):
            if task.counted:
                self.check_counted(task)
        self.check_devices((*self.pending, *(r.task for r in self.running)))
        for run in self.running:
            if run.devices:
                self.check_held(run)

    @cached_property
    def has_devices(self) -> bool:
        """Whether a worker's GPUs are devices."""
        return any(worker.devices for worker in self.workers)

    def check_devices(self, tasks: Iterable[Task]) -> None:
        """Refuse tasks that no devices can be given to, where GPUs are devices (``BadRequest``)."""
        for task in tasks if self.has_devices else ():
            for way in task.modes or (task,):
                wanted = way.demand.get(GPU, 0)
                require(
                    wanted < DEVICE or wanted % DEVICE == 0,
                    f"task {task.id}: asks for {in_words(GPU, wanted)}, and the cluster's GPUs are "
                    "devices; ask for a whole number of them, or for less than 1 as a share of one",
                )

    def check_held(self, run: Running) -> None:
        """Refuse a running task whose devices cannot be those it takes (``BadRequest``)."""
        wanted = run.done.demand.get(GPU, 0)
        for name, held in zip(run.workers, run.devices, strict=True):
            have = self.worker_by_id[name].device_count
            takes = -(-wanted // DEVICE) if have else 0
            require(
                len(set(held)) == len(held) == takes and all(0 <= d < have for d in held),
                f"running task {run.task.id}: holds devices {list(held)} of worker {name}, which "
                f"has {have}; a piece takes {takes}",
            )

    def _check_finished(self) -> None:
        for ended in self.finished:
            require(
                ended.end_s <= self.now_s,
                f"finished task {ended.id}: end_s {ended.end_s} lies after now_s {self.now_s}; "
                "list it under running, or correct the moment",
            )
            require(
                ended.start_s is None or ended.start_s <= ended.end_s,
                f"finished task {ended.id}: end_s {ended.end_s} lies before its start_s "
                f"{ended.start_s}; correct one of them",
            )

    def _check_predecessors(self, known_tasks: set[str]) -> None:
        for task in self.pending:
            for before in task.predecessors:
                require(
                    before in known_tasks,
                    f"task {task.id}: after names {before!r}, which is not in the request",
                )
            if task.depends:
                self.check_known_to_run(task)
        cycle = find_cycle({t.id: t.predecessors for t in self.pending})
        require(not cycle, f"precedence has a cycle: {' -> '.join(cycle)}; remove one 'after'")

    def check_capacity(self, worker: Worker) -> None:
        """Refuse a worker that has what is counted for the whole cluster (``BadRequest``)."""
        for name in worker.capacity:
            require(
                name not in self.counted_by_id,
                f"worker {worker.id}: has {name}, which is counted for the whole cluster; keep one "
                "of the two",
            )

    def check_counted(self, task: Task) -> None:
        """Refuse a task that takes what the cluster does not count (``BadRequest``)."""
        for name in task.counted:
            require(
                name in self.counted_by_id,
                f"task {task.id}: takes {name!r}, which the cluster does not count; list it under "
                "the cluster's resources",
            )

    def check_known_to_run(self, task: Task) -> None:
        """Refuse a task of which nobody knows yet whether it will run: ``afternotok``."""
        for on in task.depends:
            require(
                on.kind is not DependencyKind.AFTERNOTOK or on.task in self.finished_by_id,
                f"task {task.id}: afternotok:{on.task} cannot be planned before {on.task} has "
                "ended: whether the task will run is not known; submit it then",
            )

    def unmet(self, task: Task) -> list[str]:
        """What of its dependencies a task still waits for, or waits for without hope, in words."""
        found = []
        for on in task.dependencies:
            ended = self.finished_by_id.get(on.task)
            if ended is not None:
                if not on.is_met_by(ended.outcome):
                    found.append(f"{on.task}, which ended as {ended.outcome.value}")
                    continue
                since = ended.end_s
                if on.kind is DependencyKind.AFTER and ended.start_s is not None:
                    since = ended.start_s
            elif on.kind is DependencyKind.AFTER and on.task in self.running_by_id:
                since = self.running_by_id[on.task].start_s
            else:
                found.append(on.task)
                continue
            if since + on.lag_s > self.now_s:
                found.append(f"{on.lag_s} s since {on.task}")
        return found

    def evolved(self, **changes: Any) -> Snapshot:
        """A copy with fields replaced by who has made sure that they fit: nothing is checked.

        To check ten thousand tasks anew takes a hundred times as long as one event. An index
        (``running_by_id``) that comes with what it is of is taken over, else made when it is asked
        for.
        """
        copy = object.__new__(Snapshot)
        copy.__dict__.update({**self.__dict__, **changes})
        for name, indices in _INDEX_OF.items():
            if name in changes:
                for index in indices:
                    if index not in changes:
                        copy.__dict__.pop(index, None)
        return copy

    @cached_property
    def has_modes(self) -> bool:
        """Whether a task may be done in several modes, or something is consumed for good."""
        return bool(self.budgets) or any(
            task.modes for task in (*self.pending, *(run.task for run in self.running))
        )

    def refuse_counted(self, who: str) -> None:
        """Refuse counted resources in the name of someone who cannot plan them (``BadRequest``)."""
        for task in self.pending:
            for name in task.counted:
                raise BadRequest(
                    f"task {task.id} takes {name}, which is counted for the whole cluster and "
                    f"which {who} does not know; leave it out of the cluster's resources and limits"
                )

    def refuse_modes(self, who: str) -> None:
        """Refuse modes and budgets in the name of someone who cannot plan them (``BadRequest``)."""
        if self.has_modes:
            every = (*self.pending, *(run.task for run in self.running))
            name = next((task.id for task in every if task.modes), None)
            what = "the snapshot has budgets" if name is None else f"task {name} has modes"
            raise BadRequest(
                f"{what}, which {who} does not know; give each task one way of being done"
            )

    @property
    def shares_devices(self) -> bool:
        """Whether tasks take different parts of devices, or one of which a device is no multiple.

        Else what is free of ``gpu`` tells what fits, whichever devices it is.
        """
        if not self.has_devices:
            return False
        tasks = (*self.pending, *(run.task for run in self.running))
        wanted = {way.demand.get(GPU, 0) for task in tasks for way in task.modes or (task,)}
        parts = {min(amount, DEVICE) for amount in wanted if amount}
        return len(parts) > 1 or any(DEVICE % part for part in parts)

    def refuse_devices(self, who: str) -> None:
        """Refuse shared devices in the name of someone who cannot plan them (``BadRequest``)."""
        if self.shares_devices:
            name = next(worker.id for worker in self.workers if worker.devices)
            raise BadRequest(
                f"worker {name} has GPUs as devices of which tasks take shares, which {who} cannot "
                "tell apart; leave its `devices` out"
            )

    @cached_property
    def worker_by_id(self) -> dict[str, Worker]:
        """Workers by their id."""
        return {w.id: w for w in self.workers}

    @cached_property
    def counted_by_id(self) -> dict[str, CountedResource]:
        """Counted resources by their name."""
        return {c.id: c for c in self.counted}

    @cached_property
    def pending_by_id(self) -> dict[str, Task]:
        """Pending tasks by their id."""
        return {t.id: t for t in self.pending}

    @cached_property
    def running_by_id(self) -> dict[str, Running]:
        """Running tasks by their task's id."""
        return {r.task.id: r for r in self.running}

    @cached_property
    def finished_by_id(self) -> dict[str, Finished]:
        """Finished tasks by their id."""
        return {f.id: f for f in self.finished}


_INDEX_OF = {
    "workers": ("worker_by_id", "has_devices"),
    "budgets": ("has_modes",),
    "pending": ("pending_by_id", "has_modes"),
    "running": ("running_by_id", "has_modes"),
    "finished": ("finished_by_id",),
    "counted": ("counted_by_id",),
}
"""Field of a snapshot to what is cached of it."""
