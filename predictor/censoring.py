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


def kill_grace_s(run_s: Floats, requested_s: Floats, tolerated: float = 0.005) -> float:
    """How long after its requested time a log lets a job run, learned from ended jobs.

    Parameters
    ----------
    run_s, requested_s : array, shape (n,)
        Seconds; requests that are not positive numbers are unknown.
    tolerated : float
        Share of jobs that may run longer all the same.

    Returns
    -------
    float
        0, 60 (a job is killed at its limit within a minute), or infinity: jobs are not killed
        at their requested time, or no request is known.
    """
    known = requested_s > 0
    if not known.any():
        return np.inf
    over = run_s[known] - requested_s[known]
    for grace in (0.0, 60.0):
        if np.mean(over > grace) <= tolerated:
            return grace
    return np.inf


def queue_limits(
    run_s: Floats, queues: Sequence[str], least: int = 200, level: float = 0.995
) -> dict[str, float]:
    """What stands in for an unknown kill limit: a run time that hardly any job of a queue passes.

    Parameters
    ----------
    run_s : array, shape (n,)
        Run times of ended jobs, seconds.
    queues : sequence of str, length n
    least : int
        Ended jobs that a queue needs; others have no limit.
    level : float
        Quantile of the run times; above every level that is forecast.

    Returns
    -------
    dict of str to float
        Queue to seconds.
    """
    names = np.asarray(queues, dtype=object)
    result = {}
    for queue in dict.fromkeys(names.tolist()):
        runs = run_s[names == queue]
        if len(runs) >= least:
            result[str(queue)] = float(np.quantile(runs, level))
    return result
