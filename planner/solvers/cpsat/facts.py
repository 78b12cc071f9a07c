"""What a schedule makes of the variables of a model: the worth of each, for hints and claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule, offsets
from plancast.planner.model.domain import HOUR_S
from plancast.planner.solvers.cpsat.devices import devices_named

LARGEST_SUM = 2**61
"""Largest sum of absolute values in a constraint: what the solver's integers of 64 bits hold."""


class TooLarge(Exception):
    """Amounts or times so large that the model's sums exceed the solver's 64-bit integers."""


Value = Callable[["Facts"], float]
"""What a variable is worth in a schedule."""


def refuse_beyond(largest: int) -> None:
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
