"""A peer: the reflex of a container scheduler, one task at a time on whatever is free now.

Written after the documented behaviour of Kubernetes' scheduler with ``LeastAllocated``:
tasks in order of arrival; filter the workers that fit now; score by the mean free share
that would be left; bind; whoever fits nowhere waits for the next end. It knows no
durations; they only decide when a task ends.
"""

from __future__ import annotations

import heapq

import numpy as np

from planner.problem import Problem, Schedule


def least_allocated(problem: Problem) -> Schedule:
    """The schedule of the reflex for single-shard tasks on workers that are always open."""
    tasks, capacity = len(problem.tasks), np.maximum(problem.capacity, 1)
    free = problem.capacity.copy()
    start, end = np.zeros(tasks, np.int64), np.zeros(tasks, np.int64)
    worker = np.zeros(tasks, np.int64)
    waiting_for = np.diff(problem.pred_ptr)
    followers: list[list[int]] = [[] for _ in range(tasks)]
    for i in range(tasks):
        for before in problem.predecessors(i):
            followers[before].append(i)
    arrivals = [(int(problem.release[i]), i) for i in range(tasks) if waiting_for[i] == 0]
    heapq.heapify(arrivals)
    ends: list[tuple[int, int]] = []
    queue: list[int] = []
    while arrivals or ends or queue:
        now = min(heap[0][0] for heap in (arrivals, ends) if heap)
        while ends and ends[0][0] == now:
            _, i = heapq.heappop(ends)
            free[worker[i]] += problem.demand[i]
            for follower in followers[i]:
                waiting_for[follower] -= 1
                if waiting_for[follower] == 0:
                    at = max(now, int(problem.release[follower]))
                    heapq.heappush(arrivals, (at, follower))
        while arrivals and arrivals[0][0] <= now:
            queue.append(heapq.heappop(arrivals)[1])
        hopeless: set[int] = set()  # kinds that fitted nowhere at this moment
        still = []
        for i in queue:
            kind = int(problem.kind[i])
            if kind not in hopeless:
                duration = problem.durations_on(i)
                left = free - problem.demand[i]
                fits = (left >= 0).all(axis=1) & (duration > 0)
                if fits.any():
                    score = np.where(fits, (left / capacity).mean(axis=1), -1.0)
                    w = int(score.argmax())
                    start[i], end[i], worker[i] = now, now + duration[w], w
                    free[w] -= problem.demand[i]
                    heapq.heappush(ends, (int(end[i]), i))
                    continue
                hopeless.add(kind)
            still.append(i)
        queue = still
    return Schedule(start, end, worker)
