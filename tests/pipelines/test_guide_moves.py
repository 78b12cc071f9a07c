"""The bench of moves: how long the search before takes to plans as cheap."""

from __future__ import annotations

import pytest

from benchmarks.guide_moves import BEFORE, NOW, SIZES, page, time_before


def test_time_to_equal_cost_lies_between_the_budgets() -> None:
    """A ratio of times would be told that nobody measured."""
    before = {f"{BEFORE} {t}": 100.0 * t**-0.02 for t in (1, 3, 10, 30)}
    for seconds in (1.0, 2.0, 3.0, 17.0, 40.0):
        row = {**before, f"{NOW} 1": 100.0 * seconds**-0.02}
        assert time_before([row, row], f"{NOW} 1") == pytest.approx(seconds)
    tasks, workers = SIZES[0]
    facts = {"size": f"{tasks:,} x {workers:,}", "group": "generated, waiting priced"}
    row = {**facts, **before, f"{NOW} 1": 98.0, f"{NOW} 3": 97.0, f"{NOW} 10": 96.0}
    assert "| 200 x 20 | generated, waiting priced | 1 | -2.17 |" in page([row])
