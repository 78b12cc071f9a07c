"""The slow twin of ``planner.solvers.astar.space``: states, edges, an admissible bound.

A state is a partial schedule in which no task that is still to come may start before the
last one that was placed. Its edges are ``Assign(task, workers)``: precondition, the task's
predecessors are placed and there is a start, no earlier than that, at which all pieces
fit; effect, the task runs there from the earliest such start on. All terms but ``moves``
never fall when a start on given workers gets later, so some cheapest schedule is reached
by such edges. Every multiset of workers is an edge of its own: a costlier worker now may
lose to a cheaper one later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Ints, Problem, Schedule
from plancast.planner.arrays.schedule import FAR
from plancast.planner.bounds.lower_bound import heads_tails
from plancast.planner.model.domain import HOUR_S, MIN_STRETCH_S, TERMS, WATT_SECONDS_PER_KWH

Active = tuple[tuple[int, int], ...]
"""(end, packed demand) of what a worker holds beyond the start of the last task placed."""


@dataclass(frozen=True, eq=False, slots=True)
class Assign:
    """An edge but for its start: a task on one multiset of workers.

    Parameters
    ----------
    task : int
    workers : tuple of int
        One for each shard.
    pieces : tuple of (int, int)
        Each worker once, with the packed demand of all pieces on it.
    loads : tuple of (int, float)
        Each worker once, with the priced load put on it.
    duration, latest : int
        Seconds; latest permitted start.
    due : int
        Starting later than this, the task is late.
    fixed, slope : float
        The task's own cost, lateness aside, is ``fixed + slope * start``.
    """

    task: int
    workers: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]
    loads: tuple[tuple[int, float], ...]
    duration: int
    latest: int
    due: int
    fixed: float
    slope: float


@dataclass(eq=False, slots=True)
class State:
    """A partial schedule: its last edge, what it costs, and what the future can see of it.

    Parameters
    ----------
    parent : State, optional
    edge : Assign, optional
        What was placed last; None at the root.
    start : int
        When it starts.
    done : int
        Bit set of the tasks placed.
    ends : tuple of int
        End of each task placed, 0 of the others.
    active : tuple of Active
        For each worker.
    add : float
        Price of the additive terms of what is placed, power included.
    makespan : int
    waits : tuple of float
        Seconds waited by the tasks placed and running, for each owner.
    loads : tuple of float
        Priced load of each worker.
    last_end : tuple of int
        For each worker, 0 if it is off.
    sum_starts : int
    bound : float
        No schedule that continues this state costs less.
    looked : Outlook, optional
        Set by ``SearchSpace.look``.
    dead : bool
        Another state makes this one needless.
    """

    parent: State | None
    edge: Assign | None
    start: int
    done: int
    ends: tuple[int, ...]
    active: tuple[Active, ...]
    add: float
    makespan: int
    waits: tuple[float, ...]
    loads: tuple[float, ...]
    last_end: tuple[int, ...]
    sum_starts: int
    bound: float
    looked: Outlook | None = None
    dead: bool = False

    @property
    def tie(self) -> int:
        """Of tasks that start at the floor, only higher indices than this come later."""
        assert self.looked is not None
        return self.edge.task if self.edge and self.looked.floor == self.start else -1


@dataclass(frozen=True, eq=False, slots=True)
class Outlook:
    """What lies ahead of a state.

    Parameters
    ----------
    floor : int
        No task to come starts before this.
    edges : list of (int, Assign)
        With the start of each.
    own : dict of int to float
        Least own cost of each task to come.
    makespan : int
        The whole schedule ends no earlier.
    """

    floor: int
    edges: list[tuple[int, Assign]]
    own: dict[int, float]
    makespan: int


class SearchSpace:
    """A problem as plain Python numbers, priced, with its states and edges.

    Parameters
    ----------
    problem : Problem
    stop_at : float
        ``time.perf_counter()`` at which to give up listing the edges.

    Raises
    ------
    TimeoutError
        When there are too many edges to list them in time.

    Notes
    -----
    The amounts of all resources are packed into one integer, a field each with a guard bit
    on top: a difference that falls below 0 clears its guard.
    """

    def __init__(self, problem: Problem, stop_at: float = math.inf) -> None:
        self.problem = problem
        self.price = price = [problem.request.policy.prices.of(t) for t in TERMS]
        self.makespan_price = price[0] / HOUR_S
        self.unfair_price = price[6] / HOUR_S
        self.load_price = price[7]
        prices = problem.request.policy.prices
        self.energy = [
            prices.kwh + prices.carbon_kg * w.carbon_kg_per_kwh
            + prices.energy_cost * w.price_per_kwh
            for w in problem.workers
        ]  # fmt: skip
        of_worker = list(zip(self.energy, problem.workers, strict=True))
        self.idle_price = [p * w.idle_w / WATT_SECONDS_PER_KWH for p, w in of_worker]
        self.boot_price = [p * w.boot_kwh for p, w in of_worker]
        self.prices_power = any(self.idle_price) or any(self.boot_price)
        self.late_price = [price[1] * float(w) / HOUR_S for w in problem.weight]
        self.miss_price = [price[2] * float(w) for w in problem.weight]

        largest = int(max(problem.capacity.max(initial=1), problem.demand.max(initial=1)))
        self.width = (3 * largest).bit_length() + 1
        self.guards = sum(1 << (self.width * (r + 1) - 1) for r in range(len(problem.resources)))
        self.capacity = [int(c) for c in problem.capacity.sum(axis=0)]
        self.segments = self._segments()
        self.free_from = [int(t) for t in problem.free_from]
        self.release = [int(t) for t in problem.release]
        self.raw_release = [int(t) for t in problem.raw_release]
        self.owner = [int(o) for o in problem.owner]
        self.owner_tasks = [float(n) for n in problem.owner_tasks]

        tasks = range(len(problem.tasks))
        self.all_done = (1 << len(tasks)) - 1
        self.preds = [tuple(int(p) for p in problem.predecessors(i)) for i in tasks]
        no_priority = np.zeros(len(tasks))
        self.order = [int(i) for i in priority_order(no_priority, problem.pred_ptr, problem.pred)]
        _, tail = heads_tails(problem)
        self.after = [int(t) for t in tail - problem.shortest]
        work = problem.demand * (problem.shortest * problem.shards)[:, None]
        self.work = [tuple(int(a) for a in row) for row in work]
        self.edges: list[list[Assign]] = []
        for i in tasks:
            self.edges.append([])
            for edge in self._edges_of(i):
                self.edges[i].append(edge)
                if time.perf_counter() > stop_at:
                    raise TimeoutError

    # ------------------------------------------------------------------ tables

    def _segments(self) -> list[tuple[tuple[int, int, int], ...]]:
        """(begin, until, packed free amounts with guards) for each worker."""
        times, free, count = self.problem.profile()
        return [
            tuple(
                (
                    int(times[w, k]),
                    int(times[w, k + 1]) if k + 1 < count[w] else FAR,
                    self.guards + self._packed(free[w, k]),
                )
                for k in range(count[w])
            )
            for w in range(len(count))
        ]

    def _packed(self, amounts: Ints) -> int:
        return sum(int(a) << (self.width * r) for r, a in enumerate(amounts))

    def _edges_of(self, i: int) -> Iterator[Assign]:
        problem, price = self.problem, self.price
        on_worker = problem.durations_on(i)
        weight, kind = float(problem.weight[i]), problem.kind[i]
        able = [int(w) for w in np.flatnonzero(on_worker)]
        for workers in combinations_with_replacement(able, int(problem.shards[i])):
            counts = {w: workers.count(w) for w in workers}
            if any((n * problem.demand[i] > problem.capacity[w]).any() for w, n in counts.items()):
                continue
            duration = max(int(on_worker[w]) for w in workers)
            hours = duration / HOUR_S
            # w (s - r) for the wait, w (s + d - r) / max(d, 10) for the stretch
            stretch = weight * price[4] / max(duration, MIN_STRETCH_S)
            slope = weight * price[3] / HOUR_S + stretch
            fixed = stretch * duration - slope * self.raw_release[i]
            loads = []
            for w, n in counts.items():
                share = float(problem.share[kind, w])
                kwh = problem.workers[w].busy_w * share * duration / WATT_SECONDS_PER_KWH
                fixed += n * self.energy[w] * kwh
                fixed += n * price[8] * (1.0 - float(problem.health[w]) ** hours)
                loads.append((w, n * price[7] * share * hours))
            yield Assign(
                task=i,
                workers=workers,
                pieces=tuple((w, self._packed(n * problem.demand[i])) for w, n in counts.items()),
                loads=tuple(loads),
                duration=duration,
                latest=problem.latest_start(i, duration),
                due=int(problem.deadline[i]) - duration,
                fixed=fixed,
                slope=slope,
            )

    # ------------------------------------------------------------------ states

    def root(self, bound: float) -> State:
        """The state at which nothing is placed, given a bound on the cost of any schedule."""
        problem = self.problem
        last_end = tuple(int(e) for e in problem.last_end)
        add = problem.rates.fixed
        add += sum(self.idle_s(w, e) * self.idle_price[w] for w, e in enumerate(last_end))
        return State(
            parent=None, edge=None, start=0, done=0, ends=(0,) * len(self.preds),
            active=((),) * len(last_end), add=add, makespan=max(last_end),
            waits=tuple(float(h) * HOUR_S for h in problem.owner_wait_h),
            loads=tuple(self.load_price * float(h) for h in problem.load_h),
            last_end=last_end, sum_starts=0, bound=bound,
        )  # fmt: skip

    def assign(self, state: State, edge: Assign, start: int) -> State:
        """The effect of an edge, bounded by what its parent knows of the tasks to come."""
        assert state.looked is not None
        i, end = edge.task, start + edge.duration
        ends, waits = list(state.ends), list(state.waits)
        active, last_end, loads = list(state.active), list(state.last_end), list(state.loads)
        if start > state.looked.floor:
            active = [tuple(p for p in pieces if p[0] > start) for pieces in active]
        ends[i] = end
        waits[self.owner[i]] += start - self.raw_release[i]
        for w, demand in edge.pieces:
            active[w] = tuple(sorted((*active[w], (end, demand))))
            last_end[w] = max(last_end[w], end)
        for w, load in edge.loads:
            loads[w] += load
        add = state.add + self._own_cost(edge, start) + self._power_rise(state, edge, start)
        rest = sum(state.looked.own.values()) - state.looked.own[i]
        makespan = max(state.looked.makespan, end + self.after[i])
        return State(
            parent=state, edge=edge, start=start, done=state.done | 1 << i,
            ends=tuple(ends), active=tuple(active), add=add,
            makespan=max(state.makespan, end), waits=tuple(waits), loads=tuple(loads),
            last_end=tuple(last_end), sum_starts=state.sum_starts + start,
            bound=max(state.bound, add + rest + self._joint_cost(makespan, waits, max(loads))),
        )  # fmt: skip

    def cost(self, state: State) -> float:
        """Price of what is placed and of what runs."""
        return state.add + self._joint_cost(state.makespan, state.waits, max(state.loads))

    def schedule(self, state: State) -> Schedule:
        """The schedule of a state at which every task is placed."""
        ptr = self.problem.shard_ptr
        start = np.zeros(len(self.preds), np.int64)
        end = np.zeros(len(self.preds), np.int64)
        worker = np.zeros(int(ptr[-1]), np.int64)
        step: State | None = state
        while step is not None and step.edge is not None:
            i = step.edge.task
            start[i], end[i] = step.start, step.start + step.edge.duration
            worker[ptr[i] : ptr[i + 1]] = step.edge.workers
            step = step.parent
        return Schedule(start, end, worker)

    def idle_s(self, worker: int, last_end: int) -> int:
        """Seconds for which a worker is on, if it is on until `last_end` (0 for never)."""
        return max(0, last_end - self.free_from[worker])

    def mean_wait_s(self, waits: Sequence[float]) -> float:
        """Longest mean wait of an owner, at least 0."""
        return max(0.0, *(w / n for w, n in zip(waits, self.owner_tasks, strict=True)))

    def _own_cost(self, edge: Assign, start: int) -> float:
        cost = edge.fixed + edge.slope * start
        if start > edge.due:
            late_s = start - edge.due
            cost += self.late_price[edge.task] * late_s + self.miss_price[edge.task]
        return cost

    def _power_rise(self, state: State, edge: Assign, start: int) -> float:
        """Price of switching an edge's workers on, and keeping them on until its end."""
        if not self.prices_power:
            return 0.0
        rise = 0.0
        for w, _ in edge.pieces:
            before = state.last_end[w]
            if not before:
                rise += self.boot_price[w]
            longer = self.idle_s(w, start + edge.duration) - self.idle_s(w, before)
            rise += self.idle_price[w] * max(0, longer)
        return rise

    def _joint_cost(self, makespan: int, waits: Sequence[float], most_load: float) -> float:
        """Price of the terms that are a max: over tasks, owners, workers."""
        unfair = self.unfair_price * self.mean_wait_s(waits) if self.unfair_price else 0.0
        return self.makespan_price * makespan + unfair + most_load

    # ------------------------------------------------------------------ bound

    def look(self, state: State) -> None:
        """Raise a state's bound to the whole cost of what may come of it, and list its edges.

        Notes
        -----
        A task to come starts no earlier than it fits beside what is placed, after the
        earliest ends of its predecessors. The bound adds, to what is placed, each task's
        least own cost; the rise in power that the neediest task cannot avoid; and the max
        terms over earliest ends (with the chain of followers, and the work to come over
        what all workers have), least waits, and least loads. Each is at its least over all
        workers on its own, so their sum exceeds no schedule's cost. A task without a start
        makes the bound infinite.
        """
        if state.looked is not None:
            return
        last, active = state.start, state.active
        ends, waits = list(state.ends), list(state.waits)
        makespan, most_load, load = state.makespan, max(state.loads), sum(state.loads)
        own: dict[int, float] = {}
        edges: list[tuple[int, Assign]] = []
        work = [0] * len(self.capacity)
        power = 0.0
        floor = FAR
        for i in self.order:
            if state.done >> i & 1:
                continue
            ready, not_before = True, max(last, self.release[i])
            for p in self.preds[i]:
                not_before = max(not_before, ends[p])
                ready = ready and bool(state.done >> p & 1)
            start, end = FAR, FAR
            least = least_power = least_load = least_peak = math.inf
            for edge in self.edges[i]:
                begin = self._earliest(edge, not_before, active)
                if begin > edge.latest:
                    continue
                start, end = min(start, begin), min(end, begin + edge.duration)
                least = min(least, self._own_cost(edge, begin))
                if self.prices_power:
                    least_power = min(least_power, self._power_rise(state, edge, begin))
                if self.load_price:
                    least_load = min(least_load, sum(more for _, more in edge.loads))
                    peak = max(state.loads[w] + more for w, more in edge.loads)
                    least_peak = min(least_peak, peak)
                if ready:
                    edges.append((begin, edge))
            if start == FAR:
                state.bound = math.inf
                return
            own[i], ends[i] = least, end
            floor = min(floor, start)
            makespan = max(makespan, end + self.after[i])
            waits[self.owner[i]] += start - self.raw_release[i]
            work = [w + more for w, more in zip(work, self.work[i], strict=True)]
            if self.prices_power:
                power = max(power, least_power)
            if self.load_price:
                most_load, load = max(most_load, least_peak), load + least_load
        if floor > last:
            state.active = tuple(tuple(p for p in pieces if p[0] > floor) for pieces in active)
        if self.makespan_price:
            makespan = max(makespan, self._work_done_by(floor, state.active, work))
        most_load = max(most_load, load / len(active))
        joint = self._joint_cost(makespan, waits, most_load)
        state.bound = max(state.bound, state.add + sum(own.values()) + power + joint)
        state.looked = Outlook(floor, edges, own, makespan)

    def _work_done_by(self, floor: int, active: Sequence[Active], work: list[int]) -> int:
        """A time before which all workers together cannot have done the work to come."""
        mask = (1 << self.width) - 1
        for pieces in active:
            for end, demand in pieces:
                for r in range(len(work)):
                    work[r] += (end - floor) * (demand >> self.width * r & mask)
        times = [-(-w // c) for w, c in zip(work, self.capacity, strict=True) if c]
        return floor + max(times, default=0)

    def _earliest(self, edge: Assign, not_before: int, active: Sequence[Active]) -> int:
        """Earliest start of an edge at which all its pieces fit, FAR if there is none."""
        start = not_before
        while start < FAR:
            moved = start
            for w, demand in edge.pieces:
                moved = self._first_fit(w, active[w], demand, moved, edge.duration)
            if moved == start or len(edge.pieces) == 1:
                return moved
            start = moved
        return FAR

    def _first_fit(self, w: int, active: Active, demand: int, start: int, duration: int) -> int:
        """Earliest start on one worker; what is active only ever comes free."""
        guards = self.guards
        while start < FAR:
            end = start + duration
            for begin, until, free in self.segments[w]:
                if until <= start:
                    continue
                if begin >= end:
                    return start
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
        return FAR
