"""The run-time model: history, features, quantiles and their correction behind one face."""

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

from predictor.calibrate import ConformalShift
from predictor.features import FeatureBuilder
from predictor.history import Floats, History
from predictor.metrics import score
from predictor.quantile import LEVELS, QuantileGBM, between_levels, check_levels
from predictor.schema import COLUMNS, OUTCOMES, BadLog, canonical, extra_columns
from predictor.splits import split_by_share

FORMAT = 1
"""Version of the model folder; a folder of another one is refused."""

MIN_TRAINING_ROWS = 20
"""Fewer jobs with a run time than this teach nothing."""

_HISTORY_FILE = "history.parquet"
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
        Share of the log, at its end, that is kept from the trees to calibrate them.
    cap_at_request : bool
        Whether no quantile exceeds the requested time, where jobs are killed at it.
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
    The trees learn ``log(run time) - anchor`` (see ``FeatureBuilder``). Cohorts of the
    conformal correction: ``new`` (a user of whom no job has ended) and ``known``.
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
        self.calibration = ConformalShift(self.levels)
        self.regressor: QuantileGBM | None = None
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
        matrix = self.builder.transform(jobs)
        run = jobs["run_s"].to_numpy(dtype=np.float64)
        self.regressor = QuantileGBM(
            levels=self.levels,
            categorical=self.builder.categorical,
            random_state=self.seed,
            **self.trees,
        ).fit(matrix[train], run[train] / np.exp(self.builder.anchor(matrix[train])))

        self.calibration = ConformalShift(self.levels)
        metrics: dict[str, float] = {}
        if len(held_out):
            raw = self._uncorrected(matrix[held_out])
            median = between_levels_or_middle(raw, self.levels)
            metrics = score(run[held_out], median, raw, self.levels)
            self.calibration.fit(raw, run[held_out], self._cohorts(matrix[held_out]))

        self.history = History(self.builder.window, self.builder.decay)
        self.history.see_log(jobs)
        self.card = self._new_card(log, jobs, len(train), len(held_out), usable, metrics)
        return self

    def update(self, rows: pd.DataFrame) -> None:
        """Fold jobs into the history at once; the trees stay as they are.

        Parameters
        ----------
        rows : DataFrame
            Canonical fields. Rows with an end are finished jobs; rows without one and with
            outcome ``unknown`` are jobs that wait or run (they need a ``job_id``).
        """
        self.history.see_log(canonical(rows))

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
        matrix = self.builder.row(job, self.history, as_of_s)
        value = job.get("requested_s")
        requested = np.array([math.nan if value is None else value], dtype=np.float64)
        return self._quantiles(matrix, requested)[0]

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
            files = regressor.save(fresh)
            self.history.frame().to_parquet(fresh / _HISTORY_FILE, index=False)
            card = {
                **self.card,
                "files": {n: _sha256_of(fresh / n) for n in (*files, _HISTORY_FILE)},
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
            model.calibration = ConformalShift.from_card(model.levels, card["calibration"])
            model.regressor = QuantileGBM.load(source)
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
        if self.regressor is None:
            raise BadModel("the model has learned nothing yet; call fit or load first")
        return self.regressor

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
            result[order] = self._quantiles(matrix, jobs["requested_s"].to_numpy(np.float64))
        return (
            result if levels is None else between_levels(result, self.levels, check_levels(levels))
        )

    def _quantiles(self, matrix: Floats, requested: Floats) -> Floats:
        seconds = self.calibration.correct(self._uncorrected(matrix), self._cohorts(matrix))
        if self.cap_at_request:
            limit = np.where(requested > 0, requested, np.inf)
            seconds = np.minimum(seconds, limit[:, None])
        return np.asarray(np.maximum(seconds, 1.0), dtype=np.float64)

    def _uncorrected(self, matrix: Floats) -> Floats:
        log_ratio = self._fitted().raw_of(matrix)
        return np.asarray(
            np.exp(log_ratio + self.builder.anchor(matrix)[:, None]), dtype=np.float64
        )

    def _cohorts(self, matrix: Floats) -> list[str]:
        ended = matrix[:, self.builder.names.index("user_count")]
        return ["new" if count == 0 else "known" for count in ended]

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
            "calibration": self.calibration.card(),
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
            "versions": _versions(),
        }


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
