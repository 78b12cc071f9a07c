"""Errors by the decade of the run time."""

from __future__ import annotations

import numpy as np

from plancast.pipelines.tracking.decades import error_by_decade


def test_each_decade_has_the_error_of_its_jobs() -> None:
    """Short and long jobs would be mixed."""
    run = np.array([1.0, 9.9, 10.0, 1000.0])
    found = {"m": np.array([2.0, 9.9, 40.0, 500.0])}
    assert error_by_decade(run, found) == {"m": {0: 0.5, 1: 2.0, 3: 1.0}}
