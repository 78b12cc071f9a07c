"""Tasks with modes in the files that users write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plancast.pipelines.inputs.estimate_files import read_estimates, write_estimates
from plancast.pipelines.inputs.requests import request_from_files
from plancast.pipelines.inputs.user_files import (
    read_cluster,
    read_request,
    read_tasks,
    write_batch,
    write_tasks,
)
from plancast.planner.model.domain import BadRequest, Mode

TASKS = """id,mode,cpus,shards,deadline_s,after,requested_s,res_tokens
fold,small,4,1,7200,,5400,
fold,large,16,1,,,1800,
fold,spread,8,4,7200,,900,12
score,,1,1,,fold,60,
"""
CLUSTER = """now_s: 0
workers: [{id: n, count: 4, cpus: 16}]
running:
  - {id: old, mode: wide, cpus: 2, shards: 2, workers: [n-0, n-1], start_s: -5, requested_s: 60}
budgets: {tokens: 40}
"""


def files(home: Path, tasks: str = TASKS) -> tuple[Path, Path]:
    """The two files."""
    for name, text in (("tasks.csv", tasks), ("cluster.yaml", CLUSTER)):
        (home / name).write_text(text, encoding="utf-8")
    return home / "tasks.csv", home / "cluster.yaml"


def test_rows_of_a_task_are_its_modes(tmp_path: Path) -> None:
    """Each row would be a task of its own, or only one of them known."""
    request = request_from_files(*files(tmp_path))
    fold, score = request.snapshot.pending
    assert fold.modes[2] == Mode("spread", {"cpu": 8000, "tokens": 12}, 4, (), 900)
    assert (fold.demand, fold.deadline_s, score.after) == ({}, 7200, ("fold",))
    assert {mode: by["*"].seconds for mode, by in request.estimates["fold"].items()} == {
        "small": (5400,), "large": (1800,), "spread": (900,),
    }  # fmt: skip
    (running,) = request.snapshot.running
    assert (running.mode, running.done.demand) == ("wide", {"cpu": 2000})
    assert request.snapshot.budgets == {"tokens": 40}


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    """docs/modes.md would show a file that is refused."""
    text = (Path(__file__).parents[3] / "docs" / "modes.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```csv \S+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert example == TASKS


def test_a_batch_with_modes_reads_back_as_it_was(tmp_path: Path) -> None:
    """What is written would lose modes, budgets or their estimates."""
    request = request_from_files(*files(tmp_path))
    write_batch(request, tmp_path / "again")
    assert read_tasks(tmp_path / "again" / "tasks.csv") == request.snapshot.pending
    assert read_request(tmp_path / "again" / "request.json") == request
    assert read_estimates(tmp_path / "again" / "estimates.parquet") == request.estimates
    cluster = read_cluster(tmp_path / "again" / "cluster.yaml")
    assert (cluster.running, cluster.budgets) == (
        request.snapshot.running, request.snapshot.budgets,
    )  # fmt: skip
    write_tasks(request.snapshot.pending, tmp_path / "tasks.json")
    assert read_tasks(tmp_path / "tasks.json") == request.snapshot.pending
    write_estimates(request.estimates, tmp_path / "estimates.json")
    assert read_estimates(tmp_path / "estimates.json") == request.estimates


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("a,m,1\na,m,2\n", "row 2: column 'id': task a is in row 1 already"),
        ("a,m,1\na,,2\n", "row 2: column 'id': task a is in row 1 already"),
        ("a,,1\na,m,2\n", "row 2: column 'id': task a is in row 1 already"),
    ],
)
def test_a_row_that_is_no_other_mode_is_refused(tmp_path: Path, rows: str, sentence: str) -> None:
    """One of two rows with the same name would be lost in silence."""
    tasks, _ = files(tmp_path, "id,mode,cpus\n" + rows)
    with pytest.raises(BadRequest, match="task a") as refused:
        read_tasks(tasks)
    assert "row 2" in str(refused.value)


def test_modes_that_disagree_about_their_task_are_refused(tmp_path: Path) -> None:
    """The deadline of a later row would be dropped in silence."""
    tasks, _ = files(tmp_path, "id,mode,cpus,deadline_s\na,m,1,50\na,n,2,60\n")
    with pytest.raises(BadRequest, match=r"row 2.*differs between the modes of task a"):
        read_tasks(tasks)


def test_estimates_with_and_without_a_mode_are_refused(tmp_path: Path) -> None:
    """One of the two would be lost in silence."""
    path = tmp_path / "e.csv"
    path.write_text("task,mode,level,seconds\na,m,0.5,3\na,,0.5,4\n", encoding="utf-8")
    with pytest.raises(BadRequest, match="task a has estimates of mode m and of no mode"):
        read_estimates(path)
