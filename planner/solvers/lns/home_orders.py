"""Orders of tasks that keep their workers: what ruin and recreate cannot reach from a schedule.

A move of ``ruin`` puts tasks where the others leave room. That a gang should wait until others,
which now come later, have gone before it takes moving all of them at once: a change of the order in
which all start, each on its workers.
"""

from __future__ import annotations

import time

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.solvers.lns import order_kernel, ruin
from plancast.planner.solvers.lns.local_search import Walk, order_tells_all
from plancast.planner.solvers.lns.orders import ODDS, SLICE_S, STAGES, futures_of, order_of

MOST_TASKS = 500
"""Tasks up to which orders are searched: a move lays out half of them again."""
STRAY = 0.7
"""Chance that a task that is moved in the order may go to other workers."""


def suits_home(problem: Problem) -> bool:
    """Whether it pays to change the order of a schedule, too: where gangs wait for workers."""
    if not 1 < len(problem.tasks) <= MOST_TASKS or len(problem.workers) == 1:
        return False
    return bool((problem.shards > 1).any()) and order_tells_all(problem)


class HomeOrders:
    """Changes the order of the tasks of a walk's schedule, each on its workers or moved from them.

    Parameters
    ----------
    problem : Problem
        That ``suits_home`` likes.
    walk : Walk
        Goes on from where this stops.
    seed : int
    """

    def __init__(self, problem: Problem, walk: Walk, seed: int) -> None:
        self.problem, self.walk = problem, walk
        self.futures = futures_of([problem])
        self.rng = np.random.default_rng(seed)
        self.every = max(4, -(-len(problem.tasks) // STAGES))
        self._calls = 64

    def step(self, moves: int, heat: float) -> None:
        """Make so many moves at one temperature, in units of cost."""
        self._run(moves, heat, None)

    def step_until(self, until: float, heat: float) -> None:
        """Make moves until ``time.perf_counter`` says `until`, in calls of some 20 ms."""
        self._run(None, heat, until)

    def _run(self, moves: int | None, heat: float, until: float | None) -> None:
        now = self.walk.now()
        order, home = order_of(self.problem, now), now.worker.astype(np.int64)
        best, least, made = None, np.inf, 0
        while True:
            clock = time.perf_counter()
            if until is None:
                count = (moves or 0) - made
            else:
                count = 0 if clock >= until or interruption.asked() else self._calls
            if count <= 0:
                break
            found, there, order, home, cost, _ = order_kernel.search(
                self.futures, order, home, count, heat, heat, ODDS, STRAY, self.every,
                int(self.rng.integers(1 << 31)),
            )  # fmt: skip
            made += count
            if cost < least:
                best, least = (found, there), cost
            if until is not None:
                took_s = max(1e-6, time.perf_counter() - clock)
                left_s = min(SLICE_S, max(0.0, until - clock - took_s))
                self._calls = max(4, min(4 * count, int(count * left_s / took_s)))
        self.walk.moves += made
        if best is not None:
            self.walk.offer(self._schedule(*best))
            self.walk.restart(self._schedule(order, home))

    def _schedule(self, order: Ints, home: Ints) -> Schedule:
        ts, ps, _ = order_kernel.lay_out(self.futures, 0, order, home)
        return Schedule(ts[:, ruin.START].copy(), ts[:, ruin.END].copy(), ps[:, ruin.ON].copy())
