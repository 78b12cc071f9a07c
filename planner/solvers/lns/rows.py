"""Rows of tasks on workers, searched beside ruin and recreate: see ``row_kernel``.

A move of ``ruin`` puts a task where the others leave room. That a task should start before others
on its worker, which then all start later, takes moving all of these: one change of a row.
"""

from __future__ import annotations

import time

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.solvers.lns import row_kernel, ruin
from plancast.planner.solvers.lns.local_search import (
    MOST_FASTER,
    SPARE,
    Walk,
    order_tells_all,
    state_arrays,
)
from plancast.planner.solvers.lns.ruin import Fixed

ODDS = np.cumsum([0.35, 0.25, 0.25, 0.15])
"""Cumulated chances of the kernel's rules."""
ROOM = 24
"""Places of a row beyond the longest one's."""
SLICE_S = 0.02
"""A call of the kernel lasts about this long where a clock stops it."""
LEAST_A_SECOND = 10_000.0
"""Moves that the first call reckons with."""
CHANGES = 4
"""So many changes of rows count as one move: they take no longer where rows are short."""
FEWEST, MOST_TASKS = 0.5, 2_000
"""Part of the tasks that must stand in rows for these to be searched; of how many tasks at most."""


def in_rows(problem: Problem) -> Ints:
    """The tasks that concern their worker alone: one piece, no links."""
    tied = np.diff(problem.link_ptr) > 0
    tied[problem.before] = True
    found: Ints = np.flatnonzero((problem.shards == 1) & ~tied)
    return found


def suits_rows(problem: Problem) -> bool:
    """Whether it pays to search rows: where time costs, and most tasks concern one worker each."""
    if not 1 < len(problem.tasks) <= MOST_TASKS or len(problem.workers) < 2:
        return False
    alone = len(in_rows(problem)) >= FEWEST * len(problem.tasks)
    return alone and not (problem.shards > 1).any() and order_tells_all(problem)


class Rows:
    """Changes the rows of a walk's schedule.

    Parameters
    ----------
    problem : Problem
        That ``suits_rows`` likes.
    walk : Walk
        Goes on from where this stops.
    seed : int
    """

    def __init__(self, problem: Problem, walk: Walk, seed: int) -> None:
        self.problem, self.walk = problem, walk
        found = in_rows(problem)
        self.active = found[walk.fixed.ti[found, ruin.MINE] == 1]
        self.every, self.every_ptr = _ours(walk.fixed)
        self.rng = np.random.default_rng(seed)
        self._a_second = 0.0

    @property
    def hold_all(self) -> bool:
        """Whether all tasks stand in rows."""
        return len(self.active) == len(self.problem.tasks)

    def step(self, moves: int, heat: float) -> None:
        """Make so many moves at one temperature, in units of cost; see ``CHANGES``."""
        self._run(moves * CHANGES, heat, None)

    def step_until(self, until: float, heat: float) -> None:
        """Make moves until ``time.perf_counter`` says `until`, in calls of some 20 ms."""
        self._run(None, heat, until)

    def _run(self, changes: int | None, heat: float, until: float | None) -> None:
        now = self.walk.now()
        state, profile = state_arrays(self.problem, now)
        of_rows = self.problem.shard_ptr[self.active]
        state.ts[self.active], state.ps[of_rows, ruin.ON] = ruin.FAR, -1
        # With what the walk charges for workers at present.
        fixed = self.walk.fixed._replace(
            active=self.active, every=self.every, every_ptr=self.every_ptr
        )
        base, _ = ruin.load(fixed, state, profile, SPARE)
        # Rows know none (`suits_rows`): their search is compiled in one form, not in full too.
        fixed = fixed._replace(hours=None)
        rows, number = self._rows_of(now)
        best, least, made = None, np.inf, 0
        while True:
            clock = time.perf_counter()
            if until is None:
                count = (changes or 0) - made
            else:
                left_s = 0.0 if interruption.asked() else min(SLICE_S, until - clock)
                count = int(left_s * max(self._a_second, LEAST_A_SECOND)) if left_s > 0 else 0
            if count <= 0:
                break
            found, there, ts, on, cost = row_kernel.search(
                fixed, base, state.ws, state.load_s, state.wait_s, rows, number, count, heat,
                ODDS, int(self.rng.integers(1 << 31)),
            )  # fmt: skip
            made += count
            if cost < least:
                best, least = (found, there), cost
            if until is not None:
                # A coarse clock may say that a call took no time at all.
                rate = count / max(1e-6, time.perf_counter() - clock)
                self._a_second = min(rate, MOST_FASTER * count / SLICE_S)
        self.walk.moves += made // CHANGES
        if best is not None and np.isfinite(least):
            self.walk.offer(self._schedule(now, *best))
            self.walk.restart(self._schedule(now, ts, on))

    def _rows_of(self, now: Schedule) -> tuple[Ints, Ints]:
        """The rows of a schedule, by start, and their lengths."""
        worker = now.worker[self.problem.shard_ptr[self.active]]
        in_turn = np.lexsort((now.end[self.active], now.start[self.active], worker))
        number = np.bincount(worker, minlength=len(self.problem.workers))
        rows = np.zeros((len(number), int(number.max(initial=0)) + ROOM), np.int64)
        place = np.arange(len(in_turn)) - np.repeat(np.cumsum(number) - number, number)
        rows[worker[in_turn], place] = self.active[in_turn]
        return rows, number

    def _schedule(self, now: Schedule, ts: Ints, on: Ints) -> Schedule:
        """A schedule with the tasks of the rows as they are there."""
        start, end, worker = now.start.copy(), now.end.copy(), now.worker.copy()
        start[self.active] = ts[self.active, ruin.START]
        end[self.active] = ts[self.active, ruin.END]
        worker[self.problem.shard_ptr[self.active]] = on[self.active]
        return Schedule(start, end, worker)


def _ours(fixed: Fixed) -> tuple[Ints, Ints]:
    """``Fixed.every`` with the workers of OURS alone, and its pointers."""
    ours = fixed.wi[fixed.every, ruin.OURS] == 1
    kept = np.concatenate([[0], np.cumsum(ours)])
    return fixed.every[ours], kept[fixed.every_ptr]
