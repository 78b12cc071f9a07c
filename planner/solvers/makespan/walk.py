"""Tabu searches one after another on a shop, and the good solutions that walks share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.problem import Floats, Ints, Schedule
from plancast.planner.solvers.makespan.shop_orders import (
    FAR,
    Orders,
    Shop,
    copy_orders,
    load_orders,
    measure,
    new_orders,
)
from plancast.planner.solvers.makespan.tabu import (
    insert_longest_first,
    insertion_schedule,
    relink,
    tabu,
)

CHUNK_S = 0.02
"""About so long a walk goes on before it asks whether it may."""
FIRST_CHUNK = 50
"""Moves of its first part, which tells its pace."""
SPREAD = 0.1
"""Of the random factors on the durations by which tasks are inserted."""
NEAR, FAR_OFF = 0.3, 0.6
"""Part of the way from one elite to another from which a search starts."""


class Found(NamedTuple):
    """A solution and its makespan, seconds."""

    makespan_s: int
    orders: Orders


class Elite:
    """Good solutions, none twice; shared by walks in several threads.

    Parameters
    ----------
    most : int
        So many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[Found] = []
        self._lock = threading.Lock()

    def add(self, x: Orders, makespan_s: int) -> None:
        """Take a solution in, for the worst one where there is no room."""
        with self._lock:
            if any(makespan_s == e.makespan_s and (x.after == e.orders.after).all()
                   for e in self._found):  # fmt: skip
                return
            self._found.append(Found(makespan_s, x))
            self._found.sort(key=lambda e: e.makespan_s)
            # Among the worst the oldest goes: the newcomer may stand though it is no better.
            if len(self._found) > self._most:
                worst = self._found[-1].makespan_s
                self._found.pop(next(k for k, e in enumerate(self._found)
                                     if e.makespan_s == worst))  # fmt: skip

    def two(self, rng: np.random.Generator) -> tuple[Orders, Orders] | None:
        """Two of them; None until all are there."""
        with self._lock:
            if len(self._found) < self._most:
                return None
            one, other = rng.choice(len(self._found), 2, replace=False)
            return self._found[one].orders, self._found[other].orders


class Walk:
    """Searches from inserted tasks until the elite is full, then from between two of it.

    Parameters
    ----------
    shop : Shop
    elite : Elite
    patience : int
        Moves without an improvement after which a search ends.
    rng : numpy Generator
        Its own.
    """

    def __init__(self, shop: Shop, elite: Elite, patience: int, rng: np.random.Generator) -> None:
        self.shop, self.elite, self.patience, self.rng = shop, elite, patience, rng
        n, m = shop.duration.shape
        self.banned = np.zeros((n, n), np.int32)
        self.away = np.zeros((n, m), np.int32)
        self.clock = np.zeros(1, np.int64)
        self.room = np.zeros(n, np.int64)
        self.tenure = 10 + n // (m * m)
        self.made = 0
        """Moves so far, and one for each search that could make none."""

    def search(
        self,
        x: Orders,
        goes_on: Callable[[], bool],
        better: Callable[[Schedule], object],
        most: float = np.inf,
    ) -> None:
        """A tabu search from `x`, whose best solution joins the elite.

        Parameters
        ----------
        x : Orders
            Is changed.
        goes_on : callable
            Whether it may; asked about every ``CHUNK_S``.
        better : callable
            Called with each schedule that is better than all before of this search.
        most : float
            Moves of this walk, earlier ones among them, after which it ends.
        """
        best = self._new()
        copy_orders(x, best)
        self.banned[:], self.away[:], self.clock[0] = 0, 0, 0
        known = makespan = self.makespan(best)
        since, chunk = 0, FIRST_CHUNK
        while since < self.patience and goes_on():
            began = time.perf_counter()
            rounds = int(min(chunk, most - self.made, self.patience - since))
            makespan, made = tabu(
                self.shop, x, best, rounds, rounds + 1, self.tenure, self.banned, self.away,
                self.clock, self._seed(),
            )  # fmt: skip
            self.made += max(1, made)
            since += max(1, made)
            if makespan < known:
                known, since = makespan, 0
                better(self.schedule(best))
            if made < rounds:  # no critical task can move
                break
            if most == np.inf:
                pace_s = (time.perf_counter() - began) / rounds
                chunk = max(1, min(2 * chunk, int(CHUNK_S / max(pace_s, 1e-7))))
        self.elite.add(best, makespan)

    def start(self) -> Orders:
        """Where the next search may begin."""
        two = self.elite.two(self.rng)
        if two is None:
            return self.inserted(SPREAD)
        x, guide = self._new(), self._new()
        copy_orders(two[0], x)
        copy_orders(two[1], guide)
        relink(self.shop, x, guide, float(self.rng.uniform(NEAR, FAR_OFF)), self._seed())
        return x

    # ------------------------------------------------------------------ forms

    def listed(self) -> Orders:
        """HEFT's schedule: tasks by upward rank over mean durations, each where it ends first."""
        order = priority_order(-_upward_rank(self.shop), self.shop.pred_ptr, self.shop.pred)
        return self.loaded(*insertion_schedule(order, self.shop))

    def inserted(self, spread: float) -> Orders:
        """Long tasks first, each where the longest path through it is shortest.

        Their durations are changed by chance, by a factor of that spread.
        """
        shortest = np.where(self.shop.duration > 0, self.shop.duration, FAR).min(axis=1)
        chance = 1.0 + spread * self.rng.standard_normal(len(shortest))
        x = self._new()
        insert_longest_first(np.argsort(-shortest * chance, kind="stable"), self.shop, x, self.room)
        return x

    def loaded(self, start: Ints, worker: Ints) -> Orders:
        """The solution of a schedule."""
        x = self._new()
        load_orders(self.shop, start, worker, x)
        self.makespan(x)
        return x

    def makespan(self, x: Orders) -> int:
        """Measure a solution; its makespan, seconds."""
        return int(measure(self.shop, x, self.room))

    def schedule(self, x: Orders) -> Schedule:
        """The earliest schedule with these orders."""
        self.makespan(x)
        return Schedule(x.head.copy(), x.head + x.length, x.machine.copy())

    def _new(self) -> Orders:
        found: Orders = new_orders(*self.shop.duration.shape)
        return found

    def _seed(self) -> int:
        return int(self.rng.integers(1 << 31))


def _upward_rank(shop: Shop) -> Floats:
    """Mean duration and the longest mean path after each task. Shape (tasks,)."""
    mean: Floats = shop.duration.sum(axis=1) / np.maximum(1, (shop.duration > 0).sum(axis=1))
    rank = mean.copy()
    order = priority_order(np.zeros(len(mean)), shop.pred_ptr, shop.pred)
    for i in order[::-1]:
        after = shop.succ[shop.succ_ptr[i] : shop.succ_ptr[i + 1]]
        if len(after):
            rank[i] = mean[i] + rank[after].max()
    return rank
