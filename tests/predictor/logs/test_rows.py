"""Bad rows: repaired where another cell tells, else left out, counted and shown; when refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.logs.rows import FEW, MAX_BAD, Rows, finish
from plancast.predictor.schema import BadLog, check_log

NAN = float("nan")


def finished(rows: Rows | None = None, **columns: list[float]) -> pd.DataFrame:
    """The canonical frame of rows with these cells."""
    size = len(next(iter(columns.values())))
    frame = pd.DataFrame({"submit_s": [float(k) for k in range(size)]} | columns)
    places = [f"line {k + 2}" for k in range(size)]
    return finish(frame, places, rows or Rows("x.log"), {"format": "x", "source": "x.log"})


@pytest.mark.parametrize(
    ("start", "end", "run", "wanted"),
    [
        (10.0, 5.0, 20.0, (10.0, 30.0, 20.0)),  # the clock was set back: Elapsed tells
        (10.0, 9.0, 0.0, (10.0, 10.0, 0.0)),  # cancelled a second before its start
        (10.0, 40.0, -3.0, (10.0, 40.0, 30.0)),
        (10.0, 5.0, NAN, (10.0, NAN, NAN)),
        (10.0, 40.0, 30.0, (10.0, 40.0, 30.0)),
    ],
)
def test_times_are_repaired_from_those_that_tell(
    start: float, end: float, run: float, wanted: tuple[float, float, float]
) -> None:
    """A whole log would be refused, or a wrong run time learned, for one bad cell."""
    frame = finished(start_s=[start], end_s=[end], run_s=[run])
    found = frame.iloc[0][["start_s", "end_s", "run_s"]].to_numpy(float)
    np.testing.assert_array_equal(found, wanted)
    assert check_log(frame).errors == ()


def test_what_nothing_tells_is_left_out_and_shown() -> None:
    """A row would vanish without a word, or nobody could find it."""
    frame = finished(
        submit_s=[0, NAN, 2, np.inf, 4], start_s=[1.0] * 5, run_s=[1, 1, -1, 1, 1], end_s=[NAN] * 5
    )
    assert len(frame) == 2
    assert frame.attrs["dropped"] == {
        "infinite time": 1,
        "no submission time": 1,
        "negative run time": 1,
    }
    assert "left out: 1 row, no submission time (line 3)" in frame.attrs["notes"]


@pytest.mark.parametrize(
    ("start", "end", "run"),
    [
        (9.99999999e10, 40.0, 3600.0),  # 20 digits, read as nanoseconds
        (9.99999999e10, NAN, 3600.0),
        (NAN, -2.2e9, 1e10),
        (-2.2e9, 9.9e10, NAN),
    ],
)
def test_times_that_lead_to_one_that_no_log_has_are_left_out(
    start: float, end: float, run: float
) -> None:
    """Each is possible; what follows from both was kept, in the year 5138."""
    frame = finished(start_s=[1.0, start], end_s=[2.0, end], run_s=[1.0, run])
    assert frame["end_s"].tolist() == [2.0]
    assert "lead to one that no log has" in " ".join(frame.attrs["notes"])


def test_negative_and_infinite_requests_are_unknown() -> None:
    """A request without an end would be NaN in a forecast, a negative one refuse the log."""
    frame = finished(requested_s=[np.inf, 60.0], cpus=[-1.0, 2.0], num_x=[np.inf, 1.0])
    assert frame[["requested_s", "cpus", "num_x"]].iloc[0].isna().all()
    assert sum(frame.attrs["repaired"].values()) == 3


def test_the_first_three_of_many_are_shown() -> None:
    """A log of a hundred thousand rows would print a line for each bad one."""
    frame = finished(submit_s=[NAN] * 5 + [1.0] * 995)
    (note,) = frame.attrs["notes"]
    assert note == "left out: 5 rows, no submission time (line 2, line 3, line 4, ...)"


@pytest.mark.parametrize(
    ("bad", "size", "share", "refused"),
    [
        (FEW, 10, None, False),
        (FEW + 1, 10, None, True),
        (50, 1000, None, False),
        (51, 1000, None, True),
        (1, 10, 0.05, True),
        (5, 10, 0.5, False),
        (1, 1000, 0.0, True),
    ],
)
def test_a_log_is_refused_above_the_share(
    bad: int, size: int, share: float | None, refused: bool
) -> None:
    """A log of another kind would be read as a few jobs, or a good one refused for a handful."""
    assert MAX_BAD == 0.05
    submit = [NAN] * bad + [1.0] * (size - bad)
    rows = Rows("x.log", max_bad=share)
    if not refused:
        assert len(finished(rows, submit_s=submit)) == size - bad
        return
    with pytest.raises(BadLog, match=rf"x\.log, line 2: no submission time; {bad} of {size} rows"):
        finished(rows, submit_s=submit)


def test_strict_refuses_any_bad_row_even_a_repaired_one() -> None:
    """Who wants to know of every row would not be told."""
    with pytest.raises(BadLog, match="line 2: end before start"):
        finished(Rows("x.log", strict=True), start_s=[10.0], end_s=[5.0], run_s=[1.0])
    assert len(finished(Rows("x.log", strict=True), start_s=[1.0], end_s=[5.0])) == 1


def test_a_log_with_nothing_left_is_refused() -> None:
    """An empty frame would go on to training."""
    with pytest.raises(BadLog, match="no job is left"):
        finished(submit_s=[NAN, NAN])
    with pytest.raises(BadLog, match="max_bad is 5"):
        Rows("x.log", max_bad=5)
