"""What a schedule costs, by the coefficients of ``rates``; the evaluator has its own arithmetic.

Times are seconds after now, int64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plancast.planner.arrays.jit import brief, inner


class Priced(NamedTuple):
    """What the cost of a schedule depends on besides the schedule and the coefficients.

    Parameters
    ----------
    raw_release, deadline : int64 (tasks,)
    weight : float64 (tasks,)
    owner, kind : int64 (tasks,)
    shard_ptr : int64 (tasks + 1,)
    share : float64 (kinds, workers)
        Dominant share.
    health : float64 (workers,)
    free_from : int64 (workers,)
    last_end, on, load_h : (workers,)
        What the running tasks contribute.
    owner_wait_h, owner_tasks : float64 (owners,)
    """

    raw_release: np.ndarray
    deadline: np.ndarray
    weight: np.ndarray
    owner: np.ndarray
    kind: np.ndarray
    shard_ptr: np.ndarray
    share: np.ndarray
    health: np.ndarray
    free_from: np.ndarray
    last_end: np.ndarray
    on: np.ndarray
    load_h: np.ndarray
    owner_wait_h: np.ndarray
    owner_tasks: np.ndarray


@inner
def task_cost(rates, weight, release, deadline, start, end):
    """What a task adds to the sums over tasks, without its workers."""
    cost = rates.wait * (start - release)
    if end > deadline:
        cost += rates.late * (end - deadline) + rates.miss
    if rates.slowdown > 0.0:
        cost += rates.slowdown * (end - release) / max(end - start, 10)
    return weight * cost


@inner
def piece_cost(rates, health, w, share, duration):
    """What a piece on worker w adds to the sums over pieces."""
    cost = rates.busy[w] * share * duration
    if rates.fail > 0.0:
        cost += rates.fail * (1.0 - health[w] ** (duration / 3600.0))
    return cost


@brief
def own_costs(rates, facts, start, end, worker):
    """What the tasks of a schedule add to the sums over tasks and over pieces."""
    cost = 0.0
    for i in range(start.shape[0]):
        cost += task_cost(
            rates, facts.weight[i], facts.raw_release[i], facts.deadline[i], start[i], end[i]
        )
        for p in range(facts.shard_ptr[i], facts.shard_ptr[i + 1]):
            w = worker[p]
            share = facts.share[facts.kind[i], w]
            cost += piece_cost(rates, facts.health, w, share, end[i] - start[i])
    return cost


@brief
def schedule_cost(rates, facts, start, end, worker):
    """The cost of a whole schedule but for moves.

    Parameters
    ----------
    rates : rates.Rates
    facts : Priced
    start, end : int64 (tasks,)
    worker : int64 (pieces,)
    """
    last_end, used, load_h = facts.last_end.copy(), facts.on.copy(), facts.load_h.copy()
    wait_h = facts.owner_wait_h.copy()
    makespan = 0
    for i in range(start.shape[0]):
        wait_h[facts.owner[i]] += (start[i] - facts.raw_release[i]) / 3600.0
        for p in range(facts.shard_ptr[i], facts.shard_ptr[i + 1]):
            w = worker[p]
            load_h[w] += facts.share[facts.kind[i], w] * (end[i] - start[i]) / 3600.0
            last_end[w] = max(last_end[w], end[i])
            used[w] = True
    cost = rates.fixed + own_costs(rates, facts, start, end, worker)
    most_load, longest_wait = 0.0, 0.0
    for w in range(used.shape[0]):
        makespan = max(makespan, last_end[w])
        most_load = max(most_load, load_h[w])
        if used[w]:
            cost += rates.idle[w] * max(0, last_end[w] - facts.free_from[w])
            if not facts.on[w]:
                cost += rates.boot[w]
    for o in range(wait_h.shape[0]):
        longest_wait = max(longest_wait, wait_h[o] / facts.owner_tasks[o])
    cost += rates.end * makespan
    return cost + 3600.0 * (rates.load * most_load + rates.owner * longest_wait)
