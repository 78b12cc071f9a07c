"""CP-SAT by classes of workers and in coarse time: relaxations, and the way back to plans."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ortools.sat.python import cp_model

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, Schedule, decode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    TERMS,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.solvers.cpsat.coarse import coarse, in_ticks, retimed
from plancast.planner.solvers.cpsat.cpsat import CpSat
from plancast.planner.solvers.cpsat.model import Model
from plancast.planner.solvers.cpsat.worker_classes import classes_of, in_order, spread
from plancast.planner.solvers.greedy.greedy import Greedy
from tests.oracles.brute_force import optimum
from tests.oracles.random_requests import random_request

UNLIMITED = Budget(seconds=None, steps=1_000_000)
COMPLETE = "The solution hint is complete and is feasible."


def rng() -> np.random.Generator:
    """A fixed seed."""
    return np.random.default_rng(0)


def doubled(seed: int) -> PlanRequest:
    """A small random request in which the first worker is there twice."""
    request = random_request(seed, max_tasks=3)
    snapshot = request.snapshot
    twin = replace(snapshot.workers[0], id="twin")
    return replace(request, snapshot=replace(snapshot, workers=(*snapshot.workers, twin)))


def alike(tasks: int, workers: int, seed: int = 0) -> Problem:
    """A generated batch on workers that are all alike."""
    one = generate_cluster(workers, seed=seed)[0]
    cluster = tuple(replace(one, id=f"w{k}") for k in range(workers))
    return encode(generate_batch(tasks, cluster, seed=seed, label_share=0.0))


def five_tasks_of_two_fifths() -> Problem:
    """Together two workers have room for all five at once; on each there is room for two."""
    workers = tuple(Worker(f"w{k}", {"cpu": 10}, machine_class="m") for k in range(2))
    tasks = tuple(Task(f"t{k}", {"cpu": 4}) for k in range(5))
    estimates = {t.id: {"m": DurationEstimate((0.5,), (100.0,))} for t in tasks}
    policy = Policy(prices=Prices(36.0, *[0.0] * (len(TERMS) - 1)), level=0.5)
    snapshot = Snapshot(0, 0, workers, tasks)
    return encode(PlanRequest("fifths", snapshot, estimates, policy))


def greedy(problem: Problem) -> Schedule | None:
    """Some valid schedule."""
    return Greedy().solve(problem, budget=UNLIMITED, rng=rng()).schedule


def check(problem: Problem, schedule: Schedule) -> float:
    """The evaluator's cost of a schedule that it finds valid."""
    plan = decode(problem, schedule)
    found = evaluate(problem.request, plan, unplanned=problem.unplanned)
    assert found.valid, found.violations
    return found.cost


def test_workers_that_differ_in_anything_are_no_class() -> None:
    """Tasks would be placed on a worker that is costlier, slower, shut, or in use."""
    one = generate_cluster(1, seed=0)[0]
    same = replace(one, id="same")
    others = (
        replace(one, id="power", idle_w=one.idle_w + 1),
        replace(one, id="boot", boot_kwh=one.boot_kwh + 1),
        replace(one, id="health", health=one.health / 2),
        replace(one, id="class", machine_class="other"),
        replace(one, id="late", free_from_s=100),
        replace(one, id="drain", until_s=10**6),
        replace(one, id="small", capacity={k: v - 1 for k, v in one.capacity.items()}),
    )
    request = generate_batch(4, (one, same, *others), seed=0, label_share=0.0, by_class_share=0.0)
    priced = replace(request, policy=Policy(prices=Prices(kwh=0.5, failures=1.0)))
    classes = [members.tolist() for members in classes_of(encode(priced))]
    assert [0, 1] in classes
    assert len(classes) == 1 + len(others)
    # What has no price may differ: without one of energy, power and boots tell none apart.
    free = replace(request, policy=Policy(prices=Prices(kwh=0.0, failures=1.0)))
    classes = [members.tolist() for members in classes_of(encode(free))]
    assert [0, 1, 2, 3] in classes
    assert len(classes) == len(others) - 1


@pytest.mark.parametrize("power", [0.0, 500.0])
def test_the_optimum_by_classes_is_the_optimum(power: float) -> None:
    """The relaxation would cut plans off, or its placement would be taken for the optimum."""
    seen = 0
    chance = np.random.default_rng(1)
    for seed in range(40):
        request = doubled(seed)
        amounts = np.exp(chance.normal(0, 2, len(TERMS))) * (chance.random(len(TERMS)) < 0.6)
        prices = Prices(*(float(a) for a in amounts))
        workers = tuple(replace(w, idle_w=w.idle_w + power) for w in request.snapshot.workers)
        request = replace(
            request,
            snapshot=replace(request.snapshot, workers=workers),
            policy=replace(request.policy, prices=replace(prices, moves=0.0)),
        )
        problem = encode(request)
        if not problem.tasks or problem.infeasible:
            continue
        best = optimum(request, problem.unplanned)
        found = CpSat().solve(problem, budget=UNLIMITED, rng=rng(), incumbent=greedy(problem))
        assert (best is None) == (found.schedule is None)
        if best is None or found.schedule is None:
            continue
        assert found.status is Status.OPTIMAL
        assert check(problem, found.schedule) == pytest.approx(best.cost, rel=1e-6, abs=1e-9)
        assert found.lower_bound <= best.cost * (1 + 1e-9) + 1e-12
        seen += any(len(members) > 1 for members in classes_of(problem))
    assert seen > 12


def test_what_fits_together_and_on_no_worker_is_placed_later() -> None:
    """A plan by class would be handed on as a plan."""
    problem = five_tasks_of_two_fifths()
    classes = classes_of(problem)
    model = Model(problem, None, math.inf, classes)
    solver: Any = cp_model.CpSolver()
    solver.solve(model.model)
    together = model.schedule(solver)
    assert together.end.max() == 100
    placed = spread(problem, together, classes)
    assert placed is not None
    assert check(problem, placed) == pytest.approx(2.0)
    found = CpSat().solve(problem, budget=UNLIMITED, rng=rng())
    assert found.status is Status.OPTIMAL
    assert found.schedule is not None
    assert found.schedule.end.max() == 200


def test_hints_are_complete_by_class_and_in_order() -> None:
    """A variable without a hint, or one that breaks the order, would lose the schedule."""
    for seed in range(4):
        problem = alike(12, 4, seed)
        incumbent = greedy(problem)
        assert incumbent is not None
        classes = classes_of(problem)
        assert len(classes) == 1
        by_class = Model(problem, incumbent, math.inf, classes)
        by_worker = Model(problem, in_order(problem, incumbent, classes), math.inf)
        by_worker.keep_in_order(classes)
        for model in (by_class, by_worker):
            solver: Any = cp_model.CpSolver()
            solver.parameters.num_workers = 1
            solver.parameters.max_deterministic_time = 0.05
            solver.parameters.log_search_progress = True
            solver.parameters.log_to_stdout = False
            log: list[str] = []
            solver.log_callback = log.append
            solver.solve(model.model)
            assert COMPLETE in "".join(log)


def test_swapping_alike_workers_changes_no_cost() -> None:
    """The hint would be costlier than the incumbent it is made of."""
    for seed in range(6):
        problem = alike(20, 5, seed)
        incumbent = greedy(problem)
        assert incumbent is not None
        swapped = in_order(problem, incumbent, classes_of(problem))
        assert check(problem, swapped) == pytest.approx(problem.cost(incumbent))


def test_too_many_intervals_for_workers_are_few_enough_for_classes() -> None:
    """Large clusters of one kind of machine would be left alone."""
    problem = alike(10, 6)
    found = CpSat(max_intervals=20).solve(problem, budget=Budget(None, 2000), rng=rng())
    assert found.schedule is not None
    assert found.claimed == pytest.approx(check(problem, found.schedule))
    assert found.lower_bound <= problem.cost(found.schedule)


def test_coarse_time_leads_back_to_valid_plans_that_cost_no_more() -> None:
    """What is rounded would overlap in seconds, or be promised for less than it costs."""
    timed = 0
    for seed in range(60):
        problem = encode(random_request(seed, max_tasks=6))
        if not problem.tasks or problem.infeasible:
            continue
        rough = coarse(problem, 3)
        if rough is None:
            assert problem.rates.slowdown > 0 or problem.max_stretch > 0
            continue
        first = greedy(rough)
        if first is None:
            continue
        back = retimed(problem, first, 3)
        assert back is not None
        cost = check(problem, back) - problem.rates.move * problem.moved(back)
        assert cost <= rough.cost(first) * (1 + 1e-9) + 1e-9
        incumbent = greedy(problem)
        assert incumbent is not None
        again = in_ticks(rough, incumbent, 3)
        assert again is None or (again.end - again.start >= 1).all()
        timed += 1
    assert timed > 15


@pytest.mark.slow
def test_a_long_horizon_is_planned_in_ticks() -> None:
    """Days by the second would be searched second by second."""
    problem = alike(24, 4)
    long = replace(problem, duration=problem.duration * 400, memory={})
    first = greedy(long)
    assert first is not None
    found = CpSat(tick_s=1000, by_class=False).solve(
        long, budget=Budget(None, 200), rng=rng(), incumbent=first
    )
    assert found.schedule is not None
    assert long.cost(found.schedule) <= long.cost(first)
