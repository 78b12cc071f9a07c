"""``plancast advise``: which time limits to request, and what they would be worth."""

from __future__ import annotations

import json as text_of
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plancast.pipelines.cli.backtesting import Procs, Window
from plancast.pipelines.cli.common import (
    Columns,
    Delimiter,
    Fields,
    MaxBad,
    Strict,
    Timezone,
    console,
    progress,
    reading_of,
    table,
)
from plancast.planner.model.domain import BadRequest

if TYPE_CHECKING:
    from plancast.pipelines.operators.advise import Advice

SHOWN_GROUPS = 15


def advise(
    log: Annotated[Path, typer.Argument(help="A job log in any form that ingest takes.")],
    risk: Annotated[
        float, typer.Option(help="Share of the jobs that would have finished which may be cut.")
    ] = 0.01,
    worst: Annotated[
        float, typer.Option(help="Greatest chance to be cut that any one job is given.")
    ] = 0.8,
    dispatcher: Annotated[
        str, typer.Option(help="Disciplines of the replays, with commas; none skips them.")
    ] = "easy,easy-sjbf",
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Where to write every group's limit.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Where to write the report as JSON (- prints it).")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write --format slurm."),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="slurm: print --time lines and a table for job_submit.lua; or the log's form "
            "(auto, swf, sacct, pbs, wfformat, table)."
        ),
    ] = "auto",
    columns: Columns = None,
    timezone: Timezone = None,
    fields: Fields = None,
    delimiter: Delimiter = None,
    max_bad: MaxBad = None,
    strict: Strict = False,
    procs: Procs = None,
    window: Window = None,
) -> None:
    """Say which time limit each group of jobs should request, and what that would be worth.

    Example: plancast advise KTH-SP2-1996-2.swf.gz --risk 0.01 --csv limits.csv
    """
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.operators.advise import advise as advised
    from plancast.pipelines.operators.advise import slurm_text

    slurm = format == "slurm"
    if output is not None and not slurm:
        raise BadRequest("-o: goes with --format slurm; use --csv or --json for the others")
    form = "auto" if slurm else format
    reading = reading_of(form, columns, timezone, fields, delimiter, max_bad, strict)
    names = [] if dispatcher == "none" else [word.strip() for word in dispatcher.split(",")]
    with progress(f"advising {log.name}") as tell:
        found = advised(
            log,
            risk=risk,
            worst=worst,
            dispatchers=names,
            reading=reading,
            procs=procs,
            window=window,
            progress=lambda text: tell(text=text),
        )
    if csv is not None:
        write_text_atomic(csv, found.groups.to_csv(index=False))
    report = text_of.dumps(found.facts, indent=1) + "\n"
    if json is not None and str(json) == "-":
        typer.echo(report, nl=False)
        return
    if json is not None:
        write_text_atomic(json, report)
    if slurm:
        if output is None:
            typer.echo(slurm_text(found), nl=False)
            return
        write_text_atomic(output, slurm_text(found))
    else:
        show(found)
    for path in (csv, json, output):
        if path is not None:
            console.print(f"wrote {path}", soft_wrap=True, markup=False)


def show(found: Advice) -> None:
    """The curve, the waits, who would gain most, and the verdict."""
    facts = found.facts
    user = facts["excess_core_h"]["user"]

    def share(value: float) -> str:
        return f"{100 * value / user:.1f} %" if user else "-"

    rows = [["requests of users", "0.00 %", f"{user:,.0f}", share(user), "0.0 %", ""]]
    for point in facts["curve"]:
        rule = point["best_rule"]
        kept = "kept" if point["promise_kept"] else "broken"
        rows.append(_curve_row(f"advised, risk {100 * point['risk']:g} %", point, share, kept))
        rows.append(_curve_row(f"  {rule['name']}", rule, share, ""))
    title = (
        f"{facts['log']}: {facts['finishing_jobs']:,} of {facts['jobs']:,} jobs finished within "
        "their request;\nhours that limits hold beyond the runs, and the best rule of each risk"
    )
    columns = ["limits", "cut", "excess core-h", "of users'", "lost", "by month"]
    console.print(table(title, columns, rows))
    if facts["replays"]:
        console.print()
        console.print(_wait_table(facts))
    groups = found.groups[found.groups["limit_s"] < found.groups["requested_s"]]
    if len(groups):
        console.print()
        console.print(_group_table(groups))
    console.print()
    console.print(facts["verdict"], markup=False)


def _curve_row(
    name: str, point: dict[str, Any], share: Callable[[float], str], kept: str
) -> list[str]:
    return [
        name,
        f"{100 * point['cut_share']:.2f} %",
        f"{point['excess_core_h']:,.0f}",
        share(point["excess_core_h"]),
        share(point["lost_core_h"]),
        kept,
    ]


def _wait_table(facts: dict[str, Any]) -> Any:
    rows = []
    for found in facts["replays"]:
        waits, against = found["wait_mean_min"], found["advised_against_user"]
        rows.append(
            [
                found["dispatcher"],
                *(f"{waits[name]:,.1f}" for name in ("user", "advised", "perfect")),
                f"{against['mean']:+.1f} [{against['lo']:+.1f}, {against['hi']:+.1f}]",
                f"{found['lost_core_h']:,.0f}",
            ]
        )
    title = (
        f"Mean waits in minutes by the limits at {100 * facts['risk']:g} %, 95 % interval paired "
        "by week;\na job that is cut is submitted again with its old request"
    )
    columns = ["replay", "users'", "advised", "perfect", "advised - users'", "lost core-h"]
    return table(title, columns, rows)


def _group_table(groups: Any) -> Any:
    from plancast.pipelines.operators.advise import slurm_time

    rows = [
        [
            f"{row['user'] or '-'} / {row['cpus']:g} / {row['queue'] or '-'} / {row['app'] or '-'}",
            slurm_time(row["requested_s"]),
            slurm_time(row["limit_s"]),
            f"{100 * row['chance']:.1f} %",
            f"{row['jobs']:,}",
            f"{row['saved_core_h']:,.0f}",
        ]
        for row in groups.head(SHOWN_GROUPS).to_dict("records")
    ]
    title = (
        f"Limits from now on, the {min(SHOWN_GROUPS, len(groups))} groups of {len(groups):,} that "
        "gained most:\nchance to be cut; core-hours freed so far, less the runs that were cut"
    )
    columns = ["user / processors / queue / job", "asks", "advised", "chance", "jobs", "core-h"]
    return table(title, columns, rows)


COMMANDS: dict[str, Callable[..., None]] = {"advise": advise}
