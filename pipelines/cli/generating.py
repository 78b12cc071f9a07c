"""``plancast generate``: seeded logs, clusters and batches, in the files the readers read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import Json, Seed, console, print_json
from plancast.planner.model.domain import BadRequest

app = typer.Typer(
    help="Write a seeded log, cluster or batch, to try things with.", no_args_is_help=True
)
FORMS = (".swf", ".csv", ".tsv", ".parquet", ".json", ".yaml", ".yml")
"""Endings that say a format."""
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]


@app.command("log", epilog="Example: plancast generate log --jobs 6000 -o log.swf")
def generate_log_command(
    output: Output,
    jobs: Annotated[int, typer.Option(min=1, help="How many jobs.")] = 6000,
    users: Annotated[int, typer.Option(min=1, help="How many users.")] = 40,
    procs: Annotated[int, typer.Option(min=2, help="Processors of the machine.")] = 128,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write a job log of a shared machine in the Standard Workload Format."""
    _check_ending(output, "the Standard Workload Format", (".swf",))
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.planner.instances.generate import generate_log, swf_text

    write_text_atomic(output, swf_text(generate_log(jobs, users, procs, seed)))
    _tell({"written": [str(output)], "jobs": jobs, "users": users, "procs": procs}, json)


@app.command("cluster", epilog="Example: plancast generate cluster --workers 20 -o cluster.yaml")
def generate_cluster_command(
    output: Output,
    workers: Annotated[int, typer.Option(min=1, help="How many workers.")] = 10,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write a cluster of eight machine types over three zones."""
    _check_ending(output, "YAML", (".yaml", ".yml"))
    from plancast.pipelines.inputs.user_files import ClusterFile, write_cluster
    from plancast.planner.instances.generate import generate_cluster

    write_cluster(ClusterFile(generate_cluster(workers, seed)), output)
    _tell({"written": [str(output)], "workers": workers}, json)


@app.command("batch", epilog="Example: plancast generate batch --tasks 200 --workers 20 -o batch/")
def generate_batch_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    tasks: Annotated[int, typer.Option(min=1, help="How many tasks.")] = 200,
    workers: Annotated[int, typer.Option(min=1, help="Workers of a generated cluster.")] = 10,
    cluster: Annotated[Path | None, typer.Option(help="A cluster file instead.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write a batch of tasks with its cluster, policy, estimates, and all as one PlanRequest."""
    from plancast.pipelines.inputs.user_files import BATCH_FILES, read_cluster, write_batch
    from plancast.planner.instances.generate import generate_batch, generate_cluster

    if cluster and any((output / n).exists() and cluster.samefile(output / n) for n in BATCH_FILES):
        raise BadRequest(f"--cluster {cluster}: would be written over; name another folder with -o")
    machines = read_cluster(cluster).workers if cluster else generate_cluster(workers, seed)
    written = write_batch(generate_batch(tasks, machines, seed), output)
    _tell({"written": [str(p) for p in written], "tasks": tasks, "workers": len(machines)}, json)


def _check_ending(output: Path, form: str, endings: tuple[str, ...]) -> None:
    """Refuse a name that says another format than what is written."""
    ending = Path(output.name.lower().removesuffix(".gz")).suffix
    if ending in {*FORMS} - {*endings}:
        raise BadRequest(f"{output}: this command writes {form}; name it {' or '.join(endings)}")


def _tell(facts: dict[str, object], json: bool) -> None:
    if json:
        print_json(facts)
    else:
        for path in facts["written"]:  # type: ignore[attr-defined]
            console.print(f"wrote {escape(str(path))}", soft_wrap=True)
