"""A simulated cluster on the world's clock, or some times as fast: it takes tasks as they come."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence

from plancast.pipelines.engines.base import EngineEvent
from plancast.pipelines.engines.sim import Faults, SimEngine
from plancast.planner.model.domain import Estimates, Worker, estimate_for

POLL_S = 0.02
"""Longest pause between two looks at the clock."""
MOST_LEVEL = 0.98


class PacedEngine(SimEngine):
    """A simulated cluster whose clock is the world's.

    Parameters
    ----------
    machines : sequence of Worker
    estimates : callable
        What is known of the tasks; the run time of each is drawn from its estimate.
    start_s : int
        The clock at the beginning, seconds since the epoch.
    speed : float
        Seconds of the cluster for each of the world.
    faults, seed
        As of ``SimEngine``.
    """

    def __init__(
        self,
        machines: Sequence[Worker],
        estimates: Callable[[], Estimates],
        start_s: int,
        *,
        speed: float = 1.0,
        faults: Faults | None = None,
        seed: int = 0,
    ) -> None:
        def run_s(task: str, machine_class: str) -> int:
            found = estimate_for(estimates(), task, machine_class)
            assert found is not None  # else it would not have been started there
            return found.at(_level(task, seed))

        super().__init__(machines, run_s, start_s, faults or Faults(), seed)
        self.step_s = 1.0
        self.speed = speed
        self.began = time.monotonic()
        self.woken = threading.Event()

    def events(self, wait_s: float) -> list[EngineEvent]:
        """What has happened; waits for something to, `wait_s` seconds of the world at most."""
        until = time.monotonic() + wait_s
        while True:
            now = self.start_s + int((time.monotonic() - self.began) * self.speed)
            found = super().events(max(0, now - self.clock))
            left_s = until - time.monotonic()
            if found or left_s <= 0 or self.woken.is_set():
                self.woken.clear()
                return found
            self.woken.wait(min(POLL_S, left_s))

    def wake(self) -> None:
        """Let whoever waits for events have those that there are."""
        self.woken.set()


def _level(task: str, seed: int) -> float:
    """A level drawn for a task, the same whenever it is asked for."""
    drawn = hashlib.sha256(f"{seed} {task}".encode(errors="surrogatepass")).digest()[:8]
    return (1 - MOST_LEVEL) + (2 * MOST_LEVEL - 1) * int.from_bytes(drawn, "big") / 2**64
