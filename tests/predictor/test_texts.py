"""Cells as texts: what a row means does not depend on how its file was read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.schema import canonical
from plancast.predictor.texts import text_of, texts_of


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, ""), (np.nan, ""), (pd.NaT, ""), (pd.NA, ""), (7.0, "7"), (7.5, "7.5"), ("7.0", "7.0")],
)
def test_a_cell_as_text(cell: Any, text: str) -> None:
    """User 7 would be user 7.0 where another cell is empty, or nobody be called nan."""
    assert text_of(cell) == text
    assert texts_of(pd.Series([cell, "ann"], dtype=object)).tolist() == [text, "ann"]


def test_jobs_that_say_the_same_share_the_text() -> None:
    """A log of many jobs would hold each directory as often as it is named."""
    cells = ["".join(["/scratch", "/run"]) for _ in range(3)]
    assert len({id(text) for text in cells}) == 3
    found = canonical(pd.DataFrame({"submit_s": [0.0] * 3, "work_dir": cells}))["work_dir"]
    assert len({id(text) for text in found}) == 1
