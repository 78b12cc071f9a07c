"""A planner in a process of its own: one that hangs or dies is replaced, its caller hears it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from plancast.planner.instances.generate import generate_batch
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse
from plancast.planner.planning.controller import Choice, Controller, Decision
from plancast.planner.planning.plan import plan

WARM_UP_S = 300.0
"""Longest time a process may take for its first plan, for which the kernels may be compiled."""

STEPS = Budget(seconds=None, steps=50)
"""Of the first plan of each planner: by steps, since compiling would use up any seconds."""

CONTEXT = multiprocessing.get_context("spawn")
"""Not forked: its asker may have threads, and a fork copies their locks as they stand."""

Question = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of a module and its arguments: ``plan`` and a request, say."""


class PlannerLost(Exception):
    """The planner did not answer in time, or died; it has been replaced."""


def left_of(budget: Budget, since_s: float) -> Budget:
    """A budget without the seconds since ``time.monotonic()`` was `since_s`, in any process."""
    if budget.seconds is None:
        return budget
    return replace(budget, seconds=max(0.0, budget.seconds - (time.monotonic() - since_s)))


def plan_in_time(request: PlanRequest, solver: str, sent_s: float) -> PlanResponse:
    """What a planner process does for a request: a large one is on its way for half a second."""
    return plan(replace(request, budget=left_of(request.budget, sent_s)), solver)


def rethink(mind: Controller, solver: str | None, sent_s: float) -> tuple[Decision, PlanResponse]:
    """What a planner process does for a replan."""
    mind.control = replace(
        mind.control,
        replan_budget=left_of(mind.control.replan_budget, sent_s),
        repair_budget=left_of(mind.control.repair_budget, sent_s),
    )
    if solver is None:
        return mind.rethought()
    decision = Decision(Choice.REPLAN, f"solver {solver} was asked for")
    return decision, plan(mind.ask(Choice.REPLAN), solver)


def answer(pipe: Connection) -> None:
    """What a planner process does: answer what comes through the pipe until it closes."""
    # Ctrl-C reaches the whole process group; whoever asks ends its planners itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    while True:
        try:
            work, arguments = pipe.recv()
        except (EOFError, OSError):
            return  # closed, perhaps in the middle of a question, by who was killed
        try:
            found = work(*arguments)
        except (BadRequest, OverflowError) as error:
            found = BadRequest(str(error))
        try:
            pipe.send(found)
        except OSError:
            return  # nobody is left to hear it


def _end_with_parent() -> None:
    """A parent that is killed closes the pipe; a planner deep in a search would not see that."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def warm_up() -> None:
    """Compile what plans and repairs need, and load it by planning a small batch."""
    from plancast.planner.planning.repair import repair
    from plancast.planner.planning.warm import ASTAR, LISTS, MOVES, ORDERS, REPAIR, warm

    warm((LISTS, MOVES, REPAIR, ASTAR, ORDERS))
    request = replace(generate_batch(40), budget=STEPS)
    repair(replace(request, incumbent=plan(request).plan))


WARM_UP: Question = (warm_up, ())


class PlannerProcess:
    """One process, asked from one thread at a time.

    Parameters
    ----------
    work : callable
        What the process does with its end of the pipe.
    """

    def __init__(self, work: Callable[[Connection], None] = answer) -> None:
        self._work = work
        self._changing = threading.Lock()
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=self._work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, question: Question, patience_s: float) -> Any:
        """The answer to a question; a planner without one after `patience_s` is replaced.

        Raises
        ------
        PlannerLost
            Where it was.
        BadRequest
            Where the planner could not use what it was asked.
        """
        self.put(question)
        return self.take(patience_s)

    def put(self, question: Question) -> None:
        """Ask, and do not wait."""
        try:
            self._pipe.send(question)
        except OSError:
            self._replace()
            raise PlannerLost("the planner died before this request") from None

    def ready(self) -> bool:
        """Whether ``take`` would not wait."""
        return self._pipe.poll(0)

    def take(self, patience_s: float) -> Any:
        """The answer to what was put; see ``ask``."""
        try:
            if not self._pipe.poll(patience_s):
                self._replace()
                raise PlannerLost(f"the planner gave no answer within {patience_s:.1f} s")
            found = self._pipe.recv()
        except (EOFError, OSError):
            self._replace()
            raise PlannerLost("the planner died over this request") from None
        if isinstance(found, BadRequest):
            raise found
        return found

    def stop(self) -> None:
        """End the process, whatever it does; who waits for its answer hears that it is lost."""
        with self._changing:
            self._stopped = True
            # Killed and not closed: closing a pipe does not wake a thread that waits on it.
            self._process.kill()
            self._process.join()

    def _replace(self) -> None:
        with self._changing:
            if not self._stopped:
                self._process.kill()
                self._process.join()
                self._pipe.close()
                self._start()
