"""Rows that come alone go by the rules of frames; rows that cannot be are repaired or refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.model_files import BadModel
from plancast.predictor.rows import clean_row, plausible
from plancast.predictor.runtime import RuntimePredictor
from plancast.predictor.schema import canonical
from tests.oracles.toy_logs import toy_log

TREES = {"n_estimators": 8, "min_child_samples": 20}
LOG = toy_log(700)


@pytest.fixture(scope="module")
def model() -> RuntimePredictor:
    """A model that no test may change."""
    return RuntimePredictor(trees=TREES).fit(LOG.iloc[:600])


def job_of(row: int) -> dict[str, object]:
    """A job as it is submitted."""
    names = ["start_s", "end_s", "run_s", "outcome"]
    return dict(LOG.iloc[row].drop(names).to_dict())


def test_a_row_is_a_frame_of_one() -> None:
    """User 4.0 would be a stranger to user 4, NaN a user of that name, infinity a request."""
    row = {"user": 4.0, "group": math.nan, "app": None, "requested_s": math.inf, "cat_x": 2.0}
    row |= {"submit_s": 5, "num_y": None}
    clean = clean_row(row)
    frame = canonical(pd.DataFrame([row])).iloc[0]
    assert clean["user"] == frame["user"] == "4"
    assert clean["group"] == clean["app"] == ""
    assert clean["cat_x"] == "2"
    assert math.isnan(clean["requested_s"])
    assert math.isnan(clean["num_y"])


def test_numbers_for_users_are_the_same_users() -> None:
    """A model would forecast a user by nobody's history because the number came as a float."""
    named = LOG.assign(user=LOG["user"].rank(method="dense").astype(int).astype(str))
    model = RuntimePredictor(trees=TREES).fit(named.iloc[:600])
    job = named.iloc[650].drop(["start_s", "end_s", "run_s", "outcome"]).to_dict()
    found = model.predict_row(job)
    assert model.predict_row({**job, "user": float(job["user"])}).tobytes() == found.tobytes()
    nobody = model.predict_row({**job, "user": math.nan})
    assert nobody.tobytes() == model.predict_row({**job, "user": ""}).tobytes()


def test_an_infinite_request_is_an_unknown_one(model: RuntimePredictor) -> None:
    """Quantiles would be NaN."""
    job = job_of(650)
    unknown = model.predict_row({**job, "requested_s": math.nan})
    assert np.isfinite(unknown).all()
    assert model.predict_row({**job, "requested_s": math.inf}).tobytes() == unknown.tobytes()
    many = model.predict_quantiles(pd.DataFrame([{**job, "requested_s": math.inf}]))
    assert many[0].tobytes() == unknown.tobytes()


def test_times_that_contradict_each_other() -> None:
    """Two rows of a broken clock would ruin a user's forecasts."""
    rows = pd.DataFrame(
        {
            "job_id": ["a", "b", "c", "d"],
            "submit_s": [100.0, 100.0, 100.0, 100.0],
            "start_s": [110.0, 110.0, np.nan, 150.0],
            "end_s": [210.0, 90.0, 200.0, 140.0],
            "run_s": [1e9, 50.0, 60.0, 10.0],
        }
    )
    kept, repaired, refused = plausible(canonical(rows))
    assert kept["job_id"].tolist() == ["a", "c"]
    assert kept["run_s"].tolist() == [100.0, 60.0]
    assert (repaired, refused) == (1, 2)


def test_an_update_refuses_what_cannot_be() -> None:
    """Such rows would be learned, and nobody be told."""
    model = RuntimePredictor(trees=TREES).fit(LOG.iloc[:600])
    job = job_of(650)
    before = model.predict_row(job)
    moment = float(LOG["submit_s"].iloc[640])
    wrong = pd.DataFrame(
        [
            {**job, "job_id": f"wrong {k}", "submit_s": moment, "end_s": moment - 5.0, "run_s": 1e9}
            for k in range(2)
        ]
    )
    model.update(wrong)
    assert model.refused == 2
    assert model.predict_row(job).tobytes() == before.tobytes()


def test_rows_without_a_job_id_count_once() -> None:
    """A file that is told twice would count each of its jobs twice."""
    unnamed = LOG.drop(columns="job_id")
    model = RuntimePredictor(trees=TREES).fit(unnamed.iloc[:600])
    ended = len(model.history)
    model.update(unnamed.iloc[500:640])
    assert len(model.history) == ended + 40
    model.update(unnamed.iloc[600:640])
    assert len(model.history) == ended + 40
    # Two equal rows of one file are two jobs.
    twins = pd.concat([unnamed.iloc[650:651]] * 2, ignore_index=True)
    model.update(twins)
    assert len(model.history) == ended + 42


def test_a_card_that_was_changed_is_refused(model: RuntimePredictor, tmp_path: object) -> None:
    """Whoever edits the card would be believed: every other file has a digest in it."""
    from pathlib import Path

    folder = model.save(Path(str(tmp_path)) / "model")
    card = folder / "card.json"
    text = card.read_text()
    card.write_text(text.replace('"cap_at_request": true', '"cap_at_request": false'))
    with pytest.raises(BadModel, match="was changed after training"):
        RuntimePredictor.load(folder)
    card.write_text(text)
    assert RuntimePredictor.load(folder).card == model.card
