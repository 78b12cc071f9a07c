"""``plancast tune``: settings of the model by cross-validation along time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import (
    Json,
    Seed,
    console,
    parse_levels,
    print_json,
    progress,
    table,
)
from plancast.wording import counted

SHOWN = 5


def tune(
    jobs: Annotated[Path, typer.Argument(help="A canonical log, from plancast ingest.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The best settings, for --params.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 20,
    share: Annotated[float, typer.Option(help="Share of the log before the test stretch.")] = 0.3,
    folds: Annotated[int, typer.Option(min=1, help="Stretches that are forecast in turn.")] = 3,
    levels: Annotated[str, typer.Option(help="Quantile levels.")] = ".1,.5,.8,.9,.95",
    seed: Seed = 0,
    processes: Annotated[int, typer.Option(min=1, help="Folds judged at once.")] = 2,
    json: Json = False,
) -> None:
    """Choose the model's settings on the past of a log; its test stretch is never looked at.

    Example: plancast tune jobs.parquet --trials 20 -o tuned.yaml
    """
    from plancast.pipelines.inputs.config import name_of_log
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.stages.tune import params_text
    from plancast.pipelines.stages.tune import tune as search
    from plancast.pipelines.tracking.contests import log_tuning
    from plancast.pipelines.tracking.store import ui_command
    from plancast.planner.model.domain import BadRequest
    from plancast.predictor.logs.table import read_jobs

    asked = parse_levels(levels)
    if not 0 < share < 1:
        raise BadRequest(f"--share {share:g}: must lie in (0, 1); 0.3 keeps the later 70% unseen")
    with progress("tuning") as tell:
        facts = search(
            read_jobs(jobs),
            trials=trials,
            share=share,
            folds=folds,
            levels=asked,
            seed=seed,
            processes=processes,
            progress=lambda done, all_: tell(done, all_, f"{done} of {counted(all_, 'fold')}"),
        )
    if output is not None:
        write_text_atomic(output, params_text(facts))
        facts["written"] = str(output)
    facts["mlflow_run"] = log_tuning(facts, name_of_log(facts["log"] or str(jobs)))
    if json:
        print_json(facts)
        return
    _print(facts)
    if output is not None:
        console.print(f"wrote {output}; use it with --params")
    console.print(f"tracking: {ui_command()}", soft_wrap=True)


def _print(facts: dict[str, Any]) -> None:
    ranked = sorted(enumerate(facts["trials"]), key=lambda pair: pair[1]["loss"])
    rows = [
        [_words(trial), f"{found['loss']:.4f}", "yes" if found["wins"] else "no"]
        for trial, found in ranked[:SHOWN]
    ]
    console.print(
        f"{counted(len(facts['trials']), 'setting')} on {facts['folds']} stretches of the "
        f"{counted(facts['past'], 'job')} that had ended before the test stretch"
    )
    console.print(table("The best", ["trial", "loss", "wins"], rows))
    console.print(
        "loss: against the default (1), mean over pinball loss and median |log2|;\n"
        "wins: better on every stretch, which what is chosen must be\n"
    )
    best = facts["best"]
    result = {**{k: v for k, v in best.items() if k != "trees"}, **best.get("trees", {})}
    console.print("best: " + (", ".join(f"{k} {v:g}" for k, v in result.items()) or "the default"))


def _words(trial: int) -> str:
    return f"{trial}, the default" if trial == 0 else str(trial)


COMMANDS: dict[str, Callable[..., None]] = {"tune": tune}
