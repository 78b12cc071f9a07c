"""The engines behind one contract, and the registry that tests and ``plan`` iterate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plancast.planner.solvers.base import Solution, Solver
from plancast.planner.solvers.greedy.greedy import Greedy
from plancast.planner.solvers.lns.lns import LargeNeighbourhood


def _astar(**parameters: Any) -> Solver:
    from plancast.planner.solvers.astar.astar import AStar

    return AStar(**parameters)


def _cpsat(**parameters: Any) -> Solver:
    # ortools takes a third of a second to import: only who asks for it pays.
    from plancast.planner.solvers.cpsat.cpsat import CpSat

    return CpSat(**parameters)


def _lns(**parameters: Any) -> Solver:
    return LargeNeighbourhood(**{"start": Greedy(), **parameters})


def _project(**parameters: Any) -> Solver:
    from plancast.planner.solvers.makespan.project import Project

    return Project(**{"start": Greedy(), **parameters})


def _shop(**parameters: Any) -> Solver:
    from plancast.planner.solvers.makespan.shop import Shop

    return Shop(**{"start": Greedy(), "finisher": _lns(), **parameters})


def _repair(**parameters: Any) -> Solver:
    from plancast.planner.solvers.astar.astar import AStar
    from plancast.planner.solvers.repair.repair import Repair

    return Repair(**{"start": _lns(), "exact": AStar(max_edges=1000), **parameters})


SOLVERS: dict[str, Callable[..., Solver]] = {
    "greedy": Greedy,
    "lns": _lns,
    "astar": _astar,
    "cpsat": _cpsat,
    "project": _project,
    "shop": _shop,
    "repair": _repair,
}
"""Name to factory; keyword arguments are the solver's parameters."""

MODE_SOLVERS = ("greedy", "cpsat", "project", "lns", "astar")
"""Those that plan tasks with modes, and budgets (``base.ModeSolver``)."""

__all__ = ["MODE_SOLVERS", "SOLVERS", "Solution", "Solver"]
