"""Where a task may be, as the judge reads it: labels.

Plain Python that shares no arithmetic with ``labels`` and ``arrays``, which it judges.
"""

from __future__ import annotations

import re
from functools import lru_cache

from plancast.planner.model.domain import Task, Worker


def meets_labels(task: Task, worker: Worker) -> bool:
    """Whether a worker's labels satisfy every expression of ``task.requires``."""
    return all(_has_labels(text, worker.labels) for text in task.requires)


@lru_cache(maxsize=1 << 16)
def _has_labels(text: str, labels: frozenset[str]) -> bool:
    """Whether labels satisfy an expression that is well formed (``Task`` makes sure of it).

    Notes
    -----
    Each label becomes 1 or 0, and parentheses are worked out from the innermost outwards.
    """
    text = re.sub(r"[^\s&|!(),\[\]{}*]+", lambda name: str(int(name[0] in labels)), text)
    text = text.replace(",", "&").replace("[", "(").replace("]", ")")
    text = re.sub(r"\s*([&|])\s*|([!(])\s+|\s+(?=\))", r"\1\2", text)
    while "(" in text:
        text = re.sub(r"\(([^()]*)\)", lambda inner: str(int(_all_hold(inner[1]))), text)
    return _all_hold(text)


def _all_hold(digits: str) -> bool:
    """The value of 0 and 1 with ``! & |`` and, binding weakest, white space for "and"."""
    for pair, becomes in (("!!", ""), ("!0", "1"), ("!1", "0")):
        digits = digits.replace(pair, becomes)
    return all(any("0" not in both for both in word.split("|")) for word in digits.split())
