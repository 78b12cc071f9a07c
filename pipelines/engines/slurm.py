"""Slurm as an engine, by way of its own commands.

Every order is one job, submitted held (``sbatch -H``) onto its nodes (``-w``) and released at
once: the plan, not Slurm's queue, decides what starts when. The job's name and comment hold the
batch, the attempt and the task, so that a new master finds all of its own and nothing else. Only
a released job runs: of two that were submitted for one order, because an answer was lost, one
stays held and is cancelled.

An outage is no news: what cannot be read raises ``Unreachable``. A run is lost when Slurm says
so of its job, not of its node; a node that drains or does not respond takes nothing new.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from getpass import getuser
from typing import Any

from plancast.pipelines.engines.base import (
    CHARGES,
    PREEMPT,
    Ended,
    EngineEvent,
    Key,
    Order,
    Rejected,
    Standing,
    Started,
    Unreachable,
    WorkerClosed,
    WorkerUp,
    WorkerWindows,
    safe_name,
)
from plancast.pipelines.engines.shift import begun_at
from plancast.pipelines.engines.slurm_answers import (
    FIELDS,
    OUTCOMES,
    SEPARATOR,
    TWICE,
    Job,
    jobs_of_json,
    jobs_of_lines,
    open_nodes,
    reservations_of,
    standing,
)
from plancast.pipelines.inputs.slurm_nodes import (
    cluster_content,
    gres_names,
    licences_of,
    usual_partition,
)
from plancast.planner.model.domain import BadRequest, Outcome, Worker
from plancast.planner.model.messages import PlanRequest

PREFIX = "plancast"
POLL_S = 0.5
COMMAND_S = 60.0
"""Longest time that a command may take."""
GONE_S = 120.0
"""How long the queue must not know a submitted job that has not ended until it counts as gone."""
ONCE = ".once"
"""Ends the name of the file, beside a run's output, that is there once it has begun."""
DAY_S = 86_400
WINDOWS_S = 30.0
"""Least time between two looks at reservations."""
NODES = ["scontrol", "show", "nodes", "--oneliner"]
PARTITIONS = ["scontrol", "show", "partition", "--oneliner"]
LICENCES = ["scontrol", "show", "licenses", "--oneliner"]
COMMANDS = ("sbatch", "scontrol", "scancel", "squeue", "sacct")
PASSING = re.compile(
    r"unable to contact|connect failure|connection (refused|reset|timed out)|timed out|zero bytes"
    r"|temporarily|try again|standby|authentication|munge|communication|configuration source"
    r"|unexpected message|message (send|receive) failure|insane message|header lengths"
    r"|connect to database",
    re.IGNORECASE,
)
"""Errors of a command that say nothing about what was asked: Slurm could not be reached."""

Run = Callable[[Sequence[str]], str]
"""Runs a command and gives its standard output; raises ``CommandFailed`` or ``Unreachable``."""


class CommandFailed(Exception):
    """A command of Slurm ended with an error; the text is its own."""


def run_command(arguments: Sequence[str]) -> str:
    """Run a command of Slurm, with times in seconds since the epoch."""
    if any("\0" in word for word in arguments):
        raise Rejected(f"{arguments[0]}: an option has a zero byte, which no argument can hold")
    environ = dict(os.environ)
    environ.pop("SLURM_TIME_FORMAT", None)  # with --json, sacct cannot read its own times by it
    if "--json" not in arguments:
        environ["SLURM_TIME_FORMAT"] = "%s"
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, errors="replace", timeout=COMMAND_S,
            check=False, env=environ, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{arguments[0]}: no answer within {COMMAND_S:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        text = f"{arguments[0]}: {lines[-1].strip() if lines else done.returncode}"
        raise Unreachable(text) if PASSING.search(done.stderr) else CommandFailed(text)
    return done.stdout


def script(command: str, once: str) -> str:
    """What the job runs: the command, at most once where the file `once` can say that it has begun.

    A slurmctld that was killed knows of the last seconds what its disk does: it takes a job that
    has run for one that waits, and starts it again. That run then ends as the one before did, or
    with ``TWICE`` where that one did not come to its end.
    """
    if not once:
        return f"exec {command}"
    return (
        f"f={shlex.quote(once)}\n"
        'if (set -C; : > "$f") 2>/dev/null; then\n'
        f"  {command}\n"
        '  code=$?; echo "$code" > "$f"; exit "$code"\n'
        "fi\n"
        f'[ -e "$f" ] || exec {command}\n'
        f'code=$(cat "$f"); exit "${{code:-{TWICE}}}"\n'
    )


class SlurmEngine:
    """The Slurm that the usual commands reach.

    Parameters
    ----------
    machines : sequence of Worker
        By the names of their nodes.
    run : callable
        Runs a command; the tests give it recorded answers.
    batch : str
        Identity of the batch, the same for every master that carries it out.
    since_s : int, optional
        When the batch began; accounts are read from a day before. Now by default.
    """

    name = "slurm"
    capabilities = frozenset({PREEMPT, CHARGES})
    step_s = 1.0
    begins_s = 5

    def __init__(
        self, machines: Sequence[Worker], run: Run = run_command, *, batch: str,
        since_s: int | None = None,
    ) -> None:  # fmt: skip
        self.machines = {w.id: w for w in machines}
        self.run = run
        self.batch = batch
        self.since_s = self.now_s() if since_s is None else since_s
        nodes = self._nodes()
        self.open: set[str] = open_nodes(nodes) & self.machines.keys()
        self.gres = gres_names(nodes) - {"gpu"}
        """Generic resources that some node has, and types of GPUs as ``gpu:TYPE``."""
        self.licences = licences_of(self._read(LICENCES)).keys()
        """What Slurm itself counts for the cluster."""
        self.known: dict[Key, Job] = {}
        """The job of each order that has one, as it was last seen."""
        self.sent: set[Key] = set()
        self.live: set[Key] = set()
        """Orders whose end was not reported yet."""
        self.reported: dict[Key, str] = {}
        self._absent: dict[Key, float] = {}
        self._accounts_as_json = True
        self.windows: dict[str, tuple[tuple[int, int], ...]] = {}
        """Of each node, as they were last reported."""
        self._windows_at: float | None = None
        self._names_of: dict[str, list[str]] = {}

    def now_s(self) -> int:
        """The clock of the machine at hand."""
        return int(time.time())

    def steady_s(self) -> float:
        """Seconds that only count."""
        return time.monotonic()

    def workers(self) -> tuple[Worker, ...]:
        """The nodes of the cluster file."""
        return tuple(self.machines.values())

    def closed(self) -> frozenset[str]:
        """Nodes of the cluster file that Slurm cannot use now."""
        return frozenset(self.machines.keys() - self.open)

    def start(self, order: Order) -> None:
        """Submit a job held, and release it; a key that has a job already gets no other."""
        key = order.key
        if key in self.sent or key in self.known:
            # An answer may have been lost; or a master died between submission and release.
            self._find([key])
        job = self.known.get(key)
        if job is None:
            self.sent.add(key)
            job = self.known[key] = Job(self._submit(order), self._name(key), "PENDING", held=True)
        self.live.add(key)
        if job.held:
            try:
                self.run(["scontrol", "release", job.number])
            except CommandFailed as why:
                # It may have been released all the same, by this word or an earlier one.
                self._find([key])
                known = self.known.get(key)
                if self._absent.pop(key, None) is not None or known is None:
                    # slurmctld was killed before it wrote the job down: it is submitted anew.
                    self.known.pop(key, None)
                    raise Unreachable(str(why)) from None
                job = known
                if job.held:
                    self._scancel(job)
                    raise Rejected(str(why)) from None
            job.held = False

    def submission(self, order: Order) -> list[str]:
        """The ``sbatch`` command of an order."""
        nodes = list(dict.fromkeys(order.workers))
        if len({order.workers.count(n) for n in nodes}) > 1:
            raise Rejected("Slurm needs equally many pieces on each node of a gang")
        each = len(order.workers) // len(nodes)
        cores = max(1, math.ceil(order.demand.get("cpu", 1000) / 1000))
        # The rest of a file name that Slurm expands; a percent sign stands for itself doubled.
        output = order.output.replace("%", "%%") if order.output else "/dev/null"
        arguments = [
            "sbatch", "--parsable", "-H", "--no-requeue", "-w", ",".join(nodes),
            "-J", self._name(order.key), f"--comment={self._comment(order.key)}",
            "-N", str(len(nodes)), f"--ntasks-per-node={each}",
            "-c", str(cores), "-o", output, "--open-mode=append",
        ]  # fmt: skip
        arguments += [f"--{name}={value}" for name, value in order.charged.items()]
        if order.demand.get("mem"):
            arguments.append(f"--mem={order.demand['mem'] * each}M")
        gres = self._gres(order.demand)
        if gres:
            amounts = ",".join(f"{name}:{amount * each}" for name, amount in gres.items())
            arguments.append(f"--gres={amounts}")
        arguments += licences_asked({n: a for n, a in order.counted.items() if n in self.licences})
        if order.limit_s is not None:
            # Slurm counts limits in minutes, and rounds up.
            arguments.append(f"--time={math.ceil(order.limit_s / 60)}")
        values = [f"{name}={value}" for name, value in order.environ.items()]
        argv = [*(["env", *values] if values else []), *(order.argv or ("true",))]
        return [*arguments, "--wrap", script(shlex.join(argv), self._once(order.output))]

    def _once(self, output: str) -> str:
        """The file that says that a run has begun: of this batch alone, and no output of a task."""
        if not output:
            return ""
        folder, name = os.path.split(output)
        return os.path.join(folder, f".{name}.{self.batch}{ONCE}")

    def cancel(self, key: Key) -> None:
        """Cancel the job of an order."""
        self._find([key])
        job = self.known.get(key)
        if job is not None and job.state not in OUTCOMES:
            self._scancel(job)

    def events(self, wait_s: float) -> list[EngineEvent]:
        """What differs from what was reported before."""
        until = time.monotonic() + wait_s
        while True:
            found = [*self._node_events(), *self._window_events(), *self._job_events()]
            if found or time.monotonic() >= until:
                return found
            time.sleep(min(POLL_S, max(0.0, until - time.monotonic())))

    def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
        """Where orders stand, by ``squeue`` and ``sacct``."""
        self._find(keys)
        found = {key: standing(self.known.get(key)) for key in keys}
        self.live |= {key for key, stands in found.items() if stands.state != "ended"}
        return found

    def close(self) -> None:
        """Nothing to let go of: Slurm goes on."""

    def stop(self) -> None:
        """Let go of it: nothing was brought up."""
        self.close()

    # ------------------------------------------------------------------ inside

    def _gres(self, demand: Mapping[str, int]) -> dict[str, int]:
        """The generic resources of a piece by their names in Slurm; GPUs of a type by that."""
        found = {name: amount for name, amount in demand.items() if name in self.gres and amount}
        typed = sum(amount for name, amount in found.items() if name.startswith("gpu:"))
        rest = math.ceil(demand.get("gpu", 0) / 1000) - typed
        return found | ({"gpu": rest} if rest > 0 else {})

    def _submit(self, order: Order) -> str:
        """The number of the new job."""
        try:
            answer = self.run(self.submission(order))
        except CommandFailed as why:
            raise Rejected(str(why)) from None
        number = re.match(r"\d+", answer.strip())
        if number is None:
            raise Unreachable(f"sbatch: answered {answer.strip()!r}, not a job's number")
        return number.group()

    def _scancel(self, job: Job) -> None:
        """By its name as well: a slurmctld that was killed may have given its number to another."""
        try:
            self.run(["scancel", f"--name={job.name}", job.number])
        except CommandFailed:
            return  # it has ended already

    def _node_events(self) -> list[EngineEvent]:
        before, self.open = self.open, open_nodes(self._nodes()) & self.machines.keys()
        now = self.now_s()
        gone: list[EngineEvent] = [WorkerClosed(n, now) for n in sorted(before - self.open)]
        return [*gone, *(WorkerUp(self.machines[n], now) for n in sorted(self.open - before))]

    def _window_events(self) -> list[EngineEvent]:
        """Nodes whose reservations are others than before; all of them at the first look."""
        now = time.monotonic()
        if self._windows_at is not None and now - self._windows_at < WINDOWS_S:
            return []
        text = self._read(["scontrol", "show", "reservations", "--oneliner"])
        closed: dict[str, set[tuple[int, int]]] = {name: set() for name in self.machines}
        for one in reservations_of(text):
            if not one.maintenance and getuser() in one.users:
                continue  # ours
            for name in self._names(one.nodes):
                if name in closed:
                    closed[name].add((one.start_s, one.end_s))
        self._windows_at = now
        found: list[EngineEvent] = []
        for name, windows in closed.items():
            ordered = tuple(sorted(windows))
            if self.windows.get(name) != ordered:
                self.windows[name] = ordered
                found.append(WorkerWindows(name, ordered, self.now_s()))
        return found

    def _names(self, nodes: str) -> list[str]:
        """The nodes of a list as Slurm writes it."""
        if "[" not in nodes:
            return nodes.split(",")
        if nodes not in self._names_of:
            self._names_of[nodes] = self._read(["scontrol", "show", "hostnames", nodes]).split()
        return self._names_of[nodes]

    def _job_events(self) -> list[EngineEvent]:
        if not self.live:
            return []
        self._find(self.live)
        found: list[EngineEvent] = []
        for key in sorted(self.live):
            stands = standing(self.known.get(key))
            if self.reported.get(key) == stands.state:
                continue
            self.reported[key] = stands.state
            if stands.state == "running" and stands.start_s is not None:
                found.append(Started(key, stands.start_s, self.known[key].devices))
            elif stands.state == "ended":
                end_s = self.now_s() if stands.end_s is None else stands.end_s
                start_s = end_s if stands.start_s is None else min(stands.start_s, end_s)
                outcome = stands.outcome or Outcome.FAILED
                found.append(Ended(key, start_s, end_s, outcome, stands.reason))
                self.live.discard(key)
        return found

    def _nodes(self) -> str:
        return self._read(NODES)

    def _find(self, keys: Collection[Key]) -> None:
        """Look up the jobs of orders, and keep what is known of them.

        What neither queue nor accounts know of a job that was submitted is no news either: a
        job that has left the queue reaches the accounts with a delay. One that the accounts call
        running while the queue does not know it (slurmctld has forgotten it, and nobody will ever
        write down its end) is lost after as long.
        """
        names = {self._name(key): key for key in keys}
        queued = self._take(names, jobs_of_json(self._read(["squeue", "--json"]), "squeue"))
        seen = set(queued)
        missing = names.keys() - {self._name(key) for key in seen}
        if missing:
            rest = {name: names[name] for name in missing}
            seen |= self._take(rest, self._accounts([self.known.get(k) for k in rest.values()]))
        for key in keys:
            job = self.known.get(key)
            goes_on = standing(job).state in ("running", "waiting")
            if job is None or key in queued or (key in seen and not goes_on):
                self._absent.pop(key, None)
                continue
            since = self._absent.setdefault(key, time.monotonic())
            if time.monotonic() - since < GONE_S:
                continue
            if key in seen:
                self.known[key] = replace(job, state="NODE_FAIL")
            else:
                del self.known[key], self._absent[key]

    def _take(self, names: dict[str, Key], jobs: Sequence[Job]) -> set[Key]:
        """Keep what jobs say of our orders; extra jobs of one order, still held, are cancelled."""
        of_key: dict[Key, list[Job]] = {}
        for job in jobs:
            if job.name in names:
                of_key.setdefault(names[job.name], []).append(job)
        seen = set()
        for key, found in of_key.items():
            before = self.known.get(key)
            if before is not None:
                chosen = next((job for job in found if job.number == before.number), None)
            else:
                chosen = min(found, key=lambda job: (job.held, int(job.number)))
            if chosen is not None:
                self.known[key] = chosen
                seen.add(key)
            for job in found:
                if job is not chosen and job.held:
                    self._scancel(job)
        return seen

    def _accounts(self, jobs: Sequence[Job | None]) -> list[Job]:
        """Jobs of the accounts: those of these numbers, or all since the batch began."""
        days = math.ceil(max(0, self.now_s() - self.since_s) / DAY_S) + 1
        which = ["-X", f"--starttime=now-{days}days"]
        if all(job is not None for job in jobs):
            which.append(f"--jobs={','.join(job.number for job in jobs if job is not None)}")
        if self._accounts_as_json:
            try:
                return jobs_of_json(self.run(["sacct", "--json", *which]), "sacct")
            except CommandFailed:
                self._accounts_as_json = False  # an older version, or one without the plugin
        return jobs_of_lines(
            self._read(
                [
                    "sacct",
                    "-P",
                    "-n",
                    f"--uid={os.getuid()}",
                    f"--delimiter={SEPARATOR}",
                    "-o",
                    FIELDS,
                    *which,
                ]
            )
        )

    def _read(self, arguments: Sequence[str]) -> str:
        """The answer of a command that only reads: whatever goes wrong with it is no news."""
        try:
            return self.run(arguments)
        except CommandFailed as why:
            raise Unreachable(str(why)) from None

    def _name(self, key: Key) -> str:
        return f"{PREFIX}-{self.batch}-{key[1]}-{safe_name(key[0])}"

    def _comment(self, key: Key) -> str:
        return json.dumps({PREFIX: self.batch, "attempt": key[1], "task": key[0]})


def licences_asked(amounts: Mapping[str, int]) -> list[str]:
    """The option of ``sbatch`` by which a job takes licences."""
    wanted = ",".join(f"{name}:{amount}" for name, amount in amounts.items() if amount)
    return [f"--licenses={wanted}"] if wanted else []


def cluster_of_site(run: Run = run_command) -> dict[str, Any]:
    """The content of a cluster file of the nodes of the Slurm at hand; read-only.

    Raises
    ------
    BadRequest
        Where there is no Slurm, or it does not answer.
    """
    try:
        usual = os.environ.get("SBATCH_PARTITION") or usual_partition(run(PARTITIONS))
        return cluster_content(run(NODES), usual, run(LICENCES))
    except OSError:
        raise BadRequest("slurm: there is no scontrol; install Slurm's clients") from None
    except (CommandFailed, Unreachable) as why:
        raise BadRequest(f"slurm: {why}") from None


def attached(
    request: PlanRequest, losses: Sequence[tuple[str, int]], batch: str, since_s: int | None
) -> tuple[SlurmEngine, PlanRequest, Callable[[Any], None]]:
    """The Slurm at hand, with the workers of the request that are its nodes.

    See ``engines.dask.started``; a worker is lost by setting its node down.
    """
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise BadRequest(f"slurm: there is no command {missing[0]}; install Slurm's clients")
    machines = request.snapshot.workers
    states = run_command(NODES)
    there = set(re.findall(r"^NodeName=(\S+)", states, re.MULTILINE))
    known = tuple(w for w in machines if w.id in there)
    if not known:
        raise BadRequest(
            f"slurm: none of the workers is a node; the cluster file has "
            f"{', '.join([w.id for w in machines][:3])}, Slurm {', '.join(sorted(there)[:3])}"
        )
    # None may take jobs yet, as just after slurmctld has started: they are waited for.
    engine = SlurmEngine(known, batch=batch, since_s=since_s)
    request = replace(request, snapshot=replace(request.snapshot, workers=known))
    began, left = time.monotonic(), dict(losses)

    def on_step(_: Any) -> None:
        for name, after_s in list(left.items()):
            if time.monotonic() - began >= after_s:
                del left[name]
                run_command(["scontrol", "update", f"NodeName={name}", "State=DOWN",
                             "Reason=plancast-lose"])  # fmt: skip

    return engine, begun_at(request, engine.now_s()), on_step
