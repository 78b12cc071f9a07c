"""When parts of a replayed machine are away: failures by seed, and drains from a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.replay import Outages, ReplayLog, joined_outages, seeded_outages

DAY_S, HOUR_S = 86400.0, 3600.0


@dataclass(frozen=True)
class Away:
    """What takes processors of the machine away.

    Parameters
    ----------
    failures : tuple of (days, hours, share), optional
        Mean days between failures, mean hours until repair, share of the processors.
    drains : tuple of (begin, seconds, processors)
        Begin in seconds after the first replayed submission; in order, one after the other.
    """

    failures: tuple[float, float, float] | None = None
    drains: tuple[tuple[int, int, int], ...] = ()

    def outages(self, log: ReplayLog, seed: int) -> Outages | None:
        """On one log; failures that would meet a drain do not happen."""
        if self.failures is None and not self.drains:
            return None
        begin, lasts, procs = np.array(self.drains, np.int64).reshape(-1, 3).T
        for k in np.flatnonzero(procs > log.procs).tolist():
            raise BadRequest(
                f"--drains: drain {k + 1} takes {procs[k]} processors; the machine has {log.procs}"
            )
        kills = np.zeros(len(begin), np.bool_)
        drains = Outages(begin + int(log.submit_s[0]), lasts, procs, kills)
        if self.failures is None:
            return drains
        days, hours, share = self.failures
        return joined_outages(
            drains, seeded_outages(log, days * DAY_S, hours * HOUR_S, share, seed)
        )


UP = Away()
"""A machine that is never away."""


def parse_failures(text: str) -> tuple[float, float, float]:
    """``DAYS:HOURS:SHARE`` as numbers.

    Raises
    ------
    BadRequest
        Where it is not three numbers above 0, the last of them at most 1.
    """
    words = text.split(":")
    if len(words) == 3 and all(re.fullmatch(r"\d+(\.\d+)?|\.\d+", word) for word in words):
        days, hours, share = map(float, words)
        if days > 0 and hours > 0 and 0 < share <= 1:
            return days, hours, share
    raise BadRequest(
        f"--failures {text!r}: write DAYS:HOURS:SHARE, mean days between failures, mean hours "
        "until repair, and the share of the processors, as in 7:4:0.1"
    )


def read_drains(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Drains of a text file, a line each: begin, seconds, processors.

    Raises
    ------
    BadRequest
        Where the file cannot be read, or a line is no such three numbers, or begins before the
        drain above it has ended.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BadRequest(f"{path}: cannot be read; name a text file of drains") from None
    found: list[tuple[int, int, int]] = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        whole = len(words) == 3 and all(re.fullmatch(r"[0-9]{1,15}", word) for word in words)
        begin, lasts, procs = map(int, words) if whole else (0, 0, 0)
        if lasts < 1 or procs < 1:
            raise BadRequest(
                f"{path}, line {number}: {line.strip()!r}: write begin in seconds after the first "
                "job, seconds, and processors, as in 86400 3600 32"
            )
        if found and begin <= found[-1][0] + found[-1][1]:
            raise BadRequest(
                f"{path}, line {number}: begins before the drain above it is over; write them in "
                "order, one after the other"
            )
        found.append((begin, lasts, procs))
    if not found:
        raise BadRequest(f"{path}: holds no drain; write one a line")
    return tuple(found)
