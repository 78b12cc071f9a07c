"""Texts of a log's cells: what an id, a user or a command line is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

FREE_TEXTS: tuple[str, ...] = ("work_dir", "submit_line")
"""Canonical columns of free text, of which a model keeps digests alone."""

LONGEST_TEXT = 1_000
"""Characters of a free text that are kept."""


def text_of(value: Any) -> str:
    """A cell as text; "" where it is empty."""
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return ""
    # An id column with an empty cell comes as floats; user 7 must not become "7.0".
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def texts_of(values: pd.Series, longest: int | None = None) -> np.ndarray:
    """A column as texts of at most so many characters; rows that say the same share one object."""
    # By distinct value: a log of 200,000 rows names a few hundred users.
    codes, distinct = pd.factorize(values)
    texts = np.array([*(text_of(value)[:longest] for value in distinct), ""], dtype=object)
    return texts[codes]
