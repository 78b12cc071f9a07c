"""``plancast eta``: when waiting jobs start."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.backtesting import Procs, Window
from plancast.pipelines.cli.common import (
    Seed,
    hand_over,
    progress,
    table,
    when,
)
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.planner.model.domain import BadRequest
from plancast.wording import counted

SHOWN_JOBS = 40


@reads_log()
def eta(
    request: Annotated[
        Path | None, typer.Argument(help="A PlanRequest (JSON), where no Slurm is asked.")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="slurm: ask squeue, sinfo and scontrol here; read-only.")
    ] = None,
    queue: Annotated[
        Path | None, typer.Option(help="What squeue --json (or squeue -o) printed.")
    ] = None,
    nodes: Annotated[
        Path | None, typer.Option(help="What sinfo --json (or sinfo -N -o) printed.")
    ] = None,
    partitions: Annotated[
        Path | None, typer.Option(help="What scontrol show partition printed.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a trained model.")] = None,
    samples: Annotated[int, typer.Option(help="Samples of the run times.", min=2)] = 100,
    backtest: Annotated[
        Path | None, typer.Option(help="Instead: forecast along a log, and score the forecasts.")
    ] = None,
    dispatcher: Annotated[
        str,
        typer.Option(
            help="How the site starts jobs: easy, conservative; of a request also planner."
        ),
    ] = "easy",
    json: Annotated[
        Path | None, typer.Option("--json", help="Where to write the JSON (- prints it).")
    ] = None,
    seed: Seed = 0,
    procs: Procs = None,
    window: Window = None,
    *,
    reading: Reading,
) -> None:
    """Say when each waiting job starts, why it waits, and what would help it.

    Example: plancast eta --site slurm --model models/runtime
    """
    given = [request is not None, site is not None, queue is not None or nodes is not None,
             backtest is not None]  # fmt: skip
    if sum(given) != 1:
        raise BadRequest(
            "plancast eta: name one of --site slurm, --queue with --nodes, a request, --backtest"
        )
    if backtest is not None:
        facts = _backtested(backtest, dispatcher, samples, seed,
                            reading, procs, window)  # fmt: skip
        shown: Any = _score_table(facts)
    else:
        facts = _asked(request, site, (queue, nodes, partitions), model, samples, seed, dispatcher)
        shown = _start_table(facts)
    hand_over(facts, shown, json)


def _backtested(
    log: Path,
    dispatcher: str,
    samples: int,
    seed: int,
    reading: Reading,
    procs: int | None,
    window: str | None,
) -> dict[str, Any]:
    from plancast.pipelines.operators.eta_backtest import eta_backtest

    with progress(f"forecasting starts of {log.name}") as tell:
        return eta_backtest(
            log,
            dispatcher=dispatcher,
            samples=samples,
            seed=seed,
            reading=reading,
            procs=procs,
            window=window,
            progress=lambda text: tell(text=text),
        )


def _asked(
    request: Path | None,
    site: str | None,
    files: tuple[Path | None, Path | None, Path | None],
    model: Path | None,
    samples: int,
    seed: int,
    dispatcher: str,
) -> dict[str, Any]:
    from plancast.pipelines.operators.eta import eta_of_queue, eta_of_request
    from plancast.pipelines.operators.slurm_queue import queue_of_files, queue_of_site
    from plancast.planner.worlds.rollout import DISCIPLINES

    known = (*DISCIPLINES, "planner") if request is not None else tuple(DISCIPLINES)
    if dispatcher not in known:
        raise BadRequest(f"--dispatcher {dispatcher!r}: is none of {', '.join(known)}")
    queue, nodes, partitions = files
    if request is not None:
        from plancast.pipelines.inputs.files import read_bytes
        from plancast.planner.model.messages import PlanRequest, from_json

        found = from_json(PlanRequest, read_bytes(request), source=str(request))
        return eta_of_request(found, samples=samples, seed=seed, discipline=dispatcher)
    if site is not None and site != "slurm":
        raise BadRequest(f"--site {site!r}: slurm is the only site that can be asked")
    if site is None and (queue is None or nodes is None):
        raise BadRequest("--queue and --nodes go together: what squeue and sinfo print")
    if model is None:
        raise BadRequest("--model: name the folder of a model, from plancast train")
    if queue is not None and nodes is not None:
        live = queue_of_files(queue, nodes, partitions)
    else:
        live = queue_of_site()
    return eta_of_queue(live, model, samples=samples, seed=seed, discipline=dispatcher)


def _start_table(facts: dict[str, Any]) -> Any:
    from plancast.planner.model.explain import is_date

    now = facts["made_at_s"]

    def clock(value: int | None) -> str:
        if value is None:
            return "-"
        if value <= now:
            return "now"
        if not is_date(now):
            return when(value, now)
        day = "%H:%M" if value - now < 20 * 3600 else "%d %b %H:%M"
        return time.strftime(day, time.localtime(value))

    rows = [
        [job["id"], *(clock(job[key]) for key in ("p10_s", "p50_s", "p90_s")), job["reason"]]
        for job in facts["jobs"][:SHOWN_JOBS]
    ]
    more = len(facts["jobs"]) - len(rows)
    by = facts["corrected_by"]
    title = (
        counted(len(facts["jobs"]), "waiting job")
        + (time.strftime(" at %H:%M", time.localtime(now)) if is_date(now) else "")
        + (f", {more} more not shown" if more > 0 else "")
        + (f"; corrected by {by:,} starts of the past" if by else "; not corrected by a past")
    )
    result = table(title, ["job", "10%", "half", "90%", "why"], rows)
    result.columns[-1].justify, result.columns[-1].no_wrap = "left", False
    return result


def _score_table(facts: dict[str, Any]) -> Any:
    rows = []
    for name, found in (("forecast", facts), ("as rolled", facts["rolled"]),
                        ("by limits", facts["by_limits"]),
                        ("by true run times", facts["by_true_run_times"])):  # fmt: skip
        covered = found.get("p90_coverage")
        rows.append(
            [
                name,
                f"{found['p50_within_10_min']:.1%}",
                f"{found['mae_min']:.1f}",
                "-" if covered is None else f"{covered:.1%}",
            ]
        )
    months = facts["p90_coverage_by_month"].values()
    spread = f"; by month {min(months):.1%} to {max(months):.1%}" if months else ""
    title = (
        f"{facts['log']} under {facts['dispatcher']}: {counted(facts['jobs'], 'job')}, "
        f"{facts['at_once_share']:.1%} start at once, {facts['scored']:,} scored;\n"
        f"p90 holds {facts['p90_coverage']:.1%}{spread}"
    )
    return table(title, ["start times", "within 10 min", "error min", "<= p90"], rows)


COMMANDS: dict[str, Callable[..., None]] = {"eta": eta}
