"""Job shops and flexible job shops in the usual text.

A machine is a worker with one slot and a machine class of its own; an operation has an
estimate for the classes it may run on, and for no other. One unit of the file's time is a
second.

The job shop: jobs and machines, then a line a job with pairs of machine (from 0) and
duration. The flexible job shop: a line a job with its number of operations, and for each
the number of machines that can do it and pairs of machine (from 1) and duration. Blank
lines and lines with a leading ``#`` count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plancast.planner.instances.base import MAKESPAN_SECONDS, InstanceSet, instance_set
from plancast.planner.instances.projects import without_instant
from plancast.planner.model.domain import BadRequest, DurationEstimate, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest

SLOT = "slot"
MOST_MACHINES = 100_000
Operation = dict[int, int]
"""Machine to duration."""


def jobshop_set(path: str | Path) -> InstanceSet:
    """The job shops (``.txt``, ``.jsp``) of an archive or a folder, or one of them."""
    return instance_set(path, ("*.txt", "*.jsp"), parse_jobshop)


def flexible_set(path: str | Path) -> InstanceSet:
    """The flexible job shops (``.txt``, ``.fjs``) of an archive or a folder, or one of them."""
    return instance_set(path, ("*.txt", "*.fjs"), parse_flexible)


def parse_jobshop(name: str, text: str) -> PlanRequest:
    """The request that a job-shop file describes.

    Raises
    ------
    BadRequest
        With the job and what is wrong with it.
    """
    _, machines, lines = _lines(text)
    jobs = []
    for j, words in enumerate(lines, 1):
        if len(words) % 2:
            raise BadRequest(f"job {j} has {len(words)} numbers; write machine and duration pairs")
        jobs.append([{words[k]: words[k + 1]} for k in range(0, len(words), 2)])
    return _request(name, jobs, machines, first=0)


def parse_flexible(name: str, text: str) -> PlanRequest:
    """The request that a flexible-job-shop file describes.

    Raises
    ------
    BadRequest
        With the job and what is wrong with it.
    """
    _, machines, lines = _lines(text)
    jobs = []
    for j, words in enumerate(lines, 1):
        numbers = iter(words)
        try:
            operations = [_choices(j, numbers) for _ in range(next(numbers))]
        except StopIteration:
            raise BadRequest(f"job {j} ends before its last operation") from None
        if next(numbers, None) is not None:
            raise BadRequest(f"job {j} goes on after its last operation")
        jobs.append(operations)
    return _request(name, jobs, machines, first=1)


def _choices(j: int, numbers: Iterator[int]) -> Operation:
    count = next(numbers)
    if count < 1:
        raise BadRequest(f"job {j} has an operation that {count} machines can do; write 1 or more")
    choices: Operation = {}
    for _ in range(count):
        machine, duration = next(numbers), next(numbers)
        choices[machine] = duration
    return choices


def _lines(text: str) -> tuple[int, int, list[list[int]]]:
    """Jobs, machines, and the numbers of each job's line."""
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if not rows:
        raise BadRequest("is empty; its first line should tell the jobs and machines")
    try:
        jobs, machines = int(rows[0][0]), int(rows[0][1])  # a third one is an average
    except (ValueError, IndexError):
        raise BadRequest("its first line should tell the number of jobs and of machines") from None
    if not 1 <= machines <= MOST_MACHINES:
        raise BadRequest(
            f"its first line tells of {machines} machines; write 1 to {MOST_MACHINES:,}"
        )
    try:
        lines = [[int(word) for word in row] for row in rows[1:]]
    except ValueError as error:
        raise BadRequest(f"should hold whole numbers ({error})") from None
    if len(lines) != jobs:
        raise BadRequest(f"tells of {jobs} jobs and has {len(lines)} lines of them")
    return jobs, machines, lines


def _request(name: str, jobs: list[list[Operation]], machines: int, first: int) -> PlanRequest:
    choices: dict[str, Operation] = {}
    before: dict[str, list[str]] = {}
    for j, operations in enumerate(jobs, 1):
        for k, operation in enumerate(operations, 1):
            key = f"{j}.{k}"
            for machine, duration in operation.items():
                if not first <= machine < machines + first:
                    raise BadRequest(
                        f"job {j}, operation {k}: machine {machine} is none of "
                        f"{first} to {machines + first - 1}"
                    )
                if duration < 0:
                    raise BadRequest(f"job {j}, operation {k}: duration {duration} is below 0")
            choices[key] = operation
            before[key] = [f"{j}.{k - 1}"] if k > 1 else []
    # An operation that takes no time anywhere takes no machine either.
    after = without_instant({key: max(c.values()) for key, c in choices.items()}, before)
    if not after:
        raise BadRequest("has no operation that takes time")
    estimates = {
        # Where only some machines are instant, the least a plan can reserve is a second.
        key: {f"m{m}": DurationEstimate.certain(max(1, d)) for m, d in choices[key].items()}
        for key in after
    }
    workers = tuple(
        Worker(f"m{m}", {SLOT: 1}, machine_class=f"m{m}") for m in range(first, machines + first)
    )
    tasks = tuple(Task(key, {SLOT: 1}, after=names) for key, names in after.items())
    return PlanRequest(name, Snapshot(0, 0, workers, tasks), estimates, MAKESPAN_SECONDS)
