"""What a plan keeps to: precedence, capacities, counted resources, budgets, as constraints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plancast.planner.arrays.problem import Ints
from plancast.planner.arrays.schedule import WHOLE
from plancast.planner.solvers.cpsat.facts import LARGEST_SUM, Piece, refuse_beyond
from plancast.planner.solvers.cpsat.variables import Variables

MOST_TOGETHER = 500
"""Most tasks that are put in cumulatives of all workers together."""


def add_precedence(v: Variables) -> None:
    """No task starts before what it waits for, and the lag after it."""
    for i, start in enumerate(v.start):
        low, high = v.problem.link_ptr[i : i + 2]
        for before, ends, lag in v.problem.link[low:high].tolist():
            since = v.end[before] if ends else v.start[before]
            v.model.add(start >= since + lag)


def add_capacity(v: Variables, w: int) -> None:
    """One cumulative for each resource that could run short in a class of workers."""
    here, workers = v.on_worker[w], len(v.members[w])
    intervals = [
        v.model.new_optional_fixed_size_interval_var(v.start[i], p.duration, p.present, "")
        for i, p in here
    ]
    segments = range(int(v.count[w]))
    open_segments = [k for k in segments if v.free[w, k, 0] >= 0]
    for r, capacity in enumerate(v.problem.capacity[w].tolist()):
        least = min((int(v.free[w, k, r]) for k in open_segments), default=0)
        wanted: dict[int, int] = {}
        for i, p in here:
            amount = p.most * _taken(v, p.row, r, workers)[0]
            wanted[i] = max(wanted.get(i, 0), amount)
        if sum(wanted.values()) <= least:
            continue  # one worker could hold them all
        busy = list(intervals)
        demands = [
            (p.present if whole else p.count) * amount
            for _, p in here
            for amount, whole in [_taken(v, p.row, r, workers)]
        ]
        for k in open_segments:
            used = capacity - int(v.free[w, k, r])
            if used > 0:
                begin = int(v.times[w, k])
                until = int(v.times[w, k + 1]) if k + 1 < v.count[w] else v.horizon
                busy.append(v.model.new_fixed_size_interval_var(begin, until - begin, ""))
                demands.append(workers * used)
        v.model.add_cumulative(busy, demands, workers * capacity)
        if workers > 1:
            large = [2 * int(v.ways.demand[p.row, r]) > capacity for _, p in here]
            _add_one_each(v, here, intervals, large, workers)


def _taken(v: Variables, row: int, r: int, workers: int) -> tuple[int, bool]:
    """What a task takes of a resource of one of so many workers: a piece, or all of them."""
    whole = int(v.ways.gang[row, WHOLE]) if workers == 1 else 0
    if whole and r == v.ways.demand.shape[1] - 1:
        return whole, True
    return int(v.ways.demand[row, r]), False


def _add_one_each(
    v: Variables,
    here: list[tuple[int, Piece]],
    intervals: list[Any],
    large: list[bool],
    workers: int,
) -> None:
    """Of pieces that need more than half of a worker each runs on one of its own."""
    busy = [x for x, is_large in zip(intervals, large, strict=True) if is_large]
    counts = [p.count for (_, p), is_large in zip(here, large, strict=True) if is_large]
    if len(counts) > 1:
        v.model.add_cumulative(busy, counts, workers)


def add_counted(v: Variables) -> None:
    """One cumulative for each counted resource; a task is in it wherever it runs."""
    problem = v.problem
    times, free, count = (part[0].tolist() for part in problem.spare)
    for r in range(len(problem.counted)):
        most = max(column[r] for column in free[:count])
        takes = problem.takes[:, r].tolist()
        refuse_beyond(sum(takes) + most)
        busy, demands = [], []
        for i in np.flatnonzero(problem.takes[:, r]).tolist():
            busy.append(_whole_interval(v, i))
            demands.append(takes[i])
        for k in range(count):
            until = times[k + 1] if k + 1 < count else v.horizon
            if free[k][r] < most and until > times[k]:
                busy.append(v.model.new_fixed_size_interval_var(times[k], until - times[k], ""))
                demands.append(most - free[k][r])
        v.model.add_cumulative(busy, demands, most)


def _whole_interval(v: Variables, i: int) -> Any:
    """From the start of a task to its end."""
    lengths = {p.duration for p in v.pieces[i]}
    if len(lengths) == 1:
        return v.model.new_fixed_size_interval_var(v.start[i], lengths.pop(), "")
    size = v.int_var(
        min(lengths, default=1), max(lengths, default=1), lambda f: f.end[i] - f.start[i]
    )
    return v.model.new_interval_var(v.start[i], size, v.end[i], "")


def add_whole_capacity(v: Variables) -> None:
    """One cumulative for each resource of all workers together; redundant.

    A task is in it whichever worker it is on, so that it binds before anything is decided.
    """
    problem = v.problem
    if len(v.members) < 2 or len(problem.tasks) > MOST_TOGETHER:
        return
    spans = []
    for i, (start, end) in enumerate(zip(v.start, v.end, strict=True)):
        lengths = sorted({p.duration for p in v.pieces[i]})
        if not lengths:
            return
        size = lengths[0]
        if len(lengths) > 1:
            size = _length(v, i, lengths[0], lengths[-1])
        spans.append(v.model.new_interval_var(start, size, end, ""))
    for r, capacity in enumerate(problem.capacity.sum(axis=0).tolist()):
        demands = _least_of_each(v, v.ways.demand[:, r] * v.ways.shards).tolist()
        if 0 < capacity < sum(demands):
            v.model.add_cumulative(spans, demands, capacity)


def _least_of_each(v: Variables, values: Ints) -> Ints:
    """The least of each task's ways."""
    if v.choices is None:
        return values
    least: Ints = np.minimum.reduceat(values, v.choices.ptr[:-1])
    return least


def add_budgets(v: Variables) -> None:
    """What the chosen ways consume is no more than there is."""
    if v.choices is None:
        return
    for b, left in enumerate(v.choices.left.tolist()):
        takes = [
            int(v.choices.consumed[row, b]) * literal
            for chosen in v.chosen
            for row, _, literal in chosen
            if v.choices.consumed[row, b]
        ]
        if takes:
            v.model.add(sum(takes) <= max(0, left))


def _length(v: Variables, i: int, least: int, most: int) -> Any:
    """How long a task runs."""
    return v.int_var(least, most, lambda f: f.end[i] - f.start[i])


def add_area(v: Variables, w: int, seconds: Any) -> None:
    """What is placed on a class is no more work than a worker does in so many s; redundant.

    The linear relaxation knows nothing else of how long many tasks take side by side.
    """
    for r, capacity in enumerate(v.problem.capacity[w].tolist()):
        amounts = [p.duration * int(v.ways.demand[p.row, r]) for _, p in v.on_worker[w]]
        whole = math.gcd(capacity, *amounts)
        if not capacity or not any(amounts):
            continue
        most = sum(a * p.most for a, (_, p) in zip(amounts, v.on_worker[w], strict=True))
        most += capacity * len(v.members[w]) * v.horizon
        if most // whole <= LARGEST_SUM:
            done = sum(
                amount // whole * p.count
                for amount, (_, p) in zip(amounts, v.on_worker[w], strict=True)
            )
            v.model.add(done <= capacity // whole * seconds)
