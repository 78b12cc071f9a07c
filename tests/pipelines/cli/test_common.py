"""cli.common: tables that say what there is, however narrow the terminal."""

from __future__ import annotations

import json
import runpy
import sys
from io import StringIO

import pytest
from rich.console import Console

from plancast.pipelines.cli import common
from plancast.pipelines.cli.common import hand_over, table


def test_a_long_name_takes_no_room_from_the_numbers() -> None:
    """Of the start and end of a task with a long name nothing but an ellipsis was left."""
    name, out = "WORKFLOW:ALIGN:" + "x" * 200, StringIO()
    rows = [[name, "w0", "+1157 days, 9:46:39"], ["b", "w1", "now"]]
    Console(file=out, width=80).print(table("Plan", ["task", "on", "end"], rows))
    shown = out.getvalue()
    assert "+1157 days, 9:46:39" in shown
    assert shown.count("x") == 200


def test_a_title_is_as_wide_as_the_screen() -> None:
    """A sentence above two narrow columns was broken into four lines of their width."""
    out, title = StringIO(), "On the last stretch of the [log], before the calibration"
    Console(file=out, width=80).print(table(title, ["metric", "value"], [["mae_s", "1"]]))
    assert out.getvalue().splitlines()[0].rstrip() == title


def test_facts_on_standard_output_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A log without requested times has infinite errors, which no JSON parser takes."""
    assert not hand_over({"mae_s": float("inf")}, "table", common.Path("-"))
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"mae_s": None}


def test_a_command_without_an_output_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that closes what it does not use would see a traceback."""
    monkeypatch.setattr(sys, "stdout", None)
    assert runpy.run_path(common.__file__)["console"].width == common.PIPED_WIDTH
