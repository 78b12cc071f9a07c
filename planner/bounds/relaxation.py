"""A linear program over kinds of tasks and classes of workers: a bound, and a guide.

Time and single workers are left out: only how much work of each kind goes to each class.
Its optimum bounds makespan and energy together, and its shares tell a list schedule
which tasks belong where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # what is used of it is loaded then: where another process plans, nothing

from plancast.planner.arrays.graph import heads_and_tails
from plancast.planner.arrays.problem import Floats, Ints, Problem
from plancast.planner.model.domain import HOUR_S

MOST_VARIABLES = 60_000
"""Beyond this many (kind, class) pairs the program takes longer than a list schedule."""
DIGITS = 1e-14
"""What sums of floats lose of their terms, relative."""
ALMOST_ONE = 1.0 - 1e-12
"""What a product of floats gives away."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The optimum of the relaxation.

    Parameters
    ----------
    cost : float
        The optimum, within the tolerances of the LP solver.
    bound : float
        No schedule has a lower sum of priced makespan and energy; see ``_certified``.
    worker_group : int64 (workers,)
        Workers of one group are interchangeable for it.
    share : float64 (kinds, groups)
        Part of each kind's work that goes to each group; rows of kinds with tasks sum to 1.
    costlier : float64 (kinds, groups)
        Reduced cost: by how much an hour of a kind's work on a group is costlier than where the
        optimum has it; infinity where it may not run.
    on_s : float64 (groups,)
        Mean last end of the workers of each group, seconds after now.
    makespan_s : float
    least_end_s : float
        What the longest chain and running tasks alone let it be, seconds after now.
    """

    cost: float
    bound: float
    worker_group: Ints
    share: Floats
    costlier: Floats
    on_s: Floats
    makespan_s: float
    least_end_s: float


def relax(problem: Problem, seconds: float | None = None) -> Relaxation | None:
    """Solve the relaxation, once for a problem; None where it is too large or fails.

    Parameters
    ----------
    problem : Problem
        With at least one task.
    seconds : float, optional
        Most seconds for the linear program.

    Notes
    -----
    With W_k the work of kind k (shortest durations times shards, seconds), y_kg its share
    on group g of n_g workers, O_g the sum of their on-times and M the makespan::

        min  end M + sum_g idle_g O_g + sum_kg busy_g share_kg W_k y_kg
        s.t. sum_g y_kg = 1                                for each k
             sum_k demand_kr W_k y_kg + B_gr <= cap_gr O_g   for each g and resource r
             O_g <= n_g M,  O_g >= on-time of what runs,  M >= longest chain

    where B_gr is what running tasks still take. Valid, since a worker can hold no more of
    a resource than its capacity while it is on, and is on until its last end.
    """
    if "relaxation" not in problem.memory:
        problem.memory["relaxation"] = _solve(problem, seconds)
    found: Relaxation | None = problem.memory["relaxation"]
    return found


def _solve(problem: Problem, seconds: float | None) -> Relaxation | None:
    group, members = worker_groups(problem)
    kinds = np.unique(problem.kind)
    allowed = problem.allowed[:, [m[0] for m in members]]
    pairs = np.argwhere(allowed[kinds])
    groups, resources = len(members), len(problem.resources)
    count = len(pairs)
    if count > MOST_VARIABLES:
        return None
    of_kind, of_group = kinds[pairs[:, 0]], pairs[:, 1]
    first = np.array([m[0] for m in members])
    size = np.array([len(m) for m in members])
    work = np.bincount(problem.kind, problem.piece_seconds, minlength=len(problem.allowed))
    example = np.full(len(problem.allowed), -1)
    example[problem.kind] = np.arange(len(problem.kind))
    demand = problem.demand[example[of_kind]]

    # Variables: y of each pair, then O of each group, then M; hours, to keep numbers near 1.
    hours = work[of_kind] / HOUR_S
    on, makespan = count + np.arange(groups), count + groups
    rates, worker = problem.rates, first[of_group]
    objective = np.concatenate(
        [
            HOUR_S * rates.busy[worker] * problem.share[of_kind, worker] * hours,
            HOUR_S * rates.idle[first],
            [HOUR_S * rates.end],
        ]
    )
    rows: list[Ints] = []
    columns: list[Ints] = []
    values: list[Floats] = []
    for r in range(resources):
        taken = demand[:, r] > 0
        rows.append(of_group[taken] * resources + r)
        columns.append(np.flatnonzero(taken))
        capacity = np.maximum(problem.capacity[worker[taken], r], 1)
        values.append(demand[taken, r] / capacity * hours[taken])
        has = problem.capacity[first, r] > 0
        rows.append(np.flatnonzero(has) * resources + r)
        columns.append(on[has])
        values.append(np.full(int(has.sum()), -1.0))
    base = groups * resources
    rows += [base + np.arange(groups), base + np.arange(groups)]
    columns += [on, np.full(groups, makespan)]
    values += [np.ones(groups), -size.astype(np.float64)]
    limits = np.concatenate([-_running_area_h(problem, group, groups).ravel(), np.zeros(groups)])
    shape = (base + groups, makespan + 1)
    upper = scipy.sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape
    ).tocsr()
    equal = scipy.sparse.coo_matrix(
        (np.ones(count), (pairs[:, 0], np.arange(count))), (len(kinds), makespan + 1)
    ).tocsr()
    on_h = np.maximum(0, problem.last_end - problem.free_from) * problem.on / HOUR_S
    least_on = np.bincount(group, on_h, minlength=groups)
    head, tail = heads_and_tails(problem.release, problem.shortest, problem.pred_ptr, problem.pred)
    least_end = max(float((head + tail).max()), float(problem.last_end.max(initial=0))) / HOUR_S
    bounds = [(0.0, 1.0)] * count + [(low, None) for low in least_on] + [(least_end, None)]
    found = scipy.optimize.linprog(
        objective, upper, limits, equal, np.ones(len(kinds)), bounds, method="highs",
        options={} if seconds is None else {"time_limit": seconds},
    )  # fmt: skip
    if found.status != 0:
        return None
    share = np.zeros((len(problem.allowed), groups))
    share[of_kind, of_group] = found.x[:count]
    costlier = np.full((len(problem.allowed), groups), np.inf)
    reduced = np.maximum(0.0, found.lower.marginals[:count])
    costlier[of_kind, of_group] = reduced / np.maximum(hours, 1e-12)
    low = np.concatenate([np.zeros(count), least_on, [least_end]])
    return Relaxation(
        float(found.fun),
        _certified(objective, upper, limits, equal, low, size, found),
        group,
        share,
        costlier,
        found.x[on] / size * HOUR_S,
        float(found.x[makespan]) * HOUR_S,
        least_end * HOUR_S,
    )


def _certified(
    cost: Floats,
    upper: scipy.sparse.csr_matrix,
    limits: Floats,
    equal: scipy.sparse.csr_matrix,
    low: Floats,
    size: Ints,
    found: scipy.optimize.OptimizeResult,
) -> float:
    """A bound that holds however far the LP solver is from its optimum.

    Notes
    -----
    For any y <= 0 and z the sum ``limits y + sum(z) + min over the box of (cost - A'y - E'z) x``
    is at most the optimum. The shares lie in [0, 1]; on-times and makespan have no upper end, so
    their reduced costs must not be negative: where they are, the prices of the last rows
    (``O_g <= n_g M``) are made smaller, and then those of each group's resources.

    References
    ----------
    Neumaier, Shcherbina (2004), "Safe bounds in linear and mixed-integer linear programming",
    doi:10.1007/s10107-003-0433-3.
    """
    groups = len(size)
    shares = len(cost) - groups - 1
    y = np.minimum(0.0, found.ineqlin.marginals)
    z = found.eqlin.marginals
    of_resource, of_makespan = y[:-groups].reshape(groups, -1), y[-groups:]
    of_makespan *= _within(np.array([size @ of_makespan]), cost[-1:])
    room = cost[shares:-1] - of_makespan
    of_resource *= _within(of_resource.sum(axis=1), room)[:, None]
    reduced = cost - upper.T @ y - equal.T @ z
    reduced[shares:] = np.maximum(0.0, reduced[shares:])
    box = np.minimum(0.0, reduced[:shares]).sum() + reduced[shares:] @ low[shares:]
    # Where large amounts cancel out, their last digits are given away as well.
    size_of_all = np.abs(limits) @ np.abs(y) + np.abs(z).sum() + np.abs(box)
    return float(limits @ y + z.sum() + box) - DIGITS * float(size_of_all)


def _within(sums: Floats, room: Floats) -> Floats:
    """Factors in [0, 1] that keep sums, none of them positive, from falling below ``-room``."""
    beyond = -sums > room
    factor = ALMOST_ONE * room / np.where(beyond, -sums, 1.0)
    result: Floats = np.where(beyond, factor, 1.0)
    return result


def worker_groups(problem: Problem) -> tuple[Ints, list[Ints]]:
    """Group of each worker, and the workers of each group; those of one group are alike."""
    if "worker groups" not in problem.memory:
        problem.memory["worker groups"] = _worker_groups(problem)
    found: tuple[Ints, list[Ints]] = problem.memory["worker groups"]
    return found


def _worker_groups(problem: Problem) -> tuple[Ints, list[Ints]]:
    columns = np.column_stack(
        [problem.capacity, problem.rates.idle, problem.rates.busy, problem.worker_class]
    )
    # Which kinds of thousands may run on a worker is compared bit by bit, and only once for equals.
    bits = np.packbits(problem.allowed.T, axis=1)
    first: dict[bytes, int] = {}
    like = np.array(
        [
            first.setdefault(column.tobytes() + own.tobytes(), w)
            for w, (column, own) in enumerate(zip(columns, bits, strict=True))
        ]
    )
    some = np.array(list(first.values()))
    distinct = np.column_stack([columns[some], problem.allowed.T[some]])
    place = np.zeros(len(columns), np.int64)
    place[some] = np.unique(distinct, axis=0, return_inverse=True)[1].reshape(-1)
    group = place[like]
    return group, [np.flatnonzero(group == g) for g in range(int(group.max()) + 1)]


def _running_area_h(problem: Problem, group: Ints, groups: int) -> Floats:
    """What running tasks take of each resource of each group, as hours of one worker's capacity.

    Left out where it could be counted twice: before a worker is free, and where what runs
    exceeds the capacity (logs do that), so that tasks may run beside it.
    """
    in_use = np.zeros_like(problem.capacity)
    np.add.at(in_use, problem.busy_worker, problem.busy_demand)
    counts = (in_use <= problem.capacity) & (problem.free_from == 0)[:, None]
    area = np.zeros((groups, len(problem.resources)))
    for w, end, demand in zip(
        problem.busy_worker, problem.busy_end, problem.busy_demand, strict=True
    ):
        part = demand / np.maximum(problem.capacity[w], 1) * end / HOUR_S
        area[group[w]] += np.where(counts[w], part, 0.0)
    return area
