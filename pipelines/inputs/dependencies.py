"""What ``after`` may say beside a task's id: lists with commas, and Slurm's ``--dependency``.

``1_1,1_2`` and ``afterok:1_1:1_2`` are tasks that must have completed, ``afterany:2`` one that must
have ended, ``after:3+10m`` one that must have started ten minutes ago; ``afterok:1`` of an array
means all of its tasks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping

from plancast.planner.model.domain import Dependency, DependencyKind
from plancast.predictor import units

_KIND = re.compile(r"(after\w*|singleton|expand)([+-][^:]*)?(?::(.*))?")
_PLANNED = "write afterok, afterany, after or afternotok and a task's id"
MINUTE_S = 60


class BadDependency(ValueError):
    """What is wrong with one; the table adds file and row."""


def predecessors(
    words: tuple[str, ...], known: Collection[str], arrays: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], tuple[Dependency, ...]]:
    """What `words` stand for: ``Task.after`` and ``Task.depends``, each predecessor once.

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
        return words, ()
    found: dict[str, Dependency] = {}
    for word in words:
        for named in _dependencies_of(word, known):
            for one in (named.task,) if named.task in known else arrays.get(named.task, ()):
                on = Dependency(one, named.kind, named.lag_s)
                if found.setdefault(one, on) != on:
                    raise BadDependency(f"follows {one} in two ways; leave one")
            if named.task not in known and named.task not in arrays:
                raise BadDependency(f"follows {named.task!r}, which is no task; correct it")
    plain = [on for on in found.values() if on == Dependency(on.task)]
    return tuple(on.task for on in plain), tuple(on for on in found.values() if on not in plain)


def arrays_of(known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Id of an array to the ids of its tasks: ``1`` to ``1_1, 1_2``."""
    found: dict[str, list[str]] = {}
    for name in sorted(known):
        head, line, index = name.rpartition("_")
        if line and index.isdigit():
            found.setdefault(head, []).append(name)
    return {head: tuple(names) for head, names in found.items()}


def _dependencies_of(word: str, known: Collection[str]) -> Iterator[Dependency]:
    if word in known:
        yield Dependency(word)
        return
    for part in filter(None, word.split(",")):
        match = _KIND.fullmatch(part)
        if part in known or match is None:
            if "?" in part and part not in known:
                raise BadDependency(
                    f"follows {part!r}: any one of several dependencies cannot be planned"
                )
            yield Dependency(part)
        elif match[1] not in tuple(DependencyKind) or not match[3]:
            raise BadDependency(f"follows {part!r}: {match[1]} cannot be planned; {_PLANNED}")
        else:
            for item in match[3].split(":"):
                name, lag = (item, "") if item in known else _split_lag(item)
                yield Dependency(name, DependencyKind(match[1]), _lag_s(part, match[2] or lag))


def _split_lag(item: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)([+-]\d[^+-]*)", item)
    return (match[1], match[2]) if match else (item, "")


def _lag_s(part: str, lag: str) -> int:
    """Seconds of ``+10m``; a bare number counts minutes, as Slurm does."""
    if not lag:
        return 0
    if lag.startswith("-"):
        raise BadDependency(f"follows {part!r}: a lag before an event cannot be planned; write +")
    text = lag[1:].strip()
    try:
        plain = units.plain_number(text)
        seconds = units.duration_s(text) if plain is None else plain * MINUTE_S
    except ValueError:
        raise BadDependency(f"follows {part!r}: {text!r} is no time like 10m") from None
    return math.ceil(seconds)
