"""Greedy list scheduling: several orders of the tasks, two ways to choose a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from plancast.planner.arrays.devices import HELD
from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.list_schedule import (
    EARLIEST_END,
    LEAST_COST,
    FirstFits,
    first_fits,
    list_schedule,
)
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.schedule import FAR
from plancast.planner.model.domain import HOUR_S
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.base import Observe, Solution, at_least
from plancast.planner.solvers.greedy.priority_rules import (
    ORDERS,
    WAITING,
    learned_priority,
    priorities,
    waiting_costs,
)
from plancast.planner.solvers.mode_rules import rule_choices, with_mode

PASSES: tuple[tuple[str, int], ...] = (
    ("slack", EARLIEST_END),
    ("smith", EARLIEST_END),
    ("slack", LEAST_COST),
    ("smith", LEAST_COST),
    *((order, rule) for order in ORDERS[2:6] for rule in (EARLIEST_END, LEAST_COST)),
)
"""Orders and rules, the most promising first: one for deadlines, one for waiting."""
LEARNED = "learned"
LEARNED_PASSES = {1: (LEARNED, EARLIEST_END), 3: (LEARNED, LEAST_COST)}
"""Where in the passes the learned order for waiting stands, where waiting has a price."""


@dataclass(frozen=True)
class Greedy:
    """The best of several list schedules; always fast, never proves anything.

    Parameters
    ----------
    work : int
        Task-worker pairs that may be looked at altogether. However large the problem is, the
        pass for deadlines is made, and the one for waiting where waiting has a price.
    """

    name: ClassVar[str] = "greedy"
    exact_terms: ClassVar[frozenset[str]] = frozenset()
    work: int = 2_000_000

    def __post_init__(self) -> None:
        at_least(self, 1, "work")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``; `rng` and `incumbent` are not needed."""
        began = time.perf_counter()
        best: Schedule | None = None
        best_cost, steps = float("inf"), 0
        for order, rule in self.passes(problem):
            late = budget.seconds is not None and time.perf_counter() - began > budget.seconds
            if late and best is not None:
                break
            steps += 1
            schedule = schedule_in_order(problem, order, rule)
            if schedule is not None and (cost := problem.cost(schedule)) < best_cost:
                best, best_cost = schedule, cost
                if observe is not None:
                    observe(cost, float("-inf"))
        if best is None:
            return Solution(Status.NO_PLAN_IN_TIME, steps=steps)
        return Solution(Status.FEASIBLE, best, claimed=best_cost, steps=steps)

    def passes(self, problem: Problem) -> Iterator[tuple[Ints, int]]:
        """Orders in which the tasks are placed, each with the rule for the worker."""
        pairs = max(1, len(problem.tasks) * len(problem.workers))
        passes = [p for p in PASSES if p[0] != "smith" or waiting_costs(problem)]
        if waiting_costs(problem):
            for place, learned in LEARNED_PASSES.items():
                passes.insert(place, learned)
        keys = priorities(problem)
        for name, rule in passes[: max(1 + waiting_costs(problem), self.work // pairs)]:
            if name == LEARNED and name not in keys:
                keys[name] = learned_priority(problem, WAITING)
            yield priority_order(keys[name], problem.link_ptr, problem.before), rule

    def solve_modes(
        self,
        choices: Choices,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``ModeSolver.solve_modes``: the best of the choices by rule."""
        began = time.perf_counter()
        best: Schedule | None = None
        best_cost, steps = float("inf"), 0
        for choice in rule_choices(choices):
            late = budget.seconds is not None and time.perf_counter() - began > budget.seconds
            if late and best is not None:
                break
            left = None
            if budget.seconds is not None:
                left = max(0.0, budget.seconds - (time.perf_counter() - began))
            found = self.solve(choices.fixed(choice), budget=replace(budget, seconds=left), rng=rng)
            steps += found.steps
            if found.schedule is None:
                continue
            schedule = with_mode(found.schedule, choice)
            if (cost := choices.cost(schedule)) < best_cost:
                best, best_cost = schedule, cost
                if observe is not None:
                    observe(cost, float("-inf"))
        if best is None:
            return Solution(Status.NO_PLAN_IN_TIME, steps=steps)
        return Solution(Status.FEASIBLE, best, claimed=best_cost, steps=steps)


def schedule_in_order(problem: Problem, order: Ints, rule: int) -> Schedule | None:
    """The list schedule of a topological order, or None where a task finds no place."""
    schedule = place_in_order(problem, order, rule)
    return None if (schedule.start >= FAR).any() else schedule


def place_in_order(problem: Problem, order: Ints, rule: int) -> Schedule:
    """The same with the tasks that find a place; ``FAR`` is the start of the others."""
    # An hour of end time costs a worker's part of an hour of everything that is priced
    # by time, so that a free worker is not filled forever.
    tie = HOUR_S * (problem.rates.end + problem.rates.wait) / len(problem.workers) + 1e-6
    spare = problem.spare_profile()
    start, end, worker = list_schedule(
        order, rule, tie, *problem.profile(), problem.demand, problem.release,
        problem.raw_release, problem.deadline, problem.hard_end, problem.last_start,
        problem.max_stretch, problem.weight, problem.shards, problem.shard_ptr, problem.gang,
        problem.kind, problem.allowed, problem.duration, problem.worker_class, problem.link_ptr,
        problem.link, problem.free_from, problem.share,
        problem.last_end.copy(), problem.on.copy(), problem.load_h.copy(), problem.rates,
        spare, _fits(problem),
    )  # fmt: skip
    held = None
    if spare is not None and problem.tells_apart:
        held = spare.devices.held[: len(worker), HELD]
    return Schedule(start, end, worker, devices=held)


def _fits(problem: Problem) -> FirstFits:
    """What is known of room on workers before a list schedule begins, found once for a problem."""
    if "first_fits" not in problem.memory:
        problem.memory["first_fits"] = first_fits(
            problem.kind, problem.demand, problem.shortest, problem.shards, problem.release,
            len(problem.workers),
        )  # fmt: skip
    found: FirstFits = problem.memory["first_fits"]
    return found._replace(none_before=found.none_before.copy())
