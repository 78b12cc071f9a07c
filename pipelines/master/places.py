"""Where a master's state is: a file of SQLite, or a database of PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from plancast.planner.model.domain import BadRequest

DRIVERS = ("postgresql", "postgresql+psycopg")


@dataclass(frozen=True)
class Place:
    """Where a state is.

    Parameters
    ----------
    url : URL
    name : str
        What to call it in a sentence; without a password.
    files : Path
        What belongs to the state stands beside it, under this name with another ending: what
        runs have printed, the cluster that was started, how its master is reached.
    """

    url: sa.URL
    name: str
    files: Path

    @property
    def shared(self) -> bool:
        """Whether several masters may stand by for it."""
        return self.url.get_backend_name() == "postgresql"


def place_of(where: str | Path, files: Path | None = None) -> Place:
    """The place that a path or a URL names.

    Parameters
    ----------
    where : str or Path
        A file, or ``postgresql+psycopg://USER@HOST/DATABASE``.
    files : Path, optional
        As of ``Place``; by default the file, or the database's name in the current folder.

    Raises
    ------
    BadRequest
        Where it is a URL of something else, or the driver is not installed.
    """
    if isinstance(where, Path) or "://" not in where:
        path = Path(where)
        return Place(sa.URL.create("sqlite", database=str(path)), str(path), files or path)
    usual = "write postgresql+psycopg://USER@HOST/DATABASE, or name a file"
    try:
        url = sa.make_url(where)
    except (ArgumentError, ValueError):
        raise BadRequest(f"--state: is no URL of a database; {usual}") from None
    name = url.render_as_string(hide_password=True)
    if url.drivername not in DRIVERS or not url.database:
        raise BadRequest(f"--state {name}: is no database of PostgreSQL; {usual}")
    if find_spec("psycopg") is None:
        raise BadRequest(f"--state {name}: needs the extra; pip install 'plancast[postgresql]'")
    return Place(url.set(drivername=DRIVERS[-1]), name, files or Path(url.database))
