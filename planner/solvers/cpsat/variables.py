"""The variables of a model: start and end of each task, and the pieces that workers may hold."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.schedule import (
    BEYOND_CHOICE,
    FIRST_CHOICE,
    LAG,
    MOST_HERE,
    MOST_WORKERS,
)
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import DAY_S
from plancast.planner.solvers.cpsat.facts import Facts, Piece, Value
from plancast.planner.solvers.cpsat.tariffs import Steps, steps_of

ROUNDING = 1e-9
"""Rounding error of the whole objective that is aimed at, relative to its lower bound."""


class Variables:
    """Variables of a problem: starts, ends, and where and how each task may be done.

    Parameters and all that is kept are those of ``model.Model``, which adds constraints and costs.
    """

    def __init__(
        self,
        problem: Problem,
        incumbent: Schedule | None,
        stop_at: float,
        classes: list[Ints] | None = None,
        least: float | None = None,
        choices: Choices | None = None,
    ) -> None:
        self.problem = problem
        self.choices = choices
        self.ways = problem if choices is None else choices.ways
        """The arrays of what may differ between the ways of a task; `problem` where none has."""
        self.model: Any = cp_model.CpModel()
        workers = len(problem.capacity)
        self.members: dict[int, list[int]] = {
            int(m[0]): m.tolist() for m in classes or np.arange(workers)[:, None]
        }
        """First worker of each class to all its workers."""
        self.first = np.zeros(workers, np.int64)
        for head, members in self.members.items():
            self.first[members] = head
        self.hint = None if incumbent is None else Facts(problem, incumbent, self.first, choices)
        self.least = lower_bound(problem) if least is None else least
        self.constant = 0.0
        self.costs: list[tuple[float, Any, float, Value]] = []
        """(price, variable, its largest absolute value, its worth)."""
        self.times, self.free, self.count = problem.profile()
        self.horizon = self._horizon(incumbent)
        self.release = [int(t) for t in problem.release]
        self.raw_release = [int(t) for t in problem.raw_release]
        self.start: list[Any] = []
        self.end: list[Any] = []
        self.pieces: list[list[Piece]] = []
        self.chosen: list[list[tuple[int, int, Any]]] = []
        """(row, duration, literal) of all that a task may choose between."""
        self.devices: dict[tuple[int, int, int], list[Any]] = {}
        """Of each task, worker and duration how many pieces hold each device, where it matters."""
        self.on_worker: dict[int, list[tuple[int, Piece]]] = {w: [] for w in self.members}
        self.unit_error = 0.0
        self.on: dict[int, Any] = {}
        """Time on of each class, where idle power is priced."""
        self.last: Any = None
        """End of everything, where the makespan is priced."""
        self.steps: list[Steps | None] = []
        """Of each group of workers that pay alike by the hour."""
        self.summed: dict[tuple[int, int], Any] = {}
        """Units from the start to the end of a task, by task and group."""
        if problem.hours is not None:
            self.steps = [steps_of(problem.hours, g) for g in range(len(problem.hours.first))]
        for i in range(len(problem.tasks)):
            self._add_task(i)
            if time.perf_counter() > stop_at:
                raise TimeoutError

    def int_var(self, low: int, high: int, value: Value) -> Any:
        """An integer variable in [low, high], hinted at by its worth in the known schedule."""
        variable = self.model.new_int_var(low, high, "")
        if self.hint is not None:
            # What is exact but for the noise of doubles must not be rounded up.
            self.model.add_hint(variable, math.ceil(value(self.hint) - 1e-6))
        return variable

    def bool_var(self, value: Value) -> Any:
        """A literal, hinted at by its worth in the known schedule."""
        variable = self.model.new_bool_var("")
        if self.hint is not None:
            self.model.add_hint(variable, int(value(self.hint)))
        return variable

    def charge(self, price: float, variable: Any, largest: float, value: Value) -> None:
        """Add a variable to the cost at a price for each unit; no larger than `largest`."""
        if price:
            self.costs.append((price, variable, largest, value))

    def _horizon(self, incumbent: Schedule | None) -> int:
        """A time by which some cheapest schedule has ended.

        Notes
        -----
        Once all is released and the last worker has opened or come free (drains aside), a
        second in which nothing runs could be cut out of a schedule at no cost. Where energy has
        hours, a day could: there may be one less than a day's wait before each task; and no
        schedule is cheaper than a known one that ends so late that the makespan alone costs more.
        """
        problem = self.problem
        is_open = (self.free[:, :, 0] >= 0) & (np.arange(self.free.shape[1]) < self.count[:, None])
        calm = max(int((self.times * is_open).max()), int(problem.release.max()))
        calm = max(calm, int(problem.spare[0].max()))
        longest = self.ways.duration.max(axis=1)
        if self.choices is not None:
            longest = np.maximum.reduceat(longest, self.choices.ptr[:-1])
        calm += int(longest.sum()) + int(problem.link[:, LAG].sum())
        # What runs on a drained worker, and the schedule to start from, must fit as well.
        known_end = 0 if incumbent is None else int(incumbent.end.max())
        if problem.hours is not None:
            calm += len(problem.tasks) * (DAY_S - 1)
            if incumbent is not None and self.choices is None and problem.rates.end > 0:
                bare = replace(problem, rates=problem.rates._replace(end=0.0), memory={})
                room = problem.cost(incumbent) - lower_bound(bare)
                calm = min(calm, math.ceil(room * (1 + ROUNDING) / problem.rates.end) + 1)
        return max(calm, int(problem.last_end.max()), known_end)

    def _add_task(self, i: int) -> None:
        start = self.int_var(self.release[i], self.horizon, lambda f: f.start[i])
        end = self.int_var(self.release[i] + 1, self.horizon, lambda f: f.end[i])
        pieces: list[Piece] = []
        chosen: list[tuple[int, int, Any]] = []
        rows = [i] if self.choices is None else range(*self.choices.ptr[i : i + 2].tolist())
        for row in rows:
            on_worker = self.ways.durations_on(row)
            able = [int(w) for w in np.flatnonzero(on_worker) if w in self.members]
            if self.ways.shards[row] == 1:
                here = [p for w in able if (p := self._single(i, w, int(on_worker[w]), start, row))]
                chosen += [(row, p.duration, p.present) for p in here]
                pieces += here
                continue
            of_row: list[Piece] = []
            for duration in sorted({int(on_worker[w]) for w in able}):
                literal, here = self._as_gang(i, duration, on_worker, start, row)
                chosen.append((row, duration, literal))
                of_row += here
            self._hold_together(i, row, of_row)
            pieces += of_row
        self.model.add_exactly_one([literal for _, _, literal in chosen])
        self.model.add(end == start + sum(d * literal for _, d, literal in chosen))
        self.start.append(start)
        self.end.append(end)
        self.pieces.append(pieces)
        self.chosen.append(chosen)
        for piece in pieces:
            self.on_worker[piece.worker].append((i, piece))

    def _hold_together(self, i: int, row: int, pieces: list[Piece]) -> None:
        """A gang on no more workers than it may be, and under one of its alternatives."""
        ways = self.ways
        most = int(ways.gang[row, MOST_WORKERS])
        if most < ways.shards[row]:
            self.model.add(sum(p.present for p in pieces) <= most)
        choices = range(*ways.gang[row, [FIRST_CHOICE, BEYOND_CHOICE]].tolist())
        if not choices:
            return

        def holds(choice: int) -> Value:
            """Whether an alternative is the first that holds."""

            def value(f: Facts) -> float:
                on = list(f.pieces[i])
                first = (c for c in choices if ways.allowed[c, on].all())
                return float(choice == next(first, choices[0]))

            return value

        chosen = {choice: self.bool_var(holds(choice)) for choice in choices}
        self.model.add_exactly_one(list(chosen.values()))
        for p in pieces:
            under = [x for choice, x in chosen.items() if ways.allowed[choice, p.worker]]
            self.model.add_bool_or([~p.present, *under])

    def _as_gang(
        self, i: int, duration: int, on_worker: Ints, start: Any, row: int
    ) -> tuple[Any, list[Piece]]:
        """The literal that a gang takes exactly `duration`, and its pieces in that case."""
        literal = self.bool_var(lambda f: f.end[i] - f.start[i] == duration and f.row[i] == row)
        able = [w for w in self.members if 0 < on_worker[w] <= duration]
        here = [p for w in able if (p := self._gang(i, w, duration, start, row))]
        self.model.add(sum(p.count for p in here) == int(self.ways.shards[row]) * literal)
        slowest = [p.count for p in here if on_worker[p.worker] == duration]
        self.model.add(sum(slowest) >= literal)
        return literal, here

    def _single(self, i: int, w: int, duration: int, start: Any, row: int) -> Piece | None:
        windows = self._start_windows(i, w, duration, row)
        if not windows:
            return None
        present = self.bool_var(lambda f: f.on(i, Piece(w, duration, None, None, 1, row)))
        self._keep_in(start, windows, present)
        return Piece(w, duration, present, present, 1, row)

    def _gang(self, i: int, w: int, duration: int, start: Any, row: int) -> Piece | None:
        windows = self._start_windows(i, w, duration, row)
        if not windows:
            return None
        most_here = int(self.ways.gang[row, MOST_HERE]) * len(self.members[w])
        most = min(int(self.ways.shards[row]), most_here)
        asked = Piece(w, duration, None, None, most, row)
        present = self.bool_var(lambda f: f.on(i, asked) > 0)
        count = self.int_var(0, most, lambda f: f.on(i, asked))
        self.model.add(count >= present)
        self.model.add(count <= most * present)
        self._keep_in(start, windows, present)
        return Piece(w, duration, present, count, most, row)

    def _start_windows(self, i: int, w: int, duration: int, row: int) -> list[list[int]]:
        """Starts at which one piece fits beside what runs, outside closed windows and limits."""
        latest = self.ways.latest_start(row, duration)
        latest = min(latest, self.horizon - duration)
        windows = []
        for begin, until in self._fitting(w, self.ways.demand[row]):
            low, high = max(begin, self.release[i]), min(until - duration, latest)
            if low <= high:
                windows.append([low, high])
        return windows

    def _fitting(self, w: int, demand: Ints) -> Iterator[tuple[int, int]]:
        """Longest stretches of time over which `demand` is free on a worker at first."""
        begin = None
        for k in range(self.count[w]):
            fits = bool((self.free[w, k] >= demand).all())
            if fits and begin is None:
                begin = int(self.times[w, k])
            elif not fits and begin is not None:
                yield begin, int(self.times[w, k])
                begin = None
        if begin is not None:
            yield begin, self.horizon

    def _keep_in(self, start: Any, windows: list[list[int]], present: Any) -> None:
        domain = cp_model.Domain.from_intervals(windows)
        self.model.add_linear_expression_in_domain(start, domain).only_enforce_if(present)
