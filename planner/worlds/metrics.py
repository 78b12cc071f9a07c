"""What a replay was worth to whom: slowdown, waits, promises, deadlines, energy, fairness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.planner.worlds.replay import Replay, bounded_slowdown

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LATE_S = 60
"""A start that comes so many seconds after its promise is late."""

DEADLINE_TIERS: tuple[float, ...] = (2.0, 5.0, 20.0)
"""A job's deadline is its submission and so many times its requested time; the tier is drawn by
seed, and reveals no run time."""

IDLE_W, BUSY_W = 60.0, 120.0
"""Watts of a processor that is idle, and that it takes more when busy: a convention, so that
dispatchers can be compared."""

WEEK_S = 7 * 86400
DRAWS = 2000


def deadlines(
    submit_s: Ints, requested_s: Ints, seed: int = 0, tiers: Sequence[float] = DEADLINE_TIERS
) -> Ints:
    """``submit + tier x request``, the tier drawn by seed, seconds, shape (n,)."""
    drawn = np.random.default_rng(seed).choice(np.array(tiers), len(submit_s))
    return np.asarray(submit_s + np.ceil(drawn * requested_s), dtype=np.int64)


def judge(replayed: Replay, seed: int = 0) -> dict[str, Any]:
    """All figures of a replay, as JSON values.

    Parameters
    ----------
    replayed : Replay
    seed : int
        Of the deadlines.

    Returns
    -------
    dict
        Bounded slowdown (``bsld_*``), waits, promises (``late_share``: of the promised jobs;
        ``promise_error_mean_s``: mean of ``|start - promise|``), share of missed deadlines,
        ``utilisation`` (work over processors times span), ``energy_kwh``, ``fairness`` between
        users, ``by_size``, ``replans`` (scheduling passes), ``plan_churn`` (how often a job's
        planned start was put off by more than a minute, mean over jobs), and processor time
        of a decision.

    Notes
    -----
    Jain's index of the users' mean waits x: ``(sum x)^2 / (users sum x^2)``; 1 where nobody
    waits. The worst decile are the tenth of the users (one at least) who wait longest.

    References
    ----------
    Feitelson, Rudolph (1998), "Metrics and benchmarking for parallel job scheduling",
    doi:10.1007/BFb0053978; Jain, Chiu, Hawe (1984), DEC TR-301.
    """
    log = replayed.log
    slowdown = bounded_slowdown(replayed)
    wait = (replayed.start_s - log.submit_s).astype(np.float64)
    found = replayed.promise_s >= 0
    error = (replayed.start_s - replayed.promise_s)[found].astype(np.float64)
    missed = replayed.end_s > deadlines(log.submit_s, log.requested_s, seed)
    span = float(replayed.end_s.max() - log.submit_s.min())
    work = float((log.width * (log.run_s + replayed.lost_s)).sum())
    decision_ms = replayed.decision_us / 1000.0
    return {
        "jobs": len(log),
        **{f"bsld_{name}": value for name, value in _spread(slowdown).items()},
        "wait_mean_s": float(wait.mean()),
        "wait_p95_s": float(np.percentile(wait, 95)),
        "wait_max_s": float(wait.max()),
        "promised": int(found.sum()),
        "late_share": float(np.mean(error > LATE_S)) if found.any() else None,
        "promise_error_mean_s": float(np.abs(error).mean()) if found.any() else None,
        "misses": float(missed.mean()),
        "utilisation": work / (log.procs * span) if span > 0 else 0.0,
        "energy_kwh": (IDLE_W * log.procs * span + BUSY_W * work) / 3.6e6,
        "fairness": _fairness(wait, log.user),
        "by_size": _by_size(slowdown, wait, log.width),
        "replans": replayed.passes,
        "plan_churn": None if replayed.put_off is None else replayed.put_off / len(log),
        "corrections": replayed.corrections,
        "killed": replayed.killed,
        "decision_p50_ms": _percentile(decision_ms, 50),
        "decision_p99_ms": _percentile(decision_ms, 99),
    }


def weekly_interval(values: Floats, submit_s: Ints, seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean over jobs, by drawing whole weeks again.

    Parameters
    ----------
    values : array, shape (n,)
        Of each job; for a paired comparison the difference of two dispatchers.
    submit_s : array, shape (n,)
    seed : int

    Notes
    -----
    Jobs of one week share its congestion: drawing jobs would make the interval too narrow. Of
    a log shorter than ten weeks tenths are drawn.

    References
    ----------
    Efron, Tibshirani (1993), "An Introduction to the Bootstrap", chapter 8 (blocks).
    """
    since = submit_s - submit_s.min()
    length = min(WEEK_S, int(since.max()) // 10 + 1)
    return interval_over(values, since // length, seed)


def interval_over(values: Floats, blocks: Ints, seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean over all values, by drawing whole blocks again."""
    _, block = np.unique(blocks, return_inverse=True)
    sums, counts = np.bincount(block, values), np.bincount(block)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_interval(
    values: Floats, submit_s: Ints, blocks: Ints | None = None, seed: int = 0
) -> tuple[float, float]:
    """95% interval of the mean over repeated replays, drawing replays and whole weeks again.

    Parameters
    ----------
    values : array, shape (replays, n)
        Of each replay and job, such as the difference of two dispatchers.
    submit_s : array, shape (n,)
    blocks : array, shape (n,), optional
        Instead of weeks.
    seed : int
    """
    if blocks is None:
        since = submit_s - submit_s.min()
        blocks = since // min(WEEK_S, int(since.max()) // 10 + 1)
    _, block = np.unique(blocks, return_inverse=True)
    sums = np.array([np.bincount(block, row) for row in values])
    counts = np.bincount(block)
    rng = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        replays = rng.integers(0, len(sums), len(sums))
        weeks = rng.integers(0, len(counts), len(counts))
        means[draw] = sums[np.ix_(replays, weeks)].sum() / (len(sums) * counts[weeks].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _spread(values: Floats) -> dict[str, float]:
    shares = np.percentile(values, [50, 95, 99, 99.9]).tolist()
    return {
        "mean": float(values.mean()),
        **dict(zip(("p50", "p95", "p99", "p999"), shares, strict=True)),
        "max": float(values.max()),
    }


def _fairness(wait: Floats, user: Ints) -> dict[str, float]:
    names, place = np.unique(user, return_inverse=True)
    mean = np.bincount(place, wait) / np.bincount(place)
    worst = np.sort(mean)[::-1][: max(1, round(len(names) / 10))]
    square = float((mean**2).sum())
    return {
        "users": len(names),
        "worst_decile_wait_s": float(worst.mean()),
        "jain": float(mean.sum() ** 2 / (len(mean) * square)) if square > 0 else 1.0,
    }


def _by_size(slowdown: Floats, wait: Floats, width: Ints) -> list[dict[str, float]]:
    """By classes of width that double: up to 1, 2, 4, ... processors."""
    size = np.ceil(np.log2(np.maximum(width, 1))).astype(np.int64)
    return [
        {
            "procs_to": int(2**k),
            "jobs": int((size == k).sum()),
            "bsld_mean": float(slowdown[size == k].mean()),
            "bsld_max": float(slowdown[size == k].max()),
            "wait_mean_s": float(wait[size == k].mean()),
        }
        for k in np.unique(size).tolist()
    ]


def _percentile(values: Floats, share: float) -> float:
    return float(np.percentile(values, share)) if len(values) else 0.0
