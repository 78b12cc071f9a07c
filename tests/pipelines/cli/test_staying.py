"""``plancast master serve`` where disk or database fail it before it serves."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from plancast.pipelines.engines.base import EnvironmentFailed, of_the_disk
from plancast.pipelines.inputs.user_files import ClusterFile, write_cluster
from plancast.planner.model.domain import Worker
from tests.pipelines.cli.test_mastering import run


def serve(folder: Path, engine: str, state: str) -> int:
    """The exit code of a master."""
    write_cluster(ClusterFile((Worker("w", {"cpu": 1000}),)), folder / "cluster.yaml")
    return run("master", "serve", "--engine", engine, "--cluster", str(folder / "cluster.yaml"),
               "--state", state, "--files", str(folder / "master"))  # fmt: skip


def test_a_database_that_is_away_at_the_start_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit that starts with the machine, before its database, would print a traceback."""
    assert serve(tmp_path, "dask", "postgresql+psycopg://nobody@127.0.0.1:1/none") == 6
    said = capsys.readouterr().err
    assert "cannot be used" in said
    assert "start it again" in said
    assert "Traceback" not in said


def test_a_disk_that_is_full_at_the_start_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would count as a mistake of the user's, of which an operator finds none."""

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("plancast.pipelines.master.state.os.pwrite", full)
    assert serve(tmp_path, "sim", str(tmp_path / "master.db")) == 6
    said = capsys.readouterr().err
    assert "no space left on device; what was done is in" in said


FULL = """
import errno, os, sys
from plancast.pipelines.cli import main
from plancast.pipelines.master import client

def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

client.write_note = full
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_disk_that_is_full_once_it_listens_is_one_sentence(tmp_path: Path) -> None:
    """The server would end half-way, with a traceback for each part of it."""
    write_cluster(ClusterFile((Worker("w", {"cpu": 1000}),)), tmp_path / "cluster.yaml")
    # A server cannot run where tests of pages have left a loop running.
    done = subprocess.run(
        [sys.executable, "-c", FULL, "master", "serve", "--engine", "sim", "--cluster",
         tmp_path / "cluster.yaml", "--state", tmp_path / "master.db"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 6
    assert "no space left on device; what was done is in" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_goes_away_while_it_starts_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the state was opened, and gone a moment later: a traceback."""

    def gone(*_: Any, **__: Any) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr("plancast.pipelines.master.state.State.check_digest", gone)
    assert serve(tmp_path, "sim", str(tmp_path / "master.db")) == 6
    said = capsys.readouterr().err
    assert "cannot be read: server closed the connection; what was done is in" in said


def test_only_faults_of_the_disk_are_taken_for_such() -> None:
    """A mistake in a path would be tried again and again by a unit."""
    full = of_the_disk(OSError(errno.ENOSPC, "No space left on device", "/state/note"))
    assert isinstance(full, EnvironmentFailed)
    assert str(full) == "/state/note: no space left on device"
    missing = FileNotFoundError(errno.ENOENT, "No such file", "/state/note")
    assert of_the_disk(missing) is missing
