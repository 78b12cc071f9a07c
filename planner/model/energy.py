"""Energy weighed by rates that change with the hour, as the evaluator has it.

Plain Python over the frozen types; what is judged shares none of it (``arrays.hours`` has its own
arithmetic).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from plancast.planner.model.domain import DAY_S, WATT_SECONDS_PER_KWH, Hourly, Worker

Draw = tuple[float, int, int]
"""Watts, from and until, seconds since the epoch."""


def draws_by_hour(workers: Iterable[Worker]) -> dict[str, list[Draw]]:
    """Empty lists for the draws of those workers of which a rate changes with the hour."""
    return {
        w.id: []
        for w in workers
        if isinstance(w.price_per_kwh, Hourly) or isinstance(w.carbon_kg_per_kwh, Hourly)
    }


def boot_draw(boot_kwh: float, at_s: int) -> Draw:
    """What a worker draws to be switched on, all in one second."""
    return boot_kwh * WATT_SECONDS_PER_KWH, at_s, at_s + 1


def weighed(rate: float | Hourly, kwh: float, draws: Sequence[Draw]) -> float:
    """The energy of a worker weighed by a rate for each kilowatt-hour.

    Parameters
    ----------
    rate : float or Hourly
    kwh : float
        All of it.
    draws : sequence of Draw
        The same by when it is drawn; not looked at where the rate is a number.
    """
    if not isinstance(rate, Hourly):
        return kwh * rate
    return sum(w * integral(rate, low, high) for w, low, high in draws) / WATT_SECONDS_PER_KWH


def integral(rate: Hourly, from_s: int, until_s: int) -> float:
    """Integral of a rate over ``[from_s, until_s)``: value times seconds."""
    days, left_s = divmod(until_s - from_s, DAY_S)
    steps = list(zip(rate.values, rate.at_s, (*rate.at_s[1:], DAY_S), strict=True))
    total = days * sum(value * (end - at) for value, at, end in steps) if days else 0.0
    first = (from_s + rate.utc_offset_s) % DAY_S
    for midnight in (0, DAY_S):  # what is left ends today or tomorrow
        for value, at, end in steps:
            low, high = max(first, midnight + at), min(first + left_s, midnight + end)
            total += value * max(0, high - low)
    return total
