"""Lower bounds never exceed what they bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import least_busy_times
from plancast.planner.bounds import lower_bound as lower_bounds
from plancast.planner.bounds.lower_bound import (
    bound_by_parts,
    heads_tails,
    least_end_s,
    lower_bound,
)
from plancast.planner.bounds.relaxation import relax
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    TERMS,
    AmountWindow,
    Assignment,
    CountedResource,
    DurationEstimate,
    Plan,
    Policy,
    Prices,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from tests.conftest import spans
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.valid_schedules import plannable, priced_alone, random_schedules


@pytest.mark.parametrize("seeds", spans(range(60), range(300)))
def test_no_schedule_beats_a_bound(seeds: range) -> None:
    """A proof of optimality could rest on a bound that some plan is below."""
    rng = np.random.default_rng(0)
    seen = 0
    for problem in plannable(seeds):
        alone = priced_alone(problem) if seen % 40 == 0 else {}
        bounds = {term: bound_by_parts(one) for term, one in alone.items()}
        head, tail = heads_tails(problem)
        whole = lower_bound(problem, timed=True)
        for schedule in random_schedules(problem, rng, 4):
            for term, one in alone.items():
                assert bounds[term] <= one.cost(schedule) + 1e-9, term
            assert (head <= schedule.start).all()
            assert (head + problem.shortest <= schedule.end).all()
            assert (head + tail).max() <= schedule.end.max()
            assert whole <= problem.cost(schedule) + 1e-9
            seen += 1
    assert seen > 1.6 * len(seeds)


@pytest.mark.parametrize("seeds", spans(range(1000, 1020), range(1000, 1100)))
def test_the_optimum_does_not_beat_a_bound(seeds: range) -> None:
    """A bound could exceed the least cost, and a worse plan be called optimal."""
    tight, seen, timed = 0, 0, 0
    for problem in plannable(seeds):
        best = optimum(problem.request, problem.unplanned)
        if best is None:
            continue
        bound = lower_bound(problem, timed=True)
        timed += bound > lower_bound(problem) + 1e-9
        found = evaluate(without_moves(problem.request), best.plan, unplanned=problem.unplanned)
        assert bound <= best.cost * (1 + 1e-9) + 1e-12
        for term, one in priced_alone(problem).items():
            assert bound_by_parts(one) <= found.terms[term] + 1e-9
        seen += 1
        tight += bound >= best.cost * (1 - 1e-9)
    assert seen > 0.6 * len(seeds)
    assert tight > 0.1 * len(seeds)
    assert timed > 0.05 * len(seeds)


def test_lateness_that_follows_from_too_much_work_before_a_deadline() -> None:
    """The bound would take every task for the only one, and nothing for late."""
    request = batch(4, 1, deadline_s=10)
    prices = Prices(makespan_h=0, late_h=3600, misses=7, wait_h=0)
    problem = encode(replace(request, policy=Policy(prices)))
    assert lower_bound(problem) == 0
    # Two of the four fit side by side before 10 s; the others end at 20 s.
    best = 2 * 10 + 2 * 7
    bound = lower_bound(problem, timed=True)
    assert 0.99 * best < bound <= best


def test_a_worker_is_on_from_when_it_is_free() -> None:
    """A task that starts late would cost the idle power of seconds before the worker was free."""
    request = batch(1, 1, release_s=60, deadline_s=65)
    late = replace(request.snapshot.workers[0], free_from_s=50, idle_w=100.0, busy_w=300.0)
    request = replace(
        request, snapshot=request.snapshot.evolved(workers=(late,)),
        policy=Policy(Prices(makespan_h=0, late_h=3600, misses=0, wait_h=0, kwh=3.6e6)),
    )  # fmt: skip
    best = optimum(request)
    assert best is not None
    # 5 s late; on from 50 s to 70 s, 10 s of it with half of the worker busy.
    assert best.cost == pytest.approx(5 + 100 * 20 + 300 * 0.5 * 10)
    assert 0.99 * best.cost < lower_bound(encode(request), timed=True) <= best.cost


class Looks:
    """A clock that goes on by a second at each look, and notes what is begun too late."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now_s, self.begun, self.late = seconds, 0.0, 0, 0

    def look(self) -> float:
        """What it says now."""
        self.now_s += 1
        return self.now_s

    def noted(self, part: Callable[..., object]) -> Callable[..., object]:
        """The same part of a bound, noted when it is begun."""

        def begin(*arguments: object) -> object:
            self.begun += 1
            self.late += self.now_s > self.seconds + 1
            return part(*arguments)

        return begin


@pytest.mark.slow
def test_a_bound_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large batch the bound would be looked for long after the plan is due.

    Nothing is begun after that, and what is known by then is a bound.
    """
    begun, weaker = 0, 0
    for problem in plannable(range(40)):
        whole = lower_bound(problem, timed=True)
        assert lower_bound(problem, timed=True, seconds=0.0) == -np.inf
        for seconds in (1, 2, 3, 5, 8, 60):
            clock = Looks(seconds)
            with monkeypatch.context() as patched:
                patched.setattr(lower_bounds.time, "perf_counter", clock.look)
                for name in ("relax", "queue_cost", "timed_cost"):
                    patched.setattr(lower_bounds, name, clock.noted(getattr(lower_bounds, name)))
                found = lower_bound(replace(problem, memory={}), timed=True, seconds=seconds)
            assert clock.late == 0
            assert found <= whole + 1e-9 * max(1.0, abs(whole))
            begun += clock.begun
            weaker += found < whole - 1e-9
    assert begun > 100
    assert weaker > 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [20_000, 40_000])
def test_no_optimum_of_many_beats_a_bound(first: int) -> None:
    """One bound in a thousand would be false, and nobody see it in a hundred."""
    for problem in plannable(range(first, first + 2_500)):
        best = optimum(problem.request, problem.unplanned)
        if best is not None:
            bound = lower_bound(problem, timed=True)
            assert bound <= best.cost + 1e-9 * max(1.0, best.cost)


def batch(tasks: int, workers: int, **task: object) -> PlanRequest:
    """Equal tasks of one core and 10 s on equal workers of two cores."""
    pending = tuple(Task(f"t{i}", {"cpu": 1000}, **task) for i in range(tasks))  # type: ignore[arg-type]
    cluster = tuple(Worker(f"w{k}", {"cpu": 2000}) for k in range(workers))
    certain = {"*": DurationEstimate.certain(10)}
    policy = Policy(Prices(makespan_h=3600, late_h=0, misses=0, wait_h=0))
    estimates = {t.id: certain for t in pending}
    return PlanRequest("batch", Snapshot(1, 0, cluster, pending), estimates, policy)


@pytest.mark.parametrize(("tasks", "workers", "seconds"), [(1, 1, 10), (4, 1, 20), (12, 2, 30)])
def test_makespan_by_work(tasks: int, workers: int, seconds: int) -> None:
    """The bound would know chains only, and be hopeless for many short tasks."""
    assert lower_bound(encode(batch(tasks, workers))) == pytest.approx(seconds)


def test_gang_takes_the_work_of_all_its_pieces() -> None:
    """A gang would be bounded as if it were one of its pieces."""
    assert lower_bound(encode(batch(2, 2, shards=4))) == pytest.approx(20)


def test_waits_know_the_queue() -> None:
    """The bound would let every task start at once, however many there are."""
    prices = Prices(makespan_h=0, late_h=0, misses=0, wait_h=3600, stretch=5, unfair_h=3600)
    problem = encode(replace(batch(8, 1), policy=Policy(prices)))
    # Pairs at 0, 10, 20 and 30 s: the waits sum to 120 s, 15 s each, and the stretches to 20.
    best = 120 + 5 * 20 + 15
    assert 0.85 * best < lower_bound(problem) <= best


@pytest.mark.parametrize("seed", range(30))
def test_least_busy_times(seed: int) -> None:
    """The waits of a queue would be bounded by more than its best order has."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    area, release = rng.integers(1, 6, n), rng.integers(0, 8, n)
    weight = rng.integers(0, 4, n).astype(float)
    found = least_busy_times(area.astype(float), release, weight, 1.0)
    best = np.inf
    for order in permutations(range(n)):
        # Unit by unit, each unit to the first released task of the order: all that can be best.
        left, now, total = area.copy(), 0, 0.0
        while left.any():
            ready = [i for i in order if left[i] and release[i] <= now]
            if ready:
                left[ready[0]] -= 1
                total += weight[ready[0]] * (now + 0.5) / area[ready[0]]
            now += 1
        best = min(best, total)
    assert found == pytest.approx(best)


@pytest.mark.parametrize("noise", [1e-6, 1e-2, 1.0])
def test_the_bound_holds_however_wrong_the_dual_prices_are(
    noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A solver that stops within its tolerances would prove plans that can be beaten."""
    rng, solve = np.random.default_rng(1), scipy.optimize.linprog
    near = 0
    for seed in range(20):
        request = generate_batch(20, generate_cluster(6, seed=seed), seed=seed)
        prices = Prices(makespan_h=float(seed % 3), kwh=1.0, late_h=0, misses=0, wait_h=0)
        request = replace(request, policy=replace(request.policy, prices=prices))
        exact = relax(encode(request))
        assert exact is not None
        assert exact.bound <= exact.cost * (1 + 1e-9)
        assert exact.bound >= exact.cost * (1 - 1e-6)

        def shaken(*arguments: object, **options: object) -> object:
            found = solve(*arguments, **options)
            for part in (found.ineqlin, found.eqlin):
                part.marginals = part.marginals + noise * rng.standard_normal(len(part.marginals))
            return found

        with monkeypatch.context() as context:
            context.setattr(scipy.optimize, "linprog", shaken)
            wrong = relax(encode(request))
        assert wrong is not None
        assert wrong.bound <= exact.cost * (1 + 1e-9)
        near += wrong.bound > 0.5 * exact.cost
    assert noise > 1e-6 or near == 20


@pytest.mark.parametrize("size", ["50x10", "200x20"])
def test_never_below_the_bound_of_a_cluster_file(
    size: str, shared_data: Callable[[str], Path]
) -> None:
    """What the solver's tolerance takes would be given away in every certificate."""
    for seed in range(3):
        found = read_cluster(shared_data(f"benchmarks/cluster/cluster-{size}-{seed}.json.gz"))
        assert lower_bound(encode(found.request)) >= found.lower_bound - 0.0005  # rounded


@pytest.mark.parametrize("shift", [86_400, 1 << 31, 1 << 40, 1 << 49])
@pytest.mark.parametrize("rate", [1.0, 3.0, 3.2e6, 1e15])
def test_busy_times_at_a_far_clock(shift: int, rate: float) -> None:
    """Where a second's last digit outweighs the rest of a task, the clock would stand still."""
    rng = np.random.default_rng(3)
    area, weight = rng.integers(1, 5000, 40).astype(float), rng.random(40)
    release = np.sort(rng.integers(0, 30, 40))
    near = least_busy_times(area, release, weight, rate)
    far = least_busy_times(area, release + shift, weight, rate)
    assert far == pytest.approx(near + shift * weight.sum(), rel=1e-12)


def test_work_over_capacity_bounds_the_makespan() -> None:
    """Four tasks of which two fit side by side would be thought to end with the first."""
    problem = encode(batch(4, 1))
    head, tail = heads_tails(problem)
    alone_s = float((head + tail).max())
    assert least_end_s(problem) == pytest.approx(2 * alone_s, rel=1e-6)


@pytest.mark.parametrize("price", ["stretch", "kwh", "failures", "imbalance_h"])
def test_a_gang_takes_the_time_of_its_slowest_piece(price: str) -> None:
    """Its bound would be that of a run which no piece makes, above the cost of the only plan."""
    workers = (
        Worker("fast", {"cpu": 1}, machine_class="f", busy_w=100.0, health=0.9),
        Worker("slow", {"cpu": 1}, machine_class="s", busy_w=1.0, health=0.999),
    )
    estimates = {"g": {"f": DurationEstimate.certain(10), "s": DurationEstimate.certain(1000)}}
    prices = Prices(**{**dict.fromkeys(TERMS, 0.0), price: 3600.0})
    for waited_s in (0, 100, 100_000):
        task = Task("g", {"cpu": 1}, -waited_s, shards=2)
        request = PlanRequest("gang", Snapshot(0, 0, workers, (task,)), estimates, Policy(prices))
        plan = Plan((Assignment("g", ("fast", "slow"), 0, 1000),), (), 0, 0)
        found = evaluate(request, plan)
        assert found.valid
        bound = lower_bound(encode(request), timed=True)
        assert 0 < bound <= found.cost * (1 + 1e-9)


def test_licences_bound_the_last_end() -> None:
    """A plan that licences make long would be called far from its bound."""
    tasks = [Task(f"t{k}", {"cpu": 1}, counted={"seat": 1}) for k in range(4)]
    pairs = [replace(task, counted={"seat": 2}) for task in tasks]
    held = Running(Task("r", {"cpu": 1}, counted={"seat": 2}), ("w",), 0)
    window = AmountWindow(0, 200, 1)

    def least_s(pending: list[Task], seats: CountedResource, *running: Running) -> float:
        snapshot = Snapshot(
            1, 0, (Worker("w", {"cpu": 99}),), tuple(pending), running, counted=(seats,)
        )
        names = [t.id for t in pending] + [r.task.id for r in running]
        certain = {name: {"*": DurationEstimate.certain(100)} for name in names}
        return least_end_s(encode(PlanRequest("r", snapshot, certain)))

    assert least_s(tasks, CountedResource("seat", 2)) == pytest.approx(200)
    assert least_s(tasks, CountedResource("seat", 2), held) == pytest.approx(300)
    assert least_s(tasks, CountedResource("seat", 2, (window,))) == pytest.approx(300)
    assert least_s(pairs, CountedResource("seat", 3)) == pytest.approx(400)
