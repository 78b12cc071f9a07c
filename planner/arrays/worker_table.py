"""Workers as arrays that are kept from one request to the next, as long as they are the same."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from plancast.planner.arrays.rates import Rates, rates_of
from plancast.planner.arrays.schedule import FAR
from plancast.planner.model.domain import Hourly, Prices, Worker

MOST_TABLES = 4
_KEPT = threading.local()


class WorkerTable:
    """What does not change with time of some workers.

    Parameters
    ----------
    workers : sequence of Worker
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        self.classes = tuple(dict.fromkeys(w.machine_class for w in workers))
        place = {name: k for k, name in enumerate(self.classes)}
        self.worker_class = np.array([place[w.machine_class] for w in workers], np.int64)
        self.health = np.array([w.health for w in workers], np.float64)
        self.resources = frozenset(name for w in workers for name in w.capacity)
        sets = dict.fromkeys(w.labels for w in workers)
        self.label_sets = list(sets)
        of = {labels: k for k, labels in enumerate(sets)}
        self.set_of = np.array([of[w.labels] for w in workers])
        self.timed = [
            k for k, w in enumerate(workers)
            if w.blocked or w.free_from_s is not None or w.until_s is not None
        ]  # fmt: skip
        """Those that are not open at all times."""
        self.hourly = any(
            isinstance(rate, Hourly)
            for w in workers for rate in (w.price_per_kwh, w.carbon_kg_per_kwh)
        )  # fmt: skip
        self._capacity: tuple[tuple[str, ...], Any] | None = None
        self._rates: tuple[Prices, Rates] | None = None

    def capacity(self, resources: tuple[str, ...]) -> Any:
        """Capacities, int64 (workers, resources)."""
        if self._capacity is None or self._capacity[0] != resources:
            rows = [[w.capacity.get(name, 0) for name in resources] for w in self.workers]
            found = np.array(rows, np.int64).reshape(len(rows), len(resources))
            self._capacity = resources, found
        return self._capacity[1].copy()

    def rates(self, prices: Prices, now_s: int) -> Rates:
        """As ``rates.rates_of``, which depends on the time where energy has hours."""
        if self.hourly:
            return rates_of(prices, self.workers, now_s)
        if self._rates is None or self._rates[0] != prices:
            self._rates = prices, rates_of(prices, self.workers, now_s)
        return self._rates[1]

    def arrays(self, resources: tuple[str, ...], now: int) -> dict[str, Any]:
        """Capacity, health and closed windows, as ``Problem`` describes them."""
        shut = []
        free_from = np.zeros(len(self.workers), np.int64)
        until = np.full(len(self.workers), FAR, np.int64)
        for k in self.timed:
            worker = self.workers[k]
            free_from[k] = worker.free_at(now) - now
            if free_from[k] > 0:
                shut.append((k, 0, worker.free_at(now) - now))
            shut += [
                (k, max(0, b.start_s - now), b.end_s - now) for b in worker.blocked if b.end_s > now
            ]
            if worker.until_s is not None:
                until[k] = worker.until_s - now
                shut.append((k, max(0, worker.until_s - now), FAR))
        windows = np.array(shut, np.int64).reshape(len(shut), 3)
        return {
            "capacity": self.capacity(resources),
            "free_from": free_from,
            "until": until,
            "health": self.health.copy(),
            "shut_worker": windows[:, 0].copy(),
            "shut_start": windows[:, 1].copy(),
            "shut_end": windows[:, 2].copy(),
        }


def worker_table(workers: Sequence[Worker]) -> WorkerTable:
    """The table of these very workers."""
    tables: list[WorkerTable] = _KEPT.__dict__.setdefault("tables", [])
    for table in tables:
        if table.workers is workers:
            return table
    tables.append(WorkerTable(workers))
    del tables[:-MOST_TABLES]
    return tables[-1]


def worker_arrays(
    workers: Sequence[Worker], resources: tuple[str, ...], now: int
) -> dict[str, Any]:
    """Capacity, health and closed windows of workers, as ``Problem`` describes them."""
    return worker_table(workers).arrays(resources, now)
