"""Reader of the accounting logs of PBS and Torque: ``MM/DD/YYYY HH:MM:SS;E;ID;key=value ...``.

References
----------
Torque Administrator Guide, "Accounting records"; PBS Professional Reference Guide, "Accounting
log": an ``E`` record is written when a job ends and has all that is known of it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plancast.predictor import units
from plancast.predictor.logs.rows import Rows, finish
from plancast.predictor.logs.source import decoded, epoch_seconds, first_lines, read_bytes
from plancast.predictor.schema import BadLog

_RECORD = re.compile(r"(\d\d/\d\d/\d{4} \d\d:\d\d:\d\d)(?:\.\d+)?;(\w+);([^;]*);(.*)", re.DOTALL)
_BEGIN = re.compile(r"\d\d/\d\d/\d{4} |[^;]*;\w;[^;=]*;")
"""Of a record, even one with a damaged date."""
_KEY = re.compile(r"(?:^|\s)([A-Za-z_][\w.]*)=(?:\"[^\"]*\"(?=\s|$)|'[^']*'(?=\s|$))?")
"""A key, and its value where that is quoted as a whole: what looks like a key in it is none."""
_OTHERS = {
    "A": "aborted by the server",
    "B": "reservations that began",
    "C": "checkpoints",
    "D": "deleted in the queue",
    "L": "licences",
    "Q": "queued",
    "R": "run again",
    "S": "started",
    "T": "started from a checkpoint",
}
"""Types of records that are no ended jobs."""

_KILL_WALLTIME = -29
"""PBS Professional's exit status of a job killed at its time limit."""

_WORK_DIR = ("init_work_dir", "jobdir", "Execution_Path", "execution_path")
_SUBMIT_LINE = ("Submit_arguments", "submit_args")
"""What PBS Professional and Torque call these where a site has its records hold them."""

_MOMENTS = ("ctime", "qtime", "etime")


class PbsReader:
    """Accounting records of PBS Professional, OpenPBS and Torque, plain or gzip."""

    name = "pbs"
    options: frozenset[str] = frozenset({"timezone"})

    def sniff(self, path: Path) -> bool:
        """Whether a line of the beginning is a record."""
        return any(_RECORD.match(line) for line in first_lines(path, 5))

    def read(
        self, path: Path, *, timezone: str = "UTC", rows: Rows | None = None, **options: Any
    ) -> pd.DataFrame:
        """The canonical frame of an accounting log.

        Parameters
        ----------
        path : Path
            Plain text or gzip; several days' files may be put one after the other.
        timezone : str
            Of the records' own times, which stand in where ``end`` is missing.
        rows : Rows, optional
            Account of bad rows.

        Raises
        ------
        BadLog
            Where it is damaged, has no ended job, or too many bad rows.

        Notes
        -----
        - ``E`` records are jobs; those of other types are dropped and counted.
        - Submission is ``ctime``, else ``qtime`` or ``etime``. The run time is
          ``resources_used.walltime``, else end less start.
        - Processors: ``Resource_List.ncpus``, else ``select`` or ``nodes`` times their
          ``ncpus`` or ``ppn``, else the slots of ``exec_host``. Memory: ``Resource_List.mem``,
          else that of ``select``, else ``pmem`` times processors.
        - Exit status 0 is completed; a job that ran to its limit, or of status -29, is a
          timeout; of status 256 and more (killed by a signal) cancelled; any other failed.
        """
        rows = rows or Rows(path.name)
        text = decoded(read_bytes(path), rows)
        found: list[dict[str, Any]] = []
        places: list[str] = []
        others: Counter[str] = Counter()
        unread: list[tuple[str, str]] = []
        for number, line in _records(text):
            place = f"line {number}"
            match = _RECORD.fullmatch(line)
            if match is None:
                unread.append((place, f"{place}: {line[:40]!r} is no record"))
            elif match[2] != "E":
                others[f"records: {_OTHERS.get(match[2], match[2])}"] += 1
            else:
                try:
                    found.append(_job(match[1], match[3], _values(match[4]), timezone, rows))
                    places.append(place)
                except ValueError as error:
                    unread.append((place, f"{place}: {error}"))
        rows.drop("unreadable record", [p for p, _ in unread], unread[0][1] if unread else "")
        for reason, count in others.items():
            rows.skip(reason, count)
        if not found:
            rows.check(0)
            raise BadLog(f"{path.name} has no ended job (record E); give a log with finished jobs")
        header = {"TimeZoneString": timezone}
        facts = {"format": self.name, "source": path.name, "header": header}
        return finish(pd.DataFrame(found), places, rows, facts)


def _records(text: str) -> list[tuple[int, str]]:
    """Records with the number of their line; a line that begins none belongs to the one above."""
    result: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        # Job names may hold line breaks.
        if result and not _BEGIN.match(line):
            result[-1] = (result[-1][0], f"{result[-1][1]}\n{line}")
        else:
            result.append((number, line))
    return result


def _values(text: str) -> dict[str, str]:
    """The ``key=value`` pairs of a record; a value may hold spaces.

    Raises
    ------
    ValueError
        Where a key is there twice with two values: one of them is part of another's text.
    """
    keys = list(_KEY.finditer(text))
    ends = [match.start() for match in keys[1:]] + [len(text)]
    result: dict[str, str] = {}
    for match, end in zip(keys, ends, strict=True):
        value = text[match.end(1) + 1 : end].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if result.setdefault(match[1], value) != value:
            raise ValueError(f"{match[1]} is there twice, {result[match[1]]!r} and {value!r}")
    return result


def _job(
    stamp: str, job_id: str, values: dict[str, str], timezone: str, rows: Rows
) -> dict[str, Any]:
    def read(key: str, parse: Any) -> float:
        text = values.get(key, "")
        if text in ("", "UNLIMITED", "unlimited"):
            return math.nan
        try:
            return float(parse(text))
        except ValueError as error:
            raise ValueError(f"field {key}: {error}") from None

    moments = [read(key, _number) for key in _MOMENTS]
    end_s = read("end", _number)
    if math.isnan(end_s):
        month, day, year, clock = re.split(r"[/ ]", stamp)
        local = pd.Series([f"{year}-{month}-{day}T{clock}"], dtype=object)
        end_s = float(epoch_seconds(local, timezone, rows=rows)[0])
    start_s = read("start", _number)
    run_s = read("resources_used.walltime", units.duration_s)
    requested_s = read("Resource_List.walltime", units.duration_s)
    chunks = _chunks(values)
    cpus = read("Resource_List.ncpus", units.count)
    cpus = cpus if cpus > 0 else chunks["cpus"] or _slots(values.get("exec_host", ""))
    mem_mib = read("Resource_List.mem", units.size_mib)
    if math.isnan(mem_mib):
        mem_mib = chunks["mem"] or read("Resource_List.pmem", units.size_mib) * cpus
    gpus = read("Resource_List.ngpus", units.count)
    status = read("Exit_status", _number)
    ran = run_s if not math.isnan(run_s) else end_s - start_s
    return {
        "job_id": job_id.strip(),
        "submit_s": next((at for at in moments if at > 0), math.nan),
        "start_s": start_s if start_s > 0 else math.nan,
        "end_s": end_s,
        "run_s": run_s,
        "requested_s": requested_s,
        "cpus": cpus or math.nan,
        "mem_mib": mem_mib,
        "mem_peak_mib": read("resources_used.mem", units.size_mib),
        "gpus": chunks["gpus"] if math.isnan(gpus) else gpus,
        "user": values.get("user", ""),
        "group": values.get("account") or values.get("project") or values.get("group", ""),
        "app": values.get("jobname", ""),
        "queue": values.get("queue", ""),
        "work_dir": next((values[k] for k in _WORK_DIR if values.get(k)), ""),
        "submit_line": next((values[k] for k in _SUBMIT_LINE if values.get(k)), ""),
        "outcome": _outcome(status, ran, requested_s),
    }


def _number(text: str) -> float:
    number = units.plain_number(text)
    if number is None:
        raise ValueError(f"{text!r} is not a number")
    return number


def _outcome(status: float, run_s: float, requested_s: float) -> str:
    if math.isnan(status):
        return "unknown"
    if status == 0:
        return "completed"
    if status == _KILL_WALLTIME or run_s >= requested_s:
        return "timeout"
    return "cancelled" if status >= 256 else "failed"


def _chunks(values: dict[str, str]) -> dict[str, float]:
    """Processors, memory in MiB and GPUs of ``select`` or ``nodes``; 0 where they do not say."""
    total = {"cpus": 0.0, "mem": 0.0, "gpus": 0.0}
    spec = values.get("Resource_List.select") or values.get("Resource_List.nodes", "")
    for part in spec.split("+"):
        words = part.split("#")[0].split(":")
        # "2:ppn=8" is two nodes; "n17:ppn=8" is the node n17.
        times = float(words[0]) if units.is_whole(words[0]) else 1.0
        asked = dict(word.partition("=")[::2] for word in words if "=" in word)
        if words[0]:
            ppn = asked.get("ncpus") or asked.get("ppn") or "1"
            total["cpus"] += times * units.count(ppn)
        total["mem"] += times * units.size_mib(asked.get("mem") or "0")
        gpus = asked.get("ngpus") or asked.get("gpus") or "0"
        total["gpus"] += times * units.count(gpus)
    return total


def _slots(exec_host: str) -> float:
    """Slots of ``n1/0-7+n2/0*4+n3/1``: a range, a number of processors, or one."""
    slots = 0.0
    for part in filter(None, exec_host.split("+")):
        where = part.partition("/")[2]
        if "*" in where:
            slots += float(np.nan_to_num(units.plain_number(where.partition("*")[2]) or 1.0))
            continue
        for piece in where.split(","):
            low, dash, high = piece.partition("-")
            ranged = dash and units.is_whole(low) and units.is_whole(high)
            slots += int(high) - int(low) + 1 if ranged else 1
    return slots
