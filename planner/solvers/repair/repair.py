"""Repair: the plan in force with no more changes than the new state of the cluster needs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.problem import Bools, Floats, Ints, Problem, Schedule
from plancast.planner.arrays.rates import ALL_TERMS
from plancast.planner.bounds.lower_bound import bound_by_parts
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.base import Observe, Solution, Solver, at_least, solves, within
from plancast.planner.solvers.lns import ruin
from plancast.planner.solvers.lns.local_search import (
    PLACES,
    Shape,
    Walk,
    fixed_arrays,
    full_cost,
    ranks,
)
from plancast.planner.solvers.lns.reinsertion import (
    Standing,
    neighbours,
    reinserted,
    shaken,
    standing,
)
from plancast.planner.solvers.lns.ruin import Fixed
from plancast.planner.solvers.lns.subproblem import rest_of

ODDS = np.cumsum([0.1, 0.2, 0.5, 0.1, 0.05, 0.05, 0.0])
"""Cumulated chances of ``ruin``'s rules: half of the moves begin with a task that is late."""
MOVES_A_CALL = 50
"""Moves between two looks at the clock and at how much was moved; about 2 ms."""
EXACT_PART = 0.25
"""Part of the budget that the exact search of a small neighbourhood may take."""
HEAT = 0.001
"""Temperature, as a share of the cost over the number of tasks (of a thousand at least)."""
COSTLIER = 2.0
"""Factor on the price of a move each time that too much was moved."""
PROVEN = 1e-9
"""Relative difference between a cost and its bound that is none."""
CALM = 1e-3
"""Part of the temperature that is left at the end."""


@dataclass(frozen=True)
class Repair:
    """Keeps what still holds of the request's incumbent, and repairs the rest from the inside out.

    First all that keeps its workers is timed anew in the planned order, and only what cannot
    keep them is inserted. Then the neighbourhood widens ring by ring: the tasks that were
    inserted; those that were pushed with them; what shares their time; everything that is not
    frozen. While a ring is of a few tasks the best way to place them is found by A*, which
    begins with the plan so far as its incumbent; a larger one is searched by ruin and recreate.
    What A* proves is kept: a ring that lies in one with nothing to gain is not searched again.

    Parameters
    ----------
    start : Solver
        Plans where there is nothing to repair, and where a task finds no place.
    exact : Solver
        Places the tasks of a small neighbourhood where all others stay.
    exact_tasks : int
        Up to so many; 0 for never.
    frozen_s : int
        A task planned to start within so many seconds keeps its workers and its place if it
        can.
    most_moved : float
        Share of the tasks that may be moved, as far as repairing alone lets it be.
    allowed : float
        The neighbourhood is not widened any more once the plan costs at most this much more
        than the bound, relative.
    most, looked_at : int
        Most tasks of one ruin; workers looked at for each insertion.
    """

    name: ClassVar[str] = "repair"
    exact_terms: ClassVar[frozenset[str]] = ALL_TERMS
    start: Solver
    exact: Solver
    exact_tasks: int = 4
    frozen_s: int = 0
    most_moved: float = 0.15
    allowed: float = 0.0
    most: int = 40
    looked_at: int = 48

    def __post_init__(self) -> None:
        solves(self, "start", "exact")
        at_least(self, 0, "exact_tasks", "frozen_s", "allowed")
        within(self, 0, 1, "most_moved")
        at_least(self, 1, "most", "looked_at")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``; the plan that is repaired is the request's, a step is a move.

        `incumbent` is only what the repaired plan has to be cheaper than.
        """
        began = time.perf_counter()
        stands = standing(problem)
        work = _Work(self, problem, stands, budget, began, rng, observe)
        first = work.reinsert() if stands.keeps.any() else None
        if first is None:
            return self.start.solve(
                problem, budget=budget, rng=rng, incumbent=incumbent, observe=observe
            )
        if incumbent is not None:
            work.offer(incumbent, any_moves=True)
        work.widen()
        return Solution(Status.FEASIBLE, work.best, work.bound, claimed=work.cost, steps=work.steps)


class _Work:
    """One repair: the best schedule so far, and what is left of the budget."""

    def __init__(
        self,
        repair: Repair,
        problem: Problem,
        stands: Standing,
        budget: Budget,
        began: float,
        rng: np.random.Generator,
        observe: Observe | None,
    ) -> None:
        self.repair, self.problem, self.stands = repair, problem, stands
        self.rng, self.observe, self.budget, self.began = rng, observe, budget, began
        seconds = budget.seconds
        self.until = float("inf") if seconds is None else began + seconds
        self.fixed: Fixed = fixed_arrays(problem)
        self.rank: Floats = ranks(problem)
        self.best: Schedule
        self.cost = float("inf")
        self.inserted: Bools
        self.bound = float("-inf")
        self.settled: Bools = np.zeros(len(problem.tasks), np.bool_)
        """Tasks by which nothing can be gained while all others stay as they are in `best`."""
        self.steps = 0
        self.most_moved = len(problem.tasks)

    def reinsert(self) -> Schedule | None:
        """Keep what can be kept and insert the rest; None if it finds no place."""
        # What waits for cheaper energy may as well start: now that something else has changed.
        kept = [self.stands]
        if self.stands.not_before is not None:
            kept.append(replace(self.stands, not_before=None))
        tried = [
            reinserted(self.problem, self.fixed, stands, self.rank[0], 1e-9, in_turn)
            for stands in kept
            for in_turn in (False, True)
        ]
        found = [one for one in tried if one is not None]
        if not found:
            return None
        moves = [self.problem.moved(schedule) for schedule, _ in found]
        # Nobody is asked to move less than had to be moved anyway.
        wanted = int(self.repair.most_moved * len(self.problem.tasks))
        self.most_moved = max(wanted, min(moves))
        for schedule, inserted in found:
            if self.offer(schedule):
                self.inserted = inserted
        self.bound = bound_by_parts(self.problem)
        return self.best

    def offer(self, schedule: Schedule, *, any_moves: bool = False) -> bool:
        """Keep a schedule if it is the cheapest so far and moves no more than it may."""
        cost = full_cost(self.problem, schedule)
        if cost >= self.cost or not (any_moves or self.modest(schedule)):
            return False
        self.best, self.cost = schedule, cost
        self.settled = np.zeros_like(self.settled)
        if self.observe is not None:
            self.observe(cost, self.bound)
        return True

    def modest(self, schedule: Schedule) -> bool:
        """Whether a schedule moves no more than it may."""
        return self.problem.moved(schedule) <= self.most_moved

    def widen(self) -> None:
        """Search ring by ring until the plan is cheap enough or time is up."""
        loose = ~self.stands.frozen(self.repair.frozen_s) | self.inserted
        for ring in self._rings(loose):
            if self._good_enough():
                return
            if ring.sum() > self.repair.exact_tasks:
                break
            if ring.any():
                self._place_exactly(ring)
        # Rings between the small ones and this one were tried: they gain less than they take.
        if loose.any() and not self._nothing_to_gain(loose) and not self._good_enough():
            fixed = self.fixed._replace(pool=_any_worker(self.fixed, self.rng))
            self._search(fixed, loose, self._budget(1.0))

    def _rings(self, loose: Bools) -> Iterator[Bools]:
        """Ever more of the tasks that may be moved; each as things stand when it is asked for."""
        yield self.inserted & loose
        touched = shaken(self.problem, self.best, self.inserted)
        yield touched & loose
        yield neighbours(self.problem, self.best, touched) & loose
        yield loose

    def _place_exactly(self, ring: Bools) -> None:
        """Find the best way to place a few tasks where all others stay as they are."""
        budget = self._budget(EXACT_PART)
        if (
            self.problem.is_related
            or self._nothing_to_gain(ring)
            or budget.seconds == 0
            or budget.steps == 0
        ):
            return
        rest = rest_of(self.problem, self.fixed, self.best, ring)
        part = rest.part_of(self.best)
        stays = self.problem.cost(self.best) - rest.cost(part)
        found = self.repair.exact.solve(rest, budget=budget, rng=self.rng, incumbent=part)
        if found.schedule is None:
            return
        self.offer(rest.joined(found.schedule))
        # A* prices no moves; those of tasks that lost their workers are in every plan.
        moves = self.problem.gone + int((self.stands.known & ~self.stands.keeps).sum())
        bound = stays + found.lower_bound + self.problem.rates.move * moves
        if self.cost - bound <= PROVEN * abs(self.cost):
            self.settled = ring.copy()

    def _nothing_to_gain(self, ring: Bools) -> bool:
        return bool(self.settled[ring].all())

    def _good_enough(self) -> bool:
        return self.cost <= (1.0 + self.repair.allowed) * self.bound or interruption.asked()

    def _budget(self, part: float) -> Budget:
        """A part of what is left."""
        seconds, steps = self.budget.seconds, self.budget.steps
        if seconds is not None:
            seconds = max(0.0, part * (self.until - time.perf_counter()))
        if steps is not None:
            steps = int(part * (steps - self.steps))
        return Budget(seconds, steps)

    def _search(self, fixed: Fixed, ring: Bools, budget: Budget) -> None:
        """Move only tasks of a ring."""
        problem, repair = self.problem, self.repair
        ti = fixed.ti.copy()
        ti[:, ruin.MINE] = ring
        fixed = fixed._replace(
            ti=ti, wi=fixed.wi.copy(), wf=fixed.wf.copy(), rates=fixed.rates.copy(),
            active=np.flatnonzero(ring),
        )  # fmt: skip
        walk = Walk(problem, fixed, self.best, self.rank, int(self.rng.integers(1 << 31)))
        shape = Shape(repair.most, repair.looked_at, 0.02, 1e-9 * max(1e-9, self.cost))
        # As in ``lns``: small batches have few costly tasks rather than many cheap ones.
        tasks = len(problem.tasks)
        scale = HEAT * self.cost / tasks * max(1.0, 1000 / tasks)
        began = time.perf_counter()
        spent = 0.0
        while spent < 1.0 and not self._good_enough():
            moves = MOVES_A_CALL
            if budget.steps is not None:
                moves = min(moves, budget.steps - walk.moves)
                if moves <= 0:
                    break
            walk.step(moves, scale * CALM**spent, 0.0, shape, ODDS)
            if walk.best_cost < self.cost and not self.offer(walk.best):
                # Too much was moved: back to the best there is, and moves become costlier.
                least = self.cost / len(problem.tasks) / 100
                fixed.rates[ruin.MOVE] = max(COSTLIER * fixed.rates[ruin.MOVE], least)
                walk.best, walk.best_cost = self.best, full_cost(problem, self.best)
                walk.restart(self.best)
            spent = self._spent(budget, began, walk.moves)
        self.steps += walk.moves

    def _spent(self, budget: Budget, began: float, moves: int) -> float:
        """Share of a budget that is used up."""
        parts = [0.0]
        if budget.seconds is not None:
            parts.append((time.perf_counter() - began) / max(1e-9, budget.seconds))
        if budget.steps is not None:
            parts.append(moves / max(1, budget.steps))
        return max(parts)


def _any_worker(fixed: Fixed, rng: np.random.Generator) -> Ints:
    """The pool of ``Fixed``: workers that may hold each kind, drawn alike. (kinds, PLACES)."""
    kinds = len(fixed.every_ptr) - 1
    able = np.diff(fixed.every_ptr)[:, None]
    drawn = (rng.random((kinds, PLACES)) * able).astype(np.int64)
    # A kind that nothing may hold has no task; any worker will do.
    places = np.minimum(fixed.every_ptr[:-1, None] + drawn, max(0, len(fixed.every) - 1))
    return fixed.every[places]
