"""Annealed activity lists beside a prover: the loop that single and several modes share."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.bounds.lower_bound import heads_tails
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.base import Observe
from plancast.planner.solvers.makespan.activity_lists import Project as Activities
from plancast.planner.solvers.makespan.activity_lists import Room, anneal, justify, serial
from plancast.planner.solvers.makespan.prover import Prover
from plancast.planner.solvers.makespan.shared import MakespanSearch

BIAS = 0.15
"""Exponent of the random factor in the lists that a round starts from; 0 is the rule alone."""
CHUNK_S = 0.02
SETTLED_S = 1.0
"""After this, where a project is small, a second prover takes the kernel's core."""
FIRST_S = 0.03
"""How long the kernel searches alone where a project is small; five times that elsewhere."""


class Settings(Protocol):
    """The parameters of ``project.Project`` that the search reads."""

    @property
    def strength(self) -> int:
        """Most shifts between two neighbouring lists."""
        ...

    @property
    def spread(self) -> float:
        """Weight of the mean end beside the makespan."""
        ...

    @property
    def hot(self) -> float:
        """First temperature of a round, a share of the mean duration."""
        ...

    @property
    def cold(self) -> float:
        """Last temperature."""
        ...

    @property
    def round_s(self) -> float:
        """Length of the first round, seconds."""
        ...

    @property
    def settled(self) -> int:
        """Up to so many tasks both cores prove after a second."""
        ...


class ListSearch(MakespanSearch):
    """A search over activity lists; ``multimode`` searches over modes as well."""

    def __init__(
        self,
        settings: Settings,
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
            provers = [self._prover(way) for way in ways]
        try:
            self._loop(provers, is_small, most, began, limit_s)
        finally:
            for prover in provers:
                prover.stop()

    def _prover(self, decide: bool) -> Prover:
        return Prover(self.problem, self.lower_s, self.seed(), decide)

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
        serial(order, p, p.pred_ptr, p.pred, p.release, self.room._replace(end=end))
        return Schedule(end - p.duration, end, np.zeros(len(order), np.int64))
