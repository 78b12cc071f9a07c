"""Orders in which list schedules and insertions take the tasks."""

from __future__ import annotations

import numpy as np

from planner.bounds import area_makespan_h, heads_tails
from planner.evaluate import HOUR_S
from planner.kernels.graph import latest_ends
from planner.kernels.schedule import FAR
from planner.problem import Floats, Problem

ORDERS = ("slack", "smith", "tail", "area", "shortest", "release", "latest", "broad", "scarce")
"""Least slack to the deadlines of the task and all after it (then longest tail), smallest
area per weight, longest tail, largest area, shortest per weight, first come; earliest latest
start for the deadlines and a makespan; the same, but of small tasks only half the tail counts;
fewest workers to choose from (then longest)."""


def priorities(problem: Problem, makespan_s: float | None = None) -> dict[str, Floats]:
    """Priority values of every task for each of ``ORDERS``, least first. Shape (tasks,) each.

    Parameters
    ----------
    problem : Problem
    makespan_s : float, optional
        The makespan that is reckoned with; if not given, all work over all workers.
    """
    head, tail = heads_tails(problem)
    shortest = problem.shortest.astype(np.float64)
    fits = np.where(problem.allowed, problem.share, np.inf).min(axis=1)
    area = shortest * problem.shards * np.maximum(fits[problem.kind], 1e-6)
    weight = np.maximum(problem.weight, 1e-9)
    # A task without a deadline is as urgent as what waits for it.
    due = latest_ends(problem.deadline, problem.shortest, problem.pred_ptr, problem.pred)
    urgent = due < FAR // 2
    if makespan_s is None:
        makespan_s = max(float((head + tail).max()), area_makespan_h(problem) * HOUR_S)
    mean = (np.where(problem.allowed, problem.share, 0.0).sum(axis=1))[problem.kind]
    mean /= np.maximum(1, problem.allowed.sum(axis=1))[problem.kind]
    own_latest = np.where(urgent, due - shortest, np.inf)
    capacity = problem.capacity / np.maximum(1, problem.capacity.sum(axis=0))
    choice = (problem.allowed @ capacity.max(axis=1))[problem.kind]
    return {
        "slack": np.where(urgent, due - shortest, FAR // 2 - tail),
        "area": -area,
        "tail": -tail.astype(np.float64),
        "smith": area / weight,
        "shortest": shortest / weight,
        "latest": np.minimum(own_latest, makespan_s - tail),
        "broad": np.minimum(own_latest, makespan_s - tail * (0.5 + mean)),
        "scarce": choice - 1e-6 * shortest / shortest.max(),
        "release": problem.raw_release.astype(np.float64),
    }
