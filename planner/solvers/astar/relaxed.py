"""A* on a relaxed problem: its bound holds, and its plan where that is one of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from plancast.planner.arrays.problem import Problem, Schedule, device_masks
from plancast.planner.model.messages import Status
from plancast.planner.solvers.astar import kernel
from plancast.planner.solvers.base import Observe, Solution


def solve_relaxed(
    problem: Problem,
    solve: Callable[[Problem], Solution],
    incumbent: Schedule | None,
    observe: Observe | None,
) -> Solution:
    """Search as if GPUs were amounts, or else as if energy cost its least price all day.

    Parameters
    ----------
    problem : Problem
        Devices are told apart, or energy has hours.
    solve : callable
        Solves the problem without one of these.
    incumbent : Schedule, optional
    observe : callable, optional

    Notes
    -----
    A state does not tell who holds which device; and an edge starts its task as early as it can,
    which may cost more than a later start.
    """
    relaxed = (
        replace(problem, devices=None) if problem.tells_apart else replace(problem, hours=None)
    )
    found = solve(relaxed)
    known = [] if incumbent is None else [incumbent]
    if found.schedule is not None and found.schedule is not incumbent:
        known = [*_kept(problem, found.schedule), *known]
    if not known:
        status = found.status if found.schedule is None else Status.NO_PLAN_IN_TIME
        return Solution(status, lower_bound=found.lower_bound, steps=found.steps)
    schedule = min(known, key=problem.cost)
    cost = problem.cost(schedule)
    bound = min(found.lower_bound, cost)
    if observe is not None:
        observe(cost, bound)
    proven = cost - bound <= 2 * kernel.SAME * abs(cost)
    status = Status.OPTIMAL if proven else Status.FEASIBLE
    return Solution(status, schedule, bound, cost, found.steps)


def _kept(problem: Problem, schedule: Schedule) -> list[Schedule]:
    """The schedule with devices, where these are told apart and can be given to it."""
    if not problem.tells_apart:
        return [schedule]
    assert problem.devices is not None
    masks = device_masks(problem, schedule, problem.devices)
    return [] if masks is None else [replace(schedule, devices=masks)]
