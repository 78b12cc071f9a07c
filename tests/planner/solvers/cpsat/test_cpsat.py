"""CP-SAT: rounding that is owned up to, a complete hint, limits that are kept."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ortools.sat.python import cp_model

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    MOST_FACTOR,
    TERMS,
    BadRequest,
    DurationEstimate,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.solvers.astar.astar import AStar
from plancast.planner.solvers.cpsat.cpsat import CpSat
from plancast.planner.solvers.cpsat.facts import Facts
from plancast.planner.solvers.cpsat.model import Model
from plancast.planner.solvers.greedy.greedy import Greedy
from tests.oracles.brute_force import optimum
from tests.oracles.extreme_requests import extreme_request
from tests.oracles.random_requests import random_request
from tests.oracles.valid_schedules import plannable, random_schedules

UNLIMITED = Budget(seconds=None, steps=1_000_000)
COMPLETE = "The solution hint is complete and is feasible."
"""CP-SAT's own words."""


def rng() -> np.random.Generator:
    """A fixed seed."""
    return np.random.default_rng(0)


def test_the_hint_is_complete() -> None:
    """A variable without a hint would lose the schedule to start from."""
    hinted = 0
    for problem in plannable(range(60)):
        incumbent = Greedy().solve(problem, budget=UNLIMITED, rng=rng()).schedule
        if incumbent is None:
            continue
        solver: Any = cp_model.CpSolver()
        solver.parameters.log_search_progress = True
        solver.parameters.log_to_stdout = False
        solver.parameters.num_workers = 1
        log: list[str] = []
        solver.log_callback = log.append
        solver.solve(Model(problem, incumbent, math.inf).model)
        assert COMPLETE in "".join(log)
        hinted += 1
    assert hinted > 30


def priced(seed: int, prices: Prices) -> Problem | None:
    """A small random problem with other prices, None if there is nothing to plan."""
    request = random_request(seed, max_tasks=3)
    problem = encode(replace(request, policy=replace(request.policy, prices=prices)))
    return problem if problem.tasks and not problem.infeasible else None


@pytest.mark.parametrize("magnitude", [1e-5, 1.0, 1e6])
def test_awkward_prices(magnitude: float) -> None:
    """Rounding the prices to integers would cost exactness, or lift the bound above the optimum."""
    chance = np.random.default_rng(4)
    seen = 0
    for seed in range(30):
        amounts = np.exp(chance.normal(0, 3, len(TERMS))) * (chance.random(len(TERMS)) < 0.6)
        prices = Prices(*(float(a * magnitude) for a in amounts))
        problem = priced(seed, prices)
        if problem is None:
            continue
        best = optimum(problem.request, problem.unplanned)
        solution = CpSat().solve(problem, budget=UNLIMITED, rng=rng())
        if best is None:
            assert solution.status is Status.INFEASIBLE
            continue
        assert solution.status is Status.OPTIMAL
        assert solution.schedule is not None
        assert problem.cost(solution.schedule) == pytest.approx(best.cost, rel=1e-6)
        assert solution.lower_bound <= best.cost * (1 + 1e-9)
        assert solution.lower_bound >= best.cost * (1 - 1e-5)
        seen += 1
    assert seen > 15


@pytest.mark.parametrize("term", [t for t in TERMS if t != "moves"])
def test_each_term_alone(term: str) -> None:
    """A term would be modelled wrongly and hide behind the others."""
    seen = 0
    for seed in range(400, 430):
        problem = priced(seed, replace(Prices(*[0.0] * len(TERMS)), **{term: 7.0}))
        if problem is None:
            continue
        best = optimum(problem.request, problem.unplanned)
        solution = CpSat().solve(problem, budget=UNLIMITED, rng=rng())
        assert (best is None) == (solution.schedule is None)
        if best is not None and solution.schedule is not None:
            cost = problem.cost(solution.schedule)
            assert cost == pytest.approx(best.cost, rel=1e-6, abs=1e-12)
            assert solution.claimed == pytest.approx(cost, rel=1e-6, abs=1e-12)
            seen += 1
    assert seen > 12


def test_rounding_is_taken_off_the_bound() -> None:
    """The solver's bound on its rounded objective could be above the true cost of a schedule."""
    chance = np.random.default_rng(5)
    rounded, seen = 0, 0
    for seed in range(80):
        # Prices so far apart that no scale holds them all exactly.
        drawn = np.exp(chance.normal(0, 9, len(TERMS)))
        prices = Prices(*np.minimum(drawn, MOST_FACTOR).tolist())
        problem = priced(seed, prices)
        if problem is None:
            continue
        model = Model(problem, None, math.inf)
        for schedule in random_schedules(problem, chance, 4):
            if schedule.end.max() > model.horizon:
                continue  # no schedule that the model knows
            facts = Facts(problem, schedule, model.first)
            worth = [math.ceil(value(facts) - 1e-6) for *_, value in model.costs]
            objective = sum(n * value for n, value in zip(model.coefficients, worth, strict=True))
            cost = problem.cost(schedule)
            assert model.bound_of(objective) <= cost
            error = model.error + model.unit_error
            assert abs(model.cost_of(objective) - cost) <= error + 1e-9 * cost
            rounded += model.cost_of(objective) > cost * (1 + 1e-11)
            seen += 1
    assert seen > 100
    assert rounded > 10


def test_models_that_are_too_large_are_refused() -> None:
    """A model would be built until the memory or the time is gone."""
    problem = encode(generate_batch(30, generate_cluster(5, seed=1), seed=1))
    solution = CpSat(max_intervals=10).solve(problem, budget=UNLIMITED, rng=rng())
    assert solution.status is Status.NO_PLAN_IN_TIME
    assert solution.steps == 0


def test_building_the_model_counts_towards_the_budget() -> None:
    """A large model would be built to its end after the time is up."""
    problem = encode(generate_batch(300, generate_cluster(40, seed=1), seed=1))
    solution = CpSat().solve(problem, budget=Budget(0.05), rng=rng())
    assert solution.status is Status.NO_PLAN_IN_TIME
    assert solution.steps == 0


def test_gave_up_is_not_impossible() -> None:
    """Running out of steps would be reported as a proof that there is no plan."""
    problem = encode(generate_batch(60, generate_cluster(6, seed=1), seed=1))
    solution = CpSat().solve(problem, budget=Budget(None, 1), rng=rng())
    assert solution.status is Status.NO_PLAN_IN_TIME


def test_amounts_and_times_at_the_limits_end_in_no_error() -> None:
    """A sum beyond 64 bits would be an error of types, an invalid model, or a false bound."""
    planned = refused = 0
    for seed in range(80):
        with suppress(BadRequest):
            problem = encode(extreme_request(seed))
            if not problem.tasks or problem.infeasible:
                continue
            known = Greedy().solve(problem, budget=Budget(None, 20), rng=rng()).schedule
            found = CpSat().solve(problem, budget=Budget(None, 200), rng=rng(), incumbent=known)
            assert found.status is not Status.INFEASIBLE or known is None, seed
            if known is not None:
                cost = problem.cost(known)
                assert found.lower_bound <= cost + 1e-9 * abs(cost), seed
            if found.schedule is None:
                refused += 1
                continue
            plan = decode(problem, found.schedule)
            assert evaluate(problem.request, plan, unplanned=problem.unplanned).valid, seed
            planned += 1
    assert planned > 10
    assert refused > 10


def test_a_model_of_large_amounts_keeps_its_optimum() -> None:
    """Where the sums that are redundant do not fit, the plan and its proof would be lost."""
    workers = tuple(Worker(f"w{k}", {"cpu": 2**50 - k}, idle_w=100.0) for k in range(2))
    tasks = tuple(Task(f"t{k}", {"cpu": 2**49 + k}, release_s=0) for k in range(4))
    estimates = {t.id: {"*": DurationEstimate.certain(20_000 + k)} for k, t in enumerate(tasks)}
    prices = Prices(makespan_h=1.0, wait_h=1.0, kwh=1.0)
    request = PlanRequest("r", Snapshot(1, 0, workers, tasks), estimates, Policy(prices))
    problem = encode(request)
    found = CpSat().solve(problem, budget=UNLIMITED, rng=rng())
    exact = AStar().solve(problem, budget=UNLIMITED, rng=rng())
    assert found.status is exact.status is Status.OPTIMAL
    assert found.claimed == pytest.approx(exact.claimed)


def test_probing_loses_no_schedule_of_gangs() -> None:
    """Presolve called a plan optimal that cost 231,706 where another one costs 130,517."""
    workers = (
        Worker("w0", {"cpu": 3000, "mem": 2000}, machine_class="a", busy_w=180.0,
               boot_kwh=0.0003, carbon_kg_per_kwh=0.3),
        Worker("w1", {"cpu": 3000, "mem": 2000}, machine_class="b", busy_w=240.0,
               boot_kwh=0.0003, carbon_kg_per_kwh=0.3),
        Worker("w2", {"cpu": 4000, "mem": 2000}, machine_class="b", busy_w=360.0),
    )  # fmt: skip
    tasks = (
        Task("long", {"cpu": 2000, "mem": 1500}, deadline_s=9, weight=0.0),
        Task("gang", {"cpu": 1500, "mem": 2000}, release_s=-4, weight=3.0, shards=3),
        Task("short", {"cpu": 2500, "mem": 1000}, release_s=-3, deadline_s=4),
    )
    estimates = {
        "long": {"*": DurationEstimate.certain(83_592)},
        "gang": {"*": DurationEstimate.certain(2_475)},
        "short": {"b": DurationEstimate.certain(3_525)},
    }
    prices = Prices(
        makespan_h=0.0, late_h=0.0, misses=0.0, wait_h=7200.0, stretch=3.0, kwh=18_000.0,
        carbon_kg=54_000.0,
    )  # fmt: skip
    request = PlanRequest("gang", Snapshot(0, 0, workers, tasks), estimates, Policy(prices))
    problem = encode(request)
    proven = AStar().solve(problem, budget=UNLIMITED, rng=rng())
    found = CpSat().solve(problem, budget=UNLIMITED, rng=rng())
    assert proven.status is found.status is Status.OPTIMAL
    assert found.claimed == pytest.approx(proven.claimed)
