"""Label expressions, shaped gangs, exclusive tasks, starts and lags: every solver keeps to them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import decode
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model import events
from plancast.planner.model.domain import (
    BadRequest,
    Dependency,
    DependencyKind,
    DurationEstimate,
    Finished,
    Outcome,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    Budget,
    PlanRequest,
    Status,
    TaskFinished,
    TaskStarted,
    TaskSubmitted,
    from_json,
    to_json,
)
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS
from tests.conftest import spans
from tests.oracles.brute_force import optimum
from tests.oracles.random_requests import random_request, related

FEATURES = ("labels", "dependencies", "gangs", "classes")
PAIRS = list(combinations(FEATURES, 2))
KINDS = DependencyKind
NOW = 1_000_000


def instance(seed: int, pair: tuple[str, str]) -> PlanRequest:
    """A small request of two features and, every other time, exclusive tasks."""
    request = random_request(
        seed, max_tasks=4, classes="classes" in pair, labels="labels" in pair,
        gangs="gangs" in pair, precedence="dependencies" in pair, incumbent=False,
        preemption=False,
    )  # fmt: skip
    return related(
        request, seed, labels="labels" in pair, dependencies="dependencies" in pair,
        gangs="gangs" in pair, exclusive=bool(seed % 2),
    )  # fmt: skip


def fault(seed: int, pair: tuple[str, str]) -> str:
    """What is wrong with what solvers say of an instance, if anything."""
    request = instance(seed, pair)
    problem = encode(request)
    if problem.infeasible or not problem.tasks:
        return ""
    best = optimum(request, problem.unplanned)
    if best is not None and lower_bound(problem) > best.cost + 1e-6 * max(1, abs(best.cost)):
        return f"the bound {lower_bound(problem)} exceeds the optimum {best.cost}"
    for name in ("greedy", "astar", "cpsat", "lns", "repair"):
        budget = Budget(None, 100 if name in ("lns", "repair") else 1_000_000)
        rng = np.random.default_rng(seed)
        found = SOLVERS[name]().solve(problem, budget=budget, rng=rng)
        if name in ("astar", "cpsat"):
            wanted = Status.INFEASIBLE if best is None else Status.OPTIMAL
            if found.status is not wanted:
                return f"{name} says {found.status.value}, not {wanted.value}"
        if found.schedule is None:
            continue
        judged = evaluate(request, decode(problem, found.schedule), unplanned=problem.unplanned)
        if not judged.valid:
            return f"{name}: {judged.violations[0].text}"
        assert best is not None
        off = judged.cost - best.cost
        if off < -1e-6 * max(1, abs(best.cost)):
            return f"{name} is cheaper than brute force by {-off}"
        if name in ("astar", "cpsat") and off > 1e-6 * max(1, abs(best.cost)):
            return f"{name} is {off} above the optimum"
    return ""


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
@pytest.mark.parametrize("seeds", spans(range(5), range(300)))
def test_solvers_agree_with_brute_force(seeds: range, pair: tuple[str, str]) -> None:
    """A solver would plan what is not allowed, or call a costlier plan optimal."""
    assert [(s, text) for s in seeds if (text := fault(s, pair))] == []


def certain(seconds: int) -> dict[str, DurationEstimate]:
    """An estimate without spread."""
    return {"*": DurationEstimate.certain(seconds)}


def two_racks(*tasks: Task, seconds: int = 10, **snapshot: object) -> PlanRequest:
    """Two workers of 4 cores in each of two racks, and some tasks of as many seconds each."""
    workers = tuple(
        Worker(f"{rack}{k}", {"cpu": 4000}, frozenset({rack})) for rack in "ab" for k in (1, 2)
    )
    running = snapshot.get("running", ())
    names = [t.id for t in tasks] + [r.task.id for r in running]  # type: ignore[attr-defined]
    made = Snapshot(1, NOW, workers, tasks, **snapshot)  # type: ignore[arg-type]
    return PlanRequest("r", made, {n: certain(seconds) for n in names}, budget=Budget(None, 100))


def answer(request: PlanRequest, solver: str = "auto") -> dict[str, tuple[int, tuple[str, ...]]]:
    """Start after now, and workers, of every task of a plan that is true."""
    response = plan(request, solver)
    assert validate_response(request, response) == []
    assert response.warning is None
    assert response.plan is not None
    return {a.task: (a.start_s - NOW, a.workers) for a in response.plan.assignments}


@pytest.mark.parametrize("solver", ["greedy", "lns", "cpsat", "astar"])
def test_a_gang_lies_as_it_is_told(solver: str) -> None:
    """A gang would be torn over racks, pile up on a worker, or be strewn over many."""
    one = {"demand": {"cpu": 1000}, "shards": 4}
    together = Task("t", requires=("[a|b]",), most_per_worker=2, **one)  # type: ignore[arg-type]
    workers = answer(two_racks(together), solver)["t"][1]
    assert sorted(workers) in (["a1", "a1", "a2", "a2"], ["b1", "b1", "b2", "b2"])
    spread = Task("t", most_per_worker=1, **one)  # type: ignore[arg-type]
    assert sorted(answer(two_racks(spread), solver)["t"][1]) == ["a1", "a2", "b1", "b2"]
    packed = Task("t", most_workers=1, **one)  # type: ignore[arg-type]
    assert len(set(answer(two_racks(packed), solver)["t"][1])) == 1


@pytest.mark.parametrize("solver", ["greedy", "lns", "cpsat", "astar"])
def test_an_exclusive_task_has_its_workers_alone(solver: str) -> None:
    """Another task would be put beside it, or its own pieces kept apart."""
    gang = Task("gang", {"cpu": 1000}, shards=4, most_workers=1, exclusive=True)
    small = [Task(f"s{k}", {"cpu": 1000}) for k in range(4)]
    held = Running(Task("held", {"cpu": 1000}, exclusive=True), ("b2",), NOW - 1)
    found = answer(two_racks(gang, *small, running=(held,)), solver)
    lone = found["gang"][1][0]
    assert lone != "b2"
    assert all(lone not in found[f"s{k}"][1] or found[f"s{k}"][0] >= 10 for k in range(4))
    assert all("b2" not in w or start >= 9 for start, w in found.values())


@pytest.mark.parametrize("solver", ["greedy", "lns", "cpsat", "astar"])
def test_starts_and_lags_are_waited_for(solver: str) -> None:
    """A monitor would start with what it watches only by luck, or not wait for its lag."""
    tasks = (
        Task("one", {"cpu": 4000}, release_s=NOW + 5),
        Task("beside", {"cpu": 4000}, depends=(Dependency("one", KINDS.AFTER),)),
        Task("later", {"cpu": 4000}, depends=(Dependency("one", KINDS.AFTER, 3),)),
        Task("cool", {"cpu": 4000}, depends=(Dependency("one", KINDS.AFTERANY, 30),)),
    )
    request = two_racks(*tasks)
    found = {name: start for name, (start, _) in answer(request, solver).items()}
    assert found == {"one": 5, "beside": 5, "later": 8, "cool": 45}
    why = plan(request, solver).why
    assert why["beside"] == "waits 5 s for its predecessor one to start"
    assert why["cool"] == "waits 45 s for 30 s to pass since the end of its predecessor one"


def test_a_failed_predecessor_lets_run_what_waits_for_any_end() -> None:
    """``afterany`` would wait for a success that never comes, ``afternotok`` run without one."""
    tasks = (
        Task("any", {}, depends=(Dependency("bad", KINDS.AFTERANY),)),
        Task("not", {}, depends=(Dependency("bad", KINDS.AFTERNOTOK),)),
        Task("ok", {}, after=("bad",)),
        Task("vain", {}, depends=(Dependency("good", KINDS.AFTERNOTOK),)),
        Task("last", {}, depends=(Dependency("vain", KINDS.AFTERANY),)),
    )
    ended = (Finished("bad", NOW - 5, Outcome.FAILED), Finished("good", NOW - 5))
    request = two_racks(*tasks, finished=ended)
    response = plan(request)
    assert validate_response(request, response) == []
    assert response.unplanned == {
        "ok": "its predecessor bad ended as failed",
        "vain": "its predecessor good ended as completed",
        "last": "its predecessor vain cannot be planned",
    }
    lagged = two_racks(
        Task("t", {}, depends=(Dependency("bad", KINDS.AFTER, 20),)),
        finished=(Finished("bad", NOW - 5, start_s=NOW - 8),),
    )
    assert answer(lagged)["t"][0] == 12


def test_whether_a_task_will_run_must_be_known() -> None:
    """A plan would hold room for a task that never runs."""
    waits = Task("t", {}, depends=(Dependency("one", KINDS.AFTERNOTOK),))
    with pytest.raises(BadRequest, match="afternotok:one cannot be planned before one has ended"):
        two_racks(Task("one", {}), waits)
    request = two_racks(Task("one", {}))
    with pytest.raises(BadRequest, match="afternotok:one cannot be planned"):
        events.apply(request.snapshot, TaskSubmitted(NOW, waits))
    with pytest.raises(BadRequest, match="lag_s is -1"):
        Dependency("one", lag_s=-1)


def test_events_release_what_waits() -> None:
    """A master would never start what waits for any end, or start it before."""
    waits = Task("t", {}, depends=(Dependency("one", KINDS.AFTERANY),))
    beside = Task("b", {}, depends=(Dependency("one", KINDS.AFTER, 5),))
    snapshot = two_racks(Task("one", {}), waits, beside).snapshot
    assert snapshot.unmet(waits) == ["one"]
    with pytest.raises(BadRequest, match="t follows one, which is pending, not ended"):
        events.apply(snapshot, TaskStarted(NOW, "t", ("a1",)))
    runs = events.apply(snapshot, TaskStarted(NOW, "one", ("a1",)))
    assert runs.unmet(waits) == ["one"]
    assert runs.unmet(beside) == ["5 s since one"]
    failed = events.apply(runs, TaskFinished(NOW + 6, "one", Outcome.FAILED))
    assert failed.unmet(waits) == []
    assert failed.unmet(beside) == []
    assert failed.finished_by_id["one"].start_s == NOW
    assert events.apply(failed, TaskStarted(NOW + 6, "t", ("a1",))).running_by_id.keys() == {"t"}


def test_what_cannot_be_held_together_is_left_out_with_its_reason() -> None:
    """A gang that no rack holds would wait forever, or be said to be impossible."""
    torn = Task("t", {"cpu": 4000}, shards=3, requires=("[a|b]",))
    request = two_racks(torn, Task("s", {}))
    response = plan(request)
    assert validate_response(request, response) == []
    assert response.unplanned == {
        "t": "its 3 shards need to run at once, but the eligible workers hold 2 together "
        "(under one of a or b)"
    }


def test_relations_pass_through_json() -> None:
    """A master's request would lose what its tasks wait for."""
    request = instance(3, ("dependencies", "gangs"))
    assert from_json(PlanRequest, to_json(request)) == request


def test_engines_for_other_shapes_leave_relations_alone() -> None:
    """A project or a shop with lags would be planned as one without."""
    tasks = (
        Task("one", {"cpu": 4000}),
        Task("two", {"cpu": 4000}, depends=(Dependency("one", KINDS.AFTERANY, 30),)),
    )
    for name in ("project", "shop", "repair"):
        assert answer(replace(two_racks(*tasks), seed=1), name)["two"][0] == 40
