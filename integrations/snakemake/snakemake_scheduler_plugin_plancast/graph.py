"""Jobs as numbers: what waits for what, and how long the longest chain behind each job is."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Graph:
    """Every job that was seen, by its place.

    Jobs are found by identity, which costs less than their own hash at 100,000 jobs; they are
    kept, so that none is taken for another.
    """

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.rules: list[str] = []
        self.rule: list[int] = []
        self.priority: list[float] = []
        self.benchmarks: dict[int, float] = {}
        self.size: list[float] = []
        self.members: dict[int, list[Any]] = {}
        self._places: dict[int, int] = {}
        self._rule_numbers: dict[str, int] = {}
        self._kinds: dict[tuple[tuple[str, int], ...], int] = {}
        self._kind: list[int] = []
        self._edges: list[tuple[int, int]] = []
        self._later: list[tuple[int, int]] = []
        self._levels: list[tuple[Ints, Ints, Ints]] | None = None
        self._known: tuple[Floats, Floats] | None = None

    def __len__(self) -> int:
        """Jobs that were seen."""
        return len(self.jobs)

    # -- growing -------------------------------------------------------------------------

    def unseen(self, jobs: Iterable[Any]) -> list[Any]:
        """Those of the jobs that are not there."""
        places = self._places
        return [job for job in jobs if id(job) not in places]

    def place_of(self, job: Any) -> int:
        """The place of a job that was seen."""
        return self._places[id(job)]

    def add(self, job: Any, rule: str, priority: float, amounts: Mapping[str, int]) -> int:
        """Take a job in; its place."""
        place = len(self.jobs)
        self._places[id(job)] = place
        self.jobs.append(job)
        if rule not in self._rule_numbers:
            self._rule_numbers[rule] = len(self.rules)
            self.rules.append(rule)
        self.rule.append(self._rule_numbers[rule])
        self.priority.append(priority)
        self._kind.append(self._kind_of(amounts))
        self.size.append(-1.0)
        self._levels = None
        return place

    def forget(self, jobs: Sequence[Any]) -> None:
        """Jobs whose parents are not known yet are new again."""
        for job in jobs:
            self._places.pop(id(job), None)

    def connect(self, parent: Any, job: Any) -> None:
        """A job waits for another; one that was not seen has ended or runs, and is left out."""
        # Also of a parent that is seen later: its identity is looked up when ranks are made.
        self._later.append((id(parent), self._places[id(job)]))
        self._levels = None

    def update(self, place: int, amounts: Mapping[str, int]) -> None:
        """A job takes something else than it did."""
        self._kind[place] = self._kind_of(amounts)

    def unread(self) -> list[int]:
        """Places of jobs whose benchmark was never read."""
        return [place for place in range(len(self.jobs)) if place not in self.benchmarks]

    def _kind_of(self, amounts: Mapping[str, int]) -> int:
        key = tuple(sorted((name, amount) for name, amount in amounts.items() if amount))
        return self._kinds.setdefault(key, len(self._kinds))

    def places_of(self, place: int) -> list[int]:
        """The places of a group's single jobs; of any other job its own."""
        members = self.members.get(place)
        return [place] if members is None else [self.place_of(member) for member in members]

    # -- ranks ---------------------------------------------------------------------------

    def ranks(self, seconds: Floats) -> Floats:
        """The longest chain from each job on, seconds, shape (jobs,).

        Parameters
        ----------
        seconds : array, shape (rules,)
            Run time of each rule.
        """
        levels = self._levels_now()
        if self._known is not None and len(self._known[1]) == len(self.jobs):
            before = self._known[0]
            if len(before) == len(seconds) and np.array_equal(before, seconds):
                return self._known[1]
        rank: Floats = seconds[np.array(self.rule, np.int64)]
        for parents, begins, children in levels:
            rank[parents] += np.maximum.reduceat(rank[children], begins)
        self._known = seconds.copy(), rank
        return rank

    def _levels_now(self) -> list[tuple[Ints, Ints, Ints]]:
        """Jobs that others wait for, from the last on: parents, where their children begin."""
        if self._levels is not None:
            return self._levels
        self._known = None
        kept = []
        for parent, child in self._later:
            place = self._places.get(parent)
            if place is None:
                kept.append((parent, child))
            elif place != child:
                self._edges.append((place, child))
        self._later = kept
        n = len(self.jobs)
        height = np.zeros(n, np.int64)
        if self._edges:
            edges = np.array(self._edges, np.int64)
            height = _heights(n, edges)
            # By height of the parent, then by parent.
            edges = edges[np.lexsort((edges[:, 0], height[edges[:, 0]]))]
        self._levels = []
        if self._edges:
            steps = height[edges[:, 0]]
            for part in np.split(edges, np.flatnonzero(np.diff(steps)) + 1):
                parents, begins = np.unique(part[:, 0], return_index=True)
                self._levels.append((parents, begins, part[:, 1]))
        return self._levels

    # -- selecting -----------------------------------------------------------------------

    def in_order(
        self, ready: Ints, ranks: Floats, size: Floats, free: Mapping[str, int]
    ) -> Iterator[int]:
        """Ready jobs by priority, rank and size, without those that take more than is free.

        Parameters
        ----------
        ready : array, shape (n,)
            Places.
        ranks, size : array, shape (n,)
            Seconds; bytes of inputs.
        free : mapping
            Free amounts.

        Notes
        -----
        `free` may shrink while this runs: a kind of job that no longer fits is given up.
        """
        priority = np.array(self.priority, np.float64)[ready]
        kind = np.array(self._kind, np.int64)[ready]
        wanted = list(self._kinds)
        heads = []
        for number in np.unique(kind).tolist():
            if not _fits(wanted[number], free):
                continue
            own = np.flatnonzero(kind == number)
            keys = own[np.lexsort((-size[own], -ranks[own], -priority[own]))]
            heads.append((self._key(keys[0], priority, ranks, size), number, 0, keys))
        heapq.heapify(heads)
        while heads:
            _, number, at, keys = heapq.heappop(heads)
            if not _fits(wanted[number], free):
                continue
            yield int(ready[keys[at]])
            if at + 1 < len(keys):
                key = self._key(keys[at + 1], priority, ranks, size)
                heapq.heappush(heads, (key, number, at + 1, keys))

    @staticmethod
    def _key(at: int, priority: Floats, ranks: Floats, size: Floats) -> tuple[float, ...]:
        return -float(priority[at]), -float(ranks[at]), -float(size[at]), float(at)


def _fits(wants: tuple[tuple[str, int], ...], free: Mapping[str, int]) -> bool:
    return all(amount <= free.get(name, amount) for name, amount in wants)


def _heights(n: int, edges: Ints) -> Ints:
    """Edges of the longest chain from each job on, shape (n,).

    Raises
    ------
    ValueError
        Where jobs wait for each other.
    """
    height, waiting = np.zeros(n, np.int64), np.bincount(edges[:, 0], minlength=n)
    order = edges[np.argsort(edges[:, 1], kind="stable")]
    begin = np.searchsorted(order[:, 1], np.arange(n + 1))
    done, level, seen = np.flatnonzero(waiting == 0), 0, 0
    while len(done):
        seen += len(done)
        height[done] = level
        spans = [order[begin[job] : begin[job + 1], 0] for job in done.tolist()]
        parents = np.concatenate(spans) if spans else np.empty(0, np.int64)
        np.subtract.at(waiting, parents, 1)
        found = np.unique(parents)
        done, level = found[waiting[found] == 0], level + 1
    if seen < n:
        raise ValueError("jobs wait for each other in a circle")
    return height
