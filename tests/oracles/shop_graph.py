"""Slow twin of ``planner.solvers.makespan.tabu``: longest paths by recursion over named edges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from plancast.planner.arrays.problem import Problem


def longest_paths(
    problem: Problem, machine: Sequence[int], orders: Sequence[Sequence[int]]
) -> tuple[list[int], list[int]]:
    """Heads and tails of every task, given its machine and the order on each machine."""
    tasks = range(len(problem.tasks))
    length = [int(problem.durations_on(i)[machine[i]]) for i in tasks]
    before: dict[int, set[int]] = {i: {int(p) for p in problem.predecessors(i)} for i in tasks}
    for order in orders:
        for a, b in pairwise(order):
            before[b].add(a)
    behind = {i: [j for j in tasks if i in before[j]] for i in tasks}

    @cache
    def head(i: int) -> int:
        return max([int(problem.release[i]), *(head(p) + length[p] for p in before[i])])

    @cache
    def tail(i: int) -> int:
        return max([0, *(length[s] + tail(s) for s in behind[i])])

    return [head(i) for i in tasks], [tail(i) for i in tasks]
