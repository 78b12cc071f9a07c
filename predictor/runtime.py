"""The run-time model: history, features, experts and their correction behind one face."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.censoring import (
    CENSORED,
    censoring_weights,
    kill_grace_s,
    queue_limits,
    tolerated_share,
)
from plancast.predictor.metrics import score
from plancast.predictor.quantile import LEVELS, QuantileGBM, between_levels, check_levels
from plancast.predictor.remaining import RemainingCorrection
from plancast.predictor.schema import COLUMNS, OUTCOMES, BadLog, canonical, extra_columns
from plancast.predictor.splits import known_at_s, split_by_share
from plancast.predictor.state.experts import (
    COHORTS,
    EXPERTS,
    LADDERS,
    Experts,
    cohorts_of,
    cold_starts,
    limit_log,
    limit_logs,
    owner_of,
    owners_of,
    same_of,
)
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats, History, Key
from plancast.predictor.state.online import OnlineCorrection

FORMAT = 5
"""Version of the model folder; a folder of another one is refused."""

MIN_TRAINING_ROWS = 20
"""Fewer jobs with a run time than this teach nothing."""

_HISTORY_FILE = "history.parquet"
_CORRECTION_FILE = "correction.parquet"
_REMAINING_FILE = "remaining.parquet"
_CARD_FILE = "card.json"


class BadModel(ValueError):
    """A model folder that cannot be used; the text names the folder, the file and the mend."""


class RuntimePredictor:
    """Forecasts quantiles of run times from what had ended by a job's submission.

    Parameters
    ----------
    levels : sequence of float
        Quantile levels, strictly increasing within (0, 1).
    calibration_share : float
        Share of the log, at its end, that is kept from the trees to calibrate them. With 0
        the trees' own quantiles stand, uncorrected.
    cap_at_request : bool
        Whether no quantile exceeds the kill limit: the requested time and what a log lets jobs
        run longer, in a log that kills there, see ``kill_grace_s``.
    outcomes : sequence of str
        Outcomes whose run times train and calibrate. The default is all of them, each as it
        ran: a plan reserves a machine for as long as the job holds it, whatever its end. Jobs
        that never ran have no run time and are excluded. All rules are counted in the card.
    window, decay
        Passed to ``History``.
    seed : int
        Seed of the trees.
    trees : mapping, optional
        Further parameters of ``QuantileGBM``.

    Notes
    -----
    The forecast is a mixture of trees and rules (``Experts``), mixed and calibrated online
    (``OnlineCorrection``): cohorts are cold starts (a user of whom
    no job has ended) and, apart from them, jobs of like spread.
    Where so few jobs calibrate that no finite quantile can be promised at a level, it is the
    kill limit, or infinity.
    """

    name = "model"

    def __init__(
        self,
        levels: Sequence[float] = LEVELS,
        *,
        calibration_share: float = 0.15,
        cap_at_request: bool = True,
        outcomes: Sequence[str] = OUTCOMES,
        window: int = 20,
        decay: float = 0.3,
        seed: int = 0,
        trees: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 <= calibration_share < 1:
            raise ValueError(f"calibration_share is {calibration_share}; it must lie in [0, 1)")
        unknown = [o for o in outcomes if o not in OUTCOMES]
        if unknown:
            raise ValueError(f"outcome {unknown[0]!r} is none of {', '.join(OUTCOMES)}")
        self.levels = check_levels(levels)
        self.calibration_share = calibration_share
        self.cap_at_request = cap_at_request
        self.outcomes = tuple(outcomes)
        self.seed = seed
        self.trees = dict(trees or {})
        self.builder = FeatureBuilder(window, decay)
        self.history = History(window, decay)
        self.experts = Experts(self.levels, seed, self.trees)
        self.correction = OnlineCorrection(self.levels, len(EXPERTS), COHORTS)
        self.remaining = RemainingCorrection(self.levels)
        self.grace_s = math.inf
        self.queue_limits_s: dict[str, float] = {}
        self._running: dict[Key, int] = {}
        self.card: dict[str, Any] = {}

    # -- learning ----------------------------------------------------------------------

    def fit(self, log: pd.DataFrame) -> RuntimePredictor:
        """Learn from a job log; what was learned before is forgotten.

        Parameters
        ----------
        log : DataFrame
            Any subset of the canonical columns and extra features.

        Raises
        ------
        BadLog
            Where the log has too few jobs with a run time.
        """
        jobs = canonical(log)
        usable = trainable(jobs, self.outcomes)
        split = split_by_share(jobs, 1 - self.calibration_share, self.calibration_share)
        train = split.train[usable[split.train]]
        held_out = split.calibration[usable[split.calibration]]
        if len(train) < MIN_TRAINING_ROWS:
            raise BadLog(
                f"the log has {len(train)} jobs to train on with a positive run time; "
                f"give at least {MIN_TRAINING_ROWS}"
            )
        self.builder.fit(jobs.iloc[train])
        history = History(self.builder.window, self.builder.decay)
        matrix = self.builder.transform(jobs, history)
        run, requested, start = (
            jobs[name].to_numpy(dtype=np.float64, copy=True)
            for name in ("run_s", "requested_s", "start_s")
        )
        ladders = history.replay_quantiles(jobs, LADDERS, np.array(self.levels))
        known, submit = known_at_s(jobs), jobs["submit_s"].to_numpy(dtype=np.float64)
        moment = min(split.calibration_from_s, float(np.max(known[train])))
        begun = np.where(np.isnan(start), submit, start)
        running = usable & (begun <= moment) & (known > moment)
        self.experts = Experts(self.levels, self.seed, self.trees).fit(
            self.builder,
            matrix[train],
            requested[train],
            run[train],
            censoring_weights(run[train], moment - begun[running]),
        )
        self.grace_s, self.queue_limits_s = math.inf, {}
        if self.cap_at_request:
            self.grace_s = kill_grace_s(
                run[train], requested[train], tolerated_share(self.levels[-1])
            )
            self.queue_limits_s = queue_limits(
                run[train], jobs["queue"].to_numpy()[train], self.levels[-1]
            )

        self.correction = OnlineCorrection(self.levels, len(EXPERTS), COHORTS)
        self.remaining = RemainingCorrection(self.levels)
        self._running = {}
        metrics: dict[str, float] = {}
        if len(held_out):
            part = jobs.iloc[held_out]
            logs = self._logs(part, matrix[held_out], ladders[held_out])
            raw = np.exp(logs[:, 0])
            median = between_levels_or_middle(raw, self.levels)
            metrics = score(run[held_out], median, raw, self.levels)
            told = self._replayed(
                self.correction,
                part,
                matrix[held_out],
                logs,
                same_of(ladders[held_out]),
                submit[held_out],
                known[held_out],
            )
            self.remaining.replay(
                told, run[held_out], begun[held_out], known[held_out], owners_of(part)
            )

        self.history = History(self.builder.window, self.builder.decay)
        self.history.see_log(jobs)
        self.card = self._new_card(log, jobs, len(train), len(held_out), usable, metrics)
        return self

    @classmethod
    def of_walk(cls, walk: Any) -> RuntimePredictor:
        """The model as a walk over a log left it: the last refit, and all that had ended.

        Parameters
        ----------
        walk : Walk
            From ``walk_forward``.
        """
        model = cls(walk.correction.levels, seed=walk.experts.seed, trees=walk.experts.trees)
        model.builder = walk.builder
        model.experts, model.correction = walk.experts, walk.correction
        model.remaining = walk.remaining_correction
        model.grace_s, model.queue_limits_s = walk.grace_s, walk.queue_limits_s
        model.history = History(model.builder.window, model.builder.decay)
        model.history.see_log(walk.jobs)
        usable = trainable(walk.jobs, model.outcomes)
        trained = walk.refits[-1][1]
        model.card = model._new_card(walk.jobs, walk.jobs, trained, 0, usable, {})
        model.card["counts"]["calibrated"] = walk.correction.settled
        model.card["counts"]["embargoed"] = 0
        return model

    def update(self, rows: pd.DataFrame) -> None:
        """Fold jobs into the history and the calibration at once; the trees stay as they are.

        Parameters
        ----------
        rows : DataFrame
            Canonical fields. Rows with an end are finished jobs; rows without one and with
            outcome ``unknown`` are jobs that wait or run (they need a ``job_id``).

        Notes
        -----
        A job that was first noted as waiting is forecast then, and calibrates when it ends.
        One that is only noted at its end is forecast then as of its submission (what ended
        later is hidden from its features) and calibrates too. That replays the history, once
        for all such rows of a call: note jobs as they are submitted where updates must be
        fast. A job whose submission is unknown enters the history alone.
        """
        jobs = canonical(rows)
        over = jobs["end_s"].notna().to_numpy() | (jobs["outcome"] != "unknown").to_numpy()
        unnoted = []
        for place, job in jobs[over].sort_values("end_s", kind="stable").iterrows():
            number = self._running.pop((job["job_id"], job["submit_s"], job["user"]), None)
            if number is None:
                unnoted.append(place)
            else:
                run = job["run_s"]
                told = self.correction.told(number)
                self.correction.ended(number, math.log(run) if run > 0 else math.nan)
                if run > 0:
                    owner = owner_of(job["user"], job["queue"])
                    self.remaining.ended(self._seconds(told), run, owner)
        self._calibrate_late(jobs.loc[sorted(unnoted)])
        self.history.see_log(jobs[over])
        for job in jobs[~over].to_dict("records"):
            key = (job["job_id"], job["submit_s"], job["user"])
            if job["job_id"] and job["submit_s"] == job["submit_s"] and key not in self._running:
                _, slip = self._issued(job, None)
                self._running[key] = self.correction.submitted(slip)
            self.history.see(job)

    def _calibrate_late(self, ended: pd.DataFrame) -> None:
        """Learn from ended jobs that were never noted as waiting, before the history sees them."""
        new = trainable(ended, self.outcomes) & ended["end_s"].notna().to_numpy()
        new &= np.array([not self.history.has_ended(j) for j in ended.to_dict("records")], bool)
        again = ended.duplicated(["job_id", "submit_s", "user"]) & (ended["job_id"] != "")
        jobs = canonical(ended[new & ~again.to_numpy()])
        if not len(jobs) or self.experts.regressor is None:
            return
        submit, start, run = (
            jobs[name].to_numpy(np.float64, copy=True) for name in ("submit_s", "start_s", "run_s")
        )
        matrix = self.builder.transform(jobs, self.history)
        ladders = self.history.replay_quantiles(jobs, LADDERS, np.array(self.levels))
        known = known_at_s(jobs)
        logs, same = self._logs(jobs, matrix, ladders), same_of(ladders)
        told = self._replayed(self.correction, jobs, matrix, logs, same, submit, known)
        start = np.where(np.isnan(start), submit, start)
        self.remaining.replay(told, run, start, known, owners_of(jobs))

    # -- forecasting -------------------------------------------------------------------

    def predict(self, jobs: pd.DataFrame, as_of_s: Floats | float | None = None) -> Floats:
        """Median run time of each job, seconds, shape (n,), in the order of `jobs`.

        Where 0.5 lies outside the levels, the level nearest to it is given.
        """
        return between_levels_or_middle(self.predict_quantiles(jobs, None, as_of_s), self.levels)

    def predict_quantiles(
        self,
        jobs: pd.DataFrame,
        levels: Sequence[float] | None = None,
        as_of_s: Floats | float | None = None,
    ) -> Floats:
        """Quantiles of the run time of jobs that have not ended.

        Parameters
        ----------
        jobs : DataFrame
            Canonical fields; everything that is known only after submission is ignored.
        levels : sequence of float, optional
            Within the trained ones; between them quantiles are interpolated. All by default.
        as_of_s : float or array of shape (n,), optional
            Only what had ended by then is known, seconds; each job's ``submit_s`` by default.

        Returns
        -------
        array of float, shape (n, levels)
            Seconds, at least 1, non-decreasing along the levels, in the order of `jobs`.
        """
        return self._forecast(jobs, levels, as_of_s, see_ends=False)

    def forecast_log(
        self,
        log: pd.DataFrame,
        as_of_s: Floats | float | None = None,
        levels: Sequence[float] | None = None,
    ) -> Floats:
        """Replay a log: each job's quantiles with what had ended by then, its own jobs included.

        The arguments and the result are those of ``predict_quantiles``. Neither the model nor
        its history changes.
        """
        return self._forecast(log, levels, as_of_s, see_ends=True)

    def predict_row(self, job: Mapping[str, Any], as_of_s: float | None = None) -> Floats:
        """Quantiles of one job, seconds, shape (levels,): the fast way online.

        Equal bit for bit to ``predict_quantiles`` where the history knows the user's other
        jobs that wait or run.
        """
        self._fitted()
        return self._seconds(self._issued(job, as_of_s)[0])

    def remaining_quantiles(
        self, job: Mapping[str, Any], elapsed_s: float, as_of_s: float | None = None
    ) -> Floats:
        """Quantiles of the time that a running job still needs, seconds, shape (levels,).

        Parameters
        ----------
        job : mapping
            Canonical fields.
        elapsed_s : float
            How long it has run, seconds.
        as_of_s : float, optional
            Only what had ended by then is known; the job's ``submit_s`` by default.

        Notes
        -----
        See ``RemainingCorrection``.
        """
        user, queue = (str(job.get(name) or "") for name in ("user", "queue"))
        whole = self.predict_row(job, as_of_s)
        return self.remaining.quantiles(whole, elapsed_s, owner_of(user, queue))

    # -- keeping -----------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write LightGBM text files, the JSON card and the history into `folder`.

        The folder appears whole or not at all; an older model there is replaced.

        Raises
        ------
        BadModel
            Where nothing was learned, or the folder holds something else than a model.
        """
        target = Path(folder)
        regressor = self._fitted()
        if target.exists() and not (target / _CARD_FILE).is_file() and not _is_empty(target):
            raise BadModel(f"{target} exists and is no model folder; name another folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            files = [*regressor.save(fresh), _HISTORY_FILE, _CORRECTION_FILE, _REMAINING_FILE]
            self.history.frame().to_parquet(fresh / _HISTORY_FILE, index=False)
            self.correction.frame().to_parquet(fresh / _CORRECTION_FILE, index=False)
            self.remaining.frame().to_parquet(fresh / _REMAINING_FILE, index=False)
            card = {
                **self.card,
                "correction": self.correction.card(),
                "files": {n: _sha256_of(fresh / n) for n in files},
            }
            text = json.dumps(card, indent=1, allow_nan=False)
            (fresh / _CARD_FILE).write_text(text + "\n", encoding="utf-8")
            fresh.chmod(0o755)
            _put_in_place(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return target

    @classmethod
    def load(cls, folder: str | Path) -> RuntimePredictor:
        """The model that ``save`` wrote; its forecasts are equal bit for bit.

        Raises
        ------
        BadModel
            Where a file is missing, damaged or of another version.
        """
        source = Path(folder)
        card = _read_card(source)
        for name, digest in card["files"].items():
            if not (source / name).is_file():
                raise BadModel(f"{source}: {name} is missing; train the model again")
            if _sha256_of(source / name) != digest:
                raise BadModel(
                    f"{source}: {name} is not the file that card.json describes; "
                    "train the model again"
                )
        try:
            settings = card["settings"]
            model = cls(
                card["levels"],
                calibration_share=settings["calibration_share"],
                cap_at_request=settings["cap_at_request"],
                outcomes=settings["outcomes"],
                seed=settings["seed"],
                trees=settings["trees"],
            )
            model.builder = FeatureBuilder.from_card(card["builder"])
            model.experts.regressor = QuantileGBM.load(source)
            model.experts.spreads = np.array(card["experts"]["spreads"], dtype=np.float64)
            model.correction = OnlineCorrection.from_card(card["correction"])
            model.correction.take(pd.read_parquet(source / _CORRECTION_FILE))
            model.remaining.take(pd.read_parquet(source / _REMAINING_FILE))
            grace = card["kill_grace_s"]
            model.grace_s = math.inf if grace is None else float(grace)
            model.queue_limits_s = {str(q): float(v) for q, v in card["queue_limits_s"].items()}
            if card["features"] != model.builder.names:
                raise BadModel(
                    f"{source}: card.json names features that this version does not build; "
                    "train the model again"
                )
            model.history = History(model.builder.window, model.builder.decay)
            model.history.see_log(pd.read_parquet(source / _HISTORY_FILE))
        except BadModel:
            raise
        except Exception as error:
            raise BadModel(
                f"{source}: card.json does not fit the files ({type(error).__name__}: {error}); "
                "train the model again"
            ) from error
        model.card = {key: value for key, value in card.items() if key != "files"}
        return model

    # -- inner workings ----------------------------------------------------------------

    def _fitted(self) -> QuantileGBM:
        if self.experts.regressor is None:
            raise BadModel("the model has learned nothing yet; call fit or load first")
        return self.experts.regressor

    def _forecast(
        self,
        frame: pd.DataFrame,
        levels: Sequence[float] | None,
        as_of_s: Floats | float | None,
        *,
        see_ends: bool,
    ) -> Floats:
        self._fitted()
        jobs, as_of, order = in_submission_order(frame, as_of_s)
        result = np.empty((len(jobs), len(self.levels)))
        if len(jobs):
            matrix = self.builder.transform(jobs, self.history, as_of, see_ends=see_ends)
            ladders = self.history.replay_quantiles(
                jobs, LADDERS, np.array(self.levels), as_of, see_ends=see_ends
            )
            moments = jobs["submit_s"].to_numpy(np.float64) if as_of is None else as_of
            known = known_at_s(jobs) if see_ends else np.full(len(jobs), np.inf)
            # The replay asks in order of the moments, and learns on a copy.
            turn = np.argsort(moments, kind="stable")
            part = jobs.iloc[turn]
            result[order[turn]] = self._replayed(
                self.correction.copy(),
                part,
                matrix[turn],
                self._logs(part, matrix[turn], ladders[turn]),
                same_of(ladders[turn]),
                moments[turn],
                known[turn],
            )
        return (
            result if levels is None else between_levels(result, self.levels, check_levels(levels))
        )

    def _logs(self, jobs: pd.DataFrame, matrix: NDArray[np.float32], ladders_s: Floats) -> Floats:
        requested = jobs["requested_s"].to_numpy(np.float64)
        return self.experts.logs(self.builder, matrix, requested, ladders_s)

    def _replayed(
        self,
        correction: OnlineCorrection,
        jobs: pd.DataFrame,
        matrix: NDArray[np.float32],
        logs: Floats,
        same: tuple[Floats, Floats],
        issue_s: Floats,
        known_s: Floats,
    ) -> Floats:
        """Quantiles of jobs in the order of their forecasts, seconds; `correction` learns."""
        if correction.settled == 0 and self.calibration_share == 0:
            return self._seconds(logs[:, 0])
        usable = trainable(jobs, self.outcomes)
        run = jobs["run_s"].to_numpy(np.float64)
        corrected, _ = correction.replay(
            logs,
            np.where(usable, np.log(np.where(usable, run, 1.0)), np.nan),
            issue_s,
            np.where(usable | np.isinf(known_s), known_s, np.nan),
            owners_of(jobs),
            cohorts_of(cold_starts(jobs, self.builder, matrix), logs, self.levels),
            limit_logs(jobs, self.grace_s, self.queue_limits_s),
            same,
        )
        return self._seconds(corrected)

    def _issued(self, job: Mapping[str, Any], as_of_s: float | None) -> tuple[Floats, Any]:
        """Log quantiles of one job, and the slip to learn from them."""
        matrix = self.builder.row(job, self.history, as_of_s)
        levels = np.array(self.levels)
        ladders = self.history.ask_quantiles(job, LADDERS, levels, as_of_s)[None]
        value = job.get("requested_s")
        requested = np.array([math.nan if value is None else value], dtype=np.float64)
        logs = self.experts.logs(self.builder, matrix, requested, ladders)[0]
        user, queue = (str(job.get(name) or "") for name in ("user", "queue"))
        count = matrix[0, self.builder.names.index("user_count")]
        cold = np.array([user != "" and count == 0])
        same = same_of(ladders)
        corrected, slip = self.correction.issue(
            logs,
            owner_of(user, queue),
            int(cohorts_of(cold, logs[None], self.levels)[0]),
            limit_log(float(requested[0]), queue, self.grace_s, self.queue_limits_s),
            (float(same[0][0]), float(same[1][0])),
        )
        if self.correction.settled == 0 and self.calibration_share == 0:
            corrected = logs[0]
        return corrected, slip

    @staticmethod
    def _seconds(logs: Floats) -> Floats:
        return np.asarray(np.maximum(np.exp(logs), 1.0), dtype=np.float64)

    def _new_card(
        self,
        log: pd.DataFrame,
        jobs: pd.DataFrame,
        trained: int,
        calibrated: int,
        usable: NDArray[np.bool_],
        metrics: dict[str, float],
    ) -> dict[str, Any]:
        submit = jobs["submit_s"].to_numpy(dtype=np.float64)
        outcomes = jobs["outcome"].to_numpy()
        return {
            "format": FORMAT,
            "name": self.name,
            "levels": list(self.levels),
            "settings": {
                "calibration_share": self.calibration_share,
                "cap_at_request": self.cap_at_request,
                "outcomes": list(self.outcomes),
                "seed": self.seed,
                "trees": self.trees,
            },
            "features": self.builder.names,
            "builder": self.builder.card(),
            "experts": self.experts.card(),
            "correction": self.correction.card(),
            "kill_grace_s": self.grace_s if math.isfinite(self.grace_s) else None,
            "queue_limits_s": self.queue_limits_s,
            "training_window_s": [float(submit[0]), float(submit[-1])],
            "data": {
                "rows": len(jobs),
                "submitted_from_s": float(submit[0]),
                "submitted_until_s": float(submit[-1]),
                "sha256": data_digest(jobs),
                "attrs": _plain(dict(log.attrs)),
            },
            "counts": {
                "outcomes": {o: int((outcomes == o).sum()) for o in OUTCOMES},
                "trained": trained,
                "calibrated": calibrated,
                "embargoed": int(usable.sum()) - trained - calibrated,
                "excluded_from_training": int((~usable).sum()),
                "excluded_from_history": self.history.excluded,
                "censored_in_history": self.history.censored,
                "ended_in_history": len(self.history),
            },
            "metrics_before_correction": metrics,
            "known_weaknesses": _weaknesses(jobs, usable, self.grace_s),
            "versions": _versions(),
        }


def _weaknesses(jobs: pd.DataFrame, usable: NDArray[np.bool_], grace_s: float) -> list[str]:
    """What a reader of the card should know before trusting the model, one sentence each."""
    said = []
    users = set(jobs["user"]) - {""}
    if not users:
        said.append("The log names no users: jobs are told apart by queue, size and time alone.")
    if not (jobs["requested_s"] > 0).any():
        said.append("No requested times are known: no kill limit caps a quantile.")
    elif not math.isfinite(grace_s):
        said.append("Jobs of this log run past their requested time, which caps nothing.")
    if jobs["start_s"][usable].isna().any():
        said.append("Some starts are unknown: their jobs count as started when submitted.")
    cut = np.isin(jobs["outcome"].to_numpy()[usable].astype(str), CENSORED).mean()
    if cut > 0.01:
        said.append(
            f"{100 * cut:.0f} % of the runs were cut short (timeout, cancelled) and count as "
            "they ran: the model forecasts how long a job holds its machine, not what it needs."
        )
    said.append("A burst submitted at once shares one error: coverage holds over days, not within.")
    return said


def trainable(jobs: pd.DataFrame, outcomes: Sequence[str] = OUTCOMES) -> NDArray[np.bool_]:
    """Which rows may train: submitted, with a positive run time and one of the outcomes."""
    run = jobs["run_s"].to_numpy(dtype=np.float64)
    submitted = jobs["submit_s"].notna() & jobs["outcome"].isin(list(outcomes))
    return np.asarray((run > 0) & np.isfinite(run) & submitted, dtype=bool)


def between_levels_or_middle(quantiles: Floats, levels: Sequence[float]) -> Floats:
    """The median from quantiles, shape (n,); the nearest level where 0.5 lies outside them."""
    nearest = min(max(0.5, levels[0]), levels[-1])
    return between_levels(quantiles, levels, (nearest,))[:, 0]


def in_submission_order(
    frame: pd.DataFrame, as_of_s: Floats | float | None
) -> tuple[pd.DataFrame, Floats | None, NDArray[np.int64]]:
    """Canonical jobs, their as-of moments, and the place of each in `frame`.

    A job whose submission is unknown counts as submitted at its as-of moment.

    Raises
    ------
    BadLog
        Where neither is known.
    """
    as_of: Floats | None = None
    frame = frame.reset_index(drop=True)
    if as_of_s is not None:
        as_of = np.array(np.broadcast_to(np.asarray(as_of_s, dtype=np.float64), len(frame)))
        if "submit_s" not in frame.columns:
            frame = frame.assign(submit_s=as_of)
        else:
            frame = frame.assign(submit_s=frame["submit_s"].where(frame["submit_s"].notna(), as_of))
    jobs = canonical(frame.assign(num_place=np.arange(len(frame), dtype=np.float64)))
    order = np.array(jobs["num_place"], dtype=np.int64)
    jobs = jobs.drop(columns="num_place")
    unknown = np.flatnonzero(jobs["submit_s"].isna().to_numpy())
    if len(unknown):
        raise BadLog(
            f"row {order[unknown[0]] + 1}: submit_s is unknown; fill it in or give as_of_s"
        )
    return jobs, None if as_of is None else as_of[order], order


def data_digest(jobs: pd.DataFrame) -> str:
    """SHA-256 of a canonical frame's columns, names and values, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name in (*COLUMNS, *extra_columns(jobs)):
        digest.update(f"\n{name}\n".encode())
        values = jobs[name]
        if values.dtype == np.float64:
            digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
        else:
            digest.update("\x1f".join(values.tolist()).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Attributes of a log (its terms, whom to acknowledge) as JSON values."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _versions() -> dict[str, str]:
    result = {"python": platform.python_version()}
    for package in ("plancast", "numpy", "pandas", "lightgbm"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "not installed"
    return result


def _read_card(source: Path) -> dict[str, Any]:
    path = source / _CARD_FILE
    if not source.is_dir():
        raise BadModel(f"{source} is no folder; name the folder that a model was saved to")
    if not path.is_file():
        raise BadModel(f"{source}: card.json is missing; train the model again")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadModel(f"{source}: card.json is no JSON: {error}; train again") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise BadModel(
            f"{source}: card.json is not of format {FORMAT}; train again with this version"
        )
    if not isinstance(card.get("files"), dict):
        raise BadModel(f"{source}: card.json lists no files; train the model again")
    return card


def _sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _put_in_place(fresh: Path, target: Path) -> None:
    """Rename `fresh` to `target`; an older folder there steps aside first."""
    if not target.exists():
        os.rename(fresh, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.rename(target, aside / "model")
    try:
        os.rename(fresh, target)
    except OSError:
        os.rename(aside / "model", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
