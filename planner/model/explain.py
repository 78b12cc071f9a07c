"""Plans in words: why a planned task waits, when, and how long."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from plancast.planner.model.counted import Use, units_in_words
from plancast.planner.model.domain import (
    Assignment,
    DependencyKind,
    Plan,
    Task,
    in_words,
)
from plancast.planner.model.energy import integral
from plancast.planner.model.evaluate import holds_of, hourly_rates
from plancast.planner.model.messages import PlanRequest
from plancast.planner.model.spans import in_mode_s, running_end_s, spans_of

DAY_S = 86_400


def clock(at_s: int, now_s: int) -> str:
    """A moment as hours and minutes UTC; with the date where it is not within a day of now."""
    form = "%H:%M" if abs(at_s - now_s) < DAY_S else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.gmtime(at_s))


def span(seconds: float) -> str:
    """A length of time in the unit that fits it."""
    size = abs(seconds)
    for unit, unit_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if size >= 2 * unit_s:
            return f"{seconds / unit_s:.3g} {unit}"
    return f"{seconds:g} s"


def is_date(at_s: float) -> bool:
    """Whether a moment is of the calendar (1973 to 5138), and not of a clock of the user's own."""
    return 10**8 <= at_s < 10**11


def moment(at_s: float) -> str:
    """A moment as people write it; of a clock of the user's own, its second."""
    if not is_date(at_s):
        return f"second {at_s:g}"
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def some_of(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def explain_waits(request: PlanRequest, plan: Plan) -> dict[str, str]:
    """For each task that starts late or is done slowly, the constraint that holds it back.

    Parameters
    ----------
    request : PlanRequest
    plan : Plan
        Valid for the request.

    Returns
    -------
    dict of str to str
        Only tasks that start after their release (and after now), or for which a budget has no
        more room for a faster mode.
    """
    snapshot = request.snapshot
    now = snapshot.now_s
    end_of = {a.task: a.end_s for a in plan.assignments}
    start_of = {a.task: a.start_s for a in plan.assignments}
    for ended in snapshot.finished:
        end_of[ended.id] = ended.end_s
        start_of[ended.id] = ended.end_s if ended.start_s is None else ended.start_s
    ends_on: dict[str, dict[int, str]] = defaultdict(dict)
    for assignment in plan.assignments:
        for worker in assignment.workers:
            ends_on[worker].setdefault(assignment.end_s, assignment.task)
    for run in snapshot.running:
        if run.task.id not in plan.preempted:
            start_of[run.task.id] = run.start_s
            end_of[run.task.id] = running_end_s(request, run)
            for worker in run.workers:
                ends_on[worker].setdefault(end_of[run.task.id], run.task.id)

    use = None
    if snapshot.counted:
        use = Use(snapshot, holds_of(request, plan, spans_of(request, plan)))
    why = {}
    left = left_of_budgets(request, plan)
    for task in snapshot.pending:
        planned = plan.by_task.get(task.id)
        if planned is None:
            continue
        earliest_s = max(now, task.release_s)
        slower = _budget(request, task, planned.mode, left)
        if planned.start_s <= earliest_s:
            if slower:
                why[task.id] = slower
            continue
        cause = (
            _dependency(task, planned.start_s, start_of, end_of)
            or _licence(use, task, planned.start_s, now)
            or _room(request, planned.start_s, ends_on, planned.workers)
            or _energy(request, planned, earliest_s)
            or "by choice of the plan: no cheaper earlier start was found"
        )
        why[task.id] = f"waits {planned.start_s - earliest_s} s {cause}"
        why[task.id] += f", and {slower}" if slower else ""
    return why


def left_of_budgets(request: PlanRequest, plan: Plan) -> dict[str, int]:
    """What running and planned tasks leave of each budget."""
    snapshot = request.snapshot
    left = dict(snapshot.budgets)
    if not left:
        return left
    ways = [run.done for run in snapshot.running]
    ways += [snapshot.pending_by_id[a.task].in_mode(a.mode) for a in plan.assignments
             if a.task in snapshot.pending_by_id]  # fmt: skip
    for way in ways:
        for name in left.keys() & way.demand.keys():
            left[name] -= way.demand[name]
    return left


def _budget(request: PlanRequest, task: Task, mode: str, left: Mapping[str, int]) -> str:
    """That a budget leaves no room for a task's fastest mode, in words; nothing where it does."""
    if not left or not task.modes:
        return ""
    own = task.in_mode(mode).demand
    over: dict[str, str] = {}
    for other in task.modes:
        for name, amount in other.demand.items():
            if name in left and amount > max(0, left[name] + own.get(name, 0)):
                over[other.id] = name
    seconds = {name: in_mode_s(request, task, name) for name in (*over, mode)} if over else {}
    faster = [(s, name) for name, s in seconds.items() if name in over and s is not None]
    if not faster or min(faster)[0] >= (seconds[mode] or 0):
        return ""
    name = min(faster)[1]
    budget, room = over[name], max(0, left[over[name]] + own.get(over[name], 0))
    takes = in_words(budget, task.in_mode(name).demand[budget])
    return (
        f"is done in its mode {mode}: {name} is faster and takes {takes}, of which the budget has "
        f"{room} left"
    )


def _dependency(task: Task, start_s: int, start_of: dict[str, int], end_of: dict[str, int]) -> str:
    """The dependency that a start follows at once, in words; nothing where none does."""
    for on in task.dependencies:
        starts = on.kind is DependencyKind.AFTER
        since = (start_of if starts else end_of).get(on.task)
        if since is not None and since + on.lag_s == start_s:
            what = "start" if starts else "end"
            if on.lag_s:
                return f"for {on.lag_s} s to pass since the {what} of its predecessor {on.task}"
            return f"for its predecessor {on.task} to {what}"
    return ""


def _licence(use: Use | None, task: Task, start_s: int, now_s: int) -> str:
    """The counted resource that a task could not have had earlier, and who gives it back."""
    name = None if use is None else use.short(task, start_s)
    if use is None or name is None:
        return ""
    wanted = f"for {units_in_words(name, task.counted[name])}"
    at = clock(start_s, now_s)
    for hold in use.ending[name, start_s]:
        freed = hold.task.counted[name]
        return f"{wanted}; {hold.task.id} frees {freed if freed > 1 else 'one'} at {at}"
    return f"{wanted}; there are more from {at} on"


def _room(
    request: PlanRequest,
    start_s: int,
    ends_on: dict[str, dict[int, str]],
    workers: tuple[str, ...],
) -> str:
    for name in workers:
        blocker = ends_on[name].get(start_s)
        if blocker is not None:
            return f"for {blocker} to end on worker {name}"
        worker = request.snapshot.worker_by_id[name]
        if worker.free_from_s == start_s:
            return f"for worker {name} to become free"
        if any(window.end_s == start_s for window in worker.blocked):
            return f"for a blocked window of worker {name} to pass"
    return ""


def _energy(request: PlanRequest, planned: Assignment, earliest_s: int) -> str:
    """That energy costs less, or is cleaner, over a run than at its earliest; else nothing."""
    lasts_s = planned.end_s - planned.start_s
    for name in planned.workers:
        worker = request.snapshot.worker_by_id[name]
        for less, unit, rate in hourly_rates(request.policy.prices, worker):
            then = integral(rate, planned.start_s, planned.end_s) / lasts_s
            early = integral(rate, earliest_s, earliest_s + lasts_s) / lasts_s
            if then < early:
                at = clock(planned.start_s, request.snapshot.now_s)
                return f"{less}: {then:.3g}{unit} a kWh from {at} on, not {early:.3g}"
    return ""
