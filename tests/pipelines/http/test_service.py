"""The service over real sockets: plans, what it holds, misbehaving planners, and limits."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.http.bodies import EventsBody
from plancast.pipelines.http.forecasts import ModelForecasts
from plancast.pipelines.http.limits import BodyLimits
from plancast.planner.instances.generate import (
    generate_batch,
    generate_cluster,
)
from plancast.planner.model.domain import (
    DurationEstimate,
    Estimates,
    Policy,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import (
    Budget,
    Event,
    PlanRequest,
    PlanResponse,
    TaskFinished,
    TaskPreempted,
    TaskStarted,
    TaskSubmitted,
    WorkerLost,
    from_json,
    from_mapping,
    to_json,
)
from tests.oracles.misbehaving_planners import die_after_first, hang_after_first, slow
from tests.pipelines.http.service import SMALL, Client, planned, serve, serving


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A service that many tests share."""
    with serving() as found:
        yield found


# --------------------------------------------------------------------------- plans


def test_a_plan_over_http_is_a_valid_response(client: Client) -> None:
    """A master would commit something that the evaluator refuses."""
    response = planned(client, SMALL)
    assert response.plan is not None
    assert not validate_response(SMALL, response)


def test_a_step_budget_gives_the_same_plan_as_the_library(client: Client) -> None:
    """The service planned something else than ``plan`` does."""
    from plancast.planner.planning.plan import plan

    asked = replace(SMALL, budget=Budget(seconds=None, steps=300))
    assert planned(client, asked).plan == plan(asked).plan


def test_no_request_of_a_burst_is_lost(client: Client) -> None:
    """Under load answers would go missing, or to the wrong sender."""
    asked = [
        replace(SMALL, request_id=f"burst-{k}", budget=Budget(seconds=0.01)) for k in range(50)
    ]
    with ThreadPoolExecutor(50) as senders:
        answers = list(senders.map(lambda r: planned(client, r), asked))
    assert [a.request_id for a in answers] == [r.request_id for r in asked]
    assert not any(validate_response(r, a) for r, a in zip(asked, answers, strict=True))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"{}", "request_id: is missing; add it"),
        (re.sub(rb'"level":[0-9.]+', b'"level":7', to_json(SMALL)), "level is 7"),
        (to_json(SMALL).replace(b'"seed"', b'"sede"'), "sede"),
        (to_json(SMALL).replace(b'"seed"', b'"seed":1,"seed"'), "'seed' is there twice in one"),
        (to_json(SMALL).decode().encode("utf-16"), "the body is UTF-16 text; save it as UTF-8"),
    ],
)
def test_a_bad_request_is_told_in_one_sentence(client: Client, body: bytes, sentence: str) -> None:
    """Its sender would not learn what to repair."""
    status, answered = client.post("/v1/plan", body)
    assert status == 422
    assert sentence in answered["error"]
    assert "\n" not in answered["error"]


def test_a_byte_order_mark_is_no_fault(client: Client) -> None:
    """What a tool of Windows sends was 'not JSON'."""
    status, answered = client.post("/v1/plan", codecs.BOM_UTF8 + to_json(SMALL))
    assert (status, answered["request_id"]) == (200, SMALL.request_id)


def test_what_is_not_there_is_named(client: Client) -> None:
    """The words Not Found would leave its sender to guess whether path or task is meant."""
    for method, path, status, sentence in (
        ("GET", "/v1/plans", 404, "there is no path /v1/plans; /openapi.json lists all"),
        ("POST", "/v1/plan/", 404, "there is no path /v1/plan/; /openapi.json lists all"),
        ("GET", "/v1/" + "x" * 9_000, 404, "there is no path /v1/xxx"),
        ("PUT", "/v1/plan", 405, "/v1/plan takes POST, not PUT"),
        ("GET", "/v1/eta?samples=5&samples=9", 422, "query.samples: is there twice; remove one"),
    ):
        found, answered = client.send(method, path)
        assert (found, sentence) == (status, answered["error"][: len(sentence)])
        assert len(answered["error"]) < 200


def test_head_is_answered_as_get_without_a_body(client: Client) -> None:
    """A load balancer that asks by HEAD would take a sound service out of its rotation."""
    for path, status in (("/healthz", 200), ("/metrics", 200), ("/v1/explain", 422), ("/x", 404)):
        asked, gone = client.send_whole("HEAD", path), client.send_whole("GET", path)
        assert (asked.status, asked.body, gone.status) == (status, b"", status)
        assert asked.headers["content-type"] == gone.headers["content-type"]
    refused = client.send_whole("POST", "/healthz")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert client.send_whole("HEAD", "/v1/plan").headers["allow"] == "POST"


# --------------------------------------------------------------------------- what is held


def test_a_misspelt_parameter_is_refused() -> None:
    """Who writes ``?holds=true`` would believe the cluster held."""
    with serving() as client:  # nobody else's plan is held there
        said = "is no parameter of this path"
        status, answer = client.post("/v1/plan?holds=true", to_json(SMALL))
        assert (status, answer["error"]) == (422, f"query.holds: {said}; did you mean 'hold'?")
        status, answer = client.get("/v1/state?now_s=1")
        assert (status, answer["error"]) == (422, f"query.now_s: {said}; it takes none")
        assert client.get("/v1/state")[0] == 409
        assert client.get("/healthz?at=x")[0] == 200


def test_events_replans_and_explanations_follow_the_state() -> None:
    """The master's loop would lose track of its cluster."""
    with serving() as client:
        assert client.get("/v1/state")[0] == 409
        assert client.post("/v1/replan", {})[0] == 409
        first = planned(client, SMALL, "/v1/plan?hold=true&solver=greedy")
        assert first.plan is not None
        lead = next(a for a in first.plan.assignments if a.start_s == 1_000)
        version = SMALL.snapshot.version
        started = TaskStarted(1_000, lead.task, lead.workers)
        result = {"events": [json.loads(to_json(started))], "expected_version": version}
        status, standing = client.post("/v1/events", result)
        assert (status, standing["version"], standing["running"]) == (200, version + 1, 1)
        assert client.post("/v1/events", result)[0] == 409, "the version expected has passed"
        assert client.get(f"/v1/explain?task={lead.task}")[1]["state"] == "running"

        new = Task("newcomer", {"cpu": 100}, release_s=1_005)
        estimate = json.loads(to_json(DurationEstimate.certain(60, "given")))
        happened = [TaskSubmitted(1_005, new), TaskFinished(1_010, lead.task)]
        body = {
            "events": [json.loads(to_json(e)) for e in happened],
            "estimates": {"newcomer": {"*": estimate}},
        }
        assert client.post("/v1/events", body)[0] == 200
        found = client.get("/v1/explain?task=newcomer")[1]
        assert found["state"] == "unplanned"
        assert "replan" in found["why"]

        status, again = client.post("/v1/replan", {"budget": {"seconds": 0.2, "steps": None}})
        assert status == 200
        tasks = {a["task"] for a in again["plan"]["assignments"]}
        assert "newcomer" in tasks
        assert lead.task not in tasks, "it has ended"
        assert again["solver"] != "kept"
        assert client.get("/v1/state")[1]["choice"] == "repair"
        assert "newcomer" in client.get("/v1/state")[1]["reason"]
        assert client.get("/v1/explain?task=newcomer")[1]["state"] == "planned"
        assert client.get("/v1/explain?task=nobody")[0] == 404

        status, fault = client.post(
            "/v1/events", {"events": [json.loads(to_json(TaskFinished(1_020, "newcomer")))]}
        )
        assert status == 422
        assert fault["error"].startswith("events.0: ")
        old = replace(SMALL, request_id="older")
        assert client.post("/v1/plan?hold=true", to_json(old))[0] == 409, "an older snapshot"
        text = client.get("/metrics")[1]
        assert 'plancast_events_total{kind="task_submitted"} 1.0' in text
        assert 'plancast_requests_total{path="/v1/replan",status="200"} 1.0' in text


def test_a_replan_keeps_repairs_or_plans_anew(client: Client) -> None:
    """A plan that holds could be thrown over, one that does not be kept, a solver not be used."""
    first = planned(client, newer(client, SMALL), "/v1/plan?hold=true")
    kept = client.send_whole("POST", "/v1/replan", {"now_s": 1_000})
    assert kept.headers["Plancast-Choice"] == "keep"
    assert first.plan is not None
    response = from_json(PlanResponse, kept.body)
    assert response.plan == first.plan
    assert response.solver == "kept"
    held = newer(client, replace(SMALL, incumbent=first.plan), by=0)
    assert not validate_response(held, response)

    lost = next(a.workers[0] for a in first.plan.assignments if a.start_s > 1_000)
    result = {"events": [json.loads(to_json(WorkerLost(1_000, lost)))]}
    assert client.post("/v1/events", result)[0] == 200
    steps = {"budget": {"seconds": None, "steps": 20}}
    repaired = client.send_whole("POST", "/v1/replan", steps)
    assert repaired.headers["Plancast-Choice"] == "repair"
    found = from_json(PlanResponse, repaired.body)
    assert found.plan is not None
    assert all(lost not in a.workers for a in found.plan.assignments)
    assert lost in client.get("/v1/state")[1]["reason"]
    stays = [a for a in first.plan.assignments if lost not in a.workers]
    assert sum(found.plan.by_task[a.task].workers == a.workers for a in stays) > len(stays) / 2

    anew = client.send_whole("POST", "/v1/replan?solver=greedy", {})
    assert anew.headers["Plancast-Choice"] == "replan"
    # A greedy plan that is costlier than the one in force does not replace it.
    assert from_json(PlanResponse, anew.body).solver in ("greedy", "incumbent")
    assert "greedy was asked for" in client.get("/v1/state")[1]["reason"]
    assert 'plancast_replans_total{choice="keep"} ' in client.get("/metrics")[1]


def test_what_a_task_waits_for_is_told_with_how_sure_that_is(client: Client) -> None:
    """A user could be told when the plan was made, and not when the task will start by now."""
    machine = Worker("v1", {"cpu": 8000, "gpu": 2000}, labels=frozenset({"V100"}))
    holder = Task("T17", {"cpu": 1000, "gpu": 2000})
    task = Task("T1", {"cpu": 1000, "gpu": 2000}, release_s=36_000, requires=("V100",))
    levels = (0.5, 0.9)
    estimates = {
        "T17": {"*": DurationEstimate(levels, (14_700, 15_600))},
        "T1": {"*": DurationEstimate(levels, (60, 90))},
    }
    snapshot = Snapshot(1, 36_000, (machine,), (task,), (Running(holder, ("v1",), 36_000),))
    request = newer(client, PlanRequest("r", snapshot, estimates, Policy(level=0.5)))
    planned(client, request, "/v1/plan?hold=true&solver=greedy")
    starts = client.get("/v1/eta?samples=20")[1]
    waiting = {job["id"]: job for job in starts["jobs"]}
    assert waiting["T1"]["reason"]
    assert client.get("/v1/eta?samples=1")[0] == 422
    assert client.get("/v1/eta?dispatcher=conservative")[0] == 200
    assert client.get("/v1/eta?dispatcher=sjf")[0] == 422
    found = client.get("/v1/explain?task=T1")[1]
    assert found["why"].startswith("waits for 2 gpus on a V100 worker; planned 14:05 when T17 ")
    assert found["why"].endswith("90% by 14:20")
    assert (found["start_s"], found["end_s"], found["until"]) == (50_700, 50_760, "T17 ends")
    assert 51_500 <= found["sure_s"] <= 51_600
    assert 50_400 <= found["half_s"] <= 51_000
    # An hour past its median T17 is expected to run on, and T1 to wait for that.
    later = client.get("/v1/explain?task=T1&now_s=50800")[1]
    assert later["start_s"] > 50_800
    assert client.get("/v1/explain?task=T1&now_s=7")[0] == 422
    assert client.get("/v1/explain?task=T17")[1]["state"] == "running"


def test_what_a_plan_stops_waits_until_it_has_stopped(client: Client) -> None:
    """A task could be planned twice, or be forgotten between the order to stop and its end."""
    workers = (Worker("w0", {"cpu": 1000}), Worker("w1", {"cpu": 1000}))
    loose = Task("loose", {"cpu": 1000}, preemptible=True, weight=0.01)
    urgent = Task("urgent", {"cpu": 1000}, weight=100.0, deadline_s=1_300)
    estimates = {name: {"*": DurationEstimate.certain(200)} for name in ("loose", "urgent")}
    running = (Running(loose, ("w0",), 990), Running(urgent, ("w1",), 995))
    request = PlanRequest("r", Snapshot(1, 1_000, workers, (), running), estimates)
    steps = {"budget": {"seconds": None, "steps": 20}}
    planned(client, newer(client, request), "/v1/plan?hold=true")
    tell(client, WorkerLost(1_000, "w1"))
    found = client.post("/v1/replan", steps)[1]
    assert found["plan"]["preempted"] == ["loose"]
    assert client.get("/v1/state")[1]["stopping"] == 1
    assert client.get("/v1/explain?task=loose")[1]["state"] == "stopping"
    tell(client, TaskPreempted(1_002, "loose"), TaskStarted(1_002, "urgent", ("w0",)))
    kept = client.post("/v1/replan", steps)[1]
    assert kept["solver"] == "kept"
    assert [a["task"] for a in kept["plan"]["assignments"]] == ["loose"]
    assert client.get("/v1/explain?task=loose")[1]["until"] == "urgent ends"


def newer(client: Client, request: PlanRequest, by: int = 1) -> PlanRequest:
    """The request with a version after the one that is held."""
    status, held = client.get("/v1/state")
    version = held["version"] + by if status == 200 else request.snapshot.version
    return replace(request, snapshot=replace(request.snapshot, version=version))


def tell(client: Client, *happened: Event) -> None:
    """Send events, which must be taken."""
    found = {"events": [json.loads(to_json(e)) for e in happened]}
    assert client.post("/v1/events", found)[0] == 200


def test_events_are_folded_in_whole_or_not_at_all(client: Client) -> None:
    """Half a batch of events would leave a state that nobody told."""
    planned(client, newer(client, SMALL), "/v1/plan?hold=true&solver=greedy")
    before = client.get("/v1/state")[1]
    worker = SMALL.snapshot.workers[0].id
    happened = [WorkerLost(1_001, worker), WorkerLost(1_002, worker)]
    status, fault = client.post(
        "/v1/events", {"events": [json.loads(to_json(e)) for e in happened]}
    )
    assert status == 422
    assert "events.1" in fault["error"]
    assert client.get("/v1/state")[1] == before


def test_a_pod_passes_only_where_and_when_it_is_planned() -> None:
    """Kubernetes would put a pod onto what is reserved for another."""
    now = [1_000.0]
    with serving(clock=lambda: now[0]) as client:
        pod = {"pod": {"metadata": {"name": "pod-x"}}, "nodenames": ["w0", "w1"]}
        assert "no cluster is held" in client.post("/k8s/filter", pod)[1]["Error"]
        response = planned(client, SMALL, "/v1/plan?hold=true&solver=greedy")
        assert response.plan is not None
        nodes = [w.id for w in SMALL.snapshot.workers]
        later = max(response.plan.assignments, key=lambda a: a.start_s)
        assert later.start_s > 1_000
        args = {
            "Pod": {"metadata": {"name": "any", "annotations": {"plancast-task": later.task}}},
            "Nodes": {"items": [{"metadata": {"name": n}, "spec": {}} for n in nodes]},
        }
        early = client.post("/k8s/filter", args)[1]
        assert early["Nodes"]["items"] == []
        assert set(early["FailedNodes"]) == set(nodes)
        assert "1970-01-01T" in early["FailedNodes"][nodes[0]]
        now[0] = later.start_s
        due = client.post("/k8s/filter", args)[1]
        assert [n["metadata"]["name"] for n in due["Nodes"]["items"]] == list(later.workers)
        scores = {s["Host"]: s["Score"] for s in client.post("/k8s/prioritize", args)[1]}
        assert scores == {n: 10 * (n in later.workers) for n in nodes}
        assert client.post("/k8s/filter", pod)[1]["NodeNames"] == ["w0", "w1"], "not ours"


# --------------------------------------------------------------------------- misbehaviour


@pytest.mark.parametrize(
    ("work", "sentence"), [(hang_after_first, "no answer within"), (die_after_first, "died")]
)
def test_a_planner_that_is_lost_is_told_and_replaced(
    work: Callable[[Connection], None], sentence: str
) -> None:
    """One bad request would take the service down with it."""
    with serving(work, grace_s=0.5) as client:
        asked = to_json(replace(SMALL, budget=Budget(seconds=0.0)))
        status, fault = client.post("/v1/plan", asked)
        assert status == 503
        assert sentence in fault["error"]
        # The one in its place has its own warm-up behind it, and is lost over this again.
        assert client.post("/v1/plan", asked)[0] == 503
        assert "plancast_planners_lost 2.0" in client.get("/metrics")[1]


def test_a_full_queue_says_come_back_later() -> None:
    """Requests would pile up without bound."""
    with serving(slow, queue=1) as client:
        asked, path = to_json(replace(SMALL, budget=Budget(seconds=1.0))), "/v1/plan?solver=greedy"
        with ThreadPoolExecutor(6) as senders:
            statuses = sorted(
                s for s, _ in senders.map(lambda _: client.post(path, asked), range(6))
            )
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 2, "one is planned and one waits"


def test_a_plan_of_an_older_version_is_not_put_in_force() -> None:
    """The cluster changed while it was planned, and the master would start what is gone."""
    with serving(slow) as client:
        planned(client, SMALL, "/v1/plan?hold=true")
        with ThreadPoolExecutor(1) as sender:
            replanned = sender.submit(client.post, "/v1/replan", {})
            time.sleep(0.2)
            lost = WorkerLost(1_001, SMALL.snapshot.workers[0].id)
            assert client.post("/v1/events", {"events": [json.loads(to_json(lost))]})[0] == 200
            status, fault = replanned.result()
        assert status == 409
        assert "ask again" in fault["error"]
        assert client.get("/v1/state")[1]["plan_version"] == SMALL.snapshot.version


def test_without_its_token_nobody_is_let_in() -> None:
    """Whoever reaches the port could plan the cluster."""
    with serving(slow, token="open sesame", ready=False) as client:
        stranger = Client(client.port)
        assert stranger.get("/v1/state")[0] == 401
        assert stranger.get("/openapi.json")[0] == 401
        assert Client(client.port, "open barley").get("/v1/state")[0] == 401
        assert client.get("/v1/state")[0] == 409
        assert stranger.get("/healthz")[0] in (200, 503)


def test_a_body_past_the_limit_is_refused() -> None:
    """One sender could fill the memory."""
    with serving(slow, limits=BodyLimits(1_000), ready=False) as client:
        assert client.post("/v1/events", b" " * 1_001)[0] == 413
        chunks = iter([b" " * 600, b" " * 600])
        link = HTTPConnection("127.0.0.1", client.port, timeout=30)
        link.request("POST", "/v1/events", chunks)  # in chunks, as it has no length
        answer = link.getresponse()
        sentence = json.loads(answer.read())["error"]
        assert (answer.status, sentence) == (
            413,
            "the body is longer than 1000 bytes; raise --max-body-mib",
        )
        link.close()
        assert client.post("/v1/events", b" " * 999)[0] == 422


def test_a_packed_body_is_refused() -> None:
    """Small as it is sent, it could unpack to what fills the memory; or it would be bad JSON."""
    with serving(slow, ready=False) as client:
        for coding, status in (("gzip", 415), ("BR", 415), ("identity", 422)):
            link = HTTPConnection("127.0.0.1", client.port, timeout=30)
            head = {"Content-Encoding": coding}
            link.request("POST", "/v1/events", gzip.compress(b"{}"), head)
            answer = link.getresponse()
            assert answer.status == status
            assert ("without Content-Encoding" in answer.read().decode()) == (status == 415)
            link.close()


def test_forecasts_are_estimates_of_a_request(forecasts: ModelForecasts) -> None:
    """What one path answers could not be put into what another takes."""
    with serving(ready=False, forecast=forecasts) as client:
        tasks = [{"id": "a", "user": "user-1", "requested_s": 600}, {"id": "b"}]
        status, found = client.post("/v1/forecast", {"tasks": tasks})
        assert status == 200
        estimates = from_mapping(Estimates, found["estimates"])
        assert set(estimates) == {"a", "b"}
        assert all(e["*"].levels == (0.5, 0.9) for e in estimates.values())
        assert estimates["a"]["*"].at(0.9) <= 600, "the kill limit caps it"
        modes = [{"id": "m", "mode": "one"}, {"id": "m", "mode": "four", "cpus": 4}]
        status, found = client.post("/v1/forecast", {"tasks": modes})
        assert status == 200
        assert found["estimates"]["m"].keys() == {"one", "four"}
        assert EventsBody.model_validate({"events": [], **found}).estimates["m"].keys() == {
            "one",
            "four",
        }
        twice = client.post("/v1/forecast", {"tasks": [{"id": "a"}, {"id": "a"}]})
        assert twice[0] == 422
        assert "must be unique" in twice[1]["error"]
    with serving(slow, ready=False) as client:
        assert client.post("/v1/forecast", {"tasks": tasks})[0] == 409


@pytest.mark.slow
def test_ten_thousand_tasks_are_planned_within_their_budget() -> None:
    """A large cluster's master would wait for more than it asked for."""
    with serving() as client:
        asked = replace(generate_batch(10_000, generate_cluster(1_000)), budget=Budget(seconds=5.0))
        began = time.monotonic()
        response = planned(client, asked)
        assert time.monotonic() - began <= 6.0
        assert not validate_response(asked, response)


# --------------------------------------------------------------------------- the command


def test_the_command_serves_until_it_is_told_to_stop() -> None:
    """What is under way when the service is stopped would be lost.

    Nor does it fill its log with tracebacks of clients that leave.
    """
    process = serve("--port", "0", "--json")
    assert process.stdout is not None
    client = Client(int(json.loads(process.stdout.readline())["url"].rsplit(":", 1)[1]))
    while client.get("/healthz")[0] != 200:
        time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", client.port)) as leaving:
        leaving.sendall(b"POST /v1/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    with ThreadPoolExecutor(1) as sender:
        asked = replace(SMALL, budget=Budget(seconds=1.5))
        response = sender.submit(planned, client, asked)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert not validate_response(asked, response.result())
    assert process.wait(30) == -signal.SIGTERM, "ended by the signal, once all was answered"
    assert process.communicate()[1] == ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--host", "0.0.0.0"], "set a bearer token"),
        (["--model", "nowhere"], "nowhere"),
        (["--token-file", "nothing.txt"], "nothing.txt"),
        (
            ["--port", "{taken}"],
            "host 127.0.0.1, port {taken}: Address already in use",
        ),
        (
            ["--host", "localhost.invalid", "--token-file", "{token}"],
            "host localhost.invalid, port",
        ),
    ],
)
def test_what_cannot_be_served_is_told(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator would find a traceback, or a port open to everybody."""
    (tmp_path / "token").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = {"taken": other.getsockname()[1], "token": tmp_path / "token"}
        with pytest.raises(SystemExit) as left:
            main(["serve", *(part.format(**words) for part in options)])
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (2, "")
    assert sentence.format(**words) in err
    assert err.count("\n") == 1
