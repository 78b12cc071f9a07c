"""What running and planned tasks are expected to take, as the arrays have it.

The evaluator has its own words for the same two facts (``evaluate.running_end_s`` and
``planned_duration_s``): what is judged shares no arithmetic with its judge, and a property test
compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable

from plancast.planner.model.domain import DurationEstimate, Running, Worker, estimate_for
from plancast.planner.model.messages import PlanRequest


def expected_end_s(request: PlanRequest, run: Running, at_s: int | None = None) -> int:
    """When a running task is expected to end, seconds since the epoch.

    Parameters
    ----------
    request : PlanRequest
    run : Running
    at_s : int, optional
        The moment at which it is known to run still; now by default.

    Notes
    -----
    The latest of its pieces at ``policy.level``, given that each has lasted so long; at least a
    second after `at_s`, and else no later than its kill limit.
    """
    moment = request.snapshot.now_s if at_s is None else at_s
    on = (request.snapshot.worker_by_id[name] for name in run.workers)
    known = _estimates(request, run.task.id, on, run.mode)
    level, lasted = request.policy.level, moment - run.start_s
    ends = [moment + e.remaining_at(level, lasted) for e in known if e is not None]
    end_s = max(ends, default=moment + 1)
    limit_s = run.done.requested_s
    if limit_s is not None:
        end_s = min(end_s, run.start_s + limit_s)
    return max(end_s, moment + 1)


def reserved_s(
    request: PlanRequest, task_id: str, workers: Iterable[Worker], mode: str = ""
) -> int | None:
    """Seconds that a plan reserves for a task on these workers: as its slowest piece takes.

    None where one of them is not eligible.
    """
    level = request.policy.level
    longest = 0
    for estimate in _estimates(request, task_id, workers, mode):
        if estimate is None:
            return None
        longest = max(longest, estimate.at(level))
    return longest


def _estimates(
    request: PlanRequest, task_id: str, workers: Iterable[Worker], mode: str
) -> list[DurationEstimate | None]:
    """A task's estimate on each worker, in order."""
    return [estimate_for(request.estimates, task_id, w.machine_class, mode) for w in workers]
