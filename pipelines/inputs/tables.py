"""Tables as users write them: cells checked one by one, every fault with its place.

A table is read from CSV, Parquet, JSON objects or a frame into raw cells by column; parsing
a column names the first bad cell.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from plancast.json_text import json_value
from plancast.pipelines.inputs.cells import (
    LARGEST,
    BadCell,
    Cell,
    cores_cell,
    instant_cell,
    mib_cell,
    number_cell,
    round_up_cell,
    seconds_cell,
    text_cell,
    whole_cell,
)
from plancast.pipelines.inputs.files import read_bytes, read_text, write_text_atomic
from plancast.planner.model.domain import BadRequest

if TYPE_CHECKING:
    import pandas as pd

PathLike: TypeAlias = str | os.PathLike[str]
Columns: TypeAlias = dict[str, list[Any]]

JSON_LINES = (".jsonl", ".ndjson")
"""Endings of files with a JSON object a line."""
_OF_NUMBERS = (round_up_cell, mib_cell, cores_cell, instant_cell, seconds_cell, whole_cell)
"""Readers that leave a whole number of 0 or more as it is."""


@dataclass(frozen=True)
class Table:
    """Raw cells by column, and how to call a place in them."""

    source: str
    columns: Columns
    rows: int
    section: str = ""  # of a YAML file; a table of its own has rows instead

    def fault(self, row: int, text: str, column: str = "") -> BadRequest:
        """The error for a row (from 0) and column."""
        if self.section:
            where = ".".join(filter(None, [self.section, str(row), column]))
        else:
            where = f"row {row + 1}" + (f", column {column}" if column else "")
        return BadRequest(f"{self.source}: {where}: {text}")

    def parse(self, name: str, cell: Cell, empty: Any = None) -> list[Any]:
        """Values of a column; `empty` for empty cells and for a column that is not there."""
        if name not in self.columns:
            return [empty] * self.rows
        cells = self.columns[name]
        kinds = set(map(type, cells))
        # The clean cases of a large table, several times as fast.
        if cell is text_cell and kinds == {str}:
            return cells if "" not in cells else [raw or empty for raw in cells]
        if kinds == {int} and cell in _OF_NUMBERS and min(cells) >= 0 and max(cells) <= LARGEST:
            return cells
        if cell is number_cell and kinds == {float} and all(map(math.isfinite, cells)):
            return cells
        values = []
        for row, raw in enumerate(cells):
            if raw is None or raw == "" or raw != raw:
                values.append(empty)
                continue
            try:
                values.append(cell(raw))
            except BadCell as error:
                raise self.fault(row, str(error), name) from None
        return values


def is_table(path: PathLike) -> bool:
    """Whether a file's name says that it has rows, and is no JSON document."""
    return str(path).lower().removesuffix(".gz").endswith((".csv", ".parquet", *JSON_LINES))


def read_table(path: PathLike) -> Table | Any:
    """A file of CSV, Parquet or JSON lines as a table, one of JSON as the value it holds."""
    name = str(path).lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return _csv_table(read_text(path), str(path))
    if name.endswith(".parquet"):
        return _parquet_table(read_bytes(path), str(path))
    if name.endswith(".json"):
        text = read_text(path)
        try:
            return json_value(text)
        except ValueError as error:
            raise BadRequest(f"{path}: is not JSON: {error}") from None
    if name.endswith(JSON_LINES):
        return _json_lines(read_text(path), str(path))
    raise BadRequest(f"{path}: has no known suffix; name it .csv, .parquet, .json or .jsonl")


def _json_lines(text: str, source: str) -> Table:
    items = []
    for number, line in enumerate(re.split(r"\r\n|[\r\n]", text), start=1):
        if line.strip():
            try:
                item = json_value(line)
            except ValueError as error:
                reason = str(error).removesuffix(": line 1 column 1 (char 0)")
                raise BadRequest(f"{source}: line {number}: is not JSON: {reason}") from None
            if not isinstance(item, dict):
                raise BadRequest(f"{source}: line {number}: must hold an object, one for each row")
            items.append(item)
    if not items:
        raise BadRequest(f"{source}: is empty; write an object with the fields of each row a line")
    return object_table(items, source)


def _csv_table(text: str, source: str) -> Table:
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise BadRequest(f"{source}: is not CSV: {error}") from None
    if not lines:
        raise BadRequest(f"{source}: is empty; write a header line with the column names")
    header = [name.strip() for name in lines[0]]
    if len(header) == 1 and re.search(r"[;\t|]", header[0]):
        raise BadRequest(f"{source}: has one column {header[0]!r}; separate columns with commas")
    table = Table(source, {name: [] for name in header}, len(lines) - 1)
    _refuse_twice(header, source)
    for row, line in enumerate(lines[1:]):
        if len(line) != len(header):
            raise table.fault(
                row, f"has {len(line)} cells, the header has {len(header)}; repair the commas"
            )
    for name, cells in zip(header, zip(*lines[1:], strict=True), strict=False):
        table.columns[name] = [cell.strip() for cell in cells]
    return table


def _parquet_table(content: bytes, source: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not content.startswith(b"PAR1"):
        raise BadRequest(f"{source}: is not a Parquet file; write it as one, or name it as it is")
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
        # Damaged texts and names show only when they are looked at.
        table.validate(full=True)
        names = table.column_names
        columns = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError, OverflowError):
        raise BadRequest(
            f"{source}: is not a Parquet file, or a damaged one; write or fetch it again"
        ) from None
    _refuse_twice(names, source)
    return Table(source, dict(zip(names, columns, strict=True)), table.num_rows)


def _refuse_twice(names: list[str], source: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"{source}: column {twice!r} is there twice; remove one")


def object_table(items: Any, source: str, section: str = "") -> Table:
    """A list of JSON objects as a table; absent fields are empty cells."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadRequest(f"{source}: must hold a list of objects, one for each row")
    names = dict.fromkeys(str(name) for item in items for name in item)
    columns = {name: _plain([item.get(name) for item in items]) for name in names}
    return Table(source, columns, len(items), section)


def frame_table(frame: pd.DataFrame, source: str) -> Table:
    """A pandas frame as a table.

    Raises
    ------
    BadRequest
        Where two of its columns have one name.
    """
    names = [str(name) for name in frame.columns]
    _refuse_twice(names, source)
    columns = {name: _plain(frame.iloc[:, i].tolist()) for i, name in enumerate(names)}
    return Table(source, columns, len(frame))


def _plain(cells: list[Any]) -> list[Any]:
    """Cells of pandas and numpy as Python's own, missing ones as None."""
    if all(kind.__module__ == "builtins" for kind in set(map(type, cells))):
        return cells
    import numpy as np
    import pandas as pd

    def plain(cell: Any) -> Any:
        if cell is pd.NA or cell is pd.NaT:
            return None
        if isinstance(cell, np.datetime64 | np.timedelta64):
            return _plain([pd.Series([cell]).iloc[0]])[0]
        return cell.tolist() if isinstance(cell, np.ndarray) else cell

    return [plain(cell) for cell in cells]


def write_table(rows: list[dict[str, Any]], header: list[str], path: PathLike) -> None:
    """Write rows as CSV or Parquet by suffix; columns are `header`, then others as they come up.

    Packed where the name ends in ``.gz``.
    """
    name = str(path).lower().removesuffix(".gz")
    columns = list(dict.fromkeys([*header, *(name for row in rows for name in row)]))
    if name.endswith(".csv"):
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text_atomic(path, text.getvalue())
    elif name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(pa.table({c: [row.get(c) for row in rows] for c in columns}), buffer)
        write_text_atomic(path, buffer.getvalue())
    else:
        raise BadRequest(f"{path}: has no known suffix; name it .csv, .parquet or .json")
