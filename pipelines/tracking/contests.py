"""Contests kept in MLflow: a run for each, with a child run for each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plancast.pipelines.tracking.headline import Setting
from plancast.pipelines.tracking.metrics import flat, flat_settings, worth_metrics
from plancast.pipelines.tracking.mlflow_runs import (
    Child,
    log_files,
    log_metrics,
    log_rows,
    new_run,
    replace_children,
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
    replace_children(
        run_id,
        (
            Child(
                one.name,
                {
                    "kind": "setting", "log": log, "best": str(one is best),
                    "estimator": one.estimator, "planner": one.planner, "batches": one.batches,
                },
                one.all_metrics,
                model_id if one.estimator == "model" else None,
            )
            for one in settings
        ),
    )  # fmt: skip


def log_tuning(facts: Mapping[str, Any], name: str) -> str:
    """A run for a search of settings, a child run for each trial; the id of the parent.

    Parameters
    ----------
    facts : mapping
        What ``plancast.pipelines.stages.tune.tune`` returns.
    name : str
        Of the log.
    """
    said = {key: facts[key] for key in ("share", "folds", "levels", "seed", "past")}
    said |= {f"best.{key}": value for key, value in flat_settings(facts["best"]).items()}
    tags = {"kind": "tune", "log": name, "data_digest": facts["digest"]}
    with new_run(f"tune {name}", tags, said) as run_id:
        log_metrics({"best_loss": facts["loss"], "best_trial": facts["best_trial"]})
        for number, trial in enumerate(facts["trials"]):
            tags = {"kind": "tune trial", "wins": str(trial["wins"]).lower()}
            with new_run(f"trial {number}", tags, flat_settings(trial["settings"]), nested=True):
                log_rows([(0, {"loss": trial["loss"]}), *enumerate(trial["folds"])])
        return run_id


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
    kept = ("states", "train_problems", "judge_problems", "judge_tasks", "held_out", "weights",
            "seed")  # fmt: skip
    tags = {"kind": "guide", "lessons": name, "best": facts["best"]}
    with new_run(f"guide {name}", tags, {key: facts[key] for key in kept}) as run_id:
        log_metrics(flat(facts["candidates"][facts["best"]]["search"], "search"))
        for candidate, entry in facts["candidates"].items():
            best = str(candidate == facts["best"]).lower()
            tags = {"kind": "guide candidate", "best": best}
            with new_run(candidate, tags, entry["settings"], nested=True):
                log_metrics(flat({key: entry[key] for key in ("loss", "search")}, ""))
        return run_id


def log_worth(facts: Mapping[str, Any], kept: Path) -> str:
    """A run for what forecasts are worth on a log, with the choice of ``auto``; its id.

    Parameters
    ----------
    facts : mapping
        Of ``plancast worth``, of a log that queues.
    kept : Path
        The past plans that later plans go by.
    """
    tags = {"kind": "worth", "log": facts["log"], "auto": facts["chosen_by_auto"]["usual"]}
    with new_run(f"worth {facts['log']}", tags) as run_id:
        log_metrics(worth_metrics(facts))
        log_files(kept)
        return run_id
