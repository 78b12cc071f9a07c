"""Tabu search on the critical path of a shop: machines that run one task at a time.

Only moves that take a critical task from its place can make the makespan shorter. What one
would lead to is estimated by the old heads and tails around it.

``can_lead`` and ``path_ahead`` are ``can_follow`` and ``path_behind`` seen from the end. One of
each, handed a mirrored view of shop and orders, made the same moves 15 to 20% slower.
"""

from __future__ import annotations

import numpy as np

from plancast.planner.arrays.jit import inner, kernel
from plancast.planner.solvers.makespan.shop_orders import (
    FAR,
    copy_orders,
    measure,
    move,
)

BEHIND, AHEAD, ELSEWHERE = 0, 1, 2
"""Kinds of moves: behind a task, before one, and to machine ``kind - ELSEWHERE``."""
LENGTH, TIES, KIND, TASK, PLACE = range(5)
"""Of the best move that is permitted."""
SEEN, ANY_KIND, ANY_TASK, ANY_PLACE = range(5, 9)
"""Of one by chance, should none be permitted."""


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
def path_behind(x, u, v, heads, most):
    """Longest path through what moves when u goes right behind v, by old heads and tails.

    ``FAR`` where it is longer than `most`.
    """
    after = x.after[v]
    rest = x.length[after] + x.tail[after] if after >= 0 else 0
    tail = max(x.rest[u], rest)
    at = x.before[u]
    end = x.head[at] + x.length[at] if at >= 0 else 0
    # Without u, v ends sooner by at most what lies between the end before u and u's own.
    if x.head[v] + x.length[v] - (x.head[u] - end) + tail > most:
        return FAR
    i = x.after[u]
    k = 0
    while True:
        heads[k] = max(x.ready[i], end)
        end = heads[k] + x.length[i]
        k += 1
        if i == v:
            break
        i = x.after[i]
    rest = x.length[u] + tail
    longest = max(x.ready[u], end) + rest
    i = v
    while k > 0 and longest <= most:
        k -= 1
        tail = max(x.rest[i], rest)
        longest = max(longest, heads[k] + x.length[i] + tail)
        rest = x.length[i] + tail
        i = x.before[i]
    return longest if longest <= most else FAR


@kernel
def path_ahead(x, v, u, tails, most):
    """Longest path through what moves when v goes right before u, by old heads and tails.

    ``FAR`` where it is longer than `most`.
    """
    before = x.before[u]
    end = x.head[before] + x.length[before] if before >= 0 else 0
    head = max(x.ready[v], end)
    at = x.after[v]
    rest = x.length[at] + x.tail[at] if at >= 0 else 0
    # As above: without v, the path from u on is shorter by at most so much.
    if head + x.length[u] + x.tail[u] - (x.tail[v] - rest) > most:
        return FAR
    i = x.before[v]
    k = 0
    while True:
        tails[k] = max(x.rest[i], rest)
        rest = tails[k] + x.length[i]
        k += 1
        if i == u:
            break
        i = x.before[i]
    end = head + x.length[v]
    longest = end + max(x.rest[v], rest)
    i = u
    while k > 0 and longest <= most:
        k -= 1
        head = max(x.ready[i], end)
        longest = max(longest, head + x.length[i] + tails[k])
        end = head + x.length[i]
        i = x.after[i]
    return longest if longest <= most else FAR


@kernel
def best_place(shop, x, v, w):
    """Best place for v on another machine: (longest path through it there, the task before).

    Notes
    -----
    A task that leads v by other ways than v's machine ends before v is ready, and has a tail
    that takes v and its tail; one that follows v starts after v's end, and takes no longer to the
    end of all than v's successors. What fails one of these is free to stand on the other side,
    so there always is a place.
    """
    d = shop.duration[v, w]
    own_end, own_rest = x.head[v] + x.length[v], x.tail[v] + x.length[v]
    best, place = FAR, -1
    a, b = -1, x.first[w]
    while True:
        if b < 0 or x.tail[b] < own_rest or x.head[b] + x.length[b] > x.ready[v]:
            head = max(x.ready[v], x.head[a] + x.length[a]) if a >= 0 else x.ready[v]
            tail = max(x.rest[v], x.tail[b] + x.length[b]) if b >= 0 else x.rest[v]
            if head + d + tail < best:
                best, place = head + d + tail, a
            if head + d >= best:  # further on it starts later still
                break
        if b < 0 or (x.head[b] >= own_end and x.tail[b] + x.length[b] <= x.rest[v]):
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


@inner
def _consider(chosen, length, taboo, kind, task, place):
    """Keep a move where it is the best so far; of equal ones, one by chance."""
    if taboo:
        chosen[SEEN] += 1
        if np.random.randint(chosen[SEEN]) == 0:
            chosen[ANY_KIND], chosen[ANY_TASK], chosen[ANY_PLACE] = kind, task, place
    elif length <= chosen[LENGTH]:
        chosen[TIES] = 1 if length < chosen[LENGTH] else chosen[TIES] + 1
        if chosen[TIES] == 1 or np.random.randint(chosen[TIES]) == 0:
            chosen[LENGTH], chosen[KIND] = length, kind
            chosen[TASK], chosen[PLACE] = task, place


@inner
def _within_block(shop, x, path, begin, stop, least, banned, now, chosen, room):
    """Moves of the first and the last task of a critical block, and to before and behind them."""
    for low in range(begin, stop):
        for high in range(low + 1, stop + 1):
            if low > begin and high < stop:
                continue
            u, v = path[low], path[high]
            length = path_behind(x, u, v, room, chosen[LENGTH])
            if length < FAR and can_follow(shop, x, u, v):
                taboo = False
                if length >= least:
                    for k in range(low + 1, high + 1):
                        taboo = taboo or banned[path[k], u] > now
                _consider(chosen, length, taboo, BEHIND, u, v)
            if high == low + 1:
                continue  # a swap of neighbours is the same both ways
            length = path_ahead(x, v, u, room, chosen[LENGTH])
            if length < FAR and can_lead(shop, x, v, u):
                taboo = False
                if length >= least:
                    for k in range(low, high):
                        taboo = taboo or banned[v, path[k]] > now
                _consider(chosen, length, taboo, AHEAD, v, u)


@inner
def _elsewhere(shop, x, path, count, least, away, now, chosen):
    """Moves of critical tasks to the best place on another machine."""
    for k in range(count):
        v = path[k]
        for w in range(x.first.shape[0]):
            if w == x.machine[v] or shop.duration[v, w] == 0:
                continue
            length, a = best_place(shop, x, v, w)
            taboo = away[v, w] > now and length >= least
            _consider(chosen, length, taboo, ELSEWHERE + w, v, a)


@inner
def _make(shop, x, kind, task, place, banned, away, until, room):
    """Make a move and forbid its reverse; the makespan."""
    w = x.machine[task]
    if kind == BEHIND:  # it may not come before these again
        i = task
        while i != place:
            i = x.after[i]
            banned[task, i] = until
        return move(shop, x, task, w, place, room)
    if kind == AHEAD:
        i = task
        while i != place:
            i = x.before[i]
            banned[i, task] = until
        return move(shop, x, task, w, x.before[place], room)
    away[task, w] = until
    return move(shop, x, task, kind - ELSEWHERE, place, room)


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
    n = shop.duration.shape[0]
    path, room, chosen = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(9, np.int64)
    makespan = measure(shop, x, room)
    least = measure(shop, best, room)
    flexible = (shop.duration > 0).sum() > n
    since = made = 0
    while made < rounds and since < patience:
        now = clock[0]
        count = critical_path(shop, x, makespan, path)
        chosen[:] = -1
        chosen[LENGTH], chosen[TIES], chosen[SEEN] = FAR - 1, 0, 0
        begin = 0
        while begin < count:
            stop = begin
            while stop + 1 < count and x.after[path[stop]] == path[stop + 1]:
                stop += 1
            _within_block(shop, x, path, begin, stop, least, banned, now, chosen, room)
            begin = stop + 1
        if flexible:
            _elsewhere(shop, x, path, count, least, away, now, chosen)
        kind, task, place = chosen[KIND], chosen[TASK], chosen[PLACE]
        if kind < 0:
            kind, task, place = chosen[ANY_KIND], chosen[ANY_TASK], chosen[ANY_PLACE]
        if kind < 0:
            break
        until = now + tenure + np.random.randint(1 + tenure // 2)
        makespan = _make(shop, x, kind, task, place, banned, away, until, room)
        clock[0] += 1
        made += 1
        since += 1
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
                    kind, chosen, place = 1, i, a
            j = x.after[i]
            if j >= 0 and rank[j] < rank[i] and can_follow(shop, x, i, j):
                seen += 1
                if np.random.randint(seen) == 0:
                    kind, chosen, place = 0, i, j
        if kind < 0:
            break
        w = x.machine[place] if kind == 0 else guide.machine[chosen]
        makespan = move(shop, x, chosen, w, place, room)
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


@kernel
def insert_longest_first(order, shop, x, room):
    """Tasks in an order, each put where the longest path through it is shortest; the makespan.

    Parameters
    ----------
    order : int64 (n,)
        Long tasks first, say.
    x : Orders
        New.

    References
    ----------
    Werner, Winkler (1995), "Insertion techniques for the heuristic solution of the job shop
    problem", doi:10.1016/0166-218X(93)E0127-K.
    """
    n, m = shop.duration.shape
    for i in range(n):
        x.length[i] = FAR
        for w in range(m):
            if shop.duration[i, w] > 0:
                x.length[i] = min(x.length[i], shop.duration[i, w])
    makespan = measure(shop, x, room)
    for i in order:
        least, machine, place = FAR, -1, -1
        for w in range(m):
            if shop.duration[i, w] > 0:
                length, a = best_place(shop, x, i, w)
                if length < least:
                    least, machine, place = length, w, a
        makespan = move(shop, x, i, machine, place, room)
    return makespan
