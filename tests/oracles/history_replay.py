"""The slow twin of state.history: every answer from scratch, in plain Python, for one job."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from plancast.predictor.schema import canonical
from plancast.predictor.state.commands import script_of, words_of
from plancast.predictor.state.history import History
from plancast.predictor.state.keys import LIKE, PLAIN, SPARE, Layout
from plancast.predictor.state.names import name_of

BAD = ("failed", "timeout", "cancelled")


def jobs_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The jobs of a log, each once: of rows that are one job the first with an end."""
    same: dict[Any, list[dict[str, Any]]] = {}
    for i, row in enumerate(rows):
        key = identity(row) if row["job_id"] != "" else i
        same.setdefault(key, []).append({**row, "place": i})
    return [
        next((r for r in group if r["end_s"] == r["end_s"]), group[0]) for group in same.values()
    ]


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two rows one job."""
    return row["job_id"], row["submit_s"], row["user"]


def answer_slowly(
    rows: list[dict[str, Any]],
    query: dict[str, Any],
    as_of_s: float,
    window: int = 20,
    decay: float = 0.3,
    layout: Layout = PLAIN,
) -> list[float]:
    """What was known about one row of a log at `as_of_s`, in the order of ``history_names``."""
    jobs = [j | compared(j) for j in jobs_of(rows)]
    query = query | compared(query)
    ended = sorted(
        (j for j in jobs if j["end_s"] <= as_of_s and j["run_s"] > 0),
        key=lambda j: (j["end_s"], j["place"]),
    )
    answer: list[float] = []
    for kind, parts in layout.kinds.items():
        wanted = [comparable(part, query[part]) for part in parts]
        needed = [comparable(part, query[part]) for part in LIKE.get(kind, parts)]
        known = all(value is not None for value in needed)
        mine = [
            j for j in ended if known and [comparable(part, j[part]) for part in parts] == wanted
        ]
        answer += statistics(mine, as_of_s, window, decay)
    return answer + activity(jobs, query, as_of_s)


def compared(job: dict[str, Any]) -> dict[str, str]:
    """What is compared of a job's texts, as texts."""
    folder, line = job["work_dir"], job["submit_line"]
    return {
        "name": name_of(job["app"]),
        "dir_digest": "/".join(words_of("work_dir", folder)),
        "line_digest": line,
        "command_digest": " ".join(words_of("submit_line", line)),
        "script_digest": script_of(line),
    }


def comparable(part: str, value: Any) -> Any:
    """A part of a key; None where it is unknown, so that unknown equals unknown."""
    return None if value == "" or value != value or (part in SPARE and value == 0) else value


def statistics(
    jobs: list[dict[str, Any]], as_of_s: float, window: int, decay: float
) -> list[float]:
    """The statistics of one key's ended jobs, in the order of STATS."""
    if not jobs:
        return [0.0] + [math.nan] * 10
    runs = [j["run_s"] for j in jobs]
    logs = [math.log(run) for run in runs]
    latest = sorted(logs[-window:])
    mean, variance = logs[0], 0.0
    for x in logs[1:]:
        step = x - mean
        mean = mean + decay * step
        variance = (1.0 - decay) * (variance + decay * (step * step))
    ratio = math.nan
    for job, x in zip(jobs, logs, strict=True):
        if job["requested_s"] > 0:
            value = x - math.log(job["requested_s"])
            ratio = value if math.isnan(ratio) else ratio + decay * (value - ratio)
    return [
        float(len(jobs)),
        math.log(runs[-1]),
        math.log((runs[-1] + runs[-2]) / 2.0) if len(runs) > 1 else math.log(runs[-1]),
        quantile(latest, 0.5),
        quantile(latest, 0.1),
        quantile(latest, 0.9),
        mean,
        math.sqrt(variance),
        as_of_s - jobs[-1]["end_s"],
        sum(j["outcome"] in BAD for j in jobs) / len(jobs),
        ratio,
    ]


def quantile(ordered: list[float], level: float) -> float:
    """Linear between order statistics."""
    position = level * (len(ordered) - 1)
    low = int(position)
    if low + 1 >= len(ordered):
        return ordered[-1]
    return ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])


def activity(jobs: list[dict[str, Any]], query: dict[str, Any], as_of_s: float) -> list[float]:
    """The user's other active jobs, and the time since the last submission before this one."""
    if query["user"] == "":
        return [math.nan, math.nan]
    mine = [
        j
        for j in jobs
        if j["user"] == query["user"]
        and (not math.isnan(j["end_s"]) or (j["outcome"] == "unknown" and j["job_id"] != ""))
    ]
    active = [
        j
        for j in mine
        if identity(j) != identity(query) and j["submit_s"] < as_of_s and not j["end_s"] <= as_of_s
    ]
    before = [j["submit_s"] for j in mine if j["submit_s"] < min(as_of_s, query["submit_s"])]
    return [float(len(active)), as_of_s - max(before) if before else math.nan]


def history_of(frame: pd.DataFrame, window: int = 20, decay: float = 0.3) -> History:
    """A history that has seen every row of a job log (any subset of the canonical columns)."""
    history = History(window, decay)
    history.see_log(canonical(frame))
    return history
