"""The problem as a search for the next assignment, as the arrays of ``kernels.astar``.

A node is a partial schedule in which no task that is still to come may start before the
last one that was placed. Its edges are ``Assign(task, workers)``: precondition, the task's
predecessors are placed and there is a start, no earlier than that, at which all pieces
fit; effect, the task runs there from the earliest such start on. All terms but ``moves``
never fall when a start on given workers gets later, so some cheapest schedule is reached
by such edges. Every multiset of workers is an edge of its own: a costlier worker now may
lose to a cheaper one later.

Let O be the schedules of least (cost, sum of starts). Listed by (start, index), each task
of a schedule in O starts at the earliest moment, not before the one listed ahead of it, at
which it fits beside those listed ahead: else it could start earlier at no cost. So an edge
need not be followed if its task starts together with the last one placed and has a lower
index (unless some task may start with one that it follows: then it is listed after that one, and
every edge is followed); and of identical tasks, or of workers between which the future sees no
difference, the first will do.

A node B is dropped for a node A when A with whatever completes B has a lesser (cost, sum
of starts). That is so if both placed the same tasks and hold the same resources from now
on; A's floor is no later, nor are the ends that followers wait for; and what A has cost,
plus all it may lose to B in what is still open (longest mean wait, largest load, workers
that are on), is less, or as much with no larger sum of starts. The makespan cannot differ:
what is active is alike, and what has ended is outlived. Then if B leads to a schedule in
O, so does A.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Bools, Floats, Ints, Problem, Schedule, offsets
from plancast.planner.arrays.schedule import (
    BEYOND_CHOICE,
    FIRST_CHOICE,
    LAG,
    MOST_HERE,
    MOST_WORKERS,
    SINCE,
    WHOLE,
)
from plancast.planner.bounds.lower_bound import heads_tails
from plancast.planner.model.domain import HOUR_S, MIN_STRETCH_S
from plancast.planner.solvers.astar import kernel
from plancast.planner.solvers.astar.counted import free_at_first, in_range, with_counted

FEATURES: tuple[str, ...] = (
    "bound_rise",
    "spent_share",
    "to_come_share",
    "ready_share",
    "area_to_come",
    "path_to_come",
    "busy_share",
    "last_free",
    "free_spread",
    "mean_length",
    "longest",
    "mean_start",
    "due_share",
    "late_share",
    "least_slack",
    "wait_share",
    "barred_share",
    "barred_length",
    "now_share",
    "makespan_share",
    "rest_share",
    "idle_behind",
)
"""What a guide knows of a node, free of the size of the problem. With *span* for the root's
bound on the makespan, *floor* for the node's earliest next start, and tasks *to come*:

``bound_rise``
    Bound over the root's bound.
``spent_share``
    Price of what is placed over the bound.
``to_come_share``, ``ready_share``
    Tasks to come over all; of these, those whose predecessors are placed.
``area_to_come``
    Work to come over what all workers have, largest over resources, in spans.
``path_to_come``
    From floor to the least end of everything, in spans.
``busy_share``
    What is active at the floor over what all workers have, largest over resources.
``last_free``, ``free_spread``
    From floor until the last worker comes free; that less the mean over workers; in spans.
``mean_length``, ``longest``
    Shortest durations of the tasks to come, in spans.
``mean_start``
    From floor to the tasks' earliest starts, mean, in spans.
``due_share``, ``late_share``
    Tasks to come with a deadline; of these, those that will be late.
``least_slack``
    Least of deadline less earliest end, in spans, within [-10, 10]; 10 without deadlines.
``wait_share``
    Least price of what is still to be waited over the bound.
``barred_share``, ``barred_length``
    Tasks to come that fit at the floor but may no longer start there, since tasks of one start
    are placed in the order of their index; over those to come; their shortest durations over the
    workers, in spans.
``now_share``
    Tasks to come that fit at the floor and may start there, over those to come.
``makespan_share``, ``rest_share``
    Price of the makespan, and least own costs of the tasks to come, over the bound.
``idle_behind``
    Of what all workers have until the floor, the share that no task took (of the first resource).
"""


MOST_SETS = 6
"""Sets of workers whose work is added up, besides all."""


@dataclass(frozen=True, eq=False, slots=True)
class Assign:
    """An edge: a task on one multiset of workers.

    Parameters
    ----------
    task : int
    workers : tuple of int
        One for each shard.
    duration : int
        Seconds: that of the slowest piece.
    """

    task: int
    workers: tuple[int, ...]
    duration: int


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A problem as the kernels of the search see it.

    Parameters
    ----------
    problem : Problem
    arrays : kernels.astar.Space
    edges : list of Assign
        In the order of the arrays.
    """

    problem: Problem
    arrays: kernel.Space
    edges: list[Assign]

    def schedule(self, edge: Ints, end: Ints) -> Schedule:
        """The schedule of an edge and an end for every task. Shapes (tasks,)."""
        ptr = self.problem.shard_ptr
        worker = np.zeros(int(ptr[-1]), np.int64)
        for i, e in enumerate(edge):
            worker[ptr[i] : ptr[i + 1]] = self.edges[e].workers
        return Schedule(end - self.arrays.duration[edge], end.copy(), worker)


def edges_of(problem: Problem) -> int:
    """How many pairs of a task and a multiset of workers a problem has, capacity aside."""
    able = problem.allowed.sum(axis=1)[problem.kind]
    return sum(
        math.comb(int(w) + int(k) - 1, int(k)) for w, k in zip(able, problem.shards, strict=True)
    )


def search_space(problem: Problem, stop_at: float = math.inf) -> SearchSpace:
    """The arrays of a problem.

    Parameters
    ----------
    problem : Problem
    stop_at : float
        ``time.perf_counter()`` at which to give up listing the edges.

    Raises
    ------
    TimeoutError
        When there are too many edges to list them in time.
    """
    tasks = len(problem.tasks)
    rates = problem.rates
    idle_price = rates.idle
    # What is on already, though all that runs there is preempted, need not be booted.
    boot_price = np.where(problem.on, 0.0, rates.boot)
    edges: list[Assign] = []
    per_task = []
    for i in range(tasks):
        mine = list(_edges_of(problem, i))
        edges += mine
        per_task.append(len(mine))
        if time.perf_counter() > stop_at:
            raise TimeoutError
    columns = _edge_arrays(problem, edges)
    least_slope = np.full(tasks, math.inf)
    np.minimum.at(least_slope, columns["edge_task"], columns["slope"])
    least_slope[np.isinf(least_slope)] = 0.0
    work, room, held, shared = _work_columns(problem, columns)
    group, free_from = _worker_groups(problem, idle_price, boot_price), problem.free_from
    if problem.counted:
        columns, (work, room, held, shared) = with_counted(
            problem, columns, (work, room, held, shared)
        )
        group = np.append(group, group.max() + 1)
        free_from, idle_price, boot_price = (
            np.pad(values, (0, 1)) for values in (free_from, idle_price, boot_price)
        )
    density = least_slope[:, None] / np.maximum(work, 1)
    _, tail = heads_tails(problem)
    follows = np.flatnonzero(np.diff(problem.link_ptr) > 0)
    arrays = kernel.Space(
        release=problem.release, raw_release=problem.raw_release, deadline=problem.deadline,
        owner=problem.owner, late_price=rates.late * problem.weight,
        miss_price=rates.miss * problem.weight, pred_ptr=problem.link_ptr, pred=problem.link,
        starts_with=bool(((problem.link[:, SINCE] == 0) & (problem.link[:, LAG] == 0)).any()),
        order=priority_order(np.zeros(tasks), problem.link_ptr, problem.before),
        after=tail - problem.shortest, twin=_twins(problem), follows=follows,
        shortest=problem.shortest, work=work, room=room, held=held, least_slope=least_slope,
        by_density=np.argsort(-density, axis=0, kind="stable").T.copy(), shared=shared,
        edge_ptr=offsets(per_task), free_from=free_from,
        idle_price=idle_price, boot_price=boot_price, group=group,
        by_group=np.argsort(group, kind="stable"), owner_tasks=problem.owner_tasks,
        has_alike=len(np.unique(group)) < len(group), makespan_price=rates.end,
        unfair_price=rates.owner, load_price=HOUR_S * rates.load,
        prices_power=bool(idle_price.any() or boot_price.any()), **columns,
        **free_at_first(problem),
    )  # fmt: skip
    return SearchSpace(problem, arrays, edges)


def _edges_of(problem: Problem, i: int) -> Iterator[Assign]:
    on_worker = problem.durations_on(i)
    able = np.flatnonzero(on_worker).tolist()
    if problem.shards[i] == 1:
        for w in able:
            yield Assign(i, (w,), int(on_worker[w]))
        return
    demand, capacity, gang = problem.demand[i], problem.capacity, problem.gang[i]
    choices = range(gang[FIRST_CHOICE], gang[BEYOND_CHOICE])
    for workers in combinations_with_replacement(able, int(problem.shards[i])):
        counts = {w: workers.count(w) for w in workers}
        if len(counts) > gang[MOST_WORKERS] or max(counts.values()) > gang[MOST_HERE]:
            continue
        if choices and not any(problem.allowed[row, list(counts)].all() for row in choices):
            continue
        if all((n * demand <= capacity[w]).all() for w, n in counts.items()):
            yield Assign(i, workers, max(int(on_worker[w]) for w in workers))


def _edge_arrays(problem: Problem, edges: list[Assign]) -> dict[str, Any]:
    """What an edge costs and takes; ``fixed + slope * start`` is its own cost, lateness aside.

    Notes
    -----
    ``w (s - r)`` for the wait, ``w (s + d - r) / max(d, 10)`` for the stretch.
    """
    rates = problem.rates
    task = np.array([e.task for e in edges], np.int64)
    duration = np.array([e.duration for e in edges], np.int64)
    stretch = problem.weight[task] * rates.slowdown / np.maximum(duration, MIN_STRETCH_S)
    slope = problem.weight[task] * rates.wait + stretch
    fixed = stretch * duration - slope * problem.raw_release[task]
    counts = [[(w, e.workers.count(w)) for w in dict.fromkeys(e.workers)] for e in edges]
    size = np.array([len(c) for c in counts], np.int64)
    worker = np.array([w for c in counts for w, _ in c], np.int64)
    number = np.array([n for c in counts for _, n in c], np.int64)
    of_edge = np.repeat(np.arange(len(edges)), size)
    hours = duration[of_edge] / HOUR_S
    share = problem.share[problem.kind[task[of_edge]], worker]
    busy = rates.busy[worker] * share * duration[of_edge]
    failures = 1.0 - problem.health[worker] ** hours
    fixed += np.bincount(of_edge, number * (busy + rates.fail * failures), minlength=len(edges))
    amounts = number[:, None] * problem.demand[task[of_edge]]
    whole = problem.gang[task[of_edge], WHOLE]
    amounts[whole > 0, -1] = whole[whole > 0]
    demand, demand_of = np.unique(
        amounts.reshape(len(worker), len(problem.resources)), axis=0, return_inverse=True
    )
    latest = {
        (int(i), int(d)): problem.latest_start(int(i), int(d))
        for i, d in {*zip(task.tolist(), duration.tolist(), strict=True)}
    }
    return {
        "edge_task": task,
        "duration": duration,
        "latest": np.array([latest[e.task, e.duration] for e in edges], np.int64),
        "due": problem.deadline[task] - duration,
        "fixed": fixed,
        "slope": slope,
        "piece_ptr": offsets(size),
        "piece_worker": worker,
        "piece_demand": demand_of.reshape(-1).astype(np.int64),
        "piece_count": number,
        "piece_load": number * HOUR_S * rates.load * share * hours,
        "demand": demand.astype(np.int64),
    }


def _work_columns(problem: Problem, columns: dict[str, Any]) -> tuple[Ints, Ints, Ints, Ints]:
    """Amounts of work that no more than so many can be done of in a second.

    Parameters
    ----------
    problem : Problem
    columns : dict
        The arrays of the edges.

    Returns
    -------
    work : int64 (tasks, columns)
        Amount times seconds, by the shortest duration.
    room : int64 (columns,)
    held : int64 (workers, demands, columns)
        The amount of each demand while it is active on a worker.
    shared : int64 (k,)
        Columns of all workers.

    Notes
    -----
    A column is a set of workers (all, and those of each task), a resource and a dual feasible
    function f: what fits a worker side by side, each taking the share x of it, has a sum of
    f(x) of at most 1. Work counts if its task may only be on workers of the set, at the least f
    of these. f(x) is x; and for k = 1, 2 it is x where (k + 1) x is whole, else
    ``floor((k + 1) x) / k``: of tasks that take more than half a worker each holds one alone.

    References
    ----------
    Fekete, Schepers (2001), "New classes of fast lower bounds for bin packing problems",
    doi:10.1007/s101070100243.
    """
    tasks = len(problem.tasks)
    capacity, demand = problem.capacity, columns["demand"]
    holders = _most_holders(columns)
    able = np.array([problem.durations_on(i) > 0 for i in range(tasks)])
    able = able.reshape(tasks, len(capacity))
    everywhere = np.ones((1, len(capacity)), np.bool_)
    sets, members = np.unique(able, axis=0, return_counts=True)
    sets = sets[np.argsort(-members, kind="stable")[:MOST_SETS]]
    sets = np.vstack([everywhere, sets[~sets.all(axis=1)]])
    seconds = problem.shortest * problem.shards
    found: list[tuple[Ints, int, Ints, bool]] = []
    for number, workers in enumerate(sets):
        inside = ~(able & ~workers).any(axis=1)
        for r in range(len(problem.resources)):
            has = workers & (capacity[:, r] > 0)
            for k in range(3 if has.any() else 0):
                on_worker = _dual_feasible(problem.demand[:, r, None], capacity[None, :, r], k)
                least = np.where(able & has, on_worker, np.iinfo(np.int64).max).min(axis=1)
                amount = np.where(inside & (problem.demand[:, r] > 0), least, 0)
                room = int(capacity[has, r].sum()) if k == 0 else int(has.sum()) * k * (k + 1)
                active = _dual_feasible(demand[None, :, r], capacity[:, None, r], k)
                active = np.where(has[:, None], active, 0)
                if amount.any() or number == 0:
                    amount, room, active = in_range(amount, problem, room, active)
                    found.append((amount * seconds, room, active, number == 0))
        alone = _clique(problem, demand, holders, workers, inside)
        if alone.any():
            of_task = _rows_of(demand, problem.demand)
            amount = alone[of_task] & inside & (of_task >= 0)
            active = np.where(workers[:, None] & alone[None, :], 1, 0)
            found.append((amount * seconds, int(workers.sum()), active, number == 0))
    if not found:
        nothing = np.zeros(0, np.int64)
        shape = (len(capacity), len(demand), 0)
        return np.zeros((tasks, 0), np.int64), nothing, np.zeros(shape, np.int64), nothing
    return (
        np.array([f[0] for f in found], np.int64).T.copy(),
        np.array([f[1] for f in found], np.int64),
        np.stack([f[2] for f in found], axis=2).astype(np.int64),
        np.array([k for k, f in enumerate(found) if f[3] and f[0].any()], np.int64),
    )


def _rows_of(table: Ints, rows: Ints) -> Ints:
    """Index in `table` of each row, -1 where it is not there. Shape (rows,)."""
    index = {row.tobytes(): k for k, row in enumerate(table)}
    return np.array([index.get(row.tobytes(), -1) for row in rows], np.int64)


def _most_holders(columns: dict[str, Any]) -> Ints:
    """How many workers may hold each demand at once, if none holds it twice. Shape (demands,)."""
    demands = len(columns["demand"])
    edges = np.repeat(np.arange(len(columns["edge_task"])), np.diff(columns["piece_ptr"]))
    pieces, count = np.unique(edges * demands + columns["piece_demand"], return_counts=True)
    task = columns["edge_task"][pieces // max(demands, 1)]
    most = np.zeros((int(columns["edge_task"].max(initial=-1)) + 1, demands), np.int64)
    np.maximum.at(most, (task, pieces % max(demands, 1)), count)
    return most.sum(axis=0)


def _clique(problem: Problem, demand: Ints, holders: Ints, workers: Bools, inside: Bools) -> Bools:
    """Demands of which no two fit side by side on any of some workers. Shape (demands,).

    Taken greedily, the most seconds of tasks first. A demand that fits beside itself may be
    among them only if it is never held twice at once (by two tasks, by pieces of a gang, or by
    a task and as much in two pieces of another).
    """
    of_task = _rows_of(demand, problem.demand)
    # A gang that is only ever on one worker has no single piece in the table.
    of_task, known = of_task[of_task >= 0], of_task >= 0
    seconds = np.bincount(of_task, (problem.shortest * inside)[known], minlength=len(demand))
    pieces = np.bincount(of_task, problem.shards[known], minlength=len(demand))
    once = (holders <= 1) & (pieces <= 1)
    capacity = problem.capacity[workers]
    fits: Bools = np.all(demand[:, None] <= capacity[None], axis=2)
    chosen: list[int] = []
    for d in np.argsort(-seconds, kind="stable"):
        beside: Bools = np.all(demand[:, None] + demand[d] <= capacity[None], axis=2)
        together = set(np.flatnonzero((beside & fits & fits[d]).any(axis=1)).tolist())
        if seconds[d] and together.isdisjoint(chosen) and (once[d] or d not in together):
            chosen.append(int(d))
    return np.isin(np.arange(len(demand)), chosen if len(chosen) > 1 else [])


def _dual_feasible(amount: Ints, capacity: Ints, k: int) -> Ints:
    """A dual feasible function of amount over capacity, in units of 1 / (k (k + 1)); 0: amount."""
    if k == 0:
        return np.broadcast_to(amount, np.broadcast_shapes(amount.shape, capacity.shape))
    times = (k + 1) * amount
    whole, left = np.divmod(times, np.maximum(capacity, 1))
    return np.where(left == 0, k * whole, (k + 1) * whole)


def _twins(problem: Problem) -> Ints:
    """For each task the last identical one before it, or -1. Shape (tasks,)."""
    tasks = len(problem.tasks)
    ptr = problem.link_ptr.tolist()
    rows = [tuple(row) for row in problem.link.tolist()]
    preds = [tuple(sorted(rows[ptr[i] : ptr[i + 1]])) for i in range(tasks)]
    followers: list[list[tuple[int, ...]]] = [[] for _ in range(tasks)]
    for i, before in enumerate(preds):
        for p, *how in before:
            followers[p].append((i, *how))
    last: dict[object, int] = {}
    twins = np.full(tasks, -1, np.int64)
    for i in range(tasks):
        key = (
            int(problem.kind[i]), int(problem.release[i]), int(problem.raw_release[i]),
            int(problem.deadline[i]), float(problem.weight[i]), int(problem.shards[i]),
            int(problem.owner[i]), tuple(problem.duration[i].tolist()), preds[i],
            tuple(followers[i]), int(problem.hard_end[i]), int(problem.last_start[i]),
            problem.takes[i].tobytes(),
            problem.gang[i].tobytes(),
        )  # fmt: skip
        twins[i] = last.get(key, -1)
        last[key] = i
    return twins


def _worker_groups(problem: Problem, idle_price: Floats, boot_price: Floats) -> Ints:
    """The group of each worker; within one they differ in nothing but what is placed on them."""
    times, free, count = problem.profile()
    groups: dict[object, int] = {}
    result = np.zeros(len(count), np.int64)
    for w in range(len(count)):
        key = (
            times[w, : count[w]].tobytes(), free[w, : count[w]].tobytes(),
            int(problem.worker_class[w]), int(problem.free_from[w]),
            problem.allowed[:, w].tobytes(), problem.share[:, w].tobytes(),
            float(idle_price[w]), float(boot_price[w]), float(problem.rates.busy[w]),
            float(problem.health[w]), int(problem.last_end[w]), float(problem.load_h[w]),
            problem.capacity[w].tobytes(),
        )  # fmt: skip
        result[w] = groups.setdefault(key, len(groups))
    return result


# --------------------------------------------------------------------------- room


def root_of(space: SearchSpace, nodes: kernel.Nodes, bound: float) -> None:
    """Make row 0 the node at which nothing is placed, given a bound on any schedule's cost."""
    problem, arrays = space.problem, space.arrays
    on_s = np.where(
        problem.last_end > 0, np.maximum(0, problem.last_end - problem.free_from), 0
    ).astype(np.float64)
    nodes.edge[0], nodes.end[0] = -1, 0
    nodes.start[0], nodes.placed[0], nodes.sum_starts[0] = 0, 0, 0
    nodes.makespan[0] = problem.last_end.max()
    # What is counted, as a worker, has no place here.
    nodes.last_end[0] = 0
    nodes.last_end[0, : len(problem.last_end)] = problem.last_end
    nodes.add[0] = problem.rates.fixed + float((on_s * arrays.idle_price[: len(on_s)]).sum())
    nodes.bound[0] = bound
    nodes.waits[0] = problem.owner_wait_h * HOUR_S
    nodes.loads[0] = 0.0
    nodes.loads[0, : len(problem.load_h)] = HOUR_S * problem.rates.load * problem.load_h
    nodes.tie[0], nodes.kept[0], nodes.dead[0], nodes.shut[0] = -1, False, False, False


def make_nodes(space: SearchSpace, rows: int) -> kernel.Nodes:
    """Room for so many nodes."""
    problem = space.problem
    tasks, workers = len(problem.tasks), len(space.arrays.segments)

    def ints() -> Ints:
        return np.zeros(rows, np.int64)

    return kernel.Nodes(
        edge=np.full((rows, tasks), -1, np.int32), end=np.zeros((rows, tasks), np.int64),
        start=ints(), placed=ints(), makespan=ints(), sum_starts=ints(), floor=ints(),
        tie=ints(), last_end=np.zeros((rows, workers), np.int64),
        order=np.zeros((rows, workers), np.int32), add=np.zeros(rows), bound=np.zeros(rows),
        waits=np.zeros((rows, len(problem.owners))), loads=np.zeros((rows, workers)),
        hash=np.zeros(rows, np.uint64), next=ints(), kept=np.zeros(rows, np.bool_),
        dead=np.zeros(rows, np.bool_), shut=np.zeros(rows, np.bool_), guess=np.full(rows, np.nan),
    )  # fmt: skip


def make_entries(size: int) -> kernel.Entries:
    """Room for so many open entries; all are unused."""

    def ints() -> Ints:
        return np.zeros(size, np.int64)

    return kernel.Entries(
        bound=np.zeros(size), so_far=np.zeros(size), parent=ints(), edge=ints(), start=ints(),
        node=ints(), unused=np.arange(size)[::-1].copy(), key=np.zeros(size), rank=ints(),
        item=ints(),
    )  # fmt: skip


def make_focus(rows: int) -> kernel.Focus:
    """Room for the focal lists of so many nodes."""

    def ints() -> Ints:
        return np.zeros(rows, np.int64)

    return kernel.Focus(
        guide=np.zeros(rows), closed=np.zeros(rows, np.bool_), open_key=np.zeros(rows),
        open_rank=ints(), open_item=ints(), waiting_key=np.zeros(rows), waiting_rank=ints(),
        waiting_item=ints(), focal_key=np.zeros(rows), focal_rank=ints(), focal_item=ints(),
    )  # fmt: skip


def make_scratch(space: SearchSpace) -> kernel.Scratch:
    """Room to work in."""
    problem, arrays = space.problem, space.arrays
    tasks, workers = len(problem.tasks), len(space.arrays.segments)
    edges = len(space.edges)
    widest = np.zeros(tasks, np.int64)
    np.maximum.at(widest, arrays.edge_task, np.diff(arrays.piece_ptr))
    pieces = int(widest.sum()) + 1

    def ints(*shape: int) -> Ints:
        return np.zeros(shape, np.int64)

    return kernel.Scratch(
        active=ints(workers), until=ints(workers, tasks), held=ints(workers, tasks),
        alike=ints(workers), opt_end=ints(tasks), opt_start=ints(tasks), own=np.zeros(tasks),
        waits=np.zeros(len(problem.owners)), work=ints(len(arrays.room)),
        edges=ints(edges), begins=ints(edges), listed=ints(1), facts=np.zeros(4),
        place=ints(workers), triples=ints(3, pieces), rival=ints(3, pieces),
        child_edge=ints(edges), child_start=ints(edges),
    )  # fmt: skip


def grown(arrays: tuple[np.ndarray, ...], rows: int) -> list[np.ndarray]:
    """The arrays with more rows; what is new is zero."""
    result = []
    for old in arrays:
        new = np.zeros((rows, *old.shape[1:]), old.dtype)
        new[: len(old)] = old
        result.append(new)
    return result
