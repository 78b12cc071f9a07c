"""A living master over real sockets: what its users ask and see, and kills after an answer."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from plancast.pipelines.cli import main
from plancast.pipelines.engines import ENGINES
from plancast.pipelines.http.connections import TimedProtocol
from plancast.pipelines.http.master_app import create_master_app
from plancast.pipelines.http.master_metrics import MasterMetrics
from plancast.pipelines.master.client import Client, NotReached, note_of, write_note
from plancast.pipelines.master.desk import Ask, Desk, Receipt
from plancast.pipelines.master.service import Service, Settings
from plancast.pipelines.master.state import State
from plancast.planner.model.domain import BadRequest, Policy, Snapshot, Worker
from plancast.planner.model.messages import PlanRequest
from tests.conftest import ROOT
from tests.pipelines.master.test_living import QUICK
from tests.pipelines.master.test_master import quick_plan

pytestmark = pytest.mark.timeout(1800)
WORKERS = tuple(Worker(f"w{k}", {"cpu": 2000, "mem": 4096}) for k in range(2))
TOKEN = "t0ken"
READY_S = 600.0
"""Longest wait for what must come about: a fault ends a test, not a busy machine."""


@dataclass
class Running:
    """A master that runs in this process."""

    client: Client
    state: Path
    service: Service

    def until(self, ended: int, within_s: float = READY_S) -> dict[str, Any]:
        """Its status once so many tasks have ended."""
        limit = time.monotonic() + within_s
        while True:
            found: dict[str, Any] = self.client.get("/v1/status")
            if sum(found["ended"].values()) >= ended:
                return found
            assert time.monotonic() < limit, found
            time.sleep(0.05)


@contextmanager
def staying(state: Path, speed: float = 60.0, ends_s: int = 5) -> Iterator[Running]:
    """A master before a simulated cluster on a fast clock."""
    request = PlanRequest("m", Snapshot(0, 0, WORKERS), {}, Policy())
    service = Service(State(state), Settings(request, "sim", ENGINES["sim"], QUICK, speed=speed),
                      ask=quick_plan)  # fmt: skip
    servers: list[uvicorn.Server] = []
    served = create_master_app(service, token=TOKEN, ending=lambda: servers[0].should_exit)
    config = uvicorn.Config(served, port=0, log_level="error", lifespan="on", http=TimedProtocol,
                            timeout_graceful_shutdown=ends_s)  # fmt: skip
    server = uvicorn.Server(config)
    servers.append(server)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not (server.started and service.living is not None) and thread.is_alive():
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        write_note(state, url, TOKEN)
        yield Running(Client(url, TOKEN), state, service)
    finally:
        server.should_exit = True
        thread.join()
        if service.failure is not None:
            raise service.failure


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A master that many tests share."""
    with staying(tmp_path_factory.mktemp("stays") / "m.db") as found:
        yield found


def row(name: str, **more: Any) -> dict[str, Any]:
    """A task of a submission."""
    return {"id": name, "cpus": 1, "requested_s": 60, **more}


def test_tasks_are_submitted_planned_and_run(running: Running) -> None:
    """What was acknowledged would never run, or nobody could see when."""
    rows = [row("a"), row("b", after="a"), row("c", after="b")]
    found = running.client.post("/v1/tasks", {"tasks": rows})
    assert (found["tasks"], found["again"]) == (3, False)
    ended = running.until(3)
    assert ended["ended"] == {"completed": 3}
    assert ended["promises"]["kept"] + ended["promises"]["broken"] == 3
    look = running.client.get("/v1/why", task="c")
    assert look["state"] == "completed"
    assert look["start_s"] >= running.client.get("/v1/why", task="b")["end_s"]
    with pytest.raises(BadRequest, match="there is no task 'ghost'"):
        running.client.get("/v1/why", task="ghost")


def test_a_workflow_is_submitted_as_it_is(running: Running, tmp_path: Path) -> None:
    """Its tasks would have to be written down again, or run before their parents."""
    content = json.loads((ROOT / "tests" / "data" / "logs" / "small.wf.json").read_text())
    for task in content["workflow"]["execution"]["tasks"]:
        task["coreCount"] = 1
    (tmp_path / "wf.json").write_text(json.dumps(content))
    arguments = ["submit", str(tmp_path / "wf.json"), "--master", str(running.state), "--json"]
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert not left.value.code
    wait_until(lambda: running.client.get("/v1/why", task="merge")["state"] == "completed")
    looks = {n: running.client.get("/v1/why", task=n)
             for n in ("split_1", "align_ID0000001", "align_ID0000002", "merge")}  # fmt: skip
    assert looks["align_ID0000001"]["start_s"] >= looks["split_1"]["end_s"]
    aligned = max(looks[n]["end_s"] for n in looks if n.startswith("align"))
    assert looks["merge"]["start_s"] >= aligned


def test_head_of_a_stream_of_events_ends(running: Running) -> None:
    """A load balancer's look would hold a connection, and a stream that nobody reads."""
    port = int(running.client.url.rsplit(":", 1)[1])
    link = HTTPConnection("127.0.0.1", port, timeout=READY_S)
    for path in ("/healthz", "/readyz", "/v1/events", "/readyz"):  # one connection for all
        link.request("HEAD", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = link.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
    link.close()


def test_nobody_asks_without_the_token(running: Running) -> None:
    """Tasks are commands: whoever reaches the port would run them as this user."""
    for token in ("", "wrong"):
        stranger = Client(running.client.url, token)
        for path in ("/v1/queue", "/v1/status", "/v1/events", "/metrics"):
            with pytest.raises(BadRequest, match="send the header 'Authorization"):
                stranger.get(path)
        with pytest.raises(BadRequest, match="send the header"):
            stranger.post("/v1/tasks", {"tasks": [row("x")]})
        assert stranger.get("/healthz") == stranger.get("/readyz") == {"status": "ok"}
    assert stat.S_IMODE(note_of(running.state).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"tasks": [row("x", cpus=-1)]}, "tasks.0.cpus"),
        ({"tasks": [row("x", after="nobody")]}, "follows 'nobody', which is no task"),
        ({"tasks": [{"id": "x"}]}, "task x: names no requested_s"),
        ({"tasks": [row("x"), row("x")]}, "task x is in row 1 already"),
        ({"tasks": [row("x")], "array": "5-1"}, "array '5-1': 5-1 counts nothing"),
        ({"tasks": [row("x")], "command": "run {nonsense}"}, "'nonsense' is no field"),
        ({"tasks": []}, "tasks"),
        ({"tasks": [row("x", owner=float("nan"))]}, "tasks.0.owner: nan is not text"),
        ({"tasks": [row("x", after=[float("-inf")])]}, "tasks.0.after: -inf is not text"),
    ],
)  # fmt: skip
def test_a_submission_that_cannot_be_is_refused_in_a_sentence(
    body: Any, sentence: str, running: Running
) -> None:
    """It would be half taken in, or end in a traceback."""
    if "command" in body:
        from plancast.pipelines.master.commands import command_of

        object.__setattr__(running.service.settings, "command_of", command_of)
    with pytest.raises(BadRequest, match=re.escape(sentence)):
        running.client.post("/v1/tasks", body)
    with pytest.raises(BadRequest, match="there is no task 'x'"):
        running.client.get("/v1/why", task="x")


def test_several_watch_what_happens(running: Running) -> None:
    """One watcher would take the news from another, or a late one hear nothing of before."""
    since = running.client.get("/v1/status")["event"]

    def watched(_: int) -> list[tuple[str, str]]:
        found = []
        for event in running.client.events(since):
            if event and event.get("task") in ("s1", "s2"):
                found.append((event["kind"], event["task"]))
            if found.count(("task_finished", "s1")) and found.count(("task_finished", "s2")):
                return found
        return found

    with ThreadPoolExecutor(3) as pool:
        heard = pool.map(watched, range(3))
        running.client.post("/v1/tasks", {"tasks": [row("s1"), row("s2")]})
        first, *rest = list(heard)
    assert all(other == first for other in rest)
    assert {kind for kind, _ in first} == {"task_submitted", "task_started", "task_finished"}


def test_metrics_are_those_of_the_queue(running: Running) -> None:
    """An alert would watch numbers that never move."""
    running.client.post("/v1/tasks", {"tasks": [row("held")], "hold": True})
    until = time.monotonic() + READY_S
    text = ""
    while 'plancast_master_tasks{state="held"} 1.0' not in text and time.monotonic() < until:
        link = running.client._link()
        link.request("GET", "/metrics", headers=running.client._headers())
        text = link.getresponse().read().decode()
        link.close()
    for name in ("promises_kept", "plan_age_seconds", "decision_seconds_bucket", "workers"):
        assert f"plancast_master_{name}" in text
    assert 'plancast_master_tasks{state="held"} 1.0' in text
    running.client.post("/v1/tasks/cancel", {"names": ["held"]})


def test_fuzzing_finds_no_fault(tmp_path: Path) -> None:
    """A strange request would end in a 500, or in an answer that the schema does not know."""
    with staying(tmp_path / "m.db") as running:
        running.client.post("/v1/tasks", {"tasks": [row("align-7"), row("merge")]})
        fuzz(running.client.url, 2)
        assert running.client.get("/readyz") == {"status": "ok"}


def fuzz(url: str, examples: int) -> None:
    """Valid and invalid requests to all paths but the stream."""
    from tests.pipelines.http import fuzz

    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert fuzz.fuzz(url, examples, headers, left_out=("/v1/events",)) == 14


# --------------------------------------------------------------------------- the commands


def run(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


def test_the_commands_ask_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command would say what the master does not do."""
    (tmp_path / "tasks.csv").write_text(
        "id,cpus,requested_s,after\na,2,600,\nb,2,600,a\nc,2,600,\nd,2,600,c\n"
    )
    with staying(tmp_path / "m.db", speed=1.0) as running:
        to = ("--master", str(running.state))
        assert run("submit", str(tmp_path / "tasks.csv"), "--key", "k", *to) == 0
        assert capsys.readouterr().out == "4 tasks submitted\n"
        assert run("submit", str(tmp_path / "tasks.csv"), "--key", "k", *to) == 0
        assert capsys.readouterr().out == "4 tasks submitted before, and not again\n"
        assert run("submit", str(tmp_path / "tasks.csv"), *to) == 2
        assert capsys.readouterr().err == (
            f"plancast: {tmp_path}/tasks.csv: task a is there already; give each task its own id\n"
        )
        wait_until(lambda: running.client.get("/v1/status")["running"] == 2)
        assert run("hold", "b", *to) == run("prioritise", "d", "--weight", "7", *to) == 0
        assert run("drain", "w0", *to) == 0
        wait_until(lambda: running.client.get("/v1/status")["held"] == 1)
        wait_until(lambda: running.client.get("/v1/why", task="d")["weight"] == 7)
        wait_until(lambda: any(w["drained"] for w in running.client.get("/v1/status")["workers"]))
        capsys.readouterr()
        assert run("queue", *to) == 0
        shown = capsys.readouterr().out
        assert "2 workers (1 closed), 2 running, 1 waiting, 1 held" in shown
        assert "it is held until it is released" in shown
        assert re.search(r"^d +waiting +\d\d:\d\d +\d\d:\d\d +\d\d:\d\d +waits for", shown, re.M)
        assert run("why", "d", *to) == 0
        assert re.match(
            r"d: waiting on w\d\nwaits for .*\nstart .*; 50% by ", capsys.readouterr().out
        )
        assert run("undrain", "w0", *to) == run("release", "b", *to) == run("cancel", "b", *to) == 0
        assert run("status", "--json", *to) == 0
        found = json.loads(capsys.readouterr().out.partition("cancelled\n")[2])
        assert found["engine"] == "sim"
        assert run("log", "a", *to) == 0
        assert "a has printed nothing" in capsys.readouterr().err
        assert run("why", "zz", *to) == 2
        assert capsys.readouterr().err == "plancast: there is no task 'zz'\n"
    assert run("status", *to) == 6
    assert "the master does not answer" in capsys.readouterr().err
    assert run("status", "--master", str(tmp_path / "n.db")) == 2
    assert "no master serves it; start `" in capsys.readouterr().err


def wait_until(what: Any, within_s: float = READY_S) -> None:
    """Until something holds."""
    limit = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.05)


def started(home: Path, *options: str) -> subprocess.Popen[str]:
    """``plancast master serve`` in a process of its own, ready."""
    (home / "cluster.yaml").write_text("workers:\n  - {id: w, count: 2, cpus: 2}\n")
    note_of(home / "m.db").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", "from plancast.pipelines.cli import main; main()", "master", "serve",
         "--cluster", str(home / "cluster.yaml"), "--state", str(home / "m.db"), "--json",
         *options], stdout=subprocess.PIPE, stderr=(home / "log").open("a"), text=True,
    )  # fmt: skip
    client = None
    limit = time.monotonic() + READY_S
    while time.monotonic() < limit and process.poll() is None:
        with suppress(NotReached, BadRequest, FileNotFoundError, ValueError):
            client = client or Client.to(str(home / "m.db"))
            client.get("/readyz")
            return process
        time.sleep(0.05)
    raise AssertionError((home / "log").read_text())


def test_a_kill_right_after_the_answer_loses_nothing(tmp_path: Path) -> None:
    """A user would be told that a task will run, and it would be gone with the process."""
    process = started(tmp_path, "--speed", "100")
    client = Client.to(str(tmp_path / "m.db"))
    accepted: list[str] = []

    def flood(part: int) -> None:
        for k in range(1_000):
            name = f"t{part}-{k}"
            try:
                client.post("/v1/tasks", {"tasks": [row(name)]})
            except (NotReached, BadRequest):
                return  # the master is gone: nothing was told of this one
            accepted.append(name)

    threads = [threading.Thread(target=flood, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(accepted) >= 60)
    process.kill()
    for thread in threads:
        thread.join()
    process.wait()
    with staying(tmp_path / "m.db", speed=1_000.0) as running:
        running.until(len(accepted))
        looks = {name: running.client.get("/v1/why", task=name)["state"] for name in accepted}
    assert set(looks.values()) == {"completed"}


def test_the_command_ends_when_it_is_told_to_and_goes_on(tmp_path: Path) -> None:
    """A stop would lose what waits, leave its note, or a fault of the log go unseen."""
    process = started(tmp_path)
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    client = Client.to(str(tmp_path / "m.db"))
    client.post("/v1/tasks", {"tasks": [row("a", requested_s=5_000), row("b", after="a")]})
    wait_until(lambda: client.get("/v1/status")["running"] == 1)
    watcher = subprocess.Popen(
        [sys.executable, "-c", "from plancast.pipelines.cli import main; main()", "watch",
         "--master", str(tmp_path / "m.db")], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(watcher.stdout or ()), daemon=True)
    reader.start()
    weights = iter(range(2, 10_000))

    def watched() -> bool:
        """Whether the watcher sees what is done: it tells of nothing that was before it came."""
        client.post("/v1/tasks/prioritise", {"names": ["b"], "weight": next(weights)})
        return bool(seen)

    wait_until(watched)
    process.send_signal(signal.SIGTERM)
    assert process.wait(READY_S) == 0
    assert watcher.wait(READY_S) == 0
    assert not note_of(tmp_path / "m.db").exists()
    # The first master of a version says in plain words that it compiles kernels.
    written = [line for line in (tmp_path / "log").read_text().splitlines()
            if not line.startswith("compiling kernels")]  # fmt: skip
    lines = [json.loads(line) for line in written]
    assert {"ready", "asked", "planned", "task_started"} <= {line["what"] for line in lines}
    again = started(tmp_path)
    assert again.stdout is not None
    assert json.loads(again.stdout.readline())["batch"] == facts["batch"]
    client = Client.to(str(tmp_path / "m.db"))
    assert client.get("/v1/status")["running"] == 1
    again.send_signal(signal.SIGINT)
    assert again.wait(READY_S) in (0, 130)


def test_a_state_of_a_batch_is_not_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Yesterday's batch would be forgotten under today's tasks."""
    (tmp_path / "cluster.yaml").write_text("workers:\n  - {id: w, cpus: 2}\n")
    (tmp_path / "tasks.csv").write_text("id,requested_s\na,5\n")
    files = ("--cluster", str(tmp_path / "cluster.yaml"), "--state", str(tmp_path / "m.db"))
    assert run("master", "--tasks", str(tmp_path / "tasks.csv"), *files, "--budget", "0.1") == 0
    assert run("master", "serve", *files) == 2
    assert "holds another batch, with other tasks" in capsys.readouterr().err
    assert run("master") == 2
    assert "plancast master serve` stays without tasks" in capsys.readouterr().err


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit of Type=notify would be killed as one that never came up."""
    import socket

    from plancast.pipelines.master.service import notify

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert link.recv(100) == b"READY=1"
    notify("WATCHDOG=1")  # nobody listens any more: no fault
    assert os.environ["NOTIFY_SOCKET"]


DEPLOY = ROOT / "deploy"


def test_alerts_and_dashboard_name_metrics_that_there_are() -> None:
    """An alert on a name that nobody writes would never fire, a panel stay empty."""
    text = MasterMetrics().text().decode()
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = {n for words in asked for n in re.findall(r"plancast_\w+", words)}
    assert (len(rules), len(board["panels"])) == (6, 12)
    written = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    assert {name.removesuffix("_bucket") for name in named} <= written


@pytest.mark.slow
def test_ten_thousand_submissions_in_a_flood_are_all_kept(tmp_path: Path) -> None:
    """Eight clients at once: what was acknowledged could be lost, or the service fall behind."""
    process = started(tmp_path)
    accepted: list[str] = []

    def flood(part: int) -> None:
        client = Client.to(str(tmp_path / "m.db"))
        for k in range(0, 1_250, 50):
            names = [f"t{part}-{k + j}" for j in range(50)]
            client.post("/v1/tasks", {"tasks": [row(name) for name in names]})
            accepted.extend(names)

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(flood, range(8)))
    took_s = time.monotonic() - began
    process.kill()
    process.wait()
    state = State(tmp_path / "m.db")
    kept = state.base.exec_driver_sql("SELECT COUNT(*) FROM tasks").scalar()
    state.close()
    assert len(accepted) == kept == 10_000
    assert took_s <= 10.0


def test_what_is_not_written_down_when_the_server_ends_may_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was answered 500, which no client sends again, and the log had a traceback."""
    faults: list[Exception] = []

    def submit(found: Running) -> None:
        try:
            found.client.post("/v1/tasks", {"tasks": [row("a")]}, "key")
        except Exception as why:
            faults.append(why)

    waits = threading.Event()

    def never(desk: Desk, ask: Ask) -> Future[Receipt]:
        waits.set()
        return Future()

    monkeypatch.setattr(Desk, "put", never)
    with staying(tmp_path / "m.db", ends_s=1) as found:
        asks = threading.Thread(target=submit, args=(found,))
        asks.start()
        waits.wait()
    asks.join()
    assert [type(why) for why in faults] == [NotReached]
    assert str(faults[0]) == "the master is starting or ending; send it again"
