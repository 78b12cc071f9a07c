"""Task tables whose names and columns are nearly right."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.inputs.user_files import read_tasks
from plancast.planner.model.domain import BadRequest


def test_what_is_nearly_right_is_taken_or_named(tmp_path: Path) -> None:
    """TASKS.CSV of another system was no CSV, ``ID`` no ``id``, an index of pandas a riddle."""
    (tmp_path / "T.CSV").write_text("id,requested_s\na,60\n")
    assert [task.id for task in read_tasks(tmp_path / "T.CSV")] == ["a"]
    (tmp_path / "t.csv").write_text("Id,zz9,,Requested_S\na,red,0,60\n")
    with pytest.raises(BadRequest) as caught:
        read_tasks(tmp_path / "t.csv")
    said = str(caught.value)
    assert said.startswith(
        f"{tmp_path / 't.csv'}: unknown columns 'Id'; did you mean 'id'?, ''; remove it (index="
        "False leaves out the index of a frame), 'Requested_S'; did you mean 'requested_s'?, "
        "'zz9'; there are id, cpus, "
    )
    assert said.count("there are") == 1
