"""Snakemake scheduler plugin: the longest remaining chain first, by learned run times of rules."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from snakemake_interface_scheduler_plugins.base import SchedulerBase

from snakemake_scheduler_plugin_plancast.graph import Graph
from snakemake_scheduler_plugin_plancast.records import Records, benchmark_of
from snakemake_scheduler_plugin_plancast.settings import SchedulerSettings

Floats = NDArray[np.float64]

SAVE_EVERY_S = 30.0
LOOK_EVERY = 256
"""Jobs looked at between two looks at the clock."""


class OutOfTime(Exception):
    """A selection takes longer than it may."""


class Scheduler(SchedulerBase):
    """Selects jobs by the longest chain that waits for them."""

    clock = staticmethod(time.time)

    def __post_init__(self) -> None:
        settings = self.settings if isinstance(self.settings, SchedulerSettings) else None
        settings = settings or SchedulerSettings()
        self.seconds = 5.0 if settings.seconds is None else settings.seconds
        self.records = Records(Path(settings.records) if settings.records else None)
        self.graph = Graph()
        self.running: dict[int, float] = {}
        self.saved_s = self.clock()
        self.said = self.said_unsaved = False
        atexit.register(self.close)

    def dag_updated(self) -> None:
        """Nothing: jobs that are new are seen in the next selection."""

    def select_jobs(
        self,
        selectable_jobs: Iterable[Any],
        remaining_jobs: Sequence[Any],
        available_resources: Mapping[str, int | str],
        input_sizes: Mapping[Any, int | None],
    ) -> list[Any] | None:
        """Jobs to start now; None where Snakemake shall select.

        Parameters
        ----------
        selectable_jobs : iterable of jobs
            Ready to run.
        remaining_jobs : sequence of jobs
            All that have not started.
        available_resources : mapping
            Free amounts by name.
        input_sizes : mapping
            Bytes of the inputs of ready jobs.
        """
        until = time.perf_counter() + self.seconds
        ready = list(selectable_jobs)
        try:
            self._see(ready, until)
            if len(remaining_jobs) != len(ready):
                self._see(remaining_jobs, until)
            return self._select(ready, available_resources, input_sizes)
        except Exception as fault:
            if not self.said:
                said = "out of time" if isinstance(fault, OutOfTime) else repr(fault)
                self._warn(f"{said}; Snakemake's greedy scheduler selects instead")
                self.said = True
            return None

    def close(self) -> None:
        """Keep what was learned; the last jobs end unseen, so their outputs tell when."""
        try:
            self._learn_ended(by_outputs=True)
            for place in self.graph.unread():
                if all(self.dag.finished(member) for member in members_of(self.graph.jobs[place])):
                    self._read_benchmark(place)
            self._save()
        except Exception:
            self.said = True

    # -- inner workings ------------------------------------------------------------------

    def _select(
        self,
        selectable: list[Any],
        available: Mapping[str, int | str],
        input_sizes: Mapping[Any, int | None],
    ) -> list[Any]:
        self._learn_ended()
        graph = self.graph
        ready = np.array([graph.place_of(job) for job in selectable], np.int64)
        size = self._sizes(ready, input_sizes)
        rule = np.array(graph.rule, np.int64)[ready]
        slopes, means = self.records.slopes_of(graph.rules)
        # Of a ready job the size of its inputs is known; of later ones it is not.
        every = graph.ranks(self.records.seconds_of(graph.rules))
        # What waits for a group waits for one of its jobs.
        ranks = every[ready]
        for at in np.flatnonzero(np.isin(ready, list(graph.members))).tolist():
            ranks[at] = every[graph.places_of(int(ready[at]))].max()
        ranks = ranks + slopes[rule] * (size - means[rule])
        free = {name: amount for name, amount in available.items() if isinstance(amount, int)}
        chosen: list[Any] = []
        for place in graph.in_order(ready, ranks, size, free):
            job = graph.jobs[place]
            # Asked anew: a job that is tried again may want more than the last time.
            wants = amounts_of(job, free)
            if any(wants[name] > free[name] for name in free):
                graph.update(place, wants)
                continue
            for name in free:
                free[name] -= wants[name]
            chosen.append(job)
        now = self.clock()
        for job in chosen:
            self.running[graph.place_of(job)] = now
        if now > self.saved_s + SAVE_EVERY_S:
            self._save()
            self.saved_s = now
        return chosen

    def _save(self) -> None:
        """Keep what was learned; a folder that cannot be written is no reason to select worse."""
        try:
            self.records.save()
        except OSError as fault:
            if not self.said_unsaved:
                self._warn(f"run times of rules are not kept for later runs: {fault}")
                self.said_unsaved = True

    def _warn(self, text: str) -> None:
        (self.logger or logging.getLogger(__name__)).warning(f"plancast: {text}")

    def _sizes(self, ready: NDArray[np.int64], sizes: Mapping[Any, int | None]) -> Floats:
        """Bytes of inputs of ready jobs, looked up once a job, shape (n,)."""
        found: Floats = np.array(self.graph.size)[ready]
        for at in np.flatnonzero(found < 0).tolist():
            place = int(ready[at])
            inputs = {p for m in members_of(self.graph.jobs[place]) for p in m.input}
            found[at] = self.graph.size[place] = float(sum(sizes.get(p) or 0 for p in inputs))
        return found

    def _see(self, jobs: Sequence[Any], until: float) -> None:
        """Take new jobs and what they depend on into the graph."""
        graph = self.graph
        fresh = graph.unseen(jobs)
        groups = [job for job in fresh if members_of(job) != [job]]
        # Groups last: one whose jobs are forgotten is forgotten, too.
        single = {id(m): m for job in groups for m in graph.unseen(members_of(job))}
        single |= {id(job): job for job in fresh}
        for job in groups:
            del single[id(job)]
        fresh = [*single.values(), *groups]
        connected = 0
        try:
            for number, job in enumerate(fresh):
                self._in_time(number, until)
                place = graph.add(job, rule_of(job), float(job.priority), amounts_of(job, None))
                if number >= len(single):
                    graph.members[place] = members_of(job)
                if self.records.wants(graph.rules[graph.rule[place]]):
                    self._read_benchmark(place)
            for job in single.values():
                self._in_time(connected, until)
                for parent in self.dag.job_dependencies(job):
                    graph.connect(parent, job)
                connected += 1
            connected = len(fresh)
        finally:
            # They are new again where what they wait for is not known.
            graph.forget(fresh[connected:])

    @staticmethod
    def _in_time(number: int, until: float) -> None:
        if number % LOOK_EVERY == 0 and time.perf_counter() > until:
            raise OutOfTime

    def _learn_ended(self, by_outputs: bool = False) -> None:
        now = self.clock()
        for place in list(self.running):
            job = self.graph.jobs[place]
            if all(self.dag.finished(member) for member in members_of(job)):
                began = self.running.pop(place)
                read = [self._read_benchmark(one) for one in self.graph.places_of(place)]
                if not any(read):
                    ended = written_s(job, began, now)
                    if ended is None and not by_outputs:
                        ended = now
                    if ended is not None:
                        size = max(self.graph.size[place], 0.0)
                        self.records.learn(self._rule(place), ended - began, 0.0, size)

    def _read_benchmark(self, place: int) -> bool:
        """Learn from a job's benchmark file; whether there was something new."""
        found = benchmark_of(self.graph.jobs[place])
        if found is None or self.graph.benchmarks.get(place) == found[0]:
            return False
        self.graph.benchmarks[place] = found[0]
        size = max(self.graph.size[place], 0.0)
        self.records.learn(self._rule(place), found[1], found[2], size)
        return True

    def _rule(self, place: int) -> str:
        return self.graph.rules[self.graph.rule[place]]


def members_of(job: Any) -> list[Any]:
    """The single jobs of a group job, or the job itself."""
    jobs = getattr(job, "jobs", None)
    if jobs is None:
        return [job]
    return list(jobs() if callable(jobs) else jobs)


def rule_of(job: Any) -> str:
    """The name of a job's rule; the interface shows none, so that nothing is taken for granted."""
    names = set()
    for member in members_of(job):
        name = getattr(getattr(member, "rule", None), "name", None)
        names.add(name if isinstance(name, str) and name else "?")
    return "+".join(sorted(names))


def amounts_of(job: Any, names: Mapping[str, int] | None) -> dict[str, int]:
    """What a job takes of each resource (of `names`, or of all that it names)."""
    wants = job.scheduler_resources
    if names is None:
        return {name: amount for name, amount in wants.items() if isinstance(amount, int)}
    found = {name: wants.get(name, 0) for name in names}
    return {name: amount if isinstance(amount, int) else 0 for name, amount in found.items()}


def written_s(job: Any, began_s: float, now_s: float) -> float | None:
    """When a job's outputs were last written; None where that is not between start and now."""
    times = []
    for member in members_of(job):
        for path in member.output:
            try:
                times.append(Path(str(path)).stat().st_mtime)
            except OSError:
                continue
    return max(times) if times and began_s <= max(times) <= now_s else None
