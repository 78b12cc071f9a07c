"""Lower bounds on the cost of any plan of a problem; they never exceed the optimum.

Nothing learned enters here.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.graph import heads_and_tails, least_busy_times
from plancast.planner.arrays.problem import Floats, Ints, Problem
from plancast.planner.bounds.queue_relaxation import queue_cost
from plancast.planner.bounds.relaxation import relax
from plancast.planner.bounds.timed_relaxation import timed_cost
from plancast.planner.model.domain import HOUR_S, MIN_STRETCH_S

ROUNDING = 1.0 - 1e-9
"""What sums of floats give away."""
CERTIFIED = 1.0 - 1e-11
"""What the sums of a bound from dual prices give away."""
LP_TOLERANCE = 1.0 - 1e-6
"""The LP solver meets its constraints within 1e-7; the bound gives that away, and more."""


def heads_tails(problem: Problem) -> tuple[Ints, Ints]:
    """Earliest conceivable start of each task and longest chain from it on, seconds.

    Returns
    -------
    head, tail : int64 (tasks,)
    """
    return heads_and_tails(problem.release, problem.shortest, problem.pred_ptr, problem.pred)


class Parts(NamedTuple):
    """Lower bounds on the parts of a cost, each priced; what runs costs ``Rates.fixed`` beside it.

    ``use`` is what workers cost while they are on and busy, boots aside.
    """

    end: float = 0.0
    late: float = 0.0
    miss: float = 0.0
    wait: float = 0.0
    slowdown: float = 0.0
    use: float = 0.0
    fail: float = 0.0
    owner: float = 0.0
    load: float = 0.0


def least_end_s(problem: Problem) -> float:
    """A last end that no schedule beats, seconds after now.

    Notes
    -----
    The longest chain from its release on, what runs, and the work of all tasks over what all
    workers have of a resource (energetic reasoning on the whole horizon).
    """
    least = float(problem.last_end.max(initial=0))
    if problem.tasks:
        head, tail = heads_tails(problem)
        least = max(least, float((head + tail).max()), area_makespan_h(problem) * HOUR_S)
        least = max(least, counted_end_s(problem, head))
    return least


def counted_end_s(problem: Problem, head: Ints) -> float:
    """A last end that what is counted for the whole cluster lets no schedule beat.

    Parameters
    ----------
    problem : Problem
    head : int64 (tasks,)
        Earliest conceivable starts, seconds after now.

    Notes
    -----
    Area: until then as much of each resource is free, over time, as the tasks take at least.
    Chain: tasks of which no two can hold it at once run one after the other.
    """
    (times,), (free,), _ = problem.spare
    latest = 0.0
    for r in range(len(problem.counted)):
        takes, most = problem.takes[:, r], int(free[:, r].max())
        area = float((takes * problem.shortest.astype(np.float64)).sum())
        free_s = np.diff(times) * free[:-1, r].astype(np.float64)
        before = np.concatenate([[0.0], np.cumsum(free_s)])
        k = int(np.searchsorted(before, area, side="left")) - 1
        if k >= 0:
            left = area - before[k]
            latest = max(latest, float(times[k]) + left / max(1.0, float(free[k, r])))
        alone = 2 * takes > most
        if alone.any():
            latest = max(latest, float(head[alone].min() + problem.shortest[alone].sum()))
    return ROUNDING * latest


def cost_bounds(problem: Problem, until: float = np.inf) -> Parts:
    """A lower bound on each part of the cost.

    Parameters
    ----------
    problem : Problem
    until : float
        ``time.perf_counter()`` after which what is not known of the queue yet is left out.

    Notes
    -----
    Every task starts at its head (release and chain of predecessors) or later, takes its
    shortest duration or longer, and for energy, load and failures its cheapest worker. Waits,
    slowdown and unfairness know the queue: all tasks share what the workers have. Each part is
    bounded alone; their sum is therefore a bound on the cost.
    """
    rates = problem.rates
    owner_wait_h = problem.owner_wait_h.copy()
    load_h = float(problem.load_h.sum())
    on_s = np.maximum(0, problem.last_end - problem.free_from) * problem.on
    bound = Parts(end=rates.end * least_end_s(problem), use=float((rates.idle * on_s).sum()))
    mean_wait_h = 0.0
    if problem.tasks:
        head, _ = heads_tails(problem)
        late = np.maximum(0, head + problem.shortest - problem.deadline)
        queued = _Queue(problem, head, until)
        np.add.at(owner_wait_h, problem.owner, (head - problem.raw_release) / HOUR_S)
        # A slow piece of a gang holds the fast ones back: none ends before its own time, and the
        # gang takes the time of one of them.
        run = problem.class_duration
        runs = np.isfinite(run)
        hours = np.where(runs, run, 0.0) / HOUR_S

        def amounts(per_hour: Floats) -> Floats:
            """The least that a piece of each task adds on each class at a rate by worker."""
            rate = problem.least_on_class(np.broadcast_to(per_hour, problem.share.shape))
            return np.where(runs, rate[problem.kind], 0.0) * hours

        def least(each: Floats) -> float:
            """Sum over the pieces of their least amount over the classes."""
            return float((problem.shards * np.where(runs, each, np.inf).min(axis=1)).sum())

        each_alone = float((problem.weight * _least_stretch(problem, head, run)).sum())
        bound = bound._replace(
            late=rates.late * float((problem.weight * late).sum()),
            miss=rates.miss * float((problem.weight * (late > 0)).sum()),
            wait=rates.wait * HOUR_S * queued.waits_h(problem.weight),
            slowdown=rates.slowdown * max(each_alone, _queued_stretch(problem, run, queued)),
            use=bound.use + least(amounts(HOUR_S * rates.busy * problem.share)),
            fail=rates.fail * least(-np.expm1(-amounts(-np.log(problem.health)))),
        )
        load_h += least(amounts(problem.share))
        # The worst-off owner waits as long as all do on average.
        everyone = float(problem.owner_wait_h.sum()) + queued.waits_h(np.ones(len(problem.tasks)))
        mean_wait_h = everyone / float(problem.owner_tasks.sum())
    longest_h = float((owner_wait_h / problem.owner_tasks).max(initial=0.0))
    most_load_h = max(float(problem.load_h.max()), load_h / len(problem.workers))
    return bound._replace(
        owner=rates.owner * HOUR_S * max(0.0, mean_wait_h, longest_h),
        load=rates.load * HOUR_S * most_load_h,
    )


def bound_by_parts(problem: Problem) -> float:
    """The sum of the bounds on the parts: no plan of the problem costs less."""
    return problem.rates.fixed + sum(cost_bounds(problem))


class _Queue:
    """Waits of tasks that share the workers, as if these were one machine of each resource."""

    def __init__(self, problem: Problem, head: Ints, until: float) -> None:
        self.problem, self.head, self.until = problem, head, until
        self.capacity = problem.capacity.sum(axis=0, dtype=np.float64)

    def waits_h(self, weight: Floats) -> float:
        """A lower bound on the weighted sum of waits, hours.

        Notes
        -----
        A task that starts at s is half done at s + d / 2, wherever it runs; its first d
        seconds, d its shortest duration, take no more than their area of any resource. The
        mean busy times are those of the best schedule that may stop and resume; tasks that
        take nothing of the resource start at their heads.
        """
        problem = self.problem
        alone = float((weight * (self.head - problem.raw_release)).sum())
        best = alone
        most = problem.spare[1][0].max(axis=0).astype(np.float64)
        shortest = problem.shortest.astype(np.float64)
        own = problem.demand * problem.piece_seconds[:, None]
        areas = np.concatenate([own, problem.takes * shortest[:, None]], axis=1)
        work = zip(areas.T, np.append(self.capacity, most), strict=True)
        for area, rate in work:
            takes = area > 0
            if not takes.any() or _is_over(self.until):
                continue
            busy = least_busy_times(area[takes], self.head[takes], weight[takes], float(rate))
            before = problem.shortest[takes] / 2 + problem.raw_release[takes]
            rest = (weight * (self.head - problem.raw_release))[~takes].sum()
            best = max(best, ROUNDING * busy - float((weight[takes] * before).sum()) + float(rest))
        return best / HOUR_S


def _queued_stretch(problem: Problem, run: Floats, queue: _Queue) -> float:
    """A lower bound on the weighted sum of bounded slowdowns, from waits in the queue.

    ``(s - r + d) / max(d, 10)``: the wait over the longest duration, and the least of the rest.
    """
    longest = np.maximum(problem.duration.max(axis=1), MIN_STRETCH_S).astype(np.float64)
    own = np.minimum(run, MIN_STRETCH_S) / MIN_STRETCH_S
    waits_s = queue.waits_h(problem.weight / longest) * HOUR_S
    return waits_s + float((problem.weight * own.min(axis=1)).sum())


def _least_stretch(problem: Problem, head: Ints, run: Floats) -> Floats:
    """Least bounded slowdown of each task over the classes it may run on. Shape (tasks,)."""
    waited = (head - problem.raw_release)[:, None]
    finite = np.where(np.isfinite(run), run, 1.0)
    stretch = (waited + finite) / np.maximum(finite, MIN_STRETCH_S)
    result: Floats = np.where(np.isfinite(run), stretch, np.inf).min(axis=1)
    return result


def lower_bound(problem: Problem, *, timed: bool = False, seconds: float | None = None) -> float:
    """No plan of the problem costs less (``moves`` is bounded by 0).

    Parameters
    ----------
    problem : Problem
    timed : bool
        Whether to solve the relaxations with a clock too, which may take a second.
    seconds : float, optional
        Most seconds for all of it: what is not known by then is left out, so that with none at all
        it is minus infinity. The prices of the queue are changed for a twentieth of them.

    Notes
    -----
    The sum of ``cost_bounds``, where makespan and energy are bounded together by
    the linear relaxation if that is better: what saves energy may lengthen the plan. If `timed`,
    waits, slowdown, lateness and misses are bounded together by what they cost in the queue; or
    lateness and misses with makespan and energy by the relaxation with a clock, if that is better
    than both.
    """
    if seconds is not None and seconds <= 0:
        return -np.inf
    until = np.inf if seconds is None else time.perf_counter() + seconds
    each = cost_bounds(problem, until)
    total = problem.rates.fixed + sum(each)
    if not problem.tasks:
        return total
    gain, together = 0.0, each.end + each.use
    if together > 0 and not _is_over(until) and (found := relax(problem, _left_s(until))):
        gain = max(gain, found.bound * CERTIFIED - together)
    if timed and not _is_over(until):
        waits = each.wait + each.slowdown + each.late + each.miss
        queued = queue_cost(problem, None if seconds is None else seconds / 20)
        gain += max(0.0, queued - waits)
    if timed and not _is_over(until):
        least = timed_cost(problem, least_end_s(problem), _left_s(until))
        if least is not None:
            gain = max(gain, least * LP_TOLERANCE - (together + each.late + each.miss))
    return total + gain


def _is_over(until: float) -> bool:
    return time.perf_counter() >= until


def _left_s(until: float) -> float | None:
    """Seconds until a moment of ``time.perf_counter``; None: no limit."""
    return None if until == np.inf else max(0.0, until - time.perf_counter())


def area_makespan_h(problem: Problem) -> float:
    """Work over capacity for each resource, hours, with running tasks taking their part."""
    capacity = problem.capacity.sum(axis=0, dtype=np.float64)
    # In floats: of amounts in bytes times seconds whole numbers would overflow.
    work = (problem.demand * problem.piece_seconds[:, None]).sum(axis=0)
    busy = problem.busy_demand.astype(np.float64) * problem.busy_end[:, None]
    # What runs may exceed a worker's capacity; it takes no more than there is.
    fits = np.ones(len(problem.resources), np.bool_)
    in_use = np.zeros_like(problem.capacity)
    np.add.at(in_use, problem.busy_worker, problem.busy_demand)
    fits &= (in_use <= problem.capacity).all(axis=0)
    total = work + np.where(fits, busy.sum(axis=0), 0)
    hours: Floats = np.divide(
        total, capacity * HOUR_S, out=np.zeros(len(capacity)), where=capacity > 0
    )
    return ROUNDING * float(hours.max(initial=0.0))
