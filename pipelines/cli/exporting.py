"""``plancast export``: requests and durations in the languages of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import (
    Json,
    console,
    parse_levels,
    print_json,
)
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.wording import counted

app = typer.Typer(
    help="Write requests and learned durations in other tools' languages.", no_args_is_help=True
)

Log = Annotated[Path, typer.Argument(help="A log or trace of tasks that have names.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]


@app.command("pddl", epilog="Example: plancast export pddl request.json -o pddl/ --horizon-s 3600")
def export_pddl_command(
    request: Annotated[Path, typer.Argument(help="A PlanRequest (JSON).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    horizon_s: Annotated[
        int | None,
        typer.Option(min=1, help="Seconds in which all must end (default: the greedy plan's)."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the basic assignment problem in PDDL, with the question if all end by the horizon."""
    from plancast.pipelines.inputs.files import read_bytes, write_text_atomic
    from plancast.planner.instances.pddl import export_pddl
    from plancast.planner.model.domain import BadRequest
    from plancast.planner.model.messages import PlanRequest, from_json
    from plancast.planner.planning.plan import plan

    asked = from_json(PlanRequest, read_bytes(request), source=str(request))
    if horizon_s is None:
        greedy = plan(asked, "greedy")
        if greedy.plan is None:
            raise BadRequest(f"{request}: there is no greedy plan; give --horizon-s")
        horizon_s = max(a.end_s for a in greedy.plan.assignments) - asked.snapshot.now_s
    exported = export_pddl(asked, horizon_s)
    written = [output / "domain.pddl", output / "problem.pddl"]
    for path, text in zip(written, (exported.domain, exported.problem), strict=True):
        write_text_atomic(path, text)
    facts = {
        "written": [str(path) for path in written],
        "step_s": exported.step_s,
        "steps": exported.steps,
        "actions": exported.actions,
    }
    if json:
        print_json(facts)
        return
    console.print(
        f"{counted(exported.actions, 'action')} over {counted(exported.steps, 'step')} of "
        f"{exported.step_s:,} s"
    )
    for path in written:
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)


@app.command(
    "dask-durations", epilog="Example: plancast export dask-durations log.csv -o durations.yaml"
)
@reads_log()
def export_dask_durations_command(
    log: Log, output: Output, json: Json = False, *, reading: Reading
) -> None:
    """Write the mean run time of each name as Dask's default-task-durations."""
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.operators.durations import dask_durations

    write_text_atomic(output, dask_durations(log, reading))
    _wrote(output, json)


@app.command(
    "nextflow-config",
    epilog="Example: plancast export nextflow-config trace.txt -o plancast.config",
)
@reads_log()
def export_nextflow_config_command(
    log: Log,
    output: Output,
    levels: Annotated[str, typer.Option(help="Quantiles of the attempts.")] = ".9,.98",
    json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Write time and memory of each process for Nextflow, rising from attempt to attempt."""
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.operators.durations import nextflow_config

    text = nextflow_config(log, reading, levels=parse_levels(levels))
    write_text_atomic(output, text)
    _wrote(output, json)


@app.command("slurm-nice", epilog="Example: plancast export slurm-nice --model models/runtime")
def export_slurm_nice_command(
    model: Annotated[Path, typer.Option(help="Folder of a trained model.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the commands.")
    ] = None,
    set_nice: Annotated[
        bool, typer.Option("--set-nice", help="Set the nice values; else they are only printed.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="Time for planning.", min=0.1)] = 5.0,
    json: Json = False,
) -> None:
    """Print nice values that make Slurm start waiting jobs in the planner's order."""
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.operators.slurm_nice import nice_of_site
    from plancast.pipelines.operators.slurm_nice import set_nice as written
    from plancast.planner.model.domain import BadRequest

    values = nice_of_site(model, seconds=seconds)
    text = "".join(f"scontrol update JobId={k} Nice={nice}\n" for k, nice in values.items())
    if output is not None:
        write_text_atomic(output, text)
    refused = written(values) if set_nice else []
    if json:
        print_json({"nice": values, "set": set_nice, "refused": len(refused)})
    else:
        if output is not None:
            _wrote(output, json)
        elif not set_nice:
            typer.echo(text, nl=False)
        if set_nice:
            done = counted(len(values) - len(refused), "waiting job")
            console.print(f"set the nice values of {done}")
    if refused:
        raise BadRequest(f"slurm-nice: {len(refused)} were refused; {refused[0]}")


@app.command("slurm-cluster", epilog="Example: plancast export slurm-cluster -o cluster.yaml")
def export_slurm_cluster_command(output: Output, json: Json = False) -> None:
    """Write Slurm's nodes as a cluster file: partitions, features and GRES; read-only."""
    from plancast.pipelines.engines.slurm import cluster_of_site
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.inputs.yaml_files import yaml_text

    content = cluster_of_site()
    write_text_atomic(output, yaml_text(content))
    if json:
        print_json({"written": str(output), "nodes": len(content["workers"])})
        return
    console.print(
        f"wrote {counted(len(content['workers']), 'node')} to {escape(str(output))}", soft_wrap=True
    )


def _wrote(path: Path, json: bool) -> None:
    if json:
        print_json({"written": str(path)})
    else:
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)
