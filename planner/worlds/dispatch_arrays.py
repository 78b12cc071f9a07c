"""A request and the truth as the arrays of the dispatching kernel; and what ran, as a plan.

The arena owns the truth. Dispatchers and planners are handed its ``cluster``, states of it
and what they believe, never ``actual``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import successors
from plancast.planner.arrays.problem import Floats, Ints, Problem, amounts, csr, offsets
from plancast.planner.arrays.relations import refuse_relations
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.model.domain import Assignment, BadRequest, Plan, Task, Worker, estimate_for
from plancast.planner.model.messages import PlanRequest
from plancast.planner.worlds.dispatch import (
    ARRIVED,
    FAR,
    LOST_S,
    RESTARTS,
    WINDOWS,
    Cluster,
    Live,
    Rules,
    begin,
    run,
)

COUNTERS = LOST_S + 1

RunS = Mapping[str, int] | Mapping[str, Mapping[str, int]]
"""True run time of each task, seconds; or that on each machine class."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A worker that goes without warning and comes back.

    Parameters
    ----------
    worker : str
    at_s, back_s : int
        Seconds since the epoch.
    kills : bool
        A failure: what runs there starts anew. Else a drain: what runs there ends, and
        nothing starts.
    """

    worker: str
    at_s: int
    back_s: int
    kills: bool = True

    def __post_init__(self) -> None:
        if self.back_s <= self.at_s:
            raise BadRequest(
                f"outage of worker {self.worker}: back_s {self.back_s} is not after at_s "
                f"{self.at_s}"
            )


@dataclass(frozen=True, eq=False)
class Arena:
    """The cluster, the tasks and the truth; tasks are the planned ones, then what runs.

    Parameters
    ----------
    request : PlanRequest
    problem : Problem
        Its arrays, over the tasks that can be planned.
    tasks : tuple of Task
    cluster : Cluster
    task_of : int64 (pieces,)
    actual : int64 (tasks, classes)
        The truth, seconds.
    estimate : int64 (tasks, classes)
        At the policy's level; 0 where a class is not eligible.
    start : Live
        The state at the request's time; copy it.
    """

    request: PlanRequest
    problem: Problem
    tasks: tuple[Task, ...]
    cluster: Cluster
    task_of: Ints
    actual: Ints
    estimate: Ints
    start: Live

    def run(self, rules: Rules, live: Live, estimate: Ints, pause: int = FAR) -> bool:
        """Dispatch in the truth; see ``dispatch.run``."""
        return bool(run(self.cluster, rules, live, estimate, self.actual, pause))

    def outcome(self, live: Live) -> Plan:
        """What ran, with true starts and ends; tasks that never started are missing."""
        now, names = self.request.snapshot.now_s, [w.id for w in self.problem.workers]
        ptr = self.cluster.shard_ptr
        done = [
            Assignment(
                task.id,
                tuple(names[w] for w in live.worker[ptr[i] : ptr[i + 1]]),
                int(live.start[i]) + now,
                int(live.end[i]) + now,
            )
            for i, task in enumerate(self.tasks)
            if live.end[i] < FAR
        ]
        done.sort(key=lambda a: (a.start_s, a.end_s, a.task))
        return Plan(tuple(done), (), now, self.request.snapshot.version)

    def lost(self, live: Live) -> tuple[int, int]:
        """How many runs failures cut short, and the seconds that they had run."""
        return int(live.clock[RESTARTS]), int(live.clock[LOST_S])

    def homes(self, plan: Plan) -> tuple[Floats, Ints]:
        """Start and workers that a plan gives each task, for ``Rules.rank`` and ``Rules.home``.

        Raises
        ------
        BadRequest
            Where the plan leaves out a task that can be planned.
        """
        index = {w.id: k for k, w in enumerate(self.problem.workers)}
        rank = np.zeros(len(self.tasks))
        home = self.start.worker.copy()
        planned = len(self.problem.tasks)
        for i, task in enumerate(self.tasks[:planned]):
            assignment = plan.by_task.get(task.id)
            if assignment is None:
                raise BadRequest(f"the plan leaves out task {task.id}; it cannot be followed")
            rank[i] = assignment.start_s
            first = self.cluster.shard_ptr[i]
            home[first : first + task.shards] = [index[w] for w in assignment.workers]
        return rank, home


def arena_of(
    request: PlanRequest,
    run_s: RunS,
    outages: Sequence[Outage] = (),
    not_before: Mapping[str, int] = MappingProxyType({}),
) -> Arena:
    """An arena.

    Parameters
    ----------
    request : PlanRequest
        Its estimates are what is believed at first.
    run_s : mapping
        True run time of every pending task, seconds, at least 1; or a mapping of it by
        machine class. Running tasks that are not named end as estimated.
    outages : sequence of Outage
    not_before : mapping of str to int
        Tasks that arrive no earlier than this, seconds since the epoch, whatever their release.

    Raises
    ------
    BadRequest
        Where a task has no true run time, an outage names an unknown worker, or a task asks for
        what only planners know.
    """
    request.snapshot.refuse_counted("this way of executing a batch")
    refuse_relations(request.snapshot, "an execution of a batch")
    request.snapshot.refuse_devices("an execution of a batch")
    problem = encode(request)
    runs = request.snapshot.running
    tasks = problem.tasks + tuple(r.task for r in runs)
    estimate = _estimates(request, problem, tasks)
    actual = np.maximum(estimate, 1)
    for i, task in enumerate(problem.tasks):
        truth = run_s.get(task.id)
        if truth is None:
            raise BadRequest(f"task {task.id}: its true run time is not known; give it in run_s")
        by_class = truth if isinstance(truth, Mapping) else dict.fromkeys(problem.classes, truth)
        for k, name in enumerate(problem.classes):
            actual[i, k] = max(1, by_class.get(name, actual[i, k]))
    cluster = _cluster(request, problem, tasks, outages, not_before)
    task_of = np.repeat(np.arange(len(tasks)), cluster.shards)
    live = _fresh(cluster, task_of)
    arena = Arena(request, problem, tasks, cluster, task_of, actual, estimate, live)
    index = {w.id: k for k, w in enumerate(problem.workers)}
    now = request.snapshot.now_s
    for i, running in enumerate(runs, start=len(problem.tasks)):
        first = cluster.shard_ptr[i]
        live.worker[first : first + running.task.shards] = [index[w] for w in running.workers]
        found = run_s.get(running.task.id)
        end_s = (
            running.start_s + found if isinstance(found, int) else expected_end_s(request, running)
        )
        begin(cluster, live, i, running.start_s - now, max(0, end_s - now))
    return arena


def _estimates(request: PlanRequest, problem: Problem, tasks: Sequence[Task]) -> Ints:
    """Estimates of the planned and of the running tasks. Shape (tasks, classes)."""
    estimate = np.zeros((len(tasks), len(problem.classes)), np.int64)
    planned = len(problem.tasks)
    estimate[:planned] = problem.duration
    for i, task in enumerate(tasks[planned:], start=planned):
        for k, name in enumerate(problem.classes):
            found = estimate_for(request.estimates, task.id, name)
            estimate[i, k] = 0 if found is None else found.at(request.policy.level)
    return estimate


def _cluster(
    request: PlanRequest,
    problem: Problem,
    tasks: Sequence[Task],
    outages: Sequence[Outage],
    not_before: Mapping[str, int],
) -> Cluster:
    now, workers = request.snapshot.now_s, problem.workers
    planned = len(problem.tasks)
    extra = tasks[planned:]
    demand = np.concatenate([problem.demand, amounts([t.demand for t in extra], problem.resources)])
    # What runs has a row of its own: after a failure it may start again where it fits.
    allowed = np.array(
        [*problem.allowed.tolist(), *(_allowed(task, workers) for task in extra)], np.bool_
    ).reshape(len(problem.allowed) + len(extra), len(workers))
    kind = np.concatenate([problem.kind, len(problem.allowed) + np.arange(len(extra))])
    release = np.concatenate([_arrivals(problem, not_before), np.zeros(len(extra), np.int64)])
    place = {task.id: i for i, task in enumerate(tasks)}
    pred_ptr, pred = csr(
        [[place[b] for b in t.predecessors if b in place] if i < planned else []
         for i, t in enumerate(tasks)]
    )  # fmt: skip
    succ_ptr, succ = successors(pred_ptr, pred)
    by_end = np.argsort(problem.shut_end, kind="stable")
    index = {w.id: k for k, w in enumerate(workers)}
    for outage in outages:
        if outage.worker not in index:
            raise BadRequest(f"outage of worker {outage.worker!r}: it is not in the cluster")
    found = sorted(outages, key=lambda o: (o.at_s, o.worker))
    return Cluster(
        capacity=problem.capacity, worker_class=problem.worker_class, demand=demand,
        kind=kind.astype(np.int64), allowed=allowed,
        shards=np.array([t.shards for t in tasks], np.int64),
        shard_ptr=offsets([t.shards for t in tasks]), release=release,
        arrivals=np.argsort(release, kind="stable"), pred_ptr=pred_ptr, pred=pred,
        succ_ptr=succ_ptr, succ=succ, shut_worker=problem.shut_worker[by_end],
        shut_start=problem.shut_start[by_end], shut_end=problem.shut_end[by_end],
        outage_at=np.array([o.at_s - now for o in found], np.int64),
        outage_worker=np.array([index[o.worker] for o in found], np.int64),
        outage_back=np.array([o.back_s - now for o in found], np.int64),
        outage_kills=np.array([o.kills for o in found], np.bool_),
    )  # fmt: skip


def _arrivals(problem: Problem, not_before: Mapping[str, int]) -> Ints:
    """When the tasks that can be planned arrive, seconds after now."""
    now = problem.request.snapshot.now_s
    kept = np.array([not_before.get(task.id, now) - now for task in problem.tasks], np.int64)
    return np.maximum(0, np.maximum(problem.raw_release, kept))


def _allowed(task: Task, workers: Sequence[Worker]) -> list[bool]:
    return [
        w.satisfies(task.requires)
        and all(amount <= w.capacity.get(name, 0) for name, amount in task.demand.items())
        for w in workers
    ]


def _fresh(cluster: Cluster, task_of: Ints) -> Live:
    """Nothing runs, what is released at 0 has arrived."""
    tasks, workers, pieces = len(cluster.kind), len(cluster.capacity), len(task_of)
    clock = np.zeros(COUNTERS, np.int64)
    clock[ARRIVED] = int((cluster.release <= 0).sum())
    clock[WINDOWS] = int((cluster.shut_end <= 0).sum())
    return Live(
        clock=clock, free=cluster.capacity.copy(), state=np.zeros(tasks, np.int64),
        missing=np.diff(cluster.pred_ptr), start=np.full(tasks, FAR), end=np.full(tasks, FAR),
        worker=np.full(pieces, -1), head=np.full(workers, -1), following=np.full(pieces, -1),
        back=np.zeros(workers, np.int64), running=np.zeros(tasks + 1, np.int64),
    )  # fmt: skip


def rules(arena: Arena, rank: Floats, **chosen: object) -> Rules:
    """Rules with a rank; everything else neutral unless chosen: the first worker with room."""
    neutral = Rules(
        rank=np.ascontiguousarray(rank, np.float64), home=np.full(len(arena.task_of), -1),
        row=np.zeros(len(arena.tasks), np.int64),
        rate=np.zeros((1, len(arena.problem.workers))), bound=False, kin=np.inf, price=0.0,
        spread=0.0,
    )  # fmt: skip
    return neutral._replace(**chosen)  # type: ignore[arg-type]
