"""What is deployed: the unit's and the image's commands exist, and back-ups can be restored."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from plancast.pipelines.master.state import OrderRow, State
from tests.conftest import ROOT
from tests.pipelines.master.postgres import Server, postgres
from tests.pipelines.master.test_state import begun, request
from tests.test_docs import parse

__all__ = ["postgres"]  # a fixture

DEPLOY = ROOT / "deploy"
LINES = re.sub(r"\\\n", " ", (DEPLOY / "Containerfile").read_text()).splitlines()
ROW = OrderRow(("a", 1), ("w",), "ordered", 5)


def steps(kind: str) -> list[str]:
    """What stands after a word of the Containerfile."""
    return [line.split(maxsplit=1)[1] for line in LINES if line.split(maxsplit=1)[:1] == [kind]]


def plancast_commands(text: str) -> list[list[str]]:
    """The commands of ours in lines of a shell or a unit."""
    parts = re.split(r"&&|\n|^ExecStart(?:Pre)?=", text, flags=re.MULTILINE)
    words = [shlex.split(part) for part in parts if part.strip()]
    return [["plancast", *w[1:]] for w in words if w and w[0].rpartition("/")[2] == "plancast"]


def test_the_image_is_built_of_what_is_there() -> None:
    """It could not be built, or not be started; there is no engine here that would tell."""
    for step in steps("COPY"):
        source, _ = step.split()
        assert (ROOT / source).exists()
    runs = " && ".join(steps("RUN"))
    assert "-c /src/constraints.txt /src" in runs
    assert (ROOT / "constraints.txt").is_file()
    commands = plancast_commands(runs)
    assert commands == [["plancast", "doctor", "--warm"]]
    parse(commands[0])
    (entry,) = (json.loads(step) for step in steps("ENTRYPOINT"))
    parse([*entry, "--cluster", "cluster.yaml"])
    assert steps("EXPOSE") == [entry[entry.index("--port") + 1]]
    assert Path(entry[entry.index("--state") + 1]).parent == Path(*steps("VOLUME"))
    (base,) = steps("FROM")
    least = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    version = re.search(r"python:(\d+)\.(\d+)", base)
    assert least is not None
    assert version is not None
    assert tuple(map(int, version.groups())) >= tuple(map(int, least.groups()))


def test_every_program_that_the_image_runs_is_known() -> None:
    """A step would end with `command not found`."""
    known = {"apt-get", "rm", "pip", "useradd", "install", "plancast"}
    words = {part.split()[0] for step in steps("RUN") for part in step.split("&&")}
    assert words == known
    for program in known - {"plancast", "pip"}:
        assert shutil.which(program) is not None or program == "apt-get"


def test_the_units_commands_parse_and_keep_their_state() -> None:
    """The service would end at once, or write where systemd does not let it."""
    unit = (DEPLOY / "plancast-master.service").read_text()
    warm, serve = plancast_commands("\n".join(re.findall(r"^ExecStart.*", unit, re.MULTILINE)))
    parse(warm)
    parse(serve)
    if verify := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [verify, "verify", str(DEPLOY / "plancast-master.service")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Unknown" not in done.stderr
    folder = re.search(r"^StateDirectory=(\w+)$", unit, re.MULTILINE)
    assert folder is not None
    assert Path(serve[serve.index("--state") + 1]).parent == Path("/var/lib") / folder[1]
    page = (ROOT / "docs" / "operations.md").read_text()
    for path in ("/etc/plancast/cluster.yaml", "/var/lib/plancast/master.db"):
        assert path in unit
        assert path in page


def test_a_backup_of_a_file_is_restored_as_the_page_says(tmp_path: Path) -> None:
    """The copy would lack what is in the log beside it, on the day when it is needed."""
    state = begun(tmp_path / "master.db")
    state.put_order(ROW)
    (shown,) = re.findall(
        r'`sqlite3 master\.db "(\.backup copy\.db)"`', (ROOT / "docs" / "operations.md").read_text()
    )
    if shutil.which("sqlite3") is None:
        with closing(sqlite3.connect(tmp_path / "master.db")) as old:
            old.execute(f"VACUUM INTO '{tmp_path / 'copy.db'}'")
    else:
        subprocess.run(["sqlite3", "master.db", shown], cwd=tmp_path, check=True)
    state.put_order(OrderRow(("b", 1), ("w",), "ordered", 6))
    batch = state.batch
    state.close()
    (tmp_path / "copy.db").replace(tmp_path / "master.db")
    for ending in ("wal", "shm"):
        (tmp_path / f"master.db-{ending}").unlink(missing_ok=True)
    again = State(tmp_path / "master.db")
    assert (again.batch, [row.key for row in again.orders()]) == (batch, [("a", 1)])
    again.close()


def test_a_backup_of_a_database_is_restored_as_the_page_says(
    postgres: Server, tmp_path: Path
) -> None:
    """A dump would not go in again, or bring half of it."""
    page = (ROOT / "docs" / "operations.md").read_text()
    dump, restore = re.findall(r"`(pg_dump [^`]*plancast|pg_restore[^`]*)`", " ".join(page.split()))
    place = postgres.place(tmp_path)
    state = State(place)
    state.begin(request("a"))
    state.put_order(ROW)
    batch = state.batch

    def run(shown: str) -> None:
        words = shlex.split(shown.replace("plancast", str(place.url.database)))
        words[0] = str(postgres.programs / words[0])
        at = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", "plancast"]
        subprocess.run([words[0], *at, *words[1:]], cwd=tmp_path, check=True)

    run(dump)
    state.put_order(OrderRow(("b", 1), ("w",), "ordered", 6))
    state.close()
    run(restore)
    again = State(place)
    assert (again.batch, [row.key for row in again.orders()]) == (batch, [("a", 1)])
    again.close()


@pytest.mark.parametrize("word", ["createdb", "pg_dump", "pg_restore"])
def test_programs_of_the_page_are_those_of_postgresql(postgres: Server, word: str) -> None:
    """A reader would look for a command that there is not."""
    assert f"{word} " in (ROOT / "docs" / "operations.md").read_text()
    assert (postgres.programs / word).exists()
