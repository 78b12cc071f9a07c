"""Which of the masters that share a PostgreSQL database leads: a lock, a lease, and an epoch.

The lock is held by a session that does nothing else but renew the lease; it falls free when its
master dies. A master that is stopped, or cut off, keeps it: so the others watch the lease, by
clocks of their own that only count seconds, and end the sessions of a leader that does not renew
it. Whoever gets the lock begins a new epoch. Every transaction of a master reads the epoch under
a lock on its row and goes no further if it is another's: what a former leader still has in hand
is never written.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError, SQLAlchemyError

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.master.database import said_by
from plancast.pipelines.master.places import Place
from plancast.pipelines.master.tables import engine_of, facts

BEAT_S, LEASE_S = 1.0, 5.0
"""Seconds between two renewals, and without any until others take over."""
POLL_S = 0.5
"""Seconds between two looks of those that stand by."""
MOST_GAP_S = 2 * POLL_S
"""What a pause between two looks counts for at most."""
LOCK = {"high": 0x706C616E, "low": 0x63617374}
"""The advisory lock of a database."""

TRY = sa.text("SELECT pg_try_advisory_lock(:high, :low)")
LET_GO = sa.text("SELECT pg_advisory_unlock_all()")
LEADER = """
    FROM pg_locks held JOIN pg_stat_activity leader ON leader.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND held.classid = :high
    AND held.objid = :low AND leader.datname = current_database()
"""
WHO = sa.text(f"SELECT leader.application_name {LEADER}")
END = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name = :session"
)


class Fenced(EnvironmentFailed):
    """The master leads no more: it must write nothing, and leave alone what runs."""


class Lease:
    """One master's part in it.

    Parameters
    ----------
    place : Place
        A shared one.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.holder = f"master {os.getpid()} on {socket.gethostname()}"
        self.session = f"plancast-{uuid.uuid4().hex[:16]}"
        """Name of its connections, by which another one ends them."""
        self.engine = engine_of(place, self.session)
        self.epoch = 0
        self._base: sa.Connection | None = None
        self._lost = ""
        self._renewed_s = time.monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._renew_always, name="lease", daemon=True)

    # ------------------------------------------------------------------ standing by

    def taken(self) -> bool:
        """Try to take the lock; whether it is held now."""
        try:
            if self._base is None:
                self._base = self.engine.connect()
                self._base.exec_driver_sql("SET synchronous_commit = off")
            return bool(self._base.execute(TRY, LOCK).scalar())
        except OperationalError as error:
            self._drop()
            why = f"{self.place.name}: cannot be used: {said_by(error)}"
            raise EnvironmentFailed(why) from None

    def wait(self, ending: Callable[[], bool], looked: Callable[[], None] = lambda: None) -> bool:
        """Stand by until this master leads; False where `ending` came first.

        Parameters
        ----------
        ending : callable
        looked : callable
            Called after each look.
        """
        seen: tuple[str, bytes] | None = None
        looked_s, quiet_s = time.monotonic(), 0.0
        while not ending():
            with suppress(EnvironmentFailed, DBAPIError):  # the database may be away for a while
                if self.taken():
                    return True
                found, now_s = self._leader(), time.monotonic()
                # Where this master has stood still itself, the leader may have as well.
                quiet_s += min(now_s - looked_s, MOST_GAP_S)
                looked_s = now_s
                if found != seen:
                    seen, quiet_s = found, 0.0
                elif found is not None and quiet_s > LEASE_S:
                    self._run(END, {"session": found[0]})
            looked()
            time.sleep(POLL_S)
        return False

    def leader(self) -> str:
        """Who leads, in words."""
        value = self._fact("leader")
        return value.decode() if value else "another master"

    def _leader(self) -> tuple[str, bytes] | None:
        """The session that leads, and its last renewal."""
        session = self._run(WHO, LOCK)
        return None if session is None else (session, self._fact("beat"))

    def _fact(self, name: str) -> bytes:
        try:
            value = self._run(sa.select(facts.c.value).where(facts.c.name == name))
        except ProgrammingError:
            return b""  # the leader has not made the tables yet
        return b"" if value is None else bytes(value)

    def _run(self, asked: sa.Executable, values: Mapping[str, object] | None = None) -> Any:
        assert self._base is not None
        return self._base.execute(asked, values or {}).scalar()

    def _drop(self) -> None:
        base, self._base = self._base, None
        if base is not None:
            with suppress(SQLAlchemyError):
                base.close()

    # ------------------------------------------------------------------ leading

    def begin(self) -> None:
        """Begin an epoch: the lock is held, and the tables are there."""
        self.epoch = 1 + int(self._fact("epoch") or 0)
        self._renewed_s = time.monotonic()
        for name, value in (
            ("epoch", str(self.epoch)), ("leader", self.holder), ("beat", "0"),
        ):  # fmt: skip
            row = insert(facts).values(name=name, value=value.encode())
            on = row.on_conflict_do_update(
                index_elements=["name"], set_={"value": row.excluded.value}
            )
            assert self._base is not None
            self._base.execute(on)
        self._thread.start()

    def guard(self, base: sa.Connection) -> None:
        """Go on with a transaction only while the epoch is ours; another waits for its end."""
        asked = sa.select(facts.c.value).where(facts.c.name == "epoch")
        value = base.execute(asked.with_for_update(read=True)).scalar()
        if value is None or int(bytes(value)) != self.epoch:
            raise Fenced(self._sentence(f"epoch {bytes(value or b'').decode()} has begun"))

    def check(self) -> None:
        """See that the lease was renewed of late.

        Raises
        ------
        Fenced
            Where it was not.
        """
        if not self._lost and time.monotonic() - self._renewed_s > LEASE_S:
            self._lost = "it was not renewed in time"
        if self._lost:
            raise Fenced(self._sentence(self._lost))

    def close(self) -> None:
        """Let go; may be called twice."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._base is not None and not self._lost:
            # Of a connection that has ended the server learns later: a successor would be refused.
            with suppress(SQLAlchemyError):
                self._base.execute(LET_GO)
        self._drop()
        self.engine.dispose()

    def _sentence(self, why: str) -> str:
        return (
            f"{self.place.name}: this master has lost its lease ({why}), and leaves all that runs "
            "to the one that leads"
        )

    def _renew_always(self) -> None:
        renew = sa.update(facts).where(facts.c.name == "beat")
        beat = 0
        while not self._ending.wait(BEAT_S):
            beat += 1
            began_s = time.monotonic()
            try:
                assert self._base is not None
                self._base.execute(renew.values(value=str(beat).encode()))
            except SQLAlchemyError as error:
                self._lost = " ".join(str(getattr(error, "orig", error)).split())
                return
            self._renewed_s = began_s
