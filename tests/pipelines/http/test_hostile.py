"""Ten minutes of schemathesis beside a hostile client, against ``plancast serve`` as it is run."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from plancast.planner.model.messages import to_json
from tests.conftest import scaled
from tests.pipelines.http.service import SMALL, Client, planned, serve

MINUTES = float(os.environ.get("PLANCAST_FUZZ_MINUTES", "10"))
ANSWER_S = 60.0
"""Longest wait for an answer beside the attacks, of a service whose plans take 0.05 s."""
MOST_MIB = 1_500
"""Memory of the service at its peak."""


class Hostile(threading.Thread):
    """Sends what no client should, until it is stopped."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.port, self.chance, self.stopped = port, random.Random(seed), threading.Event()
        self.sent = 0
        self.open: list[socket.socket] = []

    def run(self) -> None:
        """Attack after attack."""
        while not self.stopped.is_set():
            with suppress(OSError):
                self.chance.choice(
                    (self.stall, self.grow, self.nest, self.damage, self.leave, self.noise)
                )()
                self.sent += 1
            time.sleep(0.02)

    def connect(self, text: bytes) -> socket.socket:
        """A connection that has sent something."""
        link = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        link.sendall(text)
        return link

    def post(self, path: str, body: bytes, length: int | None = None) -> socket.socket:
        """A request, perhaps with a wrong length."""
        size = len(body) if length is None else length
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        return self.connect(head + body)

    def stall(self) -> None:
        """Begin and say no more; a hundred at a time."""
        self.open = [link for link in self.open if link.fileno() >= 0][-100:]
        self.open.append(
            self.connect(self.chance.choice((b"", b"GET /he", b"POST / HTTP/1.1\r\n")))
        )

    def grow(self) -> None:
        """A body that would take a hundred times its length."""
        item = self.chance.choice((b"1,", b"{},", b'"a",', b"[],", b"null,"))
        kind = self.chance.choice((b'{"events":[', b'{"x":[', b"["))
        self.post("/v1/events", kind + item * self.chance.choice((10**4, 10**6, 5 * 10**6)))

    def nest(self) -> None:
        """Arrays within arrays."""
        self.post("/v1/plan", b"[" * self.chance.randrange(1, 10**6)).close()

    def damage(self) -> None:
        """A request with some bytes of it changed or lost."""
        text = bytearray(to_json(SMALL))
        for _ in range(self.chance.randrange(1, 6)):
            place = self.chance.randrange(len(text))
            text[place : place + self.chance.randrange(3)] = bytes([self.chance.randrange(256)])
        link = self.post(self.chance.choice(("/v1/plan", "/v1/replan", "/k8s/filter")), bytes(text))
        link.settimeout(30)
        status = link.recv(64)
        assert not status.startswith(b"HTTP/1.1 500"), bytes(text)
        link.close()

    def leave(self) -> None:
        """A question whose answer is not waited for, or a body that stops half-way."""
        self.post("/v1/plan", to_json(SMALL)[:500], 10**7).close()
        self.post("/v1/plan?solver=greedy", to_json(SMALL)).close()

    def noise(self) -> None:
        """What is no HTTP at all."""
        self.connect(self.chance.randbytes(self.chance.randrange(1, 5000))).close()


@contextmanager
def memory(process: psutil.Process) -> Iterator[list[float]]:
    """The largest memory of a process so far, in MiB."""
    most, stopped = [0.0], threading.Event()

    def watch() -> None:
        while not stopped.wait(0.1):
            with suppress(psutil.NoSuchProcess):
                most[0] = max(most[0], process.memory_info().rss / 2**20)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        stopped.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_service_under_attack_answers_and_stays_small(tmp_path: Path) -> None:
    """Strange bodies and stalling clients could bring it down, or fill memory and log."""
    with (tmp_path / "log").open("w") as log:
        process = serve("--port", "0", "--json", "--max-budget", "0.05", stderr=log)
    assert process.stdout is not None
    client = Client(int(json.loads(process.stdout.readline())["url"].rsplit(":", 1)[1]))
    hostile = Hostile(client.port, 1)
    try:
        while client.get("/healthz")[0] != 200:
            time.sleep(0.2)
        planned(client, SMALL, "/v1/plan?hold=true")
        hostile.start()
        with memory(psutil.Process(process.pid)) as most:
            cases = fuzzed(client, time.monotonic() + 60 * MINUTES)
            hostile.stopped.set()
            hostile.join(60)
            assert client.get("/healthz")[0] == 200
            assert client.post("/v1/plan?solver=greedy", to_json(SMALL))[0] == 200
        print(f"{cases} cases, {hostile.sent} attacks, {most[0]:.0f} MiB at the peak")
        assert cases > 20 * MINUTES
        assert hostile.sent > 20 * MINUTES
        assert most[0] < MOST_MIB
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        hostile.stopped.set()
        process.kill()
        process.wait()


def fuzzed(client: Client, until: float) -> int:
    """Cases that schemathesis sent, of every operation in turn, with ever new seeds."""
    import schemathesis  # takes a second, in each process of tests
    from schemathesis import GenerationMode

    from tests.pipelines.http.fuzz import CHECKS

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{client.port}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    count = 0

    def send_some(operation: schemathesis.APIOperation, mode: GenerationMode) -> None:
        @settings(max_examples=scaled(10), deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: schemathesis.Case) -> None:
            nonlocal count
            body = case.body
            budget = body.get("budget") if isinstance(body, dict) else None
            # What is wrong with a budget must stay wrong.
            if isinstance(budget, dict) and isinstance(budget.get("seconds"), float):
                budget.update(seconds=0.01)
            case.call_and_validate(checks=CHECKS, timeout=ANSWER_S)
            count += 1

        with suppress(Unsatisfiable):
            send()

    while time.monotonic() < until:
        for operation in operations:
            for mode in GenerationMode:
                if time.monotonic() < until:
                    send_some(operation, mode)
    return count
