"""Hostile clients: bodies that grow, connections that stall, numbers that are none."""

from __future__ import annotations

import json
import socket
import time
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.pipelines.http.bodies import EventsBody, read_body
from plancast.pipelines.http.connections import TimedProtocol
from plancast.pipelines.http.extender import ExtenderArgs
from plancast.pipelines.http.limits import BodyLimits, TooLarge, _counted
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import PlanRequest, to_json
from tests.oracles.misbehaving_planners import slow
from tests.oracles.speed import least_cpu_s
from tests.pipelines.http.service import SMALL, Client, planned, serving

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('",[]{}\\ab:'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('",[]{}\\a'), inner),
    max_leaves=30,
)


def counted_slowly(value: Any) -> tuple[int, int]:
    """Members and depth of a parsed value: the slow twin."""
    if not isinstance(value, list | dict):
        return 0, 0
    parts = [counted_slowly(v) for v in (value.values() if isinstance(value, dict) else value)]
    # One for the bracket and one for each comma: an empty one counts like one of one member.
    return max(1, len(parts)) + sum(p[0] for p in parts), 1 + max((p[1] for p in parts), default=0)


@given(VALUES)
def test_values_and_depth_are_counted_as_a_parser_would(value: Any) -> None:
    """A quote or a bracket within a string could hide a million values, or invent them."""
    assert _counted(json.dumps(value).encode()) == counted_slowly(value)
    assert _counted(json.dumps(value, ensure_ascii=False).encode()) == counted_slowly(value)


def test_chunks_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A string or a nest across two chunks could be counted as two."""
    monkeypatch.setattr("plancast.pipelines.http.limits.CHUNK", 3)
    value = {"a,b[": [1, [2, "x,]{"], {}], "c": '\\",[' * 3}
    assert _counted(json.dumps(value).encode()) == counted_slowly(value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":[' + b"1," * 7_000_000 + b"1]}",
        b'{"x":[' + b"{}," * 4_000_000 + b"{}]}",
        b"[" * 5_000_000,
    ],
)
def test_a_body_that_would_grow_is_refused_before_it_is_parsed(body: bytes) -> None:
    """60 MB of ones took 5 GB and 77 s before they were refused."""
    tracemalloc.start()
    with pytest.raises(TooLarge):
        BodyLimits().check(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(body)


def test_a_large_request_fits() -> None:
    """The limits could keep out what the service is for."""
    text = to_json(SMALL)
    task = to_json(SMALL.snapshot.pending[0])
    many = text.replace(b'"pending":[', b'"pending":[' + (task + b",") * 10_000)
    BodyLimits().check(many)


@pytest.mark.parametrize("events", [[1] * 200_000, {str(k): 1 for k in range(100_000)}])
def test_a_body_of_faults_costs_no_more_than_one(events: Any) -> None:
    """Each of a million wrong items could become a fault of its own in memory."""
    text = json.dumps({"events": [], "estimates": events} if isinstance(events, dict) else
                      {"events": events}).encode()  # fmt: skip

    def read() -> None:
        with pytest.raises(
            BadRequest, match=r"(events|estimates)\.0: must be a(n object| mapping)"
        ):
            read_body(EventsBody, text)

    assert least_cpu_s(read, 3) < 30 * least_cpu_s(lambda: json.loads(text), 3)


def connected(client: Client, text: bytes) -> socket.socket:
    """A connection that has sent something."""
    link = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    link.sendall(text)
    return link


def everything(link: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    with suppress(ConnectionError):
        while part := link.recv(4096):
            found += part
    return found


def test_connections_of_which_nothing_comes_are_closed() -> None:
    """A few hundred clients that send a byte now and then could lock all others out."""

    class Quick(TimedProtocol):
        header_s = 0.6

    with serving(slow, ready=False, http=Quick, body_s=0.6) as client:
        began = time.monotonic()
        nothing = connected(client, b"")
        half = connected(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        body = connected(
            client, b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        )
        again = connected(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea")
        trickle = connected(client, b"GET")
        with suppress(ConnectionError):
            for _ in range(40):
                time.sleep(0.05)
                trickle.sendall(b"x")
        assert everything(trickle) == b""
        assert everything(nothing) == b""
        assert everything(half) == b""
        assert b" 408 " in everything(body).split(b"\r\n")[0]
        assert everything(again).startswith(b"HTTP/1.1 ")
        assert time.monotonic() - began < 10
        assert client.get("/healthz")[0] in (200, 503)


def test_a_large_or_deep_body_is_answered_with_413() -> None:
    """Its sender would find a closed connection, and no word why."""
    with serving(slow, ready=False, limits=BodyLimits(1 << 20, 1_000)) as client:
        status, fault = client.post("/v1/events", b'{"x":[' + b"1," * 5_000 + b"1]}")
        assert (status, "5,002 values, more than 1,000" in fault["error"]) == (413, True)
        status, fault = client.post("/v1/events", b"[" * 200)
        assert (status, "nested 200 deep" in fault["error"]) == (413, True)


def test_the_scheme_of_a_token_is_written_in_any_case() -> None:
    """Clients that write 'bearer' would be refused with the right token."""
    with serving(slow, token="open sesame", ready=False) as client:
        for line, status in (
            (b"bearer open sesame", b"409"), (b"BEARER open sesame", b"409"),
            (b"Bearer  open sesame", b"409"), (b"basic open sesame", b"401"),
            (b"open sesame", b"401"), (b"bearer open", b"401"), (b"", b"401"),
        ):  # fmt: skip
            link = connected(
                client, b"GET /v1/state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Authorization: " + line + b"\r\n\r\n"
            )  # fmt: skip
            assert everything(link).split(b" ")[1] == status, line


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b'"seed":3', b'"seed":-1', "seed is -1; it must lie in 0 to 2^63 - 1"),
        (b'"seed":3', b'"seed":9223372036854775808', "it must lie in 0 to 2^63 - 1"),
        (b'"seed":3', b'"seed":false', "seed: must be a whole number (it is False)"),
        (b'"now_s":1000', b'"now_s":"1000"', "now_s: must be a whole number"),
        (b'"weight":', b'"weight":true,"x":', "weight: must be a number"),
        (b'"release_s":1000', b'"release_s":4611686018427387904', "release_s is"),
        (b'"now_s":1000', b'"now_s":4611686018427387904', "now_s is"),
    ],
)
def test_numbers_that_are_none_are_refused(old: bytes, new: bytes, sentence: str) -> None:
    """A planner could be killed by its seed, and false be a time."""
    text = to_json(replace(SMALL, seed=3))
    assert old in text
    with pytest.raises(BadRequest) as wrong:
        read_body(PlanRequest, text.replace(old, new, 1))
    assert sentence in str(wrong.value)


def test_a_clock_in_milliseconds_is_refused_and_spoils_nothing() -> None:
    """Once it was believed every later event would lie in the past."""
    with serving() as client:
        planned(client, SMALL, "/v1/plan?hold=true&solver=greedy")
        for path, body in (
            ("/v1/replan", {"now_s": 1_700_000_000_000}),
            ("/v1/events", {"events": [{"kind": "worker_draining", "at_s": 1_700_000_000_000,
                                        "worker": SMALL.snapshot.workers[0].id, "until_s": 5}]}),
        ):  # fmt: skip
            status, fault = client.post(path, body)
            assert status == 422
            assert "days after the last event" in fault["error"]
            assert "not milliseconds" in fault["error"]
        assert client.get("/v1/explain?task=t0&now_s=1700000000000")[0] == 422
        assert client.get("/v1/state")[1]["now_s"] == 1_000
        drains = {"kind": "worker_draining", "at_s": 1_001, "until_s": 50_000,
                  "worker": SMALL.snapshot.workers[0].id}  # fmt: skip
        assert client.post("/v1/events", {"events": [drains]})[0] == 200
        opens = {**drains, "at_s": 1_002, "until_s": None}
        assert client.post("/v1/events", {"events": [opens]})[0] == 200


def test_kubernetes_gets_its_nodes_back_whole() -> None:
    """The scheduler would lose labels and uids, and bind to a node that it does not know."""
    with serving() as client:
        planned_nodes = [w.id for w in SMALL.snapshot.workers]
        nodes = [
            {"metadata": {"name": name, "labels": {"a": "b"}, "uid": "u", "annotations": {"x": "y"},
                          "creationTimestamp": None, "managedFields": [{"f": 1}]},
             "spec": {"taints": None}, "status": {"capacity": {"cpu": "4"}}}
            for name in planned_nodes
        ]  # fmt: skip
        planned(client, SMALL, "/v1/plan?hold=true&solver=greedy")
        kind = {"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}
        args = {"Pod": {"metadata": {"name": "no-task"}}, "Nodes": {**kind, "items": nodes}}
        answer = client.post("/k8s/filter", args)[1]
        assert answer["Nodes"] == {**kind, "items": nodes}


@pytest.mark.parametrize(
    ("meta", "task"),
    [
        ({"name": "t"}, "t"),
        ({"name": "t", "namespace": "default"}, "t"),
        ({"name": "t", "namespace": "other"}, "other/t"),
        ({"name": "p", "annotations": {"plancast-task": "t"}}, "t"),
        ({"name": "p", "namespace": "other", "annotations": {"plancast-task": "t"}}, "other/t"),
    ],
)
def test_a_pod_of_another_namespace_is_another_task(meta: dict[str, Any], task: str) -> None:
    """Whoever may make pods in some namespace could take the place of our task."""
    assert read_body(ExtenderArgs, json.dumps({"Pod": {"metadata": meta}}).encode()).task == task


def test_the_document_says_who_may_ask_and_shows_how(client_of_examples: Client) -> None:
    """A generated client would send no token; its user would have no body to begin with."""
    client = client_of_examples
    document = client.get("/openapi.json")[1]
    schemes = document["components"]["securitySchemes"]
    assert [(s["type"], s["scheme"]) for s in schemes.values()] == [("http", "bearer")]
    assert {next(iter(s), None) for s in document["security"]} == {*schemes, None}
    tags = {tag["name"] for tag in document["tags"]}
    assert document["paths"]["/healthz"]["get"]["security"] == []
    for path in ("/v1/plan", "/v1/events", "/v1/replan", "/v1/forecast", "/k8s/filter",
                 "/k8s/prioritize"):  # fmt: skip
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"][
            "example"
        ]
        query = "?hold=true" if path == "/v1/plan" else ""
        status, answer = client.post(path + query, example)
        assert status == (409 if path == "/v1/forecast" else 200), (path, answer)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert set(operation["tags"]) <= tags


@pytest.fixture(name="client_of_examples")
def _client_of_examples() -> Any:
    with serving() as client:
        yield client


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ({"cpu": "500m"}, "cpus"),
        ({"memory": 5}, "mem_mib"),
        ({"cpus": "many"}, "'many'"),
        ({"cpus": True}, "cpus"),
        ({"num_x": "a"}, "'a'"),
        ({"num_x": False}, "False"),
    ],
)
def test_tasks_to_forecast_have_the_fields_of_task_files(
    field: dict[str, Any], sentence: str
) -> None:
    """A misspelt field would be taken for a feature, and the forecast be another job's."""
    from plancast.pipelines.http.bodies import ForecastBody

    good = {"id": "a", "cpus": "500m", "mem_mib": "4Gi", "requested_s": "2h", "num_x": 1.5}
    read = read_body(ForecastBody, json.dumps({"tasks": [good]}).encode()).tasks[0]
    assert (read.cpus, read.mem_mib, read.requested_s) == (0.5, 4096.0, 7200.0)
    with pytest.raises(BadRequest) as wrong:
        read_body(ForecastBody, json.dumps({"tasks": [{**good, **field}]}).encode())
    assert str(wrong.value).startswith("tasks.0")
    assert sentence in str(wrong.value)
