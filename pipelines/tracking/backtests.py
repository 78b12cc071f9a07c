"""Backtests kept in MLflow, and which version of a log's model is champion by them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plancast.pipelines.tracking.evaluations import levels_of
from plancast.pipelines.tracking.headline import at_most
from plancast.pipelines.tracking.metrics import flat
from plancast.pipelines.tracking.mlflow_runs import (
    JobLog,
    dataset_of,
    folder_of,
    input_types,
    log_dataset,
    log_json,
    log_metrics,
    log_model,
    make_champion,
    new_run,
    register,
    versions_of,
)
from plancast.pipelines.tracking.store import store_name
from plancast.planner.model.domain import BadRequest
from plancast.predictor import RuntimePredictor


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
    name, digest = report["log"], report["digest"]
    _, challenger = versions_of(name)
    tags = {"kind": "backtest", "log": name, "data_digest": digest}
    sizes = {"jobs": report["jobs"], "procs": report["procs"]}
    with new_run(f"backtest {name}", tags, sizes) as run_id:
        dataset = dataset_of(jobs, name, digest, report["source"], "backtest")
        log_json(report, "backtest.json")
        for cell in report["cells"]:
            model = challenger if cell["estimates"] == "model" else None
            _log_cell(cell, tags, dataset, model)
        return run_id


_CELL_KEYS = ("dispatcher", "estimates", "level", "sigma", "seed", "settings_from", "sequences")


def _log_cell(
    cell: Mapping[str, Any], of: Mapping[str, str], dataset: JobLog, model: Any | None
) -> None:
    tags = {**of, "kind": "backtest cell"}
    if model is not None:
        tags["model_version"] = str(model.version)
    said = {key: str(cell[key]) for key in _CELL_KEYS}
    with new_run(f"{cell['dispatcher']} {cell['estimates']}", tags, said, nested=True):
        log_dataset(dataset, "backtest")
        numbers = flat({k: v for k, v in cell.items() if k not in _CELL_KEYS}, "")
        for key in ("bsld_ci", "regret_ci", "against_first_ci"):
            if cell[key] is not None:
                numbers |= dict(zip((f"{key}/low", f"{key}/high"), cell[key], strict=True))
        mine = model.model_id if model else None
        log_metrics(at_most(numbers), model_id=mine, dataset=dataset)


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
    champion, challenger = versions_of(log)
    if challenger is None:
        raise BadRequest(
            f"{store_name()}: no model of the log {log} is registered; "
            "run plancast evaluate on it first"
        )
    return None if champion is None else _contestant(champion), _contestant(challenger)


def _contestant(version: Any) -> Contestant:
    cards = sorted(folder_of(version).rglob("card.json"))
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
    said = {k: str(verdict[k]) for k in ("champion", "challenger", "dispatcher")}
    tags = {"kind": "promote", "log": log, "promoted": str(verdict["promoted"])}
    version = str(verdict["challenger"])
    with new_run(f"promote {log}", tags, said) as run_id:
        log_metrics(flat(verdict, ""))
        log_json(verdict, "promotion.json")
        if folder is not None and verdict["promoted"]:
            jobs = RuntimePredictor.load(folder).history.frame()
            model = log_model(folder, "model", input_types(jobs), levels_of(folder))
            version, _ = register(log, model)
    if verdict["promoted"]:
        make_champion(log, version)
    return run_id
