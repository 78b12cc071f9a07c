"""What a solver is: the contract that every engine keeps and ``plan`` relies on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget, Status

Observe = Callable[[float, float], bool | None]
"""Called with (cost, lower bound) of the best plan at each better plan, or bound where a solver has
one; True where the search is to end: none can be better."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found.

    Parameters
    ----------
    status : Status
        OPTIMAL and INFEASIBLE are proofs, with respect to the solver's exact terms.
    schedule : Schedule, optional
    lower_bound : float
        No schedule of the problem costs less; ``-inf`` if nothing is known.
    claimed : float, optional
        The solver's own price of its schedule, only ever compared with the evaluator's.
    steps : int
        Work done, in the solver's own unit.
    """

    status: Status
    schedule: Schedule | None = None
    lower_bound: float = float("-inf")
    claimed: float | None = None
    steps: int = 0


class Solver(Protocol):
    """An engine: a frozen dataclass whose fields are its validated parameters."""

    name: ClassVar[str]
    exact_terms: ClassVar[frozenset[str]]
    """Terms that the solver sees as the evaluator prices them; on the others it only looks good."""

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """Find a good schedule of all tasks of `problem`.

        Parameters
        ----------
        problem : Problem
            With at least one task, and none that is known to be impossible.
        budget : Budget
            Seconds from this call on, and steps.
        rng : numpy Generator
            The only source of chance.
        incumbent : Schedule, optional
            A valid schedule to start from.
        observe : callable, optional
            Called at each better schedule; a solver ends where it answers True.
        """
        ...


class ModeSolver(Solver, Protocol):
    """A solver that plans tasks with modes as well; others are refused for them by name."""

    def solve_modes(
        self,
        choices: Choices,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """As ``solve``, with a way of each task to be chosen; schedules tell their modes."""
        ...


def at_least(solver: Any, least: float, *names: str) -> None:
    """Refuse parameters of a solver that are below a value (``BadRequest``)."""
    for name in names:
        if not (value := getattr(solver, name)) >= least:
            raise BadRequest(f"{solver.name}: {name} is {value}; it must be {least:g} or more")


def more_than(solver: Any, limit: float, *names: str) -> None:
    """Refuse parameters of a solver that are not above a value (``BadRequest``)."""
    for name in names:
        if not (value := getattr(solver, name)) > limit:
            raise BadRequest(f"{solver.name}: {name} is {value}; it must be more than {limit:g}")


def within(solver: Any, low: float, high: float, *names: str) -> None:
    """Refuse parameters of a solver that do not lie in [low, high] (``BadRequest``)."""
    for name in names:
        if not low <= (value := getattr(solver, name)) <= high:
            raise BadRequest(
                f"{solver.name}: {name} is {value}; it must lie in [{low:g}, {high:g}]"
            )


def solves(solver: Any, *names: str) -> None:
    """Refuse parameters of a solver that should be solvers and are none (``BadRequest``)."""
    for name in names:
        if not callable(getattr(getattr(solver, name), "solve", None)):
            raise BadRequest(f"{solver.name}: {name} must be a solver")
