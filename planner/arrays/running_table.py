"""What runs, as arrays that are kept from one request to the next: only what is new is looked at.

A master asks at each event about thousands of running tasks, of which one has begun or ended. What
the arrays say of a task is worked out once, and its expected end, which depends on how long it has
lasted, for all tasks together. The numbers are those of ``running.expected_end_s`` and of loops
over tasks, to the last bit: each operation is theirs, in their order.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plancast.planner.arrays.hours import Hours, extra_cost
from plancast.planner.arrays.rates import Rates
from plancast.planner.arrays.running import expected_end_s
from plancast.planner.model.domain import (
    HOUR_S,
    MIN_STRETCH_S,
    Running,
    Worker,
    estimate_for,
)
from plancast.planner.model.messages import PlanRequest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NEVER = 1 << 60
"""Stands for no kill limit and no deadline."""
START, LIMIT, AT_LEVEL, RELEASE, DEADLINE, KNOWN = range(6)
"""Columns of the whole numbers of a task; ``KNOWN`` is how many quantiles are known, 0 where its
pieces have several estimates or none."""
MOST_TABLES = 8
MOST_GONE = 2.0
"""A table is made anew once it holds so many times what runs."""


class Entry(NamedTuple):
    """What is kept of one running task beside its row."""

    run: Running
    estimates: Any
    row: int
    workers: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(eq=False)
class RunningTable:
    """Rows of running tasks on some workers, at one quantile.

    Parameters
    ----------
    workers : tuple of Worker
    level : float
    resources : tuple of str
        Of `demand`.
    """

    workers: tuple[Worker, ...]
    level: float
    resources: tuple[str, ...]
    entries: dict[str, Entry] = field(default_factory=dict)
    whole: Ints = field(default_factory=lambda: np.zeros((64, 6), np.int64))
    weight: Floats = field(default_factory=lambda: np.zeros(64))
    levels: Floats = field(default_factory=lambda: np.full((64, 1), np.inf))
    seconds: Floats = field(default_factory=lambda: np.full((64, 1), np.inf))
    demand: Ints = field(default_factory=lambda: np.zeros((64, 0), np.int64))

    def __post_init__(self) -> None:
        self.index = {w.id: k for k, w in enumerate(self.workers)}
        self.health = np.array([w.health for w in self.workers], np.float64)
        self.demand = np.zeros((len(self.weight), len(self.resources)), np.int64)
        self.used = 0

    def of(self, request: PlanRequest) -> list[Entry]:
        """The entries of all that runs, in order; those that are new are added."""
        entries, known = self.entries, request.estimates
        found = []
        for run in request.snapshot.running:
            name = run.task.id
            entry = entries.get(name)
            if entry is None or entry.run is not run or entry.estimates is not known.get(name):
                entry = entries[name] = self._added(run, known, entry)
            found.append(entry)
        return found

    def _added(self, run: Running, known: Mapping[str, Any], old: Entry | None) -> Entry:
        row = self.used if old is None else old.row
        self.used = max(self.used, row + 1)
        task, by_class = run.task, known.get(run.task.id)
        on = [self.index[name] for name in run.workers]
        machines = [self.workers[w] for w in on]
        found = {
            id(e): e
            for e in (estimate_for(known, task.id, w.machine_class, run.mode) for w in machines)
            if e is not None
        }
        one = next(iter(found.values())) if len(found) == 1 else None
        self._make_room(row, 0 if one is None else len(one.levels))
        self.whole[row] = (
            run.start_s, NEVER if task.requested_s is None else task.requested_s,
            0 if one is None else one.at(self.level), task.release_s,
            NEVER if task.deadline_s is None else task.deadline_s,
            0 if one is None else len(one.levels),
        )  # fmt: skip
        self.weight[row] = task.weight
        self.levels[row] = self.seconds[row] = np.inf
        if one is not None:
            self.levels[row, : len(one.levels)] = one.levels
            self.seconds[row, : len(one.levels)] = one.seconds
        self.demand[row] = [task.demand.get(name, 0) for name in self.resources]
        shares = tuple([w.dominant_share(task.demand) for w in machines])
        return Entry(run, by_class, row, tuple(on), shares)

    def _make_room(self, row: int, quantiles: int) -> None:
        if row >= len(self.weight):
            more = len(self.weight)
            self.whole = np.pad(self.whole, ((0, more), (0, 0)))
            self.weight = np.pad(self.weight, (0, more))
            self.demand = np.pad(self.demand, ((0, more), (0, 0)))
            self.levels = np.pad(self.levels, ((0, more), (0, 0)), constant_values=np.inf)
            self.seconds = np.pad(self.seconds, ((0, more), (0, 0)), constant_values=np.inf)
        if quantiles > self.levels.shape[1]:
            more = quantiles - self.levels.shape[1]
            self.levels = np.pad(self.levels, ((0, 0), (0, more)), constant_values=np.inf)
            self.seconds = np.pad(self.seconds, ((0, 0), (0, more)), constant_values=np.inf)


def table_for(request: PlanRequest, resources: tuple[str, ...]) -> RunningTable:
    """The table that a request goes on with: of the same workers, level and resources."""
    workers, level = request.snapshot.workers, request.policy.level
    tables: list[RunningTable] = _KEPT.__dict__.setdefault("tables", [])
    for k, table in enumerate(tables):
        if table.workers is workers and table.level == level and table.resources == resources:
            del tables[k]
            if table.used <= 64 + MOST_GONE * len(request.snapshot.running):
                tables.append(table)
                return table
            break
    tables.append(RunningTable(workers, level, resources))
    del tables[:-MOST_TABLES]
    return tables[-1]


_KEPT = threading.local()


@dataclass(frozen=True, eq=False)
class Runs:
    """All that runs, in the order of the snapshot.

    Parameters
    ----------
    entries : list of Entry
    ends : int64 (running,)
        Expected ends, seconds since the epoch.
    rows : int64 (running,)
    piece_of, piece_worker, piece_share : (pieces,)
        Which running task, on which worker, with what dominant share.
    """

    request: PlanRequest
    table: RunningTable
    entries: list[Entry]
    rows: Ints
    ends: Ints
    piece_of: Ints
    piece_worker: Ints
    piece_share: Floats

    @property
    def end_of(self) -> dict[str, int]:
        """Task to expected end, seconds since the epoch."""
        ends = self.ends.tolist()
        return {e.run.task.id: end_s for e, end_s in zip(self.entries, ends, strict=True)}

    def waited_h(self) -> Floats:
        """Hours that each has waited before it began."""
        whole = self.table.whole[self.rows]
        return (whole[:, START] - whole[:, RELEASE]) / HOUR_S

    def arrays(self, rates: Rates, hours: Hours | None) -> dict[str, Any]:
        """Its pieces on the workers and what it costs, as ``Problem`` describes them."""
        now, workers = self.request.snapshot.now_s, len(self.table.workers)
        ahead = self.ends - now
        last_end, load_h = np.zeros(workers, np.int64), np.zeros(workers)
        on = np.zeros(workers, np.bool_)
        np.maximum.at(last_end, self.piece_worker, ahead[self.piece_of])
        # One after the other, as a sum in a loop is.
        np.add.at(load_h, self.piece_worker, self.piece_share * (ahead / HOUR_S)[self.piece_of])
        on[self.piece_worker] = True
        return {
            "busy_worker": self.piece_worker,
            "busy_end": ahead[self.piece_of],
            "busy_demand": self.table.demand[self.rows][self.piece_of],
            "last_end": last_end,
            "on": on,
            "load_h": load_h,
            "rates": rates._replace(fixed=self._fixed(rates, hours, ahead)),
            "hours": hours,
        }

    def _fixed(self, rates: Rates, hours: Hours | None, ahead: Ints) -> float:
        if not len(self.entries):
            return 0.0
        table, whole = self.table, self.table.whole[self.rows]
        start, release, deadline = whole[:, START], whole[:, RELEASE], whole[:, DEADLINE]
        cost = rates.wait * (start - release)
        late = self.ends > deadline
        cost[late] += rates.late * (self.ends - deadline)[late] + rates.miss
        cost += (
            rates.slowdown * (self.ends - release) / np.maximum(self.ends - start, MIN_STRETCH_S)
        )
        own = table.weight[self.rows] * cost
        drawn = rates.busy[self.piece_worker] * self.piece_share * ahead[self.piece_of]
        fails = np.zeros(len(drawn))
        health = table.health[self.piece_worker]
        if rates.fail:
            # A power of Python's, which is not always that of numpy.
            for p in np.flatnonzero(health != 1.0).tolist():
                ahead_h = int(ahead[self.piece_of[p]]) / HOUR_S
                fails[p] = rates.fail * (1.0 - float(health[p]) ** ahead_h)
        # Sums from left to right, as in a loop: numpy's own would be made in parts.
        np.add.at(own, np.repeat(self.piece_of, 2), np.column_stack([drawn, fails]).ravel())
        if hours is not None:
            extra = self._extra(hours, ahead)
            each = np.concatenate([np.arange(len(own)), self.piece_of])
            own = np.concatenate([own, extra])[np.argsort(each, kind="stable")]
        return float(np.add.accumulate(own)[-1])

    def _extra(self, hours: Hours, ahead: Ints) -> Floats:
        """What the hours of energy cost each piece above its least price. Shape (pieces,)."""
        pieces = zip(
            self.piece_worker.tolist(), self.piece_share.tolist(), ahead[self.piece_of].tolist(),
            strict=True,
        )  # fmt: skip
        found = [extra_cost(hours, w, hours.busy_w[w] * share, 0, end) for w, share, end in pieces]
        return np.array(found, np.float64)


def runs_of(request: PlanRequest, resources: tuple[str, ...]) -> Runs:
    """What runs in a request that has no modes."""
    table = table_for(request, resources)
    entries = table.of(request)
    rows = np.array([e.row for e in entries], np.int64)
    pieces = np.array([len(e.workers) for e in entries], np.int64)
    return Runs(
        request, table, entries, rows, _ends(request, table, entries, rows),
        np.repeat(np.arange(len(entries)), pieces),
        np.array([w for e in entries for w in e.workers], np.int64),
        np.array([s for e in entries for s in e.shares], np.float64),
    )  # fmt: skip


def _ends(request: PlanRequest, table: RunningTable, entries: list[Entry], rows: Ints) -> Ints:
    """``running.expected_end_s`` of all that runs."""
    now, level = request.snapshot.now_s, table.level
    whole = table.whole[rows]
    levels, seconds, count = table.levels[rows], table.seconds[rows], whole[:, KNOWN]
    elapsed, every = now - whole[:, START], np.arange(len(rows))
    usual = count > 0
    last = seconds[every, np.maximum(count - 1, 0)]
    left = np.where(elapsed <= 0, whole[:, AT_LEVEL], 1)
    over = usual & (elapsed > 0) & (elapsed >= last)
    beyond = np.ceil(elapsed[over] * level / (1 - level) - 1e-9)
    left[over] = np.maximum(1, beyond.astype(np.int64))
    amid = np.flatnonzero(usual & (elapsed > 0) & ~over)
    if len(amid):
        levels, seconds, at = levels[amid], seconds[amid], np.arange(len(amid))
        passed_s, count = elapsed[amid], count[amid]
        k = (seconds <= passed_s[:, None]).sum(axis=1)
        below = np.maximum(k - 1, 0)
        low, high = seconds[at, below], seconds[at, np.minimum(k, count - 1)]
        wide = np.where(k > 0, high - low, 1.0)
        rise = levels[at, np.minimum(k, count - 1)] - levels[at, below]
        passed = np.where(k > 0, levels[at, below] + rise * (passed_s - low) / wide, 0.0)
        wanted = passed + level * (1 - passed)
        q = (levels < wanted[:, None]).sum(axis=1)
        under, above = np.maximum(q - 1, 0), np.minimum(q, count - 1)
        inside = (q > 0) & (q < count)
        gap = np.where(inside, levels[at, above] - levels[at, under], 1.0)
        share = (wanted - levels[at, under]) / gap
        between = seconds[at, under] + share * (seconds[at, above] - seconds[at, under])
        quantile = np.where(inside, between, np.where(q > 0, seconds[at, count - 1], seconds[:, 0]))
        left[amid] = np.maximum(1, np.ceil(quantile - passed_s - 1e-9).astype(np.int64))
    ends: Ints = np.minimum(now + left, whole[:, START] + whole[:, LIMIT])
    ends = np.maximum(ends, now + 1)
    for i in np.flatnonzero(~usual).tolist():
        ends[i] = expected_end_s(request, entries[i].run)
    return ends
