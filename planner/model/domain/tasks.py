"""What is to be done: tasks, the ways and order of doing them, those that run or have ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache

from plancast.planner.model import labels
from plancast.planner.model.domain.units import (
    BadRequest,
    check_amounts,
    check_factor,
    check_times,
    require,
)
from plancast.wording import counted

MOST_SHARDS = 1_000_000
"""No gang has more pieces."""


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
        require(
            self.lag_s >= 0,
            f"a dependency on {self.task}: lag_s is {self.lag_s}; it must be 0 or more",
        )
        check_times(f"a dependency on {self.task}", lag_s=self.lag_s)

    def is_met_by(self, outcome: Outcome) -> bool:
        """Whether a predecessor that has ended so lets the task run."""
        if self.kind is DependencyKind.AFTEROK:
            return outcome is Outcome.COMPLETED
        return self.kind is not DependencyKind.AFTERNOTOK or outcome is not Outcome.COMPLETED

    def __str__(self) -> str:
        lag = f"+{self.lag_s}s" if self.lag_s else ""
        return f"{self.kind.value}:{self.task}{lag}"


@lru_cache(maxsize=1 << 14)
def _afterok(task: str) -> Dependency:
    """What `Task.after` means; kept, for it is looked at again and again."""
    return Dependency(task)


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
        require(bool(self.id), "a mode has an empty id; give every mode of a task a name")
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
        require(bool(self.id), "a task has an empty id; give every task a name")
        name = f"task {self.id}"
        _check_way(name, self)
        if self.counted:
            check_amounts(name, "counted", self.counted)
        check_times(name, release_s=self.release_s, deadline_s=self.deadline_s)
        check_factor(name, "weight", self.weight)
        require(
            self.deadline_s is None or self.deadline_s >= self.release_s,
            f"{name}: deadline_s {self.deadline_s} lies before release_s {self.release_s}",
        )
        require(
            len(set(self.after)) == len(self.after), f"{name}: after names a task more than once"
        )
        require(self.id not in self.after, f"{name}: after names the task itself")
        if self.modes:
            self._check_modes(name)
        if self.depends:
            names = [d.task for d in self.depends]
            require(
                len({*names, *self.after}) == len(names) + len(self.after),
                f"{name}: after and depends name a task more than once",
            )
            require(self.id not in names, f"{name}: depends names the task itself")
        if self.most_per_worker is not None or self.most_workers is not None:
            for way in self.modes or (self,):
                self._check_shape(name, way.shards)

    def _check_modes(self, name: str) -> None:
        ids = [mode.id for mode in self.modes]
        require(len(set(ids)) == len(ids), f"{name}: two of its modes have the same id")
        own = {
            "demand": self.demand, "shards": self.shards != 1, "requires": self.requires,
            "requested_s": self.requested_s is not None,
        }  # fmt: skip
        for field_name, given in own.items():
            require(
                not given, f"{name}: has modes and {field_name} of its own; write it in each mode"
            )

    def _check_shape(self, name: str, shards: int) -> None:
        each, workers = self.most_per_worker, self.most_workers
        for key, value in (("most_per_worker", each), ("most_workers", workers)):
            require(
                value is None or 1 <= value <= MOST_SHARDS,
                f"{name}: {key} is {value}; it must lie in 1 to {MOST_SHARDS}",
            )
        require(
            each is None or workers is None or each * workers >= shards,
            f"{name}: {shards} shards do not fit on {counted(workers or 0, 'worker')} with at most "
            f"{each} on each; raise most_workers or most_per_worker",
        )

    @property
    def predecessors(self) -> tuple[str, ...]:
        """Every task that it waits for, in whatever way."""
        return (*self.after, *(d.task for d in self.depends)) if self.depends else self.after

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """The same with kinds and lags: ``afterok`` for those of `after`."""
        return (*[_afterok(name) for name in self.after], *self.depends)

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
        require(self.has_mode(mode), f"task {self.id} has no mode {mode!r}")
        if not self.modes:
            return self
        way = next(known for known in self.modes if known.id == mode)
        return replace(
            self, modes=(), demand=way.demand, shards=way.shards, requires=way.requires,
            requested_s=way.requested_s,
        )  # fmt: skip


def _check_way(name: str, way: Mode | Task) -> None:
    """Refuse what is wrong with the way in which a task is done, of itself or in a mode."""
    check_amounts(name, "demand", way.demand)
    check_times(name, requested_s=way.requested_s)
    require(
        1 <= way.shards <= MOST_SHARDS,
        f"{name}: shards is {way.shards}; it must lie in 1 to {MOST_SHARDS}",
    )
    require(
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
    require(
        sum("[" in text for text in way.requires) <= 1,
        f"{name}: requires has more than one [ ]; a gang is held together by one",
    )


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
        check_times(f"running task {self.task.id}", start_s=self.start_s)
        require(
            self.task.has_mode(self.mode),
            f"running task {self.task.id}: has no mode {self.mode!r}"
            + (f"; it has {', '.join(m.id for m in self.task.modes)}" if self.task.modes else ""),
        )
        shards = self.done.shards
        require(
            len(self.workers) == shards,
            f"running task {self.task.id}: {len(self.workers)} workers, {shards} shards",
        )
        require(
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
        check_times(f"finished task {self.id}", end_s=self.end_s, start_s=self.start_s)


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
