"""Forecasts of a replay, recorded; jitters and transforms of the record, replayed in its place.

A forecast is made once for each log and dispatcher. Replays of the record with every forecast
moved by a percent show how much of a result is chance, and transforms of it what a dispatcher
does when it is given nonsense.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plancast.planner.worlds.replay import Estimator, Renewing, ReplayLog, Watching

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

JITTER = 0.01
"""Log error by which every forecast is moved in a replay over jitters."""

TRANSFORMS = ("permuted", "inverted", "hour", "reversed")
"""What a record may be turned into, see ``transformed``."""

HOUR_S = 3600.0


@dataclass(frozen=True)
class Record:
    """Every forecast of a replay.

    Parameters
    ----------
    levels : tuple of float
    submitted_s : array, shape (n, levels)
        Quantiles of each job at its submission, seconds.
    renewed_at_s : array of int, shape (k,)
        When waiting jobs' forecasts were renewed, non-decreasing.
    renewed_job : array of int, shape (k,)
    renewed_s : array, shape (k, levels)
    """

    levels: tuple[float, ...]
    submitted_s: Floats
    renewed_at_s: Ints
    renewed_job: Ints
    renewed_s: Floats

    @classmethod
    def nothing(cls) -> Record:
        """Of estimates that no estimator makes."""
        never = np.empty(0, np.int64)
        return cls((0.5,), np.empty((0, 1)), never, never, np.empty((0, 1)))


class Recorder:
    """An estimator that keeps what another one forecasts.

    Parameters
    ----------
    estimator : Estimator
    jobs : int
        Of the replay.
    """

    def __init__(self, estimator: Estimator, jobs: int) -> None:
        self.levels = estimator.levels
        self._estimator = estimator
        self._submitted = np.ones((jobs, len(self.levels)))
        self._renewed: list[tuple[int, int, Floats]] = []

    def at_submit(self, job: int, now_s: int) -> Floats:
        """The other's forecast."""
        self._submitted[job] = self._estimator.at_submit(job, now_s)
        return self._submitted[job].copy()

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """Tell the other."""
        self._estimator.finished(job, run_s, now_s)

    def watch(self, running: Ints, start_s: Ints) -> None:
        """Tell the other, where it watches."""
        if isinstance(self._estimator, Watching):
            self._estimator.watch(running, start_s)

    def renewed(self, waiting: Ints, now_s: int) -> Iterator[tuple[int, Floats]]:
        """The other's new forecasts, where it renews them."""
        if isinstance(self._estimator, Renewing):
            for job, quantiles in self._estimator.renewed(waiting, now_s):
                self._renewed.append((now_s, job, np.array(quantiles, np.float64)))
                yield job, quantiles

    def record(self) -> Record:
        """What was forecast so far."""
        rows = np.array([row for _, _, row in self._renewed], np.float64)
        return Record(
            tuple(self.levels),
            self._submitted.copy(),
            np.array([at for at, _, _ in self._renewed], np.int64),
            np.array([job for _, job, _ in self._renewed], np.int64),
            rows.reshape(-1, len(self.levels)),
        )


class Playback:
    """An estimator that forecasts what was recorded, at the moments at which it was.

    Parameters
    ----------
    record : Record
    """

    def __init__(self, record: Record) -> None:
        self.levels = record.levels
        self._record = record
        self._next = 0
        self._due: dict[int, int] = {}

    def at_submit(self, job: int, now_s: int) -> Floats:
        """The recorded forecast."""
        return self._record.submitted_s[job]

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """Nothing is learned: the record stands."""

    def renewed(self, waiting: Ints, now_s: int) -> Iterable[tuple[int, Floats]]:
        """The latest forecasts that had been renewed by now, of jobs that wait."""
        record = self._record
        while self._next < len(record.renewed_at_s) and record.renewed_at_s[self._next] <= now_s:
            self._due[int(record.renewed_job[self._next])] = self._next
            self._next += 1
        for job in waiting.tolist() if self._due else ():
            place = self._due.pop(job, None)
            if place is not None:
                yield job, record.renewed_s[place]


def jittered(record: Record, log: ReplayLog, seed: int, sigma: float = JITTER) -> Record:
    """A record with one log-normal factor for each job on all of its levels, renewals too.

    Parameters
    ----------
    record : Record
    log : ReplayLog
        No quantile exceeds a job's requested time.
    seed : int
    sigma : float
        Log error.
    """
    factor = np.exp(sigma * np.random.default_rng(seed).standard_normal(len(log)))

    def moved(quantiles_s: Floats, job: Ints) -> Floats:
        limit = np.maximum(log.requested_s[job], 1).astype(np.float64)
        return np.asarray(np.minimum(quantiles_s * factor[job, None], limit[:, None]))

    return replace(
        record,
        submitted_s=moved(record.submitted_s, np.arange(len(log))),
        renewed_s=moved(record.renewed_s, record.renewed_job),
    )


def tied_factor(seconds: int, seed: int, sigma: float = JITTER) -> float:
    """The log-normal factor of a point forecast: equal forecasts keep their tie."""
    return math.exp(sigma * np.random.default_rng([seed, seconds]).standard_normal())


def jittered_points(
    estimate_s: Ints, limit_s: Ints | None, seed: int, sigma: float = JITTER
) -> Ints:
    """Point forecasts with one log-normal factor for each distinct value, shape (n,).

    Parameters
    ----------
    estimate_s : array of int, shape (n,)
        Seconds.
    limit_s : array of int, shape (n,), optional
        What no forecast may exceed.
    seed : int
    sigma : float
    """
    distinct, place = np.unique(estimate_s, return_inverse=True)
    moved = [s * tied_factor(s, seed, sigma) for s in distinct.tolist()]
    points = np.rint(np.array(moved))[place].astype(np.int64)
    return np.maximum(points if limit_s is None else np.minimum(points, limit_s), 1)


class LastTwo:
    """The mean of the user's last two run times as an estimator, each value moved by a factor.

    Parameters
    ----------
    log : ReplayLog
    seed : int
    sigma : float
        With 0 it is what a replay calls ``last_two``.
    """

    levels: tuple[float, ...] = (0.5,)

    def __init__(self, log: ReplayLog, seed: int, sigma: float = JITTER) -> None:
        self._log, self._seed, self._sigma = log, seed, sigma
        self._last: dict[int, tuple[int, int]] = {}

    def at_submit(self, job: int, now_s: int) -> Floats:
        """The mean, floored, at most the request; the request of a user of fewer than two."""
        older, newer = self._last.get(int(self._log.user[job]), (-1, -1))
        request = int(self._log.requested_s[job])
        point = request if older < 0 else min(max((older + newer) // 2, 1), request)
        factor = tied_factor(point, self._seed, self._sigma) if self._sigma else 1.0
        return np.array([min(round(point * factor), request)], np.float64)

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """Remember a run time."""
        user = int(self._log.user[job])
        self._last[user] = (self._last.get(user, (-1, -1))[1], run_s)


def transformed(record: Record, log: ReplayLog, how: str) -> Record:
    """A record turned into nonsense of a kind, to see what a dispatcher then does.

    Parameters
    ----------
    record : Record
    log : ReplayLog
    how : str
        ``permuted``: each job gets another one's forecast; ``inverted``: request^2 / forecast;
        ``hour``: one hour for all; ``reversed``: the run time of the job that is as long among
        the shortest as this one is among the longest, and the other way round.
    """
    n, size = len(log), len(record.levels)
    never = np.empty(0, np.int64)
    alone = replace(record, renewed_at_s=never, renewed_job=never, renewed_s=np.empty((0, size)))
    if how == "permuted":
        order = np.random.default_rng(0).permutation(n)
        return replace(alone, submitted_s=record.submitted_s[order])
    if how == "inverted":

        def inverted(quantiles_s: Floats, job: Ints) -> Floats:
            request = log.requested_s[job].astype(np.float64)[:, None]
            return np.asarray(np.maximum(request**2 / np.maximum(quantiles_s, 1.0), 1.0)[:, ::-1])

        return replace(
            record,
            submitted_s=inverted(record.submitted_s, np.arange(n)),
            renewed_s=inverted(record.renewed_s, record.renewed_job),
        )
    if how == "hour":
        return replace(alone, submitted_s=np.full((n, size), HOUR_S))
    if how == "reversed":
        order = np.argsort(log.run_s, kind="stable")
        run = np.empty(n)
        run[order] = np.maximum(log.run_s[order[::-1]], 1)
        return replace(alone, submitted_s=np.repeat(run[:, None], size, axis=1))
    raise ValueError(f"transform {how!r} is none of {', '.join(TRANSFORMS)}")
