"""Random requests of all features, under a watchdog: every solver answers with a valid plan."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget
from plancast.planner.planning.expected_starts import outlooks
from plancast.planner.planning.plan import plan
from plancast.planner.solvers import MODE_SOLVERS, SOLVERS
from tests.oracles.random_requests import random_request, related
from tests.oracles.watchdog import watched

NAMES = ("auto", *sorted(SOLVERS))
REQUESTS = int(os.environ.get("PLANCAST_REQUESTS", "50000"))
"""Requests of the long form."""
LIMIT_S = 5.0
"""Seconds for one compiled call: far above its budget, far below a hang."""


def answer(seed: int) -> str:
    """Plan one request; what is wrong with the response, if anything.

    Notes
    -----
    The costliest fault is a solver that fails silently, since the plan of ``greedy`` hides it: a
    warning counts as a fault. A solver may refuse a kind of request by name.
    """
    rng = np.random.default_rng(seed)
    # One request in four is larger than those whose optimum brute force knows.
    tasks, workers = (5, 3) if seed % 4 else (int(rng.integers(6, 40)), int(rng.integers(2, 8)))
    request = random_request(
        seed,
        max_tasks=tasks,
        max_workers=workers,
        now_s=int(rng.choice([-1_000, 0, 1_000_000, 1 << 40])),
        max_duration_s=int(rng.choice([4, 60, 86_400])),
        counted=bool(rng.random() < 0.5),
    )
    name = NAMES[seed % len(NAMES)]
    if name in ("auto", *MODE_SOLVERS) and seed % 3 == 0:
        request = random_request(
            seed, tasks, workers, max_duration_s=60, modes=True, counted=bool(seed % 2)
        )
    if seed // len(NAMES) % 2:
        request = related(request, seed, gangs=not request.snapshot.has_modes)
    response = plan(replace(request, budget=Budget(0.05, 40), seed=seed), name)
    faults = [v.text for v in validate_response(request, response)]
    if response.plan is not None:
        waits = outlooks(request, response.plan, samples=4, most=3)
        early = [o for o in waits.values() if not o.early_s <= o.half_s <= o.sure_s]
        faults += [f"{o.task} starts with 90% before it does with 50%" for o in early]
    return "; ".join(faults) or (response.warning or "")


def assert_all_right(seeds: range, limit_s: float) -> None:
    """Plan the requests of these seeds, each within so many seconds, and judge them."""
    found = [
        (seed, NAMES[seed % len(NAMES)], text) for seed, text in watched(answer, seeds, limit_s)
    ]
    assert [fault for fault in found if fault[2]] == []


def test_requests_of_all_features() -> None:
    """A request of features that nobody tried together would crash or mislead a solver."""
    # Kernels may still be compiled.
    assert_all_right(range(60), limit_s=280.0)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_requests_of_all_features_for_long() -> None:
    """The same on fifty thousand."""
    assert_all_right(range(60), limit_s=280.0)
    assert_all_right(range(1_000, 1_000 + REQUESTS), limit_s=LIMIT_S)
