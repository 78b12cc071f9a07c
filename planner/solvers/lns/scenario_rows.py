"""A problem and its scenarios as the arrays of ``scenario_course``, and the search."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.problem import Ints, Problem, Schedule, csr
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.solvers.lns import ruin, scenario_course, scenario_kernel
from plancast.planner.solvers.lns.local_search import fixed_arrays
from plancast.planner.solvers.lns.scenario_course import Scenarios

MOST_TASKS = 2_000
"""Tasks up to which plans are searched."""
PLACES = 64
"""So many can hold of one resource of a worker at once, besides what runs there now."""
ODDS = np.cumsum([0.45, 0.3, 0.25])
"""Cumulated chances of the kernel's rules."""
HOT, COLD = 0.05, 0.0005
"""First and last temperature, as shares of the first cost over the tasks."""
SLICE_S, CALL_S = 0.05, 3e-4
"""A call of the kernel lasts about this long where a clock stops it, at least so many seconds for
each task: before and after it all of them are timed."""
SETTLED = 4
"""Most times that the order of a plan is taken from its starts anew."""
CALLS = 4, 24
"""So many calls of the kernel with a step budget: the more the more moves there are for a task."""


def suits_scenarios(problem: Problem) -> bool:
    """Whether a plan is told by the order and the workers of its tasks, and who holds what.

    Not where something is counted, closed, exclusive or told apart, and not where energy has hours.
    """
    if not 1 < len(problem.tasks) <= MOST_TASKS or len(problem.workers) < 2:
        return False
    snapshot = problem.request.snapshot
    if problem.counted or problem.is_related or problem.hours is not None or snapshot.counted:
        return False
    if problem.devices is not None or snapshot.has_modes:
        return False
    if any(w.blocked or w.until_s is not None for w in problem.workers):
        return False
    if any(run.task.exclusive for run in snapshot.running):
        return False
    taken = np.zeros_like(problem.capacity)
    np.add.at(taken, problem.busy_worker, problem.busy_demand)
    return bool((taken <= problem.capacity).all())


def scenarios_of(problem: Problem, problems: Sequence[Problem]) -> Scenarios:
    """A problem and its scenarios for the kernel.

    Parameters
    ----------
    problem : Problem
        That ``suits_scenarios`` likes, at the policy's level.
    problems : sequence of Problem
        Of the same tasks and workers; run times and ends of what runs differ.
    """
    fixed, snapshot = fixed_arrays(problem), problem.request.snapshot
    futures = [fixed, *(fixed_arrays(other) for other in problems)]
    ends = np.array(
        [
            [expected_end_s(p.request, run) - snapshot.now_s for run in snapshot.running]
            for p in (problem, *problems)
        ],
        np.int64,
    ).reshape(len(futures), -1)
    before = _predecessors(problem)
    after: list[list[int]] = [[] for _ in before]
    for i, those in enumerate(before):
        for b in those:
            if b < len(after):
                after[b].append(i)
    index = {name: r for r, name in enumerate(problem.resources)}
    needs = [
        [v for name, a in task.demand.items() if a for v in (index[name], a)]
        for task in problem.tasks
    ]
    need_ptr, need = csr(needs)
    pred_ptr, pred = csr(before)
    succ_ptr, succ = csr(after)
    held, holders = _held(problem, ends[0])
    return Scenarios(
        ti=fixed.ti, tf=fixed.tf, wi=fixed.wi, wf=fixed.wf, pi=fixed.pi, room=fixed.room,
        share=fixed.share, rates=fixed.rates, owner_tasks=fixed.owner_tasks,
        every_ptr=fixed.every_ptr, every=fixed.every, max_stretch=fixed.max_stretch,
        run_s=np.array([p.duration for p in (problem, *problems)]),
        ends=ends,
        earliest=np.maximum(0, problem.raw_release),
        need_ptr=need_ptr // 2, need=need.reshape(-1, 2),
        pred_ptr=pred_ptr, pred=pred, succ_ptr=succ_ptr, succ=succ,
        held=held, holders=holders,
        last=np.array([f.wi[:, ruin.BASE_END] for f in futures]),
        load_s=np.array([f.wf[:, ruin.BASE_LOAD] for f in futures]),
        wait_s=fixed.base_wait_s,
        base=np.array([f.base_cost for f in futures]),
        in_turn=True,
    )  # fmt: skip


def _predecessors(problem: Problem) -> list[list[int]]:
    """What each task waits for, by index; what runs comes after the tasks."""
    everyone = [*problem.tasks, *(run.task for run in problem.request.snapshot.running)]
    index = {task.id: k for k, task in enumerate(everyone)}
    return [[index[on.task] for on in t.dependencies if on.task in index] for t in problem.tasks]


def _held(problem: Problem, ends: Ints) -> tuple[Ints, Ints]:
    """Who holds how much of each worker before any task, and of how many that tells."""
    snapshot, tasks = problem.request.snapshot, len(problem.tasks)
    index = {w.id: k for k, w in enumerate(problem.workers)}
    resource = {name: r for r, name in enumerate(problem.resources)}
    places = PLACES + int(np.bincount(problem.busy_worker).max(initial=0))
    held = np.zeros((*problem.capacity.shape, places, 3), np.int64)
    count = np.ones(problem.capacity.shape, np.int64)
    held[:, :, 0, scenario_course.HOLDER] = -1
    held[:, :, 0, scenario_course.AMOUNT] = problem.capacity
    for k, run in enumerate(snapshot.running):
        for name in dict.fromkeys(run.workers):
            w, pieces = index[name], run.workers.count(name)
            for what, amount in run.done.demand.items():
                if amount and what in resource:
                    r = resource[what]
                    held[w, r, count[w, r]] = ends[k], tasks + k, amount * pieces
                    held[w, r, 0, scenario_course.AMOUNT] -= amount * pieces
                    count[w, r] += 1
    return held, count


def name_ranks(problem: Problem) -> Ints:
    """The place of each task among their names."""
    return np.argsort(np.argsort([t.id for t in problem.tasks], kind="stable"))


def _rows(f: Scenarios, rank: Ints, schedule: Schedule) -> tuple[Ints, Ints]:
    """The order of a schedule's tasks, and the worker of each piece, sorted within each task."""
    home = schedule.worker[np.lexsort((schedule.worker, f.pi[:, ruin.TASK]))]
    return np.lexsort((rank, schedule.end, schedule.start)), home.astype(np.int64)


class ScenarioWalk:
    """One search over the plans of a problem in its scenarios.

    Parameters
    ----------
    f : Scenarios
    rank : int64 (tasks,)
        Of ``name_ranks``.
    start : Schedule
        Where it begins; the cost is infinite where the kernel cannot tell how that runs.
    seed : int
    """

    def __init__(self, f: Scenarios, rank: Ints, start: Schedule, seed: int) -> None:
        self.f, self.rank, self.rng = f, rank, np.random.default_rng(seed)
        self.now = self._as_plan(*_rows(f, rank, start))
        self.best = self.now
        """Order, homes and mean cost over the scenarios."""
        self.scale = (self.cost if np.isfinite(self.cost) else 0.0) / max(1, len(rank))
        self.moves, self.timed = 0, 0

    @property
    def cost(self) -> float:
        """Mean cost of the best plan met over the scenarios."""
        return self.best[2]

    def _as_plan(self, order: Ints, home: Ints) -> tuple[Ints, Ints, float]:
        """The order in which a plan has its tasks, and the mean cost over the scenarios.

        What starts at the same second stands in a plan by its end and its name: that changes who
        takes over from whom.
        """
        for _ in range(SETTLED):
            times, costs = scenario_course.lay_out(self.f, order, home)
            in_plan = np.lexsort((self.rank, times[0, :, ruin.END], times[0, :, ruin.START]))
            found = order, home, float(np.mean(costs))
            if (in_plan == order).all() or not np.isfinite(found[2]):
                break
            order = in_plan
        return found

    def step(self, moves: int, spent: float) -> None:
        """So many moves, at the temperature of a part of the budget."""
        heat = HOT * (COLD / HOT) ** min(1.0, spent) * self.scale
        order, home, *now, cost, _, timed = scenario_kernel.search(
            self.f, *self.now[:2], moves, heat, ODDS, int(self.rng.integers(1 << 31))
        )
        self.moves, self.timed = self.moves + moves, self.timed + timed
        if cost < self.cost:
            self.best = min(self.best, self._as_plan(order, home), key=lambda found: found[2])
        there = self._as_plan(*now)
        self.best = min(self.best, there, key=lambda found: found[2])
        self.now = there if np.isfinite(there[2]) else self.best

    def step_all(self, moves: int) -> None:
        """So many moves in some calls."""
        fewest, most = CALLS
        calls = min(most, max(fewest, moves // len(self.rank)))
        for k in range(calls):
            part = moves * (k + 1) // calls - moves * k // calls
            if part and not interruption.asked():
                self.step(part, k / calls)

    def step_until(self, until: float) -> None:
        """Moves until ``time.perf_counter`` says `until`."""
        began, moves = time.perf_counter(), 16
        seconds = max(1e-6, until - began)
        slice_s = max(SLICE_S, CALL_S * len(self.rank))
        while (clock := time.perf_counter()) < until and not interruption.asked():
            self.step(moves, (clock - began) / seconds)
            took_s = max(1e-6, time.perf_counter() - clock)
            left_s = min(slice_s, max(0.0, until - clock - took_s))
            moves = max(4, min(4 * moves, int(moves * left_s / took_s)))

    def schedule(self) -> Schedule:
        """The best plan met, at the policy's level."""
        order, home, _ = self.best
        times = scenario_course.lay_out(self.f, order, home)[0][0]
        return Schedule(times[:, ruin.START].copy(), times[:, ruin.END].copy(), home.copy())
