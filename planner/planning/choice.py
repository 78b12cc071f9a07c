"""What ``auto`` chooses: the engines for a problem, side by side, and the reason in a phrase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.model.messages import AutoChoice, Budget
from plancast.planner.solvers.makespan.recognise import (
    SHOP_TASKS,
    is_multimode_project,
    is_project,
    is_shop,
)

ASTAR_TASKS = 6
"""Up to this many tasks ``auto`` proves by A*."""
CPSAT_TASKS = 14
"""Up to this many by CP-SAT; beyond, neither proves much in seconds, and LNS finds more."""
EXACT_PIECES = 500
"""Of more pieces neither proves anything: a gang's are alike, but each takes a place in a model."""
BESIDE_TASKS = 30
"""Up to this many CP-SAT tries to prove beside LNS, a thread each."""
BOUND_TASKS, BOUND_S = 60, 4.0
"""Up to this many it does so for its bound, with so many seconds: LNS has its plan by then."""
FREE_TASKS, FREE_S = 100, 1.0
"""Up to this many tasks, with so many seconds, it does so where few wait in the first plan."""
FEW_WAIT = 0.1
"""That part of them: most such batches are proved in a second, and LNS loses nothing by it."""
MODES_CPSAT_TASKS, MODES_BESIDE_TASKS = 20, 60
"""Up to this many tasks with modes CP-SAT plans alone, and beside LNS."""


@dataclass(frozen=True)
class Chosen:
    """Engines that plan side by side.

    Parameters
    ----------
    engines : mapping of str to (mapping of str to object)
        Name to parameters.
    why : str
        In a phrase.
    """

    engines: Mapping[str, Mapping[str, Any]]
    why: str

    def report(self, budget: Budget, engines: Iterable[Any]) -> AutoChoice:
        """The choice as the response states it.

        Parameters
        ----------
        budget : Budget
        engines : iterable of Solver
            As they were made.
        """
        alone = budget.steps is not None
        most = {
            e.name: 1 if alone else getattr(e, "threads", _THREADS.get(e.name, 1)) for e in engines
        }
        return AutoChoice(most, self.why)


_THREADS = {"astar": 1, "project": 2, "shop": 2}
"""Of engines that have no such parameter: projects and shops search beside a prover."""


def choose(problem: Problem | Choices, budget: Budget) -> Chosen:
    """The engines that ``auto`` takes for a problem of this shape; one, or two side by side."""
    if isinstance(problem, Choices):
        return _choose_for_modes(problem, budget)
    tasks = len(problem.tasks)
    can_prove = problem.shard_ptr[-1] <= EXACT_PIECES
    # A* knows neither the hour nor who holds which device.
    whole = problem.hours is None and not problem.tells_apart
    if can_prove and tasks <= ASTAR_TASKS and whole:
        return _alone("astar", f"at most {ASTAR_TASKS} tasks")
    if can_prove and tasks <= CPSAT_TASKS and (problem.hours is None or budget.steps is not None):
        return _alone("cpsat", f"at most {CPSAT_TASKS} tasks")
    if is_project(problem):
        return _alone("project", "a project of activities on one worker, for its makespan")
    if is_shop(problem) and tasks <= SHOP_TASKS:
        return _alone("shop", "a job shop, for its makespan")
    seconds = budget.seconds or 0.0
    beside = BOUND_TASKS if seconds >= BOUND_S else BESIDE_TASKS
    if can_prove and tasks <= beside and budget.steps is None:
        return _beside(f"at most {beside} tasks in {seconds:g} s")
    return _alone("lns", "too large to be proved")


def once_begun(
    chosen: Chosen, problem: Problem | Choices, budget: Budget, first: Schedule | None
) -> Chosen:
    """The same once there is a first plan: it tells which larger batches can be proved."""
    if (
        [*chosen.engines] != ["lns"]
        or isinstance(problem, Choices)
        or first is None
        or len(problem.tasks) > FREE_TASKS
        or problem.shard_ptr[-1] > EXACT_PIECES
        or budget.steps is not None
        or (budget.seconds or 0.0) < FREE_S
    ):
        return chosen
    part = waiting_part(problem, first)
    if part > FEW_WAIT:
        return chosen
    return _beside(f"{part:.0%} of the tasks wait for a worker in the first plan", 1)


def waiting_part(problem: Problem, schedule: Schedule) -> float:
    """Part of the tasks that start later than their release and their predecessors' ends allow."""
    ready = problem.release.copy()
    follower = np.repeat(np.arange(len(ready)), np.diff(problem.pred_ptr))
    np.maximum.at(ready, follower, schedule.end[problem.pred])
    return float((schedule.start > ready).mean())


def _choose_for_modes(choices: Choices, budget: Budget) -> Chosen:
    """The same for tasks with modes."""
    if is_multimode_project(choices):
        return _alone("project", "a project of activities with modes, for its makespan")
    if len(choices.tasks) <= MODES_CPSAT_TASKS:
        return _alone("cpsat", f"at most {MODES_CPSAT_TASKS} tasks with modes")
    if len(choices.tasks) <= MODES_BESIDE_TASKS and budget.steps is None:
        return _beside(f"at most {MODES_BESIDE_TASKS} tasks with modes")
    return _alone("lns", "tasks with modes, too many to be proved")


def _alone(engine: str, why: str) -> Chosen:
    return Chosen({engine: {}}, why)


def _beside(why: str, provers: int = 2) -> Chosen:
    """Ruin and recreate on one thread, and CP-SAT for the proof on as many as are named."""
    return Chosen({"lns": {"threads": 1}, "cpsat": {"threads": provers, "tick_s": 1}}, why)
