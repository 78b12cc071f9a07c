"""Prices as coefficients: what a second, a piece, a worker or a late task costs.

The terms of the cost (``domain.TERMS``) are sums of few shapes. They are folded into the
coefficients of these shapes here, once for a request; kernels, models and bounds read those by
name and know no term. To add a term is to add it to ``domain`` and ``evaluate``, and its part
of a coefficient here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import (
    DAY_S,
    HOUR_S,
    TERMS,
    WATT_SECONDS_PER_KWH,
    Hourly,
    Policy,
    Prices,
    Worker,
)

Floats = NDArray[np.float64]

ALL_TERMS: frozenset[str] = frozenset(TERMS)
ALL_BUT_MOVES: frozenset[str] = ALL_TERMS - {"moves"}
"""The terms that solvers price exactly which do not know the plan in force."""
HOURLY: frozenset[str] = frozenset({"carbon_kg", "energy_cost"})
"""The terms of which a later start may cost less, where their rates change with the hour."""
END_ALONE: frozenset[str] = frozenset({"makespan_h"})
"""The term of solvers for which ``prices_end_alone`` must hold."""


class Rates(NamedTuple):
    """The coefficients of a schedule's cost; kernels take it as it is.

    Parameters
    ----------
    end : float
        Per second of the last end of all.
    late, wait : float
        Per second after the deadline, and between release and start, and unit of weight.
    miss : float
        Per late task and unit of weight.
    slowdown : float
        Per unit of bounded slowdown and unit of weight.
    owner : float
        Per second of the longest mean wait of an owner.
    load : float
        Per second of full use of the most loaded worker.
    fail : float
        Per expected failure of a piece.
    move : float
        Per task that is moved against the plan in force.
    busy : float64 (workers,)
        Per second of a piece that takes all of the worker; a part of it costs its share.
    idle : float64 (workers,)
        Per second from now (or from when the worker is free) until its last end, if it is used.
    boot : float64 (workers,)
        Once, if it is used and nothing runs there now.
    fixed : float
        What the running tasks cost whatever the schedule, in all that is a sum over tasks.

    Notes
    -----
    Where a kilowatt-hour costs more at some hours than at others, `busy` and `idle` are those of
    the hour at which it costs least, and ``hours.Hours`` has what is added to them; `boot` is of
    the hour at which the worker would be booted.

    With s, e, r, D, w of task i; h the pieces' hours; L_w the last end on a worker, B_w its
    load, W_o the waits of an owner of n_o tasks, and M the last end of all, in seconds::

        cost = fixed + end M + sum w_i (wait (s - r) + late max(0, e - D) + miss [e > D]
                                        + slowdown (e - r) / max(e - s, 10))
             + sum over pieces (busy_w share (e - s) + fail (1 - health_w ** h))
             + sum over used workers (idle_w max(0, L_w - free_from_w) + boot_w)
             + owner max W_o / n_o + load max B_w + move x moved tasks
    """

    end: float
    late: float
    wait: float
    miss: float
    slowdown: float
    owner: float
    load: float
    fail: float
    move: float
    busy: Floats
    idle: Floats
    boot: Floats
    fixed: float


def rates_of(prices: Prices, workers: Sequence[Worker], now_s: int) -> Rates:
    """The coefficients for some workers; nothing runs on them (``fixed`` is 0).

    Parameters
    ----------
    prices : Prices
    workers : sequence of Worker
    now_s : int
        Seconds since the epoch.
    """
    tariffs = tariffs_of(prices, workers)
    least = [min(tariff.values) for tariff in tariffs]
    at_boot = [t.at(w.free_at(now_s)) for t, w in zip(tariffs, workers, strict=True)]
    watt = np.array(least, np.float64) / WATT_SECONDS_PER_KWH
    return Rates(
        end=prices.makespan_h / HOUR_S,
        late=prices.late_h / HOUR_S,
        wait=prices.wait_h / HOUR_S,
        miss=float(prices.misses),
        slowdown=float(prices.stretch),
        owner=prices.unfair_h / HOUR_S,
        load=prices.imbalance_h / HOUR_S,
        fail=float(prices.failures),
        move=float(prices.moves),
        busy=watt * np.array([w.busy_w for w in workers], np.float64),
        idle=watt * np.array([w.idle_w for w in workers], np.float64),
        boot=np.array(at_boot, np.float64) * np.array([w.boot_kwh for w in workers], np.float64),
        fixed=0.0,
    )


class Tariff(NamedTuple):
    """What a kilowatt-hour costs by the time of the day, all priced terms together.

    Parameters
    ----------
    at_s : tuple of int
        Seconds after midnight from which each value holds; the first is 0.
    values : tuple of float
        One alone where the hour makes no difference.
    utc_offset_s : int
        How far the clock that the hours are of is ahead of UTC, seconds.
    """

    at_s: tuple[int, ...]
    values: tuple[float, ...]
    utc_offset_s: int

    def at(self, moment_s: int) -> float:
        """The value at a moment, seconds since the epoch."""
        return self.values[bisect_right(self.at_s, (moment_s + self.utc_offset_s) % DAY_S) - 1]


def tariffs_of(prices: Prices, workers: Sequence[Worker]) -> list[Tariff]:
    """What a kilowatt-hour costs on each of some workers."""
    known: dict[tuple[float | Hourly, float | Hourly], Tariff] = {}
    found = []
    for worker in workers:
        key = worker.price_per_kwh, worker.carbon_kg_per_kwh
        if key not in known:
            known[key] = _tariff_of(prices, *key)
        found.append(known[key])
    return found


def _tariff_of(
    prices: Prices, price_per_kwh: float | Hourly, carbon_kg_per_kwh: float | Hourly
) -> Tariff:
    parts = [(prices.kwh, 1.0), (prices.carbon_kg, carbon_kg_per_kwh)]
    parts.append((prices.energy_cost, price_per_kwh))
    hourly = [(price, rate) for price, rate in parts if price and isinstance(rate, Hourly)]
    always = float(sum(price * rate for price, rate in parts if not isinstance(rate, Hourly)))
    if not hourly:
        return Tariff((0,), (always,), 0)
    # Every time at which one of them changes, by the clock of the first.
    offset_s = hourly[0][1].utc_offset_s
    times = {0} | {(at - r.utc_offset_s + offset_s) % DAY_S for _, r in hourly for at in r.at_s}
    at_s: list[int] = []
    values: list[float] = []
    for second in sorted(times):
        value = always + sum(price * rate.at(second - offset_s) for price, rate in hourly)
        if not values or value != values[-1]:
            at_s.append(second)
            values.append(value)
    return Tariff(tuple(at_s), tuple(values), offset_s)


def prices_end_alone(rates: Rates) -> bool:
    """Whether nothing costs but the last end of all."""
    others = rates._replace(end=0.0, fixed=0.0)
    return rates.end > 0 and not any(np.any(value) for value in others)


def prices_waiting(rates: Rates) -> bool:
    """Whether anything is priced by the start of single tasks: waits, slowdown, fairness."""
    return rates.wait > 0 or rates.slowdown > 0 or rates.owner > 0


def prices_deadlines(rates: Rates) -> bool:
    """Whether a deadline matters."""
    return rates.late > 0 or rates.miss > 0


def in_ticks(rates: Rates, tick_s: int) -> Rates:
    """The coefficients by ticks of so many seconds."""
    by_second = ("end", "late", "wait", "owner", "load", "busy", "idle")
    return rates._replace(**{name: getattr(rates, name) * tick_s for name in by_second})


# --------------------------------------------------------------------------- of policies


def without_moves(policy: Policy) -> Policy:
    """The same policy with no price on moves."""
    return replace(policy, prices=replace(policy.prices, moves=0.0))


def stop_cost(policy: Policy, stopped: int, lost_h: float) -> float:
    """What stopping some running tasks costs as moves: one each, and the hours that are lost."""
    return policy.prices.moves * (stopped + lost_h)


def moves_cost(policy: Policy, amounts: Mapping[str, float]) -> float:
    """What the moves among the amounts of all terms cost."""
    return policy.prices.moves * amounts["moves"]
