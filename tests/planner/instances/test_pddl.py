"""PDDL: a classical planner, which knows nothing of us, says the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyperplan import planner as pyperplan

from plancast.planner.instances.pddl import Pddl, export_pddl, read_pddl_plan
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.plan import plan
from tests.oracles.random_requests import random_request

MAKESPAN = Policy(Prices(makespan_h=3600, late_h=0, misses=0, wait_h=0))
certain = DurationEstimate.certain


def solved(exported: Pddl, folder: Path) -> str | None:
    """What pyperplan finds by breadth-first search, one action a line; None if nothing."""
    domain, problem = folder / "domain.pddl", folder / "problem.pddl"
    domain.write_text(exported.domain)
    problem.write_text(exported.problem)
    found = pyperplan.search_plan(str(domain), str(problem), pyperplan.SEARCHES["bfs"], None)
    return None if found is None else "\n".join(operator.name for operator in found)


def basic_requests(seeds: range) -> Iterator[PlanRequest]:
    """Random requests that classical planning can state; makespan alone is priced."""
    for seed in seeds:
        request = random_request(
            seed, max_tasks=3, max_workers=2, gangs=False, misfits=False, incumbent=False,
            preemption=False, max_duration_s=3,
        )  # fmt: skip
        policy = replace(request.policy, prices=MAKESPAN.prices)
        request = replace(request, policy=policy, budget=Budget(None, 100_000))
        try:
            export_pddl(request, 1)
        except BadRequest:
            continue
        yield request


def test_a_classical_planner_finds_the_same_least_makespan(tmp_path: Path) -> None:
    """Our proof of a makespan would be refuted by whoever searches without our bounds."""
    seen = 0
    for request in basic_requests(range(100, 190)):
        ours = plan(request, "astar")
        if ours.plan is None:
            continue
        assert ours.status is Status.OPTIMAL
        least_s = max(a.end_s for a in ours.plan.assignments) - request.snapshot.now_s
        last_s = round(ours.terms["makespan_h"] * 3600)
        if last_s > least_s:
            continue  # what runs ends last: the tasks need not be in a hurry
        exported = export_pddl(request, least_s)
        found = solved(exported, tmp_path)
        assert found is not None
        theirs = read_pddl_plan(request, exported, found)
        judged = evaluate(request, theirs)
        assert judged.valid, judged.violations
        assert judged.cost == pytest.approx(ours.cost)
        if least_s > 1:
            assert solved(export_pddl(request, least_s - 1), tmp_path) is None
        seen += 1
    assert seen > 15


def small(**changes: object) -> PlanRequest:
    """Three equal tasks on a worker for two of them, one after another."""
    workers = (Worker("big one", {"cpu": 2000}, blocked=(Window(20, 30),)),)
    tasks = (
        Task("a", {"cpu": 1000}), Task("b", {"cpu": 1000}),
        Task("c", {"cpu": 1000}, after=("a",)),
    )  # fmt: skip
    running = (Running(Task("r", {"cpu": 1000}), ("big one",), 0),)
    estimates = {n: {"*": certain(10)} for n in ("a", "b", "c", "r")}
    request = PlanRequest("small", Snapshot(1, 0, workers, tasks, running), estimates, MAKESPAN)
    return replace(request, snapshot=replace(request.snapshot, **changes))


def test_the_step_is_the_greatest_that_divides_all_times(tmp_path: Path) -> None:
    """A horizon of hours would be cut into seconds that no planner gets through."""
    exported = export_pddl(small(), 40)
    assert (exported.step_s, exported.steps) == (10, 4)
    assert "; s0 is worker big one" in exported.domain
    found = solved(exported, tmp_path)
    assert found is not None
    assert evaluate(small(), read_pddl_plan(small(), exported, found)).valid
    # a runs beside r, then c, and b beside it: both end when the window closes the worker.
    assert solved(export_pddl(small(), 20), tmp_path) is not None
    assert solved(export_pddl(small(), 10), tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pending": (Task("a", {"cpu": 1}, shards=2),), "running": ()}, "has 2 shards"),
        (
            {"pending": tuple(Task(n, {"cpu": 1500 if n == "c" else 500}) for n in "abc")},
            r"depends on which they are \(1 like c, 4 like a\).*: export tasks that all take",
        ),
        ({"pending": (Task("a", {"cpu": 9000}),)}, "task a cannot be planned"),
        ({"pending": ()}, "nothing to plan"),
        (
            {"running": (Running(Task("r", {"cpu": 1500}), ("big one",), 0),)},
            "takes another part of it",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_said_in_pddl_is_refused(changes: dict[str, object], said: str) -> None:
    """A simpler problem would be exported under the name of the one that was asked for."""
    with pytest.raises(BadRequest, match=said):
        export_pddl(small(**changes), 40)


def test_lines_that_are_no_actions_are_named() -> None:
    """A plan of another problem would be read as one of this."""
    exported = export_pddl(small(), 40)
    for line in ("(assign-t9-s0-k0)", "move a b", "(assign-t0-s7-k0)"):
        with pytest.raises(BadRequest, match="line 2"):
            read_pddl_plan(small(), exported, f"(assign-t0-s0-k0)\n{line}")
    with pytest.raises(BadRequest, match="less than a step"):
        export_pddl(small(), 9)
