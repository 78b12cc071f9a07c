"""The conformal correction: ranks by hand, coverage on exchangeable rows, cohorts."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from predictor.calibrate import EVERYONE, ConformalShift


@given(n=st.integers(1, 60), level=st.sampled_from([0.1, 0.5, 0.8, 0.9, 0.95]))
def test_shift_is_the_finite_sample_rank(n: int, level: float) -> None:
    """The correction would be off by one rank, and the promised coverage not hold."""
    scores = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    shift = ConformalShift((level,), min_rows=1).fit(
        np.ones((n, 1)), np.exp(scores), [EVERYONE] * n
    )
    rank = min(n, math.ceil(round((n + 1) * level, 9)))
    np.testing.assert_allclose(shift.shifts[EVERYONE], [rank])


def test_coverage_is_restored() -> None:
    """Quantiles that are wrong by a factor would stay wrong after the correction."""
    rng = np.random.default_rng(0)
    levels = (0.1, 0.5, 0.9)
    true = np.exp(rng.normal(5, 1, 4000))
    wrong = np.tile([[10.0, 20.0, 30.0]], (4000, 1))
    shift = ConformalShift(levels).fit(wrong[:2000], true[:2000], ["known"] * 2000)
    mended = shift.correct(wrong[2000:], ["known"] * 2000)
    np.testing.assert_allclose((true[2000:, None] <= mended).mean(axis=0), levels, atol=0.04)


def test_small_cohorts_share_everyones_shift() -> None:
    """A handful of new users would set their own correction, or spoil that of the others."""
    true = np.concatenate([np.full(300, math.e), np.full(10, math.e**5)])
    cohorts = ["known"] * 300 + ["new"] * 10
    shift = ConformalShift((0.5,), min_rows=200).fit(np.ones((310, 1)), true, cohorts)
    assert set(shift.shifts) == {EVERYONE, "known"}
    np.testing.assert_allclose(shift.correct(np.ones((2, 1)), ["new", "known"]), math.e)
    large = ConformalShift((0.5,), min_rows=10).fit(np.ones((310, 1)), true, cohorts)
    np.testing.assert_allclose(
        large.correct(np.ones((2, 1)), ["new", "known"]), [[math.e**5], [math.e]]
    )


def test_too_few_rows_correct_nothing_and_order_is_kept() -> None:
    """Five rows would move a 95 % quantile, or shifted quantiles cross."""
    few = ConformalShift((0.5, 0.95)).fit(np.ones((5, 2)), np.full(5, 9.0), ["known"] * 5)
    np.testing.assert_array_equal(few.correct(np.array([[2.0, 3.0]]), ["known"]), [[2.0, 3.0]])
    crossing = ConformalShift((0.1, 0.9))
    crossing.shifts[EVERYONE] = [2.0, -2.0]
    assert (np.diff(crossing.correct(np.array([[5.0, 6.0]]), ["known"])) >= 0).all()


def test_correction_survives_its_card() -> None:
    """A loaded model would correct otherwise than the saved one."""
    true = np.exp(np.random.default_rng(0).normal(0, 1, 500))
    shift = ConformalShift((0.5, 0.9)).fit(np.ones((500, 2)), true, ["known", "new"] * 250)
    twin = ConformalShift.from_card((0.5, 0.9), json.loads(json.dumps(shift.card())))
    quantiles = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    cohorts = ["new", "known", "other"]
    assert twin.correct(quantiles, cohorts).tobytes() == shift.correct(quantiles, cohorts).tobytes()
