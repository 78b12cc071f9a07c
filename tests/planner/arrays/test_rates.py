"""Prices become coefficients in one place; all others read those and know no term."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest

from plancast.planner.arrays.cost import own_costs
from plancast.planner.arrays.problem import decode
from plancast.planner.arrays.rates import in_ticks, prices_end_alone, rates_of
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
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.plan import plan
from tests.conftest import ROOT
from tests.oracles.brute_force import without_moves
from tests.oracles.valid_schedules import plannable, random_schedules

KEYS_OF_THEIR_OWN = {"worlds/metrics.py": {"misses"}, "worlds/dispatchers.py": {"moves"}}
"""Files that give something else the name of a term: reports of replays, a setting."""
MAY_NAME_TERMS = ("model/domain/policy.py", "model/evaluate.py", "arrays/rates.py")
"""Of the planner; instances choose prices, and may too."""


def terms_named(tree: ast.Module, own: Collection[str] = ()) -> Iterator[int]:
    """Lines that name a cost term in code, or index prices by a place."""
    names = set(TERMS) - set(own)
    documented = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in names and id(node) not in documented:
            yield node.lineno
        of = getattr(node, "value", None)
        of_prices = getattr(of, "attr", getattr(of, "id", "")) in ("prices", "terms")
        if isinstance(node, ast.Attribute) and of_prices and node.attr in TERMS:
            yield node.lineno
        if isinstance(node, ast.Subscript) and of_prices and not isinstance(node.slice, ast.Name):
            yield node.lineno
        if isinstance(node, ast.keyword) and node.arg in set(TERMS) - {"moves"}:
            yield node.value.lineno


def planner_files() -> list[Path]:
    """The files that may name no term."""
    planner = ROOT / "planner"
    allowed = {planner / name for name in MAY_NAME_TERMS}
    return [
        path
        for path in planner.rglob("*.py")
        if path not in allowed and not path.is_relative_to(planner / "instances")
    ]


def test_no_other_file_of_the_planner_names_a_term_or_indexes_prices() -> None:
    """A new term would have to be added in every solver, and be forgotten in one."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in planner_files()
        for line in terms_named(
            ast.parse(path.read_text()),
            KEYS_OF_THEIR_OWN.get(str(path.relative_to(ROOT / "planner")), ()),
        )
    ]
    assert not found


def test_pipelines_do_not_index_prices() -> None:
    """A term would be told by its place in a list, which a new one shifts."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "pipelines").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, int)
        and getattr(node.value, "attr", getattr(node.value, "id", "")) in ("prices", "terms")
    ]
    assert not found


@pytest.mark.parametrize("code", ["prices[5]", "x = 'kwh'", "request.policy.prices.late_h"])
def test_the_ban_finds_what_it_bans(code: str) -> None:
    """The two tests above would pass whatever the code says."""
    assert list(terms_named(ast.parse(code)))


def test_the_coefficients_price_a_schedule_as_the_evaluator_does() -> None:
    """A solver would optimise another cost than the plan is judged by."""
    rng = np.random.default_rng(1)
    seen = 0
    for problem in plannable(range(2000, 2150), max_tasks=8):
        for schedule in random_schedules(problem, rng, 2):
            request = without_moves(problem.request)
            found = evaluate(request, decode(problem, schedule), unplanned=problem.unplanned)
            assert problem.cost(schedule) == pytest.approx(found.cost, rel=1e-9, abs=1e-12)
            own = own_costs(
                problem.rates, problem.priced, schedule.start, schedule.end, schedule.worker
            )
            assert own <= problem.cost(schedule) - problem.rates.fixed + 1e-9 * abs(found.cost)
            seen += 1
    assert seen > 150


def test_ticks_scale_what_is_priced_by_the_second() -> None:
    """A problem in ticks would weigh lateness against misses unlike the one in seconds."""
    workers = (Worker("w", {"cpu": 1000}, idle_w=50, busy_w=70, boot_kwh=0.1),)
    by_second = rates_of(Prices(**dict.fromkeys(TERMS, 1.0)), workers, 0)
    by_tick = in_ticks(by_second, 10)
    for name in ("end", "late", "wait", "owner", "load", "busy", "idle"):
        assert getattr(by_tick, name) == pytest.approx(10 * getattr(by_second, name))
    for name in ("miss", "slowdown", "fail", "move", "boot", "fixed"):
        assert getattr(by_tick, name) == getattr(by_second, name)


def test_a_makespan_alone_is_told_from_any_other_price() -> None:
    """Engines that see nothing but the last end would be given a problem with another price."""
    workers = (
        Worker(
            "w",
            {"cpu": 1000},
            idle_w=50,
            busy_w=70,
            boot_kwh=0.1,
            carbon_kg_per_kwh=0.4,
            price_per_kwh=0.2,
        ),
    )
    nothing = dict.fromkeys(TERMS, 0.0)
    assert prices_end_alone(rates_of(Prices(**nothing | {"makespan_h": 1.0}), workers, 0))
    assert not prices_end_alone(rates_of(Prices(**nothing), workers, 0))
    for term in TERMS[1:]:
        both = Prices(**nothing | {"makespan_h": 1.0, term: 1.0})
        assert not prices_end_alone(rates_of(both, workers, 0)), term


@pytest.mark.parametrize("solver", ["greedy", "lns", "astar", "cpsat", "repair", "auto"])
def test_a_price_on_carbon_moves_work_to_the_clean_grid(solver: str) -> None:
    """The grid's intensity would be read from a file, and no plan would heed it."""
    power = {"idle_w": 100.0, "busy_w": 200.0}
    workers = (
        Worker("dirty", {"cpu": 4000}, carbon_kg_per_kwh=0.8, **power),
        Worker("clean", {"cpu": 4000}, carbon_kg_per_kwh=0.1, **power),
    )
    tasks = tuple(Task(f"t{i}", {"cpu": 1000}) for i in range(3))
    estimates = {t.id: {"*": DurationEstimate.certain(3600)} for t in tasks}
    prices = Prices(**dict.fromkeys(TERMS, 0.0) | {"makespan_h": 0.01, "carbon_kg": 1.0})
    request = PlanRequest(
        "grids", Snapshot(0, 0, workers, tasks), estimates, Policy(prices), budget=Budget(None, 200)
    )
    found = plan(request, solver)
    assert found.plan is not None
    assert {w for a in found.plan.assignments for w in a.workers} == {"clean"}
    kwh = (100 + 3 * 200 / 4) / 1000
    assert found.terms["kwh"] == pytest.approx(kwh)
    assert found.terms["carbon_kg"] == pytest.approx(0.1 * kwh)
    assert found.cost == pytest.approx(0.01 + 0.1 * kwh)
