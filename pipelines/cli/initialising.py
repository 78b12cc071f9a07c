"""``plancast init``: a project folder from a log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import (
    Json,
    console,
    print_json,
    progress,
)
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading


@reads_log("format", "columns", "timezone")
def init(
    log: Annotated[Path, typer.Argument(help="A job log: SWF, sacct, PBS, CSV, Parquet, ...")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder to make; named after the log without one.")
    ] = None,
    json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Make a project folder from a log: its format and columns are guessed, nothing is asked.

    The folder holds params.yaml with comments and, for a table, columns.yaml. Look at what was
    guessed, then run the pipeline there.

    Example: plancast init jobs.csv
    """
    from plancast.pipelines.cli.forecasting import describe_log
    from plancast.pipelines.inputs.shell import command
    from plancast.pipelines.project import make_project

    with progress(f"reading {escape(log.name)}"):
        found = make_project(log, folder, reading)
    if json:
        facts: dict[str, Any] = {"folder": str(found.folder), "format": found.facts["format"]}
        print_json(facts | {"written": [str(path) for path in found.written]})
        return
    console.print(describe_log(found.facts), soft_wrap=True)
    for path in found.written:
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    ours = command("plancast")
    if ours != "plancast":
        ours = str(Path(ours).absolute())
    console.print(f"next: cd {escape(str(found.folder))} && {escape(ours)} run", soft_wrap=True)


COMMANDS: dict[str, Callable[..., None]] = {"init": init}
