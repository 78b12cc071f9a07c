"""Real Dask processes: what runs is what was ordered, and a kill -9 loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from plancast.pipelines.engines import dask, dask_plugin
from plancast.pipelines.engines.base import (
    Ended,
    EnvironmentFailed,
    Order,
    Started,
    WorkerDown,
    WorkerUp,
)
from plancast.pipelines.engines.dask import (
    NOTE,
    SCHEDULER_NAME,
    DaskEngine,
    end_left_over,
    local_cluster,
    spawn_worker,
    started,
    wait_for,
)
from plancast.pipelines.engines.dask_keeper import write_note
from plancast.pipelines.engines.patient import PatientEngine
from plancast.pipelines.engines.processes import ProcessId
from plancast.pipelines.engines.shift import begun_at
from plancast.pipelines.master.batch import carry_out
from plancast.pipelines.master.commands import command_of
from plancast.pipelines.master.loop import Master, Options
from plancast.planner.model.domain import DurationEstimate, Outcome, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.controller import ControlPolicy

pytestmark = [pytest.mark.waits, pytest.mark.timeout(1_800)]
TWO = (Worker("w0", {"cpu": 2000}), Worker("w1", {"cpu": 2000}))
QUICK = ControlPolicy(repair_budget=Budget(None, 20), replan_budget=Budget(None, 20))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskEngine]:
    """A scheduler and two workers, which every test leaves as it found them."""
    address, processes, key = local_cluster(TWO, tmp_path_factory.mktemp("dask"))
    found = DaskEngine(address, TWO, processes, key=key, batch="tests")
    wait_for(found, 2)
    yield found
    found.stop()


def heard(engine: DaskEngine, until: int, seconds: float = 300.0) -> list[object]:
    """Messages, until there are so many."""
    found: list[object] = []
    stop = time.monotonic() + seconds
    while len(found) < until and time.monotonic() < stop:
        found += engine.events(0.2)
    return found


def ends_of(engine: DaskEngine, count: int) -> dict[str, Ended]:
    """How so many orders end, by task."""
    ends: list[Ended] = []
    while len(ends) < count:
        ends += [t for t in heard(engine, 1) if isinstance(t, Ended)]
    return {end.key[0]: end for end in ends}


def one(key: str, command: str, worker: str = "w0", limit_s: int | None = None) -> Order:
    """An order of one core."""
    return Order((key, 1), (worker,), {"cpu": 1000}, limit_s, ("/bin/sh", "-c", command))


def test_every_way_to_end_is_told(engine: DaskEngine, tmp_path: Path) -> None:
    """A failure could be told as an end, a limit not be kept, an order run twice."""
    count = tmp_path / "count"
    good = one("good", f"echo x >> {count}")
    engine.start(good)
    engine.start(good)
    engine.start(one("a-bad-one", "exit 3"))
    engine.start(one("long", "sleep 60", "w1", limit_s=1))
    found = heard(engine, 6)
    ends = {t.key[0]: t.outcome for t in found if isinstance(t, Ended)}
    assert ends == {
        "good": Outcome.COMPLETED, "a-bad-one": Outcome.FAILED, "long": Outcome.TIMEOUT,
    }  # fmt: skip
    assert {t.key[0] for t in found if isinstance(t, Started)} <= set(ends)
    engine.start(good)  # what has ended is not run again either
    engine.events(0.5)
    assert count.read_text() == "x\n"
    assert engine.status([("good", 1)])["good", 1].state == "ended"
    assert engine.status([("never", 1)])["never", 1].state == "unknown"


def test_no_worker_is_lost_when_the_wall_clock_steps(engine: DaskEngine, tmp_path: Path) -> None:
    """On a laptop that was closed for an hour all that ran would be lost, and run once more."""

    async def an_hour_later(dask_scheduler: Any) -> None:
        import distributed.scheduler as module

        usual = module.time
        module.time = lambda: usual() + 3600.0
        try:
            if dask_scheduler.worker_ttl:
                await dask_scheduler.check_worker_ttl()
        finally:
            module.time = usual

    gate = tmp_path / "gate"
    engine.start(one("over a step", f"while [ ! -e {gate} ]; do sleep 0.05; done"))
    assert isinstance(heard(engine, 1)[0], Started)
    engine.client.run_on_scheduler(an_hour_later)
    assert engine.status([("over a step", 1)])["over a step", 1].state == "running"
    gate.touch()
    assert ends_of(engine, 1)["over a step"].outcome is Outcome.COMPLETED
    assert len(engine.workers()) == 2


def test_resources_gangs_and_cancelling(engine: DaskEngine) -> None:
    """Workers could be overloaded, half of a gang be taken for all, a run go on unwanted."""
    engine.start(Order(("gang", 1), ("w0", "w1"), {"cpu": 2000}, None, ("sleep", "30")))
    assert isinstance(heard(engine, 1)[0], Started)
    engine.start(one("waits", "true"))
    time.sleep(1.1)
    assert not [t for t in engine.events(0.0) if isinstance(t, Ended)]
    engine.cancel(("gang", 1))
    ends = ends_of(engine, 2)
    assert ends["gang"].outcome is Outcome.CANCELLED
    assert ends["waits"].outcome is Outcome.COMPLETED
    assert ends["waits"].start_s >= ends["gang"].start_s + 1


def test_a_client_that_dies_as_it_hands_a_run_in_takes_nothing_back(
    engine: DaskEngine, tmp_path: Path
) -> None:
    """It would be called off while a worker runs it: a task be lost for good."""
    books = json.loads((home(engine) / "scheduler.json").read_text())
    dies = DaskEngine(books["address"], TWO, key=engine.key, batch="tests")
    send = dies.client._send_to_scheduler
    dies.client._send_to_scheduler = lambda message: (
        send(message) if message["op"] == "update-graph" else None
    )
    out, gate = tmp_path / "out", tmp_path / "gate"
    order = one("left", f"while [ ! -e {gate} ]; do sleep 0.05; done; echo done > {out}")
    dies.start(order)
    while dies.status([order.key])[order.key].state != "running":
        time.sleep(0.05)
    dies.close()
    while len(engine.client.run_on_scheduler(clients)) > 2:  # one is nobody's
        time.sleep(0.05)
    gate.touch()
    while engine.status([order.key])[order.key].state != "ended":
        time.sleep(0.05)
    assert engine.status([order.key])[order.key].outcome is Outcome.COMPLETED
    assert out.read_text() == "done\n"
    engine.events(0.0)


def clients(dask_scheduler: Any = None) -> list[str]:
    """Whom the scheduler knows; runs there."""
    return list(dask_scheduler.clients)


def test_the_end_of_a_gang_is_told_once(engine: DaskEngine) -> None:
    """The books tell it of every piece: who counts ends would take it for another order's."""
    gang = Order(("pair", 1), ("w0", "w1"), {"cpu": 1000}, None, ("true",))
    engine.start(gang)
    while engine.status([gang.key])[gang.key].state != "ended":
        time.sleep(0.05)
    assert [type(event) for event in engine.events(0.0)] == [Ended]
    assert engine.events(0.0) == []


def test_a_piece_sees_the_devices_of_its_order_alone(engine: DaskEngine, tmp_path: Path) -> None:
    """Every task would run on the first GPU of its machine, beside all others."""
    words = ("/bin/sh", "-c", "echo $CUDA_DEVICE_ORDER $CUDA_VISIBLE_DEVICES")
    demand, output = {"cpu": 1000}, str(tmp_path / "out")
    engine.start(Order(("each", 1), ("w0", "w1"), demand, None, words, {}, output, ((0, 2), (1,))))
    engine.start(Order(("plain", 1), ("w0",), demand, None, words, {}, str(tmp_path / "plain")))
    ends = ends_of(engine, 2)
    assert [end.outcome for end in ends.values()] == [Outcome.COMPLETED] * 2
    assert (tmp_path / "out.0").read_text() == "PCI_BUS_ID 0,2\n"
    assert (tmp_path / "out.1").read_text() == "PCI_BUS_ID 1\n"
    usual = (os.environ.get(k, "") for k in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES"))
    assert (tmp_path / "plain").read_text().split() == " ".join(usual).split()


def test_a_killed_worker_takes_its_runs_with_it(engine: DaskEngine, tmp_path: Path) -> None:
    """A task could go on beside its second run, or be run again by Dask itself."""
    alive = tmp_path / "alive"
    engine.start(one("task", f"while true; do date > {alive}; sleep 0.1; done"))
    heard(engine, 1)
    while not alive.exists():
        time.sleep(0.05)
    engine.processes["w0"].kill()
    found = heard(engine, 1)
    assert found == [WorkerDown("w0", found[0].at_s)]  # type: ignore[attr-defined]
    assert engine.status([("task", 1)])["task", 1].state == "lost"
    time.sleep(0.5)
    alive.unlink()
    engine.processes["w0"] = spawn_worker(engine.client.scheduler.address, TWO[0], home(engine))
    assert isinstance(heard(engine, 1)[0], WorkerUp)
    time.sleep(0.7)
    assert not alive.exists()


DIES_EARLY = """
import os, signal, subprocess, sys
from plancast.pipelines.engines import dask_plugin

started = subprocess.Popen

class Dies(started):
    def __init__(self, argv, *args, **kwargs):
        super().__init__(argv, *args, **kwargs)
        if argv[0] == "sleep":
            print(self.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

subprocess.Popen = Dies
dask_plugin.run_command("run", ("sleep", "600"), {}, None, "")
"""


def is_over(pid: int, seconds: float = 300.0) -> bool:
    """Whether a process ends within so long; one that nobody has asked after yet has ended."""
    try:
        process = psutil.Process(pid)
        until = time.monotonic() + seconds
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        return True
    return time.monotonic() < until


def test_a_worker_that_dies_as_a_run_begins_takes_it_with_it() -> None:
    """It would go on, watched by nobody, beside its second run."""
    worker = subprocess.run([sys.executable, "-c", DIES_EARLY], stdout=subprocess.PIPE, text=True)
    assert worker.returncode == -signal.SIGKILL
    assert is_over(int(worker.stdout))


def test_what_a_run_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """One that ends its own process group would end its watcher, and leave the rest for good."""
    left = tmp_path / "left"
    words = f"trap '' TERM; sleep 600 & echo $! > {left}; kill 0"
    dask_plugin.run_command("leaves", ("/bin/sh", "-c", words), {}, None, "")
    assert is_over(int(left.read_text()))


def test_no_run_begins_before_its_watcher_ignores_signals() -> None:
    """One that signals its own group at once would be rid of it; seen once in a busy hour."""
    for _ in range(5):
        group, watch = dask_plugin._watcher()
        os.killpg(group, signal.SIGTERM)
        time.sleep(0.02)
        assert psutil.Process(group).status() != psutil.STATUS_ZOMBIE
        os.close(watch)
        assert is_over(group)


def test_what_is_less_urgent_is_stopped_and_runs_again(engine: DaskEngine, tmp_path: Path) -> None:
    """A plan could count on a stop that leaves the process alive beside what takes its room."""
    tasks = (
        Task("loose", {"cpu": 2000}, weight=0.01, preemptible=True),
        Task("urgent", {"cpu": 2000}, weight=100.0, deadline_s=3),
    )
    estimates = {t.id: {"*": DurationEstimate.certain(60)} for t in tasks}
    request = begun_at(PlanRequest("r", Snapshot(0, 0, TWO, tasks), estimates), engine.now_s())
    note = tmp_path / "note"
    lost: list[str] = []

    def lose(master: Master) -> None:
        """Kill the worker under the urgent task once both run."""
        running = master.mind.snapshot.running_by_id
        rows = note.read_text().split() if note.exists() else []
        if not lost and len(running) == 2 and len(rows) == 2:
            lost.append(running["urgent"].workers[0])
            engine.processes[lost[0]].kill()

    # What begins first takes long, what begins again does not.
    script = (
        'id=$PLANCAST_ID; n=$(grep -c "^$id\\$" @); echo $id >> @; [ $n != 0 ] || sleep 30; '
        "echo end-$id >> @"
    )
    found = carry_out(
        request, engine, tmp_path / "m.db", control=QUICK, on_step=lose,
        command=command_of(script.replace("@", str(note)), shell=True),
        options=Options(patience_s=5),
    )  # fmt: skip
    machine = next(w for w in TWO if w.id == lost[0])
    address = engine.client.scheduler.address
    engine.processes[lost[0]] = spawn_worker(address, machine, home(engine))
    wait_for(engine, 2)
    assert (found["completed"], found["runs_preempted"]) == (2, 1)
    assert found["runs_lost_with_their_worker"] == 1
    # Each began twice and ended once, the urgent one first.
    rows = note.read_text().split()
    assert sorted(rows[:2]) == ["loose", "urgent"]
    assert rows[2:] == ["urgent", "end-urgent", "loose", "end-loose"]


def home(engine: DaskEngine) -> Path:
    """The folder of a cluster."""
    return engine.key.key.parent


def tasks_of(count: int, folder: Path, seconds: float) -> tuple[PlanRequest, str]:
    """A batch of short commands, each of which writes down that it has ended."""
    tasks = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(count))
    estimates = {t.id: {"*": DurationEstimate.certain(max(1, round(seconds)))} for t in tasks}
    request = PlanRequest("dask", Snapshot(0, 0, TWO, tasks), estimates)
    return request, f"sleep {seconds} && echo $PLANCAST_ID >> {folder}/done"


def test_a_batch_survives_the_kill_of_a_worker(tmp_path: Path) -> None:
    """The demo at a small size: a worker is killed half-way, and all tasks end once.

    Whoever is not among the first four waits for a gate that is opened after the kill, so that
    no run can end between its last command and the kill, untold.
    """
    request, command = tasks_of(12, tmp_path, 0.5)
    gate = tmp_path / "gate"
    free = " || ".join(f"mkdir {tmp_path}/first-{k}" for k in range(4))
    command = f"{free} || while [ ! -e {gate} ]; do sleep 0.05; done; {command}"
    # As a master leaves it that is killed while its cluster starts: nobody was told of it.
    _, orphan, _ = local_cluster((), tmp_path / "dask")
    engine, begun, _ = started(request, [], tmp_path / "dask", "tests")
    assert not orphan[SCHEDULER_NAME].alive
    assert engine.processes[SCHEDULER_NAME].alive
    seen: set[str] = set()

    def lose(master: Master) -> None:
        """Kill w1 once the first four have ended and four others run: then nothing is idle."""
        running = set(master.mind.snapshot.running_by_id)
        seen.update(running)
        if not gate.exists() and len(running) == 4 and len(seen) == 8:
            engine.processes["w1"].kill()
            gate.touch()

    try:
        found = carry_out(
            begun, engine, tmp_path / "m.db", control=QUICK,
            command=command_of(command, shell=True), options=Options(patience_s=5), on_step=lose,
        )  # fmt: skip
    finally:
        engine.stop()
    assert found["completed"] == 12
    assert found["runs_lost_with_their_worker"] == 2
    assert any(p["choice"] == "repair" for p in found["plans"])
    done = (tmp_path / "done").read_text().split()
    assert sorted(done) == sorted(t.id for t in request.snapshot.pending)


def test_a_living_cluster_that_cannot_be_attached_to_is_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong on the way to it: a new one would run all that runs there once more."""

    def refuses(*_: Any, **__: Any) -> None:
        raise ValueError("cannot be attached to")

    def no_other(*_: Any) -> None:
        raise EnvironmentFailed("a new cluster")

    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        write_note(tmp_path / NOTE, "tls://here", {SCHEDULER_NAME: ProcessId.of(sleeper.pid)})
        monkeypatch.setattr(dask, "DaskEngine", refuses)
        monkeypatch.setattr(dask, "local_cluster", no_other)
        with pytest.raises(ValueError, match="cannot be attached to"):
            started(PlanRequest("r", Snapshot(0, int(time.time()), TWO), {}), [], tmp_path, "b")
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_note_of_another_version_is_named_before_a_new_cluster_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What runs ends with its cluster: whoever looks for the reason finds it in the log."""

    def no_other(*_: Any) -> None:
        raise EnvironmentFailed("a new cluster")

    (tmp_path / NOTE).write_text('{"address": "tls://here", "processes": {"(scheduler)": [1, 2]}}')
    monkeypatch.setattr(dask, "local_cluster", no_other)
    with pytest.raises(EnvironmentFailed, match="a new cluster"):
        started(PlanRequest("r", Snapshot(0, int(time.time()), TWO), {}), [], tmp_path, "b")
    assert f"{tmp_path / NOTE} cannot be read" in caplog.text


@pytest.mark.slow
def test_a_scheduler_that_stands_still_is_waited_for_and_a_dead_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next master would end all that runs there, or wait minutes for a scheduler that died."""
    monkeypatch.setattr(dask, "ANSWER_S", 3.0)
    request = PlanRequest("r", Snapshot(0, int(time.time()), TWO), {})
    engine, _, _ = started(request, [], tmp_path, "b")
    try:
        scheduler = engine.processes[SCHEDULER_NAME]
        engine.close()
        os.kill(scheduler.pid, signal.SIGSTOP)
        goes_on = threading.Timer(5.0, os.kill, (scheduler.pid, signal.SIGCONT))
        goes_on.start()
        engine, _, _ = started(request, [], tmp_path, "b")
        goes_on.join()
        assert engine.processes[SCHEDULER_NAME] == scheduler
        engine.close()
        os.kill(scheduler.pid, signal.SIGSTOP)
        dies = threading.Timer(1.0, scheduler.kill)
        dies.start()
        engine, _, _ = started(request, [], tmp_path, "b")
        dies.join()
        assert engine.processes[SCHEDULER_NAME] != scheduler
        assert len(engine.workers()) == len(TWO)
    finally:
        engine.stop()
        end_left_over(tmp_path)


@pytest.mark.slow
def test_a_scheduler_that_dies_as_it_is_brought_up_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit would see a traceback and exit code 1, which stands for a mistake of ours."""
    usual = local_cluster

    def dying(*arguments: Any) -> Any:
        address, processes, key = usual(*arguments)
        processes[SCHEDULER_NAME].kill()
        return address, processes, key

    monkeypatch.setattr(dask, "local_cluster", dying)
    monkeypatch.setattr(DaskEngine.__init__, "__kwdefaults__", {"answer_s": 3.0})
    with pytest.raises(EnvironmentFailed, match="dask: the new scheduler does not answer"):
        started(PlanRequest("r", Snapshot(0, int(time.time()), TWO), {}), [], tmp_path, "b")


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_batch_in_one_sentence(tmp_path: Path) -> None:
    """A traceback of the messaging layer would be all that is left, and the state be in doubt."""
    request, command = tasks_of(6, tmp_path, 0.5)
    engine, begun, _ = started(request, [], tmp_path / "dask", "tests")

    def lose(master: Master) -> None:
        if (tmp_path / "done").exists():
            engine.processes[SCHEDULER_NAME].kill()

    runs = command_of(command, shell=True)
    try:
        with pytest.raises(EnvironmentFailed, match="dask: the scheduler has ended"):
            carry_out(begun, PatientEngine(engine), tmp_path / "m.db",
                      control=QUICK, command=runs, on_step=lose)  # fmt: skip
    finally:
        engine.stop()
    again, begun, _ = started(request, [], tmp_path / "dask", "tests")
    try:
        found = carry_out(begun, again, tmp_path / "m.db", control=QUICK, command=runs)
    finally:
        again.stop()
    assert found["completed"] == 6
    # What ran when the scheduler died may have ended untold: its books have died with it.
    assert set((tmp_path / "done").read_text().split()) == {f"t{k}" for k in range(6)}


MASTER = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_dask import QUICK, tasks_of
from plancast.pipelines.engines.dask import started
from plancast.pipelines.master.batch import carry_out
from plancast.pipelines.master.commands import command_of
from plancast.pipelines.master.state import State
folder = Path({folder!r})
request, command = tasks_of({count}, folder, {seconds})
state = State(folder / "m.db")
engine, begun, _ = started(request, [], folder / "dask", state.batch)
runs = command_of(command, shell=True)
found = carry_out(begun, engine, state, control=QUICK, command=runs)
(folder / "found").write_text(str(found["completed"]))
engine.stop()
"""


def killed_again_and_again(folder: Path, count: int, kills: int, seconds: float) -> None:
    """A master that is killed -9 at random moments, and begun again each time."""
    script = MASTER.format(
        tests=str(Path(__file__).parent), folder=str(folder), count=count, seconds=seconds
    )
    rng = np.random.default_rng(kills)
    for left in range(kills, -1, -1):
        process = subprocess.Popen([sys.executable, "-c", script])
        if left:
            # A kill before anything is begun tells little: importing takes a second or more.
            begun, limit = (folder / "done").exists(), time.monotonic() + 300
            while not begun and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
                begun = (folder / "done").exists()
            time.sleep(float(rng.random()) * (0.5 if left == kills else 3.0))
            process.send_signal(signal.SIGKILL)
        code = process.wait(300)
        if (folder / "found").exists():
            break
        assert left, f"the last master ended with {code}"
    assert (folder / "found").read_text() == str(count)
    done = (folder / "done").read_text().split()
    assert sorted(done) == sorted(f"t{k}" for k in range(count))


def stop_left_over(folder: Path) -> None:
    """End what no master has ended: clusters, and those whose start was cut short."""
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()):
            process.kill()


@pytest.mark.slow
def test_a_master_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """A kill between two writes could lose a task, or run it twice."""
    try:
        killed_again_and_again(tmp_path, count=10, kills=1, seconds=0.5)
    finally:
        stop_left_over(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_master_killed_thirty_times_loses_nothing(tmp_path: Path) -> None:
    """The same, with 90 tasks and 30 kills."""
    kills = int(os.environ.get("PLANCAST_KILLS", "30"))
    try:
        killed_again_and_again(tmp_path, count=3 * kills, kills=kills, seconds=3.0)
    finally:
        stop_left_over(tmp_path)
