"""Large-neighbourhood search: ruin and recreate from a given schedule, at any size."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planner.domain import BadRequest
from planner.kernels.graph import successors
from planner.kernels.schedule import Fixed, State, load_state, search
from planner.messages import Budget, Status
from planner.priorities import priorities
from planner.problem import Problem, Schedule
from planner.solvers.base import Observe, Solution, Solver

RANKS = ("slack", "area", "tail", "smith")
"""Orders of ``priorities`` in which ruined tasks are put back, besides a random one."""


@dataclass(frozen=True)
class LargeNeighbourhood:
    """Ruin and recreate with simulated annealing; anytime, proves nothing.

    Parameters
    ----------
    start : Solver
        Makes the first schedule where no incumbent is given.
    most : int
        Most tasks that one move takes out.
    looked_at : int
        Workers looked at for each insertion.
    blink : float
        Chance to overlook one.
    hot, cold : float
        First and last temperature, as shares of the first cost over the number of tasks.
    """

    name: ClassVar[str] = "lns"
    exact_terms: ClassVar[frozenset[str]] = frozenset()
    start: Solver
    most: int = 10
    looked_at: int = 48
    blink: float = 0.02
    hot: float = 0.3
    cold: float = 0.003

    def __post_init__(self) -> None:
        if not callable(getattr(self.start, "solve", None)):
            raise BadRequest("lns: start must be a solver")
        if self.most < 1 or self.looked_at < 1:
            raise BadRequest("lns: most and looked_at must be 1 or more")
        if not 0 <= self.blink < 1:
            raise BadRequest(f"lns: blink is {self.blink}; it must lie in [0, 1)")
        if not 0 < self.cold <= self.hot:
            raise BadRequest("lns: cold and hot must be more than 0, cold not above hot")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``; a step is a move."""
        began = time.perf_counter()
        if incumbent is None:
            incumbent = self.start.solve(problem, budget=budget, rng=rng).schedule
        if incumbent is None:
            return Solution(Status.NO_PLAN_IN_TIME)
        fixed = _fixed(problem)
        state = _state(problem, incumbent)
        times, free = load_state(fixed, state, *(profile := problem.profile()))
        count = profile[2]
        keys = priorities(problem)
        rank = np.array([keys[name] for name in RANKS])
        best, best_cost = incumbent, problem.cost(incumbent)
        scale = best_cost / len(problem.tasks)
        done, chunk = 0, 200
        while True:
            spent = _share_spent(budget, began, done)
            if spent >= 1.0:
                break
            moves = chunk if budget.steps is None else min(chunk, budget.steps - done)
            tick = time.perf_counter()
            heat = self.hot * (self.cold / self.hot) ** spent * scale
            times, free, start, end, worker, _ = search(
                fixed, state, times, free, count, rank, moves, heat, self.most,
                self.looked_at, self.blink, int(rng.integers(1 << 31)),
            )  # fmt: skip
            done += moves
            found = Schedule(start, end, worker)
            cost = problem.cost(found)
            if cost < best_cost:
                best, best_cost = found, cost
                if observe is not None:
                    observe(cost, float("-inf"))
            # A chunk lasts about a fiftieth of a second, so that the budget is kept; with a
            # step budget it must not depend on the clock.
            if budget.steps is None:
                pace = (time.perf_counter() - tick) / moves
                chunk = max(20, min(20_000, int(0.02 / max(pace, 1e-7))))
        return Solution(Status.FEASIBLE, best, claimed=best_cost, steps=done)


def _share_spent(budget: Budget, began: float, done: int) -> float:
    by_steps = done / budget.steps if budget.steps else 0.0 if budget.steps is None else 1.0
    by_clock = 0.0
    if budget.seconds is not None:
        by_clock = (time.perf_counter() - began + 0.02) / max(budget.seconds, 1e-9)
    return max(by_steps, by_clock)


def _fixed(problem: Problem) -> Fixed:
    succ_ptr, succ = successors(problem.pred_ptr, problem.pred)
    piece_task = np.repeat(np.arange(len(problem.tasks)), problem.shards)
    return Fixed(
        demand=problem.demand, release=problem.release, raw_release=problem.raw_release,
        deadline=problem.deadline, hard_end=problem.hard_end, last_start=problem.last_start,
        max_stretch=problem.max_stretch, weight=problem.weight, shards=problem.shards,
        shard_ptr=problem.shard_ptr, piece_task=piece_task, owner=problem.owner,
        kind=problem.kind, allowed=problem.allowed, share=problem.share,
        duration=problem.duration, worker_class=problem.worker_class,
        pred_ptr=problem.pred_ptr, pred=problem.pred, succ_ptr=succ_ptr, succ=succ,
        idle_w=problem.idle_w, busy_w=problem.busy_w, boot_kwh=problem.boot_kwh,
        free_from=problem.free_from, health=problem.health, base_end=problem.last_end,
        base_on=problem.on, owner_tasks=problem.owner_tasks, prices=problem.prices,
    )  # fmt: skip


def _state(problem: Problem, schedule: Schedule) -> State:
    pieces = len(schedule.worker)
    # What runs already: its additive terms, and idle power of the workers it keeps on.
    on_s = np.maximum(0, problem.last_end - problem.free_from) * problem.on
    idle_kwh = float((problem.idle_w * on_s).sum()) / 3.6e6
    additive = problem.prices * problem.base
    constant = float(additive[[1, 2, 3, 4, 5, 8]].sum() + problem.prices[5] * idle_kwh)
    return State(
        start=schedule.start.copy(), end=schedule.end.copy(), worker=schedule.worker.copy(),
        last_end=problem.last_end.copy(), load_h=problem.load_h.copy(),
        wait_h=problem.owner_wait_h.copy(), head=np.full(len(problem.workers), -1, np.int64),
        following=np.full(pieces, -1, np.int64), previous=np.full(pieces, -1, np.int64),
        additive=np.array([constant]),
    )  # fmt: skip
