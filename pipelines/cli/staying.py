"""``plancast master serve``."""

from __future__ import annotations

import json as text_of
import logging
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from plancast.pipelines.cli.common import ENVIRONMENT_FAILED, Json, Seed, stderr
from plancast.pipelines.cli.serving import (
    TOKEN_VARIABLE,
    TlsCert,
    TlsKey,
    run_server,
    token_of,
)
from plancast.pipelines.engines import ENGINES
from plancast.planner.model.domain import SCENARIOS, BadRequest


def serve(
    state: Annotated[
        str, typer.Option(help="File that remembers all, or postgresql+psycopg://USER@HOST/NAME.")
    ],
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster file: the workers; without one, Slurm's nodes.")
    ] = None,
    engine: Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}.")] = "sim",
    files: Annotated[
        Path | None, typer.Option(help="Stands for the state in names of files; as of --state.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model that forecasts the tasks.")] = None,
    command: Annotated[
        str, typer.Option(help="Runs for a task without one: {id}, {app}, {owner}, {requested_s}.")
    ] = "",
    shell: Annotated[
        bool, typer.Option("--shell", help="Run --command by a shell: $PLANCAST_ID and so on.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 0,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the bearer token; else ${TOKEN_VARIABLE}, else a new one."),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    window: Annotated[int, typer.Option(min=1, help="Tasks that a plan looks at.")] = 500,
    budget: Annotated[float, typer.Option(min=0.1, help="Seconds for a full plan.")] = 2.0,
    outage: Annotated[
        float, typer.Option(min=0.0, help="Seconds that the engine may not answer.")
    ] = 1800.0,
    speed: Annotated[
        float, typer.Option(min=0.001, help="Of the clock of --engine sim, against the world's.")
    ] = 1.0,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Longest body, MiB.")] = 16,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Keep a cluster busy until stopped: tasks come while it runs, by `plancast submit` or HTTP.

    Each is forecast as it comes, planned beside the others, and promised a start. All that was
    acknowledged is in --state: after a kill or a stop the same command goes on where it was.
    Everybody who asks needs the bearer token, for tasks are commands that run here; `plancast
    submit` and its like find it in STATE.serve.json, which only this user can read.

    Several may share a database of PostgreSQL: one leads, the others take over when it dies.

    Stops on SIGTERM or Ctrl-C after the step under way; what runs goes on, and is found again.

    Example: plancast master serve --engine sim --cluster cluster.yaml --state master.db
    """
    from plancast.pipelines.http.tls import Certificate
    from plancast.pipelines.master.places import place_of

    if engine not in ENGINES:
        raise BadRequest(f"--engine {engine!r}: choose {', '.join(ENGINES)}")
    place = place_of(state, files)
    settings = _settings(engine, cluster, policy, model, (command, shell), budget, place.files)
    settings = _with(settings, outage_s=outage, speed=speed, seed=seed, window=window)
    token = token_of(token_file) or secrets.token_urlsafe(32)
    address = _Address(host, port, Certificate.of(tls_cert, tls_key))
    with _environment(place.name):
        _stay(place, settings, token, address, max_body_mib << 20, json)


class _Address(NamedTuple):
    """Where a master is asked, and the certificate that it shows there."""

    host: str
    port: int
    shown: Any


@contextmanager
def _environment(state: str) -> Iterator[None]:
    """Whatever fails of disk, database or engine inside ends with one sentence, and may go on."""
    from plancast.pipelines.engines.base import EnvironmentFailed, of_the_disk
    from plancast.pipelines.master.database import GONE, said_by

    try:
        yield
    except (EnvironmentFailed, OSError, *GONE) as why:
        found = of_the_disk(why)
        if isinstance(why, GONE):
            found = EnvironmentFailed(f"{state}: cannot be read: {said_by(why)}")
        if not isinstance(found, EnvironmentFailed):
            raise
        stderr.print(
            f"plancast: {found}; what was done is in {state}, start it again",
            soft_wrap=True, markup=False,
        )  # fmt: skip
        raise typer.Exit(ENVIRONMENT_FAILED) from None


def _stay(
    place: Any, settings: Any, token: str, address: _Address, most_bytes: int, json: bool
) -> None:
    """Take tasks until it is stopped, or its environment fails."""
    from plancast.pipelines.http.connections import listening
    from plancast.pipelines.http.limits import BodyLimits
    from plancast.pipelines.http.master_app import create_master_app
    from plancast.pipelines.master.client import remove_note, write_note
    from plancast.pipelines.master.planner_link import PatientPlanner
    from plancast.pipelines.master.service import Service
    from plancast.pipelines.master.state import digest_of

    note, planner = _log(), PatientPlanner(settings.control)
    # Before anything is started: a refused state must leave nothing running.
    held = _state(place, settings.kind, planner, note)
    if held is None:
        return
    try:
        # A batch's state has other tasks; another engine's runs would not be found again.
        digests = {"tasks": "a master that stays", "engine": settings.engine}
        held.check_digest({name: digest_of(text) for name, text in digests.items()}, resume=True)
        listener = listening(address.host, address.port)
        if settings.output is not None:
            settings.output.mkdir(parents=True, exist_ok=True)
    except BaseException:
        held.close()
        planner.close()
        raise
    ends: list[Any] = []
    urls: list[str] = []
    service = Service(
        held, settings, ask=planner, note=note, failed=lambda: leave(),
    )  # fmt: skip

    def leave() -> None:
        for server in ends:
            server.should_exit = True

    def started(server: Any, url: str) -> None:
        write_note(place.files, url, token, address.shown and address.shown.text())
        urls.append(url)
        if json:
            typer.echo(text_of.dumps({"url": url, "state": place.name, "batch": service.batch}))
            sys.stdout.flush()

    app = create_master_app(
        service, token=token, limits=BodyLimits(most_bytes),
        ending=lambda: any(server.should_exit for server in ends),
    )  # fmt: skip
    # The server ends by it, and raises it once more when it has ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        run_server(app, listener, ends, started, graceful_s=5, shown=address.shown)
    finally:
        service.stop()
        for url in urls:
            remove_note(place.files, url)
    if service.failure is not None:
        raise service.failure


def _state(place: Any, kind: Any, planner: Any, note: Any) -> Any:
    """The state, once this master leads; None where it was stopped before."""
    from plancast.pipelines.master.leading import Lease
    from plancast.pipelines.master.service import notify
    from plancast.pipelines.master.state import State
    from plancast.pipelines.planner_process import warm_up

    if not place.shared or not kind.real:
        return State(place)  # a simulated cluster lives in its master: none can take it over
    stopped: list[int] = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    lease = Lease(place)
    try:
        if not lease.taken():
            planner.start()
            # What this process needs itself, so that it need not be loaded first.
            for work in (kind.load, warm_up):
                threading.Thread(target=work, daemon=True).start()
            note("stands_by", leader=lease.leader())
            notify("READY=1")
            if not lease.wait(lambda: bool(stopped), lambda: notify("WATCHDOG=1")):
                lease.close()
                planner.close()
                return None
        note("leads")
        return State(place, lease)
    except BaseException:
        lease.close()
        planner.close()
        raise
    finally:
        signal.signal(signal.SIGTERM, usual)


def _settings(
    engine: str,
    cluster: Path | None,
    policy: Path | None,
    model: Path | None,
    command: tuple[str, bool],
    budget: float,
    files: Path,
) -> Any:
    from plancast.pipelines.inputs.policy_files import read_policy
    from plancast.pipelines.master.commands import command_of
    from plancast.pipelines.master.service import Settings
    from plancast.planner.model.domain import Policy, Snapshot
    from plancast.planner.model.messages import Budget, PlanRequest
    from plancast.planner.planning.controller import ControlPolicy

    machines, kind = _machines(engine, cluster), ENGINES[engine]
    if machines.running or machines.budgets:
        raise BadRequest(
            f"{cluster}: has running tasks or budgets, which a master that stays does not take; "
            "leave them out"
        )
    # Plans are priced over scenarios: what is then repaired is what did best under errors.
    wanted = Policy(scenarios=SCENARIOS) if policy is None else read_policy(policy, SCENARIOS)
    snapshot = Snapshot(0, 0, machines.workers, counted=machines.counted)
    template, shell = command
    return Settings(
        PlanRequest("master", snapshot, {}, wanted), engine, kind,
        ControlPolicy(replan_budget=Budget(budget)), limits=machines.limits, model=model,
        command=command_of(template, shell=shell) if template.split() else None,
        command_of=command_of,
        output=files.absolute().with_suffix(".output") if kind.real else None,
    )  # fmt: skip


def _machines(engine: str, cluster: Path | None) -> Any:
    """The workers of a cluster file; without one those that the engine has by itself."""
    from plancast.pipelines.inputs.user_files import cluster_from_content, read_cluster

    if cluster is not None:
        return read_cluster(cluster)
    read = ENGINES[engine].cluster
    if read is None:
        raise BadRequest(f"--engine {engine}: needs --cluster, the file of its workers")
    return cluster_from_content(read(), engine)


def _with(settings: Any, **values: Any) -> Any:
    from dataclasses import replace

    return replace(settings, **values)


def _log() -> Any:
    """The log on standard error: a line of JSON for whatever happens, of text on a terminal."""
    log = logging.getLogger("plancast.master")
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines() if sys.stderr.isatty() else _Objects())
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)

    def note(what: str, **facts: Any) -> None:
        log.info(what, extra={"facts": facts})

    return note


class _Objects(logging.Formatter):
    """A line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC), level, what happened, and its facts."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = {"at": f"{at}.{record.msecs:03.0f}Z", "level": record.levelname.lower(),
                "what": record.getMessage()}  # fmt: skip
        return text_of.dumps({**head, **getattr(record, "facts", {})}, default=str)


class _Lines(logging.Formatter):
    """A line for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Time of day, what happened, and its facts."""
        facts = " ".join(f"{k}={v}" for k, v in getattr(record, "facts", {}).items())
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{at} {record.getMessage()} {facts}".rstrip()
