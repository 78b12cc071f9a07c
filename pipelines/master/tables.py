"""The tables of a master's state, and how a database comes to have them.

A new file gets the tables as they are here, and the name of the newest migration; one of an
older plancast goes through the migrations that it lacks, after a copy of it was kept beside it.
In PostgreSQL the steps are one transaction, and copies are the site's own.
``tests/pipelines/master/test_state.py`` compares both ways.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.pool import NullPool

from plancast.pipelines.master.places import Place
from plancast.planner.model.domain import BadRequest

NEWEST = "0002"
"""The last migration: what ``metadata`` describes."""
REVISIONS = ("0001", NEWEST)
FIRST_VERSION = b"2"
"""Value of the fact ``version`` in files that were written before there were migrations."""
VERSION_TABLE = "plancast_schema"
"""Holds the name of the last migration; MLflow has a table of its own for that."""
MIGRATIONS = Path(__file__).parent / "migrations"
WAIT_S = 30
"""Longest wait for a lock of the database."""

Whole = BigInteger().with_variant(Integer, "sqlite")  # whose keys count up as INTEGER only
"""Numbers and seconds, 64 bits."""
metadata = MetaData()
facts = Table(
    "facts", metadata, Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)  # fmt: skip
events = Table(
    "events", metadata, Column("number", Whole, primary_key=True),
    Column("event", LargeBinary, nullable=False), Column("estimates", Text),
)  # fmt: skip
orders = Table(
    "orders", metadata, Column("task", Text, primary_key=True),
    Column("attempt", Whole, primary_key=True), Column("workers", Text, nullable=False),
    Column("state", Text, nullable=False), Column("ordered_s", Whole),
    Column("start_s", Whole), Column("end_s", Whole), Column("outcome", Text),
    Column("reason", Text, nullable=False),
)  # fmt: skip
plans = Table(
    "plans", metadata, Column("number", Whole, primary_key=True),
    Column("after_event", Whole, nullable=False), Column("choice", Text, nullable=False),
    Column("reason", Text, nullable=False), Column("at_s", Whole, nullable=False),
    Column("cost", Float), Column("moved", Whole), Column("plan", LargeBinary, nullable=False),
    Column("unplanned", Text, nullable=False),
)  # fmt: skip
asks = Table(
    "asks", metadata, Column("number", Whole, primary_key=True),
    Column("at_s", Whole, nullable=False), Column("kind", Text, nullable=False),
    Column("key", Text, unique=True), Column("digest", Text), Column("body", Text, nullable=False),
    Column("taken", Whole, nullable=False, index=True),
)  # fmt: skip
"""What users asked for, acknowledged once it stands here; `taken` once the loop has done it."""
tasks = Table(
    "tasks", metadata, Column("number", Whole, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("ask", Whole, nullable=False, index=True),
    Column("task", LargeBinary, nullable=False), Column("row", Text), Column("estimates", Text),
    Column("weight", Float, nullable=False), Column("waits_for", Text, index=True),
    Column("state", Text, nullable=False, index=True),
    Column("submitted_s", Whole, nullable=False),
    Column("promised_s", Whole), Column("planned", Text), Column("start_s", Whole),
    Column("end_s", Whole, index=True), Column("outcome", Text), Column("reason", Text),
)  # fmt: skip
"""Tasks that were submitted, by when they were promised to start with 90%, and what came of it.
A task is ``submitted``, ``held``, or ``behind`` (its predecessor `waits_for` has no place in the
plan yet) until it is ``taken`` into the plan, and ``ended`` at last.
`planned` is the assignment of the plan that the promise was made of."""


def engine_of(place: Place, session: str = "plancast") -> Engine:
    """The database of a place, as all of the master's connections have it.

    Parameters
    ----------
    place : Place
    session : str
        Name of its connections, where the database keeps one.
    """
    if place.shared:
        wait = {"connect_timeout": WAIT_S, "application_name": session}
        return create_engine(
            place.url, isolation_level="AUTOCOMMIT", connect_args=wait, poolclass=NullPool
        )
    engine = create_engine(
        place.url, isolation_level="AUTOCOMMIT", connect_args={"timeout": WAIT_S}
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # A crash of the machine, not of the process, may lose what FULL would keep.
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def begin(connection: Connection) -> None:
    """Begin a transaction that is to write."""
    immediate = " IMMEDIATE" if connection.dialect.name == "sqlite" else ""
    connection.exec_driver_sql(f"BEGIN{immediate}")


def prepare(connection: Connection, place: Place) -> None:
    """Give a new database its tables, and an older one what it lacks.

    Raises
    ------
    BadRequest
        Where a newer plancast wrote it, or one too old; nothing is changed then.
    """
    found = _revision(connection, place.name)
    if found == NEWEST:
        return
    if found is None:
        begin(connection)
        metadata.create_all(connection)
        connection.exec_driver_sql(
            f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)"
        )
        connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES ('{NEWEST}')"))
        connection.exec_driver_sql("COMMIT")
        return
    if not place.shared:
        path = Path(str(place.url.database))
        kept = path.with_name(f"{path.name}.before-{NEWEST}")
        with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(kept)) as copy:
            old.backup(copy)
    _upgrade(connection, found)


def _revision(connection: Connection, name: str) -> str | None:
    """The last migration that a database went through; None for a new one."""
    there = set(inspect(connection).get_table_names())
    if VERSION_TABLE in there:
        found = str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar())
        if found not in REVISIONS:
            raise BadRequest(
                f"{name}: was written by a newer plancast (its schema is {found}, this one knows "
                f"up to {NEWEST}); use that one, or name another state"
            )
        return found
    if "facts" not in there:
        if there:
            raise BadRequest(f"{name}: is no state of a master; name another file")
        return None
    rows = connection.execute(facts.select().where(facts.c.name == "version")).all()
    version = bytes(rows[0].value) if rows else None
    if version not in (None, FIRST_VERSION):
        assert version is not None
        raise BadRequest(
            f"{name}: is of version {version.decode()}, which this plancast cannot bring up to "
            "date; name a new file"
        )
    return REVISIONS[0]


def _upgrade(connection: Connection, found: str) -> None:
    # Imported only where a state is old: it takes a while.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    if VERSION_TABLE not in inspect(connection).get_table_names():
        command.stamp(config, found)
    command.upgrade(config, NEWEST)
