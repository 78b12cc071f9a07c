"""``plancast advise``: which time limits and how much memory to request, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plancast.json_text import json_of
from plancast.pipelines.cli.backtesting import Procs, Window
from plancast.pipelines.cli.common import (
    console,
    progress,
    table,
    words_of,
)
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.planner.model.domain import BadRequest
from plancast.wording import counted

if TYPE_CHECKING:
    from plancast.pipelines.operators.advise import Advice

SHOWN_GROUPS = 15


@reads_log("columns", "timezone", "fields", "delimiter", "max_bad", "strict")
def advise(
    log: Annotated[Path, typer.Argument(help="A job log in any form that ingest takes.")],
    risk: Annotated[
        float, typer.Option(help="Share of the jobs that would have finished which may be cut.")
    ] = 0.01,
    memory: Annotated[
        bool, typer.Option("--memory", help="Advise memory instead of time limits.")
    ] = False,
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
    procs: Procs = None,
    window: Window = None,
    *,
    reading: Reading,
) -> None:
    """Say which time limit (or memory) each group of jobs should request, and what it is worth.

    Example: plancast advise KTH-SP2-1996-2.swf.gz --risk 0.01 --csv limits.csv
    """
    from plancast.pipelines.inputs.files import write_text_atomic
    from plancast.pipelines.operators.advise import advise as advised
    from plancast.pipelines.operators.advise import slurm_text
    from plancast.pipelines.operators.memory import advise_memory_of
    from plancast.predictor.logs import READERS

    slurm = format == "slurm"
    if format not in ("slurm", "auto", *READERS):
        raise BadRequest(f"--format {format!r}: is none of slurm, auto, {', '.join(READERS)}")
    if output is not None and not slurm:
        raise BadRequest("-o: goes with --format slurm; use --csv or --json for the others")
    if memory and slurm:
        raise BadRequest("--format slurm: writes time limits; use --csv or --json with --memory")
    reading = replace(reading, format="auto" if slurm else format)
    names = [] if dispatcher == "none" else words_of(dispatcher, "--dispatcher")
    with progress(f"advising {log.name}") as tell:
        said = lambda text: tell(text=text)  # noqa: E731
        if memory:
            found = advise_memory_of(log, risk=risk, reading=reading, progress=said)
        else:
            found = advised(
                log,
                risk=risk,
                worst=worst,
                dispatchers=names,
                reading=reading,
                procs=procs,
                window=window,
                progress=said,
            )
    if csv is not None:
        write_text_atomic(csv, found.groups.to_csv(index=False))
    report = json_of(found.facts, indent=1) + "\n"
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
    elif memory:
        show_memory(found)
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
        return f"{value / user:.1%}" if user else "-"

    rows = [["requests of users", "0.00%", f"{user:,.0f}", share(user), "0.0%", ""]]
    for point in facts["curve"]:
        rule = point["best_rule"]
        kept = "kept" if point["promise_kept"] else "broken"
        rows.append(_curve_row(f"advised, risk {100 * point['risk']:g}%", point, share, kept))
        rows.append(_curve_row(f"  {rule['name']}", rule, share, ""))
    title = (
        f"{facts['log']}: {facts['finishing_jobs']:,} of {counted(facts['jobs'], 'job')} "
        f"finished within "
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


METHOD_NAMES = {
    "user": "requests of users",
    "advised": "advised",
    "maximum": "largest so far",
    "linear": "straight line",
    "k_segments": "k-Segments, one segment",
    "sizey": "Sizey",
}


def show_memory(found: Advice) -> None:
    """What each method wastes and fails, which groups would gain most, and the verdict."""
    facts = found.facts
    user = facts["memory"]["user"]["waste_gib_h"]
    rows = [
        [
            METHOD_NAMES[name],
            f"{waste['waste_gib_h']:,.1f}",
            f"{waste['waste_gib_h'] / user:.1%}" if user else "-",
            f"{waste['waste_half_gib_h']:,.1f}",
            f"{waste['failures']:.2%}",
        ]
        for name, waste in facts["memory"].items()
    ]
    title = (
        f"{facts['log']}: {facts['judged_tasks']:,} of {counted(facts['tasks'], 'task')}, the last "
        "70% of those for which their request was enough;\nmemory held and not used, a failed "
        "attempt lasting the full run, or half of it"
    )
    columns = ["method", "waste GiB-h", "of users'", "at half a run", "failures"]
    console.print(table(title, columns, rows))
    groups = found.groups[found.groups["advised_mib"] < found.groups["mem_mib"]]
    if len(groups):
        shown = [
            [
                " / ".join(
                    str(part)
                    for part in (
                        row["user"],
                        row["group"],
                        row["app"].rsplit(":", 1)[-1],
                        f"{row['cpus']:g}",
                    )
                    if part
                ),
                f"{row['mem_mib']:,.0f}",
                f"{row['advised_mib']:,.0f}",
                f"{row['chance']:.1%}",
                f"{row['tasks']:,}",
                f"{row['saved_gib_h']:,.1f}",
            ]
            for row in groups.head(SHOWN_GROUPS).to_dict("records")
        ]
        title = (
            f"Amounts from now on, MiB, the {counted(len(shown), 'group')} of "
            f"{len(groups):,} that gained "
            "most:\nchance to fail; GiB-hours freed so far"
        )
        console.print()
        columns = ["user / group / task / processors", "asks", "advised", "chance", "tasks"]
        console.print(table(title, [*columns, "GiB-h"], shown))
    console.print()
    console.print(facts["verdict"], markup=False)


def _curve_row(
    name: str, point: dict[str, Any], share: Callable[[float], str], kept: str
) -> list[str]:
    return [
        name,
        f"{point['cut_share']:.2%}",
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
        f"Mean waits in minutes by the limits at {100 * facts['risk']:g}%, 95% interval paired "
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
            f"{row['chance']:.1%}",
            f"{row['jobs']:,}",
            f"{row['saved_core_h']:,.0f}",
        ]
        for row in groups.head(SHOWN_GROUPS).to_dict("records")
    ]
    title = (
        f"Limits from now on, the {counted(min(SHOWN_GROUPS, len(groups)), 'group')} of "
        f"{len(groups):,} that "
        "gained most:\nchance to be cut; core-hours freed so far, less the runs that were cut"
    )
    columns = ["user / processors / queue / job", "asks", "advised", "chance", "jobs", "core-h"]
    return table(title, columns, rows)


COMMANDS: dict[str, Callable[..., None]] = {"advise": advise}
