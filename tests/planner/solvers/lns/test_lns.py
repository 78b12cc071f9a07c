"""Ruin and recreate: what it keeps by differences is what the whole schedule costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, Schedule, decode
from plancast.planner.bounds.relaxation import relax
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    DurationEstimate,
    Prices,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, to_json
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns import lns, ruin
from plancast.planner.solvers.lns.local_search import (
    Shape,
    Walk,
    fixed_arrays,
    full_cost,
    join,
    ranks,
    split,
    state_arrays,
    with_pool,
)
from plancast.planner.solvers.lns.ruin import load, total_cost
from tests.conftest import scaled
from tests.oracles.valid_schedules import plannable

TINY = Shape(most=4, looked_at=3, blink=0.1, tie=1e-12)


def greedy(problem: Problem) -> Schedule | None:
    """Some valid schedule."""
    budget, rng = Budget(None, 1), np.random.default_rng(0)
    return SOLVERS["greedy"]().solve(problem, budget=budget, rng=rng).schedule


def with_incumbent(problem: Problem, price: float = 0.7) -> Problem:
    """The same request, replanned: its greedy plan is the incumbent, and moves have a price."""
    first = greedy(problem)
    assert first is not None
    policy = replace(problem.request.policy, move_tolerance_s=1)
    policy = replace(policy, prices=replace(policy.prices, moves=price))
    return encode(replace(problem.request, policy=policy, incumbent=decode(problem, first)))


@pytest.mark.parametrize(("rent", "level"), [(0.0, 0.0), (0.5, 0.5)])
@pytest.mark.parametrize(("moves_priced", "hours"), [(False, False), (True, False), (True, True)])
def test_costs_kept_by_differences_are_the_costs_of_the_whole(
    rent: float, level: float, moves_priced: bool, hours: bool
) -> None:
    """The search would climb on a cost that drifts away from the evaluator's."""
    moved = 0
    for problem in plannable(range(7000, 7000 + scaled(50)), max_tasks=8, hours=hours):
        first = greedy(problem)
        if first is None:
            continue
        if moves_priced:
            problem = with_incumbent(problem)
        fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
        walk = Walk(problem, fixed, first, ranks(problem), seed=1)
        assert total_cost(fixed, walk.state) == pytest.approx(
            full_cost(problem, first), rel=1e-9, abs=1e-9
        )
        # Hot enough to accept worse schedules too.
        for _ in range(3):
            walk.level(level)
            walk.step(100, full_cost(problem, first) / len(problem.tasks), rent, TINY)
        fixed.wf[:] = fixed_arrays(problem).wf
        now = walk.now()
        assert total_cost(fixed, walk.state) == pytest.approx(
            full_cost(problem, now), rel=1e-9, abs=1e-9
        )
        found = evaluate(problem.request, decode(problem, now), unplanned=problem.unplanned)
        assert found.valid, found.violations
        assert found.cost == pytest.approx(full_cost(problem, now), rel=1e-9, abs=1e-9)
        best = evaluate(problem.request, decode(problem, walk.best), unplanned=problem.unplanned)
        assert best.valid
        assert best.cost == pytest.approx(walk.best_cost, rel=1e-9, abs=1e-9)
        check_state(problem, walk)
        moved += bool((now.start != first.start).any())
    assert moved > scaled(5)


def check_state(problem: Problem, walk: Walk) -> None:
    """What the walk keeps beside times and workers is what a fresh load makes of them."""
    state, profile = state_arrays(problem, walk.now())
    fresh, items = load(walk.fixed, state, profile, 8)
    for w in range(len(problem.workers)):
        n = int(state.ws[w, 2])
        assert walk.state.ws[w].tolist() == state.ws[w].tolist()
        assert (walk.profile[w, :n] == fresh[w, :n]).all()
        held = walk.items[w, : int(state.ws[w, 1])]
        assert sorted(held) == sorted(items[w, : int(state.ws[w, 1])])
    assert walk.state.load_s == pytest.approx(state.load_s, abs=1e-6)
    assert walk.state.wait_s == pytest.approx(state.wait_s, abs=1e-6)


@pytest.mark.parametrize("hours", [False, True])
def test_a_call_of_the_kernel_ends_with_the_cost_that_it_has_kept(hours: bool) -> None:
    """Within a call a search that charges for late ends would follow a cost that has drifted."""
    charged = 0
    for problem in plannable(range(7000, 7060), max_tasks=8, hours=hours):
        first = greedy(problem)
        if first is None:
            continue
        fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
        walk = Walk(problem, fixed, first, ranks(problem), seed=1)
        heat = full_cost(problem, first) / len(problem.tasks)
        for seed in range(3):
            walk.level(0.5)
            # fmt: off
            walk.profile, walk.items, *_, current = ruin.search(
                fixed, walk.state, walk.profile, walk.items, walk.rank, walk.odds, 100, heat,
                TINY.most, TINY.looked_at, TINY.blink, TINY.tie, seed,
            )
            # fmt: on
            assert current == pytest.approx(total_cost(fixed, walk.state), rel=1e-9, abs=1e-9)
            over = walk.state.ws[:, ruin.LAST] - fixed.wi[:, ruin.TARGET]
            charged += bool((over > 0).any() and fixed.wf[:, ruin.OVER].max() > 0)
    assert charged > 30


def test_the_workers_that_end_last_are_charged_for_it() -> None:
    """Twenty that end after 1, 2, ... 20 hours: the last pays half of the makespan's price."""
    workers = generate_cluster(1, seed=0) * 20
    request = generate_batch(20, [replace(w, id=f"w{k}") for k, w in enumerate(workers)])
    problem = encode(request)
    hours = np.arange(1, 21)
    schedule = Schedule(np.zeros(20, np.int64), 3600 * hours, np.arange(20))
    fixed = fixed_arrays(problem)
    walk = Walk(problem, fixed, schedule, ranks(problem), seed=0)
    walk.level(0.5)
    over = np.maximum(0, walk.state.ws[:, ruin.LAST] - walk.fixed.wi[:, ruin.TARGET])
    assert over[:19].tolist() == [0] * 19
    assert 0 < over[19] <= 3600
    price = walk.fixed.rates[ruin.END_S]
    assert walk.fixed.wf[:, ruin.OVER] == pytest.approx(np.full(20, price / 2))


@pytest.mark.parametrize(
    "name",
    ["1000x50-0", *(pytest.param(x, marks=pytest.mark.slow) for x in ("1000x50-2", "5000x200-0"))],
)
def test_levelling_makes_plans_cheaper_where_work_sets_the_makespan(
    name: str, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty workers or more end late, and that one of them ends sooner would gain nothing.

    To ruin and recreate alone; with rows beside it there is no such difference in so few moves.
    """
    monkeypatch.setattr(lns, "suits_rows", lambda problem: False)
    instance = read_cluster(shared_data(f"benchmarks/cluster/cluster-{name}.json.gz"))
    problem = encode(instance.request)
    relaxation = relax(problem)
    assert relaxation is not None
    assert relaxation.makespan_s > 1.1 * relaxation.least_end_s
    plain, levelled = (
        SOLVERS["lns"](level=level).solve(
            problem, budget=Budget(None, 12_000), rng=np.random.default_rng(0)
        )
        for level in (0.0, 0.5)
    )
    assert plain.claimed is not None
    assert levelled.claimed is not None
    assert levelled.claimed < 0.999 * plain.claimed


def test_where_a_chain_sets_the_makespan_nothing_is_levelled() -> None:
    """Moves would be spent on ends that do not matter."""
    request = generate_batch(200, generate_cluster(50, seed=1), seed=1)
    prices = Prices(makespan_h=1.0, wait_h=0.0, kwh=0.1)
    problem = encode(replace(request, policy=replace(request.policy, prices=prices)))
    plans = [
        SOLVERS["lns"](level=level).solve(
            problem, budget=Budget(None, 2000), rng=np.random.default_rng(0)
        )
        for level in (0.0, 1.0)
    ]
    assert plans[0].claimed == plans[1].claimed
    assert plans[0].schedule is not None
    assert plans[1].schedule is not None
    assert (plans[0].schedule.start == plans[1].schedule.start).all()


def test_two_halves_never_meet() -> None:
    """Two threads would put tasks on top of one another, or one before its predecessor."""
    changed = 0
    for seed in range(12):
        request = generate_batch(60, generate_cluster(8, seed=seed), seed=seed)
        problem = encode(request)
        now = greedy(problem)
        assert now is not None
        rng = np.random.default_rng(seed)
        fixed = with_pool(fixed_arrays(problem), None, rng)
        group = np.arange(len(problem.workers)) // 2
        for _ in range(4):
            parts = []
            for half in split(fixed, now, group, rng):
                walk = Walk(problem, half, now, ranks(problem), int(rng.integers(100)))
                walk.step(300, problem.cost(now) / 60, 0.2, TINY)
                parts.append((half, walk.now()))
            mixed = join(now, parts)
            found = evaluate(request, decode(problem, mixed))
            assert found.valid, found.violations
            changed += bool((mixed.start != now.start).any())
            now = mixed
    assert changed > 24


ANOTHER_PROCESS = """
import sys
from dataclasses import replace
from plancast.planner.model.messages import PlanRequest, from_json, to_json
from plancast.planner.planning.plan import plan
response = plan(from_json(PlanRequest, sys.stdin.buffer.read()))
sys.stdout.buffer.write(to_json(replace(response, wall_s=0.0)))
"""


@pytest.mark.slow
def test_another_process_makes_the_same_plan_with_the_same_steps() -> None:
    """Hash seeds, thread timing or the order of a set would reach the plan."""
    request = generate_batch(60, generate_cluster(8, seed=4), seed=4)
    request = replace(request, budget=Budget(None, 2000), seed=9)
    mine = to_json(replace(plan(request), wall_s=0.0))
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS],
        input=to_json(request),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    assert done.stdout == mine


def test_moves_are_counted_as_the_evaluator_counts_them() -> None:
    """Replanning would keep tasks where they are for nothing, or move them unaware."""
    some = 0
    for problem in plannable(range(300, 360)):
        first = greedy(problem)
        if first is None:
            continue
        problem = with_incumbent(problem, price=0.001)
        rng = np.random.default_rng(0)
        solution = SOLVERS["lns"]().solve(problem, budget=Budget(None, 300), rng=rng)
        assert solution.schedule is not None
        made = decode(problem, solution.schedule)
        found = evaluate(problem.request, made, unplanned=problem.unplanned)
        assert found.terms["moves"] == problem.moved(solution.schedule)
        assert solution.claimed == pytest.approx(found.cost, rel=1e-9, abs=1e-9)
        some += found.terms["moves"] > 0
    assert some > 1


def test_a_dear_move_is_not_made() -> None:
    """The search would not know the price of a move."""
    request = generate_batch(40, generate_cluster(5, seed=3), seed=3)
    problem = encode(request)
    first = greedy(problem)
    assert first is not None
    policy = replace(request.policy, prices=Prices(moves=1e6))
    problem = encode(replace(request, policy=policy, incumbent=decode(problem, first)))
    rng = np.random.default_rng(0)
    budget = Budget(None, 3000)
    solution = SOLVERS["lns"]().solve(problem, budget=budget, rng=rng, incumbent=first)
    assert solution.schedule is not None
    assert problem.moved(solution.schedule) == 0
    cheap = encode(replace(request, incumbent=decode(problem, first)))
    solution = SOLVERS["lns"]().solve(cheap, budget=budget, rng=rng, incumbent=first)
    assert solution.schedule is not None
    assert problem.moved(solution.schedule) > 0


@pytest.mark.parametrize("solver", ["lns", "repair", "auto"])
@pytest.mark.parametrize("crowd", ["running", "windows"])
def test_workers_with_a_long_past_and_many_windows(solver: str, crowd: str) -> None:
    """Profiles that were doubled for what runs would not fit where the search copies them."""
    now_s = 1_000_000
    workers = tuple(
        Worker(
            f"w{k}", {"cpu": 64_000},
            blocked=tuple(Window(now_s + 100 * b + 50, now_s + 100 * b + 60 + k) for b in range(33))
            if crowd == "windows" else (),
        )
        for k in range(3)
    )  # fmt: skip
    tasks = tuple(
        Task(f"t{k}", {"cpu": 9_000 + 500 * k}, now_s, now_s + 90, weight=1.0 + k)
        for k in range(20)
    )
    running = tuple(
        Running(Task(f"r{k}", {"cpu": 1_000}, now_s - 5), (f"w{k % 3}",), now_s - 5)
        for k in range(150 if crowd == "running" else 0)
    )
    certain = DurationEstimate.certain
    estimates = {t.id: {"*": certain(20 + 7 * k % 29)} for k, t in enumerate(tasks)}
    estimates |= {r.task.id: {"*": certain(20 + 2 * k)} for k, r in enumerate(running)}
    request = PlanRequest(
        "crowd", Snapshot(0, now_s, workers, tasks, running), estimates, budget=Budget(None, 2_000)
    )
    floor = plan(request, "greedy")
    assert floor.cost is not None
    response = plan(replace(request, incumbent=floor.plan), solver)
    assert validate_response(replace(request, incumbent=floor.plan), response) == []
    assert response.cost is not None
    assert response.cost < floor.cost


def test_a_schedule_that_was_prepared_counts_where_no_time_is_left() -> None:
    """A second for 10,000 tasks would now and then end with the list schedule it began with."""
    problem = encode(generate_batch(60, generate_cluster(6), seed=1))
    engine, rng, first = SOLVERS["lns"](), np.random.default_rng(0), greedy(problem)
    assert isinstance(engine, lns.LargeNeighbourhood)
    better = engine.solve(problem, budget=Budget(None, 500), rng=rng, incumbent=first).schedule
    assert first is not None
    assert better is not None
    assert full_cost(problem, better) < full_cost(problem, first)
    engine.prepare(problem, 1.0)
    problem.memory[lns.READY] = replace(problem.memory[lns.READY], guided=(better,))
    found = engine.solve(problem, budget=Budget(0.0), rng=rng, incumbent=first)
    assert found.claimed == pytest.approx(full_cost(problem, better))
