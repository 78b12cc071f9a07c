"""Durations learned from a log, in the files of tools that ask for them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.inputs.yaml_files import yaml_text
from plancast.pipelines.stages.ingest import AS_IT_IS
from plancast.planner.model.domain import BadRequest
from plancast.predictor.schema import usable

Floats = NDArray[np.float64]

LATEST = 200
"""Ended tasks of a name that its duration is learned from."""

ENOUGH = 3
"""Ended tasks below which a name is left to the tool's own guess."""


def runs_by_name(path: str | Path, reading: Reading = AS_IT_IS) -> dict[str, pd.DataFrame]:
    """The latest completed tasks of each name (``app``) of a log.

    Raises
    ------
    BadRequest
        Where no task has a name.
    """
    jobs, _ = usable(reading.read(path))
    named = jobs[(jobs["app"] != "") & jobs["outcome"].isin(("completed", "unknown"))]
    if named.empty:
        raise BadRequest(f"{path}: names no applications; map the column that names a task to app")
    named = named.sort_values("end_s", kind="stable")
    return {str(name): rows.tail(LATEST) for name, rows in named.groupby("app", sort=True)}


def quantile_with(values: Floats, level: float) -> float:
    """The conformal quantile: the smallest value that a next one exceeds with 1 - level.

    With n values that is the one of rank ``ceil((n + 1) level)``; beyond the largest of them,
    half as much again.
    """
    ordered = np.sort(values)
    rank = math.ceil((len(ordered) + 1) * level)
    return float(ordered[rank - 1]) if rank <= len(ordered) else float(1.5 * ordered[-1])


def dask_durations(path: str | Path, reading: Reading = AS_IT_IS) -> str:
    """YAML for ``distributed.scheduler.default-task-durations``: mean seconds by key prefix.

    The mean and not the median: Dask adds durations up to a worker's occupancy.
    """
    found = {
        name: f"{max(float(rows['run_s'].mean()), 1e-3):.4g}s"
        for name, rows in runs_by_name(path, reading).items()
        if len(rows) >= ENOUGH
    }
    if not found:
        raise BadRequest(f"{path}: no task ran {ENOUGH} times; give a longer log")
    content = {"distributed": {"scheduler": {"default-task-durations": found}}}
    head = f"# Mean run times learned from {Path(path).name}; put it into ~/.config/dask/.\n"
    return head + yaml_text(content)


def nextflow_config(
    path: str | Path,
    reading: Reading = AS_IT_IS,
    *,
    levels: Sequence[float] = (0.9, 0.98),
    round_s: int = 60,
    round_mib: int = 256,
) -> str:
    """A Nextflow configuration: time, and memory where it was measured, for each process.

    Parameters
    ----------
    path : path-like
    reading : Reading
    levels : sequence of float
        Quantiles of the first attempts; each further attempt, of which there is one, has twice
        the last.
    round_s, round_mib : int
        Amounts are rounded up to multiples of these.
    """
    if not all(0 < level < 1 for level in levels) or list(levels) != sorted(set(levels)):
        raise BadRequest("--levels: must rise within (0, 1), as in .9,.98")
    lines = [
        f"// Times and memory learned from {_plain(Path(path).name)} by plancast; include it with",
        "// includeConfig 'plancast.config'. An attempt that was killed is retried with more.",
        "process {",
        "    errorStrategy = { task.exitStatus in [137, 140, 143, 247, 271] ? 'retry' : 'finish' }",
        f"    maxRetries = {len(levels)}",
    ]
    count = 0
    for name, rows in runs_by_name(path, reading).items():
        if len(rows) < ENOUGH:
            continue
        count += 1
        lines.append(f"    withName: {_groovy(name)} {{")
        times = _steps(rows["run_s"].to_numpy(np.float64), levels, round_s)
        lines.append(f"        time = {{ [{_list(times, 's')}][task.attempt - 1] }}")
        peak = rows["mem_peak_mib"].to_numpy(np.float64)
        peak = peak[peak > 0]
        if len(peak) >= ENOUGH:
            memory = _steps(peak, levels, round_mib)
            lines.append(f"        memory = {{ [{_list(memory, 'MB')}][task.attempt - 1] }}")
        lines.append("    }")
    if not count:
        raise BadRequest(f"{path}: no process ran {ENOUGH} times; give a longer trace")
    return "\n".join([*lines, "}", ""])


def _steps(values: Floats, levels: Sequence[float], multiple: int) -> list[int]:
    """Amounts of each attempt, rounded up, rising; the last is twice the one before."""
    steps = [quantile_with(values, level) for level in levels]
    whole = [max(1, math.ceil(step / multiple)) * multiple for step in steps]
    whole = np.maximum.accumulate(whole).tolist()
    return [*whole, 2 * whole[-1]]


def _list(amounts: Sequence[int], unit: str) -> str:
    return ", ".join(f"'{amount} {unit}'" for amount in amounts)


def _groovy(name: str) -> str:
    """A process name as a Groovy string without anything that Groovy would run.

    Nextflow takes selectors for regular expressions; of a name only word characters, ``:``,
    ``.``, ``-`` are kept as they are, others match any one character.
    """
    escaped = re.sub(r"[^\w:-]", ".", name)
    return f"'{escaped}'"


def _plain(text: Any) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text))
