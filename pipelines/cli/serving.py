"""``plancast serve``."""

from __future__ import annotations

import ipaddress
import json as text_of
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plancast.pipelines.cli.common import Json, stderr
from plancast.planner.model.domain import BadRequest

TOKEN_VARIABLE = "PLANCAST_TOKEN"
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", help="Certificate to show (PEM); then it is HTTPS.")
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="The certificate's key (PEM).")]


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 8484,
    model: Annotated[Path | None, typer.Option(help="Model for /v1/forecast.")] = None,
    planners: Annotated[int, typer.Option(min=1, help="Processes that plan.")] = 1,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait for one.")] = 64,
    max_budget: Annotated[
        float, typer.Option(min=0.0, help="Longest budget granted, seconds.")
    ] = 60.0,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Longest body, MiB.")] = 16,
    max_values: Annotated[
        int, typer.Option(min=1000, help="Most members of a body's objects and arrays.")
    ] = 1_000_000,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the bearer token; else ${TOKEN_VARIABLE} holds it."),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    json: Json = False,
) -> None:
    """Serve the planner over HTTP, and hold one cluster's state and plan.

    Listens on the loopback address; on any other it asks every caller for a bearer token.
    Stops on SIGTERM or Ctrl-C once the requests under way are answered. The OpenAPI document
    is at /openapi.json.

    Example: plancast serve --port 8484 --model models/runtime --planners 2
    """
    from plancast.pipelines.http.app import create_app
    from plancast.pipelines.http.connections import listening
    from plancast.pipelines.http.limits import BodyLimits
    from plancast.pipelines.http.planners import Planners
    from plancast.pipelines.http.tls import Certificate

    shown = Certificate.of(tls_cert, tls_key)
    token = token_of(token_file)
    if token is None and not _is_loopback(host):
        raise BadRequest(
            f"--host {host}: others can reach this address; set a bearer token in "
            f"${TOKEN_VARIABLE} or --token-file"
        )
    listener = listening(host, port)  # before anything is loaded: it may be taken
    forecast = None
    if model is not None:
        from plancast.pipelines.http.forecasts import ModelForecasts

        forecast = ModelForecasts(model)
    app = create_app(
        lambda: Planners(planners, queue, most_s=max_budget),
        forecast=forecast,
        token=token,
        limits=BodyLimits(max_body_mib << 20, max_values),
    )

    def started(_: Any, url: str) -> None:
        if json:
            typer.echo(text_of.dumps({"url": url}))
        else:
            stderr.print(f"plancast serves {url}", soft_wrap=True)

    # The server ends by it once all is answered, and this process after the server.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run_server(app, listener, [], started, graceful_s=int(max_budget) + 10, shown=shown)


def run_server(
    app: Any,
    listener: Any,
    servers: list[Any],
    started: Callable[[Any, str], None],
    *,
    graceful_s: int,
    shown: Any = None,
) -> None:
    """Serve an application on a socket until SIGTERM or Ctrl-C.

    Parameters
    ----------
    app : ASGI application
    listener : socket
    servers : list
        The server is put in here before it starts: ``should_exit`` ends it.
    started : callable
        Called with the server and its URL once it takes requests.
    graceful_s : int
        Seconds that requests under way have to end.
    shown : Certificate, optional
        Where it is given, HTTPS is spoken.
    """
    import uvicorn

    from plancast.pipelines.http.connections import (
        MOST_CONNECTIONS,
        TimedLoop,
        TimedProtocol,
        allow_files,
    )

    allow_files()
    config = uvicorn.Config(
        app,
        loop=f"{TimedLoop.__module__}:{TimedLoop.__name__}",
        http=TimedProtocol,
        limit_concurrency=MOST_CONNECTIONS,
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=graceful_s,
        ssl_certfile=None if shown is None else shown.path,
        ssl_keyfile=None if shown is None else shown.key,
    )
    server = uvicorn.Server(config)
    servers.append(server)
    listen = server.startup
    failed: list[Exception] = []

    async def startup(sockets: Any = None) -> None:
        await listen(sockets)
        address, bound = listener.getsockname()[:2]
        scheme = "http" if shown is None else "https"
        try:
            started(server, f"{scheme}://{f'[{address}]' if ':' in address else address}:{bound}")
        except Exception as why:  # raised once the server has ended as it should
            failed.append(why)
            server.should_exit = True

    # Only then is the port known that port 0 stands for.
    server.startup = startup  # type: ignore[method-assign]
    server.run([listener])
    if failed:
        raise failed[0]
    if not server.started:
        raise typer.Exit(1)


def token_of(path: Path | None) -> str | None:
    """The bearer token of a file, else of the environment; None where there is none."""
    from plancast.pipelines.inputs.files import read_text
    from plancast.pipelines.master.client import sound_token

    if path is not None:
        return sound_token(read_text(path).strip(), str(path))
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    return sound_token(token, f"${TOKEN_VARIABLE}") if token else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


COMMANDS: dict[str, Callable[..., None]] = {"serve": serve}
