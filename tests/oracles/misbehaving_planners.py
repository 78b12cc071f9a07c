"""Planner processes that misbehave; a module of its own, since each process imports it."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection


def hang_after_first(pipe: Connection) -> None:
    """A planner that answers its warm-up only."""
    from planner.plan import plan

    request, _ = pipe.recv()
    pipe.send(plan(request, "greedy"))
    pipe.recv()
    time.sleep(3_600)


def die_after_first(pipe: Connection) -> None:
    """A planner that dies over its second request."""
    from planner.plan import plan

    request, _ = pipe.recv()
    pipe.send(plan(request, "greedy"))
    pipe.recv()
    os._exit(1)


def slow(pipe: Connection) -> None:
    """A planner that takes half a second, whatever it is asked."""
    from planner.plan import plan

    while True:
        request, _ = pipe.recv()
        time.sleep(0.5)
        pipe.send(plan(request, "greedy"))
