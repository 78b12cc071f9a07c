"""What carries plans out: one interface, and the engines behind it by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plancast.pipelines.engines.base import Engine
from plancast.planner.model.domain import BadRequest, Estimates
from plancast.planner.model.messages import PlanRequest


@dataclass(frozen=True)
class Beginning:
    """What an engine knows of the batch that it is brought up for.

    Parameters
    ----------
    request : PlanRequest
    losses : sequence of (str, int)
        Workers to be lost on the way, and how many seconds after the beginning.
    batch : str
        Unlike that of any other batch.
    seed : int
        Of an engine that draws anything.
    folder : Path
        Where it may keep what it has to find again.
    since_s : int, optional
        When the batch was begun, where it goes on.
    outage_s : float
        Longest time that it may not answer.
    away : callable
        Called with the reason why it does not answer.
    estimates : callable, optional
        Of a master that stays: what is known by then of the tasks that came. A simulated
        cluster then runs on the world's clock.
    speed : float
        How many times as fast.
    """

    request: PlanRequest
    losses: Sequence[tuple[str, int]]
    batch: str
    seed: int
    folder: Path
    since_s: int | None
    outage_s: float
    away: Callable[[str], None]
    estimates: Callable[[], Estimates] | None = None
    speed: float = 1.0


Begun = tuple[Engine, PlanRequest, Callable[[Any], None] | None]
"""The engine, the request as it begins now, and what is called at every step, if anything."""


@dataclass(frozen=True)
class EngineKind:
    """An engine of the command line.

    Parameters
    ----------
    begin : callable
        Brings it up for a batch; heavy libraries are imported inside.
    real : bool
        Whether it runs commands, and what is started continues without the master.
    needs : (str, str), optional
        Module without which it cannot be had, and the extra that brings it.
    cluster : callable, optional
        The content of a cluster file of the workers that it has by itself.
    on_linux : bool
        Whether it starts processes of its own, which Linux alone can tell from all others.
    """

    begin: Callable[[Beginning], Begun]
    real: bool = True
    needs: tuple[str, str] | None = None
    cluster: Callable[[], dict[str, Any]] | None = None
    on_linux: bool = False

    def load(self) -> None:
        """Import what takes long, before it is needed."""
        if self.needs is not None:
            import_module(self.needs[0])

    def require(self, name: str) -> None:
        """Refuse in one sentence where its library or its system is missing."""
        if self.on_linux and not sys.platform.startswith("linux"):
            raise BadRequest(
                f"--engine {name}: needs Linux, for the processes that it starts; --engine sim "
                "runs everywhere"
            )
        if self.needs is not None and find_spec(self.needs[0]) is None:
            raise BadRequest(
                f"--engine {name}: needs the extra; pip install 'plancast[{self.needs[1]}]'"
            )


def _sim(at: Beginning) -> Begun:
    from plancast.pipelines.engines.paced import PacedEngine
    from plancast.pipelines.engines.sim import simulated

    if at.estimates is not None:
        snapshot = at.request.snapshot
        engine = PacedEngine(snapshot.workers, at.estimates, snapshot.now_s,
                             speed=at.speed, seed=at.seed)  # fmt: skip
        return engine, at.request, None
    return simulated(at.request, at.seed, at.losses), at.request, None


def _dask(at: Beginning) -> Begun:
    from plancast.pipelines.engines.dask import started

    # A master that stays has no use for a cluster that only shrinks.
    return started(at.request, at.losses, at.folder, at.batch, kept_up=at.estimates is not None)


def _slurm(at: Beginning) -> Begun:
    from plancast.pipelines.engines.patient import patiently
    from plancast.pipelines.engines.slurm import attached

    return patiently(
        lambda: attached(at.request, at.losses, at.batch, at.since_s), at.outage_s, away=at.away
    )


def _slurm_nodes() -> dict[str, Any]:
    from plancast.pipelines.engines.slurm import cluster_of_site

    return cluster_of_site()


ENGINES: dict[str, EngineKind] = {
    "sim": EngineKind(_sim, real=False),
    "dask": EngineKind(_dask, needs=("distributed", "dask"), on_linux=True),
    "slurm": EngineKind(_slurm, cluster=_slurm_nodes),
}
"""Name to engine; ``tests/contracts/test_engines.py`` holds each to its contract."""
