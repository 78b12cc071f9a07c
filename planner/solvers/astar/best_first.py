"""Best-first search, anytime by weight: what is open, and what comes to the front."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays import heap
from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.solvers.astar.look import look
from plancast.planner.solvers.astar.seen import keep
from plancast.planner.solvers.astar.state import (
    BEST,
    DROPPED,
    EXHAUSTED,
    FOUND,
    FULL,
    KEPT,
    LOOKS,
    NODES,
    OPEN,
    PAUSED,
    PROMISED,
    REST,
    SAME,
    SO_FAR,
    SPAN,
    STEPS,
    UNUSED,
    _joint_after,
    _own_cost,
    _power_rise,
    _rank,
    assign,
)


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
    copy_into(best_edge, nodes.edge[s])
    copy_into(best_end, nodes.end[s])
    best_edge[space.edge_task[e]] = e
    best_end[space.edge_task[e]] = begin + space.duration[e]
    return True


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
