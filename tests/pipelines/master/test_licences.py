"""A master keeps to licences and running limits, however long tasks really take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plancast.pipelines.engines.sim import Faults
from plancast.pipelines.master.batch import master_of
from plancast.pipelines.master.state import State
from plancast.planner.model.domain import CountedResource
from tests.conftest import cases
from tests.pipelines.master.test_master import (
    QUICK,
    batch,
    check_truth,
    drive,
    engine_for,
    quick_plan,
)


@pytest.mark.parametrize("seed", cases(2, 4))
def test_no_more_licences_are_in_use_than_there_are(seed: int, tmp_path: Path) -> None:
    """A task would be started that fails at once, for want of a licence."""
    request = batch(seed, tasks=9, workers=3)
    pending = tuple(
        replace(task, counted={"seat": 1 + k % 2, **({"user ann": 1} if k % 3 else {})})
        for k, task in enumerate(request.snapshot.pending)
    )
    counted = (CountedResource("seat", 3), CountedResource("user ann", 2))
    request = replace(request, snapshot=replace(request.snapshot, pending=pending, counted=counted))
    engine = engine_for(request, seed, Faults(late=0.3, late_s=60))
    master = master_of(State(tmp_path / "m.db"), engine, request, QUICK, ask=quick_plan)
    drive(master)
    check_truth(engine, request, master)
    takes = {task.id: task.counted for task in pending}
    runs = list(engine.runs.values())
    for name, most in (("seat", 3), ("user ann", 2)):
        for run in runs:
            beside = [r for r in runs if r.start_s <= run.start_s < (r.end_s or 0)]
            assert sum(takes[r.key[0]].get(name, 0) for r in beside) <= most
    master.state.close()
