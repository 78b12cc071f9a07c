"""GPUs that are devices: brute force, and every engine's plans by the evaluator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.modes import encode_choices
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    ANY_CLASS,
    DEVICE,
    GPU,
    BadRequest,
    DurationEstimate,
    Mode,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.plan import plan
from plancast.planner.planning.repair import repair
from plancast.planner.planning.risk import RiskMeasure, plan_under_risk
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.cpsat.cpsat import device_pairs
from plancast.planner.worlds.executors import static
from plancast.planner.worlds.simulate import execute
from tests.conftest import cases, scaled, spans
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.plain_devices import device_request
from tests.oracles.random_requests import related

CHUNKS, CHUNK = 24, 20
"""Seeds of one comparison with brute force, of which 300 can be planned and tell devices apart."""
UNLIMITED = Budget(None, 1_000_000)
A_WHILE = Budget(None, 1500)


@pytest.mark.parametrize("chunk", cases(1, CHUNKS))
def test_cpsat_is_brute_force_on_devices(chunk: int) -> None:
    """A plan would be called optimal that is not, or impossible where there is one."""
    compare(range(chunk * CHUNK, (chunk + 1) * CHUNK))


def is_proved(request: PlanRequest, problem: Problem, seed: int) -> bool:
    """Let CP-SAT prove what brute force finds; whether there is a plan."""
    best = optimum(request, problem.unplanned)
    rng = np.random.default_rng(seed)
    found = SOLVERS["cpsat"]().solve(problem, budget=UNLIMITED, rng=rng)
    if best is None:
        assert found.status is Status.INFEASIBLE, seed
        return False
    assert found.status is Status.OPTIMAL, seed
    assert found.schedule is not None
    made = decode(problem, found.schedule)
    judged = evaluate(without_moves(request), made, unplanned=problem.unplanned)
    assert judged.valid, (seed, judged.violations)
    assert judged.cost == pytest.approx(best.cost, rel=1e-6, abs=1e-9), seed
    assert found.lower_bound <= best.cost + 1e-6 * max(1.0, abs(best.cost)), seed
    return True


def compare(seeds: range, made_of: Callable[[int], PlanRequest] = device_request) -> int:
    """Let CP-SAT prove what brute force finds; how many plans both found."""
    both = 0
    for seed in seeds:
        request = made_of(seed)
        problem = encode(request)
        if problem.infeasible or not problem.tasks:
            continue
        both += is_proved(request, problem, seed)
    return both


@pytest.mark.parametrize("chunk", cases(1, 2))
def test_cpsat_is_brute_force_on_devices_beside_relations(chunk: int) -> None:
    """A lag, an exclusive task or a gang's shape would be kept to by amounts alone."""
    seeds = range(4000 + CHUNK * chunk, 4000 + CHUNK * (chunk + 1))
    assert compare(seeds, with_relations) >= 5


def with_relations(seed: int) -> PlanRequest:
    """Devices beside lags, exclusive tasks, shaped gangs and label expressions."""
    return related(device_request(seed, max_tasks=4), seed)


@pytest.mark.slow
def test_brute_force_meets_three_hundred_instances() -> None:
    """The comparison would shrink with how instances are drawn, and nobody see it."""
    problems = [encode(device_request(seed)) for seed in range(CHUNKS * CHUNK)]
    compared = [p for p in problems if p.tasks and not p.infeasible]
    apart = [p for p in compared if p.tells_apart]
    assert len(compared) > len(apart) >= 300
    # Beside what else bears on who gets a device when.
    assert sum(any(t.shards > 1 and t.demand.get(GPU) for t in p.tasks) for p in apart) >= 80
    assert sum(any(t.after for t in p.tasks) for p in apart) >= 100
    assert sum(any(t.deadline_s is not None for t in p.tasks) for p in apart) >= 150
    assert sum(bool(p.request.snapshot.running) for p in apart) >= 100


@pytest.mark.parametrize("name", sorted(SOLVERS))
@pytest.mark.parametrize("chunk", cases(1, 4))
def test_engines_neither_break_devices_nor_prove_what_is_not_so(name: str, chunk: int) -> None:
    """An engine would give a device twice, or prove a plan optimal that sees no devices."""
    for seed in range(1000 + 12 * chunk, 1012 + 12 * chunk):
        request = device_request(seed)
        problem = encode(request)
        if problem.infeasible or not problem.tasks:
            continue
        rng = np.random.default_rng(seed)
        found = SOLVERS[name]().solve(problem, budget=A_WHILE, rng=rng)
        best = optimum(request, problem.unplanned)
        assert found.status is not Status.INFEASIBLE or best is None, seed
        if best is not None:
            assert found.lower_bound <= best.cost + 1e-6 * max(1.0, abs(best.cost)), seed
        if found.schedule is None:
            continue
        made = decode(problem, found.schedule)
        judged = evaluate(without_moves(request), made, unplanned=problem.unplanned)
        assert judged.valid, (seed, judged.violations)
        if found.status is Status.OPTIMAL:
            assert best is not None
            assert judged.cost == pytest.approx(best.cost, rel=1e-6, abs=1e-9), seed


@pytest.mark.parametrize("name", ["auto", *sorted(SOLVERS)])
@pytest.mark.parametrize("seeds", spans(range(2000, 2008), range(2000, 2020)))
def test_responses_are_true_of_devices(name: str, seeds: range) -> None:
    """A response would say what its plan is not, or leave out a task that has a place."""
    for seed in seeds:
        request = replace(device_request(seed), budget=A_WHILE)
        response = plan(request, name)
        assert validate_response(request, response) == [], seed
        assert response.warning is None, seed


def test_repairs_are_true_of_devices() -> None:
    """A master would be told to start two tasks on one device after an event."""
    repaired = 0
    for seed in range(3000, 3080):
        request = replace(device_request(seed), budget=A_WHILE)
        if request.incumbent is None:
            continue
        response = repair(request)
        assert validate_response(request, response) == [], seed
        repaired += response.solver == "repair"
    assert repaired >= 5


def large(tasks: int, workers: int, seed: int, amounts: tuple[int, ...]) -> PlanRequest:
    """A batch in which every task takes GPUs."""
    made = generate_batch(tasks, generate_cluster(workers, seed), seed, gang_share=0.2)
    rng = np.random.default_rng(seed)
    on = tuple(
        replace(w, capacity={**w.capacity, GPU: 4000}, devices=True) for w in made.snapshot.workers
    )
    pending = tuple(
        replace(t, demand={**t.demand, GPU: int(rng.choice(amounts))})
        for t in made.snapshot.pending
    )
    snapshot = replace(made.snapshot, workers=on, pending=pending)
    return replace(made, snapshot=snapshot, budget=Budget(None, 600))


@pytest.mark.parametrize("seed", range(3))
def test_ruin_and_recreate_keeps_devices_through_many_moves(seed: int) -> None:
    """An undone move would leave devices held by nobody, or by two tasks."""
    request = large(120, 4, seed, (200, 300, 500, 700, 1000, 2000))
    problem = encode(request)
    assert problem.tells_apart
    greedy = SOLVERS["greedy"]().solve(problem, budget=A_WHILE, rng=np.random.default_rng(0))
    budget, rng = Budget(None, 3000), np.random.default_rng(seed)
    found = SOLVERS["lns"]().solve(problem, budget=budget, rng=rng, incumbent=greedy.schedule)
    assert found.schedule is not None
    assert greedy.schedule is not None
    assert problem.cost(found.schedule) < problem.cost(greedy.schedule)
    judged = evaluate(request, decode(problem, found.schedule), unplanned=problem.unplanned)
    assert judged.valid, judged.violations
    assert judged.cost == pytest.approx(found.claimed, rel=1e-9)


def test_plans_are_those_of_amounts_where_devices_need_no_telling_apart() -> None:
    """A cluster of whole devices would be planned otherwise, or at another speed, than before."""
    request = large(60, 4, 1, (1000, 2000, 4000))
    snapshot = request.snapshot
    plain = replace(
        request,
        snapshot=replace(
            snapshot, workers=tuple(replace(w, devices=False) for w in snapshot.workers)
        ),
    )
    for name in ("greedy", "lns"):
        with_devices, without = plan(request, name).plan, plan(plain, name).plan
        assert with_devices is not None
        assert without is not None
        bare = tuple(replace(a, devices=()) for a in with_devices.assignments)
        assert bare == without.assignments
        assert all(a.devices for a in with_devices.assignments)


@pytest.mark.slow
def test_a_model_that_would_be_too_large_gives_a_bound_alone() -> None:
    """CP-SAT would build a literal for each of a million pairs, and its clock run out."""
    request = large(40, 100, 1, (300, 1000))
    problem = encode(request)
    assert device_pairs(problem) > 10_000
    solver, rng = SOLVERS["cpsat"](), np.random.default_rng(0)
    found = solver.solve(problem, budget=Budget(None, 3000), rng=rng)
    assert found.lower_bound > 0
    if found.schedule is not None:
        judged = evaluate(request, decode(problem, found.schedule), unplanned=problem.unplanned)
        assert judged.valid, judged.violations
        assert found.lower_bound <= judged.cost * (1 + 1e-6)


def modal_request(seed: int) -> PlanRequest:
    """A small awkward request whose tasks run on more devices or on fewer, faster or slower."""
    rng = np.random.default_rng([seed, 22])
    asked = device_request(seed, shares=False, preemption=False, max_tasks=4)
    snapshot, estimates = asked.snapshot, dict(asked.estimates)
    # All of them devices: an amount of 1.5 on another worker would be a share.
    workers = tuple(replace(w, devices=True) for w in snapshot.workers)
    pending = []
    for task in snapshot.pending:
        if rng.random() < 0.3:
            pending.append(task)
            continue
        own = Mode("own", task.demand, task.shards, task.requires, task.requested_s)
        modes, by_mode = [own], {"own": estimates[task.id]}
        for k in range(int(rng.integers(1, 3))):
            demand = {**task.demand, GPU: DEVICE * int(rng.integers(0, 4))}
            modes.append(Mode(f"m{k}", demand, int(rng.integers(1, 3)), task.requires))
            certain = DurationEstimate.certain(int(rng.integers(1, 5)))
            by_mode[f"m{k}"] = dict.fromkeys(by_mode["own"], certain)
        estimates[task.id] = by_mode  # type: ignore[assignment]
        way = {"demand": {}, "shards": 1, "requires": (), "requested_s": None}
        pending.append(replace(task, **way, modes=tuple(modes)))  # type: ignore[arg-type]
    running = tuple(
        replace(r, devices=() if any(len(d) != -(-r.task.demand[GPU] // DEVICE) for d in r.devices)
                else r.devices)
        for r in snapshot.running
    )  # fmt: skip
    changed = replace(snapshot, workers=workers, pending=tuple(pending), running=running)
    return replace(asked, snapshot=changed, estimates=estimates, incumbent=None)


@pytest.mark.parametrize("chunk", cases(1, 3))
def test_modes_with_whole_devices_are_brute_force(chunk: int) -> None:
    """A task would be refused that runs on one GPU or, faster, on two; or hold one twice."""
    found = several = 0
    for seed in range(8000 + 12 * chunk, 8012 + 12 * chunk):
        request = modal_request(seed)
        assert not request.snapshot.shares_devices
        asked = replace(request, budget=A_WHILE)
        choices = encode_choices(request)
        if choices.infeasible or not choices.tasks:
            continue
        best = optimum(request, choices.unplanned)
        for name in ("cpsat", "greedy", "lns"):
            response = plan(replace(asked, budget=UNLIMITED if name == "cpsat" else A_WHILE), name)
            assert validate_response(asked, response) == [], (seed, name)
            if best is None or (name != "cpsat" and response.plan is None):
                assert response.plan is None, (seed, name)
                continue
            assert response.cost is not None
            assert response.cost >= best.cost - 1e-6 * abs(best.cost) - 1e-9, (seed, name)
            if name == "cpsat":
                assert response.cost == pytest.approx(best.cost, rel=1e-6, abs=1e-9), seed
                found += 1
                several += any(len(d) > 1 for a in response.plan.assignments for d in a.devices)
    assert found >= 6
    assert several >= 1


def test_a_plan_with_modes_that_names_no_devices_is_kept() -> None:
    """What a master had in force would be forgotten, since it knew of no devices."""
    kept = 0
    for seed in range(8100, 8116):
        request = replace(modal_request(seed), budget=Budget(None, 0))
        made = plan(request, "greedy").plan
        if made is None or not any(a.devices for a in made.assignments):
            continue
        bare = replace(made, assignments=tuple(replace(a, devices=()) for a in made.assignments))
        again = replace(request, incumbent=bare)
        response = plan(again, "greedy")
        assert validate_response(again, response) == [], seed
        repaired = repair(replace(again, budget=A_WHILE))
        assert validate_response(again, repaired) == [], seed
        kept += response.moved == ()
    assert kept >= 4


def small(**changes: object) -> PlanRequest:
    """Two shares and a whole device on a node of two."""
    node = Worker("n", {"cpu": 8000, GPU: 2000}, devices=True)
    tasks = tuple(Task(f"t{k}", {GPU: a}, owner="ann") for k, a in enumerate((600, 600, 1000)))
    known = {t.id: {ANY_CLASS: DurationEstimate((0.5, 0.9), (10, 14))} for t in tasks}
    request = PlanRequest("r", Snapshot(1, 0, (node,), tasks), known, budget=A_WHILE)
    return replace(request, **changes)


def test_shares_that_fit_no_device_together_wait() -> None:
    """Two shares of 0.6 and a whole device would be run on two devices at once."""
    response = plan(small(policy=Policy(Prices.for_makespan(), level=0.5)))
    assert response.status is Status.OPTIMAL
    assert response.cost == pytest.approx(20 / 3600)
    assert response.plan is not None
    ends = sorted(a.end_s for a in response.plan.assignments)
    assert ends == [10, 10, 20]


def test_scenarios_and_risk_keep_devices() -> None:
    """A plan with the times of another scenario would hold a device twice."""
    for options in ({}, {"policy": Policy(scenarios=(0.3, 0.9))}):
        request = small(**options)
        response = plan(request)
        assert validate_response(request, response) == []
    response = plan_under_risk(small(), RiskMeasure(), samples=20)
    assert validate_response(small(), response) == []
    request = replace(large(40, 3, 4, (300, 500, 1000)), policy=Policy(scenarios=(0.3, 0.9)))
    response = plan(request, "lns")
    assert validate_response(request, response) == []
    assert response.scenarios


def test_preempting_a_task_frees_its_devices_and_moves_no_other() -> None:
    """A stopped task would hold its device still, or what runs on another one change places."""
    node = Worker("n", {GPU: 2000}, devices=True)
    soft = Task("soft", {GPU: 600}, preemptible=True, weight=0.1)
    firm = Task("firm", {GPU: 600})
    # Of neither the devices are known: by the rule soft has the first, firm the second.
    runs = (Running(firm, ("n",), -5), Running(soft, ("n",), -6))
    urgent = Task("urgent", {GPU: 1000}, deadline_s=20, weight=100.0)
    lasts = {"soft": 1000, "firm": 1000, "urgent": 10}
    known = {name: {ANY_CLASS: DurationEstimate.certain(s)} for name, s in lasts.items()}
    snapshot = Snapshot(1, 0, (node,), (urgent,), runs)
    for name in ("auto", "greedy", "lns"):
        request = PlanRequest("r", snapshot, known, budget=A_WHILE)
        response = plan(request, name)
        assert validate_response(request, response) == []
        assert response.plan is not None
        assert response.plan.preempted == ("soft",)
        assert response.plan.by_task["urgent"].start_s == 0
        assert response.plan.by_task["urgent"].devices == ((0,),)


def test_an_incumbent_without_devices_is_given_some() -> None:
    """A plan of a master that knows of no devices would be forgotten."""
    request = small()
    made = plan(request).plan
    assert made is not None
    bare = replace(made, assignments=tuple(replace(a, devices=()) for a in made.assignments))
    response = plan(replace(request, incumbent=bare, budget=Budget(None, 0)), "greedy")
    assert validate_response(replace(request, incumbent=bare), response) == []
    assert response.cost == pytest.approx(plan(request).cost)
    assert response.moved == ()


def test_who_cannot_tell_devices_apart_says_so() -> None:
    """An execution or a plan with modes would give a device to two tasks in silence."""
    request = small()
    made = plan(request).plan
    assert made is not None
    truth = {t.id: 10 for t in request.snapshot.pending}
    with pytest.raises(BadRequest, match="worker n has GPUs as devices of which tasks take shares"):
        static(request, made, truth)
    bare = replace(made, assignments=tuple(replace(a, devices=()) for a in made.assignments))
    with pytest.raises(BadRequest, match="names none of the devices of worker n"):
        execute(request, bare, truth)
    modes = (Mode("m", {GPU: 1000}), Mode("s", {GPU: 500}))
    task = Task("t0", {}, modes=modes)
    certain = {m.id: {ANY_CLASS: DurationEstimate.certain(5)} for m in modes}
    asked = replace(
        request,
        snapshot=replace(request.snapshot, pending=(task,)),
        estimates={"t0": certain},
    )
    with pytest.raises(BadRequest, match="which planning with modes cannot tell apart"):
        plan(asked)
    whole = tuple(replace(t, demand={GPU: 1000}) for t in request.snapshot.pending)
    calm = replace(request, snapshot=replace(request.snapshot, pending=whole))
    made = plan(calm).plan
    assert made is not None
    done = execute(calm, made, {t.id: 10 for t in whole})
    assert evaluate(calm, done, realised=True).valid


def held_at_once(request: PlanRequest, done: Plan) -> int:
    """The most of one device that tasks of a plan hold in a second, second by second."""
    wanted = {t.id: t.demand.get(GPU, 0) for t in request.snapshot.pending}
    wanted |= {r.task.id: r.task.demand.get(GPU, 0) for r in request.snapshot.running}
    use: Counter[tuple[str, int, int]] = Counter()
    for row in done.assignments:
        for name, devices in zip(row.workers, row.devices, strict=False):
            for d in devices:
                for second in range(max(row.start_s, request.snapshot.now_s), row.end_s):
                    use[name, d, second] += min(wanted[row.task], DEVICE)
    return max(use.values(), default=0)


@pytest.mark.parametrize("chunk", cases(1, 3))
def test_an_execution_holds_no_device_twice(chunk: int) -> None:
    """A task that runs longer than planned would share its device with whoever was to follow."""
    rng = np.random.default_rng(chunk)
    executed = shared = 0
    for seed in range(6000 + 40 * chunk, 6040 + 40 * chunk):
        # What runs may share a device as it pleases, as in real logs; an overrun may break bounds.
        asked = device_request(seed, running=False, drains=False, bounds=False, blocked=False)
        request = replace(asked, budget=A_WHILE)
        made = plan(request, "greedy").plan
        if made is None or not made.assignments:
            continue
        truth = {row.task: int(rng.integers(1, 12)) for row in made.assignments}
        done = execute(request, made, truth)
        judged = evaluate(request, done, unplanned=unplanned_of(request, done), realised=True)
        assert judged.valid, (seed, judged.violations)
        assert held_at_once(request, done) <= DEVICE, seed
        by_task = made.by_task
        for row in done.assignments:
            assert row.workers == by_task[row.task].workers
            assert row.end_s - row.start_s == truth[row.task]
            if request.snapshot.shares_devices:
                assert row.devices == by_task[row.task].devices
        executed += 1
        shared += request.snapshot.shares_devices
    assert executed >= 20
    assert shared >= 10


def unplanned_of(request: PlanRequest, done: Plan) -> set[str]:
    """The pending tasks that an execution has not."""
    return {task.id for task in request.snapshot.pending} - done.by_task.keys()


def test_an_execution_of_exact_run_times_is_never_later_than_its_plan() -> None:
    """Devices that are counted too often would hold tasks back that the plan starts."""
    compared = 0
    for seed in range(7000, 7000 + scaled(30)):
        request = replace(
            device_request(seed, drains=False, preemption=False, hours=False), budget=A_WHILE
        )
        made = plan(request, "greedy").plan
        if made is None or not request.snapshot.shares_devices:
            continue
        truth = {row.task: row.end_s - row.start_s for row in made.assignments}
        done = execute(request, made, truth).by_task
        for row in made.assignments:
            assert done[row.task].start_s <= row.start_s, (seed, row.task)
            compared += 1
    assert compared >= scaled(20)


def test_what_runs_over_capacity_leaves_room_when_it_ends() -> None:
    """A log with more on a node than it has would leave no plan at all."""
    request = small()
    runs = tuple(Running(Task(f"r{k}", {GPU: 700}), ("n",), 0) for k in range(4))
    known = {**request.estimates, **{r.task.id: request.estimates["t0"] for r in runs}}
    snapshot = replace(request.snapshot, running=runs)
    crowded = replace(request, snapshot=snapshot, estimates=known)
    for name in ("auto", "greedy", "lns"):
        response = plan(crowded, name)
        assert response.plan is not None
        assert validate_response(crowded, response) == []
