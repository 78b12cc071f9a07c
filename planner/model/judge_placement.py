"""Where a task may be, as the judge reads it: labels, the shape of a gang, workers of its own.

Plain Python that shares no arithmetic with ``labels`` and ``arrays``, which it judges.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from plancast.planner.model.domain import Task, Worker
from plancast.planner.model.violations import Violation, ViolationKind

Stay = tuple[Task, str, int, int, bool]
"""A task on a worker from a start to an end, and whether it is planned (else it runs already)."""


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


def _choices(task: Task) -> list[str]:
    """What the brackets of a task's expressions offer, of which one holds for all its pieces."""
    for text in task.requires:
        inside = re.search(r"\[(.*)\]", text)
        if inside is None:
            continue
        found, depth = [""], 0
        for sign in inside[1]:
            depth += (sign == "(") - (sign == ")")
            if sign == "|" and depth == 0:
                found.append("")
            else:
                found[-1] += sign
        return found
    return []


def shape_violations(task: Task, workers: Sequence[Worker]) -> Iterator[Violation]:
    """What is wrong with how a gang's pieces lie together; `workers` has one for each piece."""
    pieces = Counter(worker.id for worker in workers)
    each, most = task.most_per_worker, task.most_workers
    for name, number in pieces.items():
        if each is not None and number > each:
            yield Violation(
                ViolationKind.GANG_CROWDED,
                f"task {task.id} has {number} pieces on worker {name}; at most {each} may be there",
                task.id,
                name,
            )
    if most is not None and len(pieces) > most:
        yield Violation(
            ViolationKind.GANG_SPREAD,
            f"task {task.id} is on {len(pieces)} workers; it may be on {most} at most",
            task.id,
        )
    choices = _choices(task) if task.shards > 1 else []
    if choices and not any(
        all(_has_labels(choice, worker.labels) for worker in workers) for choice in choices
    ):
        yield Violation(
            ViolationKind.GANG_APART,
            f"task {task.id} requires {' or '.join(choices)} for all its pieces together",
            task.id,
        )


def holds_gang(task: Task, room: Sequence[tuple[Worker, int]]) -> bool:
    """Whether workers that each have room for so many pieces can take all of a task together."""
    choices: list[str | None] = [*_choices(task)]
    for choice in choices or [None]:
        pieces = [
            number if task.most_per_worker is None else min(number, task.most_per_worker)
            for worker, number in room
            if choice is None or _has_labels(choice, worker.labels)
        ]
        if sum(sorted(pieces, reverse=True)[: task.most_workers]) >= task.shards:
            return True
    return False


def company_violations(stays: Collection[Stay]) -> Iterator[Violation]:
    """Tasks that start while another one is on their worker, where one of them is exclusive."""
    on: dict[str, list[Stay]] = defaultdict(list)
    for stay in stays:
        on[stay[1]].append(stay)
    for name, here in on.items():
        blamed: set[str] = set()
        for task, _, start_s, end_s, planned in here:
            if not planned or task.id in blamed:
                continue
            for other, _, other_start_s, other_end_s, _ in here:
                if (
                    other.id != task.id
                    and (task.exclusive or other.exclusive)
                    and start_s < other_end_s
                    and other_start_s < end_s
                ):
                    blamed.add(task.id)
                    alone = task if task.exclusive else other
                    yield Violation(
                        ViolationKind.NOT_ALONE,
                        f"task {task.id} is on worker {name} together with {other.id}, though "
                        f"{alone.id} is exclusive",
                        task.id,
                        name,
                    )
                    break
