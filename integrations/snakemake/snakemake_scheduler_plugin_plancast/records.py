"""Run times of rules: from this run, from benchmark files, and from earlier runs."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW = 50
"""Runs of a rule that its mean remembers: a later one counts at least 1 / WINDOW."""

AT_FIRST = 20
"""Benchmark files of a rule that are read when its jobs are first seen."""

FACTS = ("runs", "mean_s", "rss_mib", "mean_size", "size_s", "size_size")
"""What is kept of a rule: its runs, their mean seconds, the largest memory (MiB), the mean bytes of
inputs, and the covariance of bytes and seconds and the variance of bytes."""

LINE_RUNS = 4
"""Runs of a rule before its run time is taken to depend on the size of its inputs."""

NO_JSON = (ValueError, OverflowError, RecursionError)
"""What a text raises that is no JSON, nests too deep or has an integer beyond every float."""

CHANGE = 0.05
"""A mean that moved by less leaves ranks as they are: new ranks cost time at 100,000 jobs."""


class Records:
    """Mean run time, and largest memory, of each rule.

    Parameters
    ----------
    path : Path, optional
        File that they are kept in; nothing is kept without.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rules: dict[str, dict[str, float]] = {}
        self._shown: dict[str, float] = {}
        self._changed = False
        if path is not None:
            # A damaged file teaches nothing; it is written anew.
            with contextlib.suppress(OSError, AttributeError, KeyError, TypeError, *NO_JSON):
                self._take(json.loads(path.read_text(encoding="utf-8"))["rules"])

    def _take(self, content: dict[str, dict[str, float]]) -> None:
        for name, facts in content.items():
            found = {key: float(facts.get(key, 0.0)) for key in FACTS}
            sound = all(math.isfinite(value) for value in found.values())
            if sound and found["runs"] > 0 and found["mean_s"] >= 0:
                self.rules[str(name)] = found

    def wants(self, rule: str) -> bool:
        """Whether benchmark files of earlier runs would still teach something."""
        return self.rules.get(rule, {"runs": 0.0})["runs"] < AT_FIRST

    def learn(self, rule: str, seconds: float, rss_mib: float = 0.0, size: float = 0.0) -> None:
        """A job of a rule with inputs of so many bytes took so long."""
        if not 0 <= seconds < math.inf:
            return
        facts = self.rules.setdefault(rule, dict.fromkeys(FACTS, 0.0))
        facts["runs"] += 1
        weight = 1.0 / min(facts["runs"], WINDOW)
        off_s, off_x = seconds - facts["mean_s"], size - facts["mean_size"]
        facts["mean_s"] += weight * off_s
        facts["mean_size"] += weight * off_x
        for name, product in (("size_s", off_x * off_s), ("size_size", off_x * off_x)):
            facts[name] = (1.0 - weight) * (facts[name] + weight * product)
        facts["rss_mib"] = max(facts["rss_mib"], rss_mib)
        self._changed = True

    def seconds_of(self, rules: Sequence[str]) -> Floats:
        """The run time to expect of each rule, shape (rules,); of an unknown one the mean."""
        for rule in rules:
            facts = self.rules.get(rule)
            if facts is None:
                continue
            shown, mean = self._shown.get(rule), facts["mean_s"]
            if shown is None or abs(mean - shown) > CHANGE * shown:
                self._shown[rule] = mean
        known = [self._shown[rule] for rule in rules if rule in self._shown]
        usual = float(np.mean(known)) if known else 1.0
        # Above 0, so that a chain of more jobs is the longer one.
        return np.array([max(self._shown.get(rule, usual), 1e-3) for rule in rules])

    def slopes_of(self, rules: Sequence[str]) -> tuple[Floats, Floats]:
        """Seconds a byte of input of each rule, and the mean bytes, shape (rules,) each."""
        slopes, means = np.zeros(len(rules)), np.zeros(len(rules))
        for place, rule in enumerate(rules):
            facts = self.rules.get(rule)
            if facts is not None and facts["runs"] >= LINE_RUNS and facts["size_size"] > 0:
                slopes[place] = max(facts["size_s"] / facts["size_size"], 0.0)
                means[place] = facts["mean_size"]
        return slopes, means

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None or not self._changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            text = json.dumps({"rules": self.rules}, indent=1, sort_keys=True)
            unfinished.write_text(text + "\n", encoding="utf-8")
            os.replace(unfinished, self.path)
            self._changed = False
        finally:
            unfinished.unlink(missing_ok=True)


def benchmark_of(job: Any) -> tuple[float, float, float] | None:
    """When a job's benchmark file was written, its mean seconds and largest MiB; None: no file."""
    name = getattr(job, "benchmark", None)
    if not name:
        return None
    path = Path(str(name))
    try:
        written = path.stat().st_mtime
        rows = _rows(path)
    except (OSError, *NO_JSON):
        return None
    seconds = [_number(row.get("s")) for row in rows]
    known = [value for value in seconds if value >= 0]
    if not known:
        return None
    peak = max((_number(row.get("max_rss")) for row in rows), default=0.0)
    return written, sum(known) / len(known), max(peak, 0.0)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Repetitions in a benchmark file: rows with tabs or, of a ``.jsonl``, an object a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".jsonl":
        found = [json.loads(line) for line in lines]
        return [row for row in found if isinstance(row, dict)]
    cells = [line.split("\t") for line in lines]
    return [dict(zip(cells[0], row, strict=False)) for row in cells[1:]]


def _number(cell: object) -> float:
    """A cell as a number; -1 where it is none."""
    try:
        found = float(cell) if isinstance(cell, int | float | str) else -1.0
    except (ValueError, OverflowError):
        return -1.0
    return found if math.isfinite(found) else -1.0
