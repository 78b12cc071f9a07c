"""Where users ask: each ask is written down, many of them together, and acknowledged then.

The desk has a thread and a connection of its own, so that nobody waits for a planner. What it
acknowledges is on the disk; the loop takes it up in its own time. It refuses what could not be
done: a task that is there already, one that nobody knows, one that has ended.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.master.state import State, digest_of
from plancast.pipelines.master.submitted import OUTSIDE
from plancast.pipelines.master.tables import asks, tasks
from plancast.planner.model.domain import Task
from plancast.planner.model.messages import to_json

MOST_UNTAKEN = 200_000
"""Tasks that may stand here and wait for a place in the plan."""
MOST_GROUP = 500
"""Asks that are written together."""
CHUNK = 500
"""Names in one question to the database."""
ON_TASKS = ("cancel", "hold", "release", "prioritise")
ON_WORKERS = ("drain", "undrain")


class Flooded(Exception):
    """More was asked than can be taken up; the text says so, and it may be asked again."""


class Clash(Exception):
    """It does not go with what is there: the text says why."""


class Unknown(Exception):
    """It names what nobody knows."""


@dataclass(frozen=True)
class NewTask:
    """A task that is submitted, its row as the user wrote it, and estimates (JSON) if any."""

    task: Task
    row: str = ""
    estimates: str | None = None


@dataclass(frozen=True)
class Ask:
    """What a user asks for.

    Parameters
    ----------
    kind : str
        ``submit``, or one of ``ON_TASKS`` and ``ON_WORKERS``.
    body : dict
        For the loop: ``command`` and ``hold`` of a submission; of the others ``names``, and
        ``weight``.
    key : str, optional
        Asked again with the same key, and the same content, it is done once.
    new : sequence of NewTask
    """

    kind: str
    body: dict[str, Any]
    key: str | None = None
    new: Sequence[NewTask] = ()


@dataclass(frozen=True)
class Receipt:
    """An ask that is on the disk: its number, and whether it had been asked before."""

    ask: int
    again: bool = False


class Desk:
    """Takes asks from any thread.

    Parameters
    ----------
    state : State
    workers : callable
        Names of the workers there are.
    now_s : callable
        The master's clock.
    asked : callable
        Called after something was written down.
    most_untaken : int
    """

    def __init__(
        self,
        state: State,
        *,
        workers: Callable[[], Collection[str]],
        now_s: Callable[[], int],
        asked: Callable[[], None] = lambda: None,
        most_untaken: int = MOST_UNTAKEN,
    ) -> None:
        self.writer = state.another_writer()
        self.workers, self.now_s, self.asked = workers, now_s, asked
        self.most_untaken = most_untaken
        self._queue: queue.SimpleQueue[tuple[Ask, Future[Receipt]] | None] = queue.SimpleQueue()
        self._coming, self._closed = 0, False
        self._counting = threading.Lock()
        untaken = sa.select(sa.func.count()).where(tasks.c.state.in_(OUTSIDE))
        self.untaken: int = self.writer.base.execute(untaken).scalar() or 0
        """Tasks that stand here."""
        self._thread = threading.Thread(target=self._write_all, name="desk", daemon=True)
        self._thread.start()

    def put(self, ask: Ask) -> Future[Receipt]:
        """Ask; the result is there once it is on the disk.

        Raises
        ------
        Flooded
            Where so much waits that no more is taken in.
        EnvironmentFailed
            Where the desk is closed: nobody would ever write it down.

        Notes
        -----
        The result may raise ``Clash``, ``Unknown``, or ``EnvironmentFailed``.
        """
        future: Future[Receipt] = Future()
        with self._counting:
            if self._closed:
                raise EnvironmentFailed("the master is ending; send it again")
            if ask.new and self.untaken + self._coming + len(ask.new) > self.most_untaken:
                raise Flooded(
                    f"{self.untaken + self._coming} tasks wait for a place in the plan, and no "
                    f"more than {self.most_untaken} may; send it again later"
                )
            self._coming += len(ask.new)
            self._queue.put((ask, future))
        return future

    def took(self, number: int) -> None:
        """So many tasks stand here no more."""
        with self._counting:
            self.untaken -= number

    def close(self) -> None:
        """Write down what was asked, and take no more."""
        with self._counting:
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self.writer.close()

    # ------------------------------------------------------------------ inside

    def _write_all(self) -> None:
        ends = False
        while not ends:
            group = [self._queue.get()]
            while len(group) < MOST_GROUP and not self._queue.empty():
                group.append(self._queue.get())
            ends = None in group
            self._write([one for one in group if one is not None])

    def _write(self, group: list[tuple[Ask, Future[Receipt]]]) -> None:
        done: list[tuple[Future[Receipt], Receipt | Exception]] = []
        written = 0
        try:
            with self.writer.together():
                for ask, future in group:
                    try:
                        receipt = self._written(ask)
                    except (Clash, Unknown) as why:
                        done.append((future, why))
                    else:
                        done.append((future, receipt))
                        written += 0 if receipt.again else len(ask.new)
        except Exception as why:  # whoever asked hears of it; the desk stays open
            done, written = [(future, why) for _, future in group], 0
        with self._counting:
            self._coming -= sum(len(ask.new) for ask, _ in group)
            self.untaken += written
        self.asked()
        for future, found in done:
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found)

    def _written(self, ask: Ask) -> Receipt:
        digest = None
        if ask.key is not None:
            digest = digest_of(ask.kind, json.dumps(ask.body), *(n.row for n in ask.new))
            asked = sa.select(asks.c.number, asks.c.digest).where(asks.c.key == ask.key)
            before = self.writer.base.execute(asked).first()
            if before is not None and before.digest != digest:
                raise Clash(f"key {ask.key!r} was used for something else; take another one")
            if before is not None:
                return Receipt(before.number, again=True)
        self._check(ask)
        row = {
            "at_s": self.now_s(), "kind": ask.kind, "key": ask.key, "digest": digest,
            "body": json.dumps(ask.body), "taken": 0,
        }  # fmt: skip
        number: int = self.writer.write(sa.insert(asks).returning(asks.c.number), row).scalar_one()
        if ask.new:
            self.writer.write(sa.insert(tasks), [
                {"id": n.task.id, "ask": number, "task": to_json(n.task), "row": n.row,
                 "estimates": n.estimates, "state": "held" if ask.body.get("hold") else "submitted",
                 "weight": n.task.weight, "submitted_s": row["at_s"]}
                for n in ask.new
            ])  # fmt: skip
        return Receipt(number)

    def _check(self, ask: Ask) -> None:
        """Refuse what could not be done when the loop comes to it."""
        names: list[str] = ask.body.get("names", [])
        if ask.kind in ON_WORKERS:
            known = self.workers()
            for name in names:
                if name not in known:
                    raise Unknown(f"there is no worker {name!r}")
        elif ask.kind in ON_TASKS:
            there = self._states(names)
            for name in names:
                if name not in there:
                    raise Unknown(f"there is no task {name!r}")
                if there[name] == "ended":
                    raise Clash(f"task {name} has ended already")
        else:
            new = {n.task.id for n in ask.new}
            if there := self._states(list(new)):
                raise Clash(f"task {min(there)} is there already; give each task its own id")
            before = {b for n in ask.new for b in n.task.predecessors} - new
            if missing := before - self._states(list(before)).keys():
                raise Unknown(f"a task follows {min(missing)!r}, which is no task")

    def _states(self, names: list[str]) -> dict[str, str]:
        return states_of(self.writer.base, names)


def states_of(base: sa.Connection, names: list[str]) -> dict[str, str]:
    """State of those of some tasks that there are."""
    found: dict[str, str] = {}
    for at in range(0, len(names), CHUNK):
        some = tasks.c.id.in_(names[at : at + CHUNK])
        asked = sa.select(tasks.c.id, tasks.c.state).where(some)
        found.update((name, state) for name, state in base.execute(asked))
    return found
