"""A connection to a master's database: what belongs together is written together, in turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError, OperationalError

from plancast.pipelines.engines.base import EnvironmentFailed


class Writer:
    """One connection, used by one thread.

    Parameters
    ----------
    engine : Engine
        Of ``tables.engine_of``.
    path : Path
        What to call the database in an error.
    turn : Lock
        Held by whoever writes several things; shared by all writers of a database, so that none
        waits for another by asking the file again and again.
    """

    def __init__(self, engine: sa.Engine, path: Path, turn: threading.Lock) -> None:
        self.base = engine.connect()
        self._where = path
        self._turn = turn
        self._inside = False
        self._puts: dict[str, Any] = {}

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is written inside, or none of it."""
        if self._inside:
            yield
            return
        with self._turn:
            self.write("BEGIN IMMEDIATE")
            self._inside = True
            try:
                yield
                self.write("COMMIT")
            except BaseException:
                with suppress(DatabaseError):  # undone already, by an error of the disk
                    self.base.exec_driver_sql("ROLLBACK")
                raise
            finally:
                self._inside = False

    def write(self, what: Any, rows: Any = None) -> Any:
        """Carry a statement out, for one row or many.

        Raises
        ------
        EnvironmentFailed
            Where the disk is full, or the database cannot be had.
        """
        try:
            if isinstance(what, str):
                return self.base.exec_driver_sql(what)
            return self.base.execute(what, rows)
        except OperationalError as error:
            raise EnvironmentFailed(f"{self._where}: cannot be written: {error.orig}") from None

    def put(self, table: sa.Table, keys: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Insert a row, or change the one with these keys."""
        if table.name not in self._puts:
            row = insert(table)
            kept = {name: row.excluded[name] for name in values}
            self._puts[table.name] = row.on_conflict_do_update(index_elements=[*keys], set_=kept)
        self.write(self._puts[table.name], {**keys, **values})

    def close(self) -> None:
        """Let go of the connection."""
        self.base.close()
