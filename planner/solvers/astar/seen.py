"""Nodes that were seen: which of two with the same tasks placed makes the other needless."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.schedule import BEFORE, LAG, SINCE
from plancast.planner.solvers.astar.state import KEPT, NOISE, _idle_s, _since


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
            before, ends, lag = space.pred[p, BEFORE], space.pred[p, SINCE] == 1, space.pred[p, LAG]
            if nodes.edge[a, before] >= 0:
                mine = max(mine, _since(space, nodes, a, before, ends) + lag)
                its = max(its, _since(space, nodes, b, before, ends) + lag)
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
