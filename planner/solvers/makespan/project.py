"""One worker with several resources, makespan alone: annealed activity lists and a prover."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.graph import priority_order, successors
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.rates import END_ALONE
from plancast.planner.bounds.lower_bound import heads_tails
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.base import Observe, Solution, Solver, at_least, more_than, solves
from plancast.planner.solvers.makespan.activity_lists import Project as Activities
from plancast.planner.solvers.makespan.activity_lists import Room, anneal, justify, serial
from plancast.planner.solvers.makespan.prover import Prover
from plancast.planner.solvers.makespan.recognise import is_project
from plancast.planner.solvers.makespan.shared import MakespanSearch

WORD = 62
"""Bits that the amounts of all resources may take together."""
LONGEST = 1 << 21
"""Seconds that the tasks may take one after another: the kernel looks at each of them."""
BIAS = 0.15
"""Exponent of the random factor in the lists that a round starts from; 0 is the rule alone."""
CHUNK_S = 0.02
SETTLED_S = 1.0
"""After this, where a project is small, a second prover takes the kernel's core."""
FIRST_S = 0.03
"""How long the kernel searches alone where a project is small; five times that elsewhere."""


@dataclass(frozen=True)
class Project:
    """Resource-constrained projects; other problems go to an inner solver.

    Parameters
    ----------
    start : Solver
        Plans what is no project.
    strength : int
        Most shifts between two neighbouring lists.
    spread : float
        Weight of the mean end beside the makespan.
    hot, cold : float
        First and last temperature of a round, as shares of the mean duration.
    round_s : float
        Length of a round, after which the search starts anew from a random list.
    settled : int
        Up to so many tasks, all that is left after a second is the proof: both cores prove.

    Notes
    -----
    Simulated annealing over activity lists, each justified to both sides, in one thread;
    CP-SAT asked for something shorter in another, with the bounds of both shared. With a
    step budget (a step is a list) there is no prover, for its thread is not repeatable.
    """

    name: ClassVar[str] = "project"
    exact_terms: ClassVar[frozenset[str]] = END_ALONE
    start: Solver
    strength: int = 2
    spread: float = 0.2
    hot: float = 0.1
    cold: float = 0.02
    round_s: float = 1.0
    settled: int = 40

    def __post_init__(self) -> None:
        solves(self, "start")
        at_least(self, 1, "strength")
        at_least(self, 0, "settled", "spread")
        more_than(self, 0, "cold", "round_s")
        at_least(self, self.cold, "hot")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``."""
        began = time.perf_counter()
        activities = _activities(problem) if is_project(problem) else None
        if activities is None:
            return self.start.solve(
                problem, budget=budget, rng=rng, incumbent=incumbent, observe=observe
            )
        search = _Search(self, problem, activities, rng, incumbent, observe)
        search.run(budget, began)
        return search.solution()


class _Search(MakespanSearch):
    def __init__(
        self,
        settings: Project,
        problem: Problem,
        activities: Activities,
        rng: np.random.Generator,
        incumbent: Schedule | None,
        observe: Observe | None,
    ) -> None:
        super().__init__(problem, rng, incumbent, observe)
        self.settings, self.activities = settings, activities
        n = len(problem.tasks)
        horizon = int(activities.duration.sum() + activities.release.max()) + 1
        nothing = np.zeros(n, np.int64)
        self.room = Room(
            np.full(horizon, activities.full, np.int64), nothing, np.zeros(horizon + 2, np.int64),
            nothing.copy(), nothing.copy(),
        )  # fmt: skip
        self.tail = heads_tails(problem)[1].astype(np.float64)

    def run(self, budget: Budget, began: float) -> None:
        """Search until the budget is spent or nothing shorter is possible."""
        most = np.inf if budget.steps is None else budget.steps
        limit_s = np.inf if budget.seconds is None else budget.seconds - CHUNK_S
        if most < 1 or limit_s <= 0:
            return
        self._begin_round(bias=0.0)
        is_small = len(self.problem.tasks) <= self.settings.settled
        provers = []
        if budget.seconds is not None:
            ways = (False, True) if is_small else (False,)
            provers = [Prover(self.problem, self.lower_s, self.seed(), way) for way in ways]
        try:
            self._loop(provers, is_small, most, began, limit_s)
        finally:
            for prover in provers:
                prover.stop()

    def _loop(
        self, provers: list[Prover], is_small: bool, most: float, began: float, limit_s: float
    ) -> None:
        prove_from_s = FIRST_S if is_small else 5 * FIRST_S
        round_from_s, round_s, chunk = 0.0, self.settings.round_s, 10
        while self.lower_s < self.upper_s:
            spent_s = time.perf_counter() - began
            if spent_s >= limit_s or self.steps >= most or interruption.asked():
                return
            if provers and spent_s >= prove_from_s:
                alone = is_small and spent_s >= SETTLED_S
                for prover in provers if alone else provers[:1]:
                    self.share(prover, limit_s - spent_s)
                if alone and any(prover.is_running for prover in provers):
                    time.sleep(0.002)
                    continue
            if not provers:
                share, chunk = self.steps / most, int(min(100, most - self.steps))
            else:
                share = (spent_s - round_from_s) / round_s
                if share >= 1:
                    share, round_from_s, round_s = 0.0, spent_s, 1.5 * round_s
                    self._begin_round(BIAS)
            self._anneal(share, chunk)
            if provers:
                pace_s = (time.perf_counter() - began - spent_s) / chunk
                chunk = max(1, min(2 * chunk, int(CHUNK_S / max(pace_s, 1e-7))))

    def _begin_round(self, bias: float) -> None:
        """A new list by longest tail; with a bias each tail counts by chance."""
        factor = self.rng.random(len(self.tail)) ** bias
        self.order = priority_order(
            -(self.tail + 1.0) * factor, self.problem.pred_ptr, self.problem.pred
        )
        self.current = np.array([np.inf, float(self.upper_s)])
        self.champion = self.order.copy()
        justify(self.activities, self.room, self.order)
        self.enter(self._schedule(self.order))

    def _anneal(self, share: float, lists: int) -> None:
        settings = self.settings
        mean_s = float(self.activities.duration.mean())
        heat = mean_s * settings.hot * (settings.cold / settings.hot) ** share
        self.current[1] = self.upper_s
        makespan = anneal(
            self.activities, self.room, self.order, self.current, self.champion, lists,
            settings.strength, settings.spread, heat, self.seed(),
        )  # fmt: skip
        self.steps += lists
        if makespan < self.upper_s:
            self.enter(self._schedule(self.champion))

    def _schedule(self, order: Ints) -> Schedule:
        p = self.activities
        end = np.zeros(len(order), np.int64)
        serial(
            order, p.duration, p.demand, p.release, p.pred_ptr, p.pred, p.guards, p.full,
            self.room.free, end,
        )  # fmt: skip
        return Schedule(end - p.duration, end, np.zeros(len(order), np.int64))


def _activities(problem: Problem) -> Activities | None:
    """The arrays of the kernel; None where they would be too wide or too long for it."""
    demand, capacity = problem.demand, problem.capacity[0]
    full = guards = shift = 0
    packed = np.zeros(len(problem.tasks), np.int64)
    for r, amount in enumerate(capacity.tolist()):
        unit = int(np.gcd.reduce([amount, *demand[:, r].tolist()])) or 1
        if not demand[:, r].any():
            continue
        field = int(amount // unit).bit_length()
        full |= (amount // unit) << shift
        packed += (demand[:, r] // unit) << shift
        shift += field + 1
        guards |= 1 << (shift - 1)
        if shift > WORD:
            return None
    duration = problem.shortest
    if int(duration.sum() + problem.release.max()) > LONGEST:
        return None
    succ_ptr, succ = successors(problem.pred_ptr, problem.pred)
    return Activities(
        duration, problem.release, packed, problem.pred_ptr, problem.pred, succ_ptr, succ,
        full | guards, guards,
    )  # fmt: skip
