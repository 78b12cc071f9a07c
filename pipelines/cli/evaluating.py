"""``plancast evaluate``: how good forecasts would have been, job by job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import (
    Seed,
    console,
    hand_over,
    parse_levels,
    progress,
    table,
)
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.wording import counted


@reads_log()
def evaluate(
    log: Annotated[Path, typer.Argument(help="A job log in any form that ingest takes.")],
    refit: Annotated[str, typer.Option(help="Longest time between refits: 30d, 12h.")] = "30d",
    levels: Annotated[str, typer.Option(help="Quantile levels.")] = ".5,.8,.9,.95",
    json: Annotated[
        Path | None, typer.Option("--json", help="Where to write the report as JSON (- prints it).")
    ] = None,
    seed: Seed = 0,
    track: Annotated[
        bool, typer.Option(help="Keep the evaluation and its model as a run in MLflow.")
    ] = True,
    *,
    reading: Reading,
) -> None:
    """Forecast every job of a log from its past, beside the rules of thumb.

    Example: plancast evaluate KTH-SP2-1996-2.swf.gz --refit 30d --json report.json
    """
    from plancast.pipelines.backtest.evaluate_log import evaluate_file, parse_span

    asked, span = parse_levels(levels), parse_span(refit)
    with progress(f"walking {log.name}") as tell:
        report, walk = evaluate_file(
            log,
            levels=asked,
            refit_s=span,
            reading=reading,
            seed=seed,
            progress=lambda text, share: tell(share, 1.0, text),
        )
    # Before MLflow: a store that cannot be used takes the record, not the result.
    shown = hand_over(report, estimator_table(report), json)
    if track:
        with progress("MLflow"):
            run_id = _tracked(report, walk, {"refit": refit, "levels": levels, "seed": seed})
        if shown:
            console.print(f"tracking: run {run_id}")


def _tracked(report: dict[str, Any], walk: Any, parameters: dict[str, Any]) -> str:
    # Imported only now: MLflow takes seconds to load, and who does not track need not wait.
    from plancast.pipelines.tracking.evaluations import track_evaluation

    return track_evaluation(report, walk, parameters).run_id


def estimator_table(report: dict[str, Any]) -> Any:
    """The report's estimators, a row each."""
    levels = report["levels"]
    rows = []
    for name, found in report["estimators"].items():
        covered = " ".join(f"{100 * found['coverage'][f'{p:g}']:.1f}" for p in levels)
        rows.append(
            [
                name,
                f"{found['median_abs_log2']:.3f}",
                f"{found['within_2x']:.0%}",
                f"{found['accuracy_minmax']:.1%}",
                f"{found['pinball']:,.0f}",
                covered,
                f"{100 * found['worst_month_gap']:.1f}",
                f"{100 * found['worst_decile_gap']:.1f}",
            ]
        )
    asked = " ".join(f"{100 * p:g}" for p in levels)
    title = (
        f"{report['log']}: {report['evaluated']:,} of {counted(report['jobs'], 'job')} evaluated, "
        f"{report['censored']:,} cut short, {counted(len(report['refits']), 'refit')}"
    )
    columns = ["estimator", "|log2|", "in 2x", "min/max", "pinball s", f"covered, of {asked}"]
    return table(title, [*columns, "month", "decile"], rows)


COMMANDS: dict[str, Callable[..., None]] = {"evaluate": evaluate}
