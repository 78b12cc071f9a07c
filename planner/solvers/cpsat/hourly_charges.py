"""What energy costs above its least price, by the hour."""

from __future__ import annotations

from typing import Any

from plancast.planner.arrays.hours import Hours
from plancast.planner.model.domain import DAY_S
from plancast.planner.solvers.cpsat.facts import Facts, Piece, Value, refuse_beyond
from plancast.planner.solvers.cpsat.tariffs import Steps
from plancast.planner.solvers.cpsat.variables import Variables


def _part_of(value: Value, first: int, end: int) -> Value:
    """How much of a stretch of time has passed at a moment."""
    return lambda f: min(max(int(value(f)) - first, 0), end - first)


def seconds_on(v: Variables, w: int) -> Value:
    """How long the workers of a class are on, summed, as a schedule has it."""
    members, free_from = v.members[w], int(v.problem.free_from[w])
    return lambda f: sum(max(0, f.last_end[m] - free_from) for m in members)


def charge_hours(v: Variables, hours: Hours) -> None:
    """What is drawn at other hours than the cheapest costs more.

    Of a class of several workers idle power is left at its least price: how long each of them
    is on is not known.
    """
    for i, pieces in enumerate(v.pieces):
        alike: dict[tuple[int, float], list[Piece]] = {}
        for p in pieces:
            share = float(v.ways.share[v.ways.kind[p.row], p.worker])
            watts = float(hours.busy_w[p.worker]) * share
            alike.setdefault((int(hours.group[p.worker]), watts), []).append(p)
        for (group, watts), here in alike.items():
            steps = v.steps[group]
            if watts and steps is not None:
                _charge_extra(v, i, here, _between(v, i, group, steps), steps, watts)
    for w, members in v.members.items():
        steps, watts = v.steps[int(hours.group[w])], float(hours.idle_w[w])
        if steps is not None and watts and len(members) == 1:
            _charge_idle_extra(v, w, steps, watts)


def _charge_idle_extra(v: Variables, w: int, steps: Steps, watts: float) -> None:
    free_from, seconds = int(v.problem.free_from[w]), seconds_on(v, w)

    def until(f: Facts) -> int:
        return free_from + int(seconds(f))

    least = free_from + max(0, int(v.problem.last_end[w]) - free_from)
    high = max(least, free_from + v.horizon)
    extra = _summed_up(v, v.on[w] + free_from, (least, high), free_from, steps, until)
    largest = steps.over(free_from, high)
    v.charge(watts * steps.unit, extra, largest, lambda f: steps.over(free_from, until(f)))
    v.unit_error += watts * steps.error * v.horizon


def _charge_extra(
    v: Variables, i: int, here: list[Piece], since: Any, steps: Steps, watts: float
) -> None:
    """Charge pieces of a task that draw as much and pay alike; `since` is from start to end."""
    together = max(p.duration for p in here) * steps.most
    pieces = int(v.ways.shards[[p.row for p in here]].max())
    v.unit_error += watts * steps.error * max(p.duration for p in here) * pieces
    if pieces > 1:
        for p in here:
            _charge_gang_extra(v, i, p, since, steps, watts)
        return

    def units(f: Facts) -> int:
        return any(f.on(i, p) for p in here) * steps.over(f.start[i], f.end[i])

    extra = v.int_var(0, together, units)
    for p in here:
        v.model.add(extra >= since).only_enforce_if(p.present)
    v.charge(watts * steps.unit, extra, together, units)


def _charge_gang_extra(
    v: Variables, i: int, p: Piece, since: Any, steps: Steps, watts: float
) -> None:
    together = p.duration * steps.most
    refuse_beyond(4 * p.most * together)

    def each(f: Facts) -> int:
        return bool(f.on(i, p)) * steps.over(f.start[i], f.end[i])

    def all_pieces(f: Facts) -> int:
        return f.on(i, p) * steps.over(f.start[i], f.end[i])

    drawn = v.int_var(0, together, each)
    product = v.int_var(0, p.most * together, all_pieces)
    v.model.add(drawn == since).only_enforce_if(p.present)
    v.model.add(drawn == 0).only_enforce_if(~p.present)
    v.model.add_multiplication_equality(product, [p.count, drawn])
    v.charge(watts * steps.unit, product, p.most * together, all_pieces)


def _between(v: Variables, i: int, group: int, steps: Steps) -> Any:
    """Units from the start to the end of a task."""
    if (i, group) not in v.summed:
        low, high = v.release[i], v.horizon
        start = _summed_up(v, v.start[i], (low, high), 0, steps, lambda f: f.start[i])
        end = _summed_up(v, v.end[i], (low + 1, high), 0, steps, lambda f: f.end[i])
        v.summed[i, group] = end - start
    return v.summed[i, group]


def _summed_up(
    v: Variables, moment: Any, within: tuple[int, int], since: int, steps: Steps, value: Value
) -> Any:
    """Units from `since` until a moment, whose `value` lies within two others.

    As a sum over the steps that are filled one after the other, whose linear relaxation is
    exact: with a literal for each step that enforces its line, proofs took 80 times as long.
    """
    low, high = within
    refuse_beyond(4 * steps.most * (high - since + DAY_S))
    pieces = steps.pieces(low, high)
    ends = [*(first for first, _, _ in pieces[1:]), high]
    filled = [
        v.int_var(0, end - first, _part_of(value, first, end))
        for (first, _, _), end in zip(pieces, ends, strict=True)
    ]
    for k, end in enumerate(ends[:-1]):
        is_full = v.bool_var(_part_of(value, end - 1, end))
        v.model.add(filled[k] >= (end - pieces[k][0]) * is_full)
        v.model.add(filled[k + 1] <= (ends[k + 1] - end) * is_full)
    v.model.add(moment == low + sum(filled))
    total = steps.over(since, low)
    return total + sum(units * y for (_, _, units), y in zip(pieces, filled, strict=True))
