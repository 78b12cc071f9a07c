"""Starts the workers of a Dask cluster of our own again when they die."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path

from plancast.pipelines.engines.processes import ProcessId

LOOK_S = 2.0
"""Least time between two looks at the processes."""
FIRST_S, FACTOR, MOST_S = 5.0, 2.0, 300.0
"""Pause before a worker is started again: the first time, how it grows, and the longest."""
FORGIVEN_S = 3600.0
"""After so long without a death a worker's pause is the first one again."""


@dataclass
class Keeper:
    """Looks after the workers of one cluster.

    Parameters
    ----------
    address : str
        Of the cluster's scheduler.
    processes : dict of str to ProcessId
        By the workers' names; a new process takes its place in here.
    start : callable
        Starts the process of a worker.
    note : Path
        Holds the processes for the next master, too.
    clock : callable
        Seconds that only count.
    """

    address: str
    processes: dict[str, ProcessId]
    start: Callable[[str], ProcessId]
    note: Path
    clock: Callable[[], float] = time.monotonic
    pauses: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of workers that have died: the last pause, and when it was decided on."""
    due: dict[str, float] = field(default_factory=dict)
    looked_s: float | None = None

    def look(self, connected: Collection[str], names: Collection[str]) -> None:
        """Start those of some workers that are dead, connected by nobody, and due."""
        now = self.clock()
        if self.looked_s is not None and now - self.looked_s < LOOK_S:
            return
        self.looked_s = now
        for name in names:
            process = self.processes.get(name)
            if process is None or name in connected or process.alive:
                self.due.pop(name, None)
            elif name not in self.due:
                pause_s, at = self.pauses.get(name, (0.0, now))
                fresh = pause_s == 0.0 or now - at > FORGIVEN_S
                pause_s = FIRST_S if fresh else min(MOST_S, pause_s * FACTOR)
                self.pauses[name] = pause_s, now
                self.due[name] = now + pause_s
            elif now >= self.due[name] and self._is_in_place():
                del self.due[name]
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)  # where it was a child of ours
                self.processes[name] = self.start(name)
                write_note(self.note, self.address, self.processes)

    def _is_in_place(self) -> bool:
        """Whether this cluster is still the one of the folder.

        A master that stood still may have been succeeded, and its cluster with it: the note would
        name the new scheduler by the process of the old one, and the next master end a living one.
        """
        return bool(json.loads(self.note.read_text())["address"] == self.address)


def write_note(note: Path, address: str, processes: Mapping[str, ProcessId]) -> None:
    """Write down where a cluster is and which processes are its own; all of it, or nothing."""
    rows = {name: astuple(p) for name, p in processes.items()}
    new = note.with_suffix(".new")
    new.write_text(json.dumps({"address": address, "processes": rows}))
    new.replace(note)
