"""What is kept of workers says what a look at each of them says."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plancast.planner.arrays.rates import rates_of
from plancast.planner.arrays.schedule import FAR
from plancast.planner.arrays.worker_table import MOST_TABLES, worker_arrays, worker_table
from plancast.planner.model.domain import Prices, Worker
from tests.oracles.random_requests import random_request


def looked_at(workers: Any, resources: tuple[str, ...], now: int) -> dict[str, Any]:
    """The arrays by a loop over the workers."""
    shut = []
    for k, worker in enumerate(workers):
        if worker.free_at(now) > now:
            shut.append((k, 0, worker.free_at(now) - now))
        shut += [
            (k, max(0, b.start_s - now), b.end_s - now) for b in worker.blocked if b.end_s > now
        ]
        if worker.until_s is not None:
            shut.append((k, max(0, worker.until_s - now), FAR))
    columns = [list(column) for column in zip(*shut, strict=True)] or [[], [], []]
    return {
        "capacity": [[w.capacity.get(name, 0) for name in resources] for w in workers],
        "free_from": [w.free_at(now) - now for w in workers],
        "until": [FAR if w.until_s is None else w.until_s - now for w in workers],
        "health": [w.health for w in workers],
        "shut_worker": columns[0], "shut_start": columns[1], "shut_end": columns[2],
    }  # fmt: skip


@given(seed=st.integers(0, 10**6), later_s=st.integers(0, 500))
def test_kept_arrays_are_those_of_a_loop(seed: int, later_s: int) -> None:
    """A closed window would stay where it was as time passes, or a drain go unseen."""
    request = random_request(seed)
    workers, now = request.snapshot.workers, request.snapshot.now_s
    prices = Prices(energy_cost=0.3, carbon_kg=0.1)
    for moment in (now, now + later_s):
        for resources in (("cpu", "mem"), ("gpu",), ()):
            found = worker_arrays(workers, resources, moment)
            wanted = looked_at(workers, resources, moment)
            assert {name: values.tolist() for name, values in found.items()} == wanted
        mine, theirs = (
            worker_table(workers).rates(prices, moment),
            rates_of(prices, workers, moment),
        )
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_what_is_handed_out_may_be_written_on() -> None:
    """A solver that takes room away would take it from every plan after."""
    workers = (Worker("w", {"cpu": 4}),)
    worker_arrays(workers, ("cpu",), 0)["capacity"][:] = 0
    assert worker_arrays(workers, ("cpu",), 0)["capacity"].tolist() == [[4]]


def test_other_workers_of_the_same_names_are_others() -> None:
    """A worker that comes back with less memory would be planned on as it was."""
    for cores in range(3 * MOST_TABLES):
        workers = (Worker("w", {"cpu": cores + 1}),)
        assert worker_arrays(workers, ("cpu",), 0)["capacity"].tolist() == [[cores + 1]]
