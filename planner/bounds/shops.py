"""Lower bounds on the makespan of shops: machines, work, and what must be done in a window."""

from __future__ import annotations

import numpy as np
import scipy

from plancast.planner.arrays.graph import priority_order, successors
from plancast.planner.arrays.problem import Floats, Ints
from plancast.planner.bounds.levels import raised_heads, window_makespan

MOST_SHARES = 20_000
"""Task-class pairs beyond which the program over shares takes seconds."""
MOST_TASKS = 2_000
"""Beyond this many the windows take more than half a second."""


def busiest_machine_s(duration: Ints) -> int:
    """Work of the machine that has most tasks of no other.

    Parameters
    ----------
    duration : int64 (tasks, machines)
        Seconds; 0 where a task may not run.
    """
    only = (duration > 0).sum(axis=1) == 1
    return int(duration[only].sum(axis=0).max(initial=0))


def work_of(duration: Ints, machines: Ints) -> Floats:
    """Seconds of all machines that each task takes at least, wherever it runs. Shape (tasks,).

    No plan does a set of tasks in less time than the sum of theirs.

    Parameters
    ----------
    duration : int64 (tasks, classes)
    machines : int64 (classes,)
        How many there are of each.

    Notes
    -----
    With x the share of each task on each class: least M such that the shares of a task sum to 1
    and the work of each class is at most n M. The prices v of the classes' time, n v summing to
    1, are what is used of it: a task takes the least v d over its classes. That bounds for any v,
    so the tolerance of the LP solver does not matter.
    """
    tasks, classes = duration.shape
    task, column = np.nonzero(duration)
    price = np.zeros(classes)
    if len(task) == tasks or len(task) > MOST_SHARES:
        # No choice, or the program takes longer than it tells: the busiest class alone.
        price[np.argmax(duration.sum(axis=0) / machines)] = 1.0
    else:
        shares = len(task)
        last = np.full(classes, shares)
        work = scipy.sparse.coo_matrix(
            (
                np.concatenate([duration[task, column], -machines]).astype(np.float64),
                (np.concatenate([column, np.arange(classes)]),
                 np.concatenate([np.arange(shares), last])),
            )
        )  # fmt: skip
        sums = scipy.sparse.coo_matrix(
            (np.ones(shares), (task, np.arange(shares))), shape=(tasks, shares + 1)
        )
        found = scipy.optimize.linprog(
            np.append(np.zeros(shares), 1.0), A_ub=work, b_ub=np.zeros(classes),
            A_eq=sums, b_eq=np.ones(tasks), method="highs",
        )  # fmt: skip
        if found.status == 0:
            price = np.maximum(0.0, -found.ineqlin.marginals)
    total = float((machines * price).sum())
    if total <= 0:
        return np.zeros(tasks)
    result: Floats = np.where(duration > 0, duration * (price / total), np.inf).min(axis=1)
    return result


def shop_makespan_s(duration: Ints, release: Ints, pred_ptr: Ints, pred: Ints) -> int:
    """A makespan in whole seconds that no plan of a shop beats.

    Parameters
    ----------
    duration : int64 (tasks, machines)
        Seconds; 0 where a task may not run.
    release : int64 (tasks,)
    pred_ptr, pred : int64
        Predecessors, CSR.

    Notes
    -----
    Heads and tails are raised by what must be done before and after each task: a task that joins
    a hundred others waits until all of them are done, not only the longest. Then each window
    from a head to a tail must have room for all that lies within it.
    """
    columns, machines = np.unique(duration, axis=1, return_counts=True)
    columns = np.ascontiguousarray(columns)
    work = work_of(columns, machines)
    floor = max(busiest_machine_s(duration), int(np.ceil(work.sum() * (1 - 1e-9) - 1e-6)))
    tasks = len(duration)
    if tasks > MOST_TASKS:
        return floor
    shortest = np.where(columns > 0, columns, columns.max() + 1).min(axis=1)
    order = priority_order(np.zeros(tasks), pred_ptr, pred)
    longest_first = np.argsort(-shortest, kind="stable")
    here = (shortest, work, longest_first, columns, machines)
    head = raised_heads(order, release, *here, pred_ptr, pred)
    succ_ptr, succ = successors(pred_ptr, pred)
    nothing = np.zeros(tasks, np.int64)
    rest = raised_heads(np.ascontiguousarray(order[::-1]), nothing, *here, succ_ptr, succ)
    return max(floor, int(window_makespan(head, rest, *here)))
