"""What runs for a task: a program and its arguments, made from one template without a shell.

The template is split into words first, and values are put into the words afterwards: whatever a
value holds, it stays one part of one argument. With a shell the template is passed on as it is,
and the values are in the environment only.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Callable
from dataclasses import dataclass

from plancast.planner.model.domain import BadRequest, Task

FIELDS = ("id", "app", "owner", "requested_s")
SHELL_SYNTAX = re.compile(r"[;|&<>`]|\$\(|\$\{?\w")
ENVIRON = {name: f"PLANCAST_{name.upper()}" for name in FIELDS}
"""Environment variables that hold the values, with or without a shell."""
ATTEMPT = "PLANCAST_ATTEMPT"
"""The one that holds the number of the attempt."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A program with its arguments, and what is added to its environment."""

    argv: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()


Command = Callable[[Task], Invocation]


def command_of(template: str, *, shell: bool = False) -> Command:
    """Commands from one template with ``{id}``, ``{app}``, ``{owner}``, ``{requested_s}``.

    Parameters
    ----------
    template : str
        Words as a shell splits them.
    shell : bool
        Run ``/bin/sh -c TEMPLATE``; values are in ``$PLANCAST_ID`` and so on only.

    Raises
    ------
    BadRequest
        Where the template names another field, or needs what it is not run with.
    """
    if shell:
        _refuse_fields(template)
        return lambda task: Invocation(("/bin/sh", "-c", template), _environ(task))
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise BadRequest(f"--command {template!r}: {error}") from None
    parts = [_parsed(template, word) for word in words]
    if found := SHELL_SYNTAX.search(_unquoted(template)):
        raise BadRequest(
            f"--command {template!r}: {found.group()!r} means something to a shell only; quote "
            'it, or add --shell and take values from the environment, as in "$PLANCAST_ID"'
        )

    def command(task: Task) -> Invocation:
        values = _values(task)
        argv = tuple("".join(text + values.get(name, "") for text, name in word) for word in parts)
        return Invocation(argv, _environ(task))

    return command


def _values(task: Task) -> dict[str, str]:
    values = {
        "id": task.id, "app": task.app, "owner": task.owner,
        "requested_s": str(task.requested_s or ""),
    }  # fmt: skip
    for name, value in values.items():
        if "\0" in value:
            raise BadRequest(
                f"task {task.id!r}: {name} has a zero byte, which no argument can hold"
            )
    return values


def _environ(task: Task) -> tuple[tuple[str, str], ...]:
    return tuple((ENVIRON[name], value) for name, value in _values(task).items())


def _parsed(template: str, word: str) -> list[tuple[str, str]]:
    """Text and the field after it, of each part of a word."""
    try:
        parts = list(string.Formatter().parse(word))
    except ValueError as error:
        raise BadRequest(f"--command {template!r}: {error}") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in FIELDS or form or conversion):
            raise BadRequest(
                f"--command {template!r}: {name!r} is no field; use {{id}}, {{app}}, {{owner}} or "
                "{requested_s}"
            )
    return [(text, name or "") for text, name, _, _ in parts]


def _refuse_fields(template: str) -> None:
    found = re.search(rf"(?<!\$)\{{({'|'.join(FIELDS)})\}}", template)
    if found:
        name = found.group(1)
        raise BadRequest(
            f"--command {template!r}: with --shell values are in the environment only; write "
            f'"${ENVIRON[name]}" instead of {{{name}}}'
        )


def _unquoted(template: str) -> str:
    """What of a template stands outside quotes and is not escaped."""
    return re.sub(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", " ", template, flags=re.DOTALL)
