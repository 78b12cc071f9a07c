"""Bounds of shops: never above the optimum, as the slow twin has them, and worth their time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import priority_order, successors
from plancast.planner.arrays.problem import Ints, Problem
from plancast.planner.bounds.levels import raised_heads, window_makespan
from plancast.planner.bounds.shops import busiest_machine_s, shop_makespan_s, work_of
from plancast.planner.instances.base import MAKESPAN_SECONDS
from plancast.planner.instances.dag import dag_set
from plancast.planner.model.domain import DurationEstimate, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.planning.plan import plan
from tests.conftest import scaled
from tests.oracles import shop_levels

Shop = tuple[Ints, Ints, Ints, Ints]


def layered_shop(seed: int, layers: int = 3, wide: int = 4) -> PlanRequest:
    """Layers that fork and join, on two or three classes of one-task workers."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 4))
    workers = tuple(
        Worker(f"w{c}-{k}", {"slot": 1}, machine_class=f"c{c}")
        for c in range(classes)
        for k in range(int(rng.integers(1, 3)))
    )
    tasks: list[Task] = []
    estimates = {}
    last: list[str] = []
    for _ in range(layers):
        layer = []
        for _ in range(int(rng.integers(1, wide + 1))):
            name = str(len(tasks))
            before = tuple(x for x in last if rng.random() < 0.8)
            able = rng.choice(classes, int(rng.integers(1, classes + 1)), replace=False)
            tasks.append(Task(name, {"slot": 1}, release_s=int(rng.integers(0, 4)), after=before))
            estimates[name] = {
                f"c{c}": DurationEstimate.certain(int(rng.integers(1, 9))) for c in able
            }
            layer.append(name)
        last = layer
    return PlanRequest(
        f"layers-{seed}", Snapshot(0, 0, workers, tuple(tasks)), estimates, MAKESPAN_SECONDS
    )


def arrays(problem: Problem) -> Shop:
    """What the bound is told of a problem."""
    duration = np.array([problem.durations_on(i) for i in range(len(problem.tasks))], np.int64)
    return duration, problem.release, problem.pred_ptr, problem.pred


def alone(duration: list[list[int]], before: list[list[int]]) -> Shop:
    """A shop whose tasks are released at once."""
    ptr = np.cumsum([0, *(len(b) for b in before)]).astype(np.int64)
    pred = np.array([j for b in before for j in b], np.int64)
    return np.array(duration, np.int64), np.zeros(len(before), np.int64), ptr, pred


def test_work_is_shared_out_over_machines_of_several_speeds() -> None:
    """Every machine would be counted as the fastest."""
    # 6 tasks of 12 s on machines of speed 1, 1 and 2: 4 speeds in all, 72 / 4 = 18 s.
    work = work_of(np.array([[12, 6]] * 6), np.array([2, 1]))
    assert work == pytest.approx(np.full(6, 3.0))
    # In 18 s there is room for five by number, in 24 s for all.
    assert shop_makespan_s(*alone([[12, 12, 6]] * 6, [[]] * 6)) == 24


def test_a_machine_that_has_tasks_of_no_other_is_busy_with_them() -> None:
    """The work of a bottleneck would be shared out over machines that cannot do it."""
    duration = np.array([[5, 0], [5, 0], [5, 0], [1, 1]])
    assert busiest_machine_s(duration) == 15
    assert shop_makespan_s(*alone(duration.tolist(), [[]] * 4)) == 15


def test_tasks_that_are_joined_are_counted() -> None:
    """Five of 10 s on two machines, then one of 1 s: work says 26 s, but a machine has three."""
    five = [[10, 10]] * 5
    assert shop_makespan_s(*alone([*five, [1, 1]], [*([[]] * 5), [0, 1, 2, 3, 4]])) == 31
    # As well where they are forked, and where both: in the window between two short ones.
    fork = alone([[1, 1], *five], [[], *([[0]] * 5)])
    assert shop_makespan_s(*fork) == 31
    both = alone([[1, 1], *five, [2, 2]], [[], *([[0]] * 5), [1, 2, 3, 4, 5]])
    assert shop_makespan_s(*both) == 33


def test_no_bound_is_above_the_optimum() -> None:
    """A bound that is too high is a proof of what is false."""
    tight = 0
    for seed in range(scaled(60)):
        request = layered_shop(seed)
        best = plan(replace(request, budget=Budget(10.0)), "cpsat")
        assert best.status is Status.OPTIMAL
        assert best.cost is not None
        bound = shop_makespan_s(*arrays(encode(request)))
        assert bound <= best.cost + 1e-9
        tight += bound == best.cost
    assert tight > scaled(40)


@pytest.mark.parametrize("seed", range(40))
def test_windows_are_what_the_slow_twin_says(seed: int) -> None:
    """The kernel would leave out a window, or count one that is none."""
    duration, release, pred_ptr, pred = arrays(encode(layered_shop(1_000 + seed, 4, 5)))
    columns, machines = np.unique(duration, axis=1, return_counts=True)
    columns = np.ascontiguousarray(columns)
    work = work_of(columns, machines)
    order = priority_order(np.zeros(len(duration)), pred_ptr, pred)
    shortest = np.where(columns > 0, columns, 99).min(axis=1)
    here = (shortest, work, np.argsort(-shortest, kind="stable"), columns, machines)
    slow = (work.tolist(), columns.tolist(), machines.tolist())
    found = []
    for line, start, ptr, other in (
        (order, release, pred_ptr, pred),
        (order[::-1].copy(), np.zeros_like(release), *successors(pred_ptr, pred)),
    ):
        before = [other[ptr[i] : ptr[i + 1]].tolist() for i in range(len(order))]
        found.append(raised_heads(line, start, *here, ptr, other))
        assert found[-1].tolist() == shop_levels.heads(line.tolist(), start.tolist(), before, *slow)
    least = window_makespan(*found, *here)
    assert least == shop_levels.makespan(found[0].tolist(), found[1].tolist(), *slow)


def test_workflows_are_bounded_closer(shared_data: Callable[[str], Path]) -> None:
    """HEFT would seem to leave room where it leaves none."""
    workflows = dag_set(shared_data("dags/wfinstances_tasks.csv.gz"))
    problem = encode(workflows.read("bwa-chameleon-small-001").request)
    duration, release, pred_ptr, pred = arrays(problem)
    columns, machines = np.unique(duration, axis=1, return_counts=True)
    bound = shop_makespan_s(duration, release, pred_ptr, pred)
    assert bound > 1.1 * work_of(columns, machines).sum()
    made = plan(replace(problem.request, budget=Budget(None, 2_000)), "shop")
    assert made.cost is not None
    price = made.cost / made.terms["makespan_h"] / 3600
    assert bound * price <= made.cost <= 1.02 * bound * price
