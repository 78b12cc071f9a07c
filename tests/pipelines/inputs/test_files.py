"""inputs.files: a file is written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from plancast.pipelines.inputs.files import read_bytes, read_text, write_text_atomic
from plancast.planner.model.domain import (
    BadRequest,
)


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would fail if a full disk left half a file, or none, where a good one was."""
    path = tmp_path / "x.json"
    write_text_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(BadRequest, match=r"x\.json: cannot be written: No space left"):
        write_text_atomic(path, "new")
    assert read_text(path) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_links_permissions_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    """A link would become a file, a secret readable, and /dev/stdout a file named so."""
    private, link, pipe = tmp_path / "private", tmp_path / "link", tmp_path / "pipe"
    private.write_text("old")
    private.chmod(0o600)
    link.symlink_to(private)
    write_text_atomic(link, "new")
    assert link.is_symlink()
    assert private.read_text() == "new"
    assert private.stat().st_mode & 0o777 == 0o600
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text_atomic(pipe, "heard")
    assert os.read(end, 9) == b"heard"
    os.close(end)
    assert pipe.is_fifo()


def test_a_file_in_memory_is_a_file(tmp_path: Path) -> None:
    """A second plan written to /dev/shm/plan.json would stand behind the first, in one file."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("there is no /dev/shm to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        path = Path(folder) / "plan.json"
        write_text_atomic(path, "old")
        write_text_atomic(path, "new")
        assert read_text(path) == "new"


def test_what_a_process_has_open_is_written_to(tmp_path: Path) -> None:
    """What goes to /dev/stdout would be missing in the file that a shell sends it to."""
    with (tmp_path / "out").open("wb") as out:
        write_text_atomic(f"/dev/fd/{out.fileno()}", "one")
        write_text_atomic(f"/proc/self/fd/{out.fileno()}", "two")
    assert (tmp_path / "out").read_text() == "onetwo"


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    """Would fail if a file were overwritten in place, under the eyes of who reads it."""
    path = tmp_path / "x"
    write_text_atomic(path, "old")
    with path.open() as reader:
        write_text_atomic(path, "new")
        assert reader.read() == "old"
    assert read_text(path) == "new"


def test_write_into_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    """Would fail if a wrong output path ended in a traceback."""
    write_text_atomic(tmp_path / "deep" / "file", b"\x00\x01")
    assert read_bytes(tmp_path / "deep" / "file") == b"\x00\x01"
    with pytest.raises(BadRequest, match="cannot be written"):
        write_text_atomic(tmp_path / "deep" / "file" / "x", "")
    with pytest.raises(BadRequest, match="cannot be written"):
        write_text_atomic(tmp_path / "deep", "")
