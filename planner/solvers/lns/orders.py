"""Orders of serial schedules: problems as the arrays of ``kernels.orders``, and the search."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.rates import prices_deadlines
from plancast.planner.solvers.greedy.priority_rules import priorities, waiting_costs
from plancast.planner.solvers.lns import order_kernel as orders
from plancast.planner.solvers.lns import ruin
from plancast.planner.solvers.lns.local_search import fixed_arrays, state_arrays
from plancast.planner.solvers.lns.order_kernel import Futures

FEW_WORKERS = 64
"""Machines alike up to which an order is searched."""
MOST_TASKS = 2_000
"""Tasks up to which it is: beyond, a move lays too many of them out again."""
ODDS = np.cumsum([0.35, 0.25, 0.15, 0.25])
"""Cumulated chances of ``kernels.orders``' rules."""
STAGES = 16
"""Stages of an order at most, and the least places between two."""
FIRST_RANKS = ("smith", "slack", "shortest", "latest", "area", "release")
"""Orders of ``priorities`` of which the best is where a search begins, besides a given one."""
STEPS_A_CALL = 1_000
"""Moves of one call of the kernel with a step budget."""
ROUND_S, ROUNDS = 0.15, 12
"""Least seconds and most number of rounds after which what was found is offered."""
SLICE_S = 0.02
"""A call of the kernel lasts about this long where a clock stops it."""


def suits(problem: Problem) -> bool:
    """Whether an order alone says enough of a schedule: one machine, or few alike.

    And whether orders are what is hard there: where waiting, lateness or gangs count. For a
    makespan alone there are better engines.
    """
    if not 1 < len(problem.tasks) <= MOST_TASKS or len(problem.workers) > FEW_WORKERS:
        return False
    if problem.counted or problem.is_related or problem.hours is not None:
        # Orders know what workers have, not what the cluster has; no lags, and no later starts.
        return False
    deadlines = prices_deadlines(problem.rates)
    hard = waiting_costs(problem) or deadlines or bool((problem.shards > 1).any())
    return hard and (len(problem.workers) == 1 or alike(problem))


def alike(problem: Problem) -> bool:
    """Whether no task can tell one worker from another, but for what runs there."""
    per_worker = (
        problem.capacity, problem.worker_class, problem.rates.idle, problem.rates.busy,
        problem.rates.boot, problem.health,
    )  # fmt: skip
    same = all((values == values[:1]).all() for values in per_worker)
    return same and bool((problem.allowed == problem.allowed[:, :1]).all())


def futures_of(problems: Sequence[Problem]) -> Futures:
    """One problem in several futures.

    Parameters
    ----------
    problems : sequence of Problem
        Of the same tasks and workers; run times and ends of what runs differ.
    """
    first = fixed_arrays(problems[0])
    ti, profiles, ws, load_s, wait_s, base = [], [], [], [], [], []
    for problem in problems:
        fixed = fixed_arrays(problem)
        state, profile = state_arrays(problem, None)
        room = int(state.ws[:, ruin.COUNT].max()) + 2 * len(problem.tasks) + 2
        profiles.append(widened(profile, max(room, profile.shape[1])))
        state.ws[:, ruin.LAST] = fixed.wi[:, ruin.BASE_END]
        cost = fixed.base_cost + orders.cost_in_use(fixed.wi, fixed.wf)
        fixed.ti[:, ruin.BEYOND_SUCC] = fixed.ti[:, ruin.SUCC]
        ti.append(fixed.ti)
        ws.append(state.ws)
        load_s.append(fixed.wf[:, ruin.BASE_LOAD])
        wait_s.append(fixed.base_wait_s)
        base.append([cost, float(fixed.wi[:, ruin.BASE_END].max(initial=0))])
    longest = max(p.shape[1] for p in profiles)
    return Futures(
        ti=np.array(ti),
        run_s=np.array([p.duration for p in problems]),
        profile=np.array([widened(p, longest) for p in profiles]),
        ws=np.array(ws),
        load_s=np.array(load_s),
        wait_s=np.array(wait_s),
        base=np.array(base),
        tf=first.tf,
        wi=first.wi,
        wf=first.wf,
        pi=first.pi,
        room=first.room,
        share=first.share,
        link=first.link,
        rates=first.rates,
        owner_tasks=first.owner_tasks,
        max_stretch=first.max_stretch,
    )


def widened(profile: Ints, segments: int) -> Ints:
    """A profile with room for so many segments."""
    result = np.zeros((profile.shape[0], segments, profile.shape[2]), np.int64)
    result[:, : profile.shape[1]] = profile
    return result


def nowhere(futures: Futures) -> Ints:
    """No home for any piece: each task goes where it ends first."""
    return np.full(len(futures.pi), -1, np.int64)


def schedule_in(futures: Futures, s: int, order: Ints) -> Schedule | None:
    """The serial schedule of an order of all tasks in one future; None where it has none."""
    ts, ps, cost = orders.lay_out(futures, s, order, nowhere(futures))
    if not np.isfinite(cost):
        return None
    return Schedule(ts[:, ruin.START].copy(), ts[:, ruin.END].copy(), ps[:, ruin.ON].copy())


def cost_of(futures: Futures, order: Ints) -> float:
    """Mean over the futures of what the serial schedule of an order costs."""
    home = nowhere(futures)
    costs = [orders.lay_out(futures, s, order, home)[2] for s in range(len(futures.base))]
    return float(np.mean(costs))


def order_of(problem: Problem, schedule: Schedule) -> Ints:
    """The tasks in the order of their starts, predecessors first."""
    return in_topological_order(problem, np.lexsort((schedule.end, schedule.start)))


def in_topological_order(problem: Problem, order: Ints) -> Ints:
    """The same order with every task after its predecessors."""
    if not len(problem.pred):
        return order
    placed = np.zeros(len(order), np.bool_)
    result: list[int] = []

    def place(i: int) -> None:
        stack = [i]
        while stack:
            j = stack[-1]
            missing = [b for b in problem.predecessors(j).tolist() if not placed[b]]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if not placed[j]:
                placed[j] = True
                result.append(j)

    for i in order.tolist():
        if not placed[i]:
            place(i)
    return np.array(result, np.int64)


def first_orders(problem: Problem, schedule: Schedule | None) -> list[Ints]:
    """Orders to begin with: of a schedule, and by priorities."""
    found = [] if schedule is None else [order_of(problem, schedule)]
    keys = priorities(problem)
    by_rank = (np.argsort(keys[name], kind="stable") for name in FIRST_RANKS)
    return found + [in_topological_order(problem, order) for order in by_rank]


@dataclass(frozen=True)
class Heat:
    """Simulated annealing over orders: temperatures as shares of the first cost over the tasks."""

    hot: float = 0.1
    cold: float = 0.005


WARM, WARM_MOVES = Heat(0.003, 0.0003), 300
"""Of a search that goes on from the order in force when something has happened."""


class OrderWalk:
    """One search over the orders of a problem in its futures.

    Parameters
    ----------
    futures : Futures
    starts : sequence of int64 (placed tasks,)
        Orders; it begins with the cheapest.
    seed : int
    heat : Heat
    """

    def __init__(
        self, futures: Futures, starts: Sequence[Ints], seed: int, heat: Heat | None = None
    ) -> None:
        self.futures, self.heat = futures, heat or Heat()
        self.rng = np.random.default_rng(seed)
        costs = [cost_of(futures, order) for order in starts]
        k = int(np.argmin(costs))
        self.best, self.cost = starts[k], costs[k]
        self.now, self.home = self.best, nowhere(futures)
        self.places = max(1, len(self.best))
        self.every = max(4, -(-self.places // STAGES))
        self.scale = (self.cost if np.isfinite(self.cost) else 0.0) / self.places
        self.moves = 0

    def step(self, moves: int, spent: float, spent_after: float) -> None:
        """So many moves, at the temperatures of a part of the budget."""
        hot, cold = self.heat.hot, self.heat.cold
        from_, to = (
            hot * (cold / hot) ** part * self.scale for part in (spent, min(1.0, spent_after))
        )
        best, _, self.now, _, cost, _ = orders.search(
            self.futures, self.now, self.home, moves, from_, to, ODDS, 0.0, self.every,
            int(self.rng.integers(1 << 31)),
        )  # fmt: skip
        self.moves += moves
        if cost < self.cost:
            self.best, self.cost = best, cost

    def step_until(self, until: float, began: float, seconds: float) -> None:
        """Moves until ``time.perf_counter`` says `until`, in calls of some 20 ms."""
        moves = 64
        while (clock := time.perf_counter()) < until and not interruption.asked():
            spent = (clock - began) / seconds
            self.step(moves, spent, spent)
            took_s = max(1e-6, time.perf_counter() - clock)
            left_s = min(SLICE_S, max(0.0, until - clock - took_s))
            moves = max(4, min(4 * moves, int(moves * left_s / took_s)))

    def restart(self, other: OrderWalk) -> None:
        """Go on from where another walk is."""
        self.now = other.now


def search_orders(
    problem: Problem,
    first: Schedule,
    offer: Callable[[Schedule], None],
    ended: Callable[[], bool],
    rng: np.random.Generator,
    *,
    steps: int | None,
    until: float,
    threads: int,
) -> int:
    """Look for a better schedule of a problem among serial ones.

    Parameters
    ----------
    problem : Problem
        That ``suits`` likes.
    first : Schedule
    offer : callable
        Handed each schedule that may be better.
    ended : callable
        Whether there is nothing more to look for.
    rng : numpy Generator
    steps : int, optional
        Moves, on one thread and independent of the clock; without, until the time is up.
    until : float
        Time of ``time.perf_counter`` at which to stop.
    threads : int

    Returns
    -------
    int
        The moves made.
    """
    began = time.perf_counter()
    futures = futures_of([problem])
    starts = first_orders(problem, first)
    if steps is not None:
        walk = OrderWalk(futures, starts, int(rng.integers(1 << 31)))
        while walk.moves < steps and time.perf_counter() < until and not ended():
            moves = min(STEPS_A_CALL, steps - walk.moves)
            walk.step(moves, walk.moves / steps, (walk.moves + moves) / steps)
            _offer(futures, walk, offer)
        return walk.moves
    walks = [OrderWalk(futures, starts, int(rng.integers(1 << 31))) for _ in range(threads)]
    seconds = max(1e-3, until - began)
    with ThreadPoolExecutor(threads) as pool:
        while (clock := time.perf_counter()) < until and not ended():
            end = min(until, clock + max(ROUND_S, seconds / ROUNDS))
            for done in [pool.submit(w.step_until, end, began, seconds) for w in walks]:
                done.result()
            walks.sort(key=lambda w: w.cost)
            _offer(futures, walks[0], offer)
    return sum(w.moves for w in walks)


def _offer(futures: Futures, walk: OrderWalk, offer: Callable[[Schedule], None]) -> None:
    found = schedule_in(futures, 0, walk.best)
    if found is not None:
        offer(found)
