"""A master before a site's partitions: tasks run where theirs is."""

from __future__ import annotations

from pathlib import Path

from plancast.pipelines.inputs.slurm_nodes import USUAL_PARTITION
from plancast.planner.model.domain import Worker
from tests.pipelines.master.test_living import Charging, Town

LABELS = ({"partition:a", USUAL_PARTITION}, {"partition:a", USUAL_PARTITION}, {"partition:b"})
WORKERS = tuple(Worker(f"w{k}", {"cpu": 2000}, frozenset(some)) for k, some in enumerate(LABELS))


def test_tasks_run_where_their_partition_is(tmp_path: Path) -> None:
    """Slurm would refuse a node that is not in the partition of its job."""
    town = Town(tmp_path / "m.db", WORKERS, engine_kind=Charging)
    town.submit(*({"id": f"a{k}", "partition": "a"} for k in range(4)))
    town.submit(*({"id": f"b{k}", "partition": "b"} for k in range(4)))
    town.submit(*({"id": f"n{k}"} for k in range(4)), {"id": "x", "partition": "c"})
    for _ in range(20):
        town.master.step(30.0)
    town.reopen()
    for _ in range(40):
        town.master.step(30.0)
    where = {key[0]: run.workers for key, run in town.engine.runs.items()}
    assert len(where) == 12
    for name, workers in where.items():
        assert (workers == ("w2",)) == (name[0] == "b"), name
    refused = town.looks.why("x")
    assert "no worker is in it; they are in a, b" in str(refused)
    town.kill()
