"""Arrays of tasks: ``0-99:2%10`` makes many tasks of one, as Slurm's ``--array`` does."""

from __future__ import annotations

import re
from typing import Any

from plancast.planner.model.domain import BadRequest
from plancast.predictor.units import is_whole

MOST_TASKS = 100_000
_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def indices_of(text: str) -> tuple[list[int], int | None]:
    """The indices that an array's text stands for, and how many of its tasks may run at once.

    Raises
    ------
    BadRequest
        Where it is none, or stands for more than ``MOST_TASKS``.
    """
    body, percent, most = text.replace(" ", "").partition("%")
    found: dict[int, None] = {}
    for part in body.split(","):
        match = _PART.fullmatch(part)
        if match is None or len(part) > 30:
            raise BadRequest(f"array {text!r}: write 0-99, 0-99:2 or 1,3,5, and %10 after it")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if step < 1 or last < first:
            raise BadRequest(f"array {text!r}: {part} counts nothing")
        if (last - first) // step + len(found) >= MOST_TASKS:
            raise BadRequest(f"array {text!r}: has more than {MOST_TASKS:,} tasks")
        found.update(dict.fromkeys(range(first, last + 1, step)))
    if percent and (not is_whole(most) or int(most) < 1):
        raise BadRequest(f"array {text!r}: after % stands how many tasks may run at once")
    return list(found), int(most) if percent else None


def expanded(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Each row once for each index, which is appended to its id: ``sweep_7``."""
    indices, most = indices_of(text)
    if len(rows) * len(indices) > MOST_TASKS:
        raise BadRequest(f"array {text!r}: makes more than {MOST_TASKS:,} tasks")
    limit = {} if most is None else {"array_limit": most}
    return [{**row, **limit, "id": f"{row['id']}_{index}"} for row in rows for index in indices]
