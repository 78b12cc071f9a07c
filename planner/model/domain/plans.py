"""What is planned, or what was really run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from plancast.planner.model.domain.units import MOST_END_S, BadRequest


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task on its workers (one for each shard) over ``[start_s, end_s)``.

    `mode` is the one of its modes that is chosen; "" where it has none. `devices` are those that
    each piece has of its worker, by number from 0; empty where no worker's GPUs are devices.
    """

    task: str
    workers: tuple[str, ...]
    start_s: int
    end_s: int
    mode: str = ""
    devices: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        # Compared at once: a plan holds ten thousands of these.
        if max(abs(self.start_s), abs(self.end_s)) > MOST_END_S:
            raise BadRequest(
                f"assignment of {self.task}: from {self.start_s} to {self.end_s}; both times must "
                f"lie within {MOST_END_S} s (2^52) of 0"
            )


@dataclass(frozen=True)
class Plan:
    """Assignments, planned or really run: the same type, priced by the same function.

    Parameters
    ----------
    assignments : tuple of Assignment
    preempted : tuple of str
        Running tasks that are stopped at the time of planning; each has a new assignment.
    made_at_s : int
        ``Snapshot.now_s`` of the snapshot it was made for.
    snapshot_version : int
    """

    assignments: tuple[Assignment, ...]
    preempted: tuple[str, ...] = ()
    made_at_s: int = 0
    snapshot_version: int = 0

    @cached_property
    def by_task(self) -> dict[str, Assignment]:
        """Assignments by task id; the last one where a task is listed twice."""
        return {a.task: a for a in self.assignments}
