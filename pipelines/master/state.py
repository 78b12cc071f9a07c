"""What a master must not forget, in SQLite: a kill at any moment loses nothing that was said.

Three tables tell all: the request it began with, every event that was folded in, and every
order with its fate. What is known at any time is their replay.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.engines.base import Key
from planner.controller import Choice, Controller, ControlPolicy
from planner.domain import BadRequest, DurationEstimate, Estimates, Outcome, Plan
from planner.messages import Event, PlanRequest, from_json, to_json

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, event BLOB NOT NULL, estimates BLOB);
CREATE TABLE IF NOT EXISTS orders (
    task TEXT, attempt INTEGER, workers TEXT NOT NULL, state TEXT NOT NULL, ordered_s INTEGER,
    start_s INTEGER, end_s INTEGER, outcome TEXT, PRIMARY KEY (task, attempt));
CREATE TABLE IF NOT EXISTS plans (
    number INTEGER PRIMARY KEY, after_event INTEGER NOT NULL, choice TEXT NOT NULL,
    reason TEXT NOT NULL, at_s INTEGER NOT NULL, cost REAL, moved INTEGER, plan BLOB NOT NULL,
    unplanned TEXT NOT NULL);
"""
VERSION = b"1"
OPEN = ("ordered", "running", "stopping")


@dataclass
class OrderRow:
    """An order and its fate.

    Parameters
    ----------
    key : (str, int)
    workers : tuple of str
    state : str
        ``ordered``: written down, and perhaps sent. ``running``. ``stopping``: preempted by a
        plan in force, and told to stop. ``ended``. ``stopped``: it was preempted. ``void``: its
        worker died, or it never began.
    ordered_s : int
    start_s, end_s : int, optional
    outcome : Outcome, optional
    """

    key: Key
    workers: tuple[str, ...]
    state: str
    ordered_s: int
    start_s: int | None = None
    end_s: int | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan that was put in force."""

    choice: Choice
    reason: str
    at_s: int
    cost: float | None
    moved: int


class State:
    """The file of one master.

    Parameters
    ----------
    path : Path
        Made if it is not there.

    Raises
    ------
    BadRequest
        Where the file is something else, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.base = sqlite3.connect(path, isolation_level=None, timeout=30)
            self.base.execute("PRAGMA journal_mode=WAL")
            # A crash of the machine, not of the process, may lose what FULL would keep.
            self.base.execute("PRAGMA synchronous=FULL")
            self.base.executescript(SCHEMA)
            found = self.fact("version")
        except sqlite3.DatabaseError as error:
            raise BadRequest(f"{path}: is no state of a master ({error})") from None
        if found is None:
            self.set_fact("version", VERSION)
        elif found != VERSION:
            raise BadRequest(
                f"{path}: is of version {found.decode()}, this master writes {VERSION.decode()}"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is written inside, or none of it."""
        if self.base.in_transaction:
            yield
            return
        self.base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.base.execute("ROLLBACK")
            raise
        self.base.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self.base.close()

    # ------------------------------------------------------------------ facts and events

    def fact(self, name: str) -> bytes | None:
        """A named value, None if there is none."""
        row = self.base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def set_fact(self, name: str, value: bytes) -> None:
        """Keep a named value."""
        self.base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def begin(self, request: PlanRequest) -> None:
        """Keep the request that a batch begins with."""
        self.set_fact("request", to_json(request))

    def first_request(self) -> PlanRequest:
        """The request that the batch began with."""
        text = self.fact("request")
        if text is None:
            raise BadRequest(f"{self.path}: no batch has begun in it")
        return from_json(PlanRequest, text, source=str(self.path))

    def add_event(self, event: Event, estimates: Estimates | None = None) -> None:
        """Keep an event that was folded in."""
        told = None if not estimates else _estimates_json(estimates)
        self.base.execute(
            "INSERT INTO events (event, estimates) VALUES (?, ?)", (to_json(event), told)
        )

    def add_plan(self, mind: Controller, choice: Choice, reason: str, moved: int) -> None:
        """Keep the plan that was put in force."""
        assert mind.plan is not None
        last = self.base.execute("SELECT COALESCE(MAX(number), 0) FROM events").fetchone()[0]
        self.base.execute(
            "INSERT INTO plans (after_event, choice, reason, at_s, cost, moved, plan, unplanned) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (last, choice.value, reason, mind.snapshot.now_s, mind.cost, moved,
             to_json(mind.plan), json.dumps(dict(mind.unplanned))),
        )  # fmt: skip

    def plans(self) -> list[PlanRow]:
        """The plans that were put in force, in order."""
        rows = self.base.execute(
            "SELECT choice, reason, at_s, cost, moved FROM plans ORDER BY number"
        )
        return [PlanRow(Choice(c), why, at, cost, moved) for c, why, at, cost, moved in rows]

    def restored(self, control: ControlPolicy) -> Controller | None:
        """The controller as it was when the last thing was written; None for a new file."""
        text = self.fact("request")
        if text is None:
            return None
        mind = Controller(from_json(PlanRequest, text, source=str(self.path)), control)
        for event, told in self.base.execute("SELECT event, estimates FROM events ORDER BY number"):
            read: Event = from_json(Event, event, source=str(self.path))  # type: ignore[arg-type]
            mind.tell(read, None if told is None else _estimates_of(told))
        last = self.base.execute(
            "SELECT plan, cost, unplanned FROM plans ORDER BY number DESC LIMIT 1"
        ).fetchone()
        if last is not None:
            mind.plan = from_json(Plan, last[0], source=str(self.path))
            mind.cost, mind.unplanned = last[1], json.loads(last[2])
        full = self.base.execute("SELECT MAX(at_s) FROM plans WHERE choice = 'replan'").fetchone()
        mind.planned_at_s = full[0]
        return mind

    # ------------------------------------------------------------------ orders

    def put_order(self, row: OrderRow) -> None:
        """Keep an order as it is now."""
        self.base.execute(
            "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row.key, json.dumps(row.workers), row.state, row.ordered_s, row.start_s, row.end_s,
             None if row.outcome is None else row.outcome.value),
        )  # fmt: skip

    def orders(self, *, still_open: bool = False) -> list[OrderRow]:
        """Every order, or those that have not ended."""
        text = "SELECT * FROM orders"
        if still_open:
            text += f" WHERE state IN {OPEN}"
        return [
            OrderRow((task, attempt), tuple(json.loads(workers)), state, ordered_s, start_s, end_s,
                     None if outcome is None else Outcome(outcome))
            for task, attempt, workers, state, ordered_s, start_s, end_s, outcome
            in self.base.execute(text + " ORDER BY ordered_s, task, attempt")
        ]  # fmt: skip


def _estimates_json(estimates: Estimates) -> str:
    return json.dumps(
        {task: {name: [e.levels, e.seconds, e.source] for name, e in by_class.items()}
         for task, by_class in estimates.items()}
    )  # fmt: skip


def _estimates_of(text: str) -> Estimates:
    return {
        task: {name: DurationEstimate(tuple(levels), tuple(seconds), source)
               for name, (levels, seconds, source) in by_class.items()}
        for task, by_class in json.loads(text).items()
    }  # fmt: skip
