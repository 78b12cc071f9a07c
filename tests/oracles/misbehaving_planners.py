"""Planner processes that misbehave; a module of its own, since each process imports it."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection


def hang(pipe: Connection) -> None:
    """A planner that never answers anything."""
    time.sleep(3_600)


def warm(pipe: Connection) -> None:
    """Load what a planner loads, so that what comes next is not waited for, and say so."""
    import plancast.planner.planning.controller  # noqa: F401

    pipe.recv()
    pipe.send(None)


def hang_after_first(pipe: Connection) -> None:
    """A planner that answers its warm-up only."""
    warm(pipe)
    pipe.recv()
    time.sleep(3_600)


def die_after_first(pipe: Connection) -> None:
    """A planner that dies over its second request."""
    warm(pipe)
    pipe.recv()
    os._exit(1)


def slow(pipe: Connection) -> None:
    """A planner that takes half a second more, whatever it is asked."""
    while True:
        work, arguments = pipe.recv()
        time.sleep(0.5)
        pipe.send(work(*arguments))
