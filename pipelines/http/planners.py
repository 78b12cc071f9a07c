"""Planner processes behind a bounded queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from plancast.pipelines.planner_process import (
    WARM_UP,
    WARM_UP_S,
    PlannerLost,
    PlannerProcess,
    Question,
    answer,
    left_of,
)
from plancast.planner.model.messages import Budget

Ask = Callable[[Budget], Question]
"""A question, given what is left of its budget once a planner is free."""


class QueueFull(Exception):
    """As many requests wait as may; the sender should come back later."""


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
        self._all = [PlannerProcess(work) for _ in range(count)]
        self._idle: asyncio.Queue[PlannerProcess] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(count, "planner")
        self._reviving: asyncio.Future[None]

    async def warm_up(self) -> None:
        """Let every process plan once, so that its kernels are loaded; then take requests.

        Raises
        ------
        PlannerLost
            Where one does not get that far.
        """
        for planner in self._all:
            await self._ask(planner, WARM_UP, WARM_UP_S)
            self._idle.put_nowait(planner)

    async def plan(self, ask: Ask, budget: Budget, received: float) -> Any:
        """Answer a question as soon as a planner is idle.

        Parameters
        ----------
        ask : callable
            Makes the question.
        budget : Budget
            What its sender asked for.
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
        left = self._left(budget, received)
        patience_s = self.grace_s + (self.most_s if left.seconds is None else left.seconds)
        asked = self._ask(planner, ask(left), patience_s)
        # Freed when it is done, not when its client has gone: then it still plans.
        asked.add_done_callback(partial(self._free, planner))
        return await asyncio.shield(asked)

    def _ask(
        self, planner: PlannerProcess, question: Question, patience_s: float
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, planner.ask, question, patience_s)

    def _free(self, planner: PlannerProcess, asked: asyncio.Future[Any]) -> None:
        if not asked.cancelled() and isinstance(asked.exception(), PlannerLost):
            self.lost += 1
            self._reviving = asyncio.ensure_future(self._revive(planner))
        else:
            self._idle.put_nowait(planner)

    async def _revive(self, planner: PlannerProcess) -> None:
        """Warm up the process in a lost one's place; it takes requests only then."""
        with contextlib.suppress(PlannerLost):
            await self._ask(planner, WARM_UP, WARM_UP_S)
        self._idle.put_nowait(planner)

    def _left(self, budget: Budget, received: float) -> Budget:
        if budget.seconds is not None:
            budget = replace(budget, seconds=min(budget.seconds, self.most_s))
        return left_of(budget, received)

    def close(self) -> None:
        """End all processes."""
        for planner in self._all:
            planner.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
