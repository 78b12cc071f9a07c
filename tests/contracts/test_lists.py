"""Options that take several values: none of them, or an empty one among them, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.cli import main
from tests.contracts.test_outputs import COMMANDS

BESIDES = {
    "bench": ["--kind", "cluster"],
    "train": ["-o", "m"],
    "export nextflow-config": ["-o", "c"],
}
"""Options that a command needs besides its arguments."""
ALSO = {("bench", "--only"), ("bench", "--sizes")}
"""Lists whose default and help name no second value."""


def lists() -> list[tuple[str, str]]:
    """Command and option of every list: the default has a comma, or the help says commas."""
    found = set(ALSO)
    for name, command in COMMANDS.items():
        for option in command.params:
            of_text = isinstance(option.default, str | None) and option.opts[0].startswith("--")
            by_help = "commas" in (getattr(option, "help", None) or "")
            if of_text and (by_help or "," in str(option.default)):
                found.add((name.removeprefix("plancast "), option.opts[0]))
    return sorted(found)


@pytest.mark.parametrize("given", ["", "a,", " "])
@pytest.mark.parametrize(("name", "option"), lists())
def test_a_list_without_a_value_is_refused(
    name: str, option: str, given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs in its place would be the default, or nothing, with a result for it."""
    file = tmp_path / "log.swf"
    file.write_text("")
    command: Any = COMMANDS[f"plancast {name}"]
    needed = [str(file) for p in command.params if p.param_type_name == "argument"]
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), *needed, *BESIDES.get(name, []), option, given])
    assert ended.value.code == 2
    assert f"{option} {given!r}: " in capsys.readouterr().err


def test_lists_are_found() -> None:
    """The test above would go over none."""
    assert {("backtest", "--dispatchers"), ("train", "--levels")} <= set(lists())
