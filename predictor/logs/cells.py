"""Cells of a table as a column of numbers or of texts, whatever type they come in."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd

from plancast.predictor import units as unit_texts
from plancast.predictor.logs.column_map import QUANTITY, TIME_COLUMNS, UNITS, ColumnMap
from plancast.predictor.logs.rows import Rows
from plancast.predictor.logs.source import epoch_seconds
from plancast.predictor.schema import numbers


def plain(cells: pd.Series) -> pd.Series:
    """Cells as those of CSV, or numbers and moments: Parquet and frames may hold any type.

    Categories are what they stand for, lists and mappings JSON, bytes and other objects texts.
    """
    dtype = cells.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        found = pd.Series(dtype.categories).reindex(cells.cat.codes)
        found.index = cells.index
        return plain(found)
    if not pd.api.types.is_object_dtype(dtype):
        if dtype == np.float16:  # pandas cannot tell which cells are alike
            return cells.astype("float64")
        types = pd.api.types
        known = types.is_numeric_dtype(dtype) or types.is_string_dtype(dtype)
        known = known or types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype)
        return cells if known else cells.astype(object).map(_text, na_action="ignore")
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    return cells.map(_text) if kind == "bytes" or kind.startswith("mixed") else cells


def _text(cell: Any) -> Any:
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    if isinstance(cell, list | tuple | dict):
        return json.dumps(cell, default=_text)
    return cell if cell is None or isinstance(cell, str | float | int) else str(cell)


def extracted(cells: pd.Series, pattern: str | None) -> pd.Series:
    """Texts of which what a pattern matches is left, where it matches."""
    if pattern is None:
        return cells
    compiled = re.compile(pattern)

    def found(text: Any) -> Any:
        match = compiled.search(text) if isinstance(text, str) else None
        return text if match is None else match[1 if compiled.groups else 0]

    return cells.map(found)


def values(
    cells: pd.Series,
    target: str,
    mapping: ColumnMap,
    label: str,
    *,
    first: bool = True,
    rows: Rows | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """A column of numbers, and which cells are none (None where all are).

    Parameters
    ----------
    cells : Series
        As of `plain`.
    target : str
        Canonical column, which says what is measured.
    mapping : ColumnMap
        Tells units and the time zone.
    label : str
        How a complaint names the column.
    first : bool
        Which of the two moments that a local time may mean.
    rows : Rows, optional
        Hears of times that a time zone leaves out.
    """
    quantity = QUANTITY.get(target)
    unit = UNITS[quantity][mapping.units[target]] if quantity and target in mapping.units else 1.0
    scale = mapping.scale.get(target, 1.0)
    if not pd.api.types.is_object_dtype(cells.dtype) and not pd.api.types.is_string_dtype(
        cells.dtype
    ):
        # A date or a span of time is seconds already.
        typed = not pd.api.types.is_numeric_dtype(cells.dtype)
        return numbers(cells, label) * (1.0 if typed else unit) * scale, None
    codes, distinct = pd.factorize(cells.astype(object), use_na_sentinel=True)
    texts = pd.Series(distinct, dtype=object)
    found = np.array(pd.to_numeric(texts, errors="coerce").to_numpy(dtype="float64"))
    found *= unit
    blank = texts.astype(str).str.strip().eq("").to_numpy(dtype=bool)
    rest = np.isnan(found) & ~blank & ~texts.astype(str).str.lower().eq("nan").to_numpy(dtype=bool)
    if rest.any() and target in TIME_COLUMNS:
        found[rest] = epoch_seconds(texts[rest], mapping.timezone, first=first, rows=rows)
    elif rest.any() and quantity:
        found[rest] = [_read(unit_texts.PARSERS[quantity], text) for text in texts[rest]]
    fine = np.append(~(rest & np.isnan(found)), True)
    measured: np.ndarray = np.append(found, np.nan)[codes] * scale
    return measured, None if fine.all() else ~fine[codes]


def _read(parse: Any, text: Any) -> float:
    try:
        return float(parse(str(text)))
    except ValueError:
        return float("nan")
