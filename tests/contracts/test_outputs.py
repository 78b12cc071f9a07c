"""No command writes to a file that it reads, or two outputs to one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.cli import _program
from plancast.pipelines.cli.common import OUTPUTS, Command
from plancast.planner.model.domain import BadRequest


def commands(below: Any, name: str = "plancast") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    for word, inner in getattr(below, "commands", {}).items():
        yield from commands(inner, f"{name} {word}")
    if not getattr(below, "commands", {}):
        yield name, below


COMMANDS = dict(commands(_program()))


def paths(command: Any) -> list[Any]:
    """Parameters that take a path."""
    return [p for p in command.params if "Path" in str(p.type_descriptor.annotation)]


def test_every_output_is_known_as_one() -> None:
    """An option that writes would be taken for one that reads."""
    written = {p.name for c in COMMANDS.values() for p in paths(c) if "--output" in p.opts}
    assert written == {"output"}
    assert sum(p.name in OUTPUTS for c in COMMANDS.values() for p in paths(c)) > 20


@pytest.mark.parametrize("name", COMMANDS)
def test_no_output_is_a_file_of_the_command_besides(name: str, tmp_path: Path) -> None:
    """A user's tasks, or log, would be gone, and a plan in their place."""
    command = COMMANDS[name]
    assert isinstance(command, Command)
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("mine")
    link.symlink_to(file)
    for one, other in itertools.permutations(paths(command), 2):
        if one.name in OUTPUTS:
            ctx = command.make_context(name, [], resilient_parsing=True)
            ctx.params = {one.name: link, other.name: file}
            with pytest.raises(BadRequest, match=r"(?:file|link): is the file of \S+ too"):
                command.invoke(ctx)
