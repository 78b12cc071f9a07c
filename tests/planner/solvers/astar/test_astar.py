"""A*: its bound, its cuts, its forms and guides, its certificate when it is stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, decode
from plancast.planner.instances.generate import generate_batch, generate_cluster
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
from plancast.planner.solvers.astar import kernel
from plancast.planner.solvers.astar.astar import AStar
from plancast.planner.solvers.astar.guides import TreeEnsemble
from plancast.planner.solvers.astar.space import (
    FEATURES,
    make_nodes,
    make_scratch,
    root_of,
    search_space,
)
from plancast.planner.solvers.greedy.greedy import Greedy
from tests.conftest import spans
from tests.oracles.brute_force import optimum, without_moves
from tests.oracles.slow_astar import SlowAStar
from tests.oracles.valid_schedules import plannable

UNLIMITED = Budget(seconds=None, steps=1_000_000)
EVERY_PRICE = Prices(
    makespan_h=36, late_h=360, misses=1, wait_h=36, stretch=0.1, kwh=50, unfair_h=36,
    imbalance_h=36, failures=1,
)  # fmt: skip


def rng() -> np.random.Generator:
    """The solver needs one, and does not use it."""
    return np.random.default_rng(0)


class Tree:
    """The nodes of a search, made one by one from Python."""

    def __init__(self, problem: Problem, rows: int = 64) -> None:
        self.problem, self.tasks = problem, len(problem.tasks)
        self.space = search_space(problem)
        self.nodes = make_nodes(self.space, rows)
        self.scratch = make_scratch(self.space)
        root_of(self.space, self.nodes, 0.0)
        self.used = 1

    def look(self, s: int) -> list[tuple[int, int]]:
        """(edge, start) of every edge of a node; [] where no schedule continues it."""
        if not kernel.look(self.space.arrays, self.nodes, self.scratch, s):
            return []
        edges = range(int(self.scratch.listed[0]))
        return [(int(self.scratch.edges[k]), int(self.scratch.begins[k])) for k in edges]

    def child(self, s: int, edge: int, start: int) -> int:
        """The node that an edge leads to."""
        kernel.assign(self.space.arrays, self.nodes, s, edge, start, self.used)
        self.used += 1
        return self.used - 1

    def cost(self, s: int) -> float:
        """Price of what is placed and of what runs."""
        return float(kernel.cost_so_far(self.space.arrays, self.nodes, s))

    def whole(self, s: int) -> bool:
        """Whether every task is placed."""
        return bool(self.nodes.placed[s] == self.tasks)

    def walk(self, chance: np.random.Generator) -> list[int]:
        """Nodes from the root to the end of a whole schedule, or to where no edge leads on."""
        path = [0]
        while not self.whole(path[-1]):
            edges = self.look(path[-1])
            if not edges:
                break
            path.append(self.child(path[-1], *edges[int(chance.integers(len(edges)))]))
        return path


@pytest.mark.parametrize("seeds", spans(range(50), range(250)))
def test_bound_of_every_state_on_the_way(seeds: range) -> None:
    """A bound could exceed the cost of a plan below it, and that plan be cut off."""
    chance = np.random.default_rng(1)
    whole, dead_ends = 0, 0
    for problem in plannable(seeds):
        for _ in range(6):
            tree = Tree(problem)
            path = tree.walk(chance)
            bounds = [float(tree.nodes.bound[s]) for s in path]
            assert bounds == sorted(bounds)
            if not tree.whole(path[-1]):
                assert bounds[-1] == math.inf
                dead_ends += 1
                continue
            assert bounds[-1] <= tree.cost(path[-1]) * (1 + 1e-9) + 1e-12
            whole += 1
    assert whole > 2.8 * len(seeds)
    assert dead_ends > len(seeds) / 50


def test_walks_are_valid_schedules_with_their_cost() -> None:
    """The search would place what does not fit, or price it unlike the evaluator."""
    chance = np.random.default_rng(2)
    seen = 0
    for problem in plannable(range(150, 300)):
        tree = Tree(problem)
        last = tree.walk(chance)[-1]
        if not tree.whole(last):
            continue
        edge, end = tree.nodes.edge[last].astype(np.int64), tree.nodes.end[last]
        plan = decode(problem, tree.space.schedule(edge, end))
        found = evaluate(without_moves(problem.request), plan, unplanned=problem.unplanned)
        assert found.valid, found.violations
        assert tree.cost(last) == pytest.approx(found.cost, rel=1e-9, abs=1e-12)
        seen += 1
    assert seen > 80


def test_the_kernel_agrees_with_its_slow_twin() -> None:
    """The arrays would lose a schedule that the plain search finds, or prove another cost."""
    for problem in plannable(range(8000, 8060), max_tasks=6):
        fast = AStar().solve(problem, budget=UNLIMITED, rng=rng())
        slow = SlowAStar().solve(problem, budget=UNLIMITED, rng=rng())
        assert fast.status is slow.status
        if slow.claimed is not None:
            assert fast.claimed == pytest.approx(slow.claimed, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 3, 10])
@pytest.mark.parametrize("seeds", spans(range(200, 215), range(200, 260)))
def test_stopped_early_the_bound_still_holds(seeds: range, steps: int) -> None:
    """The certificate of an unfinished search would be above the least cost."""
    unfinished = 0
    for problem in plannable(seeds, max_tasks=5):
        best = optimum(problem.request, problem.unplanned)
        for form in ("best", "anytime", "focal", "beam"):
            solver = AStar(form=form, weight=1.5)
            solution = solver.solve(problem, budget=Budget(None, steps), rng=rng())
            if form != "beam":
                assert solution.steps <= steps
            if best is None:
                assert solution.status in (Status.INFEASIBLE, Status.NO_PLAN_IN_TIME)
                continue
            assert solution.status is not Status.INFEASIBLE
            assert solution.lower_bound <= best.cost * (1 + 1e-9) + 1e-12
            unfinished += solution.status is not Status.OPTIMAL
    assert unfinished > 0


@pytest.mark.parametrize("seeds", spans(range(300, 320), range(300, 420)))
def test_weighted_search_keeps_its_promise(seeds: range) -> None:
    """Weighted A* would give a plan costlier than its weight allows, or call it optimal."""
    costlier = 0
    for problem in plannable(seeds):
        best = optimum(problem.request, problem.unplanned)
        solution = AStar(weight=2.0).solve(problem, budget=UNLIMITED, rng=rng())
        if best is None:
            assert solution.status is Status.INFEASIBLE
            continue
        assert solution.claimed is not None
        assert solution.claimed <= 2.0 * best.cost + 1e-12
        assert solution.lower_bound <= best.cost * (1 + 1e-9) + 1e-12
        if solution.status is Status.OPTIMAL:
            assert solution.claimed == pytest.approx(best.cost, rel=1e-6, abs=1e-12)
        costlier += solution.claimed > best.cost * (1 + 1e-6)
    assert costlier > 0


def adversary(features: np.ndarray) -> np.ndarray:
    """Prefers what the bound likes least."""
    return -features[:, FEATURES.index("bound_rise")]


def fickle(features: np.ndarray) -> np.ndarray:
    """Answers nonsense, now this and now that."""
    answers = np.array([math.nan, math.inf, -math.inf, 0.0, 1e300])
    return answers[(np.arange(len(features)) + len(features)) % 5]


GUIDES: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "none": None,
    "random": lambda features: np.random.default_rng(len(features)).random(len(features)),
    "constant": lambda features: np.ones(len(features)),
    "nan": lambda features: np.full(len(features), math.nan),
    "adversary": adversary,
    "fickle": fickle,
}


@pytest.mark.parametrize("guide", sorted(GUIDES))
@pytest.mark.parametrize("weight", [1.0, 1.1, 1.5])
@pytest.mark.parametrize("seeds", spans(range(9000, 9012), range(9000, 9030)))
def test_no_guide_can_break_the_promise(seeds: range, weight: float, guide: str) -> None:
    """A learned value would make a plan costlier than the weight allows, or a bound wrong."""
    for problem in plannable(seeds):
        best = optimum(problem.request, problem.unplanned)
        observed: list[tuple[float, float]] = []
        solver = AStar(form="focal", weight=weight, guide=GUIDES[guide], batch=3)
        solution = solver.solve(
            problem,
            budget=UNLIMITED,
            rng=rng(),
            observe=lambda c, b, observed=observed: observed.append((c, b)),
        )
        if best is None:
            assert solution.status is Status.INFEASIBLE
            continue
        assert solution.claimed is not None
        assert solution.claimed <= weight * best.cost * (1 + 1e-8) + 1e-12
        for cost, bound in (*observed, (solution.claimed, solution.lower_bound)):
            assert bound <= best.cost * (1 + 1e-9) + 1e-12
            assert bound <= cost


@pytest.mark.parametrize("guide", ["none", "random", "nan"])
def test_a_beam_that_throws_nothing_away_is_exact(guide: str) -> None:
    """A growing beam would end without a proof, or with a wrong one."""
    for problem in plannable(range(9100, 9140)):
        best = optimum(problem.request, problem.unplanned)
        solver = AStar(form="beam", width=2, guide=GUIDES[guide])
        solution = solver.solve(problem, budget=UNLIMITED, rng=rng())
        if best is None:
            assert solution.status is Status.INFEASIBLE
            continue
        assert solution.status is Status.OPTIMAL
        assert solution.claimed == pytest.approx(best.cost, rel=1e-6, abs=1e-12)


def test_a_narrow_beam_knows_what_it_threw_away() -> None:
    """The bound of a beam would forget the states that it did not keep."""
    costlier = 0
    for problem in plannable(range(9400, 9470), max_tasks=6):
        exact = AStar().solve(problem, budget=UNLIMITED, rng=rng())
        steps = Budget(None, len(problem.tasks))  # one beam
        narrow = AStar(form="beam", width=1).solve(problem, budget=steps, rng=rng())
        if exact.claimed is None or narrow.claimed is None:
            continue
        assert narrow.lower_bound <= exact.claimed * (1 + 1e-9)
        costlier += narrow.claimed > exact.claimed * (1 + 1e-6)
    assert costlier > 3


def test_anytime_search_ends_with_the_cheapest_plan() -> None:
    """The weight would not fall to 1, or what was pruned at a higher one be lost."""
    for problem in plannable(range(9200, 9260)):
        best = optimum(problem.request, problem.unplanned)
        observed: list[float] = []
        solution = AStar(form="anytime", weight=5.0).solve(
            problem,
            budget=UNLIMITED,
            rng=rng(),
            observe=lambda c, _, observed=observed: observed.append(c),
        )
        if best is None:
            assert solution.status is Status.INFEASIBLE
            continue
        assert solution.status is Status.OPTIMAL
        assert observed == sorted(observed, reverse=True)
        assert observed[-1] == pytest.approx(best.cost, rel=1e-6, abs=1e-12)


def test_a_guide_of_the_wrong_shape_is_refused() -> None:
    """The guide values would be matched with the wrong states."""
    problem = encode(generate_batch(5, generate_cluster(3, seed=2), seed=2))
    with pytest.raises(BadRequest, match="the guide gave shape"):
        AStar(form="focal", guide=lambda f: f).solve(problem, budget=UNLIMITED, rng=rng())


def test_a_perfect_guide_needs_fewer_expansions() -> None:
    """The focal list would not be ordered by the guide."""
    problem = encode(generate_batch(9, generate_cluster(3, seed=2), seed=2))
    seen: list[np.ndarray] = []

    def deepest_and_cheapest(features: np.ndarray) -> np.ndarray:
        seen.append(features)
        return features[:, FEATURES.index("to_come_share")] + 0.3 * features[:, 0]

    guided = AStar(form="focal", weight=1.5, guide=deepest_and_cheapest, batch=1)
    steps = guided.solve(problem, budget=UNLIMITED, rng=rng()).steps
    against = replace(guided, guide=lambda f: -deepest_and_cheapest(f))
    assert steps < 0.5 * against.solve(problem, budget=UNLIMITED, rng=rng()).steps
    features = np.concatenate(seen)
    assert features.shape[1] == len(FEATURES) == kernel.FEATURES
    assert np.isfinite(features).all()


def test_features_do_not_know_the_size() -> None:
    """A guide trained on small batches in seconds would be lost on the same ones in hours."""
    request = generate_batch(6, generate_cluster(3, seed=4), seed=4, due_share=1.0)
    longer = replace(
        request,
        snapshot=replace(
            request.snapshot,
            pending=tuple(
                replace(t, deadline_s=60 * t.deadline_s) if t.deadline_s else t
                for t in request.snapshot.pending
            ),
        ),
        estimates={
            t: {
                c: replace(e, seconds=tuple(60 * s for s in e.seconds)) for c, e in by_class.items()
            }
            for t, by_class in request.estimates.items()
        },
        policy=replace(request.policy, prices=Prices(makespan_h=1, wait_h=1, late_h=2, misses=0)),
    )
    request = replace(request, policy=longer.policy)
    seen: list[list[np.ndarray]] = [[], []]
    for asked, rows in zip((request, longer), seen, strict=True):
        AStar(form="beam", width=4, guide=lambda f, rows=rows: rows.append(f) or f[:, 0]).solve(
            encode(asked), budget=Budget(None, 30), rng=rng()
        )
    assert np.concatenate(seen[0]) == pytest.approx(np.concatenate(seen[1]), abs=1e-2)


def test_a_tree_ensemble_is_walked_as_it_is_written() -> None:
    """A row would go down the wrong side of a split, or trees not be added up."""
    ensemble = TreeEnsemble(
        root=np.array([0, 3]),
        left=np.array([1, -1, -1, 4, -1, 6, -1, -1]),
        right=np.array([2, -1, -1, 5, -1, 7, -1, -1]),
        feature=np.array([1, 0, 0, 0, 0, 2, 0, 0]),
        threshold=np.array([0.5, 0, 0, 2.0, 0, -1.0, 0, 0]),
        value=np.array([0, 1.0, 2.0, 0, 10.0, 0, 20.0, 30.0]),
    )
    rows = np.array([[2.0, 0.5, 0.0], [3.0, 0.6, -1.0], [3.0, math.nan, 0.0]])
    assert ensemble(rows).tolist() == [11.0, 22.0, 32.0]
    with pytest.raises(BadRequest, match="splits on feature 2"):
        ensemble(rows[:, :2])
    with pytest.raises(BadRequest, match="after its parent"):
        replace(ensemble, left=np.array([0, -1, -1, 4, -1, 6, -1, -1]))
    with pytest.raises(BadRequest, match="two or none"):
        replace(ensemble, left=np.array([1, 2, -1, 4, -1, 6, -1, -1]))
    problem = encode(generate_batch(8, generate_cluster(3, seed=2), seed=2))
    exact = AStar().solve(problem, budget=UNLIMITED, rng=rng())
    guided = AStar(form="focal", guide=ensemble).solve(problem, budget=UNLIMITED, rng=rng())
    assert guided.claimed == pytest.approx(exact.claimed, rel=1e-8)


def equals(tasks: int, workers: int) -> PlanRequest:
    """Equal tasks on equal workers, with every price."""
    pending = tuple(Task(f"t{i}", {"cpu": 1000}, deadline_s=12) for i in range(tasks))
    cluster = tuple(Worker(f"w{k}", {"cpu": 1000}, idle_w=50, busy_w=90) for k in range(workers))
    estimates = {t.id: {"*": DurationEstimate.certain(5)} for t in pending}
    policy = Policy(EVERY_PRICE)
    return PlanRequest("equals", Snapshot(1, 0, cluster, pending), estimates, policy)


def test_equal_tasks_and_workers_are_not_permuted() -> None:
    """A batch of equal tasks would take time exponential in its size."""
    solution = AStar().solve(encode(equals(12, 4)), budget=Budget(None, 300), rng=rng())
    assert solution.status is Status.OPTIMAL


def test_memory_is_bounded() -> None:
    """The search would eat all memory on a problem that is too large for it."""
    problem = encode(generate_batch(20, generate_cluster(4, seed=1), seed=1))
    solution = AStar(max_nodes=500).solve(problem, budget=UNLIMITED, rng=rng())
    assert solution.steps < 500
    assert solution.status in (Status.NO_PLAN_IN_TIME, Status.FEASIBLE)
    assert solution.lower_bound > 0


def test_too_many_edges_are_not_begun_with() -> None:
    """A large problem would be listed only to run out of time."""
    problem = encode(generate_batch(20, generate_cluster(4, seed=1), seed=1))
    incumbent = Greedy().solve(problem, budget=UNLIMITED, rng=rng()).schedule
    solution = AStar(max_edges=10).solve(problem, budget=UNLIMITED, rng=rng(), incumbent=incumbent)
    assert solution.steps == 0
    assert solution.schedule is incumbent
    assert solution.status is Status.FEASIBLE


def test_an_optimal_incumbent_is_proven_and_returned() -> None:
    """The best plan known would be lost because nothing better was found."""
    proven = 0
    for problem in plannable(range(420, 460)):
        first = AStar().solve(problem, budget=UNLIMITED, rng=rng())
        if first.schedule is None:
            continue
        again = AStar().solve(problem, budget=UNLIMITED, rng=rng(), incumbent=first.schedule)
        assert again.status is Status.OPTIMAL
        assert again.schedule is first.schedule
        proven += 1
    assert proven > 20


def completions(tree: Tree, s: int) -> float:
    """Least cost of all schedules that continue a node, by trying every edge."""
    if tree.whole(s):
        return tree.cost(s)
    found = [completions(tree, tree.child(s, *edge)) for edge in tree.look(s)]
    return min(found, default=math.inf)


def nodes_to_come(tree: Tree, s: int, tasks: int) -> Iterator[int]:
    """Every node that continues a node and has so many tasks to come."""
    edges = tree.look(s)
    if edges and tree.tasks - tree.nodes.placed[s] == tasks:
        yield s
        return
    for edge in edges:
        yield from nodes_to_come(tree, tree.child(s, *edge), tasks)


def holds(tree: Tree, s: int) -> tuple[object, ...]:
    """What a node has placed, and what its sorted workers hold from its floor on."""
    kernel.gather(tree.space.arrays, tree.nodes, tree.scratch, s, tree.nodes.floor[s])
    active, until, held = tree.scratch.active, tree.scratch.until, tree.scratch.held
    return tuple(tree.nodes.edge[s] >= 0), tuple(
        (until[w, : active[w]].tobytes(), held[w, : active[w]].tobytes())
        for w in tree.nodes.order[s]
    )


@pytest.mark.parametrize("seeds", spans(range(40), range(250)))
def test_a_state_is_only_dropped_for_one_that_does_as_well(seeds: range) -> None:
    """The table of states seen would drop the way to the cheapest plan."""
    compared, dropped = 0, 0
    for problem in (encode(contested(seed)) for seed in seeds):
        tree = Tree(problem, 60_000)
        rivals: dict[object, list[int]] = {}
        for s in nodes_to_come(tree, 0, 2):
            rivals.setdefault(holds(tree, s), []).append(s)
        for nodes in rivals.values():
            least = [completions(tree, s) for s in nodes]
            for a, b in permutations(range(len(nodes)), 2):
                compared += 1
                if kernel.beats(tree.space.arrays, tree.nodes, nodes[a], nodes[b]):
                    assert least[a] <= least[b] + 1e-9 * abs(least[b])
                    dropped += 1
    assert compared > 20 * len(seeds)
    assert dropped > 8 * len(seeds)


def contested(seed: int) -> PlanRequest:
    """Four tasks that fight for two workers, under one to three prices."""
    chance = np.random.default_rng(seed)

    def pick(*values: Any) -> Any:
        return values[int(chance.integers(len(values)))]

    first = Worker(
        "w0", {"cpu": pick(2, 3)}, idle_w=pick(0, 60, 600), busy_w=pick(0, 100, 400),
        boot_kwh=pick(0, 1e-3, 5e-3), health=pick(1.0, 0.5), free_from_s=pick(0, 0, 2),
    )  # fmt: skip
    second = replace(first, id="w1")
    if chance.random() < 0.4:
        second = replace(second, machine_class="other", idle_w=pick(0, 60, 600), health=1.0)
    tasks: list[Task] = []
    for k in range(4):
        release = pick(0, 0, 0, 1, 2, 5)
        tasks.append(
            Task(
                f"t{k}", {"cpu": pick(1, 1, 2)}, release_s=release,
                deadline_s=pick(None, release + pick(3, 6, 12)), weight=pick(0, 1, 1, 2),
                owner=pick("p", "q"), after=tuple(t.id for t in tasks if chance.random() < 0.2),
                shards=pick(1, 1, 1, 1, 1, 2),
            )
        )  # fmt: skip
    estimates = {
        t.id: {name: DurationEstimate.certain(pick(1, 2, 3, 5)) for name in ("default", "other")}
        for t in tasks
    }
    units = {"makespan_h": 3600, "late_h": 3600, "misses": 3, "wait_h": 3600, "stretch": 4,
             "kwh": 400, "unfair_h": 9000, "imbalance_h": 7200, "failures": 500}  # fmt: skip
    chosen = chance.choice(sorted(units), pick(1, 2, 3), replace=False)
    prices = replace(Prices(0, 0, 0, 0), **{str(t): units[t] * pick(0.5, 1, 2) for t in chosen})
    snapshot = Snapshot(1, 0, (first, second), tuple(tasks))
    return PlanRequest(f"contested-{seed}", snapshot, estimates, Policy(prices))


WORKER = Worker("w", {"cpu": 2000}, frozenset({"x"}), idle_w=10, busy_w=10, boot_kwh=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"capacity": {"cpu": 3000}}, {"labels": frozenset()}, {"machine_class": "b"},
        {"free_from_s": 5}, {"until_s": 90}, {"blocked": (Window(3, 5),)}, {"idle_w": 11},
        {"busy_w": 11}, {"boot_kwh": 0.2}, {"health": 0.9},
    ],
)  # fmt: skip
def test_workers_that_differ_are_not_alike(change: dict[str, Any]) -> None:
    """One of two different workers would never be tried."""
    workers = (replace(WORKER, id="a"), replace(WORKER, id="b"), replace(WORKER, id="c", **change))
    tasks = (Task("t", {"cpu": 1000}, requires=("x",)), Task("u", {"cpu": 1000}))
    estimates = {t.id: {"*": DurationEstimate.certain(5)} for t in tasks}
    snapshot = Snapshot(1, 0, workers, tasks)
    request = PlanRequest("alike", snapshot, estimates, Policy(EVERY_PRICE))
    assert search_space(encode(request)).arrays.group.tolist() == [0, 0, 1]


def test_a_worker_where_something_runs_is_not_like_an_idle_one() -> None:
    """What runs there would be left out of its load and its power."""
    workers = (replace(WORKER, id="a"), replace(WORKER, id="b"), replace(WORKER, id="c"))
    running = (Running(Task("r", {}), ("b",), 0), Running(Task("s", {"mem": 0}), ("c",), 0))
    estimates = {"t": {"*": DurationEstimate.certain(5)}, "r": {"*": DurationEstimate.certain(7)},
                 "s": {"*": DurationEstimate.certain(9)}}  # fmt: skip
    snapshot = Snapshot(1, 0, workers, (Task("t", {"cpu": 1000}),), running)
    request = PlanRequest("alike", snapshot, estimates, Policy(EVERY_PRICE))
    assert search_space(encode(request)).arrays.group.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"demand": {"cpu": 2000}}, {"release_s": 3}, {"deadline_s": 40}, {"weight": 2.0},
        {"owner": "q"}, {"requires": ("x",)}, {"after": ("p",)}, {"shards": 2},
    ],
)  # fmt: skip
def test_tasks_that_differ_are_not_twins(change: dict[str, Any]) -> None:
    """One order of two different tasks would never be tried."""
    task = Task("a", {"cpu": 1000}, deadline_s=50, owner="p")
    tasks = (
        Task("p", {"cpu": 500}), task, replace(task, id="b"), replace(task, id="c", **change),
    )  # fmt: skip
    estimates = {t.id: {"*": DurationEstimate.certain(5)} for t in tasks}
    request = PlanRequest("twins", Snapshot(1, 0, (WORKER,), tasks), estimates)
    assert search_space(encode(request)).arrays.twin.tolist() == [-1, -1, 1, -1]
    slower = {**estimates, "b": {"*": DurationEstimate.certain(6)}}
    assert search_space(encode(replace(request, estimates=slower))).arrays.twin[2] == -1
    follower = Task("d", {"cpu": 500}, after=("b",))
    followed = PlanRequest(
        "followed", Snapshot(1, 0, (WORKER,), (*tasks[:3], follower)),
        {**estimates, "d": {"*": DurationEstimate.certain(5)}},
    )  # fmt: skip
    assert search_space(encode(followed)).arrays.twin[2] == -1
