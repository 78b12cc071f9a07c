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
    """Who holds which devices when; used up by kernels.

    They are handed None where a problem is plain, and ``NO_DEVICES`` where one is not but none are
    to be told apart.

    Few and wide, for handing on each array takes time.

    Parameters
    ----------
    workers : int64 (workers, 2)
        ``HAVE``: devices of each worker, 0 of those whose devices need not be told apart;
        ``HEAD``: a piece that is on it, -1 for none; the others follow by ``AFTER``.
    tasks : int64 (tasks, 2)
        ``NUMBER``, ``EACH``: how many devices a piece takes, and how much of each.
    held : int64 (held, 8)
        The pieces of a problem come first, then those of running tasks. ``AFTER``, ``BEFORE``:
        doubly linked lists of what is on each worker; ``ON``, ``BEGIN``, ``UNTIL``, ``HELD``,
        ``AMOUNT``: worker (-1: held nowhere), times, devices, and what of each; ``WAS``: devices
        before a move that may be undone.
    use : int64 (devices,)
        Room to count in.
    """

    workers: np.ndarray
    tasks: np.ndarray
    held: np.ndarray
    use: np.ndarray


HAVE, HEAD = range(2)
NUMBER, EACH = range(2)
AFTER, BEFORE, ON, BEGIN, UNTIL, HELD, AMOUNT, WAS = range(8)
NO_DEVICES = Devices(
    np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64), np.zeros((0, 8), np.int64),
    np.zeros(0, np.int64),
)  # fmt: skip
"""Of no worker."""


@inner
def takes_devices(devices, i):
    """Whether a piece of task i takes devices at all."""
    if devices is not None and devices.workers.size > 0:
        return devices.tasks[i, NUMBER] > 0
    return False


@inner
def _count_use(devices, w, start, end):
    """Fill ``use`` with the most that is held of each device of worker w within [start, end)."""
    number = devices.workers[w, HAVE]
    for d in range(number):
        devices.use[d] = 0
    p = devices.workers[w, HEAD]
    while p >= 0:
        if devices.held[p, BEGIN] < end and devices.held[p, UNTIL] > start:
            # What is held of a device is most at the start, or where some piece begins.
            at = max(start, devices.held[p, BEGIN])
            for d in range(number):
                if (devices.held[p, HELD] >> d) & 1 == 0 or devices.use[d] >= WHOLE_DEVICE:
                    continue
                total, q = 0, devices.workers[w, HEAD]
                while q >= 0:
                    here = devices.held[q, BEGIN] <= at < devices.held[q, UNTIL]
                    if here and (devices.held[q, HELD] >> d) & 1:
                        total += devices.held[q, AMOUNT]
                    q = devices.held[q, AFTER]
                devices.use[d] = max(devices.use[d], total)
        p = devices.held[p, AFTER]


@inner
def device_pieces(devices, w, i, start, end, most):
    """How many pieces of task i the devices of worker w hold at once over [start, end).

    At most `most`.
    """
    if devices is not None and devices.workers.size > 0:
        each = devices.tasks[i, EACH]
        if most > 0 and each > 0 and devices.workers[w, HAVE] > 0:
            _count_use(devices, w, start, end)
            fit = 0
            for d in range(devices.workers[w, HAVE]):
                fit += max(0, WHOLE_DEVICE - devices.use[d]) // each
            return min(most, fit // devices.tasks[i, NUMBER])
    return most


@inner
def next_change(devices, w, moment, otherwise):
    """The first end after a moment of what is on worker w; `otherwise` where that is sooner."""
    if devices is not None and devices.workers.size > 0:
        p = devices.workers[w, HEAD]
        while p >= 0:
            if devices.held[p, UNTIL] > moment:
                otherwise = min(otherwise, devices.held[p, UNTIL])
            p = devices.held[p, AFTER]
    return otherwise


@inner
def when_devices(devices, w, i, start, duration, latest):
    """The first start from `start` on at which worker w has devices for a piece of task i.

    ``NEVER`` where that is later than `latest`.
    """
    if devices is not None and devices.workers.size > 0:
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
    for _ in range(devices.tasks[i, NUMBER]):
        best = -1
        for d in range(devices.workers[w, HAVE]):
            if (mask >> d) & 1 or devices.use[d] + devices.tasks[i, EACH] > WHOLE_DEVICE:
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
    devices.held[p, ON], devices.held[p, HELD], devices.held[p, AMOUNT] = w, mask, amount
    devices.held[p, BEGIN], devices.held[p, UNTIL] = start, end
    head = devices.workers[w, HEAD]
    devices.held[p, BEFORE], devices.held[p, AFTER] = -1, head
    if head >= 0:
        devices.held[head, BEFORE] = p
    devices.workers[w, HEAD] = p


@inner
def give(devices, p, w, i, start, end, known):
    """Let piece p of task i hold devices of worker w over [start, end): the `known` ones if any."""
    if devices is not None and devices.workers.size > 0:
        if devices.workers[w, HAVE] == 0 or devices.tasks[i, NUMBER] == 0:
            return
        mask = known
        if mask == 0:
            mask = _devices_for(devices, w, i, start, end)
        _hold(devices, p, w, start, end, mask, devices.tasks[i, EACH])


@inner
def take_back(devices, p):
    """Let piece p hold nothing."""
    if devices is not None and devices.workers.size > 0:
        w = devices.held[p, ON]
        if w >= 0:
            if devices.held[p, BEFORE] >= 0:
                devices.held[devices.held[p, BEFORE], AFTER] = devices.held[p, AFTER]
            else:
                devices.workers[w, HEAD] = devices.held[p, AFTER]
            if devices.held[p, AFTER] >= 0:
                devices.held[devices.held[p, AFTER], BEFORE] = devices.held[p, BEFORE]
            devices.held[p, ON], devices.held[p, HELD] = -1, 0


@brief
def hold_all(devices, first, worker, until, mask, amount):
    """Note what runs: pieces from index `first` on, each from now until its end."""
    for k in range(worker.shape[0]):
        _hold(devices, first + k, worker[k], 0, until[k], mask[k], amount[k])
