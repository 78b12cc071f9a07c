"""What a living master shows: its queue, one task, its state. Read from other threads than its own.

All is made of what the loop last let be seen (``Living.shown``) and of what stands in the
database; nothing here waits for the loop.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from plancast.pipelines.engines.base import safe_name
from plancast.pipelines.master.desk import states_of
from plancast.pipelines.master.living import HELD, Living, Shown
from plancast.pipelines.master.outcome import tail
from plancast.pipelines.master.submitted import OUTSIDE, Submitted
from plancast.pipelines.master.tables import events, orders, tasks
from plancast.planner.model.domain import Task
from plancast.planner.model.spans import running_end_s
from plancast.planner.planning.expected_starts import Outlook

MOST_EVENTS = 500
"""Events that are read at once."""
PASSED_ON = ("task", "worker", "workers", "outcome", "until_s")
"""Fields of an event that are passed on."""


class Looks:
    """The questions that a living master answers.

    Parameters
    ----------
    living : Living
    """

    def __init__(self, living: Living) -> None:
        self.living = living
        self.reader = living.state.another_writer()
        self.submitted = Submitted(self.reader)
        self._reading = threading.Lock()
        self._looking = threading.Lock()
        self._outlooks: tuple[Any, Mapping[str, Outlook]] | None = None

    @property
    def shown(self) -> Shown:
        """What the loop last knew."""
        assert self.living.shown is not None
        return self.living.shown

    def queue(self, most: int) -> list[dict[str, Any]]:
        """Tasks that run, then those that wait in the order of their starts."""
        shown = self.shown
        snapshot, outlooks = shown.mind.snapshot, self._outlook(shown)
        rows = [self._of_run(shown, run.task.id) for run in snapshot.running[:most]]
        far = float("inf")
        waits = sorted(
            snapshot.pending,
            key=lambda t: outlooks[t.id].start_s if t.id in outlooks else far,
        )
        rows += [self._of_wait(shown, t, outlooks) for t in waits[: most - len(rows)]]
        return rows + self._outside(most - len(rows))

    def why(self, name: str) -> dict[str, Any]:
        """Where a task stands and what it waits for.

        Raises
        ------
        KeyError
            Where there is no such task.
        """
        shown = self.shown
        if name in shown.mind.snapshot.running_by_id:
            return self._of_run(shown, name)
        task = shown.mind.snapshot.pending_by_id.get(name)
        if task is not None:
            return self._of_wait(shown, task, self._outlook(shown))
        row = self._row(sa.select(tasks).where(tasks.c.id == name))
        if row is None:
            raise KeyError(name)
        if row.state != "ended":
            return _of_outside(row)
        return {
            "task": name, "state": row.outcome, "submitted_s": row.submitted_s,
            "start_s": row.start_s, "end_s": row.end_s, "promised_s": row.promised_s,
            "why": row.reason or f"it has ended as {row.outcome}",
        }  # fmt: skip

    def log(self, name: str) -> dict[str, Any]:
        """What a task's runs have printed: files, and the end of each.

        Raises
        ------
        KeyError
            Where there is no such task.
        """
        self.why(name)
        asked = sa.select(orders.c.attempt).where(orders.c.task == name).order_by(orders.c.attempt)
        with self._read() as base:
            attempts = [attempt for (attempt,) in base.execute(asked)]
        folder = self.living.output
        files = [] if folder is None else [f for a in attempts for f in _files(folder, name, a)]
        return {"task": name, "runs": [{"file": str(f), "tail": tail(f)} for f in files]}

    def status(self) -> dict[str, Any]:
        """The whole, in numbers."""
        shown = self.shown
        snapshot, now = shown.mind.snapshot, shown.mind.snapshot.now_s
        with self._read() as base:
            outcomes = self.submitted.outcomes()
            kept, broken = self.submitted.kept_and_broken()
            outside = sa.select(tasks.c.state, sa.func.count()).group_by(tasks.c.state)
            rows = base.execute(outside.where(tasks.c.state.in_(OUTSIDE)))
            states: dict[str, int] = dict(rows.all())
        held = sum(HELD in t.requires for t in snapshot.pending)
        return {
            "batch": self.living.state.batch,
            "engine": self.living.engine.name,
            "now_s": now,
            "waiting": len(snapshot.pending) - held,
            "held": held + states.get("held", 0),
            "running": len(snapshot.running),
            "submitted": states.get("submitted", 0) + states.get("behind", 0),
            "ended": outcomes,
            "workers": [
                {"id": w.id, "drained": w.id in shown.drained,
                 "open": w.until_s is None or w.until_s > now,
                 "running": sum(w.id in r.workers for r in snapshot.running)}
                for w in snapshot.workers if w.capacity
            ],
            "promises": {"kept": kept, "broken": broken + shown.late},
            "plan": {"cost": shown.mind.cost, "why": shown.reason,
                     "age_s": round(time.monotonic() - shown.planned_s, 1)},
            "model": {} if self.living.learner is None else dict(self.living.learner.facts),
            "event": shown.event,
        }  # fmt: skip

    def events(self, after: int) -> list[dict[str, Any]]:
        """What has happened after an event, by its number."""
        asked = sa.select(events.c.number, events.c.event).where(events.c.number > after)
        with self._read() as base:
            rows = base.execute(asked.order_by(events.c.number).limit(MOST_EVENTS))
            return [_shown_event(number, json.loads(text)) for number, text in rows]

    def states(self, names: list[str]) -> dict[str, str]:
        """State of those of some tasks that there are."""
        with self._read() as base:
            return states_of(base, names)

    def close(self) -> None:
        """Let go of the connection."""
        self.reader.close()

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        """The connection of those who look, one after the other."""
        with self._reading, self.reader.reading() as base:
            yield base

    def _outside(self, most: int) -> list[dict[str, Any]]:
        """Tasks that wait for a place in the plan, in the order in which they get one."""
        if most <= 0:
            return []
        asked = sa.select(tasks).where(tasks.c.state.in_(OUTSIDE))
        asked = asked.order_by(tasks.c.weight.desc(), tasks.c.number).limit(most)
        with self._read() as base:
            return [_of_outside(row) for row in base.execute(asked)]

    def _row(self, asked: Any) -> Any:
        with self._read() as base:
            return base.execute(asked).first()

    def _of_run(self, shown: Shown, name: str) -> dict[str, Any]:
        run, row = shown.mind.snapshot.running_by_id[name], shown.open.get(name)
        state = {"stopping": "stopping", "cancelling": "cancelling"}.get(row.state if row else "")
        return {
            "task": name, "state": state or "running", "owner": run.task.owner,
            "workers": list(dict.fromkeys(run.workers)), "start_s": run.start_s,
            "end_s": running_end_s(shown.mind.request, run), "why": "",
        }  # fmt: skip

    def _of_wait(self, shown: Shown, task: Task, outlooks: Mapping[str, Outlook]) -> dict[str, Any]:
        outlook, plan = outlooks.get(task.id), shown.mind.plan
        row = plan.by_task.get(task.id) if plan is not None else None
        found: dict[str, Any] = {
            "task": task.id, "state": "waiting", "owner": task.owner, "weight": task.weight,
            "promised_s": shown.promised.get(task.id),
        }  # fmt: skip
        hopeless = shown.mind.hopeless()
        if HELD in task.requires:
            return found | {"state": "held", "why": "it is held until it is released"}
        if outlook is not None:
            return found | {
                "start_s": outlook.start_s, "likely_s": outlook.half_s, "sure_s": outlook.sure_s,
                "workers": [] if row is None else list(dict.fromkeys(row.workers)),
                "why": outlook.text,
            }  # fmt: skip
        if task.id in hopeless:
            return found | {"state": "unplaceable", "why": hopeless[task.id]}
        if task.release_s > shown.mind.snapshot.now_s:
            return found | {"start_s": task.release_s, "why": "it waits for its release"}
        return found | {"why": "it has no place in the plan yet"}

    def _outlook(self, shown: Shown) -> Mapping[str, Outlook]:
        """Of all that waits; kept until the loop shows something else."""
        with self._looking:
            if self._outlooks is None or self._outlooks[0] is not shown:
                self._outlooks = (shown, shown.mind.why())
            return self._outlooks[1]


def _of_outside(row: Any) -> dict[str, Any]:
    states = {
        "held": ("held", "it is held until it is released"),
        "behind": ("submitted", f"it follows {row.waits_for}, which has no place in the plan yet"),
    }
    state, why = states.get(row.state, ("submitted", "it waits for a place in the plan"))
    return {"task": row.id, "state": state, "weight": row.weight, "why": why,
            "submitted_s": row.submitted_s}  # fmt: skip


def _files(folder: Path, task: str, attempt: int) -> Iterator[Path]:
    name = folder / f"{safe_name(task)}.{attempt}.log"
    yield from (f for f in (name, *sorted(folder.glob(f"{name.name}.*"))) if f.is_file())


def _shown_event(number: int, event: dict[str, Any]) -> dict[str, Any]:
    found = {"number": number, "kind": event["kind"], "at_s": event["at_s"]}
    for name in PASSED_ON:
        value = event.get(name)
        if isinstance(value, dict):
            value = value["id"]
        if value is not None:
            found[name] = value
    return found
