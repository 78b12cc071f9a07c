"""Words for people: how many of what there are."""

from __future__ import annotations


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
