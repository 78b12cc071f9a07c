"""Slurm's queue, ``squeue --json``, as a table of tasks: what waits is to be planned."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from plancast.pipelines.inputs.cells import BadCell
from plancast.pipelines.inputs.constraints import requires_cell
from plancast.pipelines.inputs.dependencies import arrays_of
from plancast.planner.model.domain import BadRequest
from plancast.predictor.logs.sacct import gpus_of, size_mib, tres
from plancast.predictor.logs.slurm_json import cells_of, number, state, word
from plancast.predictor.units import is_whole

_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
_UNFULFILLED = re.compile(r"\((?:un)?fulfilled\)|\(failed\)")


def task_rows(jobs: Sequence[Any], source: str) -> list[dict[str, Any]]:
    """The waiting jobs of a queue as rows of a task table.

    Parameters
    ----------
    jobs : sequence
        As ``squeue --json`` lists them; those that run or have ended are no tasks.
    source : str
        What to call the file in an error.

    Raises
    ------
    BadRequest
        Where nothing waits, or a field of a job is not Slurm's; the text names job and field.

    Notes
    -----
    A job on several nodes is a gang of one piece a node. Memory and processors are of a piece.
    A dependency on jobs that are not in the queue has been fulfilled, or never will be: it is
    left out, as Slurm's own scheduler looks at it again. One on a job that runs is the earliest
    start: by the end that Slurm names, its limit.
    """
    if not all(isinstance(job, dict) and "job_id" in job for job in jobs):
        raise BadRequest(f"{source}: holds jobs without job_id; give what squeue --json prints")
    waiting = [job for job in jobs if state(job) in _WAITS]
    if not waiting:
        raise BadRequest(f"{source}: no job of the queue waits; nothing is to be planned")
    running = {c["JobID"]: c for job in jobs if "RUNNING" in state(job) for c in [cells_of(job)]}
    rows = []
    for job in waiting:
        try:
            rows.append(_row(job))
        except (TypeError, ValueError) as error:
            raise BadRequest(f"{source}: job {job.get('job_id')}: {error}") from None
    ids = [row["id"] for row in rows]
    known = {*ids, *arrays_of(ids)}
    for row in rows:
        try:
            row["release_s"] = _release_s(row, running)
            row["after"] = _after(row["after"], known)
        except ValueError as error:
            raise BadRequest(f"{source}: job {row['id']}: {error}") from None
    return rows


def _row(job: dict[str, Any]) -> dict[str, Any]:
    cells = cells_of(job)
    asked = tres(cells["ReqTRES"])
    nodes = max(1.0, _known(number(job.get("node_count")), 1.0))
    cpus = _known(number(job.get("cpus")), 1.0)
    total_mib = size_mib(asked.get("mem", ""))
    if math.isnan(total_mib):
        total_mib = _known(size_mib(cells["ReqMem"], cpus, nodes), 0.0)
    limit = number(job.get("time_limit"))
    try:
        requires = requires_cell(word(job.get("features")))
    except BadCell as error:
        raise ValueError(str(error)) from None
    return {
        "id": cells["JobID"],
        "cpus": cpus / nodes,
        "mem_mib": total_mib / nodes,
        "gpus": _known(gpus_of(asked), 0.0) / nodes,
        "shards": int(nodes),
        "requested_s": math.ceil(limit * 60) if math.isfinite(limit) and limit > 0 else None,
        "submit_s": float(cells["Submit"]) if cells["Submit"] else None,
        "owner": cells["User"],
        "user": cells["User"],
        "group": cells["Account"],
        "app": cells["JobName"],
        "queue": cells["QOS"] or cells["Partition"],
        "partition": cells["Partition"],
        "work_dir": cells["WorkDir"],
        "submit_line": cells["SubmitLine"],
        "requires": list(requires),
        "account": cells["Account"],
        "array_limit": _array_limit(job),
        "singleton": "singleton" in word(job.get("dependency")),
        **_licences(word(job.get("licenses"))),
        "after": word(job.get("dependency")),
    }


def _array_limit(job: dict[str, Any]) -> int | None:
    """The k of ``--array=...%k``; Slurm says 0 where there is none."""
    most = number(job.get("array_max_tasks"))
    return int(most) if math.isfinite(most) and most > 0 else None


def _licences(text: str) -> dict[str, int]:
    """``matlab:2,ansys@server`` as columns; a licence without a number is one."""
    found: dict[str, int] = {}
    for part in filter(None, re.split(r"[,;]", text)):
        name, _, amount = part.partition(":")
        if amount and not is_whole(amount):
            raise ValueError(f"licenses {text!r}: {amount!r} is no number")
        found[f"res_{name.strip()}"] = int(amount or 1)
    return found


def _known(value: float, instead: float) -> float:
    return value if math.isfinite(value) else instead


def _items(text: str) -> Iterator[tuple[str, str, str]]:
    """Kind, job and lag in minutes of each dependency of a job."""
    for part in filter(None, re.split(r"[,?]", _UNFULFILLED.sub("", text))):
        kind, _, ids = part.partition(":")
        for item in filter(None, ids.split(":")):
            name, _, lag = item.partition("+")
            yield kind, name.removesuffix("_*"), lag


def _release_s(row: dict[str, Any], running: Mapping[str, dict[str, str]]) -> float | None:
    """When all has happened that a job waits for of jobs that run; None where it waits for none."""
    found: list[float] = [row["submit_s"] or 0.0]
    for kind, name, lag in _items(row["after"]):
        members = [job for job in running if name in (job, job.rpartition("_")[0])]
        for job in members:
            happens = {"afterok": "End", "afterany": "End", "after": "Start"}.get(kind)
            if happens is None:
                raise ValueError(f"dependency {kind}:{name} on a job that runs cannot be planned")
            if not (at_s := running[job][happens]):
                raise ValueError(
                    f"waits for {kind}:{name}, and squeue does not say when {name} ends"
                )
            found.append(float(at_s) + 60.0 * float(lag or 0))
    return max(found) if len(found) > 1 else None


def _after(text: str, known: Collection[str]) -> list[str]:
    """The dependencies on known jobs, as a task table writes them."""
    live = [item for item in _items(text) if item[1] in known]
    if "?" in text and live:
        raise ValueError(f"dependency {text}: any one of several cannot be planned")
    found = [
        name if kind == "afterok" and not lag else f"{kind}:{name}" + (f"+{lag}" if lag else "")
        for kind, name, lag in live
    ]
    return list(dict.fromkeys(found))
