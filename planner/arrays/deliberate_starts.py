"""Starts that a plan chose: for cheaper energy a task may wait though nothing holds it back."""

from __future__ import annotations

from collections import defaultdict

from plancast.planner.arrays.hours import has_hours
from plancast.planner.arrays.rates import tariffs_of
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.model.domain import Assignment, DependencyKind, Plan, Task
from plancast.planner.model.messages import PlanRequest


def deliberate_starts(request: PlanRequest, plan: Plan) -> dict[str, int]:
    """The starts of a plan that whoever carries it out must not bring forward.

    Parameters
    ----------
    request : PlanRequest
        As the cluster is when the plan is made, or later.
    plan : Plan

    Returns
    -------
    dict of str to int
        Task to planned start, seconds since the epoch. Empty where no hour costs more than
        another.

    Notes
    -----
    A start is deliberate where energy begins to cost less on one of its workers, or where nothing
    comes about at that moment that the task could have waited for: no release, no end on its
    workers or of what it follows or of who holds what is counted, no window.
    """
    if not has_hours(request):
        return {}
    known = _Moments(request, plan)
    return {row.task: row.start_s for row in plan.assignments if known.is_chosen(row)}


class _Moments:
    """When something comes about in a plan that a task may have waited for."""

    def __init__(self, request: PlanRequest, plan: Plan) -> None:
        snapshot = request.snapshot
        self.snapshot, self.made_at_s = snapshot, plan.made_at_s
        self.task_of = {r.task.id: r.task for r in snapshot.running} | snapshot.pending_by_id
        tariffs = tariffs_of(request.policy.prices, snapshot.workers)
        self.tariff_of = dict(zip(snapshot.worker_by_id, tariffs, strict=True))
        self.start_of = {row.task: row.start_s for row in plan.assignments}
        self.end_of = {row.task: row.end_s for row in plan.assignments}
        self.ends_on: dict[str, set[int]] = defaultdict(set)
        self.given_back: dict[str, set[int]] = defaultdict(set)
        for ended in snapshot.finished:
            self.end_of[ended.id] = ended.end_s
            self.start_of[ended.id] = ended.end_s if ended.start_s is None else ended.start_s
        for row in plan.assignments:
            self._note(row.workers, self.task_of.get(row.task), row.end_s)
        for run in snapshot.running:
            if run.task.id not in plan.preempted:
                self.start_of[run.task.id] = run.start_s
                self.end_of[run.task.id] = end_s = expected_end_s(request, run)
                self._note(run.workers, run.task, end_s)
        for resource in snapshot.counted:
            for window in resource.windows:
                self.given_back[resource.id] |= {window.start_s, window.end_s}

    def _note(self, workers: tuple[str, ...], task: Task | None, end_s: int) -> None:
        for name in workers:
            self.ends_on[name].add(end_s)
        for name in {} if task is None else task.counted:
            self.given_back[name].add(end_s)

    def is_chosen(self, row: Assignment) -> bool:
        """Whether nothing made a task start just then."""
        task, at_s = self.task_of.get(row.task), row.start_s
        if task is None or at_s <= max(self.made_at_s, task.release_s):
            return False
        workers = [self.snapshot.worker_by_id[w] for w in row.workers
                   if w in self.snapshot.worker_by_id]  # fmt: skip
        tariffs = [self.tariff_of[worker.id] for worker in workers]
        if any(tariff.at(at_s) < tariff.at(at_s - 1) for tariff in tariffs):
            return True
        for on in task.dependencies:
            since = self.start_of if on.kind is DependencyKind.AFTER else self.end_of
            if since.get(on.task, at_s) + on.lag_s == at_s:
                return False
        return not (
            any(at_s in self.ends_on[worker.id] for worker in workers)
            or any(worker.free_from_s == at_s for worker in workers)
            or any(window.end_s == at_s for worker in workers for window in worker.blocked)
            or any(at_s in self.given_back[name] for name in task.counted)
        )
