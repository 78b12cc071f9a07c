"""A* over assignments: which task starts next, and on which workers.

A node is a partial schedule in which no task that is still to come may start before the
last one that was placed. An edge, *Assign(task, workers)*, needs the task's predecessors
placed and a start, no earlier than that, at which all its pieces fit; it takes the
earliest such start. All terms but ``moves`` never fall when a start on given workers gets
later, so some cheapest schedule is made of such edges; ``_Search`` says why none is lost
by its cuts. Every multiset of workers is an edge of its own: a dearer worker now may lose
to a cheaper one later.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import ClassVar

import numpy as np

from planner.bounds import heads_tails, lower_bound
from planner.domain import MIN_STRETCH_S, BadRequest
from planner.evaluate import HOUR_S, WATT_SECONDS_PER_KWH
from planner.kernels.graph import priority_order
from planner.kernels.schedule import FAR
from planner.messages import Budget, Status
from planner.problem import Problem, Schedule
from planner.solvers.base import ALL_BUT_MOVES, Observe, Solution

SAME = 1e-9
"""Costs that differ by less than this, relative, count as equal."""

Active = tuple[tuple[int, int], ...]
"""(end, packed demand) of what a worker holds beyond the start of the last task placed."""


@dataclass(frozen=True)
class AStar:
    """Best-first search that proves its plan optimal when it ends by itself.

    Parameters
    ----------
    weight : float
        1 for A*; above 1 for weighted A*, which trusts the bound of what is still to come
        that much more, and ends with a plan of at most `weight` times the least cost.
    max_nodes : int
        Nodes that may be held in memory; the search stops with what it has beyond.
    """

    name: ClassVar[str] = "astar"
    exact_terms: ClassVar[frozenset[str]] = ALL_BUT_MOVES
    weight: float = 1.0
    max_nodes: int = 500_000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 1):
            raise BadRequest(f"astar: weight is {self.weight}; it must be finite, 1 or more")
        if self.max_nodes < 1:
            raise BadRequest(f"astar: max_nodes is {self.max_nodes}; it must be 1 or more")

    def solve(
        self,
        problem: Problem,
        *,
        budget: Budget,
        rng: np.random.Generator,
        incumbent: Schedule | None = None,
        observe: Observe | None = None,
    ) -> Solution:
        """See ``Solver.solve``; a step is an expanded node, and `rng` is not needed."""
        began = time.perf_counter()
        stop_at = math.inf if budget.seconds is None else began + budget.seconds
        best_cost = math.inf if incumbent is None else problem.cost(incumbent)
        root_bound = lower_bound(problem)
        try:
            if _edges(problem) > self.max_nodes:
                raise TimeoutError
            tables = _Tables(problem, stop_at)
        except TimeoutError:
            return _solution(incumbent, best_cost, root_bound, False, 0)
        search = _Search(tables, self.weight, root_bound, best_cost, observe)
        most = math.inf if budget.steps is None else budget.steps
        search.run(most, stop_at, self.max_nodes)
        found = incumbent if search.best is None else tables.schedule(search.best)
        return _solution(
            found, search.best_cost, search.proven(), search.exhausted, search.steps
        )


def _edges(problem: Problem) -> int:
    """How many (task, worker multiset) pairs there are, workers too slow or small included."""
    workers = problem.allowed.sum(axis=1)[problem.kind]
    return sum(
        math.comb(int(w) + int(k) - 1, int(k))
        for w, k in zip(workers, problem.shards, strict=True)
    )


def _solution(
    schedule: Schedule | None, cost: float, bound: float, exhausted: bool, steps: int
) -> Solution:
    if schedule is None:
        status = Status.INFEASIBLE if exhausted else Status.NO_PLAN_IN_TIME
        return Solution(status, None, bound, None, steps)
    proven = cost - bound <= 2 * SAME * abs(cost)
    status = Status.OPTIMAL if proven else Status.FEASIBLE
    return Solution(status, schedule, min(bound, cost), cost, steps)


@dataclass(frozen=True, eq=False, slots=True)
class _Option:
    """One worker multiset for a task, and all about it that does not depend on the start."""

    task: int
    pieces: tuple[tuple[int, int], ...]
    """(worker, packed demand of the pieces on it)."""
    workers: tuple[int, ...]
    loads: tuple[tuple[int, float], ...]
    """(worker, priced load)."""
    load: float
    duration: int
    latest: int
    due: int
    """Start from which on the task is late."""
    fixed: float
    slope: float
    """Own cost, lateness aside: ``fixed + slope * start``."""


class _Tables:
    """The problem as Python numbers, priced: what a node's arithmetic reads.

    The amounts of all resources are packed into one integer, a field each with a guard bit
    on top: a difference that falls below 0 clears its guard.
    """

    def __init__(self, problem: Problem, stop_at: float) -> None:
        self.problem = problem
        price = [float(p) for p in problem.prices]
        self.makespan_price = price[0] / HOUR_S
        self.unfair_price = price[6] / HOUR_S
        kwh = price[5] / WATT_SECONDS_PER_KWH
        self.idle_price = [kwh * float(p) for p in problem.idle_w]
        self.boot_price = [price[5] * float(p) for p in problem.boot_kwh]
        self.load_price = price[7]
        self.prices_power = any(self.idle_price) or any(self.boot_price)
        self.late_price = [price[1] * float(w) / HOUR_S for w in problem.weight]
        self.miss_price = [price[2] * float(w) for w in problem.weight]

        largest = int(max(problem.capacity.max(initial=0), problem.demand.max(initial=0), 1))
        self.width = (3 * largest).bit_length() + 1
        self.guards = sum(1 << (self.width * (r + 1) - 1) for r in range(len(problem.resources)))
        self.capacity = [int(c) for c in problem.capacity.sum(axis=0)]
        times, free, count = problem.profile()
        self.segments = [
            tuple(
                (
                    int(times[w, k]),
                    int(times[w, k + 1]) if k + 1 < count[w] else FAR,
                    self.guards + self._packed(free[w, k]),
                )
                for k in range(count[w])
            )
            for w in range(len(problem.workers))
        ]
        self.free_from = [int(t) for t in problem.free_from]
        self.release = [int(t) for t in problem.release]
        self.raw_release = [int(t) for t in problem.raw_release]
        self.owner = [int(o) for o in problem.owner]
        self.owner_tasks = [float(n) for n in problem.owner_tasks]
        tasks = range(len(problem.tasks))
        self.preds = [tuple(int(p) for p in problem.predecessors(i)) for i in tasks]
        zeros = np.zeros(len(problem.tasks))
        self.followers = [i for i in tasks if self.preds[i]]
        self.order = [int(i) for i in priority_order(zeros, problem.pred_ptr, problem.pred)]
        _, tail = heads_tails(problem)
        self.tail = [int(t) for t in tail - problem.shortest]
        area = problem.demand * (problem.shortest * problem.shards)[:, None]
        self.area = [tuple(int(a) for a in row) for row in area]
        self.options: list[list[_Option]] = []
        for i in tasks:
            self.options.append(list(self._options(i, price)))
            if time.perf_counter() > stop_at:
                raise TimeoutError
        self.twin = self._twins()
        self.worker_group = self._worker_groups()
        self.twin_workers = len(set(self.worker_group)) < len(self.worker_group)

    def _packed(self, amounts: np.ndarray) -> int:
        return sum(int(a) << (self.width * r) for r, a in enumerate(amounts))

    def _options(self, i: int, price: list[float]) -> Iterator[_Option]:
        problem = self.problem
        on_worker = problem.durations_on(i)
        weight, release = float(problem.weight[i]), self.raw_release[i]
        kind, deadline = problem.kind[i], int(problem.deadline[i])
        able = [int(w) for w in np.flatnonzero(on_worker)]
        for workers in combinations_with_replacement(able, int(problem.shards[i])):
            counts = {w: workers.count(w) for w in workers}
            if any((n * problem.demand[i] > problem.capacity[w]).any() for w, n in counts.items()):
                continue
            duration = max(int(on_worker[w]) for w in workers)
            hours = duration / HOUR_S
            slope = weight * (price[3] / HOUR_S + price[4] / max(duration, MIN_STRETCH_S))
            fixed = weight * price[4] * duration / max(duration, MIN_STRETCH_S) - slope * release
            loads = []
            for w, n in counts.items():
                share = float(problem.share[kind, w])
                watt_s = float(problem.busy_w[w]) * share * duration
                fixed += n * price[5] * watt_s / WATT_SECONDS_PER_KWH
                fixed += n * price[8] * (1.0 - float(problem.health[w]) ** hours)
                loads.append((w, n * price[7] * share * hours))
            yield _Option(
                task=i,
                pieces=tuple((w, self._packed(n * problem.demand[i])) for w, n in counts.items()),
                workers=workers,
                loads=tuple(loads),
                load=sum(load for _, load in loads),
                duration=duration,
                latest=problem.latest_start(i, duration),
                due=deadline - duration,
                fixed=fixed,
                slope=slope,
            )

    def _twins(self) -> list[int]:
        """For each task the last identical one before it, or -1."""
        problem = self.problem
        followers: list[list[int]] = [[] for _ in self.preds]
        for i, before in enumerate(self.preds):
            for p in before:
                followers[p].append(i)
        last: dict[object, int] = {}
        twins = []
        for i in range(len(self.preds)):
            key = (
                int(problem.kind[i]), self.release[i], self.raw_release[i],
                int(problem.deadline[i]), float(problem.weight[i]), int(problem.shards[i]),
                self.owner[i], tuple(problem.duration[i].tolist()), self.preds[i],
                tuple(followers[i]),
            )  # fmt: skip
            twins.append(last.get(key, -1))
            last[key] = i
        return twins

    def _worker_groups(self) -> list[int]:
        """Workers of one group differ in nothing but what will be placed on them."""
        problem = self.problem
        groups: dict[object, int] = {}
        return [
            groups.setdefault(
                (
                    self.segments[w], int(problem.worker_class[w]), self.free_from[w],
                    tuple(problem.allowed[:, w].tolist()), tuple(problem.share[:, w].tolist()),
                    self.idle_price[w], self.boot_price[w], float(problem.busy_w[w]),
                    float(problem.health[w]), int(problem.last_end[w]),
                    float(problem.load_h[w]),
                ),
                len(groups),
            )
            for w in range(len(self.segments))
        ]  # fmt: skip

    def root(self) -> _Node:
        """The node at which nothing is placed."""
        problem = self.problem
        last_end = tuple(int(e) for e in problem.last_end)
        add = float(problem.base @ problem.prices) - float(problem.base[0] * problem.prices[0])
        add += sum(self.idle_s(w, e) * self.idle_price[w] for w, e in enumerate(last_end))
        nothing: tuple[Active, ...] = ((),) * len(last_end)
        return _Node(
            parent=None, option=None, start=0, done=0, ends=(0,) * len(self.preds),
            active=nothing, add=add,
            makespan=max(last_end, default=0),
            waits=tuple(float(h) * HOUR_S for h in problem.owner_wait_h),
            loads=tuple(self.load_price * float(h) for h in problem.load_h),
            last_end=last_end, sum_starts=0,
        )  # fmt: skip

    def idle_s(self, worker: int, last_end: int) -> int:
        """Seconds for which a worker is on, if it is on until `last_end` (0 for never)."""
        return max(0, last_end - self.free_from[worker])

    def joint_cost(self, makespan: float, unfair: float, most_load: float) -> float:
        """Price of the terms that are a max over tasks, owners or workers."""
        return self.makespan_price * makespan + self.unfair_price * unfair + most_load

    def unfair(self, waits: tuple[float, ...] | list[float]) -> float:
        """Longest mean wait of an owner, seconds."""
        return max(w / n for w, n in zip(waits, self.owner_tasks, strict=True))

    def earliest(self, option: _Option, not_before: int, active: tuple[Active, ...]) -> int:
        """Earliest start of an option from which on all its pieces fit, FAR if there is none."""
        start = not_before
        while start < FAR:
            moved = start
            for w, demand in option.pieces:
                moved = _first_fit(
                    self.segments[w], active[w], self.guards, demand, moved, option.duration
                )
            if moved == start or len(option.pieces) == 1:
                return moved
            start = moved
        return FAR

    def schedule(self, node: _Node) -> Schedule:
        """The schedule of a node at which every task is placed."""
        ptr = self.problem.shard_ptr
        start = np.zeros(len(self.preds), np.int64)
        end = np.zeros(len(self.preds), np.int64)
        worker = np.zeros(int(ptr[-1]), np.int64)
        step: _Node | None = node
        while step is not None and step.option is not None:
            i = step.option.task
            start[i], end[i] = step.start, step.start + step.option.duration
            worker[ptr[i] : ptr[i + 1]] = step.option.workers
            step = step.parent
        return Schedule(start, end, worker)


def _first_fit(
    segments: tuple[tuple[int, int, int], ...],
    active: Active,
    guards: int,
    demand: int,
    start: int,
    duration: int,
) -> int:
    """Earliest start on one worker; what is active only ever comes free."""
    while start < FAR:
        end = start + duration
        for begin, until, free in segments:
            if until <= start:
                continue
            if begin >= end:
                break
            moment = begin if begin > start else start
            left = free - demand
            for active_end, used in active:
                if active_end > moment:
                    left -= used
            if left & guards != guards:
                start = min([until, *(e for e, _ in active if e > moment)])
                break
        else:
            return start
        if begin >= end:
            return start
    return FAR


@dataclass(eq=False, slots=True)
class _Node:
    """A partial schedule: its last edge, what it costs, and what the future can see of it."""

    parent: _Node | None
    option: _Option | None
    start: int
    done: int
    """Bit set of the tasks placed."""
    ends: tuple[int, ...]
    active: tuple[Active, ...]
    add: float
    """Priced additive terms of what is placed, power included."""
    makespan: int
    waits: tuple[float, ...]
    """Seconds waited, by owner."""
    loads: tuple[float, ...]
    """Priced load, by worker."""
    last_end: tuple[int, ...]
    sum_starts: int
    bound: float = -math.inf
    floor: int = 0
    """No later task starts before this."""
    tie: int = -1
    """A later task that starts at `floor` has a higher index than this."""
    choices: list[tuple[int, _Option]] | None = None
    own: dict[int, float] | None = None
    """Least own cost of each task to come."""
    ends_by: int = 0
    dead: bool = False


class _Search:
    """The open list, the best plan so far, and the table of states seen.

    Notes
    -----
    Let O be the schedules of least (cost, sum of starts). Listed by (start, index), each
    task of a schedule in O starts at the earliest moment, not before the one listed ahead
    of it, at which it fits beside those listed ahead: else it could start earlier, at no
    cost. So a node need not be followed where a task would start together with the last
    one placed but has a lower index, and of identical tasks, or of workers that are alike
    in all the future can see, the first will do.

    A node B is dropped for a node A when A with whatever completes B has a lesser (cost,
    sum of starts): both placed the same tasks, hold the same resources from now on, A's
    floor is no later, nor are the ends that successors wait for; and what A has cost, plus
    all it may lose to B in what is still open (the makespan, the longest mean wait, the
    largest load, workers that are on), is less, or as much with no larger sum of starts.
    Then with B leading to a schedule in O, A leads to one too.
    """

    def __init__(
        self,
        tables: _Tables,
        weight: float,
        root_bound: float,
        best_cost: float,
        observe: Observe | None,
    ) -> None:
        self.tables = tables
        self.weight = weight
        self.observe = observe
        self.best: _Node | None = None
        self.best_cost = best_cost
        self.steps = 0
        self.exhausted = False
        self.all_done = (1 << len(tables.preds)) - 1
        self.seen: dict[object, list[_Node]] = {}
        self.kept = 0
        root = tables.root()
        root.bound = root_bound
        self.open: list[tuple[float, int, int, _Node]] = []
        self.pushed = 0
        self._push(root)

    def run(self, most_steps: float, stop_at: float, max_nodes: int) -> None:
        """Search until the proof is done or a limit is met."""
        while self.open:
            if self.weight > 1 and self.best_cost <= self.open[0][0]:
                return
            if self.steps >= most_steps or len(self.open) + self.kept > max_nodes:
                return
            if time.perf_counter() > stop_at:
                return
            key, _, _, node = heapq.heappop(self.open)
            if node.dead or self._hopeless(node.bound):
                continue
            if node.choices is None:
                self._look(node)
                if self._hopeless(node.bound) or self._dominated(node):
                    continue
                if self._key(node) > key:
                    self._push(node)
                    continue
            self.steps += 1
            for child in self._children(node):
                if child.done == self.all_done:
                    self._finish(child, node.bound)
                elif not self._hopeless(child.bound):
                    self._push(child)
            node.choices = []
            node.own = None
        self.exhausted = True

    def proven(self) -> float:
        """No schedule costs less: the least bound of all that was not followed to its end."""
        best = self.best_cost
        if math.isfinite(best):
            best -= SAME * abs(best)
        return min([best, *(node.bound for *_, node in self.open if not node.dead)])

    def _hopeless(self, bound: float) -> bool:
        return bound == math.inf or bound >= self.best_cost - SAME * abs(self.best_cost)

    def _key(self, node: _Node) -> float:
        if self.weight == 1:
            return node.bound
        so_far = self._cost(node)
        return so_far + self.weight * (node.bound - so_far)

    def _push(self, node: _Node) -> None:
        self.pushed += 1
        entry = (self._key(node), -node.done.bit_count(), self.pushed, node)
        heapq.heappush(self.open, entry)

    def _cost(self, node: _Node) -> float:
        tables = self.tables
        unfair = max(0.0, tables.unfair(node.waits)) if tables.unfair_price else 0.0
        most_load = max(node.loads)
        return node.add + tables.joint_cost(node.makespan, unfair, most_load)

    def _finish(self, node: _Node, bound: float) -> None:
        cost = self._cost(node)
        if cost < self.best_cost:
            self.best, self.best_cost = node, cost
            if self.observe is not None:
                self.observe(cost, min(bound, self.proven()))

    # ------------------------------------------------------------------ bound

    def _look(self, node: _Node) -> None:
        """Bound the whole cost of every plan that continues a node, and list its edges.

        Notes
        -----
        Each task to come starts no earlier than it fits beside what is placed, after the
        earliest ends of its predecessors. The sum of least own costs, the largest of the
        least rises in power, and the max terms at their least bound the cost together,
        because each term is bounded for itself over all workers.
        """
        tables, last, active = self.tables, node.start, node.active
        ends = list(node.ends)
        makespan, waits = node.makespan, list(node.waits)
        most_load, load = max(node.loads), sum(node.loads)
        own: dict[int, float] = {}
        choices: list[tuple[int, _Option]] = []
        work = [0] * len(tables.capacity)
        rest = power = 0.0
        floor = FAR
        for i in tables.order:
            if node.done >> i & 1:
                continue
            ready, not_before = True, max(last, tables.release[i])
            for p in tables.preds[i]:
                not_before = max(not_before, ends[p])
                ready = ready and bool(node.done >> p & 1)
            least, start, end = math.inf, FAR, FAR
            least_power = least_load = least_most = math.inf
            for option in tables.options[i]:
                begin = tables.earliest(option, not_before, active)
                if begin > option.latest:
                    continue
                cost = option.fixed + option.slope * begin
                late = begin - option.due
                if late > 0:
                    cost += tables.late_price[i] * late + tables.miss_price[i]
                least = min(least, cost)
                start = min(start, begin)
                end = min(end, begin + option.duration)
                if tables.prices_power and least_power > 0:
                    rise = self._power_rise(node, option, begin)
                    least_power = min(least_power, rise)
                if tables.load_price:
                    least_load = min(least_load, option.load)
                    peak = max(node.loads[w] + more for w, more in option.loads)
                    least_most = min(least_most, peak)
                if ready:
                    choices.append((begin, option))
            if start == FAR:
                node.bound = math.inf
                return
            own[i] = least
            rest += least
            ends[i] = end
            makespan = max(makespan, end + tables.tail[i])
            waits[tables.owner[i]] += start - tables.raw_release[i]
            for r, amount in enumerate(tables.area[i]):
                work[r] += amount
            if tables.prices_power:
                power = max(power, least_power)
            if tables.load_price:
                most_load = max(most_load, least_most)
                load += least_load
            floor = min(floor, start)
        node.floor = floor
        if floor > last:
            node.active = tuple(
                tuple(piece for piece in pieces if piece[0] > floor) for pieces in active
            )
        elif node.option is not None:
            node.tie = node.option.task
        node.ends_by = makespan = max(makespan, self._work_done_by(node, work))
        unfair = max(0.0, tables.unfair(waits)) if tables.unfair_price else 0.0
        most_load = max(most_load, load / len(node.loads))
        bound = node.add + rest + power + tables.joint_cost(makespan, unfair, most_load)
        node.bound = max(node.bound, bound)
        node.choices, node.own = choices, own

    def _power_rise(self, node: _Node, option: _Option, start: int) -> float:
        """Price of switching workers on, or keeping them on, for an option."""
        tables, rise = self.tables, 0.0
        for w, _ in option.pieces:
            before = node.last_end[w]
            if not before:
                rise += tables.boot_price[w]
            longer = tables.idle_s(w, start + option.duration) - tables.idle_s(w, before)
            if longer > 0:
                rise += tables.idle_price[w] * longer
        return rise

    def _work_done_by(self, node: _Node, work: list[int]) -> int:
        """A time before which all workers together cannot have done the work to come."""
        tables = self.tables
        if not tables.makespan_price:
            return 0
        mask = (1 << tables.width) - 1
        for pieces in node.active:
            for end, demand in pieces:
                for r in range(len(work)):
                    work[r] += (end - node.floor) * (demand >> tables.width * r & mask)
        times = [-(-w // c) for w, c in zip(work, tables.capacity, strict=True) if c]
        return node.floor + max(times, default=0)

    # ------------------------------------------------------------------ edges

    def _children(self, node: _Node) -> Iterator[_Node]:
        assert node.choices is not None
        assert node.own is not None
        rest = sum(node.own.values())
        alike: set[object] = set()
        for start, option in node.choices:
            i, twin = option.task, self.tables.twin[option.task]
            if twin >= 0 and not node.done >> twin & 1:
                continue
            if start == node.floor and i < node.tie:
                continue
            if self.tables.twin_workers:
                look = self._looks_like(node, option)
                if look in alike:
                    continue
                alike.add(look)
            yield self._assign(node, option, start, rest - node.own[i])

    def _looks_like(self, node: _Node, option: _Option) -> object:
        """Equal for two options of a task between which the future sees no difference."""
        group = self.tables.worker_group
        return option.task, tuple(
            sorted(
                (group[w], demand, node.active[w], node.last_end[w], node.loads[w])
                for w, demand in option.pieces
            )
        )

    def _assign(self, node: _Node, option: _Option, start: int, rest: float) -> _Node:
        """The effect of an edge; `rest` bounds the own costs of the tasks after it."""
        tables, i = self.tables, option.task
        end = start + option.duration
        cost = option.fixed + option.slope * start
        if start > option.due:
            cost += tables.late_price[i] * (start - option.due) + tables.miss_price[i]
        if tables.prices_power:
            cost += self._power_rise(node, option, start)
        ends, waits = list(node.ends), list(node.waits)
        active, last_end, loads = list(node.active), list(node.last_end), list(node.loads)
        ends[i] = end
        waits[tables.owner[i]] += start - tables.raw_release[i]
        if start > node.floor:
            active = [tuple(p for p in pieces if p[0] > start) for pieces in active]
        for (w, demand), (_, more) in zip(option.pieces, option.loads, strict=True):
            active[w] = tuple(sorted((*active[w], (end, demand))))
            last_end[w] = max(last_end[w], end)
            loads[w] += more
        child = _Node(
            parent=node, option=option, start=start, done=node.done | 1 << i,
            ends=tuple(ends), active=tuple(active), add=node.add + cost,
            makespan=max(node.makespan, end), waits=tuple(waits), loads=tuple(loads),
            last_end=tuple(last_end), sum_starts=node.sum_starts + start,
        )  # fmt: skip
        joint = tables.joint_cost(max(node.ends_by, end + tables.tail[i]), 0.0, max(loads))
        child.bound = max(node.bound, child.add + rest + joint)
        return child

    # ------------------------------------------------------------------ states seen

    def _dominated(self, node: _Node) -> bool:
        """Whether a node seen before makes this one needless; else it is kept."""
        view = self._view(node)
        rivals = self.seen.setdefault((node.done, view.active), [])
        if any(self._beats(rival, view) for rival in rivals):
            return True
        beaten = [rival for rival in rivals if self._beats(view, rival)]
        for rival in beaten:
            rival.node.dead = True
            rivals.remove(rival)
        rivals.append(view)
        self.kept += 1 - len(beaten)
        return False

    def _view(self, node: _Node) -> _View:
        tables = self.tables
        workers = list(range(len(node.active)))
        if tables.twin_workers:
            workers.sort(
                key=lambda w: (
                    tables.worker_group[w], node.active[w], node.last_end[w], node.loads[w]
                )
            )  # fmt: skip
        return _View(
            node=node,
            workers=tuple(workers),
            active=tuple(node.active[w] for w in workers),
            heads=tuple(
                max(node.floor, *(node.ends[p] for p in tables.preds[i]))
                for i in tables.followers
                if not node.done >> i & 1
            ),
        )

    def _beats(self, view: _View, other: _View) -> bool:
        """Whether what completes `other` completes `view` at a lesser (cost, sum of starts)."""
        tables, a, b = self.tables, view.node, other.node
        if (a.floor, a.tie) > (b.floor, b.tie):
            return False
        if any(mine > its for mine, its in zip(view.heads, other.heads, strict=True)):
            return False
        loss = a.add - b.add + tables.makespan_price * max(0, a.makespan - b.makespan)
        if tables.unfair_price:
            more = [x - y for x, y in zip(a.waits, b.waits, strict=True)]
            loss += tables.unfair_price * max(0.0, tables.unfair(more))
        if tables.load_price or tables.prices_power:
            most = 0.0
            for v, w in zip(view.workers, other.workers, strict=True):
                most = max(most, a.loads[v] - b.loads[w])
                longer = tables.idle_s(w, b.last_end[w]) - tables.idle_s(v, a.last_end[v])
                if longer > 0:
                    loss += tables.idle_price[w] * longer
                if b.last_end[w] and not a.last_end[v]:
                    loss += tables.boot_price[w]
            loss += most
        noise = 1e-12 * abs(b.bound)
        return loss < -noise or (loss <= noise and a.sum_starts <= b.sum_starts)


@dataclass(frozen=True, eq=False, slots=True)
class _View:
    """A node as the table of states seen compares it: workers that are alike, sorted."""

    node: _Node
    workers: tuple[int, ...]
    active: tuple[Active, ...]
    heads: tuple[int, ...]
    """When the tasks to come that follow others may start."""
