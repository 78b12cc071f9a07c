"""cli.common: tables that say what there is, however narrow the terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from plancast.pipelines.cli.common import table


def test_a_long_name_takes_no_room_from_the_numbers() -> None:
    """Of the start and end of a task with a long name nothing but an ellipsis was left."""
    name, out = "WORKFLOW:ALIGN:" + "x" * 200, StringIO()
    rows = [[name, "w0", "+1157 days, 9:46:39"], ["b", "w1", "now"]]
    Console(file=out, width=80).print(table("Plan", ["task", "on", "end"], rows))
    shown = out.getvalue()
    assert "+1157 days, 9:46:39" in shown
    assert shown.count("x") == 200
