"""What a command is called in the shell that the user is in."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection
from pathlib import Path


def command(name: str) -> str:
    """How a command of this installation is called from here.

    Parameters
    ----------
    name : str
        ``plancast``, ``mlflow``: a script beside this Python.

    Returns
    -------
    str
        Its name where the shell finds this very one, else its path: relative below the current
        folder (``.venv/bin/plancast``), absolute elsewhere; quoted for a shell.
    """
    here = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not here.exists():
        return name
    if found is not None and os.path.samefile(found, here):
        return name
    if Path(sys.argv[0]).name == name and os.path.samefile(Path(sys.argv[0]), here):
        here = Path(sys.argv[0])  # as the user called it
    absolute = Path(os.path.abspath(here))
    below = absolute.is_relative_to(Path.cwd())
    return shlex.quote(str(absolute.relative_to(Path.cwd()) if below else absolute))


def for_this_shell(text: str, commands: Collection[str]) -> str:
    """A sentence with each ``plancast COMMAND`` in it as it is called here."""
    ours = command("plancast")
    if ours == "plancast":
        return text
    names = "|".join(map(re.escape, commands))
    return re.sub(rf"(?<![\w./-])plancast (?=(?:{names})\b)", lambda _: f"{ours} ", text)
