"""Requests with modes as arrays, against brute force and the evaluator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.modes import Choices, decode_choices, encode_choices
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Mode,
    Policy,
    Prices,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.plan import plan
from plancast.planner.planning.repair import repair
from plancast.planner.solvers import MODE_SOLVERS, SOLVERS
from tests.conftest import spans
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.random_requests import random_request, related

PAIRS = ("gangs", "classes", "precedence", "labels", "dependencies", "counted", None)
"""What modes are paired with; None for all features at once."""
STEPS = Budget(seconds=None, steps=200_000)
EXACT = ("cpsat", "astar")
"""Those that prove; A* only where the stretch has no price."""


def drawn(seed: int, pair: str | None) -> PlanRequest:
    """A small request with modes and one further feature, or all."""
    if pair is None:
        return without_moves(random_request(seed, 4, 3, modes=True))
    few = dict.fromkeys(
        ("gangs", "classes", "precedence", "labels", "drains", "blocked", "free_from", "bounds",
         "misfits", "incumbent"), False,
    )  # fmt: skip
    relations = {name: name == pair for name in ("labels", "dependencies")}
    if pair in relations:
        few["precedence"] = relations["dependencies"]
    else:
        few[pair] = True
    # Brute force over modes, workers and starts takes seconds where lags make plans long.
    request = random_request(seed, 3 if pair == "dependencies" else 4, 3, modes=True, **few)
    if pair in relations:
        request = related(request, seed, gangs=False, exclusive=bool(seed % 2), **relations)
    return without_moves(request)


def check(seed: int, pair: str | None) -> bool:
    """Compare every solver that knows modes with brute force; whether there is a plan."""
    request = drawn(seed, pair)
    choices = encode_choices(request)
    if choices.infeasible or not choices.tasks:
        return False
    best = optimum(request, choices.unplanned)
    bound = lower_bound(choices.relaxed)
    for name in MODE_SOLVERS:
        exact = name in EXACT and (name == "cpsat" or not request.policy.prices.stretch)
        rng = np.random.default_rng(seed)
        budget = STEPS if name in EXACT else Budget(seconds=None, steps=200)
        solution = SOLVERS[name]().solve_modes(choices, budget=budget, rng=rng)  # type: ignore[attr-defined]
        if best is None:
            assert solution.schedule is None, (name, seed)
            assert not exact or solution.status is Status.INFEASIBLE, (name, seed)
            continue
        assert bound <= best.cost * (1 + 1e-9) + 1e-9, (name, seed)
        assert solution.lower_bound <= best.cost * (1 + 1e-9) + 1e-9, (name, seed)
        assert solution.status is not Status.INFEASIBLE, (name, seed)
        if solution.schedule is None:
            assert name not in EXACT, (name, seed)
            continue
        found = evaluate(
            request, decode_choices(choices, solution.schedule), unplanned=choices.unplanned
        )
        assert found.valid, (name, seed, found.violations)
        assert choices.cost(solution.schedule) == pytest.approx(found.cost, rel=1e-9, abs=1e-9)
        assert solution.claimed == pytest.approx(found.cost, rel=1e-6, abs=1e-9)
        assert found.cost >= best.cost - 1e-6 * abs(best.cost) - 1e-9, (name, seed)
        if exact:
            assert solution.status is Status.OPTIMAL, (name, seed)
            assert found.cost == pytest.approx(best.cost, rel=1e-6, abs=1e-9), (name, seed)
    return best is not None


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("seeds", spans(range(3), range(300)))
def test_solvers_that_know_modes_agree_with_brute_force(seeds: range, pair: str | None) -> None:
    """A mode could be priced by the numbers of another, a budget forgotten, a bound be false."""
    assert sum(check(seed, pair) for seed in seeds) >= len(seeds) / 2


def test_the_cost_of_any_choice_is_the_evaluators() -> None:
    """A schedule in a slow mode would be priced by its own time, or in another mode's demand."""
    priced = 0
    for seed in range(60):
        request = drawn(seed, None)
        policy = replace(request.policy, prices=replace(request.policy.prices, stretch=3.0))
        request = replace(request, policy=policy)
        choices = encode_choices(request)
        if choices.infeasible or not choices.tasks:
            continue
        found = SOLVERS["greedy"]().solve_modes(  # type: ignore[attr-defined]
            choices, budget=Budget(None, 1), rng=np.random.default_rng(0)
        )
        if found.schedule is not None:
            said = choices.cost(found.schedule)
            planned = decode_choices(choices, found.schedule)
            assert said == pytest.approx(
                evaluate(request, planned, unplanned=choices.unplanned).cost, abs=1e-9
            )
            priced += 1
    assert priced > 30


@pytest.mark.parametrize("seeds", spans(range(200, 220), range(200, 240)))
def test_plan_answers_for_requests_with_modes(seeds: range) -> None:
    """A response would be refused by the judge, costlier than greedy, or a false impossibility."""
    planned = 0
    for seed in seeds:
        request = replace(
            random_request(seed, 5, 3, modes=True), budget=Budget(None, 2000), seed=seed
        )
        answers = {name: plan(request, name) for name in ("auto", "greedy")}
        for response in answers.values():
            assert validate_response(request, response) == [], seed
            assert response.warning is None, (seed, response.warning)
        if answers["greedy"].cost is not None:
            assert (answers["auto"].cost or 0.0) <= answers["greedy"].cost + 1e-9
            planned += 1
    assert planned > 0.5 * len(seeds)


def test_repair_keeps_the_modes_of_the_plan_in_force() -> None:
    """A repair would refuse tasks with modes, or change what need not change."""
    repaired = kept = 0
    for seed in range(300, 330):
        request = replace(random_request(seed, 5, 3, modes=True), budget=Budget(None, 500))
        response = repair(request)
        assert validate_response(request, response) == [], seed
        greedy = plan(request, "greedy")
        if response.plan is None or greedy.cost is None or request.incumbent is None:
            continue
        assert (response.cost or 0.0) <= greedy.cost + 1e-9
        repaired += 1
        before = request.incumbent.by_task
        kept += all(a.mode == before[a.task].mode for a in response.plan.assignments
                    if a.task in before)  # fmt: skip
    assert repaired >= 3
    assert kept >= 1


def test_who_does_not_know_modes_refuses_by_name() -> None:
    """A solver that ignores modes would return an invalid plan, and be called faulty."""
    request = next(
        r for seed in range(50)
        if (r := random_request(seed, modes=True)).snapshot.has_modes and r.snapshot.pending
    )  # fmt: skip
    for name in sorted(set(SOLVERS) - set(MODE_SOLVERS)):
        with pytest.raises(BadRequest, match=f"{name} cannot plan them"):
            plan(request, name)
        assert not hasattr(SOLVERS[name](), "solve_modes")
    policy = replace(request.policy, scenarios=(0.5,))
    with pytest.raises(BadRequest, match="a policy with scenarios"):
        plan(replace(request, policy=policy))


def test_a_budget_that_no_choice_meets_is_no_reason_to_leave_a_task_out() -> None:
    """A task would be unplanned, as if no worker could hold it."""
    choices = impossible_budget()
    response = plan(replace(choices.request, budget=Budget(None, 100)), "greedy")
    assert (response.status, response.unplanned) == (Status.NO_PLAN_IN_TIME, {})
    assert validate_response(choices.request, response) == []
    proved = plan(replace(choices.request, budget=Budget(None, 10_000)), "cpsat")
    assert (proved.status, proved.unplanned) == (Status.INFEASIBLE, {})
    assert validate_response(choices.request, proved) == []


def impossible_budget() -> Choices:
    """A task that takes more than the budget in each of its modes."""
    request = drawn(3, "gangs")
    task = request.snapshot.pending[0]
    costly = tuple(replace(m, demand={**m.demand, "gold": 9}) for m in task.modes)
    pending = (replace(task, modes=costly), *request.snapshot.pending[1:])
    snapshot = replace(request.snapshot, pending=pending, budgets={"gold": 8})
    return encode_choices(replace(request, snapshot=snapshot))


def test_prices_are_there() -> None:
    """The requests drawn would price nothing that a mode changes."""
    terms = {t for s in range(20) for t in vars_of(drawn(s, None).policy.prices)}
    assert {"kwh", "stretch", "imbalance_h", "failures"} <= terms


def vars_of(prices: Prices) -> set[str]:
    """The terms that have a price."""
    return {name for name in prices.__dataclass_fields__ if prices.of(name) > 0}


@pytest.mark.parametrize("solver", ["auto", *MODE_SOLVERS])
def test_a_mode_may_name_what_no_worker_has(solver: str) -> None:
    """Amounts of the other modes would be read in each other's columns."""
    modes = (Mode("plain", {"cpu": 2000, "mem": 1}), Mode("fast", {"accelerator": 1, "mem": 3}))
    tasks = tuple(Task(f"t{k}", {}, modes=modes) for k in range(3))
    seconds = {m.id: {"*": DurationEstimate.certain(10)} for m in modes}
    snapshot = Snapshot(0, 0, (Worker("w", {"cpu": 4000, "mem": 4}),), tasks)
    request = PlanRequest("r", snapshot, {t.id: seconds for t in tasks}, budget=Budget(None, 200))
    response = plan(request, solver)
    assert validate_response(request, response) == []
    assert response.warning is None
    assert response.plan is not None
    assert max(a.end_s for a in response.plan.assignments) == 20


@pytest.mark.parametrize(("tokens", "said"), [(5, 1), (8, 0)])
def test_a_budget_that_costs_time_is_named(tokens: int, said: int) -> None:
    """A user would not learn that more budget buys a faster plan."""
    modes = (Mode("fast", {"cpu": 1000, "tokens": 4}), Mode("slow", {"cpu": 1000, "tokens": 1}))
    tasks = tuple(Task(f"t{k}", {}, modes=modes) for k in range(2))
    seconds = {name: {"*": DurationEstimate.certain(s)} for name, s in (("fast", 5), ("slow", 20))}
    worker, budgets = Worker("w", {"cpu": 4000}), {"tokens": tokens}
    request = PlanRequest(
        "r", Snapshot(0, 0, (worker,), tasks, budgets=budgets), {t.id: seconds for t in tasks},
        Policy(Prices(wait_h=1, makespan_h=1)), budget=Budget(None, 200),
    )  # fmt: skip
    response = plan(request)
    assert validate_response(request, response) == []
    assert response.plan is not None
    slow = [a.task for a in response.plan.assignments if a.mode == "slow"]
    assert len(slow) == said
    text = (
        "is done in its mode slow: fast is faster and takes 4 of tokens, of which the budget has "
        "1 left"
    )
    assert response.why == dict.fromkeys(slow, text)
