"""Replay of a whole job log on workers with several resources, labels, GPUs and gangs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plancast.planner.model.domain import BadRequest, Task, Worker
from plancast.planner.worlds import node_kernel as kernel
from plancast.planner.worlds import node_machine as machine
from plancast.planner.worlds import replay_machine as pool
from plancast.planner.worlds.dispatchers import LookAhead
from plancast.planner.worlds.replay import (
    TIMED_PASSES,
    Estimator,
    Renewing,
    Replay,
    ReplayLog,
    ask_arrivals,
    renew_waiting,
    tell_ended,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

GPU = "gpu"
"""The resource whose amounts are devices of a worker, 1000 each."""
MOST_DEVICES = 62
REMEMBERED = 20_000_000
"""Ratings of workers are remembered while there are no more of them, kinds times workers."""
MOST_MIXED = 256
"""Kinds that fragmentation is measured with, the most frequent ones."""


@dataclass(frozen=True)
class NodeDispatcher:
    """A discipline for workers with several resources.

    Parameters
    ----------
    rule : int
        For choosing a worker, of ``node_machine``.
    reserves : int
        For whom room is reserved, of ``node_kernel``.
    rules : LookAhead, optional
        Of a planner: prices of waiting, and `patience_s`, from which on jobs go first.
    settings_from : str
        Where its rules were chosen.
    """

    rule: int
    reserves: int = kernel.NOBODY
    rules: LookAhead | None = None
    settings_from: str = ""

    @property
    def forecasts(self) -> bool:
        """Whether what it starts depends on estimates."""
        return self.rules is not None or self.reserves != kernel.NOBODY

    @property
    def breaks(self) -> int:
        """Whose fragmentation of workers it looks at, as of ``node_kernel.Rules``."""
        return {machine.FGD: 1, machine.REMAINDER: 2}.get(self.rule, 0)


NODE_DISPATCHERS: dict[str, NodeDispatcher] = {
    "kube-least": NodeDispatcher(machine.LEAST_ALLOCATED),
    "kube-most": NodeDispatcher(machine.MOST_ALLOCATED),
    "best-fit": NodeDispatcher(machine.BEST_FIT),
    "fgd": NodeDispatcher(machine.FGD),
    "remainder": NodeDispatcher(
        machine.REMAINDER, settings_from="openb, all pods shuffled by seeds 0 to 2"
    ),
    "easy": NodeDispatcher(machine.BEST_FIT, kernel.HEAD),
    "planner": NodeDispatcher(
        machine.BEST_FIT, kernel.HEAD, LookAhead(), "openb at its own times, true lifetimes"
    ),
}
"""Kubernetes' LeastAllocated and MostAllocated, best fit, Fragmentation Gradient Descent and the
rule that allocates more of the GPUs than that, all first come first served past what has no room;
EASY backfilling on best fit; and the planner, which serves by expected area over the price of
waiting, on best fit."""


@dataclass(frozen=True)
class NodeLog:
    """Jobs in order of submission, and the workers they run on.

    Parameters
    ----------
    log : ReplayLog
        Its widths and processors are for judgement alone.
    workers : tuple of Worker
    kinds : tuple of Task
        What jobs ask for: demands of a piece, `shards` and `requires`.
    kind : int64 (n,)
        Of each job.
    cluster : machine.Cluster
    """

    log: ReplayLog
    workers: tuple[Worker, ...]
    kinds: tuple[Task, ...]
    kind: Ints
    cluster: machine.Cluster

    def part(self, rows: slice) -> NodeLog:
        """Some consecutive jobs, on the same workers."""
        return NodeLog(self.log.part(rows), self.workers, self.kinds, self.kind[rows], self.cluster)


@dataclass(frozen=True)
class NodeReplay:
    """What came of a replay, and where.

    Parameters
    ----------
    replay : Replay
        Starts are -1 of jobs that were dropped.
    ptr : int64 (n + 1,)
    worker, bits : int64 (pieces,)
        Job j has the pieces ``ptr[j]:ptr[j + 1]``; devices as bits.
    """

    replay: Replay
    ptr: Ints
    worker: Ints
    bits: Ints


def cluster_of(workers: Sequence[Worker], kinds: Sequence[Task]) -> machine.Cluster:
    """The arrays of workers, and of what jobs may ask of them.

    Raises
    ------
    BadRequest
        Where a worker has a part of a GPU, or more GPUs than bits of a number.
    """
    named = sorted({r for w in workers for r in w.capacity} | {r for t in kinds for r in t.demand})
    names = [name for name in named if name != GPU]
    _refuse_parts(workers)
    alike: dict[tuple[object, ...], int] = {}
    group = [
        alike.setdefault((w.labels, tuple(sorted(w.capacity.items()))), len(alike)) for w in workers
    ]
    capacity = _table([[w.capacity.get(n, 0) for n in names] for w in workers], len(names))
    devices = np.array([w.capacity.get(GPU, 0) // machine.WHOLE for w in workers], np.int64)
    demand = _table([[t.demand.get(n, 0) for n in names] for t in kinds], len(names))
    asked = np.array([t.demand.get(GPU, 0) for t in kinds], np.int64)
    shares: NDArray[np.bool_] = asked < machine.WHOLE
    gpus = np.where(shares, asked > 0, -(-asked // machine.WHOLE)).astype(np.int64)
    pieces = np.array([t.shards for t in kinds], np.int64)
    whole = np.append(capacity.sum(axis=0), machine.WHOLE * devices.sum())
    milli: Ints = np.where(shares, asked, machine.WHOLE)
    wanted = np.column_stack([demand, gpus * milli]) * pieces[:, None]
    first = [group.index(g) for g in range(len(alike))]
    labelled = np.array(
        [[workers[w].satisfies(t.requires) for w in first] for t in _distinct(kinds)], np.bool_
    )[_label_row(kinds)]
    holds = (demand[:, None, :] <= capacity[first]).all(axis=2) & (gpus[:, None] <= devices[first])
    return machine.Cluster(
        capacity=capacity,
        devices=devices,
        group=np.array(group, np.int64),
        largest=np.append(capacity.max(axis=0, initial=1), devices.max(initial=1)).astype(float),
        demand=demand,
        gpus=gpus,
        milli=milli,
        pieces=pieces,
        share=(wanted / np.maximum(whole, 1)).max(axis=1),
        allowed=labelled & holds,
    )


def _refuse_parts(workers: Sequence[Worker]) -> None:
    for w in workers:
        has = w.capacity.get(GPU, 0)
        if has % machine.WHOLE or has > MOST_DEVICES * machine.WHOLE:
            raise BadRequest(
                f"worker {w.id} has {has / machine.WHOLE:g} GPUs; a replay needs whole ones, "
                f"{MOST_DEVICES} at most"
            )


def _table(rows: list[list[int]], columns: int) -> Ints:
    return np.array(rows, np.int64).reshape(len(rows), columns)


def _distinct(kinds: Sequence[Task]) -> list[Task]:
    return list({t.requires: t for t in reversed(kinds)}.values())


def _label_row(kinds: Sequence[Task]) -> Ints:
    place = {t.requires: row for row, t in enumerate(_distinct(kinds))}
    return np.array([place[t.requires] for t in kinds], np.int64)


def has_place(cluster: machine.Cluster) -> NDArray[np.bool_]:
    """Whether all pieces of a job fit on the empty workers together, shape (kinds,)."""
    counts = np.bincount(cluster.group, minlength=cluster.allowed.shape[1])
    first = [int(np.argmax(cluster.group == g)) for g in range(len(counts))]
    many = np.full((len(cluster.pieces), len(first)), machine.MANY)
    for q in range(cluster.demand.shape[1]):
        asked = cluster.demand[:, q : q + 1]
        room = cluster.capacity[first, q] // np.maximum(asked, 1)
        many = np.where(asked > 0, np.minimum(many, room), many)
    on_device = machine.WHOLE // np.maximum(cluster.milli, 1)
    room = cluster.devices[first] * on_device[:, None] // np.maximum(cluster.gpus, 1)[:, None]
    many = np.where(cluster.gpus[:, None] > 0, np.minimum(many, room), many)
    fits: NDArray[np.bool_] = (many * cluster.allowed * counts).sum(axis=1) >= cluster.pieces
    return fits


def pressure(cluster: machine.Cluster, count: Ints) -> Floats:
    """What a job takes, in each group of workers, from those who have less choice, in devices.

    Parameters
    ----------
    cluster : machine.Cluster
    count : int64 (kinds,)
        How often each kind is expected; only ratios matter.

    Returns
    -------
    float64 (kinds, groups)
        The devices of the job times how much more its group is wanted than the least wanted one
        that it may use. Wanted is a group when kinds spread over what they may use, evenly by
        devices, and all kinds together ask for as many as there are.
    """
    wanted = cluster.gpus * cluster.milli * cluster.pieces / machine.WHOLE
    devices = np.bincount(cluster.group, cluster.devices, cluster.allowed.shape[1])
    usable = cluster.allowed & (devices > 0) & (wanted > 0)[:, None]
    asked = count * wanted * usable.any(axis=1)
    scale = devices.sum() / max(float(asked.sum()), 1e-9)
    spread = scale * asked / np.maximum(usable @ devices, 1.0)
    load = (usable * spread[:, None]).sum(axis=0)
    least = np.where(usable, load, np.inf).min(axis=1, initial=np.inf)
    above = np.where(usable, load - np.where(np.isfinite(least), least, 0.0)[:, None], 0.0)
    result: Floats = np.ascontiguousarray(above * wanted[:, None])
    return result


def _machine(cluster: machine.Cluster, remembers: bool, seed: int) -> machine.Machine:
    workers, kinds = len(cluster.group), len(cluster.pieces)
    rows = kinds if remembers and kinds * workers <= REMEMBERED else 0
    places = np.arange(int(cluster.devices.max(initial=0)))
    some = min(kinds, MOST_MIXED)
    return machine.Machine(
        free=cluster.capacity.copy(),
        left=np.where(places < cluster.devices[:, None], machine.WHOLE, 0).astype(np.int64),
        version=np.zeros(workers, np.int64),
        broken=np.zeros(workers),
        mixed=np.zeros(some, np.int64),
        mix=np.zeros(some),
        price=np.zeros(cluster.allowed.shape),
        rating=np.zeros((rows, workers)),
        device=np.zeros((rows, workers), np.int64),
        stamp=np.full((rows, workers), -1, np.int64),
        active=np.zeros(kinds + 1, np.int64),
        waits=np.zeros(kinds, np.int64),
        room=np.zeros(kinds, np.int64),
        noise=np.array([1 + seed % 1_000_000]),
    )


def _live(nodes: NodeLog, levels: int) -> tuple[kernel.Live, Ints]:
    n = len(nodes.log)
    ptr = np.append(0, np.cumsum(nodes.cluster.pieces[nodes.kind])).astype(np.int64)
    clock = np.zeros(kernel.NODE_CLOCK, np.int64)
    clock[pool.NOW] = nodes.log.submit_s[0]
    clock[kernel.MIX_AT] = 1
    none, zeros = np.full(n, -1, np.int64), np.zeros(n)
    live = kernel.Live(
        clock=clock,
        start=none,
        end=none.copy(),
        estimate=np.ones(n, np.int64),
        quantile=np.ones((n, levels)),
        mean=zeros,
        weight=zeros.copy(),
        square=zeros.copy(),
        queue=np.zeros(n + 1, np.int64),
        running=np.zeros(n + 1, np.int64),
        heap_end=np.zeros(n + 1, np.int64),
        ended=np.zeros(n, np.int64),
        cpu_us=np.zeros(min(TIMED_PASSES, 2 * n), np.int64),
        key=zeros.copy(),
        worker=np.full(ptr[-1], -1, np.int64),
        bits=np.zeros(ptr[-1], np.int64),
    )
    return live, ptr


def replay_nodes(
    nodes: NodeLog,
    dispatcher: NodeDispatcher,
    estimates: Ints | Estimator,
    *,
    level: float = 0.5,
    mix: Ints | None = None,
    drops: bool = False,
    seed: int = 0,
) -> NodeReplay:
    """Run every job of a log on workers under a dispatcher.

    Parameters
    ----------
    nodes : NodeLog
        The workers begin empty.
    dispatcher : NodeDispatcher
    estimates : array of int64 shape (n,), or Estimator
        Seconds.
    level : float
        The quantile of an estimator's forecast at which running jobs are expected to end.
    mix : int64 (kinds,), optional
        How often each kind comes, where that is known; else what has come so far counts, anew
        whenever twice as much has.
    drops : bool
        A job that finds no room at its arrival never runs.
    seed : int
        Of ``RANDOM``.

    Notes
    -----
    At one instant ends come before arrivals, then one scheduling pass. An estimate that is
    overrun becomes the requested time, and a minute more beyond that.
    """
    log, cluster = nodes.log, nodes.cluster
    lost = np.flatnonzero(~has_place(cluster)[nodes.kind])
    if len(lost) and not drops:
        raise BadRequest(f"{log.name}: job {lost[0]} fits no worker; leave it out")
    levels = (0.5,) if isinstance(estimates, np.ndarray) else estimates.levels
    live, ptr = _live(nodes, len(levels))
    settings = np.array([] if dispatcher.rules is None else [0.0])
    jobs = kernel.Jobs(
        log.submit_s, log.run_s, log.requested_s, nodes.kind, ptr, np.array(levels, float), settings
    )
    if isinstance(estimates, np.ndarray):
        live.estimate[:] = estimates
        live.quantile[:] = np.maximum(live.estimate, 1)[:, None]
    found = _machine(cluster, dispatcher.rule != machine.RANDOM, seed)
    shadow = kernel.Shadow(
        np.array([0, -1]), found.free.copy(), found.left.copy(),
        np.zeros(len(cluster.group), np.int64), np.zeros(len(cluster.pieces), np.int64),
    )  # fmt: skip
    rules = _rules(dispatcher, cluster, drops)
    source = pool.GIVEN if isinstance(estimates, np.ndarray) else pool.ASKED
    known, clock = 0, live.clock
    while True:
        state = kernel.advance(cluster, found, jobs, live, shadow, rules, source)
        if state == pool.ARRIVALS:
            assert not isinstance(estimates, np.ndarray)
            known = tell_ended(estimates, jobs, live, known)
            if isinstance(estimates, Renewing) and renew_waiting(estimates, log, jobs, live, level):
                clock[kernel.UNSORTED] = 1
            ask_arrivals(estimates, log, live, level)
        elif state == kernel.MIXED:
            arrived = int(clock[pool.NEXT])
            clock[kernel.MIX_AT] = 2 * arrived if mix is None else len(log) + 1
            seen = nodes.kind[:arrived]
            count = np.bincount(seen, minlength=len(cluster.pieces)) if mix is None else mix
            _remix(cluster, found, np.asarray(count, np.int64), dispatcher)
        else:
            return NodeReplay(_outcome(log, live), ptr, live.worker, live.bits)


def _rules(dispatcher: NodeDispatcher, cluster: machine.Cluster, drops: bool) -> kernel.Rules:
    rule, patience_s = dispatcher.rule, 0.0
    if rule == machine.REMAINDER and not cluster.devices.any():
        rule = machine.BEST_FIT  # nothing is fragmented
    if dispatcher.rules is not None:
        patience_s = dispatcher.rules.patience_s
    order = kernel.FIRST_COME if dispatcher.rules is None else kernel.WORTH
    return kernel.Rules(
        rule, dispatcher.breaks, order, dispatcher.reserves, math.ceil(patience_s), int(drops)
    )


def _remix(
    cluster: machine.Cluster, found: machine.Machine, count: Ints, dispatcher: NodeDispatcher
) -> None:
    """Take another mix of kinds: what is usable, and for whom, is measured with it."""
    weight: Floats = count.astype(np.float64)
    if dispatcher.rule == machine.REMAINDER:
        # What is left over serves small jobs: it is measured by how many, not by how often.
        weight /= np.maximum(cluster.share, 1e-12)
        found.price[:] = pressure(cluster, count)
    weight /= weight.sum()
    order = np.argsort(-weight, kind="stable")[: len(found.mixed)]
    found.mixed[:] = order
    found.mix[:] = weight[order]
    machine.mix_anew(cluster, found, dispatcher.breaks)


def _outcome(log: ReplayLog, live: kernel.Live) -> Replay:
    return Replay(
        log=log,
        start_s=live.start,
        end_s=live.end,
        estimate_s=live.estimate,
        promise_s=np.full(len(log), -1, np.int64),
        passes=int(live.clock[pool.PASSES]),
        corrections=int((log.run_s > live.estimate).sum()),
        killed=0,
        put_off=None,
        lost_s=np.zeros(len(log), np.int64),
        decision_us=live.cpu_us[: live.clock[pool.PASSES]],
    )
