"""A*: its bound, its cuts, its certificate when it is stopped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from oracles.brute_force import optimum, without_moves
from oracles.valid_schedules import plannable

from planner.domain import (
    DurationEstimate,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from planner.evaluate import evaluate
from planner.generate import generate_batch, generate_cluster
from planner.messages import Budget, PlanRequest, Status
from planner.problem import decode, encode
from planner.search import SearchSpace, State
from planner.solvers.astar import AStar, _Search, _twins, _View, _worker_groups
from planner.solvers.greedy import Greedy

UNLIMITED = Budget(seconds=None, steps=1_000_000)
EVERY_PRICE = Prices(
    makespan_h=36, late_h=360, misses=1, wait_h=36, stretch=0.1, kwh=50, unfair_h=36,
    imbalance_h=36, failures=1,
)  # fmt: skip


def rng() -> np.random.Generator:
    """The solver needs one, and does not use it."""
    return np.random.default_rng(0)


def random_walk(space: SearchSpace, chance: np.random.Generator) -> list[State]:
    """States from the root to the end of a whole schedule, or to where no edge leads on."""
    state = space.root(0.0)
    path = [state]
    while state.done != space.all_done:
        space.look(state)
        if state.looked is None:
            break
        start, edge = state.looked.edges[int(chance.integers(len(state.looked.edges)))]
        state = space.assign(state, edge, start)
        path.append(state)
    return path


def test_bound_of_every_state_on_the_way() -> None:
    """A bound could exceed the cost of a plan below it, and that plan be cut off."""
    chance = np.random.default_rng(1)
    whole, dead_ends = 0, 0
    for problem in plannable(range(150)):
        space = SearchSpace(problem)
        for _ in range(6):
            path = random_walk(space, chance)
            bounds = [state.bound for state in path]
            assert bounds == sorted(bounds)
            if path[-1].done != space.all_done:
                assert bounds[-1] == float("inf")
                dead_ends += 1
                continue
            cost = space.cost(path[-1])
            assert bounds[-1] <= cost * (1 + 1e-9) + 1e-12
            whole += 1
    assert whole > 400
    assert dead_ends > 5


def test_walks_are_valid_schedules_with_their_cost() -> None:
    """The search would place what does not fit, or price it unlike the evaluator."""
    chance = np.random.default_rng(2)
    seen = 0
    for problem in plannable(range(150, 300)):
        space = SearchSpace(problem)
        path = random_walk(space, chance)
        if path[-1].done != space.all_done:
            continue
        plan = decode(problem, space.schedule(path[-1]))
        request = without_moves(problem.request)
        found = evaluate(request, plan, unplanned=problem.unplanned)
        assert found.valid, found.violations
        assert space.cost(path[-1]) == pytest.approx(found.cost, rel=1e-9, abs=1e-12)
        seen += 1
    assert seen > 80


@pytest.mark.parametrize("steps", [0, 1, 3, 10])
def test_stopped_early_the_bound_still_holds(steps: int) -> None:
    """The certificate of an unfinished search would be above the least cost."""
    unfinished = 0
    for problem in plannable(range(200, 260), max_tasks=5):
        best = optimum(problem.request, problem.unplanned)
        solution = AStar().solve(problem, budget=Budget(None, steps), rng=rng())
        assert solution.steps <= steps
        if best is None:
            assert solution.status in (Status.INFEASIBLE, Status.NO_PLAN_IN_TIME)
            continue
        assert solution.status is not Status.INFEASIBLE
        assert solution.lower_bound <= best.cost * (1 + 1e-9) + 1e-12
        unfinished += solution.status is not Status.OPTIMAL
    assert unfinished > 0


def test_weighted_search_keeps_its_promise() -> None:
    """Weighted A* would give a plan dearer than its weight allows, or call it optimal."""
    dearer = 0
    for problem in plannable(range(300, 420)):
        best = optimum(problem.request, problem.unplanned)
        solution = AStar(weight=2.0).solve(problem, budget=UNLIMITED, rng=rng())
        if best is None:
            assert solution.status is Status.INFEASIBLE
            continue
        assert solution.claimed is not None
        assert solution.claimed <= 2.0 * best.cost + 1e-12
        assert solution.lower_bound <= best.cost * (1 + 1e-9) + 1e-12
        if solution.status is Status.OPTIMAL:
            assert solution.claimed == pytest.approx(best.cost, rel=1e-6, abs=1e-12)
        dearer += solution.claimed > best.cost * (1 + 1e-6)
    assert dearer > 0


def equals(tasks: int, workers: int) -> PlanRequest:
    """Equal tasks on equal workers, with every price."""
    pending = tuple(Task(f"t{i}", {"cpu": 1000}, deadline_s=12) for i in range(tasks))
    cluster = tuple(Worker(f"w{k}", {"cpu": 1000}, idle_w=50, busy_w=90) for k in range(workers))
    estimates = {t.id: {"*": DurationEstimate.certain(5)} for t in pending}
    policy = Policy(EVERY_PRICE)
    return PlanRequest("equals", Snapshot(1, 0, cluster, pending), estimates, policy)


def test_equal_tasks_and_workers_are_not_permuted() -> None:
    """A batch of equal tasks would take time exponential in its size."""
    solution = AStar().solve(encode(equals(12, 4)), budget=Budget(None, 300), rng=rng())
    assert solution.status is Status.OPTIMAL


def test_memory_is_bounded() -> None:
    """The search would eat all memory on a problem that is too large for it."""
    problem = encode(generate_batch(20, generate_cluster(4, seed=1), seed=1))
    solution = AStar(max_nodes=500).solve(problem, budget=UNLIMITED, rng=rng())
    assert solution.steps < 500
    assert solution.status in (Status.NO_PLAN_IN_TIME, Status.FEASIBLE)
    assert solution.lower_bound > 0


def test_too_many_edges_are_not_begun_with() -> None:
    """A large problem would be copied into Python objects only to run out of time."""
    problem = encode(generate_batch(20, generate_cluster(4, seed=1), seed=1))
    incumbent = Greedy().solve(problem, budget=UNLIMITED, rng=rng()).schedule
    solution = AStar(max_edges=10).solve(problem, budget=UNLIMITED, rng=rng(), incumbent=incumbent)
    assert solution.steps == 0
    assert solution.schedule is incumbent
    assert solution.status is Status.FEASIBLE


def test_an_optimal_incumbent_is_proven_and_returned() -> None:
    """The best plan known would be lost because nothing better was found."""
    proven = 0
    for problem in plannable(range(420, 460)):
        first = AStar().solve(problem, budget=UNLIMITED, rng=rng())
        if first.schedule is None:
            continue
        again = AStar().solve(problem, budget=UNLIMITED, rng=rng(), incumbent=first.schedule)
        assert again.status is Status.OPTIMAL
        assert again.schedule is first.schedule
        proven += 1
    assert proven > 20


def completions(space: SearchSpace, state: State) -> float:
    """Least cost of all schedules that continue a state, by trying every edge."""
    if state.done == space.all_done:
        return space.cost(state)
    space.look(state)
    if state.looked is None:
        return math.inf
    return min(
        completions(space, space.assign(state, edge, start)) for start, edge in state.looked.edges
    )


def states_to_come(space: SearchSpace, state: State, tasks: int) -> Iterator[State]:
    """Every state that continues a state and has so many tasks to come."""
    space.look(state)
    if state.looked is None:
        return
    if len(state.looked.own) == tasks:
        yield state
        return
    for start, edge in state.looked.edges:
        yield from states_to_come(space, space.assign(state, edge, start), tasks)


def test_a_state_is_only_dropped_for_one_that_does_as_well() -> None:
    """The table of states seen would drop the way to the cheapest plan."""
    compared, dropped = 0, 0
    for problem in (encode(contested(seed)) for seed in range(250)):
        space = SearchSpace(problem)
        search = _Search(space, 1.0, 0.0, math.inf, None)
        rivals: dict[object, list[_View]] = {}
        for state in states_to_come(space, space.root(0.0), 2):
            view = search._view(state)
            rivals.setdefault((state.done, view.active), []).append(view)
        for views in rivals.values():
            least = [completions(space, view.state) for view in views]
            for a, b in permutations(range(len(views)), 2):
                compared += 1
                if search._beats(views[a], views[b]):
                    assert least[a] <= least[b] + 1e-9 * abs(least[b])
                    dropped += 1
    assert compared > 10_000
    assert dropped > 4_000


def contested(seed: int) -> PlanRequest:
    """Four tasks that fight for two workers, under one to three prices."""
    chance = np.random.default_rng(seed)

    def pick(*values: Any) -> Any:
        return values[int(chance.integers(len(values)))]

    first = Worker(
        "w0", {"cpu": pick(2, 3)}, idle_w=pick(0, 60, 600), busy_w=pick(0, 100, 400),
        boot_kwh=pick(0, 1e-3, 5e-3), health=pick(1.0, 0.5), free_from_s=pick(0, 0, 2),
    )  # fmt: skip
    second = replace(first, id="w1")
    if chance.random() < 0.4:
        second = replace(second, machine_class="other", idle_w=pick(0, 60, 600), health=1.0)
    tasks: list[Task] = []
    for k in range(4):
        release = pick(0, 0, 0, 1, 2, 5)
        tasks.append(
            Task(
                f"t{k}", {"cpu": pick(1, 1, 2)}, release_s=release,
                deadline_s=pick(None, release + pick(3, 6, 12)), weight=pick(0, 1, 1, 2),
                owner=pick("p", "q"), after=tuple(t.id for t in tasks if chance.random() < 0.2),
                shards=pick(1, 1, 1, 1, 1, 2),
            )
        )  # fmt: skip
    estimates = {
        t.id: {name: DurationEstimate.certain(pick(1, 2, 3, 5)) for name in ("default", "other")}
        for t in tasks
    }
    units = {"makespan_h": 3600, "late_h": 3600, "misses": 3, "wait_h": 3600, "stretch": 4,
             "kwh": 400, "unfair_h": 9000, "imbalance_h": 7200, "failures": 500}  # fmt: skip
    chosen = chance.choice(sorted(units), pick(1, 2, 3), replace=False)
    prices = replace(Prices(0, 0, 0, 0), **{str(t): units[t] * pick(0.5, 1, 2) for t in chosen})
    snapshot = Snapshot(1, 0, (first, second), tuple(tasks))
    return PlanRequest(f"contested-{seed}", snapshot, estimates, Policy(prices))


WORKER = Worker("w", {"cpu": 2000}, frozenset({"x"}), idle_w=10, busy_w=10, boot_kwh=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"capacity": {"cpu": 3000}}, {"labels": frozenset()}, {"machine_class": "b"},
        {"free_from_s": 5}, {"until_s": 90}, {"blocked": (Window(3, 5),)}, {"idle_w": 11},
        {"busy_w": 11}, {"boot_kwh": 0.2}, {"health": 0.9},
    ],
)  # fmt: skip
def test_workers_that_differ_are_not_alike(change: dict[str, Any]) -> None:
    """One of two different workers would never be tried."""
    workers = (replace(WORKER, id="a"), replace(WORKER, id="b"), replace(WORKER, id="c", **change))
    tasks = (Task("t", {"cpu": 1000}, requires=("x",)), Task("u", {"cpu": 1000}))
    estimates = {t.id: {"*": DurationEstimate.certain(5)} for t in tasks}
    snapshot = Snapshot(1, 0, workers, tasks)
    request = PlanRequest("alike", snapshot, estimates, Policy(EVERY_PRICE))
    assert _worker_groups(SearchSpace(encode(request))) == [0, 0, 1]


def test_a_worker_where_something_runs_is_not_like_an_idle_one() -> None:
    """What runs there would be left out of its load and its power."""
    workers = (replace(WORKER, id="a"), replace(WORKER, id="b"), replace(WORKER, id="c"))
    running = (Running(Task("r", {}), ("b",), 0), Running(Task("s", {"mem": 0}), ("c",), 0))
    estimates = {"t": {"*": DurationEstimate.certain(5)}, "r": {"*": DurationEstimate.certain(7)},
                 "s": {"*": DurationEstimate.certain(9)}}  # fmt: skip
    snapshot = Snapshot(1, 0, workers, (Task("t", {"cpu": 1000}),), running)
    request = PlanRequest("alike", snapshot, estimates, Policy(EVERY_PRICE))
    assert _worker_groups(SearchSpace(encode(request))) == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"demand": {"cpu": 2000}}, {"release_s": 3}, {"deadline_s": 40}, {"weight": 2.0},
        {"owner": "q"}, {"requires": ("x",)}, {"after": ("p",)}, {"shards": 2},
    ],
)  # fmt: skip
def test_tasks_that_differ_are_not_twins(change: dict[str, Any]) -> None:
    """One order of two different tasks would never be tried."""
    task = Task("a", {"cpu": 1000}, deadline_s=50, owner="p")
    tasks = (
        Task("p", {"cpu": 500}), task, replace(task, id="b"), replace(task, id="c", **change),
    )  # fmt: skip
    estimates = {t.id: {"*": DurationEstimate.certain(5)} for t in tasks}
    request = PlanRequest("twins", Snapshot(1, 0, (WORKER,), tasks), estimates)
    assert _twins(SearchSpace(encode(request))) == [-1, -1, 1, -1]
    slower = {**estimates, "b": {"*": DurationEstimate.certain(6)}}
    assert _twins(SearchSpace(encode(replace(request, estimates=slower))))[2] == -1
    follower = Task("d", {"cpu": 500}, after=("b",))
    followed = PlanRequest(
        "followed", Snapshot(1, 0, (WORKER,), (*tasks[:3], follower)),
        {**estimates, "d": {"*": DurationEstimate.certain(5)}},
    )  # fmt: skip
    assert _twins(SearchSpace(encode(followed)))[2] == -1
