"""Devices in the files that people write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plancast.pipelines.inputs.user_files import read_cluster, read_tasks, write_cluster
from plancast.planner.model.devices import held_devices
from plancast.planner.model.domain import BadRequest, Snapshot

PAGE = Path(__file__).parents[3] / "docs" / "devices.md"


def test_the_page_shows_files_that_are_read(tmp_path: Path) -> None:
    """docs/devices.md would show a file that is refused."""
    text = PAGE.read_text(encoding="utf-8")
    for name in ("yaml devices.yaml", "csv tasks-devices.csv"):
        found = re.search(rf"```{name}\n(.*?)```", text, re.DOTALL)
        assert found is not None
        (tmp_path / name.split()[1]).write_text(found[1], encoding="utf-8")
    cluster = read_cluster(tmp_path / "devices.yaml")
    tasks = read_tasks(tmp_path / "tasks-devices.csv")
    snapshot = Snapshot(0, 0, cluster.workers, tasks, cluster.running)
    assert [w.device_count for w in cluster.workers] == [4, 4]
    assert held_devices(snapshot) == {"notebook": ((0,),), "train": ((1, 2),)}
    assert snapshot.shares_devices


def test_a_cluster_with_devices_is_written_as_it_is_read(tmp_path: Path) -> None:
    """What a running task holds would be lost on the way through a file."""
    text = (
        "workers: [{id: a, cpus: 4, gpus: 2, devices: true}, {id: b, cpus: 4, gpus: 1.5}]\n"
        "running: [{id: r, gpus: 0.5, shards: 2, workers: [a, a], start_s: 0,"
        " devices: [[1], [0]]}]\n"
    )
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    read = read_cluster(tmp_path / "a.yaml")
    assert [w.devices for w in read.workers] == [True, False]
    assert read.running[0].devices == ((1,), (0,))
    write_cluster(read, tmp_path / "b.yaml")
    assert read_cluster(tmp_path / "b.yaml") == read


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{id: a, cpus: 4, gpus: 1.5, devices: true}", r"workers\.0: worker a: has 1.5 gpu as dev"),
        ("{id: a, cpus: 4, gpus: 2, devices: several}", r"workers\.0\.devices"),
    ],
)
def test_what_is_wrong_with_devices_is_said_in_one_sentence(
    row: str, said: str, tmp_path: Path
) -> None:
    """A user would not know which worker of a cluster file to repair."""
    path = tmp_path / "c.yaml"
    path.write_text(f"workers: [{row}]\n", encoding="utf-8")
    with pytest.raises(BadRequest, match=said):
        read_cluster(path)
