"""What the master asks of an engine, and what an engine tells.

An order has a key: the task and the number of its attempt. A key is carried out at most once,
however often it is sent; so an order whose acknowledgement was lost is simply sent again. What
an engine tells may come late, twice, or not at all: ``status`` is the truth that mends it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from planner.domain import Outcome, Worker

Key = tuple[str, int]
"""Task id and attempt, counted from 1."""

PREEMPT = "preempt"
"""Capability of an engine whose ``cancel`` surely stops a run: plans may count on it."""


@dataclass(frozen=True, slots=True)
class Order:
    """Run a task now, on these workers, one piece on each.

    Parameters
    ----------
    key : (str, int)
    workers : tuple of str
    demand : mapping of str to int
        What each piece holds of its worker, in the planner's units.
    limit_s : int, optional
        Killed after so many seconds, outcome ``timeout``.
    command : str
        What a shell runs; engines that only simulate do not look at it.
    """

    key: Key
    workers: tuple[str, ...]
    demand: Mapping[str, int]
    limit_s: int | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """An order runs."""

    key: Key
    at_s: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An order has ended by itself, at its limit, or because it was cancelled."""

    key: Key
    start_s: int
    at_s: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker is ready."""

    worker: Worker
    at_s: int


@dataclass(frozen=True, slots=True)
class WorkerDown:
    """A worker is gone, and whatever ran there with it."""

    worker: str
    at_s: int


Told = Started | Ended | WorkerUp | WorkerDown


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an order stands, by the engine's own books.

    Parameters
    ----------
    state : str
        ``unknown``: never heard of. ``waiting``: taken, not begun. ``running``. ``ended``.
        ``lost``: its worker died.
    start_s, end_s : int, optional
    outcome : Outcome, optional
    """

    state: Literal["unknown", "waiting", "running", "ended", "lost"]
    start_s: int | None = None
    end_s: int | None = None
    outcome: Outcome | None = None


class Engine(Protocol):
    """A cluster that can be told to run things. See the module for what it promises."""

    name: str
    capabilities: frozenset[str]
    """What it can do beyond starting tasks: ``PREEMPT``, or nothing."""

    def now_s(self) -> int:
        """The engine's clock, whole seconds since the epoch; it may step back."""
        ...

    def workers(self) -> tuple[Worker, ...]:
        """The workers that are there now."""
        ...

    def start(self, order: Order) -> None:
        """Run an order; at once or never. Told by ``Started``, some time."""
        ...

    def cancel(self, key: Key) -> None:
        """Stop an order, if it runs; told by ``Ended`` with outcome ``cancelled``.

        May be lost on its way, as any message: who wants it stopped says so until it is told.
        """
        ...

    def events(self, wait_s: float) -> list[Told]:
        """What has happened since the last call; waits up to `wait_s` for something to."""
        ...

    def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
        """Where orders stand, of an earlier master too."""
        ...

    def close(self) -> None:
        """Let go of the engine; what runs goes on."""
        ...
