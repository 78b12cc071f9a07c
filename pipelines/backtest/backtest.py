"""Backtest: a grid of logs, dispatchers, estimates and seeds, replayed, judged and kept."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.backtest.outages import UP, Away
from plancast.pipelines.backtest.replay_forecasts import ReplayForecaster
from plancast.pipelines.inputs.config import name_of_log
from plancast.pipelines.inputs.files import write_text_atomic
from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.stages.ingest import AS_IT_IS, ingest_log
from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.metrics import interval_over, judge, weekly_interval
from plancast.planner.worlds.replay import Estimator, Replay, ReplayLog, bounded_slowdown, replay
from plancast.predictor.runtime import data_digest
from plancast.predictor.schema import usable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORMAT = 2
"""Version of a kept cell; cells of another one are replayed again."""

SEQUENCE_JOBS = 1024
NO_REQUEST_S = 7 * 86400
"""Kill limit where a log names no request at all."""

ESTIMATES = ("requested", "last_two", "model", "oracle")


@dataclass(frozen=True)
class Estimate:
    """Where a cell's estimates come from.

    Parameters
    ----------
    kind : str
        Of ``ESTIMATES``.
    level : float
        Quantile of a model's forecast that a backfilling reserves.
    sigma : float
        Log error of a noisy oracle.
    """

    kind: str
    level: float = 0.5
    sigma: float = 0.0

    @property
    def name(self) -> str:
        """As it is written on the command line."""
        if self.kind == "model" and self.level != 0.5:
            return f"model:{self.level:g}"
        return f"oracle:{self.sigma:g}" if self.sigma else self.kind


def parse_estimates(text: str) -> Estimate:
    """An estimate as written: ``requested``, ``last_two``, ``model[:LEVEL]``, ``oracle[:SIGMA]``.

    Raises
    ------
    BadRequest
        Where it is none of these.
    """
    kind, colon, number = text.partition(":")
    if kind in ESTIMATES and not colon:
        return Estimate(kind)
    if re.fullmatch(r"\d*\.?\d+", number):
        value = float(number)
        if kind == "model" and 0 < value < 1:
            return Estimate(kind, level=value)
        if kind == "oracle" and value <= 5:
            return Estimate(kind, sigma=value)
    raise BadRequest(
        f"--estimates {text!r}: write requested, last_two, model, model:LEVEL with a level in "
        "(0, 1), oracle or oracle:SIGMA with a log error of at most 5"
    )


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
    left_out : int
        Jobs wider than the machine, which it could never run.
    """

    name: str
    log: ReplayLog
    jobs: pd.DataFrame
    before: int
    sequences: tuple[tuple[int, int], ...]
    digest: str
    has_requests: bool
    away: Away = UP
    left_out: int = 0


def open_backtest(
    path: str | Path,
    *,
    reading: Reading = AS_IT_IS,
    cut_to_request: bool = False,
    procs: int | None = None,
    window: str | None = None,
    sequences: str | Path | None = None,
    away: Away = UP,
) -> Backtest:
    """Read a log for a backtest.

    Parameters
    ----------
    path : path-like
        In any form that ingest takes.
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

    Notes
    -----
    Jobs without a positive run time are left out, except in sequences, whose rows are counted
    in the log as it is. Jobs wider than the machine are left out and counted, in sequences too.
    An unknown request is the largest request seen so far in that queue, else overall.
    """
    jobs, facts = ingest_log(str(path), reading)
    source = jobs.attrs.get("source", Path(path).name)
    if sequences is None:
        jobs, _ = usable(jobs)
    size = int(procs or facts["machine_size"])
    fits = _widths(jobs) <= size
    if not fits.any():
        raise BadRequest(f"{source}: every job is wider than {size} processors; raise --procs")
    parts = () if sequences is None else _sequences(Path(sequences), fits)
    jobs = jobs[fits].reset_index(drop=True)
    first, last = _window(window, len(jobs))
    jobs = jobs.iloc[:last].reset_index(drop=True)
    log = _log_of(jobs, source, size)
    if cut_to_request:
        log = log.cut_to_request()
    log = log.part(slice(first, last))
    if parts and away != UP:
        raise BadRequest(
            "--sequences: parts are replayed on a whole machine; leave out --failures and --drains"
        )
    away.outages(log, 0)  # a drain that does not fit is told of before anything is replayed
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
        left_out=int((~fits).sum()),
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
        whole = all(word.isdigit() for word in words) and len(words) <= 2
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
    """Whole processors (GPUs where no processors are told) of each job, at least 1."""
    width = jobs["cpus"].where(jobs["cpus"] > 0, jobs["gpus"]).to_numpy(np.float64)
    return np.where(width > 0, np.ceil(width), 1.0)


def known_requests(jobs: pd.DataFrame) -> Ints:
    """Requested times, seconds; an unknown one is the largest seen so far, shape (n,)."""
    seen: dict[str, float] = {}
    result = np.empty(len(jobs), np.int64)
    pairs = zip(jobs["requested_s"].tolist(), jobs["queue"].tolist(), strict=True)
    for place, (request, queue) in enumerate(pairs):
        if request > 0:
            for name in (f"q {queue}", ""):
                seen[name] = max(seen.get(name, 0.0), request)
        else:
            request = seen.get(f"q {queue}", seen.get("", NO_REQUEST_S))
        result[place] = max(1, int(np.ceil(request)))
    return result


# -- cells -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One replay of the grid."""

    dispatcher: str
    estimate: Estimate
    seed: int = 0


def cells_of(
    dispatchers: Sequence[str],
    estimates: Sequence[Estimate],
    seeds: Sequence[int],
    *,
    failures: bool = False,
) -> list[Cell]:
    """The grid without repetitions.

    Seeds matter to noise and to `failures` alone, and some disciplines are defined with
    estimates of their own.
    """
    found: dict[Cell, None] = {}
    for name in dispatchers:
        if name not in DISPATCHERS:
            raise BadRequest(f"--dispatchers {name!r}: is none of {', '.join(DISPATCHERS)}")
        own = DISPATCHERS[name].estimates
        for estimate in [Estimate(own)] if own else estimates:
            for seed in seeds if estimate.sigma > 0 or failures else seeds[:1]:
                found[Cell(name, estimate, seed)] = None
    return list(found)


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


def run_cell(test: Backtest, cell: Cell, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Replay one cell and judge it; ``_slowdown`` holds each job's, for paired comparison."""
    dispatcher = DISPATCHERS[cell.dispatcher]
    if cell.estimate.kind in ("requested", "last_two") and not test.has_requests:
        raise BadRequest(
            f"{test.log.name}: names no requested times, which --estimates "
            f"{cell.estimate.kind} wants; use model or oracle"
        )
    parts = [slice(a, a + k) for a, k in test.sequences] or [slice(0, len(test.log))]
    # Processor time: a busy machine favours nobody.
    began = time.process_time()
    replays = []
    for part in parts:
        told = estimates_for(test, cell, part, settings)
        log, level = test.log.part(part), cell.estimate.level
        away = test.away.outages(log, cell.seed)
        replays.append(replay(log, dispatcher, told, level=level, promises=True, outages=away))
    took = time.process_time() - began
    slowdown = np.concatenate([bounded_slowdown(r) for r in replays])
    block = np.repeat(np.arange(len(parts)), [len(r.start_s) for r in replays])
    whole = replays[0] if len(replays) == 1 else _joined(replays)
    interval = (
        interval_over(slowdown, block)
        if test.sequences
        else weekly_interval(slowdown, test.log.submit_s)
    )
    return {
        "log": test.name,
        "dispatcher": cell.dispatcher,
        "estimates": cell.estimate.kind,
        "level": cell.estimate.level if cell.estimate.kind == "model" else None,
        "sigma": cell.estimate.sigma,
        "seed": cell.seed,
        "settings_from": dispatcher.settings_from,
        "sequences": len(test.sequences),
        **judge(whole, cell.seed),
        "bsld_ci": list(interval),
        "regret": None,
        "regret_ci": None,
        "against_first": None,
        "against_first_ci": None,
        "replay_s": took,
        "_slowdown": slowdown,
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


# -- the grid --------------------------------------------------------------------------------


def backtest(
    test: Backtest,
    cells: Sequence[Cell],
    *,
    jobs: int = 1,
    keep: Path | None = None,
    dask: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Replay every cell of a grid.

    Parameters
    ----------
    test : Backtest
    cells : sequence of Cell
        The first is what the others are compared with, pair by pair.
    jobs : int
        Processes.
    keep : Path, optional
        Folder of finished cells: what stands there already is not replayed again.
    dask : str, optional
        Address of a Dask scheduler whose workers replay the cells.
    progress : callable, optional
        Told how many cells of how many are done, and which was the last.

    Returns
    -------
    dict
        ``{"log", "jobs", "procs", "left_out", "digest", "failures", "drains", "cells"}``, JSON
        values; ``left_out`` counts the jobs wider than the machine.
        ``regret`` is the mean bounded slowdown above that of the same dispatcher with oracle
        estimates, where that is in the grid; ``against_first`` above the first cell's.
        Intervals are 95 %, paired, over weeks (over sequences, where there are some).
    """
    found: dict[Cell, dict[str, Any]] = {}
    wanted = []
    for cell in cells:
        kept = _kept(test, cell, keep)
        if kept is None:
            wanted.append(cell)
        else:
            found[cell] = kept
    done = len(found)
    if progress is not None:
        progress(done, len(cells), "")
    for cell, result in _results(test, wanted, jobs, dask):
        found[cell] = result
        if keep is not None:
            _keep(test, cell, result, keep)
        done += 1
        if progress is not None:
            progress(done, len(cells), f"{cell.dispatcher} {cell.estimate.name}")
    ordered = [found[cell] for cell in cells]
    _compare(test, ordered)
    told = [{k: v for k, v in cell.items() if not k.startswith("_")} for cell in ordered]
    return {
        "log": test.name,
        "source": test.log.name,
        "jobs": len(test.log),
        "procs": test.log.procs,
        "left_out": test.left_out,
        "digest": test.digest,
        "failures": None if test.away.failures is None else list(test.away.failures),
        "drains": [list(drain) for drain in test.away.drains],
        "cells": told,
    }


def _results(
    test: Backtest, cells: Sequence[Cell], jobs: int, dask: str | None
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    if dask is not None:
        from distributed import Client

        try:
            client: Any = Client(dask, timeout=10)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise BadRequest(f"--dask {dask!r}: no scheduler answers ({error})") from None
        with client, joblib.parallel_config(backend="dask"):
            yield from joblib.Parallel()(joblib.delayed(_one)(test, cell) for cell in cells)
        return
    if jobs == 1 or len(cells) < 2:
        for cell in cells:
            yield _one(test, cell)
        return
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    yield from parallel(joblib.delayed(_one)(test, cell) for cell in cells)


def _one(test: Backtest, cell: Cell) -> tuple[Cell, dict[str, Any]]:
    return cell, run_cell(test, cell)


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


def source_of(module: str) -> Path:
    """The file that a module of ours is read from."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def code_of(model: bool) -> str:
    """Digest of the sources that a cell's numbers come from.

    Parameters
    ----------
    model : bool
        Whether the cell forecasts: then the predictor's sources count too.
    """
    names = [
        "plancast.pipelines.backtest.backtest",
        "plancast.pipelines.backtest.outages",
        "plancast.planner.worlds.replay",
    ]
    names += ["plancast.planner.worlds.metrics", "plancast.planner.worlds.replay_kernel"]
    if model:
        names.append("plancast.pipelines.backtest.replay_forecasts")
    paths = [source_of(name) for name in names]
    if model:
        paths += sorted(source_of("predictor").parent.rglob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _file_of(test: Backtest, cell: Cell, keep: Path) -> Path:
    facts = {
        "format": FORMAT,
        "digest": test.digest,
        "procs": test.log.procs,
        "run": hashlib.sha256(test.log.run_s.tobytes()).hexdigest(),
        "before": test.before,
        "sequences": test.sequences,
        "cell": asdict(cell),
        "dispatcher": asdict(DISPATCHERS[cell.dispatcher]),
        "away": asdict(test.away),
        "code": code_of(cell.estimate.kind == "model"),
    }
    text = json.dumps(facts, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:20]
    return keep / f"{test.name}-{cell.dispatcher}-{cell.estimate.kind}-{name}.json"


def _kept(test: Backtest, cell: Cell, keep: Path | None) -> dict[str, Any] | None:
    if keep is None:
        return None
    path = _file_of(test, cell, keep)
    try:
        result: dict[str, Any] = json.loads(path.read_text("utf-8"))
        result["_slowdown"] = np.load(path.with_suffix(".npy"))
    except (OSError, ValueError):
        return None
    return result if len(result["_slowdown"]) == result["jobs"] else None


def is_kept(test: Backtest, cell: Cell, keep: Path) -> bool:
    """Whether a finished cell stands in a folder."""
    return _kept(test, cell, keep) is not None


def _keep(test: Backtest, cell: Cell, result: dict[str, Any], keep: Path) -> None:
    path = _file_of(test, cell, keep)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    np.save(part, result["_slowdown"])
    part.replace(path.with_suffix(".npy"))
    # Last of all: a cell counts as done when its facts stand.
    told = {k: v for k, v in result.items() if not k.startswith("_")}
    write_text_atomic(path, json.dumps(told, indent=1) + "\n")
