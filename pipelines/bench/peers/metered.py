"""CPU seconds in place of wall seconds, so that a busy machine favours no solver.

Within ``cpu_seconds()`` this process's ``time.perf_counter`` advances by the CPU time of its
busiest thread (of its child processes too): on idle cores that is the wall clock, on
crowded ones it goes slower. CP-SAT reads the wall clock itself; there, a watcher stops the
search when the limit is reached on this clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 10.0
"""How many times its limit CP-SAT may take on the wall clock before it stops by itself."""
TICK_S = 0.02
READ_S = 0.002
"""A reading is good for so long: one takes a tenth of that, and searches ask all the time."""
WINDOW_S = 0.05
"""Threads that take turns within this time count as one that is as busy as the busiest."""


class BusiestThread:
    """A clock that advances by the CPU time of the busiest thread, window by window."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened, self._at_s = _cpu_by_thread(), 0.0
        self._read_at, self._reading_s = time.monotonic(), 0.0

    def __call__(self) -> float:
        """Seconds since the clock was made, up to ``READ_S`` ago."""
        if time.monotonic() - self._read_at < READ_S:
            return self._reading_s
        with self._lock:
            cpu = _cpu_by_thread()
            steps = (at - self._opened.get(thread, 0.0) for thread, at in cpu.items())
            step_s = max(0.0, *steps)
            now_s = self._at_s + step_s
            if step_s >= WINDOW_S:
                self._opened, self._at_s = cpu, now_s
            self._reading_s, self._read_at = max(now_s, self._reading_s), time.monotonic()
            return self._reading_s


def _cpu_by_thread() -> dict[str, float]:
    """CPU seconds of every thread of this process and its children."""
    found = {}
    children = []
    for thread in Path("/proc/self/task").iterdir():
        try:
            # Up to this moment; what /proc tells of a thread that runs is some ticks old.
            found[thread.name] = time.clock_gettime(_clock_of(int(thread.name)))
            children += (thread / "children").read_text().split()
        except OSError:  # it has just ended
            continue
    waiting = [Path(f"/proc/{c}/task") for c in children]
    while waiting:
        try:
            for thread in waiting.pop().iterdir():
                found[thread.name] = int((thread / "schedstat").read_text().split()[0]) / 1e9
                children = (thread / "children").read_text().split()
                waiting += [Path(f"/proc/{c}/task") for c in children]
        except OSError:
            continue
    return found


def _clock_of(thread: int) -> int:
    """The CPU clock of a thread of this process: MAKE_THREAD_CPUCLOCK of linux/posix-timers.h."""
    return (~thread << 3) | 6


@contextmanager
def cpu_seconds() -> Iterator[BusiestThread]:
    """Let limits count CPU seconds inside the block (Linux only)."""
    from ortools.sat.python import cp_model

    clock = BusiestThread()
    wall, solve = time.perf_counter, cp_model.CpSolver.solve
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(TICK_S):
            clock()  # threads that end between two readings of the solver's are not missed

    def metered(solver: Any, *arguments: Any, **options: Any) -> Any:
        limit_s = float(solver.parameters.max_time_in_seconds)
        until_s = clock() + limit_s
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(TICK_S):
                if clock() > until_s:
                    solver.stop_search()

        solver.parameters.max_time_in_seconds = PATIENCE * limit_s
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            return solve(solver, *arguments, **options)
        finally:
            ended.set()
            watcher.join()
            solver.parameters.max_time_in_seconds = limit_s

    ticker = threading.Thread(target=tick, daemon=True)
    time.perf_counter = clock
    cp_model.CpSolver.solve = metered
    ticker.start()
    try:
        yield clock
    finally:
        stop.set()
        ticker.join()
        time.perf_counter, cp_model.CpSolver.solve = wall, solve
