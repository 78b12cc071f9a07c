"""A repaired plan is valid for the new state, keeps what still holds, and moves little else."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, Schedule, decode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model import events
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Finished,
    Outcome,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate, moved_tasks
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    Budget,
    Event,
    PlanRequest,
    Status,
    TaskFinished,
    TaskSubmitted,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
)
from plancast.planner.planning.plan import plan
from plancast.planner.planning.repair import repair
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns.local_search import fixed_arrays, full_cost, ranks
from plancast.planner.solvers.lns.reinsertion import reinserted, standing
from plancast.planner.solvers.lns.subproblem import rest_of
from plancast.planner.solvers.repair.repair import Repair
from tests.conftest import scaled
from tests.oracles.random_requests import random_request

FEW = Budget(None, 60)


def planned(request: PlanRequest) -> Plan:
    """Some valid plan of a request."""
    found = plan(replace(request, incumbent=None, budget=FEW), "greedy").plan
    assert found is not None
    return found


def carried_out(request: PlanRequest, made: Plan, now_s: int) -> PlanRequest:
    """The request at a later moment of a plan that was carried out to the second."""
    by_task, before = made.by_task, request.snapshot
    pending, running, finished = [], [], []
    for task in before.pending:
        row = by_task.get(task.id)
        if row is not None and row.end_s <= now_s:
            finished.append(Finished(task.id, row.end_s))
        elif row is not None and row.start_s <= now_s:
            running.append(Running(task, row.workers, row.start_s))
        else:
            pending.append(task)
    snapshot = Snapshot(
        before.version + 1, now_s, before.workers, tuple(pending), tuple(running), tuple(finished)
    )
    return replace(request, snapshot=snapshot, incumbent=made, budget=FEW)


def batch(seed: int, tasks: int = 30, workers: int = 6, move_price: float = 0.5) -> PlanRequest:
    """A batch half-way through its greedy plan."""
    request = generate_batch(tasks, generate_cluster(workers, seed), seed, gang_share=0.1)
    # Certain: what runs as planned is then expected to end as planned.
    certain = {
        task: {kind: DurationEstimate.certain(e.at(request.policy.level)) for kind, e in by.items()}
        for task, by in request.estimates.items()
    }
    # A piece that would be done alone by now says nothing of its gang: one time for all classes.
    gangs = {t.id for t in request.snapshot.pending if t.shards > 1}
    for task in gangs:
        longest = max(e.at(0.5) for e in certain[task].values())
        certain[task] = {kind: DurationEstimate.certain(longest) for kind in certain[task]}
    request = replace(request, estimates=certain)
    prices = replace(request.policy.prices, moves=move_price)
    request = replace(request, policy=replace(request.policy, prices=prices))
    made = planned(request)
    ends = sorted(a.end_s for a in made.assignments)
    return carried_out(request, made, ends[len(ends) // 3])


def after(request: PlanRequest, *happened: Event) -> PlanRequest:
    """The request after events."""
    snapshot = request.snapshot
    for event in happened:
        snapshot = events.apply(snapshot, event)
    return replace(request, snapshot=snapshot)


def hit_by(changed: PlanRequest, lost: str) -> set[str]:
    """Pending tasks that were to run on a worker, or follow such a task at any distance."""
    assert changed.incumbent is not None
    by_task = changed.incumbent.by_task
    hit = {t.id for t in changed.snapshot.pending if lost in by_task[t.id].workers}
    while more := {t.id for t in changed.snapshot.pending if hit & set(t.after)} - hit:
        hit |= more
    return hit


def what_happens(request: PlanRequest, rng: np.random.Generator) -> PlanRequest:
    """One event of each sort in turn, at the snapshot's now."""
    now, workers = request.snapshot.now_s, request.snapshot.workers
    worker = workers[int(rng.integers(len(workers)))]
    running = request.snapshot.running
    sort = int(rng.integers(5))
    if sort == 0 and len(workers) > 1:
        return after(request, WorkerLost(now, worker.id))
    if sort == 1:
        return after(request, WorkerDraining(now, worker.id, now + 600))
    if sort == 2 and running:
        return after(request, TaskFinished(now, running[0].task.id, Outcome.FAILED))
    if sort == 3:
        fresh = Task("fresh", {"cpu": 1000}, release_s=now)
        estimates = {**request.estimates, "fresh": {"*": DurationEstimate.certain(300)}}
        return replace(after(request, TaskSubmitted(now, fresh)), estimates=estimates)
    # Time has passed: what runs has overrun, or what should have started has not.
    return replace(request, snapshot=request.snapshot.evolved(now_s=now + 900))


@pytest.mark.parametrize("seed", range(16))
def test_every_repaired_plan_is_valid_and_honest(seed: int) -> None:
    """A repaired plan could break a rule, or the response say too much of it."""
    rng = np.random.default_rng(seed)
    changed = what_happens(batch(seed), rng)
    response = repair(changed)
    assert validate_response(changed, response) == []
    drains = any(worker.until_s is not None for worker in changed.snapshot.workers)
    # Not all that fits a worker until it drains may fit there together.
    assert response.solver == "repair" or (drains and response.status is Status.INFEASIBLE)


def test_tiny_requests_are_repaired_under_every_rule() -> None:
    """Labels, hard deadlines, windows, gangs, wait bounds: a case that batches do not have."""
    repaired = 0
    for seed in range(300, 300 + scaled(40)):
        request = random_request(np.random.default_rng(seed), max_tasks=6)
        first = plan(replace(request, incumbent=None, budget=FEW), "greedy")
        if first.plan is None or len(request.snapshot.workers) < 2:
            continue
        now = request.snapshot.now_s
        changed = replace(
            after(request, WorkerLost(now, request.snapshot.workers[0].id)),
            incumbent=first.plan,
            budget=FEW,
        )
        response = repair(changed)
        assert validate_response(changed, response) == [], seed
        repaired += response.solver == "repair"
    assert repaired > scaled(10)


def test_nothing_has_happened_and_nothing_changes() -> None:
    """A repair without need could shuffle the plan."""
    for seed in range(6):
        request = batch(seed, move_price=1000.0)
        response = repair(request)
        assert response.plan is not None
        assert response.moved == ()
        for row in response.plan.assignments:
            assert request.incumbent is not None
            before = request.incumbent.by_task[row.task]
            assert sorted(row.workers) == sorted(before.workers)
            assert row.start_s <= before.start_s


def test_late_and_early_ends_are_absorbed_without_search() -> None:
    """A task that ends late or early could throw the others off their workers."""
    request = batch(3)
    for passed_s in (0, 120, 1800):
        now = request.snapshot.now_s + passed_s
        late = replace(request, snapshot=request.snapshot.evolved(now_s=now))
        problem = encode(late)
        stands = standing(problem)
        found = reinserted(problem, fixed_arrays(problem), stands, ranks(problem)[0], 1e-9, False)
        assert found is not None
        schedule, inserted = found
        assert not inserted.any()
        assert (schedule.worker == stands.worker).all()
        assert evaluate(late, decode(problem, schedule)).valid
    running = request.snapshot.running[0].task.id
    early = after(request, TaskFinished(request.snapshot.now_s, running))
    response = repair(replace(early, budget=Budget(None, 0)))
    assert response.moved == ()


def test_moves_are_few_where_they_are_dear() -> None:
    """No more tasks move than were on the lost worker, or follow one that was."""
    for seed in range(8):
        request = batch(seed, move_price=1e5)
        lost = request.snapshot.workers[-1].id
        changed = after(request, WorkerLost(request.snapshot.now_s, lost))
        response = repair(changed)
        assert len(response.moved) <= len(hit_by(changed, lost))


def test_the_share_that_may_be_moved_is_kept() -> None:
    """Where moves are free, the search would move nearly everything."""
    request = batch(5, tasks=60, move_price=0.0)
    now, lost = request.snapshot.now_s, request.snapshot.workers[2].id
    changed = replace(after(request, WorkerLost(now, lost)), budget=Budget(None, 3000))
    most = repair(changed, most_moved=1.0)
    least = repair(changed, most_moved=0.0)
    some = repair(changed, most_moved=0.3)
    tasks = len(changed.snapshot.pending)
    assert len(most.moved) > 0.3 * tasks
    assert len(some.moved) <= max(0.3 * tasks, len(least.moved))


def test_frozen_tasks_stay_where_they_are() -> None:
    """A task that is about to start could be sent to another worker."""
    held = 0
    for seed in range(8):
        request = batch(seed, move_price=0.0)
        now = request.snapshot.now_s
        lost = request.snapshot.workers[0].id
        changed = after(request, WorkerLost(now, lost))
        frozen_s = 3600
        response = repair(replace(changed, budget=Budget(None, 2000)), frozen_s=frozen_s)
        assert response.plan is not None
        assert request.incumbent is not None
        hit = hit_by(changed, lost)
        for task in changed.snapshot.pending:
            before = request.incumbent.by_task[task.id]
            soon = now <= before.start_s < now + frozen_s
            if soon and task.id not in hit:
                after_ = response.plan.by_task[task.id]
                assert sorted(after_.workers) == sorted(before.workers)
                held += 1
    assert held > 10


def rest_cases() -> list[tuple[Problem, Schedule, np.ndarray]]:
    """Small problems with a schedule, and one or two of its tasks to be placed anew."""
    found = []
    for seed in range(500, 660):
        rng = np.random.default_rng(seed)
        request = random_request(rng, max_tasks=5)
        problem = encode(replace(request, incumbent=None))
        if problem.infeasible or len(problem.tasks) < 2:
            continue
        schedule = SOLVERS["greedy"]().solve(problem, budget=FEW, rng=rng).schedule
        if schedule is None:
            continue
        out = np.zeros(len(problem.tasks), np.bool_)
        out[rng.permutation(len(out))[: 1 + int(rng.integers(2))]] = True
        found.append((problem, schedule, out))
    return found


def test_the_rest_of_a_plan_is_placed_best_by_astar() -> None:
    """A* could be told a wrong price, hold or bound of the tasks that stay."""
    compared = 0
    for problem, schedule, out in rest_cases():
        rest = rest_of(problem, fixed_arrays(problem), schedule, out)
        offset = problem.cost(schedule) - rest.cost(rest.part_of(schedule))
        found = SOLVERS["astar"]().solve(
            rest, budget=Budget(None, 100_000), rng=np.random.default_rng(0),
            incumbent=rest.part_of(schedule),
        )  # fmt: skip
        assert found.schedule is not None
        whole = rest.joined(found.schedule)
        judged = evaluate(problem.request, decode(problem, whole), unplanned=problem.unplanned)
        assert judged.valid, judged.violations
        assert found.claimed is not None
        assert problem.cost(whole) == pytest.approx(found.claimed + offset, abs=1e-9)
        least = best_by_hand(problem, schedule, out)
        if least is not None:
            assert problem.cost(whole) == pytest.approx(least, rel=1e-6, abs=1e-9)
            compared += 1
    assert compared > 20


def best_by_hand(problem: Problem, schedule: Schedule, out: np.ndarray) -> float | None:
    """Least cost over all workers and starts of the tasks `out`, gangs and long ones left out."""
    tasks = [int(i) for i in np.flatnonzero(out)]
    horizon = int(schedule.end.max()) + int(problem.duration.max()) + 1
    free = [b.end_s for w in problem.workers for b in w.blocked]
    if free or horizon > 40 or any(problem.shards[i] > 1 for i in tasks):
        return None
    choices = [
        [(w, s) for w in np.flatnonzero(problem.durations_on(i))
         for s in range(int(problem.release[i]), horizon)]
        for i in tasks
    ]  # fmt: skip
    if np.prod([len(c) for c in choices]) > 3000:
        return None
    least = full_cost(problem, schedule)
    for places in product(*choices):
        start, end, worker = schedule.start.copy(), schedule.end.copy(), schedule.worker.copy()
        for i, (w, s) in zip(tasks, places, strict=True):
            start[i], end[i] = s, s + problem.durations_on(i)[w]
            worker[problem.shard_ptr[i]] = w
        tried = Schedule(start, end, worker)
        cost = problem.cost(tried)
        if cost < least:
            found = evaluate(problem.request, decode(problem, tried), unplanned=problem.unplanned)
            if found.valid:
                least = cost
    return least


def test_small_neighbourhoods_are_solved_exactly() -> None:
    """One task to insert, and a placement that insertion alone would not choose."""
    workers = tuple(Worker(f"w{k}", {"cpu": 1000}) for k in range(3))
    tasks = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(6))
    estimates = {t.id: {"*": DurationEstimate.certain(100 + 40 * k)} for k, t in enumerate(tasks)}
    request = PlanRequest("r", Snapshot(1, 0, workers, tasks), estimates, budget=FEW)
    made = planned(request)
    changed = replace(after(request, WorkerLost(0, "w2")), incumbent=made)
    best = plan(replace(changed, incumbent=None, budget=Budget(None, 100_000)), "astar").cost
    found = repair(replace(changed, budget=Budget(None, 4000)), most_moved=1.0)
    assert best is not None
    assert found.cost == pytest.approx(best)


def test_rings_find_the_best_plan_and_claim_no_proof() -> None:
    """A proof for some of the tasks, where the others stay, could be taken for one of the plan."""
    workers = tuple(Worker(f"w{k}", {"cpu": 1000}) for k in range(3))
    tasks = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(4))
    estimates = {t.id: {"*": DurationEstimate.certain(90 + 40 * k)} for k, t in enumerate(tasks)}
    prices = Prices(makespan_h=1.0, wait_h=1.0, moves=0.0)
    request = PlanRequest(
        "r", Snapshot(1, 0, workers, tasks), estimates, Policy(prices), budget=FEW
    )
    made = planned(request)
    changed = replace(after(request, WorkerLost(0, "w2")), incumbent=made)
    best = plan(replace(changed, budget=Budget(None, 100_000)), "astar")
    assert best.status is Status.OPTIMAL
    for exact_tasks in (3, 4):
        found = repair(
            replace(changed, budget=Budget(None, 4000)), most_moved=1.0, exact_tasks=exact_tasks
        )
        assert validate_response(changed, found) == []
        assert found.cost == pytest.approx(best.cost)
        assert found.lower_bound is not None
        assert found.lower_bound <= best.cost + 1e-9


def test_a_worker_that_comes_back_gets_its_tasks_again() -> None:
    """A flap shorter than the plan could cost more than the flap."""
    request = batch(2, move_price=1e4)
    now, worker = request.snapshot.now_s, request.snapshot.workers[1]
    flapped = after(request, WorkerLost(now, worker.id), WorkerJoined(now, worker))
    kept, response = repair(flapped, most_moved=1.0), repair(flapped)
    hit = {r.task.id for r in request.snapshot.running if worker.id in r.workers}
    assert set(kept.moved) >= hit
    # What runs again takes its time from what was planned there, and from what follows that.
    assert set(kept.moved) <= hit | hit_by(flapped, worker.id)
    # A plan from scratch may move others, but where moves are all that counts, no more of them.
    assert set(response.moved) >= hit
    assert len(response.moved) <= len(kept.moved)
    assert kept.cost is not None
    assert response.cost is not None
    assert response.cost <= kept.cost


def test_preemption_is_weighed_in_a_repair() -> None:
    """An urgent task could wait for a running one that may be stopped at no loss."""
    workers = (Worker("w0", {"cpu": 1000}), Worker("w1", {"cpu": 1000}))
    long = Task("long", {"cpu": 1000}, preemptible=True, weight=0.01)
    other = Task("other", {"cpu": 1000})
    urgent = Task("urgent", {"cpu": 1000}, deadline_s=1200, weight=100.0)
    running = (Running(long, ("w0",), 999), Running(other, ("w1",), 999))
    seconds = {"long": 5000, "other": 5000, "urgent": 100}
    request = PlanRequest(
        "r",
        Snapshot(3, 1000, workers, (), running),
        {name: {"*": DurationEstimate.certain(s)} for name, s in seconds.items()},
        incumbent=Plan(()),
        budget=Budget(None, 200),
    )
    changed = after(request, TaskSubmitted(1000, urgent))
    response = repair(changed)
    assert validate_response(changed, response) == []
    assert response.plan is not None
    assert response.plan.preempted == ("long",)


def test_without_a_plan_in_force_it_plans() -> None:
    """A master's first plan has nothing to keep."""
    request = replace(generate_batch(8, generate_cluster(3), 1), budget=FEW)
    response = repair(request)
    assert response.plan is not None
    assert validate_response(request, response) == []


def test_wrong_parameters_are_named() -> None:
    """A share above 1 or a neighbourhood of no task could pass in silence."""
    greedy = SOLVERS["greedy"]()
    for name, value in (("most_moved", 2.0), ("most", 0), ("frozen_s", -1), ("allowed", -0.1)):
        with pytest.raises(BadRequest, match=name):
            Repair(start=greedy, exact=greedy, **{name: value})


def test_the_same_repair_twice_is_the_same_plan() -> None:
    """With a budget of steps a repair could depend on the clock."""
    request = batch(7)
    lost = request.snapshot.workers[1].id
    changed = after(request, WorkerLost(request.snapshot.now_s, lost))
    first, second = repair(changed), repair(changed)
    assert first.plan is not None
    assert first.plan == second.plan
    assert list(first.moved) == moved_tasks(changed, first.plan)


@pytest.mark.parametrize("shock", ["half of the workers are lost", "twice as many tasks"])
def test_after_a_large_shock_no_worse_than_planning_from_scratch(shock: str) -> None:
    """What is left of the old plan would be kept though a new one costs less."""
    anew = 0
    for seed in range(6):
        request = batch(seed, tasks=40, move_price=0.0)
        now = request.snapshot.now_s
        if shock.startswith("half"):
            changed = request
            for worker in request.snapshot.workers[::2]:
                changed = after(changed, WorkerLost(now, worker.id))
        else:
            more = tuple(replace(t, id=f"new-{t.id}", after=()) for t in request.snapshot.pending)
            estimates = dict(request.estimates)
            estimates |= {t.id: request.estimates[t.id.removeprefix("new-")] for t in more}
            pending = (*request.snapshot.pending, *more)
            snapshot = replace(request.snapshot, pending=pending)
            changed = replace(request, snapshot=snapshot, estimates=estimates)
        changed = replace(changed, budget=Budget(None, 0))
        problem = encode(changed)
        fixed, stands = fixed_arrays(problem), standing(problem)
        kept = reinserted(problem, fixed, stands, ranks(problem)[0], 1e-9, False)
        scratch = plan(replace(changed, incumbent=None), "greedy")
        response = repair(changed)
        assert response.cost is not None
        assert scratch.cost is not None
        assert response.cost <= scratch.cost * (1 + 1e-9)
        if kept is not None:
            fix = full_cost(problem, kept[0])
            assert response.cost <= fix * (1 + 1e-9)
            anew += scratch.cost < fix
    assert anew > 0


def test_a_plan_that_nobody_judges_here_is_the_one_that_is_judged_elsewhere() -> None:
    """A master that judges for itself would be answered with another plan, or a worse one."""
    compared = 0
    for seed in range(25):
        request = replace(random_request(seed), budget=Budget(None, 30))
        first = plan(request, "greedy").plan
        if first is None or request.snapshot.has_modes:
            continue
        asked = replace(request, incumbent=first)
        judged, bare = repair(asked), repair(asked, judge=False)
        assert bare.plan == judged.plan
        assert (bare.moved, bare.unplanned) == (judged.moved, judged.unplanned)
        assert bare.cost is None or bare.cost == judged.cost
        compared += 1
    assert compared > 10
