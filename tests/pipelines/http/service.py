"""A service over real sockets, in this process or in one of its own, and who speaks to it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from subprocess import PIPE
from typing import Any

import uvicorn

from plancast.pipelines.http.app import create_app
from plancast.pipelines.http.connections import TimedProtocol
from plancast.pipelines.http.planners import Planners
from plancast.pipelines.planner_process import answer
from plancast.planner.instances.generate import (
    generate_batch,
)
from plancast.planner.model.messages import (
    Budget,
    PlanRequest,
    PlanResponse,
    from_json,
    to_json,
)

READY_S = 240.0
"""Kernels may be compiled for the first time."""

SMALL = replace(generate_batch(12, seed=3, now_s=1_000), budget=Budget(seconds=0.3))


@dataclass(frozen=True)
class Answer:
    """An answer of a service."""

    status: int
    headers: Any
    body: bytes


@dataclass(frozen=True)
class Client:
    """Speaks to a service on this machine."""

    port: int
    token: str | None = None

    def send_whole(self, method: str, path: str, body: Any = None) -> Answer:
        """All that is answered."""
        text = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        link = HTTPConnection("127.0.0.1", self.port, timeout=READY_S)
        try:
            link.request(method, path, text, headers)
            response = link.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            link.close()

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the body as JSON (as text where it is none)."""
        got = self.send_whole(method, path, body)
        if got.headers["content-type"] == "application/json":
            return got.status, json.loads(got.body)
        return got.status, got.body.decode()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Send a body."""
        return self.send("POST", path, body)

    def get(self, path: str) -> tuple[int, Any]:
        """Ask."""
        return self.send("GET", path)


@contextmanager
def serving(
    work: Callable[[Connection], None] = answer, *, ready: bool = True, **options: Any
) -> Iterator[Client]:
    """A service on a free port, with one planner."""
    pool = {k: options.pop(k) for k in ("grace_s", "most_s", "queue") if k in options}
    http = options.pop("http", TimedProtocol)
    app = create_app(lambda: Planners(1, **{"queue": 64, **pool}, work=work), **options)
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="on", http=http,
                            timeout_graceful_shutdown=10)  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        client = Client(server.servers[0].sockets[0].getsockname()[1], options.get("token"))
        limit = time.monotonic() + READY_S
        while ready and client.get("/healthz")[0] != 200 and time.monotonic() < limit:
            time.sleep(0.05)
        yield client
    finally:
        server.should_exit = True
        thread.join()


def planned(client: Client, request: PlanRequest, path: str = "/v1/plan") -> PlanResponse:
    """The response to a request, which must be answered."""
    status, body = client.post(path, to_json(request))
    assert status == 200, body
    return from_json(PlanResponse, json.dumps(body))


def serve(*options: str, stderr: Any = PIPE) -> subprocess.Popen[str]:
    """``plancast serve`` in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "from plancast.pipelines.cli import main; main()",
        "serve",
        *options,
    ]
    return subprocess.Popen(command, stdout=PIPE, stderr=stderr, text=True)
