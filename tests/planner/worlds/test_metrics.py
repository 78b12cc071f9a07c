"""The judgement of a replay, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.metrics import deadlines, interval_over, judge, weekly_interval
from plancast.planner.worlds.replay import ReplayLog, replay


def two_jobs() -> ReplayLog:
    """A machine of two: a job of 100 s that takes it all, then one of 10 s."""
    return ReplayLog(
        "two",
        2,
        np.array([0, 20]),
        np.array([100, 10]),
        np.array([2, 1]),
        np.array([150, 10]),
        np.array([0, 1]),
    )


def test_by_hand() -> None:
    """A number of the judgement is not what its definition says."""
    found = judge(replay(two_jobs(), DISPATCHERS["easy"], promises=True))
    assert found["bsld_mean"] == pytest.approx((1 + 90 / 10) / 2)
    assert found["bsld_max"] == 9.0
    assert found["wait_mean_s"] == 40.0
    # Promised at 150, when the request of the first would end; started at 100.
    assert found["promise_error_mean_s"] == 25.0
    assert found["late_share"] == 0.0
    assert found["utilisation"] == pytest.approx((200 + 10) / (2 * 110))
    assert found["energy_kwh"] == pytest.approx((60 * 2 * 110 + 120 * 210) / 3.6e6)
    assert found["fairness"]["worst_decile_wait_s"] == 80.0
    assert found["fairness"]["jain"] == 0.5
    assert [row["procs_to"] for row in found["by_size"]] == [1, 2]


def test_late_is_more_than_a_minute() -> None:
    """A start one minute after its promise counts as late, or two minutes after it does not."""
    log = two_jobs()
    for estimate, late in ((41, 0.0), (39, 0.5)):
        result = np.array([estimate, 10])
        found = judge(replay(log, DISPATCHERS["easy"], result, promises=True))
        assert found["late_share"] == late


def test_deadlines_reveal_no_run_time() -> None:
    """Deadlines come from requests and the seed alone."""
    submit, request = np.arange(50), np.full(50, 100)
    drawn = deadlines(submit, request, seed=1)
    assert set((drawn - submit).tolist()) == {200, 500, 2000}
    assert drawn.tolist() == deadlines(submit, request, seed=1).tolist()
    assert drawn.tolist() != deadlines(submit, request, seed=2).tolist()


def test_interval_draws_weeks() -> None:
    """Jobs of one week are drawn together: a bad week widens the interval."""
    rng = np.random.default_rng(0)
    week = np.repeat(np.arange(20), 50)
    bad = rng.normal(0, 1, 20)[week]
    low, high = interval_over(bad, week)
    assert low < bad.mean() < high
    single_low, single_high = interval_over(bad, np.arange(len(bad)))
    assert high - low > 3 * (single_high - single_low)
    assert weekly_interval(bad, week * 7 * 86400) == (low, high)
