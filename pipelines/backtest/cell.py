"""One cell of a backtest: replayed, replayed again over jitters, and judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.pipelines.backtest.estimates import Cell
from plancast.pipelines.backtest.opened import Backtest
from plancast.pipelines.backtest.records import (
    LastTwo,
    Playback,
    Record,
    Recorder,
    jittered,
    jittered_points,
    transformed,
)
from plancast.pipelines.backtest.replay_forecasts import ReplayForecaster
from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS, Dispatcher
from plancast.planner.worlds.metrics import interval_over, judge, weekly_interval
from plancast.planner.worlds.node_replay import NODE_DISPATCHERS, NodeDispatcher, replay_nodes
from plancast.planner.worlds.replay import Estimator, Replay, ReplayLog, bounded_slowdown, replay
from plancast.planner.worlds.trust import Trusted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def discipline(test: Backtest, cell: Cell) -> Dispatcher | NodeDispatcher:
    """The dispatcher of a cell, with one backfill for points and distributions.

    A planner may treat points apart, as certain. Compared are estimates, so none is here.
    """
    if test.nodes is not None:
        return NODE_DISPATCHERS[cell.dispatcher]
    return replace(DISPATCHERS[cell.dispatcher], certain="")


def parts_of(test: Backtest) -> list[slice]:
    """The rows that are replayed together, each from an empty machine."""
    return [slice(a, a + k) for a, k in test.sequences] or [slice(0, len(test.log))]


def estimates_for(
    test: Backtest, cell: Cell, part: slice, settings: dict[str, Any] | None = None
) -> Ints | Estimator | str:
    """What ``plancast.planner.worlds.replay.replay`` takes, for one part of a log."""
    estimate = cell.estimate
    if estimate.kind == "oracle":
        run = test.log.run_s[part].astype(np.float64)
        z = np.random.default_rng(cell.seed).standard_normal(len(test.log))[part]
        noisy = run * np.exp(estimate.sigma * z - estimate.sigma**2 / 2)
        return np.ceil(noisy - 1e-9).astype(np.int64)
    if estimate.kind != "model":
        return estimate.kind
    rows = slice(test.before + part.start, test.before + part.stop)
    if not test.before or test.sequences:
        return ReplayForecaster(test.jobs.iloc[rows], **(settings or {}))
    model = ReplayForecaster(test.jobs, **(settings or {}))
    model.live_through(test.before)
    return model


def record_of(test: Backtest, cell: Cell, settings: dict[str, Any] | None = None) -> list[Record]:
    """The model's forecasts under a cell's dispatcher, a record for each part of the log."""
    plain = replace(cell, estimate=replace(cell.estimate, transform=""))
    return [found for _, found in _replays(test, plain, settings, None, None)]


def run_cell(
    test: Backtest,
    cell: Cell,
    settings: dict[str, Any] | None = None,
    *,
    jitters: int = 0,
    records: Sequence[Record] | None = None,
) -> dict[str, Any]:
    """Replay one cell and judge it.

    Parameters
    ----------
    test : Backtest
    cell : Cell
    settings : dict, optional
        Of the model's ``ReplayForecaster``.
    jitters : int
        How often the cell is replayed again, each time with every forecast moved by a percent.
    records : sequence of Record, optional
        The model's forecasts under this dispatcher, one for each part, from ``record_of``.

    Returns
    -------
    dict
        What is reported; and ``_slowdown``, each job's, and ``_jittered``, each jitter's and
        job's, for paired comparison.
    """
    if cell.estimate.kind in ("requested", "last_two") and not test.has_requests:
        raise BadRequest(
            f"{test.log.name}: names no requested times, which --estimates "
            f"{cell.estimate.kind} wants; use model or oracle"
        )
    # Processor time: a busy machine favours nobody.
    began = time.process_time()
    if records is None and cell.estimate.transform:
        records = record_of(test, cell, settings)
    found = _replays(test, cell, settings, records, None)
    took = time.process_time() - began
    replays = [replayed for replayed, _ in found]
    if records is None and cell.estimate.kind == "model":
        records = [record for _, record in found]
    moved = [
        np.concatenate(
            [bounded_slowdown(r) for r, _ in _replays(test, cell, settings, records, seed)]
        )
        for seed in range(jitters)
    ]
    slowdown = np.concatenate([bounded_slowdown(r) for r in replays])
    block = np.repeat(np.arange(len(replays)), [len(r.start_s) for r in replays])
    whole = replays[0] if len(replays) == 1 else _joined(replays)
    interval = (
        interval_over(slowdown, block)
        if test.sequences
        else weekly_interval(slowdown, test.log.submit_s)
    )
    return {
        "log": test.name,
        "dispatcher": cell.dispatcher,
        "estimates": replace(cell.estimate, level=0.5, sigma=0.0).name,
        "level": cell.estimate.level if cell.estimate.kind == "model" else None,
        "sigma": cell.estimate.sigma,
        "seed": cell.seed,
        "settings_from": discipline(test, cell).settings_from,
        "sequences": len(test.sequences),
        **judge(whole, cell.seed),
        "bsld_ci": list(interval),
        "jitter": _spread_of(moved),
        "regret": None,
        "regret_ci": None,
        "against_first": None,
        "against_first_ci": None,
        "replay_s": took,
        "_slowdown": slowdown,
        "_jittered": np.array(moved).reshape(jitters, len(slowdown)),
    }


def _replays(
    test: Backtest,
    cell: Cell,
    settings: dict[str, Any] | None,
    records: Sequence[Record] | None,
    jitter: int | None,
) -> list[tuple[Replay, Record]]:
    """Every part replayed, with what was forecast in it; with a seed of a jitter, moved by it."""
    result = []
    for place, part in enumerate(parts_of(test)):
        log = test.log.part(part)
        record = None if records is None else records[place]
        if record is not None and cell.estimate.transform:
            record = transformed(record, log, cell.estimate.transform)
        found: Ints | Estimator | str
        if jitter is not None:
            found = _moved(test, cell, part, log, record, jitter)
        elif record is not None and cell.estimate.kind == "model":
            found = Playback(record)
        else:
            found = estimates_for(test, cell, part, settings)
        recorder = None if isinstance(found, str | np.ndarray) else Recorder(found, len(log))
        replayed = _replayed(test, cell, part, found if recorder is None else recorder, jitter)
        result.append((replayed, Record.nothing() if recorder is None else recorder.record()))
    return result


def _replayed(
    test: Backtest, cell: Cell, part: slice, found: Ints | Estimator | str, jitter: int | None
) -> Replay:
    """One part on the pool, or on the nodes."""
    log, dispatcher = test.log.part(part), discipline(test, cell)
    if isinstance(dispatcher, NodeDispatcher):
        assert test.nodes is not None
        if isinstance(found, str):
            found = log.requested_s if found == "requested" else LastTwo(log, 0, sigma=0.0)
        nodes, level = test.nodes.part(part), cell.estimate.level
        return replay_nodes(nodes, dispatcher, found, level=level).replay
    return replay(
        log,
        dispatcher,
        _believed(cell, log, found),
        level=cell.estimate.level,
        promises=jitter is None,
        outages=test.away.outages(log, cell.seed),
    )


def _believed(
    cell: Cell, log: ReplayLog, estimate: Ints | Estimator | str
) -> Ints | Estimator | str:
    """Estimates as far as the dispatcher trusts them; points are what they are."""
    if not DISPATCHERS[cell.dispatcher].trusts or isinstance(estimate, str | np.ndarray):
        return estimate
    return Trusted(estimate, log)


def _moved(
    test: Backtest, cell: Cell, part: slice, log: ReplayLog, record: Record | None, seed: int
) -> Ints | Estimator:
    """A cell's estimates with a jitter: of a record job by job, of points value by value."""
    if cell.estimate.kind == "model":
        assert record is not None
        return Playback(jittered(record, log, seed))
    if cell.estimate.kind == "last_two":
        return LastTwo(log, seed)
    if cell.estimate.kind == "requested":
        return jittered_points(log.requested_s, log.requested_s, seed)
    points = estimates_for(test, cell, part)
    assert isinstance(points, np.ndarray)
    return jittered_points(points, None, seed)


def _spread_of(moved: Sequence[Floats]) -> dict[str, Any] | None:
    """Mean and standard deviation over jitters of what a replay's slowdowns come to."""
    if not moved:
        return None
    figures = {
        "bsld_mean": [float(one.mean()) for one in moved],
        "bsld_max": [float(one.max()) for one in moved],
        "bsld_p999": [float(np.percentile(one, 99.9)) for one in moved],
    }
    return {
        "n": len(moved),
        **{
            name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=len(moved) > 1))}
            for name, values in figures.items()
        },
    }


def _joined(replays: Sequence[Replay]) -> Replay:
    """Parts one after the other, far enough apart not to meet."""
    names = ("submit_s", "run_s", "width", "requested_s", "user")
    shift, moved, logs = 0, [], []
    for found in replays:
        # Utilisation is of the time in which the parts ran, so no gap lies between them.
        by = shift - int(found.log.submit_s[0])
        shift += int(found.end_s.max() - found.log.submit_s[0])
        logs.append({n: getattr(found.log, n) + (by if n == "submit_s" else 0) for n in names})
        moved.append(
            {
                "start_s": found.start_s + by,
                "end_s": found.end_s + by,
                "promise_s": np.where(found.promise_s < 0, -1, found.promise_s + by),
                "estimate_s": found.estimate_s,
                "lost_s": found.lost_s,
                "decision_us": found.decision_us,
            }
        )
    first = replays[0].log
    log = ReplayLog(
        first.name, first.procs, *(np.concatenate([part[n] for part in logs]) for n in names)
    )
    arrays = {n: np.concatenate([part[n] for part in moved]) for n in moved[0]}
    return Replay(
        log=log,
        passes=sum(r.passes for r in replays),
        corrections=sum(r.corrections for r in replays),
        killed=sum(r.killed for r in replays),
        put_off=None if replays[0].put_off is None else sum(r.put_off or 0 for r in replays),
        **arrays,
    )
