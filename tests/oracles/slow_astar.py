"""The slow twin of A*, in plain Python over ``oracles.slow_search``; no code of the kernel."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.arrays.rates import ALL_BUT_MOVES
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.base import Observe, Solution
from tests.oracles.slow_search import Active, Assign, SearchSpace, State

SAME = 1e-9
"""A schedule that is better by less than this, relative, is not looked for."""
RELEASE_SHARE = 0.05
"""Share of the seconds that giving back the memory of all states takes."""
NOISE = 1e-12
"""Relative error of a cost that doubles may make; costs closer than this count as equal."""


@dataclass(frozen=True)
class SlowAStar:
    """Best-first search that proves its plan optimal when it ends by itself.

    Parameters
    ----------
    weight : float
        1 for A*; above 1 for weighted A*, which trusts the bound on what is still to come
        that much more, and ends with a plan of at most `weight` times the least cost.
    max_nodes : int
        States that may be held in memory; the search stops with what it has beyond.
    max_edges : int
        Pairs of a task and a multiset of workers beyond which no search is begun.

    References
    ----------
    Hart, Nilsson, Raphael (1968), "A formal basis for the heuristic determination of
    minimum cost paths", doi:10.1109/TSSC.1968.300136.
    """

    name: ClassVar[str] = "astar"
    exact_terms: ClassVar[frozenset[str]] = ALL_BUT_MOVES
    weight: float = 1.0
    max_nodes: int = 200_000
    max_edges: int = 2_000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 1):
            raise BadRequest(f"astar: weight is {self.weight}; it must be finite, 1 or more")
        if self.max_nodes < 1:
            raise BadRequest(f"astar: max_nodes is {self.max_nodes}; it must be 1 or more")
        if self.max_edges < 1:
            raise BadRequest(f"astar: max_edges is {self.max_edges}; it must be 1 or more")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``; a step is an expanded state, and `rng` is not needed."""
        stop_at = math.inf
        if budget.seconds is not None:
            stop_at = time.perf_counter() + (1 - RELEASE_SHARE) * budget.seconds
        most_steps = math.inf if budget.steps is None else budget.steps
        cost = math.inf if incumbent is None else problem.cost(incumbent)
        bound, exhausted, steps, schedule = -math.inf, False, 0, incumbent
        space = self._space(problem, stop_at)
        if space is not None:
            search = _Search(space, self.weight, lower_bound(problem), cost, observe)
            search.run(most_steps, stop_at, self.max_nodes)
            cost, bound = search.best_cost, search.proven()
            exhausted, steps = search.exhausted, search.steps
            if search.best is not None:
                schedule = space.schedule(search.best)
        if schedule is None:
            status = Status.INFEASIBLE if exhausted else Status.NO_PLAN_IN_TIME
            return Solution(status, lower_bound=bound, steps=steps)
        proven = cost - bound <= 2 * SAME * abs(cost)
        status = Status.OPTIMAL if proven else Status.FEASIBLE
        return Solution(status, schedule, min(bound, cost), cost, steps)

    def _space(self, problem: Problem, stop_at: float) -> SearchSpace | None:
        """The search space, None if it is too large, or takes too long to list."""
        able = problem.allowed.sum(axis=1)[problem.kind]
        multisets = (
            math.comb(int(w) + int(k) - 1, int(k))
            for w, k in zip(able, problem.shards, strict=True)
        )
        if sum(multisets) > self.max_edges:
            return None
        try:
            return SearchSpace(problem, stop_at)
        except TimeoutError:
            return None


class _Search:
    """The open list, the best schedule so far, and the table of states seen.

    Notes
    -----
    Let O be the schedules of least (cost, sum of starts). Listed by (start, index), each
    task of a schedule in O starts at the earliest moment, not before the one listed ahead
    of it, at which it fits beside those listed ahead: else it could start earlier at no
    cost. So an edge need not be followed if its task starts together with the last one
    placed and has a lower index; and of identical tasks, or of workers between which the
    future sees no difference, the first will do.

    A state B is dropped for a state A when A with whatever completes B has a lesser (cost,
    sum of starts). That is so if both placed the same tasks and hold the same resources
    from now on; A's floor is no later, nor are the ends that followers wait for; and what A
    has cost, plus all it may lose to B in what is still open (longest mean wait, largest
    load, workers that are on), is less, or as much with no larger sum of starts. The
    makespan cannot differ: what is active is alike, and what has ended is outlived. Then if
    B leads to a schedule in O, so does A.
    """

    def __init__(
        self,
        space: SearchSpace,
        weight: float,
        root_bound: float,
        best_cost: float,
        observe: Observe | None,
    ) -> None:
        self.space = space
        self.weight = weight
        self.observe = observe
        self.best: State | None = None
        self.best_cost = best_cost
        self.steps = 0
        self.exhausted = False
        self.twin = _twins(space)
        self.group = _worker_groups(space)
        self.has_alike = len(set(self.group)) < len(self.group)
        self.followers = [i for i, preds in enumerate(space.preds) if preds]
        self.seen: dict[object, list[_View]] = {}
        self.kept = 0
        self.open: list[tuple[float, int, int, State]] = []
        self.pushed = 0
        self._push(space.root(root_bound))

    def run(self, most_steps: float, stop_at: float, max_nodes: int) -> None:
        """Search until the proof is done or a limit is met."""
        while self.open:
            if self.weight > 1 and self.best_cost <= self.open[0][0]:
                return
            if self.steps >= most_steps or len(self.open) + self.kept > max_nodes:
                return
            if time.perf_counter() > stop_at:
                return
            key, _, _, state = heapq.heappop(self.open)
            if state.dead or self._hopeless(state):
                continue
            if state.looked is None:
                # Only states that come to the front are bounded in full.
                self.space.look(state)
                if self._hopeless(state) or self._needless(state):
                    continue
                if self._key(state) > key:
                    self._push(state)
                    continue
            self._expand(state)
        self.exhausted = True

    def proven(self) -> float:
        """No schedule costs less: the least bound of all that was not followed to its end."""
        bounds = (state.bound for *_, state in self.open if not state.dead)
        return min(self._worth_finding(), min(bounds, default=math.inf))

    def _worth_finding(self) -> float:
        """Cost below which a schedule is looked for."""
        if self.best_cost == math.inf:
            return math.inf
        return self.best_cost - SAME * abs(self.best_cost)

    def _hopeless(self, state: State) -> bool:
        return state.bound == math.inf or state.bound >= self._worth_finding()

    def _key(self, state: State) -> float:
        if self.weight == 1:
            return state.bound
        so_far = self.space.cost(state)
        return so_far + self.weight * (state.bound - so_far)

    def _push(self, state: State) -> None:
        self.pushed += 1
        # Among equal bounds the state with most tasks placed, then the oldest.
        entry = (self._key(state), -state.done.bit_count(), self.pushed, state)
        heapq.heappush(self.open, entry)

    # ------------------------------------------------------------------ edges

    def _expand(self, state: State) -> None:
        self.steps += 1
        for start, edge in self._edges(state):
            child = self.space.assign(state, edge, start)
            if child.done == self.space.all_done:
                cost = self.space.cost(child)
                if cost < self.best_cost:
                    self.best, self.best_cost = child, cost
                    if self.observe is not None:
                        self.observe(cost, min(state.bound, self.proven()))
            elif not self._hopeless(child):
                self._push(child)
        if state.looked is not None:
            state.looked.edges.clear()  # the table of states seen needs them no more

    def _edges(self, state: State) -> Iterator[tuple[int, Assign]]:
        """The edges that need following."""
        assert state.looked is not None
        alike: set[object] = set()
        for start, edge in state.looked.edges:
            twin = self.twin[edge.task]
            if twin >= 0 and not state.done >> twin & 1:
                continue
            if start == state.looked.floor and edge.task < state.tie:
                continue
            if self.has_alike:
                looks = sorted((*self._looks(state, w), demand) for w, demand in edge.pieces)
                look = (edge.task, *looks)
                if look in alike:
                    continue
                alike.add(look)
            yield start, edge

    def _looks(self, state: State, w: int) -> tuple[int, Active, int, float]:
        """All that the future can see of a worker."""
        return self.group[w], state.active[w], state.last_end[w], state.loads[w]

    # ------------------------------------------------------------------ states seen

    def _needless(self, state: State) -> bool:
        """Whether a state seen before makes this one needless; else it is kept."""
        view = self._view(state)
        rivals = self.seen.setdefault((state.done, view.active), [])
        if any(self._beats(rival, view) for rival in rivals):
            return True
        beaten = [rival for rival in rivals if self._beats(view, rival)]
        for rival in beaten:
            rival.state.dead = True
            rivals.remove(rival)
        rivals.append(view)
        self.kept += 1 - len(beaten)
        return False

    def _view(self, state: State) -> _View:
        assert state.looked is not None
        floor = state.looked.floor
        workers = list(range(len(self.group)))
        if self.has_alike:
            workers.sort(key=lambda w: self._looks(state, w))
        heads = tuple(
            max(floor, *(state.ends[p] for p in self.space.preds[i]))
            for i in self.followers
            if not state.done >> i & 1
        )
        active = tuple(state.active[w] for w in workers)
        return _View(state, (floor, state.tie), tuple(workers), active, heads)

    def _beats(self, view: _View, other: _View) -> bool:
        """Whether what completes `other` completes `view` at a lesser (cost, sum of starts)."""
        space, a, b = self.space, view.state, other.state
        if view.floor > other.floor:
            return False
        if any(mine > its for mine, its in zip(view.heads, other.heads, strict=True)):
            return False
        loss = a.add - b.add
        if space.unfair_price:
            more = [mine - its for mine, its in zip(a.waits, b.waits, strict=True)]
            loss += space.unfair_price * space.mean_wait_s(more)
        if space.load_price or space.prices_power:
            more_load = 0.0
            for v, w in zip(view.workers, other.workers, strict=True):
                more_load = max(more_load, a.loads[v] - b.loads[w])
                # B paid for power that A may have to pay for yet.
                longer = space.idle_s(w, b.last_end[w]) - space.idle_s(v, a.last_end[v])
                loss += space.idle_price[w] * max(0, longer)
                if b.last_end[w] and not a.last_end[v]:
                    loss += space.boot_price[w]
            loss += more_load
        noise = NOISE * abs(b.bound)
        return loss < -noise or (loss <= noise and a.sum_starts <= b.sum_starts)


@dataclass(frozen=True, eq=False, slots=True)
class _View:
    """A state as it is compared: workers between which there is no difference are sorted.

    Parameters
    ----------
    state : State
    floor : tuple of (int, int)
        Later tasks come after this in (start, index).
    workers : tuple of int
    active : tuple of Active
        For each of `workers`.
    heads : tuple of int
        When each task to come that follows others may start.
    """

    state: State
    floor: tuple[int, int]
    workers: tuple[int, ...]
    active: tuple[Active, ...]
    heads: tuple[int, ...]


def _twins(space: SearchSpace) -> list[int]:
    """For each task the last identical one before it, or -1."""
    problem = space.problem
    followers: list[list[int]] = [[] for _ in space.preds]
    for i, preds in enumerate(space.preds):
        for p in preds:
            followers[p].append(i)
    last: dict[object, int] = {}
    twins = []
    for i, preds in enumerate(space.preds):
        key = (
            int(problem.kind[i]), space.release[i], space.raw_release[i],
            int(problem.deadline[i]), float(problem.weight[i]), int(problem.shards[i]),
            space.owner[i], tuple(problem.duration[i].tolist()), preds, tuple(followers[i]),
        )  # fmt: skip
        twins.append(last.get(key, -1))
        last[key] = i
    return twins


def _worker_groups(space: SearchSpace) -> list[int]:
    """The group of each worker; within one they differ in nothing but what is placed on them."""
    problem = space.problem
    groups: dict[object, int] = {}
    result = []
    for w, segments in enumerate(space.segments):
        key = (
            segments, int(problem.worker_class[w]), space.free_from[w],
            tuple(problem.allowed[:, w].tolist()), tuple(problem.share[:, w].tolist()),
            space.idle_price[w], space.boot_price[w], problem.workers[w].busy_w,
            float(problem.health[w]), int(problem.last_end[w]), float(problem.load_h[w]),
        )  # fmt: skip
        result.append(groups.setdefault(key, len(groups)))
    return result
