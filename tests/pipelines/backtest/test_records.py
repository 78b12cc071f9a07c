"""Recorded forecasts: played back they change nothing, moved or transformed they do as said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.backtest import backtest as grid
from plancast.pipelines.backtest.estimates import Cell, Estimate, parse_estimates
from plancast.pipelines.backtest.records import (
    TRANSFORMS,
    LastTwo,
    Playback,
    Record,
    Recorder,
    jittered,
    jittered_points,
    transformed,
)
from plancast.pipelines.cli import main
from plancast.planner.instances.generate import swf_text
from plancast.planner.instances.generate_log import generate_log
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.metrics import paired_interval
from plancast.planner.worlds.replay import ReplayLog, replay


def small_log(n: int = 400, seed: int = 0) -> ReplayLog:
    """A log that queues, of users who ask for too much."""
    rng = np.random.default_rng(seed)
    run = np.ceil(rng.lognormal(5.0, 1.5, n)).astype(np.int64)
    return ReplayLog(
        "small",
        16,
        np.cumsum(rng.exponential(60.0, n)).astype(np.int64),
        run,
        rng.integers(1, 9, n),
        np.ceil(run * rng.choice([1.0, 2.0, 5.0], n)).astype(np.int64),
        rng.integers(0, 6, n),
    )


class Guess:
    """Forecasts that grow better with every end: those of waiting jobs are renewed."""

    levels = (0.1, 0.5, 0.9)

    def __init__(self, log: ReplayLog) -> None:
        self.log, self.known = log, 0

    def at_submit(self, job: int, now_s: int) -> np.ndarray:
        """Wide at first, and narrower as jobs end."""
        wide = 1.0 + 3.0 / (1.0 + 0.05 * self.known)
        return self.log.run_s[job] * np.array([1.0 / wide, 1.0, wide])

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """Count it."""
        self.known += 1

    def renewed(self, waiting: np.ndarray, now_s: int) -> Iterator[tuple[int, np.ndarray]]:
        """Every third of the waiting jobs."""
        for job in waiting.tolist()[::3]:
            yield job, self.at_submit(job, now_s)


@pytest.fixture(scope="module")
def recorded() -> tuple[ReplayLog, np.ndarray, Record]:
    """A log, its starts under the planner, and what was forecast."""
    log = small_log()
    recorder = Recorder(Guess(log), len(log))
    found = replay(log, DISPATCHERS["planner"], recorder)
    return log, found.start_s, recorder.record()


def test_played_back_the_replay_is_the_same(
    recorded: tuple[ReplayLog, np.ndarray, Record],
) -> None:
    """A jitter of nothing would move starts: what is measured would be the record's own error."""
    log, start, record = recorded
    assert len(record.renewed_job) > 10
    again = replay(log, DISPATCHERS["planner"], Playback(record))
    np.testing.assert_array_equal(again.start_s, start)
    still = replay(log, DISPATCHERS["planner"], Playback(jittered(record, log, 3, sigma=0.0)))
    np.testing.assert_array_equal(still.start_s, start)
    moved = replay(log, DISPATCHERS["planner"], Playback(jittered(record, log, 3)))
    assert (moved.start_s != start).any()


def test_one_factor_for_a_job_on_all_levels_and_renewals(
    recorded: tuple[ReplayLog, np.ndarray, Record],
) -> None:
    """Levels would be moved apart, or a renewal undo the jitter, or a limit be passed."""
    log, _, record = recorded
    moved = jittered(record, log, 7)
    limit = log.requested_s[:, None].astype(float)
    assert (moved.submitted_s <= limit).all()
    free = (moved.submitted_s < limit).all(axis=1) & (record.submitted_s < limit).all(axis=1)
    assert free.sum() > 50
    factor = moved.submitted_s / record.submitted_s
    np.testing.assert_allclose(factor[free], np.repeat(factor[free, :1], 3, axis=1))
    assert 0.005 < np.log(factor[free, 0]).std() < 0.015
    job = record.renewed_job
    below = free[job] & (moved.renewed_s < limit[job]).all(axis=1)
    np.testing.assert_allclose(
        (moved.renewed_s / record.renewed_s)[below], factor[job][below], rtol=1e-12
    )
    assert (jittered(record, log, 8).submitted_s != moved.submitted_s).any()


def test_points_keep_their_ties() -> None:
    """Jobs that asked for the same would be put in another order by chance."""
    points = np.array([600, 60, 600, 3600, 60, 5], np.int64)
    moved = jittered_points(points, points, 4)
    assert moved[0] == moved[2]
    assert moved[1] == moved[4]
    assert (moved <= points).all()
    assert (jittered_points(np.arange(1000, 5000), None, 4) != np.arange(1000, 5000)).any()


def test_the_last_two_as_an_estimator_are_the_kernels() -> None:
    """Jitters of EASY++ would be of another rule."""
    log = small_log(seed=1)
    plain = replay(log, DISPATCHERS["easypp"], "last_two")
    asked = replay(log, DISPATCHERS["easypp"], LastTwo(log, 0, sigma=0.0))
    np.testing.assert_array_equal(plain.start_s, asked.start_s)
    moved = replay(log, DISPATCHERS["easypp"], LastTwo(log, 0))
    assert (moved.start_s != plain.start_s).any()


def test_transforms(recorded: tuple[ReplayLog, np.ndarray, Record]) -> None:
    """A forecast called inverted, permuted or reversed would be another kind of nonsense."""
    log, _, record = recorded
    permuted = transformed(record, log, "permuted")
    assert not len(permuted.renewed_job)
    np.testing.assert_array_equal(
        np.sort(permuted.submitted_s[:, 1]), np.sort(record.submitted_s[:, 1])
    )
    inverted = transformed(record, log, "inverted")
    np.testing.assert_allclose(
        inverted.submitted_s[:, ::-1] * np.maximum(record.submitted_s, 1.0),
        np.repeat(log.requested_s[:, None] ** 2.0, 3, axis=1),
    )
    assert (np.diff(inverted.submitted_s, axis=1) >= 0).all()
    assert (transformed(record, log, "hour").submitted_s == 3600.0).all()
    reversed_s = transformed(record, log, "reversed").submitted_s[:, 0]
    assert reversed_s[np.argmax(log.run_s)] == log.run_s.min()
    np.testing.assert_array_equal(np.sort(reversed_s), np.sort(log.run_s))
    with pytest.raises(ValueError, match="none of permuted"):
        transformed(record, log, "upside_down")


def test_transforms_are_written_with_a_tilde() -> None:
    """The command line would not know the estimates that it promises."""
    for how in TRANSFORMS:
        assert parse_estimates(f"model~{how}").name == f"model~{how}"
    with pytest.raises(ValueError, match="permuted, inverted, hour, reversed"):
        parse_estimates("oracle~hour")


def test_intervals_over_replays_and_weeks() -> None:
    """An interval would leave out that another jitter gives another mean."""
    rng = np.random.default_rng(0)
    submit = np.arange(1000) * 3600
    shift = rng.normal(0.0, 5.0, (20, 1))
    low, high = paired_interval(shift + rng.normal(0.0, 0.1, (20, 1000)), submit)
    assert low < shift.mean() < high
    assert high - low > 2.0
    low, high = paired_interval(np.full((3, 1000), 2.5), submit)
    assert low == high == 2.5


def test_a_backtest_over_jitters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report would lack the spread, or a kept cell another number of jitters."""
    monkeypatch.chdir(tmp_path)
    Path("log.swf").write_text(swf_text(generate_log(420, 8, 24, 5)))
    words = ["backtest", "log.swf", "--dispatchers", "easy,planner", "--jobs", "1"]
    words += ["--estimates", "requested,model,model~permuted", "--jitters", "3"]

    def run(*more: str) -> dict[str, dict[str, object]]:
        with pytest.raises(SystemExit) as left:
            main([*words, *more, "--json", "out.json"])
        assert not left.value.code
        cells = json.loads(Path("out.json").read_text())["cells"]
        return {f"{c['dispatcher']} {c['estimates']}": c for c in cells}

    cells = run()
    assert len(cells) == 6
    for cell in cells.values():
        jitter = cell["jitter"]
        assert isinstance(jitter, dict)
        assert jitter["n"] == 3
        for name in ("bsld_mean", "bsld_max", "bsld_p999"):
            assert set(jitter[name]) == {"mean", "sd"}
            assert jitter[name]["mean"] > 0
    against = cells["planner model"]["jitter"]["against_first"]  # type: ignore[index]
    assert against["lo"] <= against["mean"] <= against["hi"]
    assert run() == cells
    test = grid.open_backtest("log.swf")
    cell = Cell("planner", Estimate("model"))
    assert grid.is_kept(test, cell, Path("data/backtests"), 3)
    assert not grid.is_kept(test, cell, Path("data/backtests"), 4)
