"""Samples of when waiting jobs start: a queue rolled forward under a site's discipline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds import rollout_kernel as kernel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DISCIPLINES: dict[str, int] = {"easy": kernel.EASY, "conservative": kernel.CONSERVATIVE}
"""Disciplines that a queue can be rolled forward under."""


@dataclass(frozen=True)
class QueueState:
    """A machine and its queue at one moment, as arrays.

    Parameters
    ----------
    free : array of int64, shape (k,)
        What is free of each resource.
    running_demand : array of int64, shape (running, k)
    running_limit_s : array of int64, shape (running,)
        Seconds that limits leave; at least 1.
    demand : array of int64, shape (waiting, k)
        In the order of the queue.
    limit_s : array of int64, shape (waiting,)
        Seconds; at least 1.

    Raises
    ------
    BadRequest
        Where shapes differ or a number is impossible.
    """

    free: Ints
    running_demand: Ints
    running_limit_s: Ints
    demand: Ints
    limit_s: Ints

    def __post_init__(self) -> None:
        for name in ("free", "running_demand", "running_limit_s", "demand", "limit_s"):
            value = np.ascontiguousarray(getattr(self, name), dtype=np.int64)
            object.__setattr__(self, name, value)
        kinds = len(self.free)
        shapes = (
            self.running_demand.shape == (len(self.running_limit_s), kinds),
            self.demand.shape == (len(self.limit_s), kinds),
        )
        if not all(shapes):
            raise BadRequest("the queue's arrays are not of one length")
        if (self.demand < 0).any() or (self.running_demand < 0).any():
            raise BadRequest("a demand is below 0")
        if (self.limit_s < 1).any() or (self.running_limit_s < 1).any():
            raise BadRequest("a limit is below 1 s")


def roll(
    state: QueueState, left_s: Ints, run_s: Ints, *, discipline: str = "easy", only: int = -1
) -> Floats:
    """Start of each waiting job in each sample, seconds from now, shape (samples, waiting).

    Parameters
    ----------
    state : QueueState
    left_s : array, shape (samples, running)
        Sampled seconds until running jobs end; cut to what their limits leave.
    run_s : array, shape (samples, waiting)
        Sampled run times, seconds; cut to the limits.
    discipline : str
        Of ``DISCIPLINES``.
    only : int
        A waiting job whose start alone is wanted: a sample ends there, others may be infinite.

    Returns
    -------
    array
        Infinite where a job never fits.

    Notes
    -----
    EASY: the head of the queue holds a reservation by the limits of what runs; another job
    starts if it delays that no more. Conservative: every job of the queue holds one. Ends of one
    instant come before one scheduling pass.
    """
    if discipline not in DISCIPLINES:
        raise BadRequest(f"discipline {discipline!r}: is none of {', '.join(DISCIPLINES)}")
    left = np.clip(left_s, 1, state.running_limit_s).astype(np.int64)
    run = np.clip(run_s, 1, state.limit_s).astype(np.int64)
    starts = np.empty(run.shape, np.int64)
    kernel.roll_under(
        DISCIPLINES[discipline],
        state.free,
        np.concatenate([state.running_demand, state.demand]),
        len(state.running_limit_s),
        np.ascontiguousarray(left),
        np.concatenate([state.running_limit_s, state.limit_s]),
        np.ascontiguousarray(run),
        only,
        starts,
    )
    return np.where(starts >= kernel.NEVER, np.inf, starts.astype(np.float64))
