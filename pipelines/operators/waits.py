"""Forecast waits along a log, and their correction by jobs that have started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.planner.worlds import wait_kernel as kernel
from plancast.planner.worlds.rollout import DISCIPLINES
from plancast.predictor.state.online import OnlineCorrection

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS: tuple[float, ...] = (0.1, 0.5, 0.9)
"""Quantiles of a start that are reported."""

GRID: tuple[float, ...] = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Levels at which rolled samples are kept."""

RUN_LEVELS: tuple[float, ...] = (0.1, 0.3, 0.5, 0.8, 0.9, 0.95)
"""Quantiles of run times that samples are drawn from."""

SHARED = 0.5
"""Share of the luck (variance of a normal) that jobs of one user, request and size share."""

OFFSET_S = 60.0
"""Added to waits before their logarithm is taken: a second more or less is no error."""

AIM = 0.915
"""Level at which the 90% quantile is corrected. Long waits are known late, so that a correction at
.9 covers less: 88% of the first half of SDSC-BLUE's part, on which this was chosen by .005."""

ENOUGH = 50
"""Started jobs below which forecasts stay as they are rolled."""

WINDOW, BLOCK = 2000, 50
"""Started jobs that set a level, and forecasts until it is set anew."""

_AGES = (1, 2, 4, 8)
"""Hours of waiting at which another correction begins."""


@dataclass(frozen=True)
class Past:
    """Jobs in order of submission, with starts and ends, on one pool of processors.

    Parameters
    ----------
    submit_s, start_s, end_s, width, limit_s, run_s : array of int64, shape (n,)
    burst : array of int64, shape (n,)
        Jobs of one number share a part of their luck.
    quantiles_s : array, shape (n, levels)
        Of run times as forecast at submission, seconds.
    levels : sequence of float
    procs : int
    """

    submit_s: Ints
    start_s: Ints
    end_s: Ints
    width: Ints
    limit_s: Ints
    run_s: Ints
    burst: Ints
    quantiles_s: Floats
    levels: Sequence[float]
    procs: int


@dataclass(frozen=True)
class Waits:
    """Forecasts of waits, a row each, in order of their moments.

    Parameters
    ----------
    moment_s, job, hour : array of int64, shape (forecasts,)
        When, of which job of the past, and after how many whole hours of its waiting.
    rolled_s : array, shape (forecasts, GRID)
        Quantiles of the remaining wait, seconds, as they are rolled.
    by_limits_s, by_truth_s : array, shape (forecasts,)
        The same roll-forward with limits for run times, and with the true ones.
    """

    moment_s: Ints
    job: Ints
    hour: Ints
    rolled_s: Floats
    by_limits_s: Floats
    by_truth_s: Floats


def moments_of(past: Past, jobs: Ints, *, hourly: bool = True) -> tuple[Ints, Ints, Ints]:
    """Moments of forecasts (submission, and each hour of waiting), with job and hour, in order."""
    wait = past.start_s[jobs] - past.submit_s[jobs]
    last = (wait - 1) // 3600 + 1 if hourly else np.ones_like(wait)
    hours = np.asarray(np.where(wait > 0, last, 0), dtype=np.int64)
    job = np.repeat(jobs, hours)
    hour = np.arange(len(job)) - np.repeat(np.cumsum(hours) - hours, hours)
    moment = past.submit_s[job] + 3600 * hour
    order = np.argsort(moment, kind="stable")
    return moment[order], job[order], hour[order]


def knots(quantiles_s: Floats, limit_s: Floats) -> Floats:
    """Log quantiles to draw from, non-decreasing; where none are known, shares of the limit."""
    known = np.atleast_1d(np.isfinite(quantiles_s).all(axis=1))
    guess = limit_s[:, None] * np.linspace(0.05, 1.0, quantiles_s.shape[1])
    whole = np.where(known[:, None], quantiles_s, guess)
    return np.log(np.maximum.accumulate(np.maximum(whole, 1.0), axis=1))


def scores_of(levels: Sequence[float]) -> Floats:
    """Logits of levels."""
    p = np.asarray(levels, dtype=np.float64)
    return np.asarray(np.log(p / (1.0 - p)), dtype=np.float64)


def bursts(*columns: Any) -> Ints:
    """Numbers of equal rows of columns, from 0."""
    return np.asarray(pd.factorize(pd.MultiIndex.from_arrays(columns))[0], dtype=np.int64)


def forecast_along(
    past: Past,
    moments: tuple[Ints, Ints, Ints],
    *,
    samples: int,
    seed: int,
    discipline: str = "easy",
) -> Waits:
    """Roll the queue forward as it was at each moment; nothing later is known to the forecast."""
    moment, job, hour = moments
    rolled = np.empty((len(moment), len(GRID)))
    by_limits, by_truth = np.empty(len(moment)), np.empty(len(moment))
    kernel.waits_along(
        DISCIPLINES[discipline], moment, job, past.submit_s, past.start_s, past.end_s, past.width,
        past.limit_s, past.run_s, past.procs, scores_of(past.levels),
        knots(past.quantiles_s, past.limit_s.astype(np.float64)), past.burst, SHARED, samples,
        seed, np.array(GRID), rolled, by_limits, by_truth,
    )  # fmt: skip
    return Waits(moment, job, hour, rolled, by_limits, by_truth)


def corrected(
    rolled_s: Floats, by_limits_s: Floats, hour: Ints, moment_s: Ints, start_s: Floats
) -> Floats:
    """Correct forecasts by the jobs that had started before each, shape (forecasts, levels).

    Parameters
    ----------
    rolled_s, by_limits_s, hour, moment_s
        As of ``Waits``, in order of the moments.
    start_s : array, shape (forecasts,)
        When the job started; infinite: it has not.

    Notes
    -----
    The 90% quantile: two experts, the samples and the limits, are mixed by their recent losses
    in ``log(wait + 60 s)``, and shifted by conformal scores of jobs that have started, with
    levels that adapt (``OnlineCorrection``). The median and the 10% quantile are quantiles of
    the samples, at the levels below which so many of the jobs that have started lay: a shift
    would move certain forecasts as far as uncertain ones. Forecasts at submission and after 1,
    2, 4 and 8 hours are corrected apart. Future arrivals are not in the samples: this is where
    they come in.
    """
    places = [GRID.index(level) for level in LEVELS]
    plain = rolled_s[:, places]
    logs = np.log(np.stack([plain, np.tile(by_limits_s[:, None], len(LEVELS))], axis=1)
                  + OFFSET_S)  # fmt: skip
    cohort = np.searchsorted(_AGES, hour, side="right").astype(np.int64)
    began = np.isfinite(start_s)
    wait = np.where(began, start_s - moment_s, 0.0)
    correction = OnlineCorrection((*LEVELS[:2], AIM), 2, len(_AGES) + 1)
    found, _ = correction.replay(
        logs,
        np.where(began, np.log(wait + OFFSET_S), np.nan),
        moment_s.astype(np.float64),
        np.where(began, start_s, np.nan),
        ["site"] * len(hour),
        cohort,
        np.full(len(hour), np.inf),
    )
    result = np.maximum(np.exp(np.minimum(found, 40.0)) - OFFSET_S, 0.0)
    # Until enough jobs have started no correction is better than one by chance.
    known = np.searchsorted(np.sort(start_s[began & (hour == 0)]), moment_s)
    early = (known < ENOUGH) | ~np.isfinite(found).all(axis=1) | (found > 35.0).any(axis=1)
    for place, level in enumerate(LEVELS[:2]):
        result[:, place] = _relevelled(rolled_s, cohort, moment_s, start_s, level)
    result = np.where(early[:, None], plain, result)
    return np.asarray(np.maximum.accumulate(result, axis=1), dtype=np.float64)


def _relevelled(
    rolled_s: Floats, cohort: Ints, moment_s: Ints, start_s: Floats, level: float
) -> Floats:
    """The samples' quantile below which a share `level` of the started jobs lay, by cohort."""
    grid = np.array(GRID)
    wait = start_s - moment_s
    # Where among its samples each job's true wait lay; on steps of equal samples, their middle.
    lay = 0.5 * ((rolled_s < wait[:, None]).mean(axis=1) + (rolled_s <= wait[:, None]).mean(axis=1))
    result = rolled_s[:, GRID.index(level)].copy()
    for number in np.unique(cohort).tolist():
        rows = np.flatnonzero(cohort == number)
        order = rows[np.argsort(start_s[rows], kind="stable")]
        known_at, shares = start_s[order], lay[order]
        for block in np.array_split(rows, max(1, len(rows) // BLOCK)):
            known = int(np.searchsorted(known_at, moment_s[block[0]]))
            if known < ENOUGH:
                continue
            at = float(np.quantile(shares[max(0, known - WINDOW) : known], level))
            result[block] = [np.interp(at, grid, row) for row in rolled_s[block]]
    return result
