"""A process is known again, and nobody else is taken for it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import astuple, replace

import psutil
import pytest

from plancast.pipelines.engines.processes import ProcessId


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that sleeps."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_stranger_with_the_same_pid_is_never_killed(sleeper: subprocess.Popen[bytes]) -> None:
    """A pid of yesterday's file may belong to somebody else by now."""
    true = ProcessId.of(sleeper.pid)
    later = replace(true, ticks=true.ticks - 5)
    rebooted = replace(true, boot="another start of the machine")
    assert true.alive
    for stranger in (later, rebooted):
        assert not stranger.alive
        stranger.kill()
    assert sleeper.poll() is None
    true.kill()
    assert sleeper.wait(600) == -9 or not true.alive
    true.kill()
    assert not ProcessId.of(sleeper.pid).alive


def test_a_process_is_the_same_after_the_wall_clock_has_stepped(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A master that took over a living Dask cluster ended it, and its runs began once more."""
    before = json.dumps(astuple(ProcessId.of(sleeper.pid)))
    booted_s = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted_s + 8.0)
    assert psutil.Process(sleeper.pid).create_time() > booted_s + 8.0
    assert ProcessId(*json.loads(before)).alive


def test_a_process_that_has_ended_and_was_not_waited_for_is_not_alive(
    sleeper: subprocess.Popen[bytes],
) -> None:
    """A master that is the parent of a worker would wait for it to come back without end."""
    known = ProcessId.of(sleeper.pid)
    sleeper.kill()
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not known.alive
