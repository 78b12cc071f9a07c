"""What a plan costs, term by term, as charges on variables."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from plancast.planner.model.domain import HOUR_S, MIN_STRETCH_S
from plancast.planner.solvers.cpsat.constraints import add_area
from plancast.planner.solvers.cpsat.facts import LARGEST_SUM, Facts, Piece, refuse_beyond
from plancast.planner.solvers.cpsat.hourly_charges import charge_hours, seconds_on
from plancast.planner.solvers.cpsat.variables import Variables
from plancast.planner.solvers.cpsat.worker_classes import idles_at_a_price

LARGEST_UNIT = 1_000_000
"""Most parts into which a second of load or mean wait is divided to have it exact."""


def add_objective(v: Variables) -> None:
    """Charge every term of the cost that has a price."""
    problem = v.problem
    rates = problem.rates
    v.constant += rates.fixed
    _charge_last_end(v, rates.end)
    for i in range(len(problem.tasks)):
        weight = float(problem.weight[i])
        _charge_lateness(v, i, weight * rates.late, weight * rates.miss)
        _charge_wait(v, i, weight * rates.wait)
        _charge_slowdown(v, i, weight * rates.slowdown)
        for piece in v.pieces[i]:
            _charge_piece(v, i, piece)
    for w in v.members:
        _charge_use(v, w)
    if problem.hours is not None:
        charge_hours(v, problem.hours)
    if rates.owner:
        _charge_worst_owner(v, rates.owner)
    if rates.load:
        _charge_most_loaded(v, rates.load)


def _charge_last_end(v: Variables, price: float) -> None:
    if not price:
        return
    least = int(v.problem.last_end.max())

    def last_end(f: Facts) -> int:
        return max(least, *f.end)

    last = v.int_var(least, v.horizon, last_end)
    for end in v.end:
        v.model.add(last >= end)
    v.last = last
    v.charge(price, last, v.horizon, last_end)


def _charge_wait(v: Variables, i: int, price: float) -> None:
    v.constant -= price * v.raw_release[i]
    v.charge(price, v.start[i], v.horizon, lambda f: f.start[i])


def _charge_lateness(v: Variables, i: int, late_price: float, miss_price: float) -> None:
    deadline = int(v.problem.deadline[i])
    if deadline >= v.horizon:
        return
    if late_price:

        def seconds_late(f: Facts) -> int:
            return max(0, f.end[i] - deadline)

        late = v.int_var(0, v.horizon - deadline, seconds_late)
        v.model.add(late >= v.end[i] - deadline)
        v.charge(late_price, late, v.horizon - deadline, seconds_late)
    if miss_price:
        missed = v.bool_var(lambda f: f.end[i] > deadline)
        v.model.add(v.end[i] <= deadline).only_enforce_if(~missed)
        v.charge(miss_price, missed, 1, lambda f: f.end[i] > deadline)


def _charge_slowdown(v: Variables, i: int, price: float) -> None:
    if not price:
        return
    divisors = sorted({max(p.duration, MIN_STRETCH_S) for p in v.pieces[i]})
    if v.choices is not None and v.choices.fastest[i]:
        divisors = [max(int(v.choices.fastest[i]), MIN_STRETCH_S)]
    if len(divisors) == 1:
        v.constant -= price / divisors[0] * v.raw_release[i]
        v.charge(price / divisors[0], v.end[i], v.horizon, lambda f: f.end[i])
        return
    for divisor in divisors:
        _charge_slowdown_over(v, i, divisor, price / divisor)


def _charge_slowdown_over(v: Variables, i: int, divisor: int, price: float) -> None:
    """Charge the time from release to end if that is what the stretch divides by."""
    release = v.raw_release[i]

    def since_release(f: Facts) -> int:
        mine = max(f.end[i] - f.start[i], MIN_STRETCH_S) == divisor
        return (f.end[i] - release) * mine

    largest = v.horizon - release
    span = v.int_var(0, largest, since_release)
    for p in v.pieces[i]:
        if max(p.duration, MIN_STRETCH_S) == divisor:
            v.model.add(span >= v.end[i] - release).only_enforce_if(p.present)
    v.charge(price, span, largest, since_release)


def _charge_piece(v: Variables, i: int, p: Piece) -> None:
    problem, rates = v.problem, v.problem.rates
    share = float(v.ways.share[v.ways.kind[p.row], p.worker])
    survival = float(problem.health[p.worker]) ** (p.duration / HOUR_S)
    price = float(rates.busy[p.worker]) * share * p.duration + rates.fail * (1.0 - survival)
    v.charge(price, p.count, p.most, lambda f: f.on(i, p))


def _charge_use(v: Variables, w: int) -> None:
    problem, members = v.problem, v.members[w]
    idle_price, boot_price = float(problem.rates.idle[w]), float(problem.rates.boot[w])
    free_from, running_end = int(problem.free_from[w]), int(problem.last_end[w])
    if idles_at_a_price(problem, w):
        on = _time_on(v, w, free_from, running_end)
        v.on[w] = on
        v.charge(idle_price, on, len(members) * v.horizon, seconds_on(v, w))
        add_area(v, w, on)
        if v.last is not None and free_from == 0:
            v.model.add(on <= len(members) * v.last)
    elif v.last is not None:
        add_area(v, w, len(members) * v.last)
    if boot_price and not problem.on[w]:

        def used(f: Facts) -> int:
            return sum(f.last_end[m] > 0 for m in members)

        booted = v.int_var(0, len(members), used)
        for _, p in v.on_worker[w]:
            v.model.add(booted >= p.present)
        v.charge(boot_price, booted, len(members), used)


def _time_on(v: Variables, w: int, free_from: int, running_end: int) -> Any:
    """Seconds that the workers of a class are on, summed."""
    workers = len(v.members[w])
    least = workers * max(0, running_end - free_from)
    on = v.int_var(least, max(least, workers * v.horizon), seconds_on(v, w))
    # Those that are on for what runs already are on for that long at least.
    others = (workers - 1) * max(0, running_end - free_from)
    for i, p in v.on_worker[w]:
        v.model.add(on >= v.end[i] - free_from + others).only_enforce_if(p.present)
    return on


def _charge_worst_owner(v: Variables, price: float) -> None:
    problem = v.problem
    owners = sorted({int(o) for o in problem.owner})
    sizes = [int(problem.owner_tasks[o]) for o in owners]
    unit = math.lcm(*sizes)
    if unit > LARGEST_UNIT:
        unit = LARGEST_UNIT
        v.unit_error += price / unit
    # Owners of running tasks alone, and never below 0.
    waits = problem.owner_wait_h * HOUR_S / problem.owner_tasks
    others = [float(waits[o]) for o in range(len(waits)) if o not in owners]
    least = max([0.0, *others])

    def worst(f: Facts) -> float:
        total = {o: float(problem.owner_wait_h[o]) * HOUR_S for o in owners}
        for i, o in enumerate(problem.owner):
            total[int(o)] += f.start[i] - v.raw_release[i]
        means = [w / n for w, n in zip(total.values(), sizes, strict=True)]
        return unit * max([least, *means])

    most = v.horizon - min(0, *v.raw_release) + max(0, *(int(x) + 1 for x in waits))
    together = 4 * most * max(sizes)
    if unit * together > LARGEST_SUM:
        refuse_beyond(together)
        unit = LARGEST_SUM // together
        v.unit_error += price / unit
    mean = v.int_var(math.floor(unit * least + 1e-6), unit * most, worst)
    for o, size in zip(owners, sizes, strict=True):
        mine = [i for i, owner in enumerate(problem.owner) if owner == o]
        waited = sum(v.start[i] - v.raw_release[i] for i in mine)
        ran = round(float(problem.owner_wait_h[o]) * HOUR_S)
        v.model.add(size * mean >= unit * (waited + ran))
    v.charge(price / unit, mean, unit * most, worst)


def _charge_most_loaded(v: Variables, price: float) -> None:
    problem = v.problem
    shares = {
        (p.row, p.worker): Fraction(
            float(v.ways.share[v.ways.kind[p.row], p.worker])
        ).limit_denominator(LARGEST_UNIT)
        for pieces in v.pieces
        for p in pieces
    }
    longest = v.ways.duration.max(axis=1) * v.ways.shards
    most_s = float(problem.load_h.max()) * HOUR_S + float(longest.sum())
    ran_s = [Fraction(float(h) * HOUR_S).limit_denominator(LARGEST_UNIT) for h in problem.load_h]
    unit = 1
    for exact_number in (*shares.values(), *ran_s):
        if unit <= LARGEST_UNIT:
            unit = math.lcm(unit, exact_number.denominator)
    # The load of a class and what its pieces add to it stand in one sum.
    together = 3 * len(problem.capacity) * (math.ceil(most_s) + 1)
    exact = unit <= LARGEST_UNIT and unit * together <= LARGEST_SUM
    if not exact:
        unit = max(1, int(1000 * LARGEST_UNIT / most_s))
    refuse_beyond(unit * together)
    ran = [unit * float(s) for s in ran_s]
    largest = math.ceil(unit * most_s) + 1

    def most_loaded(f: Facts) -> float:
        return unit * max(f.load_s)

    load = v.int_var(math.floor(max(ran) + 1e-6), largest, most_loaded)
    for w, members in v.members.items():
        loads = [
            p.count * math.floor(unit * shares[p.row, w] * p.duration) for _, p in v.on_worker[w]
        ]
        if loads:
            before = sum(math.floor(ran[m] + 1e-6) for m in members)
            v.model.add(len(members) * load >= sum(loads) + before)
    if not exact:
        v.unit_error += price / unit * (1 + int(v.ways.shards.sum()))
    v.charge(price / unit, load, largest, most_loaded)
