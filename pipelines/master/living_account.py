"""What tasks of a living master cost as they were promised, and as they ran."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from plancast.pipelines.master.state import State, estimates_from
from plancast.pipelines.master.submitted import task_of
from plancast.pipelines.master.tables import orders, tasks
from plancast.planner.arrays.rates import without_moves
from plancast.planner.model.domain import ANY_CLASS, Assignment, DurationEstimate, Plan, Snapshot
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest


def living_account(state: State) -> dict[str, Any]:
    """Cost of all tasks that ran to an end, by the evaluator.

    Returns
    -------
    dict
        ``tasks``; ``planned_cost``: each where and when it was promised to run;
        ``realised_cost``: where and when it did. Both under the policy of today, from the first
        submission on.
    """
    ran = (tasks.c.state == "ended") & tasks.c.start_s.is_not(None) & tasks.c.planned.is_not(None)
    rows = state.base.execute(sa.select(tasks).where(ran)).all()
    if not rows:
        return {"tasks": 0, "planned_cost": None, "realised_cost": None}
    where = dict(_workers(state))
    planned, real, pending = [], [], []
    estimates: dict[str, Any] = {}
    known = {row.id for row in rows}
    for row in rows:
        task = task_of(row)
        workers, start_s, end_s = json.loads(row.planned)
        pending.append(replace(
            task, requires=(), release_s=max(task.release_s, row.submitted_s), counted={},
            after=tuple(b for b in task.after if b in known), depends=(),
        ))  # fmt: skip
        planned.append(Assignment(row.id, tuple(workers), start_s, end_s))
        real.append(Assignment(row.id, where[row.id], row.start_s, row.end_s))
        estimates.update(
            estimates_from(row.estimates) if row.estimates else
            {row.id: {ANY_CLASS: DurationEstimate.certain(task.requested_s or 1)}}
        )  # fmt: skip
    first = state.first_request()
    now_s = min(row.submitted_s for row in rows)
    policy = replace(without_moves(first.policy), scenarios=())
    request = PlanRequest(
        "account", Snapshot(0, now_s, first.snapshot.workers, tuple(pending)), estimates, policy
    )
    return {
        "tasks": len(rows),
        "planned_cost": evaluate(request, Plan(tuple(planned), (), now_s, 0)).cost,
        "realised_cost": evaluate(request, Plan(tuple(real), (), now_s, 0), realised=True).cost,
    }


def _workers(state: State) -> list[tuple[str, tuple[str, ...]]]:
    """Where each task ran at last."""
    asked = sa.select(orders.c.task, orders.c.workers).where(orders.c.state == "ended")
    rows = state.base.execute(asked.order_by(orders.c.attempt))
    return [(task, tuple(json.loads(workers))) for task, workers in rows]
