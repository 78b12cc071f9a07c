"""The page of forecasts on ten logs is of the rows that these logs are read as."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.forecasts import FACTS, LOGS, rows_now, rows_of


@pytest.mark.parametrize(
    "name", [n if n == "KTH-SP2" else pytest.param(n, marks=pytest.mark.slow) for n in LOGS]
)
def test_a_log_is_read_as_it_was_for_the_page(
    name: str, shared_data: Callable[[str], Path]
) -> None:
    """A reader that changes what it reads would leave the page without a word of it."""
    shared_data(str(LOGS[name][0]))
    assert json.loads(FACTS.read_text())[name]["rows"] == rows_now(name)


def test_the_digest_of_rows_tells_cells_order_and_names_apart() -> None:
    """Other rows would pass for the same."""
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    others = [frame.iloc[::-1], frame.assign(a=[1.0, 3.0]), frame.rename(columns={"a": "c"})]
    found = [rows_of(one) for one in (frame, frame.copy(), *others)]
    assert found[0] == found[1]
    assert len(set(found)) == 4
