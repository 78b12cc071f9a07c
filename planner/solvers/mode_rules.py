"""Choices of a mode for each task by simple rules, and how they are made to keep to budgets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Floats, Ints, Schedule

WEIGHTS = (0.0, 1.0, 0.25, 4.0, np.inf)
"""How much a second of all workers counts beside a second of the task, by rule."""


def with_mode(schedule: Schedule, choice: Ints) -> Schedule:
    """A schedule of ``Choices.fixed(choice)`` that tells its modes."""
    return Schedule(schedule.start, schedule.end, schedule.worker, choice)


def rule_choices(choices: Choices) -> Iterator[Ints]:
    """Choices that keep to the budgets, one for each of some rules; those that repeat left out.

    Notes
    -----
    A rule weighs the time that a task takes in a mode and what it takes of the cluster
    (worker-seconds over the number of workers, times the tasks that share it): fast modes where
    there is room, frugal ones where there is none.
    """
    seen: set[bytes] = set()
    for weight in WEIGHTS:
        score = scores(choices, weight)
        choice = affordable(choices, score)
        if choice is not None and choice.tobytes() not in seen:
            seen.add(choice.tobytes())
            yield choice


def scores(choices: Choices, weight: float) -> Floats:
    """What each row counts by a rule, the less the better. Shape (rows,)."""
    used = choices.worker_seconds + 1e-9 * choices.seconds
    if np.isinf(weight):
        return used
    crowd = len(choices.tasks) / max(1, len(choices.base.workers))
    return choices.seconds + weight * crowd * used + 1e-9 * used


def best_rows(choices: Choices, score: Floats) -> Ints:
    """The row of least score of each task."""
    order = np.lexsort((score, choices.task_of))
    best: Ints = order[choices.ptr[:-1]].astype(np.int64)
    return best


def affordable(choices: Choices, score: Floats) -> Ints | None:
    """A choice of small scores that keeps to the budgets; None where none was found.

    Notes
    -----
    From the best rows on, the exchange that saves most of what is overspent for what it adds to
    the score, until nothing is. Where that gets stuck, the same from the rows that consume least
    of what is scarcest; an exact method may still find one (``CpSat``).
    """
    choice = best_rows(choices, score)
    if not len(choices.left) or choices.affords(choice):
        return choice
    scarce = choices.consumed / np.maximum(choices.left, 1)
    for start in (
        choice,
        best_rows(choices, scarce.sum(axis=1)),
        best_rows(choices, scarce.max(1)),
    ):
        found = _repaired(choices, start, score)
        if found is not None:
            return found
    return None


def _repaired(choices: Choices, choice: Ints, score: Floats) -> Ints | None:
    """Exchanges of rows until the budgets are kept to; None where none helps any more."""
    consumed, left = choices.consumed.astype(np.float64), choices.left.astype(np.float64)
    scale = np.maximum(left, 1.0)
    choice = choice.copy()
    used = consumed[choice].sum(axis=0)
    spread = float(np.ptp(score)) or 1.0
    while True:
        over = np.where(used > 0, np.maximum(used - left, 0.0), 0.0) / scale
        if over.sum() <= 0:
            return choice
        after = used + consumed - consumed[choice[choices.task_of]]
        then = (np.where(after > 0, np.maximum(after - left, 0.0), 0.0) / scale).sum(axis=1)
        gain = over.sum() - then
        if gain.max() <= 1e-12:
            return None
        added = (score - score[choice[choices.task_of]]) / spread
        worth = np.where(gain > 1e-12, gain / np.maximum(added + 1e-3, 1e-6), -np.inf)
        row = int(np.argmax(worth))
        choice[choices.task_of[row]] = row
        used = consumed[choice].sum(axis=0)
