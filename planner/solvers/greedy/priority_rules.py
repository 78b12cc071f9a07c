"""Orders in which list schedules and insertions take the tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from plancast.planner.arrays.graph import latest_ends
from plancast.planner.arrays.problem import Floats, Problem
from plancast.planner.arrays.rates import prices_waiting
from plancast.planner.arrays.schedule import FAR
from plancast.planner.bounds.lower_bound import area_makespan_h, heads_tails
from plancast.planner.model.domain import HOUR_S

ORDERS = ("slack", "smith", "tail", "area", "shortest", "release", "latest", "broad", "scarce")
"""Least slack to the deadlines of the task and all after it (then longest tail), smallest
area per weight, longest tail, largest area, shortest per weight, first come; earliest latest
start for the deadlines and a makespan; the same, but of small tasks only half the tail counts;
fewest workers to choose from (then longest)."""


WAITING: dict[str, float] = {
    "slack": -0.49, "smith": 1.12, "tail": 0.29, "area": -0.14, "shortest": 0.75, "release": 0.39,
    "latest": 0.44, "broad": 0.02, "scarce": 0.22, "latest_s": 0.58, "slack_s": 0.24,
    "tail_s": 0.10, "shortest_s": 0.19, "weight": 0.22, "undated": -0.11,
}  # fmt: skip
"""What the learned order for waiting makes of ``order_features``. Found by the
cross-entropy method on generated batches of 300 tasks and on batches of KTH-SP2, philly and
WfInstances, all with a price on waiting; see docs/guide.md."""


def order_features(problem: Problem) -> dict[str, Floats]:
    """What a learned order weighs, none of it knowing the size of the batch. Shape (tasks,) each.

    Each of ``ORDERS`` as a rank in [0, 1], equals with their mean rank; and, over the makespan
    that is reckoned with, the values of ``latest``, ``slack`` (within [-1, 2]) and ``tail`` and
    the shortest duration; the weight over the mean, at most 5, less being later; and whether
    nothing that depends on the task has a deadline.
    """
    head, tail = heads_tails(problem)
    span = max(float((head + tail).max()), area_makespan_h(problem) * HOUR_S, 1.0)
    keys = priorities(problem, span)
    result = {name: _ranks(keys[name]) for name in ORDERS}
    result["latest_s"] = np.clip(keys["latest"] / span, -1.0, 2.0)
    result["slack_s"] = np.clip(keys["slack"] / span, -1.0, 2.0)
    result["tail_s"] = -tail / span
    result["shortest_s"] = problem.shortest / span
    mean = max(float(problem.weight.mean()), 1e-9)
    result["weight"] = -np.minimum(problem.weight / mean, 5.0) / 5.0
    due = latest_ends(problem.deadline, problem.shortest, problem.pred_ptr, problem.pred)
    result["undated"] = (due >= FAR // 2).astype(np.float64)
    return result


def learned_priority(problem: Problem, weights: Mapping[str, float]) -> Floats:
    """Weighted sum of ``order_features``, least first. Shape (tasks,)."""
    features = order_features(problem)
    total: Floats = np.zeros(len(problem.tasks))
    for name, weight in weights.items():
        total += weight * features[name]
    return total


def waiting_costs(problem: Problem) -> bool:
    """Whether anything is priced by the start of single tasks: waits, stretch, fairness."""
    return prices_waiting(problem.rates)


def _ranks(values: Floats) -> Floats:
    """Ranks from 0 to 1, equals with the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean: Floats = (last - (count + 1) / 2.0)[place] / max(1, len(values) - 1)
    return mean


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
