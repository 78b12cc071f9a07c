"""The planner's order of a Slurm queue, as ``Nice`` of its waiting jobs.

Slurm starts jobs by priority, and backfills. A nice value lowers a job's priority, so an order can
be given to it without another scheduler. Nothing is written unless asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.pipelines.engines.base import Unreachable
from plancast.pipelines.engines.slurm import CommandFailed, Run, run_command
from plancast.pipelines.operators.eta import quantiles_by_model
from plancast.pipelines.operators.live_queue import LiveJob, LiveQueue
from plancast.pipelines.operators.slurm_queue import queue_of_site
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    CountedResource,
    DurationEstimate,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.plan import plan
from plancast.predictor.runtime import RuntimePredictor

Floats = NDArray[np.float64]

MOST_NICE = 2_147_483_645
"""The largest nice value that Slurm takes."""

PRICES = Prices(makespan_h=0.0, late_h=0.0, misses=0.0, wait_h=0.0, stretch=1.0)
"""Only slowdowns count: the sum of (wait + run) / run, of runs of at least 10 s."""


def order_of_queue(
    queue: LiveQueue, quantiles_s: Floats, levels: Sequence[float], *, seconds: float = 5.0
) -> list[str]:
    """Waiting jobs that may start, in the order of their planned starts.

    Parameters
    ----------
    queue : LiveQueue
    quantiles_s : array, shape (running + asking, levels)
        Of whole run times, seconds, as of ``eta``.
    levels : sequence of float
    seconds : float
        Time for planning.

    Raises
    ------
    BadRequest
        Where no order can be planned.
    """
    asking = queue.asking()
    if len(asking) < 2:
        return [job.id for job in asking]
    response = plan(request_of_queue(queue, quantiles_s, levels, seconds), "auto")
    if response.plan is None:
        raise BadRequest("slurm-nice: there is no plan of the queue; look with plancast eta")
    starts = {a.task: a.start_s for a in response.plan.assignments}
    # What the planner leaves out (it fits nowhere) goes last; ties keep Slurm's order.
    return [job.id for job in sorted(asking, key=lambda job: starts.get(job.id, math.inf))]


def request_of_queue(
    queue: LiveQueue, quantiles_s: Floats, levels: Sequence[float], seconds: float = 5.0,
    counted: Sequence[CountedResource] = (),
) -> PlanRequest:  # fmt: skip
    """A live queue as a request: nodes are workers, a job of several nodes has shards.

    Of licences those count that are among `counted`.
    """
    asking = queue.asking()
    sets = list(dict.fromkeys(job.where for job in asking))
    workers, running = _nodes_and_running(queue, sets)
    size = {worker.id: worker.capacity for worker in workers}
    pending = tuple(
        _task_of(job, [size[name] for name in job.where if name in size], sets.index(job.where))
        for job in asking
    )
    names = [job.id for job in (*queue.running, *asking)]
    there = {resource.id for resource in counted}
    licences = {
        job.id: {name: amount for name, amount in job.licences.items() if name in there}
        for job in (*queue.running, *asking)
    }
    pending = tuple(replace(task, counted=licences[task.id]) for task in pending)
    running = [
        replace(run, task=replace(run.task, counted=licences[run.task.id])) for run in running
    ]
    known = {task.id for task in pending} | {run.task.id for run in running}
    estimates = {
        name: {ANY_CLASS: _estimate(row, levels)}
        for name, row in zip(names, quantiles_s, strict=True)
        if name in known
    }
    return PlanRequest(
        "slurm-nice",
        Snapshot(0, queue.made_at_s, workers, pending, tuple(running), counted=tuple(counted)),
        estimates,
        policy=Policy(prices=PRICES, level=0.5),
        budget=Budget(seconds),
    )


def _nodes_and_running(
    queue: LiveQueue, sets: Sequence[frozenset[str]]
) -> tuple[tuple[Worker, ...], list[Running]]:
    """Nodes as workers, labelled by the sets of nodes that waiting jobs name; and what runs."""
    running, held = [], {node.id: Counter[str]() for node in queue.nodes}
    for job in queue.running:
        where = tuple(sorted(job.where & held.keys()))
        if not where:
            continue
        each = _each(job, len(where))
        for name in where:
            held[name].update(each)
        task = Task(
            job.id, each, shards=len(where), requested_s=job.limit_s, release_s=job.submit_s
        )
        running.append(Running(task, where, min(job.start_s or 0, queue.made_at_s)))
    workers = tuple(
        Worker(
            node.id,
            # What runs is believed before what the node is said to have.
            dict(held[node.id] | Counter({**node.amounts, "node": 1})),
            frozenset(f"set{k}" for k, names in enumerate(sets) if node.id in names),
        )
        for node in queue.nodes
    )
    return workers, running


def _each(job: LiveJob, shards: int) -> dict[str, int]:
    return {
        kind: 1 if kind == "node" else math.ceil(amount / shards)
        for kind, amount in job.demand.items()
        if amount
    }


def _task_of(job: LiveJob, sizes: Sequence[Any], number: int) -> Task:
    """A waiting job; as many shards as nodes that it needs."""
    shards = max(1, job.demand.get("node", 1))
    for kind, amount in job.demand.items():
        most = max((size.get(kind, 0) for size in sizes), default=0)
        if kind != "node" and most:
            shards = max(shards, math.ceil(amount / most))
    return Task(
        job.id,
        _each(job, shards),
        requires=(f"set{number}",),
        requested_s=job.limit_s,
        shards=shards,
        release_s=job.submit_s,
        owner=str(job.fields.get("user", "")),
    )


def _estimate(row: Floats, levels: Sequence[float]) -> DurationEstimate:
    seconds = np.maximum(np.ceil(np.minimum(row, 1e9)), 1).astype(np.int64)
    return DurationEstimate(tuple(levels), tuple(np.maximum.accumulate(seconds).tolist()), "model")


def nice_of(order: Sequence[str], facts: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Nice values that make Slurm's priorities follow an order.

    Parameters
    ----------
    order : sequence of str
        Ids of jobs, ``12_3`` of an array's tasks.
    facts : dict
        Id to its present priority and nice value; of an array its own id.

    Returns
    -------
    dict of str to int
        Id to nice value, from 0 on. An array counts once, by the first of its tasks.

    Raises
    ------
    BadRequest
        Where priorities lie so far apart that Slurm has no such nice value.

    Notes
    -----
    With priorities without nice values ``p`` from ``least`` to ``most`` the k-th job gets
    ``k (most - least + 1)``: each one then lies below the one before it.
    """
    ids = list(dict.fromkeys(name if name in facts else name.split("_")[0] for name in order))
    ids = [name for name in ids if name in facts]
    bare = [facts[name][0] + facts[name][1] for name in ids]
    step = max(bare, default=0) - min(bare, default=0) + 1
    if step * max(len(ids) - 1, 0) > MOST_NICE:
        raise BadRequest(
            f"slurm-nice: {len(ids)} jobs with priorities {step - 1:,} apart need nice values "
            f"above {MOST_NICE:,}; lower the priority weights in slurm.conf"
        )
    return {name: rank * step for rank, name in enumerate(ids)}


def nice_of_site(
    folder: str | Path, *, seconds: float = 5.0, run: Run = run_command
) -> dict[str, int]:
    """Nice values for the queue of the Slurm at hand, by a model's run times; read-only."""
    queue = queue_of_site(run)
    model = RuntimePredictor.load(folder)
    order = order_of_queue(queue, quantiles_by_model(model, queue), model.levels, seconds=seconds)
    return nice_of(order, priorities_of_site(run))


def priorities_of_site(run: Run = run_command) -> dict[str, tuple[int, int]]:
    """Priority and nice value of every waiting job by id."""
    try:
        text = run(["squeue", "-h", "-a", "-t", "PD", "-o", "%i|%Q|%y|%F"])
    except (CommandFailed, Unreachable) as error:
        raise BadRequest(f"slurm-nice: {error}") from None
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        name, priority, nice, base = line.strip().split("|")
        # Of an array that waits as one, "12_[1-9]", the id of the array.
        found[base if "[" in name else name] = int(priority), int(nice)
    return found


def set_nice(values: dict[str, int], run: Run = run_command) -> list[str]:
    """Give jobs their nice values; what Slurm refused, in its own words."""
    refused: list[str] = []
    # The last first: no job overtakes one that it is to follow.
    names = list(reversed(values))
    for place, name in enumerate(names):
        try:
            run(["scontrol", "update", f"JobId={name}", f"Nice={values[name]}"])
        except Unreachable as error:
            return [*refused, *(f"job {left}: {error}" for left in names[place:])]
        except CommandFailed as error:
            # A job may have started, and even ended, since the queue was asked for.
            if "already finished" not in str(error):
                refused.append(f"job {name}: {error}")
    return refused
