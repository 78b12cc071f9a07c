"""What a peer is given and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.model.domain import TERMS, BadRequest
from plancast.planner.solvers.base import Observe


class NotSuited(BadRequest):
    """The peer cannot express this problem; the text says what it has no word for."""


@dataclass(frozen=True)
class Rules:
    """What a peer must keep to.

    Parameters
    ----------
    limit_s : float
        Seconds from the call on.
    threads : int
    seed : int
    observe : callable
        Called with each better schedule: (cost, lower bound).
    """

    limit_s: float
    threads: int = 2
    seed: int = 0
    observe: Observe = field(default=lambda cost, bound: None)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a peer found: a schedule, if any, and a cost below which it says there is none."""

    schedule: Schedule | None
    lower_bound: float = float("-inf")


Peer = Callable[[Problem, Rules], Answer]


def require_open(problem: Problem) -> None:
    """Refuse what peers have no word for: gangs, running tasks, closed windows, hard bounds."""
    policy = problem.request.policy
    if (problem.shards > 1).any():
        raise NotSuited("has gangs")
    if len(problem.busy_worker) or len(problem.shut_worker):
        raise NotSuited("has running tasks, or workers that are not always open")
    if policy.has_hard_bounds:
        raise NotSuited("has hard bounds")


def require_priced_only(problem: Problem, *terms: str) -> None:
    """Refuse a problem that prices another term."""
    for name in TERMS:
        if problem.request.policy.prices.of(name) and name not in terms:
            raise NotSuited(f"prices {name}")


def takes_whole_worker(problem: Problem) -> bool:
    """Whether no two tasks ever fit a worker side by side."""
    for w in range(len(problem.workers)):
        here = np.flatnonzero(problem.allowed[:, w])
        if not len(here):
            continue
        kinds = {int(k): int(i) for i, k in enumerate(problem.kind)}
        demand = problem.demand[[kinds[int(k)] for k in here if int(k) in kinds]]
        if len(demand) and not (2 * demand.min(axis=0) > problem.capacity[w]).any():
            return False
    return True
