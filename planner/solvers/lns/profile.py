"""The columns of the search's arrays, and what is free on each worker over time.

A *profile* tells what is free on each worker over time: ``profile[w, k, 0]`` is the start of
segment k and ``profile[w, k, 1 + c]`` what is free in it, resources side by side in words
(``plancast.planner.arrays.packing``); ``ws[w, COUNT]`` is the number of segments, and the last one
lasts forever. Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.devices import (
    HELD,
    WAS,
    Devices,
    device_pieces,
    give,
    next_change,
    take_back,
    takes_devices,
    when_devices,
)
from plancast.planner.arrays.jit import inner
from plancast.planner.arrays.schedule import FAR

TASK_INTS = 26


(
    PER_WORKER, ON_WORKERS, CHOICE, BEYOND_CHOICE, LONE_ALL, LONE_EACH, DUE, REST, MOVED_AFTER,
    OWNER, MINE, COUNTED, DEADLINE, RELEASE, RAW_RELEASE, HARD_END, LAST_START, KIND, SHARDS, FIRST,
    BEYOND, PRED, BEYOND_PRED, SUCC, BEYOND_SUCC, LONE,
) = range(TASK_INTS)  # fmt: skip
"""Columns of ``Fixed.ti``; those of each word follow. Pieces FIRST to BEYOND - 1 are the task's;
rows PRED to BEYOND_PRED - 1 of ``Fixed.link`` what it waits for, SUCC to BEYOND_SUCC - 1 what waits
for it. A start after MOVED_AFTER is a move. DUE and REST: deadline by which it must end, and
longest chain after it, where its successors are still to be placed. MINE: 0 or 1. COUNTED: whether
it takes any of the cluster's counted resources, see ``Shared``. PER_WORKER, ON_WORKERS, CHOICE,
BEYOND_CHOICE: as in ``Problem.gang``. LONE: the word in which an exclusive gang takes LONE_ALL of a
worker, not LONE_EACH a piece; -1 of all other tasks. What gangs alone need comes first: what every
task needs lies close together."""


WORD_INTS = 3


TAKE, NEED, GUARD = range(TASK_INTS, TASK_INTS + WORD_INTS)
"""Columns of the first word: what a piece takes, what must be free, and the guard bits; those of
the next word are WORD_INTS further."""


WEIGHT, DUE_WEIGHT, OWNER_PART = range(3)
"""Columns of ``Fixed.tf``; OWNER_PART is 1 over the number of the owner's tasks."""


CLASS, FREE_FROM, BASE_END, BASE_ON, OURS, TARGET = range(6)
"""Columns of ``Fixed.wi``; OURS: whether tasks may be put there."""


IDLE, BUSY, BOOT, HEALTH, OVER, BASE_LOAD = range(6)
"""Columns of ``Fixed.wf``: priced per second idle, per second in full use, per boot; chance to
survive an hour; added price of a second of last end beyond TARGET; hours of load of what runs."""


TASK, WAS_ON = range(2)
"""Columns of ``Fixed.pi``: the task of a piece, and the incumbent's worker, sorted, -1 for none."""


START, END = range(2)
"""Columns of ``State.ts``."""


BEFORE, SINCE, LAG = range(3)
"""Columns of ``Fixed.link``; SINCE is START or END of the predecessor. In the rows of what waits
for a task BEFORE is the follower."""


ON, SLOT, MASK = range(3)
"""Columns of ``State.ps``: worker of a piece, and its place in the worker's row of items; where
devices are told apart, those that it holds (0: none are given yet). The pieces of a task are sorted
by worker; those on one worker are a *run*, whose first stands for all.
"""


LAST, NUMBER, COUNT = range(3)
"""Columns of ``State.ws``: last end, number of runs, number of segments."""


(
    END_S, LATE_S, MISS, WAIT_S, SLOWDOWN, OWNER_S, LOAD_S, FAIL, MOVE,
) = range(9)  # fmt: skip
"""Places in ``Fixed.rates``: those of ``arrays.rates.Rates`` that are not by worker."""


@inner
def _segment(profile, n, w, at):
    """Index of the segment of worker w (of n) that holds the moment `at`."""
    low, high = 0, n - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if profile[w, middle, 0] <= at:
            low = middle
        else:
            high = middle - 1
    return low


@inner
def _earliest(profile, n, w, ti, i, not_before, duration, latest):
    """Earliest start of task i on worker w within [not_before, latest], or FAR."""
    words = profile.shape[2] - 1
    need, guard = ti[i, NEED], ti[i, GUARD]
    k = _segment(profile, n, w, not_before)
    start = not_before
    while start <= latest:
        end = start + duration
        j = k
        while True:
            if (profile[w, j, 1] - need) & guard != guard:
                break
            fits = True
            for c in range(1, words):
                other = ti[i, GUARD + c * WORD_INTS]
                left = profile[w, j, c + 1] - ti[i, NEED + c * WORD_INTS]
                fits = fits and left & other == other
            if not fits:
                break
            j += 1
            if j == n or profile[w, j, 0] >= end:
                return start
        k = j + 1
        if k >= n:
            return FAR
        start = profile[w, k, 0]
    return FAR


class Shared(NamedTuple):
    """What is free of the cluster's counted resources.

    Kernels are handed None in plain problems: what asks for them is then not compiled.

    Parameters
    ----------
    profile : int64 (1, segments, 1 + words)
        As if it were one worker's, with room for all tasks.
    ws : int64 (1, 3)
        COUNT: its number of segments.
    ti : int64 (tasks, ...)
        As ``Fixed.ti``, with the words for what is counted.
    devices : Devices
        Who holds which GPUs of workers, where these are told apart.
    """

    profile: np.ndarray
    ws: np.ndarray
    ti: np.ndarray
    devices: Devices


@inner
def _earliest_shared(shared, i, not_before, duration, latest):
    """The same by what task i takes of counted resources alone."""
    return _earliest(
        shared.profile, shared.ws[0, COUNT], 0, shared.ti, i, not_before, duration, latest
    )


@inner
def _beside(profile, n, w, ti, i, start, duration, latest, shared):
    """The first start from `start`, where it fits on the worker, that has what is counted too.

    And devices of the worker.
    """
    if ti[i, COUNTED] == 0 and not takes_devices(shared.devices, i):
        return start
    while start < FAR:
        at = start
        if ti[i, COUNTED] == 1:
            at = _earliest_shared(shared, i, start, duration, latest)
        if at < FAR:
            at = when_devices(shared.devices, w, i, at, duration, latest)
        if at == start or at >= FAR:
            return at
        start = _earliest(profile, n, w, ti, i, at, duration, latest)
    return FAR


@inner
def _fits_in(profile, w, k, ti, i):
    """Whether task i fits into segment k of worker w."""
    for c in range(profile.shape[2] - 1):
        guard = ti[i, GUARD + c * WORD_INTS]
        if (profile[w, k, c + 1] - ti[i, NEED + c * WORD_INTS]) & guard != guard:
            return False
    return True


@inner
def _split(profile, ws, w, at):
    """Make `at` the start of a segment of worker w, for which there must be room; its index."""
    k = _segment(profile, ws[w, COUNT], w, at)
    if profile[w, k, 0] == at:
        return k
    columns = profile.shape[2]
    for j in range(ws[w, COUNT], k, -1):
        for c in range(columns):
            profile[w, j, c] = profile[w, j - 1, c]
    profile[w, k + 1, 0] = at
    ws[w, COUNT] += 1
    return k + 1


@inner
def _join(profile, ws, w, k):
    """Join segment k of worker w with the one before it where they are alike."""
    if k == 0 or k >= ws[w, COUNT]:
        return
    columns = profile.shape[2]
    for c in range(1, columns):
        if profile[w, k, c] != profile[w, k - 1, c]:
            return
    for j in range(k, ws[w, COUNT] - 1):
        for c in range(columns):
            profile[w, j, c] = profile[w, j + 1, c]
    ws[w, COUNT] -= 1


@inner
def _fill(profile, ws, w, start, end, ti, i, pieces):
    """Take the demand of so many pieces of task i on worker w over its run; below 0, give back."""
    first = _split(profile, ws, w, start)
    after = _split(profile, ws, w, end)
    for k in range(first, after):
        for c in range(profile.shape[2] - 1):
            profile[w, k, c + 1] -= pieces * ti[i, TAKE + c * WORD_INTS]
    if ti[i, LONE] >= 0:
        # An exclusive gang takes all of the worker, however many of its pieces are there.
        rest = (1 if pieces > 0 else -1) * ti[i, LONE_ALL] - pieces * ti[i, LONE_EACH]
        for k in range(first, after):
            profile[w, k, ti[i, LONE] + 1] -= rest
    _join(profile, ws, w, after)
    _join(profile, ws, w, first)


@inner
def _fill_shared(shared, ti, i, start, end, sign):
    """Take what task i takes of counted resources over its run (1), or give it back (-1)."""
    if shared is not None and ti[i, COUNTED] == 1:
        _fill(shared.profile, shared.ws, 0, start, end, shared.ti, i, sign)


@inner
def _give(devices, ps, p, beyond, w, i, start, end):
    """Let the pieces p to `beyond` - 1 of task i hold devices of worker w: those noted, if any."""
    if devices is not None and devices.workers.size > 0:
        for q in range(p, beyond):
            give(devices, q, w, i, start, end, ps[q, MASK])
            ps[q, MASK] = devices.held[q, HELD]


@inner
def _give_back(devices, ps, ti, i):
    """Let the pieces of task i hold no devices, and note none."""
    if devices is not None and devices.workers.size > 0:
        for q in range(ti[i, FIRST], ti[i, BEYOND]):
            take_back(devices, q)
            ps[q, MASK] = 0


@inner
def _note_devices(devices, ps, ti, i):
    """Write down which devices the pieces of task i hold."""
    if devices is not None and devices.workers.size > 0:
        for q in range(ti[i, FIRST], ti[i, BEYOND]):
            devices.held[q, WAS] = ps[q, MASK]


@inner
def _note_held(shared, ps, ti, i):
    """The same where anything may be shared."""
    if shared is not None:
        _note_devices(shared.devices, ps, ti, i)


@inner
def _as_noted(devices, ps, p):
    """Note the devices of piece p that were written down."""
    if devices is not None and devices.workers.size > 0:
        ps[p, MASK] = devices.held[p, WAS]


@inner
def _as_held(shared, ps, p):
    """Note the devices of piece p that were written down, where anything may be shared."""
    if shared is not None:
        _as_noted(shared.devices, ps, p)


@inner
def _wider(profile, segments):
    """A copy of a profile with room for so many segments, which hold all that are in use.

    A profile that grew by doubling may have more columns than that.
    """
    kept = min(segments, profile.shape[1])
    result = np.zeros((profile.shape[0], segments, profile.shape[2]), np.int64)
    for w in range(profile.shape[0]):
        for k in range(kept):
            for c in range(profile.shape[2]):
                result[w, k, c] = profile[w, k, c]
    return result


@inner
def _longer(items, places):
    """A copy of the items with room for so many runs on each worker."""
    result = np.zeros((items.shape[0], places), np.int64)
    for w in range(items.shape[0]):
        for k in range(items.shape[1]):
            result[w, k] = items[w, k]
    return result


@inner
def _pieces_that_fit(profile, n, w, ti, i, start, duration, most):
    """How many pieces of task i fit at once on worker w over a run, at most `most`.

    The second value is a moment before which no more of them fit: the end of the last segment
    of the run that has the least room, or FAR.
    """
    pieces, tightest = most, n
    end = start + duration
    k = _segment(profile, n, w, start)
    lone = ti[i, LONE]
    while True:
        if lone >= 0:
            guard = ti[i, GUARD + lone * WORD_INTS]
            need = ti[i, NEED + lone * WORD_INTS] + ti[i, LONE_ALL] - ti[i, LONE_EACH]
            if (profile[w, k, lone + 1] - need) & guard != guard:
                pieces, tightest = 0, k
        for c in range(profile.shape[2] - 1):
            take, need, guard = TAKE + c * WORD_INTS, NEED + c * WORD_INTS, GUARD + c * WORD_INTS
            free, fit = profile[w, k, c + 1], 0
            while fit <= pieces and (free - ti[i, need]) & ti[i, guard] == ti[i, guard]:
                free -= ti[i, take]
                fit += 1
            if fit <= pieces:
                pieces, tightest = fit, k
        k += 1
        if k == n or profile[w, k, 0] >= end:
            return pieces, profile[w, tightest + 1, 0] if tightest + 1 < n else FAR


@inner
def _fit_here(profile, shared, n, w, ti, i, start, duration, most):
    """The same with the devices of the worker, where these are told apart."""
    pieces, change = _pieces_that_fit(profile, n, w, ti, i, start, duration, most)
    if shared is not None:
        fit = device_pieces(shared.devices, w, i, start, start + duration, pieces)
        if fit < pieces:
            pieces, change = fit, next_change(shared.devices, w, start, change)
    return pieces, change
