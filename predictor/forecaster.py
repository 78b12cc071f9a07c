"""The forecaster behind every use of the model: it issues, learns, refits, calibrates.

``fit`` learns a log at once, ``walk_forward`` lives through one, a replay lives through one on a
clock of its own, and ``RuntimePredictor.update`` lives on. They are loops over one
``OnlineForecaster``: what a job is asked by, which jobs train and how they weigh, when a refit is
due, how a forecast is made and what its end teaches stand here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.censoring import (
    censoring_weights,
    kill_grace_s,
    queue_limits,
    tolerated_share,
)
from plancast.predictor.quantile import QuantileGBM
from plancast.predictor.remaining import RemainingCorrection
from plancast.predictor.state.experts import (
    COHORTS,
    EXPERTS,
    TRAINING_ROWS,
    Experts,
    cohorts_of,
    ladders_of,
    limit_log,
    owner_of,
    owners_of,
    same_of,
)
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats, History
from plancast.predictor.state.online import OnlineCorrection, Slip

DAY_S = 86400.0

REFIT_S = 30 * DAY_S
"""Longest time between refits, seconds."""

FIRST_ROWS = 20
"""Ended jobs before the first fit. Fewer teach nothing."""

EARLY_ROWS = 300
"""Ended jobs below which a refit comes when their number has doubled."""

GROWTH = 1.25
"""A refit comes when so many times the jobs of the last one have ended."""

DRIFT, DRIFT_JOBS = 1.5, 300
"""A refit comes when the trees' mean absolute log error, over at least so many jobs forecast and
ended since the last one, is so many times what it was before."""


@dataclass(frozen=True)
class Questions:
    """Jobs as they are asked about; row i of each is job i.

    Parameters
    ----------
    matrix : array of float32, shape (n, features)
    ladders_s : array, shape (n, ladders, levels)
        From ``History.replay_quantiles`` with ``ladders_of``.
    requested_s : array, shape (n,)
        Seconds; NaN where unknown.
    queues, owners : list of str
    cold : array of bool, shape (n,)
        Whether no job of the user had ended.
    """

    matrix: NDArray[np.float32]
    ladders_s: Floats
    requested_s: Floats
    queues: list[str]
    owners: list[str]
    cold: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self.requested_s)

    def part(self, rows: NDArray[np.int64] | slice) -> Questions:
        """Some of the jobs, in the order of `rows`; of a slice, without a copy of the arrays."""
        places = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        return Questions(
            self.matrix[rows],
            self.ladders_s[rows],
            self.requested_s[rows],
            [self.queues[i] for i in places],
            [self.owners[i] for i in places],
            self.cold[rows],
        )


class Past(NamedTuple):
    """What a refit learns from: ended jobs, by row, in order of submission.

    ``matrix`` (n, features), ``requested_s``, ``run_s`` (n,), ``queues``; and ``watched_s``
    (m,): for how long each job that still runs has run.
    """

    matrix: NDArray[np.float32]
    requested_s: Floats
    run_s: Floats
    queues: list[str]
    watched_s: Floats


class Forecast(NamedTuple):
    """One forecast: log quantiles, the trees' log median, the fit it came from, and its slip."""

    logs: Floats
    tree_median: float
    fit: int
    owner: str
    slip: Slip


class RefitSchedule:
    """When a refit is due, by what has ended and by nothing later.

    Parameters
    ----------
    refit_s : float
        Longest time between refits, seconds; infinity: no refit after the first.
    """

    def __init__(self, refit_s: float = REFIT_S) -> None:
        self.refit_s = refit_s
        self.fitted_at, self.fitted_rows = -math.inf, 0
        self.usual, self.seen = 0.0, 0
        self.sum, self.count = 0.0, 0

    def rows_due(self) -> float:
        """Ended jobs at which a refit is due by growth."""
        if self.fitted_rows == 0:
            return FIRST_ROWS
        if math.isinf(self.refit_s):
            return math.inf
        early = 2 * self.fitted_rows
        return early if early <= EARLY_ROWS else max(EARLY_ROWS, GROWTH * self.fitted_rows)

    def drifted(self, total: Any, count: Any) -> Any:
        """Whether errors of this sum and number, or arrays of them, are those of another time."""
        if self.seen == 0 or math.isinf(self.refit_s):
            return np.zeros(np.shape(count), bool)
        return (count >= DRIFT_JOBS) & (total > DRIFT * self.usual * count)

    def due(self, now_s: float, ended: int) -> str:
        """Why a refit is due when so many jobs have ended, or nothing."""
        if self.fitted_rows == 0:
            return "first" if ended >= FIRST_ROWS else ""
        if bool(self.drifted(self.sum, self.count)):
            return "drift"
        if now_s >= self.fitted_at + self.refit_s:
            return "schedule"
        return "growth" if ended >= self.rows_due() else ""

    def learn(self, error: float) -> None:
        """Take in the trees' log error of a job forecast since the last refit, which ended."""
        self.sum += abs(error)
        self.count += 1

    def card(self) -> dict[str, float]:
        """What it remembers, as JSON values."""
        names = ("fitted_at", "fitted_rows", "usual", "seen", "sum", "count")
        return {name: getattr(self, name) for name in names}

    def take(self, card: Mapping[str, float]) -> None:
        """Remember what ``card`` gave."""
        for name, value in card.items():
            setattr(self, name, value)

    def fitted(self, now_s: float, ended: int) -> None:
        """A refit was made."""
        if self.count:
            self.seen += self.count
            self.usual += (self.sum / self.count - self.usual) * self.count / self.seen
        self.sum, self.count = 0.0, 0
        self.fitted_at, self.fitted_rows = now_s, ended


class OnlineForecaster:
    """Issues forecasts, learns from ends, refits on schedule, and keeps itself calibrated.

    Parameters
    ----------
    levels : sequence of float
    builder : FeatureBuilder
        Fitted: it knows the categories.
    refit_s : float
        Longest time between refits, seconds.
    rows : int
        Latest ended jobs that train.
    seed : int
    trees : mapping, optional
        Further parameters of ``QuantileGBM``.
    cap : bool
        Whether kill limits cap quantiles.
    remain : bool
        Whether remaining times are calibrated too, as jobs end one at a time.
    calibrate : bool
        Whether the experts are mixed and calibrated; else the trees' own quantiles stand until
        a job has been learned from.
    """

    def __init__(
        self,
        levels: Sequence[float],
        builder: FeatureBuilder,
        *,
        refit_s: float = REFIT_S,
        rows: int = TRAINING_ROWS,
        seed: int = 0,
        trees: Mapping[str, Any] | None = None,
        cap: bool = True,
        remain: bool = True,
        calibrate: bool = True,
    ) -> None:
        self.experts = Experts(levels, seed, trees)
        self.levels = self.experts.levels
        self.builder, self.rows = builder, rows
        self.cap, self.remain, self.calibrate = cap, remain, calibrate
        self.schedule = RefitSchedule(refit_s)
        self.correction = OnlineCorrection(self.levels, len(EXPERTS), COHORTS)
        self.remaining = RemainingCorrection(self.levels)
        self.grace_s, self.queue_limits_s = math.inf, dict[str, float]()
        self.refits: list[tuple[float, int, str]] = []
        self._level_array = np.array(self.levels)
        self._middle = int(np.argmin(np.abs(self._level_array - 0.5)))
        self._running: dict[int, Forecast] = {}

    # -- keeping -----------------------------------------------------------------------

    def card(self) -> dict[str, Any]:
        """Everything but arrays, as JSON values."""
        return {
            "features": self.builder.names,
            "builder": self.builder.card(),
            "experts": self.experts.card(),
            "refits": [list(refit) for refit in self.refits],
            "correction": self.correction.card(),
            "schedule": self.schedule.card(),
            "kill_grace_s": self.grace_s if math.isfinite(self.grace_s) else None,
            "queue_limits_s": self.queue_limits_s,
        }

    def take(
        self,
        card: Mapping[str, Any],
        regressor: QuantileGBM,
        correction: pd.DataFrame,
        remaining: pd.DataFrame,
    ) -> None:
        """Become the forecaster whose card, trees and frames these are."""
        self.experts.regressor = regressor
        self.experts.spreads = np.array(card["experts"]["spreads"], dtype=np.float64)
        self.correction = OnlineCorrection.from_card(card["correction"])
        self.correction.take(correction)
        self.remaining.take(remaining)
        self.schedule.take(card["schedule"])
        self.refits = [(now_s, rows, why) for now_s, rows, why in card["refits"]]
        grace = card["kill_grace_s"]
        self.grace_s = math.inf if grace is None else float(grace)
        self.queue_limits_s = {str(q): float(s) for q, s in card["queue_limits_s"].items()}

    # -- asking ------------------------------------------------------------------------

    def questions(
        self,
        jobs: pd.DataFrame,
        history: History,
        as_of_s: Floats | float | None = None,
        *,
        see_ends: bool = True,
    ) -> Questions:
        """Many jobs as they are asked about, each as of its own moment; see ``History.replay``."""
        matrix = self.builder.transform(jobs, history, as_of_s, see_ends=see_ends)
        ladders = history.replay_quantiles(
            jobs, ladders_of(history.layout), self._level_array, as_of_s, see_ends=see_ends
        )
        known = (jobs["user"] != "").to_numpy()
        return Questions(
            matrix,
            ladders,
            jobs["requested_s"].to_numpy(np.float64, copy=True),
            jobs["queue"].tolist(),
            owners_of(jobs),
            known & (matrix[:, self._cold_column()] == 0),
        )

    def question(
        self, job: Mapping[str, Any], history: History, as_of_s: float | None = None
    ) -> Questions:
        """One job as it is asked about: a clean row, see ``clean_row``."""
        matrix = self.builder.row(job, history, as_of_s)
        rules = ladders_of(history.layout)
        ladders = history.ask_quantiles(job, rules, self._level_array, as_of_s)[None]
        user, queue = job["user"], job["queue"]
        cold = np.array([user != "" and matrix[0, self._cold_column()] == 0])
        requested = np.array([job["requested_s"]], np.float64)
        return Questions(matrix, ladders, requested, [queue], [owner_of(user, queue)], cold)

    # -- learning ----------------------------------------------------------------------

    def refit(self, past: Past, now_s: float, ended: int, why: str) -> None:
        """Train the experts anew.

        Parameters
        ----------
        past : Past
            Of more rows than train the latest are taken.
        now_s : float
        ended : int
            Jobs that had ended by now, those that no longer train included.
        why : str
            As the schedule said.
        """
        latest = slice(-self.rows, None)
        matrix, requested = past.matrix[latest], past.requested_s[latest]
        run = past.run_s[latest]
        self.experts = Experts(self.levels, self.experts.seed, self.experts.trees).fit(
            self.builder, matrix, requested, run, censoring_weights(run, past.watched_s)
        )
        if self.cap:
            tolerated = tolerated_share(self.levels[-1])
            self.grace_s = kill_grace_s(run, requested, tolerated)
            self.queue_limits_s = queue_limits(run, past.queues[latest], self.levels[-1])
        self.schedule.fitted(now_s, ended)
        self.refits.append((now_s, len(run), why))

    def logs(self, asked: Questions) -> Floats:
        """Log quantiles by every expert, shape (n, experts, levels)."""
        return self.experts.logs(self.builder, asked.matrix, asked.requested_s, asked.ladders_s)

    def limits(self, asked: Questions) -> Floats:
        """Log of what each job cannot outlast; infinity where that is not known, shape (n,)."""
        pairs = zip(asked.requested_s.tolist(), asked.queues, strict=True)
        return np.array([limit_log(r, q, self.grace_s, self.queue_limits_s) for r, q in pairs])

    # -- many at once ------------------------------------------------------------------

    def replay(
        self,
        asked: Questions,
        logs: NDArray[Any],
        limits: Floats,
        log_run: Floats,
        issue_s: Floats,
        known_s: Floats,
        correction: OnlineCorrection | None = None,
    ) -> Floats:
        """Forecast jobs in the order of their moments, learning from those that ended before.

        Parameters
        ----------
        asked : Questions
        logs, limits
            From ``logs`` and ``limits``, maybe of several refits.
        log_run : array, shape (n,)
            Log run times; NaN: never ran, teaches nothing.
        issue_s, known_s : array, shape (n,)
            As of ``OnlineCorrection.replay``.
        correction : OnlineCorrection, optional
            What learns; the forecaster's own by default.

        Returns
        -------
        array, shape (n, levels)
            Log quantiles.
        """
        used = self.correction if correction is None else correction
        if used.settled == 0 and not self.calibrate:
            return np.asarray(logs[:, 0], dtype=np.float64)
        corrected, _ = used.replay(
            logs,
            log_run,
            issue_s,
            known_s,
            asked.owners,
            cohorts_of(asked.cold, logs, self.levels),
            limits,
            same_of(asked.ladders_s),
        )
        return corrected

    def replay_jobs(
        self,
        asked: Questions,
        run_s: Floats,
        issue_s: Floats,
        known_s: Floats,
        correction: OnlineCorrection | None = None,
    ) -> Floats:
        """Do what ``replay`` does with the experts as they are now; in seconds.

        Parameters
        ----------
        asked, issue_s, known_s, correction
            As of ``replay``.
        run_s : array, shape (n,)
            Seconds; NaN: teaches nothing, and is not waited for where its end is known.
        """
        unused = np.isnan(run_s) & np.isfinite(known_s)
        logs, limits = self.logs(asked), self.limits(asked)
        known_s = np.where(unused, np.nan, known_s)
        return seconds_of(
            self.replay(asked, logs, limits, np.log(run_s), issue_s, known_s, correction)
        )

    # -- one at a time -----------------------------------------------------------------

    def issue(self, asked: Questions) -> Forecast:
        """Forecast one job from what has ended so far."""
        logs = self.logs(asked)[0]
        same, gap = same_of(asked.ladders_s)
        corrected, slip = self.correction.issue(
            logs,
            asked.owners[0],
            int(cohorts_of(asked.cold, logs[None], self.levels)[0]),
            float(self.limits(asked)[0]),
            (float(same[0]), float(gap[0])),
        )
        if self.correction.settled == 0 and not self.calibrate:
            corrected = logs[0]
        middle = float(logs[0, self._middle])
        return Forecast(corrected, middle, len(self.refits), asked.owners[0], slip)

    def submitted(self, forecast: Forecast) -> int:
        """Count a forecast job as running; returns the number that ``ended`` takes."""
        number = self.correction.submitted(forecast.slip)
        self._running[number] = forecast
        return number

    def ended(self, number: int, run_s: float) -> None:
        """Learn from a job that ended now; not above 0: it never ran."""
        forecast = self._running.pop(number)
        log_run = math.log(run_s) if run_s > 0 else math.nan
        self.correction.ended(number, log_run)
        if run_s > 0:
            if self.remain:
                self.remaining.ended(seconds_of(forecast.logs), run_s, forecast.owner)
            if forecast.fit == len(self.refits):
                self.schedule.learn(log_run - forecast.tree_median)

    def _cold_column(self) -> int:
        return self.builder.names.index("user_count")


def seconds_of(logs: Floats) -> Floats:
    """Quantiles in seconds, at least 1, from log quantiles."""
    return np.asarray(np.maximum(np.exp(logs), 1.0), dtype=np.float64)
