"""What searches for a short makespan share: the best, its bound, a prover, packed activities."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.graph import successors
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.bounds.lower_bound import least_end_s
from plancast.planner.model.messages import Status
from plancast.planner.solvers.base import Observe, Solution
from plancast.planner.solvers.makespan.activity_lists import Project as Activities
from plancast.planner.solvers.makespan.prover import Prover

WORD = 62
"""Bits that the amounts of all resources may take together."""
LONGEST = 1 << 21
"""Seconds that the tasks may take one after another: the kernel looks at each of them."""
UNKNOWN_S = 1 << 60
"""Makespan of no schedule at all."""


class MakespanSearch:
    """The best schedule and the best bound of a search, whole seconds, reported to an observer.

    Parameters
    ----------
    problem : Problem
        That prices the makespan alone.
    rng : numpy Generator
    incumbent : Schedule, optional
    observe : callable, optional
    """

    def __init__(
        self,
        problem: Problem,
        rng: np.random.Generator,
        incumbent: Schedule | None,
        observe: Observe | None,
    ) -> None:
        self.problem, self.rng, self.observe = problem, rng, observe
        self.price = problem.rates.end
        self.lower_s = int(np.ceil(least_end_s(problem) - 1e-6))
        self.best = incumbent
        self.upper_s = UNKNOWN_S if incumbent is None else int(incumbent.end.max())
        self.steps = 0

    def enter(self, schedule: Schedule) -> bool:
        """Keep a schedule if it is shorter than the best; whether it is."""
        makespan = int(schedule.end.max())
        if makespan >= self.upper_s:
            return False
        self.best, self.upper_s = schedule, makespan
        self._tell()
        return True

    def share(self, prover: Prover, left_s: float) -> Schedule | None:
        """Exchange bounds and schedules with the prover; ask anew when it has an old question.

        Returns
        -------
        Schedule or None
            What it found, if that was shorter than the best.
        """
        news = prover.found if prover.found is not None and self.enter(prover.found) else None
        if prover.lower_s > self.lower_s:
            self.lower_s = prover.lower_s
            self._tell()
        if prover.upper_s != self.upper_s and self.lower_s < self.upper_s and left_s > 0:
            assert self.best is not None
            prover.start(self.best, left_s)
        return news

    def solution(self) -> Solution:
        """The best schedule and what is proved of it."""
        if self.best is None:
            return Solution(Status.NO_PLAN_IN_TIME, steps=self.steps)
        lower_s = min(self.lower_s, self.upper_s)
        status = Status.OPTIMAL if lower_s == self.upper_s else Status.FEASIBLE
        cost = self.price * self.upper_s
        return Solution(status, self.best, self.price * lower_s, cost, self.steps)

    def seed(self) -> int:
        """A seed for a kernel or the prover."""
        return int(self.rng.integers(1 << 31))

    def _tell(self) -> None:
        if self.observe is not None:
            bound_s = min(self.lower_s, self.upper_s)
            self.observe(self.price * self.upper_s, self.price * bound_s)


def activities_of(problem: Problem) -> Activities | None:
    """The arrays of the kernel; None where they would be too wide or too long for it."""
    demand, capacity = problem.demand, problem.capacity[0]
    full = guards = shift = 0
    packed = np.zeros(len(problem.tasks), np.int64)
    for r, amount in enumerate(capacity.tolist()):
        unit = int(np.gcd.reduce([amount, *demand[:, r].tolist()])) or 1
        if not demand[:, r].any():
            continue
        field = int(amount // unit).bit_length()
        full |= (amount // unit) << shift
        packed += (demand[:, r] // unit) << shift
        shift += field + 1
        guards |= 1 << (shift - 1)
        if shift > WORD:
            return None
    duration = problem.shortest
    if int(duration.sum() + problem.release.max()) > LONGEST:
        return None
    succ_ptr, succ = successors(problem.pred_ptr, problem.pred)
    return Activities(
        duration, problem.release, packed, problem.pred_ptr, problem.pred, succ_ptr, succ,
        full | guards, guards,
    )  # fmt: skip
