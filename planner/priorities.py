"""Orders in which list schedules and insertions take the tasks."""

from __future__ import annotations

import numpy as np

from planner.bounds import heads_tails
from planner.kernels.graph import latest_ends
from planner.kernels.schedule import FAR
from planner.problem import Floats, Problem

ORDERS = ("slack", "smith", "tail", "area", "shortest", "release")
"""Least slack to the deadlines of the task and all after it (then longest tail), smallest
area per weight, longest tail, largest area, shortest per weight, first come."""


def priorities(problem: Problem) -> dict[str, Floats]:
    """Priority values of every task for each of ``ORDERS``, least first. Shape (tasks,) each."""
    _, tail = heads_tails(problem)
    shortest = problem.shortest.astype(np.float64)
    fits = np.where(problem.allowed, problem.share, np.inf).min(axis=1)
    area = shortest * problem.shards * np.maximum(fits[problem.kind], 1e-6)
    weight = np.maximum(problem.weight, 1e-9)
    # A task without a deadline is as urgent as what waits for it.
    due = latest_ends(problem.deadline, problem.shortest, problem.pred_ptr, problem.pred)
    urgent = due < FAR // 2
    return {
        "slack": np.where(urgent, due - shortest, FAR // 2 - tail),
        "area": -area,
        "tail": -tail.astype(np.float64),
        "smith": area / weight,
        "shortest": shortest / weight,
        "release": problem.raw_release.astype(np.float64),
    }
