"""The dispatching kernel against its plain twin, and what it may never do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.plan import plan
from plancast.planner.worlds.dispatch import ENDED, FAR, Rules, copy_of
from plancast.planner.worlds.dispatch_arrays import Arena, Outage, arena_of, rules
from tests.conftest import scaled
from tests.oracles.plain_dispatch import PlainDispatch
from tests.oracles.random_requests import random_request


def truth_of(request: PlanRequest, rng: np.random.Generator) -> dict[str, int]:
    """Random true run times."""
    return {t.id: int(rng.integers(1, 9)) for t in request.snapshot.pending}


def random_outages(request: PlanRequest, rng: np.random.Generator) -> list[Outage]:
    """Failures and drains of some workers."""
    found = []
    for worker in request.snapshot.workers:
        if rng.random() < 0.4:
            at_s = request.snapshot.now_s + int(rng.integers(1, 8))
            back_s = at_s + int(rng.integers(1, 6))
            found.append(Outage(worker.id, at_s, back_s, bool(rng.random() < 0.5)))
    return found


def random_rules(arena: Arena, rng: np.random.Generator) -> Rules:
    """Rules of every sort."""
    tasks, workers = len(arena.tasks), len(arena.problem.workers)
    rank = rng.integers(0, 4, tasks).astype(float)
    rate = np.abs(rng.normal(0, 0.5, (3, workers))).round(1)
    home = np.full(len(arena.task_of), -1)
    if rng.random() < 0.5:
        for piece, i in enumerate(arena.task_of):
            eligible = np.flatnonzero(
                arena.cluster.allowed[arena.cluster.kind[i]]
                & (arena.estimate[i, arena.cluster.worker_class] > 0)
            )
            home[piece] = rng.choice(eligible) if len(eligible) else -1
    bound = bool((home >= 0).all()) and rng.random() < 0.5
    return rules(
        arena, rank, home=home, row=rng.integers(0, 3, tasks), rate=rate, bound=bound,
        kin=float(rng.choice([0.3, np.inf])), price=float(rng.choice([0.0, 1.0])),
        spread=float(rng.choice([-1.0, 0.0, 1.0])),
    )  # fmt: skip


@settings(max_examples=scaled(40), deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_every_start_is_that_of_the_plain_twin(seed: int) -> None:
    """A short cut of the kernel would start something else, or at another time."""
    rng = np.random.default_rng(seed)
    request = random_request(rng, max_tasks=9, max_workers=4, preemption=False)
    arena = arena_of(request, truth_of(request, rng), random_outages(request, rng))
    if not arena.tasks:
        return
    chosen = random_rules(arena, rng)
    live = copy_of(arena.start)
    pause = int(rng.integers(1, 4)) if rng.random() < 0.5 else FAR
    while arena.run(chosen, live, arena.estimate, pause):
        pass
    ptr = arena.cluster.shard_ptr
    ran = {
        i: (int(live.start[i]), int(live.end[i]), live.worker[ptr[i] : ptr[i + 1]].tolist())
        for i in range(len(arena.tasks))
        if live.state[i] == ENDED
    }
    twin = PlainDispatch(arena, chosen, arena.estimate)
    assert ran == twin.run()
    assert arena.lost(live)[0] == twin.restarts


def test_the_twin_meets_gangs_failures_and_windows() -> None:
    """The test above would compare nothing but easy cases."""
    met = dict.fromkeys(("gang", "restart", "window", "running"), 0)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        request = random_request(rng, max_tasks=9, max_workers=4, preemption=False)
        arena = arena_of(request, truth_of(request, rng), random_outages(request, rng))
        if not arena.tasks:
            continue
        twin = PlainDispatch(arena, rules(arena, np.arange(len(arena.tasks))), arena.estimate)
        twin.run()
        met["gang"] += any(len(places) > 1 for _, _, places in twin.ended.values())
        met["restart"] += twin.restarts
        met["window"] += len(arena.cluster.shut_end) > 0
        met["running"] += bool(request.snapshot.running)
    assert min(met.values()) >= 3, met


@pytest.mark.parametrize("bound", [False, True])
def test_what_ran_is_valid(bound: bool) -> None:
    """The kernel would overfill a worker, forget a label, or start before a predecessor ended."""
    request = generate_batch(60, generate_cluster(6, 1), 1, gang_share=0.2)
    rng = np.random.default_rng(1)
    truth = {t.id: int(rng.integers(1, 2000)) for t in request.snapshot.pending}
    arena = arena_of(request, truth)
    made = plan(request, "greedy").plan
    assert made is not None
    rank, home = arena.homes(made)
    live = copy_of(arena.start)
    arena.run(rules(arena, rank, home=home, bound=bound), live, arena.estimate)
    found = evaluate(request, arena.outcome(live), realised=True)
    assert found.violations == ()


def test_bad_input_is_one_sentence() -> None:
    """A wrong outage or a missing truth would end in a traceback, or in nothing."""
    request = random_request(3)
    with pytest.raises(BadRequest, match="back_s 5 is not after at_s 5"):
        Outage("w", 5, 5)
    truth = {t.id: 1 for t in request.snapshot.pending}
    with pytest.raises(BadRequest, match=r"'nobody'.*not in the cluster"):
        arena_of(request, truth, [Outage("nobody", 5, 6)])
    with pytest.raises(BadRequest, match="its true run time is not known"):
        arena_of(request, {})
