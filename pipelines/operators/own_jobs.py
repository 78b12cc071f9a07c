"""A user's tasks as jobs of their own, in a Slurm that goes on to decide: the plan as hints.

The tasks are planned on the nodes that there are, behind whatever runs and waits. What comes of
it is said by ``sbatch`` alone: ``--nice`` (their order among themselves), ``--begin`` (no earlier
than planned), ``--nodelist`` (where). Jobs, limits and accounts are the user's; none is held.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.engines.base import Key, Rejected, Unreachable, safe_name
from plancast.pipelines.engines.slurm import (
    PREFIX,
    CommandFailed,
    Run,
    SlurmEngine,
    cluster_of_site,
    licences_asked,
)
from plancast.pipelines.engines.slurm_answers import Job
from plancast.pipelines.inputs.counted import RunningLimits, counted_tasks
from plancast.pipelines.inputs.forecast import forecast_tasks
from plancast.pipelines.inputs.models import CHARGE_COLUMNS, TASK_CELLS
from plancast.pipelines.inputs.slurm_nodes import partition_required
from plancast.pipelines.inputs.tables import Table
from plancast.pipelines.inputs.user_files import ClusterFile, cluster_from_content, read_tasks
from plancast.pipelines.operators.eta import quantiles_by_model
from plancast.pipelines.operators.live_queue import LiveQueue
from plancast.pipelines.operators.slurm_nice import request_of_queue
from plancast.pipelines.operators.slurm_queue import queue_of_site
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    DurationEstimate,
    Estimates,
    Outcome,
    Policy,
    Task,
)
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.plan import plan
from plancast.predictor import RuntimePredictor

HINTS = ("nice", "begin", "nodelist")
OTHERS = 1000.0
"""Weight of jobs that wait already: none of them is planned to wait for ours."""
OWN = "own:"
"""Begins our tasks' ids in the request: those of Slurm's jobs are numbers."""
SOON_S = 60
"""A start that is planned no later than so many seconds from now needs no ``--begin``."""
KEPT_S = 7 * 86_400
"""How far back jobs of a key are looked for."""
_OF_PLAN = ("partition:", "gpu:")
"""Begin labels that are no features of Slurm's."""


@dataclass(frozen=True)
class OwnJob:
    """A task that is to be a job.

    Parameters
    ----------
    task : Task
    start_s : int, optional
        Planned; None where the plan has no place for it.
    nodes : tuple of str
        Where it is planned; a node twice where two pieces are.
    arguments : tuple of str
        Of ``sbatch``, without those that name jobs of other tasks.
    program : tuple of str
        What runs, with its arguments.
    number : str
        Of the job; empty where it is not submitted.
    """

    task: Task
    start_s: int | None
    nodes: tuple[str, ...]
    arguments: tuple[str, ...]
    program: tuple[str, ...]
    number: str = ""

    def command(self, numbers: Mapping[str, str]) -> list[str]:
        """The ``sbatch`` command, where the jobs of other tasks have these numbers.

        One that it need not wait for any more has none.
        """
        waits = [
            f"{on.kind.value}:{numbers[on.task]}"
            + (f"+{math.ceil(on.lag_s / 60)}" if on.lag_s else "")
            for on in self.task.dependencies
            if on.task in numbers
        ]
        after = [f"--dependency={','.join(waits)}"] if waits else []
        wrap = f"exec {shlex.join(self.program)}"
        return ["sbatch", "--parsable", *self.arguments, *after, "--wrap", wrap]


@dataclass(frozen=True)
class Wishes:
    """What a user asks for.

    Parameters
    ----------
    hints : sequence of str
        Of ``HINTS``.
    policy : Policy
        Its prices decide the order.
    model : Path, optional
        Forecasts all jobs; limits are believed without one.
    estimates : mapping
        Of tasks that were forecast elsewhere.
    hold : bool
        Submit them held.
    key : str
        Of the submission; ends the names of its jobs.
    seconds : float
        Time for planning.
    """

    hints: Sequence[str] = ("nice",)
    policy: Policy = field(default_factory=Policy)
    model: Path | None = None
    estimates: Estimates = field(default_factory=dict)
    hold: bool = False
    key: str = "plan"
    seconds: float = 5.0


def hints_of(text: str) -> tuple[str, ...]:
    """Hints of ``nice,begin``."""
    found = tuple(filter(None, (word.strip() for word in text.split(","))))
    for word in found:
        if word not in HINTS:
            raise BadRequest(f"--hints {word!r}: choose of {', '.join(HINTS)}, or leave it empty")
    return found


def own_jobs(
    table: Table, program: Callable[[Task], Sequence[str]], wishes: Wishes, run: Run
) -> list[OwnJob]:
    """Tasks as jobs for the Slurm at hand, in the order in which they are to be submitted.

    Parameters
    ----------
    table : Table
        Of a task file.
    program : callable
        What runs for a task.
    wishes : Wishes
    run : callable
        Runs a command of Slurm; only asks.

    Raises
    ------
    BadRequest
        Where Slurm cannot be asked, or a task is none that one job can be.
    """
    queue = queue_of_site(run)
    cluster = cluster_from_content(cluster_of_site(run), "slurm")
    now_s = queue.made_at_s
    tasks = read_tasks(table, now_s=now_s)
    charged = _charged(table, tasks)
    _check_limits(table, tasks)
    names = {resource.id for resource in cluster.counted}
    tasks = tuple(
        task for task, _ in counted_tasks(tasks, {}, RunningLimits(), names, cluster.workers)
    )
    for task in tasks:
        _check(task, table.source, cluster)
    model = None if wishes.model is None else RuntimePredictor.load(wishes.model)
    estimates = _estimates(table, tasks, model, wishes.estimates, cluster, now_s)
    request = _request(queue, cluster, tasks, charged, estimates, model, wishes)
    response = plan(request, "auto")
    places = {} if response.plan is None else {
        a.task.removeprefix(OWN): a for a in response.plan.assignments if a.task.startswith(OWN)
    }  # fmt: skip
    found: list[OwnJob] = []
    for task in _in_order(tasks, {name: a.start_s for name, a in places.items()}):
        at = places.get(task.id)
        nodes = () if at is None else at.workers
        start_s = None if at is None else at.start_s
        hints = _hinted(wishes.hints, len(found), start_s, nodes, task, now_s)
        arguments = (*_asked(task, charged[task.id], wishes), *hints)
        if odd := next((word for word in arguments if "\0" in word), None):
            raise BadRequest(
                f"{table.source}: task {task.id}: {odd!r}: no option holds a zero byte; take it out"
            )
        found.append(OwnJob(task, start_s, nodes, arguments, tuple(program(task))))
    return found


def script(jobs: Sequence[OwnJob]) -> str:
    """The same as a script for a shell, which anybody may read before it runs."""
    followed = {name for job in jobs for name in job.task.predecessors}
    numbers = {name: f"PLANCAST-{k}-" for k, name in enumerate(sorted(followed), start=1)}
    lines = ["#!/bin/sh", "set -e"]
    for job in jobs:
        text = " ".join(_quoted(word, numbers.values()) for word in job.command(numbers))
        own = numbers.get(job.task.id)
        lines.append(f"{_variable(own)}=$({text})" if own else text)
    return "\n".join(lines) + "\n"


def _variable(number: str) -> str:
    return f"job{number.split('-')[1]}"


def _quoted(word: str, numbers: Any) -> str:
    if not word.startswith("--dependency="):
        return shlex.quote(word)
    for number in numbers:  # job numbers come from Slurm, and hold no character of a shell
        word = word.replace(number, f"${{{_variable(number)}}}")
    return word


def submitted(jobs: Sequence[OwnJob], key: str, run: Run, *, again: bool) -> list[OwnJob]:
    """Submit jobs; those that were submitted under this key before are left alone.

    Parameters
    ----------
    jobs : sequence of OwnJob
        Each after those that it waits for.
    key : str
    run : callable
    again : bool
        Whether there may be jobs of this key.

    Returns
    -------
    list of OwnJob
        With their numbers.

    Raises
    ------
    BadRequest
        Where Slurm refuses one; those before it are submitted.
    Unreachable
        Where Slurm does not answer; what it took is found again under the key.
    """
    earlier = _Earlier(key, run).jobs([job.task.id for job in jobs]) if again else {}
    # Slurm refuses to wait for a job that it has let go of.
    over = {name for name, job in earlier.items() if job.state == "COMPLETED"}
    numbers = {name: job.number for name, job in earlier.items()}
    found: list[OwnJob] = []
    for job in jobs:
        if job.task.id not in numbers:
            met = {on.task for on in job.task.dependencies if on.is_met_by(Outcome.COMPLETED)}
            left = {name: n for name, n in numbers.items() if name not in over & met}
            try:
                numbers[job.task.id] = run(job.command(left)).strip().split(";")[0]
            except (CommandFailed, Rejected) as why:
                raise BadRequest(
                    f"task {job.task.id}: {why}; {_so_far(found, jobs)}, submit again with "
                    f"--key {key}"
                ) from None
            except Unreachable as why:
                raise Unreachable(
                    f"{why}; {_so_far(found, jobs)}, submit again with --key {key}"
                ) from None
        found.append(replace(job, number=numbers[job.task.id]))
    return found


def _so_far(found: Sequence[OwnJob], jobs: Sequence[OwnJob]) -> str:
    return f"{len(found)} of {len(jobs)} were submitted"


def job_name(task: str, key: str) -> str:
    """The job's name: its task's id, and the key of the submission."""
    return f"{safe_name(task)}.{key}"


class _Earlier(SlurmEngine):
    """Finds jobs of a key, by their names."""

    def __init__(self, key: str, run: Run) -> None:
        super().__init__((), run, batch=key, since_s=int(time.time()) - KEPT_S)

    def jobs(self, tasks: Sequence[str]) -> dict[str, Job]:
        """The job of each task that is one."""
        self._find([(name, 1) for name in tasks])
        return {key[0]: job for key, job in self.known.items()}

    def _name(self, key: Key) -> str:
        return job_name(key[0], self.batch)


# -- the request -----------------------------------------------------------------------------


def _charged(table: Table, tasks: Sequence[Task]) -> dict[str, dict[str, str]]:
    """Account, QOS and partition that each task names."""
    columns = {name: table.parse(name, str, "") for name in CHARGE_COLUMNS}
    return {
        task.id: {name: cells[row] for name, cells in columns.items() if cells[row]}
        for row, task in enumerate(tasks)
    }


def _check_limits(table: Table, tasks: Sequence[Task]) -> None:
    """Refuse limits that jobs which do not know of each other cannot keep."""
    for column in ("array_limit", "singleton"):
        for task, limit in zip(tasks, table.parse(column, TASK_CELLS[column]), strict=True):
            if limit:
                raise BadRequest(
                    f"{table.source}: task {task.id}: {column}: jobs of your own cannot keep it; "
                    "leave it out, let tasks follow each other by after, or submit to a master"
                )


def _check(task: Task, source: str, cluster: ClusterFile) -> None:
    """Refuse what no job of Slurm can be asked to be."""
    name = f"{source}: task {task.id}"
    if task.modes:
        raise BadRequest(f"{name}: has modes; Slurm runs a job in one way, keep one row of it")
    kinds = {kind for worker in cluster.workers for kind in worker.capacity}
    for kind, amount in task.demand.items():
        if amount and kind not in kinds | {"cpu", "mem", "gpu"}:
            raise BadRequest(f"{name}: res_{kind}: Slurm has no such generic resource or licence")
        if amount and task.shards > 1 and kind not in ("cpu", "mem", "gpu"):
            raise BadRequest(
                f"{name}: res_{kind}: Slurm counts it by the node, and a gang may share nodes; "
                "leave it out, or make it one piece"
            )


def _estimates(
    table: Table, tasks: Sequence[Task], model: RuntimePredictor | None, known: Estimates,
    cluster: ClusterFile, now_s: int,
) -> dict[str, Any]:  # fmt: skip
    """By task: known ones, else the model's, else the requested time."""
    found: dict[str, Any] = {}
    if model is not None:
        classes = sorted({worker.machine_class for worker in cluster.workers})
        found.update(forecast_tasks(table, model, now_s=now_s, classes=classes))
    found.update(known)
    for task in tasks:
        if task.id in found:
            continue
        if task.requested_s is None:
            raise BadRequest(
                f"{table.source}: task {task.id}: names no requested_s, and there is no --model to "
                "forecast it by; name one"
            )
        found[task.id] = {ANY_CLASS: DurationEstimate.certain(task.requested_s, "requested")}
    return found


def _request(
    queue: LiveQueue, cluster: ClusterFile, tasks: Sequence[Task],
    charged: Mapping[str, Mapping[str, str]], estimates: Mapping[str, Any],
    model: RuntimePredictor | None, wishes: Wishes,
) -> PlanRequest:  # fmt: skip
    """The queue with our tasks behind it: whole cores and GPUs, as Slurm counts."""
    if model is None:
        jobs = [*queue.running, *queue.asking()]
        of_queue = request_of_queue(
            queue, np.array([[float(job.limit_s)] for job in jobs]).reshape(-1, 1), (0.5,),
            wishes.seconds, cluster.counted,
        )  # fmt: skip
    else:
        of_queue = request_of_queue(
            queue, quantiles_by_model(model, queue), model.levels, wishes.seconds, cluster.counted
        )
    known = {worker.id: worker for worker in cluster.workers}
    workers = tuple(
        replace(
            worker, labels=worker.labels | known[worker.id].labels,
            machine_class=known[worker.id].machine_class,
            capacity={**_whole(known[worker.id].capacity), **worker.capacity},
        )
        if worker.id in known else worker
        for worker in of_queue.snapshot.workers
    )  # fmt: skip
    own = tuple(
        replace(
            task, id=OWN + task.id, demand=_whole(task.demand),
            after=tuple(OWN + name for name in task.after),
            depends=tuple(replace(on, task=OWN + on.task) for on in task.depends),
            requires=(
                *task.requires,
                *partition_required(charged[task.id].get("partition", ""), cluster.workers),
            ),
        )
        for task in tasks
    )  # fmt: skip
    others = tuple(replace(task, weight=OTHERS) for task in of_queue.snapshot.pending)
    return replace(
        of_queue, policy=wishes.policy,
        snapshot=replace(of_queue.snapshot, workers=workers, pending=(*others, *own)),
        estimates={**of_queue.estimates, **{OWN + k: v for k, v in estimates.items()}},
    )  # fmt: skip


def _whole(amounts: Mapping[str, int]) -> dict[str, int]:
    return {
        kind: math.ceil(amount / 1000) if kind in ("cpu", "gpu") else amount
        for kind, amount in amounts.items()
    }


def _in_order(tasks: Sequence[Task], starts: Mapping[str, int]) -> list[Task]:
    """By planned start, each after what it waits for."""
    left = sorted(tasks, key=lambda task: starts.get(task.id, math.inf))
    done: list[Task] = []
    names: set[str] = set()
    while left:
        ready = next(task for task in left if names.issuperset(task.predecessors))
        left.remove(ready)
        done.append(ready)
        names.add(ready.id)
    return done


# -- options of sbatch -----------------------------------------------------------------------


def _asked(task: Task, charged: Mapping[str, str], wishes: Wishes) -> list[str]:
    """What the task needs, whatever the plan is."""
    whole = _whole(task.demand)
    cores, mem = max(1, whole.get("cpu", 1)), whole.get("mem", 0)
    comment = json.dumps({PREFIX: wishes.key, "task": task.id})
    found = ["-J", job_name(task.id, wishes.key), f"--comment={comment}", "-n", str(task.shards),
             "-c", str(cores)]  # fmt: skip
    if task.shards > 1:
        found += [f"--mem-per-cpu={math.ceil(mem / cores)}M"] if mem else []
        found += [f"--gpus-per-task={whole['gpu']}"] if whole.get("gpu") else []
    else:
        found += [f"--mem={mem}M"] if mem else []
        gres = _gres(task, whole)
        found += [f"--gres={','.join(gres)}"] if gres else []
    found += licences_asked(task.counted)
    if task.most_per_worker is not None:
        found.append(f"--ntasks-per-node={task.most_per_worker}")
    if task.most_workers is not None:
        found += ["-N", f"1-{task.most_workers}"]
    features = [text for text in task.requires if not text.startswith(_OF_PLAN)]
    if features:
        found.append("--constraint=" + "&".join(f"({f})" if "|" in f else f for f in features))
    if task.requested_s is not None:
        found.append(f"--time={math.ceil(task.requested_s / 60)}")
    found += ["--exclusive"] if task.exclusive else []
    found += ["-H"] if wishes.hold else []
    return [*found, *(f"--{name}={value}" for name, value in charged.items())]


def _gres(task: Task, whole: Mapping[str, int]) -> list[str]:
    """Generic resources; GPUs by their type where the task requires one."""
    types = [text for text in task.requires if text.startswith("gpu:")]
    gpu = types[0] if len(types) == 1 else "gpu"
    return [
        f"{gpu if kind == 'gpu' else kind}:{amount}"
        for kind, amount in whole.items()
        if amount and kind not in ("cpu", "mem")
    ]


def _hinted(
    hints: Sequence[str], rank: int, start_s: int | None, nodes: Sequence[str], task: Task,
    now_s: int,
) -> list[str]:  # fmt: skip
    """What the plan says, and when the task may start at all."""
    found = [f"--nice={rank}"] if "nice" in hints and rank else []
    begin_s = task.release_s
    if "begin" in hints and start_s is not None and start_s > now_s + SOON_S:
        begin_s = max(begin_s, start_s)
    if begin_s > now_s:
        found.append(time.strftime("--begin=%Y-%m-%dT%H:%M:%S", time.localtime(begin_s)))
    if "nodelist" in hints and nodes:
        found.append(f"--nodelist={','.join(dict.fromkeys(nodes))}")
    return found
