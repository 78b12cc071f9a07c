"""States of the search with the cost of the best plan that continues each: lessons for a guide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.problem import Bools, Floats, Ints, Problem
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.solvers.astar import kernel
from plancast.planner.solvers.astar.astar import AStar, Limits, Search
from plancast.planner.solvers.astar.space import (
    SearchSpace,
    make_nodes,
    make_scratch,
    root_of,
    search_space,
)

COSTLIEST = 1.3
"""A state is not looked into for plans that cost more than so many times the best known."""
LIKELY, OTHERS = 8, 4
"""Successors of a state that are looked into: so many of least bound, and so many others."""
LEAST_EXPANSIONS = 2
"""A problem that takes fewer expansions for each task than this has nothing to teach."""
SHARPNESS = 20.0
"""How steeply the chance of a wrong turn falls with what the bound has against it."""


@dataclass(frozen=True, eq=False)
class States:
    """Successors of states on and off the best trajectory of one problem.

    Parameters
    ----------
    features : float64 (n, features)
        As ``search.FEATURES`` names them.
    bound : float64 (n,)
        No plan that continues the state costs less.
    cost : float64 (n,)
        The cheapest plan found that continues it; at most ``COSTLIEST`` times `best`.
    exact : bool (n,)
        Whether that is proven to be the cheapest (or that all cost more than that).
    chosen : bool (n,)
        Whether no sibling leads to a cheaper plan.
    parent, placed : int64 (n,)
        Number of the state that it follows; tasks placed.
    best : float
        Cost of the cheapest plan of the problem that was found.
    proven : bool
        Whether it is the cheapest.
    expansions : int
        That exact A* took, or had made when it was stopped.
    """

    features: Floats
    bound: Floats
    cost: Floats
    exact: Bools
    chosen: Bools
    parent: Ints
    placed: Ints
    best: float
    proven: bool
    expansions: int


def states_of(
    problem: Problem,
    rng: np.random.Generator,
    *,
    turns: int = 1,
    root_steps: int = 20_000,
    steps: int = 1_000,
) -> States | None:
    """States of a problem with the cost of what continues them.

    Parameters
    ----------
    problem : Problem
    rng : numpy Generator
    turns : int
        Wrong turns that are taken from each state of the best trajectory, and followed to the
        end.
    root_steps, steps : int
        Expansions that may be spent on the whole problem, and on one state.

    Returns
    -------
    States or None
        None where no plan was found, or the bound alone leads to the best one.

    Notes
    -----
    The cost of a state is that of an exact A* which begins there; where it is stopped, that of
    the best plan its dives found.
    """
    space = search_space(problem)
    root_bound = lower_bound(problem)
    whole = _searched(space, root_bound, None, 0, math.inf, root_steps)
    schedule = whole.schedule()
    easy = whole.steps < LEAST_EXPANSIONS * len(problem.tasks)
    if schedule is None or easy or whole.best_cost <= 0.0:
        return None
    walk = _Walk(space, root_bound, whole.best_cost, steps, rng)
    s = 0
    # In a trajectory tasks come by (start, index).
    for i in np.lexsort((np.arange(len(schedule.start)), schedule.start)):
        step = int(whole.best_edge[i]), int(schedule.start[i])
        below = walk.expand(s)
        for _ in range(turns):
            walk.astray(s, [turn for turn in below if turn[:2] != step])
        s = walk.step(s, *step)
    return walk.states(whole)


def _searched(
    space: SearchSpace,
    root_bound: float,
    nodes: kernel.Nodes | None,
    s: int,
    cap: float,
    steps: int,
) -> Search:
    """The search for plans below `cap` from a node of `nodes`, or from the root."""
    parameters = AStar(form="guided", weight=1.0)
    search = Search(parameters, space, root_bound, cap, None, Limits(math.inf, steps))
    if nodes is not None:
        kernel.copy_rows(nodes, search.nodes, np.array([s]))
    search.guided()
    return search


class _Walk:
    """Nodes of one problem, expanded one by one, and what became of their successors."""

    def __init__(
        self,
        space: SearchSpace,
        root_bound: float,
        best: float,
        steps: int,
        rng: np.random.Generator,
    ) -> None:
        self.space, self.root_bound, self.best = space, root_bound, best
        self.steps, self.rng = steps, rng
        self.cap = COSTLIEST * best * (1.0 + kernel.SAME)
        tasks, edges = len(space.problem.tasks), len(space.edges)
        self.nodes = make_nodes(space, 2 + (tasks + 1) * (tasks + 1) + 2 * edges)
        self.scratch = make_scratch(space)
        root_of(space, self.nodes, root_bound)
        kernel.look(space.arrays, self.nodes, self.scratch, 0)
        self.value = np.array(
            [math.inf, math.inf, self.nodes.bound[0], self.scratch.facts[kernel.SPAN], math.inf]
        )
        self.used, self.parents = 1, 0
        self.rows: list[dict[str, np.ndarray]] = []

    def step(self, s: int, edge: int, start: int) -> int:
        """The node that an edge leads to, looked at; it stays."""
        kernel.assign(self.space.arrays, self.nodes, s, edge, start, self.used)
        kernel.look(self.space.arrays, self.nodes, self.scratch, self.used)
        self.used += 1
        return self.used - 1

    def expand(self, s: int) -> list[tuple[int, int, float]]:
        """Note the successors of a node with their costs; (edge, start, bound) of each."""
        tally = np.zeros(10, np.int64)
        tally[kernel.NODES] = self.used
        edges = len(self.space.edges)
        fresh = np.zeros(edges + 1, np.int64)
        features = np.zeros((edges + 1, kernel.FEATURES))
        buckets = np.full(64, -1, np.int64)
        tasks = len(self.space.problem.tasks)
        nothing = np.full(tasks, -1, np.int64)
        self.value[kernel.BEST] = math.inf
        kernel.expand(
            self.space.arrays, self.nodes, buckets, self.scratch, tally, self.value, nothing,
            np.zeros(tasks, np.int64), np.array([s]), 0, fresh, features, True,
        )  # fmt: skip
        count = int(tally[kernel.ROWS])
        places = np.arange(count)
        bound = self.nodes.bound[fresh[:count]]
        places = places[~self.nodes.dead[fresh[:count]] & (bound < self.cap)]
        ranked = places[np.argsort(bound[places], kind="stable")]
        others = self.rng.permutation(ranked[LIKELY:])[:OTHERS]
        places = np.sort(np.concatenate([ranked[:LIKELY], others]))
        if not len(places):
            return []
        rows, found = fresh[places], features[places]
        cost, exact = np.zeros(len(rows)), np.zeros(len(rows), np.bool_)
        for k, row in enumerate(rows):
            search = _searched(
                self.space, self.root_bound, self.nodes, int(row), self.cap, self.steps
            )
            cost[k], exact[k] = search.best_cost, search.exhausted
        self.rows.append(
            {
                "features": found, "bound": self.nodes.bound[rows].copy(), "cost": cost,
                "exact": exact, "chosen": cost <= cost.min() * (1.0 + 1e-9),
                "parent": np.full(len(rows), self.parents),
                "placed": self.nodes.placed[rows].copy(),
            }
        )  # fmt: skip
        self.parents += 1
        return [(*self._edge(s, int(row)), float(self.nodes.bound[row])) for row in rows]

    def _edge(self, s: int, row: int) -> tuple[int, int]:
        """The edge and the start that lead from a node to its successor."""
        task = int(np.flatnonzero(self.nodes.edge[row] != self.nodes.edge[s])[0])
        return int(self.nodes.edge[row, task]), int(self.nodes.start[row])

    def astray(self, s: int, turns: list[tuple[int, int, float]]) -> None:
        """Take one of the turns from a node and go on likewise, expanding what is met."""
        used = self.used
        while turns:
            bound = np.array([turn[2] for turn in turns])
            chance = np.exp(-SHARPNESS * (bound - bound.min()) / self.best)
            edge, start, _ = turns[int(self.rng.choice(len(turns), p=chance / chance.sum()))]
            s = self.step(s, edge, start)
            turns = self.expand(s)
        self.used = used

    def states(self, whole: Search) -> States:
        """All that was noted."""
        columns = {name: np.concatenate([row[name] for row in self.rows]) for name in self.rows[0]}
        return States(
            **columns, best=whole.best_cost, proven=whole.exhausted, expansions=whole.steps
        )
