"""``plancast backtest``: a log replayed under dispatchers and estimates, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import (
    Json,
    console,
    hand_over,
    print_json,
    progress,
    table,
    words_of,
)
from plancast.pipelines.cli.log_options import reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.planner.model.domain import BadRequest
from plancast.predictor.units import is_whole
from plancast.wording import counted

KEEP = Path("data/backtests")
ON_A_POOL = "easy,easy-sjbf,easypp,planner"
ON_NODES = "kube-least,best-fit,fgd,easy,planner"
"""Dispatchers where none are named."""
NAMED = 5
"""So many of the jobs that are left out stand above the table; all of them in the JSON."""

CutToRequest = Annotated[
    bool, typer.Option("--cut-to-request", help="Jobs are killed at their requested time.")
]
Procs = Annotated[
    int | None, typer.Option(help="Processors of the machine; the log's by default.", min=1)
]
Window = Annotated[str | None, typer.Option(help="Part of the jobs to replay, as shares: 0.3:0.6.")]


@reads_log()
def backtest(
    log: Annotated[Path, typer.Argument(help="A job log in any form that ingest takes.")],
    cluster: Annotated[
        Path | None,
        typer.Option(help="Cluster file: replay on its workers instead of on one pool."),
    ] = None,
    dispatchers: Annotated[
        str | None,
        typer.Option(help="Queueing disciplines, with commas, or `list`; a few if not given."),
    ] = None,
    estimates: Annotated[
        str,
        typer.Option(help="requested, last_two, model[:LEVEL], model~HOW, oracle[:SIGMA]."),
    ] = "requested,last_two,oracle",
    cut_to_request: CutToRequest = False,
    procs: Procs = None,
    window: Window = None,
    sequences: Annotated[
        Path | None,
        typer.Option(help="File of first rows: parts of 1,024 jobs, each from an empty machine."),
    ] = None,
    failures: Annotated[
        str | None,
        typer.Option(help="DAYS:HOURS:SHARE between failures, until repair, of the processors."),
    ] = None,
    drains: Annotated[
        Path | None, typer.Option(help="File of drains: begin, seconds, processors a line.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds of failures and of the oracle's noise, with commas.")
    ] = "0",
    json: Annotated[
        Path | None, typer.Option("--json", help="Where to write the report as JSON (- prints it).")
    ] = None,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Keep each cell as a run in MLflow.")
    ] = False,
    jitters: Annotated[
        int,
        typer.Option(help="Replays again with every forecast moved by 1%: the spread.", min=0),
    ] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    dask: Annotated[
        str | None, typer.Option(help="Dask scheduler whose workers replay: tcp://HOST:PORT.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option(help="Replay again what an earlier backtest has kept.")
    ] = False,
    *,
    reading: Reading,
) -> None:
    """Replay a log under dispatchers and estimates, and judge what would have come of it.

    On nodes: plancast backtest openb.csv --columns openb --cluster cluster.yaml --estimates model

    Example: plancast backtest KTH-SP2-1996-2.swf.gz --cut-to-request --estimates requested,model
    """
    from plancast.pipelines.backtest import backtest as grid
    from plancast.pipelines.backtest.estimates import cells_of, parse_estimates
    from plancast.pipelines.backtest.outages import Away, parse_failures, read_drains
    from plancast.planner.worlds.dispatchers import DISPATCHERS
    from plancast.planner.worlds.node_replay import NODE_DISPATCHERS

    nodes = cluster is not None
    usual = ON_NODES if nodes else ON_A_POOL
    names = words_of(usual if dispatchers is None else dispatchers, "--dispatchers")
    if names == ["list"]:
        typer.echo("\n".join(NODE_DISPATCHERS if nodes else DISPATCHERS))
        return
    found = [parse_estimates(word) for word in words_of(estimates, "--estimates")]
    numbers = words_of(seeds, "--seeds")
    if not all(map(is_whole, numbers)):
        raise BadRequest(f"--seeds {seeds!r}: write whole numbers, as in 0,1,2")
    away = Away(
        None if failures is None else parse_failures(failures),
        () if drains is None else read_drains(drains),
    )
    whole = [int(number) for number in numbers]
    cells = cells_of(names, found, whole, failures=away.failures is not None, nodes=nodes)
    with progress(f"replaying {log.name}") as tell:
        test = grid.open_backtest(
            log,
            reading=reading,
            cut_to_request=cut_to_request,
            procs=procs,
            window=window,
            sequences=sequences,
            away=away,
            cluster=cluster,
        )
        report = grid.backtest(
            test,
            cells,
            jitters=jitters,
            jobs=jobs,
            keep=None if fresh else KEEP,
            dask=dask,
            progress=lambda done, of, text: tell(done, of, text),
        )
    # Before MLflow: a store that cannot be used takes the record, not the result.
    shown = hand_over(report, cell_table(report), json)
    if mlflow:
        # Imported only now: MLflow takes seconds to load.
        from plancast.pipelines.tracking.backtests import log_backtest

        with progress("MLflow"):
            run_id = log_backtest(report, test.jobs)
        if shown:
            console.print(f"tracking: run {run_id}")


def cell_table(report: dict[str, Any]) -> Any:
    """The report's cells, a row each."""
    from plancast.pipelines.results import asked_estimate

    rows = []
    jittered = any(cell.get("jitter") for cell in report["cells"])
    for cell in report["cells"]:
        estimates = asked_estimate(cell)
        if cell["sigma"] or report["failures"]:
            estimates += f" #{cell['seed']}"
        low, high = cell["bsld_ci"]
        late, error = cell["late_share"], cell["promise_error_mean_s"]
        rows.append(
            [
                f"{cell['dispatcher']} {estimates}",
                f"{cell['bsld_mean']:.2f}",
                f"{low:.1f}-{high:.1f}",
                *([] if not jittered else _jitter_words(cell["jitter"])),
                f"{cell['bsld_p95']:,.0f}",
                f"{cell['bsld_p99']:,.0f}",
                f"{cell['bsld_max']:,.0f}",
                f"{cell['wait_mean_s'] / 60:.1f}",
                "-" if late is None else f"{100 * late:.1f}",
                "-" if error is None else f"{error / 60:.0f}",
                f"{100 * cell['misses']:.1f}",
                "-" if cell["regret"] is None else f"{cell['regret']:.1f}",
            ]
        )
    nodes = report["workers"]
    where = counted(report["procs"], "processor") if nodes is None else counted(nodes, "worker")
    title = (
        f"{report['log']}: {counted(report['jobs'], 'job')} on {where}; "
        "bounded slowdown,\nwaits and distance from the promised start in minutes"
    )
    if report["left_out"]:
        named = ", ".join(report["left_out_jobs"][:NAMED])
        named += ", ..." if report["left_out"] > NAMED else ""
        fit = f"that {'fits' if report['left_out'] == 1 else 'fit'} no worker"
        why = "wider than the machine" if nodes is None else fit
        title += f"\nleft out: {counted(report['left_out'], 'job')} {why} ({named})"
    more = ["mean, jittered", "max, jittered"] if jittered else []
    columns = ["dispatcher", "mean", "95%", *more, "p95", "p99", "max", "wait", "late %", "off"]
    return table(title, [*columns, "missed", "regret"], rows)


def _jitter_words(jitter: dict[str, Any]) -> list[str]:
    """Mean and spread over jitters of the mean and of the maximum."""
    mean, most = jitter["bsld_mean"], jitter["bsld_max"]
    return [
        f"{mean['mean']:.2f} ± {mean['sd']:.2f}",
        f"{most['mean']:,.0f} ± {most['sd']:,.0f}",
    ]


@reads_log()
def promote(
    log: Annotated[Path, typer.Argument(help="The log whose models compete.")],
    dispatcher: Annotated[str, typer.Option(help="Who schedules with the forecasts.")] = "planner",
    cut_to_request: CutToRequest = False,
    procs: Procs = None,
    window: Window = None,
    json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Make the challenger champion, where its forecasts make better schedules.

    Example: plancast promote KTH-SP2-1996-2.swf.gz --cut-to-request --window 0.5:1
    """
    from plancast.pipelines.backtest import backtest as grid
    from plancast.pipelines.backtest.estimates import Estimate, cells_of
    from plancast.pipelines.backtest.promote import contest
    from plancast.pipelines.tracking.backtests import contestants, log_promotion

    cells_of([dispatcher], [Estimate("model")], [0])
    with progress(f"replaying {log.name}") as tell:
        test = grid.open_backtest(
            log,
            reading=reading,
            cut_to_request=cut_to_request,
            procs=procs,
            window=window,
        )
        champion, challenger = contestants(test.name)
        verdict = contest(
            test,
            champion,
            challenger,
            dispatcher=dispatcher,
            progress=lambda share, text: tell(share, 1.0, text),
        )
        tell(text="MLflow")
        verdict["run"] = log_promotion(test.name, verdict)
    if json:
        print_json(verdict)
        return
    said = "promoted" if verdict["promoted"] else "not promoted"
    console.print(f"version {verdict['challenger']} {said}: {verdict['why']}")
    console.print(f"tracking: run {verdict['run']}")


COMMANDS: dict[str, Callable[..., None]] = {"backtest": backtest, "promote": promote}
