"""Splits along time: nothing that was unknown at a split's moment is trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.predictor.splits import known_at_s, rolling_origin, split_at, split_by_share
from tests.conftest import scaled
from tests.oracles.toy_logs import toy_log, wild_logs

SHARES = st.floats(0.0, 0.5)


@settings(max_examples=scaled(40), deadline=None)
@given(log=wild_logs(), train=SHARES, calibration=SHARES)
def test_parts_are_in_order_and_embargoed(
    log: pd.DataFrame, train: float, calibration: float
) -> None:
    """A row would be in two parts, or train although its job still ran at the split."""
    split = split_by_share(log, train, calibration)
    submit, known = log["submit_s"].to_numpy(), known_at_s(log)
    parts = np.concatenate([split.train, split.calibration, split.test])
    assert len(set(parts.tolist())) == len(parts)
    assert (known[split.train] <= split.calibration_from_s).all()
    assert (known[split.calibration] <= split.test_from_s).all()
    assert (submit[split.train] < split.calibration_from_s).all()
    assert (submit[split.calibration] >= split.calibration_from_s).all()
    assert (submit[split.calibration] < split.test_from_s).all()
    assert (submit[split.test] >= split.test_from_s).all()
    left_out = np.setdiff1d(np.arange(len(log)), parts)
    moment = np.where(
        submit < split.calibration_from_s, split.calibration_from_s, split.test_from_s
    )
    assert ((known > moment) | ~np.isfinite(known))[left_out].all()


@settings(max_examples=scaled(40), deadline=None)
@given(log=wild_logs(), folds=st.integers(1, 4), first=st.floats(0.1, 0.9))
def test_rolling_origin_walks_forward(log: pd.DataFrame, folds: int, first: float) -> None:
    """A test stretch would be tested twice, left out, or have trained its own model."""
    splits = list(rolling_origin(log, folds, first))
    assert 0 <= len(splits) <= folds
    tested = np.concatenate([s.test for s in splits]) if splits else np.array([], dtype=int)
    if splits:
        begins = splits[0].test_from_s
        np.testing.assert_array_equal(tested, np.flatnonzero(log["submit_s"] >= begins))
    for split in splits:
        assert (known_at_s(log)[split.train] <= split.test_from_s).all()
        assert len(split.test) > 0


def test_shares_are_shares() -> None:
    """The training stretch would have another length than was asked for."""
    log = toy_log(1000)
    split = split_by_share(log, 0.7, 0.15)
    assert split.calibration_from_s == log["submit_s"][700]
    assert split.test_from_s == log["submit_s"][850]
    assert len(split.test) == 150
    assert 650 < len(split.train) <= 700


def test_a_job_that_still_ran_is_left_out() -> None:
    """The embargo would leave a run time in training that was not known at the split."""
    log = pd.DataFrame(
        {
            "submit_s": [0.0, 1.0, 2.0, 10.0],
            "end_s": [5.0, 12.0, np.nan, 20.0],
            "run_s": [5.0, 3.0, 8.5, 10.0],
        }
    )
    split = split_at(log, 10.0)
    np.testing.assert_array_equal(split.train, [0])
    np.testing.assert_array_equal(split.test, [3])
    np.testing.assert_array_equal(known_at_s(log), [5.0, 12.0, 10.5, 20.0])


def test_impossible_splits_are_refused() -> None:
    """A share above one or a calibration after its test would pass without a word."""
    log = toy_log(20)
    with pytest.raises(ValueError, match="together at most 1"):
        split_by_share(log, 0.9, 0.2)
    with pytest.raises(ValueError, match="after the test"):
        split_at(log, 10.0, 20.0)
    with pytest.raises(ValueError, match="folds"):
        list(rolling_origin(log, 0))
