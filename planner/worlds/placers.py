"""Placers for clusters of many workers, and the replay of arriving tasks under one of them.

A *placer* decides whenever something has happened which waiting tasks start, and where. It
knows the tasks that have arrived, forecasts made at their arrival, and what has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.problem import Floats, Ints
from plancast.planner.model.domain import MIN_STRETCH_S, Plan
from plancast.planner.model.messages import PlanRequest
from plancast.planner.worlds.dispatch import (
    ARRIVED,
    ENDED,
    FAR,
    LEAST_FREE,
    NOW,
    OUTAGES,
    RUNNING,
    WAITING,
    Live,
    Rules,
    copy_of,
    run,
)
from plancast.planner.worlds.dispatch_arrays import Arena, Outage, RunS, arena_of, rules
from plancast.planner.worlds.replay import Estimator

EXPECTED_LEVEL = 0.5
"""Quantile of the forecasts that placers take for the run time."""
OLD = -1e15
"""Rank of a task that has waited too long, before all others."""


@dataclass
class Known:
    """What a placer may know: of tasks that have not arrived, nothing is filled in.

    Parameters
    ----------
    arena : Arena
        Its ``cluster`` and ``problem``; never ``actual``.
    live : Live
    estimate : int64 (tasks, classes)
        Forecasts of tasks that have arrived, seconds; 0 for the others.
    arrived : bool (tasks,)
    """

    arena: Arena
    live: Live
    estimate: Ints
    arrived: np.ndarray


Placer = Callable[[Known], Rules]


def _by_release(known: Known) -> Floats:
    return known.arena.cluster.release.astype(np.float64)


def _by_deadline(known: Known) -> Floats:
    deadline = np.full(len(known.arena.tasks), FAR, np.int64)
    deadline[: len(known.arena.problem.deadline)] = known.arena.problem.deadline
    return deadline.astype(np.float64)


def _one_shot(
    order: Callable[[Known], Floats], spread: float, measure: int = 0, in_order: bool = False
) -> Placer:
    def place(known: Known) -> Rules:
        return rules(known.arena, order(known), spread=spread, measure=measure, in_order=in_order)

    return place


@dataclass(frozen=True)
class Planner:
    """Plans everything that waits, several ways, and starts what the cheapest plan starts now.

    Parameters
    ----------
    looks : int
        Most plans for one decision.
    most_wait_s : int
        From this wait on a task goes before all others, and workers are held for it.

    Notes
    -----
    A plan is a course of the dispatching kernel over the tasks that are known, with their
    forecasts: four orders (shortest and least area by weight, least slack, deadline) times two
    rules for workers: where most is left free, and the same but away from workers that tasks
    with less choice have wanted so far. The request's prices decide.
    """

    looks: int = 8
    most_wait_s: int = 24 * 3600

    def __call__(self, known: Known) -> Rules:
        """The rules of the cheapest plan."""
        ways = self._ways(known)
        waiting = (known.live.state == WAITING) & known.arrived
        if waiting.sum() < 2:
            return ways[0]
        costs = [_course_cost(known, way) for way in ways[: self.looks]]
        return ways[int(np.argmin(costs))]

    def _ways(self, known: Known) -> list[Rules]:
        arena, problem = known.arena, known.arena.problem
        seconds = np.where(known.estimate > 0, known.estimate, FAR).min(axis=1).astype(np.float64)
        weight = np.ones(len(arena.tasks))
        weight[: len(problem.weight)] = np.maximum(problem.weight, 1e-9)
        share = problem_share(arena)
        wanted = _wanted(known, share, seconds)
        least = np.where(arena.cluster.allowed, share, np.inf).min(axis=1)
        area = seconds * np.where(np.isfinite(least), least, 1.0)[arena.cluster.kind]
        due = _by_deadline(known)
        orders = [
            seconds / weight, area / weight, np.minimum(due - seconds, FAR / 2), due,
        ]  # fmt: skip
        release = _by_release(known)
        old = known.live.clock[NOW] - release >= self.most_wait_s
        ways = []
        for rank in orders:
            rank = np.where(old, OLD + release, rank)
            holds = 2 if old.any() else 0
            ways.append(rules(arena, rank, rate=wanted, price=1.0, spread=-0.3, most_holds=holds))
            ways.append(rules(arena, rank, spread=-1.0, most_holds=holds))
        return ways


def _wanted(known: Known, share: Floats, seconds: Floats) -> Floats:
    """How much each worker has been wanted by tasks with little choice, up to 1. (1, workers).

    Notes
    -----
    Work of each task that has arrived, in shares of a worker times seconds, over the square
    of how many workers could take it.
    """
    cluster = known.arena.cluster
    choice = np.maximum(1, cluster.allowed.sum(axis=1))
    seen = np.flatnonzero(known.arrived)
    work = np.bincount(
        cluster.kind[seen], np.minimum(seconds[seen], FAR / 2), minlength=len(cluster.allowed)
    )
    wanted = ((cluster.allowed * share) * (work / choice**2)[:, None]).sum(axis=0)
    result: Floats = (wanted / max(float(wanted.max()), 1e-9))[None, :]
    return result


def problem_share(arena: Arena) -> Floats:
    """Dominant share of a piece of each kind on each worker. Shape (kinds, workers)."""
    cluster = arena.cluster
    demand = np.zeros((len(cluster.allowed), cluster.capacity.shape[1]))
    demand[cluster.kind] = cluster.demand
    share = np.zeros(cluster.allowed.shape)
    for q in range(demand.shape[1]):
        has = np.maximum(cluster.capacity[None, :, q], 1)
        share = np.maximum(share, demand[:, q, None] / has)
    return share


def _course_cost(known: Known, way: Rules) -> float:
    """What going on so is believed to cost the tasks that are known and have not started."""
    arena, live = known.arena, copy_of(known.live)
    cluster, problem = arena.cluster, arena.problem
    live.clock[ARRIVED], live.clock[OUTAGES] = len(cluster.arrivals), len(cluster.outage_at)
    live.state[~known.arrived] = ENDED  # they are not known
    now = int(live.clock[NOW])
    for i in np.flatnonzero(live.state == RUNNING):
        first, last = cluster.shard_ptr[i : i + 2]
        on = cluster.worker_class[live.worker[first:last]]
        end = int(live.start[i] + known.estimate[i, on].max())
        live.end[i] = end if end > now else now + max(1, now - int(live.start[i]))
    asked = np.flatnonzero(live.state[: len(problem.tasks)] == WAITING)
    likely = np.maximum(known.estimate, 1)
    run(cluster, way, live, arena.task_of, known.estimate, likely, FAR)
    start = np.minimum(live.start[asked], now + 10**9)
    end = np.minimum(live.end[asked], now + 2 * 10**9)
    weight, rates = problem.weight[asked], problem.rates
    late = np.maximum(0, end - problem.deadline[asked])
    wait_s = start - problem.raw_release[asked]
    cost = rates.late * late + rates.miss * (late > 0) + rates.wait * wait_s
    slowdown = (end - problem.raw_release[asked]) / np.maximum(end - start, MIN_STRETCH_S)
    total = float((weight * (cost + rates.slowdown * slowdown)).sum())
    return total + rates.end * float(end.max(initial=now) - now)


PLACERS: dict[str, Placer] = {
    "fcfs": _one_shot(_by_release, 1.0, in_order=True),
    "least_allocated": _one_shot(_by_release, -1.0),
    "most_allocated": _one_shot(_by_release, 1.0),
    "best_fit": _one_shot(_by_release, 1.0, LEAST_FREE),
    "edf": _one_shot(_by_deadline, 1.0),
    "planner": Planner(),
}
"""First come first served in strict order; Kubernetes' two scores, which pass over what does
not fit; best fit by the resource left least; earliest deadline first; the planner."""


@dataclass(frozen=True)
class Placed:
    """What a replay came to: what ran, and the figures of ``judge``."""

    plan: Plan
    figures: Mapping[str, float]


def replay_cluster(
    request: PlanRequest,
    run_s: RunS,
    placer: Placer,
    estimator: Estimator,
    outages: Sequence[Outage] = (),
) -> Placed:
    """Let the tasks of a request arrive at their releases and a placer start them.

    Parameters
    ----------
    request : PlanRequest
        Its estimates say which machine classes a task may use, and nothing more.
    run_s : mapping
        The truth; a task is killed at its ``requested_s``.
    placer : callable
    estimator : Estimator
        Asked at each arrival, informed of each end; tasks by their place in ``problem.tasks``.
    outages : sequence of Outage

    Returns
    -------
    Placed
    """
    arena = arena_of(request, run_s, outages)
    for i, task in enumerate(arena.tasks):
        if task.requested_s is not None:
            arena.actual[i] = np.minimum(arena.actual[i], task.requested_s)
    live = copy_of(arena.start)
    known = Known(arena, live, np.zeros_like(arena.estimate), np.zeros(len(arena.tasks), bool))
    tell = _Teller(known, estimator)
    decision_ms, more = [], True
    while more:
        tell()
        began = time.perf_counter()
        chosen = placer(known)
        decision_ms.append(1000 * (time.perf_counter() - began))
        more = arena.run(chosen, live, known.estimate, 1)
    figures = judge(arena, live)
    figures["decisions"] = float(len(decision_ms))
    figures["decision_p99_ms"] = float(np.percentile(decision_ms, 99))
    return Placed(arena.outcome(live), figures)


class _Teller:
    """Tells the estimator what has happened, and the placer what is forecast."""

    def __init__(self, known: Known, estimator: Estimator) -> None:
        self.known, self.estimator = known, estimator
        self.reported = np.zeros(len(known.arena.tasks), np.bool_)
        self.level = int(np.argmin(np.abs(np.array(estimator.levels) - EXPECTED_LEVEL)))
        self.planned = len(known.arena.problem.tasks)
        known.arrived[self.planned :] = True
        known.estimate[self.planned :] = known.arena.estimate[self.planned :]

    def __call__(self) -> None:
        known, cluster, live = self.known, self.known.arena.cluster, self.known.live
        now_s = self.known.arena.request.snapshot.now_s
        ended = np.flatnonzero(
            (live.state[: self.planned] == ENDED) & ~self.reported[: self.planned]
        )
        for i in sorted(ended, key=lambda i: (live.end[i], i)):
            self.reported[i] = True
            end_s = now_s + int(live.end[i])
            self.estimator.finished(int(i), int(live.end[i] - live.start[i]), end_s)
        for i in cluster.arrivals[: live.clock[ARRIVED]]:
            if known.arrived[i]:
                continue
            known.arrived[i] = True
            seconds = self.estimator.at_submit(int(i), now_s + int(cluster.release[i]))[self.level]
            limit = known.arena.tasks[i].requested_s
            expected = max(1, min(round(float(seconds)), FAR if limit is None else limit))
            known.estimate[i] = np.where(known.arena.estimate[i] > 0, expected, 0)


def _spread(name: str, values: Floats, unit: str) -> dict[str, float]:
    """Mean, 95th percentile and largest of a figure; 0 where there is no value."""
    some = values if len(values) else np.zeros(1)
    return {
        f"{name}_mean{unit}": float(some.mean()),
        f"{name}_p95{unit}": float(np.percentile(some, 95)),
        f"{name}_max{unit}": float(some.max()),
    }


def judge(arena: Arena, live: Live) -> dict[str, float]:
    """Figures of a replay over the tasks that ended.

    Returns
    -------
    dict of str to float
        ``wait_mean_s``, ``wait_p95_s``, ``wait_max_s``; bounded slowdown ``bsld_mean``,
        ``bsld_p95``, ``bsld_max`` = max(1, (end - release) / max(run, 10)); ``miss_share`` of
        the tasks with a deadline; ``utilisation``: mean over workers of the dominant share in
        use, from now to the last end; ``restarts``, ``lost_s``; ``unstarted``. Where no task
        ended (none has a place, say), means, percentiles and largest are 0, as are ``tasks``.
    """
    problem, planned = arena.problem, len(arena.problem.tasks)
    done = np.flatnonzero(live.state[:planned] == ENDED)
    start, end, release = live.start[done], live.end[done], problem.raw_release[done]
    wait_s, ran_s = (start - release).astype(float), (end - start).astype(float)
    bsld = np.maximum(1.0, (end - release) / np.maximum(ran_s, MIN_STRETCH_S))
    deadline = problem.deadline[done]
    due = deadline < FAR
    first = live.worker[arena.cluster.shard_ptr[done]]
    share = problem_share(arena)[arena.cluster.kind[done], first] * arena.cluster.shards[done]
    span_s = float(max(1, end.max(initial=1) - release.min(initial=0)))
    restarts, lost_s = arena.lost(live)
    return {
        "tasks": float(len(done)),
        "unstarted": float(planned - len(done)),
        **_spread("wait", wait_s, "_s"),
        **_spread("bsld", bsld, ""),
        "miss_share": float((end[due] > deadline[due]).mean()) if due.any() else 0.0,
        "utilisation": float((share * ran_s).sum() / (len(problem.workers) * span_s)),
        "restarts": float(restarts),
        "lost_s": float(lost_s),
    }
