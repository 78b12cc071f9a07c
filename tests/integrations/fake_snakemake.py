"""What Snakemake's scheduler interface shows of a workflow, and a run of it in simulated time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


@dataclass(eq=False)
class Job:
    """A single job of the interface; ``run_s`` and ``size`` are what no scheduler may see."""

    name: str
    rule_name: str
    run_s: float
    parents: list[Job] = field(default_factory=list)
    amounts: dict[str, int] = field(default_factory=lambda: {"_cores": 1, "_job_count": 1})
    priority: int = 0
    size: float = 0.0
    benchmark: Any = None

    @property
    def rule(self) -> Any:
        """As the concrete job has it."""
        return SimpleNamespace(name=self.rule_name)

    @property
    def scheduler_resources(self) -> Mapping[str, int]:
        """What it takes."""
        return self.amounts

    @property
    def input(self) -> list[Any]:
        """One input of its size."""
        return [File(f"in {self.name}")]

    @property
    def output(self) -> list[Any]:
        """No file that is really there."""
        return [File(f"out of {self.name}, nowhere")]

    log = ()


class File(str):
    """A file of the interface."""

    def is_flagged(self, flag: str) -> bool:
        """No file is temporary."""
        return False


class Dag:
    """The graph of the interface."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.ended = list(jobs), set[Job]()

    def needrun_jobs(self) -> Iterable[Job]:
        """Jobs that have not ended."""
        return (job for job in self.jobs if job not in self.ended)

    def job_dependencies(self, job: Job) -> Iterable[Job]:
        """What it waits for."""
        return job.parents

    def finished(self, job: Job) -> bool:
        """Whether it has ended."""
        return job in self.ended


def input_first(
    selectable: Sequence[Job], remaining: Any, free: Mapping[str, int], sizes: Mapping[str, float]
) -> list[Job]:
    """What Snakemake's greedy scheduler selects with its defaults, found by sorting once."""
    left, chosen = dict(free), []
    for job in sorted(selectable, key=lambda j: (j.priority, 0, sizes[j.input[0]]), reverse=True):
        if all(job.amounts.get(name, 0) <= amount for name, amount in left.items()):
            for name in left:
                left[name] -= job.amounts.get(name, 0)
            chosen.append(job)
    return chosen


def makespan_s(
    dag: Dag,
    cores: int,
    select: Callable[..., Sequence[Job] | None],
    clock: list[float],
    look: Callable[[Sequence[Job]], None] = lambda selectable: None,
) -> float:
    """Simulated seconds until all jobs have ended; ``clock[0]`` is the time, as it passes."""
    sizes = {job.input[0]: job.size for job in dag.jobs}
    waits = {job: len(job.parents) for job in dag.jobs}
    children: dict[Job, list[Job]] = {job: [] for job in dag.jobs}
    for job in dag.jobs:
        for parent in job.parents:
            children[parent].append(job)
    ready = {job: None for job in dag.jobs if not job.parents}
    left, free = dict.fromkeys(dag.jobs), {"_cores": cores, "_job_count": 2**62}
    running: list[tuple[float, int, Job]] = []
    count, began = 0, clock[0]
    while ready or running:
        if ready and free["_cores"] > 0:
            asked = list(ready)
            look(asked)
            found = select(asked, list(left), free, sizes) if len(asked) > 1 else None
            if found is None:
                found = input_first(asked, None, free, sizes)
            for job in found:
                del ready[job], left[job]
                free["_cores"] -= job.amounts["_cores"]
                heapq.heappush(running, (clock[0] + job.run_s, count, job))
                count += 1
        if not running:
            raise AssertionError("nothing runs and nothing was selected")
        clock[0] = running[0][0]
        while running and running[0][0] <= clock[0]:
            _, _, job = heapq.heappop(running)
            dag.ended.add(job)
            free["_cores"] += job.amounts["_cores"]
            for child in children[job]:
                waits[child] -= 1
                if waits[child] == 0:
                    ready[child] = None
    return clock[0] - began
