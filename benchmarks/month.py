"""A master that stays for a month: how long from an event to the decision, and how much memory.

Run with ``python -m benchmarks.month``: 100,000 tasks come to 1,000 workers over 30 simulated
days, by day and by night, with arrays of hundreds, so that thousands wait at times. The cluster
is simulated on a clock of its own that jumps from one look of the master to the next; the master,
its desk, its state on the disk and the planner in its own process are those of ``plancast master
serve``. At each look all that has happened since the last one is heard together, which is more
than a look has to do in a month of the world's clock. The latency of a look is the time from then
until the last order is sent, promises are made and others can see it.

``--tree`` measures other code than this one: the same script on the packages of another folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plancast.pipelines.engines.base import EngineEvent
from plancast.pipelines.engines.sim import SimEngine, overloads
from plancast.pipelines.master.desk import Ask, Desk, NewTask
from plancast.pipelines.master.living import WINDOW, Living
from plancast.pipelines.master.living_account import living_account
from plancast.pipelines.master.planner_link import PatientPlanner
from plancast.pipelines.master.state import State, estimates_text
from plancast.planner.model.domain import (
    ANY_CLASS,
    SCENARIOS,
    DurationEstimate,
    Policy,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.controller import Controller, ControlPolicy

START_S = 1_700_000_000
DAY_S = 86_400
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
NORMAL = (-1.2816, -0.5244, 0.0, 0.5244, 1.2816)
"""Quantiles of the normal distribution at these levels."""
SPREAD = 0.5
"""Standard deviation of a forecast, of the logarithm of the run time."""
KINDS = ((8, 0.4), (16, 0.4), (32, 0.2))
"""Cores of the workers, and how many have so many."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_S = os.sysconf("SC_CLK_TCK")
WARM_LOOK_S = 3_600
MEMORY_GB, FLAT = 1.5, 1.05
"""What is asked for: the most memory, and its growth over the last half."""


@dataclass(frozen=True)
class Coming:
    """A task, when it comes, its forecast and how long it really runs."""

    at_s: int
    task: Task
    estimate: DurationEstimate
    run_s: int


def cluster(workers: int) -> tuple[Worker, ...]:
    """Workers of three kinds, in turn."""
    found = []
    for k in range(workers):
        part = (k * 0.6180339887) % 1.0
        cores = KINDS[0][0] if part < 0.4 else KINDS[1][0] if part < 0.8 else KINDS[2][0]
        found.append(
            Worker(f"w{k}", {"cpu": 1000 * cores, "mem": 4096 * cores}, machine_class=f"c{cores}",
                   idle_w=10.0 * cores, busy_w=8.0 * cores)
        )  # fmt: skip
    return tuple(found)


def arrivals(
    tasks: int, workers: tuple[Worker, ...], days: float, load: float, seed: int
) -> list[Coming]:
    """Tasks by the time at which they come; most by day, a third of them in arrays.

    Parameters
    ----------
    tasks : int
    workers : tuple of Worker
    days : float
    load : float
        Part of the cluster's cores that they need over these days.
    seed : int
    """
    rng = np.random.default_rng([seed, 7])
    moments: list[tuple[float, str, int]] = []
    span_s, first = days * DAY_S, 0
    while first < tasks:
        at_s = float(rng.uniform(0, span_s))
        # Three of four come by day.
        if (at_s % DAY_S) / DAY_S > 0.5 and rng.random() < 2 / 3:
            continue
        array = rng.random() < 0.004
        number = min(tasks - first, int(rng.integers(20, 200)) if array else 1)
        moments += [(at_s, f"t{first + k}", first if array else -1) for k in range(number)]
        first += number
    moments.sort()
    cores = np.minimum(8, 2 ** rng.integers(0, 4, tasks))
    shape = np.exp(rng.normal(0.0, 1.0, tasks))
    total = sum(w.capacity["cpu"] for w in workers) / 1000 * span_s * load
    median = shape * total / float((cores * shape * np.exp(rng.normal(0, SPREAD, tasks))).sum())
    found = []
    for k, (at_s, name, array_of) in enumerate(moments):
        like = k if array_of < 0 else array_of  # an array's tasks are alike
        expected, many = float(median[like]), int(cores[like])
        quantiles = tuple(max(1, round(expected * np.exp(SPREAD * z))) for z in NORMAL)
        run_s = max(1, round(expected * float(np.exp(rng.normal(0, SPREAD)))))
        task = Task(
            name, {"cpu": 1000 * many, "mem": 2048 * many}, START_S + int(at_s),
            owner=f"u{int(rng.integers(20))}", weight=float(rng.choice([1, 1, 1, 4])),
            requested_s=round(expected * 8),
        )  # fmt: skip
        found.append(
            Coming(START_S + int(at_s), task, DurationEstimate(LEVELS, quantiles, "month"), run_s)
        )
    return found


class Looked(SimEngine):
    """A simulated cluster that tells all that has happened up to the moment it is looked at."""

    look_s: int = 0

    def events(self, wait_s: float) -> list[EngineEvent]:
        """What has happened until ``look_s``."""
        found: list[EngineEvent] = []
        while True:
            more = super().events(max(0, self.look_s - self.clock))
            if not more:
                return found
            found += more

    def forget(self) -> None:
        """Let go of runs that have ended: a real cluster's books are not in the master's memory."""
        self.runs = {key: run for key, run in self.runs.items() if run.end_s is None}


def megabytes() -> float:
    """Memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def child_of(planner: PatientPlanner) -> tuple[float, float]:
    """CPU seconds and megabytes of the planner's process."""
    process = planner._process
    if process is None or process._process.pid is None:
        return 0.0, 0.0
    folder = Path(f"/proc/{process._process.pid}")
    try:
        fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        pages = int((folder / "statm").read_text().split()[1])
    except OSError:
        return 0.0, 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_S, pages * PAGE_BYTES / 1e6


class Month:
    """One run; ``facts`` is what was measured.

    Parameters
    ----------
    wanted : argparse.Namespace
        See ``options``.
    folder : Path
        For the state.
    """

    def __init__(self, wanted: argparse.Namespace, folder: Path) -> None:
        self.wanted = wanted
        workers = cluster(wanted.workers)
        self.coming = arrivals(wanted.tasks, workers, wanted.days, wanted.load, wanted.seed)
        known = {c.task.id: c.run_s for c in self.coming}
        self.engine = Looked(workers, lambda task, _: known[task], START_S, seed=wanted.seed)
        seconds, steps = (None, wanted.steps) if wanted.steps else (0.05, None)
        full = Budget(2.0) if not wanted.steps else Budget(None, 4 * wanted.steps)
        control = ControlPolicy(repair_budget=Budget(seconds, steps), replan_budget=full)
        self.planner = PatientPlanner(control)
        request = PlanRequest(
            "month", Snapshot(0, START_S, workers), {}, Policy(scenarios=SCENARIOS)
        )
        self.state = State(folder / "month.db")
        self.state.begin(request)
        self.master = Living(
            self.state, self.engine, Controller(request, control), self.planner,
            window=wanted.window,
        )  # fmt: skip
        self.latency: list[float] = []
        self.cpu: list[float] = []
        self.heard: list[int] = []
        self.memory: list[tuple[float, float, float]] = []
        self.most_waiting = self.ended = 0

    def run(self) -> dict[str, Any]:
        """Let the month pass."""
        master, wanted = self.master, self.wanted
        self.planner.start()
        while self.planner.loading:
            time.sleep(0.1)
        master.recover()
        desk = master.desk = Desk(
            self.state, workers=lambda: (), now_s=lambda: master.mind.snapshot.now_s,
        )  # fmt: skip
        began, cpu = time.monotonic(), time.process_time()
        child = child_of(self.planner)[0]
        todo = iter(self._waves())
        wave = next(todo, None)
        look = START_S
        while wave is not None or not master.done or desk.untaken:
            warm = look - START_S >= wanted.warm_up * DAY_S
            look += wanted.look if warm else WARM_LOOK_S
            self.engine.look_s = look
            new: list[Coming] = []
            while wave is not None and wave[0].at_s <= look:
                new += wave
                wave = next(todo, None)
            for at in range(0, len(new), 500):
                desk.put(Ask("submit", {"command": ""}, None, [
                    NewTask(c.task, "", estimates_text({c.task.id: {ANY_CLASS: c.estimate}}))
                    for c in new[at : at + 500]
                ])).result()  # fmt: skip
            self._look(measured=warm)
            if time.monotonic() - began > wanted.minutes * 60:
                break
        facts = self._facts(time.monotonic() - began, time.process_time() - cpu, child, look)
        if wanted.account:
            master.settle()
            facts |= living_account(self.state)
        desk.close()
        self.planner.close()
        self.state.close()
        return facts

    def _waves(self) -> Iterator[list[Coming]]:
        wave: list[Coming] = []
        for one in self.coming:
            if wave and one.at_s != wave[0].at_s:
                yield wave
                wave = []
            wave.append(one)
        if wave:
            yield wave

    def _look(self, measured: bool) -> None:
        master, before = self.master, self.master.state.last_event
        child, cpu, began = child_of(self.planner)[0], time.process_time(), time.perf_counter()
        master.step(0.0)
        took_s = time.perf_counter() - began
        heard = master.state.last_event - before
        if heard and measured:
            self.latency.append(took_s)
            self.cpu.append(time.process_time() - cpu + child_of(self.planner)[0] - child)
            self.heard.append(heard)
        waiting = len(master.mind.snapshot.pending) + (master.desk.untaken if master.desk else 0)
        self.most_waiting = max(self.most_waiting, waiting)
        looks = len(self.latency)
        if measured and looks % 100 == 0:
            self.memory.append((time.monotonic(), megabytes(), child_of(self.planner)[1]))
            if not self.wanted.account and looks % 1000 == 0:
                assert overloads(self.engine) == []
                self.engine.forget()
        if self.wanted.verbose and measured and looks % 100 == 0:
            day = (master.mind.snapshot.now_s - START_S) / DAY_S
            last = sorted(self.latency[-100:]) or [0.0] * 100
            print(
                f"day {day:5.2f}: {len(master.mind.snapshot.running)} run, {waiting} wait, look "
                f"{last[50]:.3f} s / {last[95]:.3f} s (p95), {sum(self.heard[-100:])} events, "
                f"{megabytes():.0f} MB",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    def _facts(self, wall_s: float, cpu_s: float, child: float, look: int) -> dict[str, Any]:
        half = self.memory[len(self.memory) // 2 :] or [(0.0, megabytes(), 0.0)]
        both = [own + theirs for _, own, theirs in half]
        third = max(1, len(both) // 3)
        rows = self.master.submitted.outcomes()
        kept, broken = self.master.submitted.kept_and_broken()
        return {
            "looks": len(self.latency), "events": sum(self.heard), "wall_s": round(wall_s, 1),
            "cpu_s": round(cpu_s + child_of(self.planner)[0] - child, 1),
            "days": round((look - START_S) / DAY_S, 2),
            "latency_s": _levels(self.latency), "look_cpu_s": _levels(self.cpu),
            "most_waiting": self.most_waiting, "ended": rows,
            "promises": [kept, broken], "refused_plans": len(self.master.refused),
            "planners_lost": self.planner.lost,
            "most_memory_gb": round(max(both) / 1e3, 3),
            "memory_growth": round(
                float(np.mean(both[-third:])) / max(1.0, float(np.mean(both[:third]))), 3
            ),
        }  # fmt: skip


def _levels(values: list[float]) -> dict[str, float]:
    found = np.quantile(values, (0.5, 0.95, 0.99, 1.0)) if values else np.zeros(4)
    values = [round(float(v), 4) for v in found]
    return dict(zip(("p50", "p95", "p99", "most"), values, strict=True))


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """What is to be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--load", type=float, default=0.85, help="share of all cores")
    parser.add_argument("--look", type=int, default=240, help="seconds between two looks")
    parser.add_argument(
        "--warm-up", type=float, default=0.0, help="days with a look an hour, not measured"
    )
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0, help="moves of a repair, not seconds")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so many")
    parser.add_argument("--account", action="store_true", help="price what really ran")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args(arguments)


def main() -> None:
    """Run it, and print what was measured as JSON."""
    wanted = options()
    with tempfile.TemporaryDirectory() as folder:
        facts = Month(wanted, Path(folder)).run()
    print(json.dumps(vars(wanted) | facts))


if __name__ == "__main__":
    main()
