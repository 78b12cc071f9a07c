"""What a plan of a master looks at stays bounded, whatever the cluster does."""

from __future__ import annotations

from pathlib import Path

from plancast.planner.model.domain import Worker
from tests.pipelines.master.test_living import Town

WORKERS = (Worker("w0", {"cpu": 2000}), Worker("w1", {"cpu": 2000}, frozenset({"fast"})))


def test_a_cluster_that_is_down_lets_no_more_tasks_into_the_plan(tmp_path: Path) -> None:
    """No task has a place then, and all of a long queue came in: plans took seconds afterwards."""
    town = Town(tmp_path / "m.db", WORKERS, window=10)
    town.ask("drain", "w0", "w1")
    town.master.step(30.0)
    for k in range(5):
        town.submit(*({"id": f"t{k}-{n}"} for n in range(10)))
        town.master.step(30.0)
    assert len(town.master.mind.snapshot.pending) <= 10
    town.ask("undrain", "w0", "w1")
    for _ in range(60):
        town.master.step(30.0)
        assert len(town.master.mind.snapshot.pending) <= 20
    assert town.looks.status()["ended"] == {"completed": 50}
    town.kill()


def test_tasks_without_a_place_keep_nobody_out(tmp_path: Path) -> None:
    """A few hundred tasks for nodes that are down would stop the whole cluster."""
    town = Town(tmp_path / "m.db", WORKERS, window=10)
    town.ask("drain", "w1")
    town.submit(*({"id": f"f{n}", "requires": ["fast"]} for n in range(25)))
    town.master.step(30.0)
    town.submit(*({"id": f"t{n}"} for n in range(20)))
    for _ in range(60):
        town.master.step(30.0)
    assert town.looks.status()["ended"] == {"completed": 20}
    town.ask("undrain", "w1")
    for _ in range(60):
        town.master.step(30.0)
    assert town.looks.status()["ended"] == {"completed": 45}
    town.kill()
