"""The roll-forward: its plain twin, the replay as a foreign one, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import ReplayLog, replay
from plancast.planner.worlds.rollout import DISCIPLINES, QueueState, roll
from tests.conftest import scaled
from tests.oracles.plain_rollout import plain_roll
from tests.oracles.speed import least_cpu_s


@st.composite
def queues(draw: st.DrawFn) -> tuple[QueueState, np.ndarray, np.ndarray]:
    """Up to 5 running and 9 waiting jobs with up to 3 resources, and two samples."""
    kinds, running = draw(st.integers(1, 3)), draw(st.integers(0, 5))
    waiting = draw(st.integers(1, 9))

    def block(rows: int, columns: int, low: int, high: int) -> np.ndarray:
        cells = st.lists(st.integers(low, high), min_size=rows * columns, max_size=rows * columns)
        return np.array(draw(cells), np.int64).reshape(rows, columns)

    state = QueueState(
        block(1, kinds, 0, 4)[0],
        block(running, kinds, 0, 3),
        block(1, running, 1, 30)[0],
        block(waiting, kinds, 0, 6),
        block(1, waiting, 1, 30)[0],
    )
    return state, block(2, running, 1, 40), block(2, waiting, 1, 40)


@given(queues(), st.sampled_from(sorted(DISCIPLINES)))
def test_twin(case: tuple[QueueState, np.ndarray, np.ndarray], discipline: str) -> None:
    """A job would be told another start than the discipline gives it."""
    state, left, run = case
    found = roll(state, left, run, discipline=discipline)
    for sample in range(2):
        plain = plain_roll(
            state,
            np.minimum(left[sample], state.running_limit_s).tolist(),
            np.minimum(run[sample], state.limit_s).tolist(),
            discipline,
        )
        assert found[sample].tolist() == plain
        for job in range(len(plain)):
            alone = roll(
                state, left[sample : sample + 1], run[sample : sample + 1],
                discipline=discipline, only=job,
            )  # fmt: skip
            assert alone[0, job] == plain[job]


@settings(max_examples=scaled(25))
@given(st.integers(0, 10_000), st.sampled_from(sorted(DISCIPLINES)))
def test_the_replay_says_the_same(seed: int, discipline: str) -> None:
    """A queue that is rolled forward would start otherwise than when a log is replayed."""
    rng = np.random.default_rng(seed)
    procs, n = 8, 12
    run, width = rng.integers(1, 90, n), rng.integers(1, procs + 1, n)
    limit = run + rng.integers(0, 60, n)
    log = ReplayLog("toy", procs, np.zeros(n), run, width, limit, np.zeros(n))
    state = QueueState(np.array([procs]), np.zeros((0, 1)), np.zeros(0), width[:, None], limit)
    found = roll(state, np.zeros((1, 0)), run[None], discipline=discipline)
    assert found[0].tolist() == replay(log, DISPATCHERS[discipline]).start_s.tolist()


def test_arrays_that_do_not_fit_are_refused() -> None:
    """Numbers of one job would be taken for those of another."""
    one = np.ones((1, 1))
    with pytest.raises(BadRequest, match="one length"):
        QueueState(np.ones(1), one, np.ones(1), np.ones((2, 1)), np.ones(1))
    with pytest.raises(BadRequest, match="below 1 s"):
        QueueState(np.ones(1), one, np.ones(1), one, np.zeros(1))
    state = QueueState(np.ones(1), one, np.ones(1), one, np.ones(1))
    with pytest.raises(BadRequest, match="none of"):
        roll(state, one, one, discipline="hope")


def long_queue(waiting: int) -> Callable[[], np.ndarray]:
    """Two futures of a queue of so many jobs."""
    rng = np.random.default_rng(0)
    running, samples = 120, 2
    state = QueueState(
        np.array([20]),
        rng.integers(1, 20, (running, 1)),
        rng.integers(600, 80_000, running),
        2 ** rng.integers(0, 9, (waiting, 1)),
        60 * rng.integers(10, 1440, waiting),
    )
    run = np.exp(rng.normal(8, 1.5, (samples, waiting))).astype(np.int64)
    left = rng.integers(1, 40_000, (samples, running))
    return lambda: roll(state, left, run)


def test_a_long_queue_costs_no_more_than_its_square() -> None:
    """Asking for start times would be too slow to be asked at every submission."""
    short, long = long_queue(250), long_queue(1000)
    assert np.isfinite(long()).all()
    # Each job looks past those that wait before it: 4 times the jobs, 16 times the looks.
    assert least_cpu_s(long) < 22 * least_cpu_s(short)
