"""What the commands share: consoles, tables, JSON, progress, exit codes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from plancast.json_text import json_of
from plancast.planner.model.domain import BadRequest

NO_PLAN = 3
INVALID_PLAN = 4
TASKS_FAILED = 5
ENVIRONMENT_FAILED = 6
INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is left to chance.", min=0)]

OUTPUTS = ("output", "json", "csv", "gantt", "save_request")
"""Parameters that say where a command writes."""

PIPED_WIDTH = 110
"""Columns of a table that goes into a pipe or a file, where there is no screen to fit."""


class Command(typer.core.TyperCommand):
    """A command that looks at where it is to write before it does anything else."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, where no output is a file that it reads, or writes besides."""
        given = [
            (max(parameter.opts, key=len), parameter.name in OUTPUTS, Path(value))
            for parameter in self.params
            for value in _each(ctx.params.get(parameter.name))
            if isinstance(value, str | Path) and str(value) != "-"
        ]
        taken = {os.path.realpath(path): option for option, out, path in given if not out}
        for option, out, path in given:
            if out and (path.is_file() or path.is_dir() or not path.exists()):
                _check_folder(path)
                other = taken.setdefault(os.path.realpath(path), option)
                if other is not option:
                    raise BadRequest(f"{option} {path}: is the file of {other} too; name another")
        return super().invoke(ctx)


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _check_folder(path: Path) -> None:
    """Refuse an output that could not be written once it is there."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise BadRequest(f"{path}: cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK):
        raise BadRequest(f"{path}: cannot be written: nothing may be written to {folder}")


class _Console(Console):
    """Sends a terminal nothing but text: names of tasks and users are other people's."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Pieces of text to be shown."""
        for segment in super().render(renderable, options):
            if not segment.control and not segment.text.isprintable():
                text = "".join(c for c in segment.text if c.isprintable() or c == "\n")
                yield segment._replace(text=text)
            else:
                yield segment


_ON_SCREEN = sys.stdout is not None and sys.stdout.isatty()
console = _Console(highlight=False, width=None if _ON_SCREEN else PIPED_WIDTH)
stderr = _Console(stderr=True, highlight=False)


def print_json(facts: Any) -> None:
    """Facts as JSON on standard output."""
    typer.echo(json_of(facts, indent=1))


def hand_over(facts: Any, shown: Any, output: Path | None) -> bool:
    """Print what was found, or only its JSON where `output` is ``-``; whether it was shown.

    Any other output is the file that the JSON goes to as well.
    """
    from plancast.pipelines.inputs.files import write_text_atomic

    if str(output) == "-":
        print_json(facts)
        return False
    console.print(shown)
    if output is not None:
        write_text_atomic(output, json_of(facts, indent=1) + "\n")
        console.print(f"wrote {output}", soft_wrap=True, markup=False)
    return True


class _Titled(Table):
    """A table with a title above it that may be wider than its columns are together."""

    heading = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Any:
        """The title, and the table."""
        yield Text(self.heading, style="bold")
        yield from super().__rich_console__(console, options)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    result = _Titled(
        header_style="underline",
        box=None,
        padding=(0, 2, 0, 0),
    )
    result.heading = title
    for place, column in enumerate(columns):
        # A number that is cut off would be another number, a name goes on in the next line.
        if place == 0:
            result.add_column(column, overflow="fold")
        else:
            result.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        result.add_row(*map(escape, row))
    return result


def when(at_s: int, now_s: int) -> str:
    """A moment as people say it: a date and time, or by how much it lies after now."""
    from plancast.planner.model.explain import is_date, moment

    if is_date(now_s):
        return moment(at_s)
    ahead = timedelta(seconds=abs(at_s - now_s))
    return "now" if not ahead else f"{'+' if at_s > now_s else '-'}{ahead}"


PIPED_S = 10.0
"""How often progress is reported where standard error is no terminal."""


@contextmanager
def progress(title: str) -> Iterator[Any]:
    """A progress bar on standard error; call what it yields with (done, all, text).

    Where standard error is no terminal, a line every ten seconds instead.
    """
    if not stderr.is_terminal:
        yield from _lines(title)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
    ) as bar:
        line = bar.add_task(title, total=None)

        def tell(done: float | None = None, total: float | None = None, text: str = "") -> None:
            bar.update(line, completed=done, total=total, description=f"{title} {text}".rstrip())

        yield tell


def _lines(title: str) -> Iterator[Any]:
    began, ended = time.monotonic(), threading.Event()
    last: dict[str, Any] = {"done": None, "total": None, "text": ""}

    def say() -> None:
        while not ended.wait(PIPED_S):
            share = (
                f", {last['done'] / last['total']:.0%}" if last["done"] and last["total"] else ""
            )
            said = f"{title} {last['text']}".rstrip()
            print(f"{said} ({time.monotonic() - began:.0f} s{share})", file=sys.stderr, flush=True)

    def tell(done: float | None = None, total: float | None = None, text: str = "") -> None:
        last.update(done=done, total=total, text=text)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        ended.set()
        thread.join()


def parse_budget(text: str | None, option: str = "--budget") -> float | None:
    """Seconds of a budget as it is written: ``30``, ``30s``, ``2min``."""
    if text is None:
        return None
    from plancast.predictor.units import duration_s

    try:
        seconds = duration_s(text)
    except ValueError as error:
        raise BadRequest(f"{option}: {error}") from None
    if seconds < 0:
        raise BadRequest(f"{option} {text!r}: is negative; write 0 or more")
    return seconds


def words_of(text: str, option: str) -> list[str]:
    """The names of an option that takes several, with commas between them."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise BadRequest(f"{option} {text!r}: write names with commas between them")
    return words


def parse_levels(text: str) -> tuple[float, ...]:
    """Quantile levels from ``.1,.5,.9``."""
    try:
        levels = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadRequest(f"--levels {text!r}: write numbers in (0, 1), as in .1,.5,.9") from None
    rising = all(a < b for a, b in zip((0.0, *levels), (*levels, 1.0), strict=True))
    if not rising:
        raise BadRequest(f"--levels {text!r}: must rise strictly within (0, 1)")
    return levels
