"""The run-time model on the clock of a replay: it learns from what has ended there."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.censoring import kill_grace_s, queue_limits, tolerated_share
from plancast.predictor.quantile import check_levels
from plancast.predictor.schema import canonical
from plancast.predictor.splits import known_at_s
from plancast.predictor.state.experts import (
    COHORTS,
    EXPERTS,
    LADDERS,
    Experts,
    cohorts_of,
    limit_log,
    owner_of,
    same_of,
)
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import HISTORY_NAMES, History
from plancast.predictor.state.online import OnlineCorrection, Slip
from plancast.predictor.walk import DAY_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = (0.02, 0.1, 0.3, 0.5, 0.8, 0.95)
"""Denser below the median than a model's own: the shortest runs make the price of waiting."""

FIRST_ROWS = 300
"""Ended jobs before the first fit; until then the requested time is forecast."""

ROWS = 20_000
"""Latest ended jobs that train: half of what a walk takes, since a replay is made many times."""

GROWTH = 1.25
"""A refit comes when so many times the jobs of the last one have ended, or on schedule."""

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
    An ``Estimator`` of the planner. Of a job's run time, end and outcome it learns when it is
    told that the job has ended, and not from `jobs`; starts it is never told.

    A waiting job's forecast is renewed when 1, 2, 4, 8, ... of its owner's jobs have ended since
    it was made: of a burst of jobs that crash, the first tells of the others. The calibration
    learns from forecasts at submission alone.
    """

    def __init__(
        self,
        jobs: pd.DataFrame,
        levels: Sequence[float] = LEVELS,
        *,
        refit_s: float = 30 * DAY_S,
        rows: int = ROWS,
        seed: int = 0,
        trees: Mapping[str, Any] | None = None,
    ) -> None:
        self.levels = check_levels(levels)
        self.refit_s, self.rows, self.seed, self.trees = refit_s, rows, seed, trees
        frame = canonical(jobs)
        # A category's code is its place of first appearance: nothing later can change it.
        self._builder = FeatureBuilder().fit(frame)
        self._outcomes = frame["outcome"].tolist()
        self._logged = list(zip(known_at_s(frame).tolist(), frame["run_s"].tolist(), strict=True))
        self._running: list[tuple[float, int, int]] = []
        self._first = 0
        # The truth stays out of what is looked at.
        self._jobs = [{**record, **_UNTIL_ENDED} for record in frame.to_dict("records")]
        self._history = History(self._builder.window, self._builder.decay)
        self._experts = Experts(self.levels, seed, trees)
        self._correction = OnlineCorrection(self.levels, len(EXPERTS), COHORTS)
        self._matrix = np.full((len(frame), len(self._builder.names)), np.nan, np.float32)
        self._requested = frame["requested_s"].to_numpy(np.float64, copy=True)
        self._largest: dict[str, float] = {}
        self._run = np.full(len(frame), np.nan)
        self._ended: list[int] = []
        self._numbers: dict[int, int] = {}
        self._grace_s, self._limits_s = math.inf, dict[str, float]()
        self._fitted_at, self._fitted_rows = -math.inf, 0
        self._cold_at = self._builder.names.index("user_count")
        owners = [owner_of(r["user"], r["queue"]) for r in self._jobs]
        self._owner = pd.factorize(np.array(owners, dtype=object))[0]
        self._owner_ended = np.zeros(int(self._owner.max(initial=-1)) + 1, np.int64)
        self._renew_at = np.zeros(len(frame), np.int64)
        self._asked_at = np.zeros(len(frame), np.int64)
        self._activity = [self._builder.names.index(name) for name in HISTORY_NAMES[-2:]]
        self._level_array = np.array(self.levels)
        self.refits: list[tuple[float, int]] = []

    def at_submit(self, job: int, now_s: int) -> Floats:
        """Quantiles of a job that is submitted now, seconds, at least 1, shape (levels,)."""
        job += self._first
        while self._running and self._running[0][0] <= now_s:
            end, other, run = heapq.heappop(self._running)
            self._hear(other, run, int(end))
        self._refit(float(now_s))
        record = self._jobs[job]
        row = self._builder.row(record, self._history, float(now_s))
        self._matrix[job] = row[0]
        ladders = self._history.ask_quantiles(record, LADDERS, self._level_array, float(now_s))
        requested = self._requested[job : job + 1]
        queue = record["queue"]
        if not self.refits:
            forecast = np.full(len(self.levels), self._unlearned(requested[0], queue))
        else:
            forecast, slip = self._issue(row, requested, record, float(now_s), ladders)
            self._numbers[job] = self._correction.submitted(slip)
        self._asked_at[job] = self._owner_ended[self._owner[job]]
        self._renew_at[job] = self._asked_at[job] + 1
        if requested[0] > 0:
            for name in (queue, ""):
                self._largest[name] = max(self._largest.get(name, 0.0), float(requested[0]))
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
            record = self._jobs[job]
            row = self._builder.row(record, self._history, float(now_s))
            # Trees learned what was active, and since when nothing came, at submissions.
            row[0, self._activity] = self._matrix[job, self._activity]
            yield (
                job - self._first,
                self._issue(row, self._requested[job : job + 1], record, float(now_s))[0],
            )

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
            self._correction.ended(number, math.log(run_s) if run_s > 0 else math.nan)

    def _unlearned(self, requested_s: float, queue: str) -> float:
        """The request; an unknown one is the largest seen so far in the queue, else overall."""
        if requested_s > 0:
            return requested_s
        return self._largest.get(queue, self._largest.get("", 3600.0))

    def _issue(
        self,
        row: NDArray[Any],
        requested: Floats,
        record: Mapping[str, Any],
        now: float,
        ladders: Floats | None = None,
    ) -> tuple[Floats, Slip]:
        if ladders is None:
            ladders = self._history.ask_quantiles(record, LADDERS, self._level_array, now)
        ladders = ladders[None]
        logs = self._experts.logs(self._builder, row, requested, ladders)[0]
        user, queue = record["user"], record["queue"]
        cold = np.array([user != "" and row[0, self._cold_at] == 0])
        same = same_of(ladders)
        corrected, slip = self._correction.issue(
            logs,
            owner_of(user, queue),
            int(cohorts_of(cold, logs[None], self.levels)[0]),
            limit_log(float(requested[0]), queue, self._grace_s, self._limits_s),
            (float(same[0][0]), float(same[1][0])),
        )
        return np.maximum(np.exp(np.minimum(corrected, 30.0)), 1.0), slip

    def _refit(self, now: float) -> None:
        due = now >= self._fitted_at + self.refit_s
        grown = len(self._ended) >= max(FIRST_ROWS, GROWTH * self._fitted_rows)
        if len(self._ended) < FIRST_ROWS or not (due or grown):
            return
        past = np.sort(np.array(self._ended, np.int64))[-self.rows :]
        run, requested = self._run[past], self._requested[past]
        self._experts = Experts(self.levels, self.seed, self.trees).fit(
            self._builder, self._matrix[past], requested, run
        )
        self._grace_s = kill_grace_s(run, requested, tolerated_share(self.levels[-1]))
        self._limits_s = queue_limits(
            run, [self._jobs[j]["queue"] for j in past.tolist()], self.levels[-1]
        )
        self._fitted_at, self._fitted_rows = now, len(self._ended)
        self.refits.append((now, len(past)))
