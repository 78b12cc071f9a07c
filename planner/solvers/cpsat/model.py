"""The whole problem as a model of optional intervals, each worker for itself or by class."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from plancast.planner.arrays.hours import Hours
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule, offsets
from plancast.planner.arrays.schedule import (
    BEYOND_CHOICE,
    FIRST_CHOICE,
    LAG,
    MOST_HERE,
    MOST_WORKERS,
    WHOLE,
)
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import DAY_S, HOUR_S, MIN_STRETCH_S
from plancast.planner.solvers.cpsat.devices import add_devices, devices_held, devices_named
from plancast.planner.solvers.cpsat.tariffs import Steps, steps_of
from plancast.planner.solvers.cpsat.worker_classes import idles_at_a_price

LARGEST_OBJECTIVE = 2.0**52
"""Beyond this the solver's bound, a double, would not be exact."""
SMALLEST_POWER = -12
"""Least power of ten by which prices are scaled, for prices beyond all reason."""
ROUNDING = 1e-9
"""Rounding error of the whole objective that is aimed at, relative to its lower bound."""
LARGEST_UNIT = 1_000_000
"""Most parts into which a second of load or mean wait is divided to have it exact."""
LARGEST_SUM = 2**61
"""Largest sum of absolute values in a constraint: what the solver's integers of 64 bits hold."""
MOST_TOGETHER = 500
"""Most tasks that are put in cumulatives of all workers together."""


class TooLarge(Exception):
    """Amounts or times so large that the model's sums exceed the solver's 64-bit integers."""


Value = Callable[["Facts"], float]
"""What a variable is worth in a schedule."""


def _part_of(value: Value, first: int, end: int) -> Value:
    """How much of a stretch of time has passed at a moment."""
    return lambda f: min(max(int(value(f)) - first, 0), end - first)


def _held(largest: int) -> None:
    """Refuse a sum that 64 bits may not hold."""
    if largest > LARGEST_SUM:
        raise TooLarge(f"a sum of the model may reach {largest:.3g}, beyond 2^61")


class Facts:
    """A schedule as the variables see it, its pieces counted by the first worker of a class."""

    def __init__(
        self, problem: Problem, schedule: Schedule, first: Ints, choices: Choices | None = None
    ) -> None:
        tasks = np.arange(len(problem.tasks))
        row = tasks if schedule.mode is None else schedule.mode
        ways = problem if choices is None else choices.ways
        ptr = offsets(ways.shards[row])
        self.row = [int(k) for k in row]
        self.start = [int(t) for t in schedule.start]
        self.end = [int(t) for t in schedule.end]
        self.pieces: list[dict[int, int]] = []
        self.last_end = [int(t) for t in problem.last_end]
        self.load_s = [float(h) * HOUR_S for h in problem.load_h]
        for i, end in enumerate(self.end):
            counts: dict[int, int] = {}
            for w in (int(w) for w in schedule.worker[ptr[i] : ptr[i + 1]]):
                head = int(first[w])
                counts[head] = counts.get(head, 0) + 1
                self.last_end[w] = max(self.last_end[w], end)
                share = float(ways.share[ways.kind[row[i]], w])
                self.load_s[w] += share * (end - self.start[i])
            self.pieces.append(counts)
        self.devices = devices_named(problem, schedule)

    def on(self, i: int, p: Piece) -> int:
        """How many pieces of a task are in a class, if it is done in that way and takes as long."""
        takes = self.end[i] - self.start[i] == p.duration and self.row[i] == p.row
        return self.pieces[i].get(p.worker, 0) if takes else 0


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """Pieces of a task that may be on workers of a class while the task takes `duration`."""

    worker: int
    duration: int
    present: Any
    """Literal: at least one piece is here."""
    count: Any
    """Number of pieces: a literal or an integer variable."""
    most: int
    row: int
    """Of the ways of tasks: the task itself where it has no modes."""


class Model:
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
        self._add_precedence()
        for w in self.members:
            self._add_capacity(w)
            if problem.devices is not None and problem.devices.apart[w]:
                add_devices(self, w, problem.devices)
            if time.perf_counter() > stop_at:
                raise TimeoutError
        self._add_whole_capacity()
        self._add_budgets()
        self._add_counted()
        self._add_objective()

    # ------------------------------------------------------------------ variables

    def _int(self, low: int, high: int, value: Value) -> Any:
        variable = self.model.new_int_var(low, high, "")
        if self.hint is not None:
            # What is exact but for the noise of doubles must not be rounded up.
            self.model.add_hint(variable, math.ceil(value(self.hint) - 1e-6))
        return variable

    def _bool(self, value: Value) -> Any:
        variable = self.model.new_bool_var("")
        if self.hint is not None:
            self.model.add_hint(variable, int(value(self.hint)))
        return variable

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
        start = self._int(self.release[i], self.horizon, lambda f: f.start[i])
        end = self._int(self.release[i] + 1, self.horizon, lambda f: f.end[i])
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

        chosen = {choice: self._bool(holds(choice)) for choice in choices}
        self.model.add_exactly_one(list(chosen.values()))
        for p in pieces:
            under = [x for choice, x in chosen.items() if ways.allowed[choice, p.worker]]
            self.model.add_bool_or([~p.present, *under])

    def _as_gang(
        self, i: int, duration: int, on_worker: Ints, start: Any, row: int
    ) -> tuple[Any, list[Piece]]:
        """The literal that a gang takes exactly `duration`, and its pieces in that case."""
        literal = self._bool(lambda f: f.end[i] - f.start[i] == duration and f.row[i] == row)
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
        present = self._bool(lambda f: f.on(i, Piece(w, duration, None, None, 1, row)))
        self._keep_in(start, windows, present)
        return Piece(w, duration, present, present, 1, row)

    def _gang(self, i: int, w: int, duration: int, start: Any, row: int) -> Piece | None:
        windows = self._start_windows(i, w, duration, row)
        if not windows:
            return None
        most_here = int(self.ways.gang[row, MOST_HERE]) * len(self.members[w])
        most = min(int(self.ways.shards[row]), most_here)
        asked = Piece(w, duration, None, None, most, row)
        present = self._bool(lambda f: f.on(i, asked) > 0)
        count = self._int(0, most, lambda f: f.on(i, asked))
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

    # ------------------------------------------------------------------ constraints

    def _add_precedence(self) -> None:
        for i, start in enumerate(self.start):
            low, high = self.problem.link_ptr[i : i + 2]
            for before, ends, lag in self.problem.link[low:high].tolist():
                since = self.end[before] if ends else self.start[before]
                self.model.add(start >= since + lag)

    def _add_capacity(self, w: int) -> None:
        """One cumulative for each resource that could run short in a class of workers."""
        here, workers = self.on_worker[w], len(self.members[w])
        intervals = [
            self.model.new_optional_fixed_size_interval_var(
                self.start[i], p.duration, p.present, ""
            )
            for i, p in here
        ]
        segments = range(int(self.count[w]))
        open_segments = [k for k in segments if self.free[w, k, 0] >= 0]
        for r, capacity in enumerate(self.problem.capacity[w].tolist()):
            least = min((int(self.free[w, k, r]) for k in open_segments), default=0)
            wanted: dict[int, int] = {}
            for i, p in here:
                amount = p.most * self._taken(p.row, r, workers)[0]
                wanted[i] = max(wanted.get(i, 0), amount)
            if sum(wanted.values()) <= least:
                continue  # one worker could hold them all
            busy = list(intervals)
            demands = [
                (p.present if whole else p.count) * amount
                for _, p in here
                for amount, whole in [self._taken(p.row, r, workers)]
            ]
            for k in open_segments:
                used = capacity - int(self.free[w, k, r])
                if used > 0:
                    begin = int(self.times[w, k])
                    until = int(self.times[w, k + 1]) if k + 1 < self.count[w] else self.horizon
                    busy.append(self.model.new_fixed_size_interval_var(begin, until - begin, ""))
                    demands.append(workers * used)
            self.model.add_cumulative(busy, demands, workers * capacity)
            if workers > 1:
                large = [2 * int(self.ways.demand[p.row, r]) > capacity for _, p in here]
                self._add_one_each(here, intervals, large, workers)

    def _taken(self, row: int, r: int, workers: int) -> tuple[int, bool]:
        """What a task takes of a resource of one of so many workers: a piece, or all of them."""
        whole = int(self.ways.gang[row, WHOLE]) if workers == 1 else 0
        if whole and r == self.ways.demand.shape[1] - 1:
            return whole, True
        return int(self.ways.demand[row, r]), False

    def _add_one_each(
        self, here: list[tuple[int, Piece]], intervals: list[Any], large: list[bool], workers: int
    ) -> None:
        """Of pieces that need more than half of a worker each runs on one of its own."""
        busy = [x for x, is_large in zip(intervals, large, strict=True) if is_large]
        counts = [p.count for (_, p), is_large in zip(here, large, strict=True) if is_large]
        if len(counts) > 1:
            self.model.add_cumulative(busy, counts, workers)

    def _add_counted(self) -> None:
        """One cumulative for each counted resource; a task is in it wherever it runs."""
        problem = self.problem
        times, free, count = (part[0].tolist() for part in problem.spare)
        for r in range(len(problem.counted)):
            most = max(column[r] for column in free[:count])
            takes = problem.takes[:, r].tolist()
            _held(sum(takes) + most)
            busy, demands = [], []
            for i in np.flatnonzero(problem.takes[:, r]).tolist():
                busy.append(self._whole_interval(i))
                demands.append(takes[i])
            for k in range(count):
                until = times[k + 1] if k + 1 < count else self.horizon
                if free[k][r] < most and until > times[k]:
                    busy.append(
                        self.model.new_fixed_size_interval_var(times[k], until - times[k], "")
                    )
                    demands.append(most - free[k][r])
            self.model.add_cumulative(busy, demands, most)

    def _whole_interval(self, i: int) -> Any:
        """From the start of a task to its end."""
        lengths = {p.duration for p in self.pieces[i]}
        if len(lengths) == 1:
            return self.model.new_fixed_size_interval_var(self.start[i], lengths.pop(), "")
        size = self._int(
            min(lengths, default=1), max(lengths, default=1), lambda f: f.end[i] - f.start[i]
        )
        return self.model.new_interval_var(self.start[i], size, self.end[i], "")

    def _add_whole_capacity(self) -> None:
        """One cumulative for each resource of all workers together; redundant.

        A task is in it whichever worker it is on, so that it binds before anything is decided.
        """
        problem = self.problem
        if len(self.members) < 2 or len(problem.tasks) > MOST_TOGETHER:
            return
        spans = []
        for i, (start, end) in enumerate(zip(self.start, self.end, strict=True)):
            lengths = sorted({p.duration for p in self.pieces[i]})
            if not lengths:
                return
            size = lengths[0]
            if len(lengths) > 1:
                size = self._length(i, lengths[0], lengths[-1])
            spans.append(self.model.new_interval_var(start, size, end, ""))
        for r, capacity in enumerate(problem.capacity.sum(axis=0).tolist()):
            demands = self._least_of_each(self.ways.demand[:, r] * self.ways.shards).tolist()
            if 0 < capacity < sum(demands):
                self.model.add_cumulative(spans, demands, capacity)

    def _least_of_each(self, values: Ints) -> Ints:
        """The least of each task's ways."""
        if self.choices is None:
            return values
        least: Ints = np.minimum.reduceat(values, self.choices.ptr[:-1])
        return least

    def _add_budgets(self) -> None:
        """What the chosen ways consume is no more than there is."""
        if self.choices is None:
            return
        for b, left in enumerate(self.choices.left.tolist()):
            takes = [
                int(self.choices.consumed[row, b]) * literal
                for chosen in self.chosen
                for row, _, literal in chosen
                if self.choices.consumed[row, b]
            ]
            if takes:
                self.model.add(sum(takes) <= max(0, left))

    def _length(self, i: int, least: int, most: int) -> Any:
        """How long a task runs."""
        return self._int(least, most, lambda f: f.end[i] - f.start[i])

    def _add_area(self, w: int, seconds: Any) -> None:
        """What is placed on a class is no more work than a worker does in so many s; redundant.

        The linear relaxation knows nothing else of how long many tasks take side by side.
        """
        for r, capacity in enumerate(self.problem.capacity[w].tolist()):
            amounts = [p.duration * int(self.ways.demand[p.row, r]) for _, p in self.on_worker[w]]
            whole = math.gcd(capacity, *amounts)
            if not capacity or not any(amounts):
                continue
            most = sum(a * p.most for a, (_, p) in zip(amounts, self.on_worker[w], strict=True))
            most += capacity * len(self.members[w]) * self.horizon
            if most // whole <= LARGEST_SUM:
                done = sum(
                    amount // whole * p.count
                    for amount, (_, p) in zip(amounts, self.on_worker[w], strict=True)
                )
                self.model.add(done <= capacity // whole * seconds)

    # ------------------------------------------------------------------ restrictions

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

    # ------------------------------------------------------------------ objective

    def _charge(self, price: float, variable: Any, largest: float, value: Value) -> None:
        if price:
            self.costs.append((price, variable, largest, value))

    def _add_objective(self) -> None:
        problem = self.problem
        rates = problem.rates
        self.constant += rates.fixed
        self._charge_last_end(rates.end)
        for i in range(len(problem.tasks)):
            weight = float(problem.weight[i])
            self._charge_lateness(i, weight * rates.late, weight * rates.miss)
            self._charge_wait(i, weight * rates.wait)
            self._charge_slowdown(i, weight * rates.slowdown)
            for piece in self.pieces[i]:
                self._charge_piece(i, piece)
        for w in self.members:
            self._charge_use(w)
        if problem.hours is not None:
            self._charge_hours(problem.hours)
        if rates.owner:
            self._charge_worst_owner(rates.owner)
        if rates.load:
            self._charge_most_loaded(rates.load)
        self._minimise()

    def _charge_last_end(self, price: float) -> None:
        if not price:
            return
        least = int(self.problem.last_end.max())

        def last_end(f: Facts) -> int:
            return max(least, *f.end)

        last = self._int(least, self.horizon, last_end)
        for end in self.end:
            self.model.add(last >= end)
        self.last = last
        self._charge(price, last, self.horizon, last_end)

    def _charge_wait(self, i: int, price: float) -> None:
        self.constant -= price * self.raw_release[i]
        self._charge(price, self.start[i], self.horizon, lambda f: f.start[i])

    def _charge_lateness(self, i: int, late_price: float, miss_price: float) -> None:
        deadline = int(self.problem.deadline[i])
        if deadline >= self.horizon:
            return
        if late_price:

            def seconds_late(f: Facts) -> int:
                return max(0, f.end[i] - deadline)

            late = self._int(0, self.horizon - deadline, seconds_late)
            self.model.add(late >= self.end[i] - deadline)
            self._charge(late_price, late, self.horizon - deadline, seconds_late)
        if miss_price:
            missed = self._bool(lambda f: f.end[i] > deadline)
            self.model.add(self.end[i] <= deadline).only_enforce_if(~missed)
            self._charge(miss_price, missed, 1, lambda f: f.end[i] > deadline)

    def _charge_slowdown(self, i: int, price: float) -> None:
        if not price:
            return
        divisors = sorted({max(p.duration, MIN_STRETCH_S) for p in self.pieces[i]})
        if self.choices is not None and self.choices.fastest[i]:
            divisors = [max(int(self.choices.fastest[i]), MIN_STRETCH_S)]
        if len(divisors) == 1:
            self.constant -= price / divisors[0] * self.raw_release[i]
            self._charge(price / divisors[0], self.end[i], self.horizon, lambda f: f.end[i])
            return
        for divisor in divisors:
            self._charge_slowdown_over(i, divisor, price / divisor)

    def _charge_slowdown_over(self, i: int, divisor: int, price: float) -> None:
        """Charge the time from release to end if that is what the stretch divides by."""
        release = self.raw_release[i]

        def since_release(f: Facts) -> int:
            mine = max(f.end[i] - f.start[i], MIN_STRETCH_S) == divisor
            return (f.end[i] - release) * mine

        largest = self.horizon - release
        span = self._int(0, largest, since_release)
        for p in self.pieces[i]:
            if max(p.duration, MIN_STRETCH_S) == divisor:
                self.model.add(span >= self.end[i] - release).only_enforce_if(p.present)
        self._charge(price, span, largest, since_release)

    def _charge_piece(self, i: int, p: Piece) -> None:
        problem, rates = self.problem, self.problem.rates
        share = float(self.ways.share[self.ways.kind[p.row], p.worker])
        survival = float(problem.health[p.worker]) ** (p.duration / HOUR_S)
        price = float(rates.busy[p.worker]) * share * p.duration + rates.fail * (1.0 - survival)
        self._charge(price, p.count, p.most, lambda f: f.on(i, p))

    def _charge_use(self, w: int) -> None:
        problem, members = self.problem, self.members[w]
        idle_price, boot_price = float(problem.rates.idle[w]), float(problem.rates.boot[w])
        free_from, running_end = int(problem.free_from[w]), int(problem.last_end[w])
        if idles_at_a_price(problem, w):
            on = self._time_on(w, free_from, running_end)
            self.on[w] = on
            self._charge(idle_price, on, len(members) * self.horizon, self._seconds_on(w))
            self._add_area(w, on)
            if self.last is not None and free_from == 0:
                self.model.add(on <= len(members) * self.last)
        elif self.last is not None:
            self._add_area(w, len(members) * self.last)
        if boot_price and not problem.on[w]:

            def used(f: Facts) -> int:
                return sum(f.last_end[m] > 0 for m in members)

            booted = self._int(0, len(members), used)
            for _, p in self.on_worker[w]:
                self.model.add(booted >= p.present)
            self._charge(boot_price, booted, len(members), used)

    def _seconds_on(self, w: int) -> Value:
        members, free_from = self.members[w], int(self.problem.free_from[w])
        return lambda f: sum(max(0, f.last_end[m] - free_from) for m in members)

    def _time_on(self, w: int, free_from: int, running_end: int) -> Any:
        """Seconds that the workers of a class are on, summed."""
        workers = len(self.members[w])
        least = workers * max(0, running_end - free_from)
        on = self._int(least, max(least, workers * self.horizon), self._seconds_on(w))
        # Those that are on for what runs already are on for that long at least.
        others = (workers - 1) * max(0, running_end - free_from)
        for i, p in self.on_worker[w]:
            self.model.add(on >= self.end[i] - free_from + others).only_enforce_if(p.present)
        return on

    def _charge_hours(self, hours: Hours) -> None:
        """What is drawn at other hours than the cheapest costs more.

        Of a class of several workers idle power is left at its least price: how long each of them
        is on is not known.
        """
        for i, pieces in enumerate(self.pieces):
            alike: dict[tuple[int, float], list[Piece]] = {}
            for p in pieces:
                share = float(self.ways.share[self.ways.kind[p.row], p.worker])
                watts = float(hours.busy_w[p.worker]) * share
                alike.setdefault((int(hours.group[p.worker]), watts), []).append(p)
            for (group, watts), here in alike.items():
                steps = self.steps[group]
                if watts and steps is not None:
                    self._charge_extra(i, here, self._between(i, group, steps), steps, watts)
        for w, members in self.members.items():
            steps, watts = self.steps[int(hours.group[w])], float(hours.idle_w[w])
            if steps is not None and watts and len(members) == 1:
                self._charge_idle_extra(w, steps, watts)

    def _charge_idle_extra(self, w: int, steps: Steps, watts: float) -> None:
        free_from, seconds = int(self.problem.free_from[w]), self._seconds_on(w)

        def until(f: Facts) -> int:
            return free_from + int(seconds(f))

        least = free_from + max(0, int(self.problem.last_end[w]) - free_from)
        high = max(least, free_from + self.horizon)
        extra = self._summed_up(self.on[w] + free_from, (least, high), free_from, steps, until)
        largest = steps.over(free_from, high)
        self._charge(watts * steps.unit, extra, largest, lambda f: steps.over(free_from, until(f)))
        self.unit_error += watts * steps.error * self.horizon

    def _charge_extra(
        self, i: int, here: list[Piece], since: Any, steps: Steps, watts: float
    ) -> None:
        """Charge pieces of a task that draw as much and pay alike; `since` is from start to end."""
        together = max(p.duration for p in here) * steps.most
        pieces = int(self.ways.shards[[p.row for p in here]].max())
        self.unit_error += watts * steps.error * max(p.duration for p in here) * pieces
        if pieces > 1:
            for p in here:
                self._charge_gang_extra(i, p, since, steps, watts)
            return

        def units(f: Facts) -> int:
            return any(f.on(i, p) for p in here) * steps.over(f.start[i], f.end[i])

        extra = self._int(0, together, units)
        for p in here:
            self.model.add(extra >= since).only_enforce_if(p.present)
        self._charge(watts * steps.unit, extra, together, units)

    def _charge_gang_extra(self, i: int, p: Piece, since: Any, steps: Steps, watts: float) -> None:
        together = p.duration * steps.most
        _held(4 * p.most * together)

        def each(f: Facts) -> int:
            return bool(f.on(i, p)) * steps.over(f.start[i], f.end[i])

        def all_pieces(f: Facts) -> int:
            return f.on(i, p) * steps.over(f.start[i], f.end[i])

        drawn = self._int(0, together, each)
        product = self._int(0, p.most * together, all_pieces)
        self.model.add(drawn == since).only_enforce_if(p.present)
        self.model.add(drawn == 0).only_enforce_if(~p.present)
        self.model.add_multiplication_equality(product, [p.count, drawn])
        self._charge(watts * steps.unit, product, p.most * together, all_pieces)

    def _between(self, i: int, group: int, steps: Steps) -> Any:
        """Units from the start to the end of a task."""
        if (i, group) not in self.summed:
            low, high = self.release[i], self.horizon
            start = self._summed_up(self.start[i], (low, high), 0, steps, lambda f: f.start[i])
            end = self._summed_up(self.end[i], (low + 1, high), 0, steps, lambda f: f.end[i])
            self.summed[i, group] = end - start
        return self.summed[i, group]

    def _summed_up(
        self, moment: Any, within: tuple[int, int], since: int, steps: Steps, value: Value
    ) -> Any:
        """Units from `since` until a moment, whose `value` lies within two others.

        As a sum over the steps that are filled one after the other, whose linear relaxation is
        exact: with a literal for each step that enforces its line, proofs took 80 times as long.
        """
        low, high = within
        _held(4 * steps.most * (high - since + DAY_S))
        pieces = steps.pieces(low, high)
        ends = [*(first for first, _, _ in pieces[1:]), high]
        filled = [
            self._int(0, end - first, _part_of(value, first, end))
            for (first, _, _), end in zip(pieces, ends, strict=True)
        ]
        for k, end in enumerate(ends[:-1]):
            is_full = self._bool(_part_of(value, end - 1, end))
            self.model.add(filled[k] >= (end - pieces[k][0]) * is_full)
            self.model.add(filled[k + 1] <= (ends[k + 1] - end) * is_full)
        self.model.add(moment == low + sum(filled))
        total = steps.over(since, low)
        return total + sum(units * y for (_, _, units), y in zip(pieces, filled, strict=True))

    def _charge_worst_owner(self, price: float) -> None:
        problem = self.problem
        owners = sorted({int(o) for o in problem.owner})
        sizes = [int(problem.owner_tasks[o]) for o in owners]
        unit = math.lcm(*sizes)
        if unit > LARGEST_UNIT:
            unit = LARGEST_UNIT
            self.unit_error += price / unit
        # Owners of running tasks alone, and never below 0.
        waits = problem.owner_wait_h * HOUR_S / problem.owner_tasks
        others = [float(waits[o]) for o in range(len(waits)) if o not in owners]
        least = max([0.0, *others])

        def worst(f: Facts) -> float:
            total = {o: float(problem.owner_wait_h[o]) * HOUR_S for o in owners}
            for i, o in enumerate(problem.owner):
                total[int(o)] += f.start[i] - self.raw_release[i]
            means = [w / n for w, n in zip(total.values(), sizes, strict=True)]
            return unit * max([least, *means])

        most = self.horizon - min(0, *self.raw_release) + max(0, *(int(x) + 1 for x in waits))
        together = 4 * most * max(sizes)
        if unit * together > LARGEST_SUM:
            _held(together)
            unit = LARGEST_SUM // together
            self.unit_error += price / unit
        mean = self._int(math.floor(unit * least + 1e-6), unit * most, worst)
        for o, size in zip(owners, sizes, strict=True):
            mine = [i for i, owner in enumerate(problem.owner) if owner == o]
            waited = sum(self.start[i] - self.raw_release[i] for i in mine)
            ran = round(float(problem.owner_wait_h[o]) * HOUR_S)
            self.model.add(size * mean >= unit * (waited + ran))
        self._charge(price / unit, mean, unit * most, worst)

    def _charge_most_loaded(self, price: float) -> None:
        problem = self.problem
        shares = {
            (p.row, p.worker): Fraction(
                float(self.ways.share[self.ways.kind[p.row], p.worker])
            ).limit_denominator(LARGEST_UNIT)
            for pieces in self.pieces
            for p in pieces
        }
        longest = self.ways.duration.max(axis=1) * self.ways.shards
        most_s = float(problem.load_h.max()) * HOUR_S + float(longest.sum())
        ran_s = [
            Fraction(float(h) * HOUR_S).limit_denominator(LARGEST_UNIT) for h in problem.load_h
        ]
        unit = 1
        for exact_number in (*shares.values(), *ran_s):
            if unit <= LARGEST_UNIT:
                unit = math.lcm(unit, exact_number.denominator)
        # The load of a class and what its pieces add to it stand in one sum.
        together = 3 * len(problem.capacity) * (math.ceil(most_s) + 1)
        exact = unit <= LARGEST_UNIT and unit * together <= LARGEST_SUM
        if not exact:
            unit = max(1, int(1000 * LARGEST_UNIT / most_s))
        _held(unit * together)
        ran = [unit * float(s) for s in ran_s]
        largest = math.ceil(unit * most_s) + 1

        def most_loaded(f: Facts) -> float:
            return unit * max(f.load_s)

        load = self._int(math.floor(max(ran) + 1e-6), largest, most_loaded)
        for w, members in self.members.items():
            loads = [
                p.count * math.floor(unit * shares[p.row, w] * p.duration)
                for _, p in self.on_worker[w]
            ]
            if loads:
                before = sum(math.floor(ran[m] + 1e-6) for m in members)
                self.model.add(len(members) * load >= sum(loads) + before)
        if not exact:
            self.unit_error += price / unit * (1 + int(self.ways.shards.sum()))
        self._charge(price / unit, load, largest, most_loaded)

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
        _held(sum(n * most for n, most in zip(self.coefficients, largest, strict=True)))
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

    # ------------------------------------------------------------------ answers

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
