"""Stage 1: a log in any form the readers know becomes the canonical job log."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.stages.stage import main, write_facts
from plancast.planner.instances.generate import generate_log, swf_text
from plancast.predictor.logs.table import write_jobs
from plancast.predictor.schema import (
    Finding,
    check_log,
    machine_size,
    replayed_ends,
    stated_size,
    usable,
)

AS_IT_IS = Reading()
"""The format found by looking at the file, and every option left to its reader."""

WHAT_IS_DONE = {
    "end is not start plus run time": "the run time is believed; suspended jobs look like this",
    "not in submission order": "they are put in order",
    "no positive run time": "such jobs are left out",
    "ran without a known start": "a log without any start is replayed, others keep such rows",
    "no requested time": "the largest request so far stands in for it",
}
"""What becomes of rows here, where a rule of the checker names what a program may call."""


def said(finding: Finding) -> str:
    """A finding as people read it, who know no names of functions."""
    known = any(finding.job_ids)
    text = str(replace(finding, remedy=WHAT_IS_DONE.get(finding.kind, finding.remedy)))
    return text if known else text.replace(" (job )", "")


def ingest_log(log: str | pd.DataFrame, reading: Reading = AS_IT_IS) -> tuple[Any, dict[str, Any]]:
    """Read and check a log.

    Parameters
    ----------
    log : str or DataFrame
        A file, or what was read of one.
    reading : Reading
        How it is read.

    Returns
    -------
    jobs : DataFrame
        Canonical; where the log has no waits, starts and ends of a first-come-first-served
        replay.
    facts : dict
        Counts, findings and machine size, for people and for ``--json``.
    """
    read = reading.read(log)
    jobs = replayed_ends(read)
    report = check_log(read)
    report.raise_errors(read.attrs["source"])
    _, counts = usable(jobs)
    facts = {
        "log": read.attrs["source"],
        "format": read.attrs["format"],
        **asdict(counts),
        "dropped": read.attrs.get("dropped", {}),
        "repaired": read.attrs.get("repaired", {}),
        "notes": read.attrs.get("notes", []),
        "findings": [said(finding) for finding in report.findings],
        "users": int(jobs.loc[jobs["user"] != "", "user"].nunique()),
        "machine_size": machine_size(read),
        "size_stated": stated_size(read) is not None,
        "acknowledge": read.attrs.get("header", {}).get("Acknowledge", ""),
    }
    return jobs, facts


def run(config: Config) -> dict[str, Any]:
    """Ingest the configured log (or generate one) and open the pipeline run in MLflow."""
    from plancast.pipelines.tracking import mlflow_runs as tracking

    paths = config.paths
    if config.log is None:
        size = config.generate
        generated = generate_log(size.jobs, size.users, size.procs, config.seed, load=size.load)
        write_text_atomic(paths.raw_log, swf_text(generated))
    jobs, facts = ingest_log(config.log or str(paths.raw_log), config.reading)
    write_jobs(jobs, paths.jobs)
    parameters = {
        "log": facts["log"],
        "seed": config.seed,
        **{f"train.{key}": value for key, value in config.train.model_dump().items()},
        **{f"trial.{key}": value for key, value in config.trial.model_dump().items()},
        **{f"worth.{key}": value for key, value in config.worth.model_dump().items()},
    }
    facts["mlflow_run"] = tracking.open_run(config.name, parameters)
    write_facts(paths.ingest_facts, facts)
    return facts


def run_stage(config: Config) -> dict[str, Any]:
    """The stage as DVC runs it, which relies on ``log_dep``."""
    config.check_log_dep()
    return run(config)


if __name__ == "__main__":
    main(run_stage)
