"""The state in PostgreSQL: the same tables and lives as in a file, and one leader at a time."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.master import leading, tables
from plancast.pipelines.master.leading import Fenced, Lease
from plancast.pipelines.master.places import Place, place_of
from plancast.pipelines.master.state import OrderRow, State
from plancast.planner.model.domain import BadRequest
from tests.conftest import cases
from tests.pipelines.master.postgres import Server, postgres
from tests.pipelines.master.test_living import Town, random_life
from tests.pipelines.master.test_state import request

__all__ = ["postgres"]  # a fixture

ROW = OrderRow(("a", 1), ("w",), "ordered", 5)


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Place:
    """A database of its own."""
    return postgres.place(tmp_path)


def executed(place: Place, *statements: str) -> None:
    """Change a database behind everybody's back."""
    with tables.engine_of(place).connect() as base:
        for statement in statements:
            base.exec_driver_sql(statement)


def schema(place: Place) -> list[Any]:
    """Columns, keys and indices of a database."""
    with tables.engine_of(place).connect() as base:
        look = sa.inspect(base)
        return [
            (name, sorted((c["name"], str(c["type"])) for c in look.get_columns(name)),
             sorted(c["name"] for c in look.get_columns(name) if c["nullable"]),
             look.get_pk_constraint(name)["constrained_columns"],
             sorted(str(i["column_names"]) for i in look.get_indexes(name)))
            for name in sorted(look.get_table_names()) if name != tables.VERSION_TABLE
        ]  # fmt: skip


def test_migrations_lead_to_the_tables_of_a_new_database(postgres: Server, tmp_path: Path) -> None:
    """An upgraded database would lack what the code asks for."""
    old, new = postgres.place(tmp_path), postgres.place(tmp_path)
    with tables.engine_of(old).connect() as base:
        config = Config(attributes={"connection": base})
        config.set_main_option("script_location", str(tables.MIGRATIONS))
        command.upgrade(config, "0001")
    executed(old, "INSERT INTO facts VALUES ('version', '2'), ('batch', 'b1'), ('made_s', '17')")
    state = State(old)
    assert (state.batch, state.made_s, state.fact("version")) == ("b1", 17, b"3")
    state.close()
    State(new).close()
    assert schema(old) == schema(new)
    assert {name for name, *_ in schema(new)} == set(tables.metadata.tables)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (f"CREATE TABLE {tables.VERSION_TABLE} AS SELECT '0999' AS version_num",
         r"was written by a newer plancast \(its schema is 0999"),
        ("CREATE TABLE recipes (name TEXT)", "is no state of a master; name another file"),
    ],
    ids=["newer", "a stranger's"],
)  # fmt: skip
def test_a_database_that_cannot_be_used_is_left_as_it_is(
    script: str, sentence: str, place: Place
) -> None:
    """Tables would be added to somebody's database, or a newer state be misread."""
    executed(place, script)
    before = schema(place)
    with pytest.raises(BadRequest, match=sentence):
        State(place)
    assert schema(place) == before


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://u:secret@h/d", "mysql://u:\\*\\*\\*@h/d: is no database of PostgreSQL; write"),
        ("postgresql://u:secret@h", "is no database of PostgreSQL; write postgresql"),
        ("postgresql://u:secret@h:port/d", "is no URL of a database; write postgresql"),
    ],
)
def test_a_url_that_is_none_is_refused_and_no_password_shown(url: str, sentence: str) -> None:
    """A password would stand in a log, or a typing error end in a traceback."""
    with pytest.raises(BadRequest, match=sentence) as found:
        place_of(url)
    assert "secret" not in str(found.value)


def test_a_database_that_is_away_is_the_environments_fault(tmp_path: Path) -> None:
    """It would be taken for a bad request, and no service start the master again."""
    with pytest.raises(EnvironmentFailed, match=r"/nowhere: cannot be used: .*refused"):
        State(place_of("postgresql://u@127.0.0.1:9/nowhere", tmp_path / "m"))


@pytest.mark.parametrize("seed", cases(2, 4))
def test_lives_in_postgres_are_as_lives_in_a_file(
    seed: int, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite takes another database may not, and a task would be lost by it."""
    made = Town.__post_init__

    def in_postgres(town: Town) -> None:
        town.path = postgres.place(tmp_path)
        made(town)

    monkeypatch.setattr(Town, "__post_init__", in_postgres)
    random_life(seed, tmp_path)


def test_one_leads_and_says_who_it_is(place: Place) -> None:
    """Both would order, and neither could trust what it reads."""
    state = State(place)
    with pytest.raises(BadRequest, match=f"master {os.getpid()} on .* has it; wait until it ends"):
        State(place)
    state.close()
    State(place).close()


def test_who_ends_has_let_go(place: Place) -> None:
    """A successor that is started at once would be refused for a while."""
    for _ in range(20):
        state, other = State(place), Lease(place)
        assert not other.taken()
        state.close()
        assert other.taken()
        other.close()


def test_who_dies_is_succeeded_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that stays would keep everybody out."""
    state = State(place)
    state.begin(request("a"))
    other = Lease(place)
    assert not other.taken()
    # Nothing is ended: it is not waited for until the lease is over.
    monkeypatch.setattr(leading, "LEASE_S", 1e9)
    until = time.monotonic() + 200
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(other.wait, lambda: time.monotonic() > until)
        # A death closes all connections.
        executed(
            place,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
            f"application_name = '{state._lease.session}'",
        )  # type: ignore[union-attr]
        assert waits.result()
    with State(place, other).together():
        pass
    with pytest.raises(EnvironmentFailed):
        state.put_order(ROW)
    state.close()


def test_who_stands_still_is_succeeded_and_fenced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for a minute and continued, it would go on as if it led still."""
    monkeypatch.setattr(leading, "LEASE_S", 2.0)
    state = State(place)
    state.begin(request("a"))
    assert state._lease is not None
    state.check()
    still = threading.Event()
    monkeypatch.setattr(state._lease._ending, "wait", lambda s: not still.wait(60))
    other = Lease(place)
    until = time.monotonic() + 200
    # Stopped in the midst of a transaction, it holds the row that says whose epoch it is.
    inside = state.together()
    inside.__enter__()
    state.put_order(ROW)
    assert other.wait(lambda: time.monotonic() > until)
    new = State(place, other)
    with pytest.raises(EnvironmentFailed, match="cannot be written"):
        inside.__exit__(None, None, None)
    assert new.orders() == []
    # The connection that was ended is made anew, and leads nowhere.
    with pytest.raises(Fenced, match="epoch 2 has begun"):
        state.put_order(ROW)
    with pytest.raises(Fenced, match=r"has lost its lease .* leaves all that runs"):
        state.check()
    # Even with a connection that nobody ended, as after a cut network.
    with pytest.raises(Fenced, match="epoch 2 has begun"), state.another_writer().together():
        pass
    new.put_order(ROW)
    new.close()
    still.set()
    state.close()


@pytest.mark.parametrize(("pause_s", "ends"), [(0.5, 10), (60.0, 5)])
def test_a_pause_of_its_own_is_no_proof_against_the_leader(
    pause_s: float, ends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine of both stands still, a leader that is well would be thrown over."""
    clock, looks, ended = [0.0], [0], [0]
    lease = object.__new__(Lease)

    def asked(*_: object) -> None:
        ended[0] = ended[0] or looks[0]

    monkeypatch.setattr(lease, "taken", lambda: False)
    monkeypatch.setattr(lease, "_leader", lambda: ("another", b"7"))
    monkeypatch.setattr(lease, "_run", asked)
    monkeypatch.setattr(leading.time, "monotonic", lambda: clock[0])

    def sleep(_: float) -> None:
        clock[0] += pause_s
        looks[0] += 1

    monkeypatch.setattr(leading.time, "sleep", sleep)
    assert not lease.wait(lambda: looks[0] > 30)
    assert ended[0] > ends


def test_a_connection_that_dies_alone_is_made_anew(postgres: Server, tmp_path: Path) -> None:
    """The desk would refuse whatever is asked from then on, and every look fail, while it runs."""
    town = Town(postgres.place(tmp_path))  # type: ignore[arg-type]
    town.submit({"id": "a"})
    at = [town.desk.writer.base, town.looks.reader.base]
    pids = [base.exec_driver_sql("SELECT pg_backend_pid()").scalar() for base in at]
    for pid in pids:
        executed(town.state.place, f"SELECT pg_terminate_backend({pid}, 10000)")
    with pytest.raises(EnvironmentFailed, match="cannot be written"):
        town.submit({"id": "b"})
    with pytest.raises(EnvironmentFailed, match="cannot be read"):
        town.looks.status()
    assert town.looks.status()["submitted"] == 1
    town.submit({"id": "b"})
    town.finish()
    assert town.looks.status()["ended"] == {"completed": 2}
    town.kill()


def test_a_leader_that_renews_is_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy one would be thrown over again and again."""
    monkeypatch.setattr(leading, "BEAT_S", 0.4)
    monkeypatch.setattr(leading, "LEASE_S", 2.0)
    state = State(place)
    state.begin(request("a"))
    other = Lease(place)
    until = time.monotonic() + 2 * leading.LEASE_S
    assert not other.wait(lambda: time.monotonic() > until)
    state.check()
    state.put_order(ROW)
    other.close()
    state.close()
