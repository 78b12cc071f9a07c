"""Backtest: a grid of logs, dispatchers, estimates and seeds, replayed, judged and kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.backtest.cell import discipline, record_of, run_cell
from plancast.pipelines.backtest.estimates import Cell
from plancast.pipelines.backtest.nodes import asks_of
from plancast.pipelines.backtest.opened import Backtest
from plancast.pipelines.backtest.outages import UP, Away
from plancast.pipelines.backtest.records import Record
from plancast.pipelines.inputs.config import name_of_log
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.stages.ingest import AS_IT_IS, ingest_log
from plancast.pipelines.worth.batches import known_requests
from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.metrics import interval_over, paired_interval, weekly_interval
from plancast.planner.worlds.node_replay import NodeLog
from plancast.planner.worlds.replay import ReplayLog
from plancast.predictor.model_files import data_digest
from plancast.predictor.schema import usable
from plancast.predictor.units import is_whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORMAT = 3
"""Version of a kept cell; cells of another one are replayed again."""

SEQUENCE_JOBS = 1024


def open_backtest(
    path: str | Path | pd.DataFrame,
    *,
    reading: Reading = AS_IT_IS,
    cut_to_request: bool = False,
    procs: int | None = None,
    window: str | None = None,
    sequences: str | Path | None = None,
    away: Away = UP,
    cluster: str | Path | None = None,
) -> Backtest:
    """Read a log for a backtest.

    Parameters
    ----------
    path : path-like or DataFrame
        In any form that ingest takes, or a canonical log.
    reading : Reading
        How the log is read.
    cut_to_request : bool
        Whether the machine kills jobs at their requested time.
    procs : int, optional
        Processors of the machine; the log's by default.
    window : str, optional
        ``START:END``, shares of the rows in [0, 1]: only those are replayed.
    sequences : path-like, optional
        A text file with a first row (from 0), and optionally a number of jobs (1,024), a
        line: each part is replayed from an empty machine.
    away : Away
        Failures and drains of the machine; not with `sequences`.
    cluster : path-like, optional
        A cluster file: the jobs are replayed on its workers, see ``nodes.asks_of``. Not with
        `procs` or `away`.

    Notes
    -----
    Jobs without a positive run time are left out, except in sequences, whose rows are counted
    in the log as it is. Jobs wider than the machine, or that fit no worker, are left out and
    counted, in sequences too.
    An unknown request is the largest request seen so far in that queue, else overall.
    """
    jobs, facts = ingest_log(path if isinstance(path, pd.DataFrame) else str(path), reading)
    source = facts["log"]
    if sequences is None:
        jobs, _ = usable(jobs)
    if cluster is not None and (procs is not None or away != UP):
        raise BadRequest(
            "--cluster: the workers of the file are the machine, and always there; leave out "
            "--procs, --failures and --drains"
        )
    asks = None if cluster is None else asks_of(jobs, cluster, source)
    if asks is None:
        size = int(procs or facts["machine_size"])
        fits = _widths(jobs) <= size
        if not fits.any():
            raise BadRequest(f"{source}: every job is wider than {size} processors; raise --procs")
    else:
        size, fits = asks.procs(jobs), asks.fits
        if not fits.any():
            raise BadRequest(f"{source}: no job fits the workers of {cluster}; name larger ones")
    parts = () if sequences is None else _sequences(Path(sequences), fits)
    left_out = tuple(jobs.loc[~fits, "job_id"].astype(str))
    jobs = jobs[fits].reset_index(drop=True)
    first, last = _window(window, len(jobs))
    jobs = jobs.iloc[:last].reset_index(drop=True)
    log = _log_of(jobs, source, size if asks is None else max(size, int(_widths(jobs).max())))
    if cut_to_request:
        log = log.cut_to_request()
    log = log.part(slice(first, last))
    nodes = None
    if asks is not None:
        kind = asks.kind[fits][first:last]
        nodes = NodeLog(log, asks.workers, asks.kinds, kind, asks.cluster)
    if parts and away != UP:
        raise BadRequest(
            "--sequences: parts are replayed on a whole machine; leave out --failures and --drains"
        )
    away.outages(log, 0)  # a drain that does not fit is refused before anything is replayed
    has_requests = bool((jobs["requested_s"] > 0).any())
    if cut_to_request and not has_requests:
        raise BadRequest(f"{source}: names no requested times; leave out --cut-to-request")
    return Backtest(
        name_of_log(source),
        log,
        jobs,
        first,
        parts,
        data_digest(jobs)[:16],
        has_requests,
        away,
        left_out=left_out,
        nodes=nodes,
    )


def _window(text: str | None, rows: int) -> tuple[int, int]:
    if text is None:
        return 0, rows
    found = re.fullmatch(r"(\d*\.?\d*):(\d*\.?\d*)", text)
    try:
        begin, end = (float(found[1] or 0), float(found[2] or 1)) if found else (1.0, 0.0)
    except ValueError:
        begin, end = 1.0, 0.0
    first, last = round(begin * rows), round(end * rows)
    if not (0 <= begin < end <= 1 and first < last):
        raise BadRequest(
            f"--window {text!r}: write START:END, shares of the log's jobs that rise within "
            "0 and 1, as in 0.3:0.6"
        )
    return first, last


def _sequences(path: Path, fits: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Parts of a log as the file names them, counted in the rows that fit the machine."""
    rows, before = len(fits), np.append(0, np.cumsum(fits))
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise BadRequest(f"{path}: cannot be read; name a text file of first rows") from None
    found = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        whole = all(map(is_whole, words)) and len(words) <= 2
        first, jobs = (*map(int, words), SEQUENCE_JOBS)[:2] if whole else (0, 0)
        if jobs < 1 or first + jobs > rows:
            raise BadRequest(
                f"{path}, line {number}: {line.strip()!r}: write a first row from 0 and, after "
                f"a space, a number of jobs ({SEQUENCE_JOBS}); the log has {rows} rows"
            )
        kept = int(before[first + jobs] - before[first])
        if not kept:
            raise BadRequest(f"{path}, line {number}: no job of it fits the machine; raise --procs")
        found.append((int(before[first]), kept))
    if not found:
        raise BadRequest(f"{path}: holds no first row; write one a line")
    return tuple(found)


def _log_of(jobs: pd.DataFrame, source: str, procs: int) -> ReplayLog:
    run, submit = (jobs[c].to_numpy(np.float64) for c in ("run_s", "submit_s"))
    names = jobs["user"].where(jobs["user"] != "", jobs["queue"])
    return ReplayLog(
        source,
        procs,
        np.floor(submit).astype(np.int64),
        np.ceil(np.nan_to_num(run)).astype(np.int64),
        _widths(jobs).astype(np.int64),
        known_requests(jobs),
        pd.factorize(names)[0].astype(np.int64),
    )


def _widths(jobs: pd.DataFrame) -> Floats:
    """Whole processors (GPUs where no processors are given) of each job, at least 1."""
    width = jobs["cpus"].where(jobs["cpus"] > 0, jobs["gpus"]).to_numpy(np.float64)
    return np.where(width > 0, np.ceil(width), 1.0)


# -- the grid --------------------------------------------------------------------------------


def backtest(
    test: Backtest,
    cells: Sequence[Cell],
    *,
    jitters: int = 0,
    jobs: int = 1,
    keep: Path | None = None,
    dask: str | None = None,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Replay every cell of a grid.

    Parameters
    ----------
    test : Backtest
    cells : sequence of Cell
        The first is what the others are compared with, pair by pair.
    jitters : int
        How often each cell is replayed again with every forecast moved by a percent.
    jobs : int
        Processes.
    keep : Path, optional
        Folder of finished cells: what stands there already is not replayed again.
    dask : str, optional
        Address of a Dask scheduler whose workers replay the cells.
    settings : dict, optional
        Of the model's ``ReplayForecaster``; not with `keep`, whose cells have its defaults.
    progress : callable, optional
        Called with how many cells of how many are done, and which was the last.

    Returns
    -------
    dict
        ``{"log", "source", "jobs", "procs", "workers", "left_out", "left_out_jobs", "digest",
        "failures", "drains", "cells"}``, JSON values; ``workers`` is None of one pool;
        ``left_out`` counts the jobs that the machine could never run, ``left_out_jobs`` names
        them.
        ``regret`` is the mean bounded slowdown above that of the same dispatcher with oracle
        estimates, where that is in the grid; ``against_first`` above the first cell's.
        Intervals are 95%, paired, over weeks (over sequences, where there are some); those of
        ``jitter`` over weeks and jitters.
    """
    found: dict[Cell, dict[str, Any]] = {}
    wanted = []
    for cell in cells:
        kept = _kept(test, cell, keep, jitters)
        if kept is None:
            wanted.append(cell)
        else:
            found[cell] = kept
    done = len(found)
    if progress is not None:
        progress(done, len(cells), "")
    for cell, result in _results(test, wanted, jitters, jobs, dask, settings):
        found[cell] = result
        if keep is not None:
            _keep(test, cell, result, keep, jitters)
        done += 1
        if progress is not None:
            progress(done, len(cells), f"{cell.dispatcher} {cell.estimate.name}")
    ordered = [found[cell] for cell in cells]
    _compare(test, ordered)
    reported = [{k: v for k, v in cell.items() if not k.startswith("_")} for cell in ordered]
    return {
        "log": test.name,
        "source": test.log.name,
        "jobs": len(test.log),
        "procs": test.log.procs,
        "workers": None if test.nodes is None else len(test.nodes.workers),
        "left_out": len(test.left_out),
        "left_out_jobs": list(test.left_out),
        "digest": test.digest,
        "failures": None if test.away.failures is None else list(test.away.failures),
        "drains": [list(drain) for drain in test.away.drains],
        "cells": reported,
    }


def _results(
    test: Backtest,
    cells: Sequence[Cell],
    jitters: int,
    jobs: int,
    dask: str | None,
    settings: dict[str, Any] | None,
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    groups = _groups(cells, jitters)
    if dask is not None:
        from distributed import Client

        try:
            client: Any = Client(dask, timeout=10)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise BadRequest(f"--dask {dask!r}: no scheduler answers ({error})") from None
        with client, joblib.parallel_config(backend="dask"):
            for found in joblib.Parallel()(
                joblib.delayed(_group)(test, group, jitters, settings) for group in groups
            ):
                yield from found
        return
    if jobs == 1 or len(groups) < 2:
        for group in groups:
            yield from _group(test, group, jitters, settings)
        return
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    for found in parallel(
        joblib.delayed(_group)(test, group, jitters, settings) for group in groups
    ):
        yield from found


def _groups(cells: Sequence[Cell], jitters: int) -> list[list[Cell]]:
    """Cells that share a record of forecasts, together; every other by itself."""
    found: dict[Any, list[Cell]] = {}
    for cell in cells:
        shares = cell.estimate.kind == "model" and (jitters > 0 or cell.estimate.transform)
        key = (cell.dispatcher, cell.estimate.level, cell.seed) if shares else cell
        found.setdefault(key, []).append(cell)
    return list(found.values())


def _group(
    test: Backtest, cells: Sequence[Cell], jitters: int, settings: dict[str, Any] | None
) -> list[tuple[Cell, dict[str, Any]]]:
    records: list[Record] | None = None
    if len(cells) > 1:
        records = record_of(test, cells[0], settings)
    return [
        (cell, run_cell(test, cell, settings, jitters=jitters, records=records)) for cell in cells
    ]


def _compare(test: Backtest, cells: Sequence[dict[str, Any]]) -> None:
    def pair(cell: dict[str, Any], other: dict[str, Any]) -> tuple[float, list[float]]:
        difference = cell["_slowdown"] - other["_slowdown"]
        if test.sequences:
            block = np.repeat(np.arange(len(test.sequences)), [k for _, k in test.sequences])
            interval = interval_over(difference, block)
        else:
            interval = weekly_interval(difference, test.log.submit_s)
        return float(difference.mean()), list(interval)

    def met(cell: dict[str, Any]) -> tuple[str, int]:
        # Only with failures of the same seed is the machine the same.
        return cell["dispatcher"], cell["seed"] if test.away.failures else 0

    oracles = {met(c): c for c in cells if c["estimates"] == "oracle" and c["sigma"] == 0}
    for cell in cells:
        if met(cell) in oracles:
            cell["regret"], cell["regret_ci"] = pair(cell, oracles[met(cell)])
        if cell is not cells[0]:
            cell["against_first"], cell["against_first_ci"] = pair(cell, cells[0])
            if cell["jitter"] is not None:
                cell["jitter"]["against_first"] = _over_jitters(test, cell, cells[0])


def _over_jitters(test: Backtest, cell: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """The difference of two cells' mean slowdowns, paired by jitter and week."""
    block = None
    if test.sequences:
        block = np.repeat(np.arange(len(test.sequences)), [k for _, k in test.sequences])
    difference = cell["_jittered"] - other["_jittered"]
    low, high = paired_interval(difference, test.log.submit_s, block)
    return {"mean": float(difference.mean()), "lo": low, "hi": high}


def source_of(module: str) -> Path:
    """The file that a module of ours is read from."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def code_of(model: bool, nodes: bool = False) -> str:
    """Digest of the sources that a cell's numbers come from.

    Parameters
    ----------
    model : bool
        Whether the cell forecasts: then the predictor's sources count too.
    nodes : bool
        Whether it is replayed on nodes.
    """
    names = [
        "plancast.pipelines.backtest.backtest",
        "plancast.pipelines.backtest.outages",
        "plancast.planner.worlds.replay",
    ]
    names += ["plancast.planner.worlds.metrics", "plancast.planner.worlds.replay_kernel"]
    if nodes:
        names += ["plancast.pipelines.backtest.nodes"]
        names += [
            f"plancast.planner.worlds.node_{part}" for part in ("replay", "kernel", "machine")
        ]
    if model:
        names.append("plancast.pipelines.backtest.replay_forecasts")
    paths = [source_of(name) for name in names]
    if model:
        paths += sorted(source_of("predictor").parent.rglob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _digest_of(nodes: NodeLog) -> str:
    """Of the workers, and of what jobs ask of them."""
    found = hashlib.sha256(nodes.kind.tobytes())
    for array in nodes.cluster:
        found.update(array.tobytes())
    return found.hexdigest()


def _file_of(test: Backtest, cell: Cell, keep: Path, jitters: int) -> Path:
    facts = {
        "format": FORMAT,
        "digest": test.digest,
        "procs": test.log.procs,
        "run": hashlib.sha256(test.log.run_s.tobytes()).hexdigest(),
        "before": test.before,
        "sequences": test.sequences,
        "cell": asdict(cell),
        "dispatcher": asdict(discipline(test, cell)),
        **({} if test.nodes is None else {"nodes": _digest_of(test.nodes)}),
        "jitters": jitters,
        "away": asdict(test.away),
        "code": code_of(cell.estimate.kind == "model", test.nodes is not None),
    }
    text = json.dumps(facts, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:20]
    return keep / f"{test.name}-{cell.dispatcher}-{cell.estimate.kind}-{name}.json"


def _kept(test: Backtest, cell: Cell, keep: Path | None, jitters: int = 0) -> dict[str, Any] | None:
    if keep is None:
        return None
    path = _file_of(test, cell, keep, jitters)
    try:
        result: dict[str, Any] = json.loads(path.read_text("utf-8"))
        kept = np.load(path.with_suffix(".npy"))
        result["_slowdown"], result["_jittered"] = kept[0], kept[1:]
    except (OSError, ValueError):
        return None
    whole = kept.shape == (1 + jitters, result["jobs"])
    return result if whole else None


def is_kept(test: Backtest, cell: Cell, keep: Path, jitters: int = 0) -> bool:
    """Whether a finished cell stands in a folder."""
    return _kept(test, cell, keep, jitters) is not None


def _keep(test: Backtest, cell: Cell, result: dict[str, Any], keep: Path, jitters: int) -> None:
    path = _file_of(test, cell, keep, jitters)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    np.save(part, np.vstack([result["_slowdown"], result["_jittered"]]))
    part.replace(path.with_suffix(".npy"))
    # Last of all: a cell counts as done when its facts stand.
    found = {k: v for k, v in result.items() if not k.startswith("_")}
    write_text_atomic(path, json.dumps(found, indent=1) + "\n")
