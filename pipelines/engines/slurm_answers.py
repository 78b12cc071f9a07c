"""What Slurm's commands answer, as jobs and nodes.

Names and comments of jobs are free text of any user: they are read from JSON, or come last in a
line whose first field is the job id.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from plancast.json_text import json_value
from plancast.pipelines.engines.base import Standing, Unreachable
from plancast.planner.model.domain import Outcome

OUTCOMES = {
    "COMPLETED": Outcome.COMPLETED,
    "TIMEOUT": Outcome.TIMEOUT,
    "DEADLINE": Outcome.TIMEOUT,
    "CANCELLED": Outcome.CANCELLED,
    "REVOKED": Outcome.CANCELLED,
    "PREEMPTED": Outcome.CANCELLED,
    "FAILED": Outcome.FAILED,
    "OUT_OF_MEMORY": Outcome.FAILED,
}
LOST = ("NODE_FAIL", "BOOT_FAIL")
RUNS = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
OPEN_STATES = frozenset(("IDLE", "MIXED", "ALLOCATED", "COMPLETING", "PLANNED"))
CLOSED_FLAGS = frozenset(
    ("DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "NOT_RESPONDING",
     "POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_DOWN", "UNKNOWN", "FUTURE", "MAINT",
     "REBOOT_ISSUED", "REBOOT_REQUESTED", "INVALID_REG", "BLOCKED")
)  # fmt: skip
"""States of a node, or flags of one, with which it takes no job; what runs there may go on."""
NOTHING_FOUND = 9003
"""Error number by which the accounts say that no job matches."""
TWICE = 213
"""Exit code of a run that Slurm has started again, though it was begun before and has not ended."""
SEPARATOR = "\x1f"
"""Between the fields of a line: a control character that ids, states and times never hold."""
GPUS = re.compile(r"\bgpu(?::[^:,(]+)*\(IDX:([\d,-]+)\)")
"""What a job holds of a node's GPUs: ``gpu:a100:2(IDX:0-1)``."""
LAUNCH_S = 5
"""Longest time that slurmd may take to find that it cannot launch a job."""
FIELDS = "JobIDRaw,State,Start,End,ExitCode,NodeList,JobName"
"""Of a line of ``sacct``; the name is last, so that nothing in it can shift another field."""


@dataclass
class Job:
    """A job as Slurm reports it."""

    number: str
    name: str
    state: str
    start_s: int | None = None
    end_s: int | None = None
    held: bool = False
    code: str = ""
    devices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """GPUs of each of its nodes, where Slurm says so."""
    placed: bool = False
    """Whether nodes were given to it."""

    @property
    def never_launched(self) -> bool:
        """Whether slurmd could not launch it, and called it off.

        Its spool may be full, or a killed slurmctld may have given a number twice. Slurm would
        queue the job again if it might; as it is, only this tells it from one that a person has
        called off: that one has no nodes yet, or ends by a signal.
        """
        return (
            self.state == "CANCELLED" and self.placed and not self.code
            and self.start_s is not None and self.end_s is not None
            and self.end_s - self.start_s <= LAUNCH_S
        )  # fmt: skip


def standing(job: Job | None) -> Standing:
    """Where an order stands, by its job."""
    if job is None or job.held:
        # A held job never began: whoever submitted it did not live to release it.
        return Standing("unknown")
    if job.state in LOST:
        return Standing("lost", job.start_s, job.end_s, reason=job.state.lower())
    if job.state == "FAILED" and job.code == f"exit code {TWICE}":
        return Standing("lost", job.start_s, job.end_s, reason="started again by Slurm")
    if job.never_launched:
        return Standing("lost", job.start_s, job.end_s, reason="not launched by its node")
    if job.state in OUTCOMES:
        outcome = OUTCOMES[job.state]
        reason = job.code if job.state == "FAILED" and job.code else job.state.lower()
        return Standing(
            "ended", job.start_s, job.end_s, outcome, "" if outcome is Outcome.COMPLETED else reason
        )
    if job.state in RUNS:
        return Standing("running", job.start_s)
    return Standing("waiting")


def jobs_of_json(text: str, source: Literal["squeue", "sacct"]) -> list[Job]:
    """Jobs in the JSON of ``squeue`` or ``sacct``, of any version since 21.08.

    Raises
    ------
    Unreachable
        Where the text says that the jobs could not be read: both commands may end with exit
        code 0, an error inside, and an empty list.
    """
    try:
        answer = json_value(text)
        errors = list(answer.get("errors") or ())
        rows = list(answer.get("jobs") or ())
    except (ValueError, AttributeError, TypeError):
        raise Unreachable(f"{source}: its answer is no list of jobs") from None
    for error in errors:
        if error.get("error_number") != NOTHING_FOUND:
            said = error.get("description") or error.get("error") or "an error"
            raise Unreachable(f"{source}: {said}")
    if "jobs" not in answer and not errors:
        raise Unreachable(f"{source}: its answer is no list of jobs")
    return [_queued(row) if source == "squeue" else _accounted(row) for row in rows]


def _queued(row: Mapping[str, Any]) -> Job:
    state = _state(row.get("job_state"))
    held = state == "PENDING" and row.get("state_reason") == "JobHeldUser"
    return Job(
        str(row["job_id"]), str(row.get("name") or ""), state, _moment(row.get("start_time")),
        _moment(row.get("end_time")), held, _code(row.get("exit_code")), _devices(row),
        _placed(row.get("nodes")),
    )  # fmt: skip


def _devices(row: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """GPUs that a job holds, by node; nothing where it is not clear which node they are of."""
    details = row.get("gres_detail") or ()
    on = row.get("job_resources") or {}
    nodes = on.get("allocated_nodes") or ()
    if isinstance(on.get("nodes"), Mapping):  # since 23.11
        nodes = on["nodes"].get("allocation") or ()
    names = [str(node.get("nodename") or node.get("name")) for node in nodes]
    if len(names) != len(details):
        return {}
    found = {
        name: tuple(sorted(d for part in GPUS.findall(text) for d in _numbers(part)))
        for name, text in zip(names, details, strict=True)
    }
    return {name: devices for name, devices in found.items() if devices}


def _numbers(text: str) -> Iterator[int]:
    """The numbers of a list such as ``0-2,5``."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _accounted(row: Mapping[str, Any]) -> Job:
    times = row.get("time") or {}
    stands = row.get("state") or {}
    return Job(
        str(row["job_id"]), str(row.get("name") or ""), _state(stands.get("current")),
        _moment(times.get("start")), _moment(times.get("end")), code=_code(row.get("exit_code")),
        placed=_placed(row.get("nodes")),
    )  # fmt: skip


def jobs_of_lines(text: str) -> list[Job]:
    """Jobs in the lines of ``sacct -X -P -n --delimiter=SEPARATOR -o FIELDS``.

    Line breaks in a name make lines that do not begin with a job id; these are passed over.
    """
    found = []
    for line in text.splitlines():
        number, *rest = line.split(SEPARATOR, 6)
        if not re.fullmatch(r"\d+", number) or len(rest) != 6:
            continue
        state, start, end, code, nodes, name = rest
        word = state.split()[0] if state.split() else ""
        found.append(
            Job(number, name, word, _clock(start), _clock(end), code=_status(code),
                placed=_placed(nodes))
        )  # fmt: skip
    return found


def open_nodes(text: str) -> set[str]:
    """Nodes that take jobs, in the lines of ``scontrol show nodes --oneliner``.

    ``sinfo`` shows a node that went down under a job as completing; this shows both.
    """
    states = dict(re.findall(r"^NodeName=(\S+).*?\bState=(\S+)", text, re.MULTILINE))
    return {name for name, state in states.items() if _takes_jobs(state)}


@dataclass(frozen=True, slots=True)
class Reservation:
    """Nodes that are kept free from jobs of others, over some time.

    Parameters
    ----------
    start_s, end_s : int
        Seconds since the epoch.
    nodes : str
        As Slurm writes them: ``n[1-3],n7``.
    users : frozenset of str
        Whose jobs may run there; empty where accounts or nobody may.
    maintenance : bool
    """

    start_s: int
    end_s: int
    nodes: str
    users: frozenset[str]
    maintenance: bool


def reservations_of(text: str) -> list[Reservation]:
    """Reservations of nodes, in the lines of ``scontrol show reservations --oneliner``.

    Of one that comes again every day or week Slurm tells the next time only.
    """
    found = []
    for line in text.splitlines():
        if not line.startswith("ReservationName="):
            continue
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        start_s, end_s = _clock(fields.get("StartTime", "")), _clock(fields.get("EndTime", ""))
        nodes = fields.get("Nodes", "(null)")
        if start_s is None or end_s is None or end_s <= start_s or nodes in ("", "(null)"):
            continue  # of licences, or of nothing yet
        users = fields.get("Users", "(null)")
        found.append(Reservation(
            start_s, end_s, nodes,
            frozenset() if users == "(null)" else frozenset(users.split(",")),
            "MAINT" in fields.get("Flags", "").split(","),
        ))  # fmt: skip
    return found


def _takes_jobs(state: str) -> bool:
    if state.endswith("*"):  # it does not respond
        return False
    base, *flags = state.rstrip("~#!%$@^-").split("+")
    return base in OPEN_STATES and CLOSED_FLAGS.isdisjoint(flags)


def _state(value: Any) -> str:
    """A state: a word, or since 23.02 a list of the state and its flags."""
    if isinstance(value, list):
        value = value[0] if value else ""
    words = str(value or "").split()
    return words[0] if words else ""


def _moment(value: Any) -> int | None:
    """A time: a number, or since 23.02 ``{set, infinite, number}``."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") else None
    return int(value) if value else None


def _code(value: Any) -> str:
    """An exit code: a wait status, or ``{status, return_code, signal}``, in words."""
    if isinstance(value, int):
        return f"exit code {value >> 8}" if value >> 8 else f"signal {value}" if value else ""
    if not isinstance(value, Mapping):
        return ""
    code, signal = value.get("return_code"), value.get("signal") or {}
    if isinstance(code, Mapping):
        code = code.get("number") if code.get("set") else None
    number = signal.get("id", signal.get("signal_id"))
    if isinstance(number, Mapping):
        number = number.get("number") if number.get("set") else None
    return f"exit code {code}" if code else f"signal {number}" if number else ""


def _status(text: str) -> str:
    """An exit code of a line, as ``3:0`` or ``0:15``, in words."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    status, signal = (int(part) for part in found.groups()) if found else (0, 0)
    return f"exit code {status}" if status else f"signal {signal}" if signal else ""


def _placed(nodes: Any) -> bool:
    """Whether a list of nodes names some; ``sacct`` writes ``None assigned``."""
    return isinstance(nodes, str) and nodes not in ("", "(null)", "None assigned")


def _clock(text: str) -> int | None:
    """A time of ``sacct``: seconds with ``SLURM_TIME_FORMAT=%s``, else local time."""
    if re.fullmatch(r"\d+", text):
        return int(text) or None
    try:
        return int(time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
