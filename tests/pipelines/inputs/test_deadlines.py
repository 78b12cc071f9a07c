"""Deadlines that cannot be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.inputs.user_files import read_tasks
from plancast.planner.model.domain import BadRequest


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "id,deadline_s\na,2024-05-01T18:00:00Z\n",
            "the moment of planning, 2026-12-02 23:36:32 UTC; correct it, leave it empty, or name "
            "that moment: now_s of the cluster file",
        ),
        (
            "id,release_s,deadline_s\na,2024-05-02,2024-05-01T18:00:00Z\n",
            "its release_s (else submit_s), 2024-05-02 00:00:00 UTC; correct one of them",
        ),
    ],
)
def test_a_deadline_that_has_passed_is_refused_in_dates(
    text: str, sentence: str, tmp_path: Path
) -> None:
    """Who wrote a date and no release would read of two numbers, one of which is not his."""
    path = tmp_path / "tasks.csv"
    path.write_text(text)
    with pytest.raises(BadRequest) as caught:
        read_tasks(path, now_s=1_796_254_592)
    begin = f"{path}: row 1: task a: deadline_s 2024-05-01 18:00:00 UTC lies before "
    assert str(caught.value) == begin + sentence
