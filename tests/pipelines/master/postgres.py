"""A server of PostgreSQL for the tests, and a database of its own for each of them."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.master.places import Place, place_of

HOMES = (*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *Path("/usr/bin").glob("initdb"))
OWNER = "postgres"


class Server:
    """A server that listens on the loopback address, until it is stopped.

    Parameters
    ----------
    folder : Path
        Which the server's user may write.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.data = folder / "data"
        # It runs as nobody's administrator: as its own user where the tests are root's.
        self.user: dict[str, Any] = {"user": OWNER, "group": OWNER, "extra_groups": []}
        if os.getuid() != 0:
            self.user = {}
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.run("initdb", "-D", self.data, "-U", "plancast", "-A", "trust", "-E", "UTF8", "-N")
        self.start()
        self.numbers = itertools.count()

    def run(self, program: str, *arguments: Any) -> None:
        """Run one of its programs to the end."""
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, **self.user,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode()

    def start(self) -> None:
        """Start it, after a crash, too."""
        # The tests end the server, never the machine: what it wrote is there without fsync.
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = self.folder / "log"
        self.run("pg_ctl", "-D", self.data, "-w", "-l", log, "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """Stop it; ``immediate`` is a crash."""
        self.run("pg_ctl", "-D", self.data, "-w", "-m", how, "stop")

    def ended(self) -> None:
        """Stop it, and remove what it has written."""
        self.stop()
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """The URL of a new database."""
        name = f"state{next(self.numbers)}"
        at = ["-h", "127.0.0.1", "-p", self.port, "-U", "plancast"]
        self.run("createdb", *at, name)
        return f"postgresql+psycopg://plancast@127.0.0.1:{self.port}/{name}"

    def place(self, folder: Path) -> Place:
        """A place in a new database, whose files stand in a folder."""
        return place_of(self.database(), folder / "master")


def made() -> Server:
    """A running server; ``HOMES`` must not be empty."""
    programs = next(home for home in reversed(HOMES) if (home / "initdb").exists())
    folder = Path(tempfile.mkdtemp(prefix="plancast-"))
    if os.getuid() == 0:
        owner = pwd.getpwnam(OWNER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    return Server(programs, folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A running server."""
    if not any((home / "initdb").exists() for home in HOMES):
        pytest.skip("PostgreSQL is not installed: its package brings initdb and pg_ctl")
    server = made()
    try:
        yield server
    finally:
        server.ended()
