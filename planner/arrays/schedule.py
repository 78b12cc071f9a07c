"""What is free on each worker over time, and where a task fits.

A *profile* tells what is free on each worker over time: ``times[w, k]`` is the start of
segment k, ``free[w, k, r]`` what is free of resource r in it (-1 everywhere in it: the
worker takes nothing), ``count[w]`` the number of segments; the last one lasts forever.
Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.devices import Devices, device_pieces, next_change, when_devices
from plancast.planner.arrays.jit import brief, inner
from plancast.planner.arrays.rows import slowest

FAR = 1 << 50

GANG_INTS = 5
MOST_HERE, MOST_WORKERS, FIRST_CHOICE, BEYOND_CHOICE, WHOLE = range(GANG_INTS)
"""Columns of ``Problem.gang``: most pieces on one worker; most workers; rows of `allowed` of which
one holds all pieces (none: both 0); what an exclusive gang takes of the last resource of each of
its workers, however many of its pieces are there (0: as any other, by the piece)."""

BEFORE, SINCE, LAG = range(3)
"""Columns of ``Problem.link``: the predecessor; whether from its start (0) or its end (1); seconds
that must have passed since then."""


@inner
def latest_start(hard_end, last_start, release, max_stretch, duration):
    """Latest permitted start of a task of this duration: hard deadline, wait and stretch bounds."""
    latest = min(hard_end - duration, last_start)
    if max_stretch > 0.0:
        # (end - release) / max(duration, 10) <= max_stretch; 1e-9 forgives the division.
        room = max_stretch * max(duration, 10) * (1 + 1e-12) + 1e-9
        room = int(np.floor(min(room, 8.0 * FAR)))
        latest = min(latest, release + room - duration)
    return latest


@inner
def _segment_at(times, count, at):
    """Index of the segment that holds the moment `at` (at >= times[0])."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if times[middle] <= at:
            low = middle
        else:
            high = middle - 1
    return low


@brief
def earliest_start(times, free, count, demand, not_before, duration):
    """Earliest start on one worker at which `demand` fits for `duration`, or FAR.

    Parameters
    ----------
    times : int64 (segments,)
    free : int64 (segments, resources)
    count : int
    demand : int64 (resources,)
    not_before, duration : int
    """
    k = _segment_at(times, count, not_before)
    start = not_before
    while True:
        # Is the demand met from `start` until `start + duration`, in segments k, k+1, ...?
        end = start + duration
        j = k
        while True:
            fits = True
            for r in range(demand.shape[0]):
                if free[j, r] < demand[r]:
                    fits = False
                    break
            if not fits:
                break
            if j == count - 1 or times[j + 1] >= end:
                return start
            j += 1
        if j == count - 1:
            return FAR
        k = j + 1
        start = times[k]


@inner
def _earliest_by(times, free, count, w, demand, i, not_before, duration, latest):
    """The same for task i on worker w, but FAR where it is later than `latest`.

    Whole arrays and indices: a view of an array costs as much as what is done here.
    """
    last = count[w] - 1
    k, high = 0, last
    while k < high:
        middle = (k + high + 1) >> 1
        if times[w, middle] <= not_before:
            k = middle
        else:
            high = middle - 1
    start = not_before
    while start <= latest:
        end = start + duration
        j = k
        while True:
            fits = True
            for r in range(demand.shape[1]):
                if free[w, j, r] < demand[i, r]:
                    fits = False
                    break
            if not fits:
                break
            if j == last or times[w, j + 1] >= end:
                return start
            j += 1
        if j == last:
            return FAR
        k = j + 1
        start = times[w, k]
    return FAR


class Spare(NamedTuple):
    """What is free of counted resources; None, which is compiled for itself, in plain problems.

    Parameters
    ----------
    times, free, segments
        Profile, as one worker's, with room for all tasks; used up.
    takes : int64 (tasks, counted)
    devices : Devices
        Who holds which GPUs of workers, where these are told apart.
    """

    times: np.ndarray
    free: np.ndarray
    segments: np.ndarray
    takes: np.ndarray
    devices: Devices


@inner
def _earliest_spare(spare, i, not_before, duration, latest):
    """The same by what task i takes of counted resources alone."""
    return _earliest_by(
        spare.times, spare.free, spare.segments, 0, spare.takes, i, not_before, duration, latest
    )


@inner
def _beside(times, free, count, w, demand, i, start, duration, latest, spare):
    """The first start from `start`, where it fits on the worker, that has what is counted too.

    And devices of the worker.
    """
    while start < FAR:
        at = _earliest_spare(spare, i, start, duration, latest)
        if at < FAR:
            at = when_devices(spare.devices, w, i, at, duration, latest)
        if at == start or at >= FAR:
            return at
        start = _earliest_by(times, free, count, w, demand, i, at, duration, latest)
    return FAR


@inner
def _pieces_that_fit(times, free, count, demand, start, duration, most, whole):
    """How many pieces of `demand` fit at once over [start, start + duration), at most `most`.

    None where less than `whole` of the last resource is free. The second value is a moment before
    which no more fit in a run of that duration: the end of the last segment with the least room.
    """
    pieces, tightest = most, count
    first, k = _segment_at(times, count, start), _segment_at(times, count, start + duration - 1)
    while k >= first and pieces > 0:
        fit = pieces if free[k, demand.shape[0] - 1] >= whole else np.int64(0)
        for r in range(demand.shape[0]):
            if free[k, r] < 0:
                fit = np.int64(0)
            elif demand[r] > 0:
                fit = min(fit, free[k, r] // demand[r])
        if fit < pieces:
            pieces, tightest = fit, k
        k -= 1
    return pieces, times[tightest + 1] if tightest + 1 < count else FAR


@inner
def _split_at(times, free, count, w, at):
    """Make `at` the start of a segment of worker w, for which there must be room; its index."""
    k = _segment_at(times[w], count[w], at)
    if times[w, k] == at:
        return k
    for j in range(count[w], k + 1, -1):
        times[w, j] = times[w, j - 1]
        for r in range(free.shape[2]):
            free[w, j, r] = free[w, j - 1, r]
    times[w, k + 1] = at
    for r in range(free.shape[2]):
        free[w, k + 1, r] = free[w, k, r]
    count[w] += 1
    return k + 1


@brief
def with_room(times, free, count, w):
    """The profile arrays, doubled in size where worker w might not hold two more segments."""
    if count[w] + 2 <= times.shape[1]:
        return times, free
    size = max(times.shape[1] * 2, count[w] + 2)
    wider_times = np.zeros((times.shape[0], size), np.int64)
    wider_free = np.zeros((free.shape[0], size, free.shape[2]), np.int64)
    for v in range(times.shape[0]):
        for k in range(count[v]):
            wider_times[v, k] = times[v, k]
            for r in range(free.shape[2]):
                wider_free[v, k, r] = free[v, k, r]
    return wider_times, wider_free


@brief
def occupy(times, free, count, w, start, end, demand):
    """Take `demand` from worker w over [start, end); call `with_room` first."""
    first = _split_at(times, free, count, w, start)
    after = count[w]
    if end < FAR:
        after = _split_at(times, free, count, w, end)
    for k in range(first, after):
        for r in range(demand.shape[0]):
            free[w, k, r] -= demand[r]


@brief
def close(times, free, count, w, start, end):
    """Let worker w take nothing over [start, end); call `with_room` first."""
    first = _split_at(times, free, count, w, start)
    after = count[w]
    if end < FAR:
        after = _split_at(times, free, count, w, end)
    for k in range(first, after):
        for r in range(free.shape[2]):
            free[w, k, r] = -1


@brief
def build_profile(capacity, busy_worker, busy_end, busy_demand, shut_worker, shut_start, shut_end):
    """The profile before anything is planned: running tasks, then closed windows.

    Parameters
    ----------
    capacity : int64 (workers, resources)
    busy_worker, busy_end : int64 (running pieces,)
        Each takes ``busy_demand`` from now until its end.
    busy_demand : int64 (running pieces, resources)
    shut_worker, shut_start, shut_end : int64 (windows,)
        Blocked windows, the time before a worker is free, the time after it drains.
    """
    workers, resources = capacity.shape
    times = np.zeros((workers, 8), np.int64)
    free = np.zeros((workers, 8, resources), np.int64)
    count = np.ones(workers, np.int64)
    for w in range(workers):
        for r in range(resources):
            free[w, 0, r] = capacity[w, r]
    for i in range(busy_worker.shape[0]):
        w = busy_worker[i]
        times, free = with_room(times, free, count, w)
        occupy(times, free, count, w, 0, busy_end[i], busy_demand[i])
    # What runs may exceed the capacity (logs do); a task that takes none of it still fits.
    for w in range(workers):
        for k in range(count[w]):
            for r in range(resources):
                free[w, k, r] = max(free[w, k, r], 0)
    for i in range(shut_worker.shape[0]):
        w = shut_worker[i]
        times, free = with_room(times, free, count, w)
        close(times, free, count, w, shut_start[i], shut_end[i])
    return times, free, count


@inner
def keep_fullest(pieces, most_workers, shards):
    """Leave pieces only on the workers that hold most of them; how many, at most `shards`."""
    total = 0
    for _ in range(min(most_workers, pieces.shape[0])):
        best = -1
        for w in range(pieces.shape[0]):
            if pieces[w] > 0 and (best < 0 or pieces[w] > pieces[best]):
                best = w
        if best < 0 or total == shards:
            break
        taken = min(pieces[best], shards - total)
        pieces[best] = -taken
        total += taken
    for w in range(pieces.shape[0]):
        pieces[w] = max(0, -pieces[w])
    return total


@inner
def _fit_gang(
    times, free, count, demand, lasts, shape, shards, most, until, pieces, moment, limit, spare, i,
):  # fmt: skip
    """Fill `pieces` with a gang over a run; how many fit, or fewer than `shards` where not all do.

    At most ``most[w]`` pieces fit on worker w in such a run that starts before ``until[w]``; what
    is learned of that is written down. ``lasts[w]`` is 0 where no piece may be.
    """
    packed = shape[MOST_WORKERS] < shards
    total = to_come = np.int64(0)
    for w in range(lasts.shape[0]):
        pieces[w] = 0
        if 0 < lasts[w] <= limit:
            if until[w] <= moment:
                most[w], until[w] = min(shards, shape[MOST_HERE]), FAR
            to_come += most[w]
    for w in range(lasts.shape[0]):
        if total + to_come < shards or (total == shards and not packed):
            break
        if lasts[w] == 0 or lasts[w] > limit or most[w] == 0:
            continue
        to_come -= most[w]
        wanted = most[w] if packed else min(most[w], shards - total)
        fit, change = _pieces_that_fit(
            times[w], free[w], count[w], demand, moment, limit, wanted, shape[WHOLE],
        )  # fmt: skip
        if spare is not None:
            held = device_pieces(spare.devices, w, i, moment, moment + limit, fit)
            if held < fit:
                fit, change = held, next_change(spare.devices, w, moment, change)
        if fit == 0 and change < FAR:
            change = earliest_start(times[w], free[w], count[w], demand, change, limit)
        if fit < wanted:
            most[w], until[w] = fit, change
        pieces[w] = fit
        total += fit
    if packed:
        total = keep_fullest(pieces, shape[MOST_WORKERS], shards)
    return total


@inner
def _next_for_gang(lasts, shape, shards, most, until, moment, limit):
    """The first moment after `moment` at which all pieces of a gang may fit, or FAR.

    As far as ``_fit_gang`` has learned it.
    """
    total = np.int64(0)
    for w in range(lasts.shape[0]):
        if 0 < lasts[w] <= limit:
            total += most[w]
    while moment < FAR:
        after = np.int64(FAR)
        for w in range(lasts.shape[0]):
            if 0 < lasts[w] <= limit and until[w] > moment:
                after = min(after, until[w])
        for w in range(lasts.shape[0]):
            if 0 < lasts[w] <= limit and until[w] == after and after < FAR:
                total += min(shards, shape[MOST_HERE]) - most[w]
        moment = after
        if total >= shards:
            break
    return moment


@inner
def _place_gang(
    times, free, count, demand, not_before, durations, allowed, row, hard_end, last_start,
    release, max_stretch, shape, chosen, spare, counted, i,
):  # fmt: skip
    """Earliest-ending placement of a gang; fills `chosen` and returns (start, end), FAR if none.

    A gang ends with its slowest piece, so each distinct duration is tried as the limit of
    which workers may take part; and where one alternative must hold for all pieces, each of them.
    """
    best_start, best_end = FAR, FAR
    workers, shards = durations.shape[0], chosen.shape[0]
    pieces, limit = np.zeros(workers, np.int64), np.int64(0)
    lasts, most, until = np.zeros(workers, np.int64), pieces.copy(), pieces.copy()
    first, beyond = shape[FIRST_CHOICE], shape[BEYOND_CHOICE]
    if first == beyond:
        first, beyond = row, row + 1
    while first < beyond:
        shorter, limit = limit, np.int64(FAR)
        for w in range(workers):
            until[w] = not_before
            lasts[w] = durations[w] if allowed[first, w] else 0
            if lasts[w] > shorter:
                limit = min(limit, lasts[w])
        if limit == FAR:
            first, limit = first + 1, np.int64(0)
            continue
        latest = latest_start(hard_end, last_start, release, max_stretch, limit)
        moment = not_before
        while moment <= latest and moment + limit < best_end:
            if spare is not None and counted:
                # What comes free on a worker in the meantime changes nothing.
                moment = _earliest_spare(spare, i, moment, limit, latest)
                if moment > latest or moment + limit >= best_end:
                    break
            total = _fit_gang(
                times, free, count, demand, lasts, shape, shards, most, until, pieces, moment,
                limit, spare, i,
            )  # fmt: skip
            if total == shards:
                # Shorter than the limit, and sooner too stretched, if only faster ones were taken.
                duration = slowest(durations, pieces)
                if moment > latest_start(hard_end, last_start, release, max_stretch, duration):
                    break
                filled = 0
                for w in range(workers):
                    for _ in range(pieces[w]):
                        chosen[filled] = w
                        filled += 1
                best_start, best_end = moment, moment + duration
                break
            moment = _next_for_gang(lasts, shape, shards, most, until, moment, limit)
    return best_start, best_end


@brief
def lay_out(
    waiting, now, times, free, count, demand, duration, release, piece_ptr, piece_worker,
    piece_count, pred_ptr, pred, end,
):  # fmt: skip
    """Reserve for each task, in turn, the earliest time on its given workers.

    Parameters
    ----------
    waiting : int64 (waiting tasks,)
        In the order in which they take their reservations.
    now : int
        Nothing starts before.
    times, free, count
        Profile with everything that runs; used up by the call.
    demand : int64 (tasks, resources)
    duration, release : int64 (tasks,)
        Expected duration on the given workers; earliest start.
    piece_ptr, piece_worker, piece_count : int64
        Distinct workers of each task in CSR form, and how many pieces each takes.
    pred_ptr, pred : int64
    end : int64 (tasks,)
        Expected ends of what runs or has ended; those of `waiting` are filled in, FAR where a
        task finds no time any more.

    Returns
    -------
    bool (waiting tasks,)
        Whether the reservation begins at `now`.
    """
    starts_now = np.zeros(waiting.shape[0], np.bool_)
    for k in range(waiting.shape[0]):
        i = waiting[k]
        start = max(now, release[i])
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            start = max(start, end[pred[p]])
        settled = False
        while not settled and start < FAR:
            settled = True
            for p in range(piece_ptr[i], piece_ptr[i + 1]):
                w = piece_worker[p]
                s = earliest_start(
                    times[w], free[w], count[w], demand[i] * piece_count[p], start, duration[i]
                )
                if s > start:
                    start, settled = s, False
        end[i] = FAR
        if start >= FAR:
            continue
        end[i] = start + duration[i]
        starts_now[k] = start == now
        for p in range(piece_ptr[i], piece_ptr[i + 1]):
            w = piece_worker[p]
            times, free = with_room(times, free, count, w)
            occupy(times, free, count, w, start, end[i], demand[i] * piece_count[p])
    return starts_now
