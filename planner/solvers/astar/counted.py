"""Counted resources in the search: one worker more, which has all of them and nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plancast.planner.arrays.problem import Ints, Problem, offsets

MOST_WORK = float(1 << 60)
"""Sums of amounts times seconds stay below."""

Work = tuple[Ints, Ints, Ints, Ints]
"""``work, room, held, shared`` of ``kernels.astar.Space``."""


def with_counted(
    problem: Problem, columns: dict[str, Any], work: Work
) -> tuple[dict[str, Any], Work]:
    """The arrays with one worker more, which has all that is counted and nothing else.

    An edge of a task that takes some has one piece more, there.
    """
    workers, resources = problem.capacity.shape
    takes, takes_of = np.unique(problem.takes, axis=0, return_inverse=True)
    demands, task = len(columns["demand"]), columns["edge_task"]
    demand = np.zeros((demands + len(takes), resources + len(problem.counted)), np.int64)
    demand[:demands, :resources], demand[demands:, resources:] = columns["demand"], takes
    has_more = problem.takes[task].any(axis=1)
    after = columns["piece_ptr"][1:][has_more]
    added: dict[str, Any] = {
        "piece_worker": workers, "piece_demand": demands + takes_of.reshape(-1)[task[has_more]],
        "piece_count": 1, "piece_load": 0.0,
    }  # fmt: skip
    wider = {name: np.insert(columns[name], after, value) for name, value in added.items()}
    wider |= {"piece_ptr": offsets(np.diff(columns["piece_ptr"]) + has_more), "demand": demand}
    done, room, held, shared = work
    found: list[tuple[Ints, int, Ints]] = []
    for r in range(len(problem.counted)):
        amount, most = problem.takes[:, r], int(problem.spare[1][0, :, r].max())
        active = np.zeros((workers + 1, len(demand)), np.int64)
        active[-1] = demand[:, resources + r]
        if most and amount.any():
            amount, most, active = in_range(amount, problem, most, active)
            found.append((amount * problem.shortest, most, active))
    more = len(found)
    held = np.pad(held, ((0, 1), (0, len(takes)), (0, more)))
    for k, (_, _, active) in enumerate(found, start=held.shape[2] - more):
        held[:, :, k] = active
    return {**columns, **wider}, (
        np.column_stack([done, *(f[0] for f in found)]),
        np.append(room, np.array([f[1] for f in found], np.int64)),
        held,
        np.append(shared, np.arange(len(room), len(room) + more)),
    )


def free_at_first(problem: Problem) -> dict[str, Ints]:
    """``times``, ``free`` and ``segments``: of the workers, and of what is counted as one more."""
    times, free, count = problem.profile()
    if not problem.counted:
        return {"times": times, "free": free, "segments": count}
    (workers, resources), spare = problem.capacity.shape, problem.spare
    longest = max(times.shape[1], spare[0].shape[1])
    every = np.zeros((workers + 1, longest), np.int64)
    left = np.zeros((*every.shape, resources + len(problem.counted)), np.int64)
    every[:workers, : times.shape[1]], every[workers, : spare[0].shape[1]] = times, spare[0][0]
    left[:workers, : free.shape[1], :resources] = free
    left[workers, : spare[1].shape[1], resources:] = spare[1][0]
    return {"times": every, "free": left, "segments": np.append(count, spare[2])}


def in_range(amount: Ints, problem: Problem, room: int, active: Ints) -> tuple[Ints, int, Ints]:
    """The same column in a unit in which no sum of work leaves 64 bits; never more work for it."""
    work = float((amount * problem.piece_seconds).sum())
    unit = math.ceil(max(work, room * problem.horizon_s) / MOST_WORK)
    if unit <= 1:
        return amount, room, active
    return amount // unit, -(-room // unit), active // unit
