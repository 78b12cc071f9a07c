"""A* over tasks with modes: branch and bound over the modes, a search for each choice of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.modes import Choices, restricted
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.bounds.lower_bound import bound_by_parts
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.base import Observe, Solution
from plancast.planner.solvers.mode_rules import with_mode

MOST_TASKS = 10
"""Of more tasks nothing is begun: there are too many choices."""
SAME = 1e-7
"""Costs that differ by less, relative, are the same."""

Solve = Callable[[Problem, Budget], Solution]


class ByChoice:
    """Choices depth first, the mode of least bound first; those that cannot be best are cut.

    Parameters
    ----------
    choices : Choices
    solve : callable
        Searches the plain problem of one choice.
    budget : Budget
    incumbent : Schedule, optional
    observe : callable, optional

    Notes
    -----
    The bound of some chosen modes is that of the plain problem in which every other task takes
    the least of all its modes (``Choices.relaxed``). A plain problem divides the stretch by the
    chosen duration, which is no more than it costs: where it has a price the answer may be no
    proof, but its bound is one.
    """

    def __init__(
        self,
        choices: Choices,
        solve: Solve,
        budget: Budget,
        incumbent: Schedule | None,
        observe: Observe | None,
    ) -> None:
        self.choices, self.solve, self.observe = choices, solve, observe
        self.stop_at = math.inf
        if budget.seconds is not None:
            self.stop_at = time.perf_counter() + budget.seconds
        self.steps_left = math.inf if budget.steps is None else budget.steps
        self.steps = 0
        self.best = incumbent
        self.cost = math.inf if incumbent is None else choices.cost(incumbent)
        self.bound = math.inf
        """No schedule that was looked at, or cut, costs less."""
        self.whole = True
        """Whether every choice was looked at or cut for a reason."""

    def run(self) -> Solution:
        """All choices, as far as the budget lets."""
        if len(self.choices.tasks) <= MOST_TASKS:
            self._branch(self.choices, 0)
        else:
            self.whole = False
        bound = min(self.bound, self.cost) if self.whole else -math.inf
        if self.best is None:
            status = Status.INFEASIBLE if self.whole else Status.NO_PLAN_IN_TIME
            return Solution(status, lower_bound=bound, steps=self.steps)
        proven = self.whole and self.cost - bound <= 2 * SAME * abs(self.cost)
        status = Status.OPTIMAL if proven else Status.FEASIBLE
        return Solution(status, self.best, bound, self.cost, self.steps)

    def _spent(self) -> bool:
        late = time.perf_counter() >= self.stop_at or self.steps >= self.steps_left
        return late or interruption.asked()

    def _branch(self, choices: Choices, i: int) -> None:
        """Every mode of task i and of all after it; those before have one left."""
        if i == len(choices.tasks):
            self._leaf(choices)
            return
        rows = range(*choices.ptr[i : i + 2].tolist())
        ways = [restricted(choices, i, row) for row in rows] if len(rows) > 1 else [choices]
        bounds = [bound_by_parts(way.relaxed) for way in ways]
        for k in np.argsort(bounds, kind="stable").tolist():
            if not _affordable(ways[k]):
                continue
            if bounds[k] >= self.cost - SAME * abs(self.cost):
                self.bound = min(self.bound, bounds[k])
            elif self._spent():
                self.whole = False
                return
            else:
                self._branch(ways[k], i + 1)

    def _leaf(self, choices: Choices) -> None:
        choice: Ints = choices.ptr[:-1]
        left = Budget(
            None if self.stop_at == math.inf else max(0.0, self.stop_at - time.perf_counter()),
            None if self.steps_left == math.inf else int(self.steps_left - self.steps),
        )
        found = self.solve(choices.fixed(choice), left)
        self.steps += max(1, found.steps)
        if found.status is Status.INFEASIBLE:
            return
        self.bound = min(self.bound, found.lower_bound)
        self.whole &= found.status is Status.OPTIMAL
        if found.schedule is None:
            return
        cost = choices.cost(with_mode(found.schedule, choice))
        if cost < self.cost:
            rows = choices.rows[choice]
            self.best, self.cost = with_mode(found.schedule, rows), cost
            if self.observe is not None:
                self.observe(cost, -math.inf)


def _affordable(choices: Choices) -> bool:
    """Whether the budgets hold the least of what each task may consume."""
    if not len(choices.left) or not len(choices.tasks):
        return True
    least = np.minimum.reduceat(choices.consumed, choices.ptr[:-1]).sum(axis=0)
    return bool(((least == 0) | (least <= choices.left)).all())


def solve_by_choice(
    choices: Choices,
    solve: Solve,
    budget: Budget,
    incumbent: Schedule | None,
    observe: Observe | None,
) -> Solution:
    """See ``ByChoice``."""
    numbered = replace(choices, rows=np.arange(len(choices.mode), dtype=np.int64))
    return ByChoice(numbered, solve, budget, incumbent, observe).run()
