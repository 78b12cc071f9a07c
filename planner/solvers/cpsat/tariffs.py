"""Energy by the hour in whole numbers, for models whose variables are integers."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from plancast.planner.arrays.hours import Hours
from plancast.planner.model.domain import DAY_S

LARGEST_UNIT = 1_000_000
"""Most parts into which the largest extra price is divided to have all of them whole."""
NOISE = 1e-12
"""What two doubles that mean one number may differ by, relative to the largest."""


@dataclass(frozen=True)
class Steps:
    """What a watt costs above the least price, summed up over time, in units that make it whole.

    Parameters
    ----------
    at : tuple of int
        Second of the day at which each step begins, and a day's length at the end.
    units : tuple of int
        Units for each second of the step.
    unit : float
        What a unit costs.
    error : float
        What a second may cost more than its units say.
    first : int
        Second of the day that it is now.
    """

    at: tuple[int, ...]
    units: tuple[int, ...]
    unit: float
    error: float
    first: int

    @property
    def most(self) -> int:
        """Units of the costliest second."""
        return max(self.units)

    def until(self, moment: int) -> int:
        """Units from the midnight before now until a moment, seconds after now."""
        days, second = divmod(moment + self.first, DAY_S)
        total = 0
        for at, end, units in zip(self.at, self.at[1:], self.units, strict=False):
            total += units * (days * (end - at) + max(0, min(second, end) - at))
        return total

    def over(self, start: int, end: int) -> int:
        """Units from a moment to another one."""
        return self.until(end) - self.until(start)

    def pieces(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """Where the units of a second stay the same, within [low, high]: (first, last, units)."""
        found = []
        while low <= high:
            midnight = low - (low + self.first) % DAY_S
            step = bisect_right(self.at, low - midnight) - 1
            last = min(high, midnight + self.at[step + 1] - 1)
            found.append((low, last, self.units[step]))
            low = last + 1
        return found


def steps_of(hours: Hours, group: int) -> Steps | None:
    """The steps of a group of workers; None where no hour costs it more than another."""
    at, extra = hours.at[group].tolist(), hours.extra[group].tolist()
    count = bisect_right(at, DAY_S - 1)
    at, extra = [*at[:count], DAY_S], extra[:count]
    largest = max(extra)
    if largest <= 0:
        return None
    parts = [Fraction(value / largest).limit_denominator(LARGEST_UNIT // 100) for value in extra]
    whole = math.lcm(*(part.denominator for part in parts))
    exact = whole <= LARGEST_UNIT and all(
        abs(float(part) - value / largest) <= NOISE
        for part, value in zip(parts, extra, strict=True)
    )
    if exact:
        units = [int(part * whole) for part in parts]
        return Steps(tuple(at), tuple(units), largest / whole, 0.0, int(hours.first[group]))
    units = np.floor(np.array(extra) / largest * LARGEST_UNIT).astype(np.int64).tolist()
    unit = largest / LARGEST_UNIT
    return Steps(tuple(at), tuple(units), unit, unit, int(hours.first[group]))
