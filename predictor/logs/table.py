"""Reader of CSV and Parquet tables through a column map, and the canonical Parquet file."""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import re
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from predictor.logs.source import decoded, epoch_seconds, first_bad, first_line, head, read_bytes
from predictor.schema import COLUMNS, OUTCOMES, BadLog, canonical, extra_columns, numbers

_PARQUET = b"PAR1"
_METADATA_KEY = b"plancast_jobs"
_UNKNOWN_CELLS = ("", "NA", "N/A", "NaN", "nan", "null", "None")
_TIME_COLUMNS = ("submit_s", "start_s", "end_s")
_SHUFFLE_SEED = 0
_MIB = 2**20
UNITS: dict[str, dict[str, float]] = {
    "time": {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60, "h": 3600, "d": 86_400},
    "memory": {
        "MiB": 1,
        "bytes": 1 / _MIB,
        "KiB": 1 / 1024,
        "GiB": 1024,
        "TiB": 1024**2,
        "kB": 1e3 / _MIB,
        "MB": 1e6 / _MIB,
        "GB": 1e9 / _MIB,
    },
    "count": {"one": 1, "milli": 1e-3, "percent": 1e-2},
}
"""Unit names a column map may use: what one of them is in seconds, MiB or pieces."""

_QUANTITY = {
    "submit_s": "time",
    "start_s": "time",
    "end_s": "time",
    "run_s": "time",
    "requested_s": "time",
    "mem_mib": "memory",
    "cpus": "count",
    "gpus": "count",
}


class ColumnMap(BaseModel):
    """How a table's columns become the canonical ones; the schema of a column-map file.

    Parameters
    ----------
    columns : dict
        Canonical column to source column.
    numeric, categorical : dict
        Further features known at submission; ``input_bytes: size`` gives ``num_input_bytes``.
    units : dict
        Canonical column to the unit of its source (see `UNITS`); seconds, MiB, pieces if not
        given.
    scale : dict
        Canonical column or numeric feature to a factor its values are multiplied by.
    constants : dict
        Canonical column to one value for all rows.
    submission : {"in_turn", "shuffled", "at_once"}, optional
        Of a table without submission times (instead of ``columns.submit_s``). ``in_turn``:
        rows stand in order of time, each submitted and started when the one above it ended,
        from 0 on. ``shuffled``: rows stand in no order of time (sorted by machine, say); in
        turn in an order drawn once for all. ``at_once``: all submitted at 0.
    outcomes : dict
        Text of the outcome's source column to an outcome; texts not listed are unknown.
    drop_if : dict
        Source column to texts; rows with one of them are dropped and counted.
    unique_by : list
        Canonical columns (or features); a row equal to an earlier one in all of them is
        dropped and counted.
    unknown : list
        Texts that mean "unknown" in every column.
    timezone : str
        Zone of times without an offset.
    separator : str
        Between the cells of a CSV line.
    header : dict
        Facts of the machine for ``attrs["header"]``, such as MaxProcs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: dict[str, str]
    numeric: dict[str, str] = Field(default_factory=dict)
    categorical: dict[str, str] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)
    scale: dict[str, float] = Field(default_factory=dict)
    constants: dict[str, str | float] = Field(default_factory=dict)
    submission: Literal["in_turn", "shuffled", "at_once"] | None = None
    outcomes: dict[str, Literal["completed", "failed", "cancelled", "timeout", "unknown"]] = Field(
        default_factory=dict
    )
    drop_if: dict[str, list[str]] = Field(default_factory=dict)
    unique_by: list[str] = Field(default_factory=list)
    unknown: list[str] = Field(default_factory=lambda: list(_UNKNOWN_CELLS))
    timezone: str = "UTC"
    separator: str = Field(default=",", min_length=1, max_length=1)
    header: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> ColumnMap:
        targets = [*self.columns, *self.features]
        for key in ("columns", "constants"):
            for name in getattr(self, key):
                _require_known(key, name, COLUMNS)
        for name in self.units:
            _require_known("units", name, [n for n in targets if n in _QUANTITY])
            _require_known(f"units.{name}", self.units[name], UNITS[_QUANTITY[name]])
        for name in self.scale:
            numeric = [n for n in targets if n in _QUANTITY or n.startswith("num_")]
            _require_known("scale", name, numeric)
        for name in self.unique_by:
            _require_known("unique_by", name, targets)
        self._submission_is_told()
        both = sorted(set(self.columns) & set(self.constants))
        if both:
            raise ValueError(f"constants: {both[0]} is in columns too; keep one of the two")
        return self

    def _submission_is_told(self) -> None:
        told = [name for name in _TIME_COLUMNS if name in self.columns]
        if self.submission is None and "submit_s" not in told:
            raise ValueError(
                "columns: submit_s is missing; name the column of submission times, or say "
                "submission: in_turn, shuffled or at_once where there are none"
            )
        if self.submission is not None and told:
            raise ValueError(f"submission: columns names {told[0]}; keep one of the two")
        if self.submission in ("in_turn", "shuffled") and "run_s" not in self.columns:
            raise ValueError(
                f"submission: {self.submission} needs the run times; name the column of run_s"
            )

    @property
    def features(self) -> dict[str, str]:
        """Extra features by their full name (``num_*``, ``cat_*``) to source column."""
        return {f"num_{n}": source for n, source in self.numeric.items()} | {
            f"cat_{n}": source for n, source in self.categorical.items()
        }

    def keys_by_source(self) -> list[tuple[str, str]]:
        """Each ``section.key`` of the map with the source column it names."""
        pairs = [(f"columns.{n}", source) for n, source in self.columns.items()]
        pairs += [(f"numeric.{n}", source) for n, source in self.numeric.items()]
        pairs += [(f"categorical.{n}", source) for n, source in self.categorical.items()]
        return pairs + [(f"drop_if.{source}", source) for source in self.drop_if]

    @classmethod
    def load(cls, path: str | PathLike[str]) -> ColumnMap:
        """Read a column-map file (YAML).

        Raises
        ------
        BadLog
            Where it is missing or not as the schema has it, naming file and key.
        """
        file = Path(path)
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadLog(f"{file}: there is no such column map; check the path") from None
        except (OSError, UnicodeDecodeError):
            raise BadLog(f"{file} cannot be read; give a column map in YAML") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise BadLog(f"column map {file.name}{line}: this is not YAML; mend it") from None
        if not isinstance(content, dict):
            raise BadLog(f"column map {file.name} is not a mapping; begin it with 'columns:'")
        try:
            return cls.model_validate(content)
        except ValidationError as invalid:
            raise BadLog(f"column map {file.name}, {_first_error(invalid)}") from None


def _require_known(key: str, name: str, known: Any) -> None:
    if name not in known:
        raise ValueError(f"{key}: {name} is unknown{_nearest(name, list(known))}")


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; the nearest are {', '.join(close)}" if close else f"; known are {', '.join(known)}"


def _first_error(invalid: ValidationError) -> str:
    error = invalid.errors()[0]
    text = str(error["msg"]).removeprefix("Value error, ")
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key} is no key of a column map{_nearest(key, list(ColumnMap.model_fields))}"
    return f"{key}: {text}; mend it" if key else text


class TableReader:
    """CSV (plain or gzip) or Parquet, through a column map or with canonical columns."""

    name = "table"
    options: frozenset[str] = frozenset({"columns"})

    def sniff(self, path: Path) -> bool:
        """Whether it is Parquet, or a text whose name says CSV or whose first line has commas."""
        if head(path).startswith(_PARQUET):
            return True
        return path.name.lower().endswith((".csv", ".csv.gz", ".parquet")) or (
            "," in first_line(path)
        )

    def read(
        self,
        path: Path,
        *,
        columns: ColumnMap | str | PathLike[str] | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """The canonical frame of a table.

        Parameters
        ----------
        path : Path
            CSV with a header line (plain or gzip), or Parquet.
        columns : ColumnMap or path, optional
            Without it columns with canonical names are taken, and others are left out.

        Returns
        -------
        DataFrame
            For a file of `write_jobs` read without a map the attrs are those it was
            written with.

        Raises
        ------
        BadLog
            Where the file is damaged, a column of the map is not in it, or a cell is not
            what its column wants.
        """
        raw = read_bytes(path)
        if isinstance(columns, ColumnMap):
            mapping, map_name = columns, "the column map"
        elif columns is not None:
            mapping, map_name = ColumnMap.load(columns), f"column map {Path(columns).name}"
        else:
            mapping, map_name = None, ""
        separator = mapping.separator if mapping else ","
        table = _parquet(raw, path.name) if raw.startswith(_PARQUET) else None
        if table is None:
            table = _csv(raw, path.name, separator)
        if table.num_rows == 0:
            raise BadLog(f"{path.name} has no job; give a table with at least one row")
        stored = _stored_attrs(table, path.name) if mapping is None else {}
        if mapping is None:
            mapping = _canonical_map(table.column_names, path.name)
        _require_columns(mapping, map_name, table.column_names, path.name)
        frame, dropped = _mapped(table, mapping, path.name)
        if frame.empty:
            raise BadLog(f"{path.name}: drop_if leaves no job; mend the column map")
        frame.attrs = stored or {
            "format": self.name,
            "source": path.name,
            "header": dict(mapping.header),
            "dropped": dropped,
        }
        return canonical(frame)


def _parquet(raw: bytes, name: str) -> pa.Table:
    try:
        table = pa.parquet.read_table(io.BytesIO(raw), page_checksum_verification=True)
        # Damaged texts and names show only when they are looked at.
        table.validate(full=True)
        _ = table.column_names
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise BadLog(f"{name} is cut short or damaged (Parquet): write or fetch it again") from None


def _csv(raw: bytes, name: str, separator: str) -> pa.Table:
    text = decoded(raw, name)
    try:
        names = next(csv.reader(io.StringIO(text), delimiter=separator))
        return pa.csv.read_csv(
            io.BytesIO(raw),
            # One thread: only then does a complaint carry the row's number.
            pa.csv.ReadOptions(use_threads=False),
            pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            # Texts first: ids keep their zeros, and a bad number is found with its row.
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowInvalid, csv.Error) as error:
        ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        if ragged:
            line, expected, got = ragged.groups()
            raise BadLog(
                f"{name}, line {line}: {got} cells where the header has {expected}; mend the line"
            ) from None
        raise BadLog(f"{name} cannot be taken apart as CSV; give CSV with a header line") from None


def _stored_attrs(table: pa.Table, name: str) -> dict[str, Any]:
    stored = (table.schema.metadata or {}).get(_METADATA_KEY, b"{}")
    try:
        return dict(json.loads(stored))
    except (ValueError, TypeError):
        raise BadLog(f"{name} is damaged (its stored header): write or fetch it again") from None


def _canonical_map(names: list[str], name: str) -> ColumnMap:
    """The map of a table whose columns bear canonical names already."""
    if "submit_s" not in names:
        raise BadLog(
            f"{name} has no column submit_s{_nearest('submit_s', names)}; give a column map"
        )
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
                f"{map_name}, {key}: {name} has no column {source!r}{_nearest(source, names)}"
            )
        if names.count(source) > 1:
            raise BadLog(f"{name} has two columns named {source!r}; rename one of them")


def _mapped(table: pa.Table, mapping: ColumnMap, name: str) -> tuple[pd.DataFrame, dict[str, int]]:
    row_numbers = np.arange(1, table.num_rows + 1)
    dropped: dict[str, int] = {}
    keep = np.ones(table.num_rows, dtype=bool)
    for source, texts in mapping.drop_if.items():
        cells = _column(table, source).astype(object).astype(str)
        for text in texts:
            hit = keep & (cells == text).to_numpy()
            if hit.any():
                dropped[f"{source} {text}"] = int(hit.sum())
            keep &= ~hit
    frame = pd.DataFrame(index=np.flatnonzero(keep))
    for target, source in (mapping.columns | mapping.features).items():
        cells = _column(table, source)[keep]
        cells = cells.where(~cells.isin(mapping.unknown), None)
        label = source if source == target else f"{source} ({target})"
        if target in _TIME_COLUMNS and not pd.api.types.is_numeric_dtype(cells.dtype):
            values = _times(cells, mapping, label, name, row_numbers[keep])
        elif target in _QUANTITY or target.startswith("num_"):
            values = _numbers(cells, label, name, row_numbers[keep])
        elif target == "outcome":
            frame[target] = cells.map(mapping.outcomes).astype(object).fillna("unknown")
            continue
        else:
            frame[target] = cells
            continue
        unit = UNITS[_QUANTITY[target]][mapping.units[target]] if target in mapping.units else 1
        frame[target] = values * unit * mapping.scale.get(target, 1)
    for target, constant in mapping.constants.items():
        frame[target] = constant
    if mapping.unique_by:
        again = frame.duplicated(subset=mapping.unique_by)
        dropped |= {"duplicate rows": int(again.sum())} if again.any() else {}
        frame = frame[~again]
    if mapping.submission == "shuffled":
        frame = frame.iloc[np.random.default_rng(_SHUFFLE_SEED).permutation(len(frame))].copy()
    if mapping.submission in ("in_turn", "shuffled"):
        ran = frame["run_s"].clip(lower=0).fillna(0).to_numpy()
        frame["submit_s"] = frame["start_s"] = np.cumsum(ran) - ran
    elif mapping.submission == "at_once":
        frame["submit_s"] = 0.0
    return frame, dropped


def _column(table: pa.Table, source: str) -> pd.Series:
    return table.column(source).to_pandas()


def _times(
    cells: pd.Series, mapping: ColumnMap, label: str, name: str, rows: np.ndarray
) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return numbers(cells, label)
    known = cells.notna().to_numpy()
    seconds = np.full(len(cells), np.nan)
    seconds[known] = epoch_seconds(cells[known].astype(object), mapping.timezone)
    bad = first_bad(known & np.isnan(seconds))
    if bad is not None:
        raise BadLog(
            f"{name}, row {rows[bad]}, column {label}: {cells.iloc[bad]!r} is not a number or a "
            "time like 2024-05-01T12:00:00; mend the cell"
        )
    return seconds


def _numbers(cells: pd.Series, label: str, name: str, rows: np.ndarray) -> np.ndarray:
    try:
        return numbers(cells, label)
    except BadLog:
        texts = cells.astype(object)
        bad = first_bad(pd.to_numeric(texts, errors="coerce").isna() & texts.notna()) or 0
        raise BadLog(
            f"{name}, row {rows[bad]}, column {label}: {texts.iloc[bad]!r} is not a number; "
            "mend the cell or leave it empty"
        ) from None


def write_jobs(frame: pd.DataFrame, path: str | PathLike[str]) -> None:
    """Write a canonical log to a Parquet file, its attrs in the file's metadata.

    Parameters
    ----------
    frame : DataFrame
        Canonical; its attrs must be JSON.
    path : str or PathLike
        Written beside its final place and renamed, so that no half file is ever there.

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
    target = Path(path)
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
    mend = "make it with plancast ingest"
    if not raw.startswith(_PARQUET):
        raise BadLog(f"{file.name} is no Parquet file of jobs; {mend}")
    table = _parquet(raw, file.name)
    if _METADATA_KEY not in (table.schema.metadata or {}):
        raise BadLog(f"{file.name} was not written as a canonical log; {mend}")
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise BadLog(f"{file.name} has no column {missing[0]}; {mend}")
    frame = table.to_pandas()
    frame.attrs = _stored_attrs(table, file.name)
    return canonical(frame)
