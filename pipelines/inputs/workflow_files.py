"""A workflow in WfCommons' WfFormat as tasks that are to run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    ByClass,
    DurationEstimate,
    Estimates,
)
from plancast.predictor.logs.wfformat import WfFormatReader
from plancast.predictor.schema import BadLog

SOURCE = "workflow"


def is_workflow(path: Path) -> bool:
    """Whether a file is a workflow in WfFormat, by how it begins."""
    return path.is_file() and WfFormatReader().sniff(path)


def workflow_rows(path: Path) -> tuple[list[dict[str, Any]], Estimates]:
    """The tasks of a workflow that ran, or was generated, as rows and estimates.

    Parameters
    ----------
    path : Path
        JSON, plain or gzip.

    Returns
    -------
    rows : list of dict
        Of a task table: id, app, cpus, after. What a task used is made no limit of.
    estimates : dict
        How long each ran there, by task and machine class; tasks that did not end have none.

    Raises
    ------
    BadRequest
        Where the file is damaged, of another version, or has no execution.
    """
    try:
        frame = WfFormatReader().read(path)
    except BadLog as why:
        raise BadRequest(str(why)) from None
    parents: dict[str, list[str]] = frame.attrs["parents"]
    rows: list[dict[str, Any]] = []
    estimates: dict[str, ByClass] = {}
    for job in frame.to_dict("records"):
        name = job["job_id"]
        cpus = {"cpus": job["cpus"]} if job["cpus"] > 0 else {}
        rows.append({"id": name, "app": job["app"], **cpus, "after": list(parents.get(name, ()))})
        if job["run_s"] == job["run_s"]:
            seconds = max(1, math.ceil(job["run_s"]))
            estimates[name] = {ANY_CLASS: DurationEstimate.certain(seconds, SOURCE)}
    return rows, estimates
