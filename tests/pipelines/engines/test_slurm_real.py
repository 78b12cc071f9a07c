"""A real Slurm in a network namespace: what the recorded answers stand for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from plancast.pipelines.engines.base import Ended, Order, Rejected, Started, WorkerWindows
from plancast.pipelines.engines.patient import PatientEngine, patiently
from plancast.pipelines.engines.shift import begun_at
from plancast.pipelines.engines.slurm import CommandFailed, SlurmEngine
from plancast.pipelines.master.batch import carry_out
from plancast.pipelines.master.commands import command_of
from plancast.pipelines.master.loop import Master
from plancast.planner.model.domain import DurationEstimate, Outcome, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.controller import ControlPolicy
from tests.conftest import ROOT
from tests.pipelines.engines.inside import Inside

pytestmark = [pytest.mark.waits, pytest.mark.timeout(1_800)]
NODES = tuple(Worker(f"n{k}", {"cpu": 4000, "mem": 4096}) for k in (1, 2, 3))
QUICK = ControlPolicy(repair_budget=Budget(None, 20), replan_budget=Budget(None, 20))


def test_what_slurm_says_is_understood(slurm: Inside) -> None:
    """The recorded answers could differ from what Slurm answers."""
    engine = SlurmEngine(NODES, slurm, batch="first")
    assert [w.id for w in engine.workers()] == ["n1", "n2", "n3"]
    orders = {
        "good": Order(("good", 1), ("n2",), {"cpu": 1000, "mem": 64}, 60, ("sleep", "1")),
        "bad": Order(("bad", 1), ("n1",), {"cpu": 1000}, None, ("sh", "-c", "exit 4")),
        "gang": Order(("gang", 1), ("n1", "n3"), {"cpu": 2000}, None, ("sleep", "60")),
    }
    for order in orders.values():
        engine.start(order)
        engine.start(order)
    found: dict[str, set[type]] = {}
    ends: dict[str, Outcome] = {}
    until = time.monotonic() + 600
    while len(ends) < 3 and time.monotonic() < until:
        for message in engine.events(0.5):
            if isinstance(message, WorkerWindows):
                continue  # there are none
            assert isinstance(message, Started | Ended)
            found.setdefault(message.key[0], set()).add(type(message))
            if isinstance(message, Ended):
                assert message.start_s <= message.at_s
                ends[message.key[0]] = message.outcome
        if {"good", "bad"} <= ends.keys() and Started in found.get("gang", set()):
            engine.cancel(("gang", 1))
    assert ends == {
        "good": Outcome.COMPLETED, "bad": Outcome.FAILED, "gang": Outcome.CANCELLED,
    }  # fmt: skip
    # Sent twice, and one job each. The accounts follow the queue by some seconds.
    rows: list[str] = []
    until = time.monotonic() + 600
    while len(rows) < len(orders) and time.monotonic() < until:
        jobs = slurm(["sacct", "-X", "-P", "-n", "-o", "JobName,NodeList"]).splitlines()
        rows = [row for row in jobs if row.startswith("plancast-first-")]
        time.sleep(0.2)
    assert sorted(r.split("|")[0] for r in rows) == [
        f"plancast-first-1-{n}" for n in sorted(orders)
    ]
    assert "plancast-first-1-good|n2" in rows


def test_what_a_task_is_charged_to_is_what_the_accounts_say(slurm: Inside) -> None:
    """Usage would be booked on the master's account, and limits of a QOS pass by its tasks."""
    for words in (
        "add account phys", "add qos high", "add user root account=phys qos=+high",
    ):  # fmt: skip
        slurm(["sacctmgr", "-i", *words.split()])
    engine = SlurmEngine(NODES, slurm, batch="charged")
    charged = {"account": "phys", "qos": "high", "partition": "short"}
    order = Order(("t", 1), ("n1",), {"cpu": 1000}, None, ("true",), charged=charged)
    engine.start(order)
    wrong = {"account": "phys", "qos": "low"}, {"partition": "none"}
    for number, name in enumerate(wrong):
        with pytest.raises(Rejected, match=r"(?i)invalid (qos|partition)"):
            engine.start(Order((f"w{number}", 1), ("n1",), {"cpu": 1000}, charged=name))
    rows: list[str] = []
    until = time.monotonic() + 600
    asked = ["sacct", "-X", "-P", "-n", "-o", "Account,QOS,Partition,State"]
    while "phys|high|short|COMPLETED" not in rows and time.monotonic() < until:
        rows = slurm([*asked, "--name", "plancast-charged-1-t"]).splitlines()
        time.sleep(0.2)
    assert rows == ["phys|high|short|COMPLETED"]


def test_slurm_says_which_devices_it_gave(slurm: Inside, tmp_path: Path) -> None:
    """The recorded answers could differ from what Slurm says of a job's GPUs."""
    engine = SlurmEngine(NODES, slurm, batch="devices")
    words = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exec sleep 30")
    demand = {"cpu": 1000, "mem": 64, "gpu": 1000}
    for task, workers in (("one", ("n1",)), ("gang", ("n2", "n1"))):
        out = str(tmp_path / task)
        engine.start(Order((task, 1), workers, demand, None, words, {}, out))
        found: dict[str, Started] = {}
        until = time.monotonic() + 600
        while task not in found and time.monotonic() < until:
            found |= {e.key[0]: e for e in engine.events(0.5) if isinstance(e, Started)}
        if task == "one":
            first = found[task].devices["n1"]
            assert first in ((0,), (1,))
    assert found["gang"].devices["n1"] == ({0, 1}.difference(first).pop(),)
    assert len(found["gang"].devices["n2"]) == 1
    until = time.monotonic() + 600
    said = tmp_path / "one"
    while not (said.exists() and said.read_text()) and time.monotonic() < until:
        time.sleep(0.2)
    for task in ("one", "gang"):
        engine.cancel((task, 1))
    assert said.read_text().split()[0] == str(first[0])


def test_a_maintenance_that_slurm_knows_of_is_a_window(slurm: Inside) -> None:
    """Recorded answers could differ from what Slurm says of a reservation."""
    engine = SlurmEngine(NODES, slurm, batch="windows")
    assert all(e.windows == () for e in engine.events(0.0) if isinstance(e, WorkerWindows))
    start_s = int(time.time()) + 3_600
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(start_s))
    slurm(["scontrol", "create", "reservation", "ReservationName=upkeep", f"StartTime={at}",
           "Duration=30", "Users=root", "Flags=MAINT", "Nodes=n[1-2]"])  # fmt: skip
    try:
        engine._windows_at = None
        found = {e.worker: e.windows for e in engine.events(0.0) if isinstance(e, WorkerWindows)}
        assert found == dict.fromkeys(("n1", "n2"), ((start_s, start_s + 1800),))
    finally:
        slurm(["scontrol", "delete", "ReservationName=upkeep"])
    engine._windows_at = None
    found = {e.worker: e.windows for e in engine.events(0.0) if isinstance(e, WorkerWindows)}
    assert found == {"n1": (), "n2": ()}


def test_a_job_has_the_account_of_the_environment(slurm: Inside, tmp_path: Path) -> None:
    """A site would bill all of it to the default account, or refuse it."""
    cluster = slurm(["sacctmgr", "-n", "-P", "show", "cluster", "format=Cluster"]).split()[0]
    slurm(["sacctmgr", "-i", "add", "account", "physics", f"Cluster={cluster}"])
    slurm(["sacctmgr", "-i", "add", "user", "root", "Account=physics", f"Cluster={cluster}"])

    def as_physics(arguments: Sequence[str]) -> str:
        return slurm(["env", "SBATCH_ACCOUNT=physics", *arguments])

    engine = SlurmEngine(NODES, as_physics, batch="billed")
    engine.start(Order(("billed", 1), ("n2",), {"cpu": 1000, "mem": 64}, 60, ("true",)))
    until = time.monotonic() + 600
    ends: list[Ended] = []
    while not ends and time.monotonic() < until:
        ends += [e for e in engine.events(0.5) if isinstance(e, Ended)]
    assert [e.outcome for e in ends] == [Outcome.COMPLETED]
    rows: list[str] = []
    while not rows and time.monotonic() < until:
        text = slurm(["sacct", "-X", "-P", "-n", "-o", "JobName,Account"])
        rows = [row for row in text.splitlines() if row.startswith("plancast-billed-1-billed|")]
        time.sleep(0.2)
    assert rows == ["plancast-billed-1-billed|physics"]


def test_a_second_batch_with_the_same_ids_runs(slurm: Inside, tmp_path: Path) -> None:
    """It was reported as completed by the first one's jobs, at a negative cost, and never ran."""
    engine = SlurmEngine(NODES, slurm, batch="fifth")
    order = Order(("t0", 1), ("n1",), {"cpu": 1000}, None, ("sh", "-c", f"date > {tmp_path}/ran"))
    assert engine.status([order.key])[order.key].state == "unknown"
    slurm(["sbatch", "-J", "a|b", "-o", "/dev/null", "--wrap", "true"])
    engine.start(order)
    until = time.monotonic() + 600
    ends: list[Ended] = []
    while not ends and time.monotonic() < until:
        ends = [m for m in engine.events(0.5) if isinstance(m, Ended)]
    assert [e.outcome for e in ends] == [Outcome.COMPLETED]
    assert (tmp_path / "ran").exists()


def test_a_batch_survives_the_loss_of_a_node(slurm: Inside, tmp_path: Path) -> None:
    """The demo at a small size: a node goes down half-way, and all tasks end."""
    tasks = tuple(Task(f"t{k}", {"cpu": 2000, "mem": 64}) for k in range(8))
    estimates = {t.id: {"*": DurationEstimate.certain(3)} for t in tasks}
    request = PlanRequest("slurm", Snapshot(0, 0, NODES, tasks), estimates)
    engine = SlurmEngine(NODES, slurm, batch="second")
    down: list[str] = []

    def on_step(master: Master) -> None:
        runs = [row for row in master.open.values() if row.state == "running"]
        if not down and any("n3" in row.workers for row in runs):
            down.append("n3")
            slurm(["scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test"])

    try:
        found = carry_out(
            begun_at(request, engine.now_s()), engine, tmp_path / "m.db", control=QUICK,
            on_step=on_step,
            command=command_of(f"sleep 2; echo $PLANCAST_ID >> {tmp_path}/done", shell=True),
        )  # fmt: skip
    finally:
        for node in down:
            slurm(["scontrol", "update", f"NodeName={node}", "State=RESUME"])
    assert down, found
    assert found["completed"] == 8
    assert found["runs_lost_with_their_worker"] >= 1
    assert any(p["choice"] == "repair" for p in found["plans"]), found
    assert set((tmp_path / "done").read_text().split()) == {t.id for t in tasks}


@pytest.mark.slow
def test_drains_and_outages_lose_nothing(slurm: Inside, tmp_path: Path) -> None:
    """Running tasks were cancelled where a node drained, and voided where slurmctld was away."""
    said: list[str] = []
    happens = {3.0: ("n2", "DRAIN"), 5.0: ("slurmctld", "away"), 20.0: ("n2", "RESUME")}
    found = batch_with(slurm, tmp_path, "third", happens, said.append)
    assert said, "the outage was not noticed"
    assert (found["completed"], found["runs_lost_with_their_worker"]) == (10, 0)
    # Each ran once, and all that ever began ended.
    rows = (tmp_path / "done").read_text().split()
    assert sorted(rows) == sorted(f"t{k}" for k in range(10))


def test_a_job_that_slurmd_cannot_launch_is_lost_and_one_called_off_is_not(slurm: Inside) -> None:
    """Slurm says ``CANCELLED`` of both, by root."""
    engine = SlurmEngine(NODES, slurm, batch="launch")
    spool = slurm.folder / "spool" / "n1"

    def sleeps(name: str, cpu: int = 1000) -> None:
        engine.start(Order((name, 1), ("n1",), {"cpu": cpu}, None, ("sleep", "300")))

    def until(name: str, *states: str) -> str:
        give_up = time.monotonic() + 600
        while time.monotonic() < give_up:
            state = engine.status([(name, 1)])[name, 1].state
            if state in states:
                return state
            time.sleep(0.2)
        raise AssertionError(name)

    away = spool.with_name("n1.away")
    spool.rename(away)
    try:
        sleeps("unlaunched")
        assert until("unlaunched", "lost", "ended") == "lost"
    finally:
        away.rename(spool)
    sleeps("running")
    until("running", "running")
    sleeps("waiting", cpu=4000)  # there is no room for it
    for name in ("running", "waiting"):
        slurm(["scancel", "--name", f"plancast-launch-1-{name}"])
    assert until("running", "lost", "ended") == until("waiting", "lost", "ended") == "ended"


def batch_with(
    slurm: Inside,
    folder: Path,
    batch: str,
    happens: dict[float, tuple[str, str]],
    away: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """A batch of ten tasks of 3 s, during which something happens to Slurm."""
    tasks = tuple(Task(f"t{k}", {"cpu": 2000, "mem": 64}) for k in range(10))
    estimates = {t.id: {"*": DurationEstimate.certain(4)} for t in tasks}
    request = PlanRequest(batch, Snapshot(0, 0, NODES, tasks), estimates)
    engine = SlurmEngine(NODES, slurm, batch=batch)
    began, left = time.monotonic(), dict(happens)

    def on_step(_: object) -> None:
        for after_s, (what, how) in list(left.items()):
            if time.monotonic() - began >= after_s:
                del left[after_s]
                if how == "away":
                    controller_away(slurm, 12.0)
                else:
                    # A drain may not have outlived its controller: then there is none to end.
                    with suppress(*((CommandFailed,) if how == "RESUME" else ())):
                        words = [f"NodeName={what}", f"State={how}", "Reason=test"]
                        patiently(partial(slurm, ["scontrol", "update", *words]), 120.0)
                return  # what is due as well waits until the master has met this

    return carry_out(
        begun_at(request, engine.now_s()), PatientEngine(engine, 120.0, away=away),
        folder / "m.db", control=QUICK, on_step=on_step,
        command=command_of(f"sleep 3; echo $PLANCAST_ID >> {folder}/done", shell=True),
    )  # fmt: skip


def controller_away(slurm: Inside, seconds: float) -> None:
    """End slurmctld, and start it again after a while."""
    pid = slurm.folder / "slurmctld.pid"
    controller = psutil.Process(int(pid.read_text()))
    controller.terminate()
    with suppress(psutil.TimeoutExpired):
        controller.wait(600)
    script = (
        f"sleep {seconds}; exec nsenter --net={slurm.folder}/net env "
        f"SLURM_CONF={slurm.folder}/slurm.conf /usr/sbin/slurmctld -D"
    )
    with (slurm.folder / "log" / "slurmctld.out").open("ab") as out:
        process = subprocess.Popen(["/bin/sh", "-c", script], stdout=out, stderr=out,
                                   start_new_session=True)  # fmt: skip
    pid.write_text(str(process.pid))


MASTER = """
import sys
from pathlib import Path
from plancast.pipelines.engines.patient import PatientEngine, patiently
from plancast.pipelines.engines.shift import begun_at
from plancast.pipelines.engines.slurm import SlurmEngine
from plancast.pipelines.master.batch import carry_out
from plancast.pipelines.master.commands import command_of
from plancast.pipelines.master.state import State
from plancast.planner.model.domain import DurationEstimate, Snapshot, Task
from plancast.planner.model.messages import PlanRequest
from tests.pipelines.engines.inside import Inside
from tests.pipelines.engines.test_slurm_real import NODES, QUICK
folder, slurm, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
tasks = tuple(Task(f"t{k}", {"cpu": 2000, "mem": 64}) for k in range(count))
estimates = {t.id: {"*": DurationEstimate.certain(4)} for t in tasks}
state = State(folder / "m.db")
engine = patiently(
    lambda: SlurmEngine(NODES, Inside(slurm), batch=state.batch, since_s=state.made_s), 120.0
)
request = begun_at(PlanRequest("r", Snapshot(0, 0, NODES, tasks), estimates), engine.now_s())
runs = command_of(f"sleep 3; echo $PLANCAST_ID >> {folder}/done", shell=True)
found = carry_out(request, PatientEngine(engine, 120.0), state, control=QUICK, command=runs)
(folder / "found").write_text(f"{found['completed']} {found['runs_lost_with_their_worker']}")
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_master_killed_ten_times_on_slurm_loses_nothing(slurm: Inside, tmp_path: Path) -> None:
    """A kill between submission and release, or in an outage, could lose a task or run it twice."""
    kills = int(os.environ.get("PLANCAST_KILLS", "10"))
    count, rng = 6 * kills, np.random.default_rng(kills)
    for left in range(kills, -1, -1):
        process = subprocess.Popen(
            [sys.executable, "-c", MASTER, tmp_path, slurm.folder, str(count)], cwd=ROOT
        )
        if left:
            time.sleep(3.0 + 4.0 * float(rng.random()))
            if left % 3 == 0:
                controller_away(slurm, 6.0)
                time.sleep(2.0 * float(rng.random()))
            process.kill()
        code = process.wait(300)
        if (tmp_path / "found").exists():
            break
        assert left, f"the last master ended with {code}"
    assert (tmp_path / "found").read_text() == f"{count} 0"
    done = (tmp_path / "done").read_text().split()
    assert sorted(done) == sorted(f"t{k}" for k in range(count))
