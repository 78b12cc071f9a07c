"""The run-time model on the clock of a replay: it learns from what has ended there."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.forecaster import REFIT_S, OnlineForecaster, Past, seconds_of
from plancast.predictor.quantile import check_levels
from plancast.predictor.rows import clean_row
from plancast.predictor.schema import canonical
from plancast.predictor.splits import known_at_s
from plancast.predictor.state.experts import owner_of
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import HISTORY_NAMES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = (0.02, 0.1, 0.3, 0.5, 0.8, 0.95)
"""Denser below the median than a model's own: the shortest runs make the price of waiting."""

ROWS = 20_000
"""Latest ended jobs that train: half of what a walk takes, since a replay is made many times."""

_UNTIL_ENDED = {"start_s": math.nan, "end_s": math.nan, "run_s": math.nan, "outcome": "unknown"}


class ReplayForecaster:
    """Forecasts each job of a replayed log from what has ended in the replay.

    Parameters
    ----------
    jobs : DataFrame
        Canonical, the jobs of the replay in its order.
    levels : sequence of float
        Quantile levels.
    refit_s : float
        Longest time between refits, seconds.
    rows : int
        Latest ended jobs that train.
    seed : int
    trees : mapping, optional
        Further parameters of the trees.

    Notes
    -----
    An ``Estimator`` of the planner, and a loop over the forecaster that production and the walk
    use. Of a job's run time, end and outcome it learns when it hears that the job has ended,
    and not from `jobs`. Before the first fit the request is forecast.

    A waiting job's forecast is renewed when 1, 2, 4, 8, ... of its owner's jobs have ended since
    it was made: of a burst of jobs that crash, the first tells of the others. The calibration
    learns from forecasts at submission alone.
    """

    def __init__(
        self,
        jobs: pd.DataFrame,
        levels: Sequence[float] = LEVELS,
        *,
        refit_s: float = REFIT_S,
        rows: int = ROWS,
        seed: int = 0,
        trees: Mapping[str, Any] | None = None,
    ) -> None:
        self.levels = check_levels(levels)
        frame = canonical(jobs)
        # A category's code is its place of first appearance: nothing later can change it.
        self._forecaster = OnlineForecaster(
            self.levels,
            FeatureBuilder().fit(frame),
            refit_s=refit_s,
            rows=rows,
            seed=seed,
            trees=trees,
            remain=False,
        )
        builder = self._forecaster.builder
        self._history = builder.new_history()
        self._outcomes = frame["outcome"].tolist()
        self._logged = list(zip(known_at_s(frame).tolist(), frame["run_s"].tolist(), strict=True))
        self._running: list[tuple[float, int, int]] = []
        self._first = 0
        # The truth stays out of what is looked at.
        self._jobs = [clean_row({**record, **_UNTIL_ENDED}) for record in frame.to_dict("records")]
        self._matrix = np.full((len(frame), len(builder.names)), np.nan, np.float32)
        self._requested = frame["requested_s"].to_numpy(np.float64, copy=True)
        self._largest: dict[str, float] = {}
        self._run = np.full(len(frame), np.nan)
        self._ended: list[int] = []
        self._numbers: dict[int, int] = {}
        self._watched: tuple[Ints, Ints] = (np.empty(0, np.int64), np.empty(0, np.int64))
        owners = [owner_of(r["user"], r["queue"]) for r in self._jobs]
        self._owner = pd.factorize(np.array(owners, dtype=object))[0]
        self._owner_ended = np.zeros(int(self._owner.max(initial=-1)) + 1, np.int64)
        self._renew_at = np.zeros(len(frame), np.int64)
        self._asked_at = np.zeros(len(frame), np.int64)
        self._activity = [builder.names.index(name) for name in HISTORY_NAMES[-2:]]

    @property
    def refits(self) -> list[tuple[float, int, str]]:
        """When a refit was made, on how many rows, and why."""
        return self._forecaster.refits

    def watch(self, running: Ints, start_s: Ints) -> None:
        """Learn which jobs run now, and since when: at a refit they are censored."""
        self._watched = running + self._first, start_s

    def at_submit(self, job: int, now_s: int) -> Floats:
        """Quantiles of a job that is submitted now, seconds, at least 1, shape (levels,)."""
        job += self._first
        while self._running and self._running[0][0] <= now_s:
            end, other, run = heapq.heappop(self._running)
            self._hear(other, run, int(end))
        now = float(now_s)
        self._refit_if_due(now)
        record, requested = self._jobs[job], self._requested[job]
        asked = self._forecaster.question(record, self._history, now)
        self._matrix[job] = asked.matrix[0]
        if not self.refits:
            forecast = np.full(len(self.levels), self._unlearned(requested, record["queue"]))
        else:
            issued = self._forecaster.issue(asked)
            forecast = _bounded(issued.logs)
            self._numbers[job] = self._forecaster.submitted(issued)
        self._asked_at[job] = self._owner_ended[self._owner[job]]
        self._renew_at[job] = self._asked_at[job] + 1
        if requested > 0:
            for name in (record["queue"], ""):
                self._largest[name] = max(self._largest.get(name, 0.0), float(requested))
        self._history.see(record)
        return forecast

    def renewed(self, waiting: Ints, now_s: int) -> Iterator[tuple[int, Floats]]:
        """Forecasts of waiting jobs by what has ended since theirs were made."""
        if not self.refits:
            return
        jobs = waiting + self._first
        ended = self._owner_ended[self._owner[jobs]]
        for job in jobs[ended >= self._renew_at[jobs]].tolist():
            since = self._owner_ended[self._owner[job]] - self._asked_at[job]
            self._renew_at[job] = self._asked_at[job] + 2 * since
            asked = self._forecaster.question(self._jobs[job], self._history, float(now_s))
            # Trees learned what was active, and since when nothing came, at submissions.
            matrix = asked.matrix.copy()
            matrix[0, self._activity] = self._matrix[job, self._activity]
            renewed = self._forecaster.issue(replace(asked, matrix=matrix))
            yield job - self._first, _bounded(renewed.logs)

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """Learn that a job has ended now, after running for `run_s`."""
        self._hear(job + self._first, run_s, now_s)

    def live_through(self, before: int) -> None:
        """Learn from the first `before` jobs on the log's own clock, as production has.

        Those that have not ended by the last of their submissions are heard of when they end.
        """
        for job in range(before):
            self.at_submit(job, int(self._jobs[job]["submit_s"]))
            end, run = self._logged[job]
            if run > 0 and end < math.inf:
                heapq.heappush(self._running, (end, job, math.ceil(run)))
        self._first = before

    # -- inner workings ----------------------------------------------------------------

    def _hear(self, job: int, run_s: int, now_s: int) -> None:
        record = self._jobs[job]
        self._history.see(
            {
                **record,
                "start_s": float(now_s - run_s),
                "end_s": float(now_s),
                "run_s": float(run_s),
                "outcome": self._outcomes[job],
            }
        )
        self._run[job] = run_s
        self._owner_ended[self._owner[job]] += 1
        if run_s > 0:
            self._ended.append(job)
        number = self._numbers.pop(job, None)
        if number is not None:
            self._forecaster.ended(number, run_s)

    def _unlearned(self, requested_s: float, queue: str) -> float:
        """The request; an unknown one is the largest seen so far in the queue, else overall."""
        if requested_s > 0:
            return requested_s
        return self._largest.get(queue, self._largest.get("", 3600.0))

    def _refit_if_due(self, now: float) -> None:
        why = self._forecaster.schedule.due(now, len(self._ended))
        if not why:
            return
        past = np.sort(np.array(self._ended, np.int64))[-self._forecaster.rows :]
        # Before the replay begins, what runs on the log's own clock.
        logged = [(job, end - run) for end, job, run in self._running if end - run <= now]
        running = np.concatenate([self._watched[0], [job for job, _ in logged]])
        start = np.concatenate([self._watched[1], [at for _, at in logged]])
        old = running >= past[0]
        queues = [self._jobs[j]["queue"] for j in past.tolist()]
        learned = Past(
            self._matrix[past], self._requested[past], self._run[past], queues, now - start[old]
        )
        self._forecaster.refit(learned, now, len(self._ended), why)


def _bounded(logs: Floats) -> Floats:
    """Seconds, where no quantile is promised a very large number."""
    return seconds_of(np.minimum(logs, 30.0))
