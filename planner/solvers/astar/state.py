"""A partial schedule as a row of arrays: what is active, where an edge fits, what it costs.

A *node* is a partial schedule in which no task that is still to come may start before the
last one that was placed. An edge places a task on a multiset of workers, as early as it
fits. ``space`` says why these edges suffice, and builds what is read here.

Times are seconds after now, int64; ``FAR`` means never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.arrays.schedule import FAR

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
    starts_with: bool
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


@inner
def _since(space, nodes, s, i, ends):
    """The end of a placed task, or its start."""
    return nodes.end[s, i] if ends else nodes.end[s, i] - space.duration[nodes.edge[s, i]]


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


@kernel
def assign(space, nodes, parent, e, start, s):
    """Make row `s` the node that an edge leads to from `parent`."""
    i = space.edge_task[e]
    end = start + space.duration[e]
    copy_into(nodes.edge[s], nodes.edge[parent])
    copy_into(nodes.end[s], nodes.end[parent])
    copy_into(nodes.last_end[s], nodes.last_end[parent])
    copy_into(nodes.waits[s], nodes.waits[parent])
    copy_into(nodes.loads[s], nodes.loads[parent])
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
def copy_rows(source, target, rows):
    """Copy nodes to the first rows of another set, unkept and alive."""
    for k in range(rows.shape[0]):
        s = rows[k]
        copy_into(target.edge[k], source.edge[s])
        copy_into(target.end[k], source.end[s])
        copy_into(target.last_end[k], source.last_end[s])
        copy_into(target.waits[k], source.waits[s])
        copy_into(target.loads[k], source.loads[s])
        target.start[k], target.placed[k] = source.start[s], source.placed[s]
        target.makespan[k], target.sum_starts[k] = source.makespan[s], source.sum_starts[s]
        target.floor[k], target.tie[k] = source.floor[s], source.tie[s]
        target.order[k] = source.order[s]
        target.add[k], target.bound[k] = source.add[s], source.bound[s]
        target.kept[k], target.dead[k], target.shut[k] = False, False, False
        target.guess[k] = source.guess[s]
