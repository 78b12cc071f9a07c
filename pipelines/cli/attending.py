"""``plancast submit``, ``queue`` and the others that speak to a master that stays."""

from __future__ import annotations

import json as text_of
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from plancast.json_text import json_of
from plancast.pipelines.cli.common import ENVIRONMENT_FAILED, Json, console, print_json, stderr
from plancast.planner.model.explain import clock
from plancast.wording import counted

VARIABLE = "PLANCAST_MASTER"
Master = Annotated[
    str,
    typer.Option("--master", "-m", envvar=VARIABLE, help="The master's state file, or its URL."),
]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with its token, for a URL; else $PLANCAST_TOKEN.")
]
Tasks = Annotated[list[str], typer.Argument(help="Ids of tasks.")]
Workers = Annotated[list[str], typer.Argument(help="Ids of workers.")]
Most = Annotated[int, typer.Option(min=1, help="Tasks shown at most.")]
HERE = "master.db"
WATCH_ROWS, WATCH_S = 20, 0.5
"""Tasks that ``watch`` shows, and least seconds between two pictures."""


def submit(
    tasks: Annotated[Path, typer.Argument(help="Task file, or a workflow in WfFormat.")],
    command: Annotated[
        str, typer.Option(help="Program and arguments: {id}, {app}, {owner}, {requested_s}.")
    ] = "",
    array: Annotated[str, typer.Option(help="Many tasks of each: 0-99:2%10.")] = "",
    hold: Annotated[bool, typer.Option("--hold", help="Let none start yet.")] = False,
    estimates: Annotated[Path | None, typer.Option(help="Estimates made elsewhere.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Submitted again with the same key, nothing is done twice.")
    ] = None,
    site: Annotated[
        str,
        typer.Option(envvar="PLANCAST_SITE", help="slurm: jobs of your own instead of a master."),
    ] = "",
    model: Annotated[
        Path | None, typer.Option(envvar="PLANCAST_MODEL", help="With --site: forecasts the jobs.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="With --site: policy file.")] = None,
    hints: Annotated[
        str,
        typer.Option(
            envvar="PLANCAST_HINTS",
            help="With --site: the plan as options of sbatch, of nice,begin,nodelist.",
        ),
    ] = "nice",
    advice: Annotated[
        bool,
        typer.Option(
            "--advice", envvar="PLANCAST_ADVICE", help="With --site: print the script, submit none."
        ),
    ] = False,
    master: Master = HERE,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Hand tasks to a master that stays; once it says so they are on its disk, and will run.

    A task file, with its workflow in `after`, as of `plancast plan`; or a workflow in WfFormat,
    whose tasks are expected to run as long as they did there. Where the master asks for
    patience (it is flooded, or starts) it is sent again for a minute.

    With --site slurm no master takes part: the tasks are planned behind what the queue holds, and
    submitted by sbatch as your own jobs, with the plan as hints.

    Example: plancast submit tasks.csv --command './step {id}' --master master.db
    """
    from plancast.pipelines.inputs.estimate_files import read_estimates
    from plancast.pipelines.inputs.task_rows import read_task_rows
    from plancast.pipelines.inputs.workflow_files import is_workflow, workflow_rows
    from plancast.planner.model.domain import BadRequest, Estimates, estimates_of
    from plancast.planner.model.messages import to_json

    known: Estimates = {}
    if is_workflow(tasks):
        rows, known = workflow_rows(tasks)
    else:
        rows = read_task_rows(tasks)
    if estimates is not None:
        known = read_estimates(estimates)
    if site:
        made = _OwnJobs(rows, array, known, command, site, model, policy, hints, hold, key)
        _submit_own(made, tasks, advice=advice, json=json)
        return
    body: dict[str, Any] = {"tasks": rows, "command": command, "array": array, "hold": hold}
    if known:
        body["estimates"] = {
            task: {
                name: text_of.loads(to_json(one)) for name, one in estimates_of(known, task).items()
            }
            for task in known
        }

    def send(client: Any) -> Any:
        try:
            return _patiently(client, "/v1/tasks", body, key or secrets.token_hex(16))
        except BadRequest as why:
            raise BadRequest(f"{tasks}: {why}") from None

    found = _asked(master, token_file, send)
    said = counted(found["tasks"], "task")
    _say(found, f"{said} submitted{' before, and not again' if found['again'] else ''}", json)


class _OwnJobs(NamedTuple):
    """What was asked of ``plancast submit --site``."""

    rows: list[Any]
    array: str
    estimates: Any
    command: str
    site: str
    model: Path | None
    policy: Path | None
    hints: str
    hold: bool
    key: str | None


def _submit_own(asked: _OwnJobs, tasks: Path, *, advice: bool, json: bool) -> None:
    """Plan tasks on the site, and submit them as jobs of whoever asks; or say how."""
    from plancast.pipelines.engines.base import Unreachable
    from plancast.pipelines.engines.slurm import run_command
    from plancast.pipelines.inputs.arrays import expanded
    from plancast.pipelines.inputs.policy_files import read_policy
    from plancast.pipelines.inputs.tables import object_table
    from plancast.pipelines.master.commands import command_of
    from plancast.pipelines.operators import own_jobs
    from plancast.planner.model.domain import SCENARIOS, BadRequest, Policy

    if asked.site != "slurm":
        raise BadRequest(f"--site {asked.site!r}: is not known; write slurm")
    if not asked.command.split():
        raise BadRequest("--command: is empty; name what runs for a task")
    levels = () if asked.model is None else SCENARIOS
    policy = Policy(scenarios=levels) if asked.policy is None else read_policy(asked.policy, levels)
    key = asked.key or secrets.token_hex(4)
    wishes = own_jobs.Wishes(
        own_jobs.hints_of(asked.hints), policy, asked.model, asked.estimates, asked.hold, key
    )
    cells = expanded(asked.rows, asked.array) if asked.array else asked.rows
    runs = command_of(asked.command)
    try:
        jobs = own_jobs.own_jobs(
            object_table(cells, str(tasks)), lambda task: runs(task).argv, wishes, run_command
        )
        if not advice:
            jobs = own_jobs.submitted(jobs, key, run_command, again=asked.key is not None)
    except Unreachable as why:
        stderr.print(f"plancast: {why}", soft_wrap=True, markup=False)
        raise typer.Exit(ENVIRONMENT_FAILED) from None
    if json:
        print_json({"key": key, "jobs": [
            {"task": job.task.id, "job": job.number or None, "start_s": job.start_s,
             "nodes": list(job.nodes), "arguments": list(job.arguments)} for job in jobs
        ]})  # fmt: skip
    elif advice:
        typer.echo(own_jobs.script(jobs), nl=False)
    else:
        _show_jobs(jobs, key)


def _show_jobs(jobs: Sequence[Any], key: str) -> None:
    table = Table("task", "job", "planned", "on", box=None)
    for job in jobs[:WATCH_ROWS]:
        planned = "-" if job.start_s is None else clock(job.start_s, round(time.time()))
        nodes = ",".join(dict.fromkeys(job.nodes)) or "-"
        table.add_row(*map(escape, (job.task.id, job.number, planned, nodes)))
    console.print(table)
    more = f", of which {WATCH_ROWS} are shown" if len(jobs) > WATCH_ROWS else ""
    console.print(f"{counted(len(jobs), 'job')} submitted{more}; key {escape(key)}", soft_wrap=True)


def cancel(
    tasks: Tasks, master: Master = HERE, token_file: TokenFile = None, json: Json = False
) -> None:
    """Let tasks not run; those that run are stopped.

    Example: plancast cancel align-7 align-8
    """
    _change("/v1/tasks/cancel", {"names": tasks}, "cancelled", master, token_file, json)


def hold(
    tasks: Tasks, master: Master = HERE, token_file: TokenFile = None, json: Json = False
) -> None:
    """Let tasks that wait not start until they are released.

    Example: plancast hold align-7
    """
    _change("/v1/tasks/hold", {"names": tasks}, "held", master, token_file, json)


def release(
    tasks: Tasks, master: Master = HERE, token_file: TokenFile = None, json: Json = False
) -> None:
    """Let held tasks start again.

    Example: plancast release align-7
    """
    _change("/v1/tasks/release", {"names": tasks}, "released", master, token_file, json)


def prioritise(
    tasks: Tasks,
    weight: Annotated[float, typer.Option(min=0.0, help="What an hour of waiting counts.")] = 10.0,
    master: Master = HERE,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Let tasks matter more, or less: the plan is made anew with that weight.

    Example: plancast prioritise align-7 --weight 20
    """
    body = {"names": tasks, "weight": weight}
    _change("/v1/tasks/prioritise", body, f"of weight {weight:g}", master, token_file, json)


def drain(
    workers: Workers, master: Master = HERE, token_file: TokenFile = None, json: Json = False
) -> None:
    """Let workers take nothing new; they finish what they run.

    Example: plancast drain w3
    """
    _change("/v1/workers/drain", {"names": workers}, "drained", master, token_file, json)


def undrain(
    workers: Workers, master: Master = HERE, token_file: TokenFile = None, json: Json = False
) -> None:
    """Let drained workers take tasks again.

    Example: plancast undrain w3
    """
    _change("/v1/workers/undrain", {"names": workers}, "open", master, token_file, json)


def queue(
    most: Most = 50, master: Master = HERE, token_file: TokenFile = None, json: Json = False
) -> None:
    """Tasks that run and tasks that wait: where, from when, and what each waits for.

    Starts are given as the moments by which a task has begun with 50 and with 90%.

    Example: plancast queue --most 20
    """
    found = _asked(master, token_file, lambda client: _state(client, most))
    if json:
        print_json(found[1])
        return
    console.print(_picture(*found))


def why(
    task: Annotated[str, typer.Argument(help="Id of a task.")],
    master: Master = HERE,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Where a task stands in a master's queue, what it waits for, and when it starts.

    Example: plancast why align-7
    """
    found, status = _asked(
        master, token_file, lambda c: (c.get("/v1/why", task=task), c.get("/v1/status"))
    )
    if json:
        print_json(found)
        return
    now = status["now_s"]
    times = [
        f"{name} {clock(found[key], now)}"
        for key, name in (
            ("start_s", "start"), ("likely_s", "50% by"), ("sure_s", "90% by"),
            ("promised_s", "promised by"), ("end_s", "end"),
        )
        if found.get(key) is not None
    ]  # fmt: skip
    where = f" on {', '.join(found['workers'])}" if found["workers"] else ""
    lines = (f"{found['task']}: {found['state']}{where}", found["why"], "; ".join(times))
    console.print("\n".join(line for line in lines if line), markup=False, soft_wrap=True)


def log(
    task: Annotated[str, typer.Argument(help="Id of a task.")],
    master: Master = HERE,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """What a task's runs have printed: the files, and the last lines of each.

    Example: plancast log align-7
    """
    found = _asked(master, token_file, lambda c: c.get("/v1/log", task=task))
    if json:
        print_json(found)
        return
    if not found["runs"]:
        stderr.print(f"plancast: {task} has printed nothing", markup=False)
    for run in found["runs"]:
        console.print(f"{run['file']}:", markup=False, soft_wrap=True, style="bold")
        console.print(run["tail"], markup=False, soft_wrap=True)


def status(master: Master = HERE, token_file: TokenFile = None, json: Json = False) -> None:
    """A master in numbers: tasks by state, workers, promises kept and broken, the plan.

    Example: plancast status --json
    """
    found = _asked(master, token_file, lambda c: c.get("/v1/status"))
    if json:
        print_json(found)
        return
    console.print(_head(found))
    console.print(_table(
        "workers", ("worker", "takes tasks", "running"),
        [(w["id"], "yes" if w["open"] else "drained" if w["drained"] else "no", str(w["running"]))
         for w in found["workers"]],
    ))  # fmt: skip


def watch(master: Master = HERE, token_file: TokenFile = None, json: Json = False) -> None:
    """Watch a master at work until it ends, or Ctrl-C; on as many terminals as you like.

    Without a terminal, or with --json, a line for each event.

    Example: plancast watch --master master.db
    """
    from plancast.pipelines.master.client import NotReached

    def follow(client: Any) -> None:
        if json or not console.is_terminal:
            for event in client.events():
                if event:
                    typer.echo(json_of(event))
            return
        with Live(console=console, auto_refresh=False) as live:
            drawn = 0.0
            for _ in client.events():
                if time.monotonic() - drawn >= WATCH_S:
                    live.update(_picture(*_state(client, WATCH_ROWS)), refresh=True)
                    drawn = time.monotonic()
        raise NotReached("the master has ended")

    _asked(master, token_file, follow)


# ------------------------------------------------------------------ inside

AGAIN_S, PAUSE_S = 60.0, 1.0
"""How long a submission is sent again, and how long after the last time."""


def _asked(master: str, token_file: Path | None, ask: Callable[[Any], Any]) -> Any:
    from plancast.pipelines.master.client import Client, NotReached

    try:
        return ask(Client.to(master, token_file))
    except NotReached as why:
        stderr.print(f"plancast: {why}", markup=False, soft_wrap=True)
        raise typer.Exit(ENVIRONMENT_FAILED) from None


def _state(client: Any, most: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return client.get("/v1/status"), client.get("/v1/queue", most=most)["tasks"]


def _patiently(client: Any, path: str, body: Any, key: str) -> Any:
    from plancast.pipelines.master.client import NotReached

    until, said = time.monotonic() + AGAIN_S, ""
    while True:
        try:
            return client.post(path, body, key)
        except NotReached as why:
            if time.monotonic() + PAUSE_S > until:
                raise
            if not said:
                said = f"{why}; it is asked again for a minute"
                stderr.print(f"plancast: {said}", markup=False, soft_wrap=True)
        time.sleep(PAUSE_S)


def _change(
    path: str, body: dict[str, Any], done: str, master: str, token_file: Path | None, json: bool
) -> None:
    found = _asked(master, token_file, lambda client: client.post(path, body))
    _say(found, f"{', '.join(body['names'])}: {done}", json)


def _say(found: Any, sentence: str, json: bool) -> None:
    if json:
        print_json(found)
    else:
        console.print(sentence, markup=False, soft_wrap=True)


def _head(found: dict[str, Any]) -> Text:
    now, ended, promises = found["now_s"], found["ended"], found["promises"]
    closed = sum(not w["open"] for w in found["workers"])
    outside = f"{found['submitted']} submitted, " if found["submitted"] else ""
    outcomes = ", ".join(f"{n} {name}" for name, n in sorted(ended.items())) or "none ended"
    text = Text.assemble(
        (f"{clock(now, now)} ", "bold"),
        f"{counted(len(found['workers']), 'worker')}{f' ({closed} closed)' if closed else ''}, "
        f"{found['running']} running, {found['waiting']} waiting, {outside}{found['held']} held, "
        f"{outcomes}; "
        f"promises: {promises['kept']} kept, {promises['broken']} broken",
    )
    if found["plan"]["why"]:
        text.append(f"\nlast planned because: {found['plan']['why']}")
    if model := found["model"]:
        text.append(
            f"\nmodel: {model['promotions']} of {counted(model['contests'], 'challenger')} promoted"
        )
        text.append(f"; {model['why']}" if model["why"] else "")
    return text


def _picture(found: dict[str, Any], rows: list[dict[str, Any]]) -> Group:
    now = found["now_s"]

    def at(row: dict[str, Any], key: str) -> str:
        return "" if row.get(key) is None else clock(row[key], now)

    runs = [r for r in rows if r["state"] in ("running", "stopping", "cancelling")]
    waits = [r for r in rows if r not in runs]
    parts: list[Any] = [_head(found)]
    if runs:
        cells = [(r["task"], r["state"], ", ".join(r["workers"]), at(r, "start_s"), at(r, "end_s"))
                 for r in runs]  # fmt: skip
        parts.append(_table("running", ("task", "state", "on", "since", "expected until"), cells))
    if waits:
        more = [(r["task"], r["state"], at(r, "likely_s"), at(r, "sure_s"), at(r, "promised_s"),
                 r["why"]) for r in waits]  # fmt: skip
        heads = ("task", "state", "50% by", "90% by", "promised by", "why")
        parts.append(_table("waiting", heads, more))
    left = found["submitted"] + found["waiting"] + found["held"] + found["running"] - len(rows)
    if left > 0:
        parts.append(Text(f"and {left} more"))
    return Group(*parts)


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    result = Table(title=title, title_justify="left", title_style="bold", box=None,
                   header_style="underline", padding=(0, 2, 0, 0))  # fmt: skip
    for column in columns:
        result.add_column(column, overflow="fold", no_wrap=column != "why")
    for row in rows:
        result.add_row(*map(escape, row))
    return result


COMMANDS: dict[str, Callable[..., None]] = {
    "submit": submit, "cancel": cancel, "hold": hold, "release": release,
    "prioritise": prioritise, "drain": drain, "undrain": undrain, "queue": queue, "why": why,
    "log": log, "status": status, "watch": watch,
}  # fmt: skip
