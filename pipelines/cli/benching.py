"""``plancast bench``: solvers and peers on published instances."""

from __future__ import annotations

import json as text_of
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import Seed, console, progress, table, words_of
from plancast.wording import counted


def bench(
    path: Annotated[Path, typer.Argument(help="An archive, a folder or a file of instances.")],
    kind: Annotated[
        str, typer.Option(help="rcpsp, rg300, mmrcpsp, jsp, fjsp, dag, cluster, request.")
    ],
    solvers: Annotated[
        str,
        typer.Option(
            help="auto, solvers of plan, and peers: pyjobshop, model, kube, most, edf, heft."
        ),
    ] = "greedy,auto",
    limit_s: Annotated[
        float, typer.Option("--limit-s", help="Seconds for each instance and solver.")
    ] = 10.0,
    sample: Annotated[
        int | None, typer.Option(help="So many instances, drawn with the seed; all without it.")
    ] = None,
    seed: Seed = 0,
    only: Annotated[str, typer.Option(help="Names of instances, as in 'j60*,j30*'.")] = "*",
    sizes: Annotated[
        str | None, typer.Option(help="Sizes of cluster files, as in 50x10,1000x50.")
    ] = None,
    cpu_normalised: Annotated[
        bool, typer.Option("--cpu-normalised", help="Limits count CPU seconds.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="Where to write rows and summary (- prints them).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the rows that the JSON file has already.")
    ] = False,
) -> None:
    """Run solvers and peers on published instances, side by side; the evaluator judges all.

    Example: plancast bench j60.tar.xz --kind rcpsp --sample 20 --solvers auto,pyjobshop --json
    bench.json
    """
    # Imported only now: the peers' libraries are not for those who only plan.
    from plancast.pipelines.bench.bench import Settings, kept_rows, read_set, run_bench
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.planner.model.domain import BadRequest

    if sizes is not None and (only != "*" or kind != "cluster"):
        raise BadRequest("--sizes is for --kind cluster, in place of --only; leave it out")
    if resume and (json is None or str(json) == "-"):
        raise BadRequest("--resume needs --json with the file of the earlier run")
    if sizes is None:
        patterns = words_of(only, "--only")
    else:
        patterns = [f"cluster-{size}-*" for size in words_of(sizes, "--sizes")]
    settings = Settings(
        solvers=tuple(words_of(solvers, "--solvers")),
        limit_s=limit_s,
        sample=sample,
        only=tuple(patterns),
        seed=seed,
        cpu_normalised=cpu_normalised,
    )
    instances = read_set(path, kind)
    to_file = json is not None and str(json) != "-"
    if to_file and json is not None and instances.takes(json):
        raise BadRequest(
            f"--json {json}: would be one of the files that {path} is read for; name another"
        )

    def save(report: dict[str, Any]) -> None:
        if to_file and json is not None:
            write_text_atomic(json, text_of.dumps(report, indent=1, allow_nan=False) + "\n")

    kept = kept_rows(json, settings) if resume and json is not None else {}
    with progress(f"bench {path.name}") as tell:
        report = run_bench(instances, settings, kept=kept, tell=tell, save=save)
    if json is not None and not to_file:
        typer.echo(text_of.dumps(report, indent=1, allow_nan=False))
        return
    console.print(summary_table(path.name, report))
    for line in declined(report["rows"]):
        console.print(line, soft_wrap=True, markup=False)
    if to_file:
        console.print(f"wrote {json}")


def summary_table(title: str, report: dict[str, Any]) -> Any:
    """A row for each solver; a dash where it has nothing to say."""

    def shown(value: Any, form: str) -> str:
        return "-" if value is None else form.format(value)

    rows = [
        [
            solver,
            f"{found['answered']} of {found['instances']}",
            shown(found["invalid"], "{:d}"),
            shown(found["mean_gap"], "{:+.2%}"),
            shown(found["mean_cost"], "{:,.6g}"),
            shown(found["proved_share"], "{:.0%}"),
            shown(found["mean_first_s"], "{:.3f}"),
            shown(found["mean_wall_s"], "{:.2f}"),
            shown(found["peak_mb"], "{:,.0f}"),
        ]
        for solver, found in report["summary"].items()
    ]
    settings = report["settings"]
    clock = "CPU s" if settings["cpu_normalised"] else "s"
    title = (
        f"{title}: {settings['limit_s']:g} {clock} an instance, "
        f"{counted(settings['threads'], 'thread')}"
    )
    columns = ["solver", "planned", "invalid", "gap", "cost", "proved", "first s", "wall s", "MB"]
    return table(title, columns, rows)


def declined(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each solver and reason why it has no plan."""
    said = {"no_answer": "its process gave no answer", "no_plan_in_time": "no plan in time"}
    found = Counter(
        (row["solver"], row.get("reason") or said.get(row["status"], row["status"]))
        for row in rows
        if row["objective"] is None and row["valid"] is None
    )
    return [f"{solver}, {counted(n, 'instance')}: {why}" for (solver, why), n in found.items()]


COMMANDS: dict[str, Callable[..., None]] = {"bench": bench}
