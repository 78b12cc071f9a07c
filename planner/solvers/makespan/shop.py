"""Workers that run one task at a time, makespan alone: tabu search, elites, and a prover."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.graph import successors
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.arrays.rates import END_ALONE
from plancast.planner.bounds.shops import busiest_machine_s, shop_makespan_s
from plancast.planner.model.messages import Budget
from plancast.planner.solvers.base import Observe, Solution, Solver, at_least, solves, within
from plancast.planner.solvers.makespan.prover import Prover
from plancast.planner.solvers.makespan.recognise import SHOP_TASKS, is_shop
from plancast.planner.solvers.makespan.shared import MakespanSearch
from plancast.planner.solvers.makespan.shop_orders import Shop as Machines
from plancast.planner.solvers.makespan.walk import CHUNK_S, Elite, Walk

MOST_INTERVALS = 6_000
"""Task-worker pairs beyond which the prover's model takes longer than it helps."""
MOST_PROVED = 200
"""Tasks of a job shop beyond which a second walk finds more than a prover proves."""
BOUND_S = 1.3e-7
"""What the bound takes at most for each pair of tasks."""
PROVE_FROM_S = 0.1


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
    Tabu search from HEFT's schedule and from inserted tasks; then from points on the way
    between two elites, again and again. In a second thread CP-SAT is asked for something
    shorter; on large job shops, which it does not prove, that is a second walk with the same
    elites. With a step budget (a step is a move) there is one thread: two are not
    repeatable.
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
        tasks = range(len(problem.tasks))
        self.shop = Machines(
            np.array([problem.durations_on(i) for i in tasks], np.int64), problem.release,
            problem.pred_ptr, problem.pred, *successors(problem.pred_ptr, problem.pred),
        )  # fmt: skip
        self.lower_s = max(self.lower_s, busiest_machine_s(self.shop.duration))
        self.elite = Elite(settings.elites)
        self.walk = Walk(self.shop, self.elite, settings.patience, rng)
        self.other: Walk | None = None
        self.found_beside: deque[Schedule] = deque()
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
        self.prove_at = began + PROVE_FROM_S
        if budget.seconds is not None:
            self.stop_at = began + budget.seconds - CHUNK_S
            pairs = int((self.shop.duration > 0).sum())
            if pairs == len(self.problem.tasks) > MOST_PROVED:
                self.other = Walk(self.shop, self.elite, self.walk.patience, self.rng.spawn(1)[0])
            elif pairs <= MOST_INTERVALS:
                self.prover = Prover(self.problem, self.lower_s, self.seed())
        try:
            if self._goes_on():
                self._search()
        finally:
            if self.prover is not None:
                self.prover.stop()

    def _search(self) -> None:
        starts = [self.walk.listed(), self.walk.inserted(0.0)]
        if self.best is not None:
            starts.append(self.walk.loaded(self.best.start, self.best.worker))
        starts.sort(key=lambda x: self.walk.makespan(x))
        self.enter(self.walk.schedule(starts[0]))
        left_s = self.stop_at - time.perf_counter()
        if self._goes_on() and left_s > BOUND_S * len(self.problem.tasks) ** 2:
            self.lower_s = max(self.lower_s, shop_makespan_s(*self.shop[:4]))
        ended = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            beside = None if self.other is None else threads.submit(self._walk_beside, ended)
            try:
                while self._goes_on():
                    x = starts.pop(0) if starts else self.walk.start()
                    self.walk.search(x, self._goes_on, self.enter, self.most)
            finally:
                ended.set()
            if beside is not None:
                beside.result()  # what went wrong there is heard of here
        self._goes_on()

    def _walk_beside(self, ended: threading.Event) -> None:
        """Searches of the second walk, in its thread, until the first has ended."""
        assert self.other is not None
        while not ended.is_set():
            self.other.search(
                self.other.start(), lambda: not ended.is_set(), self.found_beside.append
            )

    def _goes_on(self) -> bool:
        """Whether there is anything left to find, and time for it; hears of what others found."""
        while self.found_beside:
            self.enter(self.found_beside.popleft())
        self.steps = self.walk.made + (0 if self.other is None else self.other.made)
        now = time.perf_counter() if self.most == np.inf else 0.0
        if self.prover is not None and now >= self.prove_at and self.best is not None:
            self._talk(self.prover, self.stop_at - now)
        spent = now >= self.stop_at or self.steps >= self.most or interruption.asked()
        return self.lower_s < self.upper_s and not spent

    def _talk(self, prover: Prover, left_s: float) -> None:
        """As ``share``; what the prover found joins the elite."""
        found = self.share(prover, left_s)
        if found is not None:
            x = self.walk.loaded(found.start, found.worker)
            self.elite.add(x, self.walk.makespan(x))
