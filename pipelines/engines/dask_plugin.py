"""What runs inside Dask: the books that the scheduler keeps, and how a worker runs a command."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

NAME = "plancast-books"
PREFIX = "plancast-"
"""Of the keys of our runs."""
TIMEOUT = "plancast: killed at its limit"
FAILED = "plancast: failed"
CANCELLED = "plancast: cancelled"
PROCESSES: dict[str, int] = {}
"""On a worker: process group of each run of ours."""
CALLED_OFF: set[str] = set()
"""On a worker: runs that were killed because they are wanted no more."""


def piece_name(order: str, piece: int, pieces: int) -> str:
    """The Dask key of a piece of an order."""
    return f"{order}.{piece}of{pieces}"


def order_of(name: str) -> str:
    """The order that a piece belongs to."""
    return name.rpartition(".")[0]


def pieces_of(name: str) -> int:
    """How many pieces the order of a piece has."""
    return int(name.rpartition("of")[2])


class Books(SchedulerPlugin):
    """Every run of ours and every worker, as the scheduler saw them; outlives the master.

    ``log`` is a list of entries, each with the number of its place; a client reads on from the
    last one it has seen. ``runs`` has the state of every piece that was ever ours, ``orders``
    the same by order.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.log: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.orders: dict[str, dict[str, dict[str, Any]]] = {}

    def update_graph(self, scheduler: Scheduler, *, keys: Collection[Any], **_: Any) -> None:
        """Want our runs here from the moment that they are known, whatever becomes of the client.

        A client that is killed just after it has handed in a run, and before it says that it will
        not wait for it, would take it back with its death while a worker runs it.
        """
        ours = [key for key in keys if isinstance(key, str) and key.startswith(PREFIX)]
        if ours:
            scheduler.client_desires_keys(keys=ours, client="fire-and-forget")

    async def start(self, scheduler: Scheduler) -> None:
        """Be informed by the scheduler; write down the workers that are there already."""
        self.scheduler = scheduler
        for address in scheduler.workers:
            self.add_worker(scheduler, address)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """A worker has joined."""
        name = str(scheduler.workers[worker].name)
        self._add(kind="up", worker=name, address=worker)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """A worker is gone, and what ran there with it."""
        for run in self.runs.values():
            if run["address"] == worker and run["state"] in ("waiting", "running"):
                run["state"], run["end"] = "lost", time.time()
        self._add(kind="down", address=worker)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **details: Any) -> None:
        """A key has changed its state."""
        if not isinstance(key, str) or not key.startswith(PREFIX):
            return
        run = self._run(key)
        if run["state"] in ("lost", "ended"):
            return
        if finish == "processing":
            on = self.scheduler.tasks[key].processing_on
            address = "" if on is None else on.address
            run.update(state="running", start=time.time(), address=address)
            self._add(kind="started", key=key)
        elif finish in ("memory", "erred"):
            self._measure(run, details)
            run["outcome"], run["reason"] = (
                _fate(details) if finish == "erred" else ("completed", "")
            )
            run["state"] = "ended"
            self._add(kind="ended", key=key)
        elif finish == "forgotten" and start in ("processing", "waiting", "released", "no-worker"):
            run.update(state="ended", end=time.time(), outcome="cancelled")
            self._add(kind="ended", key=key)

    def _measure(self, run: dict[str, Any], details: dict[str, Any]) -> None:
        run["end"] = time.time()
        for span in details.get("startstops") or ():
            if span["action"] == "compute":
                run["start"], run["end"] = span["start"], span["stop"]

    def _run(self, key: str) -> dict[str, Any]:
        if key not in self.runs:
            self.runs[key] = {"state": "waiting", "start": None, "end": None, "outcome": None,
                              "reason": "", "address": ""}  # fmt: skip
            self.orders.setdefault(order_of(key), {})[key] = self.runs[key]
        return self.runs[key]

    def _add(self, **entry: Any) -> None:
        self.log.append({"number": len(self.log), "at": time.time(), **entry})


async def keep_books(dask_scheduler: Scheduler | None = None) -> None:
    """Have the scheduler keep books from now on, if it does not yet; runs on the scheduler."""
    assert dask_scheduler is not None
    if NAME not in dask_scheduler.plugins:
        books = Books()
        await books.start(dask_scheduler)
        dask_scheduler.add_plugin(books, name=NAME)


def read_log(since: int, dask_scheduler: Scheduler | None = None) -> list[dict[str, Any]]:
    """Entries of the books from a place on; runs on the scheduler."""
    assert dask_scheduler is not None
    books: Any = dask_scheduler.plugins[NAME]
    return [
        {**entry, "run": dict(books.runs[entry["key"]])} if "key" in entry else entry
        for entry in books.log[since:]
    ]


def read_runs(
    orders: list[str], dask_scheduler: Scheduler | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """What the books say of the pieces of orders, by Dask key; runs on the scheduler."""
    assert dask_scheduler is not None
    books: Any = dask_scheduler.plugins[NAME]
    return {
        order: {name: dict(run) for name, run in books.orders.get(order, {}).items()}
        for order in orders
    }


def _fate(details: dict[str, Any]) -> tuple[str, str]:
    """Outcome and reason of a piece that erred."""
    text = str(details.get("exception_text") or details.get("exception") or "")
    if CANCELLED in text:
        return "cancelled", ""
    if TIMEOUT in text:
        return "timeout", "killed at its limit"
    found = re.search(rf"{FAILED}: ([^\n]*?)['\")]*$", text)
    return "failed", found.group(1) if found else text[:200]


def call_off(name: str) -> bool:
    """Kill a run of ours, or let it not begin; runs on its worker. Whether it was there.

    It is noted before it is looked for, and looked up after it is noted to run: one of the
    two sees the other, whichever comes first.
    """
    CALLED_OFF.add(name)
    group = PROCESSES.get(name)
    if group is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return True


def run_command(
    name: str, argv: tuple[str, ...], environ: dict[str, str], limit_s: float | None, output: str
) -> None:
    """Run a program in a process group of its own, and kill that at the limit.

    Parameters
    ----------
    name : str
        Dask key of the piece.
    argv : tuple of str
        Program and arguments; no shell takes part.
    environ : dict of str to str
        Added to the worker's environment.
    limit_s : float, optional
    output : str
        File that standard output and error are appended to; empty: they are discarded.

    Raises
    ------
    RuntimeError
        With ``TIMEOUT``, ``CANCELLED`` or ``FAILED`` in its text.
    """
    if name in CALLED_OFF:
        raise RuntimeError(CANCELLED)
    group, watch = _watcher()
    try:
        with Path(output or os.devnull).open("ab") as sink:
            process = subprocess.Popen(
                argv, process_group=group, stdin=subprocess.DEVNULL, stdout=sink,
                stderr=subprocess.STDOUT, env={**os.environ, **environ},
            )  # fmt: skip
    except OSError as error:
        os.close(watch)
        raise RuntimeError(f"{FAILED}: {error.filename}: {error.strerror}") from None
    PROCESSES[name] = group
    if name in CALLED_OFF:
        os.killpg(group, signal.SIGKILL)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(group, signal.SIGKILL)
        process.wait()
        raise RuntimeError(TIMEOUT) from None
    finally:
        del PROCESSES[name]
        os.close(watch)
    if name in CALLED_OFF:
        raise RuntimeError(CANCELLED)
    if code != 0:
        raise RuntimeError(f"{FAILED}: {f'exit code {code}' if code > 0 else f'signal {-code}'}")


def _watcher() -> tuple[int, int]:
    """A process group that dies when this process does, kill -9 included; what joins it does, too.

    Its first member, the watcher, reads from a pipe whose other end only this process holds, and
    which the system closes when it dies. It is there before the run, so that no run is without it,
    and holds the group's number, so that no stranger is killed by it. Returns the group and that
    end; to close it ends the group.
    """
    read, write = os.pipe()
    # What a run sends to its own group, as ``kill 0`` does, is not meant for the watcher: no run
    # joins before the watcher has said that it ignores that.
    script = "trap '' HUP INT QUIT TERM; echo; exec >/dev/null; cat; kill -9 -$$"
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=read, process_group=0, close_fds=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read)
    assert watcher.stdout is not None
    with watcher.stdout as ready:
        ready.read(1)
    return watcher.pid, write
