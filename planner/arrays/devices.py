"""Which pieces hold which GPUs of a worker whose GPUs are devices, for kernels.

Kept only of workers where what is free of ``gpu`` does not tell what fits (``device_use``). A set
of devices is the bits of a number. Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import brief, inner

WHOLE_DEVICE = 1000
"""What there is of a device."""
NEVER = 1 << 50
"""``schedule.FAR``."""


class Devices(NamedTuple):
    """Who holds which devices when; used up by kernels, which are handed None where none count.

    Parameters
    ----------
    have : int64 (workers,)
        Devices of each worker; 0 of those whose devices need not be told apart.
    number, each : int64 (tasks,)
        How many devices a piece of a task takes, and how much of each.
    first : int64 (workers,)
        A piece that is on the worker, -1 for none; the others follow by `after`.
    after, before : int64 (held,)
        Doubly linked lists of what is on each worker. The pieces of a problem come first, then
        those of running tasks.
    on, begin, until, mask, amount : int64 (held,)
        Worker (-1: held nowhere), times, devices, and what of each.
    was : int64 (held,)
        Devices before a move that may be undone.
    use : int64 (devices,)
        Room to count in.
    """

    have: np.ndarray
    number: np.ndarray
    each: np.ndarray
    first: np.ndarray
    after: np.ndarray
    before: np.ndarray
    on: np.ndarray
    begin: np.ndarray
    until: np.ndarray
    mask: np.ndarray
    amount: np.ndarray
    was: np.ndarray
    use: np.ndarray


@inner
def takes_devices(devices, i):
    """Whether a piece of task i takes devices at all."""
    if devices is not None:
        return devices.number[i] > 0
    return False


@inner
def _count_use(devices, w, start, end):
    """Fill ``use`` with the most that is held of each device of worker w within [start, end)."""
    number = devices.have[w]
    for d in range(number):
        devices.use[d] = 0
    p = devices.first[w]
    while p >= 0:
        if devices.begin[p] < end and devices.until[p] > start:
            # What is held of a device is most at the start, or where some piece begins.
            at = max(start, devices.begin[p])
            for d in range(number):
                if (devices.mask[p] >> d) & 1 == 0 or devices.use[d] >= WHOLE_DEVICE:
                    continue
                total, q = 0, devices.first[w]
                while q >= 0:
                    if devices.begin[q] <= at < devices.until[q] and (devices.mask[q] >> d) & 1:
                        total += devices.amount[q]
                    q = devices.after[q]
                devices.use[d] = max(devices.use[d], total)
        p = devices.after[p]


@inner
def device_pieces(devices, w, i, start, end, most):
    """How many pieces of task i the devices of worker w hold at once over [start, end).

    At most `most`.
    """
    if devices is not None:
        each = devices.each[i]
        if most > 0 and each > 0 and devices.have[w] > 0:
            _count_use(devices, w, start, end)
            fit = 0
            for d in range(devices.have[w]):
                fit += max(0, WHOLE_DEVICE - devices.use[d]) // each
            return min(most, fit // devices.number[i])
    return most


@inner
def next_change(devices, w, moment, otherwise):
    """The first end after a moment of what is on worker w; `otherwise` where that is sooner."""
    if devices is not None:
        p = devices.first[w]
        while p >= 0:
            if devices.until[p] > moment:
                otherwise = min(otherwise, devices.until[p])
            p = devices.after[p]
    return otherwise


@inner
def when_devices(devices, w, i, start, duration, latest):
    """The first start from `start` on at which worker w has devices for a piece of task i.

    ``NEVER`` where that is later than `latest`.
    """
    if devices is not None:
        while start <= latest:
            if device_pieces(devices, w, i, start, start + duration, 1) == 1:
                return start
            start = next_change(devices, w, start, NEVER)
        return NEVER
    return start


@inner
def _devices_for(devices, w, i, start, end):
    """The devices that a piece of task i is given on worker w: the fullest that have room."""
    _count_use(devices, w, start, end)
    mask = 0
    for _ in range(devices.number[i]):
        best = -1
        for d in range(devices.have[w]):
            if (mask >> d) & 1 or devices.use[d] + devices.each[i] > WHOLE_DEVICE:
                continue
            if best < 0 or devices.use[d] > devices.use[best]:
                best = d
        if best < 0:
            return 0
        mask |= 1 << best
    return mask


@inner
def _hold(devices, p, w, start, end, mask, amount):
    """Note that piece p holds devices of worker w over [start, end)."""
    devices.on[p], devices.mask[p], devices.amount[p] = w, mask, amount
    devices.begin[p], devices.until[p] = start, end
    head = devices.first[w]
    devices.before[p], devices.after[p] = -1, head
    if head >= 0:
        devices.before[head] = p
    devices.first[w] = p


@inner
def give(devices, p, w, i, start, end, known):
    """Let piece p of task i hold devices of worker w over [start, end): the `known` ones if any."""
    if devices is not None and devices.have[w] > 0 and devices.number[i] > 0:
        mask = known
        if mask == 0:
            mask = _devices_for(devices, w, i, start, end)
        _hold(devices, p, w, start, end, mask, devices.each[i])


@inner
def take_back(devices, p):
    """Let piece p hold nothing."""
    if devices is not None:
        w = devices.on[p]
        if w >= 0:
            if devices.before[p] >= 0:
                devices.after[devices.before[p]] = devices.after[p]
            else:
                devices.first[w] = devices.after[p]
            if devices.after[p] >= 0:
                devices.before[devices.after[p]] = devices.before[p]
            devices.on[p], devices.mask[p] = -1, 0


@brief
def hold_all(devices, first, worker, until, mask, amount):
    """Note what runs: pieces from index `first` on, each from now until its end."""
    for k in range(worker.shape[0]):
        _hold(devices, first + k, worker[k], 0, until[k], mask[k], amount[k])
