"""How long jobs of a log's test stretch would have waited, by what their dispatcher knew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.worth.batches import Stretch, known_requests
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import ReplayLog, bounded_slowdown, replay
from plancast.predictor import RuntimePredictor

Floats = NDArray[np.float64]

SHARES = (*(round(k / 50, 2) for k in range(50)), 0.99, 0.995, 1.0)
"""At which shares of the jobs the distributions are kept."""


def replays(stretch: Stretch, model: RuntimePredictor) -> list[dict[str, Any]]:
    """Waits and slowdowns of a stretch under backfilling with and without forecasts.

    Parameters
    ----------
    stretch : Stretch
        With arrivals and requests; of another nothing is said.
    model : RuntimePredictor
        Trained on what came before; its medians as of each submission are taken.

    Returns
    -------
    list of dict
        For each way its ``name``, ``mean_wait_s``, ``mean_slowdown`` (bounded, 10 s), and
        ``wait_s`` and ``slowdown`` at each of ``SHARES`` of the jobs.
    """
    if not stretch.replayed:
        return []
    jobs = stretch.jobs
    requested = known_requests(jobs)
    users = pd.factorize(jobs["user"].where(jobs["user"] != "", jobs["queue"]))[0]
    submit = jobs["submit_s"].to_numpy(np.int64)
    log = ReplayLog("report", stretch.procs, submit, stretch.run_s, stretch.width, requested, users)
    median = model.forecast_log(jobs, levels=(0.5,))[:, 0]
    forecast = np.clip(np.nan_to_num(np.ceil(median), nan=1.0), 1, requested).astype(np.int64)
    ways = {
        "EASY, requested times": ("easy", requested),
        "EASY, shortest first, requested times": ("easy-sjbf", requested),
        "EASY, shortest first, forecasts": ("easy-sjbf", forecast),
        "EASY, shortest first, true run times": ("easy-sjbf", stretch.run_s),
    }
    found = []
    for name, (dispatcher, estimates) in ways.items():
        ran = replay(log, DISPATCHERS[dispatcher], estimates)
        wait, slowdown = (ran.start_s - submit).astype(np.float64), bounded_slowdown(ran)
        found.append(
            {"name": name, "mean_wait_s": float(wait.mean()),
             "mean_slowdown": float(slowdown.mean()),
             "wait_s": _at_shares(wait), "slowdown": _at_shares(slowdown)}
        )  # fmt: skip
    return found


def _at_shares(values: Floats) -> list[float]:
    return [round(float(v), 2) for v in np.quantile(values, SHARES)]
