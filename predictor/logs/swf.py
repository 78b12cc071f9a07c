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
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.predictor.logs.rows import Rows, finish
from plancast.predictor.logs.source import first_lines, read_bytes, refuse_binary
from plancast.predictor.schema import BadLog

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
_UNKNOWN = -1
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
        lines = first_lines(path, 2)
        return bool(lines) and (
            lines[0].startswith(";") or any(_is_job(line.encode().split()) for line in lines)
        )

    def read(self, path: Path, *, rows: Rows | None = None, **options: Any) -> pd.DataFrame:
        """The canonical frame of an SWF log.

        Parameters
        ----------
        path : Path
            Plain text or gzip.
        rows : Rows, optional
            Account of bad rows.

        Returns
        -------
        DataFrame
            ``attrs["header"]`` holds the header's ``Key: value`` lines; a key that comes
            again has its values on lines of their own.

        Raises
        ------
        BadLog
            Where it is damaged, empty, has no job, or too many bad lines.

        Notes
        -----
        - ``submit_s`` is ``UnixStartTime`` of the header plus the submit time; without a
          header, or where it does not know, submissions count from 0.
        - Further columns at the end of every line are ignored with a note, and so is a line of
          names above the first job. Any other line without 18 numbers is left out.
        - Start and end are known only where the wait time is.
        - Processors are those requested, else those used. Memory is KB per processor times
          processors, in MiB.
        - Status 1 is completed, 0 failed, 5 cancelled. Any other than 1 whose run time
          reached the requested time is a timeout: the archive has no code for it and logs
          a job killed at its limit as failed or as cancelled.
        - Lines of status 2, 3 and 4 are parts of a job that has a line of its own; they are
          dropped and counted.
        """
        rows = rows or Rows(path.name)
        raw = read_bytes(path)
        refuse_binary(raw, path.name)
        header = _header(raw)
        values, lines = _values(raw, rows)
        partial = np.isin(values["status"], _PARTIAL)
        rows.skip("partial executions", int(partial.sum()))
        values, lines = values[~partial], lines[~partial]
        if values.empty:
            rows.check(0)
            raise BadLog(f"{path.name} has no job; give a log with at least one line of numbers")
        places = np.char.add("line ", lines.astype(str))
        for field in ("submit time", "wait time", "run time"):
            odd = (values[field] < 0) & (values[field] != _UNKNOWN)
            rows.repair(f"negative {field} taken as unknown", places[odd.to_numpy()])
        frame = _jobs(values, _origin_s(header, rows))
        facts = {"format": self.name, "source": path.name, "header": header}
        return finish(frame, places, rows, facts)


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


def _origin_s(header: dict[str, str], rows: Rows) -> float:
    if "UnixStartTime" not in header:
        return 0.0
    text = header["UnixStartTime"].split("\n")[0]
    number = text.split()[0]
    if _NUMBER.fullmatch(number.encode()) and float(number) >= 0:
        return float(number)
    rows.note(f"the start of the log is unknown (UnixStartTime: {text}): times count from 0")
    return 0.0


def _values(raw: bytes, rows: Rows) -> tuple[pd.DataFrame, np.ndarray]:
    """The numbers of the good lines, and the number of each line in the file."""
    values = _parsed(raw, len(FIELDS))
    if values is None:
        return _picked(raw, rows)
    # Only now, when there are as many values as such lines, is it known which line is whose.
    job = re.compile(rb"^[^\n;]*[^\s;]", flags=re.MULTILINE)
    begun = [match.start() for match in job.finditer(raw)]
    if len(begun) != len(values):
        return _picked(raw, rows)
    ends = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == ord("\n"))
    return values, np.searchsorted(ends, begun, side="left") + 1


def _parsed(raw: bytes, width: int) -> pd.DataFrame | None:
    """All lines as numbers by the fast parser; None where one is not `width` finite numbers."""
    # One column more than there should be shows lines that are too long.
    columns = [*FIELDS, *(f"further {k}" for k in range(len(FIELDS), width)), "too much"]
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
        return None
    numbers = values[list(FIELDS)]
    numeric = all(pd.api.types.is_numeric_dtype(dtype) for dtype in numbers.dtypes)
    if not numeric or values["too much"].notna().any():
        return None
    return numbers if np.isfinite(numbers.to_numpy(dtype="float64")).all() else None


def _is_job(tokens: list[bytes]) -> bool:
    return len(tokens) >= len(FIELDS) and all(_NUMBER.fullmatch(t) for t in tokens[: len(FIELDS)])


def _is_names(tokens: list[bytes]) -> bool:
    """Whether a line names columns: half of its words or more begin with a letter."""
    return 2 * sum(token[:1].isalpha() for token in tokens) >= len(tokens)


def _picked(raw: bytes, rows: Rows) -> tuple[pd.DataFrame, np.ndarray]:
    """The good lines one by one; the account counts the others."""
    found = [(k, line.split(b";", 1)[0].split()) for k, line in enumerate(raw.split(b"\n"), 1)]
    found = [(number, tokens) for number, tokens in found if tokens]
    while found and not _is_job(found[0][1]) and _is_names(found[0][1]):
        rows.note(f"line {found[0][0]} names columns and is skipped")
        found.pop(0)
    widths = Counter(len(tokens) for _, tokens in found if _is_job(tokens))
    width = max(widths, key=lambda w: widths[w], default=len(FIELDS))
    if width > len(FIELDS):
        rows.note(f"{width - len(FIELDS)} columns more than SWF's {len(FIELDS)} are ignored")
    good: list[list[float]] = []
    lines: list[int] = []
    bad: dict[str, list[int]] = {}
    faults: dict[str, str] = {}
    for number, tokens in found:
        reason, fault = _fault(tokens, width)
        if not reason:
            good.append([float(token) for token in tokens[: len(FIELDS)]])
            lines.append(number)
        else:
            bad.setdefault(reason, []).append(number)
            faults.setdefault(reason, f"line {number}{fault}")
    for reason, numbers in bad.items():
        rows.drop(reason, [f"line {k}" for k in numbers], faults[reason])
    values = pd.DataFrame(good, columns=list(FIELDS), dtype="float64")
    return values, np.array(lines, dtype=np.int64)


def _fault(tokens: list[bytes], width: int) -> tuple[str, str]:
    """What is wrong with a line: the kind, and the words after its number; "" if nothing is."""
    for name, token in zip(FIELDS, tokens, strict=False):
        if not _NUMBER.fullmatch(token) or not np.isfinite(float(token)):
            text = token[:40].decode("utf-8", errors="backslashreplace")
            return "a cell that is not a number", (
                f", field {name}: {text!r} is not a number (-1 is unknown)"
            )
    extra = tokens[len(FIELDS) :]
    # Numbers more than the other lines have may stand anywhere in the line; a word does not.
    wide = len(tokens) != width and (
        not extra or all(_NUMBER.fullmatch(token) for token in extra[:1])
    )
    if len(tokens) < len(FIELDS) or wide:
        return "another number of fields", (
            f": {len(tokens)} fields where SWF has {len(FIELDS)}"
            + ("" if width == len(FIELDS) else f" and this log {width}")
        )
    return "", ""


def _jobs(values: pd.DataFrame, origin_s: float) -> pd.DataFrame:
    def known(field: str, *, zero: bool) -> np.ndarray:
        cells: np.ndarray = values[field].to_numpy(dtype="float64", copy=True)
        cells[cells < 0 if zero else cells <= 0] = np.nan
        return cells

    submit_s = known("submit time", zero=True) + origin_s
    run_s = known("run time", zero=True)
    start_s = submit_s + known("wait time", zero=True)
    # A job whose run time is unknown never started; its wait is the time until it was removed,
    # and until then it was one of its user's jobs.
    end_s = np.where(np.isnan(run_s), start_s, np.nan)
    start_s[np.isnan(run_s)] = np.nan
    requested_s = known("time requested", zero=False)
    cpus = known("processors requested", zero=False)
    used = known("processors used", zero=False)
    cpus = np.where(np.isnan(cpus), used, cpus)
    used = np.where(np.isnan(used), cpus, used)
    status = values["status"]
    outcome = status.map(_OUTCOMES).astype(object).where(status.isin(list(_OUTCOMES)), "unknown")
    timeout = (status != _COMPLETED).to_numpy() & (run_s >= requested_s)
    return pd.DataFrame(
        {
            "job_id": values["job number"],
            "submit_s": submit_s,
            "start_s": start_s,
            "end_s": end_s,
            "run_s": run_s,
            "requested_s": requested_s,
            "cpus": cpus,
            "mem_mib": known("memory requested", zero=False) * cpus / 1024,
            "mem_peak_mib": known("memory used", zero=False) * used / 1024,
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
