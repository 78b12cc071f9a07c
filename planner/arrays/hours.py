"""What energy costs above its least price of the day: rates that change with the hour, for kernels.

``rates.Rates`` charges every watt-second its least price, so that whoever knows of no hours has a
bound on the cost. What is here is added to that; it is never below 0. Times are seconds after now,
int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import brief, inner, kernel
from plancast.planner.arrays.rates import tariffs_of
from plancast.planner.model.domain import (
    DAY_S,
    WATT_SECONDS_PER_KWH,
    BadRequest,
    Hourly,
    Prices,
    Worker,
)
from plancast.planner.model.messages import PlanRequest


class Hours(NamedTuple):
    """What a watt-second costs above the least of its day.

    Kernels are handed None where a problem is plain, what asks for hours is then not compiled, and
    ``NO_HOURS`` where one is not but no hour costs more than another.

    Parameters
    ----------
    group : int64 (workers,)
        Row of each worker in the following four: those that pay alike share one.
    first : int64 (groups,)
        Second of the tariff's day that it is now.
    at : int64 (groups, steps + 1)
        Second of the day at which each step begins; a day's length after the last one.
    extra : float64 (groups, steps + 1)
        Price of a watt-second in the step, above the least; 0 after the last one.
    before : float64 (groups, steps + 1)
        What a watt that is drawn from midnight until the step costs above the least.
    busy_w, idle_w : float64 (workers,)
        As of ``domain.Worker``.
    """

    group: np.ndarray
    first: np.ndarray
    at: np.ndarray
    extra: np.ndarray
    before: np.ndarray
    busy_w: np.ndarray
    idle_w: np.ndarray


NO_HOURS = Hours(
    group=np.zeros(0, np.int64), first=np.zeros(0, np.int64), at=np.zeros((0, 1), np.int64),
    extra=np.zeros((0, 1)), before=np.zeros((0, 1)), busy_w=np.zeros(0), idle_w=np.zeros(0),
)  # fmt: skip
"""Of no worker."""


def hours_of(prices: Prices, workers: Sequence[Worker], now_s: int) -> Hours | None:
    """What some workers pay above their least price; None where the hour makes no difference."""
    rates = (rate for w in workers for rate in (w.price_per_kwh, w.carbon_kg_per_kwh))
    if not any(isinstance(rate, Hourly) for rate in rates):
        return None
    tariffs = tariffs_of(prices, workers)
    if not any(
        len(tariff.values) > 1 and (worker.idle_w or worker.busy_w)
        for tariff, worker in zip(tariffs, workers, strict=True)
    ):
        return None
    groups = list(dict.fromkeys(tariffs))
    steps = max(len(tariff.values) for tariff in groups)
    at = np.full((len(groups), steps + 1), DAY_S, np.int64)
    extra, before = np.zeros((len(groups), steps + 1)), np.zeros((len(groups), steps + 1))
    for g, tariff in enumerate(groups):
        count = len(tariff.values)
        at[g, :count] = tariff.at_s
        extra[g, :count] = np.array(tariff.values) - min(tariff.values)
        extra[g] /= WATT_SECONDS_PER_KWH
        before[g, 1:] = np.cumsum(extra[g, :-1] * np.diff(at[g]))
    return Hours(
        group=np.array([groups.index(tariff) for tariff in tariffs], np.int64),
        first=np.array([(now_s + t.utc_offset_s) % DAY_S for t in groups], np.int64),
        at=at,
        extra=extra,
        before=before,
        busy_w=np.array([w.busy_w for w in workers], np.float64),
        idle_w=np.array([w.idle_w for w in workers], np.float64),
    )


def has_hours(request: PlanRequest) -> bool:
    """Whether the hour makes a difference to what a plan of the request costs."""
    snapshot = request.snapshot
    return hours_of(request.policy.prices, snapshot.workers, snapshot.now_s) is not None


def refuse_hours(request: PlanRequest, who: str) -> None:
    """Refuse energy by the hour in the name of someone who cannot price it (``BadRequest``)."""
    if has_hours(request):
        raise BadRequest(
            f"energy costs more at some hours than at others, which {who} cannot price; give "
            "numbers for price_per_kwh and carbon_kg_per_kwh, or no price to what they weigh"
        )


@inner
def step_at(hours, g, moment):
    """Midnight before a moment, seconds after now, and the step of the day that it lies in."""
    second = moment + hours.first[g]
    midnight = second - second % hours.at[g, hours.at.shape[1] - 1]
    low, high = 0, hours.at.shape[1] - 2
    while low < high:
        middle = (low + high + 1) >> 1
        if hours.at[g, middle] <= second - midnight:
            low = middle
        else:
            high = middle - 1
    return midnight - hours.first[g], low


@kernel
def next_change(hours, g, moment):
    """The first moment after another one at which a group's price may change."""
    midnight, step = step_at(hours, g, moment)
    return midnight + hours.at[g, step + 1]


@inner
def extra_until(hours, g, moment):
    """What a watt that is drawn up to a moment costs a group extra, counted from some midnight."""
    midnight, step = step_at(hours, g, moment)
    last = hours.at.shape[1] - 1
    days = (midnight + hours.first[g]) // hours.at[g, last]
    since = moment - midnight - hours.at[g, step]
    return days * hours.before[g, last] + hours.before[g, step] + hours.extra[g, step] * since


@kernel
def extra_cost(hours, w, watts, start, end):
    """What so many watts over [start, end) cost extra on worker w."""
    g = hours.group[w]
    return watts * (extra_until(hours, g, end) - extra_until(hours, g, start))


@brief
def extra_of_pieces(hours, facts, start, end, worker):
    """What the pieces of a schedule cost above the least price, their workers' idle power aside.

    Parameters
    ----------
    hours : Hours
    facts : cost.Priced
    start, end : int64 (tasks,)
    worker : int64 (pieces,)
    """
    cost = 0.0
    for i in range(start.shape[0]):
        for p in range(facts.shard_ptr[i], facts.shard_ptr[i + 1]):
            w = worker[p]
            watts = hours.busy_w[w] * facts.share[facts.kind[i], w]
            cost += extra_cost(hours, w, watts, start[i], end[i])
    return cost


@brief
def extra_of_workers(hours, facts, end, worker):
    """What the workers of a schedule draw idle costs above the least price; see above."""
    last_end = facts.last_end.copy()
    cost = 0.0
    for i in range(end.shape[0]):
        for p in range(facts.shard_ptr[i], facts.shard_ptr[i + 1]):
            last_end[worker[p]] = max(last_end[worker[p]], end[i])
    for w in range(last_end.shape[0]):
        if last_end[w] > facts.free_from[w]:
            cost += extra_cost(hours, w, hours.idle_w[w], facts.free_from[w], last_end[w])
    return cost
