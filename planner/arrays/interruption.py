"""Ctrl-C while a plan is searched: searches end, and the best plan found by then is kept.

Whoever plans for a person does so within ``keeps_the_best``. Searches look at ``asked`` wherever
they look at the clock. Before there is any plan Ctrl-C ends the program as ever, and so does a
second one. Searches side by side end each other the same way (``End``).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_listening, _asked, _has_plan = threading.Event(), threading.Event(), threading.Event()
_stops: list[Callable[[], None]] = []
_lock = threading.RLock()  # the handler runs on a thread that may hold it
_here = threading.local()


class End:
    """Lets what goes on on some threads be ended, as Ctrl-C ends all."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._stops: list[Callable[[], None]] = []

    def ask(self) -> None:
        """End what goes on within ``heard``, on whatever thread."""
        self._asked.set()
        with _lock:
            calls = list(self._stops)
        for stop in calls:
            stop()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Let ``asked`` and ``stops`` on this thread mean this end too."""
        before = getattr(_here, "end", None)
        _here.end = self
        try:
            yield
        finally:
            _here.end = before


def asked() -> bool:
    """Whether the user has asked for the best plan so far, or an ``End`` of this thread has."""
    end: End | None = getattr(_here, "end", None)
    return _asked.is_set() or (end is not None and end._asked.is_set())


def listening() -> bool:
    """Whether Ctrl-C means that: then the main thread must stay free to hear it."""
    return _listening.is_set()


def has_plan() -> None:
    """Say that there is a plan to keep."""
    _has_plan.set()


@contextmanager
def stops(stop: Callable[[], None]) -> Iterator[None]:
    """Let something be called once that is so: a search that looks at no flag."""
    end: End | None = getattr(_here, "end", None)
    lists = [_stops] if end is None else [_stops, end._stops]
    with _lock:
        for one in lists:
            one.append(stop)
    try:
        if asked():
            stop()
        yield
    finally:
        with _lock:
            for one in lists:
                one.remove(stop)


@contextmanager
def keeps_the_best(say: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let Ctrl-C end the planning in here with the best plan found by then.

    Parameters
    ----------
    say : callable
        Called when that is asked for.

    Notes
    -----
    Only the main thread hears signals, and a handler that is not Python's own stays.
    """
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _asked.clear()
    _has_plan.clear()

    def handle(number: int, frame: Any) -> None:
        if asked() or not _has_plan.is_set():
            signal.default_int_handler(number, frame)
        _asked.set()
        say()
        with _lock:
            calls = list(_stops)
        for stop in calls:
            stop()

    signal.signal(signal.SIGINT, handle)
    _listening.set()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _listening.clear()
        _asked.clear()
