"""A simulated cluster on a clock of its own, which can be made to misbehave.

It outlives its master, as a real cluster does: a new master may be put before the same engine.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from plancast.pipelines.engines.base import (
    DEVICES,
    PREEMPT,
    Ended,
    EngineEvent,
    Held,
    Key,
    Order,
    Standing,
    Started,
    Unreachable,
    WorkerClosed,
    WorkerDown,
    WorkerUp,
)
from plancast.planner.model.domain import (
    DEVICE,
    GPU,
    BadRequest,
    Outcome,
    Worker,
    estimate_for,
)
from plancast.planner.model.messages import PlanRequest

STEP_S = 60.0
"""How far the clock goes where nothing is scheduled to happen."""


@dataclass(frozen=True)
class Faults:
    """How the simulated cluster misbehaves.

    Parameters
    ----------
    lost, twice, late : float
        Chance that a message to the master is lost, comes twice, comes late.
    late_s : int
        Most seconds by which a late one is late.
    deaf : float
        Chance that an order to the engine is lost on its way.
    clock_s : int
        The clock that messages carry is off by up to so many seconds, either way.
    deaths : sequence of (int, str, int or None)
        When a worker dies, which, and how many seconds later it is back (None: never).
    fail : float
        Chance that a task fails by itself.
    drains : sequence of (int, str, int or None)
        When a worker is closed, which, and how many seconds later it takes work again.
    away : sequence of (int, int)
        When the engine stops to answer, and for how many calls.
    """

    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    late_s: int = 120
    deaf: float = 0.0
    clock_s: int = 0
    deaths: Sequence[tuple[int, str, int | None]] = ()
    fail: float = 0.0
    drains: Sequence[tuple[int, str, int | None]] = ()
    away: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        for name in ("lost", "twice", "late", "deaf", "fail"):
            if not 0 <= getattr(self, name) < 1:
                raise BadRequest(f"faults: {name} is {getattr(self, name)}; must lie in [0, 1)")


@dataclass
class Run:
    """One run of an order, as it really was."""

    key: Key
    workers: tuple[str, ...]
    demand: Mapping[str, int]
    start_s: int
    end_s: int | None = None
    cause: str = ""
    """``completed``, ``failed``, ``timeout``, ``cancelled``, or ``died`` with its worker."""
    devices: Held = ()


@dataclass
class SimEngine:
    """The cluster, its clock, and the truth about what ran.

    Parameters
    ----------
    machines : sequence of Worker
    run_s : callable
        True run time of a task on a machine class, whole seconds: ``run_s(task, class)``.
    start_s : int
        The clock at the beginning.
    faults : Faults
    seed : int
    """

    machines: Sequence[Worker]
    run_s: Callable[[str, str], int]
    start_s: int = 0
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    name: str = "sim"
    capabilities: frozenset[str] = frozenset({PREEMPT, DEVICES})
    step_s: float = STEP_S
    begins_s: int = 0

    def __post_init__(self) -> None:
        self.clock = self.start_s
        self.shut: set[str] = set()
        self._deaf_calls = 0
        self.rng = np.random.default_rng(self.seed)
        self.up: dict[str, Worker] = {w.id: w for w in self.machines}
        self.runs: dict[Key, Run] = {}
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._mail: list[tuple[int, int, EngineEvent]] = []
        self._number = itertools.count()
        home = {w.id: w for w in self.machines}
        for at_s, worker, back_s in self.faults.deaths:
            self._at(at_s, lambda w=worker: self._dies(w))  # type: ignore[misc]
            if back_s is not None:
                self._at(at_s + back_s, lambda w=home[worker]: self._returns(w))  # type: ignore[misc]
        for at_s, worker, back_s in self.faults.drains:
            self._at(at_s, lambda w=worker: self._closes(w))  # type: ignore[misc]
            if back_s is not None:
                self._at(at_s + back_s, lambda w=home[worker]: self._opens(w))  # type: ignore[misc]
        for at_s, calls in self.faults.away:
            self._at(at_s, lambda n=calls: self._leaves(n))  # type: ignore[misc]

    # ------------------------------------------------------------------ the interface

    def now_s(self) -> int:
        """The clock as the master reads it."""
        return self.clock + self._skew()

    def steady_s(self) -> float:
        """Its clock as it really goes."""
        return float(self.clock)

    def workers(self) -> tuple[Worker, ...]:
        """The workers that are up."""
        self._reached()
        return tuple(self.up.values())

    def closed(self) -> frozenset[str]:
        """The workers that drain."""
        self._reached()
        return frozenset(self.shut & self.up.keys())

    def start(self, order: Order) -> None:
        """Begin a run, unless the key has had its run, or the order gets lost."""
        self._reached()
        if self._chance(self.faults.deaf) or order.key in self.runs:
            return
        if any(name not in self.up or name in self.shut for name in order.workers):
            return
        run = Run(order.key, order.workers, dict(order.demand), self.clock, devices=order.devices)
        self.runs[order.key] = run
        task = order.key[0]
        classes = {self.up[name].machine_class for name in order.workers}
        seconds, cause = max(self.run_s(task, name) for name in classes), "completed"
        if self._chance(self.faults.fail):
            seconds, cause = max(1, seconds // 2), "failed"
        if order.limit_s is not None and seconds > order.limit_s:
            seconds, cause = order.limit_s, "timeout"
        self._tell(Started(order.key, self._stamp()))
        self._at(self.clock + seconds, lambda: self._ends(run, cause))

    def cancel(self, key: Key) -> None:
        """Stop a run, unless the word gets lost."""
        self._reached()
        run = self.runs.get(key)
        if run is not None and run.end_s is None and not self._chance(self.faults.deaf):
            self._ends(run, "cancelled")

    def events(self, wait_s: float) -> list[EngineEvent]:
        """Messages that are due; if there are none the clock goes on to the next thing."""
        self._reached()
        until = self.clock + int(wait_s)
        while not (self._mail and self._mail[0][0] <= self.clock):
            moments = [q[0][0] for q in (self._agenda, self._mail) if q]
            if min(moments, default=until + 1) > until:
                self.clock = max(self.clock, until)
                break
            self.clock = max(self.clock, min(moments))
            while self._agenda and self._agenda[0][0] <= self.clock:
                heapq.heappop(self._agenda)[2]()
        found = []
        while self._mail and self._mail[0][0] <= self.clock:
            found.append(heapq.heappop(self._mail)[2])
        return found

    def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
        """The truth."""
        self._reached()
        return {key: self._standing(key) for key in keys}

    def close(self) -> None:
        """Nothing to let go of."""

    def stop(self) -> None:
        """Let go of it: nothing was brought up."""
        self.close()

    # ------------------------------------------------------------------ inside

    def _standing(self, key: Key) -> Standing:
        run = self.runs.get(key)
        if run is None:
            return Standing("unknown")
        if run.end_s is None:
            return Standing("running", run.start_s)
        if run.cause == "died":
            return Standing("lost", run.start_s, run.end_s)
        return Standing("ended", run.start_s, run.end_s, Outcome(run.cause))

    def _at(self, at_s: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._number), what))

    def _ends(self, run: Run, cause: str) -> None:
        if run.end_s is None:
            run.end_s, run.cause = self.clock, cause
            self._tell(Ended(run.key, run.start_s, self._stamp(), Outcome(cause)))

    def _dies(self, worker: str) -> None:
        if self.up.pop(worker, None) is None:
            return
        for run in self.runs.values():
            if run.end_s is None and worker in run.workers:
                run.end_s, run.cause = self.clock, "died"
        # A loss is always reported: masters watch connections, not messages.
        self._post(WorkerDown(worker, self._stamp()), self.clock)

    def _returns(self, worker: Worker) -> None:
        self.up[worker.id] = worker
        self._post(WorkerUp(worker, self._stamp()), self.clock)
        if worker.id in self.shut:
            self._post(WorkerClosed(worker.id, self._stamp()), self.clock)

    def _closes(self, worker: str) -> None:
        self.shut.add(worker)
        self._post(WorkerClosed(worker, self._stamp()), self.clock)

    def _opens(self, worker: Worker) -> None:
        self.shut.discard(worker.id)
        if worker.id in self.up:
            self._post(WorkerUp(worker, self._stamp()), self.clock)

    def _leaves(self, calls: int) -> None:
        self._deaf_calls = calls

    def _reached(self) -> None:
        """Time passes while the engine does not answer, and what runs goes on."""
        if self._deaf_calls > 0:
            self._deaf_calls -= 1
            raise Unreachable("the simulated engine does not answer")

    def _tell(self, message: EngineEvent) -> None:
        if self._chance(self.faults.lost):
            return
        due = self.clock
        if self._chance(self.faults.late):
            due += int(self.rng.integers(1, self.faults.late_s + 1))
        self._post(message, due)
        if self._chance(self.faults.twice):
            self._post(message, due + int(self.rng.integers(0, self.faults.late_s + 1)))

    def _post(self, message: EngineEvent, due_s: int) -> None:
        heapq.heappush(self._mail, (due_s, next(self._number), message))

    def _stamp(self) -> int:
        return self.clock + self._skew()

    def _skew(self) -> int:
        off = self.faults.clock_s
        return int(self.rng.integers(-off, off + 1)) if off else 0

    def _chance(self, chance: float) -> bool:
        return chance > 0 and bool(self.rng.random() < chance)


def overloads(engine: SimEngine) -> list[str]:
    """Where workers or their devices really were over capacity, in words; to judge a master by."""
    capacity = {
        w.id: {**w.capacity, **{_device(d): DEVICE for d in range(w.device_count)}}
        for w in engine.machines
    }
    changes: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for run in engine.runs.values():
        end_s = engine.clock if run.end_s is None else run.end_s
        for worker, pieces in Counter(run.workers).items():
            for resource, amount in run.demand.items():
                steps = changes.setdefault((worker, resource), [])
                steps += [(run.start_s, amount * pieces), (end_s, -amount * pieces)]
        each = min(run.demand.get(GPU, 0), DEVICE)
        for worker, devices in zip(run.workers, run.devices, strict=False):
            for d in devices:
                steps = changes.setdefault((worker, _device(d)), [])
                steps += [(run.start_s, each), (end_s, -each)]
    found = []
    for (worker, resource), steps in changes.items():
        used = 0
        # Ends come before starts at the same second.
        for at_s, step in sorted(steps):
            used += step
            if used > capacity[worker].get(resource, 0):
                found.append(f"{worker}: {used} of {resource} at {at_s}")
    return found


def _device(number: int) -> str:
    return f"device {number}"


def simulated(request: PlanRequest, seed: int, lose: Sequence[tuple[str, int]]) -> SimEngine:
    """An engine whose run times are drawn from the estimates themselves.

    Parameters
    ----------
    request : PlanRequest
    seed : int
    lose : sequence of (str, int)
        Workers, and how many seconds after the beginning they die.
    """
    rng = np.random.default_rng(seed)
    level = {t.id: float(rng.uniform(0.02, 0.98)) for t in request.snapshot.pending}

    def run_s(task: str, machine_class: str) -> int:
        estimate = estimate_for(request.estimates, task, machine_class)
        assert estimate is not None  # else it would not have been started there
        return estimate.at(level[task])

    now = request.snapshot.now_s
    known = request.snapshot.worker_by_id
    for name, _ in lose:
        if name not in known:
            raise BadRequest(f"--lose {name}: there is no such worker; choose {', '.join(known)}")
    deaths = tuple((now + at_s, name, None) for name, at_s in lose)
    return SimEngine(request.snapshot.workers, run_s, now, Faults(deaths=deaths), seed)
