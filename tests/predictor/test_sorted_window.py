"""A window of the latest values: in order of arrival, and sorted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor.sorted_window import insert


@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(1, 6))
def test_the_window_holds_the_latest_values_sorted(values: list[int], window: int) -> None:
    """A statistic would be of other jobs than the last ones, the more so where values are equal."""
    ring, ordered = np.full(window, np.nan), np.full(window, np.nan)
    for seen, value in enumerate(values):
        insert(ring, ordered, seen, float(value))
        latest = values[max(0, seen + 1 - window) : seen + 1]
        assert ordered[: len(latest)].tolist() == sorted(latest)
        assert ring[seen % window] == value
