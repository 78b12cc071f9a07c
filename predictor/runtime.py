"""The run-time model: history, features, experts and their correction behind one face."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from plancast.predictor.distribution import between_levels, between_levels_or_middle
from plancast.predictor.forecaster import (
    FIRST_ROWS,
    REFIT_S,
    Forecast,
    OnlineForecaster,
    Questions,
    seconds_of,
)
from plancast.predictor.metrics import score
from plancast.predictor.model_files import (
    CARD_FILE,
    FORMAT,
    BadModel,
    card_html,
    data_digest,
    digest_of_card,
    is_empty,
    plain,
    put_in_place,
    read_card,
    sha256_of,
    versions,
    weaknesses,
)
from plancast.predictor.quantile import LEVELS, QuantileGBM, check_levels
from plancast.predictor.remaining import RemainingCorrection
from plancast.predictor.rows import clean_row, finite_requests, plausible
from plancast.predictor.schema import OUTCOMES, BadLog, canonical
from plancast.predictor.splits import known_at_s, split_by_share
from plancast.predictor.state.experts import TRAINING_ROWS, owner_of, owners_of
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats, History
from plancast.predictor.state.keys import JobKey
from plancast.predictor.state.online import OnlineCorrection
from plancast.predictor.target import (
    Target,
    as_target,
    check_target,
    lower_bounds,
    row_as_target,
)
from plancast.predictor.training import (
    Running,
    Training,
    begun_at_s,
    past_of,
    runs_at,
    trainable,
    unnamed_places,
    unnamed_rows,
)

MIN_TRAINING_ROWS = FIRST_ROWS
"""Fewer jobs with a run time than this teach nothing."""

_HISTORY_FILE = "history.parquet"
_CORRECTION_FILE = "correction.parquet"
_REMAINING_FILE = "remaining.parquet"
_TRAINING_FILE = "training.parquet"


class RuntimePredictor(BaseEstimator):
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
    refit_s : float
        Longest time until ``update`` refits the trees, seconds; infinity: it never does.
    target : {"time", "mem"}
        What is forecast. For ``"mem"`` it is the peak memory, and every "seconds" of a forecast
        is MiB; the requested memory is its limit; a job that died of its limit is censored.

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
        refit_s: float = REFIT_S,
        target: Target = "time",
    ) -> None:
        self.levels: tuple[float, ...] = tuple(levels)
        self.calibration_share = calibration_share
        self.cap_at_request = cap_at_request
        self.outcomes = tuple(outcomes)
        self.window = window
        self.decay = decay
        self.seed = seed
        self.trees = dict(trees or {})
        self.refit_s = float(refit_s)
        self.target: Target = target
        self._check_settings()
        self.history = History(window, decay)
        self.forecaster = self._new_forecaster(FeatureBuilder(window, decay))
        self.refused = 0
        self._running: dict[JobKey, Running] = {}
        self._training = Training.nothing()
        self._unnamed: Counter[int] = Counter()
        self.card: dict[str, Any] = {}

    def _check_settings(self) -> None:
        """Refuse settings that cannot be used; ``set_params`` may have changed any."""
        self.levels = check_levels(self.levels)
        check_target(self.target)
        if not self.refit_s > 0:
            raise ValueError(f"refit_s is {self.refit_s}; it must be above 0")
        if not 0 <= self.calibration_share < 1:
            raise ValueError(
                f"calibration_share is {self.calibration_share}; it must lie in [0, 1)"
            )
        unknown = [o for o in self.outcomes if o not in OUTCOMES]
        if unknown:
            raise ValueError(f"outcome {unknown[0]!r} is none of {', '.join(OUTCOMES)}")

    def _repr_html_(self) -> str:
        return card_html(self.card)

    def __sklearn_clone__(self) -> RuntimePredictor:
        """An untrained model with the same settings."""
        return type(self)(**self.get_params())

    @property
    def builder(self) -> FeatureBuilder:
        """What makes the features."""
        return self.forecaster.builder

    @property
    def correction(self) -> OnlineCorrection:
        """The mixture and its calibration."""
        return self.forecaster.correction

    @property
    def remaining(self) -> RemainingCorrection:
        """The calibration of remaining times."""
        return self.forecaster.remaining

    @property
    def grace_s(self) -> float:
        """How long after its request a job may run, seconds; infinity: it is not killed."""
        return self.forecaster.grace_s

    # -- learning ----------------------------------------------------------------------

    def fit(self, log: pd.DataFrame, y: None = None) -> RuntimePredictor:
        """Learn from a job log; what was learned before is forgotten.

        Parameters
        ----------
        log : DataFrame
            Any subset of the canonical columns and extra features.
        y : None
            Not used: run times are a column of the log. There for scikit-learn's tools.

        Raises
        ------
        BadLog
            Where the log has too few jobs with a run time.
        """
        self._check_settings()
        jobs, repaired, self.refused = plausible(canonical(log))
        jobs = as_target(jobs, self.target)
        usable = trainable(jobs, self.outcomes)
        split = split_by_share(jobs, 1 - self.calibration_share, self.calibration_share)
        train = split.train[usable[split.train]]
        held_out = split.calibration[usable[split.calibration]]
        if len(train) < MIN_TRAINING_ROWS:
            raise BadLog(
                f"the log has {len(train)} jobs to train on with a positive "
                f"{'run time' if self.target == 'time' else 'peak memory'}; "
                f"give at least {MIN_TRAINING_ROWS}"
            )
        builder = FeatureBuilder(self.window, self.decay).fit(jobs.iloc[train])
        self.forecaster = self._new_forecaster(builder)
        history = History(builder.window, builder.decay)
        questions = self.forecaster.questions(jobs, history)
        run, submit = (jobs[name].to_numpy(np.float64, copy=True) for name in ("run_s", "submit_s"))
        known, begun = known_at_s(jobs), begun_at_s(jobs)
        moment = split.calibration_from_s
        if not math.isfinite(moment):
            moment = float(np.nanmax(np.concatenate([known[np.isfinite(known)], submit])))
        if self.target == "time":
            watched = moment - begun[runs_at(jobs, usable, moment)]
        else:
            watched = lower_bounds(jobs, moment)
        self.forecaster.refit(past_of(questions, train, run, watched), moment, len(train), "first")
        metrics: dict[str, float] = {}
        if len(held_out):
            part = questions.part(held_out)
            logs = self.forecaster.logs(part)
            raw = np.exp(logs[:, 0])
            median = between_levels_or_middle(raw, self.levels)
            metrics = score(run[held_out], median, raw, self.levels)
            found = self._replayed(
                self.correction, jobs.iloc[held_out], part, submit[held_out], known[held_out]
            )
            if self.target == "time":
                self.remaining.replay(
                    found, run[held_out], begun[held_out], known[held_out], part.owners
                )
        ended = np.flatnonzero(usable & np.isfinite(known))[-TRAINING_ROWS:]
        self._training = Training.of(past_of(questions, ended, run, np.empty(0)))
        self._running = {}
        self.history = History(builder.window, builder.decay)
        self.history.see_log(jobs)
        # The next refit is counted from the end of this log, not of its training part.
        self.forecaster.schedule.fitted(self._latest(jobs), self._ended())
        self._unnamed = unnamed_rows(jobs)
        self.card = self._new_card(log, jobs, len(train), len(held_out), usable, metrics)
        self.card["counts"] |= {"repaired": repaired, "refused": self.refused}
        return self

    @classmethod
    def of_walk(cls, walk: Any) -> RuntimePredictor:
        """The model as a walk over a log left it: the last refit, and all that had ended.

        Parameters
        ----------
        walk : Walk
            From ``walk_forward``.
        """
        forecaster = walk.forecaster
        experts = forecaster.experts
        model = cls(
            forecaster.levels,
            seed=experts.seed,
            trees=experts.trees,
            refit_s=forecaster.schedule.refit_s,
        )
        model.forecaster = forecaster
        model.window, model.decay = model.builder.window, model.builder.decay
        model.history = History(model.builder.window, model.builder.decay)
        model.history.see_log(walk.jobs)
        model._unnamed = unnamed_rows(walk.jobs)
        model._training = Training.of(walk.training)
        usable = trainable(walk.jobs, model.outcomes)
        trained = walk.refits[-1][1]
        model.card = model._new_card(walk.jobs, walk.jobs, trained, 0, usable, {})
        model.card["counts"]["calibrated"] = forecaster.correction.settled
        model.card["counts"]["embargoed"] = 0
        return model

    def update(self, rows: pd.DataFrame) -> None:
        """Fold jobs into the history and the calibration at once; refit where that is due.

        Parameters
        ----------
        rows : DataFrame
            Canonical fields. Rows with an end are finished jobs; rows without one and with
            outcome ``unknown`` are jobs that wait or run (they need a ``job_id``; one with a
            start runs).

        Notes
        -----
        A job that was first noted as waiting is forecast then, and calibrates when it ends.
        One that is only noted at its end is forecast then as of its submission (what ended
        later is hidden from its features) and calibrates too. That replays the history, once
        for all such rows of a call: note jobs as they are submitted where updates must be
        fast. A job whose submission is unknown enters the history alone.

        Rows whose times contradict each other are repaired or refused (``refused`` counts
        them), see ``plausible``. A row without a ``job_id`` that is equal in every cell to one
        that is known already is that row again.

        The trees are refitted on the schedule of an evaluation: after ``refit_s``, when the
        number of ended jobs has grown by a quarter, or on drift.
        """
        jobs, _, refused = plausible(canonical(rows))
        self.refused += refused
        jobs = self._without_known(as_target(jobs, self.target))
        over = jobs["end_s"].notna().to_numpy() | (jobs["outcome"] != "unknown").to_numpy()
        unnoted = []
        for place, job in jobs[over].sort_values("end_s", kind="stable").iterrows():
            noted = self._running.pop((job["job_id"], job["submit_s"], job["user"]), None)
            if noted is None:
                unnoted.append(place)
                continue
            self.forecaster.ended(noted.number, job["run_s"])
            if trainable(jobs.loc[[place]], self.outcomes)[0]:
                self._training.add(noted.asked, job["run_s"])
        self._calibrate_late(jobs.loc[sorted(unnoted)])
        self.history.see_log(jobs[over])
        for job in jobs[~over].to_dict("records"):
            key = (job["job_id"], job["submit_s"], job["user"])
            noted = self._running.get(key)
            if noted is not None and job["start_s"] == job["start_s"]:
                noted.start_s = job["start_s"]
            elif noted is None and job["job_id"] and job["submit_s"] == job["submit_s"]:
                asked, forecast = self._issued(job, None)
                number = self.forecaster.submitted(forecast)
                self._running[key] = Running(number, asked, job["start_s"])
            self.history.see(job)
        self._refit_if_due(self._latest(jobs))

    def _without_known(self, jobs: pd.DataFrame) -> pd.DataFrame:
        """Leave out rows without a job_id that are known already, cell for cell."""
        found = unnamed_rows(jobs)
        new = found - self._unnamed
        if new == found:
            self._unnamed |= found
            return jobs
        left = Counter(new)
        keep = np.ones(len(jobs), bool)
        for place, row in unnamed_places(jobs):
            keep[place] = left[row] > 0
            left[row] -= 1
        self._unnamed |= found
        return jobs[keep].reset_index(drop=True)

    def _calibrate_late(self, ended: pd.DataFrame) -> None:
        """Learn from ended jobs that were never noted as waiting, before the history sees them."""
        new = trainable(ended, self.outcomes) & ended["end_s"].notna().to_numpy()
        new &= np.array([not self.history.has_ended(j) for j in ended.to_dict("records")], bool)
        again = ended.duplicated(["job_id", "submit_s", "user"]) & (ended["job_id"] != "")
        jobs = canonical(ended[new & ~again.to_numpy()])
        if not len(jobs) or self.forecaster.experts.regressor is None:
            return
        submit, run = (jobs[name].to_numpy(np.float64, copy=True) for name in ("submit_s", "run_s"))
        asked = self.forecaster.questions(jobs, self.history)
        known = known_at_s(jobs)
        found = self._replayed(self.correction, jobs, asked, submit, known)
        if self.target == "time":
            self.remaining.replay(found, run, begun_at_s(jobs), known, owners_of(jobs))
        for place in np.argsort(known, kind="stable"):
            self._training.add(asked.part(np.array([place])), float(run[place]))

    def _latest(self, jobs: pd.DataFrame) -> float:
        """The latest moment that rows tell of, seconds; -inf where they tell of none."""
        moments = jobs[["submit_s", "end_s"]].to_numpy(np.float64)
        moments = moments[np.isfinite(moments)]
        return float(moments.max()) if len(moments) else -math.inf

    def _ended(self) -> int:
        """Jobs with a run time that have ended."""
        return len(self.history) - self.history.excluded

    def _refit_if_due(self, now: float) -> None:
        if self.forecaster.experts.regressor is None:
            return
        ended = self._ended()
        why = self.forecaster.schedule.due(now, ended)
        if not why:
            return
        watched = [now - job.start_s for job in self._running.values() if job.start_s <= now]
        if self.target == "mem":
            watched = []
        past = self._training.past(np.array(watched, np.float64))
        if len(past.run_s) < MIN_TRAINING_ROWS:
            return
        self.forecaster.refit(past, now, ended, why)
        self.card |= {
            "experts": self.forecaster.experts.card(),
            "refits": [list(refit) for refit in self.forecaster.refits],
            **self._caps(),
        }
        self.card["counts"]["trained"] = self.forecaster.refits[-1][1]

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
        return seconds_of(self._issued(self._row(job), as_of_s)[1].logs)

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
        asked, forecast = self._issued(self._row(job), as_of_s)
        return self.remaining.quantiles(seconds_of(forecast.logs), elapsed_s, asked.owners[0])

    def predict_elapsed(
        self, jobs: pd.DataFrame, elapsed_s: Floats | None, as_of_s: Floats | float | None = None
    ) -> Floats:
        """Quantiles of whole run times given what has elapsed, seconds, shape (n, levels).

        Parameters
        ----------
        jobs, as_of_s
            As of ``predict_quantiles``.
        elapsed_s : array of float, shape (n,), optional
            How long each job has run, seconds; 0: it waits.

        Notes
        -----
        Of a running job the elapsed time and its calibrated ``remaining_quantiles``, which
        leaves every quantile above what has elapsed.
        """
        quantiles = self.predict_quantiles(jobs, as_of_s=as_of_s)
        if elapsed_s is None or not (elapsed_s > 0).any():
            return quantiles
        rows = (clean_row(job) for job in jobs.to_dict("records"))
        owners = [owner_of(row["user"], row["queue"]) for row in rows]
        for place in np.flatnonzero(elapsed_s > 0).tolist():
            elapsed = float(elapsed_s[place])
            left = self.remaining.quantiles(quantiles[place], elapsed, owners[place])
            quantiles[place] = elapsed + np.maximum(np.maximum.accumulate(left), 1.0)
        return quantiles

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
        if target.exists() and not (target / CARD_FILE).is_file() and not is_empty(target):
            raise BadModel(f"{target} exists and is no model folder; name another folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            files = [*regressor.save(fresh), _HISTORY_FILE, _CORRECTION_FILE, _REMAINING_FILE]
            files.append(_TRAINING_FILE)
            self._training.frame(self.builder.names).to_parquet(
                fresh / _TRAINING_FILE, index=False, compression="zstd"
            )
            self.history.frame().to_parquet(fresh / _HISTORY_FILE, index=False)
            self.correction.frame().to_parquet(fresh / _CORRECTION_FILE, index=False)
            self.remaining.frame().to_parquet(fresh / _REMAINING_FILE, index=False)
            card = {
                **self.card,
                "correction": self.correction.card(),
                "schedule": self._schedule_card(),
                "files": {n: sha256_of(fresh / n) for n in files},
            }
            card["card_sha256"] = digest_of_card(card)
            text = json.dumps(card, indent=1, allow_nan=False)
            (fresh / CARD_FILE).write_text(text + "\n", encoding="utf-8")
            fresh.chmod(0o755)
            put_in_place(fresh, target)
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
        card = read_card(source)
        for name, digest in card["files"].items():
            if not (source / name).is_file():
                raise BadModel(f"{source}: {name} is missing; train the model again")
            if sha256_of(source / name) != digest:
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
                refit_s=math.inf if settings["refit_s"] is None else settings["refit_s"],
                target=settings.get("target", "time"),
            )
            model.forecaster = model._new_forecaster(FeatureBuilder.from_card(card["builder"]))
            model.window, model.decay = model.builder.window, model.builder.decay
            forecaster = model.forecaster
            forecaster.experts.regressor = QuantileGBM.load(source)
            forecaster.experts.spreads = np.array(card["experts"]["spreads"], dtype=np.float64)
            forecaster.correction = OnlineCorrection.from_card(card["correction"])
            forecaster.schedule.take(card["schedule"])
            forecaster.refits = [(a, b, c) for a, b, c in card["refits"]]
            model.correction.take(pd.read_parquet(source / _CORRECTION_FILE))
            model.remaining.take(pd.read_parquet(source / _REMAINING_FILE))
            grace = card["kill_grace_s"]
            forecaster.grace_s = math.inf if grace is None else float(grace)
            forecaster.queue_limits_s = {
                str(q): float(v) for q, v in card["queue_limits_s"].items()
            }
            if card["features"] != model.builder.names:
                raise BadModel(
                    f"{source}: card.json names features that this version does not build; "
                    "train the model again"
                )
            model.history = History(model.builder.window, model.builder.decay)
            model.history.see_log(pd.read_parquet(source / _HISTORY_FILE))
            model._unnamed = unnamed_rows(model.history.frame())
            model._training = Training.from_frame(
                pd.read_parquet(source / _TRAINING_FILE), model.builder.names
            )
        except BadModel:
            raise
        except Exception as error:
            raise BadModel(
                f"{source}: card.json does not fit the files ({type(error).__name__}: {error}); "
                "train the model again"
            ) from error
        model.card = {
            k: v for k, v in card.items() if k not in ("files", "card_sha256", "schedule")
        }
        return model

    # -- inner workings ----------------------------------------------------------------

    def _new_forecaster(self, builder: FeatureBuilder) -> OnlineForecaster:
        return OnlineForecaster(
            self.levels,
            builder,
            refit_s=self.refit_s,
            seed=self.seed,
            trees=self.trees,
            cap=self.cap_at_request,
            remain=self.target == "time",
            calibrate=self.calibration_share > 0,
        )

    def _fitted(self) -> QuantileGBM:
        if self.forecaster.experts.regressor is None:
            raise BadModel("the model has learned nothing yet; call fit or load first")
        return self.forecaster.experts.regressor

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
        jobs = as_target(jobs, self.target)
        result = np.empty((len(jobs), len(self.levels)))
        if len(jobs):
            asked = self.forecaster.questions(jobs, self.history, as_of, see_ends=see_ends)
            moments = jobs["submit_s"].to_numpy(np.float64) if as_of is None else as_of
            known = known_at_s(jobs) if see_ends else np.full(len(jobs), np.inf)
            # The replay asks in order of the moments, and learns on a copy.
            turn = np.argsort(moments, kind="stable")
            result[order[turn]] = self._replayed(
                self.correction.copy(),
                jobs.iloc[turn],
                asked.part(turn),
                moments[turn],
                known[turn],
            )
        return (
            result if levels is None else between_levels(result, self.levels, check_levels(levels))
        )

    def _replayed(
        self,
        correction: OnlineCorrection,
        jobs: pd.DataFrame,
        asked: Questions,
        issue_s: Floats,
        known_s: Floats,
    ) -> Floats:
        """Quantiles of jobs in the order of their forecasts, seconds; `correction` learns."""
        usable = trainable(jobs, self.outcomes)
        run = jobs["run_s"].to_numpy(np.float64)
        return seconds_of(
            self.forecaster.replay(
                asked,
                self.forecaster.logs(asked),
                self.forecaster.limits(asked),
                np.where(usable, np.log(np.where(usable, run, 1.0)), np.nan),
                issue_s,
                np.where(usable | np.isinf(known_s), known_s, np.nan),
                correction,
            )
        )

    def _row(self, job: Mapping[str, Any]) -> dict[str, Any]:
        return row_as_target(clean_row(job), self.target)

    def _issued(self, job: Mapping[str, Any], as_of_s: float | None) -> tuple[Questions, Forecast]:
        """One clean row as it is asked about, and its forecast."""
        asked = self.forecaster.question(job, self.history, as_of_s)
        return asked, self.forecaster.issue(asked)

    def _caps(self) -> dict[str, Any]:
        return {
            "kill_grace_s": self.grace_s if math.isfinite(self.grace_s) else None,
            "queue_limits_s": self.forecaster.queue_limits_s,
        }

    def _schedule_card(self) -> dict[str, float]:
        return self.forecaster.schedule.card()

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
                "refit_s": self.refit_s if math.isfinite(self.refit_s) else None,
                "target": self.target,
            },
            "features": self.builder.names,
            "builder": self.builder.card(),
            "experts": self.forecaster.experts.card(),
            "refits": [list(refit) for refit in self.forecaster.refits],
            "correction": self.correction.card(),
            **self._caps(),
            "training_window_s": [float(submit[0]), float(submit[-1])],
            "data": {
                "rows": len(jobs),
                "submitted_from_s": float(submit[0]),
                "submitted_until_s": float(submit[-1]),
                "sha256": data_digest(jobs),
                "attrs": plain(dict(log.attrs)),
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
            "known_weaknesses": weaknesses(jobs, usable, self.grace_s),
            "versions": versions(),
        }


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
    numbered = frame.assign(num_place=np.arange(len(frame), dtype=np.float64))
    jobs = finite_requests(canonical(numbered))
    order = np.array(jobs["num_place"], dtype=np.int64)
    jobs = jobs.drop(columns="num_place")
    unknown = np.flatnonzero(jobs["submit_s"].isna().to_numpy())
    if len(unknown):
        raise BadLog(
            f"row {order[unknown[0]] + 1}: submit_s is unknown; fill it in or give as_of_s"
        )
    return jobs, None if as_of is None else as_of[order], order
