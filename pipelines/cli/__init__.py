"""The command line: ``plancast COMMAND``.

Exit codes: 0 ok, 2 bad input or usage, 3 no plan, 4 invalid plan.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

import click
import typer

from pipelines.cli import evaluating, forecasting, generating, planning, running, tuning
from pipelines.cli.common import BAD_INPUT
from planner.domain import BadRequest

app = typer.Typer(
    name="plancast",
    help="Learns how long jobs run from their log, and plans whole batches with the forecasts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(generating.app, name="generate")
for module in (forecasting, evaluating, tuning, planning, running):
    for command, function in module.COMMANDS.items():
        text, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\nExample: ")
        app.command(command, help=text, epilog=f"Example: {' '.join(example.split())}")(function)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Whatever is wrong with what the user gave ends as one sentence on standard error.
    """
    try:
        code = app(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except click.ClickException as wrong:
        wrong.show()
        code = BAD_INPUT
    except click.exceptions.Abort:
        code = 130
    except BrokenPipeError:
        # Who reads has enough; Python must not complain about it while it shuts down.
        sys.stderr.close()
        code = 0
    except ValueError as wrong:
        if not is_bad_input(wrong):
            raise
        print(f"plancast: {wrong}", file=sys.stderr)
        code = BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)


def is_bad_input(error: ValueError) -> bool:
    """Whether an error tells the user what to mend."""
    if isinstance(error, BadRequest):
        return True
    # Imported only now: the planner's commands do not load the predictor.
    from predictor import BadLog, BadModel

    return isinstance(error, BadLog | BadModel)
