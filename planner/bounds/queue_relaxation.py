"""What waiting, slowdown, lateness and misses cost at least where workers are shared.

``cost_bounds`` takes all workers for one machine. Here groups of alike workers keep what they have,
hour by hour: tasks that only some workers can run queue for these.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product

import numpy as np

from plancast.planner.arrays.graph import heads_and_tails
from plancast.planner.arrays.problem import Bools, Floats, Ints, Problem
from plancast.planner.arrays.rates import prices_deadlines
from plancast.planner.arrays.schedule import FAR
from plancast.planner.bounds.relaxation import worker_groups
from plancast.planner.bounds.start_prices import best_starts
from plancast.planner.model.domain import MIN_STRETCH_S

STRETCHES = 48
"""Of time, the first ones short: so much of the queue is in the beginning."""
FEW_STRETCHES = 12
ROUNDS, MOST_STEPS = 200, 40_000_000
"""Most changes of prices; most starts that are tried in all of them together."""
FEWEST_ROUNDS = 40
PATIENCE = 7
"""After so many rounds without a better bound less is hoped for."""
ENDS, FACTORS = 8, (1.0, 0.25)
"""Until when prices fall to begin with, each half of the last, and from which heights."""
GIVEN_AWAY, DIGITS = 1e-10, 3e-14
"""Of the amounts that a bound is the sum of; of each sum of prices that one is a difference of."""


def queue_cost(problem: Problem, seconds: float | None = None) -> float:
    """A lower bound on priced waits, slowdown, lateness and misses together.

    Parameters
    ----------
    problem : Problem
        With at least one task.
    seconds : float, optional
        Most seconds for it.

    Returns
    -------
    float
        Minus infinity where nothing of it has a price, or the problem is too large.

    Notes
    -----
    The Lagrangian relaxation of the program with a variable for each task, group and start: for any
    prices p >= 0 of resource r of group g at time t, constant in stretches of time, ::

        sum_i min_gs (cost of i from s on + q_ir integral_s^(s + d_ig) p_gr) - sum_gr p_gr c_gr

    is a lower bound, with c_gr what the workers of g have of r in each stretch and q_ir what i
    takes. A gang that no group can hold at once is spread over several, and no piece ends before
    the time that the slowest of the groups it needs would take. Prices are raised where more is
    taken than there is, by a step of Polyak's length towards a cost that is hoped for, in a
    direction that remembers the last ones.

    References
    ----------
    Polyak (1969), "Minimization of unsmooth functionals", doi:10.1016/0041-5553(69)90061-5.
    van den Akker, Hurkens, Savelsbergh (2000), "Time-indexed formulations for machine scheduling
    problems: column generation", doi:10.1287/ijoc.12.2.111.11896.
    """
    rates = problem.rates
    if not (rates.wait or rates.slowdown or prices_deadlines(rates)):
        return -np.inf
    until = np.inf if seconds is None else time.perf_counter() + seconds
    _, members = worker_groups(problem)
    first = [m[0] for m in members]
    pairs = len(problem.tasks) * len(members)
    stretches = min(STRETCHES, MOST_STEPS // (2 * pairs * FEWEST_ROUNDS))
    if stretches < FEW_STRETCHES:
        return -np.inf
    rounds = min(ROUNDS, MOST_STEPS // (2 * pairs * stretches))
    most = _most_pieces(problem, members)
    duration = _durations(problem, first, most)
    head, _ = heads_and_tails(problem.release, problem.shortest, problem.pred_ptr, problem.pred)
    slope, constant = _of_starts(problem, duration)
    done, on = _flow(problem, duration, most, members)
    until_s = 1.0 + float(done.max() + head.max() + duration.max())
    until_s += _shut_s(problem, until_s)
    knots = until_s * np.linspace(0.0, 1.0, stretches + 1) ** 2
    room = _room(problem, knots)
    due = np.where(problem.deadline < FAR // 2, problem.deadline, np.inf).astype(float)
    takes = problem.demand.astype(float)
    late, miss = rates.late * problem.weight, rates.miss * problem.weight
    taken = np.zeros_like(room)

    def bound_at(price: Floats) -> float:
        total, size, summed = best_starts(
            duration, head.astype(float), due, slope, constant, late, miss, takes, problem.shards,
            most, knots, price, taken,
        )  # fmt: skip
        paid = float((price * room).sum())
        lost = GIVEN_AWAY * (size + paid) + DIGITS * len(head) * summed
        return float(total - paid - lost)

    price = np.zeros_like(room)
    alone = best = bound_at(price)
    kept = price, taken.copy()
    for price in _falling(problem, slope.max(axis=1) + late, duration, on, done, knots):
        if (bound := bound_at(price)) > best:
            best, kept = bound, (price, taken.copy())
    price, taken[:] = kept
    scale = 1.0 / np.maximum(room.max(axis=2, keepdims=True), 1.0)
    direction = np.zeros_like(room)
    hope, stale = max(0.5 * (best - alone), 0.1 * abs(best)), 0
    for _ in range(rounds):
        direction = 0.7 * direction + 0.3 * (taken - room) * scale
        direction[(price <= 0) & (direction < 0)] = 0.0
        square = float((direction**2).sum())
        if square == 0.0 or hope < 1e-4 * abs(best) or time.perf_counter() > until:
            break
        price = np.maximum(0.0, price + hope / square * direction * scale)
        bound = bound_at(price)
        if bound > best:
            hope *= 1.5 if bound > best + hope / 4 else 1.0
            best, kept, stale = bound, (price, taken.copy()), 0
            continue
        stale += 1
        if stale == PATIENCE:
            hope, stale = hope / 2, 0
            price, taken[:] = kept
            direction[:] = 0.0
    return best


def _most_pieces(problem: Problem, members: list[Ints]) -> Ints:
    """Pieces of each task that each group holds at once. Shape (tasks, groups)."""
    fit = np.repeat(problem.shards[:, None], len(members), axis=1)
    for r in range(len(problem.resources)):
        demand = problem.demand[:, r, None]
        room = problem.capacity[[m[0] for m in members], r] // np.maximum(demand, 1)
        fit = np.where(demand > 0, np.minimum(fit, room), fit)
    return fit * np.array([len(m) for m in members])


def _durations(problem: Problem, first: list[int], most: Ints) -> Floats:
    """Duration of each task on each group, 0 where it may not run. Shape (tasks, groups).

    No piece ends before its gang, and that lasts as the slowest of as many groups as it needs.
    """
    open_to = problem.allowed[problem.kind][:, first]
    own = np.where(open_to, problem.duration[:, problem.worker_class[first]], 0).astype(float)
    lasting = np.where(own > 0, own, np.inf)
    by_speed = np.argsort(lasting, axis=1, kind="stable")
    held = np.cumsum(np.take_along_axis(np.where(own > 0, most, 0), by_speed, 1), axis=1)
    enough = np.minimum((held < problem.shards[:, None]).sum(axis=1), len(first) - 1)
    needed = np.take_along_axis(lasting, by_speed, 1)[np.arange(len(own)), enough]
    result: Floats = np.where(
        own > 0, np.maximum(own, np.where(np.isfinite(needed), needed, 0)[:, None]), 0
    )
    # For one group alone it would be so anyway: kernels would be compiled for both.
    return np.ascontiguousarray(result)


def _flow(
    problem: Problem, duration: Floats, most: Ints, members: list[Ints]
) -> tuple[Floats, Bools]:
    """When each group is done if each task goes where that is first, as if work flowed.

    Returns
    -------
    done : float64 (groups,)
    on : bool (tasks, groups)
        Where each task goes: to all groups, if none can hold all its pieces.
    """
    size = np.array([len(m) for m in members])
    has = problem.capacity[[m[0] for m in members]] * size[:, None]
    allowed: Bools = duration > 0
    splits: Bools = np.any(allowed & (problem.shards[:, None] > most), axis=1)
    done, on = np.zeros(len(members)), np.zeros_like(allowed)
    for task in range(len(problem.tasks)):
        open_to = np.flatnonzero(allowed[task])
        room = has[open_to].sum(axis=0, keepdims=True) if splits[task] else has[open_to]
        share = (problem.demand[task] / np.maximum(room, 1)).max(axis=1)
        after = done[open_to] + problem.shards[task] * share * duration[task, open_to]
        chosen = open_to if splits[task] else open_to[[np.argmin(after)]]
        done[chosen] = after.max() if splits[task] else after.min()
        on[task, chosen] = True
    return done, on


def _shut_s(problem: Problem, until_s: float) -> float:
    """For how long some worker is shut until a time, seconds."""
    inside = problem.shut_start < until_s
    closed = np.minimum(problem.shut_end[inside], until_s) - problem.shut_start[inside]
    by_worker = np.bincount(problem.shut_worker[inside], closed, minlength=len(problem.workers))
    not_yet = problem.free_from[problem.free_from < FAR // 2].max(initial=0)
    return float(by_worker.max() + not_yet)


def _falling(
    problem: Problem, slope: Floats, duration: Floats, on: Bools, done: Floats, knots: Floats
) -> Iterator[Floats]:
    """Prices to begin with, that fall to 0 when a group is done or sooner, some high, some low."""
    middle = (knots[1:] + knots[:-1]) / 2
    pieces = problem.demand * problem.shards[:, None]
    area = np.where(on, duration, 0.0).T @ pieces
    # So much that the price of a task is what it costs to wait until then.
    height = (on.T @ slope)[:, None] / np.maximum(area, 1.0) * (area > 0)
    for share in 0.5 ** np.arange(ENDS):
        fall = np.maximum(0.0, share * done[:, None] - middle)
        for r, factor in product(range(area.shape[1]), FACTORS):
            price = np.zeros((*area.shape, len(middle)))
            price[:, r] = factor * height[:, r, None] * fall
            yield price


def _of_starts(problem: Problem, duration: Floats) -> tuple[Floats, Floats]:
    """Slope and constant of waits and slowdown by start, for each task and group."""
    rates, weight = problem.rates, problem.weight[:, None]
    lasts = np.maximum(duration, MIN_STRETCH_S)
    longest = np.where(problem.shards == 1, 0, problem.duration.max(axis=1))[:, None]
    least = np.minimum(duration, MIN_STRETCH_S) / MIN_STRETCH_S
    # A gang may take longer than this piece: its wait is then divided by more.
    per_second = weight * (rates.wait + rates.slowdown / np.maximum(lasts, longest))
    constant = weight * rates.slowdown * least - per_second * problem.raw_release[:, None]
    return per_second, constant


def _room(problem: Problem, knots: Floats) -> Floats:
    """What the workers of each group have of each resource in each stretch, units x seconds."""
    group, members = worker_groups(problem)
    times, free, count = problem.profile()
    room = np.zeros((len(members), len(problem.resources), len(knots) - 1))
    for w, segments in enumerate(count):
        at = np.append(times[w, :segments], knots[-1] + times[w, segments - 1]).astype(float)
        has = np.maximum(free[w, :segments], 0).astype(float) * np.diff(at)[:, None]
        until = np.vstack([np.zeros(len(problem.resources)), np.cumsum(has, axis=0)])
        for r in range(len(problem.resources)):
            room[group[w], r] += np.diff(np.interp(knots, at, until[:, r]))
    return room
