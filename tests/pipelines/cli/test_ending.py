"""cli.ending: a command that is told to end, or whose output nobody takes, ends in good order."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines import cli


def code_of(*arguments: str) -> Any:
    """What the command line exits with."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    return left.value.code


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """The exit code of a command line whose one command does something."""

    def run(command: Callable[[], Any]) -> Any:
        monkeypatch.setattr(cli, "_program", lambda: lambda **_: command())
        return code_of()

    return run


def terminate() -> None:
    """SIGTERM to this process, where it does not end by it."""
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def test_sigterm_ends_a_command_as_ctrl_c_does(doing: Any) -> None:
    """Files half-written, processes and shared memory would stay after each time limit."""
    cleaned: list[bool] = []

    def command() -> None:
        try:
            terminate()
        finally:
            cleaned.append(True)

    assert (doing(command), cleaned) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_is_heard_where_ctrl_c_is_ignored(doing: Any) -> None:
    """A command in a shell's background could not be ended."""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert doing(terminate) == 143
    finally:
        signal.signal(signal.SIGINT, usual)


def test_who_keeps_the_best_by_ctrl_c_keeps_it_by_sigterm(doing: Any) -> None:
    """The best plan of an hour would be lost to a batch system's time limit."""

    def command() -> int:
        heard: list[int] = []
        usual = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            signal.signal(signal.SIGINT, usual)
        assert heard == [signal.SIGINT]
        return 130  # as of a plan that was written

    assert doing(command) == 143


@pytest.mark.parametrize("arguments", [("--version",), ("plan", "--help")])
def test_who_has_read_enough_is_no_fault(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """`plancast ... | head -1` would fail a script, or print a traceback."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert code_of(*arguments) == 0
        monkeypatch.undo()
        out.close()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_disk_under_the_output_is_said(
    buffered: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A traceback, or success although nothing was written."""
    raw: Any = io.FileIO("/dev/full", "w")
    out = io.TextIOWrapper(io.BufferedWriter(raw) if buffered else raw, write_through=not buffered)
    monkeypatch.setattr(sys, "stdout", out)
    assert code_of("--version") == 2
    monkeypatch.undo()
    said = "plancast: standard output: cannot be written: No space left on device; "
    assert capsys.readouterr().err.startswith(said)


def test_an_output_without_umlauts_shows_a_name_that_has_some(
    doing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task's name would end a plan in a traceback, where the locale is another's."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert doing(lambda: print("j\xe4ger, \u2026")) == 0
    assert written.getvalue() == b"j\\xe4ger, \\u2026\n"
