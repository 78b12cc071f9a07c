"""The Slurm engine against answers of its commands in the forms that Slurm 22.05 to 24 give."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest

from pipelines.engines.base import Ended, Order, Started, WorkerDown, WorkerUp
from pipelines.engines.slurm import CommandFailed, SlurmEngine
from planner.domain import BadRequest, Outcome, Worker

NODES = (Worker("n1", {"cpu": 4000, "mem": 8192}), Worker("n2", {"cpu": 4000, "mem": 8192}))


def clock(at_s: int) -> str:
    """A time as ``sacct`` writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at_s))


def nodes(first: str, second: str) -> str:
    """Lines of ``scontrol show nodes --oneliner``, shortened."""
    return (
        f"NodeName=n1 Arch=x86_64 CPUTot=4 State={first} ThreadsPerCore=1 \n"
        f"NodeName=n2 Arch=x86_64 CPUTot=4 State={second} ThreadsPerCore=1 \n"
        "NodeName=other Arch=x86_64 CPUTot=4 State=IDLE ThreadsPerCore=1 \n"
    )


class Recorded:
    """Answers of Slurm's commands; what was asked is kept."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.nodes = nodes("IDLE", "MIXED")
        self.queue: list[dict[str, object]] = []
        self.accounts = ""
        self.number = "41\n"

    def __call__(self, arguments: Sequence[str]) -> str:
        """The answer to a command."""
        self.asked.append(list(arguments))
        if arguments[:3] == ["scontrol", "show", "nodes"]:
            return self.nodes
        return {
            "squeue": json.dumps({"meta": {}, "errors": [], "jobs": self.queue}),
            "sacct": self.accounts,
            "sbatch": self.number,
        }.get(arguments[0], "")

    def commands(self, name: str) -> list[list[str]]:
        """What a command was asked."""
        return [a for a in self.asked if a[0] == name and a[1] != "show"]


def old(name: str, number: int, state: str, start: int = 0) -> dict[str, object]:
    """A job of ``squeue --json`` of 22.05."""
    return {"job_id": number, "name": name, "job_state": state, "start_time": start,
            "end_time": 0}  # fmt: skip


def new(name: str, number: int, state: str, start: int = 0) -> dict[str, object]:
    """The same of 23.11: lists of states, times with flags."""
    at = {"set": bool(start), "infinite": False, "number": start}
    nothing = {"set": False, "infinite": False, "number": 0}
    return {"job_id": number, "name": name, "job_state": [state], "start_time": at,
            "end_time": nothing}  # fmt: skip


def test_an_order_is_submitted_held_pinned_and_released() -> None:
    """Slurm could choose another node or moment than the plan."""
    slurm = Recorded()
    engine = SlurmEngine(NODES, slurm)
    engine.start(Order(("t-1", 2), ("n2",), {"cpu": 1500, "mem": 512, "gpu": 1000}, 90, "./job"))
    submitted = slurm.commands("sbatch")[0]
    for pair in (("-w", "n2"), ("-J", "plancast-2-t-1"), ("-c", "2"), ("--wrap", "./job")):
        assert submitted[submitted.index(pair[0]) + 1] == pair[1]
    for flag in ("-H", "--no-requeue", "--mem=512M", "--gres=gpu:1", "--time=2"):
        assert flag in submitted
    assert slurm.commands("scontrol") == [["scontrol", "release", "41"]]


@pytest.mark.parametrize("form", [old, new])
def test_a_key_that_has_a_job_gets_no_other(form: object) -> None:
    """An order that is sent again could run twice."""
    slurm = Recorded()
    engine = SlurmEngine(NODES, slurm)
    order = Order(("t", 1), ("n1",), {"cpu": 1000}, None, "true")
    slurm.queue = [form("plancast-1-t", 7, "PENDING")]  # type: ignore[operator]
    engine.start(order)
    assert slurm.commands("sbatch") == []
    # Held since a master died between submission and release.
    assert slurm.commands("scontrol") == [["scontrol", "release", "7"]]
    slurm.queue = [form("plancast-1-t", 7, "RUNNING", 1_700_000_000)]  # type: ignore[operator]
    engine.start(order)
    slurm.queue, slurm.accounts = [], "7|plancast-1-t|COMPLETED|Unknown|Unknown\n"
    engine.start(order)
    assert slurm.commands("sbatch") == []


@pytest.mark.parametrize("form", [old, new])
def test_starts_and_ends_are_told_once(form: object) -> None:
    """Foreign jobs could be taken for ours, and every look tell the same again."""
    slurm = Recorded()
    engine = SlurmEngine(NODES, slurm)
    slurm.queue = [
        form("plancast-1-a-b", 8, "RUNNING", 1_700_000_000),  # type: ignore[operator]
        form("plancast", 9, "RUNNING", 1_700_000_000),  # type: ignore[operator]
        form("interactive", 10, "RUNNING", 1_700_000_000),  # type: ignore[operator]
    ]
    assert engine.events(0.0) == [Started(("a-b", 1), 1_700_000_000)]
    assert engine.events(0.0) == []
    slurm.queue = []
    start, end = clock(1_700_000_000), clock(1_700_000_090)
    slurm.accounts = (
        f"8|plancast-1-a-b|CANCELLED by 1000|{start}|{end}\n10|interactive|FAILED|{start}|{end}\n"
    )
    assert engine.events(0.0) == [
        Ended(("a-b", 1), 1_700_000_000, 1_700_000_090, Outcome.CANCELLED)
    ]
    assert engine.events(0.0) == []


@pytest.mark.parametrize(
    ("state", "stands", "outcome"),
    [
        ("COMPLETED", "ended", Outcome.COMPLETED), ("TIMEOUT", "ended", Outcome.TIMEOUT),
        ("OUT_OF_MEMORY", "ended", Outcome.FAILED), ("NODE_FAIL", "lost", None),
        ("PENDING", "waiting", None), ("COMPLETING", "running", None),
    ],
)  # fmt: skip
def test_states_are_told_apart(state: str, stands: str, outcome: Outcome | None) -> None:
    """A lost node could count as a failed task, a failure as an end."""
    slurm = Recorded()
    slurm.accounts = f"5|plancast-1-t|{state}|{clock(1_700_000_000)}|Unknown\n"
    found = SlurmEngine(NODES, slurm).status([("t", 1), ("never", 1)])
    assert found["t", 1].state == stands
    assert found["t", 1].outcome is outcome
    assert found["never", 1].state == "unknown"


def test_nodes_that_go_and_come_are_told() -> None:
    """Tasks could be planned onto a node that does not answer."""
    slurm = Recorded()
    engine = SlurmEngine(NODES, slurm)
    assert [w.id for w in engine.workers()] == ["n1", "n2"]
    slurm.nodes = nodes("IDLE+NOT_RESPONDING", "MIXED")
    told = engine.events(0.0)
    assert [type(t) for t in told] == [WorkerDown]
    slurm.nodes = nodes("IDLE", "DOWN+COMPLETING")
    told = engine.events(0.0)
    assert [type(t) for t in told] == [WorkerDown, WorkerUp]
    assert [w.id for w in engine.workers()] == ["n1"]


def test_what_slurm_cannot_do_is_said() -> None:
    """An uneven gang could be run in another shape, an error be taken for a job."""
    slurm = Recorded()
    engine = SlurmEngine(NODES, slurm)
    with pytest.raises(BadRequest, match="equally many pieces"):
        engine.start(Order(("g", 1), ("n1", "n1", "n2"), {"cpu": 1000}, None, "true"))
    assert engine.submission(Order(("g", 1), ("n1", "n2"), {"cpu": 1000}, None, "x"))[5] == "n1,n2"
    slurm.number = "denied"
    with pytest.raises(CommandFailed, match="not a job's number"):
        engine.start(Order(("t", 1), ("n1",), {"cpu": 1000}, None, "true"))
