"""Forecasts that count as far as recent ones have earned it, between them and the request."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from plancast.planner.worlds.replay import Estimator, Renewing, ReplayLog, Watching

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAST_JOBS = 100
"""Ended jobs before a forecast is believed at all."""

MEMORY = 500.0
"""Jobs over which errors are averaged."""

FULL = 1.0 / 3.0
"""Share by which forecasts must miss by less than requests do to be believed in full."""

SHORTEST_S = 10.0
"""Shorter run times count as this long, as in the bounded slowdown."""


class Trusted:
    """An estimator whose forecasts are blended with the request by what recent ones were worth.

    Parameters
    ----------
    estimator : Estimator
    log : ReplayLog

    Notes
    -----
    With F and R the mean ``|log(median / run)|`` and ``|log(request / run)|`` of the latest ended
    jobs, the trust is ``w = min(1, (1 - F / R) / FULL)``, at least 0, and every quantile q
    becomes ``request^(1 - w) q^w``. Forecasts that say no more than the request have no weight:
    then a dispatcher works with requests, whatever nonsense it is given.
    """

    def __init__(self, estimator: Estimator, log: ReplayLog) -> None:
        self.levels = estimator.levels
        self._estimator, self._log = estimator, log
        self._middle = int(np.argmin(np.abs(np.asarray(self.levels) - 0.5)))
        self._median = np.ones(len(log))
        self._ended, self._missed, self._asked = 0, 0.0, 0.0

    @property
    def trust(self) -> float:
        """Weight of the forecasts, from 0 to 1."""
        if self._ended < LEAST_JOBS or not self._asked > 0:
            return 0.0
        return min(max((1.0 - self._missed / self._asked) / FULL, 0.0), 1.0)

    def at_submit(self, job: int, now_s: int) -> Floats:
        """The other's forecast, blended with the request."""
        quantiles = self._estimator.at_submit(job, now_s)
        limit = float(self._log.requested_s[job])
        self._median[job] = min(max(float(quantiles[self._middle]), 1.0), limit)
        return self._blended(job, quantiles)

    def finished(self, job: int, run_s: int, now_s: int) -> None:
        """Learn what the forecast at submission and the request were worth."""
        self._estimator.finished(job, run_s, now_s)
        self._ended += 1
        step = 1.0 / min(float(self._ended), MEMORY)
        run = max(float(run_s), SHORTEST_S)
        missed, asked = (
            abs(float(np.log(max(point, SHORTEST_S) / run)))
            for point in (float(self._median[job]), float(self._log.requested_s[job]))
        )
        self._missed += step * (missed - self._missed)
        self._asked += step * (asked - self._asked)

    def watch(self, running: Ints, start_s: Ints) -> None:
        """Tell the other, where it watches."""
        if isinstance(self._estimator, Watching):
            self._estimator.watch(running, start_s)

    def renewed(self, waiting: Ints, now_s: int) -> Iterator[tuple[int, Floats]]:
        """The other's new forecasts, blended."""
        if isinstance(self._estimator, Renewing):
            for job, quantiles in self._estimator.renewed(waiting, now_s):
                yield job, self._blended(job, quantiles)

    def _blended(self, job: int, quantiles: Floats) -> Floats:
        weight, limit = self.trust, float(self._log.requested_s[job])
        capped = np.minimum(np.maximum(quantiles, 1.0), limit)
        return np.asarray(limit ** (1.0 - weight) * capped**weight, dtype=np.float64)
