"""Rows of tasks on workers, and the search over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Ints, Problem, Schedule, decode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    CountedResource,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns import lns, row_kernel
from plancast.planner.solvers.lns.local_search import (
    Walk,
    fixed_arrays,
    full_cost,
    ranks,
    state_arrays,
    with_pool,
)
from plancast.planner.solvers.lns.rows import ODDS, Rows, in_rows, suits_rows
from plancast.planner.solvers.lns.ruin import FAR, MINE, ON, OURS, load
from tests.oracles.plain_orders import PlainSerial
from tests.oracles.random_requests import random_request


def planned(seed: int) -> tuple[Problem, Schedule] | None:
    """A small random problem with tasks that stand in rows, and a schedule of it."""
    problem = encode(random_request(seed, max_tasks=7))
    if problem.infeasible or not problem.tasks or problem.counted or problem.tells_apart:
        return None
    if problem.is_related or problem.hours is not None or not len(in_rows(problem)):
        return None
    budget, rng = Budget(None, 1), np.random.default_rng(0)
    schedule = SOLVERS["greedy"]().solve(problem, budget=budget, rng=rng).schedule
    return None if schedule is None else (problem, schedule)


class Searched:
    """The rows of a schedule after some moves of the kernel at a temperature."""

    def __init__(
        self, problem: Problem, schedule: Schedule, moves: int, heat: float, seed: int = 0
    ) -> None:
        self.problem, self.schedule, self.active = problem, schedule, in_rows(problem)
        fixed = fixed_arrays(problem)._replace(active=self.active)
        state, profile = state_arrays(problem, schedule)
        state.ts[self.active] = FAR
        state.ps[problem.shard_ptr[self.active], ON] = -1
        base, _ = load(fixed, state, profile, 4)
        in_turn = self.active[np.lexsort((schedule.end[self.active], schedule.start[self.active]))]
        rows = np.zeros((len(problem.workers), 2 + 2 * len(in_turn)), np.int64)
        number = np.zeros(len(problem.workers), np.int64)
        for i in in_turn:
            w = schedule.worker[problem.shard_ptr[i]]
            rows[w, number[w]] = i
            number[w] += 1
        *best, ts, on, self.cost = row_kernel.search(
            fixed, base, state.ws, state.load_s, state.wait_s, rows, number, moves, heat, ODDS, seed
        )
        self.best, self.now, self.rows, self.number = (
            self._with(*best),
            self._with(ts, on),
            rows,
            number,
        )

    def _with(self, ts: Ints, on: Ints) -> Schedule:
        """The schedule with the tasks of the rows as they are there."""
        start, end = self.schedule.start.copy(), self.schedule.end.copy()
        worker = self.schedule.worker.copy()
        start[self.active], end[self.active] = ts[self.active].T
        worker[self.problem.shard_ptr[self.active]] = on[self.active]
        return Schedule(start, end, worker)

    def plain(self) -> Schedule:
        """The rows as they are, laid out by the slow twin around all else."""
        problem, now = self.problem, self.now
        plain = PlainSerial(problem)
        start, end = self.schedule.start.copy(), self.schedule.end.copy()
        worker = now.worker.copy()
        for i in np.setdiff1d(np.arange(len(problem.tasks)), self.active):
            for w in worker[problem.shard_ptr[i] : problem.shard_ptr[i + 1]]:
                plain.free[w, start[i] : end[i]] -= problem.demand[i]
        for w in range(len(problem.workers)):
            for i in self.rows[w, : self.number[w]]:
                found = plain.place_at(int(i), int(problem.release[i]), [w])
                assert found is not None
                start[i], end[i], _ = found
                plain.free[w, start[i] : end[i]] -= problem.demand[i]
                worker[problem.shard_ptr[i]] = w
        return Schedule(start, end, worker)


@pytest.mark.parametrize("block", range(3))
def test_rows_are_laid_out_and_priced_as_the_slow_twin_does(block: int) -> None:
    """The search would better schedules that nobody can run, or price them wrongly."""
    compared = changed = beside = 0
    for seed in range(60 * block, 60 * block + 60):
        found = planned(seed)
        if found is None:
            continue
        problem, schedule = found
        first = Searched(problem, schedule, 0, 0.0)
        apart = full_cost(problem, first.best) - first.cost
        for moves, heat in ((0, 0.0), (1, 1e9), (60, 0.3)):
            there = Searched(problem, schedule, moves, heat, seed)
            slow = there.plain()
            assert there.now.start.tolist() == slow.start.tolist()
            assert there.now.end.tolist() == slow.end.tolist()
            assert there.now.worker.tolist() == slow.worker.tolist()
            assert evaluate(
                problem.request, decode(problem, there.now), unplanned=problem.unplanned
            ).valid
            assert evaluate(
                problem.request, decode(problem, there.best), unplanned=problem.unplanned
            ).valid
            assert there.cost + apart == pytest.approx(
                full_cost(problem, there.best), rel=1e-9, abs=1e-9
            )
            assert there.cost <= first.cost + 1e-9
            changed += bool((there.now.worker != schedule.worker).any())
        compared += 1
        beside += len(in_rows(problem)) < len(problem.tasks)
    assert compared > 20
    assert changed > 3
    assert beside > 3


def test_at_no_temperature_a_search_ends_where_its_best_is() -> None:
    """What a rejected move changed would stay behind."""
    compared = 0
    for seed in range(60):
        found = planned(seed)
        if found is not None:
            there = Searched(*found, 200, 0.0, seed)
            problem = found[0]
            cost = full_cost(problem, there.now)
            assert cost == pytest.approx(full_cost(problem, there.best), rel=1e-9, abs=1e-9)
            compared += 1
    assert compared > 20


def test_a_task_goes_before_all_that_it_waited_for() -> None:
    """No move that takes out a task or two gains: each of the others would still be in its way."""
    workers = tuple(Worker(f"w{k}", {"cpu": 1000}) for k in range(2))
    tasks = (
        Task("dear", {"cpu": 1000}, weight=50.0),
        *(Task(f"t{k}", {"cpu": 1000}) for k in range(10)),
    )
    estimates = {t.id: {"*": DurationEstimate.certain(10)} for t in tasks}
    policy = Policy(replace(Prices.for_makespan(), makespan_h=0.0, wait_h=1.0))
    problem = encode(PlanRequest("r", Snapshot(0, 0, workers, tasks), estimates, policy))
    start = np.array([50, *(10 * (k // 2) for k in range(10))])
    first = Schedule(start, start + 10, np.array([0, *(k % 2 for k in range(10))]))
    fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
    walk = Walk(problem, fixed, first, ranks(problem), seed=1)
    assert suits_rows(problem)
    Rows(problem, walk, seed=1).step(100, 1e-9)
    assert walk.best.start[0] == 0
    assert walk.now().start[0] == 0
    assert walk.moves == 100


def test_rows_are_searched_where_time_costs_and_most_tasks_are_alone() -> None:
    """Elsewhere they would take the time of moves that gain more."""
    loose = generate_batch(40, generate_cluster(4))
    assert suits_rows(encode(loose))
    assert not suits_rows(encode(replace(loose, policy=Policy(Prices.for_makespan()))))
    gangs = generate_batch(40, generate_cluster(4), gang_share=0.5)
    assert not suits_rows(encode(gangs))


def test_a_search_with_rows_makes_the_same_plan_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step budget, a seed and a request are all that a plan may depend on."""
    problem = encode(generate_batch(60, generate_cluster(4)))

    def plan() -> tuple[list[int], float]:
        made = SOLVERS["lns"]().solve(
            problem, budget=Budget(None, 1500), rng=np.random.default_rng(3)
        )
        assert made.schedule is not None
        assert made.steps == 1500
        return made.schedule.start.tolist(), made.claimed

    with_rows = plan()
    assert plan() == with_rows
    monkeypatch.setattr(lns, "suits_rows", lambda problem: False)
    assert plan() != with_rows


def test_a_walk_on_half_of_the_workers_leaves_the_others_alone() -> None:
    """Two walks over one schedule would put tasks into the same place."""
    problem = encode(generate_batch(200, generate_cluster(8)))
    first = SOLVERS["greedy"]().solve(
        problem, budget=Budget(None, 1), rng=np.random.default_rng(0)
    ).schedule  # fmt: skip
    assert first is not None
    fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
    mine = first.worker[problem.shard_ptr[:-1]] < 3
    fixed.ti[:, MINE] = mine
    fixed.wi[3:, OURS] = 0
    walk = Walk(problem, fixed, first, ranks(problem), seed=1)
    Rows(problem, walk, seed=1).step(3000, 1e-3)
    now = walk.now()
    assert (now.start[~mine] == first.start[~mine]).all()
    assert (now.worker[problem.shard_ptr[:-1]][mine] < 3).all()
    assert (now.start != first.start).any()


def test_rows_are_compiled_once_for_plain_problems_and_others() -> None:
    """Where no licence can run short, a first plan would compile for seconds past its clock."""
    plain = generate_batch(40, generate_cluster(4))
    licensed = plain.snapshot.evolved(
        pending=tuple(replace(t, counted={"licence": 1}) for t in plain.snapshot.pending),
        counted=(CountedResource("licence", 40),),
    )
    forms = []
    for request in (plain, replace(plain, snapshot=licensed)):
        problem = encode(request)
        assert suits_rows(problem)
        first = SOLVERS["greedy"]().solve(
            problem, budget=Budget(None, 1), rng=np.random.default_rng(0)
        ).schedule  # fmt: skip
        assert first is not None
        fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
        Rows(problem, Walk(problem, fixed, first, ranks(problem), seed=1), seed=1).step(50, 1e-3)
        forms.append(set(row_kernel.search.compiled.overloads))
    assert not problem.is_plain
    assert forms[0] == forms[1]
