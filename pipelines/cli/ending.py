"""How a command ends that is told to, or whose output cannot be written or read."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

TERMINATED = 128 + signal.SIGTERM


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM end what goes on as Ctrl-C does: a time limit, a shutdown, a batch system.

    Yields
    ------
    list of int
        The signals that came.

    Notes
    -----
    A second one ends the process at once. What is forked from it ends by the first one, and a
    handler that somebody else has set stays.
    """
    heard: list[int] = []
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield heard
        return
    own = os.getpid()

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != own:
            signal.raise_signal(signal.SIGTERM)
        heard.append(number)
        ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(ctrl_c):
            ctrl_c(signal.SIGINT, frame)
        else:  # ignored, as of what a shell runs in the background
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, handle)
    try:
        yield heard
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def nobody_reads(leaving: BaseException) -> bool:
    """Whether a command leaves because who reads its output has enough (``| head``).

    Libraries between make an exit with code 1 of it.
    """
    if isinstance(leaving, SystemExit) and leaving.__context__ is not None:
        leaving = leaving.__context__
    return isinstance(leaving, BrokenPipeError)


def output_lost(error: OSError) -> str | None:
    """What to say where standard output cannot be written; None where that is not the reason.

    It is closed then: Python would try once more while it ends, and complain.
    """
    if error.filename is not None or sys.stdout is None:
        return None
    try:
        # Where it is not buffered, nothing is left to be flushed.
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as why:
        with suppress(OSError):
            sys.stdout.close()
        return f"standard output: cannot be written: {why.strerror}; write to another place"
    return None


def say_any_letter() -> None:
    """Let standard output write what its encoding lacks by its number, as standard error does."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and not out.encoding.lower().startswith("utf"):
        out.reconfigure(errors="backslashreplace")
