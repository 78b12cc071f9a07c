"""Orders of tasks on the machines of a shop, and their longest paths, kept true by differences.

A solution is the order of the tasks on each machine. With the precedence relation it makes
a graph; a task's *head* is the longest path to it, its *tail* the longest after it, and the
makespan the longest of all. A move changes the topological order between the places it touches
alone, heads only behind them and tails only before. ``_put_earlier`` is ``_put_later`` seen from
the end, as in ``tabu``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.arrays.rows import copy_into

FAR = 1 << 50


class Shop(NamedTuple):
    """What does not change; n tasks, m machines.

    Parameters
    ----------
    duration : int64 (n, m)
        0 where a task may not run.
    release : int64 (n,)
    pred_ptr, pred, succ_ptr, succ : int64
        Precedence in CSR form, both ways.
    """

    duration: np.ndarray
    release: np.ndarray
    pred_ptr: np.ndarray
    pred: np.ndarray
    succ_ptr: np.ndarray
    succ: np.ndarray


class Orders(NamedTuple):
    """A solution.

    Parameters
    ----------
    machine, before, after : int64 (n,)
        Machine of each task; the tasks before and after it there, -1 for none. A task that has
        no place yet stands alone: machine -1, length 0.
    first : int64 (m,)
        First task of each machine, -1 for none.
    length : int64 (n,)
        Duration on its machine.
    ready, rest : int64 (n,)
        When release and predecessors let a task start; longest path after it by way of its
        successors.
    head, tail : int64 (n,)
        The same, the tasks before and after it on its machine counted too.
    topological, position : int64 (n,)
        Tasks in an order that all links keep to, and where each stands in it.
    """

    machine: np.ndarray
    before: np.ndarray
    after: np.ndarray
    first: np.ndarray
    length: np.ndarray
    ready: np.ndarray
    rest: np.ndarray
    head: np.ndarray
    tail: np.ndarray
    topological: np.ndarray
    position: np.ndarray


@kernel
def new_orders(tasks, machines):
    """Room for a solution; no task has a place."""
    return Orders(
        np.full(tasks, -1, np.int64), np.full(tasks, -1, np.int64), np.full(tasks, -1, np.int64),
        np.full(machines, -1, np.int64), np.zeros(tasks, np.int64), np.zeros(tasks, np.int64),
        np.zeros(tasks, np.int64), np.zeros(tasks, np.int64), np.zeros(tasks, np.int64),
        np.zeros(tasks, np.int64), np.zeros(tasks, np.int64),
    )  # fmt: skip


@kernel
def copy_orders(source, target):
    """Make one solution equal to another."""
    copy_into(target.machine, source.machine)
    copy_into(target.before, source.before)
    copy_into(target.after, source.after)
    copy_into(target.first, source.first)
    copy_into(target.length, source.length)
    copy_into(target.ready, source.ready)
    copy_into(target.rest, source.rest)
    copy_into(target.head, source.head)
    copy_into(target.tail, source.tail)
    copy_into(target.topological, source.topological)
    copy_into(target.position, source.position)


@kernel
def load_orders(shop, start, worker, x):
    """The solution of a schedule, not yet measured."""
    x.first[:] = -1
    last = np.full(x.first.shape[0], -1, np.int64)
    for i in np.argsort(start, kind="mergesort"):
        w = worker[i]
        x.machine[i] = w
        x.length[i] = shop.duration[i, w]
        x.before[i] = last[w]
        x.after[i] = -1
        if last[w] < 0:
            x.first[w] = i
        else:
            x.after[last[w]] = i
        last[w] = i


@kernel
def measure(shop, x, waiting):
    """A topological order, heads and tails from nothing; the makespan, ``FAR`` for a cycle."""
    n = x.machine.shape[0]
    filled = 0
    for i in range(n):
        waiting[i] = shop.pred_ptr[i + 1] - shop.pred_ptr[i] + (x.before[i] >= 0)
        if waiting[i] == 0:
            x.topological[filled] = i
            filled += 1
    k = 0
    while k < filled:
        i = x.topological[k]
        x.position[i] = k
        k += 1
        j = x.after[i]
        if j >= 0:
            waiting[j] -= 1
            if waiting[j] == 0:
                x.topological[filled] = j
                filled += 1
        for s in range(shop.succ_ptr[i], shop.succ_ptr[i + 1]):
            j = shop.succ[s]
            waiting[j] -= 1
            if waiting[j] == 0:
                x.topological[filled] = j
                filled += 1
    if filled < n:
        return FAR
    return _longest_paths(shop, x, 0, n - 1)


@inner
def _longest_paths(shop, x, low, high):
    """Heads from one position on, and tails down from another; the makespan."""
    n = x.machine.shape[0]
    for k in range(low, n):
        i = x.topological[k]
        at = shop.release[i]
        for p in range(shop.pred_ptr[i], shop.pred_ptr[i + 1]):
            j = shop.pred[p]
            at = max(at, x.head[j] + x.length[j])
        x.ready[i] = at
        j = x.before[i]
        if j >= 0:
            at = max(at, x.head[j] + x.length[j])
        x.head[i] = at
    for k in range(high, -1, -1):
        i = x.topological[k]
        rest = 0
        for s in range(shop.succ_ptr[i], shop.succ_ptr[i + 1]):
            j = shop.succ[s]
            rest = max(rest, x.length[j] + x.tail[j])
        x.rest[i] = rest
        j = x.after[i]
        if j >= 0:
            rest = max(rest, x.length[j] + x.tail[j])
        x.tail[i] = rest
    makespan = 0
    for i in range(n):
        makespan = max(makespan, x.head[i] + x.length[i])
    return makespan


@kernel
def take_out(x, i):
    """Take a task from its machine."""
    a, b = x.before[i], x.after[i]
    if a >= 0:
        x.after[a] = b
    elif x.machine[i] >= 0:
        x.first[x.machine[i]] = b
    if b >= 0:
        x.before[b] = a


@kernel
def put_in(shop, x, i, w, a):
    """Put a task on machine w after task a, first where a is -1."""
    b = x.after[a] if a >= 0 else x.first[w]
    x.machine[i] = w
    x.length[i] = shop.duration[i, w]
    x.before[i], x.after[i] = a, b
    if a >= 0:
        x.after[a] = i
    else:
        x.first[w] = i
    if b >= 0:
        x.before[b] = i


@kernel
def move(shop, x, i, w, a, room):
    """Move a task behind task a on machine w, first where a is -1; the new makespan.

    The move must make no cycle (``can_follow``, ``can_lead``, ``best_place``), and `x` be
    measured.
    """
    low = high = x.position[i]
    old = x.after[i]
    if old >= 0:
        low = min(low, x.position[old])
    old = x.before[i]
    if old >= 0:
        high = max(high, x.position[old])
    take_out(x, i)
    put_in(shop, x, i, w, a)
    b = x.after[i]
    if a >= 0:
        high = max(high, x.position[a])
        if x.position[a] > x.position[i]:
            _put_later(shop, x, i, x.position[a], room)
    if b >= 0:
        low = min(low, x.position[b])
        if x.position[b] < x.position[i]:
            _put_earlier(shop, x, i, x.position[b], room)
    return _longest_paths(shop, x, low, high)


@inner
def _put_later(shop, x, i, last, room):
    """Let a task, and what has to follow it, stand right behind a position of the order."""
    fill = x.position[i]
    held = 1
    room[0] = i
    x.position[i] = -1  # of what follows
    for k in range(fill + 1, last + 1):
        j = x.topological[k]
        follows = x.before[j] >= 0 and x.position[x.before[j]] < 0
        for p in range(shop.pred_ptr[j], shop.pred_ptr[j + 1]):
            follows = follows or x.position[shop.pred[p]] < 0
        if follows:
            room[held] = j
            held += 1
            x.position[j] = -1
        else:
            x.topological[fill] = j
            x.position[j] = fill
            fill += 1
    for k in range(held):
        x.topological[fill] = room[k]
        x.position[room[k]] = fill
        fill += 1


@inner
def _put_earlier(shop, x, i, first, room):
    """Let a task, and what has to lead it, stand right before a position of the order."""
    fill = x.position[i]
    held = 1
    room[0] = i
    x.position[i] = -1  # of what leads
    for k in range(fill - 1, first - 1, -1):
        j = x.topological[k]
        leads = x.after[j] >= 0 and x.position[x.after[j]] < 0
        for s in range(shop.succ_ptr[j], shop.succ_ptr[j + 1]):
            leads = leads or x.position[shop.succ[s]] < 0
        if leads:
            room[held] = j
            held += 1
            x.position[j] = -1
        else:
            x.topological[fill] = j
            x.position[j] = fill
            fill -= 1
    for k in range(held):
        x.topological[fill] = room[k]
        x.position[room[k]] = fill
        fill -= 1
