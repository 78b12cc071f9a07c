"""Placers on arriving tasks: the same starts as the plain twin, and no look ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest
from plancast.planner.worlds.dispatch import copy_of
from plancast.planner.worlds.dispatch_arrays import Outage, arena_of
from plancast.planner.worlds.placers import PLACERS, Known, Planner, replay_cluster
from tests.oracles.plain_dispatch import PlainDispatch
from tests.oracles.random_requests import random_request

ONE_SHOT = [name for name in PLACERS if name != "planner"]


class Fixed:
    """Forecasts what it was given; remembers what it was told, and when."""

    levels = (0.5,)

    def __init__(self, seconds: list[int]) -> None:
        self.seconds = seconds
        self.heard: list[tuple[str, int, int]] = []

    def at_submit(self, job: int, now_s: int) -> np.ndarray:
        """The forecast of a job."""
        self.heard.append(("arrived", job, now_s))
        return np.array([float(self.seconds[job])])

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """A job has ended."""
        self.heard.append(("ended", job, now_s))


def arriving(tasks: int = 70, seed: int = 0) -> tuple[PlanRequest, dict[str, int]]:
    """Tasks that arrive in the course of half an hour, and their true run times."""
    request = generate_batch(
        tasks, generate_cluster(4, seed), seed, release_spread_s=1800, workflow_share=0.0,
        by_class_share=0.0, due_share=0.8,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    return request, {t.id: int(rng.integers(5, 1500)) for t in request.snapshot.pending}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.sampled_from(ONE_SHOT))
def test_starts_are_those_of_the_plain_twin(seed: int, name: str) -> None:
    """The replay would start something else than the placer's rules say, or at another time."""
    rng = np.random.default_rng(seed)
    request = random_request(rng, max_tasks=8, max_workers=3, classes=False, running=False,
                             finished=False, incumbent=False, preemption=False)  # fmt: skip
    truth = {t.id: int(rng.integers(1, 9)) for t in request.snapshot.pending}
    arena = arena_of(request, truth)
    if not arena.tasks:
        return
    seconds = [int(s) for s in rng.integers(1, 9, len(arena.tasks))]
    limited = [min(s, t.requested_s or s) for s, t in zip(seconds, arena.tasks, strict=True)]
    estimate = np.where(arena.estimate > 0, np.array(limited)[:, None], 0)
    for i, task in enumerate(arena.tasks):
        if task.requested_s is not None:
            arena.actual[i] = np.minimum(arena.actual[i], task.requested_s)
    known = Known(arena, copy_of(arena.start), estimate, np.ones(len(arena.tasks), bool))
    twin = PlainDispatch(arena, PLACERS[name](known), estimate).run()
    ran = replay_cluster(request, truth, PLACERS[name], Fixed(seconds)).plan
    index = {w.id: k for k, w in enumerate(request.snapshot.workers)}
    now = request.snapshot.now_s
    names = {t.id: i for i, t in enumerate(arena.tasks)}
    assert {
        names[a.task]: (a.start_s - now, a.end_s - now, [index[w] for w in a.workers])
        for a in ran.assignments
    } == twin


@pytest.mark.parametrize("name", PLACERS)
def test_what_ran_is_valid_and_the_forecaster_hears_in_order(name: str) -> None:
    """A placer would break a rule, or a forecast would come from something not yet heard."""
    request, truth = arriving()
    listener = Fixed([300] * len(truth))
    now = request.snapshot.now_s
    outages = [Outage("w1", now + 600, now + 1200), Outage("w2", now + 900, now + 1500, False)]
    placed = replay_cluster(request, truth, PLACERS[name], listener, outages)
    assert evaluate(request, placed.plan, realised=True).violations == ()
    assert placed.figures["tasks"] == len(truth)
    times = [at for _, _, at in listener.heard]
    assert times == sorted(times)
    by_task = placed.plan.by_task
    tasks = [t.id for t in request.snapshot.pending]
    for what, job, at in listener.heard:
        if what == "ended":
            assert at == by_task[tasks[job]].end_s


@pytest.mark.parametrize("name", PLACERS)
def test_the_future_reaches_no_placer(name: str) -> None:
    """A run time not yet seen, or a task not yet arrived, would have changed a start."""
    request, truth = arriving(seed=3)
    first = replay_cluster(request, truth, PLACERS[name], Fixed([300] * len(truth))).plan
    moment = request.snapshot.now_s + 900
    other = {t: 5 * s if first.by_task[t].end_s > moment else s for t, s in truth.items()}
    later = replace(
        request,
        snapshot=replace(
            request.snapshot,
            pending=tuple(
                replace(t, demand={"cpu": 1000}, deadline_s=None) if t.release_s > moment else t
                for t in request.snapshot.pending
            ),
        ),
    )
    second = replay_cluster(later, other, PLACERS[name], Fixed([300] * len(truth))).plan
    before = {a.task: (a.workers, a.start_s) for a in first.assignments if a.start_s <= moment}
    assert len(before) > 10
    after = {t: (second.by_task[t].workers, second.by_task[t].start_s) for t in before}
    assert after == before


def test_the_limit_kills_and_old_tasks_go_first() -> None:
    """Nobody would be killed at the limit; a long task would starve behind short ones."""
    request, truth = arriving(40, 5)
    limit = {t.id: max(1, truth[t.id] // 2) for t in request.snapshot.pending}
    tasks = tuple(replace(t, requested_s=limit[t.id]) for t in request.snapshot.pending)
    killed = replace(request, snapshot=replace(request.snapshot, pending=tasks))
    ran = replay_cluster(killed, truth, PLACERS["edf"], Fixed([300] * 40)).plan
    assert all(a.end_s - a.start_s == limit[a.task] for a in ran.assignments)
    forecasts = [10 * (k + 1) for k in range(70)]
    request, truth = arriving(70, 6)
    waits = [
        replay_cluster(request, truth, Planner(most_wait_s=most), Fixed(forecasts)).figures[
            "wait_max_s"
        ]
        for most in (600, 10**6)
    ]
    assert waits[0] <= waits[1]


@pytest.mark.parametrize("name", PLACERS)
def test_where_nothing_can_start_the_figures_are_0(name: str) -> None:
    """A replay in which no task ends would be an error, or figures that are no numbers."""
    request, truth = arriving(5)
    tasks = tuple(replace(t, demand={"cpu": 10**9}) for t in request.snapshot.pending)
    request = replace(request, snapshot=replace(request.snapshot, pending=tasks))
    placed = replay_cluster(request, truth, PLACERS[name], Fixed([300] * 5))
    assert placed.plan.assignments == ()
    timed = {k: v for k, v in placed.figures.items() if not k.startswith("deci")}
    assert set(timed.values()) <= {0.0, timed["unstarted"]}
