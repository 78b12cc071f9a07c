"""Splits of a job log along time: what is trained on had ended before what is tested began."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Row numbers of a canonical frame, each ascending and disjoint.

    Parameters
    ----------
    train, calibration, test : array of int
    calibration_from_s, test_from_s : float
        The moments of the splits, seconds. A row of an earlier part that had not ended by the
        moment at which the next part begins belongs to no part: its run time was not known.
    """

    train: Rows
    calibration: Rows
    test: Rows
    calibration_from_s: float
    test_from_s: float


def known_at_s(frame: pd.DataFrame) -> Floats:
    """When each row's run time became known, seconds: its end.

    An unknown end (a log without waits) is taken as the earliest possible, submission + run
    time; a row that never ran is never known (infinity).
    """
    submit, end, run = (
        frame[name].to_numpy(dtype=np.float64) for name in ("submit_s", "end_s", "run_s")
    )
    known = np.where(np.isnan(end), submit + run, end)
    return np.asarray(np.where(np.isnan(known), np.inf, known), dtype=np.float64)


def split_at(
    frame: pd.DataFrame, test_from_s: float, calibration_from_s: float | None = None
) -> Split:
    """Split at given moments.

    Parameters
    ----------
    frame : DataFrame
        Canonical frame, in order of submission.
    test_from_s : float
        Rows submitted from here on are the test, seconds.
    calibration_from_s : float, optional
        Rows submitted from here on, and before `test_from_s`, calibrate; none by default.

    Raises
    ------
    ValueError
        Where the calibration would begin after the test.
    """
    begins = test_from_s if calibration_from_s is None else calibration_from_s
    if begins > test_from_s:
        raise ValueError(f"the calibration begins at {begins}, after the test at {test_from_s}")
    submit = frame["submit_s"].to_numpy(dtype=np.float64)
    known = known_at_s(frame)
    ran = np.isfinite(known)
    return Split(
        train=np.flatnonzero(ran & (submit < begins) & (known <= begins)),
        calibration=np.flatnonzero(
            ran & (submit >= begins) & (submit < test_from_s) & (known <= test_from_s)
        ),
        test=np.flatnonzero(submit >= test_from_s),
        calibration_from_s=begins,
        test_from_s=test_from_s,
    )


def split_by_share(frame: pd.DataFrame, train: float = 0.7, calibration: float = 0.0) -> Split:
    """Split at the submissions below which the given shares of the rows lie.

    Parameters
    ----------
    frame : DataFrame
        Canonical frame, in order of submission.
    train, calibration : float
        Shares of the rows before the embargo, in [0, 1], together at most 1.

    Raises
    ------
    ValueError
        Where a share is impossible.
    """
    if min(train, calibration) < 0 or train + calibration > 1 + 1e-9:
        raise ValueError(
            f"shares {train} and {calibration} must be 0 or more and together at most 1"
        )
    submit = frame["submit_s"].to_numpy(dtype=np.float64)

    def moment(share: float) -> float:
        # Rounded first: 0.7 + 0.15 is a little less than 0.85.
        row = math.ceil(round(share * len(submit), 6))
        return float(submit[row]) if row < len(submit) else math.inf

    return split_at(frame, moment(train + calibration), moment(train))


def rolling_origin(frame: pd.DataFrame, folds: int = 5, first: float = 0.5) -> Iterator[Split]:
    """Walk forward: train on all that is known, test on the next stretch, move on.

    Parameters
    ----------
    frame : DataFrame
        Canonical frame, in order of submission.
    folds : int
        Number of test stretches, about equal in rows.
    first : float
        Share of the rows before the first test stretch, in (0, 1).

    Yields
    ------
    Split
        Without a calibration part; the test parts do not overlap and follow each other.

    Raises
    ------
    ValueError
        Where `folds` or `first` is impossible.
    """
    if folds < 1 or not 0 < first < 1:
        raise ValueError(f"folds is {folds} and first {first}; they must be >= 1 and in (0, 1)")
    submit = frame["submit_s"].to_numpy(dtype=np.float64)
    rows = np.linspace(math.ceil(first * len(submit)), len(submit), folds + 1).astype(np.int64)
    moments = [float(submit[r]) if r < len(submit) else math.inf for r in rows]
    for begins, ends in pairwise(moments):
        if begins == ends:
            continue
        whole = split_at(frame, begins)
        yield Split(
            train=whole.train,
            calibration=whole.calibration,
            test=whole.test[submit[whole.test] < ends],
            calibration_from_s=begins,
            test_from_s=begins,
        )
