"""``plancast plan`` and ``validate``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from plancast.pipelines.cli.common import (
    INTERRUPTED,
    INVALID_PLAN,
    NO_PLAN,
    Json,
    console,
    parse_budget,
    print_json,
    progress,
    stderr,
    table,
    when,
)
from plancast.pipelines.inputs.past_plans import Choice
from plancast.planner.model.domain import TERMS, BadRequest, Plan
from plancast.planner.model.messages import PlanRequest, PlanResponse, Status
from plancast.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_REASONS = 10
SHOWN_TASKS = 20
FILES = "Files"
"""Panel of the help."""

Tasks = Annotated[
    Path | None, typer.Option(help="Tasks: CSV, Parquet or JSON.", rich_help_panel=FILES)
]
Cluster = Annotated[Path | None, typer.Option(help="Cluster (YAML).", rich_help_panel=FILES)]
PolicyFile = Annotated[Path | None, typer.Option(help="Policy (YAML).", rich_help_panel=FILES)]
Model = Annotated[
    Path | None, typer.Option(help="Forecast with this model.", rich_help_panel=FILES)
]
EstimateFile = Annotated[
    Path | None, typer.Option(help="Estimates, instead of a model.", rich_help_panel=FILES)
]


def plan(
    request: Annotated[
        Path | None,
        typer.Argument(help="A PlanRequest (JSON), instead of separate files; or the tasks."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The plan: .json (the whole response), .csv or .parquet.",
            rich_help_panel=FILES,
        ),
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="Tasks: CSV, Parquet or JSON.", rich_help_panel=FILES)
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster (YAML).", rich_help_panel=FILES)
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy (YAML).", rich_help_panel=FILES)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Forecast with this model.", rich_help_panel=FILES)
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            help="Whose run times count beside --model: auto (what made the cheapest plans in the "
            "past, see plancast worth --model), model, requested, or a rule."
        ),
    ] = "auto",
    estimates: EstimateFile = None,
    save_request: Annotated[
        Path | None,
        typer.Option(help="Write what is asked as one JSON file, too.", rich_help_panel=FILES),
    ] = None,
    solver: Annotated[
        str, typer.Option(help="auto, greedy, lns, astar, cpsat, project, shop or repair.")
    ] = "auto",
    budget: Annotated[
        str | None, typer.Option(help="Time: 30s, 2min (default: the request's, or 10 s).")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Solver steps instead of seconds: repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.")] = None,
    risk: Annotated[
        str | None, typer.Option(help="Plan against sampled run times: mean or cvar:0.9.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Samples of run times for --risk; 200 if not given.")
    ] = None,
    guide: Annotated[
        Path | None,
        typer.Option(help="Search with this guide (plancast guide train)."),
    ] = None,
    weight: Annotated[
        float,
        typer.Option(
            min=1, help="astar: be content with a plan proven so many times the least cost."
        ),
    ] = 1.0,
    gantt: Annotated[
        Path | None,
        typer.Option(help="Draw the plan: .html, .svg or .png.", rich_help_panel=FILES),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 3 where a task cannot be placed.")
    ] = False,
    json: Json = False,
) -> None:
    """Plan a batch of tasks on a cluster.

    Without --model and --estimates a task's requested time is its estimate. With --model the plan
    costs least on average over scenarios in which all tasks run at one level of their forecasts,
    unless plans of the past (plancast worth LOG --model) were cheaper made another way.
    Ctrl-C ends the search, writes the best plan found by then, and exits with 130.

    Example: plancast plan --tasks tasks.csv --cluster cluster.yaml --estimates estimates.parquet
    -o plan.json --gantt plan.html
    """
    from plancast.pipelines.inputs.plan_files import check_plan_path
    from plancast.planner.arrays import interruption
    from plancast.planner.planning.plan import plan as plan_request
    from plancast.planner.planning.risk import RiskMeasure, plan_under_risk

    if output is not None:
        check_plan_path(output)
    if gantt is not None:
        from plancast.pipelines.charts.gantt import check_gantt_path

        check_gantt_path(gantt)
    measure = None if risk is None else RiskMeasure.parse(risk)
    if measure is None and samples is not None:
        raise BadRequest("--samples: only --risk takes samples; add --risk mean")
    if cluster is not None and tasks is None:
        request, tasks = None, request  # A request names its cluster itself.
    search = _search_options(solver, guide, weight, risk)
    choice = _choice(source, tasks, cluster, policy, model)
    asked = _request(request, tasks, cluster, policy, model, estimates, choice)
    asked = _limited(asked, parse_budget(budget), steps, seed)
    if save_request is not None:
        from plancast.pipelines.inputs.files import write_text_atomic
        from plancast.planner.model.messages import to_json

        write_text_atomic(save_request, to_json(asked, indent=1))
    with interruption.keeps_the_best(_say_stopping), progress("planning") as tell:
        best: list[float] = []

        def observe(cost: float, bound: float) -> None:
            best.append(cost)
            tell(text=f"{counted(len(best), 'better plan')}, cost {cost:,.4g}")

        if measure is None:
            response = plan_request(asked, solver, observe=observe, **search)
        else:
            response = plan_under_risk(
                asked, measure, samples=samples or 200, solver=solver, observe=observe
            )
        stopped = interruption.asked()
        written = _write(response, output, gantt, asked)
    written += [save_request] if save_request is not None else []
    if json:
        print_json(
            _facts(response, asked, written) | _choice_facts(choice) | {"interrupted": stopped}
        )
    else:
        _print(response, asked)
        if choice is not None:
            console.print(f"run times of {choice.source}: {escape(choice.reason)}", soft_wrap=True)
        for path in written:
            console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    for warning in _warnings(response, asked):
        stderr.print(f"warning: {escape(warning)}", soft_wrap=True)
    if stopped:
        _say_kept(response)
        raise typer.Exit(INTERRUPTED)
    if response.plan is None or (strict and response.unplanned):
        raise typer.Exit(NO_PLAN)


def _say_stopping() -> None:
    stderr.print("stopping with the best plan so far; Ctrl-C again leaves without it")


def _say_kept(response: PlanResponse) -> None:
    gap = "no bound known yet" if response.gap is None else f"gap {response.gap:.2%}"
    cost = "no plan" if response.cost is None else f"cost {response.cost:,.6g}"
    stderr.print(f"interrupted: kept the best plan, {cost}, {gap}", soft_wrap=True)


def validate(
    request: Annotated[
        Path, typer.Argument(help="A PlanRequest (JSON); with --tasks the response.")
    ],
    response: Annotated[Path | None, typer.Argument(help="The PlanResponse to it (JSON).")] = None,
    tasks: Tasks = None,
    cluster: Cluster = None,
    policy: PolicyFile = None,
    model: Model = None,
    estimates: EstimateFile = None,
    json: Json = False,
) -> None:
    """Judge a response by the evaluator: its plan, and all that it says of it.

    Example: plancast validate request.json response.json
    """
    from plancast.planner.model.judge_response import validate_response

    if response is None:
        if tasks is None:
            raise BadRequest(
                "give a request and its response, or --tasks, --cluster and a response"
            )
        choice = _choice("auto", tasks, cluster, policy, model)
        asked = _request(None, tasks, cluster, policy, model, estimates, choice)
        answer = _read_message(PlanResponse, request)
    else:
        asked = _request(request, tasks, cluster, policy, model, estimates, None)
        answer = _read_message(PlanResponse, response)
    found = validate_response(asked, answer)
    if json:
        print_json(
            {
                "valid": not found,
                "violations": [asdict(v) for v in found],
                "status": answer.status.value,
                "cost": answer.cost,
            }
        )
    elif found:
        for violation in found:
            kind, text = violation.kind.value, escape(violation.text)
            console.print(f"[red]{kind}[/red]: {text}", soft_wrap=True)
        console.print(counted(len(found), "violation"))
    else:
        console.print(f"valid: {answer.status.value}, cost {answer.cost or 0:,.6g}")
    if found:
        raise typer.Exit(INVALID_PLAN)


def _read_message(kind: Any, path: Path) -> Any:
    from plancast.pipelines.inputs.files import read_bytes
    from plancast.planner.model.messages import from_json

    return from_json(kind, read_bytes(path), source=str(path))


def _request(
    request: Path | None,
    tasks: Path | None,
    cluster: Path | None,
    policy: Path | None,
    model: Path | None,
    estimates: Path | None,
    choice: Choice | None,
) -> PlanRequest:
    if request is not None:
        if (
            str(request)
            .lower()
            .removesuffix(".gz")
            .endswith((".csv", ".parquet", ".jsonl", ".ndjson"))
        ):
            raise BadRequest(f"{request}: tasks need a cluster to be planned on; give --cluster")
        for name, given in (("--tasks", tasks), ("--cluster", cluster), ("--policy", policy),
                            ("--model", model), ("--estimates", estimates)):  # fmt: skip
            if given is not None:
                raise BadRequest(
                    f"{name}: the request {request} says that already; give one of both"
                )
        asked: PlanRequest = _read_message(PlanRequest, request)
        return asked
    if tasks is None or cluster is None:
        raise BadRequest("give a request (JSON), or both --tasks and --cluster")
    if model is not None and estimates is not None:
        raise BadRequest("give --model or --estimates, not both")
    from plancast.pipelines.inputs.requests import request_from_files

    return request_from_files(
        tasks, cluster, policy=policy, model=model, estimates=estimates, choice=choice
    )


def _choice(
    source: str, tasks: Path | None, cluster: Path | None, policy: Path | None, model: Path | None
) -> Choice | None:
    """Whose run times count; None for what the other options say."""
    from plancast.pipelines.inputs.past_plans import AUTO_WAYS
    from plancast.pipelines.inputs.requests import chosen_way

    ways = {given: way for way, (given, _) in AUTO_WAYS.items()}
    if source != "auto" and source not in ways:
        raise BadRequest(f"--source {source!r}: choose auto, {', '.join(ways)}")
    if model is None:
        if source != "auto":
            raise BadRequest(f"--source {source}: needs the history of a model; give --model")
        return None
    if source == "auto":
        if tasks is None or cluster is None:
            return None
        return chosen_way(tasks, cluster, model, policy)
    return None if source == "model" else Choice(ways[source], 0, f"--source {source}")


def _choice_facts(choice: Choice | None) -> dict[str, Any]:
    return {"chosen_by_auto": None if choice is None else choice.facts()}


def _search_options(
    solver: str, guide: Path | None, weight: float, risk: str | None
) -> dict[str, Any]:
    """What a guide and a weight say to ``planning.plan``; nothing where neither is given."""
    if guide is None and weight == 1.0:
        return {}
    asked = "--guide" if guide is not None else "--weight"
    if risk is not None:
        raise BadRequest(f"{asked}: plans against samples are made without; leave out --risk")
    learned: Any = None
    if guide is not None:
        from plancast.pipelines.inputs.files import read_text
        from plancast.planner.solvers.astar.guides import guide_from_text

        learned = guide_from_text(read_text(guide), str(guide))
    if solver != "astar":
        raise BadRequest(f"{asked}: only astar searches so; add --solver astar")
    return {"form": "guided", "weight": weight} | ({"guide": learned} if learned else {})


def _limited(
    request: PlanRequest, budget: float | None, steps: int | None, seed: int | None
) -> PlanRequest:
    from dataclasses import replace

    from plancast.planner.model.messages import Budget

    if budget is not None or steps is not None:
        request = replace(request, budget=Budget(budget, steps))
    return request if seed is None else replace(request, seed=seed)


def _write(
    response: PlanResponse, output: Path | None, gantt: Path | None, request: PlanRequest
) -> list[Path]:
    """Write plan and picture; what was written."""
    from plancast.pipelines.inputs.plan_files import write_plan

    written = []
    if output is not None and (response.plan is not None or ".json" in output.suffixes):
        written.append(write_plan(request, response, output))
    if gantt is not None and response.plan is not None:
        from plancast.pipelines.charts.gantt import write_gantt

        written.append(write_gantt(request, response.plan, gantt))
    return written


def _facts(response: PlanResponse, request: PlanRequest, written: list[Path]) -> dict[str, Any]:
    return {
        "request_id": response.request_id,
        "status": response.status.value,
        "solver": response.solver,
        "auto": asdict(response.auto) if response.auto else None,
        "estimate_source": response.estimate_source,
        "tasks": len(request.snapshot.pending),
        "planned": _planned(response, request),
        "preempted": list(response.plan.preempted) if response.plan else [],
        "cost": response.cost,
        "terms": dict(response.terms),
        "prices": {term: request.policy.prices.of(term) for term in TERMS},
        "workers": len(request.snapshot.workers),
        "lower_bound": response.lower_bound,
        "gap": response.gap,
        "moved": len(response.moved),
        "unplanned": dict(response.unplanned),
        "why": dict(response.why),
        "starts": _starts(response, request),
        "warning": response.warning,
        "risk": asdict(response.risk) if response.risk else None,
        "scenarios": dict(response.scenarios),
        "wall_s": response.wall_s,
        "written": [str(path) for path in written],
    }


def _print(response: PlanResponse, request: PlanRequest) -> None:
    console.print(
        f"[bold]{response.status.value}[/bold]: {_counts(response, request)} on "
        f"{counted(len(request.snapshot.workers), 'worker')} in {response.wall_s:.2f} s"
        + (f" (plan of {escape(response.solver)})" if response.plan else "")
    )
    if response.auto is not None:
        console.print(f"auto chose {escape(str(response.auto))}", soft_wrap=True)
    if response.plan is not None:
        console.print(_schedule(response.plan, request))
        if len(response.plan.assignments) > SHOWN_TASKS:
            more = len(response.plan.assignments) - SHOWN_TASKS
            console.print(f"and {more:,} more, all in what -o writes")
        prices = request.policy.prices
        rows = [
            [term, f"{response.terms[term]:,.4g}", f"{prices.of(term):,.4g}",
             f"{prices.of(term) * response.terms[term]:,.4g}"]
            for term in TERMS if prices.of(term)
        ]  # fmt: skip
        rows.append(["cost", "", "", f"{response.cost:,.6g}"])
        console.print(table("Cost", ["term", "amount", "price", "cost"], rows))
        if response.lower_bound is not None:
            console.print(
                f"no plan costs less than {response.lower_bound:,.6g}: gap {response.gap or 0:.2%}"
            )
        if response.scenarios:
            found = ", ".join(f"{name} {cost:,.5g}" for name, cost in response.scenarios.items())
            console.print(f"cost if all tasks run at one level of their forecasts: {found}",
                          soft_wrap=True)  # fmt: skip
        if response.risk is not None:
            report = response.risk
            console.print(
                f"{report.measure} of the cost over {counted(report.samples, 'sampled run time')}: "
                f"{report.value:,.6g} (plain plan {report.plain:,.6g}); mean {report.mean:,.6g}, "
                f"costliest tenth {report.cvar_90:,.6g}, worst {report.worst:,.6g}; made at level "
                f"{report.level:g}, the best of {counted(report.candidates, 'plan')}",
                soft_wrap=True,
            )
    if response.plan is None and not response.why and (bounds := request.policy.hard_bounds):
        keeps = "keeps" if response.status is Status.INFEASIBLE else "was found that keeps"
        console.print(
            f"no plan {keeps} the policy's {' and '.join(bounds)}; without, "
            "a plan shows by how much",
            soft_wrap=True,
        )
    _reasons("not planned", response.unplanned)
    _reasons("no plan because" if response.plan is None else "waiting", _why(response, request))


def _why(response: PlanResponse, request: PlanRequest) -> dict[str, str]:
    """Why tasks wait, the first to start first; of those shown, by when they will have started."""
    from plancast.planner.model.explain import clock, is_date

    now, row = request.snapshot.now_s, response.plan.by_task if response.plan else {}
    found = dict(response.why)
    if found.keys() <= row.keys():
        found = dict(sorted(found.items(), key=lambda item: row[item[0]].start_s))
    for task, at in _starts(response, request, SHOWN_REASONS).items():
        # Where run times are certain the plan's start says it all.
        if task in found and not at["p50_s"] == at["p90_s"] == row[task].start_s:
            said = clock if is_date(now) else when
            half, sure = said(at["p50_s"], now), said(at["p90_s"], now)
            found[task] += f"; 50% by {half}, 90% by {sure}"
    return found


def _starts(
    response: PlanResponse, request: PlanRequest, most: int | None = None
) -> dict[str, dict[str, int]]:
    """By when waiting tasks will have started with 50 and 90%, if the plan is carried out."""
    from plancast.planner.planning.expected_starts import outlooks

    if response.plan is None:
        return {}
    found = outlooks(request, response.plan, most=most)
    return {task: {"p50_s": o.half_s, "p90_s": o.sure_s} for task, o in found.items()}


def _schedule(plan: Plan, request: PlanRequest) -> Table:
    """Who starts where and when, the first to start first."""
    rows, now_s = [], request.snapshot.now_s
    due = {task.id: task.deadline_s for task in request.snapshot.pending}
    for a in sorted(plan.assignments, key=lambda a: (a.start_s, a.end_s, a.task))[:SHOWN_TASKS]:
        first, *others = dict.fromkeys(a.workers)
        last = due.get(a.task)
        rows.append(
            [a.task, first + (f" and {len(others):,} more" if others else ""),
             when(a.start_s, now_s), when(a.end_s, now_s),
             "" if last is None else when(last, now_s) + (" late" if a.end_s > last else "")]
        )  # fmt: skip
    columns = ["task", "on", "start", "end", "due"]
    used = 5 if any(row[-1] for row in rows) else 4
    return table("Plan", columns[:used], [row[:used] for row in rows])


def _planned(response: PlanResponse, request: PlanRequest) -> int:
    """How many of the tasks that wait are in the plan; running ones that it moves are none."""
    if response.plan is None:
        return 0
    return len(request.snapshot.pending_by_id.keys() & response.plan.by_task.keys())


def _counts(response: PlanResponse, request: PlanRequest) -> str:
    """Tasks planned, left out and preempted, in words."""
    text = f"{_planned(response, request):,} of {len(request.snapshot.pending):,} tasks planned"
    if response.unplanned:
        text += f", {len(response.unplanned):,} cannot be placed"
    if response.plan is not None and response.plan.preempted:
        count = len(response.plan.preempted)
        text += f", {counted(count, 'running task')} preempted"
    return text


def _warnings(response: PlanResponse, request: PlanRequest) -> list[str]:
    """What is worth a line on stderr though there is a plan."""
    found = [] if response.warning is None else [response.warning]
    if not request.snapshot.pending:
        found.append("there are no tasks to plan: 0 of 0")
    elif response.plan is not None and response.unplanned:
        count = len(response.unplanned)
        found.append(
            f"{counted(count, 'task')} cannot be placed, see 'not planned' "
            "(with --strict this is exit code 3)"
        )
    return found


def _reasons(title: str, reasons: Any) -> None:
    if not reasons:
        return
    console.print(f"{title} ({len(reasons):,}):")
    for name, reason in list(reasons.items())[:SHOWN_REASONS]:
        console.print(f"  {escape(name)}: {escape(reason)}", soft_wrap=True)
    if len(reasons) > SHOWN_REASONS:
        console.print(f"  and {len(reasons) - SHOWN_REASONS:,} more, all in the response")


COMMANDS: dict[str, Callable[..., None]] = {"plan": plan, "validate": validate}
