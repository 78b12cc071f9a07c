"""An engine that waits out its own outages: nothing is concluded while it does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

from plancast.pipelines.engines.base import (
    Engine,
    EngineEvent,
    EnvironmentFailed,
    Key,
    Order,
    Standing,
    Unreachable,
)
from plancast.planner.model.domain import Worker

FIRST_S, MOST_S, FACTOR = 0.5, 15.0, 2.0
"""Pauses between two attempts: the first, the longest, and how they grow."""
OUTAGE_S = 1800.0
"""Longest outage that is waited out by default."""

Found = TypeVar("Found")
Given = TypeVar("Given")
Away = Callable[[str], None]
"""Called once for each outage, with what the engine said."""


def patiently(
    call: Callable[[], Found], most_s: float, *, away: Away | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Found:  # fmt: skip
    """Repeat a call while it raises ``Unreachable``, with growing pauses.

    Parameters
    ----------
    call : callable
        May be repeated without harm.
    most_s : float
        Seconds after which the outage is taken for a failure.
    away : callable, optional
    sleep, clock : callable

    Raises
    ------
    EnvironmentFailed
        Where the outage lasts longer than `most_s`.
    """
    began, pause_s, noted = clock(), FIRST_S, False
    while True:
        try:
            return call()
        except Unreachable as why:
            if away is not None and not noted:
                away(str(why))
                noted = True
            if clock() - began + pause_s > most_s:
                raise EnvironmentFailed(f"no answer for {clock() - began:.0f} s: {why}") from None
        sleep(pause_s)
        pause_s = min(MOST_S, pause_s * FACTOR)


class PatientEngine:
    """Another engine, each of whose calls is repeated until it is answered.

    All calls of an engine may be repeated: they read, or are carried out once for each key.

    Parameters
    ----------
    inner : Engine
    most_s : float
        Longest outage that is waited out.
    away : callable, optional
        Called once for each outage.
    sleep : callable
    guard : callable
        Called before anything is started or stopped; what it raises prevents it.
    """

    def __init__(
        self, inner: Engine, most_s: float = OUTAGE_S, *, away: Away | None = None,
        sleep: Callable[[float], None] = time.sleep, guard: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.inner = inner
        self.most_s = most_s
        self.away = away
        self.sleep = sleep
        self.guard = guard
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.step_s = inner.step_s
        self.begins_s = inner.begins_s

    def now_s(self) -> int:
        """The engine's clock."""
        return self.inner.now_s()

    def steady_s(self) -> float:
        """Seconds that only count."""
        return self.inner.steady_s()

    def workers(self) -> tuple[Worker, ...]:
        """The workers that are there now."""
        return self._ask(self.inner.workers)

    def closed(self) -> frozenset[str]:
        """Workers that take nothing new."""
        return self._ask(self.inner.closed)

    def start(self, order: Order) -> None:
        """Run an order."""
        self._ask(lambda: self._guarded(self.inner.start, order))

    def cancel(self, key: Key) -> None:
        """Stop an order."""
        self._ask(lambda: self._guarded(self.inner.cancel, key))

    def events(self, wait_s: float) -> list[EngineEvent]:
        """What has happened since the last call."""
        return self._ask(lambda: self.inner.events(wait_s))

    def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
        """Where orders stand."""
        return self._ask(lambda: self.inner.status(keys))

    def close(self) -> None:
        """Let go of the engine."""
        self.inner.close()

    def stop(self) -> None:
        """End what was brought up for the batch."""
        self.inner.stop()

    def _guarded(self, call: Callable[[Given], None], given: Given) -> None:
        self.guard()
        call(given)

    def _ask(self, call: Callable[[], Found]) -> Found:
        return patiently(call, self.most_s, away=self.away, sleep=self.sleep)
