"""Readers of job logs: one file each, every one returns the canonical frame.

`READERS` is the registry; the contract tests iterate it. `read_log` picks a reader by
name or by looking at the file.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from plancast.predictor.logs.column_map import ColumnMap, Columns
from plancast.predictor.logs.pbs import PbsReader
from plancast.predictor.logs.rows import Rows
from plancast.predictor.logs.sacct import SacctReader
from plancast.predictor.logs.source import check_zone, read_bytes, refuse_binary
from plancast.predictor.logs.swf import SwfReader
from plancast.predictor.logs.table import TableReader, read_jobs, write_jobs
from plancast.predictor.logs.wfformat import WfFormatReader
from plancast.predictor.schema import BadLog

__all__ = ["READERS", "ColumnMap", "Reader", "read_jobs", "read_log", "write_jobs"]


class Reader(Protocol):
    """What a reader is: a name, the options it takes, a quick look and a reading."""

    @property
    def name(self) -> str:
        """The format's name, as ``--format`` takes it."""

    @property
    def options(self) -> frozenset[str]:
        """Keyword options that `read` takes."""

    def sniff(self, path: Path) -> bool:
        """Whether the file looks like this format; reads its beginning only, never raises."""

    def read(self, path: Path, **options: Any) -> pd.DataFrame:
        """The canonical frame; `rows`, where given, keeps account of bad ones. BadLog if not."""


READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (SwfReader(), SacctReader(), PbsReader(), WfFormatReader(), TableReader())
}
"""Readers by name, in the order in which ``auto`` asks them."""


def read_log(
    path: str | PathLike[str],
    format: str = "auto",
    columns: Columns | None = None,
    *,
    max_bad: float | None = None,
    strict: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Read a job log into the canonical frame.

    Parameters
    ----------
    path : str or PathLike
        The log, plain or gzip.
    format : str
        ``auto`` or a name in `READERS`.
    columns : path-like, mapping or ColumnMap, optional
        Column map of a table: its file (YAML), what that holds, or canonical columns to the
        table's own, with the others guessed; makes ``auto`` mean ``table``.
    max_bad : float, optional
        Share of bad rows above which the log is refused; by default 0.05, where they are more
        than five.
    strict : bool
        Whether any bad row refuses the log.
    **options
        Options of the reader: ``timezone`` of those that have local times, ``fields`` and
        ``delimiter`` of ``sacct``.

    Returns
    -------
    DataFrame
        Canonical. Its attrs are ``format``, ``source`` (file name without folder),
        ``header`` (facts of the machine, str to str), ``dropped`` and ``repaired`` (rows by
        reason) and ``notes`` (sentences for people).

    Raises
    ------
    BadLog
        Where the file, the format or an option is not what it should be.
    """
    log = Path(path)
    if columns is not None:
        options["columns"] = columns
    reader = _reader(log, format, has_map=columns is not None)
    for name in options:
        if name not in reader.options:
            raise BadLog(
                f"{log.name}: a log of format {reader.name} takes no option {name!r}; leave out "
                f"--{name}, or name another --format"
            )
    if options.get("timezone") is not None:
        check_zone(str(options["timezone"]))
    return reader.read(log, rows=Rows(log.name, max_bad, strict), **options)


def _reader(log: Path, format: str, *, has_map: bool) -> Reader:
    if format != "auto":
        if format not in READERS:
            raise BadLog(f"format {format!r} is unknown; it is auto, {', '.join(READERS)}")
        return READERS[format]
    if has_map:
        return READERS["table"]
    if not log.is_file():
        read_bytes(log)  # says what is wrong with it
    for reader in READERS.values():
        if reader.sniff(log):
            return reader
    refuse_binary(read_bytes(log), log.name)
    raise BadLog(
        f"{log.name}: its format cannot be recognised; give --format, one of {', '.join(READERS)}"
    )
