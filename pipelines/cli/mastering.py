"""``plancast master``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape

from pipelines.cli.common import NO_PLAN, Json, Seed, console, print_json, stderr, table
from planner.domain import BadRequest

ENGINES = ("sim", "dask", "slurm")


def master(
    tasks: Annotated[Path, typer.Option(help="Task file.")],
    cluster: Annotated[Path, typer.Option(help="Cluster file: the workers.")],
    engine: Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}.")] = "sim",
    state: Annotated[Path, typer.Option(help="File that remembers all; made if new.")] = Path(
        "master.db"
    ),
    policy: Annotated[Path | None, typer.Option(help="Policy file.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model that forecasts the tasks.")] = None,
    estimates: Annotated[Path | None, typer.Option(help="Estimates made elsewhere.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="Canonical log that finished tasks are added to.")
    ] = None,
    command: Annotated[
        str, typer.Option(help="What a shell runs for a task; {id}, {app}, {requested_s}.")
    ] = "",
    budget: Annotated[float, typer.Option(min=0.1, help="Seconds for a full plan.")] = 2.0,
    lose: Annotated[
        list[str] | None,
        typer.Option(help="WORKER@SECONDS: kill a worker so long after the beginning."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0.0, help="Seconds that a plan may be late.")
    ] = 10.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Carry a batch out on an engine: plan, start, watch, repair, until all has ended.

    All that matters is in --state: after a kill the same command goes on where it was. The
    engine sim draws run times from the estimates and runs on a clock of its own; dask starts
    a scheduler and a process for each worker of the cluster file on this machine; slurm takes
    the nodes of the cluster file from the Slurm that the usual commands reach.

    Plans are made in a process of its own. One that does not answer within its budget and
    --patience, or dies, is replaced; the batch goes on with the greedy plan meanwhile.

    Example: plancast master --engine sim --tasks tasks.csv --cluster cluster.yaml --lose w1@600
    """
    from pipelines.master.asking import PatientPlanner
    from pipelines.master.batch import carry_out, command_of, simulated
    from pipelines.requests import request_from_files
    from planner.controller import ControlPolicy
    from planner.messages import Budget

    if engine not in ENGINES:
        raise BadRequest(f"--engine {engine!r}: choose {', '.join(ENGINES)}")
    if engine != "sim" and not command:
        raise BadRequest(f"--engine {engine} runs real commands; name one with --command")
    losses = [_loss(text) for text in lose or []]
    request = request_from_files(tasks, cluster, policy=policy, model=model, estimates=estimates)
    runs = command_of(command)
    control = ControlPolicy(replan_budget=Budget(budget))
    planner = PatientPlanner(control, grace_s=patience)
    on_step = None
    if engine == "sim":
        target: Any = simulated(request, seed, losses)
    else:
        folder = state.with_suffix(f".{engine}")
        planner.start()  # it loads while the cluster comes up
        target, request, on_step = _real(engine, request, losses, folder)
    finished = False
    try:
        with _shown(json) as show:
            told = carry_out(
                request, target, state, control=control, ask=planner, command=runs, log=log,
                show=show, on_step=on_step,
            )  # fmt: skip
        finished = True
    finally:
        planner.close()
        # Interrupted, the cluster goes on, and the same command finds it again.
        if finished and engine == "dask":
            target.stop()
        else:
            target.close()
    if json:
        print_json(told)
    else:
        _print(told)
    if told["unplanned"] and not told["completed"]:
        raise typer.Exit(NO_PLAN)


def _real(
    engine: str, request: Any, losses: list[tuple[str, int]], folder: Path
) -> tuple[Any, Any, Any]:
    """An engine on the world's clock, the request from now on, and what to kill on the way."""
    if engine == "dask":
        if find_spec("distributed") is None:
            raise BadRequest("--engine dask: needs the extra; pip install 'plancast[dask]'")
        from pipelines.engines.dask import started

        return started(request, losses, folder)
    from pipelines.engines.slurm import attached

    return attached(request, losses, folder)


def _loss(text: str) -> tuple[str, int]:
    worker, at, seconds = text.rpartition("@")
    if not at or not worker or not seconds.isdigit():
        raise BadRequest(f"--lose {text!r}: write WORKER@SECONDS, as in w1@600")
    return worker, int(seconds)


@contextmanager
def _shown(json: bool) -> Iterator[Callable[[Any], None] | None]:
    """A live picture on standard error, where that is a terminal and JSON is not asked for."""
    if json or not stderr.is_terminal:
        yield None
        return
    from pipelines.master.view import picture

    with Live(console=stderr, refresh_per_second=4, transient=True) as live:
        yield lambda one: live.update(picture(one))


def _print(told: dict[str, Any]) -> None:
    rows = [
        (str(number), p["choice"], f"{p['cost']:.6g}", str(p["moved"]), p["reason"])
        for number, p in enumerate(told["plans"], start=1)
    ]
    shown = table("Plans", ("", "choice", "cost", "moved", "why"), rows)
    shown.columns[-1].justify = "left"
    shown.columns[-1].no_wrap = False
    console.print(shown)
    console.print(
        f"{told['completed']} completed, {told['not_completed']} not completed, "
        f"{told['runs_lost_with_their_worker']} runs lost with their worker, "
        f"{told['runs_preempted']} preempted"
    )
    for task, reason in told["unplanned"].items():
        console.print(f"  unplanned {escape(task)}: {escape(reason)}")
    if told["planned_cost"] is not None:
        console.print(
            f"cost: planned {told['planned_cost']:.6g}, realised {told['realised_cost']:.6g}"
        )
    if "logged" in told:
        console.print(f"{told['logged']} tasks added to the log")


COMMANDS: dict[str, Callable[..., None]] = {"master": master}
