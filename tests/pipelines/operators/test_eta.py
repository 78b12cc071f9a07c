"""Start times: what is known when, what is counted, and what is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.operators.eta import eta, eta_of_request
from plancast.pipelines.operators.eta_backtest import eta_backtest, weights_of
from plancast.pipelines.operators.live_queue import LiveJob, LiveQueue, Node
from plancast.pipelines.operators.waits import (
    GRID,
    RUN_LEVELS,
    Past,
    bursts,
    corrected,
    forecast_along,
    knots,
    moments_of,
    scores_of,
)
from plancast.planner.instances.generate_log import generate_log, swf_text
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import PlanRequest
from plancast.planner.worlds import wait_kernel
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import ReplayLog, replay

NOW = 1_000_000
ALL = frozenset(("n1", "n2"))
KEYS = {
    "log", "jobs", "at_once_share", "scored", "p90_coverage", "p90_coverage_by_month",
    "p50_within_10_min", "mae_min", "by_limits",
}  # fmt: skip


def busy_past(n: int = 300) -> Past:
    """A replayed log on a machine that is always full."""
    rng = np.random.default_rng(0)
    run = np.ceil(np.exp(rng.normal(7.0, 1.0, n))).astype(np.int64)
    limit = run + rng.integers(0, 7200, n)
    log = ReplayLog(
        "busy", 8, np.sort(rng.integers(0, 400 * n, n)), run, rng.integers(1, 6, n), limit,
        rng.integers(0, 5, n),
    )  # fmt: skip
    done = replay(log, DISPATCHERS["easy"])
    quantiles = run[:, None] * np.array([0.4, 0.7, 1.0, 1.6, 2.0, 2.5])
    return Past(
        log.submit_s, done.start_s, done.end_s, log.width, limit, run,
        bursts(log.user, log.width), quantiles, RUN_LEVELS, 8,
    )  # fmt: skip


def moments(past: Past) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All moments of a past."""
    return moments_of(past, np.flatnonzero(past.start_s > past.submit_s))


def test_forecasts_come_at_submission_and_each_hour() -> None:
    """A job would be scored when it had started, or hours of waiting not at all."""
    past = busy_past()
    moment, job, hour = moments(past)
    assert (np.diff(moment) >= 0).all()
    assert (moment < past.start_s[job]).all()
    assert (moment == past.submit_s[job] + 3600 * hour).all()
    longest = int(np.argmax(past.start_s - past.submit_s))
    wait = int((past.start_s - past.submit_s)[longest])
    assert sorted(hour[job == longest]) == list(range(-(-wait // 3600)))
    weight = weights_of(job, hour)
    assert weight[(job == longest) & (hour > 0)].sum() == pytest.approx(1.0)


def test_nothing_is_known_early() -> None:
    """A start, an end or a run time of the future would leak into a forecast."""
    past = busy_past(180)
    times = moments(past)
    waits = forecast_along(past, times, samples=5, seed=0)
    at = len(times[0]) // 2
    now = times[0][at]
    later_end, later_start = past.end_s > now, past.start_s > now
    changed = replace(
        past,
        end_s=np.where(later_end, past.end_s + 5000, past.end_s),
        start_s=np.where(later_start, past.start_s + 2500, past.start_s),
        run_s=np.where(later_end, past.run_s * 3, past.run_s),
    )
    again = forecast_along(changed, times, samples=5, seed=0)
    assert np.array_equal(waits.rolled_s[: at + 1], again.rolled_s[: at + 1])
    assert np.array_equal(waits.by_limits_s[: at + 1], again.by_limits_s[: at + 1])
    assert not np.array_equal(waits.by_truth_s, again.by_truth_s)
    found = [
        corrected(waits.rolled_s, waits.by_limits_s, waits.hour, waits.moment_s,
                  p.start_s[waits.job].astype(float))
        for p in (past, changed)
    ]  # fmt: skip
    assert np.array_equal(found[0][: at + 1], found[1][: at + 1])
    assert not np.array_equal(found[0], found[1])


def test_limits_as_run_times_are_the_replay() -> None:
    """*By truth* would not be the discipline: with no arrivals after it, it is exact."""
    past = busy_past(150)
    at_once = replace(past, submit_s=np.zeros_like(past.submit_s))
    log = ReplayLog("q", 8, at_once.submit_s, past.run_s, past.width, past.limit_s,
                    np.zeros(150))  # fmt: skip
    done = replay(log, DISPATCHERS["easy"])
    at_once = replace(at_once, start_s=done.start_s, end_s=done.end_s)
    waits = forecast_along(
        at_once, moments_of(at_once, np.flatnonzero(done.start_s > 0), hourly=False),
        samples=2, seed=0,
    )  # fmt: skip
    assert np.array_equal(waits.by_truth_s, done.start_s[waits.job])


def test_samples_have_their_quantiles() -> None:
    """Run times would be drawn from another distribution, or below a job's age."""
    jobs = 2
    quantiles = np.array([[10.0, 20, 40, 80, 160, 300]] * jobs)
    limits = np.array([1e6, 250.0])
    drawn = wait_kernel.sample_runs(
        scores_of(RUN_LEVELS), knots(quantiles, limits), np.zeros(jobs), limits,
        np.arange(jobs), 0.5, 20_000, 0,
    )  # fmt: skip
    for level, value in zip(RUN_LEVELS, quantiles[0], strict=True):
        assert (drawn[:, 0] <= value).mean() == pytest.approx(level, abs=0.015)
    assert drawn[:, 1].max() == 250.0
    aged = wait_kernel.sample_runs(
        scores_of(RUN_LEVELS), knots(quantiles, limits), np.array([40.0, 0]), limits,
        np.arange(jobs), 0.5, 20_000, 0,
    )  # fmt: skip
    assert aged[:, 0].min() > 40
    # P(R <= 160 | R > 40) = (.9 - .5) / .5
    assert (aged[:, 0] <= 160).mean() == pytest.approx(0.8, abs=0.015)


def test_jobs_of_a_burst_share_their_luck() -> None:
    """Ten jobs of one user would never all be long, so queues would look certain."""
    quantiles = np.array([[10.0, 20, 40, 80, 160, 300]] * 3)
    limits = np.full(3, 1e6)
    drawn = wait_kernel.sample_runs(
        scores_of(RUN_LEVELS), knots(quantiles, limits), np.zeros(3), limits,
        np.array([0, 0, 1]), 0.5, 5000, 0,
    )  # fmt: skip
    together = np.corrcoef(np.log(drawn).T)
    assert together[0, 1] > 0.4
    assert abs(together[0, 2]) < 0.1


def job(name: str, cores: int, limit_s: int, **more: object) -> LiveJob:
    """A waiting job of two nodes' partition."""
    return LiveJob(name, {"cpu": cores}, ALL, limit_s, NOW - 60, place="partition all",
                   **more)  # type: ignore[arg-type]  # fmt: skip


def test_reasons_and_what_helps() -> None:
    """A user would be told to ask for what would not help, or of a start that cannot be."""
    running = LiveJob("r", {"cpu": 6}, ALL, 7200, NOW - 600, NOW - 600)
    waiting = (
        job("now", 1, 600),
        job("head", 8, 3600),
        job("long", 1, 90_000),
        job("wide", 3, 600),
        job("never", 99, 600),
        job("held", 1, 600, barred="is held by its user"),
    )
    nodes = (Node("n1", {"cpu": 4}), Node("n2", {"cpu": 4}))
    queue = LiveQueue(NOW, nodes, (running,), waiting)
    quantiles = np.tile([[600.0, 7000.0]], (6, 1))
    facts = eta(queue, quantiles, (0.1, 0.9), samples=50)
    found = {entry["id"]: entry for entry in facts["jobs"]}
    assert list(found) == ["now", "head", "long", "wide", "never", "held"]
    assert found["now"]["p90_s"] == NOW
    assert found["now"]["reason"].startswith("starts now")
    assert found["head"]["reason"].startswith("waits for 7 cores of partition all; ")
    assert NOW < found["head"]["p10_s"] <= found["head"]["p50_s"] <= found["head"]["p90_s"]
    assert found["head"]["p90_s"] <= NOW + 6600
    assert found["long"]["reason"].startswith("fits now, but would delay job head")
    assert found["long"]["helps"] == "at most 1 h 50 min requested and it would start now"
    assert found["wide"]["helps"] == "with at most 1 cores it would start now"
    assert found["never"]["p50_s"] is None
    assert "never fits" in found["never"]["reason"]
    assert found["held"] == {"id": "held", "p10_s": None, "p50_s": None, "p90_s": None,
                            "reason": "is held by its user", "helps": ""}  # fmt: skip
    # What it advises is true: the same queue with the limit that it names.
    shorter = tuple(replace(j, limit_s=6600) if j.id == "long" else j for j in waiting)
    again = eta(replace(queue, waiting=shorter), quantiles, (0.1, 0.9), samples=5)
    assert {e["id"]: e for e in again["jobs"]}["long"]["p90_s"] == NOW


def request() -> PlanRequest:
    """Two workers, one running task, two that wait."""
    workers = (Worker("w1", {"cpu": 4000}), Worker("w2", {"cpu": 4000}))
    running = Running(Task("r", {"cpu": 8000 // 2}, requested_s=100, shards=2), ("w1", "w2"), NOW)
    pending = (Task("a", {"cpu": 2000}, requested_s=50), Task("b", {"cpu": 8000}, after=("a",)))
    estimates = {t: {"*": DurationEstimate((0.1, 0.9), (20, 80))} for t in ("r", "a", "b")}
    return PlanRequest("q", Snapshot(0, NOW, workers, pending, (running,)), estimates)


def test_a_request_is_a_queue_too() -> None:
    """A request's own estimates would not be used, or a successor be told a start."""
    facts = eta_of_request(request())
    first, second = facts["jobs"]
    assert NOW < first["p10_s"] <= first["p90_s"] <= NOW + 100
    assert "waits for 2 cores of the cluster" in first["reason"]
    assert second["p50_s"] is None
    assert "predecessor a" in second["reason"]
    with pytest.raises(BadRequest, match="2 or more"):
        eta_of_request(request(), samples=1)


def test_other_disciplines() -> None:
    """A site that keeps every reservation would be told starts by overtaking ones."""
    running = LiveJob("r", {"cpu": 6}, ALL, 7200, NOW - 600, NOW - 600)
    waiting = (job("head", 8, 3600), job("second", 6, 6000), job("small", 2, 9000))
    queue = LiveQueue(NOW, (Node("n1", {"cpu": 4}), Node("n2", {"cpu": 4})), (running,), waiting)
    certain = np.array([[7000.0, 7001]] + [[3000.0, 3001]] * 3)
    found = {}
    for discipline in ("easy", "conservative"):
        facts = eta(queue, certain, (0.1, 0.9), samples=5, discipline=discipline)
        found[discipline] = {entry["id"]: entry for entry in facts["jobs"]}
    # By limits it would run until 9,000 and the head starts at 6,600.
    assert found["easy"]["small"]["helps"] == "at most 1 h 50 min requested and it would start now"
    assert found["conservative"]["small"]["helps"] == ""
    assert "a job before it" in found["conservative"]["small"]["reason"]
    asked = request()
    pending = (asked.snapshot.pending[0], replace(asked.snapshot.pending[1], shards=2,
                                                  demand={"cpu": 4000}))  # fmt: skip
    asked = replace(asked, snapshot=replace(asked.snapshot, pending=pending))
    planned = eta_of_request(asked, discipline="planner")["jobs"]
    assert [entry["id"] for entry in planned] == ["a", "b"]
    assert NOW < planned[0]["p10_s"] <= planned[0]["p50_s"] <= planned[0]["p90_s"]
    assert planned[1]["p50_s"] > planned[0]["p50_s"]
    assert "predecessor a" in planned[1]["reason"]


@pytest.mark.parametrize("dispatcher", ["easy", "conservative"])
def test_the_backtest_of_a_small_log(
    dispatcher: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report's shares would not be those of the forecasts, or its keys be others."""
    path = tmp_path / "log.swf"
    path.write_text(swf_text(generate_log(300, 8, 24, 0)))
    out = tmp_path / "eta.json"
    with pytest.raises(SystemExit) as end:
        main(["eta", "--backtest", str(path), "--samples", "10", "--json", str(out),
              "--dispatcher", dispatcher])  # fmt: skip
    assert not end.value.code
    facts = json.loads(out.read_text())
    assert facts.keys() >= KEYS
    assert facts["by_limits"].keys() == {"p50_within_10_min", "mae_min"}
    assert 0 < facts["at_once_share"] < 1
    assert facts["scored"] <= facts["jobs"] * (1 - facts["at_once_share"]) + 1
    assert facts["by_true_run_times"]["mae_min"] < facts["by_limits"]["mae_min"]
    assert "within 10 min" in capsys.readouterr().out
    with pytest.raises(BadRequest, match="none of easy"):
        eta_backtest(path, dispatcher="sjf")


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ([], "name one of"),
        (["--site", "slurm", "--queue", "q.json"], "name one of"),
        (["--site", "moab"], "'moab'"),
        (["--queue", "q.json"], "go together"),
        (["--queue", "q.json", "--nodes", "n.json"], "--model"),
        (["missing.json"], "no such file"),
        (["missing.json", "--dispatcher", "sjf"], "none of easy, conservative, planner"),
    ],
)
def test_impossible_options_are_one_sentence(
    options: list[str], needle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong option would be a traceback."""
    with pytest.raises(SystemExit) as end:
        main(["eta", *options])
    assert end.value.code == 2
    said = capsys.readouterr().err.strip()
    assert needle in said
    assert "\n" not in said


def test_levels_are_on_the_grid() -> None:
    """The quantiles that are told would be others of the samples."""
    assert GRID[1] == 0.1
    assert GRID[9] == 0.5
    assert GRID[17] == 0.9
