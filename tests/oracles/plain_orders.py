"""The serial schedule of an order in the dullest style: every second of every worker is tried."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.schedule import FAR

HORIZON_S = 400
"""Nothing starts later in the small requests that this is meant for."""


class PlainSerial:
    """What is free on each worker second by second, and the tasks placed so far."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        times, free, count = problem.profile()
        self.free = np.zeros((len(problem.workers), HORIZON_S, len(problem.resources)), np.int64)
        for w in range(len(problem.workers)):
            for k in range(count[w]):
                self.free[w, min(times[w, k], HORIZON_S) :] = free[w, k]

    def pieces(self, i: int, w: int, start: int, duration: int) -> int:
        """How many pieces of task i worker w holds over a run."""
        if start + duration > HORIZON_S:
            return 0
        free = self.free[w, start : start + duration].min(axis=0)
        if free.min() < 0:
            return 0
        demand = self.problem.demand[i]
        most = int(self.problem.shards[i])
        return min([most, *(int(f // d) for f, d in zip(free, demand, strict=True) if d > 0)])

    def schedule(self, order: Ints, home: Ints | None = None) -> Schedule | None:
        """The schedule, or None where some task has no place; each task at `home` if that is known.

        A task of which `home` says -1 goes where it ends first.
        """
        p = self.problem
        start, end = np.full(len(p.tasks), FAR), np.zeros(len(p.tasks), np.int64)
        worker = np.full(int(p.shard_ptr[-1]), -1, np.int64)
        for i in order.tolist():
            ready = max([int(p.release[i]), *(int(end[b]) for b in p.predecessors(i))])
            at = None if home is None else home[p.shard_ptr[i] : p.shard_ptr[i + 1]].tolist()
            free = at is None or at[0] < 0
            found = self.place(i, ready) if free else self.place_at(i, ready, at or [])
            if found is None:
                return None
            start[i], end[i], on = found
            worker[p.shard_ptr[i] : p.shard_ptr[i + 1]] = on
            for w in on:
                self.free[w, start[i] : end[i]] -= p.demand[i]
        return Schedule(start, end, worker)

    def place_at(self, i: int, ready: int, on: list[int]) -> tuple[int, int, list[int]] | None:
        """The earliest start, and its end, with a piece on each of these workers."""
        d = max(int(self.problem.durations_on(i)[w]) for w in on)
        for start in range(ready, min(self.problem.latest_start(i, d), HORIZON_S) + 1):
            if all(self.pieces(i, w, start, d) >= on.count(w) for w in on):
                return start, start + d, on
        return None

    def place(
        self, i: int, ready: int, price: Callable[[int, int], float] = lambda _, end: end
    ) -> tuple[int, int, list[int]] | None:
        """Start, end and workers of the least price of a start and an end; the first of equals."""
        p, best = self.problem, None
        durations = p.durations_on(i)
        if p.shards[i] == 1:
            for w in np.flatnonzero(durations).tolist():
                d = int(durations[w])
                for start in range(ready, min(p.latest_start(i, d), HORIZON_S) + 1):
                    if self.pieces(i, w, start, d):
                        if best is None or price(start, start + d) < price(*best[:2]):
                            best = (start, start + d, [w])
                        break
            return best
        for limit in sorted({int(d) for d in durations if d > 0}):
            for start in range(ready, min(p.latest_start(i, limit), HORIZON_S) + 1):
                on: list[int] = []
                for w in np.flatnonzero((durations > 0) & (durations <= limit)).tolist():
                    most = min(self.pieces(i, w, start, limit), int(p.shards[i]) - len(on))
                    on += [w] * most
                if len(on) == p.shards[i]:
                    end = start + max(int(durations[w]) for w in on)
                    if best is None or price(start, end) < price(*best[:2]):
                        best = (start, end, on)
                    break
        return best
