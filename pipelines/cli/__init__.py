"""The command line: ``plancast COMMAND``.

Exit codes: 0 ok, 2 bad input or usage, 3 no plan, 4 invalid plan, 5 tasks failed or never ran,
6 the environment failed and the batch can be resumed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import typer

from plancast.pipelines.cli import (
    advising,
    asking,
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
    mastering,
    planning,
    running,
    serving,
    tuning,
    worth,
)
from plancast.pipelines.cli.common import INTERRUPTED
from plancast.pipelines.stages.stage import BAD_INPUT, fault_of

# Newer versions of typer carry their own copy of click: only by way of typer's names are the
# errors the ones that it raises.
UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="plancast",
    help="Learns how long jobs run from their log, and plans whole batches with the forecasts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(generating.app, name="generate")
app.add_typer(exporting.app, name="export")
app.add_typer(guiding.app, name="guide")
for module in (
    forecasting, evaluating, tuning, planning, running, backtesting, benching, serving,
    mastering,
    executing, advising, asking, diagnosing, worth, comparing,
):  # fmt: skip
    for command, function in module.COMMANDS.items():
        text, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\nExample: ")
        app.command(command, help=text, epilog=f"Example: {' '.join(example.split())}")(function)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Whatever is wrong with what the user gave ends as one sentence on standard error.
    """
    try:
        code = app(args=arguments, prog_name=app.info.name, standalone_mode=False)
    except typer.Exit as leave:
        code = leave.exit_code
    except UsageError as wrong:
        if text := _usage(wrong):
            print(text, file=sys.stderr)
        code = BAD_INPUT
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # Who reads has enough; Python must not complain about it while it shuts down.
        sys.stderr.close()
        code = 0
    except (ValueError, OSError, OverflowError) as wrong:
        fault = fault_of(wrong)
        if fault is None:
            raise
        print(f"plancast: {fault}", file=sys.stderr)
        code = BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> str:
    """A usage error in one sentence; nothing where the help has been shown instead."""
    text = str(error.format_message()).strip()
    if not text or "\n" in text:
        return text
    command = error.ctx.command_path if error.ctx else app.info.name
    return f"{command}: {text.rstrip('.')}; see {command} --help"
