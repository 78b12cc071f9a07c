"""Annealed activity lists beside a prover: the loop that single and several modes share."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Protocol

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
ROUND_TASKS = 60
"""So many tasks have rounds as long as the settings say; others in proportion."""
SETTLED_S = 1.0
"""After this, where a project is small, a second prover takes the kernel's core."""
LONGER = 0.75
"""Neighbours that take so many mean durations more backwards are given up."""
PROVE_SHARE, FAR = 0.25, 0.03
"""After this share of the time a prover whose bound is so far below the plan, as a share of it,
leaves its thread to a second walk."""
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

    growth: ClassVar[float] = 1.0
    """By how much a round is longer than the one before."""

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
        self.beside: Beside | None = None
        self.walk_from_s = np.inf

    def run(self, budget: Budget, began: float) -> None:
        """Search until the budget is spent or nothing shorter is possible."""
        most = np.inf if budget.steps is None else budget.steps
        limit_s = np.inf if budget.seconds is None else budget.seconds - CHUNK_S
        if most < 1 or limit_s <= 0:
            return
        self._begin_round(bias=0.0)
        is_small = len(self.problem.tasks) <= self.settings.settled
        provers = []
        if not is_small and budget.steps is None:
            self.walk_from_s = PROVE_SHARE * limit_s
        if budget.seconds is not None:
            ways = (False, True) if is_small else (False,)
            provers = [self._prover(way) for way in ways]
        try:
            self._loop(provers, is_small, most, began, limit_s)
        finally:
            for prover in provers:
                prover.stop()
            if self.beside is not None:
                self.beside.stop()
                self._hear(self.beside)
                self.steps += self.beside.walk.steps

    def _prover(self, decide: bool) -> Prover:
        return Prover(self.problem, self.lower_s, self.seed(), decide)

    def _another(self) -> ListSearch:
        """A second walk for the prover's thread."""
        rng = self.rng.spawn(1)[0]
        return ListSearch(self.settings, self.problem, self.activities, rng, self.best, None)

    def search_on(self, limit_s: float) -> None:
        """Search for so long from a random list, without a prover."""
        self._begin_round(BIAS)
        self._loop([], False, np.inf, time.perf_counter(), limit_s)

    def _loop(
        self, provers: list[Prover], is_small: bool, most: float, began: float, limit_s: float
    ) -> None:
        prove_from_s = FIRST_S if is_small else 5 * FIRST_S
        timed = limit_s < np.inf
        round_from_s, round_s, chunk = 0.0, self._round_s(limit_s), 10
        while self.lower_s < self.upper_s:
            spent_s = time.perf_counter() - began
            if spent_s >= limit_s or self.steps >= most or interruption.asked():
                return
            if (
                provers
                and spent_s >= prove_from_s
                and self._prove(provers, is_small, spent_s, limit_s)
            ):
                time.sleep(0.002)
                continue
            if self.beside is not None:
                self._hear(self.beside)
            if not timed:
                share, chunk = self.steps / most, int(min(100, most - self.steps))
            else:
                share = (spent_s - round_from_s) / round_s
                if share >= 1:
                    share, round_from_s, round_s = 0.0, spent_s, self.growth * round_s
                    self._begin_round(BIAS)
            self._anneal(share, chunk)
            if timed:
                pace_s = (time.perf_counter() - began - spent_s) / chunk
                chunk = max(1, min(2 * chunk, int(CHUNK_S / max(pace_s, 1e-7))))

    def _round_s(self, limit_s: float) -> float:
        """Length of the first round: of as many alike as there is time for."""
        if limit_s == np.inf:
            return np.inf
        usual_s = self.settings.round_s * len(self.problem.tasks) / ROUND_TASKS
        return limit_s / max(1, round(limit_s / usual_s))

    def _prove(self, provers: list[Prover], is_small: bool, spent_s: float, limit_s: float) -> bool:
        """Talk with the provers; whether all that is left to do is to wait for them."""
        alone = is_small and spent_s >= SETTLED_S
        for prover in provers if alone else provers[:1]:
            self.share(prover, limit_s - spent_s)
        if alone:
            return any(prover.is_running for prover in provers)
        is_far = self.lower_s < (1 - FAR) * self.upper_s
        if is_far and spent_s >= self.walk_from_s:
            provers.pop().stop()
            self.beside = Beside(self._another(), limit_s - spent_s)
        return False

    def _hear(self, beside: Beside) -> None:
        """Take over what the second walk has found."""
        if beside.walk.best is not None:
            self.enter(beside.walk.best)

    def _begin_round(self, bias: float) -> None:
        """A new list by longest tail; with a bias each tail counts by chance."""
        factor = self.rng.random(len(self.tail)) ** bias
        self.order = priority_order(
            -(self.tail + 1.0) * factor, self.problem.pred_ptr, self.problem.pred
        )
        justify(self.activities, self.room, self.order)
        found = self._schedule(self.order)
        self.enter(found)
        self.current = np.array([np.inf, float(self.upper_s), np.inf])
        self.champion = self.order.copy()
        self.order = np.argsort(-found.end, kind="stable")

    def _anneal(self, share: float, lists: int) -> None:
        settings = self.settings
        mean_s = float(self.activities.duration.mean())
        heat = mean_s * settings.hot * (settings.cold / settings.hot) ** share
        self.current[1] = self.upper_s
        makespan = anneal(
            self.activities, self.room, self.order, self.current, self.champion, lists,
            settings.strength, settings.spread, heat, LONGER * mean_s, self.seed(),
        )  # fmt: skip
        self.steps += lists
        if makespan < self.upper_s:
            self.enter(self._schedule(self.champion))

    def _schedule(self, order: Ints) -> Schedule:
        p = self.activities
        end = np.zeros(len(order), np.int64)
        serial(order, p, p.pred_ptr, p.pred, p.release, self.room._replace(end=end))
        return Schedule(end - p.duration, end, np.zeros(len(order), np.int64))


class Beside:
    """A second walk in a thread of its own, for so many seconds."""

    def __init__(self, walk: ListSearch, limit_s: float) -> None:
        self.walk = walk
        self._end = interruption.End()
        self._threads = ThreadPoolExecutor(1)
        self._ended = self._threads.submit(self._search, limit_s)

    def _search(self, limit_s: float) -> None:
        with self._end.heard():
            self.walk.search_on(limit_s)

    def stop(self) -> None:
        """End the walk and wait for its end; what went wrong there is heard of here."""
        self._end.ask()
        self._threads.shutdown()
        self._ended.result()
