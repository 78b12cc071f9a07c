"""Ruin and recreate: what it keeps by differences is what the whole schedule costs."""

from __future__ import annotations

import numpy as np
import pytest
from oracles.valid_schedules import plannable

from planner.kernels.schedule import load_state, search, total_cost
from planner.messages import Budget
from planner.priorities import priorities
from planner.problem import Schedule
from planner.solvers import SOLVERS
from planner.solvers.lns import RANKS, _fixed, _state


def test_costs_kept_by_differences_are_the_costs_of_the_whole() -> None:
    """The search would climb on a cost that drifts away from the evaluator's."""
    moved = 0
    for problem in plannable(range(7000, 7160), max_tasks=8):
        budget, rng = Budget(None, 1), np.random.default_rng(0)
        first = SOLVERS["greedy"]().solve(problem, budget=budget, rng=rng).schedule
        if first is None:
            continue
        fixed, state = _fixed(problem), _state(problem, first)
        times, free, count = problem.profile()
        times, free = load_state(fixed, state, times, free, count)
        assert total_cost(fixed, state) == pytest.approx(problem.cost(first), rel=1e-9, abs=1e-9)
        keys = priorities(problem)
        rank = np.array([keys[name] for name in RANKS])
        # Hot enough to accept worse schedules too.
        heat = problem.cost(first) / len(problem.tasks)
        *_, start, end, worker, best = search(
            fixed, state, times, free, count, rank, 300, heat, 4, 48, 0.1, 1
        )
        assert best == pytest.approx(problem.cost(Schedule(start, end, worker)), rel=1e-9, abs=1e-9)
        now = Schedule(state.start, state.end, state.worker)
        assert total_cost(fixed, state) == pytest.approx(problem.cost(now), rel=1e-9, abs=1e-9)
        moved += bool((state.start != first.start).any())
    assert moved > 20
