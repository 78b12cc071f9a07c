"""Workers that run one task at a time, makespan alone: tabu search, elites, and a prover."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.graph import priority_order, successors
from plancast.planner.arrays.problem import Floats, Ints, Problem, Schedule
from plancast.planner.arrays.rates import END_ALONE
from plancast.planner.bounds.shops import busiest_machine_s, shop_makespan_s
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.base import Observe, Solution, Solver, at_least, solves, within
from plancast.planner.solvers.makespan.prover import Prover
from plancast.planner.solvers.makespan.recognise import SHOP_TASKS, is_shop
from plancast.planner.solvers.makespan.shared import MakespanSearch
from plancast.planner.solvers.makespan.tabu import (
    Orders,
    copy_orders,
    insertion_schedule,
    load_orders,
    measure,
    new_orders,
    relink,
    tabu,
)
from plancast.planner.solvers.makespan.tabu import Shop as Machines

MOST_INTERVALS = 6_000
"""Task-worker pairs beyond which the prover's model takes longer than it helps."""
BOUND_S = 1.3e-7
"""What the bound takes at most for each pair of tasks."""
CHUNK_S = 0.02
PROVE_FROM_S = 0.1
LISTS = (0.0, 0.1, 0.3)
"""Spread of the random factors on the ranks of the first lists; the first is HEFT's."""


@dataclass(frozen=True)
class Shop:
    """Job shops, flexible ones, and graphs of tasks on such workers; others to an inner solver.

    Parameters
    ----------
    start : Solver
        Plans what is no shop.
    elites : int
        Good solutions that are kept to walk between.
    patience : int
        Moves without an improvement after which a search ends.
    finisher : Solver, optional
        Goes on from the best where some machines are alike, as in the graph of a workflow on a
        cluster: many machines are critical there at once, and one move shortens none.
    finish : float
        Last part of the budget that it has.

    Notes
    -----
    Tabu search from the best of several list schedules, HEFT's among them; then from points
    on the way between two elites, again and again. CP-SAT is asked for something shorter in
    a second thread. With a step budget (a step is a move) there is no prover, for its
    thread is not repeatable.
    """

    name: ClassVar[str] = "shop"
    exact_terms: ClassVar[frozenset[str]] = END_ALONE
    start: Solver
    elites: int = 8
    patience: int = 6_000
    finisher: Solver | None = None
    finish: float = 0.8

    def __post_init__(self) -> None:
        solves(self, "start")
        at_least(self, 2, "elites")
        at_least(self, 1, "patience")
        within(self, 0, 1, "finish")
        if self.finisher is not None:
            solves(self, "finisher")

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
        if len(problem.tasks) > SHOP_TASKS or not is_shop(problem):
            return self.start.solve(
                problem, budget=budget, rng=rng, incumbent=incumbent, observe=observe
            )
        search = _Search(self, problem, rng, incumbent, observe)
        if self.finisher is None or not search.has_machines_alike:
            search.run(budget, began)
            return search.solution()
        search.run(_part(budget, 1.0 - self.finish), began)
        if search.lower_s < search.upper_s:
            left = _part(budget, self.finish)
            if budget.seconds is not None:
                spent_s = time.perf_counter() - began
                left = replace(left, seconds=max(0.0, budget.seconds - spent_s))
            found = self.finisher.solve(
                problem, budget=left, rng=rng, incumbent=search.best, observe=observe
            )
            search.steps += found.steps
            if found.schedule is not None:
                search.enter(found.schedule)
        return search.solution()


def _part(budget: Budget, part: float) -> Budget:
    """So much of the seconds and of the steps."""
    return replace(
        budget,
        seconds=None if budget.seconds is None else part * budget.seconds,
        steps=None if budget.steps is None else int(part * budget.steps),
    )


class _Search(MakespanSearch):
    def __init__(
        self,
        settings: Shop,
        problem: Problem,
        rng: np.random.Generator,
        incumbent: Schedule | None,
        observe: Observe | None,
    ) -> None:
        super().__init__(problem, rng, incumbent, observe)
        self.settings = settings
        tasks = range(len(problem.tasks))
        self.shop = Machines(
            np.array([problem.durations_on(i) for i in tasks], np.int64), problem.release,
            problem.pred_ptr, problem.pred, *successors(problem.pred_ptr, problem.pred),
        )  # fmt: skip
        n, m = self.shop.duration.shape
        self.lower_s = max(self.lower_s, busiest_machine_s(self.shop.duration))
        self.banned = np.zeros((n, n), np.int32)
        self.away = np.zeros((n, m), np.int32)
        self.clock = np.zeros(1, np.int64)
        self.room = np.zeros(n, np.int64)
        self.tenure = 10 + n // (m * m)
        self.elite: list[tuple[int, Orders]] = []
        self.stop_at = np.inf
        self.most = np.inf
        self.prover: Prover | None = None

    @property
    def has_machines_alike(self) -> bool:
        """Whether some machines that have tasks take the same time for every one."""
        used = self.shop.duration[:, self.shop.duration.any(axis=0)]
        return np.unique(used, axis=1).shape[1] < used.shape[1]

    # ------------------------------------------------------------------ search

    def run(self, budget: Budget, began: float) -> None:
        """Search until the budget is spent or nothing shorter is possible."""
        self.most = np.inf if budget.steps is None else budget.steps
        if budget.seconds is not None:
            self.stop_at = began + budget.seconds - CHUNK_S
            if int((self.shop.duration > 0).sum()) <= MOST_INTERVALS:
                self.prover = Prover(self.problem, self.lower_s, self.seed())
        self.prove_at = began + PROVE_FROM_S
        try:
            if self._goes_on():
                self._search()
        finally:
            if self.prover is not None:
                self.prover.stop()

    def _search(self) -> None:
        starts = [self._listed(spread) for spread in LISTS]
        if self.best is not None:
            starts.append(self._loaded(self.best.start, self.best.worker))
        starts.sort(key=lambda x: self._makespan(x))
        self.enter(self._schedule(starts[0]))
        left_s = self.stop_at - time.perf_counter()
        if self._goes_on() and left_s > BOUND_S * len(self.problem.tasks) ** 2:
            self.lower_s = max(self.lower_s, shop_makespan_s(*self.shop[:4]))
        while self._goes_on():
            if len(self.elite) < self.settings.elites:
                x = starts.pop(0) if starts else self._listed(0.3)
            else:
                x = self._between_elites()
            found, makespan = self._improved(x)
            self._keep(found, makespan)

    def _goes_on(self) -> bool:
        """Whether there is anything left to find, and time for it; talks with the prover."""
        now = time.perf_counter() if self.prover is not None or self.most == np.inf else 0.0
        if self.prover is not None and now >= self.prove_at and self.best is not None:
            self._talk(self.prover, self.stop_at - now)
        spent = now >= self.stop_at or self.steps >= self.most or interruption.asked()
        return self.lower_s < self.upper_s and not spent

    def _talk(self, prover: Prover, left_s: float) -> None:
        """As ``share``; what the prover found joins the elite."""
        found = self.share(prover, left_s)
        if found is not None:
            x = self._loaded(found.start, found.worker)
            self._keep(x, self._makespan(x))

    def _improved(self, x: Orders) -> tuple[Orders, int]:
        """The best solution of a tabu search from `x`, reported as it comes."""
        n, m = self.shop.duration.shape
        best = new_orders(n, m)
        copy_orders(x, best)
        self.banned[:], self.away[:], self.clock[0] = 0, 0, 0
        known = makespan = self._makespan(best)
        since, chunk = 0, 50
        while since < self.settings.patience and self._goes_on():
            began = time.perf_counter()
            rounds = int(min(chunk, self.most - self.steps, self.settings.patience - since))
            makespan, made = tabu(
                self.shop, x, best, rounds, rounds + 1, self.tenure, self.banned, self.away,
                self.clock, self.seed(),
            )  # fmt: skip
            self.steps += max(1, made)
            since += max(1, made)
            if makespan < known:
                known, since = makespan, 0
                self.enter(self._schedule(best))
            if made < rounds:  # no critical task can move
                break
            if self.most == np.inf:
                pace_s = (time.perf_counter() - began) / rounds
                chunk = max(1, min(2 * chunk, int(CHUNK_S / max(pace_s, 1e-7))))
        return best, makespan

    def _between_elites(self) -> Orders:
        one, other = self.rng.choice(len(self.elite), 2, replace=False)
        n, m = self.shop.duration.shape
        x = new_orders(n, m)
        copy_orders(self.elite[int(one)][1], x)
        guide = self.elite[int(other)][1]
        measure(self.shop, guide, self.room)
        relink(self.shop, x, guide, float(self.rng.uniform(0.3, 0.6)), self.seed())
        return x

    def _keep(self, x: Orders, makespan: int) -> None:
        """Into the elite, for the worst of them; none twice."""
        if any(makespan == m and (x.after == e.after).all() for m, e in self.elite):
            return
        self.elite.append((makespan, x))
        self.elite.sort(key=lambda pair: pair[0])
        # Among the worst the oldest goes: the newcomer may stand though it is no better.
        if len(self.elite) > self.settings.elites:
            worst = self.elite[-1][0]
            self.elite.pop(next(k for k, (m, _) in enumerate(self.elite) if m == worst))

    # ------------------------------------------------------------------ forms

    def _listed(self, spread: float) -> Orders:
        """A list schedule by upward rank over mean durations, ranks changed by chance."""
        rank = _upward_rank(self.shop, self.problem)
        if spread:
            rank = rank * (1.0 + spread * self.rng.standard_normal(len(rank)))
        order = priority_order(-rank, self.problem.pred_ptr, self.problem.pred)
        return self._loaded(*insertion_schedule(order, self.shop))

    def _loaded(self, start: Ints, worker: Ints) -> Orders:
        x = new_orders(*self.shop.duration.shape)
        load_orders(self.shop, start, worker, x)
        self._makespan(x)
        return x

    def _makespan(self, x: Orders) -> int:
        return int(measure(self.shop, x, self.room))

    def _schedule(self, x: Orders) -> Schedule:
        measure(self.shop, x, self.room)
        return Schedule(x.head.copy(), x.head + x.length, x.machine.copy())


def _upward_rank(shop: Machines, problem: Problem) -> Floats:
    """Mean duration and the longest mean path after each task. Shape (tasks,)."""
    mean: Floats = shop.duration.sum(axis=1) / np.maximum(1, (shop.duration > 0).sum(axis=1))
    rank = mean.copy()
    order = priority_order(np.zeros(len(mean)), problem.pred_ptr, problem.pred)
    for i in order[::-1]:
        after = shop.succ[shop.succ_ptr[i] : shop.succ_ptr[i + 1]]
        if len(after):
            rank[i] = mean[i] + rank[after].max()
    return rank
