"""Conformal correction: make the share of jobs below a quantile what the level says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EVERYONE = "everyone"
"""The cohort that a job belongs to when its own was too small to be corrected apart."""


class ConformalShift:
    """Split-conformal shift of log quantiles, one for each level and cohort.

    Parameters
    ----------
    levels : sequence of float
        Quantile levels, increasing.
    min_rows : int
        Calibration rows below which a cohort is corrected with everyone's shift. With fewer
        rows than this altogether nothing is corrected.

    Notes
    -----
    With scores ``r = log t - log q`` of the n calibration rows, the shift at level p is the
    score of rank ``ceil((n + 1) p)`` (the largest where that exceeds n), so that for
    exchangeable rows ``P(t <= q exp(shift)) >= p``. Time-ordered rows are exchangeable only
    as far as the log does not drift.

    References
    ----------
    Romano, Patterson, Candes (2019), "Conformalized quantile regression", NeurIPS.
    """

    def __init__(self, levels: Sequence[float], min_rows: int = 200) -> None:
        self.levels = tuple(levels)
        self.min_rows = min_rows
        self.shifts: dict[str, list[float]] = {EVERYONE: [0.0] * len(self.levels)}
        self.rows: dict[str, int] = {EVERYONE: 0}

    def fit(self, quantiles_s: Floats, true_s: Floats, cohorts: Sequence[str]) -> ConformalShift:
        """Measure the shifts.

        Parameters
        ----------
        quantiles_s : array, shape (n, levels)
            Uncorrected quantiles of the calibration rows, seconds.
        true_s : array, shape (n,)
            Measured run times, seconds.
        cohorts : sequence of str, length n
        """
        scores = np.log(true_s)[:, None] - np.log(quantiles_s)
        names = np.array(cohorts, dtype=object)
        for cohort in (EVERYONE, *dict.fromkeys(cohorts)):
            rows = scores if cohort == EVERYONE else scores[names == cohort]
            if len(rows) >= self.min_rows:
                self.shifts[cohort] = [
                    _ranked(rows[:, k], level) for k, level in enumerate(self.levels)
                ]
                self.rows[cohort] = len(rows)
        return self

    def correct(self, quantiles_s: Floats, cohorts: Sequence[str]) -> Floats:
        """Corrected quantiles, seconds, shape (n, levels), sorted along the levels."""
        everyone = self.shifts[EVERYONE]
        shift = np.array([self.shifts.get(cohort, everyone) for cohort in cohorts])
        shift = shift.reshape(len(quantiles_s), len(self.levels))
        return np.sort(quantiles_s * np.exp(shift), axis=1)

    def card(self) -> dict[str, Any]:
        """Everything it measured, as JSON values."""
        return {"min_rows": self.min_rows, "shifts": self.shifts, "rows": self.rows}

    @classmethod
    def from_card(cls, levels: Sequence[float], card: Mapping[str, Any]) -> ConformalShift:
        """The correction that wrote `card`."""
        result = cls(levels, int(card["min_rows"]))
        result.shifts = {str(c): [float(s) for s in row] for c, row in card["shifts"].items()}
        result.rows = {str(c): int(n) for c, n in card["rows"].items()}
        return result


def _ranked(scores: Floats, level: float) -> float:
    # Rounded first: (19 + 1) * 0.95 is a little more than 19 in floats.
    rank = math.ceil(round((len(scores) + 1) * level, 9))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])
