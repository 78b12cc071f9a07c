"""A schedule in the search: what it costs, and taking tasks out of it and putting them in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.hours import Hours, extra_cost
from plancast.planner.arrays.jit import brief, inner
from plancast.planner.arrays.schedule import FAR
from plancast.planner.solvers.lns.profile import (
    BASE_END,
    BASE_LOAD,
    BASE_ON,
    BEFORE,
    BEYOND,
    BEYOND_PRED,
    BEYOND_SUCC,
    BOOT,
    BUSY,
    COUNT,
    DEADLINE,
    DUE,
    DUE_WEIGHT,
    END,
    END_S,
    FAIL,
    FIRST,
    FREE_FROM,
    HARD_END,
    HEALTH,
    IDLE,
    KIND,
    LAG,
    LAST,
    LAST_START,
    LATE_S,
    LOAD_S,
    MISS,
    MOVE,
    MOVED_AFTER,
    NUMBER,
    ON,
    OURS,
    OVER,
    OWNER,
    OWNER_PART,
    OWNER_S,
    PRED,
    RAW_RELEASE,
    RELEASE,
    REST,
    SINCE,
    SLOT,
    SLOWDOWN,
    START,
    SUCC,
    TARGET,
    TASK,
    WAIT_S,
    WAS_ON,
    WEIGHT,
    Shared,
    _fill,
    _fill_shared,
    _give,
    _give_back,
    _wider,
)


class Fixed(NamedTuple):
    """What does not change during the search.

    ``ti, tf`` (tasks, ...), ``wi, wf`` (workers, ...) and ``pi`` (pieces, 2) have the columns
    named above; ``run_s`` (tasks, classes) durations, ``share`` (kinds, workers),
    ``room`` (kinds, workers) the most pieces that an empty worker may hold,
    ``link`` (2 links, 3) that of ``Problem`` and the same turned round below it. ``every_ptr,
    every``: the allowed workers of each kind, CSR. ``pool`` (kinds, places): workers to look at for
    each kind, each as often as it should be looked at. ``active``: the tasks that may be moved.
    ``hours``: what energy costs above its least price, None in plain problems.
    """

    ti: np.ndarray
    tf: np.ndarray
    wi: np.ndarray
    wf: np.ndarray
    pi: np.ndarray
    run_s: np.ndarray
    room: np.ndarray
    share: np.ndarray
    link: np.ndarray
    every_ptr: np.ndarray
    every: np.ndarray
    pool: np.ndarray
    active: np.ndarray
    rates: np.ndarray
    owner_tasks: np.ndarray
    base_wait_s: np.ndarray
    max_stretch: float
    base_cost: float
    hours: Hours | None


class State(NamedTuple):
    """A schedule and what its cost is made of.

    ``ts`` (tasks, 2), ``ps`` (pieces, 2; 3 where devices are told apart) and ``ws`` (workers, 3)
    int64 have the columns named above; ``load_s`` (workers,) is dominant share times seconds,
    ``wait_s`` (owners,) the sum of waits. ``shared``: what is free of counted resources, and who
    holds which devices; None in plain problems.
    """

    ts: np.ndarray
    ps: np.ndarray
    ws: np.ndarray
    load_s: np.ndarray
    wait_s: np.ndarray
    shared: Shared | None


@inner
def _run_end(ps, p, beyond):
    """The first piece after p, before `beyond`, that is on another worker."""
    q = p + 1
    while q < beyond and ps[q, ON] == ps[p, ON]:
        q += 1
    return q


@inner
def _latest_start(ti, max_stretch, i, latest_end, duration):
    """Latest permitted start: hard deadline or successors, wait and stretch bounds."""
    latest = min(latest_end - duration, ti[i, LAST_START])
    if max_stretch > 0.0:
        # (end - release) / max(duration, 10) <= max_stretch; 1e-9 forgives the division.
        room = max_stretch * max(duration, 10) * (1 + 1e-12) + 1e-9
        room = int(np.floor(min(room, 8.0 * FAR)))
        latest = min(latest, ti[i, RAW_RELEASE] + room - duration)
    return latest


@inner
def _window(ti, link, ts, i):
    """Earliest start of task i after its predecessors, latest end before its placed successors.

    The third value tells whether some successor is not placed yet, the fourth is the latest start
    for those that wait for it to start.
    """
    earliest, latest_end, awaited, latest = ti[i, RELEASE], ti[i, HARD_END], False, FAR
    for p in range(ti[i, PRED], ti[i, BEYOND_PRED]):
        earliest = max(earliest, ts[link[p, BEFORE], link[p, SINCE]] + link[p, LAG])
    for p in range(ti[i, SUCC], ti[i, BEYOND_SUCC]):
        begins = ts[link[p, BEFORE], START]
        awaited = awaited or begins >= FAR
        if link[p, SINCE] == END:
            latest_end = min(latest_end, begins - link[p, LAG])
        else:
            latest = min(latest, begins - link[p, LAG])
    return earliest, latest_end, awaited, latest


@inner
def _time_price(ti, tf, rates, i, awaited, makespan, tie, start, end):
    """What a start and an end of task i add to the cost, with what they cost those after it."""
    weight, release, deadline, rest = tf[i, WEIGHT], ti[i, RAW_RELEASE], ti[i, DEADLINE], 0
    cost = (rates[WAIT_S] * weight + rates[OWNER_S] * tf[i, OWNER_PART]) * (start - release)
    if rates[SLOWDOWN] > 0.0:
        cost += rates[SLOWDOWN] * weight * (end - release) / max(end - start, 10)
    if awaited:
        deadline, weight, rest = ti[i, DUE], tf[i, DUE_WEIGHT], ti[i, REST]
    if end > deadline:
        cost += weight * (rates[LATE_S] * (end - deadline) + rates[MISS])
    return cost + rates[END_S] * max(0, end + rest - makespan) + tie * end


@inner
def _task_cost(ti, tf, rates, i, start, end):
    """What a task adds to the terms that are sums over tasks, without its workers."""
    weight, release = tf[i, WEIGHT], ti[i, RAW_RELEASE]
    cost = rates[WAIT_S] * weight * (start - release)
    late = end - ti[i, DEADLINE]
    if late > 0:
        cost += weight * (rates[LATE_S] * late + rates[MISS])
    if rates[SLOWDOWN] > 0.0:
        cost += rates[SLOWDOWN] * weight * (end - release) / max(end - start, 10)
    return cost


@inner
def _piece_cost(ti, wf, share, rates, hours, i, w, start, end):
    """What a piece on worker w adds to the terms that are sums over pieces."""
    duration = end - start
    cost = wf[w, BUSY] * share[ti[i, KIND], w] * duration
    if rates[FAIL] > 0.0:
        cost += rates[FAIL] * (1.0 - wf[w, HEALTH] ** (duration / 3600.0))
    if hours is not None and hours.group.size > 0:
        cost += extra_cost(hours, w, hours.busy_w[w] * share[ti[i, KIND], w], start, end)
    return cost


@inner
def _worker_cost(wi, wf, hours, w, last_end, used):
    """Idle power and boot of a worker whose last end is `last_end`, and what is over target."""
    if not used:
        return 0.0
    cost = wf[w, IDLE] * max(0, last_end - wi[w, FREE_FROM])
    if wi[w, BASE_ON] == 0:
        cost += wf[w, BOOT]
    if hours is not None and hours.group.size > 0 and last_end > wi[w, FREE_FROM]:
        cost += extra_cost(hours, w, hours.idle_w[w], wi[w, FREE_FROM], last_end)
    return cost + wf[w, OVER] * max(0, last_end - wi[w, TARGET])


@inner
def _ends_sooner(wi, wf, hours, pi, ts, ws, items, w):
    """Note the last end of worker w, which may be sooner than was noted; what that saves."""
    latest = wi[w, BASE_END]
    for k in range(ws[w, NUMBER]):
        latest = max(latest, ts[pi[items[w, k], TASK], END])
    if latest >= ws[w, LAST]:
        return 0.0
    saved = _worker_cost(wi, wf, hours, w, ws[w, LAST], True)
    saved -= _worker_cost(wi, wf, hours, w, latest, True)
    ws[w, LAST] = latest
    return saved


@inner
def _has_moved(ti, pi, ps, i, start):
    """Whether task i, on its workers in `ps`, has moved against the incumbent."""
    if ti[i, MOVED_AFTER] >= FAR:
        return False
    if start > ti[i, MOVED_AFTER]:
        return True
    low, high = ti[i, FIRST], ti[i, BEYOND]
    # Both are sorted: each worker is there as often as it was.
    for p in range(low, high):  # noqa: SIM110 (numba)
        if ps[p, ON] != pi[p, WAS_ON]:
            return True
    return False


@inner
def _worst_off(rates, owner_tasks, load_s, wait_s, makespan):
    """The priced terms that are a maximum: makespan, unfairness, imbalance."""
    cost = rates[END_S] * makespan
    if rates[OWNER_S] > 0.0:
        wait = 0.0
        for o in range(wait_s.shape[0]):
            wait = max(wait, wait_s[o] / owner_tasks[o])
        cost += rates[OWNER_S] * wait
    if rates[LOAD_S] > 0.0:
        load = 0.0
        for w in range(load_s.shape[0]):
            load = max(load, load_s[w])
        cost += rates[LOAD_S] * load
    return cost


@inner
def _makespan(wi, ws):
    """Latest last end of our workers."""
    makespan = 0
    for w in range(ws.shape[0]):
        if wi[w, OURS] == 1:
            makespan = max(makespan, ws[w, LAST])
    return makespan


@brief
def total_cost(f, s):
    """The cost of a state from scratch, with what is over target."""
    ti, tf, wi, wf, pi, share = f.ti, f.tf, f.wi, f.wf, f.pi, f.share
    rates, hours, owner_tasks, base_cost = f.rates, f.hours, f.owner_tasks, f.base_cost
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    cost = base_cost
    for w in range(ws.shape[0]):
        used = ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
        cost += _worker_cost(wi, wf, hours, w, ws[w, LAST], used)
    for i in range(ts.shape[0]):
        cost += _task_cost(ti, tf, rates, i, ts[i, START], ts[i, END])
        if rates[MOVE] > 0.0 and _has_moved(ti, pi, ps, i, ts[i, START]):
            cost += rates[MOVE]
        p = ti[i, FIRST]
        while p < ti[i, BEYOND]:
            q = _run_end(ps, p, ti[i, BEYOND])
            each = _piece_cost(
                ti, wf, share, rates, hours, i, ps[p, ON], ts[i, START], ts[i, END],
            )  # fmt: skip
            cost += (q - p) * each
            p = q
    return cost + _worst_off(rates, owner_tasks, load_s, wait_s, _makespan(wi, ws))


@inner
def _put(
    ti, tf, wi, wf, pi, share, rates, hours, ts, ps, ws, load_s, wait_s, profile, items, shared, i,
    start, end,
):  # fmt: skip
    """Note task i on its workers (already in ``s.ps``) over [start, end); the cost it adds."""
    ts[i, START], ts[i, END] = start, end
    _fill_shared(shared, ti, i, start, end, 1)
    cost = _task_cost(ti, tf, rates, i, start, end)
    if rates[MOVE] > 0.0 and _has_moved(ti, pi, ps, i, start):
        cost += rates[MOVE]
    wait_s[ti[i, OWNER]] += start - ti[i, RAW_RELEASE]
    following = ti[i, FIRST]
    while following < ti[i, BEYOND]:
        p, following = following, _run_end(ps, following, ti[i, BEYOND])
        w, pieces = ps[p, ON], following - p
        _fill(profile, ws, w, start, end, ti, i, pieces)
        if shared is not None:
            _give(shared.devices, ps, p, following, w, i, start, end)
        used = ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
        cost += pieces * _piece_cost(ti, wf, share, rates, hours, i, w, start, end)
        if end > ws[w, LAST] or not used:
            cost -= _worker_cost(wi, wf, hours, w, ws[w, LAST], used)
            ws[w, LAST] = max(ws[w, LAST], end)
            cost += _worker_cost(wi, wf, hours, w, ws[w, LAST], True)
        load_s[w] += pieces * share[ti[i, KIND], w] * (end - start)
        ps[p, SLOT] = ws[w, NUMBER]
        items[w, ws[w, NUMBER]] = p
        ws[w, NUMBER] += 1
    return cost


@inner
def _unlist(ps, ws, items, p):
    """Take the run that piece p stands for off its worker's row of items."""
    w = ps[p, ON]
    ws[w, NUMBER] -= 1
    last = items[w, ws[w, NUMBER]]
    items[w, ps[p, SLOT]] = last
    ps[last, SLOT] = ps[p, SLOT]


@inner
def _take(
    ti, tf, wi, wf, pi, share, rates, hours, ts, ps, ws, load_s, wait_s, profile, items, shared, i,
):  # fmt: skip
    """Take task i out; the cost it gives back."""
    start, end = ts[i, START], ts[i, END]
    _fill_shared(shared, ti, i, start, end, -1)
    if shared is not None:
        _give_back(shared.devices, ps, ti, i)
    cost = _task_cost(ti, tf, rates, i, start, end)
    if rates[MOVE] > 0.0 and _has_moved(ti, pi, ps, i, start):
        cost += rates[MOVE]
    wait_s[ti[i, OWNER]] -= start - ti[i, RAW_RELEASE]
    following = ti[i, FIRST]
    while following < ti[i, BEYOND]:
        p, following = following, _run_end(ps, following, ti[i, BEYOND])
        w, pieces = ps[p, ON], following - p
        _unlist(ps, ws, items, p)
        _fill(profile, ws, w, start, end, ti, i, -pieces)
        cost += pieces * _piece_cost(ti, wf, share, rates, hours, i, w, start, end)
        used = ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
        if end == ws[w, LAST] or not used:
            latest = wi[w, BASE_END]
            for k in range(ws[w, NUMBER]):
                latest = max(latest, ts[pi[items[w, k], TASK], END])
            cost += _worker_cost(wi, wf, hours, w, ws[w, LAST], True)
            ws[w, LAST] = latest
            cost -= _worker_cost(wi, wf, hours, w, latest, used)
        load_s[w] -= pieces * share[ti[i, KIND], w] * (end - start)
    ts[i, START], ts[i, END] = FAR, FAR
    return cost


@brief
def load(f, s, profile, spare):
    """Place every task of a state that has its ``ts`` and workers.

    Parameters
    ----------
    f, s : Fixed, State
    profile : int64 (workers, segments, 1 + words)
        Before anything is planned, with its ``s.ws[:, COUNT]``.
    spare : int
        Runs for which each worker has room afterwards.

    Returns
    -------
    profile : int64 (workers, segments, 1 + words)
    items : int64 (workers, places)
        The first piece of each run on each worker, in no order.
    """
    ti, tf, wi, wf, pi, share = f.ti, f.tf, f.wi, f.wf, f.pi, f.share
    rates, base_wait_s = f.rates, f.base_wait_s
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    workers = ws.shape[0]
    need = np.zeros(workers, np.int64)
    for i in range(ts.shape[0]):
        p = ti[i, FIRST]
        while p < ti[i, BEYOND]:
            if ps[p, ON] >= 0:
                need[ps[p, ON]] += 1
            p = _run_end(ps, p, ti[i, BEYOND])
    most, longest = 0, 0
    for w in range(workers):
        most = max(most, need[w])
        longest = max(longest, ws[w, COUNT] + 2 * need[w])
        ws[w, LAST], ws[w, NUMBER] = wi[w, BASE_END], 0
        load_s[w] = wf[w, BASE_LOAD]
    items = np.zeros((workers, most + spare), np.int64)
    profile = _wider(profile, longest + 2 * spare + 2)
    for o in range(base_wait_s.shape[0]):
        wait_s[o] = base_wait_s[o]
    for i in range(ts.shape[0]):
        if ts[i, START] < FAR:
            _put(
                ti, tf, wi, wf, pi, share, rates, f.hours, ts, ps, ws, load_s, wait_s, profile,
                items, s.shared, i, ts[i, START], ts[i, END],
            )  # fmt: skip
    return profile, items
