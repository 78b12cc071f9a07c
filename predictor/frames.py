"""Jobs as callers have them, as a pandas frame: the one door of everything that takes jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd


class BadLog(ValueError):
    """A log that cannot be used; the text names the file, the row or field and the repair."""


def frame_of(given: Any, name: str) -> pd.DataFrame:
    """Jobs as a pandas frame whose columns have text for names.

    Parameters
    ----------
    given : DataFrame, table, mapping or iterable of mapping
        A frame of pandas, or of any library that hands out Arrow streams (polars, pyarrow);
        rows as mappings or Series; one such row; or a mapping of columns to their cells.
    name : str
        How a complaint calls it.

    Raises
    ------
    BadLog
        Where it is nothing of the kind, or two columns have one name.
    """
    if not isinstance(given, pd.DataFrame):
        given = _of_table(given) if is_table(given) else _of_rows(given, name)
    if not all(type(column) is str for column in given.columns):
        given = given.set_axis([str(column) for column in given.columns], axis=1)
    twice = given.columns[given.columns.duplicated()]
    if len(twice):
        raise BadLog(f"{name} has two columns named {twice[0]}; leave one of them out")
    return given


def is_table(given: Any) -> bool:
    """Whether it is a frame, of pandas or of a library that hands out Arrow streams."""
    arrow = hasattr(given, "__arrow_c_stream__") and not isinstance(given, pd.Series)
    return arrow or isinstance(given, pd.DataFrame)


def _of_table(given: Any) -> pd.DataFrame:
    import pyarrow as pa

    return pa.table(given).to_pandas()


def _of_rows(given: Any, name: str) -> pd.DataFrame:
    if isinstance(given, Mapping):
        if given and all(isinstance(cells, list | tuple | np.ndarray) for cells in given.values()):
            return pd.DataFrame(dict(given))
        given = [given]
    elif isinstance(given, pd.Series):
        given = [given]
    many = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    rows = [row.to_dict() if isinstance(row, pd.Series) else row for row in given] if many else []
    wrong = next((row for row in rows if not isinstance(row, Mapping)), None)
    if not many or wrong is not None:
        said = type(given).__name__ + ("" if wrong is None else f" of {type(wrong).__name__}")
        raise BadLog(f"{name}: give a frame, or a list with a mapping for each job, not {said}")
    return pd.DataFrame(rows) if rows else pd.DataFrame({"submit_s": np.empty(0)})
