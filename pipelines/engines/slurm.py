"""Slurm as an engine, by way of its own commands.

Every order is one job, submitted held (``sbatch -H``) onto its nodes (``-w``) and released at
once: the plan, not Slurm's queue, says what starts when. ``squeue --json`` tells what is there,
``sacct`` what has ended; the job's name is the order's key, so that a new master finds all.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.engines.base import (
    PREEMPT,
    Ended,
    Key,
    Order,
    Standing,
    Started,
    Told,
    WorkerDown,
    WorkerUp,
)
from pipelines.engines.shift import begun_at
from planner.domain import BadRequest, Outcome, Worker
from planner.messages import PlanRequest

PREFIX = "plancast"
POLL_S = 0.5
COMMANDS = ("sbatch", "scontrol", "scancel", "squeue", "sacct")
OUTCOMES = {
    "COMPLETED": Outcome.COMPLETED,
    "TIMEOUT": Outcome.TIMEOUT,
    "DEADLINE": Outcome.TIMEOUT,
    "CANCELLED": Outcome.CANCELLED,
    "PREEMPTED": Outcome.CANCELLED,
    "FAILED": Outcome.FAILED,
    "OUT_OF_MEMORY": Outcome.FAILED,
}
LOST = ("NODE_FAIL", "BOOT_FAIL")
RUNS = ("RUNNING", "COMPLETING", "SUSPENDED")
DOWN = frozenset(
    ("DOWN", "DRAIN", "ERROR", "FAIL", "FAILING", "NOT_RESPONDING", "POWERED_DOWN",
     "POWERING_DOWN", "UNKNOWN")
)  # fmt: skip
"""States of a node, or flags of one, with which it takes no job."""

Run = Callable[[Sequence[str]], str]
"""Runs a command and gives its standard output; raises ``CommandFailed``."""


class CommandFailed(Exception):
    """A command of Slurm ended with an error; the text is its own."""


def run_command(arguments: Sequence[str]) -> str:
    """Run a command of Slurm."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"{arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@dataclass
class Job:
    """A job as Slurm tells of it."""

    number: str
    state: str
    start_s: int | None = None
    end_s: int | None = None


class SlurmEngine:
    """The Slurm that the usual commands reach.

    Parameters
    ----------
    machines : sequence of Worker
        By the names of their nodes.
    run : callable
        Runs a command; the tests give it recorded answers.
    """

    name = "slurm"
    capabilities = frozenset({PREEMPT})

    def __init__(self, machines: Sequence[Worker], run: Run = run_command) -> None:
        self.machines = {w.id: w for w in machines}
        self.run = run
        self.up: set[str] = self._nodes_up()
        self.told: dict[Key, str] = {}

    def now_s(self) -> int:
        """The clock of the machine at hand."""
        return int(time.time())

    def workers(self) -> tuple[Worker, ...]:
        """Nodes of the cluster file that Slurm can use now."""
        return tuple(self.machines[n] for n in self.machines if n in self.up)

    def start(self, order: Order) -> None:
        """Submit a job held, and release it; a key that has a job already gets no other."""
        known = self._jobs([order.key]).get(order.key)
        if known is not None:
            if known.state == "PENDING":
                self.run(["scontrol", "release", known.number])
            return
        answer = self.run(self.submission(order))
        number = re.match(r"\d+", answer.strip())
        if number is None:
            raise CommandFailed(f"sbatch: said {answer.strip()!r}, not a job's number")
        self.run(["scontrol", "release", number.group()])

    def submission(self, order: Order) -> list[str]:
        """The ``sbatch`` command of an order."""
        nodes = list(dict.fromkeys(order.workers))
        if len({order.workers.count(n) for n in nodes}) > 1:
            raise BadRequest(
                f"task {order.key[0]}: Slurm needs equally many pieces on each node of a gang"
            )
        each = len(order.workers) // len(nodes)
        cores = max(1, math.ceil(order.demand.get("cpu", 1000) / 1000))
        arguments = [
            "sbatch", "--parsable", "-H", "--no-requeue", "-w", ",".join(nodes),
            "-J", _name(order.key), "-N", str(len(nodes)), f"--ntasks-per-node={each}",
            "-c", str(cores), "-o", "/dev/null", "-e", "/dev/null",
        ]  # fmt: skip
        if order.demand.get("mem"):
            arguments.append(f"--mem={order.demand['mem'] * each}M")
        if order.demand.get("gpu"):
            arguments.append(f"--gres=gpu:{math.ceil(order.demand['gpu'] / 1000) * each}")
        if order.limit_s is not None:
            # Slurm counts limits in minutes, and rounds up.
            arguments.append(f"--time={math.ceil(order.limit_s / 60)}")
        return [*arguments, "--wrap", order.command or "true"]

    def cancel(self, key: Key) -> None:
        """Cancel the job of an order."""
        job = self._jobs([key]).get(key)
        if job is not None and job.state not in OUTCOMES:
            self.run(["scancel", job.number])

    def events(self, wait_s: float) -> list[Told]:
        """What differs from what was told before."""
        until = time.monotonic() + wait_s
        while True:
            found = [*self._node_events(), *self._job_events()]
            if found or time.monotonic() >= until:
                return found
            time.sleep(min(POLL_S, max(0.0, until - time.monotonic())))

    def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
        """Where orders stand, by ``squeue`` and ``sacct``."""
        jobs = self._jobs(keys)
        return {key: _standing(jobs.get(key)) for key in keys}

    def close(self) -> None:
        """Nothing to let go of: Slurm goes on."""

    # ------------------------------------------------------------------ inside

    def _node_events(self) -> list[Told]:
        before, self.up = self.up, self._nodes_up()
        now = self.now_s()
        gone: list[Told] = [WorkerDown(n, now) for n in sorted(before - self.up)]
        return [*gone, *(WorkerUp(self.machines[n], now) for n in sorted(self.up - before))]

    def _job_events(self) -> list[Told]:
        found: list[Told] = []
        for key, job in self._jobs(None).items():
            stands = _standing(job)
            if self.told.get(key) == stands.state:
                continue
            self.told[key] = stands.state
            if stands.state == "running" and stands.start_s is not None:
                found.append(Started(key, stands.start_s))
            elif stands.state == "ended":
                end_s = self.now_s() if stands.end_s is None else stands.end_s
                start_s = end_s if stands.start_s is None else stands.start_s
                found.append(Ended(key, start_s, end_s, stands.outcome or Outcome.FAILED))
        return found

    def _nodes_up(self) -> set[str]:
        """Nodes of ours that Slurm can use.

        ``sinfo`` shows a node that went down under a job as completing; this shows both.
        """
        text = self.run(["scontrol", "show", "nodes", "--oneliner"])
        states = dict(re.findall(r"^NodeName=(\S+).*?\bState=(\S+)", text, re.MULTILINE))
        return {
            name for name in self.machines
            if name in states and not states[name].endswith("*")
            and DOWN.isdisjoint(states[name].rstrip("~#!%$@^-").split("+"))
        }  # fmt: skip

    def _jobs(self, keys: Collection[Key] | None) -> dict[Key, Job]:
        """The last job of each key (of all our keys), whether it is queued, runs or has ended."""
        wanted = None if keys is None else {_name(key) for key in keys}
        found: dict[Key, Job] = {}
        for name, job in _accounted(self.run(
            ["sacct", "-X", "-P", "-n", "--starttime=now-7days", "-o",
             "JobIDRaw,JobName,State,Start,End"]
        )):  # fmt: skip
            if wanted is None or name in wanted:
                found[_key(name)] = job
        # What is in the queue is newer than what the accounts say of it.
        for name, job in _queued(self.run(["squeue", "--json"])):
            if wanted is None or name in wanted:
                found[_key(name)] = job
        return found


def _name(key: Key) -> str:
    return f"{PREFIX}-{key[1]}-{key[0]}"


def _key(name: str) -> Key:
    _, attempt, task = name.split("-", 2)
    return task, int(attempt)


def _ours(name: str) -> bool:
    return re.match(rf"{PREFIX}-\d+-", name) is not None


def _queued(text: str) -> list[tuple[str, Job]]:
    """Jobs of ours in the JSON of ``squeue``, of any version since 21.08."""
    found = []
    for row in json.loads(text)["jobs"]:
        if not _ours(row["name"]):
            continue
        state = row["job_state"]
        state = state[0] if isinstance(state, list) else state
        times = [_moment(row.get(field)) for field in ("start_time", "end_time")]
        found.append((row["name"], Job(str(row["job_id"]), state, times[0], times[1])))
    return found


def _moment(value: Any) -> int | None:
    """A time of ``squeue --json``: a number, or since 23.02 ``{set, infinite, number}``."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") else None
    return int(value) if value else None


def _accounted(text: str) -> list[tuple[str, Job]]:
    """Jobs of ours in the lines of ``sacct -X -P``."""
    found = []
    for line in text.splitlines():
        number, name, state, start, end = line.split("|")
        if _ours(name):
            found.append((name, Job(number, state.split()[0], _clock(start), _clock(end))))
    return found


def _clock(text: str) -> int | None:
    if not text or text in ("Unknown", "None"):
        return None
    return int(time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))


def _standing(job: Job | None) -> Standing:
    if job is None:
        return Standing("unknown")
    if job.state in LOST:
        return Standing("lost", job.start_s, job.end_s)
    if job.state in OUTCOMES:
        return Standing("ended", job.start_s, job.end_s, OUTCOMES[job.state])
    if job.state in RUNS:
        return Standing("running", job.start_s)
    return Standing("waiting")


def attached(
    request: PlanRequest, losses: Sequence[tuple[str, int]], folder: Path
) -> tuple[SlurmEngine, PlanRequest, Callable[[Any], None]]:
    """The Slurm at hand, with the workers of the request that are its nodes.

    See ``engines.dask.started``; a worker is lost by setting its node down.
    """
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise BadRequest(f"slurm: there is no command {missing[0]}; install Slurm's clients")
    engine = SlurmEngine(request.snapshot.workers)
    there = {worker.id for worker in engine.workers()}
    if not there:
        raise BadRequest(
            f"slurm: none of the workers is a node that is up; Slurm knows others than "
            f"{', '.join(list(engine.machines)[:3])}"
        )
    known = tuple(w for w in request.snapshot.workers if w.id in there)
    request = replace(request, snapshot=replace(request.snapshot, workers=known))
    began, left = time.time(), dict(losses)

    def on_step(_: Any) -> None:
        for name, after_s in list(left.items()):
            if time.time() - began >= after_s:
                del left[name]
                run_command(["scontrol", "update", f"NodeName={name}", "State=DOWN",
                             "Reason=plancast-lose"])  # fmt: skip

    return engine, begun_at(request, engine.now_s()), on_step
