"""Ruin and recreate: local search over whole schedules, at tens of thousands of moves a second.

A move takes a few related tasks out of a schedule (the ruin), puts each back where it adds
least to the cost (the recreate), and keeps the result by simulated annealing. What a move
touches is written down first, so that a rejected one is undone by copying. Costs are kept by
differences and summed anew at every call; the solver prices every better schedule anew.

Arrays are few and
wide: handing a tuple of fifty arrays to a function costs more than most of what is done here.
What is handed on is no literal, for which numba would compile the function once more.

A *profile* tells what is free on each worker over time: ``profile[w, k, 0]`` is the start of
segment k and ``profile[w, k, 1 + c]`` what is free in it, resources side by side in words
(``plancast.planner.arrays.packing``); ``ws[w, COUNT]`` is the number of segments, and the last one
lasts for ever. Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel

FAR = 1 << 50

TASK_INTS = 14
(
    RELEASE, RAW_RELEASE, DEADLINE, HARD_END, LAST_START, OWNER, KIND, SHARDS, FIRST, BEYOND,
    MOVED_AFTER, DUE, REST, MINE,
) = range(TASK_INTS)  # fmt: skip
"""Columns of ``Fixed.ti``; those of each word follow. Pieces FIRST to BEYOND - 1 are
the task's. A start after MOVED_AFTER is a move. DUE and REST: deadline by which it must end,
and longest chain after it, where its successors are still to be placed. MINE: 0 or 1."""
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
ON, SLOT = range(2)
"""Columns of ``State.ps``: worker of a piece, and its place in the worker's row of items. The
pieces of a task are sorted by worker; those on one worker are a *run*, whose first stands for all.
"""
LAST, NUMBER, COUNT = range(3)
"""Columns of ``State.ws``: last end, number of runs, number of segments."""
(
    END_S, LATE_S, MISS, WAIT_S, SLOWDOWN, OWNER_S, LOAD_S, FAIL, MOVE,
) = range(9)  # fmt: skip
"""Places in ``Fixed.rates``: those of ``arrays.rates.Rates`` that are not by worker."""

RUIN_RULES = 6
NEIGHBOURS, LATEST, LATE, CHAIN, RANDOM, WORKER = range(RUIN_RULES)
"""Which tasks a ruin takes: those near one in time, on its worker and others that could hold
it; those that end last on a worker, and others at that time; a late one, what it had to wait
for and what runs where it should have run; one with its predecessors and successors; any;
the last ones of one worker."""
MOST_SETTLED = 256
"""A left shift looks at this many tasks of a worker at most."""


class Fixed(NamedTuple):
    """What does not change during the search.

    ``ti, tf`` (tasks, ...), ``wi, wf`` (workers, ...) and ``pi`` (pieces, 2) have the columns
    named above; ``run_s`` (tasks, classes) durations, ``allowed`` and ``share`` (kinds, workers),
    ``pred_ptr, pred, succ_ptr, succ`` are as in ``Problem``. ``every_ptr, every``: the allowed
    workers of each kind, CSR. ``pool`` (kinds, places): workers to look at for each kind, each
    as often as it should be looked at. ``active``: the tasks that may be moved.
    """

    ti: np.ndarray
    tf: np.ndarray
    wi: np.ndarray
    wf: np.ndarray
    pi: np.ndarray
    run_s: np.ndarray
    allowed: np.ndarray
    share: np.ndarray
    pred_ptr: np.ndarray
    pred: np.ndarray
    succ_ptr: np.ndarray
    succ: np.ndarray
    every_ptr: np.ndarray
    every: np.ndarray
    pool: np.ndarray
    active: np.ndarray
    rates: np.ndarray
    owner_tasks: np.ndarray
    base_wait_s: np.ndarray
    max_stretch: float
    base_cost: float


class State(NamedTuple):
    """A schedule and what its cost is made of.

    ``ts`` (tasks, 2), ``ps`` (pieces, 2) and ``ws`` (workers, 3) int64 have the columns named
    above; ``load_s`` (workers,) is dominant share times seconds, ``wait_s`` (owners,) the
    sum of waits.
    """

    ts: np.ndarray
    ps: np.ndarray
    ws: np.ndarray
    load_s: np.ndarray
    wait_s: np.ndarray


# ------------------------------------------------------------------------------- profiles


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
    _join(profile, ws, w, after)
    _join(profile, ws, w, first)


@kernel
def _wider(profile, segments):
    """A copy of a profile with room for so many segments, which hold all that are in use.

    A profile that grew by doubling may have more columns than that.
    """
    kept = min(segments, profile.shape[1])
    result = np.zeros((profile.shape[0], segments, profile.shape[2]), np.int64)
    result[:, :kept] = profile[:, :kept]
    return result


@inner
def _longer(items, places):
    """A copy of the items with room for so many runs on each worker."""
    result = np.zeros((items.shape[0], places), np.int64)
    result[:, : items.shape[1]] = items
    return result


@inner
def _pieces_that_fit(profile, n, w, ti, i, start, duration, most):
    """How many pieces of task i fit at once on worker w over a run, at most `most`."""
    pieces = most
    end = start + duration
    k = _segment(profile, n, w, start)
    while True:
        for c in range(profile.shape[2] - 1):
            take, need, guard = TAKE + c * WORD_INTS, NEED + c * WORD_INTS, GUARD + c * WORD_INTS
            free, fit = profile[w, k, c + 1], 0
            while fit < pieces and (free - ti[i, need]) & ti[i, guard] == ti[i, guard]:
                free -= ti[i, take]
                fit += 1
            pieces = fit
        k += 1
        if pieces == 0 or k == n or profile[w, k, 0] >= end:
            return pieces


@inner
def _run_end(ps, p, beyond):
    """The first piece after p, before `beyond`, that is on another worker."""
    q = p + 1
    while q < beyond and ps[q, ON] == ps[p, ON]:
        q += 1
    return q


# ---------------------------------------------------------------------------------- costs


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
def _piece_cost(ti, wf, share, rates, i, w, duration):
    """What a piece on worker w adds to the terms that are sums over pieces."""
    cost = wf[w, BUSY] * share[ti[i, KIND], w] * duration
    if rates[FAIL] > 0.0:
        cost += rates[FAIL] * (1.0 - wf[w, HEALTH] ** (duration / 3600.0))
    return cost


@kernel
def _worker_cost(wi, wf, w, last_end, used):
    """Idle power and boot of a worker whose last end is `last_end`, and what is over target."""
    if not used:
        return 0.0
    cost = wf[w, IDLE] * max(0, last_end - wi[w, FREE_FROM])
    if wi[w, BASE_ON] == 0:
        cost += wf[w, BOOT]
    return cost + wf[w, OVER] * max(0, last_end - wi[w, TARGET])


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


@kernel
def _makespan(wi, ws):
    """Latest last end of our workers."""
    makespan = 0
    for w in range(ws.shape[0]):
        if wi[w, OURS] == 1:
            makespan = max(makespan, ws[w, LAST])
    return makespan


@kernel
def total_cost(f, s):
    """The cost of a state from scratch, with what is over target."""
    ti, tf, wi, wf, pi, share = f.ti, f.tf, f.wi, f.wf, f.pi, f.share
    rates, owner_tasks, base_cost = f.rates, f.owner_tasks, f.base_cost
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    cost = base_cost
    for w in range(ws.shape[0]):
        used = ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
        cost += _worker_cost(wi, wf, w, ws[w, LAST], used)
    for i in range(ts.shape[0]):
        cost += _task_cost(ti, tf, rates, i, ts[i, START], ts[i, END])
        if rates[MOVE] > 0.0 and _has_moved(ti, pi, ps, i, ts[i, START]):
            cost += rates[MOVE]
        p = ti[i, FIRST]
        while p < ti[i, BEYOND]:
            q = _run_end(ps, p, ti[i, BEYOND])
            each = _piece_cost(ti, wf, share, rates, i, ps[p, ON], ts[i, END] - ts[i, START])
            cost += (q - p) * each
            p = q
    return cost + _worst_off(rates, owner_tasks, load_s, wait_s, _makespan(wi, ws))


# ----------------------------------------------------------------------------- the state


@inner
def _put(
    ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile, items, i, start, end,
):  # fmt: skip
    """Note task i on its workers (already in ``s.ps``) over [start, end); the cost it adds."""
    ts[i, START], ts[i, END] = start, end
    cost = _task_cost(ti, tf, rates, i, start, end)
    if rates[MOVE] > 0.0 and _has_moved(ti, pi, ps, i, start):
        cost += rates[MOVE]
    wait_s[ti[i, OWNER]] += start - ti[i, RAW_RELEASE]
    following = ti[i, FIRST]
    while following < ti[i, BEYOND]:
        p, following = following, _run_end(ps, following, ti[i, BEYOND])
        w, pieces = ps[p, ON], following - p
        _fill(profile, ws, w, start, end, ti, i, pieces)
        used = ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
        cost += pieces * _piece_cost(ti, wf, share, rates, i, w, end - start)
        if end > ws[w, LAST] or not used:
            cost -= _worker_cost(wi, wf, w, ws[w, LAST], used)
            ws[w, LAST] = max(ws[w, LAST], end)
            cost += _worker_cost(wi, wf, w, ws[w, LAST], True)
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
def _take(ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile, items, i):
    """Take task i out; the cost it gives back."""
    start, end = ts[i, START], ts[i, END]
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
        cost += pieces * _piece_cost(ti, wf, share, rates, i, w, end - start)
        used = ws[w, NUMBER] > 0 or wi[w, BASE_ON] == 1
        if end == ws[w, LAST] or not used:
            latest = wi[w, BASE_END]
            for k in range(ws[w, NUMBER]):
                latest = max(latest, ts[pi[items[w, k], TASK], END])
            cost += _worker_cost(wi, wf, w, ws[w, LAST], True)
            ws[w, LAST] = latest
            cost -= _worker_cost(wi, wf, w, latest, used)
        load_s[w] -= pieces * share[ti[i, KIND], w] * (end - start)
    ts[i, START], ts[i, END] = FAR, FAR
    return cost


@kernel
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
    wait_s[:] = base_wait_s
    for i in range(ts.shape[0]):
        if ts[i, START] < FAR:
            _put(
                ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile, items, i,
                ts[i, START], ts[i, END],
            )  # fmt: skip
    return profile, items


# --------------------------------------------------------------------------------- insert


@inner
def _window(ti, pred_ptr, pred, succ_ptr, succ, ts, i):
    """Earliest start of task i after its predecessors, latest end before its placed successors.

    The third value tells whether some successor is not placed yet.
    """
    earliest, latest_end, awaited = ti[i, RELEASE], ti[i, HARD_END], False
    for p in range(pred_ptr[i], pred_ptr[i + 1]):
        earliest = max(earliest, ts[pred[p], END])
    for p in range(succ_ptr[i], succ_ptr[i + 1]):
        latest_end = min(latest_end, ts[succ[p], START])
        awaited = awaited or ts[succ[p], START] >= FAR
    return earliest, latest_end, awaited


@inner
def _place_gang(
    ti, wi, run_s, allowed, pred_ptr, pred, succ_ptr, succ, max_stretch, ts, ps, ws, profile, i,
):  # fmt: skip
    """Earliest-ending placement of a gang on OURS; (start, end), FAR if none. Fills ``s.ps``.

    A gang ends with its slowest piece, so each distinct duration is tried as the limit of
    which workers may take part.
    """
    earliest, latest_end, _ = _window(ti, pred_ptr, pred, succ_ptr, succ, ts, i)
    workers, shards = wi.shape[0], ti[i, SHARDS]
    durations = np.zeros(workers, np.int64)
    for w in range(workers):
        if wi[w, OURS] == 1 and allowed[ti[i, KIND], w]:
            durations[w] = run_s[i, wi[w, CLASS]]
    pieces = np.zeros(workers, np.int64)
    best_start, best_end, limit = FAR, FAR, np.int64(0)
    while True:
        shorter, limit = limit, np.int64(FAR)
        for w in range(workers):
            if durations[w] > shorter:
                limit = min(limit, durations[w])
        if limit == FAR:
            return best_start, best_end
        latest = _latest_start(ti, max_stretch, i, latest_end, limit)
        moment = earliest
        while moment <= latest and moment + limit < best_end:
            total = 0
            for w in range(workers):
                pieces[w] = 0
                if 0 < durations[w] <= limit and total < shards:
                    pieces[w] = _pieces_that_fit(
                        profile, ws[w, COUNT], w, ti, i, moment, limit, shards - total,
                    )  # fmt: skip
                    total += pieces[w]
            if total == shards:
                duration, filled = 0, ti[i, FIRST]
                for w in range(workers):
                    for _ in range(pieces[w]):
                        ps[filled, ON] = w
                        filled += 1
                        duration = max(duration, durations[w])
                # Tighter than the limit if only faster workers were taken.
                best_start, best_end = moment, moment + duration
                break
            # Something must come free first.
            following = FAR
            for w in range(workers):
                if 0 < durations[w] <= limit:
                    k = _segment(profile, ws[w, COUNT], w, moment) + 1
                    if k < ws[w, COUNT]:
                        following = min(following, profile[w, k, 0])
            moment = following


@inner
def _insert(
    ti, tf, wi, wf, pi, run_s, share, pred_ptr, pred, succ_ptr, succ, rates, max_stretch, ts, ws,
    load_s, profile, i, seen, looked, blink, tie, makespan, most_load,
):  # fmt: skip
    """Where task i adds least to the cost among workers ``seen[:looked]``: (worker, start, end).

    The worker is -1 where there is no place. Where successors are still to be placed, their
    deadlines and the chain after it count too.
    """
    earliest, latest_end, awaited = _window(ti, pred_ptr, pred, succ_ptr, succ, ts, i)
    ti, wi, wf, ws, share, rates = ti, wi, wf, ws, share, rates
    kind, release, deadline = ti[i, KIND], ti[i, RAW_RELEASE], ti[i, DEADLINE]
    weight, rest = tf[i, WEIGHT], 0
    wait_price = rates[WAIT_S] * weight + rates[OWNER_S] * tf[i, OWNER_PART]
    stretch_price, end_price = rates[SLOWDOWN] * weight, rates[END_S]
    if awaited:
        deadline, weight, rest = ti[i, DUE], tf[i, DUE_WEIGHT], ti[i, REST]
    late_price, miss_price = rates[LATE_S] * weight, rates[MISS] * weight
    load_price, fail_price, move_price = rates[LOAD_S], rates[FAIL], 0.0
    moved_after, was_on = ti[i, MOVED_AFTER], pi[ti[i, FIRST], WAS_ON]
    if moved_after < FAR:
        move_price = rates[MOVE]
    best, best_w, best_start, best_end = np.inf, -1, FAR, FAR
    for q in range(looked):
        w = seen[q]
        d = run_s[i, wi[w, CLASS]]
        if d == 0 or np.random.random() < blink:
            continue
        latest = _latest_start(ti, max_stretch, i, latest_end, d)
        if earliest > latest:
            continue
        idle, over, last = wf[w, IDLE], wf[w, OVER], ws[w, LAST]
        before, target = max(last, wi[w, FREE_FROM]), max(last, wi[w, TARGET])
        fixed = 0.0
        if wf[w, BUSY] > 0.0:
            fixed += wf[w, BUSY] * share[kind, w] * d
        if wf[w, BOOT] > 0.0 and ws[w, NUMBER] == 0 and wi[w, BASE_ON] == 0:
            fixed += wf[w, BOOT]
        if fail_price > 0.0:
            fixed += fail_price * (1.0 - wf[w, HEALTH] ** (d / 3600.0))
        if load_price > 0.0:
            fixed += load_price * max(0.0, load_s[w] - most_load + share[kind, w] * d)
        start, searched = earliest, False
        while True:
            # First at the earliest moment there could be, which often settles it.
            end = start + d
            cost = fixed + wait_price * (start - release) + tie * end
            cost += idle * max(0, end - before) + over * max(0, end - target)
            cost += end_price * max(0, end + rest - makespan)
            if end > deadline:
                cost += late_price * (end - deadline) + miss_price
            if stretch_price > 0.0:
                cost += stretch_price * (end - release) / max(d, 10)
            if move_price > 0.0 and (w != was_on or start > moved_after):
                cost += move_price
            if searched or cost >= best:
                break
            searched = True
            if best_w >= 0:
                # No later than each part of the cost alone would let it be better.
                room = best - fixed
                cap = room / tie - d
                if idle > 0.0:
                    cap = min(cap, before - d + room / idle)
                if end_price > 0.0:
                    cap = min(cap, makespan - rest - d + room / end_price)
                if late_price > 0.0:
                    cap = min(cap, deadline - d + room / late_price)
                if wait_price > 0.0:
                    cap = min(cap, release + room / wait_price)
                if cap < latest:
                    latest = int(cap) + 1
            start = _earliest(profile, ws[w, COUNT], w, ti, i, earliest, d, latest)
            if start >= FAR:
                cost = np.inf
                break
            if start == earliest:
                break
        if cost < best:
            best, best_w, best_start, best_end = cost, w, start, start + d
    return best_w, best_start, best_end


@kernel
def construct(f, s, profile, items, order, quota, group, priced_to, blink, tie, seed):
    """Put every task of an empty state, in a topological order, where it adds least.

    Parameters
    ----------
    f, s : Fixed, State
    profile, items
        Of ``load``.
    order : int64 (tasks,)
    quota : float64 (kinds, groups)
        Seconds of work of each kind for each group of workers; used up by the call. A task
        looks at workers with a quota first, and at the others where it finds no place there,
        or would be late or end after `priced_to`.
    group : int64 (workers,)
    priced_to : int
        Ends up to here add nothing to the makespan, seconds after now.
    blink, tie, seed
        As in ``search``.

    Returns
    -------
    profile, items
        Perhaps grown.
    failed : int
        -1, or the first task for which no place was found.
    """
    ti, tf, wi, wf, pi, run_s = f.ti, f.tf, f.wi, f.wf, f.pi, f.run_s
    allowed, share, pred_ptr, pred, succ_ptr, succ = (
        f.allowed,
        f.share,
        f.pred_ptr,
        f.pred,
        f.succ_ptr,
        f.succ,
    )
    every_ptr, every, rates, max_stretch = f.every_ptr, f.every, f.rates, f.max_stretch
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    np.random.seed(seed)
    makespan, most_load = max(priced_to, _makespan(wi, ws)), load_s.max()
    seen = np.zeros(ws.shape[0], np.int64)
    for i in order:
        row, shards = ti[i, KIND], ti[i, SHARDS]
        earliest, _, _ = _window(ti, pred_ptr, pred, succ_ptr, succ, ts, i)
        if earliest >= FAR:
            return profile, items, i
        if shards > 1:
            begin, finish = _place_gang(
                ti, wi, run_s, allowed, pred_ptr, pred, succ_ptr, succ, max_stretch, ts, ps, ws,
                profile, i,
            )  # fmt: skip
        else:
            low, high = every_ptr[row], every_ptr[row + 1]
            w, begin, finish, looked = -1, FAR, FAR, np.int64(0)
            for q in range(low, high):
                w = every[q]
                if quota[row, group[w]] >= 0.5 * run_s[i, wi[w, CLASS]]:
                    seen[looked] = w
                    looked += 1
            w = -1
            if looked > 0:
                w, begin, finish = _insert(
                    ti, tf, wi, wf, pi, run_s, share, pred_ptr, pred, succ_ptr, succ, rates,
                    max_stretch, ts, ws, load_s, profile, i, seen, looked, blink, tie, makespan,
                    most_load,
                )  # fmt: skip
            if w < 0 or finish > ti[i, DUE] or finish > priced_to:
                seen[: high - low] = every[low:high]
                w, begin, finish = _insert(
                    ti, tf, wi, wf, pi, run_s, share, pred_ptr, pred, succ_ptr, succ, rates,
                    max_stretch, ts, ws, load_s, profile, i, seen, high - low, 0.0, tie, makespan,
                    most_load,
                )  # fmt: skip
            ps[ti[i, FIRST], ON] = w
        if begin >= FAR:
            return profile, items, i
        _put(
            ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile, items, i, begin,
            finish,
        )  # fmt: skip
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            w = ps[p, ON]
            most_load = max(most_load, load_s[w])
            quota[row, group[w]] -= finish - begin
            if ws[w, COUNT] + 4 > profile.shape[1]:
                profile = _wider(profile, 2 * profile.shape[1] + 4)
            if ws[w, NUMBER] + 2 > items.shape[1]:
                items = _longer(items, 2 * items.shape[1] + 2)
    return profile, items, -1


# ----------------------------------------------------------------------------------- mend


@inner
def _earliest_at_home(ti, ps, ws, profile, i, moment, duration, latest):
    """Earliest start of task i on its workers in `ps`, all pieces at once, or FAR."""
    first, beyond = ti[i, FIRST], ti[i, BEYOND]
    while moment <= latest:
        fits, following = True, first
        while following < beyond:
            p, following = following, _run_end(ps, following, beyond)
            w, pieces = ps[p, ON], following - p
            n = ws[w, COUNT]
            if _pieces_that_fit(profile, n, w, ti, i, moment, duration, pieces) < pieces:
                # Something must come free there first.
                k = _segment(profile, n, w, moment) + 1
                if k == n:
                    return FAR
                moment, fits = profile[w, k, 0], False
                break
        if fits:
            return moment
    return FAR


@kernel
def mend(f, s, profile, items, line, floor, order, tie, seed):
    """Put back what a plan says that still holds, and insert the rest where it adds least.

    Parameters
    ----------
    f, s : Fixed, State
        Nothing is placed; ``s.ps`` has the workers of the tasks that keep theirs.
    profile, items
        Of ``load``.
    line : int64 (tasks in line,)
        Tasks by planned start. One that keeps its workers starts there as early as those before
        it in the line let it; another one is inserted when it is its turn.
    floor : int64 (tasks,)
        No task of the line starts earlier.
    order : int64 (tasks,)
        A topological order, in which the other tasks are inserted. Where one finds no place
        between its predecessors and its successors, these are taken out and inserted anew.
    tie, seed
        As in ``search``.

    Returns
    -------
    profile, items
        Perhaps grown.
    inserted : bool (tasks,)
    failed : int
        -1, or the first task for which no place was found.
    """
    ti, tf, wi, wf, pi, run_s = f.ti, f.tf, f.wi, f.wf, f.pi, f.run_s
    allowed, share, rates, max_stretch = f.allowed, f.share, f.rates, f.max_stretch
    pred_ptr, pred, succ_ptr, succ = f.pred_ptr, f.pred, f.succ_ptr, f.succ
    every_ptr, every = f.every_ptr, f.every
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    np.random.seed(seed)
    inserted = np.zeros(ts.shape[0], np.bool_)
    for k in range(line.shape[0] + order.shape[0]):
        i = line[k] if k < line.shape[0] else order[k - line.shape[0]]
        if ts[i, START] < FAR:
            continue
        kept = k < line.shape[0] and ps[ti[i, FIRST], ON] >= 0
        begin, finish, shards = FAR, FAR, ti[i, SHARDS]
        if kept:
            duration, begin = np.int64(1), max(ti[i, RELEASE], floor[i])
            for p in range(ti[i, FIRST], ti[i, BEYOND]):
                duration = max(duration, run_s[i, wi[ps[p, ON], CLASS]])
            for p in range(pred_ptr[i], pred_ptr[i + 1]):
                # One that is not placed yet will have to end before this one starts.
                if ts[pred[p], END] < FAR:
                    begin = max(begin, ts[pred[p], END])
            _, latest_end, _ = _window(ti, pred_ptr, pred, succ_ptr, succ, ts, i)
            latest = _latest_start(ti, max_stretch, i, latest_end, duration)
            begin = _earliest_at_home(ti, ps, ws, profile, i, begin, duration, latest)
            if begin >= FAR:
                continue  # it is inserted with the others
            finish = begin + duration
        else:
            inserted[i] = True
            makespan, most_load = _makespan(wi, ws), load_s.max()
            while True:
                if shards > 1:
                    begin, finish = _place_gang(
                        ti, wi, run_s, allowed, pred_ptr, pred, succ_ptr, succ, max_stretch, ts,
                        ps, ws, profile, i,
                    )  # fmt: skip
                else:
                    seen = every[every_ptr[ti[i, KIND]] : every_ptr[ti[i, KIND] + 1]]
                    w, begin, finish = _insert(
                        ti, tf, wi, wf, pi, run_s, share, pred_ptr, pred, succ_ptr, succ, rates,
                        max_stretch, ts, ws, load_s, profile, i, seen, seen.shape[0], 0.0, tie,
                        makespan, most_load,
                    )  # fmt: skip
                    ps[ti[i, FIRST], ON] = w
                if begin < FAR:
                    break
                freed = False
                for p in range(succ_ptr[i], succ_ptr[i + 1]):
                    if ts[succ[p], START] < FAR:
                        _take(
                            ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile,
                            items, succ[p],
                        )  # fmt: skip
                        freed = True
                if not freed:
                    return profile, items, inserted, i
        _put(
            ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile, items, i, begin,
            finish,
        )  # fmt: skip
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            w = ps[p, ON]
            if ws[w, COUNT] + 4 > profile.shape[1]:
                profile = _wider(profile, 2 * profile.shape[1] + 4)
            if ws[w, NUMBER] + 2 > items.shape[1]:
                items = _longer(items, 2 * items.shape[1] + 2)
    return profile, items, inserted, -1


# ----------------------------------------------------------------------------------- ruin


@inner
def _chance(n):
    """A whole number below n."""
    return min(n - 1, int(np.random.random() * n))


@inner
def _add(ti, i, taken, mark, filled):
    """Add task i to `taken` unless it is there or may not be moved; the new number."""
    if mark[i] or ti[i, MINE] == 0:
        return filled
    taken[filled], mark[i] = i, True
    return filled + 1


@inner
def _add_near(ti, pi, ts, ws, items, w, moment, taken, mark, filled, wanted):
    """Add to `taken` the tasks on worker w whose run is nearest to `moment`, up to `wanted`."""
    while filled < wanted:
        nearest, choice = FAR, np.int64(-1)
        for k in range(ws[w, NUMBER]):
            i = pi[items[w, k], TASK]
            distance = max(0, ts[i, START] - moment, moment - ts[i, END] + 1)
            if distance < nearest and not mark[i] and ti[i, MINE] == 1:
                nearest, choice = distance, i
        if choice < 0:
            break
        filled = _add(ti, choice, taken, mark, filled)
    return filled


@inner
def _add_around(ti, pi, pool, ts, ws, items, pivot, moment, taken, mark, filled, wanted):
    """Add tasks that run at about `moment` on workers that could hold `pivot`."""
    for _ in range(6):
        if filled >= wanted:
            break
        other = pool[ti[pivot, KIND], _chance(pool.shape[1])]
        limit = min(wanted, filled + 1 + wanted // 4)
        filled = _add_near(ti, pi, ts, ws, items, other, moment, taken, mark, filled, limit)
    return filled


@inner
def _add_chain(ti, pred_ptr, pred, succ_ptr, succ, taken, mark, filled, wanted):
    """Add predecessors and successors of the tasks in `taken`, at growing distance."""
    seen = 0
    while seen < filled and filled < wanted:
        i = taken[seen]
        seen += 1
        for p in range(pred_ptr[i], pred_ptr[i + 1]):
            if filled < wanted:
                filled = _add(ti, pred[p], taken, mark, filled)
        for p in range(succ_ptr[i], succ_ptr[i + 1]):
            if filled < wanted:
                filled = _add(ti, succ[p], taken, mark, filled)
    return filled


@inner
def _late_one(ti, tf, active, rates, ts, pivot):
    """The task whose lateness or waiting costs most among a dozen."""
    dearest = 0.0
    for _ in range(12):
        i = active[_chance(active.shape[0])]
        start, end = ts[i, START], ts[i, END]
        cost = _task_cost(ti, tf, rates, i, start, end)
        cost -= _task_cost(ti, tf, rates, i, ti[i, RELEASE], ti[i, RELEASE] + end - start)
        if cost > dearest:
            dearest, pivot = cost, i
    return pivot


@inner
def _last_one(ti, wf, active, ps, ws, pivot):
    """Of four tasks the one on the worker with the latest last end, or the dearest last second."""
    by_price = np.random.random() < 0.5
    most = -1.0
    for k in range(4):
        i = active[_chance(active.shape[0])] if k > 0 else pivot
        w = ps[ti[i, FIRST], ON]
        value = wf[w, IDLE] if by_price else float(ws[w, LAST])
        if value > most:
            most, pivot = value, i
    return pivot


@inner
def _ruin(
    ti, tf, wf, pi, pred_ptr, pred, succ_ptr, succ, pool, active, rates, ts, ps, ws, items, rule,
    wanted, taken, mark,
):  # fmt: skip
    """Choose up to `wanted` tasks by a rule; their number. `mark` is left set for them."""
    pivot = active[_chance(active.shape[0])]
    if rule in (LATEST, WORKER):
        pivot = _last_one(ti, wf, active, ps, ws, pivot)
        w = ps[ti[pivot, FIRST], ON]
        moment = ws[w, LAST]
        part = wanted if rule == WORKER else 1 + wanted // 2
        filled = _add_near(
            ti, pi, ts, ws, items, w, moment, taken, mark, np.int64(0), min(part, wanted)
        )  # fmt: skip
        if rule == WORKER or filled == 0:
            return filled
        return _add_around(
            ti, pi, pool, ts, ws, items, taken[0], moment, taken, mark, filled, wanted,
        )  # fmt: skip
    filled, moment = np.int64(0), ts[pivot, START]
    if rule == LATE:
        pivot = _late_one(ti, tf, active, rates, ts, pivot)
        # What makes it late may be that its predecessors were.
        while filled < wanted - 1 and np.random.random() < 0.6:
            last, latest = np.int64(-1), ti[pivot, RELEASE]
            for p in range(pred_ptr[pivot], pred_ptr[pivot + 1]):
                if ts[pred[p], END] > latest and ti[pred[p], MINE] == 1:
                    last, latest = pred[p], ts[pred[p], END]
            if last < 0:
                break
            filled = _add(ti, pivot, taken, mark, filled)
            pivot = last
        earliest, _, _ = _window(ti, pred_ptr, pred, succ_ptr, succ, ts, pivot)
        moment = earliest + int(np.random.random() * (ts[pivot, START] - earliest + 1))
    filled = _add(ti, pivot, taken, mark, filled)
    if rule == RANDOM:
        while filled < wanted:
            wanted -= 1
            filled = _add(ti, active[_chance(active.shape[0])], taken, mark, filled)
        return filled
    if rule == CHAIN:
        filled = _add_chain(
            ti, pred_ptr, pred, succ_ptr, succ, taken, mark, filled, 1 + wanted // 2,
        )  # fmt: skip
    part = wanted if np.random.random() < 0.3 else 1 + wanted // 2
    w = ps[ti[pivot, FIRST], ON]
    filled = _add_near(ti, pi, ts, ws, items, w, moment, taken, mark, filled, min(part, wanted))
    return _add_around(ti, pi, pool, ts, ws, items, pivot, moment, taken, mark, filled, wanted)


# ----------------------------------------------------------------------------- left shift


@inner
def _settle(
    ti, tf, wi, wf, pi, pred_ptr, pred, succ_ptr, succ, rates, ts, ps, ws, wait_s, profile, items,
    w, after, line,
):  # fmt: skip
    """Start the tasks on worker w that start after a moment as early as they fit.

    In order of start, each on its worker, gangs left alone: nothing can come to cost more.
    ``line`` is room to sort them in. Returns whether any starts earlier now, and what that saves of
    the terms that are sums.
    """
    n = 0
    for k in range(ws[w, NUMBER]):
        i = pi[items[w, k], TASK]
        single = ti[i, SHARDS] == 1 and ti[i, MINE] == 1
        if ts[i, START] > after and single and n < MOST_SETTLED:
            j = n
            while j > 0 and ts[line[j - 1], START] > ts[i, START]:
                line[j] = line[j - 1]
                j -= 1
            line[j] = i
            n += 1
    saved, shifted = 0.0, False
    for k in range(n):
        i = line[k]
        start, d = ts[i, START], ts[i, END] - ts[i, START]
        earliest, _, _ = _window(ti, pred_ptr, pred, succ_ptr, succ, ts, i)
        if earliest >= start:
            continue
        # Either into the segment just before its start, or into a gap before that.
        before = _segment(profile, ws[w, COUNT], w, start - 1)
        if not _fits_in(profile, w, before, ti, i) and (
            _earliest(profile, ws[w, COUNT], w, ti, i, earliest, d, start - d) >= FAR
        ):
            continue
        _fill(profile, ws, w, start, start + d, ti, i, -1)
        begin = _earliest(profile, ws[w, COUNT], w, ti, i, earliest, d, start)
        _fill(profile, ws, w, begin, begin + d, ti, i, 1)
        if begin < start:
            shifted = True
            saved += _task_cost(
                ti, tf, rates, i, start, start + d,
            ) - _task_cost(ti, tf, rates, i, begin, begin + d)  # fmt: skip
            if rates[MOVE] > 0.0:
                was, still = _has_moved(ti, pi, ps, i, start), _has_moved(ti, pi, ps, i, begin)
                saved += rates[MOVE] * (was and not still)
            wait_s[ti[i, OWNER]] -= start - begin
            ts[i, START], ts[i, END] = begin, begin + d
    latest = wi[w, BASE_END]
    for k in range(ws[w, NUMBER]):
        latest = max(latest, ts[pi[items[w, k], TASK], END])
    if latest < ws[w, LAST]:
        saved += _worker_cost(wi, wf, w, ws[w, LAST], True) - _worker_cost(wi, wf, w, latest, True)
        ws[w, LAST] = latest
    return shifted, saved


# --------------------------------------------------------------------------------- search


@inner
def _note(ws, load_s, profile, stamp, touched, was_ws, was_load, was_row, noted, w, move):
    """Write worker w down as it is, once a move; the number of workers noted."""
    if stamp[w] == move:
        return noted
    stamp[w] = move
    touched[noted] = w
    for c in range(3):
        was_ws[noted, c] = ws[w, c]
    was_load[noted] = load_s[w]
    for k in range(ws[w, COUNT]):
        for c in range(profile.shape[2]):
            was_row[noted, k, c] = profile[w, k, c]
    return noted + 1


@inner
def _undo(
    ti, ts, ps, ws, load_s, wait_s, profile, items, touched, was_ws, was_load, was_row, was_ts,
    was_ps, noted, taken, filled,
):  # fmt: skip
    """Bring the state back to what the notes say."""
    for k in range(filled):
        i = taken[k]
        if ts[i, START] < FAR:
            wait_s[ti[i, OWNER]] -= ts[i, START] - ti[i, RAW_RELEASE]
            p = ti[i, FIRST]
            while p < ti[i, BEYOND]:
                _unlist(ps, ws, items, p)
                p = _run_end(ps, p, ti[i, BEYOND])
    for k in range(filled):
        i = taken[k]
        first = ti[i, FIRST]
        ts[i, START], ts[i, END] = was_ts[k, START], was_ts[k, END]
        wait_s[ti[i, OWNER]] += ts[i, START] - ti[i, RAW_RELEASE]
        for p in range(first, ti[i, BEYOND]):
            w = was_ps[k, p - first]
            ps[p, ON] = w
            if p == first or ps[p - 1, ON] != w:
                ps[p, SLOT] = ws[w, NUMBER]
                items[w, ws[w, NUMBER]] = p
                ws[w, NUMBER] += 1
    for q in range(noted):
        w = touched[q]
        ws[w, LAST], ws[w, COUNT] = was_ws[q, LAST], was_ws[q, COUNT]
        load_s[w] = was_load[q]
        for k in range(ws[w, COUNT]):
            for c in range(profile.shape[2]):
                profile[w, k, c] = was_row[q, k, c]


@inner
def _as_before(ti, ts, ps, was_ts, was_ps, taken, filled):
    """Whether every task is back where the notes say it was."""
    for k in range(filled):
        i = taken[k]
        if ts[i, START] != was_ts[k, START] or ts[i, END] != was_ts[k, END]:
            return False
        for p in range(ti[i, FIRST], ti[i, BEYOND]):
            if ps[p, ON] != was_ps[k, p - ti[i, FIRST]]:
                return False
    return True


@inner
def _candidates(
    wi, allowed, every_ptr, every, pool, row, looked_at, touched, ruined, seen, listed,
):  # fmt: skip
    """Fill `seen` with the workers to look at for a task of a kind, each once; their number.

    ``listed[w]`` is the number of the last call that listed worker w; its last entry counts calls.
    """
    low, high = every_ptr[row], every_ptr[row + 1]
    looked = 0
    if high - low <= looked_at:
        turn = _chance(high - low)
        for _ in range(high - low):
            turn = turn + 1 if turn + 1 < high - low else 0
            w = every[low + turn]
            if wi[w, OURS] == 1:
                seen[looked] = w
                looked += 1
        return looked
    listed[-1] += 1
    call = listed[-1]
    for q in range(ruined):
        w = touched[q]
        if allowed[row, w]:
            listed[w] = call
            seen[looked] = w
            looked += 1
    for _ in range(looked_at):
        w = pool[row, _chance(pool.shape[1])]
        if wi[w, OURS] == 1 and listed[w] != call:
            listed[w] = call
            seen[looked] = w
            looked += 1
    return looked


@inner
def _least_costs(ti, wf, run_s, share, every_ptr, every):
    """The least that the use of workers by each task costs, rent included. Shape (tasks,)."""
    rate = np.full(share.shape[0], np.inf)
    for row in range(share.shape[0]):
        for q in range(every_ptr[row], every_ptr[row + 1]):
            rate[row] = min(rate[row], wf[every[q], BUSY] * share[row, every[q]])
    least = np.zeros(ti.shape[0])
    for i in range(ti.shape[0]):
        shortest = FAR
        for c in range(run_s.shape[1]):
            if run_s[i, c] > 0:
                shortest = min(shortest, run_s[i, c])
        # A hair less, for what is summed up and taken away again.
        least[i] = (1.0 - 1e-9) * rate[ti[i, KIND]] * shortest * ti[i, SHARDS]
    return least


@inner
def _recreate(
    ti, tf, wi, wf, pi, run_s, allowed, share, pred_ptr, pred, succ_ptr, succ, every_ptr, every,
    pool, rates, max_stretch, ts, ps, ws, load_s, wait_s, profile, items, stamp, touched, was_ws,
    was_load, was_row, noted, order, filled, seen, listed, least, move, limit, additive, makespan,
    most_load, looked_at, blink, tie,
):  # fmt: skip
    """Put the tasks of `order` back; (complete, noted, additive cost, makespan).

    Gives up as soon as the cost, with the `least` that each task still to come adds, exceeds
    `limit`.
    """
    ruined, placed, progress, to_come = noted, 0, True, 0.0
    for k in range(filled):
        to_come += least[order[k]]
    while placed < filled and progress:
        progress = False
        for k in range(filled):
            i = order[k]
            if ts[i, START] < FAR:
                continue
            ready = True
            for p in range(pred_ptr[i], pred_ptr[i + 1]):
                ready = ready and ts[pred[p], START] < FAR
            if not ready:
                continue
            if ti[i, SHARDS] > 1:
                begin, finish = _place_gang(
                    ti, wi, run_s, allowed, pred_ptr, pred, succ_ptr, succ, max_stretch, ts, ps, ws,
                    profile, i,
                )  # fmt: skip
            else:
                looked = _candidates(
                    wi, allowed, every_ptr, every, pool, ti[i, KIND], looked_at, touched, ruined,
                    seen, listed,
                )  # fmt: skip
                w, begin, finish = _insert(
                    ti, tf, wi, wf, pi, run_s, share, pred_ptr, pred, succ_ptr, succ, rates,
                    max_stretch, ts, ws, load_s, profile, i, seen, looked, blink, tie, makespan,
                    most_load,
                )  # fmt: skip
                if w >= 0:
                    ps[ti[i, FIRST], ON] = w
            if begin >= FAR:
                return False, noted, additive, makespan
            p = ti[i, FIRST]
            while p < ti[i, BEYOND]:
                noted = _note(
                    ws, load_s, profile, stamp, touched, was_ws, was_load, was_row, noted, ps[p,
                    ON], move,
                )  # fmt: skip
                p = _run_end(ps, p, ti[i, BEYOND])
            additive += _put(
                ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile, items, i,
                begin, finish,
            )  # fmt: skip
            makespan = max(makespan, finish)
            for p in range(ti[i, FIRST], ti[i, BEYOND]):
                most_load = max(most_load, load_s[ps[p, ON]])
            placed += 1
            progress = True
            to_come -= least[i]
            if additive + to_come + rates[END_S] * makespan > limit:
                return False, noted, additive, makespan
    return placed == filled, noted, additive, makespan


@kernel
def search(f, s, profile, items, rank, odds, moves, heat, most, looked_at, blink, tie, seed):
    """Ruin and recreate `moves` times.

    Parameters
    ----------
    f, s : Fixed, State
        `s` is changed in place; at the end it is the current schedule.
    profile, items
        Of ``load``.
    rank : float64 (orders, tasks)
        Priority values for the order of reinsertion, least first.
    odds : float64 (RUIN_RULES,)
        Cumulated chances of the ruin rules.
    moves : int
    heat : float
        Temperature of the simulated annealing, in units of cost.
    most : int
        Most tasks that a ruin takes.
    looked_at : int
        Workers looked at for each insertion, besides those of the ruin; all of them where
        there are no more.
    blink : float
        Chance to overlook a worker.
    tie : float
        Cost of a second of end time, far below anything priced.
    seed : int

    Returns
    -------
    profile, items
        Perhaps grown.
    best_ts, best_ps : int64
        The best schedule met, the first one included.
    best, current : float
        Its cost, and that of the state.
    """
    ti, tf, wi, wf, pi, run_s = f.ti, f.tf, f.wi, f.wf, f.pi, f.run_s
    allowed, share, pred_ptr, pred, succ_ptr, succ = (
        f.allowed,
        f.share,
        f.pred_ptr,
        f.pred,
        f.succ_ptr,
        f.succ,
    )
    every_ptr, every, pool, active, rates, owner_tasks = (
        f.every_ptr,
        f.every,
        f.pool,
        f.active,
        f.rates,
        f.owner_tasks,
    )
    max_stretch = f.max_stretch
    ts, ps, ws, load_s, wait_s = s.ts, s.ps, s.ws, s.load_s, s.wait_s
    np.random.seed(seed)
    tasks, workers = ts.shape[0], ws.shape[0]
    best_ts, best_ps = ts.copy(), ps.copy()
    makespan = _makespan(wi, ws)
    current = total_cost(f, s)
    additive = current - _worst_off(rates, owner_tasks, load_s, wait_s, makespan)
    best, unsaved = current, False
    longest = 1
    for i in active:
        longest = max(longest, ti[i, SHARDS])
    most = min(most, active.shape[0])
    # A task adds at most one run and two segments to a worker, however many pieces it has there.
    runs, rows = most + 1, min(workers, 2 * (most + 1) * longest)
    fullest, longest_row = 0, 0
    for w in range(workers):
        fullest, longest_row = max(fullest, ws[w, COUNT]), max(longest_row, ws[w, NUMBER])
    if fullest + 2 * runs + 4 > profile.shape[1]:
        profile = _wider(profile, fullest + 4 * runs + 4)
    if longest_row + runs > items.shape[1]:
        items = _longer(items, longest_row + 2 * runs)
    taken, order = np.zeros(most + 1, np.int64), np.zeros(most + 1, np.int64)
    keys, mark = np.zeros(most + 1), np.zeros(tasks, np.bool_)
    # The workers a move touches and the tasks it takes, as they were before it.
    stamp, touched = np.zeros(workers, np.int64), np.zeros(rows, np.int64)
    was_ws, was_load = np.zeros((rows, 3), np.int64), np.zeros(rows)
    was_row = np.zeros((rows, profile.shape[1], profile.shape[2]), np.int64)
    was_ts, was_ps = np.zeros((most + 1, 2), np.int64), np.zeros((most + 1, longest), np.int64)
    seen = np.zeros(max(workers, looked_at + rows), np.int64)
    line, listed = np.zeros(MOST_SETTLED, np.int64), np.zeros(workers + 1, np.int64)
    least = _least_costs(ti, wf, run_s, share, every_ptr, every)
    for move in range(1, moves + 1):
        draw, rule = np.random.random(), 0
        while rule < RUIN_RULES - 1 and draw >= odds[rule]:
            rule += 1
        filled = _ruin(
            ti, tf, wf, pi, pred_ptr, pred, succ_ptr, succ, pool, active, rates, ts, ps, ws, items,
            rule, 1 + _chance(most), taken, mark,
        )  # fmt: skip
        was_additive, was_makespan, lowered = additive, makespan, False
        noted, first = np.int64(0), np.int64(FAR)
        for k in range(filled):
            i = taken[k]
            was_ts[k, START], was_ts[k, END] = ts[i, START], ts[i, END]
            first = min(first, ts[i, START])
            lowered = lowered or ts[i, END] == makespan
            for p in range(ti[i, FIRST], ti[i, BEYOND]):
                was_ps[k, p - ti[i, FIRST]] = ps[p, ON]
                noted = _note(
                    ws, load_s, profile, stamp, touched, was_ws, was_load, was_row, noted, ps[p,
                    ON], move,
                )  # fmt: skip
            additive -= _take(
                ti, tf, wi, wf, pi, share, rates, ts, ps, ws, load_s, wait_s, profile, items, i,
            )  # fmt: skip
        if lowered:
            makespan = _makespan(wi, ws)
        most_load = 0.0
        if rates[LOAD_S] > 0.0:
            most_load = load_s.max()
        # The order of reinsertion: by one of the ranks, or by chance.
        choice = _chance(rank.shape[0] + 1)
        for k in range(filled):
            key = np.random.random() if choice == rank.shape[0] else rank[choice, taken[k]]
            j = k
            while j > 0 and keys[j - 1] > key:
                keys[j], order[j] = keys[j - 1], order[j - 1]
                j -= 1
            keys[j], order[j] = key, taken[k]
        limit = current - heat * np.log(1.0 - np.random.random())
        complete, noted, additive, makespan = _recreate(
            ti, tf, wi, wf, pi, run_s, allowed, share, pred_ptr, pred, succ_ptr, succ, every_ptr,
            every, pool, rates, max_stretch, ts, ps, ws, load_s, wait_s, profile, items, stamp,
            touched, was_ws, was_load, was_row, noted, order, filled, seen, listed, least, move,
            limit, additive, makespan, most_load, looked_at, blink, tie,
        )  # fmt: skip
        fresh = additive + _worst_off(
            rates, owner_tasks, load_s, wait_s, makespan,
        ) if complete else np.inf  # fmt: skip
        for k in range(filled):
            mark[taken[k]] = False
        if fresh > limit:
            _undo(
                ti, ts, ps, ws, load_s, wait_s, profile, items, touched, was_ws, was_load, was_row,
                was_ts, was_ps, noted, taken, filled,
            )  # fmt: skip
            additive, makespan = was_additive, was_makespan
            continue
        if unsaved and fresh > current:
            # About to leave the best schedule met: write it down as it was before.
            best_ts[:], best_ps[:] = ts, ps
            for k in range(filled):
                i = taken[k]
                best_ts[i, START], best_ts[i, END] = was_ts[k, START], was_ts[k, END]
                for p in range(ti[i, FIRST], ti[i, BEYOND]):
                    best_ps[p, ON] = was_ps[k, p - ti[i, FIRST]]
            unsaved = False
        current, shifted = fresh, False
        if _as_before(ti, ts, ps, was_ts, was_ps, taken, filled):
            continue
        for q in range(noted):
            earlier, saved = _settle(
                ti, tf, wi, wf, pi, pred_ptr, pred, succ_ptr, succ, rates, ts, ps, ws, wait_s,
                profile, items, touched[q], first, line,
            )  # fmt: skip
            shifted = shifted or earlier
            additive -= saved
        if shifted:
            makespan = _makespan(wi, ws)
            current = additive + _worst_off(rates, owner_tasks, load_s, wait_s, makespan)
        if current < best - 1e-12 * abs(best):
            best, unsaved = current, True
        for q in range(noted):
            w = touched[q]
            if ws[w, COUNT] + 2 * runs + 4 > profile.shape[1]:
                profile = _wider(profile, 2 * profile.shape[1] + 2 * runs)
                was_row = np.zeros((rows, profile.shape[1], profile.shape[2]), np.int64)
            if ws[w, NUMBER] + runs > items.shape[1]:
                items = _longer(items, 2 * items.shape[1] + runs)
    if unsaved:
        best_ts[:], best_ps[:] = ts, ps
    return profile, items, best_ts, best_ps, best, current
