"""The run-time model: history, features, experts and their correction behind one face."""

from __future__ import annotations

import math
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
from plancast.predictor.frames import frame_of
from plancast.predictor.metrics import score
from plancast.predictor.model_card import card_html, card_of_log
from plancast.predictor.model_files import FORMAT, BadModel, checked_card, write_folder
from plancast.predictor.quantile import LEVELS, QuantileGBM, check_levels
from plancast.predictor.rows import (
    asked_row,
    clean_row,
    in_submission_order,
    plausible,
    seconds_of_jobs,
)
from plancast.predictor.schema import OUTCOMES, canonical
from plancast.predictor.splits import known_at_s
from plancast.predictor.state.experts import TRAINING_ROWS, owner_of
from plancast.predictor.state.features import FeatureBuilder
from plancast.predictor.state.history import Floats, History
from plancast.predictor.state.keys import JobKey
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
    UnnamedRows,
    begun_at_s,
    latest_s,
    past_of,
    runs_at,
    split_to_train,
    trainable,
)

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
        self._unnamed = UnnamedRows()
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

    # -- learning ----------------------------------------------------------------------

    def fit(self, log: Any, y: None = None) -> RuntimePredictor:
        """Learn from a job log; what was learned before is forgotten.

        Parameters
        ----------
        log : DataFrame, or what ``frame_of`` takes
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
        what = "run time" if self.target == "time" else "peak memory"
        train, held_out, moment = split_to_train(jobs, usable, self.calibration_share, what)
        builder = FeatureBuilder(self.window, self.decay).fit(jobs.iloc[train])
        self.forecaster = self._new_forecaster(builder)
        history = builder.new_history()
        questions = self.forecaster.questions(jobs, history)
        run, known = jobs["run_s"].to_numpy(np.float64, copy=True), known_at_s(jobs)
        if not math.isfinite(moment):
            submit = jobs["submit_s"].to_numpy(np.float64)
            moment = float(np.nanmax(np.concatenate([known[np.isfinite(known)], submit])))
        if self.target == "time":
            watched = moment - begun_at_s(jobs)[runs_at(jobs, usable, moment)]
        else:
            watched = lower_bounds(jobs, moment)
        self.forecaster.refit(past_of(questions, train, run, watched), moment, len(train), "first")
        metrics: dict[str, float] = {}
        if len(held_out):
            part = questions.part(held_out)
            raw = np.exp(self.forecaster.logs(part)[:, 0])
            median = between_levels_or_middle(raw, self.levels)
            metrics = score(run[held_out], median, raw, self.levels)
            self._calibrate(jobs.iloc[held_out], part)
        ended = np.flatnonzero(usable & np.isfinite(known))[-TRAINING_ROWS:]
        self._remember(jobs, Training.of(past_of(questions, ended, run, np.empty(0))))
        # The next refit is counted from the end of this log, not of its training part.
        self.forecaster.schedule.fitted(latest_s(jobs), self._ended())
        self.card = self._new_card(jobs, usable, metrics)
        self.card["counts"] |= {
            "trained": len(train),
            "calibrated": len(held_out),
            "embargoed": int(usable.sum()) - len(train) - len(held_out),
            "repaired": repaired,
            "refused": self.refused,
        }
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
        model._remember(walk.jobs, Training.of(walk.training))
        usable = trainable(walk.jobs, model.outcomes)
        model.card = model._new_card(walk.jobs, usable, {})
        model.card["counts"] |= {
            "trained": walk.refits[-1][1],
            "calibrated": forecaster.correction.settled,
            "embargoed": 0,
        }
        return model

    def _remember(self, jobs: pd.DataFrame, training: Training) -> None:
        """Know these jobs, canonical, and no others; and what the next refit trains on."""
        self.window, self.decay = self.builder.window, self.builder.decay
        self.history = self.builder.new_history()
        self.history.see_log(jobs)
        self._unnamed, self._training, self._running = UnnamedRows(jobs), training, {}

    def update(self, rows: Any) -> None:
        """Fold jobs into the history and the calibration at once; refit where that is due.

        Parameters
        ----------
        rows : DataFrame, or what ``frame_of`` takes
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
        jobs = self._unnamed.without_known(as_target(jobs, self.target))
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
        self._refit_if_due(latest_s(jobs))

    def _calibrate_late(self, ended: pd.DataFrame) -> None:
        """Learn from ended jobs that were never noted as waiting, before the history sees them."""
        new = trainable(ended, self.outcomes) & ended["end_s"].notna().to_numpy()
        new &= np.array([not self.history.has_ended(j) for j in ended.to_dict("records")], bool)
        again = ended.duplicated(["job_id", "submit_s", "user"]) & (ended["job_id"] != "")
        jobs = canonical(ended[new & ~again.to_numpy()])
        if not len(jobs) or self.forecaster.experts.regressor is None:
            return
        asked = self.forecaster.questions(jobs, self.history)
        self._calibrate(jobs, asked)
        run = jobs["run_s"].to_numpy(np.float64)
        for place in np.argsort(known_at_s(jobs), kind="stable"):
            self._training.add(asked.part(np.array([place])), float(run[place]))

    def _calibrate(self, jobs: pd.DataFrame, asked: Questions) -> None:
        """Forecast ended jobs as of their submissions, and learn from what they ran."""
        submit, run = (jobs[name].to_numpy(np.float64, copy=True) for name in ("submit_s", "run_s"))
        known = known_at_s(jobs)
        usable = np.where(trainable(jobs, self.outcomes), run, np.nan)
        found = self.forecaster.replay_jobs(asked, usable, submit, known)
        if self.target == "time":
            self.forecaster.remaining.replay(found, run, begun_at_s(jobs), known, asked.owners)

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
        if len(past.run_s) < FIRST_ROWS:
            return
        self.forecaster.refit(past, now, ended, why)
        self.card |= self.forecaster.card()
        self.card["counts"]["trained"] = self.forecaster.refits[-1][1]

    # -- forecasting -------------------------------------------------------------------

    def predict(self, jobs: Any, as_of_s: Any = None) -> Floats:
        """Median run time of each job, seconds, shape (n,), in the order of `jobs`.

        Where 0.5 lies outside the levels, the level nearest to it is given.
        """
        return between_levels_or_middle(self.predict_quantiles(jobs, None, as_of_s), self.levels)

    def predict_quantiles(
        self,
        jobs: Any,
        levels: Sequence[float] | float | None = None,
        as_of_s: Any = None,
    ) -> Floats:
        """Quantiles of the run time of jobs that have not ended.

        Parameters
        ----------
        jobs : DataFrame, or what ``frame_of`` takes
            Canonical fields; everything that is known only after submission is ignored.
        levels : sequence of float or float, optional
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
        self, log: Any, as_of_s: Any = None, levels: Sequence[float] | None = None
    ) -> Floats:
        """Replay a log: each job's quantiles with what had ended by then, its own jobs included.

        The arguments and the result are those of ``predict_quantiles``. Neither the model nor
        its history changes.
        """
        return self._forecast(log, levels, as_of_s, see_ends=True)

    def predict_row(self, job: Any, as_of_s: Any = None) -> Floats:
        """Quantiles of one job, seconds, shape (levels,): the fast way online.

        Parameters
        ----------
        job : mapping, or a Series, list or frame of one row
            Canonical fields.
        as_of_s : float, optional
            Only what had ended by then is known; the job's ``submit_s`` by default.

        Notes
        -----
        Equal bit for bit to ``predict_quantiles`` where the history knows the user's other
        jobs that wait or run.
        """
        return seconds_of(self._forecast_of(job, as_of_s).logs)

    def remaining_quantiles(self, job: Any, elapsed_s: float, as_of_s: Any = None) -> Floats:
        """Quantiles of the time that a running job still needs, seconds, shape (levels,).

        Parameters
        ----------
        job, as_of_s
            As of ``predict_row``.
        elapsed_s : float
            How long it has run, seconds.

        Notes
        -----
        See ``RemainingCorrection``.
        """
        known = self._forecast_of(job, as_of_s)
        elapsed = float(seconds_of_jobs(elapsed_s, "elapsed_s", 1)[0])
        return self.forecaster.remaining.quantiles(seconds_of(known.logs), elapsed, known.owner)

    def predict_elapsed(self, jobs: Any, elapsed_s: Any = None, as_of_s: Any = None) -> Floats:
        """Quantiles of whole run times given what has elapsed, seconds, shape (n, levels).

        Parameters
        ----------
        jobs, as_of_s
            As of ``predict_quantiles``.
        elapsed_s : float or array of shape (n,), optional
            How long each job has run, seconds; 0: it waits.

        Notes
        -----
        Of a running job the elapsed time and its calibrated ``remaining_quantiles``, which
        leaves every quantile above what has elapsed.
        """
        jobs = frame_of(jobs, "the jobs")
        quantiles = self.predict_quantiles(jobs, as_of_s=as_of_s)
        elapsed_s = seconds_of_jobs(0 if elapsed_s is None else elapsed_s, "elapsed_s", len(jobs))
        if not (elapsed_s > 0).any():
            return quantiles
        rows = (clean_row(job) for job in jobs.to_dict("records"))
        owners = [owner_of(row["user"], row["queue"]) for row in rows]
        for i in np.flatnonzero(elapsed_s > 0).tolist():
            left = self.forecaster.remaining.quantiles(quantiles[i], float(elapsed_s[i]), owners[i])
            quantiles[i] = elapsed_s[i] + np.maximum(np.maximum.accumulate(left), 1.0)
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
        frames = {
            _TRAINING_FILE: self._training.frame(self.builder.names),
            _HISTORY_FILE: self.history.frame(),
            _CORRECTION_FILE: self.forecaster.correction.frame(),
            _REMAINING_FILE: self.forecaster.remaining.frame(),
        }
        card = {**self.card, **self.forecaster.card()}
        return write_folder(Path(folder), card, self._fitted().save, frames)

    @classmethod
    def load(cls, folder: str | Path) -> RuntimePredictor:
        """The model that ``save`` wrote; its forecasts are equal bit for bit.

        Raises
        ------
        BadModel
            Where a file is missing, damaged or of another version.
        """
        source = Path(folder)
        card = checked_card(source)
        try:
            settings = dict(card["settings"])
            if settings["refit_s"] is None:
                settings["refit_s"] = math.inf
            model = cls(card["levels"], **settings)
            model.forecaster = model._new_forecaster(FeatureBuilder.from_card(card["builder"]))
            model.forecaster.take(
                card,
                QuantileGBM.load(source),
                pd.read_parquet(source / _CORRECTION_FILE),
                pd.read_parquet(source / _REMAINING_FILE),
            )
            if card["features"] != model.builder.names:
                raise BadModel(
                    f"{source}: card.json names features that this version does not build; "
                    "train the model again"
                )
            training = pd.read_parquet(source / _TRAINING_FILE)
            model._remember(
                pd.read_parquet(source / _HISTORY_FILE),
                Training.from_frame(training, model.builder.names),
            )
        except BadModel:
            raise
        except Exception as error:
            raise BadModel(
                f"{source}: card.json does not fit the files ({type(error).__name__}: {error}); "
                "train the model again"
            ) from error
        model.card = {k: v for k, v in card.items() if k not in ("files", "card_sha256")}
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

    def _forecast(self, frame: Any, levels: Any, as_of_s: Any, *, see_ends: bool) -> Floats:
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
            result[order[turn]] = self.forecaster.replay_jobs(
                asked.part(turn),
                np.where(trainable(jobs, self.outcomes), jobs["run_s"], np.nan)[turn],
                moments[turn],
                known[turn],
                self.forecaster.correction.copy(),
            )
        return (
            result if levels is None else between_levels(result, self.levels, check_levels(levels))
        )

    def _forecast_of(self, job: Any, as_of_s: Any) -> Forecast:
        """The forecast of one job."""
        self._fitted()
        row, as_of = asked_row(job, as_of_s)
        return self._issued(row_as_target(row, self.target), as_of)[1]

    def _issued(self, job: Mapping[str, Any], as_of_s: float | None) -> tuple[Questions, Forecast]:
        """One clean row as it is asked about, and its forecast."""
        asked = self.forecaster.question(job, self.history, as_of_s)
        return asked, self.forecaster.issue(asked)

    def _new_card(
        self, jobs: pd.DataFrame, usable: NDArray[np.bool_], metrics: dict[str, float]
    ) -> dict[str, Any]:
        settings = self.get_params()
        settings["outcomes"] = list(self.outcomes)
        settings["refit_s"] = self.refit_s if math.isfinite(self.refit_s) else None
        # The builder's card has the window and the decay.
        for name in ("levels", "window", "decay"):
            del settings[name]
        return {
            "format": FORMAT,
            "name": self.name,
            "levels": list(self.levels),
            "settings": settings,
            **self.forecaster.card(),
            **card_of_log(jobs, jobs.attrs, usable, self.history, self.forecaster.grace_s),
            "metrics_before_correction": metrics,
        }
