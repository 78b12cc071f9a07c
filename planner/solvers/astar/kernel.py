"""Best-first, focal and beam search over assignments.

A *node* is a partial schedule in which no task that is still to come may start before the
last one that was placed. An edge places a task on a multiset of workers, as early as it
fits. ``plancast.planner.solvers.astar.space`` says why these edges suffice, and builds what is read
here.

Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays import heap
from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.solvers.astar.trees import add_sums

FAR = 1 << 50
SAME = 1e-9
"""A schedule that is better by less than this, relative, is not looked for."""
NOISE = 1e-12
"""Relative error of a cost that doubles may make; costs closer than this count as equal."""

# Why a search came back.
EXHAUSTED, PROMISED, PAUSED, FULL, FOUND = range(5)
"""Nothing is open; the best schedule is within the weight; the chunk is done; an array is
full; a better schedule was found."""

# Places in `tally`.
NODES, KEPT, STEPS, LOOKS, SERIAL, OPEN, WAITING, FOCAL, UNUSED, ROWS = range(10)
# Places in `value`.
BEST, LEAST, ROOT_BOUND, ROOT_SPAN, DROPPED = range(5)
"""Cost of the best schedule; of focal search the least bound of what is open; of the root;
least bound of what a search with a promise did not open."""

FEATURES = 22


class Space(NamedTuple):
    """What does not change during a search; see ``planner.solvers.astar.space.search_space``."""

    release: np.ndarray
    raw_release: np.ndarray
    deadline: np.ndarray
    owner: np.ndarray
    late_price: np.ndarray
    miss_price: np.ndarray
    pred_ptr: np.ndarray
    pred: np.ndarray
    order: np.ndarray
    after: np.ndarray
    twin: np.ndarray
    follows: np.ndarray
    shortest: np.ndarray
    work: np.ndarray
    room: np.ndarray
    held: np.ndarray
    least_slope: np.ndarray
    by_density: np.ndarray
    shared: np.ndarray
    edge_ptr: np.ndarray
    edge_task: np.ndarray
    duration: np.ndarray
    latest: np.ndarray
    due: np.ndarray
    fixed: np.ndarray
    slope: np.ndarray
    piece_ptr: np.ndarray
    piece_worker: np.ndarray
    piece_demand: np.ndarray
    piece_count: np.ndarray
    piece_load: np.ndarray
    demand: np.ndarray
    times: np.ndarray
    free: np.ndarray
    segments: np.ndarray
    free_from: np.ndarray
    idle_price: np.ndarray
    boot_price: np.ndarray
    group: np.ndarray
    by_group: np.ndarray
    owner_tasks: np.ndarray
    has_alike: bool
    makespan_price: float
    unfair_price: float
    load_price: float
    prices_power: bool


class Nodes(NamedTuple):
    """Partial schedules, a row each.

    ``edge[s, i]`` is -1 and ``end[s, i]`` 0 where task i is to come; ``last_end`` is 0 where
    a worker is off. ``floor`` and ``tie``: later tasks come after this in (start, index).
    ``order`` lists the workers so that those between which there is no difference are
    sorted. ``add`` prices the additive terms of what is placed, power included; ``bound``:
    no schedule that continues the node costs less. ``dead``: another node makes it needless;
    ``shut``: it was expanded. ``guess``: what a guide says of it, NaN where none was asked.
    """

    edge: np.ndarray
    end: np.ndarray
    start: np.ndarray
    placed: np.ndarray
    makespan: np.ndarray
    sum_starts: np.ndarray
    floor: np.ndarray
    tie: np.ndarray
    last_end: np.ndarray
    order: np.ndarray
    add: np.ndarray
    bound: np.ndarray
    waits: np.ndarray
    loads: np.ndarray
    hash: np.ndarray
    next: np.ndarray
    kept: np.ndarray
    dead: np.ndarray
    shut: np.ndarray
    guess: np.ndarray


class Entries(NamedTuple):
    """What is open in best-first search: edges of expanded nodes, and nodes put back.

    ``node`` is -1 for an edge of ``parent`` that was not followed yet. ``key``, ``rank`` and
    ``item`` are a binary heap of entries; ``unused`` a stack of free ones.
    """

    bound: np.ndarray
    so_far: np.ndarray
    parent: np.ndarray
    edge: np.ndarray
    start: np.ndarray
    node: np.ndarray
    unused: np.ndarray
    key: np.ndarray
    rank: np.ndarray
    item: np.ndarray


class Focus(NamedTuple):
    """What is open in focal search: three heaps of nodes, and each node's guide value.

    All open nodes by their bound; those whose bound is too high for the focal list, by
    bound; and the focal list, by guide value.
    """

    guide: np.ndarray
    closed: np.ndarray
    open_key: np.ndarray
    open_rank: np.ndarray
    open_item: np.ndarray
    waiting_key: np.ndarray
    waiting_rank: np.ndarray
    waiting_item: np.ndarray
    focal_key: np.ndarray
    focal_rank: np.ndarray
    focal_item: np.ndarray


class Scratch(NamedTuple):
    """Room to work in; nothing in it outlives a call, but what ``look`` tells its caller."""

    active: np.ndarray
    until: np.ndarray
    held: np.ndarray
    alike: np.ndarray
    opt_end: np.ndarray
    opt_start: np.ndarray
    own: np.ndarray
    waits: np.ndarray
    work: np.ndarray
    edges: np.ndarray
    begins: np.ndarray
    listed: np.ndarray
    facts: np.ndarray
    place: np.ndarray
    triples: np.ndarray
    rival: np.ndarray
    child_edge: np.ndarray
    child_start: np.ndarray


# Places in `Scratch.facts`, filled by ``look``.
SPAN, REST, WAIT_COST, SO_FAR = range(4)


@inner
def _rank(tally, placed):
    """Among equal keys the node with most tasks placed, then the oldest."""
    tally[SERIAL] += 1
    return tally[SERIAL] - (placed << 40)


# --------------------------------------------------------------------------- what is active


@kernel
def gather(space, nodes, scratch, s, at):
    """List what each worker holds beyond `at`, by (end, demand)."""
    for w in range(space.segments.shape[0]):
        scratch.active[w] = 0
    for i in range(nodes.edge.shape[1]):
        e, end = nodes.edge[s, i], nodes.end[s, i]
        if e < 0 or end <= at:
            continue
        for p in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
            w, d = space.piece_worker[p], space.piece_demand[p]
            k = scratch.active[w]
            while k > 0 and (
                scratch.until[w, k - 1] > end
                or (scratch.until[w, k - 1] == end and scratch.held[w, k - 1] > d)
            ):
                scratch.until[w, k] = scratch.until[w, k - 1]
                scratch.held[w, k] = scratch.held[w, k - 1]
                k -= 1
            scratch.until[w, k], scratch.held[w, k] = end, d
            scratch.active[w] += 1


@inner
def _differ(space, nodes, scratch, s, v, w):
    """Order of two workers of one group by what the future can see of them; 0 if nothing."""
    most = min(scratch.active[v], scratch.active[w])
    for k in range(most):
        if scratch.until[v, k] != scratch.until[w, k]:
            return -1 if scratch.until[v, k] < scratch.until[w, k] else 1
        if scratch.held[v, k] != scratch.held[w, k]:
            return -1 if scratch.held[v, k] < scratch.held[w, k] else 1
    if scratch.active[v] != scratch.active[w]:
        return -1 if scratch.active[v] < scratch.active[w] else 1
    if space.prices_power and nodes.last_end[s, v] != nodes.last_end[s, w]:
        return -1 if nodes.last_end[s, v] < nodes.last_end[s, w] else 1
    if nodes.loads[s, v] != nodes.loads[s, w]:
        return -1 if nodes.loads[s, v] < nodes.loads[s, w] else 1
    return 0


@inner
def _sort_workers(space, nodes, scratch, s):
    """Sort the workers of each group, and tell for each which like it comes before, or -1."""
    workers = space.segments.shape[0]
    order = nodes.order[s]
    for k in range(workers):
        w = space.by_group[k]
        j = k
        if space.has_alike:
            while j > 0:
                v = order[j - 1]
                if space.group[v] != space.group[w] or (
                    _differ(space, nodes, scratch, s, v, w) <= 0
                ):
                    break
                order[j] = v
                j -= 1
        order[j] = w
    for k in range(workers):
        w = order[k]
        scratch.alike[w] = -1
        if space.has_alike and k > 0:
            v = order[k - 1]
            if space.group[v] == space.group[w] and (_differ(space, nodes, scratch, s, v, w) == 0):
                scratch.alike[w] = v


@inner
def _is_first_of_its_like(space, scratch, e):
    """Whether, of the edges that differ only in workers that are alike, this one will do.

    It takes the first of each class of like workers, and no more pieces on a later one.
    """
    for p in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
        before = scratch.alike[space.piece_worker[p]]
        if before < 0:
            continue
        enough = False
        for q in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
            if space.piece_worker[q] == before:
                enough = space.piece_count[q] >= space.piece_count[p]
        if not enough:
            return False
    return True


# --------------------------------------------------------------------------- earliest starts


@inner
def _first_fit(space, scratch, w, d, start, duration):
    """Earliest start on one worker; what is active only ever comes free."""
    resources = space.demand.shape[1]
    segments = space.segments[w]
    while start < FAR:
        end = start + duration
        fits = True
        for k in range(segments):
            until = space.times[w, k + 1] if k + 1 < segments else FAR
            if until <= start:
                continue
            begin = space.times[w, k]
            if begin >= end:
                break
            moment = max(begin, start)
            for r in range(resources):
                left = space.free[w, k, r] - space.demand[d, r]
                for a in range(scratch.active[w] - 1, -1, -1):
                    if scratch.until[w, a] <= moment:
                        break
                    left -= space.demand[scratch.held[w, a], r]
                if left < 0:
                    fits = False
                    break
            if not fits:
                start = until
                for a in range(scratch.active[w]):
                    if scratch.until[w, a] > moment:
                        start = min(start, scratch.until[w, a])
                        break
                break
        if fits:
            return start
    return FAR


@inner
def _earliest(space, scratch, e, not_before):
    """Earliest start of an edge at which all its pieces fit, FAR if there is none."""
    first, beyond = space.piece_ptr[e], space.piece_ptr[e + 1]
    start = not_before
    while start < FAR:
        moved = start
        for p in range(first, beyond):
            moved = _first_fit(
                space, scratch, space.piece_worker[p], space.piece_demand[p], moved,
                space.duration[e],
            )  # fmt: skip
        if moved == start or beyond - first == 1:
            return moved
        start = moved
    return FAR


# --------------------------------------------------------------------------- costs


@inner
def _own_cost(space, i, e, start):
    """Price of the additive terms of a task, power of idle workers aside."""
    cost = space.fixed[e] + space.slope[e] * start
    if start > space.due[e]:
        cost += space.late_price[i] * (start - space.due[e]) + space.miss_price[i]
    return cost


@inner
def _idle_s(space, w, last_end):
    """Seconds for which a worker is on, if it is on until `last_end` (0 for never)."""
    return max(0, last_end - space.free_from[w])


@inner
def _power_rise(space, nodes, s, e, start):
    """Price of switching an edge's workers on, and keeping them on until its end."""
    rise = 0.0
    if not space.prices_power:
        return rise
    end = start + space.duration[e]
    for p in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
        w = space.piece_worker[p]
        before = nodes.last_end[s, w]
        if before == 0:
            rise += space.boot_price[w]
        rise += space.idle_price[w] * max(0, _idle_s(space, w, end) - _idle_s(space, w, before))
    return rise


@inner
def _longest_mean(space, waits):
    """Longest mean wait of an owner, at least 0."""
    longest = 0.0
    for o in range(waits.shape[0]):
        longest = max(longest, waits[o] / space.owner_tasks[o])
    return longest


@inner
def _most_loaded(nodes, s):
    most = nodes.loads[s, 0]
    for w in range(1, nodes.loads.shape[1]):
        most = max(most, nodes.loads[s, w])
    return most


@kernel
def cost_so_far(space, nodes, s):
    """Price of what is placed and of what runs."""
    cost = nodes.add[s] + space.makespan_price * nodes.makespan[s] + _most_loaded(nodes, s)
    if space.unfair_price > 0.0:
        cost += space.unfair_price * _longest_mean(space, nodes.waits[s])
    return cost


@inner
def _joint_after(space, nodes, scratch, s, e, start, makespan):
    """Price of the max terms of a node's placed tasks after an edge more."""
    i = space.edge_task[e]
    joint = space.makespan_price * makespan
    if space.unfair_price > 0.0:
        for o in range(scratch.waits.shape[0]):
            scratch.waits[o] = nodes.waits[s, o]
        scratch.waits[space.owner[i]] += start - space.raw_release[i]
        joint += space.unfair_price * _longest_mean(space, scratch.waits)
    most = _most_loaded(nodes, s)
    for p in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
        most = max(most, nodes.loads[s, space.piece_worker[p]] + space.piece_load[p])
    return joint + most


# --------------------------------------------------------------------------- nodes


@kernel
def assign(space, nodes, parent, e, start, s):
    """Make row `s` the node that an edge leads to from `parent`."""
    i = space.edge_task[e]
    end = start + space.duration[e]
    nodes.edge[s] = nodes.edge[parent]
    nodes.end[s] = nodes.end[parent]
    nodes.last_end[s] = nodes.last_end[parent]
    nodes.waits[s] = nodes.waits[parent]
    nodes.loads[s] = nodes.loads[parent]
    nodes.add[s] = (
        nodes.add[parent]
        + _own_cost(space, i, e, start)
        + _power_rise(space, nodes, parent, e, start)
    )
    nodes.edge[s, i], nodes.end[s, i] = e, end
    nodes.start[s] = start
    nodes.placed[s] = nodes.placed[parent] + 1
    nodes.makespan[s] = max(nodes.makespan[parent], end)
    nodes.sum_starts[s] = nodes.sum_starts[parent] + start
    nodes.waits[s, space.owner[i]] += start - space.raw_release[i]
    for p in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
        w = space.piece_worker[p]
        nodes.last_end[s, w] = max(nodes.last_end[s, w], end)
        nodes.loads[s, w] += space.piece_load[p]
    nodes.bound[s] = nodes.bound[parent]
    nodes.kept[s], nodes.dead[s], nodes.shut[s] = False, False, False
    nodes.guess[s] = np.nan
    nodes.tie[s] = i  # ``look`` says whether it counts


@kernel
def look(space, nodes, scratch, s):
    """Raise a node's bound to the whole cost of what may come of it, and list its edges.

    Returns
    -------
    bool
        False where no schedule continues the node.

    Notes
    -----
    A task to come starts no earlier than it fits beside what is placed, after the earliest
    ends of its predecessors. The bound adds, to what is placed, each task's least own cost
    (or, if that is more, what the tasks wait together where all workers are one, see
    ``_shared_wait``); the rise in power that the neediest task cannot avoid; and the max
    terms over earliest ends (with the chain of followers, and the work to come over what
    all workers have), least waits, and least loads. Each is at its least over all workers
    on its own, so their sum exceeds no schedule's cost.
    """
    last = nodes.start[s]
    gather(space, nodes, scratch, s, last)
    _sort_workers(space, nodes, scratch, s)
    scratch.listed[0] = 0
    scratch.waits[:] = nodes.waits[s]
    scratch.work[:] = 0
    # The sum keeps numba from compiling what takes the floor for the constant as well.
    makespan, floor = nodes.makespan[s], FAR + 0 * last
    most_load = _most_loaded(nodes, s)
    load = 0.0
    if space.load_price > 0.0:
        for w in range(nodes.loads.shape[1]):
            load += nodes.loads[s, w]
    rest, alone, together, power = 0.0, 0.0, 0.0, 0.0
    for i in space.order:
        if nodes.edge[s, i] >= 0:
            continue
        ready, not_before = True, max(last, space.release[i])
        for p in range(space.pred_ptr[i], space.pred_ptr[i + 1]):
            before = space.pred[p]
            if nodes.edge[s, before] >= 0:
                not_before = max(not_before, nodes.end[s, before])
            else:
                ready = False
                not_before = max(not_before, scratch.opt_end[before])
        start, end = FAR, FAR
        least, least_flat, least_power, least_load, least_peak = (
            np.inf, np.inf, np.inf, np.inf, np.inf,
        )  # fmt: skip
        for e in range(space.edge_ptr[i], space.edge_ptr[i + 1]):
            if space.has_alike and not _is_first_of_its_like(space, scratch, e):
                continue
            begin = _earliest(space, scratch, e, not_before)
            if begin > space.latest[e]:
                continue
            start, end = min(start, begin), min(end, begin + space.duration[e])
            own = _own_cost(space, i, e, begin)
            least = min(least, own)
            least_flat = min(least_flat, own - space.least_slope[i] * begin)
            if space.prices_power:
                least_power = min(least_power, _power_rise(space, nodes, s, e, begin))
            if space.load_price > 0.0:
                total, peak = 0.0, 0.0
                for p in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
                    total += space.piece_load[p]
                    there = nodes.loads[s, space.piece_worker[p]] + space.piece_load[p]
                    peak = max(peak, there)
                least_load, least_peak = min(least_load, total), min(least_peak, peak)
            if ready:
                scratch.edges[scratch.listed[0]] = e
                scratch.begins[scratch.listed[0]] = begin
                scratch.listed[0] += 1
        if start == FAR:
            nodes.bound[s] = np.inf
            return False
        scratch.own[i] = least
        scratch.opt_start[i], scratch.opt_end[i] = start, end
        rest += least
        together += least_flat
        alone += space.least_slope[i] * start
        floor = min(floor, start)
        makespan = max(makespan, end + space.after[i])
        scratch.waits[space.owner[i]] += start - space.raw_release[i]
        for b in range(space.room.shape[0]):
            scratch.work[b] += space.work[i, b]
        if space.prices_power:
            power = max(power, least_power)
        if space.load_price > 0.0:
            most_load, load = max(most_load, least_peak), load + least_load
    nodes.floor[s] = floor
    if nodes.placed[s] == 0 or floor > last:
        nodes.tie[s] = -1
    if floor > last:
        gather(space, nodes, scratch, s, floor)
        if space.has_alike:
            _sort_workers(space, nodes, scratch, s)
            _unlist_like_edges(space, scratch)
    if space.makespan_price > 0.0:
        makespan = max(makespan, _work_done_by(space, scratch, floor))
    if space.load_price > 0.0:
        most_load = max(most_load, load / nodes.loads.shape[1])
    scratch.facts[WAIT_COST] = alone
    scratch.facts[REST] = rest
    if alone > 0.0:
        shared = _shared_wait(space, nodes, scratch, s, floor)
        scratch.facts[WAIT_COST] = max(alone, shared)
        rest = max(rest, together + shared)
    joint = space.makespan_price * makespan + most_load
    if space.unfair_price > 0.0:
        joint += space.unfair_price * _longest_mean(space, scratch.waits)
    scratch.facts[SPAN] = makespan
    scratch.facts[SO_FAR] = cost_so_far(space, nodes, s)
    nodes.bound[s] = max(nodes.bound[s], nodes.add[s] + rest + power + joint)
    return True


@inner
def _unlist_like_edges(space, scratch):
    """Once more workers are alike, drop the listed edges that another does for."""
    left = 0
    for k in range(scratch.listed[0]):
        if _is_first_of_its_like(space, scratch, scratch.edges[k]):
            scratch.edges[left], scratch.begins[left] = scratch.edges[k], scratch.begins[k]
            left += 1
    scratch.listed[0] = left


@inner
def _work_done_by(space, scratch, floor):
    """A time before which the workers of no column can have done its work to come."""
    for w in range(space.segments.shape[0]):
        for a in range(scratch.active[w]):
            left = scratch.until[w, a] - floor
            for b in range(space.room.shape[0]):
                scratch.work[b] += left * space.held[w, scratch.held[w, a], b]
    done = 0
    for b in range(space.room.shape[0]):
        done = max(done, (scratch.work[b] + space.room[b] - 1) // space.room[b])
    return floor + done


@inner
def _shared_wait(space, nodes, scratch, s, floor):
    """Least priced sum of starts of the tasks to come, if all workers were one.

    Notes
    -----
    Take one column of work, let tasks be split at will and share all there is of it beyond what
    is active. A task's *mean busy time* there, weighted by price a second over work, is least
    for all together when they run one after the other, densest first; and it is the start plus
    half the duration in every schedule (of a longer run its first part counts).

    References
    ----------
    Goemans, Queyranne, Schulz, Skutella, Wang (2002), "Single machine scheduling with
    release dates", doi:10.1137/S089548019936223X.
    """
    most = 0.0
    pieces = 0
    ends, parts, where = scratch.triples[0], scratch.triples[1], scratch.triples[2]
    for w in range(space.segments.shape[0]):
        for a in range(scratch.active[w]):
            k = pieces
            while k > 0 and ends[k - 1] > scratch.until[w, a]:
                ends[k], parts[k], where[k] = ends[k - 1], parts[k - 1], where[k - 1]
                k -= 1
            ends[k], parts[k], where[k] = scratch.until[w, a], scratch.held[w, a], w
            pieces += 1
    for b in space.shared:
        rate = space.room[b]
        for a in range(pieces):
            rate -= space.held[where[a], parts[a], b]
        at, following, total = float(floor), 0, 0.0
        possible = True
        for i in space.by_density[b]:
            if nodes.edge[s, i] >= 0:
                continue
            if space.work[i, b] == 0:
                total += space.least_slope[i] * scratch.opt_start[i]
                continue
            left, moment = float(space.work[i, b]), 0.0
            while left > 0.0:
                if following < pieces:
                    room = rate * (ends[following] - at)
                    if room < left:
                        moment += room * (at + ends[following]) / 2.0
                        left -= room
                        at = float(ends[following])
                        rate += space.held[where[following], parts[following], b]
                        following += 1
                        continue
                elif rate <= 0:
                    possible = False
                    break
                took = left / rate
                moment += left * (at + took / 2.0)
                at += took
                left = 0.0
            if not possible:
                break
            busy = moment / space.work[i, b] - space.shortest[i] / 2.0
            total += space.least_slope[i] * busy
        if possible:
            most = max(most, total)
    return most


# --------------------------------------------------------------------------- nodes seen


@inner
def _canonical(space, nodes, s, place, out):
    """What is active beyond a node's floor: sorted (place in `order`, end, demand)."""
    for k in range(nodes.order.shape[1]):
        place[nodes.order[s, k]] = k
    size = 0
    floor = nodes.floor[s]
    for i in range(nodes.edge.shape[1]):
        e, end = nodes.edge[s, i], nodes.end[s, i]
        if e < 0 or end <= floor:
            continue
        for p in range(space.piece_ptr[e], space.piece_ptr[e + 1]):
            at, d = place[space.piece_worker[p]], space.piece_demand[p]
            k = size
            while k > 0 and (
                out[0, k - 1] > at
                or (
                    out[0, k - 1] == at
                    and (out[1, k - 1] > end or (out[1, k - 1] == end and out[2, k - 1] > d))
                )
            ):
                out[0, k], out[1, k], out[2, k] = out[0, k - 1], out[1, k - 1], out[2, k - 1]
                k -= 1
            out[0, k], out[1, k], out[2, k] = at, end, d
            size += 1
    return size


@inner
def _mix(h, x):
    """One step of a 64-bit hash (the finaliser of MurmurHash3)."""
    h ^= np.uint64(x)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    return h


@kernel
def beats(space, nodes, a, b):
    """Whether what completes node `b` completes `a` at a lesser (cost, sum of starts).

    Both have placed the same tasks, and hold the same resources from now on.
    """
    if nodes.floor[a] > nodes.floor[b]:
        return False
    if nodes.floor[a] == nodes.floor[b] and nodes.tie[a] > nodes.tie[b]:
        return False
    for i in space.follows:
        if nodes.edge[a, i] >= 0:
            continue
        mine, its = nodes.floor[a], nodes.floor[b]
        for p in range(space.pred_ptr[i], space.pred_ptr[i + 1]):
            mine = max(mine, nodes.end[a, space.pred[p]])
            its = max(its, nodes.end[b, space.pred[p]])
        if mine > its:
            return False
    loss = nodes.add[a] - nodes.add[b]
    if space.unfair_price > 0.0:
        longest = 0.0
        for o in range(space.owner_tasks.shape[0]):
            more = nodes.waits[a, o] - nodes.waits[b, o]
            longest = max(longest, more / space.owner_tasks[o])
        loss += space.unfair_price * longest
    if space.load_price > 0.0 or space.prices_power:
        more_load = 0.0
        for k in range(nodes.order.shape[1]):
            v, w = nodes.order[a, k], nodes.order[b, k]
            more_load = max(more_load, nodes.loads[a, v] - nodes.loads[b, w])
            # B paid for power that A may have to pay for yet.
            mine, its = nodes.last_end[a, v], nodes.last_end[b, w]
            longer = _idle_s(space, w, its) - _idle_s(space, v, mine)
            loss += space.idle_price[w] * max(0, longer)
            if its > 0 and mine == 0:
                loss += space.boot_price[w]
        loss += more_load
    noise = NOISE * abs(nodes.bound[b])
    return loss < -noise or (loss <= noise and nodes.sum_starts[a] <= nodes.sum_starts[b])


@inner
def keep(space, nodes, buckets, scratch, tally, s):
    """Whether no node seen before makes `s` needless; if so it is kept, and what it beats dies."""
    place = scratch.place
    size = _canonical(space, nodes, s, place, scratch.triples)
    h = np.uint64(size)
    for i in range(nodes.edge.shape[1]):
        h = _mix(h, 2 * i + (nodes.edge[s, i] >= 0))
    for k in range(size):
        for c in range(3):
            h = _mix(h, scratch.triples[c, k])
    nodes.hash[s] = h
    slot = np.int64(h & np.uint64(buckets.shape[0] - 1))
    before, rival = -1, buckets[slot]
    while rival >= 0:
        following = nodes.next[rival]
        same = nodes.hash[rival] == h
        if same:
            same = _canonical(space, nodes, rival, place, scratch.rival) == size
            for i in range(nodes.edge.shape[1]):
                same = same and (nodes.edge[s, i] >= 0) == (nodes.edge[rival, i] >= 0)
            for k in range(size):
                for c in range(3):
                    same = same and scratch.triples[c, k] == scratch.rival[c, k]
        if same and beats(space, nodes, rival, s):
            return False
        if same and beats(space, nodes, s, rival):
            nodes.dead[rival], nodes.kept[rival] = True, False
            tally[KEPT] -= 1
            if before < 0:
                buckets[slot] = following
            else:
                nodes.next[before] = following
        else:
            before = rival
        rival = following
    nodes.next[s] = buckets[slot]
    buckets[slot] = s
    nodes.kept[s] = True
    tally[KEPT] += 1
    return True


@kernel
def rehash(nodes, buckets, used):
    """Fill empty `buckets` with the kept ones of the first `used` nodes."""
    buckets[:] = -1
    for s in range(used):
        if nodes.kept[s]:
            slot = np.int64(nodes.hash[s] & np.uint64(buckets.shape[0] - 1))
            nodes.next[s] = buckets[slot]
            buckets[slot] = s


@inner
def _worth_finding(value):
    """Cost below which a schedule is looked for."""
    if value[BEST] == np.inf:
        return np.inf
    return value[BEST] - SAME * abs(value[BEST])


@inner
def _hopeless(bound, value):
    return bound == np.inf or bound >= _worth_finding(value)


@inner
def _follow(space, nodes, s, e, begin):
    """Whether an edge of a looked-at node needs following."""
    i = space.edge_task[e]
    twin = space.twin[i]
    if twin >= 0 and nodes.edge[s, twin] < 0:
        return False
    return not (begin == nodes.floor[s] and i < nodes.tie[s])


@inner
def _child(space, nodes, scratch, s, e, begin):
    """Cost so far and cheap bound of what an edge leads to, from a ``look`` at node `s`."""
    i = space.edge_task[e]
    end = begin + space.duration[e]
    add = nodes.add[s] + _own_cost(space, i, e, begin) + _power_rise(space, nodes, s, e, begin)
    placed = max(nodes.makespan[s], end)
    joint = _joint_after(space, nodes, scratch, s, e, begin, placed)
    so_far = add + joint
    span = max(np.int64(scratch.facts[SPAN]), end + space.after[i])
    joint += space.makespan_price * (span - placed)
    rest = scratch.facts[REST] - scratch.own[i]
    return so_far, max(nodes.bound[s], add + rest + joint)


@inner
def _complete(space, nodes, value, best_edge, best_end, s, e, begin, cost):
    """Take a whole schedule if it is the best so far."""
    if cost >= value[BEST]:
        return False
    value[BEST] = cost
    best_edge[:] = nodes.edge[s]
    best_end[:] = nodes.end[s]
    best_edge[space.edge_task[e]] = e
    best_end[space.edge_task[e]] = begin + space.duration[e]
    return True


# --------------------------------------------------------------------------- best first


@inner
def _push_entry(entries, tally, x, placed, weight):
    so_far, bound = entries.so_far[x], entries.bound[x]
    key = bound if weight == 1.0 else so_far + weight * (bound - so_far)
    heap.push(entries.key, entries.rank, entries.item, tally[OPEN], key, _rank(tally, placed), x)
    tally[OPEN] += 1


@inner
def _new_entry(entries, tally):
    tally[UNUSED] -= 1
    return entries.unused[tally[UNUSED]]


@inner
def _worth_opening(bound, value, enough):
    """Whether a bound must come to the front before the best schedule is good enough."""
    if _hopeless(bound, value):
        return False
    if enough > 1.0 and enough * bound >= value[BEST]:
        value[DROPPED] = min(value[DROPPED], bound)
        return False
    return True


@kernel
def open_root(entries, tally, value, nodes, weight):
    """Open row 0."""
    x = _new_entry(entries, tally)
    entries.node[x], entries.parent[x] = 0, -1
    entries.bound[x], entries.so_far[x] = nodes.bound[0], nodes.bound[0]
    _push_entry(entries, tally, x, 0, weight)


@kernel
def reopen(entries, nodes, tally, weight):
    """Give everything that is open the key of another weight."""
    size = tally[OPEN]
    tally[OPEN] = 0
    items = entries.item[:size].copy()
    for x in items:
        s = entries.node[x]
        placed = nodes.placed[s] if s >= 0 else nodes.placed[entries.parent[x]] + 1
        _push_entry(entries, tally, x, placed, weight)


@kernel
def least_open(entries, nodes, tally):
    """The least bound of all that is open: no schedule that is still to be found costs less."""
    least = np.inf
    for k in range(tally[OPEN]):
        x = entries.item[k]
        s = entries.node[x]
        needless = nodes.dead[s] or nodes.shut[s] if s >= 0 else nodes.dead[entries.parent[x]]
        if not needless:
            least = min(least, entries.bound[x])
    return least


@kernel
def best_first(
    space, nodes, entries, buckets, scratch, tally, value, best_edge, best_end, weight, enough,
    most_steps, most_looks, most_held,
):  # fmt: skip
    """Search by least bound (or, above weight 1, by cost so far + weight x the rest).

    Only nodes that come to the front are made and looked at; until then an entry is an edge
    of its parent with a cheap bound. It ends when the best schedule costs at most `enough`
    times the least of these; what can then no longer come to the front is not opened.

    Returns
    -------
    int
        Why it came back: ``EXHAUSTED``, ``PROMISED``, ``PAUSED``, ``FULL`` or ``FOUND``.
    """
    tasks = nodes.edge.shape[1]
    edges = space.edge_task.shape[0]
    looks = 0
    while tally[OPEN] > 0:
        if (weight > 1.0 or enough > 1.0) and value[BEST] <= enough * entries.key[0]:
            return PROMISED
        if tally[STEPS] >= most_steps or looks >= most_looks:
            return PAUSED
        if tally[OPEN] + tally[KEPT] > most_held:
            return PAUSED
        if tally[NODES] >= nodes.start.shape[0] or tally[UNUSED] < edges + 1:
            return FULL
        key, x = entries.key[0], entries.item[0]
        heap.pop(entries.key, entries.rank, entries.item, tally[OPEN])
        tally[OPEN] -= 1
        s, parent = entries.node[x], entries.parent[x]
        put_back = s >= 0 and nodes.kept[s]
        needless = nodes.dead[s] or nodes.shut[s] if s >= 0 else nodes.dead[parent]
        if needless or _hopeless(entries.bound[x], value):
            entries.unused[tally[UNUSED]] = x
            tally[UNUSED] += 1
            continue
        if s < 0:
            s = tally[NODES]
            assign(space, nodes, parent, entries.edge[x], entries.start[x], s)
            nodes.bound[s] = entries.bound[x]
        looks += 1
        tally[LOOKS] += 1
        lives = look(space, nodes, scratch, s) and not _hopeless(nodes.bound[s], value)
        if lives and not put_back:
            lives = keep(space, nodes, buckets, scratch, tally, s)
        if lives and s == tally[NODES]:
            tally[NODES] += 1
        if lives:
            entries.node[x], entries.bound[x] = s, nodes.bound[s]
            entries.so_far[x] = scratch.facts[SO_FAR]
            if weight != 1.0:
                new_key = scratch.facts[SO_FAR] + weight * (nodes.bound[s] - scratch.facts[SO_FAR])
            else:
                new_key = nodes.bound[s]
            if new_key > key and tally[OPEN] > 0 and new_key > entries.key[0]:
                _push_entry(entries, tally, x, nodes.placed[s], weight)
                continue
        entries.unused[tally[UNUSED]] = x
        tally[UNUSED] += 1
        if not lives:
            continue
        tally[STEPS] += 1
        nodes.shut[s] = True
        found = False
        for k in range(scratch.listed[0]):
            e, begin = scratch.edges[k], scratch.begins[k]
            if not _follow(space, nodes, s, e, begin):
                continue
            so_far, bound = _child(space, nodes, scratch, s, e, begin)
            if nodes.placed[s] + 1 == tasks:
                if _complete(space, nodes, value, best_edge, best_end, s, e, begin, so_far):
                    found = True
            elif _worth_opening(bound, value, enough):
                x = _new_entry(entries, tally)
                entries.bound[x], entries.so_far[x] = bound, so_far
                entries.parent[x], entries.edge[x], entries.start[x] = s, e, begin
                entries.node[x] = -1
                _push_entry(entries, tally, x, nodes.placed[s] + 1, weight)
        if found:
            return FOUND
    return EXHAUSTED


# --------------------------------------------------------------------------- focal and beam


@kernel
def expand(
    space, nodes, buckets, scratch, tally, value, best_edge, best_end, chosen, first, fresh,
    features, wants_features,
):  # fmt: skip
    """Make and look at every node that the edges of the chosen ones lead to.

    Parameters
    ----------
    chosen : int64 (k,)
        Nodes that were looked at before.
    first : int
        Where in `chosen` to begin.
    fresh : int64 (room,)
        Filled with the nodes that are worth keeping; ``tally[ROWS]`` counts them on.
    features : float64 (room, FEATURES)
        Filled with a row each, if `wants_features`.

    Returns
    -------
    int
        How far in `chosen` it came before the room ran out.
    """
    tasks = nodes.edge.shape[1]
    for c in range(first, chosen.shape[0]):
        s = chosen[c]
        if nodes.dead[s] or _hopeless(nodes.bound[s], value):
            continue
        if not look(space, nodes, scratch, s):
            continue
        count = scratch.listed[0]
        if tally[NODES] + count >= nodes.start.shape[0] or tally[ROWS] + count > fresh.shape[0]:
            return c
        tally[STEPS] += 1
        children = 0
        for k in range(count):
            e, begin = scratch.edges[k], scratch.begins[k]
            if not _follow(space, nodes, s, e, begin):
                continue
            so_far, bound = _child(space, nodes, scratch, s, e, begin)
            if nodes.placed[s] + 1 == tasks:
                _complete(space, nodes, value, best_edge, best_end, s, e, begin, so_far)
            elif not _hopeless(bound, value):
                scratch.child_edge[children], scratch.child_start[children] = e, begin
                children += 1
        for k in range(children):
            child = tally[NODES]
            assign(space, nodes, s, scratch.child_edge[k], scratch.child_start[k], child)
            tally[LOOKS] += 1
            if not look(space, nodes, scratch, child) or _hopeless(nodes.bound[child], value):
                continue
            if wants_features:
                describe(space, nodes, scratch, value, child, features[tally[ROWS]])
            if not keep(space, nodes, buckets, scratch, tally, child):
                continue
            fresh[tally[ROWS]] = child
            tally[NODES] += 1
            tally[ROWS] += 1
    return chosen.shape[0]


@kernel
def dive(
    space, nodes, entries, buckets, scratch, tally, value, best_edge, best_end, forest, weighs,
    layer, count, layers, fresh, features, guess, enough,
):  # fmt: skip
    """Go down from some nodes, following the few of each depth that the guide likes best.

    What a layer leads to and is not followed is opened for ``best_first``.

    Parameters
    ----------
    forest : trees.Forest
        Without trees the bound guides.
    weighs : bool
        Whether the trees tell the log of cost over bound (else only an order).
    layer : int64 (width,)
        Its first `count` nodes are expanded; then the best of what they lead to, and so on. At
        the end it holds the next layer.
    layers : int
        How many to expand.
    fresh, features, guess : (room,), (room, FEATURES), (room,)
        Room for what a layer leads to.
    enough : float
        As for ``best_first``.

    Returns
    -------
    int
        How many nodes the next layer has; -1 where room ran out, with everything open.
    """
    guided = forest.root.shape[0] > 0
    while count > 0 and layers > 0:
        layers -= 1
        reached = 0
        tally[ROWS] = 0
        if tally[UNUSED] >= fresh.shape[0] + 2 * layer.shape[0]:
            for c in range(count):
                nodes.shut[layer[c]] = True
            reached = expand(
                space, nodes, buckets, scratch, tally, value, best_edge, best_end,
                layer[:count], 0, fresh, features, guided,
            )  # fmt: skip
        for c in range(reached, count):
            nodes.shut[layer[c]] = False
            _open_node(entries, nodes, tally, value, layer[c], enough)
        stops = reached < count
        rows = tally[ROWS]
        if guided:
            add_sums(features, rows, forest, guess)
        for k in range(rows):
            bound = nodes.bound[fresh[k]]
            likes = bound
            if guided:
                likes = bound * np.exp(max(0.0, guess[k])) if weighs else guess[k]
                if np.isnan(guess[k]) or np.isnan(likes):
                    likes = np.inf
            nodes.guess[fresh[k]] = likes
        count = 0 if stops else _best_of(nodes, value, fresh, rows, layer)
        for k in range(rows):
            if fresh[k] >= 0:
                _open_node(entries, nodes, tally, value, fresh[k], enough)
        if stops:
            return -1
    return count


@kernel
def open_layer(entries, nodes, tally, value, layer, count, enough):
    """Open the nodes of a layer that is not followed."""
    for c in range(count):
        _open_node(entries, nodes, tally, value, layer[c], enough)


@inner
def _open_node(entries, nodes, tally, value, s, enough):
    """Open a node that was looked at, if it may have to come to the front."""
    if nodes.dead[s] or not _worth_opening(nodes.bound[s], value, enough):
        return
    x = _new_entry(entries, tally)
    entries.node[x], entries.parent[x] = s, -1
    entries.bound[x], entries.so_far[x] = nodes.bound[s], nodes.bound[s]
    _push_entry(entries, tally, x, nodes.placed[s], 1.0)


@inner
def _best_of(nodes, value, fresh, rows, layer):
    """Move the rows of least guess to the layer (and -1 to their place); how many."""
    count = 0
    while count < layer.shape[0]:
        best = -1
        for k in range(rows):
            s = fresh[k]
            if s < 0 or nodes.dead[s] or _hopeless(nodes.bound[s], value):
                continue
            if best < 0:
                best = k
                continue
            b = fresh[best]
            if nodes.guess[s] < nodes.guess[b] or (
                nodes.guess[s] == nodes.guess[b] and nodes.bound[s] < nodes.bound[b]
            ):
                best = k
        if best < 0:
            break
        layer[count] = fresh[best]
        fresh[best] = -1
        count += 1
    return count


@kernel
def most_promising(nodes, tally, value, weighs, layer):
    """The nodes of least guess that were not expanded, in `layer`; how many.

    Where guesses of different depths cannot be compared, those of least bound.
    """
    count = 0
    for s in range(tally[NODES]):
        if np.isnan(nodes.guess[s]) or nodes.shut[s] or nodes.dead[s]:
            continue
        if _hopeless(nodes.bound[s], value):
            continue
        mine = nodes.guess[s] if weighs else nodes.bound[s]
        k = min(count, layer.shape[0] - 1)
        if count == layer.shape[0]:
            last = nodes.guess[layer[k]] if weighs else nodes.bound[layer[k]]
            if mine >= last:
                continue
        else:
            count += 1
        while k > 0:
            other = nodes.guess[layer[k - 1]] if weighs else nodes.bound[layer[k - 1]]
            if other <= mine:
                break
            layer[k] = layer[k - 1]
            k -= 1
        layer[k] = s
    return count


@inner
def describe(space, nodes, scratch, value, s, out):
    """The features of a node that was just looked at; ``space.FEATURES`` names them."""
    tasks = nodes.edge.shape[1]
    workers = space.segments.shape[0]
    floor, span = nodes.floor[s], max(1.0, value[ROOT_SPAN])
    bound = max(nodes.bound[s], 1e-300)
    to_come, ready, due, late = 0, 0, 0, 0
    mean_slack, least_slack, mean_length, longest, mean_start = 0.0, np.inf, 0.0, 0.0, 0.0
    barred, barred_length, now, done = 0, 0.0, 0, 0.0
    last_ready = -1
    for i in range(tasks):
        if nodes.edge[s, i] >= 0:
            if space.room.shape[0] > 0:
                done += space.work[i, 0]
            continue
        to_come += 1
        if scratch.opt_start[i] == floor:
            if i < nodes.tie[s]:
                barred += 1
                barred_length += space.shortest[i]
            else:
                now += 1
        mean_length += space.shortest[i]
        longest = max(longest, float(space.shortest[i]))
        mean_start += scratch.opt_start[i] - floor
        if space.deadline[i] < FAR // 2:
            due += 1
            slack = float(space.deadline[i] - scratch.opt_end[i])
            late += slack < 0
            mean_slack += slack
            least_slack = min(least_slack, slack)
    for k in range(scratch.listed[0]):
        i = space.edge_task[scratch.edges[k]]
        ready += i != last_ready
        last_ready = i
    area, busy = 0.0, 0.0
    for b in range(space.room.shape[0]):
        in_use, active = 0.0, 0.0
        for w in range(workers):
            for a in range(scratch.active[w]):
                each = space.held[w, scratch.held[w, a], b]
                in_use += each
                active += each * (scratch.until[w, a] - floor)
        done -= active if b == 0 else 0.0
        work = scratch.work[b] - (active if space.makespan_price > 0.0 else 0.0)
        area = max(area, work / space.room[b])
        busy = max(busy, in_use / space.room[b])
    last, mean_last = 0.0, 0.0
    for w in range(workers):
        if scratch.active[w] > 0:
            held_until = float(scratch.until[w, scratch.active[w] - 1] - floor)
            last = max(last, held_until)
            mean_last += held_until / workers
    count = max(1, to_come)
    out[0] = nodes.bound[s] / max(value[ROOT_BOUND], 1e-300) if value[ROOT_BOUND] > 0.0 else 1.0
    out[1] = scratch.facts[SO_FAR] / bound
    out[2] = to_come / tasks
    out[3] = ready / count
    out[4] = area / span
    out[5] = (scratch.facts[SPAN] - floor) / span
    out[6] = busy
    out[7] = last / span
    out[8] = (last - mean_last) / span
    out[9] = mean_length / count / span
    out[10] = longest / span
    out[11] = mean_start / count / span
    out[12] = due / count
    out[13] = late / max(1, due)
    out[14] = max(-10.0, min(10.0, least_slack / span)) if due > 0 else 10.0
    out[15] = scratch.facts[WAIT_COST] / bound
    out[16] = barred / count
    out[17] = barred_length / workers / span
    out[18] = now / count
    out[19] = space.makespan_price * scratch.facts[SPAN] / bound
    out[20] = scratch.facts[REST] / bound
    out[21] = 0.0
    if floor > 0 and space.room.shape[0] > 0:
        out[21] = max(-1.0, 1.0 - done / space.room[0] / floor)


@kernel
def put(nodes, focus, tally, fresh, guide):
    """Open nodes for focal search, each with its guide value; NaN orders last."""
    for k in range(fresh.shape[0]):
        s = fresh[k]
        rank = _rank(tally, nodes.placed[s])
        focus.guide[s] = np.inf if np.isnan(guide[k]) else guide[k]
        focus.closed[s] = False
        heap.push(
            focus.open_key, focus.open_rank, focus.open_item, tally[OPEN], nodes.bound[s], rank, s
        )
        tally[OPEN] += 1
        heap.push(
            focus.waiting_key, focus.waiting_rank, focus.waiting_item, tally[WAITING],
            nodes.bound[s], rank, s,
        )  # fmt: skip
        tally[WAITING] += 1


@kernel
def take(nodes, focus, tally, value, weight, chosen):
    """Take from the focal list, least guide value first.

    The focal list holds the open nodes whose bound is at most `weight` times the least.

    Parameters
    ----------
    chosen : int64 (k,)
        Filled with what is taken.

    Returns
    -------
    int
        How many were taken; 0 if nothing is open, -1 if the best schedule is within the weight.
    """
    while tally[OPEN] > 0:
        s = focus.open_item[0]
        if not (focus.closed[s] or nodes.dead[s] or _hopeless(nodes.bound[s], value)):
            break
        heap.pop(focus.open_key, focus.open_rank, focus.open_item, tally[OPEN])
        tally[OPEN] -= 1
    if tally[OPEN] == 0:
        value[LEAST] = np.inf
        return 0
    value[LEAST] = focus.open_key[0]
    limit = weight * value[LEAST]
    if value[BEST] <= limit:
        return -1
    while tally[WAITING] > 0 and focus.waiting_key[0] <= limit:
        s, rank = focus.waiting_item[0], focus.waiting_rank[0]
        heap.pop(focus.waiting_key, focus.waiting_rank, focus.waiting_item, tally[WAITING])
        tally[WAITING] -= 1
        if nodes.dead[s] or focus.closed[s]:
            continue
        heap.push(
            focus.focal_key, focus.focal_rank, focus.focal_item, tally[FOCAL], focus.guide[s],
            rank, s,
        )  # fmt: skip
        tally[FOCAL] += 1
    count = 0
    while tally[FOCAL] > 0 and count < chosen.shape[0]:
        s = focus.focal_item[0]
        heap.pop(focus.focal_key, focus.focal_rank, focus.focal_item, tally[FOCAL])
        tally[FOCAL] -= 1
        if focus.closed[s] or nodes.dead[s] or _hopeless(nodes.bound[s], value):
            continue
        focus.closed[s] = True
        chosen[count] = s
        count += 1
    return count


@kernel
def copy_rows(source, target, rows):
    """Copy nodes to the first rows of another set, unkept and alive."""
    for k in range(rows.shape[0]):
        s = rows[k]
        target.edge[k], target.end[k] = source.edge[s], source.end[s]
        target.start[k], target.placed[k] = source.start[s], source.placed[s]
        target.makespan[k], target.sum_starts[k] = source.makespan[s], source.sum_starts[s]
        target.floor[k], target.tie[k] = source.floor[s], source.tie[s]
        target.last_end[k], target.order[k] = source.last_end[s], source.order[s]
        target.add[k], target.bound[k] = source.add[s], source.bound[s]
        target.waits[k], target.loads[k] = source.waits[s], source.loads[s]
        target.kept[k], target.dead[k], target.shut[k] = False, False, False
        target.guess[k] = source.guess[s]
