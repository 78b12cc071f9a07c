"""Names of jobs: runs of one thing are one name, applications stay apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.predictor import ESTIMATORS
from plancast.predictor.schema import canonical
from plancast.predictor.state.names import name_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sim_001", "sim_002"),
        ("align_NA12878", "align_NA12891"),
        ("report-2024-05-01", "report-2024-06-11"),
        ("backup_2024-05-01T12:00:00", "backup_2024-05-02T03:10:59"),
        ("task-9f86d081884c", "task-2c26b46b68ff"),
        ("run.550e8400-e29b-41d4-a716-446655440000", "run.123e4567-e89b-12d3-a456-426614174000"),
        ("tool/1.0.0", "tool/1.2"),
    ],
)
def test_runs_of_one_thing_have_one_name(one: str, other: str) -> None:
    """Each run of a numbered job would be the first of its kind."""
    assert name_of(one) == name_of(other) != one


@pytest.mark.parametrize(
    "apps",
    [("4176", "4177"), ("bwa", "samtools"), ("fastqc_1", "multiqc_1"), ("deadbeef", "cafebabe")],
)
def test_applications_stay_apart(apps: tuple[str, str]) -> None:
    """Codes of applications in an archived log, or plain words, would become one."""
    assert name_of(apps[0]) != name_of(apps[1])


@given(st.text(max_size=40))
def test_a_name_is_a_name_already(app: str) -> None:
    """What was normalised would become something else when it is read again."""
    assert name_of(name_of(app)) == name_of(app)


@pytest.mark.parametrize("estimator", ["last_same", "model"])
def test_numbered_jobs_are_forecast_by_their_likes(estimator: str) -> None:
    """A user whose jobs are numbered would be forecast as if nothing of theirs had ever run."""
    rng = np.random.default_rng(0)
    n = 900
    kind = rng.integers(0, 6, n)
    run = 60.0 * 3.0**kind * np.exp(rng.normal(0, 0.05, n))
    submit = np.arange(n) * 7200.0
    jobs = canonical(pd.DataFrame(
        {"job_id": [f"{k}" for k in range(n)], "submit_s": submit, "start_s": submit,
         "end_s": submit + run, "run_s": run, "user": "u", "cpus": 1.0, "outcome": "completed",
         "app": [f"step{'abcdef'[k]}_{i:05d}" for i, k in enumerate(kind)]}
    ))  # fmt: skip
    made = ESTIMATORS[estimator]((0.1, 0.5, 0.9)).fit(jobs.iloc[:700])
    found = made.forecast_log(jobs.iloc[700:])[:, 1]
    error = np.abs(np.log2(found / jobs["run_s"].iloc[700:]))
    assert float(np.median(error)) < 0.3
