"""Censoring: weights by hand and against the truth, kill limits learned from the log."""

from __future__ import annotations

import numpy as np

from plancast.predictor.censoring import (
    censoring_weights,
    kill_grace_s,
    queue_limits,
    tolerated_share,
)


def test_weights_by_hand() -> None:
    """Jobs that still run would not be stood in for by the ended ones that outlasted them."""
    # At 2 s one of the four at risk is still being watched: G after it is 3/4, then 2 at risk.
    weights = censoring_weights(np.array([1.0, 3.0, 5.0]), np.array([2.0, 4.0]))
    np.testing.assert_allclose(weights, [1.0, 4 / 3, 4 / 3 * 2])
    assert (censoring_weights(np.array([1.0, 9.0]), np.empty(0)) == 1.0).all()
    assert censoring_weights(np.array([9.0]), np.arange(1.0, 9.0)).max() <= 10.0


def test_weighted_median_is_the_true_one() -> None:
    """Recent jobs would teach run times that are too short: the long ones have not ended."""
    rng = np.random.default_rng(0)
    run = rng.exponential(100.0, 20_000)
    watched = rng.uniform(0.0, 500.0, 20_000)
    ended = run <= watched
    weights = censoring_weights(run[ended], watched[~ended])
    order = np.argsort(run[ended])
    share = np.cumsum(weights[order]) / weights.sum()
    weighted = run[ended][order][np.searchsorted(share, 0.5)]
    true = 100.0 * np.log(2.0)
    assert abs(weighted - true) < 0.05 * true
    assert np.median(run[ended]) < 0.88 * true


def test_the_grace_of_a_kill_limit_is_learned() -> None:
    """A quantile would be cut to a request at which nobody is killed, or not to one that kills."""
    requested = np.full(1000, 100.0)
    within = np.linspace(1.0, 100.0, 1000)
    assert kill_grace_s(within, requested) == 0.0
    late = within.copy()
    late[:50] = 130.0
    assert kill_grace_s(late, requested) == 60.0
    late[:50] = 300.0
    assert kill_grace_s(late, requested) == 240.0
    late[:260] = 156.0  # a quarter of the jobs ends within a minute of the limit, a few later
    assert kill_grace_s(late, requested) == 60.0
    late[:50] = 2e4
    assert kill_grace_s(late, requested) == np.inf
    assert kill_grace_s(within, np.full(1000, np.inf)) == np.inf
    assert kill_grace_s(within, np.full(1000, np.nan)) == np.inf


def test_a_queue_needs_enough_jobs_for_a_limit() -> None:
    """A handful of short jobs would cap all that a queue will ever run."""
    runs = np.concatenate([np.arange(1.0, 1001.0), np.ones(10)])
    limits = queue_limits(runs, ["long"] * 1000 + ["new"] * 10)
    assert list(limits) == ["long"]
    assert 990.0 < limits["long"] <= 1000.0


def test_a_limit_lies_above_every_level_that_is_forecast() -> None:
    """A quantile at 0.995 would be cut to what one job in two hundred outlasts."""
    runs = np.arange(1.0, 10_001.0)
    assert queue_limits(runs, ["q"] * 10_000, 0.995)["q"] > 9985.0
    assert kill_grace_s(runs, runs - 600.0 * (runs > 9970), tolerated_share(0.95)) == 0.0
    assert kill_grace_s(runs, runs - 600.0 * (runs > 9970), tolerated_share(0.995)) == 600.0
