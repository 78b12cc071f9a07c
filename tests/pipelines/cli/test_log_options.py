"""How a log is read is asked for alike by every command that reads one."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from plancast.pipelines.cli.log_options import OPTIONS, reads_log
from plancast.pipelines.inputs.reading import Reading
from plancast.planner.model.domain import BadRequest


def read_by(arguments: list[str], *names: str) -> Reading:
    """What a command that offers these options is given."""
    found: list[Reading] = []

    @reads_log(*names)
    def command(
        log: str, deep: Annotated[bool, typer.Option("--deep")] = False, *, reading: Reading
    ) -> None:
        assert (log, deep) == ("a.csv", True)
        found.append(reading)

    app = typer.Typer()
    app.command()(command)
    answer = CliRunner().invoke(app, ["a.csv", "--deep", *arguments])
    if answer.exception is not None:
        raise answer.exception
    return found[0]


def test_each_option_is_what_the_log_is_read_by() -> None:
    """A command could offer an option and read the log without it."""
    assert list(OPTIONS) == [one.name for one in fields(Reading)]
    assert read_by([]) == Reading()
    given = {
        "format": "sacct", "columns": "map.yaml", "timezone": "Asia/Tokyo",
        "fields": "JobID,Submit", "delimiter": ";", "max_bad": "20%",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    words[words.index("--max_bad")] = "--max-bad"
    assert asdict(read_by([*words, "--strict"])) == given | {"max_bad": 0.2, "strict": True}
    with pytest.raises(BadRequest, match="many"):
        read_by(["--max-bad", "many"])


def test_a_command_may_offer_some_of_them() -> None:
    """``init`` writes down how a log is read, and has no place for all."""
    assert read_by(["--columns", "x"], "format", "columns") == Reading(columns="x")
    with pytest.raises(SystemExit):
        read_by(["--strict"], "format", "columns")
