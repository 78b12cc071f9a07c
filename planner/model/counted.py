"""Counted resources in the evaluator's plain words: who holds how many units, and when too many.

What runs holds its units until its expected end, and may hold more than there are (licences are
taken back, limits lowered); a planned task may hold some only while all tasks together hold no
more than there are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import accumulate

from plancast.planner.model.domain import CountedResource, Snapshot, Task
from plancast.planner.model.violations import Violation, ViolationKind

POWER = "power W"
"""What a power cap is counted as: watts above what the workers draw idle."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A task that runs over ``[start_s, end_s)``, by the plan or already."""

    task: Task
    start_s: int
    end_s: int
    planned: bool


def over_counted(snapshot: Snapshot, holds: Collection[Hold]) -> Iterator[Violation]:
    """One violation for each counted resource, at the first moment planned tasks break it."""
    holders: dict[str, list[Hold]] = defaultdict(list)
    for hold in holds:
        for name, amount in hold.task.counted.items():
            if amount > 0:
                holders[name].append(hold)
    for resource in snapshot.counted:
        mine = holders[resource.id]
        starts = sorted(mine, key=lambda hold: hold.start_s)
        ends = sorted(mine, key=lambda hold: hold.end_s)
        in_use, begun, ended = 0, 0, 0
        planned: dict[str, Hold] = {}
        for at_s in sorted({*(hold.start_s for hold in mine), *changes_s(resource)}):
            while ended < len(ends) and ends[ended].end_s <= at_s:
                in_use -= ends[ended].task.counted[resource.id]
                planned.pop(ends[ended].task.id, None)
                ended += 1
            while begun < len(starts) and starts[begun].start_s <= at_s:
                in_use += starts[begun].task.counted[resource.id]
                if starts[begun].planned and starts[begun].end_s > at_s:
                    planned[starts[begun].task.id] = starts[begun]
                begun += 1
            have = resource.at(at_s)
            if in_use > have and planned:
                last = max(planned.values(), key=lambda hold: hold.start_s)
                yield Violation(
                    ViolationKind.OVER_COUNTED,
                    f"the cluster has {have} of {resource.id}, but {in_use} are in use at {at_s} "
                    f"while task {last.task.id} runs",
                    last.task.id,
                )
                break


def changes_s(resource: CountedResource) -> set[int]:
    """The moments at which the amount changes."""
    return {at_s for window in resource.windows for at_s in (window.start_s, window.end_s)}


def counted_for_ever(snapshot: Snapshot, task: Task) -> bool:
    """Whether what a task takes of counted resources is there outside their windows."""
    return all(a <= snapshot.counted_by_id[name].amount for name, a in task.counted.items())


def counted_is_free(
    snapshot: Snapshot, holds: Collection[Hold], task: Task, start_s: int, end_s: int
) -> bool:
    """Whether a task's counted resources are free over ``[start_s, end_s)`` beside others."""
    for name, amount in task.counted.items():
        resource = snapshot.counted_by_id[name]
        moments = changes_s(resource) | {hold.start_s for hold in holds}
        for at_s in {start_s, *(t for t in moments if start_s < t < end_s)}:
            there = [hold for hold in holds if hold.start_s <= at_s < hold.end_s]
            in_use = sum(hold.task.counted.get(name, 0) for hold in there)
            if amount > 0 and in_use + amount > resource.at(at_s):
                return False
    return True


class Use:
    """How many units are in use when, and what gives some back when, looked up once for all tasks.

    Parameters
    ----------
    snapshot : Snapshot
    holds : collection of Hold
    """

    def __init__(self, snapshot: Snapshot, holds: Collection[Hold]) -> None:
        self.snapshot = snapshot
        self.ending: dict[tuple[str, int], list[Hold]] = defaultdict(list)
        changes: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for hold in holds:
            for name, amount in hold.task.counted.items():
                if amount > 0:
                    changes[name][hold.start_s] += amount
                    changes[name][hold.end_s] -= amount
                    self.ending[name, hold.end_s].append(hold)
        self.moments = {name: sorted(steps) for name, steps in changes.items()}
        self.in_use = {
            name: list(accumulate(changes[name][at_s] for at_s in moments))
            for name, moments in self.moments.items()
        }

    def before(self, name: str, at_s: int) -> int:
        """Units in use just before a moment."""
        k = bisect_left(self.moments.get(name, []), at_s)
        return self.in_use[name][k - 1] if k else 0

    def short(self, task: Task, at_s: int) -> str | None:
        """What a task lacks just before a moment; None where it lacks nothing."""
        for name, amount in task.counted.items():
            have = self.snapshot.counted_by_id[name].at(at_s - 1)
            if amount > 0 and self.before(name, at_s) + amount > have:
                return name
        return None


def units_in_words(name: str, amount: int) -> str:
    """Units of a counted resource as people say it: ``a matlab licence``.

    A running limit has two words for a name, of which the first says what is limited.
    """
    if name == POWER:
        return f"{amount} W of power"
    if " " in name:
        return f"a place under the limit of {name}"
    if amount > 1:
        return f"{amount} {name} licences"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name} licence"
