"""MLflow, in this file only: one run for each pipeline run.

The store is a SQLite file under ``data/mlflow`` of the current directory, given by an
absolute URI so that it does not follow later changes of directory.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.data
import mlflow.pyfunc
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sqlalchemy.exc import SQLAlchemyError

from planner.domain import BadRequest

# Schema creation and advice about input examples are no news to who runs a pipeline.
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

EXPERIMENT = "plancast"
STORE = Path("data/mlflow")


def store_uri() -> str:
    """Absolute URI of the SQLite store."""
    return f"sqlite:///{(STORE / 'mlflow.db').resolve()}"


def ui_command() -> str:
    """The command that opens the store in a browser."""
    return f"mlflow ui --backend-store-uri {shlex.quote(store_uri())}"


def _connect() -> None:
    STORE.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(store_uri())
    try:
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(
                EXPERIMENT, artifact_location=(STORE / "artifacts").resolve().as_uri()
            )
        mlflow.set_experiment(EXPERIMENT)
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise BadRequest(
            f"{STORE}/mlflow.db: MLflow cannot use it ({reason}); mend it, or move it away"
        ) from None


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
            f"{STORE}/mlflow.db: there is no run {run_id}; begin again with the ingest stage"
        ) from None
    with run:
        yield


def dataset_of(frame: Any, name: str, digest: str, source: str) -> Any:
    """A data set with the digest of its content; the run names it, the metrics refer to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about which kind of path the source may be
        dataset = mlflow.data.from_pandas(frame, source=source, name=name, digest=digest)
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
            loader_module="pipelines.loaded_model",
            data_path=str(folder),
            signature=signature,
            pip_requirements=["plancast"],
        )
    return str(logged.model_id)


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


def log_tag(key: str, value: str) -> None:
    """A tag of the run."""
    mlflow.set_tag(key, value)


def log_files(*paths: Path) -> None:
    """Files as artefacts of the run."""
    for path in paths:
        mlflow.log_artifact(str(path))
