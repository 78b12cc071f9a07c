"""What the whole cluster has so many of: licences, and places for running tasks.

A cluster file's ``resources`` and ``limits``, and the columns ``res_NAME``, ``array_limit``,
``singleton`` and ``account`` of its tasks, become counted resources of the snapshot and what each
task takes of them. Every running limit is such a resource, of which a task takes one.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from plancast.pipelines.inputs.cells import (
    flag_cell,
    instant_cell,
    names_cell,
    text_cell,
    whole_cell,
)
from plancast.pipelines.inputs.power import watts_of, watts_of_running
from plancast.pipelines.inputs.tables import Table
from plancast.pipelines.inputs.yaml_files import Section
from plancast.planner.model.counted import POWER
from plancast.planner.model.domain import (
    AmountWindow,
    BadRequest,
    CountedResource,
    Finished,
    Running,
    Snapshot,
    Task,
    Worker,
)

OTHERS = "*"
"""Key of a limit that holds for every user, or account, without one of its own."""

LIMIT_COLUMNS = ("account", "array_limit", "singleton")
"""Columns of a task table that say which running limits a task is under."""

SINGLETON = "singleton"
"""Slurm's word for it, in ``after``."""


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a task's row says of the running limits that it is under."""

    account: str = ""
    array_limit: int | None = None
    singleton: bool = False


NO_LIMITS = TaskLimits()


@dataclass(frozen=True, slots=True)
class RunningLimits:
    """How many tasks of each user, and of each account, may run at once; see ``OTHERS``."""

    user: Mapping[str, int] = field(default_factory=dict)
    account: Mapping[str, int] = field(default_factory=dict)


_Moment = Annotated[int, BeforeValidator(instant_cell)]


class ResourceRow(Section):
    """A counted resource of a cluster file: its amount, and where in time it is another."""

    amount: Annotated[int, Field(ge=0)]
    windows: list[tuple[_Moment, _Moment, Annotated[int, Field(ge=0)]]] = Field(
        default_factory=list
    )


def _amount_alone(cell: Any) -> Any:
    return cell if isinstance(cell, dict | ResourceRow) else {"amount": cell}


Resource = Annotated[ResourceRow, BeforeValidator(_amount_alone)]
"""A number alone is an amount that does not change."""

Numbers = Annotated[
    dict[str, Annotated[int, Field(ge=0)]],
    BeforeValidator(lambda cell: cell if isinstance(cell, dict) else {OTHERS: cell}),
]
"""By name; a number alone is that of everybody."""


class LimitsSection(Section):
    """The ``limits`` of a cluster file: how many tasks of each may run at once."""

    user: Numbers = Field(default_factory=dict)
    account: Numbers = Field(default_factory=dict)

    def limits(self) -> RunningLimits:
        """As the planner wants them."""
        return RunningLimits(self.user, self.account)


def resources_of(
    rows: Mapping[str, ResourceRow], holders: Mapping[str, str], source: str
) -> tuple[CountedResource, ...]:
    """The counted resources of a cluster file.

    Parameters
    ----------
    rows : mapping of str to ResourceRow
    holders : mapping of str to str
        Resources of workers, each with one that has it.
    source : str
        What to call the file in an error.

    Raises
    ------
    BadRequest
        For a name that a worker has too, and amounts and windows that cannot be.
    """
    found = []
    for name, row in rows.items():
        try:
            if name in ("cpu", "mem", "gpu"):
                raise BadRequest("write cpus, mem_mib or gpus of the workers instead")
            if name == POWER:
                raise BadRequest("is what energy.power_cap_w is counted as; rename it")
            if name in holders:
                raise BadRequest(f"worker {holders[name]} has it too; keep one of the two")
            windows = [AmountWindow(*window) for window in sorted(row.windows)]
            found.append(CountedResource(name, row.amount, tuple(windows)))
        except BadRequest as error:
            raise BadRequest(f"{source}: resources.{name}: {error}") from None
    return tuple(found)


def resource_row(resource: CountedResource) -> int | dict[str, Any]:
    """A counted resource as a cluster file has it."""
    if not resource.windows:
        return resource.amount
    windows = [[w.start_s, w.end_s, w.amount] for w in resource.windows]
    return {"amount": resource.amount, "windows": windows}


def limits_of(table: Table, ids: Sequence[str]) -> dict[str, TaskLimits]:
    """The running limits that the rows of a task table name, by task; none where none does."""
    after = table.parse("after", names_cell, ())
    named = [{part for word in words for part in word.split(",")} for words in after]
    single = [SINGLETON in words and SINGLETON not in ids for words in named]
    if not any(single) and not any(name in table.columns for name in LIMIT_COLUMNS):
        return {}
    account = table.parse("account", text_cell, "")
    most = table.parse("array_limit", whole_cell)
    flag = table.parse("singleton", flag_cell, False)
    for row, number in enumerate(most):
        if number is not None and number < 1:
            raise table.fault(row, f"is {number}; it must be 1 or more", "array_limit")
    return {
        name: TaskLimits(account[row], most[row], flag[row] or single[row])
        for row, name in enumerate(ids)
    }


def without_singleton(words: tuple[str, ...], known: Container[str]) -> tuple[str, ...]:
    """`words` of ``after`` but for ``singleton``, where no task has that name."""
    if not any(SINGLETON in word for word in words) or SINGLETON in known:
        return words
    kept = (",".join(p for p in word.split(",") if p != SINGLETON) for word in words)
    return tuple(word for word in kept if word)


def counted_snapshot(
    now_s: int,
    workers: tuple[Worker, ...],
    pending: tuple[Task, ...],
    running: tuple[Running, ...],
    finished: tuple[Finished, ...],
    *,
    budgets: Mapping[str, int],
    resources: tuple[CountedResource, ...] = (),
    limits: RunningLimits | None = None,
    asked: Mapping[str, TaskLimits] | None = None,
) -> Snapshot:
    """The snapshot of a cluster file and a task file, with what the cluster counts.

    Parameters
    ----------
    now_s, workers, pending, running, finished, budgets
        As of ``Snapshot``; a task's demand may name what is counted.
    resources : tuple of CountedResource
        Of the cluster file.
    limits : RunningLimits, optional
        Of the cluster file.
    asked : mapping of str to TaskLimits, optional
        Of the rows, by task.

    Raises
    ------
    BadRequest
        Where the tasks of an array name different limits, or a resource is counted twice.

    Notes
    -----
    The tasks of an array are those whose ids differ in a number after the last ``_``. What runs
    under the name and user of a singleton counts, whether or not it is one itself.
    """
    tasks = [*pending, *(run.task for run in running)]
    on = {run.task.id: run for run in running}
    rules = _Rules(limits or RunningLimits(), asked or {}, tasks)
    if not resources and not rules.any:
        return Snapshot(0, now_s, workers, pending, running, finished, budgets)
    names = {resource.id for resource in resources}
    made: dict[str, int] = {}
    new: dict[str, Task] = {}
    for task in tasks:
        places = rules.places_of(task, task.id in on)
        made.update(places)
        new[task.id] = _counting(task, names, places)
        if POWER in names:
            run = on.get(task.id)
            watts = watts_of(task, workers) if run is None else watts_of_running(run, workers)
            new[task.id] = _drawing(new[task.id], watts)
    if twice := names & made.keys():
        raise BadRequest(f"resources.{min(twice)}: is the name of a running limit; rename it")
    return Snapshot(
        0,
        now_s,
        workers,
        tuple(new[task.id] for task in pending),
        tuple(replace(run, task=new[run.task.id]) for run in running),
        finished,
        budgets,
        counted=(*resources, *(CountedResource(n, made[n]) for n in made)),
    )


def counted_tasks(
    tasks: Sequence[Task],
    asked: Mapping[str, TaskLimits],
    limits: RunningLimits,
    resources: Container[str],
    workers: Sequence[Worker],
) -> list[tuple[Task, dict[str, int]]]:
    """Tasks that come to a cluster, with what they take of what it counts; as `counted_snapshot`.

    Parameters
    ----------
    tasks, asked, limits
        As of ``counted_snapshot``.
    resources : container of str
        Names of the cluster's counted resources.
    workers : sequence of Worker
        The cluster's.

    Returns
    -------
    list of (Task, dict)
        Each task, and the places that there are of each running limit that it is under.
    """
    rules = _Rules(limits, asked, list(tasks))
    placed = [(task, rules.places_of(task, False)) for task in tasks]
    made = [(_counting(task, resources, places), places) for task, places in placed]
    if POWER not in resources:
        return made
    return [(_drawing(task, watts_of(task, workers)), places) for task, places in made]


def _drawing(task: Task, watts: int) -> Task:
    """The task, taking so many watts of what a power cap leaves."""
    return replace(task, counted={**task.counted, POWER: watts})


def _counting(task: Task, names: Container[str], places: Mapping[str, int]) -> Task:
    """The task, taking of what the cluster counts what its demand says, and a place of each."""

    def apart(demand: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        counted = {name: amount for name, amount in demand.items() if name in names}
        return counted, {name: amount for name, amount in demand.items() if name not in names}

    counted, demand = apart(task.demand)
    ways = [apart(mode.demand) for mode in task.modes]
    for other, _ in ways[1:]:
        if other != ways[0][0]:
            every = other.keys() | ways[0][0].keys()
            name = min(n for n in every if other.get(n, 0) != ways[0][0].get(n, 0))
            raise BadRequest(
                f"task {task.id}: its modes take different amounts of {name}, which is counted for "
                "the whole cluster; give one amount for all modes"
            )
    modes = tuple(replace(m, demand=own) for m, (_, own) in zip(task.modes, ways, strict=True))
    counted |= ways[0][0] if ways else {}
    taken = {**counted, **dict.fromkeys(places, 1)}
    return replace(task, demand=demand, modes=modes, counted=taken)


class _Rules:
    """The running limits of one request."""

    def __init__(
        self, limits: RunningLimits, asked: Mapping[str, TaskLimits], tasks: list[Task]
    ) -> None:
        self.limits, self.asked = limits, asked
        self.array: dict[str, int] = {}
        self.single: set[tuple[str, str]] = set()
        for task in tasks:
            mine = asked.get(task.id, NO_LIMITS)
            if mine.array_limit is not None:
                head = _array_of(task.id)
                most = self.array.setdefault(head, mine.array_limit)
                if most != mine.array_limit:
                    raise BadRequest(
                        f"task {task.id}: array_limit is {mine.array_limit}, but {most} for "
                        f"another task of array {head}; give one number for all"
                    )
            if mine.singleton:
                self.single.add((task.owner, task.app))
        self.any = bool(self.array or self.single or limits.user or limits.account)

    def places_of(self, task: Task, runs: bool) -> dict[str, int]:
        """Running limits that a task takes a place of, each with the number of its places."""
        mine, found = self.asked.get(task.id, NO_LIMITS), {}
        head = _array_of(task.id)
        if head in self.array:
            found[f"array {head}"] = self.array[head]
        if (mine.singleton or runs) and (task.owner, task.app) in self.single:
            found[f"singleton {task.owner} {task.app}".rstrip()] = 1
        for what, name, most in (
            ("user", task.owner, self.limits.user),
            ("account", mine.account, self.limits.account),
        ):
            if name and (name in most or OTHERS in most):
                found[f"{what} {name}"] = most.get(name, most.get(OTHERS, 0))
        return found


def _array_of(task_id: str) -> str:
    head, line, index = task_id.rpartition("_")
    return head if line and index.isdigit() else task_id
