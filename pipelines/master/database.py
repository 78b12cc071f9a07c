"""A connection to a master's database: what belongs together is written together, in turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.master.tables import begin

GONE = (OperationalError, InterfaceError, PendingRollbackError)
"""The database cannot be had, or has let go of the connection."""
INSERT: dict[str, Callable[[sa.Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def said_by(error: SQLAlchemyError) -> str:
    """What the database says, in one line."""
    return " ".join(str(getattr(error, "orig", error)).split())


class Writer:
    """One connection, used by one thread.

    Parameters
    ----------
    engine : Engine
        Of ``tables.engine_of``.
    name : str
        What to call the database in an error.
    turn : Lock
        Held by whoever writes several things; shared by all writers of a database, so that none
        waits for another by asking the file again and again.
    guard : callable, optional
        Called in each transaction before anything is written; what it raises ends it.
    """

    def __init__(
        self,
        engine: sa.Engine,
        name: str,
        turn: threading.Lock,
        guard: Callable[[sa.Connection], None] | None = None,
    ) -> None:
        self.base = engine.connect()
        self._name = name
        self._turn = turn
        self._guard = guard
        self._inside = False
        self._puts: dict[str, Any] = {}

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is written inside, or none of it."""
        if self._inside:
            yield
            return
        with self._turn:
            self._carried_out(begin, self.base)
            self._inside = True
            try:
                if self._guard is not None:
                    self._carried_out(self._guard, self.base)
                yield
                self._carried_out(self.base.exec_driver_sql, "COMMIT")
            except GONE as error:
                self._undo()
                raise self._failed("written", error) from None
            except BaseException:
                self._undo()
                raise
            finally:
                self._inside = False

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """The connection, to read by; one that was lost is made anew for the next who reads.

        Raises
        ------
        EnvironmentFailed
            Where the database cannot be had.
        """
        try:
            yield self.base
        except GONE as error:
            self._renew()
            raise self._failed("read", error) from None

    def _undo(self) -> None:
        with suppress(SQLAlchemyError):  # undone already, by an error of the disk
            self.base.exec_driver_sql("ROLLBACK")
        self._renew()

    def _renew(self) -> None:
        """Let go of a connection that the database has ended; the next use makes another."""
        if self.base.invalidated:
            with suppress(SQLAlchemyError):
                self.base.rollback()

    def _failed(self, what: str, error: SQLAlchemyError) -> EnvironmentFailed:
        return EnvironmentFailed(f"{self._name}: cannot be {what}: {said_by(error)}")

    def write(self, what: Any, rows: Any = None) -> Any:
        """Carry a statement out, for one row or many.

        Raises
        ------
        EnvironmentFailed
            Where the disk is full, or the database cannot be had.
        """
        if self._guard is not None and not self._inside:
            with self.together():
                return self._carried_out(self.base.execute, what, rows)
        return self._carried_out(self.base.execute, what, rows)

    def _carried_out(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except GONE as error:
            if not self._inside:
                self._renew()
            raise self._failed("written", error) from None

    def put(self, table: sa.Table, keys: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Insert a row, or change the one with these keys."""
        if table.name not in self._puts:
            row = INSERT[self.base.dialect.name](table)
            kept = {name: row.excluded[name] for name in values}
            self._puts[table.name] = row.on_conflict_do_update(index_elements=[*keys], set_=kept)
        self.write(self._puts[table.name], {**keys, **values})

    def close(self) -> None:
        """Let go of the connection."""
        self.base.close()
