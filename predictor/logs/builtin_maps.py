"""Column maps that need no file: traces of tools whose columns are always the same.

A map is a plain mapping as a column-map file holds it. Only what was known at submission is
mapped to features: CPU use is measured while a task runs. So is peak memory, which is no feature
but is learned.
"""

from __future__ import annotations

from typing import Any

_NEXTFLOW = {"task_id", "hash", "name", "status", "submit", "realtime"}
_SNAKEMAKE = ("s", "h:m:s", "max_rss")

_RAW = dict.fromkeys(("submit_s", "start_s", "end_s", "run_s", "requested_s"), "ms") | {
    "mem_mib": "bytes",
    "mem_peak_mib": "bytes",
}

NAMES = ("nextflow", "snakemake")
"""Names that ``--columns`` takes instead of a file."""


def named_by(header: str) -> str | None:
    """The map whose tool writes this header line; None where none does."""
    cells = header.split("\t")
    if set(cells) >= _NEXTFLOW:
        return "nextflow"
    return "snakemake" if tuple(cells[:3]) == _SNAKEMAKE else None


def content(name: str, header: str, file: str) -> dict[str, Any]:
    """A map as its file would hold it.

    Parameters
    ----------
    name : str
        Of `NAMES`.
    header : str
        The table's first line: what a tool writes depends on its settings and its version.
    file : str
        Name of the table's file.

    Notes
    -----
    A plain number of Nextflow is raw: milliseconds or bytes. Its memory units are powers of
    1024, and its times are local to whoever ran it. Of a cached task the trace repeats the
    times of the run that was cached.
    Snakemake writes a file for each rule, a row for each repetition and no moments: the rows
    are taken in turn. Without its extended columns the file's name is the rule's.
    """
    there = set(header.split("\t"))
    return _nextflow(there) if name == "nextflow" else _snakemake(there, file)


def _present(there: set[str], wanted: dict[str, str]) -> dict[str, str]:
    return {target: source for target, source in wanted.items() if source in there}


def _nextflow(there: set[str]) -> dict[str, Any]:
    wanted = {
        "job_id": "task_id",
        "submit_s": "submit",
        "start_s": "start",
        "end_s": "complete",
        "run_s": "realtime",
        "requested_s": "time",
        "cpus": "cpus",
        "mem_mib": "memory",
        "mem_peak_mib": "peak_rss",
        # The process; where the trace does not name it, the task's name without its tag.
        "app": "process" if "process" in there else "name",
        "queue": "queue",
        "outcome": "status",
    }
    return {
        "columns": _present(there, wanted),
        # With trace.raw = true all times are milliseconds and all sizes bytes.
        "units": {k: unit for k, unit in _RAW.items() if wanted[k] in there},
        "extract": {"app": r"^(.*?)(?:\s*\(.*\))?$"},
        "outcomes": {
            "COMPLETED": "completed",
            "CACHED": "completed",
            "FAILED": "failed",
            "ABORTED": "cancelled",
        },
        "drop_if": {"status": ["NEW", "SUBMITTED", "RUNNING"]},
        "unknown": ["", "-"],
        "separator": "\t",
    }


def _snakemake(there: set[str], file: str) -> dict[str, Any]:
    wanted = {"job_id": "jobid", "app": "rule_name", "cpus": "threads", "mem_peak_mib": "max_rss"}
    extended = _present(there, wanted)
    return {
        "columns": {"run_s": "s"} | extended,
        "numeric": _present(there, {"input_mb": "input_size_mb"}),
        "constants": {"outcome": "completed"}
        | ({} if "app" in extended else {"app": file.split(".")[0]}),
        "submission": "in_turn",
        "unknown": ["", "-", "NA"],
        "separator": "\t",
    }
