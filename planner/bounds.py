"""Lower bounds on the cost of any plan of a problem; they never exceed the optimum.

Nothing learned enters here.
"""

from __future__ import annotations

import numpy as np

from planner.domain import MIN_STRETCH_S
from planner.evaluate import HOUR_S, WATT_SECONDS_PER_KWH
from planner.kernels.graph import heads_and_tails
from planner.problem import Floats, Ints, Problem
from planner.relaxation import relax

LP_TOLERANCE = 1.0 - 1e-6
"""The LP solver meets its constraints within 1e-7; the bound gives that away, and more."""


def heads_tails(problem: Problem) -> tuple[Ints, Ints]:
    """Earliest conceivable start of each task and longest chain from it on, seconds.

    Returns
    -------
    head, tail : int64 (tasks,)
    """
    return heads_and_tails(problem.release, problem.shortest, problem.pred_ptr, problem.pred)


def term_bounds(problem: Problem) -> Floats:
    """A lower bound on each cost term, in the order of ``domain.TERMS``.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    float64 (terms,)

    Notes
    -----
    Every task starts at its head (release and chain of predecessors) or later, takes its
    shortest duration or longer, and for energy, load and failures its cheapest worker.
    The makespan is also at least the work of all tasks over what all workers have of a
    resource (energetic reasoning on the whole horizon). Each term is bounded alone; the
    sum of priced bounds is therefore a bound on the cost.
    """
    bound = problem.base.copy()
    owner_wait_h = problem.owner_wait_h.copy()
    load_h = float(problem.load_h.sum())
    on = problem.on
    bound[5] += float(
        (problem.idle_w * np.maximum(0, problem.last_end - problem.free_from) * on).sum()
        / WATT_SECONDS_PER_KWH
    )
    if problem.tasks:
        head, tail = heads_tails(problem)
        end = head + problem.shortest
        bound[0] = max(bound[0], float((head + tail).max()) / HOUR_S, _area_makespan_h(problem))
        late = np.maximum(0, end - problem.deadline)
        bound[1] += float((problem.weight * late).sum()) / HOUR_S
        bound[2] += float((problem.weight * (late > 0)).sum())
        wait_h = (head - problem.raw_release) / HOUR_S
        bound[3] += float((problem.weight * wait_h).sum())
        np.add.at(owner_wait_h, problem.owner, wait_h)
        for i in range(len(problem.tasks)):
            run = problem.durations_on(i)
            may = run > 0
            run, hours = run[may], run[may] / HOUR_S
            if problem.shards[i] > 1:
                # A slow piece holds the fast ones back, and none ends before its own time:
                # the shortest run is the safe one for every ratio.
                run = np.full_like(run, run.min())
                hours = run / HOUR_S
            shards = int(problem.shards[i])
            share = problem.share[problem.kind[i], may]
            waited = head[i] - problem.raw_release[i]
            longest = max(int(problem.duration[i].max()), MIN_STRETCH_S)
            # (s + d - r) / max(d, 10) falls with d beyond 10 s and rises below.
            at_least = (waited + run) / np.maximum(run, MIN_STRETCH_S)
            stretch = float(at_least.min())
            if shards > 1:
                stretch = min(stretch, (waited + longest) / longest)
            bound[4] += float(problem.weight[i]) * stretch
            kwh = problem.busy_w[may] * share * hours * HOUR_S / WATT_SECONDS_PER_KWH
            bound[5] += shards * float(kwh.min())
            bound[8] += shards * float((1.0 - problem.health[may] ** hours).min())
            load_h += shards * float((share * hours).min())
    bound[6] = max(bound[6], float((owner_wait_h / problem.owner_tasks).max(initial=0.0)))
    bound[7] = max(float(problem.load_h.max()), load_h / len(problem.workers))
    return bound


def lower_bound(problem: Problem) -> float:
    """No plan of the problem that preempts nothing costs less (``moves`` is bounded by 0).

    Notes
    -----
    The sum of the priced ``term_bounds``, where makespan and energy are bounded together by
    the linear relaxation if that is better: what saves energy may lengthen the plan.
    """
    each = term_bounds(problem)
    priced = each * problem.prices
    total = float(priced.sum())
    if problem.tasks and priced[0] + priced[5] > 0:
        found = relax(problem, float(each[0]) * HOUR_S)
        if found is not None:
            total += max(0.0, found.cost * LP_TOLERANCE - float(priced[0] + priced[5]))
    return total


def _area_makespan_h(problem: Problem) -> float:
    """Work over capacity for each resource, hours, with running tasks taking their part."""
    capacity = problem.capacity.sum(axis=0).astype(np.float64)
    work = (problem.demand * (problem.shortest * problem.shards)[:, None]).sum(axis=0)
    busy = problem.busy_demand * problem.busy_end[:, None]
    # What runs may exceed a worker's capacity; it takes no more than there is.
    fits = np.ones(len(problem.resources), np.bool_)
    in_use = np.zeros_like(problem.capacity)
    np.add.at(in_use, problem.busy_worker, problem.busy_demand)
    fits &= (in_use <= problem.capacity).all(axis=0)
    total = work + np.where(fits, busy.sum(axis=0), 0)
    hours: Floats = np.divide(
        total, capacity * HOUR_S, out=np.zeros(len(capacity)), where=capacity > 0
    )
    return float(hours.max(initial=0.0))
