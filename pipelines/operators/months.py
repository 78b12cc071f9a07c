"""Months of submissions, by name."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

EPOCH_FROM_S = 3e8
"""Submissions before this (mid 1979) count from the log's start, not from the epoch."""


def months_of(submit_s: NDArray[np.float64]) -> NDArray[Any]:
    """The month of each submission: ``1996-09``, or ``month 01`` of a log without dates."""
    if submit_s.min() < EPOCH_FROM_S:
        numbers = ((submit_s - submit_s.min()) // (30 * 86400)).astype(np.int64)
        return np.array([f"month {k + 1:02d}" for k in range(int(numbers.max()) + 1)])[numbers]
    zone = datetime.UTC
    days, place = np.unique((submit_s // 86400).astype(np.int64), return_inverse=True)
    names = [datetime.datetime.fromtimestamp(d * 86400, zone).strftime("%Y-%m") for d in days]
    return np.array(names)[place]
