"""plancast.pipelines.stages.replays: waits with and without forecasts, of one stretch of a log."""

from __future__ import annotations

import numpy as np

from plancast.pipelines.stages.replays import SHARES, replays
from plancast.pipelines.worth.batches import stretch_of
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from tests.pipelines.conftest import SmallRun


def test_waits_by_requests_are_those_of_the_stretch(small_run: SmallRun) -> None:
    """The report would compare forecasts with a queue that nobody had."""
    stretch = stretch_of(read_jobs(small_run.path("jobs")), 16, waits=True)
    found = replays(stretch, RuntimePredictor.load(small_run.path("model")))
    wait_s = (stretch.jobs["start_s"] - stretch.jobs["submit_s"]).to_numpy()
    assert wait_s.max() > 0
    assert found[0]["mean_wait_s"] == wait_s.mean()
    assert np.allclose(found[0]["wait_s"], np.quantile(wait_s, SHARES), atol=0.01)
    # Estimates change the order alone: all four ran the same jobs on the same machine.
    assert len({one["mean_slowdown"] for one in found}) > 1
    for one in found:
        assert one["slowdown"] == sorted(one["slowdown"])
        assert one["slowdown"][0] >= 1


def test_nothing_is_said_of_a_log_without_arrivals(small_run: SmallRun) -> None:
    """Waits would be made up for a log that knows none."""
    jobs = read_jobs(small_run.path("jobs")).tail(50).reset_index(drop=True)
    model = RuntimePredictor.load(small_run.path("model"))
    assert replays(stretch_of(jobs, 16, waits=False), model) == []
