"""The forecaster of memory is that of run times, with peaks in place of run times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plancast.predictor.runtime import RuntimePredictor
from plancast.predictor.schema import canonical
from plancast.predictor.target import as_target, check_target, died_of_memory, lower_bounds
from plancast.predictor.walk import walk_forward

LEVELS = (0.1, 0.5, 0.9)


def tasks(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two kinds of tasks, of about 200 and 3,000 MiB, whose run times say nothing of that."""
    random = np.random.default_rng(seed)
    small = np.arange(rows) % 2 == 0
    submit = 100.0 * np.arange(rows)
    return canonical(
        pd.DataFrame(
            {
                "job_id": [str(k) for k in range(rows)],
                "submit_s": submit,
                "start_s": submit + 1,
                "run_s": random.uniform(10, 90, rows),
                "requested_s": 3600.0,
                "cpus": 1.0,
                "mem_mib": 8000.0,
                "app": np.where(small, "small", "large"),
                "outcome": "completed",
                "mem_peak_mib": np.where(small, 200.0, 3000.0) * random.uniform(0.9, 1.1, rows),
            }
        )
    )


def test_peaks_stand_where_run_times_do() -> None:
    """A model of memory would learn run times, or know a peak before the job has ended."""
    log = tasks(4)
    log.loc[1, ["outcome", "mem_peak_mib"]] = ["failed", 8000.0]
    log.loc[2, ["outcome", "mem_peak_mib"]] = ["failed", 100.0]
    assert died_of_memory(log).tolist() == [False, True, False, False]
    found = as_target(log, "mem")
    assert found["run_s"].isna().tolist() == [False, True, False, False]
    assert found["run_s"].iloc[2] == 100.0
    assert (found["requested_s"] == 8000.0).all()
    assert (found["mem_mib"] == 3600.0).all()
    assert (found["end_s"] == log["end_s"]).all()
    assert lower_bounds(found, float(log["end_s"].iloc[1])).tolist() == [8000.0]
    assert lower_bounds(found, float(log["submit_s"].iloc[1])).tolist() == []
    assert as_target(log, "time") is log
    with pytest.raises(ValueError, match="must be one of time, mem"):
        check_target("memory")


def test_a_model_of_memory_forecasts_peaks_and_is_kept(tmp_path: Path) -> None:
    """``target="mem"`` would be forgotten by a saved model, or would forecast seconds."""
    log = tasks()
    model = RuntimePredictor(LEVELS, target="mem").fit(log)
    asked = log.tail(2).assign(run_s=np.nan, end_s=np.nan, mem_peak_mib=np.nan, outcome="unknown")
    asked = asked.assign(submit_s=1e6)
    found = model.predict_quantiles(asked)
    assert 180 < found[0, 1] < 220
    assert 2700 < found[1, 1] < 3300
    again = RuntimePredictor.load(model.save(tmp_path / "model"))
    assert again.target == "mem"
    assert np.array_equal(again.predict_quantiles(asked), found)
    assert again.predict_row(asked.iloc[0].to_dict())[1] == found[0, 1]
    more = tasks(440, seed=1).tail(40).assign(job_id=[f"n{k}" for k in range(40)])
    again.update(more)
    assert again.forecaster.correction.settled > model.forecaster.correction.settled


def test_a_walk_over_peaks_hides_what_had_not_ended() -> None:
    """A forecast would change with peaks that became known after it was made."""
    log = tasks(300)
    walk = walk_forward(log, LEVELS, target="mem")
    later = log.copy()
    later.loc[200:, "mem_peak_mib"] *= 3
    other = walk_forward(later, LEVELS, target="mem")
    assert np.array_equal(walk.quantiles_s[:201], other.quantiles_s[:201], equal_nan=True)
    rows = np.arange(walk.begin, 300)
    peak = log["mem_peak_mib"].to_numpy()[rows]
    assert 0.8 < (peak <= walk.quantiles_s[rows, 2]).mean() <= 1.0
    assert (np.abs(np.log(walk.quantiles_s[rows, 1] / peak)) < 0.3).mean() > 0.95
