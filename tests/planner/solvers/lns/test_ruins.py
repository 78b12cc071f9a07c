"""Which tasks a move takes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.jit import kernel
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.model.domain import DurationEstimate, Policy, Prices, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest
from plancast.planner.solvers.lns.local_search import (
    FEW_WITH_GANGS,
    ODDS,
    Shape,
    Walk,
    fixed_arrays,
    full_cost,
    gangs_wait,
    ranks,
    state_arrays,
    with_pool,
)
from plancast.planner.solvers.lns.ruin import AHEAD, load
from plancast.planner.solvers.lns.ruins import _ruin

WORKERS = 4


def blocked_gang(short: int = 20) -> Problem:
    """A gang on all workers that matters more than short tasks of ten seconds, and these."""
    workers = tuple(Worker(f"w{k}", {"cpu": 1000}) for k in range(WORKERS))
    gang = Task("gang", {"cpu": 1000}, shards=WORKERS, weight=100.0)
    others = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(short))
    estimates = {t.id: {"*": DurationEstimate.certain(10)} for t in (gang, *others)}
    policy = Policy(replace(Prices.for_makespan(), makespan_h=0.0, wait_h=1.0))
    return encode(PlanRequest("r", Snapshot(0, 0, workers, (gang, *others)), estimates, policy))


def gang_last(problem: Problem) -> Schedule:
    """All short tasks, then the gang."""
    k = np.arange(len(problem.tasks) - 1)
    start = 10 * np.array([len(k) // WORKERS, *(k // WORKERS)])
    return Schedule(start, start + 10, np.array([*range(WORKERS), *(k % WORKERS)]))


def test_a_gang_gets_ahead_of_what_blocks_all_of_its_workers() -> None:
    """Five tasks have to go at once: the other rules take them from some of the workers."""
    problem = blocked_gang()
    first = gang_last(problem)
    fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
    shape = Shape(most=WORKERS + 1, looked_at=4, blink=0.0, tie=1e-12)
    costs = []
    for odds in (None, ODDS):
        walk = Walk(problem, fixed, first, ranks(problem), seed=1)
        walk.step(300, 1e-9, 0.0, shape, odds)
        costs.append(3600 * full_cost(problem, walk.best))
    least = 10.0 * WORKERS * sum(range(1, 6))
    assert costs[0] == pytest.approx(least)
    assert costs[1] > 5 * least


@kernel
def ruin_ahead(f, s, items, seed, taken, mark):
    """What one such move takes out; how much."""
    np.random.seed(seed)  # noqa: NPY002 (what kernels draw from)
    return _ruin(
        f.ti, f.tf, f.wf, f.pi, f.room, f.link, f.pool, f.active, f.rates, s.ts, s.ps, s.ws, items,
        AHEAD, 1, taken, mark,
    )  # fmt: skip


def test_all_that_runs_where_and_when_a_task_could_run_is_taken() -> None:
    """What stays would be in the way of the task still, and the move be lost."""
    problem = blocked_gang()
    fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
    state, profile = state_arrays(problem, gang_last(problem))
    _, items = load(fixed, state, profile, 64)
    seen = set()
    for seed in range(200):
        taken, mark = np.zeros(21, np.int64), np.zeros(len(problem.tasks), np.bool_)
        filled = ruin_ahead(fixed, state, items, seed, taken, mark)
        assert sorted(taken[:filled]) == np.flatnonzero(mark).tolist()
        if taken[0] > 0:
            continue
        # Up to two on each worker that was drawn, one after the other.
        others = taken[1:filled]
        rounds = (others - 1) // WORKERS
        assert rounds.max(initial=0) - rounds.min(initial=4) <= 1
        seen.add(len(set((others - 1) % WORKERS)))
    assert max(seen) == WORKERS


def test_that_move_is_made_where_a_gang_waits_in_a_batch_that_is_not_large() -> None:
    """Plans without gangs would change, or large ones take longer for nothing."""
    problem = blocked_gang()
    assert gangs_wait(problem)
    assert not gangs_wait(blocked_gang(FEW_WITH_GANGS))
    request = problem.request
    free = replace(request.policy, prices=Prices.for_makespan())
    assert not gangs_wait(encode(replace(request, policy=free)))
    lone = tuple(replace(t, shards=1) for t in request.snapshot.pending)
    alone = replace(request, snapshot=replace(request.snapshot, pending=lone))
    assert not gangs_wait(encode(alone))
