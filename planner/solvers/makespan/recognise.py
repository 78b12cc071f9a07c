"""Which problems are a project or a shop: shapes for which there are engines of their own."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Problem
from plancast.planner.arrays.rates import prices_end_alone

SHOP_TASKS = 4_000
"""Beyond this many the shop's table of forbidden orders takes more than 64 MB."""


def prices_makespan_alone(problem: Problem) -> bool:
    """Whether a plan costs its makespan and nothing else, and nothing bounds or disturbs it.

    Single-shard tasks without lags, no running ones, nothing counted for the whole cluster,
    workers that are always open, no hard deadline, wait or stretch bound.
    """
    policy = problem.request.policy
    return bool(
        prices_end_alone(problem.rates)
        and problem.hours is None
        and not problem.counted
        and not len(problem.busy_worker)
        and not len(problem.shut_worker)
        and (problem.shards == 1).all()
        and not problem.is_related
        and not policy.hard_deadlines
        and policy.max_wait_s is None
        and policy.max_stretch is None
    )


def is_project(problem: Problem) -> bool:
    """A resource-constrained project: one worker, makespan alone."""
    return len(problem.workers) == 1 and prices_makespan_alone(problem)


def is_multimode_project(choices: Choices) -> bool:
    """A project whose activities have modes, and may consume budgets."""
    plain = choices.ways.shards.max(initial=1) == 1 and is_project(choices.base)
    return plain and not choices.request.snapshot.running


def is_shop(problem: Problem) -> bool:
    """A shop: several workers that run one task at a time, makespan alone."""
    if len(problem.workers) < 2 or not prices_makespan_alone(problem):
        return False
    kinds = np.unique(problem.kind)
    demand = problem.demand[[int(np.argmax(problem.kind == k)) for k in kinds]]
    for w in range(len(problem.workers)):
        here = demand[problem.allowed[kinds, w]]
        if len(here) and not (2 * here.min(axis=0) > problem.capacity[w]).any():
            return False
    return True
