"""``plancast trial``, ``report``, ``run``: the proof, the page, the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import Json, console, print_json, progress, table
from plancast.pipelines.cli.log_options import Columns
from plancast.pipelines.inputs.config import PARAMS, Config, load_config, with_trial
from plancast.planner.model.domain import BadRequest
from plancast.wording import counted

if TYPE_CHECKING:
    from plancast.pipelines.results import PlannedBatch

Params = Annotated[Path, typer.Option(help="Parameters of the pipeline.")]
Name = Annotated[str | None, typer.Option(help="Names data/*/NAME and models/NAME.")]


def trial(
    jobs: Annotated[Path, typer.Argument(help="A canonical log, from plancast ingest.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The facts.")] = None,
    batches: Annotated[int | None, typer.Option(min=2, help="How many batches.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Jobs in a batch.")] = None,
    level: Annotated[float | None, typer.Option(help="Quantile reserved beside p50.")] = None,
    solver: Annotated[str | None, typer.Option(help="auto, greedy, lns, astar or cpsat.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps per plan.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Machines to deal to.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy (YAML).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.")] = None,
    params: Params = Path(PARAMS),
    json: Json = False,
) -> None:
    """Plan batches of a log's test stretch with each kind of estimate; execute them with the truth.

    The model is trained on the part of the log before the test stretch.

    Example: plancast trial jobs.parquet --batches 12 --batch-size 60
    """
    from plancast.pipelines.stages.stage import write_facts
    from plancast.pipelines.stages.train import split_of, untrained
    from plancast.pipelines.stages.trial import trial as run_trial
    from plancast.predictor.logs.table import read_jobs

    config = load_config(params, log=str(jobs), policy=str(policy) if policy else None, seed=seed)
    config = with_trial(
        config, batches=batches, batch_size=batch_size, level=level, solver=solver, steps=steps,
        workers=workers,
    )  # fmt: skip
    log = read_jobs(jobs)
    with progress("trial") as tell:
        train, _ = split_of(config, log)
        tell(text="training")
        model = untrained(config.train.levels, config.seed, config.train.settings).fit(train)
        facts = run_trial(config, log, model, lambda done, all_: tell(done, all_, "batches"))
    if output is not None:
        write_facts(output, facts)
    if json:
        print_json(facts)
    else:
        print_trial(facts)


def report(
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The page.")] = None,
    name: Name = None,
    params: Params = Path(PARAMS),
    json: Json = False,
) -> None:
    """Write the report page of a pipeline run.

    Example: plancast report --name KTH-SP2-1996-2 -o report.html
    """
    from plancast.pipelines.stages.report import build_report

    config = load_config(params, name=name)
    written = build_report(config, output or config.paths.report)
    if json:
        print_json({"written": str(written)})
    else:
        console.print(f"wrote {escape(str(written))}", soft_wrap=True)


def run(
    log: Annotated[
        str | None, typer.Option(help="A job log; the embedded generated one without.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="auto, swf, sacct, pbs, wfformat or table.")
    ] = None,
    columns: Columns = None,
    tasks: Annotated[
        Path | None, typer.Option(help="Plan these tasks with the model, too.")
    ] = None,
    cluster: Annotated[Path | None, typer.Option(help="On this cluster (YAML).")] = None,
    name: Name = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.")] = None,
    params: Params = Path(PARAMS),
    json: Json = False,
) -> None:
    """Run the whole pipeline: ingest, train, plan, trial, worth, report; as dvc repro would.

    With --tasks and --cluster the model then plans those, and the plan is written beside the
    report.

    Example: plancast run --log KTH-SP2-1996-2.swf.gz
    """
    from plancast.pipelines.cli.forecasting import describe_log
    from plancast.pipelines.kernels import beside
    from plancast.pipelines.stages.pipeline import run_all

    if (tasks is None) != (cluster is None):
        raise BadRequest("--tasks and --cluster go together; give both or none")
    config = load_config(params, log=log, name=name, seed=seed, format=format, columns=columns)
    with progress(config.name) as tell:
        facts = run_all(config, tell, beside)
    planned = None if tasks is None or cluster is None else _own_plan(config, tasks, cluster)
    if planned is not None:
        facts["own_plan"] = {"status": planned.status, "cost": planned.cost, "gap": planned.gap}
    if json:
        print_json(facts)
        return
    console.print(describe_log(facts["ingest"]), soft_wrap=True)
    print_forecasts(facts["train"])
    print_trial(facts["trial"])
    print_verdict(facts["verdict"])
    console.print(f"report: {escape(facts['report'])}", soft_wrap=True)
    console.print(f"tracking: {escape(facts['mlflow'])}", soft_wrap=True)
    if planned is not None:
        console.print(f"{tasks}: {planned.summary()}", soft_wrap=True, markup=False)
        for path in (config.paths.own_plan, config.paths.own_gantt):
            console.print(f"wrote {escape(str(path))}", soft_wrap=True)


def print_verdict(verdict: Mapping[str, Any]) -> None:
    """What was found in words, as the report says it."""
    for title, texts in (
        ("Verdict", [" ".join(verdict["sentences"])]),
        ("What to do next", verdict["next_steps"]),
        ("How sure", verdict["how_sure"]),
    ):
        console.print(title, style="bold")
        for text in texts:
            console.print(f"  {escape(text)}", soft_wrap=True, highlight=False)
    console.print()


def _own_plan(config: Config, tasks: Path, cluster: Path) -> PlannedBatch:
    """The user's own tasks, planned as past plans speak for: with the model of the run, or not."""
    from plancast.pipelines.inputs.requests import chosen_way, request_from_files
    from plancast.pipelines.results import PlannedBatch
    from plancast.planner.planning.plan import plan

    model = config.paths.model
    choice = chosen_way(tasks, cluster, model)
    asked = request_from_files(tasks, cluster, model=model, choice=choice)
    with progress(f"planning {tasks.name}"):
        found = PlannedBatch(asked, plan(asked))
    if found.response.plan is not None:
        found.save(config.paths.own_plan)
        found.gantt(config.paths.own_gantt)
    return found


def print_forecasts(facts: Mapping[str, Any]) -> None:
    """The table of forecast errors."""
    levels = [f"{100 * level:g}" for level in facts["levels"] if level >= 0.5]
    rows = [
        [
            name,
            f"{found['mae_s']:,.0f}",
            f"{found['median_abs_log2']:.2f}",
            f"{found['within_2x']:.0%}",
            f"{found['accuracy_minmax']:.0%}",
            *(f"{found[f'coverage_p{level}']:.1%}" for level in levels),
        ]
        for name, found in facts["estimators"].items()
    ]
    columns = ["estimator", "error s", "log2", "in 2x", "min/max", *(f"<= p{p}" for p in levels)]
    title = (
        f"Forecasts of {counted(facts['scored_jobs'], 'later job')}, "
        f"learned from {facts['train_jobs']:,} earlier ones"
    )
    console.print(table(title, columns, rows))
    console.print(
        "error s: mean absolute error; log2: median |log2(forecast / run time)|;\n"
        "<= p90: share of jobs that ended by their 90% quantile\n"
    )


def print_trial(facts: Mapping[str, Any]) -> None:
    """The table of realised costs."""
    rows = []
    for kind, found in facts["kinds"].items():
        low, high = found["regret_ci"]
        rows.append(
            [
                kind,
                f"{found['mae_s']:,.0f}",
                f"{found['median_abs_log2']:.2f}",
                f"{found['realised_cost']:,.1f}",
                f"{found['regret']:+.1%}",
                f"{low:+.1%} .. {high:+.1%}",
                f"{found['terms']['wait_h']:,.1f}",
                f"{found['terms']['late_h']:,.1f}",
            ]
        )
    title = (
        f"{counted(facts['batches'], 'batch', 'batches')} of "
        f"{counted(facts['batch_size'], 'job')} planned with each estimate, "
        "executed with the truth"
    )
    columns = ["estimate", "error s", "log2", "cost", "regret", "95% interval", "wait h", "late h"]
    console.print(table(title, columns, rows))
    console.print("cost: realised; regret: against plans that know every run time (oracle)")
    if facts["batches_that_wait"] < facts["batches"]:
        console.print(
            f"only {facts['batches_that_wait']} of "
            f"{counted(facts['batches'], 'batch', 'batches')} fill the machine: "
            "raise trial.batch_size"
        )
    console.print()


COMMANDS: dict[str, Callable[..., None]] = {"trial": trial, "report": report, "run": run}
