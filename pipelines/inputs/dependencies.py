"""What ``after`` may say beside a task's id: lists with commas, and Slurm's ``afterok``.

``1_1,1_2`` and ``afterok:1_1:1_2`` are the tasks of these ids, ``afterok:1`` of an array all of
its tasks. A task starts when all of them have completed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_KIND = re.compile(r"(after\w*|singleton|expand)(?::(.*))?")
_OK = "afterok"


class BadDependency(ValueError):
    """What is wrong with one; the table adds file and row."""


def predecessors(
    words: tuple[str, ...], known: Collection[str], arrays: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The ids that `words` stand for, each once.

    Parameters
    ----------
    words : tuple of str
        As written; one that is an id itself is that task, whatever it looks like.
    known : collection of str
        Ids of all tasks.
    arrays : mapping of str to tuple of str
        See `arrays_of`.

    Raises
    ------
    BadDependency
        Where a word names no task, or a kind of dependency that cannot be planned.
    """
    if all(word in known for word in words):
        return words
    found: dict[str, None] = {}
    for word in words:
        for name in _ids_of(word, known):
            for one in arrays.get(name, ()) if name not in known else (name,):
                found[one] = None
            if name not in known and name not in arrays:
                raise BadDependency(f"follows {name!r}, which is no task; correct it")
    return tuple(found)


def arrays_of(known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Id of an array to the ids of its tasks: ``1`` to ``1_1, 1_2``."""
    found: dict[str, list[str]] = {}
    for name in known:
        head, line, index = name.rpartition("_")
        if line and index.isdigit():
            found.setdefault(head, []).append(name)
    return {head: tuple(names) for head, names in found.items()}


def _ids_of(word: str, known: Collection[str]) -> list[str]:
    if word in known:
        return [word]
    ids: list[str] = []
    for part in filter(None, word.split(",")):
        match = _KIND.fullmatch(part)
        if part in known or match is None:
            if "?" in part and part not in known:
                raise BadDependency(
                    f"follows {part!r}: any one of several dependencies cannot be planned"
                )
            ids.append(part)
        elif match[1] == _OK and match[2]:
            ids += match[2].split(":")
        else:
            raise BadDependency(
                f"follows {part!r}: {match[1]} cannot be planned; write afterok:ID or the task's id"
            )
    return ids
