"""How long tasks may run: quantiles by task, mode and machine class."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from plancast.planner.model.domain.units import MOST_TIME_S, BadRequest

ANY_CLASS = "*"
"""Key of an estimate that holds for every machine class without one of its own."""


@dataclass(frozen=True, slots=True)
class DurationEstimate:
    """Quantiles of one task's run time on one machine class.

    Parameters
    ----------
    levels : tuple of float
        Strictly increasing, each in (0, 1).
    seconds : tuple of int
        Non-decreasing, at least 1; ``seconds[k]`` is the quantile at ``levels[k]``.
    source : str
        Who says so: ``model``, ``requested``, ``oracle``, ...

    Notes
    -----
    The quantile function Q is linear between the levels and constant beyond them, so that
    a single level makes a certain duration.
    """

    levels: tuple[float, ...]
    seconds: tuple[int, ...]
    source: str = ""

    def __post_init__(self) -> None:
        # Written out, not through require: a request holds tens of thousands of these, and
        # an f-string costs more than the check.
        if not 0 < len(self.levels) == len(self.seconds):
            raise BadRequest(
                f"an estimate has {len(self.levels)} levels and {len(self.seconds)} seconds; "
                "it needs as many of one as of the other, and at least one"
            )
        previous_level, previous_s = 0.0, 1
        for level, seconds in zip(self.levels, self.seconds, strict=True):
            if not previous_level < level < 1:
                raise BadRequest(
                    f"estimate levels {self.levels} must be strictly increasing within (0, 1)"
                )
            if seconds < previous_s:
                raise BadRequest(
                    f"estimate seconds {self.seconds} must be non-decreasing and at least 1"
                )
            previous_level, previous_s = level, seconds
        if previous_s > MOST_TIME_S:
            raise BadRequest(
                f"an estimate is {previous_s} s; it must be at most {MOST_TIME_S} s (2^48). "
                "Is it in milliseconds or nanoseconds?"
            )

    @classmethod
    def certain(cls, seconds: int, source: str = "") -> DurationEstimate:
        """An estimate without spread: every quantile is `seconds`."""
        return cls((0.5,), (seconds,), source)

    def at(self, level: float) -> int:
        """Quantile at `level`, whole seconds, rounded up."""
        k = bisect_left(self.levels, level)
        if k < len(self.levels) and self.levels[k] == level:
            return math.ceil(self.seconds[k])
        return max(1, math.ceil(self._quantile(level) - 1e-9))

    def remaining_at(self, level: float, elapsed_s: int) -> int:
        """Quantile at `level` of the time still to run after `elapsed_s`, at least 1 second.

        Notes
        -----
        ``Q(F(e) + p (1 - F(e))) - e`` while the elapsed time e is below the highest known
        quantile. Beyond it the estimate is refuted, and a Pareto tail of index 1 takes
        over: the remaining time at level p is ``e p / (1 - p)``, so that a task that has
        overrun is expected to run as long again (median).

        References
        ----------
        Harchol-Balter, Downey (1997), "Exploiting process lifetime distributions for
        dynamic load balancing", doi:10.1145/263326.263344.
        """
        if elapsed_s <= 0:
            return self.at(level)
        if elapsed_s >= self.seconds[-1]:
            return max(1, math.ceil(elapsed_s * level / (1 - level) - 1e-9))
        passed = self._share_ended_by(elapsed_s)
        return max(1, math.ceil(self._quantile(passed + level * (1 - passed)) - elapsed_s - 1e-9))

    def _quantile(self, level: float) -> float:
        k = bisect_left(self.levels, level)
        if k == 0:
            return float(self.seconds[0])
        if k == len(self.levels):
            return float(self.seconds[-1])
        share = (level - self.levels[k - 1]) / (self.levels[k] - self.levels[k - 1])
        return self.seconds[k - 1] + share * (self.seconds[k] - self.seconds[k - 1])

    def _share_ended_by(self, elapsed_s: int) -> float:
        k = bisect_right(self.seconds, elapsed_s)
        if k == 0:
            return 0.0
        low, high = self.seconds[k - 1], self.seconds[k]
        return self.levels[k - 1] + (self.levels[k] - self.levels[k - 1]) * (elapsed_s - low) / (
            high - low
        )


ByClass = Mapping[str, DurationEstimate]
"""Machine class (or ``*``) to estimate."""


Estimates = Mapping[str, ByClass | Mapping[str, ByClass]]
"""Task id to its estimates by machine class; of a task with modes, mode to those."""


def estimates_of(estimates: Estimates, task_id: str, mode: str = "") -> ByClass:
    """The estimates of a task, done in a mode, by machine class; empty where there are none."""
    known: Any = estimates.get(task_id, {})
    found: ByClass = known.get(mode, {}) if mode else known
    return found


def every_estimate(estimates: Estimates) -> Iterator[DurationEstimate]:
    """All estimates of all tasks, modes and machine classes."""
    for known in estimates.values():
        for found in known.values():
            if isinstance(found, DurationEstimate):
                yield found
            else:
                yield from found.values()


def estimate_for(
    estimates: Estimates, task_id: str, machine_class: str, mode: str = ""
) -> DurationEstimate | None:
    """The estimate of a task on a machine class, or None where that class is not eligible."""
    by_class: Any = estimates.get(task_id)
    if by_class is not None and mode:
        by_class = by_class.get(mode)
    if by_class is None:
        return None
    found: DurationEstimate | None = by_class.get(machine_class) or by_class.get(ANY_CLASS)
    return found
