"""The relaxation with a clock: work in stretches of time, so that lateness is bounded too.

``relaxation`` does not know when work is done. Here the horizon is cut at deadlines, and what
does not fit before one is late: makespan, energy, lateness and misses are bounded together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from plancast.planner.arrays.graph import dues, heads_and_tails
from plancast.planner.arrays.problem import Bools, Floats, Ints, Problem
from plancast.planner.arrays.rates import prices_deadlines
from plancast.planner.arrays.schedule import FAR
from plancast.planner.bounds.relaxation import worker_groups
from plancast.planner.model.domain import HOUR_S

ALL_ALONE = 60
"""Up to this many tasks each is an item of its own, due or not."""
MOST_CUTS = 6
MOST_VARIABLES = 8_000
"""Beyond this many the program takes seconds: fewer cuts are made, and then none at all."""
FEWEST_CUTS = 4
TOLERANCE = 1e-7
"""Of the LP solver, for each row and each reduced cost."""


@dataclass(frozen=True, eq=False)
class _Items:
    """What the work consists of: tasks with something due, and the rest by kind.

    ``task`` is -1 for a kind; ``work_h`` is summed over shards; ``length_h`` is one piece's.
    """

    kind: Ints
    task: Ints
    work_h: Floats
    length_h: Floats
    shards: Ints
    head_h: Floats
    due_h: Floats


class _Program:
    """Rows and columns of a linear program, as they come."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self.entries: list[tuple[int, int, float]] = []
        self.limit: list[float] = []
        self.equal_entries: list[tuple[int, int, float]] = []
        self.equal: list[float] = []

    def variable(self, cost: float = 0.0, low: float = 0.0, high: float = np.inf) -> int:
        """A new variable; its column."""
        self.cost.append(cost)
        self.low.append(low)
        self.high.append(high)
        return len(self.cost) - 1

    def at_most(self, terms: list[tuple[int, float]], limit: float) -> None:
        """Sum of coefficient times variable <= limit."""
        self.entries += [(len(self.limit), column, value) for column, value in terms]
        self.limit.append(limit)

    def exactly(self, terms: list[tuple[int, float]], value: float) -> None:
        """Sum of coefficient times variable == value."""
        self.equal_entries += [(len(self.equal), column, c) for column, c in terms]
        self.equal.append(value)

    def least(self, seconds: float | None) -> float | None:
        """The optimum, None where the solver fails."""

        def matrix(entries: list[tuple[int, int, float]], rows: int) -> scipy.sparse.csr_matrix:
            table = np.array(entries, np.float64).reshape(-1, 3)
            place = (table[:, 0].astype(np.int64), table[:, 1].astype(np.int64))
            return scipy.sparse.coo_matrix((table[:, 2], place), (rows, len(self.cost))).tocsr()

        found = scipy.optimize.linprog(
            self.cost,
            matrix(self.entries, len(self.limit)), self.limit,
            matrix(self.equal_entries, len(self.equal)), self.equal,
            np.column_stack([self.low, self.high]), method="highs",
            options={} if seconds is None else {"time_limit": seconds},
        )  # fmt: skip
        if found.status != 0:
            return None
        # Rows and reduced costs are only met to within the solver's tolerance.
        duals = np.abs(found.ineqlin.marginals).sum() + np.abs(found.eqlin.marginals).sum()
        return float(found.fun - TOLERANCE * (duals + np.abs(found.x).sum()))


def timed_cost(
    problem: Problem, least_makespan_s: float = 0.0, seconds: float | None = None
) -> float | None:
    """A lower bound on priced makespan, energy, lateness and misses together.

    Parameters
    ----------
    problem : Problem
        With at least one task.
    least_makespan_s : float
        A makespan that no schedule can beat, seconds; the longest chain is one.
    seconds : float, optional
        Most seconds for the program.

    Returns
    -------
    float or None
        None where nothing is due, or the program is too large or fails.

    Notes
    -----
    The horizon is cut at t_0 = 0 < t_1 < ... < t_B, the last stretch ending with the makespan M.
    h_ugb is the work of item u on group g in stretch b, O_gb the on-time of the group's workers,
    f_i(t) the part of task i's work that is done at t or later. Beside those of ``relax``::

        sum_u demand_ur h_ugb <= cap_gr O_gb,  O_gb <= n_g (t_b+1 - t_b),  O_gB <= n_g (M - t_B)
        h_ugb = 0 before the head of u,  sum_g h_igb <= shards x time of the stretch after the head
        T_i >= (t - D_i + d_i) f_i(t)       for t >= D_i
        T_i >= d_i f_i(t) - (D_i - t)       for t <= D_i
        T_i >= sum_b t_b (f_i(t_b) - f_i(t_b+1)) + d_i / 2 - D_i
        T_j >= T_i + D_i + d_j - D_j        for i before j
        U_i >= f_i(t)                       for t >= D_i

    They hold since a task of duration d that ends at C does min(1, (C - t) / d) of its work
    after t < C, all of it after t <= C - d, and half of its time lies after its mean busy time.
    Deadlines are those that a task and all after it hand back. What runs already is left out.
    """
    head, tail = heads_and_tails(problem.release, problem.shortest, problem.pred_ptr, problem.pred)
    due, _, _ = dues(
        problem.deadline, problem.weight, problem.shortest, problem.pred_ptr, problem.pred
    )
    least_s = max(float((head + tail).max()), float(problem.last_end.max(initial=0)))
    least_s = max(least_s, least_makespan_s)
    if not (due < FAR // 2).any() or not prices_deadlines(problem.rates):
        return None
    _, members = worker_groups(problem)
    items = _items(problem, head, due)
    allowed = problem.allowed[:, [m[0] for m in members]]
    columns = int(allowed[items.kind].sum())
    cuts = min(MOST_CUTS, MOST_VARIABLES // max(1, columns) - 1)
    if cuts < FEWEST_CUTS:
        return None
    starts = _starts(due[due < FAR // 2], least_s, cuts)
    return _program(problem, items, allowed, members, starts / HOUR_S, least_s / HOUR_S, seconds)


def _items(problem: Problem, head: Ints, due: Ints) -> _Items:
    """Tasks with something due one by one, the others by kind."""
    single = (due < FAR // 2) | (len(due) <= ALL_ALONE)
    alone, rest = np.flatnonzero(single), np.flatnonzero(~single)
    kinds = np.unique(problem.kind[rest])
    work = problem.piece_seconds / HOUR_S
    of_kind = np.bincount(problem.kind[rest], work[rest], minlength=len(problem.allowed))
    earliest = np.full(len(problem.allowed), np.inf)
    np.minimum.at(earliest, problem.kind[rest], head[rest] / HOUR_S)
    return _Items(
        kind=np.concatenate([problem.kind[alone], kinds]),
        task=np.concatenate([alone, np.full(len(kinds), -1)]),
        work_h=np.concatenate([work[alone], of_kind[kinds]]),
        length_h=np.concatenate([problem.shortest[alone] / HOUR_S, np.zeros(len(kinds))]),
        shards=np.concatenate([problem.shards[alone], np.zeros(len(kinds), np.int64)]),
        head_h=np.concatenate([head[alone] / HOUR_S, earliest[kinds]]),
        due_h=np.concatenate(
            [np.where(due < FAR // 2, due / HOUR_S, np.inf)[alone], np.full(len(kinds), np.inf)]
        ),
    )


def _starts(due: Ints, least_s: float, cuts: int) -> Floats:
    """Starts of the stretches: 0 and deadlines, evenly by number, within the least makespan."""
    inside = np.sort(due[(due > 0) & (due <= least_s)])
    if not len(inside):
        return np.zeros(1)
    at = np.unique(np.linspace(0, len(inside) - 1, cuts).round().astype(np.int64))
    return np.unique(np.concatenate([[0], inside[at]])).astype(np.float64)


def _program(
    problem: Problem,
    items: _Items,
    allowed: Bools,
    members: list[Ints],
    starts: Floats,
    least_h: float,
    seconds: float | None,
) -> float | None:
    lp = _Program()
    last = len(starts) - 1
    span = np.diff(starts)
    makespan = lp.variable(HOUR_S * problem.rates.end, low=max(least_h, starts[last]))
    on = []
    for m in members:
        idle = HOUR_S * float(problem.rates.idle[m[0]])
        on.append(
            [lp.variable(idle, high=len(m) * span[b]) for b in range(last)] + [lp.variable(idle)]
        )
        lp.at_most([(on[-1][last], 1.0), (makespan, -len(m))], -len(m) * starts[last])
        if not (problem.free_from[m] > 0).any():
            # On from the start until the last end: never more in a later stretch.
            for b in range(1, last):
                lp.at_most([(on[-1][b], 1 / span[b]), (on[-1][b - 1], -1 / span[b - 1])], 0.0)
    use: list[list[list[list[tuple[int, float]]]]] = [
        [[[] for _ in problem.resources] for _ in starts] for _ in members
    ]
    example = np.full(len(problem.allowed), -1)
    example[problem.kind] = np.arange(len(problem.kind))
    late: dict[int, int] = {}
    for u in range(len(items.kind)):
        done, by_group = _work(problem, lp, items, u, allowed, members, starts, use, example)
        if items.task[u] >= 0:
            # Some worker of a group that does all of a task is on, from when it is free, until
            # the task can have ended.
            for g, columns in by_group.items():
                before = max(0.0, items.head_h[u] - problem.free_from[members[g]].max() / HOUR_S)
                least = (before + items.length_h[u]) / items.work_h[u]
                lp.at_most([*((c, least) for c in columns), *((o, -1.0) for o in on[g])], 0.0)
        if np.isfinite(items.due_h[u]):
            late[int(items.task[u])] = _lateness(problem, lp, items, u, starts, done)
    for g, m in enumerate(members):
        for b in range(last + 1):
            for r, terms in enumerate(use[g][b]):
                if terms:
                    capacity = float(problem.capacity[m[0], r])
                    lp.at_most([*terms, (on[g][b], -capacity)], 0.0)
    _chains(problem, lp, items, late)
    return lp.least(seconds)


def _work(
    problem: Problem,
    lp: _Program,
    items: _Items,
    u: int,
    allowed: Bools,
    members: list[Ints],
    starts: Floats,
    use: list[list[list[list[tuple[int, float]]]]],
    example: Ints,
) -> tuple[list[list[int]], dict[int, list[int]]]:
    """The variables of an item's work, by stretch and by group; `use` gets what they use."""
    kind = int(items.kind[u])
    demand = problem.demand[example[kind]]
    ends = np.append(starts[1:], np.inf)
    done: list[list[int]] = []
    by_group: dict[int, list[int]] = {}
    for b, (start, end) in enumerate(zip(starts, ends, strict=True)):
        done.append([])
        if end <= items.head_h[u]:
            continue
        for g in np.flatnonzero(allowed[kind]):
            w = members[g][0]
            busy = HOUR_S * float(problem.rates.busy[w] * problem.share[kind, w])
            column = lp.variable(busy)
            done[-1].append(column)
            by_group.setdefault(int(g), []).append(column)
            for r, amount in enumerate(demand):
                if amount > 0:
                    use[g][b][r].append((column, float(amount)))
        if items.task[u] >= 0 and np.isfinite(end):
            room = items.shards[u] * (end - max(start, items.head_h[u]))
            lp.at_most([(column, 1.0) for column in done[-1]], room)
    lp.exactly([(column, 1.0) for row in done for column in row], float(items.work_h[u]))
    return done, by_group


def _lateness(
    problem: Problem, lp: _Program, items: _Items, u: int, starts: Floats, done: list[list[int]]
) -> int:
    """The variable of a task's lateness against what it hands back; its own has a price."""
    task = int(items.task[u])
    length, due = items.length_h[u], items.due_h[u]
    least = max(0.0, items.head_h[u] + length - due)
    own = problem.deadline[task] < FAR // 2
    # A deadline of its own that is later than what it hands back is counted from there.
    beyond = (problem.deadline[task] / HOUR_S - due) if own else 0.0
    weight = problem.weight[task] if own else 0.0
    late = lp.variable(0.0, low=least)
    if own:
        priced = lp.variable(HOUR_S * problem.rates.late * weight)
        lp.at_most([(late, 1.0), (priced, -1.0)], beyond)
    missed = lp.variable(problem.rates.miss * weight, high=1.0)
    if own and items.head_h[u] + length > problem.deadline[task] / HOUR_S + 1e-9:
        lp.low[missed] = 1.0
    for b, start in enumerate(starts):
        after = [column for row in done[b:] for column in row]
        if not after:
            continue
        factor = length + max(0.0, start - due)
        terms = [(column, factor / items.work_h[u]) for column in after]
        lp.at_most([*terms, (late, -1.0)], max(0.0, due - start))
        if own and start >= problem.deadline[task] / HOUR_S - 1e-9:
            lp.at_most([*((c, 1 / items.work_h[u]) for c in after), (missed, -1.0)], 0.0)
    mean = [
        (column, max(float(start), float(items.head_h[u])) / items.work_h[u])
        for start, row in zip(starts, done, strict=True)
        for column in row
    ]
    lp.at_most([*mean, (late, -1.0)], due - length / 2)
    return late


def _chains(problem: Problem, lp: _Program, items: _Items, late: dict[int, int]) -> None:
    """A task is at least as late as what it waits for makes it."""
    place = {int(items.task[u]): u for u in np.flatnonzero(np.isfinite(items.due_h))}
    for task, u in place.items():
        for before in problem.predecessors(task):
            v = place.get(int(before))
            if v is None:
                continue
            lag = items.due_h[v] + items.length_h[u] - items.due_h[u]
            lp.at_most([(late[int(before)], 1.0), (late[task], -1.0)], float(-min(lag, 0.0)))
