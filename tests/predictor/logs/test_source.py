"""Times in the forms that logs have them, damaged ones among them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor.logs.source import epoch_seconds

NOON = 1_714_557_600.0
"""Of 1 May 2024 in Berlin, two hours ahead of UTC."""
TIMES = st.builds(
    lambda day, gap, time, offset: day + gap + time + offset,
    st.sampled_from(("2024-05-01", "2024-13-01", "20240501")),
    st.sampled_from(("T", " ", "")),
    st.sampled_from(("12:00:00", "12:00", "12", "25:00", "12:00:00.5", "")),
    st.sampled_from(("", "Z", "z", "+02:00", "+0200", "-03", "+2", "+", " +01:00", "-0")),
)


def one(text: str) -> float:
    """The time of a column with one row."""
    return float(epoch_seconds(pd.Series([text]), "Europe/Berlin")[0])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-05-01T12:00:00", NOON),
        ("2024-05-01T12:00:00+02", NOON),
        ("2024-05-01T12:00:00+0200", NOON),
        ("2024-05-01T12:00:00Z", NOON + 7200),
        ("2024-05-01T12:00:00+2", np.nan),
        ("1714557600.5", NOON + 0.5),
        ("noon", np.nan),
    ],
)
def test_a_time_in_its_forms(text: str, seconds: float) -> None:
    """Two hours would be lost, or a damaged offset be taken for local time."""
    assert one(text) == pytest.approx(seconds, nan_ok=True)


@given(texts=st.lists(TIMES | st.text(max_size=12), max_size=8))
def test_a_time_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    """Offsets of several forms in one column ended in a traceback."""
    found = epoch_seconds(pd.Series(texts, dtype=object), "Europe/Berlin")
    np.testing.assert_array_equal(found, np.array([one(text) for text in texts]))
