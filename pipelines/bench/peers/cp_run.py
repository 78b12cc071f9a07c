"""One run of CP-SAT that tells of its solutions; both CP peers use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ortools.sat.python import cp_model

from plancast.pipelines.bench.peers.base import Rules


class _Watch(cp_model.CpSolverSolutionCallback):
    def __init__(self, tell: Callable[[float, float], object]) -> None:
        super().__init__()
        self._tell = tell

    def on_solution_callback(self) -> None:
        self._tell(self.objective_value, self.best_objective_bound)


def run(
    model: Any, rules: Rules, began: float, cost_of: Callable[[float], float]
) -> tuple[Any | None, float]:
    """Solve a model within what is left of the limit.

    Parameters
    ----------
    model : CpModel
    rules : Rules
    began : float
        ``time.perf_counter()`` at the peer's start: building the model counts.
    cost_of : callable
        Objective to cost.

    Returns
    -------
    solver : CpSolver or None
        With values, None without a solution.
    lower_bound : float
        On the cost.
    """
    solver: Any = cp_model.CpSolver()
    left_s = rules.limit_s - (time.perf_counter() - began)
    if left_s <= 0:
        return None, float("-inf")
    solver.parameters.max_time_in_seconds = left_s
    solver.parameters.num_workers = rules.threads
    solver.parameters.random_seed = rules.seed
    watch = _Watch(lambda value, bound: rules.observe(cost_of(value), cost_of(bound)))
    status = solver.solve(model, watch)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return (solver if found else None), cost_of(solver.best_objective_bound)
