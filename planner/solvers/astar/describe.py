"""The features of a node that a guide is asked by."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner
from plancast.planner.arrays.schedule import FAR
from plancast.planner.solvers.astar.state import (
    REST,
    ROOT_BOUND,
    ROOT_SPAN,
    SO_FAR,
    SPAN,
    WAIT_COST,
)


@inner
def describe(space, nodes, scratch, value, s, out):
    """The features of a node that was just looked at; ``space.FEATURES`` names them."""
    tasks = nodes.edge.shape[1]
    workers = space.segments.shape[0]
    floor, span = nodes.floor[s], max(1.0, value[ROOT_SPAN])
    bound = max(nodes.bound[s], 1e-300)
    to_come, ready, due, late = 0, 0, 0, 0
    least_slack, mean_length, longest, mean_start = np.inf, 0.0, 0.0, 0.0
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
