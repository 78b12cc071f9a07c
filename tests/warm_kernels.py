"""Compile every family of kernels once, so that two test processes do not each compile them.

``python -m tests.warm_kernels plans|searches``: two halves of about the same length, for two
cores. Anything left out is compiled by the first test that calls it.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from plancast.pipelines.backtest.execute_batch import Sweep, sweep
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.instances.jobshop import parse_jobshop
from plancast.planner.instances.psplib import parse_psplib
from plancast.planner.model.messages import Budget
from plancast.planner.planning.plan import plan
from plancast.planner.planning.risk import RiskMeasure, plan_under_risk
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import ReplayLog, replay
from tests.conftest import ROOT

FEW = Budget(None, 20)
INSTANCES = ROOT / "tests" / "data" / "instances"


def plans() -> None:
    """List scheduling, ruin and recreate, repair, executions, risk."""
    request = generate_batch(12, generate_cluster(4), gang_share=0.2)
    first = plan(replace(request, budget=FEW), "lns").plan
    plan(replace(request, budget=FEW, incumbent=first), "repair")
    sweep(request, Sweep((0.5,), seeds=1, budget=FEW))
    plan_under_risk(replace(request, budget=FEW), RiskMeasure(), samples=4, solver="greedy")


def searches() -> None:
    """A*, activity lists, job shops, replays of logs."""
    small = replace(generate_batch(4, generate_cluster(3)), budget=FEW)
    plan(small, "astar")
    plan(small, "astar", form="guided", weight=1.1)
    project = parse_psplib("tiny", (INSTANCES / "projects" / "tiny.sm").read_text())
    plan(replace(project, budget=FEW), "project")
    shop = parse_jobshop("tiny", (INSTANCES / "shops" / "tiny.jsp").read_text())
    plan(replace(shop, budget=FEW), "shop")
    times = np.arange(1, 9)
    log = ReplayLog("tiny", 4, times, times * 5, times % 3 + 1, times * 9, times % 2)
    for name in ("easy", "planner"):
        replay(log, DISPATCHERS[name], promises=True)


if __name__ == "__main__":
    {"plans": plans, "searches": searches}[sys.argv[1]]()
