"""Planner processes behind a bounded queue: one that hangs or dies is replaced, its job told so."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection

from planner.domain import BadRequest
from planner.messages import Budget, PlanRequest, PlanResponse

WARM_UP_S = 300.0
"""Longest time a process may take for its first plan, for which the kernels may be compiled."""

Answer = PlanResponse | BadRequest


class QueueFull(Exception):
    """As many requests wait as may; the sender should come back later."""


class PlannerLost(Exception):
    """The planner did not answer in time, or died; it has been replaced."""


def answer(pipe: Connection) -> None:
    """What a planner process does: plan what comes through the pipe until it closes."""
    # Ctrl-C reaches the whole process group; the service tells its planners itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from planner.plan import plan

    while True:
        try:
            request, solver = pipe.recv()
        except EOFError:
            return
        try:
            found: Answer = plan(request, solver)
        except (BadRequest, OverflowError) as error:
            found = BadRequest(str(error))
        pipe.send(found)


class _Planner:
    """One process, asked from one thread at a time."""

    def __init__(self, work: Callable[[Connection], None]) -> None:
        self._work = work
        self._changing = threading.Lock()
        self._stopped = False
        self._start()

    def _start(self) -> None:
        # Not forked: the service has threads, and a fork copies their locks as they stand.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, request: PlanRequest, solver: str, patience_s: float) -> PlanResponse:
        """The response to a request; a planner without one after `patience_s` is replaced."""
        try:
            self._pipe.send((request, solver))
            if not self._pipe.poll(patience_s):
                self._replace()
                raise PlannerLost(f"the planner gave no answer within {patience_s:.1f} s")
            found: Answer = self._pipe.recv()
        except (EOFError, OSError):
            self._replace()
            raise PlannerLost("the planner died over this request") from None
        if isinstance(found, BadRequest):
            raise found
        return found

    def stop(self) -> None:
        """End the process, whatever it does; who waits for its answer is told that it is lost."""
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


class Planners:
    """A fixed number of planner processes and a bounded queue before them.

    Parameters
    ----------
    count : int
        Processes.
    queue : int
        Requests that may wait while all of them plan.
    grace_s : float
        How much later than its budget an answer may come before its planner is replaced.
    most_s : float
        Longest budget granted; what asks for more gets this.
    work : callable
        What a process does with its end of the pipe.
    """

    def __init__(
        self,
        count: int,
        queue: int,
        *,
        grace_s: float = 10.0,
        most_s: float = 60.0,
        work: Callable[[Connection], None] = answer,
    ) -> None:
        self.queue = queue
        self.grace_s = grace_s
        self.most_s = most_s
        self.waiting = 0
        self.lost = 0
        self._all = [_Planner(work) for _ in range(count)]
        self._idle: asyncio.Queue[_Planner] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(count, "planner")
        self._first: PlanRequest
        self._reviving: asyncio.Future[None]

    async def warm_up(self, request: PlanRequest) -> None:
        """Let every process plan once, so that its kernels are loaded; then take requests.

        Parameters
        ----------
        request : PlanRequest
            Planned again by each process that takes a lost one's place.

        Raises
        ------
        PlannerLost
            Where one does not get that far.
        """
        self._first = request
        for planner in self._all:
            await self._ask(planner, request, "auto", WARM_UP_S)
            self._idle.put_nowait(planner)

    async def plan(self, request: PlanRequest, solver: str, received: float) -> PlanResponse:
        """Plan a request as soon as a planner is idle.

        Parameters
        ----------
        request : PlanRequest
        solver : str
        received : float
            ``time.monotonic()`` when the request came; what it has waited since is taken off
            its budget.

        Raises
        ------
        QueueFull, PlannerLost, BadRequest
        """
        if self._idle.empty() and self.waiting >= self.queue:
            raise QueueFull(f"{self.waiting} requests wait already")
        self.waiting += 1
        try:
            planner = await self._idle.get()
        finally:
            self.waiting -= 1
        budget = self._left(request.budget, received)
        patience_s = self.grace_s + (self.most_s if budget.seconds is None else budget.seconds)
        asked = self._ask(planner, replace(request, budget=budget), solver, patience_s)
        # Freed when it is done, not when its client has gone: then it still plans.
        asked.add_done_callback(partial(self._free, planner))
        return await asyncio.shield(asked)

    def _ask(
        self, planner: _Planner, request: PlanRequest, solver: str, patience_s: float
    ) -> asyncio.Future[PlanResponse]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, planner.ask, request, solver, patience_s)

    def _free(self, planner: _Planner, asked: asyncio.Future[PlanResponse]) -> None:
        if not asked.cancelled() and isinstance(asked.exception(), PlannerLost):
            self.lost += 1
            self._reviving = asyncio.ensure_future(self._revive(planner))
        else:
            self._idle.put_nowait(planner)

    async def _revive(self, planner: _Planner) -> None:
        """Warm up the process in a lost one's place; it takes requests only then."""
        with contextlib.suppress(PlannerLost):
            await self._ask(planner, self._first, "auto", WARM_UP_S)
        self._idle.put_nowait(planner)

    def _left(self, budget: Budget, received: float) -> Budget:
        if budget.seconds is None:
            return budget
        waited_s = time.monotonic() - received
        return replace(budget, seconds=max(0.0, min(budget.seconds, self.most_s) - waited_s))

    def close(self) -> None:
        """End all processes."""
        for planner in self._all:
            planner.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
