"""Where a gang adds least, against all seconds and workers tried one by one."""

from __future__ import annotations

import numpy as np
import pytest

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.jit import kernel
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.arrays.schedule import FAR
from plancast.planner.model.messages import Budget
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.lns import ruin
from plancast.planner.solvers.lns.gangs import _place_gang
from plancast.planner.solvers.lns.local_search import Walk, fixed_arrays, ranks, with_pool
from plancast.planner.solvers.lns.state import _take, _time_price
from tests.oracles.plain_orders import PlainSerial
from tests.oracles.random_requests import random_request

TIE = 1e-9


@kernel
def take(f, s, profile, items, i):
    """Take a task out of a schedule."""
    return _take(
        f.ti, f.tf, f.wi, f.wf, f.pi, f.share, f.rates, f.hours, s.ts, s.ps, s.ws, s.load_s,
        s.wait_s, profile, items, s.shared, i,
    )  # fmt: skip


@kernel
def place(f, s, profile, i, ceiling):
    """Where a gang adds least, below a ceiling."""
    return _place_gang(
        f.ti, f.tf, f.wi, f.run_s, f.room, f.share, f.link, f.rates, f.hours, f.max_stretch, s.ts,
        s.ps, s.ws, profile, s.shared, i, 0.0, TIE, 0, ceiling,
    )  # fmt: skip


@kernel
def time_price(f, i, start, end):
    """What a task costs by its start and end alone."""
    return _time_price(f.ti, f.tf, f.rates, i, False, 0, TIE, start, end)


def with_gangs(seed: int) -> tuple[Problem, Schedule] | None:
    """A random problem with gangs that workers alone hold back, and a schedule of it."""
    problem = encode(random_request(seed, max_tasks=8))
    if problem.infeasible or not problem.tasks or not (problem.shards > 1).any():
        return None
    if problem.counted or problem.tells_apart or problem.is_related or problem.hours is not None:
        return None
    budget, rng = Budget(None, 1), np.random.default_rng(0)
    schedule = SOLVERS["greedy"]().solve(problem, budget=budget, rng=rng).schedule
    return None if schedule is None else (problem, schedule)


def without(problem: Problem, schedule: Schedule, i: int) -> tuple[Walk, PlainSerial]:
    """Both twins with everything placed but task i."""
    fixed = with_pool(fixed_arrays(problem), None, np.random.default_rng(0))
    walk = Walk(problem, fixed, schedule, ranks(problem), seed=1)
    take(walk.fixed, walk.state, walk.profile, walk.items, i)
    slow = PlainSerial(problem)
    for j in range(len(problem.tasks)):
        if j != i:
            for w in schedule.worker[problem.shard_ptr[j] : problem.shard_ptr[j + 1]]:
                slow.free[w, schedule.start[j] : schedule.end[j]] -= problem.demand[j]
    return walk, slow


@pytest.mark.parametrize("block", range(3))
def test_a_gang_is_put_where_the_slow_twin_puts_it(block: int) -> None:
    """A moment that is passed over as one where it cannot fit would make every plan costlier."""
    compared = refused = 0
    for seed in range(150 * block, 150 * block + 150):
        found = with_gangs(seed)
        if found is None:
            continue
        problem, schedule = found
        plain = (problem.gang[:, 2:4] == 0).all(axis=1)
        for i in np.flatnonzero((problem.shards > 1) & plain).tolist():
            if len(problem.predecessors(i)) or (problem.before == i).any():
                continue
            walk, slow = without(problem, schedule, i)

            def price(start: int, end: int, i: int = i, walk: Walk = walk) -> float:
                return float(time_price(walk.fixed, i, start, end))

            least = slow.place(i, int(problem.release[i]), price)
            for ceiling in (np.inf, None):
                if ceiling is None:
                    ceiling = np.inf if least is None else price(*least[:2])
                begin, finish = place(walk.fixed, walk.state, walk.profile, i, float(ceiling))
                if least is None or np.isfinite(ceiling):
                    assert begin >= FAR
                    refused += 1
                    continue
                assert price(begin, finish) == pytest.approx(price(*least[:2]), rel=1e-12)
                held = walk.state.ps[problem.shard_ptr[i] : problem.shard_ptr[i + 1], ruin.ON]
                assert slow.place_at(i, begin, held.tolist())[:2] == (begin, finish)
                compared += 1
    assert compared > 20
    assert refused > 20
