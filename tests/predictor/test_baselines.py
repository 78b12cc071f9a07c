"""The rules of thumb, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor.baselines import (
    NOTHING_KNOWN_S,
    AppMedian,
    GlobalMedian,
    LastSame,
    LastTwoMean,
    Oracle,
    RequestedTime,
    SklearnRegressor,
    UserMedian,
    _hist_gbt,
    _RunningMedian,
)
from plancast.predictor.schema import BadLog, canonical
from tests.oracles.toy_logs import toy_log

UNKNOWN = np.nan


def jobs(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    """Jobs of (user, queue, submit, run, request); each starts as it is submitted."""
    frame = pd.DataFrame(rows, columns=["user", "queue", "submit_s", "run_s", "requested_s"])
    frame["start_s"] = frame["submit_s"]
    return canonical(frame)


PAST = jobs(
    ("ann", "q", 0.0, 10.0, 100.0),
    ("ann", "q", 1.0, 21.0, 50.0),
    ("bob", "r", 2.0, 300.0, 400.0),
    ("ann", "q", 3.0, 90.0, 95.0),
)


def point(rule: type, past: pd.DataFrame, *row: object) -> float:
    """The rule's forecast of one job."""
    return float(rule((0.5,)).fit(past).predict(jobs(row))[0])  # type: ignore[arg-type]


def test_requested_time_and_its_stand_ins() -> None:
    """An unknown request would be taken from the wrong place, or from the run time."""
    assert point(RequestedTime, PAST, "ann", "q", 500.0, 7.0, 77.0) == 77
    assert point(RequestedTime, PAST, "ann", "q", 500.0, 7.0, UNKNOWN) == 100
    assert point(RequestedTime, PAST, "ann", "q", 0.5, 7.0, UNKNOWN) == 100
    assert point(RequestedTime, PAST, "ann", "new", 500.0, 7.0, UNKNOWN) == 400
    assert point(RequestedTime, PAST, "ann", "new", 1.5, 7.0, UNKNOWN) == 100
    silent = PAST.assign(requested_s=UNKNOWN)
    assert point(RequestedTime, silent, "ann", "q", 500.0, 7.0, UNKNOWN) == (21 + 90) / 2
    assert point(RequestedTime, silent, "ann", "q", 5.0, 7.0, UNKNOWN) == NOTHING_KNOWN_S


def test_last_two_mean() -> None:
    """The published rule would average other jobs, round up or exceed the request."""
    assert point(LastTwoMean, PAST, "ann", "q", 500.0, 7.0, 900.0) == (21 + 90) // 2
    assert point(LastTwoMean, PAST, "ann", "q", 22.0, 7.0, 900.0) == 15
    assert point(LastTwoMean, PAST, "ann", "q", 500.0, 7.0, 30.0) == 30
    assert point(LastTwoMean, PAST, "ann", "q", 21.0, 7.0, 900.0) == 900
    assert point(LastTwoMean, PAST, "bob", "q", 500.0, 7.0, 900.0) == 900
    tiny = jobs(("ann", "q", 0.0, 0.3, 9.0), ("ann", "q", 1.0, 0.4, 9.0))
    assert point(LastTwoMean, tiny, "ann", "q", 500.0, 7.0, 900.0) == 1


def test_medians() -> None:
    """A median would be of other people's jobs, or of jobs that had not ended."""
    assert point(UserMedian, PAST, "ann", "q", 500.0, 7.0, 900.0) == 21
    assert point(UserMedian, PAST, "cat", "q", 500.0, 7.0, 900.0) == (21 + 90) / 2
    assert point(UserMedian, PAST, "ann", "q", 15.0, 7.0, 900.0) == 10
    assert point(UserMedian, PAST, "ann", "q", 5.0, 7.0, 900.0) == 900
    assert point(GlobalMedian, PAST, "ann", "q", 500.0, 7.0, 900.0) == (21 + 90) / 2
    assert point(GlobalMedian, PAST, "ann", "q", 500.0, 7.0, 40.0) == 40


def test_the_last_run_of_a_job_like_this_one() -> None:
    """The rule that beats most models would look at another job, or at one that had not ended."""
    rows = [("ann", "q", 0.0, 10.0, 100.0), ("ann", "q", 1.0, 21.0, 50.0)]
    past = pd.concat([jobs(*rows), PAST.iloc[2:]], ignore_index=True).assign(
        app=["x", "x", "y", "x"], cpus=4.0
    )
    rule = LastSame((0.5,)).fit(past)

    def forecast_of(user: str, request: float, moment: float = 500.0) -> float:
        query = jobs((user, "q", moment, 7.0, request)).assign(app="x", cpus=4.0)
        return float(rule.predict(query)[0])

    assert forecast_of("ann", 50.0) == 21  # the same request, though a longer one ended later
    assert forecast_of("ann", 900.0) == 90  # no such request yet: the user's last
    assert forecast_of("ann", 900.0, 22.0) == 21
    assert forecast_of("ann", 30.0) == 30  # at most the request
    assert forecast_of("cat", 900.0) == 90  # nobody's: the application's last
    assert forecast_of("cat", 900.0, 5.0) == 900  # nothing had ended
    assert forecast_of("cat", UNKNOWN, 5.0) == NOTHING_KNOWN_S


def test_the_median_of_the_application() -> None:
    """The rule for logs of tools would mix tools, or look at what had not ended."""
    past = PAST.assign(app=["x", "y", "x", "x"])

    def forecast_of(app: str, moment: float) -> float:
        query = jobs(("cat", "q", moment, 7.0, 900.0)).assign(app=app)
        return float(AppMedian((0.5,)).fit(past).predict(query)[0])

    assert forecast_of("x", 500.0) == 90
    assert forecast_of("y", 500.0) == 21
    assert forecast_of("z", 500.0) == (21 + 90) / 2
    assert forecast_of("x", 15.0) == 10
    assert forecast_of("x", 5.0) == 900


def test_only_the_oracle_looks() -> None:
    """The bound that all others are measured against would not be the truth."""
    assert point(Oracle, PAST, "ann", "q", 500.0, 7.0, 3.0) == 7
    assert point(Oracle, PAST, "ann", "q", 500.0, UNKNOWN, 3.0) == 3


def test_a_replay_sees_its_own_ends_and_a_batch_does_not() -> None:
    """A rule would forecast a batch from its own future, or a log as if nothing ever ended."""
    rule = LastTwoMean((0.5,)).fit(PAST.iloc[:1])
    later = PAST.iloc[1:].assign(job_id=["2", "3", "4"])
    query = jobs(("ann", "q", 500.0, 7.0, 900.0))
    together = pd.concat([later, query], ignore_index=True)
    assert rule.forecast_log(together)[-1, 0] == (21 + 90) // 2
    assert rule.forecast_log(together, as_of_s=25.0)[-1, 0] == 15
    assert rule.predict(together)[-1] == 900
    rule.update(later)
    assert rule.predict(query)[0] == (21 + 90) // 2
    assert rule.forecast_log(together)[-1, 0] == (21 + 90) // 2


def test_a_spread_keeps_its_middle_and_covers() -> None:
    """The quantiles about a median would not be those of its errors."""
    log = toy_log(2000)
    levels = (0.1, 0.5, 0.9)
    rule = GlobalMedian(levels).fit(log.iloc[:1500])
    rest = log.iloc[1500:]
    quantiles = rule.forecast_log(rest)
    np.testing.assert_array_equal(quantiles[:, 1], rule.forecast_log(rest, levels=(0.5,))[:, 0])
    covered = (rest["run_s"].to_numpy()[:, None] <= quantiles).mean(axis=0)
    np.testing.assert_allclose(covered[[0, 2]], [0.1, 0.9], atol=0.08)
    assert (np.ptp(RequestedTime(levels).fit(log).predict_quantiles(rest), axis=1) == 0).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_running_median_is_the_median(values: list[float]) -> None:
    """The two heaps would lose their balance."""
    median = _RunningMedian()
    for i, value in enumerate(values):
        median.add(value)
        assert median.value() == pytest.approx(np.median(values[: i + 1]))


def test_a_regressor_needs_jobs() -> None:
    """A log of nothing would end in a traceback of scikit-learn."""
    with pytest.raises(BadLog, match="at least 20"):
        SklearnRegressor("hist_gbt", _hist_gbt).fit(toy_log(10))
