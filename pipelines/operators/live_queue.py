"""A queue as it stands, whoever tells of it: nodes, running jobs, waiting jobs in order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import Task
from plancast.planner.model.messages import PlanRequest
from plancast.planner.worlds.rollout import QueueState

Ints = NDArray[np.int64]

UNITS: dict[str, tuple[str, str]] = {
    "cpu": ("core", "cores"),
    "gpu": ("GPU", "GPUs"),
    "mem": ("MiB of memory", "MiB of memory"),
    "node": ("node", "nodes"),
}
"""What an amount of a resource is called, one and many."""

NO_LIMIT_S = 30 * 86400
"""Limit of a job that has none: it holds no other up for longer than that."""


@dataclass(frozen=True)
class Node:
    """A node that may take jobs: its name, and what it has."""

    id: str
    amounts: Mapping[str, int]


@dataclass(frozen=True)
class LiveJob:
    """A job that runs or waits.

    Parameters
    ----------
    id : str
    demand : mapping of str to int
        Of the whole job; ``node`` counts whole nodes.
    where : frozenset of str
        Nodes it runs on, or may run on.
    limit_s : int
        Its time limit.
    submit_s : int
    start_s : int, optional
        None: it waits.
    barred : str
        Why it may not start whatever is free; empty: it may.
    place : str
        Where it waits, in words: ``partition gpu``.
    fields : mapping
        Canonical fields that a model looks at.
    licences : mapping of str to int
        What it takes of the cluster's licences.
    """

    id: str
    demand: Mapping[str, int]
    where: frozenset[str]
    limit_s: int
    submit_s: int
    start_s: int | None = None
    barred: str = ""
    place: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    licences: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveQueue:
    """What is known of a site at one moment; `waiting` is in the order of its priorities."""

    made_at_s: int
    nodes: tuple[Node, ...]
    running: tuple[LiveJob, ...]
    waiting: tuple[LiveJob, ...]

    def asking(self) -> list[LiveJob]:
        """Waiting jobs that may start, in order."""
        return [job for job in self.waiting if not job.barred]


@dataclass(frozen=True)
class Pools:
    """The queue as vectors of resources: one for each set of nodes that some job is bound to.

    A job counts in every set that holds all the nodes it may run on, and on the nodes it runs
    on; which of the nodes of a larger set it will take is not known, so there it does not
    count. Nodes of a set are one pool: that pieces must fit on single nodes is not seen.
    """

    state: QueueState
    keys: tuple[tuple[frozenset[str], str], ...]


def pools_of(queue: LiveQueue) -> Pools:
    """A queue as arrays, its running jobs first by their order in `queue`."""
    asking = queue.asking()
    up = {node.id: node for node in queue.nodes}
    sets = list(dict.fromkeys(frozenset(job.where & up.keys()) for job in asking))
    kinds = list(dict.fromkeys(kind for job in asking for kind in job.demand))
    keys = [(nodes, kind) for nodes in sets for kind in kinds]
    free = np.array([_capacity(nodes, kind, up) for nodes, kind in keys], np.int64)
    held = np.zeros((len(queue.running), len(keys)), np.int64)
    for row, job in enumerate(queue.running):
        for column, (nodes, kind) in enumerate(keys):
            held[row, column] = _held(job, nodes, kind, up)
    demand = np.zeros((len(asking), len(keys)), np.int64)
    for row, job in enumerate(asking):
        mine = job.where & up.keys()
        for column, (nodes, kind) in enumerate(keys):
            if mine <= nodes:
                demand[row, column] = job.demand.get(kind, 0)
    left = [max(job.limit_s - (queue.made_at_s - (job.start_s or 0)), 60) for job in queue.running]
    free = np.maximum(free - held.sum(axis=0), 0)
    state = QueueState(
        free,
        held,
        np.array(left, np.int64),
        demand,
        np.array([max(job.limit_s, 1) for job in asking], np.int64),
    )
    return Pools(state, tuple(keys))


def _capacity(nodes: frozenset[str], kind: str, up: Mapping[str, Node]) -> int:
    if kind == "node":
        return len(nodes)
    return sum(up[name].amounts.get(kind, 0) for name in nodes)


def _held(job: LiveJob, nodes: frozenset[str], kind: str, up: Mapping[str, Node]) -> int:
    """What a running job takes of a set of nodes, equally spread over its own."""
    inside = job.where & nodes
    if not inside:
        return 0
    if kind == "node":
        return len(inside)
    if "node" in job.demand:
        return sum(up[name].amounts.get(kind, 0) for name in inside if name in up)
    return math.ceil(job.demand.get(kind, 0) * len(inside) / len(job.where))


def queue_of_request(request: PlanRequest) -> LiveQueue:
    """The queue of a request: pending tasks wait in the order of their release.

    Tasks that wait for others, or are not released yet, may not start.
    """
    snapshot = request.snapshot
    now = snapshot.now_s
    done = {f.id for f in snapshot.finished}
    nodes = tuple(
        Node(w.id, dict(w.capacity)) for w in snapshot.workers if (w.free_from_s or 0) <= now
    )
    running = tuple(
        _job_of_task(run.task, frozenset(run.workers), run.start_s, "") for run in snapshot.running
    )
    waiting = []
    for task in sorted(snapshot.pending, key=lambda t: t.release_s):
        before = [name for name in task.predecessors if name not in done]
        barred = f"waits for its predecessor {before[0]}" if before else ""
        if task.release_s > now:
            barred = f"is released {task.release_s - now} s from now"
        able = frozenset(w.id for w in snapshot.workers if w.satisfies(task.requires))
        waiting.append(_job_of_task(task, able, None, barred))
    return LiveQueue(now, nodes, running, tuple(waiting))


def _job_of_task(task: Task, where: frozenset[str], start_s: int | None, barred: str) -> LiveJob:
    return LiveJob(
        task.id,
        {kind: amount * task.shards for kind, amount in task.demand.items()},
        where,
        task.requested_s or NO_LIMIT_S,
        task.release_s,
        start_s,
        barred,
        "the cluster",
        {"user": task.owner, "app": task.app},
    )
