"""Commands made of a task: no value of a task may become a command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.pipelines.engines.base import SAFE_LENGTH, safe_name
from plancast.pipelines.master.commands import command_of
from plancast.planner.model.domain import BadRequest, Task

HOSTILE = ["; touch owned", "$(touch owned)", "`touch owned`", "a' ; touch owned; '", "a\ntouch x",
           "{id}", "{app}", "../../etc/passwd", "a b", "*", "~", "%s", "\\", '"', "-n"]  # fmt: skip
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def ran(command: tuple[str, ...], environ: dict[str, str], folder: Path) -> bytes:
    """What a command prints."""
    whole = {**os.environ, **environ}
    return subprocess.run(command, env=whole, cwd=folder, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("shell", [False, True])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_id_is_an_argument_and_nothing_else(
    hostile: str, shell: bool, tmp_path: Path
) -> None:
    """An id of a task file could run a command of its own."""
    template = 'printf "%s" "x$PLANCAST_ID"' if shell else "printf %s x{id}"
    runs = command_of(template, shell=shell)(Task(hostile, {"cpu": 1}))
    assert ran(runs.argv, dict(runs.environ), tmp_path) == f"x{hostile}".encode()
    assert list(tmp_path.iterdir()) == []


@given(TEXTS, TEXTS)
def test_values_never_change_the_number_of_arguments(name: str, app: str) -> None:
    """A blank, a quote or a brace in a value could split or join arguments."""
    runs = command_of("run --id={id} '{app} x' {{id}}")(Task(name, {"cpu": 1}, app=app))
    assert runs.argv == ("run", f"--id={name}", f"{app} x", "{id}")
    assert dict(runs.environ)["PLANCAST_ID"] == name


def test_a_command_is_made_of_a_task() -> None:
    """A task could run another one's command."""
    task = Task("t7", {}, app="bwa", owner="ann", requested_s=60)
    runs = command_of("{app} {id} {owner} {requested_s}")(task)
    assert runs.argv == ("bwa", "t7", "ann", "60")
    assert dict(runs.environ) == {
        "PLANCAST_ID": "t7", "PLANCAST_APP": "bwa", "PLANCAST_OWNER": "ann",
        "PLANCAST_REQUESTED_S": "60",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("template", "shell", "sentence"),
    [
        ("{nothing}", False, "'nothing' is no field"),
        ("{id.__class__}", False, "is no field"),
        ("{id!r}", False, "is no field"),
        ("{id:>9}", False, "is no field"),
        ("run {id", False, "expected '}'"),
        ("run 'x", False, "No closing quotation"),
        ("run {id}; rm x", False, "';' means something to a shell only"),
        ("run {id} > log", False, "'>' means something to a shell only"),
        ("run $HOME", False, "means something to a shell only"),
        ("run {id}", True, 'write "$PLANCAST_ID" instead of {id}'),
    ],
)
def test_templates_that_would_not_do_what_they_say_are_refused(
    template: str, shell: bool, sentence: str
) -> None:
    """A template written for a shell could run half of itself, or with braces left in it."""
    with pytest.raises(BadRequest) as wrong:
        command_of(template, shell=shell)
    assert sentence in str(wrong.value)


def test_quoted_shell_syntax_and_shell_variables_are_left_alone() -> None:
    """Templates that mean what they say could be refused."""
    task = Task("t", {})
    assert command_of("grep 'a|b' \"x;y\" c\\;d")(task).argv == ("grep", "a|b", "x;y", "c;d")
    assert command_of("echo ${id} {a,b}", shell=True)(task).argv[2] == "echo ${id} {a,b}"
    with pytest.raises(BadRequest, match="zero byte"):
        command_of("run {id}")(Task("a\0b", {}))


@given(st.lists(TEXTS, min_size=2, max_size=2, unique=True))
def test_safe_names_are_safe_and_differ(pair: list[str]) -> None:
    """Two tasks could write into one file, or one task outside the folder."""
    first, second = map(safe_name, pair)
    assert first != second
    for name in (first, second):
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert 0 < len(name) <= SAFE_LENGTH + 17
        assert name.strip(".")
