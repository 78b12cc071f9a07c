"""MLflow, in this file only: one run for each pipeline run."""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

from plancast.pipelines.charts.drawing import Drawing
from plancast.pipelines.tracking.headline import (
    compared,
)
from plancast.pipelines.tracking.store import (
    EXPERIMENT,
    STORE,
    URI_VARIABLE,
    alone,
    given_uri,
    store_name,
    take_own,
    ui_command,
)
from plancast.planner.model.domain import BadRequest
from plancast.predictor.schema import COLUMNS, KNOWN_AT_SUBMISSION, extra_columns

# Schema creation and advice about input examples are no news to who runs a pipeline.
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

_NO_STEP = -1
"""Step of a logged model. MLflow ties all metrics of a run with the model's step to it, those
of the rules beside it too; only metrics that name the model are meant."""


def _connect() -> None:
    given = given_uri()
    uri = given or take_own()
    artifacts = None if given else (STORE / "artifacts").resolve().as_uri()
    try:
        with alone():
            mlflow.set_tracking_uri(uri)
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


@contextmanager
def new_run(
    name: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any] | None = None,
    *,
    nested: bool = False,
) -> Iterator[str]:
    """A run, `nested` one of the run that is open; its id."""
    if not nested:
        _connect()
        # Or the rules' metrics would be tied to a model that was loaded before.
        mlflow.clear_active_model()
    with mlflow.start_run(run_name=name, nested=nested) as run:
        mlflow.set_tags(dict(tags))
        mlflow.log_params(dict(parameters or {}))
        yield str(run.info.run_id)


@dataclass(frozen=True)
class Child:
    """A run below another.

    Parameters
    ----------
    name : str
    tags : mapping
    metrics : mapping
    model_id : str, optional
        Of the logged model that the metrics are tied to.
    """

    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    model_id: str | None = None


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


def dataset_of(frame: Any, name: str, digest: str, source: str, context: str = "test") -> JobLog:
    """A data set with the digest of its content; the run names it, the metrics refer to it."""
    dataset = JobLog(frame, name, digest, source)
    log_dataset(dataset, context)
    return dataset


def log_dataset(dataset: JobLog, context: str) -> None:
    """Name a data set in the run."""
    mlflow.log_input(dataset, context=context)


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
    """MLflow type (``double`` or ``string``) of each column that a forecast may look at.

    Of `jobs` only the extra columns count: a history has digests in place of some columns.
    """
    numbers = {name for name in KNOWN_AT_SUBMISSION if COLUMNS[name].dtype == "float64"}
    return {
        name: "double" if name in numbers or name.startswith("num_") else "string"
        for name in (*KNOWN_AT_SUBMISSION, *extra_columns(jobs))
    }


def log_metrics(
    metrics: Mapping[str, float],
    *,
    step: int = 0,
    model_id: str | None = None,
    dataset: JobLog | None = None,
) -> None:
    """Metrics of the run, tied to the model and the data set they were measured with.

    Notes
    -----
    ``mlflow.log_metrics`` without a model ties them to every model that the run has logged:
    the errors of the rules would stand under the model's name. So those go past it.
    """
    if model_id is not None:
        mlflow.log_metrics(dict(metrics), step=step, model_id=model_id, dataset=dataset)
    else:
        log_rows([(step, metrics)], dataset=dataset)


def log_rows(
    rows: Iterable[tuple[int, Mapping[str, float]]],
    *,
    model_id: str | None = None,
    dataset: JobLog | None = None,
) -> None:
    """Metrics of many steps in one request: one for each would take ten times as long."""
    run_id, now_ms = mlflow.active_run().info.run_id, round(1000 * time.time())
    of = {"model_id": model_id, "run_id": run_id}
    if dataset is not None:
        of |= {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
    found = [Metric(k, v, now_ms, step, **of) for step, row in rows for k, v in row.items()]
    mlflow.MlflowClient().log_batch(run_id, found)


def replace_children(run_id: str, children: Iterable[Child]) -> None:
    """Give a run these children, and no others that it may have of an earlier time."""
    client = mlflow.MlflowClient()
    parent = client.get_run(run_id)
    for child in _children_of(parent):
        client.delete_run(child.info.run_id)
    for one in children:
        tags = {"mlflow.parentRunId": run_id, **one.tags}
        made = client.create_run(parent.info.experiment_id, run_name=one.name, tags=tags)
        now_ms = round(1000 * time.time())
        metrics = [
            Metric(key, value, now_ms, 0, model_id=one.model_id, run_id=made.info.run_id)
            for key, value in one.metrics.items()
        ]
        client.log_batch(made.info.run_id, metrics)
        client.set_terminated(made.info.run_id)


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


def log_json(values: Any, name: str) -> None:
    """Keep values as a JSON file of the run."""
    mlflow.log_text(json.dumps(values, indent=1), name)


def log_choice(name: str, chosen: str) -> None:
    """What was chosen, as a tag of the run."""
    mlflow.set_tag(name, chosen)


def log_files(*paths: Path) -> None:
    """Files as artefacts of the run."""
    for path in paths:
        mlflow.log_artifact(str(path))


# --------------------------------------------------------------------------- registered models


def registered_name(log: str) -> str:
    """The registered model of a log: models of different logs do not compete."""
    return f"runtime-{log}"


def register(log: str, model_id: str) -> tuple[str, str]:
    """Register a logged model as the log's challenger, and as champion where there is none.

    Returns
    -------
    tuple of str
        Its version, and the champion's.
    """
    client, name = mlflow.MlflowClient(), registered_name(log)
    with redirect_stderr(StringIO()):  # its success is reported there
        version = str(mlflow.register_model(f"models:/{model_id}", name).version)
    client.set_registered_model_alias(name, "challenger", version)
    aliases = client.get_registered_model(name).aliases
    if "champion" not in aliases:
        client.set_registered_model_alias(name, "champion", version)
        return version, version
    return version, str(aliases["champion"])


def make_champion(log: str, version: str) -> None:
    """Give a version of the log's model the alias ``champion``."""
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(registered_name(log), "champion", version)


def versions_of(log: str) -> tuple[Any | None, Any | None]:
    """The champion and the challenger among the versions of the log's model."""
    _connect()
    client = mlflow.MlflowClient()

    def bearing(alias: str) -> Any | None:
        try:
            return client.get_model_version_by_alias(registered_name(log), alias)
        except MlflowException:
            return None

    return bearing("champion"), bearing("challenger")


def folder_of(version: Any) -> Path:
    """The files of a registered version."""
    return Path(mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}"))
