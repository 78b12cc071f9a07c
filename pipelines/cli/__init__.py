"""The command line: ``plancast COMMAND``.

Exit codes: 0 ok, 2 bad input or usage, 3 no plan, 4 invalid plan, 5 tasks failed or never ran,
6 the environment failed and the batch can be resumed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated, Any

import typer
import typer.core

from plancast.pipelines.cli import (
    advising,
    asking,
    attending,
    backtesting,
    benching,
    comparing,
    diagnosing,
    evaluating,
    executing,
    exporting,
    forecasting,
    generating,
    guiding,
    initialising,
    mastering,
    planning,
    running,
    serving,
    tuning,
    worth,
)
from plancast.pipelines.cli.common import INTERRUPTED, Command
from plancast.pipelines.cli.ending import (
    TERMINATED,
    nobody_reads,
    output_lost,
    say_any_letter,
    sigterm_as_ctrl_c,
)
from plancast.pipelines.inputs.shell import for_this_shell
from plancast.pipelines.stages.stage import BAD_INPUT, fault_of

# Newer versions of typer carry their own copy of click: only by way of typer's names are the
# errors the ones that it raises.
UsageError: Any = typer.BadParameter.__mro__[1]


class _ByPanel(typer.core.TyperGroup):
    """The commands in the order of their panels."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names for the help."""
        order = list(_PANEL_OF)
        names = super().list_commands(ctx)
        return sorted(names, key=lambda n: order.index(n) if n in order else len(order))


app = typer.Typer(
    name="plancast",
    cls=_ByPanel,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
FIRST, LEARN, PLAN, RUN, ATTEND, SITE, STUDY = (
    "Start here", "Learn run times", "Plan", "Carry out", "With a master that stays",
    "For a site", "Study",
)  # fmt: skip
PANELS = {
    FIRST: ("init", "run", "worth", "doctor"),
    LEARN: ("ingest", "train", "predict", "evaluate", "tune", "promote"),
    PLAN: ("plan", "validate", "guide"),
    RUN: ("master", "execute", "serve"),
    ATTEND: tuple(attending.COMMANDS),
    SITE: ("advise", "eta", "export"),
    STUDY: ("trial", "report", "compare", "backtest", "bench", "generate"),
}
"""Panel of the help to its commands."""
_PANEL_OF = {command: panel for panel, commands in PANELS.items() for command in commands}


def _version(asked: bool) -> None:
    if asked:
        from plancast.pipelines.cli.diagnosing import our_version

        typer.echo(f"plancast {our_version()}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say the version.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """Learns how long jobs run from their log, and plans whole batches with the forecasts."""


MODULES = (
    advising, asking, attending, backtesting, benching, comparing, diagnosing, evaluating,
    executing, forecasting, initialising, mastering, planning, running, serving, tuning, worth,
)  # fmt: skip


def _flowing(text: str) -> str:
    """The same in paragraphs of one line each, for the terminal to break."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _add(command: str, function: Any) -> None:
    """A command with its help and example, and those below it."""

    def words(of: Any) -> dict[str, Any]:
        text, _, example = inspect.cleandoc(of.__doc__ or "").partition("\n\nExample: ")
        return {"help": _flowing(text), "epilog": f"Example: {' '.join(example.split())}"}

    panel = _PANEL_OF.get(command, STUDY)
    below = mastering.GROUPS.get(command)
    if below is None:
        app.command(command, cls=Command, rich_help_panel=panel, **words(function))(function)
        return
    group = typer.Typer(invoke_without_command=True, **words(function))
    group.callback()(function)
    for name, inner in below.items():
        group.command(name, cls=Command, **words(inner))(inner)
    app.add_typer(group, name=command, rich_help_panel=panel)


for command, function in {n: f for module in MODULES for n, f in module.COMMANDS.items()}.items():
    _add(command, function)
for name, group in (
    ("generate", generating.app), ("export", exporting.app), ("guide", guiding.app),
):  # fmt: skip
    for known in group.registered_commands:
        known.cls = Command
        known.help = _flowing(inspect.cleandoc(getattr(known.callback, "__doc__", None) or ""))
    app.add_typer(group, name=name, rich_help_panel=_PANEL_OF[name])


@cache
def _program() -> Any:
    """All commands with their options, which take 70 ms to build."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Whatever is wrong with what the user gave ends as one sentence on standard error.
    """
    say_any_letter()
    with sigterm_as_ctrl_c() as heard:
        code = _code_of(arguments)
    if heard and code == INTERRUPTED:
        code = TERMINATED
    sys.exit(code if isinstance(code, int) else 0)


def _code_of(arguments: Sequence[str] | None) -> Any:
    """Run a command; the code to exit with."""
    try:
        code = _program()(args=arguments, prog_name=app.info.name, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk is found here, or never
    except typer.Exit as leave:
        code = leave.exit_code
    except UsageError as wrong:
        if text := _usage(wrong):
            print(text, file=sys.stderr)
        code = BAD_INPUT
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (SystemExit, BrokenPipeError) as leaving:
        if not nobody_reads(leaving):
            raise
        # Python would try once more while it shuts down, and complain.
        with suppress(OSError):
            sys.stdout.close()
        code = 0
    except (ValueError, OSError, OverflowError) as wrong:
        fault = (output_lost(wrong) if isinstance(wrong, OSError) else None) or fault_of(wrong)
        if fault is None:
            raise
        print(f"plancast: {for_this_shell(fault, _PANEL_OF)}", file=sys.stderr)
        code = BAD_INPUT
    return code


def _usage(error: Any) -> str:
    """A usage error in one sentence; nothing where the help has been shown instead."""
    text = str(error.format_message()).strip()
    if not text or "\n" in text:
        return text
    command = error.ctx.command_path if error.ctx else "plancast"
    text = text.rstrip(".").replace(": Input should be ", ": must be ")
    return f"{command}: {text}; see {for_this_shell(command, _PANEL_OF)} --help"
