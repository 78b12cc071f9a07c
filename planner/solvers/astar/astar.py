"""A* over assignments, exact, weighted, anytime, focal and beam, from one kernel.

See ``plancast.planner.solvers.astar.space`` for the states, the edges and why so many need not be
followed, and ``plancast.planner.solvers.astar.kernel`` for the bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.modes import Choices
from plancast.planner.arrays.problem import Floats, Ints, Problem, Schedule
from plancast.planner.arrays.rates import ALL_BUT_MOVES, HOURLY
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers.astar import kernel
from plancast.planner.solvers.astar.guides import EXCESS, Guide, LearnedGuide, TreeEnsemble
from plancast.planner.solvers.astar.in_modes import solve_by_choice
from plancast.planner.solvers.astar.relaxed import solve_relaxed
from plancast.planner.solvers.astar.space import (
    SearchSpace,
    edges_of,
    grown,
    make_entries,
    make_focus,
    make_nodes,
    make_scratch,
    root_of,
    search_space,
)
from plancast.planner.solvers.base import Observe, Solution

FORMS = ("best", "anytime", "focal", "beam", "guided")
CHUNK_S = 0.01
"""Seconds of searching between two looks at the clock, about."""
FIRST_CHUNK = 200
FIRST_ROWS = 256
"""Rows that a search begins with; they are doubled when they are full."""
LEAST_WEIGHT = 1.01
"""Anytime search goes to weight 1 from here."""
MANY_EDGES = 500
"""With more pairs of tasks and workers a layer of a dive takes milliseconds."""
FIRST_SHARE, EXACT_SHARE = 0.8, 0.03
"""Expansions of dives after the first, over those between them: to begin with, above weight 1
and at it."""
LEAST_PART = 0.25
"""The share doubles with each dive that finds a better plan, up to the first, else it halves, down
to this part of the first."""


NO_TREES = TreeEnsemble(*np.zeros((4, 0), np.int64), *np.zeros((2, 0)))


@dataclass(frozen=True)
class AStar:
    """Search for the next assignment; proves its plan optimal when it ends by itself.

    Parameters
    ----------
    form : str
        ``best``: by least bound, or at a weight above 1 by cost so far + weight x the rest.
        ``anytime``: the same with a falling weight, until 1. ``focal``: by the guide among
        the states whose bound is at most `weight` times the least. ``beam``: the `width`
        best states of each depth by the guide, then twice as many, and so on. ``guided``: dives by
        the guide find plans, and a search by least bound proves them good enough.
    weight : float
        The plan costs at most `weight` times the least cost, whatever the guide says; anytime
        search begins with it.
    guide : callable, optional
        Orders the focal list, the beam or the dives, see ``plancast.planner.solvers.astar.guides``;
        of dives it must be a ``LearnedGuide`` or a ``TreeEnsemble``. Without one the focal list
        prefers the state with most tasks placed, beam and dives the least bound.
    batch : int
        States that focal search expands at a time, so that the guide is asked for many.
    width : int
        First width of the beam.
    dive : int
        States of each depth that a dive follows.
    max_nodes : int
        States and open edges that may be held in memory; the search stops with what it has
        beyond.
    max_edges : int
        Pairs of a task and a multiset of workers beyond which no search is begun.

    Notes
    -----
    The certificate holds at every moment: no plan costs less than the least bound of all that
    is open or was thrown away. Who proves that a plan of cost C is at most `weight` times too
    costly must expand every state whose bound is below C / `weight`: ``guided`` expands these in
    order, so that what a guide can save is all but them, and what it can waste is its dives,
    which are a share of all expansions that they have to earn.

    References
    ----------
    Hart, Nilsson, Raphael (1968), "A formal basis for the heuristic determination of
    minimum cost paths", doi:10.1109/TSSC.1968.300136. Likhachev, Gordon, Thrun (2003), "ARA*:
    Anytime A* with provable bounds on sub-optimality". Pearl, Kim (1982), "Studies in
    semi-admissible heuristics", doi:10.1109/TPAMI.1982.4767270.
    """

    name: ClassVar[str] = "astar"
    exact_terms: ClassVar[frozenset[str]] = ALL_BUT_MOVES - HOURLY
    form: str = "best"
    weight: float = 1.0
    guide: Guide | None = None
    batch: int = 16
    width: int = 64
    dive: int = 1
    max_nodes: int = 1_000_000
    max_edges: int = 20_000

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise BadRequest(f"astar: form is {self.form!r}; choose {', '.join(FORMS)}")
        if not (math.isfinite(self.weight) and self.weight >= 1):
            raise BadRequest(f"astar: weight is {self.weight}; it must be finite, 1 or more")
        if self.guide is not None and not callable(self.guide):
            raise BadRequest("astar: guide must be callable on batches of state features")
        if self.form == "guided" and not isinstance(self.guide, LearnedGuide | TreeEnsemble | None):
            raise BadRequest("astar: guided search needs a LearnedGuide or a TreeEnsemble as guide")
        for name in ("batch", "width", "dive", "max_nodes", "max_edges"):
            if getattr(self, name) < 1:
                raise BadRequest(f"astar: {name} is {getattr(self, name)}; it must be 1 or more")

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
        if problem.tells_apart or problem.hours is not None:

            def relaxed(less: Problem) -> Solution:
                return self.solve(less, budget=budget, rng=rng, incumbent=incumbent)

            return solve_relaxed(problem, relaxed, incumbent, observe)
        stop_at = math.inf
        if budget.seconds is not None:
            stop_at = time.perf_counter() + budget.seconds - CHUNK_S
        space = None
        if edges_of(problem) <= self.max_edges and time.perf_counter() < stop_at:
            try:
                space = search_space(problem, stop_at)
            except TimeoutError:
                space = None
        best_cost = math.inf if incumbent is None else problem.cost(incumbent)
        if space is None:
            status = Status.NO_PLAN_IN_TIME if incumbent is None else Status.FEASIBLE
            claimed = None if incumbent is None else best_cost
            return Solution(status, incumbent, claimed=claimed)
        search = Search(
            self, space, lower_bound(problem), best_cost, observe,
            Limits(stop_at, np.iinfo(np.int64).max if budget.steps is None else budget.steps),
        )  # fmt: skip
        {"best": search.best, "anytime": search.anytime, "focal": search.focal,
         "beam": search.beam, "guided": search.guided}[self.form]()  # fmt: skip
        schedule = search.schedule() or incumbent
        bound = search.proven()
        if schedule is None:
            status = Status.INFEASIBLE if search.exhausted else Status.NO_PLAN_IN_TIME
            return Solution(status, lower_bound=bound, steps=search.steps)
        cost = search.best_cost
        proven = cost - bound <= 2 * kernel.SAME * abs(cost)
        status = Status.OPTIMAL if proven else Status.FEASIBLE
        return Solution(status, schedule, min(bound, cost), cost, search.steps)

    def solve_modes(
        self,
        choices: Choices,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``ModeSolver.solve_modes``: up to ten tasks, a search for each choice."""

        def solve(problem: Problem, part: Budget) -> Solution:
            return self.solve(problem, budget=part, rng=rng)

        return solve_by_choice(choices, solve, budget, incumbent, observe)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop: ``time.perf_counter()``, and expanded states."""

    stop_at: float
    steps: int


class Search:
    """The arrays of one search, and the best schedule so far.

    Parameters
    ----------
    parameters : AStar
    space : SearchSpace
    root_bound : float
        No schedule costs less.
    best_cost : float
        Of a schedule that is known; infinity if none is.
    observe : callable, optional
    limits : Limits
    """

    def __init__(
        self,
        parameters: AStar,
        space: SearchSpace,
        root_bound: float,
        best_cost: float,
        observe: Observe | None,
        limits: Limits,
    ) -> None:
        self.parameters, self.space, self.observe = parameters, space, observe
        self.limits = limits
        tasks = len(space.problem.tasks)
        self.nodes = make_nodes(space, FIRST_ROWS)
        self.buckets: Ints = np.full(2 * FIRST_ROWS, -1, np.int64)
        self.scratch = make_scratch(space)
        self.tally: Ints = np.zeros(10, np.int64)
        self.value: Floats = np.array([best_cost, math.inf, 0.0, 1.0, math.inf])
        self.best_edge: Ints = np.full(tasks, -1, np.int64)
        self.best_end: Ints = np.zeros(tasks, np.int64)
        self.entries: kernel.Entries | None = None
        self.focus: kernel.Focus | None = None
        room = parameters.batch * 8 + 2 * len(space.edges)
        self.fresh: Ints = np.zeros(room, np.int64)
        self.features: Floats = np.zeros((room, kernel.FEATURES))
        self.guess: Floats = np.zeros(0)
        self.layer: Ints = np.zeros(1, np.int64)
        self.reported = best_cost
        self.chunk = FIRST_CHUNK
        self.exhausted = False
        self.thrown_away = math.inf
        """Least bound of the states that a beam did not keep."""
        root_of(space, self.nodes, root_bound)
        self.tally[kernel.NODES] = 1
        self.least = root_bound
        """No schedule that is still to be found costs less."""

    # ------------------------------------------------------------------ forms

    def best(self) -> None:
        """Best-first search at the weight of the parameters."""
        self._open(self.parameters.weight)
        self._run(self.parameters.weight)

    def best_until(self, weight: float) -> None:
        """By least bound, until what is known is within a weight of all that is open."""
        self._open(1.0)
        self._run(1.0, weight)

    def anytime(self) -> None:
        """Weighted search whose weight falls by half of what it is above 1, each time it ends."""
        weight = self.parameters.weight
        self._open(weight)
        while self._run(weight) and weight > 1.0:
            weight = 1.0 + (weight - 1.0) / 2.0
            weight = weight if weight > LEAST_WEIGHT else 1.0
            kernel.reopen(self.entries, self.nodes, self.tally, weight)

    def focal(self) -> None:
        """Focal search, a batch of states at a time."""
        parameters = self.parameters
        self.focus = make_focus(len(self.nodes.start))
        if not self._look_at_root():
            return
        kernel.put(self.nodes, self.focus, self.tally, np.zeros(1, np.int64), np.zeros(1))
        chosen = np.zeros(parameters.batch, np.int64)
        while True:
            count = kernel.take(
                self.nodes, self.focus, self.tally, self.value, parameters.weight, chosen
            )
            self.least = float(self.value[kernel.LEAST])
            self._tell()
            if count <= 0:
                self.exhausted = count == 0
                return
            left = min(count, self.limits.steps - self.steps)
            if self._spent() or not self._expand(chosen[:left], self._put) or left < count:
                return

    def beam(self) -> None:
        """Beams of growing width, until nothing is thrown away or the budget is spent."""
        width = self.parameters.width
        if not self._look_at_root():
            return
        root = kernel.Nodes(*[array[:1].copy() for array in self.nodes])
        while not self._spent():
            self.thrown_away = math.inf
            if not self._one_beam(root, width):
                return
            self.least = max(self.least, self.thrown_away)
            if self.thrown_away >= self._worth_finding():
                self.exhausted = True
                return
            width *= 2

    def guided(self) -> None:
        """Dives by the guide, and between them search by least bound until that is enough."""
        weight, width = self.parameters.weight, self.parameters.dive
        if not self._look_at_root() or self.best_cost <= weight * self.least:
            return
        room = width * len(self.space.edges)
        self.fresh = np.zeros(room, np.int64)
        self.features = np.zeros((room, kernel.FEATURES))
        self.guess = np.zeros(room)
        self.layer = np.zeros(width, np.int64)
        self.entries = make_entries(max(FIRST_ROWS, 4 * room + 4 * width))
        self.tally[kernel.UNUSED] = len(self.entries.unused)
        most = EXACT_SHARE if weight == 1.0 else FIRST_SHARE
        share = most
        cost = width * len(self.space.problem.tasks)
        if weight > 1.0:
            cost = self._dive(1)
        else:
            kernel.open_root(self.entries, self.tally, self.value, self.nodes, 1.0)
        while not self._run(1.0, weight, self.steps + math.ceil(max(1, cost) / share)):
            if self._spent() or self._memory_is_full():
                return
            before = self.best_cost
            cost = self._dive(self._most_promising())
            share = 2 * share if self.best_cost < before else share / 2
            share = min(most, max(LEAST_PART * most, share))

    def _dive(self, count: int) -> int:
        """A dive from the first nodes of ``layer``; how many were expanded."""
        guide = self.parameters.guide
        trees = guide.trees if isinstance(guide, LearnedGuide) else guide
        forest = (trees if isinstance(trees, TreeEnsemble) else NO_TREES).forest
        before, width = self.steps, len(self.layer)
        # A large layer takes milliseconds: then the clock is looked at after each.
        layers = len(self.space.problem.tasks) if len(self.space.edges) < MANY_EDGES else 1
        while count > 0:
            affordable = min(layers, (self.limits.steps - self.steps) // width)
            if self._spent() or affordable < 1:
                kernel.open_layer(
                    self.entries, self.nodes, self.tally, self.value, self.layer, count,
                    self.parameters.weight,
                )  # fmt: skip
                break
            count = kernel.dive(
                self.space.arrays, self.nodes, self.entries, self.buckets, self.scratch,
                self.tally, self.value, self.best_edge, self.best_end, forest, self._weighs,
                self.layer, count, affordable, self.fresh, self.features, self.guess,
                self.parameters.weight,
            )  # fmt: skip
            if count < 0 and len(self.nodes.start) < self.parameters.max_nodes:
                self._make_room()
                count = self._most_promising()
        self.least = self._least_open()
        self._tell()
        return self.steps - before

    def _most_promising(self) -> int:
        return int(
            kernel.most_promising(self.nodes, self.tally, self.value, self._weighs, self.layer)
        )

    @property
    def _weighs(self) -> bool:
        """Whether guesses are estimates of a plan's cost."""
        guide = self.parameters.guide
        return guide is None or (isinstance(guide, LearnedGuide) and guide.meaning == EXCESS)

    def _least_open(self) -> float:
        least = kernel.least_open(self.entries, self.nodes, self.tally)
        return min(float(least), float(self.value[kernel.DROPPED]))

    def _one_beam(self, root: kernel.Nodes, width: int) -> bool:
        """One beam; False if the budget or the memory ran out."""
        kernel.copy_rows(root, self.nodes, np.zeros(1, np.int64))
        self._forget(1)
        layer = np.zeros(1, np.int64)
        for _ in range(len(self.space.problem.tasks)):
            fresh: list[Ints] = []
            values: list[Floats] = []

            def collect(
                rows: Ints, found: Floats, fresh: list[Ints] = fresh, values: list[Floats] = values
            ) -> None:
                fresh.append(rows.copy())
                values.append(found.copy())

            if self._spent() or not self._expand(layer, collect):
                return False
            self._tell()
            rows = np.concatenate([*fresh, np.zeros(0, np.int64)])
            guide = np.concatenate([*values, np.zeros(0)])
            alive = ~self.nodes.dead[rows]
            rows, guide = rows[alive], np.where(np.isnan(guide), math.inf, guide)[alive]
            bound = self.nodes.bound[rows]
            if self.parameters.guide is None:
                guide = bound
            ranked = np.lexsort((rows, bound, guide))
            self.thrown_away = min(
                self.thrown_away, float(bound[ranked[width:]].min(initial=math.inf))
            )
            kept = np.sort(rows[ranked[:width]])
            # Rows only move to the front, in order: none is overwritten before it is copied.
            kernel.copy_rows(self.nodes, self.nodes, kept)
            self._forget(len(kept))
            layer = np.arange(len(kept))
            if not len(kept):
                break
        return True

    # ------------------------------------------------------------------ best first

    def _open(self, weight: float) -> None:
        self.entries = make_entries(max(FIRST_ROWS, 2 * len(self.space.edges) + 2))
        self.tally[kernel.UNUSED] = len(self.entries.unused)
        kernel.open_root(self.entries, self.tally, self.value, self.nodes, weight)

    def _run(self, weight: float, enough: float = 1.0, until: int | None = None) -> bool:
        """Whether the search ended by itself; then what it promises is proven.

        It also comes back at so many steps, `until`.
        """
        began = time.perf_counter()
        most_steps = self.limits.steps if until is None else min(until, self.limits.steps)
        while True:
            looked = int(self.tally[kernel.LOOKS])
            why = kernel.best_first(
                self.space.arrays, self.nodes, self.entries, self.buckets, self.scratch,
                self.tally, self.value, self.best_edge, self.best_end, weight, enough,
                most_steps, self.chunk, self.parameters.max_nodes,
            )  # fmt: skip
            now = time.perf_counter()
            self._pace(now - began, int(self.tally[kernel.LOOKS]) - looked)
            began = now
            if why == kernel.FULL:
                self._make_room()
                continue
            ends = why in (kernel.EXHAUSTED, kernel.PROMISED)
            stops = self._spent() or self._memory_is_full() or self.steps >= most_steps
            if ends or stops or why == kernel.FOUND:
                self.least = self._least_open()
                self._tell()
            if ends:
                self.exhausted = why == kernel.EXHAUSTED
                return True
            if stops:
                return False

    # ------------------------------------------------------------------ focal and beam

    def _look_at_root(self) -> bool:
        """Bound the root in full; False if nothing comes of it."""
        lives = kernel.look(self.space.arrays, self.nodes, self.scratch, 0)
        self.least = float(self.nodes.bound[0])
        if lives and self.least < self._worth_finding():
            self.value[kernel.ROOT_BOUND] = self.nodes.bound[0]
            self.value[kernel.ROOT_SPAN] = self.scratch.facts[kernel.SPAN]
            return True
        self.exhausted = True
        return False

    def _expand(self, chosen: Ints, hand_over: Callable[[Ints, Floats], None]) -> bool:
        """Expand nodes and hand over what they lead to; False if time or memory ran out."""
        guide, fresh, features = self.parameters.guide, self.fresh, self.features
        first = 0
        while first < len(chosen):
            self.tally[kernel.ROWS] = 0
            reached = kernel.expand(
                self.space.arrays, self.nodes, self.buckets, self.scratch, self.tally,
                self.value, self.best_edge, self.best_end, chosen, first, fresh, features,
                guide is not None,
            )  # fmt: skip
            count = int(self.tally[kernel.ROWS])
            if count:
                values = np.zeros(count)
                if guide is not None:
                    values = np.asarray(guide(features[:count].copy()), np.float64)
                    if values.shape != (count,):
                        raise BadRequest(
                            f"astar: the guide gave shape {values.shape} for {count} states; "
                            f"it must give ({count},)"
                        )
                hand_over(fresh[:count], values)
            elif reached < len(chosen):
                if len(self.nodes.start) >= self.parameters.max_nodes:
                    return False
                self._make_room()
            first = reached
            if time.perf_counter() > self.limits.stop_at or interruption.asked():
                return False
        return True

    def _put(self, fresh: Ints, values: Floats) -> None:
        kernel.put(self.nodes, self.focus, self.tally, fresh, values)

    def _forget(self, rows: int) -> None:
        """Empty the table of states seen, and all rows but the first."""
        self.tally[kernel.NODES], self.tally[kernel.KEPT] = rows, 0
        self.buckets[:] = -1

    # ------------------------------------------------------------------ room and time

    def _make_room(self) -> None:
        """Twice the rows where they are full, and twice the entries."""
        used = int(self.tally[kernel.NODES])
        if 2 * (used + len(self.space.edges)) > len(self.nodes.start):
            rows = 2 * len(self.nodes.start) + len(self.space.edges)
            self.nodes = kernel.Nodes(*grown(self.nodes, rows))
            self.buckets = np.full(1 << (2 * rows - 1).bit_length(), -1, np.int64)
            kernel.rehash(self.nodes, self.buckets, used)
            if self.focus is not None:
                self.focus = kernel.Focus(*grown(self.focus, rows))
        if self.entries is not None:
            size = len(self.entries.unused)
            self.entries = kernel.Entries(*grown(self.entries, 2 * size))
            unused = int(self.tally[kernel.UNUSED])
            self.entries.unused[unused : unused + size] = np.arange(size, 2 * size)
            self.tally[kernel.UNUSED] += size

    def _memory_is_full(self) -> bool:
        held = int(self.tally[kernel.OPEN] + self.tally[kernel.KEPT])
        return held > self.parameters.max_nodes

    def _spent(self) -> bool:
        late = time.perf_counter() > self.limits.stop_at
        return late or self.steps >= self.limits.steps or interruption.asked()

    def _pace(self, seconds: float, looks: int) -> None:
        """Let a chunk last as long as it should."""
        if looks and seconds > 0:
            wanted = int(looks * CHUNK_S / seconds)
            self.chunk = max(FIRST_CHUNK, min(1_000_000, wanted, 4 * self.chunk))

    # ------------------------------------------------------------------ outcome

    @property
    def steps(self) -> int:
        """States expanded."""
        return int(self.tally[kernel.STEPS])

    @property
    def best_cost(self) -> float:
        """Cost of the best schedule known."""
        return float(self.value[kernel.BEST])

    def proven(self) -> float:
        """No schedule costs less."""
        return min(self._worth_finding(), self.least)

    def schedule(self) -> Schedule | None:
        """The best schedule found, None if nothing better than the one known."""
        if (self.best_edge < 0).any():
            return None
        return self.space.schedule(self.best_edge.astype(np.int64), self.best_end)

    def _worth_finding(self) -> float:
        cost = self.best_cost
        return cost if cost == math.inf else cost - kernel.SAME * abs(cost)

    def _tell(self) -> None:
        if self.best_cost < self.reported:
            self.reported = self.best_cost
            if self.observe is not None:
                self.observe(self.best_cost, self.proven())
