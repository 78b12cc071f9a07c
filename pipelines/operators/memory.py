"""``plancast advise --memory``: how much memory to request, and what that would be worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plancast.pipelines.inputs.reading import Reading
from plancast.pipelines.operators.advise import Advice
from plancast.pipelines.stages.ingest import AS_IT_IS
from plancast.planner.model.domain import BadRequest
from plancast.predictor.memory import (
    LEVELS,
    TYPE,
    MemoryWaste,
    advise_memory,
    judged,
    waste_of,
)
from plancast.predictor.memory_baselines import METHODS, tuned
from plancast.predictor.rows import plausible
from plancast.predictor.schema import BadLog
from plancast.predictor.walk import walk_forward

Floats = NDArray[np.float64]

TRAINING = 0.3
"""Share of the log, at its start, on which the other methods are tuned; the rest is judged."""

MANY = 20_000
"""Tasks of a log beyond which methods that train models task by task are left out."""

SLOW = ("sizey",)
GROUP: tuple[str, ...] = (*TYPE, "cpus", "mem_mib")
"""Tasks of one row of the table."""


def advise_memory_of(
    path: str | Path,
    *,
    risk: float = 0.01,
    reading: Reading = AS_IT_IS,
    slow: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> Advice:
    """Advise memory for a log, and say what it would have been worth beside other methods.

    Parameters
    ----------
    path : path-like
        A log in any form that ingest takes, which names requested and measured memory.
    risk : float
        Promised share of the tasks with enough memory which may fail, in (0, 0.5].
    reading : Reading
    slow : bool, optional
        Whether methods that train task by task are compared too; by default on logs of at most
        `MANY` tasks.
    progress : callable, optional
        Called with what is being done.

    Raises
    ------
    BadRequest
        Where the risk is impossible, or the log lacks requested or measured memory.
    """
    if not 0 < risk <= 0.5:
        raise BadRequest(f"--risk {risk:g}: write a share above 0 and at most 0.5, as in 0.01")
    return advise_memory_of_jobs(
        reading.read(path), str(Path(path).name), risk=risk, slow=slow, progress=progress
    )


def advise_memory_of_jobs(
    log: pd.DataFrame,
    name: str,
    *,
    risk: float = 0.01,
    slow: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> Advice:
    """The same of a canonical log; `name` is how complaints and the report call it."""
    tell = progress or (lambda text: None)
    jobs, _, _ = plausible(log)
    _check(jobs, name)
    tell("forecasts")
    asked = _next_of_each_group(jobs)
    both = pd.concat([jobs, asked], ignore_index=True)
    try:
        walk = walk_forward(both, LEVELS, first=TRAINING, target="mem")
    except BadLog as error:
        raise BadRequest(f"{name}: {error}") from None
    tell("amounts")
    free = np.arange(len(both)) >= len(jobs)
    advice = advise_memory(both, walk.quantiles_s, walk.levels, risk, free=free)
    training, rows = judged(jobs), judged(jobs)
    first = int(np.ceil(TRAINING * len(jobs)))
    training[first:], rows[:first] = False, False
    if not rows.any():
        raise BadRequest(f"{name}: no task ended within its requested memory; nothing to judge")
    request = jobs["mem_mib"].to_numpy(np.float64)
    amounts = {"user": request, "advised": advice.amount_mib[: len(jobs)]}
    numbers = {"user": "", "advised": ""}
    compared = slow if slow is not None else len(jobs) <= MANY
    for method, family in METHODS.items():
        if compared or method not in SLOW:
            tell(method)
            numbers[method], amounts[method] = tuned(jobs, family, training, risk)
    found = {method: waste_of(jobs, amount, rows) for method, amount in amounts.items()}
    facts: dict[str, Any] = {
        "log": Path(name).name.split(".")[0],
        "source": name,
        "risk": risk,
        "tasks": len(jobs),
        "judged_tasks": int(rows.sum()),
        "lowered_share": float((amounts["advised"] < request)[rows].mean()),
        "memory": {
            method: {**asdict(waste), "tuned_to": numbers[method]}
            for method, waste in found.items()
        },
    }
    facts["best_baseline"] = _best(found, risk)
    facts["verdict"] = verdict(facts)
    return Advice(facts, _groups(jobs, rows, advice.amount_mib, advice.chance))


def _check(jobs: pd.DataFrame, name: str) -> None:
    for column, what in (("mem_mib", "requested memory"), ("mem_peak_mib", "measured memory")):
        if not (jobs[column] > 0).any():
            raise BadRequest(
                f"{name}: names no {what}; map its column to {column} (of sacct, export "
                f"{'ReqMem' if column == 'mem_mib' else 'MaxRSS and NTasks, with the steps'})"
            )


def _next_of_each_group(jobs: pd.DataFrame) -> pd.DataFrame:
    """A task of each group as it would be submitted when the log ends."""
    last = jobs[jobs["mem_mib"] > 0].drop_duplicates(list(GROUP), keep="last")
    moment = float(np.nanmax(jobs[["submit_s", "end_s"]].to_numpy(np.float64)))
    unknown = dict.fromkeys(("start_s", "end_s", "run_s", "mem_peak_mib"), np.nan)
    return last.assign(submit_s=moment, job_id="", outcome="unknown", **unknown)


def _best(found: dict[str, MemoryWaste], risk: float) -> str:
    """The method with the least waste among those that keep the risk, ours apart."""
    kept = {n: w for n, w in found.items() if n != "advised" and w.failures <= risk}
    return min(kept, key=lambda name: kept[name].waste_gib_h)


def verdict(facts: dict[str, Any]) -> str:
    """What the figures say, in a few sentences."""
    memory, best = facts["memory"], facts["best_baseline"]
    ours, user, other = (memory[name] for name in ("advised", "user", best))
    said = [
        f"Of {facts['judged_tasks']:,} tasks for which their request was enough, "
        f"{ours['failures']:.2%} would fail at the advised amounts (promised: at most "
        f"{100 * facts['risk']:g}%)"
        + ("." if ours["failures"] <= facts["risk"] else "; the promise is broken.")
    ]
    if not ours["waste_gib_h"] < 0.99 * user["waste_gib_h"]:
        return f"{said[0]} Nothing is to be won: requests waste as little."
    said.append(
        f"They waste {ours['waste_gib_h']:,.1f} GiB-hours where requests waste "
        f"{user['waste_gib_h']:,.1f}"
    )
    if best == "user":
        said[-1] += "; no other method wastes less and keeps the risk."
    else:
        said[-1] += f", and the best other method that keeps the risk {other['waste_gib_h']:,.1f}."
    return " ".join(said)


def _groups(
    jobs: pd.DataFrame, rows: NDArray[np.bool_], amount: Floats, chance: Floats
) -> pd.DataFrame:
    """Each group's amount from now on, and what amounts saved of it so far, most first."""
    request, peak, run = (
        jobs[name].to_numpy(np.float64) for name in ("mem_mib", "mem_peak_mib", "run_s")
    )
    past = amount[: len(jobs)]
    failed = peak > past
    saved = np.where(failed, -past, request - past) * run / 3600.0 / 1024.0
    facts = jobs[list(GROUP)].assign(
        tasks=1, failed=failed & rows, saved_gib_h=np.where(rows, saved, 0.0)
    )
    sums = facts.groupby(list(GROUP), sort=False, dropna=False).sum().reset_index()
    following = _next_of_each_group(jobs)[list(GROUP)]
    following = following.assign(advised_mib=amount[len(jobs) :], chance=chance[len(jobs) :])
    table = following.merge(sums, on=list(GROUP), how="inner")
    return table.sort_values("saved_gib_h", ascending=False, kind="stable", ignore_index=True)
