"""The bound of a node on the whole cost of what may come of it, and its edges."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into
from plancast.planner.arrays.schedule import BEFORE, FAR, LAG, SINCE
from plancast.planner.solvers.astar.state import (
    REST,
    SO_FAR,
    SPAN,
    WAIT_COST,
    _earliest,
    _is_first_of_its_like,
    _longest_mean,
    _most_loaded,
    _own_cost,
    _power_rise,
    _since,
    _sort_workers,
    cost_so_far,
    gather,
)


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
    copy_into(scratch.waits, nodes.waits[s])
    for k in range(scratch.work.shape[0]):
        scratch.work[k] = 0
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
            before, ends, lag = space.pred[p, BEFORE], space.pred[p, SINCE] == 1, space.pred[p, LAG]
            if nodes.edge[s, before] >= 0:
                not_before = max(not_before, _since(space, nodes, s, before, ends) + lag)
            else:
                ready = False
                since = scratch.opt_end[before] if ends else scratch.opt_start[before]
                not_before = max(not_before, since + lag)
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
    if nodes.placed[s] == 0 or floor > last or space.starts_with:
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
