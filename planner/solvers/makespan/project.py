"""One worker with several resources, makespan alone: annealed activity lists and a prover."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.arrays.rates import END_ALONE
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.base import (
    ModeSolver,
    Observe,
    Solution,
    Solver,
    at_least,
    more_than,
    solves,
)
from plancast.planner.solvers.makespan.list_search import ListSearch
from plancast.planner.solvers.makespan.multimode import ModeSearch
from plancast.planner.solvers.makespan.recognise import is_multimode_project, is_project
from plancast.planner.solvers.makespan.shared import activities_of


@dataclass(frozen=True)
class Project:
    """Resource-constrained projects; other problems go to an inner solver.

    Parameters
    ----------
    start : Solver
        Plans what is no project.
    strength : int
        Most shifts between two neighbouring lists; where tasks have modes there is one at most.
    spread : float
        Weight of the mean end beside the makespan; ``mode_lists.SPREAD`` where tasks have modes.
    hot, cold : float
        First and last temperature of a round, as shares of the mean duration.
    round_s : float
        Length of a round of 60 tasks, in proportion to their number, after which the search
        starts anew from a random list; where tasks have modes, of the first round of any.
    settled : int
        Up to so many tasks, all that is left after a second is the proof: both cores prove.

    Notes
    -----
    Simulated annealing over activity lists, each scheduled backwards and forwards, in one thread;
    CP-SAT asked for something shorter in another, with the bounds of both shared. Where its
    bound is far after a quarter of the time, a second walk has its thread. With a
    step budget (a step is a list) there is no prover, for its thread is not repeatable.
    """

    name: ClassVar[str] = "project"
    exact_terms: ClassVar[frozenset[str]] = END_ALONE
    start: Solver
    strength: int = 2
    spread: float = 0.2
    hot: float = 0.1
    cold: float = 0.02
    round_s: float = 1.0
    settled: int = 40

    def __post_init__(self) -> None:
        solves(self, "start")
        at_least(self, 1, "strength")
        at_least(self, 0, "settled", "spread")
        more_than(self, 0, "cold", "round_s")
        at_least(self, self.cold, "hot")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``."""
        began = time.perf_counter()
        activities = activities_of(problem) if is_project(problem) else None
        if activities is None:
            return self.start.solve(
                problem, budget=budget, rng=rng, incumbent=incumbent, observe=observe
            )
        search = ListSearch(self, problem, activities, rng, incumbent, observe)
        search.run(budget, began)
        return search.solution()

    def solve_modes(
        self,
        choices: Choices,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``ModeSolver.solve_modes``; what is no multi-mode project goes to `start`."""
        began = time.perf_counter()
        activities = activities_of(choices.ways) if is_multimode_project(choices) else None
        if activities is None:
            return cast(ModeSolver, self.start).solve_modes(
                choices, budget=budget, rng=rng, incumbent=incumbent, observe=observe
            )
        search = ModeSearch(self, choices, activities, rng, incumbent, observe)
        search.run(budget, began)
        return search.solution()
