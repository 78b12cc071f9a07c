"""Amounts of several resources side by side in 64-bit words, so that one subtraction compares all.

A word holds a field for each resource and above each field a guard bit. Where what is free has
its guards set, ``(free - need) & guard == guard`` exactly if no field of `need` exceeds its
field of `free`: the guard lends to a field that falls short. The lowest field is one bit, set
where a worker takes tasks at all, so that even a task without demands does not fit a closed one.

References
----------
Lamport (1975), "Multiple byte processing with full-word instructions", doi:10.1145/360933.360994.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.problem import Ints, Problem
from plancast.planner.arrays.relations import ALONE

OPEN = 1
"""The field of a worker that takes tasks; its guard is the next bit."""
OPEN_BITS = 2
MOST_BITS = 62
"""Of a signed word."""


@dataclass(frozen=True, eq=False)
class Words:
    """Where each resource lies.

    Parameters
    ----------
    unit : int64 (resources,)
        Amounts are counted in these; every demand is a whole number of them.
    most : int64 (resources,)
        Largest amount, in units, that makes a difference; no demand exceeds it, since every
        task of a problem fits some worker.
    word, shift : int64 (resources,)
        The resource's word, and its lowest bit.
    guard : int64 (words,)
    """

    unit: Ints
    most: Ints
    word: Ints
    shift: Ints
    guard: Ints

    def packed(self, amount: Ints) -> Ints:
        """Words without guards and without ``OPEN``. Shape (..., resources) to (..., words)."""
        units = np.minimum(amount // self.unit, self.most) << self.shift
        result = np.zeros((*amount.shape[:-1], len(self.guard)), np.int64)
        for r, word in enumerate(self.word):
            result[..., word] += units[..., r]
        return result

    def free(self, amount: Ints) -> Ints:
        """What is free, -1 in all resources where nothing is taken; guards set."""
        is_open = amount.min(axis=-1, initial=0) >= 0
        words = self.packed(np.maximum(amount, 0)) + OPEN
        return np.where(is_open[..., None], words, 0) | self.guard

    def needs(self, demand: Ints) -> Ints:
        """For each word what a task takes, what must be free, and the guards. (..., 3 words)."""
        take = self.packed(demand)
        guard = np.broadcast_to(self.guard, take.shape)
        return np.stack([take, take + OPEN, guard], axis=-1).reshape(*demand.shape[:-1], -1)


def words_of(problem: Problem) -> Words:
    """Fields wide enough for what each worker has; resources that find no room take a new word."""
    whole = problem.resources[-1] == ALONE
    return _words(problem.demand, problem.shards, problem.capacity.max(axis=0), whole)


def words_of_counted(problem: Problem) -> Words:
    """The same for what is counted, of which a task takes as much whatever its pieces."""
    most = problem.spare[1][0].max(axis=0)
    return _words(problem.takes, np.ones(len(problem.tasks), np.int64), most)


def _words(demand: Ints, pieces: Ints, capacity: Ints, whole: bool = False) -> Words:
    """Words for tasks of so many pieces, where no worker has more than `capacity`."""
    unit = np.maximum(1, np.gcd.reduce(demand, axis=0))
    wanted = (demand * pieces[:, None].astype(np.float64)).sum(axis=0)
    # What all tasks take together may not fit into 64 bits; what a worker has does.
    wanted = np.minimum(wanted, capacity).astype(np.int64)
    if whole:
        # Whether all of the last is free makes a difference, to the last unit.
        unit[-1], wanted[-1] = 1, capacity[-1]
    most = np.minimum(capacity, wanted) // unit
    word, shift = np.zeros(len(unit), np.int64), np.zeros(len(unit), np.int64)
    guard, used = [OPEN << 1], OPEN_BITS
    for r, largest in enumerate(most):
        bits = int(largest).bit_length() + 1
        if used + bits > MOST_BITS:
            guard.append(OPEN << 1)
            used = OPEN_BITS
        word[r], shift[r] = len(guard) - 1, used
        used += bits
        guard[-1] |= 1 << (used - 1)
    return Words(unit, most, word, shift, np.array(guard, np.int64))
