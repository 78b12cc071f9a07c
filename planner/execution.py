"""Executors of a batch under error: the plan as it stands, dispatch without a plan, both together.

All three are dispatched by one kernel in one arena and priced by one evaluator, so that they
differ in their decisions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.arena import Arena, Outage, arena_of, rules
from planner.beliefs import Belief, believe
from planner.domain import Plan
from planner.evaluate import HOUR_S
from planner.kernels.dispatch import ENDED, FAR, RUNNING, WAITING, Live, Rules, copy_of, run
from planner.messages import PlanRequest
from planner.priorities import priorities
from planner.problem import Floats, Ints, Schedule


@dataclass(frozen=True)
class Executed:
    """What an execution came to.

    Parameters
    ----------
    plan : Plan
        True starts and ends, for ``evaluate(..., realised=True)``.
    thought : int
        How often the executor thought anew.
    followed : dict of str to int
        How often each of its candidates was chosen.
    spread : float
        What it came to believe of the forecasts' error: spread of the log run time.
    restarts, lost_s : int
        Runs that failures cut short, and the seconds they had run.
    """

    plan: Plan
    thought: int = 0
    followed: Mapping[str, int] | None = None
    spread: float = 0.0
    restarts: int = 0
    lost_s: int = 0


RunS = Mapping[str, int] | Mapping[str, Mapping[str, int]]


def static(
    request: PlanRequest, plan: Plan, run_s: RunS, outages: Sequence[Outage] = ()
) -> Executed:
    """Carry a plan out as it stands: its workers, and on each worker its order.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
        Of every task that can be planned.
    run_s : mapping
        The truth, see ``arena.arena_of``.
    outages : sequence of Outage

    Notes
    -----
    A task starts once its predecessors have ended, there is room on its workers, and every
    task that the plan lets start earlier there has started.
    """
    arena = arena_of(request, run_s, outages)
    rank, home = arena.homes(plan)
    live = copy_of(arena.start)
    arena.run(rules(arena, rank, home=home, bound=True), live, arena.estimate)
    return _executed(arena, live)


def online(
    request: PlanRequest, plan: Plan, run_s: RunS, outages: Sequence[Outage] = ()
) -> Executed:
    """Dispatch without a plan: least slack to the deadline first, then longest tail.

    Each task in turn starts on the most allocated worker on which it fits; the plan is not
    looked at. See ``static`` for the parameters.
    """
    arena = arena_of(request, run_s, outages)
    live = copy_of(arena.start)
    arena.run(rules(arena, _ranks(arena)["slack"], spread=1.0), live, arena.estimate)
    return _executed(arena, live)


@dataclass(frozen=True)
class ClosedLoop:
    """Follow the plan as long as that is the cheapest thing to do; think anew as tasks end.

    Parameters
    ----------
    thoughts : int
        How many times it thinks in the course of a batch.
    futures : int
        Futures drawn each time, the same for every candidate.
    replan : callable, optional
        (request, incumbent) to a plan: asked where following a plan is about the best that
        can be done.
    near : float
        How much dearer following a plan may look and still be replanned for, relative.
    first_spread : float
        Spread of the log run time that it believes in before anything has ended.
    seed : int

    Notes
    -----
    A rollout algorithm: each candidate is a complete way to go on (a plan to follow, strictly
    or with freedom of worker; an order and a rule for workers). Each is played to the end by
    the dispatching kernel in futures drawn from what is believed of the run times that have
    not been seen, priced by the request's prices, and the cheapest on average is followed
    until the next thought. Believed: a regression of log run time on log forecast, fitted to
    what has ended and what runs still (``beliefs.believe``).

    References
    ----------
    Bertsekas, Castanon (1999), "Rollout algorithms for stochastic scheduling problems",
    doi:10.1023/A:1009634810396.
    """

    thoughts: int = 24
    futures: int = 4
    replan: Callable[[PlanRequest, Plan], Plan | None] | None = None
    near: float = 0.03
    loyal: float = 0.005
    first_spread: float = 0.3
    seed: int = 0

    def __call__(
        self, request: PlanRequest, plan: Plan, run_s: RunS, outages: Sequence[Outage] = ()
    ) -> Executed:
        """Execute; see ``static`` for the parameters."""
        arena = arena_of(request, run_s, outages)
        return _Loop(self, arena, plan).execute()


class _Loop:
    """One execution in a closed loop."""

    def __init__(self, settings: ClosedLoop, arena: Arena, plan: Plan) -> None:
        self.settings, self.arena, self.plan = settings, arena, plan
        self.live = copy_of(arena.start)
        self.rng = np.random.default_rng(settings.seed)
        self.followed: dict[str, int] = {}
        self.last = ""
        self.rates = _rates(arena)
        self.spread = settings.first_spread
        tasks = len(arena.problem.tasks)
        self.pause = max(1, tasks // settings.thoughts)

    def execute(self) -> Executed:
        thought, more = 0, True
        while more:
            belief, age = self._belief()
            estimate = self._seconds(belief, age, 0.5)
            choice, name = self._choose(belief, age, estimate)
            self.followed[name] = self.followed.get(name, 0) + 1
            thought += 1
            more = self.arena.run(choice, self.live, estimate, self.pause)
        done = _executed(self.arena, self.live)
        return replace(done, thought=thought, followed=self.followed, spread=self.spread)

    def _belief(self) -> tuple[Belief, Floats]:
        """What the ended and running tasks tell, and the age of each task (0: not started)."""
        live, now = self.live, int(self.live.count[0])
        state = live.state
        started = np.flatnonzero(state != WAITING)
        ended = state[started] == ENDED
        until = np.where(ended, live.end[started], now)
        seconds = (until - live.start[started]).astype(np.float64)
        forecast = self._forecast()
        belief = believe(forecast[started], seconds, ended, self.settings.first_spread)
        self.spread = belief.spread
        age = np.where(state == RUNNING, now - live.start, 0).astype(np.float64)
        return belief, age

    def _forecast(self) -> Floats:
        """The forecast of each task on the class it runs on, else on its fastest."""
        estimate = self.arena.estimate
        fastest = np.where(estimate > 0, estimate, FAR).min(axis=1)
        first = self.live.worker[self.arena.cluster.shard_ptr[:-1]]
        on = estimate[np.arange(len(first)), self.arena.cluster.worker_class[first]]
        return np.where((first >= 0) & (on > 0), on, fastest).astype(np.float64)

    def _seconds(self, belief: Belief, age: Floats, level: Floats | float) -> Ints:
        """Run times at a level (one, or one for each task) of what is believed. (tasks, classes)."""
        arena = self.arena
        result = np.zeros_like(arena.estimate)
        for k in range(result.shape[1]):
            forecast = arena.estimate[:, k]
            seconds = belief.quantile(np.maximum(forecast, 1.0), age, level)
            result[:, k] = np.where(forecast > 0, np.rint(np.minimum(seconds, 1e12)), 0)
        return result

    def _choose(self, belief: Belief, age: Floats, estimate: Ints) -> tuple[Rules, str]:
        futures = []
        for _ in range(self.settings.futures):
            level = np.clip(self.rng.random(len(self.arena.tasks)), 1e-4, 1 - 1e-4)
            futures.append(np.maximum(self._seconds(belief, age, level), 1))
        candidates = self._candidates(estimate)
        costs = {
            name: float(np.mean([self._price(r, estimate, f) for f in futures]))
            for name, r in candidates.items()
        }
        name = min(costs, key=lambda n: costs[n])
        if self.last in costs and costs[self.last] <= costs[name] * (1 + self.settings.loyal):
            name = self.last
        self.last = name
        return candidates[name], name

    def _candidates(self, estimate: Ints) -> dict[str, Rules]:
        arena = self.arena
        ranks = _ranks(arena, estimate)
        found = {}
        planned, home = arena.homes(self.plan)
        found["plan, bound"] = rules(arena, planned, home=home, bound=True)
        prices = arena.problem.prices
        orders = ["slack"] if prices[1] > 0 or prices[2] > 0 else ["tail"]
        if prices[3] > 0 or prices[4] > 0:
            orders.append("smith")
        orders = {name: ranks[name] for name in orders}
        orders["plan"] = planned
        for name, rank in orders.items():
            found[f"{name}, best suited"] = rules(
                arena, rank, row=arena.cluster.kind, rate=self.rates, price=1.0, spread=0.01,
                kin=0.5,
            )
        found["slack, most allocated"] = rules(arena, ranks["slack"], spread=1.0)
        return found

    def _price(self, candidate: Rules, estimate: Ints, future: Ints) -> float:
        """The cost of going on so in one future."""
        arena, live = self.arena, copy_of(self.live)
        longest = np.zeros(len(arena.tasks), np.int64)
        first = live.worker[arena.cluster.shard_ptr[:-1]]
        running = np.flatnonzero(live.state == RUNNING)
        longest[running] = future[running, arena.cluster.worker_class[first[running]]]
        live.end[running] = np.maximum(live.start[running] + longest[running], live.count[0] + 1)
        run(arena.cluster, candidate, live, arena.task_of, estimate, future, FAR)
        return cost_of(arena, live)


def cost_of(arena: Arena, live: Live) -> float:
    """The request's price of a state in which everything has ended; infinity where it has not."""
    planned = len(arena.problem.tasks)
    if (live.state[:planned] != ENDED).any():
        return float("inf")
    pieces = arena.cluster.shard_ptr[planned]
    return arena.problem.cost(Schedule(live.start[:planned], live.end[:planned],
                                       live.worker[:pieces]))  # fmt: skip


def _rates(arena: Arena) -> Floats:
    """How ill each worker suits each kind of task, 0 for the best. Shape (kinds, workers).

    Notes
    -----
    ``share_best / share - 1 + log2(waste / waste_best)``: a task goes where it fills the
    machine, so that wide tasks find wide machines; and where it strands little of the
    resource that the batch is shortest of: ``waste = share x capacity`` of that resource.
    """
    cluster = arena.cluster
    kinds, workers = cluster.allowed.shape
    demand = np.zeros((kinds, cluster.capacity.shape[1]))
    demand[cluster.kind] = cluster.demand
    capacity = cluster.capacity.astype(np.float64)
    share = np.zeros((kinds, workers))
    for r in range(capacity.shape[1]):
        has = np.maximum(capacity[None, :, r], 1)
        share = np.maximum(share, np.where(capacity[None, :, r] > 0, demand[:, r, None] / has, 0))
    share = np.maximum(share, 1e-9)
    work = cluster.demand * np.where(arena.estimate > 0, arena.estimate, FAR).min(axis=1)[:, None]
    shortest = int((work.sum(axis=0) / np.maximum(capacity.sum(axis=0), 1)).argmax())
    size = np.maximum(capacity[:, shortest], 1e-9)
    waste = np.where(cluster.allowed, share * size, np.inf)
    least = waste.min(axis=1, keepdims=True)
    best = np.where(cluster.allowed, share, 0.0).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = best / share - 1.0 + np.log2(waste / least)
    return np.where(cluster.allowed, rate, 0.0)


def _ranks(arena: Arena, estimate: Ints | None = None) -> dict[str, Floats]:
    """Priority values of every task under what is believed; running tasks have none."""
    problem = arena.problem
    planned = len(problem.tasks)
    if estimate is not None:
        problem = replace(problem, duration=estimate[:planned])
    extra = np.zeros(len(arena.tasks) - planned)
    return {name: np.concatenate([v, extra]) for name, v in priorities(problem).items()}


def _executed(arena: Arena, live: Live) -> Executed:
    restarts, lost_s = arena.lost(live)
    return Executed(arena.outcome(live), restarts=restarts, lost_s=lost_s)


Executor = Callable[[PlanRequest, Plan, RunS, Sequence[Outage]], Executed]

EXECUTORS: dict[str, Executor] = {"static": static, "online": online, "closed": ClosedLoop()}
"""By the names of the command line."""
HOUR = HOUR_S
