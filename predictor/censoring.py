"""What censoring does to run times, and the explicit treatment of it.

Outcomes
--------
The target is the time for which a job holds its machine, since that is what a plan reserves.
So a job that failed, was cancelled while it ran or was killed at its limit counts as it ran;
it is counted as censored (timeout, cancelled) in every report, and a job that never ran has no
run time and is left out.

Refits
------
At a refit the jobs that still run are censored: of the latest jobs the short ones have ended
and the long ones have not, so that plain training sees too many short runs. Each ended job
weighs ``1 / G(run time)``, with G the Kaplan-Meier estimate of the chance that a job of the
window was watched for at least that long (inverse probability of censoring weights).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CENSORED = ("timeout", "cancelled")
"""Outcomes that cut a run short: the run time is a lower bound of what the job needed."""


def censoring_weights(run_s: Floats, watched_s: Floats, ceiling: float = 10.0) -> Floats:
    """Weights that make ended jobs stand for those still running.

    Parameters
    ----------
    run_s : array, shape (n,)
        Run times of the ended jobs, seconds.
    watched_s : array, shape (m,)
        For how long the jobs that still run have run, seconds.
    ceiling : float
        Largest weight: a few long jobs must not outweigh everything.

    Returns
    -------
    array, shape (n,)
        At least 1.

    Notes
    -----
    ``w = 1 / G(t-)``, ``G(t-) = prod over watched times c < t of (1 - 1 / at risk at c)``. At
    equal times ends come before censorings.

    References
    ----------
    Robins, Rotnitzky (1992), "Recovery of information and adjustment for dependent censoring
    using surrogate markers"; Kaplan, Meier (1958), doi:10.2307/2281868.
    """
    times = np.concatenate([run_s, watched_s])
    censored = np.concatenate([np.zeros(len(run_s)), np.ones(len(watched_s))])
    order = np.lexsort((censored, times))
    at_risk = np.arange(len(times), 0, -1)
    survival = np.cumprod(1.0 - censored[order] / at_risk)
    before = np.empty(len(times))
    before[order] = np.concatenate([[1.0], survival[:-1]])
    return np.asarray(1.0 / np.maximum(before[: len(run_s)], 1.0 / ceiling), dtype=np.float64)


LONGEST_GRACE_S = 3600.0
"""A log whose jobs run on for longer than this does not kill at the requested time."""


def tolerated_share(highest: float) -> float:
    """Share of jobs that may outlast a limit that caps quantiles up to the level `highest`.

    Half a percent, or a fifth of what lies above the level: a cap must not cut what it covers.
    """
    return min(0.005, (1.0 - highest) / 5.0)


def kill_grace_s(run_s: Floats, requested_s: Floats, tolerated: float = 0.005) -> float:
    """How long after its requested time a log lets a job run, learned from ended jobs.

    Parameters
    ----------
    run_s, requested_s : array, shape (n,)
        Seconds; requests that are not positive and finite are unknown.
    tolerated : float
        Share of jobs that may run longer all the same.

    Returns
    -------
    float
        Whole minutes, in seconds: the least by which all but the tolerated share of the jobs
        overshot. Infinity beyond ``LONGEST_GRACE_S`` (jobs are not killed at their requested
        time), or where no request is known.
    """
    known = (requested_s > 0) & np.isfinite(requested_s)
    if not known.any():
        return np.inf
    over = np.sort(run_s[known] - requested_s[known])
    last = over[len(over) - 1 - int(tolerated * len(over))]
    grace = 60.0 * np.ceil(max(last, 0.0) / 60.0)
    return float(grace) if grace <= LONGEST_GRACE_S else np.inf


def queue_limits(
    run_s: Floats, queues: Sequence[str], highest: float = 0.95, least: int = 200
) -> dict[str, float]:
    """What stands in for an unknown kill limit: a run time that hardly any job of a queue passes.

    Parameters
    ----------
    run_s : array, shape (n,)
        Run times of ended jobs, seconds.
    queues : sequence of str, length n
    highest : float
        The highest level that is forecast. The limit is the quantile of the run times at 0.995,
        or, where that is not well above `highest`, at a fifth of its share of longer jobs.
    least : int
        Ended jobs that a queue needs; others have no limit.

    Returns
    -------
    dict of str to float
        Queue to seconds.
    """
    names = np.asarray(queues, dtype=object)
    level = 1.0 - tolerated_share(highest)
    result = {}
    for queue in dict.fromkeys(names.tolist()):
        runs = run_s[names == queue]
        if len(runs) >= least:
            result[str(queue)] = float(np.quantile(runs, level))
    return result
