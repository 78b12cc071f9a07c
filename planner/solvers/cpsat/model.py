"""The whole problem as a model of optional intervals, each worker for itself or by class."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.model.domain import HOUR_S
from plancast.planner.solvers.cpsat.charges import add_objective
from plancast.planner.solvers.cpsat.constraints import (
    add_budgets,
    add_capacity,
    add_counted,
    add_precedence,
    add_whole_capacity,
)
from plancast.planner.solvers.cpsat.devices import add_devices, devices_held
from plancast.planner.solvers.cpsat.facts import LARGEST_SUM, Facts, refuse_beyond
from plancast.planner.solvers.cpsat.variables import ROUNDING, Variables

LARGEST_OBJECTIVE = 2.0**52
"""Beyond this the solver's bound, a double, would not be exact."""
SMALLEST_POWER = -12
"""Least power of ten by which prices are scaled, for prices beyond all reason."""


class Model(Variables):
    """Variables, constraints and objective for one problem.

    Parameters
    ----------
    problem : Problem
    incumbent : Schedule, optional
        A complete hint is made of it.
    stop_at : float
        ``TimeoutError`` when ``time.perf_counter`` says so before the model is built;
        ``TooLarge`` where a sum that it needs exceeds 64 bits. A redundant one is left out.
    classes : list of int64 arrays, optional
        The workers of each class; those of one are interchangeable. Each worker is a class of
        its own where this is left out.
    least : float, optional
        No schedule costs less; ``bounds.lower_bound`` where it is left out.
    choices : Choices, optional
        Where tasks have modes: `problem` is its ``base`` then.

    Notes
    -----
    With classes of several workers the model is a relaxation: what their workers hold
    together may not fit on any of them. All it says of a class is a sum over its workers:
    what they have of each resource, how many of the tasks that need more than half of a
    worker run at once, how long they are on, how many are booted, how much they do.

    A task has a start, an end, and for every duration it may take and every worker that is
    fast enough for it, an optional interval. For a single task a literal chooses one; for
    a gang a literal chooses the duration, and integers say how many pieces each worker
    holds, one of them at least on a worker that takes exactly that long. A task with modes has
    all of this for each of them; budgets are sums over the literals.
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
        super().__init__(problem, incumbent, stop_at, classes, least, choices)
        add_precedence(self)
        for w in self.members:
            add_capacity(self, w)
            if problem.devices is not None and problem.devices.apart[w]:
                add_devices(self, w, problem.devices)
            if time.perf_counter() > stop_at:
                raise TimeoutError
        add_whole_capacity(self)
        add_budgets(self)
        add_counted(self)
        add_objective(self)
        self._minimise()

    def _minimise(self) -> None:
        """Scale the prices to integers: exactly if a small factor does, else as far as we dare."""
        least = self.least
        aim = ROUNDING * abs(least)
        for power in range(SMALLEST_POWER, 16):
            scale = HOUR_S * 10.0**power
            whole = [round(price * scale) for price, *_ in self.costs]
            error = sum(
                abs(n / scale - price) * largest
                for n, (price, _, largest, _) in zip(whole, self.costs, strict=True)
            )
            size = sum(n * largest for n, (_, _, largest, _) in zip(whole, self.costs, strict=True))
            if power > SMALLEST_POWER and size > LARGEST_OBJECTIVE:
                break
            self.scale, self.error, self.coefficients = scale, error, whole
            if error <= aim:
                break
        largest = [max(1, math.ceil(cost[2])) for cost in self.costs]
        refuse_beyond(sum(n * most for n, most in zip(self.coefficients, largest, strict=True)))
        objective = sum(n * cost[1] for n, cost in zip(self.coefficients, self.costs, strict=True))
        self.model.minimize(objective)
        noise = 1e-9 * (abs(self.constant) + abs(least))
        known = (least - self.constant - self.error - self.unit_error - noise) * self.scale
        if self.costs and known > 0:
            # Ours is often the better bound from the start: a schedule that meets it is proven.
            self.model.add(objective >= math.floor(min(known, LARGEST_SUM)))

    def cost_of(self, objective: float) -> float:
        """Cost of a schedule from the solver's objective, as near as its rounding lets it."""
        return self.constant + objective / self.scale

    def bound_of(self, objective: float) -> float:
        """A cost that no schedule is below, from the solver's bound on its objective."""
        noise = 1e-12 * (abs(self.constant) + abs(objective / self.scale))
        return self.cost_of(objective) - self.error - self.unit_error - noise

    def schedule(self, solver: Any) -> Schedule:
        """What the solver found; every piece of a class on the first of its workers."""
        start = np.array([solver.value(s) for s in self.start], np.int64)
        end = np.array([solver.value(e) for e in self.end], np.int64)
        worker = [
            p.worker for pieces in self.pieces for p in pieces for _ in range(solver.value(p.count))
        ]
        mode = None
        if self.choices is not None:
            rows = [next(r for r, _, on in one if solver.value(on)) for one in self.chosen]
            mode = np.array(rows, np.int64)
        devices = devices_held(self, solver) if self.problem.tells_apart else None
        return Schedule(start, end, np.array(worker, np.int64), mode, devices)

    def claimed(self, schedule: Schedule) -> float:
        """The cost of a schedule as the objective has it, unrounded."""
        facts = Facts(self.problem, schedule, self.first, self.choices)
        return self.constant + sum(price * value(facts) for price, _, _, value in self.costs)

    def keep_in_order(self, classes: list[Ints]) -> None:
        """Of interchangeable workers none is on for longer, or does more, than the one before.

        Parameters
        ----------
        classes : list of int64 arrays
            Of a model in which each worker is a class of its own. A hint must be ``sorted_by``
            the same.
        """
        for members in classes:
            for w, after in zip(members[:-1].tolist(), members[1:].tolist(), strict=True):
                if w in self.on:
                    self.model.add(self.on[w] >= self.on[after])
                else:
                    self.model.add(self._busy_s(w) >= self._busy_s(after))

    def _busy_s(self, w: int) -> Any:
        return sum(p.duration * p.count for _, p in self.on_worker[w])

    def fixed_to(self, schedule: Schedule, classes: list[Ints]) -> Any:
        """A copy of the model in which every task keeps its start and its class of workers."""
        fixed = self.model.clone()
        of_class = np.zeros(len(self.problem.capacity), np.int64)
        for number, members in enumerate(classes):
            of_class[members] = number
        ptr = self.problem.shard_ptr
        for i, start in enumerate(self.start):
            fixed.add(start == int(schedule.start[i]))
            fixed.add(self.end[i] == int(schedule.end[i]))
            wanted = np.bincount(of_class[schedule.worker[ptr[i] : ptr[i + 1]]], minlength=1)
            for number in np.flatnonzero(wanted).tolist():
                counts = [p.count for p in self.pieces[i] if of_class[p.worker] == number]
                fixed.add(sum(counts) == int(wanted[number]))
        return fixed
