"""Advised limits: their plain twin, what they may know, and what they promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.predictor.limits import LimitSettings, advise_limits, rule_limits
from plancast.predictor.schema import BadLog, canonical
from plancast.predictor.splits import known_at_s
from tests.conftest import scaled
from tests.oracles.plain_limits import nearly, plain_limits
from tests.oracles.toy_logs import toy_log, wild_logs

SMALL = LimitSettings(window=4, prior=2.0, price_jobs=8, price_every=2, round_s=2, loss=1.0)


@settings(max_examples=scaled(25), deadline=None)
@given(
    log=wild_logs(30),
    risk=st.sampled_from([0.0107, 0.2113, 0.4719]),
    # No share of a few rows is one of these: a tie would be decided by rounding.
    worst=st.sampled_from([0.2113, 0.9017]),
)
def test_twin(log: pd.DataFrame, risk: float, worst: float) -> None:
    """The kernel's windows, merging, price or accounts would differ from their description."""
    rules = replace(SMALL, worst=worst)
    if not (log["requested_s"] > 0).any():
        with pytest.raises(BadLog, match="no requested times"):
            advise_limits(log, risk, rules)
        return
    fast = advise_limits(log, risk, rules)
    limits, chances = plain_limits(log, risk, rules)
    assert nearly(np.nan_to_num(fast.limit_s).tolist(), limits)
    assert nearly(fast.chance.tolist(), chances)


def test_twin_over_a_longer_log() -> None:
    """A window that overflows, or a price that is set many times, would be counted wrongly."""
    log = toy_log(400, seed=3)
    rules = replace(SMALL, window=10, price_jobs=60, price_every=10, round_s=60)
    limits, chances = plain_limits(log, 0.0471, rules)
    fast = advise_limits(log, 0.0471, rules)
    assert np.count_nonzero(fast.chance) > 20
    assert nearly(fast.limit_s.tolist(), limits)
    assert nearly(fast.chance.tolist(), chances)


def test_nothing_is_known_early() -> None:
    """A limit that uses a run time which ends after the submission could not be given then."""
    log = toy_log(500, seed=1)
    at = 300
    now = log["submit_s"][at]
    later = known_at_s(log) > now
    changed = log.copy()
    rng = np.random.default_rng(0)
    changed.loc[later, "run_s"] = rng.uniform(1, 1e4, int(later.sum()))
    changed["end_s"] = changed["start_s"] + changed["run_s"]
    # What now ends before that moment would be known, and is another story.
    again = later & (known_at_s(changed) <= now)
    changed.loc[again, ["run_s", "end_s"]] = log.loc[again, ["run_s", "end_s"]]
    for rules in (LimitSettings(), replace(SMALL, round_s=60)):
        a, b = (advise_limits(frame, 0.05, rules) for frame in (log, changed))
        assert np.array_equal(a.limit_s[: at + 1], b.limit_s[: at + 1])
    first, second = rule_limits(log), rule_limits(changed)
    assert all(np.array_equal(first[k][: at + 1], second[k][: at + 1]) for k in first)


def test_the_promise_is_kept_through_a_burst() -> None:
    """A user whose jobs suddenly run to their requests would be cut by the hundred."""
    jobs = 4000
    rng = np.random.default_rng(0)
    submit = np.cumsum(rng.exponential(600.0, jobs))
    submit[3000:3400] = submit[3000]
    run = rng.uniform(100, 600, jobs)
    run[3000:3400] = 7000.0
    log = canonical(
        pd.DataFrame(
            {"submit_s": submit, "start_s": submit, "run_s": run, "requested_s": 7200.0,
             "cpus": 64.0, "user": "ann"}
        )
    )  # fmt: skip
    found = advise_limits(log, 0.01)
    cut = run > found.limit_s
    assert (found.limit_s < 7200).mean() > 0.1
    assert cut.sum() <= 0.01 * jobs + 10  # the promise, and what may come at once
    assert cut[3000:3400].sum() <= 25  # an allowance, and no more
    assert (found.limit_s <= 7200).all()


def test_rules_are_what_they_are_called() -> None:
    """The rule that advice is compared with would not be the one it is named after."""
    log = canonical(
        pd.DataFrame(
            {"submit_s": [0.0, 10, 20, 30, 40], "start_s": [0.0, 10, 20, 30, 40],
             "run_s": [5.0, 9, 3, 20, 1], "requested_s": 8.0, "cpus": 1.0, "user": "ann"}
        )
    )  # fmt: skip
    rules = rule_limits(log)
    assert rules["longest of the user's last 2"].tolist() == [8, 8, 8, 8, 8]
    assert rules["longest of the group's last 1"].tolist() == [8, 5, 8, 3, 3]
    assert rules["longest of the user's last 3, from the first on"].tolist() == [8, 5, 8, 8, 8]


@pytest.mark.parametrize("risk", [0.0, -0.1, 0.6, float("nan")])
def test_an_impossible_risk_is_refused(risk: float) -> None:
    """A share that is none would be promised."""
    with pytest.raises(ValueError, match="the risk is"):
        advise_limits(toy_log(40), risk)
