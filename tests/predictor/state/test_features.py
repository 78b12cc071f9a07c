"""Features: stable columns, one row equal to many, and nothing from the future."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.predictor.logs import read_log
from plancast.predictor.schema import canonical
from plancast.predictor.state.features import NO_ANCHOR, FeatureBuilder
from plancast.predictor.state.history import History
from tests.conftest import scaled
from tests.oracles.history_replay import history_of
from tests.oracles.toy_logs import toy_log, wild_logs


def changed_after(log: pd.DataFrame, moment_s: float, factors: np.ndarray) -> pd.DataFrame:
    """The log with other run times and outcomes wherever a job ends after `moment_s`.

    It still ends after that moment, or the change would alter what was known by then.
    """
    start = log["start_s"].to_numpy()
    run = log["run_s"].to_numpy() * factors
    late = (log["end_s"] > moment_s).to_numpy() & (start + run > moment_s)
    result = log.copy()
    result["run_s"] = np.where(late, run, log["run_s"])
    result["end_s"] = np.where(late, start + run, log["end_s"])
    result["outcome"] = np.where(late, "failed", log["outcome"]).astype(object)
    return result


@settings(max_examples=scaled(30), deadline=None)
@given(log=wild_logs(texts=True), moment=st.integers(0, 25), data=st.data())
def test_no_feature_knows_the_future(log: pd.DataFrame, moment: int, data: st.DataObject) -> None:
    """A feature would use a run time that nobody could know when the job was submitted."""
    size = len(log)
    factors = data.draw(
        st.lists(st.sampled_from([0.4, 0.9, 1.3, 6.0]), min_size=size, max_size=size)
    )
    other = changed_after(log, float(moment), np.array(factors))
    early = (log["submit_s"] <= moment).to_numpy()
    one = FeatureBuilder(window=3).fit(log[early]).transform(log)
    two = FeatureBuilder(window=3).fit(other[early]).transform(other)
    assert one[early].tobytes() == two[early].tobytes()


def test_no_feature_knows_the_future_on_kth(shared_data: Callable[[str], Path]) -> None:
    """On a real log a feature would use run times from after the submission."""
    log = read_log(shared_data("logs/KTH-SP2-1996-2.swf.gz"))
    rng = np.random.default_rng(0)
    builder = FeatureBuilder().fit(log.iloc[:10_000])
    truth = builder.transform(log)
    for share in (0.1, 0.35, 0.6, 0.9):
        moment = float(log["submit_s"].quantile(share))
        other = changed_after(log, moment, np.exp(rng.normal(0.0, 2.0, len(log))))
        assert (other["run_s"] != log["run_s"]).sum() > 500
        early = (log["submit_s"] <= moment).to_numpy()
        seen = FeatureBuilder().fit(other.iloc[:10_000]).transform(other)
        assert truth[early].tobytes() == seen[early].tobytes()
        # The same change must show in later jobs, or this test could not fail.
        assert truth[~early].tobytes() != seen[~early].tobytes()


def test_one_row_equals_many() -> None:
    """A job would get other features online than in the replay, or in another column order."""
    log = toy_log(300)
    builder = FeatureBuilder().fit(log.iloc[:200])
    history = history_of(log)
    matrix = builder.transform(log, history)
    assert matrix.shape == (300, len(builder.names))
    for i, job in enumerate(log.to_dict("records")):
        assert builder.row(job, history).tobytes() == matrix[i : i + 1].tobytes()


def test_columns_say_what_they_are_called() -> None:
    """A column would hold something else than its name says."""
    # 1996-09-23 12:30 UTC was a Monday.
    job = {
        "submit_s": 843481800.0,
        "requested_s": 7200.0,
        "cpus": 4.0,
        "mem_mib": 100.0,
        "gpus": 2.0,
    }
    builder = FeatureBuilder().fit(toy_log(30))
    row = dict(zip(builder.names, builder.row(job, History())[0], strict=True))
    assert row["weekday"] == 0.0
    assert row["hour"] == pytest.approx(12.5)
    assert row["log_requested"] == pytest.approx(np.log(7201.0))
    assert row["log_cpu_seconds"] == pytest.approx(np.log(4 * 7200.0 + 1))
    assert (row["log_cpus"], row["log_mem"]) == pytest.approx((np.log(5.0), np.log(101.0)))
    assert row["gpus"] == 2.0
    assert row["requested_whole_hours"] == row["requested_whole_minutes"] == 1.0
    assert row["anchor"] == row["log_requested"]
    other = dict(
        zip(builder.names, builder.row({**job, "requested_s": 90.0}, History())[0], strict=True)
    )
    assert other["requested_whole_minutes"] == 0.0


def test_unknown_is_nan_and_the_anchor_is_never() -> None:
    """An unknown cell would look like a number, or a job without a past have no forecast."""
    builder = FeatureBuilder().fit(toy_log(100))
    job = {"submit_s": 5.0, "requested_s": -1.0, "cat_site": "south", "app": "never seen"}
    matrix = builder.row(job, History())
    row = dict(zip(builder.names, matrix[0], strict=True))
    for name in ("log_requested", "log_cpus", "code_cat_site", "code_app", "num_bytes"):
        assert np.isnan(row[name])
    assert row["anchor"] == builder.anchor(matrix)[0] == NO_ANCHOR
    frame = canonical(pd.DataFrame([job]))
    assert builder.transform(frame).tobytes() == matrix.tobytes()


def test_codes_come_from_training_alone() -> None:
    """A category that appears later would change the codes of earlier ones."""
    log = toy_log(100)
    builder = FeatureBuilder().fit(log.iloc[:50])
    later = log.assign(app=["b", *log["app"].iloc[1:]])
    column = builder.names.index("code_app")
    assert np.isnan(builder.transform(later)[0, column])
    np.testing.assert_array_equal(
        builder.transform(later)[1:, column], builder.transform(log)[1:, column]
    )


def test_builder_survives_its_card() -> None:
    """A loaded model would build other features than the saved one."""
    log = toy_log(100)
    builder = FeatureBuilder(7, 0.5).fit(log)
    twin = FeatureBuilder.from_card(json.loads(json.dumps(builder.card())))
    assert (twin.names, twin.categorical) == (builder.names, builder.categorical)
    assert twin.transform(log).tobytes() == builder.transform(log).tobytes()
