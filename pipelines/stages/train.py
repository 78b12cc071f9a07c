"""Stage 2: train on the earlier part of a log, judge every estimator on the later."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.inputs.config import Config
from plancast.pipelines.inputs.foreign import nearest
from plancast.pipelines.stages.stage import main, read_facts, write_facts
from plancast.planner.model.domain import BadRequest
from plancast.predictor import ESTIMATORS, QuantileGBM, RuntimePredictor, split_by_share
from plancast.predictor.logs.table import read_jobs
from plancast.predictor.metrics import score
from plancast.predictor.model_files import data_digest

Progress = Callable[[str], None]


def untrained(levels: Sequence[float], seed: int, settings: Mapping[str, Any]) -> RuntimePredictor:
    """A model with settings from a parameter file (``window``, ``decay``, ``trees``).

    Raises
    ------
    BadRequest
        Where a parameter of the trees has another name, or is not theirs to set.
    """
    allowed = set(QuantileGBM().get_params()) - {"levels", "categorical", "random_state"}
    for name in settings.get("trees", {}):
        if name not in allowed:
            raise BadRequest(f"train.trees: {name!r} is no parameter; {nearest(name, allowed)}")
    return RuntimePredictor(levels, seed=seed, **settings)


def train_model(
    jobs: Any,
    folder: str | Path,
    *,
    levels: Sequence[float],
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> RuntimePredictor:
    """Fit a model on a canonical log and save it.

    Parameters
    ----------
    jobs : DataFrame
    folder : path-like
        Replaced whole once the new model stands.
    levels : sequence of float
        Quantile levels.
    seed : int
    settings : mapping, optional
        As for ``untrained``.
    """
    plain = jobs.copy(deep=False)
    # The graph of a workflow is as large as its log: no fact for the card.
    plain.attrs = {key: value for key, value in jobs.attrs.items() if key != "parents"}
    model = untrained(levels, seed, settings or {}).fit(plain)
    model.save(folder)
    return model


def split_of(config: Config, jobs: Any) -> tuple[Any, Any]:
    """The training rows (all ended when the test begins) and the test stretch of a log."""
    split = split_by_share(jobs, config.train.share)
    return jobs.iloc[split.train].reset_index(drop=True), jobs.iloc[split.test].reset_index(
        drop=True
    )


def judge(
    estimators: dict[str, Any], test: Any, levels: Sequence[float],
    progress: Progress | None = None, forecasts: dict[str, Any] | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Forecast every job of a stretch with what had ended by its submission, and score it.

    Parameters
    ----------
    estimators : dict of str to estimator
        Fitted.
    test : DataFrame
        Canonical; jobs without a run time are replayed but not scored.
    levels : sequence of float
    progress : callable, optional
        Called with the name of each estimator before its turn.
    forecasts : dict, optional
        Takes up each estimator's median of every job that ran, seconds, and each of the model's
        quantiles, as ``model_p90``.

    Returns
    -------
    dict
        Estimator to the metrics of ``plancast.predictor.metrics.score``, and ``forecast_s``.
    """
    ran = (test["run_s"] > 0).to_numpy()
    truth = test["run_s"].to_numpy()[ran]
    asked = sorted({*levels, 0.5})
    result = {}
    for name, estimator in estimators.items():
        if progress is not None:
            progress(name)
        began = time.perf_counter()
        quantiles = estimator.forecast_log(test, levels=asked)
        seconds = time.perf_counter() - began
        found = quantiles[ran]
        median = found[:, asked.index(0.5)]
        wanted = found[:, [asked.index(level) for level in levels]]
        result[name] = score(truth, median, wanted, levels)
        result[name]["forecast_s"] = seconds
        if forecasts is not None:
            forecasts[name] = median
            if name == "model":
                forecasts |= {f"model_p{100 * q:g}": wanted[:, k] for k, q in enumerate(levels)}
    return result


MODEL_METRICS = 30
"""Of the model in the pipeline's run; the other estimators' stand in its child runs."""
SHOWN = ("submit_s", "user", "queue", "cpus", "gpus", "run_s")
"""Columns of the log that the report groups errors by."""


def write_forecasts(test: Any, forecasts: Mapping[str, Any], path: Path) -> None:
    """A row for each job of the test stretch that ran: what it was, took, and was forecast."""
    ran = test.loc[(test["run_s"] > 0).to_numpy(), list(SHOWN)].reset_index(drop=True)
    ran.attrs = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    ran.assign(**forecasts).to_parquet(part, index=False)
    part.replace(path)


def run(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """Train the configured model, judge it beside every other estimator, log and register it."""
    from plancast.pipelines.tracking import mlflow_runs as tracking

    paths = config.paths
    jobs = read_jobs(paths.jobs)
    train, test = split_of(config, jobs)
    train.attrs = jobs.attrs
    levels = config.train.levels
    began = time.perf_counter()
    model = train_model(
        train, paths.model, levels=levels, seed=config.seed, settings=config.train.settings
    )
    fit_s = time.perf_counter() - began

    estimators: dict[str, Any] = {"model": model}
    for name, make in ESTIMATORS.items():
        if name != "model":
            if progress is not None:
                progress(f"fit {name}")
            estimators[name] = make(levels).fit(train)
    forecasts: dict[str, Any] = {}
    metrics = judge(estimators, test, levels, progress, forecasts)
    write_forecasts(test, forecasts, paths.forecasts)
    metrics["model"]["fit_s"] = fit_s
    facts = {
        "train_jobs": len(train),
        "test_jobs": len(test),
        "scored_jobs": int((test["run_s"] > 0).sum()),
        "test_from_s": float(test["submit_s"].iloc[0]),
        "levels": list(levels),
        "card": model.card,
        "estimators": metrics,
    }
    run_id = read_facts(paths.ingest_facts)["mlflow_run"]
    with tracking.continued(run_id):
        dataset = tracking.dataset_of(
            test, f"{config.name}-test", data_digest(test)[:12], str(paths.jobs)
        )
        model_id = tracking.log_model(paths.model, "runtime", tracking.input_types(jobs), levels)
        finite = {k: v for k, v in metrics["model"].items() if np.isfinite(v)}
        found = {f"forecast/model/{k}": v for k, v in list(finite.items())[:MODEL_METRICS]}
        tracking.log_metrics(found, model_id=model_id, dataset=dataset)
        tracking.register(config.name, model_id)
    facts["model_id"] = model_id
    write_facts(paths.train_facts, facts)
    return facts


if __name__ == "__main__":
    main(run)
