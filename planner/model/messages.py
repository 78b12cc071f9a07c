"""What master and planner say to each other, with a versioned JSON form.

``PlanRequest`` -> planner -> ``PlanResponse``; ``Event`` -> ``events.apply`` -> a new
snapshot. ``to_json`` and ``from_json`` are the only door to text: reading checks every
field and names the first wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from plancast.json_text import plain_text, refuse_repeated_keys
from plancast.planner.model.domain import (
    AmountWindow,
    BadRequest,
    ByClass,
    CountedResource,
    Dependency,
    DurationEstimate,
    Hourly,
    Mode,
    Outcome,
    Plan,
    Policy,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
    estimates_of,
)
from plancast.planner.model.faults import in_words
from plancast.wording import shorten

MANY_FAULTS = 100
MOST_SEED = 2**63 - 1
SCHEMA_VERSION = 2
"""Version of the JSON form that is written. 2 knows modes, budgets, and estimates by mode."""
READ_VERSIONS = (1, 2)
"""Versions of the JSON form that are read; a reader refuses any other."""

MOST_SECONDS = 1e8
"""Of a budget: three years."""
MOST_STEPS = 1 << 53
"""Of a budget."""

_STRICT_FIELDS = ConfigDict(extra="forbid", allow_inf_nan=False)


class Status(str, Enum):
    """How planning ended; "gave up" and "impossible" are different words."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    NO_PLAN_IN_TIME = "no_plan_in_time"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much work a solver may do.

    Parameters
    ----------
    seconds : float, optional
        Wall clock, from the call to the response.
    steps : int, optional
        Solver steps (A*: expansions; CP-SAT: thousandths of deterministic time); with
        `steps` alone a plan is byte-identical from run to run.
    """

    seconds: float | None = 10.0
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is None and self.steps is None:
            raise BadRequest("budget: give seconds or steps (or both)")
        if self.seconds is not None and not 0 <= self.seconds <= MOST_SECONDS:
            raise BadRequest(
                f"budget: seconds is {self.seconds}; it must lie in 0 to {MOST_SECONDS:g}"
            )
        if self.steps is not None and not 0 <= self.steps <= MOST_STEPS:
            raise BadRequest(f"budget: steps is {self.steps}; it must lie in 0 to {MOST_STEPS}")


def _check_version(version: int) -> None:
    if version not in READ_VERSIONS:
        readable = " and ".join(str(known) for known in READ_VERSIONS)
        raise BadRequest(f"schema_version is {version}; this planner reads {readable}")


_CLASS, _MODE = "\0class", "\0mode"
"""Marks of the two forms of a task's estimates; no field of a message is called so."""


def _form_of(estimates: Any) -> str:
    """Whether the estimates of one task are by machine class or by mode."""
    values = list(estimates.values()) if isinstance(estimates, Mapping) else []
    by_mode = values and all(isinstance(v, Mapping) and "levels" not in v for v in values)
    return _MODE if by_mode else _CLASS


_BY_TASK = Annotated[
    Annotated[ByClass, Tag(_CLASS)] | Annotated[Mapping[str, ByClass], Tag(_MODE)],
    Discriminator(_form_of),
]


EstimatesForm: Any = dict[str, _BY_TASK]
"""What ``from_mapping`` reads estimates by themselves as."""


@dataclass(frozen=True)
class PlanRequest:
    """All a planner needs to know, and all it may know.

    Parameters
    ----------
    request_id : str
    snapshot : Snapshot
    estimates : mapping of str to (mapping of str to DurationEstimate)
        Task id to machine class (``*`` for any) to estimate; of a task with modes, task id to
        mode to machine class. A class without an estimate is not eligible. Running tasks need
        estimates too, in the mode in which they run.
    policy : Policy
    incumbent : Plan, optional
        The plan in force, which ``moves`` compares with.
    budget : Budget
    seed : int
        0 to ``MOST_SEED``.
    schema_version : int
    """

    request_id: str
    snapshot: Snapshot
    estimates: Mapping[str, _BY_TASK]
    policy: Policy = field(default_factory=Policy)
    incumbent: Plan | None = None
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _check_version(self.schema_version)
        if not 0 <= self.seed <= MOST_SEED:
            raise BadRequest(f"seed is {self.seed}; it must lie in 0 to 2^63 - 1")
        for run in self.snapshot.running:
            self._check_run(run)
        for task in (*self.snapshot.pending, *(run.task for run in self.snapshot.running)):
            self._check_form(task)

    def _check_run(self, run: Running) -> None:
        """Refuse a running task of which nobody knows when it ends."""
        if not estimates_of(self.estimates, run.task.id, run.mode):
            where = f" in its mode {run.mode}" if run.mode else ""
            raise BadRequest(
                f"running task {run.task.id} has no estimate{where}; "
                "the planner must know when its resources come free; give it one"
            )

    def _check_form(self, task: Task) -> None:
        """Refuse estimates by mode of a task without modes, and the other way round."""
        by_mode = any(
            not isinstance(known, DurationEstimate)
            for known in self.estimates.get(task.id, {}).values()
        )
        if by_mode != bool(task.modes) and task.id in self.estimates:
            raise BadRequest(
                f"the estimates of task {task.id} are by {'mode' if by_mode else 'class'}, but "
                f"it has {'several modes' if task.modes else 'no modes'}"
            )

    def followed(
        self, snapshot: Snapshot, estimates: Mapping[str, _BY_TASK], names: Collection[str]
    ) -> PlanRequest:
        """The request after an event.

        Parameters
        ----------
        snapshot : Snapshot
            Of ``events.apply``.
        estimates : mapping
            All that are known by now.
        names : collection of str
            Tasks that are in another state than before, or have other estimates: only these are
            checked.

        Raises
        ------
        BadRequest
            As for a new request.
        """
        after = self.evolved(snapshot=snapshot, estimates=estimates)
        for name in names:
            run = snapshot.running_by_id.get(name)
            task = snapshot.pending_by_id.get(name) if run is None else run.task
            if run is not None:
                after._check_run(run)
            if task is not None:
                after._check_form(task)
        return after

    def evolved(self, **changes: Any) -> PlanRequest:
        """A copy with fields replaced by who has made sure that they fit: nothing is checked.

        To look at the estimates of thousands of tasks takes longer than to fold an event in.
        """
        copy = object.__new__(PlanRequest)
        copy.__dict__.update({**self.__dict__, **changes})
        return copy


@dataclass(frozen=True, slots=True)
class RiskReport:
    """What the executions of a plan cost under sampled run times.

    Parameters
    ----------
    measure : str
        ``mean``, or ``cvar:0.9``: the mean of the costliest tenth.
    samples : int
    level : float
        Quantile level at which the plan taken was made.
    value : float
        The measure of its cost.
    mean, cvar_90, worst : float
        Mean of its cost, mean of the costliest tenth, and the costliest.
    plain : float
        The measure of the plan that plain planning gives; never below `value`.
    candidates : int
        How many plans were compared.
    """

    measure: str
    samples: int
    level: float
    value: float
    mean: float
    cvar_90: float
    worst: float
    plain: float
    candidates: int


@dataclass(frozen=True)
class AutoChoice:
    """Which engines the solver ``auto`` took for a request, and why.

    Parameters
    ----------
    engines : mapping of str to int
        Name to the most threads that it searches on; side by side where there are several. None
        at all where the first plan was proven before any began.
    why : str
        In a phrase.
    """

    engines: Mapping[str, int]
    why: str

    def __str__(self) -> str:
        who = " and ".join(f"{name} ({most} threads)" for name, most in self.engines.items())
        return f"{who or 'none'}: {self.why}".replace("(1 threads)", "(1 thread)")


@dataclass(frozen=True)
class PlanResponse:
    """A plan, what it costs and why, or why there is none.

    Parameters
    ----------
    request_id : str
    snapshot_version : int
        Version of the snapshot that was planned; a master commits only if it still holds.
    status : Status
    plan : Plan, optional
    cost : float, optional
        Price of the plan, from ``evaluate``.
    terms : mapping of str to float
        Each cost term in its unit.
    lower_bound : float, optional
        No plan of the same tasks costs less.
    gap : float, optional
        ``(cost - lower_bound) / cost``; 0 where the cost is 0.
    moved : tuple of str
        Pending tasks whose worker or start changed against the incumbent.
    unplanned : mapping of str to str
        Tasks proven unplaceable, each with its reason; where workers drain before all can end,
        those too for which no room was found before.
    why : mapping of str to str
        For each task that waits: the constraint that holds it back.
    solver : str
        Which solver's plan this is.
    auto : AutoChoice, optional
        Where the engines were left to ``auto``.
    estimate_source : str
        Sources of the estimates, comma-separated.
    risk : RiskReport, optional
        Where the plan was made against the distribution of the run times.
    scenarios : mapping of str to float
        What the plan costs in each scenario of the policy: ``p30``, ..., ``limit``.
    wall_s : float
        Seconds from request to response.
    warning : str, optional
        What an engine did wrong: it failed, did not end in time, or claimed what is not so. The
        plan is the best that the others made.
    schema_version : int
    """

    request_id: str
    snapshot_version: int
    status: Status
    plan: Plan | None = None
    cost: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    lower_bound: float | None = None
    gap: float | None = None
    moved: tuple[str, ...] = ()
    unplanned: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    solver: str = ""
    auto: AutoChoice | None = None
    estimate_source: str = ""
    risk: RiskReport | None = None
    scenarios: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    warning: str | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _check_version(self.schema_version)


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """A new task waits."""

    at_s: int
    task: Task
    kind: Literal["task_submitted"] = "task_submitted"


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A pending task runs, one worker for each shard, in one of its modes if it has some.

    `devices` as in ``Running``. Of a task that runs already: which ones it was given.
    """

    at_s: int
    task: str
    workers: tuple[str, ...]
    mode: str = ""
    devices: tuple[tuple[int, ...], ...] = ()
    kind: Literal["task_started"] = "task_started"


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """A running task has ended."""

    at_s: int
    task: str
    outcome: Outcome = Outcome.COMPLETED
    kind: Literal["task_finished"] = "task_finished"


@dataclass(frozen=True, slots=True)
class TaskOverran:
    """A running task has outlived its estimate; time passes, nothing else changes."""

    at_s: int
    task: str
    kind: Literal["task_overran"] = "task_overran"


@dataclass(frozen=True, slots=True)
class TaskPreempted:
    """A running task was stopped for the sake of others; its work is lost, it is pending again."""

    at_s: int
    task: str
    kind: Literal["task_preempted"] = "task_preempted"


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """A pending or running task is wanted no more."""

    at_s: int
    task: str
    kind: Literal["task_cancelled"] = "task_cancelled"


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """A pending task is another one now, under its id: of another weight, limit, constraint."""

    at_s: int
    task: Task
    kind: Literal["task_changed"] = "task_changed"


@dataclass(frozen=True, slots=True)
class ResourceCounted:
    """The cluster has so many units of something from now on; tasks may name it after that."""

    at_s: int
    resource: CountedResource
    kind: Literal["resource_counted"] = "resource_counted"


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is gone; what ran there is pending again."""

    at_s: int
    worker: str
    kind: Literal["worker_lost"] = "worker_lost"


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A new worker is ready."""

    at_s: int
    worker: Worker
    kind: Literal["worker_joined"] = "worker_joined"


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """A worker takes no task that would end after `until_s`; None: it drains no more."""

    at_s: int
    worker: str
    until_s: int | None
    kind: Literal["worker_draining"] = "worker_draining"


@dataclass(frozen=True, slots=True)
class WorkerBlocked:
    """A worker is closed in other windows than before: maintenance, advance reservations."""

    at_s: int
    worker: str
    blocked: tuple[Window, ...]
    kind: Literal["worker_blocked"] = "worker_blocked"


Event = (
    TaskSubmitted
    | TaskStarted
    | TaskFinished
    | TaskOverran
    | TaskPreempted
    | TaskCancelled
    | TaskChanged
    | ResourceCounted
    | WorkerLost
    | WorkerJoined
    | WorkerDraining
    | WorkerBlocked
)
"""Everything that can happen to a cluster, distinguished by `kind` in JSON."""

_READ_STRICTLY: tuple[Any, ...] = (
    AmountWindow, AutoChoice, Budget, CountedResource, Dependency, DurationEstimate, Hourly, Mode,
    Plan, PlanRequest, PlanResponse, Policy, RiskReport, Running, Snapshot, Task, Worker,
)  # fmt: skip
for _kind in _READ_STRICTLY:
    # One place says how strictly JSON is read: a misspelt field must not pass in silence.
    _kind.__pydantic_config__ = _STRICT_FIELDS

_RATES = ("price_per_kwh", "carbon_kg_per_kwh")
_NUMBER, _BY_HOUR = "float", "Hourly"
"""What pydantic calls the two forms of a rate."""


def _is_other_form(fault: Any) -> bool:
    """Whether a fault is that a rate has one of its forms and not the other."""
    field_name, form = ["", "", *list(fault["loc"])][-2:]
    meant = _BY_HOUR if isinstance(fault["input"], Mapping) else _NUMBER
    return field_name in _RATES and form in (_NUMBER, _BY_HOUR) and form != meant


def _path_of(fault: Any) -> str:
    """Where a fault is, without what only pydantic knows of."""
    where, before = [], None
    for part in fault["loc"]:
        form_of_rate = before in _RATES and part in (_NUMBER, _BY_HOUR)
        if part not in (_CLASS, _MODE) and not form_of_rate:
            where.append(shorten(str(part)))
        before = part
    return ".".join(where)


Message = TypeVar("Message")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Building one takes milliseconds, so each is built once.
    if kind not in _ADAPTERS:
        told_apart = Annotated[Event, Field(discriminator="kind")]
        _ADAPTERS[kind] = TypeAdapter(told_apart if kind is Event else kind)
    return _ADAPTERS[kind]


def to_json(message: Any, *, indent: int | None = None) -> bytes:
    """A message (or any value of ``domain``) as JSON text, UTF-8."""
    return _adapter(type(message)).dump_json(message, indent=indent)


def from_json(kind: type[Message], text: bytes | str, *, source: str = "message") -> Message:
    """A message of the given kind from JSON text.

    Parameters
    ----------
    kind : type
        ``PlanRequest``, ``PlanResponse``, ``Event`` or any type of ``domain``.
    text : bytes or str
    source : str
        What to call the text in an error: a file name.

    Raises
    ------
    BadRequest
        One sentence with the source, the path of the first wrong field, and what is wrong.
    """
    try:
        text = plain_text(text)
    except ValueError as error:
        raise BadRequest(f"{source}: {error}") from None
    try:
        message: Message = _adapter(kind).validate_json(text)
        refuse_repeated_keys(text)
    except ValidationError as error:
        raise BadRequest(f"{source}: {first_fault(error)}") from None
    except ValueError as error:
        raise BadRequest(f"{source}: {error}") from None
    return message


def from_mapping(kind: type[Message], value: Any, *, source: str = "message") -> Message:
    """The same as ``from_json``, from Python dictionaries and lists (a YAML file, say)."""
    try:
        message: Message = _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise BadRequest(f"{source}: {first_fault(error)}") from None
    return message


def first_fault(error: ValidationError) -> str:
    """The first fault of a pydantic error as "field: what is wrong"."""
    fault: Any
    if error.error_count() > MANY_FAULTS:
        # As text: a dictionary for each of a million faults would take gigabytes.
        text = error.json(include_url=False, include_input=False)
        fault = {**json.JSONDecoder().raw_decode(text, 1)[0], "input": None}
    else:
        faults: list[Any] = error.errors(include_url=False)
        # Of a rate, which is a number or goes by the hour, the form that was meant.
        fault = next((f for f in faults if not _is_other_form(f)), faults[0])
    where = _path_of(fault)
    if fault["type"] == "json_invalid":
        return f"is not JSON: {fault['ctx']['error']}"
    text = in_words(fault)
    return f"{where}: {text}" if where else text
