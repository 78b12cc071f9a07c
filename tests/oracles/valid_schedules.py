"""Random valid schedules, far from good ones: late starts, odd workers, odd orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.model.domain import TERMS, Prices
from plancast.planner.solvers.greedy.greedy import schedule_in_order
from tests.oracles.random_requests import random_request


def priced_alone(problem: Problem) -> dict[str, Problem]:
    """The same problem with a price of 1 on one term and none on the others, for each but moves."""
    nothing = Prices(**dict.fromkeys(TERMS, 0.0))
    return {
        term: replace(
            problem,
            rates=encode(
                replace(
                    problem.request,
                    policy=replace(problem.request.policy, prices=replace(nothing, **{term: 1.0})),
                )
            ).rates,
            memory={},
        )
        for term in TERMS
        if term != "moves"
    }


def random_schedules(problem: Problem, rng: np.random.Generator, tries: int) -> Iterator[Schedule]:
    """List schedules in random orders of the same problem with later releases and fewer workers."""
    for _ in range(tries):
        tasks = len(problem.tasks)
        late = rng.integers(0, 6, tasks) * (rng.random(tasks) < 0.5)
        kept = rng.random(problem.allowed.shape) < 0.7
        kept[~(problem.allowed & kept).any(axis=1)] = True
        harder = replace(problem, release=problem.release + late, allowed=problem.allowed & kept)
        if np.isinf(harder.class_duration).all(axis=1).any():
            continue  # A task has no run time on the workers that are left.
        order = priority_order(rng.random(tasks), problem.pred_ptr, problem.pred)
        schedule = schedule_in_order(harder, order, int(rng.integers(2)))
        if schedule is not None:
            yield schedule


def plannable(seeds: range, **options: int | bool) -> Iterator[Problem]:
    """Random problems with tasks to plan and none known to be impossible."""
    for seed in seeds:
        problem = encode(random_request(seed, **options))  # type: ignore[arg-type]
        if problem.tasks and not problem.infeasible:
            yield problem
