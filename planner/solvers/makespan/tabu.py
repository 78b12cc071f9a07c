"""Tabu search on the critical path of a shop: machines that run one task at a time.

A solution is the order of the tasks on each machine. With the precedence relation it makes
a graph; a task's *head* is the longest path to it, its *tail* the longest after it, and the
makespan the longest of all. Only moves that take a critical task from its place can make
it shorter.

``can_lead`` and ``path_ahead`` are ``can_follow`` and ``path_behind`` seen from the end. One of
each, handed a mirrored view of shop and orders, made the same moves 15 to 20% slower.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import inner, kernel

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
        Machine of each task; the tasks before and after it there, -1 for none.
    first : int64 (m,)
        First task of each machine, -1 for none.
    head, tail, length : int64 (n,)
        Earliest start, longest path after the end, duration on its machine.
    topological : int64 (n,)
    """

    machine: np.ndarray
    before: np.ndarray
    after: np.ndarray
    first: np.ndarray
    head: np.ndarray
    tail: np.ndarray
    length: np.ndarray
    topological: np.ndarray


@kernel
def new_orders(tasks, machines):
    """Room for a solution."""
    return Orders(
        np.full(tasks, -1, np.int64), np.full(tasks, -1, np.int64), np.full(tasks, -1, np.int64),
        np.full(machines, -1, np.int64), np.zeros(tasks, np.int64), np.zeros(tasks, np.int64),
        np.zeros(tasks, np.int64), np.zeros(tasks, np.int64),
    )  # fmt: skip


@kernel
def copy_orders(source, target):
    """Make one solution equal to another."""
    target.machine[:] = source.machine
    target.before[:] = source.before
    target.after[:] = source.after
    target.first[:] = source.first
    target.head[:] = source.head
    target.tail[:] = source.tail
    target.length[:] = source.length
    target.topological[:] = source.topological


@kernel
def load_orders(shop, start, worker, x):
    """The solution of a schedule."""
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
    """Heads, tails and a topological order; returns the makespan, ``FAR`` for a cycle."""
    n = x.machine.shape[0]
    filled = 0
    for i in range(n):
        waiting[i] = shop.pred_ptr[i + 1] - shop.pred_ptr[i] + (x.before[i] >= 0)
        x.head[i] = shop.release[i]
        if waiting[i] == 0:
            x.topological[filled] = i
            filled += 1
    makespan, k = 0, 0
    while k < filled:
        i = x.topological[k]
        k += 1
        end = x.head[i] + x.length[i]
        makespan = max(makespan, end)
        j = x.after[i]
        if j >= 0:
            x.head[j] = max(x.head[j], end)
            waiting[j] -= 1
            if waiting[j] == 0:
                x.topological[filled] = j
                filled += 1
        for s in range(shop.succ_ptr[i], shop.succ_ptr[i + 1]):
            j = shop.succ[s]
            x.head[j] = max(x.head[j], end)
            waiting[j] -= 1
            if waiting[j] == 0:
                x.topological[filled] = j
                filled += 1
    if filled < n:
        return FAR
    for k in range(n - 1, -1, -1):
        i = x.topological[k]
        tail = 0
        j = x.after[i]
        if j >= 0:
            tail = x.length[j] + x.tail[j]
        for s in range(shop.succ_ptr[i], shop.succ_ptr[i + 1]):
            j = shop.succ[s]
            tail = max(tail, x.length[j] + x.tail[j])
        x.tail[i] = tail
    return makespan


@inner
def _ready(shop, x, i):
    """When the predecessors of a task have ended."""
    at = shop.release[i]
    for k in range(shop.pred_ptr[i], shop.pred_ptr[i + 1]):
        j = shop.pred[k]
        at = max(at, x.head[j] + x.length[j])
    return at


@inner
def _rest(shop, x, i):
    """Longest path after a task by way of its successors alone."""
    rest = 0
    for k in range(shop.succ_ptr[i], shop.succ_ptr[i + 1]):
        j = shop.succ[k]
        rest = max(rest, x.length[j] + x.tail[j])
    return rest


@kernel
def take_out(x, i):
    """Take a task from its machine."""
    a, b = x.before[i], x.after[i]
    if a >= 0:
        x.after[a] = b
    else:
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
def can_follow(shop, x, u, v):
    """Whether u may move right behind v, further on its machine, for certain."""
    for k in range(shop.succ_ptr[u], shop.succ_ptr[u + 1]):
        s = shop.succ[k]
        # A path from s to v would make v's head at least the end of s.
        if s == v or x.head[v] >= x.head[s] + x.length[s]:
            return False
    return True


@kernel
def can_lead(shop, x, v, u):
    """Whether v may move right before u, earlier on its machine, for certain."""
    for k in range(shop.pred_ptr[v], shop.pred_ptr[v + 1]):
        p = shop.pred[k]
        if p == u or x.tail[u] >= x.tail[p] + x.length[p]:
            return False
    return True


@kernel
def path_behind(shop, x, u, v, heads):
    """Longest path through what moves when u goes right behind v, by old heads and tails."""
    at = x.before[u]
    end = x.head[at] + x.length[at] if at >= 0 else 0
    i = x.after[u]
    k = 0
    while True:
        heads[k] = max(_ready(shop, x, i), end)
        end = heads[k] + x.length[i]
        k += 1
        if i == v:
            break
        i = x.after[i]
    head = max(_ready(shop, x, u), end)
    after = x.after[v]
    rest = x.length[after] + x.tail[after] if after >= 0 else 0
    tail = max(_rest(shop, x, u), rest)
    longest = head + x.length[u] + tail
    rest = x.length[u] + tail
    i = v
    while k > 0:
        k -= 1
        tail = max(_rest(shop, x, i), rest)
        longest = max(longest, heads[k] + x.length[i] + tail)
        rest = x.length[i] + tail
        i = x.before[i]
    return longest


@kernel
def path_ahead(shop, x, v, u, tails):
    """Longest path through what moves when v goes right before u, by old heads and tails."""
    at = x.after[v]
    rest = x.length[at] + x.tail[at] if at >= 0 else 0
    i = x.before[v]
    k = 0
    while True:
        tails[k] = max(_rest(shop, x, i), rest)
        rest = tails[k] + x.length[i]
        k += 1
        if i == u:
            break
        i = x.before[i]
    tail = max(_rest(shop, x, v), rest)
    before = x.before[u]
    end = x.head[before] + x.length[before] if before >= 0 else 0
    head = max(_ready(shop, x, v), end)
    longest = head + x.length[v] + tail
    end = head + x.length[v]
    i = u
    while k > 0:
        k -= 1
        head = max(_ready(shop, x, i), end)
        longest = max(longest, head + x.length[i] + tails[k])
        end = head + x.length[i]
        i = x.after[i]
    return longest


@kernel
def best_place(shop, x, v, w):
    """Best place for v on another machine: (longest path through it there, the task before).

    Notes
    -----
    Behind a task that starts before v could have ended, no path leads from v to it; before
    one whose tail is shorter than what v and its tail take, none leads from it to v.
    """
    ready, rest, d = _ready(shop, x, v), _rest(shop, x, v), shop.duration[v, w]
    own_end, own_rest = x.head[v] + x.length[v], x.tail[v] + x.length[v]
    best, place = FAR, -2
    a, b = -1, x.first[w]
    while True:
        if b < 0 or x.tail[b] < own_rest:
            head = max(ready, x.head[a] + x.length[a]) if a >= 0 else ready
            tail = max(rest, x.tail[b] + x.length[b]) if b >= 0 else rest
            if head + d + tail < best:
                best, place = head + d + tail, a
            if head + d >= best:  # further on it starts later still
                break
        if b < 0 or x.head[b] >= own_end:
            break
        a, b = b, x.after[b]
    return best, place


@inner
def critical_path(shop, x, makespan, path):
    """A critical path, chosen by chance where there are several; its number of tasks."""
    n = x.machine.shape[0]
    seen, i = 0, -1
    for j in range(n):
        if x.head[j] + x.length[j] + x.tail[j] == makespan and x.head[j] == shop.release[j]:
            first = x.before[j] < 0 or x.head[x.before[j]] + x.length[x.before[j]] < x.head[j]
            for k in range(shop.pred_ptr[j], shop.pred_ptr[j + 1]):
                p = shop.pred[k]
                first = first and x.head[p] + x.length[p] < x.head[j]
            if first or x.head[j] == 0:
                seen += 1
                if np.random.randint(seen) == 0:
                    i = j
    count = 0
    while i >= 0:
        path[count] = i
        count += 1
        end, following, seen = x.head[i] + x.length[i], -1, 0
        j = x.after[i]
        if j >= 0 and x.head[j] == end and end + x.length[j] + x.tail[j] == makespan:
            seen, following = 1, j
        for k in range(shop.succ_ptr[i], shop.succ_ptr[i + 1]):
            j = shop.succ[k]
            if x.head[j] == end and end + x.length[j] + x.tail[j] == makespan:
                seen += 1
                if np.random.randint(seen) == 0:
                    following = j
        i = following
    return count


@kernel
def tabu(shop, x, best, rounds, patience, tenure, banned, away, clock, seed):
    """Tabu search from `x`; the best solution goes to `best`.

    Parameters
    ----------
    x, best : Orders
        Measured. `x` is left where the search ended.
    rounds : int
        Moves to make at most.
    patience : int
        Moves without an improvement of `best` after which it stops.
    tenure : int
        Moves for which the order of two tasks, or a machine for a task, is not taken again;
        up to half as much longer by chance.
    banned : int32 (n, n)
        Move until which i may not come to stand before j again.
    away : int32 (n, m)
        Move until which a task may not come back to a machine.
    clock : int64 (1,)
        Counts all moves.
    seed : int

    Returns
    -------
    makespan : int
        Of `best`.
    made : int
        Moves made.

    Notes
    -----
    On the machine: the first or last task of a critical block goes anywhere within it, and
    any task behind its last or before its first. Between machines: a critical task goes
    to the best place on another one.

    References
    ----------
    Nowicki, Smutnicki (1996), "A fast taboo search algorithm for the job shop problem",
    doi:10.1287/mnsc.42.6.797. Balas, Vazacopoulos (1998), "Guided local search with shifting
    bottleneck for job shop scheduling", doi:10.1287/mnsc.44.2.262. Zhang et al. (2007), "A tabu
    search algorithm with a new neighborhood structure for the job shop scheduling problem",
    doi:10.1016/j.cor.2005.12.002. Mastrolilli, Gambardella (2000), "Effective neighbourhood
    functions for the flexible job shop problem", J. Scheduling 3(1).
    """
    np.random.seed(seed)
    n, m = shop.duration.shape
    path, room = np.zeros(n, np.int64), np.zeros(n, np.int64)
    makespan = measure(shop, x, room)
    least = measure(shop, best, room)
    since = made = 0
    while made < rounds and since < patience:
        now = clock[0]
        count = critical_path(shop, x, makespan, path)
        # The best permitted move, and one by chance should none be permitted.
        top, ties, kind, task, place = FAR, 0, -1, -1, -1
        any_seen, any_kind, any_task, any_place = 0, -1, -1, -1
        begin = 0
        while begin < count:
            stop = begin
            while stop + 1 < count and x.after[path[stop]] == path[stop + 1]:
                stop += 1
            for low in range(begin, stop):
                for high in range(low + 1, stop + 1):
                    if low > begin and high < stop:
                        continue
                    u, v = path[low], path[high]
                    for way in range(2):
                        if way == 1 and high == low + 1:
                            continue  # a swap of neighbours is the same both ways
                        if way == 0:
                            if not can_follow(shop, x, u, v):
                                continue
                            length = path_behind(shop, x, u, v, room)
                        else:
                            if not can_lead(shop, x, v, u):
                                continue
                            length = path_ahead(shop, x, v, u, room)
                        taboo = False
                        for k in range(low, high + 1):
                            i = path[k]
                            if way == 0 and i != u and banned[i, u] > now:
                                taboo = True
                            if way == 1 and i != v and banned[v, i] > now:
                                taboo = True
                        a, b = (u, v) if way == 0 else (v, u)
                        if taboo and length >= least:
                            any_seen += 1
                            if np.random.randint(any_seen) == 0:
                                any_kind, any_task, any_place = way, a, b
                        elif length <= top:
                            ties = 1 if length < top else ties + 1
                            if np.random.randint(ties) == 0:
                                top, kind, task, place = length, way, a, b
            begin = stop + 1
        for k in range(count):
            v = path[k]
            for w in range(m):
                if w == x.machine[v] or shop.duration[v, w] == 0:
                    continue
                length, a = best_place(shop, x, v, w)
                if a == -2:
                    continue
                if away[v, w] > now and length >= least:
                    any_seen += 1
                    if np.random.randint(any_seen) == 0:
                        any_kind, any_task, any_place = 2 + w, v, a
                elif length <= top:
                    ties = 1 if length < top else ties + 1
                    if np.random.randint(ties) == 0:
                        top, kind, task, place = length, 2 + w, v, a
        if kind < 0:
            kind, task, place = any_kind, any_task, any_place
        if kind < 0:
            break
        until = now + tenure + np.random.randint(1 + tenure // 2)
        if kind == 0:  # task goes behind place: it may not come before these again
            i = task
            while i != place:
                i = x.after[i]
                banned[task, i] = until
            take_out(x, task)
            put_in(shop, x, task, x.machine[task], place)
        elif kind == 1:  # task goes before place
            i = task
            while i != place:
                i = x.before[i]
                banned[i, task] = until
            take_out(x, task)
            put_in(shop, x, task, x.machine[task], x.before[place])
        else:
            away[task, x.machine[task]] = until
            take_out(x, task)
            put_in(shop, x, task, kind - 2, place)
        clock[0] += 1
        made += 1
        since += 1
        makespan = measure(shop, x, room)
        if makespan < least:
            least, since = makespan, 0
            copy_orders(x, best)
    return least, made


@kernel
def relink(shop, x, guide, share, seed):
    """Walk from `x` towards `guide` for a share of the way; returns the makespan there.

    Neighbours on a machine that stand the other way round in the guide are swapped, and
    tasks go to the guide's machine, one at a time and by chance.

    References
    ----------
    Peng, Lu, Cheng (2015), "A tabu search/path relinking algorithm to solve the job shop
    scheduling problem", doi:10.1016/j.cor.2014.08.006.
    """
    np.random.seed(seed)
    n = shop.duration.shape[0]
    room = np.zeros(n, np.int64)
    rank = np.zeros(n, np.int64)
    for k in range(n):
        rank[guide.topological[k]] = k
    makespan = measure(shop, x, room)
    distance = 0
    for i in range(n):
        distance += x.machine[i] != guide.machine[i]
        j = x.after[i]
        while j >= 0:
            distance += rank[j] < rank[i] and guide.machine[i] == guide.machine[j]
            j = x.after[j]
    steps = int(share * distance)
    for _ in range(steps):
        seen, kind, chosen, place = 0, -1, -1, -1
        for i in range(n):
            if x.machine[i] != guide.machine[i]:
                seen += 1
                if np.random.randint(seen) == 0:
                    _, a = best_place(shop, x, i, guide.machine[i])
                    if a != -2:
                        kind, chosen, place = 1, i, a
            j = x.after[i]
            if j >= 0 and rank[j] < rank[i] and can_follow(shop, x, i, j):
                seen += 1
                if np.random.randint(seen) == 0:
                    kind, chosen, place = 0, i, j
        if kind < 0:
            break
        take_out(x, chosen)
        put_in(shop, x, chosen, x.machine[place] if kind == 0 else guide.machine[chosen], place)
        makespan = measure(shop, x, room)
    return makespan


@kernel
def insertion_schedule(order, shop):
    """Each task of `order` where it ends first, gaps used; (start, worker).

    With tasks in order of upward rank this is HEFT.
    """
    n, m = shop.duration.shape
    start, worker, end = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    held = np.zeros(m, np.int64)
    busy = np.zeros((m, n), np.int64)  # tasks of a machine in order of start
    for i in order:
        ready = shop.release[i]
        for k in range(shop.pred_ptr[i], shop.pred_ptr[i + 1]):
            ready = max(ready, end[shop.pred[k]])
        finish = FAR
        for w in range(m):
            d = shop.duration[i, w]
            if d == 0 or ready + d >= finish:
                continue
            begin = ready
            for k in range(held[w]):
                j = busy[w, k]
                if begin + d <= start[j]:
                    break
                begin = max(begin, end[j])
            if begin + d < finish:
                finish, start[i], worker[i] = begin + d, begin, w
        end[i] = finish
        w = worker[i]
        k = held[w]
        while k > 0 and start[busy[w, k - 1]] > start[i]:
            busy[w, k] = busy[w, k - 1]
            k -= 1
        busy[w, k] = i
        held[w] += 1
    return start, worker
