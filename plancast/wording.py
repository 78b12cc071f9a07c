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


def log_in_words(jobs: int, users: int, size: float, stated: bool) -> str:
    """What a log is of: ``1,200 jobs of 1 user on 64 processors``.

    Parameters
    ----------
    jobs, users : int
        No users: the log names none.
    size : float
        Processors of the machine.
    stated : bool
        Whether the log says so; else it is the least that can have run what ran.
    """
    who = counted(users, "user") if users else "unknown users"
    machine = counted(size, "processor")
    if not stated:
        machine = f"{machine} or more (the log does not say how many)"
    return f"{counted(jobs, 'job')} of {who} on {machine}"
