"""Engines apart from the planner: what one of them does wrong costs its plan, not the answer.

An engine runs on a daemon thread. One that raises is logged; one that is overdue is abandoned: its
kernels run without the interpreter's lock, so the planner goes on, and it ends at the next better
schedule that it reports.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from numba.core import event

from plancast.planner.arrays import interruption
from plancast.planner.model.domain import BadRequest

OVERDUE_S = 1.0
"""An engine that has not ended so many seconds after its budget is abandoned; nor is one waited for
longer once the user has asked for the best plan so far."""
POLL_S = 0.25
"""How often is looked whether an overdue engine is only being compiled."""

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Outcome(Generic[Result]):
    """What came of an engine: its result, or in words why there is none."""

    result: Result | None = None
    fault: str | None = None


class Abandoned(BaseException):
    """Raised in an abandoned engine when it reports; no engine catches it."""


def run_apart(
    work: Mapping[str, Callable[[Callable[[], None]], Result]],
    until: float | None,
    end: interruption.End | None = None,
) -> dict[str, Outcome[Result]]:
    """Do some work, each on its own thread, and wait for it until a moment.

    Parameters
    ----------
    work : mapping of str to callable
        By name. It is handed a function to call now and then, which ends it once it is abandoned.
    until : float, optional
        ``time.perf_counter()`` after which who has not ended is abandoned; the time in which
        kernels are compiled does not count. None: work is done in turn, however long it takes.
    end : End, optional
        Ends them all before that.

    Raises
    ------
    BadRequest
        What was asked for is wrong: that is no failure of an engine.
    """
    jobs = {name: _Job(name, one, end) for name, one in work.items()}
    for job in jobs.values():
        if until is None and len(jobs) == 1 and not interruption.listening():
            job.run()
        else:
            threading.Thread(target=job.run, name=f"plancast-{job.name}", daemon=True).start()
    for job in jobs.values():
        job.wait(until)
    return {name: job.outcome() for name, job in jobs.items()}


class _Job(Generic[Result]):
    """One engine's work: done, failed or abandoned."""

    def __init__(
        self,
        name: str,
        work: Callable[[Callable[[], None]], Result],
        end: interruption.End | None,
    ) -> None:
        self.name, self.work, self.end = name, work, end
        self.done, self.abandoned = threading.Event(), threading.Event()
        self.unwanted = False
        self.result: Result | None = None
        self.error: Exception | None = None
        self.compiled_s = _compiling.spent_s()

    def run(self) -> None:
        try:
            with nullcontext() if self.end is None else self.end.heard():
                self.result = self.work(self._check)
        except Abandoned:
            pass
        except Exception as error:  # an engine's failure must not cost the answer
            self.error = error
            if not isinstance(error, BadRequest):
                _log.exception("engine %s failed", self.name)
        finally:
            self.done.set()

    def _check(self) -> None:
        if self.abandoned.is_set():
            raise Abandoned

    def wait(self, until: float | None) -> None:
        """Wait until it has ended, is overdue, or the user wants no more of it."""
        patience_s = OVERDUE_S
        while not self.done.is_set():
            left_s = POLL_S
            if until is not None:
                left_s = until + _compiling.spent_s() - self.compiled_s - time.perf_counter()
            if left_s <= 0 or patience_s <= 0:
                self.abandoned.set()
                self.unwanted = left_s > 0
                _log.error("engine %s did not end in time and was abandoned", self.name)
                return
            self.done.wait(min(left_s, POLL_S))
            patience_s -= POLL_S * interruption.asked()

    def outcome(self) -> Outcome[Result]:
        if isinstance(self.error, BadRequest):
            raise self.error
        if self.error is not None:
            return Outcome(None, f"failed ({type(self.error).__name__}: {self.error})")
        if self.unwanted:
            return Outcome()
        if self.abandoned.is_set():
            return Outcome(None, f"did not end within {OVERDUE_S:g} s of its budget")
        return Outcome(self.result)


class _Compiling(event.Listener):
    """How long kernels were compiled in this process, on any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running, self.began, self.total_s = 0, 0.0, 0.0

    def on_start(self, event: event.Event) -> None:
        """Called by numba when it begins to compile a function, which may compile others."""
        with self.lock:
            if self.running == 0:
                self.began = time.perf_counter()
            self.running += 1

    def on_end(self, event: event.Event) -> None:
        """Called by numba when it has."""
        with self.lock:
            self.running -= 1
            if self.running == 0:
                self.total_s += time.perf_counter() - self.began

    def spent_s(self) -> float:
        """Seconds so far, those of a compilation that goes on included."""
        with self.lock:
            now = time.perf_counter() - self.began if self.running else 0.0
            return self.total_s + now


_compiling = _Compiling()
event.register("numba:compile", _compiling)
