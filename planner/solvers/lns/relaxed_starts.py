"""List schedules steered by the linear relaxation: which kinds of tasks belong on which workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.graph import dues, priority_order
from plancast.planner.arrays.problem import Floats, Problem, Schedule
from plancast.planner.bounds.relaxation import Relaxation
from plancast.planner.model.domain import HOUR_S
from plancast.planner.solvers.greedy.priority_rules import priorities
from plancast.planner.solvers.lns import ruin
from plancast.planner.solvers.lns.local_search import fixed_arrays, schedule_of, state_arrays
from plancast.planner.solvers.lns.ruin import FAR, Fixed

PASSES: tuple[tuple[str, bool, float, float], ...] = (
    ("latest", False, 1.02, 0.005),
    ("latest", False, 1.0, 0.02),
    ("broad", False, 1.02, 0.005),
    ("latest", False, 1.05, 0.005),
    ("latest", True, 1.02, 0.02),
    ("latest", False, 1.1, 0.02),
)
"""Order of the tasks; whether the relaxation's shares are quotas, or only its reduced costs are
prices; makespan and on-times that are free, over the relaxation's; price of an end by the second,
as a part of what a worker's second costs on average."""
ROOMY, EACH = 3, 15
"""Index of the pass that is made first where a worker has fewer tasks than so many on average:
these pack worse, and need a longer makespan."""
AREA = 0.5
"""By so many seconds a task that is due comes later for each second of a whole worker that it takes
by weight: not all can be in time, and those that take little make little late."""
SEARCHED_TASKS = 2_000
"""Up to so many tasks all come by their latest start: moves soon repair what is late."""
SPARE = 16
"""Pieces for which each row of a fresh state has room; it grows."""


def guided_schedules(
    problem: Problem,
    relaxation: Relaxation,
    *,
    fixed: Fixed | None = None,
    until: float = float("inf"),
    passes: int = 99,
) -> Iterator[Schedule]:
    """List schedules that follow the relaxation, the most promising first.

    Parameters
    ----------
    problem : Problem
    relaxation : Relaxation
    fixed : Fixed, optional
        The arrays of the problem, where they have been made.
    until : float
        ``time.perf_counter`` after which no further one is begun.
    passes : int
        How many of ``PASSES`` to make.

    Yields
    ------
    Schedule
        None for a pass in which some task found no place.

    Notes
    -----
    A worker's price is what the relaxation says, not what it costs now: an hour of a kind's
    work costs its reduced cost there, time beyond the worker's part of its group's on-time
    costs its idle power, and the makespan is free up to the relaxation's. Groups that are on
    for a part of the makespan are taken as some workers that are on for all of it.
    """
    keys = priorities(problem, relaxation.makespan_s)
    if len(problem.tasks) > SEARCHED_TASKS:
        keys["latest"] = _small_sooner(problem, relaxation.makespan_s, keys)
    second = relaxation.cost / max(1.0, relaxation.makespan_s) / len(problem.workers)
    fixed = fixed_arrays(problem) if fixed is None else fixed
    fitted: dict[float, Fixed] = {}
    work = np.bincount(problem.kind, problem.piece_seconds, minlength=len(problem.allowed))
    free = relaxation.costlier <= 1e-9 * relaxation.cost
    first = ROOMY if len(problem.tasks) < EACH * len(problem.workers) else 0
    in_turn = (PASSES[first], *PASSES[:first], *PASSES[first + 1 :])
    for name, quotas, room, part in in_turn[:passes]:
        if time.perf_counter() > until or interruption.asked():
            return
        order = priority_order(keys[name], problem.link_ptr, problem.before)
        quota = relaxation.share * work[:, None] if quotas else np.where(free, 1e18, 0.0)
        if room not in fitted:
            fitted[room] = _guided(fixed, relaxation, room)
        guided = fitted[room]
        state, profile = state_arrays(problem, None)
        profile, items = ruin.load(guided, state, profile, SPARE)
        *_, failed = ruin.construct(
            guided, state, profile, items, order, quota, relaxation.worker_group,
            int(room * relaxation.makespan_s), part * second + 1e-12,
        )  # fmt: skip
        if failed < 0:
            yield schedule_of(state.ts, state.ps)


def _small_sooner(problem: Problem, makespan_s: float, keys: Mapping[str, Floats]) -> Floats:
    """The order by latest start, where of tasks that are due those that take little go sooner."""
    due, weight, rest = dues(
        problem.deadline, problem.weight, problem.shortest, problem.pred_ptr, problem.pred
    )
    area = keys["smith"] * problem.weight / np.maximum(weight, 1e-9)
    own = due - problem.shortest + AREA * area
    urgent = np.minimum(own, makespan_s - problem.shortest - rest)
    return np.where(due < FAR // 2, urgent, keys["latest"])


def _guided(fixed: Fixed, relaxation: Relaxation, room: float) -> Fixed:
    """The arrays of a problem with the prices of the relaxation, and its times with some room."""
    group = relaxation.worker_group
    costlier = np.where(np.isfinite(relaxation.costlier), relaxation.costlier, 0.0)
    # Columns by number come in another memory layout, for which all would be compiled again.
    costlier = np.ascontiguousarray(costlier[:, group])
    wi, wf = fixed.wi.copy(), fixed.wf.copy()
    wf[:, ruin.BUSY] = 1.0 / HOUR_S
    wf[:, ruin.OVER] = wf[:, ruin.IDLE]
    wf[:, ruin.IDLE] = wf[:, ruin.BOOT] = 0.0
    wi[:, ruin.TARGET] = np.ceil(room * _on_until(relaxation))
    hours = fixed.hours
    if hours is not None:
        nothing = np.zeros_like(hours.busy_w)
        hours = hours._replace(busy_w=nothing, idle_w=nothing)
    return fixed._replace(wi=wi, wf=wf, share=costlier, hours=hours)


def _on_until(relaxation: Relaxation) -> Floats:
    """Part of its group's on-time of each worker, seconds: all of the makespan, or what is left."""
    until = np.zeros(len(relaxation.worker_group))
    for g, mean_s in enumerate(relaxation.on_s):
        members = np.flatnonzero(relaxation.worker_group == g)
        before = relaxation.makespan_s * np.arange(len(members))
        left = mean_s * len(members) - before
        until[members] = np.clip(left, 0.0, relaxation.makespan_s)
    return until
