"""A walk-forward evaluation kept in MLflow, with the model as it stands at the log's end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from plancast.pipelines.inputs.config import name_of_log
from plancast.pipelines.tracking.decades import error_by_decade
from plancast.pipelines.tracking.mlflow_runs import Logged, log_evaluation
from plancast.predictor import RuntimePredictor, Walk


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
