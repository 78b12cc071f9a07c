"""Deadlines that cannot be kept, in the words of whoever wrote them."""

from __future__ import annotations

from plancast.planner.model.domain import BadRequest
from plancast.planner.model.explain import is_date, moment


def refuse_passed(task: str, deadline_s: int | None, begins_s: int, released: bool) -> None:
    """Raise a BadRequest where a deadline lies before all that its task may do.

    Parameters
    ----------
    task : str
    deadline_s : int, optional
    begins_s : int
        The task's release, epoch seconds.
    released : bool
        Whether a column of the task's row names it; else it is the moment of planning.
    """
    # Of a clock of the user's own, or as seconds, the task's own check says it as well.
    if deadline_s is None or deadline_s >= begins_s or not is_date(begins_s):
        return
    of, remedy = "its release_s (else submit_s)", "correct one of them"
    if not released:
        of = "the moment of planning"
        remedy = "correct it, leave it empty, or name that moment: now_s of the cluster file"
    passed = f"task {task}: deadline_s {moment(deadline_s)} lies before {of}"
    raise BadRequest(f"{passed}, {moment(begins_s)}; {remedy}")
