"""Windows of workers in a running master: of the cluster file, and of what its engine says."""

from __future__ import annotations

from pathlib import Path

from plancast.pipelines.engines.base import WorkerDown, WorkerUp, WorkerWindows
from plancast.pipelines.master.windows import Windows
from plancast.planner.model.domain import Window, Worker
from plancast.planner.model.messages import WorkerBlocked
from tests.pipelines.master.test_living import START_S, Town

FILED = Window(1_000, 2_000)


def test_what_the_engine_says_is_added_to_the_cluster_file() -> None:
    """A site's own window would be lost with the first look at Slurm, or a change go unseen."""
    worker = Worker("w", {"cpu": 1}, blocked=(FILED,))
    windows = Windows(lambda: (worker,))
    assert windows.change(worker, 5) is None
    windows.known["w"] = ()
    assert windows.change(worker, 5) is None
    windows.known["w"] = ((500, 700), (1_000, 2_000))
    found = windows.change(worker, 5)
    assert found == WorkerBlocked(5, "w", (Window(500, 700), FILED))
    blocked = Worker("w", {"cpu": 1}, blocked=tuple(reversed(found.blocked)))
    assert windows.change(blocked, 6) is None
    windows.known["w"] = ()
    assert windows.change(blocked, 7) == WorkerBlocked(7, "w", (FILED,))


def test_a_master_starts_nothing_that_would_run_into_a_reservation(tmp_path: Path) -> None:
    """A task would be killed by the maintenance, or wait in Slurm's queue and hold its room."""
    one = (Worker("w", {"cpu": 1000}),)
    town = Town(tmp_path / "m.db", one, truth=lambda task: 60)
    window = (START_S + 70, START_S + 400)
    town.master._hear(WorkerWindows("w", (window,), START_S))
    town.submit({"id": "short", "requested_s": 60}, {"id": "long", "requested_s": 90})
    town.step()
    assert town.starts() == ["short"]
    town.reopen()  # the windows are kept
    town.finish()
    runs = {run.key[0]: run for run in town.engine.runs.values()}
    assert runs["short"].end_s <= window[0]
    assert runs["long"].start_s >= window[1]
    # One that was taken back keeps nobody waiting, also on a worker that has come back.
    later = town.master.mind.snapshot.now_s
    town.master._hear(WorkerWindows("w", ((later + 5, later + 5_000),), later))
    town.master._hear(WorkerDown("w", later))
    town.master._hear(WorkerUp(one[0], later))
    assert town.master.mind.snapshot.worker_by_id["w"].blocked != ()
    town.master._hear(WorkerWindows("w", (), later))
    assert town.master.mind.snapshot.worker_by_id["w"].blocked == ()
    town.submit({"id": "free", "requested_s": 60})
    town.finish()
    assert town.starts()[-1] == "free"
    town.kill()
