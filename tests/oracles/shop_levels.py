"""Bounds of heads, tails and makespan of a shop from windows, as the definition has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Members = list[int]


def by_number(members: Members, duration: list[list[int]], machines: list[int], least: int) -> int:
    """Least window from `least` on with room for the k longest members, for every k."""
    longest_first = sorted(members, key=lambda i: (-shortest(duration[i]), i))
    length = least
    while True:
        for k in range(1, len(longest_first) + 1):
            places = 0
            for c, count in enumerate(machines):
                able = [duration[i][c] for i in longest_first[:k] if duration[i][c] > 0]
                if able:
                    places += count * (length // min(able))
            if places < k:
                break
        else:
            return length
        length += 1


def shortest(row: Sequence[int]) -> int:
    """Least duration of a task."""
    return min(d for d in row if d > 0)


def heads(
    order: Sequence[int],
    release: Sequence[int],
    before: Sequence[Sequence[int]],
    work: Sequence[float],
    duration: list[list[int]],
    machines: list[int],
) -> list[int]:
    """Earliest starts, raised by what must be done before."""
    head = list(release)
    above: list[set[int]] = [set() for _ in order]
    for i in order:
        for j in before[i]:
            head[i] = max(head[i], head[j] + shortest(duration[j]))
            above[i] |= above[j] | {j}
        if len(before[i]) < 2:
            continue
        for moment in {head[j] for j in above[i]}:
            later = [j for j in above[i] if head[j] >= moment]
            head[i] = max(head[i], moment + seconds(sum(work[j] for j in later)))
        for moment in sorted({head[j] for j in above[i]}):
            later = [j for j in above[i] if head[j] >= moment]
            head[i] = moment + by_number(later, duration, machines, max(0, head[i] - moment))
    return head


def makespan(
    head: Sequence[int],
    rest: Sequence[int],
    work: Sequence[float],
    duration: list[list[int]],
    machines: list[int],
) -> int:
    """The longest of all windows from a head to a rest."""
    tasks = range(len(head))
    least = max(head[i] + shortest(duration[i]) + rest[i] for i in tasks)

    def inside(moment: int, end: int) -> Members:
        return [i for i in tasks if head[i] >= moment and rest[i] >= end]

    def windows(length: Callable[[Members], int]) -> int:
        return max(
            moment + end + length(inside(moment, end))
            for moment in set(head)
            for end in set(rest)
            if inside(moment, end)
        )

    least = max(least, windows(lambda members: seconds(sum(work[i] for i in members))))
    return max(least, windows(lambda members: by_number(members, duration, machines, 0)))


def seconds(work: float) -> int:
    """Whole seconds that so much work takes, all but a trifle."""
    return math.ceil(work * (1 - 1e-9) - 1e-6)
