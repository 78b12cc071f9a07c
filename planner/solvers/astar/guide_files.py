"""Guides of every kind, read from their files."""

from __future__ import annotations

import json

from plancast.planner.solvers.astar.guides import LearnedGuide, guide_from_text
from plancast.planner.solvers.greedy.passes import FORMAT as ORDERS_FORMAT
from plancast.planner.solvers.greedy.passes import OrderGuide, orders_from_text


def guide_of_any_kind(text: str | bytes, source: str) -> LearnedGuide | OrderGuide:
    """The guide that a file holds: of a search, or of list schedules.

    Parameters
    ----------
    text : str or bytes
    source : str
        The file, for messages.

    Raises
    ------
    BadRequest
        One sentence with the file and what is wrong with it.
    """
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    form = whole.get("format") if isinstance(whole, dict) else None
    if form == ORDERS_FORMAT:
        return orders_from_text(text, source)
    return guide_from_text(text, source)
