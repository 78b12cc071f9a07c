"""Processes by id *and* start: an id alone may belong to a stranger by now."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
ENDED = frozenset({b"Z", b"X"})
"""States of a process that runs no more, though its id is not free yet."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that can be known again, by another process as well.

    Parameters
    ----------
    pid : int
    ticks : int
        When it started: clock ticks since the machine did. Seconds since the epoch, which psutil
        has, are of the wall clock: when that steps, each process seems to be another.
    boot : str
        Identity of the machine's start.
    """

    pid: int
    ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has this id now; one that cannot be found has started at -1."""
        found = _found(pid)
        return cls(pid, -1 if found is None else found[1], _boot())

    @property
    def alive(self) -> bool:
        """Whether it runs: the same process, and not only one with the same id."""
        found = _found(self.pid)
        if found is None or found[0] in ENDED:
            return False
        return (found[1], _boot()) == (self.ticks, self.boot)

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


def _found(pid: int) -> tuple[bytes, int] | None:
    """State and start (ticks) of the process with an id, see proc_pid_stat(5); None for none."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    rest = text.rpartition(b")")[2].split()  # its name, which may hold anything, comes before
    return rest[0], int(rest[19])


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
