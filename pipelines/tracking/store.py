"""Where MLflow keeps runs and models: the store that the environment names, or one of our own.

The store is where ``MLFLOW_TRACKING_URI`` says; without it a SQLite file under ``data/mlflow``
of the current directory, given by an absolute URI so that it does not follow later changes of
directory.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plancast.pipelines.inputs.shell import command

EXPERIMENT = "plancast"
STORE = Path("data/mlflow")
URI_VARIABLE = "MLFLOW_TRACKING_URI"
"""Where MLflow's own tools look for the store."""
_own_uris: set[str] = set()
"""Stores that were taken because the environment names none."""


def store_uri() -> str:
    """URI of the store: of the environment, else the absolute one of the SQLite file."""
    return given_uri() or own_uri()


def given_uri() -> str:
    """What the environment says; "" where it says nothing.

    MLflow puts the store that it is given into the variable, for its subprocesses: that of
    another folder that was the current one before is nobody's wish.
    """
    found = os.environ.get(URI_VARIABLE, "").strip()
    return "" if found in _own_uris else found


def own_uri() -> str:
    """URI of the store that is taken where the environment names none."""
    return f"sqlite:///{(STORE / 'mlflow.db').resolve()}"


def take_own() -> str:
    """Make the folder of our own store, which is used from now on; its URI."""
    STORE.mkdir(parents=True, exist_ok=True)
    _own_uris.add(own_uri())
    return own_uri()


@contextmanager
def alone() -> Iterator[None]:
    """Hold our own store alone: two that make its tables at once trip over each other's."""
    if given_uri():
        yield
        return
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / "mlflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ui_command() -> str:
    """The command that opens the store in a browser."""
    return f"{command('mlflow')} ui --backend-store-uri {shlex.quote(store_uri())}"


def store_name() -> str:
    """The store as a sentence calls it; a password in a URI is left out."""
    if given_uri():
        return f"{URI_VARIABLE} {re.sub(r'//[^/@]*@', '//', store_uri())}"
    return f"{STORE}/mlflow.db"
