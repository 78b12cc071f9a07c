"""``plancast ingest``, ``train``, ``predict``: from a log to estimates."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import (
    Json,
    Seed,
    console,
    parse_levels,
    print_json,
    progress,
    table,
)
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.wording import counted, log_in_words

Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]


@reads_log()
def ingest(
    log: Annotated[Path, typer.Argument(help="A job log, plain or gzip.")],
    output: Output,
    json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Read a job log in any known form and write the canonical one.

    Example: plancast ingest KTH-SP2-1996-2.swf.gz -o jobs.parquet
    """
    from plancast.pipelines.stages.ingest import ingest_log
    from plancast.predictor.logs.table import write_jobs

    with progress(f"reading {escape(log.name)}"):
        jobs, facts = ingest_log(str(log), reading)
        write_jobs(jobs, output)
    facts["written"] = str(output)
    if json:
        print_json(facts)
        return
    console.print(describe_log(facts), soft_wrap=True)
    console.print(f"wrote {escape(str(output))}", soft_wrap=True)


def describe_log(facts: dict[str, Any]) -> str:
    """The facts of an ingested log, in a few lines."""
    outcomes = ", ".join(f"{count:,} {name}" for name, count in facts["outcomes"].items())
    lines = [
        f"[bold]{escape(facts['log'])}[/bold] ({facts['format']}): "
        + log_in_words(facts["rows"], facts["users"], facts["machine_size"], facts["size_stated"]),
        f"  usable: {facts['kept']:,} ({outcomes})",
    ]
    lines += [f"  left out: {count:,}, {escape(why)}" for why, count in facts["excluded"].items()]
    # Of bad rows the notes say more.
    found = " ".join(facts["notes"])
    lines += [
        f"  not jobs: {count:,}, {escape(why)}"
        for why, count in facts["dropped"].items()
        if why not in found
    ]
    lines += [f"  note: {escape(note)}" for note in [*facts["notes"], *facts["findings"]]]
    if facts["acknowledge"]:
        lines.append(f"  acknowledge: {escape(facts['acknowledge'])}")
    return "\n".join(lines)


def train(
    jobs: Annotated[Path, typer.Argument(help="A canonical log, from plancast ingest.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the model.")],
    levels: Annotated[str, typer.Option(help="Quantile levels.")] = ".1,.5,.8,.9,.95",
    seed: Seed = 0,
    params: Annotated[
        Path | None, typer.Option(help="Settings of the model, from plancast tune.")
    ] = None,
    json: Json = False,
) -> None:
    """Train the run-time model on a whole log.

    Example: plancast train jobs.parquet -o models/runtime
    """
    from plancast.pipelines.inputs.config import load_config
    from plancast.pipelines.stages.train import train_model
    from plancast.predictor.logs.table import read_jobs

    asked = parse_levels(levels)
    settings = load_config(params).train.settings if params is not None else {}
    with progress("training"):
        began = time.perf_counter()
        model = train_model(read_jobs(jobs), output, levels=asked, seed=seed, settings=settings)
        seconds = time.perf_counter() - began
    if json:
        print_json({"written": str(output), "fit_s": seconds, "card": model.card})
        return
    found = model.card["metrics_before_correction"]
    rows = [[name, f"{value:,.3g}"] for name, value in found.items()]
    if rows:
        title = "On the last stretch of the log, before the calibration it was used for"
        console.print(table(title, ["metric", "value"], rows))
    console.print(f"wrote {escape(str(output))} in {seconds:.1f} s", soft_wrap=True)


def predict(
    tasks: Annotated[Path, typer.Argument(help="Tasks: CSV, Parquet or JSON.")],
    model: Annotated[Path, typer.Option(help="Folder of a trained model.")],
    output: Output,
    cluster: Annotated[
        Path | None,
        typer.Option(help="Cluster (YAML): estimates for each machine class, and of what runs."),
    ] = None,
    json: Json = False,
) -> None:
    """Forecast the run times of tasks.

    Example: plancast predict tasks.csv --model models/runtime -o estimates.parquet
    """
    from plancast.pipelines.inputs.estimate_files import write_estimates
    from plancast.pipelines.inputs.forecast import forecast_tasks
    from plancast.pipelines.inputs.requests import planning_time_s
    from plancast.pipelines.inputs.user_files import ClusterFile, read_cluster

    machines = ClusterFile(()) if cluster is None else read_cluster(cluster)
    estimates = forecast_tasks(
        tasks,
        model,
        now_s=None if cluster is None else planning_time_s(tasks, machines) or None,
        running=machines.running,
        classes=[worker.machine_class for worker in machines.workers],
    )
    write_estimates(estimates, output)
    facts = {"written": str(output), "tasks": len(estimates)}
    if json:
        print_json(facts)
    else:
        text = f"wrote estimates of {counted(len(estimates), 'task')} to {escape(str(output))}"
        console.print(text, soft_wrap=True)


COMMANDS: dict[str, Callable[..., None]] = {"ingest": ingest, "train": train, "predict": predict}
