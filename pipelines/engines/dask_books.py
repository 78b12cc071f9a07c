"""What runs inside Dask: the books that the scheduler keeps, and how a worker runs a command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

NAME = "plancast-books"
TIMEOUT = "plancast: killed at its limit"
FAILED = "plancast: exit code"
CANCELLED = "plancast: cancelled"
PROCESSES: dict[str, int] = {}
"""On a worker: process group of each run of ours."""
CALLED_OFF: set[str] = set()
"""On a worker: runs that were killed because they are wanted no more."""


def name_of(task: str, attempt: int, piece: int, pieces: int) -> str:
    """The Dask key of a piece of an order."""
    return f"plancast-{attempt}-{piece}of{pieces}-{task}"


def parsed(name: str) -> tuple[str, int, int, int]:
    """Task, attempt, piece and pieces of a Dask key."""
    _, attempt, piece, task = name.split("-", 3)
    number, pieces = piece.split("of")
    return task, int(attempt), int(number), int(pieces)


class Books(SchedulerPlugin):
    """Every run of ours and every worker, as the scheduler saw them; outlives the master.

    ``log`` is a list of entries, each with the number of its place; a client reads on from the
    last one it has seen. ``runs`` has the state of every key that was ever ours.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.log: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Be told by the scheduler; write down the workers that are there already."""
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

    def transition(self, key: Any, start: str, finish: str, *_: Any, **told: Any) -> None:
        """A key has changed its state."""
        if not isinstance(key, str) or not key.startswith("plancast-"):
            return
        run = self.runs.setdefault(
            key, {"state": "waiting", "start": None, "end": None, "outcome": None, "address": ""}
        )
        if run["state"] in ("lost", "ended"):
            return
        if finish == "processing":
            on = self.scheduler.tasks[key].processing_on
            address = "" if on is None else on.address
            run.update(state="running", start=time.time(), address=address)
            self._add(kind="started", key=key)
        elif finish in ("memory", "erred"):
            self._measure(run, told)
            run["outcome"] = "completed" if finish == "memory" else self._why(told)
            run["state"] = "ended"
            self._add(kind="ended", key=key)
        elif finish == "forgotten" and start in ("processing", "waiting", "released", "no-worker"):
            run.update(state="ended", end=time.time(), outcome="cancelled")
            self._add(kind="ended", key=key)

    def _measure(self, run: dict[str, Any], told: dict[str, Any]) -> None:
        run["end"] = time.time()
        for span in told.get("startstops") or ():
            if span["action"] == "compute":
                run["start"], run["end"] = span["start"], span["stop"]

    def _why(self, told: dict[str, Any]) -> str:
        text = str(told.get("exception_text") or told.get("exception") or "")
        if CANCELLED in text:
            return "cancelled"
        return "timeout" if TIMEOUT in text else "failed"

    def _add(self, **entry: Any) -> None:
        self.log.append({"number": len(self.log), "at": time.time(), **entry})


def read_log(since: int, dask_scheduler: Scheduler | None = None) -> list[dict[str, Any]]:
    """Entries of the books from a place on; runs on the scheduler."""
    assert dask_scheduler is not None
    books: Any = dask_scheduler.plugins[NAME]
    return [
        {**entry, "run": dict(books.runs[entry["key"]])} if "key" in entry else entry
        for entry in books.log[since:]
    ]


def read_runs(
    keys: list[tuple[str, int]], dask_scheduler: Scheduler | None = None
) -> dict[tuple[str, int], dict[str, Any]]:
    """What the books say of the pieces of orders, by Dask key; runs on the scheduler."""
    assert dask_scheduler is not None
    books: Any = dask_scheduler.plugins[NAME]
    wanted: dict[tuple[str, int], dict[str, Any]] = {(task, attempt): {} for task, attempt in keys}
    for name, run in books.runs.items():
        task, attempt, *_ = parsed(name)
        if (task, attempt) in wanted:
            wanted[task, attempt][name] = dict(run)
    return wanted


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


def run_command(name: str, command: str, limit_s: float | None) -> None:
    """Run a command in a process group of its own, and kill that at the limit.

    Raises
    ------
    RuntimeError
        With ``TIMEOUT``, ``CANCELLED`` or ``FAILED`` in its text.
    """
    if name in CALLED_OFF:
        raise RuntimeError(CANCELLED)
    process = subprocess.Popen(
        command, shell=True, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    watch = _die_together(process.pid)
    PROCESSES[name] = process.pid
    if name in CALLED_OFF:
        os.killpg(process.pid, signal.SIGKILL)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise RuntimeError(TIMEOUT) from None
    finally:
        del PROCESSES[name]
        os.close(watch)
    if name in CALLED_OFF:
        raise RuntimeError(CANCELLED)
    if code != 0:
        raise RuntimeError(f"{FAILED} {code}")


def _die_together(group: int) -> int:
    """See to it that a process group dies when this process does, kill -9 included.

    A watcher reads from a pipe whose other end only this process holds, and which the system
    closes when it dies. Returns that end; to close it ends the watcher.
    """
    read, write = os.pipe()
    script = f"cat >/dev/null; kill -9 -{group} 2>/dev/null"
    subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=read, start_new_session=True, close_fds=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read)
    return write
