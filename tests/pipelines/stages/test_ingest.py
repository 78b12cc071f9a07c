"""stages.ingest: what is said of a log is said to people."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from plancast.pipelines.cli.forecasting import describe_log
from plancast.pipelines.results import JobLog
from plancast.pipelines.stages.ingest import ingest_log, said
from plancast.predictor.logs import read_log
from plancast.predictor.schema import RULES, Finding


def test_findings_are_said_to_people() -> None:
    """Who runs `plancast ingest` would be advised to call a function, of rows without names."""
    for rule in RULES:
        text = said(Finding(rule.kind, rule.error, 2, (0, 1), ("", ""), rule.remedy))
        assert not re.search(r"\(\)|\w_\w|\(job \)", text), text
    named = Finding("no user", False, 1, (4,), ("j9",), "so")
    assert said(named) == "no user in 1 row, first row 5 (job j9); so"


def test_a_log_without_size_users_or_run_times_is_described_as_such(tmp_path: Path) -> None:
    """A guess would be read as the site's machine, `0 users` as a count, NaN as JSON."""
    path = tmp_path / "log.csv"
    path.write_text("submit_s,cpus,run_s\n0,2,\n5,3,\n")
    _, facts = ingest_log(str(path))
    head = describe_log(facts).splitlines()[0]
    assert head.endswith(
        "2 jobs of unknown users on 3 processors or more (the log does not say how many)"
    )
    log = JobLog(pd.DataFrame(read_log(path)))
    assert log.facts["median_run_s"] is None
    assert "3 processors or more" in log._repr_html_()
