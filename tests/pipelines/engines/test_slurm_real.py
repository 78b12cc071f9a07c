"""A real Slurm in a network namespace: what the recorded answers stand for."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from plancast.pipelines.engines.base import Ended, Order, Started
from plancast.pipelines.engines.shift import begun_at
from plancast.pipelines.engines.slurm import SlurmEngine, run_command
from plancast.pipelines.master.batch import carry_out
from plancast.pipelines.master.commands import command_of
from plancast.planner.model.domain import DurationEstimate, Outcome, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.controller import ControlPolicy
from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("slurm")
UP = ROOT / ".ci" / "slurm-up"
NODES = tuple(Worker(f"n{k}", {"cpu": 4000, "mem": 4096}) for k in (1, 2, 3))
QUICK = ControlPolicy(repair_budget=Budget(None, 20), replan_budget=Budget(None, 20))


class Inside:
    """Runs commands where the Slurm of a folder is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, arguments: Sequence[str]) -> str:
        """The standard output of a command."""
        net, conf = f"--net={self.folder}/net", f"SLURM_CONF={self.folder}/slurm.conf"
        return run_command(["nsenter", net, "env", conf, *arguments])


@pytest.fixture(scope="module")
def slurm() -> Iterator[Inside]:
    """slurmctld, slurmdbd and three slurmd; skipped where packages or rights are missing."""
    # Sockets have short names only.
    folder = Path(tempfile.mkdtemp(prefix="plancast-", dir="/tmp"))
    with (folder / "up.log").open("w+") as log:
        up = subprocess.run([UP, folder], stdout=log, stderr=log, check=False, timeout=120)
        log.seek(0)
        said = log.read().strip()
    if up.returncode == 3:
        shutil.rmtree(folder)
        pytest.skip(f"no Slurm here: {said.splitlines()[-1]}")
    try:
        assert up.returncode == 0, said
        yield Inside(folder)
    finally:
        subprocess.run([UP, folder, "down"], check=False, timeout=60)
        time.sleep(0.5)
        shutil.rmtree(folder, ignore_errors=True)


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
    told: dict[str, set[type]] = {}
    ends: dict[str, Outcome] = {}
    until = time.monotonic() + 60
    while len(ends) < 3 and time.monotonic() < until:
        for message in engine.events(0.5):
            assert isinstance(message, Started | Ended)
            told.setdefault(message.key[0], set()).add(type(message))
            if isinstance(message, Ended):
                assert message.start_s <= message.at_s
                ends[message.key[0]] = message.outcome
        if {"good", "bad"} <= ends.keys() and Started in told.get("gang", set()):
            engine.cancel(("gang", 1))
    assert ends == {
        "good": Outcome.COMPLETED, "bad": Outcome.FAILED, "gang": Outcome.CANCELLED,
    }  # fmt: skip
    # Sent twice, and one job each.
    rows = slurm(["sacct", "-X", "-P", "-n", "-o", "JobName,NodeList"]).splitlines()
    assert sorted(r.split("|")[0] for r in rows) == [
        f"plancast-first-1-{n}" for n in sorted(orders)
    ]
    assert "plancast-first-1-good|n2" in rows


def test_a_batch_survives_the_loss_of_a_node(slurm: Inside, tmp_path: Path) -> None:
    """The demo at a small size: a node goes down half-way, and all tasks end."""
    tasks = tuple(Task(f"t{k}", {"cpu": 2000, "mem": 64}) for k in range(14))
    estimates = {t.id: {"*": DurationEstimate.certain(3)} for t in tasks}
    request = PlanRequest("slurm", Snapshot(0, 0, NODES, tasks), estimates)
    engine = SlurmEngine(NODES, slurm, batch="second")
    began = time.monotonic()
    down: list[str] = []

    def on_step(_: object) -> None:
        if not down and time.monotonic() - began > 4:
            down.append("n3")
            slurm(["scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=test"])

    told = carry_out(
        begun_at(request, engine.now_s()), engine, tmp_path / "m.db", control=QUICK,
        on_step=on_step,
        command=command_of(f"sleep 2; echo $PLANCAST_ID >> {tmp_path}/done", shell=True),
    )  # fmt: skip
    assert down, told
    assert told["completed"] == 14
    assert any(p["choice"] == "repair" for p in told["plans"]), told
    assert set((tmp_path / "done").read_text().split()) == {t.id for t in tasks}
    assert os.getuid() == 0
