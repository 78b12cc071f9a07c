"""Units, the largest numbers that are planned with, and the checks of a value's fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

HOUR_S = 3600.0
WATT_SECONDS_PER_KWH = 3.6e6
RELATIVE_TOLERANCE = 1e-6
"""How far a claimed cost or bound may be from the evaluated one, relative."""
ZERO_COST = 1e-12
"""A bound so little below 0 proves a cost of 0."""
MIN_STRETCH_S = 10
"""Floor of the planned duration in the bounded slowdown, seconds (Feitelson's bound)."""
MOST_TIME_S = 1 << 48
"""Times lie within so many seconds of 0, durations and waits below: nine million years."""
MOST_END_S = 1 << 52
"""Planned times lie within so many seconds of 0."""
MOST_AMOUNT = 1 << 50
"""No amount of a resource is larger: a PiB, in bytes."""
MOST_FACTOR = 1e12
"""No weight, price or power is larger: costs stay far from where floats end."""
GPU, DEVICE = "gpu", 1000
"""The resource that may come as devices, and what one of them has of it."""
DAY_S = 86_400
"""Seconds of a day."""


class BadRequest(ValueError):
    """A request that cannot be planned because it is malformed; the text says what to repair."""


def in_words(resource: str, amount: int, *, unit: bool = True) -> str:
    """An amount of a resource as people write it: ``16 cores``, ``0.5 gpu``, ``4096 MiB``.

    Parameters
    ----------
    resource : str
    amount : int
        As the planner counts: millicores, MiB, milli-GPU, units of its own.
    unit : bool
        Whether the unit is named.
    """
    number = f"{amount / 1000:g}" if resource in ("cpu", "gpu") else str(amount)
    if resource in ("cpu", "gpu") and float(number) * 1000 != amount:
        number = str(amount / 1000)
    if not unit:
        return number
    cores = "core" if number == "1" else "cores"
    return number + {"cpu": f" {cores}", "mem": " MiB", "gpu": " gpu"}.get(
        resource, f" of {resource}"
    )


def require(condition: bool, sentence: str) -> None:
    """Refuse, in this sentence, what does not meet a condition (``BadRequest``)."""
    if not condition:
        raise BadRequest(sentence)


def check_amounts(owner: str, what: str, amounts: Mapping[str, int]) -> None:
    """Refuse amounts that are negative, or too large to be added."""
    for name, amount in amounts.items():
        require(amount >= 0, f"{owner}: {what} of {name} is {amount}; it must be 0 or more")
        require(
            amount <= MOST_AMOUNT,
            f"{owner}: {what} of {name} is {amount}; it must be at most {MOST_AMOUNT} (2^50): "
            "count it in a larger unit",
        )


def check_times(owner: str, **times: int | None) -> None:
    """Refuse times, and durations, of which sums could leave 64 bits."""
    for name, at_s in times.items():
        if at_s is not None and not -MOST_TIME_S <= at_s <= MOST_TIME_S:
            raise BadRequest(
                f"{owner}: {name} is {at_s} s; it must lie within {MOST_TIME_S} s (2^48) of 0. "
                "Is it in milliseconds or nanoseconds?"
            )


def check_factor(owner: str, what: str, value: float) -> None:
    """Refuse a weight, price or power that is negative, not finite or too large."""
    require(
        math.isfinite(value) and 0 <= value <= MOST_FACTOR,
        f"{owner}: {what} is {value}; it must be a finite number from 0 to {MOST_FACTOR:g}",
    )


def require_unique(what: str, ids: Sequence[str]) -> None:
    """Refuse ids of which one is listed twice."""
    seen: set[str] = set()
    for name in ids:
        require(name not in seen, f"{what} {name} is listed twice; ids must be unique")
        seen.add(name)
