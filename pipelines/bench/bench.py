"""Solvers and peers on published instances, side by side, judged by the evaluator.

Each solver has a process of its own, so that its peak memory is its own; one instance is
solved at a time. See ``bench_worker`` for what happens there.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean
from types import NoneType
from typing import Any, Protocol

import numpy as np

from plancast.pipelines.bench.peers import PEERS
from plancast.pipelines.bench.worker import serve
from plancast.pipelines.stages.stage import read_facts
from plancast.planner.instances.base import Instance, in_folder
from plancast.planner.instances.cluster import read_cluster
from plancast.planner.instances.dag import dag_set
from plancast.planner.instances.jobshop import flexible_set, jobshop_set
from plancast.planner.instances.multimode import multimode_set
from plancast.planner.instances.patterson import patterson_set
from plancast.planner.instances.psplib import psplib_set
from plancast.planner.instances.requests import request_set
from plancast.planner.model.domain import BadRequest
from plancast.planner.solvers import SOLVERS


class Instances(Protocol):
    """Instances by name, each read when it is asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        ...

    def read(self, name: str) -> Instance:
        """One instance."""
        ...

    def takes(self, file: Path) -> bool:
        """Whether a file at this path is, or would be, one of what is read."""
        ...


CLUSTER_FILES = ("*.json", "*.json.gz")


@dataclass(frozen=True)
class ClusterFiles:
    """The cluster-shaped batches of a folder, or one of them."""

    source: Path
    files: Mapping[str, Path]

    @property
    def names(self) -> tuple[str, ...]:
        """By size, then by seed."""
        return tuple(sorted(self.files, key=lambda n: [int(k) for k in re.findall(r"\d+", n)]))

    def read(self, name: str) -> Instance:
        """One file with its own references."""
        found = read_cluster(self.files[name])
        return Instance(
            name, found.request, found.best_known, found.lower_bound, found.reference_10s
        )

    def takes(self, file: Path) -> bool:
        """Whether a file at this path is, or would be, one of the batches."""
        return in_folder(self.source, CLUSTER_FILES, file)


def cluster_set(path: Path) -> ClusterFiles:
    """Files called ``cluster-TASKSxWORKERS-SEED.json``, plain or gzipped."""
    found = [path] if path.is_file() else sorted(path.iterdir())
    files = [f for f in found if f.is_file() and any(fnmatch(f.name, p) for p in CLUSTER_FILES)]
    if not files:
        raise BadRequest(f"{path}: holds no instance; its files should be *.json or *.json.gz")
    named: dict[str, Path] = {}
    for file in files:
        name = file.name.removesuffix(".gz").removesuffix(".json")
        named[file.name if name in named else name] = file
    return ClusterFiles(path, named)


KINDS: dict[str, Callable[[Path], Instances]] = {
    "rcpsp": psplib_set,
    "rg300": patterson_set,
    "mmrcpsp": multimode_set,
    "jsp": jobshop_set,
    "fjsp": flexible_set,
    "dag": dag_set,
    "cluster": cluster_set,
    "request": request_set,
}
"""Kind of instances to their reader."""
LONGEST_S = 100_000.0
"""Most seconds for an instance: the operating system waits no longer for an answer."""
GRACE_S = 30.0
"""How much longer than several limits a solver may be silent before it is given up."""

Row = dict[str, Any]
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run.

    Parameters
    ----------
    solvers : tuple of str
        ``auto``, names of ``SOLVERS``, names of ``PEERS``.
    limit_s : float
        For each instance and solver.
    sample : int, optional
        So many instances, drawn with `seed`; all without it. A smaller sample is part of a
        larger one.
    only : tuple of str
        Instances whose names match one of these patterns.
    seed, threads : int
        Also of the solvers.
    cpu_normalised : bool
        Limits count CPU seconds of the busiest thread.
    """

    solvers: tuple[str, ...]
    limit_s: float = 10.0
    sample: int | None = None
    only: tuple[str, ...] = ("*",)
    seed: int = 0
    threads: int = 2
    cpu_normalised: bool = False

    def __post_init__(self) -> None:
        known = ("auto", *SOLVERS, *PEERS)
        for name in self.solvers:
            if name not in known:
                raise BadRequest(f"--solvers: there is no {name!r}; choose from {', '.join(known)}")
        if not self.solvers or len(set(self.solvers)) < len(self.solvers):
            raise BadRequest("--solvers: name each solver once, as in auto,cpsat")
        if "pyjobshop" in self.solvers and find_spec("pyjobshop") is None:
            raise BadRequest("--solvers: pyjobshop needs pip install 'plancast[bench]'")
        if not 0 < self.limit_s <= LONGEST_S:
            raise BadRequest(
                f"--limit-s is {self.limit_s:g}; write more than 0 and {LONGEST_S:,.0f} at most"
            )
        if not 0 <= self.seed < 2**63:
            raise BadRequest(f"--seed is {self.seed}; it must lie in 0 to 2^63 - 1")
        if self.sample is not None and self.sample < 1:
            raise BadRequest(f"--sample is {self.sample}; it must be 1 or more")


def read_set(path: Path, kind: str) -> Instances:
    """The instances at a path; ``BadRequest`` for an unknown kind."""
    if kind not in KINDS:
        raise BadRequest(f"--kind: there is no {kind!r}; choose from {', '.join(KINDS)}")
    if not path.exists():
        raise BadRequest(f"{path}: there is no such file or folder")
    return KINDS[kind](path)


def drawn(names: Sequence[str], settings: Settings) -> list[str]:
    """The names that match, or a sample of them, in order."""
    matching = [name for name in names if any(fnmatch(name, p) for p in settings.only)]
    if not matching:
        raise BadRequest(
            f"no instance is called like {' or '.join(settings.only)}; one is {names[0]}"
        )
    if settings.sample is None or settings.sample >= len(matching):
        return matching
    rng = np.random.default_rng(settings.seed)
    chosen = set(rng.permutation(matching)[: settings.sample].tolist())
    return [name for name in matching if name in chosen]


def run_bench(
    instances: Instances,
    settings: Settings,
    *,
    kept: Mapping[tuple[str, str], Row] | None = None,
    tell: Tell | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Every asked solver on every drawn instance.

    Parameters
    ----------
    instances : Instances
    settings : Settings
    kept : mapping of (instance, solver) to row, optional
        Rows of an earlier run that need no second one.
    tell : callable, optional
        Called with (done, all, what comes next).
    save : callable, optional
        Given the report so far after each new row.
    goes_on : callable, optional
        Asked before each instance; the run ends where it says no.

    Returns
    -------
    dict
        ``settings``, ``rows`` and ``summary``.
    """
    names = drawn(instances.names, settings)
    kept = kept or {}
    total = len(names) * len(settings.solvers)
    # What cannot be read ends the run before hours are spent on the others.
    for name in names:
        if any((name, solver) not in kept for solver in settings.solvers):
            if tell is not None:
                tell(0, total, f"reads {name}")
            _read(instances, name)
    rows: list[Row] = []
    done = 0
    with _Processes(settings) as processes:
        for name in names:
            if not goes_on():
                break
            instance = None
            for solver in settings.solvers:
                row = kept.get((name, solver))
                if tell is not None:
                    tell(done, total, f"{name} {solver}")
                if row is None:
                    instance = instance or _read(instances, name)
                    row = processes.row(instance, solver)
                    rows.append(row)
                    if save is not None:
                        save(report(rows, settings))
                else:
                    rows.append(row)
                done += 1
    return report(rows, settings)


def _read(instances: Instances, name: str) -> Instance:
    try:
        return instances.read(name)
    except BadRequest as error:
        raise BadRequest(f"{error} (--only leaves it out)") from None


def report(rows: Sequence[Row], settings: Settings) -> dict[str, Any]:
    """What is written of a run."""
    return {"settings": asdict(settings), "rows": list(rows), "summary": summary(rows)}


def kept_rows(path: Path, settings: Settings) -> dict[tuple[str, str], Row]:
    """Rows of an earlier run under the same limits, by instance and solver; none without a file."""
    if not path.exists():
        return {}
    earlier = read_facts(path)
    alike = ("limit_s", "seed", "threads", "cpu_normalised")
    found = earlier.get("settings")
    if not isinstance(found, dict) or not isinstance(earlier.get("rows"), list):
        raise BadRequest(f"{path}: is no report of plancast bench; name another file")
    for name in alike:
        if found.get(name) != getattr(settings, name):
            raise BadRequest(
                f"{path}: was run with {name} {found.get(name)}, not {getattr(settings, name)}; "
                "name another file"
            )
    for number, row in enumerate(earlier["rows"], 1):
        odd = [k for k, kinds in _KINDS_OF.items() if not isinstance(_field(row, k), kinds)]
        if odd:
            raise BadRequest(f"{path}, row {number}: field {odd[0]} is damaged; name another file")
    return {(row["instance"], row["solver"]): row for row in earlier["rows"]}


_NUMBER = (int, float, NoneType)
_KINDS_OF: dict[str, tuple[type, ...]] = {
    "instance": (str,), "solver": (str,), "status": (str,), "proved": (bool,),
    "valid": (bool, NoneType), "objective": _NUMBER, "gap": _NUMBER, "first_s": _NUMBER,
    "wall_s": _NUMBER, "peak_mb": _NUMBER,
}  # fmt: skip
"""What is reckoned with of a row."""


def _field(row: Any, key: str) -> Any:
    """A field of a row; nothing of any row's kind where it is not there."""
    return row.get(key, row) if isinstance(row, dict) else row


def summary(rows: Sequence[Row]) -> dict[str, Row]:
    """Means of each solver over its rows; gaps over the rows that have one."""
    result: dict[str, Row] = {}
    for solver in dict.fromkeys(row["solver"] for row in rows):
        mine = [row for row in rows if row["solver"] == solver]
        suited = [row for row in mine if row["status"] != "not_suited"]

        def over(key: str, among: Sequence[Row] = suited) -> float | None:
            values = [row[key] for row in among if row[key] is not None]
            return mean(values) if values else None

        result[solver] = {
            "instances": len(mine),
            "answered": sum(row["objective"] is not None for row in mine),
            "invalid": sum(row["valid"] is False for row in mine),
            "mean_gap": over("gap"),
            "mean_cost": over("objective"),
            "proved_share": mean(row["proved"] for row in suited) if suited else None,
            "mean_first_s": over("first_s"),
            "mean_wall_s": over("wall_s"),
            "peak_mb": max((row["peak_mb"] or 0.0 for row in suited), default=None),
        }
    return result


class _Processes:
    """One process for each solver, started when it is needed, and again after it was ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._of: dict[str, tuple[Any, Connection]] = {}

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process, pipe in self._of.values():
            pipe.close()
            process.join(5)
            if process.is_alive():
                process.kill()

    def row(self, instance: Instance, solver: str) -> Row:
        """What a solver makes of an instance; silence and crashes are rows as well."""
        if solver not in self._of:
            self._start(solver)
        process, pipe = self._of[solver]
        pipe.send(instance)
        try:
            # The first answer comes after a trial run that compiles the kernels.
            if pipe.poll(3 * GRACE_S + 12 * self._settings.limit_s):
                answer: Row = pipe.recv()
                return answer
        except (EOFError, ConnectionResetError):
            pass
        process.kill()
        process.join()
        del self._of[solver]
        return {
            "instance": instance.name, "solver": solver, "objective": None, "lower_bound": None,
            "best_known": instance.best_known, "gap": None, "status": "no_answer",
            "proved": False, "valid": None, "terms": {}, "trace": [], "first_s": None,
            "wall_s": None, "peak_mb": None,
            **_reference(instance),
        }  # fmt: skip

    def _start(self, solver: str) -> None:
        mine, its = self._context.Pipe()
        settings = self._settings
        process = self._context.Process(
            target=serve,
            args=(its, solver, settings.limit_s, settings.threads, settings.seed,
                  settings.cpu_normalised),
            daemon=False,
        )  # fmt: skip
        process.start()
        its.close()
        self._of[solver] = (process, mine)


def _reference(instance: Instance) -> Row:
    return {} if instance.reference_10s is None else {"reference_10s": instance.reference_10s}
