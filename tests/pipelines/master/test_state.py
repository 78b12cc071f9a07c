"""The master's file: whose batch it holds, who has it, and what a full disk does to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.master import tables
from plancast.pipelines.master.state import OrderRow, State, digest_of
from plancast.planner.model.domain import BadRequest, DurationEstimate, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest, to_json
from tests.oracles.watchdog import watched

WORKERS = (Worker("w", {"cpu": 1000}),)


def request(*tasks: str) -> PlanRequest:
    """A batch of these tasks."""
    pending = tuple(Task(name, {"cpu": 1000}) for name in tasks)
    estimates = {name: {"*": DurationEstimate.certain(5)} for name in tasks}
    return PlanRequest("r", Snapshot(0, 0, WORKERS, pending), estimates)


def digest(asked: PlanRequest, command: str = "run {id}") -> dict[str, str]:
    """Digests of the parts of a batch."""
    return {"tasks": digest_of(*asked.snapshot.pending), "command": digest_of(command)}


def begun(path: Path) -> State:
    """A state in which a batch has begun."""
    state = State(path)
    state.check_digest(digest(request("a")), resume=False)
    state.begin(request("a"))
    return state


def test_a_new_batch_never_falls_into_an_old_file(tmp_path: Path) -> None:
    """It would be reported as completed by what the old one did, and nothing would run."""
    path = tmp_path / "m.db"
    first = begun(path)
    batch = first.batch
    first.close()
    state = State(path)
    with pytest.raises(BadRequest, match=r"the batch of .* already; go on with it by --resume"):
        state.check_digest(digest(request("a")), resume=False)
    with pytest.raises(BadRequest, match="holds another batch, with other tasks;"):
        state.check_digest(digest(request("a", "b")), resume=True)
    with pytest.raises(BadRequest, match="holds another batch, with other command;"):
        state.check_digest(digest(request("a"), "other"), resume=True)
    state.check_digest(digest(request("a")), resume=True)
    assert state.batch == batch
    state.close()
    other = State(tmp_path / "n.db")
    assert other.batch != batch
    other.close()


def test_a_file_in_which_nothing_has_begun_is_new(tmp_path: Path) -> None:
    """A master killed before its batch began could leave a file that nobody can use."""
    State(tmp_path / "m.db").close()
    begun(tmp_path / "m.db").close()


def taken(path: Path) -> str:
    """Why another process cannot have a state; one that gets it is killed with it."""

    def take(path: Path) -> str:
        try:
            State(path)
        except BadRequest as why:
            return str(why)
        return ""

    return watched(take, [path], 60.0)[0][1]


def test_two_masters_never_have_one_file(tmp_path: Path) -> None:
    """Both would write orders into it, and neither could trust what it reads."""
    path = tmp_path / "m.db"
    state = State(path)
    why = taken(path)
    assert why.startswith(f"{path}: master {os.getpid()} on ")
    assert why.endswith("has it; wait until it ends, or stop it")
    state.close()
    state.close()
    assert taken(path) == ""
    # One that was killed has let go of it.
    State(path).close()


def test_a_full_disk_is_told_and_leaves_the_file_whole(tmp_path: Path) -> None:
    """A traceback would be all that is left of the day, or half of what belongs together."""
    path = tmp_path / "m.db"
    state = begun(path)
    state.put_order(OrderRow(("a", 1), ("w",), "ordered", 5))
    pages = state.base.exec_driver_sql("PRAGMA page_count").scalar()
    state.base.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    long = "x" * 100_000
    rows = [
        OrderRow(("b", 1), ("w",), "ordered", 6),
        OrderRow(("c", 1), ("w",), "ended", 7, reason=long),
    ]

    def write() -> None:
        with state.together():
            for row in rows:
                state.put_order(row)

    with pytest.raises(EnvironmentFailed, match=r"m\.db: cannot be written: .*full"):
        write()
    state.close()
    again = State(path)
    assert [row.key for row in again.orders()] == [("a", 1)]
    again.close()


OLD = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE events (number INTEGER PRIMARY KEY, event BLOB NOT NULL, estimates BLOB);
CREATE TABLE orders (
    task TEXT, attempt INTEGER, workers TEXT NOT NULL, state TEXT NOT NULL, ordered_s INTEGER,
    start_s INTEGER, end_s INTEGER, outcome TEXT, reason TEXT NOT NULL,
    PRIMARY KEY (task, attempt));
CREATE TABLE plans (
    number INTEGER PRIMARY KEY, after_event INTEGER NOT NULL, choice TEXT NOT NULL,
    reason TEXT NOT NULL, at_s INTEGER NOT NULL, cost REAL, moved INTEGER, plan BLOB NOT NULL,
    unplanned TEXT NOT NULL);
INSERT INTO facts VALUES ('version', CAST('2' AS BLOB)), ('batch', CAST('b1' AS BLOB)),
    ('made_s', CAST('17' AS BLOB));
INSERT INTO orders VALUES ('a', 1, '["w"]', 'ordered', 5, NULL, NULL, NULL, '');
"""
"""A state as it was written before there were migrations."""


def written(path: Path, script: str) -> None:
    """A database made by a script."""
    with closing(sqlite3.connect(path)) as base:
        base.executescript(script)


def schema(path: Path) -> list[tuple[str, ...]]:
    """Columns and indices of a database."""
    with closing(sqlite3.connect(path)) as base:
        names = [
            name
            for (name,) in base.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        ]
        return sorted(
            (name, *map(str, row[1:]))  # the first is only a number
            for name in names for what in ("table_info", "index_list")
            for row in base.execute(f"PRAGMA {what}({name})")
        )  # fmt: skip


def test_a_state_of_before_is_brought_up_to_date_and_kept(tmp_path: Path) -> None:
    """An upgrade of plancast would lose the batch that was under way, or half of its orders."""
    path = tmp_path / "m.db"
    written(path, OLD)
    with closing(sqlite3.connect(path)) as base:
        base.execute("INSERT INTO facts VALUES ('request', ?)", (to_json(request("a")),))
        base.commit()
    state = State(path)
    assert (state.batch, state.made_s) == ("b1", 17)
    assert [row.key for row in state.orders()] == [("a", 1)]
    assert state.first_request() == request("a")
    state.close()
    State(path).close()
    with closing(sqlite3.connect(tmp_path / f"m.db.before-{tables.NEWEST}")) as kept:
        assert kept.execute("SELECT value FROM facts WHERE name = 'version'").fetchone() == (b"2",)
        assert kept.execute("SELECT task FROM orders").fetchall() == [("a",)]


def test_migrations_lead_to_the_schema_of_new_files(tmp_path: Path) -> None:
    """Files of before would lack a column that the code asks for."""
    alike = OLD.replace("estimates BLOB", "estimates TEXT").replace("cost REAL", "cost FLOAT")
    written(tmp_path / "old.db", alike)
    for name in ("old", "new"):
        State(tmp_path / f"{name}.db").close()
    loose = {"", "0", "1"}  # whether a column may be empty: SQLite's keys always might
    old, new = (
        [tuple(part for part in row if part not in loose) for row in schema(tmp_path / f"{n}.db")]
        for n in ("old", "new")
    )
    assert old == new
    assert {row[0] for row in new} == {*tables.metadata.tables, tables.VERSION_TABLE}


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (f"CREATE TABLE {tables.VERSION_TABLE} (version_num TEXT);"
         f"INSERT INTO {tables.VERSION_TABLE} VALUES ('0999');",
         r"was written by a newer plancast \(its schema is 0999"),
        (OLD.replace("CAST('2' AS BLOB)", "CAST('1' AS BLOB)"), "is of version 1, which"),
        ("CREATE TABLE recipes (name TEXT)", "is no state of a master; name another file"),
    ],
    ids=["newer", "too old", "a stranger's"],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_left_as_it_is(
    script: str, sentence: str, tmp_path: Path
) -> None:
    """Tables would be added to somebody's database, or a newer state be misread."""
    path = tmp_path / "m.db"
    written(path, script)
    before = schema(path)
    with pytest.raises(BadRequest, match=sentence):
        State(path)
    assert schema(path) == before
    assert not list(tmp_path.glob("*.before-*"))
