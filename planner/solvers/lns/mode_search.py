"""Local search over modes around an inner search: some tasks change theirs and are put in anew."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.base import Observe
from plancast.planner.solvers.lns.local_search import fixed_arrays, ranks
from plancast.planner.solvers.lns.reinsertion import Standing, reinserted
from plancast.planner.solvers.mode_rules import with_mode

CYCLES = 4
"""How often modes and, with these fixed, places and times are searched in turn."""
MODES_PART = 0.6
"""Part of a cycle for the modes."""
MOST_CHANGED = 3
"""Most tasks whose modes change at once."""
STEPS_A_TRY = 10
"""Moves of the inner search that a change of modes counts as, with a budget of steps."""
PICKS = 8
"""Random modes that are looked at for each task, until one keeps to the budgets."""

Inner = Callable[[Problem, Schedule, Budget], Schedule | None]
"""Searches places and times of a plain problem from a schedule on."""


class ModeSearch:
    """Simulated annealing over the modes.

    Parameters
    ----------
    choices : Choices
    first : Schedule
        With modes; where the search starts.
    rng : numpy Generator
    observe : callable, optional
    hot, cold : float
        First and last temperature, as of ``LargeNeighbourhood``.
    """

    def __init__(
        self,
        choices: Choices,
        first: Schedule,
        rng: np.random.Generator,
        observe: Observe | None,
        hot: float,
        cold: float,
    ) -> None:
        assert first.mode is not None
        self.choices, self.rng, self.observe = choices, rng, observe
        self.current = self.best = first
        self.cost = self.best_cost = choices.cost(first)
        self.hot, self.cold = hot, cold
        tasks = len(choices.tasks)
        self.scale = abs(self.cost) / tasks * max(1.0, 1000 / tasks)
        self.several = np.flatnonzero(np.diff(choices.ptr) > 1)
        self.steps = 0
        self.proven = False

    def run(self, budget: Budget, began: float, inner: Inner) -> None:
        """Search until the budget is spent."""
        for cycle in range(CYCLES):
            for part in (cycle + MODES_PART, cycle + 1.0):
                is_inner = part == cycle + 1.0
                left = self._until(part / CYCLES, budget, began)
                if self._ended() or left.seconds == 0.0 or left.steps == 0:
                    continue
                if is_inner or not len(self.several):
                    self._settle(left, inner)
                else:
                    self._change(left, cycle / CYCLES)

    def _until(self, share: float, budget: Budget, began: float) -> Budget:
        """What is left until a share of the budget is spent."""
        seconds, steps = budget.seconds, budget.steps
        if seconds is not None:
            seconds = max(0.0, began + share * seconds - time.perf_counter())
        return Budget(seconds, None if steps is None else max(0, int(share * steps) - self.steps))

    def _ended(self) -> bool:
        return self.proven or interruption.asked()

    def _settle(self, budget: Budget, inner: Inner) -> None:
        """Search places and times with the modes of the best schedule."""
        mode = self.best.mode
        assert mode is not None
        found = inner(self.choices.fixed(mode), self.best, budget)
        self.steps += budget.steps or 0
        if found is not None:
            self._go_on(with_mode(found, mode), self.choices.cost(with_mode(found, mode)))

    def _change(self, budget: Budget, spent: float) -> None:
        """Change modes by simulated annealing."""
        seconds = math.inf if budget.seconds is None else budget.seconds
        steps = math.inf if budget.steps is None else budget.steps
        until, tries, most = time.perf_counter() + seconds, 0, steps / STEPS_A_TRY
        self.current, self.cost = self.best, self.best_cost
        while tries < most and time.perf_counter() < until and not self._ended():
            tries += 1
            schedule = self._neighbour()
            if schedule is None:
                continue
            cost = self.choices.cost(schedule)
            heat = self.hot * (self.cold / self.hot) ** min(1.0, spent) * self.scale
            if cost - self.cost <= -heat * math.log(1.0 - self.rng.random()):
                self._go_on(schedule, cost)
        self.steps += tries * STEPS_A_TRY

    def _go_on(self, schedule: Schedule, cost: float) -> None:
        self.current, self.cost = schedule, cost
        if cost < self.best_cost:
            self.best, self.best_cost = schedule, cost
            if self.observe is not None:
                self.proven = bool(self.observe(cost, float("-inf")))

    def _neighbour(self) -> Schedule | None:
        """The schedule with other modes of a few tasks, which are put in anew in their turn."""
        choices, before = self.choices, self.current.mode
        assert before is not None
        choice = before.copy()
        count = min(len(self.several), 1 + int(self.rng.integers(MOST_CHANGED)))
        for i in self.rng.choice(self.several, count, replace=False).tolist():
            for _ in range(PICKS):
                old = choice[i]
                choice[i] = self.rng.integers(choices.ptr[i], choices.ptr[i + 1])
                if choice[i] != old and choices.affords(choice):
                    break
                choice[i] = old
        changed = choice != before
        return put_in_anew(choices, self.current, choice) if changed.any() else None


def put_in_anew(choices: Choices, schedule: Schedule, choice: Ints) -> Schedule | None:
    """A schedule with the modes of `choice`: tasks that change theirs are inserted in their turn.

    All others keep their workers and the order of their starts; None where one finds no place.
    """
    before = schedule.mode
    assert before is not None
    problem, shards = choices.fixed(choice), choices.ways.shards[before]
    changed = choice != before
    tasks = np.arange(len(choice))
    task_of = np.repeat(tasks, shards)
    in_order = schedule.worker[np.lexsort((schedule.worker, task_of))]
    worker = np.full(int(problem.shard_ptr[-1]), -1, np.int64)
    worker[np.repeat(~changed, problem.shards)] = in_order[np.repeat(~changed, shards)]
    stands = Standing(np.ones(len(choice), np.bool_), ~changed, schedule.start, worker)
    horizon = max(1.0, float(schedule.end.max()))
    tie = 1e-6 / horizon / len(choice) + 1e-15
    found = reinserted(
        problem, fixed_arrays(problem), stands, ranks(problem, horizon)[0], tie, True
    )  # fmt: skip
    return None if found is None else with_mode(found[0], choice)
