"""Workers of a Dask cluster of our own come back, and not in a loop."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from plancast.pipelines.engines.dask_keeper import (
    FIRST_S,
    FORGIVEN_S,
    LOOK_S,
    MOST_S,
    Keeper,
    write_note,
)
from plancast.pipelines.engines.processes import ProcessId


class Yard:
    """Processes that sleep, a clock, and a keeper of them."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.started: list[tuple[float, str]] = []
        self.children: list[subprocess.Popen[bytes]] = []
        processes = {"(scheduler)": self.sleeper(), "w0": self.sleeper(), "w1": self.sleeper()}
        self.note = folder / "cluster.json"
        write_note(self.note, "tls://here", processes)
        self.keeper = Keeper("tls://here", processes, self.start, self.note, lambda: self.now)

    def sleeper(self) -> ProcessId:
        """A process."""
        self.children.append(subprocess.Popen(["sleep", "60"]))
        return ProcessId.of(self.children[-1].pid)

    def start(self, name: str) -> ProcessId:
        """A worker's."""
        self.started.append((self.now, name))
        return self.sleeper()

    def pass_by(self, seconds: float, connected: tuple[str, ...] = ()) -> None:
        """Look again and again for some seconds."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            self.keeper.look(connected, ("w0", "w1"))

    def end(self) -> None:
        """Leave nothing behind."""
        for child in self.children:
            child.kill()
            child.wait()


def test_a_worker_that_died_is_started_again_and_written_down(tmp_path: Path) -> None:
    """A cluster that stays would shrink with each death; the next master know the dead one."""
    yard = Yard(tmp_path)
    try:
        yard.pass_by(20)
        assert yard.started == []
        yard.keeper.processes["w1"].kill()
        yard.keeper.processes["(scheduler)"].kill()
        yard.pass_by(20)
        ((at, name),) = yard.started
        assert name == "w1"
        assert FIRST_S <= at - 20 <= FIRST_S + 3 * LOOK_S
        held = json.loads(yard.note.read_text())
        assert held["address"] == "tls://here"
        assert held["processes"]["w1"][0] == yard.children[-1].pid
    finally:
        yard.end()


def test_one_that_dies_again_and_again_waits_longer(tmp_path: Path) -> None:
    """A worker that cannot live would be started each second until the disk is full of its log."""
    yard = Yard(tmp_path)
    try:
        waits = []
        for _ in range(9):
            yard.keeper.processes["w0"].kill()
            died = yard.now
            yard.pass_by(MOST_S + 3 * LOOK_S)
            waits.append(yard.started[-1][0] - died)
        assert len(yard.started) == 9
        assert waits == sorted(waits)
        assert waits[0] <= FIRST_S + 3 * LOOK_S
        assert waits[-1] >= MOST_S
        yard.pass_by(FORGIVEN_S)
        yard.keeper.processes["w0"].kill()
        before = yard.now
        yard.pass_by(20)
        assert yard.started[-1][0] - before <= FIRST_S + 3 * LOOK_S
    finally:
        yard.end()


def test_one_that_somebody_else_has_started_is_left_alone(tmp_path: Path) -> None:
    """Two workers of one name would fight for it."""
    yard = Yard(tmp_path)
    try:
        yard.keeper.processes["w0"].kill()
        yard.pass_by(60, connected=("w0",))
        assert yard.started == []
    finally:
        yard.end()


def test_a_cluster_that_another_has_replaced_is_left_alone(tmp_path: Path) -> None:
    """A master that stood still would write its own scheduler into the note of the new one."""
    yard = Yard(tmp_path)
    try:
        yard.keeper.processes["w0"].kill()
        write_note(yard.note, "tls://there", {"(scheduler)": yard.sleeper()})
        before = yard.note.read_text()
        yard.pass_by(60)
        assert yard.started == []
        assert yard.note.read_text() == before
    finally:
        yard.end()
