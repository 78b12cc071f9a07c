"""Work in a child process that is stopped when one item takes too long.

A compiled loop that never ends cannot be interrupted from inside the process.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overdue(AssertionError):
    """An item took longer than it may."""


def watched(
    work: Callable[[Item], Result], items: Iterable[Item], limit_s: float
) -> list[tuple[Item, Result]]:
    """What `work` makes of each item, in a child process.

    Parameters
    ----------
    work : callable
        What it returns and raises is pickled.
    items : iterable
    limit_s : float
        Most seconds for one item.

    Raises
    ------
    Overdue
        Naming the item. What `work` raises is raised here.
    """
    line = list(items)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(work, line, theirs), daemon=True)
    child.start()
    results = []
    try:
        for item in line:
            if not ours.poll(limit_s):
                raise Overdue(f"{item!r} took more than {limit_s:g} s")
            done, value = ours.recv()
            if not done:
                raise AssertionError(f"{item!r}: {value}") from value
            results.append((item, value))
    finally:
        child.kill()
        child.join()
    return results


def _serve(work: Callable[[Item], Result], line: list[Item], theirs: Connection) -> None:
    for item in line:
        try:
            theirs.send((True, work(item)))
        except Exception as error:  # whatever it is, the parent raises it
            theirs.send((False, error))
