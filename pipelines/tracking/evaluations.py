"""Evaluations of forecasts kept in MLflow, with the model as it stands at the log's end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from plancast.pipelines.inputs.config import name_of_log
from plancast.pipelines.tracking.decades import error_by_decade
from plancast.pipelines.tracking.headline import MOST_METRICS, at_most, forecast_headline
from plancast.pipelines.tracking.importances import importances_of
from plancast.pipelines.tracking.metrics import TABLES, figures_of, flat, rows_of
from plancast.pipelines.tracking.mlflow_runs import (
    JobLog,
    dataset_of,
    input_types,
    log_figures,
    log_json,
    log_metrics,
    log_model,
    log_rows,
    new_run,
    register,
)
from plancast.predictor import RuntimePredictor, Walk
from plancast.predictor.model_files import data_digest


@dataclass(frozen=True)
class Logged:
    """Where an evaluation stands in MLflow.

    Parameters
    ----------
    run_id : str
    model_id : str, optional
        Of the logged model.
    version : str, optional
        Of the registered model.
    champion : str, optional
        The version that bears the alias ``champion`` now.
    """

    run_id: str
    model_id: str | None = None
    version: str | None = None
    champion: str | None = None


def track_evaluation(
    report: Mapping[str, Any], walk: Walk, parameters: Mapping[str, Any]
) -> Logged:
    """Log what ``evaluate_file`` found: metrics, figures, data set, model, aliases.

    Parameters
    ----------
    report : mapping
        With ``log`` and ``estimators``.
    walk : Walk
        The forecasts that were scored; its last experts become the registered challenger.
    parameters : mapping
        How it was evaluated: levels, refit, seed.
    """
    run = walk.jobs["run_s"].to_numpy(dtype=np.float64)
    rows = np.flatnonzero((run > 0) & (np.arange(len(run)) >= walk.begin))
    median = walk.quantiles_s[rows, walk.levels.index(0.5)]
    with TemporaryDirectory() as scratch:
        folder = RuntimePredictor.of_walk(walk).save(Path(scratch) / "runtime")
        return log_evaluation(
            report,
            name_of_log(report["log"]),
            parameters=parameters,
            model=folder,
            jobs=walk.jobs,
            decades=error_by_decade(run[rows], {"model": median}),
        )


def log_evaluation(
    result: Mapping[str, Any],
    name: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    model: Path | None = None,
    jobs: Any = None,
    decades: Mapping[str, Mapping[int, float]] | None = None,
    importances: Mapping[str, float] | None = None,
) -> Logged:
    """A run for an evaluation of forecasts: metrics, figures, data set, model and its aliases.

    Parameters
    ----------
    result : mapping
        What ``plancast evaluate --json`` prints. Numbers become metrics ``ESTIMATOR/NAME``;
        tables (``by_month``, ``by_decile``: a mapping or a list of mappings) become metrics
        ``ESTIMATOR/by_month/NAME`` with the row's number as step; ``cold_start`` stands apart.
    name : str
        Of the log; names the run and the registered model.
    parameters : mapping, optional
        How it was evaluated.
    model : Path, optional
        Folder of the last refitted model; logged with its signature and registered. It gets
        the alias ``challenger``, and ``champion`` where nobody bears it. An evaluation of
        forecasts never moves ``champion``: that takes the quality of plans.
    jobs : DataFrame, optional
        The evaluated log, canonical; the run names it with its digest, the metrics refer to
        it. Needed with `model`, whose signature has its columns.
    decades : mapping, optional
        What ``plancast.pipelines.tracking.decades.error_by_decade`` returns, for the figure.
    importances : mapping, optional
        What ``plancast.pipelines.tracking.importances`` tells, for the figure; of `model` where not
        given.
    """
    estimators: Mapping[str, Mapping[str, Any]] = result["estimators"]
    said = {key: str(value) for key, value in (parameters or {}).items()}
    tags = {"kind": "evaluate", "log": name}
    digest = "" if jobs is None else data_digest(jobs)
    if digest:
        tags["data_digest"] = digest
    with new_run(f"evaluate {name}", tags, said) as run_id:
        dataset = None
        if jobs is not None:
            dataset = dataset_of(jobs, name, digest[:12], jobs.attrs.get("source", name))
        counts = flat({k: result[k] for k in ("jobs", "evaluated", "censored") if k in result}, "")
        log_metrics(at_most(counts), dataset=dataset)
        model_id = None
        if model is not None:
            model_id = log_model(model, "runtime", input_types(jobs), levels_of(model))
        for estimator, metrics in estimators.items():
            mine = model_id if estimator == "model" else None
            if mine is not None or len(estimators) == 1:
                log_metrics(forecast_headline(metrics), model_id=mine, dataset=dataset)
            _log_estimator(name, estimator, metrics, dataset, mine)
        if importances is None and model is not None:
            importances = importances_of(model)
        log_figures(figures_of(estimators, decades, importances))
        log_json(result, "evaluation.json")
        version, champion = (None, None) if model_id is None else register(name, model_id)
        return Logged(run_id, model_id, version, champion)


def _log_estimator(
    log: str, name: str, metrics: Mapping[str, Any], dataset: JobLog | None, model_id: str | None
) -> None:
    """A child run for an estimator: its five figures' share first, months and deciles as steps."""
    plain = {key: value for key, value in metrics.items() if key not in (*TABLES, "cold_start")}
    numbers = at_most(forecast_headline(metrics) | flat(plain, ""))
    with new_run(name, {"kind": "estimator", "log": log, "estimator": name}, nested=True):
        log_metrics(numbers, model_id=model_id, dataset=dataset)
        steps = [
            (step, {k: v for k, v in flat(row, table).items() if k.count("/") == 1})
            for table in TABLES
            for step, row in enumerate(rows_of(metrics.get(table)))
        ]
        room = max(0, MOST_METRICS - len(numbers))
        keys = list(dict.fromkeys(key for _, row in steps for key in row))[:room]
        kept = [(step, {k: v for k, v in row.items() if k in keys}) for step, row in steps]
        log_rows(kept, model_id=model_id)


def levels_of(folder: Path) -> list[float]:
    """Levels of the quantiles that a saved model forecasts."""
    return [float(level) for level in json.loads((folder / "card.json").read_text())["levels"]]
