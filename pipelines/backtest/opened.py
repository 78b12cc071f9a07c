"""A log ready for replay."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from plancast.pipelines.backtest.outages import UP, Away
from plancast.planner.worlds.node_replay import NodeLog
from plancast.planner.worlds.replay import ReplayLog


@dataclass(frozen=True)
class Backtest:
    """A log ready for replay: its jobs as arrays and as the frame that forecasts look at.

    Parameters
    ----------
    name : str
    log : ReplayLog
        The jobs that are replayed.
    jobs : DataFrame
        Canonical rows of the same jobs, after `before` rows of earlier ones.
    before : int
        Rows that only teach the model.
    sequences : tuple of (first, jobs)
        Parts that are replayed each from an empty machine; empty: the whole.
    digest : str
        Of the rows.
    has_requests : bool
    away : Away
        Failures and drains of the machine.
    left_out : tuple of str
        Jobs that the machine could never run: wider than it, or without a worker that fits.
    nodes : NodeLog, optional
        The same jobs on the workers of a cluster file; otherwise the machine is one pool.
    """

    name: str
    log: ReplayLog
    jobs: pd.DataFrame
    before: int
    sequences: tuple[tuple[int, int], ...]
    digest: str
    has_requests: bool
    away: Away = UP
    left_out: tuple[str, ...] = ()
    nodes: NodeLog | None = None
