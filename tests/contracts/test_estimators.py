"""Every registered estimator shows one face and keeps one set of promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.predictor import BadLog
from plancast.predictor.baselines import ESTIMATORS, Forecaster
from tests.oracles.toy_logs import toy_log

LEVELS = (0.1, 0.5, 0.9)
CUT = 420
ONE_BY_ONE = 12
"""Jobs that are told one at a time."""
LOG = toy_log(600)
TRAIN, TEST = LOG.iloc[:CUT], LOG.iloc[CUT:]


@pytest.fixture(scope="module", params=sorted(ESTIMATORS))
def estimator(request: pytest.FixtureRequest) -> Any:
    """A fitted estimator; no test may change it."""
    made = ESTIMATORS[request.param](LEVELS)
    made.fit(TRAIN)
    return made


def usable(quantiles: np.ndarray) -> bool:
    """Whether these are seconds a planner can take."""
    return bool(
        np.isfinite(quantiles).all()
        and (quantiles >= 1).all()
        and (np.diff(quantiles, axis=1) >= 0).all()
    )


def test_registered_under_its_own_name() -> None:
    """A table would show an estimator under the name of another."""
    for name, make in ESTIMATORS.items():
        made = make(LEVELS)
        assert made.name == name
        assert made.levels == LEVELS


def test_shapes_and_seconds(estimator: Forecaster) -> None:
    """A planner would be handed a wrong shape, NaN, less than a second or crossing quantiles."""
    for quantiles in (estimator.predict_quantiles(TEST), estimator.forecast_log(TEST)):
        assert quantiles.shape == (len(TEST), 3)
        assert usable(quantiles)
    assert estimator.predict(TEST).shape == (len(TEST),)
    np.testing.assert_array_equal(estimator.predict(TEST), estimator.predict_quantiles(TEST)[:, 1])
    assert estimator.predict_quantiles(TEST.iloc[:0]).shape == (0, 3)
    assert estimator.predict_quantiles(TEST, (0.25, 0.75)).shape == (len(TEST), 2)
    assert estimator.forecast_log(TEST, None, (0.5,)).shape == (len(TEST), 1)


def test_jobs_come_as_rows_as_well(estimator: Forecaster) -> None:
    """One estimator would take what another ends at with an AttributeError."""
    rows = TEST.head(3).to_dict("records")
    expected = estimator.predict_quantiles(TEST.head(3))
    np.testing.assert_array_equal(estimator.predict_quantiles(rows), expected)
    # A product of one row may be summed in another order than one of three.
    np.testing.assert_allclose(estimator.predict_quantiles(rows[0]), expected[:1], 1e-12)
    made = ESTIMATORS[estimator.name](LEVELS)
    made.fit(TRAIN.to_dict("records"))
    made.update(rows)
    assert usable(made.predict_quantiles(TEST))
    for ask in (made.predict, made.predict_quantiles, made.forecast_log, made.update):
        with pytest.raises(BadLog, match="give a frame, or a list with a mapping for each job"):
            ask(5)


def test_jobs_of_which_nothing_is_known(estimator: Forecaster) -> None:
    """An empty cell would become NaN in a plan."""
    bare = pd.DataFrame({"submit_s": [1.0, 1e7]})
    assert usable(estimator.predict_quantiles(bare))
    assert usable(estimator.predict_quantiles(bare.drop(columns="submit_s"), as_of_s=5e6))


def test_the_future_is_unknown(estimator: Forecaster) -> None:
    """A forecast would move with run times from after the job's submission."""
    moment = float(TEST["submit_s"].iloc[150])
    late = (TEST["end_s"] > moment).to_numpy()
    other = TEST.assign(
        run_s=np.where(late, TEST["run_s"] * 5, TEST["run_s"]),
        end_s=np.where(late, TEST["end_s"] + 4 * TEST["run_s"], TEST["end_s"]),
        outcome=np.where(late, "failed", TEST["outcome"]),
    )
    early = (TEST["submit_s"] <= moment).to_numpy()
    same = np.array_equal(estimator.forecast_log(TEST)[early], estimator.forecast_log(other)[early])
    assert same == (estimator.name != "oracle")


def test_later_rows_do_not_matter(estimator: Forecaster) -> None:
    """A job's forecast would depend on jobs that were submitted after it."""
    whole = estimator.forecast_log(TEST)
    head = estimator.forecast_log(TEST.iloc[:200])
    np.testing.assert_array_equal(whole[:200], head)


def lived(jobs: pd.DataFrame, until_s: float) -> Iterator[pd.DataFrame]:
    """What a master would tell of jobs, one at a time: that they wait, then that they ended."""
    waiting = jobs.assign(start_s=np.nan, end_s=np.nan, run_s=np.nan, outcome="unknown")
    events = [(at, 1, k) for k, at in enumerate(jobs["submit_s"])]
    events += [(at, 0, k) for k, at in enumerate(jobs["end_s"]) if at <= until_s]
    for _, submitted, k in sorted(events):
        yield (waiting if submitted else jobs).iloc[k : k + 1]


def test_update_is_a_replay(estimator: Forecaster) -> None:
    """Folding jobs in as they come and end would give other forecasts than a replay of the log."""
    fresh = ESTIMATORS[estimator.name](LEVELS)
    fresh.fit(TRAIN)
    # A row told alone takes 15 ms, and there are ten estimators.
    head, last = TEST.iloc[:ONE_BY_ONE], TEST.iloc[ONE_BY_ONE : ONE_BY_ONE + 1]
    for row in lived(head, float(last["submit_s"].iloc[0])):
        fresh.update(row)
    np.testing.assert_array_equal(
        fresh.forecast_log(last), estimator.forecast_log(TEST.iloc[: ONE_BY_ONE + 1])[-1:]
    )


def test_order_of_rows_is_kept(estimator: Forecaster) -> None:
    """Forecasts would be handed to the wrong jobs."""
    mixed = TEST.sample(frac=1.0, random_state=1)
    np.testing.assert_array_equal(
        estimator.forecast_log(mixed), estimator.forecast_log(TEST)[mixed.index.to_numpy() - CUT]
    )


def test_input_is_not_changed(estimator: Forecaster) -> None:
    """The caller's frame would be another one after a forecast."""
    before = TEST.copy(deep=True)
    estimator.predict_quantiles(TEST)
    estimator.forecast_log(TEST, 5e4)
    pd.testing.assert_frame_equal(TEST, before)


def test_training_is_repeatable(estimator: Forecaster) -> None:
    """Two runs of the same pipeline would compare different models."""
    again = ESTIMATORS[estimator.name](LEVELS)
    again.fit(TRAIN)
    assert again.forecast_log(TEST).tobytes() == estimator.forecast_log(TEST).tobytes()
