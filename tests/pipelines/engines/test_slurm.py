"""The Slurm engine against answers of its commands in the forms that Slurm 22.05 to 24 give."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.pipelines.engines.base import (
    Ended,
    Order,
    Rejected,
    Started,
    Unreachable,
    WorkerClosed,
    WorkerUp,
    WorkerWindows,
    by_piece,
)
from plancast.pipelines.engines.slurm import (
    COMMANDS,
    GONE_S,
    ONCE,
    CommandFailed,
    SlurmEngine,
    attached,
    run_command,
    script,
)
from plancast.pipelines.engines.slurm_answers import SEPARATOR, TWICE, jobs_of_json, jobs_of_lines
from plancast.planner.model.domain import BadRequest, Outcome, Snapshot, Worker
from plancast.planner.model.messages import PlanRequest

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


BATCH = "0123456789abcdef"


def name(task: str, attempt: int = 1, batch: str = BATCH) -> str:
    """Name of an order's job."""
    return f"plancast-{batch}-{attempt}-{task}"


def line(
    number: int, job: str, state: str, start: str = "Unknown", end: str = "Unknown",
    code: str = "0:0", nodes: str = "n1",
) -> str:  # fmt: skip
    """A line of ``sacct`` in the form that is asked for."""
    return SEPARATOR.join((str(number), state, start, end, code, nodes, job)) + "\n"


class Recorded:
    """Answers of Slurm's commands; what was asked is kept."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.nodes = nodes("IDLE", "MIXED")
        self.licences = "No licenses configured in Slurm.\n"
        self.reservations = "No reservations in the system\n"
        self.queue: list[dict[str, object]] = []
        self.errors: list[dict[str, object]] = []
        self.accounts = ""
        self.number = "41\n"
        self.failing: dict[str, Exception] = {}

    def __call__(self, arguments: Sequence[str]) -> str:
        """The answer to a command."""
        self.asked.append(list(arguments))
        for word in arguments[:2]:
            if word in self.failing:
                raise self.failing[word]
        if arguments[:3] == ["scontrol", "show", "nodes"]:
            return self.nodes
        if arguments[:3] == ["scontrol", "show", "reservations"]:
            return self.reservations
        if arguments[:3] == ["scontrol", "show", "licenses"]:
            return self.licences
        if arguments[:3] == ["scontrol", "show", "hostnames"]:
            return "n1\nn2\n"
        if "--json" in arguments and arguments[0] == "sacct":
            raise CommandFailed("sacct: unrecognized option '--json'")
        return {
            "squeue": json.dumps({"meta": {}, "errors": self.errors, "jobs": self.queue}),
            "sacct": self.accounts,
            "sbatch": self.number,
        }.get(arguments[0], "")

    def commands(self, name: str) -> list[list[str]]:
        """What a command was asked."""
        return [a for a in self.asked if a[0] == name and a[1] != "show"]


def engine_of(slurm: Recorded) -> SlurmEngine:
    """An engine before recorded answers."""
    engine = SlurmEngine(NODES, slurm, batch=BATCH)
    engine.windows = {worker.id: () for worker in NODES}  # as if that had been reported
    return engine


def order(task: str, *argv: str, attempt: int = 1, worker: str = "n1") -> Order:
    """An order of one core."""
    return Order((task, attempt), (worker,), {"cpu": 1000}, None, argv or ("true",))


def old(name: str, number: int, state: str, start: int = 0, reason: str = "") -> dict[str, object]:
    """A job of ``squeue --json`` of 22.05."""
    return {"job_id": number, "name": name, "job_state": state, "start_time": start,
            "end_time": 0, "state_reason": reason, "exit_code": 0}  # fmt: skip


def new(name: str, number: int, state: str, start: int = 0, reason: str = "") -> dict[str, object]:
    """The same of 23.11: lists of states, times with flags."""
    at = {"set": bool(start), "infinite": False, "number": start}
    nothing = {"set": False, "infinite": False, "number": 0}
    code = {"status": ["SUCCESS"], "return_code": nothing, "signal": {"id": nothing}}
    return {"job_id": number, "name": name, "job_state": [state], "start_time": at,
            "end_time": nothing, "state_reason": reason, "exit_code": code}  # fmt: skip


def test_an_order_is_submitted_held_pinned_and_released() -> None:
    """Slurm could choose another node or moment than the plan."""
    slurm = Recorded()
    engine = engine_of(slurm)
    demand = {"cpu": 1500, "mem": 512, "gpu": 1000}
    engine.start(
        Order(("t-1", 2), ("n2",), demand, 90, ("./job", "a b"), {"PLANCAST_ID": "t-1"},
              "/out/50%/t.log")
    )  # fmt: skip
    submitted = slurm.commands("sbatch")[0]
    for pair in (
        ("-w", "n2"), ("-J", name("t-1", 2)), ("-c", "2"), ("-o", "/out/50%%/t.log"),
        ("--wrap", script("env PLANCAST_ID=t-1 ./job 'a b'", f"/out/50%/.t.log.{BATCH}{ONCE}")),
    ):  # fmt: skip
        assert submitted[submitted.index(pair[0]) + 1] == pair[1]
    for flag in ("-H", "--no-requeue", "--mem=512M", "--gres=gpu:1", "--time=2"):
        assert flag in submitted
    comment = next(a for a in submitted if a.startswith("--comment="))
    assert json.loads(comment.partition("=")[2]) == {
        "plancast": BATCH, "attempt": 2, "task": "t-1",
    }  # fmt: skip
    assert slurm.commands("scontrol") == [["scontrol", "release", "41"]]


@pytest.mark.parametrize("form", [old, new])
def test_a_key_that_has_a_job_gets_no_other(form: Callable[..., dict[str, object]]) -> None:
    """An order that is sent again could run twice."""
    slurm = Recorded()
    engine = engine_of(slurm)
    # Held since a master died between submission and release: it counts as never begun.
    slurm.queue = [form(name("t"), 7, "PENDING", 0, "JobHeldUser")]
    assert engine.status([("t", 1)])["t", 1].state == "unknown"
    engine.start(order("t"))
    assert slurm.commands("sbatch") == []
    assert slurm.commands("scontrol") == [["scontrol", "release", "7"]]
    slurm.queue = [form(name("t"), 7, "RUNNING", 1_700_000_000)]
    engine.start(order("t"))
    slurm.queue, slurm.accounts = [], line(7, name("t"), "COMPLETED")
    engine.start(order("t"))
    assert slurm.commands("sbatch") == []
    assert len(slurm.commands("scontrol")) == 1


def test_a_job_that_slurmctld_has_forgotten_is_lost_though_the_accounts_call_it_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody writes down its end: it would hold its cores for good."""
    slurm, now = Recorded(), [0.0]
    monkeypatch.setattr("plancast.pipelines.engines.slurm.time.monotonic", lambda: now[0])
    engine, key = engine_of(slurm), ("t", 1)
    engine.start(order("t"))
    slurm.queue = [old(name("t"), 41, "RUNNING", 1_700_000_000)]
    assert engine.status([key])[key].state == "running"
    slurm.queue, slurm.accounts = [], line(41, name("t"), "RUNNING", clock(1_700_000_000))
    for now[0] in (1.0, GONE_S):
        assert engine.status([key])[key].state == "running", now
    now[0] = 1.0 + GONE_S
    for _ in range(2):
        assert engine.status([key])[key].state == "lost"
    # One that the queue knows again, or whose end the accounts have by now, is believed.
    slurm.queue = [old(name("t"), 41, "RUNNING", 1_700_000_000)]
    assert engine.status([key])[key].state == "running"
    slurm.queue, slurm.accounts = [], line(41, name("t"), "COMPLETED", "5", "9")
    now[0] += 2 * GONE_S
    assert engine.status([key])[key].outcome is Outcome.COMPLETED


def test_of_two_jobs_for_one_order_only_one_is_released() -> None:
    """A submission whose answer was lost, and the one after it, could both run."""
    slurm = Recorded()
    engine = engine_of(slurm)
    slurm.failing["sbatch"] = Unreachable("sbatch: connect failure")
    with pytest.raises(Unreachable):
        engine.start(order("t"))
    del slurm.failing["sbatch"]
    slurm.queue = [old(name("t"), k, "PENDING", 0, "JobHeldUser") for k in (8, 9)]
    engine.start(order("t"))
    assert slurm.commands("sbatch")[1:] == []
    assert slurm.commands("scontrol") == [["scontrol", "release", "8"]]
    assert slurm.commands("scancel") == [["scancel", f"--name={name('t')}", "9"]]


def test_a_release_that_fails_is_judged_by_what_has_become_of_the_job() -> None:
    """The task had failed as refused, and its job ran; or it failed for what slurmctld forgot."""

    def released(*queue: dict[str, object]) -> tuple[Recorded, SlurmEngine]:
        slurm = Recorded()
        slurm.failing["release"] = CommandFailed("scontrol: Invalid job id specified")
        slurm.queue = list(queue)
        return slurm, engine_of(slurm)

    slurm, engine = released(old(name("t"), 41, "RUNNING", 5))
    engine.start(order("t"))
    assert slurm.commands("scancel") == []
    assert engine.status([("t", 1)])[("t", 1)].state == "running"
    slurm, engine = released(old(name("t"), 41, "PENDING", 0, "JobHeldUser"))
    with pytest.raises(Rejected, match="Invalid job id"):
        engine.start(order("t"))
    assert len(slurm.commands("scancel")) == 1
    for missing_s in (0.0, 2 * GONE_S):
        slurm, engine = released()
        if missing_s:
            engine._absent["t", 1] = time.monotonic() - missing_s
        with pytest.raises(Unreachable):
            engine.start(order("t"))
        del slurm.failing["release"]
        slurm.number = "42\n"
        engine.start(order("t"))
        assert len(slurm.commands("sbatch")) == 2
        assert slurm.commands("scontrol")[-1] == ["scontrol", "release", "42"]


@pytest.mark.parametrize(
    "said",
    [
        "slurm_suspend error: Unexpected message received",
        "sbatch: error: Batch job submission failed: Message receive failure",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        "sacct: error: Sending PersistInit msg: Unable to connect to database",
    ],
)
def test_errors_of_the_way_to_slurm_are_no_answers(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task would fail as refused because slurmctld died in the middle of an answer."""
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(Unreachable):
        run_command(["scontrol", "release", "1"])


@pytest.mark.parametrize("form", [old, new])
def test_starts_and_ends_are_reported_once(form: Callable[..., dict[str, object]]) -> None:
    """Foreign jobs could be taken for ours, and every look report the same again."""
    slurm = Recorded()
    engine = engine_of(slurm)
    engine.status([("a-b", 1)])
    slurm.queue = [
        form(name("a-b"), 8, "RUNNING", 1_700_000_000),
        form("plancast", 9, "RUNNING", 1_700_000_000),
        form("a|b", 10, "RUNNING", 1_700_000_000),
        form(name("a-b", batch="another"), 11, "COMPLETED", 1_600_000_000),
    ]
    assert engine.events(0.0) == [Started(("a-b", 1), 1_700_000_000)]
    assert engine.events(0.0) == []
    slurm.queue = []
    start, end = clock(1_700_000_000), clock(1_700_000_090)
    slurm.accounts = (
        line(8, name("a-b"), "CANCELLED by 1000", start, end)
        + line(10, "a|b", "FAILED", start, end)
        + line(12, f"two\nlines{SEPARATOR}x", "FAILED", start, end)
    )
    assert engine.events(0.0) == [
        Ended(("a-b", 1), 1_700_000_000, 1_700_000_090, Outcome.CANCELLED, "cancelled")
    ]
    assert engine.events(0.0) == []


@pytest.mark.parametrize("form", [old, new])
def test_a_start_says_which_devices_slurm_gave(form: Callable[..., dict[str, object]]) -> None:
    """Which GPUs are free would be guessed, though Slurm says so."""
    slurm = Recorded()
    engine = engine_of(slurm)
    engine.start(Order(("gang", 1), ("n2", "n1"), {"cpu": 1000, "gpu": 2000}, None, ("true",)))
    row = form(name("gang"), 41, "RUNNING", 100)
    row["gres_detail"] = ["gpu:a100:2(IDX:0,3)", "gpu:2(IDX:1-2),shard:0"]
    if form is old:
        allocated = [{"nodename": "n1"}, {"nodename": "n2"}]
        row["job_resources"] = {"nodes": "n[1-2]", "allocated_nodes": allocated}
    else:
        both = {"count": 2, "allocation": [{"name": "n1"}, {"name": "n2"}]}
        row["job_resources"] = {"nodes": both}
    slurm.queue = [row]
    (started,) = engine.events(0.0)
    assert started == Started(("gang", 1), 100, {"n1": (0, 3), "n2": (1, 2)})
    assert by_piece(("n2", "n1"), started.devices) == ((1, 2), (0, 3))


def test_devices_of_nodes_that_are_not_named_stay_unknown() -> None:
    """Devices of one node would be taken for another's."""
    row = old(name("t"), 1, "RUNNING", 5) | {"gres_detail": ["gpu:1(IDX:0)", "gpu:1(IDX:0)"]}
    text = json.dumps({"errors": [], "jobs": [row, {**row, "gres_detail": None}]})
    assert [job.devices for job in jobs_of_json(text, "squeue")] == [{}, {}]


def test_a_second_batch_with_the_same_ids_is_another_one() -> None:
    """Its tasks would count as done by the jobs of the first, and nothing would run."""
    slurm = Recorded()
    slurm.accounts = line(3, name("t", batch="yesterday"), "COMPLETED")
    slurm.queue = [old(name("t", batch="yesterday"), 3, "COMPLETED")]
    engine = engine_of(slurm)
    assert engine.status([("t", 1)])["t", 1].state == "unknown"
    engine.start(order("t"))
    assert len(slurm.commands("sbatch")) == 1


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
    slurm.accounts = line(5, name("t"), state, clock(1_700_000_000))
    found = engine_of(slurm).status([("t", 1), ("never", 1)])
    assert found["t", 1].state == stands
    assert found["t", 1].outcome is outcome
    assert found["never", 1].state == "unknown"


def test_nodes_that_take_nothing_are_closed_and_not_lost() -> None:
    """What runs on a node that drains, or that slurmctld has not heard of yet, would be voided."""
    slurm = Recorded()
    engine = engine_of(slurm)
    for state in (
        "IDLE+NOT_RESPONDING",
        "MIXED+DRAIN",
        "UNKNOWN",
        "DOWN",
        "IDLE*",
        "ALLOCATED+MAINT",
    ):
        slurm.nodes = nodes(state, "MIXED")
        assert [type(t) for t in engine.events(0.0)] == [WorkerClosed], state
        assert engine.closed() == {"n1"}
        assert [w.id for w in engine.workers()] == ["n1", "n2"]
        slurm.nodes = nodes("IDLE", "ALLOCATED")
        assert [type(t) for t in engine.events(0.0)] == [WorkerUp], state


@pytest.mark.parametrize("command", ["squeue", "sacct", "scontrol"])
def test_an_outage_is_no_news(command: str) -> None:
    """A queue that could not be read could be taken for an empty one, and its runs be voided."""
    slurm = Recorded()
    engine = engine_of(slurm)
    engine.start(order("t"))
    for wrong in (Unreachable("connect failure"), CommandFailed("something else")):
        slurm.failing = {command: wrong}
        look = partial(engine.events, 0.0) if command == "scontrol" else partial(
            engine.status, [("other", 1)]
        )  # fmt: skip
        with pytest.raises(Unreachable):
            look()
    slurm.failing = {}
    # As squeue answers with exit code 0 while slurmctld is away.
    slurm.errors = [{"error_number": -1, "description": "Failed while looking for jobs"}]
    with pytest.raises(Unreachable, match="Failed while looking for jobs"):
        engine.status([("t", 1)])
    # Out of the queue, and not in the accounts yet: it is submitted all the same.
    slurm.errors = []
    assert engine.status([("t", 1)])["t", 1].state == "waiting"
    assert len(slurm.commands("sbatch")) == 1


def test_answers_in_every_form_are_read() -> None:
    """A version of Slurm that writes JSON differently could stop the master."""
    for current in ("COMPLETED", ["COMPLETED"]):
        for code in ({"return_code": 3}, {"return_code": {"set": True, "number": 3}}):
            row = {"job_id": 4, "name": "x", "state": {"current": current},
                   "time": {"start": 5, "end": 9}, "exit_code": code}  # fmt: skip
            (job,) = jobs_of_json(json.dumps({"jobs": [row]}), "sacct")
            assert (job.state, job.start_s, job.end_s, job.code) == (
                "COMPLETED",
                5,
                9,
                "exit code 3",
            )
    nothing = {"jobs": [], "errors": [{"error_number": 9003, "error": "Nothing found"}]}
    assert jobs_of_json(json.dumps(nothing), "sacct") == []
    for text in ("", "[]", '{"jobs": 3', '{"meta": {}}'):
        with pytest.raises(Unreachable):
            jobs_of_json(text, "squeue")


@given(st.text(), st.text())
def test_no_name_of_a_job_shifts_a_field(before: str, after: str) -> None:
    """One foreign job with a bar or a line break in its name would stop the master."""
    text = (
        line(1, before, "FAILED") + line(2, name("t"), "COMPLETED", "5", "9") + line(3, after, "x")
    )
    found = [job for job in jobs_of_lines(text) if job.name == name("t")]
    assert [(job.number, job.state, job.start_s, job.end_s) for job in found] == [
        ("2", "COMPLETED", 5, 9)
    ]


def test_a_slurm_whose_nodes_do_not_answer_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A master that starts just after slurmctld would end as if its cluster file were wrong."""
    for command in COMMANDS:
        (tmp_path / command).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / command).chmod(0o755)
    answer = tmp_path / "nodes"
    answer.write_text(nodes("DOWN+NOT_RESPONDING", "IDLE+NOT_RESPONDING"))
    (tmp_path / "scontrol").write_text(
        f'#!/bin/sh\n[ "$2" != nodes ] || exec /bin/cat {answer}\n[ "$2" = nodes ] || exit 0\n'
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    request = PlanRequest("r", Snapshot(0, 0, NODES), {})
    engine, begun, _ = attached(request, [], BATCH, None)
    assert engine.closed() == {"n1", "n2"}
    assert begun.snapshot.workers == NODES
    answer.write_text(nodes("IDLE", "IDLE"))
    assert {type(e) for e in engine._node_events()} == {WorkerUp}
    with pytest.raises(BadRequest, match="none of the workers is a node; the cluster file has x"):
        attached(PlanRequest("r", Snapshot(0, 0, (Worker("x", {"cpu": 1}),)), {}), [], BATCH, None)


def reservation(name: str, start: str, end: str, nodes: str, users: str, flags: str) -> str:
    """A line of ``scontrol show reservations --oneliner`` of 22.05."""
    return (
        f"ReservationName={name} StartTime={start} EndTime={end} Duration=01:00:00 Nodes={nodes} "
        f"NodeCnt=1 CoreCnt=4 Features=(null) PartitionName=(null) Flags={flags} TRES=cpu=4 "
        f"Users={users} Groups=(null) Accounts=(null) Licenses=(null) State=INACTIVE "
        "BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)\n"
    )


def test_reservations_of_others_are_windows_of_their_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs would be sent where Slurm holds them until the maintenance is over."""
    slurm = Recorded()
    slurm.reservations = (
        reservation("maint", "1800000000", "1800003600", "n[1-2]", "root", "MAINT,SPEC_NODES")
        + reservation("theirs", clock(1_800_010_000), clock(1_800_011_000), "n2", "ann", "")
        + reservation("ours", "1800020000", "1800021000", "n1", "ann,me", "SPEC_NODES")
        + reservation("licences", "1800020000", "1800021000", "(null)", "ann", "ANY_NODES")
        + reservation("elsewhere", "1800020000", "1800021000", "other", "ann", "")
    )
    monkeypatch.setattr("plancast.pipelines.engines.slurm.getuser", lambda: "me")
    engine = engine_of(slurm)
    first, second = (1_800_000_000, 1_800_003_600), (1_800_010_000, 1_800_011_000)
    found = {e.worker: e.windows for e in engine.events(0.0) if isinstance(e, WorkerWindows)}
    assert found == {"n1": (first,), "n2": (first, second)}
    assert engine.events(0.0) == []
    monkeypatch.setattr("plancast.pipelines.engines.slurm.WINDOWS_S", 0.0)
    assert engine.events(0.0) == []
    slurm.reservations = "No reservations in the system\n"
    found = {e.worker: e.windows for e in engine.events(0.0) if isinstance(e, WorkerWindows)}
    assert found == {"n1": (), "n2": ()}


def test_a_run_that_slurm_began_twice_is_lost() -> None:
    """Its task would have failed, though it was stopped half-way by nobody's wish."""
    slurm = Recorded()
    engine = engine_of(slurm)
    engine.start(order("t"))
    row = old(name("t"), 41, "FAILED", 5) | {"exit_code": TWICE << 8}
    slurm.queue = [row]
    assert engine.status([("t", 1)])[("t", 1)].state == "lost"
    slurm.queue = [row | {"exit_code": 3 << 8}]
    assert engine.status([("t", 1)])[("t", 1)].state == "ended"


@pytest.mark.parametrize("source", ["squeue", "sacct", "lines"])
def test_a_job_that_its_node_could_not_launch_is_lost(source: str) -> None:
    """Its task would have ended as cancelled, though nobody wanted that."""

    def state(at_s: int, end_s: int, nodes: str, signal: int = 0) -> str:
        slurm = Recorded()
        engine = engine_of(slurm)
        engine.start(order("t"))
        row = old(name("t"), 41, "CANCELLED", at_s)
        row |= {"end_time": end_s, "exit_code": signal, "nodes": nodes}
        if source == "squeue":
            slurm.queue = [row]
        elif source == "sacct":
            times = {"start": at_s, "end": end_s}
            code = {"return_code": None, "signal": {"signal_id": signal or None}}
            current = {"current": "CANCELLED", "reason": "None"}
            row |= {"time": times, "exit_code": code, "state": current}
            text = json.dumps({"jobs": [row | {"nodes": nodes or "None assigned"}]})
            engine.run = lambda asked: text if asked[0] == "sacct" else slurm(asked)
        else:
            said = "CANCELLED by 0"
            slurm.accounts = line(41, name("t"), said, str(at_s), str(end_s), f"0:{signal}",
                                  nodes or "None assigned")  # fmt: skip
        return engine.status([("t", 1)])[("t", 1)].state

    assert state(100, 100, "n1") == "lost"
    assert state(100, 103, "n1") == "lost"
    assert state(100, 100, "") == "ended"  # called off by hand before it had nodes
    assert state(100, 101, "n1", signal=15) == "ended"  # while it ran
    assert state(100, 400, "n1") == "ended"  # the same, of one that ends well when it is asked to
