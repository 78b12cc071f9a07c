"""Focal and beam search: layers of nodes, and dives by a guide."""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays import heap
from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.solvers.astar.best_first import (
    _child,
    _complete,
    _follow,
    _hopeless,
    _new_entry,
    _push_entry,
    _worth_opening,
)
from plancast.planner.solvers.astar.describe import describe
from plancast.planner.solvers.astar.look import look
from plancast.planner.solvers.astar.seen import keep
from plancast.planner.solvers.astar.state import (
    BEST,
    FOCAL,
    LEAST,
    LOOKS,
    NODES,
    OPEN,
    ROWS,
    STEPS,
    UNUSED,
    WAITING,
    _rank,
    assign,
)
from plancast.planner.solvers.astar.trees import add_sums


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
