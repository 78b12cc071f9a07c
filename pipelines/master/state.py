"""What a master must not forget, in a database: a kill at any moment loses nothing of it.

The request it began with, every event that was folded in, and every order with its fate: what
is known at any time is their replay. One master at a time has it; it belongs to one batch, whose
identity and digest it holds. The tables are in ``tables``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, OperationalError

from plancast.pipelines.engines.base import EnvironmentFailed, Key
from plancast.pipelines.master import tables
from plancast.pipelines.master.database import GONE, Writer, said_by
from plancast.pipelines.master.leading import Lease
from plancast.pipelines.master.places import Place, place_of
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Estimates,
    Outcome,
    Plan,
    estimates_of,
)
from plancast.planner.model.messages import Event, PlanRequest, from_json, to_json
from plancast.planner.planning.controller import Choice, Controller, ControlPolicy

VERSION = b"3"
"""Kept for masters that know no migrations: they refuse any other than theirs, ``2``."""
ADD_EVENT = sa.insert(tables.events).returning(tables.events.c.number)
OPEN = ("ordered", "running", "stopping", "cancelling")
WITHDRAWN = "withdrawn before it began, as its worker takes nothing more"
"""Reason of a stopped order that no plan preempted."""


@dataclass
class OrderRow:
    """An order and its fate.

    Parameters
    ----------
    key : (str, int)
    workers : tuple of str
    state : str
        ``ordered``: written down, and perhaps sent. ``running``. ``stopping``: preempted by a
        plan in force, and ordered to stop. ``cancelling``: the same, and wanted no more.
        ``ended``. ``stopped``: it was preempted. ``void``: its worker died, or it never began.
    ordered_s : int
    start_s, end_s : int, optional
    outcome : Outcome, optional
    reason : str
        How it ended, where the outcome is not the whole story.
    """

    key: Key
    workers: tuple[str, ...]
    state: str
    ordered_s: int
    start_s: int | None = None
    end_s: int | None = None
    outcome: Outcome | None = None
    reason: str = ""

    @property
    def preempted(self) -> bool:
        """Whether it was stopped for the sake of others."""
        return self.state == "stopped" and self.reason != WITHDRAWN


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan that was put in force."""

    choice: Choice
    reason: str
    at_s: int
    cost: float | None
    moved: int


class State:
    """The state of one master, locked against any other while it is open.

    Parameters
    ----------
    where : Path or Place
        A file, made if it is not there, or a database.
    lease : Lease, optional
        Of a place that is shared, its lock taken; taken now by default. Closed with the state.

    Raises
    ------
    BadRequest
        Where it is something else, of another version, or another master has it.
    """

    def __init__(self, where: Path | Place, lease: Lease | None = None) -> None:
        self.place = where if isinstance(where, Place) else place_of(where)
        self.name = self.place.name
        self._last_event: int | None = None
        self._lock: int | None = None
        self._lease = lease
        if not self.place.shared:
            self._lock = _locked(Path(self.name))
        elif lease is None:
            self._lease = _leading(self.place)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        session = {} if self._lease is None else {"session": self._lease.session}
        self._engine = tables.engine_of(self.place, **session)
        self._turn = threading.Lock()
        try:
            with self._engine.connect() as base:
                tables.prepare(base, self.place)
            if self._lease is not None:
                self._lease.begin()
            self.writer = self.another_writer()
            self.base = self.writer.base
        except OperationalError as error:
            raise EnvironmentFailed(f"{self.name}: cannot be used: {said_by(error)}") from None
        except DatabaseError as error:
            raise BadRequest(f"{self.name}: is no state of a master ({error.orig})") from None
        if self.fact("version") is None:
            with self.together():
                self.set_fact("version", VERSION)
                self.set_fact("batch", uuid.uuid4().hex.encode())
                self.set_fact("made_s", str(int(time.time())).encode())

    @cached_property
    def batch(self) -> str:
        """Identity of the batch, unlike that of any other; engines name runs by it."""
        # Kept: whoever looks from another thread must not use the loop's connection.
        found = self.fact("batch")
        assert found is not None
        return found.decode()

    @property
    def made_s(self) -> int:
        """When the file was made, seconds since the epoch."""
        found = self.fact("made_s")
        assert found is not None
        return int(found)

    @property
    def begun(self) -> bool:
        """Whether a batch has begun in it."""
        return self.fact("request") is not None

    def check_digest(self, digest: Mapping[str, str], resume: bool) -> None:
        """See that the file is new, or holds this very batch and is to be resumed.

        Parameters
        ----------
        digest : mapping of str to str
            Of each part of the batch (``digest_of``), by its name.
        resume : bool

        Raises
        ------
        BadRequest
            Where it holds a batch and `resume` is not set, or another batch.
        """
        if not self.begun:
            self.set_fact("digest", json.dumps(dict(digest)).encode())
            return
        if not resume:
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.made_s))
            raise BadRequest(
                f"{self.name}: holds the batch of {began} already; go on with it by --resume, or "
                "name another --state"
            )
        held = json.loads(self.fact("digest") or b"{}")
        other = [part for part, value in digest.items() if held.get(part, value) != value]
        if other:
            raise BadRequest(
                f"{self.name}: holds another batch, with other {' and '.join(other)}; resume it "
                "with those it began with, or name another --state"
            )

    def another_writer(self) -> Writer:
        """A connection beside this one, for another thread.

        Raises
        ------
        EnvironmentFailed
            Where the database cannot be had.
        """
        guard = None if self._lease is None else self._lease.guard
        try:
            return Writer(self._engine, self.name, self._turn, guard)
        except GONE as error:
            raise EnvironmentFailed(f"{self.name}: cannot be used: {said_by(error)}") from None

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is written inside, or none of it."""
        try:
            with self.writer.together():
                yield
        except BaseException:
            self._last_event = None  # it may not have been written
            raise

    def check(self) -> None:
        """See that this master still has the state.

        Raises
        ------
        Fenced
            Where it may have it no more: nothing may be ordered then.
        """
        if self._lease is not None:
            self._lease.check()

    def close(self) -> None:
        """Close it, and let others have it; may be called twice."""
        if hasattr(self, "writer"):  # else it never came to a connection
            self.writer.close()
        self._engine.dispose()
        if self._lease is not None:
            self._lease.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ------------------------------------------------------------------ facts and events

    def fact(self, name: str) -> bytes | None:
        """A named value, None if there is none."""
        named = tables.facts.c.name == name
        value = self.base.execute(sa.select(tables.facts.c.value).where(named)).scalar()
        return None if value is None else bytes(value)

    def set_fact(self, name: str, value: bytes) -> None:
        """Keep a named value."""
        self.writer.put(tables.facts, {"name": name}, {"value": value})

    def begin(self, request: PlanRequest) -> None:
        """Keep the request that a batch begins with."""
        self.set_fact("request", to_json(request))

    def first_request(self) -> PlanRequest:
        """The request that the batch began with."""
        text = self.fact("request")
        if text is None:
            raise BadRequest(f"{self.name}: no batch has begun in it")
        return from_json(PlanRequest, text, source=self.name)

    def checkpoint(self, request: PlanRequest) -> None:
        """What is known by now: a restart goes on from here, not from the beginning."""
        self.set_fact("checkpoint", to_json(request))
        self.set_fact("checkpoint_event", str(self.last_event).encode())

    def add_event(self, event: Event, estimates: Estimates | None = None) -> None:
        """Keep an event that was folded in."""
        found = None if not estimates else estimates_text(estimates)
        row = {"event": to_json(event), "estimates": found}
        self._last_event = None  # until it is written
        self._last_event = self.writer.write(ADD_EVENT, row).scalar_one()

    @property
    def last_event(self) -> int:
        """Number of the last event, 0 if there is none."""
        if self._last_event is None:
            asked = sa.select(sa.func.max(tables.events.c.number))
            self._last_event = self.base.execute(asked).scalar() or 0
        return self._last_event

    def add_plan(self, mind: Controller, choice: Choice, reason: str, moved: int) -> None:
        """Keep the plan that was put in force."""
        assert mind.plan is not None
        row = {
            "after_event": self.last_event, "choice": choice.value, "reason": reason,
            "at_s": mind.snapshot.now_s, "cost": mind.cost, "moved": moved,
            "plan": to_json(mind.plan), "unplanned": json.dumps(dict(mind.unplanned)),
        }  # fmt: skip
        self.writer.write(sa.insert(tables.plans), row)

    def plans(self) -> list[PlanRow]:
        """The plans that were put in force, in order."""
        of = tables.plans.c
        rows = self.base.execute(
            sa.select(of.choice, of.reason, of.at_s, of.cost, of.moved).order_by(of.number)
        )
        return [PlanRow(Choice(c), why, at, cost, moved) for c, why, at, cost, moved in rows]

    def restored(self, control: ControlPolicy) -> Controller | None:
        """The controller as it was when the last thing was written; None for a new file."""
        text = self.fact("checkpoint") or self.fact("request")
        if text is None:
            return None
        mind = Controller(from_json(PlanRequest, text, source=self.name), control)
        of, plans = tables.events.c, tables.plans.c
        since = of.number > int(self.fact("checkpoint_event") or 0)
        for event, entry in self.base.execute(
            sa.select(of.event, of.estimates).where(since).order_by(of.number)
        ):
            read: Event = from_json(Event, event, source=self.name)  # type: ignore[arg-type]
            mind.tell(read, None if entry is None else estimates_from(entry))
        last = self.base.execute(
            sa.select(plans.plan, plans.cost, plans.unplanned)
            .order_by(plans.number.desc())
            .limit(1)
        ).first()
        if last is not None:
            mind.plan = from_json(Plan, last.plan, source=self.name)
            mind.cost, mind.unplanned = last.cost, json.loads(last.unplanned)
            mind.left_out = frozenset(mind.unplanned)
        anew = plans.choice == Choice.REPLAN.value
        mind.planned_at_s = self.base.execute(
            sa.select(sa.func.max(plans.at_s)).where(anew)
        ).scalar()
        return mind

    # ------------------------------------------------------------------ orders

    def put_order(self, row: OrderRow) -> None:
        """Keep an order as it is now."""
        task, attempt = row.key
        values = {
            "workers": json.dumps(row.workers), "state": row.state, "ordered_s": row.ordered_s,
            "start_s": row.start_s, "end_s": row.end_s, "reason": row.reason,
            "outcome": None if row.outcome is None else row.outcome.value,
        }  # fmt: skip
        self.writer.put(tables.orders, {"task": task, "attempt": attempt}, values)

    def orders(self, *, still_open: bool = False) -> list[OrderRow]:
        """Every order, or those that have not ended."""
        of = tables.orders.c
        asked = sa.select(tables.orders).order_by(of.ordered_s, of.task, of.attempt)
        if still_open:
            asked = asked.where(of.state.in_(OPEN))
        return [
            OrderRow((task, attempt), tuple(json.loads(workers)), state, ordered_s, start_s, end_s,
                     None if outcome is None else Outcome(outcome), reason)
            for task, attempt, workers, state, ordered_s, start_s, end_s, outcome, reason
            in self.base.execute(asked)
        ]  # fmt: skip


def estimates_text(estimates: Estimates) -> str:
    """The inverse of ``estimates_from``."""
    return json.dumps(
        {task: {name: [e.levels, e.seconds, e.source] for name, e in by_class.items()}
         for task in estimates for by_class in [estimates_of(estimates, task)]}
    )  # fmt: skip


def estimates_from(text: str) -> Estimates:
    """Estimates by machine class, from their JSON form in the state."""
    return {
        task: {name: DurationEstimate(tuple(levels), tuple(seconds), source)
               for name, (levels, seconds, source) in by_class.items()}
        for task, by_class in json.loads(text).items()
    }  # fmt: skip


def digest_of(*values: Any) -> str:
    """A digest of values of ``domain`` or of text; equal values have equal digests."""
    found = hashlib.sha256()
    for value in values:
        text = value.encode() if isinstance(value, str) else to_json(value)
        found.update(len(text).to_bytes(8, "big") + text)
    return found.hexdigest()


def _leading(place: Place) -> Lease:
    """The lease of a shared place, which nobody has."""
    lease = Lease(place)
    if lease.taken():
        return lease
    holder = lease.leader()
    lease.close()
    raise BadRequest(f"{place.name}: {holder} has it; wait until it ends, or stop it")


def _locked(path: Path) -> int:
    """A lock beside the file, which the system lets go of when its holder dies."""
    beside = path.with_name(f"{path.name}.lock")
    lock = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 1000).decode(errors="replace").strip()
        os.close(lock)
        raise BadRequest(
            f"{path}: {holder or 'another master'} has it; wait until it ends, or stop it"
        ) from None
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"master {os.getpid()} on {socket.gethostname()}, since {since},".encode(), 0)
    return lock
