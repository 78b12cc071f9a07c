"""Words for people."""

from __future__ import annotations

from plancast.wording import counted


def test_one_of_a_thing_is_no_several() -> None:
    """'1 tasks' reads as a fault of the program."""
    assert counted(1, "task") == "1 task"
    assert counted(0, "task") == "0 tasks"
    assert counted(1200, "waiting job") == "1,200 waiting jobs"
    assert counted(2.0, "process", "processes") == "2 processes"
