"""Projects: the kernel against its slow twin, the solver against published optima."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Problem, Schedule, decode
from plancast.planner.instances.base import MAKESPAN_SECONDS
from plancast.planner.instances.psplib import psplib_set
from plancast.planner.model.domain import DurationEstimate, Running, Snapshot, Task, Window, Worker
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.greedy.greedy import Greedy
from plancast.planner.solvers.makespan.activity_lists import (
    anneal,
    back_and_forth,
    justify,
    serial,
    shift,
)
from plancast.planner.solvers.makespan.list_search import Beside, ListSearch
from plancast.planner.solvers.makespan.project import Project as ProjectSolver
from plancast.planner.solvers.makespan.prover import Prover
from plancast.planner.solvers.makespan.recognise import is_project
from plancast.planner.solvers.makespan.shared import activities_of
from tests.oracles.activity_list import back_and_forth_ends, justified, serial_ends


def random_project(seed: int, tasks: int = 8, scale: int = 1) -> PlanRequest:
    """A small project, some tasks released later."""
    rng = np.random.default_rng(seed)
    capacity = {f"R{r}": scale * int(rng.integers(2, 6)) for r in range(int(rng.integers(1, 4)))}
    pending, estimates = [], {}
    for i in range(tasks):
        before = [str(j) for j in range(i) if rng.random() < 0.2]
        demand = {
            name: scale * int(rng.integers(0, c // scale + 1)) for name, c in capacity.items()
        }
        release = int(rng.integers(0, 6)) if rng.random() < 0.2 else 0
        pending.append(Task(str(i), demand, release_s=release, after=tuple(before)))
        estimates[str(i)] = {"*": DurationEstimate.certain(int(rng.integers(1, 7)))}
    snapshot = Snapshot(0, 0, (Worker("w", capacity),), tuple(pending))
    return PlanRequest(f"project-{seed}", snapshot, estimates, MAKESPAN_SECONDS)


def parts(problem: Problem) -> tuple[object, object]:
    """The kernel's arrays and working space of a problem."""
    activities = activities_of(problem)
    assert activities is not None
    search = ListSearch(
        ProjectSolver(Greedy()), problem, activities, np.random.default_rng(0), None, None
    )
    return activities, search.room


@pytest.mark.parametrize("seed", range(20))
def test_the_kernel_and_its_slow_twin_agree(seed: int) -> None:
    """Packing, counting sort or the mirrored pass would give another schedule."""
    problem = encode(random_project(seed, scale=1 + 999 * (seed % 2)))
    p, room = parts(problem)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        order = priority_order(rng.random(len(problem.tasks)), problem.pred_ptr, problem.pred)
        end = np.zeros(len(order), np.int64)
        makespan = serial(order, p, p.pred_ptr, p.pred, p.release, room._replace(end=end))
        assert end.tolist() == serial_ends(problem, order.tolist())
        assert makespan == end.max()
        assert (room.free == p.full).all()  # given back as it was found
        ends, in_order = justified(problem, order.tolist())
        assert justify(p, room, order) == max(ends)
        assert room.end.tolist() == ends
        assert order.tolist() == in_order


@pytest.mark.parametrize("seed", range(20))
def test_a_list_is_given_up_where_it_takes_too_long_backwards(seed: int) -> None:
    """Given up too early, a search would miss what the forward pass makes shorter."""
    problem = encode(random_project(seed))
    p, room = parts(problem)
    rng = np.random.default_rng(seed)
    order = priority_order(rng.random(len(problem.tasks)), problem.pred_ptr, problem.pred)[
        ::-1
    ].copy()
    backwards, ends = back_and_forth_ends(problem, order.tolist())
    assert back_and_forth(p, room, order.copy(), max(backwards) - 1) == -1
    assert (room.free == p.full).all()
    assert back_and_forth(p, room, order, max(backwards)) == max(ends)
    assert room.end.tolist() == ends
    assert serial_ends(problem, order.tolist()) == ends


def test_the_annealer_keeps_the_best_list_and_one_to_go_on_from() -> None:
    """A makespan that its list does not have, or a list against precedence, would be planned."""
    shorter = 0
    for seed in range(20):
        problem = encode(random_project(seed, 14))
        p, room = parts(problem)
        rng = np.random.default_rng(seed)
        best = priority_order(rng.random(len(problem.tasks)), problem.pred_ptr, problem.pred)
        justify(p, room, best)
        first, order = room.end.max(), np.argsort(-room.end, kind="stable")
        current = np.array([np.inf, first, np.inf])
        for heat in (2.0, 0.1):
            least = anneal(p, room, order, current, best, 200, 2, 0.2, heat, 4.0, seed)
            assert least == current[1] == max(serial_ends(problem, best.tolist())) <= first
            assert current[2] >= least
            place = np.argsort(order)
            for i in range(len(order)):
                assert all(place[b] > place[i] for b in problem.predecessors(i))
        shorter += least < first
    assert shorter >= 3


def test_a_second_walk_takes_over_from_a_prover_that_is_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it finds would be lost, or what goes wrong in its thread be heard of nowhere."""
    problem = encode(random_project(3, 60))
    activities = activities_of(problem)
    assert activities is not None
    shorter = Schedule(*np.array([[0, 2, 0]] * 60).T)
    monkeypatch.setattr(Prover, "start", lambda *_: None)  # proves nothing

    def searched(walk: Callable[[ListSearch, float], None]) -> ListSearch:
        search, other = (
            ListSearch(
                ProjectSolver(Greedy()), problem, activities, np.random.default_rng(0), None, None
            )
            for _ in range(2)
        )
        search.lower_s = 1
        monkeypatch.setattr(search, "_another", lambda: other)
        monkeypatch.setattr(other, "search_on", lambda limit_s: walk(other, limit_s))
        search.run(Budget(0.5), time.perf_counter())
        return search

    def finds(walk: ListSearch, limit_s: float) -> None:
        assert 0 < limit_s < 0.4
        walk.enter(shorter)

    assert searched(finds).best is shorter

    def fails(walk: ListSearch, limit_s: float) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        searched(fails)


def test_the_second_walk_searches_until_it_is_ended() -> None:
    """One that does not hear of the end would keep the plan waiting; one that idles is no use."""
    problem = encode(random_project(3, 60))
    activities = activities_of(problem)
    assert activities is not None
    walk = ListSearch(
        ProjectSolver(Greedy()), problem, activities, np.random.default_rng(0), None, None
    )
    walk.lower_s = 1
    beside = Beside(walk, 60.0)
    began = time.perf_counter()
    while walk.steps < 1000 and time.perf_counter() - began < 30:
        time.sleep(0.01)
    began = time.perf_counter()
    beside.stop()
    assert time.perf_counter() - began < 5
    assert walk.steps >= 1000
    assert walk.best is not None
    assert evaluate(random_project(3, 60), decode(problem, walk.best)).valid


def test_shifted_lists_keep_precedence() -> None:
    """A list that is not topological would be scheduled before its predecessors are."""
    changed = 0
    for seed in range(20):
        problem = encode(random_project(seed))
        p, room = parts(problem)
        order = np.arange(len(problem.tasks))
        for _ in range(20):
            before = order.copy()
            shift(p, room, order, 3)
            place = np.argsort(order)
            assert sorted(order.tolist()) == list(range(len(order)))
            for i in range(len(order)):
                assert all(place[b] < place[i] for b in problem.predecessors(i))
            changed += (before != order).any()
    assert changed > 100


def test_small_projects_are_proved_and_agree_with_cpsat() -> None:
    """A wrong bound, or a model that forgets a resource, would prove what is not so."""
    for seed in range(100, 106):
        # Ends with the proof; a cold kernel may take longer than the search.
        request = replace(random_project(seed, 10), budget=Budget(60.0))
        mine, other = plan(request, "project"), plan(request, "cpsat")
        assert mine.status is other.status is Status.OPTIMAL
        assert mine.cost == pytest.approx(other.cost)


def running_one(request: PlanRequest) -> PlanRequest:
    """The same request while its first task runs already."""
    first, *rest = request.snapshot.pending
    running = Running(replace(first, after=()), (request.snapshot.workers[0].id,), 0)
    return replace(
        request, snapshot=replace(request.snapshot, pending=tuple(rest), running=(running,))
    )


def test_what_is_no_project_goes_to_the_inner_solver() -> None:
    """Deadlines, other prices or a second worker would be left out of the plan's cost."""
    request = random_project(1)
    problem = encode(request)
    assert is_project(problem)
    snapshot = request.snapshot
    two = (snapshot.workers[0], replace(snapshot.workers[0], id="v"))
    late = tuple(replace(t, deadline_s=9) for t in snapshot.pending)
    prices = replace(request.policy.prices, wait_h=1.0)
    others = (
        replace(request, snapshot=replace(snapshot, workers=two)),
        replace(request, policy=replace(request.policy, prices=prices)),
        replace(
            request,
            snapshot=replace(snapshot, pending=late),
            policy=replace(request.policy, hard_deadlines=True),
        ),
        replace(request, policy=replace(request.policy, max_wait_s=1000)),
        replace(
            request,
            snapshot=replace(snapshot, workers=(replace(snapshot.workers[0], until_s=10**6),)),
        ),
        replace(
            request,
            snapshot=replace(
                snapshot, workers=(replace(snapshot.workers[0], blocked=(Window(3, 9),)),)
            ),
        ),
        running_one(request),
    )
    for other in others:
        problem = encode(other)
        assert not is_project(problem)
        arguments = {"budget": Budget(None, 5), "rng": np.random.default_rng(0)}
        mine = SOLVERS["project"]().solve(problem, **arguments)
        greedy = SOLVERS["greedy"]().solve(problem, **arguments)
        assert mine.claimed == greedy.claimed
    # Amounts beyond the word, and projects of years, are not for the kernel either.
    wide = tuple(
        replace(w, capacity={f"R{r}": 2**20 + r for r in range(4)}) for w in snapshot.workers
    )
    tasks = tuple(replace(t, demand={f"R{r}": 1 for r in range(4)}) for t in snapshot.pending)
    request = replace(request, snapshot=replace(snapshot, workers=wide, pending=tasks))
    problem = encode(request)
    assert activities_of(problem) is None
    solution = SOLVERS["project"]().solve(problem, **arguments)
    assert solution.schedule is not None
    assert evaluate(request, decode(problem, solution.schedule)).valid


@pytest.mark.slow
def test_published_optima(shared_data: Callable[[str], Path]) -> None:
    """The solver would miss, or wrongly beat, what is proved of published projects."""
    instances = psplib_set(shared_data("benchmarks/psplib_j30_j60.tar.xz"))
    for name in ("j301_1", "j305_3", "j3017_2", "j3021_5", "j3033_4", "j601_1", "j6017_3"):
        instance = instances.read(name)
        response = plan(replace(instance.request, budget=Budget(20.0)), "project")
        assert response.status is Status.OPTIMAL, name
        assert response.cost == pytest.approx(instance.best_known), name


@pytest.mark.slow
def test_more_published_optima(shared_data: Callable[[str], Path]) -> None:
    """As above, on every twelfth project of 30 activities."""
    instances = psplib_set(shared_data("benchmarks/psplib_j30_j60.tar.xz"))
    for name in [n for n in instances.names if n.startswith("j30")][::12]:
        instance = instances.read(name)
        response = plan(replace(instance.request, budget=Budget(10.0)), "project")
        assert response.cost == pytest.approx(instance.best_known), name
        assert response.lower_bound is not None
        assert response.lower_bound <= instance.best_known * (1 + 1e-9), name
