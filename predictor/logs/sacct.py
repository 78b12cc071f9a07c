"""Reader of Slurm's accounting log: what ``sacct --parsable2`` prints.

References
----------
https://slurm.schedmd.com/sacct.html (fields, states, duration and size notations).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.predictor import units
from plancast.predictor.logs import json_table, sacct_text, slurm_json
from plancast.predictor.logs.rows import Rows, finish
from plancast.predictor.logs.sacct_text import Records
from plancast.predictor.logs.source import (
    decoded,
    epoch_seconds,
    first_bad,
    first_lines,
    in_turn,
    read_bytes,
)
from plancast.predictor.schema import BadLog

FIELDS = (
    "JobIDRaw",
    "JobID",
    "User",
    "Group",
    "Account",
    "JobName",
    "Partition",
    "QOS",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "Timelimit",
    "ReqCPUS",
    "ReqMem",
    "ReqTRES",
    "AllocTRES",
    "State",
    "ExitCode",
)
"""The fields of a log without a header, unless ``fields=`` names others. Best asked for with
``sacct --parsable2 --allusers --format=JobIDRaw,JobID,User,...``."""

OUTCOME_OF_STATE = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "OUT_OF_MEMORY": "failed",
    "NODE_FAIL": "failed",
    "BOOT_FAIL": "failed",
    "LAUNCH_FAILED": "failed",
    "RECONFIG_FAIL": "failed",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "CANCELLED": "cancelled",
    "PREEMPTED": "cancelled",
    "REQUEUED": "cancelled",
    "REVOKED": "cancelled",
}
"""Slurm's final states as outcomes. Preempted and requeued attempts were cut short from
outside, as cancelled ones are; a deadline cuts like a time limit."""

_LIVE_STATES = frozenset(
    {
        "PENDING",
        "RUNNING",
        "SUSPENDED",
        "CONFIGURING",
        "COMPLETING",
        "RESIZING",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "SPECIAL_EXIT",
        "STAGE_OUT",
        "SIGNALING",
        "STOPPED",
    }
)
_TIME_CELL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:")
_NO_TIME = frozenset({"", "unknown", "none", "n/a"})
_NO_LIMIT = frozenset({"", "unlimited", "partition_limit", "invalid", "unknown", "none"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]?)([nc]?)", re.IGNORECASE)
_MIB_OF_UNIT = {"K": 2.0**-10, "": 1.0, "M": 1.0} | {
    unit: 2.0 ** (10 * power) for power, unit in enumerate("GTPE", start=1)
}


def duration_s(text: str) -> float:
    """A Slurm duration in seconds; NaN for ``UNLIMITED``, ``Partition_Limit`` or nothing.

    Parameters
    ----------
    text : str
        ``[DD-]HH:MM:SS[.mmm]``, ``MM:SS[.mmm]``, ``DD-HH``, ``DD-HH:MM`` or plain minutes.

    Raises
    ------
    ValueError
        Where the text is no duration.
    """
    text = text.strip()
    if text.lower() in _NO_LIMIT:
        return math.nan
    seconds = units.duration_s(text, bare=60)
    if seconds < 0:
        raise ValueError(f"{text!r} is not a duration like 2-03:04:05")
    return seconds


def size_mib(text: str, cpus: float = 1.0, nodes: float = 1.0) -> float:
    """A Slurm memory size in MiB for the whole job; NaN for nothing or 0 ("all there is").

    Parameters
    ----------
    text : str
        ``16G``, ``4000Mc`` (per processor), ``4Gn`` (per node); without a unit, MiB.
    cpus, nodes : float
        The job's processors and nodes, which ``c`` and ``n`` multiply by.

    Raises
    ------
    ValueError
        Where the text is no size.
    """
    text = text.strip()
    if text in ("", "?"):
        return math.nan
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size like 16G, 4000Mc or 4Gn")
    number, unit, per = match.groups()
    factor = {"": 1.0, "c": cpus, "n": nodes}[per.lower()]
    return float(number) * _MIB_OF_UNIT[unit.upper()] * factor or math.nan


def tres(text: str) -> dict[str, str]:
    """A TRES string such as ``cpu=4,mem=16G,gres/gpu:a100=2`` as a dict.

    Raises
    ------
    ValueError
        Where a part has no ``=``.
    """
    result = {}
    for part in filter(None, text.strip().split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not a TRES list like cpu=4,mem=16G")
        result[key.strip()] = value.strip()
    return result


def gpus_of(resources: dict[str, str]) -> float:
    """GPUs in a TRES dict: 0 where it names none, NaN where it is empty.

    Notes
    -----
    Slurm lists the same GPUs with their type and in total (``gres/gpu=2,gres/gpu:a100=2``);
    the larger of the total and the sum over types is taken, never both.
    """
    if not resources:
        return math.nan
    typed = [value for key, value in resources.items() if key.startswith("gres/gpu:")]
    total = np.nan_to_num(_count(resources.get("gres/gpu", "")))
    return float(max(total, np.nansum([_count(value) for value in typed])))


class SacctReader:
    """``sacct --parsable2``, ``--parsable``, ``--delimiter``, fixed width or ``--json``."""

    name = "sacct"
    options: frozenset[str] = frozenset({"fields", "timezone", "delimiter"})

    def sniff(self, path: Path) -> bool:
        """Whether it begins with a sacct header, a row with bars and times, or Slurm's JSON."""
        lines = first_lines(path, 7)
        if not lines:
            return False
        if known := json_table.reader_of("\n".join(first_lines(path, 1000))):
            return known == self.name
        if any(
            sacct_text.is_fixed_width(lines[k : k + 2]) or sacct_text.looks_like_header(line)
            for k, line in enumerate(lines)
        ):
            return True
        cells = lines[0].split("|")
        return len(cells) in (len(FIELDS), len(FIELDS) + 1) or (
            len(cells) > 3 and any(_TIME_CELL.match(cell) for cell in cells)
        )

    def read(
        self,
        path: Path,
        *,
        fields: str | Sequence[str] | None = None,
        timezone: str = "UTC",
        delimiter: str | None = None,
        rows: Rows | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """The canonical frame of a sacct log.

        Parameters
        ----------
        path : Path
            Plain text or gzip.
        fields : str or sequence of str, optional
            Field names of a log without a header line, as ``sacct --format`` takes them;
            default `FIELDS`.
        timezone : str
            Zone of the cluster's clock, for times without an offset.
        delimiter : str, optional
            Between the cells; found in the header by default.
        rows : Rows, optional
            Account of bad rows.

        Returns
        -------
        DataFrame
            One row per job, array task, component of a heterogeneous job, or (with
            ``sacct --duplicates``) attempt.

        Raises
        ------
        BadLog
            Where it is damaged, lacks JobID, Submit or State, or too many rows are bad.

        Notes
        -----
        - Steps (``123.batch``, ``123.0``) belong to the job of their number, whose own line
          covers them; they are dropped and counted. So are jobs that have not ended.
        - The queue is the QOS (the partition where no QOS is logged); the group is the
          account, else the Unix group.
        - The peak memory is that of the step that took most: ``TRESUsageInTot``, else ``MaxRSS``
          times ``NTasks``; of a job that ended ``OUT_OF_MEMORY`` at least what it requested.
        - Processors, memory and GPUs are those requested (ReqTRES, ReqCPUS, ReqMem), else
          those allocated.
        - A delimiter or a line break within a free text (JobName, SubmitLine, WorkDir, ...) is
          understood where the types of the other fields leave one reading
          (`plancast.predictor.logs.sacct_text`); a row with several is left out.
        """
        rows = rows or Rows(path.name)
        text = decoded(read_bytes(path), rows)
        if json_table.reader_of(text) == self.name:
            found = slurm_json.records(text, rows)
        else:
            found = sacct_text.records(
                text,
                rows,
                fields=None if fields is None else sacct_text.field_names(fields),
                default=FIELDS,
                delimiter=delimiter,
            )
        cells = _whole_jobs(_Cells.of(found, rows))
        frame = _jobs(cells, timezone)
        state, ended = frame.pop("state"), frame.pop("ended").to_numpy(dtype=bool)
        live = state.isin(_LIVE_STATES).to_numpy(dtype=bool)
        lost = cells.bad(frame, ~live)
        open_ = live | (~ended & ~lost)
        for name, count in Counter(state[open_]).items():
            rows.skip(f"not ended: {name or 'no state'}", count)
        keep = ~open_ & ~lost
        if not keep.any():
            rows.check(0)
            raise BadLog(
                f"{path.name} has no ended job; give a log with finished jobs (a queue is for "
                "plan --tasks)"
            )
        header = {"TimeZoneString": timezone}
        facts = {"format": self.name, "source": path.name, "header": header}
        return finish(frame[keep], cells.places[keep], rows, facts)


class _Cells:
    """The cells of a log as texts by field, and what is wrong with them."""

    def __init__(self, table: pd.DataFrame, places: np.ndarray, rows: Rows) -> None:
        self.table, self.places, self.rows = table, places, rows
        self.faults: dict[str, tuple[np.ndarray, str]] = {}

    @classmethod
    def of(cls, found: Records, rows: Rows) -> _Cells:
        """The cells of records; of a field that is there twice the first."""
        names = found.names
        columns = list(zip(*found.cells, strict=True)) or [()] * len(names)
        kept = {name: k for k, name in reversed(list(enumerate(names))) if name}
        table = pd.DataFrame(
            {name: pd.Series(columns[k], dtype=object) for name, k in kept.items()}
        )
        return cls(table, np.array(found.places, dtype=object), rows)

    def texts(self, *fields: str) -> pd.Series:
        """The first of `fields` that has something in the row, "" where none has."""
        result = pd.Series("", index=self.table.index, dtype=object)
        for field in fields:
            if field in self.table.columns:
                result = result.where(result != "", self.table[field].str.strip())
        return result

    def numbers(self, field: str, read: Callable[[str], float]) -> np.ndarray:
        """A field, each distinct text read once; NaN where there is none or it is unreadable."""
        if field not in self.table.columns:
            return np.full(len(self.table), np.nan)
        codes, distinct = pd.factorize(self.table[field])
        values, fine = np.full(len(distinct), np.nan), np.ones(len(distinct), dtype=bool)
        fault = ""
        for code, text in enumerate(distinct):
            try:
                values[code] = read(text)
            except ValueError as error:
                fine[code] = False
                if not fault:
                    row = first_bad(codes == code) or 0
                    fault = f"{self.places[row]}, field {field}: {error}"
        self._note(field, ~fine[codes], fault)
        return values[codes]

    def times(self, field: str, timezone: str, *, first: bool = True) -> np.ndarray:
        """A field of moments, seconds; `first` of the two where a local time comes twice."""
        if field not in self.table.columns:
            return np.full(len(self.table), np.nan)
        texts = self.table[field].str.strip()
        known = ~texts.str.lower().isin(_NO_TIME).to_numpy(dtype=bool)
        seconds = np.full(len(texts), np.nan)
        seconds[known] = epoch_seconds(
            texts[known], timezone, first=first, rows=self.rows if first else None
        )
        bad = known & np.isnan(seconds)
        row = first_bad(bad)
        if row is not None and first:
            self._note(
                field,
                bad,
                f"{self.places[row]}, field {field}: {texts.iloc[row]!r} is not "
                "a time like 2024-05-01T12:00:00 or seconds since the epoch",
            )
        return seconds

    def _note(self, field: str, bad: np.ndarray, fault: str) -> None:
        if bad.any():
            seen, first = self.faults.get(field, (np.zeros(len(bad), dtype=bool), fault))
            self.faults[field] = (seen | bad, first)

    def bad(self, frame: pd.DataFrame, asked: np.ndarray) -> np.ndarray:
        """Rows of `asked` with an unreadable cell that no other tells; the account hears of all."""
        lost = np.zeros(len(frame), dtype=bool)
        start, end, run = (frame[c].notna().to_numpy() for c in ("start_s", "end_s", "run_s"))
        found = {"Elapsed": run | (start & end), "Start": run & end, "End": run & start}
        found["ElapsedRaw"] = found["Elapsed"]
        for field, (bad, fault) in self.faults.items():
            repaired = bad & asked & ~lost & found.get(field, False)
            gone = bad & asked & ~lost & ~repaired
            self.rows.repair(f"unreadable {field}, taken from others", self.places[repaired], fault)
            self.rows.drop(f"unreadable {field}", self.places[gone], fault)
            lost |= gone
        return lost


def _whole_jobs(cells: _Cells) -> _Cells:
    """The lines of jobs without those of their steps, which are counted."""
    table, rows = cells.table, cells.rows
    ids = "JobID" if "JobID" in table.columns else "JobIDRaw"
    for field in (ids, "Submit", "State"):
        if field not in table.columns:
            raise BadLog(f"{rows.name} has no field {field}; add it to sacct's --format")
    is_step = table[ids].str.contains(".", regex=False).astype(bool)
    jobs = table[~is_step].rename(columns={ids: "job_id"})
    orphans = ~table[ids][is_step].str.split(".").str[0].isin(jobs["job_id"])
    jobs["peak"] = _peaks(table, ids, is_step, jobs)
    rows.skip("steps", int(is_step.sum()))
    rows.skip("steps without their job", int(orphans.sum()))
    return _Cells(jobs.reset_index(drop=True), cells.places[~is_step.to_numpy()], rows)


def _peaks(table: pd.DataFrame, ids: str, is_step: pd.Series, jobs: pd.DataFrame) -> pd.Series:
    """The largest memory of a job's own line and of its steps, MiB; NaN where none is given.

    Of attempts that share an id nobody can say whose a step was.
    """
    if not {"TRESUsageInTot", "MaxRSS"} & set(table.columns):
        return pd.Series(np.nan, index=jobs.index)
    own = _used_mib(table)
    whose = table[ids].str.split(".").str[0]
    largest = own.groupby(whose).max()
    found = jobs["job_id"].map(largest)
    return found.where(~jobs["job_id"].duplicated(keep=False), own[jobs.index])


def _used_mib(table: pd.DataFrame) -> pd.Series:
    """Memory in use by all tasks of each line, MiB; what cannot be read is unknown."""

    def cells(field: str) -> list[str]:
        if field not in table.columns:
            return [""] * len(table)
        return [str(text) for text in table[field]]

    result = []
    for total, most, tasks in zip(
        cells("TRESUsageInTot"), cells("MaxRSS"), cells("NTasks"), strict=True
    ):
        try:
            text = tres(total).get("mem", "")
            times = 1.0
            if not text:
                text, times = most.strip(), _count(tasks)
            # A plain number is of bytes.
            mib = size_mib(text) / (1.0 if text[-1:].isalpha() else 2.0**20)
        except ValueError:
            mib, times = math.nan, 1.0
        result.append(mib * (1.0 if math.isnan(times) else times))
    return pd.Series(result, index=table.index, dtype="float64")


def _jobs(cells: _Cells, timezone: str) -> pd.DataFrame:
    size = len(cells.table)
    numbers_of, texts = cells.numbers, cells.texts

    def first_known(*candidates: np.ndarray) -> np.ndarray:
        result = np.full(size, np.nan)
        for candidate in candidates:
            result = np.where(np.isnan(result), candidate, result)
        return result

    def of_tres(read: Callable[[dict[str, str]], float]) -> list[np.ndarray]:
        return [
            numbers_of(field, lambda text: read(tres(text))) for field in ("ReqTRES", "AllocTRES")
        ]

    def count_in(key: str) -> Callable[[dict[str, str]], float]:
        return lambda resources: _count(resources.get(key, ""))

    req_cpus, alloc_cpus = of_tres(count_in("cpu"))
    cpus = first_known(
        numbers_of("ReqCPUS", _count),
        req_cpus,
        numbers_of("AllocCPUS", _count),
        numbers_of("NCPUS", _count),
        alloc_cpus,
    )
    req_nodes, alloc_nodes = of_tres(count_in("node"))
    nodes = first_known(
        req_nodes,
        numbers_of("ReqNodes", _count),
        numbers_of("NNodes", _count),
        alloc_nodes,
        np.ones(size),
    )
    req_mem, alloc_mem = of_tres(lambda resources: size_mib(resources.get("mem", "")))
    req_gpus, alloc_gpus = of_tres(gpus_of)
    submit_s, start_s, end_s = _moments(cells, timezone)
    run_s = first_known(numbers_of("ElapsedRaw", _seconds), numbers_of("Elapsed", duration_s))
    unread = cells.faults.get("Start", (np.zeros(size, dtype=bool), ""))[0]
    state = texts("State").str.replace(r"(?s)\+*(\s.*)?$", "", regex=True)  # "CANCELLED by 1000"
    mem_mib = first_known(req_mem, _requested_mem(cells, cpus, nodes), alloc_mem)
    peak = cells.table["peak"].to_numpy(np.float64, copy=True)
    # Sampled, it misses the moment at which a job died.
    peak = np.where(state == "OUT_OF_MEMORY", np.fmax(peak, mem_mib), peak)
    return pd.DataFrame(
        {
            "job_id": cells.table["job_id"].str.strip(),
            "submit_s": submit_s,
            "start_s": start_s,
            "end_s": end_s,
            # A job cancelled in the queue has an end and no start: it never ran.
            "run_s": np.where(np.isnan(start_s) & ~unread, np.nan, run_s),
            "requested_s": first_known(
                numbers_of("TimelimitRaw", duration_s),
                numbers_of("Timelimit", duration_s),
            ),
            "cpus": cpus,
            "mem_mib": mem_mib,
            "gpus": first_known(req_gpus, alloc_gpus),
            "user": texts("User"),
            "group": texts("Account", "Group"),
            "app": texts("JobName"),
            "queue": texts("QOS", "Partition"),
            "partition": texts("Partition"),
            "work_dir": texts("WorkDir"),
            "submit_line": texts("SubmitLine"),
            "mem_peak_mib": peak,
            "outcome": state.map(OUTCOME_OF_STATE).astype(object).fillna("unknown"),
            "state": state,
            "ended": ~np.isnan(end_s) | ~np.isnan(start_s + run_s),
        }
    )


_FIELD_OF = {"start_s": "Start", "end_s": "End"}


def _moments(cells: _Cells, timezone: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Submission, start and end; where the clock was set back, in an order that can be."""
    submit, start, end = (cells.times(name, timezone) for name in ("Submit", "Start", "End"))
    start, end = in_turn(
        submit, start, end, lambda name: cells.times(_FIELD_OF[name], timezone, first=False)
    )
    return submit, start, end


def _count(text: str) -> float:
    """A count; NaN for nothing or 0. Slurm shortens large ones to ``1.50K``."""
    text = text.strip()
    if not text:
        return math.nan
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text)
    if not match:
        raise ValueError(f"{text!r} is not a number")
    return float(match[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]] or math.nan


def _seconds(text: str) -> float:
    text = text.strip()
    if not re.fullmatch(r"(-?\d+)?", text):
        raise ValueError(f"{text!r} is not a number of seconds")
    return float(text) if text else math.nan


def _requested_mem(cells: _Cells, cpus: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """ReqMem for the whole job, MiB."""
    text = cells.texts("ReqMem").str.lower()
    factor = np.where(text.str.endswith("c"), cpus, np.where(text.str.endswith("n"), nodes, 1.0))
    return cells.numbers("ReqMem", size_mib) * factor
