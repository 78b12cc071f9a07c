"""Reader of Slurm's accounting log: what ``sacct --parsable2`` prints.

References
----------
https://slurm.schedmd.com/sacct.html (fields, states, duration and size notations).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from predictor.logs.source import decoded, epoch_seconds, first_bad, first_line, read_bytes
from predictor.schema import BadLog, canonical

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
# No sacct field has a space in its name.
_LINE = "line number"
# Stands for a bar within a job name while the cells are taken apart.
_BAR = "\x1f"
_NO_TIME = frozenset({"", "unknown", "none", "n/a"})
_NO_LIMIT = frozenset({"", "unlimited", "partition_limit", "invalid", "unknown", "none"})
_DURATION = re.compile(r"(?:(\d+)-)?(\d+(?::\d+){0,2})(\.\d+)?")
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
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration like 2-03:04:05")
    days, clock, fraction = match.groups()
    parts = [int(part) for part in clock.split(":")]
    # With days the clock begins with hours; without, two parts are minutes and seconds and
    # one is minutes.
    if days is None and len(parts) < 3:
        parts.insert(0, 0)
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds + float(fraction or 0)


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
    """``sacct --parsable2``, with or without its header line."""

    name = "sacct"
    options: frozenset[str] = frozenset({"fields", "timezone"})

    def sniff(self, path: Path) -> bool:
        """Whether the first line is a sacct header, or a row of the default fields."""
        cells = first_line(path).split("|")
        return len(cells) > 1 and (
            _is_header(cells) or len(cells) in (len(FIELDS), len(FIELDS) + 1)
        )

    def read(
        self,
        path: Path,
        *,
        fields: Sequence[str] | None = None,
        timezone: str = "UTC",
        **options: Any,
    ) -> pd.DataFrame:
        """The canonical frame of a sacct log.

        Parameters
        ----------
        path : Path
            Plain text or gzip.
        fields : sequence of str, optional
            Field names of a log without a header line; default `FIELDS`.
        timezone : str
            Zone of the cluster's clock, for times without an offset.

        Returns
        -------
        DataFrame
            One row per job, array task, component of a heterogeneous job, or (with
            ``sacct --duplicates``) attempt.

        Raises
        ------
        BadLog
            Where it is damaged, lacks JobID, Submit or State, or a cell cannot be read.

        Notes
        -----
        - Steps (``123.batch``, ``123.0``) belong to the job of their number, whose own line
          covers them; they are dropped and counted. So are jobs that have not ended.
        - The queue is the QOS (the partition where no QOS is logged); the group is the
          account, else the Unix group.
        - Processors, memory and GPUs are those requested (ReqTRES, ReqCPUS, ReqMem), else
          those allocated.
        - A ``|`` within a JobName is understood: surplus cells are put back into it.
        """
        table = _table(decoded(read_bytes(path), path.name), path.name, fields)
        table, dropped = _whole_jobs(table, path.name)
        frame = _jobs(table, path.name, timezone)
        ended = frame.pop("ended").to_numpy(dtype=bool)
        not_ended = Counter(f"not ended: {s or 'no state'}" for s in frame.pop("state")[~ended])
        frame = frame[ended]
        if frame.empty:
            raise BadLog(f"{path.name} has no ended job; give a log with finished jobs")
        frame.attrs = {
            "format": self.name,
            "source": path.name,
            "header": {"TimeZoneString": timezone},
            "dropped": dropped | dict(not_ended),
        }
        return canonical(frame)


def _is_header(cells: Sequence[str]) -> bool:
    return bool({"jobid", "jobidraw"} & {cell.strip().lower() for cell in cells})


def _table(text: str, name: str, fields: Sequence[str] | None) -> pd.DataFrame:
    """The log's cells as texts by field, with the number of each line in the file."""
    numbered = [(i, line.rstrip("\r")) for i, line in enumerate(text.split("\n"), start=1)]
    numbered = [(number, line) for number, line in numbered if line.strip()]
    cells = numbered[0][1].split("|")
    if _is_header(cells):
        names = [cell.strip() for cell in cells]
        numbered = numbered[1:]
        where = "its header"
    else:
        names = list(fields or FIELDS)
        # --parsable ends each line with a bar, --parsable2 does not.
        if len(cells) == len(names) + 1 and cells[-1] == "":
            names.append("")
        where = "the list of fields"
    if not numbered:
        raise BadLog(f"{name} has a header and no job; give a log with finished jobs")
    width = len(names)
    free_text = names.index("JobName") if "JobName" in names else None
    lines = []
    for number, line in numbered:
        surplus = line.count("|") + 1 - width
        if surplus > 0 and free_text is not None:
            row = line.split("|")
            end = free_text + surplus + 1
            row[free_text:end] = [_BAR.join(row[free_text:end])]
            line = "|".join(row)
        elif surplus:
            raise BadLog(
                f"{name}, line {number}: {width + surplus} cells where {where} has {width}; "
                "mend the line, or name the log's fields with fields="
            )
        lines.append(line)
    table = pd.read_csv(
        # A stray carriage return would be the end of a line to the parser.
        io.StringIO("\n".join(lines).replace("\r", " ")),
        sep="|",
        header=None,
        names=range(width),
        dtype=str,
        na_filter=False,
        quoting=csv.QUOTE_NONE,
        skip_blank_lines=False,
    )
    kept = {i: field for i, field in enumerate(names) if field and field not in names[:i]}
    table = table[list(kept)].rename(columns=kept)
    if "JobName" in table.columns:
        table["JobName"] = table["JobName"].str.replace(_BAR, "|", regex=False)
    table[_LINE] = [number for number, _ in numbered]
    return table


def _whole_jobs(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The lines of jobs without those of their steps, and how many were dropped."""
    ids = "JobID" if "JobID" in table.columns else "JobIDRaw"
    for field in (ids, "Submit", "State"):
        if field not in table.columns:
            raise BadLog(f"{name} has no field {field}; add it to sacct's --format")
    is_step = table[ids].str.contains(".", regex=False).astype(bool)
    jobs = table[~is_step].rename(columns={ids: "job_id"})
    orphans = ~table[ids][is_step].str.split(".").str[0].isin(jobs["job_id"])
    counts = {"steps": int(is_step.sum()), "steps without their job": int(orphans.sum())}
    return jobs.reset_index(drop=True), {reason: n for reason, n in counts.items() if n}


def _jobs(table: pd.DataFrame, name: str, timezone: str) -> pd.DataFrame:
    blank = pd.Series("", index=table.index, dtype=object)

    def texts(*fields: str) -> pd.Series:
        """The first of `fields` that has something in the row."""
        result = blank
        for field in fields:
            if field in table.columns:
                result = result.where(result != "", table[field].str.strip())
        return result

    def numbers_of(field: str, read: Callable[[str], float]) -> np.ndarray:
        return _parsed(table, field, read, name)

    def first_known(*candidates: np.ndarray) -> np.ndarray:
        result = np.full(len(table), np.nan)
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
        np.ones(len(table)),
    )
    req_mem, alloc_mem = of_tres(lambda resources: size_mib(resources.get("mem", "")))
    req_gpus, alloc_gpus = of_tres(gpus_of)
    start_s = _times(table, "Start", name, timezone)
    end_s = _times(table, "End", name, timezone)
    run_s = first_known(
        numbers_of("ElapsedRaw", _seconds), numbers_of("Elapsed", duration_s), end_s - start_s
    )
    state = texts("State").str.split(n=1).str[0].fillna("").str.rstrip("+")
    return pd.DataFrame(
        {
            "job_id": table["job_id"].str.strip(),
            "submit_s": _times(table, "Submit", name, timezone),
            "start_s": start_s,
            "end_s": end_s,
            # A job cancelled in the queue has an end and no start: it never ran.
            "run_s": np.where(np.isnan(start_s), np.nan, run_s),
            "requested_s": first_known(
                numbers_of("TimelimitRaw", duration_s),
                numbers_of("Timelimit", duration_s),
            ),
            "cpus": cpus,
            "mem_mib": first_known(req_mem, _requested_mem(table, cpus, nodes, name), alloc_mem),
            "gpus": first_known(req_gpus, alloc_gpus),
            "user": texts("User"),
            "group": texts("Account", "Group"),
            "app": texts("JobName"),
            "queue": texts("QOS", "Partition"),
            "partition": texts("Partition"),
            "outcome": state.map(OUTCOME_OF_STATE).astype(object).fillna("unknown"),
            "state": state,
            "ended": ~state.isin(_LIVE_STATES).to_numpy() & ~np.isnan(end_s),
        }
    )


def _parsed(table: pd.DataFrame, field: str, read: Callable[[str], float], name: str) -> np.ndarray:
    """A field read text by text (each distinct text once); NaN where the log has no such field."""
    if field not in table.columns:
        return np.full(len(table), np.nan)
    codes, distinct = pd.factorize(table[field])
    values = np.empty(len(distinct))
    for code, text in enumerate(distinct):
        try:
            values[code] = read(text)
        except ValueError as error:
            line = table[_LINE].iloc[first_bad(codes == code) or 0]
            raise BadLog(f"{name}, line {line}, field {field}: {error}; mend the cell") from None
    return values[codes]


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
    if not re.fullmatch(r"\d*", text):
        raise ValueError(f"{text!r} is not a number of seconds")
    return float(text) if text else math.nan


def _requested_mem(
    table: pd.DataFrame, cpus: np.ndarray, nodes: np.ndarray, name: str
) -> np.ndarray:
    """ReqMem for the whole job, MiB."""
    if "ReqMem" not in table.columns:
        return np.full(len(table), np.nan)
    text = table["ReqMem"].str.strip().str.lower()
    factor = np.where(text.str.endswith("c"), cpus, np.where(text.str.endswith("n"), nodes, 1.0))
    return _parsed(table, "ReqMem", size_mib, name) * factor


def _times(table: pd.DataFrame, field: str, name: str, timezone: str) -> np.ndarray:
    if field not in table.columns:
        return np.full(len(table), np.nan)
    texts = table[field].str.strip()
    known = ~texts.str.lower().isin(_NO_TIME).to_numpy()
    seconds = np.full(len(table), np.nan)
    seconds[known] = epoch_seconds(texts[known], timezone)
    row = first_bad(known & np.isnan(seconds))
    if row is not None:
        raise BadLog(
            f"{name}, line {table[_LINE].iloc[row]}, field {field}: {texts.iloc[row]!r} is not "
            "a time like 2024-05-01T12:00:00 or seconds since the epoch; mend the cell"
        )
    return seconds
