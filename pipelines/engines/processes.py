"""Processes by id *and* start time: an id alone may belong to a stranger by now."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass

import psutil

SAME_S = 0.02
"""Start times of one process may differ by so much when they are read twice: a clock tick."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process: its id, and when it started (seconds since the epoch)."""

    pid: int
    started_s: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has this id now; one that cannot be found has a start time of 0."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(pid, 0.0)

    @property
    def alive(self) -> bool:
        """Whether it runs: the same process, and not only one with the same id."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started_s) <= SAME_S
            return same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        """End it with SIGKILL, and nobody else: the id is held fast before it is compared."""
        try:
            held = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.alive:
                return
            signal.pidfd_send_signal(held, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            os.close(held)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
