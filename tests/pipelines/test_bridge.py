"""pipelines.bridge: forecasts become estimates, and jobs tasks, without losing a second."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.bridge import certain_estimates, estimates_of, machines_of_log, task_of_job
from plancast.planner.model.domain import DurationEstimate, Task, Worker


def job(**fields: Any) -> Any:
    """A row of a canonical log."""
    known = {"job_id": "7", "cpus": 3.0, "gpus": np.nan, "requested_s": 60.5, "user": "ann",
             "app": "blast"}  # fmt: skip
    return SimpleNamespace(**{**known, **fields})


def test_quantiles_are_rounded_up_to_whole_seconds() -> None:
    """A plan would reserve less than was forecast."""
    found = estimates_of(["a", "b"], np.array([[0.2, 5.0], [7.0000001, 7.5]]), (0.5, 0.9), "model")
    assert found == {
        "a": {"*": DurationEstimate((0.5, 0.9), (1, 5), "model")},
        "b": {"*": DurationEstimate((0.5, 0.9), (8, 8), "model")},
    }


def test_the_dust_of_binary_fractions_costs_no_second() -> None:
    """Seven seconds that a computation left at 7.0000000001 would be planned as eight."""
    found = estimates_of(["a"], np.array([[7 + 1e-10]]), (0.5,), "")
    assert found["a"]["*"].seconds == (7,)


def test_point_forecasts_have_no_spread() -> None:
    """A rule of thumb would be credited with quantiles it never gave."""
    found = certain_estimates(["a"], np.array([9.5]), "last_two")
    assert found == {"a": {"*": DurationEstimate((0.5,), (10,), "last_two")}}
    assert {found["a"]["*"].at(level) for level in (0.01, 0.5, 0.99)} == {10}


def test_every_task_needs_a_forecast() -> None:
    """Forecasts would be given to the wrong tasks in silence."""
    with pytest.raises(ValueError, match="shorter"):
        estimates_of(["a", "b"], np.ones((1, 1)), (0.5,), "")


def test_a_machine_is_dealt_to_equal_workers() -> None:
    """Processors would be lost where they do not divide evenly."""
    assert machines_of_log(100, 1, "cpu") == (
        Worker("pool", {"cpu": 100_000}, machine_class="pool"),
    )
    nodes = machines_of_log(100, 8, "cpu")
    assert [w.id for w in nodes] == [f"node-{k}" for k in range(8)]
    assert {w.capacity["cpu"] for w in nodes} == {13_000}
    assert machines_of_log(4, 2, "gpu")[0].capacity == {"gpu": 2000}


@pytest.mark.parametrize(
    ("cpus", "shards", "demand"),
    [(3.0, 1, 3000), (4.0, 1, 4000), (5.0, 2, 2500), (8.0, 2, 4000), (9.0, 3, 3000),
     (0.25, 1, 250), (np.nan, 1, 1000), (10.0, 3, 3334)],
)  # fmt: skip
def test_a_job_is_one_piece_or_a_gang(cpus: float, shards: int, demand: int) -> None:
    """A wide job would be planned on fewer processors than it had, or fit nowhere."""
    machines = machines_of_log(16, 4, "cpu")
    task = task_of_job(job(cpus=cpus), machines, "cpu", release_s=5, deadline_s=9)
    assert (task.shards, task.demand) == (shards, {"cpu": demand})
    assert demand <= 4000
    assert shards * demand >= 1000 * (1 if np.isnan(cpus) else cpus)


def test_what_is_known_of_a_job_is_kept() -> None:
    """Owners, limits and times would be lost on the way to the planner."""
    machines = machines_of_log(16, 4, "cpu")
    assert task_of_job(job(), machines, "cpu", release_s=5, deadline_s=None) == Task(
        "7", {"cpu": 3000}, 5, None, owner="ann", app="blast", requested_s=61
    )
    unknown = task_of_job(job(requested_s=np.nan), machines, "cpu", release_s=5, deadline_s=None)
    assert unknown.requested_s is None
    gpus = machines_of_log(8, 2, "gpu")
    wide = task_of_job(job(gpus=6.0), gpus, "gpu", release_s=0, deadline_s=None)
    assert (wide.shards, wide.demand) == (2, {"gpu": 3000})
