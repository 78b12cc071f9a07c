"""Reader of the Standard Workload Format: eighteen numbers a line after ``;`` header lines.

References
----------
Chapin et al. (1999), "Benchmarks and standards for the evaluation of parallel job
schedulers", doi:10.1007/3-540-47954-6_4; the Parallel Workloads Archive's page "The
Standard Workload Format".
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from predictor.logs.source import first_line, read_bytes
from predictor.schema import BadLog, canonical

FIELDS = (
    "job number",
    "submit time",
    "wait time",
    "run time",
    "processors used",
    "CPU time used",
    "memory used",
    "processors requested",
    "time requested",
    "memory requested",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding job",
    "think time",
)
"""The eighteen fields, in order; -1 is "unknown" in each."""

_COMPLETED, _CANCELLED = 1, 5
_OUTCOMES = {0: "failed", _COMPLETED: "completed", _CANCELLED: "cancelled"}
_PARTIAL = (2, 3, 4)
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Not the "http" of a web address on a line of its own.
_HEADER_LINE = re.compile(r"^([A-Za-z][\w ]*?):(?!//)\s*(.*)$")


class SwfReader:
    """Standard Workload Format, plain or gzip."""

    name = "swf"
    options: frozenset[str] = frozenset()

    def sniff(self, path: Path) -> bool:
        """Whether the name ends in .swf(.gz), or the text begins with ``;`` or 18 numbers."""
        if path.name.lower().endswith((".swf", ".swf.gz")):
            return True
        line = first_line(path)
        tokens = line.encode().split()
        return line.startswith(";") or (
            len(tokens) == len(FIELDS) and all(_NUMBER.fullmatch(t) for t in tokens)
        )

    def read(self, path: Path, **options: Any) -> pd.DataFrame:
        """The canonical frame of an SWF log.

        Parameters
        ----------
        path : Path
            Plain text or gzip.

        Returns
        -------
        DataFrame
            ``attrs["header"]`` holds the header's ``Key: value`` lines; a key that comes
            again has its values on lines of their own.

        Raises
        ------
        BadLog
            Where it is damaged, empty, has a line without 18 numbers, or no job.

        Notes
        -----
        - ``submit_s`` is ``UnixStartTime`` of the header plus the submit time; without a
          header it counts from the log's start.
        - Start and end are known only where the wait time is.
        - Processors are those requested, else those used. Memory is KB per processor times
          processors, in MiB.
        - Status 1 is completed, 0 failed, 5 cancelled. Any other than 1 whose run time
          reached the requested time is a timeout: the archive has no code for it and logs
          a job killed at its limit as failed or as cancelled.
        - Lines of status 2, 3 and 4 are parts of a job that has a line of its own; they are
          dropped and counted.
        """
        raw = read_bytes(path)
        header = _header(raw)
        values = _values(raw, path.name)
        partial = np.isin(values["status"], _PARTIAL)
        values = values[~partial]
        if values.empty:
            raise BadLog(f"{path.name} has no job; give a log with at least one line of numbers")
        frame = _jobs(values, _origin_s(header, path.name))
        frame.attrs = {
            "format": self.name,
            "source": path.name,
            "header": header,
            "dropped": {"partial executions": int(partial.sum())} if partial.any() else {},
        }
        return canonical(frame)


def _header(raw: bytes) -> dict[str, str]:
    header: dict[str, str] = {}
    key = ""
    for line in re.findall(rb"^[ \t]*;([^\r\n]*)", raw, flags=re.MULTILINE):
        # The archive's old headers are Latin-1 here and there; names must not stop a reading.
        text = line.decode("utf-8", errors="replace").strip()
        match = _HEADER_LINE.match(text)
        if match:
            key, text = match[1], match[2]
        if key and text:
            header[key] = f"{header[key]}\n{text}" if key in header else text
    return header


def _origin_s(header: dict[str, str], name: str) -> float:
    text = header.get("UnixStartTime", "0").split("\n")[0]
    try:
        return float(text)
    except ValueError:
        raise BadLog(
            f"{name}, header: UnixStartTime {text!r} is not a number; mend or remove the line"
        ) from None


def _values(raw: bytes, name: str) -> pd.DataFrame:
    # One column more than there should be shows lines that are too long.
    columns = [*FIELDS, "too much"]
    try:
        with warnings.catch_warnings():
            # A line longer still is only worth a warning to pandas.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            values = pd.read_csv(
                io.BytesIO(raw),
                sep=r"\s+",
                comment=";",
                header=None,
                names=columns,
                index_col=False,
                quoting=csv.QUOTE_NONE,
                low_memory=False,
            )
    except (ValueError, pd.errors.ParserWarning):
        _complain(raw, name)
    numbers = values[list(FIELDS)]
    numeric = all(pd.api.types.is_numeric_dtype(dtype) for dtype in numbers.dtypes)
    if (
        not numeric
        or values["too much"].notna().any()
        or not np.isfinite(numbers.to_numpy(dtype="float64")).all()
    ):
        _complain(raw, name)
    return numbers


def _complain(raw: bytes, name: str) -> NoReturn:
    """Find the first bad line the slow way; the fast parser does not say where it is."""
    for number, line in enumerate(raw.split(b"\n"), start=1):
        tokens = line.split(b";", 1)[0].split()
        for field, token in zip(FIELDS, tokens, strict=False):
            if not _NUMBER.fullmatch(token):
                text = token[:40].decode("utf-8", errors="backslashreplace")
                raise BadLog(
                    f"{name}, line {number}, field {field}: {text!r} is not a number; "
                    "mend the cell (-1 is unknown)"
                )
        if tokens and len(tokens) != len(FIELDS):
            raise BadLog(
                f"{name}, line {number}: {len(tokens)} fields where SWF has {len(FIELDS)}; "
                "mend the line or fetch the log again"
            )
    raise BadLog(f"{name} has no job; give a log with at least one line of numbers")


def _jobs(values: pd.DataFrame, origin_s: float) -> pd.DataFrame:
    def known(field: str, *, zero: bool) -> np.ndarray:
        cells: np.ndarray = values[field].to_numpy(dtype="float64", copy=True)
        cells[cells < 0 if zero else cells <= 0] = np.nan
        return cells

    submit_s = known("submit time", zero=True) + origin_s
    run_s = known("run time", zero=True)
    start_s = submit_s + known("wait time", zero=True)
    # A job whose run time is unknown never started; its wait is the time until it was removed.
    start_s[np.isnan(run_s)] = np.nan
    requested_s = known("time requested", zero=False)
    cpus = known("processors requested", zero=False)
    cpus = np.where(np.isnan(cpus), known("processors used", zero=False), cpus)
    status = values["status"]
    outcome = status.map(_OUTCOMES).astype(object).where(status.isin(list(_OUTCOMES)), "unknown")
    timeout = (status != _COMPLETED).to_numpy() & (run_s >= requested_s)
    return pd.DataFrame(
        {
            "job_id": values["job number"],
            "submit_s": submit_s,
            "start_s": start_s,
            "run_s": run_s,
            "requested_s": requested_s,
            "cpus": cpus,
            "mem_mib": known("memory requested", zero=False) * cpus / 1024,
            "user": _ids(values["user"]),
            "group": _ids(values["group"]),
            "app": _ids(values["executable"]),
            "queue": _ids(values["queue"]),
            "partition": _ids(values["partition"]),
            "outcome": outcome.mask(timeout, "timeout"),
        }
    )


def _ids(values: pd.Series) -> pd.Series:
    return values.where(values >= 0)
