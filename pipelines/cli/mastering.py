"""``plancast master``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from plancast.pipelines.cli.common import (
    ENVIRONMENT_FAILED,
    TASKS_FAILED,
    Json,
    Seed,
    console,
    print_json,
    stderr,
    table,
)
from plancast.pipelines.cli.staying import serve
from plancast.pipelines.engines import ENGINES, Beginning
from plancast.planner.model.domain import BadRequest
from plancast.predictor.units import is_whole
from plancast.wording import counted


def master(
    ctx: typer.Context,
    tasks: Annotated[Path | None, typer.Option(help="Task file.")] = None,
    cluster: Annotated[Path | None, typer.Option(help="Cluster file: the workers.")] = None,
    engine: Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}.")] = "sim",
    state: Annotated[
        Path | None, typer.Option(help="File that remembers all; a new one by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the batch that --state holds.")
    ] = False,
    policy: Annotated[Path | None, typer.Option(help="Policy file.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model that forecasts the tasks.")] = None,
    estimates: Annotated[Path | None, typer.Option(help="Estimates made elsewhere.")] = None,
    log: Annotated[
        Path | None, typer.Option(help="Canonical log that finished tasks are added to.")
    ] = None,
    command: Annotated[
        str,
        typer.Option(help="Program and arguments for a task: {id}, {app}, {owner}, {requested_s}."),
    ] = "",
    shell: Annotated[
        bool, typer.Option("--shell", help="Run --command by a shell: $PLANCAST_ID and so on.")
    ] = False,
    budget: Annotated[float, typer.Option(min=0.1, help="Seconds for a full plan.")] = 2.0,
    lose: Annotated[
        list[str] | None,
        typer.Option(help="WORKER@SECONDS: kill a worker so long after the beginning."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0.0, help="Seconds that a plan may be late.")
    ] = 10.0,
    outage: Annotated[
        float, typer.Option(min=0.0, help="Seconds that the engine may not answer.")
    ] = 1800.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Carry a batch out on an engine: plan, start, watch, repair, until all has ended.

    All that matters is in --state: after a kill the same command with --resume goes on where
    it was. The engine sim draws run times from the estimates and runs on a clock of its own;
    dask starts a scheduler and a process for each worker of the cluster file on this machine;
    slurm takes the nodes of the cluster file from the Slurm that the usual commands reach.

    The command is split into words first and takes values afterwards, without a shell. What
    each run prints goes to a file in the folder STATE.output.

    Plans are made in a process of its own. One that does not answer within its budget and
    --patience, or dies, is replaced; the batch follows the greedy plan meanwhile.

    Exit codes: 5, tasks failed or never ran; 6, the engine or the disk failed, --resume goes on.

    Example: plancast master --engine sim --tasks tasks.csv --cluster cluster.yaml --lose w1@600
    """
    from plancast.pipelines.engines.base import EnvironmentFailed
    from plancast.pipelines.inputs.requests import request_from_files
    from plancast.pipelines.master.commands import command_of
    from plancast.pipelines.master.state import State, digest_of

    if ctx.invoked_subcommand is not None:
        return
    if tasks is None or cluster is None:
        raise BadRequest(
            "master: name --tasks and --cluster; `plancast master serve` stays without tasks"
        )
    if engine not in ENGINES:
        raise BadRequest(f"--engine {engine!r}: choose {', '.join(ENGINES)}")
    if ENGINES[engine].real and not command.split():
        raise BadRequest(f"--engine {engine} runs real commands; name one with --command")
    if resume and state is None:
        raise BadRequest("--resume: name the file of the batch with --state")
    if resume and state is not None and not state.exists():
        raise BadRequest(f"{state}: there is no such file to resume; check --state")
    losses = [_loss(text) for text in lose or []]
    request = request_from_files(tasks, cluster, policy=policy, model=model, estimates=estimates)
    runs = command_of(command, shell=shell)
    for task in request.snapshot.pending:
        runs(task)  # one that cannot be run is found now, not half-way
    digest = {
        "tasks": digest_of(*request.snapshot.pending),
        "workers": digest_of(*request.snapshot.workers),
        "policy": digest_of(request.policy),
        "engine": digest_of(engine),
        "command": digest_of(command, str(shell)),
    }
    path = _new_state() if state is None else state
    try:
        # Before anything is started: a refused state must leave nothing running.
        held = State(path)
        try:
            held.check_digest(digest, resume)
            batch = _Batch(engine, request, held, losses, seed, budget, patience, outage)
            found = batch.carry_out(runs, log, json)
        finally:
            held.close()
    except EnvironmentFailed as why:
        stderr.print(
            f"plancast: {escape(str(why))}; what was done is in {escape(str(path))}, go on with "
            f"--state {escape(str(path))} --resume",
            soft_wrap=True,
        )
        raise typer.Exit(ENVIRONMENT_FAILED) from None
    if json:
        print_json(found)
    else:
        _print(found)
    if found["failures"]:
        raise typer.Exit(TASKS_FAILED)


def _new_state() -> Path:
    path = Path(f"master-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.db")
    stderr.print(f"plancast: the state of this batch is in {path}", soft_wrap=True)
    return path


@dataclass
class _Batch:
    """One call of the command, from the files on."""

    engine: str
    request: Any
    state: Any
    losses: list[tuple[str, int]]
    seed: int
    budget: float
    patience: float
    outage: float

    def carry_out(self, runs: Any, log: Path | None, json: bool) -> dict[str, Any]:
        """Bring the engine up, carry the batch out, and end what belongs to it."""
        from plancast.pipelines.engines.base import EnvironmentFailed
        from plancast.pipelines.engines.patient import PatientEngine
        from plancast.pipelines.master.batch import carry_out
        from plancast.pipelines.master.planner_link import PatientPlanner
        from plancast.planner.model.messages import Budget
        from plancast.planner.planning.controller import ControlPolicy

        control = ControlPolicy(replan_budget=Budget(self.budget))
        planner = PatientPlanner(control, grace_s=self.patience)
        output = _folder(self.state.place.files, "output")
        kind = ENGINES[self.engine]
        if kind.real:
            planner.start()  # it loads while the cluster comes up
            output.mkdir(parents=True, exist_ok=True)
        target: Any = None
        interrupted = False
        try:
            kind.require(self.engine)
            target, request, on_step = kind.begin(
                Beginning(
                    self.request, self.losses, self.state.batch, self.seed,
                    _folder(self.state.place.files, self.engine), self.state.made_s,
                    self.outage, _away,
                )
            )  # fmt: skip
            patient = PatientEngine(target, self.outage, away=_away)
            with _shown(json) as show:
                return {
                    "state": self.state.name,
                    "batch": self.state.batch,
                    **carry_out(
                        request, patient, self.state, control=control, ask=planner, command=runs,
                        output=output if kind.real else None, log=log, show=show,
                        on_step=on_step,
                    ),
                }  # fmt: skip
        except KeyboardInterrupt:
            interrupted = True
            raise
        except OSError as error:
            if error.filename is not None:
                raise
            raise EnvironmentFailed(str(error)) from None
        finally:
            planner.close()
            if target is not None:
                # Interrupted, the cluster goes on, and --resume finds it again.
                if interrupted:
                    target.close()
                else:
                    target.stop()


def _folder(state: Path, kind: str) -> Path:
    return state.absolute().with_suffix(f".{kind}")


def _away(said: str) -> None:
    stderr.print(f"plancast: the engine does not answer and is waited for: {escape(said)}",
                 soft_wrap=True)  # fmt: skip


def _loss(text: str) -> tuple[str, int]:
    worker, at, seconds = text.rpartition("@")
    if not at or not worker or not is_whole(seconds):
        raise BadRequest(f"--lose {text!r}: write WORKER@SECONDS, as in w1@600")
    return worker, int(seconds)


@contextmanager
def _shown(json: bool) -> Iterator[Callable[[Any], None] | None]:
    """A live picture on standard error, where that is a terminal and JSON is not asked for."""
    if json or not stderr.is_terminal:
        yield None
        return
    from plancast.pipelines.master.view import picture

    with Live(console=stderr, refresh_per_second=4, transient=True) as live:
        yield lambda one: live.update(picture(one))


def _print(found: dict[str, Any]) -> None:
    rows = [
        (str(number), p["choice"], f"{p['cost']:.6g}", str(p["moved"]), p["reason"])
        for number, p in enumerate(found["plans"], start=1)
    ]
    shown = table("Plans", ("", "choice", "cost", "moved", "why"), rows)
    shown.columns[-1].justify = "left"
    shown.columns[-1].no_wrap = False
    console.print(shown)
    console.print(
        f"{found['completed']} completed, {found['not_completed']} not completed, "
        f"{found['runs_lost_with_their_worker']} runs lost with their worker, "
        f"{found['runs_preempted']} preempted"
    )
    if found["failures"]:
        console.print(_failures(found["failures"]))
    if found["planned_cost"] is not None:
        console.print(
            f"cost: planned {found['planned_cost']:.6g}, realised {found['realised_cost']:.6g}"
        )
    if "logged" in found:
        console.print(f"{counted(found['logged'], 'task')} added to the log")


MOST_FAILURES = 20
"""Failures shown in the table; ``--json`` has all."""


def _failures(failures: list[dict[str, Any]]) -> Table:
    """What did not complete, why, and the last lines that it printed."""
    more = len(failures) - MOST_FAILURES
    result = Table(
        title=f"Tasks that did not complete: {len(failures)}", title_justify="left",
        title_style="bold", header_style="underline", box=None, padding=(0, 2, 0, 0),
        caption=f"and {more} more; see --json" if more > 0 else None, caption_justify="left",
    )  # fmt: skip
    for column in ("task", "outcome", "on", "why, and the end of its output"):
        result.add_column(column, overflow="fold")
    for one in failures[:MOST_FAILURES]:
        lines = [one["reason"], *one["output"], *(f"  {t}" for t in one["tail"].splitlines())]
        result.add_row(
            escape(one["task"]), one["outcome"], escape(", ".join(dict.fromkeys(one["workers"]))),
            escape("\n".join(line for line in lines if line)),
        )  # fmt: skip
    return result


COMMANDS: dict[str, Callable[..., None]] = {"master": master}
GROUPS: dict[str, dict[str, Callable[..., None]]] = {"master": {"serve": serve}}
"""Commands that have others below them."""
