"""Plans of a cluster over scenarios: the kernel prices them as the evaluator does."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.problem import Schedule, decode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    LIMIT,
    TERMS,
    DurationEstimate,
    Policy,
    Prices,
    Running,
    Window,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse
from plancast.planner.planning.plan import plan
from plancast.planner.planning.scenarios import Outlooks, mean, outlooks_of
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns.orders import suits
from plancast.planner.solvers.lns.scenario_course import Scenarios, lay_out
from plancast.planner.solvers.lns.scenario_kernel import search
from plancast.planner.solvers.lns.scenario_rows import (
    ODDS,
    ScenarioWalk,
    name_ranks,
    scenarios_of,
    suits_scenarios,
)
from tests.conftest import scaled
from tests.oracles.plain_courses import cost_in, least_cost
from tests.oracles.random_requests import random_request

LEVELS = (0.3, 0.7, LIMIT)
ALL_TERMS = Prices(**dict.fromkeys(TERMS, 1.0))


def batch(tasks: int, workers: int, seed: int, prices: Prices | None = None) -> PlanRequest:
    """Workflows and gangs on machine classes, some of them at work, with unlike spreads."""
    request = generate_batch(
        tasks, generate_cluster(workers, seed), seed, gang_share=0.2, due_share=0.4
    )
    rng = np.random.default_rng(seed)
    estimates = dict(request.estimates)
    for task in request.snapshot.pending:
        spread = rng.uniform(0.1, 1.0)
        estimates[task.id] = {
            name: DurationEstimate(
                (0.1, 0.5, 0.9),
                tuple(int(known.at(0.5) * np.exp(spread * z)) + 1 for z in (-1, 0, 1)),
            )
            for name, known in estimates[task.id].items()
        }
    alone = [t for t in request.snapshot.pending if t.shards == 1 and not t.after][:2]
    at_work = tuple(
        Running(replace(task, id=f"r{k}", demand={"cpu": 1000}, requires=()), (worker.id,), -50)
        for k, (task, worker) in enumerate(zip(alone, request.snapshot.workers, strict=False))
    )
    estimates |= {r.task.id: {"*": DurationEstimate((0.1, 0.9), (60, 400))} for r in at_work}
    return replace(
        request, estimates=estimates, snapshot=request.snapshot.evolved(running=at_work),
        policy=Policy(prices or Prices(), scenarios=LEVELS),
    )  # fmt: skip


def first_of(request: PlanRequest) -> tuple[Outlooks, Schedule]:
    """The scenarios of a request, and a schedule."""
    seen = outlooks_of(request)
    made = SOLVERS["greedy"]().solve(
        seen.problem, budget=Budget(None, 1), rng=np.random.default_rng(0)
    )
    assert made.schedule is not None
    return seen, made.schedule


def walked(seen: Outlooks, f: Scenarios, start: Schedule, moves: int = 200) -> ScenarioWalk:
    """A search from a schedule."""
    walk = ScenarioWalk(f, name_ranks(seen.problem), start, 1)
    walk.step_all(moves)
    return walk


def average(response: PlanResponse) -> float:
    """Mean cost over the scenarios that a response tells of."""
    return float(np.mean(list(response.scenarios.values())))


def agrees(request: PlanRequest, in_turn: bool) -> bool:
    """Whether kernel and evaluator agree of the plans that a search begins with and ends at."""
    seen, start = first_of(request)
    if not suits_scenarios(seen.problem) or not seen.requests:
        return False
    f = scenarios_of(seen.problem, seen.problems)._replace(in_turn=in_turn)
    for moves in (0, 200):
        walk = walked(seen, f, start, moves)
        if not np.isfinite(walk.cost):
            return False
        made = decode(seen.problem, walk.schedule())
        order, home, _ = walk.best
        times, costs = lay_out(f, order, home)
        in_plan = np.lexsort((walk.rank, times[0, :, 1], times[0, :, 0]))
        if (in_plan != order).any():
            continue  # what starts at once has not settled
        expected = [cost_in(request, made, asked, in_turn) for asked in seen.requests.values()]
        assert costs == pytest.approx(expected, rel=1e-9, abs=1e-9)
        if not suits(seen.problem):
            judged = mean(seen.costs(made))
            assert judged <= walk.cost + 1e-9 * abs(walk.cost)
            assert in_turn or judged == pytest.approx(walk.cost, rel=1e-9)
    return True


@pytest.mark.parametrize("in_turn", [True, False])
@pytest.mark.parametrize("prices", [None, ALL_TERMS])
def test_the_kernel_prices_a_plan_as_the_evaluator_does(
    in_turn: bool, prices: Prices | None
) -> None:
    """A search would better what nobody asked for."""
    for seed in range(4):
        assert agrees(batch(30, 5, seed, prices), in_turn)


@pytest.mark.parametrize("in_turn", [True, False])
def test_it_does_of_awkward_requests(in_turn: bool) -> None:
    """A boot, a gang on one worker, or a plan in force would be priced by a rule of its own."""
    agreed = 0
    for seed in range(scaled(60)):
        request = random_request(
            seed, 8, 4, drains=False, blocked=False, bounds=False, preemption=False, misfits=False
        )
        policy = replace(request.policy, scenarios=LEVELS)
        agreed += agrees(replace(request, policy=policy), in_turn)
    assert agreed > scaled(20)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_move_times_anew_is_all_that_it_changes(seed: int) -> None:
    """Costs kept by differences would drift from those of the plan."""
    seen, start = first_of(batch(40, 6, seed, ALL_TERMS if seed % 2 else None))
    f = scenarios_of(seen.problem, seen.problems)
    walk = walked(seen, f, start, 0)
    for heat in (0.0, 0.05 * walk.scale, 5.0 * walk.scale):
        best, there, order, home, least, current, timed = search(
            f, *walk.best[:2], 500, heat, ODDS, seed
        )
        assert timed > 0
        assert least == pytest.approx(lay_out(f, best, there)[1].mean(), rel=1e-9)
        assert current == pytest.approx(lay_out(f, order, home)[1].mean(), rel=1e-9)
        assert least <= min(walk.cost, current) + 1e-9 * abs(current)


def test_a_small_plan_is_found_as_by_trying_all() -> None:
    """Some order or some worker would be out of reach."""
    tried = 0
    for seed in range(60):
        request = random_request(
            seed, 5, 3, drains=False, blocked=False, bounds=False, preemption=False, misfits=False
        )
        asked = replace(request, policy=replace(request.policy, scenarios=LEVELS))
        seen = outlooks_of(asked)
        if not suits_scenarios(seen.problem) or not seen.requests or len(seen.problem.tasks) > 4:
            continue
        seen, start = first_of(asked)
        f = scenarios_of(seen.problem, seen.problems)
        walk = walked(seen, f, start, 0)
        heats = [part * walk.scale for part in (0.1, 1.0, 3.0, 10.0)]
        best = min(search(f, *walk.best[:2], 6000, heat, ODDS, 0)[4] for heat in heats)
        assert best == pytest.approx(least_cost(f, seen.problem), rel=1e-9, abs=1e-9), seed
        tried += 1
    assert tried > 5


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_s_plan_over_scenarios_is_no_costlier_and_comes_again(seed: int) -> None:
    """The plan of one level would be given up for a worse one, or chance would choose."""
    request = replace(batch(40, 6, seed), budget=Budget(None, 2000))
    plain = replace(request, policy=replace(request.policy, scenarios=()), budget=Budget(None, 800))
    found, first = plan(request), plan(plain)
    assert first.plan is not None
    assert found.plan is not None
    assert validate_response(request, found) == []
    seen = outlooks_of(request)
    assert mean(seen.costs(found.plan)) == pytest.approx(average(found))
    assert average(found) <= mean(seen.costs(first.plan)) * (1 + 1e-9)
    assert plan(request).plan == found.plan


def test_no_move_is_made_when_the_time_is_up() -> None:
    """A budget would be overdrawn by a call."""
    seen, start = first_of(batch(20, 4, 0))
    walk = walked(seen, scenarios_of(seen.problem, seen.problems), start, 0)
    walk.step_until(time.perf_counter() - 1.0)
    assert walk.moves == 0


def test_what_the_kernel_cannot_tell_is_planned_level_by_level() -> None:
    """A closed worker would be planned on."""
    request = batch(20, 4, 0)
    first, *others = request.snapshot.workers
    shut = replace(first, blocked=(Window(10, 500),))
    closed = replace(
        request, snapshot=request.snapshot.evolved(workers=(shut, *others)),
        budget=Budget(None, 300),
    )  # fmt: skip
    assert suits_scenarios(outlooks_of(request).problem)
    assert not suits_scenarios(outlooks_of(closed).problem)
    assert validate_response(closed, plan(closed)) == []
