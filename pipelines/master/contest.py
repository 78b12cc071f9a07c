"""A refitted model beside the one that forecasts: it takes its place where its plans are better.

Both forecast what comes, and neither knows how it will end. Once enough of it has, the jobs are
replayed with each one's forecasts, and judged as ``plancast promote`` judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plancast.pipelines.backtest.promote import judged
from plancast.pipelines.backtest.records import Record
from plancast.planner.model.domain import DurationEstimate, Estimates, estimates_of
from plancast.planner.worlds.replay import ReplayLog

ENDS = 200
"""Tasks that both have forecast and that have ended, at which it is judged."""


@dataclass(frozen=True)
class Ended:
    """A task that both forecast, and how it ran; seconds and processors."""

    submit_s: int
    run_s: int
    width: int
    requested_s: int
    user: str
    forecasts: tuple[DurationEstimate, DurationEstimate]


@dataclass
class Contest:
    """What two models forecast, until it is judged.

    Parameters
    ----------
    procs : int
        Processors of the cluster.
    ends : int
        See ``ENDS``.
    """

    procs: int
    ends: int = ENDS
    waits: dict[str, tuple[DurationEstimate, DurationEstimate]] = field(default_factory=dict)
    found: list[Ended] = field(default_factory=list)

    def forecast(self, champion: Estimates, challenger: Estimates) -> None:
        """Both have forecast some tasks."""
        for name in champion:
            self.waits[name] = _one(champion, name), _one(challenger, name)

    def ended(self, name: str, submit_s: int, run_s: int, row: Mapping[str, Any]) -> None:
        """A task has ended; those that were forecast before the contest do not count."""
        forecasts = self.waits.pop(name, None)
        if forecasts is None:
            return
        width = int(np.ceil(float(row.get("cpus") or 1) * int(row.get("shards") or 1)))
        self.found.append(
            Ended(
                submit_s, run_s, min(max(1, width), self.procs),
                max(1, int(row.get("requested_s") or forecasts[0].seconds[-1])),
                str(row.get("owner") or row.get("user") or ""), forecasts,
            )
        )  # fmt: skip

    @property
    def complete(self) -> bool:
        """Whether it can be judged."""
        return len(self.found) >= self.ends

    def verdict(self) -> dict[str, Any]:
        """Whether the challenger's plans were better; as of ``promote.judged``."""
        rows = sorted(self.found, key=lambda one: one.submit_s)
        users = {user: number for number, user in enumerate(dict.fromkeys(r.user for r in rows))}
        arrays = {
            name: np.array([getattr(r, name) for r in rows], np.int64)
            for name in ("submit_s", "run_s", "width", "requested_s")
        }
        user = np.array([users[r.user] for r in rows], np.int64)
        log = ReplayLog("master", self.procs, **arrays, user=user)
        return judged(log, *(_record([r.forecasts[k] for r in rows]) for k in (0, 1)))


def _one(estimates: Estimates, name: str) -> DurationEstimate:
    """The estimate of a task on no machine in particular, or on the first one."""
    by_class = estimates_of(estimates, name)
    return by_class.get("*") or next(iter(by_class.values()))


def _record(forecasts: Sequence[DurationEstimate]) -> Record:
    never = np.empty(0, np.int64)
    levels = forecasts[0].levels
    seconds = np.array([one.seconds for one in forecasts], np.float64)
    return Record(levels, seconds, never, never, np.empty((0, len(levels))))
