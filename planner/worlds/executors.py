"""Executors of a batch under error: the plan as it stands, dispatch without a plan, both together.

All three are dispatched by one kernel in one arena and priced by one evaluator, so that they
differ in their decisions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from plancast.planner.arrays.deliberate_starts import deliberate_starts
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Floats, Ints, Schedule
from plancast.planner.model.domain import (
    SCENARIOS,
    BadRequest,
    DurationEstimate,
    Plan,
    Running,
    Snapshot,
)
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.greedy.priority_rules import priorities
from plancast.planner.solvers.lns.orders import suits
from plancast.planner.worlds.dispatch import (
    ENDED,
    FAR,
    NOW,
    RUNNING,
    WAITING,
    Live,
    Rules,
    copy_of,
    run,
)
from plancast.planner.worlds.dispatch_arrays import Arena, Outage, RunS, arena_of, rules
from plancast.planner.worlds.pool_loop import PoolLoop, Search
from plancast.planner.worlds.shrinkage import FIRST_SPREAD, Forecasts

PLAN = "plan, as it stands"
"""Name of the candidate that follows the plan strictly."""
MIDDLE = 0.5
"""Level at which a plan is repaired and tasks are ranked: no other is centred."""


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
    task that the plan lets start earlier there has started; where energy has hours, not before a
    start that the plan chose (``deliberate_starts``).
    """
    arena = arena_of(request, run_s, outages, deliberate_starts(request, plan))
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
    arena.run(rules(arena, ranks_of(arena)["slack"], spread=1.0), live, arena.estimate)
    return _executed(arena, live)


@dataclass(frozen=True)
class ClosedLoop:
    """Go on with what is cheapest over scenarios of a common level; think anew as room comes free.

    Parameters
    ----------
    scenarios : tuple of float, optional
        Levels that all tasks take together in a scenario, as in ``Policy.scenarios``; by default
        the policy's, where it names none ``domain.SCENARIOS``. Empty: the policy's level alone.
    search : Search
        Of the order of tasks, on one machine or few alike.
    thoughts : int
        Elsewhere: how many times it thinks in the course of a batch.
    moves : int
        Elsewhere: moves of ruin and recreate with which it repairs the plan at a thought, where
        following it is about the best that can be done; 0 for none.
    near : float
        How much more following the plan may seem to cost and still be repaired for, relative.
    loyal : float
        By how many standard errors of the mean another candidate must seem cheaper to be
        followed instead.
    first_spread : float
        Spread of the log run time about point forecasts that it believes in before anything
        has ended.
    seed : int

    Notes
    -----
    On one machine, or few alike, the order in which tasks are served is searched, warm-started,
    whenever room comes free or is taken (``plancast.planner.worlds.pool_loop``).

    Elsewhere it is a rollout algorithm: each candidate is a complete way to go on (the plan,
    strictly or in its order with freedom of worker; the order of ``online`` with two rules for
    workers). Each is played to the end by the dispatching kernel in every scenario, priced by
    the request's prices, and the cheapest on average is followed until the next thought. Where
    energy has hours none of them brings a start forward that the plan chose.

    What is believed of run times is what the estimates say, given the age of what runs; where
    they are points, a regression of log run time on log forecast, fitted to what has ended and
    what runs still (``beliefs.believe``).

    References
    ----------
    Bertsekas, Castanon (1999), "Rollout algorithms for stochastic scheduling problems",
    doi:10.1023/A:1009634810396.
    """

    scenarios: tuple[float, ...] | None = None
    search: Search = field(default_factory=Search)
    thoughts: int = 24
    moves: int = 2000
    near: float = 0.03
    loyal: float = 1.0
    first_spread: float = FIRST_SPREAD
    seed: int = 0

    def __post_init__(self) -> None:
        if self.thoughts < 1 or self.moves < 0:
            raise BadRequest("closed loop: thoughts must be 1 or more, moves 0 or more")
        if min(self.near, self.loyal) < 0 or self.first_spread <= 0:
            raise BadRequest("closed loop: near and loyal must be 0 or more, first_spread above 0")

    def __call__(
        self, request: PlanRequest, plan: Plan, run_s: RunS, outages: Sequence[Outage] = ()
    ) -> Executed:
        """Execute; see ``static`` for the parameters."""
        levels = self.scenarios
        if levels is None:
            levels = request.policy.scenarios or SCENARIOS
        arena = arena_of(request, run_s, outages, deliberate_starts(request, plan))
        if suits(arena.problem) and not outages:
            loop = PoolLoop(arena, plan, levels, self.search, self.seed)
            live = loop.execute()
            done = _executed(arena, live)
            return replace(done, thought=loop.thought, spread=loop.forecasts.spread)
        return _Loop(self, arena, plan, levels).execute()


class _Loop:
    """One execution in a closed loop; of the arena it reads everything but the truth."""

    def __init__(
        self, settings: ClosedLoop, arena: Arena, plan: Plan, levels: Sequence[float]
    ) -> None:
        self.settings, self.arena = settings, arena
        self.live = copy_of(arena.start)
        self.rng = np.random.default_rng(settings.seed)
        self.planned, self.home = arena.homes(plan)
        self.rates = suitability(arena)
        self.followed: dict[str, int] = {}
        self.last = PLAN
        self.levels = tuple(levels) or (arena.request.policy.level,)
        self.forecasts = Forecasts(arena, first_spread=settings.first_spread)

    def execute(self) -> Executed:
        pause = max(1, len(self.arena.problem.tasks) // self.settings.thoughts)
        thought, more = 0, True
        while more:
            age = self._ages()
            self.forecasts.learn(self.live, int(self.live.clock[NOW]))
            estimate = self.forecasts.remaining(age, MIDDLE)
            choice = self._choose(age, estimate)
            self.followed[self.last] = self.followed.get(self.last, 0) + 1
            thought += 1
            more = self.arena.run(choice, self.live, estimate, pause)
        done = _executed(self.arena, self.live)
        spread = self.forecasts.spread
        return replace(done, thought=thought, followed=self.followed, spread=spread)

    def _ages(self) -> Floats:
        """How long each running task has run, seconds; 0 of the others."""
        running = self.live.state == RUNNING
        age = np.zeros(len(self.live.state))
        age[running] = int(self.live.clock[NOW]) - self.live.start[running]
        return age

    def _choose(self, age: Floats, estimate: Ints) -> Rules:
        if not (self.live.state == ENDED).any():
            # How wrong the forecasts are is not known yet; what is left now, is left for good.
            return rules(self.arena, self.planned, home=self.home, bound=True)
        futures = [np.maximum(self.forecasts.remaining(age, p), 1) for p in self.levels]
        candidates = self._candidates(estimate)
        costs = {
            name: np.array([self._price(r, estimate, future) for future in futures])
            for name, r in candidates.items()
        }
        best = min(costs, key=lambda n: costs[n].mean())
        near = costs[best].mean() * (1 + self.settings.near)
        if costs[PLAN].mean() <= near and self._repair_plan(candidates[best], estimate):
            repaired = rules(self.arena, self.planned, home=self.home, bound=True)
            candidates[PLAN] = repaired
            costs[PLAN] = np.array([self._price(repaired, estimate, f) for f in futures])
            best = min(costs, key=lambda n: costs[n].mean())
        gain = costs[self.last] - costs[best]
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else 0.0
        if gain.mean() <= self.settings.loyal * error:
            best = self.last
        self.last = best
        return candidates[best]

    def _candidates(self, estimate: Ints) -> dict[str, Rules]:
        arena = self.arena
        rates = arena.problem.rates
        ranks = ranks_of(arena, estimate)
        orders = {"slack": ranks["slack"], "plan": self.planned}
        if rates.wait > 0 or rates.slowdown > 0:  # waiting has a price
            orders["smith"] = ranks["smith"]
        found = {PLAN: rules(arena, self.planned, home=self.home, bound=True)}
        for name, rank in orders.items():
            found[f"{name}, best suited"] = rules(
                arena, rank, row=arena.cluster.kind, rate=self.rates, price=1.0, spread=0.01,
                kin=0.5,
            )  # fmt: skip
        found["slack, most allocated"] = rules(arena, ranks["slack"], spread=1.0)
        return found

    def _play(self, candidate: Rules, estimate: Ints, future: Ints) -> Live:
        """Where a candidate leads in one future."""
        arena, live = self.arena, copy_of(self.live)
        running = np.flatnonzero(live.state == RUNNING)
        for i in running:
            first, last = arena.cluster.shard_ptr[i : i + 2]
            on = arena.cluster.worker_class[live.worker[first:last]]
            live.end[i] = max(live.start[i] + future[i, on].max(), live.clock[NOW] + 1)
        run(arena.cluster, candidate, live, estimate, future, FAR)
        return live

    def _price(self, candidate: Rules, estimate: Ints, future: Ints) -> float:
        return cost_of(self.arena, self._play(candidate, estimate, future))

    def _repair_plan(self, candidate: Rules, estimate: Ints) -> bool:
        """Ruin and recreate from where a candidate leads if all runs as believed.

        Whether a plan was found.
        """
        arena, live = self.arena, self.live
        waiting = np.flatnonzero(live.state[: len(arena.problem.tasks)] == WAITING)
        if not self.settings.moves or not len(waiting):
            return False
        likely = np.maximum(estimate, 1)
        led = self._play(candidate, estimate, likely)
        if (led.state != ENDED).any():
            return False
        problem = encode(_request_now(arena, live, waiting, estimate))
        if [t.id for t in problem.tasks] != [arena.tasks[i].id for i in waiting]:
            return False
        now, ptr = int(live.clock[NOW]), arena.cluster.shard_ptr
        pieces = np.concatenate([np.arange(ptr[i], ptr[i + 1]) for i in waiting])
        schedule = Schedule(led.start[waiting] - now, led.end[waiting] - now, led.worker[pieces])
        found = SOLVERS["lns"]().solve(
            problem, budget=Budget(seconds=None, steps=self.settings.moves), rng=self.rng,
            incumbent=schedule,
        ).schedule  # fmt: skip
        if found is None:
            return False
        self.planned[waiting] = found.start + now
        self.home[pieces] = found.worker
        return True


def _request_now(arena: Arena, live: Live, waiting: Ints, estimate: Ints) -> PlanRequest:
    """The batch as it is known now, run times as believed."""
    request, now = arena.request, int(live.clock[NOW])
    at_s, workers = request.snapshot.now_s + now, arena.problem.workers
    open_ids = {arena.tasks[i].id for i in waiting}
    running, estimates = [], {}
    ptr = arena.cluster.shard_ptr
    for i in np.flatnonzero(live.state == RUNNING):
        names = tuple(workers[w].id for w in live.worker[ptr[i] : ptr[i + 1]])
        start_s = request.snapshot.now_s + int(live.start[i])
        running.append(Running(arena.tasks[i], names, start_s))
    known = open_ids | {r.task.id for r in running}
    for i in [*waiting, *np.flatnonzero(live.state == RUNNING)]:
        estimates[arena.tasks[i].id] = {
            name: DurationEstimate.certain(int(estimate[i, k]))
            for k, name in enumerate(arena.problem.classes)
            if estimate[i, k] > 0
        }
    pending = tuple(
        replace(
            t,
            after=tuple(b for b in t.after if b in known),
            depends=tuple(on for on in t.depends if on.task in known),
        )
        for t in (arena.tasks[i] for i in waiting)
    )
    back = live.back + request.snapshot.now_s
    there = tuple(
        replace(w, free_from_s=max(w.free_at(at_s), int(b))) if b > at_s else w
        for w, b in zip(workers, back, strict=True)
    )
    snapshot = Snapshot(request.snapshot.version, at_s, there, pending, tuple(running))
    return replace(request, snapshot=snapshot, estimates=estimates, incumbent=None)


def cost_of(arena: Arena, live: Live) -> float:
    """The request's price of a state in which everything has ended; infinity where it has not."""
    planned = len(arena.problem.tasks)
    if (live.state[:planned] != ENDED).any():
        return float("inf")
    pieces = arena.cluster.shard_ptr[planned]
    return arena.problem.cost(Schedule(live.start[:planned], live.end[:planned],
                                       live.worker[:pieces]))  # fmt: skip


def suitability(arena: Arena) -> Floats:
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
    work = cluster.demand * fastest(arena.estimate)[:, None]
    shortest = int((work.sum(axis=0) / np.maximum(capacity.sum(axis=0), 1)).argmax())
    size = np.maximum(capacity[:, shortest], 1e-9)
    waste = np.where(cluster.allowed, share * size, np.inf)
    least = waste.min(axis=1, keepdims=True)
    best = np.where(cluster.allowed, share, 0.0).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = best / share - 1.0 + np.log2(waste / least)
    return np.where(cluster.allowed, rate, 0.0)


def fastest(estimate: Ints) -> Ints:
    """The shortest of each task's estimates. Shape (tasks,)."""
    return np.where(estimate > 0, estimate, FAR).min(axis=1)


def ranks_of(arena: Arena, estimate: Ints | None = None) -> dict[str, Floats]:
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
