"""Robust replays: forecasts count as far as they earned it, and a start is guaranteed by limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.worlds.dispatchers import DISPATCHERS, LookAhead
from plancast.planner.worlds.replay import ReplayLog, bounded_slowdown, replay
from plancast.planner.worlds.trust import LEAST_JOBS, Trusted
from tests.conftest import scaled


def queueing_log(n: int, seed: int, procs: int = 16) -> ReplayLog:
    """Jobs that queue, killed at limits of one to twenty times what they run."""
    rng = np.random.default_rng(seed)
    run = np.ceil(rng.lognormal(5.0, 1.5, n)).astype(np.int64)
    return ReplayLog(
        "queueing",
        procs,
        np.cumsum(rng.integers(1, 120, n)).astype(np.int64),
        run,
        rng.integers(1, procs // 2 + 1, n),
        np.ceil(run * rng.choice([1.0, 1.5, 4.0, 20.0], n)).astype(np.int64),
        rng.integers(0, 5, n),
    )


class Fixed:
    """Forecasts made of a point for each job, about it by factors."""

    levels = (0.1, 0.5, 0.9)

    def __init__(self, point_s: np.ndarray) -> None:
        self.point_s = point_s

    def at_submit(self, job: int, now_s: int) -> np.ndarray:
        """Half, the point, twice."""
        return self.point_s[job] * np.array([0.5, 1.0, 2.0])

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """Nothing is learned."""


def earliest_start(
    busy: list[tuple[int, int, int]], procs: int, width: int, lasts: int, now: int
) -> int:
    """First moment at which `width` processors stay free, beside (start, end, width) of others."""
    for at in sorted({now, *(end for _, end, _ in busy if end > now)}):
        moments = [at, *(start for start, _, _ in busy if at < start < at + lasts)]
        used = (sum(w for s, e, w in busy if s <= moment < e) for moment in moments)
        if all(width <= procs - taken for taken in used):
            return at
    raise AssertionError("a job fits an empty machine")


@settings(max_examples=scaled(25), deadline=None)
@given(seed=st.integers(0, 10_000), wild=st.floats(0.0, 4.0))
def test_no_job_starts_later_than_conservative_backfilling_by_limits_gives(
    seed: int, wild: float
) -> None:
    """A wrong forecast would make somebody wait beyond what limits alone guarantee.

    Theorem: with kills at limits and no failures, under ``planner-limits`` no job starts later
    than the start that conservative backfilling by limits gives it at its submission, whatever is
    forecast. Each such start is held as a reservation; a job starts earlier only where by limits
    all reservations stand; and a machine whose jobs end by their limits is never behind its plan.
    """
    log = queueing_log(70, seed)
    rng = np.random.default_rng(seed)
    forecast = Fixed(log.run_s * np.exp(wild * rng.standard_normal(len(log))))
    found = replay(log, DISPATCHERS["planner-limits"], forecast, promises=True)
    assert (found.start_s <= found.promise_s).all()
    for job in range(len(log)):
        now = int(log.submit_s[job])
        if found.start_s[job] == now:
            continue
        # What runs, and what waits with a start that it was given before.
        busy = []
        for other in range(job):
            start, end = int(found.start_s[other]), int(found.end_s[other])
            if end <= now:
                continue
            begin = start if start < now else int(found.promise_s[other])
            limit = int(log.requested_s[other])
            busy.append((begin, begin + limit, int(log.width[other])))
        width, limit = int(log.width[job]), int(log.requested_s[job])
        assert found.promise_s[job] <= earliest_start(busy, log.procs, width, limit, now)


def test_trust_is_earned() -> None:
    """Nonsense would be believed, or a good forecast not."""
    log = queueing_log(600, 1)
    good = Trusted(Fixed(log.run_s * 1.1), log)
    replay(log, DISPATCHERS["planner-robust"], good)
    assert good.trust == 1.0
    rng = np.random.default_rng(0)
    for point in (
        log.requested_s.astype(float),
        np.full(len(log), 3600.0),
        rng.permutation(log.run_s).astype(float),
    ):
        bad = Trusted(Fixed(point), log)
        replay(log, DISPATCHERS["planner-robust"], bad)
        assert bad.trust < 0.2


def test_without_trust_requests_decide() -> None:
    """A forecast that says nothing new would change what happens."""
    log = queueing_log(300, 2)
    asked = Trusted(Fixed(log.requested_s * 50.0), log)
    assert asked.trust == 0.0
    np.testing.assert_array_equal(asked.at_submit(0, 0), np.full(3, float(log.requested_s[0])))
    for job in range(LEAST_JOBS):
        asked.finished(job, int(log.run_s[job]), 0)
    assert asked.trust == 0.0
    nonsense = replay(log, DISPATCHERS["planner-robust"], Trusted(Fixed(1.0 / log.run_s), log))
    honest = replay(log, DISPATCHERS["planner-robust"], "requested")
    assert bounded_slowdown(nonsense).mean() < 1.3 * bounded_slowdown(honest).mean() + 1.0


@pytest.mark.parametrize("level", [0.0, 1.1])
def test_a_promise_level_is_a_level_or_the_limit(level: float) -> None:
    """A promise would be made by a quantile that there is not."""
    with pytest.raises(ValueError, match="promise_level"):
        LookAhead(promise_level=level)
