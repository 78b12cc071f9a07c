"""What the best way tried could win if the forecasts were exactly right.

Truths are drawn from the model's own quantiles, and every way is carried out in them: in that
world the forecasts are calibrated by construction, and no sharper than they are. It is no bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from plancast.pipelines.worth.policies import Batch

Floats = NDArray[np.float64]

DAY_S = 86400.0
LONGER = 2.0
"""A job that has outlived all its quantiles and has no limit runs up to so many times its age."""


def drawn(batch: Batch, levels: Sequence[float], rho: float, seed: int) -> dict[str, int]:
    """One set of true run times of a batch, seconds.

    Parameters
    ----------
    batch : Batch
    levels : sequence of float
        Of the batch's quantiles.
    rho : float
        Correlation of the normal scores of one user's jobs; 0: independent.
    seed : int

    Notes
    -----
    By inverse transform, log-linear between the levels; below the lowest its quantile, beyond
    the highest on to the request. What runs is drawn given that it outlives its age.
    """
    rng = np.random.default_rng([batch.backlog.number, seed, 13])
    snapshot = batch.request.snapshot
    tasks = [*snapshot.pending, *(r.task for r in snapshot.running)]
    ages = [0.0] * len(snapshot.pending)
    ages += [float(snapshot.now_s - r.start_s) for r in snapshot.running]
    owners: dict[str, float] = {}
    result = {}
    for task, age, quantiles in zip(tasks, ages, batch.quantiles_s, strict=True):
        common = owners.setdefault(task.owner, float(rng.standard_normal()))
        z = np.sqrt(rho) * common + np.sqrt(1.0 - rho) * rng.standard_normal()
        u = float(ndtr(z))
        limit = float(task.requested_s) if task.requested_s else np.inf
        result[task.id] = _run_s(quantiles, np.asarray(levels), u, age, limit)
    return result


def _run_s(quantiles: Floats, levels: Floats, u: float, age: float, limit: float) -> int:
    known = np.isfinite(quantiles)
    if not known.any():
        top = limit if np.isfinite(limit) else LONGER * max(age, 60.0)
        return int(np.ceil(max(age + 1.0, u * top)))
    p, q = levels[known], np.maximum.accumulate(np.maximum(quantiles[known], 1.0))
    if np.isfinite(limit):
        p, q = np.append(p, 1.0), np.append(q, max(limit, q[-1]))
    logs = np.log(q)
    if age > 0:
        passed = float(np.interp(np.log(age), logs + 1e-9 * np.arange(len(logs)), p, left=0.0))
        if age >= q[-1]:
            top = max(age + 1.0, min(limit, LONGER * age))
            return int(np.ceil(age + max(1.0, u * (top - age))))
        u = passed + u * (1.0 - passed)
    return int(np.ceil(max(age + 1.0, float(np.exp(np.interp(u, p, logs))))))


def same_user_rho(jobs: pd.DataFrame, forecast_s: Floats) -> float:
    """Correlation of the forecast errors of one user's successive jobs, in [0, 0.95].

    Parameters
    ----------
    jobs : DataFrame
        Canonical, of the training stretch.
    forecast_s : float64 (jobs,)
        Point forecasts, each made from what had ended before.

    Notes
    -----
    Of the normal scores of log errors, over successive jobs of a user within a day.
    """
    run = jobs["run_s"].to_numpy(np.float64)
    good = np.flatnonzero((run > 0) & (forecast_s > 0) & np.isfinite(forecast_s))
    if len(good) < 30:
        return 0.0
    error = np.log(run[good] / forecast_s[good])
    z = ndtri((pd.Series(error).rank().to_numpy() - 0.5) / len(good))
    frame = pd.DataFrame(
        {"user": jobs["user"].to_numpy()[good], "at": jobs["submit_s"].to_numpy()[good], "z": z}
    )
    frame = frame[frame["user"] != ""]
    before = frame.groupby("user")[["at", "z"]].shift(1)
    near = ((frame["at"] - before["at"]) <= DAY_S).to_numpy()
    if near.sum() < 30:
        return 0.0
    rho = float(np.corrcoef(frame["z"].to_numpy()[near], before["z"].to_numpy()[near])[0, 1])
    return float(np.clip(np.nan_to_num(rho), 0.0, 0.95))


def coverage(
    batches: Sequence[Batch], levels: Sequence[float], wanted: Mapping[str, float]
) -> dict[str, float]:
    """Share of queued jobs that really ended by their quantile, at some levels."""
    hits: dict[str, list[bool]] = {name: [] for name in wanted}
    for batch in batches:
        for k, task in enumerate(batch.request.snapshot.pending):
            for name, level in wanted.items():
                column = int(np.argmin(np.abs(np.asarray(levels) - level)))
                hits[name].append(batch.run_s[task.id] <= np.ceil(batch.quantiles_s[k, column]))
    return {name: float(np.mean(found)) if found else float("nan") for name, found in hits.items()}
