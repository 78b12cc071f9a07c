"""Slow twin of ``makespan.activity_lists``: dictionaries of seconds, nothing packed."""

from __future__ import annotations

from collections.abc import Sequence

from plancast.planner.arrays.problem import Problem


def serial_ends(problem: Problem, order: Sequence[int], backwards: bool = False) -> list[int]:
    """Ends of serial schedule generation on the only worker; time runs backwards if asked to."""
    tasks = range(len(problem.tasks))
    before = {i: {int(p) for p in problem.predecessors(i)} for i in tasks}
    if backwards:
        before = {i: {j for j in tasks if i in before[j]} for i in tasks}
    used: dict[int, list[int]] = {}
    capacity = problem.capacity[0].tolist()
    ends = [0] * len(problem.tasks)
    for i in order:
        duration, need = int(problem.shortest[i]), problem.demand[i].tolist()
        start = max([0 if backwards else int(problem.release[i]), *(ends[p] for p in before[i])])
        while not all(
            used.get(t, [0] * len(capacity))[r] + need[r] <= capacity[r]
            for t in range(start, start + duration)
            for r in range(len(capacity))
        ):
            start += 1
        for t in range(start, start + duration):
            now = used.setdefault(t, [0] * len(capacity))
            used[t] = [u + d for u, d in zip(now, need, strict=True)]
        ends[i] = start + duration
    return ends


def justified(problem: Problem, order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Ends after justifying a list to the right and to the left, and the list in start order."""
    first = serial_ends(problem, order)
    right = sorted(order, key=lambda i: -first[i])
    mirrored, ends = back_and_forth_ends(problem, right)
    left = sorted(right, key=lambda i: -mirrored[i])
    # Equal starts: as in the kernel, which sorts by falling start and turns that round.
    falling = sorted(left, key=lambda i: -(ends[i] - int(problem.shortest[i])))
    return ends, falling[::-1]


def back_and_forth_ends(problem: Problem, order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Ends of a list scheduled backwards (there time runs backwards), then of that forwards."""
    mirrored = serial_ends(problem, order, backwards=True)
    return mirrored, serial_ends(problem, sorted(order, key=lambda i: -mirrored[i]))
