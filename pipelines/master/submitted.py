"""What is kept of tasks that were submitted, as the loop reads and writes it."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from plancast.pipelines.master.database import Writer
from plancast.pipelines.master.tables import asks, orders, plans, tasks
from plancast.planner.model.domain import Assignment, Outcome, Task
from plancast.planner.model.messages import from_json

MOST_ASKS = 500
"""Asks that are done at once: the cluster is attended to in between."""
OUTSIDE = ("submitted", "held", "behind")
"""States of tasks that are not in the plan yet."""
ENDED = tasks.c.state == "ended"


class Submitted:
    """The tables of asks and tasks, by one connection: the loop's own, or a reader's."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def untaken(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Number, kind and body of asks that stand there, in order."""
        asked = sa.select(asks).where(asks.c.taken == 0).order_by(asks.c.number).limit(MOST_ASKS)
        return [(row.number, row.kind, json.loads(row.body)) for row in self._all(asked)]

    def take(self, number: int) -> None:
        """An ask was done."""
        self._write(sa.update(asks).where(asks.c.number == number).values(taken=1))

    def next(self, most: int) -> list[Any]:
        """Tasks that come into the plan next: what matters more first, then what came first."""
        asked = sa.select(tasks).where(tasks.c.state == "submitted")
        return self._all(asked.order_by(tasks.c.weight.desc(), tasks.c.number).limit(most))

    def outside(self, names: Collection[str]) -> set[str]:
        """Those of some tasks that are not in the plan yet."""
        there = tasks.c.id.in_(names) & tasks.c.state.in_(OUTSIDE)
        asked = sa.select(tasks.c.id).where(there)
        return {name for (name,) in self.writer.base.execute(asked)}

    def put_behind(self, name: str, before: str) -> None:
        """A task comes into the plan after another one has."""
        self._change(name, state="behind", waits_for=before)

    def let_in(self, name: str) -> None:
        """A task is in the plan; those behind it may come."""
        self._change(name, state="taken")
        self._free(name)

    def move(self, name: str, state: str) -> None:
        """Hold a task that is outside the plan, or release it."""
        self._change(name, state=state, waits_for=None)

    def weigh(self, name: str, weight: float) -> None:
        """A task matters so much."""
        self._change(name, weight=weight)

    def _free(self, name: str) -> None:
        behind = (tasks.c.waits_for == name) & (tasks.c.state == "behind")
        self._write(sa.update(tasks).where(behind).values(state="submitted", waits_for=None))

    def command_of(self, task: str) -> str:
        """The command that a task was submitted with; empty for none."""
        asked = sa.select(asks.c.body).join(tasks, tasks.c.ask == asks.c.number)
        body = self.writer.base.execute(asked.where(tasks.c.id == task)).scalar()
        return "" if body is None else str(json.loads(body).get("command", ""))

    def promise(self, name: str, promised_s: int | None, planned: Assignment | None) -> None:
        """By when a task starts with 90%, and where; None for no promise."""
        row = None if planned is None else [planned.workers, planned.start_s, planned.end_s]
        self._change(name, promised_s=promised_s, planned=None if row is None else json.dumps(row))

    def started(self, name: str, at_s: int) -> None:
        """A task runs."""
        self._change(name, start_s=at_s)

    def ended(
        self, name: str, start_s: int | None, end_s: int, outcome: Outcome | None, reason: str
    ) -> None:
        """A task has ended; without an outcome it was refused."""
        word = "refused" if outcome is None else outcome.value
        self._change(name, state="ended", start_s=start_s, end_s=end_s, outcome=word, reason=reason)
        self._free(name)

    def row(self, name: str) -> Any:
        """All that is kept of a task; None where there is no such task."""
        return self.writer.base.execute(sa.select(tasks).where(tasks.c.id == name)).first()

    def ended_rows(self, since_number: int = 0) -> list[Any]:
        """Tasks that ran to their end, in order of their ends."""
        ran = ENDED & tasks.c.start_s.is_not(None) & (tasks.c.number > since_number)
        return self._all(sa.select(tasks).where(ran).order_by(tasks.c.end_s))

    def promises(self) -> dict[str, int | None]:
        """Of each task that waits or runs: by when it was promised to start, if it was."""
        asked = sa.select(tasks.c.id, tasks.c.promised_s).where(tasks.c.state == "taken")
        return {row.id: row.promised_s for row in self.writer.base.execute(asked)}

    def outcomes(self) -> dict[str, int]:
        """How many tasks have ended how."""
        asked = sa.select(tasks.c.outcome, sa.func.count()).where(ENDED).group_by(tasks.c.outcome)
        return dict(self.writer.base.execute(asked).all())

    def kept_and_broken(self) -> tuple[int, int]:
        """How many promised starts were kept, and how many were not."""
        late = sa.func.sum(sa.case((tasks.c.start_s > tasks.c.promised_s, 1), else_=0))
        promised = tasks.c.start_s.is_not(None) & tasks.c.promised_s.is_not(None)
        row = self.writer.base.execute(sa.select(sa.func.count(), late).where(promised)).one()
        broken = int(row[1] or 0)
        return row[0] - broken, broken

    def forget_plans(self) -> None:
        """Keep of all plans but the last what they cost, and no row."""
        last = sa.select(sa.func.max(plans.c.number)).scalar_subquery()
        old = (plans.c.number < last) & (plans.c.number >= last - 2)
        self._write(sa.update(plans).where(old).values(plan=b"", unplanned="{}"))

    def open_orders(self) -> set[str]:
        """Tasks of which orders matter still."""
        left = sa.select(tasks.c.id).where(tasks.c.state == "taken")
        asked = sa.select(orders.c.task).where(orders.c.task.in_(left)).distinct()
        return {name for (name,) in self.writer.base.execute(asked)}

    def _change(self, name: str, **values: Any) -> None:
        self._write(sa.update(tasks).where(tasks.c.id == name).values(**values))

    def _write(self, statement: Any) -> None:
        self.writer.write(statement)

    def _all(self, asked: Any) -> list[Any]:
        return list(self.writer.base.execute(asked).all())


def task_of(row: Any) -> Task:
    """The task of a row of the table, of the weight that it has by now."""
    return replace(from_json(Task, row.task), weight=row.weight)
