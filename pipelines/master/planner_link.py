"""The planner that a master asks: in a process of its own, and never waited for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from plancast.pipelines.master.differences import Sender, answered
from plancast.pipelines.master.loop import NoAnswer
from plancast.pipelines.planner_process import (
    WARM_UP,
    WARM_UP_S,
    PlannerLost,
    PlannerProcess,
    Question,
    answer,
)
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse
from plancast.planner.planning.controller import Choice, ControlPolicy
from plancast.planner.planning.plan import plan
from plancast.planner.planning.repair import repair

GRACE_S = 10.0
"""How much later than its budget an answer may come."""
STEPS_S = 60.0
"""Seconds that a budget of steps alone may take."""


class PatientPlanner:
    """Repairs and plans in a process that may hang or die without harm to the master.

    Parameters
    ----------
    control : ControlPolicy
    grace_s : float
        How much later than its budget an answer may come; then the process is replaced.
    warm_up_s : float
        Longest time that the first process may take before it answers anything: kernels may
        be compiled. A later one is not waited for.
    work : callable
        What the process does with its end of the pipe.
    """

    def __init__(
        self,
        control: ControlPolicy,
        *,
        grace_s: float = GRACE_S,
        warm_up_s: float = WARM_UP_S,
        work: Callable[[Connection], None] = answer,
    ) -> None:
        self.control, self.grace_s, self.warm_up_s = control, grace_s, warm_up_s
        self.work = work
        self.lost = 0
        self._process: PlannerProcess | None = None
        self._sender = Sender()
        self._warm_by: float | None = None
        """When a process that warms up must be warm; None: it is."""

    def start(self) -> None:
        """Begin to load the planner; asked for it is started by itself."""
        if self._process is None:
            self._process = PlannerProcess(self.work)
            self._load(self._process)

    @property
    def loading(self) -> bool:
        """Whether an answer would have to wait until it has loaded."""
        self.start()
        process, by = self._process, self._warm_by
        return by is not None and time.monotonic() < by and not (process and process.ready())

    def __call__(self, request: PlanRequest, choice: Choice) -> PlanResponse:
        """Answer a request, or raise ``NoAnswer`` when the planner is late, lost, or loading."""
        self.start()
        process = self._process
        assert process is not None
        try:
            self._await_warm(process)
            response: PlanResponse = process.ask(
                self._question(request, choice), self._patience_s(request.budget)
            )
            self._sender.answered(response)
        except PlannerLost as why:
            self.lost += 1
            self._load(process)
            raise NoAnswer(str(why)) from None
        return response

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop()

    # ------------------------------------------------------------------ inside

    def _load(self, process: PlannerProcess) -> None:
        self._sender = Sender()  # another process knows nothing
        self._warm_by = time.monotonic() + self.warm_up_s
        with suppress(PlannerLost):  # then the next question finds it lost
            process.put(WARM_UP)

    def _await_warm(self, process: PlannerProcess) -> None:
        if self._warm_by is None:
            return
        left_s = max(0.0, self._warm_by - time.monotonic())
        if self.lost and left_s > 0 and not process.ready():
            raise NoAnswer("the planner that takes a lost one's place is not ready yet")
        process.take(left_s)
        self._warm_by = None

    def _question(self, request: PlanRequest, choice: Choice) -> Question:
        new = self._sender.difference(request)
        if choice is Choice.REPAIR:
            # What it answers is judged before it is put in force.
            return answered, (new, repair, {"frozen_s": self.control.frozen_s, "judge": False})
        return answered, (new, plan, {})

    def _patience_s(self, budget: Budget) -> float:
        return self.grace_s + (STEPS_S if budget.seconds is None else budget.seconds)
