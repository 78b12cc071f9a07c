"""Samples of run times from their quantiles, and of waits from them, along a replayed log.

A run time's distribution is given by log quantiles at levels: between them its logarithm is
linear in the logit of the level, beyond them it goes on as between the two nearest.
"""

from __future__ import annotations

import math

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.worlds.rollout_kernel import roll_under

FAR = 1 << 50


@inner
def _drawn(scores, logs, job, limit, age, z):
    """A run time above `age` and up to `limit`, seconds, by a standard normal `z`.

    ``Q(F(age) + u (1 - F(age)))`` with ``u = Phi(z)``.
    """
    n = scores.shape[0]
    u = min(max(0.5 * math.erfc(-z / math.sqrt(2.0)), 1e-9), 1.0 - 1e-9)
    if age > 0.0:
        x = math.log(max(age, 0.5))
        k = 0
        while k < n - 2 and x > logs[job, k + 1]:
            k += 1
        slope = max((logs[job, k + 1] - logs[job, k]) / (scores[k + 1] - scores[k]), 0.02)
        at = scores[k] + (x - logs[job, k]) / slope
        gone = 1.0 / (1.0 + math.exp(-min(max(at, -30.0), 30.0)))
        u = min(gone + u * (1.0 - gone), 1.0 - 1e-9)
    score = math.log(u / (1.0 - u))
    k = 0
    while k < n - 2 and score > scores[k + 1]:
        k += 1
    slope = (logs[job, k + 1] - logs[job, k]) / (scores[k + 1] - scores[k])
    value = math.exp(min(logs[job, k] + (score - scores[k]) * slope, 30.0))
    return min(max(value, age + 1.0, 1.0), float(limit))


@inner
def _draw(scores, logs, places, ages, limits, burst, shared, shock, drawn_at, out, samples):
    """Samples of whole run times of some jobs; jobs of one burst share a part of their luck."""
    for sample in range(samples):
        for k in range(places.shape[0]):
            job = places[k]
            b = burst[job]
            if drawn_at[b] != sample:
                drawn_at[b] = sample
                shock[b] = np.random.normal()
            z = math.sqrt(shared) * shock[b] + math.sqrt(1.0 - shared) * np.random.normal()
            out[sample, k] = _drawn(scores, logs, job, limits[k], ages[k], z)


@kernel
def sample_runs(scores, logs, ages, limits, burst, shared, samples, seed):
    """Sampled run times of jobs, seconds, shape (samples, jobs); each above the job's age.

    Parameters
    ----------
    scores : array, shape (levels,)
        Logits of the levels.
    logs : array, shape (jobs, levels)
        Log quantiles, non-decreasing.
    ages, limits : array, shape (jobs,)
        Seconds; 0 for a job that has not started.
    burst : array of int64, shape (jobs,)
        Jobs of one number share a part of their luck ...
    shared : float
        ... which is this share of the variance of a standard normal.
    samples, seed : int
    """
    np.random.seed(seed)
    jobs = logs.shape[0]
    out = np.empty((samples, jobs))
    bursts = burst.max() + 1 if jobs > 0 else 1
    _draw(scores, logs, np.arange(jobs), ages, limits, burst, shared, np.zeros(bursts),
          np.full(bursts, -1), out, samples)  # fmt: skip
    return out


@inner
def _quantiles(values, levels, found):
    """Fill `found` with quantiles, linear between two values; ``np.quantile`` compiles for 4 s."""
    by_value = np.argsort(values, kind="mergesort")
    for k in range(levels.shape[0]):
        rank = 1 + (values.shape[0] - 1) * levels[k]
        below = math.floor(rank)
        part = rank - below
        above = by_value[min(below, values.shape[0] - 1)]
        found[k] = values[by_value[below - 1]] * (1 - part) + values[above] * part


@kernel
def waits_along(
    rule, moments, targets, submit, start, end, width, limit, run, procs, scores, logs, burst,
    shared, samples, seed, levels, quantiles, by_limits, by_truth,
):  # fmt: skip
    """Forecast waits along a log: at each moment the queue as it then was is rolled forward.

    Parameters
    ----------
    rule : int
        As of ``roll_under``.
    moments, targets : array, shape (forecasts,)
        When, in rising order, and for which waiting job.
    submit, start, end, width, limit, run : array of int64, shape (n,)
        A replayed log in order of submission; what starts or ends after a moment is not used
        for the forecast, but for `by_truth`.
    procs : int
    scores, logs, burst, shared, samples, seed
        As of ``sample_runs``, for all jobs of the log.
    levels : array
    quantiles : array, shape (forecasts, levels)
        Where quantiles of the remaining wait are written, seconds.
    by_limits, by_truth : array, shape (forecasts,)
        Where the same roll-forward is written with limits, and with true run times.
    """
    np.random.seed(seed)
    n = submit.shape[0]
    by_start = np.argsort(start, kind="mergesort")
    waiting, running = np.empty(n, np.int64), np.empty(n, np.int64)
    waits, runs, arrived, started = 0, 0, 0, 0
    shock, drawn_at = np.zeros(burst.max() + 1), np.full(burst.max() + 1, -1)
    for k in range(moments.shape[0]):
        now, target = moments[k], targets[k]
        while arrived < n and submit[arrived] <= now:
            waiting[waits] = arrived
            waits += 1
            arrived += 1
        while started < n and start[by_start[started]] <= now:
            running[runs] = by_start[started]
            runs += 1
            started += 1
        kept = 0
        for i in range(waits):
            if start[waiting[i]] > now:
                waiting[kept] = waiting[i]
                kept += 1
        waits, kept = kept, 0
        free = procs
        for i in range(runs):
            if end[running[i]] > now:
                running[kept] = running[i]
                kept += 1
                free -= width[running[i]]
        runs = kept
        total = runs + waits
        places = np.empty(total, np.int64)
        copy_into(places[:runs], running[:runs])
        copy_into(places[runs:], waiting[:waits])
        only = 0
        for i in range(waits):
            if waiting[i] == target:
                only = i
        demand = np.empty((total, 1), np.int64)
        ages, limits, bounds = np.zeros(total), np.empty(total, np.int64), np.empty(total)
        for i in range(total):
            job = places[i]
            demand[i, 0] = width[job]
            ages[i] = float(now - start[job]) if i < runs else 0.0
            bounds[i] = float(limit[job])
            limits[i] = max(limit[job] - (now - start[job]), 1) if i < runs else limit[job]
        drawn = np.empty((samples, total))
        drawn_at[:] = -1
        _draw(scores, logs, places, ages, bounds, burst, shared, shock, drawn_at, drawn, samples)
        left, wanted = np.empty((samples, runs), np.int64), np.empty((samples, waits), np.int64)
        for sample in range(samples):
            for i in range(total):
                whole = drawn[sample, i] - ages[i]
                value = min(max(np.int64(math.ceil(whole)), 1), limits[i])
                if i < runs:
                    left[sample, i] = value
                else:
                    wanted[sample, i - runs] = value
        there = np.full(1, free)
        starts = np.empty((samples, waits), np.int64)
        roll_under(rule, there, demand, runs, left, limits, wanted, only, starts)
        _quantiles(starts[:, only].copy(), levels, quantiles[k])
        point = np.empty((1, waits), np.int64)
        roll_under(rule, there, demand, runs, limits[:runs].copy().reshape(1, runs), limits,
                  limits[runs:].copy().reshape(1, waits), only, point)  # fmt: skip
        by_limits[k] = point[0, only]
        for i in range(total):
            job = places[i]
            value = max(end[job] - now, 1) if i < runs else max(run[job], 1)
            if i < runs:
                left[0, i] = min(value, limits[i])
            else:
                wanted[0, i - runs] = min(value, limits[i])
        roll_under(rule, there, demand, runs, left[:1].copy(), limits, wanted[:1].copy(), only,
                   point)  # fmt: skip
        by_truth[k] = point[0, only]
