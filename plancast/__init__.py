"""Learns how long tasks run from historical logs, and plans batches onto clusters with that.

    import plancast as pc

    log = pc.read_log("jobs.swf.gz")
    model = pc.train(log)
    plan = pc.plan(tasks, {"nodes": 8, "cpus": 64}, model=model, budget="30s")
    plan.to_frame()

The three packages are ``plancast.predictor``, ``plancast.planner`` and ``plancast.pipelines``. The
names most programs need are here too, loaded when they are first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before anything loads numba or LightGBM, whose threads read these once: LightGBM with two threads
# beside another busy process ran ten times slower than with one. What is set already stays.
for _name, _value in (
    ("OMP_NUM_THREADS", "1"),
    ("OMP_WAIT_POLICY", "passive"),
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
):
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from plancast.pipelines.charts.gantt import gantt_html, gantt_svg
    from plancast.pipelines.results import JobLog, PlannedBatch
    from plancast.pipelines.verbs import advise, evaluate, plan, read_log, replay, train
    from plancast.planner.model.domain import (
        Assignment,
        BadRequest,
        DurationEstimate,
        Plan,
        Policy,
        Prices,
        Running,
        Snapshot,
        Task,
        Worker,
    )
    from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, Status
    from plancast.planner.planning.repair import repair
    from plancast.planner.solvers import SOLVERS
    from plancast.predictor import ESTIMATORS, BadLog, QuantileGBM, RuntimePredictor

_HOME = {
    "ESTIMATORS": "predictor",
    "SOLVERS": "planner.solvers",
    "Assignment": "planner.model.domain",
    "BadLog": "predictor",
    "BadRequest": "planner.model.domain",
    "Budget": "planner.model.messages",
    "DurationEstimate": "planner.model.domain",
    "JobLog": "pipelines.results",
    "Plan": "planner.model.domain",
    "PlanRequest": "planner.model.messages",
    "PlanResponse": "planner.model.messages",
    "PlannedBatch": "pipelines.results",
    "Policy": "planner.model.domain",
    "Prices": "planner.model.domain",
    "QuantileGBM": "predictor",
    "Running": "planner.model.domain",
    "RuntimePredictor": "predictor",
    "Snapshot": "planner.model.domain",
    "Status": "planner.model.messages",
    "Task": "planner.model.domain",
    "Worker": "planner.model.domain",
    "advise": "pipelines.verbs",
    "evaluate": "pipelines.verbs",
    "gantt_html": "pipelines.charts.gantt",
    "gantt_svg": "pipelines.charts.gantt",
    "plan": "pipelines.verbs",
    "read_log": "pipelines.verbs",
    "repair": "planner.planning.repair",
    "replay": "pipelines.verbs",
    "train": "pipelines.verbs",
}

__all__ = [
    "ESTIMATORS",
    "SOLVERS",
    "Assignment",
    "BadLog",
    "BadRequest",
    "Budget",
    "DurationEstimate",
    "JobLog",
    "Plan",
    "PlanRequest",
    "PlanResponse",
    "PlannedBatch",
    "Policy",
    "Prices",
    "QuantileGBM",
    "Running",
    "RuntimePredictor",
    "Snapshot",
    "Status",
    "Task",
    "Worker",
    "advise",
    "evaluate",
    "gantt_html",
    "gantt_svg",
    "plan",
    "read_log",
    "repair",
    "replay",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'plancast' has no attribute {name!r}")
    value = getattr(import_module(f"plancast.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
