"""The online correction: coverage under drift and delay, mixtures, bounds, one row = many."""

from __future__ import annotations

import heapq
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.predictor.state.learned import Settings
from plancast.predictor.state.online import OnlineCorrection
from tests.conftest import scaled

LEVELS = (0.5, 0.8, 0.95)


def stream(n: int, seed: int = 0, delay_s: float = 50.0) -> dict[str, np.ndarray]:
    """Jobs whose log run times jump by 1 in the middle; two experts, one of them useless."""
    rng = np.random.default_rng(seed)
    level = np.where(np.arange(n) < n // 2, 5.0, 6.0)
    noise = np.array([0.0, 0.3, 0.6])
    expert = np.stack([np.tile(5.0 + noise, (n, 1)), np.tile(9.0 + noise, (n, 1))], axis=1)
    issue = np.cumsum(rng.exponential(10.0, n))
    return {
        "logs": expert,
        "log_run": level + rng.normal(0.0, 0.5, n),
        "issue": issue,
        "end": issue + rng.exponential(delay_s, n),
        "owner": np.array([f"u{k}" for k in rng.integers(0, 5, n)]),
        "cohort": rng.integers(0, 2, n),
        "limit": np.full(n, np.inf),
    }


def replayed(correction: OnlineCorrection, jobs: dict[str, np.ndarray]) -> np.ndarray:
    """The corrected log quantiles of a stream."""
    return correction.replay(
        jobs["logs"],
        jobs["log_run"],
        jobs["issue"],
        jobs["end"],
        jobs["owner"].tolist(),
        jobs["cohort"],
        jobs["limit"],
    )[0]


def test_coverage_holds_through_a_jump_and_delayed_ends() -> None:
    """Quantiles would keep too little, or too much, after the log has changed."""
    jobs = stream(6000)
    found = replayed(OnlineCorrection(LEVELS, 2, settings=Settings(window=500)), jobs)
    covered = jobs["log_run"][:, None] <= found
    np.testing.assert_allclose(covered[500:].mean(axis=0), LEVELS, atol=0.025)
    np.testing.assert_allclose(covered[4000:].mean(axis=0), LEVELS, atol=0.03)
    # Without any correction the jump leaves almost nothing below the median.
    assert (jobs["log_run"][4000:] <= jobs["logs"][4000:, 0, 0]).mean() < 0.1


def test_levels_stand_while_thousands_of_ends_are_awaited() -> None:
    """What was promised nothing would teach that all is too long, and then levels would swing."""
    jobs = stream(9000)
    jobs["log_run"] = np.random.default_rng(1).normal(5.0, 0.5, 9000)
    jobs["end"] = jobs["issue"] + 25_000.0  # about 2,500 jobs later
    jobs["owner"][:] = "q one"
    levels = (0.1, *LEVELS)
    jobs["logs"] = 5.0 + 0.5 * np.tile([-1.28, 0.0, 0.84, 1.64], (9000, 2, 1))
    covered = jobs["log_run"][:, None] <= replayed(OnlineCorrection(levels, 2), jobs)
    for stretch in np.split(covered[3000:], 3):
        np.testing.assert_allclose(stretch.mean(axis=0), levels, atol=0.05)


def test_the_useless_expert_is_left_out() -> None:
    """An expert that is off by e^4 would spoil the mixture, as long as the log stays the same."""
    jobs = stream(1000)
    correction = OnlineCorrection(LEVELS, 2)
    _, mixed = correction.replay(
        jobs["logs"],
        jobs["log_run"],
        jobs["issue"],
        jobs["end"],
        jobs["owner"].tolist(),
        jobs["cohort"],
        jobs["limit"],
    )
    assert np.abs(mixed[200:500] - jobs["logs"][200:500, 0]).max() < 0.05


def test_one_by_one_is_the_replay() -> None:
    """A job would get another forecast online than in the evaluation."""
    jobs = stream(400)
    jobs["log_run"][::7] = np.nan
    together = replayed(OnlineCorrection(LEVELS, 2), jobs)
    correction = OnlineCorrection(LEVELS, 2)
    ends: list[tuple[float, int, int]] = []
    for i in range(400):
        while ends and ends[0][0] <= jobs["issue"][i]:
            _, j, number = heapq.heappop(ends)
            correction.ended(number, float(jobs["log_run"][j]))
        found, slip = correction.issue(
            jobs["logs"][i], str(jobs["owner"][i]), int(jobs["cohort"][i])
        )
        assert found.tobytes() == together[i].tobytes()
        heapq.heappush(ends, (float(jobs["end"][i]), i, correction.submitted(slip)))


@settings(max_examples=scaled(40), deadline=None)
@given(seed=st.integers(0, 99), wild=st.floats(0.1, 5.0))
def test_quantiles_never_cross_nor_pass_the_limit(seed: int, wild: float) -> None:
    """A higher level would reserve less than a lower one, or more than the kill limit."""
    rng = np.random.default_rng(seed)
    jobs = stream(300, seed)
    jobs["logs"] = rng.normal(5.0, wild, jobs["logs"].shape)
    jobs["limit"] = rng.uniform(3.0, 8.0, 300)
    found = replayed(OnlineCorrection(LEVELS, 2, settings=Settings(window=50)), jobs)
    assert (np.diff(found, axis=1) >= 0).all()
    assert (found <= jobs["limit"][:, None]).all()
    assert np.isfinite(found).all()


def test_no_finite_quantile_is_promised_before_enough_jobs_ended() -> None:
    """Nine ended jobs would be said to bound the tenth at 95%."""
    jobs = stream(60, delay_s=0.1)
    found = np.exp(replayed(OnlineCorrection(LEVELS, 2), jobs))
    for k, level in enumerate(LEVELS):
        needed = math.ceil(level / (1 - level) - 1e-9)
        assert np.isinf(found[:needed, k]).all()
        assert np.isfinite(found[needed + 2 :, k]).all()


def test_what_ends_later_changes_nothing_before() -> None:
    """The calibration would know run times from the future."""
    jobs = stream(800)
    moment = jobs["issue"][400]
    other = {**jobs, "log_run": np.where(jobs["end"] > moment, 1.0, jobs["log_run"])}
    one, two = (replayed(OnlineCorrection(LEVELS, 2), j) for j in (jobs, other))
    early = jobs["issue"] <= moment
    assert one[early].tobytes() == two[early].tobytes()
    assert one[~early].tobytes() != two[~early].tobytes()


def test_correction_survives_its_frame() -> None:
    """A loaded model would correct otherwise than the saved one."""
    jobs = stream(500)
    correction = OnlineCorrection(LEVELS, 2)
    replayed(correction, jobs)
    twin = OnlineCorrection.from_card(json.loads(json.dumps(correction.card())))
    twin.take(correction.frame())
    copy = correction.copy()
    for owner in ("u1", "never seen"):
        one, _ = correction.issue(jobs["logs"][0], owner, 1)
        for other in (twin, copy):
            assert one.tobytes() == other.issue(jobs["logs"][0], owner, 1)[0].tobytes()
    # Owners that come one by one, after it was loaded: there is room for more than have come.
    for number in range(3):
        twin.submitted(twin.issue(jobs["logs"][0], f"new {number}", 1)[1])
    again = OnlineCorrection(LEVELS, 2)
    again.take(twin.frame())
    for owner in ("u1", "new 2", "never seen"):
        one, _ = twin.issue(jobs["logs"][0], owner, 1)
        assert one.tobytes() == again.issue(jobs["logs"][0], owner, 1)[0].tobytes()
    later = stream(300, seed=1)
    assert replayed(copy, later).tobytes() != replayed(OnlineCorrection(LEVELS, 2), later).tobytes()
    with pytest.raises(ValueError, match="reshape"):
        OnlineCorrection(LEVELS, 3).take(correction.frame())
