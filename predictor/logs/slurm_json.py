"""``sacct --json`` and ``squeue --json`` as the fields that sacct prints.

Slurm's data parsers differ: up to v0.0.38 a time limit is a number of minutes and a state a
word; from v0.0.39 on optional numbers are ``{"set", "infinite", "number"}`` and a state is a
list of words. Both are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from plancast.json_text import json_value
from plancast.predictor.logs import json_table
from plancast.predictor.logs.rows import Rows
from plancast.predictor.logs.sacct_text import Records
from plancast.predictor.schema import BadLog

_FIELDS = (
    "JobID",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "TimelimitRaw",
    "ReqCPUS",
    "AllocCPUS",
    "NNodes",
    "ReqMem",
    "ReqTRES",
    "AllocTRES",
    "MaxRSS",
    "User",
    "Group",
    "Account",
    "JobName",
    "Partition",
    "QOS",
    "WorkDir",
    "SubmitLine",
    "State",
)
_NO_VALUE = (0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFF)
"""What Slurm writes for "no value" and "infinite" where its parser has no word for them."""


def records(text: str, rows: Rows) -> Records:
    """The jobs of a JSON document as records of sacct's fields.

    Parameters
    ----------
    text : str
    rows : Rows
        Counts jobs that are no objects, and of the steps that are folded into their jobs.

    Raises
    ------
    BadLog
        Where it is not JSON, or holds no list of jobs.
    """
    result = Records(list(_FIELDS))
    for place, job in _jobs(text, rows):
        if not isinstance(job, dict):
            rows.drop("not an object", [place], f"{place}: {job!r} is not an object")
            continue
        rows.skip("steps", len(_list(job.get("steps"))))
        try:
            cells = cells_of(job)
        except (TypeError, ValueError) as error:
            rows.drop("fields of other types than Slurm's", [place], f"{place}: {error}")
            continue
        result.cells.append([cells[name] for name in _FIELDS])
        result.places.append(place)
    return result


def _jobs(text: str, rows: Rows) -> Iterator[tuple[str, Any]]:
    """Each job with its place: of a document's list, or by itself."""
    if json_table.is_by_itself(text):
        yield from ((f"job {number}", job) for number, job in json_table.objects(text, rows))
        return
    try:
        content = json_value(text)
    except json.JSONDecodeError as error:
        raise BadLog(
            f"{rows.name}, line {error.lineno}: this is not JSON ({error.msg}); correct it"
        ) from None
    except ValueError as error:
        raise BadLog(f"{rows.name}: this is not JSON: {error}") from None
    jobs = content.get("jobs") if isinstance(content, dict) else None
    if not isinstance(jobs, list):
        raise BadLog(f"{rows.name} has no list of jobs; give what sacct --json prints")
    if not jobs:
        raise BadLog(f"{rows.name} has no job; give a log with at least one")
    yield from ((f"job {number}", job) for number, job in enumerate(jobs, start=1))


def cells_of(job: dict[str, Any]) -> dict[str, str]:
    """A job of either command as cells of sacct's fields.

    Raises
    ------
    ValueError
        Where a field is of another type than Slurm's.
    """
    times = _object(job.get("time"))
    required = _object(job.get("required"))
    kin = _object(job.get("association"))
    tres = _object(job.get("tres"))
    moments = {
        "Submit": times.get("submission", job.get("submit_time")),
        "Start": times.get("start", job.get("start_time")),
        "End": times.get("end", job.get("end_time")),
    }
    cells = {
        "JobID": job_id(job),
        "ElapsedRaw": _text(times.get("elapsed")),
        # Slurm counts limits in minutes.
        "TimelimitRaw": _text(times.get("limit", job.get("time_limit"))),
        "ReqCPUS": _text(required.get("CPUs", job.get("cpus"))),
        "AllocCPUS": _text(_object(job.get("job_resources")).get("allocated_cores")),
        "NNodes": _text(job.get("allocation_nodes", job.get("node_count"))),
        "ReqMem": memory_text(required or job),
        "ReqTRES": tres_text(tres.get("requested", job.get("tres_req_str"))),
        "AllocTRES": tres_text(tres.get("allocated", job.get("tres_alloc_str"))),
        "MaxRSS": _peak_text(job),
        "User": word(job.get("user", job.get("user_name"))) or word(kin.get("user")),
        "Group": word(job.get("group", job.get("group_name"))),
        "Account": word(job.get("account")) or word(kin.get("account")),
        "JobName": word(job.get("name")),
        "Partition": word(job.get("partition")),
        "QOS": word(job.get("qos")),
        # The first is sacct's word, the other squeue's.
        "WorkDir": word(job.get("working_directory", job.get("current_working_directory"))),
        "SubmitLine": word(job.get("submit_line")),
        "State": state(job),
    }
    # 0 is "not yet" to Slurm.
    return cells | {name: _text(at) if number(at) > 0 else "" for name, at in moments.items()}


def number(value: Any) -> float:
    """A number of either data parser; NaN where it is not set.

    Raises
    ------
    ValueError
        Where it is neither a number nor ``{"set", "infinite", "number"}``.
    """
    if value is None or value == "":
        return math.nan
    if isinstance(value, dict):
        if value.get("infinite"):
            return math.inf
        return number(value.get("number")) if value.get("set", True) else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{str(value)[:40]!r} is not a number")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{str(value)[:40]!r} is not a number") from None
    return math.nan if found in _NO_VALUE else found


def state(job: dict[str, Any]) -> str:
    """The state of a job: ``COMPLETED``; of several flags the first."""
    value = job.get("state", job.get("job_state"))
    while isinstance(value, dict):
        value = value.get("current")
    words = value if isinstance(value, list) else str(value or "").split()
    # A job that is being cleaned up has both: COMPLETING tells that it has not ended.
    live = [word for word in words if word in ("COMPLETING", "CONFIGURING", "REQUEUE_HOLD")]
    return str((live or words or [""])[0])


def job_id(job: dict[str, Any]) -> str:
    """Its id: ``5_3`` of an array, ``7+1`` of a heterogeneous job."""
    array = _object(job.get("array"))
    parent = number(array.get("job_id", job.get("array_job_id")))
    task = number(array.get("task_id", job.get("array_task_id")))
    if parent > 0 and not math.isnan(task):
        return f"{parent:.0f}_{task:.0f}"
    het = _object(job.get("het"))
    leader = number(het.get("job_id", job.get("het_job_id")))
    offset = number(het.get("job_offset", job.get("het_job_offset")))
    if leader > 0 and not math.isnan(offset):
        return f"{leader:.0f}+{offset:.0f}"
    return _text(job.get("job_id"))


def memory_text(holder: dict[str, Any]) -> str:
    """The memory asked for, as sacct's ReqMem has it."""
    for name, ending in (("memory_per_cpu", "Mc"), ("memory_per_node", "Mn"), ("memory", "M")):
        amount = number(holder.get(name))
        if amount > 0 and math.isfinite(amount):
            return f"{amount:.0f}{ending}"
    return ""


def tres_text(value: Any) -> str:
    """A list of TRES objects, or sacct's text of one, as text."""
    if isinstance(value, str):
        return value
    parts = []
    for item in _list(value):
        facts = _object(item)
        amount = number(facts.get("count"))
        kind, name = word(facts.get("type")), word(facts.get("name"))
        if kind and not math.isnan(amount):
            unit = "M" if kind == "mem" else ""
            parts.append(f"{kind}{'/' + name if name else ''}={amount:.0f}{unit}")
    return ",".join(parts)


def _peak_text(job: dict[str, Any]) -> str:
    """The largest memory of any step, all its tasks together, as sacct would print it."""
    peaks = [0.0]
    for step in _list(job.get("steps")):
        usage = _object(_object(_object(step).get("tres")).get("requested"))
        for item in _list(usage.get("total")):
            count = _object(item).get("count")
            if _object(item).get("type") == "mem" and isinstance(count, int | float):
                peaks.append(float(count))
    # Counts of use are bytes.
    found = max(peaks)
    return f"{found / 2**10:.0f}K" if 0 < found < 2**60 else ""


def _text(value: Any) -> str:
    found = number(value)
    return "" if math.isnan(found) or math.isinf(found) else f"{found:.0f}"


def word(value: Any) -> str:
    """A text; "" where there is none."""
    if value is None or isinstance(value, dict | list):
        return ""
    return str(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
