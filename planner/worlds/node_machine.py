"""Workers with several resources and GPUs as devices: what fits, and what it leaves behind.

A piece asks for amounts of resources, and for whole devices or a share of *one*. GPUs are
counted in milli-GPU: a share is below 1000. Nothing here knows of time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel

WHOLE = 1000
"""Milli-GPU of a device."""

LEAST_ALLOCATED, MOST_ALLOCATED, BEST_FIT, FGD, REMAINDER, RANDOM = range(6)
"""Rules for choosing a worker, see ``rate``."""

STEPS = 100.0
"""FGD's score is a whole number up to this, as Kubernetes' scores are: what is alike ties."""

SCARCE = 20.0
"""Steps for each unit of ``Machine.price``."""

MANY = 1 << 30


class Cluster(NamedTuple):
    """What does not change: workers, and kinds of jobs that ask for the same.

    Parameters
    ----------
    capacity : int64 (workers, resources)
    devices : int64 (workers,)
    group : int64 (workers,)
        Workers that are alike.
    largest : float64 (resources + 1,)
        Most that a worker has of each resource, and devices, at least 1.
    demand : int64 (kinds, resources)
        Of a piece.
    gpus, milli : int64 (kinds,)
        Devices of a piece, and milli-GPU on each of them.
    pieces : int64 (kinds,)
    share : float64 (kinds,)
        The largest part of a resource of the whole cluster that a job takes.
    allowed : bool (kinds, groups)
        Whether a worker of a group satisfies a kind's labels, and holds a piece when empty.
    """

    capacity: np.ndarray
    devices: np.ndarray
    group: np.ndarray
    largest: np.ndarray
    demand: np.ndarray
    gpus: np.ndarray
    milli: np.ndarray
    pieces: np.ndarray
    share: np.ndarray
    allowed: np.ndarray


class Machine(NamedTuple):
    """What changes, and what is remembered of it.

    Parameters
    ----------
    free : int64 (workers, resources)
    left : int64 (workers, devices)
        Milli-GPU left of each device; 0 where a worker has fewer.
    version : int64 (workers,)
        Rises whenever a worker changes.
    broken : float64 (workers,)
        The fragmentation of each worker.
    mixed : int64 (kinds of the mix,)
    mix : float64 (kinds of the mix,)
        The kinds that are expected, and how often; a weight of 0 ends the list.
    price : float64 (kinds, groups)
        What a job of a kind takes there from those who have less choice, see
        ``node_replay.pressure``.
    rating, device, stamp : (kinds or 0, workers)
        Ratings of workers for each kind, and the versions that they are of.
    active : int64 (kinds + 1,)
        Kinds that wait; the last place holds their number.
    waits, room : int64 (kinds,)
        How many jobs of a kind wait; how many pieces of an active one fit now.
    noise : int64 (1,)
        The last random number, above 0.
    """

    free: np.ndarray
    left: np.ndarray
    version: np.ndarray
    broken: np.ndarray
    mixed: np.ndarray
    mix: np.ndarray
    price: np.ndarray
    rating: np.ndarray
    device: np.ndarray
    stamp: np.ndarray
    active: np.ndarray
    waits: np.ndarray
    room: np.ndarray
    noise: np.ndarray


@inner
def pieces_that_fit(c, k, free, left):
    """How many pieces of a kind fit beside what a worker has free and left of its devices."""
    found = MANY
    for q in range(free.shape[0]):
        if c.demand[k, q] > 0:
            found = min(found, free[q] // c.demand[k, q])
    if c.gpus[k] > 0 and found > 0:
        on_devices = 0
        for d in range(left.shape[0]):
            on_devices += left[d] // c.milli[k]
        found = min(found, on_devices // c.gpus[k])
    return found


@inner
def fragmentation(c, m, w, free, left, lasting):
    """Milli-GPU on a worker that the kinds of the mix could not use, on average over the mix.

    Parameters
    ----------
    lasting : bool
        Whether a device counts as usable only as far as further resources last for it: of two
        devices beside processors for one, one and a half count.

    References
    ----------
    Weng et al. (2023), "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
    Fragmentation Gradient Descent", USENIX ATC.
    """
    total, whole = 0, 0
    for d in range(left.shape[0]):
        total += left[d]
        if left[d] == WHOLE:
            whole += 1
    if total == 0:
        return 0.0
    result = 0.0
    for place in range(m.mixed.shape[0]):
        if m.mix[place] <= 0.0:
            break
        k = m.mixed[place]
        usable, most = 0.0, 0
        if c.gpus[k] > 0 and c.allowed[k, c.group[w]]:
            if c.milli[k] == WHOLE:
                if whole >= c.gpus[k]:
                    usable, most = 1.0 * WHOLE * whole, whole // c.gpus[k]
            else:
                for d in range(left.shape[0]):
                    if left[d] >= c.milli[k]:
                        usable += left[d]
                        most += left[d] // c.milli[k]
        if usable > 0.0:
            room = MANY
            for q in range(free.shape[0]):
                if c.demand[k, q] > 0:
                    room = min(room, free[q] // c.demand[k, q])
            if room == 0:
                usable = 0.0
            elif lasting and room < most:
                usable *= np.sqrt(room / most)
        result += m.mix[place] * (total - usable)
    return result


@inner
def put(c, k, free, left, device):
    """Take a piece's resources: a share of `device`, else the first whole ones. Devices as bits."""
    for q in range(free.shape[0]):
        free[q] -= c.demand[k, q]
    if c.gpus[k] == 0:
        return 0
    if device >= 0:
        left[device] -= c.milli[k]
        return 1 << device
    bits, wanted = 0, c.gpus[k]
    for d in range(left.shape[0]):
        if wanted > 0 and left[d] >= c.milli[k]:
            left[d] -= c.milli[k]
            bits |= 1 << d
            wanted -= 1
    return bits


@inner
def give_back(c, k, free, left, bits):
    """The reverse of ``put``."""
    for q in range(free.shape[0]):
        free[q] += c.demand[k, q]
    for d in range(left.shape[0]):
        if (bits >> d) & 1:
            left[d] += c.milli[k]


@inner
def _tightest(c, k, left):
    """The device with the least left that has room for a share; -1 for whole devices."""
    if c.gpus[k] == 0 or c.milli[k] == WHOLE:
        return -1
    found = -1
    for d in range(left.shape[0]):
        if left[d] >= c.milli[k] and (found < 0 or left[d] < left[found]):
            found = d
    return found


@inner
def _allocated(c, k, w, free, left):
    """Mean over what a worker has of the part that is free beside a piece."""
    total, counted = 0.0, 0
    for q in range(free.shape[0]):
        if c.capacity[w, q] > 0:
            total += (free[q] - c.demand[k, q]) / c.capacity[w, q]
            counted += 1
    if c.devices[w] > 0:
        remains = -c.gpus[k] * c.milli[k]
        for d in range(left.shape[0]):
            remains += left[d]
        total += remains / (WHOLE * c.devices[w])
        counted += 1
    return total / max(1, counted)


@inner
def _emptiness(c, k, free, left):
    """What remains beside a piece as a part of the largest worker, mean over resources."""
    resources = free.shape[0]
    remains = -c.gpus[k] * c.milli[k]
    for d in range(left.shape[0]):
        remains += left[d]
    total = remains / (WHOLE * c.largest[resources])
    for q in range(resources):
        total += (free[q] - c.demand[k, q]) / c.largest[q]
    return total / (resources + 1)


@inner
def _steps(c, m, k, w, device, free, left, lasting):
    """How much more of a worker a piece would break, in FGD's whole steps; fewer are better."""
    bits = put(c, k, free, left, device)
    more = fragmentation(c, m, w, free, left, lasting) - m.broken[w]
    give_back(c, k, free, left, bits)
    return -np.floor(STEPS / (1.0 + np.exp(more / WHOLE)))


@inner
def rate(c, m, k, w, rule):
    """Rate a worker for a piece of a kind: least is best; and the device for a share of one.

    Returns
    -------
    rating : float
        Infinite where the piece does not fit.
    device : int
        -1 for whole devices.

    Notes
    -----
    Kubernetes' LeastAllocated and MostAllocated take the mean over the worker's resources, best
    fit the sum of what remains in parts of the largest worker, FGD the growth of the
    fragmentation. ``REMAINDER`` adds to FGD's what the piece takes from those who have less
    choice, and counts devices as usable as far as processors last.
    """
    free, left = m.free[w], m.left[w]
    if not c.allowed[k, c.group[w]] or pieces_that_fit(c, k, free, left) == 0:
        return np.inf, -1
    device = _tightest(c, k, left)
    if rule == RANDOM:
        m.noise[0] = m.noise[0] * 48271 % 2147483647  # Park and Miller's
        return m.noise[0] / 2147483647.0, device
    if rule == LEAST_ALLOCATED:
        return -_allocated(c, k, w, free, left), device
    if rule == MOST_ALLOCATED:
        return _allocated(c, k, w, free, left), device
    if rule == BEST_FIT:
        return _emptiness(c, k, free, left), device
    lasting = rule == REMAINDER
    best = np.inf
    if device < 0:
        best = _steps(c, m, k, w, -1, free, left, lasting)
    else:
        for d in range(left.shape[0]):
            seen = left[d] < c.milli[k]
            for e in range(d):
                seen = seen or left[e] == left[d]
            if not seen:
                steps = _steps(c, m, k, w, d, free, left, lasting)
                if steps < best:
                    best, device = steps, d
    if lasting:
        best += SCARCE * m.price[k, c.group[w]]
    return best, device


@inner
def _recount(c, m, w, sign):
    """Add a worker's part to, or take it from, what fits of the kinds that wait."""
    for place in range(m.active[-1]):
        k = m.active[place]
        if c.allowed[k, c.group[w]]:
            m.room[k] += sign * pieces_that_fit(c, k, m.free[w], m.left[w])


@inner
def take(c, m, k, w, device, breaks):
    """Put a piece on a worker; its devices as bits. With `breaks`, ``broken`` is kept."""
    _recount(c, m, w, -1)
    bits = put(c, k, m.free[w], m.left[w], device)
    _changed(c, m, w, breaks)
    return bits


@inner
def release(c, m, k, w, bits, breaks):
    """Take a piece off a worker."""
    _recount(c, m, w, -1)
    give_back(c, k, m.free[w], m.left[w], bits)
    _changed(c, m, w, breaks)


@inner
def _changed(c, m, w, breaks):
    _recount(c, m, w, 1)
    m.version[w] += 1
    if breaks > 0:
        m.broken[w] = fragmentation(c, m, w, m.free[w], m.left[w], breaks > 1)


@kernel
def mix_anew(c, m, breaks):
    """After another mix: every worker's fragmentation and ratings are out of date."""
    for w in range(m.version.shape[0]):
        m.version[w] += 1
        m.broken[w] = fragmentation(c, m, w, m.free[w], m.left[w], breaks > 1)


@inner
def wait_for(c, m, k):
    """A job of a kind waits: from now on what fits of the kind is kept up to date."""
    m.waits[k] += 1
    if m.waits[k] > 1:
        return
    m.active[m.active[-1]] = k
    m.active[-1] += 1
    m.room[k] = 0
    for w in range(m.version.shape[0]):
        if c.allowed[k, c.group[w]]:
            m.room[k] += pieces_that_fit(c, k, m.free[w], m.left[w])


@inner
def wait_no_more(m, k):
    """A job of a kind has started, or is gone."""
    m.waits[k] -= 1
    if m.waits[k] > 0:
        return
    place = 0
    while m.active[place] != k:
        place += 1
    m.active[-1] -= 1
    m.active[place] = m.active[m.active[-1]]
