"""The canonical job log: one frame, one set of column names, units and dtypes.

Every reader returns it, everything else in the package takes it. Times are float
seconds; NaN (or an empty string in text columns) means "unknown". Rows are sorted by
``submit_s`` and then by their place in the file.

`canonical` makes such a frame, `check_log` says what is wrong or odd in it, `usable`
applies the rule for rows that cannot teach a run time, `fill_requests` and
`replayed_ends` fill what a log did not record.
"""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from plancast.predictor.frames import BadLog as BadLog
from plancast.predictor.frames import frame_of
from plancast.predictor.texts import FREE_TEXTS, LONGEST_TEXT, texts_of
from plancast.wording import counted


@dataclass(frozen=True)
class Column:
    """One canonical column: dtype, what it means, and when it is known."""

    dtype: str
    meaning: str
    known_at_submission: bool


COLUMNS: dict[str, Column] = {
    "job_id": Column("str", "identifier in its log", True),
    "submit_s": Column("float64", "submission, seconds since the epoch (or the log's start)", True),
    "start_s": Column("float64", "start, seconds; NaN where the log has no waits", False),
    "end_s": Column("float64", "end, seconds", False),
    "run_s": Column("float64", "run time, seconds; NaN where it never ran", False),
    "requested_s": Column("float64", "requested time, the kill limit, seconds", True),
    "cpus": Column("float64", "processors requested (used, where no request is known)", True),
    "mem_mib": Column("float64", "memory requested, MiB, whole job", True),
    "gpus": Column("float64", "GPUs requested", True),
    "user": Column("str", "who submitted it", True),
    "group": Column("str", "the user's group or account", True),
    "app": Column("str", "executable or job name", True),
    "queue": Column("str", "queue, QoS or virtual cluster", True),
    "partition": Column("str", "partition or machine class asked for", True),
    "outcome": Column("str", "completed, failed, cancelled, timeout or unknown", False),
    "mem_peak_mib": Column("float64", "largest memory in use, MiB, whole job", False),
    "work_dir": Column("str", "directory that it is submitted to run in", True),
    "submit_line": Column("str", "command line that submitted it", True),
}
"""Canonical columns. A frame may carry extra features named ``num_*`` or ``cat_*``,
which are known at submission by declaration of the column map."""

OUTCOMES = ("completed", "failed", "cancelled", "timeout", "unknown")
KNOWN_AT_SUBMISSION: tuple[str, ...] = tuple(n for n, c in COLUMNS.items() if c.known_at_submission)
NUMBER_COLUMNS: tuple[str, ...] = tuple(n for n, c in COLUMNS.items() if c.dtype == "float64")


def extra_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the extra feature columns of a frame, in order: ``num_*`` and ``cat_*``."""
    return [c for c in frame.columns if c.startswith(("num_", "cat_"))]


def canonical(frame: Any) -> pd.DataFrame:
    """A canonical copy of `frame`: missing columns filled, dtypes set, rows in submission order.

    Parameters
    ----------
    frame : DataFrame, or what ``frame_of`` takes
        Any subset of the canonical columns (``submit_s`` at least) and extra features.

    Returns
    -------
    DataFrame
        All canonical columns, then the extra features; a new RangeIndex; `frame`'s attrs.

    Raises
    ------
    BadLog
        Where a column is missing or listed twice, or a number column holds text, naming
        the first such row.

    Notes
    -----
    Of start, end and run time the third follows where two are known: ``end = start + run``.
    A datetime column becomes seconds since the epoch (one without a zone is taken as UTC).
    """
    frame = frame_of(frame, "the log")
    if "submit_s" not in frame.columns:
        raise BadLog("the log has no column submit_s; name the submission time in the column map")
    columns: dict[str, np.ndarray] = {}
    for name, column in COLUMNS.items():
        if name not in frame.columns:
            columns[name] = _unknown(column.dtype, len(frame))
        elif column.dtype == "float64":
            columns[name] = numbers(frame[name], name)
        else:
            longest = LONGEST_TEXT if name in FREE_TEXTS else None
            columns[name] = texts_of(frame[name], longest)
    for name in extra_columns(frame):
        number = name.startswith("num_")
        columns[name] = numbers(frame[name], name) if number else texts_of(frame[name])
    start, end, run = columns["start_s"], columns["end_s"], columns["run_s"]
    columns["run_s"] = np.where(np.isnan(run), end - start, run)
    columns["end_s"] = np.where(np.isnan(end), start + run, end)
    columns["start_s"] = np.where(np.isnan(start), end - run, start)
    known_outcome = np.isin(columns["outcome"].astype(str), OUTCOMES)
    columns["outcome"] = np.where(known_outcome, columns["outcome"], "unknown").astype(object)
    order = np.argsort(columns["submit_s"], kind="stable")
    result = pd.DataFrame(
        {
            name: pd.Series(values[order], dtype=object if values.dtype == object else "float64")
            for name, values in columns.items()
        }
    )
    result.attrs = copy.deepcopy(frame.attrs)
    return result


def numbers(values: pd.Series, label: str) -> np.ndarray:
    """`values` as floats, NaN where the cell is empty.

    Parameters
    ----------
    values : Series
        Numbers, texts of numbers, datetimes (made seconds since the epoch) or durations.
    label : str
        How a complaint names the column.

    Returns
    -------
    ndarray of float64, shape (n,)
        A fresh array that may be written to.

    Raises
    ------
    BadLog
        Where a cell is neither empty nor a number, naming the first such row.
    """
    # Never through integers: pandas' datetimes count nanoseconds or microseconds by version.
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        values = (pd.to_datetime(values, utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta("1s")
    elif pd.api.types.is_timedelta64_dtype(values.dtype):
        values = values / pd.Timedelta("1s")
    result: np.ndarray = np.array(
        pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    )
    suspects = np.flatnonzero(np.isnan(result) & values.notna().to_numpy())
    for row in suspects:
        cell = values.iloc[row]
        if str(cell).strip() != "" and cell == cell:
            raise BadLog(
                f"row {row + 1}, column {label}: {cell!r} is not a number; "
                "repair the cell or leave it empty"
            )
    return result


def _unknown(dtype: str, rows: int) -> np.ndarray:
    if dtype == "float64":
        return np.full(rows, np.nan)
    return np.full(rows, "", dtype=object)


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong with rows of a canonical log, and how to find them."""

    kind: str
    error: bool
    remedy: str
    find: Callable[[pd.DataFrame], Any]


RULES: tuple[Rule, ...] = (
    Rule("no submission time", True, "leave such rows out", lambda f: f.submit_s.isna()),
    Rule(
        "not in submission order",
        True,
        "pass the frame through canonical()",
        lambda f: f.submit_s.diff() < 0,
    ),
    Rule(
        "infinite number",
        True,
        "leave the cell empty where the value is unknown",
        lambda f: np.isinf(f[list(NUMBER_COLUMNS)]).any(axis=1),
    ),
    Rule("negative run time", True, "leave the cell empty", lambda f: f.run_s < 0),
    Rule("end before start", True, "repair the times", lambda f: f.end_s < f.start_s),
    Rule(
        "negative request",
        True,
        "leave the cell empty where the request is unknown",
        lambda f: (f[["requested_s", "cpus", "mem_mib", "gpus"]] < 0).any(axis=1),
    ),
    Rule(
        "job id used before",
        False,
        "attempts of one job are kept as jobs of their own",
        lambda f: f.job_id.duplicated() & (f.job_id != ""),
    ),
    Rule(
        "start before submission",
        False,
        "the wait counts as negative; look at the log's clocks",
        lambda f: f.start_s < f.submit_s,
    ),
    Rule(
        "end is not start plus run time",
        False,
        "run_s is believed; suspended jobs look like this",
        lambda f: (f.end_s - f.start_s - f.run_s).abs() > 1,
    ),
    Rule(
        "no positive run time",
        False,
        "usable() leaves such jobs out",
        lambda f: f.run_s.isna() | (f.run_s == 0),
    ),
    Rule(
        "ran without a known start",
        False,
        "replayed_ends() fills a log that has no starts at all",
        lambda f: f.start_s.isna() & (f.run_s > 0),
    ),
    Rule(
        "no requested time",
        False,
        "fill_requests() takes the largest request so far",
        lambda f: f.requested_s.isna(),
    ),
    Rule(
        "ran past its request",
        False,
        "kept as it is",
        lambda f: f.run_s > f.requested_s,
    ),
    Rule(
        "no processors and no GPUs",
        False,
        "its size is unknown",
        lambda f: ~((f.cpus > 0) | (f.gpus > 0)),
    ),
    Rule("no user", False, "such jobs share one unknown user", lambda f: f.user == ""),
    Rule("unknown outcome", False, "counted as unknown", lambda f: f.outcome == "unknown"),
)
"""What `check_log` looks for in the rows; each is found by itself."""

_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """Rows of one kind.

    Parameters
    ----------
    kind : str
        What is wrong, as in `RULES`, or ``schema: ...``.
    error : bool
        Whether the log must be repaired first; else it is only counted.
    count : int
        Number of such rows.
    rows : tuple of int
        The first few of them, counted from 0.
    job_ids : tuple of str
        Their job ids.
    repair : str
        What to do about it, or what is done.
    """

    kind: str
    error: bool
    count: int
    rows: tuple[int, ...] = ()
    job_ids: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        """One line: kind, count, the first rows, the repair."""
        first = ", ".join(
            f"row {row + 1} (job {job})" for row, job in zip(self.rows, self.job_ids, strict=True)
        )
        where = f" in {counted(self.count, 'row')}, first {first}" if first else ""
        return f"{self.kind}{where}; {self.remedy}"


@dataclass(frozen=True)
class LogReport:
    """What `check_log` found in a log of `rows` rows."""

    rows: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that must be repaired before the log is used."""
        return tuple(f for f in self.findings if f.error)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are only counted."""
        return tuple(f for f in self.findings if not f.error)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by kind."""
        return {f.kind: f.count for f in self.findings}

    def raise_errors(self, source: str = "the log") -> None:
        """Raise a BadLog that names the first error, if there is one."""
        if self.errors:
            more = (
                f" (and {counted(len(self.errors) - 1, 'more kind')})"
                if len(self.errors) > 1
                else ""
            )
            raise BadLog(f"{source}: {self.errors[0]}{more}")


def check_log(frame: pd.DataFrame) -> LogReport:
    """What is wrong or odd in a log, with counts and the first rows of each kind.

    Parameters
    ----------
    frame : DataFrame
        A canonical log.

    Returns
    -------
    LogReport
        Findings of `RULES` in their order. Where the frame itself is not canonical (a
        column missing, of the wrong dtype or out of place) only that is reported.
    """
    shape = _schema_findings(frame)
    if shape:
        return LogReport(len(frame), shape)
    findings = []
    for rule in RULES:
        rows = np.flatnonzero(np.asarray(rule.find(frame), dtype=bool))
        if rows.size:
            first = tuple(int(row) for row in rows[:_SHOWN])
            job_ids = tuple(frame["job_id"].iloc[list(first)])
            findings.append(Finding(rule.kind, rule.error, rows.size, first, job_ids, rule.remedy))
    return LogReport(len(frame), tuple(findings))


def _schema_findings(frame: pd.DataFrame) -> tuple[Finding, ...]:
    # Imported here because it takes half as long as pandas itself and only a check wants it.
    import pandera.pandas as pa

    columns = {
        name: pa.Column(
            object if column.dtype == "str" else column.dtype,
            pa.Check.isin(OUTCOMES) if name == "outcome" else None,
            nullable=column.dtype != "str",
        )
        for name, column in COLUMNS.items()
    }
    for name in extra_columns(frame):
        number = name.startswith("num_")
        columns[name] = pa.Column("float64" if number else object, nullable=number)
    schema = pa.DataFrameSchema(columns, strict=True, ordered=True)
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as failed:
        # Where the check is on the frame itself, the failing case is the column's name.
        cases = failed.failure_cases
        of_frame = (cases["schema_context"] == "DataFrameSchema").to_numpy()
        where = np.where(of_frame, cases["failure_case"].astype(str), cases["column"].astype(str))
        kinds = pd.Series([f"schema: {c}: {k}" for c, k in zip(where, cases["check"], strict=True)])
        counts = kinds.value_counts(sort=False)
        remedy = "pass the frame through canonical()"
        return tuple(
            Finding(str(kind), True, int(count), remedy=remedy) for kind, count in counts.items()
        )
    return ()


@dataclass(frozen=True)
class UsableCounts:
    """How many rows `usable` kept, and why it left the others out.

    Parameters
    ----------
    rows, kept : int
        Rows before and after.
    excluded : dict of str to int
        Rows left out by reason; the first reason that applies counts.
    outcomes : dict of str to int
        Kept rows by outcome.
    """

    rows: int
    kept: int
    excluded: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)


def usable(
    frame: pd.DataFrame, outcomes: Collection[str] = OUTCOMES
) -> tuple[pd.DataFrame, UsableCounts]:
    """The jobs a run time can be learned from, and the count of those left out by reason.

    Parameters
    ----------
    frame : DataFrame
        A canonical log.
    outcomes : collection of str
        Outcomes to keep. All are kept by default: a failed or killed job held its
        processors for its run time too, and whoever learns decides what is censored.

    Returns
    -------
    frame : DataFrame
        The kept rows with a new RangeIndex, attrs as before.
    counts : UsableCounts

    Notes
    -----
    Left out: no submission time; run time unknown; run time <= 0; an outcome not in
    `outcomes`.
    """
    run_s = frame["run_s"].to_numpy()
    reasons: list[tuple[str, np.ndarray]] = [
        ("no submission time", frame["submit_s"].isna().to_numpy()),
        ("run time unknown", np.isnan(run_s)),
        ("run time not positive", run_s <= 0),
    ]
    reasons += [
        (f"outcome {outcome}", (frame["outcome"] == outcome).to_numpy())
        for outcome in OUTCOMES
        if outcome not in outcomes
    ]
    keep = np.ones(len(frame), dtype=bool)
    excluded: dict[str, int] = {}
    for reason, hit in reasons:
        count = int((hit & keep).sum())
        if count:
            excluded[reason] = count
        keep &= ~hit
    kept = frame[keep].reset_index(drop=True)
    by_outcome = {o: int((kept["outcome"] == o).sum()) for o in OUTCOMES}
    present = {o: n for o, n in by_outcome.items() if n}
    return kept, UsableCounts(len(frame), len(kept), excluded, present)


def fill_requests(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy whose unknown requested times are the largest request seen before in that queue.

    Parameters
    ----------
    frame : DataFrame
        A canonical log. A request of 0 or less counts as unknown.

    Returns
    -------
    DataFrame
        ``requested_s`` filled from the rows above: the queue's largest, else the log's
        largest, else NaN. Never from the run time.
    """
    request = frame["requested_s"].where(frame["requested_s"] > 0)
    by_queue = request.groupby(frame["queue"]).cummax().groupby(frame["queue"]).ffill()
    overall = request.cummax().ffill()
    filled = frame.copy()
    filled["requested_s"] = request.fillna(by_queue).fillna(overall)
    return filled


def machine_size(frame: pd.DataFrame) -> float:
    """Processors of the machine (GPUs, where the log counts only those).

    Parameters
    ----------
    frame : DataFrame
        A canonical log; ``attrs["header"]`` may hold MaxProcs or MaxNodes.

    Notes
    -----
    What the header states; else the largest of the widest job, the most that ran at once, and
    the mean load (work / span of submissions): a pool below it would never catch up.
    """
    widths = _widths(frame)
    run_s = frame["run_s"].clip(lower=0).fillna(0).to_numpy()
    span_s = frame["submit_s"].max() - frame["submit_s"].min()
    load = math.ceil((widths * run_s).sum() / span_s) if span_s > 0 else 1
    return stated_size(frame) or max(float(widths.max(initial=1.0)), load, _peak_use(frame, widths))


def stated_size(frame: pd.DataFrame) -> float | None:
    """MaxProcs of the header, else its MaxNodes unless a job is wider than that, else None."""
    header: dict[str, str] = frame.attrs.get("header", {})
    procs, nodes = (_stated(header, key) for key in ("MaxProcs", "MaxNodes"))
    return procs or (nodes if nodes >= _widths(frame).max(initial=1.0) else 0.0) or None


def _peak_use(frame: pd.DataFrame, widths: np.ndarray) -> float:
    """The most that ran at once, where starts are known, else 0."""
    known = (frame["start_s"].notna() & (frame["end_s"] > frame["start_s"])).to_numpy()
    times = np.concatenate([frame["start_s"].to_numpy()[known], frame["end_s"].to_numpy()[known]])
    steps = np.concatenate([widths[known], -widths[known]])
    # At the same instant ends come before starts.
    order = np.lexsort((steps, times))
    return float(np.cumsum(steps[order]).max(initial=0.0))


def _stated(header: dict[str, str], key: str) -> float:
    try:
        return max(0.0, float(header.get(key, "0").split()[0]))
    except (ValueError, IndexError):
        return 0.0


def _widths(frame: pd.DataFrame) -> np.ndarray:
    """How much of the pooled machine each job takes: processors, else GPUs, else 1."""
    column = "cpus" if frame["cpus"].notna().any() else "gpus"
    widths: np.ndarray = frame[column].to_numpy(dtype="float64", copy=True)
    widths[~(widths > 0)] = 1.0
    return widths


def replayed_ends(frame: pd.DataFrame, procs: float | None = None) -> pd.DataFrame:
    """A copy whose starts and ends come from a first-come-first-served replay.

    Parameters
    ----------
    frame : DataFrame
        A canonical log. If any job that ran has a known start, the log has waits: it is
        returned as it is, and its rows without a start stay unknown (they then never enter
        a history, which is safe; starting them in a guessed queue is not).
    procs : float, optional
        Processors of the machine; `machine_size` if not given.

    Returns
    -------
    DataFrame
        ``start_s`` and ``end_s`` filled for every job with a known submission and run
        time; ``attrs["replayed"]`` is their number.

    Notes
    -----
    One pool of processors, no backfilling: each job in submission order starts at the first
    time, not before the job ahead of it, at which enough processors are free. A job wider
    than the pool takes the whole pool.
    """
    ran = frame["run_s"].notna()
    if frame["start_s"][ran].notna().any():
        return frame.copy()
    pool = machine_size(frame) if procs is None else float(procs)
    if not pool > 0:
        raise BadLog(f"the machine has {pool} processors; give a number above 0")
    result = frame.copy()
    rows = np.flatnonzero(ran.to_numpy() & frame["submit_s"].notna().to_numpy())
    starts = np.full(len(frame), np.nan)
    starts[rows] = _fcfs_starts(
        frame["submit_s"].to_numpy()[rows],
        frame["run_s"].clip(lower=0).to_numpy()[rows],
        np.minimum(_widths(frame)[rows], pool),
        pool,
    )
    result["start_s"] = starts
    result["end_s"] = starts + frame["run_s"].to_numpy()
    result.attrs["replayed"] = len(rows)
    return result


def _fcfs_starts(
    submit_s: np.ndarray, run_s: np.ndarray, widths: np.ndarray, pool: float
) -> list[float]:
    starts: list[float] = []
    ends: list[tuple[float, float]] = []
    free, clock = pool, -math.inf
    for submit, run, width in zip(submit_s.tolist(), run_s.tolist(), widths.tolist(), strict=True):
        clock = max(clock, submit)
        # The tolerance is for pools shared in fractions, whose sums round.
        while ends and (ends[0][0] <= clock or free < width - 1e-9):
            end, freed = heapq.heappop(ends)
            clock = max(clock, end)
            free += freed
        starts.append(clock)
        free -= width
        heapq.heappush(ends, (clock + run, width))
    return starts
