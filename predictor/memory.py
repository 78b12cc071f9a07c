"""How much memory to request: a promised risk of failures, spent where it frees most.

A task that is given less than it needs dies and is submitted again with its request. For each
task the amount is chosen, at its submission, from the quantiles that are forecast for its peak;
the promise is that of all tasks for which their request was enough no more than a share fails.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.distribution import tail_scores
from plancast.predictor.splits import known_at_s

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS: tuple[float, ...] = (0.02, 0.1, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Levels of the forecasts that an amount is chosen from."""

TYPE: tuple[str, ...] = ("user", "group", "app")
"""What tasks of one type have in common."""


@dataclass(frozen=True)
class MemorySettings:
    """How amounts are chosen.

    Parameters
    ----------
    price : float
        Price of a failure, in mean excess (memory x time) of a task at its request.
    spent : float
        Share of the promised risk that is spent: failures come many at once, as tasks of a
        workflow that nothing was known of.
    window : int
        Latest peaks of a type that are its own sample.
    prior : float
        Tasks of a type at which its own sample weighs as much as the forecast.
    tail : float
        How fast the chance of a new largest peak falls beyond the largest peak of the type:
        with the power of how many times that the amount is.
    crowd : float
        Failures that may be owed at once are the square root of the risk times so many tasks.
    round_mib : float
        Amounts are multiples of so much.
    """

    price: float = 100.0
    spent: float = 0.5
    window: int = 100
    prior: float = 5.0
    tail: float = 6.0
    crowd: float = 500.0
    round_mib: float = 16.0


@dataclass(frozen=True)
class MemoryAdvice:
    """Amounts of the jobs of a log, each from what had ended before its submission.

    Parameters
    ----------
    amount_mib : array, shape (n,)
        The request where no other amount is worth its risk; NaN where there is none.
    chance : array, shape (n,)
        Forecast chance that the task dies of it; 0 where it is the request.
    """

    amount_mib: Floats
    chance: Floats


class TaskTypes:
    """Numbers of the types of a log's tasks, and what has ended of each as time goes on.

    Parameters
    ----------
    jobs : DataFrame
        Canonical, in order of submission.
    """

    def __init__(self, jobs: pd.DataFrame) -> None:
        self.of: Ints = jobs.groupby(list(TYPE), sort=False).ngroup().to_numpy(np.int64)
        self.submit, self.run, self.peak, self.request = (
            jobs[name].to_numpy(np.float64)
            for name in ("submit_s", "run_s", "mem_peak_mib", "mem_mib")
        )
        self.learnable = (self.peak > 0) & (self.run > 0)
        known = known_at_s(jobs)
        order = np.argsort(known, kind="stable")
        self._order = order[self.learnable[order] & np.isfinite(known[order])]
        self._known = known[self._order]
        self._at = 0

    def ended_by(self, moment_s: float) -> Ints:
        """The tasks that have ended since the last call, up to a moment, in order."""
        first = self._at
        self._at = int(np.searchsorted(self._known, moment_s, "right"))
        return self._order[first : self._at]


def advise_memory(
    jobs: pd.DataFrame,
    quantiles_mib: Floats,
    levels: tuple[float, ...],
    risk: float,
    settings: MemorySettings | None = None,
    free: NDArray[np.bool_] | None = None,
) -> MemoryAdvice:
    """Advise an amount of memory for every job of a log.

    Parameters
    ----------
    jobs : DataFrame
        Canonical, in order of submission.
    quantiles_mib : array, shape (n, levels)
        Forecasts of each job's peak at its submission; NaN where there is none.
    levels : tuple of float
    risk : float
        Share of the tasks that may fail, in (0, 0.5].
    settings : MemorySettings, optional
    free : array of bool, shape (n,), optional
        Rows that only ask what a next task would get: they take nothing from the allowance.

    Notes
    -----
    An amount ``a`` of a task with peak M and the type's mean run time R costs
    ``R (E[(a - M)+] + P(M > a) (a + request - E[M])) + price x P(M > a)``; the least costly
    among quantiles, the type's largest peak and multiples of both whose chance the allowance
    has is taken, where it costs less than the request. Chances and means are those of the
    forecast and of the type's n latest peaks, mixed as prior to n; of those,
    ``(peaks above a + (largest / a)^tail) / (n + 1)``.
    Chances are multiplied by how many times more tasks failed than was forecast. Each
    submission adds the risk to an allowance, and each amount takes its chance until the task
    has ended; a failure takes one.
    """
    rules = settings or MemorySettings()
    types = TaskTypes(jobs)
    kinds = int(types.of.max(initial=0)) + 1
    peaks, seconds = [deque[float](maxlen=rules.window) for _ in range(kinds)], np.zeros((kinds, 2))
    logs = np.log(np.maximum(np.maximum.accumulate(quantiles_mib, axis=1), 1.0))
    choice = _Choice(levels, rules)
    amount, chance, held = types.request.copy(), np.zeros(len(jobs)), np.zeros(len(jobs))
    risk = risk * rules.spent
    most = max(1.0, float(np.sqrt(risk * rules.crowd)))
    allowance, failed, forecast = 0.0, 2.0, 2.0
    for job in range(len(jobs)):
        for other in types.ended_by(types.submit[job]):
            kind = types.of[other]
            peaks[kind].append(float(types.peak[other]))
            seconds[kind] += types.run[other], 1
            if held[other] > 0:
                fell = float(types.peak[other] > amount[other])
                allowance += held[other] - fell
                failed, forecast = failed + fell, forecast + chance[other]
        allowance = min(most, allowance + risk)
        kind, request = types.of[job], types.request[job]
        if not (request > 0 and peaks[kind] and np.isfinite(logs[job, 0])):
            continue
        asks = free is not None and bool(free[job])
        optimism = max(failed / forecast, 1.0)
        found, over = choice.of(
            logs[job],
            float(request),
            np.array(peaks[kind]),
            float(seconds[kind, 0] / seconds[kind, 1]),
            optimism,
            most if asks else allowance,
        )
        if over > 0:
            amount[job], chance[job], held[job] = found, over, optimism * over
            allowance -= 0.0 if asks else held[job]
    return MemoryAdvice(amount, chance)


_TIMES = np.array([1.0, 1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0])


class _Choice:
    """The least costly amount of one task; see ``advise_memory``."""

    def __init__(self, levels: tuple[float, ...], rules: MemorySettings) -> None:
        self.rules = rules
        self.scores = tail_scores(levels)
        self.mass = np.diff([0.0, *levels, 1.0])
        self.upper = int(np.searchsorted(levels, 0.5))
        self.steep = int(np.searchsorted(levels, 0.95))
        self.excess, self.tasks = 0.0, 0

    def of(
        self,
        logs: Floats,
        request: float,
        peaks: Floats,
        run_s: float,
        optimism: float,
        allowance: float,
    ) -> tuple[float, float]:
        """The amount and its chance; the request and 0 where nothing costs less."""
        step, largest, count = self.rules.round_mib, float(peaks.max()), len(peaks)
        tried = np.concatenate(
            [np.outer(np.exp(logs[self.upper :]), _TIMES).ravel(), largest * _TIMES]
        )
        tried = np.ceil(tried / step) * step
        slope = (logs[-1] - logs[self.steep]) / (self.scores[-1] - self.scores[self.steep])
        slope = max(float(slope), 0.02)
        middle = np.exp(
            np.concatenate([logs[:1], (logs[1:] + logs[:-1]) / 2, [logs[-1] + slope / 2]])
        )
        own = count / (count + self.rules.prior)
        values = np.concatenate([middle, peaks])
        weights = np.concatenate([(1.0 - own) * self.mass, np.full(count, own / count)])
        excess = float(np.maximum(request - values, 0.0) @ weights) * run_s
        self.excess, self.tasks = self.excess + excess, self.tasks + 1
        tried = tried[tried < request]
        if not len(tried):
            return request, 0.0
        x = np.log(tried)
        score = np.interp(x, logs + np.arange(len(logs)) * 1e-9, self.scores)
        beyond = x > logs[-1]
        score = np.where(beyond, self.scores[-1] + (x - logs[-1]) / slope, score)
        above = (peaks > tried[:, None]).sum(axis=1)
        ranks = (above + (largest / np.maximum(tried, largest)) ** self.rules.tail) / (count + 1.0)
        over = (1.0 - own) / (1.0 + np.exp(np.minimum(score, 500.0))) + own * ranks
        left = np.maximum(tried[:, None] - values, 0.0) @ weights
        again = tried + request - values @ weights
        price = self.rules.price * self.excess / self.tasks
        cost = run_s * (left + over * again) + price * optimism * over
        cost = np.where(optimism * over <= allowance, cost, np.inf)
        best = int(np.argmin(cost))
        if cost[best] >= excess:
            return request, 0.0
        return float(tried[best]), float(over[best])


@dataclass(frozen=True)
class MemoryWaste:
    """What amounts waste on tasks for which their request was enough.

    Parameters
    ----------
    waste_gib_h : float
        ``sum over attempts of amount x run time - peak x run time``, GiB-hours; a failed attempt
        lasts the full run.
    waste_half_gib_h : float
        The same where a failed attempt lasts half of it.
    failures : float
        Share of these tasks that fail.
    """

    waste_gib_h: float
    waste_half_gib_h: float
    failures: float


def judged(jobs: pd.DataFrame) -> NDArray[np.bool_]:
    """Tasks by which amounts are judged: their request was enough, shape (n,)."""
    peak, request, run = (
        jobs[name].to_numpy(np.float64) for name in ("mem_peak_mib", "mem_mib", "run_s")
    )
    ended = jobs["outcome"].isin(("completed", "unknown")).to_numpy()
    return np.asarray((run > 0) & (peak > 0) & (peak <= request) & ended, dtype=bool)


def waste_of(jobs: pd.DataFrame, amount_mib: Floats, rows: NDArray[np.bool_]) -> MemoryWaste:
    """What amounts waste, each retried once with the request.

    Parameters
    ----------
    jobs : DataFrame
        Canonical.
    amount_mib : array, shape (n,)
        Never above the request.
    rows : array of bool, shape (n,)
        Of ``judged``; the tasks that count.
    """
    peak, request, run = (
        jobs[name].to_numpy(np.float64)[rows] for name in ("mem_peak_mib", "mem_mib", "run_s")
    )
    amount = amount_mib[rows]
    failed = peak > amount
    hours = run / 3600.0 / 1024.0
    kept = (np.where(failed, request, amount) - peak) * hours
    lost = np.where(failed, amount, 0.0) * hours
    return MemoryWaste(
        float((kept + lost).sum()),
        float((kept + 0.5 * lost).sum()),
        float(failed.mean()) if len(failed) else 0.0,
    )
