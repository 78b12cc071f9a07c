"""Words for people: how many of what there are, and how much of what they wrote is repeated."""

from __future__ import annotations

MOST_SHOWN = 100
"""Characters of a user's text that a sentence repeats."""


def counted(n: float, noun: str, many: str = "") -> str:
    """A number of things: ``1 task``, ``1,200 tasks``.

    Parameters
    ----------
    n : int or whole float
    noun : str
        Of one thing; words may stand before it.
    many : str
        Of several, where that is not the noun with an s.
    """
    return f"{n:,.0f} {noun if n == 1 else many or noun + 's'}"


def shorten(text: str) -> str:
    """A text of the user's as it stands in a sentence."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
