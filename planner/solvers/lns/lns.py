"""Large-neighbourhood search: ruin and recreate from a given schedule, at any size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.rates import ALL_TERMS
from plancast.planner.bounds.relaxation import Relaxation, relax
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.base import (
    ModeSolver,
    Observe,
    Solution,
    Solver,
    at_least,
    more_than,
    solves,
    within,
)
from plancast.planner.solvers.greedy.priority_rules import waiting_costs
from plancast.planner.solvers.lns.home_orders import HomeOrders, suits_home
from plancast.planner.solvers.lns.local_search import (
    CALL_S,
    Shape,
    Walk,
    fixed_arrays,
    full_cost,
    gangs_wait,
    join,
    ranks,
    split,
    with_pool,
)
from plancast.planner.solvers.lns.mode_search import ModeSearch
from plancast.planner.solvers.lns.orders import search_orders, suits
from plancast.planner.solvers.lns.relaxed_starts import PASSES, guided_schedules
from plancast.planner.solvers.lns.rows import Rows, suits_rows
from plancast.planner.solvers.lns.ruin import Fixed

STEPS_A_CALL = 500
"""Moves of one call of the kernel with a step budget."""
MOST_THREADS = 2
SPLIT_TASKS = 8_000
"""From so many tasks on two threads share one schedule, half of the workers each; below, each
walks on its own and they exchange the best."""
ROUND_S = 0.15
"""Least length of a round between two exchanges, seconds."""
ROUNDS = 24
FEWEST = 4
"""A move may take out so many tasks, however many pieces they have."""
FEW_TASKS = 2_000
"""Up to here moves may be twice as large, which pays in the long run, and all list schedules that
the relaxation steers are made; beyond it the first is the cheapest, and each takes long."""
SECONDS_A_TASK, MOVES_A_TASK = 0.01, 200
"""It does not with a budget of less than this for each task, where waiting has a price."""
EXCHANGE, EXCHANGE_OF_GANGS = 1, 6
"""Rounds after which the worse of two walks goes on from where the better one is."""
NO_RENT_FROM = 0.8
"""Part of the budget after which workers' use is charged as it is."""
LEVEL_WORKERS = 40
"""Of fewer workers the one that ends last is enough to go by; see ``level``."""
BY_WORK = 1.01
"""The makespan comes from work where the relaxation's is so much above what chains make of it."""
COOLINGS = 200
"""Steps of temperature in a budget."""
END_S = 0.01
"""Kept back for the last call of the kernel to end."""
ORDERS_FROM, ORDERS_OF_GANGS_FROM = 0.5, 0.25
"""Part of the budget after which orders are searched too; where many tasks are gangs."""
MANY_GANGS, HOTTER = 0.25, 3.0
"""Where so many of the tasks are gangs that wait, it is so many times as hot: to make room for one
takes more than a step that costs little."""
LEAST_TURN_S, FEWEST_TURNS = 0.04, 16
"""Where orders are searched too, a turn lasts so many seconds at least; turns of a step budget."""
ORDER_HEAT, ORDER_HEAT_OF_GANGS, ROW_HEAT = 0.05, 1.0, 0.5
"""Temperature of orders, of those of many gangs, and of rows, as parts of that of ruin and recreate
in large batches."""
ROW_TURNS, SHORT_ROW_TURNS = 3.0, 0.35
"""A turn of rows that hold all tasks lasts so many times as long as one of ruin and recreate; of
rows that hold a part of them."""
ROW_SECONDS_A_TASK, ROW_MOVES_A_TASK = 0.002, 100
"""With less than this for each task orders alone are searched, where these are enough."""
GUIDED_HANDICAP = 1.03
"""A guided schedule is started from even if it is this much costlier than another."""
HOPELESS = 1.25
"""No further one is made where one is this much costlier: the relaxation does not see the price of
waiting."""
GUIDED_PART = 0.25
"""Part of the budget that list schedules steered by the relaxation may take."""
PAIR_S = 5e-8
"""What one of them takes at most for each task and worker that it may run on."""

READY = "ready for ruin and recreate"
"""Where ``Problem.memory`` has what ``LargeNeighbourhood.prepare`` made."""


@dataclass(frozen=True)
class LargeNeighbourhood:
    """Ruin and recreate with simulated annealing; anytime, proves nothing.

    Starts from the best of the incumbent and of list schedules that the linear relaxation
    steers. Two threads without a step budget, one with it.

    Parameters
    ----------
    start : Solver
        Makes the first schedule where no incumbent is given.
    most : int
        Most tasks that one move takes out; twice as many in small batches, unless waiting has a
        price and the budget is short.
    looked_at : int
        Workers looked at for each insertion.
    blink : float
        Chance to overlook one.
    hot, cold : float
        First and last temperature, as shares of the first cost over the number of tasks.
    rent : float
        Part of a worker's idle power that its use is charged for at first; none at the end.
    level : float
        Part of the makespan's price that is laid on the workers that end last, where there are
        many and the makespan comes from work, not from a chain.
    threads : int
        1 or 2.
    """

    name: ClassVar[str] = "lns"
    exact_terms: ClassVar[frozenset[str]] = ALL_TERMS
    start: Solver
    most: int = 20
    looked_at: int = 16
    blink: float = 0.02
    hot: float = 0.1
    cold: float = 0.005
    rent: float = 0.6
    level: float = 0.5
    threads: int = MOST_THREADS

    def __post_init__(self) -> None:
        solves(self, "start")
        at_least(self, 1, "most", "looked_at")
        if not 0 <= self.blink < 1:
            raise BadRequest(f"lns: blink is {self.blink}; it must lie in [0, 1)")
        more_than(self, 0, "cold")
        at_least(self, self.cold, "hot")
        within(self, 0, 1, "rent", "level")
        within(self, 1, MOST_THREADS, "threads")

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
        seconds = float("inf") if budget.seconds is None else budget.seconds
        if incumbent is None:
            incumbent = self.start.solve(problem, budget=budget, rng=rng).schedule
        if incumbent is None:
            return Solution(Status.NO_PLAN_IN_TIME)
        record = _Record(problem, incumbent, observe)
        moves = self._walk(problem, budget, began, seconds, record, rng)
        return Solution(Status.FEASIBLE, record.best, claimed=record.cost, steps=moves)

    def solve_modes(
        self,
        choices: Choices,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``ModeSolver.solve_modes``: modes by ``mode_search``, the rest as in ``solve``."""
        began = time.perf_counter()
        if incumbent is None:
            start = cast(ModeSolver, self.start)
            incumbent = start.solve_modes(choices, budget=budget, rng=rng).schedule
        if incumbent is None:
            return Solution(Status.NO_PLAN_IN_TIME)
        search = ModeSearch(choices, incumbent, rng, observe, self.hot, self.cold)

        def settled(problem: Problem, first: Schedule, part: Budget) -> Schedule | None:
            return self.solve(problem, budget=part, rng=rng, incumbent=first).schedule

        search.run(budget, began, settled)
        return Solution(Status.FEASIBLE, search.best, claimed=search.best_cost, steps=search.steps)

    def _walk(
        self,
        problem: Problem,
        budget: Budget,
        began: float,
        seconds: float,
        record: _Record,
        rng: np.random.Generator,
    ) -> int:
        """Ruin and recreate within the budget; the moves made."""
        steps = budget.steps
        # In large batches the arrays alone take a tenth of a second.
        in_time = time.perf_counter() - began + END_S < seconds
        if not in_time or (steps is not None and steps <= 0):
            made = problem.memory.pop(READY, None)
            for schedule in (made and made.guided) or ():
                record.offer(schedule)
            return 0
        if suits(problem) and not (suits_rows(problem) and _lasts(problem, seconds, steps)):
            return search_orders(
                problem, record.best, record.offer, record.ended, rng, steps=steps,
                until=began + seconds - END_S, threads=min(self.threads, cores()),
            )  # fmt: skip
        ready = problem.memory.pop(READY, None) or self._ready(problem, seconds)
        relaxation, first = ready.relaxation, record.best
        if relaxation is not None:
            until = began + GUIDED_PART * seconds
            first = self._guided(problem, ready, record, began + seconds, until)
        fixed = with_pool(ready.fixed, relaxation, rng)
        most = self._most(problem, seconds, steps)
        level = self._level(problem, relaxation)
        search = _Search(self, problem, fixed, record, first, most, level, rng)
        if steps is not None:
            search.by_steps(steps, began, seconds)
        else:
            group = np.zeros(len(problem.workers), np.int64)
            if relaxation is not None:
                group = relaxation.worker_group
            search.by_clock(began, seconds, group)
        return search.moves

    def _most(self, problem: Problem, seconds: float, steps: int | None) -> int:
        """Most tasks of a move with a budget; fewer where they are gangs of many pieces."""
        tasks = len(problem.tasks)
        moves = float("inf") if steps is None else steps
        short = min(seconds / SECONDS_A_TASK, moves / MOVES_A_TASK) < tasks
        twice = tasks <= FEW_TASKS and not (short and waiting_costs(problem))
        pieces = float(np.diff(problem.shard_ptr).mean())
        return max(min(FEWEST, self.most), round((1 + twice) * self.most / pieces))

    def _level(self, problem: Problem, relaxation: Relaxation | None) -> float:
        """What ``Walk.level`` takes: 0 where a chain or few workers set the makespan."""
        if relaxation is None or len(problem.workers) < LEVEL_WORKERS:
            return 0.0
        by_work = relaxation.makespan_s > BY_WORK * relaxation.least_end_s
        return self.level if by_work else 0.0

    def prepare(self, problem: Problem, seconds: float) -> None:
        """Make what a search of a large problem begins with, while its first plan is being judged.

        Parameters
        ----------
        problem : Problem
            Its memory keeps what is made, for the next search alone.
        seconds : float
            Those that the search will have, about.
        """
        if suits(problem):
            return
        ready, now = self._ready(problem, seconds), time.perf_counter()
        if ready.relaxation is not None and _may_guide(problem, now + seconds):
            until = now + GUIDED_PART * seconds
            ready = replace(ready, guided=tuple(self._lists(problem, ready, until)))
        problem.memory[READY] = ready

    def _ready(self, problem: Problem, seconds: float) -> _Ready:
        limit = None if seconds == float("inf") else seconds
        return _Ready(relax(problem, limit), fixed_arrays(problem))

    def _lists(self, problem: Problem, ready: _Ready, until: float) -> Iterator[Schedule]:
        assert ready.relaxation is not None
        passes = 1 if len(problem.tasks) > FEW_TASKS else len(PASSES)
        return guided_schedules(
            problem, ready.relaxation, fixed=ready.fixed, until=until, passes=passes
        )

    def _guided(
        self, problem: Problem, ready: _Ready, record: _Record, end: float, until: float
    ) -> Schedule:
        """The schedule to start from: one that follows the relaxation, unless that is far costlier.

        Who works where is harder to repair by small moves than when.
        """
        best, least = record.best, record.cost * GUIDED_HANDICAP
        schedules: Iterable[Schedule] = ready.guided or ()
        if ready.guided is None and _may_guide(problem, end):
            schedules = self._lists(problem, ready, until)
        for schedule in schedules:
            record.offer(schedule)
            if (cost := full_cost(problem, schedule)) < least:
                best, least = schedule, cost
            if cost > HOPELESS * record.cost:
                break
        return best


@dataclass(frozen=True, eq=False)
class _Ready:
    """What a search begins with; ``guided`` is None where no list schedules were made yet."""

    relaxation: Relaxation | None
    fixed: Fixed
    guided: tuple[Schedule, ...] | None = None


def _may_guide(problem: Problem, end: float) -> bool:
    """Whether a list schedule that the relaxation steers ends by a moment, and may be of use.

    Where waiting has a price it costs twice the plan that greedy made: small batches alone have the
    time to see.
    """
    if len(problem.tasks) > FEW_TASKS and waiting_costs(problem):
        return False
    pairs = float(problem.allowed.sum(axis=1)[problem.kind].sum())
    return time.perf_counter() + PAIR_S * pairs < end


def _lasts(problem: Problem, seconds: float, steps: int | None) -> bool:
    """Whether rows beside ruin and recreate have the time in which they are better than orders."""
    moves = float("inf") if steps is None else steps
    return min(seconds / ROW_SECONDS_A_TASK, moves / ROW_MOVES_A_TASK) >= len(problem.tasks)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


class _Record:
    """The best schedule so far, reported to whoever observes."""

    def __init__(self, problem: Problem, first: Schedule, observe: Observe | None) -> None:
        self.problem, self.observe = problem, observe
        self.best, self.cost = first, full_cost(problem, first)
        self.proven = False
        """Whether the observer knows that no schedule is better."""

    def ended(self) -> bool:
        """Whether there is nothing more to look for, or the user wants the best so far."""
        return self.proven or interruption.asked()

    def offer(self, schedule: Schedule) -> None:
        cost = full_cost(self.problem, schedule)
        if cost < self.cost:
            self.best, self.cost = schedule, cost
            if self.observe is not None:
                self.proven = bool(self.observe(cost, float("-inf")))


class _Search:
    """The walks of one call, and how they cool."""

    def __init__(
        self,
        lns: LargeNeighbourhood,
        problem: Problem,
        fixed: Fixed,
        record: _Record,
        first: Schedule,
        most: int,
        level: float,
        rng: np.random.Generator,
    ) -> None:
        self.lns, self.problem, self.fixed, self.first = lns, problem, fixed, first
        self.record, self.level, self.rng = record, level, rng
        self.rank = ranks(problem, float(first.end.max()))
        tasks = len(problem.tasks)
        # Small batches have few costly tasks rather than many cheap ones.
        self.scale = record.cost / tasks * max(1.0, 1000 / tasks)
        self.gangs = suits_home(problem) and float((problem.shards > 1).mean()) >= MANY_GANGS
        """Whether many tasks are gangs that wait for workers."""
        if self.gangs:
            self.scale *= HOTTER
        horizon = max(1.0, float(record.best.end.max()))
        tie = 1e-6 * record.cost / horizon / tasks + 1e-15
        self.shape = Shape(most, lns.looked_at, lns.blink, tie)
        self.moves = 0
        self.orders: dict[Walk, HomeOrders | Rows] = {}
        self.rows = suits_rows(problem)

    def cooled(self, spent: float) -> tuple[float, float]:
        """Temperature and rent after a part of the budget."""
        heat = self.lns.hot * (self.lns.cold / self.lns.hot) ** spent * self.scale
        return heat, self.lns.rent * max(0.0, 1.0 - spent / NO_RENT_FROM)

    def walk(self, fixed: Fixed, start: Schedule) -> Walk:
        fixed = fixed._replace(wi=fixed.wi.copy(), wf=fixed.wf.copy())
        walk = Walk(self.problem, fixed, start, self.rank, int(self.rng.integers(1 << 31)))
        if self.rows:
            self.orders[walk] = Rows(self.problem, walk, int(self.rng.integers(1 << 31)))
        elif suits_home(self.problem):
            self.orders[walk] = HomeOrders(self.problem, walk, int(self.rng.integers(1 << 31)))
        return walk

    def _orders_of(self, walk: Walk, spent: float) -> HomeOrders | Rows | None:
        """The search over rows or orders of a walk, if there is one and its time has come."""
        begin = ORDERS_OF_GANGS_FROM if self.gangs else ORDERS_FROM
        return None if spent < begin and not self.rows else self.orders.get(walk)

    def _cooler(self, heat: float) -> float:
        """Temperature of that search: there a few costly tasks are no reason for more."""
        part = ORDER_HEAT_OF_GANGS if self.gangs else ORDER_HEAT
        part = ROW_HEAT if self.rows else part
        return part * heat / max(1.0, 1000 / len(self.problem.tasks))

    def _level(self, walk: Walk) -> None:
        if self.level > 0:
            walk.level(self.level)

    def by_steps(self, steps: int, began: float, seconds: float) -> None:
        """One walk that does not depend on the clock (but for stopping in time)."""
        walk, in_order = self.walk(self.fixed, self.first), False
        while (
            walk.moves < steps and time.perf_counter() - began < seconds and not self.record.ended()
        ):
            spent = walk.moves / steps
            heat, rent = self.cooled(spent)
            call = min(STEPS_A_CALL, steps // FEWEST_TURNS + 1) if self.orders else STEPS_A_CALL
            moves = min(call, steps - walk.moves)
            self._level(walk)
            orders = None if in_order else self._orders_of(walk, spent)
            in_order = orders is not None
            if orders is None:
                walk.step(moves, heat, rent, self.shape)
            else:
                orders.step(moves, self._cooler(heat))
            self.record.offer(walk.best)
        self.moves = walk.moves

    def by_clock(self, began: float, seconds: float, group: Ints) -> None:
        """Rounds on one or two threads until the time is up."""
        threads = min(self.lns.threads, cores())
        until = began + seconds - END_S
        length = max(ROUND_S, (until - time.perf_counter()) / ROUNDS)
        with ThreadPoolExecutor(threads) as pool:

            def run(walks: list[Walk], end: float) -> None:
                """Every walk on its own thread until `end`."""
                for done in [pool.submit(self._cool, w, began, end, seconds) for w in walks]:
                    done.result()
                self.moves += sum(walk.moves for walk in walks)

            if threads == MOST_THREADS and self._may_split():
                self._shared(run, until, length, group)
            else:
                self._apart(run, until, length, threads)

    def _may_split(self) -> bool:
        """Whether the problem is large, and nothing that kernels share ties its halves."""
        tied = self.problem.counted or self.problem.tells_apart
        return len(self.problem.tasks) >= SPLIT_TASKS and not tied

    def _shared(
        self, run: Callable[[list[Walk], float], None], until: float, length: float, group: Ints
    ) -> None:
        """Walks over one schedule, each on its half of the workers for a round."""
        now = self.first
        while (clock := time.perf_counter()) < until and not self.record.ended():
            halves = split(self.fixed, now, group, self.rng)
            walks = [self.walk(half, now) for half in halves]
            run(walks, min(until, clock + length))
            best = join(now, [(walk.fixed, walk.best) for walk in walks])
            now = join(now, [(walk.fixed, walk.now()) for walk in walks])
            self.record.offer(best)
            self.record.offer(now)

    def _apart(
        self, run: Callable[[list[Walk], float], None], until: float, length: float, threads: int
    ) -> None:
        """Walks of their own; after some rounds the worse goes on from where the better one is."""
        walks = [self.walk(self.fixed, self.first) for _ in range(threads)]
        rounds, exchange = 0, EXCHANGE_OF_GANGS if gangs_wait(self.problem) else EXCHANGE
        while (clock := time.perf_counter()) < until and not self.record.ended():
            run(walks, min(until, clock + length))
            rounds += 1
            for walk in walks:
                self.record.offer(walk.best)
            if threads > 1 and rounds % exchange == 0:
                walks.sort(key=lambda walk: full_cost(self.problem, walk.now()))
                walks[-1].restart(walks[0].now())
        self.moves = sum(walk.moves for walk in walks)

    def _cool(self, walk: Walk, began: float, end: float, seconds: float) -> None:
        """Let a walk go on, at falling temperature, until `end`."""
        while (clock := time.perf_counter()) < end and not interruption.asked():
            spent = (clock - began) / seconds
            heat, rent = self.cooled(spent)
            slice_s = max(seconds / COOLINGS, CALL_S * len(self.problem.tasks))
            self._level(walk)
            if (orders := self._orders_of(walk, spent)) is None:
                walk.step_until(min(end, clock + slice_s), heat, rent, self.shape)
                continue
            slice_s = max(slice_s, LEAST_TURN_S)
            walk.step_until(min(end, clock + slice_s), heat, rent, self.shape)
            half = time.perf_counter()
            if isinstance(orders, Rows):
                slice_s *= ROW_TURNS if orders.hold_all else SHORT_ROW_TURNS
            orders.step_until(min(end, half + slice_s), self._cooler(heat))
