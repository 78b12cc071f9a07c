"""Shops: the kernel against its slow twin, the solver against published optima and HEFT."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.bench.peers.heft import heft_schedule
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.instances.base import MAKESPAN_SECONDS
from plancast.planner.instances.dag import dag_set
from plancast.planner.instances.jobshop import flexible_set, jobshop_set
from plancast.planner.model.domain import DurationEstimate, Running, Snapshot, Task, Window, Worker
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.choice import choose
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS, Solution
from plancast.planner.solvers.greedy.greedy import Greedy
from plancast.planner.solvers.makespan.recognise import is_shop
from plancast.planner.solvers.makespan.shop import Shop, _Search
from plancast.planner.solvers.makespan.shop_orders import FAR, copy_orders, move, new_orders
from plancast.planner.solvers.makespan.tabu import (
    best_place,
    can_follow,
    can_lead,
    path_ahead,
    path_behind,
    relink,
    tabu,
)
from plancast.planner.solvers.makespan.walk import Walk
from tests.oracles.shop_graph import longest_paths


def random_shop(seed: int, tasks: int = 9, machines: int = 3) -> PlanRequest:
    """A small shop: any precedence, one to all machines for a task, some tasks released later."""
    rng = np.random.default_rng(seed)
    workers = tuple(Worker(f"m{k}", {"slot": 1}, machine_class=f"m{k}") for k in range(machines))
    pending, estimates = [], {}
    for i in range(tasks):
        before = tuple(str(j) for j in range(i) if rng.random() < 0.15)
        release = int(rng.integers(0, 5)) if rng.random() < 0.2 else 0
        able = rng.choice(machines, int(rng.integers(1, machines + 1)), replace=False)
        pending.append(Task(str(i), {"slot": 1}, release_s=release, after=before))
        estimates[str(i)] = {
            f"m{k}": DurationEstimate.certain(int(rng.integers(1, 9))) for k in sorted(able)
        }
    snapshot = Snapshot(0, 0, workers, tuple(pending))
    return PlanRequest(f"shop-{seed}", snapshot, estimates, MAKESPAN_SECONDS)


def search_of(problem: Problem, seed: int = 0) -> _Search:
    """The solver's search, not yet run."""
    return _Search(Shop(Greedy()), problem, np.random.default_rng(seed), None, None)


def orders_of(x: object) -> list[list[int]]:
    """The order on each machine, by the links forward; those backward must agree."""
    found = []
    for first in x.first.tolist():  # type: ignore[attr-defined]
        order, last, i = [], -1, first
        while i >= 0:
            assert x.before[i] == last  # type: ignore[attr-defined]
            order.append(i)
            last, i = i, int(x.after[i])  # type: ignore[attr-defined]
        found.append(order)
    return found


def check(problem: Problem, x: object, makespan: int) -> None:
    """Links, heads, tails and makespan of a solution are what the slow twin finds."""
    orders = orders_of(x)
    assert sorted(i for order in orders for i in order) == list(range(len(problem.tasks)))
    for w, order in enumerate(orders):
        assert all(x.machine[i] == w for i in order)  # type: ignore[attr-defined]
    head, tail = longest_paths(problem, x.machine.tolist(), orders)  # type: ignore[attr-defined]
    assert x.head.tolist() == head  # type: ignore[attr-defined]
    assert x.tail.tolist() == tail  # type: ignore[attr-defined]
    assert makespan == max(
        h + int(n)
        for h, n in zip(head, x.length, strict=True)  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("seed", range(12))
def test_solutions_stay_what_the_slow_twin_says(seed: int) -> None:
    """A link, a head or a tail would be left as it was before a move."""
    problem = encode(random_shop(seed))
    search = search_of(problem, seed)
    walk = search.walk
    x, guide = search.walk.listed(), search.walk.inserted(1.0)
    check(problem, x, search.walk.makespan(x))
    for k in range(10):
        best = new_orders(*search.shop.duration.shape)
        copy_orders(x, best)
        least, _ = tabu(search.shop, x, best, 3, 100, 2, walk.banned, walk.away, walk.clock, k)
        check(problem, best, least)
        check(problem, x, search.walk.makespan(x))
    check(problem, x, relink(search.shop, x, guide, 0.5, seed))


def makespan_after(problem: Problem, shop: object, base: object, *place: int) -> int:
    """The makespan after a move of a copy, seen to be right."""
    n, m = shop.duration.shape  # type: ignore[attr-defined]
    x = new_orders(n, m)
    copy_orders(base, x)
    makespan = int(move(shop, x, *place, np.zeros(n, np.int64)))
    assert x.topological[x.position].tolist() == list(range(n))
    check(problem, x, makespan)
    return makespan


def test_every_move_that_is_allowed_is_free_of_cycles_and_its_price_holds() -> None:
    """A move would make a task wait for itself, or its promised makespan be a false one."""
    moved = 0
    for seed in range(15):
        problem = encode(random_shop(seed))
        search = search_of(problem, seed)
        shop, base = search.shop, search.walk.inserted(1.0)
        n, m = shop.duration.shape
        room = np.zeros(n, np.int64)
        moved_to = partial(makespan_after, problem, shop, base)
        for order in orders_of(base):
            for low in range(len(order)):
                for high in range(low + 1, len(order)):
                    u, v = order[low], order[high]
                    w = int(base.machine[u])
                    tries = []
                    if can_follow(shop, base, u, v):
                        promised = path_behind(base, u, v, room, FAR)
                        assert path_behind(base, u, v, room, promised) == promised
                        assert path_behind(base, u, v, room, promised - 1) == FAR
                        tries.append((promised, moved_to(u, w, v)))
                    if can_lead(shop, base, v, u):
                        promised = path_ahead(base, v, u, room, FAR)
                        assert path_ahead(base, v, u, room, promised) == promised
                        assert path_ahead(base, v, u, room, promised - 1) == FAR
                        tries.append((promised, moved_to(v, w, int(base.before[u]))))
                    moved += len(tries)
                    if high == low + 1:
                        # For neighbours every head and tail that it uses stays true.
                        assert all(promised <= makespan for promised, makespan in tries)
        for i in range(n):
            for w in range(m):
                if w != base.machine[i] and shop.duration[i, w] > 0:
                    _, place = best_place(shop, base, i, w)
                    moved_to(i, w, place)
                    moved += 1
    assert moved > 250


def test_small_shops_are_proved_and_agree_with_cpsat() -> None:
    """A wrong bound, or a model that forgets a machine, would prove what is not so."""
    for seed in range(100, 106):
        request = replace(random_shop(seed, 10), budget=Budget(60.0))
        mine, other = plan(request, "shop"), plan(request, "cpsat")
        assert mine.status is other.status is Status.OPTIMAL
        assert mine.cost == pytest.approx(other.cost)


def test_the_search_finds_small_optima_without_the_prover() -> None:
    """Whatever is found would be the prover's work, and nothing be left at larger sizes."""
    for seed in range(200, 206):
        request = random_shop(seed, 10)
        best = plan(replace(request, budget=Budget(5.0)), "cpsat")
        mine = plan(replace(request, budget=Budget(None, 3_000)), "shop")
        assert mine.cost == pytest.approx(best.cost)


def job_shop(jobs: int, machines: int) -> PlanRequest:
    """Jobs that each visit every machine, in an order of their own."""
    rng = np.random.default_rng(5)
    workers = tuple(Worker(f"m{k}", {"slot": 1}, machine_class=f"m{k}") for k in range(machines))
    pending, estimates = [], {}
    for job in range(jobs):
        last = ()
        for step, k in enumerate(rng.permutation(machines).tolist()):
            name = f"{job}-{step}"
            pending.append(Task(name, {"slot": 1}, after=last))
            estimates[name] = {f"m{k}": DurationEstimate.certain(int(rng.integers(1, 100)))}
            last = (name,)
    snapshot = Snapshot(0, 0, workers, tuple(pending))
    return PlanRequest("job-shop", snapshot, estimates, MAKESPAN_SECONDS)


@pytest.mark.slow
def test_a_large_job_shop_has_two_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One core would be left idle, or what the second finds or fails at be lost."""
    request = job_shop(15, 15)
    problem = encode(request)
    search = search_of(problem)
    search.run(Budget(1.0), time.perf_counter())
    assert search.other is not None
    assert search.walk.made > 0
    assert search.other.made > 0
    assert search.steps == search.walk.made + search.other.made
    assert search.best is not None
    assert evaluate(request, decode(problem, search.best)).valid
    # A better schedule of the second alone is the answer.
    alone = search_of(problem)
    monkeypatch.setattr(alone.walk, "search", lambda *_: time.sleep(0.05))
    alone.run(Budget(1.0), time.perf_counter())
    assert alone.walk.made == 0
    assert alone.upper_s < min(
        alone.walk.makespan(x) for x in (alone.walk.listed(), alone.walk.inserted(0.0))
    )

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Walk, "start", fails)
    lost = search_of(problem)
    monkeypatch.setattr(lost.walk, "start", lost.walk.listed)
    with pytest.raises(ZeroDivisionError):
        lost.run(Budget(0.5), time.perf_counter())


@pytest.mark.parametrize(("jobs", "machines", "solver"), [(30, 20, "shop"), (600, 1, "project")])
def test_auto_takes_large_ones_to_their_own_engines(jobs: int, machines: int, solver: str) -> None:
    """Beyond 500 tasks they would go to an engine that ends a tenth behind."""
    request = replace(job_shop(jobs, machines), budget=Budget(None, 20))
    assert plan(request).solver in (solver, "greedy")
    assert [*choose(encode(request), request.budget).engines] == [solver]


def test_what_is_no_shop_goes_to_the_inner_solver() -> None:
    """Tasks that fit side by side would be planned one after another."""
    request = random_shop(1)
    assert is_shop(encode(request))
    snapshot = request.snapshot
    wide = tuple(replace(w, capacity={"slot": 2}) for w in snapshot.workers)
    drained = (replace(snapshot.workers[0], until_s=10**6), *snapshot.workers[1:])
    blocked = (replace(snapshot.workers[0], blocked=(Window(3, 9),)), *snapshot.workers[1:])
    running = Running(snapshot.pending[0], (snapshot.workers[0].id,), 0)
    prices = replace(request.policy.prices, late_h=1.0)
    others = (
        replace(request, snapshot=replace(snapshot, workers=wide)),
        replace(request, snapshot=replace(snapshot, workers=drained)),
        replace(request, snapshot=replace(snapshot, workers=blocked)),
        replace(
            request,
            snapshot=replace(snapshot, pending=snapshot.pending[1:], running=(running,)),
        ),
        replace(request, policy=replace(request.policy, prices=prices)),
        replace(request, policy=replace(request.policy, max_stretch=100.0)),
    )
    for other in others:
        problem = encode(other)
        assert not is_shop(problem)
        arguments = {"budget": Budget(None, 5), "rng": np.random.default_rng(0)}
        mine = SOLVERS["shop"]().solve(problem, **arguments)
        assert mine.schedule is not None
        assert mine.claimed == SOLVERS["greedy"]().solve(problem, **arguments).claimed
        assert evaluate(other, decode(problem, mine.schedule)).valid


def parallel_machines(seed: int, speeds: tuple[int, ...]) -> Problem:
    """Sixty tasks of any length, then one that joins them, on machines of these speeds."""
    rng = np.random.default_rng(seed)
    workers = tuple(
        Worker(f"m{k}", {"slot": 1}, machine_class=f"speed-{speed}")
        for k, speed in enumerate(speeds)
    )
    lengths = [*rng.integers(300, 900, 60).tolist(), 60]
    everything = tuple(str(i) for i in range(60))
    tasks = (*(Task(i, {"slot": 1}) for i in everything), Task("60", {"slot": 1}, after=everything))
    estimates = {
        str(i): {
            f"speed-{speed}": DurationEstimate.certain(length // speed) for speed in set(speeds)
        }
        for i, length in enumerate(lengths)
    }
    snapshot = Snapshot(0, 0, workers, tasks)
    return encode(PlanRequest(f"parallel-{seed}", snapshot, estimates, MAKESPAN_SECONDS))


def test_machines_alike_are_balanced_by_the_finisher() -> None:
    """All machines are critical there, and a move of one task shortens nothing."""
    budget = Budget(None, 6_000)
    for seed in range(3):
        problem = parallel_machines(seed, (1, 1, 1, 2, 2, 2, 3, 3))
        alone, finished = (
            SOLVERS["shop"](**more).solve(problem, budget=budget, rng=np.random.default_rng(0))
            for more in ({"finisher": None}, {})
        )
        assert alone.claimed is not None
        assert finished.claimed is not None
        bound = finished.lower_bound
        assert finished.steps <= 6_000
        assert bound <= finished.claimed
        assert finished.claimed - bound < 0.6 * (alone.claimed - bound)


def test_machines_that_differ_are_left_to_the_search() -> None:
    """A job shop would lose most of its time to an engine that is worse at it."""

    class Refusing(Greedy):
        """No solver to ask."""

        def solve(self, *_: object, **__: object) -> Solution:
            raise AssertionError

    shop = Shop(start=Greedy(), finisher=Refusing())
    arguments = {"budget": Budget(None, 300), "rng": np.random.default_rng(0)}
    request = random_shop(7, 12)
    assert shop.solve(encode(request), **arguments).steps > 200
    # Two more machines that no task may use are alike, and change nothing.
    idle = tuple(Worker(f"idle-{k}", {"slot": 1}, machine_class="idle") for k in range(2))
    snapshot = replace(request.snapshot, workers=(*request.snapshot.workers, *idle))
    assert shop.solve(encode(replace(request, snapshot=snapshot)), **arguments).steps > 200
    with pytest.raises(AssertionError):
        shop.solve(parallel_machines(0, (1, 1, 2)), **arguments)


def test_it_starts_from_heft() -> None:
    """A workflow's plan could be longer than HEFT's."""
    for seed in range(300, 320):
        problem = encode(random_shop(seed, 14, 4))
        search = search_of(problem)
        x = search.walk.listed()
        schedule = search.walk.schedule(x)
        assert schedule.end.max() <= heft_schedule(problem).end.max()


def test_published_optima(shared_data: Callable[[str], Path]) -> None:
    """The solver would miss, or wrongly beat, what is proved of published shops."""
    shops = jobshop_set(shared_data("benchmarks/jsp_dev.tar.xz"))
    flexible = flexible_set(shared_data("benchmarks/fjsp_dev.tar.xz"))
    for instances, name in (
        (shops, "ft06"), (shops, "la01"), (shops, "la05"), (shops, "la10"), (flexible, "mk01"),
        (flexible, "mk03"), (flexible, "kacem1"), (flexible, "la01_edata"),
    ):  # fmt: skip
        instance = instances.read(name)
        response = plan(replace(instance.request, budget=Budget(20.0)), "shop")
        assert response.status is Status.OPTIMAL, name
        assert response.cost == pytest.approx(instance.best_known), name


def test_workflows_are_never_longer_than_heft(shared_data: Callable[[str], Path]) -> None:
    """The promise on real graphs, on a few of them and with few moves."""
    instances = dag_set(shared_data("dags/wfinstances_tasks.csv.gz"))
    for name in instances.names[::33]:
        request = replace(instances.read(name).request, budget=Budget(None, 200))
        problem = encode(request)
        response = plan(request, "shop")
        assert response.cost is not None
        assert response.cost <= problem.cost(heft_schedule(problem)) * (1 + 1e-9)


@pytest.mark.slow
def test_more_published_optima(shared_data: Callable[[str], Path]) -> None:
    """As above, on shops that take longer; none may be beaten, none be far."""
    shops = jobshop_set(shared_data("benchmarks/jsp_dev.tar.xz"))
    for name in ("ft10", "ft20", "la16", "la19", "la22", "orb01", "abz5"):
        instance = shops.read(name)
        response = plan(replace(instance.request, budget=Budget(20.0)), "shop")
        assert instance.best_known is not None
        assert response.cost is not None
        assert 1 - 1e-9 <= response.cost / instance.best_known <= 1.01, name
