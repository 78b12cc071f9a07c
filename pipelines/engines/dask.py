"""Dask distributed as an engine: scheduler, workers and tasks are processes.

Every piece of an order is one Dask task, pinned to one worker's address, with the worker's
resources. The scheduler keeps books that outlive the master (``dask_books``); a worker that
comes back has another address, so that nothing of before runs there again by itself.
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from plancast.pipelines.engines.base import (
    DEVICES,
    PREEMPT,
    Ended,
    EngineEvent,
    EnvironmentFailed,
    Key,
    Order,
    Standing,
    Started,
    Unreachable,
    WorkerDown,
    WorkerUp,
    piece_output,
    safe_name,
)
from plancast.pipelines.engines.dask_keeper import Keeper, write_note
from plancast.pipelines.engines.dask_tls import CLOSED_ROUTES, ClusterKey
from plancast.pipelines.engines.processes import ProcessId
from plancast.pipelines.engines.shift import begun_at
from plancast.planner.model.domain import BadRequest, Outcome, Worker
from plancast.planner.model.messages import PlanRequest

_log = logging.getLogger("plancast.master.dask")

POLL_S = 0.05
"""How often the books are read while a master waits."""
READY_S = 60.0
"""Longest time that scheduler and workers may take to come up."""
STILL_S = 180.0
"""Longest time that a scheduler whose process lives may not answer a new master."""
ANSWER_S = 10.0
"""Longest wait for one answer of the scheduler; then it is checked whether its process lives."""
THREADS = 64
"""Threads of a worker: each only waits for a process; its resources say how many there may be."""
SCHEDULER, WORKER = "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"
NOTE = "cluster.json"
HEARTBEATS: Mapping[str, str] = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "None"}
"""Environment of the scheduler, which counts seconds since heartbeats by the wall clock: when that
steps, as after a machine was suspended, all workers would be dismissed, with what they run. That
a worker on the same machine has died is seen by its connection."""
CLUSTER_MODULES = frozenset({SCHEDULER, WORKER})
WORST = (Outcome.CANCELLED, Outcome.TIMEOUT, Outcome.FAILED)
"""Of the pieces of a gang the outcome that is reported."""
SCHEDULER_NAME = "(scheduler)"

Found = TypeVar("Found")


class DaskEngine:
    """A running Dask scheduler as an engine.

    Parameters
    ----------
    address : str
        Of the scheduler.
    machines : sequence of Worker
        What the workers are, by their Dask names.
    processes : mapping of str to ProcessId, optional
        Processes that belong to this engine: ``stop`` ends them.
    key : ClusterKey
        Of the cluster.
    batch : str
        Identity of the batch, the same for every master that carries it out.
    answer_s : float
        Longest wait for the scheduler's first answers.
    """

    name = "dask"
    capabilities = frozenset({PREEMPT, DEVICES})
    step_s = 1.0
    begins_s = 1

    def __init__(
        self,
        address: str,
        machines: Sequence[Worker],
        processes: Mapping[str, ProcessId] | None = None,
        *,
        key: ClusterKey,
        batch: str,
        answer_s: float = READY_S,
    ) -> None:
        from distributed import Client

        from plancast.pipelines.engines.dask_plugin import keep_books

        self.machines = {w.id: w for w in machines}
        self.processes = dict(processes or {})
        self.key = key
        self.batch = batch
        self.keeper: Keeper | None = None
        """Starts workers again that die, where that is wanted."""
        self.keys: dict[str, Key] = {}
        """Orders that messages are reported of, by their names on the scheduler."""
        self.reported: set[tuple[Key, str]] = set()
        """Which of them were reported to run or to have ended: the books tell it of every piece."""
        self.client: Any = Client(  # type: ignore[no-untyped-call]
            address, timeout=answer_s, set_as_default=False, security=key.security()
        )
        # All that befalls the client reaches us as an exception or as its status.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        self.seen = 0
        self.address_of: dict[str, str] = {}
        self.name_of: dict[str, str] = {}
        client: Any = self.client
        try:
            client.run_on_scheduler(keep_books, callback_timeout=answer_s)
            self._read()  # what was before is asked for by ``status``
        except BaseException:
            client.close(timeout=ANSWER_S)
            raise

    def now_s(self) -> int:
        """The clock of the machine at hand."""
        return int(time.time())

    def steady_s(self) -> float:
        """Seconds that only count."""
        return time.monotonic()

    def workers(self) -> tuple[Worker, ...]:
        """Workers that are connected now."""
        return tuple(self.machines[n] for n in self.address_of if n in self.machines)

    def closed(self) -> frozenset[str]:
        """None: a worker of Dask takes work as long as it is there."""
        return frozenset()

    def start(self, order: Order) -> None:
        """Submit every piece, pinned; a key that the scheduler knows is not submitted again."""
        self._asked(lambda: self._submit(order))

    def _submit(self, order: Order) -> None:
        from plancast.pipelines.engines.dask_plugin import piece_name, run_command

        known = self._runs([order.key])[order.key]
        pieces = len(order.workers)
        for number, worker in enumerate(order.workers):
            name = piece_name(self._name(order.key), number, pieces)
            address = self.address_of.get(worker)
            if name in known or address is None:
                continue
            # The books want it: it goes on without us, and its result is let go of when it ends.
            self.client.submit(
                run_command, name, order.argv or ("true",), order.environ_of(number), order.limit_s,
                piece_output(order.output, number, pieces), key=name, workers=[address],
                allow_other_workers=False, pure=False, retries=0,
                resources={r: a for r, a in order.demand.items() if a},
            )  # fmt: skip

    def cancel(self, key: Key) -> None:
        """Kill what runs of an order, and take back what does not."""
        self._asked(lambda: self._call_off(key))

    def _call_off(self, key: Key) -> None:
        from distributed import Future

        from plancast.pipelines.engines.dask_plugin import call_off

        for name, run in self._runs([key])[key].items():
            if run["state"] == "ended":
                continue
            # One that has no worker yet may get it in this moment: then every one is informed.
            known = set(self.address_of.values())
            where = sorted(known & {run["address"]} or known)
            killed = self.client.run(call_off, name, workers=where, on_error="ignore")
            if any(killed.values()):
                continue
            self.client.cancel([Future(name, client=self.client)], force=True)

    def events(self, wait_s: float) -> list[EngineEvent]:
        """What the books have that is new."""
        until = time.monotonic() + wait_s
        while True:
            if self.keeper is not None:
                self.keeper.look(self.address_of, self.machines)
            found = self._asked(self._read)
            if found or time.monotonic() >= until:
                return found
            time.sleep(min(POLL_S, max(0.0, until - time.monotonic())))

    def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
        """What the books say of orders."""
        runs = self._asked(lambda: self._runs(keys))
        return {key: _together(runs[key]) for key in keys}

    def close(self) -> None:
        """Let go of the scheduler; everything runs on."""
        self.client.close()

    def stop(self) -> None:
        """End the processes that belong to this engine."""
        self.close()
        for process in self.processes.values():
            process.kill()

    # ------------------------------------------------------------------ inside

    def _asked(self, call: Callable[[], Found]) -> Found:
        """A call to the scheduler, whose failure is distinguished from its death."""
        try:
            return call()
        except (OSError, TimeoutError, RuntimeError) as why:
            if isinstance(why, RuntimeError) and self.client.status == "running":
                raise
            scheduler = self.processes.get(SCHEDULER_NAME)
            if self.client.status == "closed" or (scheduler is not None and not scheduler.alive):
                raise EnvironmentFailed("dask: the scheduler has ended") from None
            raise Unreachable(f"dask: {why}") from None

    def _name(self, key: Key) -> str:
        from plancast.pipelines.engines.dask_plugin import PREFIX

        name = f"{PREFIX}{self.batch}-{key[1]}-{safe_name(key[0])}"
        self.keys[name] = key
        return name

    def _runs(self, keys: Collection[Key]) -> dict[Key, dict[str, dict[str, Any]]]:
        """The pieces of orders, by the books."""
        from plancast.pipelines.engines.dask_plugin import read_runs

        names = {self._name(key): key for key in keys}
        found = self.client.run_on_scheduler(read_runs, list(names), callback_timeout=ANSWER_S)
        return {key: found[name] for name, key in names.items()}

    def _read(self) -> list[EngineEvent]:
        from plancast.pipelines.engines.dask_plugin import read_log

        found: list[EngineEvent] = []
        for entry in self.client.run_on_scheduler(read_log, self.seen, callback_timeout=ANSWER_S):
            self.seen = entry["number"] + 1
            result = self._event(entry)
            if result is not None:
                found.append(result)
        return found

    def _event(self, entry: dict[str, Any]) -> EngineEvent | None:
        from plancast.pipelines.engines.dask_plugin import order_of

        at_s = int(entry["at"])
        if entry["kind"] == "up":
            name = entry["worker"]
            self.address_of[name], self.name_of[entry["address"]] = entry["address"], name
            machine = self.machines.get(name)
            return None if machine is None else WorkerUp(machine, at_s)
        if entry["kind"] == "down":
            name = self.name_of.get(entry["address"], "")
            if self.address_of.get(name) != entry["address"]:
                return None  # it is back already, under another address
            del self.address_of[name]
            return WorkerDown(name, at_s)
        key = self.keys.get(order_of(entry["key"]))
        if key is None:
            return None  # of another batch, or of an order that nobody waits for
        # A gang begins and ends with all its pieces: only the whole is reported, and once.
        stands = self.status([key])[key]
        if (key, stands.state) in self.reported:
            return None
        self.reported.add((key, stands.state))
        if stands.state == "running" and stands.start_s is not None:
            return Started(key, stands.start_s)
        if stands.state == "ended":
            end_s = at_s if stands.end_s is None else stands.end_s
            start_s = end_s if stands.start_s is None else stands.start_s
            outcome = stands.outcome or Outcome.FAILED
            return Ended(key, start_s, end_s, outcome, stands.reason)
        return None


def _together(runs: Mapping[str, dict[str, Any]]) -> Standing:
    """Where an order stands, from its pieces by Dask key."""
    from plancast.pipelines.engines.dask_plugin import pieces_of

    known = list(runs.values())
    if not known or len(known) < pieces_of(next(iter(runs))):
        return Standing("unknown")  # not every piece was sent
    starts = [run["start"] for run in known if run["start"] is not None]
    start_s = int(max(starts)) if starts else None
    if any(run["state"] == "lost" for run in known):
        return Standing("lost", start_s, int(max(run["end"] or 0 for run in known)))
    if any(run["state"] == "waiting" for run in known):
        return Standing("waiting")
    if any(run["state"] == "running" for run in known):
        return Standing("running", start_s)
    return _ended(known, start_s)


def _ended(known: list[dict[str, Any]], start_s: int | None) -> Standing:
    """How an order of which every piece has ended did."""
    outcomes = [Outcome(run["outcome"]) for run in known]
    worst = next((o for o in WORST if o in outcomes), Outcome.COMPLETED)
    end_s = math.ceil(max(run["end"] for run in known))
    reason = next((run["reason"] for run in known if run["outcome"] == worst.value), "")
    return Standing("ended", start_s, max(end_s, start_s or 0), worst, reason)


# ------------------------------------------------------------------ processes of our own


def local_cluster(
    machines: Sequence[Worker], folder: Path
) -> tuple[str, dict[str, ProcessId], ClusterKey]:
    """Start a scheduler and a process for each worker on this machine, on the loopback address.

    They belong to no terminal, and go on when their starter is killed. What an earlier starter
    left in this folder is ended first. Only who can read the folder can talk to them.

    Returns
    -------
    address : str
    processes : dict of str to ProcessId
        ``(scheduler)`` and the workers' names.
    key : ClusterKey
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    end_left_over(folder)
    key = ClusterKey.made_in(folder)
    book = folder / "scheduler.json"
    book.unlink(missing_ok=True)
    processes = {
        SCHEDULER_NAME: _spawn(
            [SCHEDULER, "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
             "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(book),
             *key.arguments()],
            folder / "scheduler.log",
        )
    }  # fmt: skip
    try:
        until = time.monotonic() + READY_S
        while not book.exists() or not book.read_text().strip():
            if time.monotonic() > until or not processes[SCHEDULER_NAME].alive:
                raise EnvironmentFailed(
                    f"dask: the scheduler does not come up; see {folder}/scheduler.log"
                )
            time.sleep(0.05)
        address = str(json.loads(book.read_text())["address"])
        for machine in machines:
            processes[machine.id] = spawn_worker(address, machine, folder)
    except BaseException:
        for process in processes.values():
            process.kill()
        raise
    return address, processes, key


def end_left_over(folder: Path) -> None:
    """End the scheduler and the workers whose files are in this folder, if there are any.

    Notes
    -----
    A master that is killed while its cluster starts has recorded none of the processes. They are
    known by their command lines, which name the folder, and not by pids: those may have gone
    to others.
    """
    import psutil

    folder = folder.resolve()
    named = {str(folder / "scheduler.json"), str(folder / "scratch")}
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if not CLUSTER_MODULES.isdisjoint(arguments) and not named.isdisjoint(arguments):
            found.append(ProcessId.of(process.pid))
    for left in found:
        left.kill()
    until = time.monotonic() + READY_S
    while any(left.alive for left in found) and time.monotonic() < until:
        time.sleep(0.02)


def spawn_worker(address: str, machine: Worker, folder: Path) -> ProcessId:
    """Start the process of one worker of the cluster in a folder."""
    folder = folder.resolve()
    resources = " ".join(f"{r}={a}" for r, a in machine.capacity.items())
    return _spawn(
        [WORKER, address, "--name", machine.id, "--nthreads", str(THREADS),
         "--no-nanny", "--no-dashboard", "--dashboard-address", "127.0.0.1:0",
         "--memory-limit", "0", "--resources", resources,
         "--host", "127.0.0.1", "--local-directory", str(folder / "scratch"),
         "--death-timeout", "60", *ClusterKey.in_(folder).arguments()],
        folder / f"{safe_name(machine.id)}.log",
    )  # fmt: skip


def _spawn(arguments: list[str], log: Path) -> ProcessId:
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=out, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **CLOSED_ROUTES, **HEARTBEATS},
        )  # fmt: skip
    return ProcessId.of(process.pid)


def wait_for(engine: DaskEngine, workers: int) -> None:
    """Wait until so many workers are connected."""
    until = time.monotonic() + READY_S
    while len(engine.workers()) < workers:
        if time.monotonic() > until:
            raise EnvironmentFailed(
                f"dask: {len(engine.workers())} of {workers} workers came up in {READY_S:g} s"
            )
        engine.events(0.2)


def started(
    request: PlanRequest, losses: Sequence[tuple[str, int]], folder: Path, batch: str,
    *, kept_up: bool = False,
) -> tuple[DaskEngine, PlanRequest, Callable[[Any], None]]:  # fmt: skip
    """The cluster of a folder, started if it is not there; the request from now on.

    Parameters
    ----------
    request : PlanRequest
    losses : sequence of (str, int)
        Workers to kill -9, and how many seconds after the beginning.
    folder : Path
        Keeps the scheduler's address, the processes' ids, their logs, and the cluster's key.
    batch : str
    kept_up : bool
        Whether workers that die are started again.

    Returns
    -------
    engine, request, on_step
        The last kills what is to be killed, when it is time.
    """
    machines = request.snapshot.workers
    for name, _ in losses:
        if name not in request.snapshot.worker_by_id:
            raise BadRequest(f"--lose {name}: there is no such worker")
    engine = _attached(folder, machines, batch)
    if engine is None:
        engine = _brought_up(folder, machines, batch)
    if kept_up:
        address = str(json.loads((folder / NOTE).read_text())["address"])
        engine.keeper = Keeper(
            address,
            engine.processes,
            lambda name: spawn_worker(address, request.snapshot.worker_by_id[name], folder),
            folder / NOTE,
        )  # fmt: skip
    began = time.monotonic()
    left = dict(losses)

    def on_step(_: Any) -> None:
        for name, after_s in list(left.items()):
            if time.monotonic() - began >= after_s:
                del left[name]
                engine.processes[name].kill()

    return engine, begun_at(request, engine.now_s()), on_step


def _brought_up(folder: Path, machines: Sequence[Worker], batch: str) -> DaskEngine:
    """A new cluster; where it does not come up whole nothing of it is left running."""
    address, processes, key = local_cluster(machines, folder)
    try:
        write_note(folder / NOTE, address, processes)
        try:
            engine = DaskEngine(address, machines, processes, key=key, batch=batch)
        except (OSError, TimeoutError) as why:
            raise EnvironmentFailed(f"dask: the new scheduler does not answer: {why}") from None
        wait_for(engine, len(machines))
    except BaseException:
        for process in processes.values():
            process.kill()
        raise
    return engine


def _attached(folder: Path, machines: Sequence[Worker], batch: str) -> DaskEngine | None:
    """The engine of a cluster that an earlier master left behind, if it is still there."""
    note, until = folder / NOTE, time.monotonic() + STILL_S
    if not note.exists():
        return None
    try:
        known = json.loads(note.read_text())
        address = str(known["address"])
        processes = {name: ProcessId(*row) for name, row in known["processes"].items()}
        scheduler = processes[SCHEDULER_NAME]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        # Of another version, or damaged: what runs of it is ended by the new one.
        _log.warning("%s cannot be read (%r): a new cluster is started", note, why)
        return None
    key, said = ClusterKey.in_(folder.resolve()), ""
    # One that stands still has what runs, and is not ended for it; one that dies is found out.
    while scheduler.alive and time.monotonic() < until:
        try:
            return DaskEngine(address, machines, processes, key=key, batch=batch, answer_s=ANSWER_S)
        except (OSError, TimeoutError) as why:
            said = f"does not answer: {why}"
    _log.warning(
        "the scheduler at %s %s: a new cluster is started, and what runs on the old one ended",
        address, said if scheduler.alive else "has ended",
    )  # fmt: skip
    return None
