"""The reflex of a container scheduler: one task at a time on whatever is free now.

Written after the documented behaviour of Kubernetes' scheduler: tasks in order of arrival;
filter the workers that fit now; score by the mean share that would be left free
(``LeastAllocated``) or taken (``MostAllocated``); bind; whoever fits nowhere waits for the
next end. It knows no durations; they only decide when a task ends.
"""

from __future__ import annotations

import heapq

import numpy as np

from plancast.pipelines.bench.peers.base import Answer, Rules, require_open
from plancast.planner.arrays.problem import Floats, Ints, Problem, Schedule


def least_allocated(problem: Problem, rules: Rules) -> Answer:
    """Kubernetes' default: the worker with most left free."""
    return _answer(problem, rules, np.zeros(len(problem.tasks)), sign=1.0)


def most_allocated(problem: Problem, rules: Rules) -> Answer:
    """Kubernetes' packing profile: the fullest worker that still fits."""
    return _answer(problem, rules, np.zeros(len(problem.tasks)), sign=-1.0)


def earliest_deadline_first(problem: Problem, rules: Rules) -> Answer:
    """The packing profile with a queue in order of deadline; it does not wait for a fit."""
    return _answer(problem, rules, problem.deadline.astype(np.float64), sign=-1.0)


def _answer(problem: Problem, rules: Rules, urgency: Floats, sign: float) -> Answer:
    require_open(problem)
    schedule = reflex(problem, urgency, sign)
    rules.observe(problem.cost(schedule), float("-inf"))
    return Answer(schedule)


def reflex(problem: Problem, urgency: Floats, sign: float) -> Schedule:
    """The schedule of the reflex for single-shard tasks on workers that are always open.

    Parameters
    ----------
    problem : Problem
    urgency : float64 (tasks,)
        The queue is looked through in rising order, in order of arrival among equals.
    sign : float
        1 for the worker with most left free, -1 for least.
    """
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
        queue.sort(key=lambda i: urgency[i])  # stable: among equals in order of arrival
        hopeless: set[int] = set()  # kinds that fitted nowhere at this moment
        still = []
        for i in queue:
            kind = int(problem.kind[i])
            if kind not in hopeless:
                duration = problem.durations_on(i)
                w = _best_worker(free, problem.demand[i], duration, capacity, sign)
                if w >= 0:
                    start[i], end[i], worker[i] = now, now + duration[w], w
                    free[w] -= problem.demand[i]
                    heapq.heappush(ends, (int(end[i]), i))
                    continue
                hopeless.add(kind)
            still.append(i)
        queue = still
    return Schedule(start, end, worker)


def _best_worker(free: Ints, demand: Ints, duration: Ints, capacity: Ints, sign: float) -> int:
    left = free - demand
    fits = (left >= 0).all(axis=1) & (duration > 0)
    if not fits.any():
        return -1
    score = np.where(fits, sign * (left / capacity).mean(axis=1), -np.inf)
    return int(score.argmax())
