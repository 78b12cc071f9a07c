"""How long a running job still needs, from the quantiles of its whole run time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.predictor.distribution import conditional_quantiles
from plancast.predictor.state.online import OnlineCorrection

Floats = NDArray[np.float64]

FRACTIONS: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
"""Elapsed times at which remaining times are calibrated, as shares of the median forecast."""


@dataclass(frozen=True)
class Survivors:
    """The jobs that ran longer than a share of their median forecast.

    Parameters
    ----------
    rows : array of int
    remaining_s : array, shape (rows, levels)
        Corrected quantiles of the time that remained, seconds.
    """

    rows: NDArray[np.int64]
    remaining_s: Floats


class RemainingCorrection:
    """Calibrates remaining times online, one correction for each share of the median forecast.

    Parameters
    ----------
    levels : sequence of float
        Of the whole run time's quantiles, and of the remaining time's.

    Notes
    -----
    At each share of ``FRACTIONS`` only jobs that ran so long count. Between the shares the
    nearest one, by their ratio, is taken.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = tuple(levels)
        # One level alone is no distribution: it says nothing about what remains.
        known = FRACTIONS if len(self.levels) > 1 else ()
        self.parts = {f: OnlineCorrection(self.levels, 1, cohorts=1) for f in known}

    def replay(
        self,
        quantiles_s: Floats,
        run_s: Floats,
        start_s: Floats,
        known_s: Floats,
        owners: Sequence[str],
    ) -> dict[float, Survivors]:
        """Forecast what remains of each job at each share, learning from those that ended before.

        Parameters
        ----------
        quantiles_s : array, shape (n, levels)
            Of the whole run time, seconds; rows with NaN or infinity are passed over.
        run_s : array, shape (n,)
            Seconds; NaN: never ran.
        start_s, known_s : array, shape (n,)
            When a job started, and when its run time became known.
        owners : sequence of str, length n
        """
        result = {}
        median = quantiles_s[:, self._middle()]
        finite = np.isfinite(quantiles_s).all(axis=1)
        for fraction, part in self.parts.items():
            elapsed = fraction * median
            rows = np.flatnonzero(finite & (run_s > elapsed))
            moment = start_s[rows] + elapsed[rows]
            rows = rows[np.argsort(moment, kind="stable")]
            plain = conditional_quantiles(
                quantiles_s[rows], self.levels, elapsed[rows], self.levels
            )
            corrected, _ = part.replay(
                np.log(plain)[:, None, :],
                np.log(run_s[rows] - elapsed[rows]),
                start_s[rows] + elapsed[rows],
                known_s[rows],
                [owners[i] for i in rows.tolist()],
                np.zeros(len(rows), np.int64),
                np.full(len(rows), np.inf),
            )
            result[fraction] = Survivors(rows, np.exp(corrected))
        return result

    def quantiles(self, quantiles_s: Floats, elapsed_s: float, owner: str) -> Floats:
        """Quantiles of what remains of one job, seconds, shape (levels,)."""
        if not self.parts:
            return np.maximum(quantiles_s - elapsed_s, 0.5)
        median = quantiles_s[self._middle()]
        found = np.where(np.isfinite(quantiles_s), quantiles_s, np.nanmax([median, 1.0]) * 1e3)
        plain = conditional_quantiles(
            found[None], self.levels, np.array([float(elapsed_s)]), self.levels
        )
        part = self.parts[self._nearest(elapsed_s / median)]
        # Before any job has run so long there is nothing to correct with.
        if part.settled == 0 or not np.isfinite(median):
            return np.asarray(plain[0], dtype=np.float64)
        return np.asarray(np.exp(part.issue(np.log(plain), owner, 0)[0]), dtype=np.float64)

    def ended(self, quantiles_s: Floats, run_s: float, owner: str) -> None:
        """Learn from a job that ended now, whose quantiles at its submission were these."""
        if not np.isfinite(quantiles_s).all():
            return
        for fraction, part in self.parts.items():
            elapsed = fraction * quantiles_s[self._middle()]
            if run_s > elapsed:
                plain = conditional_quantiles(
                    quantiles_s[None], self.levels, np.array([elapsed]), self.levels
                )
                _, slip = part.issue(np.log(plain), owner, 0)
                part.ended(part.submitted(slip), float(np.log(run_s - elapsed)))

    def frame(self) -> pd.DataFrame:
        """What it has learned, as a frame that ``take`` takes back."""
        frames = [part.frame().assign(fraction=f) for f, part in self.parts.items()]
        if not frames:
            return pd.DataFrame({"fraction": np.empty(0)})
        return pd.concat(frames, ignore_index=True)

    def take(self, frame: pd.DataFrame) -> None:
        """Take the state that ``frame`` gave."""
        for fraction, part in self.parts.items():
            part.take(frame[frame["fraction"] == fraction])

    def _middle(self) -> int:
        return int(np.argmin(np.abs(np.asarray(self.levels) - 0.5)))

    def _nearest(self, share: float) -> float:
        return min(FRACTIONS, key=lambda f: abs(np.log(max(share, 1e-9) / f)))
