"""MLflow, in this file only: one run for each pipeline run.

The store is where ``MLFLOW_TRACKING_URI`` says; without it a SQLite file under ``data/mlflow``
of the current directory, given by an absolute URI so that it does not follow later changes of
directory.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.artifacts
import mlflow.pyfunc
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sqlalchemy.exc import SQLAlchemyError

from plancast.pipelines.charts import forecasts as charts
from plancast.pipelines.charts.drawing import Drawing
from plancast.pipelines.inputs.shell import command
from plancast.pipelines.tracking.headline import (
    MOST_METRICS,
    Setting,
    at_most,
    compared,
    forecast_headline,
)
from plancast.pipelines.tracking.importances import importances_of
from plancast.planner.model.domain import BadRequest
from plancast.predictor import RuntimePredictor
from plancast.predictor.model_files import data_digest
from plancast.predictor.schema import KNOWN_AT_SUBMISSION, extra_columns

# Schema creation and advice about input examples are no news to who runs a pipeline.
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

EXPERIMENT = "plancast"
STORE = Path("data/mlflow")
URI_VARIABLE = "MLFLOW_TRACKING_URI"
"""Where MLflow's own tools look for the store."""
_OWN_URIS: set[str] = set()
"""Stores that were taken because the environment names none."""

_NO_STEP = -1
"""Step of a logged model. MLflow ties all metrics of a run with the model's step to it, those
of the rules beside it too; only metrics that name the model are meant."""


def store_uri() -> str:
    """URI of the store: of the environment, else the absolute one of the SQLite file."""
    return _given_uri() or _own_uri()


def _given_uri() -> str:
    """What the environment says; "" where it says nothing.

    MLflow puts the store that it is given into the variable, for its subprocesses: that of
    another folder that was the current one before is nobody's wish.
    """
    found = os.environ.get(URI_VARIABLE, "").strip()
    return "" if found in _OWN_URIS else found


def _own_uri() -> str:
    return f"sqlite:///{(STORE / 'mlflow.db').resolve()}"


def ui_command() -> str:
    """The command that opens the store in a browser."""
    return f"{command('mlflow')} ui --backend-store-uri {shlex.quote(store_uri())}"


def store_name() -> str:
    """The store as a sentence calls it; a password in a URI is left out."""
    if _given_uri():
        return f"{URI_VARIABLE} {re.sub(r'//[^/@]*@', '//', store_uri())}"
    return f"{STORE}/mlflow.db"


def _connect() -> None:
    given = _given_uri()
    artifacts = None if given else (STORE / "artifacts").resolve().as_uri()
    if not given:
        STORE.mkdir(parents=True, exist_ok=True)
        _OWN_URIS.add(_own_uri())
    try:
        mlflow.set_tracking_uri(given or _own_uri())
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts)
        mlflow.set_experiment(EXPERIMENT)
    except (MlflowException, SQLAlchemyError) as error:
        reason = re.split(r"\.?\s*\n|\.\s+(?=[A-Z])", str(error).strip())[0].rstrip(".")
        remedy = f"correct {URI_VARIABLE}" if given else "repair it, or move it away"
        raise BadRequest(f"{store_name()}: MLflow cannot use it ({reason}); {remedy}") from None


def open_run(name: str, parameters: Mapping[str, Any]) -> str:
    """Start the parent run of a pipeline run; its id, which the later stages continue."""
    _connect()
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params(dict(parameters))
        return str(run.info.run_id)


@contextmanager
def continued(run_id: str) -> Iterator[None]:
    """Continue the parent run in another stage.

    Raises
    ------
    BadRequest
        Where the store does not know the run.
    """
    _connect()
    try:
        run = mlflow.start_run(run_id=run_id)
    except MlflowException:
        raise BadRequest(
            f"{store_name()}: there is no run {run_id}; begin again with the ingest stage"
        ) from None
    with run:
        yield


class JobLog(MetaDataset):
    """A job log as MLflow's data set: columns and row count are given, not found row by row."""

    def __init__(self, jobs: Any, name: str, digest: str, source: str) -> None:
        columns = [
            ColSpec("double" if kind.kind == "f" else "string", str(column), required=False)
            for column, kind in jobs.dtypes.items()
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about which kind of path the source may be
            found = resolve_dataset_source(source)
        super().__init__(found, name=name, digest=digest, schema=Schema(columns))
        self._rows, self._cells = len(jobs), int(jobs.size)

    @property
    def profile(self) -> dict[str, int]:
        """How large it is."""
        return {"num_rows": self._rows, "num_elements": self._cells}

    def to_dict(self) -> dict[str, str]:
        """Everything the store keeps of it."""
        return {**super().to_dict(), "profile": json.dumps(self.profile)}


def dataset_of(frame: Any, name: str, digest: str, source: str) -> JobLog:
    """A data set with the digest of its content; the run names it, the metrics refer to it."""
    dataset = JobLog(frame, name, digest, source)
    mlflow.log_input(dataset, context="test")
    return dataset


def log_model(folder: Path, name: str, inputs: Mapping[str, str], levels: Sequence[float]) -> str:
    """Log a saved ``RuntimePredictor`` folder as it stands; the logged model's id.

    The loader is code of ours and the data are text and Parquet: nothing is pickled.

    Parameters
    ----------
    folder : Path
    name : str
    inputs : mapping of str to str
        Column name to MLflow type (``double`` or ``string``).
    levels : sequence of float
        Of the quantiles that come out.
    """
    signature = ModelSignature(
        inputs=Schema([ColSpec(kind, column, required=False) for column, kind in inputs.items()]),
        outputs=Schema([ColSpec("double", f"p{100 * level:g}") for level in levels]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no input example: a log's rows stay in the log
        logged = mlflow.pyfunc.log_model(
            name=name,
            loader_module="plancast.pipelines.tracking.loaded_model",
            data_path=str(folder),
            signature=signature,
            pip_requirements=["plancast"],
            step=_NO_STEP,
        )
    return str(logged.model_id)


def input_types(jobs: Any) -> dict[str, str]:
    """MLflow type (``double`` or ``string``) of each column that a forecast may look at."""
    return {
        name: "double" if jobs[name].dtype.kind == "f" else "string"
        for name in (*KNOWN_AT_SUBMISSION, *extra_columns(jobs))
    }


def log_metrics(
    metrics: Mapping[str, float], *, model_id: str | None = None, dataset: Any = None
) -> None:
    """Metrics of the run, tied to the model and the data set they were measured with.

    Notes
    -----
    ``mlflow.log_metrics`` without a model ties them to every model that the run has logged:
    the errors of the rules would stand under the model's name. So those go past it.
    """
    if model_id is not None:
        mlflow.log_metrics(dict(metrics), model_id=model_id, dataset=dataset)
        return
    run_id = mlflow.active_run().info.run_id
    now_ms = round(1000 * time.time())
    told_of = {} if dataset is None else {"dataset_name": dataset.name,
                                          "dataset_digest": dataset.digest}  # fmt: skip
    mlflow.MlflowClient().log_batch(
        run_id, [Metric(k, v, now_ms, 0, run_id=run_id, **told_of) for k, v in metrics.items()]
    )


def log_settings(
    run_id: str, settings: Sequence[Setting], best: Setting, model_id: str | None, log: str
) -> None:
    """A child run for each estimator under each way of planning, with the same five figures.

    Parameters
    ----------
    run_id : str
        Of the pipeline run. Children that it has already, of an earlier report, are replaced.
    settings : sequence of Setting
    best : Setting
        Bears the tag ``best``; its five figures are the parent's too.
    model_id : str, optional
        Of the logged model; the model's figures are tied to it.
    log : str
        Its name.
    """
    client = mlflow.MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    for child in client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'"):
        client.delete_run(child.info.run_id)
    for one in settings:
        tags = {
            "mlflow.parentRunId": run_id, "kind": "setting", "log": log, "best": str(one is best),
            "estimator": one.estimator, "planner": one.planner, "batches": one.batches,
        }  # fmt: skip
        child = client.create_run(experiment, run_name=one.name, tags=tags)
        mine = model_id if one.estimator == "model" else None
        now_ms = round(1000 * time.time())
        metrics = [
            Metric(key, value, now_ms, 0, model_id=mine, run_id=child.info.run_id)
            for key, value in one.all_metrics.items()
        ]
        client.log_batch(child.info.run_id, metrics)
        client.set_terminated(child.info.run_id)


def describe(words: str, tags: Mapping[str, str]) -> None:
    """The run's description, as Markdown, and tags."""
    mlflow.set_tags({"mlflow.note.content": words, **tags})


def log_figures(drawings: Mapping[str, Drawing]) -> None:
    """Charts as SVG images under ``figures/`` of the run."""
    for name, drawing in drawings.items():
        mlflow.log_text(drawing.svg(), f"figures/{name}.svg")


def compare_runs(one: str, other: str) -> dict[str, Any]:
    """What differs between two runs, and between their children of the same names.

    Parameters
    ----------
    one, other : str
        Run id, its first characters, or a run's name: the newest of that name is meant.

    Raises
    ------
    BadRequest
        Where the store knows no such run, or several begin so.
    """
    _connect()
    runs = [_run_of(name) for name in (one, other)]
    found = {
        "runs": [{"run_id": run.info.run_id, "name": run.info.run_name} for run in runs],
        **compared(*(_facts_of(run) for run in runs)),
    }
    children = [{child.info.run_name: child for child in _children_of(run)} for run in runs]
    found["children"] = {
        name: compared(*(_facts_of(by_name[name]) for by_name in children))["metrics"]
        for name in children[0]
        if name in children[1]
    }
    return found


def _run_of(named: str) -> Any:
    runs = mlflow.search_runs(
        experiment_names=[EXPERIMENT], order_by=["start_time DESC"], output_format="list"
    )
    begin = [run for run in runs if named and run.info.run_id.startswith(named)]
    if len(begin) > 1:
        raise BadRequest(f"{store_name()}: {len(begin)} runs begin with {named}; give more of it")
    called = [run for run in runs if run.info.run_name == named]
    if not begin and not called:
        raise BadRequest(
            f"{store_name()}: there is no run {named}; {ui_command()} shows their ids and names"
        )
    return (begin or called)[0]


def _children_of(run: Any) -> list[Any]:
    return list(
        mlflow.MlflowClient().search_runs(
            [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        )
    )


def _facts_of(run: Any) -> dict[str, Mapping[str, Any]]:
    return {"params": run.data.params, "metrics": run.data.metrics}


def log_choice(name: str, chosen: str) -> None:
    """What was chosen, as a tag of the run."""
    mlflow.set_tag(name, chosen)


def worth_metrics(facts: Mapping[str, Any]) -> dict[str, float]:
    """What plans cost in each way, of the facts of ``plancast worth``."""
    found = {"worth/auto_against_best_rule": facts["auto_against_best_rule"]["mean"]}
    return found | {f"worth/{name}": entry["cost"] for name, entry in facts["policies"].items()}


def log_worth(facts: Mapping[str, Any], kept: Path) -> str:
    """A run for what forecasts are worth on a log, with the choice of ``auto``; its id.

    Parameters
    ----------
    facts : mapping
        Of ``plancast worth``, of a log that queues.
    kept : Path
        The past plans that later plans go by.
    """
    _connect()
    with mlflow.start_run(run_name=f"worth {facts['log']}") as run:
        log_choice("auto", facts["chosen_by_auto"]["usual"])
        mlflow.set_tags({"kind": "worth", "log": facts["log"]})
        log_metrics(worth_metrics(facts))
        log_files(kept)
        return str(run.info.run_id)


def log_files(*paths: Path) -> None:
    """Files as artefacts of the run."""
    for path in paths:
        mlflow.log_artifact(str(path))


# --------------------------------------------------------------------------- tuning


def log_tuning(facts: Mapping[str, Any], name: str) -> str:
    """A run for a search of settings, a child run for each trial; the id of the parent.

    Parameters
    ----------
    facts : mapping
        What ``plancast.pipelines.stages.tune.tune`` returns.
    name : str
        Of the log.
    """
    _connect()
    with mlflow.start_run(run_name=f"tune {name}") as parent:
        mlflow.set_tags({"kind": "tune", "log": name, "data_digest": facts["digest"]})
        mlflow.log_params(
            {key: facts[key] for key in ("share", "folds", "levels", "seed", "past")}
            | {f"best.{key}": value for key, value in _flat_settings(facts["best"]).items()}
        )
        mlflow.log_metrics({"best_loss": facts["loss"], "best_trial": facts["best_trial"]})
        for number, trial in enumerate(facts["trials"]):
            with mlflow.start_run(run_name=f"trial {number}", nested=True):
                mlflow.set_tags({"kind": "tune trial", "wins": str(trial["wins"]).lower()})
                mlflow.log_params(_flat_settings(trial["settings"]))
                mlflow.log_metric("loss", trial["loss"])
                for fold, metrics in enumerate(trial["folds"]):
                    mlflow.log_metrics(dict(metrics), step=fold)
        return str(parent.info.run_id)


def _flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in settings.items() if key != "trees"}
    return {**rest, **settings.get("trees", {})}


# --------------------------------------------------------------------------- guides


def log_guides(facts: Mapping[str, Any], name: str) -> str:
    """A run for a contest of guides, a child run for each; the id of the parent.

    Parameters
    ----------
    facts : mapping
        Of ``plancast.pipelines.guide.train.train``: its candidates have settings, ``loss`` (what
        the model is trained for) and ``search`` (expansions, CPU seconds and costs of plans).
    name : str
        Of the lessons.
    """
    _connect()
    with mlflow.start_run(run_name=f"guide {name}") as parent:
        mlflow.set_tags({"kind": "guide", "lessons": name, "best": facts["best"]})
        kept = ("states", "train_problems", "judge_problems", "judge_tasks", "held_out", "weights",
                "seed")  # fmt: skip
        mlflow.log_params({key: facts[key] for key in kept})
        mlflow.log_metrics(_flat(facts["candidates"][facts["best"]]["search"], "search"))
        for candidate, entry in facts["candidates"].items():
            with mlflow.start_run(run_name=candidate, nested=True):
                best = str(candidate == facts["best"]).lower()
                mlflow.set_tags({"kind": "guide candidate", "best": best})
                mlflow.log_params(entry["settings"])
                mlflow.log_metrics(_flat({key: entry[key] for key in ("loss", "search")}, ""))
        return str(parent.info.run_id)


# --------------------------------------------------------------------------- evaluations


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


def registered_name(log: str) -> str:
    """The registered model of a log: models of different logs do not compete."""
    return f"runtime-{log}"


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
    _connect()
    # Or the rules' metrics would be tied to a model that was loaded before.
    mlflow.clear_active_model()
    estimators: Mapping[str, Mapping[str, Any]] = result["estimators"]
    with mlflow.start_run(run_name=f"evaluate {name}") as run:
        mlflow.set_tags({"kind": "evaluate", "log": name})
        mlflow.log_params({key: str(value) for key, value in (parameters or {}).items()})
        dataset = None
        if jobs is not None:
            digest = data_digest(jobs)
            mlflow.set_tag("data_digest", digest)
            dataset = dataset_of(jobs, name, digest[:12], jobs.attrs.get("source", name))
        counts = _flat({k: result[k] for k in ("jobs", "evaluated", "censored") if k in result}, "")
        log_metrics(at_most(counts), dataset=dataset)
        model_id = None
        if model is not None:
            model_id = log_model(model, "runtime", input_types(jobs), _levels_of(model))
        for estimator, metrics in estimators.items():
            mine = model_id if estimator == "model" else None
            if mine is not None or len(estimators) == 1:
                log_metrics(forecast_headline(metrics), model_id=mine, dataset=dataset)
            _log_estimator(name, estimator, metrics, dataset, mine)
        if importances is None and model is not None:
            importances = importances_of(model)
        log_figures(_figures(estimators, decades, importances))
        mlflow.log_text(json.dumps(result, indent=1), "evaluation.json")
        version, champion = (None, None) if model_id is None else register(name, model_id)
        return Logged(str(run.info.run_id), model_id, version, champion)


TABLES = ("by_month", "by_decile")
"""Entries of an estimator's metrics that have one row for each month or decile."""


def _log_estimator(
    log: str, name: str, metrics: Mapping[str, Any], dataset: Any, model_id: str | None
) -> None:
    """A child run for an estimator: its five figures' share first, months and deciles as steps."""
    plain = {key: value for key, value in metrics.items() if key not in (*TABLES, "cold_start")}
    numbers = at_most(forecast_headline(metrics) | _flat(plain, ""))
    now_ms = int(time.time() * 1000)
    with mlflow.start_run(run_name=name, nested=True) as run:
        mlflow.set_tags({"kind": "estimator", "log": log, "estimator": name})
        log_metrics(numbers, model_id=model_id, dataset=dataset)
        # All at once: a request for each month would take ten times as long.
        by_row = [
            Metric(key, value, now_ms, step, model_id=model_id)
            for table in TABLES
            for step, row in enumerate(_rows(metrics.get(table)))
            for key, value in _flat(row, table).items()
            if key.count("/") == 1
        ]
        room = MOST_METRICS - len(numbers)
        keys = list(dict.fromkeys(metric.key for metric in by_row))[: max(0, room)]
        mlflow.MlflowClient().log_batch(run.info.run_id, [m for m in by_row if m.key in keys])


def _levels_of(folder: Path) -> list[float]:
    return [float(level) for level in json.loads((folder / "card.json").read_text())["levels"]]


def _rows(table: Any) -> list[Mapping[str, Any]]:
    """A table's rows, in its order."""
    if not table:
        return []
    values = list(table.values()) if isinstance(table, Mapping) else table
    return [row if isinstance(row, Mapping) else {"value": row} for row in values]


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """All finite numbers of nested mappings, by the path of their keys."""
    result: dict[str, float] = {}
    for key, value in values.items():
        path = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            result |= _flat(value, path)
        elif isinstance(value, int | float) and math.isfinite(value):
            result[path] = float(value)
    return result


def _figures(
    estimators: Mapping[str, Mapping[str, Any]],
    decades: Mapping[str, Mapping[int, float]] | None,
    importances: Mapping[str, float] | None,
) -> dict[str, Drawing]:
    covered = {
        name: {float(level): share for level, share in metrics["coverage"].items()}
        for name, metrics in estimators.items()
    }
    losses = {name: forecast_headline(one)["pinball_s"] for name, one in estimators.items()}
    found = {
        "reliability": charts.reliability(covered),
        "pinball": charts.ranking(losses, "pinball loss, seconds, mean over the levels"),
    }
    if decades is not None:
        found["error_by_run_time"] = charts.by_decade(decades)
    if importances is not None:
        found["importances"] = charts.importances(importances)
    return found


def register(log: str, model_id: str) -> tuple[str, str]:
    """Register a logged model as the log's challenger, and as champion where there is none.

    Returns
    -------
    tuple of str
        Its version, and the champion's.
    """
    return _register(registered_name(log), model_id)


def _register(name: str, model_id: str) -> tuple[str, str]:
    """Register a logged model as challenger; its version, and that of the champion."""
    client = mlflow.MlflowClient()
    with redirect_stderr(StringIO()):  # it tells of its success there
        version = str(mlflow.register_model(f"models:/{model_id}", name).version)
    client.set_registered_model_alias(name, "challenger", version)
    aliases = client.get_registered_model(name).aliases
    if "champion" not in aliases:
        client.set_registered_model_alias(name, "champion", version)
        return version, version
    return version, str(aliases["champion"])


# --------------------------------------------------------------------------- backtests


def log_backtest(report: Mapping[str, Any], jobs: Any) -> str:
    """A run for a backtest, a child run for each cell; the id of the parent.

    Parameters
    ----------
    report : mapping
        What ``plancast backtest --json`` prints.
    jobs : DataFrame
        The replayed log, canonical; each run names it with its digest.

    Notes
    -----
    Cells with the model's estimates refer to the log's challenger, where one is registered:
    a replay refits the model on its own clock, with that version's kind of trees.
    """
    _connect()
    mlflow.clear_active_model()
    name, digest = report["log"], report["digest"]
    challenger = _version_of(registered_name(name), "challenger")
    with mlflow.start_run(run_name=f"backtest {name}") as parent:
        dataset = JobLog(jobs, name, digest, report["source"])
        mlflow.log_input(dataset, context="backtest")
        mlflow.set_tags({"kind": "backtest", "log": name, "data_digest": digest})
        mlflow.log_params({"jobs": report["jobs"], "procs": report["procs"]})
        mlflow.log_text(json.dumps(report, indent=1), "backtest.json")
        for cell in report["cells"]:
            model = challenger if cell["estimates"] == "model" else None
            _log_cell(cell, name, dataset, digest, model)
        return str(parent.info.run_id)


_CELL_KEYS = ("dispatcher", "estimates", "level", "sigma", "seed", "settings_from", "sequences")


def _log_cell(
    cell: Mapping[str, Any], name: str, dataset: Any, digest: str, model: Any | None
) -> None:
    with mlflow.start_run(run_name=f"{cell['dispatcher']} {cell['estimates']}", nested=True):
        mlflow.log_input(dataset, context="backtest")
        mlflow.set_tags({"kind": "backtest cell", "log": name, "data_digest": digest})
        mlflow.log_params({key: str(cell[key]) for key in _CELL_KEYS})
        if model is not None:
            mlflow.set_tag("model_version", model.version)
        numbers = _flat({k: v for k, v in cell.items() if k not in _CELL_KEYS}, "")
        for key in ("bsld_ci", "regret_ci", "against_first_ci"):
            if cell[key] is not None:
                numbers |= dict(zip((f"{key}/low", f"{key}/high"), cell[key], strict=True))
        mine = model.model_id if model else None
        log_metrics(at_most(numbers), model_id=mine, dataset=dataset)


def _version_of(name: str, alias: str) -> Any | None:
    """The registered version that bears an alias, or None."""
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    except MlflowException:
        return None


# --------------------------------------------------------------------------- promotion


@dataclass(frozen=True)
class Contestant:
    """A registered version, and how its model is made.

    Parameters
    ----------
    version : str
    model_id : str, optional
    levels : tuple of float
    trees : mapping
        Parameters of its trees.
    seed : int
    """

    version: str
    model_id: str | None
    levels: tuple[float, ...]
    trees: Mapping[str, Any]
    seed: int


def contestants(log: str) -> tuple[Contestant | None, Contestant]:
    """The champion (None where nobody is) and the challenger of a log.

    Raises
    ------
    BadRequest
        Where no challenger is registered.
    """
    _connect()
    name = registered_name(log)
    versions = [_version_of(name, alias) for alias in ("champion", "challenger")]
    if versions[1] is None:
        raise BadRequest(
            f"{store_name()}: no model of the log {log} is registered; "
            "run plancast evaluate on it first"
        )
    champion, challenger = (None if v is None else _contestant(v) for v in versions)
    assert challenger is not None
    return champion, challenger


def _contestant(version: Any) -> Contestant:
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}"))
    cards = sorted(folder.rglob("card.json"))
    if not cards:
        named = f"version {version.version} of {version.name}"
        raise BadRequest(f"{store_name()}: {named} has no card.json")
    card = json.loads(cards[0].read_text("utf-8"))
    settings = card["settings"]
    return Contestant(
        str(version.version),
        getattr(version, "model_id", None),
        tuple(card["levels"]),
        settings["trees"],
        int(settings["seed"]),
    )


def log_promotion(log: str, verdict: Mapping[str, Any], folder: Path | None = None) -> str:
    """Keep a contest as a run, and move ``champion`` where the verdict says so; the run's id.

    Parameters
    ----------
    log : str
    verdict : mapping
    folder : Path, optional
        Of a challenger that is not registered yet; it is where it is promoted.
    """
    _connect()
    mlflow.clear_active_model()
    name = registered_name(log)
    with mlflow.start_run(run_name=f"promote {log}") as run:
        mlflow.set_tags({"kind": "promote", "log": log, "promoted": str(verdict["promoted"])})
        mlflow.log_params({k: str(verdict[k]) for k in ("champion", "challenger", "dispatcher")})
        log_metrics(_flat(verdict, ""))
        mlflow.log_text(json.dumps(verdict, indent=1), "promotion.json")
        version = str(verdict["challenger"])
        if folder is not None and verdict["promoted"]:
            jobs = RuntimePredictor.load(folder).history.frame()
            model = log_model(folder, "model", input_types(jobs), _levels_of(folder))
            version, _ = _register(name, model)
    if verdict["promoted"]:
        mlflow.MlflowClient().set_registered_model_alias(name, "champion", version)
    return str(run.info.run_id)
