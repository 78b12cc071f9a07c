"""The evaluator: each violation kind has a plan that breaks exactly it, each term its sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from plancast.planner.model.domain import (
    TERMS,
    Assignment,
    CountedResource,
    Dependency,
    DependencyKind,
    DurationEstimate,
    Finished,
    Outcome,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.evaluate import (
    evaluate,
    relative_gap,
    unplanned_weight,
    validate,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import PlanRequest, PlanResponse, Status
from plancast.planner.model.spans import running_end_s
from plancast.planner.model.violations import ViolationKind

NOW = 1_000_000
KIND = ViolationKind


def certain(seconds: int) -> dict[str, DurationEstimate]:
    """An estimate without spread, for any machine class."""
    return {"*": DurationEstimate.certain(seconds)}


def base_request() -> PlanRequest:
    """Four workers and six tasks that between them use every feature a plan can break."""
    workers = (
        Worker("w1", {"cpu": 4000, "mem": 8}, labels=frozenset({"ssd"}), machine_class="fast"),
        Worker("w2", {"cpu": 4000, "mem": 8, "gpu": 2000}, machine_class="slow", devices=True),
        Worker("late", {"cpu": 4000, "mem": 8}, free_from_s=NOW + 50, machine_class="fast"),
        Worker(
            "short",
            {"cpu": 4000, "mem": 8},
            until_s=NOW + 40,
            blocked=(Window(NOW + 10, NOW + 20),),
            machine_class="fast",
        ),
    )
    tasks = (
        Task("a", {"cpu": 2000, "gold": 4}, release_s=NOW + 5, deadline_s=NOW + 100),
        Task("b", {"cpu": 2000}, release_s=NOW, after=("a",)),
        Task("c", {"cpu": 4000, "mem": 8}, release_s=NOW, requires=("ssd|nvme",)),
        Task("gang", {"cpu": 3000}, release_s=NOW, shards=2),
        Task("picky", {"cpu": 1000}, release_s=NOW),
        Task("follower", {"cpu": 1000}, release_s=NOW, after=("old", "r", "stuck")),
        Task("stuck", {"cpu": 1000, "gpu": 600}, release_s=NOW, counted={"seat": 1}),
    )
    running = (
        Running(
            Task("r", {"cpu": 1000, "gpu": 500}, release_s=NOW - 10, preemptible=True),
            ("w2",),
            NOW - 5,
        ),
        Running(
            Task("firm", {"cpu": 1000}, release_s=NOW - 10, counted={"seat": 1}), ("w2",), NOW - 5
        ),
    )
    estimates = {
        "a": certain(10),
        "b": certain(10),
        "c": certain(10),
        "gang": {"fast": DurationEstimate.certain(10), "slow": DurationEstimate.certain(20)},
        "picky": {"fast": DurationEstimate.certain(10)},
        "follower": certain(10),
        "stuck": certain(10),
        "r": certain(8),
        "firm": certain(8),
    }
    ended = (Finished("old", NOW - 1), Finished("bad", NOW - 1, Outcome.FAILED))
    seats = CountedResource("seat", 1)
    snapshot = Snapshot(7, NOW, workers, tasks, running, ended, {"gold": 4}, (seats,))
    return PlanRequest("base", snapshot, estimates)


def changed(request: PlanRequest, tasks: dict[str, dict[str, Any]]) -> PlanRequest:
    """The request with other fields of some pending tasks."""
    pending = tuple(replace(t, **tasks.get(t.id, {})) for t in request.snapshot.pending)
    return replace(request, snapshot=replace(request.snapshot, pending=pending))


def put(task: str, workers: str, start: int, duration: int = 10) -> Assignment:
    """A task on its workers (``w1+w2``), from `start` seconds after now."""
    devices = {"stuck": ((1,),), "r": ((0,),)}.get(task, ())
    on = tuple(workers.split("+"))
    return Assignment(task, on, NOW + start, NOW + start + duration, devices=devices)


VALID = {
    "a": put("a", "w1", 5),
    "b": put("b", "w1", 15),
    "c": put("c", "w1", 25),
    "gang": put("gang", "w1+w2", 35, 20),
    "picky": put("picky", "w1", 5),
    "follower": put("follower", "w2", 13),
    "stuck": put("stuck", "w2", 3),
}


def make_plan(**changes: Assignment | None) -> Plan:
    """The valid plan with some assignments changed, added or (None) left out."""
    chosen = {**VALID, **changes}
    return Plan(tuple(a for a in chosen.values() if a is not None), (), NOW, 7)


def test_the_base_plan_is_valid() -> None:
    """A valid plan called invalid would make every other case here meaningless."""
    assert validate(base_request(), make_plan()) == []


@dataclass(frozen=True)
class Broken:
    """A plan that breaks exactly one kind, with what the request must be for it."""

    plan: Plan
    policy: Policy = field(default_factory=Policy)
    unplanned: tuple[str, ...] = ()
    budgets: dict[str, int] = field(default_factory=lambda: {"gold": 4})
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)


PLAN_CASES: dict[ViolationKind, Broken] = {
    KIND.UNKNOWN_TASK: Broken(make_plan(ghost=put("ghost", "w1", 60))),
    KIND.UNKNOWN_WORKER: Broken(make_plan(picky=put("picky", "nowhere", 5))),
    KIND.TASK_MISSING: Broken(make_plan(picky=None)),
    KIND.TASK_TWICE: Broken(make_plan(again=put("picky", "w1", 60))),
    KIND.UNKNOWN_MODE: Broken(make_plan(picky=replace(put("picky", "w1", 5), mode="swift"))),
    KIND.OVER_BUDGET: Broken(make_plan(), budgets={"gold": 3}),
    KIND.WRONG_SHARDS: Broken(make_plan(gang=put("gang", "w2", 35, 20))),
    KIND.STARTS_IN_PAST: Broken(make_plan(picky=put("picky", "w1", -1))),
    KIND.BEFORE_RELEASE: Broken(make_plan(a=put("a", "w1", 4))),
    KIND.BEFORE_PREDECESSOR: Broken(make_plan(b=put("b", "w2", 14))),
    KIND.PREDECESSOR_UNPLANNED: Broken(make_plan(stuck=None), unplanned=("stuck",)),
    KIND.NOT_ELIGIBLE: Broken(make_plan(picky=put("picky", "w2", 60))),
    KIND.WRONG_DURATION: Broken(make_plan(picky=put("picky", "w1", 5, 9))),
    KIND.LABEL_MISSING: Broken(make_plan(c=put("c", "w2", 60))),
    KIND.GANG_CROWDED: Broken(
        make_plan(gang=put("gang", "w1+w1", 35, 10)),
        tasks={"gang": {"demand": {"cpu": 2000}, "most_per_worker": 1}},
    ),
    KIND.GANG_SPREAD: Broken(make_plan(), tasks={"gang": {"most_workers": 1}}),
    KIND.GANG_APART: Broken(make_plan(), tasks={"gang": {"requires": ("[ssd|!ssd]",)}}),
    KIND.NOT_ALONE: Broken(make_plan(), tasks={"a": {"exclusive": True}}),
    KIND.OVER_CAPACITY: Broken(make_plan(c=put("c", "w1", 24))),
    KIND.WRONG_DEVICES: Broken(make_plan(stuck=replace(put("stuck", "w2", 3), devices=()))),
    KIND.DEVICE_TAKEN: Broken(
        make_plan(a=replace(put("a", "w2", 5), devices=((1,),))),
        tasks={"a": {"demand": {"cpu": 2000, "gold": 4, "gpu": 500}}},
    ),
    KIND.OVER_COUNTED: Broken(make_plan(stuck=put("stuck", "w2", 2))),
    KIND.WORKER_NOT_FREE: Broken(make_plan(picky=put("picky", "late", 49))),
    KIND.WORKER_DRAINED: Broken(make_plan(picky=put("picky", "short", 31))),
    KIND.WORKER_BLOCKED: Broken(make_plan(picky=put("picky", "short", 19))),
    KIND.HARD_DEADLINE: Broken(
        make_plan(a=put("a", "w1", 91), b=put("b", "w1", 101)), Policy(hard_deadlines=True)
    ),
    KIND.WAIT_BOUND: Broken(make_plan(picky=put("picky", "w1", 60)), Policy(max_wait_s=59)),
    KIND.STRETCH_BOUND: Broken(make_plan(picky=put("picky", "w1", 60)), Policy(max_stretch=6.9)),
    KIND.PREEMPTED_NOT_RUNNING: Broken(replace(make_plan(), preempted=("a",))),
    KIND.PREEMPTED_TWICE: Broken(
        replace(
            make_plan(r=put("r", "w2", 60, 8), follower=put("follower", "w2", 68)),
            preempted=("r", "r"),
        )
    ),
    KIND.NOT_PREEMPTIBLE: Broken(
        replace(make_plan(firm=put("firm", "w1", 60, 8)), preempted=("firm",))
    ),
    KIND.STALE_SNAPSHOT: Broken(replace(make_plan(), snapshot_version=6)),
}


@pytest.mark.parametrize("kind", PLAN_CASES, ids=lambda k: k.value)
def test_a_plan_that_breaks_one_kind_is_told_that_kind_alone(kind: ViolationKind) -> None:
    """A kind that is never reported, or reported as another, is a guard that does not guard."""
    case = PLAN_CASES[kind]
    request = changed(replace(base_request(), policy=case.policy), case.tasks)
    request = replace(request, snapshot=replace(request.snapshot, budgets=case.budgets))
    found = validate(request, case.plan, unplanned=case.unplanned)
    assert {v.kind for v in found} == {kind}
    assert all(v.text for v in found)


def response_for(request: PlanRequest, plan: Plan) -> PlanResponse:
    """An honest response."""
    found = evaluate(request, plan)
    return PlanResponse(
        request.request_id, request.snapshot.version, Status.FEASIBLE, plan, found.cost,
        found.terms, lower_bound=0.0, gap=1.0,
    )  # fmt: skip


def _without(response: PlanResponse) -> PlanResponse:
    return replace(response, unplanned={"picky": "no reason"})


RESPONSE_CASES: dict[ViolationKind, Callable[[PlanResponse], PlanResponse]] = {
    KIND.WRONG_REQUEST: lambda r: replace(r, request_id="other"),
    KIND.WRONG_STATUS: lambda r: replace(r, status=Status.INFEASIBLE),
    KIND.WRONG_COST: lambda r: replace(r, cost=(r.cost or 0) * 1.001),
    KIND.WRONG_TERMS: lambda r: replace(r, terms={**r.terms, "wait_h": r.terms["wait_h"] + 1}),
    KIND.WRONG_BOUND: lambda r: replace(r, status=Status.OPTIMAL),
    KIND.WRONG_MOVED: lambda r: replace(r, moved=("a",)),
    KIND.WRONG_UNPLANNED: _without,
}


@pytest.mark.parametrize("kind", RESPONSE_CASES, ids=lambda k: k.value)
def test_a_response_that_lies_in_one_way_is_told_that_way_alone(kind: ViolationKind) -> None:
    """A response whose claims were not checked could carry any cost or bound it liked."""
    request = base_request()
    honest = response_for(request, make_plan())
    assert validate_response(request, honest) == []
    found = validate_response(request, RESPONSE_CASES[kind](honest))
    assert {v.kind for v in found} == {kind}


def test_every_kind_has_a_case() -> None:
    """A violation kind without a plan that breaks it would be an unexercised guard."""
    assert set(PLAN_CASES) | set(RESPONSE_CASES) == set(ViolationKind)


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.COMPLETED])
def test_a_predecessor_that_did_not_complete_holds_its_successor_back(outcome: Outcome) -> None:
    """A task planned after a predecessor that left nothing would run on missing input."""
    request = base_request()
    ended = (Finished("old", NOW - 1), Finished("bad", NOW - 1, outcome))
    request = replace(request, snapshot=replace(request.snapshot, finished=ended))
    task = replace(request.snapshot.pending_by_id["picky"], after=("bad",))
    pending = tuple(task if t.id == "picky" else t for t in request.snapshot.pending)
    request = replace(request, snapshot=replace(request.snapshot, pending=pending))
    assert {v.kind for v in validate(request, make_plan())} == {KIND.PREDECESSOR_UNPLANNED}


AFTER, AFTERANY, AFTERNOTOK = (
    DependencyKind.AFTER, DependencyKind.AFTERANY, DependencyKind.AFTERNOTOK,
)  # fmt: skip


@pytest.mark.parametrize(
    ("on", "start", "kinds"),
    [
        (Dependency("a", AFTER), 5, set()),
        (Dependency("a", AFTER, 3), 8, set()),
        (Dependency("a", AFTER, 4), 8, {KIND.BEFORE_PREDECESSOR}),
        (Dependency("a", lag_s=10), 25, set()),
        (Dependency("a", lag_s=10), 24, {KIND.BEFORE_PREDECESSOR}),
        (Dependency("bad", AFTERANY), 0, set()),
        (Dependency("bad", AFTERANY, 4), 3, set()),
        (Dependency("bad", AFTERANY, 4), 2, {KIND.BEFORE_PREDECESSOR}),
        (Dependency("bad", AFTER), 0, set()),
        (Dependency("bad", AFTERNOTOK), 0, set()),
        (Dependency("bad"), 0, {KIND.PREDECESSOR_UNPLANNED}),
        (Dependency("old", AFTERNOTOK), 0, {KIND.PREDECESSOR_UNPLANNED}),
        (Dependency("r", AFTER, 8), 3, set()),
        (Dependency("r", AFTER, 9), 3, {KIND.BEFORE_PREDECESSOR}),
        (Dependency("r", AFTERANY), 3, set()),
        (Dependency("r", AFTERANY), 2, {KIND.BEFORE_PREDECESSOR}),
    ],
    ids=str,
)
def test_a_dependency_is_read_from_what_it_waits_for(
    on: Dependency, start: int, kinds: set[ViolationKind]
) -> None:
    """A start too early would pass, or a plan that waits long enough be called invalid."""
    request = changed(base_request(), {"picky": {"depends": (on,), "demand": {}}})
    plan = make_plan(picky=put("picky", "w1", start))
    assert {v.kind for v in validate(request, plan)} == kinds


def test_what_waits_for_a_preempted_task_waits_for_its_new_start() -> None:
    """A task would start ten minutes after a start that was taken back."""
    on = Dependency("r", AFTER, 10)
    request = changed(base_request(), {"picky": {"depends": (on,)}, "follower": {"after": ()}})
    plan = make_plan(picky=put("picky", "w1", 13))
    again = replace(plan, preempted=("r",), assignments=(*plan.assignments, put("r", "w2", 3, 8)))
    assert validate(request, again) == []
    early = make_plan(picky=put("picky", "w1", 12))
    early = replace(early, preempted=("r",), assignments=again.assignments[-1:] + early.assignments)
    assert {v.kind for v in validate(request, early)} == {KIND.BEFORE_PREDECESSOR}


def test_exclusive_tasks_share_a_worker_with_their_own_pieces_alone() -> None:
    """A task that runs already, or the other pieces of a gang, would be judged wrongly."""
    alone = {"gang": {"demand": {"cpu": 2000}, "exclusive": True}}
    request = changed(base_request(), alone)
    assert validate(request, make_plan(gang=put("gang", "w1+w1", 35))) == []
    stuck = changed(base_request(), {"stuck": {"exclusive": True, "counted": {}}})
    text = [v.text for v in validate(stuck, make_plan(stuck=put("stuck", "w2", 2)))]
    assert len(text) == 1
    assert "task stuck is on worker w2 together with" in text[0]


def test_ends_come_before_starts_at_one_instant() -> None:
    """Counting a task that ends at t beside one that starts at t would waste capacity."""
    request = base_request()
    back_to_back = make_plan(c=put("c", "w1", 25), picky=put("picky", "w1", 55))
    assert validate(request, back_to_back) == []


def test_a_preempted_task_frees_its_worker_and_must_be_placed_again() -> None:
    """Preemption that kept the resources, or let the task vanish, would be no preemption."""
    request = base_request()
    preempting = replace(make_plan(r=put("r", "w2", 60, 8)), preempted=("r",))
    kinds = {v.kind for v in validate(request, preempting)}
    # follower's predecessor r now ends at 68, after follower starts.
    assert kinds == {KIND.BEFORE_PREDECESSOR}
    vanished = replace(make_plan(), preempted=("r",))
    assert KIND.TASK_MISSING in {v.kind for v in validate(request, vanished)}


# --------------------------------------------------------------------------- terms


def one_task_request(task: Task, worker: Worker, seconds: int, **request: object) -> PlanRequest:
    """One task on one worker."""
    snapshot = Snapshot(0, NOW, (worker,), (task,))
    return PlanRequest("one", snapshot, {task.id: certain(seconds)}, **request)  # type: ignore[arg-type]


def test_every_term_of_one_task_by_hand() -> None:
    """A wrong formula or unit in any term would misprice every plan."""
    worker = Worker("w", {"cpu": 4000}, idle_w=100.0, busy_w=200.0, boot_kwh=0.5, health=0.9)
    task = Task("t", {"cpu": 1000}, release_s=NOW - 1800, deadline_s=NOW + 3600, weight=2.0)
    request = one_task_request(task, worker, 3600)
    plan = Plan((Assignment("t", ("w",), NOW + 1800, NOW + 5400),), (), NOW, 0)
    terms = evaluate(request, plan).terms
    assert terms["makespan_h"] == pytest.approx(1.5)
    assert terms["late_h"] == pytest.approx(2 * 0.5)
    assert terms["misses"] == 2.0
    assert terms["wait_h"] == pytest.approx(2 * 1.0)
    assert terms["stretch"] == pytest.approx(2 * 7200 / 3600)
    # busy: 200 W x 1/4 x 1 h; idle: 100 W from now to the end, 1.5 h; one boot
    assert terms["kwh"] == pytest.approx(0.05 + 0.15 + 0.5)
    assert terms["unfair_h"] == pytest.approx(1.0)
    assert terms["imbalance_h"] == pytest.approx(0.25)
    assert terms["failures"] == pytest.approx(0.1)
    assert terms["moves"] == 0.0
    assert set(terms) == set(TERMS)


def test_cost_is_prices_times_terms() -> None:
    """A term left out of the sum, or a price put on another, would change every choice."""
    request = base_request()
    plan = make_plan()
    for term in TERMS:
        priced = replace(request, policy=Policy(Prices(**{**dict.fromkeys(TERMS, 0.0), term: 3.0})))
        found = evaluate(priced, plan)
        assert found.cost == pytest.approx(3.0 * found.terms[term])


def test_running_tasks_count_until_they_are_preempted() -> None:
    """Leaving running tasks out of the makespan would promise a cluster that is free too early."""
    worker = Worker("w", {"cpu": 4000}, idle_w=1000.0)
    run = Running(Task("r", {"cpu": 1000}, release_s=NOW - 100, preemptible=True), ("w",), NOW - 60)
    snapshot = Snapshot(0, NOW, (worker,), (), (run,))
    request = PlanRequest("run", snapshot, {"r": certain(3660)})
    terms = evaluate(request, Plan((), (), NOW, 0)).terms
    assert terms["makespan_h"] == pytest.approx(1.0)
    assert terms["kwh"] == pytest.approx(1.0)  # no boot: it is on
    assert terms["wait_h"] == pytest.approx(40 / 3600)
    again = Plan((Assignment("r", ("w",), NOW, NOW + 3660),), ("r",), NOW, 0)
    terms = evaluate(request, again).terms
    assert terms["makespan_h"] == pytest.approx(3660 / 3600)
    assert terms["moves"] == pytest.approx(1 + 60 / 3600)  # one task moved, a minute lost


def test_a_running_task_is_killed_at_its_limit() -> None:
    """An expected end past the kill limit would block a worker that is sure to be free."""
    worker = Worker("w", {"cpu": 4000})
    run = Running(Task("r", {"cpu": 1000}, requested_s=100), ("w",), NOW - 60)
    request = PlanRequest("run", Snapshot(0, NOW, (worker,), (), (run,)), {"r": certain(3600)})
    assert running_end_s(request, run) == NOW + 40


def test_moves_count_changed_workers_and_later_starts_only() -> None:
    """Counting an earlier start as a disruption would freeze every plan."""
    request = base_request()
    moved = make_plan(
        picky=put("picky", "w1", 4),  # earlier: no move
        stuck=put("stuck", "w1", 3),  # another worker
        follower=put("follower", "w2", 15),  # later by two
    )
    against = replace(request, incumbent=make_plan())
    assert evaluate(against, moved).terms["moves"] == 2
    tolerant = replace(against, policy=Policy(move_tolerance_s=2))
    assert evaluate(tolerant, moved).terms["moves"] == 1
    swapped = make_plan(gang=put("gang", "w2+w1", 35, 20))
    assert evaluate(against, swapped).terms["moves"] == 0


def test_owner_means_divide_by_all_of_the_owners_tasks() -> None:
    """Dividing by the planned tasks alone would reward leaving a user's tasks out."""
    request = base_request()
    waits_h = [5 - 5, 15, 25, 35, 5, 13, 3]  # of one owner's seven tasks, seconds after release
    running_h = [5, 5]
    expected = (sum(waits_h) + sum(running_h)) / 3600 / 9
    assert evaluate(request, make_plan()).terms["unfair_h"] == pytest.approx(expected)


def test_dropping_a_task_is_never_free() -> None:
    """Plans compare by the weight they leave out first."""
    assert unplanned_weight(base_request(), make_plan(picky=None)) == 1.0
    assert unplanned_weight(base_request(), make_plan()) == 0.0


def test_what_really_ran_is_judged_without_the_duration_check() -> None:
    """An executed plan has the truth's durations; calling them wrong would reject every one."""
    request = base_request()
    ran = make_plan(picky=put("picky", "w1", 5, 17), r=put("r", "w2", -5, 10))
    assert KIND.WRONG_DURATION in {v.kind for v in validate(request, ran)}
    found = evaluate(request, ran, realised=True)
    assert found.valid
    assert found.terms["wait_h"] == evaluate(request, make_plan()).terms["wait_h"]


def test_a_plan_made_at_another_moment_is_stale() -> None:
    """A plan of an older moment with the same version would be carried out."""
    stale = replace(make_plan(), made_at_s=NOW - 1)
    assert {v.kind for v in validate(base_request(), stale)} == {KIND.STALE_SNAPSHOT}


def test_what_started_this_very_second_holds_its_worker() -> None:
    """A planned task would be let in before what began to run in the same second is counted."""
    worker = Worker("w", {"cpu": 4000})
    run = Running(Task("r", {"cpu": 3000}, release_s=NOW), ("w",), NOW)
    snapshot = Snapshot(0, NOW, (worker,), (Task("t", {"cpu": 2000}, NOW),), (run,))
    request = PlanRequest("now", snapshot, {"r": certain(10), "t": certain(10)})
    plan = Plan((Assignment("t", ("w",), NOW, NOW + 10),), (), NOW, 0)
    assert {v.kind for v in validate(request, plan)} == {KIND.OVER_CAPACITY}


def test_a_running_task_past_its_limit_still_ends_in_the_future() -> None:
    """It holds its worker for a second at least: it runs now."""
    worker = Worker("w", {"cpu": 4000})
    run = Running(Task("r", {"cpu": 1000}, requested_s=100), ("w",), NOW - 160)
    request = PlanRequest("run", Snapshot(0, NOW, (worker,), (), (run,)), {"r": certain(3600)})
    assert running_end_s(request, run) == NOW + 1


def test_a_gang_has_moved_if_a_piece_has() -> None:
    """Two pieces on one worker and one on the other are not one and two."""
    workers = (Worker("a", {"cpu": 4000}), Worker("b", {"cpu": 4000}))
    snapshot = Snapshot(0, NOW, workers, (Task("g", {"cpu": 1000}, NOW, shards=3),))
    before = Plan((Assignment("g", ("a", "a", "b"), NOW, NOW + 10),), (), NOW, 0)
    request = PlanRequest("gang", snapshot, {"g": certain(10)}, incumbent=before)
    after = Plan((Assignment("g", ("a", "b", "b"), NOW, NOW + 10),), (), NOW, 0)
    assert evaluate(request, after).terms["moves"] == 1
    turned = Plan((Assignment("g", ("b", "a", "a"), NOW, NOW + 10),), (), NOW, 0)
    assert evaluate(request, turned).terms["moves"] == 0


def test_a_task_preempted_twice_is_charged_once() -> None:
    """A plan would be priced by how often it says a thing."""
    request = base_request()
    plan = make_plan(r=put("r", "w2", 60, 8), follower=put("follower", "w2", 68))
    once, twice = replace(plan, preempted=("r",)), replace(plan, preempted=("r", "r"))
    assert evaluate(request, twice).terms["moves"] == evaluate(request, once).terms["moves"]


def test_a_task_that_fits_beside_the_plan_is_not_left_out() -> None:
    """On a worker that drains a task could be left out for which there was room."""
    worker = Worker("w", {"cpu": 4000}, until_s=NOW + 100)
    tasks = (Task("a", {"cpu": 3000}, NOW), Task("b", {"cpu": 1000}, NOW))
    request = PlanRequest(
        "drain", Snapshot(0, NOW, (worker,), tasks), {"a": certain(90), "b": certain(90)}
    )
    plan = Plan((Assignment("a", ("w",), NOW, NOW + 90),), (), NOW, 0)
    found = evaluate(request, plan, unplanned=["b"])
    response = PlanResponse(
        "drain", 0, Status.FEASIBLE, plan, found.cost, found.terms, lower_bound=0.0, gap=1.0,
        unplanned={"b": "it does not fit"},
    )  # fmt: skip
    assert {v.kind for v in validate_response(request, response)} == {KIND.WRONG_UNPLANNED}


def test_costs_below_zero_have_a_gap_too() -> None:
    """Every plan of a negative cost would be called optimal."""
    assert relative_gap(-5.0, -10.0) == 1.0
    assert relative_gap(-5.0, -5.0) == 0.0
    assert relative_gap(0.0, 0.0) == 0.0
    assert relative_gap(0.0, -1.0) == 1.0
    assert relative_gap(4.0, 3.0) == 0.25
