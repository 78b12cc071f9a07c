"""Repeats: the last run as the median, its bounds, what it costs, one row = many."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from plancast.predictor.metrics import coverage
from plancast.predictor.state.learned import Settings
from plancast.predictor.state.online import OnlineCorrection
from tests.predictor.state.test_online import stream

WIDE = (0.1, 0.5, 0.8, 0.95)


def repeating(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Jobs of which half run for exactly as long as the last ones, and say so."""
    jobs = stream(n, seed)
    rng = np.random.default_rng(seed + 1)
    low = jobs["logs"][:, :, :1] - 0.7
    jobs["logs"] = np.concatenate([low, jobs["logs"]], axis=2)
    jobs["same"] = np.log(100.0) + rng.normal(0.0, 2.0, n)
    jobs["gap"] = np.where(rng.random(n) < 0.5, 0.05, 3.0)
    agree = jobs["gap"] < 1.0
    jobs["same"][agree] = np.log(100.0) + rng.normal(0.0, 0.4, agree.sum())
    exact = agree & (rng.random(n) < 0.6)
    jobs["log_run"] = np.where(exact, jobs["same"], rng.normal(np.log(100.0), 0.6, n))
    return jobs


def costly_repeats(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Jobs of hours; the last run is theirs where it is short, and much too long elsewhere."""
    jobs = repeating(n, seed)
    rng = np.random.default_rng(seed + 2)
    jobs["logs"] = jobs["logs"] - np.log(100.0) + 10.0
    jobs["gap"] = np.full(n, np.inf)
    jobs["log_run"] = rng.normal(10.0, 0.6, n)
    jobs["far"] = rng.random(n) < 0.3
    jobs["same"] = np.where(jobs["far"], 13.0, jobs["log_run"])
    return jobs


def with_repeats(correction: OnlineCorrection, jobs: dict[str, np.ndarray]) -> np.ndarray:
    """The corrected log quantiles of a stream with repeats."""
    names = ("logs", "log_run", "issue", "end")
    return correction.replay(
        *(jobs[name] for name in names),
        jobs["owner"].tolist(),
        jobs["cohort"],
        jobs["limit"],
        (jobs["same"], jobs["gap"]),
    )[0]


def test_a_repeated_run_time_is_the_median() -> None:
    """Mixing and calibrating would move the median off the value that the last two agree on."""
    jobs = repeating(4000)
    found = with_repeats(OnlineCorrection(WIDE, 2), jobs)
    known = jobs["gap"] < 1.0
    late = np.arange(4000) > 1000
    np.testing.assert_array_equal(found[known & late, 1], jobs["same"][known & late])
    assert (np.diff(found[late], axis=1) >= 0).all()
    covered = coverage(np.exp(jobs["log_run"][late]), np.exp(found[late]), WIDE)
    np.testing.assert_allclose(covered[[0, 2, 3]], (0.1, 0.8, 0.95), atol=0.03)
    # Where run times do not repeat the median still keeps half of the jobs.
    rest = late & ~known
    assert abs((jobs["log_run"][rest] <= found[rest, 1]).mean() - 0.5) < 0.05


@pytest.mark.parametrize("long", [False, True])
def test_repeats_one_by_one_are_the_replay(long: bool) -> None:
    """A repeated run time would be forecast otherwise online than in the evaluation."""
    jobs = costly_repeats(300) if long else repeating(300)
    together = with_repeats(OnlineCorrection(WIDE, 2), jobs)
    correction = OnlineCorrection(WIDE, 2)
    ends: list[tuple[float, int, int]] = []
    for i in range(300):
        while ends and ends[0][0] <= jobs["issue"][i]:
            _, j, number = heapq.heappop(ends)
            correction.ended(number, float(jobs["log_run"][j]))
        found, slip = correction.issue(
            jobs["logs"][i],
            str(jobs["owner"][i]),
            int(jobs["cohort"][i]),
            np.inf,
            (jobs["same"][i], jobs["gap"][i]),
        )
        assert found.tobytes() == together[i].tobytes()
        heapq.heappush(ends, (float(jobs["end"][i]), i, correction.submitted(slip)))


def test_the_last_run_is_the_median_of_whoever_repeats() -> None:
    """An owner whose runs repeat, though not twice in a row, would be forecast by the mixture."""
    n = 4000
    jobs = repeating(n)
    rng = np.random.default_rng(5)
    jobs["gap"] = np.full(n, np.inf)
    jobs["same"] = rng.normal(6.0, 0.6, n)
    mine = jobs["owner"] == "u1"
    jobs["log_run"] = np.where(
        mine, jobs["same"] + rng.normal(0.0, 0.05, n), rng.normal(6.0, 0.6, n)
    )
    found = with_repeats(OnlineCorrection(WIDE, 2), jobs)
    taken = found[:, 1] == jobs["same"]
    late = np.arange(n) > 1500
    assert taken[late & mine].all()
    assert taken[late & ~mine].mean() < 0.01


@pytest.mark.parametrize(("middle", "taken"), [(5.0, True), (10.0, False)])
def test_a_repeat_that_often_errs_by_factors_is_for_short_jobs_alone(
    middle: float, taken: bool
) -> None:
    """Hours would be forecast as minutes, or the run time that most short jobs repeat be missed."""
    n = 3000
    jobs = repeating(n)
    rng = np.random.default_rng(6)
    jobs["gap"] = np.full(n, np.inf)
    jobs["logs"] = jobs["logs"] - np.log(100.0) + middle
    jobs["log_run"] = rng.normal(middle, 0.6, n)
    often = rng.random(n) < 0.6
    jobs["same"] = np.where(often, jobs["log_run"], middle + rng.choice([-2.5, 2.5], n))
    found = with_repeats(OnlineCorrection(WIDE, 2), jobs)
    far = (np.arange(n) > 1500) & ~often
    assert float((found[far, 1] == jobs["same"][far]).mean()) == pytest.approx(
        float(taken), abs=0.02
    )


def test_a_long_repeat_stays_between_levels() -> None:
    """One run of days would be the forecast of a job of hours, and of its high levels too."""
    jobs = costly_repeats(3000)
    found = with_repeats(
        OnlineCorrection(WIDE, 2, settings=Settings(cost_from=8.0, cost_to=9.0)), jobs
    )
    late = np.arange(3000) > 1000
    far, own = late & jobs["far"], late & ~jobs["far"]
    np.testing.assert_array_equal(found[far, 1], found[far, 2])
    assert found[far].max() < 12.0
    between = own & (jobs["same"] > 9.5) & (jobs["same"] < 10.2)
    np.testing.assert_array_equal(found[between, 1], jobs["same"][between])


def test_repeats_that_cost_seconds_are_left() -> None:
    """Repeats that are nearer by factors would be taken where they cost hours."""
    jobs = costly_repeats(3000)
    found = with_repeats(OnlineCorrection(WIDE, 2), jobs)
    late = np.arange(3000) > 1000
    far, low = late & jobs["far"], late & ~jobs["far"] & (jobs["same"] < 9.7)
    assert (found[far, 2] - found[far, 1]).min() > 0.1
    # What lies below the median costs nothing, and is taken as before.
    assert (found[low & (jobs["same"] > 9.5), 1] == jobs["same"][low & (jobs["same"] > 9.5)]).all()


def test_what_repeats_cost_later_changes_nothing_before() -> None:
    """Whether a repeat pays would be known from jobs that still run."""
    jobs = costly_repeats(2000)
    moment = jobs["issue"][1000]
    other = {**jobs, "log_run": np.where(jobs["end"] > moment, 13.0, jobs["log_run"])}
    one, two = (with_repeats(OnlineCorrection(WIDE, 2), j) for j in (jobs, other))
    early = jobs["issue"] <= moment
    assert one[early].tobytes() == two[early].tobytes()
    assert one[~early].tobytes() != two[~early].tobytes()


def test_a_model_keeps_what_repeats_cost_and_an_older_one_has_none() -> None:
    """A loaded model would take repeats that the saved one left, or an older one not be read."""
    jobs = costly_repeats(3000)
    correction = OnlineCorrection(WIDE, 2)
    with_repeats(correction, jobs)
    frame = correction.frame()
    twin, older = OnlineCorrection(WIDE, 2), OnlineCorrection(WIDE, 2)
    twin.take(frame)
    older.take(frame[~frame["array"].str.startswith("repeat_")])
    far = int(np.flatnonzero(jobs["far"])[-1])
    asked = (jobs["logs"][far], "u1", 1, np.inf, (13.0, np.inf))
    kept, again, anew = (c.issue(*asked)[0] for c in (correction, twin, older))
    assert kept.tobytes() == again.tobytes()
    assert anew[1] == anew[2] > kept[1]
