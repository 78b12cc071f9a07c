"""``plancast execute``: what forecast errors do to a batch, with and without thinking anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import Json, console, print_json, progress, table, words_of
from plancast.planner.model.domain import BadRequest


def execute(
    batch: Annotated[Path, typer.Argument(help="A cluster file or a PlanRequest (JSON).")],
    sigma: Annotated[str, typer.Option(help="Spreads of the log error.")] = "0,.1,.3,.6,1",
    policy: Annotated[str, typer.Option(help="static, online, closed.")] = "static,online,closed",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the errors at each sigma.")] = 2,
    solver: Annotated[str, typer.Option(help="Makes the plans.")] = "auto",
    steps: Annotated[int, typer.Option(min=0, help="Solver steps for each plan.")] = 20_000,
    json: Json = False,
) -> None:
    """Plan a batch on forecasts with errors, execute it with the truth, compare ways to do it.

    The truth is the median of the batch's own estimates.

    Example: plancast execute cluster-1000x50-0.json.gz --sigma 0,.3,1 --policy static,closed
    --seeds 3 --json
    """
    from plancast.pipelines.backtest.execute_batch import Sweep, policies, read_batch, sweep
    from plancast.planner.model.messages import Budget

    asked = Sweep(
        sigmas=_numbers(sigma), executors=policies(words_of(policy, "--policy")), seeds=seeds,
        solver=solver, budget=Budget(seconds=None, steps=steps),
    )  # fmt: skip
    request = read_batch(batch)
    with progress(f"executing {batch.name}") as tell:
        found = sweep(request, asked, tell=tell)
    if json:
        print_json(found)
        return
    _print(found, asked)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadRequest(f"--sigma {text!r}: write numbers, as in 0,.3,1") from None


def _print(found: dict[str, Any], asked: Any) -> None:
    from plancast.pipelines.backtest.execute_batch import means

    mean = means(found)
    rows = [
        [name, *(f"{mean[name][sigma]:.3f}" for sigma in asked.sigmas)] for name in asked.executors
    ]
    columns = ["executed", *(f"sigma {sigma:g}" for sigma in asked.sigmas)]
    title = f"Cost over {found['base_cost']:,.6g}, the static plan with perfect forecasts"
    console.print(table(title, columns, rows))


COMMANDS: dict[str, Callable[..., None]] = {"execute": execute}
