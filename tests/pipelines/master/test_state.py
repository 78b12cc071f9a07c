"""The master's file: whose batch it holds, who has it, and what a full disk does to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.engines.processes import ProcessId
from plancast.pipelines.master.state import OrderRow, State, digest_of
from plancast.planner.model.domain import BadRequest, DurationEstimate, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest

WORKERS = (Worker("w", {"cpu": 1000}),)


def request(*tasks: str) -> PlanRequest:
    """A batch of these tasks."""
    pending = tuple(Task(name, {"cpu": 1000}) for name in tasks)
    estimates = {name: {"*": DurationEstimate.certain(5)} for name in tasks}
    return PlanRequest("r", Snapshot(0, 0, WORKERS, pending), estimates)


def digest(asked: PlanRequest, command: str = "run {id}") -> dict[str, str]:
    """Digests of the parts of a batch."""
    return {"tasks": digest_of(*asked.snapshot.pending), "command": digest_of(command)}


def begun(path: Path) -> State:
    """A state in which a batch has begun."""
    state = State(path)
    state.check_digest(digest(request("a")), resume=False)
    state.begin(request("a"))
    return state


def test_a_new_batch_never_falls_into_an_old_file(tmp_path: Path) -> None:
    """It would be reported as completed by what the old one did, and nothing would run."""
    path = tmp_path / "m.db"
    first = begun(path)
    batch = first.batch
    first.close()
    state = State(path)
    with pytest.raises(BadRequest, match=r"the batch of .* already; go on with it by --resume"):
        state.check_digest(digest(request("a")), resume=False)
    with pytest.raises(BadRequest, match="holds another batch, with other tasks;"):
        state.check_digest(digest(request("a", "b")), resume=True)
    with pytest.raises(BadRequest, match="holds another batch, with other command;"):
        state.check_digest(digest(request("a"), "other"), resume=True)
    state.check_digest(digest(request("a")), resume=True)
    assert state.batch == batch
    state.close()
    other = State(tmp_path / "n.db")
    assert other.batch != batch
    other.close()


def test_a_file_in_which_nothing_has_begun_is_new(tmp_path: Path) -> None:
    """A master killed before its batch began could leave a file that nobody can use."""
    State(tmp_path / "m.db").close()
    begun(tmp_path / "m.db").close()


def test_two_masters_never_have_one_file(tmp_path: Path) -> None:
    """Both would write orders into it, and neither could trust what it reads."""
    path = tmp_path / "m.db"
    state = State(path)
    script = (
        "from pathlib import Path; from plancast.pipelines.master.state import State; "
        f"State(Path({str(path)!r}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert found.returncode != 0
    assert f"{path}: master {os.getpid()} on " in found.stderr
    assert "has it; wait until it ends, or stop it" in found.stderr
    state.close()
    state.close()
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    # One that was killed has let go of it.
    State(path).close()


def test_a_full_disk_is_told_and_leaves_the_file_whole(tmp_path: Path) -> None:
    """A traceback would be all that is left of the day, or half of what belongs together."""
    path = tmp_path / "m.db"
    state = begun(path)
    state.put_order(OrderRow(("a", 1), ("w",), "ordered", 5))
    pages = state.base.execute("PRAGMA page_count").fetchone()[0]
    state.base.execute(f"PRAGMA max_page_count={pages}")
    long = "x" * 100_000
    rows = [
        OrderRow(("b", 1), ("w",), "ordered", 6),
        OrderRow(("c", 1), ("w",), "ended", 7, reason=long),
    ]

    def write() -> None:
        with state.together():
            for row in rows:
                state.put_order(row)

    with pytest.raises(EnvironmentFailed, match=r"m\.db: cannot be written: .*full"):
        write()
    state.close()
    again = State(path)
    assert [row.key for row in again.orders()] == [("a", 1)]
    again.close()


def test_a_stranger_with_the_same_pid_is_never_killed() -> None:
    """A pid of yesterday's file may belong to somebody else by now."""
    process = subprocess.Popen(["sleep", "60"])
    true = ProcessId.of(process.pid)
    stale = ProcessId(process.pid, true.started_s - 5.0)
    assert true.alive
    assert not stale.alive
    stale.kill()
    assert process.poll() is None
    true.kill()
    assert process.wait(5) == -9 or not true.alive
    true.kill()
    assert not ProcessId(process.pid, 0.0).alive
