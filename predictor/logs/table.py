"""Reader of CSV, JSON and Parquet tables through a column map, and the canonical Parquet file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from plancast.json_text import json_value
from plancast.predictor.logs import builtin_maps, json_table
from plancast.predictor.logs.cells import extracted, plain, values
from plancast.predictor.logs.column_map import (
    FOREIGN,
    QUANTITY,
    TIME_COLUMNS,
    ColumnMap,
    Columns,
    listed,
    nearest,
    wanted,
)
from plancast.predictor.logs.guess import guessed_map, unit_of_moments
from plancast.predictor.logs.guess import sentence as guess_told
from plancast.predictor.logs.rows import Rows, finish
from plancast.predictor.logs.source import (
    decoded,
    first_bad,
    first_line,
    first_lines,
    head,
    in_turn,
    read_bytes,
)
from plancast.predictor.schema import COLUMNS, OUTCOMES, BadLog, canonical, extra_columns
from plancast.predictor.texts import FREE_TEXTS
from plancast.predictor.units import is_whole

_PARQUET = b"PAR1"
_METADATA_KEY = b"plancast_jobs"
_SHUFFLE_SEED = 0
_SEPARATORS = (",", "\t", ";", "|")


class TableReader:
    """CSV, JSON lines (plain or gzip) or Parquet, by a column map or with canonical columns."""

    name = "table"
    options: frozenset[str] = frozenset({"columns", "timezone"})

    def sniff(self, path: Path) -> bool:
        """Whether it is Parquet, JSON, or a text named CSV or with commas in its first line."""
        if head(path).startswith(_PARQUET):
            return True
        lines = first_lines(path, 1000)
        if known := json_table.reader_of("\n".join(lines)):
            return known == self.name
        line = next(iter(lines), "")
        return (
            path.name.lower().endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet"))
            or "," in line
            or builtin_maps.named_by(line) is not None
        )

    def read(
        self,
        path: Path,
        *,
        columns: Columns | None = None,
        timezone: str | None = None,
        rows: Rows | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """The canonical frame of a table.

        Parameters
        ----------
        path : Path
            CSV with a header line or, where the map names columns by their place or gives
            their names, without one, or JSON with an object for each job (plain or gzip); or
            Parquet.
        columns : ColumnMap, path, name or mapping, optional
            A map, its file, what that holds or its ``columns`` alone, or the name of one of
            `plancast.predictor.logs.builtin_maps`. Without it columns with canonical names are
            taken and others left out; where those do not suffice, the map is guessed
            (`plancast.predictor.logs.guess`) and a note says how.
        timezone : str, optional
            Of times without an offset, instead of the map's.
        rows : Rows, optional
            Account of bad rows.

        Returns
        -------
        DataFrame
            For a file of `write_jobs` read without a map the attrs are those it was
            written with.

        Raises
        ------
        BadLog
            Where the file is damaged, a column of the map is not in it, or too many rows are
            bad.
        """
        rows = rows or Rows(path.name)
        raw = read_bytes(path)
        text = "" if raw.startswith(_PARQUET) else decoded(raw, rows)
        named = _mapping(columns, text, path)
        mapping = named.mapping
        if text:
            table, numbers_of_rows = _texts(text, mapping, rows)
        else:
            table = _parquet(raw, path.name)
            numbers_of_rows = np.arange(1, table.num_rows + 1)
        stored = _stored_attrs(table, path.name) if mapping is None else {}
        cells = {
            name: plain(table.column(place).to_pandas())
            for place, name in enumerate(table.column_names)
        }
        result = _canonical(cells, table.column_names, named, numbers_of_rows, rows, timezone)
        if stored:
            result.attrs = stored | (rows.attrs() if rows.bad else {})
        return result


def map_of_table(path: Path) -> tuple[ColumnMap, list[str]] | None:
    """The map that is guessed for a table, and its columns that are not read.

    None for what is no table, needs no guess, or has a map of its tool's.
    """
    raw = read_bytes(path)
    rows = Rows(path.name)
    if raw.startswith(_PARQUET):
        table = _parquet(raw, path.name)
    else:
        if not TableReader().sniff(path) or builtin_maps.named_by(first_line(path)) is not None:
            return None
        table, _ = _texts(decoded(raw, rows), None, rows)
    names = table.column_names
    if _is_canonical(names):
        return None
    cells = {name: plain(table.column(k).to_pandas()) for k, name in enumerate(names)}
    mapping = guessed_map(cells, path.name)
    read = {source for _, source in mapping.keys_by_source()}
    return mapping, [name for name in names if name not in read]


def _is_canonical(names: Sequence[str]) -> bool:
    """Whether columns bear canonical names that tell submission and run time."""
    return "submit_s" in names and bool({"run_s", "end_s"} & set(names))


def read_frame(
    frame: pd.DataFrame,
    columns: Columns | None = None,
    *,
    timezone: str | None = None,
    rows: Rows | None = None,
) -> pd.DataFrame:
    """The canonical frame of a table in memory; arguments and errors as of a file's.

    Parameters
    ----------
    frame : DataFrame
        Its index is not looked at.
    columns : ColumnMap, path or mapping, optional
    timezone : str, optional
    rows : Rows, optional
    """
    rows = rows or Rows("the table")
    bare = frame.reset_index(drop=True)
    named = _mapping(columns, "", Path(rows.name))
    names = [str(name) for name in bare.columns]
    cells = {name: plain(bare.iloc[:, place]) for place, name in enumerate(names)}
    numbers_of_rows = np.arange(1, len(bare) + 1)
    return _canonical(cells, names, named, numbers_of_rows, rows, timezone)


@dataclass(frozen=True)
class _Named:
    """What a caller says of columns: a map and how to call it, or some of its columns."""

    mapping: ColumnMap | None = None
    name: str = ""
    given: dict[str, str] = field(default_factory=dict)


def _canonical(
    cells: Mapping[str, pd.Series],
    names: list[str],
    named: _Named,
    numbers_of_rows: np.ndarray,
    rows: Rows,
    timezone: str | None,
) -> pd.DataFrame:
    """The canonical frame of columns, by a map, by canonical names, or by a guess."""
    mapping = named.mapping
    if not len(numbers_of_rows):
        rows.check(0)
        raise BadLog(f"{rows.name} has no job; give a table with at least one row")
    if mapping is None:
        _require_once(names, names, rows.name)
        if _is_canonical(names) and not named.given:
            mapping = _canonical_map(names, rows)
        else:
            mapping = guessed_map(cells, rows.name, named.given)
            rows.note(guess_told(mapping, cells))
    if timezone is not None:
        mapping = mapping.model_copy(update={"timezone": timezone})
    _require_columns(mapping, named.name, names, rows.name)
    frame = _mapped(cells, mapping, numbers_of_rows, rows)
    if frame.empty:
        rows.check(0)
        raise BadLog(f"{rows.name}: drop_if leaves no job; correct the column map")
    places = [f"row {k}" for k in numbers_of_rows[frame.index]]
    facts = {"format": TableReader.name, "source": rows.name, "header": dict(mapping.header)}
    return finish(frame, places, rows, facts)


def _mapping(columns: Columns | None, text: str, path: Path) -> _Named:
    """The map to read a table with, and how to call it."""
    if isinstance(columns, ColumnMap):
        return _Named(columns, "the column map")
    if isinstance(columns, Mapping):
        if isinstance(columns.get("columns"), Mapping):
            return _Named(ColumnMap.of(dict(columns), "columns"), "columns")
        return _Named(given=dict(columns))
    header = next((line for line in text.splitlines() if line.strip()), "")
    name = builtin_maps.named_by(header) if columns is None else str(columns)
    if name in builtin_maps.NAMES and not (columns is not None and Path(columns).exists()):
        content = builtin_maps.content(name, header, path.name)
        return _Named(ColumnMap.model_validate(content), f"the built-in map {name}")
    if columns is None:
        return _Named()
    return _Named(ColumnMap.load(columns), f"column map {Path(columns).name}")


def _parquet(raw: bytes, name: str) -> pa.Table:
    try:
        # Not read_table: it calls a file damaged that has two columns of one name.
        file = pa.parquet.ParquetFile(io.BytesIO(raw), page_checksum_verification=True)
        table = file.read()
        # Damaged texts and names show only when they are looked at.
        table.validate(full=True)
        _ = table.column_names
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise BadLog(f"{name} is cut short or damaged (Parquet): write or fetch it again") from None


_MARKUP = re.compile(r"\s*<[!?a-z]", re.IGNORECASE)
"""How files begin of which a reader of CSV would make one odd column."""


def _texts(text: str, mapping: ColumnMap | None, rows: Rows) -> tuple[pa.Table, np.ndarray]:
    """The cells as texts, and the number of each row (from 1, below a header)."""
    if json_table.reader_of(text):
        return json_table.table(text, rows)
    if _MARKUP.match(text):
        raise BadLog(
            f"{rows.name} is HTML or XML, no table; give CSV or Parquet with a column for each "
            "field"
        )
    return _csv(text, mapping, rows)


def _csv(text: str, mapping: ColumnMap | None, rows: Rows) -> tuple[pa.Table, np.ndarray]:
    separator, names, has_header = _layout(text, mapping, rows.name)
    ragged: list[tuple[int, int]] = []

    def skip(row: Any) -> str:
        ragged.append((row.number, row.actual_columns))
        return "skip"

    try:
        table = pa.csv.read_csv(
            io.BytesIO(text.encode()),
            # One thread: only then does a complaint carry the row's number.
            pa.csv.ReadOptions(use_threads=False, column_names=None if has_header else names),
            pa.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=skip
            ),
            # Texts first: ids keep their zeros, and a bad number is found with its row.
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowInvalid, csv.Error):
        raise BadLog(
            f"{rows.name} cannot be taken apart as CSV; give CSV with a header line"
        ) from None
    if ragged:
        line, cells = ragged[0]
        fault = f"line {line}: {cells} cells where the header has {len(names)}"
        rows.drop("another number of cells", [f"line {k}" for k, _ in ragged], fault)
    every = np.arange(1, table.num_rows + len(ragged) + 1)
    skipped = [k - has_header for k, _ in ragged]
    return table, every[~np.isin(every, skipped)]


def _layout(text: str, mapping: ColumnMap | None, name: str) -> tuple[str, list[str], bool]:
    """Separator, names of the columns, and whether the first line names them."""

    def cells(separator: str) -> list[str]:
        try:
            return next(csv.reader(io.StringIO(text), delimiter=separator))
        except (csv.Error, StopIteration):
            raise BadLog(f"{name} cannot be taken apart as CSV; give CSV") from None

    if mapping is None:
        found = {separator: cells(separator) for separator in _SEPARATORS}
        best = max(found, key=lambda s: (len(found[s]) > 1 and s == ",", len(found[s])))
        return best, found[best], True
    sources = [source for _, source in mapping.keys_by_source()]
    by_place = all(map(is_whole, sources))
    options = [mapping.separator] if mapping.separator else list(_SEPARATORS)
    found = {separator: cells(separator) for separator in options}
    for separator, first in found.items():
        if not mapping.names and set(sources) <= set(first):
            return separator, first, True
    if by_place or mapping.names:
        separator = max(found, key=lambda s: len(found[s]))
        width = len(found[separator])
        if mapping.names and len(mapping.names) != width:
            raise BadLog(
                f"{name}, line 1: {width} cells; the column map has {len(mapping.names)} names"
            )
        return separator, list(mapping.names) or [str(k) for k in range(width)], False
    separator = max(found, key=lambda s: len(set(sources) & set(found[s])))
    return separator, found[separator], True


def _stored_attrs(table: pa.Table, name: str) -> dict[str, Any]:
    stored = (table.schema.metadata or {}).get(_METADATA_KEY, b"{}")
    try:
        return dict(json_value(stored))
    except (ValueError, TypeError):
        raise BadLog(f"{name} is damaged (its stored header): write or fetch it again") from None


def _canonical_map(names: list[str], rows: Rows) -> ColumnMap:
    """The map of a table whose columns bear canonical names already."""
    foreign = {n: FOREIGN[n.lower()] for n in names if n.lower() in FOREIGN}
    unread = [f"{n} (for {c}?)" for n, c in foreign.items() if c not in names]
    if unread:
        rows.note(f"columns not read: {listed(unread)}; rename them or give a column map")
    return ColumnMap(
        columns={n: n for n in names if n in COLUMNS},
        numeric={n.removeprefix("num_"): n for n in names if n.startswith("num_")},
        categorical={n.removeprefix("cat_"): n for n in names if n.startswith("cat_")},
        outcomes={o: o for o in OUTCOMES},
        # A canonical file leaves a cell empty; a user may well be called NA.
        unknown=[""],
    )


def _require_columns(mapping: ColumnMap, map_name: str, names: list[str], name: str) -> None:
    for key, source in mapping.keys_by_source():
        if source not in names:
            raise BadLog(
                f"{map_name}, {key}: {name} has no column {source!r}{nearest(source, names)}"
            )
    _require_once([source for _, source in mapping.keys_by_source()], names, name)


def _require_once(sources: Sequence[str], names: list[str], name: str) -> None:
    for source in sources:
        if names.count(source) > 1:
            raise BadLog(f"{name} has two columns named {source!r}; rename one of them")


def _mapped(
    columns: Mapping[str, pd.Series], mapping: ColumnMap, numbers_of_rows: np.ndarray, rows: Rows
) -> pd.DataFrame:
    """The rows that stay, by their place in the table; the account counts bad ones."""
    keep = np.ones(len(numbers_of_rows), dtype=bool)
    for source, texts in mapping.drop_if.items():
        cells = columns[source].astype(object).astype(str)
        for text in texts:
            hit = keep & (cells == text).to_numpy()
            rows.skip(f"{source} {text}", int(hit.sum()))
            keep &= ~hit
    frame = pd.DataFrame(index=np.flatnonzero(keep))
    bad: dict[str, tuple[np.ndarray, str]] = {}
    moments: dict[str, pd.Series] = {}
    for target, source in (mapping.columns | mapping.features).items():
        cells = columns[source][keep]
        cells = cells.where(~cells.isin(mapping.unknown), None)
        label = source if source == target else f"{source} ({target})"
        if target in QUANTITY or target.startswith("num_"):
            found, fault = values(cells, target, mapping, label, rows=rows)
            if fault is not None:
                row = numbers_of_rows[keep][first_bad(fault) or 0]
                text = cells[fault].iloc[0]
                bad[label] = fault, f"row {row}, column {label}: {text!r} is not {wanted(target)}"
            frame[target] = found
            if target in TIME_COLUMNS:
                moments[target] = cells
        elif target == "outcome":
            frame[target] = cells.map(mapping.outcomes).astype(object).fillna("unknown")
        else:
            frame[target] = extracted(cells, mapping.extract.get(target))
    _check_epoch(frame, mapping, rows.name)
    if set(TIME_COLUMNS) <= set(moments):
        submit, start, end = (frame[name].to_numpy(copy=True) for name in TIME_COLUMNS)
        frame["start_s"], frame["end_s"] = in_turn(
            submit,
            start,
            end,
            lambda name: values(moments[name], name, mapping, name, first=False)[0],
        )
    for target, constant in mapping.constants.items():
        frame[target] = constant
    frame = frame[~_lost(frame, bad, numbers_of_rows[keep], rows)]
    if mapping.unique_by:
        again = frame.duplicated(subset=mapping.unique_by)
        rows.skip("duplicate rows", int(again.sum()))
        frame = frame[~again]
    if mapping.submission == "shuffled":
        frame = frame.iloc[np.random.default_rng(_SHUFFLE_SEED).permutation(len(frame))].copy()
    if mapping.submission in ("in_turn", "shuffled"):
        ran = frame["run_s"].clip(lower=0).fillna(0).to_numpy()
        frame["submit_s"] = frame["start_s"] = np.cumsum(ran) - ran
    elif mapping.submission == "at_once":
        frame["submit_s"] = 0.0
    return frame


def _check_epoch(frame: pd.DataFrame, mapping: ColumnMap, name: str) -> None:
    """Raise a BadLog where moments would lie thousands of years ahead: they are no seconds."""
    for target in TIME_COLUMNS:
        if target in frame.columns and (unit := unit_of_moments(frame[target])) is not None:
            source = mapping.columns[target]
            raise BadLog(
                f"{name}, column {source}: as seconds these moments are thousands of years ahead, "
                f"and they look like {unit}; write 'units:' and below it '  {target}: {unit}' in a "
                "column map (--columns), or divide them"
            )


def _lost(
    frame: pd.DataFrame,
    bad: dict[str, tuple[np.ndarray, str]],
    numbers_of_rows: np.ndarray,
    rows: Rows,
) -> np.ndarray:
    """Rows with an unreadable cell; one of run_s that start and end tell is repaired."""
    lost = np.zeros(len(frame), dtype=bool)
    rises = (
        (frame["end_s"] >= frame["start_s"]).to_numpy()
        if {"start_s", "end_s"} <= set(frame.columns)
        else lost
    )
    for label, (fault, sentence) in bad.items():
        repaired = fault & ~lost & rises & (label == "run_s" or label.endswith("(run_s)"))
        gone = fault & ~lost & ~repaired
        for places, tell, how in (
            (numbers_of_rows[repaired], rows.repair, "taken from start and end"),
            (numbers_of_rows[gone], rows.drop, ""),
        ):
            reason = f"unreadable {label}" + (f", {how}" if how else "")
            tell(reason, [f"row {k}" for k in places], sentence)
        lost |= gone
    return lost


def write_jobs(frame: pd.DataFrame, path: str | PathLike[str]) -> None:
    """Write a canonical log to a Parquet file, its attrs in the file's metadata.

    Parameters
    ----------
    frame : DataFrame
        Canonical; its attrs must be JSON.
    path : str or PathLike
        Written beside its final place and renamed, so that no half file is ever there. A device
        or a pipe (``/dev/stdout``) is written to, and stays.

    Raises
    ------
    BadLog
        Where the frame is not canonical.
    """
    if list(frame.columns) != [*COLUMNS, *extra_columns(frame)]:
        raise BadLog("the frame to write is not canonical; pass it through canonical()")
    # pandas' own attrs handling would store them a second time, and refuses what is no JSON.
    bare = frame.copy()
    bare.attrs = {}
    table = pa.Table.from_pandas(bare, preserve_index=False)
    attrs = json.dumps(frame.attrs).encode()
    table = table.replace_schema_metadata({**table.schema.metadata, _METADATA_KEY: attrs})
    if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        sink = pa.BufferOutputStream()
        pa.parquet.write_table(table, sink, write_page_checksum=True)
        with open(path, "ab") as stream:
            stream.write(sink.getvalue())
        return
    target = Path(os.path.realpath(path))  # a link stays one
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        pa.parquet.write_table(table, unfinished, write_page_checksum=True)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def read_jobs(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a Parquet file of `write_jobs`: the same frame with the same attrs.

    Raises
    ------
    BadLog
        Where the file is missing, damaged or was not written by `write_jobs`.
    """
    file = Path(path)
    raw = read_bytes(file)
    remedy = "make it with plancast ingest"
    if not raw.startswith(_PARQUET):
        raise BadLog(f"{file.name} is no Parquet file of jobs; {remedy}")
    table = _parquet(raw, file.name)
    if _METADATA_KEY not in (table.schema.metadata or {}):
        raise BadLog(f"{file.name} was not written as a canonical log; {remedy}")
    # Logs that were ingested before these were read have none.
    later = ("mem_peak_mib", *FREE_TEXTS)
    missing = [c for c in COLUMNS if c not in table.column_names and c not in later]
    if missing:
        raise BadLog(f"{file.name} has no column {missing[0]}; {remedy}")
    frame = table.to_pandas()
    frame.attrs = _stored_attrs(table, file.name)
    return canonical(frame)
