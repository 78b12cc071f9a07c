"""Scalars of YAML files: names as they are written, numbers as a table would read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.inputs.user_files import read_cluster
from plancast.planner.model.domain import BadRequest

NAMES = (
    "010", "001", "08", "7_1", "1_000.5", "0x10", "0b11", "0o17", "12:30", "1:30:00", "1.10",
    "2.0", "1.50e+3", ".5", "+5", "-3", "1e3", "42", "3.14", "a.b",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_is_written(name: str, tmp_path: Path) -> None:
    """Node 010 became node 8, and no task ran on what has version 1.10."""
    (tmp_path / "c.yaml").write_text(f"workers: [{{id: {name}, cpus: 4, labels: [{name}]}}]\n")
    (worker,) = read_cluster(tmp_path / "c.yaml").workers
    assert worker.id == name
    assert worker.labels == {name}


@pytest.mark.parametrize(
    ("written", "cores"), [("010", 10), ("1.50", 1.5), ("+5", 5), ("2e0", 2), (".5", 0.5)]
)
def test_a_number_is_the_one_of_a_table(written: str, cores: float, tmp_path: Path) -> None:
    """010 cores were 8 in a cluster file and 10 in a table of tasks."""
    (tmp_path / "c.yaml").write_text(f"workers: [{{id: w, cpus: {written}}}]\n")
    assert read_cluster(tmp_path / "c.yaml").workers[0].capacity["cpu"] == 1000 * cores


def test_a_time_of_the_day_is_no_moment(tmp_path: Path) -> None:
    """Half past twelve was second 45,000 of 1970."""
    (tmp_path / "c.yaml").write_text("now_s: 12:30:00\nworkers: [{id: w, cpus: 1}]\n")
    with pytest.raises(BadRequest, match=r"c\.yaml: now_s: '12:30:00' is not a time like"):
        read_cluster(tmp_path / "c.yaml")
