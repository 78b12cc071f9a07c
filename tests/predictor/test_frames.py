"""The door of everything that takes jobs: frames of every kind, rows, one row, columns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from plancast.predictor import BadLog, RuntimePredictor
from plancast.predictor.frames import frame_of
from tests.oracles.toy_logs import toy_log

LOG = toy_log(400)
FRAME = LOG.iloc[[350, 340]][["job_id", "submit_s", "user", "app", "cpus", "requested_s"]]
ROWS = FRAME.to_dict("records")


@cache
def model() -> RuntimePredictor:
    """One for all tests here, which is not trained while they are collected."""
    return RuntimePredictor((0.1, 0.5, 0.9), trees={"n_estimators": 4}).fit(LOG.iloc[:300])


class Stream:
    """A frame of another library."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.table = pa.Table.from_pandas(frame, preserve_index=False)

    def __arrow_c_stream__(self, schema: Any = None) -> Any:
        """See Arrow's PyCapsule interface."""
        return self.table.__arrow_c_stream__(schema)


KINDS: dict[str, Callable[[], Any]] = {
    "frame": lambda: FRAME,
    "nullable": lambda: FRAME.convert_dtypes(),
    "arrow types": lambda: FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "datetimes": lambda: FRAME.assign(submit_s=pd.to_datetime(FRAME["submit_s"], unit="s")),
    "a name that is a number": lambda: FRAME.assign(x=1).rename(columns={"x": 7}),
    "arrow": lambda: pa.Table.from_pandas(FRAME),
    "another library": lambda: Stream(FRAME),
    "mappings": lambda: ROWS,
    "iterator": lambda: iter(ROWS),
    "series": lambda: [row for _, row in FRAME.iterrows()],
    "moments": lambda: [
        {**row, "submit_s": datetime.fromtimestamp(row["submit_s"], UTC)} for row in ROWS
    ],
    "columns": lambda: FRAME.to_dict("list"),
    "arrays": lambda: {name: FRAME[name].to_numpy() for name in FRAME},
}


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_of_any_kind_are_the_same_jobs(kind: str) -> None:
    """``predict([{...}])`` ended in an AttributeError."""
    given = KINDS[kind]
    expected = model().predict_quantiles(FRAME)
    assert model().predict_quantiles(given()).tobytes() == expected.tobytes()
    assert model().predict_elapsed(given(), 0).tobytes() == expected.tobytes()
    assert (model().predict_elapsed(given(), [0, 60])[1] > 60).all()


@pytest.mark.parametrize("kind", ["mapping", "series", "list", "frame"])
def test_one_job_of_any_kind_is_the_same_job(kind: str) -> None:
    """A row of a frame, as one takes it from there, was no job."""
    job = {"mapping": ROWS[0], "series": FRAME.iloc[0], "list": ROWS[:1], "frame": FRAME[:1]}[kind]
    expected = model().predict_quantiles(FRAME)[0]
    assert model().predict_row(job).tobytes() == expected.tobytes()
    assert model().predict_quantiles(job).tobytes() == expected.tobytes()
    left = model().remaining_quantiles(job, timedelta(minutes=1))
    assert left.tobytes() == model().remaining_quantiles(ROWS[0], 60.0).tobytes()
    assert model().predict_quantiles(job, 0.5)[0, 0] == expected[1]


def test_a_job_without_a_submission_is_submitted_as_of_then() -> None:
    """One that is asked about before it is submitted has no such column, or an empty one."""
    later = float(LOG["end_s"].max())
    for row in ({}, {"submit_s": None}, {"submit_s": pd.NaT}):
        job = {"user": "u1", "cpus": 4, **row}
        of_row = model().predict_row(job, later)
        assert of_row.tobytes() == model().predict_quantiles([job], as_of_s=later)[0].tobytes()
        moment = pd.Timestamp(later, unit="s")
        assert model().predict_quantiles([job], as_of_s=moment)[0].tobytes() == of_row.tobytes()


def test_no_jobs_are_no_jobs() -> None:
    """A loop over batches ends at the first empty one."""
    assert model().predict([]).shape == (0,)
    assert model().predict_quantiles([]).shape == (0, 3)
    known = len(model().history)
    model().update([])
    assert len(model().history) == known


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: model().predict(5), r"the jobs: give a frame, or a list with a mapping .*, not int"),
    (lambda: model().predict("log.swf"), "the jobs: give a frame, or a list .*, not str"),
    (lambda: model().predict([1, 2]), "the jobs: give a frame, or a list .*, not list of int"),
    (lambda: model().update(5), "the log: give a frame, or a list .*, not int"),
    (lambda: model().fit([5]), "the log: give a frame, or a list .*, not list of int"),
    (lambda: model().predict([{"user": "u"}]), "the jobs have no column submit_s; add it, or give"),
    (
        lambda: model().predict_row({"user": "u"}),
        "the job has no submit_s; add it, or give as_of_s",
    ),
    (lambda: model().predict_row(FRAME), "the job: give one, not 2; predict_quantiles takes many"),
    (
        lambda: model().predict_row({**ROWS[0], "cpus": "many"}),
        "column cpus: 'many' is not a number",
    ),
    (lambda: model().predict(ROWS, [1, 2, 3]), "as_of_s: give one number, or 2, one for each job"),
    (lambda: model().predict(ROWS, "now"), "column as_of_s: 'now' is not a number"),
    (lambda: model().predict(ROWS, np.nan), "as_of_s: is NaN; give a number for each job"),
    (lambda: model().remaining_quantiles(ROWS[0], None), "elapsed_s: is NaN; give a number"),
    (lambda: frame_of(FRAME[["cpus", "cpus"]], "x"), "x has two columns named cpus; leave one"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_is_no_job_is_refused_in_one_sentence(case: int) -> None:
    """Python's own complaint is of a place in this library."""
    ask, sentence = REFUSED[case]
    with pytest.raises(BadLog, match=sentence):
        ask()
