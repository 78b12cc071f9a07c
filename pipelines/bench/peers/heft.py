"""HEFT: upward rank, then the worker that ends a task first, gaps used.

References
----------
Topcuoglu, Hariri, Wu (2002), "Performance-effective and low-complexity task scheduling for
heterogeneous computing", doi:10.1109/71.993206. Here without communication.
"""

from __future__ import annotations

from bisect import insort

import numpy as np

from plancast.pipelines.bench.peers.base import (
    Answer,
    NotSuited,
    Rules,
    require_open,
    takes_whole_worker,
)
from plancast.planner.arrays.problem import Problem, Schedule


def heft(problem: Problem, rules: Rules) -> Answer:
    """The schedule of HEFT, for workers that run one task at a time.

    Parameters
    ----------
    problem : Problem
    rules : Rules
        It takes no notice of the limit: it is done in a moment.
    """
    require_open(problem)
    if not takes_whole_worker(problem):
        raise NotSuited("has workers that run several tasks at once")
    schedule = heft_schedule(problem)
    rules.observe(problem.cost(schedule), float("-inf"))
    return Answer(schedule)


def heft_schedule(problem: Problem) -> Schedule:
    """Upward rank over mean durations, insertion-based earliest finish."""
    tasks = len(problem.tasks)
    on_worker = [problem.durations_on(i) for i in range(tasks)]
    mean = [float(d[d > 0].mean()) for d in on_worker]
    followers: list[list[int]] = [[] for _ in range(tasks)]
    for i in range(tasks):
        for p in problem.predecessors(i):
            followers[int(p)].append(i)
    rank = [-1.0] * tasks
    for root in range(tasks):
        stack = [root]
        while stack:
            i = stack[-1]
            waiting = [f for f in followers[i] if rank[f] < 0]
            if waiting:
                stack += waiting
                continue
            rank[i] = mean[i] + max((rank[f] for f in followers[i]), default=0.0)
            stack.pop()
    start, end = np.zeros(tasks, np.int64), np.zeros(tasks, np.int64)
    worker = np.zeros(tasks, np.int64)
    busy: list[list[tuple[int, int]]] = [[] for _ in problem.workers]
    for i in sorted(range(tasks), key=lambda i: -rank[i]):
        ready = max([int(problem.release[i]), *(int(end[p]) for p in problem.predecessors(i))])
        finish = -1
        for w in np.flatnonzero(on_worker[i]):
            duration = int(on_worker[i][w])
            begin = _first_gap(busy[w], ready, duration)
            if finish < 0 or begin + duration < finish:
                start[i], end[i], worker[i] = begin, begin + duration, w
                finish = begin + duration
        insort(busy[int(worker[i])], (int(start[i]), int(end[i])))
    return Schedule(start, end, worker)


def _first_gap(busy: list[tuple[int, int]], ready: int, duration: int) -> int:
    """Earliest start at which a worker is idle for long enough."""
    begin = ready
    for busy_start, busy_end in busy:
        if begin + duration <= busy_start:
            break
        begin = max(begin, busy_end)
    return begin
