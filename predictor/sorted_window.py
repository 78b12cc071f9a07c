"""The latest values of a series, kept in order of arrival and sorted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plancast.predictor.jit import kernel

Floats = NDArray[np.float64]


@kernel
def insert(ring: Floats, ordered: Floats, seen: int, value: float) -> None:
    """Put a value into the window; of a full one the oldest leaves.

    Parameters
    ----------
    ring, ordered : array, shape (window,)
        The values in order of arrival, and sorted.
    seen : int
        How many came before.
    value : float
    """
    window = ring.shape[0]
    kept, place = min(seen, window), seen % window
    if kept == window:
        kept -= 1
        for j in range(np.searchsorted(ordered, ring[place]), kept):
            ordered[j] = ordered[j + 1]
    i = np.searchsorted(ordered[:kept], value)
    for j in range(kept, i, -1):
        ordered[j] = ordered[j - 1]
    ordered[i] = value
    ring[place] = value
