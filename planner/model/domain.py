"""The nouns of a planning problem: frozen values, integer seconds, integer resources.

Times are whole seconds since the Unix epoch, durations whole seconds. Resources are
integers: ``cpu`` in millicores, ``mem`` in MiB, ``gpu`` in milli-GPU, any further name
in a unit of its own. Every value checks itself when it is made, so that a wrong one
cannot travel.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import Any

from plancast.planner.model import labels

ANY_CLASS = "*"
"""Key of an estimate that holds for every machine class without one of its own."""

HOUR_S = 3600.0
WATT_SECONDS_PER_KWH = 3.6e6
RELATIVE_TOLERANCE = 1e-6
"""How far a claimed cost or bound may be from the evaluated one, relative."""
ZERO_COST = 1e-12
"""A bound so little below 0 proves a cost of 0."""

LIMIT = 1.0
"""The scenario in which each task runs up to its kill limit."""

LIMIT_LEVEL = 0.98
"""Level that stands for the limit of a task without one."""

SCENARIOS = (0.3, 0.5, 0.7, 0.9, LIMIT)
"""Scenarios of a common level in which plans made from distributions are priced by default."""

MIN_STRETCH_S = 10
"""Floor of the planned duration in the bounded slowdown, seconds (Feitelson's bound)."""


MOST_TIME_S = 1 << 48
"""Times lie within so many seconds of 0, durations and waits below: nine million years."""

MOST_END_S = 1 << 52
"""Planned times lie within so many seconds of 0."""

MOST_AMOUNT = 1 << 50
"""No amount of a resource is larger: a PiB, in bytes."""

MOST_FACTOR = 1e12
"""No weight, price or power is larger: costs stay far from where floats end."""

MOST_SHARDS = 1_000_000
"""No gang has more pieces."""

GPU, DEVICE = "gpu", 1000
"""The resource that may come as devices, and what one of them has of it."""

MOST_DEVICES = 62
"""No worker has more: a set of them is the bits of a number."""

DAY_S = 86_400
"""Seconds of a day."""

MOST_STEPS_A_DAY = 1_440
"""What changes with the hour changes no more often: once a minute."""


class BadRequest(ValueError):
    """A request that cannot be planned because it is malformed; the text says what to repair."""


def in_words(resource: str, amount: int, *, unit: bool = True) -> str:
    """An amount of a resource as people write it: ``16 cores``, ``0.5 gpu``, ``4096 MiB``.

    Parameters
    ----------
    resource : str
    amount : int
        As the planner counts: millicores, MiB, milli-GPU, units of its own.
    unit : bool
        Whether the unit is named.
    """
    number = f"{amount / 1000:g}" if resource in ("cpu", "gpu") else str(amount)
    if resource in ("cpu", "gpu") and float(number) * 1000 != amount:
        number = str(amount / 1000)
    if not unit:
        return number
    cores = "core" if number == "1" else "cores"
    return number + {"cpu": f" {cores}", "mem": " MiB", "gpu": " gpu"}.get(
        resource, f" of {resource}"
    )


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise BadRequest(sentence)


def _check_amounts(owner: str, what: str, amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        _require(amount >= 0, f"{owner}: {what} of {name} is {amount}; it must be 0 or more")
        _require(
            amount <= MOST_AMOUNT,
            f"{owner}: {what} of {name} is {amount}; it must be at most {MOST_AMOUNT} (2^50): "
            "count it in a larger unit",
        )


def _check_times(owner: str, **times: int | None) -> None:
    """Refuse times, and durations, of which sums could leave 64 bits."""
    for name, at_s in times.items():
        if at_s is not None and not -MOST_TIME_S <= at_s <= MOST_TIME_S:
            raise BadRequest(
                f"{owner}: {name} is {at_s} s; it must lie within {MOST_TIME_S} s (2^48) of 0. "
                "Is it in milliseconds or nanoseconds?"
            )


def _check_factor(owner: str, what: str, value: float) -> None:
    _require(
        math.isfinite(value) and 0 <= value <= MOST_FACTOR,
        f"{owner}: {what} is {value}; it must be a finite number from 0 to {MOST_FACTOR:g}",
    )


class DependencyKind(str, Enum):
    """What a task waits for, by Slurm's words."""

    AFTEROK = "afterok"
    """Its predecessor has completed."""
    AFTERANY = "afterany"
    """It has ended, however."""
    AFTER = "after"
    """It has started."""
    AFTERNOTOK = "afternotok"
    """It has ended and not completed; planned only where that is known."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """One task that another one waits for.

    Parameters
    ----------
    task : str
        The predecessor.
    kind : DependencyKind
    lag_s : int
        Seconds that must have passed since then.
    """

    task: str
    kind: DependencyKind = DependencyKind.AFTEROK
    lag_s: int = 0

    def __post_init__(self) -> None:
        _require(
            self.lag_s >= 0,
            f"a dependency on {self.task}: lag_s is {self.lag_s}; it must be 0 or more",
        )
        _check_times(f"a dependency on {self.task}", lag_s=self.lag_s)

    def is_met_by(self, outcome: Outcome) -> bool:
        """Whether a predecessor that has ended so lets the task run."""
        if self.kind is DependencyKind.AFTEROK:
            return outcome is Outcome.COMPLETED
        return self.kind is not DependencyKind.AFTERNOTOK or outcome is not Outcome.COMPLETED

    def __str__(self) -> str:
        lag = f"+{self.lag_s}s" if self.lag_s else ""
        return f"{self.kind.value}:{self.task}{lag}"


@dataclass(frozen=True, slots=True)
class Mode:
    """One of several ways in which a task may be done.

    Parameters
    ----------
    id : str
        Unique in its task.
    demand : mapping of str to int
        As in ``Task``. Of a name in ``Snapshot.budgets`` the task as a whole consumes so much
        when it starts, however many shards it has.
    shards : int
    requires : tuple of str
    requested_s : int, optional
        As in ``Task``.
    """

    id: str
    demand: Mapping[str, int]
    shards: int = 1
    requires: tuple[str, ...] = ()
    requested_s: int | None = None

    def __post_init__(self) -> None:
        _require(bool(self.id), "a mode has an empty id; give every mode of a task a name")
        _check_way(f"mode {self.id}", self)


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work that is to be placed once.

    Parameters
    ----------
    id : str
        Unique in a request.
    demand : mapping of str to int
        What each shard takes of its worker while it runs (cpu in millicores, mem in MiB,
        gpu in milli-GPU).
    release_s : int
        Earliest start, seconds since the epoch.
    deadline_s : int, optional
        When the task should have ended, seconds since the epoch.
    weight : float
        Priority: how much an hour of this task's lateness or waiting counts.
    owner, app : str
        Who submitted it, and what it runs.
    requires : tuple of str
        Label expressions (``labels``), all of which a worker must satisfy: ``gpu``, ``a|b``,
        ``!c``, ``gpu&(a|b)``, ``[a|b]``.
    after : tuple of str
        Tasks that must have completed before this one starts.
    requested_s : int, optional
        Kill limit in seconds.
    shards : int
        Size of a gang: identical pieces that start together and end together, when the
        slowest of them ends. Pieces may share a worker.
    preemptible : bool
        Whether it may be stopped at the time of planning, and its work lost.
    modes : tuple of Mode
        Where it may be done in several ways: all of them. The task's own `demand` is empty then,
        and it has no `shards`, `requires` and `requested_s` of its own.
    counted : mapping of str to int
        What the task as a whole, not each shard, takes of the cluster's counted resources while
        it runs: licences, or one of the places of a running limit.
    exclusive : bool
        Whether no other task may run on any of its workers while it does; its own pieces may
        share one.
    most_per_worker : int, optional
        So many pieces of a gang at most on one worker: 1 spreads it.
    most_workers : int, optional
        Its pieces on so many workers at most: 1 packs them together.
    depends : tuple of Dependency
        What it waits for besides `after`: ends of any outcome, starts, lags.
    """

    id: str
    demand: Mapping[str, int]
    release_s: int = 0
    deadline_s: int | None = None
    weight: float = 1.0
    owner: str = ""
    app: str = ""
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requested_s: int | None = None
    shards: int = 1
    preemptible: bool = False
    modes: tuple[Mode, ...] = ()
    counted: Mapping[str, int] = field(default_factory=dict)
    exclusive: bool = False
    most_per_worker: int | None = None
    most_workers: int | None = None
    depends: tuple[Dependency, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(self.id), "a task has an empty id; give every task a name")
        name = f"task {self.id}"
        _check_way(name, self)
        if self.counted:
            _check_amounts(name, "counted", self.counted)
        _check_times(name, release_s=self.release_s, deadline_s=self.deadline_s)
        _check_factor(name, "weight", self.weight)
        _require(
            self.deadline_s is None or self.deadline_s >= self.release_s,
            f"{name}: deadline_s {self.deadline_s} lies before release_s {self.release_s}",
        )
        _require(
            len(set(self.after)) == len(self.after), f"{name}: after names a task more than once"
        )
        _require(self.id not in self.after, f"{name}: after names the task itself")
        if self.modes:
            self._check_modes(name)
        if self.depends:
            names = [d.task for d in self.depends]
            _require(
                len({*names, *self.after}) == len(names) + len(self.after),
                f"{name}: after and depends name a task more than once",
            )
            _require(self.id not in names, f"{name}: depends names the task itself")
        if self.most_per_worker is not None or self.most_workers is not None:
            for way in self.modes or (self,):
                self._check_shape(name, way.shards)

    def _check_modes(self, name: str) -> None:
        ids = [mode.id for mode in self.modes]
        _require(len(set(ids)) == len(ids), f"{name}: two of its modes have the same id")
        own = {
            "demand": self.demand, "shards": self.shards != 1, "requires": self.requires,
            "requested_s": self.requested_s is not None,
        }  # fmt: skip
        for field_name, given in own.items():
            _require(
                not given, f"{name}: has modes and {field_name} of its own; write it in each mode"
            )

    def _check_shape(self, name: str, shards: int) -> None:
        each, workers = self.most_per_worker, self.most_workers
        for key, value in (("most_per_worker", each), ("most_workers", workers)):
            _require(
                value is None or 1 <= value <= MOST_SHARDS,
                f"{name}: {key} is {value}; it must lie in 1 to {MOST_SHARDS}",
            )
        _require(
            each is None or workers is None or each * workers >= shards,
            f"{name}: {shards} shards do not fit on {workers} workers with at most {each} "
            "on each; raise most_workers or most_per_worker",
        )

    @property
    def predecessors(self) -> tuple[str, ...]:
        """Every task that it waits for, in whatever way."""
        return (*self.after, *(d.task for d in self.depends)) if self.depends else self.after

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """The same with kinds and lags: ``afterok`` for those of `after`."""
        return (*(Dependency(name) for name in self.after), *self.depends)

    def has_mode(self, mode: str) -> bool:
        """Whether there is a mode of this id; a task without modes has the one called ""."""
        return any(known.id == mode for known in self.modes) if self.modes else not mode

    def in_mode(self, mode: str) -> Task:
        """The task as it is done in one of its modes, without modes; itself if it has none.

        Raises
        ------
        BadRequest
            Where it has no such mode.
        """
        _require(self.has_mode(mode), f"task {self.id} has no mode {mode!r}")
        if not self.modes:
            return self
        way = next(known for known in self.modes if known.id == mode)
        return replace(
            self, modes=(), demand=way.demand, shards=way.shards, requires=way.requires,
            requested_s=way.requested_s,
        )  # fmt: skip


def _check_way(name: str, way: Mode | Task) -> None:
    """Refuse what is wrong with the way in which a task is done, of itself or in a mode."""
    _check_amounts(name, "demand", way.demand)
    _check_times(name, requested_s=way.requested_s)
    _require(
        1 <= way.shards <= MOST_SHARDS,
        f"{name}: shards is {way.shards}; it must lie in 1 to {MOST_SHARDS}",
    )
    _require(
        way.requested_s is None or way.requested_s > 0,
        f"{name}: requested_s is {way.requested_s}; it must be more than 0",
    )
    if way.requires:
        _check_requires(name, way)


def _check_requires(name: str, way: Mode | Task) -> None:
    try:
        for text in way.requires:
            labels.parse(text)
    except labels.BadExpression as error:
        raise BadRequest(f"{name}: {error}") from None
    _require(
        sum("[" in text for text in way.requires) <= 1,
        f"{name}: requires has more than one [ ]; a gang is held together by one",
    )


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open stretch of time ``[start_s, end_s)``, seconds since the epoch."""

    start_s: int
    end_s: int

    def __post_init__(self) -> None:
        _check_times("a window", start_s=self.start_s, end_s=self.end_s)
        _require(
            self.end_s > self.start_s,
            f"a window ends at {self.end_s}, not after its start {self.start_s}",
        )


@dataclass(frozen=True, slots=True)
class AmountWindow:
    """Over ``[start_s, end_s)`` there is another amount of a counted resource."""

    start_s: int
    end_s: int
    amount: int

    def __post_init__(self) -> None:
        Window(self.start_s, self.end_s)
        _check_amounts("a window", "amount", {"the resource": self.amount})


@dataclass(frozen=True, slots=True)
class CountedResource:
    """What the whole cluster has so many units of: licences, places of a running limit.

    Parameters
    ----------
    id : str
        Unique in a snapshot, and the name of no resource of a worker.
    amount : int
        Units that all running tasks may hold together.
    windows : tuple of AmountWindow
        Where there are more or fewer, in order of time and without overlap.
    """

    id: str
    amount: int
    windows: tuple[AmountWindow, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(self.id), "a counted resource has an empty name; give it one")
        name = f"counted resource {self.id}"
        _check_amounts(name, "amount", {self.id: self.amount})
        for before, after in pairwise(self.windows):
            _require(
                before.end_s <= after.start_s,
                f"{name}: the window from {after.start_s} starts before the one ahead of it ends "
                f"({before.end_s}); list windows in order of time, without overlap",
            )

    def at(self, at_s: int) -> int:
        """The amount at a moment, seconds since the epoch."""
        for window in self.windows:
            if window.start_s <= at_s < window.end_s:
                return window.amount
        return self.amount


@dataclass(frozen=True, slots=True)
class Hourly:
    """A number that changes with the hour of the day, the same every day: a tariff, a grid's mix.

    Parameters
    ----------
    at_s : tuple of int
        Seconds after midnight from which each value holds; the first is 0.
    values : tuple of float
        0 or more.
    utc_offset_s : int
        How far the clock that the hours are of is ahead of UTC, seconds. It is never changed.
    """

    at_s: tuple[int, ...]
    values: tuple[float, ...]
    utc_offset_s: int = 0

    def __post_init__(self) -> None:
        _require(
            0 < len(self.at_s) == len(self.values) <= MOST_STEPS_A_DAY,
            f"hours: {len(self.at_s)} times and {len(self.values)} values; give as many of one as "
            f"of the other, at least one and at most {MOST_STEPS_A_DAY}",
        )
        _require(self.at_s[0] == 0, "hours: the first value must hold from midnight (00:00) on")
        for before, after in pairwise((*self.at_s, DAY_S)):
            _require(
                before < after,
                f"hours: {after} s after midnight follows {before}; list them in order of time, "
                f"each below {DAY_S}",
            )
        for at_s, value in zip(self.at_s, self.values, strict=True):
            when = f"{at_s // 3600:02}:{at_s // 60 % 60:02}"
            _require(
                not value < 0,
                f"hours: the value from {when} is {value:g}; negative prices and intensities are "
                "not planned with, for using more would save: write 0",
            )
            _check_factor("hours", f"the value from {when}", value)
        _require(
            abs(self.utc_offset_s) < DAY_S,
            f"hours: utc_offset_s is {self.utc_offset_s}; it must lie within a day",
        )

    def at(self, moment_s: int) -> float:
        """The value at a moment, seconds since the epoch."""
        second = (moment_s + self.utc_offset_s) % DAY_S
        return self.values[bisect_right(self.at_s, second) - 1]


@dataclass(frozen=True, slots=True)
class Worker:
    """A machine that runs tasks side by side up to its capacity.

    Parameters
    ----------
    id : str
        Unique in a snapshot.
    capacity : mapping of str to int
        What it has of each resource, running tasks included.
    labels : frozenset of str
        What ``Task.requires`` is matched with.
    machine_class : str
        Which duration estimate of a task holds here.
    free_from_s : int, optional
        Takes no new task before this time; by default it is free now.
    until_s : int, optional
        Drains: no task may end after this time.
    blocked : tuple of Window
        Maintenance and advance reservations: no planned task overlaps one.
    idle_w, busy_w : float
        Power when switched on, and on top of it at full use, watts.
    boot_kwh : float
        Energy to switch it on; it is on already when something runs on it.
    price_per_kwh : float or Hourly
        What its energy costs, in the currency of the tariff.
    carbon_kg_per_kwh : float or Hourly
        Grid intensity where it stands: kilograms of CO2 equivalent for each kilowatt-hour.
    health : float
        Chance to survive an hour, in (0, 1].
    devices : bool
        Whether its ``gpu`` is so many whole devices, 1000 each: a piece takes some of them whole
        or a share of one (``devices``). Else it is an amount like any other.
    """

    id: str
    capacity: Mapping[str, int]
    labels: frozenset[str] = frozenset()
    machine_class: str = "default"
    free_from_s: int | None = None
    until_s: int | None = None
    blocked: tuple[Window, ...] = ()
    idle_w: float = 0.0
    busy_w: float = 0.0
    boot_kwh: float = 0.0
    price_per_kwh: float | Hourly = 0.0
    carbon_kg_per_kwh: float | Hourly = 0.0
    health: float = 1.0
    devices: bool = False

    def __post_init__(self) -> None:
        _require(bool(self.id), "a worker has an empty id; give every worker a name")
        name = f"worker {self.id}"
        _check_amounts(name, "capacity", self.capacity)
        _require(
            self.machine_class != ANY_CLASS,
            f"{name}: machine_class '*' is the name for any class; give it another",
        )
        _check_times(name, free_from_s=self.free_from_s, until_s=self.until_s)
        for key in ("idle_w", "busy_w", "boot_kwh", "price_per_kwh", "carbon_kg_per_kwh"):
            if not isinstance(value := getattr(self, key), Hourly):
                _check_factor(name, key, value)
        _require(0 < self.health <= 1, f"{name}: health is {self.health}; it must lie in (0, 1]")
        if self.devices:
            have = self.capacity.get(GPU, 0)
            _require(
                have % DEVICE == 0 and have <= MOST_DEVICES * DEVICE,
                f"{name}: has {in_words(GPU, have)} as devices; give a whole number of them, at "
                f"most {MOST_DEVICES}",
            )

    @property
    def device_count(self) -> int:
        """How many devices it has; 0 where its ``gpu`` is an amount like any other."""
        return self.capacity.get(GPU, 0) // DEVICE if self.devices else 0

    def free_at(self, now_s: int) -> int:
        """First moment from now on at which it may take a new task."""
        return now_s if self.free_from_s is None else max(now_s, self.free_from_s)

    def dominant_share(self, demand: Mapping[str, int]) -> float:
        """Largest share of any one resource that `demand` takes here, in [0, 1] where it fits."""
        most = 0.0
        for name, amount in demand.items():
            have = self.capacity.get(name, 0)
            if amount > 0 and have > 0:
                most = max(most, amount / have)
        return most

    def satisfies(self, requires: Sequence[str]) -> bool:
        """Whether every label expression in `requires` holds."""
        return not requires or labels.holds(requires, self.labels)


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs now, one worker for each of its shards, since `start_s`.

    `mode` is the one of its modes that it runs in; "" where it has none. `devices` are those that
    each piece has of its worker, by number from 0; where none are named they are not known
    (``devices.filled``).
    """

    task: Task
    workers: tuple[str, ...]
    start_s: int
    mode: str = ""
    devices: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        _check_times(f"running task {self.task.id}", start_s=self.start_s)
        _require(
            self.task.has_mode(self.mode),
            f"running task {self.task.id}: has no mode {self.mode!r}"
            + (f"; it has {', '.join(m.id for m in self.task.modes)}" if self.task.modes else ""),
        )
        shards = self.done.shards
        _require(
            len(self.workers) == shards,
            f"running task {self.task.id}: {len(self.workers)} workers, {shards} shards",
        )
        _require(
            len(self.devices) in (0, shards),
            f"running task {self.task.id}: devices of {len(self.devices)} pieces, {shards} shards; "
            "name those of every piece, or none",
        )

    @property
    def done(self) -> Task:
        """The task as it is done in its mode."""
        return self.task.in_mode(self.mode) if self.task.modes else self.task


class Outcome(str, Enum):
    """How a task ended. Only a completed one satisfies those that have it in `after`."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Finished:
    """A task that has ended; `start_s` is when it started, where that is known."""

    id: str
    end_s: int
    outcome: Outcome = Outcome.COMPLETED
    start_s: int | None = None

    def __post_init__(self) -> None:
        _check_times(f"finished task {self.id}", end_s=self.end_s, start_s=self.start_s)


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
        _require(
            bool(self.workers), "the cluster has no workers; list at least one under 'workers'"
        )
        _check_times("the snapshot", now_s=self.now_s)
        _check_amounts("the snapshot", "the budget", self.budgets)
        for name in self.budgets:
            owner = next((w.id for w in self.workers if name in w.capacity), None)
            _require(
                owner is None,
                f"budgets names {name!r}, which worker {owner} has as a resource; rename one",
            )
        _require_unique("worker", [w.id for w in self.workers])
        task_ids = (
            [t.id for t in self.pending]
            + [r.task.id for r in self.running]
            + [f.id for f in self.finished]
        )
        _require_unique("task", task_ids)
        known_workers = set(self.worker_by_id)
        for run in self.running:
            for worker in run.workers:
                _require(
                    worker in known_workers,
                    f"running task {run.task.id}: its worker {worker!r} is not in the cluster",
                )
            _require(
                run.start_s <= self.now_s,
                f"running task {run.task.id}: start_s {run.start_s} lies after now_s {self.now_s}",
            )
        self._check_predecessors(set(task_ids))
        _require_unique("counted resource", [c.id for c in self.counted])
        for name in self.counted_by_id.keys() & self.budgets.keys():
            _require(False, f"{name} is a budget and a counted resource; rename one")
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
                _require(
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
            _require(
                len(set(held)) == len(held) == takes and all(0 <= d < have for d in held),
                f"running task {run.task.id}: holds devices {list(held)} of worker {name}, which "
                f"has {have}; a piece takes {takes}",
            )

    def _check_predecessors(self, known_tasks: set[str]) -> None:
        for task in self.pending:
            for before in task.predecessors:
                _require(
                    before in known_tasks,
                    f"task {task.id}: after names {before!r}, which is not in the request",
                )
            if task.depends:
                self.check_known_to_run(task)
        cycle = find_cycle({t.id: t.predecessors for t in self.pending})
        _require(not cycle, f"precedence has a cycle: {' -> '.join(cycle)}; remove one 'after'")

    def check_capacity(self, worker: Worker) -> None:
        """Refuse a worker that has what is counted for the whole cluster (``BadRequest``)."""
        for name in worker.capacity:
            _require(
                name not in self.counted_by_id,
                f"worker {worker.id}: has {name}, which is counted for the whole cluster; keep one "
                "of the two",
            )

    def check_counted(self, task: Task) -> None:
        """Refuse a task that takes what the cluster does not count (``BadRequest``)."""
        for name in task.counted:
            _require(
                name in self.counted_by_id,
                f"task {task.id}: takes {name!r}, which the cluster does not count; list it under "
                "the cluster's resources",
            )

    def check_known_to_run(self, task: Task) -> None:
        """Refuse a task of which nobody knows yet whether it will run: ``afternotok``."""
        for on in task.depends:
            _require(
                on.kind is not DependencyKind.AFTERNOTOK or on.task in self.finished_by_id,
                f"task {task.id}: afternotok:{on.task} cannot be planned before {on.task} has "
                "ended: whether the task will run is not known; submit it then",
            )

    def unmet(self, task: Task) -> list[str]:
        """What of its dependencies a task still waits for, or waits for in vain, in words."""
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

    @property
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

    def refuse_devices(self, who: str, *, all_of_them: bool = False) -> None:
        """Refuse devices that `who` cannot plan (``BadRequest``): shared ones, or `all_of_them`."""
        if self.shares_devices or (all_of_them and self.has_devices):
            name = next(worker.id for worker in self.workers if worker.devices)
            raise BadRequest(
                f"worker {name} has GPUs as devices of which tasks take shares, which {who} cannot "
                "tell apart; leave its `devices` out"
                if not all_of_them
                else f"worker {name} has GPUs as devices, which {who} does not know; leave its "
                "`devices` out"
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
    "pending": ("pending_by_id",),
    "running": ("running_by_id",),
    "finished": ("finished_by_id",),
    "counted": ("counted_by_id",),
}
"""Field of a snapshot to what is cached of it."""


def _require_unique(what: str, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        _require(name not in seen, f"{what} {name} is listed twice; ids must be unique")
        seen.add(name)


def find_cycle(after: Mapping[str, Sequence[str]]) -> list[str]:
    """One cycle of a precedence relation as a list of ids (first = last), or [] if it has none.

    Parameters
    ----------
    after : mapping of str to sequence of str
        Task to its predecessors; predecessors that are no keys are ignored.
    """
    done: set[str] = set()
    for root in after:
        if root in done:
            continue
        path: list[str] = [root]
        on_path = {root}
        stack = [iter(after[root])]
        while stack:
            step = next((p for p in stack[-1] if p in after and p not in done), None)
            if step is None:
                done.add(path[-1])
                on_path.discard(path.pop())
                stack.pop()
            elif step in on_path:
                return [*path[path.index(step) :], step]
            else:
                path.append(step)
                on_path.add(step)
                stack.append(iter(after[step]))
    return []


@dataclass(frozen=True, slots=True)
class DurationEstimate:
    """Quantiles of one task's run time on one machine class.

    Parameters
    ----------
    levels : tuple of float
        Strictly increasing, each in (0, 1).
    seconds : tuple of int
        Non-decreasing, at least 1; ``seconds[k]`` is the quantile at ``levels[k]``.
    source : str
        Who says so: ``model``, ``requested``, ``oracle``, ...

    Notes
    -----
    The quantile function Q is linear between the levels and constant beyond them, so that
    a single level makes a certain duration.
    """

    levels: tuple[float, ...]
    seconds: tuple[int, ...]
    source: str = ""

    def __post_init__(self) -> None:
        # Written out, not through _require: a request holds tens of thousands of these, and
        # an f-string costs more than the check.
        if not 0 < len(self.levels) == len(self.seconds):
            raise BadRequest(
                f"an estimate has {len(self.levels)} levels and {len(self.seconds)} seconds; "
                "it needs as many of one as of the other, and at least one"
            )
        previous_level, previous_s = 0.0, 1
        for level, seconds in zip(self.levels, self.seconds, strict=True):
            if not previous_level < level < 1:
                raise BadRequest(
                    f"estimate levels {self.levels} must be strictly increasing within (0, 1)"
                )
            if seconds < previous_s:
                raise BadRequest(
                    f"estimate seconds {self.seconds} must be non-decreasing and at least 1"
                )
            previous_level, previous_s = level, seconds
        if previous_s > MOST_TIME_S:
            raise BadRequest(
                f"an estimate is {previous_s} s; it must be at most {MOST_TIME_S} s (2^48). "
                "Is it in milliseconds or nanoseconds?"
            )

    @classmethod
    def certain(cls, seconds: int, source: str = "") -> DurationEstimate:
        """An estimate without spread: every quantile is `seconds`."""
        return cls((0.5,), (seconds,), source)

    def at(self, level: float) -> int:
        """Quantile at `level`, whole seconds, rounded up."""
        k = bisect_left(self.levels, level)
        if k < len(self.levels) and self.levels[k] == level:
            return math.ceil(self.seconds[k])
        return max(1, math.ceil(self._quantile(level) - 1e-9))

    def remaining_at(self, level: float, elapsed_s: int) -> int:
        """Quantile at `level` of the time still to run after `elapsed_s`, at least 1 second.

        Notes
        -----
        ``Q(F(e) + p (1 - F(e))) - e`` while the elapsed time e is below the highest known
        quantile. Beyond it the estimate is refuted, and a Pareto tail of index 1 takes
        over: the remaining time at level p is ``e p / (1 - p)``, so that a task that has
        overrun is expected to run as long again (median).

        References
        ----------
        Harchol-Balter, Downey (1997), "Exploiting process lifetime distributions for
        dynamic load balancing", doi:10.1145/263326.263344.
        """
        if elapsed_s <= 0:
            return self.at(level)
        if elapsed_s >= self.seconds[-1]:
            return max(1, math.ceil(elapsed_s * level / (1 - level) - 1e-9))
        passed = self._share_ended_by(elapsed_s)
        return max(1, math.ceil(self._quantile(passed + level * (1 - passed)) - elapsed_s - 1e-9))

    def _quantile(self, level: float) -> float:
        k = bisect_left(self.levels, level)
        if k == 0:
            return float(self.seconds[0])
        if k == len(self.levels):
            return float(self.seconds[-1])
        share = (level - self.levels[k - 1]) / (self.levels[k] - self.levels[k - 1])
        return self.seconds[k - 1] + share * (self.seconds[k] - self.seconds[k - 1])

    def _share_ended_by(self, elapsed_s: int) -> float:
        k = bisect_right(self.seconds, elapsed_s)
        if k == 0:
            return 0.0
        low, high = self.seconds[k - 1], self.seconds[k]
        return self.levels[k - 1] + (self.levels[k] - self.levels[k - 1]) * (elapsed_s - low) / (
            high - low
        )


ByClass = Mapping[str, DurationEstimate]
"""Machine class (or ``*``) to estimate."""

Estimates = Mapping[str, ByClass | Mapping[str, ByClass]]
"""Task id to its estimates by machine class; of a task with modes, mode to those."""


def estimates_of(estimates: Estimates, task_id: str, mode: str = "") -> ByClass:
    """The estimates of a task, done in a mode, by machine class; empty where there are none."""
    known: Any = estimates.get(task_id, {})
    found: ByClass = known.get(mode, {}) if mode else known
    return found


def every_estimate(estimates: Estimates) -> Iterator[DurationEstimate]:
    """All estimates of all tasks, modes and machine classes."""
    for known in estimates.values():
        for found in known.values():
            if isinstance(found, DurationEstimate):
                yield found
            else:
                yield from found.values()


def estimate_for(
    estimates: Estimates, task_id: str, machine_class: str, mode: str = ""
) -> DurationEstimate | None:
    """The estimate of a task on a machine class, or None where that class is not eligible."""
    by_class: Any = estimates.get(task_id)
    if by_class is not None and mode:
        by_class = by_class.get(mode)
    if by_class is None:
        return None
    found: DurationEstimate | None = by_class.get(machine_class) or by_class.get(ANY_CLASS)
    return found


@dataclass(frozen=True, slots=True)
class Prices:
    """What one unit of each cost term costs; see ``evaluate.terms`` for the units.

    The defaults make an hour of anybody's lateness ten times as costly as an hour of
    waiting, and an hour of waiting as costly as an hour of the whole batch.
    """

    makespan_h: float = 1.0
    late_h: float = 10.0
    misses: float = 1.0
    wait_h: float = 1.0
    stretch: float = 0.0
    kwh: float = 0.0
    unfair_h: float = 0.0
    imbalance_h: float = 0.0
    failures: float = 0.0
    moves: float = 0.0
    carbon_kg: float = 0.0
    energy_cost: float = 0.0

    def __post_init__(self) -> None:
        for name in TERMS:
            _check_factor("prices", f"price of {name}", getattr(self, name))

    @classmethod
    def for_makespan(cls) -> Prices:
        """An hour of makespan costs 1 and nothing else anything."""
        return cls(**{term: float(term == "makespan_h") for term in TERMS})

    @property
    def makespan_alone(self) -> bool:
        """Whether the makespan has a price and nothing else."""
        return self.makespan_h > 0 and not any(self.of(t) for t in TERMS if t != "makespan_h")

    def of(self, term: str) -> float:
        """The price of one term by its name."""
        return float(getattr(self, term))


TERMS: tuple[str, ...] = tuple(f.name for f in fields(Prices))
"""Names of the cost terms, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants: prices, and the few things that are not for sale.

    Parameters
    ----------
    prices : Prices
    level : float
        The quantile of the duration estimates that a plan reserves.
    hard_deadlines : bool
        Whether a missed deadline makes a plan invalid rather than costly.
    max_wait_s : int, optional
        No task may start later than this after its release (or after now, if later).
    max_stretch : float, optional
        No task's bounded slowdown may exceed this.
    move_tolerance_s : int
        A start later than the incumbent's by more than this counts as a move.
    scenarios : tuple of float
        Levels at which the order of a plan is priced, all tasks at the same one; it costs least
        on average over them. 1 is the scenario in which each task runs up to its kill limit
        (without one, to its 98% quantile). Empty: the plan costs least at `level`.
    """

    prices: Prices = field(default_factory=Prices)
    level: float = 0.8
    hard_deadlines: bool = False
    max_wait_s: int | None = None
    max_stretch: float | None = None
    move_tolerance_s: int = 0
    scenarios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _require(0 < self.level < 1, f"policy: level is {self.level}; it must lie in (0, 1)")
        for one in self.scenarios:
            _require(0 < one <= LIMIT, f"policy: scenario {one}; it must lie in (0, 1]")
        _require(
            len(set(self.scenarios)) == len(self.scenarios),
            "policy: scenarios names a level more than once",
        )
        _require(
            self.max_wait_s is None or self.max_wait_s >= 0,
            f"policy: max_wait_s is {self.max_wait_s}; it must be 0 or more",
        )
        _require(
            self.max_stretch is None or self.max_stretch >= 1,
            f"policy: max_stretch is {self.max_stretch}; it must be 1 or more",
        )
        _require(
            self.move_tolerance_s >= 0,
            f"policy: move_tolerance_s is {self.move_tolerance_s}; it must be 0 or more",
        )
        _check_times("policy", max_wait_s=self.max_wait_s, move_tolerance_s=self.move_tolerance_s)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task on its workers (one for each shard) over ``[start_s, end_s)``.

    `mode` is the one of its modes that is chosen; "" where it has none. `devices` are those that
    each piece has of its worker, by number from 0; empty where no worker's GPUs are devices.
    """

    task: str
    workers: tuple[str, ...]
    start_s: int
    end_s: int
    mode: str = ""
    devices: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        # Compared at once: a plan holds ten thousands of these.
        if max(abs(self.start_s), abs(self.end_s)) > MOST_END_S:
            raise BadRequest(
                f"assignment of {self.task}: from {self.start_s} to {self.end_s}; both times must "
                f"lie within {MOST_END_S} s (2^52) of 0"
            )


@dataclass(frozen=True)
class Plan:
    """Assignments, planned or really run: the same type, priced by the same function.

    Parameters
    ----------
    assignments : tuple of Assignment
    preempted : tuple of str
        Running tasks that are stopped at the time of planning; each has a new assignment.
    made_at_s : int
        ``Snapshot.now_s`` of the snapshot it was made for.
    snapshot_version : int
    """

    assignments: tuple[Assignment, ...]
    preempted: tuple[str, ...] = ()
    made_at_s: int = 0
    snapshot_version: int = 0

    @cached_property
    def by_task(self) -> dict[str, Assignment]:
        """Assignments by task id; the last one where a task is listed twice."""
        return {a.task: a for a in self.assignments}
