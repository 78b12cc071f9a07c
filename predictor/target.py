"""What is forecast of a job: its run time or its peak memory.

The forecaster learns one positive quantity from its history, and knows one request that bounds
it. For memory the two exchange places: the peak stands where the run time is, the requested
memory where the requested time is, and the requested time becomes a feature among the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.splits import known_at_s

Floats = NDArray[np.float64]
Target = Literal["time", "mem"]
TARGETS: tuple[str, ...] = get_args(Target)


def check_target(target: str) -> Target:
    """The target itself.

    Raises
    ------
    ValueError
        Where it is none of `TARGETS`.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; it must be one of {', '.join(TARGETS)}")
    return target  # type: ignore[return-value]


def died_of_memory(jobs: pd.DataFrame) -> NDArray[np.bool_]:
    """Which jobs failed at their memory limit, so that the peak is only a lower bound, shape (n,).

    Those that failed with a peak of at least the request. A reader that knows of such an end
    from elsewhere (Slurm's OUT_OF_MEMORY) sets the peak so: sampled peaks miss the last moment.
    """
    peak, limit = (jobs[c].to_numpy(np.float64) for c in ("mem_peak_mib", "mem_mib"))
    with np.errstate(invalid="ignore"):
        return np.asarray((jobs["outcome"] == "failed").to_numpy() & (peak >= limit) & (limit > 0))


def as_target(jobs: pd.DataFrame, target: Target) -> pd.DataFrame:
    """A canonical log as the forecaster learns it.

    Parameters
    ----------
    jobs : DataFrame
        Canonical, its times plausible.
    target : {"time", "mem"}

    Returns
    -------
    DataFrame
        For ``"time"`` the same. For ``"mem"``: ``run_s`` is the peak, MiB, unknown where the
        job died of its limit (see `lower_bounds`); ``requested_s`` and ``mem_mib`` have
        exchanged places; ``end_s`` is when the peak became known.
    """
    if target == "time":
        return jobs
    known = known_at_s(jobs)
    peak = jobs["mem_peak_mib"].to_numpy(np.float64)
    return jobs.assign(
        run_s=np.where(died_of_memory(jobs), np.nan, peak),
        requested_s=jobs["mem_mib"],
        mem_mib=jobs["requested_s"],
        end_s=np.where(np.isfinite(known), known, np.nan),
    )


def row_as_target(row: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """One clean row as it is asked about."""
    if target == "time":
        return dict(row)
    return {**row, "requested_s": row["mem_mib"], "mem_mib": row["requested_s"]}


def lower_bounds(jobs: pd.DataFrame, moment_s: float) -> Floats:
    """Peaks of jobs that had died of their memory limit by a moment, MiB: right-censored values.

    Parameters
    ----------
    jobs : DataFrame
        From `as_target` for memory.
    moment_s : float
    """
    bound = jobs["mem_peak_mib"].to_numpy(np.float64)
    censored = jobs["run_s"].isna().to_numpy() & (bound > 0)
    return np.asarray(bound[censored & (jobs["end_s"].to_numpy(np.float64) <= moment_s)])
