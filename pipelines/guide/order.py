"""A dispatch order learned by trying: weights of task features whose list schedules are cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Problem
from plancast.planner.arrays.schedule import EARLIEST_END, LEAST_COST
from plancast.planner.solvers.greedy.greedy import schedule_in_order
from plancast.planner.solvers.greedy.priority_rules import ORDERS, order_features, priorities

Floats = NDArray[np.float64]
POPULATION, ELITE = 24, 7
SPREAD, LEAST_SPREAD = 0.3, 0.01
DEARER_COUNTS = 0.05
"""Of an order beside others how much it counts where one of these is cheaper."""
RULES = (EARLIEST_END, LEAST_COST)


@dataclass(frozen=True)
class Learned:
    """A learned order.

    Parameters
    ----------
    weights : dict of str to float
        Of ``plancast.planner.solvers.greedy.priority_rules.order_features``.
    rule : int
        ``LEAST_COST`` or ``EARLIEST_END`` of the list schedule.
    log_ratio : float
        Mean logarithm of its cost over that of the best hand-written pass of each problem; of one
        that was sought beside others, what was sought.
    """

    weights: dict[str, float]
    rule: int
    log_ratio: float


def hand_written(problem: Problem) -> dict[tuple[str, int], float]:
    """Cost of the list schedule of each hand-written order by each rule; infinite if none."""
    keys = priorities(problem)
    return {(name, rule): _cost(problem, keys[name], rule) for name in ORDERS for rule in RULES}


def cost_of(problem: Problem, learned: Learned) -> float:
    """Cost of the list schedule of a learned order."""
    features = order_features(problem)
    key = sum(weight * features[name] for name, weight in learned.weights.items())
    return _cost(problem, np.asarray(key, np.float64), learned.rule)


def learn_order(
    problems: Sequence[Problem],
    *,
    rule: int = LEAST_COST,
    beside: Sequence[Learned] = (),
    generations: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Learned:
    """Search the weights by the cross-entropy method, from the best hand-written order on.

    Parameters
    ----------
    problems : sequence of Problem
        To train on; those that cost nothing are left out.
    rule : int
    beside : sequence of Learned
        What is there already. With any, it is sought what adds most to the best of these and
        of the hand-written passes, problem by problem; being dearer than that matters little.
    generations : int
    seed : int
    progress : callable, optional
        Told (generations done, all).

    References
    ----------
    Rubinstein, Kroese (2004), "The cross-entropy method". Xu, Hoos, Leyton-Brown (2010), "Hydra:
    Automatically configuring algorithms for portfolio-based selection", for `beside`.
    """
    tables = [hand_written(problem) for problem in problems]
    kept = [k for k, table in enumerate(tables) if 1e-9 < min(table.values()) < np.inf]
    chosen = [problems[k] for k in kept]
    least = [
        min(*tables[k].values(), *(cost_of(problems[k], other) for other in beside)) for k in kept
    ]
    columns = [order_features(problem) for problem in chosen]
    names = list(columns[0])
    features = [np.column_stack([column[name] for name in names]) for column in columns]
    start = min(ORDERS, key=lambda name: np.mean([np.log(tables[k][name, rule]) for k in kept]))

    def judge(weights: Floats) -> float:
        ratios = np.array(
            [
                np.log(_cost(problem, rows @ weights, rule) / best)
                for problem, rows, best in zip(chosen, features, least, strict=True)
            ]
        )
        if beside:
            ratios = np.where(ratios > 0, DEARER_COUNTS * np.minimum(ratios, 1.0), ratios)
        return float(np.mean(ratios))

    rng = np.random.default_rng(seed)
    mean = np.array([float(name == start) for name in names])
    spread = np.full(len(names), SPREAD)
    best, ratio = mean.copy(), judge(mean)
    for generation in range(generations):
        tried = [best, *(mean + spread * rng.normal(size=(POPULATION, len(names))))]
        found = np.array([judge(weights) for weights in tried])
        ranked = np.argsort(found, kind="stable")
        if found[ranked[0]] < ratio:
            best, ratio = tried[ranked[0]], float(found[ranked[0]])
        elite = np.array([tried[k] for k in ranked[:ELITE]])
        mean = 0.2 * mean + 0.8 * elite.mean(axis=0)
        spread = 0.3 * spread + 0.7 * elite.std(axis=0) + LEAST_SPREAD
        if progress is not None:
            progress(generation + 1, generations)
    return Learned(_named(names, best), rule, ratio)


def _named(names: Sequence[str], weights: Floats) -> dict[str, float]:
    result: Mapping[str, float] = dict(zip(names, weights.tolist(), strict=True))
    return dict(result)


def _cost(problem: Problem, key: Floats, rule: int) -> float:
    order = priority_order(key, problem.pred_ptr, problem.pred)
    schedule = schedule_in_order(problem, order, rule)
    return np.inf if schedule is None else float(problem.cost(schedule))
