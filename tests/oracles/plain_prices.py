"""What tasks cost that pay by the second for what they take: every start, every place."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def least_cost(
    starts: range,
    duration: Floats,
    due: float,
    slope: Floats,
    constant: Floats,
    late: float,
    miss: float,
    takes: Floats,
    pieces: int,
    most: NDArray[np.int64],
    by_second: Floats,
) -> float:
    """Least that one task costs and pays over some starts.

    Parameters
    ----------
    duration, slope, constant, most : arrays (groups,)
        As one row of those of ``best_starts``.
    by_second : float64 (groups, resources, seconds)
        Price of a unit in each second; nothing behind the last.
    """
    groups = [g for g in range(len(duration)) if duration[g] > 0]
    least = np.inf
    for places in combinations_with_replacement(groups, pieces):
        if any(places.count(g) > most[g] for g in groups):
            continue
        for start in starts:
            ends_on = max(places, key=lambda g: duration[g])
            beyond = start + duration[ends_on] - due
            cost = constant[ends_on] + slope[ends_on] * start
            cost += (miss + late * beyond) if beyond > 0 else 0.0
            for g in places:
                cost += float((takes @ by_second[g])[start : start + int(duration[g])].sum())
            least = min(least, cost)
    return least
